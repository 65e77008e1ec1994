"""Speed beside neural-tangents 0.6.5, which evaluates the same kernels in jax.

It does not import beside a jax after 0.5.3, so it lives in an environment of its own:

    python3.11 -m venv tangents
    tangents/bin/pip install "jax==0.5.3" "jaxlib==0.5.3" "neural-tangents==0.6.5"
    export ASYMPTEST_TANGENTS_PYTHON=tangents/bin/python
    python -m pytest benchmarks/test_tangents.py -s

Both sides take X and return the kernel of all positions, in float64 on all cores, turn by turn
in one run; what either does at its first call only does not count. It has no uniform, no
local and no shaped attention: beside ours stands its own attention at the same size.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asymptest.numerics import kernel
from asymptest.theory import (
    Attention,
    Dense,
    ExponentialKernel,
    LayerNorm,
    Network,
    Pointwise,
    Residual,
    Softmax,
    Spa,
    Uniform,
    Window,
    relu,
)

VARIABLE = "ASYMPTEST_TANGENTS_PYTHON"
TURNS = 5
AT, DENSE, STRUCTURED = 1024, 0.4, 0.1  # at T = AT, at most so much of its time
PATTERNS: dict[str, tuple[Any, Any]] = {
    "softmax": (Softmax("1/d", tied=True, variance=1.1 * 1.2), "full"),
    "uniform": (Uniform(), "full"),
    "causal": (Uniform(), "causal"),
    "window": (Uniform(), Window(128)),
    "e-spa": (Spa(ExponentialKernel(0.2), ExponentialKernel(0.1)), "causal"),
}

Ask = Callable[[Path, int, Path], float]


def transformer(name: str, depth: int) -> Network:
    """Return the pre-norm transformer of the worker, perhaps with another attention."""
    pattern, mask = PATTERNS[name]
    value, output = Dense(0.9**2), Dense(0.8**2, 0.2**2)
    attention = Attention(pattern, mask, heads=8, value=value, output=output)
    mlp = Dense(1.4**2, 0.1**2) >> Pointwise(relu) >> Dense(0.8**2, 0.1**2)
    norm = LayerNorm(1e-12)
    block = Residual(norm >> attention) >> Residual(norm >> mlp)
    return Dense(1, 0.1**2) >> block * depth >> Dense()


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Return what asks neural-tangents for a kernel, and returns how long it took."""
    if VARIABLE not in os.environ:
        pytest.skip(
            f"{VARIABLE} names no Python with neural-tangents 0.6.5; how to set one up "
            f"stands at the top of {Path(__file__).name}"
        )
    script = Path(__file__).with_name("tangents_worker.py")
    with subprocess.Popen(
        [os.environ[VARIABLE], script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # jax has much to say
        text=True,
    ) as worker:
        into, out = worker.stdin, worker.stdout
        assert into is not None
        assert out is not None

        def seconds(given: Path, depth: int, found: Path) -> float:
            request = {"input": str(given), "depth": depth, "output": str(found)}
            print(json.dumps(request), file=into, flush=True)
            return float(out.readline())

        yield seconds


@pytest.mark.parametrize("depth", [12, 48])
@pytest.mark.parametrize("T", [64, 256, AT])
def test_transformer_kernel(T: int, depth: int, ask: Ask, tmp_path: Path) -> None:
    """The same kernel; at T = 1024 in 0.4 of its time, uniform, local or shaped in 0.1."""
    X = np.random.default_rng(0).standard_normal((T, T))
    given, found = tmp_path / "X.npy", tmp_path / "K.npy"
    np.save(given, X)

    def ours(name: str) -> tuple[float, np.ndarray]:
        start = time.perf_counter()
        K = kernel(transformer(name, depth), X @ X.T / T)
        return time.perf_counter() - start, K

    first = {name: ours(name)[1] for name in PATTERNS}
    ask(given, depth, found)
    theirs = np.load(found, allow_pickle=False)
    assert np.abs(first["softmax"] - theirs).max() <= 1e-12 * np.abs(theirs).max()

    turns = [
        (ask(given, depth, found), *(ours(name)[0] for name in PATTERNS))
        for _ in range(TURNS)
    ]
    unit, *times = (min(column) for column in zip(*turns, strict=True))
    shares = dict(zip(PATTERNS, (seconds / unit for seconds in times), strict=True))
    print(
        f"\n{depth} blocks, T = {T}: neural-tangents {unit:.3g} s; of that, ours take"
    )
    print(", ".join(f"{name} {share:.3f}" for name, share in shares.items()))
    if T == AT:
        assert shares.pop("softmax") <= DENSE
        assert max(shares.values()) <= STRUCTURED
