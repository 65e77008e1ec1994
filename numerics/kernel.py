"""The infinite-width kernel of a network, evaluated in float64.

Every number comes from the equations that theory/ derives; this file only binds them to
arrays. Independent check: finite networks (verify/), and the goldens under tests/.
"""

from collections.abc import Iterator
from functools import reduce

import numpy as np
from jaxtyping import Float

from asymptest.numerics.attention import Sampling, as_numpy, attention_matrices
from asymptest.numerics.compile import compiled
from asymptest.numerics.duals import dual_entry, entrywise
from asymptest.numerics.gram import as_kernel, settled
from asymptest.theory.errors import ArgumentError, ShapeError
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
from asymptest.theory.rules import after, mixes
from asymptest.theory.update import Layer, update

Kernel = Float[np.ndarray, "T T"]

BATCHES = 16  # independent estimates behind a standard error


def kernel(
    network: Network,
    K0: Float[np.ndarray, "T T"],
    *,
    samples: int = 4096,
    rng: np.random.Generator | int = 0,
) -> Float[np.ndarray, "T T"]:
    """Return the kernel of `network` at infinite width.

    Args:
        network: the description.
        K0: kernel X X^T / n of the input, symmetric and PSD.
        samples: draws of the logits of each Softmax("1/sqrt(d)") layer; others need none.
        rng: their generator, or its seed.

    Raises:
        KernelError: if K0 is no kernel.
        ShapeError: if the network is for another number of positions.

    >>> from asymptest.theory import Dense, Pointwise, relu
    >>> kernel(Dense(2) >> Pointwise(relu), np.eye(2)).round(6)
    array([[1.     , 0.31831],
           [0.31831, 1.     ]])
    """
    return kernel_with_error(network, K0, samples=samples, rng=rng)[0]


def kernel_with_error(
    network: Network,
    K0: Float[np.ndarray, "T T"],
    *,
    samples: int = 4096,
    rng: np.random.Generator | int = 0,
) -> tuple[Float[np.ndarray, "T T"], Float[np.ndarray, "T T"]]:
    """Return the kernel and its standard error, zero where nothing is sampled.

    The samples are split over independent evaluations of the whole network, so the error
    includes what later layers make of it.
    """
    start = _input(network, K0)
    batches = BATCHES if is_sampled(network) else 1
    generator = np.random.default_rng(rng)
    if samples < batches:
        raise ArgumentError(f"samples must be at least {batches}; got {samples}")
    runs = [
        _last(_states(network, start, Sampling(samples // batches, child)))
        for child in generator.spawn(batches)
    ]
    stack = np.array(runs)
    if batches == 1:
        return stack[0], np.zeros_like(stack[0])
    return stack.mean(0), stack.std(0, ddof=1) / batches**0.5


def kernels(
    network: Network,
    K0: Float[np.ndarray, "T T"],
    *,
    samples: int = 4096,
    rng: np.random.Generator | int = 0,
) -> Float[np.ndarray, "layers T T"]:
    """Return the input's kernel and the kernel after each layer, `depth(network) + 1` in all.

    A Repeat counts each copy as one layer. Arguments and errors as for `kernel`.
    """
    start = _input(network, K0)
    sampling = Sampling(samples, np.random.default_rng(rng))
    return np.array(list(_states(network, start, sampling)))


def is_sampled(network: Network) -> bool:
    """Whether the kernel is an average over random logits."""
    match network:
        case Attention():
            law = update(network).logits
            return law is not None and law.variance != 0
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
    return function(one, one, None, np.zeros((1, 1))).item()


def _apply(
    layer: Layer,
    K: Kernel,
    A: Float[np.ndarray, "*stack T T"] | None = None,
    branch: Kernel | None = None,
) -> Float[np.ndarray, "*stack T T"]:
    """Evaluate the derived equation of one layer."""
    function, is_entrywise = compiled(layer)
    if not is_entrywise:
        return function(K, A, branch, np.ones_like(K))
    return entrywise(function, K)
