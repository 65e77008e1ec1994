"""How many positions saturated heads attend to, under a causal mask and under a product.

The code of arXiv 2010.09697 masks by a product, softmax(mask * scores), which leaves hidden
scores at 0 (verify/catalogue/heads.py). Where all scores are negative, row i < T then attends
to its T - i future positions, and a head to (T (T - 1) / 2 + 1) / T on average: next to the
(T + 1) / 2 of a mean head, which under a mask of -inf none of these heads comes near.

A head has scores of one sign if the states share a direction, so that queries and keys do. Some
of these random networks are given embeddings that share one, others independent ones, of
which each row soon has a positive score. The paper's networks were trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asymptest.paper_figures.reported import LABEL, reported
from asymptest.paper_figures.style import (
    BLACK,
    BLUE,
    COLUMN,
    GREY,
    VERMILION,
    save,
    style,
)
from asymptest.theory import Attention, LayerNorm, Mlp, Residual, Softmax, relu
from asymptest.verify.catalogue.heads import ARTEFACT, C
from asymptest.verify.catalogue.heads import T as SIZE
from asymptest.verify.census import Head, census
from asymptest.verify.finite import FiniteNetwork, PatternModule, finite
from asymptest.verify.saturating import scaled
from asymptest.verify.training.blocks import EPS

Masking = Literal["-inf", "product"]
Shown = tuple[Masking, float]  # and the correlation of the embeddings
Counts = Float[np.ndarray, " heads"]

SHARED = 0.95  # the correlation of embeddings that share a direction
COLOURS: dict[Shown, str] = {
    ("-inf", SHARED): BLUE,
    ("product", 0.0): GREY,
    ("product", SHARED): VERMILION,
}
LABELS: dict[
    Shown, tuple[float, float, str]
] = {  # and where they are, in parts of the axes
    ("-inf", SHARED): (0.04, 0.86, "mask of $-\\infty$"),
    ("product", 0.0): (0.09, 0.51, "product,\nindependent\nembeddings"),
    ("product", SHARED): (0.53, 0.24, f"product,\nembeddings of\ncorrelation {SHARED}"),
}


@dataclass(frozen=True)
class Sizes:
    """The network: `blocks` of `heads` each; T = `positions`, in the paper 83."""

    blocks: int = 12
    heads: int = 12
    width: int = 96
    positions: int = 83
    seed: int = 0


def draw(out: Path, report: Path | None = None, sizes: Sizes = Sizes()) -> list[Path]:
    """Write head_census.pdf and .png; no claim's report is read."""
    del report
    with style():
        return save(figure(by_mask(sizes), sizes), out, "head_census")


def by_mask(sizes: Sizes) -> dict[Shown, Counts]:
    """Return the mean number of attended positions of each head, by what is shown."""
    return {
        shown: np.array([head.attended for head in census_of(*shown, sizes)])
        for shown in COLOURS
    }


def census_of(masking: Masking, correlation: float, sizes: Sizes) -> tuple[Head, ...]:
    """Return the census of one random network, the same under each mask, at C theta.

    Its states follow its mask; what it attends to in the future counts as hidden.
    """
    rng = np.random.default_rng(sizes.seed)
    common = rng.normal(size=sizes.width)
    own = rng.normal(size=(sizes.positions, sizes.width))
    X = correlation**0.5 * common + (1 - correlation) ** 0.5 * own
    module = scaled(network(masking, sizes), C)
    return census(module, torch.from_numpy(C * X), "causal")


def network(masking: Masking, sizes: Sizes) -> FiniteNetwork:
    """Return blocks X + N(S(X)); a product is a mask on the scores, not on the softmax."""
    mask = "causal" if masking == "-inf" else "full"
    attention = Attention(Softmax(), mask=mask, heads=sizes.heads)
    norm = LayerNorm(EPS, affine=True)
    block = Residual(attention >> norm) >> Residual(Mlp(relu) >> norm)
    found = finite(block * sizes.blocks, sizes.width, rng=sizes.seed)
    if masking == "product":
        for part in found.modules():
            if isinstance(part, PatternModule) and part.logits is not None:
                part.logits.register_forward_hook(lambda _, __, scores: scores.tril())
    return found


def artefact(T: int) -> float:
    """Return the mean count of a head whose scores are all negative, under a product."""
    return float(ARTEFACT.subs(SIZE, T))


def figure(data: Mapping[Shown, Counts], sizes: Sizes) -> Figure:
    """Return the figure of `by_mask(sizes)`; call it inside `style()`."""
    drawn = Figure(figsize=(COLUMN, 2.3), layout="constrained")
    ours, theirs = drawn.subplots(1, 2, sharey=True, width_ratios=(2.9, 1))
    ours.set(
        yscale="log", ylim=(0.7, 400), ylabel=f"heads, of {sizes.blocks * sizes.heads}"
    )
    _histograms(ours, data, sizes.positions)
    _reported(theirs)
    return drawn


def _histograms(axes: Axes, data: Mapping[Shown, Counts], T: int) -> None:
    edges = np.arange(T + 1) + 0.5  # so that 41.012 and 42 are in different bins
    for shown, counts in data.items():
        number, _ = np.histogram(counts, edges)
        x, y, label = LABELS[shown]
        axes.stairs(number, edges, color=COLOURS[shown], lw=0.8)
        look = {"color": COLOURS[shown], "linespacing": 1}
        axes.text(x, y, label, transform=axes.transAxes, **look)
    number, _ = np.histogram(data["product", SHARED], edges)
    axes.stairs(number, edges, color=VERMILION, fill=True, alpha=0.3, zorder=0)
    mean, negative = (T + 1) / 2, artefact(T)
    axes.axvline(negative, color=VERMILION, lw=0.6, ls=":")
    axes.axvline(mean, color=BLACK, lw=0.6, ls=":")
    beside: dict[str, Any] = {"va": "top", "linespacing": 1}
    beside |= {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate(f"mean head: {mean:g}", (mean, 0.96), (3, 0), **beside)
    note = f"all scores < 0:\n{negative:.3f}"
    axes.annotate(note, (mean, 0.86), (3, 0), color=VERMILION, **beside)
    axes.set(xlabel="attended positions", xlim=(-0.5, T + 1), xticks=(1, mean, T))


def _reported(axes: Axes) -> None:
    """Draw what the paper found under the product, in bars named by architecture."""
    for k, (name, found) in enumerate(reported()["heads"].items()):
        for x, number in ((k, found["first"]), (k + 2.6, found["last"])):
            axes.bar(x, number, 0.9, color=VERMILION, alpha=0.7)
            axes.text(x, number * 1.1, f"{number}", ha="center", fontsize=7)
            axes.text(x, 1, name, rotation=90, ha="center", va="bottom", color="white")
    axes.set_title("read off " + LABEL.replace(" ", "\n"), linespacing=1, fontsize=7.5)
    axes.set_xticks((0.5, 3.1), ("1 to\n1.4", "40.6\nto 41"), linespacing=1)
    axes.tick_params(axis="y", labelleft=False)
