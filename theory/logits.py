"""The law of the logits of an attention layer in the limit of wide heads.

Mean and covariance come from the definition of the logits by Wick's calculus, exact at any
width; the limit d -> oo decides whether they fluctuate.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import sympy as sp

from asymptest.theory.definition import (
    HEADS,
    K_MATRIX,
    N_IN,
    I,
    J,
    K,
    T,
    X,
    logits_definition,
    query_key,
    scales,
)
from asymptest.theory.patterns import Scored
from asymptest.theory.steps import Cov, E, Step, equate
from asymptest.theory.substitution import put
from asymptest.theory.wick.expectation import as_kernel, expectation
from asymptest.theory.wick.matrices import to_sum
from asymptest.theory.wick.tensors import Index, Poly, Term, collect

i, j = sp.symbols("i j", integer=True)
G: Any = sp.IndexedBase("G")  # logits
LOGIT_COVARIANCE = Cov(G[sp.Symbol("a"), i], G[sp.Symbol("b"), j])


@dataclass(frozen=True)
class Logits:
    """The limit law of the logits: mean `mean` K, Cov(G_ai, G_bj) = `variance` K_ab K_ij."""

    mean: sp.Expr
    variance: sp.Expr


@cache
def _logit_moments(scale: Any, tied: bool) -> tuple[sp.Expr, sp.Expr, tuple[Step, ...]]:
    """Return the coefficients of K in E G and of K K in Cov G in the limit d -> oo."""
    d = sp.Symbol("d", positive=True)
    a, b = Index("a", T), Index("b", T)
    h = Index("h", HEADS)
    one = logits_definition(scale, tied, h, a, I)
    two = logits_definition(scale, tied, h, b, J)
    no_bias = {scales(x).bias_variance: 0 for x in "QK"}

    def limit_of(poly: Poly) -> Poly:
        per_head = poly.map(
            lambda t: Term(
                sp.simplify(put(no_bias | {HEADS: N_IN / d}, t.coefficient)),
                t.factors,
                t.bound,
            )
        )
        return per_head.map(
            lambda t: Term(sp.limit(t.coefficient, d, sp.oo), t.factors, t.bound)
        )

    exact_mean = as_kernel(expectation(one), X, K, N_IN)
    other_mean = as_kernel(expectation(two), X, K, N_IN)
    second = as_kernel(expectation(one * two), X, K, N_IN)
    mean = limit_of(exact_mean)
    covariance = limit_of(second - exact_mean * other_mean)
    product = K(a, b) * K(I, J)
    mean_part = _coefficient(mean, K(a, I))
    covariance_part = _coefficient(covariance, product)
    steps = (
        Step(
            "Logits",
            "Their mean in the limit of a wide head, $d$ to infinity.",
            equate(E(G[sp.Symbol("a"), i]), to_sum(mean)),
        ),
        Step(
            "Logits",
            "Their covariance in the same limit.",
            equate(LOGIT_COVARIANCE, to_sum(covariance)),
        ),
    )
    return mean_part, covariance_part, steps


def _coefficient(poly: Poly, monomial: Poly) -> sp.Expr:
    """Return the coefficient when `poly` is a multiple of `monomial`."""
    if not poly.terms:
        return sp.Integer(0)
    (expected,) = collect(monomial.terms).terms
    (term,) = poly.terms
    if term.factors != expected.factors:
        raise AssertionError(
            f"the logits have the moment {poly}, not a multiple of {monomial}"
        )
    return term.coefficient


def logits_law(pattern: Scored) -> tuple[Logits, tuple[Step, ...]]:
    """Return the limit law of the logits of a scored pattern, and its derivation."""
    mean, variance, steps = _logit_moments(pattern.scale, pattern.tied)
    query, key = query_key(pattern)
    values = {
        scales("Q").variance: sp.sympify(query.variance),
        scales("K").variance: sp.sympify(key.variance),
    }
    law = Logits(put(values, mean), put(values, variance))
    if law.variance == 0:
        reason = "The logits do not fluctuate in the limit."
        result = equate(sp.MatrixSymbol("G", T, T), law.mean * K_MATRIX)
    else:
        reason = (
            "Each logit is a sum of $d$ independent terms, so the logits are Gaussian in the "
            "limit, and independent over heads; the mean over many heads is the expectation."
        )
        product = sp.Symbol("K_ab") * sp.Symbol("K_ij")
        result = equate(LOGIT_COVARIANCE, law.variance * product)
    return law, (*steps, Step("Limit law", reason, result))
