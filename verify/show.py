"""Tables for people, plain text when piped, never wider than the terminal."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from asymptest.theory.steps import statement_text
from asymptest.verify.claim import Claim, Finding, Source, Status, Verdict

STYLES: Mapping[Status, str] = {
    Status.PROVED: "green",
    Status.CERTIFIED: "green",
    Status.SUPPORTED: "green",
    Status.REFUTED: "red",
    Status.INCONCLUSIVE: "yellow",
    Status.ERROR: "bold red",
}
LEAST_WIDTH = 80  # what the tables are laid out for
STATEMENT = 160  # characters of a statement that a list shows
MOST_DEPTHS = 16  # rows of a table of kernels


def console(stderr: bool = False) -> Console:
    """Return a console that prints text as it is: no markup, no highlighting."""
    found = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    # A narrower terminal wraps lines, which reads better than numbers cut short.
    found.width = max(found.width, LEAST_WIDTH)
    return found


def _table() -> Table:
    return Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


def claims_table(claims: Iterable[Claim], width: int) -> Table:
    """Return a list of claims: name, what is expected, statement and source."""
    table = _table()
    name = max(24, width * 2 // 5)
    table.add_column("claim", width=name)
    table.add_column("expects", width=7)
    table.add_column("statement; source")
    for claim in claims:
        statement = textwrap.shorten(
            "; ".join(map(statement_text, claim.statement)),
            STATEMENT,
            placeholder=" ...",
        )
        table.add_row(
            folded(claim.name, name),
            str(claim.expects),
            Text(f"{statement}\n{source_text(claim.source)}\n"),
        )
    return table


def source_text(source: Source) -> str:
    """Return a source as one line."""
    return f"{source.paper}, {source.where}; {source.form}"


def folded(name: str, width: int) -> Text:
    """Return a name folded at its slash and hyphens, continued lines indented."""
    lines = textwrap.wrap(name, width, subsequent_indent="  ", break_on_hyphens=True)
    return Text("\n".join(lines))


def verdicts_table(verdicts: Iterable[Verdict], width: int) -> Table:
    """Return the table of verdicts; resolution is the coarsest of a claim's evidence."""
    table = _table()
    name = max(20, width - 53)  # what the other columns and the gaps leave
    table.add_column("claim", width=name)
    table.add_column("expects", width=7)
    table.add_column("verdict", width=12)
    for heading, size in (("resol.", 6), ("alpha", 5), ("killed", 6), ("s", 5)):
        table.add_column(heading, justify="right", width=size)
    for verdict in verdicts:
        status = Text(verdict.verdict, style=STYLES[verdict.verdict])
        table.add_row(
            folded(verdict.name, name),
            str(verdict.expects),
            status,
            short(resolution_of(verdict)),
            short(max((f.alpha for f in verdict.evidence), default=0) or None),
            f"{killed(verdict)}/{len(verdict.mutants)}" if verdict.mutants else "",
            f"{verdict.seconds:.1f}",
        )
    return table


def killed(verdict: Verdict) -> int:
    """Return how many mutants were refuted."""
    return sum(f.verdict is Status.REFUTED for f in verdict.mutants.values())


def resolution_of(verdict: Verdict) -> float | None:
    """Return the coarsest resolution of a claim's evidence, None if there is none."""
    found = [f.resolution for f in verdict.evidence if f.resolution is not None]
    return max(found, default=None)


def short(value: float | None) -> str:
    """Return a positive number in at most six characters.

    >>> short(0.00984), short(4e-08), short(None), short(123456.0)
    ('0.0098', '4e-08', '', '1e+05')
    """
    if value is None:
        return ""
    text = f"{value:.2g}"
    return text if len(text) <= 6 else f"{value:.0e}"


def summary(verdicts: Sequence[Verdict]) -> str:
    """Return one sentence on a run."""
    agree = sum(verdict.agrees for verdict in verdicts)
    mutants = sum(len(verdict.mutants) for verdict in verdicts)
    dead = sum(map(killed, verdicts))
    return (
        f"{agree} of {len(verdicts)} verdicts as expected; {dead} of {mutants} mutants "
        f"killed."
    )


def refutations(verdicts: Iterable[Verdict], width: int) -> Iterator[str]:
    """Yield a paragraph for each statement that was refuted, as expected, and by what."""
    for verdict in verdicts:
        shown = [f.counterexample for f in verdict.evidence if f.counterexample]
        if verdict.agrees and shown:
            yield _wrapped(f"{verdict.name} is refuted by {shown[0]}", width)


def mismatch(verdict: Verdict, width: int) -> str:
    """Return what there is to know about a verdict that was not expected."""
    lines = [
        f"{verdict.name}: expected {verdict.expects}, got {verdict.verdict} "
        f"(seed {verdict.seed}, profile {verdict.profile})"
    ]
    for number, finding in enumerate(verdict.evidence):
        lines += _finding_lines(f"evidence {number}", finding)
    for name, finding in verdict.mutants.items():
        if finding.verdict is not Status.REFUTED:
            lines += _finding_lines(f"surviving mutant {name!r}", finding)
    lines.append(f"  source: {source_text(verdict.source)}")
    return "\n".join(_wrapped(line, width) for line in lines)


def _finding_lines(label: str, finding: Finding) -> list[str]:
    facts = [f"{finding.kind} {finding.verdict}"]
    if finding.distance is not None:
        facts.append(f"distance {finding.distance:.3g}")
    if finding.resolution is not None:
        facts.append(f"resolution {finding.resolution:.3g}")
    if finding.replicates:
        facts.append(f"{finding.replicates} replicates")
    if finding.detail:
        facts.append(finding.detail)
    lines = [f"  {label}: {'; '.join(facts)}"]
    if finding.counterexample is not None:
        lines.append(f"    counterexample: {finding.counterexample}")
    return lines


def _wrapped(line: str, width: int) -> str:
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    parts = line.splitlines() or [""]
    return "\n".join(
        textwrap.fill(
            part,
            width,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for part in parts
    )


def kernels_table(
    kernels: Float[np.ndarray, "layers T T"], errors: Float[np.ndarray, "layers T T"]
) -> Table:
    """Return what kernels say at each depth, or at evenly spread ones if they are many."""
    table = _table()
    for heading in ("depth", "mean K_ii", "min corr.", "mean corr.", "std. error"):
        table.add_column(heading, justify="right")
    last = len(kernels) - 1
    for depth in sorted({*np.linspace(0, last, MOST_DEPTHS).round().astype(int)}):
        K = kernels[depth]
        size = np.sqrt(np.diagonal(K))
        scale = np.outer(size, size)
        rho = np.divide(K, scale, out=np.zeros_like(K), where=scale > 0)
        off = rho[~np.eye(len(K), dtype=bool)]
        numbers = (
            (size**2).mean(),
            *((off.min(), off.mean()) if off.size else (1.0, 1.0)),
        )
        error = errors[depth].max()
        table.add_row(
            str(depth), *(f"{x:.6g}" for x in numbers), f"{error:.1e}" if error else "0"
        )
    return table
