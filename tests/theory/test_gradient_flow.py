"""Networks of symbols, against the same networks in NumPy with real ReLUs."""

from itertools import chain

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from asymptest.theory.gradient_flow import (
    ReluNetwork,
    balance_defects,
    euler_defects,
    norm_slope,
    output,
    predicted_norm_slope,
    relu_network,
)

SLOPE = sp.Symbol("loss'")


def symbols_of(network: ReluNetwork) -> list[sp.Symbol]:
    return list(chain(*(weight.flat() for weight in network.weights)))


def evaluated(network: ReluNetwork, values: np.ndarray, x: np.ndarray) -> tuple:
    """Return f by NumPy, and the values of all symbols, switches as the ReLUs have them."""
    at = dict(zip(symbols_of(network), values.tolist(), strict=True))
    at |= dict(zip(network.inputs, x.tolist(), strict=True))
    state, rest = x, values
    for layer, weight in enumerate(network.weights):
        size = weight.rows * weight.cols
        W, rest = rest[:size].reshape(weight.shape), rest[size:]
        state = W @ state
        if layer < network.depth - 1:
            at |= dict(
                zip(network.switches[layer], (state > 0).astype(float), strict=True)
            )
            state = np.maximum(state, 0)
    return state[0], at


@given(
    widths=st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_output_is_that_of_a_network(widths: tuple[int, ...], seed: int) -> None:
    """With the switches of its ReLUs, f is the network's output."""
    network, rng = relu_network(widths), np.random.default_rng(seed)
    values = rng.standard_normal(len(symbols_of(network)))
    value, at = evaluated(network, values, rng.standard_normal(widths[0]))
    assert float(output(network).subs(at)) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("widths", [(3,), (2, 3), (2, 2, 2)])
def test_defects_vanish_and_tell_other_functions(widths: tuple[int, ...]) -> None:
    """They are 0 for f and for no sum of f and one weight."""
    network = relu_network(widths)
    f = output(network)
    assert set(euler_defects(network, f)) == {0}
    assert set(balance_defects(network, f)) <= {0}
    assert len(balance_defects(network, f)) == sum(widths[1:])
    other = f + network.weights[0][0, 0]
    assert set(euler_defects(network, other * f)) != {0}
    if network.depth > 1:
        assert set(balance_defects(network, other)) != {0}


def test_the_norm_moves_as_predicted() -> None:
    """One short step of gradient descent changes ||theta||^2 by its slope."""
    network, rng = relu_network((2, 3)), np.random.default_rng(5)
    weights = rng.standard_normal(len(symbols_of(network)))
    value, at = evaluated(network, weights, np.array([0.7, -1.1]))
    f, eta = output(network), 1e-7
    gradient = np.array([float(sp.diff(f, w).subs(at)) for w in symbols_of(network)])
    slope = -1 / (1 + np.exp(value))  # of log(1 + exp(-f))
    moved = weights - eta * slope * gradient
    measured = (moved @ moved - weights @ weights) / eta
    for formula in (norm_slope, predicted_norm_slope):
        predicted = float(formula(network, SLOPE).subs(at | {SLOPE: slope}))
        assert predicted == pytest.approx(measured, abs=1e-5)
