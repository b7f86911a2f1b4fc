"""What an xarray object says about the layer it would make: axes, resolution, type.

Coordinates decide; what the encoding remembers only refines, and only where it agrees with
them (design section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xprecomputed.coords import AXES, TOLERANCE, AxisGrid
from xprecomputed.errors import CoordinateError, DataTypeError, LayoutError
from xprecomputed.grid import Box, Triple
from xprecomputed.metadata import DATA_TYPES, ScaleInfo

__all__ = ["Described", "Resolution", "describe", "pick_variable"]

Resolution = tuple[float, float, float]
Axis = tuple[float, int]

#: nm in one of them; as people, CF and OME-Zarr spell them
UNITS = {
    name: nm
    for nm, names in {
        1.0: ("nm", "nanometer", "nanometers", "nanometre", "nanometres"),
        1e3: (
            "um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre",
            "micrometres",
        ),
        1e6: ("mm", "millimeter", "millimeters", "millimetre", "millimetres"),
        1e9: ("m", "meter", "meters", "metre", "metres"),
    }.items()
    for name in names
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Described:
    """One mip, ready to be placed in a layer.

    Parameters
    ----------
    array : xarray.DataArray
        Dimensions ``([channel,] z, y, x)``.
    resolution : tuple of float, or None
        nm, x, y, z; None where neither the coordinates nor the caller tell.
    axes : tuple of (float, int) or None
        nm and absolute voxel of the first label, along x, y, z; None for an axis that nothing
        tells of.
    data_type : str
        Of the layer.
    remembered : dict
        ``encoding["precomputed"]``, without what the coordinates contradict.
    """

    array: xr.DataArray
    resolution: Resolution | None
    axes: tuple[Axis | None, Axis | None, Axis | None]
    data_type: str
    remembered: dict[str, Any]

    @property
    def num_channels(self) -> int:
        """Channels, 1 where there is no such dimension."""
        return self.array.sizes.get("channel", 1)

    @property
    def size(self) -> Triple:
        """Voxels, x, y, z."""
        x, y, z = (self.array.sizes[axis] for axis in AXES)
        return x, y, z

    @property
    def voxel_offset(self) -> Triple | None:
        """Absolute voxel of the first label, x, y, z; None where one is not known."""
        x, y, z = self.axes
        return None if x is None or y is None or z is None else (x[1], y[1], z[1])

    @property
    def box(self) -> Box | None:
        """The absolute voxels, where the place is known."""
        offset = self.voxel_offset
        return None if offset is None else Box.from_offset(offset, self.size)


def pick_variable(obj: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """The one volume of a dataset.

    Raises
    ------
    LayoutError
        There is none, or several.
    """
    if isinstance(obj, xr.DataArray):
        return obj
    if not isinstance(obj, xr.Dataset):
        raise TypeError(
            f"{type(obj).__name__}: expected a DataArray, a Dataset or a DataTree; label an array:"
            '\n    xr.DataArray(array, dims=("z", "y", "x"))'
        )
    names = [
        name
        for name, each in obj.data_vars.items()
        if (each.ndim and all(axis in each.dims or axis in each.coords for axis in AXES))
        or set(AXES) <= set(each.dims)
    ]
    if len(names) != 1:
        raise LayoutError(
            f"expected one variable with the dimensions x, y, z, found {names} among "
            f"{list(obj.data_vars)}; select one: ds[name]"
        )
    return obj[names[0]]


def describe(
    obj: xr.DataArray | xr.Dataset,
    resolution: Sequence[float] | None = None,
    voxel_offset: Sequence[int] | None = None,
    *,
    needs_place: bool = True,
    scales: Sequence[ScaleInfo] = (),
    data_type: str | None = None,
) -> Described:
    """Find out what `obj` is, or refuse it with the line that mends it.

    Parameters
    ----------
    obj : DataArray or Dataset
        Dimensions x, y, z and maybe channel, in any order.
    resolution : sequence of three numbers, optional
        nm, x, y, z: for coordinates that have no units or do not exist.
    voxel_offset : sequence of three int, optional
        Absolute voxel of the first label, x, y, z.
    needs_place : bool
        Whether an array that does not tell where it is is an error.
    scales : sequence of ScaleInfo
        What an axis of one label may be of, where nothing else tells its resolution.
    data_type : str, optional
        Of the layer that is written into: int64 and float64 fit into their own kind.

    Raises
    ------
    CoordinateError, LayoutError, DataTypeError
    """
    array = _ordered(pick_variable(obj))
    remembered = array.encoding.get("precomputed", {})
    remembered = dict(remembered) if isinstance(remembered, Mapping) else {}
    given = _three(resolution, "resolution")
    if given is not None and min(given) <= 0:
        raise CoordinateError(f"resolution={resolution!r}: expected three numbers > 0, in nm")
    offset = _whole(_three(voxel_offset, "voxel_offset"))
    origin = offset or ((0, 0, 0) if needs_place else (None,) * 3)
    steps = given or _steps(array, remembered, scales)
    said = given is not None, offset is not None
    x, y, z = (
        _axis(array, axis, step, first, is_said=said)
        for axis, step, first in zip(AXES, steps, origin, strict=True)
    )
    lost = [axis for axis, found in zip(AXES, (x, y, z), strict=True) if found is None]
    if lost and needs_place:
        raise CoordinateError(_without_place(array, lost))
    known = given
    if x is not None and y is not None and z is not None:
        known = _spelled(x[0]), _spelled(y[0]), _spelled(z[0])
    found = _data_type(array, data_type or remembered.get("data_type"))
    return Described(array, known, (x, y, z), found, _refined(remembered, known))


def _ordered(array: xr.DataArray) -> xr.DataArray:
    for axis in AXES:
        if axis not in array.dims and axis in array.coords and array[axis].ndim == 0:
            attrs = array[axis].attrs
            array = array.expand_dims(axis)
            array[axis].attrs.update(attrs)
    missing = [axis for axis in AXES if axis not in array.dims]
    others = [dim for dim in array.dims if dim not in (*AXES, "channel")]
    if missing or others:
        raise LayoutError(
            f"dimensions {tuple(array.dims)}: expected x, y, z and maybe channel, in any order; "
            "rename them (da.rename(a='x')), select one of the others (da.isel(t=0)), or add "
            "what is missing (da.expand_dims('z'))"
        )
    if array.chunks is not None and np.isnan(sum(sum(each) for each in array.chunks)):
        raise LayoutError(
            "dask chunks of unknown sizes; find them out first: da.data.compute_chunk_sizes()"
        )
    empty = [dim for dim, size in array.sizes.items() if not size]
    if empty:
        raise LayoutError(f"no voxels: dimensions {empty} are empty")
    wanted = ("channel", "z", "y", "x") if "channel" in array.dims else ("z", "y", "x")
    return array if array.dims == wanted else array.transpose(*wanted)


def _three(values: Sequence[float] | None, name: str) -> tuple[Any, Any, Any] | None:
    if values is None:
        return None
    try:
        numbers = [each.item() if isinstance(each, np.generic) else each for each in values]
        x, y, z = numbers
        if not all(isinstance(each, int | float) and abs(each) < 2**62 for each in numbers):
            raise ValueError
    except (TypeError, ValueError):
        raise CoordinateError(f"{name}={values!r}: expected three numbers, x, y, z") from None
    return x, y, z


def _whole(values: tuple[Any, Any, Any] | None) -> Triple | None:
    if values is None:
        return None
    if any(each != int(each) for each in values):
        raise CoordinateError(f"voxel_offset={values}: expected three whole numbers, x, y, z")
    return int(values[0]), int(values[1]), int(values[2])


def _steps(
    array: xr.DataArray, remembered: Mapping[str, Any], scales: Sequence[ScaleInfo]
) -> tuple[float | None, ...]:
    """Nm along x, y, z to believe where labels agree or cannot tell; None where nothing does."""
    before = remembered.get("resolution")
    if isinstance(before, list | tuple) and len(before) == 3:
        return tuple(float(each) for each in before)
    told = {
        i: AxisGrid.from_labels(axis, _labels_nm(array, axis), None).resolution
        for i, axis in enumerate(AXES)
        if scales and _has_units(array, axis) and array.sizes[axis] > 1
    }
    fitting = [
        scale.resolution
        for scale in scales
        if all(np.isclose(step, scale.resolution[i], rtol=1e-6) for i, step in told.items())
    ]
    return tuple(
        fitting[0][i] if len({each[i] for each in fitting}) == 1 else None for i in range(3)
    )


def _has_units(array: xr.DataArray, axis: str) -> bool:
    return axis in array.coords and array[axis].attrs.get("units") is not None


def _labels_nm(array: xr.DataArray, axis: str) -> NDArray[np.float64]:
    unit = str(array[axis].attrs["units"])
    if array[axis].dtype.kind not in "iuf":
        raise CoordinateError(f"coordinate {axis} holds {array[axis].dtype}, expected numbers")
    if unit not in UNITS:
        raise CoordinateError(
            f"coordinate {axis} has the units {unit!r}, expected one of "
            f"{', '.join(sorted(UNITS))}; convert it:\n"
            f"    da = da.assign_coords({axis}=({axis!r}, centres_nm, {{'units': 'nm'}}))"
        )
    values: NDArray[np.float64] = np.asarray(array[axis].values, float) * UNITS[unit]
    if not np.isfinite(values).all():
        raise CoordinateError(f"coordinate {axis} holds NaN or infinity")
    return values


def _axis(
    array: xr.DataArray,
    axis: str,
    step: float | None,
    offset: int | None,
    *,
    is_said: tuple[bool, bool],
) -> tuple[float, int] | None:
    """Resolution in nm and first absolute voxel of one axis; None where nothing tells.

    `is_said` tells whether `step` and `offset` are the caller's words, which must hold; else
    they are hints.
    """
    if not _has_units(array, axis):
        counted = axis in array.coords  # positions, maybe: only the caller knows
        if not is_said[0] or step is None or offset is None or (counted and not is_said[1]):
            return None
        return step, offset
    values = _labels_nm(array, axis)
    if len(values) == 1 and step is None:
        raise CoordinateError(
            f"coordinate {axis} has one label, which does not tell the resolution; say it:\n"
            "    to_precomputed(…, resolution=(8, 8, 40))   # nm, x, y, z"
        )
    grid = AxisGrid.from_labels(axis, values, step)
    grid = AxisGrid(axis, grid.first, grid.size, _spelled(grid.resolution))
    if is_said[0] and step and abs(grid.resolution - step) * grid.size > TOLERANCE * step:
        raise CoordinateError(
            f"coordinate {axis} has a step of {grid.resolution:g} nm, resolution= says {step:g} "
            "nm: leave resolution= out, or drop the coordinate:\n"
            f"    da = da.drop_vars({axis!r})"
        )
    if is_said[1] and grid.offset != offset:
        raise CoordinateError(
            f"coordinate {axis} begins at voxel {grid.offset}, voxel_offset= says {offset}: leave "
            f"voxel_offset= out, or drop the coordinate:\n    da = da.drop_vars({axis!r})"
        )
    return grid.resolution, grid.offset


def _spelled(step: float) -> float:
    """The number that was meant: labels carry the last bits of their arithmetic."""
    short = float(f"{step:.9g}")
    step = short if abs(step - short) <= 1e-8 * step else step
    return int(step) if step == int(step) else step


def _without_place(array: xr.DataArray, axes: list[str]) -> str:
    bare = [axis for axis in axes if axis in array.coords]
    offset = tuple(
        int(array[axis].values[0]) if axis in bare and array[axis].dtype.kind in "iuf" else 0
        for axis in AXES
    )
    lines = [
        f"    to_precomputed(…, resolution=(8, 8, 40), voxel_offset={offset})"
        "   # nm and voxels, x, y, z"
    ]
    if bare:
        lines.append(
            f"or, where {', '.join(bare)} are centres in nm:\n    for axis in {bare}:\n"
            '        da[axis].attrs["units"] = "nm"'
        )
    what = "without units" if bare else "absent"
    return (
        f"coordinates {', '.join(axes)} are {what}, so nothing says where the voxels are and how "
        "large. Say it:\n" + "\n".join(lines)
    )


def _data_type(array: xr.DataArray, layer: str | None) -> str:
    name = array.dtype.name
    if name == "bool":
        return "uint8"
    if name in ("int64", "float64"):
        # types of CloudVolume alone: kept where they come from such a layer, or go into one
        if layer == name:
            return name
        if name == "int64":
            return "uint64"  # the writer refuses negative values
    elif name in DATA_TYPES:
        return name
    cure = "float32" if array.dtype.kind == "f" else "uint64" if array.dtype.kind in "iu" else None
    raise DataTypeError(
        f"data type {name} has no place in the format, which holds {', '.join(DATA_TYPES[:8])}"
        + (f"; if that is enough:\n    da = da.astype({cure!r})" if cure else "")
    )


def _refined(remembered: dict[str, Any], resolution: Resolution | None) -> dict[str, Any]:
    """What the encoding remembers, without what belongs to another resolution."""
    before = remembered.get("resolution")
    if (
        before is not None
        and resolution is not None
        and np.allclose(before, resolution, rtol=1e-6, atol=0)
    ):
        return remembered
    kept = ("type", "data_type", "chunk_size", "encoding", "compressed_segmentation_block_size",
            "jpeg_quality", "png_level")  # fmt: skip
    return {name: value for name, value in remembered.items() if name in kept}
