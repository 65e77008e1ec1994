"""Saturated attention against torch's own softmax at very large scores."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from asymptest.theory import Attention, Padding, Saturated, Softmax
from asymptest.theory.errors import AccuracyError, ArgumentError, UnsupportedError
from asymptest.theory.patterns import TIE
from asymptest.verify.finite import finite
from asymptest.verify.saturated_attention import saturated, saturated_weights

EPS = torch.finfo(torch.float64).eps
LOWEST = torch.finfo(torch.float64).min
T, N, HEADS = 6, 8, 2


def weights_of(*scores: float) -> list[float]:
    return saturated_weights(torch.tensor(scores, dtype=torch.float64)).tolist()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((3.0,), [1]),
        ((1.0, 3, 3), [0, 0.5, 0.5]),  # all weight on the first maximum
        ((0.0, 0, 0, 0), [0.25] * 4),
        ((-2.0, -1, -3), [0, 1, 0]),
        ((-2.0, -torch.inf), [1, 0]),  # a hidden position counted as the score 0
        ((-2.0, LOWEST - 1, -2), [0.5, 0, 0.5]),
        # A tolerance relative to the mask's number would tie everything.
        ((-2.0, LOWEST, 5), [0, 0, 1]),
        ((1e300, 1e300, -1e300), [0.5, 0.5, 0]),
        ((1.0, 1 + TIE / 2), [0.5, 0.5]),
        ((1.0, 1 + 2 * TIE), [0, 1]),
        ((-1e3, -1e3 * (1 + TIE / 2), -1e3 * (1 + 2 * TIE)), [0.5, 0.5, 0]),
    ],
)
def test_weights_by_hand(scores: tuple[float, ...], expected: list[float]) -> None:
    assert weights_of(*scores) == expected


def test_a_row_that_sees_nothing_is_nan_as_in_softmax() -> None:
    assert all(math.isnan(w) for w in weights_of(-torch.inf, -torch.inf))
    assert all(math.isnan(w) for w in weights_of(LOWEST, LOWEST))


def test_the_axis_is_the_one_asked_for() -> None:
    scores = torch.tensor([[1.0, 2.0], [1.0, 3.0]]).double()
    columns = saturated_weights(scores, dim=0)
    assert columns.tolist() == [[0.5, 0], [0.5, 1]]


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.sampled_from([1e3, 1e6])
)
def test_it_is_softmax_at_large_scores(z: list[int], c: float) -> None:
    """On integers e^-1000 is 0 in float64, so nothing but rounding is left."""
    scores = torch.tensor(z, dtype=torch.float64)
    gap = saturated_weights(scores) - torch.softmax(c * scores, 0)
    assert float(gap.abs().max()) <= 2 * EPS


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_overflow_is_refused(bad: float) -> None:
    """nan compares as False: without a check it would count as hidden."""
    with pytest.raises(AccuracyError, match="nan or inf"):
        weights_of(1.0, bad)


def test_float32_is_refused() -> None:
    """Equal tokens' scores differ by 1e-7 there, and would not tie."""
    with pytest.raises(ArgumentError, match="float32"):
        saturated_weights(torch.ones(2))


# Modules: the oracle is the module itself with its queries 2^30 times as large.


def sharpened(module: nn.Module) -> nn.Module:
    """Multiply the queries of every MultiheadAttention: softmax at very large scores."""
    for part in module.modules():
        if isinstance(part, nn.MultiheadAttention):
            with torch.no_grad():
                for weights in (
                    part.in_proj_weight,
                    part.in_proj_bias,
                    part.q_proj_weight,
                ):
                    if weights is not None:
                        weights[: part.embed_dim] *= 2.0**30
    return module.double().eval()


def states(seed: int, batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, T, N, generator=generator, dtype=torch.float64)


def same(ours: Tensor, theirs: Tensor) -> bool:
    """Up to rounding of a few layers of width 16, whose states are of order 1."""
    return float((ours - theirs).abs().max()) <= 2**12 * EPS


CAUSAL = nn.Transformer.generate_square_subsequent_mask(T, dtype=torch.float64)
PADDED = torch.arange(T).expand(3, T) >= torch.tensor([[T], [T - 2], [1]])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attn_mask": CAUSAL},
        {"attn_mask": CAUSAL.isinf()},
        {"attn_mask": CAUSAL, "is_causal": True},
        {"attn_mask": CAUSAL.isinf(), "key_padding_mask": PADDED},
        {"key_padding_mask": PADDED},
    ],
    ids=["full", "causal", "boolean", "hint", "causal and padded", "padded"],
)
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("kind", ["plain", "no bias", "other sizes", "zero key"])
def test_multihead_attention(
    options: dict[str, Any], need_weights: bool, kind: str
) -> None:
    """By torch's softmax and by its fused attention alike; masks stay masks."""
    torch.manual_seed(0)
    extra = {
        "plain": {},
        "no bias": {"bias": False},
        "other sizes": {"kdim": N, "vdim": N + 1},
        "zero key": {"add_zero_attn": True},
    }[kind]
    attention = nn.MultiheadAttention(N, HEADS, batch_first=True, **extra).double()
    X = states(0)
    V = torch.cat([X, X[..., :1]], -1) if kind == "other sizes" else X
    options = {**options, "need_weights": need_weights}
    ours, A = saturated(attention)(X, X, V, **options)
    with torch.no_grad():
        theirs, B = sharpened(attention)(X, X, V, **options)
    assert same(ours, theirs)
    assert (A is None) == (B is None) == (not need_weights)
    assert A is None or same(A, B)


def test_a_sequence_that_is_all_padding() -> None:
    """torch's fused attention gives it no weights at all, so only biases; so do we."""
    torch.manual_seed(3)
    attention = nn.MultiheadAttention(N, HEADS, batch_first=True).double().eval()
    X = states(6)
    blind = torch.zeros(3, T).bool()
    blind[1] = True
    options = {"key_padding_mask": blind, "need_weights": False}
    nn.init.ones_(attention.out_proj.bias)
    soft = attention(X, X, X, **options)[0].detach()  # the fast path would give nan
    ours, _ = saturated(attention)(X, X, X, **options)
    assert torch.equal(soft[1], torch.ones(T, N).double())
    assert torch.equal(ours[1], soft[1])
    assert bool(ours.isfinite().all())


def test_softmax_along_another_axis() -> None:
    """Along the first axis: the module is a function of torch's alone."""
    X = torch.tensor([[1.0, 2.0], [1.0, 3.0]])
    assert saturated(nn.Softmax(dim=0))(X).tolist() == [[0.5, 0], [0.5, 1]]


def test_equal_tokens_share_the_weight() -> None:
    """Three copies of one token, in any place: softmax cannot tell them apart either."""
    torch.manual_seed(1)
    attention = nn.MultiheadAttention(N, HEADS, batch_first=True)
    X = states(1, batch=30)
    X[:, [3, 4]] = X[:, [1]]
    _, A = saturated(attention)(X, X, X, average_attn_weights=False)
    assert torch.equal(A[..., 1], A[..., 3])
    assert torch.equal(A[..., 1], A[..., 4])
    third = (A == 1 / 3).any(-1)
    assert third.any()
    assert ((A == 1).any(-1) | third).all()


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mask": CAUSAL},
        {"mask": CAUSAL, "is_causal": True},
        {"src_key_padding_mask": PADDED},
    ],
    ids=["full", "causal", "hint", "padded"],
)
# Of torch, as the encoder is built: nested tensors are off with norm_first.
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
def test_encoder(norm_first: bool, batch_first: bool, options: dict[str, Any]) -> None:
    """Also where torch would run the whole layer as one kernel with softmax inside."""
    torch.manual_seed(2)
    layer = nn.TransformerEncoderLayer(
        N, HEADS, 16, 0.5, batch_first=batch_first, norm_first=norm_first
    )
    encoder = nn.TransformerEncoder(layer, 3).eval()
    X = states(2)
    X = X if batch_first else X.transpose(0, 1)
    ours = saturated(encoder)(X, **options)
    with torch.enable_grad():  # torch's plain path, which leaves padding as it is
        theirs = sharpened(encoder)(X, **options).detach()
    assert same(ours, theirs)


@pytest.mark.parametrize("mask", ["full", "causal", Padding(3)])
@pytest.mark.parametrize("scale", ["1/sqrt(d)", "1/d"])
def test_finite_network_is_the_saturated_pattern(mask: Any, scale: Any) -> None:
    """The description's Saturated() and the operator's replacement are two routes."""
    tied = scale == "1/d"
    soft, hard = (
        finite(Attention(pattern, mask, HEADS) * 2, N, 3, rng=5)
        for pattern in (Softmax(scale, tied), Saturated(scale, tied))
    )
    X = states(3)
    X[:, 4] = X[:, 1]
    assert same(saturated(soft)(X), hard(X).detach())
    assert not same(soft(X).detach(), hard(X).detach())


def test_the_module_is_left_as_it_is() -> None:
    """Weights, float32, training mode, and torch's own switches."""
    encoder = nn.TransformerEncoderLayer(N, HEADS, 16, batch_first=True)
    before = {name: p.clone() for name, p in encoder.state_dict().items()}
    output = saturated(encoder)(states(4).float())
    assert output.dtype == torch.float64
    assert not output.requires_grad
    assert encoder.training
    assert all(torch.equal(before[name], p) for name, p in encoder.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()


def test_the_switches_are_set_back_after_an_error() -> None:
    module = saturated(nn.MultiheadAttention(N, HEADS))
    with pytest.raises(AccuracyError):
        module(*[torch.full((T, N), torch.inf)] * 3)
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()


class Fused(nn.Module):
    def forward(self, X: Tensor) -> Tensor:
        attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return attend(X[None], X[None], X[None])[0][0]


def test_a_softmax_that_cannot_be_replaced_is_refused() -> None:
    """Otherwise soft attention would pass for saturated."""
    with pytest.raises(UnsupportedError, match="computes its softmax inside"):
        saturated(Fused())(states(5))


@pytest.mark.parametrize("hidden", [-1e9, -1e30, LOWEST, -torch.inf])
def test_a_mask_of_large_scores_makes_no_ties(hidden: float) -> None:
    assert weights_of(3.0, 2.5, 2.0, hidden) == [1, 0, 0, 0]
