"""What each finite layer computes: the one place where a layer is defined.

A definition is a sum of products of tensor entries, for example

    Dense:      Y[i, k] = sum_a X[i, a] W[a, k] + v[k]
    Attention:  Y[i, k] = sum_{h, c, j} A[h, i, j] V[j, (h, c)] W[(h, c), k] + v[k]

with the law of every weight. theory/update.py takes its kernel's expectation by Wick
calculus, and verify/finite.py runs the same sums in PyTorch: change a law here, and the
recursion, the kernel and the finite network all follow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import sympy as sp

from asymptest.theory.network import Attention, Dense, Init
from asymptest.theory.patterns import (
    Fixed,
    Linear,
    Pattern,
    Saturated,
    Scale,
    Scored,
    Softmax,
    Uniform,
)
from asymptest.theory.wick.laws import Gaussian, Haar, Law
from asymptest.theory.wick.tensors import Index, Poly, Slot, Tensor, total

T = sp.Symbol("T", integer=True, positive=True)  # positions
N_IN = sp.Symbol("n_in", integer=True, positive=True)  # width of the state
N_OUT = sp.Symbol("n_out", integer=True, positive=True)  # width of the result
HEADS = sp.Symbol("H", integer=True, positive=True)

X = Tensor("X")  # the state, T x n_in
K = Tensor("K", symmetric=True)  # its kernel X X^T / n_in, and the same as a matrix
K_MATRIX = sp.MatrixSymbol("K", T, T)
A = Tensor("A")  # attention matrix: (i, j), or (h, i, j) where heads differ

I, J = Index("i", T), Index("j", T)
K_OUT = Index("k", N_OUT)

# A state as a function of its position and its feature.
State = Callable[[Index, Slot], Poly]


@dataclass(frozen=True)
class Scales:
    """The symbols that stand for the numbers of one Dense layer."""

    variance: sp.Symbol
    bias_variance: sp.Symbol


def scales(label: str) -> Scales:
    """Return the symbols s_label and b_label."""
    suffix = f"_{label}" if label else ""
    return Scales(
        sp.Symbol(f"s{suffix}", nonnegative=True),
        sp.Symbol(f"b{suffix}", nonnegative=True),
    )


def dense(
    init: Init, state: State, width: sp.Expr, columns: Slot, label: str = ""
) -> State:
    """Return X W + 1 v^T, where `columns` are the indices that number the features of X.

    Args:
        init: chooses the law of W; its numbers are the symbols `scales(label)`.
        state: X.
        width: the number of features of X.
        columns: the summed indices; several if the features are split into heads.
        label: distinguishes the weights of one layer.
    """
    W = Tensor(f"W{label}", weight_law(init, width, label))
    v = Tensor(f"v{label}", Gaussian(scales(label).bias_variance))

    def result(i: Index, k: Slot) -> Poly:
        inner = tuple(Index(f"{c.name}{label}", c.size) for c in columns)
        return total(state(i, inner) * W(inner, k), *inner) + v(k)

    return result


def weight_law(init: Init, width: sp.Expr, label: str = "") -> Law:
    """Return the law of a weight matrix with `width` rows."""
    variance = scales(label).variance
    match init:
        case "gaussian":
            return Gaussian(variance / width)
        case "orthogonal":
            return Haar(variance, width)


def given_state(i: Index, k: Slot) -> Poly:
    """Return the entry X[i, k]."""
    return X(i, k)


# Numbers enter a definition as symbols, so it depends on a layer's choices alone: the
# definitions are made once for each choice.


def dense_definition(layer: Dense) -> Poly:
    """Return Y[i, k] of a Dense layer."""
    return _dense_definition(layer.init)


@cache
def _dense_definition(init: Init) -> Poly:
    return dense(init, given_state, N_IN, (Index("a", N_IN),))(I, (K_OUT,))


def attention_definition(layer: Attention) -> Poly:
    """Return Y[i, k] of an Attention layer, its attention matrix A being given.

    For Linear attention the mask is given, as a matrix A of ones and zeros, and the logits
    are part of the definition.
    """
    pattern = layer.pattern
    logits = (pattern.scale, pattern.tied) if isinstance(pattern, Linear) else None
    return _attention_definition(
        layer.value.init, layer.output.init, by_head(pattern), logits
    )


@cache
def _attention_definition(
    value_init: Init,
    output_init: Init,
    heads_differ: bool,
    logits: tuple[Scale, bool] | None,
) -> Poly:
    h, c = Index("h", HEADS), Index("c", N_IN / HEADS)
    value = dense(value_init, given_state, N_IN, (Index("a", N_IN),), "V")

    def mixed(i: Index, features: Slot) -> Poly:
        head = features[0]
        attends = A(head, i, J) if heads_differ else A(i, J)
        if logits is not None:
            attends = attends * logits_definition(*logits, head, i, J)
        return total(value(J, features) * attends, J)

    return dense(output_init, mixed, N_IN, (h, c), "O")(I, (K_OUT,))


def by_head(pattern: Pattern) -> bool:
    """Whether each head has an attention matrix of its own."""
    match pattern:
        case Uniform() | Linear():
            return False
        case Fixed():
            return len(pattern.A.shape) == 3
        case Softmax() | Saturated():
            return True


def query_key(pattern: Scored) -> tuple[Dense, Dense]:
    """Return the laws of W^Q and W^K; if they are tied, twice that of the one matrix."""
    if pattern.tied:
        return Dense(pattern.variance), Dense(pattern.variance)
    root = sp.sqrt(sp.sympify(pattern.variance))
    return Dense(root), Dense(root)


@cache
def logits_definition(scale: Scale, tied: bool, h: Index, i: Index, j: Index) -> Poly:
    """Return the logit G[h, i, j] of a scored pattern; s_Q and s_K are its two variances."""
    size = N_IN / HEADS
    c = Index("c", size)
    columns = (Index("a", N_IN),)
    query = dense("gaussian", given_state, N_IN, columns, "Q")
    key = query if tied else dense("gaussian", given_state, N_IN, columns, "K")
    factor = 1 / sp.sqrt(size) if scale == "1/sqrt(d)" else 1 / size
    return total(query(i, (h, c)) * key(j, (h, c)), c).scaled(factor)
