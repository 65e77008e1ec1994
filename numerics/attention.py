"""Attention matrices in the limit: under the mask, from the logits' limit law."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float

from asymptest.numerics.compile import activation_function
from asymptest.numerics.logits import (
    Rng,
    as_numpy,
    draws,
    fixed_bias,
    logit_mean,
    logit_variance,
    seen_kernel,
    table_variance,
)
from asymptest.numerics.random_softmax import softmax_kernels
from asymptest.numerics.spa import carried, spa_matrix
from asymptest.numerics.strips import strips
from asymptest.numerics.structured import Averages, Structured, as_averages
from asymptest.theory.arrays import Array
from asymptest.theory.errors import ShapeError
from asymptest.theory.logits import logits_law
from asymptest.theory.masks import Mask, Padding, positions, visible
from asymptest.theory.network import Attention
from asymptest.theory.patterns import (
    TIE,
    Elementwise,
    Fixed,
    Linear,
    Saturated,
    Shaped,
    Softmax,
    Spa,
    Uniform,
    scores_of,
)
from asymptest.theory.substitution import number

Kernel = Float[np.ndarray, "T T"]
Seen = Bool[np.ndarray, "T T"]


def mask_array(mask: Mask, T: int) -> Bool[np.ndarray, "T T"]:
    """Return which positions j each position i of T may attend to.

    Raises:
        ShapeError: if the mask is for another number of positions.
    """
    if (fixed := positions(mask)) not in (None, T):
        raise ShapeError(f"the mask is for {fixed} positions, the kernel for T = {T}")
    if isinstance(mask, Padding) and mask.length > T:
        raise ShapeError(
            f"Padding.length is {mask.length}, but there are T = {T} positions"
        )
    if isinstance(mask, Array):
        return as_numpy(mask).astype(bool)
    rows, columns = np.indices((T, T), sparse=True)
    return np.broadcast_to(visible(mask, rows, columns), (T, T))


def uniform(
    seen: Bool[np.ndarray, "*#stack T T"],
) -> Float[np.ndarray, "*#stack T T"]:
    """Return equal weights over the visible positions of each row."""
    return seen / seen.sum(-1, keepdims=True)


def softmax(
    G: Float[np.ndarray, "*stack T T"],
    seen: Seen,
    out: Float[np.ndarray, "*stack T T"] | None = None,
) -> Float[np.ndarray, "*stack T T"]:
    """Return the softmax of each row of the logits over its visible positions."""
    A = np.empty(G.shape) if out is None else out
    for at in strips(G.shape):
        part = np.where(seen[at], G[at], -np.inf)
        part -= part.max(-1, keepdims=True)
        np.exp(part, out=part)
        np.divide(part, part.sum(-1, keepdims=True), out=A[at])
    return A


def structured(layer: Attention, T: int) -> Structured | None:
    """Return A where it is applied without being formed: means over intervals, and Spa.

    Raises:
        ShapeError: if the mask is for another number of positions.
    """
    match layer.pattern:
        case Uniform():
            return _averages(layer.mask, T)
        case Softmax(bias=None) as pattern:
            law, _ = logits_law(pattern)
            vanish = law.mean == 0 and law.variance == 0
            return _averages(layer.mask, T) if vanish else None
        case Spa() as pattern:
            return carried(pattern, layer.mask, T)
        case _:
            return None


@lru_cache(maxsize=64)  # keyed by masks, which hold arrays: bounded
def _averages(mask: Mask, T: int) -> Averages | None:
    return as_averages(mask_array(mask, T))


def saturated(
    G: Float[np.ndarray, "*stack T T"], seen: Seen
) -> Float[np.ndarray, "*stack T T"]:
    """Return equal weights over the visible maximal logits of each row.

    Logits within `TIE` (relative to the larger modulus of the two) of the maximum tie with it.
    """
    hidden = np.where(seen, G, -np.inf)
    top = hidden.max(-1, keepdims=True)
    return uniform(hidden >= top - TIE * np.maximum(np.abs(G), np.abs(top)))


def attention_matrices(
    layer: Attention, K: Kernel, samples: int, rng: Rng
) -> Iterator[Float[np.ndarray, "stack T T"]]:
    """Yield stacks of attention matrices; A K A^T is to be averaged over all of them."""
    T = len(K)
    pattern = layer.pattern
    match pattern:
        case Uniform():
            yield uniform(mask_array(layer.mask, T))[None]
        case Fixed(table):
            A = as_numpy(table)
            if A.shape[-1] != T:
                raise ShapeError(f"Fixed.A is for {A.shape[-1]} positions, K0 for {T}")
            yield A.reshape(-1, T, T)
        case Spa():
            yield spa_matrix(pattern, layer.mask, T)[None]
        case Linear():
            yield linear(layer, pattern, K)[None]
        case Softmax() | Saturated() | Elementwise() | Shaped():
            seen, scores = mask_array(layer.mask, T), scores_of(pattern)
            assert scores is not None
            for G, added in draws(scores, layer.heads, K, samples, rng):
                yield weights(pattern, G, seen, added).reshape(-1, T, T)


def linear(layer: Attention, pattern: Linear, K: Kernel) -> Kernel:
    """Return what the derived equation of linear attention calls A.

    The logits under the mask if they are deterministic, else the mask: the equation then
    holds the mean over the logits.
    """
    number(pattern.variance, f"{pattern!r}: variance")
    law, _ = logits_law(pattern)
    seen = mask_array(layer.mask, len(K))
    if law.variance != 0:
        return seen.astype(np.float64)
    return seen * logit_mean(pattern, seen_kernel(pattern, K))


def weights(
    pattern: Softmax | Saturated | Elementwise | Shaped,
    G: Float[np.ndarray, "#draws #heads T T"],
    seen: Seen,
    added: Float[np.ndarray, "#draws #heads T T"],
) -> Float[np.ndarray, "_ _ T T"]:
    """Return the attention matrices that a scored pattern forms from logits.

    Args:
        pattern: the pattern.
        G: logits, the heads in the second axis; they may be overwritten.
        seen: the mask.
        added: their biases.
    """
    match pattern:
        case Softmax():
            G = G if pattern.bias is None else G + added
            return softmax(G, seen, out=G)
        case Saturated():
            return saturated(G + added, seen)
        case Elementwise(phi=phi):
            # Nothing hidden reaches phi, which may be infinite there.
            return seen * activation_function(phi)(np.where(seen, G + added, 0.0))
        case Shaped(scores, alpha, beta, gamma):
            A, C = weights(scores, G, seen, added), softmax(added, seen)
            a, b, c = (
                number(value, f"{pattern!r}: coefficient")
                for value in (alpha, beta, gamma)
            )
            return a * np.eye(len(seen)) + b * A - c * C


def mean_softmax(
    layer: Attention,
    K: Kernel,
    samples: int,
    rtol: float | None,
    rngs: tuple[Rng, ...],
) -> Float[np.ndarray, "replicates T T"] | None:
    """Return estimates of E A K A^T, A the softmax of Gaussian logits, averaged over heads.

    It is None if A is something else, or if the covariance of the logits is not one over
    queries times one over keys.

    Args:
        layer: the layer.
        K: the kernel.
        samples: draws for all estimates together; the most, with `rtol`.
        rtol: the standard error of their mean to reach, relative to the largest entry.
        rngs: a generator for each independent estimate.
    """
    pattern = layer.pattern
    if not isinstance(pattern, Softmax) or table_variance(pattern) > 0:
        return None
    law, _ = logits_law(pattern)
    if law.variance == 0 or law.turn is not None:
        return None
    T = len(K)
    seen, S = mask_array(layer.mask, T), seen_kernel(pattern, K)
    C, heads = logit_variance(pattern) * S, fixed_bias(pattern.bias, layer.heads, T)
    each = None if rtol is None else rtol * len(heads) ** 0.5
    # Heads draw independently, each from generators of its own.
    spawned = zip(*(rng.spawn(len(heads)) for rng in rngs), strict=True)
    found = [
        softmax_kernels(S, C, seen, bias, own, samples, each, V=K)
        for bias, own in zip(heads, spawned, strict=True)
    ]
    return np.mean(found, axis=0)
