"""Soft attention becomes saturated attention: one head as its parameters grow.

The logits are c^2 z at parameters c theta. Tokens are letters without positions, so equal
ones have equal scores: these tie at every c, and share the weight in the limit. Below, row by
row, the l1 distance to the limit: dots are the head in torch, lines the exact

    2 R / (m + R),    R = sum over the other scores of exp(-c^2 gap),

where m scores are maximal (theory/saturation.py). Its logarithm falls by the least gap for
each unit of c^2.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sympy as sp
import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
from asymptest.theory import Attention, Softmax
from asymptest.theory.saturation import exact_error
from asymptest.verify.census import attention_of
from asymptest.verify.finite import PatternModule, finite
from asymptest.verify.saturated_attention import saturated_weights
from asymptest.verify.saturating import scaled

Matrix = Float[np.ndarray, "T T"]
Curves = Float[np.ndarray, "scales T"]

HEAD = Attention(Softmax(variance=1 / 16), mask="causal")  # soft at c = 1
COLOURS = {1: BLUE, 2: VERMILION, 3: GREEN}  # by the number of maximal scores
FLOOR = 1e-10  # of the axis of distances, far above rounding (T * 1e-16)
_m, _R = sp.symbols("m R")
distance = sp.lambdify((_m, _R), exact_error(_m, _R), "numpy")


@dataclass(frozen=True)
class Sizes:
    """What to show: the tokens, heat maps at four `scales`, and how many c the curves have."""

    tokens: str = "abcadbecabdc"
    width: int = 16
    scales: tuple[float, ...] = (1, 2, 4, 8)
    points: int = 31
    seed: int = 0

    @property
    def axis(self) -> Float[np.ndarray, " scales"]:
        """The c of the curves, evenly spaced in c^2."""
        first, *_, last = self.scales
        return np.linspace(first**2, last**2, self.points) ** 0.5


@dataclass(frozen=True)
class Data:
    """What is shown.

    Args:
        soft: attention matrices, by c.
        limit: the saturated one.
        measured: distances of the rows at each c of the axis.
        exact: the same by the formula.
    """

    soft: dict[float, Matrix]
    limit: Matrix
    measured: Curves
    exact: Curves


def draw(out: Path, report: Path | None = None, sizes: Sizes = Sizes()) -> list[Path]:
    """Write soft_attention.pdf and .png; no claim's report is read."""
    del report
    with style():
        return save(figure(measure(sizes), sizes), out, "soft_attention")


def measure(sizes: Sizes) -> Data:
    """Return the attention of a random head, its limit, and how far it is from that."""
    rng = np.random.default_rng(sizes.seed)
    head = finite(HEAD, sizes.width, rng=rng)
    letters = sorted(set(sizes.tokens))
    embedding = rng.normal(size=(len(letters), sizes.width))
    X = torch.from_numpy(embedding[[letters.index(token) for token in sizes.tokens]])

    def soft(c: float) -> Matrix:
        ((_, A),) = attention_of(scaled(head, c), X)
        return A[0, 0].numpy()

    (pattern,) = (part for part in head.modules() if isinstance(part, PatternModule))
    with torch.no_grad():
        scores = pattern.hidden_logits(X[None])[0, 0]
    limit = saturated_weights(scores).numpy()
    return Data(
        {c: soft(c) for c in sizes.scales},
        limit,
        np.array([abs(soft(c) - limit).sum(1) for c in sizes.axis.tolist()]),
        np.array([exact_distance(scores.numpy(), limit > 0, c) for c in sizes.axis]),
    )


def exact_distance(
    scores: Matrix, maximal: Bool[np.ndarray, "T T"], c: float
) -> Float[np.ndarray, " T"]:
    """Return 2 R / (m + R) of each row at c.

    Args:
        scores: at c = 1, -inf where hidden.
        maximal: which of them are, in each row.
        c: the factor of the parameters.
    """
    gap = scores.max(1, keepdims=True) - scores
    R = np.exp(-(c**2) * gap).sum(1, where=~maximal)
    return distance(maximal.sum(1), R)


def figure(data: Data, sizes: Sizes) -> Figure:
    """Return the figure of `measure(sizes)`; call it inside `style()`."""
    fig = Figure(figsize=(COLUMN, 3.95))
    # Square maps above a wide panel: placed by hand.
    maps = {"left": 0.06, "right": 0.985, "bottom": 0.49, "top": 0.99}
    grid = fig.add_gridspec(2, 3, **maps, wspace=0.12, hspace=0.12)
    *cells, last = grid.subplots(squeeze=False).ravel()
    named = {f"$c = {c:g}$": A for c, A in data.soft.items()} | {"limit": data.limit}
    for axes, (name, A) in zip(cells, named.items(), strict=True):
        _map(axes, A, name, sizes.tokens)
    last.axis("off")
    bar = fig.colorbar(
        cells[0].images[0],
        cax=last.inset_axes((0.1, 0.82, 0.8, 0.09)),
        orientation="horizontal",
    )
    bar.set_ticks((0, 0.5, 1), labels=("0", "1/2", "1"))
    bar.set_label("attention weight", labelpad=1)
    bar.outline.set_visible(False)
    note = "equal letters\nare equal tokens:\ntheir scores tie"
    last.text(0.5, 0.06, note, ha="center", linespacing=1)
    panel = {"left": 0.16, "right": 0.985, "bottom": 0.085, "top": 0.41}
    ((lower,),) = fig.add_gridspec(1, 1, **panel).subplots(squeeze=False)
    _distances(lower, data, sizes)
    return fig


def _map(axes: Axes, A: Matrix, name: str, tokens: str) -> None:
    hidden = np.triu(np.ones_like(A), 1).astype(bool)
    axes.imshow(np.ma.masked_array(A, hidden), HEAT, vmin=0, vmax=1)
    axes.spines[:].set_visible(False)
    places = range(len(tokens))
    axes.set_xticks(places, tokens)
    axes.set_yticks(places, tokens)
    axes.tick_params(length=0, pad=1, labelsize=5.5)
    axes.text(0.97, 0.97, name, ha="right", va="top", transform=axes.transAxes)


def _distances(axes: Axes, data: Data, sizes: Sizes) -> None:
    squares, ties = sizes.axis**2, (data.limit > 0).sum(1)
    for row, m in enumerate(ties):
        axes.plot(squares, data.exact[:, row], color=COLOURS[m], lw=0.8)
        axes.plot(squares, data.measured[:, row], ".", color=COLOURS[m], ms=2.5)
    shown = np.arange(sizes.scales[0], sizes.scales[-1] + 1)
    axes.set_xticks(shown**2, [f"{c:g}" for c in shown])
    axes.set(
        yscale="log",
        ylim=(FLOOR, 4),
        xlabel="scale $c$ of the parameters, spaced as $c^2$",
        ylabel=r"$\|$softmax $-$ limit$\|_1$",
    )
    labels = {m: f"$m = {m}$" for m in sorted(set(ties.tolist()))}
    key = [Line2D([], [], color=COLOURS[m], label=label) for m, label in labels.items()]
    key += [
        Line2D([], [], color=GREY, ls="", marker=".", ms=2.5, label="torch"),
        Line2D([], [], color=GREY, lw=0.8, label=r"$2R/(m+R)$"),
    ]
    axes.legend(handles=key, loc="lower left")
