"""The procedure: what each kind of evidence says of right and of wrong statements."""

import math

import numpy as np
import pytest
import sympy as sp
from hypothesis import strategies as st

from asymptest.verify.check import check
from asymptest.verify.claim import (
    Bound,
    Claim,
    Evidence,
    Exact,
    FiniteLaw,
    Identity,
    Limit,
    Rate,
    Source,
    Status,
)
from asymptest.verify.instances import derive, draw, search

x = sp.Symbol("x", positive=True)
SINE = Identity(lambda: {"pythagoras": sp.sin(x) ** 2 + sp.cos(x) ** 2 - 1})
WRONG_SINE = Identity(lambda: {"wrong": sp.sin(x) ** 2 - sp.cos(x) ** 2 - 1})
DOUBLE = Exact(lambda n, _: 2.0 * n, lambda n: n + n, lambda n: 1e-12)
WRONG_DOUBLE = Exact(lambda n, _: 2.0 * n, lambda n: n + n + (n > 10), lambda n: 1e-12)


def noisy(instance, width: int, copies: int, rng: np.random.Generator) -> np.ndarray:
    """Return numbers of mean 1 + 3/width and standard deviation 1/sqrt(width)."""
    noise = rng.standard_normal((copies, 2)) / width**0.5
    return 1 + 3 / width + noise


ONE = Limit(noisy, lambda _: np.ones(2), lambda _: np.ones(2), (8, 32, 128), spread=1)
LAW = FiniteLaw(
    noisy,
    lambda _, n: np.full(2, 1 + 3 / n),
    lambda _, n: np.ones(2),
    (16, 64),
    spread=0.25,
)


def shifted(by: float) -> Limit:
    """Return the limit with a prediction that is off by so much."""
    return Limit(
        ONE.sample, lambda _: np.full(2, 1 + by), ONE.scale, ONE.widths, ONE.spread
    )


def claim(*evidence: Evidence, **mutants: Evidence) -> Claim:
    """Return a claim about integers."""
    return Claim(
        name="test/claim",
        statement=(sp.Symbol("s"),),
        source=Source("none", "none"),
        evidence=evidence,
        limits="a test",
        instances=st.integers(0, 1000),
        mutants=mutants,
    )


@pytest.mark.parametrize(
    ("evidence", "status"),
    [
        (SINE, Status.PROVED),
        (WRONG_SINE, Status.REFUTED),
        (DOUBLE, Status.SUPPORTED),
        (WRONG_DOUBLE, Status.REFUTED),
        (ONE, Status.SUPPORTED),
        (shifted(0.05), Status.REFUTED),
        (LAW, Status.SUPPORTED),
    ],
)
def test_each_kind_tells_right_from_wrong(evidence: Evidence, status: Status) -> None:
    """A right statement is supported, a wrong one refuted."""
    assert check(claim(evidence)).verdict is status


def test_a_limit_is_not_its_widest_network() -> None:
    """At width 128 the mean is 2.3 % off; extrapolation takes that away."""
    finding = check(claim(ONE)).evidence[0]
    assert finding.resolution is not None
    assert finding.resolution <= 0.01


def test_a_counterexample_is_the_smallest() -> None:
    """Hypothesis shrinks a failing instance."""
    assert check(claim(WRONG_DOUBLE)).evidence[0].counterexample == "11"


def test_a_surviving_mutant_makes_a_claim_inconclusive() -> None:
    """What cannot reject a wrong variant shows nothing."""
    verdict = check(claim(DOUBLE, same=DOUBLE))
    assert verdict.verdict is Status.INCONCLUSIVE
    assert not verdict.agrees


def test_a_mutant_of_a_limit_shares_its_samples() -> None:
    """The region is about the truth: mutants cost no further replicates."""
    alone = check(claim(ONE)).evidence[0].replicates
    both = check(claim(ONE, wrong=shifted(0.2)))
    assert both.evidence[0].replicates == alone
    assert both.mutants["wrong"].verdict is Status.REFUTED


def test_an_exception_is_a_verdict() -> None:
    """A claim that raises is an ERROR, with the message, and not a crash."""

    def broken(*_: object) -> float:
        raise ValueError("no such thing")

    verdict = check(claim(DOUBLE, mutant=Exact(broken, broken, broken)))
    assert "no such thing" in verdict.mutants["mutant"].detail
    assert check(claim(Exact(broken, broken, broken))).verdict is Status.ERROR
    assert check(claim()).verdict is Status.ERROR


def test_nothing_compared_is_an_error() -> None:
    """Zero comparisons are no pass."""
    nothing = Exact(lambda n, _: np.zeros(0), lambda n: np.zeros(0), lambda n: 1.0)
    assert check(claim(nothing)).verdict is Status.ERROR
    assert check(claim(Identity(dict))).verdict is Status.ERROR


def test_nan_is_refuted() -> None:
    """A comparison with nan fails."""
    nan = Exact(lambda n, _: math.nan, lambda n: 0.0, lambda n: 1.0)
    assert check(claim(nan)).verdict is Status.REFUTED


def test_a_bound_reports_its_worst_ratio() -> None:
    """The search steers towards the edge of a bound, and says how near it came."""
    near = Bound(lambda n: float(n), lambda n: 1001.0)
    finding = check(claim(near)).evidence[0]
    assert finding.verdict is Status.SUPPORTED
    assert 0.9 < (finding.resolution or 0) < 1
    assert (
        check(claim(Bound(lambda n: float(n), lambda n: 900.0))).verdict
        is Status.REFUTED
    )


def test_a_rate_needs_slope_and_constant() -> None:
    """The right slope with a wrong constant is refuted, and the other way round."""

    def rate(ratio: float, constant: float) -> Rate:
        return Rate(
            error=lambda n, depth: 3 * 0.5**depth * (1 + 0.1**depth),
            ratio=lambda n: ratio,
            constant=lambda n: constant,
            depths=(10, 20),
            remainder=lambda n, depth: 0.1**depth,
        )

    assert check(claim(rate(0.5, 3))).verdict is Status.SUPPORTED
    assert check(claim(rate(0.5, 3.001))).verdict is Status.REFUTED
    assert check(claim(rate(0.4999, 3))).verdict is Status.REFUTED


def test_seeds_depend_on_the_whole_instance() -> None:
    """Arrays count by their contents, where a repr would abbreviate them."""
    big = np.zeros(10**4)
    other = big.copy()
    other[5000] = 1
    assert derive(0, big) != derive(0, other)
    assert derive(0, big) == derive(0, big.copy())
    assert derive(0, "a") != derive(1, "a")


def test_draw_passes_over_the_simplest_instance() -> None:
    """All zeros, say, tells no mutant apart; it stays if there is nothing else."""
    assert draw(st.just(7), 3, seed=0) == [7]
    found = draw(st.integers(0, 10**9), 5, seed=0)
    assert len(found) == 5
    assert found == draw(st.integers(0, 10**9), 5, seed=0)
    assert search(st.integers(), lambda n: n > 100, 200, seed=0) == (101,)
    assert search(st.integers(), lambda n: False, 20, seed=0) == ()
    assert search(st.none(), lambda _: True, 20, seed=0) == (None,)
