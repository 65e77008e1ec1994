"""Functions of one variable as sums of pieces that the Gaussian calculus has rules for.

A piece is

    coefficient * x^k * exp(a x^2 + g x) * base(x),

a < 0 or a = 0, g real or imaginary (sines and cosines are sums of two such exponentials),
and the base one of 1, H(x - t), delta(x - t), erf(a x + b).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp

from asymptest.theory.errors import NoClosedFormError, UnsupportedError
from asymptest.theory.piecewise import intervals, with_steps, x

H, delta = sp.Heaviside, sp.DiracDelta
WAVES = (sp.sin, sp.cos, sp.sinh, sp.cosh)


@dataclass(frozen=True)
class Piece:
    """coefficient * x^power * exp(-rate x^2 + tilt x) * base(x).

    Args:
        coefficient: a number, or an expression without x.
        power: a whole number >= 0.
        rate: of the Gaussian factor, >= 0.
        tilt: of the exponential factor, real or imaginary.
        base: 1, H(x - t), delta(x - t) or erf(a x + b).
    """

    coefficient: sp.Expr
    power: int
    rate: sp.Expr
    tilt: sp.Expr
    base: sp.Expr

    @property
    def unit(self) -> "Piece":
        """The piece with the coefficient 1."""
        return Piece(sp.Integer(1), self.power, self.rate, self.tilt, self.base)

    @property
    def function(self) -> sp.Expr:
        """The piece as an expression in x, without its coefficient."""
        exponent = -self.rate * x**2 + self.tilt * x
        return x**self.power * sp.exp(exponent) * self.base

    @property
    def is_one(self) -> bool:
        """Whether it is a constant."""
        return self.power == 0 and self.rate == self.tilt == 0 and self.base == 1

    @property
    def line(self) -> tuple[sp.Expr, sp.Expr]:
        """Slope and offset of the argument of the base: a and b in erf(a x + b)."""
        return _line(self.base.args[0])


def pieces(expr: sp.Expr) -> tuple[Piece, ...]:
    """Split a function of x into pieces; sums over equal functions are collected.

    Raises:
        NoClosedFormError: if some part is of another form.
    """
    found: dict[Piece, sp.Expr] = {}
    for term in sp.Add.make_args(_flat(expr)):
        if term != 0:
            piece = _piece(term, expr)
            found[piece.unit] = found.get(piece.unit, 0) + piece.coefficient
    return tuple(
        Piece(a, unit.power, unit.rate, unit.tilt, unit.base)
        for unit, a in found.items()
        if a != 0
    )


def derivative(expr: sp.Expr) -> sp.Expr:
    """Return the distributional derivative in x, with f(x) delta(x - t) as f(t) delta(x - t)."""
    slope = sp.expand(sp.diff(_in_steps(expr), x))
    if not slope.has(delta):
        return slope
    rest: list[Any] = []
    heights: dict[Any, list[Any]] = {}
    for term in sp.Add.make_args(slope):
        at, height = _height(term)
        if at is None:
            rest.append(term)
        else:
            heights.setdefault(at, []).append(height)
    for at, parts in heights.items():
        total = sp.simplify(sp.Add(*parts))
        if not _is_rounding(total, parts):
            rest.append(total * delta(x - at))
    return sp.Add(*rest)


def jumps(expr: sp.Expr) -> bool:
    """Return whether a function jumps somewhere; then E phi'(u)^2 is infinite.

    Raises:
        UnsupportedError: if it switches at points that cannot be listed.
    """
    return bool(jump_points(expr))


@lru_cache(maxsize=256)
def jump_points(expr: sp.Expr) -> tuple[sp.Expr, ...]:
    """Return where a function jumps.

    Raises:
        UnsupportedError: if it switches at points that cannot be listed.

    >>> jump_points(x * sp.Heaviside(x - 2))
    (2,)
    """
    intervals(with_steps(expr))
    slope = derivative(expr)
    found = (_height(term)[0] for term in sp.Add.make_args(slope) if term.has(delta))
    points = tuple(at for at in found if at is not None)
    if slope.has(delta) and not points:
        raise UnsupportedError(f"{expr} jumps at points that cannot be listed")
    return points


def _height(term: Any) -> tuple[Any, Any]:
    """Return t and h of a term h delta(x - t), None for another term."""
    for factor in term.atoms(delta):
        line = _line(factor.args[0])
        if line is not None and len(factor.args) == 1:
            at = -line[1] / line[0]
            height = (term / factor).subs(x, at) / abs(line[0])
            return (at, height) if height.is_finite is not False else (None, term)
    return None, term


def _is_rounding(total: Any, parts: list[Any]) -> bool:
    """Return whether parts cancel: exactly, or up to the digits of their numbers."""
    if total == 0 or not total.is_number:
        return total == 0
    return bool(abs(total.evalf(30)) <= 1e-14 * sum(abs(p.evalf(30)) for p in parts))


def _flat(expr: sp.Expr) -> sp.Expr:
    """Return a sum of products, with steps that increase and exponentials for waves."""
    return sp.expand(
        _in_steps(expr).replace(_is_exponential, lambda e: e.rewrite(sp.exp))
    )


def _is_exponential(e: Any) -> bool:
    if e.is_Pow:
        return e.exp.has(x) and not e.base.has(x) and bool(e.base.is_positive)
    return isinstance(e, WAVES) and e.has(x)


def _in_steps(expr: sp.Expr) -> sp.Expr:
    """Return a sum of products, with steps that increase, each to the first power."""
    steps = sp.expand(with_steps(expr))
    # H(x)^2 = H(x) and H(-x) = 1 - H(x) hold almost everywhere, and that is enough.
    steps = sp.expand(steps.replace(lambda e: isinstance(e, H), _increasing))
    return steps.replace(_is_power_of_step, lambda e: e.base)


def _is_power_of_step(e: Any) -> bool:
    return e.is_Pow and isinstance(e.base, H) and e.exp.is_positive


def _increasing(e: Any) -> Any:
    if (line := _line(e.args[0])) is None or not line[0].is_number:
        return e
    slope, offset = line
    where = x + offset / slope
    return H(where) if slope.is_positive else 1 - H(where)


def _line(argument: Any) -> Any:
    """Return slope and offset of a x + b, or None for another function of x."""
    slope = sp.diff(argument, x)
    # The derivative of a x + b may be constant without looking so, as for 2 (x + 1) / 2.
    slope = sp.simplify(slope) if slope.has(x) else slope
    if slope.has(x) or slope == 0:
        return None
    return slope, sp.expand(argument - slope * x)


def _piece(term: sp.Expr, whole: sp.Expr) -> Piece:
    coefficient, rest = term.as_independent(x, as_Add=False)
    power, exponent, base = 0, sp.Integer(0), sp.Integer(1)
    for factor in sp.Mul.make_args(rest):
        radix, n = factor.as_base_exp()
        if radix == x and n.is_Integer and n >= 0:
            power += int(n)
        elif radix == sp.E:
            exponent += n
        else:
            base = _together(base, factor)
    quadratic = _quadratic(exponent)
    if quadratic is None or not _is_known(base):
        unknown = sp.exp(exponent) if quadratic is None else base
        raise NoClosedFormError(
            f"no rule reduces E f(u) g(v) for the part {unknown} of {whole}; evaluate it "
            f"by quadrature (asymptest.numerics does so by itself)"
        )
    rate, tilt, constant = quadratic
    coefficient *= sp.exp(constant)
    if isinstance(base, delta):  # f(x) delta(a (x - t)) = f(t) delta(x - t) / |a|
        slope, offset = _line(base.args[0])
        at, base = -offset / slope, delta(x + offset / slope)
        coefficient *= at**power * sp.exp(-rate * at**2 + tilt * at) / abs(slope)
        power, rate, tilt = 0, sp.Integer(0), sp.Integer(0)
    return Piece(coefficient, power, rate, tilt, base)


def _together(base: sp.Expr, factor: sp.Expr) -> sp.Expr:
    """Return the product of two bases: a product of steps is the later one."""
    if isinstance(base, H) and isinstance(factor, H):
        lines = [_line(e.args[0]) for e in (base, factor)]
        if None not in lines:
            return base if -lines[0][1] >= -lines[1][1] else factor
    return base * factor


def _quadratic(exponent: sp.Expr) -> tuple[sp.Expr, sp.Expr, sp.Expr] | None:
    """Return b, g, k of -b x^2 + g x + k with b >= 0, or None for another exponent."""
    if not exponent.is_polynomial(x):
        return None
    coefficients = sp.Poly(exponent, x).all_coeffs()[::-1]
    if len(coefficients) > 3:
        return None
    k, g, a = (*coefficients, sp.Integer(0), sp.Integer(0), sp.Integer(0))[:3]
    return (-a, g, k) if a.is_nonpositive else None


def _is_known(base: sp.Expr) -> bool:
    if base == 1:
        return True
    if not isinstance(base, (H, delta, sp.erf)):
        return False
    line = _line(base.args[0])
    return line is not None and bool(line[0].is_real) and bool(line[1].is_real)
