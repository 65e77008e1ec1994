"""Balls against mpmath at 60 digits, at points and over boxes, real and complex."""

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import pytest
import sympy as sp
from flint import acb, arb, ctx
from hypothesis import assume, given
from hypothesis import strategies as st

from asymptest.numerics.balls import HOLOMORPHIC, REAL, ball, compiled, number
from asymptest.theory.errors import AccuracyError, ArgumentError, UnsupportedError

x, y = sp.symbols("x y", real=True)

# An expression with the function, its values by mpmath, and where it is defined.
REALS: dict[Any, tuple[Any, Callable[..., Any], tuple[float, float]]] = {
    sp.exp: (sp.exp(x), mpmath.exp, (-9, 9)),
    sp.log: (sp.log(x), mpmath.log, (0.01, 9)),
    sp.sin: (sp.sin(x), mpmath.sin, (-9, 9)),
    sp.cos: (sp.cos(x), mpmath.cos, (-9, 9)),
    sp.tan: (sp.tan(x), mpmath.tan, (-1.5, 1.5)),
    sp.asin: (sp.asin(x), mpmath.asin, (-1, 1)),
    sp.acos: (sp.acos(x), mpmath.acos, (-1, 1)),
    sp.atan: (sp.atan(x), mpmath.atan, (-9, 9)),
    sp.atan2: (sp.atan2(x, -1), lambda t: mpmath.atan2(t, -1), (-9, 9)),
    sp.sinh: (sp.sinh(x), mpmath.sinh, (-9, 9)),
    sp.cosh: (sp.cosh(x), mpmath.cosh, (-9, 9)),
    sp.tanh: (sp.tanh(x), mpmath.tanh, (-9, 9)),
    sp.erf: (sp.erf(x), mpmath.erf, (-9, 9)),
    sp.erfc: (sp.erfc(x), mpmath.erfc, (-9, 9)),
    sp.erfi: (sp.erfi(x), mpmath.erfi, (-5, 5)),
    sp.Heaviside: (sp.Heaviside(x), lambda t: (mpmath.sign(t) + 1) / 2, (-9, 9)),
    sp.sign: (sp.sign(x), mpmath.sign, (-9, 9)),
    sp.Abs: (sp.Abs(x), abs, (-9, 9)),
    sp.Max: (sp.Max(x, 1, -3), lambda t: max(t, mpmath.mpf(1)), (-9, 9)),
    sp.Min: (sp.Min(x, 1, 7), lambda t: min(t, mpmath.mpf(1)), (-9, 9)),
    "square": (x**2, lambda t: t**2, (-9, 9)),
    "cube": (x**3, lambda t: t**3, (-9, 9)),
    "sixth": (x**6, lambda t: t**6, (-9, 9)),
    "inverse": (x**-3, lambda t: t**-3, (0.01, 9)),
    "root": (sp.sqrt(x), mpmath.sqrt, (0, 9)),
    "2/3": (x ** sp.Rational(2, 3), lambda t: mpmath.cbrt(t) ** 2, (0, 9)),
    "-3/2": (x ** sp.Rational(-3, 2), lambda t: t ** mpmath.mpf(-1.5), (0.01, 9)),
    "power": (x**sp.pi, lambda t: t**mpmath.pi, (0.01, 9)),
    "sum": (
        2 * x * sp.exp(-(x**2)) - sp.E * x / 3 + sp.sqrt(2) + sp.Float(0.1),
        lambda t: 2 * t * mpmath.exp(-(t**2)) - mpmath.e * t / 3 + mpmath.sqrt(2) + 0.1,
        (-3, 3),
    ),
}
fractions = st.floats(0, 1)


def exactly(value: Any) -> arb:
    """Return a value of mpmath with more than its error at 60 digits."""
    return arb(mpmath.mpf(value)) * arb(1, 1e-50) + arb(0, 1e-50)


def test_every_real_function_is_tested() -> None:
    assert set(REAL.functions) <= set(REALS)


@pytest.mark.parametrize("name", REALS)
@given(where=fractions)
def test_a_point_is_enclosed_to_thirty_digits(name: Any, where: float) -> None:
    expr, truth, (low, high) = REALS[name]
    point = low + (high - low) * where
    with mpmath.workdps(60), ctx.workprec(300):
        value = ball(expr, {x: point}, prec=160)
        assert value.overlaps(exactly(truth(mpmath.mpf(point))))
        assert value.rad() <= 1e-30 * (1 + abs(value))


@pytest.mark.parametrize("name", REALS)
@given(ends=st.tuples(fractions, fractions), inside=fractions, thin=st.floats(-9, 0))
def test_a_box_encloses_the_values_at_its_points(
    name: Any, ends: tuple[float, float], inside: float, thin: float
) -> None:
    expr, truth, (low, high) = REALS[name]
    start = low + (high - low) * min(ends)
    end = min(high, start + (high - low) * abs(ends[1] - ends[0]) * 10**thin)
    point = min(end, start + (end - start) * inside)
    with mpmath.workdps(60), ctx.workprec(300):
        try:
            value = ball(expr, {x: arb(start).union(end)})
        except AccuracyError:  # tan near its pole, log and x^-3 near 0
            assume(False)
        assert value.overlaps(exactly(truth(mpmath.mpf(point))))


@pytest.mark.parametrize("expr", [x**2, x**4, sp.Abs(x), sp.cosh(x) - 1])
def test_what_is_not_negative_stays_so_on_a_box_astride_zero(expr: Any) -> None:
    value = ball(expr, {x: arb(0.25, 1)})
    assert value.lower() >= -1e-8  # the radius of a hull is rounded up, to 30 bits
    assert value.contains(0)


def test_even_powers_are_never_negative() -> None:
    assert ball(x**2, {x: arb(0, 1)}).lower() >= 0
    assert ball(x**2, {x: arb(-0.5, 1)}).upper() <= 2.25 * (1 + 1e-8)


@pytest.mark.parametrize(
    ("expr", "low", "high"),
    [
        (sp.tanh(x), -1, 1),
        (sp.erf(x), -1, 1),
        (sp.exp(-x), 0, 3000),
        (sp.cosh(x), 1, 1700000),
        (sp.log(2 * sp.cosh(x)), 0, 16),
        (sp.atan(x), -1.51, 1.51),
    ],
)
def test_wide_boxes_are_enclosed_tightly(expr: Any, low: float, high: float) -> None:
    value = ball(expr, {x: arb(3.5, 11.5)})  # [-8, 15]
    slack = (high - low) * 1e-8
    assert low - slack <= value.lower()
    assert value.upper() <= high + slack


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_correlation_may_poke_out_of_its_range(sign: int) -> None:
    correlation = x / sp.sqrt(y)
    n, m = arb(3 * sign, 1e-20), arb(9, 1e-20)
    value = ball(sp.asin(correlation), {x: n, y: m})
    assert value.overlaps(sign * arb.pi() / 2)
    assert value.rad() < 1e-9  # asin has an infinite slope there: sqrt(2e-20)
    assert ball(sp.acos(correlation), {x: n, y: m}).rad() < 1e-9


def test_a_determinant_may_poke_below_zero() -> None:
    p, q, c = sp.symbols("p q c")
    value = ball(
        sp.sqrt(p * q - c**2), {p: arb(2, 1e-20), q: arb(2, 1e-20), c: arb(2, 1e-20)}
    )
    assert value.contains(0)
    assert value.rad() < 1e-9


@pytest.mark.parametrize(
    ("expr", "value"),
    [
        (sp.asin(x), 1.0000000001),
        (sp.sqrt(x), -1e-30),
        (sp.cbrt(x), -1),
        (sp.log(x), 0),
        (1 / x, arb(0, 1)),
        (sp.tan(x), arb(1.6, 0.1)),
    ],
)
def test_no_value_is_made_up_outside_the_domain(expr: Any, value: Any) -> None:
    with pytest.raises(AccuracyError, match="no finite ball"):
        ball(expr, {x: value})


def test_steps_take_both_values_only_where_they_must() -> None:
    assert ball(sp.Heaviside(x), {x: 1e-300}) == 1
    assert ball(sp.Heaviside(x), {x: -1e-300}) == 0
    assert ball(sp.Heaviside(x), {x: 0}) == 0.5
    both = ball(sp.Heaviside(x), {x: arb(0, 1e-30)})
    assert both.contains(0)
    assert both.contains(1)
    assert ball(sp.sign(x), {x: 0}) == 0
    assert ball(sp.sign(x), {x: arb(0, 1e-30)}).contains(-1)


@pytest.mark.parametrize(
    "value",
    [Fraction(1, 3), sp.Rational(1, 3), arb(1) / 3],
)
def test_a_third_is_a_third(value: Any) -> None:
    third = ball(x, {x: value})
    assert (3 * third).contains(1)
    assert not third.is_exact()


@pytest.mark.parametrize("value", [0.1, sp.Float(0.1), arb(0.1)])
def test_a_float_is_the_binary_number_that_it_is(value: Any) -> None:
    assert ball(x, {x: value}) == arb(0.1)
    assert not ball(x - sp.Rational(1, 10), {x: value}).contains(0)


def test_precision_is_that_asked_for() -> None:
    assert ball(sp.pi, prec=64).rad() > 1e-22
    assert ball(sp.pi, prec=300).rad() < 1e-88


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: ball(sp.pi * x, {x: 2}, prec=200), None),
        (lambda: ball(1 / x, {x: 0}, prec=200), AccuracyError),
        (lambda: ball(sp.gamma(x), {x: 1}, prec=200), UnsupportedError),
    ],
)
def test_the_global_precision_is_left_alone(
    call: Callable[[], Any], error: type[Exception] | None
) -> None:
    with ctx.workprec(77):
        if error is None:
            call()
        else:
            with pytest.raises(error):
                call()
        assert ctx.prec == 77


@pytest.mark.parametrize(
    ("expr", "name"),
    [
        (sp.gamma(x), "gamma"),
        (sp.besselj(0, x) + 1, "besselj"),
        (sp.Piecewise((x, x > 0), (0, True)), "Piecewise"),
        (sp.DiracDelta(x), "DiracDelta"),
        (sp.I * x, "ImaginaryUnit"),
    ],
)
def test_an_unknown_function_is_named(expr: Any, name: str) -> None:
    with pytest.raises(UnsupportedError, match=name):
        ball(expr, {x: 1})


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), sp.oo, sp.I, x, arb("nan")]
)
def test_a_value_must_be_a_finite_number(value: Any) -> None:
    with pytest.raises(ArgumentError, match="y must be a finite real number"):
        ball(y, {y: value})


def test_text_is_no_number() -> None:
    with pytest.raises(ArgumentError, match="'1'"):
        number("1", "y")


def test_every_symbol_needs_a_value() -> None:
    with pytest.raises(ArgumentError, match="symbol y"):
        ball(x + y, {x: 1})


HOLOMORPHICS = {
    sp.exp: mpmath.exp,
    sp.log: mpmath.log,
    sp.sin: mpmath.sin,
    sp.cos: mpmath.cos,
    sp.tan: mpmath.tan,
    sp.asin: mpmath.asin,
    sp.acos: mpmath.acos,
    sp.atan: mpmath.atan,
    sp.sinh: mpmath.sinh,
    sp.cosh: mpmath.cosh,
    sp.tanh: mpmath.tanh,
    sp.erf: mpmath.erf,
    sp.erfc: mpmath.erfc,
    sp.erfi: mpmath.erfi,
    "square": lambda z: z**2,
    "fifth": lambda z: z**5,
    "root": mpmath.sqrt,
    "cube root": lambda z: z ** (mpmath.mpf(1) / 3),
}
EXPRESSIONS = {
    "square": x**2,
    "fifth": x**5,
    "root": sp.sqrt(x),
    "cube root": sp.cbrt(x),
}


def over(expr: Any, box: acb) -> acb:
    with ctx.workprec(160):
        return compiled(expr, (x,), HOLOMORPHIC)((box,))


def test_every_holomorphic_function_is_tested() -> None:
    assert set(HOLOMORPHIC.functions) <= set(HOLOMORPHICS)


@pytest.mark.parametrize("name", HOLOMORPHICS)
@given(
    center=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    size=st.floats(-6, 0),
    inside=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
)
def test_a_complex_box_encloses_the_values_at_its_points(
    name: Any,
    center: tuple[float, float],
    size: float,
    inside: tuple[float, float],
) -> None:
    expr = EXPRESSIONS[name] if name in EXPRESSIONS else name(x)
    radius = 10**size
    box = acb(arb(center[0], radius), arb(center[1], radius))
    value = over(expr, box)
    assume(value.is_finite())  # a box on a cut or a pole
    with mpmath.workdps(60), ctx.workprec(300):
        point = [
            mpmath.mpf(c) + mpmath.mpf(radius) * t
            for c, t in zip(center, inside, strict=True)
        ]
        truth = mpmath.mpc(HOLOMORPHICS[name](mpmath.mpc(*point)))
        assert value.real.overlaps(exactly(truth.real))
        assert value.imag.overlaps(exactly(truth.imag))


@pytest.mark.parametrize(
    ("expr", "at"),
    [
        (sp.tanh(x), 1.5708j),
        (sp.tan(x), 1.5708),
        (1 / x, 0),
        (sp.log(x), -1),
        (sp.sqrt(x), -1),
        (sp.cbrt(x), -1),
        (x**sp.pi, -1),
        (sp.asin(x), 1.5),
        (sp.asin(x), -1.5),
        (sp.acos(x), 1.5),
        (sp.atan(x), 1.5j),
        (sp.atan(x), -1.5j),
        (sp.log(2 * sp.cosh(x / 2)), 3.5j),
    ],
)
def test_a_box_on_a_pole_or_a_cut_has_no_finite_value(expr: Any, at: complex) -> None:
    at = complex(at)
    assert not over(expr, acb(arb(at.real, 0.01), arb(at.imag, 0.01))).is_finite()
    assert over(expr, acb(arb(0.5, 0.01), arb(0.25, 0.01))).is_finite()


@pytest.mark.parametrize("expr", [sp.Abs(x), sp.Heaviside(x), sp.Max(x, 0), sp.sign(x)])
def test_what_is_not_holomorphic_is_refused(expr: Any) -> None:
    with pytest.raises(UnsupportedError):
        over(expr, acb(1))


def test_importing_numerics_does_not_load_balls() -> None:
    # SymPy loads flint by itself where it finds it, so flint says nothing about us.
    code = "import asymptest.numerics, sys; print('asymptest.numerics.balls' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.split()[-1] == "False"
