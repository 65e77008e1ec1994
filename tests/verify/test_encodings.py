"""Positions in finite attention, against the layers of transformers and of PyTorch."""

import math
from typing import Any

import numpy as np
import pytest
import sympy as sp
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from asymptest.numerics.kernel import kernel
from asymptest.theory import (
    Additive,
    ALiBi,
    Attention,
    Elementwise,
    RelativeBias,
    Rotary,
    Shaped,
    Softmax,
    relu,
)
from asymptest.theory.errors import ArgumentError, KernelError, ShapeError
from asymptest.theory.patterns import Pattern
from asymptest.verify.encodings import AdditiveModule, RotaryModule
from asymptest.verify.finite import AttentionModule, finite
from asymptest.verify.inputs import exact_input

EPS = float(np.finfo(np.float64).eps)
SINGLE = float(np.finfo(np.float32).eps)
LEVEL = 1e-9  # false-alarm probability of a statistical test here

T, WIDTH, HEADS = 6, 16, 2
D = WIDTH // HEADS
# Of a table: each of T tokens sees itself and those before.
CAUSAL = torch.ones(T, T, dtype=torch.bool).tril()


def state(length: int = T, width: int = WIDTH) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, length, width, generator=generator, dtype=torch.float64)


def attention(pattern: Pattern, mask: Any = "causal") -> AttentionModule:
    body = finite(Attention(pattern, mask, HEADS), WIDTH, rng=2).body
    assert isinstance(body, AttentionModule)
    return body


def queries_and_keys(module: AttentionModule, X: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as (1, heads, T, d), from the weights of the module."""
    assert module.pattern.logits is not None
    weights = {
        name: W[0].detach().reshape(WIDTH, WIDTH)
        for name, W in module.pattern.logits.weights.items()
    }
    query, key = (
        (X @ weights[name]).reshape(1, len(X[0]), HEADS, D).transpose(1, 2)
        for name in ("WQ", "WK")
    )
    return query, key


def softmax(G: Tensor) -> Tensor:
    return torch.softmax(torch.where(CAUSAL, G, -torch.inf), dim=-1)


def gap(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).detach().abs().max())


# Rotary.


def llama_rotation(base: float, features: int, length: int) -> Any:
    """Return the function of transformers that rotates queries and keys."""
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    config = llama.LlamaConfig(
        hidden_size=features * HEADS,
        num_attention_heads=HEADS,
        head_dim=features,
        rope_parameters={"rope_type": "default", "rope_theta": base},
    )
    embedding = llama.LlamaRotaryEmbedding(config)
    x = torch.zeros(1, length, features, dtype=torch.float64)
    cos, sin = embedding(x, torch.arange(length)[None])
    return lambda q, k: llama.apply_rotary_pos_emb(q, k, cos, sin)


def halves(x: Tensor) -> Tensor:
    """Put the first of each pair into the first half, as transformers pairs features."""
    return torch.cat([x[..., 0::2], x[..., 1::2]], dim=-1)


@pytest.mark.parametrize("base", [10000.0, 3.0])
def test_rotations_are_those_of_llama(base: float) -> None:
    """Up to the order of features; transformers computes the angles in float32."""
    generator = torch.Generator().manual_seed(3)
    q = torch.randn(1, HEADS, T, D, generator=generator, dtype=torch.float64)
    R = RotaryModule(Rotary(base), D)(state())["R"]
    ours = torch.einsum("icd,bhid->bhic", R, q)
    theirs, _ = llama_rotation(base, D, T)(halves(q), halves(q))
    assert gap(halves(ours), theirs) <= 4 * T * SINGLE * float(q.abs().max())


@pytest.mark.parametrize("base", [10000.0, 3.0])
def test_rotary_attention_is_that_of_llama(base: float) -> None:
    """With the features of each head reordered, the logits and weights are the same."""
    module = attention(Softmax(variance=3, position=Rotary(base)))
    X = state()
    query, key = queries_and_keys(module, X)
    q, k = llama_rotation(base, D, T)(halves(query), halves(key))
    G = q @ k.mT / D**0.5
    size = float(query.norm(dim=-1).max() * key.norm(dim=-1).max())
    logits = module.pattern.hidden_logits(X)
    assert gap(logits[..., CAUSAL], G[..., CAUSAL]) <= 4 * T * SINGLE * size
    assert gap(module.pattern(X), softmax(G)) <= 4 * T * SINGLE * size
    # Not the same as without, or with rotations the other way round.
    assert gap(softmax(query @ key.mT / D**0.5), softmax(G)) > 0.01
    k, q = llama_rotation(base, D, T)(halves(key), halves(query).flip(-1))
    assert gap(softmax(q @ k.mT / D**0.5), softmax(G)) > 0.01


def test_logits_see_the_distance_alone() -> None:
    """Queries and keys that are the same everywhere have logits of i - j."""
    module = attention(Softmax(position=Rotary(3.0)), "full")
    X = state()[:, :1].expand(-1, T, -1)
    G = module.pattern.hidden_logits(X).detach()
    for i in range(1, T):
        for j in range(1, T):
            assert gap(G[..., i, j], G[..., i - 1, j - 1]) <= 64 * EPS * float(G.max())
    assert gap(G[..., 0, 1], G[..., 1, 0]) > 0.01


def test_odd_heads_have_no_pairs() -> None:
    with pytest.raises(
        ShapeError, match=r"pairs of features, and a head has 3; choose"
    ):
        finite(Attention(Softmax(position=Rotary()), heads=4), 12)


# Additive.


def covariance_fits(E: Tensor, P: np.ndarray) -> bool:
    """Say whether the rows of E have the covariance P: sums of squares are chi-square."""
    count = E.shape[0] * E.shape[-1]
    second = torch.einsum("bin,bjn->ij", E, E).numpy()
    size = len(P)
    low, high = stats.chi2.ppf([LEVEL / 4 / size**2, 1 - LEVEL / 4 / size**2], count)
    good = True
    for sign in (1, -1):
        for i in range(size):
            for j in range(i + 1 if sign == 1 else i):
                found = second[i, i] + second[j, j] + 2 * sign * second[i, j]
                variance = P[i, i] + P[j, j] + 2 * sign * P[i, j]
                rounding = 64 * EPS * count * np.trace(P)
                good &= low * variance - rounding <= found
                good &= found <= high * variance + rounding
    return bool(good)


P3 = np.array([[1.0, 0.6, 0.2], [0.6, 2.0, 0.6], [0.2, 0.6, 0.5]])


@pytest.mark.parametrize(
    "P", [P3, np.ones((3, 3)), np.diag([1.0, 0.0, 2.0])], ids=["full", "equal", "zero"]
)
def test_embeddings_have_their_kernel(P: np.ndarray) -> None:
    module = AdditiveModule(Additive(P), 16, 512, np.random.default_rng(0))
    assert module.E.shape == (512, 3, 16)
    assert covariance_fits(module.E, P)
    assert not covariance_fits(module.E, 1.2 * P)


def test_embeddings_are_added_to_the_content() -> None:
    module = AdditiveModule(Additive(P3, -0.5), 16, 4, np.random.default_rng(0))
    X = state(3)
    assert torch.equal(module(X)["S"], -0.5 * X + module.E)
    assert not list(module.parameters())
    # Copies, layers and seeds have embeddings of their own.
    network = Attention(Softmax("1/d", True, position=Additive(P3))) * 2
    drawn = [E for seed in (0, 1) for E in finite(network, 4, 2, seed).buffers()]
    flat = torch.stack(drawn).flatten(0, 1)
    assert len(flat) == 8
    assert len({E.sum().item() for E in flat}) == 8


def test_queries_and_keys_see_embeddings_and_values_do_not() -> None:
    module = attention(Softmax(position=Additive(np.eye(T), 2)))
    X = state()
    assert isinstance(module.pattern.encoding, AdditiveModule)
    query, key = queries_and_keys(module, 2 * X + module.pattern.encoding.E)
    A = softmax(query @ key.mT / D**0.5)
    assert gap(module.pattern(X), A) <= 64 * EPS
    W = {name: W[0].detach() for name, W in module.mix.weights.items()}
    value = (X @ W["WV"].reshape(WIDTH, WIDTH)).reshape(1, T, HEADS, D).transpose(1, 2)
    joined = (A @ value).transpose(1, 2).reshape(1, T, WIDTH)
    Y = joined @ W["WO"].reshape(WIDTH, WIDTH)
    assert gap(module(X), Y) <= 64 * WIDTH * EPS


# Biases, temperature, and other functions of the logits.


def test_alibi_is_that_of_bloom() -> None:
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    module = attention(Softmax(bias=ALiBi(), temperature=0.5))
    X = state()
    query, key = queries_and_keys(module, X)
    alibi = bloom.build_alibi_tensor(torch.ones(1, T), HEADS, torch.float64)
    # slope * j in place of slope * (j - i): a softmax does not see what a row has in common.
    G = query @ key.mT / D**0.5 / 0.5 + alibi.reshape(1, HEADS, 1, T)
    assert gap(module.pattern(X), softmax(G)) <= 16 * SINGLE
    assert gap(module.pattern(X), softmax(G / 2)) > 0.01


@pytest.mark.parametrize("causal", [True, False])
def test_relative_bias_is_that_of_t5(causal: bool) -> None:
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    config = t5.T5Config(
        d_model=WIDTH,
        d_kv=D,
        num_heads=HEADS,
        is_decoder=causal,
        relative_attention_num_buckets=4,
        relative_attention_max_distance=4,
    )
    theirs = t5.T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    module = attention(Softmax("1/d", bias=RelativeBias(0.5, 4, 4, causal)))
    table = module.pattern.table
    assert table is not None
    assert table.shape == (1, HEADS, 4)
    with torch.no_grad():
        theirs.double().relative_attention_bias.weight.copy_(table[0].T)
        expected = theirs.compute_bias(T, T)
    assert torch.equal(
        module.pattern.added(state())[..., CAUSAL], expected[..., CAUSAL]
    )
    if not causal:
        assert torch.equal(module.pattern.added(state()), expected)


def test_tables_have_their_variance() -> None:
    layer = Attention(Softmax("1/d", bias=RelativeBias(0.5, 4, 3)), heads=4)
    (table,) = (
        p for n, p in finite(layer, 4, 512).named_parameters() if n.endswith("table")
    )
    low, high = stats.chi2.ppf([LEVEL / 2, 1 - LEVEL / 2], table.numel()) / 2
    assert low <= float(table.detach().square().sum()) <= high
    without = Attention(Softmax("1/d", bias=RelativeBias(0.0, 4, 3)), heads=4)
    assert not any("table" in n for n, _ in finite(without, 4).named_parameters())


def test_numbers_are_added_to_the_logits_of_each_head() -> None:
    table = np.random.default_rng(0).standard_normal((HEADS, T, T))
    X = state()
    for bias in (table, table[0]):
        module = attention(Softmax(bias=bias, temperature=4))
        query, key = queries_and_keys(module, X)
        mixed = functional.scaled_dot_product_attention(
            query / 4,
            key,
            torch.eye(T, dtype=torch.float64).expand(1, HEADS, T, T),
            attn_mask=torch.where(CAUSAL, torch.tensor(bias), -torch.inf),
        )
        assert gap(module.pattern(X), mixed) <= 64 * EPS


def test_shaped_attention_is_centred_by_that_of_zero_logits() -> None:
    scores = Softmax(variance=2, bias=ALiBi())
    module = attention(Shaped(scores, 0.5, 2, -3))
    X = state()
    C = attention(Softmax(variance=2, bias=ALiBi())).pattern(0 * X)
    A = attention(scores).pattern(X)
    expected = 0.5 * torch.eye(T, dtype=torch.float64) + 2 * A + 3 * C
    assert gap(module.pattern(X), expected) <= 64 * EPS


def test_elementwise_attention_is_torchs_relu() -> None:
    module = attention(Elementwise(variance=2, phi=relu))
    X = state()
    query, key = queries_and_keys(module, X)
    G = query @ key.mT / D**0.5
    expected = torch.relu(G) * CAUSAL
    assert gap(module.pattern(X), expected) <= 64 * EPS * float(G.abs().max())


# What does not fit.


@pytest.mark.parametrize("length", [1, 2, 4, 6])
@pytest.mark.parametrize("shape", [(3, 3), (4, 3, 3), (8, 8)])
def test_biases_for_another_length_are_refused(
    shape: tuple[int, ...], length: int
) -> None:
    """Also where their numbers could be read as a table for this length."""
    heads = shape[0] if len(shape) == 3 else 1
    module = finite(Attention(Softmax(bias=np.zeros(shape)), heads=heads), 8)
    message = f"the bias is for {shape[-1]} positions, the logits for T = {length}"
    with pytest.raises(ShapeError, match=message):
        module(exact_input(np.eye(length), 8))


def test_embeddings_for_another_length_are_refused() -> None:
    module = finite(Attention(Softmax(position=Additive(np.eye(3)))), 8)
    message = "Additive.kernel is for 3 positions, the state has 4"
    with pytest.raises(ShapeError, match=message):
        module(exact_input(np.eye(4), 8))


def test_what_is_no_kernel_is_refused() -> None:
    layer = Attention(Softmax(position=Additive([[1.0, 2.0], [2.0, 1.0]])))
    with pytest.raises(KernelError, match=r"Additive.kernel is not positive"):
        finite(layer, 8)
    # A symbol has no number, and is named.
    g = sp.Symbol("g")
    with pytest.raises(ArgumentError, match=r"Additive.content = g is a symbol"):
        finite(Attention(Softmax(position=Additive(np.eye(2), g))), 8)


# Cross-attention: the rows of one stream see the columns of another.

ENCODER, DECODER = 3, 2
LENGTH = ENCODER + DECODER
# The encoder's rows see themselves; what they become is not used.
CROSS = np.repeat([[1] * ENCODER + [0] * DECODER], LENGTH, axis=0)


def copied(
    module: AttentionModule, width: int, heads: int
) -> torch.nn.MultiheadAttention:
    """Return PyTorch's layer with the same weights."""
    theirs = torch.nn.MultiheadAttention(
        width, heads, bias=False, batch_first=True, dtype=torch.float64
    )
    assert module.pattern.logits is not None
    logits = module.pattern.logits.weights
    parts = [logits["WQ"], logits["WK"], module.mix.weights["WV"]]
    columns = [W[0].reshape(width, width).T for W in parts]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat(columns))
        theirs.out_proj.weight.copy_(
            module.mix.weights["WO"][0].reshape(width, width).T
        )
    return theirs


@pytest.mark.parametrize("heads", [1, 4])
def test_cross_attention_is_a_mask_on_both_streams(heads: int) -> None:
    layer = Attention(Softmax(variance=2), CROSS, heads)
    module = finite(layer, WIDTH, rng=4).body
    assert isinstance(module, AttentionModule)
    X = state(LENGTH)
    encoder, decoder = X[:, :ENCODER], X[:, ENCODER:]
    theirs, _ = copied(module, WIDTH, heads)(decoder, encoder, encoder)
    assert gap(module(X)[:, ENCODER:], theirs) <= 64 * WIDTH * EPS
    # What the decoder sees of itself would show.
    causal, _ = copied(module, WIDTH, heads)(decoder, X, X)
    assert gap(causal, theirs) > 0.01


def test_kernel_of_cross_attention() -> None:
    """The mean of PyTorch's layer, extrapolated in 1 / d, tends to the decoder's block."""
    K0 = 0.5 * np.eye(LENGTH) + 0.5
    K0[:ENCODER, :ENCODER] = 4 * np.eye(ENCODER)
    K0[:ENCODER, ENCODER:] = K0[ENCODER:, :ENCODER] = 0.5
    layer = Attention(Softmax(), CROSS)
    predicted = kernel(layer, K0)[ENCODER:, ENCODER:]
    means, variances = [], []
    for width in (16, 32):
        found = torch_kernels(K0, width, 1200)
        means.append(found.mean(0))
        variances.append(found.var(0, ddof=1) / len(found))
    mean = 2 * means[1] - means[0]
    deviation = np.sqrt(4 * variances[1] + variances[0])
    bound = stats.norm.ppf(1 - LEVEL / 2 / 3) * deviation
    # A series in 1 / d leaves a_2 / (16 * 32).
    slack = 0.05 * predicted.max()
    assert (np.abs(mean - predicted) <= bound + slack).all()
    assert (bound + slack < 0.2 * predicted.max()).all()
    other = kernel(Attention(Softmax()), K0)[ENCODER:, ENCODER:]
    assert (np.abs(mean - other) > bound + slack).any()


def torch_kernels(K0: np.ndarray, width: int, copies: int) -> np.ndarray:
    """Return kernels of the decoder after torch.nn.MultiheadAttention, weights drawn anew.

    Values and output are the identity: fresh weights would leave the mean as it is.
    """
    theirs = torch.nn.MultiheadAttention(
        width, 1, bias=False, batch_first=True, dtype=torch.float64
    )
    generator = torch.Generator().manual_seed(5)
    X = exact_input(K0, width)
    encoder, decoder = X[:, :ENCODER], X[:, ENCODER:]
    result = np.empty((copies, DECODER, DECODER))
    with torch.no_grad():
        theirs.in_proj_weight[2 * width :] = torch.eye(width)
        theirs.out_proj.weight.copy_(torch.eye(width))
        for copy in range(copies):
            drawn = theirs.in_proj_weight[: 2 * width]
            drawn.normal_(0, 1 / math.sqrt(width), generator=generator)
            (Y,), _ = theirs(decoder, encoder, encoder, need_weights=False)
            result[copy] = Y @ Y.mT / width
    return result
