"""The JSON documents of the Precomputed family as frozen values (pure)."""

from xprecomputed.metadata._checks import parse_json
from xprecomputed.metadata.mesh import LEGACY, MULTIRES, MeshInfo
from xprecomputed.metadata.sharding import ShardingSpec
from xprecomputed.metadata.skeleton import SkeletonInfo, VertexAttribute
from xprecomputed.metadata.spatial_index import SpatialIndexInfo
from xprecomputed.metadata.transform import IDENTITY, Transform
from xprecomputed.metadata.volume import DATA_TYPES, ScaleInfo, VolumeInfo

__all__ = [
    "DATA_TYPES",
    "IDENTITY",
    "LEGACY",
    "MULTIRES",
    "MeshInfo",
    "ScaleInfo",
    "ShardingSpec",
    "SkeletonInfo",
    "SpatialIndexInfo",
    "Transform",
    "VertexAttribute",
    "VolumeInfo",
    "parse_json",
]
