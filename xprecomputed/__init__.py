"""Neuroglancer Precomputed volumes as ordinary xarray data.

>>> import xarray as xr
>>> ds = xr.open_dataset(url, engine="precomputed")  # doctest: +SKIP
"""

from xprecomputed import accessor as _accessor  # registers .precomputed
from xprecomputed._version import __version__, show_versions
from xprecomputed.codecs import encodings
from xprecomputed.errors import (
    AccessDeniedError,
    ChunkMissingError,
    CoordinateError,
    CorruptDataError,
    InfoMissingError,
    InvalidInfoError,
    InvalidURLError,
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
from xprecomputed.metadata import ScaleInfo, ShardingSpec, VolumeInfo
from xprecomputed.options import get_options, set_options
from xprecomputed.store import PrecomputedStore, open_store
from xprecomputed.tracing import Trace, trace

__all__ = [
    "AccessDeniedError",
    "Box",
    "ChunkGrid",
    "ChunkMissingError",
    "CoordinateError",
    "CorruptDataError",
    "InfoMissingError",
    "InvalidInfoError",
    "InvalidURLError",
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
    "encodings",
    "get_options",
    "open_store",
    "set_options",
    "show_versions",
    "trace",
]

del _accessor
