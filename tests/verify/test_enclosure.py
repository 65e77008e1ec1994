"""What balls certify, what they refute, and what they leave open."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import sympy as sp
from flint import arb, ctx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asymptest.verify.check import check
from asymptest.verify.claim import (
    PROFILES,
    Claim,
    Enclosure,
    Expects,
    Finding,
    Source,
    Status,
    Verdict,
)
from asymptest.verify.results import (
    Header,
    Partial,
    dumps,
    read_report,
    verdict_from_json,
    verdict_to_json,
)
from asymptest.verify.show import console, mismatch, refutations, verdicts_table

CENTRES = st.integers(-(2**10), 2**10).map(lambda k: k / 2**7)
BOXES = st.tuples(CENTRES, st.integers(40, 200)).map(lambda b: (b[0], 2.0 ** -b[1]))
PAIRS = st.tuples(BOXES, BOXES)


def exp_of_sum(pair: Any) -> arb:
    a, b = (arb(*side) for side in pair)
    return (a + b).exp()


def product_of_exps(pair: Any) -> arb:
    a, b = (arb(*side) for side in pair)
    return a.exp() * b.exp()


def pythagoras(x: arb) -> arb:
    return x.sin() * x.sin() + x.cos() * x.cos()


def exp_scale(pair: Any) -> float:
    return math.exp(pair[0][0] + pair[1][0])


ADDITION = Enclosure(exp_of_sum, product_of_exps, exp_scale)
SINES = Enclosure(
    lambda pair: [pythagoras(arb(*side)) for side in pair],
    lambda pair: (arb(1), arb(1)),
    lambda pair: (1.0, 1.0),
)


def of_integers(
    left: Callable[[int], Any], right: Callable[[int], Any] = lambda _: arb(0), **more
) -> Enclosure:
    """Return evidence about integers with entries of size 1."""
    return Enclosure(left, right, lambda _: 1.0, **more)


def claim(
    *evidence: Enclosure,
    instances: st.SearchStrategy[Any] | None = None,
    **mutants: Enclosure,
) -> Claim:
    """Return a claim about integers, unless there are other instances."""
    return Claim(
        name="test/enclosure",
        statement=(sp.Symbol("s"),),
        source=Source("none", "none"),
        evidence=evidence,
        limits="a test",
        instances=st.integers(0, 1000) if instances is None else instances,
        mutants=mutants,
    )


def only(verdict: Verdict) -> Finding:
    """Return the one finding of a claim with one piece of evidence."""
    (finding,) = verdict.evidence
    return finding


@pytest.mark.parametrize(("evidence", "entries"), [(ADDITION, 1), (SINES, 2)])
def test_a_true_equation_is_certified(evidence: Enclosure, entries: int) -> None:
    verdict = check(claim(evidence, instances=PAIRS))
    finding = only(verdict)
    assert verdict.verdict is finding.verdict is Status.CERTIFIED
    assert verdict.agrees
    assert finding.kind == "enclosure"
    assert 0 < (finding.resolution or 0) <= 1e-9
    assert finding.comparisons == entries * PROFILES["quick"].examples
    assert (finding.alpha, finding.distance, finding.detail) == (0, 0, "")
    assert finding.counterexample is None


def test_mutants_are_refuted_at_their_distance() -> None:
    verdict = check(
        claim(
            ADDITION,
            instances=PAIRS,
            **{
                "factor of 2": replace(
                    ADDITION, right=lambda p: 2 * product_of_exps(p)
                ),
                "sign": replace(ADDITION, right=lambda p: -product_of_exps(p)),
                "1e-8": replace(
                    ADDITION, right=lambda p: (1 + arb("1e-8")) * product_of_exps(p)
                ),
            },
        )
    )
    assert verdict.verdict is Status.CERTIFIED
    for (name, finding), expected in zip(
        verdict.mutants.items(), (1, 2, 1e-8), strict=True
    ):
        assert (finding.kind, finding.verdict) == ("enclosure", Status.REFUTED), name
        assert finding.counterexample, name
        assert finding.distance == pytest.approx(expected, rel=1e-3), name


def test_a_counterexample_is_the_smallest() -> None:
    def slightly_more(n: int) -> arb:
        with ctx.workprec(300):
            return arb(n) + arb(2) ** -200 * int(n > 10)

    finding = only(check(claim(of_integers(slightly_more, arb))))
    assert finding.verdict is Status.REFUTED
    assert finding.counterexample == "11"
    # Far below the rounding of n, and yet certain.
    assert finding.distance == 2.0**-200
    assert finding.resolution is None


def test_one_certain_entry_refutes() -> None:
    mixed = of_integers(
        lambda n: [arb(n), arb("nan"), arb(1, 0.25)], lambda n: [arb(n), arb(0), arb(0)]
    )
    finding = only(check(claim(mixed)))
    assert finding.verdict is Status.REFUTED
    assert finding.distance == pytest.approx(0.75, rel=1e-8)


def test_a_wide_ball_does_not_hide_a_later_refutation() -> None:
    late = of_integers(lambda n: arb(n // 500, 0.5))
    assert only(check(claim(late))).verdict is Status.REFUTED


def test_a_ball_wider_than_the_resolution_is_inconclusive() -> None:
    widening = of_integers(lambda n: arb(0, 2.0**-40 if n < 700 else 0.25))
    verdict = check(claim(widening))
    finding = only(verdict)
    assert verdict.verdict is finding.verdict is Status.INCONCLUSIVE
    assert not verdict.agrees
    assert finding.resolution == pytest.approx(0.25, rel=1e-8)
    assert finding.distance == 0
    assert finding.counterexample is None
    assert "<= 0.25 is all that is certain at " in finding.detail
    assert "; 1e-09 is needed" in finding.detail
    at = int(finding.detail.partition(" at ")[2].partition(";")[0])
    assert at >= 700
    allowed = replace(widening, resolution=0.26)
    assert only(check(claim(allowed))).verdict is Status.CERTIFIED


@pytest.mark.parametrize(
    "ball",
    [arb("nan"), arb("inf"), arb("-inf"), arb(5, math.inf)],
    ids=["nan", "inf", "-inf", "all numbers"],
)
def test_a_ball_that_is_not_finite_never_refutes(ball: arb) -> None:
    rare = of_integers(lambda n: ball if n == 0 else arb(0))
    for evidence in (rare, replace(rare, left=rare.right, right=rare.left)):
        finding = only(check(claim(evidence)))
        assert finding.verdict is Status.INCONCLUSIVE
        assert finding.resolution == math.inf
        assert finding.distance == 0
        assert "<= inf is all that is certain at 0;" in finding.detail


# Eighths: differences, and quotients by a power of two, are then exact.
EIGHTHS = st.integers(-40, 40).map(lambda k: Fraction(k, 8))
RADII = st.integers(0, 40).map(lambda k: Fraction(k, 8))
ENTRY = st.tuples(EIGHTHS, RADII, EIGHTHS, RADII, st.sampled_from([0.25, 1.0, 4.0]))


@settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.nested_given],  # a decision searches with find
)
@given(st.lists(ENTRY, min_size=1, max_size=3), st.integers(0, 300))
def test_the_decision_is_that_of_rational_intervals(entries: list[Any], k: int) -> None:
    # Bounds are multiples of 1/32, and an odd multiple of 1/64 lies between them: radii, which
    # may be 2^-29 too large, move none across it.
    resolution = Fraction(2 * k + 1, 64)
    gaps = [
        (abs(a - b) / Fraction(size), (r + s) / Fraction(size))
        for a, r, b, s, size in entries
    ]
    if any(gap > radius for gap, radius in gaps):
        expected = Status.REFUTED
    elif all(gap + radius < resolution for gap, radius in gaps):
        expected = Status.CERTIFIED
    else:
        expected = Status.INCONCLUSIVE

    evidence = Enclosure(
        lambda _: [arb(float(a), float(r)) for a, r, *_ in entries],
        lambda _: [arb(float(b), float(s)) for _, _, b, s, _ in entries],
        lambda _: [size for *_, size in entries],
        resolution=float(resolution),
    )
    finding = only(check(claim(evidence, instances=st.just(0))))
    assert finding.verdict is expected
    apart = max(max(gap - radius, Fraction(0)) for gap, radius in gaps)
    assert finding.distance == pytest.approx(float(apart), rel=1e-7, abs=1e-7)
    if finding.resolution is not None:
        most = max(gap + radius for gap, radius in gaps)
        assert most <= Fraction(finding.resolution) <= most * Fraction(1 + 1e-7)


def broken(_: Any) -> arb:
    raise ValueError("no such thing")


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        (of_integers(broken), "no such thing"),
        (of_integers(arb, broken), "no such thing"),
        (of_integers(float, arb), "left must be a flint.arb"),
        (of_integers(arb, lambda n: [arb(n), 0.0]), "right must be a flint.arb"),
        (of_integers(lambda n: [arb(n)] * 2, arb), "got 2 and 1"),
        (of_integers(lambda _: [], lambda _: []), "nothing was compared"),
        (Enclosure(arb, arb, lambda _: 0.0), "scale must be a positive number"),
        (Enclosure(arb, arb, lambda _: -1.0), "scale must be a positive number"),
        (Enclosure(arb, arb, lambda _: math.nan), "scale must be a positive number"),
        (Enclosure(arb, arb, lambda _: math.inf), "scale must be a positive number"),
        (Enclosure(arb, arb, lambda _: [1.0, 1.0]), "scale must be a positive number"),
    ],
)
def test_what_cannot_be_compared_is_an_error(evidence: Enclosure, message: str) -> None:
    verdict = check(claim(evidence))
    assert verdict.verdict is Status.ERROR
    assert message in only(verdict).detail


def test_no_instances_are_an_error() -> None:
    assert check(claim(ADDITION, instances=st.nothing())).verdict is Status.ERROR
    without = replace(claim(ADDITION), instances=None)
    assert "no strategy" in only(check(without)).detail


@pytest.mark.parametrize(
    ("profile", "share", "count"),
    [("smoke", 1, 20), ("quick", 1, 100), ("quick", 0.05, 5), ("smoke", 0.01, 1)],
)
def test_a_share_of_the_profile_is_spent(
    profile: str, share: float, count: int
) -> None:
    zero = of_integers(lambda n: arb(0), share=share)
    assert only(check(claim(zero), profile)).comparisons == count


def test_a_seed_replays() -> None:
    seen: list[int] = []
    wrong = of_integers(lambda n: seen.append(n) or arb(n // 900, 0.5))

    def run(seed: int) -> tuple[list[int], Finding]:
        seen.clear()
        finding = only(check(claim(wrong), seed=seed))
        return [*seen], finding

    assert run(1) == run(1)
    assert run(1)[0] != run(2)[0]


VERDICTS = {
    Status.CERTIFIED: claim(
        ADDITION,
        instances=PAIRS,
        wrong=replace(ADDITION, right=exp_of_sum, left=lambda p: arb(-1)),
    ),
    Status.REFUTED: replace(
        claim(of_integers(lambda n: arb(n // 11))), expects=Expects.REFUTED
    ),
    Status.INCONCLUSIVE: claim(of_integers(lambda n: arb("nan"))),
}


@pytest.mark.parametrize("status", VERDICTS, ids=str)
def test_verdicts_read_back_from_json_and_from_a_report(
    status: Status, tmp_path: Path
) -> None:
    verdict = check(VERDICTS[status], "smoke")
    assert verdict.verdict is status
    assert "python-flint" in verdict.versions
    assert verdict_from_json(json.loads(dumps(verdict_to_json(verdict)))) == verdict
    header = Header(0, "smoke", 1e-6, (verdict.name,), verdict.versions, "0123")
    report = tmp_path / "report.json"
    with Partial(report, header) as partial:
        partial.commit(verdict)
    with Partial(report, header) as partial:
        assert partial.kept == {verdict.name: verdict}
        partial.finish([verdict])
    assert read_report(report) == [verdict]


def printed(verdict: Verdict) -> str:
    to = console()
    with to.capture() as captured:
        to.print(verdicts_table([verdict], 80))
    return captured.get()


def test_verdicts_are_shown() -> None:
    certified, refuted, unsure = (check(c, "smoke") for c in VERDICTS.values())
    row = printed(certified).splitlines()[-1].split()
    assert row[:3] == ["test/enclosure", "HOLDS", "CERTIFIED"]
    assert 0 < float(row[3]) <= 1e-9
    assert row[4] == "1/1"  # no alpha between: nothing is random
    assert [*refutations([refuted], 80)] == ["test/enclosure is refuted by 11"]
    text = " ".join(mismatch(unsure, 80).split())
    assert (
        "evidence 0: enclosure INCONCLUSIVE; distance 0; resolution inf; "
        "|left - right| / scale <= inf is all that is certain at 0; 1e-09 is needed"
    ) in text
