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

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from asymptest.numerics.semiseparable import Carrying
from asymptest.numerics.strips import mirrored, transposed, upper_strips

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
        means = self.sums(X.reshape(len(X), -1)) / self._sizes()[:, None]
        return np.repeat(means, self.repeats, 0).reshape(X.shape)

    def congruence(self, S: Float[np.ndarray, "T T"]) -> Float[np.ndarray, "T T"]:
        """Return A S A^T for a symmetric S, exactly symmetric."""
        sizes = self._sizes()[:, None]
        means = self.sums(S)
        means /= sizes
        distinct = self.sums(transposed(means), upper=True)
        for rows, columns in upper_strips(len(distinct)):
            distinct[rows, columns] /= sizes[rows]
        distinct = mirrored(distinct)
        if len(distinct) == len(S):
            return distinct
        return np.repeat(np.repeat(distinct, self.repeats, 0), self.repeats, 1)

    def sums(
        self, X: Float[np.ndarray, "T m"], upper: bool = False
    ) -> Float[np.ndarray, "_ m"]:
        """Return the sum of the rows of X over each interval; maybe only from column k on."""
        # Zeros, since strips of the upper half go through some of what is left of column k.
        empty = np.zeros if upper else np.empty
        sums, first = empty((len(self.start), X.shape[1])), 0
        while first < len(sums):
            last, cut = self._run(first)
            columns = slice(first * upper, None)
            run, rows = sums[first:last, columns], X[:, columns]
            if cut == self.start[first]:
                _running(run, rows, [cut, *self.stop[first:last]], upper)
            else:
                _running(run[::-1], rows, [cut, *self.start[first:last][::-1]])
                after = np.zeros_like(run[0])
                for k, total in enumerate(run, first):
                    for row in rows[max(cut, self.stop[k - 1]) : self.stop[k]]:
                        after += row
                    total += after
            first = last
        return sums

    def _run(self, first: int) -> tuple[int, int]:
        """Return the end of the intervals that are summed with the first, and their cut.

        If they all start together, they need no part before the cut.
        """
        start, cut = self.start[first], self.stop[first]
        last = bisect_left(self.start, cut)
        together = last > first + 1 and bisect_left(self.start, start + 1) == last
        return last, start if together else cut

    def _sizes(self) -> Float[np.ndarray, " _"]:
        return np.subtract(self.stop, self.start).astype(np.float64)


def _running(
    sums: Float[np.ndarray, "r m"],
    X: Float[np.ndarray, "T m"],
    ends: Sequence[int],
    upper: bool = False,
) -> None:
    """Write the sums of the rows of X from the first end to each other one, on either side."""
    total = np.zeros_like(X[0])
    for k, (into, *ends_of_more) in enumerate(zip(sums, ends, ends[1:], strict=False)):
        columns = slice(k * upper, None)
        more = X[min(ends_of_more) : max(ends_of_more), columns]
        if len(more) == 0:
            into[columns] = total[columns]
        for row in more:
            # A sum goes on where the last one ended.
            np.add(total[columns], row, out=into[columns])
            total = into


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


# Matrices that are applied without being formed.
Structured = Averages | Carrying


def congruence(
    A: Float[np.ndarray, "*stack T T"] | Structured, S: Float[np.ndarray, "T T"]
) -> Float[np.ndarray, "*stack T T"]:
    """Return A S A^T for a symmetric S, exactly symmetric."""
    if isinstance(A, Structured):
        return A.congruence(S)
    product, right = np.empty(A.shape), (A @ S).mT  # S A^T
    for start in range(0, len(S), BLOCK):
        rows, rest = slice(start, start + BLOCK), slice(start, None)
        np.matmul(A[..., rows, :], right[..., rest], out=product[..., rows, rest])
    return mirrored(product)
