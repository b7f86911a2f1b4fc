"""Voxel arithmetic: boxes, the chunk grid of a scale, chunk names (pure).

All triples are x, y, z. Boxes are half-open and absolute: they include ``voxel_offset``,
as Neuroglancer's and CloudVolume's coordinates do. Fact: format reference 2.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

__all__ = ["Box", "ChunkGrid", "Triple"]

Triple: TypeAlias = tuple[int, int, int]


def _triple(values: Iterator[int]) -> Triple:
    x, y, z = values
    return x, y, z


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of absolute voxels, x, y, z.

    Examples
    --------
    >>> Box((0, 0, 0), (4, 4, 4)).intersection(Box((2, 2, 2), (9, 9, 3))).shape
    (2, 2, 1)
    """

    start: Triple
    stop: Triple

    @classmethod
    def from_offset(cls, offset: Triple, size: Triple) -> Box:
        """The box of `size` voxels that begins at `offset`."""
        return cls(offset, _triple(o + s for o, s in zip(offset, size, strict=True)))

    @property
    def shape(self) -> Triple:
        """Voxels along x, y, z; never negative."""
        return _triple(max(b - a, 0) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def is_empty(self) -> bool:
        """Whether there is no voxel inside."""
        return 0 in self.shape

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    def intersection(self, other: Box) -> Box:
        """The voxels in both (maybe none)."""
        (ax, ay, az), (bx, by, bz) = self.start, other.start
        x, y, z = max(ax, bx), max(ay, by), max(az, bz)
        (ax, ay, az), (bx, by, bz) = self.stop, other.stop
        stop = max(x, min(ax, bx)), max(y, min(ay, by)), max(z, min(az, bz))
        return Box((x, y, z), stop)

    def contains(self, other: Box) -> bool:
        """Whether every voxel of `other` is inside."""
        return other.is_empty or self.intersection(other) == other

    def __str__(self) -> str:
        return " ".join(
            f"{axis}[{a}, {b})" for axis, a, b in zip("xyz", self.start, self.stop, strict=True)
        )


@dataclass(frozen=True, slots=True)
class ChunkGrid:
    """How a scale is cut into chunks: the grid starts at ``voxel_offset``, edges are clipped.

    Parameters
    ----------
    size, voxel_offset, chunk_size : tuple of int
        Voxels in x, y, z.

    Examples
    --------
    >>> grid = ChunkGrid(size=(3, 2, 1), voxel_offset=(-1, 5, 0), chunk_size=(2, 2, 1))
    >>> [grid.name(cell) for cell in grid.cells(grid.bounds)]
    ['-1-1_5-7_0-1', '1-2_5-7_0-1']
    """

    size: Triple
    voxel_offset: Triple
    chunk_size: Triple

    @property
    def bounds(self) -> Box:
        """The whole scale."""
        return Box.from_offset(self.voxel_offset, self.size)

    @property
    def shape(self) -> Triple:
        """Chunks along x, y, z."""
        return _triple(-(-s // c) for s, c in zip(self.size, self.chunk_size, strict=True))

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return math.prod(self.shape)

    def chunk_box(self, cell: Triple) -> Box:
        """The clipped box of the chunk at grid position `cell`."""
        # spelled out, as in `chunk_shape`: every chunk of every read comes by here
        (ox, oy, oz), (cx, cy, cz) = self.voxel_offset, self.chunk_size
        x, y, z = ox + cell[0] * cx, oy + cell[1] * cy, oz + cell[2] * cz
        width, height, depth = self.chunk_shape(cell)
        return Box((x, y, z), (x + width, y + height, z + depth))

    def chunk_shape(self, cell: Triple) -> Triple:
        """The clipped extent of the chunk at `cell`."""
        (x, y, z), (cx, cy, cz), (sx, sy, sz) = cell, self.chunk_size, self.size
        return min(cx, sx - x * cx), min(cy, sy - y * cy), min(cz, sz - z * cz)

    def name(self, cell: Triple) -> str:
        """The object name of the chunk at `cell`: absolute, end exclusive and clipped."""
        box = self.chunk_box(cell)
        (xa, ya, za), (xb, yb, zb) = box.start, box.stop
        return f"{xa}-{xb}_{ya}-{yb}_{za}-{zb}"

    def cells(self, box: Box) -> Iterator[Triple]:
        """Grid positions of the chunks that touch `box`, x fastest."""
        ranges = [range(a, b) for a, b in zip(*self.cell_range(box), strict=True)]
        for z, y, x in product(*reversed(ranges)):
            yield x, y, z

    def cell_range(self, box: Box) -> tuple[Triple, Triple]:
        """First grid position of the chunks that touch `box`, and the one after the last.

        Examples
        --------
        >>> ChunkGrid((9, 9, 9), (1, 0, 0), (4, 4, 4)).cell_range(Box((4, 4, 4), (6, 5, 9)))
        ((0, 1, 1), (2, 2, 3))
        """
        inside = box.intersection(self.bounds)
        if inside.is_empty:
            return (0, 0, 0), (0, 0, 0)
        first = _triple(
            (a - o) // c
            for a, o, c in zip(inside.start, self.voxel_offset, self.chunk_size, strict=True)
        )
        after = _triple(
            -(-(b - o) // c)
            for b, o, c in zip(inside.stop, self.voxel_offset, self.chunk_size, strict=True)
        )
        return first, after
