"""Criticality: the weights at which an activation's signals survive depth, and the class.

A network z' = b + W phi(z) has K' = C_b + C_W Q(K). It is critical at K* if

    K* = C_b + C_W Q(K*),    chi_parallel(K*) = chi_perp(K*) = 1.

Stein's lemma turns the difference of the two conditions into one moment,

    dQ/dK - E phi'(u)^2 = E phi(u) phi''(u),

so that a critical K* > 0 is a zero of E phi phi'', whatever C_b and C_W are. At K* = 0 the
Taylor coefficients s_k of phi at 0 decide: K' - K = a_1 K^2 + ... and chi_perp - 1 = b_1 K.

Source: Roberts, Yaida and Hanin (2022), sections 5.2 to 5.4.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import mpmath
import sympy as sp

from asymptest.theory.activations import Activation
from asymptest.theory.dual_maps import K, homogeneity, q_map, slope_moment
from asymptest.theory.errors import NoClosedFormError
from asymptest.theory.pieces import jumps
from asymptest.theory.piecewise import with_steps, x

DIGITS = 1000


class Universality(StrEnum):
    """The universality class of an activation, from what its critical point looks like."""

    SCALE_INVARIANT = "scale-invariant"  # every K is critical
    ZERO = "K* = 0"  # K decays to 0, like 1 / depth where phi is smooth at 0
    HALF_STABLE = "half-stable"  # an isolated K* > 0
    LINE = "a line of critical points"  # K* is free where C_b >= 0
    NONE = "none"


@dataclass(frozen=True)
class Criticality:
    """The critical initialisation of an activation.

    Args:
        universality: the class.
        C_b: critical bias variance; None if there is none.
        C_W: critical weight variance (times the fan-in).
        K_star: the fixed point of the variance; K itself if every K is one (on a line of
            critical points, every K with C_b >= 0).
        a_1: K' - K = a_1 K^2 + ... at K* = 0, where phi is smooth.
        b_1: chi_perp - 1 = b_1 K + ... there.
    """

    universality: Universality
    C_b: sp.Expr | float | None = None
    C_W: sp.Expr | float | None = None
    K_star: sp.Expr | float | None = None
    a_1: sp.Expr | None = None
    b_1: sp.Expr | None = None


def mismatch(phi: Activation) -> sp.Expr:
    """Return (chi_parallel - chi_perp) / C_W = E phi(u) phi''(u) as a function of K.

    Raises:
        NoClosedFormError: if there is no closed form.
        ArgumentError: if phi jumps.
    """
    return sp.simplify(sp.diff(q_map(phi), K) - slope_moment(phi))


def near_zero(phi: Activation) -> tuple[sp.Expr, sp.Expr, sp.Expr] | None:
    """Return C_W, a_1 and b_1 of the critical point K* = 0, or None if there is none.

    There is one if phi(0) = 0, phi'(0) is not 0 and phi is smooth at 0.

    >>> from asymptest.theory.activations import tanh
    >>> near_zero(tanh)
    (1, -2, -2)
    """
    if 0.0 in phi.kinks or sp.simplify(phi.expr.subs(x, 0)) != 0:
        return None
    s_1, s_2, s_3 = (sp.simplify(phi.expr.diff(x, k).subs(x, 0)) for k in (1, 2, 3))
    if s_1 == 0:
        return None
    bend = (s_2 / s_1) ** 2
    return (
        1 / s_1**2,
        sp.simplify(s_3 / s_1 + sp.Rational(3, 4) * bend),
        sp.simplify(s_3 / s_1 + bend),
    )


def weight_at_zero(phi: Activation) -> sp.Expr | None:
    """Return C_W = 2 / (s_+^2 + s_-^2), critical at K* = 0, s_+- the slopes on each side of 0.

    None if phi(0) is not 0 on both sides, or phi is flat there.

    >>> from asymptest.theory.activations import leaky_relu
    >>> weight_at_zero(leaky_relu(0))
    2
    """
    sides = [_branch(phi, side) for side in (1, -1)]
    if any(sp.simplify(branch.subs(x, 0)) != 0 for branch in sides):
        return None
    slopes = [sp.simplify(branch.diff(x).subs(x, 0)) for branch in sides]
    square = sp.simplify(slopes[0] ** 2 + slopes[1] ** 2)
    return None if square == 0 or not square.is_finite else 2 / square


def _branch(phi: Activation, side: int) -> Any:
    """Return phi next to 0 on one side, where each of its steps is constant."""
    near = sp.Rational(side, 10**12)

    def value(argument: Any, *_: Any) -> Any:
        return sp.Integer(1) if argument.subs(x, near) > 0 else sp.Integer(0)

    return with_steps(phi.expr).replace(sp.Heaviside, value)


def _decays(phi: Activation, weight: sp.Expr) -> bool:
    """Whether K' = C_W Q(K) < K for small K: by a_1, or by Q at two small variances."""
    expansion = near_zero(phi)
    if expansion is not None and expansion[1] != 0:
        return bool(expansion[1].is_negative)
    exact = weight * q_map(phi) / K - 1
    roots = {root: root.evalf(DIGITS) for root in exact.atoms(sp.CRootOf)}
    drift = sp.lambdify(K, exact.xreplace(roots), "mpmath")
    with mpmath.workdps(DIGITS):
        for n in (8, 6, 4, 2, 1):  # a drift like exp(-1 / K) shows at larger K only
            value: Any = drift(mpmath.mpf(10) ** -n)
            if abs(value) > mpmath.mpf(10) ** (100 - DIGITS):
                return bool(value < 0)
    raise NoClosedFormError(
        f"whether K decays near 0 for {phi.name} does not show in {DIGITS} digits"
    )


def criticality(phi: Activation) -> Criticality:
    """Return the critical initialisation of an activation and its universality class.

    Raises:
        NoClosedFormError: if K* > 0 has to be looked for and is no closed form;
            `asymptest.numerics.criticality` looks for it numerically.

    >>> from asymptest.theory.activations import gelu
    >>> criticality(gelu).K_star
    3/2 + sqrt(17)/2
    """
    zero = sp.Integer(0)
    if homogeneity(phi) == 1:
        return Criticality(
            Universality.SCALE_INVARIANT, zero, sp.simplify(K / q_map(phi)), K
        )
    if jumps(phi.expr):  # chi_perp is infinite
        return Criticality(Universality.NONE)
    at_zero = near_zero(phi)
    coefficients = at_zero[1:] if at_zero else (None, None)
    weight = weight_at_zero(phi)
    if weight is not None and _decays(phi, weight):
        return Criticality(Universality.ZERO, zero, weight, zero, *coefficients)
    if mismatch(phi) == 0:
        return _line(phi, coefficients)
    for root in _zeros(phi):
        C_W = 1 / slope_moment(phi).subs(K, root)
        C_b = root - C_W * q_map(phi).subs(K, root)
        if sp.N(C_b) >= 0:
            return Criticality(Universality.HALF_STABLE, C_b, C_W, root, *coefficients)
    return Criticality(Universality.NONE, a_1=coefficients[0], b_1=coefficients[1])


def _line(phi: Activation, coefficients: Any) -> Criticality:
    """Return the critical points if chi_parallel = chi_perp at every K: those with C_b >= 0."""
    slope = slope_moment(phi)
    if slope == 0:  # a constant
        return Criticality(Universality.NONE)
    C_W = sp.simplify(1 / slope)
    C_b = sp.simplify(K - C_W * q_map(phi))
    if all(sp.N(C_b.subs(K, sp.Rational(2) ** n)) < 0 for n in range(-10, 11)):
        return Criticality(Universality.NONE)
    return Criticality(Universality.LINE, C_b, C_W, K, *coefficients)


def _zeros(phi: Activation) -> list[sp.Expr]:
    """Return the K > 0 where E phi phi'' vanishes."""
    difference: Any = sp.factor(sp.together(mismatch(phi)))
    if difference.is_positive or difference.is_negative:
        return []
    found = []
    for factor in sp.Mul.make_args(difference):
        if not factor.has(K) or factor.is_positive or factor.is_negative:
            continue
        base = factor.as_base_exp()[0]
        try:  # sp.roots would leave out those that are no radicals
            roots: Any = sp.real_roots(sp.Poly(base, K))
        except (sp.PolynomialError, NotImplementedError):
            raise NoClosedFormError(
                f"the zeros of E phi phi'' = {difference} for {phi.name} have no closed "
                f"form here; asymptest.numerics.criticality looks for them numerically"
            ) from None
        found += [root for root in roots if root.is_positive]
    return sorted(found, key=sp.N)
