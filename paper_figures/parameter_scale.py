"""What large parameters leave: the angle between f(x; c theta) and its limit, against c.

Dots are torch in float64, with every parameter multiplied by c; lines are the limit F and its
first correction, evaluated exactly (numerics/leading.py): 1 - cos falls as c^-2p where a sum
leaves out the order p. Without such a sum only softmax differs from its argmax
(soft_attention.py), and the angle falls below rounding at once.

Dots that stay above their line at middle c, such as the plateau of the network with biases,
are no error: a lower power of c still decides some argmax there. Once the leading power does,
they are on the line. Crosses are what arXiv 2010.09697 measured on networks of its own,
between c theta and 1000 theta.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from asymptest.numerics import Leading, leading
from asymptest.paper_figures.reported import LABEL, reported
from asymptest.paper_figures.style import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    PURPLE,
    VERMILION,
    save,
    style,
)
from asymptest.theory import (
    Attention,
    Dense,
    LayerNorm,
    Mlp,
    Network,
    Residual,
    Softmax,
    degree,
    relu,
)
from asymptest.verify.finite import finite
from asymptest.verify.weights_of import load_weights, weights_of

HEAD, MLP, NORM = (
    Attention(Softmax(), mask="causal", heads=2),
    Mlp(relu, 2),
    LayerNorm(affine=True),
)
BIAS = Dense(bias_variance=1)
BIASED = Attention(Softmax(), mask="causal", heads=2, value=BIAS, output=BIAS)
Place = tuple[float, float, Literal["left", "right"]]


@dataclass(frozen=True)
class Shown:
    """A network: its block, its name and where to write it, and its key in `reported()`."""

    block: Network
    name: str
    colour: str
    place: Place  # c, 1 - cos, and the end of the text that is there
    reported: str | None = None


SHOWN = (
    Shown(
        Residual(HEAD >> NORM) >> Residual(MLP >> NORM),
        "sublayer norm",
        GREEN,
        (3.3, 2e-8, "left"),
        "sublayer",
    ),
    Shown(
        Residual(BIASED >> NORM) >> Residual(MLP >> NORM),
        "sublayer norm,\nbiases",
        PURPLE,
        (1000, 1e-4, "right"),
        "sublayer_bias",
    ),
    Shown(
        Residual(NORM >> HEAD) >> Residual(NORM >> MLP),
        "pre-LN",
        BLUE,
        (100, 4e-10, "right"),
    ),
    Shown(
        Residual(HEAD) >> NORM >> Residual(MLP) >> NORM,
        "post-LN",
        VERMILION,
        (1000, 3e-8, "right"),
        "post",
    ),
)
DOT: dict[str, Any] = {"ls": "", "marker": "."}
LINE: dict[str, Any] = {"lw": 0.8}
CROSS: dict[str, Any] = {"ls": "", "marker": "x", "ms": 2.5, "mew": 0.6}
FLOOR = 1e-16
Curve = Float[np.ndarray, " scales"]


@dataclass(frozen=True)
class Sizes:
    """What to show: blocks, width, positions, and the scales c = 2^0 ... 2^octaves."""

    blocks: int = 2
    width: int = 16
    positions: int = 10
    octaves: int = 10
    seed: int = 0

    @property
    def scales(self) -> Curve:
        """The factors of all parameters."""
        return 2.0 ** np.arange(0, self.octaves + 0.25, 0.5)


def draw(out: Path, report: Path | None = None, sizes: Sizes = Sizes()) -> list[Path]:
    """Write parameter_scale.pdf and .png; no claim's report is read."""
    del report
    with style():
        return save(figure(sizes), out, "parameter_scale")


def angles(network: Network, sizes: Sizes) -> tuple[Curve, Curve]:
    """Return 1 - cos of torch's f(x; c theta) with F, and the prediction, by c."""
    rng = np.random.default_rng(sizes.seed)
    module = finite(network, sizes.width, rng=rng)
    X = rng.normal(size=(sizes.positions, sizes.width))
    weights = weights_of(module)
    found = leading(network, weights, X)
    limit = found.floats()
    measured, predicted = [], []
    for c in sizes.scales:
        scaled = [{name: c * W for name, W in layer.items()} for layer in weights]
        load_weights(module, scaled)
        with torch.no_grad():
            output = module(torch.from_numpy(c * X))[0].numpy()
        measured.append(one_minus_cosine(output, limit))
        predicted.append(one_minus_cosine(first_two(found, float(c)), limit))
    return np.array(measured), np.array(predicted)


def first_two(found: Leading, c: float) -> Float[np.ndarray, "T n"]:
    """Return the limit and its first correction at c, over the leading power of c."""
    powers = [k for k in found.series.powers if k <= found.power][:2]
    parts = (
        np.vectorize(float, otypes=[float])(found.series.parts[k])
        * c ** (k - found.power)
        for k in powers
    )
    return np.sum(list(parts), axis=0)


def one_minus_cosine(X: Float[np.ndarray, "T n"], Y: Float[np.ndarray, "T n"]) -> float:
    """Return 1 - cos of rows, averaged over rows, without cancellation."""
    unit_x = X / np.linalg.norm(X, axis=1, keepdims=True)
    unit_y = Y / np.linalg.norm(Y, axis=1, keepdims=True)
    return float(np.mean(np.sum((unit_x - unit_y) ** 2, axis=1) / 2))


def figure(sizes: Sizes) -> Figure:
    """Return the figure; call it inside `style()`."""
    drawn = Figure(figsize=(COLUMN, 2.9), layout="constrained")
    axes = drawn.subplots()
    for shown in SHOWN:
        _network(axes, shown, sizes)
    axes.set(
        xscale="log",
        yscale="log",
        ylim=(FLOOR, 3),
        xlabel="scale $c$ of all parameters",
        ylabel=r"$1 - \cos(f(x; c\,\theta), F)$",
    )
    theirs = f"read off {LABEL}\n(12 blocks of width 768)"
    kinds = (DOT, "torch, float64"), (LINE, "limit, first correction"), (CROSS, theirs)
    key = [Line2D([], [], color=GREY, label=label, **kind) for kind, label in kinds]
    axes.legend(handles=key, loc="lower left", bbox_to_anchor=(0.24, 0), handlelength=1)
    return drawn


def _network(axes: Axes, shown: Shown, sizes: Sizes) -> None:
    network, colour = shown.block * sizes.blocks, shown.colour
    for values, kind in zip(angles(network, sizes), (DOT, LINE), strict=True):
        above = values > FLOOR
        axes.plot(sizes.scales[above], values[above], color=colour, **kind)
    if shown.reported is not None:
        paper = reported()["scaling"]
        axes.plot(
            paper["c"], 1 - np.array(paper[shown.reported]), color=colour, **CROSS
        )
    order = degree(network).algebraic
    rate = "" if order is None else rf": $c^{{-{2 * order}}}$"
    x, y, end = shown.place
    axes.text(x, y, shown.name + rate, color=colour, ha=end, va="center")
