"""SymPy expressions to NumPy functions, each compiled once.

Entrywise equations are compiled in the standard deviations a, b of two entries, their
correlation rho and w = 1 - rho^2, in the form that numerics/stable.py gives them.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp

from asymptest.numerics.printing import function
from asymptest.numerics.stable import a, b, rho, stable, w
from asymptest.theory.activations import Activation, x
from asymptest.theory.definition import K_MATRIX, T
from asymptest.theory.gaussian_calculus import c, p, q
from asymptest.theory.substitution import number, put
from asymptest.theory.update import (
    A_MATRIX,
    BRANCH_MATRIX,
    Layer,
    i,
    j,
    update,
)
from asymptest.theory.wick.matrices import Average

ONES = sp.MatrixSymbol("ones", T, T)
VECTORS = {a: frozenset({"column"}), b: frozenset({"row"})}


@lru_cache(maxsize=256)  # keyed by layers, which hold arrays: bounded
def compiled(layer: Layer) -> tuple[Callable[..., Any], bool]:
    """Return the function of a layer's equation with its numbers, and whether it is entrywise.

    A matrix equation takes (K, A, K_B, ones), an entrywise one (a, b, rho, w).

    Raises:
        ArgumentError: if a parameter of the layer is a symbol.
        NoClosedFormError: if an activation has no closed form.
    """
    derived = update(layer)
    for symbol, value in derived.values:
        number(value, f"{layer!r}: {symbol}")
    # Zeros and ones are put in before compiling: they take whole terms away.
    exact = {s: sp.Integer(int(v)) for s, v in derived.values if v in (0, 1)}
    rest = [(s, float(v)) for s, v in derived.values if s not in exact]
    symbols, values = tuple(s for s, _ in rest), [v for _, v in rest]
    make = entry_function if derived.is_entrywise else matrix_function
    evaluate = make(put(exact, derived.equation.rhs), symbols)
    return (lambda *arrays: evaluate(*arrays, *values)), derived.is_entrywise


@lru_cache(maxsize=1024)
def matrix_function(rhs: Any, symbols: tuple[sp.Symbol, ...]) -> Callable[..., Any]:
    """Return (K, A, K_B, ones, *numbers) -> K' for a matrix equation, compiled."""
    plain = rhs.replace(lambda e: isinstance(e, Average), lambda e: e.body)
    plain = plain.replace(lambda e: isinstance(e, sp.OneMatrix), lambda _: ONES).doit()
    return function([K_MATRIX, A_MATRIX, BRANCH_MATRIX, ONES, *symbols], plain)


@lru_cache(maxsize=1024)
def entry_function(rhs: Any, symbols: tuple[sp.Symbol, ...]) -> Callable[..., Any]:
    """Return (a, b, rho, w, *numbers) -> K'_ij for an entrywise equation, compiled."""
    entries = (K_MATRIX[i, i], K_MATRIX[j, j], K_MATRIX[i, j])
    return function([a, b, rho, w, *symbols], stable(rhs, *entries), VECTORS)


@lru_cache(maxsize=1024)
def closed_form(value: Any) -> Callable[..., Any]:
    """Return (a, b, rho, w) -> E f(u) g(v) for a closed form in p, q and c, compiled."""
    return function([a, b, rho, w], stable(value, p, q, c), VECTORS)


@lru_cache(maxsize=1024)
def activation_function(phi: Activation) -> Callable[..., Any]:
    """Return phi as a NumPy function."""
    if phi.expr.has(x):
        return function([x], phi.expr)
    return lambda values: np.full_like(values, float(phi.expr))
