"""How many storage chunks one dask task should take (pure)."""

from __future__ import annotations

import math

from xprecomputed.grid import Triple
from xprecomputed.metadata import ScaleInfo
from xprecomputed.shard_format import shard_box_shape

__all__ = ["DASK_CHUNK_BYTES", "aligned_chunks", "preferred_chunks"]

DASK_CHUNK_BYTES = 64 << 20  # 64 MiB
#: dask culls by walking all keys of an array: about 0.8 µs and 150 B each.
MAX_DASK_CHUNKS = 1_000_000


def preferred_chunks(
    scale: ScaleInfo, voxel_bytes: int, size: Triple | None = None, nbytes: int = DASK_CHUNK_BYTES
) -> Triple:
    """Voxels (x, y, z) of one dask chunk: a multiple of the storage chunk.

    It grows by doubling its shortest side while it stays within `nbytes` and, on a sharded
    scale, inside one shard; then on, whatever its bytes, until the array has at most a
    million of them (reading a part of such a chunk reads only that part).

    Parameters
    ----------
    scale : ScaleInfo
    voxel_bytes : int
        Item size times channels.
    size : tuple of int, optional
        Voxels of the array, x, y, z; the whole scale by default.
    nbytes : int

    Examples
    --------
    >>> scale = ScaleInfo(key="s", size=(10_000,) * 3, resolution=(8, 8, 8),
    ...                   chunk_sizes=((64, 64, 64),), encoding="raw")
    >>> preferred_chunks(scale, 1)
    (512, 512, 256)
    """
    size = scale.size if size is None else size
    chunk = list(scale.chunk_size)
    most = list(size)
    box = None if scale.sharding is None else shard_box_shape(scale.sharding, scale.grid.shape)
    if box is not None:
        most = [min(m, b * c) for m, b, c in zip(most, box, scale.chunk_size, strict=True)]
    while _grow(chunk, most, nbytes // voxel_bytes):
        pass
    while math.prod(-(-s // c) for s, c in zip(size, chunk, strict=True)) > MAX_DASK_CHUNKS:
        _grow(chunk, list(size), None)
    x, y, z = chunk
    return x, y, z


def _grow(chunk: list[int], most: list[int], voxels: int | None) -> bool:
    """Double the shortest side that may still grow; whether there was one."""
    sides = sorted((c, axis) for axis, c in enumerate(chunk) if c < most[axis])
    if not sides or (voxels is not None and 2 * math.prod(chunk) > voxels):
        return False
    chunk[sides[0][1]] *= 2
    return True


def aligned_chunks(first: int, size: int, chunk: int) -> tuple[int, ...]:
    """Chunk sizes of `size` voxels that begin `first` voxels into a grid of `chunk`.

    Examples
    --------
    >>> aligned_chunks(60, 100, 64)
    (4, 64, 32)
    """
    head = min(chunk - first % chunk, size)
    rest = size - head
    tail = (rest % chunk,) if rest % chunk else ()
    return (head,) + (chunk,) * (rest // chunk) + tail
