"""Q-map, susceptibilities, Hermite coefficients and criticality as numbers, for any activation.

The counterparts of theory/dual_maps.py and theory/criticality.py that need no closed form.

Source: Roberts, Yaida and Hanin (2022), chapter 5.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy import optimize, special

from asymptest.numerics.compile import activation_function
from asymptest.numerics.duals import checked, dual, dual_entry
from asymptest.numerics.quadrature import mean_quadrature
from asymptest.theory.activations import Activation
from asymptest.theory.criticality import (
    Criticality,
    Universality,
    near_zero,
    weight_at_zero,
)
from asymptest.theory.criticality import criticality as symbolic
from asymptest.theory.errors import AccuracyError, ArgumentError, NoClosedFormError
from asymptest.theory.pieces import jumps

Array = Float[np.ndarray, "..."]

# Where a critical K* > 0 is looked for, in steps of a fifth of an octave.
VARIANCES = (2.0 ** np.arange(-13, 13, 0.2)).tolist()
# Where the sign of C_W Q(K) - K is read off, the first that is more than rounding.
SMALL = np.array([1e-4, 1e-3, 1e-2])
# Quadrature knows the susceptibilities this well, relative to Q(K) / K.
NOISE = 1e-11


def q_map(phi: Activation, K: npt.ArrayLike) -> Float[np.ndarray, "..."]:
    """Return Q(K) = E phi(u)^2 for u ~ N(0, K).

    Args:
        phi: the activation.
        K: variances >= 0, any shape.

    Raises:
        ArgumentError: if a variance is negative or not finite.
        AccuracyError: if there is no closed form and quadrature does not converge.
    """
    return dual(phi, K, K, 1.0)


def mean(phi: Activation, K: npt.ArrayLike) -> Float[np.ndarray, "..."]:
    """Return E phi(u); arguments and errors as for `q_map`."""
    return _mean(phi, activation_function(phi), checked("K", K, 0, np.inf))


def fourth_moment(phi: Activation, K: npt.ArrayLike) -> Float[np.ndarray, "..."]:
    """Return E phi(u)^4; arguments and errors as for `q_map`."""
    function = activation_function(phi)
    return _mean(phi, lambda u: function(u) ** 4, checked("K", K, 0, np.inf))


def chi_parallel(
    phi: Activation, K: npt.ArrayLike, C_W: float = 1.0
) -> Float[np.ndarray, "..."]:
    """Return C_W dQ/dK = C_W E phi(u)^2 (u^2 - K) / (2 K^2).

    Args:
        phi: the activation.
        K: variances > 0, any shape.
        C_W: weight variance times the fan-in.

    Raises:
        ArgumentError, AccuracyError: as `q_map`.
    """
    function, variances = activation_function(phi), _positive(K)
    values = [
        _mean(phi, lambda u, s=s: function(u) ** 2 * (u * u / s - 1) / (2 * s), s)
        for s in variances.reshape(-1, 1)
    ]
    return np.asarray(C_W * np.reshape(values, variances.shape))


def chi_perp(
    phi: Activation, K: npt.ArrayLike, C_W: float = 1.0
) -> Float[np.ndarray, "..."]:
    """Return C_W E phi'(u)^2, infinite if phi jumps; arguments as for `chi_parallel`."""
    variances = _positive(K)
    if jumps(phi.expr):
        return np.full(variances.shape, np.inf)
    size = np.sqrt(variances.reshape(-1))
    one = np.ones_like(size)
    with np.errstate(divide="ignore"):
        value = dual_entry(phi, 1).at(size, size, one, 0 * one)
    flat = np.broadcast_to(np.asarray(value, np.float64), size.shape)
    return np.asarray(C_W * flat.reshape(variances.shape))


def hermite_coefficients(
    phi: Activation, order: int, K: float = 1.0
) -> Float[np.ndarray, " coefficients"]:
    """Return a_k = E phi(sqrt(K) z) h_k(z), k = 0 ... order, h_k = He_k / sqrt(k!).

    E phi(u) phi(v) = sum_k a_k^2 rho^k at equal variances K, by Mehler's formula.

    Args:
        phi: the activation.
        order: the largest k, >= 0.
        K: variance > 0.

    Raises:
        ArgumentError, AccuracyError: as `q_map`.
    """
    if order < 0:
        raise ArgumentError(f"order must be at least 0; got {order}")
    function, size = activation_function(phi), float(np.sqrt(_positive(K)))

    def weighted(k: int) -> Callable[[np.ndarray], np.ndarray]:
        norm = np.exp(special.gammaln(k + 1) / 2)
        return lambda u: function(u) * special.eval_hermitenorm(k, u / size) / norm

    variance = np.array(size**2)
    values = [_mean(phi, weighted(k), variance) for k in range(order + 1)]
    return np.array(values, dtype=np.float64)


def criticality(phi: Activation) -> Criticality:
    """Return the critical initialisation of an activation and its universality class.

    Symbolic where `asymptest.theory.criticality` finds it; else a K* > 0 is looked for between
    1e-4 and 1e4 as a zero of chi_parallel - chi_perp.

    Raises:
        AccuracyError: if quadrature does not converge.

    >>> from asymptest.theory import silu
    >>> round(criticality(silu).K_star, 6)
    14.320174
    """
    try:
        return symbolic(phi)
    except NoClosedFormError:
        at_zero, weight = near_zero(phi), weight_at_zero(phi)
    coefficients = at_zero[1:] if at_zero else (None, None)
    if weight is not None and (at_zero is None or at_zero[1] == 0):
        drift = float(weight) * q_map(phi, SMALL) / SMALL - 1
        if drift[np.argmax(np.abs(drift) > NOISE)] < -NOISE:
            return Criticality(
                Universality.ZERO, 0.0, float(weight), 0.0, *coefficients
            )

    def mismatch(K: float) -> float:
        return float(chi_parallel(phi, K) - chi_perp(phi, K))

    there = 0.0
    for low, high in pairwise(VARIANCES):
        try:
            here, there = there, _sign(phi, high, mismatch(high))
        except (AccuracyError, ArgumentError):  # phi overflows at this variance
            break
        if here * there >= 0:
            continue
        found: Any = optimize.root_scalar(mismatch, bracket=(low, high), xtol=1e-13)
        root = float(found.root)
        C_W = float(1 / chi_perp(phi, root))
        C_b = root - C_W * float(q_map(phi, root))
        if C_b >= 0:
            return Criticality(Universality.HALF_STABLE, C_b, C_W, root, *coefficients)
    return Criticality(Universality.NONE, a_1=coefficients[0], b_1=coefficients[1])


def _sign(phi: Activation, K: float, mismatch: float) -> float:
    """Return the sign of a mismatch, 0 where rounding decides it."""
    return np.sign(mismatch) if abs(mismatch) > NOISE * q_map(phi, K) / K else 0.0


def _mean(
    phi: Activation, function: Callable[[np.ndarray], np.ndarray], K: Array
) -> Array:
    value = mean_quadrature(function, np.ravel(K), kinks=phi.kinks)
    return value.reshape(np.shape(K))


def _positive(K: npt.ArrayLike) -> Array:
    return checked("K", K, np.finfo(float).tiny, np.inf)
