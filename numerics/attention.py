"""Attention matrices in the limit: under the mask, from the logits' limit law."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from asymptest.numerics.gram import psd_sqrt
from asymptest.theory.arrays import Array
from asymptest.theory.errors import ArgumentError, ShapeError
from asymptest.theory.logits import Logits, logits_law
from asymptest.theory.masks import Mask, Padding, positions, visible
from asymptest.theory.network import Attention
from asymptest.theory.patterns import (
    TIE,
    Fixed,
    Linear,
    Saturated,
    Softmax,
    Uniform,
)
from asymptest.theory.substitution import number

CHUNK = 2**22  # numbers held at once while sampling: 32 MB


@dataclass(frozen=True)
class Sampling:
    """How random logits are averaged: `samples` draws from `rng`."""

    samples: int
    rng: np.random.Generator

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ArgumentError(f"samples must be at least 1; got {self.samples}")


def as_numpy(array: Array) -> Float[np.ndarray, "..."]:
    """Return a constant array as a read-only NumPy array, without a copy."""
    return np.frombuffer(array.data, dtype=np.float64).reshape(array.shape)


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
    G: Float[np.ndarray, "*stack T T"], seen: Bool[np.ndarray, "T T"]
) -> Float[np.ndarray, "*stack T T"]:
    """Return the softmax of each row of the logits over its visible positions."""
    hidden = np.where(seen, G, -np.inf)
    weights = np.exp(hidden - hidden.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def saturated(
    G: Float[np.ndarray, "*stack T T"], seen: Bool[np.ndarray, "T T"]
) -> Float[np.ndarray, "*stack T T"]:
    """Return equal weights over the visible maximal logits of each row.

    Logits within `TIE` (relative to the larger modulus of the two) of the maximum tie with it.
    """
    hidden = np.where(seen, G, -np.inf)
    top = hidden.max(-1, keepdims=True)
    return uniform(hidden >= top - TIE * np.maximum(np.abs(G), np.abs(top)))


def attention_matrices(
    layer: Attention, K: Float[np.ndarray, "T T"], sampling: Sampling
) -> Iterator[Float[np.ndarray, "stack T T"]]:
    """Yield stacks of attention matrices; A K A^T is to be averaged over all of them."""
    T = len(K)
    match layer.pattern:
        case Uniform():
            yield uniform(mask_array(layer.mask, T))[None]
        case Fixed(table):
            A = as_numpy(table)
            if A.shape[-1] != T:
                raise ShapeError(f"Fixed.A is for {A.shape[-1]} positions, K0 for {T}")
            yield A.reshape(-1, T, T)
        case Linear():
            yield linear(layer, layer.pattern, K)[None]
        case Softmax() | Saturated():
            law, _ = logits_law(layer.pattern)
            number(layer.pattern.variance, f"{layer.pattern!r}: variance")
            seen = mask_array(layer.mask, T)
            for G in _logits(law, K, sampling):
                yield weights(layer.pattern, G, seen)


def linear(
    layer: Attention, pattern: Linear, K: Float[np.ndarray, "T T"]
) -> Float[np.ndarray, "T T"]:
    """Return what the derived equation of linear attention calls A.

    The logits under the mask if they are deterministic, else the mask: the equation then
    holds the mean over the logits.
    """
    number(pattern.variance, f"{pattern!r}: variance")
    law, _ = logits_law(pattern)
    seen = mask_array(layer.mask, len(K))
    return seen * (float(law.mean) * K if law.variance == 0 else 1.0)


def weights(
    pattern: Softmax | Saturated,
    G: Float[np.ndarray, "*stack T T"],
    seen: Bool[np.ndarray, "T T"],
) -> Float[np.ndarray, "*stack T T"]:
    """Return the attention matrices that a scored pattern forms from logits."""
    match pattern:
        case Softmax():
            return softmax(G, seen)
        case Saturated():
            return saturated(G, seen)


def _logits(
    law: Logits, K: Float[np.ndarray, "T T"], sampling: Sampling
) -> Iterator[Float[np.ndarray, "stack T T"]]:
    """Yield stacks of logits: their mean if they are deterministic, else samples.

    With K = R R^T and Z of independent N(0, 1), sqrt(s) R Z R^T has the covariance
    s K_ab K_ij that theory/ derived.
    """
    mean = float(law.mean) * K
    if law.variance == 0:
        yield mean[None]
        return
    R = psd_sqrt(K)
    T = len(K)
    left = sampling.samples
    while left:
        draws = min(left, max(1, CHUNK // (T * T)))
        Z = sampling.rng.standard_normal((draws, T, T))
        yield mean + float(law.variance) ** 0.5 * (R @ Z @ R.T)
        left -= draws
