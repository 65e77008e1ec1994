"""Kernels of random logits: their error bars, the accuracy asked for, and replays."""

import math
import re
from typing import Any

import numpy as np
import pytest
from scipy import integrate, special, stats

from asymptest.numerics.attention import attention_matrices
from asymptest.numerics.kernel import kernel, kernel_with_error, kernels_with_error
from asymptest.theory import (
    Attention,
    Elementwise,
    Mlp,
    Network,
    Pointwise,
    RelativeBias,
    Residual,
    RMSNorm,
    Rotary,
    Saturated,
    Softmax,
    monomial,
    relu,
    sigmoid,
)
from asymptest.theory.errors import AccuracyError, ArgumentError

EPS = float(np.finfo(np.float64).eps)
LEVEL = 1e-9  # false-alarm probability of a statistical test here
EVALUATIONS = 16

PAIR = np.array([[1.0, 0.4], [0.4, 1.5]])
K3 = np.array([[1.0, 0.5, -0.3], [0.5, 2.0, 0.2], [-0.3, 0.2, 0.5]])

SOFTMAX = Attention(Softmax(variance=2), "causal")
ROTARY = Attention(Softmax(variance=2, position=Rotary(3.0)), "causal")
BETWEEN = Residual(RMSNorm() >> Mlp(relu))
DEEP = SOFTMAX >> BETWEEN >> ROTARY

EACH: dict[str, Network] = {
    "softmax": SOFTMAX,
    "rotary": ROTARY,
    "saturated": Attention(Saturated(), "causal"),
    "table": Attention(Softmax("1/d", True, bias=RelativeBias(1.0, 4, 3))),
    "elementwise": Attention(Elementwise(phi=sigmoid), "causal"),
    "deep": DEEP,
}


def after_pair(K: np.ndarray, turn: float) -> np.ndarray:
    """Return E A K A^T under a causal mask on two tokens, logits of variance 2, by quadrature.

    Position 1 has the weight a = 1 / (1 + exp(-D)) on position 0, where D = G_10 - G_11 has
    the variance 2 K_11 (K_00 + K_11 - 2 r(1) K_01).
    """
    (k00, k01), (_, k11) = K
    deviation = math.sqrt(2 * k11 * (k00 + k11 - 2 * turn * k01))

    def mean(power: int) -> float:
        def integrand(z: float) -> float:
            a = special.expit(deviation * z)
            return a**power * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

        value, _ = integrate.quad(integrand, -12, 12, epsabs=1e-13, limit=200)
        return value

    a, a2 = mean(1), mean(2)
    cross = a * k00 + (1 - a) * k01
    own = a2 * k00 + 2 * (a - a2) * k01 + (1 - 2 * a + a2) * k11
    return np.array([[k00, cross], [cross, own]])


def exact_deep() -> np.ndarray:
    """Return the kernels after each layer of DEEP on two tokens; its middle is exact."""
    r = (special.sici(1.0)[1] - special.sici(1 / 3)[1]) / math.log(3)
    first = after_pair(PAIR, 1.0)
    middle = kernel(BETWEEN, first)
    return np.array([PAIR, first, middle, after_pair(middle, r)])


def test_error_bars_are_calibrated() -> None:
    """Over seeds, at each depth: the spread about the exact kernel is what the bars say."""
    runs = 24
    found = [kernels_with_error(DEEP, PAIR, samples=512, rng=r) for r in range(runs)]
    values, errors = (np.array(part) for part in zip(*found, strict=True))
    gap = values - exact_deep()
    # Not [0, 1] of the first: the mean weight is 1 / 2 for any pair of draws.
    layer, i, j = np.array([(1, 1, 1), (2, 0, 1), (2, 1, 1), (3, 0, 1), (3, 1, 1)]).T
    gap, bars = gap[:, layer, i, j], errors[:, layer, i, j]
    # Squared, both are chi-square: of 24 and of 24 * 15 degrees of freedom.
    ratio = np.square(gap).mean(0) / np.square(bars).mean(0)
    tests = len(layer)
    low, high = stats.f.ppf(
        [LEVEL / 4 / tests, 1 - LEVEL / 4 / tests], runs, runs * (EVALUATIONS - 1)
    )
    assert ((low <= ratio) & (ratio <= high)).all()
    covered = (np.abs(gap) <= stats.t.ppf(0.9, EVALUATIONS - 1) * bars).sum(0)
    for count in covered:
        assert stats.binomtest(int(count), runs, 0.8).pvalue > LEVEL / 2 / tests


def test_what_is_not_random_has_no_error() -> None:
    values, errors = kernels_with_error(DEEP, PAIR, samples=64)
    assert (values[0] == PAIR).all()
    assert not errors[0].any()
    # Position 0 sees itself alone, so only the MLP changes its kernel.
    expected = exact_deep()[:, 0, 0]
    np.testing.assert_allclose(values[:, 0, 0], expected, rtol=1e-12)
    assert (errors[:, 0, 0] <= 16 * EPS).all()


@pytest.mark.parametrize("which", EACH)
def test_rtol_is_reached(which: str) -> None:
    rtol = 5e-3
    mean, error = kernel_with_error(EACH[which], K3, rtol=rtol)
    assert 0 < error.max() <= rtol * np.abs(mean).max()


def test_errors_that_later_layers_enlarge_take_more_draws() -> None:
    """The fourth power of an entry has four times its relative error."""
    first, rtol = Attention(Softmax(variance=2)), 2e-4
    mean, error = kernel_with_error(first >> Pointwise(monomial(4)), K3, rtol=rtol)
    assert error.max() <= rtol * np.abs(mean).max()
    mean, error = kernel_with_error(first, K3, rtol=rtol)
    assert error.max() > rtol / 4 * np.abs(mean).max()


def test_rtol_bounds_the_distance_to_the_exact_kernel() -> None:
    mean, error = kernel_with_error(DEEP, PAIR, rtol=2e-3)
    assert error.max() <= 2e-3 * np.abs(mean).max()
    bound = stats.t.ppf(1 - LEVEL / 2 / 3, EVALUATIONS - 1) * error
    assert (np.abs(mean - exact_deep()[-1]) <= bound + 64 * EPS).all()


def test_the_default_is_a_thousandth() -> None:
    mean, error = kernel_with_error(SOFTMAX, K3)
    assert error.max() <= 1e-3 * np.abs(mean).max()
    again, _ = kernel_with_error(SOFTMAX, K3, rtol=1e-3)
    assert (mean == again).all()


@pytest.mark.parametrize("which", ["softmax", "rotary", "saturated"])
def test_accuracy_that_is_out_of_reach_says_what_would_do(which: str) -> None:
    """In the caller's own numbers: who follows the advice a few times gets there."""
    samples = 1024
    for _ in range(5):
        try:
            mean, error = kernel_with_error(EACH[which], K3, samples=samples, rtol=2e-3)
        except AccuracyError as refused:
            message = (
                f"samples = {samples} does not reach rtol = 0.002; about samples = "
            )
            (enough,) = re.findall(rf"^{message}(\d+) would do", str(refused))
            assert int(enough) > samples
            samples = int(enough)
        else:
            break
    else:
        pytest.fail(f"not even {samples} would do")
    assert samples > 1024
    assert error.max() <= 2e-3 * np.abs(mean).max()


@pytest.mark.parametrize("which", ["rotary", "saturated", "table", "elementwise"])
def test_no_more_than_samples_is_spent(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each draw is an attention matrix."""
    drawn: list[int] = []

    def counted(*arguments: Any) -> Any:
        for stack in attention_matrices(*arguments):
            drawn.append(len(stack))
            yield stack

    monkeypatch.setattr("asymptest.numerics.layers.attention_matrices", counted)
    kernel(EACH[which], K3, samples=1024)
    assert sum(drawn) == 1024
    drawn.clear()
    kernel(EACH[which], K3, samples=1024, rtol=100.0)  # the first look will do
    assert sum(drawn) <= 1024
    drawn.clear()
    with pytest.raises(AccuracyError):
        kernel(EACH[which], K3, samples=1024, rtol=1e-6)
    assert sum(drawn) <= 1024 / EVALUATIONS  # the first of them gives up


@pytest.mark.parametrize("which", ["softmax", "deep"])
def test_replays_whatever_the_number_of_threads(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each evaluation has a generator of its own, so their order does not matter."""
    found = []
    for threads in (1, 5):
        monkeypatch.setattr("asymptest.numerics.parallel.cores", lambda n=threads: n)
        found.append(kernels_with_error(EACH[which], K3, samples=128, rng=3))
        rng = np.random.default_rng(3)
        found.append(kernels_with_error(EACH[which], K3, rtol=0.1, rng=rng))
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[1], found[3])
    other = kernels_with_error(EACH[which], K3, samples=128, rng=4)
    assert (found[0][0][-1] != other[0][-1]).any()


@pytest.mark.parametrize("rtol", [0.0, -1e-3, math.nan, math.inf])
def test_bad_rtol_is_named(rtol: float) -> None:
    with pytest.raises(ArgumentError, match="rtol must be positive and finite; got"):
        kernel(SOFTMAX, K3, rtol=rtol)
