"""Where training makes the norm of the parameters grow, by learning rate and weight decay.

A cell is a run of AdamW at a constant rate: its colour is the relative change of the norm from
start to end, its mark the sign, and a cross a run whose norm did not stay finite. Framed are the
decays, from 0.001 to 0.01, between which arXiv 2010.09697 has growth turn into shrinking.

Here the sign turns with the learning rate as much as with the decay: at the rate 0.01 every
norm grows at every decay in the frame, at the rate 0.0001 every one shrinks, and at 0.001 it is
the architecture that decides.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from asymptest.paper_figures.reported import LABEL
from asymptest.paper_figures.style import BLACK, COLUMN, save, style
from asymptest.paper_figures.trained import Result, chosen, trained
from asymptest.theory.errors import ArgumentError

TITLES = {"sublayer": "sublayer", "pre": "pre-LN", "post": "post-LN"}
DIVERGING = "RdBu_r"  # told apart with every common form of colour blindness
LEAST, MOST = 1e-4, 10.0  # colours tell changes between these apart
DARK = 0.02  # changes beyond it have dark cells
REPORTED = (1e-3, 1e-2)  # the decays between which the sign is reported to change
Ends = Float[np.ndarray, " _"]  # one more than there are cells


def draw(
    out: Path, report: Path | None = None, folder: Path | None = None
) -> list[Path]:
    """Write growth_sign.pdf and .png from `trained(folder)`; no report is read."""
    del report
    with style():
        runs = chosen(trained(folder), group="grid")
        return save(figure(runs), out, "growth_sign")


def relative_change(run: Result) -> float:
    """Return (end - start) / start of the norm; nan or infinite if that did not stay finite.

    >>> relative_change({"start": 8.0, "change": -2.0})
    -0.25
    >>> relative_change({"start": 8.0, "change": "nan"})
    nan
    """
    return float(run["change"]) / float(run["start"])


def mark(change: float) -> str:
    """Return the sign, or a cross if there is none.

    >>> [mark(change) for change in (0.1, -0.1, 0.0, float("nan"))]
    ['+', '−', '0', '×']
    """
    if not math.isfinite(change):
        return "×"
    return "0" if change == 0 else "+" if change > 0 else "−"


def cell_ends(values: list[float]) -> Ends:
    """Return the ends of cells around rising values > 0: half way on a logarithmic axis.

    Raises:
        ArgumentError: if there are fewer than two values.

    >>> cell_ends([1.0, 100.0, 10000.0]).round(9)
    array([1.e-01, 1.e+01, 1.e+03, 1.e+05])
    """
    if len(values) < 2:
        raise ArgumentError(
            f"cells need two or more learning rates and weight decays; got {values}; "
            "train the runs of the group 'grid'"
        )
    logs = np.log(values)
    middles = (logs[1:] + logs[:-1]) / 2
    first, last = 2 * logs[0] - middles[0], 2 * logs[-1] - middles[-1]
    return np.exp([first, *middles, last])


def figure(runs: list[Result]) -> Figure:
    """Return the figure of the grid of runs; call it inside `style()`."""
    rates = sorted({run["spec"]["rate"] for run in runs})
    decays = sorted({run["spec"]["decay"] for run in runs})
    x, y = cell_ends(rates), cell_ends(decays)
    colours = ScalarMappable(SymLogNorm(LEAST, vmin=-MOST, vmax=MOST), DIVERGING)
    fig = Figure(figsize=(COLUMN, 2.4), layout="constrained")
    panels = fig.subplots(1, len(TITLES), sharex=True, sharey=True)
    for axes, (architecture, title) in zip(panels, TITLES.items(), strict=True):
        axes.set(xscale="log", yscale="log", xlim=x[[0, -1]], ylim=y[[0, -1]])
        axes.set(title=title, xticks=rates[::2])
        axes.spines[:].set_visible(False)
        axes.minorticks_off()
        for run in chosen(runs, architecture=architecture):
            _cell(axes, run, x, y, colours)
        every = (rates[0], rates[-1])
        axes.add_patch(_box(x, y, every, REPORTED, fc="none", ec=BLACK))
    panels[0].set_ylabel("weight decay")
    panels[1].set_xlabel("learning rate")
    fig.supxlabel(f"framed: where {LABEL} has the sign change", fontsize=7.5)
    ticks = [sign * 10.0**k for sign in (-1, 1) for k in (-4, -2, 0)]
    bar = fig.colorbar(colours, ax=panels, aspect=30, pad=0.02, ticks=[0, *ticks])
    bar.ax.set_ylim(-1, MOST)  # no norm shrinks to less than 0
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label(r"$(\|\theta_T\|-\|\theta_0\|)\,/\,\|\theta_0\|$")
    return fig


def _cell(axes: Axes, run: Result, x: Ends, y: Ends, colours: ScalarMappable) -> None:
    rate, decay = run["spec"]["rate"], run["spec"]["decay"]
    change = relative_change(run)
    finite = math.isfinite(change)
    face = colours.to_rgba(np.array(change)) if finite else "white"
    axes.add_patch(_box(x, y, (rate, rate), (decay, decay), fc=face, ec="white"))
    ink = "white" if finite and abs(change) > DARK else BLACK
    axes.text(rate, decay, mark(change), color=ink, ha="center", va="center")


def _box(
    x: Ends,
    y: Ends,
    rates: tuple[float, float],
    decays: tuple[float, float],
    **look: Any,
) -> Rectangle:
    """Return the box of the cells from one rate and decay to another."""
    first, last = np.searchsorted(x, rates) - (1, 0)
    bottom, top = np.searchsorted(y, decays) - (1, 0)
    left, right, bottom, top = map(float, (x[first], x[last], y[bottom], y[top]))
    return Rectangle((left, bottom), right - left, top - bottom, lw=0.6, **look)
