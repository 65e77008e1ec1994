"""Claims about attention with finitely many heads: a kernel, and outputs that are not Gaussian.

Entry C-04: Hron et al. (2020), re-derived by theory/heads.py.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp
import torch
from hypothesis import strategies as st
from jaxtyping import Float

from asymptest.numerics.softmax_row import row_rule
from asymptest.theory.definition import HEADS
from asymptest.theory.heads import (
    excess_kurtosis,
    kernel_moment,
    moment,
    n,
    output_moment,
    over_heads,
)
from asymptest.theory.network import Attention
from asymptest.theory.patterns import Softmax
from asymptest.theory.steps import E, Var
from asymptest.verify.claim import Claim, FiniteLaw, Identity, Rng, Source
from asymptest.verify.finite import AttentionModule, finite, kernel_of
from asymptest.verify.inputs import exact_input

Kernel = Float[np.ndarray, "T T"]
Rows = Float[np.ndarray, " T"]

HRON = "Hron et al. (2020), arXiv 2006.10540"
HEADS_AT = {12: 1, 16: 2, 20: 4, 24: 8}  # width -> number of heads


@dataclass(frozen=True, eq=False)
class Layer:
    """Softmax attention at 1/sqrt(d): the kernel of its input, the variance of its logits."""

    K0: Kernel
    variance: float


def layer(seed: int, variance: float) -> Layer:
    """Return three tokens around their mean, so that the length of a row's mean fluctuates."""
    rows = np.random.default_rng(seed).standard_normal((3, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Layer(np.eye(3) - 1 / 3 + rows @ rows.T / 10, variance)


@lru_cache(maxsize=1024)
def moments(layer: Layer, width: int) -> tuple[Rows, Rows]:
    """Return E v and E v^2 for v = (A K A^T)_aa, for each row a."""
    found: list[list[float]] = []
    for a in range(len(layer.K0)):
        rule = row_rule(layer.K0, a, layer.variance, width // HEADS_AT[width])
        v = _lengths(rule.rows, layer.K0)
        found.append([rule.mean(v), rule.mean(v**2)])
    mean, square = np.transpose(found)
    return mean, square


def _lengths(
    A: Float[np.ndarray, "*stack T"], K: Kernel
) -> Float[np.ndarray, "*stack"]:
    """Return (A K A^T)_aa for rows of A."""
    return np.einsum("...i,ij,...j->...", A, K, A)


_KURTOSIS = sp.lambdify((moment(1), moment(2), HEADS, n), excess_kurtosis())


def kurtosis(layer: Layer, width: int) -> Rows:
    """Return the derived excess kurtosis of the outputs of each row."""
    return _KURTOSIS(*moments(layer, width), HEADS_AT[width], width)


def _measured(layer: Layer, width: int, copies: int, rng: Rng) -> np.ndarray:
    """Return three numbers for each row of torch networks, in units of the mean kernel.

    * The kernel K'_aa itself.
    * The fourth moment of an output, as 3 n / (n + 2) K'_aa^2, which has the same mean
      (`_fourth_moment`) and fluctuates less.
    * The kurtosis that is left at infinite width, 3 Cov(K'_aa, v), v the mean over the heads:
      over W^V and W^O the kernel has the mean v at every width.
    """
    network = Attention(Softmax(variance=layer.variance), heads=HEADS_AT[width])
    module = finite(network, width, copies, rng)
    assert isinstance(module.body, AttentionModule)
    X = exact_input(layer.K0, width, copies, rng)
    mean, _ = moments(layer, width)
    own = np.diagonal(kernel_of(module, X), axis1=1, axis2=2) / mean
    with torch.no_grad():
        A = module.body.pattern(X).numpy()
    v = _lengths(A, layer.K0).mean(1) / mean
    fourth = 3 * width / (width + 2) * own**2
    return np.concatenate([own, fourth, 3 * (own - 1) * (v - 1)], axis=1)


def _law(layer: Layer, width: int, wide: float = 1.0) -> np.ndarray:
    """Return the means, with the kurtosis at infinite width times `wide`."""
    mean, square = moments(layer, width)
    narrow = 6 * square / (width * mean**2)
    mixed = wide * (kurtosis(layer, width) - narrow)
    return np.concatenate([np.ones(len(mean)), 3 + mixed + narrow, mixed])


def _with_kernel(layer: Layer, width: int, A: Kernel) -> np.ndarray:
    """Return the means, that of the kernel being A K A^T."""
    found = _law(layer, width)
    found[: len(A)] = _lengths(A, layer.K0) / moments(layer, width)[0]
    return found


def _mean_matrix(layer: Layer) -> Kernel:
    K = layer.K0
    rules = (row_rule(K, a, layer.variance, np.inf) for a in range(len(K)))
    return np.array([rule.weights @ rule.rows for rule in rules])


def _softmax_of_kernel(layer: Layer) -> Kernel:
    weights = np.exp(layer.variance * layer.K0)
    return weights / weights.sum(1, keepdims=True)


LAW = FiniteLaw(
    sample=_measured,
    predict=_law,
    scale=_law,
    widths=tuple(HEADS_AT),
    spread=3.5,  # of each number, in units of its mean; measured, it is up to 3.3
    group=16,
    coarseness=25,
)


def _fourth_moment(factor: sp.Expr = 3 * n / (n + 2)) -> dict[str, sp.Expr]:
    """Return E Y^4 less its multiple of E K'_aa^2."""
    fourth, square = over_heads(output_moment(4)), over_heads(kernel_moment(2))
    return {"E Y^4": sp.cancel(fourth / square) - factor}


def _limits(heads: sp.Expr = HEADS) -> dict[str, sp.Expr]:
    """Return the kurtosis at infinite width less 3 Var v / (H E[v]^2), and for H -> oo."""
    variance, square = moment(2) - moment(1) ** 2, moment(1) ** 2
    wide = sp.limit(excess_kurtosis(), n, sp.oo)
    return {
        "n -> oo": wide - 3 * variance / (heads * square),
        "H -> oo": sp.limit(wide, HEADS, sp.oo),
    }


V = sp.Symbol("(A K A^T)_aa")
_LAW_OF_V: Any = (E(V), E(V**2), Var(V))
_MEAN, _SQUARE, _VARIANCE = _LAW_OF_V
KURTOSIS = Claim(
    name="heads/kurtosis",
    statement=(
        sp.Eq(E(sp.Symbol("K'_aa")), _MEAN),
        sp.Eq(
            sp.Symbol("kurtosis(Y_ak) - 3"),
            3 * _VARIANCE / (HEADS * _MEAN**2) + 6 * _SQUARE / (n * _MEAN**2),
        ),
    ),
    source=Source(
        HRON, "softmax at 1/sqrt(d) is Gaussian as H -> oo only (entry C-04)"
    ),
    instances=st.builds(layer, st.integers(0, 2**32), st.floats(1, 4)),
    evidence=(LAW, Identity(_fourth_moment), Identity(_limits)),
    mutants={
        "Gaussian at every H": replace(LAW, predict=lambda at, m: _law(at, m, 0.0)),
        "1/H^2": replace(LAW, predict=lambda at, m: _law(at, m, 1 / HEADS_AT[m])),
        "independent of H": replace(
            LAW, predict=lambda at, m: _law(at, m, HEADS_AT[m])
        ),
        "E[A] K E[A]^T": replace(
            LAW, predict=lambda at, m: _with_kernel(at, m, _mean_matrix(at))
        ),
        "softmax(s K) as at 1/d": replace(
            LAW, predict=lambda at, m: _with_kernel(at, m, _softmax_of_kernel(at))
        ),
        "n / (n + 2) missing": Identity(lambda: _fourth_moment(sp.Integer(3))),
        "1/H^2 at infinite width": Identity(lambda: _limits(HEADS**2)),
    },
    limits="Three positions, no mask, 1 to 8 heads in torch; the law is exact at every "
    "width, given that of a row of attention.",
)

CLAIMS = (KURTOSIS,)
