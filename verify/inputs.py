"""Input states whose kernel is known exactly."""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor as Array

from asymptest.numerics.gram import as_kernel, psd_sqrt
from asymptest.theory.errors import ShapeError
from asymptest.verify.weights import haar


def stream(rng: np.random.Generator | int, purpose: str) -> np.random.Generator:
    """Return `rng`, or the generator that a seed gives for one purpose.

    A seed that serves twice, for an input and for the weights that act on it, must not
    give the same numbers twice.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    return np.random.default_rng([rng, *purpose.encode()])


def exact_input(
    K0: Float[np.ndarray, "T T"],
    width: int,
    copies: int = 1,
    rng: np.random.Generator | int = 0,
) -> Float64[Array, "copies T width"]:
    """Return states X = sqrt(n) R Q^T with X X^T / n = K0, where K0 = R R^T and Q is Haar.

    Raises:
        KernelError: if K0 is no kernel.
        ShapeError: if width < T: rank T does not fit into fewer dimensions.
    """
    K = as_kernel(K0, "K0")
    T = len(K)
    if width < T:
        raise ShapeError(
            f"width = {width} cannot realise a kernel of T = {T} positions exactly; "
            f"use a width of at least {T}"
        )
    R = torch.from_numpy(psd_sqrt(K))
    # haar(T, n) has Q Q^T = (n / T) I: T / n of that makes orthonormal rows.
    Q = haar(copies, T, width, stream(rng, "input")) * (T / width) ** 0.5
    return width**0.5 * (R @ Q)
