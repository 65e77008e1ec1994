"""Growth bounds at points, and tails against mpmath's quadrature."""

from itertools import pairwise
from typing import Any

import mpmath
import pytest
import sympy as sp
from flint import arb
from hypothesis import given
from hypothesis import strategies as st

from asymptest.numerics.balls import ball
from asymptest.numerics.growth import Growth, either, growth, times
from asymptest.theory.errors import UnsupportedError

t = sp.Symbol("t", positive=True)
BOUNDED_ABOVE = [
    sp.Integer(-3),
    t,
    -t / 2 + 3,
    t**5 - 20 * t**3 + 1,
    sp.sqrt(1 + t**2),
    sp.exp(t),
    sp.exp(-3 * t + 2),
    sp.exp(-(t**2) + 5 * t),
    sp.exp(sp.sin(t) - t),
    sp.exp(-sp.exp(-t)),
    t**2 * sp.exp(-(t**2)) + 1,
    sp.sinh(t / 2),
    sp.cosh(t) * sp.sin(9 * t),
    1 / sp.cosh(t) ** 2,
    1 / (1 + t),
    (2 + t**2) ** sp.Rational(-3, 2),
    t * (1 - sp.tanh(t / 2)) / 2,
    t * sp.erf(t) - sp.erfc(-t),
    sp.atan(t) * t,
    sp.log(1 + sp.exp(-t)),
    sp.log(1 + sp.exp(t)),
    -t / 2 + sp.log(2 * sp.cosh(-t / 2)),
    sp.log(sp.Rational(1, 50) + t),
]


def value(bound: Growth, at: float) -> arb:
    return bound.factor * arb(1 + at) ** bound.power * (bound.rate * at).exp()


@pytest.mark.parametrize("expr", BOUNDED_ABOVE)
@given(exponent=st.floats(-3, 2))
def test_a_function_stays_below_its_growth(expr: Any, exponent: float) -> None:
    at = 10**exponent
    assert abs(ball(expr, {t: at})) <= value(growth(expr), at) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("expr", "power", "rate"),
    [
        (t**3 + t, 3, 0),
        (sp.exp(2 * t) * t, 1, 2),
        (sp.exp(-t), 0, 0),
        (1 / (1 + t), 0, 0),
    ],
)
def test_growth_is_no_larger_than_it_must_be(expr: Any, power: int, rate: int) -> None:
    bound = growth(expr)
    assert bound.power == power
    assert bound.rate == rate


@pytest.mark.parametrize(
    "expr",
    [
        sp.exp(t**2),
        sp.exp(t * sp.sin(t) ** 2 * t),
        sp.tan(t),
        1 / t,
        1 / (1 - t),
        1 / sp.sin(t),
        sp.log(t),
        sp.log(sp.exp(-t) * 2),
        sp.erfi(t),
        sp.cosh(t**2),
        sp.gamma(t),
    ],
)
def test_what_has_no_bound_is_refused(expr: Any) -> None:
    with pytest.raises(UnsupportedError, match="no bound"):
        growth(expr)


growths = st.builds(
    lambda factor, power, rate: Growth(arb(factor), arb(power), arb(rate)),
    st.floats(0.01, 100),
    st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]),
    st.sampled_from([0.0, 0.3, 1.0, 2.0]),
)


@given(f=growths, g=growths, at=st.floats(0, 30))
def test_products_and_alternatives(f: Growth, g: Growth, at: float) -> None:
    slack = 1 + 1e-12
    assert value(f, at) * value(g, at) <= value(times(f, g), at) * slack
    assert value(f, at).max(value(g, at)) <= value(either(f, g), at) * slack


@given(
    bound=growths,
    center=st.floats(0, 20),
    width=st.floats(-3, 1.2),
    reach=st.floats(0, 12),
)
def test_the_tail_bounds_the_integral(
    bound: Growth, center: float, width: float, reach: float
) -> None:
    w = 10**width
    power, rate = float(bound.power), float(bound.rate)

    def integrand(z: Any) -> Any:
        size = abs(center + w * z)
        return (1 + size) ** power * mpmath.exp(rate * size - z * z / 2)

    peak = rate * w  # where exp(rate w z - z^2 / 2) is largest
    ends = [reach, max(reach, peak - 9), max(reach, peak), max(reach, peak) + 12]
    quad: Any = mpmath.quad
    right = sum(quad(integrand, pair) for pair in pairwise(ends))
    mirrored = [-end for end in reversed(ends)]
    left = sum(quad(integrand, pair) for pair in pairwise(mirrored))
    truth = float(bound.factor) * (right + left) / mpmath.sqrt(2 * mpmath.pi)
    tail = bound.tail(arb(center), arb(w), reach)
    assert tail >= arb(truth * (1 - mpmath.mpf(10) ** -8))


def test_the_tail_is_sharp_for_constants_and_exponentials() -> None:
    constant = Growth(arb(3), arb(0), arb(0))
    assert constant.tail(arb(7), arb(2), 1.5).overlaps(
        3 * (arb(1.5) / arb(2).sqrt()).erfc()
    )
    exponential = Growth(arb(1), arb(0), arb(1))
    # E exp(|u|) with the factor 2 that |m + w z| <= |m| + w |z| costs on one side.
    whole = exponential.tail(arb(0), arb(1), 0.0)
    exact = (arb(1) / 2).exp() * (arb(-1) / arb(2).sqrt()).erfc()
    assert whole.overlaps(exact)
