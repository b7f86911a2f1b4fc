"""Working on many chunks at once: bounded in threads and in bytes, the caller helps.

There is one pool of each size for the process and no pool inside a pool. The calling thread
takes part, so a read of one chunk costs no hand-over, and a read inside a pool's thread
cannot wait for itself.

Work can be given up: after the first error, at an interrupt, and when the interpreter ends.
Whoever would sleep or try again for it asks `is_given_up` and sleeps in `pause`.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Generic, TypeVar

from xprecomputed.errors import StorageError
from xprecomputed.options import get_options

__all__ = ["Slots", "Undertaking", "decode_slot", "is_given_up", "pause", "run_bounded"]

T = TypeVar("T")

#: Shorter tasks are mostly Python, of which only one thread at a time can do any.
WORTHWHILE_S = 0.0001


class Undertaking:
    """What several threads do together, and may give up together.

    Examples
    --------
    >>> writing = Undertaking()
    >>> with writing.joined():
    ...     writing.give_up()
    ...     is_given_up()
    True
    >>> is_given_up()
    False
    """

    def __init__(self) -> None:
        self.given_up = False

    def give_up(self) -> None:
        """Wake those who `pause` for it; what they do now they do to its end."""
        self.given_up = True
        with _stops:
            _stops.notify_all()

    @contextmanager
    def joined(self) -> Iterator[None]:
        """While this thread works for it, and for what it worked for before."""
        with _working_for((*_joined(), self)):
            yield


def is_given_up() -> bool:
    """Whether nobody waits any more for what this thread does; False if it works alone."""
    return _is_given_up(_joined())


def pause(seconds: float) -> bool:
    """Sleep, but not for what is given up.

    Parameters
    ----------
    seconds : float

    Returns
    -------
    bool
        Whether to go on.

    Examples
    --------
    >>> pause(0.01)
    True
    """
    joined = _joined()
    with _stops:
        return not _stops.wait_for(lambda: _is_given_up(joined), seconds)


def _is_given_up(joined: tuple[Undertaking, ...]) -> bool:
    return any(each.given_up for each in joined) or (_is_ending and bool(joined))


def _joined() -> tuple[Undertaking, ...]:
    joined: tuple[Undertaking, ...] = getattr(_here, "joined", ())
    return joined


@contextmanager
def _working_for(joined: tuple[Undertaking, ...]) -> Iterator[None]:
    before = _joined()
    _here.joined = joined
    try:
        yield
    finally:
        _here.joined = before


class Slots:
    """``with slots:`` holds one of so many places; a semaphore of one call in C."""

    __slots__ = ("_free",)

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(count):
            self._free.put(None)

    def __enter__(self) -> None:
        self._free.get()

    def __exit__(self, *_: object) -> None:
        self._free.put(None)


class _Run(Undertaking, Generic[T]):
    """One call of `run_bounded`, shared by the threads that work on it."""

    def __init__(
        self,
        tasks: Iterable[T],
        work: Callable[[T], None],
        cost: Callable[[T], int],
        workers: int,
    ) -> None:
        super().__init__()
        self.workers = workers
        #: Of the caller: what it works for may be given up, and this with it.
        self.joined_before = _joined()
        self.is_daemon = threading.current_thread().daemon
        self.tasks = iter(tasks)
        self.work = work
        self.cost = cost
        self.budget = get_options().read_budget_bytes
        self.in_use = 0
        self.finished = False
        self.error: BaseException | None = None
        self.changed = threading.Condition()

    def drain(self, after_a_while: Callable[[], None] | None = None, alone_s: float = 0.0) -> None:
        """Work until no task is left or one has failed.

        `after_a_while` is called once, if there is still something to do after `alone_s`, each
        task takes long enough to be worth it, and not as many runs are under way already.
        """
        began, done = time.monotonic(), 0
        # in a thread of somebody's pool, others of it may be about to begin
        at_once = not alone_s and threading.current_thread() is threading.main_thread()
        with _working_for((*self.joined_before, self)):
            while (taken := self._take()) is not None:
                if after_a_while is not None and (done or at_once):
                    spent_s = time.monotonic() - began
                    is_worth_it = spent_s >= max(alone_s, WORTHWHILE_S * done)
                    if is_worth_it and len(set(_callers)) < self.workers:
                        after_a_while()
                        after_a_while = None
                done += 1
                task, cost = taken
                try:
                    self.work(task)
                except BaseException as error:
                    self.stop(error)
                finally:
                    with self.changed:
                        self.in_use -= cost
                        self.changed.notify_all()

    def help(self) -> None:
        """`drain`, in a thread of the pool."""
        try:
            self.drain()
        except BaseException as error:
            self.stop(error)

    def _take(self) -> tuple[T, int] | None:
        with self.changed:
            if _is_ending and self.is_daemon and not self.finished:
                # the pool's threads are waited for, though the caller is not
                self.stop(StorageError("given up, because the interpreter ends"))
            if any(each.given_up for each in self.joined_before) and not self.finished:
                self.stop(StorageError("given up, because nobody waits for it any more"))
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

    def stop(self, error: BaseException) -> None:
        """Begin no further task; `error` is for the caller, if it is the first."""
        with self.changed:
            self.finished = True
            self.error = self.error or error
            self.changed.notify_all()
        self.give_up()


def run_bounded(
    tasks: Iterable[T],
    work: Callable[[T], None],
    *,
    workers: int,
    cost: Callable[[T], int] = lambda _: 0,
    alone_s: float | None = None,
) -> None:
    """Call ``work(task)`` for every task, on up to `workers` threads, this one included.

    Parameters
    ----------
    tasks : iterable
        Drawn from as work goes on, by one thread at a time.
    work : callable
        The first exception ends the run and is raised here, after all threads have stopped.
        They stop soon: what is asked for is not asked for again.
    workers : int
    cost : callable
        Bytes that a task holds while it is worked on; the sum stays within
        ``options.read_budget_bytes``, except for one task that is larger alone.
    alone_s : float, optional
        For tasks that need a processor, and do not wait for answers: no other threads are woken
        where as many such runs are under way, as under dask's threads, nor within these seconds,
        nor for tasks that take less than `WORTHWHILE_S`: to wake them takes as long, and then
        all wait for the GIL.
    """
    run = _Run(tasks, work, cost, workers)
    helpers: list[Future[None]] = []

    def call_for_help() -> None:
        pool = _pool(workers)
        others = 1 if alone_s is None else len(set(_callers))
        helpers.extend(pool.submit(run.help) for _ in range(workers - others))

    me = threading.get_ident()
    if alone_s is not None:
        _callers.append(me)
    try:
        if workers > 1 and alone_s is None:
            call_for_help()
        later = call_for_help if workers > 1 and alone_s is not None else None
        run.drain(later, alone_s or 0.0)
        _wait_for(helpers)
    except BaseException as error:  # an interrupt, between two tasks or after the last
        run.stop(error)
        _wait_for(helpers)
        raise
    finally:
        if alone_s is not None:
            _callers.remove(me)
    if run.error is not None:
        raise run.error


def _wait_for(helpers: Iterable[Future[None]]) -> None:
    for helper in helpers:
        if not helper.cancel():
            helper.result()


_pools: dict[int, ThreadPoolExecutor] = {}
#: Threads that work at runs with `alone_s`, as often as one run is inside of another.
_callers: list[int] = []
_slots: dict[int, Slots] = {}
_lock = threading.Lock()
_here = threading.local()
#: Guards nothing but sleep: somebody has given something up.
_stops = threading.Condition()
_is_ending = False


def _pool(workers: int) -> ThreadPoolExecutor:
    with _lock:
        if workers not in _pools:
            _pools[workers] = ThreadPoolExecutor(workers, f"xprecomputed-{workers}")
        return _pools[workers]


def decode_slot() -> Slots:
    """``with decode_slot():`` holds one of ``options.decode_threads`` places.

    More decoders than cores would only wait for one another.
    """
    count = get_options().decode_threads
    slots = _slots.get(count)
    if slots is None:
        with _lock:
            slots = _slots.setdefault(count, Slots(count))
    return slots


def _forget_after_fork() -> None:
    # threads do not survive a fork, and locks may have been held by one of them
    global _pools, _callers, _slots, _lock, _stops
    _pools, _callers, _slots = {}, [], {}
    _lock, _stops = threading.Lock(), threading.Condition()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


def _end() -> None:
    global _is_ending
    _is_ending = True
    with _stops:
        _stops.notify_all()


# before the threads of pools are waited for, which is before anything in atexit
getattr(threading, "_register_atexit", atexit.register)(_end)
