"""Train the models of a profile: `python -m asymptest.verify.training --help`."""

import argparse
import os
import time
from functools import partial
from pathlib import Path
from typing import get_args

from asymptest.verify.pool import Lost, unordered
from asymptest.verify.training.profiles import ProfileName, Spec, specs


def run(folder: Path, spec: Spec) -> str:
    """Train one model and return a line about it, or what went wrong."""
    from asymptest.verify.training.run import train  # loads torch: not for --help

    try:
        result = train(spec, folder)
    except Exception as error:  # the other runs go on
        return f"ERROR {spec.name}: {type(error).__name__}: {error}"
    grown = f"norm {result['start']} -> {result['end']}, " if spec.points else ""
    return f"{spec.name}: {grown}loss {result['loss']}, {result['seconds']} s"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if every run is finished, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m asymptest.verify.training",
        description="Train small language models and record how their norms grow, or what "
        "trains in depth. A run "
        "that is finished is not repeated, one that was interrupted goes on.",
    )
    parser.add_argument("--profile", choices=get_args(ProfileName), default="smoke")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="processes, one thread each",
    )
    given = parser.parse_args(arguments)
    if given.jobs < 1:
        parser.error(f"--jobs must be at least 1; got {given.jobs}")
    todo = specs(given.profile)
    started, failed = time.perf_counter(), 0
    for number, (index, line) in enumerate(
        unordered(partial(run, given.out), todo, given.jobs), 1
    ):
        if isinstance(line, Lost):
            line = f"ERROR {todo[index].name}: its process died ({line.exitcode})"
        failed += line.startswith("ERROR")
        seconds = time.perf_counter() - started
        print(f"{number}/{len(todo)} {seconds:.0f} s {line}", flush=True)
    return 1 if failed else 0
