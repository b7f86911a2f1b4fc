"""Coordinates in nm and voxel positions: one formula, both ways (pure).

A voxel ``v`` (absolute, ``voxel_offset`` included) covers ``[v, v + 1) * resolution`` nm and
is labelled by its centre ``(v + 0.5) * resolution``; format reference 0, design section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xprecomputed.errors import CoordinateError, OutOfBoundsError
from xprecomputed.metadata import ScaleInfo

__all__ = [
    "AXES",
    "AxisGrid",
    "axis_grids",
    "crop_box",
    "matching_mip",
    "parse_bounds",
    "positions_of",
    "to_nm",
    "to_voxels",
]

AXES = ("x", "y", "z")

#: Labels may differ from the formula by this share of a voxel (float rounding, text files).
TOLERANCE = 1e-4


def labels(offset: int, size: int, resolution: float) -> NDArray[np.float64]:
    """Centres in nm of `size` voxels from the absolute voxel `offset` on.

    Examples
    --------
    >>> labels(10, 3, 8)
    array([ 84.,  92., 100.])
    """
    centres = np.arange(offset, offset + size, dtype=np.float64)
    centres += 0.5  # in place: new memory costs more than the sum
    centres *= float(resolution)
    return centres


def to_voxels(points_nm: ArrayLike, resolution: Sequence[float]) -> NDArray[np.int64]:
    """The absolute voxel that holds each point; points in nm, shape (..., 3), x, y, z."""
    voxels: NDArray[np.int64] = np.floor(_points(points_nm) / np.asarray(resolution, float))
    return voxels.astype(np.int64)


def to_nm(points_vx: ArrayLike, resolution: Sequence[float]) -> NDArray[np.float64]:
    """The centre in nm of each absolute voxel; whole numbers, shape (..., 3), x, y, z."""
    points = _points(points_vx)
    if (points != np.floor(points)).any():
        raise CoordinateError(
            "voxel positions are whole numbers; for a position inside a voxel multiply by the "
            "resolution yourself"
        )
    centres: NDArray[np.float64] = (points + 0.5) * np.asarray(resolution, float)
    return centres


def _points(points: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(points, float)
    if array.ndim == 0 or array.shape[-1] != 3:
        raise CoordinateError(f"points of shape {array.shape}, expected (..., 3) in x, y, z order")
    if not np.isfinite(array).all():
        raise CoordinateError("points with NaN or infinity")
    return array


@dataclass(frozen=True, slots=True)
class AxisGrid:
    """One axis of an array: regular, ascending labels in nm.

    Parameters
    ----------
    name : str
        ``x``, ``y`` or ``z``.
    first : float
        Label of the first voxel.
    size : int
    resolution : float
        nm between labels.
    """

    name: str
    first: float
    size: int
    resolution: float

    @property
    def offset(self) -> int:
        """The absolute voxel of the first label.

        Raises
        ------
        CoordinateError
            The labels are not centres of voxels of this resolution.
        """
        exact = self.first / self.resolution - 0.5
        if abs(exact - round(exact)) > TOLERANCE:
            raise CoordinateError(
                f"coordinate {self.name}: the first label {self.first} nm is {exact:.4g} voxels "
                f"of {self.resolution} nm from the origin, expected a whole number at voxel "
                "centres. If half a voxel is as good as none:\n"
                "    da = da.precomputed.snap(tolerance=0.5)"
            )
        return round(exact)

    @property
    def bounds_nm(self) -> tuple[float, float]:
        """The outer edges."""
        begin = self.first - 0.5 * self.resolution
        return begin, begin + self.size * self.resolution

    def positions(self, begin_nm: float, end_nm: float) -> tuple[int, int]:
        """Positions [start, stop) of the voxels whose centres lie in ``[begin_nm, end_nm)``.

        They may lie outside of the array.
        """
        edges = (np.array([begin_nm, end_nm]) - self.first) / self.resolution
        start, stop = (int(each) for each in np.ceil(edges - TOLERANCE))
        return start, max(start, stop)

    def labels(self, start: int, stop: int) -> NDArray[np.float64]:
        """Labels of the positions [start, stop), by the one formula where that applies."""
        try:
            return labels(self.offset + start, stop - start, self.resolution)
        except CoordinateError:
            return self.first + np.arange(start, stop, dtype=np.float64) * self.resolution

    @classmethod
    def from_labels(cls, name: str, values: NDArray[Any], hint: float | None) -> AxisGrid:
        """Measure the labels of one axis.

        Parameters
        ----------
        name : str
        values : ndarray of float, shape (N,)
        hint : float, optional
            The resolution to believe where the labels agree with it or cannot tell (N = 1).

        Raises
        ------
        CoordinateError
            Empty, not regular, descending, or a single label without `hint`.
        """
        values = np.asarray(values, float)
        if not len(values):
            raise CoordinateError(f"coordinate {name} is empty")
        if len(values) == 1:
            if hint is None:
                raise CoordinateError(
                    f"coordinate {name} has one label, which does not tell the resolution"
                )
            return cls(name, float(values[0]), 1, hint)
        step = float(values[-1] - values[0]) / (len(values) - 1)
        if step <= 0:
            raise CoordinateError(
                f"coordinate {name} does not ascend:\n    da = da.sortby({name!r})"
            )
        if not np.allclose(np.diff(values), step, rtol=0, atol=TOLERANCE * step):
            raise CoordinateError(f"coordinate {name} is not regular")
        if hint is not None and abs(step - hint) * len(values) < TOLERANCE * hint:
            step = hint
        return cls(name, float(values[0]), len(values), step)


def axis_grids(
    values: Mapping[str, NDArray[Any]],
    hints: Mapping[str, float],
    scales: Callable[[], Sequence[ScaleInfo]],
) -> dict[str, AxisGrid]:
    """Measure all axes that are there, in x, y, z order.

    Parameters
    ----------
    values : mapping of str to ndarray
        Labels of ``x``, ``y``, ``z``, those that the array has.
    hints : mapping of str to float
        Resolutions remembered in the encoding; used where the labels agree.
    scales : callable
        Gives the scales of the source. Asked only for an axis of one label without a fitting
        hint, which takes the resolution of the only scale that fits the other axes.
    """
    known = {
        axis: AxisGrid.from_labels(axis, values[axis], hints.get(axis))
        for axis in AXES
        if axis in values and (len(values[axis]) != 1 or _agrees(values[axis], hints.get(axis)))
    }
    for axis in AXES:
        if axis in values and axis not in known:
            fitting = {
                scale.resolution[AXES.index(axis)] for scale in scales() if _fits(scale, known)
            }
            only = fitting.pop() if len(fitting) == 1 else None
            known[axis] = AxisGrid.from_labels(axis, values[axis], only)
    return {axis: known[axis] for axis in AXES if axis in known}


def _agrees(values: NDArray[Any], resolution: float | None) -> bool:
    """Whether a single label is a voxel centre of `resolution`."""
    if resolution is None:
        return False
    exact = float(values[0]) / resolution - 0.5
    return abs(exact - round(exact)) <= TOLERANCE


def _fits(scale: ScaleInfo, grids: Mapping[str, AxisGrid]) -> bool:
    return all(
        np.isclose(grid.resolution, scale.resolution[AXES.index(axis)], rtol=1e-6, atol=0)
        for axis, grid in grids.items()
    )


def matching_mip(scales: Sequence[ScaleInfo], grids: Mapping[str, AxisGrid]) -> int | None:
    """The index of the first scale that has the resolution of the labels, or None."""
    for mip, scale in enumerate(scales):
        if _fits(scale, grids):
            return mip
    return None


def parse_bounds(bounds: object) -> dict[str, tuple[float, float]]:
    """A box as begin and end per axis.

    Parameters
    ----------
    bounds : array_like or mapping
        ``((x0, y0, z0), (x1, y1, z1))``, or axes to slices or pairs; an axis that is left out
        is not cut.

    Raises
    ------
    OutOfBoundsError
        Not a box.
    """
    try:
        if isinstance(bounds, Mapping):
            unknown = sorted(set(bounds) - set(AXES))
            if unknown:
                raise ValueError(f"unknown axes {unknown}")
            pairs = {
                axis: (one.start, one.stop) if isinstance(one, slice) else tuple(one)
                for axis, one in bounds.items()
            }
            box = {axis: (float(begin), float(end)) for axis, (begin, end) in pairs.items()}
        else:
            array = np.asarray(bounds, float)
            if array.shape != (2, 3):
                raise ValueError(f"shape {array.shape}")
            box = {axis: (float(array[0, i]), float(array[1, i])) for i, axis in enumerate(AXES)}
        if any(
            not (np.isfinite((begin, end)).all() and begin <= end) for begin, end in box.values()
        ):
            raise ValueError("an end before its begin, or not finite")
    except (TypeError, ValueError) as error:
        raise OutOfBoundsError(
            f"bounds {bounds!r}: {error}; expected ((x0, y0, z0), (x1, y1, z1)) or "
            "{'x': slice(x0, x1), ...}"
        ) from None
    return box


def crop_box(
    bounds: object,
    center: Sequence[float] | None,
    size: Sequence[float] | None,
    unit: str,
    resolution: Callable[[], Sequence[float]],
) -> dict[str, tuple[float, float]]:
    """A box in nm per axis, out of either way to name one.

    Parameters
    ----------
    bounds : array_like or mapping, or None
        As in `parse_bounds`.
    center, size : sequence of three numbers, or None
        Instead of `bounds`; in voxels, `center` is the voxel in the middle.
    unit : {"nm", "voxel"}
    resolution : callable
        Gives nm per voxel, x, y, z; asked only where `unit` is ``"voxel"``.

    Raises
    ------
    ValueError
        Both ways or none, or another unit.
    OutOfBoundsError
        Not a box.
    """
    if unit not in ("nm", "voxel"):
        raise ValueError(f"unit={unit!r}: expected 'nm' or 'voxel'")
    if (bounds is None) == (center is None) or (center is None) != (size is None):
        raise ValueError("crop takes either bounds, or center and size")
    if bounds is None:
        middle = np.asarray(center, float) + (0.5 if unit == "voxel" else 0.0)
        half = np.asarray(size, float) / 2
        if middle.shape != (3,) or half.shape != (3,):
            raise ValueError("center and size have three numbers each, x, y, z")
        bounds = (middle - half, middle + half)
    box = parse_bounds(bounds)
    if unit == "nm":
        return box
    step = dict(zip(AXES, resolution(), strict=True))
    return {axis: (begin * step[axis], end * step[axis]) for axis, (begin, end) in box.items()}


def positions_of(
    points_nm: NDArray[np.float64], grids: Mapping[str, AxisGrid]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Positions in an array of the voxels that hold points, and which points are inside.

    Parameters
    ----------
    points_nm : ndarray, shape (N, 3)
        x, y, z.
    grids : mapping
        Of all three axes, in that order.

    Returns
    -------
    positions : ndarray of float64, shape (N, 3)
        Whole numbers, those of points outside too; NaN stays NaN.
    inside : ndarray of bool, shape (N,)
    """
    if points_nm.ndim != 2 or points_nm.shape[1] != 3:
        raise CoordinateError(f"points of shape {points_nm.shape}, expected (N, 3) in x, y, z")
    first = np.array([grid.bounds_nm[0] for grid in grids.values()])
    step = np.array([grid.resolution for grid in grids.values()])
    exact = np.floor((points_nm - first) / step)
    inside = ((exact >= 0) & (exact < [grid.size for grid in grids.values()])).all(axis=1)
    return exact, inside
