"""The law of the logits of an attention layer in the limit of wide heads.

Mean and covariance come from the definition of the logits by Wick's calculus, exact at any
width; the limit d -> oo decides whether they fluctuate.
"""

from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import sympy as sp

from asymptest.theory.definition import (
    CONTENT,
    HEADS,
    K_MATRIX,
    K_OUT,
    K_SEEN,
    N_IN,
    N_OUT,
    TAU,
    I,
    J,
    K,
    LogitForm,
    S,
    T,
    X,
    embedding_definition,
    logit_form,
    logits_definition,
    query_key,
    scales,
)
from asymptest.theory.patterns import Scored, Softmax
from asymptest.theory.positions import DISTANCE, Additive, Rotary
from asymptest.theory.rotation import TURN, turned
from asymptest.theory.steps import Cov, E, Step, equate
from asymptest.theory.substitution import put
from asymptest.theory.wick.expectation import as_kernel, expectation
from asymptest.theory.wick.matrices import to_matrix, to_sum
from asymptest.theory.wick.tensors import Index, Poly, Tensor, Term, collect, total

i, j = sp.symbols("i j", integer=True)
G: Any = sp.IndexedBase("G")  # logits
LOGIT_COVARIANCE = Cov(G[sp.Symbol("a"), i], G[sp.Symbol("b"), j])
SEEN_MATRIX = sp.MatrixSymbol("K_S", T, T)
POSITIONS = sp.MatrixSymbol("P", T, T)  # the kernel of additive encodings


@dataclass(frozen=True)
class Logits:
    """The limit law of the logits, without their bias.

    With the kernel K that queries and keys see, the logits have the mean `mean` K and the
    covariance Cov(G_ai, G_bj) = `variance` K_ab K_ij. Rotary encodings multiply the mean of G_ai by
    r(a - i) and the covariance by r(a - i - b + j).

    Args:
        mean: without the encoding.
        variance: likewise.
        seen: the kernel that queries and keys see, in K and the kernel P of the encodings.
        turn: r as an expression in DISTANCE > 0; even, and 1 at 0.
    """

    mean: sp.Expr
    variance: sp.Expr
    seen: Any = K_MATRIX
    turn: sp.Expr | None = None


@cache
def _logit_moments(form: LogitForm) -> tuple[sp.Expr, sp.Expr, tuple[Step, ...]]:
    """Return the coefficients of K in E G and of K K in Cov G in the limit d -> oo."""
    d = sp.Symbol("d", positive=True)
    a, b = Index("a", T), Index("b", T)
    h = Index("h", HEADS)
    one, two = logits_definition(form, h, a, I), logits_definition(form, h, b, J)
    no_bias = {scales(x).bias_variance: 0 for x in "QK"}
    state, kernel = (S, K_SEEN) if form.position is Additive else (X, K)

    def mean_of(poly: Poly) -> Poly:
        return turned(as_kernel(expectation(poly), state, kernel, N_IN))

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

    exact_mean, other_mean = mean_of(one), mean_of(two)
    mean = limit_of(exact_mean)
    covariance = limit_of(mean_of(one * two) - exact_mean * other_mean)
    mean_part = _coefficient(mean, kernel(a, I), (a, I))
    covariance_part = _coefficient(
        covariance, kernel(a, b) * kernel(I, J), (a, I, J, b)
    )
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


def _coefficient(poly: Poly, monomial: Poly, turns: tuple[Index, ...]) -> sp.Expr:
    """Return the coefficient when `poly` is a multiple of `monomial`, rotated or not.

    The positions `turns` are those of the rotation, every other one counting backwards.
    """
    if not poly.terms:
        return sp.Integer(0)
    (expected,) = collect(monomial.terms).terms
    (term,) = poly.terms
    rotations = [f for f in term.factors if f.tensor == TURN]
    rest = tuple(f for f in term.factors if f.tensor != TURN)
    alternating = all(
        {frozenset(f.indices[::2]), frozenset(f.indices[1::2])}
        == {frozenset(turns[::2]), frozenset(turns[1::2])}
        for f in rotations
    )
    if rest != expected.factors or not alternating:
        raise AssertionError(
            f"the logits have the moment {poly}, not a multiple of {monomial}"
        )
    return term.coefficient


@lru_cache(maxsize=256)  # keyed by patterns, which hold arrays: bounded
def logits_law(pattern: Scored) -> tuple[Logits, tuple[Step, ...]]:
    """Return the limit law of the logits of a scored pattern, and its derivation."""
    mean, variance, steps = _logit_moments(logit_form(pattern))
    query, key = query_key(pattern)
    values = {
        scales("Q").variance: sp.sympify(query.variance),
        scales("K").variance: sp.sympify(key.variance),
    }
    if isinstance(pattern, Softmax):
        values[TAU] = sp.sympify(pattern.temperature)
    law = Logits(put(values, mean), put(values, variance))
    before: tuple[Step, ...] = ()
    match pattern.position:
        case Additive(content=content):
            seen = put({CONTENT: content}, _seen_kernel()).doit()
            law = replace(law, seen=seen)
            before = (_seen_step(law.seen),)
        case Rotary():
            turn = pattern.position.turn()
            law, before = replace(law, turn=turn), (_turn_step(turn),)
        case None:
            pass
    return law, (*before, *steps, _limit_law(law))


def _limit_law(law: Logits) -> Step:
    additive = law.seen != K_MATRIX
    if law.variance == 0:
        matrix: Any = law.mean * (SEEN_MATRIX if additive else K_MATRIX)
        reason = "The logits do not fluctuate in the limit."
        if law.turn is None:
            return Step("Limit law", reason, equate(sp.MatrixSymbol("G", T, T), matrix))
        return Step("Limit law", reason, equate(G[i, j], matrix[i, j] * _turn("i j")))
    name = "K_S" if additive else "K"
    product = sp.Symbol(f"{name}_ab") * sp.Symbol(f"{name}_ij")
    if law.turn is not None:
        product *= _turn("a i b j")
    reason = (
        "Each logit is a sum of $d$ independent terms, so the logits are Gaussian in the "
        "limit, and independent over heads; the mean over many heads is the expectation."
    )
    return Step("Limit law", reason, equate(LOGIT_COVARIANCE, law.variance * product))


def _turn(positions: str) -> Any:
    first, *rest = sp.symbols(positions)
    signs = (-1, -1, 1)
    return sp.Function("r")(
        sp.Add(first, *(sign * at for sign, at in zip(signs, rest, strict=False)))
    )


def _turn_step(turn: sp.Expr) -> Step:
    reason = (
        "The mean of $cos(theta_m Delta)$ over the features, $theta_m = base^(-2m/d)$, in the "
        "limit $d$ to infinity."
    )
    return Step("Rotary", reason, equate(sp.Function("r")(DISTANCE), turn))


@cache
def _seen_kernel() -> Any:
    """Return the kernel of content X + E, the mean over the embeddings E."""
    definition = embedding_definition()
    other = definition.renamed({I: J})
    kernel = expectation(total(definition * other, K_OUT).scaled(1 / N_OUT))
    kernel = as_kernel(kernel, X, K, N_OUT)
    positions = Tensor(POSITIONS.name, symmetric=True)
    return to_matrix(as_kernel(kernel, Tensor("B"), positions, sp.Integer(1)), I, J)


def _seen_step(seen: Any) -> Step:
    reason = "The kernel that queries and keys see; $P$ is the kernel of the encodings."
    return Step("Positions", reason, equate(SEEN_MATRIX, seen))
