"""Does a stream of independent blocks have the predicted mean?

The blocks are drawn in rounds. After each round a region holds the true means of all
entries (`confidence.py`): with probability 1 - alpha it does so in every entry and at
every look at once, so one may look as often as one likes and stop when one likes. Each
prediction p is then compared with the region, centre c and radius r, in every entry:

    REFUTED       |c - p| - r > bias         in some entry: the mean is not what p says
    SUPPORTED     |c - p| + r <= resolution  in every entry: the mean is within the band
    INCONCLUSIVE  neither, and `Design.blocks` blocks are spent

The region is about the true mean and knows nothing of the predictions. Unless it
misses, which has probability alpha, *all* verdicts are right together: the claim and
any number of wrong variants are judged on the same blocks, at no further cost in alpha.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from asymptest.theory.errors import ArgumentError, ShapeError
from asymptest.verify.confidence import Moments
from asymptest.verify.design import Design

Status = Literal["SUPPORTED", "REFUTED", "INCONCLUSIVE"]
Entries = Float[np.ndarray, " d"]
# Anonymous axes: `_check` compares these shapes and names the argument that differs.
Unchecked = Float[np.ndarray, "..."]

GROWTH = 1.5  # from look to look: a decision costs at most 1.5 times what it needs


@dataclass(frozen=True)
class Outcome:
    """What the blocks say of one prediction, at the look that decided it.

    Attributes:
        status: the verdict.
        distance: largest |centre - prediction| / scale.
        resolution: largest (|centre - prediction| + radius) / scale: the mean has been
            shown to lie this close to the prediction.
        worst: the entry of the largest (|centre - prediction| - radius) / scale, the
            discrepancy that is certain.
        blocks: blocks seen at that look.
    """

    status: Status
    distance: float
    resolution: float
    worst: int
    blocks: int


@dataclass(frozen=True, eq=False)
class Decision:
    """All outcomes of one stream, and the region at its last look.

    Attributes:
        outcomes: by prediction, the claim's own first. They hold together: the region
            is simultaneous over entries and looks, and no prediction enters it.
        centre: means of the blocks; unit of the blocks.
        radius: half-widths of the region; unit of the blocks.
        blocks: blocks drawn.
        comparisons: entries compared, over all looks and undecided predictions.
        alpha: probability that any of this is wrong.
    """

    outcomes: Mapping[str, Outcome]
    centre: Entries
    radius: Entries
    blocks: int
    comparisons: int
    alpha: float

    @property
    def own(self) -> Outcome:
        """The outcome of the claim's own prediction."""
        return next(iter(self.outcomes.values()))


def decide(
    draw: Callable[[int], Float[np.ndarray, "k d"]],
    predictions: Mapping[str, Unchecked],
    scale: Unchecked,
    design: Design,
    *,
    burn_in: int | None = None,
) -> Decision:
    """Judge which of several predictions may be the mean of a stream of blocks.

    Draws until each prediction is SUPPORTED or REFUTED (once decided, always decided),
    `design.blocks` blocks at most. For Gaussian blocks alpha is a bound; for others see
    the assumptions in `confidence.py`.

    Args:
        draw: `draw(k)` returns the next k blocks, independent of all earlier ones.
        predictions: name -> predicted mean; the claim's own first, then its mutants.
        scale: natural size of each entry, positive; unit of the blocks.
        design: error probabilities, resolution and noise, in units of `scale`.
        burn_in: blocks before the first look, at least 2; None for `design.burn_in`.
            Fewer are honest for blocks closer to Gaussian.

    Raises:
        ShapeError: if a shape does not fit `design.entries`.
        ArgumentError: if there is no prediction, or `scale`, a prediction or a block is
            outside its domain; nan and infinity always are.

    >>> rng = np.random.default_rng(0)
    >>> found = decide(
    ...     lambda k: rng.normal(1.0, 0.1, (k, 2)),
    ...     {"one": np.array([1.0, 1.0]), "wrong": np.array([1.0, 1.2])},
    ...     scale=np.ones(2),
    ...     design=Design(alpha=1e-6, miss=0.01, resolution=0.05, noise=0.1, entries=2),
    ... )
    >>> {name: outcome.status for name, outcome in found.outcomes.items()}
    {'one': 'SUPPORTED', 'wrong': 'REFUTED'}
    """
    first = design.burn_in if burn_in is None else burn_in
    _check(predictions, scale, design, first)
    sequence = design.sequence(design.blocks)

    def sample(count: int) -> Moments:
        return Moments.of(_finite(draw(count), count, design.entries) / scale)

    outcomes: dict[str, Outcome] = {}
    undecided = list(predictions)
    comparisons = 0
    seen = sample(first)
    while True:
        centre, radius = sequence.region(seen)
        for name in undecided:
            distance = abs(centre - predictions[name] / scale)
            outcomes[name] = _judge(distance, radius, design, seen.count)
        comparisons += design.entries * len(undecided)
        undecided = [n for n in undecided if outcomes[n].status == "INCONCLUSIVE"]
        if not undecided or seen.count == design.blocks:
            return Decision(
                outcomes=outcomes,
                centre=centre * scale,
                radius=radius * scale,
                blocks=seen.count,
                comparisons=comparisons,
                alpha=design.alpha,
            )
        total = min(math.ceil(GROWTH * seen.count), design.blocks)
        seen = seen.merge(sample(total - seen.count))


def _judge(distance: Entries, radius: Entries, design: Design, blocks: int) -> Outcome:
    """Compare the region with one prediction; lengths in units of the scale."""
    certain = distance - radius
    reached = float((distance + radius).max())
    # REFUTED comes first: inside the band but excluded is still not the mean. A nan
    # fails both comparisons.
    status: Status = "INCONCLUSIVE"
    if certain.max() > design.bias:
        status = "REFUTED"
    elif reached <= design.resolution:
        status = "SUPPORTED"
    return Outcome(
        status, float(distance.max()), reached, int(certain.argmax()), blocks
    )


def _finite(blocks: np.ndarray, count: int, entries: int) -> Float[np.ndarray, "k d"]:
    """Return what `draw` returned, if it is blocks of finite numbers."""
    if blocks.shape != (count, entries):
        raise ShapeError(
            f"draw({count}) must return shape {(count, entries)}; got {blocks.shape}"
        )
    bad = np.argwhere(~np.isfinite(blocks))
    if len(bad):
        block, entry = bad[0]
        raise ArgumentError(
            f"draw({count}) returned {blocks[block, entry]} in block {block}, entry "
            f"{entry} ({len(bad)} such numbers); a mean needs finite blocks"
        )
    return blocks.astype(np.float64)


def _check(
    predictions: Mapping[str, Unchecked], scale: Unchecked, design: Design, first: int
) -> None:
    """Raise if an argument of `decide` is outside its domain."""
    if not predictions:
        raise ArgumentError("predictions is empty: there is nothing to decide")
    named = {"scale": scale}
    named |= {f"predictions[{name!r}]": value for name, value in predictions.items()}
    for name, value in named.items():
        if value.shape != (design.entries,):
            raise ShapeError(
                f"{name} must have shape {(design.entries,)}, one number for each of "
                f"design.entries; got {value.shape}"
            )
        if not np.isfinite(value).all():
            raise ArgumentError(f"{name} must be finite; got {value}")
    if not (scale > 0).all():
        raise ArgumentError(f"scale must be positive; got {scale}")
    if not 2 <= first <= design.blocks:
        raise ArgumentError(
            f"burn_in must be from 2 to design.blocks = {design.blocks}; got {first}"
        )
