"""Claims about uniform attention in deep residual networks: similar tokens, small gradients.

Entry C-03: Noci et al. (2022), re-derived by theory/uniform_attention.py.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
import torch
from hypothesis import strategies as st
from jaxtyping import Float, Float64
from torch import Tensor as Array

from asymptest.theory.activations import identity
from asymptest.theory.definition import T
from asymptest.theory.network import Attention, Mlp, Network, Residual
from asymptest.theory.patterns import Uniform
from asymptest.theory.steps import E
from asymptest.theory.uniform_attention import (
    ALPHA,
    HEAD,
    C,
    F,
    beyond_mean,
    gradient_form,
    query_gradient,
    similarity,
    similarity_factors,
)
from asymptest.theory.wick.laws import Gaussian
from asymptest.theory.wick.tensors import Poly, collect
from asymptest.verify.claim import Claim, Exact, FiniteLaw, Identity, Rng, Source
from asymptest.verify.deterministic import EPS
from asymptest.verify.families import finite_kernels, kernels_of_size

Kernel = Float[np.ndarray, "T T"]

NOCI = "Noci et al. (2022), arXiv 2206.03126"

# --- how alike tokens become --------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Blocks:
    """A kernel, and blocks of uniform attention and a linear MLP on skip connections.

    The branches' weights are a_1 / sqrt(L) and a_2 / sqrt(L).
    """

    K0: Kernel
    depth: int
    attention: float
    mlp: float

    @property
    def network(self) -> Network:
        """The description."""
        a, b = (a / self.depth**0.5 for a in (self.attention, self.mlp))
        attention = Residual(Attention(Uniform()), weight=a)
        return (
            attention >> Residual(Mlp(identity, expansion=1), weight=b)
        ) * self.depth


def blocks() -> st.SearchStrategy[Blocks]:
    """Return strategies of two or three blocks on two positions."""
    size = st.floats(0.8, 1.2)
    return st.builds(Blocks, kernels_of_size(2), st.integers(2, 3), size, size)


def _parts(K: Float[np.ndarray, "*stack T T"]) -> np.ndarray:
    """Return C / n and (F - C / T) / n: the mean token's part and the rest."""
    mean = K.sum((-2, -1))
    rest = np.trace(K, axis1=-2, axis2=-1) - mean / K.shape[-1]
    return np.stack([mean, rest], axis=-1)


def _measured(at: Blocks, width: int, copies: int, rng: Rng) -> np.ndarray:
    return _parts(finite_kernels(at.network, at.K0, width, copies, rng))


_FACTORS = sp.lambdify(ALPHA, similarity_factors())


def _predicted(at: Blocks, power: float = 0.5, depth: int = 0) -> np.ndarray:
    """Return both parts after L blocks with the weights a / L^power."""
    a, b = (a / at.depth**power for a in (at.attention, at.mlp))
    return _parts(at.K0) * np.array(_FACTORS(a, b)) ** (at.depth + depth)


SIMILARITY = FiniteLaw(
    sample=_measured,
    predict=lambda at, _: _predicted(at),
    scale=lambda at, _: _predicted(at),
    widths=(4, 8),
    # Three blocks, each of which adds at most 1/2 + 1/2 of what was there: measured below 2.
    spread=2.0,
    group=4,
    coarseness=10,
)


def _rest_times(at: Blocks, factor: float) -> np.ndarray:
    return _predicted(at) * np.array([1.0, factor])


L = sp.Symbol("L", integer=True, positive=True)
A1, R0 = sp.symbols("a_1 R_0", positive=True)


def rho(R: Any) -> Any:
    """Return the mean correlation (C - F) / ((T - 1) F) for F = (1 + R) C / T."""
    return (T / (1 + R) - 1) / (T - 1)


def _limits(scale: Any) -> dict[str, sp.Expr]:
    """Return R's decay as L -> oo less e^(-a_1^2), and rho of C and F less its formula."""
    decay = beyond_mean(L).subs(ALPHA[0], A1 * scale)
    from_parts = (C - F) / ((T - 1) * F) - rho(F * T / C - 1)
    return {
        "L -> oo": sp.limit(decay, L, sp.oo) - sp.exp(-(A1**2)),
        "rho": from_parts,
    }


TOKENS_ALIGN = Claim(
    name="uniform-attention/similarity",
    statement=(
        sp.Eq(E(sp.Symbol("C_L")), similarity(L)[0]),
        sp.Eq(E(sp.Symbol("F_L")), similarity(L)[1]),
        sp.Eq(sp.Limit(sp.Function("rho")(L), L, sp.oo), rho(R0 * sp.exp(-(A1**2)))),
    ),
    source=Source(NOCI, "correlation of tokens over depth (entry C-03)"),
    instances=blocks(),
    evidence=(SIMILARITY, Identity(lambda: _limits(1 / sp.sqrt(L)))),
    mutants={
        "alpha_2 in the rate of R": replace(
            SIMILARITY,
            predict=lambda at, _: _rest_times(
                at, (1 + at.mlp**2 / at.depth) ** -at.depth
            ),
        ),
        "attention keeps R": replace(
            SIMILARITY,
            predict=lambda at, _: _rest_times(
                at, (1 + at.attention**2 / at.depth) ** at.depth
            ),
        ),
        "1/L for 1/sqrt(L)": replace(
            SIMILARITY, predict=lambda at, _: _predicted(at, power=1.0)
        ),
        "depth off by one": replace(
            SIMILARITY, predict=lambda at, _: _predicted(at, depth=-1)
        ),
        "1/L in the limit": Identity(lambda: _limits(1 / L)),
    },
    limits="Means of C and F at every width; rho is their quotient, in the limit of width.",
)

# --- the gradient at W^Q = 0 --------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """Tokens and the weights of one head, drawn from a seed."""

    seed: int
    positions: int
    width: int
    head: int

    def arrays(self) -> tuple[Array, Array, Array]:
        """Return X, W^K and W^V."""
        rng = np.random.default_rng(self.seed)
        shapes = ((self.positions, self.width), *((self.width, self.head),) * 2)
        X, WK, WV = (torch.from_numpy(rng.standard_normal(s)) for s in shapes)
        return X, WK, WV


SCORES = st.builds(
    Scores,
    st.integers(0, 2**32),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 3),
)


def attend(
    X: Float64[Array, "T n"], *weights: Float64[Array, "n d"]
) -> Float64[Array, "T d"]:
    """Return softmax(X W^Q (X W^K)^T / sqrt(d)) X W^V."""
    Q, K, V = (X @ W for W in weights)
    return torch.nn.functional.scaled_dot_product_attention(Q, K, V)


def squared_gradient(at: Scores, which: int) -> Float[np.ndarray, " 1"]:
    """Return |dS / dW|_F^2 at W^Q = 0 by autograd, W = W^Q or W^V."""
    X, WK, WV = at.arrays()
    weights = [torch.zeros_like(WK), WK, WV]

    def output(W: Array) -> Array:
        return attend(X, *weights[:which], W, *weights[which + 1 :])

    J = torch.autograd.functional.jacobian(output, weights[which])
    return np.array([float(J.square().sum())])


def query_norm(at: Scores, power: int = 2) -> Float[np.ndarray, " 1"]:
    """Return |X|_F^2 |W^K^T X_c^T X_c W^V|_F^2 / (T^2 d)."""
    X, WK, WV = at.arrays()
    centred = X - X.mean(0)
    inner = (centred @ WK).T @ (centred @ WV)
    size = float(X.square().sum() * inner.square().sum())
    return np.array([size / (at.positions**power * at.head)])


def value_norm(at: Scores) -> Float[np.ndarray, " 1"]:
    """Return d |A X|_F^2 = d C / T."""
    X, *_ = at.arrays()
    return np.array([at.head * float(X.sum(0).square().sum()) / at.positions])


def _gradient_bound(at: Scores) -> float:
    """Return 1e-10 of what the numbers would give without centring."""
    X, WK, WV = at.arrays()
    sizes = [float(A.square().sum()) for A in (X, X, X, WK, WV)]
    return 1e-10 * float(np.prod(sizes)) / at.head + 64 * EPS * at.head * sizes[0]


QUERY = Exact(lambda at, _: squared_gradient(at, 0), query_norm, _gradient_bound)
VALUE = Exact(lambda at, _: squared_gradient(at, 2), value_norm, _gradient_bound)
LAWS = (Gaussian(sp.Symbol("s_K")), Gaussian(sp.Symbol("s_V")))


def _gradients(form: Poly, mean: Poly) -> dict[str, sp.Expr]:
    """Return the derived gradients less their forms, as sums of squared coefficients."""
    gaps = {
        "given weights": query_gradient() - form,
        "random weights": query_gradient(*LAWS) - mean,
    }
    return {
        name: sp.Add(*(t.coefficient**2 for t in collect(gap.terms).terms))
        for name, gap in gaps.items()
    }


QUERY_GRADIENT = Claim(
    name="uniform-attention/query-gradient",
    statement=(
        sp.Eq(
            sp.Symbol("|dS / dW^Q|_F^2"),
            sp.Symbol("|X|_F^2")
            * sp.Symbol("|W^K^T X_c^T X_c W^V|_F^2")
            / (T**2 * HEAD),
        ),
        sp.Eq(
            E(sp.Symbol("|dS / dW^Q|_F^2")),
            sp.Symbol("|X|_F^2")
            * sp.Symbol("|X_c^T X_c|_F^2")
            * sp.Symbol("s_K")
            * sp.Symbol("s_V")
            * HEAD
            / T**2,
        ),
    ),
    source=Source(NOCI, "the gradient of queries and keys vanishes (entry C-03)"),
    instances=SCORES,
    evidence=(
        QUERY,
        VALUE,
        Identity(lambda: _gradients(gradient_form(), gradient_form(*LAWS))),
    ),
    mutants={
        "T for T^2": replace(QUERY, right=lambda at: query_norm(at, 1)),
        "no 1/d": replace(QUERY, right=lambda at: at.head * query_norm(at)),
        "zero for any tokens": replace(QUERY, right=lambda _: np.zeros(1)),
        "W^V's vanishes as well": replace(VALUE, right=lambda _: np.zeros(1)),
        "half the form": Identity(
            lambda: _gradients(gradient_form().scaled(2), gradient_form(*LAWS))
        ),
    },
    limits="One head at W^Q = 0, up to five tokens in torch.",
)

CLAIMS = (TOKENS_ALIGN, QUERY_GRADIENT)
