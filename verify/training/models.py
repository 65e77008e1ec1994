"""Language models whose blocks are built from the project's own network description.

With S a sublayer (attention, then MLP) and N a LayerNorm with gain and bias:

    sublayer   X + N(S(X))    what arXiv 2010.09697 and its code call pre-norm
    pre        X + S(N(X))    GPT's, with one more N before the unembedding
    post       N(X + S(X))    the original transformer's

The only biases are those of the norms, which makes every block homogeneous in its
parameters for large parameters; eps is PyTorch's.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor as Array
from torch import nn

from asymptest.theory.activations import relu
from asymptest.theory.errors import ShapeError
from asymptest.theory.network import Attention, Chain, LayerNorm, Mlp, Residual
from asymptest.theory.patterns import Softmax
from asymptest.verify.finite import FiniteNetwork, finite
from asymptest.verify.inputs import stream
from asymptest.verify.weights import normal

Architecture = Literal["sublayer", "pre", "post"]
EPS = 1e-5


def block(architecture: Architecture, heads: int) -> Chain:
    """Return one block of a language model: causal attention, then a ReLU MLP.

    >>> block("pre", 2).layers[1]
    Residual(LayerNorm(1e-05, True) >> Mlp(relu))
    """
    norm = LayerNorm(EPS, affine=True)
    attention = Attention(Softmax(), mask="causal", heads=heads)
    match architecture:
        case "sublayer":
            return Residual(attention >> norm) >> Residual(Mlp(relu) >> norm)
        case "pre":
            return Residual(norm >> attention) >> Residual(norm >> Mlp(relu))
        case "post":
            return Residual(attention) >> norm >> Residual(Mlp(relu)) >> norm


class LanguageModel(nn.Module):
    """Embedding of tokens and positions, `depth` blocks, unembedding.

    Args:
        architecture: where the norms are.
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
        layer = block(architecture, heads)
        self.blocks = nn.ModuleList(
            finite(layer, width, rng=rng).body for _ in range(depth)
        )
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
