"""Attention near identical tokens: against SymPy's derivatives of the softmax itself."""

from itertools import product
from typing import Any

import pytest
import sympy as sp

from asymptest.theory.definition import N_IN, I, T
from asymptest.theory.rank_collapse import attention, cubic_form, residual
from asymptest.theory.substitution import put
from asymptest.theory.wick.tensors import Index, Poly

EPS = sp.Symbol("epsilon")


def tables(positions: int, width: int) -> dict[str, Any]:
    """Tokens, the matrix of the logits and what all tokens have in common: rationals."""
    return {
        "Y": sp.Matrix(positions, width, lambda i, j: sp.Rational(i**2 - 2 * j + i, 3)),
        "M": sp.Matrix(width, width, lambda i, j: sp.Integer(1 + 2 * i - 3 * j)),
        "x": sp.Matrix(1, width, lambda _, j: sp.Rational(1 + j, 2)),
    }


def weights(given: dict[str, Any]) -> Any:
    """A(eps) of the tokens x + eps Y, from its definition."""
    Y, M, x = given["Y"], given["M"], given["x"]
    X = sp.ones(Y.rows, 1) * x + EPS * Y
    G = (X * M * X.T).expand()
    # Less the row's first, so that all exponentials are 1 at eps = 0.
    rows = [[sp.exp(g - G[i, 0]) for g in G.row(i)] for i in range(Y.rows)]
    return sp.Matrix([[e / sp.Add(*row) for e in row] for row in rows])


def coefficient(expr: Any, order: int) -> Any:
    """The coefficient of eps^order."""
    return sp.diff(expr, EPS, order).subs(EPS, 0) / sp.factorial(order)


def value(poly: Poly, given: dict[str, Any], at: dict[Index, int]) -> Any:
    """A polynomial in Y, M and b = x M Y^T at given indices."""
    Y, M, x = given["Y"], given["M"], given["x"]
    b = {(j,): value for j, value in enumerate(x * M * Y.T)}
    known = {"Y": Y, "M": M, "b": b}
    sizes = {T: Y.rows, N_IN: Y.cols}
    result = sp.Integer(0)
    for term in poly.terms:
        bound = sorted(term.bound)
        ranges = (range(int(put(sizes, i.size))) for i in bound)
        for chosen in product(*ranges):
            where = at | dict(zip(bound, chosen, strict=True))
            entries = (
                known[f.tensor.name][tuple(where[i] for i in f.indices)]
                for f in term.factors
            )
            result += put(sizes, term.coefficient) * sp.prod(entries)
    return result


@pytest.mark.parametrize(("positions", "width"), [(2, 1), (3, 2)])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_weights(positions: int, width: int, order: int) -> None:
    """Every entry of A, as far as the residual needs it."""
    given = tables(positions, width)
    A = weights(given)
    j = Index("j", T)
    for i, k in product(range(positions), repeat=2):
        derived = value(attention(order), given, {I: i, j: k})
        assert derived == coefficient(A[i, k], order)


@pytest.mark.parametrize(("positions", "width"), [(2, 1), (3, 2)])
def test_residual(positions: int, width: int) -> None:
    """A X between its rows: nothing up to eps^2, and the cubic term."""
    given = tables(positions, width)
    feature = Index("k", N_IN)

    def between(order: int) -> Any:
        A = weights(given).applyfunc(lambda e: coefficient(e, order - 1))
        output = A * given["Y"]
        return output - sp.ones(positions, positions) * output / positions

    assert between(1) == between(2) == sp.zeros(positions, width)
    third = between(3)
    for i, k in product(range(positions), range(width)):
        for cubic in (residual(3), cubic_form()):
            assert value(cubic, given, {I: i, feature: k}) == third[i, k]
