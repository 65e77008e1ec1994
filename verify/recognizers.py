"""Recognizers: transformers with explicit weights that accept a formal language.

A word of n letters and one marker "$", before or after it, make T = n + 1 positions.
The input state and the decision are

    X0[i] = tokens[letter i] + position(i, T)
    accept  iff  read . f(X0)[T - 1] > 0

All numbers are rational, so that f can be evaluated exactly where no softmax, norm or
logarithm occurs; `outputs` runs the same weights in PyTorch, many words at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor as Array
from torch import nn

from asymptest.theory.errors import ArgumentError, ShapeError
from asymptest.theory.network import Network
from asymptest.verify.finite import AttentionModule, FiniteNetwork, finite
from asymptest.verify.weights_of import load_weights

Number = int | Fraction | float
Vector = tuple[Number, ...]
Weights = Mapping[str, Shaped[np.ndarray, "..."]]  # one layer's, by name
Ties = Literal["average", "leftmost", "rightmost"]

MARKER = "$"

# The constructions of languages.py sum at most T terms of size <= 2 in each of at most six
# layers, which rounds by less than 2^-36 for T <= 1001. An output that is <= 0 exactly may
# come out as such a number; the positive ones exceed 2^-21.
ROUNDING = 2.0**-36
GUARD = 2.0**-30


@dataclass(frozen=True)
class Recognizer:
    """A transformer that decides whether a word belongs to a language.

    Args:
        alphabet: its letters.
        tokens: the embedding of each letter and of the marker.
        network: T -> the description, since a mask may depend on T.
        weights: one mapping for each layer that has weights, in the order of application;
            see `load`.
        read: the linear functional that reads the last position.
        position: (i, T) -> the embedding of position i.
        marker: where it stands.
        ties: what attention does with several maximal logits: average over them, or
            choose one (unique hard attention).
    """

    alphabet: str
    tokens: Mapping[str, Vector]
    network: Callable[[int], Network]
    weights: tuple[Weights, ...]
    read: Vector
    position: Callable[[int, int], Vector] | None = None
    marker: Literal["start", "end"] = "end"
    ties: Ties = "average"

    @property
    def width(self) -> int:
        """The number of features of the state."""
        return len(self.read)


def edited(
    recognizer: Recognizer, layer: int, name: str, entries: Mapping[Any, Number]
) -> Recognizer:
    """Return the recognizer with some entries of one weight replaced."""
    weights = list(recognizer.weights)
    changed = weights[layer][name].copy()
    for index, value in entries.items():
        changed[index] = value
    weights[layer] = {**weights[layer], name: changed}
    return replace(recognizer, weights=tuple(weights))


def embedding(recognizer: Recognizer, word: str) -> Shaped[np.ndarray, "T n"]:
    """Return the exact input state of a word, an array of Python numbers."""
    letters, positions = _tables(recognizer, len(word) + 1)
    return letters[_indices(recognizer, [word])[0]] + positions


def _tables(recognizer: Recognizer, T: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the embeddings of the letters, the marker last, and of T positions."""
    letters = [recognizer.tokens[letter] for letter in (*recognizer.alphabet, MARKER)]
    positions = np.zeros((T, recognizer.width), dtype=object)
    if recognizer.position is not None:
        positions[:] = [recognizer.position(i, T) for i in range(T)]
    return np.array(letters, dtype=object), positions


def _indices(recognizer: Recognizer, words: Sequence[str]) -> np.ndarray:
    """Return the numbers of the letters of words of one length, the marker included.

    Raises:
        ArgumentError: for a letter outside the alphabet.
        ShapeError: if the words differ in length.
    """
    if len(lengths := {len(word) for word in words}) != 1:
        raise ShapeError(f"words must have one length; got the lengths {lengths}")
    before, after = (MARKER, "") if recognizer.marker == "start" else ("", MARKER)
    number = {c: k for k, c in enumerate((*recognizer.alphabet, MARKER))}
    try:
        return np.array([[number[c] for c in before + w + after] for w in words])
    except KeyError as error:
        raise ArgumentError(
            f"words must be made of the letters {recognizer.alphabet!r}; got {error}"
        ) from None


class UniqueHard(nn.Module):
    """The attention matrices of another pattern with one maximum chosen in each row."""

    def __init__(self, pattern: nn.Module, ties: Ties):
        super().__init__()
        self.pattern, self.ties = pattern, ties

    def forward(self, X: Array) -> Array:
        """Return a single 1 in each row."""
        maximal = self.pattern(X) > 0
        ordered = maximal if self.ties == "leftmost" else maximal.flip(-1)
        first = (ordered & (ordered.cumsum(-1) == 1)).to(X.dtype)
        return first if self.ties == "leftmost" else first.flip(-1)


def built(recognizer: Recognizer, T: int) -> FiniteNetwork:
    """Return the recognizer's network for T positions as a torch module."""
    module = finite(recognizer.network(T), recognizer.width)
    load_weights(module, recognizer.weights)
    if recognizer.ties != "average":
        for part in module.modules():
            if isinstance(part, AttentionModule):
                hard = UniqueHard(part.pattern, recognizer.ties)
                part.register_module("pattern", hard)
    return module


def outputs(
    recognizer: Recognizer, words: Sequence[str]
) -> Float[np.ndarray, " words"]:
    """Return read . f(X0)[T - 1] in float64, for words of one length.

    Raises:
        ArgumentError: for a letter outside the alphabet.
        ShapeError: if the words differ in length.
    """
    indices = _indices(recognizer, words)
    T = indices.shape[1]
    letters, positions = (t.astype(np.float64) for t in _tables(recognizer, T))
    states = torch.from_numpy(letters[indices] + positions)
    with torch.no_grad():
        # One copy of the weights acts on all words: its axis of copies broadcasts.
        final: Array = built(recognizer, T).body(states)
        read = torch.tensor([float(r) for r in recognizer.read], dtype=final.dtype)
        return (final[:, -1] @ read).numpy()


def accepts(recognizer: Recognizer, words: Sequence[str]) -> Bool[np.ndarray, " words"]:
    """Return which words, all of one length, are accepted."""
    return outputs(recognizer, words) > GUARD


def all_words(alphabet: str, length: int) -> list[str]:
    """Return every word of one length, in alphabetical order.

    >>> all_words("ab", 2)
    ['aa', 'ab', 'ba', 'bb']
    """
    return ["".join(letters) for letters in product(alphabet, repeat=length)]


def mistakes(
    recognizer: Recognizer, language: Callable[[str], bool], length: int
) -> list[str]:
    """Return all words of one length on which the recognizer is wrong."""
    words = all_words(recognizer.alphabet, length)
    decided = accepts(recognizer, words)
    return [w for w, yes in zip(words, decided, strict=True) if yes != language(w)]
