"""Claims about criticality: the constants of each universality class, and who has none.

Source: Roberts, Yaida and Hanin (2022), chapter 5; for PolyReLU, Zhuo et al. (2025).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import sympy as sp
from flint import arb
from hypothesis import strategies as st

from asymptest.numerics.balls import ball
from asymptest.numerics.dual_maps import criticality as evaluated
from asymptest.numerics.enclosure import mean_enclosure
from asymptest.theory.activations import Activation, gelu, silu, tanh, x
from asymptest.theory.criticality import criticality, mismatch, near_zero
from asymptest.theory.dual_maps import C_W, K, q_map, same_variable, slope_moment
from asymptest.theory.pieces import derivative
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


def _at_zero(quarters: int = 3) -> Equations:
    """K' - K = a_1 K^2 + ... and chi_perp - 1 = b_1 K, from E phi^2 to second order.

    E (s_1 u + s_2 u^2 / 2 + s_3 u^3 / 6)^2 = s_1^2 K + (3/4 s_2^2 + s_1 s_3) K^2 + O(K^3).
    """
    s_1, s_2, s_3 = sp.symbols("s_1 s_2 s_3", nonzero=True)
    phi = s_1 * x + s_2 * x**2 / 2 + s_3 * x**3 / 6
    second = sp.expand(same_variable(phi, phi) / s_1**2)
    slope = sp.expand(same_variable(phi.diff(x), phi.diff(x)) / s_1**2)
    ratio = (s_2 / s_1) ** 2
    weight, a_1, b_1 = near_zero(tanh) or (sp.nan,) * 3
    return {
        "a_1": second.coeff(K, 2) - (s_3 / s_1 + quarters * ratio / 4),
        "b_1": slope.coeff(K, 1) - (s_3 / s_1 + ratio),
        "tanh: C_W": weight - 1,
        "tanh: a_1": a_1 + 2,
        "tanh: b_1": b_1 + 2,
    }


def _tanh_bends_up() -> Equations:
    return _at_zero() | {"tanh: a_1": (near_zero(tanh) or (sp.nan,) * 3)[1] - 2}


# --- Half-stable ----------------------------------------------------------------------


def _gelu(K_star: sp.Expr) -> Callable[[Any], list[arb]]:
    """Return the four quantities that are 0 at GELU's critical point, as balls."""
    point = criticality(gelu)
    at = {K: K_star}
    parts = [
        put(at, mismatch(gelu)),
        point.C_W * put(at, sp.diff(q_map(gelu), K)) - 1,
        point.C_W * put(at, slope_moment(gelu)) - 1,
        K_star - point.C_b - point.C_W * put(at, q_map(gelu)),
    ]
    return lambda _: [ball(part, prec=256) for part in parts]


def _zeros(_: Any) -> list[arb]:
    return [arb(0)] * 4


GELU = Enclosure(_gelu((3 + sp.sqrt(17)) / 2), _zeros, lambda _: 1.0, 1e-30)

# Eight decimals; public code has 0.055514317 for the second.
SWISH_DIGITS = ("14.32017362", "0.55514317", "1.98800468")
WITHIN = 1e-9


@lru_cache(maxsize=4)
def _swish(sign: int = -1) -> tuple[arb, arb, arb]:
    """Return K*, C_b and C_W of SiLU, with K* between two certified signs of the mismatch.

    chi_parallel / C_W = E phi^2 (u^2 - K) / (2 K^2); the mutant has the other sign.
    """
    phi, slope = silu.expr, sp.diff(silu.expr, x)

    def gap(at: float) -> arb:
        weight = (x**2 + sign * sp.Rational(at)) / (2 * sp.Rational(at) ** 2)
        parallel = mean_enclosure(phi**2 * weight, at, accuracy=1e-15)
        return parallel - mean_enclosure(slope**2, at, accuracy=1e-15)

    middle = float(evaluated(silu).K_star or 0.0)
    if not gap(middle - WITHIN) * gap(middle + WITHIN) < 0:
        return arb("nan"), arb("nan"), arb("nan")
    K_star = arb(middle, 2 * WITHIN)
    weight = 1 / mean_enclosure(slope**2, K_star, accuracy=1e-12)
    second = mean_enclosure(phi**2, K_star, accuracy=1e-12)
    return K_star, K_star - weight * second, weight


def _rounded(digits: tuple[str, ...]) -> Callable[[Any], list[arb]]:
    """Return rounded numbers as balls: each stands for half a unit of its last place around it."""

    def values(_: Any) -> list[arb]:
        return [arb(d) + arb(0, 0.5 * 10.0 ** -len(d.split(".")[1])) for d in digits]

    return values


SWISH = Enclosure(
    lambda _: list(_swish()), _rounded(SWISH_DIGITS), lambda _: 1.0, resolution=1e-7
)

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


def _critical_at_two() -> Equations:
    """The mutant: C_W = 2 makes PolyReLU critical as it does ReLU."""
    phi = Activation("polyrelu", sp.Add(*(x**i * H for i in range(1, DEGREE))))
    return {
        "chi_perp": 2 * slope_moment(phi) - 1,
        "chi_parallel": 2 * sp.diff(q_map(phi), K) - 1,
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
            "tanh grows away from 0": Identity(_tanh_bends_up),
        },
        limits="The first two orders in K; tanh as the example.",
    ),
    Claim(
        name="criticality/gelu",
        statement=(sp.Eq(K_STAR, (3 + sp.sqrt(17)) / 2),),
        source=Source(BOOK, "section 5.3.4"),
        instances=st.just(None),
        evidence=(GELU,),
        mutants={
            "sqrt(13) for sqrt(17)": replace(GELU, left=_gelu((3 + sp.sqrt(13)) / 2)),
            "K* of SWISH": replace(GELU, left=_gelu(sp.Rational(SWISH_DIGITS[0]))),
        },
        limits="K* as a zero of the mismatch, to 30 digits; that it is the only one is not shown.",
    ),
    Claim(
        name="criticality/swish",
        statement=tuple(
            sp.Eq(symbol, sp.Float(digits, 10))
            for symbol, digits in zip((K_STAR, C_B, C_W), SWISH_DIGITS, strict=True)
        ),
        source=Source(BOOK, "section 5.3.4"),
        instances=st.just(None),
        evidence=(SWISH,),
        mutants={
            "C_b = 0.055514317": replace(
                SWISH, right=_rounded((SWISH_DIGITS[0], "0.055514317", SWISH_DIGITS[2]))
            ),
            "K* = 14.3200890": replace(
                SWISH, right=_rounded(("14.3200890", *SWISH_DIGITS[1:]))
            ),
            "C_W of ReLU": replace(
                SWISH, right=_rounded((*SWISH_DIGITS[:2], "2.00000000"))
            ),
        },
        limits="Eight decimals; that there is no other critical point is not shown.",
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
            "critical at C_W = 2": Identity(_critical_at_two),
        },
        limits=f"Coefficients a_i >= 0 as symbols, up to degree {DEGREE}; equality only if "
        f"a_2 = a_3 = ... = 0.",
    ),
)
