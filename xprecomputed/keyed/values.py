"""Values by uint64 id in one folder, each an object of its own or packed into shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import GZIP_MAGIC, Bytes, decompress
from xprecomputed.errors import CorruptDataError
from xprecomputed.metadata import ShardingSpec, parse_json
from xprecomputed.parallel import run_bounded
from xprecomputed.storage import Deliver, Location, ShardedValues, workers_for

__all__ = ["KeyedValues", "Value", "read_json", "read_object"]

#: No minishard of ids can have more: an index of 100 MB. Writers make a few thousand.
MAX_ENTRIES = 1 << 22
#: A gzipped object may be so much longer than its contents.
SLACK_BYTES = 4096


class Value(NamedTuple):
    """What is stored for an id.

    Parameters
    ----------
    data : bytes
        What the id leads to.
    before : bytes
        What lies immediately before it in a shard, without an entry of its own, never compressed
        (fragments of a multi-resolution mesh). Not for objects of their own.
    """

    data: Bytes
    before: Bytes = b""


def read_object(place: Location, max_bytes: int) -> bytes | None:
    """A whole object without the compression around it, or None where there is none.

    Parameters
    ----------
    place : Location
    max_bytes : int
        More cannot be valid, also when decompressed.

    Raises
    ------
    CorruptDataError, AccessDeniedError, StorageError
    """
    blob = place.storage.get(place.key, max_bytes + (max_bytes >> 4) + SLACK_BYTES)
    if blob is None:
        return None
    try:
        if blob.encoding is not None:
            return decompress(blob.data, blob.encoding, max_bytes)
        if blob.data[:2] == GZIP_MAGIC:  # neither JSON nor any count of vertices begins so
            return decompress(blob.data, "gzip", max_bytes)
    except CorruptDataError as error:
        place.storage.forget(place.key)  # or a cache would give it for ever
        raise CorruptDataError(f"{place.url}: {error}") from None
    return blob.data


def read_json(place: Location, max_bytes: int) -> Any:
    """A JSON document, or None where there is no such object.

    Raises
    ------
    InvalidInfoError
        It is not JSON.
    CorruptDataError, AccessDeniedError, StorageError
    """
    data = read_object(place, max_bytes)
    return None if data is None else parse_json(data, place.url)


@dataclass(frozen=True, slots=True)
class KeyedValues:
    """The values of one folder by id. Frozen, cheap, picklable.

    Parameters
    ----------
    directory : Location
    sharding : ShardingSpec or None
        None: each value is an object of its own.
    suffix : str
        What follows the id in the name of such an object, such as ``":0"`` or ``".index"``.
    max_value_bytes : int
        A longer value is corrupt.
    bytes_before : callable, optional
        How many bytes before a value belong to it, told from the value itself (`Value.before`);
        a function of a module, so that it pickles.
    """

    directory: Location
    sharding: ShardingSpec | None = None
    suffix: str = ""
    max_value_bytes: int = 1 << 30
    bytes_before: Callable[[Bytes], int] | None = None

    def place(self, key: int) -> Location:
        """The object of an id that is not in shards."""
        return self.directory.child(f"{key}{self.suffix}")

    def place_of(self, key: int) -> str:
        """Where the value of an id should be, for messages."""
        if self.sharding is None:
            return self.place(key).url
        return self.sharded().place_of(key)

    def sharded(self) -> ShardedValues:
        """The reader of the shards."""
        if self.sharding is None:
            raise ValueError(f"{self.directory.url}: not sharded")
        return ShardedValues(self.directory, self.sharding, MAX_ENTRIES)

    def read(self, ids: NDArray[np.uint64], deliver: Deliver, *, held_bytes: int = 0) -> None:
        """Hand the value of every id to `deliver`, from several threads, in any order.

        Parameters
        ----------
        ids : ndarray of uint64, shape (N,)
        deliver : callable
            Gets each position once, with the value, uncompressed, or None where the store said
            that there is none; what it raises ends the read.
        held_bytes : int
            Memory that `deliver` needs per value, for the budget.

        Raises
        ------
        CorruptDataError, AccessDeniedError, StorageError
        """
        if self.sharding is not None:
            self.sharded().read(
                ids, deliver, max_value_bytes=self.max_value_bytes, held_bytes=held_bytes
            )
            return

        def fetch(position: int) -> None:
            deliver(position, read_object(self.place(int(ids[position])), self.max_value_bytes))

        workers = min(workers_for(self.directory), len(ids))
        run_bounded(range(len(ids)), fetch, workers=workers, cost=lambda _: held_bytes)

    def exists(self, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Whether there is a value of each id; no value is read.

        Raises
        ------
        CorruptDataError, AccessDeniedError, StorageError
        """
        raise NotImplementedError

    def ids(self) -> NDArray[np.uint64]:
        """All ids, ascending: a listing, and of shards all their indexes.

        Raises
        ------
        CorruptDataError, AccessDeniedError, StorageError
        """
        raise NotImplementedError

    def put(self, values: Mapping[int, Value], *, cache_control: str | None = None) -> None:
        """Store values; those of other ids stay, also those in the same shard.

        Every object appears whole or not at all; a shard is rewritten while others who rewrite
        it wait, or begin again (`Storage.update`).

        Raises
        ------
        CorruptDataError, AccessDeniedError, StorageError
        """
        raise NotImplementedError

    def delete(self, ids: Iterable[int]) -> NDArray[np.uint64]:
        """Remove values; the ids that were there.

        Raises
        ------
        CorruptDataError, AccessDeniedError, StorageError
        """
        raise NotImplementedError
