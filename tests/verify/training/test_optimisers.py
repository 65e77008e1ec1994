import pytest
import torch
from torch import nn

from asymptest.verify.training.optimisers import (
    HOLD,
    Schedule,
    make_optimiser,
    make_schedule,
)
from asymptest.verify.training.recorder import Recorder

STEPS = 400


@pytest.mark.parametrize("schedule", ["constant", "inverse_sqrt", "linear"])
def test_each_step_has_the_rate_of_its_number(schedule: Schedule) -> None:
    # With the gradient 1, SGD moves by its learning rate.
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    sgd = make_optimiser("sgd", [weight], 2.0, 0.0)
    scheduler, recorder = make_schedule(sgd, schedule, STEPS), Recorder(sgd)
    for _ in range(STEPS):
        weight.grad = torch.ones(1, dtype=torch.float64)
        sgd.step()
        scheduler.step()
    moved = [record.size for record in recorder.records]
    step = torch.arange(1, STEPS + 1, dtype=torch.float64)
    expected = {
        "constant": torch.ones(STEPS),
        "inverse_sqrt": (HOLD / step.clamp(min=HOLD)).sqrt(),
        "linear": (STEPS + 1 - step) / STEPS,
    }[schedule]
    assert moved == pytest.approx((2 * expected).tolist(), rel=1e-9)


@pytest.mark.parametrize("kind", ["adamw", "sgd", "adafactor"])
def test_weight_decay_shrinks_by_the_rate_times_the_decay(kind) -> None:
    weight = nn.Parameter(torch.full((4, 4), 2.0, dtype=torch.float64))
    optimizer = make_optimiser(kind, [weight], 0.1, 0.01)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert torch.allclose(weight, torch.full_like(weight, 2 * (1 - 0.001)))


def test_adafactors_steps_are_relative_to_the_parameters() -> None:
    # κ = ‖δ‖ √t / ‖θ‖ stays rate * sqrt(HOLD), whatever the scale of the parameters.
    for scale in (1.0, 1000.0):
        torch.manual_seed(0)
        weight = nn.Parameter(scale * torch.randn(20, 30, dtype=torch.float64))
        optimizer = make_optimiser("adafactor", [weight], 0.05, 0.0)
        schedule, recorder = (
            make_schedule(optimizer, "inverse_sqrt", STEPS),
            Recorder(optimizer),
        )
        for _ in range(STEPS):
            weight.grad = torch.randn(20, 30, dtype=torch.float64)
            optimizer.step()
            schedule.step()
        late = [r.size * r.step**0.5 / r.before for r in recorder.records[HOLD:]]
        assert min(late) == pytest.approx(0.5, rel=0.1)
        assert max(late) == pytest.approx(0.5, rel=0.1)
