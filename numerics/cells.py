"""E f(u) g(v) over |u| <= U, cell by cell in u.

On a cell, E[g(v) | u] is a finite sum (numerics/conditional.py), and the integral of f(u), that
sum and the density of u is a Gauss-Legendre sum. A cell without a good rule is halved. Cells
end where kinks of g come within reach, so that v = u + 1e-9 z costs no more than v = z.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from flint import acb, arb, ctx

from asymptest.numerics.ball_rules import LONGEST_STEP, gauss, halves
from asymptest.numerics.balls import hull
from asymptest.numerics.branches import Branch, Branches
from asymptest.numerics.conditional import Conditional, Law, bell_sup, broad, narrow
from asymptest.theory.errors import AccuracyError

REACHES = (*(k / 2 for k in range(6, 20)), *range(10, 61))  # of z
MARGIN = 0.5  # the rule in z goes on by this, where its end costs less than what is cut
NEAR = 10.0  # in w: most reaches are less, so the cells beyond have narrow rules
MOST_CELLS = 2000


@dataclass(frozen=True)
class Plane:
    """E f(u) g(v) for a Gaussian u and the law of v given u."""

    f: Branches
    g: Branches
    variance: arb  # of u
    law: Law

    def density(self, u: arb) -> arb:
        """Return the density of u."""
        return (-u * u / (2 * self.variance)).exp() * self._peak()

    def density_sup(self, box: acb) -> arb:
        """Return a bound of its modulus on a box."""
        return bell_sup(box, (2 * self.variance).rsqrt()) * self._peak()

    def _peak(self) -> arb:
        return (2 * arb.pi() * self.variance).rsqrt()


def integrate(plane: Plane, cut: arb, goal: arb) -> arb:
    """Return E f(u) g(v) 1{|u| <= cut}.

    Args:
        plane: what to integrate.
        cut: an exact number.
        goal: bound on the error, apart from rounding and the radii of the arguments.

    Raises:
        AccuracyError: if that takes too many cells.
    """
    ends = _ends(plane, cut)
    pending = [(start, end, goal / len(ends)) for start, end in pairwise(ends)]
    total = arb(0)
    for _ in range(MOST_CELLS):
        if not pending:
            return total
        start, end, share = pending.pop()
        value = _cell(plane, start, end, share)
        if value is None:
            pending += halves(start, end, share)
        else:
            total += value
    raise AccuracyError(
        f"no rule within the goal on {MOST_CELLS} cells; ask for less accuracy, or for "
        f"variances and a correlation of smaller radius"
    )


def _ends(plane: Plane, cut: arb) -> list[arb]:
    """Return where the first cells end: kinks of f, and NEAR the kinks of g."""
    points, slope = plane.f.breaks(), plane.law.slope
    if not slope.contains(0):
        for kink in plane.g.kinks:
            at = kink / slope
            near = NEAR * plane.law.width / abs(slope)
            near += abs(at) * 2.0 ** (8 - ctx.prec)  # what rounding does to slope * at
            points += [(at - near).lower(), (at + near).upper()]
    ends = sorted([-cut, *(point for point in points if abs(point) < cut), cut])
    return [*(a for a, b in pairwise(ends) if a < b), cut]


def _cell(plane: Plane, start: arb, end: arb, goal: arb) -> arb | None:
    """Return the integral over a cell, or None if it has to be halved."""
    g, width = plane.g, plane.law.width
    interval = hull(start, end)
    mass = plane.f.sup(start, end) * plane.density_sup(acb(interval)) * (end - start)
    if mass.is_zero():
        return arb(0)
    sides = plane.law.slope * start, plane.law.slope * end
    first, last = sides[0].min(sides[1]).lower(), sides[0].max(sides[1]).upper()
    found = _reach(plane, hull(first, last).abs_upper(), goal / (16 * mass))
    if found is None:
        return None
    reach, spill = found
    window = (reach + LONGEST_STEP) * width
    low, high = (first - window).lower(), (last + window).upper()
    most = mass * (g.sup(low, high) + spill)
    if most <= goal:
        return arb(0, most)

    f = plane.f.on(start, end)
    means = hull(first, last)
    if f is None or (width.contains(0) and _blurred(plane, first, last, low, high)):
        return arb(0, most)  # a kink that is known as a ball: halving does not help
    for rule in _rules(plane, means, low, high, reach, goal / (4 * mass)):
        value = _outer_sum(plane, f, rule, start, end, goal / 2)
        if value is not None:
            value += arb(0, mass * (rule.error + spill))
            return arb(0, most) if most < value.rad() else value
    return None


def _reach(plane: Plane, center: arb, goal: arb) -> tuple[float, arb] | None:
    """Return R, and a bound within the goal on E |g(v)| 1{|z| > R - MARGIN} if |m| <= center."""
    width = plane.law.width
    if width.is_zero():
        return 0.0, arb(0)
    for reach in REACHES:
        spill = plane.g.growth.tail(center, width, reach)
        if spill <= goal:
            return reach + MARGIN, spill
    return None


def _blurred(plane: Plane, first: arb, last: arb, low: arb, high: arb) -> bool:
    """Whether v may cross a kink of g on a cell that is no wider than w is unknown."""
    no_wider = last - first <= NEAR * plane.law.width.upper()
    crossed = plane.g.on(first, last) is None
    return plane.g.on(low, high) is None and (no_wider or crossed)


def _rules(
    plane: Plane, means: arb, low: arb, high: arb, reach: float, goal: arb
) -> Iterator[Conditional]:
    """Yield the sums for E[g(v) | u] that there are, the cheaper one first."""
    branch = plane.g.on(low, high)
    if branch is not None:
        rule = narrow(branch, plane.law, means, reach, goal)
        if rule is not None:
            yield rule
    rule = broad(plane.g, plane.law, means, low, high, goal)
    if rule is not None:
        yield rule


def _outer_sum(
    plane: Plane, f: Branch, given: Conditional, start: arb, end: arb, goal: arb
) -> arb | None:
    """Return the integral of f(u), the sum given u and the density of u, if a rule has it."""

    def sup(box: acb) -> arb:
        return f.sup(box) * plane.density_sup(box) * given.sup(box)

    rule = gauss(start, end, sup, goal)
    if rule is None:
        return None
    value = arb(0, rule.error)
    for u, weight in rule.nodes:
        value += weight * f.at(u) * plane.density(u) * given.at(u)
    return value
