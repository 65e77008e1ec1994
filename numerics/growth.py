"""How fast a function grows, read off its expression, and what that leaves in Gaussian tails.

With numbers A, k, g >= 0,

    |f(x)| <= A (1 + |x|)^k exp(g |x|)   for all real x.

Then for standard normal z, |m| <= M, B = 1 + M + w R and λ = w (g + k / B),

    E |f(m + w z)| 1{|z| > R} <= A B^k exp(g M - k w R / B + λ^2 / 2) erfc((R - λ) / sqrt 2),

since (1 + M + w t)^k <= B^k exp(k w (t - R) / B). The independent check is quadrature by mpmath,
in tests/numerics/test_growth.py.
"""

import operator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import sympy as sp
from flint import arb

from asymptest.numerics.balls import REAL, compiled
from asymptest.theory.errors import UnsupportedError

BOUNDED = {
    sp.sin: 1,
    sp.cos: 1,
    sp.tanh: 1,
    sp.erf: 1,
    sp.erfc: 2,
    sp.atan: 2,
}


@dataclass(frozen=True)
class Growth:
    """|f(x)| <= factor (1 + |x|)^power exp(rate |x|)."""

    factor: arb
    power: arb
    rate: arb

    def tail(self, center: arb, width: arb, reach: float) -> arb:
        """Return a bound on E |f(m + width z)| 1{|z| > reach} for any |m| <= center."""
        base = 1 + center + width * reach
        slope = width * (self.rate + self.power / base)
        exponent = self.rate * center - self.power * width * reach / base
        beyond = ((reach - slope) / arb(2).sqrt()).erfc()
        tilt = (exponent + slope * slope / 2).exp()
        return self.factor * base**self.power * tilt * beyond


def growth(expr: Any) -> Growth:
    """Return a growth bound of an expression in one positive symbol, which stands for |x|.

    Raises:
        UnsupportedError: if the expression has a part without one: a function with poles,
            or one that outgrows every exp(g |x|).

    >>> growth(3 * sp.Symbol("t", positive=True) ** 2).power
    2.00000000000000
    """
    if not expr.free_symbols:
        return _constant(_value(expr))
    match expr:
        case sp.Symbol():
            return Growth(arb(1), arb(1), arb(0))
        case sp.Add():
            return reduce(_plus, map(growth, expr.args))
        case sp.Mul():
            return reduce(times, map(growth, expr.args))
        case sp.Pow() if expr.exp.is_Rational and expr.exp.is_positive:
            base, k = growth(expr.base), _value(expr.exp)
            return Growth(base.factor**k, base.power * k, base.rate * k)
        case sp.Pow() if expr.exp.is_Rational:
            return _constant(_floor(expr.base, expr) ** _value(expr.exp))
        case sp.exp():
            return _exponential(*_upper(expr.args[0], expr))
        case sp.sinh() | sp.cosh():
            return _exponential(*_linear(expr.args[0], expr))
        case sp.log():
            return _logarithm(expr)
        case _ if expr.func in BOUNDED:
            return _constant(arb(BOUNDED[expr.func]))
        case _:
            raise _unbounded(expr)


def times(f: Growth, g: Growth) -> Growth:
    """Return a bound of the product of two functions."""
    return Growth(f.factor * g.factor, f.power + g.power, f.rate + g.rate)


def either(f: Growth, g: Growth) -> Growth:
    """Return what bounds both of two functions."""
    return Growth(f.factor.max(g.factor), f.power.max(g.power), f.rate.max(g.rate))


def _plus(f: Growth, g: Growth) -> Growth:
    return Growth(f.factor + g.factor, f.power.max(g.power), f.rate.max(g.rate))


def _constant(value: arb) -> Growth:
    return Growth(value.abs_upper(), arb(0), arb(0))


def _exponential(constant: arb, rate: arb) -> Growth:
    return Growth(constant.exp(), arb(0), rate)


def _value(expr: Any) -> arb:
    return compiled(expr, (), REAL)(())


def _unbounded(expr: Any) -> UnsupportedError:
    return UnsupportedError(
        f"no bound A (1 + |x|)^k exp(g |x|) is known for {expr}, so the tails of its "
        f"Gaussian mean have none; write it with functions that have one"
    )


def _upper(expr: Any, whole: Any) -> tuple[arb, arb]:
    """Return (c, g) with expr <= c + g t."""
    terms = sp.Add.make_args(sp.expand(expr))
    return _sum([_linear(t, whole) for t in terms if not t.is_nonpositive])


def _linear(expr: Any, whole: Any) -> tuple[arb, arb]:
    """Return (c, g) with |expr| <= c + g t."""
    if expr.is_Add:
        return _sum([_linear(term, whole) for term in expr.args])
    factor, rest = expr.as_independent(*expr.free_symbols, as_Add=False)
    if rest.is_Symbol:
        return arb(0), _value(factor).abs_upper()
    bound = growth(expr)
    if bound.rate > 0 or bound.power > 1:
        raise _unbounded(whole)
    return bound.factor, bound.factor if bound.power > 0 else arb(0)


def _sum(lines: list[tuple[arb, arb]]) -> tuple[arb, arb]:
    return sum((c for c, _ in lines), arb(0)), sum((g for _, g in lines), arb(0))


def _logarithm(expr: Any) -> Growth:
    """Bound |log y| for L <= y <= A (1 + t)^k exp(g t)."""
    (inside,) = expr.args
    lowest, highest = _floor(inside, expr), growth(inside)
    constant = lowest.log().abs_upper() + highest.factor.log().abs_upper()
    # log(1 + t) <= t, and c + (k + g) t <= max(c, k + g) (1 + t).
    return Growth(constant.max(highest.power + highest.rate), arb(1), arb(0))


def _floor(expr: Any, whole: Any) -> arb:
    """Return a positive lower bound: 1 for 1 + t and 1 + exp(-t), 2 for 2 cosh(t)."""
    constant, rest = expr.as_independent(*expr.free_symbols, as_Add=True)
    if not expr.free_symbols:
        lowest = _value(expr)
    elif constant.is_positive and rest.is_nonnegative:
        lowest = _value(constant)
    elif expr.is_Mul:
        lowest = reduce(operator.mul, (_floor(f, whole) for f in expr.args))
    elif isinstance(expr, sp.cosh):
        lowest = arb(1)
    elif expr.is_Pow and expr.exp.is_Rational and expr.exp.is_positive:
        lowest = _floor(expr.base, whole) ** _value(expr.exp)
    else:
        lowest = arb(0)
    if not lowest > 0:
        raise _unbounded(whole)
    return lowest
