"""What is trained: the runs of each profile."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from asymptest.verify.training.blocks import Architecture, Normed
from asymptest.verify.training.optimisers import Optimiser, Schedule

ProfileName = Literal["smoke", "full", "deep-smoke", "deep"]
ARCHITECTURES: tuple[Normed, ...] = ("sublayer", "pre", "post")

# Optimiser, schedule, learning rate, weight decay.
Training = tuple[Optimiser, Schedule, float, float]

# What every architecture is trained with. A decay of 0.01 is the default of PyTorch's AdamW,
# and with the rate 0.01 what the code of arXiv 2010.09697 trains its small models with.
TRAININGS: tuple[Training, ...] = (
    ("adamw", "constant", 1e-3, 0.0),
    ("adamw", "constant", 1e-3, 0.01),
    ("adamw", "constant", 1e-2, 0.0),
    ("adamw", "constant", 1e-2, 0.01),
    ("adamw", "inverse_sqrt", 1e-3, 0.0),
    ("adamw", "linear", 1e-3, 0.0),
    ("sgd", "constant", 0.1, 0.0),
    ("sgd", "inverse_sqrt", 0.1, 0.0),
    ("adafactor", "inverse_sqrt", 0.05, 0.0),
)

# What two are trained with besides: κ near 1, and a decay of steps that are not rescaled.
MORE: tuple[Training, ...] = (
    ("adafactor", "inverse_sqrt", 0.1, 0.0),
    ("sgd", "constant", 0.1, 0.001),
)

# The sign of growth: the range of rates of arXiv 2010.09697, and decays around its threshold.
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
DECAYS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


# What trains in depth: arXiv 2302.10322's comparison, each at the best of three rates.
DEEP: dict[Architecture, float] = {
    "pre": 1e-3,
    "vanilla": 1e-3,
    "v-skipinit": 1e-3,
    "u-spa": 1e-3,
    "e-spa": 1e-3,
}
DEPTHS = (16, 48)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Spec:
    """One run, whole: equal specs give equal results, bit for bit, on one machine.

    Args:
        group: "growth", "grid" for the sign of growth, or "deep" for what trains in depth.
        architecture: of the model.
        optimiser: by name.
        schedule: of the learning rate.
        rate: learning rate at the first step.
        decay: weight decay.
        steps: of the optimiser.
        width: of the model; `depth` and `heads` too.
        context: number of positions.
        size: sequences in a batch.
        seed: of weights and batches.
        points: how many steps of the path are kept, and how many checkpoints; exponents
            are fitted if it is at least 20. If it is 0, only losses are.
        landmarks: how often saturation is measured after the first time, or only the loss
            on text that is not trained on if points is 0; 0 is never.
    """

    group: str
    architecture: Architecture
    optimiser: Optimiser
    schedule: Schedule
    rate: float
    decay: float
    steps: int
    width: int = 64
    depth: int = 4
    heads: int = 4
    context: int = 64
    size: int = 4
    seed: int = 0
    points: int = 40
    landmarks: int = 8

    @property
    def name(self) -> str:
        """What tells it from the others of its profile."""
        if self.group == "deep":
            kind = f"deep-{self.architecture}-{self.depth}"
            return f"{kind}-rate{self.rate:g}-seed{self.seed}"
        kind = f"{self.group}-{self.architecture}-{self.optimiser}-{self.schedule}"
        return f"{kind}-rate{self.rate:g}-decay{self.decay:g}"


def specs(profile: ProfileName) -> tuple[Spec, ...]:
    """Return the runs of a profile, all with different names.

    >>> len(specs("smoke")), len(specs("full"))
    (15, 121)
    """
    if profile == "deep":
        return _deep(DEPTHS, SEEDS, steps=1000)
    if profile == "deep-smoke":
        few = _deep(DEPTHS[:1], SEEDS[:1], steps=20)
        return tuple(replace(spec, width=32, context=32) for spec in few)
    if profile == "full":
        every = [*product(ARCHITECTURES, TRAININGS), *product(ARCHITECTURES[:2], MORE)]
        growth = [Spec("growth", a, *training, steps=5000) for a, training in every]
        return (*growth, *_grid(ARCHITECTURES, RATES, DECAYS))
    # All architectures once, and all trainings once.
    first, *others = ARCHITECTURES
    few = [*product((first,), TRAININGS), *product(others, TRAININGS[:1])]
    runs = [Spec("growth", a, *training, steps=200, landmarks=4) for a, training in few]
    grid = _grid(("pre",), (1e-3, 1e-2), (1e-3, 1e-1))
    runs += [replace(spec, steps=100) for spec in grid]
    return tuple(replace(spec, width=32, depth=2, heads=2, context=32) for spec in runs)


def _deep(
    depths: tuple[int, ...], seeds: tuple[int, ...], steps: int
) -> tuple[Spec, ...]:
    return tuple(
        Spec(
            "deep", architecture, "adamw", "warmup", rate, 0.0, steps,
            depth=depth, seed=seed, points=0, landmarks=8,
        )
        for (architecture, rate), depth, seed in product(DEEP.items(), depths, seeds)
    )  # fmt: skip


def _grid(
    architectures: tuple[Architecture, ...],
    rates: tuple[float, ...],
    decays: tuple[float, ...],
) -> list[Spec]:
    return [
        Spec("grid", a, "adamw", "constant", rate, decay, 400, points=4, landmarks=0)
        for a, rate, decay in product(architectures, rates, decays)
    ]
