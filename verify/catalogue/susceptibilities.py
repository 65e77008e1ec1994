"""Claims about susceptibilities: their formulas, what they add up to in depth, where none is 1.

Source: Roberts, Yaida and Hanin (2022), chapters 4 and 5. C_b and C_W are the variances of a
bias and of a weight times its fan-in.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import log
from typing import Any

import numpy as np
import sympy as sp
from hypothesis import strategies as st

from asymptest.numerics import dual_maps
from asymptest.theory.activations import (
    Activation,
    erf,
    exp,
    gelu,
    relu,
    sigmoid,
    sin,
    softplus,
    tanh,
)
from asymptest.theory.criticality import near_zero
from asymptest.theory.dual_maps import C_W, K, q_map, same_variable
from asymptest.theory.pieces import derivative
from asymptest.theory.piecewise import x
from asymptest.verify.claim import Claim, Exact, Identity, Source

BOOK = "Roberts, Yaida and Hanin (2022)"
CLOSED = (relu, gelu, erf, sin, exp)
PARALLEL, PERP, H = sp.symbols("chi_parallel chi_perp h")
MEAN = sp.Function("E")
DEPTH, LAYER = sp.symbols("l m", integer=True, positive=True)
phi, slope = sp.Function("phi")(x), sp.Function("phi")(x).diff(x)

# --- Formulas -------------------------------------------------------------------------


def _product(layers: sp.Expr) -> Any:
    return sp.Product(PERP, (LAYER, 1, layers))


def _weighted(f: sp.Expr, sign: int) -> sp.Expr:
    """Return E f^2 (u^2 - K) / (2 K^2), or with u^2 + K."""
    return (same_variable(f, f * x**2) - sign * K * same_variable(f, f)) / (2 * K**2)


def _formulas(sign: int = 1) -> dict[str, sp.Expr]:
    found: dict[str, sp.Expr] = {}
    for case in CLOSED:
        f, g = case.expr, derivative(case.expr)
        found |= {
            f"{case}: chi_parallel": sp.diff(q_map(case), K) - _weighted(f, sign),
            f"{case}: h": sp.diff(same_variable(g, g), K) - _weighted(g, sign),
        }
    return found


# --- Depth at K* = 0 ------------------------------------------------------------------


@dataclass(frozen=True)
class Stack:
    """`layers` layers of an odd activation from the variance `start`, C_W = 1 / phi'(0)^2."""

    phi: Activation
    start: float
    layers: int


@lru_cache(maxsize=64)
def _end(case: Stack) -> tuple[float, float]:
    """Return K_l, and the product of chi_perp over the layers from l / 2 on."""
    weight, _, _ = _constants(case.phi)
    variances = np.empty(case.layers)
    at = np.array(case.start)
    for layer in range(case.layers):
        variances[layer] = at
        at = weight * dual_maps.q_map(case.phi, at)
    late = dual_maps.chi_perp(case.phi, variances[case.layers // 2 :], weight)
    return float(at), float(np.prod(late))


@lru_cache(maxsize=8)
def _constants(phi: Activation) -> tuple[float, float, float]:
    constants = near_zero(phi)
    assert constants is not None
    weight, a_1, b_1 = map(float, constants)
    return weight, a_1, b_1


def _decay(a: float = 1.0, half: float = 0.5) -> Exact:
    """K_l = 1 / (-a_1 l), and halving chi_perp's product whenever the depth doubles."""

    def law(case: Stack) -> list[float]:
        _, a_1, _ = _constants(case.phi)
        return [1 / (-a * a_1 * case.layers), half]

    return Exact(lambda case, _: _end(case), law, _allowed)


def _allowed(case: Stack) -> list[float]:
    """Return bounds of both differences, for the three activations and K <= 1.

    1 / K' = 1 / K - a_1 + r K with |r| <= 5/3, so |1 / K_l + a_1 l - 1 / K_0| <= 5/3 sum K,
    and |log chi_perp - b_1 K| <= 5 K^2.
    """
    _, a_1, _ = _constants(case.phi)
    n = case.layers
    total = 1 / case.start + 5 / 3 * (case.start + log(1 + n) / -a_1)
    off = total / (-a_1 * n)  # |K_n (-a_1 n) - 1|, but for its square
    late = 2 * off + 10 / (a_1**2 * n) + 1 / n
    return [1.1 * off / (-a_1 * n), 0.55 * late]


# --- No critical point ----------------------------------------------------------------


def _none(sign: int = 1, eighths: int = 1) -> dict[str, sp.Expr]:
    """d/dK E phi^2 - E phi'^2 = E phi phi'', and only the even part of phi phi'' counts.

    It has one sign: for sigmoid it is -t^2 (1 - t^2) / 8, t = tanh(x / 2), and for softplus
    phi and phi'' = (1 - t^2) / 4 are positive.
    """
    t = sp.tanh(x / 2)
    bent = sigmoid.expr * sp.diff(sigmoid.expr, x, 2)
    even = (bent + bent.subs(x, -x)) / 2
    rest = {
        "sigmoid": even + sign * eighths * t**2 * (1 - t**2) / 8,
        "softplus": sp.diff(softplus.expr, x, 2) - sign * (1 - t**2) / 4,
        "softplus is a logarithm of more than 1": sp.exp(softplus.expr) - 1 - sp.exp(x),
    }
    return {name: sp.simplify(value.rewrite(sp.exp)) for name, value in rest.items()}


CLAIMS = (
    Claim(
        name="susceptibilities/formulas",
        statement=(
            sp.Eq(PARALLEL, C_W * MEAN(phi**2 * (x**2 - K)) / (2 * K**2)),
            sp.Eq(H, C_W * MEAN(slope**2 * (x**2 - K)) / (4 * K**2)),
        ),
        source=Source(BOOK, "section 4.3"),
        evidence=(Identity(_formulas),),
        mutants={"z^2 + K for z^2 - K": Identity(lambda: _formulas(-1))},
        limits=f"For {', '.join(case.name for case in CLOSED)}, with K as a symbol; "
        f"h is half of d chi_perp / dK.",
    ),
    Claim(
        name="susceptibilities/depth",
        statement=(
            sp.Eq(sp.Symbol("K_l"), 1 / (-sp.Symbol("a_1") * DEPTH)),
            sp.Eq(_product(2 * DEPTH), _product(DEPTH) / 2),
        ),
        source=Source(BOOK, "section 5.3.3"),
        instances=st.builds(
            Stack,
            st.sampled_from([sin, erf, tanh]),
            st.sampled_from([0.1, 0.5, 1.0]),
            st.just(200),
        ),
        evidence=(_decay(),),
        mutants={
            "a_1 halved: phi'''/2 for phi'''": _decay(a=0.5),
            "chi_perp's product falls as 1 / l^2": _decay(half=0.25),
        },
        limits="sin, erf and tanh, 200 layers, within remainders of order log l / l "
        "whose constants are read off, not proved.",
    ),
    Claim(
        name="susceptibilities/none",
        statement=(sp.Ne(PARALLEL, PERP),),
        source=Source(BOOK, "section 5.3.4"),
        evidence=(Identity(_none),),
        mutants={
            "the other sign": Identity(lambda: _none(-1)),
            "phi phi'' of sigmoid halved": Identity(lambda: _none(eighths=2)),
        },
        limits="sigmoid and softplus, at every K > 0: by the sign of phi phi''.",
    ),
)
