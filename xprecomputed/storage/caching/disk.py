"""Stored bytes of remote objects and ranges in a local folder, for all processes together.

Own code, since diskcache unpickles what it finds, has not been released since 2023 and lets its
bound be exceeded, and the caches of fsspec keep whole files without a bound.

Everything lies in one folder inside of the one that was named: a tree that mirrors the addresses,
with a file for each object or range. Changes are made by one process at a time, under a lock, and
a ledger holds the sum of all bytes: never less than there are, also when a process is killed,
so the bound is strict. Whoever finds no ledger counts the files. A reader takes no lock.
"""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from xprecomputed.errors import PrecomputedWarning
from xprecomputed.storage._files import BINARY, create, explained, remove, replacing
from xprecomputed.storage._locks import memory_lock
from xprecomputed.storage.base import Blob
from xprecomputed.storage.caching.files import (
    MOST_CUT,
    CacheEntry,
    CacheFile,
    address_of,
    containers,
    head_of,
    paths_of,
    range_of,
    read_file,
)
from xprecomputed.storage.caching.ledger import CountedFile, Ledger, locked, walk

__all__ = ["CacheEntry", "DiskCache"]

#: The folder that is ours alone; another format would have another name.
OWN = "xprecomputed-1"
LEDGER, LOCK = ".ledger", ".lock"
#: What is used is marked so at most this often: a hit costs no write.
TOUCH_S = 60
#: A full cache is emptied down to this part of its bound, so that files are seldom counted.
KEPT = 0.9
#: Where no lock keeps others out, an unfinished file of that age is one of the dead.
UNFINISHED_S = 3600

#: Folders whose failure was told in this process, and those that hold what is stale.
_warned: set[str] = set()
_unusable: set[str] = set()


@dataclass(frozen=True, slots=True)
class DiskCache:
    """Objects and ranges of them in a local folder, least recently used go first.

    Nothing that goes wrong here is raised: what cannot be kept or read is not there, and one
    `PrecomputedWarning` a folder says why. Nobody but the owner may read the folder. Nothing
    is asked of a store: what was replaced there by others stays until it is forgotten.

    Parameters
    ----------
    directory : str
        Absolute; made where it is missing.
    max_bytes : int
        Of all files together, whoever wrote them; kept by each write.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     cache = DiskCache(folder, max_bytes=1000)
    ...     cache.put("gs://bucket/layer/1_1_1/00.shard", 100, 106, Blob(b"values"))
    ...     cache.get("gs://bucket/layer/1_1_1/00.shard", 102, 105)
    Blob(data=b'lue', encoding=None)
    """

    directory: str
    max_bytes: int

    @property
    def root(self) -> str:
        """The folder of the cache; it holds nothing else."""
        return os.path.join(self.directory, OWN)

    def get(
        self,
        address: str,
        start: int | None = None,
        stop: int | None = None,
        *,
        max_bytes: int | None = None,
    ) -> Blob | None:
        """A whole object or a range of it; None if it is not kept, or damaged.

        A range is also cut out of a kept one that holds it.

        Parameters
        ----------
        address : str
            Of the object, without credentials.
        start, stop : int, optional
            Bytes ``[start, stop)``; without: the whole object.
        max_bytes : int, optional
            A larger one is not given.
        """
        if self.directory in _unusable:
            return None
        try:
            return self._find(address, start, stop, max_bytes)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._warn(error)
            return None

    def put(self, address: str, start: int | None, stop: int | None, blob: Blob) -> None:
        """Keep an object or a range of it, if it can be kept and is not larger than the cache.

        Parameters
        ----------
        address : str
        start, stop : int or None
            Both None: the whole object.
        blob : Blob
            One whose version is neither text, number, None nor a tuple of them is not kept.
        """
        head = head_of(address, start, stop, blob)
        if head is None or self.directory in _unusable:
            return
        nbytes = len(head) + len(blob.data)
        if nbytes > self.max_bytes:
            return
        with self._forgiving():
            path = self._path(address, start, stop)
            with self._ledger() as ledger:
                total = ledger.total
                if total + nbytes > self.max_bytes:
                    most = min(int(KEPT * self.max_bytes), self.max_bytes - nbytes)
                    total = self._evict(most, alone=ledger.alone)
                replaced = _size(path)
                ledger.note(total + nbytes)  # who is killed now leaves too large a sum
                try:
                    with replacing(path) as write:
                        write(head)
                        write(blob.data)
                finally:
                    ledger.note(total - replaced + _size(path))

    def forget(self, address: str) -> None:
        """Drop an object and all its ranges; where that fails, this process reads nothing more."""
        _, whole, ranges = self._paths(address)
        self._drop(whole, ranges)

    def clear(self, prefix: str | None = None) -> None:
        """Drop everything, or an address and everything below it."""
        if prefix is None:
            self._drop(*(os.path.join(self.root, each) for each in self._folders()))
        else:
            self._drop(*self._paths(prefix.rstrip("/")))

    def entries(self, prefix: str | None = None) -> Iterator[CacheEntry]:
        """What is kept, in any order; of an address and everything below it, or all.

        Raises
        ------
        AccessDeniedError, StorageError
            The folder cannot be read.
        """
        places = [self.root] if prefix is None else self._paths(prefix.rstrip("/"))
        with explained(self.root):
            for each in (file for place in places for file in walk(place)):
                relative = os.path.relpath(each.path, self.root)
                named = address_of(relative) or _told_by(each.path)
                if named is not None:
                    yield CacheEntry(*named, each.nbytes, each.used_ns / 1e9)

    @property
    def nbytes(self) -> int:
        """Bytes of all files that are kept; they are counted.

        Raises
        ------
        AccessDeniedError, StorageError
            The folder cannot be read.
        """
        with explained(self.root):
            return sum(each.nbytes for each in walk(self.root))

    def _paths(self, address: str) -> tuple[str, str, str]:
        below, whole, ranges = (os.path.join(self.root, each) for each in paths_of(address))
        return below, whole, ranges

    def _path(self, address: str, start: int | None, stop: int | None) -> str:
        _, whole, ranges = self._paths(address)
        return whole if start is None or stop is None else range_of(ranges, start, stop)

    def _folders(self) -> list[str]:
        with suppress(OSError):
            return [each for each in os.listdir(self.root) if not each.startswith(".")]
        return []

    def _find(
        self, address: str, start: int | None, stop: int | None, max_bytes: int | None
    ) -> Blob | None:
        found = _open(self._path(address, start, stop), max_bytes)
        if found is not None and (found.address, found.start, found.stop) == (address, start, stop):
            return found.blob
        if start is None or stop is None:
            return None
        _, whole, ranges = self._paths(address)
        for path in (*containers(ranges, start, stop), whole):
            found = _open(path, MOST_CUT)
            if found is None or found.address != address or found.blob.encoding is not None:
                continue
            first = found.start or 0
            if first <= start and stop - first <= len(found.blob.data):
                data = found.blob.data[start - first : stop - first]
                return Blob(data, None, found.blob.version)
        return None

    def _evict(self, most: int, *, alone: bool) -> int:
        """Remove what was not used for longest until at most so many bytes are left."""
        files = sorted(self._count(alone=alone))
        total = sum(each.nbytes for each in files)
        emptied = set()
        for each in files:
            if total <= most:
                break
            remove(each.path)
            total -= each.nbytes
            emptied.add(os.path.dirname(each.path))
        for folder in emptied:
            self._prune(folder)
        return total

    def _prune(self, folder: str) -> None:
        with suppress(OSError):  # not empty
            while len(folder) > len(self.root):
                os.rmdir(folder)
                folder = os.path.dirname(folder)

    def _count(self, *, alone: bool) -> list[CountedFile]:
        """All files; what killed processes left is removed."""
        oldest = time.time() - UNFINISHED_S
        for each in walk(self.root, unfinished=True):
            if alone or each.used_ns / 1e9 < oldest:
                remove(each.path)
        return list(walk(self.root))

    def _drop(self, *paths: str) -> None:
        if not any(os.path.lexists(each) for each in paths):
            return
        try:
            with self._ledger() as ledger:
                gone = 0
                for path in paths:
                    gone += sum(each.nbytes for each in walk(path))
                    _remove_all(path)
                    self._prune(os.path.dirname(path))
                ledger.note(max(0, ledger.total - gone))
        except OSError as error:
            _unusable.add(self.directory)
            self._warn(error)

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if self.directory in _warned:
            return
        _warned.add(self.directory)
        stale = " and from now on nothing is read from it" if self.directory in _unusable else ""
        warnings.warn(
            f"cache_dir={self.directory!r} cannot be used as it should, and reads go on without "
            f"what it cannot keep{stale}: {error}",
            PrecomputedWarning,
            stacklevel=4,
        )

    @contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        """Be the only one who changes files, in all processes where the disk has locks."""
        os.makedirs(self.directory, 0o700, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(self.root, 0o700)
        path = os.path.join(self.root, LEDGER)
        with (
            memory_lock(f"cache:{self.root}"),
            locked(os.path.join(self.root, LOCK)) as alone,
            open(create(path, os.O_RDWR), "r+b", buffering=0) as file,
        ):
            ledger = Ledger(file.fileno(), alone)
            ledger.read(lambda: sum(each.nbytes for each in self._count(alone=alone)))
            yield ledger
            if not os.fstat(file.fileno()).st_nlink:  # removed meanwhile, and maybe written anew
                remove(path)


def _remove_all(path: str) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        remove(path)


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _open(path: str, max_bytes: int | None) -> CacheFile | None:
    """What a file holds, marked as used; None if there is none, or it is damaged or larger."""
    try:
        handle = os.open(path, os.O_RDONLY | BINARY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        found = read_file(handle, max_bytes)
        idle = time.time() - os.fstat(handle).st_mtime
    finally:
        os.close(handle)
    if found is not None and idle > TOUCH_S:
        with suppress(OSError):  # a cache that can only be read
            os.utime(path)
    return found


def _told_by(path: str) -> tuple[str, int | None, int | None] | None:
    """What the file itself says that it holds, where its name was too long to say so."""
    with suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDONLY | BINARY)
        try:
            found = read_file(handle, data=False)
        finally:
            os.close(handle)
        if found is not None:
            return found.address, found.start, found.stop
    return None
