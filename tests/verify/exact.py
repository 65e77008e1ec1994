"""An exact evaluator in Fractions, written from the definitions and nothing else.

Uniform and saturated attention and ReLUs map rationals to rationals; ties are ties.
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from asymptest.numerics.attention import mask_array
from asymptest.theory import (
    Attention,
    Chain,
    Dense,
    Mlp,
    Network,
    Pointwise,
    Repeat,
    Residual,
    Saturated,
    Uniform,
    relu,
)

Weights = Mapping[str, np.ndarray]


def evaluate(
    network: Network, weights: Sequence[Weights], X0: np.ndarray
) -> np.ndarray:
    """Return f(X0), an array of Fractions.

    Args:
        network: Dense, relu, Mlp, Residual and Attention with Uniform or Saturated.
        weights: one mapping for each Dense and Attention, in the order of application.
        X0: input state (T, n) of rationals.
    """
    given = iter(weights)
    X = _apply(network, given, _fractions(X0))
    assert next(given, None) is None, "more weights than layers"
    return X


def _apply(network: Network, given: Iterator[Weights], X: np.ndarray) -> np.ndarray:
    match network:
        case Dense():
            layer = next(given)
            return X @ _fractions(layer["W"]) + _fractions(layer.get("v", 0))
        case Pointwise(phi):
            assert phi == relu
            return X * (X > 0)
        case Mlp():
            return _apply(network.layers, given, X)
        case Attention():
            return _attend(network, next(given), X)
        case Residual(branch, skip, weight):
            factors = Fraction(str(skip)), Fraction(str(weight))
            return factors[0] * X + factors[1] * _apply(branch, given, X)
        case Chain(layers):
            for layer in layers:
                X = _apply(layer, given, X)
            return X
        case Repeat(block, depth):
            for _ in range(depth):
                X = _apply(block, given, X)
            return X
        case _:
            raise AssertionError(f"no exact value for {network!r}")


def _attend(layer: Attention, weights: Weights, X: np.ndarray) -> np.ndarray:
    seen = mask_array(layer.mask, len(X))
    total = np.full(X.shape, Fraction(0))
    for h in range(weights["WV"].shape[1]):
        part = {name: _fractions(w) for name, w in weights.items()}
        if isinstance(layer.pattern, Uniform):
            G = np.zeros(seen.shape, dtype=int)
        else:
            assert isinstance(layer.pattern, Saturated)
            G = (X @ part["WQ"][:, h]) @ (X @ part["WK"][:, h]).T
        V = X @ part["WV"][:, h]
        for i, row in enumerate(seen):
            visible = [j for j, sees in enumerate(row) if sees]
            top = max(G[i, j] for j in visible)
            chosen = [j for j in visible if G[i, j] == top]
            mean = sum(V[j] for j in chosen) / Fraction(len(chosen))
            total[i] += mean @ part["WO"][h]
    return total


def _fractions(values: Any) -> np.ndarray:
    return np.vectorize(Fraction, otypes=[object])(values)
