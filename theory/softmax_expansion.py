"""The kernel of softmax attention, expanded in the size of its random logits.

Row a of A is the softmax of log P[a, :] + t G[a, :]: P holds the weights that are left
without the random part, and G is centred with Cov(G[a, i], G[b, j]) = C[a, b] K[i, j]. With
the moments m_n = sum_i P[a, i] G[a, i]^n,

    A[a, i] = P[a, i] exp(t G[a, i]) / (1 + t m_1 + t^2 m_2 / 2 + ...),

since P[a, :] sums to 1. The Taylor series in t makes A V A^T, for values with the kernel V, a
polynomial in P, G and V order by order, and Wick's calculus makes its mean a polynomial in
P, C, K and V. Odd orders have the mean 0, so

    E A V A^T = P V P^T + t^2 (first + second + second^T) + O(t^4),

where `first` pairs the first orders of two rows, `second` the second order of row i with P.
With V = K, C = s K and P uniform it is the expansion in a small logit variance s = t^2.

Independent checks: quadrature over two keys, and sampled logits (numerics/random_softmax.py).
"""

from collections.abc import Callable
from functools import cache
from math import factorial
from typing import Any

import sympy as sp

from asymptest.theory.definition import I, J, K, T
from asymptest.theory.wick.expectation import as_kernel, expectation
from asymptest.theory.wick.laws import Gaussian
from asymptest.theory.wick.tensors import Index, Poly, Tensor, scalar, total

t, x = sp.symbols("t x", real=True)

P = Tensor("P")  # the weights at G = 0
C = Tensor("C", symmetric=True)  # covariance of the logits over queries; K over keys
V = Tensor("V")  # kernel of the values

Logit = Callable[[Index, Index], Poly]  # (query, key) -> logit


def given_logits(a: Index, i: Index) -> Poly:
    """Return G[a, i]."""
    return Tensor("G")(a, i)


def random_logits(a: Index, i: Index) -> Poly:
    """Return sum_uv B[a, u] Z[u, v] R[i, v]: Z is Gaussian, B B^T = C and R R^T = K."""
    u, v = Index("u", T), Index("v", T)
    Z = Tensor("Z", Gaussian(sp.Integer(1)))
    return total(Tensor("B")(a, u) * Z(u, v) * Tensor("R")(i, v), u, v)


def moments(order: int) -> tuple[sp.Symbol, ...]:
    """Return the symbols m1 to m_order."""
    return sp.symbols(f"m1:{order + 1}", real=True)


def taylor(order: int) -> sp.Expr:
    """Return the coefficient of t^order in A[a, i] / P[a, i], where x = G[a, i].

    >>> taylor(1)
    -m1 + x
    """
    series = enumerate(moments(order), 1)
    ratio = sp.exp(t * x) / (1 + sum(m * t**n / factorial(n) for n, m in series))
    derivative: Any = sp.diff(ratio, t, order).subs(t, 0)
    return sp.expand(derivative / factorial(order))


def weight(order: int, a: Index, i: Index, logit: Logit) -> Poly:
    """Return the coefficient of t^order in A[a, i].

    >>> weight(1, I, J, given_logits)
    (1) P[i,j] G[i,j] + (-1) sum_k P[i,j] P[i,k] G[i,k]
    """
    k = Index("k", T)
    values = {x: logit(a, i)}
    for n, moment in enumerate(moments(order), 1):
        values[moment] = total(P(a, k) * _power(logit(a, k), n), k)
    result = Poly()
    for powers, coefficient in sp.Poly(taylor(order), *values).terms():
        term = P(a, i).scaled(coefficient)
        for value, power in zip(values.values(), powers, strict=True):
            term = term * _power(value, power)
        result = result + term
    return result


def _power(value: Poly, n: int) -> Poly:
    result = scalar(1)
    for _ in range(n):
        result = result * value
    return result


def product(left: int, right: int, logit: Logit) -> Poly:
    """Return sum_ab of the order `left` of A[i, a], V[a, b] and the order `right` of A[j, b]."""
    a, b = Index("a", T), Index("b", T)
    rows = weight(left, I, a, logit) * weight(right, J, b, logit)
    return total(rows * V(a, b), a, b)


@cache
def mean_product(left: int, right: int) -> Poly:
    """Return the mean of `product` over the random logits, in P, C, K and V.

    >>> mean_product(0, 0)
    (1) sum_s1,s2 P[i,s1] P[j,s2] V[s1,s2]
    """
    mean = expectation(product(left, right, random_logits))
    with_queries = as_kernel(mean, Tensor("B"), C, sp.Integer(1))
    return as_kernel(with_queries, Tensor("R"), K, sp.Integer(1))
