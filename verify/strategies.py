"""Hypothesis strategies: kernels, matrices, masks and networks, edges included.

What decides whether a claim holds usually happens near an edge: two tokens that are almost
equal, a singular kernel, a tie. Uniform draws miss those, so the distance to an edge is drawn
on a log scale here. Everything is well-formed by construction, and shrinks towards the
identity kernel and `Dense()`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
import sympy as sp
from hypothesis import strategies as st
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from asymptest.theory import activations as phi
from asymptest.theory.activations import Activation
from asymptest.theory.biases import RelativeBias
from asymptest.theory.errors import ArgumentError
from asymptest.theory.masks import Blocks, Mask, Padding, Window, as_mask
from asymptest.theory.network import (
    Attention,
    Custom,
    Dense,
    LayerNorm,
    Mix,
    Mlp,
    Network,
    Pointwise,
    Product,
    Residual,
    RMSNorm,
)
from asymptest.theory.patterns import (
    Elementwise,
    Fixed,
    Linear,
    Pattern,
    Saturated,
    Shaped,
    Uniform,
)
from asymptest.theory.rules import State, after
from asymptest.verify.drawn_patterns import softmax_pattern, spa_pattern

Kernel = Float[np.ndarray, "T T"]
# Not st.DrawFn: a protocol that cannot be checked at run time, as our tests do.
Draw = Callable[[st.SearchStrategy[Any]], Any]


def correlations() -> st.SearchStrategy[float]:
    """Return correlations in [-1, 1], the distance to -1, 0 or 1 on a log scale.

    >>> correlations().example() <= 1  # doctest: +SKIP
    True
    """
    size = st.one_of(
        st.just(0.0),
        st.just(1.0),
        st.floats(0, 16).map(lambda digits: 1 - 10.0**-digits),
        st.floats(0, 16).map(lambda digits: 10.0**-digits),
    )
    return st.builds(lambda r, sign: sign * r, size, st.sampled_from([1.0, -1.0]))


@st.composite
def gram_matrices(
    draw: Draw,
    min_size: int = 1,
    max_size: int = 6,
    *,
    zero_rows: bool = False,
    repeats: bool = True,
    decades: float = 3.0,
) -> Kernel:
    """Draw a kernel X X^T / n of T tokens, of any rank from 1 to T.

    Each token has a drawn correlation with an earlier one, see `correlations`.

    Args:
        draw: given by Hypothesis.
        min_size: smallest T.
        max_size: largest T.
        zero_rows: whether some tokens may be 0.
        repeats: whether some tokens may be exact copies of others.
        decades: the rows' norms lie between 10^-decades and 10^decades.
    """
    T = draw(st.integers(min_size, max_size))
    rank = T - draw(st.integers(0, T - 1)) if draw(st.booleans()) else T
    directions = np.eye(T)
    for i in range(1, T):
        other = directions[draw(st.integers(0, i - 1))]
        rho = draw(correlations())
        fresh = _orthogonal(draw, other, i, rank)
        if fresh is None:  # no dimension is left
            directions[i] = np.copysign(1.0, rho) * other
        else:
            directions[i] = rho * other + ((1 - rho) * (1 + rho)) ** 0.5 * fresh
    norms = 10.0 ** np.array([draw(st.floats(-decades, decades)) for _ in range(T)])
    rows = norms[:, None] * directions
    for i in range(T):
        if repeats and i and draw(st.integers(0, 4)) == 4:
            rows[i] = rows[draw(st.integers(0, i - 1))]
        if zero_rows and draw(st.integers(0, 4)) == 4:
            rows[i] = 0.0
    # Entry by entry, so that equal tokens have equal entries to the last bit.
    return (rows[:, None, :] * rows[None, :, :]).sum(-1)


def _orthogonal(
    draw: Draw, other: Float[np.ndarray, " T"], i: int, rank: int
) -> Float[np.ndarray, " T"] | None:
    """Return a unit vector orthogonal to `other` in the first `rank` dimensions, if any."""
    fresh = np.zeros_like(other)
    for k in range(min(i, rank)):
        fresh[k] = draw(st.integers(-2, 2)) / 2
    fresh[min(i, rank - 1)] += 1.0 if i < rank else 0.25
    fresh -= (fresh @ other) * other
    size = float(np.linalg.norm(fresh))
    return fresh / size if size > 1e-3 else None


@st.composite
def stochastic_matrices(draw: Draw, T: int, causal: bool = False) -> Kernel:
    """Draw a T x T matrix with rows >= 0 that sum to 1, lower triangular if `causal`."""
    weights = np.zeros((T, T))
    for i in range(T):
        for j in range(i + 1 if causal else T):
            weights[i, j] = draw(st.integers(0, 9))
        if not weights[i].any():
            weights[i, i] = 1.0
    return weights / weights.sum(1, keepdims=True)


_MASKS = ("full", "causal", "window", "blocks", "padding", "table")


@st.composite
def masks(draw: Draw, T: int, kinds: tuple[str, ...] = _MASKS) -> Mask:
    """Draw a mask that fits T positions, of every kind; each position sees another."""
    match kind := draw(st.sampled_from(kinds)):
        case "window":
            return Window(draw(st.integers(1, T)), draw(st.booleans()))
        case "blocks":
            ends = [k for k in range(1, T) if draw(st.booleans())]
            lengths = np.diff([0, *ends, T]).tolist()
            return Blocks(tuple(lengths), draw(st.booleans()))
        case "padding":
            return Padding(draw(st.integers(1, T)), draw(st.booleans()))
        case "table":
            table: Bool[np.ndarray, "T T"] = np.eye(T, dtype=bool)
            for i in range(T):
                for j in range(T):
                    table[i, j] |= draw(st.booleans())
            return as_mask(table)
        case _:
            return as_mask(kind)


@st.composite
def tied_scores(
    draw: Draw, length: int, levels: int = 3, decades: int = 3
) -> Float[np.ndarray, " length"]:
    """Draw scores of which several are equal: integers in [0, levels) times one scale.

    The scale is a power of two up to 10^±decades, so equal scores are equal to the last
    bit. With levels < length there always is a tie, though not always for the maximum.
    """
    exponent = draw(st.integers(-int(3.3 * decades), int(3.3 * decades)))
    scores = [draw(st.integers(0, levels - 1)) for _ in range(length)]
    return np.array(scores, dtype=np.float64) * 2.0**exponent


@st.composite
def token_ids(draw: Draw, vocabulary: int, length: int) -> Int64[np.ndarray, " length"]:
    """Draw token ids in [0, vocabulary); repeated tokens are common."""
    drawn: list[int] = []
    for _ in range(length):
        fresh = st.integers(0, vocabulary - 1)
        drawn.append(draw(st.one_of(st.sampled_from(drawn), fresh) if drawn else fresh))
    return np.array(drawn, dtype=np.int64)


def activations(*, tame: bool = False) -> st.SearchStrategy[Activation]:
    """Return activations: the named ones, and those with a parameter.

    Args:
        tame: only those that grow at most linearly, so that kernels of finite networks
            have light tails and do not overflow.
    """
    linear = st.sampled_from(
        [
            phi.identity,
            phi.relu,
            phi.abs_,
            phi.erf,
            phi.gelu,
            phi.tanh,
            phi.gelu_tanh,
            phi.silu,
            phi.sigmoid,
            phi.softplus,
            phi.sin,
            phi.cos,
            phi.gaussian,
            phi.sign,
            phi.step,
        ]
    )
    slopes = st.sampled_from(
        [sp.Rational(1, 4), -sp.Rational(1, 2), sp.Rational(1, 100)]
    )
    tame_ones = linear | slopes.map(phi.leaky_relu)
    if tame:
        return tame_ones
    coefficients = st.lists(st.sampled_from([-1, 0, 1, 2]), min_size=1, max_size=3)
    return st.one_of(
        tame_ones,
        st.just(phi.exp),
        st.integers(0, 4).map(phi.monomial),
        st.integers(0, 4).map(phi.hermite),
        coefficients.map(lambda c: phi.polynomial(*c)),
        coefficients.map(lambda c: phi.polyrelu(*c)),
    )


@dataclass(frozen=True)
class _Allowed:
    """What `networks` may draw."""

    T: int
    sampled: bool
    saturated: bool
    tame: bool
    custom: bool


def networks(
    T: int,
    max_depth: int = 3,
    *,
    sampled: bool = True,
    saturated: bool = True,
    tame: bool = False,
    custom: bool = True,
) -> st.SearchStrategy[Network]:
    """Return networks for T positions that keep the typing rules by construction.

    Every node and pattern occurs. Widths divisible by 8 fit all of them.

    Args:
        T: number of positions.
        max_depth: layers in a row; a residual branch, an MLP and a repeated block count
            as one.
        sampled: whether logits may be random in the limit (scale 1/sqrt(d), untied), so
            that `kernel` is an average over samples.
        saturated: whether the saturated pattern may occur, whose kernel is discontinuous
            where logits tie.
        tame: only activations of `activations(tame=True)`.
        custom: whether a `Custom` layer may occur.

    Raises:
        ArgumentError: if T or max_depth is below 1.

    >>> network = networks(T=2).example()  # doctest: +SKIP
    """
    if T < 1 or max_depth < 1:
        raise ArgumentError(
            f"networks needs T >= 1 and max_depth >= 1; got T = {T}, max_depth = {max_depth}"
        )
    return _chains(_Allowed(T, sampled, saturated, tame, custom), State(), max_depth)


@st.composite
def _chains(draw: Draw, allowed: _Allowed, state: State, max_depth: int) -> Network:
    layers: list[Network] = []
    for _ in range(draw(st.integers(1, max_depth))):
        layers.append(_layer(draw, allowed, state))
        state = after(layers[-1], state)
    return reduce(lambda left, right: left >> right, layers)


# The functions below draw step by step, in place of one large st.one_of: Hypothesis would
# validate all of its branches anew for every layer.

_VARIANCES = st.sampled_from([1, 0.5, 2])
_BIASES = st.sampled_from([0, 0.25, 1])
_EPS = st.sampled_from([0, 0.1, 1])
_POSITIVE_EPS = st.sampled_from([0.1, 1])
_WEIGHTS = st.sampled_from([1, 0.5, -1])
_INITS = st.sampled_from(["gaussian", "orthogonal"])
_EXPANSIONS = st.sampled_from([1, 2, Fraction(1, 2)])
_HEADS = st.sampled_from([1, 2])
_PHIS = activations()
_TAME_PHIS = activations(tame=True)


def _layer(draw: Draw, allowed: _Allowed, state: State) -> Network:
    """Draw a layer that may follow a state."""
    kinds = ["fresh", "residual", "repeat", "rms norm", "mix"]
    kinds += ["pointwise"] if state.gaussian else []
    kinds += ["layer norm"] if state.centred else []
    kinds += ["custom"] if allowed.custom else []
    match draw(st.sampled_from(kinds)):
        case "residual":
            return _residual(draw, allowed, state)
        case "repeat":
            # A block that may follow a state of which nothing is known may follow itself.
            unknown = replace(state, gaussian=False, centred=False)
            return _residual(draw, allowed, unknown) * draw(st.sampled_from([2, 3]))
        case "rms norm":
            return RMSNorm(_eps(draw, state))
        case "layer norm":
            return LayerNorm(_eps(draw, state))
        case "mix":
            return Mix(draw(stochastic_matrices(allowed.T)))
        case "pointwise":
            return Pointwise(_phi(draw, allowed))
        case "custom":
            return DOUBLING
        case _:
            return _fresh(draw, allowed, draw(_EXPANSIONS))


def _eps(draw: Draw, state: State) -> float:
    """Draw an eps; positive after a nonlinearity.

    At small widths a row of signs or steps may be constant, and a norm would divide by 0.
    """
    return draw(_EPS if state.gaussian else _POSITIVE_EPS)


def _residual(draw: Draw, allowed: _Allowed, state: State) -> Residual:
    """Draw a Residual; its branch keeps the width and ends in fresh weights, or mixes."""
    kinds = ["fresh", "rms norm", "mix first", "mix", "mix twice"]
    kinds += ["layer norm"] if state.centred else []
    kind = draw(st.sampled_from(kinds))
    mixes = stochastic_matrices(allowed.T)
    if kind in ("mix", "mix twice"):
        branch: Network = Mix(draw(mixes))
        branch = branch if kind == "mix" else branch >> Mix(draw(mixes))
    else:
        # A Residual is checked by itself, where the width is 1 n: elsewhere, its branch
        # must keep any width, as Attention does.
        square = state.width == 1
        branch = _fresh(draw, allowed, 1) if square else _attention(draw, allowed)
        if kind == "rms norm":
            branch = RMSNorm(_eps(draw, state)) >> branch
        elif kind == "layer norm":
            branch = LayerNorm(_eps(draw, state)) >> branch
        elif kind == "mix first":
            branch = Mix(draw(mixes)) >> branch
    return Residual(branch, draw(_WEIGHTS), draw(_WEIGHTS))


def _fresh(draw: Draw, allowed: _Allowed, expansion: Fraction | int) -> Network:
    """Draw a layer that ends in fresh weights, `expansion` n of them."""
    kinds = ["dense", "mlp", "attention", "attention"]
    kinds += [] if allowed.tame else ["gated"]  # it squares the kernel
    match draw(st.sampled_from(kinds)):
        case "mlp":
            hidden = draw(st.sampled_from([1, 2]))
            ends = _dense(draw), _dense(draw, expansion)
            return Mlp(_phi(draw, allowed), hidden, *ends)
        case "gated":
            gate, linear = _dense(draw), _dense(draw)
            gated = Product(gate >> Pointwise(_phi(draw, allowed)), linear)
            return gated >> _dense(draw, expansion)
        case "attention" if expansion == 1:
            return _attention(draw, allowed)
        case _:
            return _dense(draw, expansion)


def _dense(draw: Draw, expansion: Fraction | int = 1) -> Dense:
    return Dense(draw(_VARIANCES), draw(_BIASES), draw(_INITS), expansion)


def _phi(draw: Draw, allowed: _Allowed) -> Activation:
    return draw(_TAME_PHIS if allowed.tame else _PHIS)


def _attention(draw: Draw, allowed: _Allowed) -> Attention:
    kinds = ["uniform", "deterministic softmax", "vanishing softmax", "fixed"]
    kinds += ["shaped", "spa"]
    kinds += ["softmax", "random table"] if allowed.sampled else []
    kinds += ["saturated"] if allowed.saturated else []
    kinds += ["random saturated"] if allowed.saturated and allowed.sampled else []
    kinds += [] if allowed.tame else ["linear", "deterministic linear", "elementwise"]
    heads, value, output = draw(_HEADS), _dense(draw), _dense(draw)
    pattern: Pattern
    match draw(st.sampled_from(kinds)):
        case "fixed":
            tables = [draw(stochastic_matrices(allowed.T)) for _ in range(heads)]
            A = np.array(tables) if draw(st.booleans()) else tables[0]
            return Attention(Fixed(A), "full", heads, value, output)
        case "deterministic softmax":
            pattern = softmax_pattern(draw, allowed.T, heads, scale="1/d", tied=True)
        case "vanishing softmax":
            pattern = softmax_pattern(draw, allowed.T, heads, scale="1/d")
        case "softmax":
            pattern = softmax_pattern(draw, allowed.T, heads)
        case "shaped":
            scores = softmax_pattern(draw, allowed.T, heads, scale="1/d", tied=True)
            pattern = Shaped(scores, *(draw(_WEIGHTS) for _ in range(3)))
        case "spa":
            mask = draw(masks(allowed.T, ("full", "causal", "blocks")))
            pattern = spa_pattern(draw, allowed.T)
            return Attention(pattern, mask, heads, value, output)
        case "elementwise":
            phi = draw(_TAME_PHIS)
            pattern = Elementwise("1/d", True, draw(_VARIANCES), phi=phi)
        case "random table":
            scores = softmax_pattern(draw, allowed.T, heads, scale="1/d", tied=True)
            pattern = replace(scores, bias=RelativeBias(draw(_VARIANCES), 4, 3))
        case "saturated":
            pattern = Saturated("1/d", tied=True)
        case "linear":  # a polynomial in all its weights, so with heavy tails
            pattern = Linear(variance=draw(_VARIANCES))
        case "deterministic linear":
            pattern = Linear("1/d", tied=True, variance=draw(_VARIANCES))
        case "random saturated":
            pattern = Saturated()
        case _:
            pattern = Uniform()
    return Attention(pattern, draw(masks(allowed.T)), heads, value, output)


class Doubling(nn.Module):
    """2 X, an example of a user's own layer."""

    def forward(self, X: Tensor) -> Tensor:
        """Double the state."""
        return 2 * X


def _doubling_equation(K: Any, new: Any, i: Any, j: Any) -> Any:
    return sp.Eq(new[i, j], 4 * K[i, j])


def _doubling_module(width: int, copies: int, generator: Any) -> nn.Module:
    del width, copies, generator
    return Doubling()


DOUBLING = Custom("doubling", _doubling_equation, _doubling_module)
