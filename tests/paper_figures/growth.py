"""Small runs for the figures of norm growth, in the form of the training command."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

STEPS = np.arange(201.0)
POWERS = {"sublayer": 1.3, "pre": 1.0, "post": 0.5}
KAPPA = 0.5

CHANGES = {  # of the norm, relative, by rate and decay
    (1e-3, 1e-3): 0.2,
    (1e-3, 3e-3): 1e-3,
    (1e-3, 1e-2): -0.3,
    (1e-2, 1e-3): 0.0,
    (1e-2, 3e-3): math.nan,
    (1e-2, 1e-2): -1e-3,
    (1e-3, 1e-1): -0.5,
}


def run_of(norms: np.ndarray, sizes: np.ndarray | None = None, **spec: Any) -> dict:
    """Return the result of a run with these norms, the first before any step.

    Args:
        norms: of the parameters.
        sizes: of the steps; 1 by default.
        spec: what differs from AdamW on the pre-LN architecture at a constant rate.
    """
    from asymptest.verify.training.profiles import Spec
    from asymptest.verify.training.recorder import Record
    from asymptest.verify.training.summary import summary

    count = len(norms) - 1
    common = {"architecture": "pre", "optimiser": "adamw", "schedule": "constant"}
    found = Spec(**{"decay": 0.0, "rate": 0.01, "steps": count, **common, **spec})
    sizes = np.ones(count) if sizes is None else sizes
    ends = zip(norms[:-1].tolist(), norms[1:].tolist(), sizes.tolist(), strict=True)
    path = [Record(k, r, s, 0.0, d, 1.0) for k, (r, s, d) in enumerate(ends, start=1)]
    spacing = count // found.points
    even, losses = path[spacing - 1 :: spacing], [1.0] * count
    return {"spec": asdict(found), **summary(path, even, losses, found.points)}


def growth_runs() -> list[dict]:
    """Return three runs of norm 3 t^p + 90, one that shrinks, and one of misaligned steps."""
    powers = [
        run_of(3 * STEPS**p + 90, group="growth", architecture=architecture)
        for architecture, p in POWERS.items()
    ]
    sgd = {"optimiser": "sgd", "rate": 0.1, "decay": 0.001}
    shrinks = run_of(90 - STEPS**0.5, group="growth", **sgd)
    norms = 90 * np.cumprod([1, *(1 + KAPPA**2 / STEPS[1:]) ** 0.5])
    sizes = KAPPA * norms[:-1] / STEPS[1:] ** 0.5
    adafactor = {"optimiser": "adafactor", "rate": 0.05}
    return [*powers, shrinks, run_of(norms, sizes, group="growth", **adafactor)]


def grid_runs() -> list[dict]:
    """Return a run for each of `CHANGES`; one that is not finite is a string there."""
    runs = []
    for (rate, decay), change in CHANGES.items():
        norms = np.linspace(8, 8 * (1 + change), 9)
        run = run_of(norms, group="grid", rate=rate, decay=decay, points=4)
        runs.append(run if math.isfinite(change) else run | {"change": "nan"})
    return runs


def small_growth(folder: Path):
    """Return the figure's module, and the folder of its runs."""
    from asymptest.paper_figures import norm_growth

    return norm_growth, _written(folder / "growth", growth_runs())


def small_grid(folder: Path):
    """Return the figure's module, and the folder of its runs."""
    from asymptest.paper_figures import growth_sign

    return growth_sign, _written(folder / "grid", grid_runs())


def _written(folder: Path, results: list[dict]) -> Path:
    folder.mkdir()
    for number, result in enumerate(results):
        (folder / f"{number}.json").write_text(json.dumps(result))
    return folder
