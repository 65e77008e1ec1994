"""Degrees in the scale of the parameters: f(x; c theta) as c grows.

    f(x; c theta) = c^k (F + O(c^-p) + O(exp(-gap c^q)))

A sum of unequal degrees leaves its leading power, and an algebraic correction; softmax of
logits that grow leaves its argmax, and an exponential one. The degree of a layer is counted
in its definition (theory/definition.py): each weight is one factor c.

Source: Merrill et al. (2021), arXiv 2010.09697, definitions 1 to 3 and table 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from asymptest.theory.asymptotes import Asymptotes, asymptotes
from asymptest.theory.definition import (
    HEADS,
    A,
    I,
    J,
    X,
    attention_definition,
    dense_definition,
    logit_form,
    logits_definition,
    query_key,
)
from asymptest.theory.errors import ArgumentError, UnsupportedError
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
    as_network,
)
from asymptest.theory.patterns import (
    Elementwise,
    Fixed,
    Linear,
    Pattern,
    Saturated,
    Scored,
    Shaped,
    Softmax,
    Spa,
    Uniform,
    scores_of,
)
from asymptest.theory.wick.laws import Given
from asymptest.theory.wick.tensors import Index, Poly, Term


@dataclass(frozen=True)
class Degree:
    """c^power (F + O(c^-algebraic) + O(exp(-gap c^exponential))), F not 0.

    Args:
        power: k.
        algebraic: p, the order of the largest power that the limit leaves out; None if none.
        exponential: q, the power of c in the exponent of what softmax and gates leave out;
            None if nothing saturates.
    """

    power: int
    algebraic: int | None = None
    exponential: int | None = None

    @property
    def is_exact(self) -> bool:
        """Whether f is homogeneous as it stands: f(x; c theta) = c^k f(x; theta)."""
        return self.algebraic is None and self.exponential is None

    def __add__(self, other: "Degree") -> "Degree":
        high, low = sorted((self, other), key=lambda d: d.power, reverse=True)
        gap = high.power - low.power
        if gap:
            return replace(high, algebraic=_least(high.algebraic, gap))
        return self * replace(other, power=0)

    def __mul__(self, other: "Degree") -> "Degree":
        return Degree(
            self.power + other.power,
            _least(self.algebraic, other.algebraic),
            _least(self.exponential, other.exponential),
        )

    def __str__(self) -> str:
        rest = [f"O(c^-{self.algebraic})"] if self.algebraic is not None else []
        if self.exponential is not None:
            rest.append(f"O(exp(-gap c^{self.exponential}))")
        return f"c^{self.power} ({' + '.join(['F', *rest])})"


PARAMETER, CONSTANT = Degree(1), Degree(0)


def degree(network: Network, input: int = 1) -> Degree:
    """Return the degree of a network's output in the scale of its parameters.

    It is that of generic parameters and inputs: F may vanish for special ones, and where
    the leading logits tie, lower powers of c choose among them (numerics.leading does so).

    Args:
        network: the description; all its weights, biases and gains are multiplied by c.
        input: the degree of its input: 1 for embeddings, 0 for fixed vectors.

    Raises:
        ArgumentError: if the input's degree is negative: then c theta would make it vanish.
        UnsupportedError: for a Custom layer, or an activation that does not follow a power.

    >>> from asymptest.theory import Attention, LayerNorm, Residual, Softmax
    >>> head = Attention(Softmax())
    >>> print(degree(Residual(head >> LayerNorm(affine=True))))  # X + LN(attention(X))
    c^1 (F + O(exp(-gap c^4)))
    >>> print(degree(Residual(LayerNorm(affine=True) >> head)))  # X + attention(LN(X))
    c^3 (F + O(c^-2) + O(exp(-gap c^4)))
    """
    if input < 0:
        raise ArgumentError(f"input must be a degree >= 0; got {input}")
    return saturated(as_network(network), Degree(input))[1]


def saturated(network: Network, state: Degree) -> tuple[Network, Degree]:
    """Return the network that is left as c grows, and the degree of its output."""
    match network:
        case Dense():
            return _dense(network, state)
        case Pointwise(phi):
            sides = asymptotes(phi)
            limit = sides.limit if state.power else phi
            return Pointwise(limit), _pointwise(sides, state)
        case Mlp():
            return saturated(network.layers, state)
        case RMSNorm() | LayerNorm():
            return _norm(network, state)
        case Mix():
            return network, state
        case Attention():
            return _attention(network, state)
        case Residual(branch, skip, weight):
            inner, out = saturated(branch, state)
            if skip == 0 or weight == 0:
                return replace(network, branch=inner), state if weight == 0 else out
            total = state + out
            return (
                Residual(
                    inner,
                    skip if state.power == total.power else 0,
                    weight if out.power == total.power else 0,
                ),
                total,
            )
        case Product(left, right):
            (one, first), (two, second) = (saturated(b, state) for b in (left, right))
            return Product(one, two), first * second
        case Chain(layers):
            found: list[Network] = []
            for layer in layers:
                layer, state = saturated(layer, state)
                found.append(layer)
            return Chain(tuple(found)), state
        case Repeat(block, depth):
            return _repeat(block, depth, state)
        case Custom(name):
            raise UnsupportedError(
                f"Custom({name!r}) does not say how it grows with its parameters; "
                f"saturate the layers around it"
            )


def _repeat(block: Network, depth: int, state: Degree) -> tuple[Network, Degree]:
    copies: list[Network] = []
    for _ in range(depth):
        layer, state = saturated(block, state)
        copies.append(layer)
    if all(copy == copies[0] for copy in copies):
        return copies[0] * depth, state
    return Chain(tuple(copies)), state


def _dense(layer: Dense, state: Degree) -> tuple[Dense, Degree]:
    kept, out = leading(dense_definition(layer), {X.name: state}, _absent(layer))
    names = _weights(kept)
    return _without(layer, names, "W", "v"), out


def _attention(layer: Attention, state: Degree) -> tuple[Attention, Degree]:
    weights, pattern = _pattern(layer, state)
    absent = _absent(layer.value, "V") | _absent(layer.output, "O")
    if isinstance(layer.pattern, Linear):  # the logits are in the definition
        absent |= _no_biases(layer.pattern)
    given = {X.name: state, A.name: weights}
    kept, out = leading(attention_definition(layer), given, absent)
    names = _weights(kept)
    return (
        replace(
            layer,
            pattern=pattern,
            value=_without(layer.value, names, "WV", "vV"),
            output=_without(layer.output, names, "WO", "vO"),
        ),
        out,
    )


def _pattern(layer: Attention, state: Degree) -> tuple[Degree, Any]:
    """Return the degree of the attention weights, and the pattern that is left."""
    pattern = layer.pattern
    check_degree(pattern)
    match pattern:
        case Uniform() | Fixed() | Spa() | Linear() | Elementwise() | Shaped():
            return CONSTANT, pattern
        case Softmax() | Saturated():
            logits = logit_degree(pattern, state)
    if isinstance(pattern, Saturated) or pattern.variance == 0:
        return CONSTANT, pattern
    return Degree(0, exponential=logits.power), argmax(pattern)


def check_degree(pattern: Pattern) -> None:
    """Raise UnsupportedError unless the limit of large parameters knows the pattern."""
    if isinstance(pattern, Elementwise | Shaped | Spa):
        raise UnsupportedError(
            f"the limit of large parameters does not know {pattern!r}: use Softmax"
        )
    scores = scores_of(pattern)
    if scores is not None and (scores.position, scores.bias) != (None, None):
        raise UnsupportedError(
            f"the limit of large parameters does not know the biases and positions of "
            f"{pattern!r}, which do not grow as logits do: leave them out"
        )


def logit_degree(pattern: Scored, state: Degree) -> Degree:
    """Return the degree of the logits of a pattern whose state has degree `state`."""
    h = Index("h", HEADS)
    definition = logits_definition(logit_form(pattern), h, I, J)
    return leading(definition, {X.name: state}, _no_biases(pattern))[1]


def _no_biases(pattern: Scored) -> frozenset[str]:
    query, key = query_key(pattern)
    return _absent(query, "Q") | _absent(key, "K")


def argmax(pattern: Scored) -> Saturated:
    """Return the pattern of the largest logits; a positive scale does not change them."""
    scale = "1/d" if pattern.tied else "1/sqrt(d)"
    return Saturated(scale, pattern.tied, pattern.variance)


def _norm(
    layer: RMSNorm | LayerNorm, state: Degree
) -> tuple[RMSNorm | LayerNorm, Degree]:
    # x / sqrt(m + eps), m = c^2k m_0: 1 / sqrt(1 + eps / m) = 1 - eps / (2 m) + ...
    grows = state.power > 0
    lost = 2 * state.power if layer.eps != 0 and grows else None
    out = replace(state, power=0, algebraic=_least(state.algebraic, lost))
    limit = replace(layer, eps=0) if grows else layer
    if not layer.affine:
        return limit, out
    gained = out * PARAMETER
    return limit, gained + PARAMETER if isinstance(layer, LayerNorm) else gained


def _pointwise(sides: Asymptotes, state: Degree) -> Degree:
    k = state.power
    if sides.homogeneous is not None:
        return replace(state, power=sides.homogeneous * k)
    if k == 0:
        return state
    return Degree(
        k * sides.power,
        _least(state.algebraic, None if sides.next is None else k * sides.next),
        _least(state.exponential, k if sides.saturates else None),
    )


def leading(
    definition: Poly,
    given: Mapping[str, Degree],
    absent: frozenset[str] = frozenset(),
) -> tuple[tuple[Term, ...], Degree]:
    """Return the terms of a definition of the highest degree, and the degree of their sum.

    Args:
        definition: sums of products of tensor entries.
        given: the degrees of tensors that are no weights.
        absent: names of weights that are zero.
    """
    terms = [t for t in definition.terms if not absent & _weights((t,))]
    degrees = [
        reduce(
            Degree.__mul__,
            (given.get(factor.tensor.name, PARAMETER) for factor in term.factors),
            CONSTANT,
        )
        for term in terms
    ]
    if not degrees:
        raise ArgumentError(
            "a layer whose weights and biases all have variance 0 vanishes, and has no "
            "degree; leave it out"
        )
    total = reduce(Degree.__add__, degrees)
    kept = (t for t, d in zip(terms, degrees, strict=True) if d.power == total.power)
    return tuple(kept), total


def _weights(terms: tuple[Term, ...]) -> frozenset[str]:
    factors = (factor for term in terms for factor in term.factors)
    return frozenset(f.tensor.name for f in factors if f.tensor.law != Given())


def _absent(layer: Dense, label: str = "") -> frozenset[str]:
    laws = {f"W{label}": layer.variance, f"v{label}": layer.bias_variance}
    return frozenset(name for name, variance in laws.items() if variance == 0)


def _without(layer: Dense, names: frozenset[str], weight: str, bias: str) -> Dense:
    return replace(
        layer,
        variance=layer.variance if weight in names else 0,
        bias_variance=layer.bias_variance if bias in names else 0,
    )


def _least(*orders: int | None) -> int | None:
    return min((order for order in orders if order is not None), default=None)
