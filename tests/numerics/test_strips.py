"""Strips, mirrors and sums: every entry once, whatever the size."""

import numpy as np
import pytest

from asymptest.numerics.strips import (
    CELLS,
    TILE,
    by_strips,
    mirrored,
    strips,
    transposed,
    upper_strips,
    weighted_sum,
)

EPS = float(np.finfo(np.float64).eps)
SIZES = [1, 2, TILE - 1, TILE, TILE + 1, 3 * TILE + 5, 400]


@pytest.mark.parametrize("T", SIZES)
def test_upper_strips_are_the_upper_triangle(T: int) -> None:
    """No entry above the diagonal is left out, none is in two strips, none is too many."""
    counts = np.zeros((T, T), dtype=int)
    for rows, columns in upper_strips(T):
        counts[rows, columns] += 1
        assert counts[rows, columns].size <= max(CELLS, T)
    assert (np.triu(counts) == np.triu(np.ones((T, T)))).all()


@pytest.mark.parametrize("shape", [(), (5,), (1, 1), (400, 400), (3, 200, 200)])
def test_strips_are_all_rows(shape: tuple[int, ...]) -> None:
    counts = np.zeros(shape, dtype=int)
    for at in strips(shape):
        counts[at] += 1
    assert (counts == 1).all()


@pytest.mark.parametrize("stack", [(), (2,)])
@pytest.mark.parametrize("T", SIZES)
def test_mirrored_keeps_what_is_above_the_diagonal(
    T: int, stack: tuple[int, ...]
) -> None:
    K = np.random.default_rng(T).standard_normal((*stack, T, T))
    upper = np.triu(K)
    expected = upper + np.triu(K, 1).mT
    assert mirrored(K) is K
    assert (expected == K).all()


@pytest.mark.parametrize("T", SIZES)
def test_transposed_is_a_copy_of_the_transpose(T: int) -> None:
    X = np.random.default_rng(T).standard_normal((T, T + 3))
    found = transposed(X)
    assert (found == X.T).all()
    assert found.flags.c_contiguous


@pytest.mark.parametrize("T", SIZES)
def test_by_strips_knows_where_a_strip_is(T: int) -> None:
    """Each entry gets the numbers of its row and column, at or above the diagonal."""
    at = np.arange(T)
    found = by_strips(
        lambda K, rows, columns: K + 1000 * at[rows, None] + at[columns], np.eye(T)
    )
    low, high = np.minimum.outer(at, at), np.maximum.outer(at, at)
    assert (found == np.eye(T) + 1000 * low + high).all()


@pytest.mark.parametrize("shape", [(7,), (300, 300), (3, 200, 200)])
def test_a_weighted_sum(shape: tuple[int, ...]) -> None:
    """The same as written out; of the arrays, only the first is written, and if allowed."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(shape), rng.standard_normal(shape[-2:])
    given = a.copy(), b.copy()
    expected, bound = 0.5 + 2 * a + 3 * b, 4 * EPS * (0.5 + abs(2 * a) + abs(3 * b))
    assert (abs(weighted_sum(0.5, (2, a), (3, b)) - expected) <= bound).all()
    assert (abs(weighted_sum(0.5, (3, b), (2, a)) - expected) <= bound).all()
    assert (weighted_sum(0, (2, a)) == 2 * a).all()
    assert (a == given[0]).all()
    assert weighted_sum(0.5, (2, a), (3, b), in_place=True) is a
    assert (abs(a - expected) <= bound).all()
    assert (b == given[1]).all()
