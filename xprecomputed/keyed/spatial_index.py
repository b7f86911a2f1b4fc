"""Which segments are in a box: the ``.spatial`` files of Igneous (format reference 5.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xprecomputed.coords import AXES, parse_bounds
from xprecomputed.errors import (
    CorruptDataError,
    InvalidInfoError,
    LayoutError,
    NotFoundError,
    OutOfBoundsError,
)
from xprecomputed.keyed.boxes import Boxes
from xprecomputed.keyed.cell_files import CellFiles
from xprecomputed.keyed.cells import BoundsNm, CellGrid, touching
from xprecomputed.keyed.ids import Missing, as_ids, check_missing
from xprecomputed.keyed.shapes import Shape, boxes_in_cells
from xprecomputed.metadata import SpatialIndexInfo
from xprecomputed.storage import Location

__all__ = ["SpatialIndex"]

#: No box needs more files, and no index that is written here has more.
MOST_CELLS = 1 << 22

Box = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SpatialIndex:
    """The boxes of segments, in a file for each cell of a grid. Frozen, cheap, picklable.

    Parameters
    ----------
    directory : Location
        Of the meshes or skeletons.
    info : SpatialIndexInfo
    bounds_nm : ((x0, y0, z0), (x1, y1, z1)) or None
        Of the volume, at the mip that was meshed: the grid begins at its lower corner, and a
        file that lacks is an error. None: the files that are listed are all.

    Examples
    --------
    >>> from xprecomputed.storage import locate_url
    >>> info = SpatialIndexInfo(resolution=(4, 4, 40), chunk_size=(2048, 2048, 2560))
    >>> place, bounds = locate_url("memory://doc/index"), ((0, 0, 0), (4096, 4096, 2560))
    >>> index = SpatialIndex(place, info, bounds)
    >>> index.update({7: ([[0, 0, 0], [3000, 9, 9]], [[0, 1]]), 8: [[9, 9, 9]]})
    >>> index.ids_in({"x": slice(2049, 2500)})
    array([7], dtype=uint64)
    >>> index.boxes()[7].tolist()
    [[0.0, 0.0, 0.0], [3000.0, 9.0, 9.0]]
    """

    directory: Location
    info: SpatialIndexInfo
    bounds_nm: BoundsNm | None = None

    # ---- what is in a box

    def ids_in(self, bounds: object, *, missing: Missing = "raise") -> NDArray[np.uint64]:
        """The segments that have something in a box, by the boxes of what they have in each cell.

        Parameters
        ----------
        bounds : array_like or mapping
            In nm: ``((x0, y0, z0), (x1, y1, z1))``, or axes to slices; an axis that is left out
            is not cut.
        missing : {"raise", "skip"}
            What becomes of a file that lacks: an error, or a cell without segments.

        Returns
        -------
        ndarray of uint64
            Ascending. A segment may be among them that comes as near as 1 nm, or whose box
            touches although it does not itself; none is left out.

        Raises
        ------
        NotFoundError
            A file lacks.
        OutOfBoundsError
            Not a box, or of too many cells.
        CorruptDataError, InvalidInfoError
            A file is not what it should be.
        AccessDeniedError, StorageError
        """
        return self._found(bounds, missing).ids

    def boxes(
        self, bounds: object = None, *, missing: Missing = "raise"
    ) -> dict[int, NDArray[np.float64]]:
        """The box around each segment.

        Parameters
        ----------
        bounds : array_like or mapping, optional
            In nm, as in `ids_in`: only segments in there, and of them only what is stored of the
            cells that it touches.
        missing : {"raise", "skip"}
            As in `ids_in`.

        Returns
        -------
        dict of int to ndarray of float64, shape (2, 3)
            Lower and upper corner in nm, x, y, z, by id ascending.

        Raises
        ------
        NotFoundError, OutOfBoundsError, CorruptDataError, InvalidInfoError, AccessDeniedError,
        StorageError
            As `ids_in`.
        """
        found = self._found(bounds, missing)
        return dict(zip(found.ids.tolist(), found.corners, strict=True))

    def to_dataframe(self, bounds: object = None, *, missing: Missing = "raise") -> Any:
        """`boxes` as a table.

        Returns
        -------
        pandas.DataFrame
            ``segment_id`` (uint64), ``x0 y0 z0 x1 y1 z1`` (float64, nm); a row a segment.
        """
        import pandas  # type: ignore[import-untyped]

        found = self._found(bounds, missing)
        names = [f"{axis}{end}" for end in (0, 1) for axis in AXES]
        columns = dict(zip(names, found.corners.reshape(-1, 6).T, strict=True))
        return pandas.DataFrame({"segment_id": found.ids, **columns})

    def _found(self, bounds: object, missing: str) -> Boxes:
        check_missing(missing)
        box = _as_box(bounds)
        found: list[Boxes] = []

        def look(name: str) -> None:
            boxes = self._files.read(name)
            if boxes is not None:
                found.append(boxes.touching(box))
            elif missing == "raise":
                raise NotFoundError(
                    f"{self._files.place(name).url}: the spatial index has no file of this cell, "
                    "so what is in there is unknown; missing='skip' takes it as empty"
                )

        self._files.each(self._names(box), look)
        return Boxes.joined(found)

    def _names(self, box: Box) -> Iterable[str]:
        """The files of the cells that touch a box."""
        if self.bounds_nm is None:
            return touching(self._files.listed(), box)
        grid = CellGrid.of(self.info, self.bounds_nm)
        count = int(np.prod([len(each) for each in grid.ranges(box)]))
        if count > MOST_CELLS:
            raise OutOfBoundsError(
                f"{self.directory.url}: the box touches {count} cells of the spatial index, at "
                f"most {MOST_CELLS} are read; ask for a smaller one"
            )
        return map(grid.name, grid.cells(box))

    @property
    def _files(self) -> CellFiles:
        return CellFiles(self.directory)

    # ---- changes

    def create(self) -> None:
        """Store an empty file for each cell that has none; nothing else is changed.

        The file of the last cell is made when all others are there. Several may do so at once.

        Raises
        ------
        LayoutError
            The bounds of the volume are unknown.
        InvalidInfoError
            Millions of cells, or none.
        AccessDeniedError, StorageError
        """
        if self.bounds_nm is None:
            raise LayoutError(
                f"{self.directory.url}: the cells of a new spatial index follow from the bounds of "
                "the volume, which are unknown here; open it through the volume"
            )
        grid, files = self._known_grid(self.bounds_nm), self._files
        there, last = files.listed(), grid.last
        names = map(grid.name, grid.cells(_as_box(None)))
        files.each((name for name in names if name not in there and name != last), files.make)
        if last not in there:
            files.make(last)

    def update(self, shapes: Mapping[int, Any]) -> None:
        """Say of some segments where they are, instead of what was said before.

        What was said before goes last, so that an interruption leaves too much and never too
        little. All files are read, to find it; those of other cells stay as they are. Others may
        change the same files meanwhile (`Storage.update`), but not for the same segments: of two
        who replace one segment at once, one may trim what the other said of it.

        Where there are no files yet, or somebody who makes them is not ready, `create` is called.
        That is told by the last file, which is missing while the others say nothing.

        Parameters
        ----------
        shapes : mapping of int to array_like of float (N, 3), or to (points, joins)
            Vertices of each segment in nm, x, y, z. In a tuple with edges or triangles between
            them, integers (M, 2) or (M, 3), these are found in all cells that they pass through.
            Without any vertices, nothing is said of the segment any more. What lies outside of
            the volume is put into the nearest cell, where it is found. Where the bounds of the
            volume are unknown, that is the nearest one that has a file: what should be in cells
            behind it, of which all files are missing, is then found only as long as the bounds
            are unknown, and with them these cells are an error.

        Raises
        ------
        TypeError, ValueError
            An id is none, or points or joins are none.
        LayoutError
            There is no file yet, and the bounds of the volume are unknown; or the edges or
            triangles of a segment pass through a million cells.
        NotFoundError
            The file of a cell is missing, and others are there.
        InvalidInfoError, CorruptDataError, AccessDeniedError, StorageError
        """
        with self.replacing(shapes):
            pass

    @contextmanager
    def replacing(self, shapes: Mapping[int, Any]) -> Iterator[None]:
        """Around the replacement of what is indexed: first both are said, in the end the new.

        Who asks meanwhile finds a segment by where it was and by where it will be, and so it
        stays after an error within.

        Parameters
        ----------
        shapes : mapping
            As `update` takes them. Without any, nothing is read or written.

        Raises
        ------
        TypeError, ValueError, LayoutError, NotFoundError, InvalidInfoError, CorruptDataError
        AccessDeniedError, StorageError
            As `update`.

        Examples
        --------
        >>> from xprecomputed.storage import locate_url
        >>> info = SpatialIndexInfo(resolution=(4, 4, 40), chunk_size=(2048, 2048, 2560))
        >>> index = SpatialIndex(locate_url("memory://doc/r"), info, ((0, 0, 0), (4096,) * 3))
        >>> index.update({7: [[1, 1, 1]]})
        >>> with index.replacing({7: [[3000, 1, 1]]}):
        ...     index.ids_in({"x": (0, 9)}), index.ids_in({"x": (2999, 4000)})
        (array([7], dtype=uint64), array([7], dtype=uint64))
        >>> index.ids_in({"x": (0, 9)})
        array([], dtype=uint64)
        """
        ids = as_ids(shapes)[0]
        checked = {int(key): Shape.of(int(key), shapes[key]) for key in shapes}
        if not checked:
            yield
            return
        there = {} if self.bounds_nm is not None else self._ready()
        new = self._planned(checked, self._grid(there))  # before files are made
        there = there or self._ready()
        self._require(name for name in new if name not in there)
        said = self._files.add(new, ids, there)
        yield
        self._files.trim(new, ids, said)

    def remove(self, ids: Any) -> None:
        """Say nothing of some segments any more.

        All files are read, also for ids of which no object is stored: an interrupted `put` or
        `delete` leaves such, and deleting them again is the cure. Without any id, nothing is read.

        Parameters
        ----------
        ids : int or iterable of int

        Raises
        ------
        TypeError, ValueError
            An id is none.
        InvalidInfoError, CorruptDataError, AccessDeniedError, StorageError
        """
        gone = as_ids(ids)[0]
        if not len(gone):
            return
        files = self._files

        def trim(name: str) -> None:
            boxes = files.read(name)
            if boxes is not None and np.isin(boxes.ids, gone).any():
                files.change(name, lambda now: None if now is None else now.without(gone))

        files.each(files.listed(), trim)

    def _ready(self) -> Mapping[str, Box]:
        """All files, which are made where they are not."""
        files = self._files
        if self.bounds_nm is None:
            there = files.listed()
            if not there:
                self.create()  # which says what to do
            return there
        last = self._known_grid(self.bounds_nm).last
        there = files.listed()
        if last in there:
            return there
        if self._says_nothing(there):
            self.create()
        there = files.listed()  # whoever said something has made the last file before
        self._require([last] if last not in there else [])
        return there

    def _says_nothing(self, names: Iterable[str]) -> bool:
        saying: list[str] = []

        def look(name: str) -> None:
            boxes = self._files.read(name)
            if boxes is not None and len(boxes.ids):
                saying.append(name)

        self._files.each(names, look)
        return not saying

    def _require(self, lacking: Iterable[str]) -> None:
        """Refuse to begin a file of which others have said nothing: it would seem complete."""
        for name in lacking:
            raise NotFoundError(
                f"{self._files.place(name).url}: the spatial index has no file of this cell, so "
                "what else is in there is unknown; create() of the index, opened through the "
                "volume, makes an empty one"
            )

    def _known_grid(self, bounds_nm: BoundsNm) -> CellGrid:
        grid = CellGrid.of(self.info, bounds_nm)
        count = int(np.prod(grid.shape, dtype=object))
        if count > MOST_CELLS:
            raise InvalidInfoError(
                f"{self.directory.url}: spatial_index.chunk_size {list(self.info.chunk_size)} "
                f"makes {count} cells, and as many files, of {grid.low} to {grid.high} nm; "
                f"expected at most {MOST_CELLS}; it is in nm"
            )
        return grid

    def _grid(self, there: Mapping[str, Box]) -> CellGrid:
        if self.bounds_nm is not None:
            return self._known_grid(self.bounds_nm)
        try:
            return CellGrid.of_files(self.info, np.array(list(there.values())))
        except CorruptDataError as error:
            raise CorruptDataError(f"{self.directory.url}: {error}") from None

    def _planned(self, shapes: Mapping[int, Shape], grid: CellGrid) -> dict[str, Boxes]:
        """What each file shall say of segments."""
        new: dict[str, dict[int, Box]] = {}
        for key, shape in shapes.items():
            try:
                boxes = boxes_in_cells(shape, grid)
            except LayoutError as error:
                raise LayoutError(f"{self.directory.url}: segment {key}: {error}") from None
            for cell, box in boxes.items():
                new.setdefault(grid.name(cell), {})[key] = box
        return {name: Boxes.joined([Boxes.of(each)]) for name, each in new.items()}

    def __dask_tokenize__(self) -> tuple[str, str, str, str]:
        return type(self).__name__, self.directory.token, repr(self.info), repr(self.bounds_nm)


def _as_box(bounds: object) -> Box:
    """Shape (2, 3), infinite where it is not cut."""
    box = np.array([[-np.inf] * 3, [np.inf] * 3])
    for axis, pair in (parse_bounds(bounds) if bounds is not None else {}).items():
        box[:, AXES.index(axis)] = pair
    return box
