"""Claims about rank collapse by softmax attention: a layer cubes what tells tokens apart.

Exponent and constant, near identical tokens, re-derived by theory/rank_collapse.py. With a
causal mask it is otherwise (rank_collapse_causal.py).

Entry C-01: Dong et al. (2021).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp
import torch
from flint import arb, ctx
from hypothesis import strategies as st
from jaxtyping import Float

from asymptest.theory.network import Attention
from asymptest.theory.patterns import Softmax
from asymptest.theory.rank_collapse import cubic_form, residual
from asymptest.theory.wick.tensors import Poly, collect
from asymptest.verify.claim import Claim, Identity, Rate, Source
from asymptest.verify.deterministic import EPS
from asymptest.verify.finite import FiniteNetwork, finite

States = Float[np.ndarray, "T n"]
Maps = Float[np.ndarray, "heads n n"]

DONG = "Dong, Cordonnier and Loukas (2021), arXiv 2103.03404"
WIDTH = 4
LEVELS = (8, 11)  # tokens differ by eps = 2^-level


@dataclass(frozen=True)
class Tokens:
    """Tokens x + eps y_i and the weights of `depth` layers, drawn from a seed."""

    seed: int
    size: int
    heads: int
    depth: int = 1

    @property
    def x(self) -> Float[np.ndarray, " n"]:
        """What the tokens have in common."""
        return np.random.default_rng([self.seed, 1]).standard_normal(WIDTH)

    @property
    def offsets(self) -> States:
        """What they differ by, over eps."""
        rng = np.random.default_rng([self.seed, 2])
        return rng.standard_normal((self.size, WIDTH))


@lru_cache(maxsize=64)
def layer(at: Tokens, mask: str = "full", number: int = 0) -> FiniteNetwork:
    """Return one layer in torch."""
    network = Attention(Softmax(), mask, at.heads)
    rng = np.random.default_rng([at.seed, 3, number])
    return finite(network, WIDTH, rng=rng)


@lru_cache(maxsize=64)
def maps(at: Tokens, number: int = 0) -> tuple[Maps, Maps]:
    """Return M = W^Q W^K^T / sqrt(d) and U = W^V W^O of each head of a layer."""
    named = layer(at, number=number).named_parameters()
    W = {name.rsplit(".")[-1]: w.detach().numpy()[0] for name, w in named}
    M = np.einsum("ahc,bhc->hab", W["WQ"], W["WK"]) / (WIDTH / at.heads) ** 0.5
    return M, np.einsum("ahc,hck->hak", W["WV"], W["WO"])


def between_rows(X: States) -> States:
    """Return a state less its mean over positions."""
    return X - X.mean(0)


def size_of_residual(at: Tokens, level: int, mask: str = "full") -> float:
    """Return |residual|_F after one layer in torch."""
    X = torch.from_numpy(at.x + 2.0**-level * at.offsets)
    with torch.no_grad():
        return float(np.linalg.norm(between_rows(layer(at, mask)(X)[0].numpy())))


def rounding(at: Tokens, size: float) -> float:
    """Bound the rounding of a layer, relative to a residual of this size.

    The logits round by M x^2, and all that is added up by x U.
    """
    M, U = (np.linalg.norm(each, 2, (1, 2)) for each in maps(at))
    longest = float(np.linalg.norm(at.x) + np.linalg.norm(at.offsets) / 2 ** LEVELS[0])
    return 16 * WIDTH * EPS * longest * float((1 + M * longest**2) @ U) / size


def is_near(remainder: Callable[[Tokens, int], float], at: Tokens) -> bool:
    """Whether eps is small enough for these tokens, and large enough for float64."""
    return all(remainder(at, level) < 0.5 for level in LEVELS)


# --- without a mask: cubic -------------------------------------------------------------


def cubic(Y: States, M: Maps, U: Maps) -> States:
    """Return the derived residual over eps^3, the sum over heads of Y_c M Cov U."""
    Y = between_rows(Y)
    return np.einsum("ia,hab,bc,hck->ik", Y, M, Y.T @ Y / len(Y), U)


def cubic_remainder(
    x: Float[np.ndarray, " n"], Y: States, M: Maps, U: Maps, eps: float
) -> float:
    """Bound the relative departure of a layer's residual from its cubic term.

    With x the mean token, a row of A is softmax(u), u = eps b + eps^2 c. The derivative of
    its mean of the y_j in the direction c is their covariance with c under weights that are
    within 1 +- eta of 1/T, eta = e^range(u) - 1. At u = 0 it is the cubic term, since the
    mean of y is 0 there.
    """
    x, Y = x + eps * Y.mean(0), between_rows(Y)
    away = np.zeros(len(Y))
    for head, value in zip(M, U, strict=True):
        b, c = x @ head @ Y.T, Y @ head @ Y.T
        eta = np.expm1(eps * np.ptp(b) + eps**2 * np.ptp(c, axis=1))
        length = np.linalg.norm(Y, axis=1)
        spread = (abs(c) * length).mean(1) + (1 + eta) * abs(c).mean(1) * length.mean()
        away += eta * spread * np.linalg.norm(value, 2)
    return float(np.linalg.norm(away) / np.linalg.norm(cubic(Y, M, U)))


def _cubic_constant(at: Tokens) -> float:
    return float(np.linalg.norm(cubic(at.offsets, *maps(at))))


@lru_cache(maxsize=64)
def _cubic_near(at: Tokens, level: int) -> float:
    eps = 2.0**-level
    near = cubic_remainder(at.x, at.offsets, *maps(at), eps)
    return near + rounding(at, eps**3 * _cubic_constant(at))


def _cubic_with(at: Tokens, M: Maps, factor: float = 1.0) -> float:
    return factor * float(np.linalg.norm(cubic(at.offsets, M, maps(at)[1])))


def tokens(size: st.SearchStrategy[int], depth: int = 1) -> st.SearchStrategy[Tokens]:
    """Return strategies of tokens with one or two heads a layer."""
    return st.builds(
        Tokens,
        st.integers(0, 2**32),
        size,
        st.sampled_from([1, 2]),
        st.integers(1, depth),
    )


CUBIC = Rate(
    error=size_of_residual,
    ratio=lambda _: 2.0**-3,
    constant=_cubic_constant,
    depths=LEVELS,
    remainder=_cubic_near,
)


def _orders(form: Poly) -> dict[str, sp.Expr]:
    """Return the orders 1 and 2 between rows, and order 3 less its form, as sums of squares."""
    gaps = [residual(1), residual(2), collect((residual(3) - form).terms)]
    return {
        f"eps^{order}": sp.Add(*(t.coefficient**2 for t in gap.terms))
        for order, gap in enumerate(gaps, 1)
    }


eps = sp.Symbol("epsilon", positive=True)
RESIDUAL = sp.Symbol("|res(X')|_F")
CONSTANT = sp.Symbol("|sum_h Y_c M_h Cov(Y) U_h|_F")

RESIDUAL_IS_CUBIC = Claim(
    name="rank-collapse/cubic",
    statement=(sp.Eq(RESIDUAL, eps**3 * CONSTANT),),
    source=Source(DONG, "the bound's exponent 3, with its constant (entry C-01)"),
    instances=tokens(st.integers(2, 6)).filter(lambda t: is_near(_cubic_near, t)),
    evidence=(CUBIC, Identity(lambda: _orders(cubic_form()))),
    mutants={
        "exponent 2": replace(CUBIC, ratio=lambda _: 2.0**-2),
        "exponent 1": replace(CUBIC, ratio=lambda _: 2.0**-1),
        "Cov over T - 1": replace(
            CUBIC, constant=lambda t: _cubic_with(t, maps(t)[0], t.size / (t.size - 1))
        ),
        "M transposed": replace(
            CUBIC, constant=lambda t: _cubic_with(t, maps(t)[0].mT)
        ),
        "no 1/sqrt(d)": replace(
            CUBIC,
            constant=lambda t: _cubic_with(t, maps(t)[0], (WIDTH / t.heads) ** 0.5),
        ),
        "causal mask": replace(
            CUBIC, error=lambda t, level: size_of_residual(t, level, "causal")
        ),
        "half the constant": Identity(lambda: _orders(cubic_form().scaled(2))),
    },
    limits="One layer of width 4, up to six tokens; the Frobenius norm around the mean token.",
)

# --- depth: 3^L ----------------------------------------------------------------------------

BITS = 640  # of the network's arithmetic: eps^27 is 2^-432
FAR = (14, 16)


def deep_residual(at: Tokens, level: int) -> float:
    """Return |residual|_F after `depth` layers, softmax attention in balls."""
    exactly: Any = np.frompyfunc(arb, 1, 1)
    exp: Any = np.frompyfunc(arb.exp, 1, 1)
    with ctx.workprec(BITS):
        X = exactly(at.x) + exactly(at.offsets) * arb(2) ** -level
        for number in range(at.depth):
            A = [exp(X @ head @ X.T) for head in map(exactly, maps(at, number)[0])]
            A = [weights / weights.sum(1)[:, None] for weights in A]
            heads = zip(A, map(exactly, maps(at, number)[1]), strict=True)
            X = np.sum([weights @ X @ value for weights, value in heads], axis=0)
        return float(np.square(X - X.sum(0) / at.size).sum().sqrt())


def deep_constant(at: Tokens) -> float:
    """Return the cubic maps of all layers, one after the other."""
    Y = at.offsets
    for number in range(at.depth):
        Y = cubic(Y, *maps(at, number))
    return float(np.linalg.norm(Y))


@lru_cache(maxsize=64)
def deep_remainder(at: Tokens, level: int) -> float:
    """Bound the relative departure: each layer has its own and cubes what was there.

    A cubic map is at most |M| |U| |Y|_F^3 / T, and so are its changes: a relative change rho
    of Y becomes at most kappa ((1 + rho)^3 - 1).
    """
    x, Y, eps, rho = at.x, at.offsets, 2.0**-level, 0.0
    for number in range(at.depth):
        M, U = maps(at, number)
        after = cubic(Y, M, U)
        norms = np.linalg.norm(M, 2, (1, 2)) @ np.linalg.norm(U, 2, (1, 2))
        kappa = norms * np.linalg.norm(between_rows(Y)) ** 3 / len(Y)
        kappa /= np.linalg.norm(after)
        # The mean token and Y themselves are known up to rho: twice the bound covers that.
        own = 2 * cubic_remainder(x, Y, M, U, eps)
        rho = kappa * ((1 + rho) ** 3 - 1) + own * (1 + rho) ** 3
        x, Y, eps = x @ U.sum(0), after, eps**3
    # The bits of a state of order 1, less some for three layers of short sums.
    return float(rho) + 2.0 ** (16 - BITS) / (eps * float(np.linalg.norm(Y)))


def _well_conditioned(at: Tokens) -> bool:
    return deep_remainder(at, FAR[0]) < 0.1


DEEP = Rate(
    error=deep_residual,
    ratio=lambda t: 2.0 ** -(3**t.depth),
    constant=deep_constant,
    depths=FAR,
    remainder=deep_remainder,
)

DOUBLY_EXPONENTIAL = Claim(
    name="rank-collapse/doubly-exponential",
    statement=(
        sp.Eq(
            sp.Symbol("|res(X_L)|_F"),
            eps ** (3 ** sp.Symbol("L")) * sp.Symbol("C_L"),
        ),
    ),
    source=Source(DONG, "the exponent 3^L of the bound (entry C-01)"),
    instances=tokens(st.integers(2, 3), 3).filter(_well_conditioned),
    evidence=(DEEP,),
    mutants={
        "exponent 3 L": replace(DEEP, ratio=lambda t: 2.0 ** -(3 * t.depth)),
        "exponent (3^L - 1) / 2": replace(
            DEEP, ratio=lambda t: 2.0 ** -((3**t.depth - 1) / 2)
        ),
        "the first layer's constant alone": replace(
            DEEP, constant=lambda t: deep_constant(replace(t, depth=1))
        ),
    },
    limits="Up to three layers of width 4 and three tokens, in balls of 640 bits.",
)

CLAIMS = (RESIDUAL_IS_CUBIC, DOUBLY_EXPONENTIAL)
