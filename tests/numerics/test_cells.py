"""Sums over cells: each part of the error is in the radius, seen with the others out of the way."""

from collections.abc import Callable
from typing import Any

import pytest
import sympy as sp
from flint import acb, arb, ctx

from asymptest.numerics import cells
from asymptest.numerics.ball_rules import gauss
from asymptest.numerics.branches import Branches, branches
from asymptest.numerics.cells import Plane, integrate
from asymptest.numerics.conditional import Law, broad
from asymptest.theory.activations import relu, step
from asymptest.theory.errors import AccuracyError
from asymptest.theory.piecewise import x

CUT = arb(16)  # of a standard normal, 1e-57
FINE = arb(1e-25)


@pytest.fixture(autouse=True)
def _precision() -> Any:
    with ctx.workprec(160):
        yield


def plane(f: Any, g: Any, slope: float, width: float) -> Plane:
    return Plane(branches(f), branches(g), arb(1), Law(arb(slope), arb(width)))


def fine_gauss(start: arb, end: arb, bound: Callable[[acb], arb], goal: arb) -> Any:
    return gauss(start, end, bound, FINE)


def fine_broad(
    g: Branches, law: Law, means: arb, low: arb, high: arb, goal: arb
) -> Any:
    return broad(g, law, means, low, high, FINE)


@pytest.mark.parametrize("goal", [1e-20, 1e-9, 1e-5, 1e-2, 0.3, 3.0, 30.0])
def test_the_error_over_u_is_in_the_radius(goal: float) -> None:
    # Given u, v is u: nothing else has an error.
    value = integrate(plane(sp.cos(x), x**2, 1, 0), CUT, arb(goal))
    assert value.overlaps(arb(0, 1e-50))  # E cos(u) u^2 = (1 - 1) exp(-1/2)
    assert value.rad() <= goal * (1 + 1e-6)
    value = integrate(plane(sp.exp(x), sp.Integer(1), 1, 0), CUT, arb(goal))
    assert value.overlaps(arb(0.5).exp() + arb(0, 1e-40))
    assert value.rad() <= goal * (1 + 1e-6)


def test_what_is_within_the_goal_is_in_the_radius() -> None:
    value = integrate(plane(sp.Integer(1), sp.Integer(1), 1, 0), CUT, arb(40))
    assert value.contains(1)
    assert value.contains(0)  # there was nothing to do


@pytest.mark.parametrize("goal", [1e-3, 1e-2, 0.1, 0.5])
def test_the_error_of_a_narrow_rule_is_in_the_radius(
    goal: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "gauss", fine_gauss)
    monkeypatch.setattr(cells, "REACHES", (14,))
    pair = plane(sp.cos(x), sp.cos(3 * x), 0.5, 1)
    value = integrate(pair, CUT, arb(goal))
    # (E cos(u + 3 v) + E cos(u - 3 v)) / 2, of variances 1 + 9 * 1.25 ± 3
    truth = ((arb(-15.25) / 2).exp() + (arb(-9.25) / 2).exp()) / 2
    assert value.overlaps(truth)
    assert value.rad() <= goal


@pytest.mark.parametrize("goal", [1e-8, 1e-5, 1e-2, 0.1])
def test_the_error_of_a_broad_rule_is_in_the_radius(
    goal: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "gauss", fine_gauss)
    monkeypatch.setattr(cells, "REACHES", (14,))
    value = integrate(plane(sp.Integer(1), relu.expr, 0.75, 1), CUT, arb(goal))
    truth = (arb(1.5625) / (2 * arb.pi())).sqrt()
    assert value.overlaps(truth)
    assert value.rad() <= goal


@pytest.mark.parametrize("goal", [1e-6, 1e-4, 1e-2])
def test_what_is_cut_in_z_is_in_the_radius(
    goal: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "gauss", fine_gauss)
    monkeypatch.setattr(cells, "narrow", lambda *arguments: None)
    monkeypatch.setattr(cells, "broad", fine_broad)
    # One cell, so that none is left out for being small; v is z.
    value = integrate(plane(sp.Integer(1), x**4, 0, 1), arb(0.5), arb(goal))
    assert value.overlaps(3 * (arb(0.5) / arb(2).sqrt()).erf())
    assert value.rad() <= goal


@pytest.mark.parametrize("spread", [1e-20, 1e-6, 0.01])
def test_a_kink_that_is_known_as_a_ball_costs_its_radius(spread: float) -> None:
    exact = branches(step.expr)
    kink = arb(0.25, spread)
    blurred = Branches((kink,), exact.branches, exact.growth)
    one = branches(sp.Integer(1))
    for law in (
        Law(arb(1), arb(0)),
        Law(arb(0.6), arb(0.8)),
        Law(arb(0.999), arb(0.04)),
    ):
        total = law.slope**2 + law.width * law.width  # variance of v
        for f, g, variance in ((blurred, one, arb(1)), (one, blurred, total)):
            value = integrate(Plane(f, g, arb(1), law), CUT, arb(1e-12))
            for at in (kink.lower(), kink.mid(), kink.upper()):
                assert value.overlaps((at / (2 * variance).sqrt()).erfc() / 2)
            assert value.rad() <= 1e-12 + 8 * spread


def test_a_width_that_may_be_zero() -> None:
    for lowest in (0.999, 1 - 1e-8):
        sine = (1 - arb(lowest) ** 2).sqrt()
        law = Law(arb(lowest).union(1), sine.union(0))
        pair = Plane(branches(step.expr), branches(step.expr), arb(1), law)
        value = integrate(pair, CUT, arb(1e-12))
        for rho in (arb(lowest), arb((1 + lowest) / 2), arb(1)):
            assert value.overlaps(arb(1) / 4 + rho.asin() / (2 * arb.pi()))
        assert value.rad() <= 10 * sine


@pytest.mark.parametrize("width", [1.0, 0.1, 1e-3, 1e-8, 1e-15])
def test_the_cost_does_not_depend_on_the_width(
    width: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return gauss(*arguments)

    monkeypatch.setattr(cells, "gauss", counted)
    integrate(plane(relu.expr, step.expr, 1, width), CUT, arb(1e-12))
    assert calls <= 30


def test_a_function_without_a_rule_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "MOST_CELLS", 50)
    with pytest.raises(AccuracyError, match="50 cells"):
        integrate(plane(sp.cos(1 / x), x, 1, 0), CUT, arb(1e-12))


def test_both_rules_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = plane(sp.tanh(x), sp.tanh(x), 0.99, 0.125)
    usual = integrate(pair, CUT, arb(1e-15))
    monkeypatch.setattr(cells, "narrow", lambda *arguments: None)
    only_broad = integrate(pair, CUT, arb(1e-15))
    assert usual.overlaps(only_broad)
    monkeypatch.undo()
    monkeypatch.setattr(cells, "broad", lambda *arguments: None)
    assert usual.overlaps(integrate(pair, CUT, arb(1e-15)))
