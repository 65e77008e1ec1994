"""Claims about perplexity: of a loss in nats it is e^L, and 2^L is not.

Entry B-21: the perplexities that the erratum of arXiv 2010.09697 withdraws.
"""

import math
from dataclasses import dataclass, replace

import sympy as sp
import torch
from hypothesis import strategies as st

from asymptest.verify.claim import Claim, Exact, Expects, Identity, Rng, Source
from asymptest.verify.deterministic import EPS

PAPER = "arXiv 2010.09697 (Merrill et al., EMNLP 2021)"


@dataclass(frozen=True)
class Predictions:
    """Logits of each token's distribution; the token that came is the first."""

    logits: tuple[tuple[int, ...], ...]


@st.composite
def predictions(draw) -> Predictions:
    """Draw up to six distributions over one vocabulary."""
    size, tokens = draw(st.integers(2, 6)), draw(st.integers(1, 6))
    row = st.tuples(*[st.integers(-3, 3)] * size)
    return Predictions(tuple(draw(row) for _ in range(tokens)))


def perplexity(case: Predictions, _: Rng) -> float:
    """Return the geometric mean of 1 / probability, by its definition."""
    chances = [math.exp(row[0]) / sum(map(math.exp, row)) for row in case.logits]
    return math.prod(chances) ** (-1 / len(chances))


def loss_in_nats(case: Predictions) -> float:
    """Return torch's cross-entropy."""
    logits = torch.tensor(case.logits, dtype=torch.float64)
    first = torch.zeros(len(logits), dtype=torch.int64)
    return float(torch.nn.functional.cross_entropy(logits, first))


def _perplexity_rounding(case: Predictions) -> float:
    """Bound the rounding of sums of exponentials of up to 3; a perplexity is below 6 e^6."""
    return 8 * EPS * (len(case.logits) + len(case.logits[0]) + 8) * 6 * math.exp(6)


NATS = Exact(
    left=perplexity,
    right=lambda case: math.exp(loss_in_nats(case)),
    bound=_perplexity_rounding,
)
BASE_2 = replace(NATS, right=lambda case: 2 ** loss_in_nats(case))
LOSS, P = sp.Symbol("L", positive=True), sp.Symbol("P", positive=True)

PERPLEXITY_PRINTED = Claim(
    name="perplexity/printed",
    statement=(sp.Eq(P, 2**LOSS),),
    source=Source(
        PAPER, "perplexities of its code, loss in nats (entry B-21)", "printed"
    ),
    expects=Expects.REFUTED,
    instances=predictions(),
    evidence=(BASE_2,),
    limits="Refuted by torch's cross-entropy, which is in nats.",
    counterexample="one token of two alike: the perplexity is 2, and 2^(log 2) = 1.617",
    repaired="perplexity/nats",
)


def _true_perplexity(reported: sp.Expr) -> sp.Expr:
    """Return e^L for the L with 2^L = `reported`."""
    (loss,) = sp.solve(sp.Eq(2**LOSS, reported), LOSS)
    return sp.exp(loss)


def _reported(base: int = 2) -> dict[str, sp.Expr]:
    """Return what the reported numbers say, and those of the paper, to the integer."""
    found = {"any": _true_perplexity(P) - P ** (1 / sp.log(base))}
    for reported, meant in (("30.55", 139), ("101.1", 780)):
        value = sp.Rational(reported) ** (1 / sp.log(base))
        found[reported] = sp.floor(value + sp.Rational(1, 2)) - meant
    return found


PERPLEXITY = Claim(
    name="perplexity/nats",
    statement=(
        sp.Eq(P, sp.exp(LOSS)),
        sp.Eq(P, _true_perplexity(sp.Symbol("reported", positive=True))),
    ),
    source=Source(PAPER, "erratum; reported 2^L for L in nats (entry B-21)"),
    instances=predictions(),
    evidence=(NATS, Identity(_reported)),
    mutants={
        "2^nats": BASE_2,
        "e^bits": replace(
            NATS, right=lambda case: math.exp(loss_in_nats(case) / math.log(2))
        ),
        "base 10": Identity(lambda: _reported(10)),
    },
    limits="That the reported numbers are 2^L is read off the paper's code, not shown here.",
)

CLAIMS = (PERPLEXITY_PRINTED, PERPLEXITY)
