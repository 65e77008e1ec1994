"""Claims about shaped attention: the coefficients of its stochastic differential equation.

Entry C-07: Noci et al. (2023), re-derived by theory/shaped_attention.py.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import sympy as sp
import torch
from hypothesis import strategies as st
from jaxtyping import Float

from asymptest.theory.definition import T
from asymptest.theory.shaped_attention import (
    GAMMA,
    TAU_0,
    diffusion,
    diffusion_form,
    drift,
    drift_form,
)
from asymptest.theory.steps import Cov, E
from asymptest.theory.wick.tensors import Poly, collect
from asymptest.verify.claim import Claim, Identity, Limit, Rng, Source
from asymptest.verify.weights import normal

Kernel = Float[np.ndarray, "m m"]
Entries = Float[np.ndarray, " d"]

NOCI = "Noci et al. (2023), arXiv 2306.17759"
POSITIONS = 3
ENTRIES = np.triu_indices(POSITIONS)
PAIRS = np.triu_indices(len(ENTRIES[0]))


@dataclass(frozen=True, eq=False)
class Layer:
    """The kernel of the input, the weight of the branch and the temperature's constant."""

    V: Kernel
    gamma: float
    tau_0: float


def layer(seed: int, gamma: float, tau_0: float) -> Layer:
    """Return a layer on three tokens whose lengths differ."""
    rows = np.random.default_rng(seed).standard_normal((POSITIONS, POSITIONS))
    sizes = np.array([0.3, 0.6, 1.6])
    rows *= (sizes / np.linalg.norm(rows, axis=1))[:, None]
    return Layer(rows @ rows.T + np.eye(POSITIONS) / 20, gamma, tau_0)


def one_step(
    at: Layer, width: int, copies: int, rng: Rng, power: float = 0.5
) -> np.ndarray:
    """Return n (V' - V), its mean over W and +-logits, and all its products over n.

    Queries, keys and X W are Gaussian given X, with covariance V; n_k = n / 4. Of W only
    X W is drawn, and a turned X = sqrt(n) [R 0] stands for all with the kernel V = R R^T.

    Args:
        at: the layer.
        width: n.
        copies: the number of draws.
        rng: generator.
        power: of n in tau = tau_0 n^power sqrt(n_k).
    """
    R = torch.from_numpy(np.linalg.cholesky(at.V))
    m, n_k = POSITIONS, width // 4
    Q, K, XW = (
        R @ normal(copies, m, size, generator=rng) for size in (n_k, n_k, width)
    )
    logits = Q @ K.mT / (at.tau_0 * width**power * n_k**0.5)
    shape = torch.eye(m) - 1 / m
    A = [shape + torch.softmax(sign * logits, -1) for sign in (1, -1)]
    V = torch.from_numpy(at.V)
    mixed = (A[0] @ V @ A[0].mT + A[1] @ V @ A[1].mT) / 2
    after = at.gamma * A[0] @ XW
    after[..., :m] += ((1 - at.gamma**2) * width) ** 0.5 * R
    drift = width * at.gamma**2 * (mixed - V).numpy()[:, *ENTRIES]
    change = (after @ after.mT / width - V).numpy()[:, *ENTRIES]
    products = width * change[:, PAIRS[0]] * change[:, PAIRS[1]]
    return np.concatenate([drift, products], axis=1)


def drift_of(at: Layer, rows: bool = True) -> Kernel:
    """Return the derived drift; without `rows`, the part of E[P V P^T] only."""
    V, m = at.V, POSITIONS
    J = np.eye(m) - 1 / m
    centred = J @ V @ J
    apart = np.diagonal(centred) - np.diagonal(centred).mean()
    Q = np.multiply.outer(np.diagonal(V), apart) / (2 * m * at.tau_0**2)
    P = V * (centred * V).sum() / (m * at.tau_0) ** 2
    return at.gamma**2 * (rows * (Q @ V + V @ Q.T) + P)


def diffusion_of(
    at: Layer, weights: float | None = None, logits: float = 1.0
) -> Entries:
    """Return the derived covariances of all pairs of entries.

    Args:
        at: the layer.
        weights: the factor of what W adds; gamma^2 (2 - gamma^2) if None.
        logits: the factor of what the logits add.
    """
    V, m, square = at.V, POSITIONS, at.gamma**2
    J = np.eye(m) - 1 / m
    W = V @ J @ V @ J @ V
    first = square * (2 - square) if weights is None else weights
    second = logits * square**2 / (m * at.tau_0) ** 2
    (i, j), (k, l) = (np.array(ENTRIES)[:, of] for of in PAIRS)
    by_weights = V[i, k] * V[j, l] + V[i, l] * V[j, k]
    by_logits = (
        V[i, k] * W[j, l] + V[i, l] * W[j, k] + V[j, k] * W[i, l] + V[j, l] * W[i, k]
    )
    return first * by_weights + second * by_logits


def _coefficients(at: Layer, rows: bool = True, **factors: float) -> Entries:
    return np.concatenate([drift_of(at, rows)[ENTRIES], diffusion_of(at, **factors)])


def _scale(at: Layer) -> Entries:
    """Return the largest drift, and the standard deviations' product for a covariance."""
    size = len(ENTRIES[0])
    covariances = diffusion_of(at)
    own = np.sqrt(covariances[PAIRS[0] == PAIRS[1]])
    drifts = np.full(size, np.abs(drift_of(at)).max())
    return np.concatenate([drifts, own[PAIRS[0]] * own[PAIRS[1]]])


STEP = Limit(
    sample=one_step,
    predict=_coefficients,
    scale=_scale,
    widths=(16, 32, 64),
    # The fluctuation does not fall with the width: sqrt(64) times a standard deviation of 2.
    spread=64**0.5 * 2,
    bias=0.01,  # measured, the extrapolation leaves less than 0.008
    coarseness=15,
)


def _derived(b: Poly, s: Poly) -> dict[str, sp.Expr]:
    """Return the derived coefficients less their forms, as sums of squared coefficients."""
    gaps = {"drift": drift() - b, "diffusion": diffusion() - s}
    return {
        name: sp.Add(*(t.coefficient**2 for t in collect(gap.terms).terms))
        for name, gap in gaps.items()
    }


SECOND = sp.Symbol("E[P V P^T]")  # P and Q are A's first and second order
SDE = Claim(
    name="shaped-attention/sde",
    statement=(
        sp.Eq(
            sp.Symbol("n") * E(sp.Symbol("V' - V")),
            GAMMA**2 * (sp.Symbol("(E[Q] V + V E[Q]^T)") + SECOND),
        ),
        sp.Eq(
            sp.Symbol("E[Q]_ab"),
            sp.Symbol("V_aa")
            * (sp.Symbol("(V_c)_bb") - sp.Symbol("tr(V_c)") / T)
            / (2 * T * TAU_0**2),
        ),
        sp.Eq(SECOND, sp.Symbol("V") * sp.Symbol("tr(V_c V)") / (T * TAU_0) ** 2),
        sp.Eq(
            sp.Symbol("n") * Cov(sp.Symbol("V'_ij"), sp.Symbol("V'_kl")),
            GAMMA**2 * (2 - GAMMA**2) * sp.Symbol("(V_ik V_jl + V_il V_jk)")
            + GAMMA**4
            / (T * TAU_0) ** 2
            * sp.Symbol("(V_ik W_jl + V_il W_jk + V_jk W_il + V_jl W_ik)"),
        ),
        sp.Eq(sp.Symbol("W"), sp.Symbol("V V_c V")),
    ),
    source=Source(NOCI, "drift and covariance of the SDE (entry C-07)"),
    instances=st.builds(
        layer, st.integers(0, 2**32), st.floats(0.85, 0.95), st.floats(0.8, 1.0)
    ),
    evidence=(STEP, Identity(lambda: _derived(drift_form(), diffusion_form()))),
    mutants={
        "E[Q] missing": replace(STEP, predict=partial(_coefficients, rows=False)),
        "2 gamma^2 for gamma^2 (2 - gamma^2)": replace(
            STEP, predict=lambda at: _coefficients(at, weights=2 * at.gamma**2)
        ),
        "logits do not fluctuate": replace(
            STEP, predict=partial(_coefficients, logits=0.0)
        ),
        "tau_0 sqrt(n_k) without sqrt(n)": replace(
            STEP, sample=partial(one_step, power=0.0)
        ),
        "half the drift": Identity(
            lambda: _derived(drift_form().scaled(2), diffusion_form())
        ),
    },
    limits="One layer on three positions; the limit of many layers is not sampled.",
)

CLAIMS = (SDE,)
