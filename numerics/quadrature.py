"""Gaussian expectations of an activation by quadrature: no closed form needed.

For jointly Gaussian, centred u, v with variances p, q and correlation ρ,

    dual = E φ(u) φ(v),    mean = E φ(u).

With u = σ z1, v = τ (ρ z1 + s z2), σ² = p, τ² = q, s² = 1 - ρ² and independent standard
normal z1, z2, two rules that share no code compute the dual:

* trapezoid: exponentially convergent where φ is analytic; halved until it agrees with
  its own every second point. The first choice for a smooth φ.
* panels: Gauss-Legendre in z1 of φ(u) m(u), m(u) = E[φ(v) | u] by Gauss-Legendre in z2,
  split at the kinks of φ and wherever φ changes fast; two orders must agree.

The checks are closed forms from the literature, and nested adaptive quadrature from
SciPy, in tests/numerics/test_quadrature.py.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from asymptest.numerics.gaussian_rules import (
    Plane,
    agree,
    line_rule,
    panel_rule,
    trapezoid,
)
from asymptest.numerics.panels import (
    EPS,
    TINY,
    Phi,
    cuts,
    evaluate,
    kinked_edges,
    mesh,
)
from asymptest.theory.errors import ArgumentError, ShapeError

# Standard deviation that stands for the limit 0+ at a jump: u has a sign, no size.
VANISHING = 1e-150


def dual_quadrature(
    phi: Phi,
    p: Float[np.ndarray, " m"],
    q: Float[np.ndarray, " m"],
    rho: Float[np.ndarray, " m"],
    kinks: Sequence[float] = (),
    tol: float = 1e-12,
) -> Float[np.ndarray, " m"]:
    """Return E φ(u) φ(v) for centred Gaussian u, v of variances p, q, correlation ρ.

    Equal triples, and triples with p and q swapped, are computed once.

    Args:
        phi: vectorised, real; analytic between the `kinks`. A feature further than one
            unit from 0 must be visible to 16 points per octave.
        p: variances of u, (m,), `p >= 0`. At p = 0, u is 0; if φ jumps there, the value
            is the limit p → 0+ (so a jump at 0 belongs among the kinks).
        q: variances of v, likewise.
        rho: correlations in [-1, 1].
        kinks: points where φ is not analytic, jumps included. Those left out
            are looked for, and found if φ changes course there by more than 1e-6; to
            declare them is faster and surer.
        tol: absolute error allowed, in units of sqrt(E φ(u)² E φ(v)²).

    Returns:
        Array (m,), in the unit of φ².

    Raises:
        ShapeError: if p, q, rho are not vectors of one length.
        ArgumentError: if p or q is negative, |rho| > 1, an argument is not finite, or φ
            is not finite at a point, which is named.
        AccuracyError: if `tol` is not reached, or E φ(u)² overflows.

    Source: the definition. Trefethen and Weideman (2014) for the trapezoidal rule.

    >>> one = np.ones(1)
    >>> dual_quadrature(np.abs, one, one, 0 * one, kinks=(0.0,)).round(12)  # 2 / π
    array([0.63661977])
    """
    p, q, rho = _vectors(p=p, q=q, rho=rho)
    if (np.abs(rho) > 1).any():
        at = np.argmax(np.abs(rho))
        raise ArgumentError(
            f"dual_quadrature needs |rho| <= 1; got rho[{at}] = {rho[at]}; "
            "asymptest.numerics.correlation forgives rounding"
        )
    if not len(p):
        return np.zeros(0)
    corners = _kinks(kinks)
    triples = np.stack([np.maximum(p, q), np.minimum(p, q), rho], axis=1)
    triples, inverse = np.unique(triples, axis=0, return_inverse=True)
    larger, smaller, correlations = triples.T
    value = _distinct(phi, larger, smaller, correlations, corners, tol)
    return value[inverse.reshape(-1)]


def mean_quadrature(
    phi: Phi,
    p: Float[np.ndarray, " m"],
    kinks: Sequence[float] = (),
    tol: float = 1e-12,
) -> Float[np.ndarray, " m"]:
    """Return E φ(u) for a centred Gaussian u of variance p.

    E φ(u)² is `dual_quadrature(phi, p, p, np.ones(m))`.

    Args:
        phi: as for `dual_quadrature`.
        p: variances (m,), `p >= 0`; p = 0 gives φ(0), or the mean of the one-sided
            values if φ jumps there.
        kinks: as for `dual_quadrature`.
        tol: absolute error allowed, in units of sqrt(E φ(u)²).

    Returns:
        Array (m,), in the unit of φ.

    Raises:
        ShapeError, ArgumentError, AccuracyError: as `dual_quadrature`.

    >>> mean_quadrature(np.abs, np.array([0.0, 1.0]), kinks=(0.0,))  # 0, sqrt(2 / π)
    array([0.        , 0.79788456])
    """
    (p,) = _vectors(p=p)
    if not len(p):
        return np.zeros(0)
    corners = _kinks(kinks)
    p, inverse = np.unique(p, return_inverse=True)
    sigma, still = _deviations(phi, p, corners)
    cut = cuts(phi, sigma)
    edges = mesh(phi, float((cut * sigma).max()), corners)
    second = agree(line_rule(phi, (sigma, sigma), cut, edges), None, tol, len(p))
    rule = line_rule(phi, (sigma,), cut, edges)
    value = agree(rule, np.sqrt(second), tol, len(p))
    value[still] = evaluate(phi, np.zeros(1))
    return value[inverse.reshape(-1)]


def _distinct(
    phi: Phi,
    p: Float[np.ndarray, " m"],
    q: Float[np.ndarray, " m"],
    rho: Float[np.ndarray, " m"],
    kinks: Float[np.ndarray, " kinks"],
    tol: float,
) -> Float[np.ndarray, " m"]:
    """Return the duals of distinct triples with p >= q."""
    m = len(p)
    sigma, _ = _deviations(phi, p, kinks)
    tau, still = _deviations(phi, q, kinks)
    # v is the smaller one, so that E[φ(v) | u] varies no faster in u than φ.
    sigma, tau = np.maximum(sigma, tau), np.minimum(sigma, tau)
    spread, index = np.unique(np.concatenate([sigma, tau]), return_inverse=True)
    cut = cuts(phi, spread)
    plane = Plane(sigma, tau, rho, np.maximum(cut[index[:m]], cut[index[m:]]))
    edges = mesh(phi, float((plane.cut * sigma).max()), kinks)
    rule = line_rule(phi, (spread, spread), cut, edges)
    root = np.sqrt(agree(rule, None, tol, len(spread)))
    scale = root[index[:m]] * root[index[m:]]

    value = np.empty(m)
    if still.any():
        at_zero = evaluate(phi, np.zeros(1))
        value[still] = at_zero * mean_quadrature(phi, p[still], tuple(kinks), tol)
    for sign in (1.0, -1.0):
        at = np.flatnonzero(~still & (rho == sign))
        on = plane.take(at)
        rule = line_rule(phi, (on.sigma, sign * on.tau), on.cut, edges)
        value[at] = agree(rule, scale[at], tol, len(at))
    at = np.flatnonzero(~still & (np.abs(rho) < 1))
    kinked = kinked_edges(phi, edges, kinks)
    if not kinked.any():
        value[at], done = trapezoid(phi, plane.take(at), edges, scale[at], tol)
        at = at[~done]
    rule = panel_rule(phi, plane.take(at), edges, kinked)
    value[at] = agree(rule, scale[at], tol, len(at))
    return value


def _deviations(
    phi: Phi, p: Float[np.ndarray, " m"], kinks: Float[np.ndarray, " kinks"]
) -> tuple[Float[np.ndarray, " m"], Bool[np.ndarray, " m"]]:
    """Return positive standard deviations, and where u is still: φ(u) is φ(0).

    A variance of 0 becomes `VANISHING`. It is not still where φ jumps at 0.
    """
    zero = p == 0
    still = zero
    if zero.any() and (kinks == 0).any():
        y = evaluate(phi, np.array([-TINY, 0.0, TINY, -1.0, 1.0]))
        if np.ptp(y[:3]) > EPS * np.abs(y).max():
            still = np.zeros_like(zero)
    return np.where(zero, VANISHING, np.sqrt(p)), still


def _kinks(kinks: Sequence[float]) -> Float[np.ndarray, " kinks"]:
    points = np.unique(np.asarray(tuple(kinks), dtype=np.float64))
    if not np.isfinite(points).all():
        raise ArgumentError(f"kinks must be finite numbers; got {tuple(kinks)}")
    return points + 0.0  # no -0.0


def _vectors(**named: np.ndarray) -> list[Float[np.ndarray, " m"]]:
    """Return float64 vectors, checked: one length, finite, no negative variance."""
    vectors = {name: np.asarray(x, dtype=np.float64) for name, x in named.items()}
    shapes = {name: x.shape for name, x in vectors.items()}
    if len(set(shapes.values())) > 1 or any(len(s) != 1 for s in shapes.values()):
        raise ShapeError(f"arguments must be vectors of one length (m,); got {shapes}")
    for name, x in vectors.items():
        bad = ~np.isfinite(x) | ((x < 0) & (name != "rho"))
        if bad.any():
            at = int(np.argmax(bad))
            domain = "in [-1, 1]" if name == "rho" else "a finite variance >= 0"
            raise ArgumentError(f"{name} must be {domain}; got {name}[{at}] = {x[at]}")
    return list(vectors.values())
