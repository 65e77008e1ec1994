"""Claims about evaluated duals: their numbers, and finite networks that must have them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from flint import arb
from hypothesis import strategies as st
from jaxtyping import Float

from asymptest.numerics.balls import ball
from asymptest.numerics.compile import closed_form
from asymptest.numerics.dual_maps import fourth_moment, q_map
from asymptest.numerics.duals import dual as evaluated
from asymptest.numerics.duals import entrywise
from asymptest.numerics.enclosure import dual_enclosure
from asymptest.numerics.gram import correlation
from asymptest.numerics.kernel import kernel
from asymptest.theory import activations as act
from asymptest.theory.activations import Activation
from asymptest.theory.gaussian_calculus import c, dual, p, q
from asymptest.theory.network import Dense, Pointwise
from asymptest.verify.boxes import Box, boxes
from asymptest.verify.catalogue.gaussian_calculus import (
    CLOSED,
    HERE,
    SOURCES,
    size_of,
    slug,
    statement,
    variants,
)
from asymptest.verify.claim import Claim, Enclosure, Evidence
from asymptest.verify.families import (
    kernel_limit,
    kernels_of_size,
    mean_kernel,
    natural_scale,
    upper,
)

Kernel = Float[np.ndarray, "T T"]
Case = tuple[Activation, Box]

BY_QUADRATURE = (act.tanh, act.sigmoid, act.silu, act.softplus, act.gelu_tanh)

# --- Numbers --------------------------------------------------------------------------

# What float64 may lose, in units of sqrt(E phi(u)^2 E phi(v)^2): a closed form is some tens of
# operations, and quadrature is asked for 1e-12.
ROUNDING, QUADRATURE = 5e-15, 1e-12
# exp((p + q) / 2) overflows, and exponents of 1e6 have no digits after the tenth.
WAVES = (act.exp, act.sin, act.cos, act.rbf(sp.Rational(1, 2)))


def _computed(slack: float, off: float = 0.0) -> Callable[[Case], arb]:
    """Return the number that users get, with the slack that it may have."""

    def value(case: Case) -> arb:
        phi, box = case
        found = float(evaluated(phi, *box.floats)) * (1 + off)
        return arb(found, slack * size_of(phi)(box))

    return value


def _closed(case: Case) -> arb:
    phi, box = case
    a, b, rho = box.floats
    covariance = sp.Rational(rho) * sp.sqrt(sp.Rational(a) * sp.Rational(b))
    return ball(dual(phi).value, {p: a, q: b, c: covariance}, prec=320)


def _integral(case: Case) -> arb:
    phi, box = case
    return dual_enclosure(phi.expr, phi.expr, *box.floats, accuracy=QUADRATURE / 8)


def _scale(case: Case) -> float:
    return size_of(case[0])(case[1])


def _numbers_claim(
    name: str, exact: Callable[[Case], arb], slack: float, share: float, cases: Any
) -> Claim:
    evidence = Enclosure(_computed(slack), exact, _scale, 4 * slack, share)
    off = 8 * slack
    return Claim(
        name=f"duals/{name}",
        statement=(sp.Le(sp.Symbol("error"), sp.Float(slack, 2) * sp.Symbol("scale")),),
        source=HERE,
        instances=cases,
        evidence=(evidence,),
        mutants={
            f"off by {off:.1g}": replace(evidence, left=_computed(slack, off)),
            "the diagonal for the entry": replace(evidence, left=_diagonal(slack)),
        },
        limits="The drawn variances and correlations, as many as the profile has examples.",
    )


def _diagonal(slack: float) -> Callable[[Case], arb]:
    def value(case: Case) -> arb:
        phi, box = case
        found = float(evaluated(phi, box.p, box.q, 1.0))
        return arb(found, slack * size_of(phi)(box))

    return value


def _cases(phis: tuple[Activation, ...], *ends: float) -> Any:
    return st.tuples(st.sampled_from(phis), boxes(*ends))


NUMBERS = (
    _numbers_claim(
        "closed-form-numbers",
        _closed,
        ROUNDING,
        1.0,
        _cases(tuple(phi for phi in CLOSED if phi not in WAVES), 1e-6, 1e6, 1e-15)
        | _cases(WAVES, 1e-6, 10.0, 1e-15),
    ),
    _numbers_claim(
        "quadrature-numbers",
        _integral,
        QUADRATURE,
        0.3,
        _cases(BY_QUADRATURE, 0.1, 10.0, 1e-6),
    ),
)


# --- Finite networks ------------------------------------------------------------------

POSITIONS = 3
# The remainder of the extrapolation over (8, 32, 128) is a_3 / (8 * 32 * 128) with a_3 the
# third coefficient of the expansion in 1/width; a_3 <= 30 leaves 1e-3.
WIDTHS, BIAS = (8, 32, 128), 1e-3
# The Haar input alone, no weights: sqrt(width) times an entry's standard deviation over its
# scale is sqrt(E phi^4 / (E phi^2)^2 - 1) on the diagonal, for ReLU sqrt(5), and off it at most
# sqrt(6). For erf phi^2 <= 1 varies less than for the identity, where it is sqrt(2).
LIMIT_SPREAD = {"relu": 6**0.5, "erf": 2**0.5}
# exp has heavy tails: at variance 2 its fourth moment is e^8 times its squared second one.
SHRINK = {"exp": 8.0}
# u^3 has E phi^4 = 46 (E phi^2)^2 at any variance: 1 % takes a while, and shows no more than
# the polynomials of degree 3 that are here.
MEASURED = tuple(phi for phi in (*CLOSED, *BY_QUADRATURE) if phi != act.monomial(3))


def _kernel_of(value: sp.Expr, shrink: float) -> Callable[[Kernel], Kernel]:
    """Return K0 -> the kernel that a closed form predicts."""
    return lambda K0: entrywise(closed_form(value), K0 / shrink)


def _networks_claim(phi: Activation) -> Claim:
    """Dense >> Pointwise on an exact kernel: features are independent N(0, K) at any width.

    So the mean kernel is exact at every width. An entry's standard deviation, in units of
    sqrt(E phi_i^2 E phi_j^2), is at most sqrt(max E phi^4 / (E phi^2)^2 / width).
    """
    shrink = SHRINK.get(phi.name, 1.0)
    K = np.linspace(0.5, 2.0, 7) / shrink
    spread = float((fourth_moment(phi, K) / q_map(phi, K) ** 2).max() ** 0.5)
    evidence = mean_kernel(
        lambda _: Dense() >> Pointwise(phi),
        lambda K0: K0 / shrink,
        lambda K0: kernel(Pointwise(phi), K0 / shrink),
        widths=(16,),
        spread=1.02 * spread / 4,
    )
    limit = ()
    if phi.name in LIMIT_SPREAD:
        haar = kernel_limit(
            lambda _: Pointwise(phi),
            lambda K0: K0,
            WIDTHS,
            LIMIT_SPREAD[phi.name],
            BIAS,
        )
        limit = (haar,)
    mutants = MUTANTS.get(phi.name)
    if mutants is None:
        wrong = variants(dual(phi).value)
        mutants = {name: _kernel_of(value, shrink) for name, value in wrong.items()}
    return Claim(
        name=f"duals/{slug(phi)}-networks",
        statement=(statement(phi),),
        source=SOURCES.get(phi.name, HERE),
        instances=kernels_of_size(POSITIONS),
        evidence=(evidence, *limit),
        mutants={name: _with(evidence, wrong) for name, wrong in mutants.items()},
        limits="Kernels of three positions, correlations up to about 0.9.",
    )


def _with(evidence: Evidence, wrong: Callable[[Kernel], Kernel]) -> Evidence:
    """Return a mutant that predicts `wrong(K0)`."""
    return replace(evidence, predict=lambda K0, *_: upper(wrong(K0)))


def _angles(K0: Kernel) -> Kernel:
    return np.arccos(correlation(K0))


def _relu_arccos_flipped(K0: Kernel) -> Kernel:
    angle = _angles(K0)
    return natural_scale(K0) / (2 * np.pi) * (np.sin(angle) + angle * np.cos(angle))


def _relu_without_angle(K0: Kernel) -> Kernel:
    return natural_scale(K0) / (2 * np.pi) * np.sin(_angles(K0)) + K0 / 2


def _erf_without_one(K0: Kernel) -> Kernel:
    return 2 / np.pi * np.arcsin(correlation(K0))


def _of(phi: Activation) -> Callable[[Kernel], Kernel]:
    return lambda K0: kernel(Pointwise(phi), K0)


# The slips that papers and code have made; the others get those of `variants`.
MUTANTS: dict[str, dict[str, Callable[[Kernel], Kernel]]] = {
    "relu": {
        "the 1/2 missing": lambda K0: 2 * kernel(Pointwise(act.relu), K0),
        "arccos for pi - arccos": _relu_arccos_flipped,
        "arcsine term missing": _relu_without_angle,
        "standard deviation for variance": lambda K0: kernel(
            Pointwise(act.relu), K0 / natural_scale(K0) ** 0.5
        ),
    },
    "erf": {
        "1 + 2 q without the 1": _erf_without_one,
        "2/pi missing": lambda K0: np.pi / 2 * kernel(Pointwise(act.erf), K0),
    },
    "tanh": {"erf for tanh": _of(act.erf)},
    "sigmoid": {
        "the mean 1/2 dropped": lambda K0: kernel(Pointwise(act.sigmoid), K0) - 0.25
    },
    "silu": {"ReLU for SiLU": _of(act.relu)},
    "softplus": {"ReLU for softplus": _of(act.relu)},
    "gelu_tanh": {"ReLU for GELU": _of(act.relu)},
}

CLAIMS = (*NUMBERS, *map(_networks_claim, MEASURED))
