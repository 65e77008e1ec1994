"""Rows in coordinates and rows in entries are the same rows."""

import numpy as np
import pytest
from scipy import stats

from asymptest.numerics import frames
from asymptest.numerics.frames import Rows, columns, from_columns, with_entries
from asymptest.verify.two_sample import deviation, distance

LEVEL = 1e-9
DRAWS = 20_000


def blocks(X: np.ndarray, size: int) -> list[np.ndarray]:
    return [X[..., k : k + size] for k in range(0, X.shape[-1], size)]


@pytest.mark.parametrize("size", [1, 3, 7, 50])
@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_coordinates_keep_products_and_means(n: int, size: int) -> None:
    X = np.random.default_rng(n).standard_normal((4, 3, n)) + 1
    rows = from_columns(blocks(X, size))
    assert rows.coordinates.shape == (4, 3, min(4, n))
    np.testing.assert_allclose(rows.gram(), X @ X.mT / n, atol=1e-14)
    np.testing.assert_allclose(rows.coordinates[..., 0], X.sum(-1) / n**0.5, atol=1e-13)
    C = X - X.mean(-1, keepdims=True)
    centred = rows.centred()
    np.testing.assert_allclose(centred @ centred.mT, C @ C.mT, atol=1e-12)


@pytest.mark.parametrize("n", [3, 4, 5, 100])
@pytest.mark.parametrize("at_once", [1, 2**16])
def test_entries_keep_products_and_means(
    n: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "COLUMNS", at_once)
    given = np.random.default_rng(0).standard_normal((4, 3, min(4, n)))
    rows = Rows(given, n)
    X = np.concatenate([*columns(rows, np.random.default_rng(1))], axis=-1)
    assert X.shape == (4, 3, n)
    np.testing.assert_allclose(X @ X.mT, given @ given.mT, rtol=0, atol=1e-10)
    np.testing.assert_allclose(X.sum(-1), n**0.5 * given[..., 0], atol=1e-10)
    again = with_entries(rows, np.random.default_rng(1))
    assert again.entries
    np.testing.assert_array_equal(again.coordinates, X)
    np.testing.assert_array_equal(
        np.concatenate([*columns(again, np.random.default_rng(2))], axis=-1), X
    )
    np.testing.assert_allclose(again.gram(), rows.gram(), atol=1e-10)
    C, D = again.centred(), rows.centred()
    np.testing.assert_allclose(C @ C.mT, D @ D.mT, atol=1e-10)


def test_axes_are_uniformly_random() -> None:
    """Rows across e, against rotations of fixed rows by SciPy's Haar matrices."""
    n = 3
    e = np.ones(n) / n**0.5
    basis = np.linalg.svd(np.eye(n) - np.outer(e, e))[0][:, : n - 1]
    given = np.array([[0.5, 1.0, 0.0], [0.0, 2.0, -1.0]])
    turns = stats.ortho_group(n - 1).rvs(DRAWS, random_state=3)
    theirs = given[:, :1] * e + given[:, 1:] @ (turns @ basis.T)
    rows = Rows(np.broadcast_to(given, (DRAWS, 2, 3)), n)
    ours = with_entries(rows, np.random.default_rng(4)).coordinates
    bound = 2 * deviation(LEVEL / 4, DRAWS)
    for statistic in (
        lambda X: X[:, 0, 0],
        lambda X: X[:, 1, 2],
        lambda X: (np.maximum(X[:, 0], 0) * np.maximum(X[:, 1], 0)).sum(-1),
        lambda X: X[:, 0, 0] * X[:, 1, 0] * X[:, 1, 1],
    ):
        assert distance(statistic(ours), statistic(theirs)) <= bound


def test_axes_are_new_each_time() -> None:
    rng = np.random.default_rng(5)
    rows = Rows(np.eye(3)[None], 10)
    one, two = (with_entries(rows, rng).coordinates for _ in range(2))
    assert not np.array_equal(one, two)
    again = with_entries(rows, np.random.default_rng(5)).coordinates
    np.testing.assert_array_equal(one, again)


def test_rows_of_several_states_share_a_frame() -> None:
    rng = np.random.default_rng(6)
    X, new = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 6))
    both = Rows(X, 9).over(new)
    assert both.coordinates.shape == (2, 6, 6)
    np.testing.assert_array_equal(both.last(3).coordinates, new)
    changed = both.ending(2 * new)
    np.testing.assert_array_equal(changed.coordinates[:, :3, :4], X)
    np.testing.assert_array_equal(changed.coordinates[:, 3:], 2 * new)
    wide = Rows(rng.standard_normal((2, 3, 8)), 9)
    assert wide.narrow().coordinates.shape == (2, 3, 4)
    np.testing.assert_array_equal(
        wide.narrow().coordinates[..., 0], wide.coordinates[..., 0]
    )
    np.testing.assert_allclose(wide.narrow().gram(), wide.gram(), atol=1e-14)
