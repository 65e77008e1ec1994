from dataclasses import replace
from pathlib import Path

import pytest

from asymptest.verify.training import command
from asymptest.verify.training.profiles import Spec

SPEC = Spec(
    "grid", "pre", "adamw", "constant", 1e-3, 0.0,
    steps=4, width=8, depth=1, heads=2, context=8, points=4, landmarks=0,
)  # fmt: skip


def test_runs_are_finished_and_failures_counted(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    bad = replace(SPEC, heads=3, rate=1e-2)  # 8 is not divisible by 3
    other = replace(SPEC, architecture="post")
    monkeypatch.setattr(command, "specs", lambda profile: (bad, SPEC, other))
    assert command.main(["--out", str(tmp_path), "--jobs", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1/3", "2/3", "3/3"]
    assert "ERROR grid-pre-adamw-constant-rate0.01-decay0: ShapeError" in lines[0]
    assert f"{SPEC.name}: norm " in lines[1]
    names = sorted(path.stem for path in tmp_path.glob("*.json"))
    assert names == sorted([SPEC.name, other.name])


def test_bad_arguments_are_refused(tmp_path: Path, capsys) -> None:
    for arguments in (["--jobs", "0"], ["--profile", "quick"]):
        with pytest.raises(SystemExit):
            command.main(["--out", str(tmp_path), *arguments])
    assert "--jobs must be at least 1; got 0" in capsys.readouterr().err
