"""The network that is left when all parameters grow, and why: f(x; c theta) / c^k as c -> oo.

    saturate(network).network      softmax replaced by its argmax, gates by steps, ...
    saturate(network).steps        each rule as a limit that SymPy took

Source: Merrill et al. (2021), arXiv 2010.09697, definition 1; divided by c^k, since f itself
diverges unless k = 0.
"""

from dataclasses import dataclass
from typing import Any

import sympy as sp

from asymptest.theory.asymptotes import asymptotes
from asymptest.theory.errors import ArgumentError
from asymptest.theory.homogeneity import Degree, saturated
from asymptest.theory.network import (
    Attention,
    Chain,
    Dense,
    LayerNorm,
    Mlp,
    Network,
    Pointwise,
    Product,
    Repeat,
    Residual,
    RMSNorm,
    as_network,
)
from asymptest.theory.patterns import Saturated, Softmax
from asymptest.theory.piecewise import x
from asymptest.theory.saturation import c, saturate_scores, softmax, tied_scores
from asymptest.theory.steps import Step, equate

EPS, MEAN = sp.symbols("epsilon m", positive=True)
ENTRY = sp.Symbol("x_i", nonzero=True)


@dataclass(frozen=True)
class Saturation:
    """What is left of a network as its parameters grow.

    Args:
        network: F in f(x; c theta) = c^k (F + ...), with the parameters theta that remain: a
            skip, weight, variance or eps of 0 stands for what is left out.
        degree: k, and the orders of what is left out.
        steps: the rules used, each derived.
    """

    network: Network
    degree: Degree
    steps: tuple[Step, ...]

    def text(self) -> str:
        """Return the derivation as text."""
        head = f"f(x; c theta) = {self.degree}\nF = {self.network!r}"
        return "\n\n".join([head, *(step.text() for step in self.steps)])

    def latex(self) -> str:
        """Return the steps as LaTeX."""
        return "\n\n".join(step.latex() for step in self.steps)

    def mathml(self) -> str:
        """Return the steps as HTML paragraphs with MathML."""
        return "\n".join(step.mathml() for step in self.steps)


def saturate(network: Network, input: int = 1) -> Saturation:
    """Return the limit of f(x; c theta) / c^k as c -> oo, k the degree of f.

    The limit is that of generic parameters: where logits tie at their leading power, lower
    powers choose among them, which `numerics.leading` follows for given numbers.

    Args:
        network: the description; all its parameters are multiplied by c.
        input: the degree of its input: 1 for embeddings, 0 for fixed vectors.

    Raises:
        ArgumentError: if input is negative.
        UnsupportedError: for a Custom layer, or an activation that does not follow a power.

    >>> from asymptest.theory import Attention, Dense, RMSNorm, Residual, Softmax
    >>> saturate(Residual(Attention(Softmax())) >> RMSNorm()).network
    Residual(Attention(Saturated()), 0) >> RMSNorm()
    """
    if input < 0:
        raise ArgumentError(f"input must be a degree >= 0; got {input}")
    limit, degree = saturated(as_network(network), Degree(input))
    return Saturation(limit, degree, tuple(_steps(network)))


def parts(network: Network) -> tuple[Network, ...]:
    """Return the layers that a network is built from, containers before their contents."""
    match network:
        case Chain(layers):
            inner = layers
        case Repeat(block):
            inner = (block,)
        case Residual(branch):
            inner = (branch,)
        case Product(left, right):
            inner = (left, right)
        case Mlp():
            inner = (network.layers,)
        case _:
            inner = ()
    return (network, *(part for layer in inner for part in parts(layer)))


def _steps(network: Network) -> list[Step]:
    layers = parts(network)
    steps: list[Step] = []
    if any(isinstance(layer, (Dense, Attention)) for layer in layers):
        steps.append(_weights())
    if any(_has_softmax(layer) for layer in layers):
        steps += _softmax()
    if any(isinstance(layer, (RMSNorm, LayerNorm)) for layer in layers):
        steps.append(_norm())
    if any(isinstance(layer, Residual) for layer in layers):
        steps.append(_sum())
    gates = dict.fromkeys(p.phi for p in layers if isinstance(p, Pointwise))
    return steps + [_gate(phi) for phi in gates]


def _has_softmax(layer: Network) -> bool:
    return isinstance(layer, Attention) and isinstance(
        layer.pattern, Softmax | Saturated
    )


def _weights() -> Step:
    k = sp.Symbol("k", integer=True, nonnegative=True)
    state, weight = sp.symbols("X W", commutative=False)
    product = (c**k * state) * (c * weight)
    return Step(
        "Weights",
        "each weight in a product is one factor c",
        equate(product, sp.powsimp(product)),
    )


def _softmax() -> list[Step]:
    scores = tied_scores(2, 1)
    soft = softmax(tuple(c * score for score in scores))
    limits = saturate_scores(scores)
    reasons = {
        1: "scores that grow leave the mean over the largest ones, here two",
        2: "and nothing of a score at the distance $g_1$ below them",
    }
    return [
        Step("Softmax", reason, equate(sp.Limit(soft[at], c, sp.oo), limits[at]))
        for at, reason in reasons.items()
    ]


def _norm() -> Step:
    k = sp.Symbol("k", positive=True)
    small = sp.Symbol("delta", positive=True)  # c^-2k
    root = sp.series(1 / sp.sqrt(MEAN + EPS * small), small, 0, 2).removeO()
    return Step(
        "Norm",
        "a norm has degree 0; epsilon adds what falls as the mean square grows",
        equate(
            c**k * ENTRY / sp.sqrt(c ** (2 * k) * MEAN + EPS),
            ENTRY * root.subs(small, c ** (-2 * k)) + sp.Function("O")(c ** (-4 * k)),
        ),
    )


def _sum() -> Step:
    k, p = sp.symbols("k p", positive=True)
    first, second = sp.symbols("F G")
    total = (c**k * first + c ** (k - p) * second) / c**k
    return Step(
        "Sum",
        "of unequal degrees the leading power is left, and the rest is algebraic",
        equate(total, sp.expand(sp.powsimp(sp.expand(total)))),
    )


def _gate(phi: Any) -> Step:
    limit = asymptotes(phi)
    return Step(
        f"Activation {phi.name}",
        "far from zero it is a power on each side",
        equate(
            sp.Limit(phi.expr.subs(x, c * x) / c**limit.power, c, sp.oo),
            limit.limit.expr,
        ),
    )
