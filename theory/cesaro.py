"""Uniform causal attention: the Cesaro matrix C[i, j] = 1/i for j <= i, and its powers.

C has the eigenvalues 1, 1/2, ..., 1/T, and the matrix of its eigenvectors is

    P[i, k] = (-1)^(k-1) binomial(i-1, k-1),      P P = I,      C P = P diag(1/k),

so that C^l = sum_k k^(-l) P[:, k] P[k, :]. The leading terms are 1 e_1^T and, at 2^(-l),
-(i-1) (e_1 - e_2)^T: every position tends to the first one.
Independent check: verify/catalogue/patterns.py, by finite networks and by exact powers.
"""

from functools import cache

import sympy as sp


@cache
def cesaro(size: int) -> sp.ImmutableMatrix:
    """Return C for `size` positions."""
    return sp.ImmutableMatrix(
        size, size, lambda i, j: sp.Rational(1, i + 1) if j <= i else 0
    )


@cache
def eigenvectors(size: int) -> sp.ImmutableMatrix:
    """Return P, whose column k has the eigenvalue 1/k and whose inverse is P itself."""
    return sp.ImmutableMatrix(size, size, lambda i, k: (-1) ** k * sp.binomial(i, k))


def power(size: int, depth: sp.Expr | int) -> sp.ImmutableMatrix:
    """Return C^depth in closed form; `depth` may be a symbol.

    >>> power(2, sp.Symbol("l"))
    Matrix([
    [         1,       0],
    [1 - 1/2**l, 2**(-l)]])
    """
    P = eigenvectors(size)
    values = sp.diag(
        *(sp.Integer(k) ** (-sp.sympify(depth)) for k in range(1, size + 1))
    )
    return (P * values * P).as_immutable()


def leading_cosine_deficit() -> sp.Expr:
    """Return lim 4^l (1 - cos_ij) under uniform causal attention from a kernel K.

    Row i of the state is x_i = X_1 + 2^(-l) (i-1) (X_2 - X_1) + O(3^(-l)), so the angle of
    two rows is 2^(-l) |i-j| |X_2 across X_1| / |X_1|, and 1 - cos is half its square.

    >>> leading_cosine_deficit()
    (i - j)**2*(K_11*K_22 - K_12**2)/(2*K_11**2)
    """
    K11, K22, K12, i, j, eps = sp.symbols("K_11 K_22 K_12 i j eps")

    def inner(a: sp.Expr, b: sp.Expr) -> sp.Expr:
        """<x_i, x_j> for rows X_1 + eps a (X_2 - X_1), X_1 + eps b (X_2 - X_1)."""
        cross, square = K12 - K11, K22 - 2 * K12 + K11
        return K11 + eps * (a + b) * cross + eps**2 * a * b * square

    a, b = i - 1, j - 1
    # 1 - cos^2 = (1 - cos)(1 + cos), and 1 + cos tends to 2.
    sine = 1 - inner(a, b) ** 2 / (inner(a, a) * inner(b, b))
    return sp.factor(sp.series(sine, eps, 0, 3).coeff(eps, 2) / 2)
