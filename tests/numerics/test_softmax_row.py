"""The law of one softmax row: against nested adaptive quadrature, sampling, and symmetry."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from asymptest.numerics.random_softmax import softmax_kernel
from asymptest.numerics.softmax_row import lengths, row_rule
from asymptest.theory.errors import ArgumentError, KernelError

TWO = np.array([[1.0, -0.6], [-0.6, 1.5]])
THREE = np.array([[1.0, -0.5, 0.2], [-0.5, 0.8, -0.3], [0.2, -0.3, 1.3]])


def length(A: np.ndarray, K: np.ndarray) -> np.ndarray:
    """(A K A^T) of each row."""
    return np.einsum("mi,ij,mj->m", A, K, A)


@pytest.mark.parametrize(("head_size", "power"), [(1, 1), (2, 2), (7, 2)])
def test_two_keys_against_scipy(head_size: int, power: int) -> None:
    """One logit difference and the length of the query, by SciPy's nested quadrature."""
    s = 1.7
    scale = math.sqrt(s * TWO[0, 0] * (TWO[0, 0] - 2 * TWO[0, 1] + TWO[1, 1]))

    def value(z: float, r: float) -> float:
        a = 1 / (1 + math.exp(-scale * r / math.sqrt(head_size) * z))
        v = a**2 * TWO[0, 0] + 2 * a * (1 - a) * TWO[0, 1] + (1 - a) ** 2 * TWO[1, 1]
        return v**power * stats.norm.pdf(z) * stats.chi.pdf(r, head_size)

    exact = integrate.dblquad(value, 0, 12, -9, 9, epsabs=1e-7)[0]
    rule = row_rule(TWO, 0, s, head_size)
    assert rule.mean(length(rule.rows, TWO) ** power) == pytest.approx(exact, rel=2e-3)
    fine = row_rule(TWO, 0, s, head_size, step=0.25)
    assert fine.mean(length(fine.rows, TWO) ** power) == pytest.approx(exact, abs=5e-5)


def test_gaussian_logits_against_sampled_kernels() -> None:
    """Three keys and infinite heads: the diagonal of `softmax_kernel`, five errors wide."""
    everything, zero = np.ones((3, 3), dtype=bool), np.zeros((3, 3))
    rng = np.random.default_rng(0)
    K, error = softmax_kernel(THREE, 1.3 * THREE, everything, zero, rng, 2**14)
    for a in range(3):
        rule = row_rule(THREE, a, 1.3, np.inf)
        assert abs(rule.mean(length(rule.rows, THREE)) - K[a, a]) < 5 * error[a, a]


@settings(max_examples=30)
@given(
    head_size=st.integers(1, 40) | st.just(math.inf),
    log_variance=st.floats(-20, 1),
    row=st.integers(0, 2),
)
def test_halving_the_step_changes_little(
    head_size: float, log_variance: float, row: int
) -> None:
    """The default is good to 1e-3 where logits differ by up to about 3."""
    values = []
    for step in (0.5, 0.25):
        rule = row_rule(THREE, row, math.exp(log_variance), head_size, step)
        assert rule.weights.sum() == pytest.approx(1, abs=1e-12)
        assert np.abs(rule.rows.sum(1) - 1).max() < 1e-12
        values.append(rule.mean(length(rule.rows, THREE) ** 2))
    assert values[0] == pytest.approx(values[1], rel=2e-3)


@pytest.mark.parametrize("head_size", [1, 3, 20])
def test_lengths_have_the_moments_of_chi(head_size: int) -> None:
    """E |q| / sqrt(d) from SciPy's chi, E |q|^2 / d = 1 and E |q|^4 / d^2 = 1 + 2 / d."""
    r, weights = lengths(head_size, 0.5)
    root = float(stats.chi(head_size).mean()) / math.sqrt(head_size)
    for power, exact in ((1, root), (2, 1), (4, 1 + 2 / head_size)):
        assert weights @ r**power == pytest.approx(exact, rel=1e-4)


def test_equal_keys_are_uniform() -> None:
    """Where no key differs there is nothing to integrate over."""
    rule = row_rule(np.ones((3, 3)), 1, 2.0, 4)
    assert rule.rows == pytest.approx(np.full((len(rule.rows), 3), 1 / 3))


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"row": 3}, "row"),
        ({"row": -1}, "row"),
        ({"variance": -1.0}, "variance"),
        ({"variance": math.inf}, "variance"),
        ({"head_size": 0}, "head_size"),
        ({"step": 0.0}, "step"),
    ],
)
def test_bad_arguments_are_named(changed: dict[str, float], name: str) -> None:
    given: dict[str, float] = {"row": 0, "variance": 1.0, "head_size": 4, "step": 0.5}
    with pytest.raises(ArgumentError, match=name):
        row_rule(THREE, **(given | changed))  # pyright: ignore[reportArgumentType]


def test_no_kernel_is_refused() -> None:
    with pytest.raises(KernelError):
        row_rule(np.array([[1.0, 2.0], [2.0, 1.0]]), 0, 1.0, 4)
