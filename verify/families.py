"""Evidence about kernels of finite networks, in the few shapes that claims need."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from jaxtyping import Float

from asymptest.numerics.kernel import kernel
from asymptest.theory.network import Network
from asymptest.verify.claim import FiniteLaw, Limit, Rng
from asymptest.verify.finite import finite, kernel_of
from asymptest.verify.inputs import exact_input

Kernel = Float[np.ndarray, "T T"]
NetworkOf = Callable[[Any], Network]
KernelOf = Callable[[Any], Kernel]


def upper(K: Float[np.ndarray, "*stack T T"]) -> Float[np.ndarray, "*stack d"]:
    """Return the entries on and above the diagonal, row by row."""
    rows, columns = np.triu_indices(K.shape[-1])
    return K[..., rows, columns]


def natural_scale(K: Kernel) -> Kernel:
    """Return sqrt(K_ii K_jj), the size that an entry of a kernel can have."""
    size = np.sqrt(np.diagonal(K))
    return size[:, None] * size[None, :]


def finite_kernels(
    network: Network, K0: Kernel, width: int, copies: int, rng: Rng
) -> Float[np.ndarray, "copies T T"]:
    """Return independent kernels of finite networks on inputs with the exact kernel K0."""
    module = finite(network, width, copies, rng)
    return kernel_of(module, exact_input(K0, width, copies, rng))


def kernel_limit(
    network: NetworkOf,
    K0: KernelOf,
    widths: tuple[int, ...],
    spread: float,
    bias: float = 0.0,
    coarseness: float = 1.0,
) -> Limit:
    """Return the evidence that a network's kernel tends to `kernel(network, K0)`."""

    def sample(instance: Any, width: int, copies: int, rng: Rng) -> np.ndarray:
        return upper(
            finite_kernels(network(instance), K0(instance), width, copies, rng)
        )

    def predict(instance: Any) -> np.ndarray:
        return upper(kernel(network(instance), K0(instance)))

    def scale(instance: Any) -> np.ndarray:
        return upper(natural_scale(kernel(network(instance), K0(instance))))

    return Limit(sample, predict, scale, widths, spread, bias, coarseness)


def predict_with(evidence: Limit, network: NetworkOf, K0: KernelOf) -> Limit:
    """Return a mutant: the same finite networks, the limit of another network or input."""
    return replace(evidence, predict=lambda i: upper(kernel(network(i), K0(i))))


def mean_kernel(
    network: NetworkOf,
    K0: KernelOf,
    predict: KernelOf,
    widths: tuple[int, ...],
    spread: float,
) -> FiniteLaw:
    """Return the evidence that E kernel = predict at every finite width."""

    def sample(instance: Any, width: int, copies: int, rng: Rng) -> np.ndarray:
        return upper(
            finite_kernels(network(instance), K0(instance), width, copies, rng)
        )

    return FiniteLaw(
        sample,
        lambda i, _: upper(predict(i)),
        lambda i, _: upper(natural_scale(kernel(network(i), K0(i)))),
        widths,
        spread,
    )


@st.composite
def kernels_of_size(draw, T: int) -> Kernel:
    """Draw a well-conditioned kernel: variances in [1/2, 2], correlations up to about 0.9.

    Limits are judged here, where every entry has a size; edges are for exact evidence.
    """
    unit = st.floats(-1, 1)
    rows = np.eye(T) + np.array([[draw(unit) for _ in range(T)] for _ in range(T)])
    rows[np.abs(rows).sum(1) < 1e-3, 0] = 1.0
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    size = np.array([draw(st.floats(0.5, 2)) for _ in range(T)]) ** 0.5
    correlations = 0.9 * rows @ rows.T + 0.1 * np.eye(T)
    return size[:, None] * correlations * size[None, :]
