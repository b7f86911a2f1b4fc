"""The one interface between the package and everything that holds bytes.

Four answers are kept apart. *Missing* is None, and only where the store said so;
*denied* and *failed* are exceptions of their own; *corrupt* is for the reader of the bytes
to find out.

An object may lie there under its own name or, compressed as a whole, under the name with a
suffix: its *variants*. The plain one is read first; a write leaves one of them.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from xprecomputed.codecs import SUFFIXES, Bytes
from xprecomputed.errors import InvalidURLError, StorageError, UnsupportedEncodingError

if TYPE_CHECKING:
    from xprecomputed.storage.batches import FileBatches

__all__ = [
    "LAST_READ_FIRST",
    "VARIANTS",
    "Blob",
    "Entry",
    "Location",
    "Storage",
    "Unchanged",
    "check_folder_key",
    "resolve",
    "suffix_of",
    "without_suffix",
]

T = TypeVar("T")

_SALT = os.urandom(32)

#: Suffixes of the variants of an object and their compression, in the order of reading.
VARIANTS: dict[str, str | None] = {"": None, **SUFFIXES}
#: The order of removing: whatever is left by an interruption is what was read before.
LAST_READ_FIRST = tuple(reversed(VARIANTS))


@dataclass(frozen=True, slots=True)
class Blob:
    """An object, or a range of it.

    Parameters
    ----------
    data : bytes
        As stored.
    encoding : {"gzip", "br", "zstd"} or None
        The compression around the object, as a suffix or a header declares it.
    version : hashable or None
        Differs between two objects that had the same key; None where the store does not tell.
    """

    data: bytes
    encoding: str | None = None
    version: Hashable = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The condition of a write: the object is still the one of this version.

    Parameters
    ----------
    version : hashable or None
        That of `Blob`; None: there was no object.
    """

    version: Hashable


@dataclass(frozen=True, slots=True)
class Entry:
    """An object in a listing.

    Parameters
    ----------
    name : str
        Without folder and without the suffix of a compression.
    nbytes : int
        As stored.
    encoding : {"gzip", "br", "zstd"} or None
        As the suffix declares it; what a header declares, a listing does not tell.
    """

    name: str
    nbytes: int
    encoding: str | None = None


class Storage(ABC):
    """A bucket or a folder tree: keys to bytes. Frozen, cheap, picklable; opens late.

    One that only reads need not say so: what it does not implement is refused.

    Examples
    --------
    >>> from xprecomputed.storage import locate_url
    >>> storage = locate_url("memory://example").storage
    >>> storage.put("example/0-64_0-64_0-64", b"packed", encoding="gzip")
    >>> storage.get("example/0-64_0-64_0-64")
    Blob(data=b'packed', encoding='gzip')
    >>> list(storage.list_dir("example"))
    [Entry(name='0-64_0-64_0-64', nbytes=6, encoding='gzip')]
    >>> storage.delete("example/0-64_0-64_0-64"), storage.size("example/0-64_0-64_0-64")
    (True, None)
    """

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the keys begin, without credentials; ``url + key`` is an address."""

    @property
    @abstractmethod
    def is_local(self) -> bool:
        """Whether a request costs microseconds: then no more threads than cores are used."""

    @property
    def is_private(self) -> bool:
        """Whether it is only reached from this machine: nobody else may send us there."""
        return self.is_local

    def for_strangers(self, url: str) -> dict[str, Any]:
        """The options that hold for a place to which this one leads: no credentials are."""
        del url
        return {}

    @property
    def has_plain_address(self) -> bool:
        """Whether ``url + key`` alone, without options and secrets, names one object."""
        return True

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
    def get_range(self, key: str, start: int, stop: int) -> Blob | None:
        """Bytes ``[start, stop)`` of an object, fewer where it ends before, None if missing.

        Raises
        ------
        AccessDeniedError, StorageError, CorruptDataError
        """

    def get_part(self, key: str, start: int, stop: int, whole_bytes: int) -> bytes | None:
        """Bytes ``[start, stop)`` of an object that has exactly `whole_bytes`, as it is.

        None where it is not so, and where that is not known or is not cheaper: `get` is asked then.

        Raises
        ------
        AccessDeniedError, StorageError
        """
        del key, start, stop, whole_bytes
        return None

    def batches(self, key: str, count: int) -> FileBatches | None:
        """How to copy out of many files of a folder at once, if it can be done.

        `count` files are about to be read: None also where that is not worth the preparation.
        """
        del key, count
        return None

    def identity(self, key: str) -> str:
        """What two spellings of one place share: links, chains, slashes."""
        scheme, _, rest = f"{self.url}{key}".rpartition("::")[2].partition("://")
        return f"{scheme}://{rest.strip('/')}"

    def fingerprint(self, key: str) -> Hashable:
        """The `Blob.version` of an object, where asking costs no request; else None."""
        del key
        return None

    def forget(self, key: str) -> None:
        """Drop what is remembered of an object, where something is."""
        del key

    def size(self, key: str) -> int | None:
        """Stored bytes of an object, None where there is none: the cheapest way to ask.

        Raises
        ------
        AccessDeniedError, StorageError
        """
        blob = self.get(key)
        return None if blob is None else len(blob.data)

    def list_dir(self, key: str) -> Iterator[Entry]:
        """The objects that lie directly in a folder, in any order; a missing one has none.

        Names that begin with a dot (of unfinished writes and of locks) are left out. While
        others write there, what they write may be listed or not.

        Raises
        ------
        AccessDeniedError, StorageError
        """
        raise StorageError(f"{self.url}{key}: this storage cannot be listed")

    def put(
        self,
        key: str,
        data: Bytes,
        *,
        encoding: str | None = None,
        cache_control: str | None = None,
        only_if: Unchanged | None = None,
    ) -> None:
        """Store one object: it is replaced whole, or stays as it was.

        Every other variant is removed, after the new one is in place.

        Parameters
        ----------
        key : str
        data : bytes or memoryview
        encoding : {"gzip", "br", "zstd"}, optional
            The compression that is already around `data`.
        cache_control : str, optional
            HTTP's header of that name; nothing where there are no headers.
        only_if : Unchanged, optional
            As `update` hands it over.

        Raises
        ------
        UnsupportedEncodingError
            The compression is unknown, or cannot be declared here.
        ConflictError
            The condition does not hold.
        AccessDeniedError, StorageError
        """
        raise StorageError(f"{self.url}{key}: this storage is read-only")

    def put_parts(
        self,
        key: str,
        parts: Iterable[Bytes],
        *,
        cache_control: str | None = None,
        only_if: Unchanged | None = None,
    ) -> None:
        """Store one object that is never whole in memory, as `put` does otherwise.

        Parameters
        ----------
        key : str
        parts : iterable of bytes or memoryview
            Drawn from while it is written; what it raises ends the write, passes through and
            leaves the object as it was.
        cache_control : str, optional
            As in `put`.
        only_if : Unchanged, optional
            As `update` hands it over; the object is whole in memory then.

        Raises
        ------
        ConflictError, AccessDeniedError, StorageError
        """
        raise StorageError(f"{self.url}{key}: this storage is read-only")

    def delete(self, key: str) -> bool:
        """Remove an object and all its variants; False if there was none.

        Raises
        ------
        AccessDeniedError, StorageError
        """
        raise StorageError(f"{self.url}{key}: this storage is read-only")

    def delete_tree(self, key: str) -> None:
        """Remove a folder and everything below it; one that is missing is fine.

        Raises
        ------
        ValueError
            The key is empty, or not a plain path.
        StorageError
            It is something else than a folder, such as a link to one; or it failed.
        AccessDeniedError
        """
        raise StorageError(f"{self.url}{key}: this storage is read-only")

    @property
    def has_headers(self) -> bool:
        """Whether an object's compression is told by a header, not by the name."""
        return False

    def update(self, key: str, work: Callable[[Unchanged | None], T], *, anyway: bool = False) -> T:
        """Read, change and write an object as if nobody else did so meanwhile.

        Parameters
        ----------
        key : str
        work : callable
            Hands what it is given to `put` or `put_parts` as ``only_if``, and can be repeated:
            it is where somebody else was faster. Given None, it is alone, and may `delete` too.
        anyway : bool
            Do it also where writers cannot be kept apart.

        Returns
        -------
        What `work` returns.

        Raises
        ------
        ConflictError
            Others were faster again and again.
        StorageError
            Writers cannot be kept apart here.
        """
        if anyway and not self.has_locks:
            return work(None)
        with self.exclusive(key):
            return work(None)

    @property
    def has_locks(self) -> bool:
        """Whether `exclusive` can keep writers apart."""
        return False

    def exclusive(self, key: str) -> AbstractContextManager[None]:
        """Keep everybody else who asks for the same key waiting, threads and processes.

        It is advice among those who ask: `put` and `delete` do not. One thread that asks twice
        waits for itself for ever.

        Raises
        ------
        StorageError
            Writers cannot be kept apart here, see `has_locks`.
        AccessDeniedError
        """
        raise StorageError(
            f"{self.url}{key}: a part of an object can only be replaced where writers can be kept "
            "apart: local disks; write whole objects instead"
        )


def suffix_of(encoding: str | None, address: str) -> str:
    """What a compression adds to the name of an object, of which `address` is for the message.

    Examples
    --------
    >>> suffix_of("zstd", "a"), suffix_of(None, "a")
    ('.zstd', '')
    """
    for suffix, declared in VARIANTS.items():
        if declared == encoding:
            return suffix
    known = sorted(set(SUFFIXES.values()))
    raise UnsupportedEncodingError(
        f"{address}: compression {encoding!r}, expected None or one of {known}"
    )


def without_suffix(name: str) -> tuple[str, str]:
    """The name of an object and the suffix of this variant.

    Examples
    --------
    >>> without_suffix("0-64_0-64_0-64.gz"), without_suffix("00.shard")
    (('0-64_0-64_0-64', '.gz'), ('00.shard', ''))
    """
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix), suffix
    return name, ""


def check_folder_key(key: str) -> None:
    """Refuse to delete what is not a folder inside of the store."""
    if not key or resolve("", key) != key:
        raise ValueError(f"delete_tree({key!r}): expected the plain key of a folder")


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
    parts = list(_parts(directory))
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


@lru_cache(maxsize=256)
def _parts(directory: str) -> tuple[str, ...]:
    return tuple(part for part in directory.split("/") if part)


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

    @property
    def token(self) -> str:
        """The address for dask's tokens, with whatever else says which place it is.

        What is secret goes into it in a form that this process alone can make.
        """
        if self.storage.has_plain_address:
            return self.url
        told = hashlib.blake2b(pickle.dumps(self.storage), key=_SALT, digest_size=16)
        return f"{self.url} {told.hexdigest()}"

    @property
    def identity(self) -> str:
        """The same for two spellings of one place, as far as that can be known."""
        return self.storage.identity(self.key)

    def __str__(self) -> str:
        return self.url
