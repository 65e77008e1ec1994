"""Gauss-Legendre panels: where a function has mass, and where it is smooth.

Beyond `cuts(phi, ...)` the Gaussian leaves nothing of φ². On each panel of
`mesh(phi, ...)` the function φ is a polynomial of degree 15 to ten digits. A
Gauss-Legendre rule of n points integrates degree 2n - 1, so 12 points already leave an
error of some 1e-12, and 16 points less; two rules that agree are the error control of
numerics/gaussian_rules.py, which builds on this file.
"""

from collections.abc import Callable
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int

from asymptest.theory.errors import AccuracyError, ArgumentError, ShapeError

Phi = Callable[[np.ndarray], np.ndarray]
RowFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]

EPS = float(np.finfo(np.float64).eps)
TINY = float(np.finfo(np.float64).tiny)
# exp(-38²/2) is about the smallest positive number.
CUTS = (8.25, 9.0, 10.0, 12.0, 14.0, 16.0, 20.0, 24.0, 28.0, 32.0, 38.0)
DEGREE = 15
RESOLVED = 1e-10  # of the two highest coefficients; squared by Gauss quadrature
# Two panels are merged only if one polynomial fits to rounding: a bump of 1e-8 at the
# end of a long panel is not squared, it is missed.
MERGED = 1e-13
MAX_PANELS = 8192
# exp(-z²/2) needs panels of this length for 13 digits from 12 points.
LONGEST = 2.8
CHUNK = 2**18  # values of φ at a time: 2 MB an array, so that φ runs in the cache

RULES = MappingProxyType({n: np.polynomial.legendre.leggauss(n) for n in (12, 16)})
NODES, _WEIGHTS = RULES[DEGREE + 1]
_VANDER = np.polynomial.legendre.legvander(NODES, DEGREE)
# Values at the nodes -> Legendre coefficients (discrete orthogonality).
_TO_LEGENDRE = (_VANDER * _WEIGHTS[:, None]) * (np.arange(DEGREE + 1) + 0.5)
# Points just inside a panel, and Legendre coefficients -> values there.
_ENDS = np.array([-1.0, 1.0]) * (1 - 1e-9)
_AT_ENDS = np.polynomial.legendre.legvander(_ENDS, DEGREE).T


def evaluate(phi: Phi, x: np.ndarray) -> np.ndarray:
    """Return φ(x) as float64, of the shape of x, or raise naming the point.

    Raises:
        ArgumentError: if φ is complex or not finite somewhere.
        ShapeError: if φ returns another shape (a constant is broadcast).
    """
    # The floating point flags say nothing that the check of every value does not.
    with np.errstate(all="ignore"):
        y = np.asarray(phi(x))
    if y.dtype.kind not in "fiub":
        raise ArgumentError(
            f"phi must return real numbers; got dtype {y.dtype} at x = {x.flat[0]:.6g}"
        )
    y = y.astype(np.float64, copy=False)
    if y.shape != x.shape:
        if y.size != 1:
            raise ShapeError(
                f"phi must be vectorised: it returned shape {y.shape} for an argument "
                f"of shape {x.shape}"
            )
        y = np.full(x.shape, y.item())
    finite = np.isfinite(y)
    if not finite.all():
        at = np.argmin(finite.ravel())
        raise ArgumentError(
            f"phi must be finite where the Gaussian has its mass; got phi({x.flat[at]})"
            f" = {y.flat[at]}; rewrite phi or lower the variance"
        )
    return y


def cuts(phi: Phi, sigma: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Return where to cut z so that E φ(σz)² loses less than 1e-15 of itself.

    Raises:
        ArgumentError: if φ is not finite before that point.
        AccuracyError: if there is no such point: φ(σz)² exp(-z²/2) does not die out.
    """
    z = np.arange(0.0, 38.01, 0.25)  # ends at the last cut
    found = np.empty(len(sigma))
    for start in range(0, len(sigma), 256):
        part = slice(start, start + 256)
        x = np.stack([sigma[part, None] * z, -sigma[part, None] * z])
        with np.errstate(all="ignore"):  # finiteness is looked at below
            y = np.broadcast_to(np.asarray(phi(x)), x.shape)
            log_weight = 2 * np.log(np.abs(y)).max(axis=0) - z * z / 2
        finite = np.isfinite(y).all(axis=0)
        # Behind the first overflow nothing is known; before it, φ must have died out.
        known = np.logical_and.accumulate(finite, axis=1)
        log_weight = np.where(known, log_weight, -np.inf)
        top = log_weight.max(axis=1, keepdims=True)
        # The tail beyond z is less than the integrand at z, by a factor of z.
        small = log_weight <= top + np.log(1e-14)
        gone = np.logical_and.accumulate(small[:, ::-1], axis=1)[:, ::-1] & known
        # A φ that vanishes up to 32 deviations has E φ² < 1e-217 max φ²; its growth
        # beyond is no reason to refuse.
        peak = 2 * np.log(np.abs(np.where(known, y, TINY)).max(axis=(0, 2)) + TINY)
        gone[:, -1] |= known[:, -1] & (top[:, 0] < peak - 500)
        at = np.searchsorted(z, CUTS)
        if not gone[:, at].any(axis=1).all():
            row = int(np.argmin(gone[:, at].any(axis=1)))
            _raise_no_cut(x[:, row], y[:, row], float(sigma[start + row]))
        found[part] = np.asarray(CUTS)[np.argmax(gone[:, at], axis=1)]
    return found


def mesh(
    phi: Phi, reach: float, kinks: Float[np.ndarray, " kinks"]
) -> Float[np.ndarray, " edges"]:
    """Return the edges of panels on [-reach, reach] that resolve φ, kinks among them.

    Panels start as octaves around 0, each seen by 16 points, so that a feature near the
    origin is found however wide the interval is; are halved until φ is resolved; and
    neighbours are merged where one polynomial does for both.

    Raises:
        AccuracyError: if φ needs more than 8,192 panels (noise, or fast oscillation).
    """
    kinks = kinks[np.abs(kinks) < reach]
    # Not next to the ends: a short last panel would pass for a fine feature of φ.
    octaves = 2.0 ** np.arange(np.ceil(np.log2(max(reach / 1.5, 1.0))))
    edges = np.unique(np.concatenate([kinks, -octaves, octaves, [-reach, reach]]))
    scale = _running_scale(phi, edges)
    left, right = edges[:-1], edges[1:]
    done = []
    for _ in range(64):
        y = evaluate(phi, _nodes(left, right))
        coefficients = y @ _TO_LEGENDRE
        tail = np.abs(coefficients)[:, -2:].max(axis=1, initial=0)
        # A jump between the last node and the end of a panel shows at the end only.
        nearly = left[:, None] + 0.5 * (right - left)[:, None] * (1 + _ENDS)
        beyond = np.abs(coefficients @ _AT_ENDS - evaluate(phi, nearly)).max(
            axis=1, initial=0
        )
        ends = np.maximum(np.abs(left), np.abs(right))
        size = np.maximum(scale(ends), np.abs(y).max(axis=1, initial=0))
        # At a kink that was not declared, halving ends where numbers end.
        rough = (tail > RESOLVED * size) | (beyond > 1e3 * RESOLVED * size)
        rough &= right - left > 8 * EPS * ends
        done.append(left[~rough])
        if not rough.any():
            break
        left, right = left[rough], right[rough]
        middle = 0.5 * (left + right)
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
        if len(left) + sum(map(len, done)) > MAX_PANELS:
            raise AccuracyError(
                f"phi needs more than {MAX_PANELS} panels on [-{reach:.3g}, "
                f"{reach:.3g}], for example near x = {left[0]:.6g}; declare its kinks, "
                "or lower the variance"
            )
    else:
        done.append(left)  # 2^-64 of an octave is below the rounding of the sum
    edges = np.append(np.sort(np.concatenate(done)), reach)
    return _merge(phi, edges, kinks, scale)


def kinked_edges(
    phi: Phi, edges: Float[np.ndarray, " edges"], kinks: Float[np.ndarray, " kinks"]
) -> Bool[np.ndarray, " edges"]:
    """Say which edges of a mesh are kinks: declared, or seen.

    Seen means that the polynomial of a panel does not continue φ into the next one, by
    a tenth of half a panel. Without a kink it does: 1e-10 becomes 1e-7 there at most,
    T_15(1.1) being 390. So a kink weaker than 1e-6 must be declared.
    """
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    step = 0.05 * np.minimum(middle - left, right - middle)
    found = np.isin(edges, kinks)
    scale = _running_scale(phi, edges)
    for start, end, side in ((left, middle, 1.0), (middle, right, -1.0)):
        y = evaluate(phi, _nodes(start, end))
        x = middle + side * step
        unit = (x - start) / (0.5 * (end - start)) - 1
        vander = np.polynomial.legendre.legvander(unit, DEGREE)
        there = evaluate(phi, x)
        gap = np.abs(np.einsum("pk,pk->p", vander, y @ _TO_LEGENDRE) - there)
        size = np.maximum(scale(np.maximum(np.abs(start), np.abs(end))), np.abs(there))
        found[1:-1] |= gap > 1e-6 * size
    return found


def expectation(
    f: RowFunction,
    edges: Float[np.ndarray, "rows edges"],
    order: int,
    level: int = 0,
    chunk: int = CHUNK,
) -> Float[np.ndarray, " rows"]:
    """Return E f_r(z) over the panels of each row r, for a standard normal z.

    Args:
        f: takes rows (P,) and points (P, order), returns values (P, order).
        edges: per row, ascending; repeated edges make no panel.
        order: points of the Gauss-Legendre rule, 12 or 16.
        level: every panel is cut into 2^level more.
        chunk: how many values to compute at a time.
    """
    nodes, weights = RULES[order]
    length = np.diff(edges, axis=1)
    pieces = np.ceil(length / LONGEST).astype(np.int64) << level
    owner, left, width = _cut(edges, length, pieces)
    total = np.zeros(len(edges))
    step = max(1, chunk // order)
    for start in range(0, len(owner), step):
        part = slice(start, start + step)
        half = 0.5 * width[part, None]
        z = left[part, None] + half * (1 + nodes)
        values = f(owner[part], z)
        values = values * np.exp(-0.5 * z * z)
        sums = (values @ weights) * half[:, 0]
        total += np.bincount(owner[part], weights=sums, minlength=len(edges))
    return total / np.sqrt(2 * np.pi)


def _cut(
    edges: Float[np.ndarray, "rows edges"],
    length: Float[np.ndarray, "rows panels"],
    pieces: Int[np.ndarray, "rows panels"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, left end and width of every piece of every panel, as flat arrays."""
    counts = pieces.ravel()
    panel = np.repeat(np.arange(counts.size), counts)
    within = np.arange(panel.size) - np.repeat(np.cumsum(counts) - counts, counts)
    width = (length.ravel() / np.maximum(counts, 1))[panel]
    return (
        panel // length.shape[1],
        edges[:, :-1].ravel()[panel] + within * width,
        width,
    )


def _nodes(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return left[:, None] + (0.5 * (right - left))[:, None] * (1 + NODES)


def _running_scale(
    phi: Phi, edges: Float[np.ndarray, " edges"]
) -> Callable[[np.ndarray], np.ndarray]:
    """Return x -> max |φ| on [-|x|, |x|], the size against which φ is resolved.

    The maximum over everything would leave small variances unresolved if φ grows; the
    local one would chase the digits of an exponential that has died out.
    """
    x = _nodes(edges[:-1], edges[1:]).ravel()
    order = np.argsort(np.abs(x))
    known = np.abs(x)[order]
    largest = np.maximum.accumulate(np.abs(evaluate(phi, x))[order])
    # The square of a value 150 decades down underflows, and subnormals have no digits.
    largest = np.maximum(largest, 1e-150 * largest[-1])

    def scale(at: np.ndarray) -> np.ndarray:
        return largest[np.maximum(np.searchsorted(known, np.abs(at)) - 1, 0)]

    return scale


def _merge(
    phi: Phi,
    edges: Float[np.ndarray, " edges"],
    kinks: Float[np.ndarray, " kinks"],
    scale: Callable[[np.ndarray], np.ndarray],
) -> Float[np.ndarray, " fewer"]:
    """Drop edges, other than kinks, between panels that one polynomial resolves."""
    parity, idle = 1, 0
    while idle < 2:
        at = np.arange(parity, len(edges) - 1, 2)
        at = at[~np.isin(edges[at], kinks)]
        left, middle, right = edges[at - 1], edges[at], edges[at + 1]
        coefficients = evaluate(phi, _nodes(left, right)) @ _TO_LEGENDRE
        # Two polynomials of degree 15 that agree at 16 points agree, so a union of
        # unions is as well resolved as the first panels were.
        x = np.concatenate([_nodes(left, middle), _nodes(middle, right)], axis=1)
        unit = (x - left[:, None]) / (0.5 * (right - left))[:, None] - 1
        vander = np.polynomial.legendre.legvander(unit, DEGREE)
        error = np.abs(np.einsum("pxk,pk->px", vander, coefficients) - evaluate(phi, x))
        rounding = 8 * EPS * np.abs(coefficients).max(axis=1, initial=0)[:, None]
        fits = (error <= MERGED * scale(x) + rounding).all(axis=1)
        edges = np.delete(edges, at[fits])
        idle = 0 if fits.any() else idle + 1
        parity = 3 - parity
    return edges


def _raise_no_cut(x: np.ndarray, y: np.ndarray, sigma: float) -> None:
    bad = np.argwhere(~np.isfinite(y.T))
    if len(bad):
        at = tuple(bad[0][::-1])
        raise ArgumentError(
            f"phi must be finite where the Gaussian has its mass; got phi({x[at]:.6g}) "
            f"= {y[at]} at standard deviation {sigma:.6g}; rewrite phi or lower the "
            "variance"
        )
    raise AccuracyError(
        f"E phi(u)^2 does not converge within 38 standard deviations of {sigma:.6g}; "
        "phi grows too fast for this variance"
    )
