import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from asymptest.theory.errors import ArgumentError
from asymptest.verify.training import run as run_module
from asymptest.verify.training.profiles import Spec, specs
from asymptest.verify.training.run import Run, train, write_whole

SPEC = Spec(
    "growth", "pre", "adamw", "inverse_sqrt", 1e-2, 0.01,
    steps=60, width=16, depth=2, heads=2, context=16, points=20, landmarks=3,
)  # fmt: skip

CHILD = """
import sys
from pathlib import Path
from asymptest.verify.training.profiles import Spec
from asymptest.verify.training.run import train
train({spec}, Path({folder!r}), every=7)
"""


def science(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "seconds"}


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    code = CHILD.format(spec=repr(SPEC), folder=str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", code])
    saved = tmp_path / f"{SPEC.name}.pt"
    while not saved.exists():
        assert child.poll() is None, "the child ended before it saved its state"
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not saved.with_suffix(".json").exists()
    done = len(torch.load(saved, weights_only=True)["losses"])
    assert 7 <= done < SPEC.steps
    assert done % 7 == 0

    steps = []
    original = Run.advance

    def counted(run: Run) -> None:
        steps.append(len(run.losses))
        original(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "advance", counted)
        resumed = train(SPEC, tmp_path, every=1000)
    assert steps == list(range(done, SPEC.steps))
    assert not saved.exists()
    whole = train(SPEC, tmp_path / "whole")
    assert science(resumed) == science(whole)


def test_a_resumed_run_has_the_same_parameters_bit_for_bit() -> None:
    # Rounded results could hide a difference; here one is looked for in all state.
    for optimiser in ("adamw", "sgd", "adafactor"):
        spec = replace(SPEC, optimiser=optimiser, schedule="linear", steps=12)
        whole, first, second = Run(spec), Run(spec), Run(spec)
        while not whole.done:
            whole.advance()
        for _ in range(5):
            first.advance()
        second.load_state_dict(first.state_dict())
        while not second.done:
            second.advance()
        assert_equal(second.state_dict(), whole.state_dict())
        untrained = Run(spec).state_dict()["model"]
        with pytest.raises(AssertionError):
            assert_equal(untrained, whole.state_dict()["model"])


def assert_equal(left: Any, right: Any) -> None:
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_equal(a, b)
    elif not callable(left):
        assert left == right


def test_a_finished_run_is_read_and_not_repeated(tmp_path: Path, monkeypatch) -> None:
    spec = replace(SPEC, steps=5)
    first = train(spec, tmp_path)
    monkeypatch.setattr(run_module, "Run", None)
    assert train(spec, tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [f"{spec.name}.json"]


def test_the_result_says_what_was_trained_and_found(tmp_path: Path) -> None:
    result = train(SPEC, tmp_path)
    assert Spec(**result["spec"]) == SPEC
    assert result["loss"] < result["path"]["loss"][0] - 1  # it has learnt
    assert result["path"]["step"][-1] == SPEC.steps
    assert result["path"]["norm"][-1] == result["end"]
    assert result["change"] == pytest.approx(result["end"] - result["start"], abs=1e-3)
    assert result["checkpoints"]["step"] == [3 * k for k in range(1, 21)]
    assert [part["step"] for part in result["landmarks"]] == [0, 1, 8, 60]
    for part in result["landmarks"]:
        assert len(part["cosine"]) == len(part["attended"]) == SPEC.depth
    assert result["scaling"]["end"][0] == pytest.approx(
        result["landmarks"][-1]["cosine"][-1], abs=1e-6
    )
    laws = result["laws"]
    assert set(laws) == {
        "misaligned", "checkpoint_share", "free", "late", "late_misaligned",
        "late_excess",
    }  # fmt: skip
    assert len(json.dumps(result)) < 10_000


def test_a_diverged_run_is_reported_in_strict_json(tmp_path: Path) -> None:
    spec = replace(SPEC, optimiser="sgd", rate=1e30, steps=30, landmarks=0)
    result = train(spec, tmp_path)
    assert result["end"] == "nan"
    assert "free" not in result["laws"]
    text = (tmp_path / f"{spec.name}.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == result


def test_files_of_another_run_are_refused(tmp_path: Path) -> None:
    spec = replace(SPEC, steps=5)
    train(spec, tmp_path)
    with pytest.raises(ArgumentError, match="is of another run with this name"):
        train(replace(spec, seed=1), tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    state = {**Run(spec).state_dict()}
    torch.save(state, other / f"{spec.name}.pt")
    with pytest.raises(ArgumentError, match="is of another run with this name"):
        train(replace(spec, steps=6), other)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.json"
    write_whole(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("profile", ["smoke", "full"])
def test_the_runs_of_a_profile_have_different_names(profile: Any) -> None:
    runs = specs(profile)
    assert len({spec.name for spec in runs}) == len(runs)
    assert {spec.architecture for spec in runs} == {"sublayer", "pre", "post"}
    assert {spec.optimiser for spec in runs} == {"adamw", "sgd", "adafactor"}
