"""How far a finite layer's kernel strays from its mean: exact variances at every width.

The kernel update is a mean over weights; the same pairings, applied to two kernels at once,
give Var K'[i, j] as a polynomial in 1/n, and by iteration the law of a chain of layers.
"""

from functools import cache

import sympy as sp

from asymptest.theory.definition import (
    K_OUT,
    N_IN,
    N_OUT,
    A,
    I,
    J,
    K,
    T,
    X,
    dense,
    dense_definition,
    given_state,
)
from asymptest.theory.network import Dense, Init
from asymptest.theory.steps import Step, Var, equate
from asymptest.theory.substitution import put
from asymptest.theory.update import SKIP, WEIGHT, kernel_of
from asymptest.theory.wick.expectation import as_kernel, expectation
from asymptest.theory.wick.matrices import to_sum
from asymptest.theory.wick.tensors import Index, Poly, Slot, Term, collect, total

n = sp.Symbol("n", integer=True, positive=True)  # width, in and out


@cache
def kernel_variance(definition: Poly) -> Poly:
    """Return Var K'[i, j] of a layer n -> n, given its input: a polynomial in 1/n.

    >>> kernel_variance(dense_definition(Dense()))
    (s**2/n) K[i,j] K[i,j] + (s**2/n) K[i,i] K[j,j]
    """
    kernel = _without_biases(kernel_of(definition))
    mean = _contracted(kernel)
    second = _contracted(kernel * kernel)
    return collect((second - mean * mean).terms)


def _contracted(poly: Poly) -> Poly:
    """Take the expectation for n_in = n_out = n, and write K for X X^T / n."""
    square = {N_IN: n, N_OUT: n}
    mean = expectation(poly).map(
        lambda t: Term(put(square, t.coefficient), t.factors, t.bound)
    )
    return as_kernel(mean, X, K, n)


def _without_biases(poly: Poly) -> Poly:
    return Poly(
        tuple(t for t in poly.terms if all(f.tensor.name != "v" for f in t.factors))
    )


@cache
def residual_definition(init: Init) -> Poly:
    """Return Y = alpha X + beta A X W, the normalised skip of attention with a given A."""
    b = Index("b", T)

    def mixed(i: Index, k: Slot) -> Poly:
        return total(A(i, b) * given_state(b, k), b)

    branch = dense(init, mixed, N_IN, (Index("a", N_IN),))(I, (K_OUT,))
    return given_state(I, (K_OUT,)).scaled(SKIP) + branch.scaled(WEIGHT)


def chain_moment(depth: sp.Expr | int) -> sp.Expr:
    """Return E q_L^2 / q_0^2 for the squared length q of a row after L Dense layers.

    Each layer multiplies E q^2 by one factor, since its variance is a multiple of q^2.
    With variance 1 this is (1 + 2/n)^L: the relative variance grows like 2 L / n.

    >>> chain_moment(sp.Symbol("L"))
    ((n + 2)/n)**L
    """
    entry = sp.Symbol("q", positive=True)
    one_row = kernel_variance(dense_definition(Dense())).renamed({J: I})
    variance = sp.Add(*(t.coefficient * entry ** len(t.factors) for t in one_row.terms))
    factor = 1 + variance.subs(sp.Symbol("s", nonnegative=True), 1) / entry**2
    return sp.factor(factor) ** depth


def variance_steps(definition: Poly) -> tuple[Step, ...]:
    """Return the derivation of a variance, for printing."""
    variance = kernel_variance(definition)
    return (
        Step(
            "Definition",
            "The finite layer.",
            equate(sp.Symbol("Y_ik"), to_sum(definition)),
        ),
        Step(
            "Wick",
            "Pair the weights in the square of $K'_ij$ and subtract the squared mean.",
            equate(Var(sp.Symbol("K'_ij")), to_sum(variance)),
        ),
    )
