"""Which chunks of a scale are stored, without reading one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from xprecomputed.errors import AccessDeniedError, StorageError
from xprecomputed.grid import Box, Triple
from xprecomputed.metadata import ShardingSpec
from xprecomputed.parallel import run_bounded
from xprecomputed.shard_format import locate, shard_name
from xprecomputed.storage import workers_for
from xprecomputed.volume.reader import ScaleReader

__all__ = ["stored_chunks", "stored_shards"]

#: Up to so many chunks are asked for one by one; beyond it the folder is listed.
ASK_FOR = 256
NAME = re.compile(r"(-?\d+)-(-?\d+)_(-?\d+)-(-?\d+)_(-?\d+)-(-?\d+)")


def stored_chunks(reader: ScaleReader, box: Box) -> NDArray[np.bool_]:
    """Whether each chunk that touches an absolute box is stored, as the store says for sure.

    Of a sharded scale the indexes are read, no value.

    Parameters
    ----------
    reader : ScaleReader
    box : Box
        Touches the scale.

    Returns
    -------
    ndarray of bool, axes (z, y, x), one element a chunk

    Raises
    ------
    AccessDeniedError, StorageError, CorruptDataError
    """
    grid = reader.scale.grid
    low, high = grid.cell_range(box)
    found = np.zeros(tuple(b - a for a, b in zip(low, high, strict=True))[::-1], bool)
    if (spec := reader.scale.sharding) is not None:
        with _with_cure():
            _look_into_shards(reader, spec, low, found)
    elif found.size <= ASK_FOR:

        def ask(cell: Triple) -> None:
            place = reader.directory.child(grid.name(cell))
            x, y, z = (a - b for a, b in zip(cell, low, strict=True))
            found[z, y, x] = place.storage.size(place.key) is not None

        with _with_cure():
            run_bounded(grid.cells(box), ask, workers=workers_for(reader.directory))
    else:
        with _with_cure_of_listing():
            _look_at_names(reader, low, found)
    return found


def _look_into_shards(
    reader: ScaleReader, spec: ShardingSpec, low: Triple, found: NDArray[np.bool_]
) -> None:
    z, y, x = (each.reshape(-1) for each in np.indices(found.shape))
    cells = np.stack([x + low[0], y + low[1], z + low[2]], axis=1)
    step = 1 << 20  # bounds the memory of a petavoxel's grid
    for first in range(0, len(cells), step):
        part = slice(first, first + step)
        keys = reader.keys(cells[part])
        # what is remembered may be older than what others did
        anew = frozenset(locate(spec, keys).shards.tolist())
        found.reshape(-1)[part] = reader.sharded_values().find(keys, anew=anew).starts >= 0


def _look_at_names(reader: ScaleReader, low: Triple, found: NDArray[np.bool_]) -> None:
    grid = reader.scale.grid
    for entry in reader.directory.storage.list_dir(reader.directory.key):
        match = NAME.fullmatch(entry.name)
        if match is None:
            continue
        begin = [int(each) for each in match.groups()[::2]]
        x, y, z = (
            (a - o) // c for a, o, c in zip(begin, grid.voxel_offset, grid.chunk_size, strict=True)
        )
        at = z - low[2], y - low[1], x - low[0]
        inside = all(0 <= i < n for i, n in zip(at, found.shape, strict=True))
        if inside and grid.name((x, y, z)) == entry.name:
            found[at] = True


@contextmanager
def _with_cure() -> Iterator[None]:
    """Say of what is denied that it may be absent, and who can tell."""
    try:
        yield
    except AccessDeniedError as error:
        if not error.may_be_absent:
            raise
        explained = AccessDeniedError(
            f"{error}. Whether it is stored cannot be told: buckets that may not be listed answer "
            "403 for objects that do not exist too. Ask with credentials that may list the bucket"
        )
        explained.may_be_absent = True
        raise explained from None


@contextmanager
def _with_cure_of_listing() -> Iterator[None]:
    """Say how to do without a listing."""
    try:
        yield
    except (AccessDeniedError, StorageError) as error:
        raise type(error)(
            f"{error}. Chunks are asked for one by one, without a listing, where a box touches at "
            f"most {ASK_FOR} of them: exists(mip, box=...)"
        ) from None


def stored_shards(reader: ScaleReader, shards: Iterable[int]) -> set[int]:
    """Those of `shards` that have a file."""
    spec = reader.scale.sharding
    if spec is None:
        raise ValueError(f"scale {reader.scale.key!r} is not sharded")
    names = {shard_name(spec, shard): shard for shard in shards}
    if len(names) <= ASK_FOR:
        storage = reader.directory.storage
        with _with_cure():
            return {
                shard
                for name, shard in names.items()
                if storage.size(reader.directory.child(name).key) is not None
            }
    there = (each.name for each in reader.directory.storage.list_dir(reader.directory.key))
    return {names[name] for name in there if name in names}
