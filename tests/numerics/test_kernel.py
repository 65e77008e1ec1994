"""The kernel of a network: its laws, its limits at degenerate kernels, its samples."""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from asymptest import theory
from asymptest.numerics.attention import mask_array
from asymptest.numerics.kernel import is_sampled, kernel, kernel_with_error, kernels
from asymptest.theory import (
    Activation,
    Attention,
    Blocks,
    Custom,
    Dense,
    Fixed,
    LayerNorm,
    Linear,
    Mix,
    Mlp,
    Network,
    Padding,
    Pointwise,
    Residual,
    RMSNorm,
    Saturated,
    Softmax,
    Uniform,
    Window,
    depth,
    erf,
    gelu,
    hermite,
    leaky_relu,
    monomial,
    polyrelu,
    relu,
)
from asymptest.theory.masks import as_mask
from asymptest.verify.strategies import (
    DOUBLING,
    correlations,
    gram_matrices,
    masks,
    networks,
    stochastic_matrices,
)

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

EPS = float(np.finfo(np.float64).eps)
LEVEL = 1e-9  # false-alarm probability of a statistical test here

# Variances from 1/2 to 2, correlations of both signs.
K3 = np.array([[1.0, 0.5, -0.3], [0.5, 2.0, 0.2], [-0.3, 0.2, 0.5]])

EVERYTHING: list[Network] = [
    Dense(2, 0.5),
    Dense(2, 0.5, "orthogonal"),
    Pointwise(relu),
    Mlp(gelu, 4, Dense(2, 0.1), Dense(1, 0.2)),
    RMSNorm(),
    LayerNorm(0.1),
    Attention(Uniform()),
    Attention(Softmax("1/d", tied=True, variance=2), heads=2, value=Dense(2, 0.5)),
    Attention(Softmax("1/d")),
    Attention(Saturated("1/d", tied=True)),
    Residual(RMSNorm() >> Attention(Softmax("1/d", tied=True)), 0.5, 2),
    Residual(Mlp(relu)) * 3,
]
SAMPLED: list[Network] = [
    Attention(Softmax(variance=2), "causal", value=Dense(1, 0.5)),
    Attention(Saturated(), "causal"),
    Residual(Attention(Softmax())) * 2,
]
ACTIVATIONS: list[Activation] = [
    *(phi for phi in vars(theory).values() if isinstance(phi, Activation)),
    leaky_relu(sp.Rational(1, 4)),
    *map(monomial, range(5)),
    *map(hermite, range(4)),
    polyrelu(1, -1, 2),
]


def close(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-12) -> bool:
    """Equal relative to the largest entry."""
    assert ours.shape == theirs.shape
    gap = np.abs(ours - theirs)
    return bool((gap <= tolerance * max(np.abs(theirs).max(), 1.0)).all())


@given(masks(3))
def test_linear_attention_sums_over_what_the_mask_shows(mask: Any) -> None:
    """E sum_ab G_ia G_jb K_ab over visible a, b is s K_ij sum_ab K_ab^2; tied, it is A K A^T."""
    seen = mask_array(as_mask(mask), 3)
    sums = np.einsum("ia,jb,ab->ij", seen, seen, K3**2)
    assert close(kernel(Attention(Linear(variance=2), mask), K3), 2 * K3 * sums)
    A = 2 * seen * K3
    tied = Attention(Linear("1/d", tied=True, variance=2), mask)
    assert close(kernel(tied, K3), A @ K3 @ A.T)


def name(part: object) -> str:
    return repr(part)[:40]


# Composition.


@settings(max_examples=40)
@given(network=networks(T=3, tame=True, sampled=False))
def test_kernels_start_with_the_input_and_end_with_the_kernel(network: Network) -> None:
    found = kernels(network, K3)
    assert found.shape == (depth(network) + 1, 3, 3)
    assert (found[0] == K3).all()
    assert (found[-1] == kernel(network, K3)).all()
    assert not is_sampled(network)


@pytest.mark.parametrize("network", SAMPLED, ids=name)
def test_kernels_of_a_sampled_network(network: Network) -> None:
    found = kernels(network, K3, samples=64)
    assert found.shape == (depth(network) + 1, 3, 3)
    assert (found[0] == K3).all()
    assert is_sampled(network)
    again = kernels(network, K3, samples=64)
    assert (found == again).all()
    assert not (found == kernels(network, K3, samples=64, rng=1)).all()


def test_depth_counts_layers_of_a_chain_and_copies_of_a_repeat() -> None:
    block = Dense(2) >> RMSNorm() >> Dense(3)
    assert len(kernels(block, K3)) == 4
    assert len(kernels(block * 5, K3)) == 6
    assert len(kernels(block * 5 >> Dense(), K3)) == 7
    assert len(kernels(Residual(block), K3)) == 2
    repeated = kernels(Dense(2) * 3, K3)
    assert (repeated == [K3, 2 * K3, 4 * K3, 8 * K3]).all()
    # A repeated block shows what each copy leaves, not what its layers do.
    each = reduce(lambda K, _: [*K, kernel(block, K[-1])], range(5), [K3])
    assert close(kernels(block * 5, K3), np.array(each))


@pytest.mark.parametrize("second", EVERYTHING, ids=name)
def test_the_kernel_of_a_chain_is_the_composition(second: Network) -> None:
    first = Dense(2, 0.3)
    expected = kernel(second, kernel(first, K3))
    assert close(kernel(first >> second, K3), expected)
    assert close(kernel((first >> second) * 1, K3), expected)


@pytest.mark.parametrize("network", EVERYTHING, ids=name)
def test_the_result_is_a_kernel(network: Network) -> None:
    K = kernel(network, K3)
    assert K.dtype == np.float64
    assert close(K, K.T, 4 * EPS)
    eigenvalues = np.linalg.eigvalsh(K)
    assert eigenvalues[0] >= -64 * EPS * eigenvalues[-1]
    mean, error = kernel_with_error(network, K3)
    assert (mean == K).all()
    assert (error == 0).all()


# Symmetries.


@pytest.mark.parametrize("network", EVERYTHING, ids=name)
@given(order=st.permutations(range(3)))
@settings(max_examples=6)
def test_permutations_are_equivariant(network: Network, order: list[int]) -> None:
    """No position is special where the mask is full."""
    at = np.ix_(order, order)
    assert close(kernel(network, K3[at]), kernel(network, K3)[at])


@pytest.mark.parametrize("network", EVERYTHING, ids=name)
@pytest.mark.parametrize("copies", [2, 3])
def test_a_duplicated_input_has_the_duplicated_kernel(
    network: Network, copies: int
) -> None:
    """Every token repeated equally often: attention shares its weight, nothing else moves."""
    at = np.ix_(*[np.repeat(np.arange(3), copies)] * 2)
    assert close(kernel(network, K3[at]), kernel(network, K3)[at])


@given(K0=gram_matrices(max_size=4, decades=1), index=st.data())
@settings(max_examples=25)
def test_duplicated_tokens_have_equal_rows_without_attention(
    K0: np.ndarray, index: st.DataObject
) -> None:
    T = len(K0)
    rows = index.draw(st.lists(st.integers(0, T - 1), min_size=1, max_size=6))
    at = np.ix_(rows, rows)
    network = Dense(2, 0.5) >> Pointwise(relu) >> Residual(RMSNorm() >> Mlp(gelu))
    assert close(kernel(network, K0[at]), kernel(network, K0)[at])


def test_sequences_that_do_not_see_each_other_are_independent_of_each_other() -> None:
    layer = Residual(Attention(Softmax("1/d", tied=True), mask=Blocks((1, 2))))
    alone = Residual(Attention(Softmax("1/d", tied=True)))
    K = kernel(layer * 3, K3)
    assert close(K[:1, :1], kernel(alone * 3, K3[:1, :1]))
    assert close(K[1:, 1:], kernel(alone * 3, K3[1:, 1:]))


# Single layers against matrices written out here.

AVERAGES: dict[str, tuple[object, list[list[float]]]] = {
    "full": ("full", [[1 / 3] * 3] * 3),
    "causal": ("causal", [[1, 0, 0], [1 / 2, 1 / 2, 0], [1 / 3] * 3]),
    "window": (Window(2), [[1, 0, 0], [1 / 2, 1 / 2, 0], [0, 1 / 2, 1 / 2]]),
    "blocks": (Blocks((1, 2)), [[1, 0, 0], [0, 1 / 2, 1 / 2], [0, 1 / 2, 1 / 2]]),
    "padding": (Padding(2), [[1 / 2, 1 / 2, 0]] * 3),
    "table": ([[1, 0, 1]] * 3, [[1 / 2, 0, 1 / 2]] * 3),
}


@pytest.mark.parametrize("which", AVERAGES)
def test_uniform_attention_averages_over_the_visible(which: str) -> None:
    mask, table = AVERAGES[which]
    A = np.array(table)
    layer = Attention(Uniform(), mask, value=Dense(2, 0.5), output=Dense(3, 0.25))
    assert close(kernel(layer, K3), 6 * A @ K3 @ A.T + 3 * 0.5 + 0.25)
    vanishing = Attention(
        Softmax("1/d"), mask, value=Dense(2, 0.5), output=Dense(3, 0.25)
    )
    assert close(kernel(vanishing, K3), kernel(layer, K3))


def test_deterministic_softmax_and_its_saturation() -> None:
    seen = np.tril(np.ones((3, 3)))
    weights = np.exp(2 * K3) * seen
    A = weights / weights.sum(1, keepdims=True)
    layer = Attention(Softmax("1/d", tied=True, variance=2), "causal")
    assert close(kernel(layer, K3), A @ K3 @ A.T)
    hard = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]])  # K3_ii is largest in each row
    layer = Attention(Saturated("1/d", tied=True), "causal")
    assert close(kernel(layer, K3), hard @ K3 @ hard.T)


def test_saturated_attention_shares_its_weight_over_ties() -> None:
    K = np.array([[1.0, 1.0, 2.0], [1.0, 1.0, 2.0], [2.0, 2.0, 4.5]])
    A = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    assert close(
        kernel(Attention(Saturated("1/d", tied=True), "causal"), K)[:2, :2],
        (A @ K @ A.T)[:2, :2],
    )


@given(first=stochastic_matrices(3), second=stochastic_matrices(3, causal=True))
@settings(max_examples=25)
def test_fixed_attention_is_the_mean_over_heads(
    first: np.ndarray, second: np.ndarray
) -> None:
    heads = np.array([first, second])
    layer = Attention(Fixed(heads), heads=2, value=Dense(2), output=Dense(3, 0.25))
    expected = 6 * np.mean([A @ K3 @ A.T for A in heads], axis=0) + 0.25
    assert close(kernel(layer, K3), expected)
    # Not the kernel of the mean matrix, unless the heads agree.
    mean = heads.mean(0)
    shared = Attention(Fixed(mean), heads=2, value=Dense(2), output=Dense(3, 0.25))
    assert close(kernel(shared, K3), 6 * mean @ K3 @ mean.T + 0.25)


@given(first=stochastic_matrices(3), second=stochastic_matrices(3))
@settings(max_examples=25)
def test_a_residual_that_mixes_is_folded(first: np.ndarray, second: np.ndarray) -> None:
    folded = 0.5 * np.eye(3) - 2 * second @ first
    layer = Residual(Mix(first) >> Mix(second), 0.5, -2)
    assert close(kernel(layer, K3), folded @ K3 @ folded.T)
    assert close(kernel(Mix(first), K3), first @ K3 @ first.T)


@pytest.mark.parametrize("norm", [RMSNorm, LayerNorm])
@pytest.mark.parametrize("eps", [0.0, 0.3])
def test_norms(norm: Callable[[float], Network], eps: float) -> None:
    root = np.sqrt(np.diagonal(K3) + eps)
    assert close(kernel(norm(eps), K3), K3 / root[:, None] / root)


def test_residual_adds_kernels() -> None:
    branch = Mlp(relu, 4, Dense(2), Dense(0.5, 0.1))
    expected = 0.25 * K3 + 4 * kernel(branch, K3)
    assert close(kernel(Residual(branch, -0.5, 2), K3), expected)


def test_custom_layers_are_evaluated_from_their_equation() -> None:
    assert close(kernel(DOUBLING, K3), 4 * K3)
    assert close(kernel(Dense(2) >> DOUBLING * 2 >> Dense(3), K3), 96 * K3)

    def cubes(K: Any, new: Any, i: Any, j: Any) -> Any:
        return sp.Eq(
            new[i, j], 6 * K[i, j] ** 3 + 9 * K[i, i] * K[i, j] * K[j, j]
        )  # E u^3 v^3

    mine = Custom("cube", cubes, lambda *_: None, fresh=True)
    assert close(kernel(mine, K3), kernel(Pointwise(monomial(3)), K3))
    assert close(kernel(Residual(mine), K3), K3 + kernel(mine, K3))


# Degenerate kernels: values are the limits.


@pytest.mark.parametrize("phi", ACTIVATIONS, ids=name)
def test_a_zero_row_is_the_limit_of_small_ones(phi: Activation) -> None:
    """A token 0 is that of variance 0+, uncorrelated with the others."""
    layer = Pointwise(phi)
    found = kernel(layer, np.diag([1.0, 0.0]))
    assert np.isfinite(found).all()
    assert close(found, kernel(layer, np.diag([1.0, 1e-28])))
    assert np.isfinite(kernel(layer, np.zeros((2, 2)))).all()


@pytest.mark.parametrize("phi", ACTIVATIONS, ids=name)
@pytest.mark.parametrize("ulps", [-2, -1, 0, 1, 2])
def test_equal_tokens_and_a_few_ulp(phi: Activation, ulps: int) -> None:
    for sign in (1.0, -1.0):
        off = sign * (1 + ulps * EPS)
        K = kernel(Pointwise(phi), np.array([[1.0, off], [off, 1.0]]))
        exact = kernel(Pointwise(phi), np.array([[1.0, sign], [sign, 1.0]]))
        assert np.isfinite(K).all()
        # A jump makes the kernel 1 - sqrt(1 - rho): 2 ulp of rho are 3e-8 of it.
        assert close(K, exact, 4 * math.sqrt(2 * EPS))
        if ulps >= 0:  # rounding beyond 1 is projected back
            assert close(K, exact, 4 * EPS)
    same = kernel(Pointwise(phi), np.ones((2, 2)))
    assert close(same, np.full((2, 2), same[0, 0]), 1e-12)


@pytest.mark.parametrize("phi", ACTIVATIONS, ids=name)
@given(rho=correlations())
@settings(max_examples=15)
def test_kernels_near_every_edge_are_finite_and_bounded(
    phi: Activation, rho: float
) -> None:
    """Cauchy-Schwarz: |K'_01|^2 <= K'_00 K'_11."""
    K = kernel(Pointwise(phi), np.array([[1.0, rho], [rho, 1.0]]))
    assert np.isfinite(K).all()
    assert abs(K[0, 1]) <= (1 + 1e-11) * math.sqrt(K[0, 0] * K[1, 1]) + 1e-14


DEGENERATE = {
    "zero": np.zeros((3, 3)),
    "zero row": np.diag([1.0, 0.0, 2.0]),
    "equal": np.ones((3, 3)),
    "opposite": np.outer([1.0, -1.0, 2.0], [1.0, -1.0, 2.0]),
    "beyond 1": np.array([[1.0, 1 + EPS, 0.0], [1 + EPS, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    "tiny and large": np.diag([1e-60, 1.0, 1e60]),
}


@pytest.mark.parametrize("which", DEGENERATE)
@pytest.mark.parametrize("network", EVERYTHING + SAMPLED, ids=name)
def test_every_layer_is_finite_at_degenerate_kernels(
    network: Network, which: str
) -> None:
    found = kernels(network, DEGENERATE[which], samples=16)
    assert np.isfinite(found).all()


@given(K0=gram_matrices(zero_rows=True), data=st.data())
@settings(max_examples=40)
def test_random_networks_are_finite_at_singular_kernels(
    K0: np.ndarray, data: st.DataObject
) -> None:
    network = data.draw(networks(T=len(K0), tame=True, max_depth=2))
    assert np.isfinite(kernels(network, K0, samples=16)).all()


# Samples of random logits.

PAIR = np.array([[1.0, 0.4], [0.4, 1.5]])
SAMPLES = 512


def exact_pair(variance: float) -> np.ndarray:
    """Return E A K A^T for a causal mask on two tokens, by one-dimensional integrals.

    Position 0 sees itself. Position 1 has the weight a = 1/(1 + exp(-D)) on position 0,
    D = G_10 - G_11 of variance s K_11 (K_00 + K_11 - 2 K_01).
    """
    (k00, k01), (_, k11) = PAIR
    deviation = math.sqrt(variance * k11 * (k00 + k11 - 2 * k01))

    def expectation(f: Callable[[float], float]) -> float:
        def integrand(z: float) -> float:
            a = 1 / (1 + math.exp(-deviation * z))
            return f(a) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

        value, _ = integrate.quad(integrand, -12, 12, epsabs=1e-13, limit=200)
        return value

    cross = expectation(lambda a: a * k00 + (1 - a) * k01)
    own = expectation(
        lambda a: a * a * k00 + 2 * a * (1 - a) * k01 + (1 - a) ** 2 * k11
    )
    return np.array([[k00, cross], [cross, own]])


@pytest.mark.parametrize("variance", [0.25, 1, 9])
def test_sampled_softmax_has_the_exact_mean(variance: float) -> None:
    layer = Attention(Softmax(variance=variance), "causal")
    mean, error = kernel_with_error(layer, PAIR, samples=16 * 4096)
    assert error[0, 0] <= 4 * EPS  # nothing is random in it
    # Student's t with 15 degrees of freedom: 16 batches.
    allowed = stats.t.ppf(1 - LEVEL / 2, 15) * error + 64 * EPS
    assert (np.abs(mean - exact_pair(variance)) <= allowed).all()
    assert error.max() < 5e-3


@pytest.mark.parametrize(
    "network",
    [Attention(Softmax(variance=2)), Residual(Attention(Softmax()) >> Mlp(erf)) * 2],
    ids=name,
)
def test_the_standard_error_is_honest(network: Network) -> None:
    """Over independent seeds, the variance of the mean is the mean squared error bar."""
    runs = 40
    found = [
        kernel_with_error(network, PAIR, samples=SAMPLES, rng=r) for r in range(runs)
    ]
    means = np.array([mean for mean, _ in found])
    squares = np.array([error**2 for _, error in found]).mean(0)
    ratio = means.var(0, ddof=1) / squares
    # Both are chi-square if the batches are Gaussian: 39 and 40 * 15 degrees of freedom.
    low, high = stats.f.ppf([LEVEL / 8, 1 - LEVEL / 8], runs - 1, runs * 15)
    assert ((low <= ratio) & (ratio <= high)).all()


def test_saturated_random_logits_pick_each_position_by_chance() -> None:
    """Two orthogonal tokens of one size: each is the maximum half of the time."""
    mean, error = kernel_with_error(Attention(Saturated()), np.eye(2), samples=4096)
    # A_i is e_0 or e_1 with probability 1/2, independently: K' = (A A^T).
    allowed = stats.t.ppf(1 - LEVEL / 2, 15) * error
    assert (np.abs(mean - [[1.0, 0.5], [0.5, 1.0]]) <= allowed + 4 * EPS).all()
