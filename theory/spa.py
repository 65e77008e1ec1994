"""Shaped attention that carries one kernel to another: A = L_after L_before^(-1).

Without skips and norms, attention with the matrix A and orthogonal value and output weights
makes A K A' of a kernel K. Given the kernels K_0, K_1, ... that the layers should have, with
Cholesky factors L_l, the matrices A_l = L_l L_(l-1)^(-1) are lower triangular and carry each
kernel to the next. Softmax attention has non-negative matrices only, so that the kernels must
be such that A_l >= 0:

* U-SPA, equal correlations rho: A >= 0 if and only if rho does not fall;
* E-SPA, correlations exp(-gamma |i - j|): A >= 0 if and only if gamma does not rise.

Without a causal mask, symmetric square roots take the place of the Cholesky factors.

Source: He et al. (ICLR 2023), arXiv 2302.10322; derived here from semiseparable.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import sympy as sp
from sympy.concrete.gosper import gosper_sum

from asymptest.theory.arrays import call
from asymptest.theory.errors import ArgumentError
from asymptest.theory.semiseparable import (
    Factor,
    at,
    cholesky,
    i,
    inverse_cholesky,
    k,
)
from asymptest.theory.substitution import expression, put

RHO = sp.Symbol("rho", positive=True)  # correlation, below 1
GAP = sp.Symbol("gap", positive=True)  # 1 - exp(-gamma), below 1
KEPT = sp.Symbol("kept", positive=True)  # L_ii^2 in the long run, at most 1
ONE = sp.Integer(1)


@dataclass(frozen=True, repr=False)
class UniformKernel:
    """All variances 1 and all correlations rho, in [0, 1): the kernels of U-SPA."""

    __repr__ = call

    symbol: ClassVar[sp.Symbol] = RHO
    ratio: ClassVar[sp.Expr] = ONE
    coupling: ClassVar[sp.Expr] = RHO

    rho: float | sp.Expr

    def __post_init__(self) -> None:
        value = self.value
        if value.is_number and not (value.is_real and 0 <= value < 1):
            raise ArgumentError(
                f"UniformKernel.rho must be in [0, 1); got {self.rho}: at 1 all tokens are "
                f"one, and no factor has an inverse"
            )

    @property
    def value(self) -> sp.Expr:
        """What the symbol stands for."""
        return exact(self.rho, "UniformKernel.rho")

    @classmethod
    def of(cls, value: sp.Expr) -> "UniformKernel":
        """Return the kernel for a value of the symbol."""
        return cls(_plain(value))


@dataclass(frozen=True, repr=False)
class ExponentialKernel:
    """Variances 1, correlations exp(-gamma |i - j|), gamma in (0, oo]: the kernels of E-SPA.

    They are those of a stationary Ornstein-Uhlenbeck process at integer times.
    """

    __repr__ = call

    symbol: ClassVar[sp.Symbol] = GAP
    ratio: ClassVar[sp.Expr] = 1 - GAP
    coupling: ClassVar[sp.Expr] = 1 - GAP

    gamma: float | sp.Expr

    def __post_init__(self) -> None:
        gamma = expression(self.gamma, "ExponentialKernel.gamma")
        if gamma.is_number and not gamma.is_extended_positive:
            raise ArgumentError(
                f"ExponentialKernel.gamma must be positive, or oo for independent tokens; "
                f"got {self.gamma}"
            )

    @property
    def value(self) -> sp.Expr:
        """What the symbol stands for."""
        return 1 - sp.exp(-exact(self.gamma, "ExponentialKernel.gamma"))

    @classmethod
    def of(cls, value: sp.Expr) -> "ExponentialKernel":
        """Return the kernel for a value of the symbol."""
        return cls(math.inf if value == 1 else _plain(-sp.log(1 - value)))


ShapedKernel = UniformKernel | ExponentialKernel


def check_order(before: Any, after: Any) -> None:
    """Raise unless A >= 0 between two kernels of one family; others are not looked at.

    Raises:
        ArgumentError: if the correlations fall.
    """
    if not isinstance(before, ShapedKernel) or type(before) is not type(after):
        return
    # A[2, 1] is negative if and only if the correlation of neighbours falls.
    gap = put({after.symbol: after.value}, correlation(type(after), 2, 1))
    gap -= put({before.symbol: before.value}, correlation(type(before), 2, 1))
    if gap.is_number and gap < 0:
        raise ArgumentError(
            f"from {before!r} to {after!r} the correlations fall, so that the attention matrix "
            f"would have negative entries; let them rise with the depth"
        )


def exact(value: Any, name: str) -> Any:
    """Return a parameter without rounding, so that what cancels later cancels exactly."""
    found = expression(value, name)
    return sp.Rational(found) if found.is_Float else found


def evaluated(value: sp.Expr) -> Any:
    """Return a number to more digits than a float has; 1 - exp(-gamma) may cancel hundreds."""
    return value.evalf(17, maxn=1000)


def _plain(value: sp.Expr) -> float | sp.Expr:
    return float(evaluated(value)) if value.is_number else value


def factors(family: type[ShapedKernel]) -> tuple[Factor, Factor]:
    """Return the Cholesky factor of a family and its inverse, in the family's symbol.

    >>> L, inverse = factors(ExponentialKernel)
    >>> inverse.ratio, inverse.input
    (0, 1 - gap)
    """
    pair = family.ratio, family.coupling
    return cholesky(*pair), inverse_cholesky(*pair)


def correlation(family: type[ShapedKernel], row: Any, column: Any) -> sp.Expr:
    """Return the kernel at row >= column, in the family's symbol."""
    if row == column:
        return ONE
    return family.coupling * family.ratio ** (row - column - 1)


def attention(
    family: type[ShapedKernel], before: Any, after: Any, row: Any, column: Any
) -> sp.Expr:
    """Return A = L_after L_before^(-1) at two positions.

    Args:
        family: of both kernels.
        before: value of the symbol for the kernel that comes in.
        after: value of the symbol for the kernel that goes out.
        row: a number or an expression; row - column must have a known sign.
        column: likewise. SymPy must know whether it is 1.

    >>> a, b = sp.symbols("a b", positive=True)
    >>> j = sp.Symbol("j", integer=True, positive=True)
    >>> A = attention(ExponentialKernel, 1 - a, 1 - b, j + 3, j + 1)
    >>> scale = sp.sqrt(1 - b**2) / sp.sqrt(1 - a**2)
    >>> sp.simplify(A - scale * (b - a) * b)
    0
    """
    L, inverse = factors(family)
    L = L.at_values({family.symbol: after})
    return _product(L.entry, inverse.at_values({family.symbol: before}), row, column)


@lru_cache(maxsize=64)
def generator(family: type[ShapedKernel], row: Any, column: Any) -> sp.Expr:
    """Return (dL/dx) L^(-1) at two positions, x the family's symbol; arguments as above.

    A path of kernels has A >= 0 between any two of its points if and only if this matrix has
    no negative entry off its diagonal all the way: A is its path-ordered exponential.

    >>> generator(UniformKernel, 2, 1)
    -1/((rho - 1)*(rho + 1))
    """
    L, inverse = factors(family)

    def slope(row: Any, column: Any) -> sp.Expr:
        return sp.diff(L.entry(row, column), family.symbol)

    found: Any = sp.radsimp(_product(slope, inverse, row, column))
    return sp.factor(found)


def _product(left: Callable[..., Any], right: Factor, row: Any, column: Any) -> Any:
    """Return the product of two lower triangular matrices at row >= column."""
    total = left(row, column) * at(right.diagonal, column)
    distance = sp.sympify(row - column)
    if distance == 0:
        return total
    total += left(row, row) * right.entry(row, column)
    if distance == 1:
        return total
    if right.ratio == 0:  # only neighbours are coupled
        return total + left(row, column + 1) * right.entry(column + 1, column)
    term = left(row, k) * right.entry(k, column)
    if distance.is_number:
        return total + sum(put({k: m}, term) for m in range(column + 1, row))
    limits = (k, column + 1, row - 1)
    closed = gosper_sum(sp.factor(sp.radsimp(term)), limits)
    return total + (sp.Sum(term, limits) if closed is None else closed)


@lru_cache(maxsize=8)
def long_run(family: type[ShapedKernel]) -> sp.Expr:
    """Return the limit of L_ii^2 far from the first position.

    >>> long_run(UniformKernel)
    1 - rho
    """
    square = sp.simplify(at(factors(family)[0].diagonal, i + 1) ** 2)
    limit: Any = sp.limit(square, i, sp.oo)
    return sp.factor(limit)


def schedule(last: ShapedKernel, depth: int) -> tuple[ShapedKernel, ...]:
    """Return K_0 = 1, K_1, ..., K_depth = last for which A_ii is the same in every layer.

    That holds for all positions of E-SPA but the first, and far from the first for U-SPA.

    Args:
        last: the kernel after the last layer.
        depth: number of layers.

    >>> [K.rho for K in schedule(UniformKernel(0.75), 2)]
    [0.0, 0.5, 0.75]
    """
    if not isinstance(depth, int) or depth < 1:
        raise ArgumentError(f"depth must be a whole number of layers; got {depth!r}")
    family = type(last)
    end = put({family.symbol: last.value}, long_run(family))
    kept, shares = _kernel_of(family), (sp.Rational(m, depth) for m in range(depth))
    return (*(family.of(put({KEPT: end**share}, kept)) for share in shares), last)


@lru_cache(maxsize=8)
def _kernel_of(family: type[ShapedKernel]) -> sp.Expr:
    """Return the symbol's value for which `long_run` is KEPT."""
    roots = sp.solve(long_run(family) - KEPT, family.symbol)
    (inside,) = (root for root in roots if 0 < put({KEPT: sp.Rational(1, 2)}, root) < 1)
    return inside
