"""Claims about criticality: the constants of each universality class, and who has none.

Source: Roberts, Yaida and Hanin (2022), chapter 5; for PolyReLU, Zhuo et al. (2025).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import sympy as sp
from flint import arb
from hypothesis import strategies as st

from asymptest.numerics.dual_maps import criticality as evaluated
from asymptest.numerics.enclosure import mean_enclosure
from asymptest.theory.activations import (
    Activation,
    erf,
    gelu,
    polynomial,
    silu,
    sin,
    tanh,
)
from asymptest.theory.criticality import mismatch, near_zero
from asymptest.theory.dual_maps import C_W, K, q_map, same_variable, slope_moment
from asymptest.theory.pieces import derivative
from asymptest.theory.piecewise import x
from asymptest.theory.substitution import put
from asymptest.verify.claim import Claim, Enclosure, Identity, Source

BOOK = "Roberts, Yaida and Hanin (2022)"
H = sp.Heaviside(x)
Equations = dict[str, sp.Expr]  # each must be 0
CHI_PARALLEL, CHI_PERP = sp.symbols("chi_parallel chi_perp")
K_STAR, C_B = sp.symbols("K_* C_b")

# --- Scale-invariant: slopes s_+ for x > 0 and s_- for x < 0 --------------------------

s_plus, s_minus = sp.symbols("s_+ s_-", positive=True)
TWO_SLOPES = s_minus * x + (s_plus - s_minus) * x * H
A_2 = (s_plus**2 + s_minus**2) / 2


def _scale_invariant(weight: sp.Expr, slope: sp.Expr | None = None) -> Equations:
    """Both susceptibilities are 1 at every K; `slope` stands for phi'."""
    second = same_variable(TWO_SLOPES, TWO_SLOPES)
    slope = derivative(TWO_SLOPES) if slope is None else slope
    return {
        "chi_parallel": weight * sp.diff(second, K) - 1,
        "chi_perp": weight * same_variable(slope, slope) - 1,
    }


# --- K* = 0 ---------------------------------------------------------------------------


def _at_zero(quarters: int = 3, sign: int = 1) -> Equations:
    """K' - K = a_1 K^2 + ... and chi_perp - 1 = b_1 K, from E phi^2 to second order.

    E (s_1 u + s_2 u^2 / 2 + s_3 u^3 / 6)^2 = s_1^2 K + (3/4 s_2^2 + s_1 s_3) K^2 + O(K^3).
    """
    s_1, s_2, s_3 = sp.symbols("s_1 s_2 s_3", nonzero=True)
    phi = s_1 * x + s_2 * x**2 / 2 + s_3 * x**3 / 6
    second = sp.expand(same_variable(phi, phi) / s_1**2)
    slope = sp.expand(same_variable(phi.diff(x), phi.diff(x)) / s_1**2)
    ratio = (s_2 / s_1) ** 2
    found: Equations = {
        "a_1": second.coeff(K, 2) - (s_3 / s_1 + quarters * ratio / 4),
        "b_1": slope.coeff(K, 1) - (s_3 / s_1 + ratio),
    }
    for phi in (gelu, erf, sin, polynomial(0, 2, 1, -2)):
        weight, a_1, b_1 = near_zero(phi) or (sp.nan,) * 3
        shrunk = sp.limit((weight * q_map(phi) / K - 1) / K, K, 0, "+")
        bent = sp.limit((weight * slope_moment(phi) - 1) / K, K, 0, "+")
        found |= {f"{phi}: a_1": shrunk - a_1, f"{phi}: b_1": bent - sign * b_1}
    weight, a_1, b_1 = near_zero(tanh) or (sp.nan,) * 3
    return found | {"tanh": abs(weight - 1) + abs(a_1 + 2) + abs(b_1 + 2)}


# --- Half-stable ----------------------------------------------------------------------


WITHIN = 1e-9
# Eight decimals; for SWISH public code has 0.055514317 as C_b.
DIGITS = {
    "gelu": ("3.56155281", "0.17292239", "1.98305826"),
    "silu": ("14.32017362", "0.55514317", "1.98800468"),
}


@lru_cache(maxsize=4)
def _half_stable(phi: Activation) -> tuple[arb, arb, arb]:
    """Return K*, C_b and C_W, with K* between two certified signs of the mismatch.

    The mismatch is E phi^2 (u^2 - K) / (2 K^2) - E phi'^2, straight from the integrals.
    """
    value, slope = phi.expr, sp.diff(phi.expr, x)

    def gap(at: float) -> arb:
        weight = (x**2 - sp.Rational(at)) / (2 * sp.Rational(at) ** 2)
        parallel = mean_enclosure(value**2 * weight, at, accuracy=1e-15)
        return parallel - mean_enclosure(slope**2, at, accuracy=1e-15)

    middle = float(evaluated(phi).K_star or 0.0)
    if not gap(middle - WITHIN) * gap(middle + WITHIN) < 0:
        return arb("nan"), arb("nan"), arb("nan")
    K_star = arb(middle, 2 * WITHIN)
    weight = 1 / mean_enclosure(slope**2, K_star, accuracy=1e-12)
    second = mean_enclosure(value**2, K_star, accuracy=1e-12)
    return K_star, K_star - weight * second, weight


def _rounded(digits: tuple[str, ...]) -> Callable[[Any], list[arb]]:
    """Return rounded numbers as balls: each stands for half a unit of its last place around it."""

    def values(_: Any) -> list[arb]:
        return [arb(d) + arb(0, 0.5 * 10.0 ** -len(d.split(".")[1])) for d in digits]

    return values


def _point(phi: Activation) -> Enclosure:
    return Enclosure(
        lambda _: list(_half_stable(phi)),
        _rounded(DIGITS[phi.name]),
        lambda _: 1.0,
        resolution=1e-7,
    )


def _half_stable_claim(
    name: str, phi: Activation, wrong: Mapping[str, tuple[str, ...]]
) -> Claim:
    evidence = _point(phi)
    return Claim(
        name=f"criticality/{name}",
        statement=tuple(
            sp.Eq(symbol, sp.Float(digits, 10))
            for symbol, digits in zip((K_STAR, C_B, C_W), DIGITS[phi.name], strict=True)
        ),
        source=Source(BOOK, "section 5.3.4"),
        instances=st.just(None),
        evidence=(evidence,),
        mutants={
            n: replace(evidence, right=_rounded(digits)) for n, digits in wrong.items()
        },
        limits="Eight decimals; that there is no other critical point is not shown.",
    )


def _gelu_root(root: sp.Expr) -> Callable[[], Equations]:
    """Return the derived mismatch of GELU at a variance."""
    return lambda: {"mismatch": put({K: root}, mismatch(gelu))}


# --- None: PolyReLU -------------------------------------------------------------------

DEGREE = 4
COEFFICIENTS = sp.symbols(f"a_1:{DEGREE + 1}", nonnegative=True)


def _half_moment(n: int) -> sp.Expr:
    """Return E ReLU(z)^n for a standard normal z."""
    half = sp.Rational(n, 2)
    return 2 ** (half - 1) * sp.gamma(half + sp.Rational(1, 2)) / sp.sqrt(sp.pi)


def _no_go(
    moment: Callable[[int], sp.Expr] = _half_moment,
    count: Callable[[int, int], sp.Expr] = lambda i, j: sp.Rational(
        i * (i - 1) + j * (j - 1), 2
    ),
) -> Equations:
    """chi_parallel - chi_perp is a sum of terms >= 0, C_W times the right-hand side."""
    powers = tuple(enumerate(COEFFICIENTS, 1))
    phi = sp.Add(*(a * x**i * H for i, a in powers))
    slope = sp.Add(*(i * a * x ** (i - 1) * H for i, a in powers))
    difference = sp.diff(same_variable(phi, phi), K) - same_variable(slope, slope)
    terms = [
        a * b * moment(i + j - 2) * count(i, j) * K ** (sp.Rational(i + j, 2) - 1)
        for i, a in powers
        for j, b in powers
        if count(i, j) != 0
    ]
    negative = [term for term in terms if not term.is_nonnegative]
    return {
        "difference": sp.expand(difference - sp.Add(*terms)),
        "terms that may be negative": sp.Integer(len(negative)),
        "terms without a_2, a_3, ...": sp.Add(*terms).subs(
            dict.fromkeys(COEFFICIENTS[1:], 0)
        ),
    }


CLAIMS = (
    Claim(
        name="criticality/scale-invariant",
        statement=(
            sp.Eq(CHI_PARALLEL, 1),
            sp.Eq(CHI_PERP, 1),
            sp.Eq(C_W, 1 / A_2),
        ),
        source=Source(BOOK, "section 5.2"),
        evidence=(Identity(lambda: _scale_invariant(1 / A_2)),),
        mutants={
            "C_W = 1, right for the identity only": Identity(
                lambda: _scale_invariant(sp.Integer(1))
            ),
            "the mean slope squared": Identity(
                lambda: _scale_invariant(4 / (s_plus + s_minus) ** 2)
            ),
            "phi for phi' in chi_perp": Identity(
                lambda: _scale_invariant(1 / A_2, TWO_SLOPES)
            ),
        },
        limits="None: the slopes and K are symbols.",
    ),
    Claim(
        name="criticality/at-zero",
        statement=(
            sp.Eq(
                sp.Symbol("a_1"),
                sp.Symbol("s_3") / sp.Symbol("s_1")
                + sp.Rational(3, 4) * (sp.Symbol("s_2") / sp.Symbol("s_1")) ** 2,
            ),
            sp.Eq(
                sp.Symbol("b_1"),
                sp.Symbol("s_3") / sp.Symbol("s_1")
                + (sp.Symbol("s_2") / sp.Symbol("s_1")) ** 2,
            ),
        ),
        source=Source(BOOK, "section 5.3.3"),
        evidence=(Identity(_at_zero),),
        mutants={
            "s_2^2 / 4 for 3/4 s_2^2": Identity(lambda: _at_zero(quarters=1)),
            "b_1 with the other sign": Identity(lambda: _at_zero(sign=-1)),
        },
        limits="The first two orders in K, for five activations.",
    ),
    Claim(
        name="criticality/gelu-root",
        statement=(sp.Eq(K_STAR, (3 + sp.sqrt(17)) / 2),),
        source=Source(BOOK, "section 5.3.4"),
        evidence=(Identity(_gelu_root((3 + sp.sqrt(17)) / 2)),),
        mutants={
            "sqrt(13) for sqrt(17)": Identity(_gelu_root((3 + sp.sqrt(13)) / 2)),
            "the sum for its half": Identity(_gelu_root(3 + sp.sqrt(17))),
        },
        limits="A zero of the derived mismatch; criticality/gelu has the integrals.",
    ),
    _half_stable_claim(
        "gelu",
        gelu,
        {
            "C_W of ReLU": (*DIGITS["gelu"][:2], "2.00000000"),
            "C_b = 0": (DIGITS["gelu"][0], "0.00000000", DIGITS["gelu"][2]),
            "the tanh approximation": ("3.55677284", "0.17289520", "1.98288824"),
        },
    ),
    _half_stable_claim(
        "swish",
        silu,
        {
            "C_b = 0.055514317": (DIGITS["silu"][0], "0.055514317", DIGITS["silu"][2]),
            "K* = 14.3200890": ("14.3200890", *DIGITS["silu"][1:]),
            "C_W of ReLU": (*DIGITS["silu"][:2], "2.00000000"),
        },
    ),
    Claim(
        name="criticality/polyrelu-none",
        statement=(sp.Ge(CHI_PARALLEL - CHI_PERP, 0),),
        source=Source("arXiv 2411.03884 (Zhuo et al., ICLR 2025)", "PolyReLU"),
        evidence=(Identity(_no_go),),
        mutants={
            "m_p with the next p": Identity(
                lambda: _no_go(lambda n: _half_moment(n + 1))
            ),
            "i j for (i (i - 1) + j (j - 1)) / 2": Identity(
                lambda: _no_go(count=lambda i, j: sp.Integer(i * j))
            ),
        },
        limits=f"Coefficients a_i >= 0 as symbols, up to degree {DEGREE}; equality only if "
        f"a_2 = a_3 = ... = 0.",
    ),
)
