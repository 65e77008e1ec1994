"""A torch module read as a description: `from_torch(module)` is a Network of theory/.

The description is of this very module, at its own width n. A layer's variance is n_in times
that of a weight, so weights from N(0, 0.02^2) give Dense(variance=0.02**2 * n): at another
width the same initialiser gives another description. The variance of a weight is that of
the law which its class documents, once the weights are seen to fit it; else the measured
one, with a warning (see reading/laws.py). The description goes from the input's kernel on:
of a model with embeddings that is the kernel of their sum, `read(module).embedding.kernel`.

Heads stay as many as the module has. The limit kernel of Softmax("1/sqrt(d)") is that of many
wide heads, so a module is near its description if its heads are.

What is read: of torch.nn, Linear, LayerNorm, RMSNorm, entrywise activations, Embedding,
Sequential, MultiheadAttention, TransformerEncoderLayer and TransformerEncoder; of
transformers, GPT2Model, BertModel and LlamaModel. Anything else is refused, with the
submodule's name.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from asymptest.theory.errors import ArgumentError, UnsupportedError
from asymptest.theory.masks import as_mask
from asymptest.theory.network import Network
from asymptest.verify.reading.bert import bert
from asymptest.verify.reading.gpt2 import gpt2
from asymptest.verify.reading.llama import llama
from asymptest.verify.reading.parts import Reading, named, refuse
from asymptest.verify.reading.torch_modules import torch_reading

# By name, so that transformers is not loaded to read a module of torch.nn.
MODELS: dict[str, Callable[[Any], Reading]] = {
    "transformers.models.gpt2.modeling_gpt2.GPT2Model": gpt2,
    "transformers.models.bert.modeling_bert.BertModel": bert,
    "transformers.models.llama.modeling_llama.LlamaModel": llama,
}


def from_torch(module: nn.Module, mask: Any = None) -> Network:
    """Return the description of a module at its initialisation.

    Args:
        module: in evaluation mode, or without dropout.
        mask: what a module of torch.nn is called with, "full" if None; a model of
            transformers has its own.

    Raises:
        UnsupportedError: if a submodule is not read, has weights at no initialisation, or
            the weights of another, or drops out.
        ArgumentError: if a mask is given to a model that has its own.
        NotGaussianError, FeatureMeanError: if the layers' order has no derived limit.

    >>> from_torch(nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 64, bias=False)))
    LayerNorm(1e-05, True) >> Dense(0.3333333333333333)
    """
    return read(module, mask).network


def read(module: nn.Module, mask: Any = None) -> Reading:
    """Return the description with the names of its layers; as `from_torch`."""
    kind = type(module)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name.startswith("transformers.") and name not in MODELS:
        inner = type(getattr(module, "base_model", module)).__name__
        known = inner in {path.rsplit(".", 1)[1] for path in MODELS}
        hint = f"; read its base model, {kind.__name__}.base_model" if known else ""
        raise UnsupportedError(
            f"{kind.__name__} is not read; of transformers, GPT2Model, BertModel and "
            f"LlamaModel are{hint}"
        )
    refuse(module, _drops_out, "its dropout acts in training mode; call eval() before")
    _refuse_shared(module)
    if name not in MODELS:
        return torch_reading(module, as_mask("full" if mask is None else mask))
    if mask is not None:
        raise ArgumentError(
            f"{kind.__name__} makes its own mask, so mask must be None; got {mask!r}"
        )
    return MODELS[name](module)


def pretrained(source: str | Path) -> nn.Module:
    """Return a model of transformers from a folder or a hub name, in evaluation mode.

    Its weights are read from safetensors; nothing is unpickled.

    Raises:
        UnsupportedError: if transformers is not installed.
        OSError: as transformers raises, if there is no such model.
    """
    try:
        transformers = import_module("transformers")
    except ImportError as error:
        raise UnsupportedError(
            f"{source} is a model of transformers, which is not installed: "
            f"pip install 'asymptest[hf]'"
        ) from error
    return transformers.AutoModel.from_pretrained(source, use_safetensors=True).eval()


def _drops_out(part: Any) -> bool:
    if not part.training:
        return False
    rate = part.p if isinstance(part, nn.modules.dropout._DropoutNd) else None
    if isinstance(part, nn.MultiheadAttention):
        rate = part.dropout
    return bool(rate)


def _refuse_shared(module: nn.Module) -> None:
    """Raise UnsupportedError if two matrices are equal: a description's are independent."""
    seen: dict[Any, tuple[str, torch.Tensor]] = {}
    for name, weight in module.named_parameters(remove_duplicate=False):
        if weight.ndim < 2 or not bool((weight != 0).any()):
            continue
        key = (weight.shape, *weight.detach().flatten()[:8].tolist())
        other, known = seen.setdefault(key, (name, weight))
        if other != name and torch.equal(known, weight):
            raise UnsupportedError(
                f"{named(name)} equals {other}, and the weights of a description are "
                f"independent: initialise each by itself (nn.TransformerEncoder copies one "
                f"layer)"
            )
