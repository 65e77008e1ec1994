"""Branches between kinks against the functions that they are made from."""

from typing import Any

import pytest
import sympy as sp
from flint import acb, arb
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest.numerics.branches import branches
from asymptest.theory import activations
from asymptest.theory.errors import ArgumentError, UnsupportedError
from asymptest.theory.piecewise import x

third = sp.Rational(1, 3)
# An expression, its kinks, and what it is from left to right.
PIECES: list[tuple[Any, list[Any], list[Any]]] = [
    (sp.tanh(x), [], [sp.tanh(x)]),
    (activations.relu.expr, [0], [sp.Integer(0), x]),
    (sp.Abs(x - third), [third], [third - x, x - third]),
    (sp.sign(x) * x**2, [0], [-(x**2), x**2]),
    (sp.Min(1, sp.Max(-1, x)), [-1, 1], [sp.Integer(-1), x, sp.Integer(1)]),
    (
        sp.Piecewise((x, x > 0), (sp.exp(x) - 1, True)),
        [0],
        [sp.exp(x) - 1, x],
    ),
    (
        x * sp.Heaviside(x**2 - 2),
        [-sp.sqrt(2), sp.sqrt(2)],
        [x, sp.Integer(0), x],
    ),
    (sp.Heaviside(sp.exp(x) - 2), [sp.log(2)], [sp.Integer(0), sp.Integer(1)]),
    (x / (1 + sp.Abs(x)), [0], [x / (1 - x), x / (1 + x)]),
]


@pytest.mark.parametrize(("expr", "kinks", "parts"), PIECES)
def test_a_function_is_split_at_its_kinks(
    expr: Any, kinks: list[Any], parts: list[Any]
) -> None:
    found = branches(expr)
    assert len(found.kinks) == len(kinks)
    for ours, kink in zip(found.kinks, kinks, strict=True):
        assert ours.overlaps(arb(sp.Float(sp.N(kink, 60), 60)) + arb(0, 1e-55))
        assert ours.rad() <= 1e-14
    for branch, part in zip(found.branches, parts, strict=True):
        for at in (-2.7, -0.3, 0.2, 1.9):
            exact = arb(sp.Float(part.subs(x, sp.Float(at, 30)), 30))
            assert branch.at(arb(at)).overlaps(exact + arb(0, 1e-14))
            assert branch.over(acb(at)).real.overlaps(exact + arb(0, 1e-14))


@pytest.mark.parametrize(("expr", "kinks", "parts"), PIECES)
@settings(max_examples=30)
@given(start=st.floats(-4, 4), length=st.floats(-3, 1), inside=st.floats(0, 1))
def test_on_and_sup_hold_at_every_point(
    expr: Any,
    kinks: list[Any],
    parts: list[Any],
    start: float,
    length: float,
    inside: float,
) -> None:
    found = branches(expr)
    low, high = arb(start), arb(start + 10**length)
    at = start + (float(high) - start) * inside
    value = sp.Float(expr.subs(x, sp.Float(at, 30)), 30)
    assert abs(arb(value)) <= found.sup(low, high) * (1 + 1e-8) + 1e-12
    branch = found.on(low, high)
    crossed = [kink for kink in kinks if start < kink < float(high)]
    assert (branch is None) == bool(crossed)
    if branch is not None and at not in kinks:
        assert abs(branch.at(arb(at)) - arb(value)) <= 1e-12 * (1 + abs(arb(value)))


def test_an_interval_may_touch_a_kink() -> None:
    relu = branches(activations.relu.expr)
    left, right = relu.on(arb(-1), arb(0)), relu.on(arb(0), arb(1))
    assert left is not None
    assert right is not None
    assert left.at(arb(5)) == 0
    assert right.at(arb(-5)) == -5
    # What the other branch would be there is none of its business: x / (1 - x) at 1.
    assert branches(x / (1 + sp.Abs(x))).sup(arb(0), arb(3)) < 3.001


def test_an_inexact_kink_is_between_two_exact_numbers() -> None:
    function = branches(sp.Heaviside(x - third))
    (low, high) = function.breaks()
    assert low.is_exact()
    assert high.is_exact()
    assert low < arb(1) / 3 < high or (low <= arb(1) / 3 and arb(1) / 3 <= high)
    assert function.on(arb(0), low) is not None
    assert function.on(low, high) is None
    pieces = function.split(arb(0), arb(1))
    assert pieces == [(arb(0), low), (low, high), (high, arb(1))]


def test_a_bound_on_a_box_holds_off_the_real_line() -> None:
    (branch,) = branches(sp.log(2 * sp.cosh(x / 2))).branches
    box = acb(arb(20, 8), arb(0, 1))  # too long for one evaluation
    assert not branch.over(box).is_finite()
    size = branch.sup(box)
    assert size.is_finite()
    for corner in (acb(12, 1), acb(28, 1), acb(28, -1), acb(20, 0)):
        assert abs(branch.over(corner)) <= size
    assert not branch.sup(acb(arb(0, 1), arb(3, 1))).is_finite()  # log 0 at iπ


def test_growth_is_read_on_each_side_of_zero() -> None:
    elu = sp.Piecewise((x, x > 0), (sp.exp(x) - 1, True))
    assert branches(elu).growth.rate == 0
    assert branches(sp.exp(-sp.Abs(x))).growth.power == 0
    assert branches(sp.exp(x)).growth.rate == 1
    assert branches(sp.exp(-x)).growth.rate == 1


@pytest.mark.parametrize("expr", [sp.Abs(sp.sin(x)), sp.Heaviside(x - sp.cos(x))])
def test_kinks_that_cannot_be_listed_are_refused(expr: Any) -> None:
    with pytest.raises(UnsupportedError, match="cannot be listed"):
        branches(expr)


def test_another_symbol_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"theory\.activations\.x"):
        branches(sp.Symbol("x") ** 2)  # not real, so another symbol
