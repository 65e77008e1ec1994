"""The product A K A^T: two products of matrices, or O(T^2) where A averages over intervals.

Under every mask of theory/masks.py position i sees an interval [start_i, stop_i), and neither
end moves back as i grows. With equal weights, row i of A X is then the mean of consecutive rows
of X, and all T means cost 3 T additions of rows: put a cut where an interval ends; the
intervals that start before it are a run up to the cut and a run from the cut on, and runs grow
by one row at a time (as van Herk, 1992, and Gil and Werman, 1993, do for maxima).

Differences of cumulative sums would be shorter, but a small row would drown in the large ones
before it. Here nothing is subtracted and only visible entries are added, so A K A^T is off by
at most (T + 2) ε reach_i reach_j with reach_i = sum_a A_ia sqrt(K_aa), as if all its products
were formed.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from asymptest.numerics.strips import mirrored, transposed

Row = Float[np.ndarray, " m"]

BLOCK = 128  # rows of a product at a time: enough for BLAS to be fast


@dataclass(frozen=True)
class Averages:
    """A matrix of equal weights over intervals: 1 / (stop_k - start_k) in row k, or 0.

    Args:
        start: of each interval, not decreasing.
        stop: likewise, and larger.
        repeats: how many rows in succession have that interval.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    repeats: tuple[int, ...]

    def __matmul__(self, X: Float[np.ndarray, "T ..."]) -> Float[np.ndarray, "T ..."]:
        """Return A X."""
        means = self.means(X.reshape(len(X), -1))
        return np.repeat(means, self.repeats, 0).reshape(X.shape)

    def means(self, X: Float[np.ndarray, "T m"]) -> Float[np.ndarray, "_ m"]:
        """Return the mean of the rows of X over each interval."""
        sums, starts = np.empty((len(self.start), X.shape[1])), set(self.start)
        cut, end, before, after = 0, 0, dict[int, Row](), X[0]
        for total, start, stop in zip(sums, self.start, self.stop, strict=True):
            if start >= cut:
                cut, end, after = stop, stop, np.zeros_like(X[0])
                before = _sums_up_to(cut, X, starts & set(range(start, cut)))
            for row in X[end:stop]:
                after += row
            end = stop
            np.add(before[start], after, out=total)
        sums /= np.subtract(self.stop, self.start)[:, None]
        return sums

    def congruence(self, S: Float[np.ndarray, "T T"]) -> Float[np.ndarray, "T T"]:
        """Return A S A^T for a symmetric S, exactly symmetric."""
        distinct = mirrored(self.means(transposed(self.means(S))))
        if len(distinct) == len(S):
            return distinct
        return np.repeat(np.repeat(distinct, self.repeats, 0), self.repeats, 1)


def _sums_up_to(
    cut: int, X: Float[np.ndarray, "T m"], starts: set[int]
) -> dict[int, Row]:
    """Return the sums of the rows of X from each start up to the cut."""
    total, sums = np.zeros_like(X[0]), {}
    for i in range(cut - 1, min(starts) - 1, -1):
        total += X[i]
        if i in starts:
            sums[i] = total.copy()
    return sums


def as_averages(seen: Bool[np.ndarray, "T T"]) -> Averages | None:
    """Return the averages over the visible positions, or None if they are no such intervals.

    >>> as_averages(np.tri(3) > 0)
    Averages(start=(0, 0, 0), stop=(1, 2, 3), repeats=(1, 1, 1))
    >>> as_averages(np.array([[True, True], [True, False]]))
    """
    start, stop = seen.argmax(1), seen.shape[1] - seen[:, ::-1].argmax(1)
    gaps = stop - start != seen.sum(1)
    if gaps.any() or (np.diff(start) < 0).any() or (np.diff(stop) < 0).any():
        return None
    intervals = Counter(zip(start.tolist(), stop.tolist(), strict=True))
    starts, stops = zip(*intervals, strict=True)
    return Averages(starts, stops, tuple(intervals.values()))


def congruence(
    A: Float[np.ndarray, "*stack T T"] | Averages, S: Float[np.ndarray, "T T"]
) -> Float[np.ndarray, "*stack T T"]:
    """Return A S A^T for a symmetric S, exactly symmetric."""
    if isinstance(A, Averages):
        return A.congruence(S)
    product, right = np.empty(A.shape), (A @ S).mT  # S A^T
    for start in range(0, len(S), BLOCK):
        rows, rest = slice(start, start + BLOCK), slice(start, None)
        np.matmul(A[..., rows, :], right[..., rest], out=product[..., rows, rest])
    return mirrored(product)
