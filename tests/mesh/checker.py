"""The rules of a multi-resolution mesh, checked on its bytes, by nothing of the package.

Written from the format's description alone: the layout of the manifest, Z-order by comparing
bits, parents, sizes, quantised coordinates, and halves that no triangle crosses.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass, field

import DracoPy
import numpy as np


@dataclass
class Checked:
    """What the bytes hold: for each lod the cells, and vertices and faces of each fragment."""

    chunk_shape: np.ndarray
    origin: np.ndarray
    scales: list[float]
    cells: list[list[tuple[int, int, int]]] = field(default_factory=list)
    fragments: list[list[tuple[np.ndarray, np.ndarray] | None]] = field(default_factory=list)

    def stored(self, lod: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
        """All triangles of a lod in the stored model, float64, and which fragment each is of."""
        parts, owners = [], []
        for number, (cell, fragment) in enumerate(
            zip(self.cells[lod], self.fragments[lod], strict=True)
        ):
            if fragment is not None:
                points, faces = fragment
                at = self.origin + self.chunk_shape * 2**lod * (cell + points / (2**bits - 1))
                parts.append(at[faces])
                owners += [number] * len(faces)
        return np.concatenate(parts), np.array(owners)


def compare_z_order(a, b):
    """Below 0 if cell `a` comes first: the most significant differing bit decides."""

    def less_significant(x, y):
        return x < y and x < (x ^ y)

    axis = 2
    for other in (1, 0):
        if less_significant(a[axis] ^ b[axis], a[other] ^ b[other]):
            axis = other
    return a[axis] - b[axis]


def check(manifest: bytes, data: bytes, bits: int) -> Checked:
    """Read both, asserting every rule."""
    *head, lods = struct.unpack_from("<6fI", manifest)
    at = 28
    scales = struct.unpack_from(f"<{lods}f", manifest, at)
    offsets = struct.unpack_from(f"<{3 * lods}f", manifest, at + 4 * lods)
    counts = struct.unpack_from(f"<{lods}I", manifest, at + 16 * lods)
    at += 20 * lods
    assert len(manifest) == 28 + 20 * lods + 16 * sum(counts)
    assert not any(offsets)
    assert all(scale > 0 for scale in scales)
    assert list(scales) == sorted(scales)
    found = Checked(np.array(head[:3]), np.array(head[3:]), list(scales))
    place = 0
    for lod, count in enumerate(counts):
        rows = np.frombuffer(manifest, "<u4", 4 * count, at).reshape(4, count)
        at += 16 * count
        cells = [tuple(cell) for cell in rows[:3].T.tolist()]
        assert cells == sorted(set(cells), key=functools.cmp_to_key(compare_z_order))
        fragments = []
        for size in rows[3].tolist():
            stream = data[place : place + size]
            assert len(stream) == size
            fragments.append(check_fragment(stream, lod, bits) if size else None)
            place += size
        found.cells.append(cells)
        found.fragments.append(fragments)
    assert place == len(data)
    for lod in range(lods - 1):
        parents = {tuple(number // 2 for number in cell) for cell in found.cells[lod]}
        assert parents <= set(found.cells[lod + 1])
    assert all(fragment is not None for fragment in found.fragments[0])
    return found


def check_fragment(stream: bytes, lod: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Integer positions within the bits; from lod 1 on no triangle over a plane of halves."""
    mesh = DracoPy.decode(stream)
    points, faces = np.asarray(mesh.points), np.asarray(mesh.faces).reshape(-1, 3)
    assert points.dtype.kind in "iu"
    points = points.astype(np.int64)
    assert len(faces)
    assert points.min() >= 0
    assert points.max() <= 2**bits - 1
    if lod:
        corners = points[faces]
        half = 2 ** (bits - 1)
        crossing = (corners.min(axis=1) < half) & (corners.max(axis=1) > half)
        assert not crossing.any()
    return points, faces
