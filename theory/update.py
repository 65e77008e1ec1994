"""One layer's kernel update, derived from the layer's definition.

The kernel of a state is K = X X^T / n. `update(layer)` takes the expectation of the kernel of
Y = layer(X) over the layer's weights by Wick calculus (for norms: exactly, for Pointwise: by
Gaussian calculus) and returns the equation for K' with the steps that led to it.
"""

from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import sympy as sp

from asymptest.theory.definition import (
    K_MATRIX,
    K_OUT,
    K_SEEN,
    N_IN,
    N_OUT,
    A,
    I,
    J,
    K,
    S,
    T,
    X,
    attention_definition,
    dense_definition,
    given_state,
    query_key,
    scales,
)
from asymptest.theory.gaussian_calculus import c, dual, p, q
from asymptest.theory.logits import Logits, logits_law
from asymptest.theory.network import (
    Attention,
    Custom,
    Dense,
    LayerNorm,
    Mix,
    Number,
    Pointwise,
    Product,
    Residual,
    RMSNorm,
)
from asymptest.theory.patterns import (
    Elementwise,
    Fixed,
    Linear,
    Saturated,
    Shaped,
    Softmax,
    Spa,
    Uniform,
    heads_differ,
    scores_of,
)
from asymptest.theory.rules import mixes
from asymptest.theory.steps import E, Step, equate
from asymptest.theory.wick.expectation import as_kernel, expectation
from asymptest.theory.wick.laws import Gaussian
from asymptest.theory.wick.matrices import Average, to_matrix, to_sum
from asymptest.theory.wick.tensors import Index, Poly, Tensor, Term, collect, total

MEAN = Tensor("m")  # feature mean of each position
NORM = Tensor("r")  # 1 / norm of each position

A_MATRIX = sp.MatrixSymbol("A", T, T)
BRANCH_MATRIX = sp.MatrixSymbol("K_B", T, T)  # kernel of a branch
OTHER_MATRIX = sp.MatrixSymbol("K_C", T, T)  # kernel of the other branch of a product
NEXT_MATRIX = sp.MatrixSymbol("K'", T, T)
i, j = sp.symbols("i j", integer=True)
EPS, SKIP, WEIGHT = sp.symbols("eps alpha beta", real=True)

Layer = (
    Dense
    | Pointwise
    | RMSNorm
    | LayerNorm
    | Mix
    | Attention
    | Residual
    | Product
    | Custom
)


@dataclass(frozen=True)
class Update:
    """The equation of one layer: K' in terms of K.

    Args:
        equation: between matrices, or between the entries (i, j) of matrices.
        values: the numbers of the layer's symbols.
        steps: the derivation.
        logits: the law of the logits, for patterns that have some.
    """

    equation: sp.Eq
    values: tuple[tuple[sp.Symbol, Number], ...]
    steps: tuple[Step, ...]
    logits: Logits | None = None

    @property
    def is_entrywise(self) -> bool:
        """Whether the equation is one between entries."""
        return not isinstance(self.equation.lhs, sp.MatrixExpr)


@lru_cache(maxsize=256)  # keyed by layers, which hold arrays: bounded
def update(layer: Layer) -> Update:
    """Return the kernel update of one layer."""
    match layer:
        case Dense():
            return _dense(layer)
        case Pointwise():
            return _pointwise(layer)
        case RMSNorm() | LayerNorm():
            return _norm(layer)
        case Mix():
            return _mix()
        case Attention():
            return _attention(layer)
        case Residual():
            return _residual(layer)
        case Product():
            return _product()
        case Custom():
            equation = layer.equation(K_MATRIX, NEXT_MATRIX, i, j)
            return Update(equation, (), (Step("Given", f"By {layer!r}.", equation),))


def kernel_of(definition: Poly, width: sp.Expr = N_OUT) -> Poly:
    """Return (1/n_out) sum_k Y[i, k] Y[j, k] for Y[i, k] = `definition`."""
    other = definition.renamed({I: J})
    return total(definition * other, K_OUT).scaled(1 / width)


@cache
def _derive(definition: Poly) -> tuple[Any, tuple[Step, ...]]:
    """Return E K' as a matrix expression, with the steps: define, pair, contract."""
    kernel = kernel_of(definition)
    mean = as_kernel(expectation(kernel), X, K, N_IN)
    mean = as_kernel(mean, S, K_SEEN, N_IN)
    matrix = to_matrix(mean, I, J)
    steps = (
        _defined(definition),
        Step(
            "Wick",
            "Take the mean of $K' = Y Y^T / n_out$: pair the entries of each weight matrix, "
            "carry out the sums over the deltas, and write $K$ for $X X^T / n_in$.",
            equate(sp.Symbol("K'_ij"), to_sum(mean)),
        ),
    )
    return matrix, steps


def _defined(definition: Poly) -> Step:
    return Step(
        "Definition",
        "The finite layer.",
        equate(sp.Symbol("Y_ik"), to_sum(definition)),
    )


def _dense_values(
    layer: Dense, label: str = ""
) -> tuple[tuple[sp.Symbol, Number], ...]:
    symbols = scales(label)
    return (
        (symbols.variance, layer.variance),
        (symbols.bias_variance, layer.bias_variance),
    )


def _dense(layer: Dense) -> Update:
    matrix, steps = _derive(dense_definition(layer))
    equation = equate(NEXT_MATRIX, matrix)
    return Update(equation, _dense_values(layer), (*steps, _hence(equation)))


def _hence(equation: sp.Eq) -> Step:
    return Step("Hence", "In matrix form.", equation)


def _mix() -> Update:
    a = Index("j", T)
    definition = total(A(I, a) * given_state(a, (K_OUT,)), a)
    matrix, steps = _derive_given(definition)
    equation = equate(NEXT_MATRIX, matrix)
    return Update(equation, (), (*steps, _hence(equation)))


def _derive_given(definition: Poly) -> tuple[Any, tuple[Step, ...]]:
    """As `_derive`, for a layer without weights: nothing is random, the width stays."""
    kernel = as_kernel(kernel_of(definition, N_OUT), X, K, N_OUT)
    return to_matrix(kernel, I, J), (_defined(definition),)


def _norm(layer: RMSNorm | LayerNorm) -> Update:
    a = Index("a", N_OUT)
    row = given_state(I, (K_OUT,))
    if isinstance(layer, LayerNorm):
        row = row - total(given_state(I, (a,)), a).scaled(1 / N_OUT)
    centred = feature_means(as_kernel(kernel_of(row), X, K, N_OUT))
    definition = NORM(I) * row
    steps = [_defined(definition)]
    if isinstance(layer, LayerNorm):
        mean: Any = sp.IndexedBase("m")
        steps.append(
            Step(
                "Feature mean",
                "$m_i$ is the mean over features; it vanishes in the limit, as the typing "
                "rules made sure.",
                equate(E(mean[i] ** 2), 0),
            )
        )
    limit = Poly(
        tuple(t for t in centred.terms if all(f.tensor != MEAN for f in t.factors))
    )
    entry = _entry(limit)
    size = [entry.subs({i: k, j: k}, simultaneous=True) for k in (i, j)]
    equation = equate(
        NEXT_MATRIX[i, j], entry / (sp.sqrt(size[0] + EPS) * sp.sqrt(size[1] + EPS))
    )
    reason = "$r_i^2 = 1 / (K'_ii + eps)$, with $K'$ before the division."
    steps.append(Step("Normalise", reason, equation))
    return Update(equation, ((EPS, layer.eps),), tuple(steps))


def _entry(poly: Poly) -> sp.Expr:
    """Return a polynomial in entries of K at (i, j) as entries of the matrix K."""
    values = {I: i, J: j}
    return sp.Add(
        *(
            t.coefficient
            * sp.Mul(
                *(
                    K_MATRIX[values[f.indices[0]], values[f.indices[1]]]
                    for f in t.factors
                )
            )
            for t in poly.terms
        )
    )


def feature_means(poly: Poly) -> Poly:
    """Write each (1/n) sum_a X[i, a], a alone, as the feature mean m[i]."""

    def rewrite(term: Term) -> Term:
        for factor in term.factors:
            if factor.tensor != X:
                continue
            column = factor.slots[1]
            uses = [f for f in term.factors if set(column) & set(f.indices)]
            if len(uses) == 1 and set(column) <= term.bound:
                (mean,) = MEAN(factor.slots[0]).terms[0].factors
                rest = tuple(f for f in term.factors if f is not factor)
                size = sp.prod(index.size for index in column)
                return rewrite(
                    Term(
                        size * term.coefficient, (*rest, mean), term.bound - set(column)
                    )
                )
        return term

    return collect(rewrite(t) for t in poly.terms)


def _pointwise(layer: Pointwise) -> Update:
    derived = dual(layer.phi)
    entries = {p: K_MATRIX[i, i], q: K_MATRIX[j, j], c: K_MATRIX[i, j]}
    equation = equate(NEXT_MATRIX[i, j], derived.value.subs(entries, simultaneous=True))
    reason = (
        "$p = K_ii$, $q = K_jj$, $c = K_ij$, since the rows of $X$ are Gaussian in the "
        "limit."
    )
    return Update(equation, (), (*derived.steps, Step("Kernel", reason, equation)))


def _attention(layer: Attention) -> Update:
    if isinstance(layer.pattern, Linear):
        return _linear(layer, layer.pattern)
    matrix, steps = _derive(attention_definition(layer))
    values = _dense_values(layer.value, "V") + _dense_values(layer.output, "O")
    equation = equate(NEXT_MATRIX, matrix)
    steps = (*steps, _hence(equation))
    match layer.pattern:
        case Spa():  # all heads have the same matrix
            return Update(
                equate(NEXT_MATRIX, without_average(equation.rhs)), values, steps
            )
        case Uniform() | Fixed():
            return Update(equation, values, steps)
        case Softmax() | Saturated() | Elementwise() | Shaped():
            scores = scores_of(layer.pattern)
            assert scores is not None
            law, more = logits_law(scores)
            if law.variance == 0 and not heads_differ(scores):
                # All heads have the same logits, so the mean over heads is no mean.
                equation = equate(NEXT_MATRIX, without_average(equation.rhs))
            return Update(equation, values, (*steps, *more), law)


def _linear(layer: Attention, pattern: Linear) -> Update:
    """Return the update of attention without softmax: a polynomial in all its weights."""
    law, more = logits_law(pattern)
    if law.variance == 0:
        # The logits are what they are in the mean: A is the mask times a multiple of K_S.
        given = _attention(replace(layer, pattern=Uniform()))
        return replace(given, steps=(*more, *given.steps), logits=law)
    matrix, steps = _derive(attention_definition(layer))
    query, key = query_key(pattern)
    values = (
        *_dense_values(layer.value, "V"),
        *_dense_values(layer.output, "O"),
        *_dense_values(query, "Q"),
        *_dense_values(key, "K"),
    )
    equation = equate(NEXT_MATRIX, matrix)
    return Update(equation, values, (*steps, _hence(equation)))


@cache
def _product() -> Update:
    """Return the update of a product, each branch standing for what its weights act on."""
    branches = []
    for label, kernel in (("F", BRANCH_MATRIX), ("G", OTHER_MATRIX)):
        a = Index(f"a{label}", N_IN)
        W = Tensor(f"W{label}", Gaussian(1 / N_IN))
        hidden = Tensor(label)
        branches.append((hidden, kernel, total(hidden(I, a) * W(a, K_OUT), a)))
    definition = branches[0][2] * branches[1][2]
    mean = expectation(kernel_of(definition))
    for hidden, kernel, _ in branches:
        mean = as_kernel(mean, hidden, Tensor(kernel.name, symmetric=True), N_IN)
    equation = equate(NEXT_MATRIX, to_matrix(mean, I, J))
    reason = (
        "Pair the weights of each branch, which are independent of the other's; a "
        "nonlinearity behind them acts on each feature alone, and changes nothing in this."
    )
    return Update(equation, (), (_defined(definition), Step("Wick", reason, equation)))


def without_average(matrix: Any) -> Any:
    """Return the matrix expression with the body of each `Average` in its place."""
    return matrix.replace(lambda e: isinstance(e, Average), lambda e: e.body)


def _residual(layer: Residual) -> Update:
    values = ((SKIP, layer.skip), (WEIGHT, layer.weight))
    if mixes(layer.branch) is not None:
        a = Index("j", T)
        state = given_state(I, (K_OUT,)).scaled(SKIP)
        mixed = total(A(I, a) * given_state(a, (K_OUT,)), a).scaled(WEIGHT)
        matrix, steps = _derive_given(state + mixed)
        equation = equate(NEXT_MATRIX, matrix)
        return Update(equation, values, (*steps, _hence(equation)))
    a = Index("a", N_IN)
    hidden = Tensor("F")  # what the branch's last weights act on
    W = Tensor("W", Gaussian(1 / N_IN))
    skip = given_state(I, (K_OUT,)).scaled(SKIP)
    branch = total(hidden(I, a) * W(a, K_OUT), a).scaled(WEIGHT)
    cross = expectation(total(skip * branch.renamed({I: J}), K_OUT))
    if cross.terms:
        raise AssertionError(
            f"the cross term of a residual branch does not vanish: {cross}"
        )
    own_width = {N_IN: N_OUT}
    parts = as_kernel(expectation(kernel_of(skip + branch)), X, K, N_OUT)
    BRANCH = Tensor("K_B", symmetric=True)
    parts = as_kernel(parts, hidden, BRANCH, N_IN)
    equation = equate(NEXT_MATRIX, to_matrix(parts, I, J).subs(own_width))
    steps = (
        _defined(skip + branch),
        Step(
            "Cross term",
            "It holds an odd number of the branch's last weights, which have mean zero and "
            "on which $X$ does not depend.",
            equate(E(sp.Symbol("X_ik") * sp.Symbol("B_jk")), 0),
        ),
        Step(
            "Wick",
            "Pair the branch's last weights; $K_B$ is the branch's kernel.",
            equation,
        ),
    )
    return Update(equation, values, steps)
