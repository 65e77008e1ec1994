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

import sympy as sp

from asymptest.theory.activations import Activation, x
from asymptest.theory.dual_maps import K, homogeneity, q_map, slope_moment
from asymptest.theory.errors import ArgumentError, NoClosedFormError


class Universality(StrEnum):
    """The universality class of an activation, from what its critical point looks like."""

    SCALE_INVARIANT = "scale-invariant"  # every K is critical
    ZERO = "K* = 0"  # K decays to 0 like 1 / depth
    HALF_STABLE = "half-stable"  # an isolated K* > 0
    NONE = "none"


@dataclass(frozen=True)
class Criticality:
    """The critical initialisation of an activation.

    Args:
        universality: the class.
        C_b: critical bias variance; None if there is none.
        C_W: critical weight variance (times the fan-in).
        K_star: the fixed point of the variance; K itself if every K is one.
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
    at_zero = near_zero(phi)
    if at_zero is not None and at_zero[1].is_negative:
        return Criticality(Universality.ZERO, zero, at_zero[0], zero, *at_zero[1:])
    coefficients = at_zero[1:] if at_zero else (None, None)
    for root in _zeros(phi):
        C_W = 1 / slope_moment(phi).subs(K, root)
        C_b = root - C_W * q_map(phi).subs(K, root)
        if not C_b.is_negative:
            return Criticality(Universality.HALF_STABLE, C_b, C_W, root, *coefficients)
    return Criticality(Universality.NONE, a_1=coefficients[0], b_1=coefficients[1])


def _zeros(phi: Activation) -> list[sp.Expr]:
    """Return the K > 0 where E phi phi'' vanishes."""
    try:
        difference: Any = sp.factor(sp.together(mismatch(phi)))
    except ArgumentError:  # a jump: chi_perp is infinite
        return []
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
