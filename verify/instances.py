"""Instances and seeds: everything random replays from (seed, claim, instance)."""

import dataclasses
import hashlib
from random import Random
from typing import Any

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import NoSuchExample
from hypothesis.strategies import SearchStrategy

SLOW_IS_FINE = (
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
)


def derive(*parts: Any) -> int:
    """Return a 64-bit seed that is a function of the parts, arrays by their contents."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(_bytes(part) + b"\0")
    return int.from_bytes(digest.digest())


def _bytes(part: Any) -> bytes:
    if isinstance(part, np.ndarray):
        return f"{part.dtype}{part.shape}".encode() + part.tobytes()
    if isinstance(part, tuple | list):
        return b"(" + b",".join(map(_bytes, part)) + b")"
    if isinstance(part, dict):
        return _bytes(sorted(part.items()))
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        # Not its repr, which may abbreviate an array.
        fields = [getattr(part, f.name) for f in dataclasses.fields(part)]
        return type(part).__name__.encode() + _bytes(fields)
    return repr(part).encode()


def rng_for(*parts: Any) -> np.random.Generator:
    """Return a generator seeded from the parts."""
    return np.random.default_rng(derive(*parts))


def search_settings(examples: int, shrink: bool) -> Any:
    """Return settings for a search that depends on nothing but its seed."""
    phases = (Phase.generate, Phase.target, *((Phase.shrink,) if shrink else ()))
    return settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        phases=phases,
        suppress_health_check=SLOW_IS_FINE,
        print_blob=False,
    )


def search(
    strategy: SearchStrategy[Any],
    fails: Any,
    examples: int,
    seed: int,
    shrink: bool = True,
) -> tuple[Any, ...]:
    """Return an instance for which `fails` holds, the smallest if it may shrink, or ().

    In a tuple, since an instance may be None itself.
    """
    chosen = search_settings(examples, shrink)
    try:
        found = hypothesis.find(strategy, fails, settings=chosen, random=Random(seed))
    except NoSuchExample:
        return ()
    return (found,)


def draw(strategy: SearchStrategy[Any], count: int, seed: int) -> list[Any]:
    """Return up to `count` instances.

    Hypothesis starts with the simplest instance, often a degenerate one that tells no
    mutant apart; it is passed over unless it is the only one.
    """
    found: list[Any] = []

    def keep(instance: Any) -> bool:
        found.append(instance)
        return False

    search(strategy, keep, count + 1, seed)
    return (found[1:] or found)[:count]
