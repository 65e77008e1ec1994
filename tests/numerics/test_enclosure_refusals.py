"""What an enclosure is refused for, and how it says so."""

from typing import Any

import pytest
import sympy as sp
from flint import arb

from asymptest.numerics.enclosure import dual_enclosure, mean_enclosure
from asymptest.theory import activations
from asymptest.theory.errors import AccuracyError, ArgumentError, UnsupportedError
from asymptest.theory.piecewise import x

relu = activations.relu.expr


@pytest.mark.parametrize(
    ("p", "q", "rho", "name"),
    [
        (0, 1, 0.5, "p"),
        (1, -1, 0.5, "q"),
        (arb(1, 2), 1, 0.5, "p"),
        (1, 1, 1 + 1e-15, "rho"),
        (1, 1, arb(-2, 0.5), "rho"),
        (float("nan"), 1, 0.5, "p"),
        (1, float("inf"), 0.5, "q"),
        (1, 1, x, "rho"),
    ],
)
def test_arguments_outside_their_domain_are_named(
    p: Any, q: Any, rho: Any, name: str
) -> None:
    with pytest.raises(ArgumentError, match=f"^{name} must be"):
        dual_enclosure(relu, relu, p, q, rho)


@pytest.mark.parametrize("accuracy", [0.0, -1e-3, 1.0, 1e-31, float("nan")])
def test_an_accuracy_out_of_range_is_refused(accuracy: float) -> None:
    with pytest.raises(ArgumentError, match="accuracy"):
        mean_enclosure(relu, 1, accuracy=accuracy)


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        (sp.exp(x**2 / 8), "no bound"),
        (1 / x, "no bound"),
        (sp.Abs(sp.sin(x)), "cannot be listed"),
        (sp.besselj(0, x), "besselj"),
        (sp.sqrt(x), "ImaginaryUnit"),  # not real for x < 0
    ],
)
def test_functions_beyond_reach_are_refused(expr: Any, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        mean_enclosure(expr, 1)


def test_a_mean_that_is_too_far_out_is_refused() -> None:
    with pytest.raises(AccuracyError, match="standard deviations"):
        mean_enclosure(sp.exp(x), 1e5)
