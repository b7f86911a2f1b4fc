"""A remote storage behind the caches of this process and of this machine.

Only chunks and shards are read through it, never what can change under the same address as a
matter of course. What is remembered is not compared with the store: it stays until a write of
this process, `forget` or a reader that finds two versions of one object drops it.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from xprecomputed.codecs import Bytes
from xprecomputed.errors import PrecomputedWarning
from xprecomputed.options import as_cache_dir, get_options
from xprecomputed.storage.base import Blob, Entry, Location, Storage, Unchanged
from xprecomputed.storage.batches import FileBatches
from xprecomputed.storage.caching.disk import DiskCache
from xprecomputed.storage.caching.memory import memory_cache
from xprecomputed.tracing import record_hit

__all__ = ["CachedStorage", "cached", "forget_everywhere", "forgetting", "uncached"]

T = TypeVar("T")
Ask = Callable[[], "Blob | None"]


class _Flight:
    """A request under way, that others who want the same wait for."""

    def __init__(self, address: str) -> None:
        self.address = address
        #: Set when a write makes the answer one of before.
        self.forgotten = threading.Event()
        #: False where the request failed.
        self.answer: Future[Blob | bool | None] = Future()

    def land(self, answer: Blob | bool | None) -> None:
        """Give the answer to those who wait, once."""
        if not self.answer.done():
            self.answer.set_result(answer)


#: Requests under way, and the folders of all disk caches of this process.
_flights: dict[Hashable, _Flight] = {}
_directories: set[str] = set()
#: Folders into which this process has written: a disk cache that it meets later may be older.
_written: set[str] = set()
_guard = threading.Lock()


def _forget_after_fork() -> None:
    # the threads that would answer are not in the child
    global _guard
    _guard = threading.Lock()
    _flights.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


def forget_everywhere(address: str, *, below: bool = False) -> None:
    """Drop an object from all caches of this process, on disks too.

    Called after each write, also one that failed: what was asked for before is not kept.

    Parameters
    ----------
    address : str
        `Storage.identity` of its key.
    below : bool
        Everything below that address as well.
    """
    _end_flights(address, below)
    with _guard:
        directories = set(_directories)
        _written.add(address if below else address.rpartition("/")[0])
    if (directory := get_options().cache_dir) is not None:
        directories.add(directory)
    for each in directories:
        disk = DiskCache(each, 0)
        if below:
            disk.clear(address)
        else:
            disk.forget(address)
    # who began in between has found the old bytes on the disk, and must not keep them in memory
    _end_flights(address, below)
    memory_cache.forget(address)
    if below:
        for group in memory_cache.groups():
            if _is_below(str(group), address):
                memory_cache.forget(group)


def _end_flights(address: str, below: bool) -> None:
    with _guard:
        for key, flight in list(_flights.items()):
            if flight.address == address or (below and _is_below(flight.address, address)):
                flight.forgotten.set()
                del _flights[key]


@contextmanager
def forgetting(storage: Storage, key: str, *, below: bool = False) -> Iterator[None]:
    """Whatever becomes of a write in this block, nothing of before is kept after it."""
    try:
        yield
    finally:
        if not storage.is_local:
            forget_everywhere(storage.identity(key), below=below)


def _is_below(address: str, folder: str) -> bool:
    return address.startswith(f"{folder.rstrip('/')}/")


@dataclass(frozen=True, slots=True)
class CachedStorage(Storage):
    """A storage whose answers to `get` and `get_range` are remembered. Frozen, picklable.

    What is missing and what failed is asked for again each time. Of objects whose store tells
    no version only whole ones are remembered: two ranges might be of two versions.

    Parameters
    ----------
    inner : Storage
    cache_dir : str or None
        Folder of the cache on disk; None: memory alone.
    max_bytes : int
        Bound of that folder.
    """

    inner: Storage
    cache_dir: str | None
    max_bytes: int

    @property
    def disk(self) -> DiskCache | None:
        """The cache on disk, if there is one."""
        if self.cache_dir is None:
            return None
        if self.cache_dir not in _directories:
            with _guard:
                _directories.add(self.cache_dir)
        return DiskCache(self.cache_dir, self.max_bytes)

    @property
    def url(self) -> str:  # noqa: D102 - inherited
        return self.inner.url

    @property
    def is_local(self) -> bool:  # noqa: D102
        return self.inner.is_local

    @property
    def has_plain_address(self) -> bool:  # noqa: D102
        return self.inner.has_plain_address

    def get(self, key: str, max_bytes: int | None = None) -> Blob | None:  # noqa: D102
        return self._answer(key, None, None, max_bytes, lambda: self.inner.get(key, max_bytes))

    def get_range(self, key: str, start: int, stop: int) -> Blob | None:  # noqa: D102
        return self._answer(key, start, stop, None, lambda: self.inner.get_range(key, start, stop))

    def get_part(self, key: str, start: int, stop: int, whole_bytes: int) -> bytes | None:
        """None: objects are kept whole."""
        del key, start, stop, whole_bytes
        return None

    def batches(self, key: str, count: int) -> FileBatches | None:
        """None: objects are kept whole."""
        del key, count
        return None

    def forget(self, key: str) -> None:  # noqa: D102
        self.inner.forget(key)
        forget_everywhere(self.identity(key))

    def cached_keys(self, folder: str) -> set[str]:
        """Keys of the objects below a folder of which something is remembered.

        Raises
        ------
        AccessDeniedError, StorageError
            The cache on disk cannot be read.
        """
        home = self.identity(folder)
        addresses = {str(each) for each in memory_cache.groups()}
        if self.disk is not None:
            addresses |= {each.address for each in self.disk.entries(home)}
        parent = f"{folder}/" if folder else ""
        mark = f"{home.rstrip('/')}/"
        return {parent + each.removeprefix(mark) for each in addresses if each.startswith(mark)}

    def _answer(
        self, key: str, start: int | None, stop: int | None, max_bytes: int | None, ask: Ask
    ) -> Blob | None:
        address = self.identity(key)
        blob: Blob | None = memory_cache.get((address, start, stop))
        if blob is not None and _fits(blob, max_bytes):
            record_hit()
            return blob
        wanted = self, key, start, stop, max_bytes
        mine = _Flight(address)
        try:
            with _guard:
                flight = _flights.setdefault(wanted, mine)
            if flight is mine:
                return self._fly(mine, start, stop, max_bytes, ask)
        finally:
            mine.land(False)  # of an interrupt
            with _guard:
                if _flights.get(wanted) is mine:
                    del _flights[wanted]
        answer = flight.answer.result()
        if isinstance(answer, bool):  # the errors of others are not reported
            return ask()
        if answer is not None:
            record_hit()
        return answer

    def _fly(
        self,
        flight: _Flight,
        start: int | None,
        stop: int | None,
        max_bytes: int | None,
        ask: Ask,
    ) -> Blob | None:
        address, disk = flight.address, self.disk
        blob = None
        if disk is not None:
            # a larger one is for the store to judge: it may have been replaced
            blob = disk.get(address, start, stop, max_bytes=max_bytes)
        if blob is not None:
            record_hit()
            disk = None  # where it is
        else:
            blob = ask()
        flight.land(blob)
        if blob is not None and not flight.forgotten.is_set():
            _remember(disk, address, start, stop, blob)
            if flight.forgotten.is_set():  # while it was put away
                forget_everywhere(address)
        return blob

    def put(  # noqa: D102
        self,
        key: str,
        data: Bytes,
        *,
        encoding: str | None = None,
        cache_control: str | None = None,
        only_if: Unchanged | None = None,
    ) -> None:
        with forgetting(self, key):
            self.inner.put(
                key, data, encoding=encoding, cache_control=cache_control, only_if=only_if
            )

    def put_parts(  # noqa: D102
        self,
        key: str,
        parts: Iterable[Bytes],
        *,
        cache_control: str | None = None,
        only_if: Unchanged | None = None,
    ) -> None:
        with forgetting(self, key):
            self.inner.put_parts(key, parts, cache_control=cache_control, only_if=only_if)

    def delete(self, key: str) -> bool:  # noqa: D102
        with forgetting(self, key):
            return self.inner.delete(key)

    def delete_tree(self, key: str) -> None:  # noqa: D102
        with forgetting(self, key, below=True):
            self.inner.delete_tree(key)

    def update(  # noqa: D102
        self, key: str, work: Callable[[Unchanged | None], T], *, anyway: bool = False
    ) -> T:
        def work_on_fresh(only_if: Unchanged | None) -> T:
            self.forget(key)  # also before it is repeated
            return work(only_if)

        with forgetting(self, key):
            return self.inner.update(key, work_on_fresh, anyway=anyway)

    def identity(self, key: str) -> str:  # noqa: D102
        return self.inner.identity(key)

    def fingerprint(self, key: str) -> Hashable:  # noqa: D102
        return self.inner.fingerprint(key)

    def size(self, key: str) -> int | None:  # noqa: D102
        return self.inner.size(key)

    def list_dir(self, key: str) -> Iterator[Entry]:  # noqa: D102
        return self.inner.list_dir(key)

    @property
    def is_private(self) -> bool:  # noqa: D102
        return self.inner.is_private

    def for_strangers(self, url: str) -> dict[str, Any]:  # noqa: D102
        return self.inner.for_strangers(url)

    @property
    def has_headers(self) -> bool:  # noqa: D102
        return self.inner.has_headers

    @property
    def has_locks(self) -> bool:  # noqa: D102
        return self.inner.has_locks

    def exclusive(self, key: str) -> AbstractContextManager[None]:  # noqa: D102
        return self.inner.exclusive(key)


def _fits(blob: Blob, max_bytes: int | None) -> bool:
    return max_bytes is None or len(blob.data) <= max_bytes


def _remember(
    disk: DiskCache | None, address: str, start: int | None, stop: int | None, blob: Blob
) -> None:
    if start is not None and stop is not None:
        if blob.version is None:
            return
        if len(blob.data) != stop - start:  # the object ends there, or seems to
            return
    memory_cache.put((address, start, stop), blob, len(blob.data), address)
    if disk is not None:
        disk.put(address, start, stop, blob)


def uncached(location: Location) -> Location:
    """The same place, asked for anew each time."""
    storage = location.storage
    return Location(storage.inner if isinstance(storage, CachedStorage) else storage, location.key)


def cached(location: Location, cache_dir: str | os.PathLike[str] | None = None) -> Location:
    """The same place behind the caches that are asked for, if it is remote.

    Parameters
    ----------
    location : Location
    cache_dir : str or path-like, optional
        Instead of ``options.cache_dir``.

    Raises
    ------
    ValueError
        `cache_dir` is no local path.

    Examples
    --------
    >>> from xprecomputed.storage import locate_url
    >>> place = locate_url("memory://doc/cached")
    >>> cached(place, "/tmp/cache") is place  # memory needs no cache
    True
    """
    options = get_options()
    directory = options.cache_dir if cache_dir is None else as_cache_dir(cache_dir)
    storage = location.storage
    if storage.is_local or isinstance(storage, CachedStorage):
        return location
    if directory is None and not options.memory_cache_bytes:
        return location
    if directory is not None:
        with _guard:
            older = () if directory in _directories else tuple(_written)
            _directories.add(directory)
        for folder in older:
            DiskCache(directory, 0).clear(folder)
    if not storage.has_plain_address:
        warnings.warn(
            f"{location.url}: not cached, because it may be told from other places only by its "
            "storage_options, by a chain or by a part of the URL that is kept secret",
            PrecomputedWarning,
            stacklevel=3,
        )
        return location
    return Location(CachedStorage(storage, directory, options.cache_bytes), location.key)
