"""Where a series is easily wrong: tails, jumps, what vanishes fast, near ties, wide balls."""

from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
from flint import arb, ctx

from asymptest.numerics.leading import enclosure_at, leading
from asymptest.theory import (
    AccuracyError,
    Activation,
    ArgumentError,
    Attention,
    Dense,
    LayerNorm,
    Network,
    Pointwise,
    Residual,
    RMSNorm,
    Saturated,
    ShapeError,
    Softmax,
    relu,
    sigmoid,
    step,
)
from asymptest.theory.piecewise import x

ONE = {"W": [[1]]}
UNIT = [[[1]]]
HEAD = {"WQ": UNIT, "WK": UNIT, "WV": UNIT, "WO": UNIT}
SOFTSIGN = Activation("softsign", x / (1 + sp.Abs(x)))
ATAN = Activation("atan", sp.atan(x))
LATE = Activation("late", sp.Heaviside(x - 1))


@pytest.mark.parametrize(("phi", "limit"), [(SOFTSIGN, 1), (ATAN, np.pi / 2)], ids=str)
def test_an_algebraic_tail_is_left_out_and_said_to_be(phi: Activation, limit: float):
    """softsign(c^2 x) = sign(x) + O(c^-2)."""
    for kind in ("exact", "float64"):
        found = leading(Dense() >> Pointwise(phi), [ONE], [[1], [2], [-1]], 1, kind)
        np.testing.assert_allclose(found.floats()[:, 0], [limit, limit, -limit])
        assert found.series.unknown == -2


def test_lower_powers_choose_the_side_of_a_jump():
    """The entries are 1 + b/(2c), ..., and the function jumps at 1."""
    network = Dense(bias_variance=1) >> RMSNorm() >> Dense() >> Pointwise(LATE)
    for bias, expected in (([1, 0], [0, 1]), ([0, -1], [1, 1])):
        first = {"W": [[1, 1], [0, 0]], "v": bias}
        second = {"W": [[1, 2], [-1, -2]]}
        found = leading(network, [first, second], [[1, 0]])
        with mpmath.workdps(50):
            c = mpmath.mpf(10) ** 8
            row = [c * c + c * b for b in bias]
            size = mpmath.sqrt((row[0] ** 2 + row[1] ** 2) / 2)
            entry = c * (row[0] - row[1]) / size
            truth = [int(entry > 1), int(2 * entry > 1)]
        assert truth == expected
        assert found.floats().tolist() == [expected]


@pytest.mark.parametrize("last", [Pointwise(step), RMSNorm()], ids=str)
def test_what_vanishes_fast_is_not_taken_for_zero(last: Network):
    """sigmoid(-c^2) is positive, and smaller than every power of c."""
    network = Dense() >> Pointwise(sigmoid) >> Dense() >> last
    with pytest.raises(AccuracyError, match="stays open"):
        leading(network, [ONE, ONE], [[-1]])
    smooth = Dense() >> Pointwise(sigmoid) >> Dense() >> Pointwise(relu)
    assert leading(smooth, [ONE, ONE], [[-1]]).series.fast


def test_a_tie_that_lost_keys_decide_is_open():
    """Equal in all powers, the two rows differ by what their heads have left out."""
    network = Attention(Softmax(), "causal") >> Attention(Saturated())
    with pytest.raises(AccuracyError, match="vanishes fast"):
        leading(network, [HEAD, HEAD], [[1], [2], [Fraction(3, 2)], [2]])


@pytest.mark.parametrize(
    "rows",
    [
        [[2**60], [2**60 + 1]],
        [[1], [1 + Fraction(1, 10**20)]],
        [[10**200], [10**200 + 1]],
        [[sp.sqrt(2)], [sp.sqrt(2) + sp.Rational(1, 10**20)]],
    ],
    ids=["integers", "fractions", "huge", "roots"],
)
def test_near_keys_are_told_apart_in_either_order(rows: list[Any]):
    network = Attention(Softmax())
    alone, smaller = (leading(network, [HEAD], [row]).value[0, 0] for row in rows[::-1])
    for order in (rows, rows[::-1]):
        for (value,) in leading(network, [HEAD], order).value:
            assert value > smaller
            assert not value > alone
            assert not value < alone


def test_close_logits_at_one_c_are_not_equal():
    """The two weights differ by 1e-45 / 4, which 128 bits do not show."""
    rows = [[1, 1], [1 + Fraction(1, 10**45), -1]]
    first, second = np.array([[[1]], [[0]]]), np.array([[[0]], [[1]]])
    head = {"WQ": first, "WK": first, "WV": second, "WO": np.array([[[1, 0]]])}
    found = enclosure_at(Attention(Softmax()), [head], rows, 1).value[0, 0]
    with mpmath.workdps(80):
        gap = mpmath.mpf(10) ** -45
        truth = (1 - mpmath.exp(gap)) / (1 + mpmath.exp(gap))
        with ctx.workprec(300):
            assert found.contains(arb(mpmath.nstr(truth, 60)))


def test_the_leading_power_is_proved():
    """The coefficient of c^2 is 4e-46, and that of c is 1."""
    near = sp.Rational(str(sp.N(sp.sqrt(2), 46)))
    weights = [{"W": [[1], [-near]], "v": [1]}]
    found = leading(Dense(bias_variance=1), weights, [[sp.sqrt(2), 1]])
    assert found.power == 2
    assert found.precision > 128
    assert float(found.value[0, 0]) == pytest.approx(
        float(sp.N(sp.sqrt(2) - near, 20)), rel=1e-12
    )
    rounded = [{"W": [[0.1], [0.2], [-0.3]], "v": [1]}]
    ours = leading(Dense(bias_variance=1), rounded, [[1, 1, 1]], numbers="float64")
    assert ours.power == 1  # 0.1 + 0.2 - 0.3 is rounding


def test_balls_end_narrow():
    """An entry so near 0 that its square is not proved to be positive at 128 bits."""
    near = sp.Rational(str(sp.N(sp.sqrt(2), 35)))
    network = Dense() >> RMSNorm()
    found = leading(network, [{"W": [[1], [-near]]}], [[sp.sqrt(2), 1]])
    assert abs(float(found.value[0, 0])) == pytest.approx(1, abs=1e-12)
    c = Fraction(1, 3)
    at = enclosure_at(Attention(Softmax()), [HEAD], [[1], [2]], c).value
    assert max(float(ball.rad()) for ball in at.reshape(-1)) < 1e-12


def test_rows_of_other_sizes_do_not_vanish_in_float64():
    X = [[3e12, 1e12], [1.0, 2.0]]
    found = leading(RMSNorm(), [], X, numbers="float64").floats()
    np.testing.assert_allclose(found[1], np.array([1, 2]) / np.sqrt(2.5))


def test_a_zero_row_stays_zero_where_eps_is_positive():
    found = leading(RMSNorm(1), [], [[0, 0], [1, 0]])
    np.testing.assert_allclose(found.floats(), [[0, 0], [np.sqrt(2), 0]])
    with pytest.raises(ArgumentError, match="row 0 is zero"):
        leading(RMSNorm(), [], [[0, 0], [1, 0]])


def test_factors_in_decimals_are_rational():
    found = leading(Residual(Dense(), 1, 0.5), [ONE], [[1]])
    assert found.numbers == "rational"


def test_balls_of_equal_digits_are_not_the_same_token():
    """1/3 and 1/3 + 1e-40 agree at 128 bits."""
    close = sp.Rational(1, 3) + sp.Rational(1, 10**40)
    rows = [[sp.sqrt(2) / 3], [sp.sqrt(2) * close]]
    found = leading(Attention(Softmax()), [HEAD], rows)
    assert found.precision > 128


NORM, LAYER = RMSNorm(affine=True), LayerNorm(affine=True)
TWO = {"W": np.eye(2, dtype=int)}


@pytest.mark.parametrize(
    ("network", "weights", "words"),
    [
        (Dense(), {"W": np.eye(2), "bias": [0, 0]}, ["must name W", "bias"]),
        (Dense(), {"W": np.eye(2), "v": [1, 2, 3]}, ["v has 3 entries", "2 features"]),
        (NORM, {"gain": [1, 1], "bias": [1, 1]}, ["may name no other"]),
        (LAYER, {"gain": [1, 1, 1]}, ["gain", "(2,)", "(3,)"]),
        (Attention(Softmax()), {"WV": 0, "WO": 0, "WQ": 0}, ["WK"]),
        (
            Attention(),
            {"WV": np.ones((2, 2, 1)), "WO": np.ones((2, 1, 2))},
            ["2 heads"],
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(
    network: Network, weights: dict[str, Any], words: list[str]
):
    with pytest.raises(ShapeError) as caught:
        leading(network, [weights], [[1, 2]])
    assert all(word in str(caught.value) for word in words)


def test_states_that_are_not_finite_are_refused():
    with pytest.raises(ArgumentError, match="nan"):
        leading(Dense(), [TWO], [[1.0, float("nan")]], numbers="float64")
