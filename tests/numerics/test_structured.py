"""A K A^T: in O(T^2) where A averages over intervals, and exactly symmetric for any A."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymptest.numerics.attention import mask_array, structured, uniform
from asymptest.numerics.kernel import kernel
from asymptest.numerics.structured import (
    BLOCK,
    Averages,
    as_averages,
    congruence,
)
from asymptest.theory import (
    ALiBi,
    Attention,
    Blocks,
    Dense,
    Fixed,
    Padding,
    Pointwise,
    Softmax,
    Uniform,
    Window,
    relu,
)
from asymptest.theory.errors import ShapeError
from asymptest.theory.masks import as_mask

EPS = float(np.finfo(np.float64).eps)


@st.composite
def interval_masks(draw: st.DrawFn, T: int) -> Any:
    """Draw a mask for T positions, of every named kind."""
    lengths = []
    while sum(lengths) < T:
        lengths.append(draw(st.integers(1, T - sum(lengths))))
    causal, size = draw(st.booleans()), draw(st.integers(1, T))
    kinds = [
        Window(size, causal),
        Blocks(tuple(lengths), causal),
        Padding(size, causal),
    ]
    table = as_mask(draw(interval_tables(T)))
    return draw(st.sampled_from(["full", "causal", *kinds, table]))


@st.composite
def interval_tables(draw: st.DrawFn, T: int) -> np.ndarray:
    """Draw a table whose rows are intervals, neither end of which moves back."""
    table, start, stop = np.zeros((T, T), bool), 0, 0
    for row in range(T):
        stop = max(stop, draw(st.integers(0, T)), row == T - 1, 1)
        start = min(max(start, draw(st.integers(0, T))), stop - 1)
        table[row, start:stop] = True
    return table


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, Any]:
    """Draw a kernel with variances from 1e-20 to 1e20, equal and opposite rows, and a mask."""
    T, width = draw(st.integers(1, 40)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    X = rng.standard_normal((T, width))
    for i in range(1, T):
        if draw(st.booleans()):
            X[i] = draw(st.sampled_from([1, -1])) * X[rng.integers(i)]
    exponents = st.lists(st.floats(-10, 10), min_size=T, max_size=T)
    X *= 10.0 ** np.array(draw(exponents))[:, None]
    return X @ X.T, draw(interval_masks(T))


def dense(A: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Return A K A^T in extended precision; a mask stands for its equal weights."""
    assert np.finfo(np.longdouble).eps < EPS / 1000
    weights = A.astype(np.longdouble)
    if A.dtype == bool:
        weights /= A.sum(1, keepdims=True)
    return weights @ K.astype(np.longdouble) @ weights.T


@given(cases())
def test_averages_over_intervals_to_the_scale_of_each_row(case: Any) -> None:
    """A row of 1e-10 beside rows of 1e10 keeps its digits: nothing large was subtracted."""
    K, mask = case
    T = len(K)
    seen = mask_array(mask, T)
    found = congruence(averages_of(seen), K)
    reach = uniform(seen) @ np.sqrt(np.diagonal(K))
    assert (
        np.abs(found - dense(seen, K)) <= (T + 2) * EPS * np.outer(reach, reach)
    ).all()
    assert (found == found.T).all()


def averages_of(seen: np.ndarray) -> Averages:
    found = as_averages(seen)
    assert found is not None
    return found


@given(st.data(), st.integers(1, 60))
def test_every_named_mask_is_one_of_intervals(data: st.DataObject, T: int) -> None:
    """A times the identity is the matrix of equal weights, column by column."""
    mask = data.draw(interval_masks(T))
    A = structured(Attention(Uniform(), mask), T)
    assert A is not None
    expected = uniform(mask_array(mask, T))
    assert np.abs(A @ np.eye(T) - expected).max() <= EPS
    assert ((A @ np.eye(T) > 0) == (expected > 0)).all()
    assert np.abs(A @ np.ones(T) - 1).max() <= T * EPS


def test_runs_of_intervals_read_each_row_a_few_times() -> None:
    """Also where only pairs of intervals start together: T runs would read T^2 rows."""
    i = np.arange(512)
    A = averages_of((i >= (i // 2)[:, None]) & (i <= i[:, None]))
    first = rows = 0
    while first < len(A.start):
        last, cut = A._run(first)
        assert A.start[last - 1] <= cut <= A.stop[first]
        rows += A.stop[last - 1] - A.start[first]
        first = last
    assert rows < 3 * 512


@pytest.mark.parametrize("mask", ["causal", Window(100), Window(7, causal=False)])
def test_many_positions(mask: Any) -> None:
    """1e-12 of the largest entry at T = 500, where all entries have one sign."""
    K = np.full((500, 500), 0.1) + 0.01 * np.eye(500)
    seen = mask_array(mask, 500)
    found, expected = congruence(averages_of(seen), K), dense(seen, K)
    assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize(
    "seen",
    [
        [[1, 0, 1], [1, 1, 1], [1, 1, 1]],  # a gap
        [[0, 1, 1], [1, 1, 1], [0, 1, 1]],  # a start that moves back
        [[1, 1, 1], [1, 1, 0], [1, 1, 1]],  # an end that moves back
    ],
)
def test_what_is_not_structured_goes_the_dense_way(seen: list[list[int]]) -> None:
    """Such a mask has no averages over intervals, and its kernel is right all the same."""
    table = np.array(seen, dtype=bool)
    assert as_averages(table) is None
    layer = Attention(Uniform(), as_mask(table))
    assert structured(layer, 3) is None
    K = np.diag([1.0, 2.0, 4.0])
    assert np.abs(kernel(layer, K) - dense(table, K)).max() <= 8 * EPS


def test_an_array_of_intervals_is_structured() -> None:
    assert as_averages(np.tri(7) > 0) == structured(Attention(Uniform(), "causal"), 7)


MASKS = [
    "full",
    "causal",
    Window(3),
    Window(2, causal=False),
    Blocks((4, 1, 3)),
    Blocks((4, 1, 3), causal=True),
    Padding(5),
    Padding(5, causal=True),
]
ZERO_LOGITS = [Uniform(), Softmax("1/d"), Softmax(variance=0)]


@pytest.mark.parametrize("pattern", ZERO_LOGITS, ids=repr)
@pytest.mark.parametrize("mask", MASKS, ids=repr)
def test_the_kernel_of_uniform_attention_forms_no_matrix(
    mask: Any, pattern: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is that of the matrix given as such, with biases, where no matrix can be had."""
    X = np.random.default_rng(0).standard_normal((8, 5))
    K, value, output = X @ X.T, Dense(0.7, 0.2), Dense(1.3, 0.4)
    matrix = Fixed(uniform(mask_array(mask, 8)))
    expected = kernel(Attention(matrix, value=value, output=output), K)
    module = import_module("asymptest.numerics.layers")
    monkeypatch.delattr(module, "attention_matrices")
    found = kernel(Attention(pattern, mask, value=value, output=output), K)
    assert np.abs(found - expected).max() <= 16 * EPS * expected.max()
    assert (found == found.T).all()


@pytest.mark.parametrize(
    "pattern", [Softmax("1/d", bias=ALiBi()), Softmax("1/d", tied=True), Softmax()]
)
def test_logits_that_do_not_vanish_are_not_uniform(pattern: Softmax) -> None:
    assert structured(Attention(pattern, "causal", heads=2), 3) is None


@pytest.mark.parametrize("mask", [Blocks((2, 2)), Padding(4)])
def test_a_mask_for_other_positions_is_refused(mask: Any) -> None:
    with pytest.raises(ShapeError, match="positions"):
        structured(Attention(Uniform(), mask), 3)


def test_what_cancels_is_a_zero_row() -> None:
    """x and -x average to nothing, beside rows a billion times smaller and larger."""
    X = np.array([[1e-9], [1.1], [-1.1], [3e9], [-3e9]])
    layer = Attention(Uniform(), Blocks((1, 2, 2)))
    K = kernel(layer >> Pointwise(relu), X @ X.T)
    expected = np.zeros((5, 5))
    expected[0, 0] = 1e-18 / 2
    assert np.abs(K - expected).max() <= 4 * EPS * 1e-18


@pytest.mark.parametrize("stack", [(), (3,)])
@pytest.mark.parametrize("T", [1, 5, BLOCK - 1, BLOCK + 3])
def test_a_dense_congruence(T: int, stack: tuple[int, ...]) -> None:
    """Any A, one or several, in one block or two; as accurate as the products, symmetric."""
    rng = np.random.default_rng(T)
    A, X = rng.standard_normal((*stack, T, T)), rng.standard_normal((T, 3))
    K = X @ X.T
    found = congruence(A, K)
    reach = np.abs(A) @ np.sqrt(np.diagonal(K))
    for at in np.ndindex(stack):
        bound = (T + 2) * EPS * np.outer(reach[at], reach[at])
        assert (np.abs(found[at] - dense(A[at], K)) <= bound).all()
    assert (found == found.mT).all()


def test_the_kernel_of_one_network_is_an_input_of_the_next() -> None:
    """Rounding leaves it symmetric, as an input has to be."""
    X = np.random.default_rng(0).standard_normal((200, 300))
    layer = Attention(Softmax("1/d", tied=True))
    K = kernel(layer, X @ X.T / 300)
    assert np.isfinite(kernel(layer, K)).all()
