"""Put values into expressions; the one place that meets SymPy's partial type hints."""

from collections.abc import Mapping
from typing import Any

import sympy as sp


def put(values: Mapping[Any, Any], expr: Any) -> Any:
    """Return `expr`, or a number, with symbols replaced by their values, all at once."""
    return sp.sympify(expr).subs(dict(values), simultaneous=True)
