"""Quadrature against closed forms, against SciPy's adaptive rule, and against itself.

Closed forms: Cho and Saul (2009) for relu and abs, Williams (1997) for erf, Sheppard
(1899) for the step; sin and exp(-x²) by completing the square. c = ρ sqrt(p q). Errors
are in units of sqrt(E φ(u)² E φ(v)²). SciPy's rule is asked for 1e-13.
"""

from collections.abc import Callable
from math import exp, inf, pi, sqrt

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy.integrate import quad
from scipy.special import erf, expit

from asymptest.numerics.panels import kinked_edges, mesh
from asymptest.numerics.quadrature import dual_quadrature, mean_quadrature
from asymptest.theory.errors import AccuracyError, ArgumentError, ShapeError

Function = Callable[..., np.ndarray]


def sine(rho: np.ndarray) -> np.ndarray:
    return np.sqrt((1 - rho) * (1 + rho))


def determinant(p: np.ndarray, q: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """Return (1 + 2p)(1 + 2q) - 4c² without cancellation."""
    return 1 + 2 * p + 2 * q + 4 * p * q * (1 - rho) * (1 + rho)


def relu_dual(p, q, rho):
    angle = np.arctan2(sine(rho), rho)
    return np.sqrt(p * q) / (2 * pi) * (sine(rho) + rho * (pi - angle))


def abs_dual(p, q, rho):
    return 2 / pi * np.sqrt(p * q) * (sine(rho) + rho * np.arctan2(rho, sine(rho)))


def erf_dual(p, q, rho):
    c = 2 * rho * np.sqrt(p * q)
    return 2 / pi * np.arctan2(c, np.sqrt(determinant(p, q, rho)))


def step_dual(p, q, rho):
    return 0.25 + np.arctan2(rho, sine(rho)) / (2 * pi)


def sin_dual(p, q, rho):
    # (e^(-(p + q)/2 + c) - e^(-(p + q)/2 - c)) / 2, with nothing left to cancel
    a, b = np.sqrt(p), np.sqrt(q)
    exponent = -((a - b) ** 2) / 2 - a * b * (1 - np.abs(rho))
    return -0.5 * np.sign(rho) * np.exp(exponent) * np.expm1(-2 * a * b * np.abs(rho))


def bump_dual(p, q, rho):
    return 1 / np.sqrt(determinant(p, q, rho))


def relu(x):
    return np.maximum(x, 0.0)


def step(x):
    return np.where(x > 0, 1.0, 0.0)


def bump(x):
    return np.exp(-x * x)


def silu(x):
    return x * expit(x)


def softplus(x):
    return np.logaddexp(0.0, x)


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x * x * x)))


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0.0)))


def hard_tanh(x):
    return np.clip(x, -1.0, 1.0)


def leaky(x):
    return np.where(x > 0, x, 0.1 * x)


def abs_sin(x):
    return np.abs(x) * np.sin(x)


def jump(x):
    return np.where(x > 0.3, 1.0 + x, 0.0)


CLOSED = {
    "relu": (relu, relu_dual, (0.0,)),
    "abs": (np.abs, abs_dual, (0.0,)),
    "step": (step, step_dual, (0.0,)),
    "erf": (erf, erf_dual, ()),
    "sin": (np.sin, sin_dual, ()),
    "bump": (bump, bump_dual, ()),
}
SMOOTH = [np.tanh, expit, silu, softplus, gelu_tanh, erf, bump]
KINKED = [
    (relu, (0.0,)),
    (elu, (0.0,)),
    (leaky, (0.0,)),
    (abs_sin, (0.0,)),
    (hard_tanh, (-1.0, 1.0)),
    (jump, (0.3,)),
]

variances = st.floats(-12, 4).map(lambda e: 10.0**e)
# The distance to ±1 on a log scale: cancellations live at 1 - 1e-8, not at 0.3.
correlations = st.builds(
    lambda sign, e: sign * (1 - 10.0**e),
    st.sampled_from([-1.0, 1.0]),
    st.one_of(st.floats(-16, 0), st.just(-inf)),
)


def pair(p: float, q: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array([p]), np.array([q])


def triple(p: float, q: float, rho: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return *pair(p, q), np.array([rho])


def scale(phi: Function, p: np.ndarray, q: np.ndarray, kinks=()) -> np.ndarray:
    ones = np.ones_like(p)
    second = [dual_quadrature(phi, x, x, ones, kinks) for x in (p, q)]
    return np.sqrt(second[0]) * np.sqrt(second[1])


@pytest.mark.parametrize("name", CLOSED)
@settings(max_examples=15)
@given(p=variances, q=variances, rho=correlations)
@example(p=1.0, q=1.0, rho=1 - 1e-14)
@example(p=1e4, q=1e4, rho=-1 + 1e-9)
@example(p=1e4, q=1e-12, rho=0.0)
@example(p=1.0, q=1.0, rho=1.0)
@example(p=1.0, q=3.0, rho=-1.0)
def test_closed_form(name: str, p: float, q: float, rho: float) -> None:
    phi, exact, kinks = CLOSED[name]
    # sin of a variance of 1e4 takes seconds: see the next test.
    most = 1e3 if name == "sin" else 1e4
    arguments = triple(min(p, most), min(q, most), rho)
    first, second = arguments[:2]
    one = np.ones(1)
    unit = np.sqrt(exact(first, first, one) * exact(second, second, one))
    gap = np.abs(dual_quadrature(phi, *arguments, kinks) - exact(*arguments))
    assert gap <= 1e-12 * unit


def test_sin_of_a_large_variance() -> None:
    # At steps 0.3 and 0.6 a trapezoid sees the same, wrong, sin(83 z).
    p, q, rho = triple(2.44664035928366e-05, 6931.988693504464, 0.9999228357512502)
    unit = np.sqrt(sin_dual(p, p, np.ones(1)) * 0.5)
    gap = np.abs(dual_quadrature(np.sin, p, q, rho) - sin_dual(p, q, rho))
    assert gap <= 1e-12 * unit


def nested_quad(phi: Function, p: float, q: float, rho: float) -> float:
    """Return the dual by SciPy: conditional expectation inside, told where 0 lies."""
    s, drift = sqrt((1 - rho) * (1 + rho)), sqrt(q) * rho
    options = {"epsabs": 1e-14, "epsrel": 1e-13, "limit": 400}

    def near(z: float, width: float) -> list[float]:
        points = [z + width * k for k in (-20, -5, -1, 0, 1, 5, 20)]
        return [point for point in points if -9 < point < 9] + [0.0]

    def density(z: float) -> float:
        return exp(-z * z / 2) / sqrt(2 * pi)

    def outer(z: float) -> float:
        def inner(y: float) -> float:
            v = drift * z + sqrt(q) * s * y
            return float(phi(np.array(v))) * density(y)

        points = near(-rho * z / s, 1 / (sqrt(q) * s))
        m = quad(inner, -9, 9, points=points, **options)[0]
        return float(phi(np.array(sqrt(p) * z))) * m * density(z)

    return quad(outer, -9, 9, points=near(0.0, 1 / sqrt(p)), **options)[0]


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
@pytest.mark.parametrize(
    ("phi", "kinks"),
    [(np.tanh, ()), (expit, ()), (silu, ()), (softplus, ()), (elu, (0.0,))],
)
@pytest.mark.parametrize(
    ("p", "q", "rho"), [(1.0, 1.0, 1 - 1e-9), (900.0, 2.0, -0.9), (0.01, 5.0, 0.6)]
)
def test_against_nested_adaptive_quadrature(phi, kinks, p, q, rho) -> None:
    gap = dual_quadrature(phi, *triple(p, q, rho), kinks) - nested_quad(phi, p, q, rho)
    assert np.abs(gap) <= 1e-12 * scale(phi, *pair(p, q), kinks)


@pytest.mark.parametrize("phi", SMOOTH)
@settings(max_examples=5)
@given(p=variances, q=variances, rho=correlations)
def test_trapezoid_agrees_with_panels(phi, p, q, rho) -> None:
    # A kink declared where there is none makes the second one use panels.
    arguments = triple(p, q, rho)
    gap = dual_quadrature(phi, *arguments) - dual_quadrature(
        phi, *arguments, (0.0, 1.3)
    )
    assert np.abs(gap) <= 1e-12 * scale(phi, *arguments[:2])


@pytest.mark.parametrize(("phi", "kinks"), KINKED)
@settings(max_examples=5)
@given(p=variances, q=variances, rho=correlations)
@example(p=1.0, q=6.5e-5, rho=-0.5)  # 0.3 is 37 standard deviations away
@example(p=1e-5, q=0.00020423272318478746, rho=-1.0)  # 0.3 is next to an edge
@example(p=34.7, q=0.066, rho=0.99995)  # a trapezoid in step with a kink agrees falsely
def test_kinks_are_found_if_not_declared(phi, kinks, p, q, rho) -> None:
    arguments = triple(p, q, rho)
    gap = dual_quadrature(phi, *arguments, kinks) - dual_quadrature(phi, *arguments)
    assert np.abs(gap) <= 1e-12 * scale(phi, *arguments[:2], kinks)


@pytest.mark.parametrize(("phi", "kinks"), KINKED)
@settings(max_examples=5)
@given(p=st.floats(0.01, 4.0), rho=correlations)
def test_kinked_by_rotated_coordinates(phi, kinks, p, rho) -> None:
    """Check kinked functions without a closed form: u, v = a ± b, independent a, b.

    A plain product rule in a and b, split where u or v is at a kink, and in a also at
    the whole layer that these lines cross while |b| is below 12 standard deviations.
    """
    a, b = sqrt(p * (1 + rho) / 2), sqrt(p * (1 - rho) / 2)
    if a == 0:
        return  # ρ = -1: see the test of opposite inputs
    x, w = np.polynomial.legendre.leggauss(16)

    def panels(breaks: list[float]) -> tuple[np.ndarray, np.ndarray]:
        edges = np.unique(np.clip([*breaks, *np.linspace(-12, 12, 25)], -12, 12))
        half = np.diff(edges)[:, None] / 2
        z = edges[:-1, None] + half * (1 + x)
        return z.ravel(), (half * w * np.exp(-z * z / 2)).ravel() / sqrt(2 * pi)

    def conditional(z: float) -> float:
        lines = [side * (k - a * z) / b for k in kinks for side in (1, -1)] if b else []
        y, weight = panels(lines)
        return float(weight @ (phi(a * z + b * y) * phi(a * z - b * y)))

    reach = b / a * np.arange(-12, 13)
    z, weight = panels(np.concatenate([k / a + reach for k in kinks]).tolist())
    value = weight @ np.array([conditional(t) for t in z])
    gap = dual_quadrature(phi, *triple(p, p, rho), kinks) - value
    assert np.abs(gap) <= 1e-10 * scale(phi, *pair(p, p), kinks)


@pytest.mark.parametrize(("phi", "kinks"), [*KINKED, (np.tanh, ())])
def test_dual_is_symmetric_and_does_not_depend_on_company(phi, kinks) -> None:
    p, q = np.array([1.0, 0.2, 1e3]), np.array([0.3, 5.0, 1e-3])
    rho = np.array([0.5, -0.99, 1 - 1e-6])
    forward = dual_quadrature(phi, p, q, rho, kinks)
    assert (dual_quadrature(phi, q, p, rho, kinks) == forward).all()
    again = [0, 1, 2, 2, 1, 0]
    double = dual_quadrature(phi, p[again], q[again], rho[again], kinks)
    assert (double == forward[again]).all()
    alone = [
        dual_quadrature(phi, p[i : i + 1], q[i : i + 1], rho[i : i + 1], kinks)
        for i in range(3)
    ]
    gap = np.abs(np.concatenate(alone) - forward)
    assert (gap <= 1e-12 * scale(phi, p, q, kinks)).all()


@pytest.mark.parametrize(("phi", "kinks"), [*KINKED, (np.tanh, ()), (softplus, ())])
def test_identical_opposite_and_orthogonal(phi, kinks) -> None:
    p, q = pair(2.0, 0.7)
    mean = mean_quadrature(phi, p, kinks) * mean_quadrature(phi, q, kinks)
    unit = scale(phi, p, q, kinks)
    assert np.abs(dual_quadrature(phi, p, q, np.zeros(1), kinks) - mean) <= 1e-12 * unit

    def square(x: np.ndarray) -> np.ndarray:
        return phi(x) ** 2

    def mirrored(x: np.ndarray) -> np.ndarray:
        return phi(x) * phi(-x)

    both = (*kinks, *(-k for k in kinks))
    same = dual_quadrature(phi, p, p, np.ones(1), kinks)
    assert np.abs(same - mean_quadrature(square, p, kinks)) <= 1e-12 * same
    opposite = dual_quadrature(phi, p, p, -np.ones(1), kinks)
    assert np.abs(opposite - mean_quadrature(mirrored, p, both)) <= 1e-12 * same


def test_mean_against_closed_forms() -> None:
    p = 10.0 ** np.linspace(-12, 4, 9)
    cases = [
        (relu, np.sqrt(p / (2 * pi)), (0.0,)),
        (np.cos, np.exp(-p / 2), ()),
        (bump, 1 / np.sqrt(1 + 2 * p), ()),
        (step, np.full(9, 0.5), (0.0,)),
        (lambda x: x**4, 3 * p**2, ()),
    ]
    for phi, exact, kinks in cases:
        gap = np.abs(mean_quadrature(phi, p, kinks) - exact)
        assert (gap <= 1e-12 * np.sqrt(scale(phi, p, p, kinks))).all()


def test_fast_growth_moves_the_cut() -> None:
    one = np.ones(1)
    eighth = dual_quadrature(lambda x: x**8, one, one, one)
    assert eighth == pytest.approx(2027025.0, rel=1e-12)  # 15!!
    product = dual_quadrature(np.exp, 9 * one, 4 * one, 0.5 * one)
    assert product == pytest.approx(exp(9.5), rel=1e-11)  # (9 + 4 + 2 · 3) / 2


def test_zero_variance_of_a_continuous_function() -> None:
    zero, one, half = triple(0.0, 1.0, 0.5)
    assert dual_quadrature(relu, zero, one, half, (0.0,)) == 0
    assert dual_quadrature(relu, zero, zero, one, (0.0,)) == 0
    expected = 0.5 * mean_quadrature(expit, 3 * one)
    assert dual_quadrature(expit, 3 * one, zero, half) == pytest.approx(expected)
    assert dual_quadrature(expit, zero, zero, zero) == 0.25
    assert mean_quadrature(np.cos, zero) == 1


@pytest.mark.parametrize(
    ("p", "q", "rho", "limit"),
    [
        (0.0, 0.0, 0.0, 2.25),  # ((1 + 2) / 2)²
        (0.0, 0.0, 1.0, 2.5),  # (1² + 2²) / 2
        (0.0, 0.0, -1.0, 2.0),  # 1 · 2
        (0.0, 4.0, 0.0, 2.25),
        (4.0, 0.0, 1.0, 2.5),
        (0.0, 4.0, 0.5, 2.25 + 1 / 12),  # Sheppard: 1/4 + asin(1/2) / 2π for the step
    ],
)
def test_zero_variance_at_a_jump_is_the_limit(p, q, rho, limit) -> None:
    def one_or_two(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, 2.0, 1.0)

    value = dual_quadrature(one_or_two, *triple(p, q, rho), (0.0,))
    assert value == pytest.approx(limit, rel=1e-12)
    assert mean_quadrature(one_or_two, np.zeros(1), (0.0,)) == pytest.approx(1.5)


def test_zero_variance_at_a_jump_leaves_no_trace_of_the_slope() -> None:
    def sloped(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, 2.0 + x, 1.0 - x)

    value = dual_quadrature(sloped, *triple(0.0, 0.0, 1.0), (0.0,))
    assert value == pytest.approx(2.5, rel=1e-12)
    assert mean_quadrature(sloped, np.zeros(1), (0.0,)) == pytest.approx(1.5, rel=1e-12)


def test_extreme_variances() -> None:
    tiny, huge = pair(1e-300, 1e300)
    assert dual_quadrature(relu, huge, huge, np.ones(1), (0.0,)) == pytest.approx(5e299)
    assert dual_quadrature(np.tanh, tiny, tiny, np.ones(1)) == pytest.approx(1e-300)


def test_constants_booleans_and_no_triples() -> None:
    one, none = np.ones(1), np.zeros(0)
    assert dual_quadrature(
        lambda x: np.array(3.0), one, one, 0.5 * one
    ) == pytest.approx(9.0)
    assert dual_quadrature(lambda x: 0 * x, one, one, 0.5 * one) == 0
    booleans = dual_quadrature(lambda x: x > 0, one, one, 0 * one, (0.0,))
    assert booleans == pytest.approx(0.25)
    assert dual_quadrature(np.tanh, none, none, none).shape == (0,)
    assert mean_quadrature(np.tanh, none).shape == (0,)


@pytest.mark.parametrize(
    ("phi", "variance", "says"),
    [
        (np.exp, 1e4, r"phi\(725\) = inf"),
        (lambda x: np.where(x > 3, np.nan, x), 1.0, r"phi\(3.25\) = nan"),
        (lambda x: x / x, 1.0, r"phi\(0\) = nan"),
        (
            lambda x: np.where(np.abs(x - 0.37) < 0.1, np.nan, x),
            1.0,
            r"phi\(0.\d+\) = nan",
        ),
        (lambda x: x + 0j, 1.0, "dtype complex"),
    ],
)
def test_a_function_without_a_value_is_named(phi, variance, says) -> None:
    with pytest.raises(ArgumentError, match=says):
        dual_quadrature(phi, *triple(variance, variance, 0.5))
    with pytest.raises(ArgumentError, match=says):
        mean_quadrature(phi, np.array([variance]))


def test_a_pole_between_the_points_is_an_error() -> None:
    with pytest.raises((AccuracyError, ArgumentError)):
        dual_quadrature(lambda x: 1 / (x - 0.123), *triple(1.0, 1.0, 0.5))


def test_noise_is_an_error() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(AccuracyError, match="more than 8192 panels"):
        dual_quadrature(lambda x: rng.normal(size=x.shape), *triple(1.0, 1.0, 0.5))


def test_a_tolerance_below_the_noise_is_an_error() -> None:
    def noisy(x: np.ndarray) -> np.ndarray:
        return np.tanh(x) + 3e-11 * np.sin(1e9 * x)

    with pytest.raises(AccuracyError, match="where tol allows"):
        dual_quadrature(noisy, *triple(1.0, 1.0, 0.5), tol=1e-15)


def test_arguments_out_of_domain_are_named() -> None:
    one = np.ones(1)
    with pytest.raises(ArgumentError, match=r"\|rho\| <= 1; got rho\[0\] = 1.0000"):
        dual_quadrature(np.tanh, one, one, one + 1e-15)
    with pytest.raises(ArgumentError, match=r"got p\[0\] = -1.0"):
        dual_quadrature(np.tanh, -one, one, one)
    with pytest.raises(ArgumentError, match=r"got q\[0\] = inf"):
        dual_quadrature(np.tanh, one, one * inf, one)
    with pytest.raises(ArgumentError, match=r"got rho\[0\] = nan"):
        dual_quadrature(np.tanh, one, one, one * np.nan)
    with pytest.raises(ArgumentError, match="kinks must be finite"):
        mean_quadrature(np.tanh, one, (inf,))
    with pytest.raises((ShapeError, TypeCheckError)):
        dual_quadrature(np.tanh, np.ones(2), one, one)


def test_mesh_sees_kinks_and_only_kinks() -> None:
    none = np.zeros(0)
    for phi in SMOOTH:
        for reach in (1e-3, 9.0, 90.0, 900.0):
            edges = mesh(phi, reach, none)
            assert not kinked_edges(phi, edges, none).any()
            assert len(edges) < 20
    edges = mesh(hard_tanh, 90.0, none)
    assert (edges == [-90.0, -1.0, 1.0, 90.0]).all()
    assert kinked_edges(hard_tanh, edges, none).tolist() == [False, True, True, False]
