"""Independent replicates of a mean over random logits, with as many draws as it takes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from asymptest.numerics.logit_rows import Damping, Rows, average, work
from asymptest.numerics.parallel import parallel_map
from asymptest.theory.errors import AccuracyError

Stack = Float[np.ndarray, "replicates Q Q"]
Parts = Float[np.ndarray, "replicates 2 rows rows"]

START = 2**17  # logits drawn before the spread is first looked at
GROWTH = 4  # of the number of draws at most, from one look to the next
MARGIN = 1.2  # a standard deviation of 16 numbers is known to 18 %
HOPELESS = 10  # what would take this many times the budget is not tried


@dataclass(frozen=True, eq=False)
class Budget:
    """What may be spent on each part of a problem.

    Args:
        samples: draws of the whole problem.
        unit: the work of one of them.
        rtol: the standard error to reach, relative to the largest entry; None to spend all.
        rngs: a generator for each replicate.
    """

    samples: int
    unit: float
    rtol: float | None
    rngs: tuple[np.random.Generator, ...]


def settle(
    rows: Rows, by: Damping, finish: Callable[[Parts], Stack], budget: Budget
) -> Stack:
    """Return replicates of a kernel.

    Args:
        rows: what is drawn.
        by: the damping of its control variate.
        finish: makes kernels of the even and odd parts.
        budget: how much may be spent, and what is to be reached.

    Raises:
        AccuracyError: if the budget does not reach its `rtol`.
    """
    replicates = len(budget.rngs)
    most = max(1, int(budget.samples * budget.unit / work(*rows.L.shape) / replicates))
    if budget.rtol is None:
        return finish(_averages(rows, by, most, budget.rngs))
    parts, done = np.zeros(()), 0
    target = min(most, max(1, START // (replicates * rows.L.size)))
    while True:
        share = (target - done) / target
        new = _averages(rows, by, target - done, budget.rngs)
        parts, done = (1 - share) * parts + share * new, target
        kernels = finish(parts)
        mean, error = mean_and_error(kernels)
        if error.max() <= budget.rtol * np.abs(mean).max():
            return kernels
        reached = error.max() / np.abs(mean).max()
        needed = MARGIN * done * (reached / budget.rtol) ** 2
        if done == most or needed > HOPELESS * most:
            enough = int(budget.samples * needed / most) + 1
            raise AccuracyError(
                f"samples = {budget.samples} does not reach rtol = {budget.rtol:g}: "
                f"{done / most:.2g} of it gave a standard error of {reached:.2g} of the "
                f"largest entry; about samples = {enough} would do",
                times=needed / most,
            )
        target = int(min(needed + 1, GROWTH * done, most))


def _averages(
    rows: Rows, by: Damping, n: int, rngs: tuple[np.random.Generator, ...]
) -> Parts:
    """Return an average over n draws for each generator, on all cores."""
    return np.array(parallel_map(lambda rng: average(rows, by, n, rng), rngs))


def mean_and_error(
    kernels: Stack,
) -> tuple[Float[np.ndarray, "Q Q"], Float[np.ndarray, "Q Q"]]:
    """Return the mean of independent kernels and its standard error, nan for a single one."""
    apart = kernels - kernels[0]  # 0, not rounding, where nothing is random
    error = np.full_like(apart[0], np.nan)
    if len(kernels) > 1:
        error = apart.std(0, ddof=1) / len(kernels) ** 0.5
    return kernels[0] + apart.mean(0), error
