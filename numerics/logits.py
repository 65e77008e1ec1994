"""The logits of attention in the limit: their mean, what is added to them, and draws of them.

With the kernel S that queries and keys see, S = R R', and Z of independent N(0, 1), sqrt(s) R Z R'
has the covariance s S_ab S_ij that theory/ derived. Rotary encodings multiply it by
r((a - i) - (b - j)); with a root F of the Toeplitz matrix of r over lags,

    G_ai = sum_q F[a - i, q] (R Z_q R')_ai

has that covariance.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import sympy as sp
from jaxtyping import Float, Int

from asymptest.numerics.gram import as_kernel, psd_sqrt
from asymptest.numerics.printing import function
from asymptest.theory.arrays import Array
from asymptest.theory.biases import ALiBi, Bias, RelativeBias
from asymptest.theory.definition import K_MATRIX
from asymptest.theory.errors import ShapeError
from asymptest.theory.logits import POSITIONS, logits_law
from asymptest.theory.patterns import Linear, Pattern, Scored, Shaped, scores_of
from asymptest.theory.positions import DISTANCE, Additive
from asymptest.theory.substitution import number

Rng = np.random.Generator
Square = Float[np.ndarray, "T T"]
Heads = Float[np.ndarray, "heads T T"]  # heads is 1 where they do not differ
Draws = Float[np.ndarray, "draws heads T T"]

CHUNK = 2**22  # numbers held at once while sampling: 32 MB
NEGLIGIBLE = 1e-14  # of the largest eigenvalue: what a root may leave out


@dataclass(frozen=True)
class Sampling:
    """How random logits are averaged.

    Args:
        samples: draws, shared by all evaluations; with `rtol`, the most.
        rngs: a generator for each independent evaluation.
        rtol: the standard error of the mean over evaluations that a layer may add,
            relative to the largest entry; None to spend all draws.
    """

    samples: int
    rngs: tuple[Rng, ...]
    rtol: float | None = None

    def alone(self) -> "Sampling":
        """Return what is left to do for a single evaluation."""
        count = len(self.rngs)
        rtol = None if self.rtol is None else self.rtol * count**0.5
        return replace(self, samples=max(1, self.samples // count), rtol=rtol)


def as_numpy(array: Array) -> Float[np.ndarray, "..."]:
    """Return a constant array as a read-only NumPy array, without a copy."""
    return np.frombuffer(array.data, dtype=np.float64).reshape(array.shape)


def is_random(pattern: Pattern) -> bool:
    """Whether the kernel of attention is an average over draws of logits."""
    scores = scores_of(pattern)
    if scores is None or isinstance(scores, Linear):
        return False
    if isinstance(pattern, Shaped) and pattern.beta == 0:
        return False
    return logits_law(scores)[0].variance != 0 or table_variance(scores) != 0


def table_variance(scores: Scored) -> float:
    """Return the variance of random biases."""
    return scores.bias.variance if isinstance(scores.bias, RelativeBias) else 0.0


def seen_kernel(scores: Scored, K: Square) -> Square:
    """Return the kernel of what queries and keys see.

    Raises:
        KernelError: if the kernel of additive encodings is none.
    """
    if not isinstance(scores.position, Additive):
        return K
    law, _ = logits_law(scores)
    P = as_kernel(as_numpy(scores.position.kernel), "Additive.kernel")
    number(scores.position.content, "Additive.content")
    return function([K_MATRIX, POSITIONS], sp.sympify(law.seen))(K, P)


def logit_variance(scores: Scored) -> float:
    """Return s, the variance of logits over the product of two entries of the seen kernel.

    Raises:
        ArgumentError: if it is a symbol.
    """
    return number(logits_law(scores)[0].variance, f"{scores!r}: variance")


def logit_mean(scores: Scored, S: Square) -> Square:
    """Return the mean of the logits without what is added, from the kernel S they see."""
    law, _ = logits_law(scores)
    mean = number(law.mean, f"{scores!r}: mean of the logits") * S
    if law.mean == 0 or law.turn is None:
        return mean
    return mean * turn(scores, lags(len(S)))


def lags(T: int) -> Int[np.ndarray, "T T"]:
    """Return i - j."""
    return np.subtract.outer(np.arange(T), np.arange(T))


def turn(scores: Scored, lag: Int[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return r of rotary encodings at whole numbers."""
    law, _ = logits_law(scores)
    distance = np.abs(lag)
    table = np.ones(int(distance.max()) + 1)
    at = np.arange(1.0, len(table))
    table[1:] = function([DISTANCE], law.turn)(at)
    return table[distance]


def fixed_bias(bias: Bias | None, heads: int | str, T: int) -> Heads:
    """Return what is added to the logits of each head, but for what is random.

    Raises:
        ShapeError: if numbers are for another T.

    >>> fixed_bias(ALiBi(), 2, 3)[0]
    array([[ 0.    , -0.0625, -0.125 ],
           [-0.0625,  0.    , -0.0625],
           [-0.125 , -0.0625,  0.    ]])
    """
    match bias:
        case None | RelativeBias():
            return np.zeros((1, T, T))
        case Array():
            if bias.shape[-1] != T:
                raise ShapeError(
                    f"the bias is for {bias.shape[-1]} positions, the logits for T = {T}"
                )
            return as_numpy(bias).reshape(-1, T, T)
        case ALiBi():
            assert isinstance(heads, int)
            return 0 - np.multiply.outer(np.array(bias.of(heads)), np.abs(lags(T)))


def added_bias(
    bias: Bias | None,
    heads: int | str,
    T: int,
    tables: Float[np.ndarray, "_ buckets"],
) -> Draws:
    """Return what is added to the logits, given draws of random biases."""
    fixed = fixed_bias(bias, heads, T)[None]
    if not isinstance(bias, RelativeBias):
        return fixed
    at = np.arange(T)
    return fixed + tables[:, None, bias.bucket(at[:, None], at)]


def draws(
    scores: Scored, heads: int | str, K: Square, samples: int, rng: Rng
) -> Iterator[tuple[Draws, Draws]]:
    """Yield logits and what is added to them: once if nothing is random, else draws.

    Draws come with their negatives, which cancels all odd orders.
    """
    T = len(K)
    S = seen_kernel(scores, K)
    mean, variance = logit_mean(scores, S), logit_variance(scores)
    table = table_variance(scores)
    if variance == 0 and table == 0:
        yield mean[None, None], fixed_bias(scores.bias, heads, T)[None]
        return
    F = _turn_root(scores, T)
    R = psd_sqrt(S)
    left = samples
    while left:
        count = min(left, max(2, CHUNK // (T * T * len(F))))
        half = (count + 1) // 2
        G = _correlated(F, R, half, rng) if variance else np.zeros((half, T, T))
        buckets = scores.bias.buckets if isinstance(scores.bias, RelativeBias) else 0
        tables = table**0.5 * rng.standard_normal((half, buckets))
        both = variance**0.5 * np.concatenate([G, -G])[:count]
        tables = np.concatenate([tables, -tables])[:count]
        yield (
            (mean + both)[:, None],
            added_bias(scores.bias, heads, T, tables),
        )
        left -= count


def _correlated(
    F: Float[np.ndarray, "q _ _"], R: Square, count: int, rng: Rng
) -> Float[np.ndarray, "draws T T"]:
    """Return draws of sum_q F_q (R Z_q R'), as products of few, large matrices."""
    T = len(R)
    Z = rng.standard_normal((T, count * len(F) * T))
    left = (R @ Z).reshape(-1, T) @ R.T
    return np.einsum("qai,anqi->nai", F, left.reshape(T, count, len(F), T))


def _turn_root(scores: Scored, T: int) -> Float[np.ndarray, "q _ _"]:
    """Return F[a - i, q], an array over a and i for each q; 1 without rotary encodings."""
    law, _ = logits_law(scores)
    if law.turn is None:
        return np.ones((1, T, T))
    every = np.arange(1 - T, T)
    toeplitz = turn(scores, np.subtract.outer(every, every))
    eigenvalues, vectors = np.linalg.eigh(toeplitz)
    kept = eigenvalues > NEGLIGIBLE * eigenvalues[-1]
    root = vectors[:, kept] * np.sqrt(eigenvalues[kept])
    return np.moveaxis(root[lags(T) + T - 1], -1, 0)
