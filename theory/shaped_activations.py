r"""Shaped activations: what Deep Kernel Shaping and Tailored Activation Transformations ask.

An activation is transformed to

    phi_hat(x) = output_scale (phi(input_scale x + input_shift) + output_shift),

and with Q(q) = E phi_hat(sqrt(q) u)^2 and, at unit variances and correlation c,
C(c) = E phi_hat(u) phi_hat(v), the methods ask for

    DKS          Q(1) = Q'(1) = 1,  C(0) = 0,  and C_f'(1) = zeta at most over subnetworks f
    TAT          Q(1) = Q'(1) = 1,  C'(1) = 1, and C_f''(1) = tau at most
    TAT, leaky   phi_hat = sqrt(2 / (1 + s^2)) LReLU_s, and C_f(0) = eta at most

By Price's theorem C'(1) = E phi_hat'(u)^2 and C''(1) = E phi_hat''(u)^2. All of it is read off
theory/gaussian_calculus.py; theory/subnetworks.py has the maxima, and
numerics/shaped_activations.py solves the equations.

A leaky ReLU needs no input scale and no input shift. Its C-map, normalised as for TAT, is

    C(c) = c + kappa g(c),  g(c) = sqrt(1 - c^2) - c arccos c,  kappa = C(0),

and centred as for DKS (C - kappa) / (1 - kappa), whose slope at 1 is 1 / (1 - kappa).

Source: Martens et al. (2021), arXiv 2110.01765; Zhang et al. (2022), arXiv 2203.08120.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp

from asymptest.theory.activations import Activation, leaky_relu
from asymptest.theory.dual_maps import K, rho, same_variable
from asymptest.theory.errors import ArgumentError
from asymptest.theory.gaussian_calculus import c, moment, p, product_moment, q
from asymptest.theory.pieces import derivative, jumps
from asymptest.theory.piecewise import x
from asymptest.theory.substitution import expression, put

Number = float | sp.Expr

s = sp.Symbol("s", nonnegative=True)  # slope of a leaky ReLU for x < 0
kappa = sp.Symbol("kappa", positive=True)
n = sp.Symbol("n", positive=True)  # layers


@dataclass(frozen=True)
class Transformed:
    """output_scale (phi(input_scale x + input_shift) + output_shift)."""

    phi: Activation
    input_scale: Number = 1
    input_shift: Number = 0
    output_scale: Number = 1
    output_shift: Number = 0

    @property
    def expr(self) -> sp.Expr:
        """The transformed activation as an expression in x; the constants may be symbols."""
        inside = self.input_scale * x + self.input_shift
        value: Any = self.phi.expr.subs(x, inside) + self.output_shift
        return expression(self.output_scale, "output_scale") * value

    @property
    def activation(self) -> Activation:
        """The transformed activation, if all constants are numbers."""
        return Activation(f"shaped {self.phi.name}", self.expr)


def dks_conditions(phi: sp.Expr, slope: Number) -> dict[str, sp.Expr]:
    """Return what must vanish for a transformed activation to be shaped by DKS.

    Args:
        phi: an expression in x.
        slope: C'(1), which theory/subnetworks.py turns into zeta.

    Raises:
        NoClosedFormError: if the calculus has no rule for a moment.
        ArgumentError: if phi jumps: C'(1) is infinite.
    """
    if jumps(phi):
        raise ArgumentError(f"{phi} jumps, so its C-map has the slope infinity at 1")
    return _variance(phi) | {
        "C(0)": _at_one(moment(phi, K)) ** 2,
        "C'(1)": _mean_square(derivative(phi)) - slope,
    }


def tat_conditions(phi: sp.Expr, curvature: Number) -> dict[str, sp.Expr]:
    """Return what must vanish for a transformed activation to be shaped by TAT.

    Args:
        phi: an expression in x.
        curvature: C''(1), which theory/subnetworks.py turns into tau.

    Raises:
        NoClosedFormError: if the calculus has no rule for a moment.
        ArgumentError: if phi or its slope jumps: C''(1) is infinite.
    """
    slope = derivative(phi)
    if jumps(phi) or jumps(slope):
        raise ArgumentError(
            f"the slope of {phi} jumps, so its C-map has the curvature infinity at 1"
        )
    return _variance(phi) | {
        "C'(1)": _mean_square(slope) - 1,
        "C''(1)": _mean_square(derivative(slope)) - curvature,
    }


def _variance(phi: sp.Expr) -> dict[str, sp.Expr]:
    second = same_variable(phi, phi)
    return {
        "Q(1)": _at_one(second) - 1,
        "Q'(1)": _at_one(sp.diff(second, K)) - 1,
    }


def _mean_square(f: sp.Expr) -> Any:
    return _at_one(same_variable(f, f))


def _at_one(value: Any) -> Any:
    return put({K: 1}, value)


def standardised(phi: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """Return output scale and shift with which an expression in x has Q(1) = 1, C(0) = 0."""
    mean = _at_one(moment(phi, K))
    return 1 / sp.sqrt(sp.factor(_mean_square(phi) - mean**2)), -mean


# --- leaky ReLU -----------------------------------------------------------------------

LEAKY = s * x + (1 - s) * x * sp.Heaviside(x)


def tat_leaky_relu(slope: Number) -> Transformed:
    """Return LReLU with E phi(u)^2 = u^2: its output scale is sqrt(2 / (1 + slope^2)).

    >>> tat_leaky_relu(0).output_scale
    sqrt(2)
    """
    phi = leaky_relu(slope)
    return Transformed(phi, output_scale=1 / sp.sqrt(_mean_square(phi.expr)))


def dks_leaky_relu(slope: Number) -> Transformed:
    """Return LReLU with Q(1) = 1 and C(0) = 0, for which Q'(1) = 1 holds by itself.

    >>> dks_leaky_relu(0).output_shift
    -sqrt(2)/(2*sqrt(pi))
    """
    phi = leaky_relu(slope)
    scale, shift = standardised(phi.expr)
    return Transformed(phi, output_scale=scale, output_shift=shift)


@lru_cache(maxsize=1)
def leaky_c_map() -> sp.Expr:
    """Return C(rho) of the leaky ReLU of slope s, normalised as for TAT."""
    dual = put({p: 1, q: 1, c: rho}, product_moment(LEAKY, LEAKY).value)
    return sp.simplify(dual / _mean_square(LEAKY))


@lru_cache(maxsize=1)
def leaky_kappa() -> sp.Expr:
    """Return kappa = C(0) in the slope s.

    >>> sp.factor(leaky_kappa())
    (s - 1)**2/(pi*(s**2 + 1))
    """
    return sp.simplify(put({rho: 0}, leaky_c_map()))


@lru_cache(maxsize=1)
def leaky_bend() -> sp.Expr:
    """Return g(rho) = (C(rho) - rho) / kappa, which is free of the slope.

    >>> leaky_bend()
    -rho*acos(rho) + sqrt(1 - rho**2)
    """
    bend: Any = sp.simplify((leaky_c_map() - rho) / leaky_kappa())
    return sp.expand(
        sp.simplify(bend.replace(sp.asin, lambda z: sp.pi / 2 - sp.acos(z)))
    )


def leaky_slope(bend: Number) -> sp.Expr:
    """Return the slope in [-1, 1] at which kappa is `bend`.

    With sin(a) = 1 - pi kappa = 2 s / (1 + s^2), s is tan(a / 2).

    Args:
        bend: kappa, from 0 (the identity) over 1/pi (ReLU) to 2/pi (the modulus).
    """
    gap = sp.pi * bend
    return (1 - gap) / (1 + sp.sqrt(gap * (2 - gap)))


@lru_cache(maxsize=1)
def leaky_depth_law() -> sp.Expr:
    """Return the leading term of 1 - C_n(c) after n layers, for every c < 1.

    C(1 - d) = 1 - d + a d^(3/2) + ..., so y = d^(-1/2) grows by a / 2 a layer.

    >>> leaky_depth_law()
    9/(2*kappa**2*n**2)
    """
    d = sp.Symbol("d", positive=True)
    # C'' = kappa g'' is kappa / sqrt(2 d) to leading order, and is integrated twice.
    curvature = kappa * sp.simplify(sp.diff(leaky_bend(), rho, 2))
    leading = sp.limit(put({rho: 1 - d}, curvature) * sp.sqrt(d), d, 0, "+")
    twice = sp.integrate(sp.integrate(leading / sp.sqrt(d), (d, 0, d)), (d, 0, d))
    a = twice / d ** sp.Rational(3, 2)
    return sp.simplify((a / 2 * n) ** -2)
