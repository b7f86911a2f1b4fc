"""What is stored by segment id, in shards or as objects of their own: meshes and skeletons."""

from xprecomputed.keyed.ids import Missing, as_ids, check_missing, parse_id, raise_missing
from xprecomputed.keyed.packing import Value
from xprecomputed.keyed.segments import Bounds, Segments, read_info
from xprecomputed.keyed.spatial_index import SpatialIndex
from xprecomputed.keyed.values import KeyedValues, read_blob, read_object

__all__ = [
    "Bounds",
    "KeyedValues",
    "Missing",
    "Segments",
    "SpatialIndex",
    "Value",
    "as_ids",
    "check_missing",
    "parse_id",
    "raise_missing",
    "read_blob",
    "read_info",
    "read_object",
]
