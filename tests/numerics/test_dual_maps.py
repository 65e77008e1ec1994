"""Criticality and susceptibilities as numbers, where the symbolic side gives up or is subtle."""

import numpy as np
import pytest
import sympy as sp

from asymptest.numerics import chi_parallel, chi_perp, criticality, q_map
from asymptest.theory import Activation, polynomial, polyrelu, sigmoid, softplus
from asymptest.theory.criticality import Universality

t = sp.Symbol("t")
DECAYING = [
    (Activation("elu", sp.Piecewise((t, t > 0), (sp.exp(t) - 1, True))), 1.0),
    (Activation("half tanh", sp.tanh(t) * sp.Heaviside(t)), 2.0),
    (Activation("softsign", t / (1 + sp.Abs(t))), 1.0),
    (Activation("quintic", t - t**5), 1.0),
    (polyrelu(1, -1), 2.0),
    (polynomial(0, 2, 0, -1), 0.25),
]


@pytest.mark.parametrize(("phi", "weight"), DECAYING, ids=[p.name for p, _ in DECAYING])
def test_a_variance_that_decays_is_of_the_class_of_zero(
    phi: Activation, weight: float
) -> None:
    """Kinks at 0, or no term of order K^2: the recursion itself says what happens."""
    found = criticality(phi)
    assert found.universality is Universality.ZERO
    assert found.C_W is not None
    assert float(found.C_W) == pytest.approx(weight)
    K = np.array(0.02)
    for _ in range(20):
        K, before = weight * q_map(phi, K), K
        assert before > K
    assert chi_perp(phi, 1e-10, weight) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("phi", [sigmoid, softplus, polyrelu(1, 1)], ids=str)
def test_no_class_without_a_critical_point(phi: Activation) -> None:
    """Roberts, Yaida and Hanin (2022), section 5.3.2; PolyReLU grows away from 0."""
    assert criticality(phi).universality is Universality.NONE


def test_an_activation_that_overflows_far_out_is_still_classified() -> None:
    """1.702 SiLU(z): SiLU in other units, so K* is that of SiLU / 1.702^2, C_W the same."""
    phi = Activation("quick gelu", t / (1 + sp.exp(-1.702 * t)))
    found = criticality(phi)
    assert found.universality is Universality.HALF_STABLE
    assert float(found.K_star or 0) == pytest.approx(14.3201736180 / 1.702**2, rel=1e-8)
    assert float(found.C_W or 0) == pytest.approx(1.9880046783, rel=1e-9)


@pytest.mark.parametrize("where", [0, 1])
def test_a_jump_has_an_infinite_slope(where: int) -> None:
    """At the origin and off it; no warning, no nan."""
    step = Activation("step", sp.Heaviside(t - where))
    assert (chi_perp(step, [0.5, 2.0]) == np.inf).all()
    # dQ/dK is the density's share: Q = P(u > where).
    h = 1e-5
    slope = (q_map(step, 2.0 + h) - q_map(step, 2.0 - h)) / (2 * h)
    assert chi_parallel(step, 2.0) == pytest.approx(slope, abs=1e-8)
