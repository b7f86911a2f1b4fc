"""Replacing values in shards: what stays is copied as it is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Bytes, decompress
from xprecomputed.errors import CorruptDataError
from xprecomputed.options import get_options
from xprecomputed.parallel import decode_slot, run_bounded
from xprecomputed.shard_format import locate, pack_value
from xprecomputed.storage import (
    Found,
    Read,
    ShardedValues,
    Unchanged,
    Waiting,
    contents,
    kept_values,
    lay_out,
    write_shard,
)

__all__ = ["Packer", "Value"]

#: Shards that are rewritten at once: each has a copy of itself, or parts of an upload.
SHARDS_AT_ONCE = 4
#: A gzipped value may be so much longer than its contents.
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


@dataclass(frozen=True, slots=True)
class Packer:
    """Changes the shards of one folder, each as a whole.

    Parameters
    ----------
    stored : ShardedValues
    max_value_bytes : int
        A longer value is corrupt.
    bytes_before : callable or None
        As in `KeyedValues`.
    cache_control : str or None
    """

    stored: ShardedValues
    max_value_bytes: int
    bytes_before: Callable[[Bytes], int] | None = None
    cache_control: str | None = None

    def put(self, values: Mapping[int, Value]) -> None:
        """Add values, and replace those that are there.

        Raises
        ------
        CorruptDataError, AccessDeniedError, StorageError
        """

        def write(shard: int) -> None:
            new = self._packed(members[shard], values)
            self._rewrite(shard, np.array(members[shard], np.uint64), new)

        members = self._by_shard(np.array(list(values), np.uint64))
        run_bounded(members, write, workers=self._workers(len(members)))

    def delete(self, ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Take values out; the ids that were there, ascending.

        Raises
        ------
        CorruptDataError, AccessDeniedError, StorageError
        """
        gone: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]

        def take_out(shard: int) -> None:
            gone.append(self._rewrite(shard, np.array(members[shard], np.uint64), []))

        # shards that have none of them are not touched, nor made
        members = self._by_shard(ids[self.stored.find(ids).starts >= 0])
        run_bounded(members, take_out, workers=self._workers(len(members)))
        return np.unique(np.concatenate(gone))

    def _workers(self, shards: int) -> int:
        return max(1, min(SHARDS_AT_ONCE, shards))

    def _by_shard(self, ids: NDArray[np.uint64]) -> dict[int, list[int]]:
        members: dict[int, list[int]] = {}
        shards = locate(self.stored.spec, ids).shards
        for shard, key in zip(shards.tolist(), ids.tolist(), strict=True):
            members.setdefault(shard, []).append(key)
        return dict(sorted(members.items()))

    def _packed(self, keys: list[int], values: Mapping[int, Value]) -> list[Waiting]:
        """New values as they are stored, compressed on all cores."""
        packed: dict[int, Waiting] = {}

        def pack(key: int) -> None:
            value = values[key]
            with decode_slot():
                data = bytes(value.before) + pack_value(value.data, self.stored.spec)
            packed[key] = Waiting(key, 0, len(data), _constant(data), len(value.before))

        run_bounded(keys, pack, workers=min(get_options().decode_threads, len(keys)))
        return [packed[key] for key in keys]

    def _rewrite(
        self, shard: int, without: NDArray[np.uint64], new: list[Waiting]
    ) -> NDArray[np.uint64]:
        """Put `new` in the place of the keys `without`; those of them that were there."""
        place = self.stored.place(shard)

        def work(only_if: Unchanged | None) -> NDArray[np.uint64]:
            keys, found = contents(self.stored, shard)
            leaves = np.isin(keys, without)
            if not (new or leaves.any()):
                return keys[leaves]
            with ExitStack() as files:
                values = [*new, *self._kept(keys[~leaves], _some(found, ~leaves), files)]
                layout = lay_out(values, self.stored.spec, indexes_last=True)
                write_shard(place, layout, values, only_if, self.cache_control)
            return keys[leaves]

        return place.storage.update(place.key, work)

    def _kept(self, keys: NDArray[np.uint64], found: Found, files: ExitStack) -> list[Waiting]:
        if not len(keys):
            return []
        self._check_sizes(keys, found)
        before = self._before(keys, found)
        found = replace(found, starts=found.starts - before)
        self._check_apart(keys, found)
        return kept_values(self.stored, keys, found, files, before)

    def _check_sizes(self, keys: NDArray[np.uint64], found: Found) -> None:
        most = self.max_value_bytes + (self.max_value_bytes >> 4) + SLACK_BYTES
        large = np.flatnonzero(found.stops - found.starts > most)
        if len(large):
            nbytes = int((found.stops - found.starts)[large[0]])
            raise CorruptDataError(
                f"{self.stored.place_of(int(keys[large[0]]))}: a value of {nbytes} bytes, at most "
                f"{most} can be valid"
            )

    def _before(self, keys: NDArray[np.uint64], found: Found) -> NDArray[np.int64]:
        """How many bytes before each stored value belong to it."""
        before = np.zeros(len(keys), np.int64)
        tell = self.bytes_before
        if tell is None:
            return before

        def measure(position: int, data: Bytes) -> None:
            key = int(keys[position])
            try:
                if self.stored.spec.data_encoding == "gzip":
                    data = decompress(data, "gzip", self.max_value_bytes)
                count = tell(data)
            except CorruptDataError as error:
                raise CorruptDataError(f"{self.stored.place_of(key)}: {error}") from None
            room = int(found.starts[position]) - self.stored.spec.shard_index_bytes
            if not 0 <= count <= room:
                raise CorruptDataError(
                    f"{self.stored.place_of(key)}: {count} bytes before the value belong to it, "
                    f"{room} are there"
                )
            before[position] = count

        self.stored.all_stored(found, measure)
        return before

    def _check_apart(self, keys: NDArray[np.uint64], found: Found) -> None:
        """Refuse values that share bytes: written again, a small file could become any size."""
        order = np.lexsort((found.stops, found.starts))
        starts, stops = found.starts[order], found.stops[order]
        shared = np.flatnonzero(starts[1:] < np.maximum.accumulate(stops)[:-1])
        if len(shared):
            key = int(keys[order[shared[0] + 1]])
            raise CorruptDataError(
                f"{self.stored.place_of(key)}: its bytes from {int(starts[shared[0] + 1])} on "
                "belong to another value too, so the shard is not rewritten"
            )


def _constant(data: bytes) -> Read:
    return lambda start, stop: data[start:stop]


def _some(found: Found, which: NDArray[np.bool_]) -> Found:
    return replace(
        found, shards=found.shards[which], starts=found.starts[which], stops=found.stops[which]
    )
