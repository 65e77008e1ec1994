"""Critical initialisations, against fixed points found with mpmath and known constants.

The constants are those of Roberts, Yaida and Hanin (2022), chapter 5: ReLU, leaky ReLU,
tanh, sin, and GELU's K* = (3 + sqrt 17) / 2. What is not in the book is solved here from the
definition, with integrals over z and none of the rules that the library uses.
"""

from collections.abc import Callable
from math import gamma, pi, prod, sqrt
from typing import Any

import mpmath
import pytest
import sympy as sp

from asymptest.numerics import dual_maps
from asymptest.theory import activations as act
from asymptest.theory.activations import Activation
from asymptest.theory.criticality import (
    Criticality,
    Universality,
    criticality,
    mismatch,
    near_zero,
)
from asymptest.theory.dual_maps import K
from asymptest.theory.errors import NoClosedFormError

t = sp.Symbol("t")
mp = mpmath.MPContext()  # of its own: the precision is nobody else's
mp.dps = 25
Function = Callable[[Any], Any]


def mean(function: Function, variance: Any) -> Any:
    """Return E function(u), u ~ N(0, variance)."""
    size = mp.sqrt(variance)
    weight = mp.sqrt(2 * mp.pi)
    return mp.quad(
        lambda z: function(size * z) * mp.exp(-z * z / 2) / weight, range(-12, 13, 3)
    )


def gelu(z: Any) -> Any:
    return z * mp.ncdf(z)


def gelu_slope(z: Any) -> Any:
    return mp.ncdf(z) + z * mp.npdf(z)


def gelu_bend(z: Any) -> Any:
    return (2 - z * z) * mp.npdf(z)


@pytest.mark.parametrize(
    "phi",
    [
        Activation("threshold", sp.Max(0, t - 1)),
        Activation("shrinkage", sp.sign(t) * sp.Max(0, sp.Abs(t) - sp.Rational(1, 2))),
    ],
)
def test_a_line_of_critical_points(phi: Activation) -> None:
    """E phi phi'' = 0 where phi is linear between kinks at which it vanishes."""
    found = criticality(phi)
    assert found.universality is Universality.LINE
    assert found.K_star == K
    C_b, C_W = (float(sp.N(sp.sympify(v).subs(K, 2))) for v in (found.C_b, found.C_W))
    assert C_b > 0
    assert C_W * float(dual_maps.chi_perp(phi, 2.0)) == pytest.approx(1, rel=1e-12)
    assert C_W * float(dual_maps.chi_parallel(phi, 2.0)) == pytest.approx(1, rel=1e-9)
    assert C_b + C_W * float(dual_maps.q_map(phi, 2.0)) == pytest.approx(2, rel=1e-12)


@pytest.mark.parametrize(
    ("phi", "C_W"),
    [
        (Activation("relu6", sp.Min(6, sp.Max(0, t))), 2),
        (Activation("hard tanh", sp.Max(-1, sp.Min(1, t))), 1),
    ],
)
def test_a_drift_below_every_power_is_seen(phi: Activation, C_W: int) -> None:
    """K' - K is -exp(-18 / K) K at small K: no number of digits shows it at K = 1e-8."""
    found = criticality(phi)
    assert (found.universality, found.C_W) == (Universality.ZERO, C_W)


def test_gelu_is_half_stable() -> None:
    """K* is the zero of E phi phi'', and C_W, C_b follow, to 20 digits."""
    found = criticality(act.gelu)
    assert found.universality is Universality.HALF_STABLE
    assert found.K_star == (3 + sp.sqrt(17)) / 2
    K_star = mp.findroot(lambda s: mean(lambda z: gelu(z) * gelu_bend(z), s), 3.5)
    C_W = 1 / mean(lambda z: gelu_slope(z) ** 2, K_star)
    C_b = K_star - C_W * mean(lambda z: gelu(z) ** 2, K_star)
    expected = (K_star, C_W, C_b)
    for value, wanted in zip(
        (found.K_star, found.C_W, found.C_b), expected, strict=True
    ):
        assert abs(mp.mpf(str(sp.N(value, 25))) - wanted) < mp.mpf("1e-20")
    # s_1 = 1/2, s_2 = 2 / sqrt(2 pi), s_3 = 0
    assert (found.a_1, found.b_1) == (6 / sp.pi, 8 / sp.pi)


@pytest.mark.parametrize(
    ("phi", "C_W"),
    [
        (act.identity, 1),
        (act.relu, 2),
        (act.abs_, 1),
        (act.leaky_relu(sp.Rational(1, 10)), sp.Rational(200, 101)),
        (act.leaky_relu(-2), sp.Rational(2, 5)),
        (Activation("scaled", sp.Max(0, -3 * t)), sp.Rational(2, 9)),
    ],
)
def test_scale_invariant(phi: Activation, C_W: Any) -> None:
    """C_W = 2 / (a_+^2 + a_-^2), C_b = 0, and every K is critical."""
    expected = Criticality(Universality.SCALE_INVARIANT, sp.S.Zero, sp.sympify(C_W), K)
    assert criticality(phi) == expected


@pytest.mark.parametrize(
    ("phi", "C_W", "a_1", "b_1"),
    [
        (act.tanh, 1, -2, -2),
        (act.sin, 1, -1, -1),
        (act.erf, sp.pi / 4, -2, -2),
        (act.hermite(3), sp.Rational(2, 3), -2, -2),
        # s_2 / s_1 = 1, s_3 / s_1 = -6
        (act.polynomial(0, 2, 1, -2), sp.Rational(1, 4), sp.Rational(-21, 4), -5),
        (Activation("x bell", t * sp.exp(-(t**2))), 1, -6, -6),
        (Activation("kink elsewhere", sp.sin(t) + sp.Max(0, t - 1)), 1, -1, -1),
    ],
)
def test_critical_at_zero(phi: Activation, C_W: Any, a_1: Any, b_1: Any) -> None:
    """C_W = 1 / phi'(0)^2, and K decays because a_1 < 0."""
    found = criticality(phi)
    assert found.universality is Universality.ZERO
    assert (found.K_star, found.C_b, found.C_W) == (0, 0, C_W)
    assert (found.a_1, found.b_1) == (a_1, b_1)


@pytest.mark.parametrize(
    ("phi", "function"),
    [
        (act.tanh, mp.tanh),
        (act.erf, mp.erf),
        (act.gelu, gelu),
        (act.silu, lambda z: z / (1 + mp.exp(-z))),
        (act.polynomial(0, 2, 1, -2), lambda z: 2 * z + z * z - 2 * z**3),
    ],
    ids=lambda value: value.name if isinstance(value, Activation) else "",
)
def test_expansion_at_zero(phi: Activation, function: Function) -> None:
    """K' - K = a_1 K^2 and chi_perp - 1 = b_1 K, both up to a factor 1 + O(K).

    The slope is a difference quotient of fourth order, of the function itself.
    """
    found = near_zero(phi)
    assert found is not None
    C_W, a_1, b_1 = (mp.mpf(str(sp.N(value, 25))) for value in found)
    variance = mp.mpf("1e-8")

    def slope(z: Any) -> Any:
        h = mp.mpf("1e-7")
        return (8 * function(z + h) - 8 * function(z - h)) / (12 * h) - (
            function(z + 2 * h) - function(z - 2 * h)
        ) / (12 * h)

    change = C_W * mean(lambda z: function(z) ** 2, variance) / variance - 1
    assert abs(change / variance - a_1) < 1e-5
    change = C_W * mean(lambda z: slope(z) ** 2, variance) - 1
    assert abs(change / variance - b_1) < 1e-5


@pytest.mark.parametrize(
    "phi",
    [
        act.cos,
        act.exp,
        act.gaussian,
        act.step,
        act.sign,
        act.monomial(2),
        act.monomial(3),
        act.polyrelu(1, 1),
        act.polyrelu(1, 2, 3),
        act.polyrelu(0, 1),
        act.polynomial(1, 2, 3),
        act.polynomial(1, 1),
        Activation("jump", sp.Heaviside(t - 1) + t),
        Activation("Phi", (1 + sp.erf(t)) / 2),
        Activation("constant", sp.Integer(3)),
    ],
)
def test_no_critical_point(phi: Activation) -> None:
    """E phi phi'' has one sign, or phi jumps, or C_b would have to be negative."""
    found = criticality(phi)
    assert found.universality is Universality.NONE
    assert (found.C_b, found.C_W, found.K_star) == (None, None, None)


@pytest.mark.parametrize(
    "coefficients", [(1, 1), (1, 2, 3), (0, 1, 1), (2, 0, 5), (0, 3)]
)
def test_polyrelu_is_never_critical(coefficients: tuple[int, ...]) -> None:
    """chi_par - chi_perp = sum_ij a_i a_j m_(i+j-2) (i(i-1) + j(j-1)) / 2 K^((i+j)/2 - 1).

    With m_p = E relu(z)^p = 2^(p/2 - 1) Gamma((p + 1) / 2) / sqrt(pi); it is positive for
    coefficients that are not negative, unless all but the first vanish.
    """
    difference = mismatch(act.polyrelu(*coefficients))
    a = dict(enumerate(coefficients, 1))
    for s in (0.01, 1.0, 30.0):
        expected = sum(
            a[i]
            * a[j]
            * half_moment(i + j - 2)
            * (i * (i - 1) + j * (j - 1))
            / 2
            * s ** ((i + j) / 2 - 1)
            for i in a
            for j in a
        )
        assert float(difference.subs(K, s)) == pytest.approx(expected, rel=1e-12)
    assert difference.is_positive


@pytest.mark.parametrize("phi", [act.silu, act.softplus, act.gelu_tanh])
def test_what_needs_quadrature_says_where_to_go(phi: Activation) -> None:
    """With a_1 > 0, or none, a K* > 0 has to be looked for."""
    with pytest.raises(NoClosedFormError, match=r"numerics"):
        criticality(phi)


def test_zeros_that_are_no_roots_of_a_polynomial_say_where_to_go() -> None:
    """E phi phi'' of x^2 sin x holds exp(K) beside K."""
    phi = Activation("sine times square", t**2 * sp.sin(t))
    with pytest.raises(NoClosedFormError, match=r"sine times square.*numerics"):
        criticality(phi)


@pytest.mark.parametrize(
    "phi",
    [
        act.relu,  # a kink
        act.cos,  # phi(0) = 1
        act.monomial(3),  # phi'(0) = 0
        Activation("bump", t * sp.exp(-(t**2)) * sp.Heaviside(t)),
        Activation("spline", t * sp.Abs(t) + t),
    ],
)
def test_what_is_not_critical_at_zero(phi: Activation) -> None:
    """It must be smooth at 0 and vanish there, but not its slope."""
    assert near_zero(phi) is None


def half_moment(power: int) -> float:
    return 2 ** (power / 2 - 1) * gamma((power + 1) / 2) / sqrt(pi)


def polynomial_mean(a: list[Any], b: list[Any]) -> list[Any]:
    """Return E f(u) g(u) as coefficients in K, for coefficients in u."""
    value = [0] * ((len(a) + len(b)) // 2)
    for i, left in enumerate(a):
        for j, right in enumerate(b):
            if (i + j) % 2 == 0:
                value[(i + j) // 2] += left * right * prod(range(i + j - 1, 0, -2))
    return value


@pytest.mark.parametrize(
    "coefficients",
    [
        (-4, 2, 2, -3, 1),
        (-2, 4, 2, -3, 2, 2),
        (-1, 2, 4, 4, -3, -4),
        (-1, 2, -3, 0, 4, -1),
        (-1, 0, -1, 0, 3, 0, -1),
        (1, -4, 3, 2, 0, 1, -4),
        (3, 3, -4, -2, -4, 0, 4),
    ],
)
def test_critical_points_of_polynomials(coefficients: tuple[int, ...]) -> None:
    """The smallest root of E phi phi'' with C_b >= 0, also where it is no radical."""
    phi = list(coefficients)
    slope = [k * a for k, a in enumerate(phi)][1:]
    bend = [k * a for k, a in enumerate(slope)][1:]
    roots = mp.polyroots(polynomial_mean(phi, bend)[::-1], maxsteps=200, extraprec=200)
    critical = []
    for root in roots:
        if abs(mp.im(root)) < 1e-15 and mp.re(root) > 0:
            C_W = 1 / mp.polyval(polynomial_mean(slope, slope)[::-1], mp.re(root))
            Q = mp.polyval(polynomial_mean(phi, phi)[::-1], mp.re(root))
            if mp.re(root) - C_W * Q >= 0:
                critical.append((mp.re(root), C_W, mp.re(root) - C_W * Q))
    found = criticality(act.polynomial(*coefficients))
    assert found.universality is Universality.HALF_STABLE
    values = (found.K_star, found.C_W, found.C_b)
    for value, wanted in zip(values, min(critical), strict=True):
        assert abs(mp.mpf(str(sp.N(value, 25))) - wanted) < mp.mpf("1e-20")
