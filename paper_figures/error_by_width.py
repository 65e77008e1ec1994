"""How far finite networks stray from the limit: the slope, and the constant.

(a) one Gaussian layer on a given kernel, (b) chains of layers, (c) their ratio to
the prediction: a slightly wrong constant looks right in (a) and (b), but not in (c).
The predictions are exact at every width (theory/fluctuation.py), none is fitted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from asymptest.numerics.moments import dense_variance
from asymptest.paper_figures.measured import (
    Effort,
    Kernel,
    Points,
    Series,
    saved_series,
    series,
    squared_errors,
)
from asymptest.paper_figures.style import (
    BLACK,
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    PURPLE,
    VERMILION,
    save,
    style,
)
from asymptest.theory import Dense
from asymptest.verify.results import read_report
from asymptest.verify.stochastic import single_thread

Init = Literal["gaussian", "orthogonal"]

COLOURS = (BLUE, GREEN, VERMILION)  # by depth
SAVED = (PURPLE, "D")  # colour and marker
LAYER_CLAIM, CHAIN_CLAIM = (
    "fluctuation/gaussian-input-error",
    "fluctuation/gaussian-chain-variance",
)


GAUSSIAN, ORTHOGONAL = Effort(), Effort(most=2, least=2)


@dataclass(frozen=True)
class Sizes:
    """What to measure.

    Args:
        widths: n.
        depths: L of the Gaussian chains.
        positions: T; at most the smallest width.
        effort: how much to sample.
        orthogonal: the same for orthogonal weights, whose errors are rounding only.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    depths: tuple[int, ...] = (1, 4, 16)
    positions: int = 32
    effort: Effort = GAUSSIAN
    orthogonal: Effort = ORTHOGONAL


@dataclass(frozen=True, eq=False)
class Measured:
    """The series of the figure; `saved` are those of a report, by claim."""

    layer: Series
    chains: Mapping[int, Series]
    orthogonal: Series
    saved: Mapping[str, Series]


def draw(out: Path, report: Path | None = None, sizes: Sizes = Sizes()) -> list[Path]:
    """Write error_by_width.pdf and .png, with the points that `report` holds."""
    with single_thread():
        data = measure(sizes, report)
    with style():
        return save(figure(data), out, "error_by_width")


def measure(sizes: Sizes, report: Path | None = None) -> Measured:
    """Sample the finite networks, and evaluate what is predicted for them."""
    names = (LAYER_CLAIM, CHAIN_CLAIM)
    verdicts = [] if report is None else read_report(report)
    saved = {name: saved_series(verdicts, name) for name in names}
    deepest = max(sizes.depths)
    return Measured(
        layer(sizes),
        {
            depth: chain(sizes, depth, "gaussian", sizes.effort)
            for depth in sizes.depths
        },
        chain(sizes, deepest, "orthogonal", sizes.orthogonal),
        {name: found for name, found in saved.items() if found is not None},
    )


def input_kernel(T: int) -> Kernel:
    """Return a kernel whose positions differ in size and are correlated."""
    position = np.arange(T)
    size = np.linspace(0.5, 1.5, T)
    near = np.exp(-abs(position[:, None] - position) / 4)
    return size[:, None] * near * size


def layer(sizes: Sizes) -> Series:
    """Return the rms error over all entries of K after one Gaussian layer."""
    K0 = input_kernel(sizes.positions)
    errors = [squared_errors(Dense(), K0, 1, n, sizes.effort) for n in sizes.widths]
    predicted = [dense_variance(Dense(), K0, n).mean() for n in sizes.widths]
    return series(sizes.widths, [e.mean((1, 2)) for e in errors], np.sqrt(predicted))


def chain(sizes: Sizes, depth: int, init: Init, effort: Effort) -> Series:
    """Return the rms of K_ii / E K_ii - 1 after `depth` layers, where E K_ii = 1.

    A layer's variance is a multiple v of K_ii^2, so E K_ii^2 grows by 1 + v a layer.
    """
    layer = Dense(init=init)
    eye = np.eye(sizes.positions)
    errors = [
        squared_errors(layer * depth, eye, depth, n, effort) for n in sizes.widths
    ]
    v = np.array([dense_variance(layer, np.eye(1), n).item() for n in sizes.widths])
    rows = [np.diagonal(e, axis1=1, axis2=2).mean(1) for e in errors]
    return series(sizes.widths, rows, np.sqrt((1 + v) ** depth - 1))


def figure(data: Measured) -> Figure:
    """Return the figure of `measure(sizes)`; call it inside `style()`."""
    fig = Figure(figsize=(COLUMN, 4.6), layout=ConstrainedLayoutEngine(hspace=0.01))
    grid = fig.subplots(4, 1, sharex=True, height_ratios=(2.6, 3, 0.7, 2.4))
    one, many, exact, ratio = grid
    _layer_panel(one, data)
    _chain_panels(many, exact, data)
    _ratio_panel(ratio, data)
    return fig


def _layer_panel(axes: Axes, data: Measured) -> None:
    _plot(axes, data.layer, BLACK)
    if LAYER_CLAIM in data.saved:
        _plot(axes, data.saved[LAYER_CLAIM], *SAVED)
    _logarithmic(axes)
    axes.set_ylabel(r"rms of $\hat K_{ij}-K_{ij}$")
    _title(axes, "a", "one Gaussian layer")
    constant = r"[\,\mathrm{mean}_{ij}(K_{ii}K_{jj}+K_{ij}^2)\,/\,n\,]^{1/2}"
    _formula(axes, constant)


def _chain_panels(upper: Axes, lower: Axes, data: Measured) -> None:
    """Draw one logarithmic axis in two parts: nothing lies between 1e-14 and 0.01."""
    for (depth, found), colour in zip(data.chains.items(), COLOURS, strict=False):
        _plot(upper, found, colour)
        end = (found.widths[-1], found.predicted[-1])
        right = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
        upper.annotate(
            f"$L={depth}$", end, color=colour, annotation_clip=False, **right
        )
    if CHAIN_CLAIM in data.saved:
        _plot(upper, data.saved[CHAIN_CLAIM], *SAVED)
    _logarithmic(upper)
    upper.set_ylabel(r"rms of $\hat K_{ii}/K_{ii}-1$")
    _title(upper, "b", "$L$ Gaussian layers")
    _formula(upper, r"[\,(1+2/n)^L-1\,]^{1/2}")

    exact, deepest = data.orthogonal, len(data.chains) - 1
    points = {"marker": "s", "mfc": "white", "mew": 0.8, "linestyle": "none"}
    lower.plot(exact.widths, exact.measured, color=COLOURS[deepest], **points)
    lower.set(yscale="log", ylim=(1e-16, 5e-14), yticks=(1e-15,))
    lower.yaxis.set_minor_locator(NullLocator())
    text = f"$L={max(data.chains)}$ orthogonal layers: rounding only"
    place = {"transform": lower.transAxes, "ha": "right", "va": "top"}
    lower.text(0.99, 1, text, color=COLOURS[deepest], **place)

    upper.spines["bottom"].set_visible(False)
    upper.tick_params(axis="x", which="both", bottom=False)
    slash = {"marker": [(-1, -0.5), (1, 0.5)], "markersize": 5, "clip_on": False}
    for axes, end in ((upper, 0), (lower, 1)):
        axes.plot([0], [end], **slash, color=BLACK, mew=0.6, transform=axes.transAxes)


def _ratio_panel(axes: Axes, data: Measured) -> None:
    drawn = [(data.layer, BLACK, "o")]
    drawn += [(s, c, "o") for s, c in zip(data.chains.values(), COLOURS, strict=False)]
    drawn += [(found, *SAVED) for found in data.saved.values()]
    axes.axhline(1, color=GREY, linewidth=0.8)
    for place, (found, colour, marker) in enumerate(drawn):
        # Moved aside a little, so that the intervals of one width do not overlap.
        shift = 1.07 ** (place - (len(drawn) - 1) / 2)
        _bars(axes, found.widths * shift, found, found.predicted, colour, marker)
    widths = sorted({float(n) for found, *_ in drawn for n in found.widths})
    axes.set(xscale="log", xlabel="width $n$", ylabel="measured / predicted")
    axes.set_xticks(widths, [f"{n:.0f}" for n in widths])
    axes.xaxis.set_minor_locator(NullLocator())
    _title(axes, "c", "points over lines, 95 % intervals")
    if data.saved:
        axes.plot(
            [], [], SAVED[1], color=SAVED[0], mfc="white", label="saved by the check"
        )
        axes.legend(loc="upper left", handletextpad=0.2)


def _plot(axes: Axes, found: Series, colour: str, marker: str = "o") -> None:
    axes.plot(found.widths, found.predicted, "-", color=colour)
    _bars(axes, found.widths, found, np.ones_like(found.widths), colour, marker)


def _bars(
    axes: Axes, x: Points, found: Series, unit: Points, colour: str, marker: str = "o"
) -> None:
    ends = np.array([found.measured - found.low, found.high - found.measured]) / unit
    look = {"color": colour, "mfc": "white", "elinewidth": 0.8, "mew": 0.8}
    axes.errorbar(x, found.measured / unit, ends, fmt=marker, **look)


def _logarithmic(axes: Axes) -> None:
    """Set a logarithmic axis whose labels are plain numbers."""
    axes.set(yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _title(axes: Axes, letter: str, text: str) -> None:
    axes.set_title(rf"$\bf{{{letter}}}$  {text}", loc="left")


def _formula(axes: Axes, prediction: str) -> None:
    text = f"lines: ${prediction}$"
    axes.text(0.03, 0.08, text, transform=axes.transAxes, color=GREY)
