"""Recognizers against an exact evaluator, and the words that they are judged on."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from asymptest.theory import (
    ArgumentError,
    Attention,
    Dense,
    LayerNorm,
    Mlp,
    Residual,
    RMSNorm,
    Saturated,
    ShapeError,
    Softmax,
    Uniform,
    UnsupportedError,
    relu,
)
from asymptest.verify.catalogue.expressivity import bits
from asymptest.verify.catalogue.sensitivity import Change, moved_at_most
from asymptest.verify.finite import finite
from asymptest.verify.languages import (
    attention,
    dense,
    double_a,
    dyck,
    first,
    has_double_a,
    is_dyck,
    is_majority,
    is_odd,
    majority,
    parity,
    starts_with_one,
)
from asymptest.verify.recognition import LONG, near_dyck, near_majority
from asymptest.verify.recognizers import (
    MARKER,
    ROUNDING,
    UniqueHard,
    all_words,
    built,
    embedding,
    mistakes,
    outputs,
)
from asymptest.verify.strategies import DOUBLING
from asymptest.verify.weights_of import load_weights
from tests.verify.exact import evaluate

# beartype checks a random item of each tuple that a strategy builds.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

SATURATED = {
    "majority": (majority(), is_majority),
    "dyck": (dyck(), is_dyck),
    "parity": (parity(Saturated()), is_odd),
    "first": (first(Saturated()), starts_with_one),
}


def exact_output(recognizer, word: str) -> Fraction:
    """Return read . f(X0)[T - 1] by exact arithmetic."""
    network = recognizer.network(len(word) + 1)
    state = evaluate(network, recognizer.weights, embedding(recognizer, word))
    terms = (Fraction(r) * x for r, x in zip(recognizer.read, state[-1], strict=True))
    return sum(terms, start=Fraction(0))


@pytest.mark.parametrize("name", SATURATED)
@pytest.mark.parametrize("length", range(5))
def test_exact_arithmetic_decides_every_short_word(name: str, length: int) -> None:
    """The constructions are right without any rounding: no torch is involved."""
    recognizer, language = SATURATED[name]
    for word in all_words(recognizer.alphabet, length):
        assert (exact_output(recognizer, word) > 0) == language(word), word


@pytest.mark.parametrize("name", SATURATED)
@settings(max_examples=10)
@given(data=st.data())
def test_torch_computes_the_exact_output(name: str, data: st.DataObject) -> None:
    """A weight in the wrong place, or a rounding above the stated one, would show."""
    recognizer, _ = SATURATED[name]
    word = data.draw(st.text(recognizer.alphabet, max_size=16))
    exact = float(exact_output(recognizer, word))
    assert abs(outputs(recognizer, [word])[0] - exact) <= ROUNDING


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), tied=st.booleans())
def test_load_puts_random_weights_where_they_belong(seed: int, tied: bool) -> None:
    """Two blocks with two heads, unequal weights and biases, against exact arithmetic."""
    rng = np.random.default_rng(seed)
    n, size = 4, 5

    def table(*shape: int) -> np.ndarray:
        return np.vectorize(lambda k: Fraction(int(k), 2), otypes=[object])(
            rng.integers(-3, 4, shape)
        )

    biased = Dense(bias_variance=1)
    network = (
        Residual(Attention(Uniform() if tied else Saturated(), "causal", heads=2))
        >> Residual(Mlp(relu, 2, hidden=biased, output=biased), skip=2, weight=-1)
    ) * 2
    scores = {} if tied else {"WQ": table(n, 2, 2), "WK": table(n, 2, 2)}
    weights = [
        layer
        for _ in range(2)
        for layer in (
            scores | {"WV": table(n, 2, 2), "WO": table(2, 2, n)},
            {"W": table(n, 2 * n), "v": table(2 * n)},
            {"W": table(2 * n, n), "v": table(n)},
        )
    ]
    X0 = table(size, n)
    module = finite(network, n, copies=3)
    load_weights(module, weights)
    exact = evaluate(network, weights, X0).astype(float)
    with torch.no_grad():
        found = module(torch.tensor(X0.astype(float))).numpy()
    # A few hundred products of numbers below the largest: all else is a wrong weight.
    assert (abs(found - exact) <= 1e-9 * (1 + abs(exact).max())).all()


def test_load_sets_gains_and_biases_of_norms() -> None:
    """In the order in which the network applies them, in every copy."""
    rng = np.random.default_rng(5)
    n = 6
    W, gain, bias, scale = (
        rng.standard_normal(shape) for shape in ((n, n), (n,), (n,), (n,))
    )
    module = finite(LayerNorm(1, affine=True) >> Dense() >> RMSNorm(1, True), n, 2)
    load_weights(module, [{"gain": gain, "bias": bias}, {"W": W}, {"gain": scale}])
    X = torch.from_numpy(rng.standard_normal((3, n)))
    inner = functional.layer_norm(X, (n,), *map(torch.tensor, (gain, bias)), eps=1.0)
    expected = functional.rms_norm(
        inner @ torch.tensor(W), (n,), torch.tensor(scale), 1.0
    )
    torch.testing.assert_close(module(X), expected.expand(2, 3, n))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([], "1 layers with weights; got 0"),
        ([{"V": np.eye(2)}], r"must name \['W'\]; got \['V'\]"),
        ([{"W": np.eye(3)}], r"shape \(2, 2\); got \(3, 3\)"),
        ([{"W": np.ones(4)}], r"shape \(2, 2\); got \(4,\)"),
        ([{"W": np.ones(2)}], r"shape \(2, 2\); got \(2,\)"),
    ],
)
def test_load_names_what_does_not_fit(weights: list, message: str) -> None:
    """Nothing is broadcast into place."""
    with pytest.raises(ShapeError, match=message):
        load_weights(finite(Dense(), 2), weights)


def test_load_refuses_weights_that_it_does_not_know() -> None:
    """A layer of the user's own, with a parameter."""

    def own(width: int, copies: int, generator: np.random.Generator) -> torch.nn.Module:
        return torch.nn.Linear(width, width)

    with pytest.raises(UnsupportedError, match="Dense, Attention and norms are known"):
        load_weights(finite(replace(DOUBLING, finite=own), 2), [])


def test_a_word_becomes_the_state_that_is_documented() -> None:
    """Letters, positions and the marker, at either end."""
    assert (embedding(majority(), "10") == [[1], [-1], [0]]).all()
    state = embedding(parity(), "1")
    half = Fraction(1, 2)
    assert state[0].tolist() == [0, 1, 0, 0, 1, 0, 0, 0, 0, 0]
    assert state[1].tolist() == [0, 0, 1, half, -1, 0, 0, 0, 0, 0]
    assert embedding(double_a(), "a")[:, 0].tolist() == [0, 1]


def test_words_that_do_not_fit_are_named() -> None:
    """A foreign letter, and words of several lengths."""
    with pytest.raises(ArgumentError, match="letters '01'; got 'x'"):
        outputs(majority(), ["0x"])
    with pytest.raises(ShapeError, match="one length"):
        outputs(majority(), ["0", "10"])


class Given(torch.nn.Module):
    """An attention pattern that is given."""

    def __init__(self, A: torch.Tensor):
        super().__init__()
        self.A = A

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return it."""
        return self.A


def test_unique_hard_attention_takes_one_of_the_ties() -> None:
    """The first or the last entry above 0 of each row."""
    pattern = Given(torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [1 / 3] * 3]))
    X = torch.zeros(1, 3, 1)
    left, right = (UniqueHard(pattern, ties)(X) for ties in ("leftmost", "rightmost"))
    assert left.argmax(-1).tolist() == [1, 0, 0]
    assert right.argmax(-1).tolist() == [2, 0, 2]
    assert torch.equal(left.sum(-1), torch.ones(3))
    assert torch.equal(right.sum(-1), torch.ones(3))


def test_hard_attention_reaches_every_layer() -> None:
    """Both layers of DYCK-1 have one entry 1 in each row."""
    module = built(replace(dyck(), ties="leftmost"), 3)
    found = [part for part in module.modules() if isinstance(part, UniqueHard)]
    assert len(found) == 2


def test_mistakes_are_the_words_that_differ() -> None:
    """A recognizer of PARITY that is asked for MAJORITY."""
    assert mistakes(parity(), is_majority, 2) == ["01", "10", "11"]


@pytest.mark.parametrize("half", range(7))
def test_dyck_words_are_counted_by_catalan(half: int) -> None:
    """And they are the words that vanish when "()" is removed again and again."""
    found = [w for w in all_words("()", 2 * half) if is_dyck(w)]
    assert len(found) == math.comb(2 * half, half) // (half + 1)
    for word in found:
        while "()" in word:
            word = word.replace("()", "")
        assert word == ""


@given(word=st.text("01", max_size=20))
def test_languages_of_bits(word: str) -> None:
    """Against sums."""
    ones = sum(map(int, word))
    assert is_odd(word) == bool(ones & 1)
    assert is_majority(word) == (ones > len(word) - ones)
    assert starts_with_one(word) == (word[:1] == "1")
    as_letters = word.replace("1", "a").replace("0", "b")
    pairs = pairwise(word)
    assert has_double_a(as_letters) == (("1", "1") in pairs)


@pytest.mark.parametrize("accepted", [True, False])
def test_drawn_words_are_long_and_on_both_sides(accepted: bool) -> None:
    """Uniform words would hardly ever match their parentheses, or tie their votes."""
    fast = settings(database=None, derandomize=True, phases=[Phase.generate])
    for strategy, language in ((near_dyck(), is_dyck), (near_majority(), is_majority)):
        assert find(
            strategy,
            lambda w, language=language: len(w) > LONG // 2 and language(w) == accepted,
            settings=fast,
        )


@pytest.mark.parametrize("word", ["", "()", ")(", "(())()", "())(()"])
def test_dyck_with_sharp_softmax_is_dyck(word: str) -> None:
    """At c = 10^6 the softmax network has the saturated one's output."""
    soft, hard = dyck(Softmax(), c=10**6), dyck()
    assert abs(outputs(soft, [word]) - outputs(hard, [word])) <= ROUNDING


@given(word=st.text("01", min_size=1, max_size=12), layers=st.integers(1, 2))
def test_bits_are_those_of_exact_mean_heads(word: str, layers: int) -> None:
    """The claim's means against the network of causal mean heads."""
    identity = attention(1, 1, WV={(0, 0, 0): 1}, WO={(0, 0, 0): 1})
    weights = [{name: identity[name] for name in ("WV", "WO")}] * layers
    network = Attention(Uniform(), mask="causal") * layers
    X0 = np.array([[1 if letter == "1" else -1] for letter in word])
    last = evaluate(network, weights, X0)[-1, 0]
    assert bits(word, layers) == (
        abs(last.numerator).bit_length() + last.denominator.bit_length()
    )


def test_dense_helper_writes_entries_where_they_are_named() -> None:
    """Row, column; the bias by column; floats become exact fractions."""
    layer = dense(2, 3, {(0, 2): 5}, {(1,): 0.1})
    assert layer["W"].tolist() == [[0, 0, 5], [0, 0, 0]]
    assert layer["v"].tolist() == [0, Fraction(0.1), 0]


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_on_one_letter_falls_like_one_over_t(seed: int) -> None:
    """Doubling a long word halves it."""
    near, far = (moved_at_most(Change(seed, n, 0, False)) for n in (2**14, 2**15))
    assert 1.9 < near / far < 2.01


def test_the_marker_is_no_letter() -> None:
    """Or words could contain it."""
    recognizers = [recognizer for recognizer, _ in SATURATED.values()]
    assert all(MARKER not in r.alphabet for r in [*recognizers, double_a()])
