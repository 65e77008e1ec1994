"""Verdicts survive the way to disk and back, and a torn file costs one line."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest.theory.errors import ArgumentError
from asymptest.verify.claim import Expects, Finding, Source, Status, Verdict
from asymptest.verify.results import (
    Header,
    Partial,
    dumps,
    partial_path,
    read_report,
    verdict_from_json,
    verdict_to_json,
)

NUMBERS = st.floats(allow_nan=False)  # infinities too
COUNTS = st.integers(0, 2**53)
# Only their fields: building one checks its annotations at random places, which is not
# for strategies to do.
FINDINGS = st.fixed_dictionaries(
    {
        "kind": st.text(),
        "verdict": st.sampled_from(Status),
        "resolution": st.none() | NUMBERS,
        "alpha": st.floats(0, 1),
        "comparisons": COUNTS,
        "replicates": COUNTS,
        "widths": st.lists(COUNTS).map(tuple),
        "distance": st.none() | NUMBERS,
        "counterexample": st.none() | st.text(),
        "detail": st.text(),
        "points": st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS)).map(tuple),
    }
)
VERDICTS = st.fixed_dictionaries(
    {
        "name": st.text(),
        "source": st.tuples(
            st.text(), st.text(), st.sampled_from(["printed", "derived here"])
        ),
        "expects": st.sampled_from(Expects),
        "verdict": st.sampled_from(Status),
        "evidence": st.lists(FINDINGS, max_size=2),
        "mutants": st.dictionaries(st.text(), FINDINGS, max_size=2),
        "seed": st.integers(0, 2**70),
        "profile": st.text(),
        "seconds": st.floats(0, 1e6),
        "versions": st.dictionaries(st.text(), st.text(), max_size=2),
        "limits": st.text(),
    }
)
HEADER = Header(0, "quick", 1e-6, ("a", "b"), {"python": "3"}, "0123")


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def verdict(name: str, status: Status = Status.PROVED) -> Verdict:
    return Verdict(
        name=name,
        source=Source("a paper", "equation 1"),
        expects=Expects.HOLDS,
        verdict=status,
        evidence=(Finding("identity", status, comparisons=1),),
        mutants={},
        seed=0,
        profile="quick",
        seconds=0.5,
        versions={"python": "3"},
        limits="none",
    )


@settings(max_examples=40)
@given(VERDICTS)
def test_a_verdict_reads_back_equal(parts: dict[str, Any]) -> None:
    built = {
        "source": Source(*parts["source"]),
        "evidence": tuple(Finding(**finding) for finding in parts["evidence"]),
        "mutants": {name: Finding(**f) for name, f in parts["mutants"].items()},
    }
    original = Verdict(**parts | built)
    line = dumps(verdict_to_json(original))
    assert "\n" not in line
    assert verdict_from_json(json.loads(line, parse_constant=no_constant)) == original


def test_nan_is_written_as_a_string_and_read_as_nan() -> None:
    finding = Finding("limit", Status.INCONCLUSIVE, resolution=math.nan)
    line = dumps(verdict_to_json(replace(verdict("a"), evidence=(finding,))))
    assert json.loads(line)["evidence"][0]["resolution"] == "nan"
    (back,) = verdict_from_json(json.loads(line)).evidence
    assert back.resolution is not None
    assert math.isnan(back.resolution)


def test_the_fields_that_the_design_promises() -> None:
    data = verdict_to_json(
        replace(verdict("a"), mutants={"m": Finding("x", Status.ERROR)})
    )
    names = "name source expects verdict agrees evidence mutants seed seconds versions"
    assert {*names.split(), "profile", "limits"} == {*data}
    inner = "kind verdict resolution alpha comparisons replicates widths counterexample"
    assert {*inner.split()} <= {*data["evidence"][0]}
    assert {"verdict", "distance"} <= {*data["mutants"]["m"]}


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("seed"),
        lambda d: d.update(verdict="MAYBE"),
        lambda d: d["evidence"][0].update(unknown=1),
        lambda d: d.update(source=None),
        lambda d: d.update(evidence=3),
    ],
    ids=["missing", "status", "unknown", "source", "evidence"],
)
def test_what_is_no_verdict_is_refused(change: Any) -> None:
    data = verdict_to_json(verdict("a"))
    change(data)
    with pytest.raises(ArgumentError, match="no verdict of asymptest"):
        verdict_from_json(data)


def test_an_interrupted_run_resumes(tmp_path: Path) -> None:
    report = tmp_path / "new folder" / "report.json"
    with Partial(report, HEADER) as partial:
        partial.commit(verdict("b"))
    assert not report.exists()
    with Partial(report, HEADER) as partial:
        assert partial.kept == {"b": verdict("b")}
        assert not partial.replaced
        partial.commit(verdict("a"))
        partial.finish([verdict("a"), verdict("b")])
    assert read_report(report) == [verdict("a"), verdict("b")]
    assert [path.name for path in report.parent.iterdir()] == ["report.json"]


@pytest.mark.parametrize("cut", [1, 5, 200])
def test_a_torn_last_line_is_ignored_and_mended(tmp_path: Path, cut: int) -> None:
    report = tmp_path / "report.json"
    with Partial(report, HEADER) as partial:
        partial.commit(verdict("a"))
        partial.commit(replace(verdict("b"), limits="ρ" * 99))
    path = partial_path(report)
    path.write_bytes(path.read_bytes()[:-cut])
    with Partial(report, HEADER) as partial:
        assert [*partial.kept] == ["a"]
        partial.commit(verdict("b"))
    with Partial(report, HEADER) as partial:
        assert [*partial.kept] == ["a", "b"]


@pytest.mark.parametrize(
    "other",
    [
        replace(HEADER, seed=1),
        replace(HEADER, profile="full"),
        replace(HEADER, alpha=1e-3),
        replace(HEADER, names=("a",)),
        replace(HEADER, versions={"python": "4"}),
        replace(HEADER, sources="4567"),
    ],
    ids=["seed", "profile", "alpha", "names", "versions", "sources"],
)
def test_another_header_starts_over(tmp_path: Path, other: Header) -> None:
    report = tmp_path / "report.json"
    with Partial(report, HEADER) as partial:
        partial.commit(verdict("a"))
    with Partial(report, other) as partial:
        assert partial.replaced
        assert not partial.kept


@pytest.mark.parametrize(
    "content", [b"", b"not json\n", b"\xff\xfe\n", b"[]\n{}\n"], ids=repr
)
def test_a_foreign_partial_file_is_not_trusted(tmp_path: Path, content: bytes) -> None:
    report = tmp_path / "report.json"
    partial_path(report).write_bytes(content)
    with Partial(report, HEADER) as partial:
        assert partial.replaced
        assert not partial.kept


def test_errors_are_tried_again(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with Partial(report, HEADER) as partial:
        partial.commit(verdict("a", Status.ERROR))
        partial.commit(verdict("b", Status.REFUTED))
    with Partial(report, HEADER) as partial:
        assert [*partial.kept] == ["b"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"claims": [{}]}', "{"])
def test_what_is_no_report_is_refused(tmp_path: Path, content: str) -> None:
    report = tmp_path / "report.json"
    report.write_text(content)
    with pytest.raises(ArgumentError, match=r"report\.json is no report"):
        read_report(report)


def test_a_missing_report_says_how_to_make_one(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with pytest.raises(FileNotFoundError, match="asymptest check --out"):
        read_report(report)
    partial_path(report).touch()
    with pytest.raises(FileNotFoundError, match="unfinished run"):
        read_report(report)
