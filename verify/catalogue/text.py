"""Claims on real tokens: what repeats in a text reaches the kernel."""

import numpy as np

from asymptest.theory.activations import relu
from asymptest.theory.network import Attention, Dense, Mlp, Network, Residual, RMSNorm
from asymptest.theory.patterns import Softmax
from asymptest.theory.recursion import recursion
from asymptest.verify.claim import Claim, Source
from asymptest.verify.families import predict_with
from asymptest.verify.text import (
    default_text,
    renumbered,
    stretches,
    token_kernel,
    token_limit,
)

SCORES = Softmax("1/d", tied=True)
MLP = Mlp(relu, expansion=1)


def block(mask: str = "causal", mlp: Mlp = MLP) -> Network:
    """Return a pre-norm transformer block."""
    attention = Residual(RMSNorm() >> Attention(SCORES, mask=mask))
    return attention >> Residual(RMSNorm() >> mlp)


# The spread, to leading order in 1/n, of the diagonal entry of a token whose attention
# output has the kernel M = a' K a in [0, 1]; off the diagonal Cauchy and Schwarz give less.
# Variances, in units of 1/n:
#     4 M      skip times attention branch: (2/n) X_i B_i has variance 4 q M, q = 1
#     4 M^2    W^V and W^O: 2 M^2 each
#     32 M^2 (1 - M)^2   the logits: each has variance <= 2, and moves M by
#              2 a_k ((K a)_k - M), whose moduli sum to at most 4 M (1 - M)
#     2 (1 + M)    skip, now 1 + M, times MLP branch, 1/2
#     1.75     the MLP: Var relu(u)^2 = 5/4 over the hidden units, 2 / 4 from its W
# Divided by the squared entry (3/2 + M)^2, the sum is largest near M = 1/2, where it is
# 2.44, so that the spread is at most 1.57. At width 8, 4e5 networks have shown 1.53.
SPREAD = 1.6
# The mean of the finite kernel leaves the limit by less than 0.2 / n at widths 8 to 32
# (6e5 networks), and n times the difference varies by less than 0.1 over them: what the
# extrapolation through 8, 16 and 64 leaves is of the order 8 * 0.1 / (8 * 16).
BIAS = 5e-3

WIDTHS = (8, 16, 64)
LIMIT = token_limit(block(), renumbered, WIDTHS, spread=SPREAD, bias=BIAS, coarseness=5)


def _as_if_different(tokens: list[str]) -> np.ndarray:
    return np.eye(len(tokens))


def _kernel(tokens: list[str]) -> np.ndarray:
    return token_kernel(renumbered(tokens))


PRE_NORM_BLOCK = Claim(
    name="text/pre-norm-block-on-real-tokens",
    statement=recursion(block()).equations,
    source=Source("Hron et al. (2020), arXiv 2006.10540", "attention with 1/d scaling"),
    # Consecutive words of which two are the same, wherever the text has them.
    instances=stretches(default_text, length=5, kinds=4),
    evidence=(LIMIT,),
    mutants={
        "repeated tokens ignored": predict_with(
            LIMIT, lambda _: block(), _as_if_different
        ),
        "no mask": predict_with(LIMIT, lambda _: block(mask="full"), _kernel),
        "1/2 missing in the dual of ReLU": predict_with(
            LIMIT, lambda _: block(mlp=Mlp(relu, 1, output=Dense(2))), _kernel
        ),
    },
    limits="One block, one head, five tokens, an MLP no wider than the stream.",
)

CLAIMS = (PRE_NORM_BLOCK,)
