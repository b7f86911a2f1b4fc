"""Working on many chunks at once: bounded in threads and in bytes, the caller helps.

There is one pool of each size for the process and no pool inside a pool. The calling thread
takes part, so a read of one chunk costs no hand-over, and a read inside a pool's thread
cannot wait for itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

from xprecomputed.options import get_options

__all__ = ["decode_slot", "run_bounded"]

T = TypeVar("T")


class _Run(Generic[T]):
    """One call of `run_bounded`, shared by the threads that work on it."""

    def __init__(
        self, tasks: Iterable[T], work: Callable[[T], None], cost: Callable[[T], int]
    ) -> None:
        self.tasks = iter(tasks)
        self.work = work
        self.cost = cost
        self.budget = get_options().read_budget_bytes
        self.in_use = 0
        self.finished = False
        self.error: BaseException | None = None
        self.changed = threading.Condition()

    def drain(self) -> None:
        """Work until no task is left or one has failed."""
        while (taken := self._take()) is not None:
            task, cost = taken
            try:
                self.work(task)
            except BaseException as error:
                self._stop(error)
            finally:
                with self.changed:
                    self.in_use -= cost
                    self.changed.notify_all()

    def _take(self) -> tuple[T, int] | None:
        with self.changed:
            if self.finished:
                return None
            try:
                task = next(self.tasks)
            except StopIteration:
                self.finished = True
                return None
            cost = self.cost(task)
            # one task is let in whatever its size, or nothing would ever move
            while self.in_use and self.in_use + cost > self.budget:
                self.changed.wait()
                if self.error is not None:
                    return None
            self.in_use += cost
            return task, cost

    def _stop(self, error: BaseException) -> None:
        with self.changed:
            self.finished = True
            self.error = self.error or error
            self.changed.notify_all()


def run_bounded(
    tasks: Iterable[T],
    work: Callable[[T], None],
    *,
    workers: int,
    cost: Callable[[T], int] = lambda _: 0,
) -> None:
    """Call ``work(task)`` for every task, on up to `workers` threads, this one included.

    Parameters
    ----------
    tasks : iterable
        Drawn from as work goes on, by one thread at a time.
    work : callable
        The first exception ends the run and is raised here, after all threads have stopped.
    workers : int
    cost : callable
        Bytes that a task holds while it is worked on; the sum stays within
        ``options.read_budget_bytes``, except for one task that is larger alone.
    """
    run = _Run(tasks, work, cost)
    helpers: list[Future[None]] = []
    if workers > 1:
        pool = _pool(workers)
        helpers = [pool.submit(run.drain) for _ in range(workers - 1)]
    try:
        run.drain()
    except BaseException as error:  # an interrupt between two tasks
        run._stop(error)
    for helper in helpers:
        if not helper.cancel():
            helper.result()
    if run.error is not None:
        raise run.error


_pools: dict[int, ThreadPoolExecutor] = {}
_slots: dict[int, threading.BoundedSemaphore] = {}
_lock = threading.Lock()


def _pool(workers: int) -> ThreadPoolExecutor:
    with _lock:
        if workers not in _pools:
            _pools[workers] = ThreadPoolExecutor(workers, f"xprecomputed-{workers}")
        return _pools[workers]


@contextmanager
def decode_slot() -> Iterator[None]:
    """Hold one of ``options.decode_threads`` places: more decoders than cores only wait."""
    count = get_options().decode_threads
    with _lock:
        slot = _slots.setdefault(count, threading.BoundedSemaphore(count))
    with slot:
        yield


def _forget_after_fork() -> None:
    # threads do not survive a fork, and locks may have been held by one of them
    global _pools, _slots, _lock
    _pools, _slots, _lock = {}, {}, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
