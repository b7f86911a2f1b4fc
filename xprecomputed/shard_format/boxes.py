"""Which chunks one shard holds (format reference 4.6)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xprecomputed.grid import Triple
from xprecomputed.metadata import ShardingSpec
from xprecomputed.shard_format.layout import locate
from xprecomputed.shard_format.morton import MortonCode

__all__ = ["shard_box_shape", "shard_keys"]


def shard_box_shape(spec: ShardingSpec, grid_shape: Triple) -> Triple | None:
    """Extent in chunks (x, y, z) of the boxes that lie whole in one shard, unclipped.

    None where the hash scatters the chunks. With fewer bits than the grid has, a shard
    holds several such boxes.

    Examples
    --------
    >>> spec = ShardingSpec(preshift_bits=1, hash="identity", minishard_bits=2, shard_bits=3)
    >>> shard_box_shape(spec, (2, 4, 8))
    (2, 2, 2)
    """
    if spec.hash != "identity":
        return None
    counts = [0, 0, 0]
    for axis, _ in MortonCode(grid_shape).order[: spec.preshift_bits + spec.minishard_bits]:
        counts[axis] += 1
    x, y, z = (1 << count for count in counts)
    return x, y, z


def shard_keys(spec: ShardingSpec, grid_shape: Triple, shard: int) -> NDArray[np.uint64]:
    """Keys of all cells of the grid that belong into one shard, ascending.

    Examples
    --------
    >>> spec = ShardingSpec(preshift_bits=1, hash="identity", minishard_bits=1, shard_bits=1)
    >>> shard_keys(spec, (3, 2, 1), 1).tolist()
    [4, 6]
    """
    code = MortonCode(grid_shape)
    if spec.hash == "identity":
        within = min(spec.preshift_bits + spec.minishard_bits, code.bits)
        above = within + spec.shard_bits
        inside = np.arange(1 << within, dtype=np.uint64) | np.uint64(shard << within)
        ignored = np.arange(1 << max(0, code.bits - above), dtype=np.uint64)
        shifted = ignored << np.uint64(above) if len(ignored) > 1 else ignored
        keys = (shifted[:, None] | inside).reshape(-1)
    else:
        keys = np.arange(1 << code.bits, dtype=np.uint64)
        keys = keys[locate(spec, keys).shards == np.uint64(shard)]
    cells = code.decode(keys)
    return keys[(cells < np.array(grid_shape)).all(axis=1)]
