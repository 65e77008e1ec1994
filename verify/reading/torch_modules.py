"""Layers of torch.nn: what their documentation says they are drawn from, and compute."""

import math
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from asymptest.theory.errors import UnsupportedError
from asymptest.theory.masks import Mask
from asymptest.theory.network import (
    Attention,
    Chain,
    Dense,
    LayerNorm,
    Mlp,
    Network,
    Pointwise,
    Residual,
    RMSNorm,
)
from asymptest.theory.patterns import Softmax
from asymptest.verify.reading.activations import activation
from asymptest.verify.reading.laws import (
    ZEROS,
    dense,
    normal,
    uniform,
    variance_of,
    xavier_uniform,
)
from asymptest.verify.reading.parts import (
    Embedding,
    Part,
    Reading,
    is_exactly,
    named,
    norm,
    numbered,
    reading,
)

PASSED = (nn.Dropout, nn.Identity)  # dropout that acts is refused before
MASKED = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)


def torch_reading(module: nn.Module, mask: Mask) -> Reading:
    """Return the reading of a module of torch.nn; an nn.Embedding may come first.

    Raises:
        UnsupportedError: if a submodule is none that is read, or at no initialisation, or
            nothing passes the mask to the attention.
    """
    if mask != "full" and not isinstance(module, MASKED):
        raise UnsupportedError(
            f"{type(module).__name__} passes no mask to its layers, so mask must be 'full'; "
            f"read the attention in it by itself"
        )
    leaves = _leaves(module, "")
    embedding = None
    if leaves and is_exactly(leaves[0][1], nn.Embedding):
        embedding = _embedding(*leaves.pop(0))
    if not leaves:
        raise UnsupportedError(
            f"{type(module).__name__} holds no layer that changes a state: nothing to read"
        )
    width = features(*leaves[0])
    parts = [p for name, item in leaves for p in _parts(item, name, width, mask)]
    return reading(parts, width, leaves[0][0], embedding)


def _leaves(module: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    """Return the modules that run one after the other, by name, without what passes."""
    if is_exactly(module, nn.Sequential):
        inner = (_leaves(item, path) for path, item in numbered(name, module))
        return [leaf for leaves in inner for leaf in leaves]
    return [] if isinstance(module, PASSED) else [(name, module)]


def features(name: str, module: Any) -> int:
    """Return the width of a module's input.

    Raises:
        UnsupportedError: if it does not fix one.
    """
    match module:
        case nn.Linear():
            return module.in_features
        case nn.MultiheadAttention():
            return module.embed_dim
        case nn.TransformerEncoderLayer():
            return module.self_attn.embed_dim
        case nn.TransformerEncoder():
            return features(f"{name}.layers.0".lstrip("."), module.layers[0])
        case nn.LayerNorm() | nn.RMSNorm():
            return module.normalized_shape[-1]
        case _:
            raise UnsupportedError(
                f"{named(name)} is a {type(module).__name__}, which does not say the width "
                f"of its input: begin with nn.Embedding, nn.Linear, a norm or attention"
            )


def _parts(module: Any, name: str, width: int, mask: Mask) -> list[Part]:
    if is_exactly(module, nn.TransformerEncoder):
        layers = [
            Part(path, encoder_layer(layer, path, mask))
            for path, layer in numbered(f"{name}.layers", module.layers)
        ]
        if module.norm is not None:
            layers += _parts(module.norm, f"{name}.norm".lstrip("."), width, mask)
        return layers
    return [Part(name, _node(module, name, width, mask))]


def _node(module: Any, name: str, width: int, mask: Mask) -> Network:
    if is_exactly(module, nn.Linear):
        layer = linear(module, name)
        size = Fraction(module.out_features, width)
        return Dense(layer.variance, layer.bias_variance, expansion=size)
    if is_exactly(module, nn.LayerNorm):
        size = module.normalized_shape[-1]
        return norm(module, named(name), size, module.eps, LayerNorm)
    if is_exactly(module, nn.RMSNorm):
        eps = torch.finfo(torch.float32).eps if module.eps is None else module.eps
        return norm(module, named(name), module.normalized_shape[-1], eps, RMSNorm)
    if is_exactly(module, nn.MultiheadAttention):
        return attention(module, name, mask)
    if is_exactly(module, nn.TransformerEncoderLayer):
        return encoder_layer(module, name, mask)
    stateless = not any(True for _ in (*module.parameters(), *module.buffers()))
    if stateless and not any(True for _ in module.children()):
        return Pointwise(activation(module, named(name)))
    raise UnsupportedError(
        f"{named(name)} is a {type(module).__name__}, which is not read: describe it by "
        f"hand, or use Linear, LayerNorm, RMSNorm, an activation, MultiheadAttention, "
        f"TransformerEncoderLayer or TransformerEncoder of torch.nn, without subclasses"
    )


def linear(module: Any, name: str) -> Dense:
    """Return an nn.Linear, but for its expansion.

    Its class documents U(-b, b) with b = 1 / sqrt(in_features) for weight and bias, so the
    variance is 1/3, and that of the bias 1 / (3 in_features), which vanishes as it grows.
    nn.Transformer, and many a model, draw the weight from nn.init.xavier_uniform_ instead.
    """
    documented = uniform(1 / (3 * module.in_features))
    xavier = xavier_uniform(*module.weight.shape)
    weight = f"{name}.weight".lstrip(".")
    laws = documented, xavier
    return dense(module.weight, module.bias, weight, laws, (ZEROS, documented))


def attention(module: Any, name: str, mask: Mask) -> Attention:
    """Return an nn.MultiheadAttention: softmax with 1 / sqrt(d), its biases 0.

    The in-projection is drawn from nn.init.xavier_uniform_ as one matrix of shape (3 n, n),
    so that each third has the variance 1/2 (times n); the out-projection is an nn.Linear.

    Raises:
        UnsupportedError: if keys or values are not the queries' states, or some are added,
            or queries or keys have a bias.
    """
    if not module._qkv_same_embed_dim:
        raise UnsupportedError(
            f"{named(name)} has keys of {module.kdim} and values of {module.vdim} features "
            f"for queries of {module.embed_dim}; a description attends to one state"
        )
    if module.bias_k is not None or module.add_zero_attn:
        raise UnsupportedError(
            f"{named(name)} adds a key (add_bias_kv or add_zero_attn), and a description "
            f"attends to the positions alone"
        )
    n = module.embed_dim
    law = xavier_uniform(3 * n, n)
    weights = module.in_proj_weight.split(n)
    biases = 3 * [None]
    if module.in_proj_bias is not None:
        biases = module.in_proj_bias.split(n)
    where = f"{name}.in_proj_".lstrip(".")
    variances = [
        n * variance_of(weight, f"{where}weight ({part})", law)
        for weight, part in zip(weights[:2], ("query", "key"), strict=True)
    ]
    no_logit_bias(biases[:2], f"{where}bias")
    return Attention(
        Softmax("1/sqrt(d)", variance=math.prod(variances)),
        mask,
        module.num_heads,
        value=dense(weights[2], biases[2], f"{where}weight", (law,)),
        output=linear(module.out_proj, f"{name}.out_proj".lstrip(".")),
    )


def no_logit_bias(biases: Any, name: str) -> None:
    """Raise UnsupportedError if a query or key bias is not 0."""
    if any(bias is not None and bool((bias != 0).any()) for bias in biases):
        raise UnsupportedError(
            f"{name} shifts queries or keys, and the logits of a description have no "
            f"biases: set it to 0, where initialisers have it"
        )


def encoder_layer(module: Any, name: str, mask: Mask) -> Chain:
    """Return an nn.TransformerEncoderLayer, the norms before or after the sums."""
    if not is_exactly(module, nn.TransformerEncoderLayer):
        raise UnsupportedError(
            f"{named(name)} is a {type(module).__name__}, and only an "
            f"nn.TransformerEncoderLayer is read there"
        )
    path = f"{name}." if name else ""
    attend = attention(module.self_attn, f"{path}self_attn", mask)
    n = module.self_attn.embed_dim
    mlp = Mlp(
        activation(module.activation, f"{path}activation"),
        Fraction(module.linear1.out_features, n),
        linear(module.linear1, f"{path}linear1"),
        linear(module.linear2, f"{path}linear2"),
    )
    one, two = (
        norm(part, f"{path}{label}", n, part.eps, LayerNorm)
        for part, label in ((module.norm1, "norm1"), (module.norm2, "norm2"))
    )
    if module.norm_first:
        return Residual(one >> attend) >> Residual(two >> mlp)
    return Residual(attend) >> one >> Residual(mlp) >> two


def _embedding(name: str, module: Any) -> Embedding:
    """Return the law of an nn.Embedding, which documents N(0, 1)."""
    return Embedding(
        embedded(module, f"{name}.weight".lstrip("."), 1.0),
        module.num_embeddings,
        padding=module.padding_idx,
    )


def embedded(module: Any, name: str, deviation: float) -> float:
    """Return the variance of the entries of an nn.Embedding, the padding's row left out."""
    table = module.weight
    if (row := module.padding_idx) is not None:
        table = torch.cat([table[:row], table[row + 1 :]])
    return variance_of(table, name, normal(deviation))
