"""Claims, evidence and verdicts: values, so that a claim can be printed, checked and varied.

A claim states something, says where it stands in print, and brings evidence: what to
compare with what, and which kind of decision that allows. A mutant is the evidence with
something wrong in it; the same decision must refute it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import numpy as np
import sympy as sp
from hypothesis.strategies import SearchStrategy
from jaxtyping import Float

Instance = (
    Any  # what a claim's strategy draws: one choice of all that it quantifies over
)
Rng = np.random.Generator
Entries = Float[np.ndarray, " d"]


class Status(StrEnum):
    """What a decision can say, the strongest first."""

    PROVED = "PROVED"
    CERTIFIED = "CERTIFIED"
    SUPPORTED = "SUPPORTED"
    REFUTED = "REFUTED"
    INCONCLUSIVE = "INCONCLUSIVE"
    ERROR = "ERROR"


HOLDING = (Status.PROVED, Status.CERTIFIED, Status.SUPPORTED)


class Expects(StrEnum):
    """What a claim's author expects: printed statements known to be wrong say REFUTED."""

    HOLDS = "HOLDS"
    REFUTED = "REFUTED"


@dataclass(frozen=True)
class Source:
    """Where a statement stands, and whether this is the printed or a derived form."""

    paper: str
    where: str
    form: Literal["printed", "derived here"] = "derived here"


@dataclass(frozen=True)
class Identity:
    """Each named SymPy expression is 0; decided by reducing it.

    Args:
        differences: () -> name -> left side minus right side.
    """

    differences: Callable[[], Mapping[str, sp.Expr]]


@dataclass(frozen=True)
class Enclosure:
    """left = right on every instance, in balls that hold all rounding.

    Args:
        left: (instance) -> a `flint.arb` or a sequence of them.
        right: (instance) -> as many.
        scale: (instance) -> the natural size of each entry, or one for all of them.
        resolution: what balls that meet may leave between left and right, / scale.
        share: instances in units of the profile's; less than 1 where a ball takes long.
    """

    left: Callable[[Instance], Any]
    right: Callable[[Instance], Any]
    scale: Callable[[Instance], Any]
    resolution: float = 1e-9
    share: float = 1.0


@dataclass(frozen=True)
class Exact:
    """|left - right| <= bound on every instance; Hypothesis looks for one that fails.

    Args:
        left: (instance, rng) -> array; rng is seeded from the instance.
        right: (instance) -> array of the same shape.
        bound: (instance) -> allowed difference, from an error analysis.
    """

    left: Callable[[Instance, Rng], Any]
    right: Callable[[Instance], Any]
    bound: Callable[[Instance], Any]


@dataclass(frozen=True)
class Bound:
    """left <= right on every instance; Hypothesis steers towards a large left / right.

    Args:
        left: (instance) -> number.
        right: (instance) -> number > 0.
        slack: (instance) -> rounding of left - right, from an error analysis.
    """

    left: Callable[[Instance], float]
    right: Callable[[Instance], float]
    slack: Callable[[Instance], float] = lambda _: 0.0


@dataclass(frozen=True)
class Limit:
    """E sample(width) -> predict as the width grows, decided by extrapolation over widths.

    Args:
        sample: (instance, width, copies, rng) -> (copies, entries), independent rows.
        predict: (instance) -> (entries,), the limit.
        scale: (instance) -> (entries,), the natural size of each entry.
        widths: at least three.
        spread: sqrt(width) * standard deviation of an entry / scale, an a-priori bound.
        bias: what the extrapolation and the evaluation of the limit may leave, / scale.
        coarseness: resolution in units of the profile's.
    """

    sample: Callable[[Instance, int, int, Rng], Float[np.ndarray, "copies d"]]
    predict: Callable[[Instance], Entries]
    scale: Callable[[Instance], Entries]
    widths: tuple[int, ...]
    spread: float
    bias: float = 0.0
    coarseness: float = 1.0


@dataclass(frozen=True)
class FiniteLaw:
    """E sample(width) = predict(width) exactly, at each of several finite widths.

    With errors as samples it is a rate: exponent *and* constant are tested.

    Args:
        sample: (instance, width, copies, rng) -> (copies, entries), independent rows.
        predict: (instance, width) -> (entries,), the exact mean at that width.
        scale: (instance, width) -> (entries,).
        widths: one or more.
        spread: standard deviation of an entry / scale, an a-priori bound.
        group: replicates averaged into one block, to tame skewed samples.
        coarseness: resolution in units of the profile's.
        rate: whether the samples are squared errors, so that the law is a rate.
    """

    sample: Callable[[Instance, int, int, Rng], Float[np.ndarray, "copies d"]]
    predict: Callable[[Instance, int], Entries]
    scale: Callable[[Instance, int], Entries]
    widths: tuple[int, ...]
    spread: float
    group: int = 1
    coarseness: float = 1.0
    rate: bool = False


@dataclass(frozen=True)
class Rate:
    """error(l) ~ constant * ratio^l, evaluated without noise: slope *and* constant.

    Args:
        error: (instance, l) -> number > 0, exact up to float64 rounding.
        ratio: (instance) -> number in (0, 1).
        constant: (instance) -> number > 0.
        depths: two values of l; the slope is read between them, the constant at the second.
        remainder: (instance, l) -> bound of |error / (constant ratio^l) - 1|, derived.
    """

    error: Callable[[Instance, int], float]
    ratio: Callable[[Instance], float]
    constant: Callable[[Instance], float]
    depths: tuple[int, int]
    remainder: Callable[[Instance, int], float]


@dataclass(frozen=True)
class Law:
    """Left and right have the same law, decided statistic by statistic from two samples.

    Args:
        left: (instance, copies, rng) -> (copies, statistics), independent rows.
        right: likewise, independent of the left.
        statistics: their names. Values that are equal but for rounding should be equal.
        coarseness: resolution in units of the profile's, of a distance of distribution
            functions, which is at most 1.
    """

    left: Callable[[Instance, int, Rng], Float[np.ndarray, "copies d"]]
    right: Callable[[Instance, int, Rng], Float[np.ndarray, "copies d"]]
    statistics: tuple[str, ...]
    coarseness: float = 1.0


Deterministic = Identity | Enclosure | Exact | Bound | Rate
Evidence = Deterministic | Limit | FiniteLaw | Law


@dataclass(frozen=True)
class Claim:
    """A statement with its source, its evidence, and the wrong variants it must tell apart.

    Args:
        name: "file/claim", unique in the catalogue.
        statement: SymPy objects or equations; printable as text, LaTeX and MathML.
        source: where it stands.
        evidence: one or more; all must hold.
        limits: one sentence: what a SUPPORTED verdict leaves open.
        instances: a Hypothesis strategy for all that the claim quantifies over.
        mutants: name -> evidence with something wrong in it.
        expects: HOLDS, or REFUTED for a printed statement known to be wrong.
        counterexample: the shape of the known counterexample, if REFUTED is expected.
        repaired: the name of the claim that repairs it.
    """

    name: str
    statement: tuple[sp.Basic, ...]
    source: Source
    evidence: tuple[Evidence, ...]
    limits: str
    instances: SearchStrategy[Any] | None = None
    mutants: Mapping[str, Evidence] = field(default_factory=dict)
    expects: Expects = Expects.HOLDS
    counterexample: str = ""
    repaired: str = ""


@dataclass(frozen=True)
class Finding:
    """What one piece of evidence said.

    Args:
        kind: identity, enclosure, exact, bound, limit, rate or law.
        verdict: the decision.
        resolution: how closely the truth was confined, in units of each entry's scale;
            for a bound, the worst left / right.
        alpha: probability that the decision is wrong; 0 where nothing is random.
        comparisons: numbers compared; none is an ERROR.
        replicates: independent finite networks, over all widths.
        widths: the widths, or depths, that were used.
        distance: largest |measured - predicted| / scale; of balls, what is certain of it.
        counterexample: a shrunk instance that fails.
        detail: one line for readers.
        points: for figures: width, measured rms error and predicted rms error.
    """

    kind: str
    verdict: Status
    resolution: float | None = None
    alpha: float = 0.0
    comparisons: int = 0
    replicates: int = 0
    widths: tuple[int, ...] = ()
    distance: float | None = None
    counterexample: str | None = None
    detail: str = ""
    points: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The outcome of checking one claim; `agrees` says whether it is what was expected."""

    name: str
    source: Source
    expects: Expects
    verdict: Status
    evidence: tuple[Finding, ...]
    mutants: Mapping[str, Finding]
    seed: int
    profile: str
    seconds: float
    versions: Mapping[str, str]
    limits: str

    @property
    def agrees(self) -> bool:
        """Whether the verdict is the expected one."""
        if self.expects is Expects.REFUTED:
            return self.verdict is Status.REFUTED
        return self.verdict in HOLDING


@dataclass(frozen=True)
class Profile:
    """How much to spend.

    Args:
        name: what the command line calls it.
        examples: instances per enclosure, exact, bound or rate evidence.
        instances: instances per limit evidence.
        resolution: half-width of a limit's band, in units of each entry's scale.
        miss: probability that the budget does not suffice for a true claim.
    """

    name: str
    examples: int
    instances: int
    resolution: float
    miss: float = 1e-3


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("smoke", examples=20, instances=1, resolution=0.1),
        Profile("quick", examples=100, instances=1, resolution=0.01),
        Profile("full", examples=1000, instances=3, resolution=0.002),
    )
}
