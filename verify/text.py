"""Real token sequences: text to ids, to the kernel of the embedded tokens, to torch.

Tokens get orthonormal embeddings e_t times sqrt(n), so that the input state has rows
X_i = sqrt(n) e_(token i) and its kernel is, at every width,

    K0_ij = 1 if positions i and j hold the same token, else 0.

Both sides of a comparison meet here: `token_kernel` feeds numerics/, `TokenNetwork` is
the torch module that starts from an `nn.Embedding` with such rows.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor as Array
from torch import nn

from asymptest.numerics.kernel import kernel
from asymptest.theory.errors import ArgumentError, ShapeError
from asymptest.theory.masks import Blocks
from asymptest.theory.network import Network
from asymptest.verify.claim import Limit, Rng
from asymptest.verify.families import natural_scale, upper
from asymptest.verify.finite import finite, kernel_of
from asymptest.verify.inputs import stream
from asymptest.verify.weights import haar

Ids = Int[np.ndarray, " T"]
WORD = re.compile(r"\w+(?:'\w+)*")


def words(text: str) -> list[str]:
    """Return the words of a text, in order and in lower case.

    A word is a run of letters, digits and underscores, with apostrophes inside it;
    everything else separates words and is dropped.

    >>> words("It's x_1, and IT'S 2.5!")
    ["it's", 'x_1', 'and', "it's", '2', '5']
    """
    return WORD.findall(text.casefold())


def word_ids(text: str, limit: int | None = None) -> Ids:
    """Return the ids of the first words of a text, numbered as they first appear.

    Args:
        text: any text.
        limit: how many words to take; None takes all. A shorter text gives fewer.

    Raises:
        ArgumentError: if `limit` is less than 1, or the text has no word.

    >>> word_ids("the cat and the dog", 4)
    array([0, 1, 2, 0])
    """
    if limit is not None and limit < 1:
        raise ArgumentError(f"limit must be at least 1 token; got {limit}")
    found = words(text)[:limit]
    if not found:
        raise ArgumentError(
            f"the text of {len(text)} characters has no word; a word is a run of "
            f"letters or digits"
        )
    return renumbered(found)


def renumbered(tokens: Sequence[Any] | Ids) -> Ids:
    """Return ids from 0 in the order of first appearance, equal for equal tokens.

    >>> renumbered([7, 3, 7])
    array([0, 1, 0])
    """
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(token, len(numbers)) for token in tokens])


def default_text() -> str:
    """Return the topics of Python's own `help()`, alphabetically.

    They come with every Python and differ between its versions.
    """
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def token_kernel(ids: Ids) -> Float[np.ndarray, "T T"]:
    """Return the kernel of orthonormally embedded tokens: 1 for equal tokens, else 0.

    >>> token_kernel(np.array([0, 1, 0]))
    array([[1., 0., 1.],
           [0., 1., 0.],
           [1., 0., 1.]])
    """
    return (ids[:, None] == ids[None, :]).astype(np.float64)


def side_by_side(
    *sequences: Int[np.ndarray, " _"], causal: bool = True
) -> tuple[Ids, Blocks]:
    """Return several sequences as one, and the mask that keeps them apart.

    Ids keep their meaning across sequences, so kernels between sequences come for free.

    Raises:
        ArgumentError: if there is no sequence, or an empty one.

    >>> side_by_side(np.array([0, 1]), np.array([1]))
    (array([0, 1, 1]), Blocks((2, 1), True))
    """
    mask = Blocks(tuple(len(ids) for ids in sequences), causal)
    return np.concatenate(sequences), mask


class TokenNetwork(nn.Module):
    """An nn.Embedding and a finite network: token ids in, final states out.

    Each of the `copies` replicates has an embedding of its own; the table holds them one
    after the other.

    Args:
        network: the description; a Blocks mask makes several sequences of one.
        vocabulary: number of different tokens; ids run from 0 to vocabulary - 1.
        width: n, at least `vocabulary`.
        copies: number of independent replicates.
        rng: NumPy generator or seed of all weights.

    Raises:
        ShapeError: if `vocabulary` orthogonal rows do not fit into `width` features.
        ArgumentError: as `finite`, or if the vocabulary is empty.
    """

    starts: Array

    def __init__(
        self,
        network: Network,
        vocabulary: int,
        width: int,
        copies: int = 1,
        rng: np.random.Generator | int = 0,
    ):
        super().__init__()
        if vocabulary < 1:
            raise ArgumentError(f"vocabulary must be at least 1; got {vocabulary}")
        if vocabulary > width:
            raise ShapeError(
                f"width = {width} has no room for the orthogonal embeddings of "
                f"{vocabulary} different tokens; use a width of at least {vocabulary}, "
                f"or fewer tokens"
            )
        generator = stream(rng, "tokens")
        self.vocabulary = vocabulary
        self.network = finite(network, width, copies, generator)
        # haar has Q Q^T = (width / vocabulary) I, and rows of squared length n are asked.
        rows = haar(copies, vocabulary, width, generator)
        table = vocabulary**0.5 * rows.reshape(copies * vocabulary, width)
        self.embedding = nn.Embedding.from_pretrained(table)
        self.register_buffer("starts", vocabulary * torch.arange(copies)[:, None])

    def forward(
        self, ids: Int64[Array, "*copies T"]
    ) -> Float64[Array, "copies T width"]:
        """Map token ids, common to all copies or one row a copy, to final states.

        Raises:
            ArgumentError: if an id is outside the vocabulary.
        """
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocabulary:
            raise ArgumentError(
                f"token ids must lie in [0, {self.vocabulary}); got "
                f"[{int(ids.min())}, {int(ids.max())}]: see renumbered()"
            )
        return self.network(self.embedding(ids + self.starts))


def token_kernels(
    network: Network, ids: Ids, width: int, copies: int, rng: Rng | int = 0
) -> Float[np.ndarray, "copies T T"]:
    """Return independent kernels of finite networks that read the tokens."""
    module = TokenNetwork(network, int(ids.max()) + 1, width, copies, rng)
    return kernel_of(module, torch.from_numpy(ids))


def token_limit(
    network: Network,
    ids_of: Callable[[Any], Ids],
    widths: tuple[int, ...],
    spread: float,
    bias: float = 0.0,
    coarseness: float = 1.0,
) -> Limit:
    """Return the evidence that the kernel of a network on tokens has the derived limit.

    Args:
        network: the description.
        ids_of: instance -> token ids from 0, without gaps.
        widths: as for `Limit`, as are the others; each at least the number of tokens.
        spread: see `Limit`.
        bias: see `Limit`.
        coarseness: see `Limit`.
    """

    def limit(instance: Any) -> Float[np.ndarray, "T T"]:
        return kernel(network, token_kernel(ids_of(instance)))

    return Limit(
        sample=lambda i, n, copies, rng: upper(
            token_kernels(network, ids_of(i), n, copies, rng)
        ),
        predict=lambda i: upper(limit(i)),
        scale=lambda i: upper(natural_scale(limit(i))),
        widths=widths,
        spread=spread,
        bias=bias,
        coarseness=coarseness,
    )


def stretches(
    text: Callable[[], str], length: int, kinds: int
) -> st.SearchStrategy[list[str]]:
    """Return a strategy of `length` consecutive words with `kinds` different ones.

    Args:
        text: returns the text; called when an instance is drawn, not before.
        length: number of words.
        kinds: number of different words; less than `length` means a repeat.

    Raises:
        ArgumentError: on drawing, if the text has no such stretch.
    """

    def starts() -> st.SearchStrategy[list[str]]:
        found = words(text())
        windows = (found[k : k + length] for k in range(len(found) - length + 1))
        fitting = [w for w in windows if len(set(w)) == kinds]
        if not fitting:
            raise ArgumentError(
                f"the text of {len(found)} words has no {length} consecutive ones of "
                f"which {kinds} differ; use a longer text"
            )
        return st.sampled_from(fitting)

    return st.deferred(starts)
