"""Chunks that are files of voxels as they are: from files straight into the result, in batches.

What cannot be read so is left for the reader's ordinary way: holes, compressed files, damage.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Array
from xprecomputed.grid import ChunkGrid
from xprecomputed.parallel import decode_slot, run_bounded
from xprecomputed.storage import FileBatches, Location, alone_for, workers_for
from xprecomputed.volume.plan import ChunkTask, OuterPlan, PointPlan

__all__ = ["read_plain"]

Done: TypeAlias = NDArray[np.bool_]

#: Of chunks, in one batch: enough to forget the GIL, few enough for all threads to have some.
BATCH_BYTES, BATCH_FILES = 2 << 20, 64
#: Of one thread.
SPEED_BYTES_S = 3e9


def read_plain(
    directory: Location,
    grid: ChunkGrid,
    num_channels: int,
    plan: OuterPlan | PointPlan,
    out: Array,
) -> list[ChunkTask] | OuterPlan | PointPlan:
    """Read what lies in `directory` as plain files of voxels, where that can be done in batches.

    Parameters
    ----------
    directory : Location
    grid : ChunkGrid
    num_channels : int
        Of the files.
    plan : OuterPlan or PointPlan
    out : ndarray of little-endian voxels, C order
        The result of `plan`.

    Returns
    -------
    list of ChunkTask, or `plan`
        What is left to do.
    """
    files = directory.storage.batches(directory.key, len(plan)) if plan.is_plain else None
    if files is None:
        return plan
    layout = _Layout(files, grid, num_channels, out)
    way: _Way = _Boxes(layout, plan) if isinstance(plan, OuterPlan) else _Points(layout, plan)
    nbytes = num_channels * math.prod(grid.chunk_size) * out.itemsize
    at_once = min(max(1, BATCH_BYTES // nbytes), BATCH_FILES)
    count = -(-len(plan) // at_once)
    left: list[ChunkTask] = []
    tried = worked = False

    def work(batch: Any) -> None:
        nonlocal tried, worked
        if tried and not worked:  # they are compressed, or holes
            left.extend(way.tasks(batch))
            return
        with decode_slot():
            done = way.copy(batch)
        tried, worked = True, worked or bool(done.any())
        if not done.all():
            tasks = zip(way.tasks(batch), done.tolist(), strict=True)
            left.extend(task for task, is_done in tasks if not is_done)

    if count == 1:
        work(next(way.batches(at_once)))
        return left
    run_bounded(
        way.batches(at_once),
        work,
        workers=min(workers_for(directory), count),
        cost=lambda _: nbytes,
        alone_s=alone_for(directory, at_once * nbytes / SPEED_BYTES_S, count),
    )
    return left


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where voxels lie in files, and where they go."""

    files: FileBatches
    grid: ChunkGrid
    num_channels: int
    out: Array


class _Way(Protocol):
    """How one kind of plan is cut into batches of chunks."""

    def batches(self, at_once: int) -> Iterator[Any]: ...
    def copy(self, batch: Any) -> Done: ...
    def tasks(self, batch: Any) -> list[ChunkTask]: ...


@dataclass(frozen=True, slots=True)
class _Boxes:
    """Batches are lists of tasks."""

    layout: _Layout
    plan: OuterPlan

    def batches(self, at_once: int) -> Iterator[list[ChunkTask]]:
        tasks = iter(self.plan)
        while batch := list(islice(tasks, at_once)):
            yield batch

    def copy(self, batch: list[ChunkTask]) -> Done:
        layout = self.layout
        keys = [layout.grid.name(task.cell) for task in batch]
        boxes = np.array([self._box(task) for task in batch], np.int64)
        return layout.files.copy_boxes(keys, boxes, layout.out)

    def tasks(self, batch: list[ChunkTask]) -> list[ChunkTask]:
        return batch

    def _box(self, task: ChunkTask) -> tuple[int, ...]:
        """As `FileBatches.copy_boxes` takes it."""
        # spelled out: every chunk of every read comes by here
        out, item = self.layout.out, self.layout.out.itemsize
        (c, z, y, x), (tc, tz, ty, tx), by = task.region, task.target, out.strides
        width, height, depth = self.layout.grid.chunk_shape(task.cell)
        row = width * item
        plane = row * height
        channel = plane * depth
        return (
            self.layout.num_channels * channel,
            c.start * channel + z.start * plane + y.start * row + x.start * item,
            channel,
            plane,
            row,
            c.stop - c.start,
            z.stop - z.start,
            y.stop - y.start,
            (x.stop - x.start) * item,
            tc.start * by[0] + tz.start * by[1] + ty.start * by[2] + tx.start * item,
        )


@dataclass(frozen=True, slots=True)
class _Points:
    """Batches are ranges of groups: the points of one chunk are one."""

    layout: _Layout
    plan: PointPlan

    def batches(self, at_once: int) -> Iterator[range]:
        count = len(self.plan)
        for first in range(0, count, at_once):
            yield range(first, min(first + at_once, count))

    def copy(self, batch: range) -> Done:
        layout = self.layout
        cells, counts, (c, pz, py, px), targets = self.plan.members(batch)
        shapes = np.array([layout.grid.chunk_shape(cell) for cell in cells], np.int64)
        x, y, z = np.repeat(shapes, counts, axis=0).T
        sources = ((c * z + pz) * y + py) * x + px
        last = np.cumsum(counts)
        nbytes = layout.out.itemsize
        whole = shapes.prod(1) * (layout.num_channels * nbytes)
        return layout.files.copy_points(
            [layout.grid.name(cell) for cell in cells],
            np.stack([whole, last - counts, last], axis=1),
            sources * nbytes,
            targets * nbytes,
            layout.out,
        )

    def tasks(self, batch: range) -> list[ChunkTask]:
        return list(self.plan.tasks(batch))
