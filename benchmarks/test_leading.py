"""Speed of exact evaluation of saturated transformers: seconds, and ratios to float64.

Four blocks (an attention and an MLP each) of width 16 on 64 tokens. Run with `make bench`.
"""

import time
from typing import Literal

import numpy as np
import pytest

from asymptest.numerics import leading
from asymptest.theory import Attention, LayerNorm, Mlp, Residual, Softmax, relu
from asymptest.verify.finite import finite
from asymptest.verify.weights_of import weights_of

BLOCKS, WIDTH, T = 4, 16, 64
ALLOWED = 5  # seconds
HEADS, MLP = Attention(Softmax(), mask="causal", heads=2), Mlp(relu, 2)
NORM = LayerNorm(affine=True)
TRANSFORMERS = {
    "no norm": Residual(HEADS) >> Residual(MLP),
    "sublayer norm": Residual(HEADS >> NORM) >> Residual(MLP >> NORM),
    "pre-LN": Residual(NORM >> HEADS) >> Residual(NORM >> MLP),
    "post-LN": Residual(HEADS) >> NORM >> Residual(MLP) >> NORM,
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_exact_evaluation_of_four_blocks(name: str) -> None:
    """Exact evaluation takes less than 5 s."""
    network = TRANSFORMERS[name] * BLOCKS
    rng = np.random.default_rng(0)
    weights = weights_of(finite(network, WIDTH, rng=rng))
    X = rng.normal(size=(T, WIDTH))

    def seconds(numbers: Literal["exact", "float64"]) -> float:
        start = time.perf_counter()
        leading(network, weights, X, numbers=numbers)
        return time.perf_counter() - start

    seconds("float64")  # derives the asymptotes that all runs share
    turns = [(seconds("exact"), seconds("float64")) for _ in range(3)]
    exact, rounded = map(min, zip(*turns, strict=True))
    print(f"\n{name}: {exact:.2f} s, {exact / rounded:.1f} times float64")
    assert exact < ALLOWED
