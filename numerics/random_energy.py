r"""Softmax of T independent Gaussian logits: E sum_i A_i^k, at any T up to 10^20 and beyond.

With Z = sum_i e^(g_i), g_i ~ N(0, b^2), and 1/Z^k = int_0^oo u^(k-1) e^(-u Z) du / Gamma(k),

    E sum_i A_i^k = T / Gamma(k) int ds psi_k(s) phi(s)^(T-1),

    psi_k(s) = E (e^(g+s))^k exp(-e^(g+s)),    phi(s) = E exp(-e^(g+s)).

The trapezoidal rule in g and in s: the integrands are analytic in the strip |Im| < pi / 2, so
that it converges exponentially in 1 / step. From b = 1 on both share one grid, and the means
over g are convolutions.

Independent checks: sampled logits, T = 1 and T = 2, and the limits of theory/random_energy.py.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri_exp

from asymptest.theory.errors import ArgumentError

STEP = 0.25  # of g and s: leaves exp(-pi^2 / STEP), 1e-17
NORMAL_STEP = 0.3  # of g / b, for the Gaussian itself: less than 1e-80
TAIL = 42.0  # e^-42 of what matters is left out
HUGE = 700.0  # the exponential of more overflows
NEARLY_ONE = 1 - 2.0**-53

Line = Float[np.ndarray, " m"]
Reals = Float[np.ndarray, "..."]


@lru_cache(maxsize=4096)
def participation(T: float, variance: float, power: int = 2) -> float:
    """Return E sum_i A_i^power for the softmax A of T independent N(0, variance) logits.

    Args:
        T: number of logits, at least 1.
        variance: b^2, positive.
        power: k, at least 1; for k = 1 the sum is 1.

    Returns:
        The expectation; relative error below 1e-12 for T < 1e20 and b^2 < 1000.

    Raises:
        ArgumentError: if T < 1, or variance is not positive, or power < 1.

    >>> round(participation(2**16, 4 * math.log(2**16)), 3)
    0.381
    """
    if not (1 <= T < math.inf and 0 < variance < math.inf and power >= 1):
        raise ArgumentError(
            f"participation needs T >= 1, variance > 0 and power >= 1, and finite; got "
            f"T = {T}, variance = {variance}, power = {power}"
        )
    b, extreme = variance**0.5, (2 * math.log(T)) ** 0.5
    s = _grid(T, b, extreme)
    # A factor e^(k g) moves what matters of a Gaussian to k b, but not beyond the largest logit.
    reach = power * extreme + (2 * TAIL) ** 0.5

    def missing(x: Reals) -> Reals:
        return -np.expm1(-np.exp(np.minimum(x, HUGE)))

    def weighted(x: Reals) -> Reals:
        return np.exp(power * x - np.exp(np.minimum(x, HUGE)))

    # 1 - phi is computed, not phi: it keeps its digits where phi^(T-1) depends on them.
    log_phi = np.log1p(-np.minimum(_mean(missing, s, b, reach), NEARLY_ONE))
    psi = _mean(weighted, s, b, reach)
    return T / math.gamma(power) * STEP * float(psi @ np.exp((T - 1) * log_phi))


def _grid(T: float, b: float, extreme: float) -> Line:
    """Return the s that matter: around -log Z, and farther down where Z is few terms.

    The largest of T logits is near b * extreme. Below, psi falls like e^(s extreme / b), or
    like e^s at least; above, phi^T falls like e^(-e^(s + g)) with g the largest logit, which is
    below b z for no more than e^-TAIL, Phi(z)^T = e^-TAIL.
    """
    log_sum = b * extreme if b > extreme else math.log(T) + b**2 / 2
    low = -log_sum - TAIL * max(1.0, b / max(extreme, 1.0))
    high = math.log(TAIL) - b * float(ndtri_exp(-TAIL / T))
    return STEP * np.arange(math.floor(low / STEP), math.ceil(high / STEP) + 1)


def _mean(f: Callable[[Reals], Reals], s: Line, b: float, reach: float) -> Line:
    """Return E f(g + s) for g ~ N(0, b^2), |g| <= reach * b, for each s."""
    if b < 1:
        last = int(reach / NORMAL_STEP)
        z = NORMAL_STEP * np.arange(-last, last + 1)
        weights = np.exp(-np.square(z) / 2)
        return f(s[:, None] + b * z) @ (weights / weights.sum())
    count = math.ceil(reach * b / STEP)
    g = STEP * np.arange(-count, count + 1)
    weights = np.exp(-np.square(g / b) / 2)
    sums = s[0] - count * STEP + STEP * np.arange(len(s) + 2 * count)
    return np.convolve(f(sums), weights / weights.sum(), "valid")
