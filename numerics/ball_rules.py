"""Quadrature rules with rigorous errors, from bounds off the real line.

Gauss-Legendre, n >= 2 nodes on an interval of half length h. If f is holomorphic in the
ellipse that has the ends as foci and the half axes h (r ± 1/r) / 2, and |f| <= M there, then

    error <= (64/15) h M r^(-2n) / (1 - r^(-2)).

The Chebyshev coefficients of f are at most 2 M r^(-k). Those below 2n and the odd ones cost
nothing, and every other costs at most (2 + 2/15) h.

Trapezoidal rule, step d, for g(z) φ(z) on [-c, c] with c = (N + 1/2) d, φ the standard normal
density. If g is holomorphic and |g| <= M for |Re z| <= c, |Im z| <= a < 4 π / d, then

    error <= 2 M exp(a^2 / 2) / (exp(2 π a / d) - 1) + 4 M φ(c) / (2 π / d - a / 2).

The error is an integral of g φ / (exp(-2 π i z / d) - 1) around the upper half of the rectangle and
its mirror image. The first part comes from the long sides; on the short ones the exponential is
negative and |φ| <= φ(c) exp(a y / 2).

Source: Trefethen (2013), Approximation Theory and Approximation Practice, theorem 19.3; Trefethen
and Weideman (2014), section 5.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from flint import acb, arb, ctx

from asymptest.numerics.balls import hull
from asymptest.theory.errors import AccuracyError

ORDERS = (2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40)
ELLIPSES = (2.0, 2.5, 3.2, 4.0, 5.5, 8.0, 12.0, 20.0, 40.0)
STRIPS = (0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
LONGEST_STEP = 1.0
MOST_NODES = 32  # on one side of 0, of the trapezoidal rule
MOST_PANELS = 1000

Bound = Callable[[acb], arb]  # box -> sup |f|, not finite unless f is holomorphic on it


@dataclass(frozen=True)
class Rule:
    """Nodes and weights, and a bound on the error of their sum."""

    nodes: tuple[tuple[arb, arb], ...]
    error: arb


@lru_cache(maxsize=256)
def _legendre(order: int, prec: int) -> tuple[tuple[arb, arb], ...]:
    del prec  # it is the precision set now, an argument for the cache only
    return tuple(arb.legendre_p_root(order, k, weight=True) for k in range(order))


def gauss(start: arb, end: arb, bound: Bound, goal: arb) -> Rule | None:
    """Return the shortest Gauss-Legendre rule whose error is within a goal, if there is one.

    It has no nodes where the integral itself is within the goal.

    Args:
        start: the interval of integration; halves of it are taken where there is no rule.
        end: as above.
        bound: of the integrand; a real box asks for sup |f| only.
        goal: bound on the error.
    """
    center, half = (start + end) / 2, (end - start) / 2
    whole = 2 * half * bound(acb(hull(start, end)))
    if whole <= goal:
        return Rule((), whole)
    best: tuple[int, arb] | None = None
    for r in map(arb, ELLIPSES):
        width, height = half * (r + 1 / r) / 2, half * (r - 1 / r) / 2
        size = bound(acb(center + arb(0, width), arb(0, height)))
        if not size.is_finite():
            break
        error = half * arb(64) / 15 * size / (1 - r**-2)
        needed = float((error / goal).log() / (2 * r.log()))
        order = next((n for n in ORDERS if n >= needed), None)
        if order is not None and (best is None or order < best[0]):
            best = order, error * r ** (-2 * order)
    if best is None:
        return None
    order, error = best
    unit = _legendre(order, ctx.prec)
    return Rule(tuple((center + half * t, half * w) for t, w in unit), error)


def cover(start: arb, end: arb, bound: Bound, goal: arb) -> list[Rule]:
    """Return rules on panels that cover [start, end], all errors together within a goal.

    Raises:
        AccuracyError: if that takes too many panels.
    """
    rules: list[Rule] = []
    pending = [(start, end, goal)]
    for _ in range(MOST_PANELS):
        if not pending:
            return rules
        start, end, goal = pending.pop()
        rule = gauss(start, end, bound, goal)
        if rule is None:
            pending += halves(start, end, goal)
        else:
            rules.append(rule)
    raise AccuracyError(
        f"no rule within the goal on {MOST_PANELS} panels; the function may be singular "
        f"near {float(start):.6g}; ask for less accuracy"
    )


def halves(start: arb, end: arb, goal: arb) -> list[tuple[arb, arb, arb]]:
    """Return the two halves of an interval, each with half of the goal."""
    middle = ((start + end) / 2).mid()
    return [(start, middle, goal / 2), (middle, end, goal / 2)]


def trapezoid(reach: float, bound: Bound, goal: arb) -> Rule | None:
    """Return a trapezoidal rule for E g(z) 1{|z| <= c}, if a short one is within a goal.

    Args:
        reach: c is between this and `reach + LONGEST_STEP`.
        bound: of g.
        goal: bound on the error.
    """
    best: tuple[int, float, arb] | None = None
    for a in map(arb, STRIPS):
        size = bound(acb(arb(0, reach + LONGEST_STEP), arb(0, a)))
        if not size.is_finite():
            break
        bulge = 2 * size * (a * a / 2).exp()
        decay = float((1 + 2 * bulge / goal).log() / (2 * arb.pi() * a))
        step = 1 / max(decay, 1 / LONGEST_STEP)
        count = math.ceil(reach / step - 0.5)
        if count <= MOST_NODES and (best is None or count < best[0]):
            turns = 2 * arb.pi() / step
            cut = _density(arb(step) * (2 * count + 1) / 2)
            error = bulge / ((turns * a).exp() - 1) + 4 * size * cut / (turns - a / 2)
            if error <= goal:
                best = count, step, error
    if best is None:
        return None
    count, step, error = best
    nodes = (arb(step) * k for k in range(-count, count + 1))
    return Rule(tuple((z, step * _density(z)) for z in nodes), error)


def _density(z: arb) -> arb:
    return (-(z * z) / 2).exp() / (2 * arb.pi()).sqrt()
