"""The infinite-width kernel of a network, evaluated in float64.

Every number comes from the equations that theory/ derives; this file only binds them to
arrays. Independent check: finite networks (verify/), and the goldens under tests/.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import numpy as np
from jaxtyping import Float

from asymptest.numerics.attention import attention_matrices, mean_softmax
from asymptest.numerics.compile import compiled
from asymptest.numerics.duals import dual_entry, entrywise
from asymptest.numerics.gram import as_kernel, settled
from asymptest.numerics.logits import Sampling, as_numpy, is_random, seen_kernel
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
    Repeat,
    Residual,
    RMSNorm,
    as_network,
)
from asymptest.theory.patterns import Linear
from asymptest.theory.rules import after, mixes
from asymptest.theory.update import Layer

Kernel = Float[np.ndarray, "T T"]

BATCHES = 16  # independent estimates behind a standard error
MOST = 2**22  # draws, if an error is asked for
GROWTH, MARGIN = 4, 1.2  # of the draws from one try to the next; of the draws needed


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
        samples: draws of the logits of each Softmax("1/sqrt(d)") layer; others need none.
            4096 if None, fewer for more than 64 positions. With `rtol`, the most to spend.
        rng: their generator, or its seed.
        rtol: the standard error to reach, relative to the largest entry.

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

    The samples are split over independent evaluations of the whole network, so the error
    includes what later layers make of it. Arguments and errors as for `kernel`.
    """
    start = _input(network, K0)
    if rtol is not None and not 0 < rtol < np.inf:
        raise ArgumentError(f"rtol must be positive and finite; got {rtol}")
    if samples is None:
        samples = _draws(len(start), 2**24) if rtol is None else MOST
    random = is_sampled(network)
    if samples < (BATCHES if random else 1):
        raise ArgumentError(f"samples must be at least {BATCHES}; got {samples}")
    if not random:
        only = _last(_states(network, start, Sampling(1, np.random.default_rng(rng))))
        return only, np.zeros_like(only)
    generator = np.random.default_rng(rng)
    if rtol is None:
        return _batches(network, start, samples, generator)
    tried = min(_draws(len(start), 2**18), samples)
    while True:
        mean, error = _batches(network, start, tried, generator)
        reached = error.max() / np.abs(mean).max()
        if reached <= rtol:
            return mean, error
        needed = MARGIN * tried * (reached / rtol) ** 2
        if tried == samples or needed > GROWTH * samples:
            raise AccuracyError(
                f"samples = {samples} does not reach rtol = {rtol:g}: {tried} gave a standard "
                f"error of {reached:.2g} of the largest entry; about samples = "
                f"{int(needed) + 1} would do"
            )
        tried = int(min(max(needed, 2 * tried), GROWTH * tried, samples))


def _draws(T: int, logits: int) -> int:
    """Return how many draws of the logits make up this number, within limits."""
    return int(np.clip(logits // T**2, BATCHES, 4096))


def _batches(
    network: Network, start: Kernel, samples: int, rng: np.random.Generator
) -> tuple[Kernel, Kernel]:
    """Return the mean of independent evaluations, on all cores, and its standard error."""

    def run(child: np.random.Generator) -> Kernel:
        return _last(_states(network, start, Sampling(samples // BATCHES, child)))

    first, *rest = rng.spawn(BATCHES)
    alone = run(first)  # it derives and compiles
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = np.array([alone, *pool.map(run, rest)])
    return runs.mean(0), runs.std(0, ddof=1) / BATCHES**0.5


def kernels(
    network: Network,
    K0: Float[np.ndarray, "T T"],
    *,
    samples: int | None = None,
    rng: np.random.Generator | int = 0,
) -> Float[np.ndarray, "layers T T"]:
    """Return the input's kernel and the kernel after each layer, `depth(network) + 1` in all.

    A Repeat counts each copy as one layer. Arguments and errors as for `kernel`.
    """
    start = _input(network, K0)
    if samples is None:
        samples = _draws(len(start), 2**24)
    sampling = Sampling(samples, np.random.default_rng(rng))
    return np.array(list(_states(network, start, sampling)))


def is_sampled(network: Network) -> bool:
    """Whether the kernel is an average over random logits."""
    match network:
        case Attention(pattern):
            return is_random(pattern)
        case Residual(branch):
            return is_sampled(branch)
        case Chain(layers):
            return any(map(is_sampled, layers))
        case Repeat(block):
            return is_sampled(block)
        case Dense() | Pointwise() | Mlp() | RMSNorm() | LayerNorm() | Mix() | Custom():
            return False


def _input(network: Network, K0: Kernel) -> Kernel:
    K = as_kernel(K0, "K0")
    T = after(as_network(network)).positions
    if T is not None and len(K) != T:
        raise ShapeError(
            f"the network is for {T} positions, but K0 has the shape {K.shape}"
        )
    return K


def _last(states: Iterator[Kernel]) -> Kernel:
    return reduce(lambda _, new: new, states)


def _states(network: Network, K: Kernel, sampling: Sampling) -> Iterator[Kernel]:
    """Yield K, and the kernel after each layer in the sense of `depth`."""
    yield K
    match network:
        case Chain(layers):
            for layer in layers:
                for state in _after_first(_states(layer, K, sampling)):
                    K = state
                    yield K
        case Repeat(block, depth):
            for _ in range(depth):
                K = _last(_states(block, K, sampling))
                yield K
        case Mlp():
            yield _last(_states(network.layers, K, sampling))
        case (
            Dense()
            | Pointwise()
            | RMSNorm()
            | LayerNorm()
            | Mix()
            | Attention()
            | Residual()
            | Custom()
        ):
            yield _layer(network, K, sampling)


def _after_first(states: Iterator[Kernel]) -> Iterator[Kernel]:
    next(states)
    return states


def _layer(layer: Layer, K: Kernel, sampling: Sampling) -> Kernel:
    match layer:
        case Pointwise(phi):
            return entrywise(dual_entry(phi), K)
        case Mix(table):
            A = as_numpy(table)
            return settled(_apply(layer, K, A=A), _reach(A, K))
        case Attention():
            return _attention(layer, K, sampling)
        case Residual(branch):
            if (matrices := mixes(branch)) is not None:
                product = reduce(
                    lambda A, mix: as_numpy(mix.A) @ A, matrices, np.eye(len(K))
                )
                mixed = _apply(layer, K, A=product)
                skip, weight = abs(float(layer.skip)), abs(float(layer.weight))
                uncancelled = skip * np.eye(len(K)) + weight * np.abs(product)
                return settled(mixed, _reach(uncancelled, K))
            return _apply(layer, K, branch=_last(_states(branch, K, sampling)))
        case Dense() | RMSNorm() | LayerNorm() | Custom():
            return _apply(layer, K)


def _reach(
    A: Float[np.ndarray, "*stack T T"], K: Kernel
) -> Float[np.ndarray, "*stack T"]:
    """Return sum_a |A_ia| sqrt(K_aa), the deviation of row i if nothing cancelled."""
    return np.abs(A) @ np.sqrt(np.diagonal(K))


def _attention(layer: Attention, K: Kernel, sampling: Sampling) -> Kernel:
    if (mean := mean_softmax(layer, K, sampling)) is not None:
        # Rows of a softmax sum to 1, so that biases pass by it: the rest of the equation acts
        # on E A K A^T as it does on K. No row reaches further than the largest token.
        reach = np.full(len(K), np.sqrt(np.diagonal(K).max()))
        after = _apply(layer, mean, A=np.eye(len(K)))
        return settled(after, _gain(layer) ** 0.5 * reach)
    total, reach, count = np.zeros_like(K), np.zeros(len(K)), 0
    for stack in attention_matrices(layer, K, sampling):
        total += _apply(layer, K, A=stack).sum(0)
        reach = np.maximum(reach, _reach(stack, K).max(0))
        count += len(stack)
    return settled(total / count, _gain(layer) ** 0.5 * reach)


def _gain(layer: Attention) -> float:
    """Return what the derived equation multiplies A K A^T by: its value at A = K = 1."""
    function, _ = compiled(layer)
    one = np.ones((1, 1))
    return function(one, one, None, np.zeros((1, 1)), one).item()


def _seen(layer: Layer, K: Kernel) -> Kernel | None:
    """Return the kernel that queries and keys see, for an equation that holds it."""
    match layer:
        case Attention(Linear() as pattern):
            return seen_kernel(pattern, K)
        case _:
            return None


def _apply(
    layer: Layer,
    K: Kernel,
    A: Float[np.ndarray, "*stack T T"] | None = None,
    branch: Kernel | None = None,
) -> Float[np.ndarray, "*stack T T"]:
    """Evaluate the derived equation of one layer."""
    function, is_entrywise = compiled(layer)
    if not is_entrywise:
        return function(K, A, branch, np.ones_like(K), _seen(layer, K))
    return entrywise(function, K)
