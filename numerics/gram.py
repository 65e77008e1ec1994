"""Gram matrices: what a kernel must be, and where rounding is forgiven.

A kernel of T positions is a real T x T matrix K, symmetric and positive semidefinite,
K = X Xᵀ / n for some X. Arithmetic of relative precision ε moves it off that set, by
amounts that the comments below derive. Those amounts are forgiven in this file and
nowhere else in the project; anything beyond them is the caller's error and raises.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy import linalg

from asymptest.theory.errors import KernelError, ShapeError

Block = Float[np.ndarray, "rows columns"]

EPS = float(np.finfo(np.float64).eps)


def as_kernel(K0: npt.ArrayLike, name: str = "K0") -> Float[np.ndarray, "T T"]:
    """Return `K0` as a float64 kernel, or say why it is not one.

    Args:
        K0: real array-like (T, T) with T >= 1, in the unit of a variance.
        name: what an error calls the argument.

    Returns:
        A new array (T, T), exactly symmetric. Its eigenvalues may be negative by
        rounding, down to `-8 T ε` times the largest.

    Raises:
        ShapeError: if `K0` is not a square matrix or is empty.
        KernelError: if `K0` is not real, not finite, not symmetric or not PSD.

    >>> as_kernel([[2, 1], [1, 2]])
    array([[2., 1.],
           [1., 2.]])
    """
    K = _square(K0, name)
    # Each of K_ij, K_ji may have been summed in its own order. A few units in the last
    # place of the largest entry is all that a symmetric computation leaves.
    gap, i, j = _asymmetry(K)
    if gap > 4 * EPS * max(K.max(), -K.min()):
        raise KernelError(
            f"{name} is not symmetric: {name}[{i}, {j}] = {K[i, j]} but "
            f"{name}[{j}, {i}] = {K[j, i]}, the largest asymmetry ({gap:.3g}); "
            f"pass X @ X.T / n, or ({name} + {name}.T) / 2 if that is what you mean"
        )
    K = 0.5 * K + 0.5 * K.T if gap else K.copy()
    if not _certainly_psd(K):
        _spectrum(np.linalg.eigvalsh(K), name)
    return K


def settled(
    K: Float[np.ndarray, "T T"], reach: Float[np.ndarray, " T"]
) -> Float[np.ndarray, "T T"]:
    """Return a computed kernel with the variances that are only rounding set to zero.

    K_ii = sum A_ia K0_ab A_ib may cancel to zero exactly in theory; computed, it is off by
    at most a few T ε reach_i², where reach_i = sum_a |A_ia| sqrt(K0_aa). A position whose
    variance is below that is a zero row, and its covariances are rounding too.

    Args:
        K: computed kernel.
        reach: standard deviations of the rows without cancellation.

    Raises:
        KernelError: if a variance is negative beyond rounding.
    """
    variances = np.diagonal(K)
    bound = 8 * len(K) * EPS * reach**2
    if not (variances >= -bound).all():
        i = int(np.argmin(variances + bound))
        raise KernelError(
            f"the kernel has the variance {variances[i]} at position {i}, below zero by more "
            f"than the rounding {bound[i]:.3g}; is the input kernel PSD?"
        )
    dead = variances <= bound
    if not dead.any():
        return K
    return np.where(dead[:, None] | dead[None, :], 0.0, K)


def correlation(K: npt.ArrayLike) -> Float[np.ndarray, "T T"]:
    """Return the correlations ρ_ij = K_ij / sqrt(K_ii K_jj).

    A position with K_ii = 0 has correlation 0 with the others and 1 with itself. That K
    is PSD is not checked beyond the 2 x 2 minors (|ρ| <= 1); `as_kernel` does that.

    Args:
        K: kernel (T, T); diagonal entries from 1e-300 to 1e300 may occur together.

    Returns:
        Array (T, T), no unit; in [-1, 1], the diagonal exactly 1, exactly symmetric if
        K is. The relative error of an entry is below 4 ε.

    Raises:
        ShapeError: if `K` is not a square matrix or is empty.
        KernelError: if `K` is not real or not finite, has a negative diagonal entry or
            an entry that exceeds the Cauchy-Schwarz bound, or is not symmetric.

    >>> correlation([[4.0, 1.0], [1.0, 1.0]])
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    K = _square(K, "K")
    rho, block = np.empty_like(K), correlation_blocks(K)
    for start in range(0, len(K), 64):  # rows that fit the cache, for speed alone
        rho[start : start + 64] = block(slice(start, start + 64), slice(0, None))
    gap, i, j = _asymmetry(rho)
    if gap > _slack(len(K)):
        raise KernelError(
            f"K is not symmetric: K[{i}, {j}] = {K[i, j]} but K[{j}, {i}] = {K[j, i]}; "
            "pass X @ X.T / n"
        )
    return rho


def correlation_blocks(
    K: Float[np.ndarray, "T T"],
) -> Callable[[slice, slice], Block]:
    """Return (rows, columns) -> that block of `correlation(K)`, for a symmetric kernel.

    Blocks start at the same position, or the columns at 0; symmetry is not checked.

    Raises:
        KernelError: the returned function does, if an entry exceeds its bound.
    """
    block = correlations(np.diagonal(K))
    return lambda rows, columns: block(K[rows, columns], rows, columns)


def correlations(
    variance: Float[np.ndarray, " T"],
) -> Callable[..., Block]:
    """Return (block, rows, columns) -> its correlations, as `correlation_blocks`.

    Args:
        variance: diagonal of the kernel that the blocks are of.
    """
    root = np.sqrt(variance)
    zero = root == 0
    some_zero = bool(zero.any())
    # r = m 2^e: the powers of two come off exactly, one after the other (their product
    # may overflow), and the product of the m's does not depend on its order. So the
    # result is as symmetric as K.
    mantissa, exponent = np.frexp(np.where(zero, 1.0, root))
    power = np.ldexp(1.0, -exponent)

    def block(K: Block, rows: slice, columns: slice) -> Block:
        def require(rho: Block, bound: float) -> None:
            _require_bounded(K, variance, rho, bound, rows, columns)

        rho = K * power[rows, None]
        rho *= power[columns]
        rho /= mantissa[rows, None] * mantissa[columns]
        if some_zero:
            # A stored 0 stands for less than the smallest subnormal number, and so
            # (Cauchy-Schwarz) for |K_ij| < sqrt(5e-324) sqrt(K_jj) = 2.3e-162 sqrt(K_jj).
            dead = zero[rows, None] | zero[columns]
            require(np.where(dead, rho, 0.0), 2.3e-162)
            rho[dead] = 0.0
        at = np.arange(len(rho))
        rho[at, at + rows.start - columns.start] = 1.0
        # K_ij is a dot product, rounded by at most T ε sqrt(K_ii K_jj), and so are the two
        # diagonal entries, which gives 2 T ε; 64 leaves room for a K that has gone through
        # some thirty such products. This is the only place where a correlation is clipped.
        if max(rho.max(), -rho.min()) > 1.0:
            require(rho, 1.0 + _slack(len(variance)))
            np.clip(rho, -1.0, 1.0, out=rho)
        return rho

    return block


def _slack(T: int) -> float:
    return 64 * T * EPS


def effective_rank(K: npt.ArrayLike) -> float:
    """Return the effective rank: exp of the entropy of the normalised eigenvalues.

    Between 1 (all positions parallel) and T (orthogonal, of equal norm).

    Args:
        K: kernel (T, T), any unit: the result does not depend on it.

    Returns:
        exp(-Σ π_k ln π_k) with π_k = λ_k / Σ λ (natural logarithm), no unit. The
        rounding error of T eigenvalues, each ε λ_max, makes it uncertain by a relative
        `T ε |ln ε|` at most.

    Raises:
        ShapeError, KernelError: as `as_kernel`; KernelError also if K = 0.

    Source: Roy and Vetterli (2007), "The effective rank", definition 1, for the
        singular values of K.

    >>> round(effective_rank([[1.0, 0.0], [0.0, 1.0]]), 12)
    2.0
    """
    K = as_kernel(K, "K")
    largest = np.abs(K).max()
    if largest == 0:
        raise KernelError(
            "effective_rank needs K != 0: the zero kernel has no normalised "
            f"eigenvalues; got K = 0 of shape {K.shape}"
        )
    # Dividing first keeps the sum of the eigenvalues from overflowing.
    eigenvalues = _spectrum(np.linalg.eigvalsh(K / largest), "K")
    share = eigenvalues / eigenvalues.sum()
    share = share[share > 0]
    return float(np.exp(-np.sum(share * np.log(share))))


def psd_sqrt(K: npt.ArrayLike) -> Float[np.ndarray, "T T"]:
    """Return a factor R with R Rᵀ = K, also for a singular kernel (repeated tokens).

    R is the lower Cholesky factor where that exists in float64. Otherwise it is
    V sqrt(Λ) from K = V Λ Vᵀ, where eigenvalues that are negative within the rounding
    bound of `as_kernel` count as 0.

    Args:
        K: kernel (T, T), in the unit of a variance.

    Returns:
        Array (T, T), in the unit of a standard deviation; |R Rᵀ - K| is below 16 T ε
        times the largest eigenvalue of K.

    Raises:
        ShapeError, KernelError: as `as_kernel`.

    >>> psd_sqrt([[4.0, 2.0], [2.0, 2.0]])
    array([[2., 0.],
           [1., 1.]])
    """
    K = as_kernel(K, "K")
    try:
        return np.linalg.cholesky(K)
    except np.linalg.LinAlgError:
        eigenvalues, vectors = np.linalg.eigh(K)
        R = vectors * np.sqrt(_spectrum(eigenvalues, "K"))
        R[~K.any(1)] = 0.0  # the root of an eigenvalue's rounding is no rounding: 3e-8
        return R


def _square(K0: npt.ArrayLike, name: str) -> Float[np.ndarray, "T T"]:
    """Return `K0` as float64, square, finite, with a diagonal that is not negative."""
    try:
        given = np.asarray(K0)
    except ValueError as error:
        raise ShapeError(
            f"{name} must be a square matrix, but its rows do not form an array: "
            f"{error}"
        ) from error
    if given.ndim != 2 or given.shape[0] != given.shape[1] or given.size == 0:
        raise ShapeError(
            f"{name} must be a square matrix (T, T) with T >= 1; got shape "
            f"{given.shape}; for inputs X of shape (T, n) pass X @ X.T / n"
        )
    if given.dtype.kind not in "fiu":
        raise KernelError(
            f"{name} must be real numbers; got dtype {given.dtype}; convert it, for "
            f"example with {name}.astype(float)"
        )
    if isinstance(K0, np.ma.MaskedArray) and np.ma.is_masked(K0):
        raise KernelError(
            f"{name} has masked entries, and a kernel has none; remove their rows "
            "and columns"
        )
    K = given.astype(np.float64, copy=False)
    finite = np.isfinite(K)
    if not finite.all():
        i, j = np.argwhere(~finite)[0]
        raise KernelError(
            f"{name}[{i}, {j}] = {K[i, j]} is not finite ({(~finite).sum()} such "
            "entries); find the computation that produced it"
        )
    i = int(np.argmin(np.diagonal(K)))
    if K[i, i] < 0:  # a sum of squares: no rounding makes it negative
        raise KernelError(
            f"{name}[{i}, {i}] = {K[i, i]} is negative, and the diagonal of a "
            "kernel holds variances; pass X @ X.T / n"
        )
    return K


def _asymmetry(K: Float[np.ndarray, "T T"]) -> tuple[float, int, int]:
    """Return max |K_ij - K_ji| and its i < j (0, 0 if there is none).

    By blocks that fit the cache: subtracting the whole transpose is four times slower.
    """
    worst, block = (0.0, 0, 0), 128
    for i in range(0, len(K), block):
        for j in range(i, len(K), block):
            tile = K[i : i + block, j : j + block] - K[j : j + block, i : i + block].T
            gap = max(tile.max(), -tile.min())
            if gap > worst[0]:
                row, column = np.unravel_index(np.argmax(np.abs(tile)), tile.shape)
                worst = (float(gap), i + int(row), j + int(column))
    return worst


def _certainly_psd(K: Float[np.ndarray, "T T"]) -> bool:
    """Say whether a Cholesky factorisation proves K PSD within the rounding bound.

    It costs a tenth of the eigenvalues. A shift by T ε max K_ii <= T ε λ_max lets the
    singular kernels pass; if it fails, nothing is proved.
    """
    shifted = K.copy()
    shifted.flat[:: len(K) + 1] += len(K) * EPS * np.diagonal(K).max()
    try:  # in place: the transpose of a symmetric matrix is laid out as LAPACK wants it
        linalg.cho_factor(shifted.T, True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        return False
    return True


def _spectrum(
    eigenvalues: Float[np.ndarray, " T"], name: str
) -> Float[np.ndarray, " T"]:
    """Return the eigenvalues of a kernel with those negative by rounding set to 0.

    Rounding every entry of K by ε K_ij moves each eigenvalue by at most ε |K|_F (Weyl),
    which is below sqrt(T) ε λ_max; summing K_ij over T terms makes it T ε λ_max, and
    the eigenvalue solver adds as much again. Twice the two with a factor 2 to spare is
    8 T ε λ_max.
    """
    lowest, largest = eigenvalues[0], eigenvalues[-1]
    allowed = 8 * len(eigenvalues) * EPS * abs(largest)
    if not lowest >= -allowed:
        raise KernelError(
            f"{name} is not positive semidefinite: its most negative eigenvalue is "
            f"{lowest:.6g}, the largest {largest:.6g}, and rounding explains "
            f"{-allowed:.3g} at most; pass X @ X.T / n"
        )
    return np.maximum(eigenvalues, 0.0)


def _require_bounded(
    K: Block,
    variance: Float[np.ndarray, " T"],
    rho: Block,
    bound: float,
    rows: slice,
    columns: slice,
) -> None:
    """Raise if some |rho| exceeds the bound; K is the block of these rows and columns."""
    at, to = np.unravel_index(np.argmax(np.abs(rho)), rho.shape)
    if abs(rho[at, to]) > bound:
        i, j = rows.start + int(at), columns.start + int(to)
        raise KernelError(
            f"K is not a kernel: K[{i}, {j}] = {K[at, to]} while K[{i}, {i}] = "
            f"{variance[i]} and K[{j}, {j}] = {variance[j]}, so |K_ij| exceeds "
            "sqrt(K_ii K_jj) by more than rounding; pass X @ X.T / n"
        )
