"""Which chunks one shard holds (format reference 4.6)."""

from __future__ import annotations

from xprecomputed.grid import Triple
from xprecomputed.metadata import ShardingSpec
from xprecomputed.shard_format.morton import MortonCode

__all__ = ["shard_box_shape"]


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
