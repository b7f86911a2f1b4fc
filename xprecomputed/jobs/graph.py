"""Writing as one dask graph: blocks to objects, blocks to pieces to shards, mip after mip.

Every task may run twice and on any worker: it makes the same objects again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise, product
from typing import Any, NamedTuple
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from xprecomputed.codecs import Array
from xprecomputed.coords import AXES
from xprecomputed.errors import PrecomputedError, PrecomputedWarning
from xprecomputed.grid import Box, Triple
from xprecomputed.jobs.describe import Described
from xprecomputed.jobs.progress import run
from xprecomputed.jobs.running import running
from xprecomputed.metadata import ScaleInfo, VolumeInfo
from xprecomputed.options import get_options
from xprecomputed.storage import Location, index_cache
from xprecomputed.storage.caching.cached import forget_everywhere
from xprecomputed.store import PrecomputedStore
from xprecomputed.store.changes import begin_layer
from xprecomputed.store.provenance import append_provenance
from xprecomputed.volume import (
    STAGING,
    Blocks,
    Piece,
    ScaleReader,
    ScaleWriter,
    ShardTask,
    aligned_chunks,
    aligned_sizes,
    as_stored,
    assemble_shard,
    coarse_box,
    downsample,
    is_aligned,
    preferred_chunks,
    require_fit,
    shard_tasks,
    stored_chunks,
    stored_shards,
)

__all__ = ["WriteGraph", "blocks_of", "coarser", "in_blocks", "realigned"]

#: Results that one task adds up at the end of a write.
FAN_IN = 256


class _Stored(NamedTuple):
    """What a task gave."""

    chunks: int
    #: Whether pieces of its blocks waited in objects, of which repeated tasks may have left some.
    staged: bool = False


def blocks_of(array: da.Array, start: Triple) -> Blocks:
    """The blocks of an array (channel, z, y, x) whose first voxel is `start` (x, y, z)."""
    return Blocks.from_chunks(start, array.chunks[:0:-1])


def in_blocks(
    described: Described, box: Box, reader: ScaleReader, *, copy: bool = True
) -> da.Array:
    """The array of a description as dask knows it, (channel, z, y, x), in the layer's type.

    What is not dask yet is cut along the chunks of the scale, lazily. `copy` says whether values
    in memory are copied, as those must be that others may change before they are written.
    """
    array, scale, wanted = described.array, reader.scale, reader.dtype
    if array.chunks is None:
        if array.variable._in_memory:  # what cannot be stored is refused at once
            require_fit(array.variable.values, wanted, reader.directory.url)
        voxel_bytes = array.dtype.itemsize * described.num_channels
        sizes = preferred_chunks(scale, voxel_bytes, box.shape)
        chunks: dict[str, Any] = {
            axis: aligned_chunks(start - first, extent, size)
            for axis, start, first, extent, size in zip(
                AXES, box.start, scale.voxel_offset, box.shape, sizes, strict=True
            )
        }
        if "channel" in array.dims:
            chunks["channel"] = -1
        if array.variable._in_memory and not copy:
            array = array.copy(
                data=_views(array.values, [chunks[str(each)] for each in array.dims])
            )
        else:
            # a name of its own: dask would hash all the values otherwise
            array = array.chunk(chunks, token=uuid4().hex)
    blocks: da.Array = array.data
    blocks = blocks if blocks.ndim == 4 else blocks[None]
    if blocks.dtype == wanted:
        return blocks
    convert = partial(as_stored, dtype=wanted, url=reader.directory.url)
    meta = np.empty((0,) * 4, wanted)
    converted: da.Array = da.map_blocks(convert, blocks, dtype=wanted, meta=meta)
    return converted


def _views(values: Array, chunks: list[Any]) -> da.Array:
    """An array in memory as dask knows it; dask's own `from_array` would copy it."""
    name = f"in-memory-{uuid4().hex}"
    sizes = da.core.normalize_chunks(tuple(chunks), values.shape, dtype=values.dtype)
    keys = product([name], *(range(len(each)) for each in sizes))
    parts = [values[each] for each in da.core.slices_from_chunks(sizes)]
    layer = dict(zip(keys, parts, strict=True))
    return da.Array(layer, name, sizes, meta=np.empty((0,) * values.ndim, values.dtype))


def realigned(array: da.Array, scale: ScaleInfo, start: Triple) -> da.Array:
    """The same array in blocks that share no chunk of `scale`; lazily."""
    blocks = blocks_of(array, start)
    if is_aligned(scale, blocks) and len(array.chunks[0]) == 1:
        return array
    sizes = [aligned_sizes(scale, blocks, axis) for axis in range(3)]
    merged: da.Array = array.rechunk({0: -1, 1: sizes[2], 2: sizes[1], 3: sizes[0]})
    return merged


def coarser(array: da.Array, box: Box, factor: Triple, method: str) -> tuple[da.Array, Box]:
    """The next mip of an array, lazily, block by block.

    Parameters
    ----------
    array : dask array, shape (channel, z, y, x)
        The voxels of `box`.
    factor : tuple of int
        x, y, z; cells are counted on the absolute grid.
    method : str

    Returns
    -------
    dask array, Box
    """
    edges = blocks_of(array, box.start).edges
    # a coarse voxel must lie in one block: inner edges move to multiples of the factor
    moved = [
        sorted({each[0], *(e // f * f for e in each[1:-1] if e // f * f > each[0]), each[-1]})
        for each, f in zip(edges, factor, strict=True)
    ]
    fine = Blocks((tuple(moved[0]), tuple(moved[1]), tuple(moved[2])))
    sizes = [tuple(np.diff(each).tolist()) for each in fine.edges]
    array = array.rechunk({1: sizes[2], 2: sizes[1], 3: sizes[0]})
    coarse = coarse_box(box, factor)
    shape = [
        tuple(-(-b // f) - a // f for a, b in pairwise(each))
        for each, f in zip(fine.edges, factor, strict=True)
    ]
    result = da.map_blocks(
        partial(_downsample_block, blocks=fine, factor=factor, method=method),
        array,
        dtype=array.dtype,
        meta=np.empty((0,) * 4, array.dtype),
        chunks=(array.chunks[0], *shape[::-1]),
        name=f"downsample-{uuid4().hex}",
    )
    return result, coarse


def _downsample_block(
    array: Array, *, blocks: Blocks, factor: Triple, method: str, block_id: Sequence[int]
) -> Array:
    _, z, y, x = block_id
    return downsample(array, factor, method, blocks.box((x, y, z)).start)


class WriteGraph:
    """Collects the tasks of one write; nothing runs before the Delayed is computed."""

    def __init__(self) -> None:
        self.token = uuid4().hex
        self.graphs: list[Any] = []
        self.last: list[Any] = []
        self.staging: list[Location] = []
        self.writers: list[ScaleWriter] = []

    def add_array(self, array: da.Array, writer: ScaleWriter, start: Triple) -> None:
        """Write the blocks of `array`, whose first absolute voxel is `start`.

        Parameters
        ----------
        array : dask array, shape (channel, z, y, x)
            In blocks that share no chunk of the scale.
        writer : ScaleWriter
        start : tuple of int
            x, y, z.
        """
        blocks = blocks_of(array, start)
        shards = self._shards(writer, blocks)
        work: Callable[..., Any]
        if shards is None:
            work = partial(_write_block, writer=writer, blocks=blocks, of=self.token)
        else:
            encoding = self._encoding(writer, shards)
            work = partial(_encode_block, **encoding, blocks=blocks, of=self.token)
        asked = self._name("write" if shards is None else "encode")
        meta = np.empty((0,) * 4, np.int64)
        done = da.map_blocks(work, array, dtype=np.int64, meta=meta, name=asked)
        self.graphs.append(done.dask)
        name = done.name  # older versions of dask append a hash
        self._add(name, writer, blocks, shards, lambda x, y, z: (name, 0, z, y, x))

    def add_pyramid(
        self,
        array: da.Array,
        box: Box,
        levels: Iterable[tuple[ScaleWriter, Triple]],
        method: str,
    ) -> None:
        """Write coarser mips of `array`, each made from the one before.

        Parameters
        ----------
        array : dask array, shape (channel, z, y, x)
            The voxels of `box`.
        levels : iterable of (ScaleWriter, tuple of int)
            Each with its factor from the one before, x, y, z.
        method : str
        """
        for writer, factor in levels:
            array, box = coarser(array, box, factor, method)
            array = realigned(array, writer.scale, box.start)
            self.add_array(array, writer, box.start)

    def add_blocks(self, work: Callable[..., Any], writer: ScaleWriter, blocks: Blocks) -> None:
        """Write blocks that need no array: ``work(writer, box)`` puts the chunks of a box.

        On a sharded scale ``work(writer, box, staging, inline_bytes)`` gives pieces.
        """
        shards = self._shards(writer, blocks)
        name = self._name("copy")
        options = {} if shards is None else self._encoding(writer, shards)
        task = (
            partial(_put_block, work, writer, self.token)
            if shards is None
            else partial(_pieces_of_block, work, options, self.token)
        )
        layer: dict[Any, Any] = {
            (name, x, y, z): (task, blocks.box((x, y, z)), *([] if shards is None else [(x, y, z)]))
            for x, y, z in blocks.positions()
        }
        self.graphs.append(HighLevelGraph({name: layer}, {name: set()}))
        self._add(name, writer, blocks, shards, lambda x, y, z: (name, x, y, z))

    def delayed(self) -> Delayed:
        """Everything as one value: the number of chunks that were stored."""
        keys = self.last
        layers: dict[Any, Any] = {}
        name = self._name("count")
        level = 0
        while len(keys) > FAN_IN:
            parts = [keys[i : i + FAN_IN] for i in range(0, len(keys), FAN_IN)]
            keys = [(name, level, i) for i in range(len(parts))]
            layers |= {key: (_total, part) for key, part in zip(keys, parts, strict=True)}
            level += 1
        final = self._name("to_precomputed")
        layers[final] = (partial(_finish, self.staging), keys)
        graph = HighLevelGraph.merge(*self.graphs)
        merged = HighLevelGraph(
            {**graph.layers, final: layers}, {**graph.dependencies, final: set(graph.layers)}
        )
        # a Delayed is only culled by dask: reading and writing of a block become one task here
        lean = da.optimization.optimize(merged, [final])
        return Delayed(final, HighLevelGraph({final: dict(lean)}, {final: set()}))

    def carry_out(
        self,
        location: Location,
        info: VolumeInfo,
        step: Mapping[str, Any] | None,
        *,
        existing: VolumeInfo | None,
        is_new: bool,
        replace: bool = False,
        compute: bool,
        progress: bool | None,
    ) -> PrecomputedStore | Delayed:
        """Write ``info`` and provenance, then the data, or hand the Delayed out that does.

        If the data cannot be written, no task of this graph runs on afterwards, and nothing
        waits beside the shards. Whoever wrote, the caches of this process forget what was there.
        """
        work = self.delayed()  # whatever is wrong with the graph comes before any change
        header = self.writers[0].cache_control if self.writers else None
        if is_new:
            begin_layer(location, info, existing, replace=replace, cache_control=header)
        append_provenance(location, step, cache_control=header)
        if not compute:
            return work
        try:
            run(work, progress)
        except BaseException as error:
            running.stop(self.token)
            if left := _cleaned(self.staging):
                error.add_note(left)
            raise
        finally:
            self._forget_what_was_there()
        return PrecomputedStore(location, info)

    def _forget_what_was_there(self) -> None:
        """The tasks ran in other processes perhaps, whose caches are not those of this one."""
        for writer in self.writers:
            if not writer.directory.storage.is_local:
                forget_everywhere(writer.directory.identity, below=True)
        index_cache.clear()

    def _name(self, what: str) -> str:
        return f"{what}-{self.token}-{len(self.graphs)}"

    def _shards(self, writer: ScaleWriter, blocks: Blocks) -> list[ShardTask] | None:
        self.writers.append(writer)
        return None if writer.scale.sharding is None else list(shard_tasks(writer.scale, blocks))

    def _encoding(self, writer: ScaleWriter, shards: Sequence[ShardTask]) -> dict[str, Any]:
        """How large a piece may be and stay in memory, and where larger ones wait."""
        token = f"{self.token}-{len(self.graphs)}"
        self.staging.append(writer.directory.child(f"{STAGING}{token}"))
        most = max((len(each.blocks) for each in shards), default=1)
        inline = get_options().write_budget_bytes // most
        return {"writer": writer, "token": token, "inline_bytes": inline}

    def _add(
        self,
        name: str,
        writer: ScaleWriter,
        blocks: Blocks,
        shards: list[ShardTask] | None,
        key: Callable[[int, int, int], Any],
    ) -> None:
        """The tasks after the blocks; of what is stored already, none where that is wanted."""
        if shards is None:
            self.last += [key(*position) for position in _missing_blocks(writer, blocks)]
            return
        if writer.skip_stored:
            stored = stored_shards(writer.reader, [each.shard for each in shards])
            shards = [each for each in shards if each.shard not in stored]
        layer = {
            (f"assemble-{name}", task.shard): (
                partial(_assemble_shard, writer, task.shard, task.whole, self.token),
                [key(*position) for position in task.blocks],
            )
            for task in shards
        }
        after: dict[str, Any] = {f"assemble-{name}": layer}
        self.graphs.append(HighLevelGraph(after, {f"assemble-{name}": {name}}))
        self.last += list(layer)


def _missing_blocks(writer: ScaleWriter, blocks: Blocks) -> Iterable[Triple]:
    if not writer.skip_stored:
        return blocks.positions()
    stored = stored_chunks(writer.reader, blocks.bounds)
    grid = writer.scale.grid
    first, _ = grid.cell_range(blocks.bounds)

    def is_stored(box: Box) -> bool:
        x, y, z = (
            slice(low - o, high - o)
            for low, high, o in zip(*grid.cell_range(box), first, strict=True)
        )
        return bool(stored[z, y, x].all())

    return [each for each in blocks.positions() if not is_stored(blocks.box(each))]


def _write_block(
    array: Array, *, writer: ScaleWriter, blocks: Blocks, of: str, block_id: Sequence[int]
) -> int:
    _, z, y, x = block_id
    with running.task(of):
        return writer.write_box(array, blocks.box((x, y, z)))


def _encode_block(
    array: Array,
    *,
    writer: ScaleWriter,
    blocks: Blocks,
    token: str,
    inline_bytes: int,
    of: str,
    block_id: Sequence[int],
) -> dict[int, Piece]:
    _, z, y, x = block_id
    with running.task(of):
        return writer.encode_box(array, blocks.box((x, y, z)), f"{token}/{x}_{y}_{z}", inline_bytes)


def _put_block(work: Callable[..., int], writer: ScaleWriter, of: str, box: Box) -> int:
    with running.task(of):
        return work(writer, box)


def _pieces_of_block(
    work: Callable[..., dict[int, Piece]],
    options: dict[str, Any],
    of: str,
    box: Box,
    position: Triple,
) -> dict[int, Piece]:
    staging = f"{options['token']}/{'_'.join(map(str, position))}"
    with running.task(of):
        return work(options["writer"], box, staging, options["inline_bytes"])


def _assemble_shard(
    writer: ScaleWriter, shard: int, whole: bool, of: str, blocks: Sequence[dict[int, Piece]]
) -> _Stored:
    pieces = [each[shard] for each in blocks if shard in each]
    # also those of shards that are left alone, which nobody will ask for
    staged = any(piece.place is not None for each in blocks for piece in each.values())
    with running.task(of):
        return _Stored(assemble_shard(writer, shard, pieces, whole=whole), staged)


def _total(counts: Iterable[int | _Stored]) -> _Stored:
    parts = [each if isinstance(each, _Stored) else _Stored(int(each)) for each in counts]
    return _Stored(sum(each.chunks for each in parts), any(each.staged for each in parts))


def _finish(staging: Sequence[Location], counts: Sequence[int | _Stored]) -> int:
    total = _total(counts)
    # the data are complete: that it cannot be looked for what was left is no failure of them
    if total.staged and (left := _cleaned(staging)):
        warnings.warn(left, PrecomputedWarning, stacklevel=2)
    return total.chunks


def _cleaned(staging: Iterable[Location]) -> str:
    """Remove what waits beside shards; where that fails, what to say about it."""
    failed = []
    for place in staging:
        try:
            place.storage.delete_tree(place.key)
        except PrecomputedError as error:
            failed.append(f"{place.url} ({error})")
    return f"pieces of shards may be left, delete them: {', '.join(failed)}" if failed else ""
