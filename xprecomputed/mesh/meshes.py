"""The meshes of one folder: the public class."""

from __future__ import annotations

import os
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from xprecomputed.coords import AXES, parse_bounds
from xprecomputed.keyed import (
    Bounds,
    KeyedValues,
    Missing,
    Segments,
    as_ids,
    check_missing,
    raise_missing,
    read_info,
)
from xprecomputed.mesh.deleting import delete_meshes
from xprecomputed.mesh.files import check_files, write_files
from xprecomputed.mesh.mesh import Mesh
from xprecomputed.mesh.reading import keyed_values, read_meshes
from xprecomputed.mesh.wanted import Wanted
from xprecomputed.metadata import MeshInfo
from xprecomputed.storage import Location

__all__ = ["Meshes", "open_meshes"]


def open_meshes(directory: Location, bounds_nm: Bounds | None = None) -> Meshes:
    """Open a folder of meshes; one request, for its ``info``.

    Parameters
    ----------
    directory : Location
        Without an ``info`` it is one of legacy meshes.
    bounds_nm : two corners in nm, optional
        Of the volume, which say what files a spatial index has.

    Returns
    -------
    Meshes

    Raises
    ------
    InvalidInfoError, AccessDeniedError, StorageError, CorruptDataError
    """
    info = read_info(directory, MeshInfo.from_json)
    return Meshes(directory, info or MeshInfo(), info is not None, bounds_nm)


@dataclass(frozen=True, slots=True, repr=False)
class Meshes(Segments[MeshInfo]):
    """Meshes by segment id. Frozen, cheap, picklable.

    Parameters
    ----------
    directory : Location
    info : MeshInfo
    has_info : bool
        Whether `info` was read; otherwise it is that of legacy meshes.
    bounds_nm : two corners in nm, optional
        Of the volume.

    Examples
    --------
    >>> from xprecomputed.mesh.legacy import encode_fragment
    >>> from xprecomputed.storage import locate_url
    >>> place = locate_url("memory://doc/meshes")
    >>> triangle = Mesh([[0, 0, 0], [8, 0, 0], [0, 8, 0]], [[0, 1, 2]])
    >>> for name, data in {"7:0": b'{"fragments": ["7:0:1"]}',
    ...                    "7:0:1": encode_fragment(triangle.vertices, triangle.faces)}.items():
    ...     place.storage.put(place.child(name).key, data)
    >>> meshes = open_meshes(place)
    >>> meshes
    <Meshes of memory://doc/meshes: legacy (without an info)>
    >>> meshes.get(7)
    <Mesh of segment 7, lod 0: 3 vertices, 1 faces>
    >>> meshes.get([7, 8], missing="skip")
    {7: <Mesh of segment 7, lod 0: 3 vertices, 1 faces>}
    """

    kind: ClassVar[str] = "mesh"

    @property
    def values(self) -> KeyedValues:
        """The manifests, by id."""
        return keyed_values(self.directory, self.info)

    def get(
        self,
        ids: Any,
        lod: int = 0,
        fuse: bool = False,
        missing: Missing = "raise",
        *,
        bbox: Any = None,
        weld: bool | float = False,
        max_vertices: int | None = None,
        max_error_nm: float | None = None,
    ) -> Any:
        """Read meshes.

        Thousands at once take few requests where they are in shards, and many at a time where
        not.

        Parameters
        ----------
        ids : int or iterable of int
        lod : int
            Level of detail: 0 is the finest, -1 the coarsest. Legacy meshes have no other than 0.
        fuse : bool
            One mesh of all; vertices of different segments stay apart. Of none, where all are
            missing and skipped, one without vertices.
        missing : {"raise", "skip"}
        bbox : array_like or mapping, optional
            nm: ``((x0, y0, z0), (x1, y1, z1))``, or axes to slices or pairs. Only fragments that
            touch it are handed out, whole, and as far as can be known only they are fetched. A
            mesh that has none there is one without vertices.
        weld : bool or float
            Make one of the vertices that fragments share on their seams (`Mesh.weld`); a number
            is a tolerance in nm. Of each mesh alone, also with `fuse`.
        max_vertices : int, optional
            Instead of `lod`, of each mesh: the finest lod with no more vertices (in `bbox`, if
            there is one; before they are welded), the coarsest if all have more.
        max_error_nm : float, optional
            Instead of `lod`, of each mesh: the coarsest lod with a resolution of at most so many
            nm (`Mesh.resolution_nm`), the finest if all are worse.

        Returns
        -------
        Mesh, or dict of int to Mesh
            Of one id the mesh, or None where it is missing and skipped; of several those that
            are there, in the order asked; with `fuse` always a mesh. ``vertices`` (N, 3) float32
            nm, x, y, z; ``faces`` (M, 3) uint32.

        Raises
        ------
        SegmentMissingError
            With all that are missing.
        LodNotFoundError
            A mesh does not have this lod; the message tells which it has.
        CorruptDataError
            Naming the object.
        OutOfBoundsError
            Not a box.
        TypeError, ValueError
            What `ids` has is no segment id, or the options contradict one another.
        AccessDeniedError, StorageError, MissingDependencyError
        """
        numbers, single = as_ids(ids)
        check_missing(missing)
        wanted = _wanted(lod, bbox, max_vertices, max_error_nm)
        tolerance = _tolerance(weld)
        found = read_meshes(self.directory, self.info, numbers, wanted)
        meshes: dict[int, Mesh] = {}
        lost: list[int] = []
        for number, mesh in zip(numbers.tolist(), found, strict=True):
            if mesh is None:
                lost.append(number)
            else:
                meshes[number] = mesh if tolerance is None else mesh.weld(tolerance)
        if lost and missing == "raise":
            place = self.values.place_of(lost[0])
            if not self.has_info:
                place += " (the folder has no info, so it was taken for one of legacy meshes)"
            raise_missing("mesh", place, lost)
        if fuse:
            return Mesh.fuse(meshes.values())
        return meshes.get(int(numbers[0])) if single else meshes

    def get_by_bbox(self, bbox: Any, crop: bool = False, **options: Any) -> Any:
        """Read the meshes that the spatial index has in a box.

        Parameters
        ----------
        bbox : array_like or mapping
            nm: ``((x0, y0, z0), (x1, y1, z1))``, or axes to slices or pairs.
        crop : bool
            Of these meshes only the fragments that touch the box, as `get` takes it.
        **options
            Of `get`.

        Returns
        -------
        dict of int to Mesh
            Ids ascending; with ``fuse=True`` one mesh. The index knows boxes of parts: a mesh
            may pass by.

        Raises
        ------
        NotFoundError
            There is no spatial index, or a file of it is missing.
        SegmentMissingError, LodNotFoundError, CorruptDataError, OutOfBoundsError
        AccessDeniedError, StorageError
        """
        return self.get(self.ids_in(bbox), bbox=bbox if crop else None, **options)

    def put(self, meshes: Any, **options: Any) -> None:
        """Store meshes, each in the place of one that is there; others stay.

        Parameters
        ----------
        meshes : Mesh, iterable of Mesh, or mapping of int to Mesh
            See `xprecomputed.mesh.writing.put_meshes`, also for the options and the errors.
        **options
        """
        from xprecomputed.mesh.writing import put_meshes  # which knows this class

        put_meshes(self, meshes, **options)

    def delete(self, ids: Any) -> int:
        """Remove meshes, and what the spatial index says of them.

        A manifest goes before its fragments: what an interruption leaves is not found. Of a
        legacy mesh only fragments go that are called after it, ``<id>:...``; others may belong
        to other meshes, too.

        Parameters
        ----------
        ids : int or iterable of int

        Returns
        -------
        int
            How many there were.

        Raises
        ------
        CorruptDataError
            The manifest of a legacy mesh, which says what belongs to it.
        TypeError, ValueError, AccessDeniedError, StorageError
        """
        numbers, _ = as_ids(ids)
        count = delete_meshes(self.directory, self.info, numbers)
        if self.info.spatial_index is not None:
            self.spatial_index.remove(numbers.tolist())
        return count

    def save(
        self,
        ids: Any,
        path: str | os.PathLike[str],
        file_format: str = "ply",
        **options: Any,
    ) -> None:
        """Write meshes into files of this machine.

        Parameters
        ----------
        ids : int or iterable of int
        path : str or path-like
            A folder, which gets ``<id>.<file_format>`` for each; or for one mesh (one id, or
            ``fuse=True``) a file, whose ending tells the format.
        file_format : {"ply", "obj", "glb", "stl", "precomputed"}
            Through trimesh, or the bytes of a legacy fragment. Vertices are in nm.
        **options
            Of `get`.

        Raises
        ------
        ValueError
            Several meshes for one file, one of several for a folder, an unknown format, an
            unknown ending of what is no folder, or a mesh without faces, which only "precomputed"
            has a form for.
        SegmentMissingError, LodNotFoundError, CorruptDataError, AccessDeniedError, StorageError
        MissingDependencyError
        """
        place, (numbers, _) = Path(path), as_ids(ids)
        check_files(place, len(numbers), file_format, options.get("fuse", False))
        write_files(self.get(numbers, **options), place, file_format)

    def __repr__(self) -> str:
        kind = "legacy"
        if self.info.is_multires:
            kind = f"multi-resolution, {'un' if self.info.sharding is None else ''}sharded"
        told = "" if self.has_info else " (without an info)"
        return f"<Meshes of {self.url}: {kind}{told}>"


def _wanted(lod: int, bbox: Any, max_vertices: int | None, max_error_nm: float | None) -> Wanted:
    if isinstance(lod, bool) or not isinstance(lod, int | np.integer):
        raise TypeError(f"lod={lod!r}: expected an integer, 0 the finest, -1 the coarsest")
    if sum((lod != 0, max_vertices is not None, max_error_nm is not None)) > 1:
        raise ValueError("lod, max_vertices and max_error_nm each choose a lod: give one of them")
    if max_vertices is not None and (
        isinstance(max_vertices, bool)
        or not isinstance(max_vertices, int | np.integer)
        or max_vertices < 0
    ):
        raise ValueError(f"max_vertices={max_vertices!r}: expected an integer >= 0")
    if max_error_nm is not None and not (_is_number(max_error_nm) and max_error_nm >= 0):
        raise ValueError(f"max_error_nm={max_error_nm!r}: expected nm, a number >= 0")
    box = None
    if bbox is not None:
        box = np.array([[-np.inf] * 3, [np.inf] * 3])
        for axis, pair in parse_bounds(bbox).items():
            box[:, AXES.index(axis)] = pair
    return Wanted(int(lod), max_vertices, max_error_nm, box)


def _tolerance(weld: bool | float) -> float | None:
    """nm, or None where vertices stay apart."""
    if isinstance(weld, bool | np.bool_):
        return 0.0 if weld else None
    if not _is_number(weld) or not 0 <= weld < np.inf:
        raise ValueError(f"weld={weld!r}: expected True, False or a tolerance in nm")
    return float(weld)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
