"""The pytest plugin: a header line and a fixture.

pytest loads this file in every run of every environment that has the package, so it
imports nothing heavy, and its fixtures carry the package's name.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import numpy as np


def pytest_report_header() -> str:
    """Return the line that pytest prints above the results."""
    return f"asymptest: {version('asymptest')}"


@pytest.fixture
def asymptest_rng(request: pytest.FixtureRequest) -> "np.random.Generator":
    """Return a generator seeded by the test's own name.

    The draws depend neither on the order of the tests nor on which of them are run, so
    a failure replays when its test is run alone.
    """
    import numpy as np

    # The name within the file: pytest spells the folder as it was asked for.
    name = f"{request.path.name}::{request.node.name}"
    return np.random.default_rng(np.random.SeedSequence([*name.encode()]))
