"""The matrix of shaped attention: published numbers, SciPy's and mpmath's roots, refusals."""

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.special
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest.numerics.kernel import kernel, kernels
from asymptest.numerics.spa import carried, shaped_kernel, spa_matrix, spa_softmax
from asymptest.theory import (
    ArgumentError,
    Attention,
    Blocks,
    ExponentialKernel,
    KernelError,
    ShapeError,
    Spa,
    UniformKernel,
)
from asymptest.theory.spa import ShapedKernel
from tests.numerics.test_semiseparable import pairs

EPS = float(np.finfo(np.float64).eps)
U, E = UniformKernel, ExponentialKernel
DISTANCE = np.abs(np.subtract.outer(np.arange(20.0), np.arange(20.0)))

Pair = tuple[ShapedKernel, ShapedKernel]


def dense(*kernels: np.ndarray) -> np.ndarray:
    """L_after L_before^(-1) as LAPACK has it."""
    before, after = map(np.linalg.cholesky, kernels)
    return scipy.linalg.solve_triangular(before.T, after.T).T


def test_shaped_kernels() -> None:
    assert (shaped_kernel(U(0.25), 3) == 0.25 + 0.75 * np.eye(3)).all()
    assert (
        np.abs(shaped_kernel(E(0.3), 20) / np.exp(-0.3 * DISTANCE) - 1).max() < 32 * EPS
    )
    assert (shaped_kernel(E(math.inf), 3) == np.eye(3)).all()
    assert shaped_kernel(E(700.0), 2)[0, 1] == pytest.approx(math.exp(-700), rel=1e-12)


def test_the_published_matrix() -> None:
    """U-SPA from 0.2 to 0.5 and the sums of its rows, which softmax alone does not have."""
    A = spa_matrix(Spa(U(0.2), U(0.5)), "causal", 6)
    assert np.abs(A[3] - [0.2877, 0.1413, 0.0932, 0.8268, 0, 0]).max() <= 0.5e-4
    sums = [1, 1.2071, 1.2991, 1.3490, 1.3793, 1.3991]
    assert np.abs(A.sum(1) - sums).max() <= 0.5e-4


@pytest.mark.parametrize(("layer", "expected"), [(1, 1.435748), (36, 1.031254)])
def test_the_sums_of_the_published_schedule(layer: int, expected: float) -> None:
    """36 layers to gamma = 0.005 and 128 positions; the largest sum falls with the depth."""
    pattern = Spa.schedule(E(0.005), 36)[layer - 1]
    assert abs(spa_softmax(pattern, "causal", 128)[1].max() - expected) <= 0.5e-6


@pytest.mark.parametrize(("layer", "error"), [(1, 0.227), (6, 0.059), (24, 0.034)])
def test_softmax_without_the_sums(layer: int, error: float) -> None:
    """What leaving out D costs in a schedule to gamma = 0.1 with T = 24 = depth."""
    pattern = Spa.schedule(E(0.1), 24)[layer - 1]
    A, (B, _) = (f(pattern, "causal", 24) for f in (spa_matrix, spa_softmax))
    found = np.abs(scipy.special.softmax(B, axis=1) - A).max()
    assert abs(found - error) <= 0.5e-3


@given(pairs(), st.integers(1, 40), st.booleans())
def test_softmax_with_the_sums(kernels: Pair, T: int, blocks: bool) -> None:
    """D softmax(B) = A, hidden where A is 0, and D at least 1 but for rounding."""
    mask = Blocks((T, 1, 2), causal=True) if blocks else "causal"
    T += 3 * blocks
    pattern = Spa(*kernels)
    A, (B, D) = (f(pattern, mask, T) for f in (spa_matrix, spa_softmax))
    found = D[:, None] * scipy.special.softmax(B, axis=1)
    assert np.abs(found - A).max() <= 8 * EPS * D.max()
    assert (np.isneginf(B) == (A == 0)).all()
    assert (D >= 1 - T * EPS).all()
    assert (np.triu(A, 1) == 0).all()


def far_from_singular() -> st.SearchStrategy[Pair]:
    """Kernels that leave LAPACK ten digits: a factor loses the root of its condition."""
    return pairs().filter(
        lambda found: np.linalg.cond(shaped_kernel(found[1], 12)) < 1e4
    )


@given(far_from_singular())
def test_an_array_in_place_of_a_family(kernels: Pair) -> None:
    """The same matrix from Cholesky factors, in units of one's own too."""
    T = 12
    before, after = (shaped_kernel(kernel, T) for kernel in kernels)
    A = spa_matrix(Spa(*kernels), "causal", T)
    scaled = Spa(before / 4, 9 * after)
    assert carried(scaled, "causal", T) is None
    assert np.abs(spa_matrix(scaled, "causal", T) / 6 - A).max() <= 1e-10
    assert np.abs(dense(before, after) - A).max() <= 1e-10
    half = spa_matrix(Spa(kernels[0], after), Blocks((5, 7), causal=True), T)
    assert np.abs(half[:5, :5] - A[:5, :5]).max() <= 1e-10
    assert not half[5:, :5].any()


@settings(max_examples=25)
@given(far_from_singular(), st.integers(1, 12))
def test_symmetric_square_roots(kernels: Pair, T: int) -> None:
    """Without a causal mask, against SciPy's roots; U-SPA is x 1 + y everywhere.

    That E-SPA has no negative entry then is known from examples only: these are more.
    """
    A = spa_matrix(Spa(*kernels), "full", T)
    before, after = (scipy.linalg.sqrtm(shaped_kernel(kernel, T)) for kernel in kernels)
    assert np.abs(A - after @ np.linalg.inv(before)).max() <= 1e-9
    one, other = kernels
    if isinstance(one, UniformKernel) and isinstance(other, UniformKernel):
        x = math.sqrt((1 - other.rho) / (1 - one.rho))
        both = math.sqrt((1 + (T - 1) * other.rho) / (1 + (T - 1) * one.rho))
        assert np.abs(A - x * np.eye(T) - (both - x) / T).max() <= 1e-10


def test_roots_of_kernels_near_to_singular() -> None:
    """gamma = 1e-8: the roots have lost eight digits, and rounding is no negative entry."""
    pattern = Spa(E(1e-8), E(1e-8))
    A = spa_matrix(pattern, "full", 16)
    assert np.abs(A - np.eye(16)).max() <= 1e-9
    roots = []
    for gamma, power in ((1e-8, 0.5), (2e-8, -0.5)):
        with mpmath.workdps(40):
            rows = [
                [mpmath.exp(-gamma * abs(i - j)) for j in range(8)] for i in range(8)
            ]
            values, vectors = mpmath.eigsy(mpmath.matrix(rows))
            powers = mpmath.diag([value**power for value in values])
            roots.append(vectors * powers * vectors.T)
    exact = np.array((roots[0] * roots[1]).tolist(), dtype=np.float64).reshape(8, 8)
    found = spa_matrix(Spa(E(2e-8), E(1e-8)), "full", 8)
    assert np.abs(found - exact).max() <= 1e-6


@pytest.mark.parametrize(("gamma", "T"), [(0.005, 16), (0.2, 64), (0.005, 196)])
def test_no_causal_mask_on_the_published_schedule(gamma: float, T: int) -> None:
    """No entry is negative by more than rounding, and the kernel is carried all the same."""
    layers = [Attention(pattern) for pattern in Spa.schedule(E(gamma), 4)]
    K = kernel(layers[0] >> layers[1] >> layers[2] >> layers[3], np.eye(T))
    assert np.abs(K - shaped_kernel(E(gamma), T)).max() <= 1e-11
    A = spa_matrix(layers[1].pattern, "full", T)
    assert np.abs(A - A.T).max() > 1e-3  # not symmetric


@pytest.mark.parametrize("name", ["causal", "full"])
@pytest.mark.parametrize("array", [False, True])
def test_sequences_by_themselves(name: Any, array: bool) -> None:
    """Each block is the matrix of its kernel alone: an array's own, a family's from the first."""
    ends: list[Any] = [E(0.5), E(0.2)]
    alone = Spa(*ends)
    if array:
        units = np.repeat([1.0, 2.0], [5, 7])
        ends[1] = np.outer(units, units) * shaped_kernel(E(0.2), 12)
    found = spa_matrix(Spa(*ends), Blocks((5, 7), name == "causal"), 12)
    blocks = [
        (1 + array * k) * spa_matrix(alone, name, n) for k, n in enumerate((5, 7))
    ]
    assert np.abs(found - scipy.linalg.block_diag(*blocks)).max() <= 1e-14


@pytest.mark.parametrize("family", [U, E])
@pytest.mark.parametrize(
    "mask", ["causal", "full", Blocks((9, 1, 6), causal=True)], ids=repr
)
def test_every_layer_has_its_kernel(family: Any, mask: Any) -> None:
    patterns = Spa.schedule(family(0.3), 5)
    first, *rest = (Attention(pattern, mask) for pattern in patterns)
    network = first >> rest[0] >> rest[1] >> rest[2] >> rest[3]
    lengths = mask.lengths if isinstance(mask, Blocks) else (16,)
    seen = np.asarray(scipy.linalg.block_diag(*(np.ones((n, n)) for n in lengths)))
    found = kernels(network, np.eye(16))
    for pattern, K in zip(patterns, found[1:], strict=True):
        expected = seen * shaped_kernel(pattern.after, 16)
        assert np.abs(K - expected).max() <= 1e-13
        assert (K == K.T).all()


@given(pairs(), st.integers(1, 20), st.integers(0, 20))
def test_causal_attention_is_consistent_in_prefixes(
    kernels: Pair, T: int, more: int
) -> None:
    """A sequence that ends sooner, or with padding, has the same rows."""
    pattern = Spa(*kernels)
    whole, part = (spa_matrix(pattern, "causal", size) for size in (T + more, T))
    assert np.abs(whole[:T, :T] - part).max() <= T * EPS
    assert not whole[:T, T:].any()


def test_left_padding_and_symmetric_roots_are_not_consistent() -> None:
    """The first position is special, and every entry of a root depends on all positions."""
    pattern = Spa(E(0.5), E(0.2))
    A = spa_matrix(pattern, "causal", 30)[6:, 6:]
    assert (
        np.abs(A @ shaped_kernel(E(0.5), 24) @ A.T - shaped_kernel(E(0.2), 24)).max()
        > 0.1
    )
    short, long = (spa_matrix(pattern, "full", T) for T in (20, 30))
    assert np.abs(long[:20, :20] - short).max() > 0.05


def _squared(length: float) -> np.ndarray:
    return np.exp(-((DISTANCE / length) ** 2)) + 0.1 * np.eye(20)


def _matern(length: float) -> np.ndarray:
    return (1 + DISTANCE / length) * np.exp(-DISTANCE / length)


def _tent(length: float) -> np.ndarray:
    return np.maximum(1 - DISTANCE / 4 / length, 0)  # four positions a unit


@pytest.mark.parametrize(
    ("family", "before", "after"),
    [(_squared, 1, 2), (_matern, 2, 5), (_tent, 0.5, 3)],
)
def test_rising_correlations_are_not_enough(
    family: Callable[[float], np.ndarray], before: float, after: float
) -> None:
    """Squared exponentials, Matérn kernels and tents rise, and yet A has negative entries."""
    ends = family(before), family(after)
    assert (ends[1] >= ends[0]).all()
    lowest = dense(*ends).min()
    assert lowest < -7e-4
    for ask in (spa_matrix, spa_softmax):
        with pytest.raises(
            ArgumentError, match=rf"negative entry A\[.*\] = {lowest:.3g}"
        ):
            ask(Spa(*ends), "causal", 20)


def _rational(length: float) -> np.ndarray:
    return 1 / (1 + DISTANCE / length)


def _mixture(length: float) -> np.ndarray:
    return 0.5 * (DISTANCE == 0) + 0.5 * np.exp(-DISTANCE / length)


@pytest.mark.parametrize("family", [_rational, _mixture])
def test_other_families_that_rise(family: Callable[[float], np.ndarray]) -> None:
    """Rational quadratics, and mixtures, have no negative entries."""
    ends = family(2.0), family(5.0)
    assert np.abs(spa_matrix(Spa(*ends), "causal", 20) - dense(*ends)).max() <= 1e-12


def test_families_may_follow_each_other() -> None:
    """From independent tokens to equal correlations, as average kernels of text have."""
    assert (
        np.abs(
            spa_matrix(Spa(E(math.inf), U(0.2)), "causal", 8)
            - np.linalg.cholesky(shaped_kernel(U(0.2), 8))
        ).max()
        <= 4 * EPS
    )
    with pytest.raises(ArgumentError, match="negative entry"):
        spa_matrix(Spa(U(0.5), E(0.5)), "causal", 8)


TWICE = np.array([[1.0, 2, 0], [1, 2, 0], [0, 1, 3]])  # two equal tokens


@pytest.mark.parametrize(
    "mask", ["causal", "full", Blocks((2, 1), causal=True)], ids=repr
)
@pytest.mark.parametrize(
    "before", [TWICE @ TWICE.T, np.ones((3, 3)), np.zeros((3, 3))], ids=str
)
def test_a_singular_kernel_is_carried_nowhere(before: np.ndarray, mask: Any) -> None:
    with pytest.raises(
        KernelError, match=r"before is singular.* make all tokens differ"
    ):
        spa_matrix(Spa(before, U(0.5)), mask, 3)


def test_a_singular_kernel_to_end_with() -> None:
    """It has a symmetric root, but no Cholesky factor of full rank; zeros have no softmax."""
    pattern = Spa(U(0.2), np.ones((3, 3)))
    A = spa_matrix(pattern, "full", 3)
    assert np.abs(A @ shaped_kernel(U(0.2), 3) @ A.T - 1).max() <= 1e-14
    with pytest.raises(KernelError, match="after is singular"):
        spa_matrix(pattern, "causal", 3)
    with pytest.raises(KernelError, match="after has a zero variance"):
        spa_matrix(Spa(U(0.2), np.zeros((3, 3))), "full", 3)


def test_kernels_of_other_sizes_are_not_singular() -> None:
    """Variances from 1e-12 to 1e12 beside each other, where no correlation is near 1."""
    sizes = 10.0 ** np.array([6, -6, 0])
    K = np.outer(sizes, sizes) * shaped_kernel(U(0.5), 3)
    A = spa_matrix(Spa(K, U(0.6)), "causal", 3)
    expected = spa_matrix(Spa(U(0.5), U(0.6)), "causal", 3) / sizes
    assert np.abs(A - expected).max() <= 1e-12 * np.abs(expected).max()
    assert np.abs((A - expected) * sizes).max() <= 1e-12


@pytest.mark.parametrize("mask", ["causal", "full"])
def test_what_is_no_kernel(mask: Any) -> None:
    with pytest.raises(KernelError, match="not positive semidefinite"):
        spa_matrix(Spa(U(0.2), [[1, 2], [2, 1]]), mask, 2)
    with pytest.raises(KernelError, match="not symmetric"):
        spa_matrix(Spa(U(0.2), [[1, 0.2], [0.3, 1]]), mask, 2)


@pytest.mark.parametrize("mask", ["causal", "full"])
def test_other_numbers_of_positions(mask: Any) -> None:
    with pytest.raises(ShapeError, match=r"must have the shape \(3, 3\)"):
        spa_matrix(Spa(U(0.2), np.eye(2)), mask, 3)
    with pytest.raises(ShapeError, match="is for 2 positions, not for 3"):
        spa_softmax(Spa(U(0.2), U(0.3)), Blocks((1, 1), mask == "causal"), 3)
    with pytest.raises(ShapeError, match="for 2 positions"):
        kernel(Attention(Spa(U(0.2), np.eye(2)), mask), np.eye(3))


@pytest.mark.parametrize("mask", ["causal", "full"])
@pytest.mark.parametrize("family", [U, E])
def test_a_symbol_is_no_number(family: Any, mask: Any) -> None:
    pattern = Spa(*2 * [family(sp.Symbol("r", positive=True))])
    with pytest.raises(ArgumentError, match="is a symbol"):
        spa_matrix(pattern, mask, 3)
    with pytest.raises(ArgumentError, match="is a symbol"):
        kernel(Attention(pattern, mask), np.eye(3))
