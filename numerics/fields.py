"""Three kinds of numbers for one evaluator: rationals, balls that hold all rounding, and float64.

RATIONAL    exact; no square roots, no exponentials
BALLS       exact up to a radius, at the precision that flint.ctx.prec sets
FLOATS      float64; what differs by TIE of the scale at hand is equal
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp
from flint import arb, arb_mat, ctx, fmpq, fmpq_mat

from asymptest.numerics.compile import activation_function
from asymptest.theory.activations import Activation
from asymptest.theory.errors import ArgumentError, UnsupportedError
from asymptest.theory.patterns import TIE
from asymptest.theory.piecewise import x

MATRICES = {fmpq: fmpq_mat, arb: arb_mat}


@dataclass(frozen=True)
class Field:
    """Numbers, and what can be decided about them.

    Args:
        name: for messages.
        dtype: of the NumPy arrays that hold them.
        number: converts an input, exactly but for float64.
        sign: (value, scale) -> -1, 0 or 1, or None if it cannot be decided; `scale` is the
            size against which a float64 counts as zero.
        sqrt: of a positive number.
        exp: of a number.
        apply: (activation, array) -> array.
    """

    name: str
    dtype: Any
    number: Callable[[Any], Any]
    sign: Callable[[Any, Any], int | None]
    sqrt: Callable[[Any], Any]
    exp: Callable[[Any], Any]
    apply: Callable[[Activation, Any], Any]

    def array(self, values: Any) -> Any:
        """Return an array of numbers of this kind."""
        values = np.asarray(values)
        if self.dtype is not object:
            return values.astype(self.dtype)
        result = np.empty(values.shape, dtype=object)
        flat = result.reshape(-1)
        for at, value in enumerate(values.reshape(-1)):
            flat[at] = self.number(value)
        return flat.reshape(values.shape)

    def zeros(self, shape: tuple[int, ...]) -> Any:
        """Return an array of zeros."""
        return self.array(np.zeros(shape, dtype=int))

    def square(self, values: Any) -> Any:
        """Return squares; those of balls are >= 0, however wide the balls are."""
        if self.dtype is not object or self.name != "balls":
            return values * values
        result = np.empty_like(values)
        for at, value in np.ndenumerate(values):
            low, high = value.abs_lower(), value.abs_upper()
            result[at] = (low * low).union(high * high)
        return result

    def signs(self, values: Any, scale: Any = 0) -> Any:
        """Return the signs of an array; 2 stands for what cannot be decided."""
        if self.dtype is not object:
            return np.where(np.abs(values) <= TIE * scale, 0, np.sign(values)).astype(
                int
            )
        found = [self.sign(value, scale) for value in values.reshape(-1)]
        signs = np.array([2 if s is None else s for s in found], dtype=int)
        return signs.reshape(values.shape)


def product(A: Any, B: Any) -> Any:
    """Return the matrix product of two arrays of the same kind of numbers.

    FLINT's own products take common denominators out first, which sums of fractions do not.
    """
    matrix = MATRICES.get(type(A.flat[0])) if A.size and B.size else None
    if matrix is None:
        return A @ B
    (rows, inner), columns = A.shape, B.shape[1]
    left = matrix(rows, inner, A.ravel().tolist())
    right = matrix(inner, columns, B.ravel().tolist())
    result = np.empty(rows * columns, dtype=object)
    result[:] = (left * right).entries()
    return result.reshape(rows, columns)


def rational(value: Any) -> fmpq:
    """Return a number exactly as a rational.

    Raises:
        ArgumentError: if it is not finite.
        UnsupportedError: if it is irrational, or no number.
    """
    if isinstance(value, fmpq):
        return value
    if isinstance(value, sp.Float):
        value = sp.Rational(value)  # the binary number that it is
    if isinstance(value, sp.Rational):
        return fmpq(int(value.p), int(value.q))
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not np.isfinite(value):
        raise ArgumentError(f"weights and states must be finite; got {value}")
    if not isinstance(value, (int, float, Fraction)):
        raise UnsupportedError(f"{value!r} is no rational number")
    fraction = Fraction(value)
    return fmpq(fraction.numerator, fraction.denominator)


def identity(value: Any) -> Any:
    """Return what is equal for two inputs only if they are the same number."""
    try:
        exact = rational(value)
    except UnsupportedError:
        if isinstance(value, sp.Expr):
            return value
        exact = isinstance(value, arb) and value.is_exact() and value.man_exp()
        return tuple(map(int, exact)) if exact else ("ball", id(value))
    return int(exact.p), int(exact.q)


def as_ball(value: Any) -> arb:
    """Return a number as a ball: exact where it is exact at the precision set."""
    if isinstance(value, arb):
        return value
    if isinstance(value, sp.Expr) and not isinstance(value, sp.Rational):
        return _ball(value, {})
    return arb(rational(value))


def _ball(expr: sp.Expr, values: dict[Any, arb]) -> arb:
    from asymptest.numerics.balls import ball  # only who computes with balls loads them

    return ball(expr, values, ctx.prec)


def _sign_of_ball(value: arb, _: Any) -> int | None:
    if value > 0:
        return 1
    if value < 0:
        return -1
    return 0 if value.is_zero() else None


def _no_root(value: Any) -> Any:
    raise UnsupportedError(f"sqrt and exp of {value} need balls")


def _polynomial(phi: Activation, values: Any) -> Any:
    if not phi.expr.is_polynomial(x):
        raise UnsupportedError(f"{phi.name} of a rational number needs balls")
    total = values * 0
    for coefficient in sp.Poly(phi.expr, x).all_coeffs():
        total = total * values + rational(coefficient)
    return total


def _balls(phi: Activation, values: Any) -> Any:
    result = np.empty_like(values)
    for at, value in np.ndenumerate(values):
        result[at] = _ball(phi.expr, {x: value})
    return result


RATIONAL = Field(
    "rational",
    object,
    rational,
    lambda value, _: (value > 0) - (value < 0),
    _no_root,
    _no_root,
    _polynomial,
)
BALLS = Field(
    "balls",
    object,
    as_ball,
    _sign_of_ball,
    lambda value: value.sqrt(),
    lambda value: value.exp(),
    _balls,
)
FLOATS = Field(
    "float64",
    np.float64,
    float,
    lambda value, scale: 0 if abs(value) <= TIE * scale else int(np.sign(value)),
    np.sqrt,
    np.exp,
    lambda phi, values: activation_function(phi)(values),
)
