"""SymPy expressions as NumPy code, ordered so that little is computed at full size.

An entrywise expression is called with a column a, a row b and full matrices rho, w. A sum or
product is printed in three groups, what is as small as a column, what is as small as a row,
and the rest, so that constants and vectors meet before they meet a matrix.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sympy as sp
from scipy import special
from sympy.printing.numpy import SciPyPrinter

from asymptest.numerics.strips import weighted_sum
from asymptest.numerics.structured import congruence
from asymptest.theory.definition import K_MATRIX, T

ONES = sp.MatrixSymbol("ones", T, T)
Shape = frozenset[str]  # which of the full dimensions a value has: "row", "column"

FULL: Shape = frozenset({"row", "column"})
LARGEST_POWER = 16  # repeated squaring beats pow far beyond that, but reads badly


def exp_difference(s: Any, t: Any, d: Any) -> Any:
    """Return exp(s) - exp(t), where s - t = 2 d is known better from d."""
    return np.copysign(np.exp(np.maximum(s, t)) * np.expm1(-2 * np.abs(d)), d)


def one_minus(rho: Any, w: Any) -> Any:
    """Return 1 - rho, from w = 1 - rho^2 where rho is near 1."""
    return np.where(rho > 0, w / (1 + np.abs(rho)), 1 - rho)


class Congruence(sp.MatrixExpr):
    """Congruence(A, S) = A S A^T for a symmetric S."""

    @property
    def shape(self) -> Any:
        """(T, T)."""
        A: Any = self.args[0]
        return A.shape


PRODUCTS = (Congruence, sp.MatMul)

NAMES = {
    "numpy": np,
    "erf": special.erf,
    "dawsn": special.dawsn,
    "exp_difference": exp_difference,
    "one_minus": one_minus,
    "congruence": congruence,
    "weighted_sum": weighted_sum,
}


class Printer(SciPyPrinter):
    """Prints matrix products with @ and .mT, so that stacks of matrices go through at once.

    Args:
        shapes: symbol -> shape, of the symbols smaller than a full matrix.
    """

    def __init__(self, shapes: Mapping[Any, Shape]) -> None:
        super().__init__({"fully_qualified_modules": False, "inline": True})
        self.shapes = dict(shapes)

    def shape(self, expr: Any) -> Shape:
        """Return the shape of a value from those of its symbols."""
        parts = (self.shapes.get(s, FULL) for s in expr.free_symbols)
        return frozenset().union(*parts)

    def _print_MatMul(self, expr: Any) -> str:  # noqa: N802 (SymPy's name)
        scalar, matrices = expr.as_coeff_matrices()
        product = " @ ".join(self._print(m) for m in matrices)
        return f"({product})" if scalar == 1 else self._weighted_sum([expr])

    def _print_MatAdd(self, expr: Any) -> str:  # noqa: N802
        return self._weighted_sum(expr.args)

    def _print_ZeroMatrix(self, expr: Any) -> str:  # noqa: N802
        return self._weighted_sum([])

    def _weighted_sum(self, matrices: Any) -> str:
        terms = [(M.doit(), c) for c, M in (m.as_coeff_mmul() for m in matrices)]
        constant = sp.Add(*(c for M, c in terms if M == ONES))
        rest = [term for term in terms if term[0] != ONES] or [(K_MATRIX, 0)]
        # A symbol is the caller's matrix, a product is ours to overwrite.
        rest.sort(key=lambda term: not isinstance(term[0], PRODUCTS))
        pairs = [f"({self._print(c)}, {self._print(M)})" for M, c in rest]
        own = ["in_place=True"] if isinstance(rest[0][0], PRODUCTS) else []
        return f"weighted_sum({', '.join([self._print(constant), *pairs, *own])})"

    def _print_Congruence(self, expr: Any) -> str:  # noqa: N802
        return f"congruence({', '.join(map(self._print, expr.args))})"

    def _print_HadamardProduct(self, expr: Any) -> str:  # noqa: N802
        return f"({' * '.join(f'({self._print(m)})' for m in expr.args)})"

    def _print_HadamardPower(self, expr: Any) -> str:  # noqa: N802
        return f"(({self._print(expr.base)}) ** {self._print(expr.exp)})"

    def _print_Transpose(self, T: Any) -> str:  # noqa: N802 (and its argument)
        return f"({self._print(T.arg)}).mT"

    def _print_ComplexRootOf(self, expr: Any) -> Any:  # noqa: N802
        return repr(float(expr))

    def _print_Dawson(self, expr: Any) -> str:  # noqa: N802
        return f"dawsn({self._print(expr.args[0])})"

    def _print_ExpDifference(self, expr: Any) -> str:  # noqa: N802
        return f"exp_difference({', '.join(map(self._print, expr.args))})"

    def _print_OneMinus(self, expr: Any) -> str:  # noqa: N802
        return f"one_minus({', '.join(map(self._print, expr.args))})"

    def _print_Heaviside(self, expr: Any) -> str:  # noqa: N802
        return f"numpy.heaviside({self._print(expr.args[0])}, 0.5)"

    def _print_Add(self, expr: Any, order: Any = None) -> str:  # noqa: N802
        groups = self._by_shape(expr.args)
        return f"({' + '.join(f'({self._sum(group)})' for group in groups)})"

    def _sum(self, terms: list[Any]) -> str:
        return " + ".join(self._print(term) for term in terms)

    def _print_Mul(self, expr: Any) -> str:  # noqa: N802
        numbers = [factor for factor in expr.args if factor.is_number]
        rest = [factor for factor in expr.args if not factor.is_number]
        groups = [self._quotient(group) for group in self._by_shape(rest)]
        if numbers:
            groups[-1] = f"({_decimal(sp.Mul(*numbers))}*{groups[-1]})"
        return f"({'*'.join(groups)})"

    def _quotient(self, factors: list[Any]) -> str:
        above = [f for f in factors if not _is_inverse(f)]
        below = [1 / f for f in factors if _is_inverse(f)]
        over = "*".join(map(self._print, above)) or "1"
        under = "*".join(map(self._print, below))
        return f"({over}/({under}))" if below else f"({over})"

    def _print_Pow(self, expr: Any, rational: bool = False) -> str:  # noqa: N802
        base, exponent = expr.as_base_exp()
        if exponent.is_negative:
            return f"(1/{self._print(1 / expr)})"
        whole, half = divmod(2 * exponent, 2) if (2 * exponent).is_Integer else (99, 0)
        if base.is_number or whole > LARGEST_POWER:
            return super()._print_Pow(expr)
        printed = self._print(base)
        factors = [f"({printed})"] * int(whole) + [f"sqrt({printed})"] * int(half)
        return f"({'*'.join(factors)})"

    def _print_number(self, expr: Any) -> str:
        return _decimal(expr)

    _print_Rational = _print_Pi = _print_number  # noqa: N815 (SymPy's names)

    def _by_shape(self, parts: Any) -> list[list[Any]]:
        """Return the parts in groups of one shape, the largest first."""
        groups: dict[Shape, list[Any]] = {}
        for part in parts:
            groups.setdefault(self.shape(part), []).append(part)
        constants = groups.pop(frozenset(), [])
        ordered = sorted(groups, key=lambda shape: (-len(shape), sorted(shape)))
        found = [groups[shape] for shape in ordered] or [[]]
        found[-1] += constants  # to the smallest vector there is
        return found


def function(
    arguments: list[Any], expr: Any, shapes: Mapping[Any, Shape] | None = None
) -> Callable[..., Any]:
    """Return an expression as a NumPy function of its arguments.

    Args:
        arguments: symbols.
        expr: in these symbols.
        shapes: of the arguments that are smaller than a full matrix.
    """
    printer = Printer(shapes or {})

    def cse(body: Any) -> Any:
        shared, reduced = sp.cse(body, list=False)
        for symbol, value in shared:
            printer.shapes[symbol] = printer.shape(value)
        return shared, reduced

    modules = [NAMES, "scipy", "numpy"]
    options: Any = {"modules": modules, "printer": printer, "cse": cse}
    return sp.lambdify(arguments, expr, **options)


def _is_inverse(factor: Any) -> bool:
    return factor.is_Pow and bool(factor.exp.is_negative)


def _decimal(number: Any) -> str:
    return repr(float(number)) if number.is_real else str(number)
