"""From the blocks of an array to stored objects: what is aligned, which shard needs which block.

The unit of writing is the stored object: a chunk, or everything that lies in one shard, which
may be several boxes (format reference 4.6). Boxes are absolute; triples are x, y, z. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xprecomputed.errors import AlignmentError
from xprecomputed.grid import Box, Triple
from xprecomputed.metadata import ScaleInfo, ShardingSpec
from xprecomputed.shard_format import MortonCode, locate

__all__ = [
    "Blocks",
    "ShardTask",
    "aligned_region",
    "aligned_sizes",
    "check_blocks",
    "is_aligned",
    "object_extent",
    "shard_tasks",
]

AXES = ("x", "y", "z")


@dataclass(frozen=True, slots=True)
class Blocks:
    """How an array is cut: the edges of its blocks in absolute voxels, along x, y and z."""

    edges: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @classmethod
    def from_chunks(cls, start: Triple, chunks: Sequence[Sequence[int]]) -> Blocks:
        """Blocks of these sizes (x, y, z) from the voxel `start` on.

        Examples
        --------
        >>> blocks = Blocks.from_chunks((10, 0, 0), [(2, 3), (4,), (5,)])
        >>> blocks.shape, str(blocks.box((1, 0, 0)))
        ((2, 1, 1), 'x[12, 15) y[0, 4) z[0, 5)')
        """
        x, y, z = (
            tuple(accumulate(sizes, initial=first))
            for first, sizes in zip(start, chunks, strict=True)
        )
        return cls((x, y, z))

    @property
    def shape(self) -> Triple:
        """Number of blocks."""
        x, y, z = (len(each) - 1 for each in self.edges)
        return x, y, z

    @property
    def bounds(self) -> Box:
        """The whole array."""
        return Box(
            (self.edges[0][0], self.edges[1][0], self.edges[2][0]),
            (self.edges[0][-1], self.edges[1][-1], self.edges[2][-1]),
        )

    def box(self, position: Triple) -> Box:
        """The box of one block."""
        x, y, z = position
        ex, ey, ez = self.edges
        return Box((ex[x], ey[y], ez[z]), (ex[x + 1], ey[y + 1], ez[z + 1]))

    def positions(self) -> Iterator[Triple]:
        """All blocks, x fastest."""
        for z, y, x in product(*(range(each) for each in reversed(self.shape))):
            yield x, y, z


def object_extent(scale: ScaleInfo) -> tuple[int | None, int | None, int | None]:
    """Voxels along x, y, z of the boxes that hold whole stored objects; None: the whole axis.

    Examples
    --------
    >>> scale = ScaleInfo(key="s", size=(1000, 1000, 1000), resolution=(8, 8, 8),
    ...                   chunk_sizes=((64, 64, 64),), encoding="raw",
    ...                   sharding=ShardingSpec(preshift_bits=3, hash="identity",
    ...                                         minishard_bits=1, shard_bits=8))
    >>> object_extent(scale)
    (256, 128, 128)
    """
    if scale.sharding is None:
        return scale.chunk_size
    if scale.sharding.hash != "identity":
        return None, None, None
    x, y, z = (
        None if any(each.ignored) else size << len(each.inside)
        for size, each in zip(scale.chunk_size, _bits(scale, scale.sharding), strict=True)
    )
    return x, y, z


class _Bits(NamedTuple):
    """What the bits of a cell's position along one axis mean: (bit, output) pairs."""

    inside: list[tuple[int, int]]  # a place in the shard
    shard: list[tuple[int, int]]  # the number of the shard
    ignored: list[tuple[int, int]]  # neither: cells that differ only here share a shard


def _bits(scale: ScaleInfo, spec: ShardingSpec) -> tuple[_Bits, ...]:
    axes = tuple(_Bits([], [], []) for _ in AXES)
    first = spec.preshift_bits + spec.minishard_bits
    for output, (axis, bit) in enumerate(MortonCode(scale.grid.shape).order):
        if output < first:
            axes[axis].inside.append((bit, output))
        elif output < first + spec.shard_bits:
            axes[axis].shard.append((bit, output - first))
        else:
            axes[axis].ignored.append((bit, output))
    return axes


def aligned_region(scale: ScaleInfo, box: Box) -> Box:
    """The smallest box around `box` that holds whole stored objects only.

    Examples
    --------
    >>> scale = ScaleInfo(key="s", size=(100, 100, 100), resolution=(8, 8, 8),
    ...                   chunk_sizes=((64, 64, 64),), encoding="raw", voxel_offset=(5, 0, 0))
    >>> str(aligned_region(scale, Box((10, 10, 70), (20, 20, 80))))
    'x[5, 69) y[0, 64) z[64, 100)'
    """
    start, stop = [], []
    for low, high, extent, first, end in zip(
        box.start,
        box.stop,
        object_extent(scale),
        scale.bounds.start,
        scale.bounds.stop,
        strict=True,
    ):
        if extent is None:
            start.append(first)
            stop.append(end)
        else:
            start.append(first + (low - first) // extent * extent)
            stop.append(min(end, first - (first - high) // extent * extent))
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def is_aligned(scale: ScaleInfo, blocks: Blocks) -> bool:
    """Whether no two blocks share a chunk."""
    return not _off_axes(scale, blocks)


def _off_axes(scale: ScaleInfo, blocks: Blocks) -> list[str]:
    return [
        axis
        for axis, edges, first, chunk in zip(
            AXES, blocks.edges, scale.voxel_offset, scale.chunk_size, strict=True
        )
        if any((edge - first) % chunk for edge in edges[1:-1])
    ]


def check_blocks(scale: ScaleInfo, blocks: Blocks, url: str) -> None:
    """Refuse blocks that share a chunk: two tasks would write it.

    Raises
    ------
    AlignmentError
        With the nearest sizes to paste.
    """
    off = _off_axes(scale, blocks)
    if not off:
        return
    wanted = {axis: aligned_sizes(scale, blocks, i) for i, axis in enumerate(AXES) if axis in off}
    raise AlignmentError(
        f"{url}: the dask chunks along {', '.join(off)} cut through stored chunks of "
        f"{scale.chunk_size} voxels (x, y, z; the grid begins at {scale.voxel_offset}), so two "
        "tasks would write the same one. Let the writer rechunk with align_chunks=True, or:\n"
        f"    da = da.chunk({wanted})"
    )


def aligned_sizes(scale: ScaleInfo, blocks: Blocks, axis: int) -> int | tuple[int, ...]:
    """Block sizes along one axis that are on the chunk grid and near those there are."""
    edges, first, chunk = blocks.edges[axis], scale.voxel_offset[axis], scale.chunk_size[axis]
    widest = max(b - a for a, b in pairwise(edges))
    block = max(1, round(widest / chunk)) * chunk
    inner = range(edges[0] + (-(edges[0] - first) % block or block), edges[-1], block)
    sizes = np.diff([edges[0], *inner, edges[-1]]).tolist()
    return block if (edges[0] - first) % block == 0 else tuple(sizes)


class ShardTask(NamedTuple):
    """One shard of a write.

    Parameters
    ----------
    shard : int
    whole : bool
        Whether the write covers everything that the shard holds.
    blocks : tuple of Triple
        The blocks that touch it.
    """

    shard: int
    whole: bool
    blocks: tuple[Triple, ...]


def shard_tasks(scale: ScaleInfo, blocks: Blocks) -> Iterator[ShardTask]:
    """The shards that a write touches, each once.

    `blocks` do not share chunks.
    """
    spec = scale.sharding
    if spec is None:
        raise ValueError(f"scale {scale.key!r} is not sharded")
    if spec.hash != "identity":
        yield from _scattered(scale, spec, blocks)
        return
    # a shard's cells are a product of sets along x, y and z, since every bit belongs to an axis
    axes = [_along(scale, blocks, axis, bits) for axis, bits in enumerate(_bits(scale, spec))]
    for z, y, x in product(*reversed(axes)):
        yield ShardTask(
            x.number | y.number | z.number,
            x.whole and y.whole and z.whole,
            tuple((i, j, k) for k in z.blocks for j in y.blocks for i in x.blocks),
        )


class _Line(NamedTuple):
    """What one shard number means along one axis."""

    number: int
    whole: bool
    blocks: list[int]


def _along(scale: ScaleInfo, blocks: Blocks, axis: int, bits: _Bits) -> list[_Line]:
    cells = np.arange(scale.grid.shape[axis])
    numbers = np.zeros_like(cells)
    for bit, output in bits.shard:
        numbers |= ((cells >> bit) & 1) << output
    starts, stops = _cell_edges(scale, axis)
    edges = blocks.edges[axis]
    touched = (stops > edges[0]) & (starts < edges[-1])
    covered = (starts >= edges[0]) & (stops <= edges[-1])
    at = np.searchsorted(edges, np.maximum(starts, edges[0]), side="right") - 1
    return [
        _Line(
            number,
            bool(covered[numbers == number].all()),
            np.unique(at[touched & (numbers == number)]).tolist(),
        )
        for number in np.unique(numbers[touched]).tolist()
    ]


def _cell_edges(scale: ScaleInfo, axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first, chunk = scale.voxel_offset[axis], scale.chunk_size[axis]
    starts = first + chunk * np.arange(scale.grid.shape[axis])
    return starts, np.minimum(starts + chunk, first + scale.size[axis])


def _scattered(scale: ScaleInfo, spec: ShardingSpec, blocks: Blocks) -> Iterator[ShardTask]:
    """Shards of hashed keys: every cell is looked at."""
    grid = scale.grid
    code = MortonCode(grid.shape)
    everywhere = np.array(list(grid.cells(grid.bounds)))
    shards = locate(spec, code.encode(everywhere)).shards
    written = blocks.bounds
    touched: dict[int, set[Triple]] = {}
    partial: set[int] = set()
    for cell, shard in zip(everywhere.tolist(), shards.tolist(), strict=True):
        box = grid.chunk_box(tuple(cell))
        part = box.intersection(written)
        if part != box:
            partial.add(shard)
        if not part.is_empty:
            x, y, z = (
                bisect_right(edges, low) - 1
                for edges, low in zip(blocks.edges, part.start, strict=True)
            )
            touched.setdefault(shard, set()).add((x, y, z))
    for shard, members in sorted(touched.items()):
        yield ShardTask(shard, shard not in partial, tuple(sorted(members)))
