"""Variances that cancel: rounding becomes zero, small kernels stay what they are."""

import numpy as np
import pytest

from asymptest.numerics import kernel
from asymptest.theory import Attention, Dense, Mix, Pointwise, Residual, Uniform, relu

OPPOSITE = np.array([[1.0, -1.0], [-1.0, 1.0]])


@pytest.mark.parametrize("variance", [1e-20, 1.0, 1e20])
def test_a_small_kernel_is_not_taken_for_rounding(variance: float) -> None:
    """What counts as rounding scales with the weights."""
    layer = Attention(Uniform(), mask="causal", value=Dense(variance))
    expected = variance * np.array([[1.0, 0.5], [0.5, 0.5]])
    assert np.allclose(kernel(layer, np.eye(2)), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("variance", [1e-20, 0.3, 1e20])
def test_opposite_tokens_average_to_nothing(variance: float) -> None:
    """The mean of x and -x is a zero row, and ReLU of it is one too."""
    layer = Attention(Uniform(), value=Dense(variance))
    assert (kernel(layer >> Pointwise(relu), OPPOSITE) == 0).all()


def test_a_skip_that_its_branch_takes_away() -> None:
    """X - X is zero, for any kernel, although four terms have to cancel."""
    for seed in range(50):
        X = np.random.default_rng(seed).standard_normal((3, 5))
        network = Residual(Mix(np.eye(3)), 0.7, -0.7) >> Pointwise(relu)
        assert (kernel(network, X @ X.T) == 0).all()


def test_dependent_rows_that_cancel() -> None:
    """x_1 + x_2 - x_3 with x_3 = x_1 + x_2 leaves only rounding, of either sign."""
    for seed in range(50):
        X = np.random.default_rng(seed).standard_normal((3, 5))
        X[2] = X[0] + X[1]
        A = [[1, 1, -1], [1, 0, 0], [0, 1, 0]]
        K = kernel(Mix(A) >> Pointwise(relu), X @ X.T)
        assert (K[0] == 0).all()
        assert np.isfinite(K).all()
