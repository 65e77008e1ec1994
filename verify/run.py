"""Run many claims: in several processes, committed one at a time, resumable."""

import hashlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version

from asymptest.theory.errors import ArgumentError
from asymptest.verify.check import ALPHA, PACKAGES, check
from asymptest.verify.claim import (
    PROFILES,
    Expects,
    Finding,
    Profile,
    Source,
    Status,
    Verdict,
)
from asymptest.verify.pool import Lost, unordered
from asymptest.verify.results import Header, Partial
from asymptest.verify.select import Reference, load

COMPUTING = ("asymptest.theory", "asymptest.numerics", "asymptest.verify")


@dataclass(frozen=True)
class Task:
    """All that a worker needs to check one claim."""

    reference: Reference
    profile: Profile
    seed: int
    alpha: float


def run_claims(
    references: Sequence[Reference],
    profile: Profile | str = "quick",
    seed: int = 0,
    jobs: int | None = None,
    out: Path | None = None,
    progress: Callable[[Verdict], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> list[Verdict]:
    """Return the verdicts on several claims, in their order.

    The false-alarm probability of the run, 1e-6, is shared equally by the claims. A claim
    that raises, or whose file does, or whose process dies, becomes an ERROR verdict.

    Args:
        references: which claims; see `select`.
        profile: how much to spend, or the name of a profile.
        seed: all randomness derives from it and the claims' names.
        jobs: number of processes, each with one thread; None for one a core, at most one
            a claim. 1 runs the claims in this process.
        out: the report to write. Until it is complete, the verdicts are in
            `<out>.partial`, from where the same run resumes.
        progress: called with each verdict as it is known, resumed ones first.
        note: called with what the user should know, such as that a run is resumed.

    Raises:
        ArgumentError: for no claim, an unknown profile, or `jobs` less than 1.
    """
    if not references:
        raise ArgumentError("there is no claim to run; `asymptest claims` lists them")
    if isinstance(profile, str) and profile not in PROFILES:
        raise ArgumentError(
            f"profile must be one of {', '.join(PROFILES)}; got {profile!r}"
        )
    if jobs is not None and jobs < 1:
        raise ArgumentError(f"jobs must be at least 1 process; got {jobs}")
    spend = PROFILES[profile] if isinstance(profile, str) else profile
    share = ALPHA / len(references)
    found: dict[str, Verdict] = {}
    header = header_of(references, spend, seed)
    with nullcontext() if out is None else Partial(out, header) as partial:
        if partial is not None:
            found |= partial.kept
            _report_kept(partial, len(references), note)
            for verdict in partial.kept.values():
                progress(verdict)
        missing = [
            Task(reference, spend, seed, share)
            for reference in references
            if reference.name not in found
        ]
        for verdict in _checked(missing, jobs):
            found[verdict.name] = verdict
            if partial is not None:
                partial.commit(verdict)
            progress(verdict)
        verdicts = [found[reference.name] for reference in references]
        if partial is not None:
            partial.finish(verdicts)
    return verdicts


def _report_kept(partial: Partial, total: int, note: Callable[[str], None]) -> None:
    if partial.kept:
        note(f"resuming {partial.path}: {len(partial.kept)} of {total} claims are done")
    if partial.replaced:
        note(
            f"{partial.path} was of another run (claims, profile, seed, versions or "
            f"sources differ) and has been started over"
        )


def _checked(tasks: Sequence[Task], jobs: int | None) -> Iterator[Verdict]:
    count = min(jobs or os.cpu_count() or 1, len(tasks))
    if count <= 1:
        yield from map(perform, tasks)
        return
    for index, result in unordered(perform, tasks, count):
        yield _lost(tasks[index], result) if isinstance(result, Lost) else result


def perform(task: Task) -> Verdict:
    """Check one claim; whatever loading it raises becomes an ERROR verdict."""
    try:
        claim = load(task.reference)
    except Exception as error:  # a claim file that raises is a result, not a crash
        return _failed(task, f"{type(error).__name__}: {error}")
    return check(claim, task.profile, task.seed, task.alpha)


def _lost(task: Task, lost: Lost) -> Verdict:
    return _failed(task, f"its process ended with exit code {lost.exitcode}")


def _failed(task: Task, detail: str) -> Verdict:
    return Verdict(
        name=task.reference.name,
        source=Source(task.reference.module, task.reference.attribute),
        expects=Expects.HOLDS,
        verdict=Status.ERROR,
        evidence=(Finding("error", Status.ERROR, detail=detail),),
        mutants={},
        seed=task.seed,
        profile=task.profile.name,
        seconds=0.0,
        versions=versions(),
        limits="Nothing was checked.",
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute, as in a verdict."""
    return {name: version(name) for name in PACKAGES} | {"python": python_version()}


def header_of(references: Sequence[Reference], profile: Profile, seed: int) -> Header:
    """Return what the verdicts of a run depend on."""
    return Header(
        seed=seed,
        profile=repr(profile),
        alpha=ALPHA,
        names=tuple(reference.name for reference in references),
        versions=versions(),
        sources=sources_digest({reference.module for reference in references}),
    )


def sources_digest(modules: set[str]) -> str:
    """Return a digest of this package's sources and of the given modules' own files.

    What those modules import from elsewhere is not in it.
    """
    paths: set[Path] = set()
    for package in COMPUTING:
        for folder in _spec(package).submodule_search_locations or ():
            paths |= set(Path(folder).rglob("*.py"))
    paths |= {Path(origin) for m in modules if (origin := _spec(m).origin)}
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _spec(name: str) -> importlib.machinery.ModuleSpec:
    found = sys.modules[name].__spec__ if name in sys.modules else None
    found = found or importlib.util.find_spec(name)
    assert found is not None, f"{name} has been selected, so it exists"
    return found
