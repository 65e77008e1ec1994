"""A = L_after L_before^(-1) as recursions over positions: O(T) a column, O(T^2) for A K A'.

The factors of theory/semiseparable.py have a scalar state, so that L x and L^(-1) x are one walk
over the positions each. No T x T matrix is formed but the result.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp
from jaxtyping import Float

from asymptest.numerics.strips import mirrored, transposed
from asymptest.theory.semiseparable import Factor, i
from asymptest.theory.spa import ShapedKernel, factors

Values = Float[np.ndarray, " T"]


@dataclass(frozen=True, eq=False)
class Walk:
    """A factor at positions 1 to T; see theory/semiseparable.py for its parts."""

    diagonal: Values
    output: Values
    ratio: Values
    input: Values

    def __matmul__(self, X: Float[np.ndarray, "T ..."]) -> Float[np.ndarray, "T ..."]:
        """Return F X."""
        found, state = np.empty(X.shape), np.zeros(X.shape[1:])
        parts = zip(self.diagonal, self.output, self.ratio, self.input, strict=True)
        for at, (diagonal, output, ratio, more) in enumerate(parts):
            found[at] = output * state + diagonal * X[at]
            state = ratio * state + more * X[at]
        return found


@dataclass(frozen=True, eq=False)
class Carrying:
    """The matrix L_after L_before^(-1)."""

    after: Walk
    before: Walk

    def __matmul__(self, X: Float[np.ndarray, "T ..."]) -> Float[np.ndarray, "T ..."]:
        """Return A X."""
        return self.after @ (self.before @ X)

    def congruence(self, S: Float[np.ndarray, "T T"]) -> Float[np.ndarray, "T T"]:
        """Return A S A^T for a symmetric S, exactly symmetric."""
        return mirrored(self @ transposed(self @ S))


def carrying(
    before: ShapedKernel, after: ShapedKernel, lengths: tuple[int, ...]
) -> Carrying:
    """Return A for sequences of these lengths, one after the other, each by itself."""
    _, first = _walks(before, lengths)
    then, _ = _walks(after, lengths)
    return Carrying(then, first)


@lru_cache(maxsize=256)
def _walks(kernel: ShapedKernel, lengths: tuple[int, ...]) -> tuple[Walk, Walk]:
    """Return the Cholesky factor and its inverse."""
    value = float(kernel.value)
    positions = np.concatenate([np.arange(1.0, length + 1) for length in lengths])
    ends = np.cumsum(lengths) - 1

    def walk(parts: Any) -> Walk:
        arrays = [np.broadcast_to(f(positions, value), positions.shape) for f in parts]
        diagonal, output, ratio, more = (np.array(array, float) for array in arrays)
        ratio[ends] = more[ends] = 0.0  # nothing is carried to the next sequence
        return Walk(diagonal, output, ratio, more)

    one, other = map(walk, _compiled(type(kernel)))
    return one, other


@lru_cache(maxsize=8)
def _compiled(family: type[ShapedKernel]) -> tuple[tuple[Any, ...], ...]:
    def functions(factor: Factor) -> tuple[Any, ...]:
        parts = (factor.diagonal, factor.output, factor.ratio, factor.input)
        return tuple(sp.lambdify((i, family.symbol), part, "numpy") for part in parts)

    return tuple(map(functions, factors(family)))
