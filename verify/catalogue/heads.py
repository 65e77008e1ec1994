"""Claims about attention heads: what a mask hides, how many positions a head attends to.

Entries B-17 and B-20: arXiv 2010.09697. Its code masks by a product, softmax(M * S), which
leaves hidden scores at 0, not at -inf. A row whose visible scores are all negative then
attends to the future. At T = 83 that makes 41.012 positions on average, which the paper's
histogram of heads shows in place of a mean head's (T + 1) / 2 = 42.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
import torch
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from asymptest.verify.census import attended
from asymptest.verify.claim import Bound, Claim, Exact, Expects, Identity, Source
from asymptest.verify.deterministic import EPS

PAPER = "arXiv 2010.09697 (Merrill et al., EMNLP 2021)"
CODE = "src/si_transformer.py and saturate.py: scores = mask * scores (entry B-20)"
PRINTED_T = 83  # the length of the sequences in the paper's histogram
C = 1000.0  # the paper's factor; on integer scores e^-1000 is 0 in float64

Rows = tuple[tuple[int, ...], ...]
Weights = Callable[[Float[Tensor, "T T"]], Float[Tensor, "T T"]]
COUNT = sp.Function("count")
T, i = sp.symbols("T i", integer=True, positive=True)


def table(S: Rows) -> Float[Tensor, "rows columns"]:
    """Return integers as a float64 tensor."""
    return torch.tensor(S, dtype=torch.float64)


def multiplied(scores: Float[Tensor, "T T"]) -> Float[Tensor, "T T"]:
    """Return softmax under the causal mask as a product, at scores C times as large."""
    return torch.softmax(C * scores.tril(), dim=-1)


def added(scores: Float[Tensor, "T T"]) -> Float[Tensor, "T T"]:
    """Return softmax under the causal mask as -inf, at scores C times as large."""
    hidden = torch.ones_like(scores).triu(1).bool()
    return torch.softmax(C * scores.masked_fill(hidden, -torch.inf), dim=-1)


def _average(weights: Weights, S: Rows) -> Float[np.ndarray, " 1"]:
    """Return the mean number of attended positions."""
    return attended(weights(table(S))).double().mean().reshape(1).numpy()


def _future(weights: Weights, S: Rows) -> int:
    """Return how many attended positions lie in the future of their row."""
    return int(attended(weights(table(S)).triu(1)).sum())


def _nothing(_: Any) -> Float[np.ndarray, " 1"]:
    return np.zeros(1)


def _rounding(size: int) -> float:
    """Bound the rounding of a mean of T integers up to T."""
    return 4 * EPS * size


def square(
    entries: st.SearchStrategy[int], largest: int = 6
) -> st.SearchStrategy[Rows]:
    """Return T x T tables of integer scores, T from 2 on."""
    return st.integers(2, largest).flatmap(
        lambda n: st.tuples(*(st.tuples(*([entries] * n)) for _ in range(n)))
    )


NONZERO = st.integers(1, 3) | st.integers(-3, -1)


# --- B-20: as the code has it -----------------------------------------------------------

VISIBLE_ONLY = Claim(
    name="heads/product-mask-hides-printed",
    statement=(sp.Eq(sp.Symbol("attended positions j > i"), 0),),
    source=Source(PAPER, CODE, "printed"),
    expects=Expects.REFUTED,
    instances=square(NONZERO),
    evidence=(
        Exact(lambda S, _: np.array([_future(multiplied, S)]), _nothing, lambda _: EPS),
    ),
    limits="Up to six positions; scores are nonzero, since 0 does not differ from a mask.",
    counterexample="a row whose visible scores are all negative: the score 0 of the future "
    "is the largest",
    repaired="heads/minus-infinity-mask",
)


@dataclass(frozen=True)
class MeanHead:
    """The same score at all T x T positions."""

    size: int
    score: int

    @property
    def scores(self) -> Rows:
        """The scores as a table."""
        return ((self.score,) * self.size,) * self.size


MEAN_HEAD = Exact(
    left=lambda head, _: _average(multiplied, head.scores),
    right=lambda head: np.array([(head.size + 1) / 2]),
    bound=lambda head: _rounding(head.size),
)

PRINTED_MEAN_HEAD = Claim(
    name="heads/product-mask-mean-head-printed",
    statement=(sp.Eq(sp.Symbol("mean count"), (T + 1) / 2),),
    source=Source(PAPER, f"equation 1 as run by {CODE}", "printed"),
    expects=Expects.REFUTED,
    instances=st.builds(MeanHead, st.integers(2, 96), st.integers(-2, 2)),
    evidence=(MEAN_HEAD,),
    limits="Heads of one score on all positions, up to T = 96; refuted by the score 0 only: "
    "a negative one attends to the T - i future positions of row i, as many on average.",
    counterexample="the score 0, to which a hidden position's is equal: all T are attended",
    repaired="heads/minus-infinity-mask",
)


# --- B-20: what the product gives instead -----------------------------------------------


def future_rows() -> sp.Expr:
    """Return the mean count: T - i future positions of row i < T, and one of row T."""
    rows: Any = sp.Sum(T - i, (i, 1, T - 1))
    return (rows + 1) / T


ARTEFACT = (T * (T - 1) / 2 + 1) / T


def _artefact(count: sp.Expr = ARTEFACT) -> dict[str, sp.Expr]:
    """Return the sum minus its closed form, and its value at the printed length."""
    return {
        "any T": future_rows().doit() - count,
        "T = 83": sp.Rational(3404, 83) - count.subs(T, PRINTED_T),
    }


@dataclass(frozen=True)
class NegativeHead:
    """T x T scores: below 0 where visible, and largest at `best` in the last row."""

    size: int
    visible: tuple[int, ...]  # repeated along each row, all below -1
    future: int
    best: int

    @property
    def scores(self) -> Rows:
        """The scores as a table."""
        seen = [self.visible[k % len(self.visible)] for k in range(self.size)]
        *rows, last = (
            (*seen[:i], *((self.future,) * (self.size - i)))
            for i in range(1, self.size + 1)
        )
        k = self.best % self.size
        return (*rows, (*last[:k], -1, *last[k + 1 :]))


NEGATIVE = st.builds(
    NegativeHead,
    st.integers(2, 9) | st.just(PRINTED_T),
    st.lists(st.integers(-5, -2), min_size=1, max_size=5).map(tuple),
    st.integers(-3, 3),
    st.integers(0, PRINTED_T),
)


def _counts(weights: Weights, formula: sp.Expr) -> Exact:
    """Return evidence that a head of negative scores attends to `formula` positions."""
    number = sp.lambdify(T, formula)
    return Exact(
        left=lambda head, _: _average(weights, head.scores),
        right=lambda head: np.array([float(number(head.size))]),
        bound=lambda head: _rounding(head.size),
    )


ARTEFACT_COUNT = Claim(
    name="heads/product-mask-artefact-count",
    statement=(
        sp.Eq(sp.Symbol("mean count"), ARTEFACT),
        sp.Eq(future_rows(), ARTEFACT),
    ),
    source=Source(PAPER, "explains 41.012 in the histogram of heads (entry B-20)"),
    instances=NEGATIVE,
    evidence=(Identity(_artefact), _counts(multiplied, ARTEFACT)),
    mutants={
        "(T + 1) / 2, a mean head": _counts(multiplied, (T + 1) / 2),
        "last row forgotten": _counts(multiplied, (T - 1) / 2),
        "last row forgotten, in symbols": Identity(lambda: _artefact((T - 1) / 2)),
        "mask of -inf": _counts(added, ARTEFACT),
    },
    limits="Negative scores with one maximum in the last row; up to T = 9, and T = 83.",
)


# --- B-20 repaired: -inf hides -----------------------------------------------------------


def _fullest_row(S: Rows, weights: Weights = added) -> float:
    """Return the largest of count_i / i, rows counted from 1."""
    rows = torch.arange(1, len(S) + 1)
    return float((attended(weights(table(S))) / rows).max())


ROW_BOUND = Bound(left=_fullest_row, right=lambda _: 1.0)
HIDDEN = Exact(
    lambda S, _: np.array([_future(added, S)]), _nothing, bound=lambda _: EPS
)
ADDED_MEAN = Exact(
    left=lambda S, _: _average(added, _levelled(S)),
    right=lambda S: np.array([(len(S) + 1) / 2]),
    bound=lambda S: _rounding(len(S)),
)


def _levelled(S: Rows) -> Rows:
    """Return the scores of a mean head: each row holds its first score throughout."""
    return tuple((row[0],) * len(row) for row in S)


MINUS_INFINITY = Claim(
    name="heads/minus-infinity-mask",
    statement=(
        sp.Le(COUNT(i), i),
        sp.Eq(sp.Symbol("attended positions j > i"), 0),
        sp.Eq(sp.Symbol("mean count of a mean head"), (T + 1) / 2),
    ),
    source=Source(PAPER, "equation 1 and section 5 with a mask of -inf (entry B-20)"),
    instances=square(st.integers(-3, 3)),
    evidence=(ROW_BOUND, HIDDEN, ADDED_MEAN),
    mutants={
        "mask as a product": replace(
            ROW_BOUND, left=lambda S: _fullest_row(S, multiplied)
        ),
        "a row never attends to all": replace(
            ROW_BOUND, right=lambda S: (len(S) - 1) / len(S)
        ),
        "future seen through a product": replace(
            HIDDEN, left=lambda S, _: np.array([_future(multiplied, S)])
        ),
        "mean head by a product": replace(
            ADDED_MEAN, left=lambda S, _: _average(multiplied, _levelled(S))
        ),
        "mean head without the diagonal": replace(
            ADDED_MEAN, right=lambda S: np.array([(len(S) - 1) / 2])
        ),
        "argmax head": replace(ADDED_MEAN, right=lambda S: np.ones(1)),
    },
    limits="Integer scores of up to six positions, times 1000, softmax in float64.",
)


CLAIMS = (
    VISIBLE_ONLY,
    PRINTED_MEAN_HEAD,
    ARTEFACT_COUNT,
    MINUS_INFINITY,
)
