"""Rank collapse: the kernel after L attention layers, for three attention patterns.

The input is T orthonormal positions, K0 = I. Heat maps show the correlations
K_ij / sqrt(K_ii K_jj); the panels below what they hide: how fast the smallest
correlation tends to 1, and what becomes of the scale mean_i K_ii.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asymptest.numerics import correlation, kernels
from asymptest.paper_figures.style import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    HEAT,
    VERMILION,
    save,
    style,
)
from asymptest.theory import Attention, Fixed, Uniform
from asymptest.theory.cesaro import leading_cosine_deficit
from asymptest.theory.substitution import put

Kernels = Float[np.ndarray, "depths T T"]
Curve = Float[np.ndarray, " depths"]

COLOURS = {"causal": BLUE, "full": VERMILION, "identity": GREEN}
LABELS = {
    "causal": "uniform,\ncausal",
    "full": "uniform,\nfull",
    "identity": "identity",
}
FLOOR = 1e-7  # of the axis of 1 - cos, far above rounding (T * 1e-16)


@dataclass(frozen=True)
class Sizes:
    """What to show: `positions` T, heat maps at `depths`, curves up to depth `last`."""

    positions: int = 64
    depths: tuple[int, ...] = (0, 1, 2, 4, 8)
    last: int = 16


def draw(out: Path, report: Path | None = None, sizes: Sizes = Sizes()) -> list[Path]:
    """Write kernels_by_depth.pdf and .png; nothing is sampled, so no report is read."""
    del report
    with style():
        return save(figure(by_pattern(sizes), sizes), out, "kernels_by_depth")


def by_pattern(sizes: Sizes) -> dict[str, Kernels]:
    """Return the kernels after 0, 1, ... layers, by pattern."""
    eye = np.eye(sizes.positions)
    layers = {
        "causal": Attention(Uniform(), mask="causal"),
        "full": Attention(Uniform(), mask="full"),
        "identity": Attention(Fixed(eye)),
    }
    return {name: kernels(layer * sizes.last, eye) for name, layer in layers.items()}


def deficit(K: Kernels) -> Curve:
    """Return 1 - min_ij cos_ij at each depth."""
    return np.array([1 - correlation(k).min() for k in K])


def causal_deficit(T: int, depth: Curve) -> Curve:
    """Return the leading order of `deficit` for uniform causal attention and K0 = I.

    The pair of the first and the last position is the slowest; theory/ derives its constant.
    """
    identity = {"K_11": 1, "K_22": 1, "K_12": 0, "i": 1, "j": T}
    return float(put(identity, leading_cosine_deficit())) * 4.0**-depth


def figure(data: Mapping[str, Kernels], sizes: Sizes) -> Figure:
    """Return the figure of `by_pattern(sizes)`; call it inside `style()`."""
    fig = Figure(figsize=(COLUMN, 3.2))
    # Square maps above panels of another width: placed by hand.
    maps = fig.add_gridspec(
        len(data),
        len(sizes.depths),
        **{"left": 0.17, "right": 0.86, "bottom": 0.485, "top": 0.935},
        wspace=0.1,
        hspace=0.04,
    )
    _heat_maps(fig, maps.subplots(squeeze=False), data, sizes)
    panels = {
        "left": 0.17,
        "right": 0.985,
        "bottom": 0.11,
        "top": 0.385,
        "wspace": 0.55,
    }
    left, right = fig.add_gridspec(1, 2, **panels).subplots(squeeze=False)[0]
    _deficits(left, data, sizes)
    _scales(right, data, sizes)
    for axes in (left, right):
        axes.set(xlabel=r"depth $\ell$", xticks=np.linspace(0, sizes.last, 5))
    return fig


def _heat_maps(
    fig: Figure, grid: np.ndarray, data: Mapping[str, Kernels], sizes: Sizes
) -> None:
    T = sizes.positions
    ends = (0.5, T + 0.5, T + 0.5, 0.5)
    for row, (name, K) in zip(grid, data.items(), strict=True):
        for axes, depth in zip(row, sizes.depths, strict=True):
            rho = correlation(K[depth])
            axes.imshow(rho, HEAT, vmin=0, vmax=1, extent=ends)
            axes.spines[:].set_visible(False)
            axes.set(xticks=(), yticks=())
        row[0].set_ylabel(LABELS[name], color=COLOURS[name], linespacing=0.95)
        row[0].yaxis.set_label_coords(-0.22, 0.5)
    for axes, depth in zip(grid[0], sizes.depths, strict=True):
        axes.set_title(f"depth {depth}" if depth == sizes.depths[0] else f"{depth}")
    corner = grid[-1, 0]
    corner.set(xticks=(1, T), yticks=(1, T))
    corner.tick_params(length=0, pad=1.5)
    below = {"xy": (0.5, 0), "xytext": (0, -2), "textcoords": "offset points"}
    middle = grid[-1, len(sizes.depths) // 2]
    middle.annotate(
        "position", xycoords="axes fraction", ha="center", va="top", **below
    )
    top, bottom = grid[0, -1].get_position().y1, corner.get_position().y0
    scale = fig.add_axes((0.88, bottom, 0.02, top - bottom))
    bar = fig.colorbar(grid[0, 0].images[0], cax=scale, ticks=(0, 0.5, 1))
    bar.set_label("correlation", labelpad=1)
    bar.outline.set_visible(False)


def _deficits(axes: Axes, data: Mapping[str, Kernels], sizes: Sizes) -> None:
    depth = np.linspace(0, sizes.last, 50)
    axes.plot(depth, causal_deficit(sizes.positions, depth), "--", color=GREY)
    for name, K in data.items():
        values = deficit(K)
        # A logarithmic axis has no zero: the curve of `full` leaves through the bottom.
        axes.plot(
            np.where(values > FLOOR, values, FLOOR / 1e3), ".-", color=COLOURS[name]
        )
    axes.set(yscale="log", ylim=(FLOOR, 30), ylabel=r"$1-\min_{ij}\,\rho_{ij}$")
    axes.text(1.2, FLOOR * 2, "full: 0 at depth 1", color=COLOURS["full"])
    axes.text(10, 3e-2, r"$\frac{(T-1)^2}{2}\,4^{-\ell}$", color=GREY)


def _scales(axes: Axes, data: Mapping[str, Kernels], sizes: Sizes) -> None:
    for name, K in data.items():
        axes.plot(np.diagonal(K, axis1=1, axis2=2).mean(1), ".-", color=COLOURS[name])
    T = sizes.positions
    axes.set(yscale="log", ylim=(0.5 / T, 2), ylabel="mean of $K_{ii}$")
    axes.text(sizes.last, 1.25 / T, "full: $1/T$", color=COLOURS["full"], ha="right")
