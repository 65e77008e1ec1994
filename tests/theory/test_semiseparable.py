"""Cholesky factors with a scalar state: L L' = Sigma and L L^(-1) = 1, and mpmath's factors."""

import mpmath
import pytest
import sympy as sp
from sympy.concrete.gosper import gosper_sum

from asymptest.theory.semiseparable import (
    Factor,
    at,
    cholesky,
    i,
    inverse_cholesky,
    state_variance,
)
from asymptest.theory.substitution import put

SIZE = 6
B = sp.Symbol("b", positive=True)
RHO = sp.Symbol("rho", positive=True)
UNIFORM, EXPONENTIAL = (sp.Integer(1), RHO), (B, B)
POSITIVE = {"integer": True, "positive": True}
J, M, N = (sp.Symbol(name, **POSITIVE) for name in "jmn")

Pair = tuple[sp.Expr, sp.Expr]


def sigma(pair: Pair, row: sp.Expr, column: sp.Expr) -> sp.Expr:
    """The kernel, by its definition."""
    ratio, coupling = pair
    distance = abs(row - column)
    return sp.Integer(1) if distance == 0 else coupling * ratio ** (distance - 1)


def matrix(factor: Factor) -> sp.Matrix:
    return sp.Matrix(SIZE, SIZE, lambda r, c: factor.entry(r + 1, c + 1))


def cancelled(expr: sp.Expr) -> sp.Expr:
    """Square roots come in pairs, which products unite."""
    return sp.cancel(sp.expand_mul(expr))


@pytest.mark.parametrize("pair", [UNIFORM, EXPONENTIAL])
def test_the_factor_and_its_inverse_entry_by_entry(pair: Pair) -> None:
    L, inverse = matrix(cholesky(*pair)), matrix(inverse_cholesky(*pair))
    kernel = sp.Matrix(SIZE, SIZE, lambda r, c: sigma(pair, r, c))
    assert (L * L.T).applyfunc(cancelled) == kernel
    assert (L * inverse).applyfunc(cancelled) == sp.eye(SIZE)
    assert L.is_lower
    assert inverse.is_lower


@pytest.mark.parametrize("pair", [UNIFORM, EXPONENTIAL])
@pytest.mark.parametrize("row", [J + 2, J + M + 2], ids=str)
def test_the_factor_at_any_two_positions(pair: Pair, row: sp.Expr) -> None:
    """The sum over j of L_ij L_kj telescopes to the kernel for every i >= k > 1."""
    L, column = cholesky(*pair), J + 2
    first = L.entry(row, 1) * L.entry(column, 1)
    between = sp.factor(L.entry(row, N + 1) * L.entry(column, N + 1))
    found = first + gosper_sum(between, (N, 1, J))
    found += L.entry(row, column) * L.entry(column, column)
    assert sp.simplify(found - sigma(pair, row, column)) == 0


@pytest.mark.parametrize(
    "pair",
    [
        (sp.Integer(1), -sp.Rational(1, 10)),  # equal negative correlations
        (sp.Integer(0), sp.Rational(1, 3)),  # neighbours only: a moving average
    ],
    ids=str,
)
def test_other_kernels_with_a_scalar_state(pair: Pair) -> None:
    """What the factors do to each unit vector, walked by hand, against mpmath's factors."""
    kernel = mpmath.matrix(SIZE)
    for r in range(SIZE):
        for c in range(SIZE):
            kernel[r, c] = mpmath.mpmathify(sigma(pair, sp.Integer(r), sp.Integer(c)))
    L = mpmath.cholesky(kernel)
    for factor, expected in (
        (cholesky(*pair), L),
        (inverse_cholesky(*pair), mpmath.inverse(L)),
    ):
        found = walked(factor)
        for r in range(SIZE):
            for c in range(SIZE):
                assert abs(found[r][c] - float(expected[r, c])) <= 1e-13


def walked(factor: Factor) -> list[list[float]]:
    """Run the two equations of Factor's definition on each unit vector."""
    parts = (factor.diagonal, factor.output, factor.ratio, factor.input)
    rows: list[list[float]] = []
    state = [0.0] * SIZE
    for position in range(1, SIZE + 1):
        d, out, ratio, into = (float(sp.re(at(part, position))) for part in parts)
        unit = [float(c == position - 1) for c in range(SIZE)]
        rows.append([out * s + d * x for s, x in zip(state, unit, strict=True)])
        state = [ratio * s + into * x for s, x in zip(state, unit, strict=True)]
    return rows


def test_the_state_starts_at_0() -> None:
    """P_2 is the coupling squared, whatever the ratio, and P solves its recursion."""
    for ratio, coupling in (UNIFORM, EXPONENTIAL):
        P = state_variance(ratio, coupling)
        assert sp.simplify(at(P, 2) - coupling**2) == 0
        following = ratio**2 * P + (coupling - ratio * P) ** 2 / (1 - P)
        assert sp.simplify(at(P, i + 1) - following) == 0


def test_values_in_place_of_symbols() -> None:
    L = cholesky(*UNIFORM)
    half = L.at_values({RHO: sp.Rational(1, 2)})
    assert half.entry(5, 2) == put({RHO: sp.Rational(1, 2)}, L.entry(5, 2))
    assert half.entry(2, 5) == 0
