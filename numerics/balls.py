"""SymPy expressions in ball arithmetic: enclosures in place of rounded numbers.

A ball [m ± r] stands for every number within r of m, and an operation on balls returns a ball that
holds all its values, rounding included. One reading of an expression serves two arithmetics:

* REAL, over arb, is the natural extension: a ball that holds f wherever f is real. What pokes
  out of a domain, as c / sqrt(p q) beyond 1 or p q - c^2 below 0 by rounding, is cut at the
  end of the domain. What lies outside altogether has no value and gives nan.
* HOLOMORPHIC, over acb, is strict: a finite result proves that f is holomorphic on the whole
  box. A box that meets a pole or a branch cut gives nan.

Source: Johansson (2017), Arb; IEEE 1788-2015 for the natural extension. The independent check
is mpmath, in tests/numerics/test_balls.py.
"""

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import itemgetter
from typing import Any

import sympy as sp
from flint import acb, arb, ctx, fmpq

from asymptest.theory.errors import AccuracyError, ArgumentError, UnsupportedError

Number = arb | int | float | numbers.Rational | sp.Expr
Unary = Callable[[Any], Any]
Evaluator = Callable[[Sequence[Any]], Any]  # values of the symbols -> value

NAN = arb("nan")
NARROW = (
    1e-3  # radius below which Arb's first-order propagation loses nothing to speak of
)
CONSTANTS = {sp.pi: arb.pi, sp.E: arb.const_e}


@dataclass(frozen=True)
class Arithmetic:
    """A kind of ball, and how it computes what + and * do not."""

    number: Unary  # from arb
    power: Callable[[Any, int], Any]  # exponent >= 2
    root: Callable[[Any, int], Any]  # degree >= 2, principal
    functions: Mapping[Any, Callable[..., Any]]


def ball(
    expr: sp.Expr, values: Mapping[Any, Number] | None = None, prec: int = 128
) -> arb:
    """Return a ball that holds `expr` at every point of a box.

    Args:
        expr: built from numbers, pi, E, symbols, powers, exp, log, trigonometric, hyperbolic
            and error functions, atan2, Abs, sign, Heaviside, Max and Min.
        values: symbol -> arb, int, float, fraction or SymPy number; a float is the binary
            number that it is.
        prec: working precision in bits.

    Returns:
        A finite ball with all real values of `expr`. Points of the box outside its domain
        (asin beyond 1, sqrt below 0) are left out.

    Raises:
        ArgumentError: if a symbol has no value, or a value is no finite number.
        AccuracyError: if no finite ball holds the values: a pole in the box, or a box
            outside the domain.
        UnsupportedError: if `expr` has a function that is not listed.

    >>> x = sp.Symbol("x")
    >>> ball(6 * sp.asin(x), {x: 0.5}).contains(ball(sp.pi, prec=256))
    True
    """
    values = values or {}
    with ctx.workprec(prec):
        point = [number(value, str(symbol)) for symbol, value in values.items()]
        value = compiled(expr, tuple(values), REAL)(point)
    if not value.is_finite():
        shown = ", ".join(f"{s} = {b}" for s, b in zip(values, point, strict=True))
        raise AccuracyError(
            f"no finite ball holds {expr}{f' at {shown}' if shown else ''}: it has a pole "
            f"there or is not real; narrow the box, or raise prec = {prec}"
        )
    return value


def number(value: Any, name: str) -> arb:
    """Return a number as a ball, exact where the precision set now allows it.

    Raises:
        ArgumentError: if it is no finite number.
    """
    match value:
        case arb():
            result = value
        case numbers.Rational():
            result = arb(fmpq(int(value.numerator), int(value.denominator)))
        case float():
            result = arb(value)
        case sp.Expr() if value.is_number and value.is_real is not False:
            result = compiled(value, (), REAL)(())
        case _:
            result = NAN
    if not result.is_finite():
        raise ArgumentError(
            f"{name} must be a finite real number (arb, int, float, fraction or SymPy "
            f"number); got {value!r}"
        )
    return result


def compiled(expr: Any, symbols: tuple[Any, ...], arithmetic: Arithmetic) -> Evaluator:
    """Return (values of the symbols) -> ball, with constants at the precision set now.

    Raises:
        ArgumentError: if `expr` has another symbol.
        UnsupportedError: if it has a function that the arithmetic does not know.
    """
    if expr.free_symbols:
        return _node(expr, symbols, arithmetic)
    value = arithmetic.number(_node(expr, (), REAL)(()))
    return lambda point: value


def _node(expr: Any, symbols: tuple[Any, ...], arithmetic: Arithmetic) -> Evaluator:
    functions = arithmetic.functions
    if expr.is_Symbol:
        if expr not in symbols:
            raise ArgumentError(f"no value is given for the symbol {expr}")
        return itemgetter(symbols.index(expr))
    if (constant := _constant(expr)) is not None:
        return lambda point: constant
    if not isinstance(expr, sp.Add | sp.Mul | sp.Pow) and expr.func not in functions:
        raise UnsupportedError(
            f"{expr.func.__name__} in {expr} has no ball arithmetic here; write it with "
            f"elementary functions, erf, erfc and erfi, and Heaviside for steps"
        )
    parts = [compiled(part, symbols, arithmetic) for part in expr.args]
    match expr:
        case sp.Add():
            return lambda point: sum(part(point) for part in parts)
        case sp.Mul():
            return lambda point: math.prod(part(point) for part in parts)
        case sp.Pow() if expr.exp.is_Rational:
            return _power(parts[0], expr.exp, arithmetic)
        case sp.Pow():
            exp, log = functions[sp.exp], functions[sp.log]
            return lambda point: exp(parts[1](point) * log(parts[0](point)))
        case _:
            function = functions[expr.func]
            return lambda point: function(*(part(point) for part in parts))


def _constant(expr: Any) -> arb | None:
    match expr:
        case sp.Rational():
            return arb(fmpq(expr.p, expr.q))
        case sp.Float():
            return arb(expr)
        case sp.NumberSymbol() if expr in CONSTANTS:
            return CONSTANTS[expr]()
        case _:
            return None


def _power(base: Evaluator, exponent: Any, arithmetic: Arithmetic) -> Evaluator:
    power, root = arithmetic.power, arithmetic.root
    p, q = abs(exponent.p), exponent.q

    def positive(point: Sequence[Any]) -> Any:
        value = base(point)
        value = value if q == 1 else root(value, q)
        return value if p == 1 else power(value, p)

    return positive if exponent > 0 else lambda point: 1 / positive(point)


def hull(low: arb, high: arb) -> arb:
    """Return a ball of everything from `low` to `high`.

    Radii have 30 bits, so it reaches outside by up to 2^-29 of its radius.
    """
    return low.union(high)


def magnitude(x: arb, exponent: int = 1) -> arb:
    """Return |x|^exponent, never below 0, for a ball that may lie astride 0."""
    ends = hull(x.abs_lower() ** exponent, x.abs_upper() ** exponent)
    return ends.nonnegative_part()


def _real_power(x: arb, exponent: int) -> arb:
    if x.is_exact():
        return x**exponent
    if exponent % 2 == 0:
        return magnitude(x, exponent)
    return hull(x.lower() ** exponent, x.upper() ** exponent)


def _monotone(function: Unary, low: Any = "-inf", high: Any = "inf") -> Unary:
    """Return a function, monotone on its domain [low, high], on the part of a ball inside."""
    first, last = arb(low), arb(high)

    def inside(x: arb) -> arb:
        if x.rad() < NARROW:
            value = function(x)
            if value.is_finite():
                return value
        start, end = x.lower().max(first), x.upper().min(last)
        return hull(function(start), function(end)) if start <= end else NAN

    return inside


def _real_root(x: arb, degree: int) -> arb:
    return _monotone(lambda t: t if t.is_zero() else t.root(degree), low=0)(x)


def _heaviside(x: arb, at_zero: arb) -> arb:
    if x.is_zero():
        return at_zero
    return arb(int(x > 0)) if x > 0 or x < 0 else hull(arb(0), arb(1))


def _complex_power(z: acb, exponent: int) -> acb:
    if exponent == 1:
        return z
    if exponent % 2:
        return z * _complex_power(z, exponent - 1)
    half = _complex_power(z, exponent // 2)
    real, imag = half.real, half.imag
    return acb(magnitude(real, 2) - magnitude(imag, 2), 2 * real * imag)


def _complex_root(z: acb, degree: int) -> acb:
    if degree == 2:
        return z.sqrt(analytic=True)
    return (z.log(analytic=True) / degree).exp()


def _off_cuts(function: Unary, along: Unary, across: Unary) -> Unary:
    """Return asin, acos or atan, nan where a box meets a cut: `along` beyond ±1."""

    def strict(z: acb) -> acb:
        clear = abs(along(z)) < 1 or not across(z).contains(0)
        return function(z) if clear else acb(NAN)

    return strict


def _real(z: acb) -> arb:
    return z.real


def _imag(z: acb) -> arb:
    return z.imag


_cosh = _monotone(arb.cosh)  # on what is not negative

REAL = Arithmetic(
    number=lambda value: value,
    power=_real_power,
    root=_real_root,
    functions={
        sp.exp: _monotone(arb.exp),
        sp.log: _monotone(arb.log, low=0),
        sp.sin: arb.sin,
        sp.cos: arb.cos,
        sp.tan: arb.tan,
        sp.asin: _monotone(arb.asin, low=-1, high=1),
        sp.acos: _monotone(arb.acos, low=-1, high=1),
        sp.atan: _monotone(arb.atan),
        sp.atan2: arb.atan2,
        sp.sinh: _monotone(arb.sinh),
        sp.cosh: lambda x: _cosh(magnitude(x)),
        sp.tanh: _monotone(arb.tanh),
        sp.erf: _monotone(arb.erf),
        sp.erfc: _monotone(arb.erfc),
        sp.erfi: _monotone(arb.erfi),
        sp.Heaviside: _heaviside,
        sp.sign: lambda x: 2 * _heaviside(x, arb(0.5)) - 1,
        sp.Abs: magnitude,
        sp.Max: lambda *balls: reduce(arb.max, balls),
        sp.Min: lambda *balls: reduce(arb.min, balls),
    },
)

HOLOMORPHIC = Arithmetic(
    number=acb,
    power=_complex_power,
    root=_complex_root,
    functions={
        sp.exp: acb.exp,
        sp.log: lambda z: z.log(analytic=True),
        sp.sin: acb.sin,
        sp.cos: acb.cos,
        sp.tan: acb.tan,
        sp.asin: _off_cuts(acb.asin, _real, _imag),
        sp.acos: _off_cuts(acb.acos, _real, _imag),
        sp.atan: _off_cuts(acb.atan, _imag, _real),
        sp.sinh: acb.sinh,
        sp.cosh: acb.cosh,
        sp.tanh: acb.tanh,
        sp.erf: acb.erf,
        sp.erfc: acb.erfc,
        sp.erfi: acb.erfi,
    },
)
