"""Claims about the outputs for PARITY and FIRST: how they decay, and what prevents it.

The softmax constructions are right at every length, yet their cross-entropy tends to 1 bit,
as bounded logits must have it (sensitivity.py). What escapes: logits that grow like log T,
and a norm without eps.

Entry C-12: Chiang and Cholak (2022).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import sympy as sp
from hypothesis import strategies as st

from asymptest.theory.patterns import Saturated, Softmax
from asymptest.theory.saturation import softmax
from asymptest.verify.claim import (
    Bound,
    Claim,
    Exact,
    Expects,
    Identity,
    Rate,
    Source,
)
from asymptest.verify.languages import is_odd, normalised_parity, parity
from asymptest.verify.recognition import equals, words
from asymptest.verify.recognizers import ROUNDING, Ties, outputs

CHIANG = "Chiang and Cholak (ACL 2022), arXiv 2202.12172"

OUTPUT = sp.Symbol("output")
T = sp.Symbol("T", integer=True, positive=True)
c, g = sp.symbols("c g", positive=True)
EVENS, ODDS = sp.symbols("E O", positive=True)  # numbers of positions


# --- PARITY's logit and cross-entropy ---------------------------------------------


def parity_logit(odd, evens, odds, g):
    """Return T times the output for even and odd positions of these numbers, logits +-g.

    At an odd position k it is e^g / Z_2 - e^-g / Z_1 with Z_1 = E e^g + O e^-g and
    Z_2 = E e^-g + O e^g; at an even one, the same with the sign of g turned round in the
    numerators. For E, O > 0 the first is positive, as E e^2g + O > E e^-2g + O, and the
    second negative, as E + O e^-2g < E + O e^2g.
    """
    s = g if odd else -g
    Z_1 = evens * sp.exp(g) + odds * sp.exp(-g)
    Z_2 = evens * sp.exp(-g) + odds * sp.exp(g)
    return sp.exp(s) / Z_2 - sp.exp(-s) / Z_1


def _parity_identities(closed=parity_logit) -> dict[str, sp.Expr]:
    """Return the formula less its definition, two softmax rows, for up to 7 positions."""
    found: dict[str, sp.Expr] = {}
    for size in range(1, 8):
        plus, minus = (
            softmax(tuple(sign * g * (-1) ** i for i in range(size)))
            for sign in (1, -1)
        )
        for i in range(size):
            formula = closed(bool(i % 2), (size + 1) // 2, size // 2, g)
            found[f"T = {size}, k = {i}"] = minus[i] - plus[i] - formula
    # As many even as odd positions: exactly 2 tanh(g) / T, so the output is that over T.
    m = sp.Symbol("m", positive=True)
    tanh = sp.tanh(g).rewrite(sp.exp)
    found["even T"] = closed(True, m, m, g) - 2 * tanh / (2 * m)
    return found


def parity_output(word: str, d: float = 5.0) -> float:
    """Return the output in float64, with the logits +-1 / sqrt(d)."""
    size, odd = len(word) + 1, is_odd(word)
    evens, odds, scale = (size + 1) // 2, size // 2, 1 / math.sqrt(d)
    Z_1, Z_2 = (
        evens * math.exp(s * scale) + odds * math.exp(-s * scale) for s in (1, -1)
    )
    s = scale if odd else -scale
    return (math.exp(s) / Z_2 - math.exp(-s) / Z_1) / size


PARITY_LOGIT = Claim(
    name="decay/parity-logit",
    statement=(sp.Eq(OUTPUT, parity_logit(True, EVENS, ODDS, c) / T),),
    source=Source(CHIANG, "PARITY's logit, c = 1 / sqrt(5) (entry C-12)"),
    instances=words("01"),
    evidence=(Identity(_parity_identities), equals(parity(), parity_output)),
    mutants={
        "Z_1 and Z_2 swapped": Identity(
            lambda: _parity_identities(
                lambda odd, evens, odds, g: parity_logit(odd, odds, evens, g)
            )
        ),
        "logits not divided by sqrt(d_k)": equals(
            parity(), partial(parity_output, d=1.0)
        ),
        "divided by the width's root": equals(parity(), partial(parity_output, d=10.0)),
        "1 / n for 1 / T": equals(
            parity(), lambda w: parity_output(w) * (1 + 1 / max(len(w), 1))
        ),
    },
    limits="Symbolic up to 7 positions and for all even T; torch up to 200 letters.",
)


@dataclass(frozen=True)
class Reported:
    """A number of letters, the cross-entropy in bits that is reported, and its digits."""

    n: int
    bits: float
    digits: int


def cross_entropy(length: int, output: Callable[[str], float]) -> float:
    """Return the cross-entropy in bits, the mean over an odd word and an even one."""
    sizes = [abs(output("1" * k + "0" * (length - k))) for k in (1, 2)]
    return sum(math.log1p(math.exp(-z)) for z in sizes) / (2 * math.log(2))


def torch_parity(word: str) -> float:
    """Return the network's own output."""
    return float(outputs(parity(), [word])[0])


def _reported(output: Callable[[str], float]) -> Bound:
    return Bound(
        left=lambda r: abs(cross_entropy(r.n, output) - r.bits),
        right=lambda r: 0.5 * 10.0**-r.digits,
    )


def _bits(odd: bool) -> sp.Expr:
    """Return the cross-entropy in bits of one label, at the paper's c = 1 / sqrt(5)."""
    output = sp.Abs(parity_logit(odd, EVENS, ODDS, 1 / sp.sqrt(5))) / T
    return sp.log(1 + sp.exp(-output)) / sp.log(2)


CROSS_ENTROPY = Claim(
    name="decay/parity-cross-entropy",
    statement=(sp.Eq(sp.Symbol("H"), (_bits(odd=True) + _bits(odd=False)) / 2),),
    source=Source(CHIANG, "cross-entropy that tends to 1 bit (entry C-12)"),
    instances=st.sampled_from(
        [
            Reported(10, 0.9950, 4),
            Reported(100, 0.99994, 5),
            Reported(1000, 0.9999994, 7),
        ]
    ),
    evidence=(_reported(torch_parity),),
    mutants={
        "logits not divided by sqrt(d_k)": _reported(partial(parity_output, d=1.0)),
        "logit 2 tanh(c) / T": _reported(lambda w: parity_output(w) * (len(w) + 1)),
        "no factor 2": _reported(lambda w: parity_output(w) / 2),
    },
    limits="Three lengths, one word for each label; the formula covers the others.",
)


# --- what escapes -----------------------------------------------------------------


def _normalised(eps: float) -> Exact:
    return Exact(
        left=lambda w, _: outputs(normalised_parity(eps), [w]),
        right=lambda w: np.array([math.copysign(math.sqrt(5), parity_output(w))]),
        # Of the normalised row z and -z alone are not 0, so that it is rounded, not more.
        bound=lambda w: ROUNDING,
    )


PARITY_NORMALISED = Claim(
    name="decay/parity-with-norm",
    statement=(sp.Eq(sp.Abs(OUTPUT), sp.sqrt(sp.Symbol("n") / 2)),),
    source=Source(CHIANG, "layer norm without eps removes the decay (entry C-12)"),
    instances=words("01", 1),
    evidence=(_normalised(0.0),),
    mutants={
        "eps = 1e-5": _normalised(1e-5),
        "eps = 1e-12": _normalised(1e-12),
        "no norm": replace(_normalised(0.0), left=lambda w, _: outputs(parity(), [w])),
    },
    limits="One norm, after the network; the paper places one in every layer.",
)


@dataclass(frozen=True)
class Length:
    """A number of letters, up to 10^9, and c in the logit c log T."""

    n: int
    c: float


def first_size(at: Length) -> float:
    """Return the size of FIRST's output, T^c / (T^c + T - 1) / 2."""
    return 0.5 / (1 + at.n * math.exp(-at.c * math.log(at.n + 1)))


def _first_limits(changed=None) -> dict[str, sp.Expr]:
    """Return limits of the weight on the first letter, times T or T^(1-c) if it decays."""
    half = sp.Rational(1, 2)
    limits = {half: 1, sp.Integer(1): half, 3 * half: 1, sp.Integer(2): 1}
    fixed = sp.exp(g) / (sp.exp(g) + T - 1)
    found = {"fixed logit g": sp.limit(T * fixed, T, sp.oo) - sp.exp(g)}
    for power, limit in (limits | (changed or {})).items():
        weight = T ** sp.Max(1 - power, 0) * T**power / (T**power + T - 1)
        found[f"c = {power}"] = sp.limit(weight, T, sp.oo) - limit
    return found


LENGTHS = st.floats(0, 9).map(lambda e: int(10**e))
AT_LEAST = Bound(lambda at: 0.25, first_size)

ANY_SCALE = Claim(
    name="decay/first-any-log-scale",
    statement=(sp.Ge(sp.Abs(OUTPUT), sp.Rational(1, 8)),),
    source=Source(CHIANG, "logits c log T without a condition on c (entry C-12)"),
    expects=Expects.REFUTED,
    instances=st.builds(Length, LENGTHS, st.floats(0.25, 2)),
    evidence=(Bound(lambda at: 0.125, first_size),),
    limits="Refuted for the bound 1/8; for any other, longer words fail.",
    counterexample="c < 1: the output decays as T^(c - 1) / 2",
    repaired="decay/first-log-scale",
)

LOG_SCALE = Claim(
    name="decay/first-log-scale",
    statement=(sp.Ge(sp.Abs(OUTPUT), sp.Rational(1, 4)),),
    source=Source(CHIANG, "logits c log T with c >= 1 (entry C-12)"),
    instances=st.builds(Length, LENGTHS, st.floats(1, 2)),
    evidence=(Identity(_first_limits), AT_LEAST),
    mutants={
        "limit 1/2 at c = 1 as well": Identity(
            lambda: _first_limits({sp.Integer(1): 1})
        ),
        "c >= 3/4": replace(
            AT_LEAST, right=lambda at: first_size(replace(at, c=at.c - 0.25))
        ),
        "at least 3/8": replace(AT_LEAST, left=lambda at: 0.375),
        "no log": replace(
            AT_LEAST, right=lambda at: 0.5 / (1 + at.n * math.exp(-at.c))
        ),
    },
    limits=(
        "The formula in float64 up to 10^9 letters (recognizers/first compares it with torch "
        "up to 200), its limits for four values of c."
    ),
)


# --- how fast softmax PARITY becomes the saturated one ----------------------------------


@lru_cache(maxsize=1024)
def parity_limit(word: str, ties: Ties = "average") -> float:
    """Return the output with saturated attention."""
    return float(outputs(replace(parity(Saturated()), ties=ties), [word])[0])


def parity_error(word: str, sharpness: int, ties: Ties = "average") -> float:
    """Return the distance of the softmax output at c = sharpness from the limit."""
    soft = float(outputs(parity(Softmax(), c=sharpness), [word])[0])
    return abs(soft - parity_limit(word, ties))


def parity_constant(word: str) -> float:
    """Return the factor of rho = e^(-2 g), g = c / sqrt(5), in the error.

    With k odd, E even and O odd positions the error is, times T,

        1/O - 1/(O + E rho) + rho/(E + O rho) = rho (E / (O (O + E rho)) + 1/(E + O rho)).
    """
    size = len(word) + 1
    near, far = size // 2, (size + 1) // 2
    if not is_odd(word):
        near, far = far, near
    return (far / near**2 + 1 / far) / size


def parity_remainder(word: str, sharpness: int) -> float:
    """Bound the relative departure: rho E / O and rho O / E, at most 2 rho, and rounding."""
    rho = math.exp(-2 * sharpness / math.sqrt(5))
    return 2 * rho + ROUNDING / (parity_constant(word) * rho)


PARITY_RATE = Rate(
    error=parity_error,
    ratio=lambda w: math.exp(-2 / math.sqrt(5)),
    constant=parity_constant,
    depths=(6, 10),
    remainder=parity_remainder,
)

PARITY_SATURATES = Claim(
    name="decay/parity-saturates",
    statement=(
        sp.Eq(
            sp.Symbol("|f(c) - f(oo)|"),
            sp.exp(-2 * c / sp.sqrt(5)) * (EVENS / ODDS**2 + 1 / EVENS) / T,
        ),
    ),
    source=Source(CHIANG, "softmax and saturated attention, as in entry B-03"),
    instances=words("01", 1, 40),
    evidence=(PARITY_RATE,),
    mutants={
        "rate c for 2 c": replace(
            PARITY_RATE, ratio=lambda w: math.exp(-1 / math.sqrt(5))
        ),
        "one head alone": replace(
            PARITY_RATE, constant=lambda w: 2 / ((len(w) + 1) * len(w))
        ),
        "hard attention as the limit": replace(
            PARITY_RATE, error=partial(parity_error, ties="leftmost")
        ),
    },
    limits="Words of up to 40 letters, logits up to 10 / sqrt(5).",
)

CLAIMS = (
    PARITY_LOGIT,
    CROSS_ENTROPY,
    PARITY_NORMALISED,
    ANY_SCALE,
    LOG_SCALE,
    PARITY_SATURATES,
)
