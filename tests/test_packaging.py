"""The package is complete, light to load, and loaded once."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("numerics", "paper_figures", "theory", "verify")


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules in a fresh interpreter that ran `code`."""
    # The prefix keeps the list apart from anything that an import prints.
    report = "\nimport sys; print('\\nLOADED', *{m.split('.')[0] for m in sys.modules})"
    run = subprocess.run(
        [sys.executable, "-c", code + report],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.rpartition("LOADED ")[2].split())


def test_every_package_folder_is_declared() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["tool"]["setuptools"]
    found = {
        ".".join(("asymptest", *init.parent.relative_to(ROOT).parts)): str(
            init.parent.relative_to(ROOT).as_posix()
        )
        for folder in FOLDERS
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert declared["packages"] == sorted(found)
    assert declared["package-dir"] == found


def test_modules_are_loaded_under_one_name() -> None:
    assert not {m for m in sys.modules if m.split(".")[0] in FOLDERS}


def test_annotations_are_checked_in_every_loaded_module() -> None:
    import asymptest.theory.errors  # noqa: F401 -- at least this one is loaded

    # Loaded by pytest itself, before the hook of conftest.py.
    early = {"asymptest.verify", "asymptest.verify.pytest_plugin"}
    unchecked = {
        name
        for name, module in sys.modules.items()
        if name.startswith("asymptest.")
        and not type(module.__loader__).__module__.startswith("jaxtyping")
    }
    assert unchecked == early


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        (
            "asymptest.verify.pytest_plugin",
            {"hypothesis", "matplotlib", "numpy", "scipy", "sympy", "torch"},
        ),
        ("asymptest.theory", {"hypothesis", "matplotlib", "numpy", "scipy", "torch"}),
        ("asymptest.numerics", {"hypothesis", "matplotlib", "torch"}),
    ],
)
def test_imports_are_light(module: str, heavy: set[str]) -> None:
    assert not loaded_by(f"import {module}") & heavy


def test_verify_never_imports_matplotlib() -> None:
    # import-linter reads only our own files; this also sees what others import for us.
    code = """if True:
        import importlib, pkgutil, asymptest.verify
        for module in pkgutil.walk_packages(
            asymptest.verify.__path__, "asymptest.verify."
        ):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    """
    assert "matplotlib" not in loaded_by(code)
