"""Softmax attention under one mask: its kernel as a function of a correlation.

Where two rows see the same keys with the same biases, their entry of E[A V A'] depends on
their variances and their correlation ρ only: it is f(ρ). On a circle of rows

    G(θ) = r (cos θ g + sin θ h),   g, h independent with the covariance K,

two rows at an angle φ have the correlation cos φ, so 2 M equispaced rows show f at the
Chebyshev points cos(π m / M), each of them at 2 M places, and the power spectrum of the circle
is f's Chebyshev series. A few radii r interpolate in the variances alike. All T^2 entries
then come from a few dozen rows; where rows see different keys, each kind has its circles.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.polynomial.chebyshev import chebvander

from asymptest.numerics.gram import correlation
from asymptest.numerics.logit_rows import (
    Damping,
    Rows,
    average,
    damping,
    pilot_size,
    rows,
)

Square = Float[np.ndarray, "*stack Q Q"]
Spectrum = Float[np.ndarray, "*stack orders circles circles"]

SMALLEST = 8  # angles on half a circle
SAME = 1e-12  # radii this close, relative to the largest, are one


@dataclass(frozen=True, eq=False)
class Circles:
    """Rows on circles that stand for the rows of a problem.

    Args:
        L: logits of the rows on circles without the random part, by circle, then angle.
        C: their covariance over queries.
        angles: M, the rows on half a circle; antithetic draws are the other half.
        weights: interpolate each row of the problem in the circles.
        nodes: Chebyshev points of the radii of one kind of row.
    """

    L: Float[np.ndarray, "rows D"]
    C: Float[np.ndarray, "rows rows"]
    angles: int
    weights: Float[np.ndarray, "Q circles"]
    nodes: Float[np.ndarray, " radii"]


def circles(
    L: Float[np.ndarray, "Q D"], C: Float[np.ndarray, "Q Q"], angles: int, radii: int
) -> Circles:
    """Return the circles for rows of logits L with the covariance C over queries."""
    kinds, kind = np.unique(L, axis=0, return_inverse=True)
    size = np.sqrt(np.diagonal(C))
    nodes = np.cos(np.pi * (np.arange(radii) + 0.5) / radii)
    to_series = np.linalg.inv(chebvander(nodes, radii - 1))
    weights = np.zeros((len(L), len(kinds) * radii))
    radius = np.empty(len(kinds) * radii)
    for k in range(len(kinds)):
        own, at = kind == k, slice(k * radii, (k + 1) * radii)
        low, high = size[own].min(), size[own].max()
        middle, half = (low + high) / 2, (high - low) / 2
        place = (size[own] - middle) / half if half else np.zeros(own.sum())
        basis = chebvander(place, radii - 1)
        weights[own, at] = basis @ to_series
        radius[at] = middle + half * nodes
    theta = np.pi * np.arange(angles) / angles
    turn = np.cos(theta[:, None] - theta)
    rows = np.repeat(kinds, radii * angles, axis=0)
    return Circles(
        rows, np.kron(np.outer(radius, radius), turn), angles, weights, nodes
    )


def spectrum(on: Circles, parts: Float[np.ndarray, "*stack 2 rows rows"]) -> Spectrum:
    """Return the Chebyshev coefficients of f, by pair of circles.

    Args:
        on: the circles.
        parts: the even and the odd part of the rows' kernel.
    """
    M, N = on.angles, on.weights.shape[1]
    split = parts.reshape(*parts.shape[:-2], N, M, N, M)
    turn, i = np.indices((M, M))
    turned = np.moveaxis(split, (-3, -1), (0, 1))[i, (i - turn) % M]
    even, odd = np.moveaxis(turned, -3, 0)
    # Past half a circle stands the negative of a row, and its odd part changes its sign.
    odd[i < turn] *= -1
    f = np.concatenate([(even + odd).mean(1), (even - odd).mean(1)])
    series = np.fft.rfft(f, axis=0).real / (2 * M)
    series[1:M] *= 2
    return np.moveaxis(series, 0, -3)


def entries(on: Circles, C: Float[np.ndarray, "Q Q"], series: Spectrum) -> Square:
    """Return the kernel's entries for rows with the covariance C over queries."""
    angle = np.arccos(correlation(C))
    result = np.zeros((*series.shape[:-3], *C.shape))
    for order in range(on.angles + 1):
        pairs = on.weights @ series[..., order, :, :] @ on.weights.T
        result += np.cos(order * angle) * pairs
    return (result + np.swapaxes(result, -1, -2)) / 2


def resolved_circles(
    L: Float[np.ndarray, "Q D"],
    C: Float[np.ndarray, "Q Q"],
    K: Float[np.ndarray, "D D"],
    V: Float[np.ndarray, "D D"],
    tail: float,
    rng: np.random.Generator,
) -> tuple[Circles, Rows, Damping] | None:
    """Return circles that leave out no more than `tail`, relative to the largest entry.

    What they leave out is taken to be as large as the last coefficient kept, in a pilot.
    If that takes more rows than there are, or if nothing is random, the result is None.
    """
    kinds, kind = np.unique(L, axis=0, return_inverse=True)
    size = np.sqrt(np.diagonal(C))
    spread = max(np.ptp(size[kind == k]) for k in range(len(kinds)))
    angles, radii = SMALLEST, 1 if spread <= SAME * size.max() else 3
    while len(kinds) * radii * angles <= len(L):
        on = circles(L, C, angles, radii)
        drawn = rows(on.L, on.C, K, V)
        if not drawn.is_random:
            return None
        by = damping(drawn, rng)
        parts = average(drawn, by, pilot_size(drawn), rng)
        over_angles, over_radii = _tails(on, spectrum(on, parts))
        if max(over_angles, over_radii) <= tail:
            return on, drawn, by
        if over_angles > over_radii:
            angles += angles // 2
        else:
            radii += 1
    return None


def _tails(on: Circles, series: Spectrum) -> tuple[float, float]:
    """Return the highest coefficients over angles and over radii, relative to the largest."""
    largest = np.abs(series).max()
    R, N = len(on.nodes), series.shape[-1]
    # Of two: between two keys of equal weight, all even coefficients but the first vanish.
    over_angles = np.abs(series[..., -2:, :, :]).max()
    split = series.reshape(*series.shape[:-2], N // R, R, N)
    to_series = np.linalg.inv(chebvander(on.nodes, R - 1))
    over_radii = np.abs(np.einsum("r,...krl->...kl", to_series[-1], split)).max()
    return over_angles / largest, over_radii / largest if R > 1 else 0.0
