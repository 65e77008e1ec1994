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
TURNS = 7
ALLOWED = 1.25


def best(run: Callable[[], object], other: Callable[[], object]) -> float:
    """Return the shortest time of `run` over that of `other`, taken in turn."""
    turns = []
    for _ in range(1 + TURNS):  # the first ones derive and compile
        start = time.perf_counter()
        run()
        middle = time.perf_counter()
        other()
        turns.append((middle - start, time.perf_counter() - middle))
    mine, theirs = (min(times) for times in zip(*turns[1:], strict=True))
    return mine / theirs


def input_kernel(size: int) -> np.ndarray:
    """Return a generic kernel of full rank."""
    X = np.random.default_rng(0).standard_normal((size, 2 * size))
    return X @ X.T / (2 * size)


def test_transformer_kernel_against_its_floor() -> None:
    """12 pre-norm blocks at T = 1024 against what no evaluation of them can leave out.

    That is two products of matrices a block; for the softmax an exponential, the sums of the
    rows and a division; for the dual of ReLU a correlation, its angle and its sine. Each is
    one pass of NumPy over memory that is there.
    """
    attention = Attention(Softmax("1/d", tied=True))
    block = Residual(RMSNorm() >> attention) >> Residual(RMSNorm() >> Mlp(relu))
    K0 = input_kernel(T)
    size = np.sqrt(np.diagonal(K0))
    scale, rho = np.outer(size, size), np.clip(K0 / np.outer(size, size), -1, 1)
    A, B, C = (np.empty_like(K0) for _ in range(3))

    def floor() -> None:
        for _ in range(BLOCKS):
            np.exp(K0, out=A)
            np.divide(A, A.sum(1, keepdims=True), out=A)
            np.matmul(A, K0, out=B)
            np.matmul(B, A.T, out=C)
            np.divide(K0, scale, out=B)
            np.arccos(rho, out=B)
            np.sqrt(scale, out=C)

    ratio = best(lambda: kernel(block * BLOCKS, K0), floor)
    print(f"\n{BLOCKS} blocks, T = {T}: {ratio:.2f} times the floor")
    assert ratio <= ALLOWED
