"""The command line and its workers as processes: pipes, Ctrl-C, resuming, crashes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asymptest.verify.pool import Lost, unordered
from asymptest.verify.results import partial_path, read_report

ASYMPTEST = [sys.executable, "-m", "asymptest.verify"]

# `slow` takes an hour, unless there is a file that says it may be quick.
CLAIMS = """
import os
import pathlib
import time

import sympy as sp
from asymptest.verify.claim import Claim, Identity, Source


def claim(name, wait=lambda: None):
    def differences():
        wait()
        with open(f"{name}.runs", "a") as file:
            file.write("x")
        return {"difference": sp.Integer(0)}

    source = Source("A Paper", "equation 1")
    return Claim(name, (sp.true,), source, (Identity(differences),), "none")


def wait():
    pathlib.Path("slow.pid").write_text(str(os.getpid()))
    if not pathlib.Path("hurry").exists():
        time.sleep(3600)


CLAIMS = (claim("slow", wait), claim("one"), claim("two"))
DEADLY = (claim("deadly", lambda: os._exit(7)), claim("one"), claim("two"))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a module of claims."""
    (tmp_path / "slow_claims.py").write_text(CLAIMS)
    return tmp_path


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, its output piped."""
    # No COLUMNS and no terminal: what a pipe or a log file gets.
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    return subprocess.run(
        [*ASYMPTEST, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def lines_in(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_stops_and_the_same_command_goes_on(folder: Path, jobs: str) -> None:
    arguments = ["check", "slow_claims:CLAIMS", "--jobs", jobs, "--out", "report.json"]
    partial = partial_path(folder / "report.json")
    # A group of its own, to which Ctrl-C sends the signal, as a terminal does.
    run = subprocess.Popen(
        [*ASYMPTEST, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pid = folder / "slow.pid"
    done = 2 if jobs == "2" else 0  # one process does the claims in order
    wait_for(lambda: pid.exists() and pid.read_text() and lines_in(partial) == 1 + done)
    os.killpg(run.pid, signal.SIGINT)
    start = time.monotonic()
    out, err = run.communicate(timeout=60)
    assert time.monotonic() - start < 10
    assert run.returncode == 130
    assert out == ""
    assert "interrupted" in err
    assert "Traceback" not in err
    wait_for(lambda: not alive(int(pid.read_text())), 10)
    assert not (folder / "report.json").exists()

    (folder / "hurry").touch()
    again = command(folder, *arguments)
    assert again.returncode == 0
    assert ("resuming" in again.stderr) == (done > 0)
    names = [verdict.name for verdict in read_report(folder / "report.json")]
    assert names == ["slow", "one", "two"]
    assert not partial.exists()
    # Nothing was checked twice.
    assert [(folder / f"{name}.runs").read_text() for name in names] == ["x", "x", "x"]


def test_a_worker_that_dies_costs_its_own_claim_only(folder: Path) -> None:
    run = command(folder, "check", "slow_claims:DEADLY", "--jobs", "2")
    assert run.returncode == 1
    found = read_report(folder / "results/report.json")
    assert [str(v.verdict) for v in found] == ["ERROR", "PROVED", "PROVED"]
    assert "exit code 7" in found[0].evidence[0].detail
    # No terminal: plain text of at most 80 columns, and no progress bar.
    assert run.stderr == ""
    assert re.fullmatch(r"[^\x1b\r]*", run.stdout)
    assert max(map(len, run.stdout.splitlines())) <= 80


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    write = "open('pid', 'w').write(str(__import__('os').getpid()))"
    task = f"({write}, __import__('time').sleep(999))"
    code = "from asymptest.verify.pool import unordered; [*unordered(eval, {}, 1)]"
    run = subprocess.Popen([sys.executable, "-c", code.format([task])], cwd=tmp_path)
    pid = tmp_path / "pid"
    wait_for(lambda: pid.exists() and pid.read_text())
    run.kill()
    run.wait()
    wait_for(lambda: not alive(int(pid.read_text())), 10)


def test_tasks_outlive_the_workers_of_others() -> None:
    # With one worker, the tasks after the deadly one need a new one.
    found = dict(unordered(eval, ["1 + 1", "__import__('os')._exit(3)", "2 + 2"], 1))
    assert found == {0: 2, 1: Lost(3), 2: 4}


def test_abandoned_workers_are_stopped() -> None:
    results = unordered(
        eval, ["__import__('os').getpid()", "__import__('time').sleep(999)"], 1
    )
    _, pid = next(results)
    assert isinstance(pid, int)
    assert alive(pid)
    results.close()
    assert not alive(pid)


def test_a_reader_that_leaves_is_no_error(folder: Path) -> None:
    quoted = " ".join(ASYMPTEST)
    run = subprocess.run(
        ["sh", "-c", f"{quoted} derive erf | true"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stderr == ""


def test_without_arguments_there_is_help(folder: Path) -> None:
    run = command(folder)
    asked = command(folder, "--help")
    assert (run.returncode, run.stdout, run.stderr) == (0, asked.stdout, "")
    names = {
        "claims",
        "check",
        "derive",
        "kernel",
        "module",
        "figures",
        "report",
        "bench",
    }
    assert names <= {*run.stdout.split()}
    # No description is cut short.
    assert "..." not in run.stdout.partition("Commands:")[2]
