"""What is asked of fsspec's file systems, with errors of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from xprecomputed.errors import AccessDeniedError, PrecomputedError, StorageError

__all__ = ["abandon", "explained", "nbytes_of", "remove"]


@contextmanager
def explained(address: str, doing: str) -> Iterator[None]:
    """Turn errors of fsspec and of what is behind it into ours."""
    try:
        yield
    except PrecomputedError:
        raise
    except PermissionError as error:
        raise AccessDeniedError(f"{address}: {type(error).__name__}") from None
    except Exception as error:
        # other libraries put signed URLs and headers into their messages: only the kind
        raise StorageError(f"{address}: cannot be {doing} ({type(error).__name__})") from None


def remove(fs: Any, path: str) -> bool:
    """Remove a file; False if there was none, where the file system says so."""
    try:
        fs.rm_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def nbytes_of(found: Mapping[str, Any], address: str) -> int:
    """The size in what a file system knows of a file."""
    if found["size"] is None:
        raise StorageError(f"{address}: the server does not tell its size")
    return int(found["size"])


def abandon(fs: Any, file: Any, path: str, *, closing_completes: bool) -> None:
    """Give up a file that is open for writing; nothing is raised."""
    with suppress(Exception):
        file.discard()
    if closing_completes:
        # so would the garbage collector, which closes
        with suppress(Exception):
            file.closed = True
    else:
        with suppress(Exception):
            file.close()
        with suppress(Exception):
            remove(fs, path)
