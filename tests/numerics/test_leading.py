"""Saturated networks as series, against torch at large c, Fractions, and series by hand."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import sympy as sp
import torch
from flint import arb, ctx, fmpq
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from asymptest.numerics.fields import BALLS
from asymptest.numerics.leading import Leading, enclosure_at, leading
from asymptest.theory import (
    AccuracyError,
    ArgumentError,
    Attention,
    Custom,
    Dense,
    LayerNorm,
    Linear,
    Mlp,
    Network,
    Pointwise,
    Residual,
    RMSNorm,
    Saturated,
    ShapeError,
    Softmax,
    Uniform,
    UnsupportedError,
    degree,
    exp,
    relu,
)
from asymptest.theory.piecewise import x
from asymptest.theory.steps import equate
from asymptest.verify.finite import finite
from asymptest.verify.weights_of import load_weights, weights_of
from tests.verify.exact import evaluate

EYE = [[1, 0], [0, 1]]


def head(WQ: Any = EYE, WK: Any = EYE, WV: Any = EYE, WO: Any = EYE) -> dict[str, Any]:
    """Return the weights of one head of width 2."""
    columns = {"WQ": WQ, "WK": WK, "WV": WV}
    return {name: np.array(W)[:, None, :] for name, W in columns.items()} | {
        "WO": np.array(WO)[None]
    }


def numbers(found: Leading, power: int) -> Any:
    return np.vectorize(float, otypes=[float])(found.series.parts[power])


def test_lower_powers_break_the_ties_of_higher_ones() -> None:
    """Scores c^2 (x + b / c) . (x + b / c): equal x, and then b decides.

    The state is c^2 X W + c v: rows equal in the power 2 whose other parts differ.
    """
    network = Residual(Dense()) >> Attention(Softmax())
    # The rows (1, 0), (1, 0), (1, 1) under W = diag(1, 0) are c^2 (1, 0) + c x.
    weights = [{"W": [[1, 0], [0, 0]]}, head()]
    found = leading(network, weights, [[1, 0], [1, 0], [1, 1]])
    assert found.numbers == "rational"
    # Keys tie at c^4, the third one wins with (0, 1) . (0, 1) c^2 for the third query only;
    # for the others all three logits are equal: a mean.
    third = Fraction(1, 3)
    last = {k: part[2].tolist() for k, part in found.series.parts.items()}
    first = {k: part[0].tolist() for k, part in found.series.parts.items()}
    assert last == {4: [1, 0], 3: [1, 1]}
    assert first[4] == [1, 0]
    assert [Fraction(int(v.p), int(v.q)) for v in first[3]] == [1, third]


def test_a_constant_difference_of_logits_stays_soft() -> None:
    """Logits that differ by a number, whatever c is, are weighed by softmax."""
    scores = Attention(Softmax())
    weights = [head(WQ=[[1, 0], [0, 0]], WK=[[1, 0], [0, 0]])]
    inner = enclosure_at(scores, weights, [[1, 2], [sp.Rational(1, 2), 5]], 1)
    row = np.exp(np.array([1.0, 0.5]) / np.sqrt(2))
    row /= row.sum()
    found = numbers(inner, 0)[0]
    assert found == pytest.approx(row @ np.array([[1, 2], [0.5, 5]]), rel=1e-14)


def test_equal_tokens_that_saw_the_same_are_equal_to_all_orders() -> None:
    """Balls never prove it; causal positions of one token see the same mean."""
    block = Residual(LayerNorm(affine=True) >> Attention(Softmax(), mask="causal"))
    rng = np.random.default_rng(0)
    weights = [
        layer
        for _ in range(3)
        for layer in (
            {"gain": rng.normal(size=2), "bias": rng.normal(size=2)},
            head(*rng.normal(size=(4, 2, 2))),
        )
    ]
    found = leading(block * 3, weights, [[1, 2], [1, 2], [1, 2]])
    assert found.numbers == "balls"
    rows = found.floats()
    assert (rows[0] == rows[1]).all()
    assert (rows[0] == rows[2]).all()


def test_a_tie_that_cannot_be_proved_is_named() -> None:
    """Keys (3, 4) and (4, 3) with the same logit 5 sqrt 2 / ...: no precision shows it."""
    root = sp.sqrt(2)
    weights = [head(WQ=[[root, 0], [root, 0]], WK=[[root, 0], [root, 0]])]
    with pytest.raises(AccuracyError, match=r"keys 0 and 1 .* query 0 stays open"):
        leading(Attention(Softmax()), weights, [[3, 4], [4, 3]])
    # Rational weights show it, and equal tokens are equal whatever the weights are.
    exact = leading(Attention(Softmax()), [head([[1, 0], [1, 0]])], [[3, 4], [4, 3]])
    assert exact.numbers == "rational"
    assert leading(Attention(Softmax()), weights, [[3, 4], [3, 4]]).numbers == "balls"


MINE = Custom("mine", lambda *_: equate(x, x), lambda *_: None)
BLOCKS: list[Network] = [
    Attention(Softmax(), heads=2) >> Mlp(relu, 2),
    Attention(Softmax(), mask="causal", heads=2) >> Mlp(relu, 1),
    Residual(Attention(Uniform(), heads=2)) >> Residual(Mlp(relu, 1)),
    Attention(Saturated(), mask="causal", heads=2) >> Dense(),
]


@st.composite
def instances(draw, blocks: list[Network] = BLOCKS) -> tuple[Network, Any, Any]:
    """Draw a block, weights of small whole numbers and tokens, some of them equal."""
    network = draw(st.sampled_from(blocks))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights = [
        {
            name: rng.integers(-2, 3, size=W.shape).astype(float)
            for name, W in layer.items()
        }
        for layer in weights_of(finite(network, 4))
    ]
    tokens = draw(st.lists(st.integers(0, 2), min_size=1, max_size=5))
    vocabulary = rng.integers(-2, 3, size=(3, 4))
    return network, weights, vocabulary[tokens]


def _saturated(network: Network) -> Network:
    match network:
        case Attention(pattern) if isinstance(pattern, Softmax):
            return Attention(Saturated(), network.mask, network.heads)
        case _:
            layers = getattr(network, "layers", None)
            if isinstance(layers, tuple):
                result = _saturated(layers[0])
                for layer in layers[1:]:
                    result = result >> _saturated(layer)
                return result
            return network


@settings(max_examples=60)
@given(instances([BLOCKS[0], BLOCKS[1], BLOCKS[3]]))
def test_homogeneous_networks_are_their_saturation(instance: Any) -> None:
    """Without sums of unequal degrees the limit is the saturated network, in Fractions."""
    network, weights, X = instance
    found = leading(network, weights, X)
    theirs = evaluate(_saturated(network), weights, X)
    assert found.numbers == "rational"
    (total,) = found.series.parts.values()  # one power
    same = [
        Fraction(int(a.p), int(a.q)) == b
        for a, b in zip(total.flat, theirs.flat, strict=True)
    ]
    assert all(same)


@settings(max_examples=30)
@given(instances(), st.sampled_from([2.0, 8.0]))
def test_the_enclosure_at_a_scale_holds_torch(instance: Any, c: float) -> None:
    """Softmax itself, and its argmax with what softmax adds, hold the same number."""
    network, weights, X = instance
    scaled = [{name: c * W for name, W in layer.items()} for layer in weights]
    with torch.no_grad():
        module = load_weights(finite(network, 4), scaled)
        theirs = module(torch.from_numpy(X.astype(float)))[0].numpy()
    soft = enclosure_at(network, weights, X, c)
    size = np.abs(theirs).max() + 1
    assert np.abs(numbers(soft, 0) - theirs).max() <= 1e-12 * size
    try:
        around = enclosure_at(network, weights, X, c, saturated=True)
    except AccuracyError:  # keys that are equal but for the softmaxes before
        assume(False)
    for ball, value in zip(around.series.parts[0].flat, theirs.flat, strict=True):
        assert abs(float(ball.mid()) - value) <= float(ball.rad()) + 1e-12 * size


@settings(max_examples=40)
@given(instances())
def test_float64_agrees_with_the_exact_evaluation(instance: Any) -> None:
    network, weights, X = instance
    exact, rounded = (
        leading(network, weights, X),
        leading(network, weights, X, numbers="float64"),
    )
    assert exact.series.parts.keys() == rounded.series.parts.keys()
    for power in exact.series.parts:
        ours = np.vectorize(lambda v: int(v.p) / int(v.q), otypes=[float])(
            exact.series.parts[power]
        )
        gap = np.abs(ours - rounded.series.parts[power]).max()
        assert gap <= 1e-12 * (np.abs(ours).max() + 1)


@settings(max_examples=20)
@given(instances(), st.integers(1, 3))
def test_a_batch_is_its_sequences_one_by_one(instance: Any, negated: int) -> None:
    network, weights, X = instance
    batch = [X, *(np.negative(X) for _ in range(negated))]
    for kind in ("exact", "float64"):
        whole = leading(network, weights, batch, numbers=kind)
        for at, sequence in enumerate(batch):
            alone = leading(network, weights, sequence, numbers=kind)
            for power, part in alone.series.parts.items():
                known = whole.series.unknown is None or power > whole.series.unknown
                assert not known or (whole.series.parts[power][at] == part).all()


def test_a_sequence_of_lower_degree_vanishes_beside_the_others() -> None:
    """X + (X W)_+ V is of degree 3 where X W is positive, and 1 where it is negative."""
    network = Residual(Dense() >> Pointwise(relu) >> Dense())
    one = {"W": [[1]]}
    found = leading(network, [one, one], [[[1]], [[-1]]])
    assert found.power == 3
    assert found.value.tolist() == [[[1]], [[0]]]


def post_norm(
    seed: int, T: int
) -> tuple[Network, list[dict[str, np.ndarray]], np.ndarray]:
    """Return four random post-norm blocks, which bring keys close together, and an input."""
    heads = Attention(Softmax(), mask="causal", heads=2)
    norm = LayerNorm(affine=True)
    network = (Residual(heads) >> norm >> Residual(Mlp(relu, 2)) >> norm) * 4
    rng = np.random.default_rng(seed)
    return network, weights_of(finite(network, 4, rng=rng)), rng.normal(size=(T, 4))


@settings(max_examples=4)
@given(st.integers(0, 2**32))
def test_the_series_is_the_network_at_large_c(seed: int) -> None:
    """At one c every softmax is computed, and no tie has to be decided."""
    network, weights, X = post_norm(seed, 12)
    try:
        found = leading(network, weights, X)
    except AccuracyError:
        reject()  # a tie of another kind
    c = 2**40
    exact = enclosure_at(network, weights, BALLS.array(X) * fmpq(c), c)
    with ctx.workprec(4096):
        parts = found.series.parts.items()
        total = np.sum([part * arb(c) ** k for k, part in parts], axis=0)
        gaps = ((exact.value - total) / arb(c) ** found.power).reshape(-1)
    assert found.series.unknown is not None
    omitted = float(c) ** (found.series.unknown - found.power)
    # Not proved to be farther apart than what is left out, with coefficients below c.
    assert max(float(abs(gap).lower()) for gap in gaps) <= c * omitted
    assert max(float(gap.rad()) for gap in gaps) < 1e-20


@pytest.mark.parametrize("seed", [3, 5, 9])
def test_mixtures_of_equal_values_are_equal(seed: int) -> None:
    """Queries mix keys, unequally, that have equal values in the leading power."""
    network, weights, X = post_norm(seed, 16)
    assert leading(network, weights, X).precision <= 1024


@pytest.mark.parametrize("tied", [False, True])
def test_linear_attention_is_homogeneous(tied: bool) -> None:
    """It is a polynomial of one degree, so its limit is the network itself."""
    pattern = Linear("1/d" if tied else "1/sqrt(d)", tied)
    network = Attention(pattern, "causal", heads=2)
    module = finite(network, 4, rng=np.random.default_rng(5))
    X = np.random.default_rng(6).normal(size=(5, 4))
    found = leading(network, weights_of(module), X)
    assert found.power == degree(network).power == 7
    with torch.no_grad():
        output = module(torch.from_numpy(X))[0].numpy()
    np.testing.assert_allclose(found.floats(), output, rtol=1e-12)


def test_mixtures_of_other_values_are_not() -> None:
    """Of the degree -1, the input has logits that do not grow, so that all keys are mixed."""
    X = np.array([[1, 0], [0, 1], [2, 1], [1, 3]])
    network = Attention(Softmax()) >> Attention(Softmax())
    found = leading(network, [head(), head()], X, input=-1)
    A = np.exp(X @ X.T / np.sqrt(2))
    mixed = A / A.sum(axis=1, keepdims=True) @ X
    chosen = np.argmax(mixed @ mixed.T, axis=1)
    np.testing.assert_allclose(found.floats(), mixed[chosen], rtol=1e-12)


def test_balls_are_as_narrow_as_the_precision_allows() -> None:
    with ctx.workprec(1024):
        assert BALLS.number(1 / sp.sqrt(8)).rad() < 1e-300
        assert BALLS.apply(exp, np.array([arb(1)]))[0].rad() < 1e-300


def test_series_of_a_norm_and_an_activation_by_hand() -> None:
    """(c^2 a + c b) / |...| = sign(a) (1, ...) and gelu of it, to the orders known."""
    network = Residual(Dense()) >> RMSNorm()
    found = leading(network, [{"W": [[1, 0], [0, 0]]}], [[1, 2]])
    # Row (c^2 + c, 2 c): x = c (c + 1, 2) / (c sqrt(((c + 1)^2 + 4) / 2)).
    c = sp.Symbol("c", positive=True)
    entries = [(c + 1), sp.Integer(2)]
    for at, entry in enumerate(entries):
        exact = sp.sqrt(2) * entry / sp.sqrt((c + 1) ** 2 + 4)
        series = sp.series(exact.subs(c, 1 / c), c, 0, 3).removeO()
        for power in (0, -1, -2):
            expected = float(series.coeff(c, -power))
            part = numbers(found, power)[0, at] if power in found.series.parts else 0.0
            assert part == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: leading(Dense(), [], [[1, 2]]), ShapeError, "ends before the network"),
        (
            lambda: leading(Dense(), [{"W": EYE}] * 2, [[1, 2]]),
            ShapeError,
            "more layers",
        ),
        (lambda: leading(Dense(), [{"W": EYE}], [[1, 2, 3]]), ShapeError, "3 features"),
        (lambda: leading(Dense(), [{"W": EYE}], [1, 2]), ShapeError, "X0 must have"),
        (
            lambda: leading(Dense(), [{"W": [[np.nan, 0], [0, 1]]}], [[1, 2]]),
            ArgumentError,
            "finite; got nan",
        ),
        (
            lambda: leading(RMSNorm(), [], [[0, 0]]),
            ArgumentError,
            "row 0 is zero",
        ),
        (
            lambda: leading(Dense() >> Pointwise(exp), [{"W": EYE}], [[1, 2]]),
            UnsupportedError,
            "grows faster",
        ),
        (
            lambda: leading(MINE, [], [[1]]),
            UnsupportedError,
            "mine",
        ),
    ],
)
def test_bad_arguments_are_named(call: Any, error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        call()
