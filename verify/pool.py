"""Worker processes that survive their tasks' crashes and die with their parent.

The standard pools either wait for ever for a worker that was killed, or give up all
tasks with it. Here a lost worker costs the task it was on, and stopping takes no longer
than it takes to kill.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Lost:
    """What comes of a task whose worker died: its exit code, negative for a signal."""

    exitcode: int | None


@dataclass
class Worker:
    """A process, the pipe to it, and the number of the task that it is on."""

    process: BaseProcess
    pipe: Connection
    task: int | None = None


def unordered(
    function: Callable[[Task], Result], tasks: Sequence[Task], jobs: int
) -> Generator[tuple[int, Result | Lost], None, None]:
    """Yield (index, function(task)) as the tasks are done, each by one of `jobs` processes.

    Args:
        function: a module's function that catches its own exceptions.
        tasks: what can be pickled.
        jobs: number of processes.
    """
    waiting = list(reversed(range(len(tasks))))
    workers: list[Worker] = []
    try:
        for _ in range(min(jobs, len(tasks))):
            workers.append(_start(function))
        busy = [w for w in workers if _next(w, tasks, waiting)]
        while busy:
            ready = wait([w.pipe for w in busy])
            for worker in [w for w in busy if w.pipe in ready]:
                index = worker.task
                assert index is not None
                try:
                    result = worker.pipe.recv()
                except (EOFError, ConnectionError):
                    worker.process.join()
                    result = Lost(worker.process.exitcode)
                    busy.remove(worker)
                    if waiting:
                        worker = _start(function)
                        workers.append(worker)
                        busy.append(worker)
                if worker in busy and not _next(worker, tasks, waiting):
                    busy.remove(worker)
                yield index, result
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()
            worker.pipe.close()


def _start(function: Callable[[Any], Any]) -> Worker:
    # A fresh interpreter: a fork would inherit torch's threads in an undefined state.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # so that the pipe ends when the worker does
    ours.send(function)
    return Worker(process, ours)


def _next(worker: Worker, tasks: Sequence[Any], waiting: list[int]) -> bool:
    if not waiting:
        return False
    worker.task = waiting.pop()
    with suppress(ConnectionError):  # it has died: its end of the pipe says so
        worker.pipe.send(tasks[worker.task])
    return True


def _work(pipe: Connection) -> None:
    """Do what comes through the pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_follow_parent, daemon=True).start()
    # Before NumPy is loaded, which happens when the function arrives.
    os.environ.update(dict.fromkeys(THREADS, "1"))
    function = pipe.recv()
    while True:
        try:
            task = pipe.recv()
        except (EOFError, ConnectionError):
            return
        pipe.send(function(task))


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)  # the parent was killed, and nobody waits for the result
