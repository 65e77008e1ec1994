"""Piecewise functions: the same function in steps, interval by interval."""

from typing import Any

import mpmath as mp
import pytest
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from asymptest.numerics.dual_maps import chi_perp
from asymptest.theory.activations import Activation
from asymptest.theory.criticality import criticality
from asymptest.theory.dual_maps import K, q_map, slope_moment
from asymptest.theory.errors import UnsupportedError
from asymptest.theory.piecewise import intervals, with_steps, x

third = sp.Rational(1, 3)
CLIPPED: dict[str, tuple[Any, list[Any]]] = {
    "relu6": (sp.Min(6, sp.Max(0, x)), [0, 6]),
    "hard tanh": (sp.Max(-1, sp.Min(1, x)), [-1, 1]),
    "hard sigmoid": (sp.Min(1, sp.Max(0, x / 6 + sp.Rational(1, 2))), [-3, 3]),
    "hard swish": (x * sp.Min(6, sp.Max(0, x + 3)) / 6, [-3, 3]),
    "parabola": (sp.Abs(x**2 - 1), [-1, 1]),
    "golden": (sp.Max(0, x**2 - x - 1), [(1 - sp.sqrt(5)) / 2, (1 + sp.sqrt(5)) / 2]),
    "float": (sp.Max(0, x**2 - 0.3 * x - 0.7), [sp.Rational(-7, 10), 1]),
    "cubic": (sp.Max(0, x**3 + x - 1), [sp.CRootOf(x**3 + x - 1, 0)]),
    "two slopes": (
        sp.Piecewise((0.7 * x, x < 0.3), (0.21 + (x - 0.3), True)),
        [sp.Rational(3, 10)],
    ),
    "soft shrinkage": (sp.sign(x) * sp.Max(0, sp.Abs(x) - third), [-third, third]),
}
DECAYING: dict[str, tuple[Any, list[Any]]] = {
    "laplace": (sp.exp(-sp.Abs(x)), [0]),
    "tent": (sp.exp(-sp.Abs(x - 1)) * sp.Heaviside(x), [0, 1]),
    "power of two": (2 ** (x / 2), []),
}
NESTED = CLIPPED | DECAYING


@pytest.mark.parametrize("name", NESTED)
@settings(max_examples=40)
@given(at=st.fractions(-9, 9, max_denominator=50))
def test_with_steps_is_the_same_function(name: str, at: Any) -> None:
    expr, kinks = NESTED[name]
    at = sp.Rational(at)
    assume(at not in kinks)
    assert sp.simplify(with_steps(expr).subs(x, at) - expr.subs(x, at)) == 0


@pytest.mark.parametrize("name", NESTED)
def test_steps_switch_at_the_kinks_and_stand_in_products_only(name: str) -> None:
    expr, kinks = NESTED[name]
    in_steps = with_steps(expr)
    assert Activation(name, expr).kinks == tuple(map(float, kinks))
    for step in in_steps.atoms(sp.Heaviside):
        assert sp.diff(step.args[0], x).is_number
    assert not in_steps.has(sp.Abs, sp.Max, sp.Min, sp.sign)


@pytest.mark.parametrize("name", CLIPPED)
def test_a_continuous_function_has_no_jump_in_its_slope(name: str) -> None:
    """A product of nested steps looks as if it jumped; E phi'(u)^2 would be infinite."""
    expr, kinks = CLIPPED[name]
    phi = Activation(name, expr)
    for variance in (0.3, 4.0):
        slope: Any = sp.diff(with_steps(expr), x).replace(
            sp.DiracDelta, lambda *_: sp.S.Zero
        )
        for mean, f in ((q_map(phi), expr), (slope_moment(phi), slope)):
            theirs = _mean(f**2, kinks, variance)
            assert float(mean.subs(K, variance)) == pytest.approx(theirs, rel=1e-12)
        found = float(chi_perp(phi, variance))  # an infinity if it seemed to jump
        assert found == pytest.approx(theirs, rel=1e-10)


@pytest.mark.parametrize("name", DECAYING)
def test_exponentials_between_kinks_have_closed_means(name: str) -> None:
    expr, kinks = DECAYING[name]
    mean = q_map(Activation(name, expr))
    theirs = _mean(expr**2, kinks, 0.7)
    assert float(mean.subs(K, sp.Float("0.7", 30))) == pytest.approx(theirs, rel=1e-12)


def _mean(f: Any, kinks: list[Any], variance: float) -> float:
    density = sp.exp(-(x**2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)
    roots = {root: root.evalf(30) for root in f.atoms(sp.CRootOf)}
    integrand = sp.lambdify(x, f.xreplace(roots) * density, "mpmath")
    with mp.workdps(25):
        value: Any = mp.quad(integrand, [-30, *map(float, kinks), 30])
        return float(value)


def test_what_is_plain_is_left_alone() -> None:
    """A symbolic slope has no kinks to compute, and none are needed."""
    a = sp.Symbol("a")
    plain = a * x + (1 - a) * x * sp.Heaviside(x) - sp.Heaviside(2 * x - 1)
    assert with_steps(plain) == plain


def test_switches_without_end_stay() -> None:
    endless = with_steps(sp.Abs(sp.sin(x)))
    assert endless.has(sp.Heaviside(sp.sin(x)))
    with pytest.raises(UnsupportedError, match="cannot be listed"):
        intervals(endless)


@pytest.mark.parametrize(
    "expr", [sp.Abs(sp.sin(x)), sp.floor(x), sp.Max(x, sp.exp(-x))]
)
def test_whether_it_jumps_is_not_guessed(expr: Any) -> None:
    """Some of these jump and some do not; E phi'(u)^2 = oo for all would be wrong."""
    phi = Activation("endless", expr)
    with pytest.raises(UnsupportedError, match="cannot be listed"):
        chi_perp(phi, 1.0)
    with pytest.raises(UnsupportedError, match="cannot be listed"):
        criticality(phi)
