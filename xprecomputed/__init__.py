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
    LodNotFoundError,
    MissingDependencyError,
    NotFoundError,
    OutOfBoundsError,
    PrecomputedError,
    PrecomputedWarning,
    ScaleNotFoundError,
    SegmentMissingError,
    SourceError,
    StorageError,
    UnsupportedEncodingError,
)
from xprecomputed.grid import Box, ChunkGrid
from xprecomputed.jobs import copy, downsample, to_precomputed
from xprecomputed.keyed import SpatialIndex
from xprecomputed.mesh import Mesh, Meshes
from xprecomputed.metadata import (
    MeshInfo,
    ScaleInfo,
    ShardingSpec,
    SkeletonInfo,
    SpatialIndexInfo,
    Transform,
    VertexAttribute,
    VolumeInfo,
)
from xprecomputed.options import get_options, set_options
from xprecomputed.skeleton import Skeletons, read_swc
from xprecomputed.store import (
    PrecomputedStore,
    create_mesh,
    create_skeleton,
    open_mesh,
    open_skeleton,
    open_store,
    write_info,
)
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
    "LodNotFoundError",
    "Mesh",
    "MeshInfo",
    "Meshes",
    "MissingDependencyError",
    "NotFoundError",
    "OutOfBoundsError",
    "PrecomputedError",
    "PrecomputedStore",
    "PrecomputedWarning",
    "ScaleInfo",
    "ScaleNotFoundError",
    "SegmentMissingError",
    "ShardingSpec",
    "SkeletonInfo",
    "Skeletons",
    "SourceError",
    "SpatialIndex",
    "SpatialIndexInfo",
    "StorageError",
    "Trace",
    "Transform",
    "UnsupportedEncodingError",
    "VertexAttribute",
    "VolumeInfo",
    "__version__",
    "copy",
    "create_info",
    "create_mesh",
    "create_skeleton",
    "downsample",
    "encodings",
    "get_options",
    "open_mesh",
    "open_skeleton",
    "open_store",
    "read_swc",
    "set_options",
    "show_versions",
    "to_precomputed",
    "trace",
    "write_info",
]

del _accessor
