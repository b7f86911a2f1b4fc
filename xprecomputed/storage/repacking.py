"""Writing a shard out of values that wait in several places; what is kept is never decoded."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Bytes
from xprecomputed.metadata import ShardingSpec
from xprecomputed.options import get_options
from xprecomputed.shard_format import ShardLayout
from xprecomputed.storage.base import Location, Unchanged
from xprecomputed.storage.caching.memory import index_cache
from xprecomputed.storage.shards import Found, ShardedValues

__all__ = ["Read", "Waiting", "from_copy", "kept_values", "lay_out", "write_shard"]

#: Gives the bytes of a range of wherever values wait.
Read: TypeAlias = Callable[[int, int], Bytes]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A value of a shard as stored, wherever it waits.

    Parameters
    ----------
    key : int
    start, stop : int
        What `read` is asked for.
    read : callable
    before : int
        How much of that lies before the value, without an entry of its own.
    """

    key: int
    start: int
    stop: int
    read: Read
    before: int = 0


def lay_out(
    values: Sequence[Waiting], spec: ShardingSpec, *, indexes_last: bool = False
) -> ShardLayout:
    """The file that holds `values`, which are all of one shard; see `ShardLayout.plan`."""
    keys = np.array([each.key for each in values], np.uint64)
    before = np.array([each.before for each in values], np.int64)
    sizes = np.array([each.stop - each.start for each in values], np.int64) - before
    return ShardLayout.plan(keys, sizes, spec, before, indexes_last=indexes_last)


def write_shard(
    place: Location,
    layout: ShardLayout,
    values: Sequence[Waiting],
    only_if: Unchanged | None,
    cache_control: str | None = None,
) -> None:
    """Write a shard, one value after the other; without any the file goes away.

    Under a condition it stays, with nothing in it: there is no conditional delete.

    Parameters
    ----------
    place : Location
    layout : ShardLayout
        Of `values`.
    values : sequence of Waiting
    only_if : Unchanged or None
        As `Storage.update` hands it over.
    cache_control : str or None

    Raises
    ------
    ConflictError, AccessDeniedError, StorageError
    """

    def read(position: int) -> Bytes:
        value = values[position]
        return value.read(value.start, value.stop)

    if not values and only_if is None:
        place.storage.delete(place.key)
    else:
        place.storage.put_parts(
            place.key, layout.parts(read), cache_control=cache_control, only_if=only_if
        )
    index_cache.clear()  # not every store can tell that an object was replaced


def kept_values(
    stored: ShardedValues,
    keys: NDArray[np.uint64],
    found: Found,
    files: ExitStack,
    before: NDArray[np.int64] | None = None,
) -> list[Waiting]:
    """The values of one shard that were found, to be written again.

    Parameters
    ----------
    stored : ShardedValues
    keys : ndarray of uint64, shape (N,)
        All of one shard.
    found : Found
        Of these keys, with what lies `before`.
    files : ExitStack
        Keeps the copy that is made of a shard that is not on this machine.
    before : ndarray of int64, shape (N,), optional
        As in `Waiting`.
    """
    at = np.flatnonzero(found.starts >= 0)
    if not len(at):
        return []
    starts, stops = found.starts, found.stops
    if stored.directory.storage.is_local:
        shard = int(found.shards[at[0]])
        read: Read = _ReadAhead(stored, shard, found.versions[shard], int(stops[at].max()))
    else:
        # in the copy they lie one after the other
        sizes = np.where(starts >= 0, stops - starts, 0)
        stops = np.cumsum(sizes)
        starts = stops - sizes
        read = from_copy(files, lambda file: _copy(stored, found, starts, file))
    held = np.zeros(len(keys), np.int64) if before is None else before
    return [
        Waiting(int(keys[i]), int(starts[i]), int(stops[i]), read, int(held[i]))
        for i in at.tolist()
    ]


def _copy(stored: ShardedValues, found: Found, starts: NDArray[np.int64], file: IO[bytes]) -> None:
    lock = threading.Lock()

    def put(position: int, data: Bytes) -> None:
        with lock:
            file.seek(int(starts[position]))
            file.write(data)

    stored.all_stored(found, put)


def from_copy(files: ExitStack, fill: Callable[[IO[bytes]], None]) -> Read:
    """How ranges of a local copy are read, which `fill` makes when the first is asked for.

    A request for each value would be slow, and all of them in memory too much.
    """
    copies: list[IO[bytes]] = []

    def read(start: int, stop: int) -> bytes:
        if not copies:
            file = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            fill(file)
            copies.append(file)
        copies[0].seek(start)
        return copies[0].read(stop - start)

    return read


class _ReadAhead:
    """Ranges of a file that is near, together with what follows where they are in order."""

    def __init__(self, stored: ShardedValues, shard: int, version: Hashable, end: int) -> None:
        self.stored = stored
        self.shard = shard
        self.version = version
        self.end = end  # beyond which nothing will be asked for
        self.held = memoryview(b"")
        self.first = self.last = 0
        self.asked = -1

    def __call__(self, start: int, stop: int) -> Bytes:
        if start < self.first or stop > self.last:
            options = get_options()
            in_order = 0 <= start - self.asked <= options.coalesce_gap_bytes
            ahead = start + options.coalesce_max_bytes if in_order and self.asked >= 0 else stop
            last = min(max(stop, ahead), max(stop, self.end))
            data = self.stored.part(self.shard, start, last, self.version)
            self.held, self.first, self.last = memoryview(data), start, last
        self.asked = stop
        return self.held[start - self.first : stop - self.first]
