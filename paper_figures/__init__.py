"""The figures of a paper, one module each, drawn from the same objects as the claims.

A module named in `FIGURES` has `draw(out, report)`, which writes <name>.pdf and
<name>.png. Nothing here loads matplotlib before a figure is drawn.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from asymptest.theory.errors import ArgumentError

FIGURES = (
    "kernels_by_depth",
    "error_by_width",
    "exact_law",
    "parameter_scale",
    "norm_growth",
    "growth_sign",
    "soft_attention",
    "head_census",
    "saturation_by_layer",
)


def draw(
    names: Sequence[str] | None = None,
    out: Path = Path("results"),
    report: Path | None = None,
) -> list[Path]:
    """Draw figures, and return the files written: a PDF and a PNG each.

    Args:
        names: some of `FIGURES`; None draws all.
        out: the folder to write to; it is made if need be.
        report: results of `asymptest check`; a figure shows what it finds there too.

    Raises:
        ArgumentError: for a name that is no figure, or a file that is no report.
        FileNotFoundError: if there is no file at `report`.
    """
    wanted = FIGURES if names is None else tuple(names)
    for name in wanted:
        if name not in FIGURES:
            raise ArgumentError(
                f"there is no figure {name!r}; choose from {', '.join(FIGURES)}"
            )
    files: list[Path] = []
    for name in wanted:
        module = import_module(f"asymptest.paper_figures.{name}")
        files += module.draw(out, report)
    return files
