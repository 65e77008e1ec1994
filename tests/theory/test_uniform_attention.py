"""Uniform attention: against Gaussian moments monomial by monomial, and SymPy's derivatives."""

from collections.abc import Callable
from functools import reduce
from itertools import product
from typing import Any

import pytest
import sympy as sp

from asymptest.theory.definition import N_IN, T
from asymptest.theory.substitution import put
from asymptest.theory.uniform_attention import (
    ALPHA,
    HEAD,
    C,
    F,
    beyond_mean,
    gradient_form,
    query_gradient,
    similarity,
    similarity_factors,
    similarity_step,
)
from asymptest.theory.wick.tensors import Poly


def gaussian_mean(expr: Any, weights: Any, variance: Any) -> Any:
    """E of a polynomial in independent N(0, variance) symbols: sigma^k (k - 1)!!."""
    mean = sp.Integer(0)
    for powers, coefficient in sp.Poly(sp.expand(expr), *weights).terms():
        if all(k % 2 == 0 for k in powers):
            moments = (sp.factorial2(k - 1) * variance ** (k // 2) for k in powers)
            mean += coefficient * sp.prod(moments)
    return mean


def matrix(rows: int, columns: int, entry: Callable[[int, int], Any]) -> Any:
    return sp.Matrix(rows, columns, entry)


def random_matrix(name: str, rows: int, columns: int) -> Any:
    return matrix(rows, columns, lambda i, j: sp.Symbol(f"{name}{i}{j}"))


@pytest.mark.parametrize(("positions", "width"), [(2, 1), (3, 1), (2, 2)])
def test_a_block_in_the_open(positions: int, width: int) -> None:
    """C and F of Y written out in the entries of all four weight matrices."""
    X = matrix(positions, width, lambda i, j: sp.Integer(3 * i + j * i + 1 - 2 * j))
    WV, WO, W1, W2 = (random_matrix(name, width, width) for name in "VOab")
    a_1, a_2 = sp.Rational(2, 3), sp.Rational(3, 5)
    A = matrix(positions, positions, lambda i, j: sp.Rational(1, positions))
    Z = X + a_1 * A * X * WV * WO
    # W1 and W2 are in no other factor, so that the mean over them comes first.
    Y = Z + a_2 * Z * W1 * W2
    late, early = [list(W1) + list(W2), list(WV) + list(WO)]
    variance = sp.Rational(1, width)

    def mean(expr: Any) -> Any:
        return gaussian_mean(gaussian_mean(expr, late, variance), early, variance)

    ones = matrix(1, positions, lambda i, j: 1)
    found = mean(sum(e**2 for e in ones * Y)), mean(sum(e**2 for e in Y))
    numbers = {
        T: positions,
        ALPHA[0]: a_1,
        ALPHA[1]: a_2,
        C: sum(e**2 for e in ones * X),
        F: sum(e**2 for e in X),
    }
    assert tuple(part.subs(numbers) for part in similarity_step()) == found


def test_the_power_is_the_iterated_step() -> None:
    """Three blocks one after the other."""
    C_3, F_3 = C, F
    for _ in range(3):
        C_3, F_3 = (
            part.subs({C: C_3, F: F_3}, simultaneous=True) for part in similarity_step()
        )
    for closed, iterated in zip(similarity(3), (C_3, F_3), strict=True):
        assert sp.expand(closed - iterated) == 0


def test_the_rate_knows_nothing_of_the_mlp() -> None:
    assert beyond_mean(1).free_symbols == {ALPHA[0]}
    assert ALPHA[1] in similarity_factors()[1].free_symbols


def value(poly: Poly, tables: dict[str, Any], sizes: dict[sp.Symbol, int]) -> Any:
    """A polynomial without free indices, summed in the open."""
    result = sp.Integer(0)
    for term in poly.terms:
        bound = sorted(term.bound)
        ranges = (range(int(put(sizes, i.size))) for i in bound)
        coefficient = put(sizes, term.coefficient)
        for chosen in product(*ranges):
            at = dict(zip(bound, chosen, strict=True))
            entries = (
                tables[f.tensor.name][tuple(at[i] for i in f.indices)]
                for f in term.factors
            )
            result += coefficient * sp.prod(entries)
    return result


@pytest.mark.parametrize(
    ("positions", "width", "head"), [(2, 1, 1), (3, 2, 1), (2, 1, 2)]
)
def test_the_gradient_is_that_of_the_softmax(
    positions: int, width: int, head: int
) -> None:
    """SymPy differentiates softmax attention by every entry of W^Q, at W^Q = 0."""
    X = matrix(positions, width, lambda i, j: sp.Rational(2 * i - j + i * j, 3))
    WK = matrix(width, head, lambda i, j: sp.Rational(1 + i - 2 * j, 2))
    WV = matrix(width, head, lambda i, j: sp.Integer(2 - i + j))
    WQ = random_matrix("q", width, head)
    logits = X * WQ * (X * WK).T / sp.sqrt(head)
    rows = [[sp.exp(g) for g in logits.row(i)] for i in range(positions)]
    A = matrix(positions, positions, lambda i, j: rows[i][j] / sp.Add(*rows[i]))
    zero = dict.fromkeys(WQ, 0)
    squares = [
        sp.diff(entry, q).subs(zero) ** 2 for entry in A * X * WV for q in list(WQ)
    ]
    sizes = {T: positions, N_IN: width, HEAD: head}
    tables = {"X": X, "WK": WK, "WV": WV}
    for derived in (query_gradient(), gradient_form()):
        assert value(derived, tables, sizes) / head == reduce(sp.Add, squares)
