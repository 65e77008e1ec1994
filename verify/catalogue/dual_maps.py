"""Claims about C-maps: the leaky ReLU's, and what it does in depth.

Entry A-18, arXiv 2302.10322, section on LReLU-TAT: phi(x) = sqrt(2 / (1 + s^2)) LReLU_s(x).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import log, pi

import numpy as np
import sympy as sp
from hypothesis import strategies as st

from asymptest.numerics.duals import c_map_gap
from asymptest.theory.activations import leaky_relu
from asymptest.theory.dual_maps import rho
from asymptest.theory.gaussian_calculus import c, p, product_moment, q
from asymptest.theory.piecewise import x
from asymptest.theory.substitution import put
from asymptest.verify.claim import Claim, Exact, Identity, Source

PAPER = "arXiv 2302.10322 (He et al., ICLR 2023)"
s = sp.Symbol("s", nonnegative=True)  # slope for x < 0
C = sp.Function("C")
KAPPA = (1 - s) ** 2 / (sp.pi * (1 + s**2))
LEADING = 2 * sp.sqrt(2) / 3
PRINTED = rho + KAPPA * (sp.sqrt(1 - rho**2) - rho * sp.acos(rho))


def _derived() -> sp.Expr:
    """Return E phi(u) phi(v) at unit variances, phi normalised, from the calculus."""
    phi = s * x + (1 - s) * x * sp.Heaviside(x)
    dual = product_moment(phi, phi).value
    return 2 / (1 + s**2) * put({p: 1, q: 1, c: rho}, dual)


def _c_map(printed: sp.Expr = PRINTED) -> dict[str, sp.Expr]:
    """C is the printed form, C(1) = C'(1) = 1, C(0) = kappa."""
    derived = _derived()
    return {
        "C": sp.simplify(derived - printed).rewrite(sp.asin).expand(),
        "C(1)": put({rho: 1}, printed) - 1,
        "C'(1)": sp.limit(sp.diff(derived, rho), rho, 1, "-") - 1,
        "C(0)": put({rho: 0}, derived) - KAPPA,
    }


def _near_one(constant: sp.Expr = LEADING) -> dict[str, sp.Expr]:
    """C(1 - d) = 1 - d + kappa (2 sqrt(2) / 3) d^(3/2) + ..., from C'' near 1.

    C''(rho) = kappa / sqrt(1 - rho^2), whose leading term is integrated twice.
    """
    d = sp.Symbol("d", positive=True)
    second = put({rho: 1 - d}, sp.simplify(sp.diff(_derived(), rho, 2)))
    leading = sp.limit(second * sp.sqrt(d), d, 0, "+") / sp.sqrt(d)
    twice = sp.integrate(sp.integrate(leading, (d, 0, d)), (d, 0, d))
    return {"d^(3/2)": sp.simplify(twice - KAPPA * constant * d ** sp.Rational(3, 2))}


@dataclass(frozen=True)
class Depth:
    """A normalised leaky ReLU applied `layers` times, from correlation `start`."""

    slope: float
    layers: int
    start: float

    @property
    def kappa(self) -> float:
        """(1 - s)^2 / (pi (1 + s^2))."""
        return (1 - self.slope) ** 2 / (pi * (1 + self.slope**2))


@lru_cache(maxsize=256)
def _distance(case: Depth) -> float:
    """Return 1 - C(C(...C(start)))."""
    phi, gap = leaky_relu(case.slope), np.array(1 - case.start)
    for _ in range(case.layers):
        gap = c_map_gap(phi, gap)
    return float(gap)


def _law(factor: float = 1.0) -> Callable[[Depth], float]:
    return lambda case: factor * 9 / (2 * (case.kappa * case.layers) ** 2)


def _remainder(case: Depth) -> float:
    """Return a bound of |d_n - law|.

    With y = d^(-1/2) a layer adds a + b / y, a = kappa sqrt(2) / 3, where 0 < b < 4 a^2 for
    s <= 1/2 (3/2 a^2 at small d). So 0 < y_n - a n < y_0 + 4 a (1 + log n).
    """
    a = case.kappa * 2**0.5 / 3
    extra = (1 - case.start) ** -0.5 + 4 * a * (1 + log(case.layers))
    return _law()(case) * 2 * extra / (a * case.layers)


def _depth_law(factor: float = 1.0) -> Exact:
    return Exact(lambda case, _: _distance(case), _law(factor), _remainder)


DEPTHS = st.sampled_from(
    [
        Depth(slope, 1000, start)
        for slope in (0.0, 0.1, 0.25, 0.5)
        for start in (0.0, 0.9)
    ]
)

CLAIMS = (
    Claim(
        name="dual-maps/leaky-relu",
        statement=(sp.Eq(C(rho), PRINTED),),
        source=Source(PAPER, "LReLU-TAT"),
        evidence=(Identity(_c_map),),
        mutants={
            "kappa / 2": Identity(lambda: _c_map(rho + (PRINTED - rho) / 2)),
            "pi - arccos for arccos": Identity(
                lambda: _c_map(PRINTED.replace(sp.acos, lambda z: sp.pi - sp.acos(z)))
            ),
            "1 - s^2 for (1 - s)^2": Identity(
                lambda: _c_map(rho + (PRINTED - rho) * (1 + s) / (1 - s))
            ),
        },
        limits="None: the slope and the correlation are symbols.",
    ),
    Claim(
        name="dual-maps/leaky-relu-near-one",
        statement=(
            sp.Eq(
                1 - C(1 - sp.Symbol("d")),
                sp.Symbol("d") - KAPPA * LEADING * sp.Symbol("d") ** sp.Rational(3, 2),
            ),
        ),
        source=Source(PAPER, "LReLU-TAT"),
        evidence=(Identity(_near_one),),
        mutants={
            "sqrt(2) missing": Identity(lambda: _near_one(sp.Rational(2, 3))),
            "kappa / 2": Identity(lambda: _near_one(sp.sqrt(2) / 3)),
        },
        limits="The first two terms at d = 0.",
    ),
    Claim(
        name="dual-maps/leaky-relu-depth",
        statement=(
            sp.Eq(
                1 - sp.Function("C_n")(rho),
                9 / (2 * KAPPA**2 * sp.Symbol("n") ** 2),
            ),
        ),
        source=Source(PAPER, "LReLU-TAT"),
        instances=DEPTHS,
        evidence=(_depth_law(),),
        mutants={
            "kappa / 2": _depth_law(4.0),
            "sqrt(2) missing": _depth_law(2.0),
            "9/2 halved": _depth_law(0.5),
        },
        limits="Slopes up to 1/2, a thousand layers, within the remainder of order log n / n.",
    ),
)
