"""Softmax of independent Gaussian logits: how many positions it attends to.

Let A be the softmax of T logits g_i ~ N(0, b^2) and Y = E sum_i A_i^2; 1 / Y is the number of
positions attended to. For tokens with the kernel (q - p) I + p 1 1^T, attention with logits of
covariance s q K has b^2 = s q (q - p), and turns q into p + (q - p) Y.

* At fixed b and large T the sum in A's denominator is nearly its mean: Y is nearly `annealed`,
  and the series in 1/T says how nearly.
* At b^2 = beta^2 log T the sum freezes where the level that dominates it holds no more than
  one logit: it then is a sum of few terms.

Source: Cowsik et al. (2024), arXiv 2403.02579, for the annealed form; Giorlandino and Goldt
(2025), arXiv 2505.24333, for the freezing, which is that of Derrida's random-energy model.

Independent checks: numerics/random_energy.py, and the published moments of frozen weights.
"""

from functools import cache
from typing import Any

import sympy as sp

T = sp.Symbol("T", positive=True)  # positions
b = sp.Symbol("b", positive=True)  # standard deviation of a logit
beta = sp.Symbol("beta", positive=True)  # b / sqrt(log T)
x = sp.Symbol("x", positive=True)


def weight_moment(power: int) -> Any:
    """Return E w^power of w = e^g / E e^g, from E e^(k g) = e^(k^2 b^2 / 2).

    >>> weight_moment(2)
    exp(b**2)
    """
    return sp.exp(b**2 * sp.Rational(power * (power - 1), 2))


def annealed() -> Any:
    """Return E sum_i w_i^2 / E (sum_i w_i)^2, numerator and denominator averaged apart.

    >>> annealed()
    exp(b**2)/(T + exp(b**2) - 1)
    """
    square = weight_moment(2)
    return T * square / sp.factor(T * square + T * (T - 1))


@cache
def series(order: int) -> tuple[Any, ...]:
    """Return c_0, ..., c_order of T Y = c_0 + c_1 / T + ..., for order <= 2.

    Any of the T logits gives T Y = E w^2 / (1 + d)^2, T d = (w - 1) + D, where D is the sum of
    the T - 1 other weights less their mean: expand in d, whose powers have means of the order
    1/T, 1/T, 1/T^2, 1/T^2, ...

    >>> sp.factor(series(1)[1])
    -(exp(b**2) - 1)*(2*exp(b**2) - 1)*exp(b**2)
    """
    own, inverse = sp.symbols("w u")
    found = sp.Integer(0)
    for k in range(2 * order + 1):
        power = sum(
            sp.binomial(k, j) * (own - 1) ** (k - j) * _moment_of_others(j)
            for j in range(k + 1)
        )
        found += (-1) ** k * (k + 1) * own**2 * power / T**k
    by_own = sp.Poly(sp.expand(found), own)
    mean = sum(c * weight_moment(m) for (m,), c in by_own.terms())
    by_size = sp.Poly(sp.expand(sp.expand(mean).subs(T, 1 / inverse)), inverse)
    return tuple(
        sp.expand(by_size.coeff_monomial(inverse**k)) for k in range(order + 1)
    )


def _moment_of_others(power: int) -> Any:
    """Return E D^power, power <= 4, from the T - 1 independent centred weights in D."""
    t = sp.Symbol("t")
    central = [
        sum(
            sp.binomial(k, i) * (-1) ** (k - i) * weight_moment(i) for i in range(k + 1)
        )
        for k in range(power + 1)
    ]
    generating = sum(c * t**k / sp.factorial(k) for k, c in enumerate(central))
    return sp.diff(generating ** (T - 1), t, power).subs(t, 0)


def annealed_error() -> tuple[Any, Any]:
    """Return a_1, a_2 of Y / annealed - 1 = a_1 / T + a_2 / T^2 + ...

    >>> annealed_error()[0]
    -2*(exp(b**2) - 1)**2
    """
    u = sp.Symbol("u")
    exact = sum(c * u**k for k, c in enumerate(series(2)))
    ratio: Any = sp.expand(exact * u / sp.simplify(annealed().subs(T, 1 / u)))
    return sp.factor(ratio.coeff(u, 1)), sp.factor(ratio.coeff(u, 2))


# --- freezing -----------------------------------------------------------------------------


def levels() -> Any:
    """Return log(number of logits near x log T) / log T: T of density e^(-g^2 / (2 b^2)).

    At b^2 = log T; it is at least 0 where there is a logit.
    """
    return 1 - x**2 / 2


def critical() -> Any:
    """Return the beta at which the level that dominates sum_i e^(beta g_i) holds one logit.

    >>> critical()
    sqrt(2)
    """
    (dominant,) = sp.solve(sp.diff(levels() + beta * x, x), x)
    (found,) = sp.solve(levels().subs(x, dominant), beta)
    return found


def frozen(power: int) -> Any:
    """Return lim E sum_i A_i^power for beta above critical, r = critical / beta.

    Near the largest logit the others thin out like e^(-critical g), so that the weights are a
    Poisson process of density r y^(-r - 1). With 1 / Z^k the integral of
    u^(k - 1) e^(-u Z) / Gamma(k) over u > 0,

        E sum_i A_i^k = 1 / Gamma(k) int u^(k - 1) m_k(u) e^(-h(u)) du,

    where m_k(u) = int y^k e^(-u y) r y^(-r - 1) dy and h' = m_1. Here u^(k - 1) m_k is a multiple
    of h', and int h' e^(-h) du = 1.

    >>> frozen(2)
    1 - r
    """
    r, u = sp.symbols("r u", positive=True)

    def integral(k: int) -> Any:
        return r * sp.gamma(k - r) * u ** (r - k)

    multiple = sp.gammasimp(u ** (power - 1) * integral(power) / integral(1))
    return sp.factor(multiple / sp.gamma(power))
