"""The census of heads: by hand, against torch's own weights, and under both masks."""

from ast import literal_eval
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asymptest.numerics.attention import mask_array
from asymptest.theory import (
    Attention,
    Dense,
    Fixed,
    Saturated,
    Softmax,
    Uniform,
    Window,
)
from asymptest.theory.errors import ArgumentError, ShapeError, UnsupportedError
from asymptest.theory.masks import as_mask
from asymptest.verify.catalogue import claims_of
from asymptest.verify.census import (
    attended,
    attention_of,
    census,
    classify,
)
from asymptest.verify.check import check
from asymptest.verify.finite import finite
from asymptest.verify.saturated_attention import saturated

EPS = torch.finfo(torch.float64).eps
T, N = 6, 8
CAUSAL = torch.ones(T, T).triu(1).bool()
PRINTED = "heads/product-mask-hides-printed"


def states(seed: int, batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, T, N, generator=generator, dtype=torch.float64)


def uniform(mask: Any = "full", size: int = T) -> Tensor:
    seen = torch.tensor(mask_array(mask, size)).double()
    return seen / seen.sum(-1, keepdim=True)


def test_attended_counts_weights_above_1e_5() -> None:
    A = torch.tensor([[1 - 3e-5, 2e-5, 1e-5, 0], [0.25, 0.25, 0.25, 0.25]]).double()
    assert attended(A).tolist() == [2, 4]
    assert attended(A, threshold=0.3).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("mask", "visible"),
    [("full", T), ("causal", (T + 1) / 2), (Window(2), (2 * T - 1) / T)],
)
def test_mean_and_argmax_heads(mask: Any, visible: float) -> None:
    """A mean head attends to what the mask leaves, (T + 1) / 2 if causal, the other to 1."""
    mean, argmax = classify(torch.stack([uniform(mask), torch.eye(T).double()]), mask)
    assert (mean.head, argmax.head) == (0, 1)
    assert abs(mean.attended - visible) <= 4 * T * EPS
    assert mean.visible == argmax.visible == visible
    assert argmax.attended == 1
    assert (mean.kind, argmax.kind) == ("mean", "argmax")
    assert mean.hidden == argmax.hidden == 0


@pytest.mark.parametrize(
    ("wide", "kind"),
    [
        (0, "argmax"),
        (5, "argmax"),  # 5 / 101 of the way from one position to all: 4.95 %
        (6, "mixed"),
        (95, "mixed"),
        (96, "mean"),  # 95.05 %
        (101, "mean"),
    ],
)
def test_kinds_are_told_apart_at_the_cuts(wide: int, kind: str) -> None:
    """At T = 101, `wide` rows attend to all positions and the others to one."""
    A = torch.eye(101).double()
    A[:wide] = 1 / 101
    (head,) = classify(A[None])
    assert head.kind == kind


def test_the_batch_is_averaged_and_the_heads_are_not() -> None:
    """Two sequences, two heads: (argmax, mean) and (mean, mean)."""
    mean, one = uniform(), torch.eye(T).double()
    A = torch.stack([torch.stack([one, mean]), torch.stack([mean, mean])])
    heads = classify(A, layer="third")
    assert [head.attended for head in heads] == [(1 + T) / 2, T]
    assert [head.kind for head in heads] == ["mixed", "mean"]
    assert [head.layer for head in heads] == ["third"] * 2


def test_the_product_mask_is_seen() -> None:
    """Negative scores, all different: the paper's histogram has 41.01196, not 42.

    Row i < T attends to the T - i future positions, whose score is 0, and the last row to
    one. The published maximum is read off a plot.
    """
    size = 83
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(4, size, size, generator=generator).argsort(-1)
    scores = -1000.0 * (1 + order.double())
    for head in classify(torch.softmax(scores.tril(), -1), "causal"):
        assert abs(head.attended - 3404 / 83) <= size * EPS
        assert abs(head.attended - 41.01196) <= 1e-4
        assert abs(head.hidden - 3403 / 83) <= size * EPS  # all but the last row's
        assert head.visible == 42
    hidden = torch.ones(size, size).triu(1).bool()
    minus = torch.softmax(scores.masked_fill(hidden, -torch.inf), -1)
    for head in classify(minus, "causal"):
        assert (head.attended, head.hidden, head.kind) == (1, 0, "argmax")


def test_the_search_finds_the_row_that_sees_the_future() -> None:
    """One negative visible score in the first of two rows is the smallest way."""
    claim = next(c for c in claims_of("heads") if c.name == PRINTED)
    verdict = check(claim, "quick", seed=3)
    assert verdict.agrees
    scores = literal_eval(verdict.evidence[0].counterexample or "")
    assert scores == ((-1, 1), (1, 1))


def two_heads() -> nn.MultiheadAttention:
    """Head 0 has no queries, so it averages; head 1 compares by a negative identity."""
    attention = nn.MultiheadAttention(N, 2, bias=False, batch_first=True).double()
    with torch.no_grad():
        attention.in_proj_weight.zero_()
        half = torch.arange(N // 2, N)
        attention.in_proj_weight[half, half] = -1  # queries
        attention.in_proj_weight[N + half, half] = 1000  # keys
        attention.in_proj_weight[2 * N :] = torch.eye(N)
    return attention


@pytest.mark.parametrize("positional", [True, False])
def test_heads_of_multihead_attention(positional: bool) -> None:
    """Head by head, though torch averages them unless told otherwise."""
    X = states(0)
    arguments = (X, X, X, None, False, CAUSAL)
    named = {"query": X, "key": X, "value": X, "attn_mask": CAUSAL}
    mean, other = census(two_heads(), arguments if positional else named, "causal")
    assert (mean.attended, mean.kind) == ((T + 1) / 2, "mean")
    assert (other.attended, other.kind) == (1, "argmax")
    assert mean.hidden == other.hidden == 0


def test_a_module_that_sees_too_much_is_reported() -> None:
    """Full attention judged by the causal mask: T - i positions too many in row i."""
    X = states(1)
    mean, _ = census(two_heads(), (X, X, X), "causal")
    assert mean.attended == T
    assert mean.hidden == (T - 1) / 2


@pytest.mark.parametrize("mask", [None, CAUSAL])
def test_attention_of_an_encoder_is_torchs(mask: Tensor | None) -> None:
    """Layer by layer, on the states that each layer's attention gets."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(N, 2, 16, 0.5, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 3)
    found = attention_of(encoder, {"src": states(2), "mask": mask})
    assert encoder.training
    assert not any(
        [*part._forward_hooks, *part._forward_pre_hooks] for part in encoder.modules()
    )
    encoder.double().eval()
    X = states(2)
    for k, part in enumerate(encoder.layers):
        name, A = found[k]
        assert name == f"layers.{k}.self_attn"
        attention: Any = part.self_attn
        _, theirs = attention(X, X, X, attn_mask=mask, average_attn_weights=False)
        assert A.shape == theirs.shape == (3, 2, T, T)
        assert float((A - theirs).detach().abs().max()) <= 2**10 * EPS
        X = part(X, src_mask=mask)


def test_saturated_attention_is_counted() -> None:
    torch.manual_seed(1)
    attention = nn.MultiheadAttention(N, 2, batch_first=True)
    X = states(3)
    inputs = {"query": X, "key": X, "value": X, "attn_mask": CAUSAL}
    soft = census(attention, inputs, "causal")
    hard = census(saturated(attention), inputs, "causal")
    assert Counter(head.kind for head in soft) == {"mean": 2}
    assert Counter(head.kind for head in hard) == {"argmax": 2}


@pytest.mark.parametrize(
    ("pattern", "heads", "count"),
    [
        (Uniform(), 1, (T + 1) / 2),  # one matrix for all heads
        (Softmax("1/d"), 2, (T + 1) / 2),
        (Saturated(), 2, 1.0),
        (Fixed(np.eye(T)), 1, 1.0),
        (Fixed(np.stack([np.eye(T), uniform("causal").numpy()])), 2, None),
    ],
)
def test_finite_networks(pattern: Any, heads: int, count: float | None) -> None:
    mask = "full" if isinstance(pattern, Fixed) else "causal"
    network = Dense() >> Attention(pattern, mask, 2)
    found = census(finite(network, N, rng=0), states(4, batch=1), "causal")
    assert [head.head for head in found] == [*range(heads)]
    assert {head.layer for head in found} == {"body.1.pattern"}
    counts = [head.attended for head in found]
    assert counts == ([1.0, (T + 1) / 2] if count is None else [count] * heads)


# Errors.


def test_copies_are_different_networks() -> None:
    module = finite(Attention(Softmax()), N, copies=2)
    with pytest.raises(ArgumentError, match="holds 2 copies"):
        census(module, states(5, batch=1))


def test_cross_attention_is_refused() -> None:
    attention = nn.MultiheadAttention(N, 2, batch_first=True)
    X = states(6)
    with pytest.raises(ShapeError, match="from 6 positions to 4"):
        census(attention, (X, X[:, :4], X[:, :4]))


def test_no_attention() -> None:
    """An empty census would read as a network without heads of any kind."""
    with pytest.raises(UnsupportedError, match="Linear runs no attention"):
        census(nn.Linear(N, N), states(7))


@pytest.mark.parametrize(
    "row", [[0.5, 0.4], [1.5, -0.5], [torch.nan, 1.0], [0.0, 0.0]], ids=str
)
def test_rows_are_probabilities(row: list[float]) -> None:
    A = torch.tensor([[row, [0.5, 0.5]]])
    with pytest.raises(ArgumentError, match="1 of 2 rows do not"):
        classify(A)


def test_where_all_kinds_are_the_same() -> None:
    with pytest.raises(ArgumentError, match="T >= 2"):
        classify(torch.ones(1, 1, 1))
    with pytest.raises(ArgumentError, match="wider mask"):
        classify(torch.eye(T)[None], Window(1))


def test_the_mask_fits() -> None:
    with pytest.raises(ShapeError, match="the mask is for 2"):
        classify(torch.eye(T)[None], as_mask(np.eye(2)))
