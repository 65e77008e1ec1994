"""Kurtosis at finite heads: against all combinations of heads, and chi-squares from SciPy."""

from fractions import Fraction
from itertools import product

import pytest
import sympy as sp
from scipy import stats

from asymptest.theory.definition import HEADS
from asymptest.theory.heads import (
    excess_kurtosis,
    kernel_moment,
    moment,
    n,
    output_moment,
    over_heads,
)

V = {
    Fraction(1, 2): Fraction(3, 4),
    Fraction(3): Fraction(1, 4),
}  # value -> probability
UNIT = {sp.Symbol("s_O", nonnegative=True): 1, sp.Symbol("s_V", nonnegative=True): 1}


def law_of_v(power: int) -> sp.Expr:
    """E v^power."""
    mean = sum(p * v**power for v, p in V.items())
    return sp.Rational(mean.numerator, mean.denominator)


def enumerated(heads: int, head_size: int, power: int) -> float:
    """E w^power of the variance w = sum_h v_h chi^2_d / n that W^O sees, power 1 or 2."""
    width, total = heads * head_size, 0.0
    first, second = (stats.chi2(head_size).moment(k) for k in (1, 2))
    for chosen in product(V.items(), repeat=heads):
        values = [float(v) for v, _ in chosen]
        chance = 1.0
        for _, p in chosen:
            chance *= float(p)
        mean = sum(values) * first
        square = sum(v**2 for v in values) * (second - first**2) + mean**2
        total += chance * (mean, square)[power - 1] / width**power
    return total


@pytest.mark.parametrize("heads", [1, 2, 3, 4])
@pytest.mark.parametrize("head_size", [1, 2, 5])
def test_moments_over_independent_heads(heads: int, head_size: int) -> None:
    """Y is N(0, w): E Y^2 = E w and E Y^4 = 3 E w^2, w a mixture of chi-squares."""
    width = heads * head_size
    numbers = UNIT | {moment(p): law_of_v(p) for p in (1, 2)} | {HEADS: heads, n: width}
    second, fourth = (
        float(over_heads(output_moment(order)).subs(numbers)) for order in (2, 4)
    )
    assert second == pytest.approx(enumerated(heads, head_size, 1), rel=1e-12)
    assert fourth == pytest.approx(3 * enumerated(heads, head_size, 2), rel=1e-12)
    kurtosis = float(excess_kurtosis().subs(numbers))
    assert kurtosis == pytest.approx(fourth / second**2 - 3, rel=1e-9)
    # A kernel's entry is w chi^2_n / n.
    square = float(over_heads(kernel_moment(2)).subs(numbers))
    assert square == pytest.approx(
        enumerated(heads, head_size, 2) * stats.chi2(width).moment(2) / width**2
    )


def test_the_wide_limit_is_the_papers() -> None:
    """Three times the relative variance of v over H, and 0 for infinitely many heads."""
    wide = sp.limit(excess_kurtosis(), n, sp.oo)
    m_1, m_2 = moment(1), moment(2)
    assert sp.simplify(wide - 3 * (m_2 / m_1**2 - 1) / HEADS) == 0
    assert sp.limit(wide, HEADS, sp.oo) == 0


def test_deterministic_attention_is_gaussian_in_the_limit() -> None:
    """Where v does not fluctuate, every number of heads does."""
    wide = sp.limit(excess_kurtosis(), n, sp.oo)
    assert sp.simplify(wide.subs(moment(2), moment(1) ** 2)) == 0
