"""Values into expressions, and sums out of products; where SymPy's type hints are partial."""

from collections.abc import Callable, Mapping
from typing import Any

import sympy as sp

from asymptest.theory.errors import ArgumentError


def put(values: Mapping[Any, Any], expr: Any) -> Any:
    """Return `expr`, or a number, with symbols replaced by their values, all at once."""
    return sp.sympify(expr).subs(dict(values), simultaneous=True)


def summands(expr: Any, opens: Callable[[Any], bool] = lambda _: True) -> list[Any]:
    """Return the terms of a sum, with sums inside products multiplied out, never denominators.

    Args:
        expr: a sum, or a single term.
        opens: whether a sum that is a factor is multiplied out.

    >>> x, y, z = sp.symbols("x y z")
    >>> summands(x * (y + z) / (1 + z))
    [x*y/(z + 1), x*z/(z + 1)]
    """
    found = []
    for term in sp.Add.make_args(expr):
        wide = [f for f in sp.Mul.make_args(term) if f.is_Add and opens(f)]
        if not wide or not term.is_Mul:
            found.append(term)
            continue
        factors: Any = [f for f in term.args if f is not wide[0]]
        for part in wide[0].args:
            found += summands(part * sp.Mul(*factors), opens)
    return found


def expression(value: Any, name: str) -> Any:
    """Return a user's number or expression as a SymPy expression.

    Raises:
        ArgumentError: if it is a text, which SymPy would evaluate as Python code.
    """
    if isinstance(value, str):
        raise ArgumentError(
            f"{name} must be a number or a SymPy expression; got the text {value!r}"
        )
    return sp.sympify(value)


def number(value: Any, name: str) -> float:
    """Return a parameter as a number.

    Raises:
        ArgumentError: if it is a symbol, which only theory/ can work with.
    """
    try:
        return float(value)
    except TypeError:
        raise ArgumentError(
            f"{name} = {value} is a symbol; to evaluate a network, give it a number"
        ) from None


def check_finite(value: float | sp.Expr, name: str) -> None:
    """Raise ArgumentError unless `value` is a finite real number or a symbol."""
    number = expression(value, name)
    if number.is_number and not (number.is_finite and number.is_real):
        raise ArgumentError(f"{name} must be a finite real number; got {value}")


def check_variance(value: float | sp.Expr, name: str) -> None:
    """Raise ArgumentError unless `value` is a number >= 0 or a symbol."""
    number = expression(value, name)
    if number.is_number and not (number.is_finite and number.is_nonnegative):
        raise ArgumentError(f"{name} must be finite and >= 0; got {value}")
