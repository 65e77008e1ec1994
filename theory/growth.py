"""Norm growth: how fast ||theta|| grows under steps of a given length and direction.

A step delta of length s(r, t) whose angle with theta has the cosine a takes r = ||theta|| to

    ||theta + delta|| = sqrt(r^2 + 2 a r s + s^2).

Its leading order in s is a flow dr/dt = g(r) h(t). In the clock u = integral dr / g(r) the
flow runs at h(t), and the step itself makes an increment u(||theta + delta||) - u(r), exactly.

* If the increment depends on t alone, u is a sum. By Euler and Maclaurin, sums differ from
  integrals by constants, so each term of its expansion that is not summable is integrated,
  and the rest is a constant, which the start fixes: a sum of Hurwitz zeta functions.
* Otherwise increment / h -> 1 as s / r -> 0, and u / integral h -> 1 by Stolz and Cesaro.

Source: Merrill et al. (2021), arXiv 2010.09697, section 5.4, prints two of these laws; the
independent check is verify/catalogue/growth.py, which moves vectors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sympy as sp

from asymptest.theory.errors import ArgumentError, NoClosedFormError
from asymptest.theory.steps import Derived, Step, equate

r, t, kappa = sp.symbols("r t kappa", positive=True)  # norm, time, size of the steps
a = sp.Symbol("a", positive=True)  # cosine, where it is no number
C = sp.Symbol("C", positive=True)  # what the start decides
n = sp.Symbol("n", integer=True, positive=True)  # a time
_EPS = sp.Symbol("epsilon", positive=True)  # orders the steps by size
_ORDERS = 8  # terms of an increment that may be summed before we give up


@dataclass(frozen=True)
class StepModel:
    """Steps of length `size` whose angle with the parameters has the cosine `cosine`.

    Args:
        size: in the symbols r (norm), t (time, from 1 on) and others, positive.
        cosine: 0 (misaligned) to 1 (aligned); negative ones shrink the norm.

    Raises:
        ArgumentError: if the cosine is not known to be nonnegative.
    """

    size: sp.Expr
    cosine: sp.Expr = sp.S.Zero

    def __post_init__(self) -> None:
        if self.size.is_zero:
            raise ArgumentError("size must not be 0, since the norm must grow")
        if (1 - self.cosine).is_negative:
            raise ArgumentError(f"cosine must be at most 1; got {self.cosine}")
        if not self.cosine.is_nonnegative:
            raise ArgumentError(
                f"cosine must be nonnegative, since the norm must grow; got {self.cosine} "
                f"(declare a symbol with nonnegative=True)"
            )

    @property
    def next_norm(self) -> sp.Expr:
        """Return ||theta + delta||, from r = ||theta||."""
        return self._next_norm(sp.Integer(1))

    def _next_norm(self, factor: sp.Expr) -> sp.Expr:
        """Return the norm after a step `factor` times as long."""
        relative = factor * sp.expand(self.size / r)
        return r * sp.sqrt(1 + 2 * self.cosine * relative + relative**2)


@dataclass(frozen=True)
class Row:
    """A row of the table of laws: the steps, and the law that is printed for them."""

    name: str
    model: StepModel
    printed: sp.Expr | None = None


TABLE = (
    Row(
        "misaligned, relative steps, rate 1/sqrt(t)",
        StepModel(kappa * r / sp.sqrt(t)),
        printed=sp.sqrt(t),
    ),
    Row("misaligned, constant steps", StepModel(kappa)),
    Row("misaligned, constant steps, rate 1/sqrt(t)", StepModel(kappa / sp.sqrt(t))),
    Row("scale-invariant loss", StepModel(kappa / r)),
    Row("scale-invariant loss, rate 1/sqrt(t)", StepModel(kappa / r / sp.sqrt(t))),
    Row(
        "aligned, relative steps, rate 1/sqrt(t)",
        StepModel(kappa * r / sp.sqrt(t), sp.Integer(1)),
        printed=sp.exp(sp.sqrt(t)),
    ),
    Row(
        "any cosine, relative steps, rate 1/sqrt(t)",
        StepModel(kappa * r / sp.sqrt(t), a),
    ),
)


def flow(model: StepModel) -> sp.Expr:
    """Return dr/dt: the leading order of ||theta + delta|| - ||theta|| in the step's size.

    >>> flow(StepModel(kappa)), flow(StepModel(kappa, a))
    (kappa**2/(2*r), a*kappa)
    """
    grown = model._next_norm(_EPS)
    orders = (sp.simplify(_order(grown, k)) for k in (1, 2))
    return next(rate for rate in orders if rate != 0)


def _order(expr: sp.Expr, k: int) -> sp.Expr:
    """Return the coefficient of epsilon^k."""
    return sp.diff(expr, _EPS, k).subs(_EPS, 0) / sp.factorial(k)


def clock(model: StepModel) -> tuple[sp.Expr, sp.Expr]:
    """Return u(r) = integral dr / g(r) and h(t), for the flow dr/dt = g(r) h(t).

    Raises:
        NoClosedFormError: if the flow is not separable, or if it reaches infinity in finite
            time.

    >>> clock(StepModel(kappa / r))
    (r**4/4, kappa**2/2)
    """
    rate = flow(model)
    parts: Any = sp.separatevars(rate, (r, t), dict=True)
    if parts is None:
        raise NoClosedFormError(
            f"dr/dt = {rate} is not a product of functions of r and of t; give steps whose "
            f"size is one"
        )
    u = sp.integrate(1 / parts[r], r)
    if sp.limit(u, r, sp.oo) != sp.oo:
        raise NoClosedFormError(
            f"dr/dt = {rate} reaches infinity in finite time; give steps that grow no faster "
            f"with the norm than the norm itself"
        )
    return u, sp.simplify(parts["coeff"] * parts[t])


def increment(model: StepModel) -> sp.Expr:
    """Return by how much one step advances the clock, exactly.

    >>> increment(StepModel(kappa / r))
    kappa**4/(4*r**4) + kappa**2/2
    """
    return _increment(model, sp.Integer(1))


def _increment(model: StepModel, factor: sp.Expr) -> sp.Expr:
    u, _ = clock(model)
    later = u.subs(r, model._next_norm(factor))
    return sp.expand(sp.expand_log(later - u))


def terms(model: StepModel, orders: int) -> Iterator[sp.Expr]:
    """Yield the increment's terms, in rising order of the size of the step, without zeros."""
    expansion = _increment(model, _EPS)
    coefficients = (sp.expand(_order(expansion, k)) for k in range(1, orders + 1))
    return (term for term in coefficients if term != 0)


def elapsed(model: StepModel) -> sp.Expr:
    """Return U(t), the clock's advance but for what stays bounded.

    Raises:
        NoClosedFormError: if the flow is not separable, if the steps' share of the norm does
            not vanish, or if no finite number of terms is enough.

    >>> elapsed(StepModel(kappa * r / sp.sqrt(t), sp.Integer(1)))
    -kappa**2*log(t)/2 + 2*kappa*sqrt(t)
    """
    exact = increment(model)
    if not exact.has(t, r):
        return exact * t
    if exact.has(r):
        return _leading(model)
    return sp.Add(*_divergent(model))


def _leading(model: StepModel) -> sp.Expr:
    """Return integral h, if the steps' share of the norm vanishes along that law."""
    _, h = clock(model)
    advance = sp.integrate(h, t)
    if _stays_bounded(advance):
        return sp.Integer(0)
    norm = norm_at(model, advance)
    share = sp.limit(model.size.subs(r, norm) / norm, t, sp.oo)
    if share != 0:
        raise NoClosedFormError(
            f"steps of size {model.size} stay a share {share} of the norm, so the flow does "
            f"not describe them"
        )
    return advance


def _divergent(model: StepModel) -> Iterator[sp.Expr]:
    """Yield the integrals of the increment's terms that are not summable."""
    for term in terms(model, _ORDERS):
        integral = sp.integrate(term, t)
        if _stays_bounded(integral):
            return
        yield integral
    if not _increment(model, _EPS).is_polynomial(_EPS):
        raise NoClosedFormError(
            f"the first {_ORDERS} orders of steps of size {model.size} all add up without "
            f"bound"
        )


def _stays_bounded(advance: sp.Expr) -> bool:
    return bool(sp.limit(advance, t, sp.oo).is_finite)


def norm_at(model: StepModel, shown: sp.Expr) -> sp.Expr:
    """Return the norm r > 0 at which the clock shows `shown`.

    >>> norm_at(StepModel(kappa / r), t)
    sqrt(2)*t**(1/4)
    """
    u, _ = clock(model)
    v = sp.Symbol("v", positive=True)
    (solution,) = sp.solve(sp.Eq(u, v), r)
    return solution.subs(v, shown)


def growth_law(model: StepModel) -> Derived:
    """Return what ||theta_t|| is asymptotically equal to, and how that is derived.

    The value contains the constant C where the start is never forgotten: where the clock is a
    logarithm, or stops.

    Raises:
        NoClosedFormError: as `clock` and `elapsed` do.

    >>> growth_law(StepModel(kappa / r)).value
    2**(1/4)*sqrt(kappa)*t**(1/4)
    """
    u, _ = clock(model)
    advance = elapsed(model)
    if advance == 0:
        value: sp.Expr = C
    elif u.has(sp.log):
        value = C * sp.Mul(*map(_exponential, sp.Add.make_args(advance)))
    else:
        value = sp.powsimp(norm_at(model, advance))
    norm, clocked = sp.Function("r")(t), sp.Function("u")(r)
    delta = sp.Symbol("delta")
    steps = (
        Step(
            "Step",
            f"The cosine of the step and the parameters is {model.cosine}.",
            equate(sp.Symbol("r_next"), model.next_norm),
        ),
        Step(
            "Flow",
            "The leading order in the size of the step.",
            equate(sp.Derivative(norm, t), flow(model).subs(r, norm)),
        ),
        Step("Clock", "Separate $r$ and $t$.", equate(clocked, u)),
        Step(
            "Increment",
            "Of one step, exactly.",
            equate(delta * clocked, increment(model)),
        ),
        Step(
            "Sum",
            "Sums differ from integrals by constants; terms that are summable add another.",
            equate(sp.Function("U")(t), advance),
        ),
        Step("Law", "Solve for $r$.", equate(norm, value)),
    )
    return Derived(value, steps)


def _exponential(term: sp.Expr) -> sp.Expr:
    """Return exp(term), of a multiple of log(t) as a power of t."""
    power = term / sp.log(t)
    return sp.exp(term) if power.has(t) else t**power


def offset(model: StepModel, start: sp.Expr | int, orders: int) -> sp.Expr:
    """Return lim u(r_t) - u(r_start) - U(t), the constant that the start decides.

    A term c t^-z of the increment adds c zeta(z, start), and -c digamma(start) for z = 1.

    Args:
        model: steps whose increment does not depend on r.
        start: the time of the first step.
        orders: terms of the increment that are summed; those beyond are left out.

    Raises:
        NoClosedFormError: if the increment depends on r.

    >>> offset(StepModel(kappa / sp.sqrt(t)), 1, 2)
    EulerGamma*kappa**2/2
    """
    if increment(model).has(r):
        raise NoClosedFormError(
            f"the increment of steps of size {model.size} depends on the norm, so what the "
            f"start adds up to depends on the whole path"
        )
    powers = sp.Add.make_args(sp.expand(sp.Add(*terms(model, orders))))
    return sp.Add(*(_regularized(power, sp.sympify(start)) for power in powers))


def _regularized(term: sp.Expr, start: sp.Expr) -> sp.Expr:
    """Return lim sum of c s^-z, s from `start` to t, minus its integral."""
    factor, power = term.as_independent(t, as_Add=False)
    base, exponent = power.as_base_exp()
    z = -exponent if base == t else sp.Integer(0)
    if base not in (t, 1):
        raise NoClosedFormError(
            f"the sum of {term} over t is known for powers of t only"
        )
    if z == 1:
        return -factor * sp.digamma(start)
    return factor * sp.zeta(z, start)


def exact_ratio(model: StepModel) -> sp.Expr:
    """Return ||theta_n||^2 / ||theta_1||^2 exactly, in closed form.

    Raises:
        NoClosedFormError: if the steps are no share of the norm that depends on t alone, or
            SymPy knows no closed form of the product.

    >>> exact_ratio(StepModel(kappa * r / sp.sqrt(t)))
    gamma(kappa**2 + n)/(gamma(n)*gamma(kappa**2 + 1))
    """
    j = sp.Symbol("j", integer=True, positive=True)
    factor = sp.expand((model.next_norm / r) ** 2)
    product: Any = sp.Product(factor.subs(t, j), (j, 1, n - 1)).doit()
    if factor.has(r) or product.has(sp.Product):
        raise NoClosedFormError(
            f"the product of {factor} over all steps has no closed form here; "
            f"growth_law describes it for large t"
        )
    ratio: Any = sp.gammasimp(product.rewrite(sp.gamma))
    return ratio
