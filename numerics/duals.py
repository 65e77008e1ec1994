"""Duals and C-maps of one activation, vectorised: closed forms where there are, else quadrature.

Near rho = 1 a kernel is flat, and 1 - C(rho) computed from C has no digits left. By Price's
theorem it is an integral without cancellation,

    Q(K) (1 - C(cos t)) = integral from 0 to t of K E phi'(u) phi'(v) at rho = cos s, sin s ds,

in the angle s, in which the kinks' square roots are smooth too.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy as sp
from jaxtyping import Float

from asymptest.numerics.compile import Entry, activation_function, closed_form
from asymptest.numerics.gram import correlations
from asymptest.numerics.panels import RULES
from asymptest.numerics.quadrature import dual_quadrature
from asymptest.numerics.strips import Strips, by_strips
from asymptest.theory.activations import Activation
from asymptest.theory.errors import (
    AccuracyError,
    ArgumentError,
    NoClosedFormError,
    ShapeError,
    UnsupportedError,
)
from asymptest.theory.gaussian_calculus import product_moment
from asymptest.theory.pieces import derivative, jumps
from asymptest.theory.piecewise import intervals, with_steps, x

Array = Float[np.ndarray, "..."]
# Standard deviations between which products of four neither overflow nor underflow.
PLAIN = (1e-70, 1e70)
# Shifts that may make up a variance: so many digits a shifted determinant loses near rho = 1.
FEW = 1000

CLOSE = 1e-13  # relative gap of two rules that counts as agreement
HALVINGS = 60
BLOCK = 256  # gaps at a time, each with some fifty panels
# Shares of the way from 0, or of what is left to pi.
_SHARES = 0.5 ** np.arange(28)
EDGES = np.pi / 2 * np.concatenate([[0], _SHARES[::-1], 2 - _SHARES[1:], [2]])


def entrywise(entry: Entry, K: Float[np.ndarray, "T T"]) -> Float[np.ndarray, "T T"]:
    """Return a function of any two entries of a kernel as a matrix, exactly symmetric."""
    return by_strips(on_strips(entry, np.diagonal(K)), K)


def on_strips(entry: Entry, variance: Float[np.ndarray, " T"]) -> Strips:
    """Return (strip, rows, columns) -> f(K_ii, K_ij, K_jj) there.

    Args:
        entry: the function f.
        variance: diagonal of the kernel K that the strips are of.
    """
    size = np.sqrt(variance)
    most = np.sqrt(FEW * entry.shift) if entry.shift else PLAIN[1]
    fast = entry.fast if PLAIN[0] < size.min() and size.max() < most else None
    shifted = np.sqrt(variance + entry.shift)
    of_shifted = entry.shift * (2 * variance + entry.shift)  # det on the diagonal

    def strip(c: Array, rows: slice, rest: slice) -> Array:
        a, b = shifted[rows, None], shifted[None, rest]
        if fast is not None and entry.is_linear:
            return fast(a, b, c, None)
        det = _determinant(a * b, c, of_shifted[rows]) if fast else None
        with np.errstate(divide="ignore"):  # atan(c / 0) is pi / 2
            if fast is not None and det is not None:
                value = fast(a, b, c, det)
            else:
                a, b = size[rows, None], size[None, rest]
                rho = correlations(variance)(c, rows, rest)
                value = entry.at(a, b, rho, (1 - rho) * (1 + rho))
        return _full(value, c)

    return strip


def at_one(entry: Entry, variance: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """Return f(K_ii, K_ii, K_ii), the new variances."""
    size = np.sqrt(variance)
    return _call(entry, size, size, np.ones_like(size))


def _determinant(
    scale: Float[np.ndarray, "rows columns"],
    c: Float[np.ndarray, "rows columns"],
    diagonal: Float[np.ndarray, " rows"],
) -> Float[np.ndarray, "rows columns"] | None:
    """Return scale^2 - c^2 with that diagonal, or None where |c| exceeds the scale.

    It writes over `scale`.
    """
    det = scale - c
    scale += c
    det *= scale
    at = np.arange(len(det))
    det[at, at] = diagonal
    return det if det.min() >= 0 else None


def dual(
    phi: Activation, p: npt.ArrayLike, q: npt.ArrayLike, rho: npt.ArrayLike
) -> Float[np.ndarray, "*shape"]:
    """Return E phi(u) phi(v) for centred Gaussian u, v.

    Args:
        phi: the activation.
        p: variance of u, >= 0; p, q and rho are broadcast against each other.
        q: variance of v.
        rho: correlation, in [-1, 1].

    Raises:
        ArgumentError: if an argument is out of its range.
        ShapeError: if the shapes do not fit.
        AccuracyError: if there is no closed form and quadrature does not converge.

    >>> from asymptest.theory import relu
    >>> dual(relu, 1.0, [1.0, 4.0], 1.0)
    array([0.5, 1. ])
    """
    variances = {"p": checked("p", p, 0, np.inf), "q": checked("q", q, 0, np.inf)}
    p, q, rho = _broadcast(**variances, rho=checked("rho", rho, -1, 1))
    a, b = np.sqrt(p.reshape(-1)), np.sqrt(q.reshape(-1))
    return _call(dual_entry(phi), a, b, rho.reshape(-1)).reshape(rho.shape)


def c_map(
    phi: Activation, rho: npt.ArrayLike, K: npt.ArrayLike = 1.0
) -> Float[np.ndarray, "*shape"]:
    """Return C(rho) = E phi(u) phi(v) / E phi(u)^2 at equal variances K.

    Args:
        phi: the activation.
        rho: correlation, in [-1, 1]; broadcast against K.
        K: variance of u and of v, > 0.

    Raises:
        ArgumentError, ShapeError, AccuracyError: as `dual`.
    """
    K = checked("K", K, np.finfo(float).tiny, np.inf)
    rho, K = _broadcast(rho=checked("rho", rho, -1, 1), K=K)
    second = _second_moment(phi, K)
    return np.asarray(dual(phi, K, K, rho) / second)


def c_map_gap(
    phi: Activation, gap: npt.ArrayLike, K: npt.ArrayLike = 1.0
) -> Float[np.ndarray, "*shape"]:
    """Return 1 - C(1 - gap), to full relative accuracy for however small a gap.

    Args:
        phi: the activation.
        gap: 1 - rho, in [0, 2]; broadcast against K.
        K: variance of u and of v, > 0.

    Raises:
        ArgumentError, ShapeError, AccuracyError: as `dual`.

    >>> from asymptest.theory import relu
    >>> c_map_gap(relu, [1e-30, 1.0]).round(40)  # 1e-30, and 1 - 1/pi
    array([1.00000000e-30, 6.81690114e-01])
    """
    K = checked("K", K, np.finfo(float).tiny, np.inf)
    gap, K = _broadcast(gap=checked("gap", gap, 0, 2), K=K)
    size, scale = np.sqrt(K).ravel(), (K / _second_moment(phi, K)).ravel()
    if phi.is_even:
        gap = np.minimum(gap, 2 - gap)
    angle = 2 * np.arctan2(np.sqrt(gap), np.sqrt(2 - gap)).ravel()

    def slope(rows: np.ndarray, s: np.ndarray) -> np.ndarray:
        a = size[rows, None]
        with np.errstate(divide="ignore"):
            rho, w = np.cos(s), np.sin(s) ** 2
            value = dual_entry(phi, 1).at(a, a, rho, w)
        return scale[rows, None] * value * np.sin(s)

    found = np.empty(angle.shape)
    for start in range(0, len(angle), BLOCK):
        part = np.arange(start, min(start + BLOCK, len(angle)))
        found[part] = _from_zero(
            lambda rows, s, part=part: slope(part[rows], s), angle[part]
        )
    return found.reshape(K.shape)


def _second_moment(phi: Activation, K: Array) -> Array:
    """Return Q(K), or say that it is no number to divide by."""
    with np.errstate(over="ignore", invalid="ignore"):
        value = dual(phi, K, K, 1.0)
    good = (value > 0) & np.isfinite(value)
    if not good.all():
        raise ArgumentError(
            f"a C-map is divided by E phi(u)^2, which is {value[~good][0]} for {phi.name} "
            f"at K = {K[~good][0]} in float64; choose another K"
        )
    return value


def _from_zero(
    f: Callable[[np.ndarray, np.ndarray], np.ndarray], ends: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """Return the integral of f(row, s) from 0 to ends[row] <= pi, to relative accuracy.

    The panels shrink towards 0 and towards pi, where at large variances f changes fast, so
    that no rule is blind to it; then they are halved until two Gauss rules agree.
    """
    total, rows = np.zeros(len(ends)), np.repeat(np.arange(len(ends)), len(EDGES) - 1)
    edges = np.minimum(EDGES, ends[:, None])
    low, high = edges[:, :-1].ravel(), edges[:, 1:].ravel()
    rows, low, high = (part[low < high] for part in (rows, low, high))
    for _ in range(HALVINGS):
        coarse, fine = (_gauss(f, rows, low, high, order) for order in (12, 16))
        # Against the row's total: what a short panel misses does not matter by itself.
        sums = total + np.bincount(rows, np.abs(fine), len(ends))
        rough = np.abs(fine - coarse) > CLOSE * sums[rows] + np.finfo(float).tiny
        total += np.bincount(rows[~rough], fine[~rough], len(ends))
        if not rough.any():
            return total
        rows, low, high = rows[rough], low[rough], high[rough]
        middle = (low + high) / 2
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        rows = np.concatenate([rows, rows])
    raise AccuracyError(
        f"1 - C does not converge at the angle {ends[rows[0]]:.6g} = arccos(1 - gap)"
    )


def _gauss(
    f: Callable[[np.ndarray, np.ndarray], np.ndarray],
    rows: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    order: int,
) -> np.ndarray:
    nodes, weights = RULES[order]
    half = (high - low)[:, None] / 2
    return half[:, 0] * (f(rows, low[:, None] + half * (1 + nodes)) @ weights)


@lru_cache(maxsize=256)
def dual_entry(phi: Activation, order: int = 0) -> Entry:
    """Return E f(u) f(v) for the derivative f of phi of that order."""
    f = derivative(phi.expr) if order else phi.expr
    try:
        return closed_form(product_moment(f, f).value)
    except NoClosedFormError:
        return Entry(partial(_quadrature, _slope(phi) if order else phi))


def _slope(phi: Activation) -> Activation:
    """Return phi' away from its kinks, not expanded: exp(x) H(-x) must not become a difference."""
    if jumps(phi.expr):
        raise UnsupportedError(
            f"{phi.name} jumps, and E phi'(u) phi'(v) has no closed form for it; "
            f"quadrature does not reach a derivative that is infinite"
        )
    parts = intervals(with_steps(phi.expr))
    slope: Any = sp.Piecewise(*((sp.diff(part, x), x < end) for part, end in parts))
    return Activation(f"{phi.name}'", slope)


def _quadrature(phi: Activation, a: Array, b: Array, rho: Array, *_: Array) -> Array:
    a, b, rho = np.broadcast_arrays(a, b, rho)
    value = dual_quadrature(
        activation_function(phi),
        (a**2).ravel(),
        (b**2).ravel(),
        rho.ravel(),
        kinks=phi.kinks,
    )
    return value.reshape(rho.shape)


def _call(entry: Entry, a: Array, b: Array, rho: Array) -> Array:
    with np.errstate(divide="ignore"):
        value = entry.at(a, b, rho, (1 - rho) * (1 + rho))
    return _full(value, rho)


def _full(value: Any, like: Array) -> Array:
    """Return a value as an array: of a constant it is a number, an integer perhaps."""
    return np.broadcast_to(np.asarray(value, np.float64), like.shape)


def _broadcast(**named: Array) -> tuple[Array, ...]:
    try:
        return np.broadcast_arrays(*named.values())
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in named.items())
        raise ShapeError(
            f"the arguments must be broadcast against each other; got the shapes {shapes}"
        ) from None


def checked(name: str, value: npt.ArrayLike, low: float, high: float) -> Array:
    """Return a float64 array, or raise ArgumentError naming an entry outside [low, high]."""
    array = np.asarray(value, dtype=np.float64)
    good = (array >= low) & (array <= high) & np.isfinite(array)
    if not good.all():
        bad = array[~good].flat[0]
        raise ArgumentError(
            f"{name} must be finite and in [{low:g}, {high:g}]; got {bad}"
        )
    return array
