"""Rows of random logits, drawn block by block: those that see few keys more often.

Under a causal mask row t averages over t keys, so the first rows fluctuate most, and drawing
them takes the first keys only. Let S be what draws of all rows say about the kernel of such
a leading block, and S* the better estimate from draws of the block alone. All rows are
corrected by

    Γ (S* - S) Γ',     Γ = [1; W],

where W predicts later rows from the block. The estimate is unbiased for any W that is fixed
beforehand. W from the expansion to second order corrects nearly equal rows nearly alike,
within the block or not, so that their small difference survives. Only the large eigenvalues of
the block enter: dividing by the small ones of a smooth kernel would multiply the noise.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from asymptest.numerics.logit_rows import Damping, Rows, damping, rows, work
from asymptest.numerics.replicates import Budget, Parts, Stack, settle

Square = Float[np.ndarray, "Q Q"]

FEWER = 2  # the most keys that a row sees are this many times those of a block's rows
CHEAPER = 4  # and drawing all rows takes at least this many times longer
FINER = 0.8  # the standard error of a block relative to that of what builds on it
RANK = 1e-2  # eigenvalues of a block below that share of the largest predict nothing


def drawn(
    L: Float[np.ndarray, "Q D"],
    C: Square,
    K: Float[np.ndarray, "D D"],
    V: Float[np.ndarray, "D D"],
    budget: Budget,
    rng: np.random.Generator,
) -> Stack:
    """Return replicates of E[A V A'], one for each generator of the budget.

    Args:
        L: logits without the random part, -inf where a key is hidden.
        C: covariance of the random part over queries.
        K: kernel of the keys.
        V: kernel of the values.
        budget: how much may be spent, and what is to be reached.
        rng: generator of the pilots.
    """
    every = rows(L, C, K, V)
    if not every.is_random:
        return np.stack([every.start] * len(budget.rngs))
    by = damping(every, rng)
    lead = _leading(L)
    if len(lead) == 0:
        return settle(every, by, _whole, budget)
    seen = np.isfinite(L[lead]).any(0)
    finer = budget if budget.rtol is None else replace(budget, rtol=FINER * budget.rtol)
    block = np.ix_(lead, lead)
    keys = np.ix_(seen, seen)
    known = drawn(L[np.ix_(lead, seen)], C[block], K[keys], V[keys], finer, rng)
    effect = _effect(every, by, lead)
    in_all = np.ix_(np.arange(len(known)), lead, lead)

    def corrected(parts: Parts) -> Stack:
        kernels = _whole(parts)
        kernels += effect @ (known - kernels[in_all]) @ effect.T
        kernels[in_all] = known  # exactly, where the sum above has rounded
        return kernels

    return settle(every, by, corrected, budget)


def _whole(parts: Parts) -> Stack:
    return parts.sum(1)


def _leading(L: Float[np.ndarray, "Q D"]) -> Int[np.ndarray, " lead"]:
    """Return the rows that see few keys, if drawing them alone is cheap."""
    seen = np.isfinite(L)
    count = seen.sum(1)
    lead = np.flatnonzero(FEWER * count <= count.max())
    keys = int(seen[lead].any(0).sum())
    return lead if CHEAPER * work(len(lead), keys) <= work(*L.shape) else lead[:0]


def _effect(
    every: Rows, by: Damping, lead: Int[np.ndarray, " lead"]
) -> Float[np.ndarray, "Q lead"]:
    """Return Γ from the expansion of the kernel."""
    expansion = every.start + np.outer(by.first, by.first) * every.first
    block = expansion[np.ix_(lead, lead)]
    effect = expansion[:, lead] @ np.linalg.pinv(block, rcond=RANK, hermitian=True)
    effect[lead] = np.eye(len(lead))
    return effect
