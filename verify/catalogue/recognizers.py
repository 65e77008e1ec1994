"""Claims about transformers that recognise MAJORITY, DYCK-1, PARITY and FIRST.

Each recognizer decides every word of up to 12 letters, and longer ones that Hypothesis draws
near the boundary of the language; its output is compared with a closed form. How the outputs
of softmax networks shrink with the length is decay.py.

Entries C-12 to C-14: Merrill, Sabharwal and Smith (2022), Chiang and Cholak (2022), Yang,
Chiang and Angluin (2024).
"""

import math
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import sympy as sp
from hypothesis import strategies as st

from asymptest.theory.patterns import Saturated, Softmax
from asymptest.verify.claim import Bound, Claim, Exact, Source
from asymptest.verify.languages import (
    double_a,
    dyck,
    first,
    has_double_a,
    is_dyck,
    is_majority,
    is_odd,
    majority,
    parity,
    starts_with_one,
)
from asymptest.verify.recognition import (
    BRIEF,
    ByLength,
    decided,
    equals,
    everywhere,
    follows,
    near_dyck,
    near_majority,
    words,
    wrong,
)
from asymptest.verify.recognizers import (
    MARKER,
    ROUNDING,
    Recognizer,
    edited,
    outputs,
)

CHIANG = "Chiang and Cholak (ACL 2022), arXiv 2202.12172"
MERRILL = "Merrill, Sabharwal and Smith (TACL 2022), arXiv 2106.16213"
YANG = "Yang, Chiang and Angluin (NeurIPS 2024), arXiv 2310.13897"

OUTPUT = sp.Symbol("output")
T, k, n = sp.symbols("T k n", integer=True, positive=True)


# --- C-13: MAJORITY and DYCK-1 ----------------------------------------------------------


def majority_output(word: str) -> float:
    """Return (2 k - n) / T."""
    return (2 * word.count("1") - len(word)) / (len(word) + 1)


MAJORITY = Claim(
    name="recognizers/majority",
    statement=(sp.Eq(OUTPUT, (2 * k - n) / T),),
    source=Source(MERRILL, "MAJORITY by one mean head (entry C-13)"),
    instances=near_majority(),
    evidence=(
        everywhere(majority(), is_majority),
        follows(majority(), is_majority, majority_output),
    ),
    mutants={
        "first maximum for ties": wrong(
            replace(majority(), ties="leftmost"), is_majority
        ),
        "last maximum for ties": wrong(
            replace(majority(), ties="rightmost"), is_majority
        ),
        "the marker votes": wrong(
            replace(majority(), tokens={"0": (-1,), "1": (1,), MARKER: (1,)}),
            is_majority,
        ),
        "values 0 and 1": wrong(
            replace(majority(), tokens={"0": (0,), "1": (1,), MARKER: (0,)}),
            is_majority,
        ),
        "mean over n for T": equals(
            majority(), lambda w: majority_output(w) * (1 + 1 / max(len(w), 1))
        ),
    },
    limits=(
        "All words up to 12 letters, drawn ones up to 200; that hard attention fails with "
        "any other weights as well is not shown."
    ),
)


def dyck_output(word: str) -> float:
    """Return 1 / (2 T) - max_i relu(-b_i / i) - |b_n| / T."""
    size = len(word) + 1
    depths = list(accumulate(1 if letter == "(" else -1 for letter in word)) or [0]
    worst = max(max(-b, 0) / i for i, b in enumerate(depths, 1))
    return 0.5 / size - worst - abs(depths[-1]) / size


DYCK = Claim(
    name="recognizers/dyck-1",
    statement=(
        sp.Eq(
            OUTPUT,
            1 / (2 * T)
            - sp.Symbol("max_i relu(-b_i / i)")
            - sp.Abs(sp.Symbol("b_n")) / T,
        ),
    ),
    source=Source(MERRILL, "DYCK-1 by causal mean heads and a maximum (entry C-13)"),
    instances=near_dyck(),
    evidence=(everywhere(dyck(), is_dyck), follows(dyck(), is_dyck, dyck_output)),
    mutants={
        "first maximum for ties": wrong(replace(dyck(), ties="leftmost"), is_dyck),
        "mean for the maximum": wrong(dyck(c=0), is_dyck),
        "minimum for the maximum": wrong(dyck(c=-1), is_dyck),
        "total not looked at": wrong(
            replace(dyck(), read=(0, 0, 0, *dyck().read[3:4], 0, -1)), is_dyck
        ),
        "prefixes not looked at": wrong(
            edited(dyck(), 3, "WO", {(0, 0, 5): 0}), is_dyck
        ),
        "margin 2 / T": wrong(replace(dyck(), read=(0, 0, -1, 2, -2, -1)), is_dyck),
    },
    limits="All words up to 12 letters, drawn ones up to 200; beyond, the proof alone.",
)


@dataclass(frozen=True)
class Sharpness:
    """A word, and the factor g of the logits."""

    word: str
    g: float


def soft_dyck(g: float) -> Recognizer:
    """Return DYCK-1 with softmax and the logits g d_i."""
    return dyck(Softmax(), c=g * math.sqrt(6))


def sharp_dyck(length: int) -> Recognizer:
    """Return it with g = 2 T log T."""
    return soft_dyck(2 * (length + 1) * math.log(length + 1))


def shortfall(s: Sharpness) -> float:
    """Return how far the softmax mean of the deficits stays below their maximum."""
    soft = outputs(soft_dyck(s.g), [s.word])
    return float((soft - outputs(dyck(), [s.word])).item())


SHORTFALL = Bound(
    left=shortfall,
    right=lambda s: math.log(len(s.word) + 1) / s.g,
    slack=lambda s: 2 * ROUNDING,
)


def _soft(scale: ByLength) -> Exact:
    by_word = decided(scale, is_dyck)
    return replace(
        by_word,
        left=lambda s, rng: by_word.left(s.word, rng),
        right=lambda s: by_word.right(s.word),
    )


DYCK_SOFTMAX = Claim(
    name="recognizers/dyck-1-softmax",
    statement=(
        sp.Le(
            sp.Symbol("max_i d_i") - sp.Symbol("sum_i softmax(g d)_i d_i"),
            sp.log(T) / sp.Symbol("g"),
        ),
    ),
    source=Source(MERRILL, "logits that suffice with softmax: g = 2 T log T"),
    instances=st.builds(
        Sharpness,
        words("()", 1, 60) | st.integers(1, 60).map(lambda m: ")" + "(" * m),
        st.floats(-2, 8).map(lambda e: 2.0**e),
    ),
    evidence=(everywhere(sharp_dyck, is_dyck), SHORTFALL, _soft(sharp_dyck)),
    mutants={
        "g = 1": everywhere(lambda m: soft_dyck(1.0), is_dyck, BRIEF),
        "g = log T": everywhere(lambda m: soft_dyck(math.log(m + 1)), is_dyck, BRIEF),
        "a quarter of the bound": replace(
            SHORTFALL, right=lambda s: math.log(len(s.word) + 1) / (4 * s.g)
        ),
        "exponential without the gap": replace(
            SHORTFALL, right=lambda s: len(s.word) * math.exp(-s.g)
        ),
    },
    limits="All words up to 12 letters, drawn ones up to 61; g is sufficient, not least.",
)


# --- C-12: PARITY and FIRST -------------------------------------------------------------


def saturated_parity_output(word: str) -> float:
    """Return 1 / (odd T) for odd words, -1 / (even T) for even ones, 0 for the empty one."""
    size = len(word) + 1
    if not word:
        return 0.0
    return 1 / (size // 2 * size) if is_odd(word) else -1 / ((size + 1) // 2 * size)


SATURATED_PARITY = parity(Saturated())

PARITY = Claim(
    name="recognizers/parity",
    statement=(
        sp.Eq(
            OUTPUT,
            sp.Piecewise(
                (1 / (T * sp.floor(T / 2)), sp.Eq(sp.Mod(k, 2), 1)),
                (-1 / (T * sp.ceiling(T / 2)), True),
            ),
        ),
    ),
    source=Source(CHIANG, "PARITY, here with saturated attention too (entry C-12)"),
    instances=words("01"),
    evidence=(
        everywhere(parity(), is_odd),
        everywhere(SATURATED_PARITY, is_odd),
        decided(parity(), is_odd),
        follows(SATURATED_PARITY, is_odd, saturated_parity_output),
    ),
    mutants={
        "first maximum for ties": wrong(
            replace(SATURATED_PARITY, ties="leftmost"), is_odd
        ),
        "no alternation": wrong(
            edited(parity(), 3, "WK", {(4, 0, 0): 0, (4, 1, 0): 0}), is_odd
        ),
        "heads swapped": wrong(
            edited(parity(), 3, "WO", {(0, 0, 8): 1, (1, 0, 8): -1}), is_odd
        ),
        "centre -1 for -2": wrong(edited(parity(), 2, "W", {(1, 7): -1}), is_odd),
        "even and odd positions alike": equals(
            SATURATED_PARITY,
            lambda w: math.copysign(2 / (len(w) + 1) ** 2, saturated_parity_output(w)),
        ),
    },
    limits="All words up to 12 letters, drawn ones up to 200; float64 beyond that.",
)


@dataclass(frozen=True)
class Scaled:
    """A nonempty word, and c in the logit c log T."""

    word: str
    c: float


def first_output(s: Scaled, inside: int = 0) -> float:
    """Return +-a / 2 with a = T^c / (T^c + T - 1), or T + inside under the power."""
    size = len(s.word) + 1
    sign = 1 if starts_with_one(s.word) else -1
    return sign * 0.5 / (1 + (size - 1) * math.exp(-s.c * math.log(size + inside)))


def log_scaled(s: Scaled) -> Recognizer:
    """Return FIRST with the logit c log T; sqrt(6) undoes the division by sqrt(d_k)."""
    return first(Softmax(), c=s.c * math.sqrt(6) * math.log(len(s.word) + 1))


FIRST_FORMULA = Exact(
    left=lambda s, _: outputs(log_scaled(s), [s.word]),
    right=lambda s: np.array([first_output(s)]),
    bound=lambda s: ROUNDING,
)
C = sp.Symbol("c", positive=True)

FIRST = Claim(
    name="recognizers/first",
    statement=(sp.Eq(sp.Abs(OUTPUT), T**C / (2 * (T**C + T - 1))),),
    source=Source(CHIANG, "FIRST by one soft head, logits c log T (entry C-12)"),
    instances=st.builds(Scaled, words("01", 1), st.floats(0, 4)),
    evidence=(
        everywhere(first(), starts_with_one),
        everywhere(first(Saturated()), starts_with_one),
        FIRST_FORMULA,
    ),
    mutants={
        "log n for log T": replace(
            FIRST_FORMULA, right=lambda s: np.array([first_output(s, -1)])
        ),
        "logits not divided by sqrt(d_k)": replace(
            FIRST_FORMULA,
            right=lambda s: np.array([first_output(replace(s, c=s.c * math.sqrt(6)))]),
        ),
        "minimum for the maximum": wrong(first(Saturated(), c=-1), starts_with_one),
        "the second position": wrong(
            replace(first(), position=lambda i, T: (0, 0, 0, int(i == 1), 0, 0)),
            starts_with_one,
        ),
    },
    limits="All words up to 12 letters; the formula on drawn words up to 200.",
)


# --- C-14: a strict mask ----------------------------------------------------------------

STRICT = Claim(
    name="recognizers/strict-mask",
    statement=(sp.Equivalent(OUTPUT > 0, sp.Symbol("w contains aa")),),
    source=Source(
        YANG, "strict masks, unique hard attention, no positions (entry C-14)"
    ),
    instances=words("ab"),
    evidence=(
        everywhere(double_a(), has_double_a),
        decided(double_a(), has_double_a),
    ),
    mutants={
        "mask not strict": wrong(double_a(strict=False), has_double_a),
        "leftmost for rightmost": wrong(
            replace(double_a(), ties="leftmost"), has_double_a
        ),
        "average for unique": wrong(replace(double_a(), ties="average"), has_double_a),
    },
    limits=(
        "One language that strict masks recognise; that no weights do with other masks is "
        "expressivity/stutter-invariance. The equality with star-free languages is not shown."
    ),
)

CLAIMS = (MAJORITY, DYCK, DYCK_SOFTMAX, PARITY, FIRST, STRICT)
