"""Stable forms: the same value as before, without what cancels, overflows or is 0 / 0.

Values are compared with mpmath at 60 digits; what cancels is read off the expression, and
measured on duals in test_duals.py.
"""

from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from asymptest.numerics.printing import exp_difference, one_minus
from asymptest.numerics.stable import (
    Dawson,
    ExpDifference,
    OneMinus,
    a,
    b,
    rho,
    stable,
    w,
)
from asymptest.theory import activations as act
from asymptest.theory.activations import Activation
from asymptest.theory.dual_maps import derivative_dual
from asymptest.theory.gaussian_calculus import c, dual, p, q

EPS = float(np.finfo(float).eps)
t = sp.Symbol("t")

USERS = [
    Activation("bump", t * sp.exp(-(t**2)) * sp.Heaviside(t)),
    Activation("gabor", sp.cos(t) * sp.exp(-(t**2))),
    Activation("scaled erf", 2 * sp.erf(t / 2) + 1),
    Activation("relu, sine and erf", sp.Max(0, t) + sp.sin(t) + sp.erf(t)),
    Activation("sine times square", sp.sin(t) * t**2),
    Activation("bell and relu", sp.exp(-(t**2) / 3) + sp.Max(0, t)),
]
CLOSED = [
    act.identity,
    act.relu,
    act.leaky_relu(sp.Rational(1, 10)),
    act.step,
    act.abs_,
    act.erf,
    act.gelu,
    act.gaussian,
    act.exp,
    act.sin,
    act.cos,
    act.monomial(3),
    act.polyrelu(1, -2),
    *USERS,
]
FORMS = {phi.name: dual(phi).value for phi in CLOSED}
FORMS |= {f"{phi.name}'": derivative_dual(phi) for phi in CLOSED}
STABLE = {name: stable(value, p, q, c) for name, value in FORMS.items()}


def exact(expr: Any, at: dict[Any, Any]) -> Any:
    """Evaluate with mpmath, the special functions by their definitions."""
    plain = expr.replace(
        Dawson, lambda z: sp.sqrt(sp.pi) / 2 * sp.exp(-(z**2)) * sp.erfi(z)
    )
    plain = plain.replace(OneMinus, lambda r, _: 1 - r)
    plain = plain.replace(ExpDifference, lambda s, t, _: sp.exp(s) - sp.exp(t))
    return sp.lambdify(list(at), plain, "mpmath")(*at.values())


@pytest.mark.parametrize("name", FORMS)
def test_the_value_is_the_same(name: str) -> None:
    """With a^2 = p, b^2 = q, a b rho = c and w = 1 - rho^2 both forms are one number."""
    with mpmath.workdps(60):
        for at in (("1.3", "0.2", "0.4"), ("0.01", "3", "-0.7"), ("2", "2", "0.999")):
            x, y, r = map(mpmath.mpf, at)
            before = exact(FORMS[name], {p: x * x, q: y * y, c: x * y * r})
            values = {a: x, b: y, rho: r, w: (1 - r) * (1 + r)}
            after = exact(STABLE[name], values)
            assert abs(after - before) <= mpmath.mpf("1e-50") * max(1, abs(before))


ROOTED = {"relu", "erf", "gelu", "gaussian", "bump"}


@pytest.mark.parametrize("name", FORMS)
def test_roots_and_denominators_are_sums_of_positive_terms(name: str) -> None:
    """Nothing cancels in them, since 1 - rho^2 is w; and erfi, which overflows, is gone."""
    value = STABLE[name]
    assert not value.has(sp.asin, sp.erfi)
    below = [e.base for e in value.atoms(sp.Pow) if not is_whole(e.exp)]
    assert name not in ROOTED or below
    for base in below:
        terms = sp.Add.make_args(sp.expand(base))
        assert not base.has(rho)
        assert not any(term.as_coeff_Mul()[0].is_negative for term in terms)


def is_whole(exponent: Any) -> bool:
    return exponent.is_Integer and exponent >= 0


# But for step', the density of (u, v) at 0, which is infinite there.
@pytest.mark.parametrize("name", [name for name in FORMS if name != "step'"])
def test_a_row_of_variance_zero_divides_by_nothing(name: str) -> None:
    """No power of a or b alone is negative."""
    bases = {e.base for e in STABLE[name].atoms(sp.Pow) if e.exp.is_negative}
    assert not bases & {a, b}
    with mpmath.workdps(30):
        at_zero = {a: mpmath.mpf(0), b: mpmath.mpf(1), rho: mpmath.mpf("0.5")}
        value = exact(STABLE[name], at_zero | {w: mpmath.mpf("0.75")})
        limit = exact(
            FORMS[name], {p: mpmath.mpf("1e-40"), q: 1, c: mpmath.mpf("5e-21")}
        )
        assert abs(value - limit) < 1e-18


def test_opposite_exponentials_become_one_term() -> None:
    """The dual of sin is sinh(c) without two exponentials that cancel at small c."""
    assert STABLE["sin"].atoms(ExpDifference)
    assert not STABLE["sin"].has(sp.exp)
    assert STABLE["cos"].has(sp.exp)
    assert not STABLE["cos"].atoms(ExpDifference)


@pytest.mark.parametrize("name", ["sin", "cos", "exp", "gabor", "sine times square"])
def test_exponents_are_sums_of_squares(name: str) -> None:
    """With 1 - rho from w: -(p + q) / 2 + c has lost p eps, which is all at p = 1e16."""
    exponents = [e.args[:1] for e in STABLE[name].atoms(sp.exp)]
    exponents += [e.args[:2] for e in STABLE[name].atoms(ExpDifference)]
    assert exponents
    for exponent in (part for parts in exponents for part in parts):
        assert exponent.has(OneMinus)
        assert not exponent.replace(OneMinus, lambda *_: sp.S.One).has(rho)
        # No a^2 beside a b: at a = b and rho = 1 nothing is left but what w is on.
        rest = exponent.replace(OneMinus, lambda *_: sp.S.Zero).subs({b: a, w: 0})
        assert rest == 0


@given(st.floats(-300, 300), st.floats(-320, 2.5), st.sampled_from([1, -1]))
def test_exp_difference(s: float, log_d: float, sign: int) -> None:
    """exp(s + d) - exp(s - d) to the rounding of s and d, however small d is."""
    d = sign * 10**log_d
    found = float(exp_difference(np.float64(s + d), np.float64(s - d), np.float64(d)))
    with mpmath.workdps(700):
        expected = mpmath.exp(s) * 2 * mpmath.sinh(mpmath.mpf(d))
        gap = abs(found - expected)
    assert gap <= 4 * EPS * (1 + abs(s) + abs(d)) * abs(expected) + 1e-323


def test_exp_difference_does_not_overflow_by_parts() -> None:
    """exp(1000) never occurs, and 0 stays 0."""
    up, down = (
        np.array([0.0, -2000.0, 0.0, -np.inf]),
        np.array([-2000.0, 0, 0, -np.inf]),
    )
    found = exp_difference(up, down, np.array([1000.0, -1000.0, 0.0, 0.0]))
    assert found.tolist() == [1.0, -1.0, 0.0, 0.0]


@given(st.floats(-330, 0), st.booleans())
def test_one_minus_is_known_from_w(log_gap: float, opposite: bool) -> None:
    """1 - rho for a gap that rho itself has lost, and near rho = -1 it is 2."""
    gap = 10**log_gap
    rho_ = np.float64(gap - 1 if opposite else 1 - gap)
    found = float(one_minus(rho_, np.float64(gap * (2 - gap))))
    expected = 2 - gap if opposite else gap
    assert abs(found - expected) <= 4 * EPS * expected
