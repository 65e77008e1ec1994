"""Kernels drawn without weights: exact cases, exact moments, the limit, and bad input."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

from asymptest.numerics import frames, sampled_attention, sampling
from asymptest.numerics import kernel as limit_kernel
from asymptest.numerics.fresh_weights import exact_rows
from asymptest.numerics.moments import (
    chain_variance,
    dense_variance,
    residual_variance,
)
from asymptest.numerics.sampling import sample_kernels
from asymptest.theory import (
    Attention,
    Dense,
    LayerNorm,
    Mix,
    Mlp,
    Network,
    Pointwise,
    Product,
    Residual,
    RMSNorm,
    Rotary,
    Softmax,
    monomial,
    relu,
)
from asymptest.theory.errors import (
    ArgumentError,
    KernelError,
    ShapeError,
    UnsupportedError,
)
from asymptest.verify.claim import FiniteLaw, Profile
from asymptest.verify.families import upper
from asymptest.verify.stochastic import decide_limits
from asymptest.verify.strategies import DOUBLING
from asymptest.verify.two_sample import deviation, distance
from tests.numerics.sampled import A3, COMPARISONS, DRAWS, FIXED, HAAR, K3, LEVEL, gap


def variance_law(network: Network, predict: Any, widths: tuple[int, ...]) -> FiniteLaw:
    """Return the evidence that kernels vary about their mean as Wick's calculus says."""

    def sample(K0: np.ndarray, n: int, copies: int, rng: np.random.Generator) -> Any:
        K = limit_kernel(network, K0)
        return upper((sample_kernels(network, K0, n, copies, rng) - K) ** 2)

    return FiniteLaw(
        sample,
        predict=lambda K0, n: upper(predict(K0, n)),
        scale=lambda K0, n: upper(predict(K0, n)),
        widths=widths,
        spread=4.0,
        group=64,
        rate=True,
    )


VARIANCES: dict[str, tuple[Network, Any]] = {
    "dense": (Dense(2), lambda K, n: dense_variance(Dense(2), K, n)),
    "residual": (
        Residual(Mix(A3) >> Dense(), 0.5, 2),
        lambda K, n: residual_variance(Residual(Dense(), 0.5, 2), "gaussian", A3, K, n),
    ),
    "orthogonal residual": (
        Residual(Mix(A3) >> HAAR, 0.5, 2),
        lambda K, n: residual_variance(
            Residual(Dense(), 0.5, 2), "orthogonal", A3, K, n
        ),
    ),
}


@pytest.mark.parametrize("which", VARIANCES)
def test_variances_are_those_of_wick_calculus(which: str) -> None:
    network, predict = VARIANCES[which]
    own = variance_law(network, predict, (4, 30))
    parts = {
        "own": own,
        "half as much again": replace(
            own, predict=lambda K, n: 1.5 * own.predict(K, n)
        ),
    }
    profile = Profile("tests", examples=1, instances=1, resolution=0.15)
    found = decide_limits(st.just(K3), parts, profile, 0, LEVEL / COMPARISONS)
    assert found["own"].verdict == "SUPPORTED", found["own"]
    assert found["half as much again"].verdict == "REFUTED"


@pytest.mark.parametrize("which", VARIANCES)
def test_variances_at_width_1e6(which: str) -> None:
    """There a kernel is Gaussian, and its sample variance a multiple of chi-square."""
    network, predict = VARIANCES[which]
    n = 10**6
    found = upper(sample_kernels(network, K3, n, DRAWS, 11))
    ratio = found.var(0, ddof=1) / upper(predict(K3, n))
    level = LEVEL / COMPARISONS / len(ratio) / 2
    low, high = stats.chi2.ppf([level, 1 - level], DRAWS - 1) / (DRAWS - 1)
    assert (low < ratio).all()
    assert (ratio < high).all()
    assert 0.85 < low < high < 1.2


@pytest.mark.parametrize("n", [5, 10**6])
def test_a_chain_has_the_law_of_a_product_of_chi_squares(n: int) -> None:
    depth = 4
    K = sample_kernels(Dense() * depth, np.eye(2), n, DRAWS, 4)
    rng = np.random.default_rng(5)
    product = (rng.chisquare(n, (DRAWS, depth)) / n).prod(1)
    bound = 2 * deviation(LEVEL / COMPARISONS, DRAWS)
    assert distance(K[:, 0, 0], product) <= bound
    spread = K[:, 0, 0].var() / chain_variance(depth, n)
    assert spread == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize(
    "which",
    [
        "dense chain",
        "mlp",
        "entries of a skip",
        "tied softmax",
        "tied rotary",
        "norm of a branch",
    ],
)
def test_wide_networks_have_the_limit_kernel(which: str) -> None:
    network, _ = FIXED[which]
    n = 2**16
    found = sample_kernels(network, K3, n, 4, 6)
    expected = limit_kernel(network, K3)
    scale = np.sqrt(np.outer(np.diagonal(expected), np.diagonal(expected)))
    # A few layers, each with a relative deviation of about sqrt(2 / n) = 0.006.
    assert (abs(found - expected) <= 0.1 * scale).all()
    assert (abs(found - expected) > 0).any()


def test_rotary_logits_turn_by_the_frequencies_of_their_head() -> None:
    """With queries as keys, E q_i k_j / d = K_ij mean_m cos((i - j) base^(-2 m / d))."""
    d, F = 4, np.linalg.cholesky(K3)[None]
    rng = np.random.default_rng(13)
    G = sampled_attention._rotated(Rotary(9), True, F, heads=DRAWS, d=d, rng=rng) / d
    theta = 9.0 ** -(np.arange(0, d, 2) / d)
    lag = np.subtract.outer(np.arange(3), np.arange(3))
    expected = K3 * np.cos(lag[..., None] * theta).mean(-1)
    error = G[0].std(0) / DRAWS**0.5
    assert (abs(G[0].mean(0) - expected) <= 8 * error + 1e-12).all()
    assert (8 * error < 0.2).all()


def test_orthogonal_layers_and_mixes_leave_the_kernel_exact() -> None:
    network = Dense(2, init="orthogonal") >> Mix(A3) >> HAAR
    found = sample_kernels(network, K3, 3, 5)
    np.testing.assert_allclose(found, [2 * A3 @ K3 @ A3.T] * 5, atol=1e-14)
    B = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    folded = 0.5 * np.eye(3) + 2 * B @ A3
    (K,) = sample_kernels(Residual(Mix(A3) >> Mix(B), 0.5, 2), K3, 3)
    np.testing.assert_allclose(K, folded @ K3 @ folded.T, atol=1e-14)
    singular = np.ones((3, 3))
    np.testing.assert_allclose(
        sample_kernels(HAAR, singular, 4), [singular], atol=1e-14
    )


@pytest.mark.parametrize(
    ("network", "entries"),
    [
        (Residual(RMSNorm() >> Pointwise(relu) >> Dense()), True),
        (Residual(Residual(Pointwise(relu) >> Dense()) >> Dense()), True),
        (Residual(Dense() >> Residual(Pointwise(relu) >> Dense())), True),
        (Residual(Residual(Dense()) >> Mix(A3) >> Mlp(relu)), False),
        (Residual(Mlp(relu) >> RMSNorm()), False),
        (Residual(Product(Dense() >> Pointwise(relu), Dense())), True),
        (Residual(Product(Dense() >> Pointwise(relu), Dense()) >> Dense()), False),
        (Residual(Product(LayerNorm(), Dense()) >> Dense()), True),
        (Residual(Product(Residual(Dense()), Dense()) >> Dense()), True),
    ],
)
def test_entries_are_kept_where_an_activation_has_seen_them(
    network: Residual, entries: bool
) -> None:
    """A later activation sees the same ones; coordinates would have forgotten them."""
    rng = np.random.default_rng(12)
    walk = sampling._Walk(3, 40, rng)
    rows = walk.residual(network, exact_rows(np.eye(3), 40, 2, rng))
    assert rows.entries == entries
    assert rows.coordinates.shape == (2, 3, 40 if entries else 4)


def test_branches_of_a_product_see_the_same_entries() -> None:
    """Given X, the kernel of phi(X) * (phi(X) W) has the mean F^2, F = mean_k phi(X_k)^2."""
    phi, n, draws = monomial(3), 3, 40_000
    network = Product(Pointwise(phi) >> Dense(), Pointwise(phi))
    K = sample_kernels(network, np.eye(1), n, draws, 14)[:, 0, 0]
    X = np.random.default_rng(15).standard_normal((draws, n))
    X *= n**0.5 / np.linalg.norm(X, axis=1, keepdims=True)
    F = (X**6).mean(1)
    bound = 8 * ((K.var() + (F**2).var()) / draws) ** 0.5
    assert abs(K.mean() - (F**2).mean()) <= bound
    assert (F**2).mean() - F.mean() ** 2 > 2 * bound  # were they independent


def test_equal_tokens_stay_equal() -> None:
    """So that their logits tie, to the last bits."""
    K0 = np.array([[1.0, 1.0, 0.2], [1.0, 1.0, 0.2], [0.2, 0.2, 1.0]])
    block = Residual(LayerNorm() >> Attention(Softmax())) >> Residual(Mlp(relu))
    K = sample_kernels(block * 3, K0, 64, 10, 7)
    # psd_sqrt realises a singular kernel to sqrt(eps); no layer makes it worse.
    np.testing.assert_allclose(K[:, 0, 0], K[:, 0, 1], rtol=1e-7)


def test_dead_rows_are_nan_as_often_as_in_torch() -> None:
    """At width 4, all units of a position are dead with probability 1/16."""
    network = Dense() >> Pointwise(relu) >> RMSNorm()
    K = sample_kernels(network, np.eye(1), 4, DRAWS, 8)
    dead = np.isnan(K[:, 0, 0]).mean()
    assert abs(dead - 1 / 16) <= deviation(LEVEL / COMPARISONS, DRAWS)
    np.testing.assert_allclose(K[~np.isnan(K)], 1, atol=1e-12)


def test_batches_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    network, width = FIXED["pre-norm block"]
    at_once = sample_kernels(network, K3, width, DRAWS, 9)
    monkeypatch.setattr(frames, "COLUMNS", 1)
    monkeypatch.setattr(sampling, "BATCH", 50_000)
    assert gap(at_once, sample_kernels(network, K3, width, DRAWS, 10)) <= 1


def test_memory_does_not_grow_with_the_width() -> None:
    import tracemalloc

    network = Residual(RMSNorm() >> Mlp(relu, 1)) >> Attention(Softmax(), heads=8)
    sizes = []
    for width in (2**10, 2**20):
        tracemalloc.start()
        sample_kernels(network, np.eye(4), width, 1)
        sizes.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert sizes[1] < 20 * 2**20  # the hidden units alone would take 32 MB
    assert sizes[0] > 0


def test_seeds_replay() -> None:
    network, width = FIXED["pre-norm block"]
    one, two, other = (sample_kernels(network, K3, width, 3, s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(sample_kernels(network, K3, width, 3, rng), one)
    assert (sample_kernels(network, K3, width, 3, rng) != one).any()
    assert (one == one.mT).all()


@pytest.mark.parametrize(
    ("network", "K0", "width", "samples", "error", "says"),
    [
        (Dense(), K3, 0, 1, ArgumentError, "width must be .*got 0"),
        (Dense(), K3, 4, 0, ArgumentError, "samples must be .*got 0"),
        (Dense(), K3, 2, 1, ShapeError, "at least 3"),
        (Dense(), -K3, 4, 1, KernelError, "negative"),
        (Mix(np.eye(2)), K3, 4, 1, ShapeError, "for 2 positions"),
        (Dense(expansion=Fraction(1, 3)), K3, 4, 1, ShapeError, "4/3 features"),
        (Attention(heads=3), K3, 4, 1, ShapeError, "divisible by heads = 3"),
        (
            Attention(Softmax(position=Rotary())),
            K3,
            5,
            1,
            ShapeError,
            "a head has 5",
        ),
        (Dense() >> DOUBLING, K3, 4, 1, UnsupportedError, r"Custom\('doubling'\)"),
    ],
)
def test_bad_input_is_named(
    network: Network,
    K0: np.ndarray,
    width: int,
    samples: int,
    error: type[Exception],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        sample_kernels(network, K0, width, samples)
