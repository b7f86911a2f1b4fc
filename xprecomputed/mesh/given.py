"""Meshes and options as people give them to `put` (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xprecomputed.keyed import as_ids
from xprecomputed.mesh.encoding import MOST_LODS, Levels, Triple
from xprecomputed.mesh.mesh import Mesh
from xprecomputed.metadata import MeshInfo

__all__ = ["by_id", "check_options"]

COMPRESSIONS = ("auto", None, "gzip", "br", "zstd")


def by_id(meshes: Any) -> dict[int, Levels]:
    """The levels of detail of each mesh, by segment id.

    Parameters
    ----------
    meshes : Mesh, iterable of Mesh, or mapping
        As `put_meshes` takes them; the keys of a mapping win over the ids of its values.

    Returns
    -------
    dict of int to list of (vertices, faces)
        float32 (N, 3) nm and uint32 (M, 3); the finest first.

    Raises
    ------
    ValueError
        No id, two meshes of one segment, or what `Mesh` refuses.
    TypeError
        Something that is no mesh, or an id that is no integer.

    Examples
    --------
    >>> triangle = [[0, 0, 0], [8, 0, 0], [0, 8, 0]], [[0, 1, 2]]
    >>> [len(levels) for levels in by_id({7: triangle, 8: [triangle, triangle]}).values()]
    [1, 2]
    """
    if isinstance(meshes, Mapping):
        pairs: Iterable[tuple[Any, Any]] = meshes.items()
    else:
        pairs = ((_own_id(each), each) for each in _several(meshes))
    found: dict[int, Levels] = {}
    for key, mesh in pairs:
        (number,) = as_ids([key])[0].tolist()
        if number in found:
            raise ValueError(f"segment {number}: two meshes, expected one")
        found[number] = [_surface(level, number) for level in _levels(mesh, number)]
    return found


def _several(meshes: Any) -> Iterable[Any]:
    if hasattr(meshes, "vertices"):
        return [meshes]
    if not isinstance(meshes, Iterable):
        raise TypeError(
            f"meshes of type {type(meshes).__name__}: expected a Mesh, an iterable of them, or a "
            "mapping of ids to meshes"
        )
    return meshes


def _own_id(mesh: Any) -> Any:
    number = getattr(mesh, "segment_id", None)
    if number is None:
        raise ValueError(
            f"{mesh!r:.80}: whose mesh is it? Give a Mesh with its segment_id, or a mapping of ids "
            "to meshes"
        )
    return number


def _levels(mesh: Any, number: int) -> Sequence[Any]:
    if hasattr(mesh, "vertices") or _is_pair(mesh):
        return [mesh]
    if not isinstance(mesh, list | tuple) or not mesh:
        raise TypeError(
            f"segment {number}: {type(mesh).__name__}, expected a Mesh, a trimesh.Trimesh, "
            "(vertices, faces), or a list of those, the finest first"
        )
    if len(mesh) > MOST_LODS:
        raise ValueError(f"segment {number}: {len(mesh)} levels, at most {MOST_LODS} are written")
    return mesh


def _is_pair(value: Any) -> bool:
    """Whether it is (vertices, faces), and not two meshes."""
    if not isinstance(value, list | tuple) or len(value) != 2 or hasattr(value[0], "vertices"):
        return False
    try:
        first = np.asarray(value[0])
    except ValueError:  # arrays of several lengths
        return False
    return first.dtype.kind in "fiu" and first.ndim <= 2


def _surface(level: Any, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    has_both = hasattr(level, "vertices") and hasattr(level, "faces")
    if not has_both and not (isinstance(level, list | tuple) and len(level) == 2):
        count = f" of {len(level)}" if isinstance(level, list | tuple) else ""
        raise TypeError(
            f"mesh of segment {number}: {type(level).__name__}{count}, expected a Mesh, a "
            "trimesh.Trimesh or (vertices, faces), of shapes (N, 3) and (M, 3)"
        )
    try:
        if not has_both:
            vertices, faces = level
            level = Mesh(vertices, faces)
        elif not isinstance(level, Mesh):
            level = Mesh.from_trimesh(level)
    except (TypeError, ValueError) as error:
        raise ValueError(f"mesh of segment {number}: {error}") from None
    return level.vertices, level.faces


def check_options(
    info: MeshInfo,
    *,
    num_lods: Any = None,
    reduction: Any = 0.25,
    chunk_shape: Any = None,
    compression: Any = "auto",
) -> Triple | None:
    """Refuse options of `put_meshes` that do not fit; the chunk shape as three floats.

    Raises
    ------
    ValueError
    """
    if not (compression is None or isinstance(compression, str)) or (
        compression not in COMPRESSIONS
    ):
        raise ValueError(f"compression={compression!r}: expected one of {COMPRESSIONS}")
    if not info.is_multires:
        for name, value, usual in (
            ("num_lods", num_lods, num_lods is None or _is_integer(num_lods, 1, 1)),
            ("reduction", reduction, isinstance(reduction, Real) and reduction == 0.25),
            ("chunk_shape", chunk_shape, chunk_shape is None),
        ):
            if not usual:
                raise ValueError(f"{name}={value!r}: legacy meshes have one level and no cells")
        return None
    if compression not in ("auto", None):
        raise ValueError(
            f"compression={compression!r}: multi-resolution meshes are read by range, and Draco is "
            "compressed already; leave it out"
        )
    if num_lods is not None and not _is_integer(num_lods, 1, MOST_LODS):
        raise ValueError(f"num_lods={num_lods!r}: expected an integer from 1 to {MOST_LODS}")
    if not isinstance(reduction, Real) or not 0 < float(reduction) < 1:
        raise ValueError(f"reduction={reduction!r}: expected a number above 0 and below 1")
    return None if chunk_shape is None else _shape(chunk_shape)


def _is_integer(value: Any, least: int, most: int) -> bool:
    is_one = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_one and least <= value <= most


def _shape(values: Any) -> Triple:
    try:
        x, y, z = (float(each) for each in values)
    except (TypeError, ValueError):
        x = y = z = -1.0
    if not all(0 < each < np.inf for each in (x, y, z)):
        raise ValueError(
            f"chunk_shape={values!r}: expected three finite numbers above 0, x, y, z, in units of "
            "the stored model"
        )
    return x, y, z
