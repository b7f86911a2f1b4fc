"""Vertices that lie on each other become one (pure)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["drop_degenerate", "same_vertices"]

#: Pairs of vertices that are compared at most: 1 GB of them.
MAX_PAIRS = 1 << 25
#: Of a grid as fine as the tolerance, along an axis: products of two are still exact.
MAX_CELLS = 1 << 31


def same_vertices(
    vertices: NDArray[np.float32], tolerance_nm: float = 0.0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which vertices stay, and which of them stands for each.

    Parameters
    ----------
    vertices : ndarray of float32, shape (N, 3)
        x, y, z in nm.
    tolerance_nm : float
        0: only vertices that are equal become one (-0.0 equals 0.0). Above: those that lie no
        further apart as well, and what is connected by such steps.

    Returns
    -------
    kept : ndarray of int64, shape (K,)
        Ascending; of those that become one the first stays.
    place : ndarray of int64, shape (N,)
        The position in `kept` of what stands for each vertex.

    Raises
    ------
    ValueError
        The tolerance is below 0, not finite, or so large that whole parts would become one.

    Examples
    --------
    >>> kept, place = same_vertices(np.array([[1, 2, 3], [0, 0, 0], [1, 2, 3]], np.float32))
    >>> kept.tolist(), place.tolist()
    ([0, 1], [0, 1, 0])
    """
    if not 0 <= tolerance_nm < np.inf:
        raise ValueError(f"tolerance_nm={tolerance_nm!r}: expected a finite number >= 0")
    first = _first_equal(vertices)
    if tolerance_nm > 0 and len(vertices):
        first = _join(vertices, first, tolerance_nm)
    kept = np.flatnonzero(first == np.arange(len(first)))
    place = np.zeros(len(first), np.int64)
    place[kept] = np.arange(len(kept))
    return kept, place[first]


def drop_degenerate(faces: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Faces with three different corners; the same array where all are."""
    a, b, c = faces.T
    good = (a != b) & (b != c) & (a != c)
    return faces if good.all() else faces[good]


def _first_equal(vertices: NDArray[np.float32]) -> NDArray[np.int64]:
    """The first vertex that equals each."""
    bits = np.ascontiguousarray(vertices + np.float32(0)).view(np.uint32)  # -0.0 + 0.0 is 0.0
    high = bits[:, 0].astype(np.uint64) << np.uint64(32) | bits[:, 1]
    order = np.lexsort((bits[:, 2], high))  # stable: the first of equal ones leads
    is_new = np.ones(len(order), bool)
    is_new[1:] = (np.diff(high[order]) != 0) | (np.diff(bits[order, 2]) != 0)
    leader = np.maximum.accumulate(np.where(is_new, np.arange(len(order)), 0))
    first = np.empty(len(order), np.int64)
    first[order] = order[leader]
    return first


def _join(
    vertices: NDArray[np.float32], first: NDArray[np.int64], tolerance: float
) -> NDArray[np.int64]:
    """`first`, where neighbours within the tolerance have become one too."""
    kept = np.flatnonzero((first == np.arange(len(first))) & np.isfinite(vertices).all(axis=1))
    if not len(kept):
        return first
    a, b = _near_pairs(vertices[kept].astype(np.float64), tolerance)
    least = np.arange(len(kept))
    while True:  # the least number spreads over all that is connected
        before = least.copy()
        lower = np.minimum(least[a], least[b])
        np.minimum.at(least, a, lower)
        np.minimum.at(least, b, lower)
        least = least[least]
        if (least == before).all():
            break
    joined = first.copy()
    joined[kept] = kept[least]
    return joined[first]


def _near_pairs(
    points: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs that lie no further apart than the tolerance; each once, or both ways."""
    exact = np.floor((points - points.min(axis=0)) / tolerance)
    if exact.max() >= MAX_CELLS:
        raise ValueError(
            f"tolerance_nm={tolerance}: too small for vertices {np.ptp(points, axis=0).max()} nm "
            f"apart; expected at least a {MAX_CELLS}th of that"
        )
    x, y, z = exact.astype(np.int64).T
    width = int(y.max()) + 2
    numbers, column = np.unique(x * width + y, return_inverse=True)
    parts = []
    for step in (0, 1, width - 1, width, width + 1):  # half of the columns around, and the same
        other = np.searchsorted(numbers, numbers + step).clip(max=len(numbers) - 1)
        there = numbers[other] == numbers + step
        parts.append(_pairs_between(points, z, column, np.where(there, other, -1), tolerance))
    return np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts])


def _pairs_between(
    points: NDArray[np.float64],
    layers: NDArray[np.int64],
    column: NDArray[np.int64],
    other: NDArray[np.int64],
    tolerance: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Near pairs of points in each column of cells and in the column ``other[column]``."""
    order = np.lexsort((layers, column))
    span = int(layers.max()) + 3
    keys = column[order] * span + layers[order]
    wanted = other[column] * span + layers
    begin = np.searchsorted(keys, wanted - 1, "left")
    counts = np.where(other[column] >= 0, np.searchsorted(keys, wanted + 1, "right") - begin, 0)
    if counts.sum() > MAX_PAIRS:
        raise ValueError(
            f"tolerance_nm={tolerance}: {counts.sum()} pairs of vertices lie about so close; "
            "expected a tolerance well below the length of edges"
        )
    a = np.repeat(np.arange(len(points)), counts)
    within = np.arange(len(a)) - np.repeat(np.cumsum(counts) - counts, counts)
    b = order[np.repeat(begin, counts) + within]
    near = (a != b) & (((points[a] - points[b]) ** 2).sum(axis=1) <= tolerance**2)
    return a[near], b[near]
