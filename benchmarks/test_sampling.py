"""Speed of kernels drawn without weights, as ratios to dense torch networks in the same run.

24 residual layers of width 4096 on 16 positions, one network each. The dense side draws the
weights of a layer, applies it and forgets it: all of them at once would take 20 GB. Run with
`make bench`.
"""

import time
from collections.abc import Sequence

import numpy as np
import pytest

from asymptest.numerics import sample_kernels
from asymptest.theory import Attention, Mlp, Network, Residual, RMSNorm, Softmax, relu
from asymptest.verify.finite import finite
from asymptest.verify.inputs import exact_input
from asymptest.verify.stochastic import single_thread

WIDTH, T, SAMPLES = 4096, 16, 8
ALLOWED = 50

ATTENTION = Residual(RMSNorm() >> Attention(Softmax(), "causal", heads=16))
MLP = Residual(RMSNorm() >> Mlp(relu))
NETWORKS = {
    "24 attention layers": [ATTENTION] * 24,
    "12 attention layers and 12 MLPs": [ATTENTION, MLP] * 12,
}


def input_kernel() -> np.ndarray:
    """Return a generic kernel of full rank."""
    X = np.random.default_rng(0).standard_normal((T, 2 * T))
    return X @ X.T / (2 * T)


def dense_seconds(layers: Sequence[Network], K0: np.ndarray) -> float:
    """Return the time that one dense network takes, its weights included."""
    rng = np.random.default_rng(1)
    start = time.perf_counter()
    X = exact_input(K0, WIDTH, 1, rng)
    for layer in layers:
        X = finite(layer, WIDTH, 1, rng)(X).detach()
    kernel = X @ X.mT / WIDTH
    assert kernel.isfinite().all()
    return time.perf_counter() - start


def sampled_seconds(
    network: Network, K0: np.ndarray, width: int, samples: int
) -> float:
    """Return the time that one sample takes."""
    start = time.perf_counter()
    sample_kernels(network, K0, width, samples, 2)
    return (time.perf_counter() - start) / samples


@pytest.mark.parametrize("which", NETWORKS)
def test_samples_against_dense_weights(which: str) -> None:
    """A sample takes at most a fiftieth of the time of a dense network."""
    K0, layers = input_kernel(), NETWORKS[which]
    network = layers[0]
    for layer in layers[1:]:
        network = network >> layer
    with single_thread():
        finite(network, 64)(exact_input(K0, 64))  # compiles what both share
        sampled_seconds(network, K0, 64, 1)
        turns = [sampled_seconds(network, K0, WIDTH, SAMPLES) for _ in range(3)]
        dense, sampled = dense_seconds(layers, K0), min(turns)
    print(
        f"\n{which}, width {WIDTH}, T = {T}: {1e3 * sampled:.1f} ms a sample, "
        f"{dense / sampled:.0f} times as fast as dense weights"
    )
    assert dense >= ALLOWED * sampled


def test_attention_at_width_1e6() -> None:
    """The width does not enter the cost where no activation asks for entries."""
    network, K0 = ATTENTION * 24, input_kernel()
    seconds = {
        width: min(sampled_seconds(network, K0, width, SAMPLES) for _ in range(3))
        for width in (WIDTH, 10**6)
    }
    ratio = seconds[10**6] / seconds[WIDTH]
    print(f"\n24 attention layers: width 10^6 takes {ratio:.2f} times width {WIDTH}")
    assert ratio < 2
