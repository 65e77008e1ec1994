"""Claims about rank collapse with a causal mask: exponential in depth, not doubly.

Near identical tokens a layer leaves what C, uniform causal attention, leaves of their
differences: of order eps, and halved by each layer (theory/cesaro.py).

Entries C-01 and C-02: Wu et al. (2024).
"""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import sympy as sp
import torch
from hypothesis import strategies as st
from jaxtyping import Float

from asymptest.numerics.attention import uniform
from asymptest.theory.cesaro import eigenvectors
from asymptest.theory.network import Attention, Dense
from asymptest.theory.patterns import Softmax
from asymptest.verify.catalogue.rank_collapse import (
    LEVELS,
    RESIDUAL,
    WIDTH,
    Tokens,
    between_rows,
    eps,
    is_near,
    maps,
    rounding,
    size_of_residual,
    tokens,
)
from asymptest.verify.claim import Claim, Rate, Source
from asymptest.verify.deterministic import EPS
from asymptest.verify.finite import FiniteNetwork, finite

WU = "Wu et al. (2024), arXiv 2405.18781"

# --- one layer: linear ---------------------------------------------------------------------


def cesaro(size: int) -> Float[np.ndarray, "T T"]:
    """Return uniform causal attention."""
    return uniform(np.tri(size) > 0)


def linear_constant(at: Tokens) -> float:
    """Return the derived residual over eps, |C Y U|_F between the rows."""
    U = maps(at)[1].sum(0)
    return float(np.linalg.norm(between_rows(cesaro(at.size) @ at.offsets @ U)))


@lru_cache(maxsize=64)
def linear_remainder(at: Tokens, level: int) -> float:
    """Bound the departure: row i has weights within 1 +- eta of 1/i, eta = e^range - 1.

    Its weights less 1/i sum to 0, so that only the differences y_j - y_1 count.
    """
    eps, Y = 2.0**-level, at.offsets
    seen = np.tri(at.size) > 0
    length = np.linalg.norm(Y - Y[0], axis=1)
    away = np.zeros(at.size)
    for head, value in zip(*maps(at), strict=True):
        G = (at.x + eps * Y) @ head @ Y.T
        ranges = [np.ptp(row[s]) for row, s in zip(G, seen, strict=True)]
        eta = np.expm1(eps * np.array(ranges))
        away += eta * (cesaro(at.size) @ length) * np.linalg.norm(value, 2)
    size = linear_constant(at)
    return float(np.linalg.norm(away) / size) + rounding(at, eps * size)


LINEAR = Rate(
    error=lambda at, level: size_of_residual(at, level, "causal"),
    ratio=lambda _: 0.5,
    constant=linear_constant,
    depths=LEVELS,
    remainder=linear_remainder,
)

CAUSAL_IS_LINEAR = Claim(
    name="rank-collapse/causal-is-linear",
    statement=(sp.Eq(RESIDUAL, eps * sp.Symbol("|J C Y sum_h U_h|_F")),),
    source=Source(WU, "masks slow the collapse (entries C-01 and C-02)"),
    instances=tokens(st.integers(2, 6)).filter(lambda t: is_near(linear_remainder, t)),
    evidence=(LINEAR,),
    mutants={
        "exponent 3": replace(LINEAR, ratio=lambda _: 2.0**-3),
        "exponent 2": replace(LINEAR, ratio=lambda _: 2.0**-2),
        "no mask": replace(LINEAR, error=size_of_residual),
        "values as they are": replace(
            LINEAR,
            constant=lambda t: float(
                np.linalg.norm(between_rows(t.offsets @ maps(t)[1].sum(0)))
            ),
        ),
    },
    limits="One layer of width 4, up to six tokens.",
)

# --- depth: 2^-L ---------------------------------------------------------------------------

CLOSE = 2.0**-20  # eps
DEPTHS = (6, 9)


@lru_cache(maxsize=64)
def causal_layer(at: Tokens) -> FiniteNetwork:
    """Return one causal layer with orthogonal W^V W^O, so that depth changes no norm."""
    haar = Dense(init="orthogonal")
    network = Attention(Softmax(), "causal", 1, haar, haar)
    return finite(network, WIDTH, rng=np.random.default_rng([at.seed, 3]))


@lru_cache(maxsize=64)
def causal_residuals(at: Tokens) -> tuple[float, ...]:
    """Return |residual|_F after 0, 1, ... applications of the layer."""
    X = torch.from_numpy(at.x + CLOSE * at.offsets)[None]
    found = [X]
    with torch.no_grad():
        for _ in range(DEPTHS[1]):
            found.append(causal_layer(at)(found[-1]))
    return tuple(float(np.linalg.norm(between_rows(X[0].numpy()))) for X in found)


def causal_constant(at: Tokens) -> float:
    """Return lim 2^L |residual|_F = eps |J (i - 1)| |y_1 - y_2|, from C's second eigenvector."""
    rows = math.sqrt(at.size * (at.size**2 - 1) / 12)
    return CLOSE * rows * float(np.linalg.norm(at.offsets[0] - at.offsets[1]))


@lru_cache(maxsize=64)
def causal_remainder(at: Tokens, depth: int) -> float:
    """Bound the departure from the second eigenvector: the others, attention, rounding.

    In the eigenvectors P of C the state is z = P Y, z_k shrinks by 1/k a layer, and weights
    within 1 +- eta of uniform change it by at most eta |P|^2 of the largest, |P| <= 2^(T-1).
    """
    P = np.array(eigenvectors(at.size), dtype=np.float64)
    sizes = np.linalg.norm(P @ at.offsets, axis=1)[1:]
    rows = np.linalg.norm(between_rows(P), axis=0)[1:]
    sizes, rows = sizes / sizes[0], rows / rows[0]
    others = (2.0 / np.arange(2, at.size + 1)) ** depth * sizes * rows
    W = dict(causal_layer(at).named_parameters())
    norms = [
        np.linalg.norm(w.detach().numpy().reshape(WIDTH, -1), 2)
        for name, w in W.items()
        if name.endswith(("WQ", "WK"))
    ]
    longest = 1.01 * float(np.linalg.norm(at.x))
    apart = 2 * CLOSE * float(np.linalg.norm(at.offsets, axis=1).max())
    eta = math.expm1(2 * longest * apart * math.prod(norms) / WIDTH**0.5)
    bent = sizes.max() * rows.sum() * math.expm1(depth * 2 * 4 ** (at.size - 1) * eta)
    size = causal_constant(at) * 2.0**-depth
    rounded = 16 * WIDTH * depth * EPS * longest / size
    return float(others[1:].sum() + bent + rounded)


CAUSAL_DEPTH = Rate(
    error=lambda at, depth: causal_residuals(at)[depth],
    ratio=lambda _: 0.5,
    constant=causal_constant,
    depths=DEPTHS,
    remainder=causal_remainder,
)

CAUSAL_DEPTH_IS_EXPONENTIAL = Claim(
    name="rank-collapse/causal-is-exponential",
    statement=(
        sp.Eq(
            sp.Symbol("|res(X_L)|_F"),
            2 ** -sp.Symbol("L") * eps * sp.Symbol("|J (i - 1)| |y_1 - y_2|"),
        ),
    ),
    source=Source(WU, "exponential, not doubly (entries C-01 and C-02)"),
    instances=tokens(st.integers(2, 3)).filter(
        lambda t: causal_remainder(t, DEPTHS[0]) < 0.5
    ),
    evidence=(CAUSAL_DEPTH,),
    mutants={
        "rate 3^-L": replace(CAUSAL_DEPTH, ratio=lambda _: 1 / 3),
        "rate 4^-L": replace(CAUSAL_DEPTH, ratio=lambda _: 1 / 4),
        "doubly exponential": replace(
            CAUSAL_DEPTH, ratio=lambda _: CLOSE ** (2 / (DEPTHS[1] - DEPTHS[0]))
        ),
        "the mean token for the second": replace(
            CAUSAL_DEPTH,
            constant=lambda t: (
                causal_constant(t)
                * float(np.linalg.norm(t.offsets[0] - t.offsets.mean(0)))
                / float(np.linalg.norm(t.offsets[0] - t.offsets[1]))
            ),
        ),
    },
    limits="Two or three tokens that differ by about 2^-20, the same weights in each layer.",
)

CLAIMS = (CAUSAL_IS_LINEAR, CAUSAL_DEPTH_IS_EXPONENTIAL)
