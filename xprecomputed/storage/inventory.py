"""All keys of a shard, and all shards of a folder: what is listed, copied and rewritten.

What `ShardedValues` finds for some keys is here for all of them: both indexes are read whole,
and checked more strictly, because a key that lies in the wrong place is found by no reader.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from xprecomputed.errors import AccessDeniedError, CorruptDataError, StorageError
from xprecomputed.parallel import decode_slot, run_bounded
from xprecomputed.shard_format import MinishardIndex, locate, shard_name
from xprecomputed.storage.shards import (
    ATTEMPTS,
    Fetch,
    Found,
    Placed,
    ShardedValues,
    coalesce,
    workers_for,
)

__all__ = ["contents", "shards_in"]

#: Entries of the shard index that are read at once: 1 MiB.
SPAN = 1 << 16
#: Where nothing can be listed, up to so many bits of shards are asked for one by one.
ASK_FOR_BITS = 12
SUFFIX = ".shard"


class _TornError(Exception):
    """Two answers came from two versions of a file."""


def contents(stored: ShardedValues, shard: int) -> tuple[NDArray[np.uint64], Found]:
    """All keys of one shard and where their values lie, as the store says now.

    Parameters
    ----------
    stored : ShardedValues
    shard : int

    Returns
    -------
    keys : ndarray of uint64, shape (N,)
        By minishard, ascending in each; none where there is no such shard.
    found : Found
        Of each key.

    Raises
    ------
    CorruptDataError
        Also where a key lies in a shard or minishard to which it does not hash.
    ConflictError
        The shard was replaced again and again.
    AccessDeniedError, StorageError
    """
    for _ in range(ATTEMPTS):
        stored.forget_shard(shard)
        try:
            indexes, version = _indexes(stored, shard)
        except _TornError:
            continue
        members = [indexes[number] for number in sorted(indexes)]
        keys = np.concatenate([np.zeros(0, np.uint64), *(each.keys for each in members)])
        starts = np.concatenate([np.zeros(0, np.int64), *(each.starts for each in members)])
        stops = np.concatenate([np.zeros(0, np.int64), *(each.stops for each in members)])
        shards = np.full(len(keys), shard, np.uint64)
        return keys, Found(shards, starts, stops, {shard: version})
    raise stored.replaced(shard)


def _indexes(stored: ShardedValues, shard: int) -> tuple[dict[int, MinishardIndex], Hashable]:
    """Every minishard index that is not empty, and the version of the file."""
    indexes: dict[int, MinishardIndex] = {}
    lock = threading.Lock()
    ranges, version = _ranges(stored, shard)

    def load(fetch: Fetch) -> None:
        what = "indexes of minishards"
        data = stored.exact_range(shard, fetch.start, fetch.stop, what, fetch.version)
        if data is None:
            raise _TornError
        view = memoryview(data)
        for number, start, stop in fetch.values:
            with decode_slot():
                part = view[start - fetch.start : stop - fetch.start]
                index = stored.parse_index(shard, number, part, start)
                _check_keys(stored, shard, number, index)
            with lock:
                indexes[number] = index

    run_bounded(
        coalesce({shard: ranges}, {shard: version}),
        load,
        workers=min(workers_for(stored.directory), max(1, len(ranges))),
        cost=lambda fetch: fetch.stop - fetch.start,
    )
    return indexes, version


def _ranges(stored: ShardedValues, shard: int) -> tuple[list[Placed], Hashable]:
    """Where the minishard indexes lie; none where there is no such shard."""
    ranges: list[Placed] = []
    version: Hashable = None
    count = 1 << stored.spec.minishard_bits
    for first in range(0, count, SPAN):
        last = min(first + SPAN, count)
        index = stored.index_bytes(shard, 16 * first, 16 * last, frozenset([shard]))
        if index is None and first == 0:
            return [], None
        if index is None or (first and index.version != version):
            raise _TornError
        version = index.version
        ranges += _entries(stored, shard, index.content, first)
    _check_apart(stored, shard, ranges)
    return ranges, version


def _entries(stored: ShardedValues, shard: int, data: bytes, first: int) -> Iterator[Placed]:
    entries = np.frombuffer(data, "<u8").reshape(-1, 2)
    for at in np.flatnonzero(entries[:, 0] != entries[:, 1]).tolist():
        place = stored.index_range(shard, data, at)
        if place is not None:
            stored.check_index_range(shard, first + at, *place)
            yield Placed(first + at, *place)


def _check_apart(stored: ShardedValues, shard: int, ranges: list[Placed]) -> None:
    """Refuse a file whose shard index would have us read the same bytes again and again."""
    ranges.sort(key=lambda each: each.start)
    for before, after in pairwise(ranges):
        if after.start < before.stop:
            raise CorruptDataError(
                f"{stored.url(shard)}: the indexes of minishards {before.position} and "
                f"{after.position} overlap at byte {after.start}"
            )


def _check_keys(stored: ShardedValues, shard: int, number: int, index: MinishardIndex) -> None:
    places = locate(stored.spec, index.keys)
    wrong = (places.shards != shard) | (places.minishards != number)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise CorruptDataError(
            f"{stored.url(shard)}: index of minishard {number}: key {int(index.keys[at])} belongs "
            f"to {shard_name(stored.spec, int(places.shards[at]))}, minishard "
            f"{int(places.minishards[at])}, where every reader looks for it; is `sharding` in the "
            "info that of these files?"
        )


def shards_in(stored: ShardedValues) -> Iterable[int]:
    """The shards that have a file, ascending; all possible ones where nothing can be listed.

    Raises
    ------
    CorruptDataError
        A file has a name that no shard has.
    AccessDeniedError, StorageError
        It cannot be listed, and there are too many to ask for.
    """
    place, bits = stored.directory, stored.spec.shard_bits
    try:
        listed = [each.name for each in place.storage.list_dir(place.key)]
    except (AccessDeniedError, StorageError) as error:
        if bits <= ASK_FOR_BITS:
            return range(1 << bits)
        raise type(error)(
            f"{error}. Without a listing shards are asked for one by one, up to "
            f"{1 << ASK_FOR_BITS} of them; here are 2**{bits}: name the ids that you want"
        ) from None
    return sorted(_number(stored, name) for name in listed if name.endswith(SUFFIX))


def _number(stored: ShardedValues, name: str) -> int:
    try:
        number = int(name.removesuffix(SUFFIX), 16)
    except ValueError:
        number = -1
    if 0 <= number < 1 << stored.spec.shard_bits and shard_name(stored.spec, number) == name:
        return number
    last = shard_name(stored.spec, (1 << stored.spec.shard_bits) - 1)
    raise CorruptDataError(
        f"{stored.directory.url}/{name}: not the name of a shard, which are "
        f"{shard_name(stored.spec, 0)} to {last} by the `sharding` in the info; remove the file, "
        "or mend the info"
    )
