"""Decisions: error rates, power, early stopping, and what they refuse."""

import numpy as np
import pytest
from scipy import stats

from asymptest.theory.errors import ArgumentError, ShapeError
from asymptest.verify.decision import decide
from asymptest.verify.design import Design

SLIP = 1e-6  # probability that a simulation below fails although the code is right
DESIGN = Design(alpha=1e-6, miss=0.01, resolution=0.1, noise=0.5, entries=3)
TRUTH = np.array([1.0, -2.0, 0.0])
ONES = np.ones(3)


def stream(seed: int, noise: float = 0.5, truth: np.ndarray = TRUTH):
    rng = np.random.default_rng(seed)
    return lambda count: truth + noise * rng.normal(size=(count, len(truth)))


def test_a_true_claim_is_supported_and_a_wrong_one_refuted_as_often_as_designed():
    design = Design(alpha=1e-3, miss=0.1, resolution=0.3, noise=1.0, entries=3)
    edge = np.array([0.0, 2 * design.resolution, 0.0])
    runs = [
        decide(
            stream(seed, noise=1.0),
            {"true": TRUTH, "wrong": TRUTH + edge, "far": TRUTH - 5 * edge},
            ONES,
            design,
        )
        for seed in range(200)
    ]
    # Undecided: `miss` in all; wrongly decided: `alpha` in all.
    undecided = sum(
        run.outcomes["true"].status != "SUPPORTED"
        or run.outcomes["wrong"].status != "REFUTED"
        for run in runs
    )
    print(f"undecided: {undecided} of {len(runs)}, designed for {design.miss}")
    limit = stats.binom.isf(SLIP, len(runs), design.miss + design.alpha)
    assert undecided <= limit
    for run in runs:
        assert run.outcomes["far"].status == "REFUTED"
        assert run.outcomes["far"].blocks == design.burn_in < design.blocks / 2
        assert run.outcomes["far"].worst == 1


@pytest.mark.parametrize("law", ["gaussian", "skewed"])
def test_a_true_claim_is_refuted_no_more_often_than_alpha(law: str):
    # Many entries, one stream: the false alarms of all entries and looks together.
    alpha, entries, runs = 0.05, 200, 150
    design = Design(alpha, miss=0.1, resolution=0.5, noise=1.0, entries=entries)
    rng = np.random.default_rng([*law.encode()])

    def draw(count: int) -> np.ndarray:
        if law == "gaussian":
            return rng.normal(size=(count, entries))
        return rng.gamma(2.0, size=(count, entries)) / np.sqrt(2) - np.sqrt(2)

    alarms = sum(
        decide(draw, {"true": np.zeros(entries)}, np.ones(entries), design).own.status
        == "REFUTED"
        for _ in range(runs)
    )
    print(f"{law}: {alarms} false alarms in {runs} runs at alpha = {alpha}")
    assert alarms <= stats.binom.isf(SLIP, runs, alpha)


def test_a_decision_replays_from_its_seed():
    predictions = {"true": TRUTH, "wrong": TRUTH + 0.3}
    first, again = (decide(stream(7), predictions, ONES, DESIGN) for _ in range(2))
    assert first.outcomes == again.outcomes
    assert (first.centre == again.centre).all()
    assert (first.radius == again.radius).all()
    assert first.own is first.outcomes["true"]


def test_verdicts_do_not_depend_on_the_unit():
    small = decide(stream(3), {"true": TRUTH}, ONES, DESIGN)
    inner = stream(3)
    large = decide(
        lambda count: 1024 * inner(count), {"true": 1024 * TRUTH}, 1024 * ONES, DESIGN
    )
    assert large.outcomes == small.outcomes  # powers of two are exact
    assert (large.centre == 1024 * small.centre).all()
    assert (large.radius == 1024 * small.radius).all()


def test_outcomes_say_what_the_region_shows():
    found = decide(stream(1), {"true": TRUTH, "wrong": TRUTH - 9}, ONES, DESIGN)
    true, wrong = found.outcomes["true"], found.outcomes["wrong"]
    distance = abs(found.centre - TRUTH)
    assert true.status == "SUPPORTED"
    assert true.distance == distance.max()
    assert true.resolution == (distance + found.radius).max() <= DESIGN.resolution
    assert wrong.status == "REFUTED"
    assert wrong.blocks == DESIGN.burn_in
    # Three entries: twice at the first look, then once a look for what is undecided.
    looks, total = 1, DESIGN.burn_in
    while total < found.blocks:
        looks, total = looks + 1, min(-(-3 * total // 2), DESIGN.blocks)
    assert found.comparisons == 3 * (looks + 1)
    assert found.alpha == DESIGN.alpha


def test_a_mutant_within_the_band_survives():
    mutant = TRUTH + np.array([1e-3, 0.0, 0.0])
    found = decide(stream(2), {"true": TRUTH, "mutant": mutant}, ONES, DESIGN)
    assert found.outcomes["mutant"].status == "SUPPORTED"


def test_a_stream_noisier_than_declared_is_inconclusive():
    found = decide(stream(4, noise=5.0), {"true": TRUTH}, ONES, DESIGN)
    assert found.own.status == "INCONCLUSIVE"
    assert found.blocks == found.own.blocks == DESIGN.blocks
    assert found.own.resolution > DESIGN.resolution


def test_the_bias_that_a_claim_declares_is_not_held_against_it():
    # Entry 0 is far quieter than the others, and 0.01 off.
    truth = TRUTH + np.array([0.01, 0.0, 0.0])
    rng = np.random.default_rng(5)
    noise = np.array([1e-6, 0.5, 0.5])

    def draw(count: int) -> np.ndarray:
        return truth + noise * rng.normal(size=(count, 3))

    exact = Design(alpha=1e-6, miss=0.01, resolution=0.05, noise=0.5, entries=3)
    loose = Design(1e-6, 0.01, resolution=0.05, noise=0.5, entries=3, bias=0.01)
    assert decide(draw, {"p": TRUTH}, ONES, exact).own.status == "REFUTED"
    assert decide(draw, {"p": TRUTH}, ONES, loose).own.status == "SUPPORTED"


def test_a_sampler_declared_deterministic_is_decided_to_rounding():
    design = Design(alpha=1e-6, miss=0.01, resolution=1e-10, noise=0.0, entries=1)
    third = np.array([1 / 3])

    def draw(count: int) -> np.ndarray:
        return np.full((count, 1), 1 / 3)

    predictions = {"true": third, "off": third + 1e-9, "ulp": np.nextafter(third, 1)}
    found = decide(draw, predictions, np.ones(1), design)
    assert found.centre == third
    assert 0 < found.radius[0] < 1e-13
    statuses = [outcome.status for outcome in found.outcomes.values()]
    assert statuses == ["SUPPORTED", "REFUTED", "SUPPORTED"]


def test_a_stream_that_happens_to_be_constant_is_no_proof():
    # Noise is declared and none is seen: a rare jump may still be on its way, so a
    # prediction a little off is not refuted at the first look.
    found = decide(
        lambda count: np.zeros((count, 3)),
        {"zero": np.zeros(3), "rare": np.array([0.01, 0.0, 0.0])},
        ONES,
        DESIGN,
    )
    assert [o.status for o in found.outcomes.values()] == ["SUPPORTED", "SUPPORTED"]
    assert (found.radius > 0.01).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("look", [0, 1])
def test_blocks_that_are_not_finite_are_refused(bad: float, look: int):
    inner, calls = stream(0), []

    def draw(count: int) -> np.ndarray:
        blocks = inner(count)
        if len(calls) == look:
            blocks[5, 2] = bad
        calls.append(count)
        return blocks

    with pytest.raises(ArgumentError, match=r"draw\(\d+\).* block 5, entry 2"):
        decide(draw, {"true": TRUTH}, ONES, DESIGN)


@pytest.mark.parametrize("shape", [(2, 3), (3,), (400, 2), (0, 3)])
def test_blocks_of_another_shape_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ShapeError, match="draw"):
        decide(lambda count: np.zeros(shape), {"true": TRUTH}, ONES, DESIGN)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_a_scale_that_is_not_positive_and_finite_is_refused(value: float):
    with pytest.raises(ArgumentError, match="scale"):
        decide(stream(0), {"true": TRUTH}, np.array([1.0, value, 1.0]), DESIGN)


def test_predictions_are_checked_by_name():
    with pytest.raises(ArgumentError, match="predictions is empty"):
        decide(stream(0), {}, ONES, DESIGN)
    with pytest.raises(ShapeError, match=r"predictions\['mutant'\]"):
        decide(stream(0), {"true": TRUTH, "mutant": TRUTH[:2]}, ONES, DESIGN)
    with pytest.raises(ArgumentError, match=r"predictions\['mutant'\]"):
        decide(stream(0), {"true": TRUTH, "mutant": TRUTH * np.nan}, ONES, DESIGN)
    with pytest.raises(ShapeError, match="scale"):
        decide(stream(0), {"true": TRUTH}, np.ones(1), DESIGN)


@pytest.mark.parametrize("burn_in", [0, 1, DESIGN.blocks + 1])
def test_a_burn_in_outside_the_design_is_refused(burn_in: int):
    with pytest.raises(ArgumentError, match="burn_in"):
        decide(stream(0), {"true": TRUTH}, ONES, DESIGN, burn_in=burn_in)


def test_a_short_burn_in_refutes_sooner():
    found = decide(stream(0), {"far": TRUTH + 9}, ONES, DESIGN, burn_in=100)
    assert found.own.status == "REFUTED"
    assert found.blocks == 100 < DESIGN.burn_in
