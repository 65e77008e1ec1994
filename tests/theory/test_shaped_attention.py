"""The coefficients of shaped attention: against SymPy's Hessians and Gaussian covariances."""

from itertools import product
from typing import Any

import pytest
import sympy as sp

from asymptest.theory.definition import I, J, T
from asymptest.theory.shaped_attention import (
    GAMMA,
    I2,
    J2,
    TAU_0,
    diffusion,
    diffusion_form,
    drift,
    drift_form,
)
from asymptest.theory.substitution import put
from asymptest.theory.wick.tensors import Index, Poly

SIZE = 3
V: Any = sp.Matrix([[2, -1, 1], [-1, 3, 0], [1, 0, 4]])
NUMBERS: dict[Any, Any] = {
    T: SIZE,
    GAMMA: sp.Rational(2, 3),
    TAU_0: sp.Rational(3, 5),
}
KEYS = range(SIZE)


def value(poly: Poly, at: dict[Index, int]) -> Any:
    """A polynomial in V at given indices."""
    result = sp.Integer(0)
    for term in poly.terms:
        bound = sorted(term.bound)
        coefficient = put(NUMBERS, term.coefficient)
        for chosen in product(KEYS, repeat=len(bound)):
            where = at | dict(zip(bound, chosen, strict=True))
            entries = (V[tuple(where[i] for i in f.indices)] for f in term.factors)
            result += coefficient * sp.prod(entries)
    return result


def derivatives() -> tuple[list[Any], list[Any]]:
    """First and second derivatives of each softmax weight at equal logits, by SymPy."""
    logits = sp.symbols(f"g:{SIZE}")
    zero = dict.fromkeys(logits, 0)
    e = [sp.exp(g) for g in logits]
    share = [w / sp.Add(*e) for w in e]
    first = [[put(zero, sp.diff(w, g)) for g in logits] for w in share]
    second = [
        [[put(zero, sp.diff(w, g, h)) for g in logits] for h in logits] for w in share
    ]
    return first, second


FIRST, SECOND = derivatives()


def covariance(a: int, i: int, b: int, j: int) -> Any:
    """Cov(G_ai, G_bj) = V_ab V_ij, over tau_0^2."""
    return V[a, b] * V[i, j] / NUMBERS[TAU_0] ** 2


def mean_weight(a: int, i: int) -> Any:
    """The mean of A[a, i] to second order in its row's logits."""
    return sum(
        SECOND[i][k][m] * covariance(a, k, a, m) / 2 for k, m in product(KEYS, repeat=2)
    )


def both_weights(a: int, i: int, b: int, j: int) -> Any:
    """The covariance of A[a, i] and A[b, j] to first order in their logits."""
    return sum(
        FIRST[i][k] * FIRST[j][m] * covariance(a, k, b, m)
        for k, m in product(KEYS, repeat=2)
    )


@pytest.mark.parametrize(("i", "j"), [(0, 0), (0, 1), (2, 1)])
def test_drift(i: int, j: int) -> None:
    """gamma^2 times the mean of A V A^T to second order, A = I + softmax - 1/m."""
    second = sum(
        mean_weight(i, a) * V[a, j] + V[i, a] * mean_weight(j, a) for a in KEYS
    )
    second += sum(
        V[a, b] * both_weights(i, a, j, b) for a, b in product(KEYS, repeat=2)
    )
    for derived in (drift(), drift_form()):
        assert value(derived, {I: i, J: j}) == second * NUMBERS[GAMMA] ** 2


@pytest.mark.parametrize(("i", "j"), [(0, 0), (0, 1)])
@pytest.mark.parametrize(("k", "m"), [(0, 2), (1, 1)])
def test_diffusion(i: int, j: int, k: int, m: int) -> None:
    """Isserlis for X' ~ N(lambda X, gamma^2 V) feature by feature, and the logits' part."""
    square = NUMBERS[GAMMA] ** 2
    noise, mean = square * V, (1 - square) * V  # covariance, and product of means
    weights = sum(
        noise[a, b] * noise[c, d] + mean[a, b] * noise[c, d] + noise[a, b] * mean[c, d]
        for a, b, c, d in ((i, k, j, m), (i, m, j, k))
    )
    # A V A^T changes by dA V in its rows and V dA^T in its columns.
    logits = sum(
        V[a, left] * V[b, right] * both_weights(row, a, other, b)
        for row, left in ((i, j), (j, i))
        for other, right in ((k, m), (m, k))
        for a, b in product(KEYS, repeat=2)
    )
    at = {I: i, J: j, I2: k, J2: m}
    for derived in (diffusion(), diffusion_form()):
        assert value(derived, at) == weights + logits * square**2


def test_no_noise_without_a_branch() -> None:
    """At gamma = 0 a layer is the identity."""
    for poly in (drift(), diffusion()):
        assert all(put({GAMMA: 0}, t.coefficient) == 0 for t in poly.terms)
