"""Values by uint64 id in one folder, each an object of its own or packed into shards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import GZIP_MAGIC, Bytes, compress, decompress
from xprecomputed.errors import AccessDeniedError, CorruptDataError, StorageError
from xprecomputed.keyed.ids import as_ids, parse_id
from xprecomputed.keyed.packing import SLACK_BYTES, Packer, Value
from xprecomputed.metadata import ShardingSpec
from xprecomputed.parallel import decode_slot, run_bounded
from xprecomputed.shard_format import locate
from xprecomputed.storage import (
    Blob,
    Deliver,
    Location,
    ShardedValues,
    contents,
    shards_in,
    workers_for,
)

__all__ = ["KeyedValues", "Value", "read_blob", "read_object"]

#: No minishard of ids can have more: an index of 100 MB. Writers make a few thousand.
MAX_ENTRIES = 1 << 22


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
    blob = read_blob(place, max_bytes)
    return None if blob is None else blob.data


def read_blob(place: Location, max_bytes: int) -> Blob | None:
    """As `read_object`, with the version."""
    blob = place.storage.get(place.key, max_bytes + (max_bytes >> 4) + SLACK_BYTES)
    if blob is None:
        return None
    try:
        with decode_slot():
            return Blob(_plain(blob, max_bytes), version=blob.version)
    except CorruptDataError as error:
        place.storage.forget(place.key)  # or a cache would give it for ever
        raise CorruptDataError(f"{place.url}: {error}") from None


def _plain(blob: Blob, max_bytes: int) -> bytes:
    if blob.encoding is not None:
        return bytes(decompress(blob.data, blob.encoding, max_bytes))
    if blob.data[:2] == GZIP_MAGIC:
        # declared by nobody; and a fragment or skeleton of 35,615 vertices begins so too
        with suppress(CorruptDataError):
            return bytes(decompress(blob.data, "gzip", max_bytes))
    return blob.data


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

        Parameters
        ----------
        ids : ndarray of uint64, shape (N,)

        Returns
        -------
        ndarray of bool, shape (N,)

        Raises
        ------
        CorruptDataError, AccessDeniedError, StorageError
        """
        if self.sharding is not None:
            # what is remembered of an index may be of before somebody deleted
            anew = frozenset(locate(self.sharding, ids).shards.tolist())
            is_told = self.directory.storage.is_local  # whether the file is another one now
            return self.sharded().find(ids, frozenset() if is_told else anew).starts >= 0
        there = np.zeros(len(ids), bool)

        def ask(position: int) -> None:
            place = self.place(int(ids[position]))
            there[position] = place.storage.size(place.key) is not None

        self._for_each(range(len(ids)), ask)
        return there

    def ids(self) -> NDArray[np.uint64]:
        """All ids, ascending: a listing, and of shards all their indexes.

        Returns
        -------
        ndarray of uint64, shape (N,)

        Raises
        ------
        CorruptDataError
            An index is, or a file is called as no shard can be.
        AccessDeniedError, StorageError
            Also where nothing can be listed, but for up to 4,096 shards, which are asked for
            one by one.
        """
        found = [np.zeros(0, np.uint64)]
        if self.sharding is None:
            return np.unique(np.array(self._listed(), np.uint64))
        stored = self.sharded()

        def look(shard: int) -> None:
            found.append(contents(stored, shard)[0])

        run_bounded(shards_in(stored), look, workers=workers_for(self.directory))
        return np.unique(np.concatenate(found))

    def _listed(self) -> list[int]:
        storage, ids = self.directory.storage, []
        try:
            for entry in storage.list_dir(self.directory.key):
                number = parse_id(entry.name.removesuffix(self.suffix))
                if number is not None and f"{number}{self.suffix}" == entry.name:
                    ids.append(number)
        except (AccessDeniedError, StorageError) as error:
            raise type(error)(
                f"{error}. Which ids are stored is told by a listing only; those that you can "
                "name can be read, and asked for with exists(ids)"
            ) from None
        return ids

    def order(self, ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Ids so that those that lie together are together: by shard and minishard, or ascending.

        Parameters
        ----------
        ids : ndarray of uint64, shape (N,)

        Returns
        -------
        ndarray of uint64, shape (N,)

        Examples
        --------
        >>> from xprecomputed.storage import locate_url
        >>> spec = ShardingSpec(preshift_bits=0, hash="identity", minishard_bits=0, shard_bits=1)
        >>> values = KeyedValues(locate_url("memory://doc/skeletons"), spec)
        >>> values.order(np.array([4, 3, 2, 1], np.uint64)).tolist()
        [2, 4, 1, 3]
        """
        ids = np.sort(ids)
        if self.sharding is None:
            return ids
        places = locate(self.sharding, ids)
        return ids[np.lexsort((ids, places.minishards, places.shards))]

    def put(
        self,
        values: Mapping[int, Value],
        *,
        compression: Literal["auto", "gzip"] | None = None,
        cache_control: str | None = None,
    ) -> None:
        """Store values; those of other ids stay, also those in the same shard.

        Every object appears whole or not at all; a shard is rewritten while others who rewrite
        it wait, or begin again (`Storage.update`). The bytes do not depend on the order.

        Parameters
        ----------
        values : mapping of int to Value
            Asked for each id once, from several threads, so that it may make values on demand;
            all new values of a few shards are in memory at once.
        compression : {None, "gzip", "auto"}
            Around objects of their own; never around what is read by range, nor shards. "auto" is
            gzip where a header can tell it.
        cache_control : str, optional
            Header of the objects, where the store has headers.

        Raises
        ------
        TypeError, ValueError
            An id is none, or the compression.
        CorruptDataError
            In a shard that is to be rewritten.
        AccessDeniedError, StorageError
        """
        if compression not in (None, "gzip", "auto"):
            raise ValueError(f"compression={compression!r}: expected None, 'gzip' or 'auto'")
        as_ids(values)
        if self.sharding is not None:
            self._packer(cache_control).put(values)
            return
        if compression == "auto":
            compression = "gzip" if self.directory.storage.has_headers else None

        def store(key: int) -> None:
            value = values[key]
            if len(value.before):
                raise ValueError(f"{self.place(key).url}: bytes before a value need a shard")
            data: Bytes = value.data
            if compression is not None:
                with decode_slot():
                    data = compress(data, compression)
            place = self.place(key)
            place.storage.put(place.key, data, encoding=compression, cache_control=cache_control)

        self._for_each(values, store)

    def delete(self, ids: Iterable[int]) -> NDArray[np.uint64]:
        """Remove values.

        A shard goes away with its last value, but for clouds, where it stays with nothing in it:
        there is no delete that heeds what others write meanwhile.

        Parameters
        ----------
        ids : iterable of int

        Returns
        -------
        ndarray of uint64
            Those that were there, ascending.

        Raises
        ------
        CorruptDataError, AccessDeniedError, StorageError
        """
        wanted = as_ids(ids)[0]
        if self.sharding is not None:
            return self._packer(None).delete(wanted)
        gone: list[int] = []

        def remove(key: int) -> None:
            place = self.place(key)
            if place.storage.delete(place.key):
                gone.append(key)

        self._for_each(wanted.tolist(), remove)
        return np.array(sorted(gone), np.uint64)

    def _packer(self, cache_control: str | None) -> Packer:
        return Packer(self.sharded(), self.max_value_bytes, self.bytes_before, cache_control)

    def _for_each(self, tasks: Collection[int], work: Callable[[int], None]) -> None:
        workers = max(1, min(workers_for(self.directory), len(tasks)))
        run_bounded(tasks, work, workers=workers)
