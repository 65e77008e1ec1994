"""Saturated attention in torch: equal weights on the maximal scores in place of softmax.

With M the set of positions at which the scores z are maximal,

    sat(z)_j = 1 / |M| for j in M, else 0,

the limit of softmax(c z) as c -> oo. `saturated(module)` puts it in the place of every
softmax that a module runs. It acts on torch's operators, below the layers, so it needs no
list of layers: nn.MultiheadAttention, scaled_dot_product_attention, this project's finite
networks and those of transformers all end in the same two operators.

Source: Merrill et al. (2021), arXiv 2010.09697, section 4.2. numerics/attention.py has the
same pattern in NumPy.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from asymptest.theory.errors import AccuracyError, ArgumentError, UnsupportedError
from asymptest.theory.patterns import TIE
from asymptest.verify.modules import as_float64, float64_copy, plain_kernels

SAFE = "aten::_safe_softmax"  # softmax, but 0 in a row that sees nothing
SOFTMAX = ("aten::_softmax", SAFE)
FUSED = ("attention", "attn", "encoder_layer_fwd")  # kernels with a softmax inside


def saturated_weights(scores: Float[Tensor, "*rows"], dim: int = -1) -> Tensor:
    """Return equal weights on the maximal scores along one axis.

    Args:
        scores: float64; -inf where a position is hidden, or the most negative number, which
            transformers uses.
        dim: the axis.

    Returns:
        1 / |M| where a score is within `TIE` (relative to the larger modulus of the two) of
        the largest, else 0; nan where a whole row is hidden, as in softmax.

    Raises:
        ArgumentError: if the scores are not float64, for which `TIE` is meant.
        AccuracyError: if a score is nan or +inf.

    >>> saturated_weights(torch.tensor([2.0, 1, 2, -torch.inf]).double())
    tensor([0.5000, 0.0000, 0.5000, 0.0000], dtype=torch.float64)
    """
    if scores.dtype != torch.float64:
        raise ArgumentError(
            f"scores must be float64, since ties are told apart at {TIE:g}; got "
            f"{scores.dtype}: let the module compute its softmax in float64"
        )
    if not bool((scores < torch.inf).all()):
        raise AccuracyError(
            "scores must be below infinity; some are nan or inf, so the largest is not "
            "known: use smaller weights or states"
        )
    # Half of the most negative number: a score may have been added to it.
    visible = scores > torch.finfo(scores.dtype).min / 2
    top = torch.where(visible, scores, -torch.inf).amax(dim, keepdim=True)
    size = torch.maximum(scores.abs(), top.abs())
    ties = (visible & (scores >= top - TIE * size)).to(scores.dtype)
    return ties / ties.sum(dim, keepdim=True)


class _Saturate(TorchDispatchMode):
    """While active, softmax is `saturated_weights`; what hides a softmax is refused."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = func.name()
        if name in SOFTMAX:
            scores, dim = args[:2]
            weights = saturated_weights(scores, dim)
            blind = (scores == -torch.inf).all(dim, keepdim=True)
            return weights.masked_fill(blind, 0) if name == SAFE else weights
        if any(part in name for part in FUSED):
            raise UnsupportedError(
                f"{name} computes its softmax inside, where it cannot be replaced; use an "
                f"attention that calls torch.softmax or scaled_dot_product_attention"
            )
        return func(*args, **(kwargs or {}))


class SaturatedModule(nn.Module):
    """A module in float64 in which every softmax is saturated; it has no gradients."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module; floating-point tensors are cast to float64."""
        named = {name: as_float64(value) for name, value in kwargs.items()}
        with torch.no_grad(), plain_kernels(), _Saturate():
            return self.module(*map(as_float64, args), **named)


def saturated(module: nn.Module) -> SaturatedModule:
    """Return a copy of a module in which every softmax is replaced by `saturated_weights`.

    The copy is in float64 and evaluation mode. A softmax that is not attention (over
    classes, or experts) is replaced too: that is its limit for large scores as well.

    Args:
        module: any module whose attention calls torch's softmax, MultiheadAttention or
            scaled_dot_product_attention. Masks must be boolean or -inf, not products.

    Raises:
        UnsupportedError: when the result is called, if a fused kernel hides its softmax.

    >>> attention = nn.MultiheadAttention(4, 2, batch_first=True)
    >>> X = torch.randn(1, 3, 4)
    >>> _, weights = saturated(attention)(X, X, X, average_attn_weights=False)
    >>> bool(((weights == 0) | (weights == 1)).all())
    True
    """
    return SaturatedModule(float64_copy(module))
