"""The conditions of DKS and TAT as expressions, and the leaky ReLU in closed form.

Independent: SciPy's adaptive integrals of the definitions, and mpmath with 30 digits.
"""

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
from scipy import integrate

from asymptest.theory import (
    Activation,
    ArgumentError,
    NoClosedFormError,
    c_map,
    erf,
    exp,
    gaussian,
    identity,
    leaky_relu,
    polynomial,
    relu,
    sign,
    sin,
    step,
    tanh,
)
from asymptest.theory.dual_maps import rho
from asymptest.theory.piecewise import x
from asymptest.theory.shaped_activations import (
    LEAKY,
    Transformed,
    dks_conditions,
    dks_leaky_relu,
    kappa,
    leaky_bend,
    leaky_c_map,
    leaky_depth_law,
    leaky_kappa,
    leaky_slope,
    n,
    s,
    standardised,
    tat_conditions,
    tat_leaky_relu,
)

Function = Callable[[float], float]
CONSTANTS = (
    sp.Rational(3, 5),
    sp.Rational(-1, 4),
    sp.Rational(7, 5),
    sp.Rational(1, 3),
)


def gaussian_mean(f: Function, kinks: tuple[float, ...] = ()) -> float:
    """E f(z) for a standard normal z."""
    value = integrate.quad(
        lambda z: f(z) * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi),
        -12,
        12,
        points=kinks or None,
        epsabs=1e-13,
        epsrel=1e-13,
        limit=500,
    )
    return float(value[0])


# Each as phi, phi', phi'' by hand, and where it is not smooth.
HAND: dict[Activation, tuple[Function, Function, Function, tuple[float, ...]]] = {
    sin: (np.sin, np.cos, lambda t: -np.sin(t), ()),
    exp: (np.exp, np.exp, np.exp, ()),
    gaussian: (
        lambda t: np.exp(-(t**2)),
        lambda t: -2 * t * np.exp(-(t**2)),
        lambda t: (4 * t**2 - 2) * np.exp(-(t**2)),
        (),
    ),
    polynomial(1, -2, 3, 1): (
        lambda t: 1 - 2 * t + 3 * t**2 + t**3,
        lambda t: -2 + 6 * t + 3 * t**2,
        lambda t: 6 + 6 * t,
        (),
    ),
    leaky_relu(sp.Rational(1, 5)): (
        lambda t: t if t > 0 else t / 5,
        lambda t: 1 if t > 0 else 0.2,
        lambda _: 0,
        (0.0,),
    ),
    Activation("elu", sp.Piecewise((x, x > 0), (sp.exp(x) - 1, True))): (
        lambda t: t if t > 0 else np.exp(t) - 1,
        lambda t: 1 if t > 0 else np.exp(t),
        lambda t: 0 if t > 0 else np.exp(t),
        (0.0,),
    ),
}


@pytest.mark.parametrize("phi", HAND)
def test_conditions_are_integrals_of_the_definitions(phi: Activation):
    """At constants that fulfil none of them, so that each has a value to be wrong about."""
    a, b, g, d = map(float, CONSTANTS)
    value, slope, bend, kinks = HAND[phi]
    at = tuple((kink - b) / a for kink in kinks)
    shaped = Transformed(phi, *CONSTANTS)

    def hat(z: float) -> float:
        return g * (value(a * z + b) + d)

    def hat_slope(z: float) -> float:
        return g * a * slope(a * z + b)

    found = dks_conditions(shaped.expr, sp.Rational(1, 3))
    growth = gaussian_mean(lambda z: hat(z) * hat_slope(z) * z, at)
    expected = {
        "Q(1)": gaussian_mean(lambda z: hat(z) ** 2, at) - 1,
        "Q'(1)": growth - 1,
        "C(0)": gaussian_mean(hat, at) ** 2,
        "C'(1)": gaussian_mean(lambda z: hat_slope(z) ** 2, at) - 1 / 3,
    }
    assert {k: float(v) for k, v in found.items()} == pytest.approx(expected, abs=1e-10)
    if phi.name.startswith("leaky"):
        return
    found = tat_conditions(shaped.expr, sp.Rational(1, 3))
    del expected["C(0)"]
    expected["C'(1)"] -= 2 / 3
    curvature = gaussian_mean(lambda z: (g * a**2 * bend(a * z + b)) ** 2, at)
    expected["C''(1)"] = curvature - 1 / 3
    assert {k: float(v) for k, v in found.items()} == pytest.approx(expected, abs=1e-10)


def test_what_has_no_closed_form_says_so():
    """erf with a shift has an Owen T function, tanh nothing at all."""
    for phi in (erf, tanh):
        with pytest.raises(NoClosedFormError, match="no rule"):
            dks_conditions(Transformed(phi, *CONSTANTS).expr, 1)


@pytest.mark.parametrize("phi", [step, sign])
def test_a_jump_has_no_slope(phi: Activation):
    """C'(1) is infinite, and so is C''(1)."""
    with pytest.raises(ArgumentError, match="slope infinity"):
        dks_conditions(phi.expr, 1)
    with pytest.raises(ArgumentError, match="curvature infinity"):
        tat_conditions(phi.expr, 1)


def test_a_kink_has_no_curvature():
    """1 - C(1 - d) has a term d^(3/2)."""
    for phi in (relu, leaky_relu(sp.Rational(1, 2))):
        with pytest.raises(ArgumentError, match="curvature infinity"):
            tat_conditions(phi.expr, 1)


def test_a_transformed_activation_is_what_it_says():
    """The order of scales and shifts, with numbers and with symbols."""
    shaped = Transformed(sin, 2.0, 0.5, 3.0, -0.25)
    assert shaped.activation.name == "shaped sin"
    value: Any = shaped.activation.expr.subs(x, 0.7)
    assert float(value) == pytest.approx(3 * (np.sin(2 * 0.7 + 0.5) - 0.25), rel=1e-15)
    a, b, g, d = sp.symbols("a b g d")
    assert Transformed(sin, a, b, g, d).expr == g * (sp.sin(a * x + b) + d)
    assert Transformed(sin).activation.expr == sp.sin(x)


def test_standardised_has_the_mean_and_the_variance():
    """For an expression with a symbol in it."""
    scale, shift = standardised(LEAKY)
    mean = sp.sqrt(2) * (1 - s) / (2 * sp.sqrt(sp.pi))
    assert sp.simplify(shift + mean) == 0
    assert sp.simplify(1 / scale**2 - ((1 + s**2) / 2 - mean**2)) == 0
    assert standardised(identity.expr) == (1, 0)


# --- leaky ReLU -----------------------------------------------------------------------

SLOPES = [-1, sp.Rational(-1, 3), 0, sp.Rational(1, 100), sp.Rational(1, 2), 3]


@pytest.mark.parametrize("slope", SLOPES)
def test_a_leaky_relu_for_dks_fulfils_its_conditions(slope: Any):
    """Q'(1) = 1 without having been asked for, and C'(1) = 1 / (1 - kappa), exactly."""
    bend: Any = leaky_kappa().subs(s, slope)
    shaped = dks_leaky_relu(slope)
    left = dks_conditions(shaped.expr, 1 / (1 - bend))
    assert {name: sp.simplify(value) for name, value in left.items()} == dict.fromkeys(
        left, 0
    )
    mixed: Any = (leaky_c_map().subs(s, slope) - bend) / (1 - bend)
    gap: Any = c_map(shaped.activation).subs(sp.Symbol("K", positive=True), 1) - mixed
    for at in (-1, sp.Rational(-2, 5), 0, sp.Rational(9, 10), 1):
        assert abs(sp.N(gap.subs(rho, at), 30, chop=True)) < 1e-25


@pytest.mark.parametrize("slope", SLOPES)
def test_a_leaky_relu_for_tat_keeps_every_variance(slope: Any):
    """E phi(sqrt(q) u)^2 = q, C'(1) = 1 and C(0) = kappa."""
    shaped = tat_leaky_relu(slope)
    left = dks_conditions(shaped.expr, 1)
    assert [sp.simplify(left[name]) for name in ("Q(1)", "Q'(1)", "C'(1)")] == [0, 0, 0]
    assert sp.simplify(left["C(0)"] - leaky_kappa().subs(s, slope)) == 0


def test_the_bend_is_the_one_of_the_literature():
    """sqrt(1 - c^2) - c arccos c (Cho and Saul, 2009), and kappa (1 - s)^2 / (pi (1 + s^2))."""
    printed = sp.sqrt(1 - rho**2) - rho * sp.acos(rho)
    assert sp.simplify(leaky_bend() - printed) == 0
    assert sp.simplify(leaky_kappa() - (1 - s) ** 2 / (sp.pi * (1 + s**2))) == 0
    whole = leaky_c_map() - (rho + leaky_kappa() * printed)
    for at in (-1, sp.Rational(-1, 2), sp.Rational(1, 3), 1):
        value = whole.subs({rho: at, s: sp.Rational(2, 7)})
        assert abs(sp.N(value, 30, chop=True)) < 1e-25


def test_the_slope_inverts_kappa():
    """As an identity; and from the identity over ReLU to the modulus."""
    assert sp.simplify(leaky_kappa().subs(s, leaky_slope(kappa)) - kappa) == 0
    ends = [leaky_slope(k / sp.pi) for k in (0, 1, 2)]
    assert ends == [1, 0, -1]


@pytest.mark.parametrize("exponent", [1, 4, 8, 12, 15])
def test_the_slope_keeps_its_digits_in_floats(exponent: int):
    """Near kappa = 0 and on both sides of ReLU's 1/pi, against mpmath."""
    for bend in (10.0**-exponent, 1 / np.pi - 10.0**-exponent, 1 / np.pi):
        with mpmath.workdps(50):
            m = 1 - mpmath.pi * mpmath.mpf(bend)
            exact = mpmath.tan(mpmath.asin(m) / 2)
        assert float(leaky_slope(bend)) == pytest.approx(float(exact), rel=0, abs=4e-16)
        if exponent < 8 and exact > 0:  # and it is 1 - s that matters
            assert 1 - float(leaky_slope(bend)) == pytest.approx(
                float(1 - exact), rel=1e-9
            )


@pytest.mark.parametrize(("slope", "start"), [(0, 0.0), (0, -0.9), (0.3, 0.9)])
def test_the_depth_law_is_what_a_composition_tends_to(slope: float, start: float):
    """n^2 (1 - C_n(c)) at 10^4 layers: 44.25 for ReLU, on the way to 9 pi^2 / 2 = 44.41."""
    bend = float(leaky_kappa().subs(s, slope))
    law: Any = leaky_depth_law().subs({kappa: bend, n: 1})
    with mpmath.workdps(30):
        c = mpmath.mpf(start)
        for _ in range(10**4):
            c += bend * (mpmath.sqrt(1 - c**2) - c * mpmath.acos(c))
        measured = float((1 - c) * 10**8)
    # y = d^(-1/2) starts at (1 - c)^(-1/2) and gains a + b / y a layer, 0 < b < 4 a^2.
    a = bend * 2**0.5 / 3
    late = (1 - start) ** -0.5 + 4 * a * (1 + np.log(10**4))
    assert measured == pytest.approx(float(law), rel=2 * late / (a * 10**4))
    assert measured < float(law)
    if (slope, start) == (0, 0.0):
        assert float(law) == pytest.approx(4.5 * np.pi**2, rel=1e-15)
        assert measured == pytest.approx(44.25, abs=0.01)
