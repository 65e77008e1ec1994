"""Run the doctests by import name, so that each module is loaded once."""

import doctest
import importlib
import pkgutil

import pytest

PACKAGES = (
    "asymptest.numerics",
    "asymptest.paper_figures",
    "asymptest.theory",
    "asymptest.verify",
)
MODULES = [
    *PACKAGES,
    *(
        module.name
        for package in PACKAGES
        for module in pkgutil.walk_packages(
            importlib.import_module(package).__path__, package + "."
        )
        if not module.name.endswith("__main__")
    ),
]


def test_modules_are_found() -> None:
    assert {"asymptest.theory.errors", "asymptest.verify.pytest_plugin"} <= {*MODULES}


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
