"""Local files: plain system calls, no event loop, no thread of its own."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Hashable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from xprecomputed.codecs import SUFFIXES, Bytes
from xprecomputed.errors import (
    AccessDeniedError,
    CorruptDataError,
    PrecomputedWarning,
    StorageError,
)
from xprecomputed.storage._files import (
    BINARY,
    MOST_AT_ONCE,
    explained,
    remove,
    remove_tree,
    replacing,
)
from xprecomputed.storage._locks import HAS_FILE_LOCKS, file_lock
from xprecomputed.storage.base import (
    LAST_READ_FIRST,
    VARIANTS,
    Blob,
    Entry,
    Storage,
    Unchanged,
    check_folder_key,
    suffix_of,
    without_suffix,
)
from xprecomputed.storage.batches import FileBatches, kernels_for, replace_file
from xprecomputed.tracing import record_request

__all__ = ["LocalStorage"]

#: Reads of a folder of which each looks for stale variants, and then every so many: to look
#: takes as long as to open the file.
LOOKS = 16
_seen: dict[str, int] = {}

# O_NONBLOCK: a named pipe in place of a chunk must not block
FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | BINARY


@dataclass(frozen=True, slots=True)
class LocalStorage(Storage):
    """The folder tree below `root`.

    A write goes to a file ``.NAME.PID-RANDOM.tmp`` in the same folder and is renamed, so that
    others find the old object or the new one. A process that is killed leaves that file behind,
    which nothing here reads or lists. Nothing waits for the disk: after a power cut an object
    that was just written can be empty, and is then reported as corrupt.

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
        because one of them is stale. It is looked for with the first `LOOKS` reads of a folder,
        and then with every so many.
        """
        path = self.root + key
        while True:
            for suffix, encoding in VARIANTS.items():
                found = self._read(path + suffix, 0, None, max_bytes)
                if found is not None:
                    if not suffix:
                        self._warn_of_variants(path)
                    record_request(path, len(found.data))
                    return Blob(found.data, encoding, found.version)
            if not self._came_up(path):
                record_request(path, 0)
                return None

    def get_range(self, key: str, start: int, stop: int) -> Blob | None:  # noqa: D102
        path = self.root + key
        found = self._read(path, start, stop, None)
        record_request(path, 0 if found is None else len(found.data))
        if found is None:
            self._came_up(path)
            for suffix, encoding in SUFFIXES.items():
                if os.path.exists(path + suffix):
                    raise CorruptDataError(
                        f"{path}{suffix}: the whole file is compressed with {encoding}, so its "
                        f"ranges cannot be read; decompress it to {os.path.basename(path)}"
                    )
        return found

    def get_part(self, key: str, start: int, stop: int, whole_bytes: int) -> bytes | None:  # noqa: D102
        path = self.root + key
        found = self._read(path, start, stop, None, whole_bytes)
        if found is None or len(found.data) != stop - start:
            return None
        self._warn_of_variants(path)
        record_request(path, len(found.data))
        return found.data

    def batches(self, key: str, count: int) -> FileBatches | None:  # noqa: D102
        folder = f"{self.root}{key}/"
        kernels = kernels_for(count) if "\0" not in folder else None
        return None if kernels is None else FileBatches(folder, kernels, self._noticed)

    def _noticed(self, path: str, nbytes: int) -> None:
        self._warn_of_variants(path)
        record_request(path, nbytes)

    def identity(self, key: str) -> str:  # noqa: D102
        return "file://" + os.path.realpath(self.root + key).strip("/")

    def fingerprint(self, key: str) -> Hashable:
        """Inode, size and time of change."""
        try:
            return _version(os.stat(self.root + key))
        except OSError:
            return None

    def size(self, key: str) -> int | None:  # noqa: D102
        path = self.root + key
        record_request(path, 0)
        while True:
            for suffix in VARIANTS:
                with explained(path):
                    try:
                        found = os.stat(path + suffix)
                    except (FileNotFoundError, NotADirectoryError):
                        continue
                if stat.S_ISREG(found.st_mode):
                    return found.st_size
            if not self._came_up(path):
                return None

    def list_dir(self, key: str) -> Iterator[Entry]:  # noqa: D102
        folder = self.root + key
        record_request(folder, 0)
        with explained(folder):
            try:
                entries = os.scandir(folder)
            except (FileNotFoundError, NotADirectoryError):
                return
            with entries:
                for each in entries:
                    name, suffix = without_suffix(each.name)
                    if name.startswith(".") or self._is_stale(f"{folder}/{name}", suffix):
                        continue
                    nbytes = self._nbytes(each)
                    if nbytes is not None:
                        yield Entry(name, nbytes, VARIANTS[suffix])

    def put(  # noqa: D102
        self,
        key: str,
        data: Bytes,
        *,
        encoding: str | None = None,
        cache_control: str | None = None,
        only_if: Unchanged | None = None,
    ) -> None:
        del cache_control, only_if  # files have no headers, and locks instead of conditions
        path = self.root + key
        suffix = suffix_of(encoding, path)
        others = [path + other for other in LAST_READ_FIRST if other != suffix]
        removed = replace_file(path + suffix, others, data)
        if removed < 0:
            with replacing(path + suffix) as write:
                write(data)
            removed = sum([remove(other) for other in others])
        if removed:
            self._require_stored(path, suffix)
        record_request(path, memoryview(data).nbytes)

    def put_parts(  # noqa: D102
        self,
        key: str,
        parts: Iterable[Bytes],
        *,
        cache_control: str | None = None,
        only_if: Unchanged | None = None,
    ) -> None:
        del cache_control, only_if
        path = self.root + key
        nbytes = 0
        with replacing(path) as write:
            for part in parts:
                write(part)
                nbytes += memoryview(part).nbytes
        if sum(remove(path + suffix) for suffix in LAST_READ_FIRST if suffix):
            self._require_stored(path, "")
        record_request(path, nbytes)

    def delete(self, key: str) -> bool:  # noqa: D102
        path = self.root + key
        removed = [remove(path + suffix) for suffix in LAST_READ_FIRST]
        record_request(path, 0)
        return any(removed)

    def delete_tree(self, key: str) -> None:  # noqa: D102
        check_folder_key(key)
        remove_tree(self.root + key)
        record_request(self.root + key, 0)

    @property
    def has_locks(self) -> bool:  # noqa: D102
        return HAS_FILE_LOCKS

    def exclusive(self, key: str) -> AbstractContextManager[None]:  # noqa: D102
        if not self.has_locks:
            return Storage.exclusive(self, key)
        return file_lock(self.root + key)

    def _require_stored(self, path: str, suffix: str) -> None:
        """Where others were removed: who removes them at the same time would leave none."""
        if not os.path.lexists(path + suffix):
            raise StorageError(
                f"{path}: another writer has removed it meanwhile, or stored it with another "
                "compression; write it again"
            )

    def _is_stale(self, path: str, suffix: str) -> bool:
        """Whether another variant is read instead."""
        before = list(VARIANTS)[: list(VARIANTS).index(suffix)]
        return any(os.path.lexists(path + other) for other in before)

    def _nbytes(self, entry: os.DirEntry[str]) -> int | None:
        """Size of a file; None if it is something else, or was removed meanwhile."""
        try:
            found = entry.stat()
        except FileNotFoundError:
            if entry.is_symlink():
                _refuse_dangling(entry.path)
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def _read(
        self,
        path: str,
        start: int,
        stop: int | None,
        max_bytes: int | None,
        whole_bytes: int | None = None,
    ) -> Blob | None:
        """A range of a file; None if there is none, or it does not have `whole_bytes`."""
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
            if whole_bytes not in (None, found.st_size):
                return None
            # never allocate by what a header claims: only what the file has
            stop = found.st_size if stop is None else min(stop, found.st_size)
            if max_bytes is not None and stop - start > max_bytes:
                raise CorruptDataError(
                    f"{path}: {stop - start} bytes, at most {max_bytes} can be valid"
                )
            return Blob(_read_all(handle, start, stop), version=_version(found))
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"{path}: {error}") from error
        finally:
            os.close(handle)

    def _warn_of_variants(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        seen = _seen[folder] = _seen.get(folder, -1) + 1
        if seen >= LOOKS and seen % LOOKS:
            return
        for suffix in SUFFIXES:
            if os.path.exists(path + suffix):
                warnings.warn(
                    f"{folder} holds files both plain and compressed ({name} and {name}{suffix} "
                    "among them): the plain ones are read; delete those that are stale",
                    PrecomputedWarning,
                    stacklevel=3,
                )

    def _came_up(self, path: str) -> bool:
        """Whether a missing file is there after all: while we looked it got another suffix."""
        for variant in (path + suffix for suffix in VARIANTS):
            if os.path.lexists(variant):
                if os.path.isfile(variant):
                    return True
                # git-annex and the like leave links whose contents were not fetched: not a hole
                if os.path.islink(variant) and not os.path.exists(variant):
                    _refuse_dangling(variant)
        return False


def _refuse_dangling(path: str) -> NoReturn:
    with explained(path):
        target = os.readlink(path)
    raise StorageError(f"{path}: a link to {target}, which is not there") from None


def _version(found: os.stat_result) -> Hashable:
    return found.st_ino, found.st_size, found.st_mtime_ns


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
