"""Rules and their errors against integrals that mpmath knows to 40 digits.

Goals are coarse as well as fine: where rounding is far below the error, a bound that is too
small shows.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import mpmath
import pytest
from flint import acb, arb, ctx
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest.numerics.ball_rules import (
    LONGEST_STEP,
    ORDERS,
    Rule,
    cover,
    gauss,
    trapezoid,
)
from asymptest.theory.errors import AccuracyError

FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "exp": (lambda z: z.exp(), mpmath.exp),
    "pole": (lambda z: 1 / (1 + 4 * z * z), lambda t: 1 / (1 + 4 * t * t)),
    "near pole": (lambda z: 1 / (z + 1.25), lambda t: 1 / (t + mpmath.mpf(1.25))),
    "wave": (lambda z: (7 * z).cos(), lambda t: mpmath.cos(7 * t)),
    "tanh": (lambda z: (3 * z).tanh(), lambda t: mpmath.tanh(3 * t)),
    "constant": (lambda z: z * 0 + 1, lambda t: mpmath.mpf(1)),
}


def bound(function: Callable[[Any], Any]) -> Callable[[acb], arb]:
    """Return a bound from 32 short boxes, on which balls are sharper than on a long one."""

    def sup(box: acb) -> arb:
        half = box.real.rad() / 32
        centers = [box.real.mid() + k * half for k in range(-31, 32, 2)]
        tiles = [acb(center + arb(0, half), box.imag) for center in centers]
        return reduce(arb.max, (function(tile).abs_upper() for tile in tiles))

    return sup


def total(rule: Rule, function: Callable[[Any], Any]) -> arb:
    return sum((weight * function(z) for z, weight in rule.nodes), arb(0))


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=30)
@given(ends=st.tuples(st.floats(-1, 1), st.floats(-1, 1)), goal=st.floats(-25, 1))
def test_gauss_errs_by_no_more_than_it_says(
    name: str, ends: tuple[float, float], goal: float
) -> None:
    function, truth = FUNCTIONS[name]
    start, end = min(ends), max(ends)
    with ctx.workprec(160), mpmath.workdps(40):
        rule = gauss(arb(start), arb(end), bound(function), arb(10**goal))
        if rule is None:
            return
        assert rule.error <= 10**goal * (1 + 1e-9)
        middle = (mpmath.mpf(start) + end) / 2
        exact = mpmath.quad(truth, [start, middle, end])
        assert abs(total(rule, function) - arb(exact)) <= rule.error + 1e-35


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gauss_reaches_fine_goals_on_short_intervals(name: str) -> None:
    function, _ = FUNCTIONS[name]
    rule = gauss(arb(0.1), arb(0.3), bound(function), arb(1e-20))
    assert rule is not None
    assert 0 < len(rule.nodes) <= 20


def test_gauss_keeps_away_from_poles() -> None:
    function, _ = FUNCTIONS["pole"]
    assert gauss(arb(-1), arb(1), bound(function), arb(1e-20)) is None


def test_gauss_needs_no_nodes_for_nothing() -> None:
    rule = gauss(arb(0), arb(1), lambda box: arb(1e-9), arb(1e-8))
    assert rule == Rule((), arb(1e-9))


def test_gauss_uses_the_bound_on_the_ellipse() -> None:
    # On [-1, 1] this is 1 at most, and e^(100 / 8) on the flattest ellipse.
    def wild(z: Any) -> Any:
        return (100 * (z * z - 1)).exp()

    rule = gauss(arb(-1), arb(1), bound(wild), arb(1e-3))
    exact = mpmath.quad(lambda t: mpmath.exp(100 * (t * t - 1)), [-1, 0, 1])
    assert rule is None or abs(total(rule, wild) - arb(exact)) <= rule.error


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("goal", [1e-2, 1e-8, 1e-20])
def test_cover_sums_to_the_integral_within_the_goal(name: str, goal: float) -> None:
    function, truth = FUNCTIONS[name]
    with ctx.workprec(160), mpmath.workdps(40):
        rules = cover(arb(-1), arb(3), bound(function), arb(goal))
        error = sum((rule.error for rule in rules), arb(0))
        assert error <= goal
        exact = mpmath.quad(truth, mpmath.linspace(-1, 3, 17))
        gap = abs(sum((total(rule, function) for rule in rules), arb(0)) - arb(exact))
        assert gap <= error + 1e-35


def test_cover_gives_up_on_a_singularity() -> None:
    with pytest.raises(AccuracyError, match=r"singular near 0\.3"):
        cover(arb(0), arb(1), bound(lambda z: 1 / (z - 0.3)), arb(1e-3))


WINDOWED = {
    "constant": FUNCTIONS["constant"],
    "exp": FUNCTIONS["exp"],
    "wave": (lambda z: (2 * z).cos(), lambda t: mpmath.cos(2 * t)),
    "tanh": (lambda z: (z / 2).tanh(), lambda t: mpmath.tanh(t / 2)),
    "bump": (lambda z: 1 / (1 + z * z / 4), lambda t: 1 / (1 + t * t / 4)),
    "square": (lambda z: z * z, lambda t: t * t),
}


@pytest.mark.parametrize("name", WINDOWED)
@settings(max_examples=30)
@given(reach=st.floats(0.75, 12), goal=st.floats(-25, 1))
def test_the_trapezoidal_rule_errs_by_no_more_than_it_says(
    name: str, reach: float, goal: float
) -> None:
    function, truth = WINDOWED[name]
    with ctx.workprec(160), mpmath.workdps(40):
        rule = trapezoid(reach, bound(function), arb(10**goal))
        if rule is None:
            return
        assert rule.error <= 10**goal
        nodes = [z for z, _ in rule.nodes]
        window = mpmath.mpf(nodes[-1] + (nodes[1] - nodes[0]) / 2)
        assert reach <= window <= reach + LONGEST_STEP + 1e-12
        exact = mpmath.quad(
            lambda z: truth(z) * mpmath.npdf(z), mpmath.linspace(-window, window, 9)
        )
        assert abs(total(rule, function) - arb(exact)) <= rule.error + 1e-35


@pytest.mark.parametrize(("name", "goal"), [("constant", 1e-30), ("tanh", 1e-10)])
def test_the_trapezoidal_rule_is_short(name: str, goal: float) -> None:
    rule = trapezoid(12.0, bound(WINDOWED[name][0]), arb(goal))
    assert rule is not None
    assert len(rule.nodes) <= 65


def test_the_trapezoidal_rule_gives_up_near_a_pole() -> None:
    function = bound(lambda z: 1 / (1 + 400 * z * z))
    assert trapezoid(8.0, function, arb(1e-10)) is None


def test_orders_are_those_that_the_bound_is_proved_for() -> None:
    assert min(ORDERS) >= 2
