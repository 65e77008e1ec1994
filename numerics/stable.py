"""Closed forms rewritten so that nothing cancels, overflows or divides by zero needlessly.

A dual in the variances p, q and the covariance c is written in the standard deviations a, b,
the correlation rho and w = 1 - rho^2, a variable of its own: near rho = 1 it is known far more
accurately than rho is. Then

    p q - c^2 = a^2 b^2 w         (1 + 2 p) (1 + 2 q) - 4 c^2 = 1 + 2 a^2 + 2 b^2 + 4 a^2 b^2 w

are sums of positive terms, and asin(n / d) = atan2(n, sqrt(d^2 - n^2)) keeps its digits where
its argument is near 1. Sums are divided term by term, so that large factors cancel before they
are multiplied, and erfi becomes Dawson's function, whose exponential joins the others.
"""

from typing import Any

import sympy as sp

from asymptest.theory.substitution import summands

a, b, w = sp.symbols("a b w", positive=True)  # standard deviations; w = 1 - rho^2
rho = sp.Symbol("rho", real=True)


class Dawson(sp.Function):
    """Dawson's integral, erfi(z) = 2 / sqrt(pi) exp(z^2) Dawson(z)."""


class ExpDifference(sp.Function):
    """ExpDifference(s, d) = exp(s + d) - exp(s - d), without cancellation at d = 0."""


def stable(expr: sp.Expr, p: sp.Expr, q: sp.Expr, c: sp.Expr) -> Any:
    """Return an expression in variances p, q and covariance c as one in a, b, rho and w."""
    value: Any = expr.subs({p: a**2, q: b**2, c: a * b * rho}, simultaneous=True)
    value = value.replace(sp.asin, _as_atan2).replace(sp.erfi, _as_dawson)
    value = sp.Add(
        *summands(
            value.replace(_is_polynomial, _positive),
            opens=lambda e: not e.is_polynomial(a, b, rho, w),
        )
    )
    if value.has(sp.exp):
        terms = (sp.powsimp(term, combine="exp") for term in sp.Add.make_args(value))
        value = _paired(sp.Add(*terms).replace(sp.exp, lambda e: sp.exp(_positive(e))))
    if any(e.base in (a, b) and e.exp.is_negative for e in value.atoms(sp.Pow)):
        value = sp.expand(
            value, power_exp=False
        )  # cancels a / a, which a zero row would turn into nan
    return value


def _as_atan2(argument: Any) -> Any:
    above, below = sp.fraction(argument)
    return sp.atan2(above, sp.sqrt(_positive(below**2 - above**2)))


def _as_dawson(z: Any) -> Any:
    return 2 / sp.sqrt(sp.pi) * sp.exp(z**2) * Dawson(z)


def _paired(total: Any) -> Any:
    """Return a sum with k exp(s + d) - k exp(s - d) as one term, d odd and s even in rho."""
    single: dict[Any, Any] = {}
    rest = []
    for term in sp.Add.make_args(total):
        factor, exponential = term.as_independent(sp.exp, as_Add=False)
        if isinstance(exponential, sp.exp) and not factor.has(rho):
            exponent = sp.factor(exponential.args[0])
            single[exponent] = single.get(exponent, 0) + factor
        else:
            rest.append(term)
    for exponent in list(single):
        mirrored = sp.factor(exponent.subs(rho, -rho))
        if exponent in single and single.get(mirrored) == -single[exponent]:
            middle, half = (
                sp.factor((exponent + sign * mirrored) / 2) for sign in (1, -1)
            )
            rest.append(single.pop(exponent) * ExpDifference(middle, half))
            del single[mirrored]
    return sp.Add(*rest, *(k * sp.exp(e) for e, k in single.items()))


def _is_polynomial(e: Any) -> bool:
    return e.is_Add and e.is_polynomial(a, b, rho, w)


def _positive(expr: Any) -> Any:
    """Return a rational function with 1 - rho^2 as w, numerator and denominator factored."""
    above, below = (_in_w(part) for part in sp.fraction(sp.together(expr)))
    return sp.factor(above) / sp.factor(below)


def _in_w(polynomial: Any) -> Any:
    """Return a polynomial with rho^2 = 1 - w, unless it is a sum of positive terms as it is."""
    terms = sp.expand(polynomial)
    if not any(_is_negative(term) for term in sp.Add.make_args(terms)):
        return terms
    return sp.expand(terms.replace(_is_power, _even_part_in_w))


def _is_negative(term: Any) -> bool:
    return bool(term.as_coeff_Mul()[0].is_negative)


def _is_power(e: Any) -> bool:
    return e.is_Pow and e.base == rho and e.exp.is_Integer


def _even_part_in_w(e: Any) -> Any:
    return rho ** (e.exp % 2) * (1 - w) ** (e.exp // 2)
