"""Claims about duals: E phi(u) phi(v) in closed form, against the integral.

Each closed form is certified: on boxes of variances and correlations, balls that hold the
formula and balls that hold the integral overlap, and their union is narrow. Two differential
equations are proved for all of them. Numbers and finite networks are in catalogue/duals.py.

Source: Cho and Saul (2009) for ReLU, Williams (1997) for erf; all are derived here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import sympy as sp
from flint import arb

from asymptest.numerics.balls import ball
from asymptest.numerics.dual_maps import q_map
from asymptest.numerics.enclosure import dual_enclosure
from asymptest.theory import activations as act
from asymptest.theory.activations import Activation
from asymptest.theory.gaussian_calculus import (
    c,
    dual,
    has_closed_form,
    p,
    product_moment,
    q,
    tidy,
)
from asymptest.theory.pieces import derivative
from asymptest.theory.piecewise import x
from asymptest.theory.steps import E
from asymptest.theory.substitution import put
from asymptest.verify.boxes import Box, boxes
from asymptest.verify.claim import Claim, Enclosure, Identity, Source

Variant = Callable[[sp.Expr], Any]  # of a dual, as an expression in p, q, c

fifth = sp.Rational(1, 5)
bump = Activation("bump", x * sp.exp(-(x**2)) * sp.Heaviside(x))
CLOSED = (
    act.identity,
    act.relu,
    act.leaky_relu(fifth),
    act.step,
    act.sign,
    act.abs_,
    act.monomial(3),
    act.polynomial(1, 2, -1, fifth),
    act.hermite(3),
    act.polyrelu(1, sp.Rational(1, 2)),
    act.erf,
    act.gelu,
    act.exp,
    act.sin,
    act.cos,
    act.gaussian,
    act.gabor,
    act.rbf(sp.Rational(1, 2)),
    bump,
)
SOURCES = {
    "relu": Source("Cho and Saul (2009)", "arc-cosine kernel of degree 1, halved"),
    "step": Source("Cho and Saul (2009)", "arc-cosine kernel of degree 0, halved"),
    "erf": Source("Williams (1997)", "the arcsine kernel"),
    "rbf(1/2)": Source("Rahimi and Recht (2007)", "the Gaussian kernel"),
}
HERE = Source("this package", "theory/gaussian_calculus.py")


# --- Each closed form against the integral --------------------------------------------


def statement(phi: Activation) -> Any:
    """Return E phi(u) phi(v) = its derived dual, or a name for it where there is none."""
    function = sp.Function(phi.name)
    product = function(sp.Symbol("u")) * function(sp.Symbol("v"))
    closed = has_closed_form(phi)
    return sp.Eq(E(product), dual(phi).value if closed else sp.Function("D")(p, q, c))


def _held(expr: sp.Expr) -> Callable[[Box], arb]:
    """Return box -> ball of an expression in p, q, c."""

    def value(box: Box) -> arb:
        a, b, rho = box.balls
        return ball(expr, {p: a, q: b, c: rho * (a * b).sqrt()})

    return value


def size_of(phi: Activation) -> Callable[[Box], float]:
    """Return box -> sqrt(E phi(u)^2 E phi(v)^2)."""

    def size(box: Box) -> float:
        second, other = q_map(phi, [float(box.p), float(box.q)])
        return float((second * other) ** 0.5)

    return size


def _integral(phi: Activation) -> Callable[[Box], arb]:
    return lambda box: dual_enclosure(phi.expr, phi.expr, *box.balls)


def _in_deviations(value: sp.Expr) -> sp.Expr:
    return put(
        {p: sp.sqrt(p), q: sp.sqrt(q), c: c / (p * q) ** sp.Rational(1, 4)}, value
    )


VARIANTS: Mapping[str, Variant] = {
    "standard deviations for variances": _in_deviations,
    "the other sign of the correlation": lambda value: put({c: -c}, value),
    "the constant at c = 0 dropped": lambda value: value - put({c: 0}, value),
    "half the covariance": lambda value: put({c: c / 2}, value),
    "the argument for the arcsine": lambda value: value.replace(sp.asin, lambda z: z),
}


def variants(value: sp.Expr) -> dict[str, sp.Expr]:
    """Return the wrong variants of a closed form that do differ from it."""
    at = {p: sp.Rational(3, 5), q: sp.Rational(7, 5), c: sp.Rational(-2, 5)}
    wrong = {name: make(value) for name, make in VARIANTS.items()}
    differs = (abs(sp.N(put(at, w - value))) > 1e-3 for w in wrong.values())
    return {
        name: w for (name, w), d in zip(wrong.items(), differs, strict=True) if bool(d)
    }


def _dual_claim(phi: Activation) -> Claim:
    value = dual(phi).value

    def against_integral(expr: sp.Expr) -> Enclosure:
        return Enclosure(_held(expr), _integral(phi), size_of(phi), share=0.1)

    return Claim(
        name=f"gaussian/{slug(phi)}-dual",
        statement=(statement(phi),),
        source=SOURCES.get(phi.name, HERE),
        instances=boxes(),
        evidence=(against_integral(value),),
        mutants={n: against_integral(w) for n, w in variants(value).items()},
        limits="The drawn boxes, a tenth of the profile's examples: centres with variances in "
        "[0.1, 10] and |rho| <= 1 - 1e-4, radius 1e-13 of the centre.",
    )


def slug(phi: Activation) -> str:
    """Return the name of a family, without parameters."""
    return phi.name.split("(")[0].strip("_").replace("_", "-")


# --- Differential equations -----------------------------------------------------------


def _moment(f: sp.Expr, g: sp.Expr) -> sp.Expr:
    return product_moment(f, g).value


def _price(
    phis: tuple[Activation, ...], order: tuple[int, int] = (1, 1), factor: int = 1
) -> Callable[[], dict[str, sp.Expr]]:
    """Return the differences d/dc E phi(u) phi(v) - E phi'(u) phi'(v), or a variant."""

    def differences() -> dict[str, sp.Expr]:
        found = {}
        for phi in phis:
            f, g = (_derivative(phi, n) for n in order)
            found[phi.name] = tidy(factor * sp.diff(dual(phi).value, c) - _moment(f, g))
        return found

    return differences


def _heat(
    phis: tuple[Activation, ...], factor: int = 2, second: int = 2
) -> Callable[[], dict[str, sp.Expr]]:
    """Return the differences 2 d/dp E phi(u) phi(v) - E phi''(u) phi(v), or a variant."""

    def differences() -> dict[str, sp.Expr]:
        found = {}
        for phi in phis:
            bend = _derivative(phi, second)
            found[phi.name] = tidy(
                factor * sp.diff(dual(phi).value, p) - _moment(bend, phi.expr)
            )
        return found

    return differences


def _derivative(phi: Activation, order: int) -> sp.Expr:
    expr = phi.expr
    for _ in range(order):
        expr = derivative(expr)
    return expr


# The second derivative of a jump is that of a delta; for bump SymPy takes long.
SMOOTH = tuple(phi for phi in CLOSED if phi not in (act.step, act.sign, bump))
SIMPLE = (act.relu, act.erf)  # one that fails is enough to refute a variant
u, v = sp.symbols("u v")
PHI, SLOPE, BEND = (sp.Function(name) for name in ("phi", "phi'", "phi''"))
PRODUCT = E(PHI(u) * PHI(v))

CLAIMS = (
    *map(_dual_claim, CLOSED),
    Claim(
        name="gaussian/price",
        statement=(sp.Eq(sp.Derivative(PRODUCT, c), E(SLOPE(u) * SLOPE(v))),),
        source=Source("Price (1958)", "theorem", "printed"),
        evidence=(Identity(_price(CLOSED)),),
        mutants={
            "phi' once": Identity(_price(SIMPLE, (0, 1))),
            "phi'' for phi'": Identity(_price(SIMPLE, (1, 2))),
            "a factor 2": Identity(_price(SIMPLE, factor=2)),
        },
        limits=f"For {len(CLOSED)} activations, each as SymPy derives both sides.",
    ),
    Claim(
        name="gaussian/heat-equation",
        statement=(sp.Eq(2 * sp.Derivative(PRODUCT, p), E(BEND(u) * PHI(v))),),
        source=HERE,
        evidence=(Identity(_heat(SMOOTH)),),
        mutants={
            "the 2 missing": Identity(_heat(SIMPLE, factor=1)),
            "phi' for phi''": Identity(_heat(SIMPLE, second=1)),
        },
        limits=f"For {len(SMOOTH)} activations without jumps.",
    ),
)
