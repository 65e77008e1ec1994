"""The command line answers before anything heavy is imported."""

import subprocess
import sys

import pytest

HEAVY = {"flint", "hypothesis", "matplotlib", "scipy", "sympy", "torch"}


@pytest.mark.parametrize("arguments", [[], ["--help"]], ids=["import", "help"])
def test_the_command_line_is_light(arguments: list[str]) -> None:
    # `--help` ends in SystemExit, so what is loaded is told on the way out, on stderr.
    code = """if True:
        import atexit, sys
        atexit.register(lambda: print("LOADED", *sys.modules, file=sys.stderr))
        from asymptest.verify.cli import main
        if sys.argv[1:]:
            sys.exit(main())
    """
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert not {*run.stderr.rpartition("LOADED ")[2].split()} & HEAVY
