"""Enclosures of Gaussian means against closed forms, which mpmath evaluates to 60 digits.

Closed forms: Cho and Saul (2009) for relu and abs, Sheppard (1899) for the step, Williams (1997)
for erf; sin, exp and exp(-x^2) by completing the square; Mehler for Hermite polynomials.
Accuracies are drawn from 1e-1, where a bound that is left out shows, to 1e-25.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import pytest
import sympy as sp
from flint import arb, ctx
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath import mpf

from asymptest.numerics.enclosure import dual_enclosure, mean_enclosure
from asymptest.theory import activations
from asymptest.theory.errors import AccuracyError
from asymptest.theory.piecewise import x

relu, step, tanh = (
    a.expr for a in (activations.relu, activations.step, activations.tanh)
)
hard_tanh = sp.Min(1, sp.Max(-1, x))

Closed = Callable[[Any, Any, Any], Any]  # p, q, rho -> E f(u) f(v), by mpmath


def sine(rho: Any) -> Any:
    return mpmath.sqrt((1 - rho) * (1 + rho))


def cosine_factor(rho: Any) -> Any:
    return sine(rho) + rho * (mpmath.pi - mpmath.acos(rho))


def wave(p: Any, q: Any, rho: Any) -> Any:
    return mpmath.exp(-(p + q) / 2) * mpmath.sinh(rho * mpmath.sqrt(p * q))


def bump(p: Any, q: Any, rho: Any) -> Any:
    return 1 / mpmath.sqrt((1 + 2 * p) * (1 + 2 * q) - 4 * p * q * rho**2)


def erf_dual(p: Any, q: Any, rho: Any) -> Any:
    norm = mpmath.sqrt((1 + 2 * p) * (1 + 2 * q))
    return 2 / mpmath.pi * mpmath.asin(2 * rho * mpmath.sqrt(p * q) / norm)


def abs_dual(p: Any, q: Any, rho: Any) -> Any:
    angle = sine(rho) + rho * mpmath.asin(rho)
    return 2 / mpmath.pi * mpmath.sqrt(p * q) * angle


CLOSED: dict[str, tuple[Any, Closed]] = {
    "relu": (
        relu,
        lambda p, q, r: mpmath.sqrt(p * q) * cosine_factor(r) / (2 * mpmath.pi),
    ),
    "abs": (sp.Abs(x), abs_dual),
    "step": (step, lambda p, q, r: mpf(1) / 4 + mpmath.asin(r) / (2 * mpmath.pi)),
    "sign": (sp.sign(x), lambda p, q, r: 2 * mpmath.asin(r) / mpmath.pi),
    "erf": (sp.erf(x), erf_dual),
    "sin": (sp.sin(x), wave),
    "exp": (
        sp.exp(x / 4),
        lambda p, q, r: mpmath.exp((p + q + 2 * r * mpmath.sqrt(p * q)) / 32),
    ),
    "gaussian": (sp.exp(-(x**2)), bump),
    "cubic": (
        x**3 - 1,
        lambda p, q, r: (9 * p * q * r + 6 * r**3 * p * q) * mpmath.sqrt(p * q) + 1,
    ),
    "constant": (sp.Integer(-2), lambda p, q, r: mpf(4)),
}

variances = st.floats(-2, 2).map(lambda e: 10.0**e)
# The distance to ±1 on a log scale: layers of width sqrt(1 - rho^2) lie at the kinks.
correlations = st.builds(
    lambda sign, gap: sign * (1 - gap),
    st.sampled_from([-1.0, 1.0]),
    st.one_of(st.floats(-16, 0).map(lambda e: 10.0**e), st.just(0.0)),
)
accuracies = st.floats(-25, -1).map(lambda e: 10.0**e)


def exactly(value: Any) -> arb:
    """Return a value of mpmath with more than its error."""
    return arb(mpmath.mpf(value)) * arb(1, 1e-45) + arb(0, 1e-60)


def size(closed: Closed, p: float, q: float) -> Any:
    """Return sqrt(E f(u)^2 E f(v)^2)."""
    one = mpf(1)
    return mpmath.sqrt(closed(mpf(p), mpf(p), one) * closed(mpf(q), mpf(q), one))


@pytest.mark.parametrize("name", CLOSED)
@settings(max_examples=10)
@example(p=1.0, q=1.0, rho=1 - 1e-12, accuracy=1e-10)
@example(p=100.0, q=0.01, rho=0.0, accuracy=1e-10)
@example(p=2.0, q=3.0, rho=-1.0, accuracy=1e-3)
@given(p=variances, q=variances, rho=correlations, accuracy=accuracies)
def test_closed_forms_are_enclosed_within_the_accuracy(
    name: str, p: float, q: float, rho: float, accuracy: float
) -> None:
    expr, closed = CLOSED[name]
    with mpmath.workdps(60), ctx.workprec(300):
        truth = exactly(closed(mpf(p), mpf(q), mpf(rho)))
        scale = size(closed, p, q)
        value = dual_enclosure(expr, expr, p, q, rho, accuracy=accuracy)
        assert value.overlaps(truth)
        assert value.rad() <= arb(1.1 * accuracy * scale)


@settings(max_examples=10)
@given(p=variances, q=variances, rho=correlations, accuracy=accuracies)
def test_two_functions_may_differ(
    p: float, q: float, rho: float, accuracy: float
) -> None:
    # E relu(u) 1{v > 0} = sqrt(p) (1 + rho) / (2 sqrt(2 pi)), from Stein's lemma.
    with mpmath.workdps(60), ctx.workprec(300):
        truth = mpmath.sqrt(p) * (1 + mpf(rho)) / (2 * mpmath.sqrt(2 * mpmath.pi))
        value = dual_enclosure(relu, step, p, q, rho, accuracy=accuracy)
        mirror = dual_enclosure(step, relu, q, p, rho, accuracy=accuracy)
        assert value.overlaps(exactly(truth))
        assert mirror.overlaps(exactly(truth))


@settings(max_examples=10)
@given(rho=correlations, degrees=st.tuples(st.integers(0, 7), st.integers(0, 7)))
def test_hermite_polynomials_are_orthogonal(
    rho: float, degrees: tuple[int, int]
) -> None:
    f, g = (activations.hermite(k).expr for k in degrees)
    value = dual_enclosure(f, g, 1, 1, rho)
    truth = rho ** degrees[0] if degrees[0] == degrees[1] else 0.0
    assert abs(value - truth) <= 1e-10


MEANS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "relu": (relu, lambda p: mpmath.sqrt(p / (2 * mpmath.pi))),
    "step": (step, lambda p: mpf(1) / 2),
    "abs": (sp.Abs(x), lambda p: mpmath.sqrt(2 * p / mpmath.pi)),
    "cos": (sp.cos(x), lambda p: mpmath.exp(-p / 2)),
    "exp": (sp.exp(x), lambda p: mpmath.exp(p / 2)),
    "gaussian": (sp.exp(-(x**2)), lambda p: 1 / mpmath.sqrt(1 + 2 * p)),
    "bump step": (
        x * sp.exp(-(x**2)) * sp.Heaviside(x),
        lambda p: mpmath.sqrt(p / (2 * mpmath.pi)) / (1 + 2 * p),
    ),
    "fourth": (x**4, lambda p: 3 * p**2),
    "tail": (
        sp.Heaviside(x - 2),
        lambda p: mpmath.erfc(2 / mpmath.sqrt(2 * p)) / 2,
    ),
    "sigmoid": (activations.sigmoid.expr, lambda p: mpf(1) / 2),
}


@pytest.mark.parametrize("name", MEANS)
@settings(max_examples=10)
@given(p=st.floats(-1, 1.5).map(lambda e: 10.0**e), accuracy=accuracies)
def test_means_are_enclosed(name: str, p: float, accuracy: float) -> None:
    expr, closed = MEANS[name]
    with mpmath.workdps(60), ctx.workprec(300):
        value = mean_enclosure(expr, p, accuracy=accuracy)
        assert value.overlaps(exactly(closed(mpf(p))))
        square = dual_enclosure(expr, expr, p, p, 1, accuracy=1e-3)
        assert value.rad() <= 1.1 * accuracy * square.sqrt()


def test_mass_far_out_is_not_cut_off() -> None:
    # For p = 36 half of E exp(u) lies beyond 6 standard deviations, 2 % beyond 8.
    value = mean_enclosure(sp.exp(x), 36)
    assert value.contains(arb(18).exp())
    assert value.rad() <= 1e-10 * arb(36).exp()
    square = dual_enclosure(sp.exp(x), sp.exp(x), 36, 36, 1)
    assert square.contains(arb(72).exp())
    assert square.rad() <= 1e-10 * arb(72).exp()


WRONG: dict[str, tuple[Any, Closed]] = {
    "half of relu": (
        relu,
        lambda p, q, r: mpmath.sqrt(p * q) * cosine_factor(r) / (4 * mpmath.pi),
    ),
    "relu with standard deviations": (
        relu,
        lambda p, q, r: (p * q) ** 0.25 * cosine_factor(r) / (2 * mpmath.pi),
    ),
    "relu, off by 1e-9": (
        relu,
        lambda p, q, r: CLOSED["relu"][1](p, q, r) * (1 + mpf(10) ** -9),
    ),
    "erf of another scale": (
        sp.erf(x),
        lambda p, q, r: (
            2
            / mpmath.pi
            * mpmath.asin(r * mpmath.sqrt(p * q) / mpmath.sqrt((1 + p) * (1 + q)))
        ),
    ),
    "cosine for sine": (
        sp.sin(x),
        lambda p, q, r: mpmath.exp(-(p + q) / 2) * mpmath.cosh(r * mpmath.sqrt(p * q)),
    ),
    "abs without its second term": (
        sp.Abs(x),
        lambda p, q, r: 2 / mpmath.pi * mpmath.sqrt(p * q) * sine(r),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_closed_form_is_excluded(name: str) -> None:
    expr, wrong = WRONG[name]
    with mpmath.workdps(40), ctx.workprec(200):
        value = dual_enclosure(expr, expr, 2, 1.5, 0.25)
        assert not value.overlaps(arb(wrong(mpf(2), mpf(1.5), mpf(0.25))))


@pytest.mark.parametrize("name", ["relu", "step", "erf", "sin", "gaussian"])
@settings(max_examples=10)
@given(
    p=variances,
    q=variances,
    rho=correlations,
    radius=st.floats(-14, -2),
    inside=st.tuples(*[st.sampled_from([-1.0, 0.0, 0.4, 1.0])] * 3),
)
def test_a_box_encloses_the_values_at_its_points(
    name: str,
    p: float,
    q: float,
    rho: float,
    radius: float,
    inside: tuple[float, float, float],
) -> None:
    expr, closed = CLOSED[name]
    relative = 10.0**radius
    gap = (1 - abs(rho)) * relative
    try:
        value = dual_enclosure(
            expr, expr, arb(p, p * relative), arb(q, q * relative), arb(rho, gap)
        )
    except AccuracyError:  # a wide box is refused, not answered wrongly
        assert radius > -3
        return
    with mpmath.workdps(60), ctx.workprec(300):
        corner = [
            mpf(center) + mpf(rad) * t * (1 - mpf(10) ** -14)
            for center, rad, t in zip(
                (p, q, rho), (p * relative, q * relative, gap), inside, strict=True
            )
        ]
        assert value.overlaps(exactly(closed(*corner)))


@pytest.mark.parametrize("expr", [relu, tanh, step, hard_tanh])
@pytest.mark.parametrize("rho", [0.0, 0.5, -0.99, 1 - 1e-6, 1.0])
def test_a_narrow_box_costs_its_own_width(expr: Any, rho: float) -> None:
    width = 1e-12
    box = arb(rho, width * (1 - abs(rho)))
    value = dual_enclosure(expr, expr, arb(1, width), arb(2, width), box)
    assert value.rad() <= 1e-10 + 100 * width


def test_a_box_wider_than_a_layer_costs_the_layer_only() -> None:
    # Within 1e-9 of rho = 1, u and v are 4e-5 apart: less than what p = 1 ± 1e-4 moves.
    box = arb(1, 1e-4)
    jump = x * sp.Heaviside(x - sp.sqrt(2))
    assert dual_enclosure(jump, jump, box, box, 1 - 1e-9).rad() <= 1e-3


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_box_may_reach_beyond_a_correlation_of_one(sign: int) -> None:
    value = dual_enclosure(relu, relu, 1, 2, arb(sign, 1e-10))
    closed = CLOSED["relu"][1]
    with mpmath.workdps(40):
        for rho in (mpf(sign), sign * (1 - mpf(10) ** -10)):
            assert value.overlaps(exactly(closed(mpf(1), mpf(2), rho)))
    assert value.rad() <= 1.5e-5  # sqrt(1 - rho^2) is known to that


def test_exact_arguments_of_every_kind() -> None:
    value = dual_enclosure(step, step, sp.Rational(1, 3), arb(2), sp.sqrt(2) / 2)
    assert value.contains(arb(3) / 8)


def test_thirty_digits() -> None:
    value = dual_enclosure(tanh, tanh, 1, 2, 0.5, accuracy=1e-30)
    assert value.rad() <= 1e-30
    assert dual_enclosure(tanh, tanh, 1, 2, 0.5).contains(value)


def test_a_layer_thinner_than_rounding_costs_nothing() -> None:
    # w = 1e-40 around ±1, where rounding is 1e-39.
    rho = 1 - Fraction(1, 2 * 10**80)
    value = dual_enclosure(hard_tanh, hard_tanh, 1, 1, rho, accuracy=1e-20)
    assert value.rad() <= 1e-20
    # 1 - (2 / pi)^(1/2) exp(-1/2) is E of the square of hard tanh at rho = 1.
    assert value.overlaps(
        1 - (2 / arb.pi()).sqrt() * (arb(-1) / 2).exp() + arb(0, 1e-15)
    )


def test_a_function_may_vanish() -> None:
    assert dual_enclosure(sp.Integer(0), relu, 1, 1, 0.5) == 0
    assert mean_enclosure(sp.Integer(0), 1) == 0


def test_the_global_precision_is_left_alone() -> None:
    with ctx.workprec(77):
        dual_enclosure(relu, tanh, 1, 1, 0.5, accuracy=1e-20)
        assert ctx.prec == 77
        with pytest.raises(AccuracyError):
            mean_enclosure(sp.exp(x), 1e5)
        assert ctx.prec == 77
