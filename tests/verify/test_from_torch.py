"""Descriptions read from torch modules, against what their documentation says they draw."""

import dataclasses
import math
import sys
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
)
from transformers.activations import ACT2FN

from asymptest.theory import (
    Attention,
    Dense,
    LayerNorm,
    Mlp,
    Pointwise,
    Product,
    Residual,
    RMSNorm,
    Rotary,
    Softmax,
    gelu,
    gelu_tanh,
    leaky_relu,
    relu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from asymptest.theory.errors import (
    ArgumentError,
    FeatureMeanError,
    NotGaussianError,
    ShapeError,
    UnsupportedError,
)
from asymptest.theory.masks import Window
from asymptest.theory.network import Network, depth
from asymptest.verify.from_torch import from_torch, pretrained, read
from asymptest.verify.reading.activations import activation
from asymptest.verify.reading.laws import Law, misfit, normal, uniform, variance_of

N, DEPTH, HEADS, VOCABULARY, POSITIONS = 24, 3, 2, 11, 7
S = 0.02**2 * N  # the variance of a layer whose weights are N(0, 0.02^2)


def gpt2(kind: Any = GPT2Model, **options: Any) -> Any:
    torch.manual_seed(0)
    config: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "n_embd": N,
        "n_layer": DEPTH,
        "n_head": HEADS,
        "n_positions": POSITIONS,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return kind(GPT2Config(**config | options)).eval()


def bert(**options: Any) -> Any:
    torch.manual_seed(0)
    config: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": N,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * N,
        "max_position_embeddings": POSITIONS,
    }
    return BertModel(BertConfig(**config | options)).eval()


def encoder_layer(seed: int = 0, **options: Any) -> nn.TransformerEncoderLayer:
    torch.manual_seed(seed)
    return nn.TransformerEncoderLayer(N, HEADS, 3 * N, **options).eval()


def close(found: Network, expected: Network) -> bool:
    """Whether two descriptions are the same but for rounding."""
    return _rounded(found) == _rounded(expected)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, tuple):
        return tuple(map(_rounded, value))
    if dataclasses.is_dataclass(value):
        parts = (getattr(value, f.name) for f in dataclasses.fields(value))
        return (type(value), *map(_rounded, parts))
    return value


# --- transformers ---------------------------------------------------------------------


def gpt2_block(
    scores: float = S**2, phi: Any = gelu_tanh, expansion: Any = 4, s: float = S
) -> Network:
    norm, branches = LayerNorm(1e-5, affine=True), 2 * DEPTH
    attention = Attention(
        Softmax(variance=scores), "causal", HEADS, Dense(s), Dense(s / branches)
    )
    mlp = Mlp(phi, expansion, Dense(s), Dense(expansion * s / branches))
    return Residual(norm >> attention) >> Residual(norm >> mlp)


def test_gpt2() -> None:
    found = read(gpt2())
    final = LayerNorm(1e-5, affine=True)
    assert close(found.network, gpt2_block() * DEPTH >> final)
    assert found.layers == ("h.0", "h.1", "h.2", "ln_f")
    assert depth(found.network) == len(found.layers)
    assert (found.width, found.entry) == (N, "h.0")
    assert found.embedding is not None
    K0 = found.embedding.kernel(np.array([3, 1, 3]))
    assert np.allclose(K0, 0.02**2 * np.array([[2, 0, 1], [0, 2, 0], [1, 0, 2]]))


def test_options_of_gpt2() -> None:
    """Each option that changes the law or the function changes the description."""
    final = LayerNorm(1e-5, affine=True)

    def check(block: Network, **options: Any) -> None:
        assert close(from_torch(gpt2(**options)), block * DEPTH >> final)

    d, wide = N // HEADS, 0.3**2 * N
    check(gpt2_block(scores=S**2 * d), scale_attn_weights=False)
    check(gpt2_block(scores=wide**2, s=wide), initializer_range=0.3)
    check(gpt2_block(phi=relu), activation_function="relu")
    check(gpt2_block(expansion=Fraction(3, 2)), n_inner=36)
    by_layer = gpt2(scale_attn_by_inverse_layer_idx=True)
    one, two, three = (gpt2_block(S**2 / k**2) for k in (1, 2, 3))
    assert close(from_torch(by_layer), one * 1 >> two * 1 >> three * 1 >> final)


def test_bert() -> None:
    norm = LayerNorm(1e-12, affine=True)

    def network(mask: Any) -> Network:
        attention = Attention(Softmax(variance=S**2), mask, HEADS, Dense(S), Dense(S))
        mlp = Mlp(gelu, 2, Dense(S), Dense(2 * S))
        block = Residual(attention) >> norm >> Residual(mlp) >> norm
        return norm >> block * DEPTH

    found = read(bert())
    assert close(found.network, network("full"))
    assert found.layers[:2] == ("embeddings.LayerNorm", "encoder.layer.0")
    assert found.embedding is not None
    # Token 0 is the padding, whose vector is 0; the token type is common to all.
    K0 = found.embedding.kernel(np.array([0, 5, 0]))
    assert np.allclose(K0, 0.02**2 * np.array([[2, 1, 1], [1, 3, 1], [1, 1, 2]]))
    assert close(from_torch(bert(is_decoder=True)), network("causal"))


@pytest.mark.parametrize("build", [gpt2, bert, lambda **options: llama(**options)])
def test_loaded_models(build: Any, tmp_path: Path) -> None:
    """Through transformers' own loader, from safetensors in a folder."""
    model = build()
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    found = pretrained(tmp_path)
    assert not found.training
    assert read(found) == read(model)


def test_transformers_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'asymptest\[hf\]'"):
        pretrained("some-model")
    assert from_torch(nn.LayerNorm(8)) == LayerNorm(1e-5, affine=True)


def llama(**options: Any) -> Any:
    torch.manual_seed(0)
    config: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": N,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * N,
    }
    return LlamaModel(LlamaConfig(**config | options)).eval()


@pytest.mark.parametrize("shared", [1, HEADS])
def test_llama(shared: int) -> None:
    norm = RMSNorm(1e-6, affine=True)
    pattern = Softmax(variance=S**2, position=Rotary(100.0))
    attention = Attention(pattern, "causal", HEADS, Dense(S), Dense(S))
    gate = Dense(S, expansion=Fraction(2)) >> Pointwise(silu)
    mlp = Product(gate, Dense(S, expansion=Fraction(2))) >> Dense(2 * S)
    block = Residual(norm >> attention) >> Residual(norm >> mlp)
    rope = {"rope_type": "default", "rope_theta": 100.0}
    found = read(llama(num_key_value_heads=shared, rope_parameters=rope))
    assert close(found.network, block * DEPTH >> norm)
    assert found.layers == ("layers.0", "layers.1", "layers.2", "norm")
    assert found.embedding is not None
    K0 = found.embedding.kernel(np.array([1, 5, 1]))
    assert np.allclose(K0, 0.02**2 * np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]]))


def test_llamas_that_are_not_read() -> None:
    linear = {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0}
    with pytest.raises(UnsupportedError, match=r"rotary_emb changes .*\(linear\)"):
        from_torch(llama(rope_parameters=linear))
    with pytest.raises(UnsupportedError, match=r"2 heads of 8 features.* width 24"):
        from_torch(llama(head_dim=8))
    biased = llama(attention_bias=True)
    nn.init.ones_(biased.layers[1].self_attn.k_proj.bias)
    with pytest.raises(
        UnsupportedError, match=r"layers.1.self_attn.k_proj.bias shifts"
    ):
        from_torch(biased)
    trained = llama()
    nn.init.constant_(trained.norm.weight, 2.0)
    with pytest.raises(UnsupportedError, match="norm has a gain other than 1"):
        from_torch(trained)


def test_models_that_are_not_read() -> None:
    with pytest.raises(UnsupportedError, match=r"read its base model, GPT2LMHeadModel"):
        from_torch(gpt2(GPT2LMHeadModel))
    assert depth(from_torch(gpt2(GPT2LMHeadModel).base_model)) == DEPTH + 1
    with pytest.raises(UnsupportedError, match=r"h.0.crossattention"):
        from_torch(gpt2(add_cross_attention=True))
    with pytest.raises(UnsupportedError, match=r"layer.0.crossattention"):
        from_torch(bert(is_decoder=True, add_cross_attention=True))
    with pytest.raises(ArgumentError, match="GPT2Model makes its own mask"):
        from_torch(gpt2(), mask="causal")
    with pytest.raises(UnsupportedError, match="GPT2MLP is not read"):
        from_torch(gpt2().h[0].mlp)
    with pytest.raises(UnsupportedError, match=r"^drop: its dropout acts"):
        from_torch(gpt2().train())


# --- torch.nn -------------------------------------------------------------------------

ATTENTION = Attention(
    Softmax(variance=Fraction(1, 4) * 1.0), "causal", HEADS, Dense(0.5), Dense(1 / 3)
)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("name", "phi"), [("relu", relu), ("gelu", gelu)])
def test_encoder_layer(norm_first: bool, bias: bool, name: str, phi: Any) -> None:
    """In-projection Xavier-uniform as (3 n, n); the rest U(-b, b), b^2 = 1 / fan-in."""
    layer = encoder_layer(
        norm_first=norm_first, bias=bias, activation=name, batch_first=bias
    )
    shift = 1 / (3 * N) if bias else 0
    mlp = Mlp(phi, 3, Dense(1 / 3, shift), Dense(1 / 3, shift / 3))
    norm = LayerNorm(1e-5, affine=True)
    if norm_first:
        block = Residual(norm >> ATTENTION) >> Residual(norm >> mlp)
    else:
        block = Residual(ATTENTION) >> norm >> Residual(mlp) >> norm
    assert close(from_torch(layer, "causal"), block * 1)


def test_encoder() -> None:
    """Layers that differ in their law are blocks of their own."""
    encoder = nn.TransformerEncoder(
        encoder_layer(), 1, nn.LayerNorm(N), enable_nested_tensor=False
    ).eval()
    encoder.layers = nn.ModuleList(
        [encoder_layer(1), encoder_layer(2), encoder_layer(3, norm_first=True)]
    )
    found = read(encoder, Window(3))
    last = from_torch(encoder.layers[2], Window(3))
    assert found.layers == ("layers.0", "layers.1", "layers.2", "norm")
    first: Any = from_torch(encoder.layers[0], Window(3))
    assert found.network == first.block * 2 >> last >> LayerNorm(1e-5, affine=True)


def test_copied_layers_are_refused() -> None:
    """nn.TransformerEncoder copies one layer, so that its layers are not independent."""
    encoder = nn.TransformerEncoder(encoder_layer(), 2, enable_nested_tensor=False)
    with pytest.raises(UnsupportedError, match=r"layers.1.self_attn.in_proj_weight eq"):
        from_torch(encoder.eval())
    shared = nn.Linear(N, N)
    with pytest.raises(UnsupportedError, match=r"^2.weight equals 0.weight"):
        from_torch(nn.Sequential(shared, nn.Tanh(), shared))


def test_xavier_is_known() -> None:
    """As nn.Transformer draws all its matrices."""
    layer = encoder_layer()
    for weight in layer.parameters():
        if weight.ndim > 1:
            nn.init.xavier_uniform_(weight)
    found: Any = from_torch(layer)
    attention, _, mlp, _ = found.block.layers
    assert close(attention.branch.output, Dense(1))
    assert close(mlp.branch.hidden, Dense(2 * N / (4 * N), 1 / (3 * N)))
    assert close(mlp.branch.output, Dense(2 * 3 * N / (4 * N), 1 / (9 * N)))


def test_attention() -> None:
    torch.manual_seed(0)
    found = from_torch(nn.MultiheadAttention(N, HEADS, bias=False), "causal")
    assert close(found, ATTENTION)


def test_sequence() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Embedding(VOCABULARY, N, padding_idx=2),
        nn.Dropout(0.0),
        nn.Sequential(nn.RMSNorm(N), nn.Linear(N, 2 * N, bias=False)),
        nn.LeakyReLU(0.25),
        nn.Identity(),
        nn.Linear(2 * N, N),
        nn.LayerNorm(N, eps=0.5, elementwise_affine=False),
    )
    found = read(module)
    assert close(
        found.network,
        RMSNorm(torch.finfo(torch.float32).eps, affine=True)
        >> Dense(1 / 3, expansion=Fraction(2))
        >> Pointwise(leaky_relu(0.25))
        >> Dense(1 / 3, 1 / (6 * N), expansion=Fraction(1))
        >> LayerNorm(0.5),
    )
    assert found.layers == ("2.0", "2.1", "3", "5", "6")
    assert found.entry == "2.0"
    assert found.embedding is not None
    assert found.embedding.kernel(np.array([2, 4])).tolist() == [[0, 0], [0, 1]]


def test_the_padding_is_no_draw() -> None:
    """Its zeros, a third of this table, are not counted against N(0, 1)."""
    torch.manual_seed(0)
    found = read(nn.Sequential(nn.Embedding(3, 400, padding_idx=1), nn.LayerNorm(400)))
    assert found.embedding is not None
    assert (found.embedding.token, found.embedding.padding) == (1, 1)


class Subclass(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(Subclass(4, 4)), r"^0 is a Subclass, which is not read"),
        (nn.BatchNorm1d(4), r"BatchNorm1d, which does not say the width"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), r"^1 is a BatchNorm1d"),
        (nn.Sequential(nn.Linear(4, 4), nn.Flatten()), r"^1: Flatten.* no activation"),
        (nn.Sequential(nn.Linear(4, 4), nn.Embedding(4, 4)), r"^1 is a Embedding"),
        (nn.Sequential(nn.Tanh()), r"^0 is a Tanh, which does not say the width"),
        (nn.Sequential(nn.Embedding(4, 4)), r"no layer that changes a state"),
        (nn.Sequential(), r"no layer that changes a state"),
        (nn.MultiheadAttention(4, 2, kdim=6), r"keys of 6 and values of 4 features"),
        (nn.MultiheadAttention(4, 2, add_bias_kv=True), r"adds a key"),
        (nn.MultiheadAttention(4, 2, add_zero_attn=True), r"adds a key"),
        (nn.MultiheadAttention(4, 2, dropout=0.5), r"^the module: its dropout acts"),
        (nn.TransformerEncoderLayer(4, 2), r"^self_attn: its dropout acts .* eval\(\)"),
        (nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), r"^1: its dropout acts"),
        (nn.LayerNorm([3, 4]), r"normalises over \(3, 4\)"),
    ],
)
def test_what_is_not_read(module: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        from_torch(module)


def test_masks_that_nothing_passes_on() -> None:
    with pytest.raises(UnsupportedError, match="Sequential passes no mask"):
        from_torch(nn.Sequential(nn.Linear(4, 4)), mask="causal")
    with pytest.raises(ArgumentError, match="mask must be"):
        from_torch(nn.MultiheadAttention(4, 2), mask="diagonal")


def test_typing_rules_name_the_submodule() -> None:
    two = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Tanh())
    with pytest.raises(NotGaussianError, match=r"^2: Pointwise\(tanh\) needs"):
        from_torch(two)
    shifted = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LayerNorm(4))
    with pytest.raises(FeatureMeanError, match=r"^2: LayerNorm\(\) here removes"):
        from_torch(shifted)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("norm1.weight", 1.5, r"^norm1 has a gain other than 1"),
        ("norm2.bias", 0.5, r"^norm2 has a bias other than 0"),
        ("self_attn.in_proj_bias", 0.5, r"^self_attn.in_proj_bias shifts queries"),
    ],
)
def test_parameters_that_are_not_at_their_start(
    name: str, value: float, message: str
) -> None:
    layer = encoder_layer()
    with torch.no_grad():
        layer.get_parameter(name)[0] = value
    with pytest.raises(UnsupportedError, match=message):
        from_torch(layer)


def test_tokens_without_embedding() -> None:
    law = read(gpt2()).embedding
    assert law is not None
    with pytest.raises(ShapeError, match=r"\[0, 11\), the vocabulary; got \[3, 11\]"):
        law.kernel(np.array([11, 3]))
    with pytest.raises(ShapeError, match="8 positions do not fit into the 7"):
        law.kernel(np.arange(8))


# --- laws of weights ------------------------------------------------------------------


@st.composite
def drawn(draw: Any) -> tuple[Tensor, float]:
    """Draw a matrix, of any shape, from one of three laws, and its variance."""
    rows, columns = (2 ** draw(st.integers(1, 8)) for _ in range(2))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    deviation = 10.0 ** draw(st.integers(-6, 3))
    kind = draw(st.sampled_from(["normal", "uniform", "orthogonal"]))
    W = torch.randn(rows, columns, generator=generator)
    if kind == "uniform":
        W = math.sqrt(12) * (torch.rand(rows, columns, generator=generator) - 0.5)
    if kind == "orthogonal":
        nn.init.orthogonal_(W, generator=generator).mul_(math.sqrt(max(rows, columns)))
    return deviation * W, deviation**2


@given(drawn())
def test_a_drawn_matrix_fits_its_law(case: tuple[Tensor, float]) -> None:
    W, variance = case
    assert misfit(W, variance) is None
    assert variance_of(W, "W", Law("it", variance)) == variance


def spoilt(how: str) -> Tensor:
    W = torch.randn(128, 64, generator=torch.Generator().manual_seed(0))
    match how:
        case "mean":
            return W + 0.1
        case "a row":
            W[5] *= 2.5
        case "a column":
            W[:, 7] *= 2.5
        case "one direction":
            signs = torch.sign(W[:, :1]) * torch.sign(W[:1])
            return W + 0.4 * signs
        case "nan":
            W[3, 3] = torch.nan
        case _:
            assert how == "none"
    return W


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("mean", r"its mean is 0\.09"),
        ("a row", "the mean square of a row is 7"),
        ("a column", "the mean square of a column is 6"),
        ("one direction", "one direction is stretched 1.[1-9]"),
        ("nan", "its mean is nan"),
    ],
)
def test_trained_weights_are_refused(how: str, message: str) -> None:
    with pytest.raises(UnsupportedError, match=f"^here.weight is at no .*{message}"):
        variance_of(spoilt(how), "here.weight", normal(1.0))
    assert variance_of(spoilt("none"), "here.weight", normal(1.0)) == 1


def test_measured_variance_is_said() -> None:
    """At 8192 entries, a variance that is off by a third does not fit; 1 % does."""
    W = math.sqrt(1.33) * spoilt("none")
    message = r"^W does not fit U\(-1.732, 1.732\) or N\(0, 1.01\^2\); .* measured 1.3"
    with pytest.warns(UserWarning, match=message):
        found = variance_of(W, "W", uniform(1.0), normal(1.01))
    assert abs(found - float(W.square().mean())) <= 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert variance_of(spoilt("none"), "W", Law("near", 1.01)) == 1.01


def test_a_bias_that_was_drawn_is_measured() -> None:
    model = gpt2(n_embd=240)
    with torch.no_grad():
        model.h[0].mlp.c_fc.bias.normal_(std=0.5)
    with pytest.warns(UserWarning, match=r"^h.0.mlp.c_fc.bias does not fit zeros"):
        found: Any = from_torch(model)
    layers = found.layers[0].block.layers
    assert abs(layers[1].branch.layers[1].hidden.bias_variance - 0.25) <= 0.1


# --- activations ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "phi"),
    [
        (nn.functional.relu, relu),
        (nn.GELU(), gelu),
        (nn.GELU("tanh"), gelu_tanh),
        (nn.SiLU(), silu),
        (nn.Tanh(), tanh),
        (nn.Sigmoid(), sigmoid),
        (nn.LeakyReLU(0.01), leaky_relu(0.01)),
        (ACT2FN["gelu_new"], gelu_tanh),
        (ACT2FN["gelu_fast"], gelu_tanh),
        (ACT2FN["gelu_python"], gelu),
        (ACT2FN["swish"], silu),
        (nn.Softplus(), softplus),
    ],
)
def test_activations(function: Any, phi: Any) -> None:
    assert activation(function, "act") == phi


@pytest.mark.parametrize(
    "function",
    [nn.ReLU6(), nn.Softmax(-1), nn.Flatten(), ACT2FN["quick_gelu"], nn.Hardswish()],
)
def test_other_activations_are_refused(function: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"^act: .* values of no activation"):
        activation(function, "act")
