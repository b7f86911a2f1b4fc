"""The JSON documents of the Precomputed family as frozen values (pure)."""

from xprecomputed.metadata._checks import parse_json
from xprecomputed.metadata.sharding import ShardingSpec
from xprecomputed.metadata.volume import DATA_TYPES, ScaleInfo, VolumeInfo

__all__ = ["DATA_TYPES", "ScaleInfo", "ShardingSpec", "VolumeInfo", "parse_json"]
