"""Gaussian calculus: E f(u) g(v) for jointly Gaussian u, v, derived step by step.

u and v are centred with variances p and q and covariance c. The functions are sums of the
pieces of theory/pieces.py, and five rules reduce any product of two of them:

    Bonnet    E delta(u - t) g(v) = density of u at t * E[g(v) | u = t]     conditions
    Tilt      E exp(-s u^2 - t v^2) h(u, v) = E' h(u, v) / sqrt(m), where E' has the
              precision matrix of (u, v) plus 2 diag(s, t), m = (1 + 2 s p) (1 + 2 t q) - 4 s t c^2
    Stein     E u f(u) g(v) = p E f'(u) g(v) + c E f(u) g'(v)      takes a power of u away
    Shift     E exp(a u + b v) f(u) g(v)
                  = exp((a^2 p + 2 a b c + b^2 q) / 2) E f(u + a p + b c) g(v + a c + b q)
    Price     d/dc E f(u) g(v) = E f'(u) g'(v)                      then integrates in c,
              from c = 0, where u and v are independent

With imaginary a and b, Shift is the characteristic function: it serves sines and cosines.

Source: Price (1958); Bonnet (1964); Stein (1981). Independent checks:
numerics/quadrature.py and numerics/enclosure.py.
"""

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

import sympy as sp

from asymptest.theory.activations import Activation
from asymptest.theory.errors import NoClosedFormError
from asymptest.theory.pieces import H, Piece, delta, derivative, pieces
from asymptest.theory.piecewise import x
from asymptest.theory.steps import Derived, E, Step, equate
from asymptest.theory.store import stored
from asymptest.theory.substitution import put, summands

p, q = sp.symbols("p q", positive=True)
c = sp.Symbol("c", real=True)
u, v = sp.symbols("u v", real=True)
P, Q, M = sp.symbols("P Q M", positive=True)


@lru_cache(maxsize=4096)
def moment(expr: sp.Expr, variance: sp.Expr) -> sp.Expr:
    """Return E f(u) for u ~ N(0, variance), f built from the same pieces.

    Raises:
        NoClosedFormError: if the rules do not apply.

    >>> moment(x**4, p)
    3*p**2
    """
    parts = (piece.coefficient * _moment(piece, variance) for piece in pieces(expr))
    return real(sp.Add(*parts))


@lru_cache(maxsize=4096)  # Stein's rule meets the same lower powers again and again
def _moment(piece: Piece, s: sp.Expr) -> sp.Expr:
    if piece.rate != 0:  # Tilt
        mass = 1 + 2 * piece.rate * s
        return _moment(replace(piece, rate=sp.S.Zero), s / mass) / sp.sqrt(mass)
    if piece.power > 0:  # Stein with v absent: E u f(u) = s E f'(u)
        lower = pieces(derivative(piece.function / x))
        value = s * sp.Add(*(part.coefficient * _moment(part, s) for part in lower))
        # Times an exponential a moment is a polynomial, which doubles with each power if it
        # is not multiplied out.
        return sp.expand(value, power_exp=False) if piece.tilt != 0 else value
    return sp.exp(piece.tilt**2 * s / 2) * _base_mean(piece, s, piece.tilt * s)


def _base_mean(piece: Piece, s: sp.Expr, shift: sp.Expr) -> sp.Expr:
    """Return E base(u + shift) for u ~ N(0, s)."""
    if piece.base == 1:
        return sp.Integer(1)
    slope, offset = piece.line
    at = offset + slope * shift
    if isinstance(piece.base, delta):
        return sp.exp(-(at**2) / (2 * s)) / sp.sqrt(2 * sp.pi * s)
    if isinstance(piece.base, H):
        return (1 + sp.erf(at / sp.sqrt(2 * s))) / 2
    return sp.erf(at / sp.sqrt(1 + 2 * slope**2 * s))


def real(value: sp.Expr) -> sp.Expr:
    """Return a value that is known to be real without the imaginary unit.

    Raises:
        NoClosedFormError: if it is left, as inside an erf.
    """
    if not value.has(sp.I):
        return value
    on_axis = value.replace(
        lambda e: isinstance(e, sp.erf) and e.has(sp.I),
        lambda e: sp.I * sp.erfi(sp.expand(e.args[0] / sp.I)),
    )
    terms = summands(on_axis)
    without: Any = sp.Add(*(_real_part(t) if t.has(sp.I) else t for t in terms))
    if without.has(sp.I):
        raise NoClosedFormError(f"no rule writes {value} without the imaginary unit")
    return without


def _real_part(term: Any) -> Any:
    factor, exponential = _exponential(term)
    (a, b), (size, angle) = _parts(factor), _parts(exponential)
    if b.has(sp.I) or angle.has(sp.I):  # as erfi(1 + i), which is no real number
        raise NoClosedFormError(f"no rule writes {term} without the imaginary unit")
    return sp.exp(size) * (a * sp.cos(angle) - b * sp.sin(angle))


def _exponential(term: Any) -> tuple[Any, Any]:
    """Return k and e of a term k exp(e)."""
    exponent: Any = sp.Integer(0)
    factor = sp.Integer(1)
    for part in sp.Mul.make_args(term):
        if isinstance(part, sp.exp):
            exponent += part.args[0]
        else:
            factor *= part
    return factor, exponent


def _parts(z: Any) -> tuple[Any, Any]:
    """Return real and imaginary part of an expression in real symbols."""
    terms = sp.Add.make_args(sp.expand(z))
    imaginary = sp.Add(*(term / sp.I for term in terms if term.has(sp.I)))
    return sp.Add(*(term for term in terms if not term.has(sp.I))), imaginary


def tidy(value: sp.Expr) -> Any:
    """Return an equal value: roots split, exponentials collected, the rest simplified."""
    value = _neat(value)
    if not value.has(sp.exp):
        return sp.simplify(value)
    terms: dict[Any, Any] = {}
    for term in summands(value):
        factor, exponent = _exponential(term)
        terms[exponent] = terms.get(exponent, 0) + factor
    return sp.Add(*(sp.factor(factor) * sp.exp(e) for e, factor in terms.items()))


def _neat(value: Any) -> Any:
    """Return an equal value with roots split into factors and exponents as one fraction."""
    roots = value.replace(
        lambda e: e.is_Pow and e.exp.is_Rational and not e.exp.is_Integer, _split
    )
    return roots.replace(sp.exp, lambda exponent: sp.exp(sp.factor(exponent)))


def _split(root: Any) -> Any:
    """Return a root as a product of roots of irreducible factors.

    A root that is real wherever p, q > 0 and c^2 < p q has no factor of odd power that
    changes its sign there, so the sign at one point is the sign.
    """
    result = sp.Integer(1)
    for factor in sp.Mul.make_args(sp.factor(root.base)):
        base, power = factor.as_base_exp()
        sign = put({s: 1 if s == c else 2 for s in base.free_symbols}, base)
        result *= (-base if sign.is_negative else base) ** (power * root.exp)
    return result


@lru_cache(maxsize=4096)
@stored
def product_moment(f: sp.Expr, g: sp.Expr) -> Derived:
    """Return E f(u) g(v) in p, q, c, with its steps; f and g are expressions in x.

    Raises:
        NoClosedFormError: if the rules do not apply.
    """
    total = _sum(f, g)
    value = real(total.value)
    if value == total.value:
        return total
    step = Step("Real part", "The imaginary parts cancel.", equate(_named(f, g), value))
    return Derived(value, (*total.steps, step))


@lru_cache(maxsize=4096)
def _sum(f: sp.Expr, g: sp.Expr) -> Derived:
    """Return E f(u) g(v) as the sum over the pieces of f and g."""
    values: list[sp.Expr] = []
    steps: list[Step] = []
    for a in pieces(f):
        for b in pieces(g):
            part = _pair(a.unit, b.unit)
            values.append(a.coefficient * b.coefficient * part.value)
            steps += [step for step in part.steps if step not in steps]
    value = sp.Add(*values)
    conclusion = equate(_named(f, g), value)
    if not steps or steps[-1].result != conclusion:
        reason = "Add the parts, each with its coefficient."
        steps.append(Step("Linearity", reason, conclusion))
    return Derived(value, tuple(steps))


def _named(f: Any, g: Any) -> Any:
    left, right = f.subs(x, u), g.subs(x, v)
    # Unevaluated, so that the two functions stay apart.
    return E(sp.Mul(left, right, evaluate=left.is_number or right.is_number))


@lru_cache(maxsize=4096)
def _pair(a: Piece, b: Piece) -> Derived:
    """Return E a(u) b(v) for two pieces with the coefficient 1."""
    if a.is_one:
        name = _named(a.function, b.function)
        value = _moment(b, q)
        step = Step("One variable", "Only $v$ is left.", equate(name, value))
        return Derived(value, (step,))
    if isinstance(a.base, delta):
        return _condition(a, b)
    if b.is_one or isinstance(b.base, delta):
        return _swapped(a, b)
    if a.rate != 0 or b.rate != 0:
        return _tilt(a, b)
    if a.power > 0:
        return _stein(a, b)
    if b.power > 0:
        return _swapped(a, b)
    if a.tilt != 0 or b.tilt != 0:
        return _shift(a, b)
    return _price(a, b)


def _swapped(a: Piece, b: Piece) -> Derived:
    """Exchange the roles of u and v: E a(u) b(v) from E b(u) a(v)."""
    other = _pair(b, a)
    named = _named(b.function, a.function)
    names = {u: v, v: u, p: q, q: p, named: _named(a.function, b.function)}
    value: Any = other.value.xreplace(names)
    return Derived(value, tuple(_exchanged(step, names) for step in other.steps))


def _exchanged(step: Step, names: dict[Any, Any]) -> Step:
    """Return a step about (v, u) as one about (u, v), formulas in its reason too."""
    letters = {"u": "v", "v": "u", "p": "q", "q": "p"}

    def formula(found: re.Match[str]) -> str:
        return re.sub(r"\b[uvpq]\b", lambda letter: letters[letter[0]], found[0])

    reason = re.sub(r"\$.*?\$", formula, step.reason)
    return Step(step.name, reason, step.result.xreplace(names))


def _stein(a: Piece, b: Piece) -> Derived:
    lower, whole = a.function / x, b.function
    pairs = ((p, derivative(lower), whole), (c, lower, derivative(whole)))
    pairs = [pair for pair in pairs if 0 not in pair]
    parts = [_sum(f, g) for _, f, g in pairs]
    name = _named(a.function, whole)
    rule = sp.Add(*(factor * _named(f, g) for factor, f, g in pairs))
    value = tidy(
        sp.Add(*(pair[0] * part.value for pair, part in zip(pairs, parts, strict=True)))
    )
    step = Step("Stein", "Take one power of $u$ away.", equate(name, rule))
    done = Step("Hence", "Insert the parts.", equate(name, value))
    steps = (step for part in parts for step in part.steps)
    return Derived(value, (step, *steps, done))


def _condition(a: Piece, b: Piece) -> Derived:
    """E delta(u - t) g(v): v given u = t is N(c t / p, q - c^2 / p)."""
    name = _named(a.function, b.function)
    at, spread = -a.line[1], sp.Symbol("s", positive=True)
    given = moment(b.function.subs(x, x + c * at / p), spread)
    value = _moment(a, p) * put({spread: (p * q - c**2) / p}, given)
    value = tidy(value)
    reason = (
        f"The density of $u$ at ${at}$ times the mean given $u = {at}$, where $v$ has the "
        f"variance $q - c^2 / p${'' if at == 0 else f' and the mean ${c * at / p}$'}."
    )
    return Derived(value, (Step("Bonnet", reason, equate(name, value)),))


def _tilt(a: Piece, b: Piece) -> Derived:
    """E exp(-s u^2 - t v^2) h(u, v): the exponential changes the covariance of (u, v)."""
    s, t, spread = a.rate, b.rate, p * q - c**2
    mass = sp.expand((1 + 2 * s * p) * (1 + 2 * t * q) - 4 * s * t * c**2)
    tilted = {
        p: (p + 2 * t * spread) / mass,
        c: c / mass,
        q: (q + 2 * s * spread) / mass,
    }
    inner = _pair(replace(a, rate=sp.S.Zero), replace(b, rate=sp.S.Zero))
    # p' = P / M and so on with P, Q, M > 0, so that their roots split.
    parts = tidy(put({p: P / M, c: c / M, q: Q / M}, inner.value) / sp.sqrt(M))
    value = _neat(put({P: tilted[p] * mass, Q: tilted[q] * mass, M: mass}, parts))
    name = _named(a.function, b.function)
    reason = (
        f"The exponential of $-({s}) u^2 - ({t}) v^2$ changes the covariance: the mean is "
        f"that of the rest at $p' = {tilted[p]}$, $c' = {tilted[c]}$, "
        f"$q' = {tilted[q]}$, divided by the root of ${mass}$."
    )
    return Derived(value, (*inner.steps, Step("Tilt", reason, equate(name, value))))


def _shift(a: Piece, b: Piece) -> Derived:
    """E exp(g u + h v) f(u) k(v): the exponential moves the means of (u, v)."""
    g, h = a.tilt, b.tilt
    factor = sp.exp(sp.expand((g**2 * p + 2 * g * h * c + h**2 * q) / 2))
    if a.base == 1:
        rest = _base_mean(b, q, g * c + h * q)
    elif b.base == 1:
        rest = _base_mean(a, p, g * p + h * c)
    else:
        raise NoClosedFormError(
            f"no rule reduces E f(u) g(v) for f = {a.function} and g = {b.function}, a "
            f"step or erf moved off the origin in two variables; evaluate it by "
            f"quadrature (asymptest.numerics does so by itself)"
        )
    value = factor * rest
    reason = (
        "The exponential of $a u + b v$ moves the means to $a p + b c$ and $a c + b q$, "
        "and contributes the exponential of $(a^2 p + 2 a b c + b^2 q) / 2$."
    )
    name = _named(a.function, b.function)
    return Derived(value, (Step("Shift", reason, equate(name, value)),))


def _price(a: Piece, b: Piece) -> Derived:
    if a.line[1] != 0 or b.line[1] != 0:
        raise NoClosedFormError(
            f"no rule reduces E f(u) g(v) for f = {a.base} and g = {b.base}, a step or "
            f"erf off the origin in two variables; evaluate it by quadrature "
            f"(asymptest.numerics does so by itself)"
        )
    name = _named(a.function, b.function)
    slope = _sum(derivative(a.function), derivative(b.function))
    start = _moment(a, p) * _moment(b, q)
    value = start + integrate_from_zero(slope.value)
    rule = equate(sp.Derivative(name, c), slope.value)
    return Derived(
        value,
        (
            Step("Price", "Differentiate in the covariance.", rule),
            *slope.steps,
            Step(
                "Constant",
                "At $c = 0$ the two are independent.",
                equate(sp.Subs(name, c, 0), start),
            ),
            Step("Integrate", "From 0 to $c$.", equate(name, value)),
        ),
    )


def integrate_from_zero(slope: sp.Expr) -> sp.Expr:
    """Return the integral of `slope` from 0 to c, for the slopes that Price's rule meets.

    They are const / sqrt(m - k c^2), whose integral is an arcsine.

    Raises:
        NoClosedFormError: for another integrand.
    """
    constant, root = slope.as_independent(c, as_Add=False)
    inside: Any = sp.expand(sp.simplify(1 / root**2))
    k, m = -inside.coeff(c, 2), inside.coeff(c, 0)
    if sp.simplify(inside - (m - k * c**2)) != 0 or k == 0:
        raise NoClosedFormError(f"no rule integrates {slope} in the covariance c")
    return constant / sp.sqrt(k) * sp.asin(c * sp.sqrt(k) / sp.sqrt(sp.factor(m)))


def dual(phi: Activation) -> Derived:
    """Return E phi(u) phi(v) in the variances p, q and the covariance c, with its steps.

    Raises:
        NoClosedFormError: if the calculus has no closed form for `phi`.

    >>> dual(Activation("step", sp.Heaviside(x))).value
    asin(c/(sqrt(p)*sqrt(q)))/(2*pi) + 1/4
    """
    return product_moment(phi.expr, phi.expr)


def mean(phi: Activation) -> sp.Expr:
    """Return E phi(u) in the variance p."""
    return moment(phi.expr, p)


def has_closed_form(phi: Activation) -> bool:
    """Whether `dual(phi)` succeeds."""
    try:
        dual(phi)
    except NoClosedFormError:
        return False
    return True
