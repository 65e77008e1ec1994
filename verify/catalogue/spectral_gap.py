"""Claims about the singular values of softmax attention: one is 1, the others are small.

Entry C-10: Nait Saada et al. (2024), re-derived by theory/spectral_gap.py.
"""

import math
from dataclasses import replace

import numpy as np
import sympy as sp
import torch
from hypothesis import strategies as st
from jaxtyping import Float

from asymptest.theory.random_energy import T, b, weight_moment
from asymptest.theory.spectral_gap import second_singular_value
from asymptest.verify.claim import Claim, Limit, Rng, Source
from asymptest.verify.weights import normal

GAP = "Nait Saada, Naderi and Tanner (2024), arXiv 2410.07799"

_SECOND_VALUE = sp.lambdify(b, second_singular_value())
_STABLE_RANK = sp.lambdify(b, weight_moment(2))


def _spectra(deviation: float, size: int, copies: int, rng: Rng) -> np.ndarray:
    """Return s_1, sqrt(T) s_2 and the stable rank of softmax matrices in torch."""
    logits = deviation * normal(copies, size, size, generator=rng)
    A = torch.softmax(logits, -1)
    squares = torch.linalg.eigvalsh(A @ A.mT)
    first, second = squares[:, -1], squares[:, -2]
    stable_rank = squares.sum(-1) / first
    columns = [first.sqrt(), (size * second).sqrt(), stable_rank]
    return torch.stack(columns, -1).numpy()


def _values(deviation: float, second: float = 1.0) -> Float[np.ndarray, " 3"]:
    singular = second * _SECOND_VALUE(deviation)
    return np.array([1.0, singular, _STABLE_RANK(deviation)])


SPECTRUM = Limit(
    sample=_spectra,
    predict=_values,
    scale=_values,
    widths=(32, 64, 128),
    # A largest singular value fluctuates by T^(-2/3), less than T^(-1/2).
    spread=0.4,
    # s_2 falls short of its limit by 0.4 T^(-2/3), as the edge of a Gaussian matrix does; the
    # extrapolation in 1/T leaves 0.5 % of that.
    bias=0.007,
    coarseness=5,
)

SINGULAR_VALUES = Claim(
    name="spectral-gap/independent-logits",
    statement=(
        sp.Eq(sp.Limit(sp.Function("s_1")(T), T, sp.oo), 1),
        sp.Eq(
            sp.Limit(sp.sqrt(T) * sp.Function("s_2")(T), T, sp.oo),
            second_singular_value(),
        ),
        sp.Eq(sp.Symbol("|A|_F^2 / s_1^2"), weight_moment(2)),
    ),
    source=Source(GAP, "spectral gap of attention at initialisation (entry C-10)"),
    instances=st.floats(0.4, 0.5),
    evidence=(SPECTRUM,),
    mutants={
        "s_2 ~ 1/T": replace(SPECTRUM, predict=lambda at: _values(at, 0.0)),
        "no factor 2": replace(SPECTRUM, predict=lambda at: _values(at, 0.5)),
        "e^(b^2) without - 1": replace(
            SPECTRUM,
            predict=lambda at: _values(at, 2 * math.exp(at**2 / 2) / _SECOND_VALUE(at)),
        ),
        "stable rank 1": replace(
            SPECTRUM, predict=lambda at: np.array([1.0, _SECOND_VALUE(at), 1.0])
        ),
    },
    limits="Independent logits, b from 0.4 to 0.5; the tails of the weights make larger b slow.",
)

CLAIMS = (SINGULAR_VALUES,)
