"""Independent work on all cores: a thread a core, and BLAS on one thread inside each."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")

_SHARED: ContextVar[bool] = ContextVar("_SHARED", default=False)


def parallel_map(
    function: Callable[[Item], Result], items: Iterable[Item]
) -> list[Result]:
    """Return function(item) for each item, in order; inside another parallel_map one by one.

    Threads share the work, so NumPy's loops, which leave the interpreter's lock, run at once.
    BLAS's own threads beside them would wait for each other instead of working.
    """
    work = list(items)
    if len(work) < 2 or _SHARED.get():
        return list(map(function, work))

    def run(item: Item) -> Result:
        _SHARED.set(True)
        return function(item)

    contexts = [copy_context() for _ in work]  # NumPy's treatment of errors is in them
    blas = _controller().limit(limits=1, user_api="blas")
    with blas, ThreadPoolExecutor(min(cores(), len(work))) as pool:
        return list(
            pool.map(lambda context, item: context.run(run, item), contexts, work)
        )


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _controller() -> Any:
    return ThreadpoolController()  # finds the libraries: once, since it takes a while
