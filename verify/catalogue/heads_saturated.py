"""Claims about saturated heads: equal weights on ties, and what follows from that.

Entry B-02: arXiv 2010.09697, section 4.2, with s-attn(H) = sat(H Q K^T H^T) H.
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp
import torch
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from asymptest.verify.catalogue.heads import PAPER, Rows, table
from asymptest.verify.claim import Claim, Exact, Identity, Source
from asymptest.verify.deterministic import EPS
from asymptest.verify.saturated_attention import saturated_weights

# --- Ties, homogeneity, equivariance ----------------------------------------------------


@dataclass(frozen=True)
class Head:
    """Integer states, one a row, with d = 2; Q and K integer 2 x 2; all ties are exact."""

    H: Rows
    Q: Rows
    K: Rows
    order: tuple[int, ...]
    power: int

    def output(self, factor: float = 1.0, order: tuple[int, ...] | None = None) -> Any:
        """Return s-attn(H) = sat(H Q K^T H^T) H with Q scaled and H permuted."""
        return self.attention(saturated_weights, factor, order)

    def attention(
        self, weights: Any, factor: float = 1.0, order: tuple[int, ...] | None = None
    ) -> Float[np.ndarray, "T d"]:
        """Return the same with other weights."""
        H = table(self.H)[list(order or range(len(self.H)))]
        scores = (H @ (factor * table(self.Q))) @ (H @ table(self.K)).mT
        return (weights(scores) @ H).numpy()

    def exact(self) -> Float[np.ndarray, "T d"]:
        """Return the same in rational arithmetic, rounded once."""
        size = range(len(self.H))
        q, k = (
            [[sum(h[a] * W[a][b] for a in (0, 1)) for b in (0, 1)] for h in self.H]
            for W in (self.Q, self.K)
        )
        rows = []
        for a in size:
            scores = [q[a][0] * k[b][0] + q[a][1] * k[b][1] for b in size]
            best = [b for b in size if scores[b] == max(scores)]
            rows.append(
                [
                    float(Fraction(sum(self.H[b][d] for b in best), len(best)))
                    for d in (0, 1)
                ]
            )
        return np.array(rows)


@st.composite
def heads(draw) -> Head:
    """Draw two to five states, of which several are often equal, so that scores tie."""
    vector = st.tuples(st.integers(-2, 2), st.integers(-2, 2))
    H = tuple(draw(st.lists(vector, min_size=2, max_size=5)))
    Q, K = draw(st.tuples(vector, vector)), draw(st.tuples(vector, vector))
    order = tuple(draw(st.permutations(range(len(H)))))
    return Head(H, Q, K, order, draw(st.integers(-20, 20)))


def first_maximum(scores: Float[Tensor, "*rows T"]) -> Float[Tensor, "*rows T"]:
    """Return all weight on the first maximum, as torch.argmax breaks ties."""
    return torch.nn.functional.one_hot(scores.argmax(-1), scores.shape[-1]).double()


def softmax(scores: Float[Tensor, "*rows T"]) -> Float[Tensor, "*rows T"]:
    """Return the weights that are not saturated."""
    return torch.softmax(scores, dim=-1)


def _head_rounding(head: Head) -> float:
    """Bound the rounding of a sum of T terms of size 2 / T."""
    return 4 * EPS * len(head.H)


TIES = Exact(lambda h, _: h.output(), Head.exact, _head_rounding)
HOMOGENEOUS = Exact(
    left=lambda h, _: h.output(2.0**h.power), right=Head.output, bound=_head_rounding
)
EQUIVARIANT = Exact(
    left=lambda h, _: h.output(order=h.order),
    right=lambda h: h.output()[list(h.order)],
    bound=_head_rounding,
)

SATURATED = Claim(
    name="heads/saturated-attention",
    statement=(
        sp.Eq(sp.Symbol("sat(z)_j"), 1 / sp.Symbol("|argmax z|")),
        sp.Eq(sp.Symbol("s-attn(H; c Q, K)"), sp.Symbol("s-attn(H; Q, K)")),
        sp.Eq(sp.Symbol("s-attn(P H)"), sp.Symbol("P s-attn(H)")),
    ),
    source=Source(PAPER, "section 4.2 (entry B-02)"),
    instances=heads(),
    evidence=(TIES, HOMOGENEOUS, EQUIVARIANT),
    mutants={
        "first maximum for the ties": replace(
            TIES, left=lambda h, _: h.attention(first_maximum)
        ),
        "minimum for maximum": replace(TIES, left=lambda h, _: h.output(-1.0)),
        "softmax is homogeneous": replace(
            HOMOGENEOUS,
            left=lambda h, _: h.attention(softmax, 2.0**h.power),
            right=lambda h: h.attention(softmax),
        ),
        "homogeneous for c < 0 too": replace(
            HOMOGENEOUS, left=lambda h, _: h.output(-(2.0**h.power))
        ),
        "first maximum is equivariant": replace(
            EQUIVARIANT,
            left=lambda h, _: h.attention(first_maximum, order=h.order),
            right=lambda h: h.attention(first_maximum)[list(h.order)],
        ),
        "invariant for equivariant": replace(EQUIVARIANT, right=Head.output),
    },
    limits="Integer states, so that all ties are exact; up to five positions of width 2.",
)


# --- Where it jumps ------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """Scores z, and a step of size 2^-digits along e, too short to reach a new maximum."""

    z: tuple[int, ...]
    e: tuple[int, ...]
    digits: int

    def jump(self, weights: Any = saturated_weights) -> Float[np.ndarray, " 1"]:
        """Return |sat(z + t e) - sat(z)|_1."""
        z, e = (torch.tensor(v, dtype=torch.float64) for v in (self.z, self.e))
        gap = weights(z + 2.0**-self.digits * e) - weights(z)
        return gap.abs().sum().reshape(1).numpy()

    def predicted(self) -> Float[np.ndarray, " 1"]:
        """Return 2 (1 - m' / m): of the m maxima, the m' that e raises most remain."""
        tied = [e for z, e in zip(self.z, self.e, strict=True) if z == max(self.z)]
        return np.array([2 * (1 - tied.count(max(tied)) / len(tied))])


@st.composite
def steps(draw) -> Step:
    """Draw up to six scores; steps of 2^-20 still exceed the tolerance for ties."""
    pairs = draw(
        st.lists(
            st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=6
        )
    )
    z, e = zip(*pairs, strict=True)
    return Step(z, e, draw(st.integers(3, 20)))


def _moved(factor: int = 2) -> dict[str, sp.Expr]:
    """Return m' gains of 1/m' - 1/m and m - m' losses of 1/m, minus the closed form."""
    m, rest = sp.symbols("m m'", positive=True)
    return {
        "any m and m'": rest * (1 / rest - 1 / m)
        + (m - rest) / m
        - factor * (1 - rest / m)
    }


JUMP = Exact(
    left=lambda s, _: s.jump(), right=Step.predicted, bound=lambda s: 8 * EPS * len(s.z)
)

DISCONTINUOUS = Claim(
    name="heads/saturation-jumps-on-ties",
    statement=(
        sp.Eq(
            sp.Limit(sp.Function("|sat(z + t e) - sat(z)|_1")(sp.Symbol("t")), "t", 0),
            2 * (1 - sp.Symbol("m'") / sp.Symbol("m")),
        ),
    ),
    source=Source(
        PAPER, "section 4.2: discontinuous exactly on the tie set (entry B-02)"
    ),
    instances=steps(),
    evidence=(Identity(_moved), JUMP),
    mutants={
        "continuous": replace(JUMP, right=lambda _: np.zeros(1)),
        "first maximum for the ties": replace(
            JUMP, left=lambda s, _: s.jump(first_maximum)
        ),
        "every tie breaks to one": replace(
            JUMP, right=lambda s: np.array([2 * (1 - 1 / s.z.count(max(s.z)))])
        ),
        "jump of the size of the step": replace(
            JUMP, right=lambda s: math.ldexp(1, -s.digits) * s.predicted()
        ),
        "half the jump": Identity(lambda: _moved(1)),
    },
    limits="m' of the m maxima stay maximal: the jump is 0 for every e only if m = 1. Up to "
    "six integer scores.",
)

CLAIMS = (SATURATED, DISCONTINUOUS)
