"""The expansion of the softmax kernel: against SymPy's own series and Gaussian moments."""

import itertools

import pytest
import sympy as sp

from asymptest.theory.definition import I, J, T
from asymptest.theory.softmax_expansion import (
    given_logits,
    mean_product,
    weight,
)
from asymptest.theory.wick.tensors import Index, Poly

SIZE = 2
EPS = sp.Symbol("epsilon")


def numbers(name: str, symmetric: bool) -> dict[tuple[int, ...], sp.Expr]:
    """Return rational entries of a 2 x 2 matrix without further structure."""
    values = {
        "P": (3, 7, 4, 5),
        "C": (5, 2, 2, 3),
        "K": (7, 1, 1, 4),
        "V": (2, 9, 5, 1),
    }
    flat = dict(
        zip(itertools.product(range(SIZE), repeat=2), values[name], strict=True)
    )
    if name == "P":
        rows = [sum(flat[a, k] for k in range(SIZE)) for a in range(SIZE)]
        return {(a, k): sp.Rational(flat[a, k], rows[a]) for a, k in flat}
    assert not symmetric or flat[0, 1] == flat[1, 0]
    return {at: sp.Integer(value) for at, value in flat.items()}


TABLES = {
    "P": numbers("P", False),
    "C": numbers("C", True),
    "K": numbers("K", True),
    "V": numbers("V", False),
    "G": {
        (a, k): sp.Symbol(f"g{a}{k}", real=True)
        for a, k in itertools.product(range(SIZE), repeat=2)
    },
}


def value(poly: Poly, at: dict[Index, int]) -> sp.Expr:
    """Return a polynomial in the tensors of TABLES, every index from 0 to SIZE - 1."""
    result = sp.Integer(0)
    for term in poly.terms:
        bound = sorted(term.bound)
        for chosen in itertools.product(range(SIZE), repeat=len(bound)):
            where = at | dict(zip(bound, chosen, strict=True))
            factors = (
                TABLES[f.tensor.name][tuple(where[i] for i in f.indices)]
                for f in term.factors
            )
            result += term.coefficient * sp.prod(factors)
    return sp.expand(result)


def attention(a: int) -> list[sp.Expr]:
    """Return row a of the softmax of log P + epsilon G, by its definition."""
    weights = [TABLES["P"][a, k] * sp.exp(EPS * TABLES["G"][a, k]) for k in range(SIZE)]
    return [w / sp.Add(*weights) for w in weights]


def coefficient(expr: sp.Expr, order: int) -> sp.Expr:
    """Return the coefficient of epsilon^order."""
    derivative = sp.diff(expr, EPS, order).subs(EPS, 0)
    return sp.expand(derivative / sp.factorial(order))


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_weights_are_the_series_of_the_softmax(order: int) -> None:
    key = Index("k", T)
    derived = weight(order, I, key, given_logits)
    for a, k in itertools.product(range(SIZE), repeat=2):
        assert value(derived, {I: a, key: k}) == coefficient(attention(a)[k], order)


@pytest.mark.parametrize("a", range(SIZE))
@pytest.mark.parametrize("b", range(SIZE))
def test_mean_is_that_of_the_series_of_the_kernel(a: int, b: int) -> None:
    """Second order in epsilon of E A V A^T: half its Hessian in G against the covariance."""
    entry = sp.Add(
        *(
            attention(a)[i] * TABLES["V"][i, j] * attention(b)[j]
            for i, j in itertools.product(range(SIZE), repeat=2)
        )
    )
    second = coefficient(entry, 2)
    expected = sp.Integer(0)
    for (x, g), (y, h) in itertools.product(TABLES["G"].items(), repeat=2):
        covariance = TABLES["C"][x[0], y[0]] * TABLES["K"][x[1], y[1]]
        expected += sp.diff(second, g, h) * covariance / 2
    left = value(mean_product(2, 0), {I: a, J: b})
    both = value(mean_product(1, 1), {I: a, J: b})
    right = value(mean_product(0, 2), {I: a, J: b})
    assert left + both + right == expected


def test_odd_orders_have_mean_zero() -> None:
    assert mean_product(1, 0).terms == ()
    assert mean_product(2, 1).terms == ()
