"""Moments, C-maps and susceptibilities, against integrals of functions written by hand.

The integrals are Gauss-Legendre sums between the kinks. Literature: Cho and Saul (2009) for
leaky ReLU, Isserlis (1918) for powers, Mehler (1866) for Hermite coefficients, and Roberts,
Yaida and Hanin (2022) for chi_parallel as a moment.
"""

from collections.abc import Callable
from itertools import pairwise
from math import factorial, prod
from typing import Any, NamedTuple

import numpy as np
import pytest
import sympy as sp
from numpy.polynomial.legendre import leggauss
from scipy import special
from scipy.stats import multivariate_normal

from asymptest.theory import activations as act
from asymptest.theory.activations import Activation
from asymptest.theory.dual_maps import (
    C_W,
    K,
    c_map,
    c_slope,
    chi_parallel,
    chi_perp,
    derivative_dual,
    fourth_moment,
    hermite_coefficient,
    homogeneity,
    q_map,
    rho,
    slope_moment,
)
from asymptest.theory.errors import ArgumentError, NoClosedFormError
from asymptest.theory.gaussian_calculus import c, dual, has_closed_form, mean, p, q

Function = Callable[[np.ndarray], np.ndarray]

t = sp.Symbol("t")
VARIANCES = (sp.Rational(3, 10), sp.Rational(5, 2))
NODES, WEIGHTS = leggauss(40)


class Known(NamedTuple):
    """An activation, and by hand the function, its slope and where they switch."""

    phi: Activation
    function: Function
    slope: Function
    kinks: tuple[float, ...] = ()


def bell(z: np.ndarray) -> np.ndarray:
    return np.exp(-(z**2))


def density(z: np.ndarray) -> np.ndarray:
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def relu(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0.0)


def error_slope(z: np.ndarray) -> np.ndarray:
    return 2 / np.sqrt(np.pi) * bell(z)


def table(*known: Known) -> dict[str, Known]:
    return {each.phi.name: each for each in known}


KNOWN = table(
    Known(act.identity, lambda z: z, np.ones_like),
    Known(act.relu, relu, lambda z: z > 0, (0,)),
    Known(
        act.leaky_relu(sp.Rational(-3, 10)),
        lambda z: np.where(z > 0, z, -0.3 * z),
        lambda z: np.where(z > 0, 1, -0.3),
        (0,),
    ),
    Known(act.abs_, np.abs, np.sign, (0,)),
    Known(act.erf, special.erf, error_slope),
    Known(
        act.gelu,
        lambda z: z * special.ndtr(z),
        lambda z: special.ndtr(z) + z * density(z),
    ),
    Known(act.gaussian, bell, lambda z: -2 * z * bell(z)),
    Known(act.exp, np.exp, np.exp),
    Known(act.sin, np.sin, np.cos),
    Known(act.cos, np.cos, lambda z: -np.sin(z)),
    Known(act.monomial(3), lambda z: z**3, lambda z: 3 * z**2),
    Known(
        act.polynomial(1, -2, 0, 3),
        lambda z: 1 - 2 * z + 3 * z**3,
        lambda z: 9 * z**2 - 2,
    ),
    Known(
        act.hermite(3),
        lambda z: (z**3 - 3 * z) / np.sqrt(6),
        lambda z: (3 * z**2 - 3) / np.sqrt(6),
    ),
    Known(
        act.polyrelu(1, -2),
        lambda z: relu(z) - 2 * relu(z) ** 2,
        lambda z: (1 - 4 * z) * (z > 0),
        (0,),
    ),
    Known(
        Activation("bump", t * sp.exp(-(t**2)) * sp.Heaviside(t)),
        lambda z: relu(z) * bell(z),
        lambda z: (1 - 2 * z**2) * bell(z) * (z > 0),
        (0,),
    ),
    Known(
        Activation("gabor", sp.cos(t) * sp.exp(-(t**2))),
        lambda z: np.cos(z) * bell(z),
        lambda z: -(np.sin(z) + 2 * z * np.cos(z)) * bell(z),
    ),
    Known(
        Activation(
            "RBF feature",
            sp.sqrt(2) * sp.sin(sp.sqrt(sp.Rational(9, 5)) * t + sp.pi / 4),
        ),
        lambda z: np.sqrt(2) * np.sin(np.sqrt(1.8) * z + np.pi / 4),
        lambda z: np.sqrt(3.6) * np.cos(np.sqrt(1.8) * z + np.pi / 4),
    ),
    Known(
        Activation("sine times square", sp.sin(t) * t**2),
        lambda z: z**2 * np.sin(z),
        lambda z: 2 * z * np.sin(z) + z**2 * np.cos(z),
    ),
    Known(
        Activation("scaled erf", 2 * sp.erf(t / 2) + 1),
        lambda z: 2 * special.erf(z / 2) + 1,
        lambda z: error_slope(z / 2),
    ),
    Known(
        Activation("relu, sine and erf", sp.Max(0, t) + sp.sin(t) + sp.erf(t)),
        lambda z: relu(z) + np.sin(z) + special.erf(z),
        lambda z: (z > 0) + np.cos(z) + error_slope(z),
        (0,),
    ),
    Known(
        Activation("wave and bell", sp.cos(2 * t) + t * sp.exp(-(t**2) / 2)),
        lambda z: np.cos(2 * z) + z * np.exp(-(z**2) / 2),
        lambda z: (1 - z**2) * np.exp(-(z**2) / 2) - 2 * np.sin(2 * z),
    ),
    Known(
        Activation("shifted relu", sp.Max(0, 2 * t - 1) - t),
        lambda z: relu(2 * z - 1) - z,
        lambda z: np.where(z > 0.5, 1, -1),
        (0.5,),
    ),
)
JUMPS = table(
    Known(act.step, lambda z: 1.0 * (z > 0), np.zeros_like, (0,)),
    Known(act.sign, np.sign, np.zeros_like, (0,)),
    Known(
        Activation("shifted step", sp.Heaviside(t - 1) * t),
        lambda z: z * (z > 1),
        lambda z: z > 1,
        (1,),
    ),
    Known(
        Activation("cosine from 0", sp.Heaviside(t) * sp.cos(t)),
        lambda z: np.cos(z) * (z > 0),
        lambda z: -np.sin(z) * (z > 0),
        (0,),
    ),
)
NO_FOURTH = {"erf", "gelu", "scaled erf", "relu, sine and erf"}
NO_DUAL = {"shifted relu", "shifted step", "cosine from 0"}
ALL = KNOWN | JUMPS


def gaussian_mean(
    function: Function, variance: Any, kinks: tuple[float, ...] = ()
) -> float:
    """Return E function(u), u ~ N(0, variance), by panels of a deviation at most."""
    size = float(variance) ** 0.5
    edges = np.unique([*range(-18, 19), *(kink / size for kink in kinks)])
    half = np.diff(edges)[:, None] / 2
    z = edges[:-1, None] + half * (1 + NODES)
    return float(np.sum(half * WEIGHTS * function(size * z) * density(z)))


def number(value: Any, at: dict[Any, Any]) -> float:
    """Return a closed form as a float, evaluated exactly until then."""
    found = sp.N(sp.sympify(value).subs(at), 20)
    assert found.is_real, f"{value} is {found}"
    return float(found)


def near(expected: float) -> Any:
    return pytest.approx(expected, rel=1e-12, abs=1e-13)


each = pytest.mark.parametrize("name", KNOWN)
with_dual = pytest.mark.parametrize("name", [n for n in KNOWN if n not in NO_DUAL])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("variance", VARIANCES)
def test_mean_and_second_moment_are_integrals(name: str, variance: sp.Rational):
    """E phi in the variance p and E phi^2 in the variance K."""
    phi, function, _, kinks = ALL[name]
    expected = gaussian_mean(function, variance, kinks)
    assert number(mean(phi), {p: variance}) == near(expected)
    expected = gaussian_mean(lambda z: function(z) ** 2, variance, kinks)
    assert number(q_map(phi), {K: variance}) == near(expected)


@pytest.mark.parametrize(
    ("expr", "function", "kinks"),
    [
        (
            sp.exp(t) * sp.erf(t / 2 + 1),
            lambda z: np.exp(z) * special.erf(z / 2 + 1),
            (),
        ),
        (
            t**3 * sp.exp(-(t**2) - t / 3) * sp.erf(2 * t - 1),
            lambda z: z**3 * np.exp(-(z**2) - z / 3) * special.erf(2 * z - 1),
            (),
        ),
        (
            t**2 * sp.exp(1 - t) * sp.Heaviside(2 * t - 1),
            lambda z: z**2 * np.exp(1 - z) * (z > 0.5),
            (0.5,),
        ),
        (
            sp.sin(2 * t) * sp.Heaviside(t) * sp.exp(-(t**2) / 2),
            lambda z: np.sin(2 * z) * (z > 0) * np.exp(-(z**2) / 2),
            (0,),
        ),
        (sp.sin(t) * sp.erf(t / 2), lambda z: np.sin(z) * special.erf(z / 2), ()),
    ],
)
def test_mean_of_products(expr: Any, function: Function, kinks: tuple[float, ...]):
    """The mean exists in closed form for more than the dual does."""
    for variance in VARIANCES:
        found = number(mean(Activation("product", expr)), {p: variance})
        assert found == near(gaussian_mean(function, variance, kinks))


@pytest.mark.parametrize("name", [name for name in ALL if name not in NO_FOURTH])
@pytest.mark.parametrize("variance", VARIANCES)
def test_fourth_moment_is_an_integral(name: str, variance: sp.Rational):
    """E phi^4."""
    phi, function, _, kinks = ALL[name]
    expected = gaussian_mean(lambda z: function(z) ** 4, variance, kinks)
    assert number(fourth_moment(phi), {K: variance}) == near(expected)


@pytest.mark.parametrize("name", sorted(NO_FOURTH))
def test_fourth_moments_of_erf_have_no_closed_form(name: str):
    """Three or four half-planes at general angles have no elementary probability."""
    with pytest.raises(NoClosedFormError, match=name):
        fourth_moment(KNOWN[name].phi)


@each
@pytest.mark.parametrize("variance", VARIANCES)
def test_slope_moment_is_an_integral(name: str, variance: sp.Rational):
    """E phi'^2 with the slope written by hand; chi_perp is C_W times it."""
    phi, _, slope, kinks = KNOWN[name]
    expected = gaussian_mean(lambda z: slope(z) ** 2.0, variance, kinks)
    assert number(slope_moment(phi), {K: variance}) == near(expected)
    at = {K: variance, C_W: sp.Rational(7, 3)}
    assert number(chi_perp(phi), at) == near(7 / 3 * expected)


@pytest.mark.parametrize("name", JUMPS)
def test_a_jump_has_an_infinite_slope(name: str):
    """E phi'^2 does not exist, and the message names the activation."""
    for quantity in (slope_moment, c_slope, chi_perp):
        with pytest.raises(ArgumentError, match=f"{name} jumps"):
            quantity(JUMPS[name].phi)


@pytest.mark.parametrize("name", sorted(NO_DUAL))
def test_what_switches_off_the_origin_has_moments_and_no_dual(name: str):
    """In one variable a shifted step is an erf, in two a bivariate normal integral."""
    phi = ALL[name].phi
    assert not has_closed_form(phi)
    with pytest.raises(NoClosedFormError, match=r"Heaviside.*off the origin"):
        dual(phi)


@pytest.mark.parametrize("degree", range(6))
def test_moments_of_powers_count_pairings(degree: int):
    """E u^2k = (2k - 1)!! K^k (Isserlis), and half of it for a power of relu."""

    def pairings(n: int) -> int:
        return prod(range(n - 1, 0, -2))

    phi = act.monomial(degree)
    assert q_map(phi) == pairings(2 * degree) * K**degree
    assert fourth_moment(phi) == pairings(4 * degree) * K ** (2 * degree)
    if degree:
        half = act.polyrelu(*[0] * (degree - 1), 1)
        assert q_map(half) == sp.Rational(pairings(2 * degree), 2) * K**degree


POINTS = [
    dict(zip((p, q, c), map(sp.Rational, at), strict=True))
    for at in (("1", "1", "0.3"), ("0.4", "2.5", "-0.7"), ("2", "0.5", "0.9999"))
]


def slope_product(known: Known, at: dict[Any, Any]) -> float:
    """Return E phi'(u) phi'(v) in polar coordinates, split where u or v is 0."""
    a, b, cov = (float(at[s]) for s in (p, q, c))
    along, across = cov / a**0.5, (b - cov**2 / a) ** 0.5
    ray = np.arctan2(-along, across) % np.pi
    rays = np.unique([0, np.pi / 2, 3 * np.pi / 2, 2 * np.pi, ray, ray + np.pi])
    r = np.concatenate([low + 1 + NODES for low in range(0, 14, 2)])
    mass = np.tile(WEIGHTS, 7) * r * np.exp(-(r**2) / 2) / (2 * np.pi)
    value = 0.0
    for low, high in pairwise(rays):
        half = (high - low) / 2
        angle = low + half * (1 + NODES[:, None])
        u = a**0.5 * np.cos(angle) * r
        v = (along * np.cos(angle) + across * np.sin(angle)) * r
        value += half * float(WEIGHTS @ (known.slope(u) * known.slope(v) @ mass))
    return value


@with_dual
def test_derivative_dual_is_the_derivative_of_the_dual(name: str):
    """Price: E phi'(u) phi'(v) = d/dc E phi(u) phi(v); and it is the integral."""
    known = KNOWN[name]
    slope = sp.diff(dual(known.phi).value, c)
    for at in POINTS:
        found = number(derivative_dual(known.phi), at)
        assert found == near(number(slope, at))
        assert found == pytest.approx(slope_product(known, at), rel=1e-9, abs=1e-11)


@pytest.mark.parametrize(
    "phi",
    [
        act.identity,
        act.relu,
        act.leaky_relu(sp.Rational(1, 5)),
        act.abs_,
        act.step,
        act.sign,
        act.erf,
        act.gaussian,
        act.exp,
        act.sin,
        act.cos,
        act.monomial(4),
        act.polyrelu(0, 1),
        Activation("scaled step", sp.Heaviside(-3 * t)),
    ],
)
def test_derivative_dual_is_the_derivative_as_an_identity(phi: Activation):
    """SymPy reduces the difference to zero; the slope of a jump is a delta, and counts."""
    assert sp.simplify(derivative_dual(phi) - sp.diff(dual(phi).value, c)) == 0


def test_derivative_dual_of_a_shifted_step_is_a_density():
    """E delta(u - 1/2) delta(v - 1/2), however the step is scaled; SciPy knows it."""
    covariance: Any = [[0.4, -0.7], [-0.7, 2.5]]
    expected = multivariate_normal([0, 0], covariance).pdf([0.5, 0.5])
    for switch in (2 * t - 1, t - sp.Rational(1, 2), 3 - 6 * t):
        phi = Activation("shifted step", sp.Heaviside(switch))
        assert number(derivative_dual(phi), POINTS[1]) == near(float(expected))


@pytest.mark.parametrize(
    "slope", [sp.Integer(0), sp.Rational(1, 10), sp.Rational(-3, 2), 1, -1]
)
def test_c_map_of_leaky_relu(slope: Any):
    """C(c) = c + (1 - a)^2 / (pi (1 + a^2)) (sqrt(1 - c^2) - c acos c), C'(1) = 1."""
    phi = act.leaky_relu(slope)
    assert q_map(phi) == (1 + slope**2) * K / 2
    bend = (1 - slope) ** 2 / (sp.pi * (1 + slope**2))
    expected = rho + bend * (sp.sqrt(1 - rho**2) - rho * sp.acos(rho))
    near_one = 1 - sp.Rational(1, 10**9)
    for at in (-1, sp.Rational(-4, 5), 0, sp.Rational(3, 10), near_one, 1):
        gap = sp.N((c_map(phi) - expected).subs(rho, at), 30, chop=True)
        assert abs(gap) < 1e-25
    assert c_slope(phi) == 1


@pytest.mark.parametrize(
    "name", ["relu", "abs_", "erf", "gelu", "exp", "sin", "cos", "hermite(3)", "bump"]
)
def test_c_map_starts_at_one_with_its_slope(name: str):
    """(1 - C(1 - h)) / h is C'(1) up to h, or up to its root if there is a kink."""
    phi = KNOWN[name].phi
    C = c_map(phi).subs(K, VARIANCES[1])
    assert abs(sp.N(C.subs(rho, 1) - 1, 20)) < 1e-18
    h = sp.Rational(1, 10**24)
    quotient = (1 - sp.N(C.subs(rho, 1 - h), 80)) / h
    expected = number(c_slope(phi), {K: VARIANCES[1]})
    assert abs(quotient - expected) < 1e-10 * (1 + expected**2)


def test_c_maps_from_the_literature():
    """Sheppard (1899) for sign, Williams (1997) for erf, Cho and Saul (2009) for relu^2."""
    assert sp.simplify(c_map(act.sign) - 2 * sp.asin(rho) / sp.pi) == 0
    assert sp.simplify(c_map(act.step) - sp.Rational(1, 2) - sp.asin(rho) / sp.pi) == 0
    share = 2 * K / (1 + 2 * K)
    assert sp.simplify(c_map(act.erf) - sp.asin(share * rho) / sp.asin(share)) == 0
    assert c_map(act.identity) == rho
    assert sp.simplify(c_map(act.hermite(3)).subs(K, 1) - rho**3) == 0
    angle = sp.acos(rho)
    order_2 = 3 * sp.sin(angle) * rho + (sp.pi - angle) * (1 + 2 * rho**2)
    gap = c_map(act.polyrelu(0, 1)) - order_2 / (3 * sp.pi)
    for at in (sp.Rational(-9, 10), sp.Rational(1, 4)):
        assert abs(sp.N(gap.subs(rho, at), 30, chop=True)) < 1e-25


@each
@pytest.mark.parametrize("variance", VARIANCES)
def test_chi_parallel_is_a_moment(name: str, variance: sp.Rational):
    """C_W dQ/dK = C_W E phi^2 (u^2 - K) / (2 K^2), which needs no derivative."""
    phi, function, _, kinks = KNOWN[name]
    s = float(variance)
    expected = gaussian_mean(
        lambda z: function(z) ** 2 * (z**2 - s) / (2 * s * s), variance, kinks
    )
    at = {K: variance, C_W: sp.Rational(7, 3)}
    assert number(chi_parallel(phi), at) == near(7 / 3 * expected)


HERMITE: list[Function] = [
    np.ones_like,
    lambda z: z,
    lambda z: (z**2 - 1) / np.sqrt(2),
    lambda z: (z**3 - 3 * z) / np.sqrt(6),
]


@pytest.mark.parametrize("name", ALL)
def test_hermite_coefficients_are_integrals(name: str):
    """a_k = E phi(sqrt(K) z) h_k(z), with the polynomials written out."""
    phi, function, _, kinks = ALL[name]
    variance = VARIANCES[1]
    size = float(variance) ** 0.5
    for k, h in enumerate(HERMITE):
        expected = gaussian_mean(
            lambda z, h=h: function(z) * h(z / size), variance, kinks
        )
        assert number(hermite_coefficient(phi, k), {K: variance}) == near(expected)


@pytest.mark.parametrize("k", range(7))
@pytest.mark.parametrize("m", range(7))
def test_hermite_polynomials_are_orthonormal(k: int, m: int):
    """a_k of h_m is 1 if k = m at unit variance, and 0 otherwise; exactly."""
    assert hermite_coefficient(act.hermite(m), k).subs(K, 1) == (k == m)


@pytest.mark.parametrize("k", [0, 1, 2, 3, 8, 24])
def test_hermite_coefficients_of_exp_and_relu(k: int):
    """exp: e^(K/2) K^(k/2) / sqrt(k!), its generating function; relu: 0 at odd k > 1."""
    expected = sp.exp(K / 2) * K ** sp.Rational(k, 2) / sp.sqrt(factorial(k))
    assert sp.simplify(hermite_coefficient(act.exp, k) - expected) == 0
    if k % 2:
        assert hermite_coefficient(act.relu, k) == (sp.sqrt(K) / 2 if k == 1 else 0)


@pytest.mark.parametrize("phi", [act.relu, act.erf, act.gelu, act.sin, act.step])
def test_mehler_series_is_the_dual(phi: Activation):
    """E phi(u) phi(v) = sum_k a_k(p) a_k(q) r^k, at unlike variances and both signs of r."""
    one, other = VARIANCES
    coefficients = [
        [number(hermite_coefficient(phi, k), {K: variance}) for variance in VARIANCES]
        for k in range(9)
    ]
    for r in (sp.Rational(1, 10), sp.Rational(-1, 10)):
        series = sum(float(r) ** k * a * b for k, (a, b) in enumerate(coefficients))
        at = {p: one, q: other, c: r * sp.sqrt(one * other)}
        # What is left out is below |r|^9 sqrt(Q(p) Q(q)), and Q <= 1.25 here.
        assert abs(series - number(dual(phi).value, at)) < 1.25e-9


def test_hermite_degrees_are_not_negative():
    """A degree below 0 is refused with its value."""
    with pytest.raises(ArgumentError, match="-1"):
        hermite_coefficient(act.relu, -1)


@pytest.mark.parametrize(
    ("phi", "degree"),
    [
        (act.identity, 1),
        (act.relu, 1),
        (act.leaky_relu(sp.Rational(1, 10)), 1),
        (act.leaky_relu(-1), 1),
        (act.abs_, 1),
        (act.step, 0),
        (act.sign, 0),
        (act.monomial(0), 0),
        (act.monomial(3), 3),
        (act.polyrelu(0, 0, 2), 3),
        (Activation("modulus cubed", sp.Abs(t) ** 3), 3),
        (Activation("root", sp.sqrt(sp.Abs(t))), sp.Rational(1, 2)),
        (Activation("scaled", sp.Max(0, -3 * t)), 1),
        (Activation("constant", sp.Integer(5)), 0),
        (Activation("two slopes", sp.Piecewise((2 * t, t > 0), (5 * t, True))), 1),
        (act.polynomial(), None),
        (act.polynomial(1, 1), None),
        (act.polyrelu(1, 1), None),
        (Activation("shifted step", sp.Heaviside(t - 1)), None),
        (Activation("shifted relu", sp.Max(0, t - 1)), None),
        (Activation("step and line", sp.Heaviside(t) + t), None),
        (act.gelu, None),
        (act.erf, None),
        (act.exp, None),
        (act.sin, None),
        (act.tanh, None),
        (act.softplus, None),
    ],
)
def test_homogeneity(phi: Activation, degree: Any):
    """phi(t x) = t^k phi(x) for all t > 0, or no k."""
    assert homogeneity(phi) == degree


@pytest.mark.parametrize("phi", [act.tanh, act.silu, act.softplus])
def test_without_a_closed_form_each_quantity_says_so(phi: Activation):
    """None of them returns an unevaluated expectation."""
    quantities = (q_map, slope_moment, c_map, c_slope, derivative_dual, chi_parallel)
    for quantity in (*quantities, fourth_moment):
        with pytest.raises(NoClosedFormError, match=r"no rule reduces .*numerics"):
            quantity(phi)
    with pytest.raises(NoClosedFormError, match="no rule reduces"):
        hermite_coefficient(phi, 1)
