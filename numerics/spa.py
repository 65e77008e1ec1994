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
from asymptest.theory.errors import ArgumentError, KernelError
from asymptest.theory.masks import Blocks, Mask
from asymptest.theory.patterns import Spa
from asymptest.theory.spa import ShapedKernel
from asymptest.theory.substitution import put

Square = Float[np.ndarray, "T T"]


def shaped_kernel(kernel: ShapedKernel | Array, T: int) -> Square:
    """Return a kernel of shaped attention at T positions.

    >>> from asymptest.theory import UniformKernel
    >>> shaped_kernel(UniformKernel(0.5), 2)
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    if isinstance(kernel, Array):
        return as_kernel(as_numpy(kernel), "a kernel of Spa")
    value = {kernel.symbol: kernel.value}
    coupling, ratio = (float(put(value, x)) for x in (kernel.coupling, kernel.ratio))
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
        ArgumentError: if an entry is negative by more than rounding.
        KernelError: if `before` has no inverse.
    """
    if (recursion := carried(pattern, mask, T)) is not None:
        A = recursion @ np.eye(T)
    else:
        A = np.zeros((T, T))
        start = 0
        for length in _lengths(mask, T):
            at = slice(start, start + length)
            ends = [_block(kernel, at, T) for kernel in (pattern.before, pattern.after)]
            A[at, at] = _dense(*ends, causal=_is_causal(mask))
            start += length
    rounding = T * EPS * np.abs(A).max()
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
    return mask.lengths if isinstance(mask, Blocks) else (T,)


def _block(kernel: ShapedKernel | Array, at: slice, T: int) -> Square:
    if isinstance(kernel, Array):
        return shaped_kernel(kernel, T)[at, at]
    return shaped_kernel(kernel, at.stop - at.start)


def _dense(before: Square, after: Square, causal: bool) -> Square:
    """Return F_after F_before^(-1) with Cholesky factors, or symmetric square roots."""
    if causal:
        try:
            first = np.linalg.cholesky(before)
        except np.linalg.LinAlgError:
            raise KernelError(
                "Spa.before is singular, so that no matrix carries it to Spa.after: make all "
                "tokens differ"
            ) from None
        then = np.linalg.cholesky(after)
        return scipy.linalg.solve_triangular(first.T, then.T, lower=False).T
    values, vectors = np.linalg.eigh(before)
    if values[0] <= len(before) * EPS * values[-1]:
        raise KernelError(
            "Spa.before is singular, so that no matrix carries it to Spa.after: make all "
            "tokens differ"
        )
    inverse = (vectors / np.sqrt(values)) @ vectors.T
    values, vectors = np.linalg.eigh(after)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T @ inverse
