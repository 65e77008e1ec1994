"""Settings of the test-suite: shapes are checked and examples are reproducible."""

import atexit
import os
import shutil
import tempfile

# One process a core (pytest-xdist), one thread a process: small matrices lose time on more.
# Set before NumPy and torch are loaded, which read it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The user's own derivations are neither read nor written. The workers of pytest-xdist
# share the folder of the process that started them; it is removed when that one ends.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["ASYMPTEST_CACHE"] = tempfile.mkdtemp(prefix="asymptest-")
    atexit.register(shutil.rmtree, os.environ["ASYMPTEST_CACHE"], ignore_errors=True)

import sympy as sp
from hypothesis import settings
from jaxtyping import install_import_hook

# Check every annotation of the package while the tests run. The command-line option
# `--jaxtyping-packages=asymptest` refuses: our pytest plugin has imported `asymptest`
# by now. No other module of ours is loaded yet (tests/test_packaging.py makes sure).
install_import_hook(
    "asymptest",
    # An int is welcome where a float is asked for, as pyright has it.
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

# Hypothesis chooses its own `ci` profile (derandomised, no deadline) where CI is set.
# Elsewhere: no deadline, since the first call into torch takes seconds, and a failing
# example prints what replays it.
settings.register_profile("default", deadline=None, print_blob=True)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name an expression or an activation as it is written, alike in all workers.

    pytest numbers what it cannot name, and a representation may hold an address.
    """
    if isinstance(val, sp.Basic):
        return str(val)
    # Imported here, after the hook above.
    from asymptest.theory.activations import Activation

    return repr(val) if isinstance(val, Activation) else None
