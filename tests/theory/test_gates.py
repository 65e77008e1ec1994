"""Gates: limits and exact errors, against mpmath at 50 digits."""

import mpmath
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from asymptest.theory.gates import (
    SIGMOID,
    TANH,
    Gate,
    exact_gate_error,
    gate_error,
    saturate_gate,
    x,
)

mp = mpmath.MPContext()  # of its own: the precision is nobody else's
mp.dps = 50
ORACLE = {
    "sigmoid": (lambda y: 1 / (1 + mp.exp(-y)), (0, sp.Rational(1, 2), 1)),
    "tanh": (mp.tanh, (-1, 0, 1)),
}
ERRORS = {
    (gate.name, sign): [
        sp.lambdify(x, error, mp)
        for error in (gate_error(gate, sign), exact_gate_error(gate))
    ]
    for gate in (SIGMOID, TANH)
    for sign in (1, -1)
}


@pytest.mark.parametrize("gate", [SIGMOID, TANH], ids=lambda gate: gate.name)
def test_limits(gate: Gate) -> None:
    """The limit at each sign is the gate's value far out, and at 0 its value there."""
    function, limits = ORACLE[gate.name]
    for sign, limit in zip((-1, 0, 1), limits, strict=True):
        assert saturate_gate(gate, sign) == limit
        assert abs(function(mp.mpf(200 * sign)) - float(limit)) < 1e-40


@pytest.mark.parametrize("gate", [SIGMOID, TANH], ids=lambda gate: gate.name)
@given(exponent=st.floats(-30, 4), sign=st.sampled_from([1, -1]))
def test_errors(gate: Gate, exponent: float, sign: int) -> None:
    """|limit - gate(y)| at any distance from 0, on both sides, to 30 digits."""
    function, limits = ORACLE[gate.name]
    y = mp.mpf(2) ** mp.mpf(exponent)
    exact = abs(limits[1 + sign] - function(sign * y))
    for error in ERRORS[gate.name, sign]:
        assert abs(error(y) - exact) < mp.mpf(10) ** -35


def test_the_other_gates() -> None:
    """The same questions have answers for a gate that is not listed."""
    arctan = Gate("atan", sp.atan(x))
    assert saturate_gate(arctan, -1) == -sp.pi / 2
    assert sp.simplify(gate_error(arctan, 1) - (sp.pi / 2 - sp.atan(x))) == 0
