"""A = L_after L_before^(-1) as recursions over positions: O(T) a column, O(T^2) for A K A'.

The factors of theory/semiseparable.py have a scalar state each, so that A x is one walk over the
positions that carries two numbers. It is walked a block of positions at a time: a small matrix
maps the states before a block and its rows of x to the states behind it and its rows of A x. No
T x T matrix is formed but the result.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp
from jaxtyping import Float

from asymptest.numerics.strips import mirrored, transposed
from asymptest.theory.semiseparable import Factor, i
from asymptest.theory.spa import ShapedKernel, evaluated, factors
from asymptest.theory.substitution import number

# Diagonal, output, ratio and input of a factor at positions 1 to T.
Walk = Float[np.ndarray, "4 T"]

BLOCK = 16  # positions at a time: enough for BLAS to be fast, and O(BLOCK T) in all


@dataclass(frozen=True, eq=False)
class Carrying:
    """The matrix L_after L_before^(-1), as the steps from each block to the next.

    Args:
        steps: of each block, what maps both states and the rows of x to both states and the
            rows of A x.
    """

    steps: Float[np.ndarray, "blocks n n"]

    def __matmul__(self, X: Float[np.ndarray, "T ..."]) -> Float[np.ndarray, "T ..."]:
        """Return A X."""
        columns = X.reshape(len(X), -1)
        return self._walk(columns, np.empty(columns.shape)).reshape(X.shape)

    def congruence(self, S: Float[np.ndarray, "T T"]) -> Float[np.ndarray, "T T"]:
        """Return A S A^T for a symmetric S, exactly symmetric."""
        half = transposed(self @ S)
        return mirrored(self._walk(half, half, upper=True))

    def _walk(
        self,
        X: Float[np.ndarray, "T m"],
        found: Float[np.ndarray, "T m"],
        upper: bool = False,
    ) -> Float[np.ndarray, "T m"]:
        """Write A X, maybe only from column k on in row k, and return it; in place too."""
        before, after = np.zeros((2, len(self.steps[0]), X.shape[1]))
        for start, step in zip(range(0, len(X), BLOCK), self.steps, strict=True):
            at = slice(start, start + BLOCK), slice(start * upper, None)
            rows, columns = slice(2, 2 + len(X[at])), at[1]
            before[rows, columns] = X[at]
            np.matmul(step, before[:, columns], out=after[:, columns])
            found[at] = after[rows, columns]
            before[:2] = after[:2]
        return found


def carrying(
    before: ShapedKernel, after: ShapedKernel, lengths: tuple[int, ...]
) -> Carrying:
    """Return A for sequences of these lengths, one after the other, each by itself.

    Raises:
        ArgumentError: if a kernel has a symbol for its parameter.
    """
    _, first = _walks(before, lengths)
    then, _ = _walks(after, lengths)
    # Behind the last position nothing is read or carried: zeros fill its block.
    parts = np.pad([first, then], ((0, 0), (0, 0), (0, -sum(lengths) % BLOCK)))
    units = np.eye(2 + BLOCK)[:, :, None]
    steps = np.empty((2 + BLOCK, 2 + BLOCK, parts.shape[-1] // BLOCK))
    steps[:2] = units[:2]
    for at, x in enumerate(units[2:]):
        # Position `at` of all blocks, for one unit in each state and in each row.
        for state, walk in zip(steps[:2], parts[..., at::BLOCK], strict=True):
            diagonal, output, ratio, more = walk
            read = output * state + diagonal * x
            state[:] = ratio * state + more * x
            x = read
        steps[2 + at] = x
    return Carrying(np.moveaxis(steps, -1, 0).copy())


@lru_cache(maxsize=256)
def _walks(kernel: ShapedKernel, lengths: tuple[int, ...]) -> tuple[Walk, Walk]:
    """Return the Cholesky factor and its inverse."""
    value = number(evaluated(kernel.value), f"the parameter of {kernel!r}")
    positions = np.concatenate([np.arange(1.0, length + 1) for length in lengths])
    ends = np.cumsum(lengths) - 1

    def walk(parts: Any) -> Walk:
        arrays = [np.broadcast_to(f(positions, value), positions.shape) for f in parts]
        result = np.array(arrays, dtype=np.float64)
        result[2:, ends] = 0.0  # nothing is carried to the next sequence
        return result

    one, other = map(walk, _compiled(type(kernel)))
    return one, other


@lru_cache(maxsize=8)
def _compiled(family: type[ShapedKernel]) -> tuple[tuple[Any, ...], ...]:
    def functions(factor: Factor) -> tuple[Any, ...]:
        parts = (factor.diagonal, factor.output, factor.ratio, factor.input)
        return tuple(sp.lambdify((i, family.symbol), part, "numpy") for part in parts)

    return tuple(map(functions, factors(family)))
