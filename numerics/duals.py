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

from asymptest.numerics.compile import activation_function, closed_form
from asymptest.numerics.gram import correlation_blocks
from asymptest.numerics.panels import RULES
from asymptest.numerics.quadrature import dual_quadrature
from asymptest.theory.activations import Activation, with_steps, x
from asymptest.theory.errors import (
    AccuracyError,
    ArgumentError,
    NoClosedFormError,
    ShapeError,
    UnsupportedError,
)
from asymptest.theory.gaussian_calculus import product_moment
from asymptest.theory.pieces import derivative

Array = Float[np.ndarray, "..."]
# (a, b, rho, w) -> E f(u) g(v): standard deviations, correlation, 1 - rho^2.
Entry = Callable[..., Any]

ROWS = 16  # of a kernel at a time, so that temporaries stay in the cache
CLOSE = 1e-13  # relative gap of two rules that counts as agreement
HALVINGS = 60
# Shares of the way from 0, or of what is left to pi.
_SHARES = 0.5 ** np.arange(28)
EDGES = np.pi / 2 * np.concatenate([[0], _SHARES[::-1], 2 - _SHARES[1:], [2]])


def entrywise(function: Entry, K: Float[np.ndarray, "T T"]) -> Float[np.ndarray, "T T"]:
    """Return function(a_i, a_j, rho_ij, 1 - rho_ij^2), symmetric in i and j, for a kernel."""
    size, correlation = np.sqrt(np.diagonal(K)), correlation_blocks(K)
    result = np.empty_like(K)
    for start in range(0, len(K), ROWS):
        rows, rest = slice(start, start + ROWS), slice(start, None)
        a, b = size[rows, None], size[None, rest]
        block = _call(function, a, b, correlation(rows, rest))
        square = np.triu(block[:, : len(block)])  # f(a, b) and f(b, a) may round apart
        result[rows, rest] = block
        result[rows, rows] = square + np.triu(square, 1).T
        result[rest, rows] = result[rows, rest].T
    return result


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
    return np.asarray(_call(entry(phi), np.sqrt(p), np.sqrt(q), rho))


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
    return dual(phi, K, K, rho) / dual(phi, K, K, 1.0)


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

    >>> from asymptest.theory import identity, relu
    >>> c_map_gap(identity, 1e-30), c_map_gap(relu, 1e-30)
    (array(1.e-30), array(1.e-30))
    """
    K = checked("K", K, np.finfo(float).tiny, np.inf)
    gap, K = _broadcast(gap=checked("gap", gap, 0, 2), K=K)
    size = np.sqrt(K).ravel()
    if phi.is_even:
        gap = np.minimum(gap, 2 - gap)
    angle = 2 * np.arctan2(np.sqrt(gap), np.sqrt(2 - gap)).ravel()

    def slope(rows: np.ndarray, s: np.ndarray) -> np.ndarray:
        a = size[rows, None]
        with np.errstate(divide="ignore"):
            return a**2 * entry(phi, 1)(a, a, np.cos(s), np.sin(s) ** 2) * np.sin(s)

    return _from_zero(slope, angle).reshape(K.shape) / dual(phi, K, K, 1.0)


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
def entry(phi: Activation, order: int = 0) -> Entry:
    """Return (a, b, rho, w) -> E f(u) f(v) for the derivative f of phi of that order."""
    f = derivative(phi.expr) if order else phi.expr
    try:
        return closed_form(product_moment(f, f).value)
    except NoClosedFormError:
        return partial(_quadrature, _slope(phi) if order else phi)


def _slope(phi: Activation) -> Activation:
    """Return phi' away from its kinks, not expanded: exp(x) H(-x) must not become a difference."""
    if derivative(phi.expr).has(sp.DiracDelta):
        raise UnsupportedError(
            f"{phi.name} jumps, and E phi'(u) phi'(v) has no closed form for it; "
            f"quadrature does not reach a derivative that is infinite"
        )
    slope: Any = sp.diff(with_steps(phi.expr), x)
    return Activation(
        f"{phi.name}'", slope.replace(sp.DiracDelta, lambda *_: sp.S.Zero)
    )


def _quadrature(phi: Activation, a: Array, b: Array, rho: Array, w: Array) -> Array:
    a, b, rho = np.broadcast_arrays(a, b, rho)
    value = dual_quadrature(
        activation_function(phi),
        (a**2).ravel(),
        (b**2).ravel(),
        rho.ravel(),
        kinks=phi.kinks,
    )
    return value.reshape(rho.shape)


def _call(function: Entry, a: Array, b: Array, rho: Array) -> Array:
    with np.errstate(divide="ignore"):  # atan(rho / 0) is pi / 2
        value = function(a, b, rho, (1 - rho) * (1 + rho))
    # A constant activation compiles to a constant, an integer perhaps.
    return np.broadcast_to(np.asarray(value, np.float64), rho.shape)


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
