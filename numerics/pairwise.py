"""Layers that act on each pair of positions by itself: all but attention and Mix.

K'_ij depends on K_ii, K_ij and K_jj alone, so that a strip of the kernel can go through many
such layers while it is in the cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from jaxtyping import Float

from asymptest.numerics.compile import compiled
from asymptest.numerics.duals import at_one, dual_entry, on_strips
from asymptest.numerics.strips import Strips, by_strips
from asymptest.theory.network import (
    Attention,
    Chain,
    Custom,
    Dense,
    LayerNorm,
    Mix,
    Mlp,
    Network,
    Pointwise,
    Product,
    Repeat,
    Residual,
    RMSNorm,
)

Part = Float[np.ndarray, "..."]
Variances = Float[np.ndarray, " T"]


@dataclass(frozen=True)
class Pairwise:
    """What a network does to a kernel of given variances.

    Args:
        strip: to a strip of it.
        variances: () -> its new variances.
    """

    strip: Strips
    variances: Callable[[], Variances]


def is_pairwise(network: Network) -> bool:
    """Whether no layer of the network mixes positions."""
    match network:
        case Dense() | Pointwise() | Mlp() | RMSNorm() | LayerNorm():
            return True
        case Residual(branch):
            return is_pairwise(branch)
        case Product(left, right):
            return is_pairwise(left) and is_pairwise(right)
        case Chain(layers):
            return all(map(is_pairwise, layers))
        case Repeat(block):
            return is_pairwise(block)
        case Attention() | Mix() | Custom():
            return False


def pairwise_kernel(
    network: Network, K: Float[np.ndarray, "T T"]
) -> Float[np.ndarray, "T T"]:
    """Return the kernel of a network that does not mix positions."""
    return by_strips(_pairwise(network, np.diagonal(K)).strip, K)


def _pairwise(network: Network, variance: Variances) -> Pairwise:
    match network:
        case Chain(layers):
            return _in_turn(layers, variance)
        case Repeat(block, depth):
            return _in_turn((block,) * depth, variance)
        case Mlp():
            return _pairwise(network.layers, variance)
        case Residual(branch):
            return _joined(network, variance, branch)
        case Product(left, right):
            return _joined(network, variance, left, right)
        case Dense():
            return _joined(network, variance)
        case Pointwise(phi):
            entry = dual_entry(phi)
        case RMSNorm() | LayerNorm():
            entry, _ = compiled(network)
        case _:
            raise AssertionError(f"{network!r} mixes positions")
    return Pairwise(on_strips(entry, variance), lambda: at_one(entry, variance))


def _joined(
    layer: Dense | Residual | Product, variance: Variances, *branches: Network
) -> Pairwise:
    """Return the layer's equation between matrices, which holds for their entries too."""
    function, _ = compiled(layer)
    inner = [_pairwise(branch, variance) for branch in branches]

    def join(c: Part, *parts: Part) -> Part:
        branch, other = (*parts, None, None)[:2]
        return function(c, None, branch, None, None, other)

    return Pairwise(
        lambda c, *at: join(c, *(each.strip(c, *at) for each in inner)),
        lambda: join(variance, *(each.variances() for each in inner)),
    )


def _in_turn(layers: tuple[Network, ...], variance: Variances) -> Pairwise:
    first, *rest = layers
    now = _pairwise(first, variance)
    strips = [now.strip]
    for layer in rest:
        now = _pairwise(layer, now.variances())
        strips.append(now.strip)
    return Pairwise(
        lambda c, *at: reduce(lambda value, f: f(value, *at), strips, c), now.variances
    )
