"""Rows of softmax attention with Gaussian logits, averaged over antithetic draws.

Row a is the softmax of L_a + G_a over D keys, where Cov(G_ai, G_bj) = C_ab K_ij. With P the
softmax of L, a draw and its negative share an even part E and an odd part O, A = P + E ± O,
and contribute (P + E) V (P + E)' + O V O' to the mean of A V A'. From that we take the same
products of A's Taylor series to second order, damped row by row, and add their exact mean
(theory/softmax_expansion.py). The damping comes from a pilot of draws that are used for
nothing else, so the average stays unbiased.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import special
from scipy.stats import qmc

from asymptest.numerics.gram import EPS
from asymptest.numerics.moments import evaluate
from asymptest.theory.softmax_expansion import mean_product

Square = Float[np.ndarray, "Q Q"]
Normals = Float[np.ndarray, "r n k"]
Draws = Float[np.ndarray, "Q n D"]

CHUNK = 2**16  # logits held at once, half a megabyte, for speed
PILOT = 2**17  # logits of a pilot
NET = 2**16  # draws on one net at most
QUASI = 16  # coordinates on quasi-random points; more of them measured no better
BITS = 30  # of a quasi-random point
STEEP = 100.0  # larger slopes gain little, and magnify rounding of the exact mean


@dataclass(frozen=True, eq=False)
class Rows:
    """Q rows of logits over D keys, and what their averages need.

    Args:
        L: logits without the random part, -inf where a key is hidden.
        P: softmax of L.
        B: B B' = C, columns by descending size.
        R: R R' = K, likewise, up to constants that no softmax sees.
        W: W W' = V, likewise.
        M: P V, up to a constant of each row.
        start: P V P'.
        first: exact mean of the product of first orders.
        second: exact mean of the second order times V P'.
    """

    L: Float[np.ndarray, "Q D"]
    P: Float[np.ndarray, "Q D"]
    B: Float[np.ndarray, "Q r"]
    R: Float[np.ndarray, "D k"]
    W: Float[np.ndarray, "D v"]
    M: Float[np.ndarray, "Q D"]
    start: Square
    first: Square
    second: Square

    @property
    def is_random(self) -> bool:
        """Whether the logits fluctuate at all."""
        return self.B.size > 0 and self.R.size > 0


@dataclass(frozen=True, eq=False)
class Damping:
    """Factors of the first and second order of each row in the control variate."""

    first: Float[np.ndarray, " Q"]
    second: Float[np.ndarray, " Q"]


def rows(
    L: Float[np.ndarray, "Q D"],
    C: Square,
    K: Float[np.ndarray, "D D"],
    V: Float[np.ndarray, "D D"],
) -> Rows:
    """Return the rows of logits L + G over keys with the kernel K and values with V."""
    P = softmax(L)
    # Constants added to the rows of K, or on both sides, pass by every softmax and every
    # deviation A - P. Without them nearly equal tokens keep the digits in which they differ.
    centre = P.mean(0)
    left = V - centre @ V
    keys, values = (_centred(X, centre) for X in (K, V))
    arrays = {"C": C, "P": P, "K": keys}
    first = evaluate(mean_product(1, 1), arrays | {"V": values}, {})
    second = evaluate(mean_product(2, 0), arrays | {"V": left}, {})
    B, R, W = _factor(C), _factor(keys), _factor(values)
    return Rows(L, P, B, R, W, P @ left.T, P @ V @ P.T, first, second)


def _centred(K: Float[np.ndarray, "D D"], centre: Float[np.ndarray, " D"]) -> Square:
    left = K - centre @ K
    return left - (left @ centre)[:, None]


def work(rows: int, keys: int) -> float:
    """Return the time of one draw, in multiply-adds of its matrix products.

    Everything but the products costs an entry as much as 300 of them, as measured.
    """
    return rows * keys * (rows + keys + 300.0)


def softmax(L: Float[np.ndarray, "*stack D"]) -> Float[np.ndarray, "*stack D"]:
    """Return the softmax over the last axis."""
    weights = np.exp(L - L.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return weights


def _factor(K: Square) -> Float[np.ndarray, "Q r"]:
    """Return R with R R' = K, but for eigenvalues that are rounding, columns by size."""
    eigenvalues, vectors = np.linalg.eigh((K + K.T) / 2)
    kept = eigenvalues > len(K) * EPS * max(eigenvalues[-1], 0)
    return np.fliplr(vectors[:, kept] * np.sqrt(eigenvalues[kept])).copy()


def normals(rows: Rows, n: int, rng: np.random.Generator) -> Iterator[Normals]:
    """Yield n draws of N(0, 1) in parts that fit the cache.

    The coordinates that matter most lie on scrambled Sobol nets, one for each power of two.
    """
    size = np.outer(np.square(rows.B).sum(0), np.square(rows.R).sum(0))
    leading = np.argsort(-size, axis=None, kind="stable")[:QUASI]
    at, to = np.unravel_index(leading, size.shape)
    step = max(1, CHUNK // rows.L.size)
    while n:
        net = min(1 << (n.bit_length() - 1), NET)
        points = qmc.Sobol(len(leading), bits=BITS, rng=rng).random(net)
        for start in range(0, net, step):
            part = points[start : start + step]
            Z = rng.standard_normal((size.shape[0], len(part), size.shape[1]))
            # A point is the corner of its cell; anywhere in the cell it is uniform.
            spread = rng.random(part.shape) * 0.5**BITS
            Z[at, :, to] = special.ndtri(part + spread).T
            yield Z
        n -= net


def orders(rows: Rows, Z: Normals) -> tuple[Draws, Draws, Draws, Draws]:
    """Return E, O and the first and second order of each draw."""
    (_, n, k), (Q, D) = Z.shape, rows.L.shape
    G = (rows.B @ (Z.reshape(-1, k) @ rows.R.T).reshape(-1, n * D)).reshape(Q, n, D)
    P, L = rows.P[:, None], rows.L[:, None]
    G -= np.einsum("aj,anj->an", rows.P, G)[..., None]
    up, down = softmax(L + G), softmax(L - G)
    first = P * G
    G *= G
    second = P / 2 * (G - np.einsum("aj,anj->an", rows.P, G)[..., None])
    return (up + down) / 2 - P, (up - down) / 2, first, second


def damping(rows: Rows, rng: np.random.Generator) -> Damping:
    """Return the damping that a pilot finds: E and O regressed on their orders."""
    sums = np.zeros((2, 2, len(rows.L)))
    for Z in normals(rows, pilot_size(rows), rng):
        even, odd, first, second = (_values(rows, X) for X in orders(rows, Z))
        for k, (Y, X) in enumerate(((odd, first), (even, second))):
            sums[k] += np.einsum("aj,aj->a", X, Y), np.einsum("aj,aj->a", X, X)
    above, below = sums.swapaxes(0, 1)
    slopes = np.divide(above, below, out=np.zeros_like(below), where=below > 0)
    return Damping(*np.clip(slopes, -STEEP, STEEP))


def pilot_size(rows: Rows) -> int:
    """Return the number of draws of a pilot."""
    return min(max(PILOT // rows.L.size, 4), 256)


def average(
    rows: Rows, by: Damping, n: int, rng: np.random.Generator
) -> Float[np.ndarray, "2 Q Q"]:
    """Return the even and the odd part of the mean of A V A' over n draws and negatives."""
    Q, D = rows.L.shape
    squares, rest = np.zeros((2, Q, Q)), np.zeros((Q, D))
    for Z in normals(rows, n, rng):
        even, odd, first, second = orders(rows, Z)
        first *= by.first[:, None, None]
        rest += even.sum(1) - by.second[:, None] * second.sum(1)
        Y = _values(rows, even)
        squares[0] += Y @ Y.T
        # O V O' - F V F' is the symmetric part of (O - F) V (O + F)'.
        squares[1] += _values(rows, odd - first) @ _values(rows, odd + first).T
    once = rest @ rows.M.T / n + by.second[:, None] * rows.second
    even_part, odd_part = (squares + squares.mT) / (2 * n)
    even_part += rows.start + once + once.T
    odd_part += np.outer(by.first, by.first) * rows.first
    return np.array([even_part, odd_part])


def _values(rows: Rows, X: Draws) -> Float[np.ndarray, "Q nk"]:
    """Return X W for every draw; its rows have the products X V X'."""
    return (X.reshape(-1, X.shape[-1]) @ rows.W).reshape(len(X), -1)
