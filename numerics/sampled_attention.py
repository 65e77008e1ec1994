"""Attention of a finite network without its weights: logits and values up to rotation.

Each head has d = n / H columns of queries, keys and values. The queries' columns are rotated
to a Bartlett factor and the keys' along with them, which leaves their products alone. The
values' columns are rotated head by head, since the output weights act on their Gram matrix.
Rotary encodings turn pairs of features by angles of their own: there the columns are drawn.
"""

import numpy as np
from jaxtyping import Complex, Float

from asymptest.numerics.attention import mask_array, uniform, weights
from asymptest.numerics.frames import COLUMNS, Rows, Stack
from asymptest.numerics.fresh_weights import Projection
from asymptest.numerics.gram import as_kernel, psd_sqrt
from asymptest.numerics.logits import as_numpy, fixed_bias
from asymptest.numerics.spa import spa_matrix
from asymptest.numerics.wishart import Rng, bartlett, gaussian, narrow
from asymptest.theory.biases import Bias, RelativeBias
from asymptest.theory.definition import query_key
from asymptest.theory.errors import ShapeError
from asymptest.theory.network import Attention
from asymptest.theory.patterns import (
    Fixed,
    Linear,
    Scored,
    Softmax,
    Spa,
    Uniform,
    scores_of,
)
from asymptest.theory.positions import Additive, Rotary
from asymptest.theory.substitution import number
from asymptest.theory.widths import number_of_heads

Heads = Float[np.ndarray, "samples heads T T"]


def attention(layer: Attention, X: Rows, rng: Rng) -> Projection:
    """Return what the output weights act on, concat_h(A_h V_h), before they are drawn."""
    heads = number_of_heads(layer, X.width)
    F = narrow(X.coordinates)
    A = _matrices(layer, F, X.width, heads, rng)
    values = Projection(F, layer.value, X.width, X.width)
    if A.ndim == 2:
        M = A @ values.draw(rng, aligned=0)
    else:
        V = values.draw(rng, aligned=0, groups=heads)
        by_head = V.reshape(*V.shape[:2], heads, -1).swapaxes(1, 2)
        M = (A @ by_head).swapaxes(1, 2).reshape(V.shape)
    return Projection(M, layer.output, X.width, X.width)


def _matrices(
    layer: Attention, F: Stack, width: int, heads: int, rng: Rng
) -> Float[np.ndarray, "*heads T T"]:
    """Return the attention matrix of all heads, or those of each, maybe by sample."""
    pattern, T = layer.pattern, F.shape[1]
    if isinstance(pattern, Fixed):
        return as_numpy(pattern.A)
    if isinstance(pattern, Spa):
        return spa_matrix(pattern, layer.mask, T)
    seen = mask_array(layer.mask, T)
    if isinstance(pattern, Uniform):
        return uniform(seen)
    scores = scores_of(pattern)
    assert scores is not None
    G = _logits(scores, F, width, heads, rng)
    if isinstance(pattern, Linear):
        return seen * G
    return weights(pattern, G, seen, _added(scores.bias, G.shape, rng))


def _logits(scores: Scored, F: Stack, width: int, heads: int, rng: Rng) -> Heads:
    """Return (X W^Q)(X W^K)^T with its factors, head by head, without a bias."""
    d = width // heads
    query, key = (number(law.variance, "variance") for law in query_key(scores))
    factor = (query * key) ** 0.5 / width
    factor *= d**-0.5 if scores.scale == "1/sqrt(d)" else 1 / d
    if isinstance(scores, Softmax):
        factor /= number(scores.temperature, "Softmax.temperature")
    if isinstance(scores.position, Additive):
        F = _encoded(scores.position, F, width, rng)
    if isinstance(scores.position, Rotary):
        return factor * _rotated(scores.position, scores.tied, F, heads, d, rng)
    F = F[:, None]
    Q = F @ bartlett(rng, (len(F), heads), F.shape[-1], d)
    if scores.tied:
        return factor * Q @ Q.mT
    Z = rng.standard_normal((len(F), heads, F.shape[-1], Q.shape[-1]))
    return factor * Q @ (F @ Z).mT


def _encoded(position: Additive, F: Stack, width: int, rng: Rng) -> Stack:
    """Return content X + E in coordinates, the rows of E being N(0, P) in each feature."""
    root = psd_sqrt(as_kernel(as_numpy(position.kernel), "Additive.kernel"))
    n = width - F.shape[-1]
    E = root @ gaussian(rng, len(F), len(root), F.shape[-1], 1, n)
    E[..., : F.shape[-1]] += number(position.content, "Additive.content") * F
    return narrow(E)


def _rotated(
    position: Rotary, tied: bool, F: Stack, heads: int, d: int, rng: Rng
) -> Heads:
    """Return the products of rotated queries and keys, pairs of features as complex numbers."""
    if d % 2:
        raise ShapeError(
            f"Rotary turns pairs of features, and a head has {d}; choose a width that makes "
            f"them even"
        )
    samples, T, m = F.shape
    G = np.zeros((samples, heads, T, T))
    angle = np.multiply.outer(np.arange(T), position.frequency(np.arange(0, d, 2) / d))
    turn = np.exp(1j * angle)
    size = max(1, COLUMNS // (samples * heads * m))
    for start in range(0, d // 2, size):
        part = turn[:, start : start + size]
        Q = part * _pairs(F, heads, part.shape[-1], rng)
        K = Q if tied else part * _pairs(F, heads, part.shape[-1], rng)
        G += (Q @ K.conj().mT).real
    return G


def _pairs(
    F: Stack, heads: int, count: int, rng: Rng
) -> Complex[np.ndarray, "samples heads T count"]:
    """Return X W for `count` pairs of columns a head, as real and imaginary parts."""
    shape = (2, len(F), heads, F.shape[-1], count)
    real, imaginary = rng.standard_normal(shape)
    return F[:, None] @ (real + 1j * imaginary)


def _added(
    bias: Bias | None, shape: tuple[int, ...], rng: Rng
) -> Float[np.ndarray, "#samples #heads T T"]:
    """Return what is added to the logits of this shape."""
    samples, heads, T, _ = shape
    fixed = fixed_bias(bias, heads, T)[None]
    if not isinstance(bias, RelativeBias):
        return fixed
    table = bias.variance**0.5 * rng.standard_normal((samples, heads, bias.buckets))
    at = np.arange(T)
    return fixed + table[..., bias.bucket(at[:, None], at)]
