"""uint64 keys to places in shard files and back (pure)."""

from xprecomputed.shard_format.boxes import shard_box_shape
from xprecomputed.shard_format.encoder import encode_shards
from xprecomputed.shard_format.hashing import murmurhash3_x86_128
from xprecomputed.shard_format.layout import (
    MinishardIndex,
    Places,
    locate,
    minishard_range,
    shard_name,
)
from xprecomputed.shard_format.morton import MortonCode

__all__ = [
    "MinishardIndex",
    "MortonCode",
    "Places",
    "encode_shards",
    "locate",
    "minishard_range",
    "murmurhash3_x86_128",
    "shard_box_shape",
    "shard_name",
]
