"""Claims about softmax of independent logits: how many positions it attends to.

Entries C-08 and C-09: Cowsik et al. (2024), Giorlandino and Goldt (2025), re-derived by
theory/random_energy.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
import sympy as sp
from hypothesis import strategies as st

from asymptest.numerics.random_energy import participation
from asymptest.numerics.softmax_row import lengths
from asymptest.theory import random_energy as theory
from asymptest.theory.network import Attention
from asymptest.theory.patterns import Softmax
from asymptest.verify.claim import (
    Bound,
    Claim,
    FiniteLaw,
    Identity,
    Rate,
    Rng,
    Source,
)
from asymptest.verify.families import finite_kernels

COWSIK = "Cowsik et al. (2024), arXiv 2403.02579"
FREEZING = "Giorlandino and Goldt (2025), arXiv 2505.24333"

p, q, s = sp.symbols("p q s", positive=True)
Y = sp.Symbol("Y")

# --- C-08: one step of attention on alike tokens -----------------------------------------


@dataclass(frozen=True)
class Alike:
    """The kernel (q - p) I + p 1 1^T on eight tokens, and the variance s of the logits."""

    q: float
    p: float
    s: float
    size: int = 8

    @property
    def variance(self) -> float:
        """b^2 = s q (q - p)."""
        return self.s * self.q * (self.q - self.p)


HEADS = 4
_ANNEALED = sp.lambdify((theory.T, theory.b), theory.annealed())


@lru_cache(maxsize=1024)
def mean_participation(at: Alike, head_size: int) -> float:
    """Return Y for logits that share the length of their query, over its law."""
    length, weights = lengths(head_size, 0.7)
    each = [participation(at.size, at.variance * float(r) ** 2) for r in length]
    return float(weights @ each)


def _row_lengths(at: Alike, width: int, copies: int, rng: Rng) -> np.ndarray:
    K0 = (at.q - at.p) * np.eye(at.size) + at.p
    network = Attention(Softmax(variance=at.s), heads=HEADS)
    kernels = finite_kernels(network, K0, width, copies, rng)
    return np.trace(kernels, axis1=1, axis2=2)[:, None] / at.size


def _with(at: Alike, share: float) -> np.ndarray:
    return np.array([at.p + (at.q - at.p) * share])


STEP = FiniteLaw(
    sample=_row_lengths,
    predict=lambda at, n: _with(at, mean_participation(at, n // HEADS)),
    scale=lambda at, _: np.array([at.q]),
    widths=(8, 16),
    spread=0.5,  # of a kernel's mean diagonal, in units of q; measured, it is below 0.25
    coarseness=5,
)

ONE_STEP = Claim(
    name="random-energy/one-step",
    statement=(
        sp.Eq(sp.Symbol("q'"), p + (q - p) * Y),
        sp.Eq(Y, sp.Symbol("E(sum_i A_i^2)")),
        sp.Eq(theory.b**2, s * q * (q - p)),
    ),
    source=Source(COWSIK, "order parameters of attention (entry C-08)"),
    instances=st.builds(
        Alike, st.floats(0.8, 1.2), st.floats(0.0, 0.2), st.floats(2, 6)
    ),
    evidence=(STEP,),
    mutants={
        "annealed at b^2 > 1": replace(
            STEP,
            predict=lambda at, _: _with(at, _ANNEALED(at.size, at.variance**0.5)),
        ),
        "uniform, 1/T": replace(STEP, predict=lambda at, _: _with(at, 1 / at.size)),
        "p' for q'": replace(STEP, predict=lambda at, _: _with(at, 0.0)),
    },
    limits="Eight tokens, four heads; the law is exact at every width. p' is not claimed.",
)

# --- C-08: the annealed form, for variances up to 1 -----------------------------------------


@dataclass(frozen=True)
class Logits:
    """T = 2^level logits of variance b^2."""

    variance: float
    level: int


def relative_error(at: Logits, level: int) -> float:
    """Return |Y / annealed - 1| at T = 2^level."""
    exact = participation(2**level, at.variance)
    return abs(exact / _ANNEALED(2**level, at.variance**0.5) - 1)


@cache
def _error_function() -> Callable[[float], tuple[float, float]]:
    """Return b -> the derived terms of Y / annealed - 1, over 1/T and 1/T^2."""
    return sp.lambdify(theory.b, theory.annealed_error())


def _error_terms(variance: float) -> tuple[float, float]:
    return _error_function()(variance**0.5)


def annealed_remainder(at: Logits, level: int) -> float:
    """Return twice the second term over the first, and the rounding of Y.

    For b <= 1 and T >= 2^12 the third is a tenth of the second at most.
    """
    first, second = _error_terms(at.variance)
    return abs(2 * second / first) * 2.0**-level + 1e-12 * 2.0**level / abs(first)


ANNEALED_RATE = Rate(
    error=relative_error,
    ratio=lambda _: 0.5,
    constant=lambda at: abs(_error_terms(at.variance)[0]),
    depths=(12, 16),
    remainder=annealed_remainder,
)

WITHIN = Bound(lambda at: relative_error(at, at.level), lambda at: 0.05)


def _anneal(first: sp.Expr) -> dict[str, sp.Expr]:
    """Return a_1 less its closed form, and the limit of T Y less e^(b^2)."""
    return {
        "1/T": theory.annealed_error()[0] - first,
        "T Y": theory.series(1)[0] - sp.exp(theory.b**2),
    }


_A1 = -2 * (sp.exp(theory.b**2) - 1) ** 2
ANNEALED = Claim(
    name="random-energy/annealed",
    statement=(
        sp.Eq(Y, theory.annealed() * (1 + _A1 / theory.T)),
        sp.Le(sp.Symbol("|Y / annealed - 1|"), sp.Rational(1, 20)),
    ),
    source=Source(
        COWSIK, "annealed attention, for logits of variance <= 1 (entry C-08)"
    ),
    instances=st.builds(Logits, st.floats(0.1, 1), st.integers(7, 24)),
    evidence=(ANNEALED_RATE, WITHIN, Identity(lambda: _anneal(_A1))),
    mutants={
        "at every variance": replace(
            WITHIN,
            left=lambda at: relative_error(
                replace(at, variance=8 * at.variance), at.level
            ),
        ),
        "error 1/T^2": replace(ANNEALED_RATE, ratio=lambda _: 0.25),
        "half the error": replace(
            ANNEALED_RATE, constant=lambda at: abs(_error_terms(at.variance)[0]) / 2
        ),
        "e^(b^2) - 1 not squared": Identity(
            lambda: _anneal(-2 * (sp.exp(theory.b**2) - 1))
        ),
    },
    limits="Within 5 % from T = 128 on; at larger variances it fails until T is far larger.",
)

# --- C-09: freezing ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Cold:
    """T = 2^level logits at b^2 = beta^2 q (q - p) log T."""

    level: int
    beta: float
    q: float
    p: float

    @property
    def reduced(self) -> float:
        """What is sqrt(2) at the transition, beta sqrt(q (q - p))."""
        return self.beta * (self.q * (self.q - self.p)) ** 0.5

    @property
    def share(self) -> float:
        """Y at this T."""
        log_T = self.level * math.log(2)
        return participation(2.0**self.level, self.reduced**2 * log_T)


CRITICAL = float(theory.critical())
_R = sp.Symbol("r", positive=True)  # beta_c / beta
_FROZEN = sp.lambdify(_R, theory.frozen(2))


def frozen_share(at: Cold, critical: float = CRITICAL) -> float:
    """Return the limit of Y, 1 - beta_c / beta."""
    return float(_FROZEN(critical / at.reduced))


def slowness(at: Cold) -> float:
    """Return the leading distance from the limit, from where the largest logit lies.

    Of T standard Gaussian numbers it is near sqrt(2 log T) - (log log T + log 4 pi) /
    (2 sqrt(2 log T)), and sqrt(2) is that over sqrt(log T) to leading order.
    """
    log_T = at.level * math.log(2)
    return (math.log(log_T) + math.log(4 * math.pi)) / (2**1.5 * at.reduced * log_T)


def _cold(reduced: tuple[float, ...]) -> st.SearchStrategy[Cold]:
    """Return strategies on a grid, so that few participations are computed."""
    pairs = st.sampled_from([(1.0, 0.0), (1.0, 0.5), (2.0, 1.5)])

    def of(level: int, beta: float, pair: tuple[float, float]) -> Cold:
        q, p = pair
        return Cold(level, beta / (q * (q - p)) ** 0.5, q, p)

    levels = st.sampled_from([4, 8, 12, 16, 24, 32, 40, 48])
    return st.builds(of, levels, st.sampled_from(reduced), pairs)


def _colder(at: Cold) -> float:
    """Return Y at T^2."""
    return replace(at, level=2 * at.level).share


ABOVE = Bound(frozen_share, lambda at: at.share)
NEAR = Bound(lambda at: at.share - frozen_share(at), lambda at: 1.25 * slowness(at))
FALLS = Bound(_colder, lambda at: at.share)


def thawed(at: Cold) -> float:
    """Return T^(beta^2 - 1), e^(b^2) / T, to which Y tends where nothing freezes."""
    return 2.0 ** (at.level * (at.reduced**2 - 1))


AT_MOST = Bound(lambda at: at.share, thawed, slack=lambda at: 1e-12 * thawed(at))
AT_LEAST = Bound(lambda at: 0.6 * thawed(at), lambda at: at.share)


def _limits(share: sp.Expr) -> dict[str, sp.Expr]:
    """Return beta_c^2 - 2, and the limit of Y less its closed form."""
    critical: Any = theory.critical()
    return {"beta_c^2": critical**2 - 2, "Y": theory.frozen(2) - share}


FROZEN = Claim(
    name="random-energy/freezing",
    statement=(
        sp.Eq(sp.Symbol("beta_c"), theory.critical() / sp.sqrt(q * (q - p))),
        sp.Eq(
            sp.Limit(sp.Function("Y")(theory.T), theory.T, sp.oo),
            1 - sp.Symbol("beta_c") / theory.beta,
        ),
    ),
    source=Source(FREEZING, "softmax as a random-energy model (entry C-09)"),
    instances=_cold((2.0, 2.25, 2.5, 3.0)),
    evidence=(ABOVE, NEAR, FALLS, Identity(lambda: _limits(1 - _R))),
    mutants={
        "beta_c = 1 / sqrt(q (q - p))": replace(
            ABOVE, left=lambda at: frozen_share(at, 1.0)
        ),
        "beta_c = sqrt(2 / q)": replace(
            ABOVE, left=lambda at: frozen_share(at, CRITICAL * (1 - at.p / at.q) ** 0.5)
        ),
        "beta_c a tenth larger": replace(
            NEAR, left=lambda at: at.share - frozen_share(at, 1.1 * CRITICAL)
        ),
        "no slower than 1 / T": replace(NEAR, right=lambda at: 2.0**-at.level),
        "below its limit": replace(ABOVE, left=lambda at: at.share, right=frozen_share),
        "Y_3's limit": Identity(lambda: _limits((1 - _R) * (2 - _R) / 2)),
    },
    limits="A trend: monotone from T = 2^4 to 2^96, and within 5/4 of the leading distance "
    "log log T / log T from the limit, which no T in use makes small.",
)

THAWED = Claim(
    name="random-energy/thawed",
    statement=(
        sp.Le(sp.Rational(3, 5), Y * theory.T ** (1 - theory.beta**2 * q * (q - p))),
        sp.Le(Y * theory.T ** (1 - theory.beta**2 * q * (q - p)), 1),
    ),
    source=Source(FREEZING, "below half of beta_c (entry C-09)"),
    instances=_cold((0.2, 0.3, 0.4, 0.5, 0.6, 0.7)),
    evidence=(AT_MOST, AT_LEAST, FALLS),
    mutants={
        "up to beta_c": replace(
            AT_LEAST,
            left=lambda at: 0.6 * thawed(replace(at, beta=2 * at.beta)),
            right=lambda at: replace(at, beta=2 * at.beta).share,
        ),
        "1 / T": replace(AT_MOST, right=lambda at: 2.0**-at.level),
        "beta q for beta sqrt(q (q - p))": replace(
            AT_LEAST,
            left=lambda at: 0.6 * 2.0 ** (at.level * ((at.beta * at.q) ** 2 - 1)),
        ),
    },
    limits="For beta up to half of beta_c; between there and beta_c Y decays more slowly.",
)

CLAIMS = (ONE_STEP, ANNEALED, FROZEN, THAWED)
