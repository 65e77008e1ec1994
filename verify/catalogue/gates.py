"""Claims about saturating gates, and about how nearly homogeneous a head with one is.

Entries B-05 and B-07: arXiv 2010.09697, lemmas 6 and 8, which hold, and definition 3, which
no head with a value meets as printed: the search finds the scale at which it fails.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import sympy as sp
import torch
from hypothesis import strategies as st

from asymptest.theory.gates import (
    SIGMOID,
    TANH,
    Gate,
    c,
    exact_gate_error,
    gate_error,
    saturate_gate,
    x,
)
from asymptest.verify.catalogue.saturation import KAPPA, torch_softmax
from asymptest.verify.claim import Bound, Claim, Exact, Expects, Identity, Source
from asymptest.verify.deterministic import EPS

PAPER = "arXiv 2010.09697 (Merrill et al., EMNLP 2021)"
GATES = (SIGMOID, TANH)
TORCH = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}

# --- B-05: the exact error of a scaled gate -------------------------------------------


def _identities(
    closed: Callable[[Gate], sp.Expr] = exact_gate_error,
) -> dict[str, sp.Expr]:
    """Return the error on both sides minus its closed form, and what scaling leaves of it."""
    found: dict[str, sp.Expr] = {}
    for gate in GATES:
        at = closed(gate)
        found |= {
            f"{gate.name}, sign {s}": gate_error(gate, s) - at for s in (1, -1)
        } | {
            f"{gate.name}, sign {s}, scaled": at
            - s * (gate.at(s * c * x) - gate.at(s * x))
            - at.subs(x, c * x)
            for s in (1, -1)
        }
    return found


def _limits() -> dict[str, sp.Expr]:
    """Return the limits as c -> oo minus those of a step and of a sign."""
    found: dict[str, sp.Expr] = {}
    for s in (-1, 0, 1):
        found[f"sigmoid, sign {s}"] = saturate_gate(SIGMOID, s) - sp.Rational(1 + s, 2)
        found[f"tanh, sign {s}"] = saturate_gate(TANH, s) - s
    return found


@dataclass(frozen=True)
class Scaled:
    """A gate at x, and at c x."""

    gate: str
    x: float
    c: float


def _log_uniform(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(math.log(low), math.log(high)).map(math.exp)


SCALED = st.builds(
    Scaled,
    st.sampled_from([gate.name for gate in GATES]),
    # Farther out the error of tanh is below the rounding of 1.
    st.builds(
        math.copysign, _log_uniform(2**-20, 15) | st.just(0.0), st.sampled_from([1, -1])
    ),
    _log_uniform(1, 20),
)


def change(s: Scaled) -> float:
    """Return |gate(c x) - gate(x)| in torch."""
    near, far = TORCH[s.gate](
        torch.tensor([s.x, s.c * s.x], dtype=torch.float64)
    ).tolist()
    return abs(far - near)


_ERROR = {gate.name: sp.lambdify(x, exact_gate_error(gate), "math") for gate in GATES}


def step_error(s: Scaled) -> float:
    """Return the error of the gate at x, from the derived closed form."""
    return _ERROR[s.gate](abs(s.x))


# The gates are at most 1 and |y gate'(y)| < 1/2, so rounding costs a few units of EPS.
CHANGE = Exact(
    left=lambda s, _: change(s),
    right=lambda s: step_error(s) - step_error(replace(s, x=s.c * s.x)),
    bound=lambda _: 8 * EPS,
)
WITHIN = Bound(change, step_error, slack=lambda _: 8 * EPS)

GATE_ERROR = Claim(
    name="gates/scaling-error",
    statement=(
        sp.Le(
            sp.Symbol("|sigmoid(c x) - sigmoid(x)|"),
            exact_gate_error(SIGMOID).subs(x, sp.Symbol("|x|")),
        ),
        sp.Le(
            sp.Symbol("|tanh(c x) - tanh(x)|"),
            exact_gate_error(TANH).subs(x, sp.Symbol("|x|")),
        ),
    ),
    source=Source(PAPER, "lemmas 6 and 8 (entry B-05)"),
    instances=SCALED,
    evidence=(Identity(_identities), Identity(_limits), CHANGE, WITHIN),
    mutants={
        "rate 2 |x| for sigmoid": replace(
            WITHIN,
            right=lambda s: step_error(
                replace(s, x=(2 if s.gate == "sigmoid" else 1) * s.x)
            ),
        ),
        "rate 4 |x| for tanh": Identity(
            lambda: _identities(
                lambda g: exact_gate_error(g).subs(x, (1 if g == SIGMOID else 2) * x)
            )
        ),
        "half the error": replace(WITHIN, right=lambda s: step_error(s) / 2),
        "nothing left at c x": replace(CHANGE, right=step_error),
    },
    limits="The error is proved; torch is compared for |x| <= 15 and c <= 20.",
)

# --- B-07: approximate homogeneity ------------------------------------------------------


@dataclass(frozen=True)
class Head:
    """A head f(theta) = sum_j softmax(z)_j v_j with theta = (z, v), and c = 2^doublings."""

    scores: tuple[int, ...]
    values: tuple[int, ...]
    doublings: int

    @property
    def c(self) -> float:
        """The factor that multiplies all parameters."""
        return 2.0**self.doublings

    @property
    def norm(self) -> float:
        """|theta|."""
        return math.hypot(*self.scores, *self.values)

    @property
    def gaps(self) -> list[int]:
        """The distances of the lower scores from the maximum."""
        top = max(self.scores)
        return [top - score for score in self.scores if score < top]

    @property
    def spread(self) -> int:
        """The largest value minus the smallest."""
        return max(self.values) - min(self.values)

    def output(self, c: float) -> float:
        """Return f(c theta), with torch's softmax."""
        return float(torch_softmax(self.scores, c) @ (c * np.array(self.values)))


GAP = 9  # exp(GAP / 2) exceeds spread * others = 16 * 4


@st.composite
def heads(draw) -> Head:
    """Draw a head with a gap of GAP or more, and no less than a quarter of |z|."""
    ties = draw(st.integers(1, 2))
    below = draw(st.lists(st.integers(0, 20), min_size=1, max_size=4))
    gap = max(GAP, *below)
    scores = (0,) * ties + tuple(-gap - b for b in below)
    value = st.integers(-8, 8)
    values = draw(st.lists(value, min_size=len(scores), max_size=len(scores)))
    return Head(scores, tuple(values), draw(st.integers(0, 64)))


def rounding(head: Head) -> float:
    """Bound the rounding of f(theta): a softmax of scores up to 60 and a short sum."""
    return 8 * EPS * (len(head.scores) + 60) * max(map(abs, head.values))


def absolute_error(head: Head) -> float:
    """Return |f(c theta) - c f(theta)|."""
    return abs(head.output(head.c) - head.c * head.output(1.0))


def relative_error(head: Head) -> float:
    """Return |f(c theta) / c - f(theta)|."""
    return abs(head.output(head.c) / head.c - head.output(1.0))


def lost_weight(head: Head) -> float:
    """Return R / (m + R), the weight of the lower scores: all that scaling can move."""
    rest = math.fsum(math.exp(-gap) for gap in head.gaps)
    return rest / (len(head.scores) - len(head.gaps) + rest)


NORM = sp.Symbol("|theta|")
RATE = sp.Symbol("d")

DEFINITION_3 = Claim(
    name="gates/definition-3-printed",
    statement=(
        sp.Le(sp.Symbol("|f(x; c theta) - c^k f(x; theta)|"), sp.exp(-RATE * NORM)),
    ),
    source=Source(PAPER, "definition 3 (entry B-07)", "printed"),
    expects=Expects.REFUTED,
    instances=heads(),
    evidence=(
        Bound(
            absolute_error,
            lambda head: math.exp(-float(KAPPA) * head.norm),
            slack=lambda head: head.c * rounding(head),
        ),
    ),
    limits="Refuted for d = 1/100, k = 1 and a gap of a fixed share of the norm; the error "
    "is proportional to c, so any d fails at a larger c.",
    counterexample="scores (0, -9), unequal values: c exp(-9) exceeds 1 from c = 2^13 on",
    repaired="gates/relative-homogeneity",
)

RELATIVE = Bound(
    relative_error,
    lambda head: math.exp(-min(head.gaps) / 2),
    slack=lambda head: 2 * rounding(head),
)
SHARP = replace(RELATIVE, right=lambda head: max(head.spread, 1) * lost_weight(head))

RELATIVE_HOMOGENEITY = Claim(
    name="gates/relative-homogeneity",
    statement=(
        sp.Le(
            sp.Symbol("|f(x; c theta) / c^k - f(x; theta)|"),
            sp.Symbol("(max v - min v)") * sp.Symbol("R / (m + R)"),
        ),
        sp.Le(
            sp.Symbol("|f(x; c theta) / c^k - f(x; theta)|"),
            sp.exp(-sp.Symbol("kappa") * NORM / 2),
        ),
    ),
    source=Source(PAPER, "definition 3, divided by c^k, for gaps >= kappa |theta|"),
    instances=heads(),
    evidence=(SHARP, RELATIVE),
    mutants={
        "absolute error": replace(RELATIVE, left=absolute_error),
        "rate |theta|": replace(RELATIVE, right=lambda head: math.exp(-head.norm)),
        "half the spread": replace(
            SHARP, right=lambda head: max(head.spread, 1) * lost_weight(head) / 2
        ),
    },
    limits="One head with fixed scores and values of degree 1, gaps of 9 and more, up to six "
    "positions; c is a power of 2.",
)

CLAIMS = (GATE_ERROR, DEFINITION_3, RELATIVE_HOMOGENEITY)
