"""SymPy expressions to NumPy functions, each compiled once.

Entrywise equations are compiled in the standard deviations a, b of two entries and their
correlation rho, in place of variances and covariance: sqrt(p q - c^2) becomes
a b sqrt((1 - rho)(1 + rho)), which loses nothing at rho = 1 and is finite at a = 0.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp
from scipy import special
from sympy.printing.numpy import SciPyPrinter

from asymptest.theory.activations import Activation, x
from asymptest.theory.definition import K_MATRIX, T
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

a, b = sp.symbols("a b", positive=True)  # standard deviations
rho = sp.Symbol("rho", real=True)
ONES = sp.MatrixSymbol("ones", T, T)


class _Printer(SciPyPrinter):
    """Matrix products with @ and .mT, so that a stack of matrices goes through at once."""

    def _print_MatMul(self, expr: Any) -> str:  # noqa: N802 (SymPy's name)
        scalar, matrices = expr.as_coeff_matrices()
        product = " @ ".join(self._print(m) for m in matrices)
        return (
            f"(({self._print(scalar)})*({product}))" if scalar != 1 else f"({product})"
        )

    def _print_Transpose(self, T: Any) -> str:  # noqa: N802 (and its argument)
        return f"({self._print(T.arg)}).mT"

    def _print_Heaviside(self, expr: Any) -> str:  # noqa: N802
        return f"numpy.heaviside({self._print(expr.args[0])}, 0.5)"


def _lambdify(arguments: list[Any], expr: Any) -> Callable[..., Any]:
    printer = _Printer({"fully_qualified_modules": False, "inline": True})
    names = {"numpy": np, "erf": special.erf}
    return sp.lambdify(
        arguments, expr, modules=[names, "scipy", "numpy"], printer=printer, cse=True
    )


@lru_cache(maxsize=256)  # keyed by layers, which hold arrays: bounded
def compiled(layer: Layer) -> tuple[Callable[..., Any], bool]:
    """Return the function of a layer's equation with its numbers, and whether it is entrywise.

    A matrix equation takes (K, A, K_B, ones), an entrywise one (a, b, rho).

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
    function = make(put(exact, derived.equation.rhs), symbols)
    return (lambda *arrays: function(*arrays, *values)), derived.is_entrywise


@lru_cache(maxsize=1024)
def matrix_function(rhs: Any, symbols: tuple[sp.Symbol, ...]) -> Callable[..., Any]:
    """Return (K, A, K_B, ones, *numbers) -> K' for a matrix equation, compiled."""
    plain = rhs.replace(lambda e: isinstance(e, Average), lambda e: e.body)
    plain = plain.replace(lambda e: isinstance(e, sp.OneMatrix), lambda _: ONES).doit()
    return _lambdify([K_MATRIX, A_MATRIX, BRANCH_MATRIX, ONES, *symbols], plain)


@lru_cache(maxsize=1024)
def entry_function(rhs: Any, symbols: tuple[sp.Symbol, ...]) -> Callable[..., Any]:
    """Return (a, b, rho, *numbers) -> K'_ij for an entrywise equation, compiled."""
    entries = {K_MATRIX[i, i]: a**2, K_MATRIX[j, j]: b**2, K_MATRIX[i, j]: rho * a * b}
    expr = rhs.subs(entries, simultaneous=True)
    return _lambdify([a, b, rho, *symbols], in_correlation(expr))


def in_correlation(expr: Any) -> Any:
    """Return `expr` with every square root factored, so that 1 - rho^2 does not cancel."""

    def is_root(e: Any) -> bool:
        return e.is_Pow and e.exp.is_Rational and e.exp.q == 2

    if any(e.base in (a, b) and e.exp.is_negative for e in expr.atoms(sp.Pow)):
        expr = sp.expand(expr)  # cancels a / a, which a zero row would turn into nan
    return expr.replace(is_root, lambda e: sp.factor(e.base) ** e.exp)


@lru_cache(maxsize=1024)
def activation_function(phi: Activation) -> Callable[..., Any]:
    """Return phi as a NumPy function."""
    function = _lambdify([x], phi.expr)
    if phi.expr.has(x):
        return function
    return lambda values: np.full_like(values, float(phi.expr))
