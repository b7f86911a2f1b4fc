"""From a selection to chunks: which part of which chunk goes where (pure).

Indexes here count from the first voxel of the scale, not from ``voxel_offset``. Arrays have
the axes ``(channel, z, y, x)``; cells of the chunk grid are x, y, z as everything stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Region
from xprecomputed.grid import ChunkGrid, Triple

__all__ = ["ChunkTask", "Indexer", "OuterPlan", "PointPlan"]

#: A slice with positive step and explicit, clipped ends, or positions in any order.
Indexer: TypeAlias = "slice | NDArray[np.int64]"
Index: TypeAlias = "tuple[Any, ...]"


@dataclass(frozen=True, slots=True)
class ChunkTask:
    """What is wanted of one chunk.

    Parameters
    ----------
    cell : tuple of int
        Grid position, x, y, z.
    region : tuple of four slices
        The box of the chunk that has to be decoded, (channel, z, y, x), unit steps.
    target : index
        Where the voxels go in the result.
    source : index or None
        Which voxels of `region` go there; None: all, in their order.
    """

    cell: Triple
    region: Region
    target: Index
    source: Index | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    """One chunk along one axis: `span` is decoded, `source` (counted in it) goes to `target`."""

    chunk: int
    span: slice
    source: Indexer
    target: Indexer

    @property
    def is_plain(self) -> bool:
        """Whether all of `span` is wanted, in its order."""
        return isinstance(self.source, slice) and self.source.step == 1


def _length(wanted: Indexer) -> int:
    if isinstance(wanted, slice):
        return len(range(wanted.start, wanted.stop, wanted.step))
    return len(wanted)


def _slice_parts(wanted: slice, chunk: int) -> Iterator[_Part]:
    start, stop, step = wanted.start, wanted.stop, wanted.step
    at = 0
    while start < stop:
        number = start // chunk
        end = min(stop, (number + 1) * chunk)
        count = -(-(end - start) // step)
        first = start - number * chunk
        last = first + (count - 1) * step
        yield _Part(
            number,
            slice(first, last + 1),
            slice(0, last + 1 - first, step),
            slice(at, at + count, 1),
        )
        at += count
        start += count * step


def _array_parts(wanted: NDArray[np.int64], chunk: int) -> Iterator[_Part]:
    numbers = wanted // chunk
    order = np.argsort(numbers, kind="stable")
    cuts = np.flatnonzero(np.diff(numbers[order])) + 1
    for target in np.split(order, cuts):
        if not len(target):
            continue
        number = int(numbers[target[0]])
        inside = wanted[target] - number * chunk
        low, high = int(inside.min()), int(inside.max())
        yield _Part(number, slice(low, high + 1), inside - low, target)


def _axis_parts(wanted: Indexer, chunk: int) -> list[_Part]:
    if isinstance(wanted, slice):
        return list(_slice_parts(wanted, chunk))
    return list(_array_parts(np.asarray(wanted, np.int64), chunk))


def _as_slice(wanted: Indexer) -> Indexer:
    """Positions that are a regular ascending run, as a slice: far cheaper to copy."""
    if isinstance(wanted, slice) or not len(wanted):
        return wanted
    if len(wanted) == 1:
        return slice(int(wanted[0]), int(wanted[0]) + 1, 1)
    steps = np.diff(wanted)
    if steps[0] > 0 and (steps == steps[0]).all():
        return slice(int(wanted[0]), int(wanted[-1]) + 1, int(steps[0]))
    return wanted


class OuterPlan:
    """The chunks of an orthogonal selection.

    Parameters
    ----------
    grid : ChunkGrid
    channel, z, y, x : slice or ndarray of int
        Inside the bounds; slices with positive steps.

    Examples
    --------
    >>> grid = ChunkGrid((100, 100, 100), (0, 0, 0), (64, 64, 64))
    >>> one, ten = slice(0, 1, 1), slice(60, 70, 1)
    >>> plan = OuterPlan(grid, one, one, one, ten)
    >>> plan.shape, [task.cell for task in plan]
    ((1, 1, 1, 10), [(0, 0, 0), (1, 0, 0)])
    """

    def __init__(
        self, grid: ChunkGrid, channel: Indexer, z: Indexer, y: Indexer, x: Indexer
    ) -> None:
        wanted = [_as_slice(each) for each in (channel, z, y, x)]
        self.shape = tuple(_length(each) for each in wanted)
        # all channels of a voxel are in one chunk, so that axis has one
        extents = (2**62, *grid.chunk_size[::-1])
        self.parts = (
            [_axis_parts(each, extent) for each, extent in zip(wanted, extents, strict=True)]
            if math.prod(self.shape)
            else [[]] * 4
        )

    def __len__(self) -> int:
        return math.prod(len(each) for each in self.parts)

    @property
    def is_plain(self) -> bool:
        """Whether boxes of chunks go to boxes of the result, voxel by voxel."""
        return all(part.is_plain for axis in self.parts for part in axis)

    def __iter__(self) -> Iterator[ChunkTask]:
        if self.is_plain:
            for c, z, y, x in product(*self.parts):
                yield ChunkTask(
                    (x.chunk, y.chunk, z.chunk),
                    (c.span, z.span, y.span, x.span),
                    (c.target, z.target, y.target, x.target),
                )
            return
        for parts in product(*self.parts):
            _, z, y, x = parts
            region = (parts[0].span, z.span, y.span, x.span)
            target = tuple(part.target for part in parts)
            source: Index | None = None
            if not all(part.is_plain for part in parts):
                source = _joined([part.source for part in parts])
                target = _joined(list(target))
            yield ChunkTask((x.chunk, y.chunk, z.chunk), region, target, source)


def _joined(indexers: list[Indexer]) -> Index:
    """Orthogonal indexers as one NumPy index: slices while that is enough, else np.ix_."""
    if all(isinstance(each, slice) for each in indexers):
        return tuple(indexers)
    return np.ix_(*(_positions(each) for each in indexers))


class PointPlan:
    """The chunks of scattered voxels; each chunk once, however many points it has.

    Parameters
    ----------
    grid : ChunkGrid
    indexers : sequence of four slices or ndarrays of int
        Channel, z, y, x; inside the bounds, slices with positive steps.
    paired : sequence of int
        The axes (one at least) whose arrays belong together and have one length N. Each
        position of any other axis goes with every point.
    """

    def __init__(self, grid: ChunkGrid, indexers: Sequence[Indexer], paired: Sequence[int]) -> None:
        extents = (2**62, *grid.chunk_size[::-1])
        self.paired = list(paired)
        self.outer = [axis for axis in range(4) if axis not in self.paired]
        self.parts = [_axis_parts(_as_slice(indexers[axis]), extents[axis]) for axis in self.outer]
        points = np.stack([np.asarray(indexers[axis], np.int64) for axis in self.paired])
        chunk = np.array([extents[axis] for axis in self.paired])[:, None]
        cells = points // chunk
        # points of one chunk side by side: then all is done for all chunks at once
        self.order = np.lexsort(cells[::-1])
        cells, inside = cells[:, self.order], (points % chunk)[:, self.order]
        moved = (np.diff(cells, axis=1) != 0).any(axis=0)
        first = np.flatnonzero(np.concatenate([[True], moved])[: points.shape[1]])
        self.groups = list(pairwise([*first.tolist(), points.shape[1]]))
        self.cells = cells[:, first].tolist()
        #: Of each point in its chunk, a row for each of `paired`; in the order of `groups`.
        self.inside = inside
        low = np.minimum.reduceat(inside, first, axis=1) if len(first) else inside
        high = np.maximum.reduceat(inside, first, axis=1) if len(first) else inside
        self.low, self.high = low.tolist(), high.tolist()
        self.shape = (points.shape[1], *(_length(indexers[axis]) for axis in self.outer))

    def __len__(self) -> int:
        return len(self.groups) * math.prod(len(each) for each in self.parts)

    @property
    def is_plain(self) -> bool:
        """Whether each point is one voxel: nothing but one channel goes with it."""
        return self.outer in ([], [0]) and self.shape[1:] in ((), (1,))

    def __iter__(self) -> Iterator[ChunkTask]:
        return self.tasks(range(len(self.groups)))

    def tasks(self, groups: range) -> Iterator[ChunkTask]:
        """What is wanted of the chunks of some groups."""
        for group in groups:
            for parts in product(*self.parts):
                yield self._task(group, parts)

    def members(
        self, groups: range
    ) -> tuple[list[Triple], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The points of some groups, where `is_plain`.

        Returns
        -------
        cells : list of tuple
            Grid position of each group's chunk, x, y, z.
        counts : ndarray
            Points of each group.
        positions : ndarray, shape (4, points)
            In its chunk: channel, z, y, x.
        targets : ndarray
            Which one of the result it is.
        """
        spans = self.groups[groups.start : groups.stop]
        points = slice(spans[0][0], spans[-1][1])
        positions = np.zeros((4, points.stop - points.start), np.int64)
        positions[self.paired] = self.inside[:, points]
        for axis, (part,) in zip(self.outer, self.parts, strict=True):
            positions[axis] = part.span.start
        rows = {axis: self.cells[row] for row, axis in enumerate(self.paired)}
        cells = [(rows[3][group], rows[2][group], rows[1][group]) for group in groups]
        counts = np.array([stop - start for start, stop in spans])
        return cells, counts, positions, self.order[points]

    def _task(self, group: int, parts: tuple[_Part, ...]) -> ChunkTask:
        members = slice(*self.groups[group])
        chunks, region, source = [0] * 4, [slice(0)] * 4, [self.order[:0]] * 4
        target = [_column(self.order[members], 0, 1 + len(parts))]
        for row, axis in enumerate(self.paired):
            chunks[axis] = self.cells[row][group]
            low = self.low[row][group]
            region[axis] = slice(low, self.high[row][group] + 1)
            source[axis] = _column(self.inside[row, members] - low, 0, 1 + len(parts))
        for place, (axis, part) in enumerate(zip(self.outer, parts, strict=True), 1):
            chunks[axis], region[axis] = part.chunk, part.span
            source[axis] = _column(_positions(part.source), place, 1 + len(parts))
            target.append(_column(_positions(part.target), place, 1 + len(parts)))
        cell = (chunks[3], chunks[2], chunks[1])
        c, z, y, x = region
        return ChunkTask(cell, (c, z, y, x), tuple(target), tuple(source))


def _positions(wanted: Indexer) -> NDArray[np.int64]:
    if isinstance(wanted, slice):
        return np.arange(wanted.start, wanted.stop, wanted.step)
    return wanted


def _column(values: NDArray[np.int64], axis: int, ndim: int) -> NDArray[np.int64]:
    """`values` along one of `ndim` axes, so that NumPy broadcasts them."""
    shape = [1] * ndim
    shape[axis] = len(values)
    return values.reshape(shape)
