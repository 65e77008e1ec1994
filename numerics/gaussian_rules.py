"""The rules behind numerics/quadrature.py: line, plane by trapezoid, plane by panels.

u = σ z1, v = τ (ρ z1 + s z2), s² = 1 - ρ², independent standard normal z1, z2, and
τ <= σ. Arrays of one length m, named as here, describe m integrals at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from asymptest.numerics.panels import (
    CHUNK,
    Phi,
    RowFunction,
    evaluate,
    expectation,
)
from asymptest.theory.errors import AccuracyError

COARSEST = 0.3  # its double, 0.6, still integrates the Gaussian alone to 1e-23
# A value of φ costs twice as much on a panel as on a grid (bookkeeping, exponentials),
# and is computed at orders 16 and 12.
PANEL_COST = 3.0
LEVELS = 5

Rule = Callable[[np.ndarray, int, int], np.ndarray]  # rows, order, level -> values


@dataclass(frozen=True)
class Plane:
    """Standard deviations and correlation of (u, v), and where z1, z2 are cut off."""

    sigma: Float[np.ndarray, " m"]
    tau: Float[np.ndarray, " m"]
    rho: Float[np.ndarray, " m"]
    cut: Float[np.ndarray, " m"]

    @property
    def drift(self) -> Float[np.ndarray, " m"]:
        """Return τρ, the weight of z1 in v."""
        return self.tau * self.rho

    @property
    def width(self) -> Float[np.ndarray, " m"]:
        """Return τs, the weight of z2 in v; 1 - ρ² would lose it near ±1."""
        return self.tau * np.sqrt((1 - self.rho) * (1 + self.rho))

    def take(self, rows: np.ndarray) -> "Plane":
        """Return the integrals of these rows."""
        return Plane(self.sigma[rows], self.tau[rows], self.rho[rows], self.cut[rows])


def agree(
    rule: Rule, scale: Float[np.ndarray, " m"] | None, tol: float, count: int
) -> Float[np.ndarray, " m"]:
    """Return `count` values of a rule at order 16, refined until order 12 agrees.

    Both errors are within `tol * scale` then, that of order 16 far within. Without a
    scale, the tolerance is relative.

    Raises:
        AccuracyError: if the refinements do not suffice.
    """
    value = np.empty(count)
    rows = np.arange(count)
    gap = allowed = np.zeros(0)
    for level in range(LEVELS):
        if not rows.size:
            return value
        with np.errstate(over="ignore", invalid="ignore"):  # looked at in the next line
            value[rows] = fine = rule(rows, 16, level)
            gap = np.abs(fine - rule(rows, 12, level))
        if not np.isfinite(gap).all():
            raise AccuracyError(
                "products of values of phi overflow where the Gaussian still has mass; "
                "lower the variance, or scale phi down"
            )
        allowed = tol * (np.abs(fine) if scale is None else scale[rows])
        bad = ~(gap <= allowed)
        rows, gap, allowed = rows[bad], gap[bad], allowed[bad]
    if rows.size:
        raise AccuracyError(
            f"two Gauss-Legendre orders differ by {gap[0]:.3g} where tol allows "
            f"{allowed[0]:.3g} ({rows.size} integrals, the first of value "
            f"{value[rows[0]]:.6g}); declare the kinks of phi, or raise tol"
        )
    return value


def line_rule(
    phi: Phi,
    deviations: tuple[Float[np.ndarray, " m"], ...],
    cut: Float[np.ndarray, " m"],
    edges: Float[np.ndarray, " edges"],
) -> Rule:
    """Return the rule for E Π_k φ(d_k z), one z and deviations d_k != 0 of any sign."""

    def rule(rows: np.ndarray, order: int, level: int) -> np.ndarray:
        value = np.empty(len(rows))
        for block in _blocks(len(rows), len(deviations) * len(edges)):
            some = [d[rows[block], None] for d in deviations]
            inside = _clip([edges / d for d in some], cut[rows[block]])
            value[block] = expectation(_product(phi, some), inside, order, level)
        return value

    return rule


def _product(phi: Phi, deviations: list[Float[np.ndarray, "m 1"]]) -> RowFunction:
    def product(r: np.ndarray, z: np.ndarray) -> np.ndarray:
        y = np.ones_like(z)
        for d in deviations:
            y = y * evaluate(phi, d[r] * z)
        return y

    return product


def trapezoid(
    phi: Phi,
    plane: Plane,
    edges: Float[np.ndarray, " edges"],
    scale: Float[np.ndarray, " m"],
    tol: float,
) -> tuple[Float[np.ndarray, " m"], Bool[np.ndarray, " m"]]:
    """Return the dual by the trapezoidal rule, and where it is within the tolerance.

    The step is halved until the rule agrees with its own every second point, and given
    up where the next grid would cost more than panels.
    """
    value, done = np.zeros(len(scale)), np.zeros(len(scale), dtype=bool)
    reach = plane.cut * plane.sigma
    first, last = np.searchsorted(edges, -reach, "right"), np.searchsorted(edges, reach)
    panels = last - first + 1
    budget = PANEL_COST * 256 * (6 + 2 * panels) * (6 + panels)
    # Two grids can agree and both be wrong: sin(83 z) looks alike at steps 0.3 and 0.6.
    # So the coarse one must not step over two thirds of a panel. φ has two thirds of a
    # period there at most, and even its second harmonic (in φ φ) is told apart.
    reached = zip(first, last, strict=True)
    shortest = np.array([np.diff(edges[a - 1 : b + 1]).min() for a, b in reached])
    longest_step = shortest / (3 * plane.sigma)
    step = COARSEST
    rows = np.arange(len(scale))
    while rows.size:
        ready = rows[step <= longest_step[rows]]
        for cut in np.unique(plane.cut[ready]):
            some = ready[plane.cut[ready] == cut]
            fine, coarse = _grid_sums(phi, plane.take(some), float(cut), step)
            value[some] = fine
            done[some] = np.abs(fine - coarse) <= tol * scale[some]
        step /= 2
        affordable = np.pi * (plane.cut / step) ** 2 < budget
        rows = np.flatnonzero(~done & affordable)
    return value, done


def _grid_sums(
    phi: Phi, plane: Plane, cut: float, step: float
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Return the trapezoidal sums over the disc |z| <= cut at step and at 2 step."""
    reach = int(cut / step)
    i = np.arange(-reach, reach + 1)
    sums = np.zeros((len(plane.sigma), 2))
    u = evaluate(phi, plane.sigma[:, None] * (step * i))
    drift, width = plane.drift, plane.width
    for strip in _blocks(len(i), len(i)):
        disc = i[strip, None] ** 2 + i**2 <= (cut / step) ** 2
        first, second = np.nonzero(disc)
        first += strip.start
        z1, z2 = step * i[first], step * i[second]
        weight = step**2 / (2 * np.pi) * np.exp(-0.5 * (z1 * z1 + z2 * z2))
        even = (i[first] % 2 == 0) & (i[second] % 2 == 0)
        weights = np.stack([weight, 4 * even * weight], axis=1)
        for rows in _blocks(len(sums), max(1, len(z1))):
            v = drift[rows, None] * z1 + width[rows, None] * z2
            sums[rows] += (evaluate(phi, v) * u[rows][:, first]) @ weights
    return sums[:, 0], sums[:, 1]


def panel_rule(
    phi: Phi,
    plane: Plane,
    edges: Float[np.ndarray, " edges"],
    kinked: Bool[np.ndarray, " edges"],
) -> Rule:
    """Return the rule for the dual, by panels in z1 and, for every z1, in z2."""

    def rule(rows: np.ndarray, order: int, level: int) -> np.ndarray:
        value = np.empty(len(rows))
        for block in _blocks(len(rows), 8 * len(edges)):
            part = plane.take(rows[block])
            breaks = _outer_edges(part, edges, kinked)
            f = _product_with_conditional(phi, part, edges, order, level)
            chunk = max(16, CHUNK // (len(edges) + 8))
            value[block] = expectation(f, breaks, order, level, chunk)
        return value

    return rule


def _product_with_conditional(
    phi: Phi, plane: Plane, edges: Float[np.ndarray, " edges"], order: int, level: int
) -> RowFunction:
    """Return z1 -> φ(u) E[φ(v) | u], the expectation by panels in z2."""
    drift, width = plane.drift, plane.width

    def product(r: np.ndarray, z: np.ndarray) -> np.ndarray:
        mean = (drift[r, None] * z).ravel()
        spread = np.repeat(width[r], order)
        # Cutting at z1² + z2² = cut² saves a fifth, and spares φ the corners, where it
        # may overflow and the density is nothing.
        room = np.repeat(plane.cut[r], order) ** 2 - z.ravel() ** 2

        def inner(k: np.ndarray, y: np.ndarray) -> np.ndarray:
            return evaluate(phi, mean[k, None] + spread[k, None] * y)

        breaks = (edges - mean[:, None]) / spread[:, None]
        inside = _clip([breaks], np.sqrt(np.maximum(room, 0.0)), ordered=True)
        conditional = expectation(inner, inside, order, level).reshape(z.shape)
        return evaluate(phi, plane.sigma[r, None] * z) * conditional

    return product


def _outer_edges(
    plane: Plane,
    edges: Float[np.ndarray, " edges"],
    kinked: Bool[np.ndarray, " edges"],
) -> Float[np.ndarray, "m breaks"]:
    """Return the breaks in z1: where φ(u) has edges, and where E[φ(v) | u] has layers.

    m(u) is φ smoothed over the width w = τs. Beside an edge of φ it changes over a few
    w, and beyond 9 w it is φ again, to 1e-19. An edge within panels larger than that
    has no layer, unless φ has a kink there.
    """
    w = plane.width[:, None]
    length = np.diff(edges)
    shorter = np.minimum(np.append(np.inf, length), np.append(length, np.inf))
    layered = kinked | (9 * w > shorter)
    breaks = [edges + 0 * w]
    for multiple in (2.0, 5.0, 9.0):
        fits = multiple * w < length / 2
        breaks.append(edges[:-1] + multiple * w * (fits & layered[:, :-1]))
        breaks.append(edges[1:] - multiple * w * (fits & layered[:, 1:]))
    in_v = np.concatenate(breaks, axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        in_z = in_v / plane.drift[:, None]
    # Where ρ = 0, E[φ(v) | u] is constant and needs no breaks.
    in_z = np.where(plane.drift[:, None] == 0, plane.cut[:, None], in_z)
    return _clip([edges / plane.sigma[:, None], in_z], plane.cut)


def _clip(
    breaks: list[Float[np.ndarray, "m _"]],
    cut: Float[np.ndarray, " m"],
    ordered: bool = False,
) -> Float[np.ndarray, "m breaks"]:
    """Return the breaks within ±cut, the two ends included, in ascending order."""
    limit = cut[:, None]
    inside = np.concatenate([-limit, *breaks, limit], axis=1)
    np.clip(inside, -limit, limit, out=inside)
    return inside if ordered else np.sort(inside, axis=1)


def _blocks(count: int, width: int) -> list[slice]:
    """Return slices of `count` rows of `width` values, CHUNK values at a time."""
    step = max(1, CHUNK // width)
    return [slice(start, start + step) for start in range(0, count, step)]
