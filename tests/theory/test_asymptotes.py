"""What activations are far out, against their values there."""

from typing import Any

import mpmath as mp
import pytest
import sympy as sp

from asymptest.theory import activations as act
from asymptest.theory.activations import Activation
from asymptest.theory.asymptotes import asymptotes
from asymptest.theory.errors import UnsupportedError
from asymptest.theory.piecewise import x

elu = Activation("elu", sp.Piecewise((x, x > 0), (sp.exp(x) - 1, True)))
softsign = Activation("softsign", x / (1 + sp.Abs(x)))

# Limit of phi(c x) / c^power: power, next power below it, whether something vanishes fast.
KNOWN: list[tuple[Activation, Any, int, int | None, bool]] = [
    (act.relu, sp.Max(0, x), 1, None, False),
    (act.leaky_relu(sp.Rational(1, 4)), sp.Max(x / 4, x), 1, None, False),
    (act.tanh, sp.sign(x), 0, None, True),
    (act.erf, sp.sign(x), 0, None, True),
    (act.sigmoid, sp.Heaviside(x), 0, None, True),
    (act.silu, sp.Max(0, x), 1, None, True),
    (act.gelu, sp.Max(0, x), 1, None, True),
    (act.gelu_tanh, sp.Max(0, x), 1, None, True),
    (act.softplus, sp.Max(0, x), 1, None, True),
    (elu, sp.Max(0, x), 1, 1, True),
    (softsign, sp.sign(x), 0, 1, False),
    (act.polyrelu(1, 2), 2 * sp.Max(0, x) ** 2, 2, 1, False),
    (act.hermite(2), x**2 / sp.sqrt(2), 2, 2, False),
    (act.monomial(3), x**3, 3, None, False),
    (Activation("relu6", sp.Min(6, sp.Max(0, x))), 6 * sp.Heaviside(x), 0, None, False),
]


@pytest.mark.parametrize(("phi", "limit", "power", "below", "fast"), KNOWN)
def test_the_limit_is_the_activation_far_out(
    phi: Activation, limit: Any, power: int, below: int | None, fast: bool
) -> None:
    found = asymptotes(phi)
    assert (found.power, found.next, found.saturates) == (power, below, fast)
    c = mp.mpf(10) ** 30
    with mp.workdps(60):
        function = sp.lambdify(x, phi.expr, "mpmath")
        for over, under in ((-3, 1), (-1, 7), (2, 5), (11, 1)):
            at = sp.Rational(over, under)
            far = function(c * over / under) / c**power
            exact = mp.mpf(sp.N(limit.subs(x, at), 60))
            assert abs(far - exact) <= mp.mpf(10) ** -28
            ours = mp.mpf(sp.N(found.limit.expr.subs(x, at), 60))
            assert abs(ours - exact) <= mp.mpf(10) ** -50


@pytest.mark.parametrize(
    ("phi", "why"),
    [
        (act.sin, "does not follow"),
        (act.exp, "grows faster"),
        (act.gaussian, "vanishes"),
        (act.gabor, "vanishes"),
        (Activation("root", sp.sqrt(sp.Abs(x))), "does not follow"),
    ],
)
def test_what_has_no_power_is_refused(phi: Activation, why: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{phi.name} {why}"):
        asymptotes(phi)
