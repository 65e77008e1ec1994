"""Gaussian expectations enclosed in balls, straight from the integral.

For jointly Gaussian, centred u, v with variances p, q and correlation ρ,

    dual = E f(u) g(v),    mean = E f(u).

The functions are split at their kinks into holomorphic branches (numerics/branches.py). The tail
|u| > U is bounded by growth and Cauchy-Schwarz,

    E |f(u) g(v)| 1{|u| > U} <= sqrt(E f(u)^2 1{|u| > U}) sqrt(E g(v)^2),

and the rest is a sum over cells of u, of rules whose errors are bounded on the complex plane
(numerics/cells.py). No closed form is involved; those from the literature are the check, in
tests/numerics/test_enclosure.py.
"""

import math

import sympy as sp
from flint import arb, ctx

from asymptest.numerics.balls import Number, number
from asymptest.numerics.branches import Branches, branches
from asymptest.numerics.cells import Plane, integrate
from asymptest.numerics.conditional import Law
from asymptest.numerics.growth import times
from asymptest.theory.errors import AccuracyError, ArgumentError

SMALLEST, LARGEST = (
    -120,
    24,
)  # 4 log2 of |u| in standard deviations, for a rough E f(u)^2


def dual_enclosure(
    f: sp.Expr,
    g: sp.Expr,
    p: Number,
    q: Number,
    rho: Number,
    *,
    accuracy: float = 1e-10,
) -> arb:
    """Return a ball that holds E f(u) g(v), centred Gaussian u, v of variances p, q.

    Where p, q or rho is a ball, the result holds the values for all numbers in it. Balls of
    a relative radius of 1 % work, as a rule; wider ones are to be split. A ball of rho that
    pokes out of [-1, 1] is cut there, and one of radius r that reaches ±1 costs sqrt(r).

    Args:
        f: an expression in theory.activations.x with finitely many kinks, and no growth
            beyond exp(g |x|).
        g: likewise.
        p: variance of u, positive.
        q: variance of v, positive.
        rho: correlation, in [-1, 1].
        accuracy: the radius asked for, from 1e-30, in units of sqrt(E f(u)^2 E g(v)^2).
            Radii of p, q and rho add to it.

    Returns:
        A finite ball.

    Raises:
        ArgumentError: if an argument is outside its domain.
        UnsupportedError: if a function has a part that balls do not know, kinks that cannot
            be listed, or no growth bound.
        AccuracyError: if the accuracy is not reached.

    >>> from asymptest.theory.activations import step, x
    >>> dual = dual_enclosure(step.expr, step.expr, 2, 3, sp.Rational(1, 2))
    >>> dual.contains(arb(1) / 3)  # 1/4 + arcsin(1/2) / (2 π)
    True
    """
    with ctx.workprec(_precision(accuracy)):
        p, q, rho = _variance(p, "p"), _variance(q, "q"), _correlation(rho)
        if q.mid() > p.mid():  # then E[g(v) | u] varies no faster than g
            f, g, p, q = g, f, q, p
        value = _dual(branches(f), branches(g), p, q, rho, accuracy)
    if not value.is_finite():
        raise AccuracyError(
            f"no finite ball holds E f(u) g(v) for f = {f}, g = {g}, p = {p}, q = {q}, "
            f"rho = {rho}; is a function not finite somewhere?"
        )
    return value


def mean_enclosure(f: sp.Expr, p: Number, *, accuracy: float = 1e-10) -> arb:
    """Return a ball that holds E f(u), u centred Gaussian of variance p.

    Args:
        f: as for `dual_enclosure`.
        p: as for `dual_enclosure`.
        accuracy: as for `dual_enclosure`, in units of sqrt(E f(u)^2).

    Returns:
        A finite ball.

    Raises:
        ArgumentError, UnsupportedError, AccuracyError: as `dual_enclosure`.

    >>> from asymptest.theory.activations import x
    >>> mean_enclosure(sp.Abs(x), 1).overlaps((2 / arb.pi()).sqrt())
    True
    """
    return dual_enclosure(f, sp.Integer(1), p, p, 1, accuracy=accuracy)


def _dual(f: Branches, g: Branches, p: arb, q: arb, rho: arb, accuracy: float) -> arb:
    norm_f, norm_g = _norm(f, p), _norm(g, q)
    cut, outside = _cut(f, p, accuracy * norm_f / 4)
    sine = ((1 - rho) * (1 + rho)).nonnegative_part().sqrt()
    law = Law(rho * (q / p).sqrt(), q.sqrt() * sine)
    inside = integrate(Plane(f, g, p, law), cut, accuracy * norm_f * norm_g / 2)
    return inside + arb(0, outside * norm_g)


def _norm(f: Branches, p: arb) -> arb:
    """Return an upper bound of sqrt(E f(u)^2), sharp to a few per cent."""
    rough = _rough_norm(f, p)
    cut, outside = _cut(f, p, rough / 30)
    same = Law(arb(1), arb(0))
    square = integrate(Plane(f, f, p, same), cut, (rough / 30) * (rough / 30))
    return (square + outside * outside).abs_upper().sqrt()


def _rough_norm(f: Branches, p: arb) -> arb:
    """Return about sqrt(E f(u)^2): it only says what accuracy is worth."""
    deviation, square = p.mid().sqrt().mid(), arb(0)
    for step in range(SMALLEST, LARGEST + 1):
        # A sum in log |u|, to see what happens near 0 as well as far out.
        z = arb(2) ** (arb(step) / 4)
        for u in ((-deviation * z).mid(), (deviation * z).mid()):
            branch = f.on(u, u)
            if branch is not None:
                value = branch.at(u)
                square += value * value * z * (-z * z / 2).exp() / 15
        rough = square.mid().sqrt().mid()
        if z >= 8 and _tail(f, p, float(z)) <= rough / 30:
            return rough
    raise AccuracyError(
        f"E f(u)^2 is not found within {2 ** (LARGEST // 4)} standard deviations of 0; f "
        f"grows too fast, or is too small, for the variance {p}"
    )


def _cut(f: Branches, p: arb, goal: arb) -> tuple[arb, arb]:
    """Return U, and sqrt(E f(u)^2 1{|u| > U}) within the goal."""
    for spread in range(4, 100):
        tail = _tail(f, p, spread)
        if tail <= goal:
            return (spread * p.sqrt()).upper(), tail
    raise AccuracyError(f"the tails of f are too heavy for the accuracy; variance {p}")


def _tail(f: Branches, p: arb, spread: float) -> arb:
    """Return a bound of sqrt(E f(u)^2 1{|u| > spread sqrt(p)})."""
    return times(f.growth, f.growth).tail(arb(0), p.sqrt(), spread).sqrt()


def _variance(value: Number, name: str) -> arb:
    variance = number(value, name)
    if not variance > 0:
        raise ArgumentError(f"{name} must be a positive variance; got {value}")
    return variance


def _correlation(value: Number) -> arb:
    rho = number(value, "rho")
    if rho > 1 or rho < -1:
        raise ArgumentError(f"rho must be a correlation, in [-1, 1]; got {value}")
    return rho


def _precision(accuracy: float) -> int:
    """Return a working precision that keeps rounding far below the accuracy, in bits."""
    if not 1e-30 <= accuracy < 1:
        raise ArgumentError(f"accuracy must be in [1e-30, 1); got {accuracy}")
    # A layer of width w at a kink costs rounding 1 / w, but it has no more than w to give.
    return 32 * math.ceil((64 - math.log2(accuracy)) / 32)
