"""Every layer of real modules beside their descriptions, and wrong ones refuted."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
)

from asymptest.numerics.kernel import kernels
from asymptest.theory import (
    Attention,
    Dense,
    LayerNorm,
    Mlp,
    Residual,
    Softmax,
    Uniform,
    relu,
)
from asymptest.theory.errors import ArgumentError, ShapeError
from asymptest.theory.masks import Window
from asymptest.theory.network import Network
from asymptest.verify.claim import Status
from asymptest.verify.design import extrapolation
from asymptest.verify.families import upper
from asymptest.verify.from_torch import from_torch, read
from asymptest.verify.layer_kernels import input_name, layer_kernels
from asymptest.verify.layer_predictions import input_kernel, mean_kernels, predict
from asymptest.verify.layers import PILOT, Comparison, compare_layers, default_sequences
from asymptest.verify.network_mutants import mutants_of
from asymptest.verify.text import default_text, token_kernel, word_ids

EPS = torch.finfo(torch.float32).eps
IDS = word_ids(default_text(), 12).reshape(2, 6)


# Factories leave the seed alone: torch's generator is seeded before they are called.


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.default_generator.manual_seed(0)


def no_mutants(network: Network, width: int) -> Mapping[str, Network]:
    del network, width
    return {}


def gpt2(width: int, seed: int = 0) -> Any:
    """Two blocks whose layers have variance 1 at every width."""
    del seed
    config = GPT2Config(
        vocab_size=32,
        n_embd=width,
        n_layer=2,
        n_head=2,
        n_positions=8,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=width**-0.5,
    )
    return GPT2Model(config).eval()


def bert(width: int, seed: int = 0) -> Any:
    del seed
    config = BertConfig(
        vocab_size=32,
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=8,
        initializer_range=width**-0.5,
        pad_token_id=None,
    )
    return BertModel(config, add_pooling_layer=False).eval()


def llama(width: int, seed: int = 0) -> Any:
    """Logits of variance 16, turned by about one radian a position; heads share keys."""
    del seed
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=width,
        rope_parameters={"rope_type": "default", "rope_theta": 1.01},
        initializer_range=width**-0.5,
    )
    module = LlamaModel(config).eval()
    attention: Any = module.layers[0].self_attn
    for part in (attention.q_proj, attention.k_proj):
        nn.init.normal_(part.weight, std=2 * width**-0.5)
    return module


def encoder(width: int, seed: int = 0, depth: int = 2, **options: Any) -> Any:
    """Independent layers, which nn.TransformerEncoder by itself does not make."""
    del seed

    def layer() -> nn.TransformerEncoderLayer:
        return nn.TransformerEncoderLayer(width, 2, 2 * width, **options)

    found = nn.TransformerEncoder(layer(), 1, enable_nested_tensor=False)
    found.layers = nn.ModuleList([layer() for _ in range(depth)])
    return found.eval()


def attention(width: int, seed: int = 0) -> nn.Module:
    del seed
    return nn.MultiheadAttention(width, 2)


def linear(width: int, seed: int = 0) -> nn.Module:
    """One layer to 80 features: Xavier's law gives it the variance 2 n / (n + 80)."""
    del seed
    found = nn.Linear(width, 80, bias=False)
    nn.init.xavier_uniform_(found.weight)
    return found


def on_tokens(width: int, seed: int = 0) -> nn.Module:
    return nn.Sequential(nn.Embedding(32, width), linear(width, seed))


def variance(width: int) -> float:
    return 2 * width / (width + 80)


def kernel_of(X: Tensor) -> np.ndarray:
    return (X.double() @ X.double().mT / X.shape[-1]).detach().numpy()


# --- the kernels of a module's states -------------------------------------------------


@pytest.mark.parametrize("build", [gpt2, bert])
def test_kernels_of_transformers(build: Any) -> None:
    """Against the hidden states that the package itself returns."""
    model = build(16)
    found = layer_kernels(model, read(model), IDS)
    with torch.no_grad():
        output = model(torch.from_numpy(IDS), output_hidden_states=True)
    states = output.hidden_states  # GPT-2's last one is normalised
    assert len(found) == (4 if build is gpt2 else 3)
    for K, X in zip(found[[-1, 1]], (states[-1], states[build is gpt2]), strict=True):
        assert np.abs(K - kernel_of(X)).max() <= 64 * EPS
    if build is gpt2:
        assert np.abs(found[0] - kernel_of(states[0])).max() <= 64 * EPS
    else:
        words = model.embeddings.word_embeddings.weight
        places = model.embeddings.position_embeddings.weight
        kind = model.embeddings.token_type_embeddings.weight[0]
        X = words[torch.from_numpy(IDS)] + places[: IDS.shape[1]] + kind
        assert np.abs(found[0] - kernel_of(X)).max() <= 64 * EPS


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_kernels_of_torch(batch_first: bool, norm_first: bool) -> None:
    """Layer by layer, one sequence at a time, with the mask that was asked for."""
    module = encoder(16, batch_first=batch_first, norm_first=norm_first)
    found = layer_kernels(module, read(module, Window(2)), IDS, Window(2), seed=3)
    assert np.abs(found[0] - [token_kernel(ids) for ids in IDS]).max() <= 64 * EPS
    i, j = np.indices((6, 6))
    hidden = torch.from_numpy((j > i) | (i - j >= 2))
    rows: dict[int, Tensor] = {}

    def keep(_: Any, args: Any) -> None:
        X = args[0] if batch_first else args[0].transpose(0, 1)
        rows.update(dict(enumerate(X)))

    with module.register_forward_pre_hook(keep):
        layer_kernels(module, read(module, Window(2)), IDS, Window(2), seed=3)
    for number in range(2):
        X = rows[number]
        for k, layer in enumerate(module.layers):
            with torch.no_grad():
                X = layer(X, src_mask=hidden)
            assert np.abs(found[k + 1][number] - kernel_of(X)).max() <= 256 * EPS


def test_what_runs_twice_or_has_no_room() -> None:
    module = encoder(16)
    reading = read(module)
    layer = module.layers[1]
    module.layers = nn.ModuleList([*module.layers, layer])
    with pytest.raises(ArgumentError, match=r"layers.1 ran 2 times in one call"):
        layer_kernels(module, reading, IDS)
    with pytest.raises(ShapeError, match=f"^{IDS.max() + 1} different tokens get"):
        layer_kernels(encoder(4), read(encoder(4)), IDS)


# --- predictions ----------------------------------------------------------------------


def test_predictions_are_extrapolated_as_the_kernels_are() -> None:
    widths = (16, 32, 64)
    readings = {n: read(linear(n)) for n in widths}
    networks = {n: reading.network for n, reading in readings.items()}
    found = predict(networks, readings, IDS, 1, 0)
    mean = np.mean([token_kernel(ids) for ids in IDS], axis=0)
    assert np.allclose(found.value[0], upper(mean))
    factor = extrapolation(widths) @ np.array([variance(n) for n in widths])
    assert np.allclose(found.value[1], factor * upper(mean))
    assert np.allclose(found.scale[1], variance(64))
    assert not found.error.any()
    assert not found.reach(1e-6).any()


def test_equal_inputs_are_evaluated_once_and_counted() -> None:
    reading = read(gpt2(16))
    ids = np.array([[0, 1, 0], [2, 3, 2], [4, 5, 6]])
    found = mean_kernels(reading.network, reading, ids, 64, 0).mean(0)
    each = [
        kernels(reading.network, input_kernel(reading, row), samples=64, rng=0)
        for row in ids
    ]
    assert np.allclose(found, np.mean(each, axis=0), rtol=1e-12)


def test_the_error_of_random_logits_is_known() -> None:
    """Two predictions from other draws differ as their errors say."""
    readings = {16: read(attention(16))}
    networks = {16: Attention(Softmax(variance=9), "causal", 2)}
    one, two = (predict(networks, readings, IDS, 64, seed) for seed in (0, 1))
    moves = one.error[1] > 0
    gap = (one.value - two.value)[1][moves]
    z = gap / np.hypot(one.error, two.error)[1][moves]
    assert 0.3 <= np.sqrt((z**2).mean()) <= 2
    assert 3 * one.error.max() <= (one.reach(1e-6) * one.scale.max()).max()


def test_mutants_change_what_they_name() -> None:
    """Each of them once; those that change nothing are left out."""
    norm, attend = LayerNorm(), Attention(Softmax(variance=2), "causal", 4)
    block = Residual(norm >> attend) >> Residual(norm >> Mlp(relu))

    def variants(network: Network) -> dict[str, Network]:
        return dict(mutants_of(network, 32))

    def pre(attention: Attention, mlp: Mlp) -> Network:
        return (Residual(norm >> attention) >> Residual(norm >> mlp)) * 3

    def with_(pattern: Any, mask: Any = "causal", output: Dense = Dense()) -> Attention:  # noqa: B008
        return Attention(pattern, mask, 4, output=output)

    mlp, six = Mlp(relu), Dense(6)
    assert variants(block * 3) == {
        "no 1/sqrt(d)": pre(with_(Softmax(variance=16)), mlp),
        "uniform over all positions": pre(with_(Uniform(), "full"), mlp),
        "another mask": pre(with_(Softmax(variance=2), "full"), mlp),
        "residual branches not scaled by depth": pre(
            with_(Softmax(variance=2), output=six), Mlp(relu, output=six)
        ),
        "norm after the sum": (Residual(attend) >> norm >> Residual(mlp) >> norm) * 3,
    }
    post = Residual(attend) >> norm >> Residual(mlp) >> norm
    found = variants(post)
    assert found["norm before the branch"] == block
    assert "norm after the sum" not in found
    assert variants(Dense()) == {}
    assert "residual branches not scaled by depth" not in variants(attend)
    many: Any = variants(Attention(Softmax(), heads="sqrt"))["no 1/sqrt(d)"]
    assert many.pattern.variance == 8  # 32 features in 4 heads


# --- verdicts -------------------------------------------------------------------------


def compared(factory: Any, *widths: int, **options: Any) -> Comparison:
    return compare_layers(factory, widths, sequences=IDS, **options)


def test_gpt2() -> None:
    """Two blocks of width 64: every layer agrees, and wrong descriptions do not."""
    found = compared(gpt2, 64, resolution=0.15, samples=2**12)
    assert list(found.layers) == ["input of h.0", "h.0", "h.1", "ln_f"]
    assert found.verdict is Status.SUPPORTED
    assert found.parts_at is None
    for finding in found.layers.values():
        assert finding.resolution is not None
        assert finding.resolution <= 0.15
        assert finding.replicates >= 64
    assert found.alive == ()
    assert len(found.mutants) == 5


def test_attention_without_its_scale_is_refuted() -> None:
    found = compared(attention, 64, mask="causal", resolution=0.1)
    assert found.verdict is Status.SUPPORTED
    assert found.mutants["no 1/sqrt(d)"].verdict is Status.REFUTED
    assert found.mutants["another mask"].verdict is Status.REFUTED


def test_bert() -> None:
    found = compared(bert, 64, resolution=0.15, samples=2**12)
    assert found.verdict is Status.SUPPORTED
    assert found.mutants["norm before the branch"].verdict is Status.REFUTED


@pytest.mark.filterwarnings("ignore:.*the variance of its entries is taken as")
def test_llama() -> None:
    """Two tokens in turns: which of them a token is next to shows in its kernel."""
    turns = np.array([[0, 1] * 4])

    def two(network: Network, width: int) -> dict[str, Network]:
        wanted = "without positions", "without gates"
        return {name: mutants_of(network, width)[name] for name in wanted}

    found = compare_layers(
        llama, [64], sequences=turns, mutants=two, resolution=0.12, samples=2**16
    )
    assert found.verdict is Status.SUPPORTED
    assert found.mutants["without positions"].verdict is Status.REFUTED
    assert found.mutants["without gates"].verdict is Status.REFUTED


def test_a_description_of_another_network_is_refuted() -> None:
    """Descriptions read with another mask than the modules run with."""

    def build(width: int, seed: int) -> nn.Module:
        module = attention(width, seed)

        def unmask(_: Any, args: Any, kwargs: Any) -> Any:
            return args, kwargs | {"attn_mask": None}

        module.register_forward_pre_hook(unmask, with_kwargs=True)
        return module

    found = compared(build, 64, mask="causal", resolution=0.1)
    assert found.verdict is Status.REFUTED
    assert found.parts_at == "the module"
    assert found.mutants["another mask"].verdict is not Status.REFUTED


def test_wrong_descriptions_are_refuted_by_what_is_certain() -> None:
    """Those further off than the resolution reached and the bias, and no others."""
    factors = [1 + k / 100 for k in range(1, 25)]

    def scaled(network: Network, width: int) -> Mapping[str, Network]:
        assert isinstance(network, Dense)
        own = variance(width)
        return {str(f): replace(network, variance=f * own) for f in factors}

    found = compared(linear, 32, resolution=0.1, bias=0.04, mutants=scaled)
    (layer,) = found.layers.values()
    assert layer.verdict is Status.SUPPORTED
    assert layer.resolution is not None
    for f in factors:
        certain = f - 1 - layer.resolution
        finding = found.mutants[str(f)]
        assert (finding.verdict is Status.REFUTED) == (certain > 0.04)
        assert finding.distance == pytest.approx(max(certain, 0))
    assert 5 <= len(found.alive) <= 14


def test_where_they_part() -> None:
    """A hook, which a reader does not see, makes the second of three layers longer."""

    def longer(_: Any, __: Any, X: Tensor) -> Tensor:
        return 1.2 * X

    def build(width: int, seed: int) -> nn.Module:
        del seed
        layers = [nn.Linear(width, width, bias=False) for _ in range(3)]
        module = nn.Sequential(nn.Embedding(32, width), *layers)
        module[2].register_forward_hook(longer)
        return module

    found = compared(build, 48, resolution=0.12, mutants=no_mutants)
    verdicts = [finding.verdict for finding in found.layers.values()]
    assert verdicts[:2] == [Status.SUPPORTED] * 2
    assert verdicts[2:] == [Status.REFUTED] * 2
    assert found.parts_at == "2"
    assert found.verdict is Status.REFUTED
    assert found.network == from_torch(build(48, 0))


def test_widths_with_descriptions_of_their_own() -> None:
    """Extrapolated on both sides; the last width's description alone is far off."""
    notes: list[str] = []

    def last(network: Network, width: int) -> Mapping[str, Network]:
        del width
        assert isinstance(network, Dense)
        return {"the last width's": replace(network, variance=variance(64))}

    options: dict[str, Any] = {
        "resolution": 0.15,
        "mutants": last,
        "note": notes.append,
    }
    found = compared(linear, 16, 32, 64, **options)
    assert found.verdict is Status.SUPPORTED
    assert found.mutants["the last width's"].verdict is Status.REFUTED
    assert found.network == Dense(variance(64), expansion=Fraction(80, 64))
    layer = found.layers["the module"]
    assert layer.widths == (16, 32, 64)
    (note,) = notes
    assert note.startswith("at most ")
    assert note.endswith("of width 64 modules")


def test_a_comparison_replays_and_leaves_the_generator_alone() -> None:
    before = torch.random.get_rng_state()
    options: dict[str, Any] = {"resolution": 0.3, "mutants": no_mutants}
    one, again, other = (compared(on_tokens, 16, seed=s, **options) for s in (0, 0, 1))
    assert one == again
    assert one.layers["1"].distance != other.layers["1"].distance
    assert torch.equal(before, torch.random.get_rng_state())


def test_every_module_is_built_once() -> None:
    """One to read, the pilot's, and those judged: as many as the findings say."""
    seeds: list[int] = []

    def build(width: int, seed: int) -> nn.Module:
        seeds.append(seed)
        layers = [nn.Linear(width, width, bias=False) for _ in range(3)]
        return nn.Sequential(nn.Embedding(32, width), *layers)

    found = compared(build, 32, resolution=0.12, mutants=no_mutants)
    used = [finding.replicates for finding in found.layers.values()]
    # The deeper a layer, the more it fluctuates: the last goes on where others stopped.
    assert used[0] < used[-1]
    assert len(seeds) == len(set(seeds)) == 1 + PILOT + max(used)


def test_default_sequences() -> None:
    ids = default_sequences()
    assert ids.shape == (4, 8)
    assert ids.ravel().tolist() == word_ids(default_text(), 32).tolist()


def fixed(width: int, seed: int) -> nn.Module:
    del seed
    table = torch.randn(32, width, generator=torch.Generator().manual_seed(7))
    return nn.Sequential(nn.Embedding.from_pretrained(table), nn.LayerNorm(width))


def padded(width: int, seed: int) -> nn.Module:
    del seed
    return nn.Sequential(nn.Embedding(32, width, padding_idx=0), nn.LayerNorm(width))


@pytest.mark.parametrize(
    ("factory", "widths", "options", "error", "message"),
    [
        (fixed, (16,), {}, ArgumentError, "built the same module for 16 seeds"),
        (padded, (16,), {"sequences": IDS[:1]}, ArgumentError, "leave padding tokens"),
        (
            lambda _, seed: linear(16, seed),
            (16, 32),
            {},
            ArgumentError,
            r"factory\(32, seed\) must build a module of width 32; it has 16",
        ),
        (linear, (16, 16), {}, ArgumentError, "widths must be one or more different"),
        (linear, (), {}, ArgumentError, "widths must be one or more different"),
        (linear, (16,), {"samples": 15}, ArgumentError, "at least 16; got 15"),
        (linear, (16,), {"bias": 0.1}, ArgumentError, "leave nothing of resolution"),
        (attention, (16,), {"samples": 16}, ArgumentError, "use more samples"),
        (linear, (16,), {"sequences": IDS[0]}, ShapeError, r"got the shape \(6,\)"),
        (linear, (16,), {"sequences": IDS[:0]}, ShapeError, r"got the shape \(0, 6\)"),
        (on_tokens, (16,), {"sequences": IDS + 30}, ShapeError, r"lie in \[0, 32\)"),
        (attention, (8,), {}, ShapeError, "different tokens get orthogonal rows"),
    ],
)
def test_errors(
    factory: Any, widths: Any, options: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        compare_layers(factory, widths, **{"sequences": IDS, **options})


def test_input_has_a_name() -> None:
    assert input_name(read(attention(8))) == "input of the module"
    assert input_name(read(gpt2(8))) == "input of h.0"
