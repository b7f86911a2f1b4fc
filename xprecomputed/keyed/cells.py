"""The grid of a spatial index and the names of its files (pure); format reference 5.4."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from xprecomputed.errors import CorruptDataError, InvalidInfoError
from xprecomputed.metadata import SpatialIndexInfo

__all__ = ["SUFFIX", "BoundsNm", "CellGrid", "cell_box"]

SUFFIX = ".spatial"
#: Lower and upper corner in nm, x, y, z.
BoundsNm = tuple[tuple[float, float, float], tuple[float, float, float]]

#: Cells along one axis; with 14 µm a cell that is 15 m of tissue.
MOST_ALONG = 1 << 20
_NUMBER = r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?"
_NAME = re.compile("_".join([f"({_NUMBER})-({_NUMBER})"] * 3) + re.escape(SUFFIX))


def cell_box(name: str) -> NDArray[np.float64] | None:
    """The box that the name of a file tells, or None where it is no such name.

    Parameters
    ----------
    name : str

    Returns
    -------
    ndarray of float64, shape (2, 3), or None
        Lower and upper corner in nm, x, y, z.

    Examples
    --------
    >>> cell_box("-255.00--85.00_0.00-170.00_0.00-40.00.spatial").tolist()
    [[-255.0, 0.0, 0.0], [-85.0, 170.0, 40.0]]
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    box = np.array(match.groups(), float).reshape(3, 2).T
    return box if (box[0] < box[1]).all() else None


def _decimals(number: float) -> int:
    """As the number is printed: 4.15 has two, 4.0 one, 4 none."""
    return len(str(number).partition(".")[2])


@dataclass(frozen=True, slots=True)
class CellGrid:
    """The cells of an index, from the lower corner of the volume on, cut at the upper one.

    Parameters
    ----------
    low, high : tuple of three numbers
        Corners of the volume in nm, x, y, z.
    chunk_size : tuple of three numbers
        nm of a cell.
    decimals : int
        Of the numbers in names.

    Examples
    --------
    >>> info = SpatialIndexInfo(resolution=(32, 32, 40), chunk_size=(14336, 14336, 17920))
    >>> grid = CellGrid.of(info, ((0, 0, 0), (8192, 8192, 20480)))
    >>> [grid.name(cell) for cell in grid.cells(np.array([[0, 0, 0], [9, 9, 20480]]))]
    ['0-8192_0-8192_0-17920.spatial', '0-8192_0-8192_17920-20480.spatial']
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    chunk_size: tuple[float, float, float]
    decimals: int

    @classmethod
    def of(cls, info: SpatialIndexInfo, bounds_nm: BoundsNm) -> CellGrid:
        """The grid of an index in a volume.

        Raises
        ------
        InvalidInfoError
            Of absurdly many cells.
        """
        grid = cls(*bounds_nm, info.chunk_size, max(_decimals(each) for each in info.resolution))
        if max(grid.shape) > MOST_ALONG:
            raise InvalidInfoError(
                f"spatial_index.chunk_size {list(info.chunk_size)}: {grid.shape} cells between "
                f"{grid.low} and {grid.high} nm, expected at most {MOST_ALONG} along each axis; "
                "it is in nm"
            )
        return grid

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells along x, y, z."""
        # what rounding adds at the end is no cell
        x, y, z = (
            max(0, math.ceil((high - low) / step - 1e-6))
            for low, high, step in zip(self.low, self.high, self.chunk_size, strict=True)
        )
        return x, y, z

    def ranges(self, box: NDArray[np.float64]) -> list[range]:
        """The cells along each axis that touch a box, which may be flat.

        Parameters
        ----------
        box : ndarray of float64, shape (2, 3)
            In nm; infinite where it is not cut.
        """
        found = []
        for axis, count in enumerate(self.shape):
            edges = (box[:, axis] - self.low[axis]) / self.chunk_size[axis]
            begin, end = (float(each) for each in np.clip(edges, -1, count + 1))
            first = math.floor(begin)
            found.append(range(max(0, first), min(max(math.ceil(end), first + 1), count)))
        return found

    def cells(self, box: NDArray[np.float64]) -> Iterator[tuple[int, int, int]]:
        """The cells that touch a box; see `ranges`."""
        yield from product(*self.ranges(box))

    def name(self, cell: tuple[int, int, int]) -> str:
        """The name of the file of a cell."""
        parts = []
        for at, low, high, step in zip(cell, self.low, self.high, self.chunk_size, strict=True):
            begin = low + at * step
            parts.append(f"{self._text(begin)}-{self._text(min(begin + step, high))}")
        return "_".join(parts) + SUFFIX

    def _text(self, length: float) -> str:
        return f"{round(length, self.decimals) + 0.0:.{self.decimals}f}"  # without a -0

    def cells_of(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """The cell of each point, shape (N, 3); outside of the volume the nearest one."""
        cells = np.floor((points - np.array(self.low)) / np.array(self.chunk_size))
        inside: NDArray[np.int64] = np.clip(cells, 0, np.array(self.shape) - 1).astype(np.int64)
        return inside

    @classmethod
    def of_files(cls, info: SpatialIndexInfo, boxes: NDArray[np.float64]) -> CellGrid:
        """The grid whose cells are the boxes of files, shape (N, 2, 3), some of which may lack.

        Raises
        ------
        CorruptDataError
            They lie on no grid.
        """
        low, high = boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)
        grid = cls.of(info, (tuple(low.tolist()), tuple(high.tolist())))
        cells = grid.cells_of(boxes.mean(axis=1))
        step = np.array(info.chunk_size)
        expected = np.stack([low + cells * step, np.minimum(low + (cells + 1) * step, high)], 1)
        if not np.allclose(boxes, expected, rtol=1e-9, atol=0.5):
            raise CorruptDataError(
                f"files with the suffix {SUFFIX} are not the cells of one grid with "
                f"spatial_index.chunk_size {list(info.chunk_size)}"
            )
        return grid
