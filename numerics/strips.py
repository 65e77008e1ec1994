"""Sums of kernels, in strips of rows that stay in the cache; a kernel's half made whole."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

Array = Float[np.ndarray, "..."]
# A function of a strip K[rows, columns] and of where it is.
Strips = Callable[[np.ndarray, slice, slice], np.ndarray]

CELLS = 2**15  # of a matrix at a time, so that temporaries stay in the cache
TILE = 64  # rows to transpose at a time


def strips(shape: tuple[int, ...]) -> Iterator[Any]:
    """Yield indices of rows of an array of that shape, of CELLS entries of a matrix at most."""
    if len(shape) < 2:
        yield ...
        return
    step = max(1, CELLS // shape[-1])
    for start in range(0, shape[-2], step):
        yield ..., slice(start, start + step), slice(None)


def upper_strips(T: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and the columns from the diagonal on, of CELLS entries at most."""
    start = 0
    while start < T:
        stop = start + max(1, CELLS // (T - start))
        yield slice(start, stop), slice(start, None)
        start = stop


def by_strips(f: Strips, K: Float[np.ndarray, "T T"]) -> Float[np.ndarray, "T T"]:
    """Return f of a symmetric matrix, strip by strip of what is above its diagonal."""
    result = np.empty_like(K)
    for rows, columns in upper_strips(len(K)):
        result[rows, columns] = f(K[rows, columns], rows, columns)
    return mirrored(result)


def mirrored(K: Float[np.ndarray, "*stack T T"]) -> Float[np.ndarray, "*stack T T"]:
    """Copy what is above the diagonal to what is below it, in place, and return K."""
    T = K.shape[-1]
    for start in range(0, T, TILE):
        stop = min(start + TILE, T)
        K[..., stop:, start:stop] = K[..., start:stop, stop:].mT
        square = K[..., start:stop, start:stop]
        np.copyto(square, square.mT.copy(), where=np.tri(stop - start, dtype=bool))
    return K


def transposed(X: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "m n"]:
    """Return a copy of the transpose, row by row in memory."""
    result = np.empty(X.shape[::-1])
    for start in range(0, len(X), TILE):
        result[:, start : start + TILE] = X[start : start + TILE].T
    return result


def weighted_sum(
    constant: float, *terms: tuple[float, Array], in_place: bool = False
) -> Array:
    """Return the constant plus the sum of numbers times arrays, in the first if allowed."""
    (first, start), *rest = terms
    shape = max((M.shape for _, M in terms), key=len)
    total = start if in_place else np.empty(shape)
    for at in strips(shape):
        part = total[at]
        np.multiply(first, start[at], out=part)
        for number, M in rest:
            part += M[at] if number == 1 else number * M[at]
        if constant:
            part += constant
    return total
