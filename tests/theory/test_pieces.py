"""Pieces: what is recognised, collected and refused, against functions written by hand.

The functions are written in NumPy and mpmath, and never in SymPy, so that they share no
rule with the pieces. Distributional derivatives are tested against Gaussians: by Stein's
lemma E f'(u) = E u f(u) / s, whose right side needs no derivative.
"""

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from asymptest.theory.errors import NoClosedFormError
from asymptest.theory.gaussian_calculus import moment
from asymptest.theory.pieces import H, Piece, delta, derivative, pieces
from asymptest.theory.piecewise import x

Function = Callable[[Any], Any]

HALF, THIRD = sp.Rational(1, 2), sp.Rational(1, 3)
# Between the kinks that occur below, which are whole, or 1/2.
POINTS = np.array([-3.7, -2.2, -1.4, -0.8, -0.3, 0.2, 0.7, 1.1, 1.6, 2.3, 3.9])


def relu(t: np.ndarray) -> np.ndarray:
    return np.maximum(t, 0.0)


def values(parts: tuple[Piece, ...], at: np.ndarray) -> np.ndarray:
    """Return each piece at each point, from its fields alone."""
    found = np.zeros((len(parts), len(at)), dtype=complex)
    for part, value in zip(parts, found, strict=True):
        rate, tilt = complex(part.rate), complex(part.tilt)
        base = np.ones(len(at))
        if part.base != 1:
            slope, offset = (float(number) for number in part.line)
            line = slope * at + offset
            steps = {H: lambda z: np.heaviside(z, 0.5), sp.erf: special.erf}
            base = steps[type(part.base)](line)
        growth = np.exp(-rate * at**2 + tilt * at)
        value += complex(part.coefficient) * at**part.power * growth * base
    return found


# name, expression, the function, and of how many pieces it is the sum
KNOWN: list[tuple[str, Any, Function, int]] = [
    ("step squared", H(x) ** 2 * x, relu, 1),
    ("step cubed", (x + 1) * H(x) ** 3, lambda t: (t + 1) * (t > 0), 2),
    ("two steps", H(x) * H(x - 1), lambda t: 1.0 * (t > 1), 1),
    ("three steps", H(x + 1) * H(x - 2) * H(x), lambda t: 1.0 * (t > 2), 1),
    ("window", H(x) * H(1 - x), lambda t: 1.0 * ((t > 0) & (t < 1)), 2),
    ("empty window", H(-x) * H(x - 1), lambda t: 0 * t, 0),
    ("scaled step", H(3 * x - 6), lambda t: 1.0 * (t > 2), 1),
    ("falling step", x**2 * H(1 - 2 * x), lambda t: t**2 * (t < 0.5), 2),
    ("modulus cubed", sp.Abs(x) ** 3, lambda t: np.abs(t) ** 3, 2),
    ("x times modulus", x * sp.Abs(x - 1), lambda t: t * np.abs(t - 1), 4),
    ("sign squared", sp.sign(x) ** 2, lambda t: 1 + 0 * t, 1),
    ("even power", (x + sp.Abs(x)) ** 4, lambda t: 16 * relu(t) ** 4, 1),
    ("relu by max", sp.Max(0, 2 * x - 1), lambda t: relu(2 * t - 1), 2),
    (
        "piecewise",
        sp.Piecewise((x**2, x > 1), (-x, x > 0), (0, True)),
        lambda t: np.where(t > 1, t**2, np.where(t > 0, -t, 0)),
        3,
    ),
    ("sin squared", sp.sin(x) ** 2, lambda t: np.sin(t) ** 2, 3),
    ("sin times cos", sp.sin(x) * sp.cos(x), lambda t: np.sin(2 * t) / 2, 2),
    ("Pythagoras", sp.sin(x) ** 2 + sp.cos(x) ** 2, lambda t: 1 + 0 * t, 1),
    ("hyperbola", sp.cosh(x) ** 2 - sp.sinh(x) ** 2, lambda t: 1 + 0 * t, 1),
    (
        "wave packet",
        x * sp.cos(3 * x + 1) * sp.exp(-(x**2) / 3),
        lambda t: t * np.cos(3 * t + 1) * np.exp(-(t**2) / 3),
        2,
    ),
    (
        "damped cosh",
        sp.cosh(x) * sp.exp(-(x**2)),
        lambda t: np.cosh(t) * np.exp(-(t**2)),
        2,
    ),
    ("exp with a constant", sp.exp(2 * x + 1), lambda t: np.exp(2 * t + 1), 1),
    ("product of exps", sp.exp(x) ** 2 * sp.exp(1 - x), lambda t: np.exp(t + 1), 1),
    (
        "bell off the origin",
        sp.exp(-((x - 1) ** 2)),
        lambda t: np.exp(-((t - 1) ** 2)),
        1,
    ),
    (
        "bell against growth",
        sp.exp(-(x**2)) * sp.exp(x**2 / 4),
        lambda t: np.exp(-0.75 * t**2),
        1,
    ),
    ("erf of a line", sp.erf(2 * x + 1), lambda t: special.erf(2 * t + 1), 1),
    (
        "erf of a falling line",
        x * sp.erf(1 - x / 2),
        lambda t: t * special.erf(1 - t / 2),
        1,
    ),
    (
        "line in disguise",
        sp.erf(((x + 1) ** 2 - x**2) / 2),
        lambda t: special.erf(t + 0.5),
        1,
    ),
    ("laplace", sp.exp(-sp.Abs(x)), lambda t: np.exp(-np.abs(t)), 3),
    ("relu6", sp.Min(6, sp.Max(0, x)), lambda t: np.clip(t, 0, 6), 3),
    ("step of a parabola", H(x) * H(x**2 - 1), lambda t: 1.0 * (t > 1), 1),
    ("power of two", 2 ** (-x), lambda t: 2.0**-t, 1),
    ("collected", x + 2 * x + H(x) * x - 3 * x, relu, 1),
    ("both steps", H(x) + H(-x), lambda t: 1 + 0 * t, 1),
    ("nothing", sp.Max(0, x) - sp.Max(0, -x) - x, lambda t: 0 * t, 0),
    ("zero", sp.Integer(0), lambda t: 0 * t, 0),
    ("constant", sp.pi, lambda t: np.pi + 0 * t, 1),
]


@pytest.mark.parametrize(
    ("expr", "function", "count"),
    [case[1:] for case in KNOWN],
    ids=[c[0] for c in KNOWN],
)
def test_the_pieces_are_the_function(expr: Any, function: Function, count: int):
    """They add up to it, and equal ones are collected."""
    parts = pieces(expr)
    total = values(parts, POINTS).sum(axis=0)
    assert total.real == pytest.approx(function(POINTS), rel=1e-13, abs=1e-13)
    assert total.imag == pytest.approx(0 * POINTS, abs=1e-13)
    assert len(parts) == count
    assert len({part.unit for part in parts}) == count


def bell(t: np.ndarray) -> np.ndarray:
    return np.exp(-(t**2) / 2)


# Products of these are recognised: at most one erf, and no erf beside a step.
PLAIN: list[tuple[Any, Function]] = [
    (x, lambda t: t),
    (x**2 - 1, lambda t: t**2 - 1),
    (sp.Abs(x), np.abs),
    (H(x - 1), lambda t: 1.0 * (t > 1)),
    (H(HALF - x), lambda t: 1.0 * (t < 0.5)),
    (sp.sign(-2 * x), lambda t: -np.sign(t)),
    (sp.Max(x, x / 10), lambda t: np.where(t > 0, t, t / 10)),
]
WAVES: list[tuple[Any, Function]] = [
    (x, lambda t: t),
    (sp.sin(2 * x + 1), lambda t: np.sin(2 * t + 1)),
    (sp.cos(x), np.cos),
    (sp.sinh(x / 2), lambda t: np.sinh(t / 2)),
    (sp.exp(1 - x), lambda t: np.exp(1 - t)),
    (sp.exp(-(x**2) / 2), bell),
    (sp.exp(-((x - 1) ** 2)), lambda t: np.exp(-((t - 1) ** 2))),
]
LAST: list[tuple[Any, Function]] = [
    (sp.Integer(1), lambda t: 1 + 0 * t),
    (sp.erf(x / 2 - 1), lambda t: special.erf(t / 2 - 1)),
    (H(x + 1), lambda t: 1.0 * (t > -1)),
]


@st.composite
def products(draw: st.DrawFn) -> tuple[Any, Function]:
    """Draw a sum of two products, as an expression and as a function of its two terms."""
    terms = []
    for _ in range(2):
        scale = draw(st.integers(-3, 3))
        family = draw(st.sampled_from([PLAIN, WAVES]))
        factors = draw(st.lists(st.sampled_from(family), min_size=1, max_size=4))
        if family is WAVES:
            factors = [*factors, draw(st.sampled_from(LAST))]
        terms.append((scale, factors))

    def function(t: np.ndarray) -> np.ndarray:
        return np.array([k * np.prod([f(t) for _, f in fs], axis=0) for k, fs in terms])

    expr = sum(scale * sp.Mul(*(e for e, _ in factors)) for scale, factors in terms)
    return sp.sympify(expr), function


@given(products())
def test_random_products_are_the_sum_of_their_pieces(product: tuple[Any, Function]):
    """Products and powers of steps, waves, bells, lines and one erf, expanded by hand."""
    expr, function = product
    found, expected = values(pieces(expr), POINTS), function(POINTS)
    # The pieces may cancel, and so may the two products, or a sine near its zero.
    size = np.abs(found).sum(axis=0) + np.abs(expected).sum(axis=0)
    gap = np.abs(found.sum(axis=0) - expected.sum(axis=0))
    assert (gap <= 1e-13 * size).all()


@pytest.mark.parametrize(
    ("expr", "part"),
    [
        (sp.exp(x**2 / 4), r"exp\(x\*\*2/4\)"),
        (x * sp.exp(x**2 / 4), r"exp\(x\*\*2/4\) of x\*exp\(x\*\*2/4\)"),
        (sp.exp(-(x**4)), r"exp\(-x\*\*4\)"),
        (sp.cos(x**2), r"exp\(-?I\*x\*\*2\)"),
        (sp.erf(x) ** 2, r"erf\(x\)\*\*2"),
        (sp.erf(x) * sp.erf(x + 1), r"erf\(x\)\*erf\(x \+ 1\)"),
        (sp.erf(x**2), r"erf\(x\*\*2\)"),
        (x + 1 / (1 + x**2), r"1/\(x\*\*2 \+ 1\) of x \+ 1/\(x\*\*2 \+ 1\)"),
        (1 / x, r"1/x"),
        (1 / sp.Abs(x), "1/"),
        (sp.sqrt(sp.Abs(x)), "sqrt"),
        (sp.tanh(x), r"tanh\(x\)"),
        (sp.log(1 + x**2), "log"),
        (H(x) * sp.erf(x), r"Heaviside\(x\)\*erf\(x\)|erf\(x\)\*Heaviside\(x\)"),
        (H(sp.sin(x)), r"Heaviside\(sin\(x\)\)"),
        (x * sp.Abs(sp.cos(x)), "Heaviside"),
    ],
)
def test_what_is_no_piece_is_named(expr: Any, part: str):
    """The message shows the part without a rule, and where to go instead."""
    with pytest.raises(NoClosedFormError, match=f"for the part .*{part}.*quadrature"):
        pieces(expr)


def test_a_delta_takes_the_value_at_its_point():
    """f(x) delta(a (x - t)) is f(t) / |a| delta(x - t)."""
    (part,) = pieces(x**2 * sp.exp(-x) * delta(6 - 3 * x))
    assert part == Piece(4 * sp.exp(-2) / 3, 0, sp.S.Zero, sp.S.Zero, delta(x - 2))
    (part,) = pieces(sp.cos(x) * delta(x) + delta(2 * x))
    assert (part.coefficient, part.base) == (sp.Rational(3, 2), delta(x))
    assert pieces(x * delta(x)) == ()


def test_fields_of_a_piece():
    """The unit has the coefficient 1, and a line is read off the base."""
    (part,) = pieces(5 * x**3 * sp.exp(-2 * x**2 + x) * sp.erf(x / 3 - 1))
    assert part == Piece(
        sp.Integer(5), 3, sp.Integer(2), sp.Integer(1), sp.erf(x / 3 - 1)
    )
    assert part.line == (THIRD, -1)
    assert part.function == x**3 * sp.exp(-2 * x**2 + x) * sp.erf(x / 3 - 1)
    assert part.unit.coefficient == 1
    assert not part.is_one
    assert pieces(sp.Integer(7))[0].is_one
    assert not pieces(sp.exp(x))[0].is_one
    assert not pieces(H(x))[0].is_one


def against_a_gaussian(function: Function, s: float, kinks: tuple[float, ...]) -> float:
    """Return E u f(u) / s for u ~ N(0, s), which is E f'(u)."""
    edges = [*np.linspace(-14, 14, 15) * s**0.5, *kinks]

    def density(t: Any) -> Any:
        return t * function(t) * mp.exp(-t * t / (2 * s)) / (s * mp.sqrt(2 * mp.pi * s))

    with mp.workdps(20):
        value: Any = mp.quad(density, sorted(edges))
    return float(value)


JUMPS: list[tuple[str, Any, Function, tuple[float, ...]]] = [
    ("step", H(x), lambda t: t > 0, (0,)),
    ("scaled step", H(3 * x), lambda t: t > 0, (0,)),
    ("falling step", H(-3 * x), lambda t: t < 0, (0,)),
    ("shifted step", H(2 * x - 1), lambda t: t > 0.5, (0.5,)),
    ("step squared", H(x) ** 2, lambda t: t > 0, (0,)),
    (
        "cubed, with a jump",
        ((x + 1) * H(x)) ** 3,
        lambda t: (t + 1) ** 3 * (t > 0),
        (0,),
    ),
    ("relu cubed", sp.Max(0, x) ** 3, lambda t: t**3 * (t > 0), (0,)),
    ("shifted relu", sp.Max(0, 2 * x - 1), lambda t: (2 * t - 1) * (t > 0.5), (0.5,)),
    ("falling", x**2 * H(1 - x), lambda t: t**2 * (t < 1), (1,)),
    ("two steps", x * H(x) * H(x - 1), lambda t: t * (t > 1), (0, 1)),
    ("modulus", sp.Abs(x - 1), lambda t: abs(t - 1), (1,)),
    (
        "signed bell",
        sp.sign(x - 2) * sp.exp(-(x**2)),
        lambda t: (1 if t > 2 else -1) * mp.exp(-t * t),
        (2,),
    ),
    ("outside", x * H(x**2 - 4), lambda t: t * (abs(t) > 2), (-2, 2)),
    ("hard tanh", sp.Max(-1, sp.Min(1, x)), lambda t: min(max(t, -1), 1), (-1, 1)),
    ("wave with a jump", sp.cos(x) * H(x), lambda t: mp.cos(t) * (t > 0), (0,)),
    ("bell", x * sp.exp(-(x**2)), lambda t: t * mp.exp(-t * t), ()),
    ("erf", x * sp.erf(x / 2 + 1), lambda t: t * mp.erf(t / 2 + 1), ()),
]


@pytest.mark.parametrize(
    ("expr", "function", "kinks"),
    [case[1:] for case in JUMPS],
    ids=[c[0] for c in JUMPS],
)
def test_derivative_is_distributional(
    expr: Any, function: Function, kinks: tuple[float, ...]
):
    """A jump of height h at t adds h delta(x - t), however the jump is written."""
    for s in (0.4, 3.0):
        found = float(moment(derivative(expr), sp.Float(s)))
        expected = against_a_gaussian(function, s, kinks)
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-13)


@pytest.mark.parametrize(
    "expr",
    [
        sp.sin(x) * H(x - 1),
        sp.cos(x) * H(x - 1),
        x * sp.sin(x) * H(x + 1),
        sp.sin(x) * sp.erf(x + 1),
        sp.exp(-(x**2)) * sp.cos(3 * x) * H(x + sp.sqrt(2)),
    ],
)
def test_a_wave_with_a_jump_off_the_origin_has_no_closed_mean(expr: Any):
    """Its error function has a complex argument, and no part of that is zero."""
    with pytest.raises(NoClosedFormError, match="imaginary"):
        moment(expr, sp.Integer(1))


def test_derivative_keeps_a_delta_only_where_there_is_a_jump():
    """Away from jumps it is a function, so that it has a second moment."""
    assert derivative(sp.Max(0, x)) == H(x)
    assert derivative(H(x)) == delta(x)
    assert derivative(x**2 * H(x - 1)) == 2 * x * H(x - 1) + delta(x - 1)


def test_a_slope_without_a_value_at_its_kink_is_refused():
    """sqrt|x| rises vertically at 0."""
    with pytest.raises(NoClosedFormError, match="sqrt"):
        pieces(derivative(sp.sqrt(sp.Abs(x))))
