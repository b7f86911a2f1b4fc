"""Everything that runs on dask: writing, pyramids, copies, label operations."""

from xprecomputed.jobs.copying import copy
from xprecomputed.jobs.pyramid import downsample
from xprecomputed.jobs.writing import to_precomputed

__all__ = ["copy", "downsample", "to_precomputed"]
