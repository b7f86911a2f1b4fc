"""Changing local files so that a reader finds the old one or the new one, each whole."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from xprecomputed.codecs import Bytes
from xprecomputed.errors import AccessDeniedError, PrecomputedError, StorageError

__all__ = ["MOST_AT_ONCE", "create", "explained", "remove", "remove_tree", "replacing", "temporary"]

# one system call reads or writes at most 2 GiB
MOST_AT_ONCE = 1 << 30
BINARY = getattr(os, "O_BINARY", 0)  # exists on Windows only


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn errors of the system into ours, named after `path`."""
    try:
        yield
    except PrecomputedError:
        raise
    except PermissionError as error:
        raise AccessDeniedError(f"{path}: {error.strerror or error}") from error
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise StorageError(f"{path}: {error}") from error


def create(path: str, flags: int) -> int:
    """Open a file that may not be there yet, nor its folder; the umask says who may read it."""
    flags |= os.O_CREAT | BINARY
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, flags, 0o666)


def temporary(path: str) -> str:
    """A name of its own in the folder of `path`, which nobody lists or reads."""
    name = max(path.rfind("/"), path.rfind(os.sep)) + 1
    return f"{path[:name]}.{path[name:]}.{os.getpid()}-{os.urandom(8).hex()}.tmp"


@contextmanager
def replacing(path: str) -> Iterator[Callable[[Bytes], None]]:
    """Write a file under a name of its own, which takes the place of `path` at the end.

    Yields
    ------
    callable
        Appends bytes. Whatever is raised in the block leaves `path` as it was.
    """
    own = temporary(path)
    try:
        handle = create(own, os.O_WRONLY | os.O_EXCL)
    except (OSError, ValueError):
        with explained(path):
            raise
    try:
        try:
            yield lambda data: _write_all(handle, data, path)
        except BaseException:
            os.close(handle)
            raise
        try:
            os.close(handle)  # network disks may say only here that they are full
            os.replace(own, path)
        except OSError:
            with explained(path):
                raise
    except BaseException:
        with suppress(OSError):
            os.unlink(own)
        raise


def _write_all(handle: int, data: Bytes, path: str) -> None:
    view = memoryview(data)
    if not view.nbytes:
        return  # which cannot be cast
    view = view.cast("B")
    try:
        while view:
            view = view[os.write(handle, view[:MOST_AT_ONCE]) :]
    except OSError:
        with explained(path):
            raise


def remove(path: str) -> bool:
    """Remove a file, or a link and not what it points to; False if there was none."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        with explained(path):
            raise
    return True


def remove_tree(path: str) -> None:
    """Remove a folder and all that is below it; links below are removed, never followed."""
    with explained(path):
        while os.path.lexists(path):
            if os.path.islink(path):
                raise StorageError(
                    f"{path}: a link to {os.readlink(path)}, through which nothing is deleted"
                )
            # somebody else may be deleting the same
            with suppress(FileNotFoundError):
                if not stat.S_ISDIR(os.stat(path).st_mode):
                    raise StorageError(f"{path}: not a folder, so nothing is deleted")
                shutil.rmtree(path)
