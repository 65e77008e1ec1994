"""The layers of a network on series in 1/c, with proofs of which rows are equal.

numerics/leading.py runs a network through them. Parameters have the power `Run.rise` of c: 1
as c grows, 0 where they are multiplied by one number.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import sympy as sp

from asymptest.numerics.attention import mask_array
from asymptest.numerics.fields import Field
from asymptest.numerics.kinds import Kind, Kinds, kinds
from asymptest.numerics.logits import as_numpy
from asymptest.numerics.saturating import (
    Attended,
    OpenError,
    Setting,
    activate,
    attention_weights,
    normalise,
)
from asymptest.numerics.series import Series
from asymptest.theory.activations import Activation
from asymptest.theory.dual_maps import homogeneity
from asymptest.theory.errors import ShapeError, UnsupportedError
from asymptest.theory.homogeneity import check_degree
from asymptest.theory.network import (
    Attention,
    Chain,
    Custom,
    Dense,
    LayerNorm,
    Mix,
    Mlp,
    Network,
    Pointwise,
    Product,
    Repeat,
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
)


@dataclass(frozen=True)
class State:
    """A state, and which of its rows are equal."""

    series: Series
    kinds: Kinds


@dataclass(frozen=True)
class Run:
    """What the layers share: how to compute, and the power of c of a parameter."""

    setting: Setting
    rise: int
    weights: Iterator[Mapping[str, Any]]

    @property
    def field(self) -> Field:
        """The numbers."""
        return self.setting.field

    def parameter(self, values: Any) -> Series:
        """Return a parameter times c."""
        return Series({self.rise: self.field.array(values)})


def apply(network: Network, state: State, run: Run) -> State:
    """Return the state that a network leaves.

    Raises:
        OpenError: if something stays open with the digits and terms of this run.
        StopIteration: if there are too few weights.
        ShapeError, UnsupportedError: as `leading`.
    """
    if not state.series.parts:
        raise OpenError(f"every power of the state before {network!r}")
    match network:
        case Dense():
            weights = _named(next(run.weights), network, "W", "v")
            out = _affine(state.series, weights, "", run)
            return State(out, state.kinds.shifted(run.rise))
        case Pointwise(phi):
            return _pointwise(phi, state, run)
        case Mlp():
            return apply(network.layers, state, run)
        case RMSNorm() | LayerNorm():
            return _norm(network, state, run)
        case Mix(A):
            matrix = run.field.array(as_numpy(A))
            mixed = state.series.map(lambda part: matrix @ part)
            alone = tuple(range(len(matrix)))
            return State(mixed, Kinds(alone, dict.fromkeys(mixed.parts, alone)))
        case Attention():
            return _attention(network, state, run)
        case Residual(branch, skip, weight):
            inner = apply(branch, state, run)
            factors = [run.field.number(sp.sympify(f)) for f in (skip, weight)]
            total = state.series.map(lambda part: part * factors[0]) + inner.series.map(
                lambda part: part * factors[1]
            )
            return State(total, state.kinds + inner.kinds)
        case Product(left, right):
            one, two = apply(left, state, run), apply(right, state, run)
            product, both = one.series * two.series, one.kinds + two.kinds
            # Which powers of the branches meet in one of the product is not followed.
            return State(product, both.each(product.powers, lambda _, __: None))
        case Chain(layers):
            for layer in layers:
                state = apply(layer, state, run)
            return state
        case Repeat(block, depth):
            for _ in range(depth):
                state = apply(block, state, run)
            return state
        case Custom(name):
            raise UnsupportedError(f"Custom({name!r}) cannot be evaluated exactly")


def _named(
    weights: Mapping[str, Any], layer: Network, needed: str, optional: str
) -> Mapping[str, Any]:
    """Return the weights of a layer, or raise ShapeError unless they have these names."""
    must, may = needed.split(), optional.split()
    if not set(must) <= set(weights) <= {*must, *may}:
        raise ShapeError(
            f"the weights of {layer!r} must name {', '.join(must)} and may name "
            f"{', '.join(may) or 'no other'}; got {', '.join(weights) or 'none'}"
        )
    return weights


def _affine(X: Series, layer: Mapping[str, Any], label: str, run: Run) -> Series:
    """Return X W + 1 v^T; slots of several indices are flattened."""
    W = run.parameter(layer[f"W{label}"])
    width = next(iter(X.parts.values())).shape[1] if X.parts else 0
    shape = next(iter(W.parts.values())).shape
    if int(np.prod(shape)) % width or (shape[0] != width and label != "O"):
        raise ShapeError(f"W{label} of shape {shape} does not act on {width} features")
    product = X @ W.map(lambda part: part.reshape(width, -1))
    bias = layer.get(f"v{label}")
    if bias is None:
        return product
    T = len(next(iter(X.parts.values())))
    if np.size(bias) != int(np.prod(shape)) // width:
        raise ShapeError(
            f"v{label} has {np.size(bias)} entries; W{label} of shape {shape} makes "
            f"{int(np.prod(shape)) // width} features"
        )
    ones = run.field.array(np.ones((T, 1), dtype=int))
    return product + run.parameter(bias).map(lambda part: ones @ part.reshape(1, -1))


def _pointwise(phi: Activation, state: State, run: Run) -> State:
    out = activate(state.series, phi, run.setting)
    top, degree = max(state.series.parts, default=0), homogeneity(phi)

    def key(power: int, i: int) -> Any:
        # phi homogeneous of degree m: the coefficient of c^p has factors from c^top on down
        # to c^(p - (m - 1) top); what leads an entry below that adds nothing to c^p.
        if degree is None or not degree.is_Integer or degree < 1:
            return None
        return state.kinds.down_to(power - (int(degree) - 1) * top)[i]

    return State(out, state.kinds.each(out.powers, key))


def _norm(layer: RMSNorm | LayerNorm, state: State, run: Run) -> State:
    eps = run.field.number(sp.sympify(layer.eps))
    out, leads = normalise(state.series, eps, isinstance(layer, LayerNorm), run.setting)

    def key(power: int, i: int) -> Any:  # expanded so far below the leading power
        lead = leads[i]
        return None if lead is None else (lead, state.kinds.down_to(lead + power)[i])

    known = state.kinds.each(out.powers, key)
    if not layer.affine:
        return State(out, known)
    optional = "bias" if isinstance(layer, LayerNorm) else ""
    weights = _named(next(run.weights), layer, "gain", optional)
    width = next(iter(out.parts.values())).shape[1]
    for name, values in weights.items():
        if np.size(values) != width:
            raise ShapeError(
                f"{name} must have the shape ({width},); got {np.shape(values)}"
            )
    out = out * run.parameter(weights["gain"])
    if weights.get("bias") is not None:
        zero = run.field.zeros(next(iter(out.parts.values())).shape)
        out = out + run.parameter(weights["bias"]).map(lambda part: zero + part)
    return State(out, known.shifted(run.rise))


def _attention(layer: Attention, state: State, run: Run) -> State:
    needed, optional = "WV WO", "vV vO"
    if isinstance(layer.pattern, Softmax | Saturated | Linear):
        needed += " WQ" if layer.pattern.tied else " WQ WK"
    weights = _named(next(run.weights), layer, needed, optional)
    heads, T = np.shape(weights["WV"])[1], len(state.kinds.whole)
    if layer.heads not in ("sqrt", heads):
        raise ShapeError(f"WV has {heads} heads, and the layer {layer.heads}")
    seen = mask_array(layer.mask, T)
    V = _affine(state.series, weights, "V", run)
    size = next(iter(V.parts.values())).shape[1] // heads
    outputs, shares = [], []
    for h in range(heads):
        A, tied = _weights(layer, state, weights, h, seen, run)
        columns = slice(h * size, (h + 1) * size)
        outputs.append(A @ V.map(lambda part, at=columns: part[:, at]))
        shares.append(tied)
    powers = {k for out in outputs for k in out.parts}
    unknown = max((o.unknown for o in outputs if o.unknown is not None), default=None)
    zero = run.field.zeros((T, size))
    mixed = Series(
        {k: np.hstack([out.parts.get(k, zero) for out in outputs]) for k in powers},
        unknown,
        any(out.fast for out in outputs),
    )
    known = _attended(layer, state, shares, seen, sorted(powers), run.rise)
    return State(_affine(mixed, weights, "O", run), known.shifted(run.rise))


def _attended(
    layer: Attention,
    state: State,
    shares: list[list[Attended]],
    seen: Any,
    powers: list[int],
    rise: int,
) -> Kinds:
    """Return which rows are equal after attention.

    At every c: equal queries that see equal keys. In one power of c: means over equal values.
    Where weights are unequal, and depend on c, only values equal from that power up have a
    mean that is known: their own, since weights sum to 1.
    """
    whole, values = state.kinds.whole, state.kinds.shifted(rise)
    rows = range(len(whole))
    views = []
    for i in rows:
        seen_kinds = _proportions([whole[int(j)] for j in np.flatnonzero(seen[i])])
        # Whatever the query is, a mean of equal values is that value.
        views.append((whole[i] if len(seen_kinds) > 1 else None, seen_kinds))
    no_mean = isinstance(layer.pattern, Fixed | Linear)
    equal = kinds(list(rows) if no_mean else views)

    def key(power: int, i: int) -> Any:
        kind = values.parts.get(power, (0,) * len(whole))
        above = values.down_to(power)
        found = []
        for head in shares:
            keys, equally = head[i].keys, head[i].equally
            if not equally and (len({above[j] for j in keys}) > 1 or no_mean):
                return None
            found.append(_proportions([kind[j] for j in keys]))
        return tuple(found)

    return Kinds(equal, {}).each(powers, key)


def _proportions(found: list[int]) -> tuple[tuple[int, int], ...]:
    """Return each kind with its share, as whole numbers without a common factor."""
    counts = Counter(found)
    common = gcd(*counts.values())
    return tuple(sorted((kind, n // common) for kind, n in counts.items()))


def _weights(
    layer: Attention,
    state: State,
    weights: Mapping[str, Any],
    h: int,
    seen: Any,
    run: Run,
) -> tuple[Series, list[Attended]]:
    """Return the attention matrix of one head, and what each query attends to."""
    field, pattern = run.field, layer.pattern
    check_degree(pattern)
    match pattern:
        case Fixed(A):
            table = as_numpy(A)
            rows = table if table.ndim == 2 else table[h]
            every = Attended(tuple(range(len(rows))), equally=False)
            return Series({0: field.array(rows)}), [every] * len(rows)
        case Uniform():
            counts = field.array(seen.sum(axis=1, keepdims=True))
            shared = [tuple(np.flatnonzero(row).tolist()) for row in seen]
            means = [Attended(keys, equally=True) for keys in shared]
            return Series({0: field.array(seen.astype(int)) / counts}), means
        case Elementwise() | Shaped() | Spa():
            raise AssertionError(f"{pattern!r} has no degree")
        case Softmax() | Saturated() | Linear():
            query = weights["WQ"]
            key = query if pattern.tied else weights["WK"]
    d = np.shape(query)[2]
    root = sp.sqrt(d) if pattern.scale == "1/sqrt(d)" else sp.Integer(d)
    if isinstance(pattern, Softmax):
        root = root * sp.sympify(pattern.temperature)
    Q, K = (state.series @ run.parameter(np.asarray(W)[:, h]) for W in (query, key))
    scores = Q @ K.map(lambda part: part.T)
    if isinstance(pattern, Linear):
        factor = field.number(1 / root)
        every = Attended(tuple(range(len(seen))), equally=False)
        mask = field.array(seen.astype(int))
        return scores.map(lambda part: part * mask * factor), [every] * len(seen)
    top, keys = max(Q.parts, default=0), state.kinds.shifted(run.rise)

    def same(power: int | None) -> Kind:
        if power is None:
            return keys.whole
        return keys.down_to(power - shift - top)

    # The largest logits are the same at any scale, so that all powers may be taken as growing.
    shift = 1 - min(0, *scores.powers) if isinstance(pattern, Saturated) else 0
    A, found = attention_weights(
        scores.shifted(shift), seen, same, lambda: field.number(1 / root), run.setting
    )
    ties = [at.keys for at in found if len({keys.whole[j] for j in at.keys}) > 1]
    if isinstance(pattern, Saturated) and scores.fast and ties:
        raise OpenError(f"the tie of the keys {ties[0]}, up to what vanishes fast,")
    return A, found
