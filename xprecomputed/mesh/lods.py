"""Coarser meshes out of a fine one, and how fine a mesh is.

Simplification is by quadric error, through fast-simplification (MIT, wheels for every platform).
Its sibling pyfqmr wraps the same algorithm, gives the same triangles and takes as long.
"""

from __future__ import annotations

import os
import threading

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs._optional import optional
from xprecomputed.mesh.octree import weld

__all__ = ["make_lods", "resolution", "simplify"]

PURPOSE = "coarser levels of detail"
#: A mesh of so few triangles is not made coarser.
LEAST_TRIANGLES = 256
#: With more than this part of the triangles a level is not coarser.
ALMOST_ALL = 0.9

Surface = tuple[NDArray[np.float64], NDArray[np.int64]]

# the package keeps the mesh that it works on in variables of the process
_lock = threading.Lock()


def _forget_after_fork() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


def make_lods(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    num_lods: int,
    reduction: float = 0.25,
    *,
    only_coarser: bool = False,
) -> list[Surface]:
    """Levels of detail of a mesh, each made of the one before.

    Parameters
    ----------
    vertices : ndarray of float, shape (N, 3)
        nm, x, y, z. Those at the same place become one.
    faces : ndarray of integers, shape (M, 3)
    num_lods : int
        At least 1.
    reduction : float
        Which part of the triangles each level keeps, above 0 and below 1. A quarter goes with
        the octree: a cell of the next level has the area of four.
    only_coarser : bool
        End before a level that would have more than nine tenths of the triangles before it, as
        of a mesh that is all borders, unless those are 256 or fewer.

    Returns
    -------
    list of (vertices, faces)
        float64 (N, 3) and int64 (M, 3), the finest first. A level that cannot be made coarser,
        or has 256 triangles or fewer, is followed by itself. Borders of open meshes are kept
        as they are. The same every time.

    Raises
    ------
    MissingDependencyError
        fast-simplification is absent, and there is more than one level to make.

    Examples
    --------
    >>> corners = np.array([[0.0, 0, 0], [8, 0, 0], [0, 8, 0]])
    >>> [len(faces) for _, faces in make_lods(corners, np.array([[0, 1, 2]]), 2)]
    [1, 1]
    """
    level = weld(vertices.astype(np.float64), faces)
    lods = [level]
    while len(lods) < num_lods:
        before = len(level[1])
        level = simplify(*level, max(int(before * reduction), LEAST_TRIANGLES))
        if only_coarser and len(level[1]) > max(ALMOST_ALL * before, LEAST_TRIANGLES):
            break
        lods.append(level)
    return lods


def simplify(vertices: NDArray[np.float64], faces: NDArray[np.int64], target: int) -> Surface:
    """A mesh of about `target` triangles; the same mesh where it has no more.

    Parameters
    ----------
    vertices : ndarray of float64, shape (N, 3)
        Welded.
    faces : ndarray of int64, shape (M, 3)
    target : int

    Raises
    ------
    MissingDependencyError
        fast-simplification is absent.
    """
    if len(faces) <= target:
        return vertices, faces
    package = optional("fast_simplification", PURPOSE)
    # its limits are absolute, and far from the origin its sums lose digits
    centre = vertices.mean(axis=0)
    unit = resolution(vertices, faces) or 1.0
    with _lock:
        points, corners = package.simplify(
            (vertices - centre) / unit,
            faces.astype(np.int32),
            target_count=target,
            preserve_border=True,
        )
    found = weld(np.asarray(points, np.float64) * unit + centre, np.asarray(corners, np.int64))
    return found if 0 < len(found[1]) < len(faces) else (vertices, faces)


def resolution(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> float:
    """How fine a mesh is: the side of squares that, cut into two triangles each, have its area.

    That of a mesh that follows voxels is about their size.

    Parameters
    ----------
    vertices : ndarray of float, shape (N, 3)
    faces : ndarray of integers, shape (M, 3)

    Returns
    -------
    float
        In the unit of the vertices; 0 without triangles.

    Examples
    --------
    >>> square = np.array([[0.0, 0, 0], [8, 0, 0], [8, 8, 0], [0, 8, 0]])
    >>> resolution(square, np.array([[0, 1, 2], [0, 2, 3]]))
    8.0
    """
    if not len(faces):
        return 0.0
    a, b, c = vertices.astype(np.float64)[faces.T]
    return float(np.sqrt(np.linalg.norm(np.cross(b - a, c - a), axis=1).mean()))
