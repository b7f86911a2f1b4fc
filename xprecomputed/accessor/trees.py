"""``.precomputed`` on a DataTree of mips, and on any of its nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from xprecomputed import coords
from xprecomputed.accessor.arrays import PrecomputedDatasetAccessor
from xprecomputed.accessor.sources import source_of
from xprecomputed.accessor.writing import WriteMethods
from xprecomputed.errors import SourceError
from xprecomputed.metadata import VolumeInfo
from xprecomputed.store import PrecomputedStore
from xprecomputed.volume.chunking import DASK_CHUNK_BYTES

if TYPE_CHECKING:
    from xprecomputed.mesh import Meshes
    from xprecomputed.skeleton import Skeletons

__all__ = ["PrecomputedTreeAccessor"]


class PrecomputedTreeAccessor(WriteMethods):
    """``dt.precomputed``: of a tree of mips, and of any of its nodes."""

    _obj: xr.DataTree

    def __init__(self, obj: xr.DataTree) -> None:
        self._obj = obj

    @property
    def store(self) -> PrecomputedStore:
        """The layer that the tree came from."""
        if "precomputed_source" in self._obj.attrs:
            return source_of([self._obj.attrs])
        return self._node.store

    @property
    def info(self) -> VolumeInfo:
        """The layer's ``info``."""
        return self.store.info

    @property
    def mesh(self) -> Meshes:
        """The meshes of the layer's segments, see `PrecomputedStore.mesh`; two requests."""
        return self.store.mesh

    @property
    def skeleton(self) -> Skeletons:
        """The skeletons of the layer's segments, see `PrecomputedStore.skeleton`; two requests."""
        return self.store.skeleton

    @property
    def _node(self) -> PrecomputedDatasetAccessor:
        if not self._obj.data_vars:
            raise SourceError(
                f"this node has no data; choose one of {list(self._obj.children)}:\n"
                "    dt['mip0'].precomputed"
            )
        return PrecomputedDatasetAccessor(self._obj.to_dataset())

    @property
    def mip(self) -> int | None:
        """The mip of this node."""
        return self._node.mip

    @property
    def resolution(self) -> tuple[float, ...]:
        """The voxel size of this node in nm, x, y, z."""
        return self._node.resolution

    @property
    def voxel_offset(self) -> tuple[int, ...]:
        """First absolute voxel of this node, x, y, z."""
        return self._node.voxel_offset

    @property
    def bounds_nm(self) -> NDArray[np.float64]:
        """Outer edges of this node in nm."""
        return self._node.bounds_nm

    def to_voxels(
        self, points_nm: ArrayLike, resolution: Sequence[float] | None = None
    ) -> NDArray[np.int64]:
        """As on a DataArray; a root without data needs `resolution`."""
        if resolution is not None:
            return coords.to_voxels(points_nm, resolution)
        return self._node.to_voxels(points_nm)

    def to_nm(
        self, points_vx: ArrayLike, resolution: Sequence[float] | None = None
    ) -> NDArray[np.float64]:
        """As on a DataArray; a root without data needs `resolution`."""
        if resolution is not None:
            return coords.to_nm(points_vx, resolution)
        return self._node.to_nm(points_vx)

    def crop(self, bounds: Any = None, **options: Any) -> xr.DataTree:
        """Cut the same box in nm out of every mip; parameters as on a DataArray."""
        return self._each(lambda ds: ds.precomputed.crop(bounds, **options))

    def chunk(self, nbytes: int | str = DASK_CHUNK_BYTES) -> xr.DataTree:
        """Chunk every mip along its storage chunks."""
        return self._each(lambda ds: ds.precomputed.chunk(nbytes))

    def snap(self, tolerance: float = 0.01) -> xr.DataTree:
        """Snap the coordinates of every mip."""
        return self._each(lambda ds: ds.precomputed.snap(tolerance))

    def _each(self, change: Callable[[xr.Dataset], xr.Dataset]) -> xr.DataTree:
        changed: xr.DataTree = self._obj.map_over_datasets(
            lambda ds: change(ds) if ds.data_vars else ds
        )
        return changed
