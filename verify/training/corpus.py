"""The default text as a sequence of characters, and the batches of a run.

Characters, because the text is small: it has seven times as many characters as words, so
that thousands of steps are few passes over it, and no rare token needs a substitute.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor as Array

from asymptest.theory.errors import ArgumentError
from asymptest.verify.text import default_text, renumbered

HELD_OUT = 0.1  # the last tenth of the text is never trained on


@dataclass(frozen=True)
class Corpus:
    """A text as ids, from 0 to vocabulary - 1, in two parts."""

    train: Int64[np.ndarray, " train"]
    held_out: Int64[np.ndarray, " held_out"]
    vocabulary: int


def corpus(text: str | None = None) -> Corpus:
    """Return a text, by default the topics of `help()`, as characters.

    >>> corpus("abracadabra").held_out, corpus("abracadabra").vocabulary
    (array([2, 0]), 5)
    """
    ids = renumbered(default_text() if text is None else text)
    end = int((1 - HELD_OUT) * len(ids))
    return Corpus(ids[:end], ids[end:], int(ids.max()) + 1)


def batch(
    ids: Int64[np.ndarray, " length"], size: int, context: int, seed: int, step: int
) -> Int64[Array, "size next"]:
    """Return `size` stretches of context + 1 ids, drawn for this step of this seed.

    The step alone decides, so that a resumed run reads what an uninterrupted one would.

    Raises:
        ArgumentError: if the text is no longer than the context.
    """
    if len(ids) <= context:
        raise ArgumentError(
            f"the text has {len(ids)} tokens; context = {context} needs more than that"
        )
    rng = np.random.default_rng([seed, step])
    starts = rng.integers(0, len(ids) - context, size)
    return torch.from_numpy(ids[starts[:, None] + np.arange(context + 1)])
