"""Encodings of positions: the mean cosine of rotary ones against quadrature and finite heads."""

from collections.abc import Callable
from typing import Any

import jaxtyping
import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from asymptest.theory import Additive, Attention, Rotary, Softmax
from asymptest.theory.errors import ArgumentError, AsymptestError, ShapeError
from asymptest.theory.positions import DISTANCE

EPS = float(np.finfo(np.float64).eps)


def mean_cosine(base: float, distance: float) -> float:
    """Return the integral of cos(base^-u distance) over 0 < u < 1 by quadrature."""
    with mpmath.workdps(30):
        b, delta = mpmath.mpf(base), mpmath.mpf(distance)
        # Between two of these, the cosine has few zeros.
        turns = int(distance * (1 - 1 / base) / 3) + 1
        ends = [-mpmath.log1p(k * (1 / b - 1) / turns) for k in range(turns + 1)]
        cuts = [end / mpmath.log(b) for end in ends]
        value: Any = mpmath.quad(lambda u: mpmath.cos(delta * b**-u), cuts)
        return float(value)


def turn(base: float, distance: float) -> float:
    """Return r(distance) to all digits of a float."""
    value: Any = Rotary(base).turn().subs(DISTANCE, sp.Rational(distance))
    return float(value.evalf(30))


# 10000 is the base of the paper and of Llama 2, 500000 that of Llama 3.
@pytest.mark.parametrize("base", [1.01, 2.0, 100.0, 10000.0, 500000.0])
@pytest.mark.parametrize("distance", [1e-3, 1.0, 2.0, 7.0, 63.0, 300.0])
def test_turn_is_the_mean_cosine(base: float, distance: float) -> None:
    expected = mean_cosine(base, distance)
    # Two cosine integrals Ci are subtracted and divided by log(base). Both are rounded, and
    # so are their arguments x, where Ci'(x) = cos(x) / x.
    ends = sum(abs(float(mpmath.ci(x))) for x in (distance, distance / base))
    assert abs(turn(base, distance) - expected) <= 8 * EPS * (1 + ends) / np.log(base)


@given(
    base=st.sampled_from([1.01, 2.0, 10000.0]),
    distance=st.floats(-6, -1).map(lambda digits: 10**digits),
)
def test_turn_is_1_at_small_distances(base: float, distance: float) -> None:
    """1 - distance^2 / 2 times the mean squared frequency, plus O(distance^4)."""
    square = (1 - base**-2) / (2 * np.log(base))
    assert abs(1 - distance**2 / 2 * square - turn(base, distance)) <= (
        distance**4 / 24 + 64 * EPS * abs(np.log(distance)) / np.log(base)
    )


def test_turn_tends_to_1() -> None:
    assert sp.limit(Rotary(2).turn(), DISTANCE, 0) == 1


@pytest.mark.parametrize("base", [1.5, 100.0, 10000.0])
@pytest.mark.parametrize("distance", [1, 5, 40])
def test_turn_is_the_limit_of_a_wide_head(base: float, distance: int) -> None:
    """The mean over features 2 m of base^(-2 m / d) is a sum over the left ends of cells."""
    features = 2**14
    step = 2 / features
    rotary = Rotary(base)

    def wave(share: Any) -> Any:
        return np.cos(distance * rotary.frequency(share))

    left = wave(np.arange(0, features, 2) / features).mean()
    trapezoid = left - step / 2 * (wave(0.0) - wave(1.0))
    curvature = np.log(base) ** 2 * (distance**2 + distance)
    bound = step**2 / 12 * curvature
    assert abs(trapezoid - turn(base, distance)) <= bound + 64 * EPS
    assert bound < 1e-3


s = sp.Symbol("s", positive=True)
nan, inf = float("nan"), float("inf")
Make = Callable[[], Any]
BAD: list[tuple[Make, type[AsymptestError], str]] = [
    (lambda: Rotary(1), ArgumentError, r"Rotary.base .*above 1; got 1"),
    (lambda: Rotary(0.5), ArgumentError, r"Rotary.base .*above 1; got 0.5"),
    (lambda: Rotary(inf), ArgumentError, r"Rotary.base must be a finite .*inf"),
    (lambda: Rotary(nan), ArgumentError, r"Rotary.base must be a finite .*nan"),
    (lambda: Rotary(s), ArgumentError, r"Rotary.base must be a finite .*got s"),  # type: ignore[arg-type]
    (lambda: Rotary("2"), ArgumentError, r"Rotary.base must be a finite .*'2'"),  # type: ignore[arg-type]
    (lambda: Additive(np.eye(2)[:1]), ShapeError, r"Additive.kernel .*\(1, 2\)"),
    (lambda: Additive([1.0]), ShapeError, r"Additive.kernel .*\(1,\)"),
    (lambda: Additive([[nan]]), ArgumentError, r"Additive.kernel .*finite.*nan"),
    (lambda: Additive([[1.0]], inf), ArgumentError, r"Additive.content .*inf"),
    (lambda: Additive([[1.0]], "1"), ArgumentError, r"Additive.content .*text '1'"),  # type: ignore[arg-type]
    (
        lambda: Softmax(position="rotary"),  # type: ignore[arg-type]
        ArgumentError,
        r"Softmax.position must be Additive\(kernel\), Rotary\(\) or None; got str",
    ),
    (
        lambda: Attention(Softmax(position=Additive(np.eye(3)), bias=np.eye(2))),
        ShapeError,
        r"different numbers of positions, \[2, 3\]",
    ),
]


@pytest.mark.parametrize(("make", "error", "says"), BAD)
def test_bad_input_is_named(
    make: Make,
    error: type[AsymptestError],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Users do not run under the shape checker of this test-suite.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(error, match=says):
        make()
