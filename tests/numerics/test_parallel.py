"""Threads that share work: in order, not nested, in the caller's context."""

import threading

import numpy as np
import pytest

from asymptest.numerics import parallel
from asymptest.numerics.parallel import cores, parallel_map


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 3)


def test_results_come_in_order_from_several_threads() -> None:
    together = threading.Barrier(
        3, timeout=20
    )  # passes once three wait at the same time

    def square(k: int) -> int:
        together.wait()
        return k * k

    assert parallel_map(square, range(6)) == [0, 1, 4, 9, 16, 25]


def test_inside_another_map_items_come_one_by_one() -> None:
    def inner(_: int) -> set[int]:
        return {
            threading.get_ident() for _ in parallel_map(lambda k: k, range(4))
        } | set(parallel_map(lambda _: threading.get_ident(), range(4)))

    assert all(len(found) == 1 for found in parallel_map(inner, range(3)))
    # The mark does not stay behind.
    waiting = threading.Barrier(3, timeout=20)
    parallel_map(lambda _: waiting.wait(), range(3))


def test_the_callers_treatment_of_errors_holds() -> None:
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        parallel_map(lambda x: np.ones(1) / x, [np.ones(1), np.zeros(1)])
    with np.errstate(divide="ignore"):
        one, other = parallel_map(lambda x: np.ones(1) / x, [np.ones(1), np.zeros(1)])
    assert (one[0], other[0]) == (1, np.inf)


def test_cores_are_those_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {4, 7}, raising=False)
    assert cores() == 2
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    assert cores() == 5
