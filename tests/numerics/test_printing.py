"""Generated NumPy code: SymPy's own values, in few operations at full size."""

import inspect
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special

from asymptest.numerics.compile import VECTORS, activation_function
from asymptest.numerics.printing import function
from asymptest.numerics.stable import (
    Dawson,
    ExpDifference,
    OneMinus,
    a,
    b,
    rho,
    stable,
    w,
)
from asymptest.theory import activations as act
from asymptest.theory.gaussian_calculus import c, dual, p, q

VALUES = {a: np.array([[0.3], [1.0], [2.5]]), b: np.array([[0.7, 1.9]])}
VALUES |= {rho: np.array([[0.1, -0.8], [0.99, 0.4], [-0.3, 0.6]])}
VALUES |= {w: 1 - VALUES[rho] ** 2}
SYMBOLS = list(VALUES)


def by_sympy(expr: Any) -> np.ndarray:
    """Evaluate at each entry with SymPy, to 25 digits."""
    arrays = np.broadcast_arrays(*VALUES.values())
    entries = zip(*(array.ravel() for array in arrays), strict=True)
    found = [
        complex(
            sp.N(expr.subs(dict(zip(SYMBOLS, map(sp.Float, entry), strict=True))), 25)
        )
        for entry in entries
    ]
    assert not np.imag(found).any()
    return np.real(found).reshape(arrays[0].shape)


def evaluated(expr: Any, shapes: Any) -> np.ndarray:
    value = function(SYMBOLS, expr, shapes)(*VALUES.values())
    return np.broadcast_to(value, VALUES[rho].shape)


NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.fractions(-3, 3, max_denominator=7),
    st.sampled_from(
        [sp.pi, 1 / sp.pi, sp.sqrt(2), sp.E, sp.Float(0.1), sp.sqrt(2) * sp.pi]
    ),
).map(sp.sympify)
POSITIVE = st.sampled_from([a, b, w, 1 + a**2, 2 + rho, a + b, 1 + a * b * rho**2])
HALVES = [sp.Rational(n, 2) for n in (-5, -3, -1, 1, 3, 7)]
THIRDS = [sp.Rational(n, 3) for n in (-2, 1)]
EXPONENTS = st.sampled_from([-3, -2, -1, 2, 5, 16, 17, 20, *HALVES, *THIRDS])
POWERS = st.builds(sp.Pow, POSITIVE, EXPONENTS)


def wider(part: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(sp.Add, part, part),
        st.builds(sp.Add, part, part, part),
        st.builds(sp.Mul, part, part),
        st.builds(sp.Mul, NUMBERS, part, part),
        st.builds(lambda e, n: e**n, part, st.sampled_from([2, 3])),
        st.builds(lambda e: 1 / (1 + e**2), part),
        st.builds(lambda e: sp.exp(-(e**2)), part),
        st.builds(sp.erf, part),
        st.builds(sp.atan, part),
        st.builds(lambda e: sp.atan2(e, 1 + e**2), part),
    )


EXPRESSIONS = st.recursive(
    st.one_of(NUMBERS, POWERS, st.sampled_from(SYMBOLS)), wider, max_leaves=8
)


def error_size(expr: Any) -> Any:
    """Return what the error of a value is at most, in relative errors of its leaves."""
    if not expr.args:
        return sp.Abs(expr)
    sizes = [error_size(part) for part in expr.args]
    match expr:
        case sp.Mul():
            return sp.Mul(*sizes)
        case sp.Pow():
            base, exponent = expr.args
            slope = sp.Abs(exponent) * sp.Abs(base) ** (exponent - 1)
            return sp.Abs(expr) + slope * sizes[0]
        case sp.exp():
            return expr * (1 + sizes[0])
        case _:  # sums; erf, atan and atan2 have slopes below 2
            return sp.Add(*sizes)


@settings(max_examples=60)
@given(EXPRESSIONS)
@example((a + 1) ** 2 / sp.sqrt(w) + sp.exp(-(b**2)) * rho ** sp.Rational(2))
@example(-a * b / sp.pi - sp.Rational(1, 3) * rho)
@example(w**17 + (1 + a * b) ** sp.Rational(-33, 2))
def test_the_code_has_the_value_of_the_expression(expr: Any) -> None:
    """Sums, products, whole, half and third powers, quotients, erf, exp and atan, nested."""
    expected, budget = by_sympy(expr), 1e-14 * by_sympy(error_size(expr))
    assert (np.abs(evaluated(expr, VECTORS) - expected) <= budget).all()
    assert (np.abs(evaluated(expr, {}) - expected) <= budget).all()


@pytest.mark.parametrize(
    ("expr", "at", "value"),
    [
        (Dawson(rho), 0.5, special.dawsn(0.5)),
        (ExpDifference(3 * rho, -rho, 2 * rho), 0.5, np.exp(1.5) - np.exp(-0.5)),
        (OneMinus(rho, 1 - rho**2), 0.25, 0.75),
        (OneMinus(rho, 1 - rho**2), -0.25, 1.25),
        (sp.Heaviside(rho), 0.0, 0.5),
        (sp.sign(rho), -0.3, -1.0),
        (sp.Abs(rho), -0.3, 0.3),
        (sp.Max(0, rho), -0.3, 0.0),
        (sp.tanh(rho), 0.3, np.tanh(0.3)),
        (sp.log(2 * sp.cosh(rho)), 0.3, np.log(2 * np.cosh(0.3))),
        (sp.Piecewise((rho, rho > 0), (rho / 10, True)), -0.3, -0.03),
        (sp.E * rho + sp.GoldenRatio, 0.0, (1 + np.sqrt(5)) / 2),
    ],
)
def test_functions_that_sympy_prints_otherwise(
    expr: Any, at: float, value: float
) -> None:
    assert function([rho], expr)(np.array([at])) == pytest.approx([value], rel=1e-15)


class Counted(np.ndarray):
    """An array that notes the shape of each result that is computed from it."""

    shapes: list[tuple[int, ...]] = []  # noqa: RUF012 (of one test at a time)

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any
    ) -> Any:
        plain = [np.asarray(part) for part in inputs]
        result = getattr(ufunc, method)(*plain, **kwargs)
        Counted.shapes.append(np.shape(result))
        return np.asarray(result).view(Counted)


def full_size_operations(expr: Any) -> int:
    """Count the operations whose result is a matrix, for a column a and a row b."""
    shapes = {a: (5, 1), b: (1, 7), rho: (5, 7), w: (5, 7)}
    arrays = [np.full(shapes[s], 0.5).view(Counted) for s in SYMBOLS]
    Counted.shapes = []
    function(SYMBOLS, expr, VECTORS)(*arrays)
    return Counted.shapes.count((5, 7))


@pytest.mark.parametrize(
    ("expr", "count"),
    [
        (3 * a * b * rho, 2),
        (a * sp.exp(b) * sp.sqrt(a) * rho * sp.pi / (1 + b**2), 2),
        (a / b, 1),
        (2 + a + a**2 + b + w, 2),
        (1 + a + b, 1),
        (a**2 * b**2 * w + a**2 + b**2 + 1, 4),
        (rho / (a * b), 2),
        (rho * w / (2 * a * sp.sqrt(a + 1)), 2),
        (sp.exp(a) * sp.exp(b), 1),
    ],
)
def test_vectors_are_combined_before_they_meet_a_matrix(expr: Any, count: int) -> None:
    """A product of k vectors and a matrix takes two operations at full size, not k."""
    assert full_size_operations(expr) == count


def test_shared_parts_keep_their_shape() -> None:
    """What is computed once and used twice is still known to be a vector."""
    once = 1 + a + a**2 + sp.exp(a)
    expr = rho * once * b + w * once * b**2
    # Two products with a row, two with a column, and one sum.
    assert full_size_operations(expr) == 5


@pytest.mark.parametrize(
    ("phi", "count"), [(act.relu, 12), (act.erf, 10), (act.gelu, 24)]
)
def test_duals_take_few_operations_at_full_size(phi: Any, count: int) -> None:
    """As many as the stable form has, counted by hand: shared parts and vectors once."""
    assert full_size_operations(stable(dual(phi).value, p, q, c)) <= count


def test_powers_are_products() -> None:
    """w^(5/2) is w w sqrt(w): np.power is a hundred times slower than a product."""
    source = inspect.getsource(function([w], w ** sp.Rational(5, 2) + w**3 + w**-4))
    assert "**" not in source
    assert "sqrt" in source


def test_matrix_products_act_on_stacks() -> None:
    """A K A^T for a stack of A, with a scalar in front and a sum of products."""
    size = sp.Symbol("T", integer=True, positive=True)
    s = sp.Symbol("s")
    A, K = sp.MatrixSymbol("A", size, size), sp.MatrixSymbol("K", size, size)
    rng = np.random.default_rng(0)
    stack, kernel = rng.normal(size=(3, 4, 4)), rng.normal(size=(4, 4))
    value = function([A, K, s], s * A * K * A.T + 2 * K.T)(stack, kernel, 0.5)
    expected = [0.5 * one @ kernel @ one.T + 2 * kernel.T for one in stack]
    assert np.abs(value - expected).max() <= 1e-13
    assert np.abs(function([A, K], A * K)(stack, kernel) - stack @ kernel).max() == 0


def test_constants_compile() -> None:
    """A dual may be a number, and an activation a constant of the shape of its argument."""
    assert function(SYMBOLS, sp.Rational(1, 4))(*VALUES.values()) == 0.25
    assert function(SYMBOLS, sp.pi / 2 - 1)(*VALUES.values()) == np.pi / 2 - 1
    three = act.Activation("three", sp.Integer(3))
    assert activation_function(three)(np.zeros((2, 2))).tolist() == [[3, 3], [3, 3]]
    assert activation_function(act.relu)(np.array([-1.0, 2.0])).tolist() == [0, 2]
