"""The one interface between the package and everything that holds bytes.

Four answers are kept apart. *Missing* is None, and only where the store said so;
*denied* and *failed* are exceptions of their own; *corrupt* is for the reader of the bytes
to find out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass

from xprecomputed.errors import InvalidURLError

__all__ = ["Blob", "Location", "Storage", "resolve"]


@dataclass(frozen=True, slots=True)
class Blob:
    """A whole object.

    Parameters
    ----------
    data : bytes
        As stored.
    encoding : {"gzip", "br", "zstd"} or None
        The compression around it, as a suffix or a header declares it.
    """

    data: bytes
    encoding: str | None = None


class Storage(ABC):
    """A bucket or a folder tree: keys to bytes. Frozen, cheap, picklable; opens late."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the keys begin, without credentials; ``url + key`` is an address."""

    @property
    @abstractmethod
    def is_local(self) -> bool:
        """Whether a request costs microseconds: then no more threads than cores are used."""

    @abstractmethod
    def get(self, key: str, max_bytes: int | None = None) -> Blob | None:
        """A whole object, or None where the store says that there is none.

        Parameters
        ----------
        key : str
        max_bytes : int, optional
            A larger object is refused before it is read.

        Raises
        ------
        AccessDeniedError, StorageError, CorruptDataError
        """

    @abstractmethod
    def get_range(self, key: str, start: int, stop: int) -> bytes | None:
        """Bytes ``[start, stop)`` of an object, fewer where it ends before, None if missing.

        Raises
        ------
        AccessDeniedError, StorageError, CorruptDataError
        """

    def fingerprint(self, key: str) -> Hashable:
        """A value that changes when the object is replaced, where that costs no request."""
        del key
        return None


def resolve(directory: str, relative: str) -> str:
    """The key that `relative` means in the folder `directory`; purely lexical.

    Parameters
    ----------
    directory : str
        Key of the folder, without a slash at either end.
    relative : str
        As ``info`` holds it; ``..`` may climb, but not out of the store.

    Raises
    ------
    InvalidURLError
        The result would lie outside, or the path has characters that no store shares.

    Examples
    --------
    >>> resolve("project/em", "../seg/8_8_40")
    'project/seg/8_8_40'
    """
    if relative.startswith("/") or "\\" in relative or "\0" in relative:
        raise InvalidURLError(
            f"key {relative!r}: expected a relative path with plain slashes, such as '8_8_40'"
        )
    parts = [part for part in directory.split("/") if part]
    for part in relative.split("/"):
        if part == "..":
            if not parts:
                raise InvalidURLError(
                    f"key {relative!r} in {directory!r} leads out of the bucket or folder tree"
                )
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a storage: a folder or an object.

    Parameters
    ----------
    storage : Storage
    key : str
        Without a slash at either end.
    """

    storage: Storage
    key: str

    @property
    def url(self) -> str:
        """The address, without credentials."""
        return self.storage.url + self.key

    def child(self, relative: str) -> Location:
        """The place that `relative` means here.

        Raises
        ------
        InvalidURLError
            It leads out of the store.
        """
        return Location(self.storage, resolve(self.key, relative))

    def __str__(self) -> str:
        return self.url
