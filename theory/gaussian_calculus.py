"""Gaussian calculus: E f(u) g(v) for jointly Gaussian u, v, derived step by step.

u and v are centred with variances p and q and covariance c. The functions are sums of

    coefficient * x^k * base(x),   base one of  1, H(x), delta(x), erf(a x), exp(-b x^2)

and four rules reduce any product of two of them:

    Stein     E u f(u) g(v) = p E f'(u) g(v) + c E f(u) g'(v)      takes a power of u away
    Bonnet    E delta(u) g(v) = E[g(v) | u = 0] / sqrt(2 pi p)      conditions
    Price     d/dc E f(u) g(v) = E f'(u) g'(v)                      then integrates in c,
              from c = 0, where u and v are independent
    Tilt      E exp(-b u^2) h(u, v) = E' h(u, v) / sqrt(1 + 2 b p), where E' has
              p' = p / (1 + 2 b p), c' = c / (1 + 2 b p), q' = q - 2 b c^2 / (1 + 2 b p)

Source: Price (1958); Bonnet (1964); Stein (1981). Independent check: numerics/quadrature.py.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp

from asymptest.theory.activations import Activation, with_steps, x
from asymptest.theory.errors import NoClosedFormError
from asymptest.theory.steps import E, Step, equate
from asymptest.theory.substitution import put

p, q = sp.symbols("p q", positive=True)
c = sp.Symbol("c", real=True)
u, v = sp.symbols("u v", real=True)
rho = sp.Symbol("rho", real=True)

H, delta = sp.Heaviside, sp.DiracDelta


@dataclass(frozen=True)
class Piece:
    """coefficient * x^power * base(x)."""

    coefficient: sp.Expr
    power: int
    base: sp.Expr

    @property
    def expr(self) -> sp.Expr:
        """The piece as an expression in x."""
        return self.coefficient * x**self.power * self.base


@dataclass(frozen=True)
class Derived:
    """A value and the steps that led to it."""

    value: sp.Expr
    steps: tuple[Step, ...]


def pieces(expr: sp.Expr) -> tuple[Piece, ...]:
    """Split a function of x into pieces that the rules know.

    Raises:
        NoClosedFormError: if some part is of another form.
    """
    steps = sp.expand(with_steps(expr))
    # H(x)^2 = H(x) and H(-x) = 1 - H(x) hold almost everywhere, and that is enough.
    steps = steps.replace(lambda e: isinstance(e, H), _standard_step)
    steps = sp.expand(steps).replace(
        lambda e: isinstance(e, sp.Pow) and isinstance(e.base, H), lambda e: e.base
    )
    found: dict[tuple[int, sp.Expr], sp.Expr] = {}
    for term in sp.Add.make_args(sp.expand(steps)):
        if term == 0:
            continue
        constant, rest = term.as_independent(x, as_Add=False)
        power, base = _split_power(rest)
        if isinstance(base, delta) and power > 0:
            continue  # x delta(x) = 0
        _check_base(base, expr)
        found[power, base] = found.get((power, base), sp.Integer(0)) + constant
    return tuple(Piece(a, k, base) for (k, base), a in found.items() if a != 0)


def _standard_step(e: Any) -> sp.Expr:
    argument = e.args[0]
    if argument == x or not argument.has(x):
        return H(x) if argument == x else e
    slope = sp.simplify(argument / x)
    if slope.is_number and slope.is_positive:
        return H(x)
    if slope.is_number and slope.is_negative:
        return 1 - H(x)
    return e


def _split_power(rest: sp.Expr) -> tuple[int, sp.Expr]:
    power, base = 0, sp.Integer(1)
    for factor in sp.Mul.make_args(rest):
        radix, exponent = factor.as_base_exp()
        if radix == x and exponent.is_Integer and exponent >= 0:
            power += int(exponent)
        else:
            base *= factor
    return power, base


def _check_base(base: sp.Expr, whole: sp.Expr) -> None:
    known = base == 1 or base in (H(x), delta(x)) or _gauss_rate(base) is not None
    if isinstance(base, sp.erf):
        known = _positive_constant(sp.simplify(base.args[0] / x))
    if not known:
        raise NoClosedFormError(
            f"no rule reduces E f(u) g(v) for the part {base} of {whole}; evaluate it by "
            f"quadrature (asymptest.numerics does so by itself)"
        )


def _gauss_rate(base: sp.Expr) -> sp.Expr | None:
    """Return b if `base` is exp(-b x^2) with b > 0."""
    if not isinstance(base, sp.exp):
        return None
    exponent: Any = base.args[0]
    rate = sp.simplify(-exponent / x**2)
    return rate if _positive_constant(rate) else None


def _positive_constant(expr: Any) -> bool:
    return bool(expr.is_positive) and not expr.has(x)


def derivative(expr: sp.Expr) -> sp.Expr:
    """Return the distributional derivative in x."""
    return sp.expand(sp.diff(sp.expand(with_steps(expr)), x))


@lru_cache(maxsize=4096)
def moment(expr: sp.Expr, variance: sp.Expr) -> sp.Expr:
    """Return E f(u) for u ~ N(0, variance), f built from the same pieces.

    >>> moment(x**4, p)
    3*p**2
    """
    return sp.Add(
        *(piece.coefficient * _moment(piece, variance) for piece in pieces(expr))
    )


def _moment(piece: Piece, s: sp.Expr) -> sp.Expr:
    k, base = piece.power, piece.base
    if (rate := _gauss_rate(base)) is not None:
        mass = 1 + 2 * rate * s
        return moment(x**k, s / mass) / sp.sqrt(mass)
    if k >= 1:  # Stein with v absent: E u f(u) = s E f'(u)
        return s * moment(derivative(x ** (k - 1) * base), s)
    if base == 1:
        return sp.Integer(1)
    if base == H(x):
        return sp.Rational(1, 2)
    if base == delta(x):
        return 1 / sp.sqrt(2 * sp.pi * s)
    return sp.Integer(0)  # erf is odd


@lru_cache(maxsize=4096)
def product_moment(f: sp.Expr, g: sp.Expr) -> Derived:
    """Return E f(u) g(v) in p, q, c, with its steps; f and g are expressions in x.

    Raises:
        NoClosedFormError: if the rules do not apply.
    """
    terms = [(a, b) for a in pieces(f) for b in pieces(g)]
    values: list[sp.Expr] = []
    steps: list[Step] = []
    for a, b in terms:
        part = _pair(a.power, a.base, b.power, b.base)
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
def _pair(k: int, f: sp.Expr, m: int, g: sp.Expr) -> Derived:
    """Return E u^k f(u) v^m g(v) for bases f, g."""
    whole_f, whole_g = x**k * f, x**m * g
    name = _named(whole_f, whole_g)
    if k == 0 and f == 1:
        value = moment(whole_g, q)
        return Derived(
            value,
            (Step("One variable", "Only $v$ is left.", equate(name, value)),),
        )
    if m == 0 and g == 1:
        return _swapped(k, f, m, g, name)
    if f == delta(x):
        return _condition(whole_g, name)
    if g == delta(x):
        return _swapped(k, f, m, g, name)
    if (rate := _gauss_rate(f)) is not None:
        return _tilt(rate, k, m, g, name)
    if _gauss_rate(g) is not None:
        return _swapped(k, f, m, g, name)
    if k >= 1:
        return _stein(k, f, m, g, name)
    if m >= 1:
        return _swapped(k, f, m, g, name)
    return _price(f, g, name)


def _swapped(k: int, f: sp.Expr, m: int, g: sp.Expr, name: sp.Expr) -> Derived:
    """Exchange the roles of u and v: E u^k f(u) v^m g(v) from E u^m g(u) v^k f(v)."""
    other = _pair(m, g, k, f)
    names = {u: v, v: u, p: q, q: p, _named(x**m * g, x**k * f): name}
    value: Any = other.value.xreplace(names)
    return Derived(value, tuple(_exchanged(step, names) for step in other.steps))


def _exchanged(step: Step, names: dict[Any, Any]) -> Step:
    """Return a step about (v, u) as one about (u, v), formulas in its reason too."""
    letters = {"u": "v", "v": "u", "p": "q", "q": "p"}

    def formula(found: re.Match[str]) -> str:
        return re.sub(r"\b[uvpq]\b", lambda letter: letters[letter[0]], found[0])

    reason = re.sub(r"\$.*?\$", formula, step.reason)
    return Step(step.name, reason, step.result.xreplace(names))


def _stein(k: int, f: sp.Expr, m: int, g: sp.Expr, name: sp.Expr) -> Derived:
    lower, whole_g = x ** (k - 1) * f, x**m * g
    pairs = ((p, derivative(lower), whole_g), (c, lower, derivative(whole_g)))
    pairs = [pair for pair in pairs if 0 not in pair]
    parts = [product_moment(a, b) for _, a, b in pairs]
    rule = sp.Add(*(factor * _named(a, b) for factor, a, b in pairs))
    value = sp.simplify(
        sp.Add(*(pair[0] * part.value for pair, part in zip(pairs, parts, strict=True)))
    )
    step = Step("Stein", "Take one power of $u$ away.", equate(name, rule))
    done = Step("Hence", "Insert the parts.", equate(name, value))
    steps = (step for part in parts for step in part.steps)
    return Derived(value, (step, *steps, done))


def _condition(g: sp.Expr, name: sp.Expr) -> Derived:
    """E delta(u) g(v): v given u = 0 is N(0, q - c^2/p)."""
    spread = (p * q - c**2) / p
    dummy = sp.Symbol("s", positive=True)
    value = (moment(g, dummy).subs(dummy, spread) / sp.sqrt(2 * sp.pi * p)).simplify()
    reason = (
        "The density of $u$ at 0 times the mean given $u = 0$, where $v$ has the variance "
        "$q - c^2 / p$."
    )
    return Derived(value, (Step("Bonnet", reason, equate(name, value)),))


def _tilt(rate: sp.Expr, k: int, m: int, g: sp.Expr, name: sp.Expr) -> Derived:
    """E u^k exp(-rate u^2) v^m g(v): the exponential changes the covariance of (u, v)."""
    mass = 1 + 2 * rate * p
    tilted = {p: p / mass, c: c / mass, q: q - 2 * rate * c**2 / mass}
    inner = _pair(k, sp.Integer(1), m, g)
    value: Any = sp.factor(put(tilted, inner.value)) / sp.sqrt(mass)
    value = sp.powdenest(sp.simplify(value), force=False)
    reason = (
        "The exponential of $-b u^2$ changes the covariance: divide $p$ and $c$ by "
        "$1 + 2 b p$, take $2 b c^2 / (1 + 2 b p)$ from $q$, and divide the mean by the "
        "root of $1 + 2 b p$."
    )
    return Derived(value, (*inner.steps, Step("Tilt", reason, equate(name, value))))


def _price(f: sp.Expr, g: sp.Expr, name: sp.Expr) -> Derived:
    slope = product_moment(derivative(f), derivative(g))
    start = moment(f, p) * moment(g, q)
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
