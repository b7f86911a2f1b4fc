"""What is stored by segment id, in shards or as objects of their own: meshes and skeletons."""

from xprecomputed.keyed.ids import Missing, as_ids, check_missing, raise_missing
from xprecomputed.keyed.values import KeyedValues, Value, read_json, read_object

__all__ = [
    "KeyedValues",
    "Missing",
    "Value",
    "as_ids",
    "check_missing",
    "raise_missing",
    "read_json",
    "read_object",
]
