"""How a figure looks: one column wide, legible in print, the same bytes each time.

The fonts come with matplotlib, so that another machine draws the same figure.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

COLUMN = 3.25  # inches: a column of the usual two-column styles

# Okabe and Ito (2008): told apart with every common form of colour blindness.
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#777777"
HEAT = "cividis"  # its lightness rises evenly, with or without colour

STYLE: dict[Any, Any] = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelpad": 2,
    "axes.titlepad": 3,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # fonts stay text: searchable, and what publishers ask for
}


@contextmanager
def style() -> Iterator[None]:
    """Apply `STYLE` to matplotlib's own defaults; restore all settings at the end."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change the figure
        matplotlib.rcParams.update(STYLE)
        yield


def save(figure: Figure, out: Path, name: str) -> list[Path]:
    """Write out/name.pdf and out/name.png, without dates, and return their paths.

    Call it inside `style()`. A `Figure` of its own draws without pyplot, so no window
    system is asked for and no global state is left behind.
    """
    out.mkdir(parents=True, exist_ok=True)
    pdf, png = out / f"{name}.pdf", out / f"{name}.png"
    figure.savefig(pdf, metadata={"CreationDate": None})
    figure.savefig(png)
    return [pdf, png]
