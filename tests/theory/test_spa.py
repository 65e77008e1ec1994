"""Shaped attention: published closed forms and numbers, NumPy's Cholesky factors, bad input."""

import math
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from asymptest.theory import (
    ArgumentError,
    ExponentialKernel,
    ShapeError,
    Spa,
    UniformKernel,
)
from asymptest.theory.spa import (
    GAP,
    RHO,
    ShapedKernel,
    attention,
    factors,
    generator,
    long_run,
    schedule,
)
from asymptest.theory.substitution import put

EPS = float(np.finfo(np.float64).eps)
A, B = sp.symbols("a b", positive=True)
POSITIVE = {"integer": True, "positive": True}
J, M = (sp.Symbol(name, **POSITIVE) for name in "jm")

Family = type[ShapedKernel]


def same(one: Any, other: Any) -> bool:
    return sp.simplify(one - other) == 0


# The published closed forms (He et al., 2302.10322), for every T.


def test_the_factors_of_u_spa_as_published() -> None:
    L, inverse = factors(UniformKernel)
    i, j = J + M + 2, J + 1

    def d(j: Any) -> Any:
        return (1 - RHO) * (1 + (j - 1) * RHO) / (1 + (j - 2) * RHO)

    squares = {
        L.entry(j, j): d(j),
        L.entry(i, j): RHO**2 * (1 - RHO) / (1 + (j - 2) * RHO) / (1 + (j - 1) * RHO),
        inverse.entry(j, j): 1 / d(j),
    }
    for entry, square in squares.items():
        assert sp.factor(entry**2 - square) == 0
        assert put({RHO: 0.3, J: 2, M: 3}, entry) > 0
    below = inverse.entry(i, j) / inverse.entry(i, i)
    assert sp.factor(below + RHO / (1 + (i - 2) * RHO)) == 0


def test_the_factors_of_e_spa_as_published() -> None:
    """With b = exp(-gamma); the inverse has two diagonals."""
    L, inverse = (F.at_values({GAP: 1 - B}) for F in factors(ExponentialKernel))
    root = sp.sqrt(1 - B**2)
    assert L.entry(1, 1) == inverse.entry(1, 1) == 1
    assert same(L.entry(J + 1, 1), B**J)
    assert same(L.entry(J + 1, J + 1), root)
    assert same(L.entry(J + M + 1, J + 1), B**M * root)
    assert same(inverse.entry(J + 1, J + 1), 1 / root)
    assert same(inverse.entry(2, 1), -B / root)
    assert same(inverse.entry(J + 2, J + 1), -B / root)
    assert inverse.entry(J + M + 2, J + 1) == inverse.entry(M + 2, 1) == 0
    assert L.entry(2, 5) == inverse.entry(2, 5) == 0


# sqrt((1 - b^2) / (1 - a^2)) in the roots that SymPy works with
SCALE = sp.sqrt(1 - B) * sp.sqrt(1 + B) / sp.sqrt(1 - A) / sp.sqrt(1 + A)
E_SPA: dict[tuple[Any, Any], Any] = {
    (1, 1): sp.Integer(1),
    (J + 1, J + 1): SCALE,
    (J + 2, J + 1): SCALE * (B - A),
    (J + M + 2, J + 1): SCALE * (B - A) * B**M,
    (2, 1): B - A * SCALE,
    (M + 2, 1): B**M * (B - A * SCALE),
    (5, 3): SCALE * (B - A) * B,
}


@pytest.mark.parametrize("at", E_SPA, ids=str)
def test_e_spa_as_published(at: tuple[Any, Any]) -> None:
    """With b = exp(-gamma) after the layer and a before it; the first column is another."""
    assert same(attention(ExponentialKernel, 1 - A, 1 - B, *at), E_SPA[at])


def test_u_spa_as_published() -> None:
    """From rho = 0.2 to 0.5; the rows sum to more than 1."""
    rows = [
        [1],
        [0.3232, 0.8839],
        [0.3002, 0.1538, 0.8452],
        [0.2877, 0.1413, 0.0932, 0.8268],
    ]
    values = sp.Rational(1, 5), sp.Rational(1, 2)
    for r, row in enumerate(rows, 1):
        found = [float(attention(UniformKernel, *values, r, c + 1)) for c in range(r)]
        assert np.abs(np.subtract(found, row)).max() <= 0.5e-4
        sums = [1, 1.2071, 1.2991, 1.3490]
        assert abs(sum(found) - sums[r - 1]) <= 0.5e-4


@pytest.mark.parametrize("at", [(2, 1), (4, 1), (J + M + 2, J + 1)], ids=str)
@pytest.mark.parametrize(
    ("family", "value"), [(UniformKernel, RHO), (ExponentialKernel, 1 - B)]
)
def test_a_kernel_is_carried_to_itself_by_the_identity(
    family: Family, value: Any, at: tuple[Any, Any]
) -> None:
    """L L^(-1) = 1, at positions that are symbols too."""
    row, column = at
    assert same(attention(family, value, value, row, column), 0)
    assert same(attention(family, value, value, row, row), 1)


@pytest.mark.parametrize(
    ("family", "at"), [(UniformKernel, 0.3), (ExponentialKernel, 0.4)]
)
def test_the_generator_is_the_slope_of_numpys_factor(family: Family, at: float) -> None:
    """(dL/dx) L^(-1), the slope by five points: off by h^4 times a fifth derivative."""
    T, h = 3, 1e-3

    def factor(x: float) -> np.ndarray:
        neighbours, ratio = (
            float(put({family.symbol: x}, part))
            for part in (family.coupling, family.ratio)
        )
        distance = np.abs(np.subtract.outer(np.arange(T), np.arange(T)))
        K = np.where(distance == 0, 1.0, neighbours * ratio ** np.abs(distance - 1.0))
        return np.linalg.cholesky(K)

    near = 8 * (factor(at + h) - factor(at - h))
    slope = (near - factor(at + 2 * h) + factor(at - 2 * h)) / (12 * h)
    expected = slope @ np.linalg.inv(factor(at))
    for row in range(T):
        for column in range(row + 1):
            found = put({family.symbol: at}, generator(family, row + 1, column + 1))
            assert abs(float(found) - expected[row, column]) <= 1e-9


@pytest.mark.parametrize("m", [1, 3])
def test_the_generator_of_e_spa_at_any_column(m: int) -> None:
    """Below its diagonal -(1 - gap)^m, a slope by gap, which falls with the depth."""
    found = put({M: m}, generator(ExponentialKernel, J + M + 2, J + 1))
    assert sp.factor(found + (1 - GAP) ** m) == 0


# The schedules, whose A_ii stays.


def test_the_published_schedule() -> None:
    """36 layers to gamma = 0.005, the numbers of its replication in SimplEsT-ViT."""
    kernels = schedule(ExponentialKernel(0.005), 36)
    gammas = [float(K.gamma) for K in kernels if isinstance(K, ExponentialKernel)]
    assert gammas[0] == math.inf
    assert abs(gammas[1] - 1.059301) <= 0.5e-6
    assert gammas[36] == 0.005
    diagonal = [diagonal_entry(*pair) for pair in pairwise(gammas)]
    assert np.ptp(diagonal) <= 1e-12
    assert abs(diagonal[0] - 0.93797678) <= 0.5e-8


def diagonal_entry(before: float, after: float) -> float:
    """A_ii = sqrt((1 - b^2) / (1 - a^2)) of E-SPA, i >= 2."""
    return math.sqrt(math.expm1(-2 * after) / math.expm1(-2 * before))


@settings(max_examples=20)
@given(st.floats(-12, 2.4).map(lambda x: 10**x), st.integers(1, 8))
def test_the_schedule_of_e_spa(gamma: float, depth: int) -> None:
    """-log(1 - alpha^(2 l / L)) / 2, alpha^2 = 1 - exp(-2 gamma), to the last digits."""
    kernels = schedule(ExponentialKernel(gamma), depth)
    with mpmath.workdps(300):  # exp(-2 gamma) down to 1e-218 cancels
        square = 1 - mpmath.exp(-2 * mpmath.mpf(gamma))
        for layer, kernel in enumerate(kernels[1:], 1):
            expected = -mpmath.log(1 - square ** (mpmath.mpf(layer) / depth)) / 2
            assert isinstance(kernel, ExponentialKernel)
            assert abs(kernel.gamma / expected - 1) <= 4 * EPS


@settings(max_examples=20)
@given(st.floats(0, 15).map(lambda digits: 1 - 10**-digits), st.integers(1, 12))
def test_the_schedule_of_u_spa(rho: float, depth: int) -> None:
    """1 - rho_l = (1 - rho)^(l / L), so that A_ii far from the first position stays."""
    kernels = schedule(UniformKernel(rho), depth)
    for layer, kernel in enumerate(kernels):
        assert isinstance(kernel, UniformKernel)
        assert abs(kernel.rho - (1 - (1 - rho) ** (layer / depth))) <= 4 * EPS


def test_the_long_run() -> None:
    assert same(long_run(UniformKernel), 1 - RHO)
    assert same(long_run(ExponentialKernel), GAP * (2 - GAP))  # 1 - exp(-2 gamma)


def test_the_ends_of_schedules() -> None:
    """Independent tokens stay so; the last kernel is the one given, a symbol too."""
    for last in (
        UniformKernel(0),
        ExponentialKernel(math.inf),
        ExponentialKernel(sp.oo),
    ):
        assert {K.value for K in schedule(last, 3)} == {type(last).of(last.value).value}
    r = sp.Symbol("r", positive=True)
    assert schedule(UniformKernel(r), 2)[1:] == (
        UniformKernel(1 - sp.sqrt(1 - r)),
        UniformKernel(r),
    )
    assert len(Spa.schedule(ExponentialKernel(0.1), 5)) == 5


# Bad input.


@pytest.mark.parametrize(
    "rho", [1, 1.0, -0.1, -1e-300, 2, math.nan, math.inf, sp.zoo, sp.I]
)
def test_correlations_out_of_range(rho: Any) -> None:
    with pytest.raises(
        ArgumentError, match=r"UniformKernel\.rho must be in \[0, 1\); got"
    ):
        UniformKernel(rho)


@pytest.mark.parametrize("gamma", [0, 0.0, -0.1, -math.inf, math.nan, sp.I, sp.zoo])
def test_rates_out_of_range(gamma: Any) -> None:
    with pytest.raises(
        ArgumentError, match=r"ExponentialKernel\.gamma must be positive"
    ):
        ExponentialKernel(gamma)


U, E = UniformKernel, ExponentialKernel


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (U(0.5), U(0.2)),
        (E(0.2), E(0.5)),
        (E(0.2), E(math.inf)),
        (E(0.2), E(math.nextafter(0.2, 1))),
        (U(1 - 1e-15), U(1 - 2e-15)),
        (U(sp.sqrt(2) / 2), U(0.7)),
    ],
    ids=repr,
)
def test_falling_correlations(before: ShapedKernel, after: ShapedKernel) -> None:
    """To the last digit, and with the remedy; the other way round is right."""
    with pytest.raises(ArgumentError, match=r"the correlations fall.*let them rise"):
        Spa(before, after)
    assert Spa(after, before) == Spa(after, before)


def test_what_has_no_known_order_is_let_through() -> None:
    """Symbols, and kernels of two families, whose entries decide where they are computed."""
    r = sp.Symbol("r", positive=True)
    assert Spa(U(r), U(r / 2)).before == U(r)
    assert Spa(U(0.9), E(2.0)).after == E(2.0)
    assert Spa(U(0.3), U(0.3)).before == U(0.3)


@pytest.mark.parametrize("depth", [0, -1])
def test_a_depth_without_layers(depth: int) -> None:
    with pytest.raises(
        ArgumentError, match="depth must be a whole number of layers; got"
    ):
        Spa.schedule(U(0.5), depth)


def test_arrays_that_are_no_kernels() -> None:
    with pytest.raises(
        ShapeError, match=r"Spa\.before must be .* got the shape \(2, 3\)"
    ):
        Spa(np.ones((2, 3)), U(0.5))
    with pytest.raises(
        ArgumentError, match=r"Spa\.after must hold finite numbers; got nan"
    ):
        Spa(U(0.5), np.full((2, 2), np.nan))
