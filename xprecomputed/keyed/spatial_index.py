"""Which segments are in a box: the ``.spatial`` files of Igneous (format reference 5.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xprecomputed.codecs import compress
from xprecomputed.coords import AXES, parse_bounds
from xprecomputed.errors import (
    AccessDeniedError,
    CorruptDataError,
    LayoutError,
    NotFoundError,
    OutOfBoundsError,
    StorageError,
)
from xprecomputed.keyed.boxes import Boxes, boxes_of_points
from xprecomputed.keyed.cells import SUFFIX, BoundsNm, CellGrid, cell_box
from xprecomputed.keyed.ids import Missing, as_ids, check_missing
from xprecomputed.keyed.values import read_object
from xprecomputed.metadata import SpatialIndexInfo
from xprecomputed.parallel import run_bounded
from xprecomputed.storage import Location, Unchanged, workers_for

__all__ = ["SpatialIndex"]

#: A file has some 60 bytes a label.
MAX_FILE_BYTES = 128 << 20
#: What a file may take while it is read, for the budget.
USUAL_BYTES = 4 << 20
#: No box needs more files.
MOST_CELLS = 1 << 24
CONTROL = "no-cache"

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
    >>> index.update({7: [[0, 0, 0], [3000, 9, 9]], 8: [[9, 9, 9]]})
    >>> index.ids_in({"x": slice(2048, 4096)})
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
            boxes = self._read(name)
            if boxes is not None:
                found.append(boxes.touching(box))
            elif missing == "raise":
                raise NotFoundError(
                    f"{self._place(name).url}: the spatial index has no file of this cell, so "
                    "what is in there is unknown; missing='skip' takes it as empty"
                )

        self._each(self._names(box), look)
        return Boxes.joined(found)

    def _names(self, box: Box) -> Iterable[str]:
        """The files of the cells that touch a box."""
        if self.bounds_nm is None:
            return [name for name, cell in self._listed().items() if _touch(cell, box)]
        grid = CellGrid.of(self.info, self.bounds_nm)
        count = int(np.prod([len(each) for each in grid.ranges(box)]))
        if count > MOST_CELLS:
            raise OutOfBoundsError(
                f"{self.directory.url}: the box touches {count} cells of the spatial index, at "
                f"most {MOST_CELLS} are read; ask for a smaller one"
            )
        return map(grid.name, grid.cells(box))

    def _listed(self) -> dict[str, Box]:
        """All files, and the boxes that their names tell."""
        storage = self.directory.storage
        try:
            names = [each.name for each in storage.list_dir(self.directory.key)]
        except (AccessDeniedError, StorageError) as error:
            raise type(error)(
                f"{error}. The files of the spatial index are found without a listing where the "
                "bounds of the volume are known: open it through the volume"
            ) from None
        found = {}
        for name in sorted(each for each in names if each.endswith(SUFFIX)):
            box = cell_box(name)
            if box is None:
                raise CorruptDataError(
                    f"{self._place(name).url}: not the name of a file of a spatial index, which "
                    f"is x0-x1_y0-y1_z0-z1{SUFFIX}, numbers in nm; remove it"
                )
            found[name] = box
        return found

    def _place(self, name: str) -> Location:
        return self.directory.child(name)

    def _read(self, name: str) -> Boxes | None:
        place = self._place(name)
        data = read_object(place, MAX_FILE_BYTES)
        return None if data is None else Boxes.parse(data, place.url)

    def _each(self, names: Iterable[str], work: Callable[[str], None]) -> None:
        workers = workers_for(self.directory)
        run_bounded(names, work, workers=workers, cost=lambda _: USUAL_BYTES)

    # ---- changes

    def create(self) -> None:
        """Store an empty file for each cell that has none; nothing else is changed.

        Raises
        ------
        LayoutError
            The bounds of the volume are unknown.
        InvalidInfoError, AccessDeniedError, StorageError
        """
        if self.bounds_nm is None:
            raise LayoutError(
                f"{self.directory.url}: the cells of a new spatial index follow from the bounds of "
                "the volume, which are unknown here; open it through the volume"
            )
        there = self._listed()
        names = self._names(_as_box(None))
        self._each((name for name in names if name not in there), self._change({}, np.zeros(0)))

    def update(self, points: Mapping[int, ArrayLike]) -> None:
        """Say of some segments where they are, instead of what was said before.

        All files are read, to find what was said before; those of other cells stay as they are.
        Others may change the same files meanwhile (`Storage.update`). Where there is no file yet,
        `create` is called.

        Parameters
        ----------
        points : mapping of int to array_like of float, shape (N, 3)
            Vertices of each segment in nm, x, y, z. Without any, nothing is said of it any more.

        Raises
        ------
        TypeError, ValueError
            An id is none, or points are no points.
        LayoutError
            There is no file yet, and the bounds of the volume are unknown.
        NotFoundError
            The file of a cell lacks, and others are there.
        InvalidInfoError, CorruptDataError, AccessDeniedError, StorageError
        """
        ids = as_ids(points)[0]
        checked = {int(key): _as_points(int(key), points[key]) for key in points}
        there = self._listed()
        if not there:
            self.create()
        grid = self._grid(there)
        new: dict[str, dict[int, Box]] = {}
        for key, vertices in checked.items():
            for cell, box in boxes_of_points(vertices, grid.cells_of(vertices)).items():
                new.setdefault(grid.name(cell), {})[key] = box
        if self.bounds_nm is not None and there:
            self._require(name for name in new if name not in there)
        held = self._holding(ids, (name for name in there if name not in new))
        self._each([*new, *held], self._change(new, ids))

    def remove(self, ids: Any) -> None:
        """Say nothing of some segments any more.

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
        self._each(self._holding(gone, self._listed()), self._change({}, gone))

    def _require(self, lacking: Iterable[str]) -> None:
        """Refuse to begin a file of which others have said nothing: it would seem complete."""
        for name in lacking:
            raise NotFoundError(
                f"{self._place(name).url}: the spatial index has no file of this cell, so what "
                "else is in there is unknown; create() makes an empty one"
            )

    def _grid(self, there: Mapping[str, Box]) -> CellGrid:
        if self.bounds_nm is not None:
            return CellGrid.of(self.info, self.bounds_nm)
        try:
            return CellGrid.of_files(self.info, np.array(list(there.values())))
        except CorruptDataError as error:
            raise CorruptDataError(f"{self.directory.url}: {error}") from None

    def _holding(self, ids: NDArray[np.uint64], names: Iterable[str]) -> list[str]:
        """Those of the files that say something of the ids."""
        found: list[str] = []

        def look(name: str) -> None:
            boxes = self._read(name)
            if boxes is not None and np.isin(boxes.ids, ids).any():
                found.append(name)

        self._each(names, look)
        return sorted(found)

    def _change(
        self, new: Mapping[str, Mapping[int, Box]], gone: NDArray[Any]
    ) -> Callable[[str], None]:
        """What changes one file: without the ids `gone`, and with what is `new` in it."""
        gzip = self.directory.storage.has_headers

        def change(name: str) -> None:
            place = self._place(name)

            def work(only_if: Unchanged | None) -> None:
                before = self._read(name)
                after = [Boxes.of(new.get(name, {}))]
                if before is not None:
                    after.append(before.some(~np.isin(before.ids, gone)))
                data = Boxes.joined(after).to_bytes()
                if gzip:
                    data = compress(data, "gzip")
                place.storage.put(
                    place.key,
                    data,
                    encoding="gzip" if gzip else None,
                    cache_control=CONTROL if gzip else None,
                    only_if=only_if,
                )

            place.storage.update(place.key, work)

        return change

    def __dask_tokenize__(self) -> tuple[str, str, str, str]:
        return type(self).__name__, self.directory.token, repr(self.info), repr(self.bounds_nm)


def _as_box(bounds: object) -> Box:
    """Shape (2, 3), infinite where it is not cut."""
    box = np.array([[-np.inf] * 3, [np.inf] * 3])
    for axis, pair in (parse_bounds(bounds) if bounds is not None else {}).items():
        box[:, AXES.index(axis)] = pair
    return box


def _touch(cell: Box, box: Box) -> bool:
    """Whether a cell, which has its begin and not its end, touches a box, which may be flat."""
    inside = (cell[0] <= box[0]) & (box[0] < cell[1])
    return bool((inside | ((cell[0] < box[1]) & (box[0] < cell[1]))).all())


def _as_points(key: int, points: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(points, float)
    if not array.size:
        return np.zeros((0, 3))
    if array.ndim != 2 or array.shape[1] != 3 or not np.isfinite(array).all():
        raise ValueError(
            f"points of segment {key}: shape {array.shape}, expected (N, 3) finite numbers in nm"
        )
    return array
