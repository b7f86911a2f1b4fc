"""Counting what a piece of code asks of the stores: ``with trace() as t: ...``."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Trace", "record_filled", "record_hit", "record_request", "record_retry", "trace"]


@dataclass(slots=True)
class Trace:
    """What happened in this process while the ``with`` block was open.

    Attributes
    ----------
    requests : int
        Objects or ranges asked of a store.
    bytes : int
        Stored (compressed) bytes received or sent.
    retries : int
        Requests repeated after a failure.
    filled : int
        Chunks that do not exist and became the fill value.
    hits : int
        Objects or ranges that a cache gave, without a request.
    objects : collections.Counter
        Requests by object, ``url/key``.
    """

    requests: int = 0
    bytes: int = 0
    retries: int = 0
    filled: int = 0
    hits: int = 0
    objects: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"{self.requests} requests, {self.bytes:,} bytes, "
            f"{self.retries} retries, {self.filled} filled chunks"
            + (f", {self.hits} from a cache" if self.hits else "")
        )


_active: tuple[Trace, ...] = ()
_lock = threading.Lock()


@contextmanager
def trace() -> Iterator[Trace]:
    """Count requests, bytes, retries and filled chunks of the whole process.

    All threads are counted, since reads run on several; other processes (dask workers)
    are not.

    Yields
    ------
    Trace

    Examples
    --------
    >>> with trace() as t:
    ...     pass
    >>> print(t)
    0 requests, 0 bytes, 0 retries, 0 filled chunks
    """
    global _active
    one = Trace()
    with _lock:
        _active = (*_active, one)
    try:
        yield one
    finally:
        with _lock:
            _active = tuple(each for each in _active if each is not one)


def record_request(name: str, nbytes: int) -> None:
    """Count one request for the object `name` that brought or took `nbytes` bytes."""
    if not _active:
        return
    with _lock:
        for each in _active:
            each.requests += 1
            each.bytes += nbytes
            each.objects[name] += 1


def record_retry() -> None:
    """Count one repeated request."""
    with _lock:
        for each in _active:
            each.retries += 1


def record_hit() -> None:
    """Count one answer of a cache."""
    if not _active:
        return
    with _lock:
        for each in _active:
            each.hits += 1


def record_filled(chunks: int) -> None:
    """Count `chunks` chunks that became the fill value."""
    with _lock:
        for each in _active:
            each.filled += chunks
