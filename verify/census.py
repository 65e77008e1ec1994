"""Attention-head census: how many positions each head attends to, and of which kind it is.

A saturated head attends to the maximal scores only. Where one score is largest in each row
it attends to 1 position ("argmax"); where all visible scores are equal, to every visible
one ("mean"): (T + 1) / 2 on average under the causal mask, T without a mask.

Source: Merrill et al. (2021), arXiv 2010.09697, section 5 (histogram of heads).
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from asymptest.numerics.attention import mask_array
from asymptest.theory.errors import ArgumentError, ShapeError, UnsupportedError
from asymptest.theory.masks import Mask
from asymptest.verify.finite import FiniteNetwork, PatternModule
from asymptest.verify.modules import Inputs, call, float64_copy

ATTENDED = 1e-5  # a position counts if its weight is larger
# Cuts on (attended - 1) / (visible - 1), which is 0 for one position and 1 for all.
ARGMAX, MEAN = 0.05, 0.95

Kind = Literal["argmax", "mean", "mixed"]
Named = tuple[str, Tensor]


@dataclass(frozen=True)
class Head:
    """What one head attends to, averaged over rows and batch.

    Args:
        layer: the name of its submodule, "" for a bare matrix.
        head: its number in the layer.
        attended: mean number of positions with a weight above 1e-5.
        visible: mean number that the mask leaves visible, which a mean head attends to.
        hidden: mean number of attended positions that the mask should have hidden.
        kind: "argmax" if attended is within 5 % of the way from 1 to visible, "mean" from
            95 % on, else "mixed".
    """

    layer: str
    head: int
    attended: float
    visible: float
    hidden: float
    kind: Kind


def attended(
    A: Float[Tensor, "*stack T S"], threshold: float = ATTENDED
) -> Int64[Tensor, "*stack T"]:
    """Return how many positions each row attends to: those with a weight > threshold."""
    return torch.gt(A, threshold).sum(-1)


def classify(
    A: Float[Tensor, "*batch heads T T"], mask: Mask = "full", layer: str = ""
) -> tuple[Head, ...]:
    """Return the census of attention matrices, head by head.

    Args:
        A: attention matrices; their rows are probabilities.
        mask: the mask that the heads were meant to have.
        layer: what to call their layer.

    Raises:
        ArgumentError: if a row is no probability distribution, or T = 1, where argmax and
            mean are the same.
        ShapeError: if the mask is for another T.

    >>> A = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]])
    >>> [(head.attended, head.kind) for head in classify(A, "causal")]
    [(1.5, 'mean'), (1.0, 'argmax')]
    """
    T = A.shape[-1]
    if T < 2:
        raise ArgumentError(
            "a census needs T >= 2 positions; at T = 1 every head is argmax and mean"
        )
    # Written so that nan fails. float32 sums of T weights are off by less than 1e-5.
    rows = ((A.sum(-1) - 1).abs() <= ATTENDED) & (A >= 0).all(-1)
    if not bool(rows.all()):
        raise ArgumentError(
            f"{layer or 'A'} must have rows >= 0 that sum to 1; "
            f"{int((~rows).sum())} of {rows.numel()} rows do not"
        )
    seen = torch.tensor(mask_array(mask, T))
    visible = int(seen.sum()) / T
    if visible == 1:
        raise ArgumentError(
            "mask lets each position see one position only, so argmax and mean heads "
            "are the same; a census needs a wider mask"
        )
    stack = A.detach().reshape(-1, *A.shape[-3:])
    counts = attended(stack).double().mean((0, -1))
    beyond = attended(stack * ~seen).double().mean((0, -1))
    return tuple(
        Head(layer, k, count, visible, hidden, _kind((count - 1) / (visible - 1)))
        for k, (count, hidden) in enumerate(
            zip(counts.tolist(), beyond.tolist(), strict=True)
        )
    )


def _kind(share: float) -> Kind:
    if share <= ARGMAX:
        return "argmax"
    return "mean" if share >= MEAN else "mixed"


def census(module: nn.Module, inputs: Inputs, mask: Mask = "full") -> tuple[Head, ...]:
    """Return the census of all heads of a module on the given inputs, as `classify`.

    Args:
        module: it holds nn.MultiheadAttention, or is a finite network of this project, with
            one copy, or a model of transformers; `saturated(module)` of these as well.
        inputs: a tensor, a tuple of arguments or a mapping of named arguments.
        mask: the mask that the heads were meant to have; the module brings its own.
    """
    return tuple(
        head
        for layer, A in attention_of(module, inputs)
        for head in classify(A, mask, layer)
    )


def attention_of(module: nn.Module, inputs: Inputs) -> tuple[Named, ...]:
    """Return (layer, attention matrices (batch, heads, T, S)) in the order they are formed.

    The module runs as a copy in float64 and evaluation mode. A pattern that all heads of a
    finite network share is one head.

    Raises:
        ArgumentError: if a finite network has several copies: they are different networks.
        ShapeError: if attention is not from T positions to the same T.
        UnsupportedError: if no attention of these kinds runs.
    """
    copy = float64_copy(module)
    found: list[Named] = []

    def record(name: str, A: Tensor) -> None:
        if A.shape[-1] != A.shape[-2]:
            raise ShapeError(
                f"{name} attends from {A.shape[-2]} positions to {A.shape[-1]}; a census "
                f"needs self-attention, without added keys"
            )
        found.append((name, A.reshape(-1, *A.shape[-3:])))

    for name, part in copy.named_modules():
        if isinstance(part, FiniteNetwork) and part.copies > 1:
            raise ArgumentError(
                f"a census is of one network; this one holds {part.copies} copies: "
                f"build it by finite(network, width, copies=1)"
            )
        _read(part, name, record)
    call(copy, inputs)
    if not found:
        raise UnsupportedError(
            f"{type(module).__name__} runs no attention that a census knows: it reads "
            f"nn.MultiheadAttention, finite networks and models of transformers; pass the "
            f"matrices of others to classify()"
        )
    return tuple(found)


def _read(part: Any, name: str, record: Callable[[str, Tensor], None]) -> None:
    """Have a part hand its attention matrices, one a head, to `record` when it runs."""
    if isinstance(part, PatternModule):

        def keep(_: Any, __: Any, A: Tensor) -> None:
            record(name, A if A.ndim > 2 else A[None])  # heads may share a pattern

        part.register_forward_hook(keep)
    elif isinstance(part, nn.MultiheadAttention):
        part.register_forward_pre_hook(_ask_for_weights, with_kwargs=True)
        part.register_forward_hook(lambda _, __, output: record(name, output[1]))
    elif _is_transformers(part):
        part.set_attn_implementation("eager")
        part.config.output_attentions = True
        # A language model holds a base model, which is read in its place.
        if not any(_is_transformers(inner) for inner in part.children()):

            def read(_: Any, __: Any, output: Any) -> None:
                for k, A in enumerate(getattr(output, "attentions", None) or ()):
                    record(f"{name}.attentions.{k}".lstrip("."), A)

            part.register_forward_hook(read)


def _is_transformers(part: Any) -> bool:
    return hasattr(part, "set_attn_implementation") and hasattr(part, "config")


def _ask_for_weights(module: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Have nn.MultiheadAttention return its weights, head by head."""
    named = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    return (), {**named, "need_weights": True, "average_attn_weights": False}
