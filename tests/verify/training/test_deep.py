"""Networks without skips and norms that learn: what they are, and what they start from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asymptest.numerics import kernels
from asymptest.theory import Chain
from asymptest.verify import kernel_of
from asymptest.verify.finite import finite
from asymptest.verify.training.blocks import Architecture, blocks
from asymptest.verify.training.models import LanguageModel
from asymptest.verify.training.profiles import DEEP, specs
from asymptest.verify.training.run import Run, train

DEPTH = 16


def test_the_runs_are_a_whole_comparison() -> None:
    """Every method at every depth with every seed, on the same budget."""
    runs = specs("deep")
    assert len({run.name for run in runs}) == len(runs) == 5 * 2 * 3
    assert {run.architecture for run in runs} == set(DEEP)
    same = {replace(run, architecture="pre", rate=0.0, depth=0, seed=0) for run in runs}
    assert len(same) == 1


@pytest.mark.parametrize("architecture", ["v-skipinit", "u-spa", "e-spa"])
def test_shaped_blocks_start_from_what_is_predicted(architecture: Architecture) -> None:
    """Attention carries kernels exactly; the MLPs' activation is the only randomness."""
    T, width = 6, 128
    network = Chain(blocks(architecture, 4, DEPTH))
    X0 = torch.eye(T, width, dtype=torch.float64) * width**0.5
    found = kernel_of(finite(network, width, copies=6, rng=1), X0)
    predicted = kernels(network, np.eye(T))[-1]
    spread = found.std(0, ddof=1) / len(found) ** 0.5
    # The spread of few copies, and the bias of a finite width.
    assert (np.abs(found.mean(0) - predicted) < 6 * spread + 0.1).all()
    assert np.abs(predicted - np.eye(T)).max() > 0.5


@pytest.mark.parametrize("architecture", DEEP)
def test_gradients_at_the_start(architecture: Architecture) -> None:
    """W^K waits for W^Q in shaped attention, and both for beta in Value-SkipInit."""
    model = LanguageModel(architecture, 10, 8, 16, DEPTH, 2, seed=0)
    ids = torch.arange(18).reshape(2, 9) % 10
    model.loss(ids).backward()
    moving = {"WQ": False, "WK": False, "beta": False}
    for name, parameter in model.named_parameters():
        kind = name.rsplit(".", 1)[-1]
        if kind in moving and parameter.grad is not None:
            moving[kind] |= bool((parameter.grad != 0).any())
    match architecture:
        case "v-skipinit":
            assert moving == {"WQ": False, "WK": False, "beta": True}
        case "u-spa" | "e-spa":
            assert moving == {"WQ": True, "WK": False, "beta": False}
        case _:
            assert moving == {"WQ": True, "WK": True, "beta": False}


@pytest.mark.parametrize("architecture", DEEP)
def test_a_run_learns_and_keeps_its_losses(
    architecture: Architecture, tmp_path: Path
) -> None:
    (spec,) = (s for s in specs("deep-smoke") if s.architecture == architecture)
    spec = replace(spec, width=16, context=16, steps=40, rate=3e-3)
    result = train(spec, tmp_path)
    curve = result["curve"]
    assert curve["step"] == [10, 20, 30, 40]
    # The smallest gain is that of vanilla, which learns how often a character occurs.
    assert curve["loss"][-1] < curve["loss"][0] - 0.1
    assert result["landmarks"][0]["step"] == 0
    assert result["landmarks"][-1]["step"] == 40


def test_a_run_without_recorders_resumes() -> None:
    (spec, *_) = specs("deep-smoke")
    spec = replace(spec, width=16, context=16, steps=6)
    whole, first, second = Run(spec), Run(spec), Run(spec)
    for _ in range(6):
        whole.advance()
    for _ in range(3):
        first.advance()
    second.load_state_dict(first.state_dict())
    while not second.done:
        second.advance()
    assert second.losses == whole.losses
