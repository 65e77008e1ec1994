"""Evidence that a recognizer accepts its language: all short words, and drawn long ones."""

from collections.abc import Callable
from functools import partial

import numpy as np
import sympy as sp
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from asymptest.verify.claim import Exact, Identity
from asymptest.verify.recognizers import (
    ROUNDING,
    Recognizer,
    accepts,
    mistakes,
    outputs,
)

LONGEST = 12  # of the words that are decided exhaustively
BRIEF = 6  # a mutant errs on shorter words already
LONG = 200  # of the words that Hypothesis draws

Language = Callable[[str], bool]
ByLength = Callable[[int], Recognizer]
Output = Callable[[str], float]


def everywhere(
    recognizer: Recognizer | ByLength, language: Language, longest: int = LONGEST
) -> Identity:
    """Return the evidence that no word of up to `longest` letters is decided wrongly.

    Args:
        recognizer: the same for all words, or one for each length.
        language: whether a word belongs to it.
        longest: the number of letters.
    """

    def differences() -> dict[str, sp.Expr]:
        found: dict[str, sp.Expr] = {}
        for length in range(longest + 1):
            wrongly = mistakes(_at(recognizer, length), language, length)
            found[f"length {length}: {wrongly[:3]}"] = sp.Integer(len(wrongly))
        return found

    return Identity(differences)


def wrong(recognizer: Recognizer, language: Language) -> Identity:
    """Return a mutant: a recognizer with something wrong in it, on short words."""
    return everywhere(recognizer, language, BRIEF)


def decided(recognizer: Recognizer | ByLength, language: Language) -> Exact:
    """Return the evidence that the drawn words are decided rightly."""
    return Exact(
        left=lambda w, _: accepts(_at(recognizer, len(w)), [w]).astype(float),
        right=lambda w: np.array([float(language(w))]),
        bound=lambda w: 0.5,
    )


def equals(recognizer: Recognizer, output: Output) -> Exact:
    """Return the evidence that a recognizer's output has a closed form, whatever its sign."""
    return Exact(
        left=lambda w, _: outputs(recognizer, [w]),
        right=lambda w: np.array([output(w)]),
        bound=lambda w: ROUNDING,
    )


def follows(recognizer: Recognizer, language: Language, output: Output) -> Exact:
    """Return the evidence for both: the closed form, and that it decides the drawn words."""
    return Exact(
        left=lambda w, _: np.array([outputs(recognizer, [w])[0], output(w) > 0]),
        right=lambda w: np.array([output(w), language(w)]),
        bound=lambda w: np.array([ROUNDING, 0.5]),
    )


def _at(recognizer: Recognizer | ByLength, length: int) -> Recognizer:
    return recognizer if isinstance(recognizer, Recognizer) else recognizer(length)


def words(alphabet: str, shortest: int = 0, longest: int = LONG) -> SearchStrategy[str]:
    """Draw words, every length alike."""
    exactly = partial(st.text, alphabet)
    return st.integers(shortest, longest).flatmap(
        lambda length: exactly(min_size=length, max_size=length)
    )


@st.composite
def near_majority(draw) -> str:
    """Draw words of which about half of the letters are ones."""
    length = draw(st.integers(0, LONG))
    ones = min(max(length // 2 + draw(st.integers(-1, 1)), 0), length)
    order = np.random.default_rng(draw(st.integers(0, 2**32))).permutation(length)
    return "".join("1" if k < ones else "0" for k in order)


@st.composite
def near_dyck(draw) -> str:
    """Draw a word whose parentheses match, with up to two of them turned round."""
    length = 2 * draw(st.integers(0, LONG // 2))
    opens = draw(st.lists(st.booleans(), min_size=length, max_size=length))
    letters: list[str] = []
    depth = 0
    for k, wanted in enumerate(opens):
        up = depth == 0 or (wanted and depth < length - k)
        depth += 1 if up else -1
        letters.append("(" if up else ")")
    for _ in range(draw(st.integers(0, 2)) if length else 0):
        k = draw(st.integers(0, length - 1))
        letters[k] = "(" if letters[k] == ")" else ")"
    return "".join(letters)
