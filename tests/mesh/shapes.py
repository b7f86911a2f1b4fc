"""Closed meshes for tests, made here, and what can be said of any mesh."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])


def sphere(
    rings: int = 12, radius: float = 1000.0, centre: tuple[float, float, float] = (0, 0, 0)
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A watertight ball, normals outward: (N, 3) and (M, 3), 4 * rings * (rings - 1) triangles."""
    around = 2 * rings
    polar, turn = np.meshgrid(
        np.linspace(0, np.pi, rings + 1)[1:-1], np.arange(around) * np.pi / rings, indexing="ij"
    )
    ring = [np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)]
    vertices = np.concatenate([[[0, 0, 1]], np.stack(ring, -1).reshape(-1, 3), [[0, 0, -1]]])
    here = 1 + np.arange((rings - 1) * around).reshape(rings - 1, around)
    beside = np.roll(here, -1, axis=1)
    last = len(vertices) - 1
    faces = [
        np.stack([np.zeros_like(here[0]), here[0], beside[0]], -1),
        np.stack([here[:-1], here[1:], beside[1:]], -1).reshape(-1, 3),
        np.stack([here[:-1], beside[1:], beside[:-1]], -1).reshape(-1, 3),
        np.stack([here[-1], np.full_like(here[-1], last), beside[-1]], -1),
    ]
    return vertices * radius + centre, np.concatenate(faces)


def bumpy(rings: int = 40, radius: float = 4000.0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A watertight body with bumps, longer in x, off the origin, as (N, 3) and (M, 3)."""
    vertices, faces = sphere(rings)
    x, y, z = (vertices / 1000).T
    grown = 1 + 0.25 * np.sin(5 * x) * np.cos(4 * y) + 0.1 * np.sin(9 * z)
    shape = vertices / 1000 * grown[:, None] * radius * [2.0, 1.0, 0.8]
    return shape + np.array([3210.5, -777.25, 12345.0]), faces


def normals(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> NDArray[np.float64]:
    """Twice the area of each triangle, as a vector, shape (M, 3)."""
    a, b, c = (np.asarray(vertices, np.float64)[faces[:, corner]] for corner in range(3))
    return np.cross(b - a, c - a)


def area(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> float:
    """Of all triangles together."""
    return float(np.linalg.norm(normals(vertices, faces), axis=1).sum() / 2)


def volume(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> float:
    """Of a closed mesh; above 0 where the normals look outward."""
    first = np.asarray(vertices, np.float64)[faces[:, 0]]
    return float((first * normals(vertices, faces)).sum() / 6)


def is_watertight(faces: NDArray[np.integer]) -> bool:
    """Whether each edge is as often there in one direction as in the other."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    span = int(faces.max(initial=0)) + 1
    there = np.sort(edges[:, 0] * span + edges[:, 1])
    back = np.sort(edges[:, 1] * span + edges[:, 0])
    return bool(np.array_equal(there, back))


def nearest(wanted: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.int64]:
    """Which of `points`, (N, 3), is nearest to each of `wanted`, (M, 3)."""
    parts = [
        ((points[None] - some[:, None]) ** 2).sum(axis=2).argmin(axis=1)
        for some in np.array_split(wanted, 1 + len(wanted) // 128)
    ]
    return np.concatenate(parts)


def matched(wanted: NDArray[np.floating], found: NDArray[np.floating]) -> NDArray[np.floating]:
    """Triangles, (M, 3, 3), in the order of `wanted` and turned like those; each of them once."""
    assert len(wanted) == len(found)
    which = nearest(wanted.mean(axis=1), found.mean(axis=1))
    assert len(set(which.tolist())) == len(wanted)
    turns = np.array([np.roll(found[which], -turn, axis=1) for turn in range(3)])
    off = np.abs(turns - wanted).max(axis=(2, 3))
    chosen: NDArray[np.floating] = turns[off.argmin(axis=0), np.arange(len(wanted))]
    return chosen


def triangles(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], step: float
) -> list[tuple[int, ...]]:
    """Each triangle as nine whole numbers of steps, its least corner first; sorted."""
    corners = np.rint(np.asarray(vertices, np.float64)[faces] / step).astype(np.int64)
    out = []
    for corner in corners.tolist():
        first = corner.index(min(corner))
        turned = corner[first:] + corner[:first]
        out.append(tuple(number for point in turned for number in point))
    return sorted(out)
