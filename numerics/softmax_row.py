"""One row of softmax attention with random logits, as a quadrature rule.

A head has the logits G_aj = q_a . k_j / sqrt(d). Given the query they are Gaussian over W^K,
so that the row is the softmax of

    (|q| / sqrt(d)) z,    |q|^2 ~ chi^2_d,    z ~ N(0, s K_aa K),

exactly, at every head size d. Both parts are integrated by the trapezoidal rule, which
converges exponentially for a function that is analytic in z and in log |q|^2. Two rows share
their keys and are not covered.

Independent checks: nested adaptive quadrature, and finite networks.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float

from asymptest.numerics.gram import EPS, as_kernel
from asymptest.theory.errors import ArgumentError

Kernel = Float[np.ndarray, "T T"]

REACH = 6.5  # standard deviations of z; 1e-10 lies farther out
FAINT = 1e-10  # a density of log |q|^2 below this part of its maximum is left out


@dataclass(frozen=True, eq=False)
class RowRule:
    """Rows and their probabilities."""

    weights: Float[np.ndarray, " m"]
    rows: Float[np.ndarray, "m T"]

    def mean(self, values: Float[np.ndarray, " m"]) -> float:
        """Return the expectation of what takes these values on the rows."""
        return float(self.weights @ values)


def row_rule(
    K: Kernel, row: int, variance: float, head_size: float, step: float = 0.5
) -> RowRule:
    """Return the law of one row of softmax attention that sees all T keys.

    Args:
        K: kernel of the tokens; each direction in which they differ multiplies the nodes.
        row: which row.
        variance: s, the product of the variances of W^Q and W^K.
        head_size: d, or infinity for Gaussian logits.
        step: of the rule, in standard deviations; 0.5 leaves about 1e-3 of an expectation, and
            0.25 1e-4, while the differences of two logits have standard deviations up to 3.

    Raises:
        ShapeError, KernelError: if K is no kernel.
        ArgumentError: if another argument is outside its domain.

    >>> rule = row_rule(np.eye(2), 0, 1.0, np.inf)
    >>> round(rule.mean(rule.rows[:, 0]), 6)
    0.5
    """
    K = as_kernel(K, "K")
    _check(len(K), row, variance, head_size, step)
    differ = K - K.mean(0)  # what all keys have in common, no softmax sees
    differ = differ - differ.mean(1)[:, None]
    sizes, vectors = np.linalg.eigh(differ)
    kept = sizes > len(K) * EPS * np.diagonal(K).max()
    R = vectors[:, kept] * np.sqrt(sizes[kept])
    line = step * np.arange(-int(REACH / step), int(REACH / step) + 1)
    count = R.shape[1]
    Z = np.array(list(product(line, repeat=count))).reshape(len(line) ** count, count)
    inside = np.square(Z).sum(1) <= REACH**2
    length, share = lengths(head_size, step)
    G = (variance * K[row, row]) ** 0.5 * np.multiply.outer(length, Z[inside] @ R.T)
    rows = np.exp(G - G.max(-1, keepdims=True))
    rows /= rows.sum(-1, keepdims=True)
    density = np.exp(-np.square(Z[inside]).sum(1) / 2)
    joint = np.multiply.outer(share, density / density.sum()).ravel()
    return RowRule(joint, rows.reshape(-1, len(K)))


def lengths(
    head_size: float, step: float
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Return nodes and weights of |q| / sqrt(d), |q|^2 ~ chi^2_d.

    The density of u = log(|q|^2 / d) is a multiple of e^(d (u - e^u) / 2).
    """
    if np.isinf(head_size):
        return np.ones(1), np.ones(1)
    spacing = 1.5 * step * (2 / (head_size + 2)) ** 0.5  # by the width of the density
    u = spacing * np.arange(-int(64 / step), int(8 / step))
    log_density = head_size / 2 * (u - np.exp(u) + 1)
    kept = log_density > np.log(FAINT)
    density = np.exp(log_density[kept])
    return np.exp(u[kept] / 2), density / density.sum()


def _check(T: int, row: int, variance: float, head_size: float, step: float) -> None:
    if not 0 <= row < T:
        raise ArgumentError(f"row must be from 0 to {T - 1}; got {row}")
    if not 0 <= variance < np.inf:
        raise ArgumentError(f"variance must be finite and >= 0; got {variance}")
    for name, value in (("head_size", head_size), ("step", step)):
        if not value > 0:
            raise ArgumentError(f"{name} must be positive; got {value}")
