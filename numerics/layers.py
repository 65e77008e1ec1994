"""A network's layers, run on several kernels at once: independent evaluations of its limit.

Until the first layer with random logits there is one kernel. That layer turns it into as many
independent estimates as there are generators, and each of them goes on alone; their spread
at the end is the error, with all that later layers make of it.
"""

from collections.abc import Callable, Iterator
from functools import reduce

import numpy as np
from jaxtyping import Float

from asymptest.numerics.attention import attention_matrices, mean_softmax, structured
from asymptest.numerics.compile import compiled
from asymptest.numerics.duals import entrywise
from asymptest.numerics.gram import settled
from asymptest.numerics.logits import (
    Rng,
    Sampling,
    as_numpy,
    is_random,
    seen_kernel,
)
from asymptest.numerics.pairwise import is_pairwise, pairwise_kernel
from asymptest.numerics.parallel import parallel_map
from asymptest.numerics.random_softmax import nearest_kernel
from asymptest.numerics.strips import strips
from asymptest.numerics.structured import Structured
from asymptest.theory.errors import AccuracyError
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
)
from asymptest.theory.patterns import Linear
from asymptest.theory.rules import mixes
from asymptest.theory.update import Layer

Kernel = Float[np.ndarray, "T T"]
Kernels = Float[np.ndarray, "_ T T"]  # one, or one of each evaluation

INNER = 4  # independent estimates that tell a single evaluation when to stop
FIRST = 64  # draws before their spread is looked at
HOPELESS = 10  # what would take this many times the draws allowed is not tried
UNSURE = 4  # the variance of four runs is known to such a factor


def states(network: Network, Ks: Kernels, sampling: Sampling) -> Iterator[Kernels]:
    """Yield the kernels, and those after each layer in the sense of `depth`."""
    yield Ks
    match network:
        case Chain(layers):
            for layer in layers:
                for state in _after_first(states(layer, Ks, sampling)):
                    Ks = state
                    yield Ks
        case Repeat(block, depth):
            for _ in range(depth):
                Ks = last(states(block, Ks, sampling))
                yield Ks
        case Mlp():
            yield _each(lambda K: pairwise_kernel(network, K), Ks)
        case (
            Dense()
            | Pointwise()
            | RMSNorm()
            | LayerNorm()
            | Mix()
            | Attention()
            | Residual()
            | Product()
            | Custom()
        ):
            yield _layer(network, Ks, sampling)


def last(found: Iterator[Kernels]) -> Kernels:
    """Return the last state."""
    return reduce(lambda _, new: new, found)


def _after_first(found: Iterator[Kernels]) -> Iterator[Kernels]:
    next(found)
    return found


def _each(function: Callable[[Kernel], Kernel], Ks: Kernels) -> Kernels:
    return _stacked([function(K) for K in Ks])


def _stacked(found: list[Kernel]) -> Kernels:
    return np.array(found) if len(found) > 1 else found[0][None]  # no copy of the one


def _layer(layer: Layer, Ks: Kernels, sampling: Sampling) -> Kernels:
    if len(Ks) > 1:  # noise may have left them with negative eigenvalues
        Ks = _each(nearest_kernel, Ks)
    match layer:
        case Dense() | Pointwise() | RMSNorm() | LayerNorm():
            return _each(lambda K: pairwise_kernel(layer, K), Ks)
        case Residual() | Product() if is_pairwise(layer):
            return _each(lambda K: pairwise_kernel(layer, K), Ks)
        case Mix(table):
            A = as_numpy(table)
            return _each(lambda K: settled(_apply(layer, K, A=A), _reach(A, K)), Ks)
        case Attention():
            if is_random(layer.pattern):
                return _random_attention(layer, Ks, sampling)
            if (A := structured(layer, Ks.shape[-1])) is not None:
                return _each(lambda K: _applied(layer, A, K), Ks)
            (rng, *_) = sampling.rngs
            return _each(lambda K: _sampled(layer, K, 1, rng)[0], Ks)
        case Residual(branch):
            if (matrices := mixes(branch)) is not None:
                return _each(lambda K: _mixed(layer, matrices, K), Ks)
            out = last(states(branch, Ks, sampling))
            pairs = zip(np.broadcast_to(Ks, out.shape), out, strict=True)
            return _stacked([_apply(layer, K, branch=B) for K, B in pairs])
        case Product(left, right):
            one, two = (last(states(b, Ks, sampling)) for b in (left, right))
            pairs = zip(*np.broadcast_arrays(one, two), strict=True)
            return _stacked([_apply(layer, L, branch=L, other=R) for L, R in pairs])
        case Custom():
            return _each(lambda K: _apply(layer, K), Ks)


def _mixed(layer: Residual, matrices: tuple[Mix, ...], K: Kernel) -> Kernel:
    product = reduce(lambda A, mix: as_numpy(mix.A) @ A, matrices, np.eye(len(K)))
    mixed = _apply(layer, K, A=product)
    skip, weight = abs(float(layer.skip)), abs(float(layer.weight))
    uncancelled = skip * np.eye(len(K)) + weight * np.abs(product)
    return settled(mixed, _reach(uncancelled, K))


def _reach(
    A: Float[np.ndarray, "*stack T T"] | Structured, K: Kernel
) -> Float[np.ndarray, "*stack T"]:
    """Return sum_a |A_ia| sqrt(K_aa), the deviation of row i if nothing cancelled."""
    size = np.sqrt(np.diagonal(K))
    if isinstance(A, Structured):
        return A @ size
    reach = np.empty(A.shape[:-1])
    for at in strips(A.shape):
        reach[at[:-1]] = np.abs(A[at]) @ size
    return reach


def _applied(layer: Attention, A: Structured, K: Kernel) -> Kernel:
    return settled(_apply(layer, K, A=A), _gain(layer) ** 0.5 * _reach(A, K))


def _random_attention(layer: Attention, Ks: Kernels, sampling: Sampling) -> Kernels:
    """Return the kernels after random attention, one for each generator."""
    rngs = sampling.rngs
    if len(Ks) == 1:
        found = mean_softmax(layer, Ks[0], sampling.samples, sampling.rtol, rngs)
        if found is not None:
            return np.array([_of_mean(layer, Ks[0], mean) for mean in found])
    each = sampling.alone()

    def run(K: Kernel, rng: Rng) -> Kernel:
        inner = rng.spawn(1 if each.rtol is None else INNER)
        means = mean_softmax(layer, K, each.samples, each.rtol, tuple(inner))
        if means is not None:
            return _of_mean(layer, K, means.mean(0))
        if each.rtol is None:
            return _sampled(layer, K, each.samples, rng)[0]
        return _to_error(layer, K, each.samples, each.rtol, rng)

    every = np.broadcast_to(Ks, (len(rngs), *Ks.shape[1:]))
    first, *rest = zip(every, rngs, strict=True)
    alone = run(*first)  # what it compiles, the others find
    return np.array([alone, *parallel_map(lambda pair: run(*pair), rest)])


def _of_mean(layer: Attention, K: Kernel, mean: Kernel) -> Kernel:
    """Return the kernel after softmax attention, from the mean of A K A^T."""
    # Rows of a softmax sum to 1, so that biases pass by it: the rest of the equation acts
    # on E A K A^T as it does on K. No row reaches further than the largest token.
    reach = np.full(len(K), np.sqrt(np.diagonal(K).max()))
    if (np.diagonal(mean) < 0).any():  # few draws, much noise
        mean = nearest_kernel(mean)
    after = _apply(layer, mean, A=np.eye(len(K)))
    return settled(after, _gain(layer) ** 0.5 * reach)


def _sampled(layer: Attention, K: Kernel, samples: int, rng: Rng) -> tuple[Kernel, int]:
    """Return the mean kernel over attention matrices, and their number."""
    total, reach, count = None, np.zeros(len(K)), 0
    for stack in attention_matrices(layer, K, samples, rng):
        each = _apply(layer, K, A=stack)
        part = each[0] if len(each) == 1 else each.sum(0)
        total = part if total is None else total + part
        reach = np.maximum(reach, _reach(stack, K).max(0))
        count += len(stack)
    assert total is not None
    mean = total if count == 1 else total / count
    return settled(mean, _gain(layer) ** 0.5 * reach), count


def _to_error(layer: Attention, K: Kernel, most: int, rtol: float, rng: Rng) -> Kernel:
    """Return the mean over as many draws as its standard error takes.

    The draws that decide on the number are not those that are averaged: where a draw is
    seldom large, a few draws that look settled are too small.

    Raises:
        AccuracyError: if that is more than `most`.
    """
    each = max(1, most // INNER // 2)  # the other half is averaged
    draws, done, runs = min(FIRST, each), 0, np.zeros((INNER, *K.shape))
    while True:
        more = np.array([_sampled(layer, K, draws, rng)[0] for _ in range(INNER)])
        runs = (done * runs + draws * more) / (done + draws)
        done += draws
        mean, error = runs.mean(0), runs.std(0, ddof=1) / INNER**0.5
        reached, allowed = error.max(), rtol * np.abs(mean).max()
        if reached <= allowed:
            return _sampled(layer, K, INNER * done, rng)[0]
        needed = done * (reached / allowed) ** 2 if allowed else np.inf
        if done == each or not needed <= HOPELESS * each:
            raise AccuracyError(
                f"samples = {most} does not reach rtol = {rtol:g} in {layer!r}: the standard "
                f"error of {INNER * done} draws is {reached:.2g}, and that allowed "
                f"{allowed:.2g}; ask for less, or give samples without rtol",
                times=UNSURE * needed / each,
            )
        draws = min(done, each - done)


def _gain(layer: Attention) -> float:
    """Return what the derived equation multiplies A K A^T by: its value at A = K = 1."""
    function, _ = compiled(layer)
    one = np.ones((1, 1))
    return function(one, one, None, np.zeros((1, 1)), one, None).item()


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
    A: Float[np.ndarray, "*stack T T"] | Structured | None = None,
    branch: Kernel | None = None,
    other: Kernel | None = None,
) -> Float[np.ndarray, "*stack T T"]:
    """Evaluate the derived equation of one layer."""
    function, is_entrywise = compiled(layer)
    if not is_entrywise:
        ones = np.broadcast_to(1.0, K.shape)
        found = function(K, A, branch, ones, _seen(layer, K), other)
        # Where a variance is zero, no A is left in the equation, nor its stack.
        return np.broadcast_to(found, A.shape) if isinstance(A, np.ndarray) else found
    return entrywise(function, K)
