"""Local files: plain system calls, no event loop, no thread of its own."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

from xprecomputed.codecs import SUFFIXES
from xprecomputed.errors import (
    AccessDeniedError,
    CorruptDataError,
    PrecomputedWarning,
    StorageError,
)
from xprecomputed.storage.base import Blob, Storage
from xprecomputed.tracing import record_request

__all__ = ["LocalStorage"]

# O_NONBLOCK: a named pipe in place of a chunk must not block; O_BINARY exists on Windows only
FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
# one system call reads at most 2 GiB
MOST_AT_ONCE = 1 << 30


@dataclass(frozen=True, slots=True)
class LocalStorage(Storage):
    """The folder tree below `root`.

    Parameters
    ----------
    root : str
        Absolute; ``/`` but for Windows' drives. Keys are the rest of the path.
    """

    root: str = "/"

    @property
    def url(self) -> str:  # noqa: D102 - inherited
        return "file://" + self.root

    @property
    def is_local(self) -> bool:  # noqa: D102
        return True

    def get(self, key: str, max_bytes: int | None = None) -> Blob | None:
        """Read a file, or its compressed variant with a suffix (as CloudFiles writes them).

        The plain name is tried first, always; where both lie side by side a warning says so,
        because one of them is stale.
        """
        path = self.root + key
        data = self._read(path, 0, None, max_bytes)
        if data is not None:
            self._warn_of_variants(path)
            record_request(path, len(data))
            return Blob(data)
        for suffix, encoding in SUFFIXES.items():
            data = self._read(path + suffix, 0, None, max_bytes)
            if data is not None:
                record_request(path, len(data))
                return Blob(data, encoding)
        record_request(path, 0)
        self._refuse_dangling(path)
        return None

    def get_range(self, key: str, start: int, stop: int) -> bytes | None:  # noqa: D102
        path = self.root + key
        data = self._read(path, start, stop, None)
        record_request(path, len(data or b""))
        if data is None:
            self._refuse_dangling(path)
            for suffix, encoding in SUFFIXES.items():
                if os.path.exists(path + suffix):
                    raise CorruptDataError(
                        f"{path}{suffix}: the whole file is compressed with {encoding}, so its "
                        f"ranges cannot be read; decompress it to {os.path.basename(path)}"
                    )
        return data

    def fingerprint(self, key: str) -> Hashable:
        """Inode, size and time of change."""
        try:
            found = os.stat(self.root + key)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self, path: str, start: int, stop: int | None, max_bytes: int | None) -> bytes | None:
        try:
            handle = os.open(path, FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise AccessDeniedError(f"{path}: {error.strerror}") from error
        except (OSError, ValueError) as error:
            raise StorageError(f"{path}: {error}") from error
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise StorageError(f"{path}: not a regular file")
            # never allocate by what a header claims: only what the file has
            stop = found.st_size if stop is None else min(stop, found.st_size)
            if max_bytes is not None and stop - start > max_bytes:
                raise CorruptDataError(
                    f"{path}: {stop - start} bytes, at most {max_bytes} can be valid"
                )
            return _read_all(handle, start, stop)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"{path}: {error}") from error
        finally:
            os.close(handle)

    def _warn_of_variants(self, path: str) -> None:
        for suffix in SUFFIXES:
            if os.path.exists(path + suffix):
                folder, name = os.path.split(path)
                warnings.warn(
                    f"{folder} holds files both plain and compressed ({name} and {name}{suffix} "
                    "among them): the plain ones are read; delete those that are stale",
                    PrecomputedWarning,
                    stacklevel=3,
                )

    def _refuse_dangling(self, path: str) -> None:
        # git-annex and the like leave links whose contents were not fetched: not a hole
        for variant in (path, *(path + suffix for suffix in SUFFIXES)):
            if os.path.islink(variant):
                raise StorageError(
                    f"{variant}: a link to {os.readlink(variant)}, which is not there"
                )


def _read_all(handle: int, start: int, stop: int) -> bytes:
    if stop <= start:
        return b""
    if start:
        os.lseek(handle, start, os.SEEK_SET)
    parts = []
    left = stop - start
    while left:
        part = os.read(handle, min(left, MOST_AT_ONCE))
        if not part:  # the file was cut meanwhile
            break
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def local_location(path: str) -> tuple[LocalStorage, str]:
    """Storage and key of a path; relative ones count from the working directory."""
    absolute = Path(os.path.abspath(os.path.expanduser(path)))
    return LocalStorage(absolute.anchor.replace("\\", "/")), "/".join(absolute.parts[1:])
