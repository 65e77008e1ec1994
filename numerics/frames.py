"""States of a wide network in few coordinates: the frame that their rows span.

T rows of R^n span at most T dimensions. What matters besides their inner products is the
direction e = (1, ..., 1) / sqrt(n), along which a row has its feature mean, and the entries
themselves where an activation acts on them. So a state is kept in coordinates of an
orthonormal frame whose first axis is e. Weights and norms know no other direction: given the
coordinates, the remaining axes are uniformly random in the complement of e, and are drawn
only where entries are asked for. Where an activation has seen the entries, and another will,
the frame is the standard one (sampled_steps.py knows where).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from asymptest.numerics.wishart import Rng, lower, narrow

COLUMNS = 2**16  # numbers of the columns in work at once: half a megabyte

Stack = Float[np.ndarray, "samples _ _"]  # rows, axes: they differ within a function


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of R^width in coordinates: states one below the other, in a common frame.

    Args:
        coordinates: (samples, rows, axes).
        width: n.
        entries: whether the frame is the standard one and the coordinates are the entries;
            else its first axis is e, and the others are random.
    """

    coordinates: Stack
    width: int
    entries: bool = False

    def last(self, count: int) -> "Rows":
        """Return the last rows alone."""
        return replace(self, coordinates=self.coordinates[:, -count:])

    def ending(self, new: Stack) -> "Rows":
        """Return these rows with the last ones replaced; `new` may have more axes."""
        above = self.coordinates[:, : -new.shape[1]]
        return replace(self, coordinates=np.concatenate([_padded(above, new), new], 1))

    def over(self, new: Stack) -> "Rows":
        """Return these rows with new ones below; those may have more axes."""
        rows = [_padded(self.coordinates, new), new]
        return replace(self, coordinates=np.concatenate(rows, 1))

    def narrow(self) -> "Rows":
        """Return the rows with as few axes as they need."""
        if self.entries:
            return self
        mean, rest = np.split(self.coordinates, [1], axis=-1)
        return replace(self, coordinates=np.concatenate([mean, narrow(rest)], -1))

    def centred(self) -> Stack:
        """Return the coordinates with the feature mean of each row removed."""
        C = self.coordinates
        if self.entries:
            return C - C.mean(-1, keepdims=True)
        return np.concatenate([np.zeros_like(C[..., :1]), C[..., 1:]], -1)

    def gram(self) -> Float[np.ndarray, "samples rows rows"]:
        """Return the kernels X X^T / n."""
        K = self.coordinates @ self.coordinates.mT / self.width
        return (K + K.mT) / 2  # products of stacks are symmetric but for rounding


def _padded(rows: Stack, like: Stack) -> Stack:
    extra = like.shape[-1] - rows.shape[-1]
    return np.pad(rows, ((0, 0), (0, 0), (0, extra)))


def from_columns(blocks: Iterable[Stack]) -> Rows:
    """Return the rows whose entries come in blocks of columns, in coordinates [a L].

    a belongs to the first axis, and L is lower trapezoidal with no negative diagonal.
    """
    L, width = None, 0
    for block in blocks:
        width += block.shape[-1]
        # A row of ones comes first, and so the first axis is its direction.
        new = np.concatenate([np.ones_like(block[:, :1]), block], axis=1)
        L = lower(new if L is None else np.concatenate([L, new], axis=-1))
    assert L is not None
    return Rows(L[:, 1:], width)


def gathered(blocks: Iterable[Stack]) -> Rows:
    """Return the rows whose entries come in blocks of columns, in the standard frame."""
    X = np.concatenate([*blocks], axis=-1)
    return Rows(X, X.shape[-1], entries=True)


def columns(rows: Rows, rng: Rng) -> Iterator[Stack]:
    """Yield the entries of the rows by blocks of columns, the axes being drawn now.

    Gaussian rows N of coordinates [a L] are made orthonormal by L. They are drawn twice, from
    the same seed, so that they need not be kept.
    """
    shape = rows.coordinates.shape[:2]
    if rows.entries:
        for part in _parts(shape, rows.width):
            yield rows.coordinates[..., part]
        return
    mean, S = np.split(rows.coordinates, [1], axis=-1)
    seed = rng.integers(2**63, size=4)

    def drawn() -> Iterator[Stack]:
        return normal_columns(
            shape, S.shape[-1], rows.width, np.random.default_rng(seed)
        )

    a, L = np.split(from_columns(drawn()).coordinates, [1], axis=-1)
    M = np.linalg.solve(L.mT, S.mT).mT
    shift = (mean - M @ a) / rows.width**0.5
    for N in drawn():
        yield M @ N + shift


def normal_columns(
    shape: tuple[int, ...], m: int, width: int, rng: Rng
) -> Iterator[Stack]:
    """Yield m independent N(0, 1) rows of R^width, in the blocks of states of this shape."""
    for part in _parts(shape, width):
        yield rng.standard_normal((shape[0], m, part.stop - part.start))


def with_entries(rows: Rows, rng: Rng) -> Rows:
    """Return the rows in the standard frame."""
    return rows if rows.entries else gathered(columns(rows, rng))


def _parts(shape: tuple[int, ...], width: int) -> Iterator[slice]:
    """Yield the blocks of columns of states, (samples, rows): the same for all of a shape."""
    size = max(1, COLUMNS // (shape[0] * shape[1]))
    for start in range(0, width, size):
        yield slice(start, min(start + size, width))
