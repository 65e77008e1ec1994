"""Independent Gaussian logits: against mpmath integrals, published moments and random matrices."""

from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp

from asymptest.theory.random_energy import (
    annealed,
    annealed_error,
    b,
    critical,
    frozen,
    series,
    weight_moment,
)
from asymptest.theory.spectral_gap import second_singular_value, squared_edge

R = sp.Symbol("r", positive=True)


@pytest.mark.parametrize("power", [1, 2, 3, 6])
def test_moments_of_a_weight(power: int) -> None:
    """E e^(k g) / (E e^g)^k at b = 0.7, by mpmath's quadrature."""
    deviation = 0.7

    def mean(k: int) -> Any:
        return mpmath.quad(
            lambda z: mpmath.exp(k * deviation * z) * mpmath.npdf(z), [-20, 0, 20]
        )

    exact = mean(power) / mean(1) ** power
    assert float(weight_moment(power).subs(b, deviation)) == pytest.approx(float(exact))


def test_equal_logits_are_uniform() -> None:
    """At b = 0 Y is 1 / T, to every order."""
    T = sp.Symbol("T", positive=True)
    assert sp.limit(annealed(), b, 0) == 1 / T
    assert [c.subs(b, 0) for c in series(2)] == [1, 0, 0]
    assert [a.subs(b, 0) for a in annealed_error()] == [0, 0]


@pytest.mark.parametrize("x", [sp.Rational(1, 3), sp.Rational(3, 4)])
def test_frozen_moments_are_poisson_dirichlet(x: sp.Rational) -> None:
    """E sum w^k of PD(x, 0): Beta(1 - x, x) is the law of a size-biased weight."""
    for power in (2, 3, 5):
        density = mpmath.beta(1 - x, x)
        exact = mpmath.beta(power - x, x) / density
        assert float(frozen(power).subs(R, x)) == pytest.approx(float(exact))


def test_the_transition_is_at_root_2() -> None:
    """Derrida's, for energies of variance log T; nothing is frozen there."""
    assert critical() == sp.sqrt(2)
    assert frozen(2).subs(R, 1) == 0


def test_the_edge_is_that_of_random_matrices() -> None:
    """The largest singular value of a Gaussian matrix is 2 sqrt(T), less 1 % at T = 400."""
    A = np.random.default_rng(0).standard_normal((400, 400)) / 20
    largest = np.linalg.norm(A, 2) ** 2
    assert float(squared_edge()) == pytest.approx(largest, rel=0.03)


def test_the_second_singular_value_is_small_for_equal_logits() -> None:
    """It is 2 b to leading order."""
    assert sp.limit(second_singular_value() / b, b, 0) == 2
