"""Kernels: what is accepted, what is refused and why, and what is derived from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymptest.numerics.gram import (
    as_kernel,
    correlation,
    correlation_blocks,
    effective_rank,
    psd_sqrt,
)
from asymptest.theory.errors import KernelError, ShapeError

EPS = np.finfo(np.float64).eps


def gram(seed: int, size: int, width: int) -> np.ndarray:
    X = np.random.default_rng(seed).normal(size=(size, width))
    return X @ X.T / width


@st.composite
def kernels(draw: st.DrawFn) -> np.ndarray:
    """Draw kernels of any rank, with row scales from 1e-100 to 1e100, or zero rows."""
    size = draw(st.integers(1, 9))
    K = gram(draw(st.integers(0, 2**32)), size, draw(st.integers(1, 12)))
    exponents = st.one_of(st.floats(-100, 100), st.just(-np.inf))
    scale = 10.0 ** np.array(draw(st.lists(exponents, min_size=size, max_size=size)))
    return scale[:, None] * K * scale


@pytest.mark.parametrize(
    ("bad", "error", "says"),
    [
        ([1.0, 2.0], ShapeError, r"got shape \(2,\)"),
        (np.ones((2, 3)), ShapeError, r"got shape \(2, 3\).*X @ X.T"),
        (np.ones((2, 2, 2)), ShapeError, r"\(2, 2, 2\)"),
        (np.zeros((0, 0)), ShapeError, r"T >= 1; got shape \(0, 0\)"),
        ([[1.0, 2.0], [1.0]], ShapeError, "do not form an array"),
        ([[1.0, np.nan], [np.nan, 1.0]], KernelError, r"K0\[0, 1\] = nan .*2 such"),
        ([[1.0, 0.0], [0.0, np.inf]], KernelError, r"K0\[1, 1\] = inf"),
        (np.eye(2, dtype=complex), KernelError, "dtype complex128"),
        (np.eye(2, dtype=object), KernelError, "dtype object"),
        ([["a"]], KernelError, "dtype <U1"),
        (np.ma.masked_equal([[1.0, 0.0], [0.0, 1.0]], 0.0), KernelError, "masked"),
        ([[1.0, 0.3], [0.2, 1.0]], KernelError, r"0, 1\] = 0.3 .* = 0.2.*\(0.1\)"),
        ([[1.0, 2.0], [2.0, 1.0]], KernelError, "most negative eigenvalue is -1,"),
        ([[-1e-20, 0.0], [0.0, 1.0]], KernelError, r"K0\[0, 0\] = -1e-20 is negative"),
        ([[0.0, 1.0], [1.0, 0.0]], KernelError, "most negative eigenvalue is -1,"),
    ],
)
def test_what_is_not_a_kernel_is_refused(bad, error, says) -> None:
    with pytest.raises(error, match=says):
        as_kernel(bad)


def test_the_largest_asymmetry_is_found_in_any_block() -> None:
    K = gram(0, 300, 400)
    K[7, 290] += 1e-6
    K[280, 3] += 1e-3
    with pytest.raises(KernelError, match=r"input is not symmetric: input\[3, 280\]"):
        as_kernel(K, "input")


def test_rounding_is_forgiven_and_a_little_more_is_not() -> None:
    K = np.array([[1.0, 0.5], [0.5 + 2 * EPS, 1.0]])
    forgiven = as_kernel(K)
    assert (forgiven == forgiven.T).all()
    with pytest.raises(KernelError, match="not symmetric"):
        as_kernel([[1.0, 0.5], [0.5 + 8 * EPS, 1.0]])
    as_kernel([[1.0, 1.0 + 2 * EPS], [1.0 + 2 * EPS, 1.0]])  # eigenvalue -2 ε
    with pytest.raises(KernelError, match="not positive semidefinite"):
        as_kernel([[1.0, 1.0 + 40 * EPS], [1.0 + 40 * EPS, 1.0]])


def test_as_kernel_copies_integers_and_floats() -> None:
    K = np.eye(3)
    assert as_kernel(K) is not K
    assert as_kernel([[2, 1], [1, 2]]).dtype == np.float64
    assert (as_kernel(np.zeros((2, 2))) == 0).all()


@given(K=kernels())
def test_a_gram_matrix_is_a_kernel(K: np.ndarray) -> None:
    assert (as_kernel(K) == 0.5 * K + 0.5 * K.T).all()


@given(K=kernels())
def test_correlation_is_the_kernel_of_normalised_rows(K: np.ndarray) -> None:
    K = as_kernel(K)
    rho = correlation(K)
    assert (rho == rho.T).all()
    assert (np.diagonal(rho) == 1).all()
    assert np.abs(rho).max() <= 1
    root = np.sqrt(np.diagonal(K))
    expected = np.divide(K, root[:, None], where=root[:, None] > 0, out=0 * K)
    expected = np.divide(expected, root, where=root > 0, out=0 * K)
    np.fill_diagonal(expected, 1.0)
    slack = 64 * len(K) * EPS  # where clipped; elsewhere two divisions differ by 4 ε
    assert (np.abs(rho - expected) <= np.where(abs(expected) > 1, slack, 4 * EPS)).all()


@given(K=kernels(), powers=st.lists(st.integers(-300, 300), min_size=9, max_size=9))
def test_correlation_ignores_scales(K: np.ndarray, powers: list[int]) -> None:
    # A power of two is exact as long as nothing underflows.
    K = as_kernel(correlation(K))
    scale = 2.0 ** np.array(powers[: len(K)])
    assert (correlation(scale[:, None] * K * scale) == correlation(K)).all()


def test_correlation_of_extreme_diagonals() -> None:
    rho = correlation([[1e300, 0.5], [0.5, 1e-300]])
    assert (np.abs(rho - [[1.0, 0.5], [0.5, 1.0]]) <= 4 * EPS).all()


def test_correlation_of_identical_opposite_orthogonal_and_zero_rows() -> None:
    X = np.array([[3.0, 0.0], [3.0, 0.0], [-0.1, 0.0], [0.0, 7.0], [0.0, 0.0]])
    expected = [
        [1, 1, -1, 0, 0],
        [1, 1, -1, 0, 0],
        [-1, -1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]
    rho = correlation(X @ X.T)
    assert (np.abs(rho) <= 1).all()
    assert np.abs(rho - expected).max() <= 4 * EPS


def test_correlation_with_a_variance_that_underflowed_is_zero() -> None:
    # K_ii = 1e-330 is stored as 0, and K_ij = 1e-165 is not.
    assert (correlation([[0.0, 1e-165], [1e-165, 1.0]]) == np.eye(2)).all()


def test_correlation_projects_rounding_and_nothing_else() -> None:
    def pair(c: float) -> np.ndarray:
        return np.array([[1.0, c], [c, 1.0]])

    assert (correlation(pair(1 + 100 * EPS)) == 1).all()  # 64 T ε = 128 ε
    assert correlation(pair(-1 - 100 * EPS))[0, 1] == -1
    with pytest.raises(KernelError, match=r"K\[0, 1\] = 1.0000000000000\d+ while"):
        correlation(pair(1 + 200 * EPS))
    with pytest.raises(KernelError, match=r"K\[0, 1\] = -1.5"):
        correlation(pair(-1.5))


def test_correlation_refuses_what_is_not_a_kernel() -> None:
    with pytest.raises(KernelError, match=r"K\[(0, 1|1, 0)\] = 1e-10 .*\[1, 1\] = 0.0"):
        correlation([[1.0, 1e-10], [1e-10, 0.0]])
    with pytest.raises(KernelError, match="not symmetric"):
        correlation([[1.0, 0.5], [0.4, 1.0]])
    with pytest.raises(KernelError, match="negative"):
        correlation([[-1.0]])
    with pytest.raises(KernelError, match="not finite"):
        correlation([[np.nan]])
    with pytest.raises(ShapeError, match=r"\(1, 2\)"):
        correlation([[1.0, 2.0]])


@given(K=kernels(), data=st.data())
def test_blocks_are_parts_of_the_correlation(
    K: np.ndarray, data: st.DataObject
) -> None:
    """Any rows, with the columns from the same row on, or all of them."""
    K = as_kernel(K)
    block, whole = correlation_blocks(K), correlation(K)
    start = data.draw(st.integers(0, len(K) - 1))
    rows = slice(start, start + data.draw(st.integers(1, len(K) + 3)))
    for columns in (slice(start, None), slice(0, None)):
        assert (block(rows, columns) == whole[rows, columns]).all()


def test_blocks_of_identical_opposite_and_zero_rows() -> None:
    X = np.array([[1.0, 2.0], [0.0, 0.0], [-0.5, -1.0], [1.0, 2.0], [0.0, 0.0]])
    block = correlation_blocks(X @ X.T)
    expected = [[0.0, 1.0, 0.0, 0.0, 0.0], [-1.0, 0.0, 1.0, -1.0, 0.0]]
    assert np.abs(block(slice(1, 3), slice(0, None)) - expected).max() <= 4 * EPS
    assert block(slice(4, 8), slice(4, None)).tolist() == [[1.0]]


@pytest.mark.parametrize("entry", [1.5, -1.5, np.nextafter(1 + 64 * 4 * EPS, 2)])
def test_a_block_names_the_entry_by_its_place_in_the_kernel(entry: float) -> None:
    """Not by its place in the block; and a block without it is not concerned."""
    K = np.eye(4)
    K[2, 3] = K[3, 2] = entry
    block = correlation_blocks(K)
    with pytest.raises(KernelError, match=rf"K\[2, 3\] = {entry} while K\[2, 2\] = 1"):
        block(slice(2, 4), slice(2, None))
    with pytest.raises(KernelError, match=r"K\[3, 2\] = "):
        block(slice(3, 4), slice(0, None))
    assert (block(slice(0, 2), slice(0, None)) == np.eye(2, 4)).all()


def test_a_block_refuses_what_a_zero_row_cannot_have() -> None:
    """A variance that underflowed is below 5e-324, and bounds the row's covariances."""
    K = np.diag([1.0, 4.0, 0.0])
    K[1, 2] = K[2, 1] = 2 * 2e-162
    assert (correlation_blocks(K)(slice(1, 3), slice(0, None)) == np.eye(3)[1:]).all()
    K[1, 2] = K[2, 1] = 2 * 3e-162
    with pytest.raises(KernelError, match=r"K\[1, 2\] = 6e-162 .* K\[2, 2\] = 0.0"):
        correlation_blocks(K)(slice(1, 2), slice(1, None))


def test_effective_rank_of_known_spectra() -> None:
    assert effective_rank(np.ones((5, 5))) == pytest.approx(1.0, abs=1e-12)
    assert effective_rank(3.0 * np.eye(5)) == pytest.approx(5.0, abs=1e-12)
    # Shares 3/4 and 1/4: (4/3)^(3/4) 4^(1/4).
    assert effective_rank([[2.0, 1.0], [1.0, 2.0]]) == pytest.approx(4 / 3**0.75)
    assert effective_rank(1e300 * np.eye(40)) == pytest.approx(40.0)
    with pytest.raises(KernelError, match="zero kernel"):
        effective_rank(np.zeros((2, 2)))
    with pytest.raises(KernelError, match="positive semidefinite"):
        effective_rank([[1.0, 2.0], [2.0, 1.0]])


@given(K=kernels())
def test_psd_sqrt_is_a_factor(K: np.ndarray) -> None:
    R = psd_sqrt(K)
    budget = 16 * len(K) * EPS * np.linalg.eigvalsh(as_kernel(K))[-1]
    assert np.abs(R @ R.T - K).max() <= budget


def test_psd_sqrt_is_lower_triangular_if_it_can_be() -> None:
    R = psd_sqrt(gram(1, 20, 40))
    assert (np.triu(R, 1) == 0).all()


def test_psd_sqrt_of_repeated_tokens_and_of_zero() -> None:
    X = np.random.default_rng(2).normal(size=(6, 8))[[0, 0, 1, 2, 2, 2]]
    K = X @ X.T / 8
    R = psd_sqrt(K)
    assert np.abs(R @ R.T - K).max() <= 16 * 6 * EPS * np.linalg.norm(K, 2)
    assert (psd_sqrt(np.zeros((3, 3))) == 0).all()
    with pytest.raises(KernelError, match="positive semidefinite"):
        psd_sqrt([[1.0, 2.0], [2.0, 1.0]])
