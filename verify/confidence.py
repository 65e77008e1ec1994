"""A region that holds the true mean of a stream of blocks at every look at once.

Blocks x_1, x_2, ... are independent copies of one entry, with mean μ. After t of them
let x̄ be their mean, s² = Σ(x_i - x̄)²/t, and γ their skewness. The region is x̄ ± r with

    r = max(s h (1 + |γ| h/3), jump h²/2),    h² = (g - 1) / (1 - g m/(t+m)),
                                              g  = ((t+m) / (m α²))^(1/t).

*Where h comes from.* For Gaussian blocks, compare "mean μ" with "mean μ + δσ,
δ ~ N(0, 1/m)", the unknown σ integrated out under dσ/σ. The likelihood ratio is

    E_t = sqrt(m/(t+m)) (Σ(x_i-μ)² / (Σ(x_i-μ)² - (Σ(x_i-μ))²/(t+m)))^(t/2),

a martingale of mean 1 whatever σ is (in the filtration of the ratios of the x_i - μ,
which are all it depends on). By Ville's inequality it ever reaches 1/α with probability
at most α. Solving E_t < 1/α for |x̄ - μ| gives h s: for Gaussian blocks the region errs
with probability at most α over all t together, *estimated variance included*. As t
grows, h² t -> (1 + m/t) log((t+m)/(m α²)): Robbins' normal-mixture boundary with the
running variance plugged in, which is an asymptotic confidence sequence for any blocks
of finite variance.

*What is not Gaussian.* Two things break Student's statistic at α ~ 1e-9, and each has
a term of its own. It leans against the skewness: its quantile moves from z to
z (1 + |γ| z/(3√t)) (Hall), hence the bracket. And an entry that is constant but for
rare jumps, of probability p a block, looks like a constant while none is seen. That
lasts for t blocks with probability at most exp(-p t), which for p >= h²/2 is below
α sqrt(m/(t+m)): so the mean may be jump h²/2 away, however small s is.

Assumed: independent identically distributed blocks, with a finite fourth moment, of
skewness up to about 2 (`burn_in`), or rare jumps no larger than `jump`. Independent
check: tests/verify/test_confidence.py integrates E_t numerically, and measures the
error probability down to α = 1e-9, by importance sampling for skewed blocks and by
enumeration for rare jumps.

Source: Lai (1976), On confidence sequences; Wang and Ramdas, arXiv 2310.03722 (E_t);
Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2021), arXiv 2103.06476 (asymptotic
confidence sequences, choice of m); Hall (1992), On the removal of skewness by
transformation.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import lambertw

# What sums of a few hundred float64 terms, in the draws and in the predictions, leave
# of an exact equality: a random walk of half-ulp steps.
ROUNDING = 64 * np.finfo(np.float64).eps

Entries = Float[np.ndarray, " d"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and central sums Σ(x-x̄)², Σ(x-x̄)³ of blocks seen so far."""

    count: int
    mean: Entries
    square: Entries
    cube: Entries

    @classmethod
    def of(cls, blocks: Float[np.ndarray, "k d"]) -> "Moments":
        """Return the moments of k blocks; constant blocks give exact zeros."""
        # Measured from the first block, constant entries are 0 - 0: a naive sum of k
        # equal numbers would leave k roundings, and with them a spurious variance.
        shift = (blocks - blocks[0]).mean(axis=0)
        gap = blocks - blocks[0] - shift
        square = gap * gap
        return cls(
            len(blocks),
            blocks[0] + shift,
            square.sum(axis=0),
            (square * gap).sum(axis=0),
        )

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both sets of blocks together (Chan; Pébay)."""
        a, b = self.count, other.count
        n = a + b
        gap = other.mean - self.mean
        return Moments(
            count=n,
            mean=self.mean + gap * (b / n),
            square=self.square + other.square + gap**2 * (a * b / n),
            cube=self.cube
            + other.cube
            + gap**3 * (a * b / n * (a - b) / n)
            + 3 * gap * (a / n * other.square - b / n * self.square),
        )

    @property
    def spread(self) -> Entries:
        """Standard deviation s of one block (the mean over t, as h expects)."""
        return np.sqrt(self.square / self.count)

    @property
    def skewness(self) -> Entries:
        """Third standardised moment γ; 0 for a constant entry, which has none."""
        cubed = self.spread**3
        return np.divide(
            self.cube / self.count, cubed, out=np.zeros_like(cubed), where=cubed != 0
        )


@dataclass(frozen=True)
class ConfidenceSequence:
    """The radii above: error probability `alpha` for one entry, both sides, all looks.

    Attributes:
        alpha: error probability α of one entry, in (0, 1).
        horizon: number of blocks at which the region is to be tightest.
        jump: largest rare jump of one block; same unit as the blocks.
    """

    alpha: float
    horizon: int
    jump: float

    @property
    def critical(self) -> float:
        """Squared critical value z² = min over m of h² t at t = horizon, s known.

        Setting the derivative of (1 + m/t) log((t+m)/(m α²)) in m to zero leaves
        y - log(1+y) = log(1/α²) with y = t/m, and the minimum is z² = 1 + y. So
        z² exp(-z²) = α²/e: the lower branch of Lambert's W.
        """
        return -float(lambertw(-(self.alpha**2) / math.e, k=-1).real)

    @property
    def burn_in(self) -> int:
        """Blocks before the first look, max(64, 6 z²).

        The skewness term is the first of a series in |γ| z/√t; the next is of the order
        of its square. t >= 6 z² keeps the term |γ| z/(3√t) below 0.28 up to |γ| = 2,
        the skewness of an exponential; an average of n squares has only sqrt(8/n). The
        same t keeps z²/t small, and with it what an unknown variance costs.
        """
        return max(64, math.ceil(6 * self.critical))

    def multiplier(self, blocks: int) -> float:
        """Return h, the radius in units of s; infinite where t is too small for α."""
        prior = self.horizon / (self.critical - 1)  # m, tightest at the horizon
        log_ratio = math.log1p(blocks / prior)  # log((t+m)/m)
        log_g = (log_ratio - 2 * math.log(self.alpha)) / blocks
        if log_g >= log_ratio:  # 1 - g m/(t+m) <= 0: E_t cannot reach 1/α
            return math.inf
        return math.sqrt(math.expm1(log_g) / -math.expm1(log_g - log_ratio))

    def radius(self, blocks: int, spread: Entries, skewness: Entries) -> Entries:
        """Return r after `blocks` blocks, without the rounding of the blocks."""
        h = self.multiplier(blocks)
        if math.isinf(h):  # also where s = 0, and h s would be nan
            return np.full_like(spread, np.inf)
        leaning = spread * h * (1 + abs(skewness) * h / 3)
        unseen = self.jump * h**2 / 2
        return np.maximum(leaning, unseen)

    def region(self, seen: Moments) -> tuple[Entries, Entries]:
        """Return centre and radius; entries are expected to be of order one.

        A constant entry has radius `jump` h²/2, and if `jump` is 0 (a sampler
        declared deterministic) a few ulp: never zero.
        """
        radius = self.radius(seen.count, seen.spread, seen.skewness)
        return seen.mean, radius + ROUNDING * (1 + abs(seen.mean))
