"""Closed forms E phi(u) phi(v), against quadrature in polar coordinates.

In polar coordinates the kinks at u = 0 and v = 0 lie on rays, so Gauss-Legendre between
the rays is accurate to rounding. The activations are written out in NumPy here.
"""

from collections.abc import Callable
from itertools import pairwise
from math import factorial
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from asymptest.theory import activations as act
from asymptest.theory.activations import Activation
from asymptest.theory.errors import ArgumentError, NoClosedFormError
from asymptest.theory.gaussian_calculus import (
    c,
    dual,
    has_closed_form,
    mean,
    moment,
    p,
    product_moment,
    q,
)

Function = Callable[[np.ndarray], np.ndarray]
x = sp.Symbol("t")  # a user's symbol, without assumptions

# (p, q, c): equal and unequal variances, both signs, near the edge and on it.
POINTS = [
    (1.0, 1.0, 0.3),
    (1.0, 1.0, -0.8),
    (0.4, 2.5, 0.7),
    (3.0, 0.2, -0.5),
    (0.7, 0.7, 0.0),
    (2.0, 0.5, 0.9999),
    (2.0, 0.5, -0.9999),
    (1.3, 1.3, 1.3),
]

# Half axis to 12 standard deviations, in panels: the radial weight is r exp(-r^2/2).
_nodes, _weights = special.roots_legendre(40)
_edges = np.linspace(0, 12, 7)
_half = np.diff(_edges)[:, None] / 2
RADII = (_edges[:-1, None] + _half * (1 + _nodes)).ravel()
RADIAL = (_half * _weights).ravel() * RADII * np.exp(-(RADII**2) / 2)


def quadrature(f: Function, g: Function, p: float, q: float, c: float) -> float:
    """E f(u) g(v), by polar coordinates split at the rays u = 0 and v = 0."""
    along, across = c / np.sqrt(p), np.sqrt(max(q - c**2 / p, 0.0))
    ray = np.arctan2(-along, across) % np.pi  # where v = 0
    rays = np.unique([0, np.pi / 2, 3 * np.pi / 2, 2 * np.pi, ray, ray + np.pi])
    result = 0.0
    for low, high in pairwise(rays):
        angle = (low + high) / 2 + (high - low) / 2 * _nodes[:, None]
        u = np.sqrt(p) * np.cos(angle) * RADII
        v = (along * np.cos(angle) + across * np.sin(angle)) * RADII
        values = f(u) * g(v) * RADIAL
        result += (high - low) / 2 * float(_weights @ values.sum(axis=1))
    return result / (2 * np.pi)


def number(value: Any, at: tuple[float, float, float]) -> float:
    exact: dict[Any, Any] = dict(zip((p, q, c), map(sp.Rational, at), strict=True))
    return float(sp.re(sp.N(value.subs(exact), 20)))


def relu(t: np.ndarray) -> np.ndarray:
    return np.maximum(t, 0)


FORMS: list[tuple[Activation, Function]] = [
    (act.identity, lambda t: t),
    (act.relu, relu),
    (act.leaky_relu(sp.Rational(1, 10)), lambda t: np.where(t > 0, t, t / 10)),
    (act.leaky_relu(0.2), lambda t: np.where(t > 0, t, 0.2 * t)),
    (act.leaky_relu(-1.5), lambda t: np.where(t > 0, t, -1.5 * t)),
    (act.step, lambda t: 1.0 * (t > 0)),
    (act.sign, np.sign),
    (act.abs_, np.abs),
    (act.erf, special.erf),
    (act.gelu, lambda t: t * special.ndtr(t)),
    (act.gaussian, lambda t: np.exp(-(t**2))),
    (act.exp, np.exp),
    (act.sin, np.sin),
    (act.cos, np.cos),
    (
        Activation("gabor", sp.cos(3 * x + 1) * sp.exp(-(x**2) / 3)),
        lambda t: np.cos(3 * t + 1) * np.exp(-(t**2) / 3),
    ),
    (
        Activation("bump", x * sp.exp(-(x**2)) * sp.Heaviside(x)),
        lambda t: relu(t) * np.exp(-(t**2)),
    ),
    (
        Activation(
            "mixed", sp.sin(x) + sp.Heaviside(x) + x * sp.erf(x) + sp.exp(x / 2)
        ),
        lambda t: np.sin(t) + (t > 0) + t * special.erf(t) + np.exp(t / 2),
    ),
    (
        Activation("wave packet", (x + x**2) * sp.sinh(x) * sp.exp(-(x**2) / 4)),
        lambda t: (t + t**2) * np.sinh(t) * np.exp(-(t**2) / 4),
    ),
    (act.monomial(0), np.ones_like),
    (act.monomial(3), lambda t: t**3),
    (act.monomial(4), lambda t: t**4),
    (act.polynomial(1, -2, 0, 3), lambda t: 1 - 2 * t + 3 * t**3),
    (act.polynomial(), np.zeros_like),
    (act.hermite(1), lambda t: t),
    (act.hermite(2), lambda t: (t**2 - 1) / np.sqrt(2)),
    (act.hermite(4), lambda t: (t**4 - 6 * t**2 + 3) / np.sqrt(24)),
    (act.polyrelu(2), lambda t: 2 * relu(t)),
    (act.polyrelu(0, 1), lambda t: relu(t) ** 2),
    (act.polyrelu(1, -2, 3), lambda t: relu(t) - 2 * relu(t) ** 2 + 3 * relu(t) ** 3),
]

USERS: list[tuple[str, sp.Expr, Function]] = [
    ("max", sp.Max(0, x), relu),
    ("max-leaky", sp.Max(x, x / 10), lambda t: np.where(t > 0, t, t / 10)),
    ("max-abs", sp.Max(x, -x), np.abs),
    ("min", sp.Min(x, 0), lambda t: np.minimum(t, 0)),
    ("relu(-x)", sp.Max(0, -x), lambda t: relu(-t)),
    ("heaviside(-x)", sp.Heaviside(-x), lambda t: 1.0 * (t < 0)),
    ("heaviside(3x)", sp.Heaviside(3 * x), lambda t: 1.0 * (t > 0)),
    ("-x heaviside(-x)", -x * sp.Heaviside(-x), lambda t: relu(-t)),
    ("abs", (x + sp.Abs(x)) / 2, relu),
    ("abs(2x)", sp.Abs(2 * x), lambda t: np.abs(2 * t)),
    ("sign", x * (1 + sp.sign(x)) / 2, relu),
    ("sign(-x)", sp.sign(-x), lambda t: -np.sign(t)),
    ("x sign", x * sp.sign(x), np.abs),
    ("piecewise", sp.Piecewise((x, x > 0), (0, True)), relu),
    ("piecewise<", sp.Piecewise((0, x < 0), (x, True)), relu),
    (
        "piecewise>=",
        sp.Piecewise((x, x >= 0), (x / 10, True)),
        lambda t: np.where(t > 0, t, t / 10),
    ),
    ("squared relu", sp.Max(0, x) ** 2, lambda t: relu(t) ** 2),
    ("squared step", sp.Heaviside(x) ** 2 * x, relu),
    ("erf(3x)", sp.erf(3 * x), lambda t: special.erf(3 * t)),
    ("erf(-x/2)", sp.erf(-x / 2), lambda t: -special.erf(t / 2)),
    ("2 erf(0.5x)", 2 * sp.erf(0.5 * x), lambda t: 2 * special.erf(t / 2)),
    (
        "two erfs",
        sp.erf(x) + sp.erf(2 * x),
        lambda t: special.erf(t) + special.erf(2 * t),
    ),
    ("erf + step", sp.erf(x) + sp.Heaviside(x), lambda t: special.erf(t) + (t > 0)),
    (
        "gelu + relu",
        x * sp.erf(x) + sp.Max(0, x),
        lambda t: t * special.erf(t) + relu(t),
    ),
    ("x gauss", x * sp.exp(-(x**2) / 2), lambda t: t * np.exp(-(t**2) / 2)),
    (
        "gauss + relu",
        sp.exp(-(x**2) / 3) + sp.Max(0, x),
        lambda t: np.exp(-(t**2) / 3) + relu(t),
    ),
    ("shifted", (x + 1) ** 2, lambda t: (t + 1) ** 2),
    ("constant", sp.Integer(2), lambda t: 2 + 0 * t),
]


@pytest.mark.parametrize(("phi", "function"), FORMS)
def test_closed_form_is_the_integral(phi: Activation, function: Function):
    """dual(phi) equals the two-dimensional integral, on and off the diagonal."""
    value = dual(phi).value
    for at in POINTS:
        expected = quadrature(function, function, *at)
        assert number(value, at) == pytest.approx(expected, rel=1e-9, abs=1e-11), at


@pytest.mark.parametrize(("name", "expr", "function"), USERS, ids=[u[0] for u in USERS])
def test_users_activations_are_recognised(name: str, expr: sp.Expr, function: Function):
    """Max, Piecewise, Abs, sign and reflected steps reduce to the known pieces."""
    value = dual(Activation(name, expr)).value
    for at in POINTS[:5]:
        expected = quadrature(function, function, *at)
        assert number(value, at) == pytest.approx(expected, rel=1e-9, abs=1e-11), at


@settings(max_examples=30)
@given(
    st.sampled_from([f for f in FORMS if f[0].name in ("relu", "step", "erf", "gelu")]),
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.floats(-6, -1),
    st.booleans(),
)
def test_closed_form_up_to_the_edge(
    form: tuple, log_p: float, log_q: float, log_gap: float, negative: bool
):
    """The form holds at any scale, with correlations 1 - gap for tiny gaps too."""
    phi, function = form
    a, b = np.exp(log_p), np.exp(log_q)
    cov = (1 - 10**log_gap) * np.sqrt(a * b) * (-1 if negative else 1)
    expected = quadrature(function, function, a, b, cov)
    found = number(dual(phi).value, (a, b, cov))
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-9 * np.sqrt(a * b))


@pytest.mark.parametrize("k", range(6))
@pytest.mark.parametrize("m", range(6))
def test_hermite_polynomials_are_orthonormal(k: int, m: int):
    """E h_k(u) h_m(v) = [k = m] c^k at unit variances, exactly."""
    value = product_moment(act.hermite(k).expr, act.hermite(m).expr).value
    assert sp.expand(value.subs({p: 1, q: 1}) - (c**k if k == m else 0)) == 0


@pytest.mark.parametrize("a", range(5))
@pytest.mark.parametrize("b", range(5))
def test_monomials_are_isserlis(a: int, b: int):
    """E u^a v^b counts the pairings with j pairs across, for each j."""
    expected = sp.Integer(0)
    for j in range(min(a, b) + 1):
        if (a - j) % 2 or (b - j) % 2:
            continue
        left, right = (a - j) // 2, (b - j) // 2
        ways = sp.Rational(
            factorial(a) * factorial(b),
            factorial(j) * factorial(left) * factorial(right) * 2 ** (left + right),
        )
        expected += ways * c**j * p**left * q**right
    value = product_moment(act.monomial(a).expr, act.monomial(b).expr).value
    assert sp.expand(value - expected) == 0


@pytest.mark.parametrize("left", [1, 3, 4, 7, 9, 10, 12, 14, 20])
@pytest.mark.parametrize("right", [2, 5, 8, 9, 11, 13])
def test_product_of_two_functions(left: int, right: int):
    """E f(u) g(v) with f != g and p != q: nothing may assume a symmetric pair."""
    (f, f_of), (g, g_of) = FORMS[left], FORMS[right]
    value = product_moment(f.expr, g.expr).value
    for at in POINTS[2:4]:
        expected = quadrature(f_of, g_of, *at)
        assert number(value, at) == pytest.approx(expected, rel=1e-8, abs=1e-10), at


@pytest.mark.parametrize(("phi", "function"), FORMS)
def test_moment_is_the_integral(phi: Activation, function: Function):
    """E phi(u), by quadrature on each half axis; mean() is the same in p."""
    for s in (0.3, 1.0, 4.0):

        def density(t: float, s: float = s) -> float:
            weight = np.exp(-(t**2) / (2 * s)) / np.sqrt(2 * np.pi * s)
            return float(function(np.array([t]))[0]) * weight

        far = 14 * np.sqrt(s)
        halves = [
            integrate.quad(density, *ends, epsabs=1e-12)[0]
            for ends in ((-far, 0), (0, far))
        ]
        expected = pytest.approx(sum(halves), rel=1e-8, abs=1e-10)
        # The argument is in the package's variable, which phi.expr carries.
        assert float(moment(phi.expr, sp.Float(s))) == expected
        assert number(mean(phi), (s, s, 0.0)) == expected


NOT_CLOSED = [
    (act.tanh, "tanh"),
    (act.sigmoid, "tanh"),
    (act.silu, "tanh"),
    (act.softplus, "log"),
    (act.gelu_tanh, "tanh"),
    (Activation("shifted", sp.Heaviside(x - 1)), "Heaviside"),
    (Activation("growing", sp.exp(x**2 / 4)), "exp"),
    (Activation("quartic", sp.exp(-(x**4))), "exp"),
    (Activation("root", sp.sqrt(sp.Abs(x))), "sqrt|Abs|Heaviside"),
    (Activation("inverse", 1 / (1 + x**2)), "x"),
    (Activation("moved step", sp.exp(x) * sp.Heaviside(x)), "Heaviside"),
    (Activation("half sine", sp.sin(x) * sp.Heaviside(x)), "Heaviside"),
    (Activation("step of erf", sp.Heaviside(x) * sp.erf(x)), "erf"),
    (Activation("bent", sp.erf(x * sp.cosh(x))), "erf"),
    (Activation("narrow", sp.exp(-(x**2) * sp.cosh(x))), "exp"),
    (Activation("erf(x + 1)", sp.erf(x + 1)), "erf"),
]


@pytest.mark.parametrize(("phi", "part"), NOT_CLOSED, ids=lambda a: str(a))
def test_what_has_no_closed_form_says_which_part(phi: Activation, part: str):
    """NoClosedFormError names the part, and is a NotImplementedError."""
    with pytest.raises(NoClosedFormError, match=part):
        dual(phi)
    assert issubclass(NoClosedFormError, NotImplementedError)
    assert not has_closed_form(phi)


def test_closed_forms_are_announced():
    """has_closed_form is true for what dual derives."""
    assert all(has_closed_form(phi) for phi, _ in FORMS)


ODD = [
    act.identity,
    act.sign,
    act.erf,
    act.tanh,
    act.sin,
    act.hermite(3),
    act.leaky_relu(1),
]
NOT_ODD = [act.relu, act.abs_, act.step, act.gelu, act.cos, act.monomial(2), act.exp]


@pytest.mark.parametrize("phi", [*ODD, *NOT_ODD], ids=str)
def test_oddness(phi: Activation):
    """is_odd is true for odd functions, and never for one with a mean."""
    assert phi.is_odd == (phi in ODD)


def test_activation_takes_one_variable():
    """Any symbol will do, but only one; the error names those that are there."""
    assert Activation("a", sp.Symbol("z") ** 2) == Activation("a", x**2)
    y = sp.Symbol("y")
    with pytest.raises(ArgumentError, match=r"'two'.*\['t', 'y'\]"):
        Activation("two", x + y)
    assert repr(Activation("mine", x)) == "mine"


@pytest.mark.parametrize("make", [act.monomial, act.hermite])
def test_degrees_are_not_negative(make: Callable):
    """A degree below 0 is refused with its value."""
    with pytest.raises(ArgumentError, match="-1"):
        make(-1)
