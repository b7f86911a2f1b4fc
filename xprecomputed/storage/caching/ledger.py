"""How the disk cache counts its files, and keeps other processes out while it changes them."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from isal import isal_zlib

from xprecomputed.storage._locks import HAS_FILE_LOCKS
from xprecomputed.storage._locks import _acquire as acquire
from xprecomputed.storage._locks import _close as release

__all__ = ["CountedFile", "Ledger", "locked", "walk"]

#: Magic, sum of bytes; then crc32 of both.
TOTAL = struct.Struct("<8sQ")
TOTAL_MAGIC = b"xpledger"
#: What disks without locks answer.
NO_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK})


class CountedFile(NamedTuple):
    """A file; those that were not used for longest come first."""

    used_ns: int
    nbytes: int
    path: str


class Ledger:
    """The sum of all bytes, in a file that is open while the lock is held."""

    def __init__(self, handle: int, alone: bool) -> None:
        self.handle = handle
        self.alone = alone
        self.total = 0

    def read(self, count: Callable[[], int]) -> None:
        """Take the sum from the file, or count anew."""
        data = os.read(self.handle, TOTAL.size + 4)
        if len(data) == TOTAL.size + 4 and _sealed(data[: TOTAL.size]) == data:
            magic, self.total = TOTAL.unpack_from(data)
            if magic == TOTAL_MAGIC:
                return
        self.note(count())

    def note(self, total: int) -> None:
        """Put down the sum before a file is added, and after one is gone."""
        self.total = total
        os.lseek(self.handle, 0, os.SEEK_SET)
        os.write(self.handle, _sealed(TOTAL.pack(TOTAL_MAGIC, total)))


def _sealed(data: bytes) -> bytes:
    return data + isal_zlib.crc32(data).to_bytes(4, "little")


@contextmanager
def locked(path: str) -> Iterator[bool]:
    """Keep other processes out by a file that stays; False where that cannot be done."""
    handle = None
    if HAS_FILE_LOCKS:
        try:
            handle = acquire(path)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
    owner = os.getpid()
    try:
        yield handle is not None
    finally:
        if handle is not None and os.getpid() == owner:  # a child forked here holds nothing
            release(handle)


def walk(place: str, *, unfinished: bool = False) -> Iterator[CountedFile]:
    """The files at and below a path, whole ones or only unfinished ones; a missing one has none."""
    try:
        entries = os.scandir(place)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        found = os.lstat(place)
        yield CountedFile(found.st_mtime_ns, found.st_size, place)
        return
    with entries:
        for each in entries:
            if each.is_dir(follow_symlinks=False):
                yield from walk(each.path, unfinished=unfinished)
                continue
            if each.name.startswith("."):
                if not (unfinished and each.name.endswith(".tmp")):
                    continue
            elif unfinished:
                continue
            with suppress(FileNotFoundError):  # another process was faster
                found = each.stat(follow_symlinks=False)
                yield CountedFile(found.st_mtime_ns, found.st_size, each.path)
