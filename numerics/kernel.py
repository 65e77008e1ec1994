"""The infinite-width kernel of a network, evaluated in float64.

Every number comes from the equations that theory/ derives; numerics/layers.py only binds them
to arrays. Independent check: finite networks (verify/), and the goldens under tests/.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from asymptest.numerics.gram import as_kernel
from asymptest.numerics.layers import Kernels, last, states
from asymptest.numerics.logits import Sampling, is_random
from asymptest.numerics.random_softmax import nearest_kernel
from asymptest.theory.errors import AccuracyError, ArgumentError, ShapeError
from asymptest.theory.network import (
    Attention,
    Chain,
    Custom,
    Dense,
    LayerNorm,
    Mix,
    Mlp,
    Network,
    Pointwise,
    Product,
    Repeat,
    Residual,
    RMSNorm,
    as_network,
)
from asymptest.theory.rules import after

Kernel = Float[np.ndarray, "T T"]
Depths = Float[np.ndarray, "layers T T"]

EVALUATIONS = 16  # independent ones, behind a standard error
RTOL = (
    1e-3  # the standard error, relative to the largest entry, if nothing is asked for
)
MOST = 2**24  # draws in one layer
MARGIN = 1.2  # a standard deviation of 16 numbers is known to 18 %


def kernel(
    network: Network,
    K0: Float[np.ndarray, "T T"],
    *,
    samples: int | None = None,
    rng: np.random.Generator | int = 0,
    rtol: float | None = None,
) -> Float[np.ndarray, "T T"]:
    """Return the kernel of `network` at infinite width.

    Args:
        network: the description.
        K0: kernel X X^T / n of the input, symmetric and PSD.
        samples: draws of the logits of each layer where they are random, as under
            Softmax("1/sqrt(d)"); others need none. With `rtol`, the most to spend.
        rng: their generator, or its seed.
        rtol: the standard error to reach, relative to the largest entry; 1e-3 if neither is
            given.

    Raises:
        KernelError: if K0 is no kernel.
        ShapeError: if the network is for another number of positions.
        AccuracyError: if `rtol` takes more than `samples`.

    >>> from asymptest.theory import Dense, Pointwise, relu
    >>> kernel(Dense(2) >> Pointwise(relu), np.eye(2)).round(6)
    array([[1.     , 0.31831],
           [0.31831, 1.     ]])
    """
    return kernel_with_error(network, K0, samples=samples, rng=rng, rtol=rtol)[0]


def kernel_with_error(
    network: Network,
    K0: Float[np.ndarray, "T T"],
    *,
    samples: int | None = None,
    rng: np.random.Generator | int = 0,
    rtol: float | None = None,
) -> tuple[Float[np.ndarray, "T T"], Float[np.ndarray, "T T"]]:
    """Return the kernel and its standard error, zero where nothing is sampled.

    It includes what later layers make of the error of a layer. Where noise leaves the mean
    with negative eigenvalues, they are set to 0. Arguments and errors as for `kernel`.
    """
    if is_sampled(as_network(network)):
        values, errors = kernels_with_error(
            network, K0, samples=samples, rng=rng, rtol=rtol
        )
        return values[-1], errors[-1]
    _check(samples, rtol)
    K = _input(network, K0)
    (only,) = last(_runs(network, K, 1 if samples is None else samples, rng))
    return only, np.zeros(only.shape)


def kernels(
    network: Network,
    K0: Float[np.ndarray, "T T"],
    *,
    samples: int | None = None,
    rng: np.random.Generator | int = 0,
    rtol: float | None = None,
) -> Float[np.ndarray, "layers T T"]:
    """Return the input's kernel and the kernel after each layer, `depth(network) + 1` in all.

    A Repeat counts each copy as one layer. Arguments and errors as for `kernel`; `rtol` is
    that of the last.
    """
    return kernels_with_error(network, K0, samples=samples, rng=rng, rtol=rtol)[0]


def kernels_with_error(
    network: Network,
    K0: Float[np.ndarray, "T T"],
    *,
    samples: int | None = None,
    rng: np.random.Generator | int = 0,
    rtol: float | None = None,
) -> tuple[Depths, Depths]:
    """Return the kernels after each layer, and their standard errors, as for `kernels`."""
    K = _input(network, K0)
    _check(samples, rtol)
    generator = np.random.default_rng(rng)
    if samples is not None and rtol is None:
        return _mean_and_error(_stacked(_runs(network, K, samples, generator)))
    rtol, most = RTOL if rtol is None else rtol, MOST if samples is None else samples
    wanted = rtol / MARGIN / max(1, random_layers(network)) ** 0.5
    while True:
        try:
            found = _stacked(_runs(network, K, most, generator, wanted))
        except AccuracyError as error:
            raise _in_total(error, most, rtol) from error
        values, errors = _mean_and_error(found)
        reached, allowed = errors[-1].max(), rtol * np.abs(values[-1]).max()
        if reached <= allowed:
            return values, errors
        wanted *= allowed / reached / MARGIN


def evaluations(
    network: Network,
    K0: Float[np.ndarray, "T T"],
    samples: int,
    rng: np.random.Generator | int,
    rtol: float | None = None,
) -> Float[np.ndarray, "evaluations layers T T"]:
    """Return independent evaluations of the kernels after each layer.

    There is one if nothing is sampled; otherwise they share the `samples`, and their mean
    is the estimate. With `rtol`, what a layer adds to its standard error.
    """
    return _stacked(_runs(network, _input(network, K0), samples, rng, rtol))


def _in_total(error: AccuracyError, samples: int, rtol: float) -> AccuracyError:
    """Return the error of a layer or an evaluation in the numbers that the caller gave."""
    if error.times is None or not np.isfinite(error.times):
        return error
    return AccuracyError(
        f"samples = {samples} does not reach rtol = {rtol:g}; about samples = "
        f"{int(samples * error.times) + 1} would do; or give samples without rtol",
        error.times,
    )


def _check(samples: int | None, rtol: float | None) -> None:
    if not (rtol is None or (isinstance(rtol, int | float) and 0 < rtol < np.inf)):
        raise ArgumentError(f"rtol must be positive and finite; got {rtol!r}")
    if not (samples is None or isinstance(samples, int | np.integer)):
        raise ArgumentError(f"samples must be a whole number; got {samples!r}")


def _runs(
    network: Network,
    K: Kernel,
    samples: int,
    rng: np.random.Generator | int,
    rtol: float | None = None,
) -> Iterator[Kernels]:
    """Return the kernels of all evaluations, layer by layer."""
    count = EVALUATIONS if is_sampled(network) else 1
    if samples < count:
        raise ArgumentError(f"samples must be at least {count}; got {samples}")
    rngs = tuple(np.random.default_rng(rng).spawn(count))
    return states(network, K[None], Sampling(samples, rngs, rtol))


def _stacked(runs: Iterator[Kernels]) -> Float[np.ndarray, "evaluations layers T T"]:
    found = list(runs)
    shape = max(found, key=len).shape
    return np.stack([np.broadcast_to(Ks, shape) for Ks in found], axis=1)


def _mean_and_error(
    found: Float[np.ndarray, "evaluations layers T T"],
) -> tuple[Depths, Depths]:
    if len(found) == 1:
        return found[0], np.zeros_like(found[0])
    apart = found - found[0]  # 0, not rounding, before the first random layer
    mean = np.array([nearest_kernel(K) for K in found[0] + apart.mean(0)])
    return mean, apart.std(0, ddof=1) / len(found) ** 0.5


def is_sampled(network: Network) -> bool:
    """Whether the kernel is an average over random logits."""
    return random_layers(network) > 0


def random_layers(network: Network) -> int:
    """Return the number of layers with random logits."""
    match network:
        case Attention(pattern):
            return int(is_random(pattern))
        case Residual(branch):
            return random_layers(branch)
        case Product(left, right):
            return random_layers(left) + random_layers(right)
        case Chain(layers):
            return sum(map(random_layers, layers))
        case Repeat(block, depth):
            return depth * random_layers(block)
        case Dense() | Pointwise() | Mlp() | RMSNorm() | LayerNorm() | Mix() | Custom():
            return 0


def _input(network: Network, K0: Kernel) -> Kernel:
    K = as_kernel(K0, "K0")
    T = after(as_network(network)).positions
    if T is not None and len(K) != T:
        raise ShapeError(
            f"the network is for {T} positions, but K0 has the shape {K.shape}"
        )
    return K
