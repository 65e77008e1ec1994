"""What the dual of one activation says about depth: Q- and C-map, susceptibilities, Hermite.

For u ~ N(0, K) and, at correlation rho, a second v of the same variance:

    Q(K) = E phi(u)^2,    C(rho) = E phi(u) phi(v) / Q(K),
    chi_parallel = C_W dQ/dK,    chi_perp = C_W E phi'(u)^2.

Everything here is read off theory/gaussian_calculus.py.

Source: Poole et al. (2016) for the C-map; Roberts, Yaida and Hanin (2022), section 5.1, for
the susceptibilities; Martens et al. (2021) for Q- and C-maps by name.
"""

from functools import lru_cache
from typing import Any

import sympy as sp

from asymptest.theory.activations import Activation
from asymptest.theory.errors import ArgumentError, NoClosedFormError
from asymptest.theory.gaussian_calculus import c, moment, p, product_moment, q
from asymptest.theory.pieces import delta, derivative, pieces
from asymptest.theory.piecewise import with_steps, x
from asymptest.theory.substitution import put

K = sp.Symbol("K", positive=True)  # variance of the pre-activations
rho = sp.Symbol("rho", real=True)
C_W = sp.Symbol("C_W", positive=True)  # weight variance


def same_variable(f: sp.Expr, g: sp.Expr) -> sp.Expr:
    """Return E f(u) g(u) for u ~ N(0, K), f and g expressions in x.

    Raises:
        NoClosedFormError: if the calculus has no rule for it.
    """
    try:
        return sp.simplify(moment(sp.expand(with_steps(f) * with_steps(g)), K))
    except NoClosedFormError:
        value: Any = put({p: K, q: K, c: K}, product_moment(f, g).value)
    return sp.simplify(value)


@lru_cache(maxsize=256)
def q_map(phi: Activation) -> sp.Expr:
    """Return Q(K) = E phi(u)^2.

    Raises:
        NoClosedFormError: if there is no closed form.

    >>> from asymptest.theory.activations import relu
    >>> q_map(relu)
    K/2
    """
    return same_variable(phi.expr, phi.expr)


@lru_cache(maxsize=256)
def fourth_moment(phi: Activation) -> sp.Expr:
    """Return E phi(u)^4, which sets the fluctuations at finite width.

    Raises:
        NoClosedFormError: if there is no closed form; for erf and GELU there is none.
    """
    try:
        return sp.simplify(moment(sp.expand(with_steps(phi.expr) ** 4), K))
    except NoClosedFormError:
        raise NoClosedFormError(
            f"no rule reduces E phi(u)^4 for {phi.name}; "
            f"asymptest.numerics.fourth_moment evaluates it"
        ) from None


@lru_cache(maxsize=256)
def slope_moment(phi: Activation) -> sp.Expr:
    """Return E phi'(u)^2.

    Raises:
        NoClosedFormError: if there is no closed form.
        ArgumentError: if phi jumps: the mean is infinite.
    """
    parts = pieces(derivative(phi.expr))
    if any(isinstance(part.base, delta) for part in parts):
        raise ArgumentError(
            f"{phi.name} jumps, so E phi'(u)^2 is infinite; its C-map has the slope "
            f"infinity at 1"
        )
    slope = sp.Add(*(part.coefficient * part.function for part in parts))
    return same_variable(slope, slope)


def derivative_dual(phi: Activation) -> sp.Expr:
    """Return E phi'(u) phi'(v) in p, q, c: by Price's theorem d/dc of the dual.

    Raises:
        NoClosedFormError: if there is no closed form.
    """
    slope = derivative(phi.expr)
    return product_moment(slope, slope).value


def c_map(phi: Activation) -> sp.Expr:
    """Return C(rho) = E phi(u) phi(v) / Q(K) at equal variances K.

    Raises:
        NoClosedFormError: if there is no closed form.

    >>> from asymptest.theory.activations import sign
    >>> c_map(sign)
    2*asin(rho)/pi
    """
    dual = put({p: K, q: K, c: rho * K}, product_moment(phi.expr, phi.expr).value)
    return sp.simplify(dual / _divisor(phi))


def _divisor(phi: Activation) -> sp.Expr:
    second = q_map(phi)
    if second == 0:
        raise ArgumentError(f"{phi.name} is 0, and its C-map would be divided by Q = 0")
    return second


def c_slope(phi: Activation) -> sp.Expr:
    """Return C'(1) = K E phi'(u)^2 / Q(K): above 1, equal inputs separate with depth.

    Raises:
        NoClosedFormError, ArgumentError: as `slope_moment`.
    """
    return sp.simplify(K * slope_moment(phi) / _divisor(phi))


def chi_parallel(phi: Activation) -> sp.Expr:
    """Return C_W dQ/dK, the growth of a small change of the variance in one layer.

    Raises:
        NoClosedFormError: if there is no closed form.
    """
    return sp.simplify(C_W * sp.diff(q_map(phi), K))


def chi_perp(phi: Activation) -> sp.Expr:
    """Return C_W E phi'(u)^2, the growth of a small difference of two inputs.

    Raises:
        NoClosedFormError, ArgumentError: as `slope_moment`.
    """
    return C_W * slope_moment(phi)


@lru_cache(maxsize=1024)
def hermite_coefficient(phi: Activation, k: int) -> sp.Expr:
    """Return E phi(sqrt(K) z) h_k(z), z standard normal, h_k = He_k / sqrt(k!).

    With them E phi(u) phi(v) = sum_k a_k(p) a_k(q) rho^k (Mehler).

    Raises:
        NoClosedFormError: if there is no closed form.

    >>> from asymptest.theory.activations import relu
    >>> hermite_coefficient(relu, 1)
    sqrt(K)/2
    """
    if k < 0:
        raise ArgumentError(f"the degree k must be at least 0; got {k}")
    polynomial = sp.hermite_poly(k, x / sp.sqrt(2 * K)) / sp.sqrt(
        2**k * sp.factorial(k)
    )
    return sp.simplify(moment(sp.expand(phi.expr * polynomial), K))


def homogeneity(phi: Activation) -> sp.Expr | None:
    """Return k if phi(t x) = t^k phi(x) for all t > 0, else None.

    >>> from asymptest.theory.activations import gelu, relu
    >>> homogeneity(relu), homogeneity(gelu)
    (1, None)
    """
    t = sp.Symbol("t", positive=True)
    steps = sp.expand(with_steps(phi.expr))
    if steps == 0:
        return None
    # Euler: x phi' = k phi; a step has no slope away from 0.
    slope = sp.diff(steps, x).replace(sp.DiracDelta, lambda *_: sp.Integer(0))
    k = sp.simplify(x * slope / steps)
    if k.has(x):
        return None
    scaled = steps.subs(x, t * x).replace(
        sp.Heaviside, lambda a, _: sp.Heaviside(sp.cancel(a / t))
    )
    return k if sp.simplify(scaled - t**k * steps) == 0 else None
