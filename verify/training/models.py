"""Language models whose blocks are built from the project's own network description."""

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor as Array
from torch import nn

from asymptest.theory.errors import ShapeError
from asymptest.theory.network import LayerNorm
from asymptest.verify.finite import FiniteNetwork, finite
from asymptest.verify.inputs import stream
from asymptest.verify.training.blocks import EPS, Architecture, blocks
from asymptest.verify.weights import normal


class LanguageModel(nn.Module):
    """Embedding of tokens and positions, `depth` blocks, unembedding.

    Args:
        architecture: what the blocks are; see blocks.py.
        vocabulary: number of different tokens.
        context: the most positions that it reads.
        width: n, a multiple of `heads`.
        depth: number of blocks.
        heads: of each attention.
        seed: of all weights.
    """

    def __init__(
        self,
        architecture: Architecture,
        vocabulary: int,
        context: int,
        width: int,
        depth: int,
        heads: int,
        seed: int,
    ):
        super().__init__()
        rng = stream(seed, "language model")
        self.architecture, self.heads = architecture, heads
        # Tokens and positions share the unit variance that the blocks' theory assumes.
        self.tokens = nn.Parameter(normal(vocabulary, width, generator=rng) / 2**0.5)
        self.positions = nn.Parameter(normal(context, width, generator=rng) / 2**0.5)
        layers = blocks(architecture, heads, depth)
        self.blocks = nn.ModuleList(
            finite(layer, width, rng=rng).body for layer in layers
        )
        if architecture == "v-skipinit":  # it mixes alpha I + beta A, and nothing else
            for name, parameter in self.blocks.named_parameters():
                parameter.requires_grad_(not name.endswith("pattern.gamma"))
        self.final = self._final(width, rng)
        self.unembedding = nn.Parameter(
            normal(width, vocabulary, generator=rng) / width**0.5
        )

    def _final(self, width: int, rng: np.random.Generator) -> FiniteNetwork | None:
        if self.architecture != "pre":
            return None
        return finite(LayerNorm(EPS, affine=True), width, rng=rng)

    def states(
        self, ids: Int64[Array, "batch T"]
    ) -> list[Float[Array, "batch T width"]]:
        """Return the state after each block.

        Raises:
            ShapeError: if there are more positions than the context.
        """
        T = ids.shape[-1]
        if len(self.positions) < T:
            raise ShapeError(
                f"the model reads {len(self.positions)} positions; got {T}: shorten "
                f"the ids"
            )
        X = self.tokens[ids] + self.positions[:T]
        found = []
        for layer in self.blocks:
            X = layer(X)
            found.append(X)
        return found

    def forward(
        self, ids: Int64[Array, "batch T"]
    ) -> Float[Array, "batch T vocabulary"]:
        """Return the logits of the next token."""
        X = self.states(ids)[-1]
        X = X if self.final is None else self.final.body(X)
        return X @ self.unembedding

    def loss(self, ids: Int64[Array, "batch next"]) -> Float[Array, ""]:
        """Return the mean cross-entropy in nats of each token given those before it."""
        logits = self(ids[:, :-1]).flatten(0, 1)
        return nn.functional.cross_entropy(logits, ids[:, 1:].flatten())
