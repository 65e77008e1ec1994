r"""How the norm of the parameters grows in training, and whether misaligned steps explain it.

(a) AdamW at the constant rate 0.01, without decay: dots are measured, the dashed line is the
best a √t + b, the solid one the best a t^p + b. (b) The same for T5, as arXiv 2010.09697 has
it. (c) The slope of log ‖θ_t‖ in log t over the last decade of steps, against κ²/2: what it
would be, had each step been orthogonal to θ. A mark is a run; open ones have weight decay.

The interval of p holds 1/2 for T5. Here pre-LN and the sublayer norm grow about linearly in t,
and post-LN, which does not learn at this rate, hardly grows. In (c) steps that are relative to
the parameters (Adafactor) are near the diagonal. Where the norm grows under AdamW, it does so
several times to sixty times as fast as misaligned steps would make it: steps have a component
along θ, which explains most of the growth.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import boxcox

from asymptest.paper_figures.reported import LABEL, reported
from asymptest.paper_figures.style import (
    BLACK,
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    VERMILION,
    save,
    style,
)
from asymptest.paper_figures.trained import Result, chosen, trained
from asymptest.verify.training.growth import Exponent, free_exponent

ARCHITECTURES = {
    "sublayer": ("sublayer", GREEN),
    "pre": ("pre-LN", BLUE),
    "post": ("post-LN", VERMILION),
}
OPTIMISERS = {
    "adamw": ("AdamW", "o"),
    "sgd": ("SGD", "s"),
    "adafactor": ("Adafactor", "^"),
}
SHOWN = {"optimiser": "adamw", "schedule": "constant", "rate": 0.01, "decay": 0.0}
LOOK: dict[str, Any] = {"mew": 0.7, "ms": 3}  # of marks
LINEAR = 1e-4  # below it the axes of (c) are linear, since slopes may be negative
Series = Float[np.ndarray, " _"]


def draw(
    out: Path, report: Path | None = None, folder: Path | None = None
) -> list[Path]:
    """Write norm_growth.pdf and .png from `trained(folder)`; no report is read."""
    del report
    with style():
        runs = chosen(trained(folder), group="growth")
        return save(figure(runs), out, "norm_growth")


def root_fit(t: Series, norm: Series, at: Series) -> Series:
    """Return the least-squares fit a sqrt(t) + b to norms at steps t, at other steps.

    >>> t = np.array([1.0, 4.0, 9.0])
    >>> root_fit(t, 2 * t**0.5 + 3, np.array([16.0])).round(9)
    array([11.])
    """
    fit = np.polynomial.Polynomial.fit(np.sqrt(t), norm, 1)
    return fit(np.sqrt(at))


def power_fit(fit: Exponent, at: Series, last: float) -> Series:
    """Return a t^p + b at some steps; `last` is the last step that was fitted."""
    return fit.level + fit.scale * boxcox(at / last, fit.value)


def figure(runs: list[Result]) -> Figure:
    """Return the figure of the growth runs; call it inside `style()`."""
    fig = Figure(figsize=(COLUMN, 4.6), layout="constrained")
    grid = fig.subplot_mosaic("ab;cc", height_ratios=(1, 1.35))
    _ours(grid["a"], runs)
    _t5(grid["b"])
    _slopes(grid["c"], runs)
    for axes in (grid["a"], grid["b"]):
        axes.set_xlabel("step $t$ / 1000")
        axes.xaxis.set_major_formatter(lambda t, _: f"{t / 1000:g}")
    return fig


def _ours(axes: Axes, runs: list[Result]) -> None:
    lines = [("AdamW, rate 0.01", BLACK)]
    for architecture, (name, colour) in ARCHITECTURES.items():
        for run in chosen(runs, architecture=architecture, **SHOWN):
            fit = Exponent(**run["laws"]["free"])
            axes.plot(*_of(run["path"]), "o", color=colour, ms=2)
            _fits(axes, *_of(run["checkpoints"]), fit, colour)
            lines.append((f"{name} {_exponent(fit)}", colour))
    axes.set(ylim=(0, None), ylabel=r"norm $\|\theta_t\|$")
    _head(axes, "a", lines)


def _t5(axes: Axes) -> None:
    step, norm = _of(reported()["t5_norm"])
    # The first was read as -1, and before training there is no logarithm of t.
    step = np.maximum(step, 1)
    fit = free_exponent(step, norm)
    look = {"color": GREY, "mfc": "white", **LOOK}
    axes.plot(step[::6], norm[::6], "o", label="measured", **look)
    _fits(axes, step, norm, fit, BLACK)
    axes.set_ylim(0, None)
    axes.legend(loc="lower right", borderaxespad=0, labelspacing=0.2)
    lines = ("T5, with Adafactor", "read off", LABEL, _exponent(fit))
    _head(axes, "b", [(line, BLACK) for line in lines])


def _of(points: dict[str, Any]) -> tuple[Series, Series]:
    return np.array(points["step"], float), np.array(points["norm"], float)


def _exponent(fit: Exponent) -> str:
    return f"$p={fit.value:.2f}$ [{fit.low:.2f}, {fit.high:.2f}]"


def _fits(axes: Axes, t: Series, norm: Series, fit: Exponent, colour: str) -> None:
    at = np.linspace(t[-1] / 500, t[-1], 200)
    look = {"color": colour, "lw": 0.8}
    axes.plot(at, root_fit(t, norm, at), "--", label=r"$a\sqrt{t}+b$", **look)
    axes.plot(at, power_fit(fit, at, t[-1]), "-", label=r"$a\,t^p+b$", **look)


def _slopes(axes: Axes, runs: list[Result]) -> None:
    for run in runs:
        spec, laws = run["spec"], run["laws"]
        if "late" not in laws:  # the norm did not stay finite
            continue
        late, predicted = laws["late"], laws["late_misaligned"]["exponent"]
        half = (late["high"] - late["low"]) / 2
        _, colour = ARCHITECTURES[spec["architecture"]]
        _, marker = OPTIMISERS[spec["optimiser"]]
        face = "white" if spec["decay"] else colour
        look = {"color": colour, "elinewidth": 0.6, **LOOK}
        axes.errorbar(predicted, late["value"], half, fmt=marker, mfc=face, **look)
    diagonal = {"color": GREY, "lw": 0.8, "zorder": 0}
    axes.plot((0, 1), (0, 1), "-", **diagonal)
    axes.axhline(0, color=GREY, lw=0.4, zorder=0)
    axes.set_xscale("symlog", linthresh=LINEAR)
    axes.set_yscale("symlog", linthresh=LINEAR)
    axes.set_xlim(left=0)
    axes.set_xlabel(r"slope that misaligned steps would give, $\kappa^2/2$")
    axes.set_ylabel(r"slope of $\log\|\theta_t\|$ in $\log t$")
    axes.text(0.013, 3e-3, "misaligned", color=GREY)
    for label, marker in (*OPTIMISERS.values(), ("weight decay", "o")):
        face = "white" if label == "weight decay" else GREY
        axes.plot([], [], marker, color=GREY, mfc=face, label=label, **LOOK)
    above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 4, "borderpad": 0}
    axes.legend(**above, handletextpad=0.1, columnspacing=1, handlelength=1)
    title = "slopes of the last decade of steps, 95 % intervals"
    _head(axes, "c", [(title, BLACK), ("", BLACK)])


def _head(axes: Axes, letter: str, lines: list[tuple[str, str]]) -> None:
    """Write lines above a panel, each in its colour; the first is the title."""
    for place, (text, colour) in enumerate(reversed(lines)):
        first = place == len(lines) - 1
        axes.annotate(
            rf"$\bf{{{letter}}}$  {text}" if first else text,
            (0, 1),
            (0, 4 + 9.5 * place),  # the height of a line, in points
            xycoords="axes fraction",
            textcoords="offset points",
            color=colour,
            fontsize=8 if first else 7.5,
        )
