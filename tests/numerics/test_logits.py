"""Logits in the limit: what is drawn has the covariance that theory/ derives."""

from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from asymptest.numerics import logits
from asymptest.numerics.logits import (
    added_bias,
    draws,
    fixed_bias,
    is_random,
    lags,
    logit_mean,
    seen_kernel,
    turn,
)
from asymptest.theory import (
    Additive,
    ALiBi,
    Elementwise,
    Fixed,
    Linear,
    RelativeBias,
    Rotary,
    Saturated,
    Shaped,
    Softmax,
    Uniform,
)
from asymptest.theory.arrays import Array
from asymptest.theory.errors import ArgumentError, KernelError, ShapeError
from asymptest.theory.patterns import Pattern, Scored
from asymptest.verify.strategies import gram_matrices

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

EPS = float(np.finfo(np.float64).eps)
LEVEL = 1e-9  # false-alarm probability of a statistical test here
seeds = st.integers(0, 2**32 - 1)

K4 = np.array(
    [
        [1.0, 0.5, -0.3, 0.1],
        [0.5, 2.0, 0.2, 0.0],
        [-0.3, 0.2, 0.5, 0.2],
        [0.1, 0.0, 0.2, 1.5],
    ]
)
P4 = np.exp(-np.abs(np.subtract.outer(range(4), range(4))) / 2)
SAMPLES = 2**15


def mean_cosine(base: float, lag: int) -> float:
    """Return r(lag) from cosine integrals in 30 digits."""
    if lag == 0:
        return 1.0
    with mpmath.workdps(30):
        b, delta = mpmath.mpf(base), mpmath.mpf(abs(lag))
        return float((mpmath.ci(delta) - mpmath.ci(delta / b)) / mpmath.log(b))


def rotations_of(base: float, T: int) -> np.ndarray:
    """Return r(a - i - b + j) as an array over a, i, b, j."""
    table = [mean_cosine(base, lag) for lag in range(2 * T - 1)]
    lag = np.subtract.outer(range(T), range(T))
    return np.array(table)[np.abs(np.subtract.outer(lag, lag))]


def all_draws(
    scores: Scored, K: np.ndarray, samples: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return all logits and all that is added to them, the draw first."""
    rng = np.random.default_rng(seed)
    parts = [np.broadcast_arrays(*pair) for pair in draws(scores, 1, K, samples, rng)]
    G, added = (np.concatenate(part)[:, 0] for part in zip(*parts, strict=True))
    return G, added


def has_covariance(x: np.ndarray, C: np.ndarray) -> bool:
    """Say whether half of N antithetic Gaussian draws (N, m) have the covariance C.

    The sum of squares of x_p ± x_q over independent draws, divided by its variance, is
    chi-square, and Cov(x_p, x_q) is a quarter of the difference of both.
    """
    half, m = len(x) // 2, x.shape[1]
    x = x[:half]
    largest = np.diagonal(C).max()
    p, q = np.triu_indices(m)
    low, high = stats.chi2.ppf([LEVEL / 4 / len(p), 1 - LEVEL / 4 / len(p)], half)
    second = x.T @ x
    good = True
    for sign in (1.0, -1.0):
        found = second[p, p] + second[q, q] + 2 * sign * second[p, q]
        variance = C[p, p] + C[q, q] + 2 * sign * C[p, q]
        rounding = 64 * EPS * half * largest
        good &= bool((found <= high * variance + rounding).all())
        good &= bool((found >= low * variance - rounding).all())
    return good


SCORES: dict[str, tuple[Scored, np.ndarray, float | None]] = {
    "plain": (Softmax(variance=2), K4, None),
    "temperature": (Softmax(variance=2, temperature=2), K4 / 2, None),
    "saturated": (Saturated(variance=2), K4, None),
    "elementwise": (Elementwise(variance=2), K4, None),
    "rotary": (Softmax(variance=2, position=Rotary(3.0)), K4, 3.0),
    "slow rotary": (Softmax(variance=2, position=Rotary()), K4, 10000.0),
    "fast rotary": (Softmax(variance=2, position=Rotary(1.01)), K4, 1.01),
    "additive": (Softmax(variance=2, position=Additive(P4)), K4 + P4, None),
    "content": (Softmax(variance=2, position=Additive(P4, -0.5)), K4 / 4 + P4, None),
}


@pytest.mark.parametrize("which", SCORES)
def test_logits_have_their_covariance(which: str) -> None:
    """Cov(G_ai, G_bj) = variance S_ab S_ij r(a - i - b + j)."""
    scores, S, base = SCORES[which]
    expected = 2 * np.einsum("ab,ij->aibj", S, S)
    if which == "temperature":
        expected = 0.5 * np.einsum("ab,ij->aibj", K4, K4)
    if base is not None:
        expected *= rotations_of(base, 4)
    G, added = all_draws(scores, K4, SAMPLES)
    assert has_covariance(G.reshape(-1, 16), expected.reshape(16, 16))
    assert not has_covariance(G.reshape(-1, 16), 1.1 * expected.reshape(16, 16))
    assert not added.any()


def test_a_transposed_lag_is_noticed() -> None:
    """r(a - i + b - j), the wrong sign, is another law."""
    G, _ = all_draws(SCORES["rotary"][0], K4, SAMPLES)
    lag = np.subtract.outer(range(4), range(4))
    wrong = np.vectorize(lambda n: mean_cosine(3.0, n))(np.add.outer(lag, lag))
    expected = 2 * np.einsum("ab,ij->aibj", K4, K4) * wrong
    assert not has_covariance(G.reshape(-1, 16), expected.reshape(16, 16))


@settings(max_examples=15)
@given(
    K=gram_matrices(max_size=4, zero_rows=True, decades=1.0),
    digits=st.floats(-2, 5),
    seed=seeds,
)
def test_rotary_covariance_of_any_kernel(
    K: np.ndarray, digits: float, seed: int
) -> None:
    """Singular kernels and zero rows too; the base's distance to 1 on a log scale."""
    base, T = 1 + 10.0**digits, len(K)
    scores = Softmax(position=Rotary(base))
    G, _ = all_draws(scores, K, 2048, seed)
    expected = np.einsum("ab,ij->aibj", K, K) * rotations_of(base, T)
    assert has_covariance(G.reshape(len(G), -1), expected.reshape(T * T, T * T))


@pytest.mark.parametrize("causal", [True, False])
def test_tables_are_common_to_a_bucket(causal: bool) -> None:
    """Biases are equal in a bucket, independent of others and of the logits."""
    bias = RelativeBias(0.5, 4, 3, causal)
    G, added = all_draws(Softmax(bias=bias), K4, SAMPLES)
    at = np.arange(4)
    bucket = bias.bucket(at[:, None], at).ravel()
    B = added.reshape(-1, 16)
    same = bucket[:, None] == bucket
    for p, q in np.argwhere(same):
        assert (B[:, p] == B[:, q]).all()
    expected = np.zeros((32, 32))
    expected[:16, :16] = np.kron(K4, K4)
    expected[16:, 16:] = 0.5 * same
    assert has_covariance(np.hstack([G.reshape(-1, 16), B]), expected)


def test_a_random_table_alone_is_random() -> None:
    """The mean of tied logits stays, and the table fluctuates about it."""
    scores = Softmax("1/d", True, 2, bias=RelativeBias(0.5, 4, 3))
    G, added = all_draws(scores, K4, SAMPLES)
    assert (G == 2 * K4).all()
    assert has_covariance(added[:, :, 0], 0.5 * (np.eye(4)))


@pytest.mark.parametrize("samples", [1, 2, 7, 64, 101])
@pytest.mark.parametrize("chunk", [2**22, 32])
def test_draws_come_with_their_negatives(
    samples: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each part that is held at once; if their number is odd, one stands alone."""
    monkeypatch.setattr(logits, "CHUNK", chunk)
    bias = RelativeBias(0.5, 4, 3)
    scores = Softmax("1/sqrt(d)", variance=2, position=Rotary(), bias=bias)
    total = 0
    for G, added in draws(scores, 1, K4, samples, np.random.default_rng(0)):
        assert G.shape == added.shape == (len(G), 1, 4, 4)
        half = (len(G) + 1) // 2
        for x in (G, added):
            assert (x[half:] == -x[: len(G) - half]).all()
            assert (x[:half] != 0).all()
        assert len(np.unique(G[:, 0, 0, 0])) == len(G)
        total += len(G)
    assert total == samples


def test_negatives_are_about_the_mean() -> None:
    scores = Softmax("1/d", True, 2, bias=RelativeBias(0.5, 4, 3))
    ((G, added),) = draws(scores, 1, K4, 10, np.random.default_rng(0))
    assert (G == 2 * K4).all()
    assert (added[5:] == -added[:5]).all()


DETERMINISTIC: dict[str, tuple[Scored, np.ndarray]] = {
    "tied": (Softmax("1/d", True, 2), 2 * K4),
    "temperature": (Softmax("1/d", True, 2, temperature=0.5), 4 * K4),
    "vanishing": (Softmax("1/d"), 0 * K4),
    "no variance": (Softmax(variance=0), 0 * K4),
    "additive": (
        Softmax("1/d", True, 2, Additive(P4, 0.5)),
        2 * (K4 / 4 + P4),
    ),
    "rotary": (
        Softmax("1/d", True, 2, Rotary(3.0)),
        2 * K4 * np.vectorize(lambda n: mean_cosine(3.0, n))(lags(4)),
    ),
}


@pytest.mark.parametrize("which", DETERMINISTIC)
def test_logits_that_do_not_fluctuate_come_once(which: str) -> None:
    scores, expected = DETERMINISTIC[which]
    ((G, added),) = draws(scores, 1, K4, 100, np.random.default_rng(0))
    assert G.shape == added.shape == (1, 1, 4, 4)
    np.testing.assert_allclose(G[0, 0], expected, rtol=0, atol=16 * EPS * 8)
    assert not added.any()
    assert not is_random(scores)
    S = seen_kernel(scores, K4)
    assert (logit_mean(scores, S) == G[0, 0]).all()


@pytest.mark.parametrize(
    ("pattern", "random"),
    [
        (Uniform(), False),
        (Fixed(np.eye(2)), False),
        (Linear(), False),  # its kernel has a closed form
        (Softmax(), True),
        (Saturated(), True),
        (Elementwise(), True),
        (Shaped(), True),
        (Shaped(Softmax(variance=0)), False),
        (Softmax(bias=RelativeBias()), True),
        (Softmax("1/d", bias=RelativeBias()), True),
        (Softmax("1/d", bias=RelativeBias(0.0)), False),
        (Softmax("1/d", bias=ALiBi()), False),
    ],
)
def test_which_patterns_are_random(pattern: Pattern, random: bool) -> None:
    assert is_random(pattern) == random


# 0 and a few distances, bases to beyond those in use; near 1 both cosine integrals cancel.
@pytest.mark.parametrize("base", [1.001, 1.5, 10000.0, 1e7])
def test_turn_in_float64(base: float) -> None:
    scores = Softmax(position=Rotary(base))
    lag = np.array([[0, 1, -1], [5, -40, 1023]])
    expected = np.vectorize(lambda n: mean_cosine(base, n))(lag)
    # Cosine integrals of size up to |log(1 / base)| + 1, their arguments rounded.
    bound = 16 * EPS * (2 + np.log(base)) / np.log(base)
    assert np.abs(turn(scores, lag) - expected).max() <= bound
    assert (turn(scores, lag)[0, 1:] == turn(scores, lag)[0, 1]).all()
    assert turn(scores, lag)[0, 0] == 1


# What is added.

ONE = [[0.0, -1.0], [2.0, 3.0]]
TWO = [ONE, [[1.0, 1.0], [0.0, -4.0]]]


def test_given_numbers_are_added_as_they_are() -> None:
    assert (fixed_bias(Array.of(ONE), 2, 2) == [ONE]).all()
    assert (fixed_bias(Array.of(TWO), 2, 2) == TWO).all()
    assert (fixed_bias(None, "sqrt", 3) == np.zeros((1, 3, 3))).all()
    assert (fixed_bias(RelativeBias(), 2, 3) == np.zeros((1, 3, 3))).all()


@pytest.mark.parametrize("T", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("shape", [(5, 5), (4, 5, 5), (2, 8, 8)])
def test_numbers_for_another_length_are_refused(T: int, shape: tuple[int, ...]) -> None:
    """Also where their number would fit, as that of 4 x 4 for 2 heads of 2 x 2."""
    with pytest.raises(ShapeError, match=f"for {shape[-1]} positions.* T = {T}"):
        fixed_bias(Array.of(np.zeros(shape)), 1, T)


def test_alibi_falls_with_the_distance() -> None:
    bias = fixed_bias(ALiBi(), 3, 4)
    assert bias.shape == (3, 4, 4)
    for h, slope in enumerate([2**-4, 2**-8, 2**-2]):
        for i in range(4):
            for j in range(4):
                assert bias[h, i, j] == -slope * abs(i - j)
    assert (fixed_bias(ALiBi((-1.0,)), 1, 2) == [[[0, 1], [1, 0]]]).all()


def test_tables_are_read_by_bucket() -> None:
    tables = np.array([[0.0, 1.0, 2.0, 3.0], [10.0, 20.0, 30.0, 40.0]])
    bias = RelativeBias(1.0, 4, 3, causal=False)
    # Two buckets a side: distance 0 and more; the future has the other half.
    assert (
        added_bias(bias, 1, 3, tables)
        == [
            [[[0, 3, 3], [1, 0, 3], [1, 1, 0]]],
            [[[10, 40, 40], [20, 10, 40], [20, 20, 10]]],
        ]
    ).all()
    assert (added_bias(Array.of(ONE), 1, 2, tables) == [[ONE]]).all()


def test_bad_encodings_are_named() -> None:
    with pytest.raises(KernelError, match=r"Additive.kernel .*symmetric"):
        seen_kernel(Softmax(position=Additive([[1.0, 2.0], [0.0, 1.0]])), np.eye(2))
    with pytest.raises(KernelError, match=r"Additive.kernel.*negative"):
        seen_kernel(Softmax(position=Additive([[-1.0]])), np.eye(1))
    g: Any = sp.Symbol("g")
    with pytest.raises(ArgumentError, match=r"Additive.content = g is a symbol"):
        seen_kernel(Softmax(position=Additive([[1.0]], g)), np.eye(1))


def test_symbols_have_no_draws() -> None:
    s: Any = sp.Symbol("s", positive=True)
    found: Iterator[Any] = draws(
        Softmax(temperature=s), 1, K4, 4, np.random.default_rng(0)
    )
    with pytest.raises(ArgumentError, match=r"Softmax\(temperature=s\).*symbol"):
        next(found)
