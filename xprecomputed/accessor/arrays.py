"""``.precomputed`` on DataArray and Dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from xprecomputed import coords
from xprecomputed.accessor.sources import source_of
from xprecomputed.accessor.writing import LabelMethods, WriteMethods
from xprecomputed.coords import AXES, AxisGrid
from xprecomputed.errors import CoordinateError, OutOfBoundsError, SourceError
from xprecomputed.metadata import VolumeInfo
from xprecomputed.store import PrecomputedStore
from xprecomputed.volume.chunking import DASK_CHUNK_BYTES, aligned_chunks, preferred_chunks

if TYPE_CHECKING:
    from xprecomputed.mesh import Meshes
    from xprecomputed.skeleton import Skeletons

__all__ = ["PrecomputedArrayAccessor", "PrecomputedDatasetAccessor"]

T = TypeVar("T", xr.DataArray, xr.Dataset)
Outside = Literal["raise", "clip", "pad"]


class _Accessor(WriteMethods, Generic[T]):
    """What arrays and datasets share."""

    _obj: T

    def __init__(self, obj: T) -> None:
        self._obj = obj

    def _variables(self) -> list[xr.DataArray]:
        raise NotImplementedError

    @property
    def store(self) -> PrecomputedStore:
        """The layer that the data came from; one request, for its ``info``.

        Raises
        ------
        SourceError
            No variable names a source, or several name different ones.
        """
        return source_of(each.attrs for each in self._variables())

    @property
    def info(self) -> VolumeInfo:
        """The layer's ``info`` (read again at each access)."""
        return self.store.info

    @property
    def mesh(self) -> Meshes:
        """The meshes of the layer's segments, see `PrecomputedStore.mesh`; two requests."""
        return self.store.mesh

    @property
    def skeleton(self) -> Skeletons:
        """The skeletons of the layer's segments, see `PrecomputedStore.skeleton`; two requests."""
        return self.store.skeleton

    def _grids(self) -> dict[str, AxisGrid]:
        values = {axis: self._obj[axis].values for axis in AXES if axis in self._obj.dims}
        missing = [axis for axis in values if axis not in self._obj.coords]
        if missing:
            raise CoordinateError(
                f"dimensions {missing} have no coordinates; give them centres in nm:\n"
                "    da = da.assign_coords(x=(offset + np.arange(n) + 0.5) * resolution)"
            )
        if not values:
            raise CoordinateError(f"dimensions {tuple(self._obj.dims)}: none of x, y, z")
        hints = self._hints()
        return coords.axis_grids(values, hints, lambda: self.store.info.scales)

    def _hints(self) -> dict[str, float]:
        """Resolutions that the encoding remembers; believed where the coordinates agree."""
        for each in self._variables():
            remembered = each.encoding.get("precomputed", {}).get("resolution")
            if remembered is not None:
                return dict(zip(AXES, remembered, strict=True))
        return {}

    @property
    def mip(self) -> int | None:
        """The mip of the source whose resolution the coordinates have, or None."""
        return coords.matching_mip(self.store.info.scales, self._grids())

    @property
    def resolution(self) -> tuple[float, ...]:
        """The voxel size in nm, x, y, z (those that are dimensions), from the coordinates."""
        return tuple(grid.resolution for grid in self._grids().values())

    @property
    def voxel_offset(self) -> tuple[int, ...]:
        """Absolute voxel of the first label, x, y, z.

        Raises
        ------
        CoordinateError
            The labels are not centres of voxels of this resolution.
        """
        return tuple(grid.offset for grid in self._grids().values())

    @property
    def bounds_nm(self) -> NDArray[np.float64]:
        """Outer edges: ``[[x0, y0, z0], [x1, y1, z1]]`` in nm."""
        return np.array([grid.bounds_nm for grid in self._grids().values()]).T

    def to_voxels(
        self, points_nm: ArrayLike, resolution: Sequence[float] | None = None
    ) -> NDArray[np.int64]:
        """Absolute voxels that hold points.

        Parameters
        ----------
        points_nm : array_like, shape (..., 3)
            x, y, z in nm.
        resolution : sequence of three numbers, optional
            nm per voxel, x, y, z; this array's by default.

        Returns
        -------
        ndarray of int64, shape (..., 3)

        Examples
        --------
        >>> axes = dict.fromkeys("xyz", [4.0, 12.0])
        >>> da = xr.DataArray(np.zeros((2, 2, 2)), axes, ("z", "y", "x"))
        >>> da.precomputed.to_voxels([[9, 1, 0]])
        array([[1, 0, 0]])
        """
        return coords.to_voxels(points_nm, self._three(resolution))

    def to_nm(
        self, points_vx: ArrayLike, resolution: Sequence[float] | None = None
    ) -> NDArray[np.float64]:
        """Centres in nm of absolute voxels; the inverse of `to_voxels`.

        Parameters
        ----------
        points_vx : array_like of whole numbers, shape (..., 3)
            x, y, z.
        resolution : sequence of three numbers, optional
            nm per voxel that the positions count in; this array's by default.

        Examples
        --------
        >>> axes = dict.fromkeys("xyz", [4.0, 12.0])
        >>> da = xr.DataArray(np.zeros((2, 2, 2)), axes, ("z", "y", "x"))
        >>> da.precomputed.to_nm([[1, 0, 0]])
        array([[12.,  4.,  4.]])
        """
        return coords.to_nm(points_vx, self._three(resolution))

    def _three(self, resolution: Sequence[float] | None) -> Sequence[float]:
        given = self.resolution if resolution is None else tuple(resolution)
        if len(given) != 3:
            raise CoordinateError(f"resolution {given}: expected three numbers, x, y, z in nm")
        return given

    def crop(
        self,
        bounds: Any = None,
        *,
        center: Sequence[float] | None = None,
        size: Sequence[float] | None = None,
        unit: Literal["nm", "voxel"] = "nm",
        resolution: Sequence[float] | None = None,
        outside: Outside = "raise",
    ) -> T:
        """Cut a half-open box out, lazily.

        A voxel is inside if its centre is, so neighbouring boxes never share one.

        Parameters
        ----------
        bounds : array_like or mapping
            ``((x0, y0, z0), (x1, y1, z1))`` or axes to slices or pairs.
        center, size : sequence of three numbers
            Instead of `bounds`. In voxels, `center` is the voxel in the middle.
        unit : {"nm", "voxel"}
            Voxels are absolute, as in Neuroglancer.
        resolution : sequence of three numbers, optional
            nm per voxel (x, y, z) that ``unit="voxel"`` counts in; this array's by default.
        outside : {"raise", "clip", "pad"}
            Where the box leaves the array: refuse, cut it, or pad with zeros (same dtype;
            data that are neither in memory nor dask are loaded).

        Raises
        ------
        OutOfBoundsError

        Examples
        --------
        >>> axes = dict.fromkeys("xyz", np.arange(4.0, 80, 8))
        >>> da = xr.DataArray(np.ones((10, 10, 10), "u8"), axes, ("z", "y", "x"))
        >>> da.precomputed.crop(((0, 0, 0), (16, 16, 24))).shape
        (3, 2, 2)
        >>> da.precomputed.crop(center=(0, 0, 0), size=(4, 4, 4), unit="voxel", outside="pad").dtype
        dtype('uint64')
        """
        if outside not in ("raise", "clip", "pad"):
            raise ValueError(f"outside={outside!r}: expected 'raise', 'clip' or 'pad'")
        grids = self._grids()
        box = coords.crop_box(bounds, center, size, unit, lambda: self._three(resolution))
        wanted: dict[str, tuple[int, int]] = {}
        cut: dict[str, slice] = {}
        for axis, (begin, end) in box.items():
            if axis not in grids:
                self._check_scalar(axis, begin, end)
                continue
            grid = grids[axis]
            start, stop = wanted[axis] = grid.positions(begin, end)
            if outside == "raise" and (start < 0 or stop > grid.size):
                raise OutOfBoundsError(
                    f"{axis}: [{begin}, {end}) nm leaves the array, which covers "
                    f"[{grid.bounds_nm[0]}, {grid.bounds_nm[1]}) nm; use outside='clip' or 'pad'"
                )
            first = min(max(start, 0), grid.size)
            cut[axis] = slice(first, max(first, min(stop, grid.size)))
        result = self._obj.isel(cut)
        return self._padded(result, grids, wanted) if outside == "pad" else result

    def _padded(
        self, cut_out: T, grids: Mapping[str, AxisGrid], wanted: Mapping[str, tuple[int, int]]
    ) -> T:
        """Zeros around `cut_out` up to the `wanted` positions, with labels by the formula."""
        widths = {}
        for axis, (start, stop) in wanted.items():
            lacking = stop - start - cut_out.sizes[axis]
            before = min(max(-start, 0), lacking)
            widths[axis] = (before, lacking - before)
        if not any(any(each) for each in widths.values()):
            return cut_out
        padded = cut_out.pad(widths, mode="constant", constant_values=0, keep_attrs=True)
        result: T = padded.assign_coords(
            {
                axis: xr.Variable((axis,), grids[axis].labels(*wanted[axis]), self._obj[axis].attrs)
                for axis in wanted
            }
        )
        return result

    def _check_scalar(self, axis: str, begin: float, end: float) -> None:
        """An axis that was selected away has a scalar label: it must be inside."""
        if axis in self._obj.coords and self._obj[axis].ndim == 0:
            label = float(self._obj[axis])
            if not begin <= label < end:
                raise OutOfBoundsError(f"{axis} is {label} nm here, not in [{begin}, {end}) nm")

    def chunk(self, nbytes: int | str = DASK_CHUNK_BYTES) -> T:
        """Chunk for dask along the storage chunks of the source, also after a crop.

        Parameters
        ----------
        nbytes : int or str
            Bytes of one dask chunk, such as ``"64MiB"``.

        Raises
        ------
        CoordinateError
            The coordinates are no longer those of a mip of the source.
        """
        from dask.utils import parse_bytes

        info, grids = self.store.info, self._grids()
        mip = coords.matching_mip(info.scales, grids)
        if mip is None:
            raise CoordinateError(
                f"resolution {self.resolution} nm is none of {self.store.url}: storage chunks "
                "mean nothing here; use .chunk({'x': …}) of xarray"
            )
        scale = info.scales[mip]
        x, y, z = (grids[axis].size if axis in grids else 1 for axis in AXES)
        voxel_bytes = info.dtype.itemsize * info.num_channels
        chunks = preferred_chunks(scale, voxel_bytes, (x, y, z), parse_bytes(nbytes))
        wanted: dict[str, Any] = {
            axis: aligned_chunks(
                grid.offset - scale.voxel_offset[AXES.index(axis)],
                grid.size,
                chunks[AXES.index(axis)],
            )
            for axis, grid in grids.items()
        }
        if "channel" in self._obj.dims:
            wanted["channel"] = -1
        return self._obj.chunk(wanted)

    def snap(self, tolerance: float = 0.01) -> T:
        """Put coordinates that nearly lie on the voxel grid exactly there.

        ``coarsen`` and files give labels that differ in the last bits from a mip's own, and
        xarray aligns labels only where they are equal.

        Parameters
        ----------
        tolerance : float
            The largest move, as a share of a voxel; 0.5 for a pyramid of odd offsets.

        Raises
        ------
        CoordinateError
            A larger move would be needed.

        Examples
        --------
        >>> da = xr.DataArray([1, 2], {"x": [4.0000000001, 12]}, ("x",))
        >>> da.precomputed.snap().x.values
        array([ 4., 12.])
        """
        new = {}
        # the source's own spelling of a resolution, where it has a source
        scales = self._scales_if_any()
        grids = self._grids()
        mip = coords.matching_mip(scales, grids)
        for axis, grid in grids.items():
            step = grid.resolution if mip is None else scales[mip].resolution[AXES.index(axis)]
            exact = grid.first / step - 0.5
            # half a voxel goes down, as CloudVolume and Igneous floor a mip's offset
            nearest = int(np.ceil(exact - 0.5 - coords.TOLERANCE))
            if abs(exact - nearest) > tolerance + coords.TOLERANCE:
                raise CoordinateError(
                    f"coordinate {axis}: {abs(exact - nearest):.3g} voxels from the grid, "
                    f"tolerance is {tolerance}"
                )
            values = coords.labels(nearest, grid.size, step)
            new[axis] = xr.Variable((axis,), values, self._obj[axis].attrs)
        return self._obj.assign_coords(new)

    def _scales_if_any(self) -> tuple[Any, ...]:
        try:
            return self.store.info.scales
        except SourceError:
            return ()


class PrecomputedArrayAccessor(LabelMethods, _Accessor[xr.DataArray]):
    """``da.precomputed``: positions, boxes and the layer behind a DataArray.

    Examples
    --------
    >>> from xprecomputed.testing import write_volume
    >>> url = write_volume("memory://doc/accessor", [np.zeros((9, 9, 9), "u1")],
    ...                    resolution=(4, 4, 40), voxel_offset=(10, 20, 30))
    >>> da = xr.open_dataset(url, engine="precomputed")["image"]
    >>> da.precomputed.voxel_offset, da.precomputed.resolution, da.precomputed.mip
    ((10, 20, 30), (4, 4, 40), 0)
    >>> da.precomputed.crop(center=(14, 24, 34), size=(3, 3, 3), unit="voxel").shape
    (3, 3, 3)
    """

    def _variables(self) -> list[xr.DataArray]:
        return [self._obj]

    def sample(
        self,
        points: Any,
        *,
        outside: Literal["raise", "fill"] = "raise",
        fill_value: float = 0,
    ) -> xr.DataArray:
        """Values at points, each chunk read once; no dask needed.

        Parameters
        ----------
        points : array_like, shape (N, 3) or (3,), or DataFrame with columns x, y, z
            In nm.
        outside : {"raise", "fill"}
            What a point beyond the array does.
        fill_value : number
            Of such points, in the array's own dtype.

        Returns
        -------
        DataArray
            Dimensions ``([channel,] point)``; coordinates are the centres of the voxels.

        Raises
        ------
        OutOfBoundsError

        Examples
        --------
        >>> axes = dict.fromkeys("xyz", [4.0, 12.0])
        >>> da = xr.DataArray(np.arange(8).reshape(2, 2, 2), axes, ("z", "y", "x"))
        >>> da.precomputed.sample([[9, 1, 0], [1, 15, 9]]).values
        array([1, 6])
        """
        if outside not in ("raise", "fill"):
            raise ValueError(f"outside={outside!r}: expected 'raise' or 'fill'")
        grids = self._grids()
        if len(grids) != 3:
            raise CoordinateError(f"sample needs x, y and z, found {tuple(grids)}")
        if hasattr(points, "columns"):
            points = points[list(AXES)].to_numpy()
        array = np.atleast_2d(np.asarray(points, float))
        positions, inside = coords.positions_of(array, grids)
        if outside == "raise" and not inside.all():
            low, high = self.bounds_nm
            raise OutOfBoundsError(
                f"{int((~inside).sum())} of {len(array)} points are outside, first "
                f"{array[~inside][0].tolist()} nm; the array covers {low.tolist()} to "
                f"{high.tolist()} nm. Use outside='fill'"
            )
        # a point outside borrows the voxel of one inside, so that no other chunk is read for it
        borrowed = positions[inside.argmax()] if inside.any() else np.zeros(3, np.int64)
        wanted = np.where(inside[:, None], positions, borrowed).astype(np.int64)
        index = {axis: xr.DataArray(wanted[:, i], dims="point") for i, axis in enumerate(AXES)}
        values = self._obj.isel(index)
        if not inside.all():
            # both sides have the array's dtype, so nothing is promoted
            fill = np.asarray(fill_value, self._obj.dtype)
            if inside.any():
                values = values.where(xr.DataArray(inside, dims="point"), fill)
            else:
                values = values.copy(data=np.full(values.shape, fill))
            values = values.assign_coords(
                {
                    axis: ("point", grid.first + at * grid.resolution, self._obj[axis].attrs)
                    for (axis, grid), at in zip(grids.items(), positions.T, strict=True)
                }
            )
        return values.isel(point=0) if np.ndim(points) == 1 else values


class PrecomputedDatasetAccessor(_Accessor[xr.Dataset]):
    """``ds.precomputed``: as on a DataArray, for all variables at once."""

    def _variables(self) -> list[xr.DataArray]:
        return list(self._obj.data_vars.values())
