"""Activations: a name and a SymPy expression in one real variable.

The expression is all that any reading knows. theory/gaussian_calculus.py derives kernels from it,
numerics/ and verify/ compile it. Steps are written with Heaviside, H(0) = 1/2, the value
that makes sign = 2 H - 1 and relu = x H hold at zero as well.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp

from asymptest.theory.errors import ArgumentError, UnsupportedError
from asymptest.theory.piecewise import with_steps, x
from asymptest.theory.substitution import expression


@dataclass(frozen=True)
class Activation:
    """A pointwise nonlinearity, `Activation("mine", expr)` with one free symbol.

    Raises:
        ArgumentError: if the expression has more than one free symbol, or is seen not to be
            real (at 0.7 or -0.7).

    >>> Activation("half", sp.Symbol("t") / 2).expr
    x/2
    """

    name: str
    expr: sp.Expr

    def __post_init__(self) -> None:
        expr = expression(self.expr, f"Activation {self.name!r}")
        if len(expr.free_symbols) > 1:
            raise ArgumentError(
                f"Activation {self.name!r} must be an expression in one variable; "
                f"{expr} has {sorted(map(str, expr.free_symbols))}"
            )
        for symbol in expr.free_symbols:
            expr = expr.subs(symbol, x)
        for at in (sp.Rational(-7, 10), sp.Rational(7, 10)):
            value: Any = expr.subs(x, at).evalf()
            if value.has(sp.nan, sp.zoo, sp.oo):
                raise ArgumentError(
                    f"Activation {self.name!r} must be a number at every real number; "
                    f"{expr} is {value} at {at}"
                )
            if value.is_number and abs(sp.im(value)) > 1e-9:
                raise ArgumentError(
                    f"Activation {self.name!r} must be real at every real number; "
                    f"{expr} is {value.evalf(4)} at {at}"
                )
        object.__setattr__(self, "expr", expr)

    @property
    def is_odd(self) -> bool:
        """Whether phi(-x) = -phi(x) is provable: then E phi(u) = 0 for centred u."""
        return _is_zero(self.expr.subs(x, -x) + self.expr)

    @property
    def is_even(self) -> bool:
        """Whether phi(-x) = phi(x) is provable: then the dual is even in the correlation."""
        return _is_zero(self.expr.subs(x, -x) - self.expr)

    @property
    def kinks(self) -> tuple[float, ...]:
        """The points where phi is not analytic: where a step or a modulus switches.

        Raises:
            UnsupportedError: if they cannot be listed, as for |sin x|.
        """
        points: set[float] = set()
        for switch in with_steps(self.expr).atoms(sp.Heaviside):
            where: Any = sp.solveset(switch.args[0], x, sp.Reals)
            if not where.is_FiniteSet:
                raise UnsupportedError(
                    f"Activation {self.name!r} switches where {switch.args[0]} = 0, and "
                    f"these points cannot be listed; write it with finitely many switches"
                )
            points |= {float(point) for point in where}
        return tuple(sorted(points))

    def __repr__(self) -> str:
        return self.name


@lru_cache(maxsize=1024)
def _is_zero(difference: sp.Expr) -> bool:
    in_steps: Any = with_steps(difference)
    sample = in_steps.subs(x, sp.Rational(7, 10)).evalf()
    if sample.is_number and abs(sample) > 1e-9:
        return False  # at a fraction of the cost of a proof
    return sp.simplify(in_steps).expand() == 0


identity = Activation("identity", x)
step = Activation("step", sp.Heaviside(x))
sign = Activation("sign", sp.sign(x))
relu = Activation("relu", x * sp.Heaviside(x))
abs_ = Activation("abs_", sp.Abs(x))
erf = Activation("erf", sp.erf(x))
gelu = Activation("gelu", x * (1 + sp.erf(x / sp.sqrt(2))) / 2)
gelu_tanh = Activation(
    "gelu_tanh",
    x * (1 + sp.tanh(sp.sqrt(2 / sp.pi) * (x + sp.Rational(44715, 10**6) * x**3))) / 2,
)
tanh = Activation("tanh", sp.tanh(x))
# Written with tanh: exp(-x) overflows for large negative x.
sigmoid = Activation("sigmoid", (1 + sp.tanh(x / 2)) / 2)
silu = Activation("silu", x * (1 + sp.tanh(x / 2)) / 2)
# log(1 + exp(x)) in a form that shows it is analytic; cosh overflows only beyond 1400.
softplus = Activation("softplus", x / 2 + sp.log(2 * sp.cosh(x / 2)))
sin = Activation("sin", sp.sin(x))
cos = Activation("cos", sp.cos(x))
exp = Activation("exp", sp.exp(x))
gaussian = Activation("gaussian", sp.exp(-(x**2)))


gabor = Activation("gabor", sp.cos(x) * sp.exp(-(x**2)))


def leaky_relu(slope: float | sp.Expr) -> Activation:
    """Return x for x > 0 and `slope` x for x < 0."""
    a = expression(slope, "slope of leaky_relu")
    return Activation(f"leaky_relu({slope})", a * x + (1 - a) * x * sp.Heaviside(x))


def monomial(degree: int) -> Activation:
    """Return x ** `degree`, `degree` >= 0."""
    return Activation(f"monomial({_degree(degree)})", x**degree)


def polynomial(*coefficients: float | sp.Expr) -> Activation:
    """Return c_0 + c_1 x + c_2 x**2 + ..."""
    terms = (
        expression(c, "coefficient of polynomial") * x**k
        for k, c in enumerate(coefficients)
    )
    name = f"polynomial({', '.join(map(str, coefficients))})"
    return Activation(name, sp.Add(*terms))


def hermite(degree: int) -> Activation:
    """Return the normalised probabilists' Hermite polynomial He_k / sqrt(k!)."""
    scaled = sp.hermite_poly(_degree(degree), x / sp.sqrt(2)) / sp.sqrt(2) ** degree
    return Activation(
        f"hermite({degree})", sp.expand(scaled / sp.sqrt(sp.factorial(degree)))
    )


def polyrelu(*coefficients: float | sp.Expr) -> Activation:
    """Return a_1 relu(x) + a_2 relu(x)**2 + ..."""
    terms = (
        expression(a, "coefficient of polyrelu") * x**k * sp.Heaviside(x)
        for k, a in enumerate(coefficients, 1)
    )
    name = f"polyrelu({', '.join(map(str, coefficients))})"
    return Activation(name, sp.Add(*terms))


def rbf(gamma: float | sp.Expr) -> Activation:
    """Return sqrt(2) sin(sqrt(2 gamma) x + pi/4), a random feature of the RBF kernel.

    Source: Rahimi and Recht (2007).
    """
    frequency = sp.sqrt(2 * expression(gamma, "gamma of rbf"))
    return Activation(f"rbf({gamma})", sp.sqrt(2) * sp.sin(frequency * x + sp.pi / 4))


def _degree(degree: int) -> int:
    if degree < 0:
        raise ArgumentError(f"degree must be at least 0; got {degree}")
    return degree
