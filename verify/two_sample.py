"""Equality in law, decided by two samples: how far apart are their distribution functions?

A statistic has the distribution function F on the left and G on the right, and F_m, G_m are
the empirical ones of m draws each. Dvoretzky, Kiefer and Wolfowitz, with Massart's constant:
sup |F_m - F| <= t but for probability 2 exp(-2 m t^2), whatever F is, atoms included. So the
distance D = sup |F - G| is within 2 t of the one that is seen, D_m, and

    REFUTED       if D_m > 2 t: the laws differ
    SUPPORTED     if D_m + 2 t <= resolution: no event {statistic <= x} tells them apart by more
    INCONCLUSIVE  otherwise.

The number m is computed beforehand: with equal laws D_m <= 2 t' but for the probability of a
miss, and m is the least for which 2 t + 2 t' <= resolution. Laws that are a resolution or
more apart are then REFUTED but for the same probability.

Source: Massart (1990), The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy
from jaxtyping import Float

from asymptest.theory.errors import ArgumentError, ShapeError
from asymptest.verify.claim import Finding, Law, Profile, Rng, Status
from asymptest.verify.instances import derive
from asymptest.verify.instances import draw as draw_instances

CHUNK = 4096  # draws at once

Draws = Float[np.ndarray, "draws statistics"]
ORDER = (Status.REFUTED, Status.INCONCLUSIVE, Status.SUPPORTED)


def decide_law(
    part: Law,
    instances: SearchStrategy[Any] | None,
    profile: Profile,
    seed: int,
    alpha: float,
) -> Finding:
    """Return a finding over all instances; alpha is shared by them and the statistics."""
    if instances is None:
        raise ArgumentError("the claim has evidence over instances but no strategy")
    drawn = draw_instances(instances, profile.instances, seed)
    share = alpha / (len(drawn) * len(part.statistics))
    miss = profile.miss / (len(drawn) * len(part.statistics))
    resolution = part.coarseness * profile.resolution
    count = draws_needed(share, miss, resolution)
    radius = 2 * deviation(share, count)
    found = [_decide_one(part, i, count, radius, resolution, seed) for i in drawn]
    worst = min(found, key=lambda f: (ORDER.index(f.verdict), -(f.distance or 0.0)))
    totals = {
        "alpha": alpha,
        "comparisons": sum(f.comparisons for f in found),
        "replicates": sum(f.replicates for f in found),
    }
    return Finding(**{**vars(worst), **totals})


def deviation(alpha: float, draws: int) -> float:
    """Return t such that both empirical functions are within t of their own, but for alpha.

    >>> round(deviation(1e-6, 10_000), 4)
    0.0276
    """
    return math.sqrt(math.log(4 / alpha) / (2 * draws))


def draws_needed(alpha: float, miss: float, resolution: float) -> int:
    """Return the least number of draws of each law for a decision at this resolution.

    >>> draws_needed(alpha=1e-9, miss=1e-4, resolution=0.1)
    12664
    """
    roots = math.sqrt(math.log(4 / alpha)) + math.sqrt(math.log(4 / miss))
    return math.ceil(2 * (roots / resolution) ** 2)


def distance(
    left: Float[np.ndarray, " left"], right: Float[np.ndarray, " right"]
) -> float:
    """Return the largest difference of the two empirical distribution functions.

    A nan counts as larger than every number, so that it is an event like others.

    >>> distance(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.5
    """
    at = np.concatenate([left, right])
    shares = (
        np.searchsorted(np.sort(sample), at, side="right") / len(sample)
        for sample in (left, right)
    )
    return float(np.abs(np.subtract(*shares)).max())


def _decide_one(
    part: Law, instance: Any, count: int, radius: float, resolution: float, seed: int
) -> Finding:
    rng = np.random.default_rng(derive(seed, instance))
    left, right = (
        _draws(sampler, part, instance, count, rng)
        for sampler in (part.left, part.right)
    )
    gaps = [distance(a, b) for a, b in zip(left.T, right.T, strict=True)]
    worst = int(np.argmax(gaps))
    verdict = Status.INCONCLUSIVE
    if gaps[worst] > radius:
        verdict = Status.REFUTED
    elif gaps[worst] + radius <= resolution:
        verdict = Status.SUPPORTED
    return Finding(
        "law",
        verdict,
        resolution=gaps[worst] + radius,
        comparisons=len(gaps),
        replicates=2 * count,
        distance=gaps[worst],
        counterexample=repr(instance) if verdict is Status.REFUTED else None,
        detail=f"{count} draws of each law, largest for {part.statistics[worst]}",
    )


def _draws(
    sampler: Callable[[Any, int, Rng], Draws],
    part: Law,
    instance: Any,
    count: int,
    rng: Rng,
) -> Draws:
    sizes = [CHUNK] * (count // CHUNK) + [count % CHUNK] * (count % CHUNK > 0)
    rows = np.concatenate([sampler(instance, size, rng) for size in sizes])
    if rows.shape != (count, len(part.statistics)):
        raise ShapeError(
            f"a sampler must return one row a draw, of the statistics "
            f"{', '.join(part.statistics)}; got the shape {rows.shape} for {count} draws"
        )
    return rows
