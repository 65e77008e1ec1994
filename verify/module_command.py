"""What `asymptest module` does: a module's layers beside its description, printed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from asymptest.theory.errors import ArgumentError
from asymptest.verify.check import ALPHA
from asymptest.verify.claim import Finding, Status
from asymptest.verify.evaluate import read_tokens
from asymptest.verify.layers import (
    POSITIONS,
    SEQUENCES,
    Comparison,
    Factory,
    compare_layers,
)
from asymptest.verify.results import dumps
from asymptest.verify.select import load_object
from asymptest.verify.show import STYLES, console, short

FIELDS = ("verdict", "resolution", "distance", "replicates", "alpha", "detail")


def main(
    target: str,
    widths: Sequence[int],
    *,
    text: str = "default",
    positions: int = POSITIONS,
    sequences: int = SEQUENCES,
    mask: str | None = None,
    resolution: float = 0.05,
    bias: float | None = None,
    each: bool = False,
    seed: int = 0,
    as_json: bool = False,
) -> int:
    """Compare the layers that a factory builds with their description; 0 if all agree.

    Args:
        target: "module:factory", a function of width and seed.
        widths: of the modules.
        text: a text file, or "default".
        positions: words of a sequence.
        sequences: their number; they follow each other in the text.
        mask: what attention of torch.nn is called with, "full" or "causal".
        resolution: see `compare_layers`, as are the others.
        bias: see `compare_layers`.
        each: whether to judge each width by itself, without extrapolation.
        seed: see `compare_layers`.
        as_json: whether to print one JSON object a layer, then one a wrong description.

    Raises:
        ArgumentError: if the target is no function, or the text is too short.
    """
    factory: Factory = load_object(target, "factory")
    if not callable(factory):
        raise ArgumentError(
            f"{target!r} must be a function (width, seed) -> torch module; it is of type "
            f"{type(factory).__name__}"
        )
    ids = token_rows(text, sequences, positions)
    together = [(n,) for n in widths] if each else [tuple(widths)]
    verdicts = []
    for group in together:
        found = compare_layers(
            factory,
            group,
            sequences=ids,
            mask=mask,
            resolution=resolution,
            bias=bias,
            seed=seed,
            alpha=ALPHA / len(together),
            note=console(stderr=True).print,
        )
        show_json(found, group) if as_json else show(found, group)
        verdicts.append(found.verdict)
    return 0 if all(verdict is Status.SUPPORTED for verdict in verdicts) else 1


def token_rows(text: str, sequences: int, positions: int) -> Any:
    """Return the first words of a text as ids, `positions` a row.

    Raises:
        ArgumentError: if the text has too few words.
    """
    ids = read_tokens(text, sequences * positions)
    if len(ids) < sequences * positions:
        raise ArgumentError(
            f"the text {text} has {len(ids)} words, and {sequences} sequences of "
            f"{positions} positions need {sequences * positions}: use a longer one"
        )
    return ids.reshape(sequences, positions)


def show(found: Comparison, widths: Sequence[int]) -> None:
    """Print the description, a table of layers, one of wrong descriptions, and a sentence."""
    screen = console()
    screen.print(f"Width {max(widths)}: {found.network!r}\n")
    screen.print(_table("layer", found.layers))
    screen.print(_table("wrong description", found.mutants))
    for name in found.alive:
        screen.print(f"{name}: not refuted; {found.mutants[name].detail}")
    screen.print(sentence(found))


def sentence(found: Comparison) -> str:
    """Return what a comparison says, in words."""
    told = f"{len(found.mutants) - len(found.alive)} of {len(found.mutants)}"
    mutants = f"{told} wrong descriptions refuted."
    match found.verdict:
        case Status.REFUTED:
            return f"They part at {found.parts_at}; {mutants}"
        case Status.SUPPORTED:
            worst = max(f.resolution or 0 for f in found.layers.values())
            return f"No layer parts from the description, to {worst:.2g}; {mutants}"
        case _:
            open_ = [
                k for k, f in found.layers.items() if f.verdict is not Status.SUPPORTED
            ]
            return f"Not decided at {', '.join(open_)}; {mutants}"


def show_json(found: Comparison, widths: Sequence[int]) -> None:
    """Print one JSON object a layer, then one a wrong description."""
    for kind, group in (("layer", found.layers), ("mutant", found.mutants)):
        for name, finding in group.items():
            values = asdict(finding)
            chosen = {field: values[field] for field in FIELDS}
            print(dumps({kind: name, "widths": [*widths], **chosen}))


def _table(heading: str, findings: Mapping[str, Finding]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(heading)
    table.add_column("verdict", width=12)
    for name in ("resol.", "distance", "modules"):
        table.add_column(name, justify="right")
    for name, finding in findings.items():
        table.add_row(
            name,
            Text(finding.verdict, style=STYLES[finding.verdict]),
            short(finding.resolution),
            short(finding.distance),
            str(finding.replicates or ""),
        )
    return table
