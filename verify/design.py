"""What a decision costs, worked out before it is run.

A *block* is one independent estimate of every entry of a limit: a few replicates at
each of several widths, combined so that the leading finite-width errors cancel
(`extrapolation`, `allocation`). A `Design` says how many blocks it takes to tell a true
prediction from a wrong one at stated error probabilities. All are deterministic
computations that know nothing of the code under test: the idea, and the pair `blocks`
and `detectable`, are those of TensorFlow Probability's statistical_testing.py.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from operator import index

import numpy as np
from jaxtyping import Float
from scipy.special import chdtri, ndtri

from asymptest.theory.errors import ArgumentError
from asymptest.verify.confidence import ROUNDING, ConfidenceSequence

MOST_BLOCKS = 10**9  # beyond any budget; ends the search for the number of blocks
LEAST_ALPHA = 1e-100  # its square must be a float64


def _weights(widths: Sequence[int]) -> tuple[Fraction, ...]:
    """Return the weights of `extrapolation`, exactly."""
    sizes = [index(width) for width in widths]
    if not sizes or min(sizes) < 1 or len(set(sizes)) < len(sizes):
        raise ArgumentError(
            f"widths must be one or more different positive integers; got {sizes}"
        )
    return tuple(
        math.prod(
            (Fraction(n, n - other) for other in sizes if other != n), start=Fraction(1)
        )
        for n in sizes
    )


def extrapolation(widths: Sequence[int]) -> Float[np.ndarray, " m"]:
    r"""Return the weights that carry means at m finite widths to infinite width.

    An entry at width n expands as $a_0 + a_1/n + a_2/n^2 + \dots$. The polynomial in
    x = 1/n through m points, read at x = 0, has Lagrange weights
    $w_m = \prod_{j \ne m} x_j / (x_j - x_m) = \prod_{j \ne m} n_m / (n_m - n_j)$;
    they satisfy $\sum w_m = 1$ and $\sum w_m n_m^{-k} = 0$ for k = 1, ..., m - 1, so
    the error left is $O(n^{-m})$. `Design.bias` is where a claim declares it.

    Args:
        widths: different positive integers; one width gives weight 1, no extrapolation.

    Returns:
        The weights, each correctly rounded. They alternate in sign and grow when widths
        are close together, and with them the noise of a block.

    Raises:
        ArgumentError: if a width repeats or is not positive, or there is none.

    >>> extrapolation([64, 128, 256]).round(4)
    array([ 0.3333, -2.    ,  2.6667])
    """
    return np.array([float(weight) for weight in _weights(widths)])


def allocation(widths: Sequence[int]) -> tuple[int, ...]:
    r"""Return how many replicates of each width make up one block.

    With r_m replicates the block has variance $\sum w_m^2 \sigma_m^2 / r_m$ and costs
    $\sum r_m c_m$. By Cauchy and Schwarz their product is least for
    $r_m \propto |w_m| \sigma_m / \sqrt{c_m}$. An entry averages over n features, so
    $\sigma_m \propto n_m^{-1/2}$; drawing weight matrices costs $c_m \propto n_m^2$.
    So $r_m \propto |w_m| n_m^{-3/2}$, here in units of the smallest and rounded.

    Raises:
        ArgumentError: if a width repeats or is not positive, or there is none.

    >>> allocation([64, 128, 256])
    (1, 2, 1)
    """
    weights = _weights(widths)
    ideal = [abs(float(w)) / n**1.5 for w, n in zip(weights, widths, strict=True)]
    return tuple(round(share / min(ideal)) for share in ideal)


@dataclass(frozen=True)
class Design:
    """Error probabilities and resolution of a decision, and the blocks these need.

    Lengths are in units of an entry's natural scale.

    Attributes:
        alpha: probability that the region ever misses the true mean, in any entry, at
            any look, on either side. No verdict is wrong unless that happens.
        miss: probability that `blocks` blocks do not suffice, beyond `alpha`.
        resolution: half-width of the band around a prediction in which SUPPORTED places
            the mean.
        noise: standard deviation of one block; an a-priori bound, declared rather than
            estimated. Also the largest rare jump that `ConfidenceSequence` must expect.
            0 declares a deterministic sampler.
        entries: number of entries decided on together.
        bias: distance of a block's mean from the limit that a true claim may have (the
            remainder of the extrapolation); less than `resolution`.

    Raises:
        ArgumentError: if an attribute is outside its domain, or more than 1e9 blocks
            would be needed.

    >>> Design(alpha=1e-6, miss=0.01, resolution=0.05, noise=0.5, entries=10).blocks
    9652
    """

    alpha: float
    miss: float
    resolution: float
    noise: float
    entries: int
    bias: float = 0.0

    def __post_init__(self) -> None:
        # `not (...)`, so that nan fails too.
        def require(holds: bool | np.bool_, name: str, domain: str) -> None:
            if not holds:
                value = getattr(self, name)
                raise ArgumentError(f"Design: {name} must be {domain}; got {value}")

        require(self.entries >= 1, "entries", "at least 1")
        least = LEAST_ALPHA * self.entries
        require(least <= self.alpha < 1, "alpha", f"in [{least:.0e}, 1)")
        require(0 < self.miss < 1, "miss", "in (0, 1)")
        require(0 <= self.noise < math.inf, "noise", "finite and at least 0")
        require(0 <= self.bias < math.inf, "bias", "finite and at least 0")
        require(
            self.bias < self.resolution < math.inf,
            "resolution",
            f"finite and more than bias = {self.bias}",
        )
        require(
            self.detectable(MOST_BLOCKS) <= self.resolution,
            "resolution",
            f"at least {self.detectable(MOST_BLOCKS):.2g}, what {MOST_BLOCKS:.0e} "
            f"blocks of noise {self.noise} resolve",
        )

    def sequence(self, horizon: int) -> ConfidenceSequence:
        """Return the confidence sequence of one entry, tightest at `horizon` blocks."""
        # Bonferroni: entries of a kernel are dependent in ways that nobody declares.
        return ConfidenceSequence(self.alpha / self.entries, horizon, self.noise)

    @property
    def burn_in(self) -> int:
        """Blocks before the first look."""
        return self.sequence(1).burn_in

    @cached_property
    def blocks(self) -> int:
        """Blocks after which, but for `alpha` + `miss`, a verdict has been reached.

        For Gaussian blocks with standard deviation at most `noise`, a claim within
        `bias` of the truth is then SUPPORTED, and a prediction whose distance from the
        limit is 2 `resolution` or more in some entry is REFUTED.
        """
        sizes = range(self.burn_in, MOST_BLOCKS + 1)
        return sizes.start + bisect_left(
            sizes, -self.resolution, key=lambda size: -self.detectable(size)
        )

    def detectable(self, blocks: int) -> float:
        """Return the smallest resolution that this many blocks can promise.

        But for probability `miss`, in every entry the centre is within q of the block's
        mean and the radius is at most r. The prediction of a true claim is at most
        `bias` from that mean, so it is SUPPORTED if bias + q + r <= resolution. This
        suffices for the other promise too: a prediction 2 resolution from the limit is
        at least 2 resolution - bias - q from the centre, and is REFUTED if that exceeds
        bias + r, which follows as bias < resolution.

        Raises:
            ArgumentError: if `blocks` is below 2.
        """
        if not blocks >= 2:
            raise ArgumentError(f"detectable needs blocks >= 2; got {blocks}")
        share = self.miss / (3 * self.entries)  # of centre, spread and skewness each
        deviation = -ndtri(share / 2)
        centre = self.noise * deviation / math.sqrt(blocks)
        spread = self.noise * math.sqrt(chdtri(blocks - 1, share) / blocks)
        skewness = deviation * math.sqrt(6 / blocks)  # of a Gaussian sample
        radius = self.sequence(blocks).radius(
            blocks, np.array([spread]), np.array([skewness])
        )
        return float(self.bias + centre + radius[0] + 2 * ROUNDING)
