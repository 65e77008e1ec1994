"""Cholesky factors of kernels whose positions share a scalar state, derived for every T.

A kernel with variances 1 and

    Sigma_ij = coupling ratio^(i - j - 1),    i > j,

is the covariance of y, which a scalar state s and white noise x_1, x_2, ... make:

    s_1 = 0,    y_i = s_i + d_i x_i,    s_(i+1) = ratio s_i + h_i x_i.

So y = L x with L lower triangular and d_i > 0: L is the Cholesky factor. Let P_i be the variance
of s_i. Then Var(y_i) = 1, Cov(s_(i+1), y_i) = coupling and the variance of s_(i+1) say

    d_i^2 = 1 - P_i,    h_i = (coupling - ratio P_i) / d_i,    P_(i+1) = ratio^2 P_i + h_i^2,

a Möbius map of P_i, so that the power of a 2 x 2 matrix gives P_i for every i. Solving for the
noise, x_i = (y_i - s_i) / d_i, runs the inverse factor with the same state. This is the scalar
case of the innovations form in Kalman filtering.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp

from asymptest.theory.substitution import put

i, j, k = (sp.Symbol(name, integer=True, positive=True) for name in "ijk")


@dataclass(frozen=True)
class Factor:
    """A lower triangular matrix F that a scalar state applies in order: O(T) a column.

        s_1 = 0,    (F x)_i = output s_i + diagonal x_i,    s_(i+1) = ratio s_i + input x_i

    Args:
        diagonal: an expression in the position i = 1, 2, ..., and so are the others.
        output: what a position reads from the state.
        ratio: what a position keeps of the state.
        input: what a position adds to the state.
    """

    diagonal: sp.Expr
    output: sp.Expr
    ratio: sp.Expr
    input: sp.Expr

    def entry(self, row: Any, column: Any) -> sp.Expr:
        """Return F at two positions, numbers or symbols; symbols stand for row > column.

        >>> L = cholesky(sp.Integer(1), sp.Symbol("rho", positive=True))
        >>> sp.simplify(L.entry(3, 1))
        rho
        """
        if row == column:
            return at(self.diagonal, row)
        if sp.sympify(row - column).is_negative:
            return sp.Integer(0)
        if self.ratio.has(i):
            kept = sp.product(at(self.ratio, k), (k, column + 1, row - 1))
            kept = sp.simplify(sp.gammasimp(kept))
        else:
            kept = self.ratio ** (row - column - 1)
        return at(self.output, row) * kept * at(self.input, column)

    def at_values(self, values: dict[sp.Symbol, Any]) -> "Factor":
        """Return the factor with values in place of symbols."""
        parts = (self.diagonal, self.output, self.ratio, self.input)
        return Factor(*(put(values, part) for part in parts))


def at(value: sp.Expr, position: Any) -> sp.Expr:
    """Return an expression in i at another position."""
    return put({i: position}, value)


@lru_cache(maxsize=64)
def state_variance(ratio: sp.Expr, coupling: sp.Expr) -> sp.Expr:
    """Return P_i for i >= 2; P_1 is 0.

    >>> rho, b = sp.symbols("rho b", positive=True)
    >>> state_variance(sp.Integer(1), rho)
    rho**2*(i - 1)/(i*rho - 2*rho + 1)
    >>> state_variance(b, b)
    b**2
    """
    # The eigenvalues have the size of ratio - coupling, whose sign SymPy must know.
    m = sp.Symbol("m", integer=True, nonnegative=True)
    gap = sp.Symbol("gap", positive=True) if ratio != coupling else sp.Integer(0)
    N = ratio - gap
    step = sp.Matrix([[ratio**2 - 2 * ratio * N, N**2], [-1, 1]])
    above, below = step.applyfunc(sp.factor) ** m * sp.Matrix([N**2, 1])
    value = sp.simplify(above / below)
    return sp.factor(put({m: i - 2, gap: ratio - coupling}, value))


@lru_cache(maxsize=64)
def cholesky(ratio: sp.Expr, coupling: sp.Expr) -> Factor:
    """Return the Cholesky factor L of the kernel."""
    P = state_variance(ratio, coupling)
    d = sp.sqrt(sp.factor(1 - P))
    h = sp.factor(coupling - ratio * P) / d
    one = sp.Integer(1)
    return Factor(_from(one, d), one, ratio, _from(coupling, h))


@lru_cache(maxsize=64)
def inverse_cholesky(ratio: sp.Expr, coupling: sp.Expr) -> Factor:
    """Return the inverse of the Cholesky factor."""
    P = state_variance(ratio, coupling)
    d, gain = sp.sqrt(sp.factor(1 - P)), sp.factor((coupling - ratio * P) / (1 - P))
    kept, one = sp.factor(ratio - gain), sp.Integer(1)
    return Factor(_from(one, 1 / d), _from(-one, -1 / d), kept, _from(coupling, gain))


def _from(first: sp.Expr, later: sp.Expr) -> sp.Expr:
    """Return what is `first` at position 1 and `later` from position 2 on."""
    if sp.simplify(at(later, 1) - first) == 0:
        return later
    return sp.Piecewise((first, sp.Eq(i, 1)), (later, True))
