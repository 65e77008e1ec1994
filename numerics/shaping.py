"""The equations of DKS and TAT for one activation, solved.

Given C'(1) = 1 + excess (DKS) or C''(1) = excess (TAT), the input scale a and shift b determine
the output scale and shift, and two equations are left. With standard normal z,
w(z) = phi(a z + b) - phi(b) and derivatives in z,

    DKS    E w'^2 = (1 + excess) V,    Cov(w, w' z) = V,        V = Var w
    TAT    E w''^2 = excess E w'^2,    E (w + t)^2 = E w'^2,    t = -E w w'' / E w''

where t, from Q' = C', is what TAT adds to w. Of several solutions the one with the smallest |b|
is returned, since it changes phi least; of two mirror images, as an odd activation has, the
one with b > 0.

On a grid of a and b both equations change sign in a cell that holds a solution; each such cell
starts a search, and the quadrature with error control of numerics/quadrature.py decides.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import optimize

from asymptest.numerics.compile import activation_function
from asymptest.numerics.panels import CUTS, LONGEST, RULES
from asymptest.numerics.quadrature import mean_quadrature
from asymptest.theory.activations import Activation
from asymptest.theory.errors import ArgumentError
from asymptest.theory.pieces import derivative
from asymptest.theory.shaped_activations import Transformed

Array = Float[np.ndarray, "..."]
Function = Callable[[np.ndarray], np.ndarray]
Mean = Callable[[Callable[["Near"], np.ndarray]], Any]

LARGEST_SCALE = 32.0
SMALLEST_SCALE = (
    1 / 64
)  # in units of sqrt(excess), which small scales are proportional to
SHIFTS = 2.0 ** np.arange(-3, 4)  # up to which one looks, one after the other
FAR = 16.0  # where a search for log a and b has lost its way
STEPS = 40  # of the shift, from -SHIFTS[k] to SHIFTS[k]
SCALES = 4  # per octave
WITHIN = 1e-12  # how closely the conditions must hold
MIRRORED = 1e-6  # difference of |b| that is rounding
# Ends of panels in units of the activation: as far out, so smooth.
FAR_OUT = 4.0 ** np.arange(5)


@dataclass(frozen=True)
class Near:
    """phi around a shift b at a scale a, at the points z: w and its derivatives in z.

    Args:
        functions: phi, its slope and, where it is needed, its second derivative.
        a: scale, of a shape that broadcasts with z.
        b: shift, likewise.
        z: points.
    """

    functions: tuple[Function, ...]
    a: Any
    b: Any
    z: np.ndarray

    @cached_property
    def w(self) -> np.ndarray:
        """phi(a z + b) - phi(b): its mean square is small with a, phi's is not."""
        phi = self.functions[0]
        return phi(self.a * self.z + self.b) - phi(self.b + 0 * self.z)

    @cached_property
    def slope(self) -> np.ndarray:
        """The derivative of w."""
        return self.a * self.functions[1](self.a * self.z + self.b)

    @cached_property
    def bend(self) -> np.ndarray:
        """The second derivative of w."""
        return self.a**2 * self.functions[2](self.a * self.z + self.b)


@dataclass(frozen=True)
class Equations:
    """What is left of the conditions at some a and b.

    Args:
        first: of C'(1) or C''(1), over the excess; 0 at a solution.
        second: of Q(1) and Q'(1), likewise.
        variance: of the transformed activation before the output scale.
        shift: what is added to w.
    """

    first: Any
    second: Any
    variance: Any
    shift: Any


At = Callable[[Array, Array], Equations]  # scales, shifts


def _dks(mean: Mean, excess: float) -> Equations:
    centre = mean(lambda t: t.w)
    variance = mean(lambda t: t.w**2) - centre**2
    slope = mean(lambda t: t.slope**2) / variance
    growth = mean(lambda t: t.w * t.slope * t.z)
    growth = (growth - centre * mean(lambda t: t.slope * t.z)) / variance
    return Equations((slope - 1) / excess - 1, (growth - 1) / excess, variance, -centre)


def _tat(mean: Mean, excess: float) -> Equations:
    variance = mean(lambda t: t.slope**2)
    curvature = mean(lambda t: t.bend**2) / variance
    shift = -mean(lambda t: t.w * t.bend) / mean(lambda t: t.bend)
    second = mean(lambda t: t.w**2) + shift * (2 * mean(lambda t: t.w) + shift)
    return Equations(
        curvature / excess - 1, (second / variance - 1) / excess, variance, shift
    )


def solve_dks(phi: Activation, excess: float) -> Transformed:
    """Return phi with Q(1) = Q'(1) = 1, C(0) = 0, C'(1) = 1 + excess.

    Args:
        phi: an activation that does not jump.
        excess: > 0.

    Raises:
        ArgumentError: if no solution is found.
        AccuracyError: if quadrature does not converge there.
    """
    slope = derivative(phi.expr)
    found = _solve(phi, (phi.expr, slope), lambda mean: _dks(mean, excess), excess)
    return _known(found, phi, f"C'(1) = 1 + {excess:.4g}")


def solve_tat(phi: Activation, excess: float) -> Transformed:
    """Return phi with Q(1) = Q'(1) = C'(1) = 1, C''(1) = excess.

    Args:
        phi: an activation with a continuous slope.
        excess: > 0.

    Raises:
        ArgumentError, AccuracyError: as `solve_dks`.
    """
    slope = derivative(phi.expr)
    parts = (phi.expr, slope, derivative(slope))
    found = _solve(phi, parts, lambda mean: _tat(mean, excess), excess)
    return _known(found, phi, f"C''(1) = {excess:.4g}")


def _solve(
    phi: Activation,
    parts: tuple[Any, ...],
    equations: Callable[[Mean], Equations],
    excess: float,
) -> Transformed | None:
    functions = tuple(
        activation_function(Activation(f"{phi.name}, derivative {k}", part))
        for k, part in enumerate(parts)
    )
    kinks = np.array(phi.kinks)

    def roughly(a: Array, b: Array) -> Equations:
        return equations(_on_rows(functions, kinks, a, b))

    def precisely(a: Array, b: Array) -> Equations:
        return equations(_precise(functions, kinks, float(a[0]), float(b[0])))

    least = math.log(SMALLEST_SCALE * math.sqrt(excess))
    octaves = (math.log(LARGEST_SCALE) - least) / math.log(2)
    logs = np.linspace(least, math.log(LARGEST_SCALE), math.ceil(SCALES * octaves))
    for largest in SHIFTS:
        shifts = np.linspace(-largest, largest, STEPS)
        starts = _cells(roughly, logs, shifts)
        near = [
            v for start in starts if (v := _root(roughly, start, excess)) is not None
        ]
        b = min((abs(v[1]) for v in near), default=math.inf)
        if b > largest:
            continue
        # Of two mirror images, which rounding sets apart, the one with the larger shift.
        closest = max(
            (v for v in near if abs(v[1]) <= b + MIRRORED), key=lambda v: v[1]
        )
        found = _root(precisely, closest, excess)
        if found is not None:
            return _transformed(phi, functions[0], found, precisely)
    return None


def _known(found: Transformed | None, phi: Activation, wanted: str) -> Transformed:
    if found is None:
        raise ArgumentError(
            f"no transformation of {phi.name} with {wanted} was found with input scales up "
            f"to {LARGEST_SCALE:g} and shifts up to {SHIFTS[-1]:g}: choose more layers, a "
            f"smaller target for the network, or another activation"
        )
    return found


def _transformed(phi: Activation, function: Function, v: Array, at: At) -> Transformed:
    scale, shift = np.exp(v[:1]), v[1:]
    there = at(scale, shift)
    return Transformed(
        phi,
        float(scale[0]),
        float(shift[0]),
        float(there.variance) ** -0.5,
        float(there.shift - function(shift)[0]),
    )


def _cells(at: At, logs: Array, shifts: Array) -> Array:
    """Return the centres of the cells of a grid in which both equations change sign."""
    a, b = np.meshgrid(np.exp(logs), shifts, indexing="ij")
    with np.errstate(all="ignore"):  # phi may overflow at a large scale: no cell there
        there = at(a.ravel(), b.ravel())
    both = np.ones((len(logs) - 1, len(shifts) - 1), dtype=bool)
    for values in (there.first, there.second):
        grid = np.reshape(values, a.shape)
        corners = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[:-1, 1:], grid[1:, 1:]])
        both &= (corners.min(axis=0) <= 0) & (corners.max(axis=0) >= 0)
    i, k = np.nonzero(both)
    return np.stack([logs[i] + logs[i + 1], shifts[k] + shifts[k + 1]], axis=1) / 2


def _root(at: At, start: Array, excess: float) -> Array | None:
    """Return log a and b of a solution close to `start`, or None if there is none."""

    def residuals(v: Array) -> Array:
        if not np.abs(v).max() < FAR:
            return np.full(2, np.nan)
        there = at(np.exp(v[:1]), v[1:])
        return np.concatenate([np.ravel(there.first), np.ravel(there.second)])

    with np.errstate(all="ignore"):
        found: Any = optimize.root(residuals, start, options={"xtol": 1e-15})
        left = np.abs(residuals(found.x))
    # The second bound counts where the excess itself is small.
    good = (left * excess <= WITHIN).all() and (left <= WITHIN**0.5).all()
    return found.x if good else None


def _on_rows(functions: tuple[Function, ...], kinks: Array, a: Array, b: Array) -> Mean:
    """Return the mean over z at many scales and shifts, by panels of fixed order."""
    fixed = np.linspace(-CUTS[0], CUTS[0], math.ceil(2 * CUTS[0] / LONGEST) + 1)
    moving = (np.concatenate([-FAR_OUT, [0.0], FAR_OUT, kinks]) - b[:, None]) / a[
        :, None
    ]
    moving = np.clip(moving, -CUTS[0], CUTS[0])
    edges = np.sort(np.append(np.tile(fixed, (len(a), 1)), moving, axis=1), axis=1)
    nodes, weights = RULES[16]
    half = np.diff(edges)[..., None] / 2
    z = (edges[:, :-1, None] + half * (1 + nodes)).reshape(len(a), -1)
    mass = (half * weights).reshape(z.shape) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    near = Near(functions, a[:, None], b[:, None], z)

    def mean(f: Callable[[Near], np.ndarray]) -> Array:
        return (f(near) * mass).sum(axis=1)

    return mean


def _precise(functions: tuple[Function, ...], kinks: Array, a: float, b: float) -> Mean:
    """Return the mean over z at one scale and shift, with error control."""
    one, there = np.ones(1), tuple((kinks - b) / a)

    def mean(f: Callable[[Near], np.ndarray]) -> float:
        return float(
            mean_quadrature(lambda z: f(Near(functions, a, b, z)), one, there)[0]
        )

    return mean
