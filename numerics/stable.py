"""Closed forms rewritten so that nothing cancels, overflows or divides by zero needlessly.

A dual in the variances p, q and the covariance c is written in the standard deviations a, b,
the correlation rho and w = 1 - rho^2, a variable of its own: near rho = 1 it is known far more
accurately than rho is. Then

    p q - c^2 = a^2 b^2 w         (1 + 2 p) (1 + 2 q) - 4 c^2 = 1 + 2 a^2 + 2 b^2 + 4 a^2 b^2 w

are sums of positive terms, and asin(n / d) = atan2(n, sqrt(d^2 - n^2)) keeps its digits where
its argument is near 1. In exponents

    a^2 - 2 a b rho + b^2 = (a - b)^2 + 2 a b (1 - rho),

which is small where a wave of large variance has a dual at all. Sums are divided term by
term, so that large factors cancel before they are multiplied, and erfi becomes Dawson's
function, whose exponential joins the others.
"""

from typing import Any

import sympy as sp

from asymptest.theory.substitution import summands

a, b, w = sp.symbols("a b w", positive=True)  # standard deviations; w = 1 - rho^2
rho = sp.Symbol("rho", real=True)


class Dawson(sp.Function):
    """Dawson's integral, erfi(z) = 2 / sqrt(pi) exp(z^2) Dawson(z)."""


class ExpDifference(sp.Function):
    """ExpDifference(s, t, d) = exp(s) - exp(t), where s - t = 2 d is known better from d."""


class OneMinus(sp.Function):
    """OneMinus(rho, w) = 1 - rho, from w where rho is near 1."""


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
    return value.replace(sp.exp, lambda e: sp.exp(_squared(e))).replace(
        ExpDifference, lambda s, t, d: ExpDifference(_squared(s), _squared(t), d)
    )


def _as_atan2(argument: Any) -> Any:
    above, below = sp.fraction(argument)
    constant = above.as_coeff_Mul()[0]  # into the root, whose constants are no matrices
    rest = _positive((below**2 - above**2) / constant**2)
    number, factor = rest.as_coeff_Mul()
    root = sp.sqrt(sp.expand(number * factor) if factor.is_Add else rest)
    return sp.atan2(above / constant, root)


def _as_dawson(z: Any) -> Any:
    return 2 / sp.sqrt(sp.pi) * sp.exp(z**2) * Dawson(z)


def _paired(total: Any) -> Any:
    """Return a sum with k exp(s(rho)) - k exp(s(-rho)) as one term."""
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
            difference = ExpDifference(
                exponent, mirrored, sp.factor((exponent - mirrored) / 2)
            )
            rest.append(single.pop(exponent) * difference)
            del single[mirrored]
    return sp.Add(*rest, *(k * sp.exp(e) for e, k in single.items()))


def _squared(exponent: Any) -> Any:
    """Return an exponent with a^2 + b^2 -+ 2 a b rho, of any scales, as a sum of squares."""
    above, below = sp.fraction(sp.together(exponent))
    if not above.is_polynomial(a, b, rho, w):
        return exponent
    terms: Any = sp.Poly(above, a, b, rho, w)
    left, right = terms.coeff_monomial(a**2), terms.coeff_monomial(b**2)
    mixed = terms.coeff_monomial(a * b * rho)
    if mixed == 0 or mixed**2 != 4 * left * right:
        return exponent
    rest = terms.as_expr() - left * a**2 - right * b**2 - mixed * a * b * rho
    ratio, gap = sp.sqrt(right / left), OneMinus(-sp.sign(left * mixed) * rho, w)
    return (rest + left * ((a - ratio * b) ** 2 + 2 * ratio * a * b * gap)) / below


def _is_polynomial(e: Any) -> bool:
    return e.is_Add and e.is_polynomial(a, b, rho, w)


def _positive(expr: Any) -> Any:
    """Return a rational function with 1 - rho^2 as w, numerator and denominator factored."""
    parts: Any = [sp.factor(_in_w(part)) for part in sp.fraction(sp.together(expr))]
    return parts[0] / parts[1]


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
