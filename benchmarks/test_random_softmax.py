"""The kernel of softmax attention with random logits: time for an error, and memory.

Run with `make bench`.
"""

import subprocess
import sys
import time

import numpy as np
import pytest

from asymptest.numerics import kernel_with_error
from asymptest.numerics.attention import softmax
from asymptest.theory import Attention, Softmax

RTOL = 1e-3
SECONDS, GIB = 30, 4
SEEN = {"full": lambda T: np.ones((T, T)), "causal": np.tri}


def kernel_of_rank(T: int, rank: int) -> np.ndarray:
    """Return a kernel of variances 1."""
    X = np.random.default_rng(0).standard_normal((T, rank))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X @ X.T


def plain(K: np.ndarray, seen: np.ndarray, draws: int) -> np.ndarray:
    """Return the standard error of the mean of A K A' over independent draws."""
    T = len(K)
    R = np.linalg.cholesky(K + 1e-12 * np.eye(T))
    rng = np.random.default_rng(1)
    total, squares = np.zeros((2, T, T))
    for _ in range(draws):
        A = softmax(R @ rng.standard_normal((T, T)) @ R.T, seen)
        product = A @ K @ A.T
        total += product
        squares += product**2
    return np.sqrt(np.maximum(squares / draws - (total / draws) ** 2, 0) / draws)


@pytest.mark.parametrize("mask", SEEN)
@pytest.mark.parametrize(
    ("rank", "common"),
    [(16, 0.0), (512, 0.0), (16, 0.99)],
    ids=["16", "512", "collapsed"],
)
def test_time_for_an_error(mask: str, rank: int, common: float) -> None:
    """T = 256 to 1e-3, beside independent draws without any variance reduction."""
    T, draws = 256, 64
    K = common + (1 - common) * kernel_of_rank(T, rank)
    seen = SEEN[mask](T) > 0
    start = time.perf_counter()
    found, error = kernel_with_error(Attention(Softmax(), mask), K, rtol=RTOL)
    middle = time.perf_counter()
    other = plain(K, seen, draws)
    end = time.perf_counter()
    same = (end - middle) * (other.max() / error.max()) ** 2
    print(
        f"\nT = {T}, {mask}, rank {min(rank, T)}, {common} in common: "
        f"{error.max() / found.max():.1e} in {middle - start:.1f} s; independent draws take "
        f"{same / (middle - start):.0f} times as long"
    )
    assert error.max() <= RTOL * found.max()
    assert middle - start < SECONDS


LARGE = """
import resource, numpy as np
from asymptest.numerics import kernel_with_error
from asymptest.theory import Attention, Softmax
X = np.random.default_rng(0).standard_normal((1024, 512))
X /= np.linalg.norm(X, axis=1, keepdims=True)
found, error = kernel_with_error(Attention(Softmax(), {mask!r}), X @ X.T, rtol=1e-3)
print(error.max() / found.max(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("mask", SEEN)
def test_memory_of_many_positions(mask: str) -> None:
    """T = 1024 to 1e-3, in a process of its own."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", LARGE.format(mask=mask)],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - start
    error, size = map(float, done.stdout.split())
    unit = 1 if sys.platform == "darwin" else 2**10
    print(
        f"\nT = 1024, {mask}: {error:.1e} in {seconds:.0f} s, {size * unit / 2**30:.2f} GiB"
    )
    assert size * unit < GIB * 2**30
