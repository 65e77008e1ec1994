"""Claims about f(x; c theta) as c grows: degrees, what is left out, and the limit itself.

Entries B-06 and B-08: arXiv 2010.09697, table 1 and propositions 4 to 6. The predictions come
from theory/homogeneity.py and, for given weights, from numerics/leading.py; the networks are
torch's, in float64, with every parameter multiplied by c.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp
import torch
from flint import arb
from hypothesis import strategies as st

from asymptest.numerics.leading import enclosure_at, leading
from asymptest.theory.activations import relu
from asymptest.theory.errors import AccuracyError, ArgumentError
from asymptest.theory.homogeneity import degree
from asymptest.theory.network import (
    Attention,
    Chain,
    Dense,
    LayerNorm,
    Mlp,
    Network,
    Pointwise,
    Repeat,
    Residual,
    RMSNorm,
)
from asymptest.theory.patterns import Softmax, Uniform
from asymptest.verify.claim import Claim, Exact, Identity, Rate, Source
from asymptest.verify.deterministic import EPS
from asymptest.verify.finite import finite
from asymptest.verify.weights_of import load_weights, weights_of

PAPER = "arXiv 2010.09697 (Merrill et al., EMNLP 2021)"
HEADS = 2
ATTENTION = Attention(Softmax(), mask="causal", heads=HEADS)
LINEAR = Dense(bias_variance=1)
BIASED = Attention(Softmax(), mask="causal", heads=HEADS, value=LINEAR, output=LINEAR)
MLP, BIASED_MLP = Mlp(relu, 2), Mlp(relu, 2, LINEAR, LINEAR)
NORM, RMS, EPSILON = (
    LayerNorm(affine=True),
    RMSNorm(affine=True),
    LayerNorm(1, affine=True),
)

# What is normalised where, and the degree that entry B-08 and propositions 4 to 6 give.
BLOCKS: dict[str, tuple[Network, Callable[[int], int]]] = {
    "sublayer norm": (
        Residual(ATTENTION >> NORM) >> Residual(MLP >> NORM),
        lambda L: 1,
    ),
    "pre-LN": (Residual(NORM >> ATTENTION) >> Residual(NORM >> MLP), lambda L: 3),
    "post-LN": (Residual(ATTENTION) >> NORM >> Residual(MLP) >> NORM, lambda L: 1),
    "vanilla": (ATTENTION >> MLP, lambda L: 4 * L + 1),
    "sublayer norm with biases": (
        Residual(BIASED >> RMS) >> Residual(BIASED_MLP >> RMS),
        lambda L: 1,
    ),
    "post-LN with eps": (
        Residual(ATTENTION) >> EPSILON >> Residual(MLP) >> EPSILON,
        lambda L: 1,
    ),
}


@dataclass(frozen=True)
class Case:
    """A block `layers` times over, with weights and tokens that a seed draws.

    Args:
        block: the key in BLOCKS.
        layers: how often.
        tokens: which of the vocabulary's rows each position holds; equal ones tie.
        seed: of weights, gains, biases and the vocabulary, small whole numbers.
        c: the factor of all parameters.
    """

    block: str
    layers: int
    tokens: tuple[int, ...]
    seed: int
    c: int = 16

    @property
    def network(self) -> Network:
        """The description."""
        return BLOCKS[self.block][0] * self.layers


WIDTH = 4


@lru_cache(maxsize=512)
def _drawn(case: Case) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    """Return the weights and the input, of whole numbers so that ties are exact."""
    rng = np.random.default_rng(case.seed)

    def whole(values: np.ndarray) -> np.ndarray:
        return rng.integers(-3, 4, size=values.shape).astype(float)

    weights = [
        {
            # A gain of zero would hide a feature, and equal ones a permutation.
            name: rng.choice([-2.0, -1.0, 1.0, 2.0], value.shape)
            if name == "gain"
            else whole(value).reshape(value.shape)
            for name, value in layer.items()
        }
        for layer in weights_of(finite(case.network, WIDTH))
    ]
    vocabulary = rng.integers(-3, 4, size=(max(case.tokens) + 1, WIDTH)).astype(float)
    return weights, vocabulary[list(case.tokens)]


@st.composite
def cases(draw, blocks: tuple[str, ...] = tuple(BLOCKS), most: int = 2) -> Case:
    """Draw a network, its weights and tokens, some of them repeated."""
    return Case(
        draw(st.sampled_from(blocks)),
        draw(st.integers(1, most)),
        tuple(draw(st.lists(st.integers(0, 2), min_size=1, max_size=4))),
        draw(st.integers(0, 2**16)),
        2 ** draw(st.integers(0, 5)),
    )


def _torch(case: Case, c: float) -> np.ndarray:
    """Return f(c x; c theta) in torch: the input is an embedding, a parameter too."""
    weights, X = _drawn(case)
    scaled = [{name: c * value for name, value in layer.items()} for layer in weights]
    module = load_weights(finite(case.network, WIDTH), scaled)
    with torch.no_grad():
        return module(torch.from_numpy(c * X))[0].numpy()


# --- The limit: torch against the exact evaluation -----------------------------------

# Rounding of a layer in units of the last place: a dot product of 8 terms, a norm, a sum.
ROUNDING = 64 * EPS


@lru_cache(maxsize=512)
def _enclosed(case: Case) -> tuple[np.ndarray, np.ndarray] | None:
    """Return middle and radius of f(c x; c theta), or None if float64 cannot tell a maximum.

    The balls hold what softmax adds to its argmax, and weights that are off by ROUNDING.
    """
    weights, X = _drawn(case)
    blurred = [
        {name: _blurred(values) for name, values in layer.items()} for layer in weights
    ]
    try:
        balls = enclosure_at(case.network, blurred, case.c * X, case.c, saturated=True)
    except (AccuracyError, ArgumentError):  # an open tie, a row that vanishes
        return None
    part = balls.series.parts[0]
    middle = np.vectorize(lambda ball: float(ball.mid()), otypes=[float])(part)
    radius = np.vectorize(lambda ball: float(ball.rad()), otypes=[float])(part)
    return middle, radius


def _blurred(values: np.ndarray) -> Any:
    result = np.empty(values.shape, dtype=object)
    for at, value in np.ndenumerate(values):
        result[at] = arb(value, abs(value) * ROUNDING)
    return result


def _middle(case: Case) -> np.ndarray:
    found = _enclosed(case)
    assert found is not None
    return found[0] / _size(case)


def _size(case: Case) -> float:
    """Return the largest entry, in whose units all is compared."""
    found = _enclosed(case)
    assert found is not None
    return float(np.abs(found[0]).max()) or 1.0


def _radius(case: Case) -> np.ndarray:
    """Return the bound: the radius, and rounding on the scale of the whole output."""
    found = _enclosed(case)
    assert found is not None
    return found[1] / _size(case) + ROUNDING


def _mutant(**change: Any) -> Callable[[Case], np.ndarray]:
    """Return the exact evaluation of a network whose attention is another one."""

    def right(case: Case) -> np.ndarray:
        weights, X = _drawn(case)
        wrong = _replaced(case.network, **change)
        # Uniform attention has no queries and keys.
        kept = weights_of(finite(wrong, WIDTH))
        weights = [
            {name: layer[name] for name in names}
            for layer, names in zip(weights, kept, strict=True)
        ]
        balls = enclosure_at(wrong, weights, case.c * X, case.c, saturated=True)
        return np.vectorize(float, otypes=[float])(balls.series.parts[0]) / _size(case)

    return right


def _replaced(network: Network, **change: Any) -> Network:
    match network:
        case Attention():
            return replace(network, **change)
        case Residual(branch):
            return replace(network, branch=_replaced(branch, **change))
        case Chain(layers):
            return Chain(tuple(_replaced(layer, **change) for layer in layers))
        case Repeat(block, depth):
            return _replaced(block, **change) * depth
        case _:
            return network


TORCH = Exact(lambda case, _: _torch(case, case.c) / _size(case), _middle, _radius)

# --- Orders: the first correction, its power and its size ----------------------------

FIRST, SECOND = 10, 13  # log2 of c
ALGEBRAIC = tuple(
    name for name, (block, _) in BLOCKS.items() if degree(block).algebraic is not None
)


@lru_cache(maxsize=512)
def _series(case: Case) -> dict[int, np.ndarray] | None:
    """Return the coefficients of f over its leading power by the power of 1 / c.

    None unless three of them are known and the second is not small.
    """
    weights, X = _drawn(case)
    try:
        found = leading(case.network, weights, X)
    except (AccuracyError, ArgumentError):
        return None
    known = found.series.unknown
    parts = {
        found.power - k: np.vectorize(float, otypes=[float])(part)
        for k, part in found.series.parts.items()
    }
    order = degree(case.network).algebraic
    if order not in parts or known is None or found.power - known <= 2 * order:
        return None
    large = np.abs(parts[order]).max() > 1e-3 * np.abs(parts[0]).max()
    return parts if large else None


def _departure(case: Case, log_c: int) -> float:
    """Return the largest entry of |f(c x; c theta) / c^k - F|."""
    series, c = _series(case), 2.0**log_c
    assert series is not None
    k = degree(case.network).power
    return float(np.abs(_torch(case, c) / c**k - series[0]).max())


def _constant(case: Case) -> float:
    series, order = _series(case), degree(case.network).algebraic
    assert series is not None
    assert order is not None
    return float(np.abs(series[order]).max())


def _ratio(case: Case) -> float:
    order = degree(case.network).algebraic
    assert order is not None
    return 2.0**-order


def _remainder(case: Case, log_c: int) -> float:
    """Return the later terms over the first: those known, and as much again for the rest."""
    series, order = _series(case), degree(case.network).algebraic
    assert series is not None
    assert order is not None
    c = 2.0**log_c
    later = sum(
        np.abs(part).max() * c ** (order - k) for k, part in series.items() if k > order
    )
    return float(2 * later / _constant(case)) + 1e-3


ORDER = Rate(_departure, _ratio, _constant, (FIRST, SECOND), _remainder)

# --- What softmax leaves out: exp(-gap c^q) ------------------------------------------


@dataclass(frozen=True)
class Gap:
    """One head, two tokens, and the second one's query: one logit is larger, by the gap.

    Args:
        input: the degree of the tokens, 1 for embeddings and 0 for fixed vectors.
        seed: of weights and tokens, standard normal.
    """

    input: int
    seed: int

    @property
    def network(self) -> Network:
        """The description."""
        return Attention(Softmax(), mask="causal")

    def drawn(self) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
        """Return the weights and the two tokens."""
        rng = np.random.default_rng(self.seed)
        shapes = weights_of(finite(self.network, WIDTH))
        weights = [
            {name: rng.standard_normal(value.shape) for name, value in layer.items()}
            for layer in shapes
        ]
        return weights, rng.standard_normal((2, WIDTH))

    def gap(self) -> float:
        """Return how far the smaller logit is below the larger one, at c = 1."""
        (weights,), X = self.drawn()
        query, key = (
            X @ weights["WQ"].reshape(WIDTH, -1),
            X @ weights["WK"].reshape(WIDTH, -1),
        )
        logits = query[1] @ key.T / np.sqrt(WIDTH)
        return float(abs(logits[0] - logits[1]))


EXPONENTS = (6.0, 12.0, 24.0)  # gap c^q at three c: exp(-6) to exp(-24)


def _rate(case: Gap) -> int:
    rate = degree(case.network, case.input).exponential
    assert rate is not None
    return rate


def _distances(case: Gap) -> list[float]:
    """Return |f - F|, over the leading power, at the c where gap c^q is each exponent."""
    weights, X = case.drawn()
    found = leading(case.network, weights, X, case.input)
    limit, distances = found.floats(), []
    for exponent in EXPONENTS:
        c = (exponent / case.gap()) ** (1 / _rate(case))
        scaled = [{k: c * value for k, value in layer.items()} for layer in weights]
        module = load_weights(finite(case.network, WIDTH), scaled)
        with torch.no_grad():
            output = module(torch.from_numpy(c**case.input * X))[0].numpy()
        distances.append(float(np.abs(output / c**found.power - limit)[1].max()))
    return distances


def _exponent(case: Gap) -> list[float]:
    """Return q from the distances at three scales, which grow by 2^(1/q) each."""
    first, second, third = (-np.log(d) for d in _distances(case))
    return [float(np.log2((third - second) / (second - first)) * _rate(case))]


def _exponent_bound(case: Gap) -> float:
    """Bound q's error: softmax adds R / (1 + R) for R, and the last distance is rounded."""
    weights, X = case.drawn()
    size = np.abs(leading(case.network, weights, X, case.input).floats()).max()
    rounding = ROUNDING * WIDTH * size / min(_distances(case))
    off = np.exp(-EXPONENTS[0]) / (EXPONENTS[1] - EXPONENTS[0]) + rounding / 12
    return float(4 * _rate(case) * off)


def _of_rate(rate: Callable[[Gap], int]) -> Exact:
    return Exact(
        lambda case, _: _exponent(case), lambda case: [rate(case)], _exponent_bound
    )


SOFTMAX_RATE = _of_rate(_rate)
GAPS = st.builds(Gap, st.sampled_from([0, 1]), st.integers(0, 2**16)).filter(
    lambda case: case.gap() > 0.05
)

# --- Degrees ---------------------------------------------------------------------------

LARGE = 512.0


@lru_cache(maxsize=512)
def _correction(case: Case) -> float | None:
    """Return what all but the leading power adds at LARGE, relative to it; None if unknown."""
    weights, X = _drawn(case)
    try:
        found = leading(case.network, weights, X)
        top, sizes = found.power, {}
        for k, part in found.series.parts.items():
            sizes[k] = np.linalg.norm(np.vectorize(float, otypes=[float])(part))
    except (AccuracyError, ArgumentError):
        return None
    if top != degree(case.network).power:  # F vanishes for these weights
        return None
    later = sum(size * LARGE ** (k - top) for k, size in sizes.items() if k < top)
    rest = (
        0.0 if found.series.unknown is None else LARGE ** (found.series.unknown - top)
    )
    return float(2 * (later / sizes[top] + rest)) + ROUNDING


def _measured(case: Case) -> float:
    """Return log2 of how much doubling all parameters multiplies the output."""
    sizes = [np.linalg.norm(_torch(case, c)) for c in (LARGE, 2 * LARGE)]
    return float(np.log2(sizes[1] / sizes[0]))


def _bound(case: Case) -> float:
    correction = _correction(case)
    assert correction is not None
    return 4 * correction


DEGREES = Exact(
    lambda case, _: _measured(case),
    lambda case: BLOCKS[case.block][1](case.layers),
    _bound,
)


def _wrong_degree(block: str, formula: Callable[[int], int]) -> Exact:
    return replace(
        DEGREES,
        right=lambda case: (
            formula(case.layers) if case.block == block else DEGREES.right(case)
        ),
    )


# --- Table 1, and the norm's eps -------------------------------------------------------


def _table(affine: int = 1, product: int = 0) -> dict[str, sp.Expr]:
    """Return degrees out of degrees in, less those of table 1."""
    found: dict[str, int] = {}
    for k in range(5):
        found |= {
            f"linear {k}": degree(Dense(), k).power - (k + 1),
            f"norm {k}": degree(LayerNorm(), k).power,
            f"norm with gain and bias {k}": degree(NORM, k).power - affine,
            f"ReLU {k}": degree(Pointwise(relu), k).power - k,
            f"attention {k}": degree(ATTENTION, k).power - (k + 2 + product),
        }
    found["affine 0"] = degree(LINEAR, 0).power - 1
    found["a bias is a correction"] = abs((degree(LINEAR, 2).algebraic or 0) - 2)
    return {name: sp.Integer(value) for name, value in found.items()}


def _eps(halves: int = -1) -> dict[str, sp.Expr]:
    """c^2 (LN_eps(c x) / LN_0(x) - 1) -> -eps / (2 m), m the variance of x."""
    c, m, eps = sp.symbols("c m epsilon", positive=True)
    ratio = c * sp.sqrt(m) / sp.sqrt(c**2 * m + eps)
    return {
        "eps": sp.limit(c**2 * (ratio - 1), c, sp.oo) - sp.Rational(halves, 2) * eps / m
    }


SIZE, LIMIT_OF = sp.symbols("c k"), sp.Function("f")


def _statement(left: Any, right: Any) -> tuple[sp.Basic, ...]:
    return (sp.Eq(left, right, evaluate=False),)


F, THETA, INPUT = sp.symbols("F theta x")
DEPTH: Any = sp.Symbol("L")

CLAIMS = (
    Claim(
        name="homogeneity/limit",
        statement=_statement(
            sp.Limit(
                LIMIT_OF(INPUT, SIZE[0] * THETA) / SIZE[0] ** SIZE[1], SIZE[0], sp.oo
            ),
            F,
        ),
        source=Source(PAPER, "definition 1 (entry B-01), over c^k"),
        instances=cases().filter(lambda case: _enclosed(case) is not None),
        evidence=(TORCH,),
        mutants={
            "no mask": replace(TORCH, right=_mutant(mask="full")),
            "uniform for the argmax": replace(TORCH, right=_mutant(pattern=Uniform())),
        },
        limits="Two blocks of width 4, up to four tokens, at c of 1 to 32; instances whose "
        "maxima float64 cannot separate are left out.",
    ),
    Claim(
        name="homogeneity/order",
        statement=_statement(
            LIMIT_OF(INPUT, SIZE[0] * THETA) / SIZE[0] ** SIZE[1],
            F + sp.Symbol("F_p") * SIZE[0] ** (-sp.Symbol("p")),
        ),
        source=Source(PAPER, "propositions 4 to 6 (entry B-08)"),
        instances=cases(ALGEBRAIC, most=1).filter(
            lambda case: _series(case) is not None
        ),
        evidence=(ORDER,),
        mutants={
            "one order more": replace(ORDER, ratio=lambda case: _ratio(case) / 2),
            "half the coefficient": replace(
                ORDER, constant=lambda case: _constant(case) / 2
            ),
        },
        limits="Single blocks with an algebraic correction, at c of 2^10 and 2^13; the terms "
        "behind those known are taken to be no larger.",
    ),
    Claim(
        name="homogeneity/softmax-rate",
        statement=_statement(
            LIMIT_OF(INPUT, SIZE[0] * THETA) / SIZE[0] ** SIZE[1],
            F
            + sp.Symbol("F_R") * sp.exp(-sp.Symbol("gap") * SIZE[0] ** sp.Symbol("q")),
        ),
        source=Source(PAPER, "lemma 7 and propositions 4 to 6 (entries B-03, B-08)"),
        instances=GAPS,
        evidence=(SOFTMAX_RATE,),
        mutants={
            "half the power": _of_rate(lambda case: _rate(case) // 2),
            "c^2 whatever the input": _of_rate(lambda case: 2),
            "c^4 whatever the input": _of_rate(lambda case: 4),
        },
        limits="One head of width 4 on two tokens, logits apart by 6 to 24 at the larger c.",
    ),
    Claim(
        name="homogeneity/transformer-degrees",
        statement=tuple(
            sp.Eq(sp.Symbol(f"k({name})"), formula(DEPTH), evaluate=False)
            for name, (_, formula) in BLOCKS.items()
        ),
        source=Source(PAPER, "propositions 4 to 6 (entry B-08)"),
        instances=cases().filter(lambda case: _correction(case) is not None),
        evidence=(DEGREES,),
        mutants={
            "pre-LN of degree 1": _wrong_degree("pre-LN", lambda L: 1),
            "vanilla of degree L": _wrong_degree("vanilla", lambda L: L),
            "post-LN of degree 3": _wrong_degree("post-LN", lambda L: 3),
        },
        limits="One and two blocks of width 4, at c = 512 and 1024.",
    ),
    Claim(
        name="homogeneity/table",
        statement=_statement(sp.Symbol("k_linear"), SIZE[1] + 1),
        source=Source(PAPER, "table 1 (entry B-06)"),
        evidence=(Identity(_table),),
        mutants={
            "a gain does not count": Identity(lambda: _table(affine=0)),
            "one weight of attention missing": Identity(lambda: _table(product=-1)),
        },
        limits="Degrees 0 to 4; homogeneity/transformer-degrees has torch.",
    ),
    Claim(
        name="homogeneity/norm-eps",
        statement=_statement(
            sp.Symbol("LN_eps(c x)"),
            sp.Symbol("LN_0(x)")
            * (1 - sp.Symbol("epsilon") / (2 * SIZE[0] ** 2 * sp.Symbol("m"))),
        ),
        source=Source(PAPER, "table 1 with PyTorch's eps (entry B-06)"),
        evidence=(Identity(_eps),),
        mutants={
            "eps / m": Identity(lambda: _eps(-2)),
            "a growing norm": Identity(lambda: _eps(1)),
        },
        limits="The first correction, for a row of any mean square m > 0.",
    ),
)
