"""Speed of shaped attention: the walk over positions beside products of matrices, in one run.

Run with `make bench`; what counts are the ratios. The products are two a layer, A K A', of
matrices that are there; forming them does not count.
"""

import time
from collections.abc import Callable
from functools import reduce
from operator import rshift

import numpy as np
import pytest

from asymptest.numerics import kernel
from asymptest.numerics.semiseparable import carrying
from asymptest.numerics.spa import spa_matrix
from asymptest.theory import (
    Attention,
    ExponentialKernel,
    Mlp,
    Spa,
    UniformKernel,
    relu,
)

BLOCKS = 12
T = 1024
TURNS = 5
LAST = [ExponentialKernel(0.005), UniformKernel(0.5)]


def best(*ways: Callable[[], object]) -> list[float]:
    """Return the shortest time of each way to run, taken in turn."""
    turns = []
    for _ in range(1 + TURNS):  # the first ones derive and compile
        times = []
        for run in ways:
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        turns.append(times)
    return [min(times) for times in zip(*turns[1:], strict=True)]


@pytest.mark.parametrize("last", LAST, ids=repr)
def test_transformer_kernel(last: ExponentialKernel | UniformKernel) -> None:
    """12 blocks of attention and a ReLU MLP: less than the products of their attention alone."""
    patterns = Spa.schedule(last, BLOCKS)
    network = reduce(rshift, (Attention(p, "causal") >> Mlp(relu) for p in patterns))
    attention = reduce(rshift, (Attention(p, "causal") for p in patterns))
    matrices = [spa_matrix(pattern, "causal", T) for pattern in patterns]
    K0 = np.eye(T)

    def products() -> np.ndarray:
        K = K0
        for A in matrices:
            K = A @ K @ A.T
        return K

    assert np.abs(kernel(attention, K0) - products()).max() <= 1e-12
    ours, alone, theirs = best(
        lambda: kernel(network, K0), lambda: kernel(attention, K0), products
    )
    print(
        f"\n{last!r}, {BLOCKS} blocks, T = {T}: {ours / theirs:.2f} of the products, "
        f"{alone / theirs:.2f} without the MLPs"
    )
    assert ours <= theirs


def test_one_layer() -> None:
    """A K A' in a fifth of the time of its two products."""
    before, after = ExponentialKernel(0.1), ExponentialKernel(0.05)
    A = carrying(before, after, (T,))
    matrix, X = A @ np.eye(T), np.random.default_rng(0).standard_normal((T, T))
    K = X @ X.T / T
    ours, theirs = best(lambda: A.congruence(K), lambda: matrix @ K @ matrix.T)
    print(f"\none layer, T = {T}: {ours / theirs:.2f} of the products")
    assert ours <= theirs / 5
