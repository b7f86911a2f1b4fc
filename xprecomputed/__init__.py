"""Neuroglancer Precomputed volumes as ordinary xarray data.

>>> import xarray as xr
>>> ds = xr.open_dataset(url, engine="precomputed")  # doctest: +SKIP
"""

from xprecomputed import accessor as _accessor  # registers .precomputed
from xprecomputed._version import __version__, show_versions
from xprecomputed.codecs import encodings
from xprecomputed.errors import (
    AccessDeniedError,
    AlignmentError,
    ChunkMissingError,
    ConflictError,
    CoordinateError,
    CorruptDataError,
    DataTypeError,
    InfoMissingError,
    InvalidInfoError,
    InvalidURLError,
    LayerExistsError,
    LayoutError,
    MissingDependencyError,
    NotFoundError,
    OutOfBoundsError,
    PrecomputedError,
    PrecomputedWarning,
    ScaleNotFoundError,
    SourceError,
    StorageError,
    UnsupportedEncodingError,
)
from xprecomputed.grid import Box, ChunkGrid
from xprecomputed.jobs import copy, downsample, to_precomputed
from xprecomputed.metadata import ScaleInfo, ShardingSpec, VolumeInfo
from xprecomputed.options import get_options, set_options
from xprecomputed.store import PrecomputedStore, open_store, write_info
from xprecomputed.tracing import Trace, trace
from xprecomputed.volume import create_info

__all__ = [
    "AccessDeniedError",
    "AlignmentError",
    "Box",
    "ChunkGrid",
    "ChunkMissingError",
    "ConflictError",
    "CoordinateError",
    "CorruptDataError",
    "DataTypeError",
    "InfoMissingError",
    "InvalidInfoError",
    "InvalidURLError",
    "LayerExistsError",
    "LayoutError",
    "MissingDependencyError",
    "NotFoundError",
    "OutOfBoundsError",
    "PrecomputedError",
    "PrecomputedStore",
    "PrecomputedWarning",
    "ScaleInfo",
    "ScaleNotFoundError",
    "ShardingSpec",
    "SourceError",
    "StorageError",
    "Trace",
    "UnsupportedEncodingError",
    "VolumeInfo",
    "__version__",
    "copy",
    "create_info",
    "downsample",
    "encodings",
    "get_options",
    "open_store",
    "set_options",
    "show_versions",
    "to_precomputed",
    "trace",
    "write_info",
]

del _accessor
