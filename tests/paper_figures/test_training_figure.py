"""The figure of deep training, from runs that are made up."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from asymptest.paper_figures import training
from asymptest.paper_figures.style import style
from asymptest.theory.errors import ArgumentError


def run(architecture: str, depth: int, seed: int) -> dict:
    level = {"pre": 1.0, "vanilla": 3.0, "e-spa": 2.0}[architecture] + depth / 100
    return {
        "spec": {"group": "deep", "architecture": architecture, "depth": depth},
        "curve": {"step": [10, 20], "loss": [level + seed, level + 2 * seed]},
        "landmarks": [{"step": 20, "held_out_loss": level + seed}],
    }


RUNS = [
    run(architecture, depth, seed)
    for architecture in ("pre", "vanilla", "e-spa")
    for depth in (16, 48)
    for seed in (0, 1, 2)
]


def test_means_and_intervals_are_those_of_the_seeds() -> None:
    with style():
        first, second, ends = training.figure(RUNS).axes
    for axes, depth in ((first, 16), (second, 48)):
        lines = {line.get_label(): line.get_ydata() for line in axes.lines}
        assert lines["pre-LN"] == pytest.approx([2 + depth / 100, 3 + depth / 100])
        assert set(lines) == {"pre-LN", "vanilla", "E-SPA"}
    # One bar for each method and depth, as wide as Student's t says.
    heights = [np.ptp(bars[2][0].get_segments()[0][:, 1]) for bars in ends.containers]
    low, high = stats.t.interval(0.95, 2, loc=0, scale=1 / 3**0.5)
    assert heights == pytest.approx([high - low] * 6)


def test_no_runs_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"spec": {"group": "growth"}}')
    with pytest.raises(ArgumentError, match="figures training --run"):
        training.draw_runs(tmp_path, folder=tmp_path)
