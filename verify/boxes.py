"""Boxes of variances and correlations, for evidence in ball arithmetic."""

from dataclasses import dataclass
from math import exp, log

from flint import arb, fmpq
from hypothesis import strategies as st

RADIUS = fmpq(1, 10**13)  # of each ball, relative


@dataclass(frozen=True)
class Box:
    """All (p, q, rho) around a centre: two variances and a correlation.

    Args:
        p: variance of u.
        q: variance of v.
        gap: 1 - |rho|.
        sign: of rho.
    """

    p: float
    q: float
    gap: float
    sign: int

    @property
    def floats(self) -> tuple[float, float, float]:
        """The centre, in floating point."""
        return self.p, self.q, self.sign * (1 - self.gap)

    @property
    def balls(self) -> tuple[arb, arb, arb]:
        """The box, as three balls."""
        p, q, rho = (arb(value) * (1 + arb(0, RADIUS)) for value in self.floats)
        return p, q, rho


@st.composite
def boxes(draw, lowest: float = 0.1, highest: float = 10.0, edge: float = 1e-4) -> Box:
    """Draw variances in [lowest, highest] and 1 - |rho| in [edge, 1], all on a log scale."""

    def log_uniform(low: float, high: float) -> float:
        return exp(draw(st.floats(log(low), log(high))))

    p, q, gap = (
        log_uniform(*ends)
        for ends in ((lowest, highest), (lowest, highest), (edge, 1.0))
    )
    return Box(p, q, min(gap, 1.0), draw(st.sampled_from([1, -1])))
