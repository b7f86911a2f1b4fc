"""What one asks of a layer beside its voxels: which chunks there are, which labels; deleting.

Boxes are half-open, in absolute voxels of the mip, x, y, z.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Array
from xprecomputed.coords import AXES
from xprecomputed.errors import AlignmentError, LayoutError, OutOfBoundsError
from xprecomputed.grid import Box, Triple
from xprecomputed.parallel import run_bounded
from xprecomputed.shard_format import locate, shard_keys, shard_name
from xprecomputed.storage import index_cache, workers_for
from xprecomputed.volume import (
    Blocks,
    ScaleReader,
    ScaleWriter,
    aligned_chunks,
    merged_counts,
    preferred_chunks,
    rewrite_shard,
    stored_chunks,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["as_box", "count_labels", "coverage", "delete_chunks", "tiles"]

Counts = tuple[Array, NDArray[np.int64]]

#: Labels of the chunk grid that one merging task takes together.
FAN_IN = 32


def as_box(box: Box | Sequence[Sequence[int]] | None, bounds: Box) -> Box:
    """A box as users give it; None: everything."""
    if box is None:
        return bounds
    if isinstance(box, Box):
        return box
    try:
        (x0, y0, z0), (x1, y1, z1) = ([index(each) for each in corner] for corner in box)
    except (TypeError, ValueError):
        raise OutOfBoundsError(
            f"box {box!r}: expected ((x0, y0, z0), (x1, y1, z1)), whole absolute voxels"
        ) from None
    return Box((x0, y0, z0), (x1, y1, z1))


def _inside(reader: ScaleReader, box: Box) -> Box:
    bounds = reader.scale.bounds
    if box.is_empty or not bounds.contains(box):
        raise OutOfBoundsError(
            f"{reader.directory.url}: box {box} is empty or not inside {bounds} (absolute voxels "
            "of this mip)"
        )
    return box


def coverage(reader: ScaleReader, box: Box) -> xr.DataArray:
    """Whether each chunk that touches a box is stored; see ``PrecomputedStore.exists``."""
    import xarray

    _inside(reader, box)
    stored = stored_chunks(reader, box)
    grid = reader.scale.grid
    low, high = grid.cell_range(box)
    coordinates: dict[str, Any] = {}
    for i, axis in enumerate(AXES):
        starts = grid.voxel_offset[i] + grid.chunk_size[i] * np.arange(low[i], high[i])
        stops = np.minimum(starts + grid.chunk_size[i], grid.bounds.stop[i])
        centres = (starts + stops) / 2 * reader.scale.resolution[i]
        attrs = {"units": "nm", "long_name": f"{axis}, chunk centres"}
        coordinates[axis] = (axis, centres, attrs)
        coordinates[f"{axis}_voxel"] = (axis, starts, {"long_name": f"first voxel along {axis}"})
    return xarray.DataArray(stored, coordinates, ("z", "y", "x"), name="stored")


def delete_chunks(writer: ScaleWriter, box: Box) -> int:
    """Delete the chunks of a box; see ``PrecomputedStore.delete``."""
    reader, grid = writer.reader, writer.scale.grid
    _inside(reader, box)
    if len(writer.scale.chunk_sizes) > 1:
        raise LayoutError(
            f"{reader.directory.url}: stored in chunks of {len(writer.scale.chunk_sizes)} sizes, "
            "each a complete copy, and only one would be deleted; write the layer anew instead"
        )
    cells = list(grid.cells(box))
    low, high = grid.chunk_box(cells[0]).start, grid.chunk_box(cells[-1]).stop
    if (low, high) != (box.start, box.stop):
        raise AlignmentError(
            f"{reader.directory.url}: box {box} covers chunks of {grid.chunk_size} voxels in part; "
            f"the nearest that does not is ({low}, {high})"
        )
    if writer.scale.sharding is not None:
        return _delete_from_shards(writer, cells)
    deleted: list[Triple] = []

    def delete(cell: Triple) -> None:
        place = reader.directory.child(grid.name(cell))
        if place.storage.delete(place.key):
            deleted.append(cell)

    run_bounded(cells, delete, workers=workers_for(reader.directory))
    return len(deleted)


def _delete_from_shards(writer: ScaleWriter, cells: Sequence[Triple]) -> int:
    reader, spec = writer.reader, writer.sharding
    keys = reader.keys(cells)
    shards = locate(spec, keys).shards
    # what is remembered may be older than what others did
    found = reader.sharded_values().find(keys, anew=frozenset(shards.tolist()))
    keys, shards = keys[found.starts >= 0], shards[found.starts >= 0]
    for shard in np.unique(shards).tolist():
        gone = keys[shards == shard]
        if len(gone) == len(shard_keys(spec, writer.scale.grid.shape, shard)):
            place = reader.directory.child(shard_name(spec, shard))
            place.storage.delete(place.key)
        else:
            rewrite_shard(writer, shard, gone.tolist())
    index_cache.clear()
    return len(keys)


def tiles(reader: ScaleReader, box: Box) -> Blocks:
    """A box cut along the chunk grid into pieces for one task each."""
    voxel_bytes = reader.dtype.itemsize * reader.num_channels
    sizes = preferred_chunks(reader.scale, voxel_bytes, box.shape)
    return Blocks.from_chunks(
        box.start,
        [
            aligned_chunks(start - first, extent, size)
            for start, first, extent, size in zip(
                box.start, reader.scale.voxel_offset, box.shape, sizes, strict=True
            )
        ],
    )


def count_labels(reader: ScaleReader, box: Box) -> Counts:
    """All values in a box and their voxels, through dask; see ``PrecomputedStore.unique``."""
    from dask.delayed import delayed

    _inside(reader, box)
    blocks = tiles(reader, box)
    count = delayed(reader.count_labels, pure=False)
    merge = delayed(partial(merged_counts, dtype=reader.dtype), pure=False)
    parts: list[Any] = [count(blocks.box(position)) for position in blocks.positions()]
    while len(parts) > 1:
        parts = [merge(each) for each in _groups(parts)]
    counts: Counts = parts[0].compute()
    return counts


def _groups(parts: Sequence[Any]) -> Iterable[list[Any]]:
    return (list(parts[i : i + FAN_IN]) for i in range(0, len(parts), FAN_IN))
