"""Masks: who sees whom, by an independent definition of each."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymptest.theory.arrays import Array
from asymptest.theory.errors import ArgumentError, ShapeError
from asymptest.theory.masks import Blocks, Padding, Window, as_mask, positions, visible

lengths = st.lists(st.integers(1, 4), min_size=1, max_size=4)
masks = st.one_of(
    st.sampled_from(["full", "causal"]),
    st.builds(Window, st.integers(1, 6), st.booleans()),
    st.builds(Blocks, lengths.map(tuple), st.booleans()),
    st.builds(Padding, st.integers(1, 6), st.booleans()),
)


def table(mask: Any, T: int) -> np.ndarray:
    """The T x T table of visible positions, filled in by the meaning of the mask."""
    seen = np.zeros((T, T), dtype=bool)
    match mask:
        case "full":
            seen[:] = True
        case "causal":
            for i in range(T):
                seen[i, : i + 1] = True
        case Window():
            for i in range(T):
                seen[i, max(0, i - mask.size + 1) : i + 1] = True
            if not mask.causal:
                seen |= seen.T
        case Blocks():
            owner = [b for b, length in enumerate(mask.lengths) for _ in range(length)]
            for i in range(T):
                for j in range(T):
                    ordered = j <= i or not mask.causal
                    seen[i, j] = owner[i] == owner[j] and ordered
        case Padding():
            for i in range(T):
                seen[i, : min(mask.length, i + 1 if mask.causal else T)] = True
        case _:
            raise AssertionError(mask)
    return seen


@given(masks, st.integers(1, 8))
def test_visible_is_its_definition(mask: Any, T: int):
    """On integers and on integer arrays, visible fills the table of the mask."""
    T = positions(mask) or T
    expected = table(mask, T)
    one_by_one = [[visible(mask, i, j) for j in range(T)] for i in range(T)]
    assert all(type(value) is bool for row in one_by_one for value in row)
    np.testing.assert_array_equal(one_by_one, expected)
    i, j = np.arange(T)[:, None], np.arange(T)[None, :]
    found = visible(mask, i, j)
    assert found.dtype == bool
    np.testing.assert_array_equal(np.broadcast_to(found, (T, T)), expected)
    assert found.shape in {(T, T), (1, T)}


@given(masks, st.integers(1, 8))
def test_no_position_sees_nothing(mask: Any, T: int):
    """Every row has a visible position, or its softmax would divide by zero."""
    T = positions(mask) or T
    assert all(any(visible(mask, i, j) for j in range(T)) for i in range(T))


@given(lengths)
def test_positions_that_a_mask_fixes(sizes: list[int]):
    """Blocks and arrays fix T; the other masks fit any."""
    assert positions(Blocks(tuple(sizes))) == sum(sizes)
    assert positions(as_mask(np.eye(len(sizes), dtype=bool))) == len(sizes)
    assert {positions(m) for m in ("full", "causal", Window(2), Padding(2))} == {None}


def test_as_mask_keeps_masks_and_reads_arrays():
    """Named masks pass; NumPy tables and nested lists become one constant array."""
    for mask in ("full", "causal", Window(2), Blocks((1, 2)), Padding(3)):
        assert as_mask(mask) is mask
    tril = np.tril(np.ones((3, 3), dtype=bool))
    array = as_mask(tril)
    assert isinstance(array, Array)
    assert array == as_mask(tril.tolist()) == as_mask(array)
    assert array.tolist() == tril.tolist()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Window(0), ArgumentError, "Window.size.*at least 1.*got 0"),
        (lambda: Blocks(()), ArgumentError, r"Blocks.lengths.*got \(\)"),
        (lambda: Blocks((2, 0)), ArgumentError, r"positive.*got \(2, 0\)"),
        (lambda: Padding(0), ArgumentError, "Padding.length.*got 0"),
        (lambda: as_mask("casual"), ArgumentError, "'full', 'causal'.*got 'casual'"),
        (lambda: as_mask([[1, 0]]), ShapeError, r"T x T.*got the shape \(1, 2\)"),
        (lambda: as_mask([1, 0]), ShapeError, r"T x T.*\(2,\)"),
        (lambda: as_mask([[1, 0], [0]]), ShapeError, "rectangular"),
        (lambda: as_mask([[1, 0], [0, 0]]), ArgumentError, "from position 1.*itself"),
        (lambda: as_mask([[1, 2], [0, 1]]), ArgumentError, "boolean.*row 0"),
        (lambda: as_mask([[1, np.nan], [0, 1]]), ArgumentError, "boolean.*nan"),
        (lambda: as_mask(None), ShapeError, "mask must hold real numbers"),
        (lambda: visible(as_mask([[1]]), 0, 0), ShapeError, "its own table"),
    ],
)
def test_what_is_no_mask(make: Any, error: type[Exception], message: str):
    """Each error names the argument, what it must be, and what came."""
    with pytest.raises(error, match=message):
        make()
