"""Speed of kernel evaluation, as ratios of times measured side by side in one run.

Run with `make bench`; each line printed is a ratio, since absolute times say little.
"""

import time
from collections.abc import Callable

import numpy as np

from asymptest.numerics import kernel
from asymptest.theory import Attention, Mlp, Residual, RMSNorm, Softmax, relu

BLOCKS = 12
T = 1024


def best(run: Callable[[], object], repeats: int = 3) -> float:
    """Return the shortest wall time of several runs, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def input_kernel(size: int) -> np.ndarray:
    """Return a generic kernel of full rank."""
    X = np.random.default_rng(0).standard_normal((size, 2 * size))
    return X @ X.T / (2 * size)


def test_transformer_kernel_against_its_products() -> None:
    """12 pre-norm blocks at T = 1024 against their 24 matrix products alone."""
    attention = Attention(Softmax("1/d", tied=True), "causal")
    block = Residual(RMSNorm() >> attention) >> Residual(RMSNorm() >> Mlp(relu))
    K0 = input_kernel(T)
    A = np.tril(np.ones((T, T))) / np.arange(1, T + 1)[:, None]

    def products() -> None:
        K = K0
        for _ in range(BLOCKS):
            K = A @ K @ A.T

    ratio = best(lambda: kernel(block * BLOCKS, K0)) / best(products)
    print(f"\n12 blocks, T = {T}: {ratio:.2f} times its matrix products")
    # The elementwise work is of order T^2 a layer; beyond this something is wrong.
    assert ratio < 10
