"""SymPy expressions to NumPy functions, each compiled once.

Entrywise equations are compiled in the form that numerics/stable.py gives them, twice: in the
standard deviations a, b of two entries, their correlation rho and w = 1 - rho^2, which serves
at any size, and in a, b, their covariance and determinant, which saves the correlation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp

from asymptest.numerics.printing import ONES, Congruence, function
from asymptest.numerics.stable import a, b, rho, stable, w
from asymptest.theory.activations import Activation
from asymptest.theory.definition import K_MATRIX
from asymptest.theory.gaussian_calculus import c, p, q
from asymptest.theory.logits import SEEN_MATRIX
from asymptest.theory.piecewise import x
from asymptest.theory.substitution import number, put
from asymptest.theory.update import (
    A_MATRIX,
    BRANCH_MATRIX,
    OTHER_MATRIX,
    Layer,
    i,
    j,
    update,
)
from asymptest.theory.wick.matrices import Average

covariance = sp.Symbol("covariance", real=True)
determinant = sp.Symbol("determinant", positive=True)  # a^2 b^2 - covariance^2
VECTORS = {a: frozenset({"column"}), b: frozenset({"row"})}


@dataclass(frozen=True)
class Entry:
    """A function of two entries of a kernel, symmetric in them.

    Args:
        at: (a, b, rho, w) -> value: standard deviations, correlation, 1 - rho^2.
        fast: (a, b, covariance, a^2 b^2 - covariance^2) -> value, if there is such a form;
            it needs a b to be well within the square root of the range of floats.
        shift: what `fast` wants added to both variances, and so to a^2 and b^2.
        is_linear: whether `fast` is a multiple of the covariance, and needs nothing checked.
    """

    at: Callable[..., Any]
    fast: Callable[..., Any] | None = None
    shift: float = 0.0
    is_linear: bool = False

    def with_numbers(self, values: list[float]) -> "Entry":
        """Return the entry with the numbers that its functions take last."""
        at, fast = self.at, self.fast
        if not values or fast is None:
            return self
        return Entry(
            lambda *arrays: at(*arrays, *values),
            lambda *arrays: fast(*arrays, *values),
            self.shift,
            self.is_linear,
        )


@lru_cache(maxsize=256)  # keyed by layers, which hold arrays: bounded
def compiled(layer: Layer) -> tuple[Any, bool]:
    """Return the function of a layer's equation with its numbers, and whether it is entrywise.

    A matrix equation takes (K, A, K_B, ones, K_S, K_C); an entrywise one is an `Entry`.

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
    rhs = put(exact, derived.equation.rhs)
    if derived.is_entrywise:
        return entry_function(rhs, symbols).with_numbers(values), True
    function = matrix_function(rhs, symbols)
    return (lambda *arrays: function(*arrays, *values)), False


@lru_cache(maxsize=1024)
def matrix_function(rhs: Any, symbols: tuple[sp.Symbol, ...]) -> Callable[..., Any]:
    """Return (K, A, K_B, ones, K_S, K_C, *numbers) -> K' for a matrix equation, compiled."""
    plain = rhs.replace(lambda e: isinstance(e, Average), lambda e: e.body)
    plain = plain.replace(lambda e: isinstance(e, sp.OneMatrix), lambda _: ONES).doit()
    plain = plain.replace(lambda e: isinstance(e, sp.MatMul), _with_congruence)
    arrays = [K_MATRIX, A_MATRIX, BRANCH_MATRIX, ONES, SEEN_MATRIX, OTHER_MATRIX]
    return function([*arrays, *symbols], plain)


def _with_congruence(product: Any) -> Any:
    """Return A S A^T as one factor, for S of the symmetric matrices."""
    number, matrices = product.as_coeff_matrices()
    if len(matrices) != 3 or matrices[0] != matrices[2].T or matrices[1].has(A_MATRIX):
        return product
    return number * Congruence(*matrices[:2])


@lru_cache(maxsize=1024)
def entry_function(rhs: Any, symbols: tuple[sp.Symbol, ...]) -> Entry:
    """Return K'_ij of an entrywise equation, compiled; its numbers come last."""
    return _entry(stable(rhs, K_MATRIX[i, i], K_MATRIX[j, j], K_MATRIX[i, j]), symbols)


@lru_cache(maxsize=1024)
def closed_form(value: Any) -> Entry:
    """Return E f(u) g(v), compiled, for a closed form in p, q and c."""
    return _entry(stable(value, p, q, c), ())


def _entry(value: Any, symbols: tuple[sp.Symbol, ...]) -> Entry:
    moments = {rho: covariance / (a * b), w: determinant / (a * b) ** 2}
    fast, shift = _shifted(put(moments, value))
    return Entry(
        function([a, b, rho, w, *symbols], value, VECTORS),
        function([a, b, covariance, determinant, *symbols], fast, VECTORS),
        shift,
        not (fast / covariance).has(covariance, determinant),
    )


def _shifted(value: Any) -> tuple[Any, float]:
    """Return the value in terms of variances a^2 + s, b^2 + s, and s; s = 0 if it needs a, b.

    Then determinant + s (a^2 + b^2) + s^2 is a determinant too: that saves two sums of
    matrices for erf, whose kernel depends on nothing else.
    """
    sums = [part for part in value.atoms(sp.Add) if part.has(determinant)]
    shifts = {part.coeff(a, 2) / part.coeff(determinant) for part in sums}
    if len(shifts) != 1 or not (s := shifts.pop()).is_positive:
        return value, 0.0
    whole = determinant + s * (a**2 + b**2) + s**2
    factors = {part: part.coeff(determinant) for part in sums}
    if any(sp.expand(part - f * whole) != 0 for part, f in factors.items()):
        return value, 0.0
    new = value.xreplace({part: f * determinant for part, f in factors.items()})
    return (value, 0.0) if new.has(a, b) else (new, float(s))


@lru_cache(maxsize=1024)
def activation_function(phi: Activation) -> Callable[..., Any]:
    """Return phi as a NumPy function."""
    if phi.expr.has(x):
        return function([x], phi.expr)
    return lambda values: np.full_like(values, float(phi.expr))
