"""Factors of random matrices against NumPy's and SciPy's full ones."""

import numpy as np
import pytest
from scipy import stats

from asymptest.numerics import wishart
from asymptest.numerics.wishart import (
    bartlett,
    gaussian,
    lower,
    narrow,
    orthonormal,
)
from asymptest.verify.two_sample import deviation, distance

LEVEL = 1e-9  # false-alarm probability of a test here
DRAWS = 20_000


def assert_same_law(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    """Compare the distribution functions of several statistics."""
    bound = 2 * deviation(LEVEL / len(left), DRAWS)
    for name, values in left.items():
        assert distance(values, right[name]) <= bound, name


def of_wishart(W: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "first": W[:, 0, 0],
        "last": W[:, -1, -1],
        "beside": W[:, 0, -1],
        "square": (W * W).sum((1, 2)),
        "det": np.linalg.det(W[:, :2, :2]),
    }


@pytest.mark.parametrize(("rows", "n"), [(2, 2), (3, 3), (3, 7), (4, 4)])
def test_bartlett_is_scipys_wishart(rows: int, n: int) -> None:
    L = bartlett(np.random.default_rng(0), (DRAWS,), rows, n)
    theirs = stats.wishart(n, np.eye(rows)).rvs(DRAWS, random_state=1)
    assert_same_law(of_wishart(L @ L.mT), of_wishart(theirs))


@pytest.mark.parametrize(("rows", "n"), [(1, 1), (3, 1), (4, 2)])
def test_few_columns_leave_a_trapezoid(rows: int, n: int) -> None:
    """SciPy has no singular Wishart matrices, and we need them: n - T may be small."""
    rng = np.random.default_rng(2)
    L, N = bartlett(rng, (DRAWS,), rows, n), rng.standard_normal((DRAWS, rows, n))
    assert L.shape == (DRAWS, rows, n)
    assert_same_law(of_wishart(L @ L.mT), of_wishart(N @ N.mT))


def test_bartlett_is_lower_and_may_be_empty() -> None:
    L = bartlett(np.random.default_rng(3), (5, 2), 3, 10)
    assert L.shape == (5, 2, 3, 3)
    assert (np.triu(L, 1) == 0).all()
    assert (np.diagonal(L, axis1=-2, axis2=-1) > 0).all()
    assert bartlett(np.random.default_rng(3), (5,), 3, 0).shape == (5, 3, 0)


def test_groups_of_columns_rotate_apart() -> None:
    """The inner products within each group, and the aligned columns, keep their law."""
    rng = np.random.default_rng(4)
    ours = gaussian(rng, DRAWS, rows=2, aligned=1, groups=2, n=3)
    N = rng.standard_normal((DRAWS, 2, 7))
    assert ours.shape == (DRAWS, 2, 1 + 2 * 2)

    def parts(X: np.ndarray, size: int) -> dict[str, np.ndarray]:
        one, two = X[..., 1 : 1 + size], X[..., 1 + size :]
        return {
            "aligned": X[:, 0, 0],
            "sign": X[:, 0, 0] * X[:, 1, 0],
            "one": (one[:, 0] * one[:, 1]).sum(1),
            "two": (two[:, 0] ** 2).sum(1),
            "both": (one[:, 0] * one[:, 1]).sum(1) * (two[:, 0] ** 2).sum(1),
        }

    assert_same_law(parts(ours, 2), parts(N, 3))


@pytest.mark.parametrize("shape", [(5, 3, 9), (5, 3, 3), (5, 3, 2), (2, 2, 3, 4)])
def test_lower_keeps_inner_products(shape: tuple[int, ...]) -> None:
    F = np.random.default_rng(5).standard_normal(shape)
    F[..., -1, :] = F[..., 0, :]  # equal rows
    L = lower(F)
    assert (np.triu(L, 1) == 0).all()
    assert (np.diagonal(L, axis1=-2, axis2=-1) >= 0).all()
    np.testing.assert_allclose(L @ L.mT, F @ F.mT, rtol=0, atol=1e-14 * shape[-1])
    assert abs(L[..., -1, :] - L[..., 0, :]).max() < 1e-14
    assert narrow(F).shape[-1] == min(shape[-2:])
    if shape[-1] <= shape[-2]:
        assert narrow(F) is F


@pytest.mark.parametrize("m", [7, 8, 40, 41])
def test_pieces_make_the_same_factor(m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its signs fixed the factor is unique."""
    F = np.random.default_rng(10).standard_normal((2, 5, 3, m))
    whole = lower(F)
    monkeypatch.setattr(wishart, "PIECE", 1)
    np.testing.assert_allclose(lower(F), whole, atol=1e-13)


def test_small_rows_stay_exact() -> None:
    """A Gram matrix would lose the second row's direction to rounding."""
    F = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0 + 1e-10]])
    L = lower(F)
    assert L[1, 1] == pytest.approx(1e-10 * (2 / 3) ** 0.5, rel=1e-5)


def test_orthonormal_rows_are_haar() -> None:
    """With QR's own signs the trace would have another law."""
    N = np.random.default_rng(6).standard_normal((DRAWS, 3, 3))
    Q = orthonormal(N)
    np.testing.assert_allclose(Q @ Q.mT, np.eye(3)[None].repeat(DRAWS, 0), atol=1e-13)
    theirs = stats.ortho_group(3).rvs(DRAWS, random_state=7)

    def parts(X: np.ndarray) -> dict[str, np.ndarray]:
        trace = np.trace(X, axis1=1, axis2=2)
        return {"trace": trace, "entry": X[:, 0, 0], "two": X[:, 0, 0] + X[:, 1, 1]}

    assert_same_law(parts(Q), parts(theirs))


def test_orthonormal_rows_of_a_factor_are_those_of_the_whole() -> None:
    """Two heads of a Haar matrix: the Gram matrix of one block is a matrix-variate beta."""
    rng = np.random.default_rng(8)
    short = orthonormal(gaussian(rng, DRAWS, rows=2, aligned=0, groups=2, n=3))
    full = stats.ortho_group(6).rvs(DRAWS, random_state=9)[:, :2]
    left, right = short[..., :2], full[..., :3]
    assert_same_law(of_wishart(left @ left.mT), of_wishart(right @ right.mT))
