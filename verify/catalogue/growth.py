"""Claims about norm growth: the laws of theory/growth.py, against vectors that are moved.

Entry B-10: arXiv 2010.09697, section 5.4, whose law for misaligned steps holds for one size of
the steps only; as printed it is refuted.
"""

import math
import operator
from cmath import exp as turn
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import sympy as sp
from hypothesis import strategies as st

from asymptest.theory.growth import (
    TABLE,
    Row,
    a,
    clock,
    elapsed,
    exact_ratio,
    growth_law,
    increment,
    kappa,
    n,
    norm_at,
    offset,
    r,
    t,
)
from asymptest.theory.steps import equate
from asymptest.verify.claim import Claim, Exact, Expects, Identity, Rng, Source
from asymptest.verify.deterministic import EPS

PAPER = "arXiv 2010.09697 (Merrill et al., EMNLP 2021)"
MISALIGNED, ALIGNED = TABLE[0], TABLE[5]
START, TIMES = 64, (512, 4096)
ORDERS = 6  # of the constant that the start decides

# --- B-10: the table of laws ------------------------------------------------------------


@dataclass(frozen=True)
class Walk:
    """Parameters of norm `norm` at t = START that take the steps of one row of the table."""

    row: str
    kappa: float
    norm: float = 1.0
    cosine: float = 0.5


@dataclass(frozen=True)
class Law:
    """A row compiled: the cosine, size, u(r), its inverse, U(t), h(t) and the constant."""

    cosine: Callable[..., float]
    size: Callable[..., float]
    clock: Callable[..., float]
    norm: Callable[..., float]
    elapsed: Callable[..., float]
    slope: Callable[..., float]
    offset: Callable[..., float] | None


@lru_cache(maxsize=16)
def _law(name: str) -> Law:
    (row,) = (row for row in TABLE if row.name == name)
    u, h = clock(row.model)
    fixed = None
    if not increment(row.model).has(r):
        fixed = sp.N(offset(row.model, START, ORDERS))
    return Law(
        cosine=sp.lambdify((kappa, a), row.model.cosine, "math"),
        size=sp.lambdify((r, t, kappa), row.model.size, "math"),
        clock=sp.lambdify(r, u, "math"),
        norm=sp.lambdify(t, norm_at(row.model, t), "math"),
        elapsed=sp.lambdify((t, kappa, a), elapsed(row.model), "math"),
        slope=sp.lambdify((t, kappa, a), h, "math"),
        offset=None if fixed is None else sp.lambdify((kappa, a), fixed, "math"),
    )


def _cosine(walk: Walk) -> float:
    return _law(walk.row).cosine(walk.kappa, walk.cosine)


def log_norms(walk: Walk, rng: Rng, straight: bool = False) -> list[float]:
    """Return log ||theta|| at both TIMES, of a point in the plane that takes the steps.

    Each step turns left or right by the angle of the row, or not at all.
    """
    law = _law(walk.row)
    angle = 0.0 if straight else math.acos(_cosine(walk))
    turns = [turn(1j * angle * sign) for sign in (1, -1)]
    sides = rng.integers(0, 2, TIMES[-1]).tolist()
    theta, found = walk.norm * turn(1j * rng.uniform(0, 2 * math.pi)), []
    for time in range(START, TIMES[-1]):
        if time in TIMES:
            found.append(math.log(abs(theta)))
        length = law.size(abs(theta), time, walk.kappa)
        theta += length * theta / abs(theta) * turns[sides[time]]
    return [*found, math.log(abs(theta))]


def predicted(walk: Walk, power: float = 0.0) -> list[float]:
    """Return log ||theta|| at both TIMES, by the law."""
    return [math.log(_law(walk.row).norm(u)) for u in clocks(walk, power)]


def clocks(walk: Walk, power: float = 0.0) -> list[float]:
    """Return what the clock shows: U(t) and the constant that the start decides.

    A wrong law has U(t) + power a^2 kappa^2 log(t / START).
    """
    law, at = _law(walk.row), (walk.kappa, walk.cosine)
    constant = -law.elapsed(START, *at) if law.offset is None else law.offset(*at)
    begin = law.clock(walk.norm) + constant
    more = power * (_cosine(walk) * walk.kappa) ** 2
    return [begin + law.elapsed(T, *at) + more * math.log(T / START) for T in TIMES]


def _without_zeta(walk: Walk) -> list[float]:
    """Return the law with a constant that takes the sum from START on for its integral."""
    law, at = _law(walk.row), (walk.kappa, walk.cosine)
    begin = law.clock(walk.norm) - law.elapsed(START, *at)
    return [math.log(law.norm(begin + law.elapsed(T, *at))) for T in TIMES]


def remainder(walk: Walk) -> list[float]:
    """Bound the departure of log ||theta|| from the law, by that of the clock.

    A sum of c t^-z up to t departs from its integral and its zeta by c t^-z at most. Three
    kinds of clock:

    * log r: the increment is the sum of c_k t^(-k/2) with |c_k| <= kappa^k / k, and for odd k
      |c_k| <= a kappa^k. The law leaves out the integrals from k = 3 on, and the constant
      leaves out k > ORDERS.
    * r^2 / 2: one term, h.
    * r^4 / 4: the increment is h + h^2 / (4 u), and u >= u_0 + the sum of h, which departs
      from its integral by h(START) at most.
    """
    law, at = _law(walk.row), (walk.kappa, walk.cosine)
    begin, first, cosine = law.clock(walk.norm), law.slope(START, *at), _cosine(walk)
    found = []
    for T, value in zip(TIMES, clocks(walk), strict=True):
        if law.offset is None:
            u = begin + law.elapsed(T, *at) - law.elapsed(START, *at)
            rest = first + first / 4 * (first / begin + math.log(u / begin))
        elif law.clock(1.0) > 0:
            rest = law.slope(T, *at)
        else:
            y, early = (walk.kappa / math.sqrt(time) for time in (T, START))
            odd = cosine * y + T * y**3 * min(2 / 3, 2 * cosine)
            even = (y**2 / 2 + T * y**4 / 4) / (1 - y)
            zeta = early ** (ORDERS + 1) * (1 + 2 * START / (ORDERS - 1)) / (ORDERS + 1)
            rest = odd + even + zeta / (1 - early)
        rest += 8 * EPS * T * (1 + abs(value))
        found.append(math.log(law.norm(value + rest) / law.norm(value - rest)))
    return found


@st.composite
def walks(draw, rows: tuple[Row, ...] = TABLE) -> Walk:
    """Draw a row and the size of its steps; cosines near 0 on a log scale."""
    return Walk(
        draw(st.sampled_from([row.name for row in rows])),
        draw(st.floats(0.25, 2)),
        draw(st.floats(0.5, 2)),
        draw(st.floats(-12, 0).map(math.exp)),
    )


LAWS = Exact(left=log_norms, right=predicted, bound=remainder)


def _gamma_law(share: sp.Expr = sp.S.One) -> dict[str, sp.Expr]:
    """Return what makes Gamma(n + kappa^2) / (Gamma(n) Gamma(1 + kappa^2)) the exact norm^2.

    It is 1 at the first time and grows by 1 + kappa^2 / n. By Stirling it tends to the square
    of the law with C^2 = 1 / Gamma(1 + kappa^2), whose logarithm has the Taylor coefficients
    that the sums of the increment's terms give.
    """
    ratio: Any = exact_ratio(MISALIGNED.model)
    z = sp.Symbol("z")
    log_gamma = sp.loggamma(1 + z)
    taylor = sp.Add(
        *(
            sp.diff(log_gamma, z, j).subs(z, 0) * kappa ** (2 * j) / sp.factorial(j)
            for j in range(1, ORDERS // 2 + 1)
        )
    )
    return {
        "start": ratio.subs(n, 1) - 1,
        "step": ratio.subs(n, n + 1) - (1 + kappa**2 / n) * ratio,
        "log C": offset(MISALIGNED.model, 1, ORDERS) + share * taylor / 2,
    }


def _only(row: Row, wrong: Callable[[Walk], Walk]) -> Exact:
    """Return the laws, wrong in one row."""
    return replace(
        LAWS,
        right=lambda walk: predicted(wrong(walk) if walk.row == row.name else walk),
    )


def _equation(row: Row, law: sp.Expr) -> sp.Basic:
    """Return r(t, s, a) = law, for steps of length s and cosine a."""
    return equate(sp.Function("r")(t, row.model.size, row.model.cosine), law)


def _square_root(walk: Walk) -> list[float]:
    """Return the law with the clock r^2 / 2 for r^4 / 4."""
    if _law(walk.row).offset is not None:
        return predicted(walk)
    return [math.log(2 * u) / 2 for u in clocks(walk)]


GROWTH_LAWS = Claim(
    name="growth/laws",
    statement=tuple(_equation(row, growth_law(row.model).value) for row in TABLE),
    source=Source(PAPER, "section 5.4, for any size and cosine of steps (entry B-10)"),
    instances=walks(),
    evidence=(Identity(_gamma_law), LAWS),
    mutants={
        "exponent without kappa": _only(TABLE[0], lambda w: replace(w, kappa=1.0)),
        "theta . delta once": _only(
            TABLE[-1], lambda w: replace(w, cosine=w.cosine / 2)
        ),
        "the flow of the norm^2 for its steps": replace(
            LAWS, right=lambda walk: predicted(walk, power=1.0)
        ),
        "exp(2 kappa sqrt(t)) alone": replace(
            LAWS, right=lambda walk: predicted(walk, power=0.5)
        ),
        "an integral for the sum": replace(LAWS, right=_without_zeta),
        "norms add up, not their squares": replace(
            LAWS, left=lambda walk, rng: log_norms(walk, rng, straight=True)
        ),
        "sqrt(t) where the loss is scale-invariant": replace(LAWS, right=_square_root),
        "C for C^2": Identity(lambda: _gamma_law(sp.Integer(2))),
    },
    limits=f"r(t, s, a) is the norm under steps of length s and cosine a, asymptotically. "
    f"Points in the plane from t = {START} to {TIMES[-1]}, sizes up to 2; the Gamma "
    f"function is exact and symbolic.",
)


def exponent(walk: Walk, rng: Rng) -> list[float]:
    """Return the slope of log ||theta|| in log t between both TIMES."""
    early, late = log_norms(walk, rng)
    return [(late - early) / math.log(TIMES[1] / TIMES[0])]


PRINTED = Claim(
    name="growth/misaligned-printed",
    statement=(_equation(MISALIGNED, sp.Symbol("C") * MISALIGNED.printed),),
    source=Source(PAPER, "section 5.4, misaligned dynamics (entry B-10)", "printed"),
    expects=Expects.REFUTED,
    instances=walks((MISALIGNED,)),
    evidence=(
        Exact(
            left=exponent,
            right=lambda _: [0.5],
            bound=lambda walk: sum(remainder(walk)) / math.log(TIMES[1] / TIMES[0]),
        ),
    ),
    limits="One point in the plane; steps of size kappa r / sqrt(t) for any kappa.",
    counterexample="kappa = 1/2: the norm grows like t^(1/8), the exponent being kappa^2 / 2",
    repaired="growth/laws",
)

PRINTED_ALIGNED = Claim(
    name="growth/aligned-printed",
    statement=(_equation(ALIGNED, sp.Symbol("C") * ALIGNED.printed),),
    source=Source(PAPER, "section 5.4, aligned dynamics (entry B-10)", "printed"),
    expects=Expects.REFUTED,
    instances=walks((ALIGNED,)),
    evidence=(
        Exact(
            left=lambda walk, rng: [-operator.sub(*log_norms(walk, rng))],
            right=lambda _: [math.sqrt(TIMES[1]) - math.sqrt(TIMES[0])],
            bound=lambda walk: sum(remainder(walk)),
        ),
    ),
    limits="Read with a constant factor; up to constants in the exponent too it says only "
    "that log ||theta|| is of the order of sqrt(t), which holds.",
    counterexample="kappa = 1: the norm grows like exp(2 sqrt(t)) / sqrt(t)",
    repaired="growth/laws",
)

CLAIMS = (GROWTH_LAWS, PRINTED, PRINTED_ALIGNED)
