"""Piecewise functions of one variable: as a sum with steps, and as a list of intervals."""

from itertools import pairwise
from typing import Any

import sympy as sp

from asymptest.theory.errors import UnsupportedError

x = sp.Symbol("x", real=True)
ENDLESS = (sp.floor, sp.ceiling, sp.frac, sp.Mod)  # these jump without end


def with_steps(expr: sp.Expr) -> sp.Expr:
    """Return `expr` with Max, Abs, sign and Piecewise written in Heaviside steps.

    Equal almost everywhere, and what has probability zero changes no Gaussian mean. Steps
    switch where a line crosses zero and stand in sums and products only, unless it switches
    at points that cannot be listed.

    >>> with_steps(sp.Piecewise((x, x > 0), (x / 10, True)))
    x*(1 - Heaviside(x))/10 + x*Heaviside(x)
    >>> with_steps(sp.Min(6, sp.Max(0, x)))
    x*Heaviside(x) + (6 - x)*Heaviside(x - 6)
    """
    one_line: Any = expr.replace(sp.Piecewise, _cases)
    in_steps = one_line.rewrite(sp.Heaviside)
    if _is_plain(in_steps):
        return in_steps
    try:
        parts = intervals(in_steps)
    except UnsupportedError:
        return in_steps
    jumps = (
        sp.expand(right - left) * sp.Heaviside(x - end)
        for (left, end), (right, _) in pairwise(parts)
    )
    return sp.Add(parts[0][0], *jumps)


def intervals(expr: sp.Expr) -> list[tuple[sp.Expr, sp.Expr]]:
    """Return what a function in Heaviside steps is, and up to where, from left to right.

    Raises:
        UnsupportedError: if it switches at points that cannot be listed, as |sin x| does.

    >>> intervals(x * sp.Heaviside(x**2 - 1))
    [(x, -1), (0, 1), (x, oo)]
    """
    if expr.has(*ENDLESS):
        raise _unlisted(expr, expr)
    return _intervals(expr, -sp.oo, sp.oo)


def _intervals(expr: Any, start: Any, end: Any) -> list[tuple[Any, Any]]:
    steps = sorted(expr.atoms(sp.Heaviside), key=sp.default_sort_key)
    step = next((s for s in steps if not s.args[0].has(sp.Heaviside)), None)
    if step is None:
        return [(expr, end)]
    switch = step.args[0]
    result: list[tuple[Any, Any]] = []
    for low, high in pairwise([start, *_roots(expr, switch, start, end), end]):
        value = switch.subs(x, _between(low, high))
        if value.is_zero or not value.is_extended_real:
            raise _unlisted(expr, switch)
        side = sp.Integer(1 if value.is_positive else 0)
        result += _intervals(expr.xreplace({step: side}), low, high)
    return result


def _roots(expr: Any, switch: Any, start: Any, end: Any) -> list[Any]:
    """Return where a switch is zero between start and end, from left to right."""
    exact = sp.nsimplify(switch, rational=True) if switch.has(sp.Float) else switch
    slope = sp.diff(exact, x)
    polynomial = sp.Poly(exact, x) if exact.is_polynomial(x) else None
    if slope.is_number and slope != 0:
        found: Any = [-exact.subs(x, 0) / slope]
    elif polynomial is not None and (
        polynomial.domain.is_ZZ or polynomial.domain.is_QQ
    ):
        found = sp.real_roots(polynomial, multiple=True)
    else:
        found = sp.solveset(switch, x, sp.Interval.open(start, end))
        if not (found.is_empty or found.is_FiniteSet):
            raise _unlisted(expr, switch)
    return sorted({root for root in found if start < root < end})


def _between(low: Any, high: Any) -> Any:
    if low.is_infinite:
        return sp.Integer(0) if high.is_infinite else high - 1
    return low + 1 if high.is_infinite else (low + high) / 2


def _unlisted(expr: Any, switch: Any) -> UnsupportedError:
    return UnsupportedError(
        f"{expr} switches where {switch} = 0, and these points cannot be listed; write it "
        f"with finitely many switches"
    )


def _is_plain(expr: sp.Expr) -> bool:
    """Return whether each step is one of a line, and the whole a polynomial in the steps."""
    steps = expr.atoms(sp.Heaviside)
    if any(step.args[0].has(sp.Heaviside) for step in steps):
        return False
    if any(sp.diff(step.args[0], x).has(x) for step in steps):
        return False
    dummies = {step: sp.Dummy() for step in steps}
    replaced: Any = expr.xreplace(dummies)
    return not steps or bool(replaced.is_polynomial(*dummies.values()))


def _cases(*cases: Any) -> Any:
    value, remaining = sp.Integer(0), sp.Integer(1)
    for expr, condition in cases:
        holds = _indicator(condition)
        value += remaining * holds * expr
        remaining *= 1 - holds
    return value


def _indicator(condition: Any) -> Any:
    """Return 1 where a condition holds and 0 where not, almost everywhere."""
    match condition.func:
        case sp.Gt | sp.Ge | sp.Lt | sp.Le:
            return sp.Heaviside(condition.gts - condition.lts)
        case sp.true.func | sp.Ne:
            return sp.Integer(1)
        case sp.false.func | sp.Eq:
            return sp.Integer(0)
        case sp.Not:
            return 1 - _indicator(condition.args[0])
        case sp.And:
            return sp.Mul(*map(_indicator, condition.args))
        case sp.Or:
            return 1 - sp.Mul(*(1 - _indicator(part) for part in condition.args))
        case _:
            raise UnsupportedError(
                f"the condition {condition} of a Piecewise is no inequality; write it "
                f"with <, >, &, | and ~"
            )
