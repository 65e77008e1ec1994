"""Claims about whole networks: the recursion of a pre-norm transformer block."""

from asymptest.theory.activations import relu
from asymptest.theory.network import Attention, Dense, Mlp, Network, Residual, RMSNorm
from asymptest.theory.patterns import Softmax, Uniform
from asymptest.theory.recursion import recursion
from asymptest.verify.claim import Claim, Source
from asymptest.verify.families import kernel_limit, kernels_of_size, predict_with

POSITIONS = 3


def pre_norm_block(
    variance: float = 2, hidden: float = 2, skip: float = 1, mask: str = "causal"
) -> Network:
    """Return attention (tied softmax, 1/d) and a ReLU MLP, each after RMSNorm, with skips."""
    attention = Attention(Softmax("1/d", tied=True, variance=variance), mask)
    mlp = Mlp(relu, expansion=1, hidden=Dense(hidden))
    return Residual(RMSNorm() >> attention, skip) >> Residual(RMSNorm() >> mlp, skip)


def _uniform_block() -> Network:
    mlp = Mlp(relu, expansion=1, hidden=Dense(2))
    attention = Attention(Uniform(), "causal")
    return Residual(RMSNorm() >> attention) >> Residual(RMSNorm() >> mlp)


# The spread of an entry, sqrt(width) std / scale: of the three states that are added, the
# input is exact, attention spreads by at most 2 (value and output, sqrt(2) each) and the
# MLP by at most sqrt(5 + 2 + 2); with weights of a third each, below 2.
# Five dense matrices a replicate make 1 % cost minutes, so the band is three times as wide.
LIMIT = kernel_limit(
    lambda _: pre_norm_block(),
    lambda K0: K0,
    widths=(8, 32, 128),
    spread=2.0,
    bias=1e-3,
    coarseness=3,
)


def _mutant(network: Network):
    return predict_with(LIMIT, lambda _: network, lambda K0: K0)


CLAIMS = (
    Claim(
        name="network/pre-norm-block",
        statement=recursion(pre_norm_block()).equations,
        source=Source(
            "Hron et al. (2020), arXiv 2006.10540", "attention with 1/d scaling"
        ),
        instances=kernels_of_size(POSITIONS),
        evidence=(LIMIT,),
        mutants={
            "no skip": _mutant(pre_norm_block(skip=0.0)),
            "the MLP's 1/2 missing": _mutant(pre_norm_block(hidden=4.0)),
            "softmax temperature doubled": _mutant(pre_norm_block(variance=4.0)),
            "uniform attention": _mutant(_uniform_block()),
            "mask missing": _mutant(pre_norm_block(mask="full")),
            "depth off by one": _mutant(pre_norm_block() * 2),
        },
        limits="One block, three positions; the remainder beyond 1/width^2 is declared.",
    ),
)
