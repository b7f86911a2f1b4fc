"""A triangle mesh in nm."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xprecomputed.codecs._optional import optional
from xprecomputed.keyed import as_ids
from xprecomputed.mesh.welding import drop_degenerate, same_vertices

__all__ = ["Mesh"]

#: What trimesh writes, by the end of the name.
SUFFIXES = (".ply", ".obj", ".glb", ".stl")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Mesh:
    """Triangles over shared vertices, in nm, in the frame of the volume.

    Parameters
    ----------
    vertices : array_like of float32, shape (N, 3)
        x, y, z in nm; rounded to float32 where it is finer, not copied where it is float32.
    faces : array_like of uint32, shape (M, 3)
        Positions in `vertices`; not copied where it is uint32.
    segment_id : int, optional
        Whose mesh it is, 0 to 2**64 - 1; None of several.
    lod : int
        Level of detail, 0 is the finest.
    resolution_nm : float, optional
        Size of the features that this level of detail keeps, where a mesh tells it.

    Raises
    ------
    ValueError
        Another shape, faces that are not integers, or that name a vertex which is not there; a
        segment id out of range.
    TypeError
        A segment id that is no integer.

    Examples
    --------
    >>> mesh = Mesh([[0, 0, 0], [8, 0, 0], [0, 8, 0]], [[0, 1, 2]], segment_id=7)
    >>> mesh
    <Mesh of segment 7, lod 0: 3 vertices, 1 faces>
    >>> mesh.bounds_nm.tolist()
    [[0.0, 0.0, 0.0], [8.0, 8.0, 0.0]]
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.uint32]
    segment_id: int | None = None
    lod: int = 0
    resolution_nm: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "vertices", _vertices(self.vertices))
        object.__setattr__(self, "faces", _faces(self.faces, len(self.vertices)))
        if self.segment_id is not None:
            object.__setattr__(self, "segment_id", int(as_ids([self.segment_id])[0][0]))

    @classmethod
    def empty(
        cls, segment_id: int | None = None, lod: int = 0, resolution_nm: float | None = None
    ) -> Mesh:
        """A mesh without vertices and faces."""
        nothing = np.empty((0, 3), np.float32), np.empty((0, 3), np.uint32)
        return cls(*nothing, segment_id, lod, resolution_nm)

    @classmethod
    def fuse(cls, meshes: Iterable[Mesh]) -> Mesh:
        """Many meshes as one; their vertices stay apart (see `weld`).

        Parameters
        ----------
        meshes : iterable of Mesh

        Returns
        -------
        Mesh
            Of the segment that all have in common, else of None; with the coarsest lod and
            resolution among them.

        Raises
        ------
        ValueError
            More vertices than uint32 can number.

        Examples
        --------
        >>> one = Mesh([[0, 0, 0], [8, 0, 0], [0, 8, 0]], [[0, 1, 2]], 7)
        >>> Mesh.fuse([one, one]).faces.tolist()
        [[0, 1, 2], [3, 4, 5]]
        """
        parts = list(meshes)
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.empty()
        counts = [len(part.vertices) for part in parts]
        check_count(sum(counts))
        vertices = np.concatenate([part.vertices for part in parts])
        faces = np.concatenate([part.faces for part in parts])
        at_vertex = at_face = 0
        for part, count in zip(parts, counts, strict=True):
            faces[at_face : at_face + len(part.faces)] += np.uint32(at_vertex)
            at_vertex, at_face = at_vertex + count, at_face + len(part.faces)
        owners = {part.segment_id for part in parts}
        resolutions = [part.resolution_nm for part in parts]
        known = [each for each in resolutions if each is not None]
        return cls(
            vertices,
            faces,
            owners.pop() if len(owners) == 1 else None,
            max(part.lod for part in parts),
            max(known) if len(known) == len(parts) else None,
        )

    @classmethod
    def from_trimesh(cls, mesh: Any, segment_id: int | None = None, lod: int = 0) -> Mesh:
        """A ``trimesh.Trimesh``, or whatever else has `vertices` in nm and `faces`.

        Parameters
        ----------
        mesh : trimesh.Trimesh
        segment_id : int, optional
        lod : int
        """
        return cls(mesh.vertices, mesh.faces, segment_id, lod)

    def to_trimesh(self) -> Any:
        """A ``trimesh.Trimesh`` with the same vertices and faces, in the same order.

        Raises
        ------
        MissingDependencyError
            trimesh is absent.
        """
        trimesh = optional("trimesh", "meshes for trimesh")
        return trimesh.Trimesh(self.vertices, self.faces, process=False)

    def weld(self, tolerance_nm: float = 0.0) -> Mesh:
        """Make one of vertices that lie on each other, as on the seams of fragments.

        Parameters
        ----------
        tolerance_nm : float
            0: only vertices that are equal become one. Above: those too that lie no further
            apart, and what is connected by such steps.

        Returns
        -------
        Mesh
            Of vertices that become one the first stays, in its place; faces that have lost a
            corner by it, or had none to lose, are gone.

        Raises
        ------
        ValueError
            The tolerance is below 0, not finite, or out of proportion to the mesh.

        Examples
        --------
        >>> seam = Mesh([[0, 0, 0], [8, 0, 0], [0, 8, 0], [0, 8, 0], [8, 0, 0], [8, 8, 0]],
        ...             [[0, 1, 2], [3, 4, 5]])
        >>> seam.weld().faces.tolist()
        [[0, 1, 2], [2, 1, 3]]
        """
        kept, place = same_vertices(self.vertices, tolerance_nm)
        if len(kept) == len(self.vertices):
            faces = drop_degenerate(self.faces)
            return self if faces is self.faces else replace(self, faces=faces)
        faces = drop_degenerate(place.astype(np.uint32)[self.faces])
        return replace(self, vertices=self.vertices[kept], faces=faces)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file for other programs, through trimesh; vertices are in nm.

        Parameters
        ----------
        path : path-like
            Ends with ``.ply``, ``.obj``, ``.glb`` or ``.stl``.

        Raises
        ------
        ValueError
            Another ending, or a mesh without faces, for which these formats have no form.
        MissingDependencyError
            trimesh is absent.
        """
        name = os.fspath(path)
        suffix = os.path.splitext(name)[1].lower()
        if suffix not in SUFFIXES:
            raise ValueError(f"{name}: expected a name that ends with one of {SUFFIXES}")
        if not len(self.faces):
            raise ValueError(f"{name}: {self!r} has nothing to write")
        self.to_trimesh().export(name, file_type=suffix[1:])

    def view(self) -> Any:
        """A ``trimesh.Scene`` of it; in a notebook what that shows, to be turned by hand.

        Raises
        ------
        MissingDependencyError
            trimesh is absent.
        """
        scene = self.to_trimesh().scene()
        if optional("trimesh.viewer", "a view of a mesh").in_notebook():
            return scene.show(viewer="notebook")
        return scene

    @property
    def bounds_nm(self) -> NDArray[np.float32]:
        """Lowest and highest corner, x, y, z, shape (2, 3); NaN of a mesh without vertices."""
        if not len(self.vertices):
            return np.full((2, 3), np.nan, np.float32)
        return np.array([self.vertices.min(axis=0), self.vertices.max(axis=0)])

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self.vertices.nbytes + self.faces.nbytes

    def equals(self, other: object) -> bool:
        """Whether the other is a mesh with the same vertices, faces, segment and lod."""
        return (
            isinstance(other, Mesh)
            and (self.segment_id, self.lod) == (other.segment_id, other.lod)
            and np.array_equal(self.vertices, other.vertices, equal_nan=True)
            and np.array_equal(self.faces, other.faces)
        )

    def __repr__(self) -> str:
        owner = "" if self.segment_id is None else f" of segment {self.segment_id}"
        counts = f"{len(self.vertices)} vertices, {len(self.faces)} faces"
        return f"<Mesh{owner}, lod {self.lod}: {counts}>"


def check_count(vertices: int) -> None:
    """Refuse what faces of uint32 cannot number."""
    if vertices > 1 << 32:
        raise ValueError(
            f"a mesh of {vertices} vertices, uint32 numbers {1 << 32}: take a coarser lod, or "
            "leave the meshes apart"
        )


def _vertices(values: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"vertices of {array.dtype}, expected numbers")
    with np.errstate(over="ignore"):
        array = np.asarray(array, np.float32)
    if array.size == 0:
        array = array.reshape(0, 3)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"vertices of shape {array.shape}, expected (N, 3) in x, y, z order")
    return array


def _faces(values: ArrayLike, count: int) -> NDArray[np.uint32]:
    array = np.asarray(values)
    if array.size == 0:
        return np.empty((0, 3), np.uint32)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"faces of shape {array.shape}, expected (M, 3)")
    if array.dtype.kind not in "iu":
        raise ValueError(f"faces of {array.dtype}, expected integers")
    if array.max() >= count or array.min() < 0:
        wrong = array.max() if array.max() >= count else array.min()
        raise ValueError(f"a face names vertex {wrong} of {count} (they count from 0)")
    return np.asarray(array, np.uint32)
