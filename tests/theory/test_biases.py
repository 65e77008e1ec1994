"""Logit biases: slopes of ALiBi and buckets of T5, against the paper and transformers."""

from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest.theory import ALiBi, Attention, RelativeBias, Softmax
from asymptest.theory.arrays import Array
from asymptest.theory.biases import as_bias, bias_heads
from asymptest.theory.errors import ArgumentError, AsymptestError, ShapeError

TEXT: Any = "1"

# Press et al., section 3: for 8 heads 1/2, 1/4, ..., 1/256, for 16 heads these and
# geometric means with their predecessors. The authors' code fills up other numbers.
HALVES = [2.0**-k for k in range(1, 9)]
SLOPES = {
    1: [2**-8],
    2: [2**-4, 2**-8],
    3: [2**-4, 2**-8, 2**-2],
    4: [2**-2, 2**-4, 2**-6, 2**-8],
    6: [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3],
    8: HALVES,
    12: [*HALVES, 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5],
    16: [2 ** (-k / 2) for k in range(1, 17)],
}


@pytest.mark.parametrize("heads", SLOPES)
def test_slopes_are_those_of_the_paper(heads: int) -> None:
    """Powers of two and their roots, to the last bit."""
    assert ALiBi().of(heads) == tuple(SLOPES[heads])


def test_slopes_are_those_of_bloom() -> None:
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    for heads in range(1, 40):
        alibi = bloom.build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)
        # It holds slope * j, computed as a power in float32.
        np.testing.assert_allclose(ALiBi().of(heads), alibi[:, 0, 1], rtol=2e-6)


def test_given_slopes_are_kept() -> None:
    assert ALiBi((1.5, -2)).of(2) == (1.5, -2.0)


def exact_bucket(bias: RelativeBias, back: int) -> int:
    """Return the bucket of i - j = `back` in whole numbers.

    A distance past the `single` ones is in the k-th wide bucket or a later one where
    log(distance / single) >= k / wide * log(max_distance / single).
    """
    if bias.causal:
        first, buckets, distance = 0, bias.buckets, max(back, 0)
    else:
        buckets = bias.buckets // 2
        first, distance = buckets * (back < 0), abs(back)
    single = buckets // 2
    wide, most = buckets - single, bias.max_distance
    if distance < single:
        return first + distance
    starts = (
        distance**wide * single**k >= most**k * single**wide for k in range(1, wide)
    )
    return first + single + sum(starts)


BACK = np.arange(-300, 301)


@settings(max_examples=40)
@given(
    buckets=st.integers(1, 40),
    exponent=st.floats(0, 10),
    causal=st.booleans(),
)
def test_buckets_are_exact(buckets: int, exponent: float, causal: bool) -> None:
    """With a largest distance on a log scale, often at an exact border of two buckets."""
    buckets = buckets + 1 if causal else 2 * buckets + 2
    single = buckets // (2 if causal else 4)
    most = single + max(1, int(2**exponent))
    bias = RelativeBias(1.0, buckets, most, causal)
    expected = [exact_bucket(bias, int(back)) for back in BACK]
    np.testing.assert_array_equal(bias.bucket(BACK, 0), expected)
    some = slice(None, None, 7)
    assert [bias.bucket(7, 7 - int(b)) for b in BACK[some]] == expected[some]
    used = set(expected)
    assert used <= set(range(buckets))
    if most <= 300:
        # All distances from the largest on share the last bucket of their side.
        assert bias.bucket(300, 0) == bias.bucket(most, 0)
        assert bias.bucket(most, 0) == (buckets if causal else buckets // 2) - 1


# transformers takes the logarithms in float32, so that a distance where two buckets meet
# exactly may fall into the lower one. It does so at (17, 27), (19, 25) and (19, 196), causal;
# the other cases, the default of T5 among them, agree everywhere.
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("buckets", "most"),
    [
        *[(32, 128), (8, 16), (16, 64), (64, 256), (4, 3), (10, 100), (6, 50)],
        *[(128, 1024), (32, 20), (12, 192), (4, 128), (17, 27), (19, 25), (19, 196)],
    ],
)
def test_buckets_are_those_of_t5(buckets: int, most: int, causal: bool) -> None:
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5").T5Attention
    if not causal and buckets % 2:
        buckets += 1
    bias = RelativeBias(1.0, buckets, most, causal)
    theirs = t5._relative_position_bucket(
        torch.tensor(-BACK),  # the key's position minus the query's
        bidirectional=not causal,
        num_buckets=buckets,
        max_distance=most,
    ).numpy()
    ours = bias.bucket(BACK, 0)
    for back, one, other in zip(BACK, ours, theirs, strict=True):
        if one != other:
            assert one == other + 1 == exact_bucket(bias, int(back))
            assert meets(bias, abs(int(back)))


def meets(bias: RelativeBias, distance: int) -> bool:
    """Say whether a wide bucket starts exactly at this distance."""
    buckets = bias.buckets if bias.causal else bias.buckets // 2
    single = buckets // 2
    wide, most = buckets - single, bias.max_distance
    return any(
        distance**wide * single**k == most**k * single**wide for k in range(1, wide)
    )


def test_other_biases_become_arrays() -> None:
    assert as_bias(None, "bias") is None
    assert as_bias(ALiBi(), "bias") == ALiBi()
    table = as_bias(np.arange(4.0).reshape(2, 2), "bias")
    assert table == Array.of([[0, 1], [2, 3]])
    assert as_bias(np.zeros((3, 2, 2)), "bias") == Array.of(np.zeros((3, 2, 2)))


def test_who_fixes_the_heads() -> None:
    for bias in (None, ALiBi(), RelativeBias(), Array.of(np.eye(2))):
        assert bias_heads(bias) is None
    assert bias_heads(ALiBi((1.0, 2.0))) == 2
    assert bias_heads(Array.of(np.zeros((3, 2, 2)))) == 3


s = sp.Symbol("s", positive=True)
nan, inf = float("nan"), float("inf")
Make = Callable[[], Any]
BAD: list[tuple[Make, type[AsymptestError], str]] = [
    (lambda: ALiBi([0.5, nan]), ArgumentError, r"ALiBi.slopes .*finite.*nan"),  # type: ignore[arg-type]
    (lambda: ALiBi([[0.5]]), ShapeError, r"ALiBi.slopes .*one a head.*\(1, 1\)"),  # type: ignore[arg-type]
    (lambda: ALiBi(()), ShapeError, r"ALiBi.slopes .*not empty"),
    (lambda: RelativeBias(-1.0), ArgumentError, r"RelativeBias.variance .*-1.0"),
    (lambda: RelativeBias(nan), ArgumentError, r"RelativeBias.variance .*nan"),
    (lambda: RelativeBias(inf), ArgumentError, r"RelativeBias.variance .*inf"),
    (lambda: RelativeBias(s), ArgumentError, r"RelativeBias.variance .*number.*got s"),  # type: ignore[arg-type]
    (lambda: RelativeBias(TEXT), ArgumentError, r"RelativeBias.variance .*got '1'"),
    (lambda: RelativeBias(buckets=1), ArgumentError, r"buckets .*at least 2.*got 1"),
    (lambda: RelativeBias(buckets=8.0), ArgumentError, r"buckets .*whole.*8.0"),  # type: ignore[arg-type]
    (
        lambda: RelativeBias(buckets=7, causal=False),
        ArgumentError,
        r"buckets must be at least 4, and even unless causal; got 7",
    ),
    (
        lambda: RelativeBias(buckets=2, causal=False),
        ArgumentError,
        r"buckets must be at least 4, and even unless causal; got 2",
    ),
    (
        lambda: RelativeBias(buckets=32, max_distance=16),
        ArgumentError,
        r"max_distance must exceed the 16 distances .* own; got 16",
    ),
    (lambda: RelativeBias(max_distance=inf), ArgumentError, r"max_distance .*inf"),  # type: ignore[arg-type]
    (lambda: RelativeBias(max_distance=nan), ArgumentError, r"max_distance .*nan"),  # type: ignore[arg-type]
    (lambda: Softmax(bias="alibi"), ShapeError, r"Softmax.bias .*'alibi'"),
    (lambda: Softmax(bias=[[0.0, -inf]] * 2), ArgumentError, r"Softmax.bias .*-inf"),
    (
        lambda: Softmax(bias=np.zeros((2, 3))),
        ShapeError,
        r"Softmax.bias must be ALiBi.*\(2, 3\)",
    ),
    (
        lambda: Attention(Softmax(bias=ALiBi((1.0, 2.0))), heads=3),
        ShapeError,
        r"is for 2 heads but Attention.heads is 3",
    ),
    (
        lambda: Attention(Softmax(bias=np.zeros((2, 3, 3)))),
        ShapeError,
        r"is for 2 heads but Attention.heads is 1",
    ),
    (
        lambda: Attention(Softmax(bias=ALiBi()), heads="sqrt"),
        ArgumentError,
        r"ALiBi has a slope for each head: give Attention.heads as a number",
    ),
    (
        lambda: Attention(Softmax(bias=np.eye(3)), np.eye(2)),
        ShapeError,
        r"different numbers of positions, \[2, 3\]",
    ),
]


@pytest.mark.parametrize(("make", "error", "says"), BAD)
def test_bad_input_is_named(
    make: Make,
    error: type[AsymptestError],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Users do not run under the shape checker of this test-suite.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(error, match=says):
        make()
