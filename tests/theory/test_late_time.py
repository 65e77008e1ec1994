"""The clock of late training, against the integral that it stands for."""

from typing import Any

import mpmath
import pytest
import sympy as sp

from asymptest.theory.gradient_flow import norm_slope, output, relu_network
from asymptest.theory.late_time import g, margin_speed, remainder, s


@pytest.mark.parametrize("k", [1, 2, 3, 7])
@pytest.mark.parametrize("margin", [20, 200])
def test_time_is_the_inverse_speed(k: int, margin: int) -> None:
    """The integral of 1/v exceeds 1/v by a factor 1 + |a|/s + O(1/s^2), a = 2/k - 2."""
    v: Any = margin_speed(k).subs(g, sp.Rational(3, 2))
    inverse = sp.lambdify(s, 1 / v, "mpmath")
    first = margin - 15
    with mpmath.workdps(30):
        time = inverse(first) + mpmath.quad(inverse, [first, margin - 3, margin])
        excess = time / inverse(margin) - 1
    assert abs(excess * margin - (2 - 2 / k)) < 20 / margin + 1e-5
    assert remainder(k) == sp.Rational(2, k) - 2


@pytest.mark.parametrize("widths", [(1,), (1, 1), (1, 1, 1)])
def test_speed_is_that_of_a_chain_of_equal_weights(widths: tuple[int, ...]) -> None:
    """f = w^k x: the slope of ||theta||^2 gives the margin's, by the product rule."""
    network = relu_network(widths)
    k, w = network.depth, sp.Symbol("w", positive=True)
    equal = {v: w for weight in network.weights for v in weight.flat()}
    switches = (d for row in network.switches for d in row)
    ones = dict.fromkeys((*network.inputs, *switches), 1)
    f = output(network).subs({**equal, **ones})
    slope: Any = norm_slope(network, -sp.exp(-s)).subs({**equal, **ones})
    # rho^2 = k w^2, and f = w^k: ds/dt = (df/dw) (dw/d rho^2) d rho^2/dt.
    speed: Any = sp.diff(f, w) * slope / (2 * k * w)
    expected = margin_speed(k).subs(g, sp.Rational(1, k) ** sp.Rational(k, 2))
    assert (
        sp.simplify(speed - expected.subs(s, w**k).subs(sp.exp(-(w**k)), sp.exp(-s)))
        == 0
    )
