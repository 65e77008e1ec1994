"""Attention with finitely many heads: outputs are mixtures of Gaussians, and how far from one.

Given the attention matrices A_h, an output Y[i, k] is Gaussian over W^O. Its variance

    (s_V s_O / H) sum_h v_h,    v_h = (A_h K A_h^T)_ii,

in the wide limit, still depends on the logits. The heads are independent and alike, so their
mean settles only as H -> infinity. Wick's calculus takes the moments over W^V and W^O at every
width, and the moments m_p = E v^p do the rest.

Source: Hron et al. (2020), arXiv 2006.10540, on infinite width and on infinitely many heads.

Independent checks: all combinations of heads in the open, and finite networks.
"""

from collections import Counter
from functools import cache
from typing import Any

import sympy as sp
from sympy.utilities.iterables import multiset_partitions

from asymptest.theory.definition import (
    HEADS,
    N_IN,
    N_OUT,
    A,
    K,
    X,
    attention_definition,
)
from asymptest.theory.network import Attention
from asymptest.theory.patterns import Softmax
from asymptest.theory.wick.expectation import as_kernel, expectation
from asymptest.theory.wick.tensors import Index, Poly, Term, scalar, total

n = sp.Symbol("n", integer=True, positive=True)  # width, in and out


def moment(power: int) -> sp.Symbol:
    """Return the symbol of E v^power, v = (A K A^T)_ii of one head."""
    return sp.Symbol(f"m_{power}", positive=True)


@cache
def output() -> Poly:
    """Return Y[i, k] of attention without biases, each head with its own matrix."""
    terms = attention_definition(Attention(Softmax(), heads=2)).terms
    return Poly(
        tuple(t for t in terms if all(f.tensor.name[0] != "v" for f in t.factors))
    )


@cache
def output_moment(order: int) -> Poly:
    """Return E Y[i, k]^order over W^V and W^O, given the matrices and the input's kernel.

    >>> output_moment(2)
    (s_O*s_V/H) sum_s1,s2,s3 A[s1,i,s2] A[s1,i,s3] K[s2,s3]
    """
    return _given_heads([output()] * order)


@cache
def kernel_moment(order: int) -> Poly:
    """Return E K'[i, i]^order over W^V and W^O, given the same."""
    k = Index("k", N_OUT)
    square = total(output() * output(), k).scaled(1 / N_OUT)
    return _given_heads([square] * order)


def _given_heads(factors: list[Poly]) -> Poly:
    product = scalar(1)
    for factor in factors:
        product = product * factor
    return as_kernel(expectation(product), X, K, N_IN)


def over_heads(poly: Poly) -> Any:
    """Return the mean over independent heads: v_h^p becomes m_p, the width n.

    >>> over_heads(output_moment(2))
    m_1*s_O*s_V
    """
    mean = sp.Add(*(t.coefficient * _mean_over_heads(t) for t in poly.terms))
    return sp.expand(sp.expand_func(mean).subs({N_IN: n, N_OUT: n}))


def _mean_over_heads(term: Term) -> Any:
    """Return E sum_(h, h', ...) v_h^p v_h'^q ... where heads may coincide.

    Two factors A[h, i, :] and the kernel between them are one v_h.
    """
    powers = Counter(f.slots[0] for f in term.factors if f.tensor == A)
    result: Any = sp.Integer(0)
    partitions: Any = multiset_partitions(list(powers))
    for same in partitions:
        joint = (moment(sum(powers[h] for h in group) // 2) for group in same)
        result += sp.ff(HEADS, len(same)) * sp.Mul(*joint)
    return result


@cache
def excess_kurtosis() -> Any:
    """Return E Y^4 / (E Y^2)^2 - 3 of an output at width n.

    >>> excess_kurtosis()
    6*m_2/(m_1**2*n) - 3*(m_1**2 - m_2)/(H*m_1**2)
    """
    second, fourth = (over_heads(output_moment(order)) for order in (2, 4))
    by_width = sp.collect(sp.expand(fourth / second**2 - 3), 1 / n, evaluate=False)
    return sp.Add(*(sp.factor(part) * power for power, part in by_width.items()))
