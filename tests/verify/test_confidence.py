"""The confidence sequence against quadrature, exact enumeration and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from asymptest.verify.confidence import ConfidenceSequence, Moments

SLIP = 1e-6  # probability that a simulation below fails although the code is right


def looks(first: int, last: int) -> list[int]:
    totals = [first]
    while totals[-1] < last:
        totals.append(min(last, math.ceil(1.5 * totals[-1])))
    return totals


def test_moments_merge_to_those_of_the_whole():
    blocks = np.random.default_rng(0).gamma(2.0, size=(500, 3))
    blocks += np.array([0.0, 1e3, -1e6])
    merged = Moments.of(blocks[:130]).merge(Moments.of(blocks[130:]))
    assert merged.count == 500
    np.testing.assert_allclose(merged.mean, blocks.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(merged.spread, blocks.std(axis=0), rtol=1e-8)
    np.testing.assert_allclose(merged.skewness, stats.skew(blocks), rtol=1e-7)


def test_moments_of_equal_blocks_are_exact():
    third = Moments.of(np.full((1000, 1), 1 / 3))
    whole = third.merge(third)
    assert whole.mean == 1 / 3
    assert whole.spread == 0
    assert whole.skewness == 0


@pytest.mark.parametrize(("blocks", "alpha", "horizon"), [(9, 0.05, 9), (12, 0.2, 40)])
def test_multiplier_is_where_the_likelihood_ratio_reaches_one_over_alpha(
    blocks: int, alpha: float, horizon: int
):
    # The definition of E_t, integrated over log σ and δ, for blocks of spread 1 whose
    # mean is h off. On a grid: sums of analytic, decaying functions converge fast.
    sequence = ConfidenceSequence(alpha, horizon, jump=0.0)
    h = sequence.multiplier(blocks)
    m = horizon / (sequence.critical - 1)

    log_sigma = np.linspace(-3, 9, 1201)[:, None]
    delta = np.linspace(-12, 12, 1201) / math.sqrt(m)
    prior = np.exp(-m * delta**2 / 2)

    def log_likelihood(delta: np.ndarray) -> np.ndarray:
        squares = ((h * np.exp(-log_sigma) - delta) ** 2) + np.exp(-2 * log_sigma)
        return -blocks * (log_sigma + squares / 2)

    mixture = np.exp(log_likelihood(delta)).sum(axis=0) @ prior / prior.sum()
    null = np.exp(log_likelihood(np.zeros(1))).sum()
    assert mixture / null == pytest.approx(1 / alpha, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 1e-3, 1e-9])
def test_multiplier_is_sharp(alpha: float):
    # At its horizon it is the Robbins boundary (up to z²/t), tighter than that of any
    # other horizon. Looking at will costs at most 1.6 times the fixed-sample width.
    horizon = 10**6
    sequence = ConfidenceSequence(alpha, horizon, jump=0.0)
    z = sequence.multiplier(horizon) * math.sqrt(horizon)
    assert z == pytest.approx(math.sqrt(sequence.critical), rel=1e-4)
    assert z <= 1.6 * stats.norm.isf(alpha / 2)
    for other in (horizon // 2, horizon * 2):
        mistuned = ConfidenceSequence(alpha, other, jump=0.0)
        assert mistuned.multiplier(horizon) * math.sqrt(horizon) > z


def test_multiplier_is_infinite_where_the_level_is_out_of_reach():
    sequence = ConfidenceSequence(1e-9, 1000, jump=0.0)
    assert sequence.multiplier(3) == math.inf
    assert (sequence.radius(3, np.zeros(2), np.zeros(2)) == np.inf).all()


LAWS = {
    "gaussian": lambda rng, size: rng.normal(size=size),
    "average of 64 squares": lambda rng, size: rng.gamma(32, 1 / 32, size) - 1,
    "one square": lambda rng, size: rng.chisquare(1, size) - 1,
    "log-normal": lambda rng, size: (
        rng.lognormal(sigma=0.5, size=size) - math.exp(0.125)
    ),
}


def misses(sequence: ConfidenceSequence, draw, totals: list[int]) -> np.ndarray:
    """Return for each column whether its region ever leaves out the mean, 0."""
    seen = Moments.of(draw(totals[0]))
    missed = np.zeros(seen.mean.shape, bool)
    for total in totals:
        if total > seen.count:
            seen = seen.merge(Moments.of(draw(total - seen.count)))
        centre, radius = sequence.region(seen)
        missed |= ~(abs(centre) <= radius)
    return missed


@pytest.mark.parametrize("alpha", [0.05, 0.01, 1e-3])
@pytest.mark.parametrize("law", LAWS)
def test_region_misses_no_more_often_than_it_says(law: str, alpha: float):
    rng = np.random.default_rng([*law.encode(), round(1 / alpha)])
    columns = round(20 / alpha)
    sequence = ConfidenceSequence(alpha, horizon=512, jump=0.0)
    missed = misses(
        sequence,
        lambda count: LAWS[law](rng, (count, columns)),
        looks(sequence.burn_in, 512),
    )
    print(f"{law}: {missed.mean() / alpha:.3f} alpha")
    assert missed.sum() <= stats.binom.isf(SLIP, columns, alpha)


@pytest.mark.parametrize("alpha", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("shape", [1, 8, 32])
def test_region_is_honest_at_the_levels_in_use(shape: int, alpha: float):
    # Gamma blocks of skewness γ = 2/sqrt(shape), importance-sampled: blocks of scale s
    # make a low mean common, and the likelihood ratio at the first miss depends on the
    # sum alone. The scales are those that bring the mean to the edge at each look.
    columns, horizon = 6000, 1024
    rng = np.random.default_rng([shape, round(1 / alpha)])
    sequence = ConfidenceSequence(alpha, horizon, jump=0.0)
    totals = looks(sequence.burn_in, horizon)
    h = np.array([sequence.multiplier(t) for t in totals])
    edges = h * (1 + 2 / math.sqrt(shape) * h / 3) / math.sqrt(shape)
    scales = np.concatenate([1 / (1 + c * edges) for c in (0.6, 0.75, 0.9, 1.05)])
    chosen = rng.choice(scales, columns)

    weight = np.zeros(columns)
    seen = None
    for total in totals:
        fresh = rng.gamma(shape, chosen, (total - (seen.count if seen else 0), columns))
        seen = seen.merge(Moments.of(fresh)) if seen else Moments.of(fresh)
        centre, radius = sequence.region(seen)
        log_ratio = -shape * total * np.log(scales)[:, None] - np.outer(
            1 / scales - 1, total * centre
        )
        with np.errstate(over="ignore"):  # to weight 0
            now = 1 / np.exp(log_ratio).mean(axis=0)
        weight = np.where((weight == 0) & (abs(centre - shape) > radius), now, weight)
    error = weight.std() / math.sqrt(columns)
    print(f"{weight.mean() / alpha:.4f} +- {error / alpha:.4f} alpha")
    assert weight.mean() > 0  # the proposal does reach the edge
    assert weight.mean() + 5 * error <= alpha


@pytest.mark.parametrize("horizon", [256, 1024])
@pytest.mark.parametrize("alpha", [0.05, 1e-3, 1e-9])
def test_rare_jumps_are_not_mistaken_for_constants(alpha: float, horizon: int):
    # Blocks that jump by `jump` with probability p. The number of jumps is a Markov
    # chain, so the error probability is a sum, without simulation.
    sequence = ConfidenceSequence(alpha, horizon, jump=1.0)
    worst = 0.0
    for p in np.geomspace(1e-6, 0.5, 40):
        alive, missed, total = np.ones(1), 0.0, 0
        for t in looks(sequence.burn_in, horizon):
            step = stats.binom.pmf(np.arange(t - total + 1), t - total, p)
            alive, total = np.convolve(alive, step), t
            f = np.arange(t + 1) / t
            jumps = Moments(t, f, t * f * (1 - f), t * f * (1 - f) * (1 - 2 * f))
            centre, radius = sequence.region(jumps)
            out = ~(abs(centre - p) <= radius)
            missed += alive[out].sum()
            alive[out] = 0
        worst = max(worst, missed)
    print(f"{worst / alpha:.3f} alpha")
    assert worst <= alpha
