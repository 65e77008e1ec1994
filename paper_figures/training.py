"""What trains in depth: pre-LN, and networks without any skip or norm, shaped or not.

The mean training loss of three seeds by step, of character models of 16 and of 48 blocks on the
same budget, and the loss on text that is not trained on; bands and bars are 95 % confidence
intervals of the mean. Runs: `python -m asymptest.verify.training --profile deep`.

Source of the comparison: arXiv 2302.10322; models, text and sizes are ours.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import stdtrit

from asymptest.paper_figures.style import (
    BLACK,
    BLUE,
    COLUMN,
    GREEN,
    ORANGE,
    VERMILION,
    save,
    style,
)
from asymptest.paper_figures.trained import Result, chosen, trained
from asymptest.theory.errors import ArgumentError

METHODS = {
    "pre": ("pre-LN", BLACK),
    "vanilla": ("vanilla", VERMILION),
    "v-skipinit": ("V-SkipInit", BLUE),
    "u-spa": ("U-SPA", ORANGE),
    "e-spa": ("E-SPA", GREEN),
}
LEVEL = 0.95
Values = Float[np.ndarray, " _"]


def draw_runs(
    out: Path, report: Path | None = None, folder: Path | None = None
) -> list[Path]:
    """Write training.pdf and .png from `trained(folder)`; no report is read."""
    del report
    runs = chosen(trained(folder), group="deep")
    if not runs:
        raise ArgumentError(
            "there are no saved runs of deep models; asymptest figures training --run "
            "trains them"
        )
    with style():
        return save(figure(runs), out, "training")


def mean_and_reach(rows: Float[np.ndarray, "seeds _"]) -> tuple[Values, Values]:
    """Return the mean over seeds and half the width of its confidence interval.

    >>> mean_and_reach(np.array([[1.0], [2.0], [3.0]]))[1].round(3)
    array([2.484])
    """
    seeds = len(rows)
    if seeds < 2:
        return rows.mean(0), np.zeros(rows.shape[1])
    deviation = rows.std(0, ddof=1) / seeds**0.5
    return rows.mean(0), float(stdtrit(seeds - 1, (1 + LEVEL) / 2)) * deviation


def figure(runs: list[Result]) -> Figure:
    """Return the figure of the deep runs; call it inside `style()`."""
    depths = sorted({run["spec"]["depth"] for run in runs})
    fig = Figure(figsize=(2 * COLUMN, 2.4), layout="constrained")
    *panels, last = fig.subplots(
        1, len(depths) + 1, width_ratios=[1.2] * len(depths) + [1]
    )
    for axes, depth in zip(panels, depths, strict=True):
        _curves(axes, chosen(runs, depth=depth))
        axes.set(title=f"{depth} blocks", xlabel="step", ylabel="training loss in nats")
    panels[0].legend(borderaxespad=0, labelspacing=0.2)
    _ends(last, runs, depths)
    for axes in panels[1:]:
        axes.sharey(panels[0])
    return fig


def _curves(axes: Axes, runs: list[Result]) -> None:
    for method, (name, colour) in METHODS.items():
        curves = [run["curve"] for run in chosen(runs, architecture=method)]
        if not curves:
            continue
        step = np.array(curves[0]["step"])
        losses = np.array([curve["loss"] for curve in curves], dtype=float)
        mean, reach = mean_and_reach(losses)
        axes.plot(step, mean, color=colour, label=name)
        axes.fill_between(
            step, mean - reach, mean + reach, color=colour, alpha=0.25, lw=0
        )


def _ends(axes: Axes, runs: list[Result], depths: list[int]) -> None:
    """Draw the held-out loss after the last step, a column for each depth."""
    for at, depth in enumerate(depths):
        for k, (method, (_, colour)) in enumerate(METHODS.items()):
            ends = [
                float(run["landmarks"][-1]["held_out_loss"])
                for run in chosen(runs, architecture=method, depth=depth)
            ]
            if not ends:
                continue
            mean, reach = mean_and_reach(np.array(ends)[:, None])
            place = at + (k - (len(METHODS) - 1) / 2) / (len(METHODS) + 1)
            axes.errorbar(
                place, mean, reach, fmt="o", color=colour, ms=3, capsize=1.5, lw=0.8
            )
    axes.set_xticks(range(len(depths)), [f"{depth} blocks" for depth in depths])
    axes.set(title="after training", ylabel="held-out loss in nats")
