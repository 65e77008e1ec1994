"""Kernels of attention patterns written out by hand, and at degenerate kernels."""

import math
from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np
import pytest
import sympy as sp
from scipy import special, stats

from asymptest.numerics.attention import mask_array
from asymptest.numerics.gram import as_kernel
from asymptest.numerics.kernel import kernel, kernel_with_error
from asymptest.theory import (
    Additive,
    ALiBi,
    Attention,
    Dense,
    Elementwise,
    Fixed,
    Linear,
    RelativeBias,
    Rotary,
    Saturated,
    Shaped,
    Softmax,
    Uniform,
    Window,
    cos,
    identity,
    relu,
    sigmoid,
)
from asymptest.theory.errors import ArgumentError, ShapeError, UnsupportedError
from asymptest.theory.masks import as_mask
from asymptest.theory.patterns import Pattern, Scored

EPS = float(np.finfo(np.float64).eps)
LEVEL = 1e-9  # false-alarm probability of a statistical test here

K3 = np.array([[1.0, 0.5, -0.3], [0.5, 2.0, 0.2], [-0.3, 0.2, 0.5]])
P3 = np.array([[1.0, 0.6, 0.2], [0.6, 1.0, 0.6], [0.2, 0.6, 1.0]])
STAIRS = np.array([[0.0, 1.0, -1.0], [2.0, 0.5, 0.0], [0.0, 0.0, 3.0]])


def close(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return bool(np.abs(ours - theirs).max() <= 64 * EPS * np.abs(theirs).max())


def likely(found: tuple[np.ndarray, np.ndarray], expected: np.ndarray) -> bool:
    """Say whether the t intervals of 16 evaluations hold all entries."""
    mean, error = found
    bound = stats.t.ppf(1 - LEVEL / 2 / mean.size, 15) * error
    rounding = 64 * EPS * np.abs(expected).max()
    return bool((np.abs(mean - expected) <= bound + rounding).all())


def turns(base: float, lag: np.ndarray) -> np.ndarray:
    """Return r of rotary encodings."""
    n = np.maximum(np.abs(lag), 1.0)
    waves = special.sici(n)[1] - special.sici(n / base)[1]
    return np.where(lag == 0, 1.0, waves / math.log(base))


LAG = np.subtract.outer(range(3), range(3))


def weights(G: np.ndarray, mask: Any = "full") -> np.ndarray:
    """Return the softmax, a row at a time."""
    seen = mask_array(as_mask(mask), len(G))
    rows = [
        special.softmax(np.where(s, g, -np.inf)) for g, s in zip(G, seen, strict=True)
    ]
    return np.array(rows)


# Logits that do not fluctuate: K' = 2 A K A^T + 0.25 with the matrix A on the right.

ALIBI = [-(2.0**-4) * abs(LAG), -(2.0**-8) * abs(LAG)]
BY_HAND: dict[str, tuple[Pattern, list[np.ndarray]]] = {
    "temperature": (
        Softmax("1/d", True, 2, temperature=0.5),
        [weights(4 * K3, "causal")],
    ),
    "bias": (Softmax("1/d", bias=STAIRS), [weights(STAIRS, "causal")]),
    # The bias is added after the division by the temperature.
    "temperature and bias": (
        Softmax("1/d", True, 2, bias=STAIRS, temperature=4),
        [weights(K3 / 2 + STAIRS, "causal")],
    ),
    "bias by head": (
        Softmax("1/d", True, bias=np.array([STAIRS, 2 * STAIRS])),
        [weights(K3 + STAIRS, "causal"), weights(K3 + 2 * STAIRS, "causal")],
    ),
    "alibi": (
        Softmax("1/d", True, bias=ALiBi()),
        [weights(K3 + bias, "causal") for bias in ALIBI],
    ),
    "additive": (
        Softmax("1/d", True, 2, Additive(P3, 0.5)),
        [weights(2 * (K3 / 4 + P3), "causal")],
    ),
    "rotary": (
        Softmax("1/d", True, 2, Rotary(3.0)),
        [weights(2 * K3 * turns(3.0, LAG), "causal")],
    ),
    "saturated bias": (
        Saturated("1/d", True, bias=2 * STAIRS),
        [np.array([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])],
    ),
    "elementwise": (
        Elementwise("1/d", True, 2, phi=sigmoid),
        [np.tri(3) * special.expit(2 * K3)],
    ),
    "elementwise bias": (
        Elementwise("1/d", True, 2, bias=STAIRS, phi=cos),
        [np.tri(3) * np.cos(2 * K3 + STAIRS)],
    ),
    "linear": (Linear("1/d", True, 2), [np.tri(3) * 2 * K3]),
    "linear additive": (
        Linear("1/d", True, 2, Additive(P3)),
        [np.tri(3) * 2 * (K3 + P3)],
    ),
    "shaped": (
        Shaped(Softmax("1/d", True, 2), 0.5, 2, -1),
        [0.5 * np.eye(3) + 2 * weights(2 * K3, "causal") + weights(0 * K3, "causal")],
    ),
    "shaped bias": (
        Shaped(Softmax("1/d", True, bias=STAIRS), 1, 0.5, 0.25),
        [
            np.eye(3)
            + 0.5 * weights(K3 + STAIRS, "causal")
            - 0.25 * weights(STAIRS, "causal")
        ],
    ),
}


@pytest.mark.parametrize("which", BY_HAND)
def test_deterministic_pattern_by_hand(which: str) -> None:
    pattern, matrices = BY_HAND[which]
    layer = Attention(pattern, "causal", 2, Dense(0.5), Dense(4, 0.25))
    expected = np.mean([A @ K3 @ A.T for A in matrices], axis=0)
    found, error = kernel_with_error(layer, K3)
    assert close(found, 2 * expected + 0.25)
    assert not error.any()


# Shaped.


@pytest.mark.parametrize(
    "scores",
    [
        Softmax(variance=0),
        Softmax("1/d"),
        Softmax("1/d", bias=STAIRS),
        Softmax("1/d", position=Rotary()),
        Softmax("1/d", True, 0, temperature=0.1),
    ],
)
def test_shaped_without_logits_is_the_identity(scores: Softmax) -> None:
    """A = C: with beta = gamma the layer mixes nothing (Noci et al., Shaped Transformer)."""
    for mask in ("full", "causal", Window(2)):
        assert close(kernel(Attention(Shaped(scores), mask), K3), K3)
        half = Attention(Shaped(scores, 0.5, 3, 3), mask)
        assert close(kernel(half, K3), K3 / 4)


# Random logits, on two tokens under a causal mask.

K2 = np.array([[1.0, 0.4], [0.4, 1.5]])
P2 = np.array([[1.0, -0.5], [-0.5, 1.0]])
LOWER = [[0.0, 0.0], [1.0, 0.0]]


def spread(S: np.ndarray, turn: float = 1.0) -> float:
    """Return the variance of G_10 - G_11 for logits of variance 4 that see S."""
    return 4 * S[1, 1] * (S[0, 0] + S[1, 1] - 2 * turn * S[0, 1])


def mean_kernel(
    variance: float, shift: float, shape: tuple[float, float, float]
) -> np.ndarray:
    """Return E M K M^T by quadrature, M = alpha I + beta A - gamma C.

    Row 1 of A has the weight sigmoid(D) on position 0, D ~ N(shift, variance), and that of C
    is sigmoid(shift).
    """
    alpha, beta, gamma = shape
    z = np.linspace(-12, 12, 2001)
    mass = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()
    w = beta * special.expit(shift + variance**0.5 * z) - gamma * special.expit(shift)
    total = alpha + beta - gamma
    row = np.array([w, total - w])
    first = np.array([total, 0.0])
    own = mass @ np.einsum("iz,ij,jz->z", row, K2, row)
    cross = mass @ (first @ K2 @ row)
    return np.array([[first @ K2 @ first, cross], [cross, own]])


PLAIN = (0.0, 1.0, 0.0)
SHAPE = (1.0, 0.75, 0.5)
ROTARY = Rotary(3.0)
BY_QUADRATURE: dict[str, tuple[Pattern, float, float, tuple[float, float, float]]] = {
    "plain": (Softmax(variance=4), spread(K2), 0, PLAIN),
    "temperature": (Softmax(variance=4, temperature=2), spread(K2) / 4, 0, PLAIN),
    "bias": (Softmax(variance=4, bias=LOWER, temperature=2), spread(K2) / 4, 1, PLAIN),
    "alibi": (Softmax(variance=4, bias=ALiBi((1.5,))), spread(K2), -1.5, PLAIN),
    "additive": (Softmax(variance=4, position=Additive(P2)), spread(K2 + P2), 0, PLAIN),
    "rotary": (
        Softmax(variance=4, position=ROTARY),
        spread(K2, turns(3.0, np.array(1)).item()),
        0,
        PLAIN,
    ),
    # The logits of two buckets differ by twice the variance of one.
    "table": (Softmax(variance=4, bias=RelativeBias(0.5)), spread(K2) + 1, 0, PLAIN),
    "shaped": (Shaped(Softmax(variance=4), *SHAPE), spread(K2), 0, SHAPE),
    "shaped bias": (
        Shaped(Softmax(variance=4, bias=LOWER), *SHAPE),
        spread(K2),
        1,
        SHAPE,
    ),
}


@pytest.mark.parametrize("which", BY_QUADRATURE)
def test_random_pattern_by_quadrature(which: str) -> None:
    pattern, variance, shift, shape = BY_QUADRATURE[which]
    expected = mean_kernel(variance, shift, shape)
    found = kernel_with_error(Attention(pattern, "causal"), K2, samples=2**14)
    assert likely(found, expected)
    assert found[1].max() < 0.02 * expected.max()


def test_heads_of_different_biases_are_averaged() -> None:
    both = np.array([LOWER, np.multiply(-2, LOWER)])
    layer = Attention(Softmax(variance=4, bias=both), "causal", heads=2)
    each = [mean_kernel(spread(K2), shift, PLAIN) for shift in (1, -2)]
    found = kernel_with_error(layer, K2, samples=2**14)
    assert likely(found, np.mean(each, axis=0))


# Elementwise.


def relu_dual(q: np.ndarray, p: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return E relu(u) relu(v) for variances q, p and covariance c (Cho and Saul, 2009)."""
    size = np.sqrt(q * p)
    rho = np.clip(c / size, -1, 1)
    return size / (2 * np.pi) * (np.sqrt(1 - rho**2) + rho * (np.pi - np.arccos(rho)))


@pytest.mark.parametrize("base", [None, 3.0])
@pytest.mark.parametrize("mask", ["causal", Window(2, causal=False)])
def test_random_relu_attention_is_a_sum_of_arc_cosine_kernels(
    mask: Any, base: float | None
) -> None:
    """K'_ab = sum over visible i, j of K_ij E relu(G_ai) relu(G_bj)."""
    seen = mask_array(as_mask(mask), 3)
    C = 2 * np.einsum("ab,ij->aibj", K3, K3)
    if base is not None:
        C *= turns(base, LAG[:, :, None, None] - LAG)
    own = np.einsum("aiai->ai", C)
    dual = relu_dual(own[:, :, None, None], own, C)
    expected = np.einsum("ai,bj,ij,aibj->ab", seen, seen, K3, dual)
    position = None if base is None else Rotary(base)
    layer = Attention(Elementwise(variance=2, position=position, phi=relu), mask)
    found = kernel_with_error(layer, K3, samples=2**14)
    assert likely(found, expected)
    assert found[1].max() < 0.05 * expected.max()


def test_linear_attention_is_elementwise_attention_with_the_identity() -> None:
    """The closed form of one is the average of the other; encodings are seen by logits alone."""
    for position in (None, Additive(P3)):
        S = K3 if position is None else K3 + P3
        logits: dict[str, Any] = {"variance": 2, "position": position}
        expected = 2 * S * np.einsum("ai,bj,ij,ij->ab", np.tri(3), np.tri(3), S, K3)
        linear = Attention(Linear(**logits), "causal")
        assert close(kernel(linear, K3), expected)
        sampled = Attention(Elementwise(**logits, phi=identity), "causal")
        assert likely(kernel_with_error(sampled, K3, samples=2**14), expected)


def test_what_is_hidden_weighs_nothing() -> None:
    """Also where phi(0) is not 0."""
    diagonal = np.eye(3, dtype=bool)
    layer = Attention(Elementwise("1/d", True, 2, phi=cos), diagonal)
    A = np.diag(np.cos(2 * np.diagonal(K3)))
    assert close(kernel(layer, K3), A @ K3 @ A)


def test_linear_refuses_what_its_closed_form_does_not_know() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"bias": ALiBi()}, "ALiBi"),
        ({"bias": STAIRS}, "Array"),
        ({"bias": RelativeBias()}, "RelativeBias"),
        ({"position": Rotary()}, "Rotary"),
    ]
    for given, name in cases:
        remedy = r"use Elementwise\(phi=identity\), whose kernel is sampled"
        with pytest.raises(UnsupportedError, match=f"knows no {name}: {remedy}"):
            Linear(**given)
        Elementwise(**given, phi=identity)


s = sp.Symbol("s", positive=True)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Shaped(Linear()), ArgumentError, r"Shaped.scores .*got Linear"),  # type: ignore[arg-type]
        (lambda: Shaped(alpha=math.inf), ArgumentError, r"Shaped.alpha .*inf"),
        (lambda: Shaped(beta=math.nan), ArgumentError, r"Shaped.beta .*nan"),
        (lambda: Softmax(temperature=0), ArgumentError, r"temperature .*positive.*0"),
        (lambda: Softmax(temperature=-1), ArgumentError, r"positive; got -1"),
        (lambda: Softmax(temperature=math.inf), ArgumentError, r"finite real"),
        (
            lambda: kernel(Attention(Shaped(Softmax("1/d", True), gamma=s)), K3),
            ArgumentError,
            r"Shaped.*coefficient = s is a symbol",
        ),
        (
            lambda: kernel(Attention(Softmax("1/d", True, temperature=s)), K3),
            ArgumentError,
            r"1/s is a symbol; to evaluate a network, give it a number",
        ),
        (
            lambda: kernel(Attention(Softmax(bias=np.eye(2))), K3),
            ShapeError,
            r"the network is for 2 positions, but K0 has the shape \(3, 3\)",
        ),
        (
            lambda: kernel(Attention(Softmax(position=Additive(np.eye(4)))), K3),
            ShapeError,
            r"the network is for 4 positions, but K0 has the shape \(3, 3\)",
        ),
    ],
)
def test_bad_input_is_named(
    make: Callable[[], Any],
    error: type[Exception],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Users do not run under the shape checker of this test-suite.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(error, match=says):
        make()


# Degenerate kernels.

PATTERNS: dict[str, Scored | Shaped] = {
    "softmax": Softmax(variance=2),
    "rotary": Softmax(variance=2, position=Rotary()),
    "alibi": Softmax(variance=2, bias=ALiBi()),
    "table": Softmax(variance=2, bias=RelativeBias()),
    "saturated": Saturated(variance=2),
    "saturated rotary": Saturated(position=Rotary()),
    "shaped": Shaped(Softmax(variance=2)),
    "shaped rotary": Shaped(Softmax(variance=2, position=Rotary()), 2, 3, 4),
    "tied": Softmax("1/d", True, 2),
    "tied rotary": Softmax("1/d", True, 2, Rotary()),
}


@pytest.mark.parametrize("which", PATTERNS)
def test_a_single_token_keeps_its_kernel(which: str) -> None:
    """There is one key to attend to; shaped attention is alpha + beta - gamma."""
    K = np.array([[1.7]])
    factor = 1.0
    pattern = PATTERNS[which]
    if isinstance(pattern, Shaped):
        factor = float(pattern.alpha + pattern.beta - pattern.gamma) ** 2
    found, error = kernel_with_error(Attention(pattern), K, samples=64)
    assert close(found, factor * K)
    assert error[0, 0] <= 4 * EPS


def test_a_single_token_without_softmax() -> None:
    K = np.array([[1.7]])
    assert close(kernel(Attention(Elementwise("1/d", True, 2)), K), 4 * K**3)
    assert close(kernel(Attention(Linear()), K), K**3)
    # E relu(G)^2 K for G of the variance 2 K^2.
    found = kernel_with_error(Attention(Elementwise(variance=2)), K, samples=2**12)
    assert likely(found, K**3)


@pytest.mark.parametrize("which", [*PATTERNS, "elementwise", "additive"])
def test_a_zero_kernel_stays_zero(which: str) -> None:
    more: dict[str, Pattern] = {
        "elementwise": Elementwise(variance=2, phi=cos),
        "additive": Softmax(position=Additive(P3)),
    }
    layer = Attention((PATTERNS | more)[which], "causal")
    asked: list[dict[str, Any]] = [{"samples": 64}]
    if which in ("softmax", "table"):
        asked.append({"rtol": 0.1})
    for accuracy in asked:
        found, error = kernel_with_error(layer, 0 * K3, **accuracy)
        assert not found.any()
        assert not error.any()


# A token 0 beside others: the smallest eigenvalue is 0 up to rounding.
ZERO_ROW = np.array(
    [[1.0, 0.0, 0.4, 0.3], [0, 0, 0, 0], [0.4, 0, 1.0, 0.2], [0.3, 0, 0.2, 10.0]]
)


@pytest.mark.parametrize(
    "which",
    ["softmax", "rotary", "saturated", "saturated rotary", "tied", "tied rotary"],
)
def test_a_zero_query_attends_alike_to_all(which: str) -> None:
    """Its logits are 0, not rounding that saturation would take for a maximum."""
    found, error = kernel_with_error(Attention(PATTERNS[which]), ZERO_ROW, samples=512)
    as_kernel(found)
    assert found[1, 1] == pytest.approx(ZERO_ROW.mean(), rel=64 * EPS)
    assert error[1, 1] <= 64 * EPS


def test_uniform_and_fixed_ignore_the_kernel() -> None:
    A = np.full((4, 4), 0.25)
    for pattern in (Uniform(), Fixed(A)):
        found = kernel(Attention(pattern), ZERO_ROW)
        assert close(found, A @ ZERO_ROW @ A.T)
