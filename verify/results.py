"""Verdicts as JSON, and a report on disk that a killed run loses nothing of.

While a run goes on, each verdict is appended to `<report>.partial` and reaches the disk
before the next one starts: a header line, then one JSON object a line. At the end the
report takes its place in one step. A later run with the same header reads the partial
file and does only what is missing.

JSON has no infinities: a float that is not finite is written as the string "inf", "-inf"
or "nan" and read back as the float. null is Python's None.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any

import sympy as sp

from asymptest.theory.errors import ArgumentError
from asymptest.theory.steps import statement_text
from asymptest.verify.claim import Claim, Expects, Finding, Source, Status, Verdict

FORMAT = 1  # raised when a field changes its meaning


@dataclass(frozen=True)
class Header:
    """All that a verdict depends on; a partial file of another header is not resumed.

    Args:
        seed: of the run.
        profile: its name.
        alpha: false-alarm probability of the whole run.
        names: the claims, since they share alpha.
        versions: of Python and the packages that compute.
        sources: digest of the source files that compute.
    """

    seed: int
    profile: str
    alpha: float
    names: tuple[str, ...]
    versions: Mapping[str, str]
    sources: str
    format: int = field(default=FORMAT)


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as JSON's own types; `agrees` is for readers and not read back."""
    return {
        "name": verdict.name,
        "source": asdict(verdict.source),
        "expects": str(verdict.expects),
        "verdict": str(verdict.verdict),
        "agrees": verdict.agrees,
        "evidence": [_finding_to_json(finding) for finding in verdict.evidence],
        "mutants": {name: _finding_to_json(f) for name, f in verdict.mutants.items()},
        "seed": verdict.seed,
        "profile": verdict.profile,
        "seconds": _number(verdict.seconds),
        "versions": dict(verdict.versions),
        "limits": verdict.limits,
    }


def claim_to_json(claim: Claim) -> dict[str, Any]:
    """Return what there is to read about a claim, as JSON's own types."""
    return {
        "name": claim.name,
        "statement": [statement_text(part) for part in claim.statement],
        "latex": [sp.latex(part) for part in claim.statement],
        "source": asdict(claim.source),
        "expects": str(claim.expects),
        "evidence": [type(part).__name__ for part in claim.evidence],
        "mutants": list(claim.mutants),
        "limits": claim.limits,
        "counterexample": claim.counterexample,
        "repaired": claim.repaired,
    }


def verdict_from_json(data: Any) -> Verdict:
    """Return the verdict that `verdict_to_json` wrote, equal to it unless it holds a nan.

    Raises:
        ArgumentError: if a field is missing, unknown or of another kind.
    """
    try:
        found = {f.name: data[f.name] for f in fields(Verdict)}
        return Verdict(
            **found
            | {
                "source": Source(**data["source"]),
                "expects": Expects(data["expects"]),
                "verdict": Status(data["verdict"]),
                "evidence": tuple(map(_finding_from_json, data["evidence"])),
                "mutants": {
                    name: _finding_from_json(f) for name, f in data["mutants"].items()
                },
                "seconds": float(data["seconds"]),
            }
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"this is no verdict of asymptest ({type(error).__name__}: {error}); run "
            f"`asymptest check` anew"
        ) from error


def dumps(data: Any) -> str:
    """Return strict JSON on one line; a float that is not finite raises ValueError."""
    return json.dumps(data, allow_nan=False, ensure_ascii=False)


def _number(value: float | None) -> float | str | None:
    if value is None:
        return None
    return float(value) if math.isfinite(value) else str(float(value))


def _float(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _finding_to_json(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "verdict": str(finding.verdict),
        "resolution": _number(finding.resolution),
        "alpha": _number(finding.alpha),
        "comparisons": int(finding.comparisons),
        "replicates": int(finding.replicates),
        "widths": [int(width) for width in finding.widths],
        "distance": _number(finding.distance),
        "counterexample": finding.counterexample,
        "detail": finding.detail,
        "points": [[_number(value) for value in point] for point in finding.points],
    }


def _finding_from_json(data: Mapping[str, Any]) -> Finding:
    return Finding(
        **{
            **data,
            "verdict": Status(data["verdict"]),
            "resolution": _float(data["resolution"]),
            "alpha": float(data["alpha"]),
            "widths": tuple(data["widths"]),
            "distance": _float(data["distance"]),
            "points": tuple(tuple(map(float, point)) for point in data["points"]),
        }
    )


def partial_path(report: Path) -> Path:
    """Return the file that holds the verdicts of an unfinished run."""
    return report.with_name(report.name + ".partial")


class Partial:
    """The file of an unfinished run, open for appending; use it in a `with`.

    Args:
        report: the report that the run will write.
        header: what the verdicts depend on.

    Attributes:
        kept: the verdicts of an earlier run with the same header, by name, but those
            that say ERROR.
        replaced: whether a file of another header was there and has been started over.

    Raises:
        OSError: if the file cannot be written.
    """

    def __init__(self, report: Path, header: Header):
        self.path = partial_path(report)
        self.kept: dict[str, Verdict] = {}
        self.replaced = False
        self._report, self._header = report, header
        self._file: IO[str] | None = None

    def __enter__(self) -> "Partial":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        head, verdicts = _read_partial(self.path)
        same = head == _header_to_json(self._header)
        # What raised may have lacked memory, or time: it is tried again.
        done = [v for v in verdicts if same and v.verdict is not Status.ERROR]
        self.kept = {v.name: v for v in done}
        self.replaced = head is not None and not same
        # Written anew even when resuming: a torn last line must not meet the next one.
        fresh = self.path.with_name(self.path.name + ".new")
        lines = map(verdict_to_json, self.kept.values())
        _write(fresh, [_header_to_json(self._header), *lines])
        os.replace(fresh, self.path)
        self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def commit(self, verdict: Verdict) -> None:
        """Append one verdict; when this returns it is on the disk."""
        assert self._file is not None, "Partial is used in a `with`"
        self._file.write(dumps(verdict_to_json(verdict)) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self, verdicts: Iterable[Verdict]) -> None:
        """Put the report in its place, in the order given, and drop the partial file."""
        fresh = self._report.with_name(self._report.name + ".new")
        lines = [_header_to_json(self._header), *map(verdict_to_json, verdicts)]
        _write(fresh, lines, as_report=True)
        os.replace(fresh, self._report)
        self.path.unlink()


def read_report(report: Path) -> list[Verdict]:
    """Return the verdicts of a finished run.

    Raises:
        ArgumentError: if the file is no report.
        FileNotFoundError: if there is none; the message says how to make one.
    """
    if not report.exists():
        more = partial_path(report)
        unfinished = f"; {more} is of an unfinished run" if more.exists() else ""
        raise FileNotFoundError(
            f"there is no report at {report}{unfinished}: run `asymptest check --out "
            f"{report}`"
        )
    try:
        data = json.loads(report.read_text(encoding="utf-8"))
        return [verdict_from_json(verdict) for verdict in data["claims"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"{report} is no report of asymptest ({type(error).__name__}: {error}); "
            f"name the file that `asymptest check --out FILE` wrote"
        ) from error


def _header_to_json(header: Header) -> dict[str, Any]:
    plain = asdict(header)
    return plain | {"names": list(header.names), "versions": dict(header.versions)}


def _read_partial(path: Path) -> tuple[Any, list[Verdict]]:
    """Return the header and all verdicts that were written whole; None if no header."""
    if not path.exists():
        return None, []
    # A torn line can end within a character.
    text = path.read_bytes().decode("utf-8", errors="replace")
    whole = text.split("\n")[:-1]  # what follows the last newline was not finished
    try:
        header, *lines = map(json.loads, whole)
        return header, [verdict_from_json(line) for line in lines]
    except ValueError:  # empty, or no file of ours: nothing in it can be trusted
        return {}, []


def _write(path: Path, lines: Sequence[Any], as_report: bool = False) -> None:
    with path.open("w", encoding="utf-8") as file:
        if as_report:
            run, *claims = lines
            body = ",\n".join(map(dumps, claims))
            file.write(f'{{"run": {dumps(run)},\n"claims": [\n{body}\n]}}\n')
        else:
            file.writelines(dumps(line) + "\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
