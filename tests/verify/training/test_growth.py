import numpy as np
import pytest
from scipy.optimize import curve_fit

from asymptest.theory.errors import ArgumentError
from asymptest.verify.training.growth import free_exponent, log_slope, misaligned

T = np.arange(1.0, 101) * 60

# ‖θ‖ of T5-base, every 20,400 steps from 0, read off figure 1 of arXiv 2010.09697.
T5_NORM = """
 470.6  980.4 1307.4 1540.0 1734.7 1910.4 2069.0 2214.6 2351.1 2481.6 2608.0 2729.3 2846.0
2957.7 3065.5 3169.9 3270.7 3368.9 3465.9 3561.9 3656.8 3750.3 3841.9 3931.7 4019.9 4106.6
"""


def power(t: np.ndarray, a: float, p: float, b: float) -> np.ndarray:
    return a * (t / T[-1]) ** p + b


@pytest.mark.parametrize("p", [-1.5, -0.5, 0.125, 0.25, 0.5, 1.0, 1.125, 2.5])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_a_planted_exponent_is_recovered(p: float, scale: float) -> None:
    fit = free_exponent(T, scale * power(T, 3 * np.sign(p), p, 7))
    assert (fit.value, fit.low, fit.high) == pytest.approx((p, p, p), abs=1e-4)
    assert fit.r2 == pytest.approx(1)
    assert fit.level == pytest.approx(scale * (3 * np.sign(p) + 7), rel=1e-5)
    assert fit.scale == pytest.approx(scale * 3 * abs(p), rel=1e-4)


def test_a_logarithm_has_the_exponent_0() -> None:
    assert free_exponent(T, 2 * np.log(T) + 5).value == pytest.approx(0, abs=1e-4)


def test_the_fit_is_that_of_scipy_on_published_norms() -> None:
    norm = np.array(T5_NORM.split(), dtype=float)
    t = 1 + 20_400 * np.arange(26.0)
    fit = free_exponent(t, norm)
    (_, p, _), _ = curve_fit(power, t, norm, p0=(1000, 0.5, 500))
    assert fit.value == pytest.approx(p, abs=1e-5)
    assert fit.low < p < fit.high
    residuals = norm - power(t, *curve_fit(power, t, norm, p0=(1000, 0.5, 500))[0])
    assert fit.r2 == pytest.approx(1 - residuals.var() / norm.var(), abs=1e-9)


def with_memory(rng: np.random.Generator, memory: float, n: int) -> np.ndarray:
    """Return noise of variance 1 in which each value remembers the one before it."""
    noise = rng.standard_normal(n)
    for k in range(1, n):
        noise[k] = memory * noise[k - 1] + (1 - memory**2) ** 0.5 * noise[k]
    return noise


@pytest.mark.parametrize("memory", [0.0, 0.95])
def test_intervals_hold_the_exponent_as_often_as_they_say(memory: float) -> None:
    runs, held, held_by_covariance = 40, 0, 0
    for k in range(runs):
        noise = with_memory(np.random.default_rng([1, k]), memory, len(T))
        norm = power(T, 3, 0.5, 7) + 0.01 * noise
        fit = free_exponent(T, norm)
        held += fit.low <= 0.5 <= fit.high
        (_, p, _), covariance = curve_fit(power, T, norm, p0=(3, 0.5, 7))
        held_by_covariance += abs(p - 0.5) <= 1.96 * covariance[1, 1] ** 0.5
    # Of 40 intervals of 95 %, fewer than 32 hold the truth once in 5,000 times.
    assert held >= 32
    if memory:
        assert held_by_covariance < runs / 2


def test_the_slope_is_that_of_a_regression_of_logarithms() -> None:
    norm = power(T, 3, 0.5, 7)
    fit = log_slope(T, norm)
    covariance = np.cov(np.log(T), np.log(norm))
    assert fit.value == pytest.approx(covariance[0, 1] / covariance[0, 0], rel=1e-10)
    correlation = np.corrcoef(np.log(T), np.log(norm))[0, 1]
    assert fit.r2 == pytest.approx(correlation**2, rel=1e-10)
    assert fit.low < fit.value < fit.high
    exact = log_slope(T, 5 * T**0.25)
    assert (exact.low, exact.high) == pytest.approx((0.25, 0.25), abs=1e-10)
    assert exact.scale == pytest.approx(exact.value, rel=1e-10)
    assert exact.level == pytest.approx(np.log(5 * T[-1] ** 0.25), rel=1e-12)


@pytest.mark.parametrize("kappa", [0.5, 1.0, 1.5])
def test_misaligned_steps_grow_with_the_exponent_that_kappa_predicts(
    kappa: float,
) -> None:
    # θ in R^50,000 would show the same: only norms enter once θᵀδ = 0.
    t = np.arange(1.0, 50_001)
    squares = np.concatenate([[9.0], 9 * np.cumprod(1 + kappa**2 / t)])
    before, norm = np.sqrt(squares[:-1]), np.sqrt(squares[1:])
    size = kappa * before / np.sqrt(t)
    late = slice(5000, None)
    found = misaligned(t[late], size[late], before[late], norm[late])
    assert found.kappa == pytest.approx(kappa, rel=1e-12)
    assert found.share == pytest.approx(1, rel=1e-9)
    slope = log_slope(t[late], norm[late])
    assert slope.value == pytest.approx(found.exponent, abs=1e-3)
    # κ = 1 is not the general case.
    assert (abs(slope.value - 0.5) < 0.01) == (kappa == 1)


def test_too_few_or_bad_points_are_refused() -> None:
    for t, norm in [
        (T[:19], T[:19]),
        (T - 60, T),
        (T, np.where(T == 60, np.nan, T)),
        (T, np.where(T == 60, np.inf, T)),
    ]:
        with pytest.raises(ArgumentError, match="finite norms at 20 or more steps"):
            free_exponent(t, norm)
        with pytest.raises(ArgumentError, match="finite norms at 20 or more steps"):
            log_slope(t, norm)
    with pytest.raises(ArgumentError, match="norms > 0; the least is -1"):
        log_slope(T, T - 61)
