"""The grid of a spatial index and the names of its files (pure); format reference 5.4."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from xprecomputed.errors import CorruptDataError, InvalidInfoError
from xprecomputed.metadata import SpatialIndexInfo

__all__ = ["SUFFIX", "BoundsNm", "CellGrid", "cell_box", "touching"]

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


def touching(cells: dict[str, NDArray[np.float64]], box: NDArray[np.float64]) -> list[str]:
    """The names of those cells that touch a box.

    A cell has its begin and not its end; the outermost ones reach to infinity, for what lies
    outside of the volume is put there.

    Parameters
    ----------
    cells : dict of str to ndarray of float64, shape (2, 3)
        In nm, as the names tell.
    box : ndarray of float64, shape (2, 3)
        In nm; may be flat.

    Examples
    --------
    >>> names = [f"{x}-{x + 8}_0-8_0-8.spatial" for x in (0, 8, 16)]
    >>> cells = {name: cell_box(name) for name in names}
    >>> touching(cells, np.array([[1, 0, 0], [8, 0, 0]]))
    ['0-8_0-8_0-8.spatial', '8-16_0-8_0-8.spatial']
    >>> touching(cells, np.array([[99, 0, 0], [999, 0, 0]]))
    ['16-24_0-8_0-8.spatial']
    """
    if not cells:
        return []
    begins, ends = np.array(list(cells.values())).swapaxes(0, 1)
    begins = np.where(begins == begins.min(axis=0), -np.inf, begins)
    ends = np.where(ends == ends.max(axis=0), np.inf, ends)
    which = ((begins <= box[1]) & (box[0] < ends)).all(axis=1)
    return [name for name, touches in zip(cells, which.tolist(), strict=True) if touches]


def _decimals(number: float) -> int:
    """As the number is printed: 4.15 has two, 4.0 one, 4 none."""
    return len(str(number).partition(".")[2])


def _triple(lengths: Iterable[float], what: str) -> tuple[float, float, float]:
    """As floats, which integers may be too large for."""
    try:
        x, y, z = map(float, lengths)
    except OverflowError:
        raise InvalidInfoError(f"{what}: a number that no float has, expected nm") from None
    return x, y, z


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
            Of absurdly many cells, or such that their names would not tell them.
        """
        where = f"spatial_index.chunk_size {list(info.chunk_size)}"
        exponents = [each for each in info.resolution if "e" in str(each)]
        if exponents:  # the peers do not count their decimals either
            raise InvalidInfoError(
                f"spatial_index.resolution {list(info.resolution)}: {exponents[0]} has no decimals "
                "as it is printed, which the names of the files need; expected nm per voxel"
            )
        low, high = (_triple(each, "bounds of the volume") for each in bounds_nm)
        decimals = max(_decimals(each) for each in info.resolution)
        grid = cls(low, high, _triple(info.chunk_size, where), decimals)
        between = f"between {low} and {high} nm"
        if not all(a < b for a, b in zip(low, high, strict=True)):
            raise InvalidInfoError(f"{where}: no cells {between}; expected bounds with an extent")
        counts = grid._counts()
        if not max(counts) <= MOST_ALONG:
            raise InvalidInfoError(
                f"{where}: {counts} cells {between}, expected at most {MOST_ALONG} along each "
                "axis; it is in nm"
            )
        grid._check_names(f"{where}, {between}")
        return grid

    def _counts(self) -> list[float]:
        """Cells along x, y, z, before they are rounded."""
        lengths = zip(self.low, self.high, self.chunk_size, strict=True)
        return [(high - low) / step for low, high, step in lengths]

    def _check_names(self, where: str) -> None:
        x, y, z = self.shape
        names = [self.name((0, 0, 0)), self.name((x - 1, y - 1, z - 1))]
        wrong = [name for name in names if cell_box(name) is None]
        if not wrong and max(x, y, z) > 1 and min(self.chunk_size) < 10**-self.decimals:
            wrong = names[:1]
        if wrong:
            raise InvalidInfoError(
                f"{where}: the name of a file would be {wrong[0][:80]!r}, which does not tell a "
                f"cell; expected nm of at most 20 digits, and cells of more than what the "
                f"{self.decimals} decimals of spatial_index.resolution tell apart"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells along x, y, z, one at least."""
        # what rounding adds at the end is no cell
        x, y, z = (max(1, math.ceil(count - 1e-6)) for count in self._counts())
        return x, y, z

    @property
    def last(self) -> str:
        """The name of the last file, which is made when all others are there."""
        x, y, z = self.shape
        return self.name((x - 1, y - 1, z - 1))

    def ranges(self, box: NDArray[np.float64]) -> list[range]:
        """The cells along each axis that touch a box, which may be flat.

        A cell has its begin and not its end; the outermost ones reach to infinity, as in
        `cells_of`.

        Parameters
        ----------
        box : ndarray of float64, shape (2, 3)
            In nm; infinite where it is not cut.
        """
        first, last = self.cells_of(box).tolist()
        return [range(a, b + 1) for a, b in zip(first, last, strict=True)]

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
        with np.errstate(over="ignore"):
            cells = np.floor((points - np.array(self.low)) / np.array(self.chunk_size))
        inside: NDArray[np.int64] = np.clip(cells, 0, np.array(self.shape) - 1).astype(np.int64)
        return inside

    def reach(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """Where the points lie that `cells_of` puts into cells, in nm.

        Parameters
        ----------
        cells : ndarray of int64, shape (N, 3)

        Returns
        -------
        ndarray of float64, shape (N, 2, 3)
            Begin and end; infinite at the outermost cells.
        """
        low, step = np.array(self.low), np.array(self.chunk_size)
        begins = np.where(cells > 0, low + cells * step, -np.inf)
        ends = np.where(cells < np.array(self.shape) - 1, low + (cells + 1) * step, np.inf)
        return np.stack([begins, ends], axis=1)

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
