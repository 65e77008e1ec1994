import numpy as np
import pytest
import torch
from torch import nn

from asymptest.verify.training.recorder import Recorder
from asymptest.verify.training.summary import checkpoint_share, laws, spread, summary

DIMENSION, STEPS, START = 4000, 1200, 3.0


def random_walk(every: int) -> tuple[Recorder, Recorder]:
    """Independent Gaussian steps of size 1 from ‖θ‖ = 3, recorded."""
    torch.manual_seed(4)
    weight = nn.Parameter(torch.zeros(DIMENSION, dtype=torch.float64))
    with torch.no_grad():
        weight[0] = START
    sgd = torch.optim.SGD([weight], lr=1.0)
    recorders = Recorder(sgd), Recorder(sgd, lambda t: t % every == 0)
    for _ in range(STEPS):
        weight.grad = torch.randn(DIMENSION, dtype=torch.float64) / DIMENSION**0.5
        sgd.step()
    return recorders


def test_a_random_walk_has_the_laws_of_one() -> None:
    path, checkpoints = random_walk(30)
    found = laws(path.records, checkpoints.records, fitted=True)
    # ‖θ_t‖² = 9 + t, but for fluctuations of relative size DIMENSION^(-1/2).
    assert found["misaligned"]["share"] == pytest.approx(1, abs=0.05)
    assert found["checkpoint_share"] == pytest.approx(1, abs=0.05)
    assert found["late_excess"]["value"] == pytest.approx(0.5, abs=0.03)
    assert found["late"]["value"] == pytest.approx(
        found["late_misaligned"]["exponent"], abs=0.03
    )
    assert found["free"]["value"] == pytest.approx(0.5, abs=0.06)


def test_steps_along_the_parameters_are_told_from_steps_across_them() -> None:
    weight = nn.Parameter(torch.ones(4, dtype=torch.float64))
    sgd = torch.optim.SGD([weight], lr=1.0)
    path, checkpoints = Recorder(sgd), Recorder(sgd, lambda t: t % 10 == 0)
    for _ in range(40):
        weight.grad = torch.full_like(weight, -0.1)
        sgd.step()
    found = laws(path.records, checkpoints.records, fitted=False)
    # ‖θ‖ goes from 2 to 10 in 40 steps of 0.2, or 4 of 2.
    assert found["misaligned"]["share"] == pytest.approx(40 * 0.04 / 96)
    assert found["checkpoint_share"] == pytest.approx(4 * 4 / 96)
    assert checkpoint_share(2.0, checkpoints.records) == found["checkpoint_share"]
    assert set(found) == {"misaligned", "checkpoint_share"}


def test_the_kept_steps_are_those_of_the_path() -> None:
    path, checkpoints = random_walk(300)
    losses = [float(k) for k in range(STEPS)]
    found = summary(path.records, checkpoints.records, losses, points=5)
    assert (
        found["path"]["step"] == spread(1, STEPS, 5).tolist() == [1, 6, 35, 204, 1200]
    )
    assert found["path"]["loss"] == [0.0, 5.0, 34.0, 203.0, 1199.0]
    assert found["path"]["norm"][3] == path.records[203].norm
    assert found["checkpoints"]["step"] == [300, 600, 900, 1200]
    assert found["start"] == START
    assert found["end"] == START + found["change"]
    assert found["loss"] == np.mean(losses[-60:])


def test_spread_is_whole_increasing_and_reaches_both_ends() -> None:
    for last in (1, 2, 7, 6000):
        for points in (2, 5, 100):
            found = spread(1, last, points)
            assert (found[0], found[-1]) == (1, last)
            assert (np.diff(found) > 0).all()
            assert len(found) <= points
