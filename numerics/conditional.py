"""E[g(v) | u] on an interval of u, as a finite sum that continues to complex u.

Given u, v = m + w z with m = β u and z standard normal. |z| is cut at a reach, and what lies
beyond is left to the growth of g. There are two rules:

* narrow: where no kink of g is within reach of m, a trapezoidal sum in z. It is holomorphic
  in u as far as g is.
* broad: where m moves by a few w only, Gauss-Legendre sums in v on panels between the kinks
  of g. The density of v given u is an entire function of u and of v.
"""

from collections.abc import Callable
from dataclasses import dataclass

from flint import acb, arb

from asymptest.numerics.ball_rules import LONGEST_STEP, Rule, cover, trapezoid
from asymptest.numerics.balls import hull
from asymptest.numerics.branches import Branch, Branches

BROADEST = 8.0  # in w: further, no short sum in u follows the density of v


@dataclass(frozen=True)
class Law:
    """v = slope u + width z given u."""

    slope: arb
    width: arb


@dataclass(frozen=True)
class Conditional:
    """A sum for E[g(v) | u]."""

    at: Callable[[arb], arb]
    error: arb  # of `at`, for every u of the interval
    sup: Callable[[acb], arb]  # on a box of u, of the sum or of what it stands for


def narrow(
    g: Branch, law: Law, means: arb, reach: float, goal: arb
) -> Conditional | None:
    """Return a short trapezoidal sum, if there is one within the goal.

    Args:
        g: the branch that the function is on for |z| <= reach + LONGEST_STEP.
        law: the law of v given u.
        means: all m, as a ball.
        reach: |z| is cut here, or by up to LONGEST_STEP later.
        goal: bound on the error, but for what is cut.
    """
    slope, width = law.slope, law.width
    if width.is_zero():
        rule = Rule(((arb(0), arb(1)),), arb(0))
    else:
        rule = trapezoid(reach, lambda z: g.sup(means + width * z), goal)
    if rule is None:
        return None
    steps = [(width * z, weight) for z, weight in rule.nodes]
    window = width * arb(0, reach + LONGEST_STEP)

    def at(u: arb) -> arb:
        mean = slope * u
        return sum((weight * g.at(mean + step) for step, weight in steps), arb(0))

    # The sum stands for a mean of g over the window, which is no larger than g there.
    return Conditional(at, rule.error, lambda box: g.sup(slope * box + window))


def broad(
    g: Branches, law: Law, means: arb, low: arb, high: arb, goal: arb
) -> Conditional | None:
    """Return sums on panels in v, if m moves by a few w only.

    Args:
        g: the function.
        law: the law of v given u.
        means: all m, as a ball.
        low: v is cut to [low, high], exact numbers.
        high: as above.
        goal: bound on the error, but for what is cut.

    Raises:
        AccuracyError: if that takes too many panels.
    """
    slope, width = law.slope, law.width
    if not 2 * means.rad() < BROADEST * width:
        return None
    scale = (2 * width * width).rsqrt()
    peak = scale / arb.pi().sqrt()
    error = arb(0)
    panels: list[tuple[arb, arb]] = []  # a ball of nodes, their weight in all
    nodes: list[tuple[arb, arb]] = []

    def density_sup(box: acb) -> arb:
        """Return a bound on the density of v given u, `box` holding v - m."""
        return bell_sup(box, scale) * peak

    pieces = g.split(low, high)
    for start, end in pieces:
        branch = g.on(start, end)
        if branch is None:  # a kink that is known as a ball
            most = (end - start) * g.sup(start, end)
            error += most * density_sup(acb(hull(start, end) - means))
            continue

        def sup(box: acb, branch: Branch = branch) -> arb:
            return branch.sup(box) * density_sup(box - means)

        for rule in cover(start, end, sup, goal / len(pieces)):
            error += rule.error
            if rule.nodes:
                panel = [(v, weight * branch.at(v)) for v, weight in rule.nodes]
                total = sum((share.abs_upper() for _, share in panel), arb(0))
                panels.append((hull(panel[0][0], panel[-1][0]), total))
                nodes += panel

    def at(u: arb) -> arb:
        mean, total = slope * u, arb(0)
        for v, share in nodes:
            t = (v - mean) * scale
            total += share * (-t * t).exp()
        return total * peak

    def conditional_sup(box: acb) -> arb:
        mean = slope * box
        return sum((total * density_sup(v - mean) for v, total in panels), arb(0))

    return Conditional(at, error, conditional_sup)


def bell_sup(box: acb, scale: arb) -> arb:
    """Return a bound of |exp(-(scale t)^2)| for t in a box."""
    high, low = box.imag.abs_upper(), box.real.abs_lower()
    return ((high * high - low * low) * scale * scale).exp()
