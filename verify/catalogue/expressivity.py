"""Claims about what kinds of attention can and cannot tell apart.

Unique hard attention under a mask that lets a position see itself cannot count repeated
letters; a small bias by position turns softmax into unique hard attention; exact means of
means need a number of bits that grows with the length, not with its logarithm.

Entries C-13 and C-14: Merrill, Sabharwal and Smith (2022), Yang, Chiang and Angluin (2024).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import sympy as sp
import torch
from hypothesis import strategies as st

from asymptest.theory.activations import relu
from asymptest.theory.network import Attention, Mlp, Residual
from asymptest.theory.patterns import Saturated, Softmax
from asymptest.verify.claim import Bound, Claim, Exact, Expects, Source
from asymptest.verify.deterministic import EPS
from asymptest.verify.finite import finite
from asymptest.verify.languages import attention
from asymptest.verify.recognition import words
from asymptest.verify.recognizers import (
    MARKER,
    Recognizer,
    Ties,
    Weights,
    outputs,
)
from asymptest.verify.weights_of import load_weights

MERRILL = "Merrill, Sabharwal and Smith (TACL 2022), arXiv 2106.16213"
YANG = "Yang, Chiang and Angluin (NeurIPS 2024), arXiv 2310.13897"

T = sp.Symbol("T", integer=True, positive=True)


# --- C-14: masks that are not strict ----------------------------------------------------

WIDTH, HEADS, LAYERS = 4, 2, 2


@dataclass(frozen=True)
class Stutter:
    """A word, one of its letters, which is doubled, and a network with whole weights."""

    word: str
    place: int
    seed: int
    ties: Ties

    @property
    def doubled(self) -> str:
        """The word with the letter at `place` twice."""
        return self.word[: self.place + 1] + self.word[self.place :]


@st.composite
def stutters(draw) -> Stutter:
    """Draw a word of up to 12 letters, and where it stutters."""
    word = draw(words("ab", 1, 12))
    place = draw(st.integers(0, len(word) - 1))
    ties: tuple[Ties, ...] = ("leftmost", "rightmost")
    return Stutter(
        word, place, draw(st.integers(0, 2**32)), draw(st.sampled_from(ties))
    )


def random_weights(rng: np.random.Generator) -> tuple[Weights, ...]:
    """Return weights in {-1, 0, 1}: ties are common, and float64 is exact."""

    def table(*shape: int) -> np.ndarray:
        return rng.integers(-1, 2, shape).astype(object)

    inner = (WIDTH, HEADS, WIDTH // HEADS)
    return LAYERS * (
        {"WQ": table(*inner), "WK": table(*inner), "WV": table(*inner)}
        | {"WO": table(HEADS, WIDTH // HEADS, WIDTH)},
        {"W": table(WIDTH, WIDTH)},
        {"W": table(WIDTH, WIDTH)},
    )


def hard_network(
    s: Stutter, strict: bool = False, positions: bool = False
) -> Recognizer:
    """Return a random causal network of two layers with unique hard attention."""
    rng = np.random.default_rng(s.seed)
    tokens = {
        x: tuple(map(int, rng.integers(-1, 2, WIDTH))) for x in ("a", "b", MARKER)
    }

    def network(size: int):
        mask = np.tri(size, k=-1 if strict else 0, dtype=bool)
        mask[0, 0] = True
        attend = Residual(Attention(Saturated(), mask=mask, heads=HEADS))
        return (attend >> Residual(Mlp(relu, expansion=1))) * LAYERS

    return Recognizer(
        alphabet="ab",
        tokens=tokens,
        network=network,
        weights=random_weights(rng),
        read=tuple(map(int, rng.integers(1, 4, WIDTH))),
        position=(lambda i, _: (i, 0, 0, 0)) if positions else None,
        marker="start",
        ties=s.ties,
    )


def _stutter(**changes) -> Exact:
    """Return the evidence that a doubled letter leaves the last position as it is.

    Args:
        changes: of `hard_network`, or `ties` for the recognizer.
    """
    ties = changes.pop("ties", None)

    def output(s: Stutter, word: str) -> np.ndarray:
        network = hard_network(s, **changes)
        return outputs(replace(network, ties=ties or s.ties), [word])

    return Exact(
        left=lambda s, _: output(s, s.doubled),
        right=lambda s: output(s, s.word),
        bound=lambda s: 0.5,  # both are whole numbers, far below 2^53
    )


STUTTER = Claim(
    name="expressivity/stutter-invariance",
    statement=(sp.Eq(sp.Symbol("f(u x x v)"), sp.Symbol("f(u x v)")),),
    source=Source(YANG, "masks that are not strict (entry C-14)"),
    instances=stutters(),
    evidence=(_stutter(),),
    mutants={
        "strict mask": _stutter(strict=True),
        "average for unique": _stutter(ties="average"),
        "positions in the embedding": _stutter(positions=True),
    },
    limits=(
        "By induction over the layers the two copies have one state, so that the maximum "
        "found first or last has the state it had: hence no weights accept aa and reject a. "
        "Checked for random whole weights, two layers, words up to 12 letters."
    ),
)


# --- C-14: unique hard attention as a limit of softmax ----------------------------------


@dataclass(frozen=True)
class Row:
    """Whole scores by position, and the factor c of the logits."""

    scores: tuple[int, ...]
    c: float

    @property
    def bias(self) -> Fraction:
        """Epsilon: all positions together stay below the gap of two scores."""
        return Fraction(1, 2 * len(self.scores))


@st.composite
def rows(draw) -> Row:
    """Draw up to 12 scores with many ties."""
    scores = draw(st.lists(st.integers(0, 2), min_size=2, max_size=12))
    return Row(tuple(scores), draw(st.floats(4, 400)))


def soft_row(row: Row, bias: Fraction) -> np.ndarray:
    """Return the first row of a torch attention matrix with the logits c (s_j - bias j)."""
    n, size = 3, len(row.scores)
    module = finite(Attention(Softmax(), heads=n), n)
    query = {(0, 0, 0): row.c}
    key = {(1, 0, 0): 1, (2, 0, 0): -bias}
    load_weights(module, [attention(n, n, WV={}, WO={}, WQ=query, WK=key)])
    state = [[1.0, score, j] for j, score in enumerate(row.scores)]
    with torch.no_grad():
        A = module.body.get_submodule("pattern")(torch.tensor([state]).double())
    assert A.shape == (1, n, size, size)
    return A[0, 0, 0].numpy()


def hard_row(scores: Sequence[int], rightmost: bool = False) -> np.ndarray:
    """Return 1 at the first maximum, or at the last."""
    places = [j for j, score in enumerate(scores) if score == max(scores)]
    one = np.zeros(len(scores))
    one[places[-1 if rightmost else 0]] = 1
    return one


def row_distance(row: Row, bias: Fraction | None = None, rightmost=False) -> float:
    """Return the l1 distance of the softmax row from the one-hot one."""
    soft = soft_row(row, row.bias if bias is None else bias)
    return float(np.abs(soft - hard_row(row.scores, rightmost)).sum())


def row_bound(row: Row, rate: float = 1.0) -> float:
    """Return 2 (T - 1) e^(-c gap), gap = min(bias, 1 - (T - 1) bias).

    The rest R of the softmax is at most (T - 1) e^(-c gap), and the distance 2 R / (1 + R).
    """
    size = len(row.scores)
    gap = min(row.bias, 1 - (size - 1) * row.bias)
    return 2 * (size - 1) * math.exp(-rate * row.c * float(gap))


def row_rounding(row: Row) -> float:
    """Bound the rounding of logits of size 3 c, and of T terms of sum 1."""
    return 8 * EPS * (len(row.scores) + 3 * row.c)


TIE_BREAK_BOUND = Bound(row_distance, row_bound, row_rounding)

TIE_BREAK = Claim(
    name="expressivity/tie-break",
    statement=(
        sp.Le(
            sp.Symbol("||softmax(c (s_j - eps j)) - leftmost(s)||_1"),
            2 * (T - 1) * sp.exp(-sp.Symbol("c") * sp.Symbol("eps")),
        ),
    ),
    source=Source(YANG, "B-RASP's leftmost attention by softmax (entry C-14)"),
    instances=rows(),
    evidence=(TIE_BREAK_BOUND,),
    mutants={
        "no bias": replace(
            TIE_BREAK_BOUND, left=lambda row: row_distance(row, Fraction(0))
        ),
        "rightmost": replace(
            TIE_BREAK_BOUND, left=lambda row: row_distance(row, rightmost=True)
        ),
        "bias that outweighs scores": replace(
            TIE_BREAK_BOUND, left=lambda row: row_distance(row, Fraction(1))
        ),
        "twice the rate": replace(
            TIE_BREAK_BOUND, right=lambda row: row_bound(row, rate=2.0)
        ),
    },
    limits="One attention row of up to 12 scores; the rest of B-RASP is not shown.",
)


# --- C-13: how many bits exact means need -----------------------------------------------


def causal_means(values: Sequence[Fraction]) -> list[Fraction]:
    """Return the mean of the first i values, for every i: one causal mean head."""
    total, means = Fraction(0), []
    for i, value in enumerate(values, 1):
        total += value
        means.append(total / i)
    return means


def bits(word: str, layers: int) -> int:
    """Return the bits of numerator and denominator at the last position, at most."""
    values = [Fraction(1 if letter == "1" else -1) for letter in word]
    for _ in range(layers):
        values = causal_means(values)
    last = values[-1]
    return abs(last.numerator).bit_length() + last.denominator.bit_length()


PER_LAYER = 8  # the constant that O hides: any other fails on longer words


def logarithmic(word: str, layers: int = 2) -> float:
    """Return 8 log2 T bits for each layer."""
    return PER_LAYER * layers * math.log2(len(word) + 1)


BITS_PRINTED = Claim(
    name="expressivity/bits-per-layer",
    statement=(sp.Le(sp.Symbol("bits"), sp.Symbol("L") * PER_LAYER * sp.log(T, 2)),),
    source=Source(
        MERRILL,
        "O(log T) bits for each layer, if values are exact rationals (entry C-13)",
    ),
    expects=Expects.REFUTED,
    instances=words("01", 1),
    evidence=(Bound(lambda w: bits(w, 2), logarithmic),),
    limits="Refuted for 8 bits; the paper rounds values to floats of O(log T) bits instead.",
    counterexample="two causal mean heads: the mean of b_i / i needs about lcm(1, ..., T)",
    repaired="expressivity/bits-of-means",
)


def one_mean(word: str) -> float:
    """Return log2 T + 1 bits for the numerator and as many for the denominator."""
    return 2 * (math.log2(len(word)) + 1)


def two_means(word: str) -> float:
    """Return the bound that lcm(1, ..., T) < 3^T gives (Hanson, 1972).

    The mean of the means has the denominator T lcm(1, ..., T), and is at most 1.
    """
    return 2 * (len(word) * math.log2(3) + math.log2(len(word)) + 1)


ONE_MEAN = Bound(lambda w: bits(w, 1), one_mean)
TWO_MEANS = Bound(lambda w: bits(w, 2), two_means)

BITS = Claim(
    name="expressivity/bits-of-means",
    statement=(
        sp.Le(sp.Symbol("bits_1"), 2 * (sp.log(T, 2) + 1)),
        sp.Le(sp.Symbol("bits_2"), 2 * (T * sp.log(3, 2) + sp.log(T, 2) + 1)),
    ),
    source=Source(MERRILL, "the same with one layer, and with two (entry C-13)"),
    instances=words("01", 1),
    evidence=(ONE_MEAN, TWO_MEANS),
    mutants={
        "two layers as one": replace(ONE_MEAN, left=lambda w: bits(w, 2)),
        "16 log2 T with two layers": replace(TWO_MEANS, right=logarithmic),
        "T bits with two layers": replace(TWO_MEANS, right=lambda w: len(w) + 8),
        "log2 T with one": replace(ONE_MEAN, right=lambda w: 1 + math.log2(len(w))),
    },
    limits="Words up to 200 letters, values +-1, one head a layer.",
)

CLAIMS = (STUTTER, TIE_BREAK, BITS_PRINTED, BITS)
