"""Decisions about means over random finite networks.

One stream of independent blocks serves a piece of evidence and every mutant that differs
from it only in the prediction: the confidence region is about the truth (decision.py).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from hypothesis.strategies import SearchStrategy
from jaxtyping import Float

from asymptest.theory.errors import ArgumentError
from asymptest.verify.claim import Finding, FiniteLaw, Limit, Profile, Status
from asymptest.verify.decision import Decision, decide
from asymptest.verify.design import Design, allocation, extrapolation
from asymptest.verify.instances import derive
from asymptest.verify.instances import draw as draw_instances

APART = 3  # a design refutes what is 2 resolutions away; one more keeps off the edge
DRAWS = 50  # per instance, at most
CHUNK = 2**20  # weights of one matrix sampled at once, over all copies

Parts = Mapping[str, Limit | FiniteLaw]


@contextmanager
def single_thread() -> Iterator[None]:
    """Run torch on one thread: batches of small matrices lose time on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def decide_limits(
    instances: SearchStrategy[Any] | None,
    parts: Parts,
    profile: Profile,
    seed: int,
    alpha: float,
) -> dict[str, Finding]:
    """Return a finding for each of several parts that share their samples.

    A claim holds if it does on every instance; a mutant is killed by one.
    """
    if instances is None:
        raise ArgumentError("the claim has evidence over instances but no strategy")
    drawn = telling_instances(instances, parts, profile, seed)
    share = alpha / len(drawn)
    rows = [_decide_one(parts, inst, profile, seed, share) for inst in drawn]
    return {name: _combine(rows, name, alpha) for name in parts}


def telling_instances(
    instances: SearchStrategy[Any], parts: Parts, profile: Profile, seed: int
) -> list[Any]:
    """Return instances at which the procedure can tell every mutant from the claim.

    At some instance a mutant may coincide with the claim (a missing correlation where all
    correlations vanish), and nothing could refute it there. So instances are drawn until
    the predictions are `APART` resolutions apart. Only predictions are looked at, never
    samples, so no error probability changes.

    Raises:
        ArgumentError: if `DRAWS` draws for each instance do not give enough.
    """
    first = next(iter(parts.values()))
    needed = APART * first.coarseness * profile.resolution
    candidates = draw_instances(instances, DRAWS * profile.instances, seed)
    found: list[Any] = []
    for instance in candidates:
        own, *others = (_predicted(part, instance) for part in parts.values())
        scale = _scale(first, instance)
        if all((np.abs(other - own) / scale).max() >= needed for other in others):
            found.append(instance)
        if len(found) == profile.instances:
            return found
    if found:
        return found  # a strategy with few instances
    raise ArgumentError(
        f"none of {len(candidates)} instances puts every mutant {needed:.2g} of its scale "
        f"from the claim, so no test of this resolution can tell them apart"
    )


def _decide_one(
    parts: Parts, instance: Any, profile: Profile, seed: int, alpha: float
) -> dict[str, Finding]:
    first = next(iter(parts.values()))
    rng = np.random.default_rng(derive(seed, instance))
    tally: dict[int, int] = {}  # replicates drawn, by width
    scale = _scale(first, instance)
    if isinstance(first, Limit):
        weights, shares = extrapolation(first.widths), allocation(first.widths)
        noise = (
            first.spread
            * sum(
                w**2 / (n * r)
                for w, n, r in zip(weights, first.widths, shares, strict=True)
            )
            ** 0.5
        )
        bias = first.bias
        predictions = {name: _predicted(part, instance) for name, part in parts.items()}

        def draw(count: int) -> Float[np.ndarray, "k d"]:
            by_width = zip(first.widths, weights, shares, strict=True)
            means = [
                w * _means(first, instance, n, count, r, rng, tally)
                for n, w, r in by_width
            ]
            return np.sum(means, axis=0)

    else:
        noise, bias = first.spread / first.group**0.5, 0.0
        predictions = {name: _predicted(part, instance) for name, part in parts.items()}

        def draw(count: int) -> Float[np.ndarray, "k d"]:
            means = [
                _means(first, instance, n, count, first.group, rng, tally)
                for n in first.widths
            ]
            return np.concatenate(means, axis=1)

    resolution = first.coarseness * profile.resolution
    design = Design(alpha, profile.miss, resolution, noise, len(scale), bias)
    decision = decide(draw, predictions, scale, design)
    return {
        name: _finding(parts[name], name, predictions[name], decision, design, tally)
        for name in parts
    }


def _scale(part: Limit | FiniteLaw, instance: Any) -> Float[np.ndarray, " d"]:
    if isinstance(part, Limit):
        return np.asarray(part.scale(instance), dtype=np.float64)
    return _joined(part, instance, "scale")


def _predicted(part: Limit | FiniteLaw, instance: Any) -> Float[np.ndarray, " d"]:
    if isinstance(part, Limit):
        return np.asarray(part.predict(instance), dtype=np.float64)
    return _joined(part, instance, "predict")


def _joined(part: FiniteLaw, instance: Any, field: str) -> Float[np.ndarray, " d"]:
    """Return the entries of all widths, end to end."""
    values = [np.atleast_1d(getattr(part, field)(instance, n)) for n in part.widths]
    return np.concatenate(values).astype(np.float64)


def _means(
    part: Limit | FiniteLaw,
    instance: Any,
    width: int,
    blocks: int,
    share: int,
    rng: np.random.Generator,
    tally: dict[int, int],
) -> Float[np.ndarray, "blocks d"]:
    """Return block means over `share` replicates each at one width."""
    wanted = blocks * share
    at_once = max(1, CHUNK // width**2)
    pieces: list[np.ndarray] = []
    while wanted:
        copies = min(wanted, at_once)
        pieces.append(np.asarray(part.sample(instance, width, copies, rng)))
        wanted -= copies
    rows = np.concatenate(pieces)
    tally[width] = tally.get(width, 0) + len(rows)
    return rows.reshape(blocks, share, -1).mean(axis=1)


def _finding(
    part: Limit | FiniteLaw,
    name: str,
    predicted: Float[np.ndarray, " d"],
    decision: Decision,
    design: Design,
    tally: dict[int, int],
) -> Finding:
    outcome = decision.outcomes[name]
    is_rate = isinstance(part, FiniteLaw) and part.rate
    return Finding(
        "rate" if is_rate else "limit",
        Status(outcome.status),
        resolution=outcome.resolution,
        alpha=design.alpha,
        comparisons=decision.comparisons,
        replicates=sum(tally.values()),
        widths=part.widths,
        distance=outcome.distance,
        detail=f"{outcome.blocks} blocks, entry {outcome.worst}",
        points=_points(part.widths, decision.centre, predicted) if is_rate else (),
    )


def _points(
    widths: tuple[int, ...],
    measured: Float[np.ndarray, " d"],
    predicted: Float[np.ndarray, " d"],
) -> tuple[tuple[float, float, float], ...]:
    """Return width, measured and predicted rms error, from means of squared errors."""
    by_width = zip(
        widths,
        np.split(measured, len(widths)),
        np.split(predicted, len(widths)),
        strict=True,
    )
    return tuple(
        (float(n), float(m.mean() ** 0.5), float(p.mean() ** 0.5))
        for n, m, p in by_width
    )


def _combine(rows: list[dict[str, Finding]], name: str, alpha: float) -> Finding:
    """Return the finding over all instances: the worst one, with totals."""
    order = (Status.REFUTED, Status.INCONCLUSIVE, Status.SUPPORTED)
    found = [row[name] for row in rows]
    worst = min(found, key=lambda f: (order.index(f.verdict), -(f.resolution or 0)))
    totals = {
        "comparisons": sum(f.comparisons for f in found),
        "replicates": sum(f.replicates for f in found),
        "alpha": alpha,
    }
    return Finding(**{**vars(worst), **totals})
