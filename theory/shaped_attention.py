"""Shaped attention over infinite depth and width: one layer's drift and covariance.

One layer is X' = lambda X + gamma A X W with lambda^2 + gamma^2 = 1, W of variance 1/n, and

    A = I + softmax(Y / tau) - 1 1^T / m,    tau = tau_0 sqrt(n n_k),

where Y / sqrt(n_k) are logits G with Cov(G[a, i], G[b, j]) = V[a, b] V[i, j], V = X X^T / n. So
softmax sees t G with t = 1 / (tau_0 sqrt(n)), and its Taylor series in t (softmax_expansion.py)
with Wick's calculus over G and W give, for depth proportional to n, the coefficients of a
stochastic differential equation for V in the time l / n:

    drift = lim n E[V' - V],    diffusion = lim n Cov(V', V').

Source: Noci et al. (2023), arXiv 2306.17759.

Independent checks: SymPy's derivatives of the softmax, and sampled layers.
"""

from functools import cache

import sympy as sp

from asymptest.theory.definition import N_IN, N_OUT, A, I, J, T, X, scales
from asymptest.theory.fluctuation import n, residual_definition
from asymptest.theory.softmax_expansion import random_logits, weight
from asymptest.theory.substitution import put
from asymptest.theory.uniform_attention import at_uniform
from asymptest.theory.update import SKIP, WEIGHT, kernel_of
from asymptest.theory.wick.expectation import (
    as_kernel,
    contract,
    expectation,
)
from asymptest.theory.wick.tensors import (
    DELTA,
    Factor,
    Index,
    Poly,
    Tensor,
    Term,
    collect,
    total,
)

V = Tensor("V", symmetric=True)
GAMMA, TAU_0 = sp.symbols("gamma tau_0", positive=True)
I2, J2 = Index("i2", T), Index("j2", T)


def attention(order: int, a: Index, i: Index) -> Poly:
    """Return the coefficient of t^order in A[a, i], with random logits."""
    if order == 0:
        return DELTA(a, i)
    return at_uniform(weight(order, a, i, random_logits))


def mixed(left: int, right: int, i: Index, j: Index) -> Poly:
    """Return the order `left` of row i of A, times V, times the order `right` of row j."""
    a, b = Index("a", T), Index("b", T)
    return total(attention(left, i, a) * V(a, b) * attention(right, j, b), a, b)


def over_logits(poly: Poly) -> Poly:
    """Return the mean over the logits, whose covariances are V."""
    mean = as_kernel(expectation(poly), Tensor("B"), V, sp.Integer(1))
    return as_kernel(mean, Tensor("R"), V, sp.Integer(1))


@cache
def drift() -> Poly:
    """Return lim n E[V' - V], in V.

    E[V' | A] = lambda^2 V + gamma^2 A V A^T, and t^2 = 1 / (tau_0^2 n).
    """
    second = mixed(2, 0, I, J) + mixed(1, 1, I, J) + mixed(0, 2, I, J)
    return over_logits(second).scaled(GAMMA**2 / TAU_0**2)


@cache
def diffusion() -> Poly:
    """Return lim n Cov(V'[i, j], V'[i2, j2]), in V.

    The covariance given A, where A is I to leading order, and that of E[V' | A].
    """
    both = mixed(1, 0, I, J) + mixed(0, 1, I, J)
    other = mixed(1, 0, I2, J2) + mixed(0, 1, I2, J2)
    logits = over_logits(both * other).scaled(GAMMA**4 / TAU_0**2)
    return collect((_given_identity() + logits).terms)


def _given_identity() -> Poly:
    """Return n Cov(V'[i, j], V'[i2, j2]) over W, for A = I."""
    kernel = kernel_of(residual_definition("gaussian"))
    other = kernel.renamed({I: I2, J: J2})
    covariance = expectation(kernel * other) - expectation(kernel) * expectation(other)
    numbers = {
        SKIP: sp.sqrt(1 - GAMMA**2),
        WEIGHT: GAMMA,
        scales("").variance: 1,
        scales("").bias_variance: 0,
        N_IN: n,
        N_OUT: n,
    }

    def with_identity(term: Term) -> Term:
        factors = tuple(
            Factor(DELTA, f.slots) if f.tensor == A else f for f in term.factors
        )
        coefficient = n * put(numbers, term.coefficient)
        return contract(Term(coefficient, factors, term.bound))

    return as_kernel(covariance.map(with_identity), X, V, n)


# --- the same in closed form -----------------------------------------------------------


def mean_row(b: Index) -> Poly:
    """Return the mean of V[b, :]."""
    u = Index("u", T)
    return total(V(b, u), u).scaled(1 / T)


def centred(i: Index, j: Index) -> Poly:
    """Return V_c[i, j], V with both means removed."""
    w = Index("w", T)
    mean = total(mean_row(w), w).scaled(1 / T)
    return V(i, j) - mean_row(i) - mean_row(j) + mean


def drift_form() -> Poly:
    """Return gamma^2 (E[Q] V + V E[Q]^T + V tr(V_c V) / (m tau_0)^2).

    E[Q][a, b] = V[a, a] (V_c[b, b] - mean of its diagonal) / (2 m tau_0^2).
    """
    k, a, b = Index("k", T), Index("a", T), Index("b", T)

    def mean_weights(i: Index, j: Index) -> Poly:
        apart = centred(j, j) - total(centred(k, k), k).scaled(1 / T)
        return (V(i, i) * apart).scaled(1 / (2 * T * TAU_0**2))

    rows = total(mean_weights(I, k) * V(k, J) + V(I, k) * mean_weights(J, k), k)
    trace = total(centred(a, b) * V(b, a), a, b).scaled(1 / (T * TAU_0) ** 2)
    return (rows + V(I, J) * trace).scaled(GAMMA**2).map(contract)


def diffusion_form() -> Poly:
    """Return gamma^2 (2 - gamma^2) V V + gamma^4 / (m tau_0)^2 V W, W = V V_c V.

    V V stands for both ways of pairing (i, j) with (i2, j2), V W for all four.
    """
    a, b = Index("a", T), Index("b", T)

    def sandwich(i: Index, j: Index) -> Poly:
        return total(V(i, a) * centred(a, b) * V(b, j), a, b)

    pairs = V(I, I2) * V(J, J2) + V(I, J2) * V(J, I2)
    ways = ((I, I2, J, J2), (I, J2, J, I2), (J, I2, I, J2), (J, J2, I, I2))
    parts = [V(i, k) * sandwich(j, m) for i, k, j, m in ways]
    logits = sum(parts[1:], parts[0])
    weights = pairs.scaled(GAMMA**2 * (2 - GAMMA**2))
    return weights + logits.scaled(GAMMA**4 / (T * TAU_0) ** 2)
