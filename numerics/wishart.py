"""Gaussian and Haar matrices up to a rotation of their columns: few numbers at any width.

Fresh weights enter a kernel through Gram matrices, which do not change when the columns of
W are rotated. So m rows of n independent N(0, 1) numbers are as good as Bartlett's factor,
the L of their LQ decomposition: rotate the first row onto the first axis, then the second
row onto the first two, and so on. The entries of L are independent,

    L_jj^2 ~ chi^2_{n-j} for j = 0, 1, ...,    L_ij ~ N(0, 1) for i > j,

and L L^T is Wishart with n degrees of freedom. Orthonormal rows with the Haar law are
Gaussian ones divided by that factor, and so they shrink with them.

Source: Bartlett (1933), On the theory of statistical regression; Muirhead (1982), section
3.2. Independent check: moments and tests against NumPy's and SciPy's full matrices.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

Rng = np.random.Generator

# Numbers of a matrix that QR is given at once. For larger ones OpenBLAS starts threads, which
# takes longer than the work: on a busy machine a thousand times as long.
PIECE = 2**13


def bartlett(
    rng: Rng, shape: tuple[int, ...], rows: int, n: int
) -> Float[np.ndarray, "*shape rows columns"]:
    """Return factors L of Wishart matrices L L^T with n degrees of freedom.

    Args:
        rng: their generator.
        shape: of the stack of independent factors.
        rows: of each.
        n: the number of Gaussian columns that each one stands for; 0 leaves none.

    Returns:
        Lower trapezoidal matrices with min(rows, n) columns.

    >>> bartlett(np.random.default_rng(0), (2,), 3, 10**6).shape
    (2, 3, 3)
    """
    columns = min(rows, n)
    L = np.tril(rng.standard_normal((*shape, rows, columns)))
    at = np.arange(columns)
    L[..., at, at] = np.sqrt(rng.chisquare(n - at, (*shape, columns)))
    return L


def gaussian(
    rng: Rng, samples: int, rows: int, aligned: int, groups: int, n: int
) -> Float[np.ndarray, "samples rows columns"]:
    """Return Gaussian matrices: some columns as they are, the others by groups up to rotation.

    Args:
        rng: their generator.
        samples: independent matrices.
        rows: of each.
        aligned: columns that keep their direction, the first ones.
        groups: the number of groups that follow, each up to a rotation of its own.
        n: the number of columns that a group stands for; it takes min(rows, n) of them.
    """
    kept = rng.standard_normal((samples, rows, aligned))
    turned = bartlett(rng, (samples, groups), rows, n).swapaxes(1, 2)
    return np.concatenate([kept, turned.reshape(samples, rows, -1)], axis=-1)


def narrow(
    F: Float[np.ndarray, "*stack T m"],
) -> Float[np.ndarray, "*stack T r"]:
    """Return a factor of F F^T with min(T, m) columns: F itself, rotated if it has more.

    By QR, so that nothing is squared: what is small or nearly equal stays exact.
    """
    return F if F.shape[-1] <= F.shape[-2] else lower(F)


def lower(
    F: Float[np.ndarray, "*stack T m"],
) -> Float[np.ndarray, "*stack T r"]:
    """Return the lower trapezoidal L of F = L Q, with no negative number on its diagonal."""
    *stack, T, m = F.shape
    size = max(2 * T, PIECE // T)
    if m > size:  # by pieces, whose factors take the place of their columns
        whole = m // size * size
        pieces = F[..., :whole].reshape(*stack, T, -1, size).swapaxes(-3, -2)
        short = lower(pieces).swapaxes(-3, -2).reshape(*stack, T, -1)
        return lower(np.concatenate([short, F[..., whole:]], axis=-1))
    R: Any = np.linalg.qr(F.mT, mode="r")  # NumPy's type hints know no modes
    return R.mT * _signs(R)


def orthonormal(
    N: Float[np.ndarray, "*stack rows columns"],
) -> Float[np.ndarray, "*stack rows columns"]:
    """Return the Q of N = L Q, its rows orthonormal: Haar rows if N is Gaussian.

    Only with the signs of `lower` is that so (Mezzadri, 2007); QR's own depend on N.
    """
    Q, R = np.linalg.qr(N.mT)
    return (Q * _signs(R)).mT


def _signs(L: Float[np.ndarray, "*stack T r"]) -> Float[np.ndarray, "*stack 1 columns"]:
    """Return the signs of the diagonal, 1 for 0."""
    return np.where(np.diagonal(L, axis1=-2, axis2=-1) < 0, -1.0, 1.0)[..., None, :]
