"""Cutting triangles along the planes of a grid, and sorting them into its cells (pure).

Multi-resolution meshes are stored by the cells of an octree, and no triangle may reach over a
plane between two (format reference 5.2). Meshes are cut one axis after the other. A triangle is
cut along all planes that it crosses at once, into the strips between them, so that the work goes
with the triangles that come out and not with the planes there are.

A new vertex belongs to an edge and a plane, and is made once for the triangles on both sides of
that edge: what was watertight stays so, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cells", "cut", "has_triangle", "sort_into_cells", "spread", "used", "weld", "zorder"]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Triangles by the cell of a grid that they lie in.

    Parameters
    ----------
    positions : ndarray of int64, shape (C, 3)
        The cells that have any, x, y, z, in Z-order.
    faces : tuple of ndarray of int64, each of shape (M, 3)
        The triangles of each, in the order they had.
    """

    positions: NDArray[np.int64]
    faces: tuple[NDArray[np.int64], ...]


def weld(
    vertices: NDArray[Any], faces: NDArray[np.integer]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Make vertices at the same place one, and drop triangles that have one twice.

    Parameters
    ----------
    vertices : ndarray, shape (N, 3)
    faces : ndarray of integers, shape (M, 3)

    Returns
    -------
    vertices : ndarray of the same type, shape (K, 3)
        Those that triangles use, ascending by x, then y, then z.
    faces : ndarray of int64, shape (L, 3)
        In the order and with the winding they had.

    Examples
    --------
    >>> corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]])
    >>> weld(corners, np.array([[0, 1, 2], [1, 3, 2]]))[1].tolist()
    [[0, 2, 1]]
    """
    vertices, faces = used(vertices, faces)
    vertices, numbers = _unique_rows(vertices)
    a, b, c = corners = numbers[faces.T]
    return used(vertices, corners.T[(a != b) & (b != c) & (c != a)])


def has_triangle(vertices: NDArray[Any], faces: NDArray[np.integer]) -> bool:
    """Whether any triangle has three corners in different places: whether `weld` leaves one."""
    a, b, c = vertices[faces.T]
    apart = (a != b).any(axis=1) & (b != c).any(axis=1) & (c != a).any(axis=1)
    return bool(apart.any())


def spread(vertices: NDArray[np.float64], faces: NDArray[np.integer]) -> tuple[float, float]:
    """What tells in how many cells of a grid triangles lie, before they are cut along it.

    In about ``areas * n**2 + lengths * n`` more than there are triangles, where cells are n to a
    unit: by as many as its sides pass planes, and as it covers seen along each axis. When they
    are cut, up to four triangles come out for each.

    Parameters
    ----------
    vertices : ndarray of float64, shape (N, 3)
    faces : ndarray of integers, shape (M, 3)

    Returns
    -------
    areas : float
        Of all triangles as seen along x, y and z, together.
    lengths : float
        Half of that of all sides, along x, y and z together.

    Examples
    --------
    >>> spread(np.array([[0.0, 0, 0], [8, 0, 0], [0, 8, 0]]), np.array([[0, 1, 2]]))
    (32.0, 16.0)
    """
    a, b, c = vertices[faces.T]
    areas = np.abs(np.cross(b - a, c - a)).sum() / 2
    lengths = sum(np.abs(end - begin).sum() for begin, end in ((a, b), (b, c), (c, a))) / 2
    return float(areas), float(lengths)


def used(
    vertices: NDArray[Any], faces: NDArray[np.integer]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """A mesh without the vertices that no triangle has."""
    is_used = np.zeros(len(vertices), np.bool_)
    is_used[faces] = True
    numbers = np.cumsum(is_used) - 1
    return vertices[is_used], numbers[faces]


def _unique_rows(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Distinct rows, ascending, and the number of each row among them (-0.0 is 0.0)."""
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    is_new = np.ones(len(rows), np.bool_)
    is_new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    numbers = np.empty(len(rows), np.int64)
    numbers[order] = np.cumsum(is_new) - 1
    return ordered[is_new], numbers


def cut(
    vertices: NDArray[Any], faces: NDArray[np.integer], planes: Sequence[NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Cut triangles so that none crosses a plane.

    Parameters
    ----------
    vertices : ndarray of float64 or int64, shape (N, 3)
        x, y, z. Integers stay integers: a new vertex is rounded, but along the axis of its
        plane, where it lies exactly on it.
    faces : ndarray of integers, shape (M, 3)
    planes : three ndarrays of the same type, each of shape (P,)
        Where the planes across x, across y and across z lie, ascending.

    Returns
    -------
    vertices : ndarray of the same type, shape (K, 3)
        Welded (see `weld`): what is cut stays connected.
    faces : ndarray of int64, shape (L, 3)
        With the winding they had. A triangle that only touches a plane is not cut.

    Examples
    --------
    >>> corners = np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0]])
    >>> nowhere = np.zeros(0)
    >>> vertices, faces = cut(corners, np.array([[0, 1, 2]]), (np.array([2.0]), nowhere, nowhere))
    >>> vertices[faces].tolist()[0]
    [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [2.0, 2.0, 0.0]]
    >>> len(faces)
    3
    """
    faces = faces.astype(np.int64)
    for axis, across in enumerate(planes):
        corners = vertices[faces, axis]
        first = np.searchsorted(across, corners.min(axis=1), "right")
        crossing = first < np.searchsorted(across, corners.max(axis=1), "left")
        if crossing.any():
            added, strips = _strips(vertices, faces[crossing], axis, across)
            vertices = np.concatenate([vertices, added])
            faces = np.concatenate([faces[~crossing], strips])
    return weld(vertices, faces)


def _strips(
    vertices: NDArray[Any], faces: NDArray[np.int64], axis: int, planes: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """New vertices, and what triangles become that all cross planes."""
    places = vertices[:, axis]
    rank = np.empty(len(places), np.int64)
    rank[np.argsort(places, kind="stable")] = np.arange(len(places))
    turns = np.argsort(rank[faces], axis=1)
    low, middle, high = np.take_along_axis(faces, turns, axis=1).T
    crossings = _Crossings.of(vertices, [(low, high), (low, middle), (middle, high)], axis, planes)

    # along the long edge, from low to high, and the way back over the middle
    first, counts = crossings.first[0], crossings.counts[0]
    triangle = np.repeat(np.arange(len(faces)), counts + 1)
    strip = np.arange(len(triangle)) - np.repeat(np.cumsum(counts + 1) - counts - 1, counts + 1)
    is_first, is_last = strip == 0, strip == counts[triangle]
    above = first[triangle] + strip
    height, plane = places[middle][triangle], planes[np.minimum(above, len(planes) - 1)]
    after_middle = plane > height
    on_long = crossings.at(0, triangle, above)
    on_way = np.where(
        after_middle, crossings.at(2, triangle, above), crossings.at(1, triangle, above)
    )
    on_way = np.where(plane == height, middle[triangle], on_way)
    top, top_back = (np.where(is_last, high[triangle], each) for each in (on_long, on_way))
    bottom, bottom_back = (
        np.where(is_first, low[triangle], np.roll(each, 1)) for each in (on_long, on_way)
    )
    # the middle is a corner of the strip that it lies in, if it lies in no plane between two
    before_middle = is_first | (np.roll(plane, 1) < height)
    inside = before_middle & (is_last | after_middle)
    corner = np.where(inside, middle[triangle], top_back)

    parts = [(bottom, top, top_back), (bottom, top_back, corner), (bottom, corner, bottom_back)]
    strips = np.concatenate([np.stack(part, axis=1) for part in parts])
    is_turned = np.tile(((turns[:, 1] - turns[:, 0]) % 3 == 1)[triangle], 3)
    strips[is_turned] = strips[is_turned][:, ::-1]
    a, b, c = strips.T
    return crossings.points, strips[(a != b) & (b != c) & (c != a)]


@dataclass(frozen=True, slots=True, eq=False)
class _Crossings:
    """Where edges cross planes. `points` are numbered after the vertices that were there.

    For the edges of each kind: the first plane that each crosses, how many it crosses, and the
    number of the first point.
    """

    points: NDArray[Any]
    first: list[NDArray[np.int64]]
    counts: list[NDArray[np.int64]]
    start: list[NDArray[np.int64]]

    def at(self, kind: int, edge: NDArray[np.int64], plane: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of the point of an edge in a plane; nonsense if it does not cross that."""
        return self.start[kind][edge] + plane - self.first[kind][edge]

    @classmethod
    def of(
        cls,
        vertices: NDArray[Any],
        kinds: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
        axis: int,
        planes: NDArray[Any],
    ) -> _Crossings:
        """Of edges from the lower to the higher end."""
        lows = np.concatenate([low for low, _ in kinds])
        highs = np.concatenate([high for _, high in kinds])
        edges, which = np.unique(lows * len(vertices) + highs, return_inverse=True)
        low, high = vertices[edges // len(vertices)], vertices[edges % len(vertices)]
        first = np.searchsorted(planes, low[:, axis], "right")
        counts = np.maximum(np.searchsorted(planes, high[:, axis], "left") - first, 0)
        edge = np.repeat(np.arange(len(edges)), counts)
        start = np.cumsum(counts) - counts
        plane = first[edge] + np.arange(len(edge)) - start[edge]
        points = _between(low[edge], high[edge], axis, planes[plane])
        split = np.cumsum([len(each) for each, _ in kinds])[:-1]
        return cls(
            points,
            np.split(first[which], split),
            np.split(counts[which], split),
            np.split(start[which] + len(vertices), split),
        )


def _between(
    low: NDArray[Any], high: NDArray[Any], axis: int, planes: NDArray[Any]
) -> NDArray[Any]:
    """Where edges cross a plane of their own."""
    along = (planes - low[:, axis]) / (high[:, axis] - low[:, axis])
    points = low + along[:, None] * (high - low)
    # rounding may lead past an end that lies on a plane
    points = np.clip(points, np.minimum(low, high), np.maximum(low, high))
    if low.dtype.kind in "iu":
        points = np.rint(points)
    points[:, axis] = planes
    exact: NDArray[Any] = points.astype(low.dtype)
    return exact


def zorder(positions: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Numbers that sort cells in Z-order: the bits of x, y and z, x lowest.

    Parameters
    ----------
    positions : ndarray of integers, shape (N, 3)
        x, y, z, each from 0 to 2**21 - 1.

    Returns
    -------
    ndarray of uint64, shape (N,)

    Examples
    --------
    >>> zorder(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [2, 0, 0]])).tolist()
    [1, 2, 4, 8]
    """
    positions = np.asarray(positions).astype(np.uint64)
    codes = np.zeros(len(positions), np.uint64)
    for axis in range(3):
        for bit in range(int(positions[:, axis].max(initial=0)).bit_length()):
            is_set = (positions[:, axis] >> np.uint64(bit)) & np.uint64(1)
            codes |= is_set << np.uint64(3 * bit + axis)
    return codes


def sort_into_cells(vertices: NDArray[np.int64], faces: NDArray[np.int64], edge: int) -> Cells:
    """Group triangles by the cell that they lie in.

    Parameters
    ----------
    vertices : ndarray of int64, shape (N, 3)
        At least 0.
    faces : ndarray of int64, shape (M, 3)
        None crosses a plane of the grid.
    edge : int
        Of a cell, which is a cube.

    Returns
    -------
    Cells
        A triangle that lies in a plane between two cells goes to the upper one, but not beyond
        the last that the vertices reach into.

    Examples
    --------
    >>> corners = np.array([[0, 0, 0], [4, 0, 0], [0, 4, 0], [8, 0, 0], [8, 1, 0]])
    >>> cells = sort_into_cells(corners, np.array([[1, 3, 4], [0, 1, 2]]), 4)
    >>> cells.positions.tolist(), [each.tolist() for each in cells.faces]
    ([[0, 0, 0], [1, 0, 0]], [[[0, 1, 2]], [[1, 3, 4]]])
    """
    if not len(faces):
        return Cells(np.zeros((0, 3), np.int64), ())
    last = np.maximum(-(-vertices.max(axis=0) // edge) - 1, 0)
    cells = np.minimum(vertices[faces].min(axis=1) // edge, last)
    codes = zorder(cells)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order])) + 1
    members = np.split(order, starts)
    positions = cells[[each[0] for each in members]]
    return Cells(positions, tuple(faces[each] for each in members))
