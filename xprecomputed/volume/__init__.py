"""Boxes, selections and points to arrays, and arrays to stored objects."""

from xprecomputed.volume.assembly import assemble_shard, rewrite_shard
from xprecomputed.volume.chunking import aligned_chunks, preferred_chunks
from xprecomputed.volume.downsampling import coarse_box, default_method, downsample
from xprecomputed.volume.layout import create_info
from xprecomputed.volume.plan import ChunkTask, Indexer, OuterPlan, PointPlan
from xprecomputed.volume.presence import stored_chunks, stored_shards
from xprecomputed.volume.reader import FillMissing, ScaleReader, merged_counts
from xprecomputed.volume.write_plan import (
    Blocks,
    ShardTask,
    aligned_region,
    aligned_sizes,
    check_blocks,
    is_aligned,
    object_extent,
    shard_tasks,
)
from xprecomputed.volume.writer import (
    STAGING,
    Partial,
    Piece,
    ScaleWriter,
    as_stored,
    check_compression,
    require_fit,
)

__all__ = [
    "STAGING",
    "Blocks",
    "ChunkTask",
    "FillMissing",
    "Indexer",
    "OuterPlan",
    "Partial",
    "Piece",
    "PointPlan",
    "ScaleReader",
    "ScaleWriter",
    "ShardTask",
    "aligned_chunks",
    "aligned_region",
    "aligned_sizes",
    "as_stored",
    "assemble_shard",
    "check_blocks",
    "check_compression",
    "coarse_box",
    "create_info",
    "default_method",
    "downsample",
    "is_aligned",
    "merged_counts",
    "object_extent",
    "preferred_chunks",
    "require_fit",
    "rewrite_shard",
    "shard_tasks",
    "stored_chunks",
    "stored_shards",
]
