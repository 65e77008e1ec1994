"""Subnetworks: what a description does to the correlation of two inputs, part by part.

At unit variances a layer maps a correlation c to C(c): Pointwise by its C-map, Residual by
skip^2 c + weight^2 C_branch(c), where skip^2 + weight^2 = 1, and Dense and norms not at all.
Composition f(g(c)) acts on three readings of a C-map, each a fold over the layers from a
neutral start:

    value      C(c) itself, from c = 0 on               f(c)
    slope      C'(1), from 1 on                          f'(1) c
    curvature  C''(1) where every C'(1) = 1, from 0 on   c + f''(1)

the last two since C(1) = 1 gives (f o g)' = f' g' and (f o g)'' = f'' g'^2 + f' g'' at 1. Each
is linear under the weighted sum of a Residual.

A subnetwork is any run of consecutive layers, of the network or of a branch. Each act is
increasing, so the largest reading of the runs that end at a layer is that layer's act on the
larger of the largest before it and the neutral start.

Mix and Attention count as the identity: the two inputs are seen at one position.

Source: Martens et al. (2021), arXiv 2110.01765, on maximal C-map slopes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any, assert_never

from asymptest.theory.activations import Activation
from asymptest.theory.errors import ArgumentError, UnsupportedError
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
from asymptest.theory.substitution import number

ROUNDING = 1e-12  # of a variance that is 1


@dataclass(frozen=True)
class Reading:
    """How one number read off a C-map passes through an activation.

    Args:
        neutral: the number of the identity.
        act: activation and number before it -> number behind it, increasing in the number.
    """

    neutral: Any
    act: Callable[[Activation, Any], Any]


def value_at_zero(c_map: Callable[[Activation, Any], Any]) -> Reading:
    """Return the reading C(0); `c_map` takes an activation and a correlation."""
    return Reading(0, c_map)


def slope_at_one(slope: Callable[[Activation], Any]) -> Reading:
    """Return the reading C'(1), from that of each activation."""
    return Reading(1, lambda phi, before: slope(phi) * before)


def curvature_at_one(curvature: Callable[[Activation], Any]) -> Reading:
    """Return the reading C''(1), from that of each activation, if all C'(1) are 1."""
    return Reading(0, lambda phi, before: before + curvature(phi))


def through(network: Network, reading: Reading, before: Any) -> Any:
    """Return the reading behind a network, from the one before it.

    Args:
        network: normalised, as for `maximum`.
        reading: what to read; a value may start at any correlation.
        before: `reading.neutral` for that of the network alone.
    """
    return reduce(lambda c, layer: _act(layer, reading, c), _layers(network), before)


def maximum(network: Network, reading: Reading) -> Any:
    """Return the largest reading of all subnetworks, with the identity as the smallest.

    Raises:
        ArgumentError: if a layer changes a variance of 1.
        UnsupportedError: if it holds a Product or a Custom layer.

    >>> from sympy import Rational
    >>> from asymptest.theory import tanh
    >>> branch = Pointwise(tanh) >> Dense()
    >>> block = Residual(branch, skip=Rational(3, 5), weight=Rational(4, 5))
    >>> maximum(block, slope_at_one(lambda phi: Rational(3, 2)))  # 33/25; the branch has 3/2
    3/2
    >>> maximum(block * 2, slope_at_one(lambda phi: Rational(3, 2)))
    1089/625
    """
    check_normalised(network)
    return _maximum(network, reading)


def _maximum(network: Network, reading: Reading) -> Any:
    largest = here = reading.neutral
    for layer in _layers(network):
        here = _act(layer, reading, max(here, reading.neutral))
        largest = max(largest, here)
    return max(largest, _inside(network, reading))


def _inside(network: Network, reading: Reading) -> Any:
    """Return the largest reading of the subnetworks of branches."""
    if isinstance(network, Residual):
        return _maximum(network.branch, reading)
    inside = (_inside(part, reading) for part in _parts(network))
    return max(inside, default=reading.neutral)


def activations(network: Network) -> frozenset[Activation]:
    """Return the activations of a network, those in its branches included."""
    if isinstance(network, Pointwise):
        return frozenset({network.phi})
    return frozenset().union(*map(activations, _parts(network)))


def _parts(network: Network) -> tuple[Network, ...]:
    """Return the networks that a network is made of, each once."""
    match network:
        case Chain(layers):
            return layers
        case Repeat(part) | Residual(part):
            return (part,)
        case Mlp():
            return network.layers.layers
        case _:
            return ()


def _layers(network: Network) -> Iterator[Network]:
    """Return the layers in turn, each copy of a repeated block for itself."""
    match network:
        case Chain(layers):
            for layer in layers:
                yield from _layers(layer)
        case Repeat(block, depth):
            for _ in range(depth):
                yield from _layers(block)
        case Mlp():
            yield from _layers(network.layers)
        case _:
            yield network


def _act(layer: Network, reading: Reading, before: Any) -> Any:
    match layer:
        case Pointwise(phi):
            return reading.act(phi, before)
        case Residual(branch, skip, weight):
            behind = through(branch, reading, before)
            return skip**2 * before + weight**2 * behind
        case _:
            return before


def check_normalised(network: Network) -> None:
    """Check that every layer keeps a variance of 1, given that every activation does.

    Raises:
        ArgumentError, UnsupportedError: as `maximum`.
    """
    for part in _parts(network):
        check_normalised(part)
    match network:
        case Dense(variance, bias_variance):
            _check_one(network, variance, "variance")
            _check_zero(network, bias_variance, "bias_variance")
        case RMSNorm(eps) | LayerNorm(eps):
            _check_zero(network, eps, "eps")
        case Attention():
            check_normalised(network.value)
            check_normalised(network.output)
        case Residual(_, skip, weight):
            _check_one(network, skip**2 + weight**2, "skip^2 + weight^2")
        case Pointwise() | Mlp() | Mix() | Chain() | Repeat():
            pass
        case Product() | Custom():
            raise UnsupportedError(
                f"a C-map is read off Pointwise, Dense, Mlp, norms, Mix, Attention and "
                f"Residual; {network!r} is none of them: leave it out"
            )
        case _:
            assert_never(network)


def _check_one(network: Network, value: Any, name: str) -> None:
    if not abs(number(value, name) - 1) <= ROUNDING:
        raise ArgumentError(
            f"C-maps compose at unit variance, so {name} must be 1; got {value} in "
            f"{network!r}"
        )


def _check_zero(network: Network, value: Any, name: str) -> None:
    if number(value, name) != 0:
        raise ArgumentError(
            f"C-maps compose at unit variance, so {name} must be 0; got {value} in "
            f"{network!r}"
        )
