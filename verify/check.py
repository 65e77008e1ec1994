"""Check a claim: decide its evidence, then its mutants by the same procedure."""

import platform
import time
import traceback
from collections.abc import Iterable, Iterator
from importlib.metadata import version

from asymptest.verify.claim import (
    HOLDING,
    PROFILES,
    Bound,
    Claim,
    Deterministic,
    Enclosure,
    Evidence,
    Exact,
    Expects,
    Finding,
    FiniteLaw,
    Identity,
    Law,
    Limit,
    Profile,
    Rate,
    Status,
    Verdict,
)
from asymptest.verify.deterministic import (
    decide_bound,
    decide_enclosure,
    decide_exact,
    decide_identity,
    decide_rate,
)
from asymptest.verify.instances import derive
from asymptest.verify.stochastic import decide_limits, single_thread
from asymptest.verify.two_sample import decide_law

ALPHA = 1e-6  # false-alarm probability of a whole run
PACKAGES = ("sympy", "numpy", "scipy", "torch", "hypothesis", "python-flint")


def check(
    claim: Claim,
    profile: Profile | str = "quick",
    seed: int = 0,
    alpha: float = ALPHA,
) -> Verdict:
    """Return the verdict on one claim; whatever it raises becomes an ERROR verdict.

    Args:
        claim: the claim.
        profile: how much to spend, or the name of a profile.
        seed: all randomness derives from it, the claim's name and the instance.
        alpha: probability that any of the claim's statistical decisions is wrong.
    """
    spend = PROFILES[profile] if isinstance(profile, str) else profile
    start = time.perf_counter()
    evidence = {f"evidence {k}": part for k, part in enumerate(claim.evidence)}
    # Mutants share the region of the evidence whose samples they share, and need no alpha
    # of their own; all that samples for itself gets an equal part.
    with single_thread():
        parts = evidence | dict(claim.mutants)
        findings = dict(_findings(claim, parts, spend, seed, alpha))
    own = tuple(findings[name] for name in evidence)
    mutants = {name: findings[name] for name in claim.mutants}
    return Verdict(
        name=claim.name,
        source=claim.source,
        expects=claim.expects,
        verdict=_overall(claim, own, mutants.values()),
        evidence=own,
        mutants=mutants,
        seed=seed,
        profile=spend.name,
        seconds=round(time.perf_counter() - start, 3),
        versions={name: version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        limits=claim.limits,
    )


def _overall(
    claim: Claim, own: tuple[Finding, ...], mutants: Iterable[Finding]
) -> Status:
    """Return the claim's status: the weakest of its evidence.

    A proof of one part proves no more than that part; the list of evidence shows it.
    """
    statuses = [finding.verdict for finding in own]
    if not statuses:
        return Status.ERROR
    for failed in (Status.ERROR, Status.REFUTED, Status.INCONCLUSIVE):
        if failed in statuses:
            return failed
    survives = any(m.verdict is not Status.REFUTED for m in mutants)
    if survives and claim.expects is Expects.HOLDS:
        return Status.INCONCLUSIVE  # what cannot reject a wrong variant shows nothing
    return next(status for status in reversed(HOLDING) if status in statuses)


def _findings(
    claim: Claim, parts: dict[str, Evidence], profile: Profile, seed: int, alpha: float
) -> Iterator[tuple[str, Finding]]:
    """Decide each piece of evidence, those with common samples together."""
    streams: dict[object, dict[str, Limit | FiniteLaw]] = {}
    laws: dict[str, Law] = {}
    for name, part in parts.items():
        if isinstance(part, Limit | FiniteLaw):
            # What differs only in the prediction is judged on the same samples.
            key = (type(part), *(v for k, v in vars(part).items() if k != "predict"))
            streams.setdefault(key, {})[name] = part
        elif isinstance(part, Law):
            laws[name] = part
        else:
            # A mutant need only be killed; a failing claim is worth a small example.
            shrink = name not in claim.mutants
            yield name, _guarded(claim, part, profile, seed, shrink)
    share = alpha / max(1, len(streams) + len(laws))
    for name, part in laws.items():
        try:
            stream_seed = derive(seed, claim.name, "law", name)
            yield name, decide_law(part, claim.instances, profile, stream_seed, share)
        except Exception as error:  # a claim that raises is a result, not a crash
            yield name, _error(error)
    for number, group in enumerate(streams.values()):
        stream_seed = derive(seed, claim.name, "stream", number)
        try:
            found = decide_limits(claim.instances, group, profile, stream_seed, share)
            yield from found.items()
        except Exception as error:  # a claim that raises is a result, not a crash
            yield from ((name, _error(error)) for name in group)


def _decide(
    claim: Claim,
    part: Deterministic,
    profile: Profile,
    seed: int,
    shrink: bool,
) -> Finding:
    stream = derive(seed, claim.name, type(part).__name__)
    match part:
        case Identity():
            return decide_identity(part, stream)
        case Enclosure():
            return decide_enclosure(part, claim.instances, profile, stream, shrink)
        case Exact():
            return decide_exact(part, claim.instances, profile, stream, shrink)
        case Bound():
            return decide_bound(part, claim.instances, profile, stream, shrink)
        case Rate():
            return decide_rate(part, claim.instances, profile, stream, shrink)


def _guarded(
    claim: Claim,
    part: Deterministic,
    profile: Profile,
    seed: int,
    shrink: bool,
) -> Finding:
    try:
        finding = _decide(claim, part, profile, seed, shrink)
    except Exception as error:  # a claim that raises is a result, not a crash
        return _error(error)
    if finding.comparisons == 0:
        return Finding(finding.kind, Status.ERROR, detail="nothing was compared")
    return finding


def _error(error: Exception) -> Finding:
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{where.filename.rsplit('/', 1)[-1]}:{where.lineno}"
    return Finding(
        "error", Status.ERROR, detail=f"{type(error).__name__} at {place}: {error}"
    )
