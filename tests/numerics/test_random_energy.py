"""Participation of softmax weights: small T by quadrature, large T by theory and sampling."""

import math

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from asymptest.numerics import random_energy
from asymptest.numerics.random_energy import participation
from asymptest.theory.errors import ArgumentError
from asymptest.theory.random_energy import (
    T,
    annealed,
    annealed_error,
    b,
    frozen,
    series,
)

ANNEALED = sp.lambdify((T, b), annealed())


@given(log_T=st.floats(0, 46), log_b=st.floats(-9, 3.4))
def test_the_weights_sum_to_1(log_T: float, log_b: float) -> None:
    """Power 1, at sizes up to 10^20 and standard deviations from 1e-4 to 30."""
    total = participation(math.exp(log_T), math.exp(2 * log_b), 1)
    assert total == pytest.approx(1, abs=1e-12)


@given(log_b=st.floats(-6, 3), power=st.integers(2, 4))
def test_one_logit_has_all_the_weight(log_b: float, power: int) -> None:
    assert participation(1, math.exp(2 * log_b), power) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("deviation", [1e-3, 0.1, 0.9, 1.1, 4.0, 20.0])
@pytest.mark.parametrize("power", [2, 3])
def test_two_logits(deviation: float, power: int) -> None:
    """A = sigmoid(g_1 - g_2), by SciPy's quadrature."""

    def value(z: float) -> float:
        a = 1 / (1 + math.exp(-math.sqrt(2) * deviation * z))
        return (a**power + (1 - a) ** power) * float(stats.norm.pdf(z))

    exact = 2 * integrate.quad(value, 0, 12, epsabs=1e-13, epsrel=1e-13, limit=400)[0]
    assert participation(2, deviation**2, power) == pytest.approx(exact, rel=1e-11)


@pytest.mark.parametrize(("size", "variance"), [(10, 1.0), (300, 8.0), (300, 30.0)])
def test_sampled_logits(size: int, variance: float) -> None:
    """Within five standard errors of softmax rows drawn with NumPy."""
    g = math.sqrt(variance) * np.random.default_rng(1).standard_normal((4000, size))
    weights = np.exp(g - g.max(1, keepdims=True))
    found = np.square(weights / weights.sum(1, keepdims=True)).sum(1)
    error = found.std() / len(found) ** 0.5
    assert abs(participation(size, variance) - found.mean()) < 5 * error


@pytest.mark.parametrize("level", [16, 48])
@pytest.mark.parametrize("beta", [0.3, 1.2, 3.0])
def test_a_finer_rule_agrees(
    level: int, beta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half the steps and longer tails change the last digits only."""
    size, variance = 2.0**level, beta**2 * level * math.log(2)
    coarse = participation(size, variance)
    for name, value in (("STEP", 0.125), ("NORMAL_STEP", 0.15), ("TAIL", 60.0)):
        monkeypatch.setattr(random_energy, name, value)
    fine = participation.__wrapped__(size, variance)
    assert coarse == pytest.approx(fine, rel=1e-12)


@pytest.mark.parametrize("deviation", [0.4, 0.8])
def test_the_series_in_inverse_size(deviation: float) -> None:
    """T Y - c_0 - c_1 / T is c_2 / T^2, and what is left of Y / annealed is a_2 / T^2."""
    c = [float(term.subs(b, deviation)) for term in series(2)]
    a = [float(term.subs(b, deviation)) for term in annealed_error()]
    for size in (2.0**9, 2.0**12):
        exact = participation(size, deviation**2)
        left = size * exact - c[0] - c[1] / size
        assert left * size**2 == pytest.approx(c[2], rel=30 / size + 1e-9 * size**2)
        ratio = exact / ANNEALED(size, deviation) - 1
        assert (ratio - a[0] / size) * size**2 == pytest.approx(
            a[1], rel=30 / size + 1e-9 * size**2
        )


@pytest.mark.parametrize("beta", [2.0, 3.0, 5.0])
def test_frozen_moments_belong_together(beta: float) -> None:
    """Y_2 fixes r = 1 - Y_2 at finite T; Y_3 and Y_4 then follow, as in the limit."""
    log_T = 40 * math.log(2)
    Y = {k: participation(2.0**40, beta**2 * log_T, k) for k in (2, 3, 4)}
    for k in (3, 4):
        expected = float(frozen(k).subs(sp.Symbol("r", positive=True), 1 - Y[2]))
        assert Y[k] == pytest.approx(expected, rel=0.08 / beta)


@pytest.mark.parametrize(
    "arguments", [(0.5, 1.0), (10, 0.0), (10, -1.0), (10, 1.0, 0), (math.inf, 1.0)]
)
def test_bad_arguments_are_refused(arguments: tuple[float, ...]) -> None:
    with pytest.raises(ArgumentError, match="participation needs"):
        participation(*arguments)
