"""Claims about dual activations: E phi(u) phi(v) against finite networks.

Source: Cho and Saul (2009) for ReLU, Williams (1997) for erf; both re-derived here.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from jaxtyping import Float

from asymptest.numerics.gram import correlation
from asymptest.numerics.kernel import kernel
from asymptest.theory.activations import Activation, erf, relu
from asymptest.theory.gaussian_calculus import dual
from asymptest.theory.network import Dense, Pointwise
from asymptest.theory.steps import E
from asymptest.verify.claim import Claim, Evidence, Source
from asymptest.verify.families import (
    kernel_limit,
    kernels_of_size,
    mean_kernel,
    natural_scale,
    upper,
)

Kernel = Float[np.ndarray, "T T"]

POSITIONS = 3
# The remainder of the extrapolation over (8, 32, 128) is a_3 / (8 * 32 * 128) with a_3 the
# third coefficient of the expansion in 1/width; a_3 <= 30 leaves 1e-3.
WIDTHS, BIAS = (8, 32, 128), 1e-3


def statement(phi: Activation) -> Any:
    """Return E phi(u) phi(v) = its derived dual."""
    function = sp.Function(phi.name)
    return sp.Eq(
        E(function(sp.Symbol("u")) * function(sp.Symbol("v"))), dual(phi).value
    )


def _evidence(phi: Activation, spread: float) -> tuple[Evidence, Evidence]:
    """Two finite networks: Gaussian weights, and the Haar input alone.

    On an exact kernel the features after Gaussian weights are independent N(0, K), so the
    mean is exact at every width; a Haar input is Gaussian only as the width grows.
    """
    exact = mean_kernel(
        lambda _: Dense() >> Pointwise(phi),
        lambda K0: K0,
        lambda K0: kernel(Pointwise(phi), K0),
        widths=(16,),
        spread=spread / 4,
    )
    limit = kernel_limit(lambda _: Pointwise(phi), lambda K0: K0, WIDTHS, spread, BIAS)
    return exact, limit


def _with(evidence: Evidence, wrong) -> Evidence:
    """Return a mutant that predicts `wrong(K0)`."""
    return replace(evidence, predict=lambda K0, *_: upper(wrong(K0)))


def _angles(K0: Kernel) -> Kernel:
    return np.arccos(correlation(K0))


def _relu_arccos_flipped(K0: Kernel) -> Kernel:
    angle = _angles(K0)
    return natural_scale(K0) / (2 * np.pi) * (np.sin(angle) + angle * np.cos(angle))


def _relu_without_angle(K0: Kernel) -> Kernel:
    return natural_scale(K0) / (2 * np.pi) * np.sin(_angles(K0)) + K0 / 2


# sqrt(width) * std of an entry / scale is sqrt(E phi^4 / (E phi^2)^2 - 1) on the diagonal:
# for ReLU sqrt((3/2) / (1/4) - 1) = sqrt(5); off the diagonal less, by Cauchy and Schwarz
# at most sqrt(6). For erf phi^2 <= 1 varies less than for the identity, where it is sqrt(2).
RELU_EXACT, RELU_LIMIT = _evidence(relu, 6**0.5)
ERF_EXACT, ERF_LIMIT = _evidence(erf, 2**0.5)


def _erf_standard_deviation(K0: Kernel) -> Kernel:
    """The slip of using standard deviations for variances: invisible at K_ii = 1."""
    root = np.sqrt(np.diagonal(K0))
    inside = 2 * K0 / np.sqrt((1 + 2 * root)[:, None] * (1 + 2 * root)[None, :])
    return 2 / np.pi * np.arcsin(np.clip(inside, -1, 1))


def _erf_without_one(K0: Kernel) -> Kernel:
    return 2 / np.pi * np.arcsin(correlation(K0))


CLAIMS = (
    Claim(
        name="gaussian/relu-dual",
        statement=(statement(relu),),
        source=Source("Cho and Saul (2009)", "arc-cosine kernel of degree 1, halved"),
        instances=kernels_of_size(POSITIONS),
        evidence=(RELU_EXACT, RELU_LIMIT),
        mutants={
            "the 1/2 missing": _with(
                RELU_EXACT, lambda K: 2 * kernel(Pointwise(relu), K)
            ),
            "arccos for pi - arccos": _with(RELU_EXACT, _relu_arccos_flipped),
            "arcsine term missing": _with(RELU_LIMIT, _relu_without_angle),
            "standard deviation for variance": _with(
                RELU_EXACT,
                lambda K: kernel(Pointwise(relu), K / natural_scale(K) ** 0.5),
            ),
        },
        limits="Kernels of three positions, correlations up to about 0.9.",
    ),
    Claim(
        name="gaussian/erf-dual",
        statement=(statement(erf),),
        source=Source("Williams (1997)", "the arcsine kernel"),
        instances=kernels_of_size(POSITIONS),
        evidence=(ERF_EXACT, ERF_LIMIT),
        mutants={
            "standard deviation for variance": _with(
                ERF_EXACT, _erf_standard_deviation
            ),
            "1 + 2 q without the 1": _with(ERF_EXACT, _erf_without_one),
            "2/pi missing": _with(
                ERF_LIMIT, lambda K: np.pi / 2 * kernel(Pointwise(erf), K)
            ),
        },
        limits="Kernels of three positions, correlations up to about 0.9.",
    ),
)
