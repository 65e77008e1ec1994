"""What an activation is far from zero: a polynomial on each side, and what vanishes fast.

    gelu(x) = x + O(exp(-x^2 / 2)),  x -> oo,    and    O(exp(-x^2 / 2)),  x -> -oo

The terms are found one after the other as limits of (phi - terms so far) / x^m.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp

from asymptest.theory.activations import Activation
from asymptest.theory.dual_maps import homogeneity
from asymptest.theory.errors import UnsupportedError
from asymptest.theory.piecewise import intervals, with_steps, x

LARGEST = 8  # the largest power that is tried
DEEPEST = -8  # what is smaller than this power counts as smaller than all
Terms = tuple[tuple[int, sp.Expr], ...]  # (power, coefficient), powers falling
FAR = sp.Integer(10) ** 4
T = sp.Symbol("t", positive=True)  # |x|


@dataclass(frozen=True)
class Asymptotes:
    """phi(x) far out.

    Args:
        phi: the activation.
        left: the powers of x and their coefficients for x -> -oo.
        right: the same for x -> +oo.
        saturates: whether something is left that vanishes faster than any power.
        homogeneous: m, if phi(c x) = c^m phi(x) for every c > 0; then the sides are exact.
    """

    phi: Activation
    left: Terms
    right: Terms
    saturates: bool
    homogeneous: int | None

    @property
    def power(self) -> int:
        """The larger one of the leading powers."""
        return max(terms[0][0] for terms in (self.left, self.right) if terms)

    @property
    def next(self) -> int | None:
        """How far below the leading power the next one is; None if there is none."""
        powers = {power for terms in (self.left, self.right) for power, _ in terms}
        return min((self.power - n for n in powers - {self.power}), default=None)

    @property
    def limit(self) -> Activation:
        """The limit of phi(c x) / c^power as c -> oo, at x not 0."""
        if self.homogeneous is not None:
            return self.phi
        left, right = (
            sp.Add(*(a * x**n for n, a in terms if n == self.power))
            for terms in (self.left, self.right)
        )
        jump = sp.expand(right - left) * sp.Heaviside(x)
        return Activation(f"{self.phi.name}_oo", left + jump)


@lru_cache(maxsize=256)
def asymptotes(phi: Activation) -> Asymptotes:
    """Return what an activation is far from zero.

    Raises:
        UnsupportedError: if it oscillates, grows faster than any power, or vanishes.

    >>> from asymptest.theory import gelu, softplus, tanh
    >>> asymptotes(gelu).right, asymptotes(gelu).left
    (((1, 1),), ())
    >>> asymptotes(tanh).limit.expr
    2*Heaviside(x) - 1
    >>> asymptotes(softplus).limit.expr
    x*Heaviside(x)
    """
    parts = [part for part, _ in intervals(with_steps(phi.expr))]
    degree: Any = homogeneity(phi)
    right, fast_right = _terms(phi, parts[-1].subs(x, T), 1)
    left, fast_left = _terms(phi, parts[0].subs(x, -T), -1)
    if not left and not right:
        raise UnsupportedError(
            f"{phi.name} vanishes far from zero faster than any power, so the limit is 0 for "
            f"every input and says nothing; choose an activation that does not"
        )
    if max(terms[0][0] for terms in (left, right) if terms) < 0:
        raise _without(phi, "vanishes like a power of x")
    power = int(degree) if degree is not None and degree.is_Integer else None
    return Asymptotes(phi, left, right, fast_left or fast_right, power)


def _terms(phi: Activation, side: Any, sign: int) -> tuple[Terms, bool]:
    """Return the polynomial in x of one side, and whether something fast is left.

    `side` is phi(sign t) for t > 0.
    """
    found: list[tuple[int, sp.Expr]] = []
    rest = sp.expand(side)
    while rest != 0:
        term = _leading(phi, rest)
        if term is None:
            return tuple(found), True
        power, coefficient = term
        found.append((power, coefficient * sp.Integer(sign) ** power))
        rest = sp.simplify(rest - coefficient * T**power)
        if power < 0:
            break  # a series without end: its first two powers are what orders need
    return tuple(found), False


def _leading(phi: Activation, rest: Any) -> tuple[int, sp.Expr] | None:
    """Return the leading power of t and its coefficient, None if it is below all tried."""
    power = _guess(rest)
    if power > LARGEST:
        raise _without(phi, f"grows faster than |x|^{LARGEST}")
    value: Any = sp.limit(rest / T**power, T, sp.oo)
    if not value.is_number or value.has(sp.AccumBounds, sp.zoo, sp.nan, sp.oo):
        raise _without(phi, "does not follow a power of x")
    if value == 0 and power > DEEPEST:
        raise _without(phi, "does not follow a whole power of x")
    return None if value == 0 else (power, value)


def _guess(rest: Any) -> int:
    """Return the power that two far values suggest; the limit confirms it."""
    first, second = (abs(rest.subs(T, at).evalf(60)) for at in (FAR, 2 * FAR))
    if not (first.is_finite and second.is_finite):
        return LARGEST + 1
    if first < FAR**DEEPEST or second < FAR**DEEPEST:
        return DEEPEST
    return max(DEEPEST, round(float(sp.log(second / first, 2))))


def _without(phi: Activation, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"{phi.name} {why} far from zero, so that f(x; c theta) has no limit in powers of c; "
        f"use an activation that is a polynomial there, up to what vanishes"
    )
