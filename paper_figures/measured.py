"""Errors of finite networks against width: measured, with intervals, and predicted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from asymptest.numerics.kernel import kernel
from asymptest.theory import Network
from asymptest.verify.claim import Verdict
from asymptest.verify.finite import finite, kernel_of
from asymptest.verify.inputs import exact_input

Kernel = Float[np.ndarray, "T T"]
Points = Float[np.ndarray, " widths"]
Replicates = Float[np.ndarray, " _"]  # as many as each width was given

CHUNK = 2**22  # weights held at once: 32 MB
COVERAGE = 0.95


@dataclass(frozen=True, eq=False)
class Series:
    """Rms errors by width: measured, the ends of their 95 % intervals, and predicted.

    Where no interval is known, `low` and `high` are the measured values.
    """

    widths: Points
    measured: Points
    low: Points
    high: Points
    predicted: Points


@dataclass(frozen=True)
class Effort:
    """How much to sample at each width.

    Args:
        weights: numbers to draw for one layer; for L layers, sqrt(L) times as many,
            since deep networks fluctuate more but cost more.
        least: replicates at least, however wide the network.
        most: replicates at most, however narrow.
        seed: of all weights and inputs; each depth and width has a stream of its own.
    """

    weights: int = 4_000_000
    least: int = 6
    most: int = 2000
    seed: int = 0

    def replicates(self, depth: int, width: int) -> int:
        """Return the number of independent networks of `depth` layers."""
        count = round(self.weights / (depth**0.5 * width**2))
        return min(self.most, max(self.least, count))


def squared_errors(
    network: Network, K0: Kernel, depth: int, width: int, effort: Effort
) -> Float[np.ndarray, "replicates T T"]:
    """Return (K_hat - K)^2 for independent networks and inputs of exact kernel K0."""
    rng = np.random.default_rng([effort.seed, depth, width])
    K = kernel(network, K0)
    left = effort.replicates(depth, width)
    parts: list[np.ndarray] = []
    while left:
        copies = min(left, max(1, CHUNK // (depth * width**2)))
        X0 = exact_input(K0, width, copies, rng)
        parts.append((kernel_of(finite(network, width, copies, rng), X0) - K) ** 2)
        left -= copies
    return np.concatenate(parts)


def rms_interval(squares: Replicates) -> Float[np.ndarray, "3"]:
    """Return the root of the mean and the ends of its interval.

    The interval is Student's for the mean, then rooted.

    Args:
        squares: one mean squared error for each independent network.
    """
    count = len(squares)
    half = stdtrit(count - 1, (1 + COVERAGE) / 2) * squares.std(ddof=1) / count**0.5
    mean = squares.mean()
    return np.sqrt(np.maximum([mean, mean - half, mean + half], 0))


def series(
    widths: tuple[int, ...], rows: list[Replicates], predicted: Points
) -> Series:
    """Return the series of one mean squared error a network, for each width."""
    measured, low, high = np.transpose([rms_interval(row) for row in rows])
    return Series(np.array(widths, float), measured, low, high, predicted)


def saved_series(verdicts: Sequence[Verdict], claim: str) -> Series | None:
    """Return the points that a report holds for a claim, or None if it holds none."""
    points = [
        point
        for verdict in verdicts
        if verdict.name == claim
        for finding in verdict.evidence
        for point in finding.points
    ]
    if not points:
        return None
    widths, measured, predicted = np.array(points, float).T
    return Series(widths, measured, measured, measured, predicted)
