"""Independent work on all cores: a thread a core, and BLAS on one thread inside each."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result], items: Iterable[Item]
) -> list[Result]:
    """Return function(item) for each item, in order.

    Threads share the work, so NumPy's products, which leave the interpreter's lock, run at
    once. BLAS's own threads beside them would wait for each other instead of working.
    """
    blas = _controller().limit(limits=1, user_api="blas")
    with blas, ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


@cache
def _controller() -> Any:
    return ThreadpoolController()  # finds the libraries: once, since it takes a while
