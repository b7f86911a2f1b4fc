"""What of a segment lies in which cell of a spatial index (pure).

Not only vertices: an edge or a triangle may pass through cells in which none of its ends lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xprecomputed.errors import LayoutError
from xprecomputed.keyed.cells import CellGrid

__all__ = ["Shape", "boxes_in_cells"]

#: Parts of the edges or faces of one segment that reach over several cells.
MOST_PARTS = 1 << 20

Nm = NDArray[np.float64]
Cell = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Shape:
    """Vertices of a segment, and which of them edges or faces join.

    Parameters
    ----------
    points : ndarray of float64, shape (N, 3)
        In nm, x, y, z.
    joins : ndarray of int64, shape (M, 2) or (M, 3)
        Edges or triangles: rows of `points`.
    """

    points: Nm
    joins: NDArray[np.int64]

    @classmethod
    def of(cls, key: int, given: Any) -> Shape:
        """Check what was given: points, or a tuple of points and joins.

        Raises
        ------
        ValueError
            Neither.

        Examples
        --------
        >>> Shape.of(7, ([[0, 0, 0], [9, 9, 9]], [[0, 1]])).joins.tolist()
        [[0, 1]]
        """
        points, joins = given if isinstance(given, tuple) and len(given) == 2 else (given, [])
        array, rows = np.asarray(points, float), np.asarray(joins)
        if not array.size:
            array = np.zeros((0, 3))
        if array.ndim != 2 or array.shape[1] != 3 or not np.isfinite(array).all():
            raise ValueError(
                f"points of segment {key}: shape {array.shape}, expected (N, 3) finite numbers in "
                "nm, or a tuple of those and of joins"
            )
        if not rows.size:
            rows = np.zeros((0, 2), np.int64)
        is_right = rows.ndim == 2 and rows.shape[1] in (2, 3) and rows.dtype.kind in "iu"
        if not is_right or (rows.size and not 0 <= rows.min() <= rows.max() < len(array)):
            raise ValueError(
                f"joins of segment {key}: shape {rows.shape}, type {rows.dtype}, expected (M, 2) "
                f"or (M, 3) integers, each one of the {len(array)} points"
            )
        return cls(array, rows.astype(np.int64, copy=False))


def boxes_in_cells(shape: Shape, grid: CellGrid) -> dict[Cell, Nm]:
    """The box around what a segment has in each cell, in whole nm that enclose it.

    An edge or triangle that reaches over cells is halved until each part touches two cells along
    an axis at most, and of the box around a part each of its cells gets what lies in there:
    nothing is left out, and what is said too much is smaller than a cell.

    Parameters
    ----------
    shape : Shape
    grid : CellGrid

    Returns
    -------
    dict of (int, int, int) to ndarray of float64, shape (2, 3)

    Raises
    ------
    LayoutError
        More than `MOST_PARTS` parts: an edge through a million cells.

    Examples
    --------
    >>> grid = CellGrid((0, 0, 0), (300, 100, 100), (100, 100, 100), 0)
    >>> edge = Shape.of(7, ([[0.5, 5, 5], [299, 5, 5.5]], [[0, 1]]))
    >>> [(cell[0], *box[:, 0].tolist()) for cell, box in boxes_in_cells(edge, grid).items()]
    [(0, 0.0, 100.0), (1, 100.0, 200.0), (2, 200.0, 299.0)]
    """
    cells = grid.cells_of(shape.points)
    own = _key(cells)[shape.joins]
    crossing = shape.joins[(own != own[:, :1]).any(axis=1)]
    low, high, at = _in_cells(_parts(shape.points[crossing], grid), grid)
    return _around(
        np.concatenate([shape.points, low]),
        np.concatenate([shape.points, high]),
        np.concatenate([cells, at]),
    )


def _key(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number a cell; along each axis there are at most 2**20."""
    x, y, z = cells.T
    key: NDArray[np.int64] = (x << 40) | (y << 20) | z
    return key


def _parts(corners: Nm, grid: CellGrid) -> Nm:
    """Edges or triangles, shape (M, K, 3), halved until they touch two cells along each axis."""
    done, count = [corners[:0]], 0
    while len(corners):
        cells = grid.cells_of(corners.reshape(-1, 3)).reshape(corners.shape)
        wide = (np.ptp(cells, axis=1) > 1).any(axis=1)
        done.append(corners[~wide])
        count += len(done[-1])
        if count + 2 * int(wide.sum()) > MOST_PARTS:
            raise LayoutError(
                f"edges or faces that reach over more than {MOST_PARTS} cells of "
                f"{grid.chunk_size} nm in all; are the vertices in nm? If so, make a spatial index "
                "of larger cells"
            )
        corners = _halved(corners[wide], np.array(grid.chunk_size))
    return np.concatenate(done)


def _halved(corners: Nm, unit: Nm) -> Nm:
    """Each cut in the middle of its longest side, measured in cells."""
    sides = np.array([(0, 1), (1, 2), (2, 0)][: 1 if corners.shape[1] == 2 else 3])
    with np.errstate(over="ignore"):
        lengths = np.abs(corners[:, sides[:, 0]] - corners[:, sides[:, 1]]) / unit
    begin, end = sides[lengths.max(axis=2).argmax(axis=1)].T
    rows = np.arange(len(corners))
    middle = corners[rows, begin] / 2 + corners[rows, end] / 2
    halves = np.stack([corners, corners])
    halves[0, rows, begin] = middle
    halves[1, rows, end] = middle
    return halves.reshape(-1, *corners.shape[1:])


def _in_cells(parts: Nm, grid: CellGrid) -> tuple[Nm, Nm, NDArray[np.int64]]:
    """The boxes around parts, cut with each cell that they touch: low, high, cell, all (N, 3)."""
    low, high = parts.min(axis=1), parts.max(axis=1)
    first, last = grid.cells_of(low), grid.cells_of(high)
    lows, highs, cells = [], [], []
    for step in product((0, 1), repeat=3):
        at = first + np.array(step)
        there = (at <= last).all(axis=1)
        reach = grid.reach(at[there])
        lows.append(np.maximum(low[there], reach[:, 0]))
        highs.append(np.minimum(high[there], reach[:, 1]))
        cells.append(at[there])
    return np.concatenate(lows), np.concatenate(highs), np.concatenate(cells)


def _around(low: Nm, high: Nm, cells: NDArray[np.int64]) -> dict[Cell, Nm]:
    """The box around the boxes of each cell."""
    if not len(cells):
        return {}
    keys = _key(cells)
    order = np.argsort(keys, kind="stable")
    low, high, cells, keys = low[order], high[order], cells[order], keys[order]
    first = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    begins = np.floor(np.minimum.reduceat(low, first))
    # the edges of a cell are rounded, so that a box may end before it begins
    ends = np.maximum(np.ceil(np.maximum.reduceat(high, first)), begins)
    boxes = np.stack([begins, ends], axis=1)
    return {tuple(cell): boxes[at] for at, cell in enumerate(cells[first].tolist())}
