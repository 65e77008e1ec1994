"""Shaped attention as arrays: its matrix, and the softmax that makes it.

Under a causal mask between two kernels of theory/spa.py it is applied as a recursion
(semiseparable.py); else the matrix is formed from Cholesky factors or symmetric square roots.
"""

from functools import lru_cache

import numpy as np
import scipy.linalg
from jaxtyping import Float

from asymptest.numerics.gram import EPS, as_kernel
from asymptest.numerics.logits import as_numpy
from asymptest.numerics.semiseparable import Carrying, carrying
from asymptest.theory.arrays import Array
from asymptest.theory.errors import ArgumentError, KernelError, ShapeError
from asymptest.theory.masks import Blocks, Mask
from asymptest.theory.patterns import Spa
from asymptest.theory.spa import ShapedKernel
from asymptest.theory.substitution import number, put

Square = Float[np.ndarray, "T T"]


def shaped_kernel(kernel: ShapedKernel | Array, T: int) -> Square:
    """Return a kernel of shaped attention at T positions.

    >>> from asymptest.theory import UniformKernel
    >>> shaped_kernel(UniformKernel(0.5), 2)
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    if isinstance(kernel, Array):
        if kernel.shape != (T, T):
            raise ShapeError(f"{kernel!r} of Spa must have the shape {T, T}")
        return as_kernel(as_numpy(kernel), "a kernel of Spa")
    value, name = {kernel.symbol: kernel.value}, f"the parameter of {kernel!r}"
    coupling, ratio = (
        number(put(value, x), name) for x in (kernel.coupling, kernel.ratio)
    )
    return scipy.linalg.toeplitz([1.0, *(coupling * ratio ** np.arange(T - 1))])


def carried(pattern: Spa, mask: Mask, T: int) -> Carrying | None:
    """Return the attention matrix as a recursion, where there is one."""
    before, after = pattern.before, pattern.after
    lengths = _lengths(mask, T)
    if not _is_causal(mask) or isinstance(before, Array) or isinstance(after, Array):
        return None
    return carrying(before, after, lengths)


@lru_cache(maxsize=256)
def spa_matrix(pattern: Spa, mask: Mask, T: int) -> Square:
    """Return the attention matrix of all heads.

    Raises:
        ArgumentError: if an entry is negative by more than rounding, or a kernel has a symbol.
        KernelError: if `before` has no inverse, or `after` no softmax that makes it.
        ShapeError: if the mask or an array is for another number of positions.
    """
    worse = 1.0
    if (recursion := carried(pattern, mask, T)) is not None:
        A = recursion @ np.eye(T)
    else:
        A = np.zeros((T, T))
        start = 0
        for length in _lengths(mask, T):
            at = slice(start, start + length)
            ends = [_block(kernel, at, T) for kernel in (pattern.before, pattern.after)]
            A[at, at], worst = _dense(*ends, causal=_is_causal(mask))
            worse = max(worse, worst)
            start += length
    rounding = T * EPS * np.abs(A).max() * worse
    if A.min() < -rounding:
        row, column = np.unravel_index(A.argmin(), A.shape)
        raise ArgumentError(
            f"{pattern!r} has the negative entry A[{row}, {column}] = {A.min():.3g}, which no "
            f"softmax reaches; let the correlations rise more evenly with the depth"
        )
    # Rounding below zero has no logarithm.
    A = np.maximum(A, 0.0)
    A.setflags(write=False)
    return A


@lru_cache(maxsize=256)
def spa_softmax(
    pattern: Spa, mask: Mask, T: int
) -> tuple[Square, Float[np.ndarray, " T"]]:
    """Return B and D for which A = D softmax(B); B is -inf where A is 0."""
    A = spa_matrix(pattern, mask, T)
    sums = A.sum(1)
    with np.errstate(divide="ignore"):
        B = np.log(A / sums[:, None])
    B.setflags(write=False)
    return B, sums


def _is_causal(mask: Mask) -> bool:
    return mask == "causal" or (isinstance(mask, Blocks) and mask.causal)


def _lengths(mask: Mask, T: int) -> tuple[int, ...]:
    if not isinstance(mask, Blocks):
        return (T,)
    if sum(mask.lengths) != T:
        raise ShapeError(f"{mask!r} is for {sum(mask.lengths)} positions, not for {T}")
    return mask.lengths


def _block(kernel: ShapedKernel | Array, at: slice, T: int) -> Square:
    if isinstance(kernel, Array):
        return shaped_kernel(kernel, T)[at, at]
    return shaped_kernel(kernel, at.stop - at.start)


def _dense(before: Square, after: Square, causal: bool) -> tuple[Square, float]:
    """Return F_after F_before^(-1), and how much larger than usual its rounding may be."""
    (first, one), (then, other) = (_factor(K, causal) for K in (before, after))
    largest = 1 / (len(before) * EPS)
    for name, condition in (("before", one), ("after", other if causal else 1)):
        if condition >= largest:
            raise KernelError(
                f"Spa.{name} is singular, so that no one matrix carries Spa.before to "
                f"Spa.after: make all tokens differ"
            )
    if not np.diagonal(after).all():
        raise KernelError("Spa.after has a zero variance: no row of softmax is zero")
    # Rounding of a kernel moves its factor by the root of the condition.
    worse = (one * max(one, min(other, largest))) ** 0.5
    return np.linalg.solve(first.T, then.T).T, worse


def _factor(K: Square, causal: bool) -> tuple[Square, float]:
    """Return F with F F^T = K, by Cholesky or symmetric, and the condition of K."""
    if causal:
        try:
            F = np.linalg.cholesky(K)
        except np.linalg.LinAlgError:
            return K, np.inf
        return F, float((np.diagonal(K) / np.diagonal(F) ** 2).max())
    values, vectors = np.linalg.eigh(K)
    F = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return F, float(values[-1] / values[0]) if values[0] > 0 else np.inf
