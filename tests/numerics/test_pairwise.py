"""Layers that mix no positions, taken through together: as when written out one by one."""

import numpy as np
import pytest

from asymptest.numerics.kernel import kernel, kernels
from asymptest.numerics.pairwise import is_pairwise, pairwise_kernel
from asymptest.theory import (
    Attention,
    Dense,
    Fixed,
    LayerNorm,
    Mix,
    Mlp,
    Network,
    Pointwise,
    Product,
    Residual,
    RMSNorm,
    Softmax,
    Uniform,
    relu,
    silu,
)

EPS = float(np.finfo(np.float64).eps)
SECOND = Pointwise(relu) >> Dense(0.5, 0.1)


def relu_by_hand(K: np.ndarray) -> np.ndarray:
    """Return the arc-cosine kernel of degree 1, halved (Cho and Saul, 2009)."""
    size = np.sqrt(np.outer(np.diagonal(K), np.diagonal(K)))
    rho = np.clip(np.divide(K, size, out=np.zeros_like(K), where=size > 0), -1, 1)
    np.fill_diagonal(rho, 1)
    sine = np.sqrt((1 - rho) * (1 + rho))
    return size / (2 * np.pi) * (sine + rho * (np.pi - np.arccos(rho)))


def norm_by_hand(K: np.ndarray, eps: float) -> np.ndarray:
    size = np.sqrt(np.diagonal(K) + eps)
    return K / size[:, None] / size


def tokens(T: int, scale: np.ndarray | float) -> np.ndarray:
    """Return a kernel with equal, opposite and zero tokens among others."""
    X = np.random.default_rng(T).standard_normal((T, 7))
    X[1], X[2], X[3] = X[0], -X[0], 0
    X *= np.broadcast_to(scale, T)[:, None]
    return X @ X.T


# Within and beyond the range where products of four deviations are formed.
SCALES = [1.0, 1e-90, 1e90, 10.0 ** np.linspace(-8, 8, 300)]


@pytest.mark.parametrize("scale", SCALES, ids=["1", "1e-90", "1e90", "mixed"])
def test_a_residual_mlp(scale: np.ndarray | float) -> None:
    """Several strips, each through five layers, as the five formulas by hand."""
    K = tokens(300, scale)
    branch = RMSNorm(0.25) >> Dense(1.7, 0.3) >> SECOND
    hidden = relu_by_hand(1.7 * norm_by_hand(K, 0.25) + 0.3)
    expected = 0.64 * K + 0.25 * (0.5 * hidden + 0.1)
    found = kernel(Residual(branch, 0.8, 0.5), K)
    size = np.sqrt(np.diagonal(expected))
    # A correlation is known to EPS, and what ReLU makes of it changes no faster.
    assert (np.abs(found - expected) <= 64 * EPS * np.outer(size, size)).all()
    assert (found == found.T).all()


def test_a_zero_variance_stays_zero() -> None:
    """Through layers without a bias, a zero token is a zero row."""
    K = tokens(9, 1.0)
    found = kernel(Residual(Dense(2) >> Pointwise(relu) >> Dense(0.5)), K)
    size = np.sqrt(np.diagonal(K))
    assert np.abs(found - (K + relu_by_hand(K))).max() <= 16 * EPS * (size**2).max()
    assert (found[3] == 0).all()


def test_a_gated_branch() -> None:
    """Both branches of a product see the same strip."""
    K = tokens(300, 1.0)
    gate = Product(Dense(2, 0.1) >> Pointwise(relu), RMSNorm(1) >> Dense(3))
    expected = relu_by_hand(2 * K + 0.1) * (3 * norm_by_hand(K, 1))
    found = kernel(Residual(gate >> Dense()), K)
    size = np.sqrt(np.diagonal(K + expected))
    assert (np.abs(found - K - expected) <= 64 * EPS * np.outer(size, size)).all()


def test_a_repeated_block_inside_a_branch() -> None:
    block = Dense(2, 0.1) >> Pointwise(relu)
    K = tokens(40, 1.0)
    expected = K
    for _ in range(3):
        expected = relu_by_hand(2 * expected + 0.1)
    found = kernel(Residual(block * 3 >> Dense()), K)
    assert np.abs(found - K - expected).max() <= 64 * EPS * np.abs(found).max()


def test_quadrature_in_strips() -> None:
    """An activation without a closed form: fused and one by one."""
    K = tokens(5, 1.0)
    inner, outer = Dense(0.5, 0.2) >> Pointwise(silu), Dense(0.3, 0.1)
    found = kernel(Residual(inner >> outer), K)
    expected = K + kernel(outer, kernel(inner, K))
    assert np.abs(found - expected).max() <= 1e-12 * expected.max()


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Residual(LayerNorm() >> Mlp(relu)), True),
        (Product(Mlp(relu), Dense()) * 2, True),
        (Residual(LayerNorm() >> Attention(Uniform())), False),
        (Mix(np.eye(2)) >> Dense(), False),
        (Product(Dense(), Mix(np.eye(2)) >> Dense()), False),
        (Residual(Attention(Softmax()) >> Mlp(relu)) * 3, False),
    ],
)
def test_what_mixes_positions(network: Network, expected: bool) -> None:
    assert is_pairwise(network) == expected


def test_only_what_mixes_no_positions_can_be_taken_through() -> None:
    with pytest.raises(AssertionError, match="mixes positions"):
        pairwise_kernel(Dense() >> Mix(np.eye(2)), np.eye(2))


def test_the_states_between_layers() -> None:
    """Layers that could be fused are told apart where each is asked for."""
    K = tokens(4, 1.0)
    dense = Dense(2, 0.1)
    found = kernels(dense >> SECOND, K)
    expected = [K, kernel(dense, K), relu_by_hand(2 * K + 0.1), None]
    expected[3] = 0.5 * expected[2] + 0.1
    assert np.abs(found - expected).max() <= 16 * EPS * found.max()


@pytest.mark.parametrize("bias", [0.0, 0.5])
@pytest.mark.parametrize(
    "layer",
    [
        lambda dense: dense,
        lambda dense: Residual(dense, 0),
        lambda dense: Attention(Uniform(), output=dense),
        lambda dense: Attention(Fixed(np.eye(3)), output=dense),
        lambda dense: Attention(Softmax("1/d", tied=True), output=dense),
    ],
    ids=["dense", "residual", "uniform", "fixed", "softmax"],
)
def test_weights_without_variance_leave_the_bias(layer, bias: float) -> None:
    """Nothing of the input is left: the same number everywhere."""
    assert (kernel(layer(Dense(0, bias)), np.eye(3) + 1) == bias).all()
