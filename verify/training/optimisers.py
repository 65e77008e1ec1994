r"""Optimisers and learning-rate schedules of the runs.

The growth laws of misaligned steps (θᵀδ = 0) that they probe:

| step | law of ‖θ‖ |
|---|---|
| ‖δ‖ constant: AdamW at a constant rate | t^{1/2} |
| ‖δ‖ ∝ 1/√t: AdamW at the rate 1/√t | (log t)^{1/2} |
| ‖δ‖ ∝ 1/‖θ‖: SGD on a scale-invariant loss | t^{1/4} |
| ‖δ‖ = κ‖θ‖/√t: Adafactor at the rate 1/√t | t^{κ²/2} |

Adafactor takes steps relative to the parameters' size by construction; it trained T5, whose
norm arXiv 2010.09697 fits by √t, the case κ = 1 of the last line.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import Optimizer

Optimiser = Literal["adamw", "sgd", "adafactor"]
Schedule = Literal["constant", "inverse_sqrt", "linear", "warmup"]
HOLD = 100  # steps at the full rate before 1/√t sets in
WARM = 0.05  # of the steps, in which the rate of "warmup" rises


def factor(schedule: Schedule, step: int, steps: int) -> float:
    """Return what multiplies the learning rate at a step, from 1, of a run of `steps`.

    >>> [factor("inverse_sqrt", step, 900) for step in (1, 100, 400)]
    [1.0, 1.0, 0.5]
    >>> [factor("linear", step, 4) for step in (1, 2, 4)]
    [1.0, 0.75, 0.25]
    >>> [round(factor("warmup", step, 100), 9) for step in (1, 5, 100)]
    [0.2, 0.96, 0.01]
    """
    match schedule:
        case "constant":
            return 1.0
        case "inverse_sqrt":
            return min(1.0, (HOLD / step) ** 0.5)
        case "linear":
            return 1 - (step - 1) / steps
        case "warmup":
            rising = min(1.0, step / max(WARM * steps, 1))
            return rising * (1 - (step - 1) / steps)


def make_optimiser(
    kind: Optimiser, parameters: Iterable[nn.Parameter], rate: float, decay: float
) -> Optimizer:
    """Return an optimiser; its other settings are PyTorch's own.

    Args:
        kind: "adamw" and "adafactor" decay weights by rate * decay at each step, apart
            from the gradient; "sgd" has no momentum and adds decay * θ to the gradient,
            which without momentum is the same.
        parameters: to train.
        rate: learning rate; Adafactor's is relative to the root mean square of a tensor.
        decay: weight decay.
    """
    match kind:
        case "adamw":
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
        case "sgd":
            return torch.optim.SGD(parameters, lr=rate, weight_decay=decay)
        case "adafactor":
            return torch.optim.Adafactor(parameters, lr=rate, weight_decay=decay)


def make_schedule(optimizer: Optimizer, schedule: Schedule, steps: int) -> LambdaLR:
    """Return the scheduler; its `step()` follows each step of the optimiser."""
    return LambdaLR(optimizer, lambda done: factor(schedule, done + 1, steps))
