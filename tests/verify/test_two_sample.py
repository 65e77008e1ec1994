"""Equality in law: the distance is SciPy's, and verdicts err as rarely as they say."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from asymptest.theory.errors import ArgumentError, ShapeError
from asymptest.verify.check import check
from asymptest.verify.claim import Claim, Law, Profile, Source, Status
from asymptest.verify.two_sample import decide_law, deviation, distance, draws_needed

PROFILE = Profile("tests", examples=1, instances=2, resolution=0.1)


def normal(shift: int, copies: int, rng: np.random.Generator) -> np.ndarray:
    """Return N(shift, 1), and its sign: a statistic of two values."""
    values = shift + rng.standard_normal((copies, 1))
    return np.concatenate([values, np.sign(values)], axis=1)


def moved(by: float):
    return lambda shift, copies, rng: normal(shift + by, copies, rng)


SAME = Law(normal, normal, ("value", "sign"))


@given(
    left=st.lists(st.integers(-3, 3), min_size=2, max_size=30),
    right=st.lists(st.integers(-3, 3), min_size=2, max_size=30),
)
def test_distance_is_that_of_kolmogorov_and_smirnov(left: list, right: list) -> None:
    one, two = np.array(left, float), np.array(right, float)
    expected: Any = stats.ks_2samp(one, two, method="asymp")
    assert distance(one, two) == pytest.approx(expected.statistic, abs=1e-15)
    assert distance(two, one) == distance(one, two)


def test_nan_counts_as_the_largest_value() -> None:
    nan = np.array([math.nan, 1.0, math.inf, 2.0])
    assert distance(nan, nan[::-1]) == 0
    assert distance(nan, np.array([math.inf, 1.0, math.inf, 2.0])) == 0.25


@pytest.mark.parametrize("discrete", [False, True])
def test_deviation_is_exceeded_as_rarely_as_it_says(discrete: bool) -> None:
    """Both samples are within it of their law but for alpha; so the distance is within 2."""
    runs, draws, alpha = 4000, 50, 0.2
    rng = np.random.default_rng(0)
    values = rng.random((2, runs, draws))
    values = np.round(values * 4) if discrete else values
    t = deviation(alpha, draws)
    far = sum(distance(a, b) > 2 * t for a, b in zip(*values, strict=True))
    assert far <= alpha * runs
    if not discrete:  # one sample alone: Massart's constant leaves little room
        exact = stats.kstwo.sf(t, draws)
        assert alpha / 4 < exact <= alpha / 2


@given(
    alpha=st.floats(-12, -1).map(lambda e: 10**e),
    miss=st.floats(-6, -1).map(lambda e: 10**e),
    resolution=st.floats(0.01, 1),
)
def test_draws_needed_are_the_fewest(
    alpha: float, miss: float, resolution: float
) -> None:
    count = draws_needed(alpha, miss, resolution)

    def reached(draws: int) -> float:
        return 2 * (deviation(alpha, draws) + deviation(miss, draws))

    assert reached(count) <= resolution * (1 + 1e-12)
    assert count == 1 or reached(count - 1) > resolution * (1 - 1e-9)


@pytest.mark.parametrize(
    ("right", "status"),
    [
        (normal, Status.SUPPORTED),
        (moved(0.3), Status.REFUTED),  # a distance of 2 Phi(0.15) - 1 = 0.12
        (moved(0.125), Status.INCONCLUSIVE),  # 0.05: neither near enough nor far enough
    ],
)
def test_verdicts(right, status: Status) -> None:
    part = replace(SAME, right=right)
    # So rare an error asks for many draws: the distance is seen to 0.004.
    found = decide_law(part, st.integers(0, 0), PROFILE, seed=1, alpha=1e-40)
    assert found.verdict is status
    assert found.kind == "law"
    assert found.comparisons == 2
    assert found.alpha == 1e-40
    assert found.distance is not None
    assert found.resolution is not None
    assert 0 < found.distance < found.resolution
    assert (found.resolution <= 0.1) == (status is Status.SUPPORTED)
    assert (found.counterexample is not None) == (status is Status.REFUTED)


def test_one_instance_refutes() -> None:
    """The law differs at 1 alone."""
    part = replace(SAME, right=lambda i, n, rng: normal(i * (1 + (i == 1)), n, rng))
    found = decide_law(part, st.integers(0, 1), PROFILE, seed=2, alpha=1e-6)
    assert found.verdict is Status.REFUTED
    assert found.counterexample == "1"


def test_every_statistic_counts() -> None:
    """The same values, another sign."""

    def flipped(shift: int, copies: int, rng: np.random.Generator) -> np.ndarray:
        return normal(shift, copies, rng) * [1, -1]

    found = decide_law(
        replace(SAME, right=flipped), st.just(1), PROFILE, seed=3, alpha=1e-6
    )
    assert found.verdict is Status.REFUTED
    assert "sign" in found.detail


def test_bad_samplers_are_named() -> None:
    part = replace(SAME, right=lambda i, n, rng: np.zeros((n, 1)))
    with pytest.raises(ShapeError, match=r"value, sign; got the shape \(\d+, 1\)"):
        decide_law(part, st.just(0), PROFILE, 0, 1e-6)
    with pytest.raises(ArgumentError, match="no strategy"):
        decide_law(SAME, None, PROFILE, 0, 1e-6)


def test_a_claim_of_laws_refutes_its_mutants() -> None:
    def broken(instance: int, copies: int, rng: np.random.Generator) -> np.ndarray:
        raise ValueError("no such law")

    claim = Claim(
        name="test/law",
        statement=(sp.Symbol("s"),),
        source=Source("none", "none"),
        evidence=(replace(SAME, coarseness=10),),
        limits="a test",
        instances=st.integers(0, 3),
        mutants={"moved": replace(SAME, right=moved(1.0), coarseness=10)},
    )
    verdict = check(claim, seed=4)
    assert verdict.verdict is Status.SUPPORTED
    assert verdict.mutants["moved"].verdict is Status.REFUTED
    assert verdict.evidence[0].alpha == pytest.approx(5e-7)  # shared by the two
    assert check(claim, seed=4).evidence == verdict.evidence
    assert check(claim, seed=5).evidence != verdict.evidence
    wrong = replace(claim, evidence=(replace(SAME, right=broken),), mutants={})
    assert check(wrong).verdict is Status.ERROR
    assert "no such law" in check(wrong).evidence[0].detail
