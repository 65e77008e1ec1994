"""Claims about fluctuations: how far a finite network's kernel strays, constant included.

Entry A-01 (b) and (c): arXiv 2302.10322, section 3, re-derived by theory/fluctuation.py.
"""

from dataclasses import replace
from functools import reduce

import numpy as np
import sympy as sp
import torch
from hypothesis import strategies as st
from jaxtyping import Float

from asymptest.numerics.kernel import kernel
from asymptest.numerics.moments import chain_variance, dense_variance
from asymptest.theory.fluctuation import chain_moment
from asymptest.theory.network import Dense, Mix
from asymptest.theory.steps import E
from asymptest.verify.catalogue.wick import HAAR, PAPER, Mixing, attention_matrices
from asymptest.verify.claim import Claim, FiniteLaw, Rng, Source
from asymptest.verify.families import finite_kernels, kernels_of_size, upper
from asymptest.verify.finite import finite, kernel_of
from asymptest.verify.weights import normal

Kernel = Float[np.ndarray, "T T"]

# --- (b) Gaussian weights: the law of a row's squared length -------------------------

CHAIN_DEPTH = 3


def _relative_squares(mixing: Mixing, width: int, copies: int, rng: Rng) -> np.ndarray:
    """Return (q_L / q_L's mean - 1)^2 for each position, over independent chains."""
    network = reduce(lambda a, b: a >> b, [Mix(A) >> Dense() for A in mixing.A])
    kernels = finite_kernels(network, mixing.K0, width, copies, rng)
    mean = kernel(network, mixing.K0)
    return (np.diagonal(kernels, axis1=1, axis2=2) / np.diagonal(mean) - 1) ** 2


def _chain_spread(depth: int, width: int) -> float:
    """Return std((r - 1)^2) / E (r - 1)^2, r a product of `depth` chi^2_n / n.

    E r^k = prod_{j<k} (1 + 2 j / n)^depth.
    """
    m = [
        float(np.prod([1 + 2 * j / width for j in range(k)])) ** depth for k in range(5)
    ]
    second = m[2] - 1
    fourth = m[4] - 4 * m[3] + 6 * m[2] - 4 * m[1] + 1
    return (fourth - second**2) ** 0.5 / second


@st.composite
def chains(draw, depth: int, size: int) -> Mixing:
    """Draw a chain of attention matrices and Gaussian layers."""
    return Mixing(draw(attention_matrices(depth, size)), draw(kernels_of_size(size)), 0)


def _constant(value: float, mixing: Mixing) -> np.ndarray:
    return np.full(len(mixing.K0), value)


CHAIN_WIDTHS = (16, 32)
CHAIN = FiniteLaw(
    sample=_relative_squares,
    predict=lambda m, n: _constant(chain_variance(CHAIN_DEPTH, n), m),
    scale=lambda m, n: _constant(chain_variance(CHAIN_DEPTH, n), m),
    widths=CHAIN_WIDTHS,
    spread=_chain_spread(CHAIN_DEPTH, min(CHAIN_WIDTHS)),
    group=64,
    coarseness=10,
    rate=True,
)

_n, _L = sp.Symbol("n", integer=True, positive=True), sp.Symbol("L")

GAUSSIAN_CHAIN = Claim(
    name="fluctuation/gaussian-chain-variance",
    statement=(
        sp.Eq(sp.Symbol("Var(q_L)") / sp.Symbol("q_L") ** 2, chain_moment(_L) - 1),
    ),
    source=Source(PAPER, "section 3 (entry A-01 b)"),
    instances=chains(CHAIN_DEPTH, 2),
    evidence=(CHAIN,),
    mutants={
        "(1 + 1/n)^L": replace(
            CHAIN, predict=lambda m, n: _constant((1 + 1 / n) ** CHAIN_DEPTH - 1, m)
        ),
        "L/n": replace(CHAIN, predict=lambda m, n: _constant(CHAIN_DEPTH / n, m)),
        "depth off by one": replace(
            CHAIN, predict=lambda m, n: _constant(chain_variance(CHAIN_DEPTH - 1, n), m)
        ),
        "1/n^2": replace(
            CHAIN, predict=lambda m, n: _constant(chain_variance(CHAIN_DEPTH, n * n), m)
        ),
    },
    limits="The second moment only; the law of q_L is a product of chi-squares.",
)


# --- (c) Gaussian inputs ---------------------------------------------------------------


def _gram_errors(K0: Kernel, width: int, copies: int, rng: Rng) -> np.ndarray:
    """Return (K_hat - K0)^2 after one orthogonal layer on Gaussian rows of covariance K0."""
    R = torch.from_numpy(np.linalg.cholesky(K0))
    X0 = R @ normal(copies, len(K0), width, generator=rng)
    return upper((kernel_of(finite(HAAR, width, copies, rng), X0) - K0) ** 2)


def gram_error(K0: Kernel, width: int) -> np.ndarray:
    """Return E (K_hat - K0)^2 entrywise.

    Rows R z of covariance K0 = R R^T are what Dense weights make of a state with kernel K0,
    so the derived variance of a Dense layer is the answer.
    """
    return upper(dense_variance(Dense(), K0, width))


GRAM_WIDTHS = (8, 32)
GRAM = FiniteLaw(
    sample=_gram_errors,
    predict=gram_error,
    scale=gram_error,
    widths=GRAM_WIDTHS,
    # (K_hat_ii - K_ii)^2 is the worst entry: a squared centred chi-square, one layer deep.
    spread=_chain_spread(1, min(GRAM_WIDTHS)),
    group=64,
    coarseness=10,
    rate=True,
)

GAUSSIAN_INPUT = Claim(
    name="fluctuation/gaussian-input-error",
    statement=(
        sp.Eq(
            sp.Symbol("n") * E(sp.Symbol("(K_hat_ij - K_ij)") ** 2),
            sp.Symbol("K_ii") * sp.Symbol("K_jj") + sp.Symbol("K_ij") ** 2,
        ),
    ),
    source=Source(PAPER, "section 3 (entry A-01 c)"),
    instances=kernels_of_size(3),
    evidence=(GRAM,),
    mutants={
        "K_ij^2 missing": replace(
            GRAM,
            predict=lambda K0, n: upper(
                np.multiply.outer(np.diagonal(K0), np.diagonal(K0)) / n
            ),
        ),
        "error 1/n": replace(GRAM, predict=lambda K0, n: gram_error(K0, n) / n),
        "half the constant": replace(GRAM, predict=lambda K0, n: gram_error(K0, n) / 2),
    },
    limits="One layer; orthogonal weights add nothing to the inputs' fluctuation.",
)

CLAIMS = (GAUSSIAN_CHAIN, GAUSSIAN_INPUT)
