"""Put values into expressions; the one place that meets SymPy's partial type hints."""

from collections.abc import Mapping
from typing import Any

import sympy as sp

from asymptest.theory.errors import ArgumentError


def put(values: Mapping[Any, Any], expr: Any) -> Any:
    """Return `expr`, or a number, with symbols replaced by their values, all at once."""
    return sp.sympify(expr).subs(dict(values), simultaneous=True)


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
