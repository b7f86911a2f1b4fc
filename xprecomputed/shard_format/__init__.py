"""uint64 keys to places in shard files and back (pure)."""

from xprecomputed.shard_format.boxes import shard_box_shape, shard_keys
from xprecomputed.shard_format.encoder import ShardLayout, encode_shards, pack_value
from xprecomputed.shard_format.hashing import murmurhash3_x86_128
from xprecomputed.shard_format.layout import (
    MinishardIndex,
    Places,
    locate,
    minishard_range,
    shard_name,
)
from xprecomputed.shard_format.morton import MortonCode
from xprecomputed.shard_format.sizes import sharding_for_ids

__all__ = [
    "MinishardIndex",
    "MortonCode",
    "Places",
    "ShardLayout",
    "encode_shards",
    "locate",
    "minishard_range",
    "murmurhash3_x86_128",
    "pack_value",
    "shard_box_shape",
    "shard_keys",
    "shard_name",
    "sharding_for_ids",
]
