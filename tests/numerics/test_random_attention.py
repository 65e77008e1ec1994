"""Kernels of attention with random logits: smooth kernels, heavy tails, refusals."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from asymptest.numerics import kernel, kernel_with_error
from asymptest.numerics.attention import softmax
from asymptest.theory import (
    Attention,
    Elementwise,
    RelativeBias,
    Rotary,
    Saturated,
    Softmax,
    exp,
)
from asymptest.theory.errors import AccuracyError, ArgumentError

TEXT: Any = "a"
BROKEN: Any = 4.5
LEVEL = 1e-9  # false-alarm probability of a statistical test here


def smooth(T: int) -> np.ndarray:
    """Return a kernel whose eigenvalues fall fast, as rank collapse leaves it."""
    x = np.linspace(0, 1, T)
    return np.exp(-((x[:, None] - x) ** 2) / 0.02)


@pytest.mark.parametrize("variance", [1.0, 9.0])
def test_smooth_kernels_under_a_causal_mask(variance: float) -> None:
    """Blocks that predict later rows by their small eigenvalues multiply the noise."""
    T, draws = 48, 4096
    K = smooth(T)
    layer = Attention(Softmax(variance=variance), "causal")
    found, error = kernel_with_error(layer, K, samples=512)
    # A row of a softmax averages: no entry is larger than the largest variance.
    assert np.abs(found).max() <= 1 + 1e-6
    assert error.max() < 0.05
    eigenvalues, vectors = np.linalg.eigh(K)
    R = vectors * np.sqrt(np.maximum(eigenvalues, 0))
    rng = np.random.default_rng(0)
    total, squares = np.zeros((2, T, T))
    for _ in range(draws):
        G = variance**0.5 * R @ rng.standard_normal((T, T)) @ R.T
        A = softmax(G, np.tri(T) > 0)
        product = A @ K @ A.T
        total += product
        squares += product**2
    mean = total / draws
    spread = np.sqrt(np.maximum(squares / draws - mean**2, 0) / draws)
    bound = stats.t.ppf(1 - LEVEL / 2 / K.size, 15) * np.hypot(error, spread)
    assert (np.abs(found - mean) <= bound + 1e-9).all()


def test_the_number_of_draws_does_not_choose_small_ones() -> None:
    """E exp(G)^2 = e^2: draws that stop when they look settled are 7 % too small."""
    layer = Attention(Elementwise(phi=exp))
    found = [kernel(layer, np.eye(1), rtol=0.1, rng=r).item() for r in range(60)]
    test: Any = stats.ttest_1samp(found, np.e**2)
    assert test.pvalue > LEVEL
    assert np.std(found) < 0.2 * np.e**2


def test_hopeless_tails_are_refused_at_once() -> None:
    with pytest.raises(AccuracyError, match="does not reach rtol"):
        kernel(Attention(Elementwise(phi=exp, variance=9)), np.eye(2))


def test_what_is_hidden_does_not_reach_the_activation() -> None:
    bias = [[0.0, 1000.0], [0.0, 0.0]]
    layer = Attention(Elementwise("1/d", True, phi=exp, bias=bias), "causal")
    found = kernel(layer, np.eye(2))
    np.testing.assert_allclose(found, [[np.e**2, np.e], [np.e, 1 + np.e**2]])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Saturated("1/d", bias=np.zeros((2, 2))), "fluctuation"),
        (lambda: RelativeBias(buckets=BROKEN), "RelativeBias.buckets must be a number"),
        (lambda: RelativeBias(max_distance=BROKEN), "RelativeBias.max_distance"),
        (lambda: RelativeBias(TEXT), "RelativeBias.variance must be a number"),
        (lambda: Rotary(TEXT), "Rotary.base must be a finite number"),
        (
            lambda: kernel(Attention(Softmax()), np.eye(2), samples=BROKEN),
            "samples must",
        ),
        (lambda: kernel(Attention(Softmax()), np.eye(2), rtol=TEXT), "rtol must be"),
    ],
)
def test_bad_input_is_named(
    monkeypatch: pytest.MonkeyPatch, make: Any, says: str
) -> None:
    import jaxtyping

    # As users meet it: without the suite's check of annotations.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ArgumentError, match=says):
        make()
