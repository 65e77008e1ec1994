"""Saturation layer by layer: the cosine of a state with its limit, at 1000 times the parameters.

(a) Our language models in training, AdamW at the constant rate 0.01 without decay: a line for
each block, over positions of held-out text. (b) Large models, pretrained and with random
weights, as arXiv 2010.09697 has them.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from asymptest.paper_figures.reported import LABEL, reported
from asymptest.paper_figures.style import (
    BLACK,
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    save,
    style,
)
from asymptest.paper_figures.trained import Result, chosen, trained

SHOWN = {"optimiser": "adamw", "schedule": "constant", "rate": 0.01, "decay": 0.0}
OURS = {
    "sublayer": ("sublayer norm", GREEN),
    "pre": ("pre-LN", BLUE),
    "post": ("post-LN", VERMILION),
}
THEIRS = {  # name, colour, and the cosine beside which the name is written
    "t5-base": ("T5", PURPLE, 0.93),
    "xlnet-base-cased": ("XLNet", SKY, 0.83),
    "roberta-base": ("RoBERTa", ORANGE, 0.65),
    "bert-base-cased": ("BERT", BLACK, 0.13),
}


def draw(
    out: Path, report: Path | None = None, folder: Path | None = None
) -> list[Path]:
    """Write saturation_by_layer.pdf and .png from `trained(folder)`; no report is read."""
    del report
    with style():
        runs = chosen(trained(folder), group="growth", **SHOWN)
        return save(figure(runs), out, "saturation_by_layer")


def figure(runs: list[Result]) -> Figure:
    """Return the figure of these runs; call it inside `style()`."""
    drawn = Figure(figsize=(COLUMN, 3.5), layout="constrained")
    (upper,), (lower,) = drawn.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.15))
    upper.suptitle(r"$\bf{a}$  our language models, in training", fontsize=8)
    lower.suptitle(rf"$\bf{{b}}$  large models, read off {LABEL}", fontsize=8)
    panels = upper.subplots(1, len(OURS), sharex=True, sharey=True)
    for axes, (architecture, (name, colour)) in zip(panels, OURS.items(), strict=True):
        axes.set_title(name, color=colour)
        for run in chosen(runs, architecture=architecture):
            _blocks(axes, run, colour)
    panels[0].set(ylim=(0, 1.03), ylabel="cosine with limit")
    panels[1].set_xlabel("training step")
    _models(lower.subplots())
    return drawn


def _blocks(axes: Axes, run: Result, colour: str) -> None:
    steps = [landmark["step"] for landmark in run["landmarks"]]
    cosines = np.array([landmark["cosine"] for landmark in run["landmarks"]])
    blocks = cosines.shape[1]
    shades = LinearSegmentedColormap.from_list("depth", ("white", colour, "black"))
    for k, shade in enumerate(np.linspace(0.2, 0.75, blocks)):
        label = f"block {k + 1}" if k in (0, blocks - 1) else None
        axes.plot(steps, cosines[:, k], ".-", color=shades(shade), label=label, ms=2.5)
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)  # it begins before step 1
    axes.set_xticks((0, 1, 100), ("0", "1", "100"))
    axes.legend(loc="lower right")


def _models(axes: Axes) -> None:
    paper = reported()["saturation_by_layer"]
    for model, (name, colour, height) in THEIRS.items():
        for state, line in (("pretrained", ".-"), ("random", ".:")):
            cosines = paper[state][model]
            axes.plot(range(1, len(cosines) + 1), cosines, line, color=colour)
        axes.text(12.3, height, name, color=colour, va="center")
    axes.set(xlim=(0.5, 14.5), ylim=(-0.1, 1.03), xticks=(1, 4, 8, 12))
    axes.set(xlabel="layer", ylabel="cosine with limit")
    key = [
        Line2D([], [], color=GREY, ls=line, label=label)
        for line, label in (("-", "pretrained"), (":", "random weights"))
    ]
    axes.legend(handles=key, loc="upper left", ncols=2, columnspacing=1)
