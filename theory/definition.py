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
    Elementwise,
    Fixed,
    Linear,
    Pattern,
    Saturated,
    Scale,
    Scored,
    Shaped,
    Softmax,
    Spa,
    Uniform,
)
from asymptest.theory.positions import Additive, Rotary
from asymptest.theory.wick.laws import Gaussian, Haar, Law
from asymptest.theory.wick.tensors import Index, Poly, Slot, Tensor, total

T = sp.Symbol("T", integer=True, positive=True)  # positions
N_IN = sp.Symbol("n_in", integer=True, positive=True)  # width of the state
N_OUT = sp.Symbol("n_out", integer=True, positive=True)  # width of the result
HEADS = sp.Symbol("H", integer=True, positive=True)
TAU = sp.Symbol("tau", positive=True)  # temperature of a softmax
CONTENT = sp.Symbol("gamma", real=True)  # factor of X where positions are added to it

X = Tensor("X")  # the state, T x n_in
K = Tensor("K", symmetric=True)  # its kernel X X^T / n_in, and the same as a matrix
K_MATRIX = sp.MatrixSymbol("K", T, T)
S = Tensor(
    "S"
)  # what queries and keys see in place of X, if their encoding is additive
K_SEEN = Tensor("K_S", symmetric=True)  # its kernel
R = Tensor("R")  # rotation of the features of a head: (position, c, c')
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


def seen_state(i: Index, k: Slot) -> Poly:
    """Return the entry S[i, k]."""
    return S(i, k)


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
    form = logit_form(pattern) if isinstance(pattern, Linear) else None
    return _attention_definition(
        layer.value.init, layer.output.init, by_head(pattern), form
    )


@cache
def _attention_definition(
    value_init: Init,
    output_init: Init,
    heads_differ: bool,
    form: "LogitForm | None",
) -> Poly:
    h, c = Index("h", HEADS), Index("c", N_IN / HEADS)
    value = dense(value_init, given_state, N_IN, (Index("a", N_IN),), "V")

    def mixed(i: Index, features: Slot) -> Poly:
        head = features[0]
        attends = A(head, i, J) if heads_differ else A(i, J)
        if form is not None:
            attends = attends * logits_definition(form, head, i, J)
        return total(value(J, features) * attends, J)

    return dense(output_init, mixed, N_IN, (h, c), "O")(I, (K_OUT,))


def by_head(pattern: Pattern) -> bool:
    """Whether each head has an attention matrix of its own."""
    match pattern:
        case Uniform() | Linear():
            return False
        case Fixed():
            return len(pattern.A.shape) == 3
        case Softmax() | Saturated() | Elementwise() | Shaped() | Spa():
            return True


def query_key(pattern: Scored) -> tuple[Dense, Dense]:
    """Return the laws of W^Q and W^K; if they are tied, twice that of the one matrix."""
    if pattern.tied:
        return Dense(pattern.variance), Dense(pattern.variance)
    root = sp.sqrt(sp.sympify(pattern.variance))
    return Dense(root), Dense(root)


@dataclass(frozen=True)
class LogitForm:
    """The choices on which the definition of the logits depends.

    Args:
        scale: the factor of the product of queries and keys.
        tied: whether W^Q = W^K.
        position: Additive or Rotary, if there is an encoding.
        divided: whether the logits are divided by the temperature TAU.
    """

    scale: Scale
    tied: bool
    position: type[Additive] | type[Rotary] | None
    divided: bool


def logit_form(pattern: Scored) -> LogitForm:
    """Return the form of the logits of a scored pattern."""
    position = None if pattern.position is None else type(pattern.position)
    divided = isinstance(pattern, Softmax) and pattern.temperature != 1
    return LogitForm(pattern.scale, pattern.tied, position, divided)


@cache
def logits_definition(form: LogitForm, h: Index, i: Index, j: Index) -> Poly:
    """Return the logit G[h, i, j] of a scored pattern, without its bias.

    s_Q and s_K are the variances of its two weight matrices.
    """
    size = N_IN / HEADS
    c = Index("c", size)
    columns = (Index("a", N_IN),)
    state = seen_state if form.position is Additive else given_state
    query = dense("gaussian", state, N_IN, columns, "Q")
    key = query if form.tied else dense("gaussian", state, N_IN, columns, "K")
    if form.position is Rotary:
        query, key = _rotated(query, "Q"), _rotated(key, "K")
    factor = 1 / sp.sqrt(size) if form.scale == "1/sqrt(d)" else 1 / size
    logit = total(query(i, (h, c)) * key(j, (h, c)), c)
    return logit.scaled(factor / TAU if form.divided else factor)


def _rotated(state: State, label: str) -> State:
    """Return sum_c' R[i, c, c'] X[i, (h, c')]."""

    def result(i: Index, k: Slot) -> Poly:
        h, c = k
        inner = Index(f"r{label}", c.size)
        return total(R(i, c, inner) * state(i, (h, inner)), inner)

    return result


def embedding_definition() -> Poly:
    """Return S[i, k] = content X[i, k] + sum_a B[i, a] Z[a, k], B B^T = `Additive.kernel`."""
    a = Index("a", T)
    B, Z = Tensor("B"), Tensor("Z", Gaussian(sp.Integer(1)))
    content = given_state(I, (K_OUT,)).scaled(CONTENT)
    return content + total(B(I, a) * Z(a, K_OUT), a)
