"""Finite modules against PyTorch's own layers with the same weights, and their laws."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstest
from torch.nn import functional

from asymptest.theory import (
    Activation,
    Attention,
    Blocks,
    Dense,
    Fixed,
    LayerNorm,
    Mix,
    Mlp,
    Network,
    Padding,
    Pointwise,
    Residual,
    RMSNorm,
    Saturated,
    Softmax,
    Window,
    abs_,
    cos,
    erf,
    exp,
    gaussian,
    gelu,
    gelu_tanh,
    identity,
    leaky_relu,
    monomial,
    relu,
    sigmoid,
    sign,
    silu,
    sin,
    softplus,
    step,
    tanh,
)
from asymptest.verify.finite import PatternModule, finite, kernel_of, torch_activation
from asymptest.verify.inputs import exact_input
from asymptest.verify.strategies import gram_matrices, networks
from asymptest.verify.weights import haar

EPS = float(np.finfo(np.float64).eps)
# beartype checks a random item of each tuple that a strategy builds.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

LEVEL = 1e-9  # false-alarm probability of a statistical test here


def state(T: int, width: int, copies: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(copies, T, width, generator=generator, dtype=torch.float64)


def close(ours: torch.Tensor, theirs: torch.Tensor, width: int) -> bool:
    """Equal up to the rounding of a few dot products of length `width`."""
    size = max(float(theirs.detach().abs().max()), 1.0)
    gap = float((ours - theirs).detach().abs().max())
    return ours.shape == theirs.shape and gap <= 32 * width * EPS * size


def weight(module: torch.nn.Module, name: str) -> torch.Tensor:
    """Return the first parameter called `name`, of the first replicate."""
    return next(p for n, p in module.named_parameters() if n.endswith(name))[0].detach()


def load(
    linear: torch.nn.Linear, W: torch.Tensor, v: torch.Tensor | None = None
) -> None:
    with torch.no_grad():
        linear.weight.copy_(W.T)
        if v is not None:
            linear.bias.copy_(v)


def test_dense_and_relu_are_torchs() -> None:
    module = finite(Dense(2, 0.5, expansion=3) >> Pointwise(relu), 8)
    linear = torch.nn.Linear(8, 24, dtype=torch.float64)
    load(linear, weight(module, "W"), weight(module, "v"))
    X = state(5, 8)
    assert close(module(X), torch.relu(linear(X)), 8)


def test_mlp_is_torchs() -> None:
    layer = Mlp(gelu, Fraction(1, 2), Dense(1, 0.3), Dense(2, 0.1))
    module = finite(layer, 8)
    names = [name for name, _ in module.named_parameters()]
    first, second = (names[k].rpartition(".")[0] for k in (0, 2))
    parts = []
    for prefix, size in ((first, (8, 4)), (second, (4, 8))):
        linear = torch.nn.Linear(*size, dtype=torch.float64)
        load(linear, weight(module, f"{prefix}.W"), weight(module, f"{prefix}.v"))
        parts.append(linear)
    X = state(5, 8)
    theirs = parts[1](functional.gelu(parts[0](X)))
    assert close(module(X), theirs, 8)


MASKS: dict[str, Any] = {
    "full": "full",
    "causal": "causal",
    "window": Window(2, causal=False),
    "blocks": Blocks((2, 3), causal=True),
    "padding": Padding(3),
    "table": np.tril(np.ones((5, 5)), 1),
}


def visible(name: str) -> torch.Tensor:
    """Write out each mask on five positions, by its definition."""
    rule = {
        "full": lambda i, j: True,
        "causal": lambda i, j: j <= i,
        "window": lambda i, j: abs(i - j) < 2,
        "blocks": lambda i, j: j <= i and (i < 2) == (j < 2),
        "padding": lambda i, j: j < 3,
        "table": lambda i, j: j <= i + 1,
    }[name]
    return torch.tensor([[bool(rule(i, j)) for j in range(5)] for i in range(5)])


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_softmax_attention_is_scaled_dot_product_attention(
    name: str, heads: int
) -> None:
    width, T = 8, 5
    module = finite(Attention(Softmax(variance=3), MASKS[name], heads), width, rng=3)
    X = state(T, width)

    def split(label: str) -> torch.Tensor:
        W = weight(module, label).reshape(width, width)
        return (X @ W).reshape(1, T, heads, width // heads).transpose(1, 2)

    mixed = functional.scaled_dot_product_attention(
        split("WQ"), split("WK"), split("WV"), attn_mask=visible(name)
    )
    joined = mixed.transpose(1, 2).reshape(1, T, width)
    theirs = joined @ weight(module, "WO").reshape(width, width)
    assert close(module(X), theirs, width)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_causal_attention_is_multihead_attention(heads: int) -> None:
    width, T = 8, 5
    law = Dense(2, 0.3)
    layer = Attention(Softmax(), "causal", heads, value=law, output=law)
    module = finite(layer, width, rng=5)
    theirs = torch.nn.MultiheadAttention(
        width, heads, batch_first=True, dtype=torch.float64
    )
    matrices = [
        weight(module, label).reshape(width, width) for label in ("WQ", "WK", "WV")
    ]
    zero = torch.zeros(2 * width, dtype=torch.float64)
    with torch.no_grad():
        assert theirs.in_proj_weight is not None
        theirs.in_proj_weight.copy_(torch.cat([W.T for W in matrices]))
        theirs.in_proj_bias.copy_(
            torch.cat([zero, weight(module, "vV").reshape(width)])
        )
        load(
            theirs.out_proj,
            weight(module, "WO").reshape(width, width),
            weight(module, "vO"),
        )
    X = state(T, width)
    hidden = torch.ones(T, T, dtype=torch.bool).triu(1)
    expected, _ = theirs(X, X, X, attn_mask=hidden)
    assert close(module(X), expected, width)


def test_tied_logits_are_one_projection() -> None:
    width, heads, T = 8, 2, 4
    module = finite(Attention(Softmax("1/d", tied=True), heads=heads), width, rng=5)
    X = state(T, width)
    names = {n.rpartition(".")[2] for n, _ in module.named_parameters()}
    assert names == {"WV", "WO", "WQ"}
    Q, V = (
        (X @ weight(module, n).reshape(width, width)).reshape(1, T, heads, -1)
        for n in ("WQ", "WV")
    )
    A = torch.softmax(torch.einsum("bihc,bjhc->bhij", Q, Q) / (width // heads), -1)
    mixed = torch.einsum("bhij,bjhc->bihc", A, V).reshape(1, T, width)
    assert close(module(X), mixed @ weight(module, "WO").reshape(width, width), width)


def test_saturated_attention_copies_the_position_of_the_largest_logit() -> None:
    width, T = 8, 5
    module = finite(Attention(Saturated(), "causal"), width, rng=2)
    X = state(T, width)
    Q, K, V, W = (
        weight(module, n).reshape(width, width) for n in ("WQ", "WK", "WV", "WO")
    )
    logits = (X @ Q) @ (X @ K).mT
    logits = logits.masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf)
    best = logits.argmax(-1)[0]
    assert close(module(X), (X @ V)[:, best] @ W, width)


def test_saturated_attention_shares_its_weight_over_equal_tokens() -> None:
    width = 8
    X = state(2, width)[:, [0, 1, 0, 1]]
    module = finite(Attention(Saturated()), width, rng=2)
    Y = module(X)
    assert close(Y[:, :2], Y[:, 2:], width)
    (pattern,) = (m for m in module.modules() if isinstance(m, PatternModule))
    A = pattern(X).detach()
    assert set(A.unique().tolist()) == {0.0, 0.5}


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_norms_are_torchs(eps: float) -> None:
    X = state(5, 16) + 0.5
    rms = torch.nn.RMSNorm(16, eps=eps, elementwise_affine=False)
    layer = torch.nn.LayerNorm(16, eps=eps, elementwise_affine=False)
    assert close(finite(RMSNorm(eps), 16)(X), rms(X), 16)
    assert close(finite(LayerNorm(eps), 16)(X), layer(X), 16)


@pytest.mark.parametrize("copies", [1, 2])
def test_gains_and_biases_are_torchs(copies: int) -> None:
    X = state(5, 16) + 0.5
    ours = finite(LayerNorm(affine=True), 16, copies)
    rms = finite(RMSNorm(0.1, affine=True), 16, copies)
    assert [p.shape for p in rms.parameters()] == [(copies, 1, 16)]
    plain = finite(LayerNorm(), 16, copies)
    assert close(ours(X), plain(X), 16)  # 1 and 0 at initialisation
    theirs = torch.nn.LayerNorm(16, eps=0.0, dtype=torch.float64)
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.copy_(torch.linspace(-1, 2, 16))
            mine.copy_(other)
    assert close(ours(X), theirs(X).expand(copies, -1, -1), 16)


THEIRS: list[tuple[Activation, Any]] = [
    (identity, lambda X: X),
    (relu, functional.relu),
    (leaky_relu(0.2), lambda X: functional.leaky_relu(X, 0.2)),
    (abs_, torch.abs),
    (sign, torch.sign),
    (step, lambda X: torch.where(X > 0, 1.0, torch.where(X < 0, 0.0, 0.5)).to(X.dtype)),
    (erf, torch.erf),
    (gelu, functional.gelu),
    (gelu_tanh, lambda X: functional.gelu(X, approximate="tanh")),
    (silu, functional.silu),
    (tanh, torch.tanh),
    (sigmoid, torch.sigmoid),
    (softplus, functional.softplus),
    (sin, torch.sin),
    (cos, torch.cos),
    (exp, torch.exp),
    (gaussian, lambda X: torch.exp(-(X**2))),
    (monomial(0), torch.ones_like),
    (monomial(3), lambda X: X**3),
]


@pytest.mark.parametrize(("phi", "theirs"), THEIRS)
def test_activations_are_torchs(phi: Activation, theirs: Any) -> None:
    X = torch.cat(
        [torch.linspace(-8, 8, 999, dtype=torch.float64), torch.zeros(1).double()]
    )
    gap = torch_activation(phi)(X) - theirs(X)
    # softplus is log(2 cosh(x/2)) + x/2 here: it loses |x| eps where torch's is tiny.
    assert float((gap.abs() / theirs(X).abs().clamp(min=1)).max()) <= 32 * EPS


def test_steps_can_be_trained_through() -> None:
    X = torch.tensor([-2.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(torch_activation(relu)(X).sum(), X)
    assert slope.tolist() == [0, 1, 1]


def test_residual_and_mix() -> None:
    A = np.array([[0.0, 1.0], [0.25, 0.75]])
    X = state(2, 4)
    mixed = torch.tensor(A) @ X
    assert close(finite(Mix(A), 4)(X), mixed, 4)
    assert close(finite(Residual(Mix(A), 3, -2), 4)(X), 3 * X - 2 * mixed, 4)
    by_head = np.array([A, np.eye(2)])
    module = finite(Attention(Fixed(by_head), heads=2), 4)
    V = (X @ weight(module, "WV").reshape(4, 4)).reshape(1, 2, 2, 2)
    heads = torch.einsum("hij,bjhc->bihc", torch.tensor(by_head), V).reshape(1, 2, 4)
    assert close(module(X), heads @ weight(module, "WO").reshape(4, 4), 4)


# Laws.


@given(rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 99))
def test_haar_weights_are_orthogonal(rows: int, columns: int, seed: int) -> None:
    """W W^T = (columns / rows) I, or W^T W = I where rows > columns."""
    W = haar(3, rows, columns, np.random.default_rng(seed))
    product = W @ W.mT * rows / columns if rows <= columns else W.mT @ W
    assert close(product, torch.eye(min(rows, columns)).double().expand(3, -1, -1), 8)


def test_haar_weights_are_not_the_qr_convention() -> None:
    """Unfixed, the diagonal of R would be of one sign: W_11 would never be > 0, say."""
    W = haar(4000, 2, 2, np.random.default_rng(0))
    # On O(2), W_11 = cos(angle) with a uniform angle, and det W = 1 for half of them.
    angle = torch.arccos(W[:, 0, 0].clamp(-1, 1)).numpy() / np.pi
    assert kstest(angle, "uniform").pvalue > LEVEL
    positive = float((torch.linalg.det(W) > 0).double().mean())
    # Hoeffding: P(|mean - 1/2| > t) <= 2 exp(-2 n t^2).
    assert abs(positive - 0.5) <= np.sqrt(np.log(2 / LEVEL) / (2 * 4000))


@pytest.mark.parametrize(
    ("network", "name", "variance"),
    [
        (Dense(3, 0.5), "W", 3 / 16),
        (Dense(3, 0.5), "v", 0.5),
        (Dense(3, expansion=2), "W", 3 / 16),
        (Dense(expansion=2) >> Dense(3), "1.affine.weights.W", 3 / 32),
        (Attention(heads=2, value=Dense(3, 0.5)), "WV", 3 / 16),
        (Attention(heads=2, value=Dense(3, 0.5)), "vV", 0.5),
        (Attention(heads=2, output=Dense(3, 0.5)), "WO", 3 / 16),
        (Attention(heads=2, output=Dense(3, 0.5)), "vO", 0.5),
        (Attention(Softmax(variance=9)), "WQ", 3 / 16),
        (Attention(Softmax(variance=9)), "WK", 3 / 16),
        (Attention(Softmax("1/d", tied=True, variance=9)), "WQ", 9 / 16),
    ],
)
def test_weight_variances(network: Network, name: str, variance: float) -> None:
    """sum W^2 / variance is chi-square: its quantiles at LEVEL are the bounds."""
    module = finite(network, 16, copies=200)
    W = next(p for n, p in module.named_parameters() if n.endswith(name)).detach()
    statistic = float(W.square().sum()) / variance
    low, high = chi2.ppf([LEVEL / 2, 1 - LEVEL / 2], W.numel())
    assert low <= statistic <= high
    mean = float(W.sum()) / (variance * W.numel()) ** 0.5
    assert abs(mean) <= 6.2  # a standard normal number exceeds this with 6e-10


def test_copies_are_independent() -> None:
    first, second = next(finite(Dense(), 16, 2).parameters()).detach()
    assert not torch.equal(first, second)
    # A sum of 256 products of independent N(0, 1/16): variance 1. Its moment generating
    # function is (1 - t^2/256)^-128, so Chernoff's bound at 7.5, t = 6.5, is 2e-11.
    assert abs(float((first * second).sum())) <= 7.5


@settings(max_examples=20)
@given(network=networks(T=3), seed=st.integers(0, 2**32))
def test_the_same_seed_replays_bit_for_bit(network: Network, seed: int) -> None:
    X = exact_input(np.eye(3), 8, 2, rng=seed + 1)
    one, two = (kernel_of(finite(network, 8, 2, rng=seed), X) for _ in range(2))
    assert np.array_equal(one, two, equal_nan=True)


def test_another_seed_or_copy_is_another_network() -> None:
    X = exact_input(np.eye(3), 8, 2, rng=7)
    one, two = (kernel_of(finite(Dense(), 8, 2, rng=seed), X[:1]) for seed in (0, 1))
    assert not np.array_equal(one, two)
    assert not np.array_equal(one[0], one[1])


@given(
    K0=gram_matrices(zero_rows=True), extra=st.integers(0, 5), seed=st.integers(0, 99)
)
def test_exact_input_has_the_kernel(K0: np.ndarray, extra: int, seed: int) -> None:
    """Also a singular one; psd_sqrt promises 16 T eps, and Q Q^T = I to a few n eps."""
    T = len(K0)
    X = exact_input(K0, T + extra, 3, rng=seed)
    gap = (X @ X.mT / (T + extra)).numpy() - K0
    assert np.abs(gap).max() <= 64 * (T + extra) * EPS * np.linalg.norm(K0, 2)


def test_exact_inputs_are_independent_and_haar() -> None:
    X = exact_input(np.eye(2), 4, 500, rng=0) / 2  # orthonormal rows in R^4
    # The square of an entry of a uniform unit vector in R^4 is Beta(1/2, 3/2).
    assert kstest(X[:, 1, 2].numpy() ** 2, "beta", args=(0.5, 1.5)).pvalue > LEVEL
    assert kstest(X[:, 0, 0].numpy() ** 2, "beta", args=(0.5, 1.5)).pvalue > LEVEL


def test_the_default_seeds_of_input_and_network_are_independent() -> None:
    """n K'_00 / K_00 of a Dense layer is chi-square with n degrees of freedom.

    Not so if one stream made both the weights and the input.
    """
    width, copies = 2, 4000
    X = exact_input(np.eye(width), width, copies)
    K = kernel_of(finite(Dense(), width, copies), X)
    low, high = chi2.ppf([LEVEL / 2, 1 - LEVEL / 2], width * copies)
    assert low <= width * K[:, 0, 0].sum() <= high


def test_heads_grow_like_the_root() -> None:
    module = finite(Attention(Softmax(), heads="sqrt"), 64)
    assert weight(module, "WQ").shape == (64, 8, 8)
    module = finite(Attention(Softmax(), heads="sqrt"), 48)
    assert weight(module, "WQ").shape == (48, 6, 8)
