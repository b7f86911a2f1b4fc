"""Many values out of shard files with few requests.

One batch costs one request per shard index, and one per coalesced range of minishard indexes and
of values; indexes stay in a byte-bounded cache. Fact: format reference 4.3.

A shard may be replaced at any time, and the index of the old file with the bytes of the new
one would pass for data. So every answer carries the version of the file that it came from, and
answers of two versions are never put together. Where the store tells no versions, nothing can.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Bytes, decompress
from xprecomputed.errors import AccessDeniedError, ConflictError, CorruptDataError
from xprecomputed.metadata import ShardingSpec
from xprecomputed.options import get_options
from xprecomputed.parallel import WORTHWHILE_S, run_bounded
from xprecomputed.shard_format import MinishardIndex, locate, minishard_range, shard_name
from xprecomputed.storage.base import Location
from xprecomputed.storage.caching.memory import index_cache
from xprecomputed.storage.coalescing import Fetch, Placed, coalesce

__all__ = [
    "ATTEMPTS",
    "Deliver",
    "Fetch",
    "Found",
    "Placed",
    "ShardedValues",
    "alone_for",
    "coalesce",
    "workers_for",
]

#: Called with the position of a key in the batch and its stored value, or None if absent.
Deliver = Callable[[int, Bytes | None], None]

#: Attempts at a shard that others replace again and again.
ATTEMPTS = 5

#: What is done so soon is done by one thread.
ALONE_S = 0.0005

#: Values of local shards are unpacked by one thread for so long. Two that get and give back memory
#: all the time hold each other up: a cutout of some chunks takes as long on one core as on two.
SOON_S = 0.002

#: The version of what came from two versions of a file.
_TORN: Hashable = ("torn",)

#: A shard index up to this size is read whole and kept; of a larger one only what is needed.
WHOLE_INDEX_BYTES = 1 << 20

#: Of local files, where a request costs microseconds, a batch is read in so many pieces a core: the
#: next core begins with the second one. Not of values that need less memory: they are soon done.
PIECES = 4
WORTHWHILE_BYTES = 256 << 10

#: Fewer keys are sorted by Python: NumPy takes longer to begin.
FEW_KEYS = 32


def workers_for(location: Location) -> int:
    """Threads that a read from `location` may use."""
    options = get_options()
    if location.storage.is_local:
        return options.decode_threads
    return max(options.requests_in_flight, options.decode_threads)


def alone_for(location: Location, task_s: float, count: int) -> float | None:
    """What `run_bounded` is told of `count` tasks at `location`, which take about `task_s` each."""
    if not location.storage.is_local:
        return None
    return ALONE_S if task_s < WORTHWHILE_S or task_s * count < ALONE_S else 0.0


class _Minishard(NamedTuple):
    shard: int
    number: int


@dataclass(frozen=True, slots=True)
class Index:
    """Bytes of a shard index, or a minishard index, and the version of the file."""

    content: Any
    version: Hashable
    #: it may be older than the file: it was remembered, and asking would cost a request
    doubtful: bool = False


#: That of which nothing is remembered.
_UNKNOWN = Index(None, None)


@dataclass(frozen=True, slots=True)
class Found:
    """Where the values of some keys lie; arrays with one element a key.

    Parameters
    ----------
    shards : ndarray of uint64
    starts, stops : ndarray of int64
        The file range; -1 where there is no value.
    versions : dict
        Of the files that the indexes of the shards came from.
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
    denied_is_absent : bool
        Whether a plain 403 means that there is no such shard.
    """

    directory: Location
    spec: ShardingSpec
    max_entries: int
    denied_is_absent: bool = False

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
        left = np.arange(len(keys))
        anew: frozenset[int] = frozenset()
        for _ in range(ATTEMPTS):
            found = self.find(keys[left], anew)
            for position in left[found.starts < 0].tolist():
                deliver(position, None)
            replaced: list[Fetch] = []
            fetches = list(self._fetches(found, left, max_value_bytes, held_bytes))
            run_bounded(
                fetches,
                lambda fetch: self._fetch(fetch, deliver, max_value_bytes, replaced),  # noqa: B023
                workers=max(1, min(workers_for(self.directory), len(fetches))),
                cost=lambda fetch: (
                    fetch.stop - fetch.start + held_bytes * min(len(fetch.values), threads)
                ),
                alone_s=SOON_S if self.directory.storage.is_local else None,
            )
            if not replaced:
                return
            left = np.array([value.position for fetch in replaced for value in fetch.values])
            anew = frozenset(fetch.shard for fetch in replaced)
        raise self.replaced(min(anew))

    def _fetches(
        self, found: Found, positions: NDArray[np.int64], max_value_bytes: int, held_bytes: int
    ) -> Iterator[Fetch]:
        """The requests for the values that were found; each has its position in the batch."""
        most = max_value_bytes + (max_value_bytes >> 4) + 4096  # gzip adds a little
        values: dict[int, list[Placed]] = {}
        for at in np.flatnonzero(found.starts >= 0).tolist():
            shard = int(found.shards[at])
            value = Placed(int(positions[at]), int(found.starts[at]), int(found.stops[at]))
            if value.stop - value.start > most:
                raise CorruptDataError(
                    f"{self.url(shard)}: a value of "
                    f"{value.stop - value.start} bytes, at most {most} can be valid"
                )
            values.setdefault(shard, []).append(value)
        together = None
        if self.directory.storage.is_local and held_bytes >= WORTHWHILE_BYTES:
            together = -(-len(positions) // (PIECES * get_options().decode_threads))
        return coalesce(values, found.versions, together)

    def find(self, keys: NDArray[np.uint64], anew: frozenset[int] = frozenset()) -> Found:
        """Where the values of keys lie; reads indexes only.

        Parameters
        ----------
        keys : ndarray of uint64, shape (N,)
        anew : set of int
            Shards whose indexes are read, whatever is remembered.

        Raises
        ------
        CorruptDataError, AccessDeniedError, StorageError
        """
        for _ in range(ATTEMPTS):
            found, doubtful = self._find(keys, anew)
            torn = [shard for shard, version in found.versions.items() if version is _TORN]
            # that there is no value is believed of an index that was just read, only
            absent = doubtful.intersection(found.shards[found.starts < 0].tolist())
            if not torn and not absent:
                return found
            anew = frozenset([*torn, *absent])
        raise self.replaced(min(anew))

    def _find(self, keys: NDArray[np.uint64], anew: frozenset[int]) -> tuple[Found, set[int]]:
        """Places of keys, and the shards whose indexes may be out of date.

        Indexes of the shards `anew` are read, whatever is remembered.
        """
        places = locate(self.spec, keys)
        groups = _group(places.shards, places.minishards)
        for shard in anew:  # by a cache in front of the store as well
            self.forget_shard(shard)
        indexes = self._minishard_indexes(list(groups), workers_for(self.directory), anew)
        starts = np.full(len(keys), -1, np.int64)
        stops = starts.copy()
        versions: dict[int, Hashable] = {}
        doubtful: set[int] = set()
        for minishard, positions in groups.items():
            index = indexes[minishard]
            if index is None:
                continue
            if versions.setdefault(minishard.shard, index.version) != index.version:
                versions[minishard.shard] = _TORN
            if index.doubtful:
                doubtful.add(minishard.shard)
            if index.content is not None:
                at = index.content.find(keys[positions])
                is_there = at >= 0
                there, at = positions[is_there], at[is_there]
                starts[there] = index.content.starts[at]
                stops[there] = index.content.stops[at]
        return Found(places.shards, starts, stops, versions), doubtful

    def replaced(self, shard: int) -> ConflictError:
        """The error of a shard that others replace again and again."""
        return ConflictError(
            f"{self.url(shard)}: the shard was replaced or removed while "
            f"it was read, {ATTEMPTS} times; read again. Or several servers behind this address "
            "give the same file ETags of their own: read from one of them"
        )

    def part(self, shard: int, start: int, stop: int, version: Hashable) -> bytes:
        """A range of the file of a shard, values as stored among others.

        Raises
        ------
        ConflictError
            The shard is no more of that version.
        CorruptDataError, AccessDeniedError, StorageError
        """
        data = self.exact_range(shard, start, stop, "values", version)
        if data is None:
            raise self.replaced(shard)
        return data

    def all_stored(self, found: Found, deliver: Callable[[int, Bytes], None]) -> None:
        """All values that were found, before ``data_encoding`` is undone; several a request.

        Parameters
        ----------
        found : Found
        deliver : callable
            Gets the position and the value of each, from several threads, in any order.

        Raises
        ------
        ConflictError
            A shard was replaced since.
        CorruptDataError, AccessDeniedError, StorageError
        """
        values: dict[int, list[Placed]] = {}
        for at in np.flatnonzero(found.starts >= 0).tolist():
            value = Placed(at, int(found.starts[at]), int(found.stops[at]))
            values.setdefault(int(found.shards[at]), []).append(value)

        def fetch(each: Fetch) -> None:
            view = memoryview(self.part(each.shard, each.start, each.stop, each.version))
            for value in each.values:
                deliver(value.position, view[value.start - each.start : value.stop - each.start])

        run_bounded(
            coalesce(values, found.versions),
            fetch,
            workers=workers_for(self.directory),
            cost=lambda each: each.stop - each.start,
        )

    def forget(self, key: int) -> None:
        """Drop what caches hold of the shard of a key."""
        self.forget_shard(int(locate(self.spec, np.array([key], np.uint64)).shards[0]))

    def forget_shard(self, shard: int) -> None:
        """Drop what a cache in front of the store holds of a shard."""
        self.directory.storage.forget(self._key(shard))

    def place_of(self, key: int) -> str:
        """Where a key should be, for messages."""
        places = locate(self.spec, np.array([key], np.uint64))
        return (
            f"{self.url(int(places.shards[0]))}, minishard {int(places.minishards[0])}, key {key}"
        )

    def url(self, shard: int) -> str:
        """The address of the file of a shard."""
        return f"{self.directory.url}/{shard_name(self.spec, shard)}"

    def place(self, shard: int) -> Location:
        """The file of a shard."""
        return self.directory.child(shard_name(self.spec, shard))

    def _key(self, shard: int) -> str:
        return self.place(shard).key

    def _minishard_indexes(
        self, minishards: list[_Minishard], workers: int, anew: frozenset[int]
    ) -> dict[_Minishard, Index | None]:
        """The index of each; one without content is empty, None: there is no such shard."""
        now: dict[int, Hashable] = {}
        ranges = self._places_of_indexes(minishards, workers, anew, now)
        indexes: dict[_Minishard, Index | None] = {}
        wanted: dict[int, list[Placed]] = {}
        for minishard in minishards:
            place = ranges.get(minishard)
            indexes[minishard] = self._known_index(minishard, place, anew, now)
            if indexes[minishard] is _UNKNOWN and place is not None:
                self.check_index_range(*minishard, *place.content)
                wanted.setdefault(minishard.shard, []).append(
                    Placed(minishard.number, *place.content)
                )
        if not wanted:
            return indexes
        versions = {minishard.shard: place.version for minishard, place in ranges.items()}

        def load(fetch: Fetch) -> None:
            for number, content in self._read_indexes(fetch):
                minishard = _Minishard(fetch.shard, number)
                place = ranges[minishard]
                is_torn = content is None or place.version != fetch.version
                indexes[minishard] = (
                    Index(None, _TORN) if is_torn else self._kept_index(minishard, place, content)
                )

        requests = list(coalesce(wanted, versions))  # writers may put them side by side
        run_bounded(
            requests,
            load,
            workers=min(workers, len(requests)),
            alone_s=alone_for(self.directory, 0, len(wanted)),
        )
        return indexes

    def _places_of_indexes(
        self,
        minishards: list[_Minishard],
        workers: int,
        anew: frozenset[int],
        now: dict[int, Hashable],
    ) -> dict[_Minishard, Index]:
        """File ranges of the indexes of minishards, without those of shards that are absent."""
        by_shard: dict[int, list[int]] = {}
        for minishard in minishards:
            by_shard.setdefault(minishard.shard, []).append(minishard.number)
        ranges: dict[_Minishard, Index] = {}

        def place(shard: int, read: Callable[[int, int, int], Index | None]) -> bool:
            found = self._index_ranges(shard, by_shard[shard], read)
            for number, each in found.items():
                ranges[_Minishard(shard, number)] = each
            return bool(found)

        def ask(shard: int) -> None:
            place(shard, partial(self.index_bytes, anew=anew, now=now))

        known = partial(self._known_bytes, anew=anew, now=now)
        unknown = [shard for shard in by_shard if not place(shard, known)]
        if unknown:
            run_bounded(
                unknown,
                ask,
                workers=min(workers, len(unknown)),
                alone_s=alone_for(self.directory, 0, len(unknown)),
            )
        return ranges

    def _index_ranges(
        self, shard: int, numbers: list[int], read: Callable[[int, int, int], Index | None]
    ) -> dict[int, Index]:
        """File ranges of the indexes of some minishards; empty where `read` gives nothing."""
        whole = self.spec.shard_index_bytes
        spans = [(number, number) for number in numbers]  # of a huge index only what is needed
        if whole <= WHOLE_INDEX_BYTES:
            spans = [(0, (1 << self.spec.minishard_bits) - 1)]
        elif 16 * (max(numbers) - min(numbers) + 1) <= WHOLE_INDEX_BYTES:
            spans = [(min(numbers), max(numbers))]
        found: dict[int, Index] = {}
        for first, last in spans:
            index = read(shard, 16 * first, 16 * (last + 1))
            if index is None:
                return {}
            for number in numbers:
                if first <= number <= last:
                    place = self.index_range(shard, index.content, number - first)
                    found[number] = replace(index, content=place)
        return found

    def index_range(self, shard: int, data: bytes, entry: int) -> tuple[int, int] | None:
        """The file range of a minishard's index, out of entries of the shard index."""
        try:
            return minishard_range(self.spec, data[16 * entry : 16 * entry + 16])
        except CorruptDataError as error:
            raise CorruptDataError(f"{self.url(shard)}: {error}") from None

    def _known_bytes(
        self, shard: int, start: int, stop: int, anew: frozenset[int], now: dict[int, Hashable]
    ) -> Index | None:
        """A part of the shard index that is remembered, or None."""
        return self._remembered(self._bytes_key(shard, start, stop), shard, anew, now)

    def _bytes_key(self, shard: int, start: int, stop: int) -> Hashable:
        return self.directory, shard_name(self.spec, shard), start, stop

    def index_bytes(
        self,
        shard: int,
        start: int,
        stop: int,
        anew: frozenset[int],
        now: dict[int, Hashable] | None = None,
    ) -> Index | None:
        """A part of the shard index; None where there is no such shard.

        Raises
        ------
        CorruptDataError, AccessDeniedError, StorageError
        """
        index = self._known_bytes(shard, start, stop, anew, {} if now is None else now)
        if index is None:
            try:
                blob = self.directory.storage.get_range(self._key(shard), start, stop)
            except AccessDeniedError as error:
                if not (self.denied_is_absent and error.may_be_absent):
                    raise
                blob = None
            if blob is None:
                return None
            if len(blob.data) != stop - start:
                raise CorruptDataError(
                    f"{self.url(shard)}: the file ends inside its shard index, which is "
                    f"{self.spec.shard_index_bytes} bytes long ({len(blob.data)} of bytes {start} "
                    f"to {stop} are there)"
                )
            index = Index(blob.data, blob.version)
            if blob.version is not None:  # else nobody could tell that the file is another one
                index_cache.put(self._bytes_key(shard, start, stop), index, len(blob.data))
        return index

    def _remembered(
        self, cached: Hashable, shard: int, anew: frozenset[int], now: dict[int, Hashable]
    ) -> Index | None:
        """What the cache holds, if the file is still the same, as far as that is known.

        `now` keeps the fingerprints of shards: one batch looks at each file once.
        """
        index: Index | None = index_cache.get(cached)
        if index is None or shard in anew:
            return None
        if shard not in now:
            now[shard] = self.directory.storage.fingerprint(self._key(shard))
        if now[shard] is None:
            return Index(index.content, index.version, doubtful=True)
        return index if now[shard] == index.version else None

    def _index_key(self, minishard: _Minishard, start: int, stop: int) -> Hashable:
        name = shard_name(self.spec, minishard.shard)
        return self.directory, name, self.spec.minishard_index_encoding, start, stop

    def _known_index(
        self,
        minishard: _Minishard,
        place: Index | None,
        anew: frozenset[int],
        now: dict[int, Hashable],
    ) -> Index | None:
        """What need not be asked for: None where there is no shard, else perhaps `_UNKNOWN`."""
        if place is None or place.content is None:
            return place
        cached = self._index_key(minishard, *place.content)
        index = self._remembered(cached, minishard.shard, anew, now)
        return index if index is not None and index.version == place.version else _UNKNOWN

    def _kept_index(self, minishard: _Minishard, place: Index, content: Any) -> Index:
        index = replace(place, content=content)
        if place.version is not None:
            index_cache.put(self._index_key(minishard, *place.content), index, content.nbytes)
        return index

    def _read_indexes(self, fetch: Fetch) -> Iterator[tuple[int, MinishardIndex | None]]:
        """Neighbouring indexes by the number of their minishard; None: of another version."""
        numbers = sorted(each.position for each in fetch.values)
        where = f"index of minishard {numbers[0]}"
        if len(numbers) > 1:
            where = f"indexes of minishards {numbers[0]} to {numbers[-1]}"
        data = self.exact_range(fetch.shard, fetch.start, fetch.stop, where, fetch.version)
        for number, start, stop in fetch.values:
            if data is None:
                yield number, None
            else:
                part = memoryview(data)[start - fetch.start : stop - fetch.start]
                yield number, self.parse_index(fetch.shard, number, part, start)

    def check_index_range(self, shard: int, number: int, start: int, stop: int) -> None:
        """Refuse the index of a minishard that is longer than any can be, before it is read."""
        limit = 24 * self.max_entries
        if stop - start > limit + (limit >> 4) + 4096:  # gzip adds a little
            raise CorruptDataError(
                f"{self.url(shard)}: index of minishard {number}: {stop - start} bytes, at most "
                f"{limit} can be valid"
            )

    def parse_index(self, shard: int, number: int, data: Bytes, start: int) -> MinishardIndex:
        """The index of a minishard out of its bytes, which the file has from `start` on.

        Raises
        ------
        CorruptDataError
        """
        where = f"{self.url(shard)}: index of minishard {number}"
        stop = start + len(data)
        try:
            if self.spec.minishard_index_encoding == "gzip":
                data = decompress(data, "gzip", 24 * self.max_entries)
            content = MinishardIndex.parse(data, self.spec)
        except CorruptDataError as error:
            raise CorruptDataError(f"{where}: {error}") from None
        if ((content.starts < stop) & (content.stops > start)).any():
            raise CorruptDataError(f"{where}: it places values where it lies itself")
        return content

    def exact_range(
        self, shard: int, start: int, stop: int, what: str, version: Hashable
    ) -> bytes | None:
        """A range of the file of that version; None if that is no more there.

        Raises
        ------
        CorruptDataError
            The file ends before; `what` says of what.
        AccessDeniedError, StorageError
        """
        blob = self.directory.storage.get_range(self._key(shard), start, stop)
        if blob is None or blob.version != version:
            return None
        if len(blob.data) != stop - start:
            raise CorruptDataError(
                f"{self.url(shard)}: {what}: bytes {start} to {stop} reach beyond the end of the "
                f"file ({len(blob.data)} of {stop - start} are there)"
            )
        return blob.data

    def _fetch(
        self, fetch: Fetch, deliver: Deliver, max_value_bytes: int, replaced: list[Fetch]
    ) -> None:
        data = self.exact_range(fetch.shard, fetch.start, fetch.stop, "values", fetch.version)
        if data is None:
            replaced.append(fetch)
            return
        view = memoryview(data)

        def unpack(value: Placed) -> None:
            stored: Bytes = view[value.start - fetch.start : value.stop - fetch.start]
            if self.spec.data_encoding == "gzip":
                try:
                    stored = decompress(stored, "gzip", max_value_bytes)
                except CorruptDataError as error:
                    raise CorruptDataError(
                        f"{self.url(fetch.shard)}: value at bytes {value.start} to {value.stop}: "
                        f"{error}"
                    ) from None
            deliver(value.position, stored)

        if len(fetch.values) == 1:
            unpack(fetch.values[0])
            return
        # one request may bring hundreds of values: they are unpacked on all cores
        threads = get_options().decode_threads
        count = min(threads, len(fetch.values))
        run_bounded(fetch.values, unpack, workers=count, alone_s=0.0)


def _group(
    shards: NDArray[np.uint64], minishards: NDArray[np.uint64]
) -> dict[_Minishard, NDArray[np.int64]]:
    """Positions by minishard, in order of shard and minishard."""
    if len(shards) <= FEW_KEYS:
        members: dict[tuple[int, int], list[int]] = {}
        for at, place in enumerate(zip(shards.tolist(), minishards.tolist(), strict=True)):
            members.setdefault(place, []).append(at)
        return {_Minishard(*place): np.array(members[place]) for place in sorted(members)}
    order = np.lexsort((minishards, shards))
    shards, minishards = shards[order], minishards[order]
    changes = np.flatnonzero((np.diff(shards) != 0) | (np.diff(minishards) != 0)) + 1
    return {
        _Minishard(int(shards[begin]), int(minishards[begin])): order[begin:end]
        for begin, end in zip([0, *changes], [*changes, len(order)], strict=True)
        if begin < end
    }
