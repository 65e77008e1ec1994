"""Models of the package transformers, built from configurations: nothing is downloaded."""

from typing import Any

import pytest
import torch
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

from asymptest.verify.census import attention_of, census
from asymptest.verify.saturated_attention import saturated
from asymptest.verify.saturating import blocks_of, saturation_of, scaled

EPS = torch.finfo(torch.float64).eps
T, N, DEPTH, VOCABULARY = 7, 16, 3, 11


def gpt2(kind: Any = GPT2Model, **options: Any) -> Any:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=N,
        n_layer=DEPTH,
        n_head=2,
        n_positions=T,
        bos_token_id=0,
        eos_token_id=0,
        **options,
    )
    return kind(config)


def bert(**options: Any) -> Any:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=N,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        intermediate_size=2 * N,
        **options,
    )
    return BertModel(config)


def llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=N,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        intermediate_size=2 * N,
    )
    return LlamaModel(config)


def tokens() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(VOCABULARY, (2, T), generator=generator)


def sharpened(model: Any) -> Any:
    """Make every query 2^30 times as large: the model's own softmax is then saturated."""
    for part in model.modules():
        if type(part).__name__ == "GPT2Attention":
            queries = (part.c_attn.weight[:, :N], part.c_attn.bias[:N])
        elif type(part).__name__ == "BertSelfAttention":
            queries = (part.query.weight, part.query.bias)
        else:
            continue
        with torch.no_grad():
            for query in queries:
                query *= 2.0**30
    return model.double().eval()


MODELS = pytest.mark.parametrize("build", [gpt2, bert], ids=["gpt2", "bert"])


@MODELS
@pytest.mark.parametrize("c", [2.0, 1000.0])
def test_saturation_by_layer(build: Any, c: float) -> None:
    """Against the hidden states that the package itself returns."""
    model = build()
    found = saturation_of(model, {"input_ids": tokens()}, c)
    soft, hard = (build().double().eval() for _ in range(2))
    with torch.no_grad():
        for parameter in hard.parameters():
            parameter *= c
        x, y = (
            m(input_ids=tokens(), output_hidden_states=True).hidden_states
            for m in (soft, hard)
        )
    assert [entry.layer for entry in found.layers] == list(blocks_of(model))
    assert len(found.layers) == DEPTH
    # GPT-2 normalises its last hidden state, which is then the output's.
    expected = [
        float(nn.functional.cosine_similarity(a, b, dim=-1).mean())
        for a, b in zip(x[1:], y[1:], strict=True)
    ]
    for entry, value in zip(found.layers[:-1], expected[:-1], strict=True):
        assert abs(entry.mean - value) <= 1e-9
        assert entry.positions == 2 * T
    assert abs(found.output.mean - expected[-1]) <= 1e-9
    assert model.training


@MODELS
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", [False, True])
def test_saturated(build: Any, implementation: str, padded: bool) -> None:
    """Masked by the most negative number (eager) or by booleans (sdpa)."""
    options = {"attn_implementation": implementation}
    mask = torch.ones(2, T, dtype=torch.int64)
    if padded:
        mask[0, 4:] = 0
    inputs = {"input_ids": tokens(), "attention_mask": mask}
    ours = saturated(build(**options))(**inputs)[0]
    with torch.no_grad():
        theirs = sharpened(build(**options))(**inputs)[0]
        soft = build(**options).double().eval()(**inputs)[0]
    assert float((ours - theirs).abs().max()) <= 2**14 * EPS
    assert float((ours - soft).abs().max()) > 1e-3


@pytest.mark.parametrize("build", [gpt2, bert, lambda: gpt2(GPT2LMHeadModel)])
def test_census(build: Any) -> None:
    """Attention matrices as the package returns them, once, and the model untouched."""
    model = build()
    implementation = model.config._attn_implementation
    found = attention_of(model, tokens())
    assert model.config._attn_implementation == implementation
    assert not model.config.output_attentions
    eager = build().double().eval()
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        theirs = eager(input_ids=tokens(), output_attentions=True).attentions
    assert len(found) == len(theirs) == DEPTH
    for (_, A), B in zip(found, theirs, strict=True):
        assert torch.equal(A, B)


def test_heads_of_gpt2_at_large_scale() -> None:
    """At c = 1000 every head of a random model finds one maximum in its past."""
    soft, hard = (
        census(model, tokens(), "causal")
        for model in (gpt2(), saturated(scaled(gpt2(), 1000.0)))
    )
    assert {head.kind for head in soft} == {"mean"}
    assert len(soft) == len(hard) == 2 * DEPTH
    assert all(head.hidden == 0 for head in (*soft, *hard))
    assert sum(head.kind == "argmax" for head in hard) >= DEPTH


def test_tied_embeddings_are_scaled_once() -> None:
    model = gpt2(GPT2LMHeadModel)
    big = scaled(model, 8.0)
    embedding = model.transformer.wte.weight
    assert torch.equal(big.get_parameter("lm_head.weight"), 8 * embedding.double())


def test_casts_to_float32_are_undone() -> None:
    """Llama's norms and softmax ask for float32, in which squares overflow at this c."""
    far, near = (
        saturation_of(llama(), {"input_ids": tokens()}, c) for c in (1e12, 1e5)
    )
    for one, two in zip(far.layers, near.layers, strict=True):
        assert one.mean == pytest.approx(two.mean, abs=1e-6)
    heads = census(saturated(llama()), {"input_ids": tokens()}, "causal")
    assert len(heads) == 2 * DEPTH
    assert {head.hidden for head in heads} == {0.0}
    # Norms in float64 differ from those in float32, which the model itself runs.
    ids = {"input_ids": tokens()}
    soft = saturation_of(llama(), ids, 1.0).output.mean
    assert soft == pytest.approx(1, abs=1e-14)
