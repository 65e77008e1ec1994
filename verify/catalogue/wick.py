"""Claims about products of random matrices: what Wick's calculus says of attention layers.

Entries A-01, A-02 and A-17: arXiv 2302.10322, section 3, re-derived by theory/wick/.
"""

from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import sympy as sp
from hypothesis import strategies as st
from jaxtyping import Float

from asymptest.numerics.kernel import kernel
from asymptest.numerics.moments import residual_variance
from asymptest.theory.definition import K_MATRIX, N_IN, I, J, T, X
from asymptest.theory.network import Attention, Dense, Mix, Network, Residual
from asymptest.theory.patterns import Fixed
from asymptest.theory.steps import E
from asymptest.theory.update import NEXT_MATRIX
from asymptest.theory.wick.expectation import expectation
from asymptest.theory.wick.laws import Gaussian, Haar
from asymptest.theory.wick.matrices import to_sum
from asymptest.theory.wick.tensors import Index, Tensor, total
from asymptest.verify.claim import Claim, Exact, FiniteLaw, Identity, Rng, Source
from asymptest.verify.deterministic import EPS
from asymptest.verify.families import (
    finite_kernels,
    kernels_of_size,
    mean_kernel,
    upper,
)

Kernel = Float[np.ndarray, "T T"]
Stack = Float[np.ndarray, "layers T T"]

PAPER = "arXiv 2302.10322 (He et al., ICLR 2023)"
HAAR = Dense(init="orthogonal")


@dataclass(frozen=True, eq=False)
class Mixing:
    """Attention matrices, one a layer or one a head, and the kernel of the input."""

    A: Stack
    K0: Kernel
    width: int
    heads: int = 1


@st.composite
def attention_matrices(draw, count: int, size: int) -> Stack:
    """Draw `count` row-stochastic matrices, all different unless they shrink."""
    weight = st.integers(0, 9)
    raw = [
        [[draw(weight) for _ in range(size)] for _ in range(size)] for _ in range(count)
    ]
    counts = np.array(raw, dtype=np.float64) + np.eye(size)  # no row is empty
    return counts / counts.sum(-1, keepdims=True)


@st.composite
def deep_stacks(draw) -> Mixing:
    """Draw L layers of attention matrices on T positions and a width of at least T."""
    size, depth = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    heads = draw(st.sampled_from([1, 2, 4]))
    width = heads * draw(st.integers(-(-size // heads), 16))
    return Mixing(
        draw(attention_matrices(depth, size)), draw(kernels_of_size(size)), width, heads
    )


def stack_of(mixing: Mixing, value: Dense = HAAR, output: Dense = HAAR) -> Network:
    """Return the skipless attention-only network, a layer for each matrix."""
    layers = [
        Attention(Fixed(A), "full", mixing.heads, value, output) for A in mixing.A
    ]
    return reduce(lambda left, right: left >> right, layers)


def one_draw(network: Network, mixing: Mixing, rng: Rng) -> Kernel:
    """Return the kernel of a single finite network."""
    return finite_kernels(network, mixing.K0, mixing.width, 1, rng)[0]


def product(mixing: Mixing) -> Kernel:
    """Return A_L ... A_1."""
    return reduce(lambda left, A: A @ left, mixing.A, np.eye(len(mixing.K0)))


def rounding(mixing: Mixing) -> float:
    """Bound the rounding of a chain of orthogonal layers.

    Each layer multiplies by a Haar matrix twice (orthogonal to a few width * eps) and by A
    (dot products of length T, rows of sum 1, so that nothing grows).
    """
    layers, size = len(mixing.A), len(mixing.K0)
    return (
        16
        * layers
        * (size + 2 * mixing.width)
        * EPS
        * float(np.diagonal(mixing.K0).max())
    )


EXACT = Exact(
    left=lambda m, rng: one_draw(stack_of(m), m, rng),
    right=lambda m: product(m) @ m.K0 @ product(m).T,
    bound=rounding,
)


def _different_heads(mixing: Mixing, rng: Rng) -> Kernel:
    """One layer whose heads have the matrices of the layers: no longer exact."""
    heads = len(mixing.A)
    width = heads * -(-max(mixing.width, len(mixing.K0)) // heads)
    layer = Attention(Fixed(mixing.A), "full", heads, HAAR, HAAR)
    return finite_kernels(layer, mixing.K0, width, 1, rng)[0]


ORTHOGONAL_EXACT = Claim(
    name="wick/orthogonal-attention-is-exact",
    statement=(
        sp.Eq(
            NEXT_MATRIX,
            sp.MatrixSymbol("A", T, T) * K_MATRIX * sp.MatrixSymbol("A", T, T).T,
        ),
    ),
    source=Source(PAPER, "section 3 (entry A-01 a)"),
    instances=deep_stacks(),
    evidence=(EXACT,),
    mutants={
        "transpose of A missing": replace(EXACT, right=lambda m: product(m) @ m.K0),
        "A transposed": replace(
            EXACT, right=lambda m: product(m).T @ m.K0 @ product(m)
        ),
        "W^O Gaussian": replace(
            EXACT, left=lambda m, rng: one_draw(stack_of(m, output=Dense()), m, rng)
        ),
        "a different A_h in each head": replace(
            EXACT,
            left=_different_heads,
            right=lambda m: np.mean([A @ m.K0 @ A.T for A in m.A], axis=0),
        ),
    },
    limits="Checked for up to 8 layers, 6 positions and 64 features.",
)


# --- heads with matrices of their own -------------------------------------------


@st.composite
def head_stacks(draw) -> Mixing:
    """Draw two heads with different attention matrices on three positions."""
    A = draw(attention_matrices(2, 3))
    A = 0.5 * A + 0.5 * np.stack(
        [np.eye(3), np.eye(3)[::-1]]
    )  # apart, whatever is drawn
    return Mixing(A, draw(kernels_of_size(3)), 0, heads=2)


def _heads_layer(mixing: Mixing) -> Network:
    return Attention(Fixed(mixing.A), "full", 2, HAAR, HAAR)


def _mean_over_heads(mixing: Mixing) -> Kernel:
    return np.mean([A @ mixing.K0 @ A.T for A in mixing.A], axis=0)


def _mean_matrix(mixing: Mixing) -> Kernel:
    A = mixing.A.mean(axis=0)
    return A @ mixing.K0 @ A.T


HEADS = mean_kernel(
    _heads_layer,
    lambda m: m.K0,
    lambda m: kernel(_heads_layer(m), m.K0),
    widths=(8, 16),
    # Less than independent Gaussian weights would give, sqrt(2 H / n) an entry, n = 8.
    spread=(2 * 2 / 8) ** 0.5,
)

MULTI_HEAD = Claim(
    name="wick/heads-average-kernels",
    statement=(
        sp.Eq(
            E(sp.Symbol("K'")),
            sp.Sum(sp.Symbol("A_h K A_h^T"), (sp.Symbol("h"), 1, sp.Symbol("H")))
            / sp.Symbol("H"),
        ),
    ),
    source=Source(PAPER, "multi-head mixing (entry A-02)"),
    instances=head_stacks(),
    evidence=(
        HEADS,
        Exact(
            lambda m, _: kernel(_heads_layer(m), m.K0),
            _mean_over_heads,
            lambda m: 64 * EPS * float(m.K0.max()),
        ),
    ),
    mutants={
        "mean matrix (mean A) K (mean A)^T": replace(
            HEADS, predict=lambda m, _: upper(_mean_matrix(m))
        ),
        "1/H^2": replace(HEADS, predict=lambda m, _: upper(_mean_over_heads(m) / 2)),
    },
    limits="Two heads, three positions; the mean is exact at every width.",
)


# --- normalised skips ------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Skip:
    """alpha X + beta A X W with alpha^2 + beta^2 = 1."""

    alpha: float
    A: Kernel
    K0: Kernel

    @property
    def beta(self) -> float:
        """The weight of the branch."""
        return (1 - self.alpha**2) ** 0.5

    @property
    def network(self) -> Residual:
        """The network, with orthogonal weights."""
        return Residual(Mix(self.A) >> HAAR, self.alpha, self.beta)

    @property
    def mixed(self) -> Kernel:
        """A K0 A^T."""
        return self.A @ self.K0 @ self.A.T


@st.composite
def skips(draw) -> Skip:
    """Draw alpha away from 0 and 1, and a matrix that differs from the identity."""
    (A,) = draw(attention_matrices(1, 3))
    mix = 0.5 * A + 0.5 * np.tril(np.ones((3, 3))) / np.arange(1, 4)[:, None]
    return Skip(draw(st.floats(0.4, 0.9)), mix, draw(kernels_of_size(3)))


NORMALISED = mean_kernel(
    lambda s: s.network,
    lambda s: s.K0,
    lambda s: kernel(s.network, s.K0),
    widths=(8, 16),
    # The exact variance is at most 4 alpha^2 beta^2 / n <= 1/n of the skip's and the
    # branch's sizes, and their sum is the scale: 2 alpha beta sqrt(q m) <= the scale.
    spread=(2 / 8) ** 0.5,
)


def _squared_errors(skip: Skip, width: int, copies: int, rng: Rng) -> np.ndarray:
    network = skip.network
    kernels = finite_kernels(network, skip.K0, width, copies, rng)
    return upper((kernels - kernel(network, skip.K0)) ** 2)


def _error_law(skip: Skip, width: int) -> np.ndarray:
    network = skip.network
    return upper(residual_variance(network, "orthogonal", skip.A, skip.K0, width))


CROSS_TERM = FiniteLaw(
    sample=_squared_errors,
    predict=_error_law,
    scale=_error_law,
    widths=(8, 32),
    # A square of a nearly Gaussian number: relative standard deviation sqrt(2); the cross
    # term is a sum of products, so allow twice that.
    spread=2 * 2**0.5,
    group=64,
    coarseness=10,
    rate=True,
)


def _cross_terms() -> dict[str, sp.Expr]:
    """Return E (1/n) sum_k X_ik (F W)_jk for Gaussian and for Haar W, which is 0."""
    a, k = Index("a", N_IN), Index("k", N_IN)
    F = Tensor("F")
    laws = {"Gaussian": Gaussian(1 / N_IN), "Haar": Haar(sp.Integer(1), N_IN)}
    return {
        name: to_sum(
            expectation(total(X(I, k) * F(J, a) * Tensor("W", law)(a, k), a, k))
        )
        for name, law in laws.items()
    }


# The printed forms of both laws against the derived ones.
TYPED_MEAN = Exact(
    lambda s, _: kernel(s.network, s.K0),
    lambda s: s.alpha**2 * s.K0 + s.beta**2 * s.mixed,
    lambda s: 64 * EPS * float(s.K0.max()),
)
TYPED_VARIANCE = Exact(
    lambda s, _: residual_variance(s.network, "orthogonal", s.A, s.K0, 8),
    lambda s: (
        (s.alpha * s.beta) ** 2
        / 8
        * (_outer(s.K0, s.mixed) + _outer(s.mixed, s.K0) + 2 * s.K0 * s.mixed)
    ),
    lambda s: 64 * EPS * float(s.K0.max()) ** 2,
)


def _outer(K: Kernel, M: Kernel) -> Kernel:
    return np.multiply.outer(np.diagonal(K), np.diagonal(M))


SKIP_MEAN = Claim(
    name="wick/normalised-skip",
    statement=(
        sp.Eq(
            E(sp.Symbol("K'")),
            sp.Symbol("alpha") ** 2 * sp.Symbol("K")
            + sp.Symbol("beta") ** 2 * sp.Symbol("A K A^T"),
        ),
        sp.Eq(
            sp.Symbol("n") * sp.Symbol("Var K'_ij"),
            sp.Symbol("alpha") ** 2
            * sp.Symbol("beta") ** 2
            * (
                sp.Symbol("K_ii") * sp.Symbol("M_jj")
                + sp.Symbol("K_jj") * sp.Symbol("M_ii")
                + 2 * sp.Symbol("K_ij") * sp.Symbol("M_ij")
            ),
        ),
    ),
    source=Source(PAPER, "normalised skips (entry A-17)"),
    instances=skips(),
    evidence=(
        NORMALISED,
        CROSS_TERM,
        TYPED_MEAN,
        TYPED_VARIANCE,
        Identity(_cross_terms),
    ),
    mutants={
        "alpha + beta for their squares": replace(
            NORMALISED, predict=lambda s, _: upper(s.alpha * s.K0 + s.beta * s.mixed)
        ),
        "W^V W^O = I": replace(
            NORMALISED,
            predict=lambda s, _: upper(
                kernel(Residual(Mix(s.A), s.alpha, s.beta), s.K0)
            ),
        ),
        "exact for orthogonal weights": replace(
            CROSS_TERM, predict=lambda s, n: np.zeros(6)
        ),
        "error 1/n": replace(CROSS_TERM, predict=lambda s, n: _error_law(s, n) / n),
        "M_ij term missing": replace(
            CROSS_TERM,
            predict=lambda s, n: upper(
                s.alpha**2
                * s.beta**2
                / n
                * (_outer(s.K0, s.mixed) + _outer(s.mixed, s.K0))
            ),
        ),
    },
    limits="Three positions, one layer; the two laws are exact at every width.",
)


CLAIMS = (ORTHOGONAL_EXACT, MULTI_HEAD, SKIP_MEAN)
