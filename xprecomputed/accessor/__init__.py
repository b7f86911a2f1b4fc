"""``.precomputed`` on DataArray, Dataset and DataTree.

It holds no state: the source is in the variable's attrs, which survive arithmetic and
indexing; mip, resolution, offset and bounds are derived from the coordinates each time.
"""

from xprecomputed.accessor.arrays import PrecomputedArrayAccessor, PrecomputedDatasetAccessor
from xprecomputed.accessor.trees import PrecomputedTreeAccessor

__all__ = ["PrecomputedArrayAccessor", "PrecomputedDatasetAccessor", "PrecomputedTreeAccessor"]
