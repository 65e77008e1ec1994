"""Duals and C-maps to the last digits, against formulas from the literature in mpmath.

Cho and Saul (2009), eqs. 3 to 6: the arc-cosine kernels of order 0, 1, 2. Williams (1997),
eq. 11: erf. Exponentials, waves and bells by completing the square. GELU: x Phi(x) is
x P(g < x), so its dual is a second moment of u - g, v - h on a quadrant, where the arc-cosine
kernels hold. With 100 digits the formulas need no care near rho = 1.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special

from asymptest.numerics.compile import Entry
from asymptest.numerics.duals import c_map, c_map_gap, dual, dual_entry, entrywise
from asymptest.numerics.gram import correlation
from asymptest.theory import activations as act
from asymptest.theory.activations import Activation
from asymptest.theory.errors import ArgumentError, ShapeError, UnsupportedError
from asymptest.theory.piecewise import x

EPS = float(np.finfo(float).eps)
t = sp.Symbol("t")
Formula = Callable[[Any, Any, Any], Any]  # of p, q, rho
Function = Callable[[np.ndarray], np.ndarray]


def order_0(p: Any, q: Any, rho: Any) -> Any:
    return (mp.pi - mp.acos(rho)) / (2 * mp.pi)


def order_1(p: Any, q: Any, rho: Any) -> Any:
    angle = mp.acos(rho)
    return mp.sqrt(p * q) / (2 * mp.pi) * (mp.sin(angle) + (mp.pi - angle) * rho)


def order_2(p: Any, q: Any, rho: Any) -> Any:
    angle = mp.acos(rho)
    bracket = 3 * mp.sin(angle) * rho + (mp.pi - angle) * (1 + 2 * rho**2)
    return p * q / (2 * mp.pi) * bracket


def leaky(slope: Any) -> Formula:
    def formula(p: Any, q: Any, rho: Any) -> Any:
        same, opposite = order_1(p, q, rho), order_1(p, q, -rho)
        return (1 + slope**2) * same - 2 * slope * opposite

    return formula


def erf_dual(p: Any, q: Any, rho: Any) -> Any:
    c = rho * mp.sqrt(p * q)
    return 2 / mp.pi * mp.asin(2 * c / mp.sqrt((1 + 2 * p) * (1 + 2 * q)))


def gelu_dual(p: Any, q: Any, rho: Any) -> Any:
    P = mp.matrix([[p, rho * mp.sqrt(p * q)], [rho * mp.sqrt(p * q), q]])
    S = P + mp.eye(2)  # covariance of (u - g, v - h)
    M = P * S**-1  # E[(u, v) | u - g, v - h] is M times them
    r = S[0, 1] / mp.sqrt(S[0, 0] * S[1, 1])
    quadrant = order_0(1, 1, r)
    along = quadrant + r * mp.sqrt(1 - r * r) / (2 * mp.pi)
    mixed = order_1(S[0, 0], S[1, 1], r)
    value = (P - M * P)[0, 1] * quadrant
    value += (M[0, 0] * M[1, 0] * S[0, 0] + M[0, 1] * M[1, 1] * S[1, 1]) * along
    return value + (M[0, 0] * M[1, 1] + M[0, 1] * M[1, 0]) * mixed


def wave(part: Any) -> Formula:
    return lambda p, q, rho: mp.exp(-(p + q) / 2) * part(rho * mp.sqrt(p * q))


def tilted(inner: Formula) -> Formula:
    """exp(-u^2 - v^2) adds 2 to both diagonal entries of the precision matrix."""

    def formula(p: Any, q: Any, rho: Any) -> Any:
        spread = p * q * (1 - rho * rho)
        mass = 1 + 2 * p + 2 * q + 4 * spread
        a, b = (p + 2 * spread) / mass, (q + 2 * spread) / mass
        r = rho * mp.sqrt(p * q) / mass / mp.sqrt(a * b)
        # At rho = 1 the last digit may put r above 1.
        return inner(a, b, max(-1, min(1, r))) / mp.sqrt(mass)

    return formula


CASES: dict[str, tuple[Activation, Formula, Function]] = {
    "identity": (act.identity, lambda p, q, rho: rho * mp.sqrt(p * q), lambda z: z),
    "step": (act.step, order_0, lambda z: 1.0 * (z > 0)),
    "sign": (act.sign, lambda p, q, rho: 2 / mp.pi * mp.asin(rho), np.sign),
    "relu": (act.relu, order_1, lambda z: np.maximum(z, 0)),
    "leaky": (
        act.leaky_relu(sp.Rational(-1, 10)),
        leaky(mp.mpf(-1) / 10),
        lambda z: np.where(z > 0, z, -0.1 * z),
    ),
    "abs": (act.abs_, leaky(-1), np.abs),
    "relu squared": (act.polyrelu(0, 1), order_2, lambda z: np.maximum(z, 0) ** 2),
    "cube": (
        act.monomial(3),
        lambda p, q, rho: mp.sqrt(p * q) ** 3 * (9 * rho + 6 * rho**3),
        lambda z: z**3,
    ),
    "erf": (act.erf, erf_dual, special.erf),
    "gelu": (act.gelu, gelu_dual, lambda z: z * special.ndtr(z)),
    "sin": (act.sin, wave(mp.sinh), np.sin),
    "cos": (act.cos, wave(mp.cosh), np.cos),
    "gaussian": (act.gaussian, tilted(lambda p, q, rho: 1), lambda z: np.exp(-z * z)),
    "bump": (
        Activation("bump", t * sp.exp(-(t**2)) * sp.Heaviside(t)),
        tilted(order_1),
        lambda z: np.maximum(z, 0) * np.exp(-z * z),
    ),
    "gabor": (
        Activation("gabor", sp.cos(t) * sp.exp(-(t**2))),
        tilted(wave(mp.cosh)),
        lambda z: np.cos(z) * np.exp(-z * z),
    ),
}
EXP: Formula = lambda p, q, rho: mp.exp((p + q) / 2 + rho * mp.sqrt(p * q))  # noqa: E731
each = pytest.mark.parametrize("name", CASES)


def exact(formula: Formula, p: float, q: float, rho: float) -> Any:
    """Return the formula at the numbers that the floats are."""
    return mp.mpf(formula(mp.mpf(p), mp.mpf(q), mp.mpf(rho)))


def defect(name: str, p: float, q: float, rho: float, found: float) -> float:
    """Return the error in units of sqrt(E phi(u)^2 E phi(v)^2)."""
    formula = CASES[name][1]
    with mp.workdps(100):
        unit = mp.sqrt(exact(formula, p, p, 1) * exact(formula, q, q, 1))
        return float(abs(found - exact(formula, p, q, rho)) / unit)


@each
def test_the_formulas_are_the_integral(name: str) -> None:
    """In polar coordinates, where what happens at u = 0 and v = 0 lies on rays."""
    _, formula, function = CASES[name]
    p, q, rho = 0.8, 1.7, -0.6
    nodes, weights = np.polynomial.legendre.leggauss(60)
    r = np.concatenate([low + 1.5 + 1.5 * nodes for low in range(0, 12, 3)])
    mass = 1.5 * np.tile(weights, 4) * r * np.exp(-r * r / 2) / (2 * np.pi)
    ray = np.arctan2(-rho, np.sqrt(1 - rho**2)) % np.pi
    rays = np.unique([0, np.pi / 2, 3 * np.pi / 2, 2 * np.pi, ray, ray + np.pi])
    value = 0.0
    for low, half in zip(rays[:-1], np.diff(rays) / 2, strict=True):
        angle = low + half * (1 + nodes[:, None])
        u = np.sqrt(p) * np.cos(angle) * r
        v = np.sqrt(q) * (rho * np.cos(angle) + np.sqrt(1 - rho**2) * np.sin(angle)) * r
        value += half * float(weights @ (function(u) * function(v) @ mass))
    assert float(exact(formula, p, q, rho)) == pytest.approx(value, rel=1e-11)


VARIANCES = [1e-12, 1e-6, 0.3, 1.0, 7.0, 1e6, 1e12]
GAPS = [0.0, 2.0**-52, 1e-15, 1e-9, 1e-4, 0.4, 1.0]
CORRELATIONS = sorted({sign * (1 - gap) for gap in GAPS for sign in (1, -1)})


@each
def test_dual_over_24_decades(name: str) -> None:
    """Ratios of 1e24 and 1e-24, and correlations to the last float before 1 and at 1."""
    phi = CASES[name][0]
    points = list(product(VARIANCES, VARIANCES, CORRELATIONS))
    found = dual(phi, *np.array(points).T)
    assert found.shape == (len(points),)
    worst = max(map(defect, [name] * len(points), *zip(*points, strict=True), found))
    assert worst <= 1e-13 + rounded(name, 1e12)


def rounded(name: str, p: float) -> float:
    """Return what sqrt(p) and sqrt(q), rounded, do to exp(-(sqrt(p) - sqrt(q))^2 / 2)."""
    return EPS * np.sqrt(p) if name in ("sin", "cos") else 0.0


decades = st.floats(-12, 12).map(lambda x: 10.0**x)
gaps = st.one_of(st.floats(-16, 0).map(lambda x: 10.0**x), st.just(0.0))


@each
@settings(max_examples=30)
@given(p=decades, q=decades, gap=gaps, sign=st.sampled_from([1, -1]))
@example(p=1e12, q=1.0, gap=1e-15, sign=1)
@example(p=1e-12, q=1.0, gap=1e-15, sign=-1)
def test_dual_anywhere(name: str, p: float, q: float, gap: float, sign: int) -> None:
    """The same at random, distances from rho = 1 on a log scale."""
    rho = sign * (1 - gap)
    found = float(dual(CASES[name][0], p, q, rho))
    assert defect(name, p, q, rho, found) <= 1e-13 + rounded(name, max(p, q))


@given(p=st.floats(-12, 2.5), q=st.floats(-12, 2.5), rho=st.floats(-1, 1))
def test_dual_of_exp(p: float, q: float, rho: float) -> None:
    """Up to where it overflows; it multiplies the rounding of its exponent."""
    a, b = 10**p, 10**q
    with mp.workdps(50):
        expected = exact(EXP, a, b, rho)
    assert abs(dual(act.exp, a, b, rho) - expected) <= 8 * EPS * (1 + a + b) * expected


def test_opposite_waves_do_not_cancel() -> None:
    """sinh(c) at a covariance of 1e-20, relative to itself."""
    found = dual(act.sin, 1e-12, 1e-12, 1e-8)
    assert abs(found - 1e-20 * np.exp(-1e-12)) <= 8 * EPS * 1e-20


@pytest.mark.parametrize(
    ("phi", "expected"),
    [
        (act.relu, 0.0),
        (act.gelu, 0.0),
        (act.erf, 0.0),
        (act.sin, 0.0),
        (act.monomial(3), 0.0),
        (CASES["bump"][0], 0.0),
        (act.cos, np.exp(-1.5)),  # cos(0) E cos(v)
        (act.exp, np.exp(1.5)),
        (act.gaussian, 1 / np.sqrt(7)),
        (CASES["gabor"][0], np.exp(-3 / 14) / np.sqrt(7)),
        (act.softplus, None),
        (act.tanh, 0.0),
        (act.polynomial(2, 0, 1), 2 * (2 + 3)),
        (Activation("shifted erf", 2 * sp.erf(t / 2) + 1), 1.0),
    ],
)
@pytest.mark.parametrize("rho", [-1.0, -0.5, 0.0, 1.0])
def test_zero_variance(phi: Activation, expected: float | None, rho: float) -> None:
    """u is 0, so that the dual is phi(0) E phi(v), and rho does not matter."""
    if expected is None:
        mean = dual(phi, 3.0, 1e-300, 0.0)  # E phi(v) E phi(u)
        assert dual(phi, 0, 3.0, rho) == pytest.approx(float(mean), rel=1e-12)
        return
    assert dual(phi, 0, 3.0, rho) == pytest.approx(expected, rel=1e-13, abs=1e-300)
    assert dual(phi, 3.0, 0.0, rho) == pytest.approx(expected, rel=1e-13, abs=1e-300)
    at_zero = float(sp.N(phi.expr.subs(x, 0)))
    assert dual(phi, 0, 0, rho) == pytest.approx(at_zero**2, rel=1e-13, abs=1e-300)


@pytest.mark.parametrize("phi", [act.step, act.sign])
def test_zero_variance_at_a_jump_is_the_limit(phi: Activation) -> None:
    """u still has a sign: the dual is that of any variance."""
    for rho in (-1.0, -0.5, 0.0, 1.0):
        assert dual(phi, 0.0, 3.0, rho) == dual(phi, 1.0, 1.0, rho)


@pytest.mark.parametrize("scale", [1e-300, 1e-100, 1e100])
def test_variances_near_the_ends_of_the_floats(scale: float) -> None:
    """GELU is x / 2 near 0 and relu far out; nothing overflows or is nan on the way."""
    limit = 0.25 * scale if scale < 1 else scale / 2
    assert dual(act.gelu, scale, scale, 1.0) == pytest.approx(limit, rel=1e-13)
    assert dual(act.gelu, scale, scale, 0.5) > 0
    assert dual(act.relu, scale, scale, 1.0) == pytest.approx(scale / 2, rel=1e-15)
    assert dual(act.relu, 1e300, 1e-300, 0.0) == pytest.approx(1 / (2 * np.pi))
    assert dual(act.erf, 1e100, 1e100, 1.0) == pytest.approx(1.0, rel=1e-15)
    assert dual(act.gaussian, 0, scale, 0.3) == pytest.approx((1 + 2 * scale) ** -0.5)


SCALES = [1e-12, 1e-3, 0.3, 1.0, 7.0, 1e3, 1e6]
SMALL = [
    1e-30,
    1e-16,
    1e-14,
    1e-8,
    1e-3,
    0.3,
    1.0,
    1.5,
    1.99,
    2 - 1e-9,
    2 - 2.0**-50,
    2.0,
]


def gap_defect(name: str, gap: float, K: float, found: float) -> float:
    """Return the relative error of 1 - C(1 - gap)."""
    formula = CASES[name][1]
    with mp.workdps(140):
        p = mp.mpf(K)
        second = mp.mpf(formula(p, p, mp.mpf(1)))
        expected = 1 - mp.mpf(formula(p, p, 1 - mp.mpf(gap))) / second
        # The rest of cancelling 140 digits is no error of the library's.
        return float(abs(found - expected) / max(abs(expected), mp.mpf("1e-60")))


@each
def test_c_map_gap_from_1e_minus_30_to_2(name: str) -> None:
    """Relative to itself, also near 2, where the C-map of an even function closes again."""
    phi = CASES[name][0]
    gaps, scales = np.meshgrid(SMALL, SCALES)
    found = c_map_gap(phi, gaps, scales)
    assert found.shape == gaps.shape
    for gap, K, value in zip(gaps.flat, scales.flat, found.flat, strict=True):
        assert gap_defect(name, gap, K, value) <= 1e-12


@each
@settings(max_examples=15)
@given(log_gap=st.floats(-30, 0.3), log_K=st.floats(-3, 3), mirrored=st.booleans())
def test_c_map_gap_anywhere(
    name: str, log_gap: float, log_K: float, mirrored: bool
) -> None:
    """Gaps and distances from 2 on a log scale, variances too."""
    gap = 10**log_gap
    gap = max(2 - gap, 0.0) if mirrored else min(gap, 2.0)
    found = float(c_map_gap(CASES[name][0], gap, 10**log_K))
    assert gap_defect(name, gap, 10**log_K, found) <= 1e-12


@pytest.mark.parametrize("name", ["sin", "cos", "gaussian", "erf", "gelu"])
@pytest.mark.parametrize("K", [1e8, 1e19])
def test_c_map_gap_at_large_variances(name: str, K: float) -> None:
    """The C-map falls within gaps of 1 / K, which fixed nodes do not see."""
    gaps = np.array([1e-3 / K, 1 / K, 30 / K, 1e-5, 0.5, 1.0])
    for gap, value in zip(gaps, c_map_gap(CASES[name][0], gaps, K), strict=True):
        assert gap_defect(name, gap, K, value) <= 1e-12


@pytest.mark.parametrize("K", [1e-3, 1.0, 100.0])
def test_c_map_gap_of_exp(K: float) -> None:
    """1 - C = -expm1(-K gap), which NumPy has."""
    gaps = np.array([1e-30, 1e-14, 1e-3, 0.7, 2.0])
    assert c_map_gap(act.exp, gaps, K) == pytest.approx(-np.expm1(-K * gaps), rel=1e-13)


@pytest.mark.parametrize("name", ["erf", "gelu", "sin"])
def test_the_difference_from_one_would_not_do(name: str) -> None:
    """1 - C(rho) is a multiple of 1e-16: this file sees what c_map_gap is for."""
    phi, gaps = CASES[name][0], 2.0**-52 * np.arange(1, 10)  # 1 - gap is a float
    naive, found = 1 - c_map(phi, 1 - gaps), c_map_gap(phi, gaps)
    assert (
        max(gap_defect(name, g, 1.0, y) for g, y in zip(gaps, naive, strict=True))
        > 1e-2
    )
    assert (
        max(gap_defect(name, g, 1.0, y) for g, y in zip(gaps, found, strict=True))
        <= 1e-12
    )


@pytest.mark.parametrize("phi", [act.sin, act.erf, act.tanh, act.monomial(3)])
def test_c_map_of_an_odd_function_is_odd(phi: Activation) -> None:
    """(1 - C(rho)) + (1 - C(-rho)) = 2."""
    gaps = np.array([1e-9, 0.2, 1.0])
    assert c_map_gap(phi, gaps, 2.0) + c_map_gap(phi, 2 - gaps, 2.0) == pytest.approx(2)


EVEN = [
    act.abs_,
    act.cos,
    act.gaussian,
    act.monomial(4),
    Activation("modulus cubed", sp.Abs(t) ** 3),
    Activation("x tanh x", t * sp.tanh(t)),
]


@pytest.mark.parametrize("phi", EVEN)
def test_c_map_gap_of_an_even_function_closes_at_two(phi: Activation) -> None:
    """Opposite inputs are equal ones: C(-rho) = C(rho), to relative accuracy."""
    closing = np.array([2.0**-51, 2.0**-40, 2.0**-20, 0.5])  # 2 - these are floats
    near_zero, near_two = c_map_gap(phi, closing), c_map_gap(phi, 2 - closing)
    assert (near_zero > 0).all()
    assert near_two == pytest.approx(near_zero, rel=1e-12)
    assert c_map_gap(phi, 2.0) == 0


# Without a closed form: the function, its slope, and phi(s + d) - phi(s - d) without
# cancellation.
def tanh_difference(s: np.ndarray, d: np.ndarray) -> np.ndarray:
    return np.sinh(2 * d) / (np.cosh(s + d) * np.cosh(s - d))


def silu_difference(s: np.ndarray, d: np.ndarray) -> np.ndarray:
    sigmoids = special.expit(s + d) + special.expit(s - d)
    change = np.sinh(d) / (2 * np.cosh((s + d) / 2) * np.cosh((s - d) / 2))
    return s * change + d * sigmoids


def softplus_difference(s: np.ndarray, d: np.ndarray) -> np.ndarray:
    size = np.abs(d)
    return np.sign(d) * np.log1p(np.expm1(2 * size) * special.expit(s - size))


OPEN: list[tuple[Activation, Function, Callable[..., np.ndarray]]] = [
    (act.tanh, np.tanh, tanh_difference),
    (act.silu, lambda z: z * special.expit(z), silu_difference),
    (act.softplus, lambda z: np.logaddexp(0, z), softplus_difference),
]


@pytest.mark.parametrize(("phi", "function", "difference"), OPEN)
@pytest.mark.parametrize("K", [0.3, 1.0])
def test_c_map_gap_by_quadrature(
    phi: Activation, function: Function, difference: Callable[..., np.ndarray], K: float
) -> None:
    """Q (1 - C) = E (phi(u) - phi(v))^2 / 2 in the sum and difference, a positive integral."""
    z = np.arange(-9, 9, 1 / 32)
    weight = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    second = weight @ function(np.sqrt(K) * z) ** 2
    gaps = [1e-30, 1e-14, 0.1, 2.0]
    for gap, found in zip(gaps, c_map_gap(phi, gaps, K), strict=True):
        s = np.sqrt(K * (1 - gap / 2)) * z[:, None]
        change = difference(s, np.sqrt(K * gap / 2) * z)
        expected = weight @ change**2 @ weight / (2 * second)
        assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("phi", "function", "slope"),
    [
        (act.tanh, mp.tanh, lambda z: 1 - mp.tanh(z) ** 2),
        (
            act.silu,
            lambda z: z / (1 + mp.exp(-z)),
            lambda z: (1 + mp.exp(-z) * (1 + z)) / (1 + mp.exp(-z)) ** 2,
        ),
        (
            Activation("elu", sp.Piecewise((t, t > 0), (sp.exp(t) - 1, True))),
            lambda z: z if z > 0 else mp.expm1(z),
            lambda z: mp.mpf(1) if z > 0 else mp.exp(z),
        ),
        (
            Activation("shifted relu", sp.Max(0, 2 * t - 1)),
            lambda z: max(2 * z - 1, mp.mpf(0)),
            lambda z: mp.mpf(2) if z > 0.5 else mp.mpf(0),
        ),
    ],
)
def test_the_smallest_gaps_have_the_slope_of_the_c_map(
    phi: Activation, function: Any, slope: Any
) -> None:
    """(1 - C) / gap tends to K E phi'^2 / Q, which is an integral over one variable."""

    def mean(f: Any) -> Any:
        edges = [-12, -6, 0, 0.5, 6, 12]
        return mp.quad(lambda z: f(z) ** 2 * mp.npdf(z), edges)

    with mp.workdps(20):
        expected = float(mean(slope) / mean(function))
    for gap in (1e-14, 1e-30):
        # A kink adds a term of order sqrt(gap).
        allowed = 1e-10 + (np.sqrt(gap) if phi.name == "shifted relu" else 0)
        assert c_map_gap(phi, gap) / gap == pytest.approx(expected, rel=allowed)


@pytest.mark.parametrize(
    "phi",
    [
        Activation("scaled step", sp.Heaviside(-3 * t)),
        Activation("shifted step", sp.Heaviside(2 * t - 1)),
        Activation("shifted relu", sp.Max(0, 2 * t - 1)),
        Activation("square of a step", sp.Heaviside(t) ** 2 * (t + 1)),
        Activation("tanh of relu", sp.tanh(t) * sp.Heaviside(t)),
        Activation("Piecewise", sp.Piecewise((t, t > 0), (sp.exp(t) - 1, True))),
        Activation("two bells", sp.exp(-(t**2)) + sp.exp(-((t - 1) ** 2))),
        act.sigmoid,
        act.gelu_tanh,
        act.hermite(4),
    ],
)
def test_c_map_gap_is_the_difference_where_that_is_known(phi: Activation) -> None:
    """The integral of the slopes' dual, against the dual of the functions."""
    gaps = np.array([0.05, 1.0, 1.7])
    expected = 1 - c_map(phi, 1 - gaps, 0.7)
    assert c_map_gap(phi, gaps, 0.7) == pytest.approx(expected, rel=1e-10)


def test_c_map_is_scale_free_for_homogeneous_functions() -> None:
    """From 1e-300 to 1e300, with K as an array and rho as a column."""
    scales = np.array([1e-300, 1.0, 1e300])
    rho = np.array([[0.3], [-1.0], [1.0]])
    found = c_map(act.relu, rho, scales)
    assert found == pytest.approx(np.repeat(c_map(act.relu, rho), 3, axis=1), abs=1e-15)
    small = c_map_gap(act.relu, 1e-20, scales)
    assert small == pytest.approx(
        np.full(3, float(c_map_gap(act.relu, 1e-20))), rel=1e-14
    )


@st.composite
def kernels(draw: st.DrawFn) -> np.ndarray:
    """Draw kernels with zero, identical and opposite rows, and scales over 12 decades."""
    size, seed = draw(st.sampled_from([1, 2, 5, 17, 40])), draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(size, 3)) * 10.0 ** rng.uniform(-6, 6, size=(size, 1))
    for row in draw(st.lists(st.integers(0, size - 1), max_size=3)):
        X[row] = 0
    for row in draw(st.lists(st.integers(0, size - 1), max_size=3)):
        X[row] = draw(st.sampled_from([1.0, -1.0, -2.0])) * X[0]
    K = X @ X.T
    return (K + K.T) / 2


def smooth(scale: np.ndarray, w: np.ndarray) -> np.ndarray:
    return 1 + 0 * w


def jump(scale: np.ndarray, w: np.ndarray) -> np.ndarray:
    return 1 / np.sqrt(np.maximum(w, EPS))


def narrow(scale: np.ndarray, w: np.ndarray) -> np.ndarray:
    return 1 + scale


# With the size of dC/drho, given sqrt(p q) and 1 - rho^2: rho is rounded, and so is K_ij.
BY_ENTRY: list[tuple[Activation, Callable[..., np.ndarray]]] = [
    (act.relu, smooth),
    (act.gelu, smooth),
    (act.monomial(2), smooth),
    (act.polynomial(1, 2), smooth),
    (Activation("constant", sp.Integer(3)), smooth),
    (act.step, jump),
    (act.erf, jump),
    (act.cos, narrow),
    (CASES["bump"][0], narrow),
]


@settings(max_examples=60)
@given(kernels(), st.sampled_from(BY_ENTRY))
def test_entrywise_is_the_dual_of_each_entry(K: np.ndarray, case: Any) -> None:
    """Exactly symmetric, and each entry the dual of its variances and correlation."""
    phi, steepness = case
    found = entrywise(dual_entry(phi), K)
    variances, rho = np.diagonal(K), correlation(K)
    expected = dual(phi, variances[:, None], variances, rho)
    unit = np.sqrt(np.outer(np.diagonal(expected), np.diagonal(expected)))
    scale = np.sqrt(np.outer(variances, variances))
    assert (found == found.T).all()
    budget = 16 * EPS * unit * steepness(scale, 1 - rho**2)
    np.fill_diagonal(budget, 16 * EPS * np.diagonal(unit))  # rho = 1, without rounding
    assert (np.abs(found - expected) <= budget).all()


def test_entrywise_on_identical_opposite_and_zero_rows() -> None:
    """relu: K / 2 for equal rows, 0 for opposite ones, nothing beside a zero row."""
    X = np.array([[3.0, 4.0], [3.0, 4.0], [-0.6, -0.8], [0.0, 0.0], [4.0, -3.0]])
    cross = 25 / (2 * np.pi)
    expected = [
        [12.5, 12.5, 0, 0, cross],
        [12.5, 12.5, 0, 0, cross],
        [0, 0, 0.5, 0, cross / 5],
        [0, 0, 0, 0, 0],
        [cross, cross, cross / 5, 0, 12.5],
    ]
    found = entrywise(dual_entry(act.relu), X @ X.T)
    assert np.abs(found - expected).max() <= 4 * EPS * 12.5
    assert (found[3] == 0).all()
    steps = entrywise(dual_entry(act.step), X @ X.T)
    assert np.abs(steps[0] - [0.5, 0.5, 0, 0.25, 0.25]).max() <= 4 * EPS
    # A variance of zero is a zero row, and at a jump the mean of both sides counts.
    assert steps[3, 3] == 0.5


@pytest.mark.parametrize("phi", [act.erf, act.gaussian])
@pytest.mark.parametrize("scale", 10.0 ** np.arange(-12, 13))
def test_entrywise_with_shifted_variances(phi: Activation, scale: float) -> None:
    """Equal rows have correlation 1 to all digits, at variances far above the shift too."""
    X = np.random.default_rng(0).normal(size=(6, 12)) * np.sqrt(scale)
    X[1] = X[0]
    K, entry = X @ X.T, dual_entry(phi)
    K[1], K[:, 1] = K[0], K[:, 0]
    K[1, 1] = K[0, 0]
    unit = np.sqrt(np.diagonal(entrywise(Entry(entry.at), K)))
    found, expected = entrywise(entry, K), entrywise(Entry(entry.at), K)
    assert (np.abs(found - expected) <= 1e-12 * np.outer(unit, unit)).all()
    assert entry.shift == 0.5


def test_entrywise_on_the_diagonal_is_at_correlation_one() -> None:
    """sqrt(2)^2 is above 2 by a digit, and asin(1 - eps) is 1e-8 off."""
    found = entrywise(dual_entry(act.step), np.array([[2.0, 1.0], [1.0, 2.0]]))
    assert np.abs(found - [[1 / 2, 1 / 3], [1 / 3, 1 / 2]]).max() <= 2 * EPS


def test_entrywise_by_quadrature() -> None:
    """A function without a closed form takes the same way."""
    K = np.array([[1.0, 0.6, 0.0], [0.6, 2.0, 0.0], [0.0, 0.0, 0.0]])
    found = entrywise(dual_entry(act.tanh), K)
    assert (found == found.T).all()
    assert found[0, 1] == pytest.approx(float(dual(act.tanh, 1, 2, 0.6 / np.sqrt(2))))
    assert (found[2] == 0).all()


def test_arguments_are_broadcast() -> None:
    """Scalars, lists, integers, empty arrays; the result is float64 of the joint shape."""
    for phi in (act.relu, act.tanh, act.monomial(0)):
        found = dual(phi, [[1], [2], [3]], np.ones(4, dtype=int), 0)
        assert found.shape == (3, 4)
        assert found.dtype == np.float64
        assert dual(phi, 1, 1, 1).shape == ()
        assert dual(phi, [], [], 0.5).shape == (0,)
        assert c_map(phi, [0.1, 0.2], [[1.0], [2.0]]).shape == (2, 2)
        assert c_map_gap(phi, np.zeros((2, 1)), [1.0, 2.0]).tolist() == [[0, 0], [0, 0]]
        assert c_map_gap(phi, []).shape == (0,)


BAD: list[tuple[Callable[..., Any], tuple[Any, ...], str]] = [
    (dual, (np.nan, 1, 0), "p must be .* got nan"),
    (dual, (-1e-300, 1, 0), r"p must be finite and in \[0, inf\]; got -1e-300"),
    (dual, (1, [1, np.inf], 0), "q must be .* got inf"),
    (dual, (1, 1, 1.1), r"rho must be finite and in \[-1, 1\]; got 1.1"),
    (dual, (1, 1, np.nextafter(-1, -2)), "rho must be"),
    (c_map, (1.1,), "rho must be .* got 1.1"),
    (c_map, (0.5, 0), "K must be .* got 0"),
    (c_map, (0.5, [1.0, -1.0]), "K must be .* got -1"),
    (c_map_gap, (-1e-30,), r"gap must be finite and in \[0, 2\]; got -1e-30"),
    (c_map_gap, ([0.0, 2.1],), "gap must be .* got 2.1"),
    (c_map_gap, (np.nan,), "gap must be .* got nan"),
    (c_map_gap, (0.1, 0.0), "K must be .* got 0"),
    (c_map_gap, (0.1, np.inf), "K must be .* got inf"),
]


@pytest.mark.parametrize(("function", "arguments", "says"), BAD)
@pytest.mark.parametrize("phi", [act.relu, act.tanh])
def test_bad_arguments_are_named(
    phi: Activation, function: Callable[..., Any], arguments: tuple[Any, ...], says: str
) -> None:
    """With the value, and what it may be."""
    with pytest.raises(ArgumentError, match=says):
        function(phi, *arguments)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ShapeError, match=r"p \(2,\), q \(3,\), rho \(\)"):
        dual(act.relu, [1, 2], [1, 2, 3], 0.5)
    with pytest.raises(ShapeError, match=r"rho \(2,\), K \(3,\)"):
        c_map(act.relu, [0.1, 0.2], [1, 2, 3])
    with pytest.raises(ShapeError, match=r"gap \(2,\), K \(3,\)"):
        c_map_gap(act.relu, [0.1, 0.2], [1, 2, 3])


@pytest.mark.parametrize(
    ("phi", "K", "says"),
    [
        (act.polynomial(), 1.0, "which is 0.0 for"),
        (act.monomial(3), 1e-150, "which is 0.0 for .* K = 1e-150"),
        (act.monomial(3), 1e150, "which is inf for .* K = 1e[+]150"),
        (act.exp, 1000.0, "which is inf for exp"),
    ],
)
def test_a_c_map_needs_a_second_moment(phi: Activation, K: float, says: str) -> None:
    """Neither nan nor a warning where E phi^2 is 0 or overflows."""
    with pytest.raises(ArgumentError, match=says):
        c_map(phi, 0.5, K)
    with pytest.raises(ArgumentError, match=says):
        c_map_gap(phi, 0.5, K)


def test_a_jump_that_quadrature_cannot_differentiate() -> None:
    """Its dual is known, its gap is refused: a jump's slope has no values to sum."""
    phi = Activation("falling", t * sp.Heaviside(1 - 2 * t))
    assert 0 < c_map(phi, 0.5) < 1
    with pytest.raises(UnsupportedError, match="falling jumps"):
        c_map_gap(phi, 0.5)
