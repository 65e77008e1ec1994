"""The kernel of softmax attention with random logits: E[A V A'], with an error bar.

The logits of row a are Gaussian, with the means mean_ai and Cov(G_ai, G_bj) = C_ab K_ij; V is
the kernel of the values.

1. Equal tokens become one key whose weights add up, and equal queries one row: exact.
2. Where few kinds of rows see the same keys with the same biases, circles of rows stand for
   all of them (logit_circles.py).
3. Otherwise all rows are drawn (logit_blocks.py).

Either way it is done several times independently, and the spread gives the standard error.
Independent checks: quadrature where a row sees two keys, and finite networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from asymptest.numerics.gram import EPS, as_kernel
from asymptest.numerics.logit_blocks import drawn
from asymptest.numerics.logit_circles import entries, resolved_circles, spectrum
from asymptest.numerics.logit_rows import work
from asymptest.numerics.replicates import Budget, Stack, mean_and_error, settle
from asymptest.theory.errors import ArgumentError, ShapeError

Square = Float[np.ndarray, "T T"]

HIDDEN = (
    0.02  # of the standard error asked for: an interpolation error that hides in it
)
TAIL = (
    1e-6  # an interpolation error, relative to the largest entry, if none is asked for
)


def softmax_kernel(
    K: Square,
    C: Float[np.ndarray, "_ _"],
    seen: Bool[np.ndarray, "_ _"],
    mean: Float[np.ndarray, "_ _"],
    rng: np.random.Generator,
    samples: int = 4096,
    rtol: float | None = None,
    replicates: int = 16,
    V: Float[np.ndarray, "_ _"] | None = None,
) -> tuple[Square, Square]:
    """Return E[A V A'] for A = softmax of Gaussian logits, and its standard error.

    Args:
        K: kernel of the keys.
        C: covariance of the logits over queries; variance * K for untied attention.
        seen: which keys a row sees; at least one.
        mean: mean of the logits, biases included; read where seen.
        rng: generator of the draws.
        samples: the work to spend on each part of the problem, in draws of all logits and
            their negatives; a smaller part gets as many more draws as take that time.
        rtol: the standard error to reach, relative to the largest entry; `samples` is then
            the most that is spent.
        replicates: independent estimates, of which the result is the mean.
        V: kernel of the values; that of the keys if None.

    Returns:
        The estimate and its standard error, with replicates - 1 degrees of freedom; nan for
        a single replicate. Tokens that are equal and see the same keys get equal rows. The
        estimate is unbiased, but for two things far below the standard error: the
        interpolation of logit_circles.py, and noise that would leave it with a negative
        eigenvalue, which is set to 0; the result is a kernel, and so nearer to the truth.

    Raises:
        ShapeError, KernelError: if K or C is no kernel of T tokens.
        ArgumentError: if a row sees nothing, a mean is not finite, or a number is too small.
        AccuracyError: if `rtol` takes more than `samples`.

    >>> causal, zero = np.tri(2) > 0, np.zeros((2, 2))
    >>> rng = np.random.default_rng(0)
    >>> softmax_kernel(np.eye(2), np.eye(2), causal, zero, rng, 2**17, 1e-4)[0].round(3)
    array([[1.   , 0.5  ],
           [0.5  , 0.637]])
    """
    if replicates < 1:
        raise ArgumentError(f"replicates must be at least 1; got {replicates}")
    rngs = tuple(rng.spawn(replicates))
    found = softmax_kernels(K, C, seen, mean, rngs, samples, rtol, V)
    estimate, error = mean_and_error(found)
    return nearest_kernel(estimate), error


def softmax_kernels(
    K: Square,
    C: Float[np.ndarray, "_ _"],
    seen: Bool[np.ndarray, "_ _"],
    mean: Float[np.ndarray, "_ _"],
    rngs: tuple[np.random.Generator, ...],
    samples: int,
    rtol: float | None = None,
    V: Float[np.ndarray, "_ _"] | None = None,
) -> Stack:
    """Return independent estimates of E[A V A'], one for each generator.

    They are unbiased, and so may have negative eigenvalues. Arguments and errors as for
    `softmax_kernel`.
    """
    K, C = as_kernel(K, "K"), as_kernel(C, "C")
    V = K if V is None else as_kernel(V, "V")
    _check_logits(K, {"C": C, "V": V, "seen": seen, "mean": mean}, seen, mean)
    _check_numbers(samples, rtol, len(rngs))
    problem = _merged(K, C, V, np.where(seen, mean, -np.inf))
    unit = work(*problem.L.shape)
    (pilot,) = rngs[0].spawn(1)
    found = _estimates(problem, Budget(samples, unit, rtol, rngs), pilot)
    return found[:, problem.row[:, None], problem.row]


@dataclass(frozen=True, eq=False)
class _Problem:
    """Logits L and covariance C of different queries, kernels K and V of different keys.

    `row` is the query of each token.
    """

    L: Float[np.ndarray, "Q D"]
    C: Float[np.ndarray, "Q Q"]
    K: Float[np.ndarray, "D D"]
    V: Float[np.ndarray, "D D"]
    row: Int[np.ndarray, " T"]


def _merged(K: Square, C: Square, V: Square, logits: Square) -> _Problem:
    """Make one key of equal tokens, and one query of those with the same law."""
    token, key = _distinct(K if V is K else np.concatenate([K, V], axis=1))
    order = np.argsort(key, kind="stable")
    starts = np.searchsorted(key[order], np.arange(len(token)))
    L = np.logaddexp.reduceat(logits[:, order], starts, axis=1)
    L -= L.max(-1, keepdims=True)
    asked, row = _distinct(np.concatenate([C, L], axis=1))
    keys = np.ix_(token, token)
    return _Problem(L[asked], C[np.ix_(asked, asked)], K[keys], V[keys], row)


def _distinct(
    X: Float[np.ndarray, "rows columns"],
) -> tuple[Int[np.ndarray, " distinct"], Int[np.ndarray, " rows"]]:
    """Return where each different row first occurs, and which of them each row is."""
    _, first, which = np.unique(X + 0.0, axis=0, return_index=True, return_inverse=True)
    # In the order of the rows: what is drawn then depends less on rounding in X.
    rank = np.argsort(np.argsort(first))
    return np.sort(first), rank[which]


def _estimates(problem: _Problem, budget: Budget, rng: np.random.Generator) -> Stack:
    L, C, K, V = problem.L, problem.C, problem.K, problem.V
    tail = TAIL if budget.rtol is None else HIDDEN * budget.rtol
    found = resolved_circles(L, C, K, V, tail, rng)
    if found is None:
        return drawn(L, C, K, V, budget, rng)
    on, rows, by = found
    return settle(rows, by, lambda parts: entries(on, C, spectrum(on, parts)), budget)


def nearest_kernel(K: Square) -> Square:
    """Return the nearest positive semidefinite matrix; K itself if it is one up to rounding."""
    lift = len(K) * EPS * np.diagonal(K).max()
    try:
        np.linalg.cholesky(K + lift * np.eye(len(K)))
    except np.linalg.LinAlgError:
        eigenvalues, vectors = np.linalg.eigh(K)
        near = (vectors * np.maximum(eigenvalues, 0)) @ vectors.T
        return (near + near.T) / 2
    return K


def _check_logits(
    K: Square,
    others: Mapping[str, np.ndarray],
    seen: Bool[np.ndarray, "_ _"],
    mean: Float[np.ndarray, "_ _"],
) -> None:
    for name, given in others.items():
        if given.shape != K.shape:
            raise ShapeError(
                f"{name} must have the shape of K, {K.shape}; got {given.shape}"
            )
    if not seen.any(1).all():
        row = int(np.argmin(seen.any(1)))
        raise ArgumentError(
            f"seen hides every key from row {row}, so its softmax is undefined; let it "
            f"see at least itself"
        )
    wrong = seen & ~np.isfinite(mean)
    if wrong.any():
        a, i = np.argwhere(wrong)[0]
        raise ArgumentError(
            f"mean must be finite where seen; got mean[{a}, {i}] = {mean[a, i]}; to hide "
            f"a key, set seen[{a}, {i}] = False"
        )


def _check_numbers(samples: int, rtol: float | None, replicates: int) -> None:
    if samples < replicates:
        raise ArgumentError(
            f"samples must be at least replicates = {replicates}; got {samples}"
        )
    if rtol is not None and not 0 < rtol < np.inf:
        raise ArgumentError(f"rtol must be positive and finite; got {rtol}")
    if rtol is not None and replicates == 1:
        raise ArgumentError("rtol needs a standard error: pass replicates >= 2, say 16")
