"""Enclosures of what has no closed form, against integrals by mpmath at 30 digits.

For piecewise linear functions mpmath integrates f(u) times E[g(v) | u], which is known. For
smooth ones it is a plain trapezoidal sum over the plane.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import mpmath
import pytest
import sympy as sp
from flint import arb, ctx
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath import mpf

from asymptest.numerics.enclosure import dual_enclosure
from asymptest.theory import activations
from asymptest.theory.piecewise import x

hard_tanh = sp.Min(1, sp.Max(-1, x))
shifted_relu = (x - sp.sqrt(2)) * sp.Heaviside(x - sp.sqrt(2))

variances = st.floats(-2, 2).map(lambda e: 10.0**e)
# The distance to ±1 on a log scale: layers of width sqrt(1 - rho^2) lie at the kinks.
correlations = st.builds(
    lambda sign, gap: sign * (1 - gap),
    st.sampled_from([-1.0, 1.0]),
    st.one_of(st.floats(-16, 0).map(lambda e: 10.0**e), st.just(0.0)),
)


def sine(rho: Any) -> Any:
    return mpmath.sqrt((1 - rho) * (1 + rho))


def clipped_mean(m: Any, w: Any) -> Any:
    """Return E hard_tanh(m + w z)."""
    if w == 0:
        return max(-1, min(1, m))

    def ramp(a: Any) -> Any:  # E (m + w z - a)+
        t = (m - a) / w
        return (m - a) * mpmath.ncdf(t) + w * mpmath.npdf(t)

    return -1 + ramp(mpf(-1)) - ramp(mpf(1))


def ramp_mean(m: Any, w: Any) -> Any:
    """Return E shifted_relu(m + w z)."""
    a = m - mpmath.sqrt(2)
    if w == 0:
        return max(0, a)
    return a * mpmath.ncdf(a / w) + w * mpmath.npdf(a / w)


PIECEWISE = {
    "hard tanh": (hard_tanh, clipped_mean),
    "shifted relu": (shifted_relu, ramp_mean),
}


@pytest.mark.parametrize("name", PIECEWISE)
@settings(max_examples=12)
@example(p=1.0, q=1.0, rho=1 - 1e-9)
@example(p=1.0, q=1.0, rho=1.0)
@example(p=23.669562849057524, q=0.03071604686367132, rho=1.0)
@given(p=variances, q=variances, rho=correlations)
def test_kinks_away_from_zero(name: str, p: float, q: float, rho: float) -> None:
    expr, given_u = PIECEWISE[name]
    with mpmath.workdps(30), ctx.workprec(300):
        kinks = [-1, 1] if name == "hard tanh" else [mpmath.sqrt(2)]
        sigma, slope = mpmath.sqrt(p), mpf(rho) * mpmath.sqrt(mpf(q) / p)
        w = mpmath.sqrt(q) * sine(mpf(rho))

        def integrand(u: Any) -> Any:
            return given_u(u, mpf(0)) * given_u(slope * u, w) * mpmath.npdf(u, 0, sigma)

        # Layers of width w / slope lie where v crosses a kink.
        ends = {-14 * sigma, mpf(0), 14 * sigma, *map(mpf, kinks)}
        if slope:
            layers = product(kinks, (-12, -4, -1, 0, 1, 4, 12))
            ends |= {(kink + k * w) / slope for kink, k in layers}
        inside = sorted(end for end in ends if abs(end) <= 14 * sigma)
        truth = mpmath.quad(integrand, inside)
        value = dual_enclosure(expr, expr, p, q, rho)
        assert abs(value - arb(truth)).lower() <= 1e-14
        norm = arb(mpmath.sqrt(p * q)) if name == "shifted relu" else arb(1)
        assert value.rad() <= 1e-10 * norm


def plane_sum(f: Callable[[Any], Any], p: Any, q: Any, rho: Any) -> Any:
    """Return E f(u) f(v) by the trapezoidal rule: exp(-2 pi a / h) is below 1e-24 here."""
    h, reach = mpf(1) / 8, 88
    weights = [mpmath.exp(-((k * h) ** 2) / 2) for k in range(reach + 1)]
    first = {
        k: weights[abs(k)] * f(mpmath.sqrt(p) * k * h) for k in range(-reach, reach + 1)
    }
    a, b = mpmath.sqrt(q) * rho * h, mpmath.sqrt(q) * sine(rho) * h
    total = mpf(0)
    for i, weighted in first.items():
        conditional = (
            weights[abs(j)] * f(a * i + b * j)
            for j in range(-reach, reach + 1)
            if i * i + j * j <= reach * reach
        )
        total += weighted * mpmath.fsum(conditional)
    return total * h * h / (2 * mpmath.pi)


def gelu_tanh(t: Any) -> Any:
    inner = mpmath.sqrt(2 / mpmath.pi) * (t + mpf(44715) / 10**6 * t**3)
    return t * (1 + mpmath.tanh(inner)) / 2


NO_CLOSED_FORM: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "tanh": (activations.tanh.expr, mpmath.tanh),
    "sigmoid": (
        activations.sigmoid.expr,
        lambda t: 1 / (1 + mpmath.exp(-t)),
    ),
    "silu": (activations.silu.expr, lambda t: t / (1 + mpmath.exp(-t))),
    "softplus": (
        activations.softplus.expr,
        lambda t: mpmath.log1p(mpmath.exp(t)),
    ),
    "gelu": (activations.gelu.expr, lambda t: t * mpmath.ncdf(t)),
    "gelu_tanh": (activations.gelu_tanh.expr, gelu_tanh),
}


@pytest.mark.parametrize("name", NO_CLOSED_FORM)
@pytest.mark.parametrize("rho", [0.5, -0.999])
def test_what_has_no_closed_form_is_enclosed(name: str, rho: float) -> None:
    expr, function = NO_CLOSED_FORM[name]
    p, q = 0.75, 1.0
    with mpmath.workdps(30), ctx.workprec(300):
        truth = arb(plane_sum(function, mpf(p), mpf(q), mpf(rho)))
        value = dual_enclosure(expr, expr, p, q, rho, accuracy=1e-20)
        assert abs(value - truth).lower() <= 1e-22  # what the sum itself is off by
        assert value.rad() <= 1e-20
