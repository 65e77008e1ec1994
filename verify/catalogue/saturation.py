"""Claims about saturation: softmax against its limit for large scores.

Entries B-03, B-04 and B-09: arXiv 2010.09697, lemma 7 and proposition 2, as printed (both
are refuted, by counterexamples that the search finds) and repaired.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import sympy as sp
import torch
from hypothesis import strategies as st
from jaxtyping import Float

from asymptest.theory.saturation import (
    exact_error,
    remainder,
    saturate_scores,
    saturation_error,
    tied_scores,
)
from asymptest.verify.claim import Bound, Claim, Exact, Expects, Identity, Rng, Source
from asymptest.verify.deterministic import EPS

PAPER = "arXiv 2010.09697 (Merrill et al., EMNLP 2021)"
Vector = Float[np.ndarray, " T"]

PATTERNS = [(ties, others) for ties in range(1, 5) for others in range(0, 4)]


# --- B-03: the exact distance of softmax and its saturation ---------------------------


def _identities(closed=exact_error, error=saturation_error) -> dict[str, sp.Expr]:
    """Return the difference of both sides for every pattern of up to 7 scores."""
    found = {
        f"{ties} maxima, {others} others": error(ties, others)
        - closed(ties, remainder(others))
        for ties, others in PATTERNS
    }
    # For any numbers m of maxima and R: the two sums are m (1/m - 1/(m+R)) and R/(m+R).
    m, R = sp.symbols("m R", positive=True)
    found["any m and R"] = m * (1 / m - 1 / (m + R)) + R / (m + R) - closed(m, R)
    return found


def _limits() -> dict[str, sp.Expr]:
    """Return the limits of softmax(c z) minus uniform weight on the maxima."""
    return {
        f"{ties} maxima, {others} others, entry {k}": value
        - (sp.Rational(1, ties) if k < ties else 0)
        for ties, others in PATTERNS
        for k, value in enumerate(saturate_scores(tied_scores(ties, others)))
    }


@dataclass(frozen=True)
class Scores:
    """Integer scores (so that ties are ties) and the factor that multiplies them."""

    z: tuple[int, ...]
    c: float

    @property
    def top(self) -> int:
        """The maximal score."""
        return max(self.z)

    @property
    def ties(self) -> int:
        """The number of maximal scores."""
        return self.z.count(self.top)

    def rest(self, c: float | None = None) -> float:
        """R(c), summed from the small to the large."""
        scale = self.c if c is None else c
        return math.fsum(
            math.exp(-scale * (self.top - s)) for s in self.z if s < self.top
        )


@st.composite
def scores(draw) -> Scores:
    """Draw up to eight scores from a small range, so that ties are common."""
    z = draw(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
    return Scores(tuple(z), draw(st.floats(2**-6, 32)))


def torch_saturation(z: Sequence[int]) -> Vector:
    """Return uniform weights over the maxima, in torch."""
    values = torch.tensor(z, dtype=torch.float64)
    ties = (values == values.max()).double()
    return (ties / ties.sum()).numpy()


def torch_softmax(z: Sequence[float], c: float) -> Vector:
    """Return torch's softmax of c z."""
    return torch.softmax(c * torch.tensor(z, dtype=torch.float64), dim=0).numpy()


def measured_distance(s: Scores, _: Rng) -> float:
    """Return the l1 distance of torch's softmax from the saturated weights."""
    return float(np.abs(torch_softmax(s.z, s.c) - torch_saturation(s.z)).sum())


def closed_form(s: Scores) -> float:
    """Return 2 R / (m + R)."""
    return 2 * s.rest() / (s.ties + s.rest())


def softmax_rounding(s: Scores) -> float:
    """Bound the rounding of T terms of sum 1 and of an exponent c z of size |c z|."""
    size = s.c * max(map(abs, s.z))
    return 4 * EPS * (len(s.z) + 2 + size)


DISTANCE = Exact(measured_distance, closed_form, softmax_rounding)


def _first_maximum(s: Scores, _: Rng) -> float:
    one = np.zeros(len(s.z))
    one[s.z.index(s.top)] = 1
    return float(np.abs(torch_softmax(s.z, s.c) - one).sum())


def _norm(z: Sequence[float]) -> float:
    return math.sqrt(math.fsum(s * s for s in z))


# Weights scaled by w scale the logits of fixed states by w^2. Moderate scales: the error
# must stay far above the rounding of the tied weights, from which it is subtracted.
WEIGHT_SCALES = (1.5, 2.0)


def attention_distance(z: Sequence[int], w: float) -> float:
    """Return the l1 error of a torch attention row whose W^Q and W^K are scaled by w."""
    state = torch.tensor([[1.0, s] for s in z], dtype=torch.float64)
    query_weight = w * torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    key_weight = w * torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    logits = (state @ query_weight) @ (state @ key_weight).mT
    row = torch.softmax(logits, dim=-1)[0].numpy()
    return float(np.abs(row - torch_saturation(z)).sum())


def _slope(s: Scores, power: int) -> float:
    """Return the slope of the log error in w^power."""
    low, high = (math.log(attention_distance(s.z, w)) for w in WEIGHT_SCALES)
    return (high - low) / (WEIGHT_SCALES[1] ** power - WEIGHT_SCALES[0] ** power)


@st.composite
def separated_scores(draw) -> Scores:
    """Draw scores with at least one below the maximum."""
    s = draw(scores().filter(lambda s: len(set(s.z)) > 1))
    return replace(s, c=1.0)


def _gap(z: Sequence[float]) -> float:
    """Return the gap of the maximum to the next value, 0 if there is none."""
    below = [max(z) - s for s in z if s < max(z)]
    return min(below, default=0.0)


def _slope_bound(s: Scores) -> float:
    """Bound the departure of the slope from minus the gap.

    The error is 2 R / (m + R): log R departs from -gap w^2 + log(runners-up) by the other
    terms, log(m + R) from log m by at most R / m, both largest at the first scale. Rounding
    of the tied weights enters relative to the smallest error.
    """
    first, last = (w**2 for w in WEIGHT_SCALES)
    gap = _gap(s.z)
    below = [s.top - z for z in s.z if z < s.top]
    slower = sum(math.exp(-first * (g - gap)) for g in below if g > gap)
    runners = sum(g == gap for g in below)
    smallest = 2 * s.rest(last) / (s.ties + s.rest(last))
    rounding = 8 * EPS * len(s.z) * (1 + last * max(below)) / smallest
    return (slower / runners + s.rest(first) / s.ties + rounding) / (last - first)


RATE = Exact(
    left=lambda s, _: _slope(s, 2),
    right=lambda s: -_gap(s.z),
    bound=_slope_bound,
)

SOFTMAX_RATE = Claim(
    name="saturation/softmax-rate",
    statement=(
        sp.Eq(
            sp.Symbol("||softmax(c z) - sat(z)||_1"),
            exact_error(sp.Symbol("m"), sp.Symbol("R")),
        ),
        sp.Eq(
            sp.Symbol("R"),
            sp.Sum(
                sp.exp(-sp.Symbol("c") * sp.Symbol("g_j")),
                (sp.Symbol("j"), 1, sp.Symbol("T") - sp.Symbol("m")),
            ),
        ),
    ),
    source=Source(PAPER, "replaces lemma 7 (entry B-03)"),
    instances=separated_scores().flatmap(
        lambda s: st.floats(2**-6, 32).map(lambda factor: replace(s, c=factor))
    ),
    evidence=(Identity(_identities), Identity(_limits), DISTANCE, RATE),
    mutants={
        "factor 1 for 2": Identity(
            lambda: _identities(lambda m, R: exact_error(m, R) / 2)
        ),
        "number of ties missing": Identity(
            lambda: _identities(lambda m, R: 2 * R / (1 + R))
        ),
        "first maximum for the ties": replace(DISTANCE, left=_first_maximum),
        "rate exp(-c |z|)": replace(
            DISTANCE, right=lambda s: 2 * math.exp(-s.c * _norm(s.z)) / (s.ties + 1)
        ),
        "slope in c for c^2": replace(RATE, left=lambda s, _: _slope(s, 1)),
    },
    limits="Symbolic for up to 7 scores and for any m and R; torch in float64.",
)


# --- B-04: lemma 7 as printed, and with the margin that it needs ----------------------

KAPPA = Fraction(1, 100)  # the constant that Theta hides; any other fails farther out


def worst_change(z: Sequence[int]) -> float:
    """Return sup over c >= 1 and i of |softmax(c z)_i - softmax(z)_i|, over a grid to oo.

    On a tie the entry grows monotonically to 1/m; elsewhere the grid is dense enough to
    find a violation, and it is a violation that a refutation needs.
    """
    start = torch_softmax(z, 1.0)
    scales = np.concatenate([np.geomspace(1, 64, 13), [1e6]])
    changes = [np.abs(torch_softmax(z, float(scale)) - start).max() for scale in scales]
    return float(max(*changes, np.abs(torch_saturation(z) - start).max()))


def printed_bound(z: Sequence[int]) -> float:
    """Return exp(-kappa |z|)."""
    return math.exp(-float(KAPPA) * _norm(z))


@st.composite
def any_scores(draw) -> tuple[int, ...]:
    """Draw a large score and others below it, at distances near to a tie and far from it."""
    top = draw(st.integers(0, 10**4))
    distance = st.integers(0, 4) | st.integers(0, 10**4)
    return (top, *(top - draw(distance) for _ in range(draw(st.integers(1, 3)))))


LEMMA_7 = Claim(
    name="saturation/lemma-7-printed",
    statement=(
        sp.Le(
            sp.Symbol("|softmax(c x)_i - softmax(x)_i|"),
            sp.exp(-sp.Symbol("kappa") * sp.Symbol("|x|")),
        ),
    ),
    source=Source(PAPER, "lemma 7 (entry B-04)", "printed"),
    expects=Expects.REFUTED,
    instances=any_scores(),
    evidence=(Bound(worst_change, printed_bound, lambda z: 64 * EPS),),
    limits="Refuted for kappa = 1/100; any kappa > 0 fails with larger scores.",
    counterexample="x = (M, M - 1): the change tends to 1/(1 + e) = 0.2689 for every M",
    repaired="saturation/lemma-7-with-margin",
)


@st.composite
def scores_with_margin(draw) -> tuple[int, ...]:
    """Draw scores whose gap is at least |x| / 4, some tied at the top.

    The scores below the runner-up are drawn first; the gap is as wide as their range.
    """
    ties = draw(st.integers(1, 2))
    below = draw(st.lists(st.integers(0, 40), min_size=1, max_size=4))
    # The norm is at most sqrt(4) (gap + max(below)), at most four scores being nonzero; so
    # a gap of at least max(below) is at least a quarter of it.
    gap = max(1, *below)
    return (0,) * ties + tuple(-gap - b for b in below)


def margin(z: Sequence[int]) -> float:
    """Return kappa, the gap in units of the norm."""
    return _gap(z) / _norm(z)


def repaired_bound(z: Sequence[int]) -> float:
    """Return (T - 1) exp(-kappa |x|) with kappa = gap / |x|."""
    return (len(z) - 1) * math.exp(-margin(z) * _norm(z))


REPAIRED = Bound(worst_change, repaired_bound, lambda z: 64 * EPS)

LEMMA_7_REPAIRED = Claim(
    name="saturation/lemma-7-with-margin",
    statement=(
        sp.Le(
            sp.Symbol("|softmax(c x)_i - softmax(x)_i|"),
            (sp.Symbol("T") - 1) * sp.exp(-sp.Symbol("kappa") * sp.Symbol("|x|")),
        ),
    ),
    source=Source(PAPER, "lemma 7 with the hypothesis gap >= kappa |x| (entry B-04)"),
    instances=scores_with_margin(),
    evidence=(REPAIRED,),
    mutants={
        "twice the rate": replace(
            REPAIRED,
            right=lambda z: (len(z) - 1) * math.exp(-2 * margin(z) * _norm(z)),
        ),
        "rate |x|": replace(
            REPAIRED, right=lambda z: (len(z) - 1) * math.exp(-_norm(z))
        ),
        "lowest score for the runner-up": replace(
            REPAIRED, right=lambda z: (len(z) - 1) * math.exp(-(max(z) - min(z)))
        ),
    },
    limits="Up to six scores; the supremum over c is taken on a grid that reaches the limit.",
)


# --- B-09: norm growth and saturation ---------------------------------------------------


@dataclass(frozen=True)
class Growth:
    """One query q and keys k_j; theta_t = c theta' + shift / sqrt(c), c = root^2.

    All numbers are rational, so ties and their breaking are exact at every c.
    """

    query: int
    keys: tuple[int, ...]
    shift: tuple[int, ...]
    root: int = 10**6

    def logits(self, root: int) -> tuple[Fraction, ...]:
        """Return q_t k_t exactly at c = root^2."""
        scale = root * root
        keys = (
            scale * k + Fraction(e, root)
            for k, e in zip(self.keys, self.shift, strict=True)
        )
        return tuple(scale * self.query * key for key in keys)

    @property
    def limit_scores(self) -> tuple[int, ...]:
        """The scores of theta', whose saturation the proposition predicts."""
        return tuple(self.query * key for key in self.keys)


@st.composite
def growths(draw, distinct: bool = False) -> Growth:
    """Draw nonzero parameters theta' and a direction in which theta_t approaches c theta'."""
    query = draw(st.sampled_from([1, 2, -1]))
    nonzero = st.integers(1, 3) | st.integers(-3, -1)
    keys = draw(st.lists(nonzero, min_size=2, max_size=4, unique=distinct))
    shift = draw(st.lists(st.integers(-2, 2), min_size=len(keys), max_size=len(keys)))
    return Growth(query, tuple(keys), tuple(shift))


def exact_softmax(logits: Sequence[Fraction]) -> Vector:
    """Return softmax of rational logits; differences are taken before rounding."""
    top = max(logits)
    weights = np.array([math.exp(max(float(z - top), -1e4)) for z in logits])
    return weights / weights.sum()


GROWTH = Exact(
    left=lambda g, _: exact_softmax(g.logits(g.root)),
    right=lambda g: torch_saturation(g.limit_scores),
    # At c = 10^12 an exact gap of 1 leaves exp(-10^24), and a broken tie a gap of 10^6.
    bound=lambda g: 8 * EPS,
)

PROPOSITION_2 = Claim(
    name="saturation/proposition-2-printed",
    statement=(
        sp.Eq(
            sp.Limit(
                sp.Function("f")(sp.Symbol("x"), sp.Symbol("theta_t")),
                sp.Symbol("t"),
                sp.oo,
            ),
            sp.Function("sf")(sp.Symbol("x"), sp.Symbol("theta'")),
        ),
    ),
    source=Source(PAPER, "proposition 2 (entry B-09)", "printed"),
    expects=Expects.REFUTED,
    instances=growths(),
    evidence=(GROWTH,),
    limits="One head, one query, exact arithmetic: a tie that the approach breaks.",
    counterexample="two equal keys, approached at c^(-1/2) from one side: (1, 0), not (1/2, 1/2)",
    repaired="saturation/proposition-2-with-gap",
)

PROPOSITION_2_REPAIRED = Claim(
    name="saturation/proposition-2-with-gap",
    statement=PROPOSITION_2.statement,
    source=Source(PAPER, "proposition 2 for distinct scores (entry B-09)"),
    instances=growths(distinct=True),
    evidence=(GROWTH,),
    mutants={
        "second maximum": replace(
            GROWTH,
            right=lambda g: torch_saturation(
                [
                    z if z < max(g.limit_scores) else min(g.limit_scores) - 1
                    for z in g.limit_scores
                ]
            ),
        ),
        "minimum for maximum": replace(
            GROWTH, right=lambda g: torch_saturation([-z for z in g.limit_scores])
        ),
        "scores of the norm alone": replace(
            GROWTH, right=lambda g: np.full(len(g.keys), 1 / len(g.keys))
        ),
    },
    limits="One head, one query, up to four keys; exact arithmetic at c = 10^12, no torch.",
)

CLAIMS = (
    SOFTMAX_RATE,
    LEMMA_7,
    LEMMA_7_REPAIRED,
    PROPOSITION_2,
    PROPOSITION_2_REPAIRED,
)
