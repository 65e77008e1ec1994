"""The kernel of random-logit softmax: exact cases, limits, symmetries, error bars."""

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from asymptest.numerics.gram import as_kernel
from asymptest.numerics.logit_circles import (
    circles,
    entries,
    resolved_circles,
    spectrum,
)
from asymptest.numerics.logit_rows import average, damping, orders, rows, softmax
from asymptest.numerics.moments import evaluate
from asymptest.numerics.random_softmax import softmax_kernel
from asymptest.theory import Attention, Softmax
from asymptest.theory.errors import (
    AccuracyError,
    ArgumentError,
    KernelError,
    ShapeError,
)
from asymptest.theory.softmax_expansion import given_logits, product
from asymptest.verify.strategies import gram_matrices

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

LEVEL = 1e-9  # false-alarm probability of a statistical test here
EPS = float(np.finfo(np.float64).eps)
seeds = st.integers(0, 2**32 - 1)


def gram(T: int, rank: int, seed: int, normalise: bool = False) -> np.ndarray:
    """Return a random kernel of T tokens."""
    X = np.random.default_rng(seed).standard_normal((T, rank))
    if normalise:
        X /= np.linalg.norm(X, axis=1, keepdims=True) / rank**0.5
    return X @ X.T / rank


def quadrature(
    K: np.ndarray,
    C: np.ndarray,
    seen: np.ndarray,
    mean: np.ndarray,
    V: np.ndarray | None = None,
) -> np.ndarray:
    """Return E[A V A'] where each row sees one key or two; V is K if not given.

    With the difference x_a of its two logits, row a has the weights σ(x_a) and σ(-x_a). For
    an analytic function with a Gaussian weight the trapezoid rule converges exponentially.
    """
    T, V = len(K), K if V is None else V
    pairs = [np.flatnonzero(row)[[0, -1]] for row in seen]
    grid = np.linspace(-9, 9, 361)
    mass = np.exp(-(grid**2) / 2) / np.exp(-(grid**2) / 2).sum()
    u, v = np.meshgrid(grid, grid, indexing="ij")

    def first_weight(a: int, noise: np.ndarray) -> np.ndarray:
        i, k = pairs[a]
        return special.expit(mean[a, i] - mean[a, k] + noise)

    def covariance(a: int, b: int) -> float:
        (i, k), (j, m) = pairs[a], pairs[b]
        return C[a, b] * (K[i, j] - K[i, m] - K[k, j] + K[k, m])

    result = np.empty((T, T))
    for a, b in itertools.combinations_with_replacement(range(T), 2):
        (i, k), (j, m) = pairs[a], pairs[b]
        size = np.sqrt([max(covariance(c, c), 0) for c in (a, b)])
        rho = covariance(a, b) / (size[0] * size[1]) if size.all() else 0.0
        rho = min(max(rho, -1.0), 1.0)
        p = first_weight(a, size[0] * u)
        q = first_weight(b, size[1] * (rho * u + np.sqrt(1 - rho**2) * v))
        result[a, b] = result[b, a] = (
            mass
            @ (
                p * q * V[i, j]
                + p * (1 - q) * V[i, m]
                + (1 - p) * q * V[k, j]
                + (1 - p) * (1 - q) * V[k, m]
            )
            @ mass
        )
    return result


def agrees(
    estimate: np.ndarray, error: np.ndarray, expected: np.ndarray, slack: float = 0.0
) -> bool:
    """Say whether all entries are within the t interval of LEVEL in total."""
    bound = stats.t.ppf(1 - LEVEL / 2 / error.size, 15) * error
    rounding = 64 * len(expected) * EPS * np.abs(expected).max()
    return bool((np.abs(estimate - expected) <= bound + rounding + slack).all())


def two_keys(T: int, rng: np.random.Generator) -> np.ndarray:
    """Return a mask that shows each row one key or two."""
    seen = np.zeros((T, T), bool)
    for row in seen:
        row[rng.integers(0, T, 2)] = True
    return seen


@settings(max_examples=25)
@given(K=gram_matrices(decades=0.5), other=gram_matrices(6, 6, decades=0.5), seed=seeds)
def test_rows_of_two_keys_are_integrals(
    K: np.ndarray, other: np.ndarray, seed: int
) -> None:
    T = len(K)
    rng = np.random.default_rng(seed)
    C, mean = other[:T, :T], rng.standard_normal((T, T))
    seen = two_keys(T, rng)
    estimate, error = softmax_kernel(K, C, seen, mean, rng, samples=256)
    exact = quadrature(K, C, seen, mean)
    assert agrees(estimate, error, exact, 1e-8 * np.abs(exact).max())


@settings(max_examples=25)
@given(
    K=gram_matrices(decades=0.5, zero_rows=True),
    values=gram_matrices(6, 6, decades=0.5, zero_rows=True),
    seed=seeds,
)
def test_values_have_a_kernel_of_their_own(
    K: np.ndarray, values: np.ndarray, seed: int
) -> None:
    """As with encodings that queries and keys see, and values do not."""
    T = len(K)
    rng = np.random.default_rng(seed)
    V, mean, seen = values[:T, :T], rng.standard_normal((T, T)), two_keys(T, rng)
    estimate, error = softmax_kernel(K, 2 * K, seen, mean, rng, samples=256, V=V)
    exact = quadrature(K, 2 * K, seen, mean, V)
    assert agrees(estimate, error, exact, 1e-8 * np.abs(exact).max())


def test_logits_that_differ_by_rounding_stay_where_they_are() -> None:
    """Row 2 sees two equal keys of different values: a slope of rounding over rounding."""
    K, V, seen = np.eye(6), np.eye(6), np.eye(6, dtype=bool)
    K[0, 5] = K[5, 0] = 1
    seen[2] = [True, False, False, False, False, True]
    seen[1, 4:] = seen[3, 2] = seen[4, 3] = True
    seen[1, 1] = False
    mean = np.random.default_rng(0).standard_normal((6, 6))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        estimate, _ = softmax_kernel(K, 2 * K, seen, mean, rng, samples=256, V=V)
        exact = quadrature(K, 2 * K, seen, mean, V)
        assert abs(estimate[2, 2] - exact[2, 2]) < 1e-10


def test_values_on_circles_have_a_kernel_of_their_own() -> None:
    T = 96
    K, V = gram(T, 3, seed=43, normalise=True), gram(T, 5, seed=44)
    C = 2 * gram(T, 400, seed=45, normalise=True)
    seen, zero = np.zeros((T, T), bool), np.zeros((T, T))
    seen[:, [0, 3]] = True
    rng = np.random.default_rng(46)
    assert resolved_circles(zero, C, K, V, 2e-5, rng) is not None
    estimate, error = softmax_kernel(K, C, seen, zero, rng, 2**14, rtol=2e-3, V=V)
    part = np.s_[:8, :8]
    exact = quadrature(K[part], C[part], seen[part], zero[part], V[part])
    assert agrees(estimate[part], error[part], exact, 4e-5 * np.abs(estimate).max())


def test_keys_of_different_values_are_not_one() -> None:
    """Tokens 0 0 1 1 have equal keys in pairs; the values of a pair differ, or do not."""
    token = np.array([0, 0, 1, 1])
    K = gram(2, 2, seed=47)[np.ix_(token, token)]
    seen, zero = np.ones((4, 4), bool), np.zeros((4, 4))
    rng = np.random.default_rng(48)
    V = gram(4, 4, seed=49)
    estimate, error = softmax_kernel(K, K, seen, zero, rng, 2**12, V=V)
    # Half the weight of a pair goes to each of its values.
    half = np.kron(np.eye(2), [[0.5, 0.5]])
    two = K[::2, ::2]
    exact = quadrature(two, two, np.ones((2, 2), bool), zero[:2, :2], half @ V @ half.T)
    assert agrees(estimate, error, exact[np.ix_(token, token)])


# Twelve rows that see two keys lie on circles, their variances equal or not.
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("variance", [0.25, 1, 4])
def test_circles_of_rows_of_two_keys_are_integrals(
    normalise: bool, variance: float
) -> None:
    T = 96
    K = gram(T, 3, seed=1, normalise=normalise)
    C = variance * gram(T, 400, seed=2, normalise=normalise)
    seen = np.zeros((T, T), bool)
    seen[:, [0, 3]] = True
    mean = np.zeros((T, T))
    mean[:, 0] = 0.5
    rng = np.random.default_rng(3)
    assert resolved_circles(np.zeros((T, T)), C, K, K, 2e-5, rng) is not None
    estimate, error = softmax_kernel(K, C, seen, mean, rng, 2**16, rtol=1e-3)
    largest = np.abs(estimate).max()
    assert error.max() <= 1e-3 * largest
    exact = quadrature(K[:12, :12], C[:12, :12], seen[:12, :12], mean[:12, :12])
    assert agrees(estimate[:12, :12], error[:12, :12], exact, 2e-5 * largest)


def test_blocks_are_integrals() -> None:
    """A window of two keys has a leading block of one row, and W is not 0."""
    T = 12
    K = gram(T, T, seed=4)
    seen = (np.tri(T) - np.tri(T, k=-2)).astype(bool)
    zero = np.zeros((T, T))
    rng = np.random.default_rng(5)
    estimate, error = softmax_kernel(K, K, seen, zero, rng, 2**16, rtol=3e-3)
    assert estimate[0, 0] == K[0, 0]
    assert error[0, 0] == 0
    assert agrees(estimate, error, quadrature(K, K, seen, zero))


def plain(
    K: np.ndarray, C: np.ndarray, seen: np.ndarray, draws: int, seed: int
) -> np.ndarray:
    """Return independent draws of A K A' without any variance reduction."""
    roots = [np.linalg.cholesky(X + 1e-12 * np.eye(len(X))) for X in (C, K)]
    Z = np.random.default_rng(seed).standard_normal((draws, *K.shape))
    A = softmax(np.where(seen, roots[0] @ Z @ roots[1].T, -np.inf))
    return A @ K @ A.mT


CASES = {
    "full": np.ones((16, 16), bool),
    "causal": np.tri(16) > 0,
    "sequences": np.kron(np.eye(2), np.ones((8, 8))) > 0,
    "padding": np.arange(16) < np.full((16, 1), 11),
    "window": np.abs(np.subtract.outer(np.arange(16), np.arange(16))) < 3,
    "random": (np.random.default_rng(6).random((16, 16)) < 0.3)
    | np.eye(16, dtype=bool),
}


@pytest.mark.parametrize("mask", CASES)
@pytest.mark.parametrize("rank", [3, 16])
def test_agrees_with_plain_sampling(mask: str, rank: int) -> None:
    K, seen = gram(16, rank, seed=7, normalise=True), CASES[mask]
    draws = plain(K, 2 * K, seen, 16384, seed=8)
    rng = np.random.default_rng(9)
    zero = np.zeros_like(K)
    estimate, error = softmax_kernel(K, 2 * K, seen, zero, rng, samples=4096)
    difference = estimate - draws.mean(0)
    total = np.hypot(error, draws.std(0, ddof=1) / len(draws) ** 0.5)
    bound = stats.t.ppf(1 - LEVEL / 2 / K.size, 15) * total
    assert (np.abs(difference) <= bound + 64 * EPS).all()
    assert error.max() < 0.01 * estimate.max()


def test_circles_agree_with_all_rows() -> None:
    """The same rows, drawn and interpolated: two kinds of them, of different variances."""
    K = gram(10, 10, seed=10)
    L = np.where(np.arange(10) < 5, 0.0, -np.inf) * np.ones((10, 1))
    L[5:] = L[5:, ::-1]
    rng = np.random.default_rng(11)
    every, on = rows(L, K, K, K), circles(L, K, angles=12, radii=6)
    few = rows(on.L, on.C, K, K)
    by = damping(every, rng), damping(few, rng)
    drawn = np.array([average(every, by[0], 512, rng).sum(0) for _ in range(16)])
    parts = np.array([average(few, by[1], 512, rng) for _ in range(16)])
    interpolated = entries(on, K, spectrum(on, parts))
    spread = np.sqrt((drawn.var(0, ddof=1) + interpolated.var(0, ddof=1)) / 16)
    bound = stats.t.ppf(1 - LEVEL / 2 / K.size, 15) * spread
    assert (np.abs(drawn.mean(0) - interpolated.mean(0)) <= bound).all()


def test_orders_are_those_of_the_expansion() -> None:
    """The products that `average` forms of a draw against the polynomials of theory/."""
    T = 5
    K = gram(T, T, seed=12)
    L = np.where(
        np.tri(T) > 0, np.random.default_rng(13).standard_normal((T, T)), -np.inf
    )
    every = rows(L, K, K, K)
    Z = np.random.default_rng(14).standard_normal((T, 1, every.R.shape[1]))
    G = every.B @ Z[:, 0] @ every.R.T
    _, _, first, second = orders(every, Z)
    arrays = {"P": every.P, "G": G, "V": K}
    for (left, right), expected in {
        (1, 1): first[:, 0] @ K @ first[:, 0].T,
        (2, 0): second[:, 0] @ K @ every.P.T,
    }.items():
        derived = evaluate(product(left, right, given_logits), arrays, {})
        np.testing.assert_allclose(expected, derived, rtol=0, atol=1e-13)


def test_without_variance_the_weights_are_those_of_the_mean() -> None:
    K, seen = gram(6, 4, seed=15), np.tri(6) > 0
    mean = 2 * K
    rng = np.random.default_rng(16)
    estimate, error = softmax_kernel(K, 0 * K, seen, mean, rng, samples=16)
    A = softmax(np.where(seen, mean, -np.inf))
    np.testing.assert_allclose(estimate, A @ K @ A.T, rtol=1e-14)
    assert not error.any()


@pytest.mark.parametrize("mask", ["full", "causal"])
def test_small_variances_need_few_samples(mask: str) -> None:
    """The error falls with the square of the variance: the expansion takes the rest away."""
    K, seen, zero = gram(16, 8, seed=17), CASES[mask], np.zeros((16, 16))
    errors = []
    for variance in (1e-2, 1e-4):
        rng = np.random.default_rng(18)
        _, error = softmax_kernel(K, variance * K, seen, zero, rng, samples=64)
        errors.append(error.max())
    assert errors[1] < 4e-4 * errors[0]


def test_large_variances_saturate() -> None:
    """Row a picks one key; two rows pick alike with the probability of the orthant law."""
    T, rho = 6, 0.3
    C = 1e10 * ((1 - rho) * np.eye(T) + rho)
    seen = np.zeros((T, T), bool)
    seen[:, :2] = True
    rng = np.random.default_rng(19)
    estimate, error = softmax_kernel(
        np.eye(T), C, seen, np.zeros((T, T)), rng, samples=2**15
    )
    same = 0.5 + np.arcsin(rho) / np.pi
    expected = np.where(np.eye(T) > 0, 1.0, same)
    # A row is undecided with a probability below 1 / (σ sqrt(4 π)), σ^2 = 1e10.
    assert agrees(estimate, error, expected, 1e-5)
    assert error.max() < 0.01


def test_equal_tokens_are_one_key_with_more_weight() -> None:
    """Tokens 0 0 1 1 1: five keys, but a row is a logistic with the bias log(3 / 2)."""
    token = np.array([0, 0, 1, 1, 1])
    two = gram(2, 2, seed=20)
    K = two[np.ix_(token, token)]
    seen, zero = np.ones((5, 5), bool), np.zeros((5, 5))
    rng = np.random.default_rng(21)
    estimate, error = softmax_kernel(K, K, seen, zero, rng, 2**16, rtol=1e-3)
    bias = np.tile(np.log([2.0, 3.0]), (2, 1))
    exact = quadrature(two, two, np.ones((2, 2), bool), bias)
    assert agrees(estimate, error, exact[np.ix_(token, token)])
    np.testing.assert_array_equal(estimate, estimate[np.ix_(2 * token, 2 * token)])


def test_equal_tokens_that_see_alike_have_equal_rows() -> None:
    """Tokens 2 and 3 are equal, but under a causal mask they see different keys."""
    token = np.array([0, 1, 2, 2, 1, 0, 2, 1])
    K = gram(3, 3, seed=22)[np.ix_(token, token)]
    rng = np.random.default_rng(23)
    zero = np.zeros_like(K)
    full, _ = softmax_kernel(K, K, np.ones((8, 8), bool), zero, rng, samples=64)
    np.testing.assert_array_equal(full[2], full[3])
    np.testing.assert_array_equal(full[:, 0], full[:, 5])
    causal, _ = softmax_kernel(K, K, np.tri(8) > 0, zero, rng, samples=64)
    assert (causal[2] != causal[3]).any()


def test_nearly_equal_tokens_keep_their_small_difference() -> None:
    """E (Y_a - Y_b)^2 is 1e-10 of the kernel, yet estimated to per cents."""
    T, gap = 12, 1e-5
    X = np.random.default_rng(24).standard_normal((T, T))
    X = X[0] + gap * X
    K = X @ X.T / T
    seen = np.zeros((T, T), bool)
    seen[:, [0, 1]] = True
    zero = np.zeros((T, T))
    scaled = K / gap**2  # logits that matter
    rng = np.random.default_rng(25)
    estimate, error = softmax_kernel(K, scaled / 1e9, seen, zero, rng, samples=4096)
    # A few rows: the reference costs time.
    exact = quadrature(K[:4, :4], scaled[:4, :4] / 1e9, seen[:4, :4], zero[:4, :4])
    v = np.array([0, 1.0, -1.0, 0])
    expected, found = v @ exact @ v, v @ estimate[:4, :4] @ v
    assert found == pytest.approx(expected, rel=0.1)
    assert found < 1e-3 * error.max() + 1e-9 * estimate.max()


def test_permutation_of_tokens_permutes_the_kernel() -> None:
    K, seen = gram(12, 12, seed=26), np.tri(12) > 0
    mean = np.random.default_rng(27).standard_normal((12, 12))
    order = np.random.default_rng(28).permutation(12)
    at = np.ix_(order, order)
    rng = np.random.default_rng(29)
    one, error = softmax_kernel(K, 2 * K, seen, mean, rng, samples=1024)
    two, other = softmax_kernel(K[at], 2 * K[at], seen[at], mean[at], rng, samples=1024)
    bound = stats.t.ppf(1 - LEVEL / 2 / K.size, 15) * np.hypot(error[at], other)
    assert (np.abs(two - one[at]) <= bound + 64 * EPS).all()


@pytest.mark.parametrize("on_circles", [False, True])
def test_intervals_cover(on_circles: bool) -> None:
    """Estimates from few draws: 80 % intervals cover, and the estimates' mean is right."""
    T, runs = (12, 100) if on_circles else (3, 100)
    K = np.array([[1.0, 0.3, 0.1], [0.3, 1.5, -0.2], [0.1, -0.2, 0.8]])
    C = K
    seen = np.tri(3) - np.tri(3, k=-2) > 0
    if on_circles:
        K, C = gram(T, T, seed=30), gram(T, T, seed=31, normalise=True)
        seen = np.zeros((T, T), bool)
        seen[:, :2] = True
    zero = np.zeros((T, T))
    exact = quadrature(K[:3, :3], C[:3, :3], seen[:3, :3], zero[:3, :3])[1, 2]
    children = np.random.default_rng(32).spawn(runs)
    found = [softmax_kernel(K, C, seen, zero, rng, samples=64) for rng in children]
    z = np.array([(k[1, 2] - exact) / e[1, 2] for k, e in found])
    covered = int((np.abs(z) <= stats.t.ppf(0.9, 15)).sum())
    assert stats.binomtest(covered, runs, 0.8).pvalue > LEVEL
    estimates = np.array([k[1, 2] for k, _ in found])
    test: Any = stats.ttest_1samp(estimates, exact)
    assert test.pvalue > LEVEL


def test_rtol_is_reached_or_refused() -> None:
    K, seen, zero = np.eye(8), np.tri(8) > 0, np.zeros((8, 8))
    for rtol in (1e-2, 1e-3):
        rng = np.random.default_rng(33)
        estimate, error = softmax_kernel(K, K, seen, zero, rng, rtol=rtol)
        assert error.max() <= rtol * estimate.max()
    with pytest.raises(AccuracyError, match="samples = 64 does not reach") as raised:
        softmax_kernel(K, K, seen, zero, np.random.default_rng(34), 64, rtol=1e-4)
    # What it says would do does, within what is known of the spread.
    enough = int(re.findall(r"samples = (\d+)", str(raised.value))[-1])
    rng = np.random.default_rng(35)
    softmax_kernel(K, K, seen, zero, rng, 4 * enough, rtol=1e-4)


@settings(max_examples=20)
@given(seed=seeds)
def test_noise_leaves_a_kernel(seed: int) -> None:
    """A kernel of rank one and few samples: noise often brings negative eigenvalues."""
    rng = np.random.default_rng(seed)
    K = gram(12, 1, seed)
    zero = np.zeros_like(K)
    estimate, _ = softmax_kernel(K, K, np.tri(12) > 0, zero, rng, samples=16)
    as_kernel(estimate)


def test_same_seed_same_numbers() -> None:
    K, seen, zero = gram(9, 9, seed=36), np.tri(9) > 0, np.zeros((9, 9))
    one, two = (
        softmax_kernel(K, K, seen, zero, np.random.default_rng(37), samples=64)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one, two)


def test_single_replicate_has_no_error() -> None:
    K, seen, zero = np.eye(3), np.tri(3) > 0, np.zeros((3, 3))
    rng = np.random.default_rng(38)
    estimate, error = softmax_kernel(K, K, seen, zero, rng, samples=16, replicates=1)
    assert np.isfinite(estimate).all()
    assert np.isnan(error).all()


def test_heads_finite_tend_to_it() -> None:
    import torch

    from asymptest.verify import finite, kernel_of

    T, width = 5, 1024
    K = gram(T, T, seed=39, normalise=True)
    Q, _ = np.linalg.qr(np.random.default_rng(40).standard_normal((width, T)))
    X0 = torch.tensor(width**0.5 * np.linalg.cholesky(K) @ Q.T)
    layer = Attention(Softmax(variance=2), "causal", heads=16)
    found = kernel_of(finite(layer, width, copies=24, rng=41), X0)
    rng = np.random.default_rng(42)
    zero = np.zeros((T, T))
    estimate, error = softmax_kernel(K, 2 * K, np.tri(T) > 0, zero, rng, 2**16, 1e-3)
    spread = np.hypot(found.std(0, ddof=1) / len(found) ** 0.5, error)
    # 64 features a head leave a bias of the order of 1 / 64 of the fluctuating part.
    bound = stats.t.ppf(1 - LEVEL / 2 / T**2, 15) * spread + 0.03
    assert (np.abs(found.mean(0) - estimate) <= bound).all()


ONE = np.eye(2)
SEEN = np.ones((2, 2), bool)
RNG = np.random.default_rng(0)
GIVEN = (ONE, ONE, SEEN, ONE, RNG, 64)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((-ONE, ONE, SEEN, ONE), KernelError, "K"),
        ((ONE, ONE - 2, SEEN, ONE), KernelError, "C"),
        ((ONE, np.eye(3), SEEN, ONE), ShapeError, "C must have the shape"),
        ((*GIVEN, None, 1, np.eye(3)), ShapeError, "V must have the shape"),
        ((*GIVEN, None, 1, -ONE), KernelError, "V"),
        ((ONE, ONE, ~SEEN, ONE), ArgumentError, "hides every key from row 0"),
        ((ONE, ONE, SEEN, ONE + np.inf), ArgumentError, "mean must be finite"),
        ((ONE, ONE, SEEN, ONE, RNG, 8), ArgumentError, "samples must be at least"),
        ((ONE, ONE, SEEN, ONE, RNG, 64, 0.0), ArgumentError, "rtol must be positive"),
        ((ONE, ONE, SEEN, ONE, RNG, 64, 0.1, 1), ArgumentError, "rtol needs"),
        ((ONE, ONE, SEEN, ONE, RNG, 64, None, 0), ArgumentError, "replicates must"),
    ],
)
def test_bad_input_is_named(
    arguments: tuple[Any, ...], error: type[Exception], says: str
) -> None:
    filled: Any = arguments if len(arguments) > 4 else (*arguments, RNG)
    with pytest.raises(error, match=says):
        softmax_kernel(*filled)
