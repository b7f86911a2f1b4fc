"""What a request asks of every mesh, and putting the fragments together (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xprecomputed.mesh.mesh import Mesh, check_count

__all__ = ["Nm", "Part", "Raw", "Wanted", "assemble", "is_inside", "touches"]

#: A box in nm: lowest and highest corner, shape (2, 3), x, y, z; infinite where it is not cut.
Nm = NDArray[np.float64]
#: A fragment: vertices in nm, float32 (N, 3), and faces, uint32 (M, 3).
Part = tuple[NDArray[np.float32], NDArray[np.uint32]]
#: A fragment as decoded: positions in its cell, (N, 3), and faces, uint32 (M, 3).
Raw = tuple[NDArray[Any], NDArray[np.uint32]]


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """What is read of every mesh.

    Parameters
    ----------
    lod : int
        Negative ones count from the coarsest.
    max_vertices : int, optional
        Instead of `lod`: the finest with no more vertices, the coarsest if all have more.
    max_error_nm : float, optional
        Instead of `lod`: the coarsest with a resolution no worse, the finest if all are worse.
    box : ndarray, shape (2, 3), optional
        nm; only fragments whose own boxes, those around their vertices, touch it.
    """

    lod: int = 0
    max_vertices: int | None = None
    max_error_nm: float | None = None
    box: Nm | None = None


def touches(boxes: NDArray[np.floating[Any]], box: Nm) -> NDArray[np.bool_]:
    """Which of the boxes, shape (..., 2, 3), have a point in common with one, shape (2, 3)."""
    near: NDArray[np.bool_] = (boxes[..., 0, :] <= box[1]) & (boxes[..., 1, :] >= box[0])
    return np.asarray(near.all(axis=-1))


def is_inside(vertices: NDArray[np.float32], box: Nm | None) -> bool:
    """Whether the box around vertices touches another; all do where there is none."""
    if box is None:
        return True
    if not len(vertices):
        return False
    return bool(touches(np.array([vertices.min(axis=0), vertices.max(axis=0)]), box))


def assemble(
    parts: Iterable[Part | None],
    segment_id: int,
    lod: int = 0,
    resolution_nm: float | None = None,
) -> Mesh:
    """One mesh of those of its fragments that were read."""
    kept = [part for part in parts if part is not None]
    if not kept:
        return Mesh.empty(segment_id, lod, resolution_nm)
    counts = np.array([len(vertices) for vertices, _ in kept])
    check_count(int(counts.sum()))
    vertices = np.concatenate([each for each, _ in kept])
    faces = np.concatenate([each for _, each in kept], dtype=np.uint32)
    before = (np.cumsum(counts) - counts).astype(np.uint32)
    faces += np.repeat(before, [len(each) for _, each in kept])[:, None]
    return Mesh(vertices, faces, segment_id, lod, resolution_nm)
