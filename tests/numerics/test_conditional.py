"""E[g(v) | u] as a sum, against closed forms by mpmath.

The closed forms are entire functions of m, so the bounds for complex u are compared with them too.
"""

from typing import Any

import mpmath
import pytest
import sympy as sp
from flint import acb, arb, ctx
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest.numerics.balls import hull
from asymptest.numerics.branches import Branches, branches
from asymptest.numerics.conditional import Conditional, Law, bell_sup, broad, narrow
from asymptest.theory.activations import relu
from asymptest.theory.piecewise import x

REACH = 14.0  # beyond which the Gaussian has 2e-44 left
GIVEN = {  # g, and E g(m + w z)
    "sin": (sp.sin(x), lambda m, w: mpmath.sin(m) * mpmath.exp(-w * w / 2)),
    "exp": (sp.exp(x), lambda m, w: mpmath.exp(m + w * w / 2)),
    "square": (x**2, lambda m, w: m * m + w * w),
    "bump": (
        sp.exp(-(x**2)),
        lambda m, w: mpmath.exp(-m * m / (1 + 2 * w * w)) / mpmath.sqrt(1 + 2 * w * w),
    ),
    "relu": (
        relu.expr,
        lambda m, w: (
            m * mpmath.erfc(-m / w / mpmath.sqrt(2)) / 2
            + w * mpmath.exp(-m * m / w / w / 2) / mpmath.sqrt(2 * mpmath.pi)
        ),
    ),
    "shifted step": (
        sp.Heaviside(x - sp.Rational(1, 3)),
        lambda m, w: mpmath.erfc((mpmath.mpf(1) / 3 - m) / w / mpmath.sqrt(2)) / 2,
    ),
}
SMOOTH = ["sin", "exp", "square", "bump"]


def ends(law: Law, start: float, end: float) -> tuple[arb, arb, arb]:
    """Return all m, and where v is cut."""
    sides = law.slope * start, law.slope * end
    low, high = sides[0].min(sides[1]), sides[0].max(sides[1])
    window = (REACH + 1) * law.width
    return hull(low, high), (low - window).lower(), (high + window).upper()


def check(rule: Conditional, name: str, law: Law, at: float, goal: float) -> None:
    _, truth = GIVEN[name]
    slope, width = mpmath.mpf(law.slope), mpmath.mpf(law.width)
    assert rule.error <= goal * (1 + 1e-9)
    with mpmath.workdps(50):
        exact = arb(mpmath.mpf(truth(slope * at, width)))
        assert abs(rule.at(arb(at)) - exact) <= rule.error + arb(1e-30) * (
            1 + abs(exact)
        )
        for height in (0.0, 0.3, -1.0):
            u = mpmath.mpc(
                at, height * float(law.width) / max(1e-9, abs(float(law.slope)))
            )
            size = arb(mpmath.mpf(abs(truth(slope * u, width))))
            box = acb(arb(at, 1e-6), arb(float(u.imag), 1e-9))
            bound = rule.sup(box)
            assert not bound < size - rule.error - 1e-30


@pytest.mark.parametrize("name", SMOOTH)
@settings(max_examples=30)
@given(
    slope=st.floats(-2, 2),
    width=st.floats(-6, 0),
    start=st.floats(-3, 3),
    length=st.floats(-3, 0.3),
    inside=st.floats(0, 1),
    goal=st.floats(-20, -0.5),
)
def test_the_narrow_rule(
    name: str,
    slope: float,
    width: float,
    start: float,
    length: float,
    inside: float,
    goal: float,
) -> None:
    with ctx.workprec(160):
        law = Law(arb(slope), arb(10**width))
        means, _, _ = ends(law, start, start + 10**length)
        (g,) = branches(GIVEN[name][0]).branches
        rule = narrow(g, law, means, REACH, arb(10**goal))
        if rule is not None:
            check(rule, name, law, start + inside * 10**length, 10**goal)


@pytest.mark.parametrize("name", SMOOTH)
def test_there_is_a_narrow_rule_if_w_is_small(name: str) -> None:
    (g,) = branches(GIVEN[name][0]).branches
    law = Law(arb(1), arb(0.1))
    assert narrow(g, law, arb(1, 0.5), REACH, arb(1e-12)) is not None
    exact = narrow(g, Law(arb(1), arb(0)), arb(1, 0.5), REACH, arb(1e-12))
    assert exact is not None
    assert exact.error == 0
    assert abs(exact.at(arb(1.25)) - g.at(arb(1.25))) <= 1e-14


@pytest.mark.parametrize("name", GIVEN)
@settings(max_examples=30)
@given(
    slope=st.floats(-2, 2),
    width=st.floats(-6, 0.3),
    start=st.floats(-3, 3),
    length=st.floats(-2, 0.8),
    inside=st.floats(0, 1),
    goal=st.floats(-20, -0.5),
)
def test_the_broad_rule(
    name: str,
    slope: float,
    width: float,
    start: float,
    length: float,
    inside: float,
    goal: float,
) -> None:
    with ctx.workprec(160):
        law = Law(arb(slope), arb(10**width))
        end = start + 10 ** (length + width) / max(0.1, abs(slope))
        means, low, high = ends(law, start, end)
        g = branches(GIVEN[name][0])
        rule = broad(g, law, means, low, high, arb(10**goal))
        assert rule is not None or length > 0.5
        if rule is not None:
            check(rule, name, law, start + inside * (end - start), 10**goal)


def test_there_is_no_broad_rule_for_a_long_way() -> None:
    g = branches(relu.expr)
    assert (
        broad(g, Law(arb(1), arb(0.1)), arb(0, 0.5), arb(-2), arb(2), arb(1e-3)) is None
    )
    assert broad(g, Law(arb(1), arb(0)), arb(0, 0), arb(-2), arb(2), arb(1e-3)) is None


def test_a_kink_that_is_known_as_a_ball() -> None:
    step = branches(sp.Heaviside(x))
    for spread in (1e-3, 0.05):
        blurred = Branches((arb(0.25, spread),), step.branches, step.growth)
        rule = broad(
            blurred, Law(arb(1), arb(1)), arb(0.1, 1e-9), arb(-14), arb(14), arb(1e-9)
        )
        assert rule is not None
        value = rule.at(arb(0.1)) + arb(0, rule.error)
        for kink in (0.25 - spread, 0.25, 0.25 + spread):
            assert value.overlaps(((arb(kink) - 0.1) / arb(2).sqrt()).erfc() / 2)


@given(
    center=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    half=st.tuples(st.floats(0, 2), st.floats(0, 2)),
    inside=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    scale=st.floats(0.1, 2),
)
def test_a_bell_is_bounded_on_a_box(
    center: tuple[float, float],
    half: tuple[float, float],
    inside: tuple[float, float],
    scale: float,
) -> None:
    box = acb(arb(center[0], half[0]), arb(center[1], half[1]))
    point = acb(center[0] + half[0] * inside[0], center[1] + half[1] * inside[1])
    value: Any = (-point * point * scale * scale).exp()
    assert value.abs_lower() <= bell_sup(box, arb(scale)) * (1 + 1e-6)
    corner = acb(box.real.abs_lower(), box.imag.abs_upper())
    largest: Any = (-corner * corner * scale * scale).exp()
    assert bell_sup(box, arb(scale)) <= largest.abs_upper() * (1 + 1e-6)
