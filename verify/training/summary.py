"""What is kept of the path of a run: a few of its steps, its checkpoints, and its laws."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Int64

from asymptest.verify.training.growth import (
    LEAST,
    Misaligned,
    free_exponent,
    log_slope,
    misaligned,
)
from asymptest.verify.training.recorder import Record

FITTED = 100  # points of a fit
TOGETHER = 10  # steps of a point on a curve
LATE = 0.1  # the slope is that of the last decade of steps


def spread(first: int, last: int, points: int) -> Int64[np.ndarray, " found"]:
    """Return at most `points` whole numbers from first to last, logarithmically spaced.

    >>> spread(1, 100, 5)
    array([  1,   3,  10,  32, 100])
    >>> spread(1, 400, 1)
    array([400])
    """
    return np.unique(np.geomspace(last, first, points).round().astype(np.int64))


def summary(
    path: Sequence[Record],
    checkpoints: Sequence[Record],
    losses: Sequence[float],
    points: int,
) -> dict[str, Any]:
    """Return what a result says of the path of the parameters.

    Args:
        path: the record of every step, from 1.
        checkpoints: the records of evenly spaced steps.
        losses: the training loss of every step.
        points: how many steps to keep.
    """
    kept = spread(1, len(path), points)
    some = [path[step - 1] for step in kept]
    return {
        "path": {
            "step": kept.tolist(),
            "loss": [losses[step - 1] for step in kept],
            "norm": [record.norm for record in some],
            "size": [record.size for record in some],
            "alignment": [record.alignment for record in some],
        },
        "checkpoints": {
            "step": [record.step for record in checkpoints],
            "norm": [record.norm for record in checkpoints],
            "cosine": [record.cosine for record in checkpoints],
        },
        "start": path[0].before,
        "end": path[-1].norm,
        "change": path[-1].norm - path[0].before,
        "loss": float(np.mean(losses[-max(len(losses) // 20, 1) :])),
        "laws": laws(path, checkpoints, fitted=points >= LEAST),
    }


def curve(losses: Sequence[float]) -> dict[str, Any]:
    """Return the means of TOGETHER losses in a row, and the step that ends each.

    >>> curve([4.0] * 10 + [2.0] * 10)
    {'step': [10, 20], 'loss': [4.0, 2.0]}
    """
    ends = range(TOGETHER, len(losses) + 1, TOGETHER)
    means = [float(np.mean(losses[end - TOGETHER : end])) for end in ends]
    return {"step": list(ends), "loss": means}


def laws(
    path: Sequence[Record], checkpoints: Sequence[Record], fitted: bool
) -> dict[str, Any]:
    """Return the exponents of the norm, and what misaligned steps would give.

    Args:
        path: the record of every step, from 1.
        checkpoints: the records of evenly spaced steps.
        fitted: whether to fit exponents.

    Returns:
        `misaligned`, of the whole run, and `checkpoint_share`; and, if fitted, `free`, the
        exponent of a t^p + b over the run, evenly weighted; over the last decade of steps
        `late`, the slope of log ‖θ_t‖ in log t, `late_misaligned`, its prediction, and
        `late_excess`, the slope of log (‖θ_t‖² - ‖θ_0‖²)^{1/2}, None where that is not
        real. Nothing is fitted to a few steps, or to norms that are not finite.
    """
    T = len(path)
    norm = np.array([record.norm for record in path])
    found: dict[str, Any] = {
        "misaligned": asdict(_misaligned(path)),
        "checkpoint_share": checkpoint_share(path[0].before, checkpoints),
    }
    even = np.unique(np.linspace(1, T, FITTED).round().astype(np.int64))
    late = spread(max(round(LATE * T), 1), T, FITTED)
    if not fitted or len(late) < LEAST or not np.isfinite(norm).all():
        return found
    t, last = late.astype(np.float64), norm[late - 1]
    excess = last**2 - path[0].before ** 2
    real = (excess > 0).all()
    return found | {
        "free": asdict(free_exponent(even.astype(np.float64), norm[even - 1])),
        "late": asdict(log_slope(t, last)),
        "late_misaligned": asdict(_misaligned(path[late[0] - 1 :])),
        "late_excess": asdict(log_slope(t, excess**0.5)) if real else None,
    }


def checkpoint_share(start: float, checkpoints: Sequence[Record]) -> float:
    """Return Σ‖Δ‖² / (‖θ_T‖² - ‖θ_0‖²) for the differences Δ of successive checkpoints.

    Args:
        start: ‖θ_0‖.
        checkpoints: each with its cosine to the one before it.
    """
    norms = np.array([start, *(record.norm for record in checkpoints)])
    cosines = np.array([record.cosine for record in checkpoints])
    squares = np.square(norms)
    differences = squares[1:] + squares[:-1] - 2 * norms[1:] * norms[:-1] * cosines
    growth = squares[-1] - squares[0]
    return float(differences.sum() / growth) if growth else np.nan


def _misaligned(path: Sequence[Record]) -> Misaligned:
    table = np.array([(r.step, r.size, r.before, r.norm) for r in path], dtype=float)
    return misaligned(*table.T)
