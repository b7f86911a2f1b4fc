"""Refusing meshes that cannot be stored, before anything is (pure)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs._optional import optional
from xprecomputed.mesh.encoding import (
    USUAL_TRIANGLES,
    Grid,
    Levels,
    Triple,
    check_pieces,
    lods_for,
    nothing_left,
    on_lattice,
    scales,
    stored_model,
)
from xprecomputed.mesh.lods import PURPOSE
from xprecomputed.mesh.octree import has_triangle, used
from xprecomputed.metadata import MeshInfo

__all__ = ["check_mesh"]

#: nm that a vertex may move because the stored model has float32; or a few of its steps there.
MOST_MOVED, MOST_STEPS = 0.1, 4


def check_mesh(
    key: int, levels: Levels, info: MeshInfo, chunk_shape: Triple | None, num_lods: int | None
) -> None:
    """Refuse what `encode_mesh` would, and what no mesh directory holds.

    Parameters
    ----------
    key : int
        The segment, for messages.
    levels : sequence of (vertices, faces)
        nm, the finest first; vertices that faces name are there.
    info : MeshInfo
    chunk_shape : tuple of three float, optional
    num_lods : int, optional

    Raises
    ------
    ValueError
    MissingDependencyError
        Levels of detail are to be made, and fast-simplification is absent.

    Examples
    --------
    >>> triangle = np.array([[0.0, 0, 0], [8, 0, 0], [0, 8, 0]]), np.array([[0, 1, 2]])
    >>> check_mesh(7, [triangle], MeshInfo(), None, None)
    """
    try:
        _check_triangles(levels, info, num_lods)
        if info.is_multires:
            _check_cells(levels, info, chunk_shape, num_lods)
        else:
            _check_rounding(levels[0][0], levels[0][1], info)
    except ValueError as error:
        raise ValueError(f"mesh of segment {key}: {error}") from None


def _check_triangles(levels: Levels, info: MeshInfo, num_lods: int | None) -> None:
    if len(levels) > 1 and (num_lods is not None or not info.is_multires):
        wanted = "num_lods makes levels of one" if info.is_multires else "legacy meshes have one"
        raise ValueError(f"{len(levels)} levels were given, and {wanted}")
    for vertices, _ in levels:
        if not np.isfinite(vertices).all():
            raise ValueError("vertices that are not finite")
    vertices, faces = levels[0]
    if not has_triangle(vertices, faces):
        raise ValueError(
            f"{len(faces)} triangles, none with three corners in different places; leave it out, "
            "or delete what is stored of it"
        )


def _check_cells(
    levels: Levels, info: MeshInfo, chunk_shape: Triple | None, num_lods: int | None
) -> None:
    surfaces = [used(vertices.astype(np.float64), faces) for vertices, faces in levels]
    stored = [(stored_model(vertices, info), faces) for vertices, faces in surfaces]
    count = lods_for(surfaces, info, num_lods, chunk_shape)
    grid = Grid.around([vertices for vertices, _ in stored], info, count, chunk_shape)
    check_pieces(stored, grid, count)
    vertices, faces = stored[0]
    if not has_triangle(on_lattice(vertices, grid, 0), faces):
        raise ValueError(nothing_left(grid))
    scales(surfaces, grid, info)
    makes_some = num_lods is None and (len(faces) > USUAL_TRIANGLES or chunk_shape is not None)
    if len(levels) == 1 and (makes_some or (num_lods or 1) > 1):
        optional("fast_simplification", PURPOSE)


def _check_rounding(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], info: MeshInfo
) -> None:
    """Legacy meshes are float32 in the stored model, and only then are mapped to nm."""
    nm = used(vertices.astype(np.float64), faces)[0]
    model = stored_model(nm, info)
    with np.errstate(over="ignore"):
        stored = model.astype(np.float32)
    if not np.isfinite(stored).all():
        raise ValueError(
            f"a mesh from {model.min(axis=0).tolist()} to {model.max(axis=0).tolist()} in the "
            "stored model, which has float32: check its vertices and the transform of the info"
        )
    moved = float(np.abs(info.transform.apply(stored) - nm).max())
    if moved > max(MOST_MOVED, MOST_STEPS * float(np.spacing(np.float32(np.abs(nm).max())))):
        raise ValueError(
            f"vertices would move by up to {moved:.3g} nm, since the stored model has float32 and "
            f"the transform of the info takes it to {model.min(axis=0).tolist()} and beyond: make "
            "the folder with a transform without so large a translation"
        )
