"""Uniform attention: what it does to the similarity of tokens, and the gradient it leaves W^Q.

With W^Q = 0 every row of softmax attention is 1/T. For blocks

    Z = X + alpha_1 A X W^V W^O,    Y = Z + alpha_2 Z W^1 W^2,    A = 1 1^T / T,

and weights of variance 1/n, Wick's calculus closes in two numbers, C = |1^T X|^2 and
F = |X|_F^2. Their quotient is how alike the tokens are. It also gives the squared norm of the
gradient of S = A X W^V with respect to W^Q: for Z with independent N(0, 1) entries, the
derivative dS along Z has E |dS|_F^2 = |dS / dW^Q|_F^2.

Source: Noci et al. (2022), arXiv 2206.03126.

Independent checks: SymPy's derivatives of the softmax, autograd, and finite networks.
"""

from functools import cache, reduce
from typing import Any

import sympy as sp

from asymptest.theory.definition import N_IN, I, J, State, T, X, given_state
from asymptest.theory.softmax_expansion import P, weight
from asymptest.theory.wick.expectation import contract, expectation
from asymptest.theory.wick.laws import Gaussian, Given, Law
from asymptest.theory.wick.tensors import Index, Poly, Slot, Tensor, Term, total

n = sp.Symbol("n", integer=True, positive=True)  # width
ALPHA = sp.symbols("alpha_1 alpha_2", real=True)  # of attention and of the MLP
HEAD = sp.Symbol("d", integer=True, positive=True)  # size of a head
C, F = sp.symbols("C F", positive=True)  # |1^T X|^2 and |X|_F^2


def at_uniform(poly: Poly) -> Poly:
    """Return a polynomial in attention weights P where all of them are 1/T."""

    def without(term: Term) -> Term:
        others = tuple(f for f in term.factors if f.tensor != P)
        count = len(term.factors) - len(others)
        return contract(Term(term.coefficient / T**count, others, term.bound))

    return poly.map(without)


# --- how alike tokens are --------------------------------------------------------------


def block() -> State:
    """Return Y as a function of position and feature."""
    after_attention = _residual(_mixed, ("V", "O"), ALPHA[0], given_state)
    return _residual(after_attention, ("1", "2"), ALPHA[1], after_attention)


def _mixed(i: Index, k: Slot) -> Poly:
    """Return A X, the mean token, at every position."""
    return total(X(Index("b", T), k).scaled(1 / T), Index("b", T))


def _residual(
    inner: State, labels: tuple[str, ...], factor: sp.Expr, skip: State
) -> State:
    """Return skip + factor * inner W W' ..., one weight a label, each of variance 1/n."""

    def times(state: State, label: str) -> State:
        a = Index(f"a{label}", n)
        W = Tensor(f"W{label}", Gaussian(1 / n))
        return lambda i, k: total(state(i, (a,)) * W(a, k), a)

    branch = reduce(times, labels, inner)
    return lambda i, k: skip(i, k) + branch(i, k).scaled(factor)


@cache
def similarity_step() -> tuple[Any, Any]:
    """Return E C and E F after one block, in C and F before it.

    >>> similarity_step()[0]
    C*(alpha_1**2 + 1)*(alpha_2**2 + 1)
    """
    k = Index("k", n)
    Y = block()
    rows = total(Y(I, (k,)) * Y(J, (k,)), I, J, k)
    squares = total(Y(I, (k,)) * Y(I, (k,)), I, k)
    return _in_c_and_f(expectation(rows)), _in_c_and_f(expectation(squares))


def _in_c_and_f(poly: Poly) -> Any:
    """Write C for sum_ija X[i, a] X[j, a] and F for sum_ia X[i, a]^2."""
    parts: list[Any] = []
    for term in poly.terms:
        left, right = (factor.slots[0] for factor in term.factors)
        parts.append(term.coefficient * (F if left == right else C))
    return sp.factor(sp.Add(*parts))


@cache
def similarity_factors() -> tuple[Any, Any]:
    """Return the factors that a block gives E C and E (F - C/T), both by themselves.

    >>> similarity_factors()
    ((alpha_1**2 + 1)*(alpha_2**2 + 1), alpha_2**2 + 1)
    """
    C_next, F_next = similarity_step()
    rest = (F_next - C_next / T).subs(F, F + C / T)  # F is what it has beyond C/T
    return sp.factor(C_next / C), sp.factor(rest / F)


def similarity(depth: sp.Expr | int) -> tuple[Any, Any]:
    """Return E C and E F after `depth` blocks."""
    mean, rest = (factor**depth for factor in similarity_factors())
    return C * mean, C * mean / T + (F - C / T) * rest


def beyond_mean(depth: sp.Expr | int) -> Any:
    """Return (F - C/T) / (C/T) after `depth` blocks, over what it was before.

    >>> beyond_mean(1)
    1/(alpha_1**2 + 1)
    """
    mean, rest = similarity_factors()
    quotient: Any = sp.factor(rest / mean)
    return quotient**depth


# --- the gradient at W^Q = 0 -----------------------------------------------------------


def query_gradient(key: Law = Given(), value: Law = Given()) -> Poly:
    """Return |dS / dW^Q|_F^2 at W^Q = 0, times d, for logits X W^Q (X W^K)^T / sqrt(d).

    Args:
        key: law of W^K, over which the mean is taken.
        value: law of W^V, likewise.
    """
    u, c, v = Index("u", N_IN), Index("c", HEAD), Index("v", N_IN)
    direction = Tensor("Z", Gaussian(sp.Integer(1)))

    def logit(i: Index, j: Index) -> Poly:
        query = X(i, u) * direction(u, c)
        return total(query * Tensor("WK", key)(v, c) * X(j, v), u, c, v)

    b, k = Index("b", N_IN), Index("k", HEAD)
    change = total(weight(1, I, J, logit) * X(J, b) * Tensor("WV", value)(b, k), J, b)
    return expectation(at_uniform(total(change * change, I, k)))


def centred(i: Index, a: Index) -> Poly:
    """Return X_c[i, a], the state less its mean over positions."""
    j = Index("j", T)
    return X(i, a) - total(X(j, a), j).scaled(1 / T)


def gradient_form(key: Law = Given(), value: Law = Given()) -> Poly:
    """Return |X|_F^2 |W^K^T X_c^T X_c W^V|_F^2 / T^2, what `query_gradient` amounts to."""
    a, v, b = Index("a", N_IN), Index("v", N_IN), Index("b", N_IN)
    c, k = Index("c", HEAD), Index("k", HEAD)
    covariance = total(centred(I, v) * centred(I, b), I)
    inner = Tensor("WK", key)(v, c) * covariance * Tensor("WV", value)(b, k)
    inner = total(inner, v, b)
    size = total(X(I, a) * X(I, a), I, a)
    return expectation(size * total(inner * inner, c, k)).scaled(1 / T**2)
