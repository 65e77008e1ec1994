"""Singular values of softmax of independent logits: one is 1, the next falls like T^(-1/2).

T rows of weights A_ij = w_ij / sum_j w_ij, w = e^g / E e^g with g ~ N(0, b^2), are the matrix
1 1^T / T plus independent entries of variance (E w^2 - 1) / T^2, to leading order. The first
has the singular value 1, which A keeps, since A 1 = 1; the second those of a random matrix.

Source: Nait Saada, Naderi and Tanner (2024), arXiv 2410.07799; Yin, Bai and Krishnaiah (1988)
for the edge.
"""

from typing import Any

import sympy as sp

from asymptest.theory.random_energy import weight_moment


def squared_edge() -> Any:
    """Return where the squared singular values end, for T x T entries of variance 1/T.

    Their moments tend to the Catalan numbers, whose quotients tend to the largest value.

    >>> squared_edge()
    4
    """
    k = sp.Symbol("k", positive=True)
    catalan = sp.binomial(2 * k, k) / (k + 1)
    return sp.limit(sp.combsimp(catalan.subs(k, k + 1) / catalan), k, sp.oo)


def second_singular_value() -> Any:
    """Return lim sqrt(T) s_2 of T rows, each a softmax of T logits.

    >>> second_singular_value()
    2*sqrt(exp(b**2) - 1)
    """
    return sp.sqrt(squared_edge()) * sp.sqrt(weight_moment(2) - 1)
