"""Speed of derived duals, as ratios to the formulas written by hand in NumPy.

Both sides map a kernel of 1024 positions to the kernel behind an activation; the derived one
also checks correlations and keeps its digits next to rho = 1. Run with `make bench`.
"""

import timeit
from collections.abc import Callable

import numpy as np
import pytest

from asymptest.numerics.duals import dual_entry, entrywise
from asymptest.theory import Activation, erf, gelu, relu

T = 1024
TURNS, CALLS = 10, 10
ALLOWED = 1.3


def relu_by_hand(K: np.ndarray) -> np.ndarray:
    """Return the arc-cosine kernel of degree 1, halved (Cho and Saul, 2009)."""
    size = np.sqrt(np.diagonal(K))
    scale = size[:, None] * size[None, :]
    rho = np.clip(K / scale, -1, 1)
    angle = np.arccos(rho)
    return scale / (2 * np.pi) * (np.sqrt(1 - rho * rho) + rho * (np.pi - angle))


def erf_by_hand(K: np.ndarray) -> np.ndarray:
    """Return the arcsine kernel (Williams, 1997)."""
    size = np.sqrt(1 + 2 * np.diagonal(K))
    return 2 / np.pi * np.arcsin(2 * K / (size[:, None] * size[None, :]))


def gelu_by_hand(K: np.ndarray) -> np.ndarray:
    """Return the GELU kernel in its shortest form."""
    p, q = np.diagonal(K)[:, None], np.diagonal(K)[None, :]
    product, square = (1 + p) * (1 + q), K * K
    angle = np.arcsin(K / np.sqrt(product))
    rest = (p * q + square * (1 - p * q) / product) / np.sqrt(product - square)
    return K / 4 + (K * angle + rest) / (2 * np.pi)


def ratio(run: Callable[[], object], other: Callable[[], object]) -> float:
    """Return the time of `run` over that of `other`: the best turns, taken alternately.

    A turn is several calls: the first one after the other side's finds memory that was
    given back to the system.
    """
    timers = [timeit.Timer(call) for call in (run, other)]
    turns = [[timer.timeit(CALLS) for timer in timers] for _ in range(TURNS)]
    mine, theirs = (min(times) for times in zip(*turns, strict=True))
    return mine / theirs


@pytest.mark.parametrize(
    ("phi", "by_hand"),
    [(relu, relu_by_hand), (erf, erf_by_hand), (gelu, gelu_by_hand)],
)
def test_dual_against_numpy(
    phi: Activation, by_hand: Callable[[np.ndarray], np.ndarray]
) -> None:
    """The derived dual takes at most 1.3 times the time of the formula by hand."""
    X = np.random.default_rng(0).standard_normal((T, 2 * T))
    K, function = X @ X.T / (2 * T), dual_entry(phi)
    assert np.allclose(entrywise(function, K), by_hand(K), rtol=1e-12, atol=1e-13)
    found = ratio(lambda: entrywise(function, K), lambda: by_hand(K))
    print(f"\n{phi.name} dual, T = {T}: {found:.2f} times the formula by hand")
    assert found <= ALLOWED
