"""Many values out of shard files with few requests.

One batch costs one request per shard index, one per minishard index and one per coalesced
range of values; indexes stay in a byte-bounded cache. Fact: format reference 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Bytes, decompress
from xprecomputed.errors import CorruptDataError, StorageError
from xprecomputed.metadata import ShardingSpec
from xprecomputed.options import get_options
from xprecomputed.parallel import run_bounded
from xprecomputed.shard_format import MinishardIndex, locate, minishard_range, shard_name
from xprecomputed.storage.base import Location
from xprecomputed.storage.cache import index_cache

__all__ = ["Deliver", "Found", "ShardedValues", "workers_for"]

#: Called with the position of a key in the batch and its stored value, or None if absent.
Deliver = Callable[[int, Bytes | None], None]

#: A shard index up to this size is read whole and kept; of a larger one only what is needed.
WHOLE_INDEX_BYTES = 1 << 20


def workers_for(location: Location) -> int:
    """Threads that a read from `location` may use."""
    options = get_options()
    if location.storage.is_local:
        return options.decode_threads
    return max(options.requests_in_flight, options.decode_threads)


class _Minishard(NamedTuple):
    shard: int
    number: int


class _Value(NamedTuple):
    position: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Fetch:
    """One request for neighbouring values of one shard."""

    shard: int
    start: int
    stop: int
    values: list[_Value]


@dataclass(frozen=True, slots=True)
class Found:
    """Where the values of some keys lie; arrays with one element a key.

    Parameters
    ----------
    shards : ndarray of uint64
    starts, stops : ndarray of int64
        The file range; -1 where there is no value.
    versions : dict
        Fingerprints of the shards when their indexes were read.
    """

    shards: NDArray[np.uint64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    versions: dict[int, Hashable]


@dataclass(frozen=True, slots=True)
class ShardedValues:
    """The values that are packed into the shards of one directory.

    Parameters
    ----------
    directory : Location
    spec : ShardingSpec
    max_entries : int
        No minishard can have more keys (bounds what an index may decompress to).
    """

    directory: Location
    spec: ShardingSpec
    max_entries: int

    def read(
        self,
        keys: NDArray[np.uint64],
        deliver: Deliver,
        *,
        max_value_bytes: int,
        held_bytes: int = 0,
    ) -> None:
        """Hand the value of every key to `deliver`, from several threads, in any order.

        Parameters
        ----------
        keys : ndarray of uint64, shape (N,)
        deliver : callable
            Gets each position once; what it raises ends the read.
        max_value_bytes : int
            A longer value is corrupt.
        held_bytes : int
            Memory that `deliver` needs per value, for the budget.

        Raises
        ------
        CorruptDataError, AccessDeniedError, StorageError
        """
        threads = get_options().decode_threads
        found = self.find(keys)
        values: dict[int, list[_Value]] = {}
        for position, (shard, start, stop) in enumerate(
            zip(found.shards.tolist(), found.starts.tolist(), found.stops.tolist(), strict=True)
        ):
            if start < 0:
                deliver(position, None)
            else:
                value = _Value(position, start, stop)
                self._check_range(shard, value, max_value_bytes)
                values.setdefault(shard, []).append(value)
        run_bounded(
            _coalesce(values),
            lambda fetch: self._fetch(fetch, deliver, max_value_bytes),
            workers=workers_for(self.directory),
            cost=lambda fetch: (
                fetch.stop - fetch.start + held_bytes * min(len(fetch.values), threads)
            ),
        )
        # an index of the file before and values of the one after could pass for data
        if self._versions(found.shards) != found.versions:
            raise StorageError(
                f"{self.directory.url}: a shard was replaced while it was read; read again"
            )

    def find(self, keys: NDArray[np.uint64]) -> Found:
        """Where the values of keys lie; reads indexes only.

        Raises
        ------
        CorruptDataError, AccessDeniedError, StorageError
        """
        places = locate(self.spec, keys)
        groups = _group(places.shards, places.minishards)
        versions = self._versions(places.shards)
        indexes = self._minishard_indexes(list(groups), workers_for(self.directory))
        starts = np.full(len(keys), -1, np.int64)
        stops = starts.copy()
        for minishard, positions in groups.items():
            index = indexes[minishard]
            if index is not None:
                at = index.find(keys[positions])
                there = positions[at >= 0]
                starts[there], stops[there] = index.starts[at[at >= 0]], index.stops[at[at >= 0]]
        return Found(places.shards, starts, stops, versions)

    def stored(self, found: Found, position: int) -> bytes:
        """One value as stored, before ``data_encoding`` is undone; of those that were found."""
        name = shard_name(self.spec, int(found.shards[position]))
        start, stop = int(found.starts[position]), int(found.stops[position])
        return self._exact_range(self._key(name), start, stop, f"{self._url(name)}: values")

    def place_of(self, key: int) -> str:
        """Where a key should be, for messages."""
        places = locate(self.spec, np.array([key], np.uint64))
        name = shard_name(self.spec, int(places.shards[0]))
        return f"{self._url(name)}, minishard {int(places.minishards[0])}, key {key}"

    def _versions(self, shards: NDArray[np.uint64]) -> dict[int, Hashable]:
        fingerprint = self.directory.storage.fingerprint
        return {
            shard: fingerprint(self._key(shard_name(self.spec, shard)))
            for shard in np.unique(shards).tolist()
        }

    def _url(self, name: str) -> str:
        return f"{self.directory.url}/{name}"

    def _key(self, name: str) -> str:
        return self.directory.child(name).key

    def _minishard_indexes(
        self, minishards: list[_Minishard], workers: int
    ) -> dict[_Minishard, MinishardIndex | None]:
        by_shard: dict[int, list[int]] = {}
        for minishard in minishards:
            by_shard.setdefault(minishard.shard, []).append(minishard.number)
        ranges: dict[_Minishard, tuple[int, int] | None] = {}
        indexes: dict[_Minishard, MinishardIndex | None] = {}

        def find_ranges(shard: int) -> None:
            found = self._index_ranges(shard, by_shard[shard])
            for number in by_shard[shard]:
                ranges[_Minishard(shard, number)] = found.get(number)

        def load(minishard: _Minishard) -> None:
            place = ranges[minishard]
            indexes[minishard] = None if place is None else self._load_index(minishard, *place)

        run_bounded(by_shard, find_ranges, workers=min(workers, len(by_shard)))
        run_bounded(minishards, load, workers=min(workers, len(minishards)))
        return indexes

    def _index_ranges(self, shard: int, numbers: list[int]) -> dict[int, tuple[int, int] | None]:
        """File ranges of the indexes of some minishards; empty where the shard is absent."""
        name = shard_name(self.spec, shard)
        whole = self.spec.shard_index_bytes
        if whole <= WHOLE_INDEX_BYTES:
            first, last = 0, (1 << self.spec.minishard_bits) - 1
        else:
            first, last = min(numbers), max(numbers)
            if 16 * (last - first + 1) > WHOLE_INDEX_BYTES:
                return self._scattered_ranges(shard, numbers)
        data = self._index_bytes(name, 16 * first, 16 * (last + 1))
        if data is None:
            return {}
        return {number: self._range(name, data, number - first) for number in numbers}

    def _scattered_ranges(
        self, shard: int, numbers: list[int]
    ) -> dict[int, tuple[int, int] | None]:
        name = shard_name(self.spec, shard)
        found: dict[int, tuple[int, int] | None] = {}
        for number in numbers:
            data = self._index_bytes(name, 16 * number, 16 * (number + 1))
            if data is None:
                return {}
            found[number] = self._range(name, data, 0)
        return found

    def _range(self, name: str, data: bytes, entry: int) -> tuple[int, int] | None:
        try:
            return minishard_range(self.spec, data[16 * entry : 16 * entry + 16])
        except CorruptDataError as error:
            raise CorruptDataError(f"{self._url(name)}: {error}") from None

    def _index_bytes(self, name: str, start: int, stop: int) -> bytes | None:
        key = self._key(name)
        version = self.directory.storage.fingerprint(key)
        cached = (self.directory, name, version, start, stop)
        data: bytes | None = index_cache.get(cached)
        if data is None:
            data = self.directory.storage.get_range(key, start, stop)
            if data is None:
                return None
            if len(data) != stop - start:
                raise CorruptDataError(
                    f"{self._url(name)}: the file ends inside its shard index, which is "
                    f"{self.spec.shard_index_bytes} bytes long ({len(data)} of bytes {start} to "
                    f"{stop} are there)"
                )
            index_cache.put(cached, data, len(data))
        return data

    def _load_index(self, minishard: _Minishard, start: int, stop: int) -> MinishardIndex:
        name = shard_name(self.spec, minishard.shard)
        key = self._key(name)
        version = self.directory.storage.fingerprint(key)
        cached = (self.directory, name, version, self.spec.minishard_index_encoding, start, stop)
        index: MinishardIndex | None = index_cache.get(cached)
        if index is None:
            place = f"{self._url(name)}: index of minishard {minishard.number}"
            limit = 24 * self.max_entries
            if stop - start > limit + (limit >> 4) + 4096:  # gzip adds a little
                raise CorruptDataError(
                    f"{place}: {stop - start} bytes, at most {limit} can be valid"
                )
            data = self._exact_range(key, start, stop, place)
            try:
                if self.spec.minishard_index_encoding == "gzip":
                    data = decompress(data, "gzip", limit)
                index = MinishardIndex.parse(data, self.spec)
            except CorruptDataError as error:
                raise CorruptDataError(f"{place}: {error}") from None
            index_cache.put(cached, index, index.nbytes)
        return index

    def _exact_range(self, key: str, start: int, stop: int, place: str) -> bytes:
        data = self.directory.storage.get_range(key, start, stop)
        if data is None:
            raise CorruptDataError(f"{place}: the shard disappeared while it was read")
        if len(data) != stop - start:
            raise CorruptDataError(
                f"{place}: bytes {start} to {stop} reach beyond the end of the file "
                f"({len(data)} of {stop - start} are there)"
            )
        return data

    def _check_range(self, shard: int, value: _Value, max_value_bytes: int) -> None:
        most = max_value_bytes + (max_value_bytes >> 4) + 4096  # gzip adds a little
        if value.stop - value.start > most:
            raise CorruptDataError(
                f"{self._url(shard_name(self.spec, shard))}: a value of "
                f"{value.stop - value.start} bytes, at most {most} can be valid"
            )

    def _fetch(self, fetch: _Fetch, deliver: Deliver, max_value_bytes: int) -> None:
        name = shard_name(self.spec, fetch.shard)
        data = self._exact_range(
            self._key(name), fetch.start, fetch.stop, f"{self._url(name)}: values"
        )
        view = memoryview(data)

        def unpack(value: _Value) -> None:
            stored: Bytes = view[value.start - fetch.start : value.stop - fetch.start]
            if self.spec.data_encoding == "gzip":
                try:
                    stored = decompress(stored, "gzip", max_value_bytes)
                except CorruptDataError as error:
                    raise CorruptDataError(
                        f"{self._url(name)}: value at bytes {value.start} to {value.stop}: {error}"
                    ) from None
            deliver(value.position, stored)

        # one request may bring hundreds of values: they are unpacked on all cores
        threads = get_options().decode_threads
        run_bounded(fetch.values, unpack, workers=min(threads, len(fetch.values)))


def _group(
    shards: NDArray[np.uint64], minishards: NDArray[np.uint64]
) -> dict[_Minishard, NDArray[np.int64]]:
    """Positions by minishard, in order of shard and minishard."""
    order = np.lexsort((minishards, shards))
    shards, minishards = shards[order], minishards[order]
    changes = np.flatnonzero((np.diff(shards) != 0) | (np.diff(minishards) != 0)) + 1
    return {
        _Minishard(int(shards[begin]), int(minishards[begin])): order[begin:end]
        for begin, end in zip([0, *changes], [*changes, len(order)], strict=True)
        if begin < end
    }


def _coalesce(values: dict[int, list[_Value]]) -> Iterator[_Fetch]:
    """Join values of a shard that lie close together into one request."""
    options = get_options()
    for shard, members in values.items():
        members.sort(key=lambda value: value.start)
        joined: list[_Value] = []
        stop = 0
        for value in members:
            near = value.start - stop <= options.coalesce_gap_bytes
            small = joined and value.stop - joined[0].start <= options.coalesce_max_bytes
            if joined and not (near and small):
                yield _Fetch(shard, joined[0].start, stop, joined)
                joined = []
            stop = max(stop, value.stop) if joined else value.stop
            joined.append(value)
        if joined:
            yield _Fetch(shard, joined[0].start, stop, joined)
