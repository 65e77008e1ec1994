"""The fixture replays, and different tests draw different numbers."""

import numpy as np
import pytest


def first_draw_of(name: str) -> float:
    seed = np.random.SeedSequence([*f"test_pytest_plugin.py::{name}".encode()])
    return np.random.default_rng(seed).random()


@pytest.mark.parametrize("case", ["a", "b"])
def test_the_draws_follow_the_name(
    asymptest_rng: np.random.Generator, case: str
) -> None:
    here = f"test_the_draws_follow_the_name[{case}]"
    assert asymptest_rng.random() == first_draw_of(here)
    assert first_draw_of(here) != first_draw_of("another_test")


def test_the_header_names_the_version(pytestconfig: pytest.Config) -> None:
    (header,) = [
        line
        for line in pytestconfig.hook.pytest_report_header(
            config=pytestconfig, start_path=pytestconfig.rootpath
        )
        if isinstance(line, str) and line.startswith("asymptest: ")
    ]
    assert header.split()[1][0].isdigit()
