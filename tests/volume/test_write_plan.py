"""The plan of a write against brute force over all cells."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprecomputed import AlignmentError, Box, ScaleInfo, ShardingSpec
from xprecomputed.shard_format import MortonCode, locate, shard_keys
from xprecomputed.volume import (
    Blocks,
    aligned_region,
    aligned_sizes,
    check_blocks,
    is_aligned,
    object_extent,
    shard_tasks,
)

small = st.integers(1, 5)
specs = st.builds(
    ShardingSpec,
    preshift_bits=st.integers(0, 3),
    hash=st.sampled_from(["identity", "identity", "murmurhash3_x86_128"]),
    minishard_bits=st.integers(0, 3),
    shard_bits=st.integers(0, 4),
)


@st.composite
def scales(draw, sharded=True):
    return ScaleInfo(
        key="s",
        size=draw(st.tuples(*[st.integers(1, 17)] * 3)),
        resolution=(8, 8, 40),
        chunk_sizes=(draw(st.tuples(small, small, small)),),
        encoding="raw",
        voxel_offset=draw(st.tuples(*[st.integers(-9, 9)] * 3)),
        sharding=draw(specs) if sharded else None,
    )


@st.composite
def boxes(draw, scale):
    start, stop = [], []
    for a, b in zip(scale.bounds.start, scale.bounds.stop, strict=True):
        low = draw(st.integers(a, b - 1))
        start.append(low)
        stop.append(draw(st.integers(low + 1, b)))
    return Box(tuple(start), tuple(stop))


def objects(scale):
    """Name of the stored object of each cell, cell by cell."""
    cells = list(scale.grid.cells(scale.bounds))
    if scale.sharding is None:
        return {cell: cell for cell in cells}
    keys = MortonCode(scale.grid.shape).encode(cells)
    return dict(zip(cells, locate(scale.sharding, keys).shards.tolist(), strict=True))


def is_whole(scale, box):
    """Whether `box` holds every object that it touches."""
    names = objects(scale)
    inside = {c: box.contains(scale.grid.chunk_box(c)) for c in names}
    touched = {names[c] for c in names if not scale.grid.chunk_box(c).intersection(box).is_empty}
    return all(inside[c] for c in names if names[c] in touched)


@given(st.data())
def test_an_aligned_region_holds_whole_objects_and_is_the_smallest(data):
    scale = data.draw(st.one_of(scales(True), scales(False)))
    box = data.draw(boxes(scale))
    aligned = aligned_region(scale, box)
    assert aligned.contains(box)
    assert scale.bounds.contains(aligned)
    assert is_whole(scale, aligned)
    assert aligned_region(scale, aligned) == aligned
    if is_whole(scale, box) and (scale.sharding is None or scale.sharding.hash == "identity"):
        assert aligned == box or None in object_extent(scale)


@st.composite
def block_grids(draw, scale):
    """Blocks that share no chunk, over a part of the scale with any edges."""
    box = draw(boxes(scale))
    edges = []
    for i in range(3):
        first, chunk = scale.voxel_offset[i], scale.chunk_size[i]
        inner = [
            e for e in range(first, scale.bounds.stop[i], chunk) if box.start[i] < e < box.stop[i]
        ]
        kept = [e for e in inner if draw(st.booleans())]
        edges.append((box.start[i], *kept, box.stop[i]))
    return Blocks(tuple(edges))


@given(st.data())
def test_each_shard_is_one_task_with_all_its_blocks(data):
    scale = data.draw(scales())
    blocks = data.draw(block_grids(scale))
    assert is_aligned(scale, blocks)
    names = objects(scale)
    wanted = {}
    for position in blocks.positions():
        for cell in scale.grid.cells(blocks.box(position)):
            wanted.setdefault(names[cell], set()).add(position)
    tasks = list(shard_tasks(scale, blocks))
    assert len({task.shard for task in tasks}) == len(tasks)
    assert {task.shard: set(task.blocks) for task in tasks} == wanted
    for task in tasks:
        assert len(set(task.blocks)) == len(task.blocks)
        whole = all(
            blocks.bounds.contains(scale.grid.chunk_box(cell))
            for cell, name in names.items()
            if name == task.shard
        )
        assert task.whole == whole


@given(st.data())
def test_the_keys_of_a_shard(data):
    scale = data.draw(scales())
    keys = MortonCode(scale.grid.shape).encode(list(scale.grid.cells(scale.bounds)))
    shards = locate(scale.sharding, keys).shards
    for shard in np.unique(shards).tolist():
        found = shard_keys(scale.sharding, scale.grid.shape, shard)
        assert sorted(found.tolist()) == sorted(keys[shards == shard].tolist())


@given(st.data())
def test_aligned_sizes_are_aligned_and_cover_the_same(data):
    scale = data.draw(scales(False))
    box = data.draw(boxes(scale))
    edges = []
    for a, b in zip(box.start, box.stop, strict=True):
        inner = data.draw(st.sets(st.integers(a + 1, b - 1))) if b - a > 1 else set()
        edges.append((a, *sorted(inner), b))
    blocks = Blocks(tuple(edges))
    sizes = []
    for axis in range(3):
        found = aligned_sizes(scale, blocks, axis)
        extent = box.shape[axis]
        if isinstance(found, int):
            found = tuple(min(found, extent - at) for at in range(0, extent, found))
        assert sum(found) == extent
        sizes.append(found)
    assert is_aligned(scale, Blocks.from_chunks(box.start, sizes))


def test_blocks_that_share_a_chunk_are_refused_with_sizes_to_paste():
    scale = ScaleInfo(
        key="s",
        size=(100, 100, 100),
        resolution=(8, 8, 8),
        chunk_sizes=((32, 32, 32),),
        encoding="raw",
        voxel_offset=(1, 0, 0),
    )
    blocks = Blocks.from_chunks((1, 0, 10), [(32, 68), (50, 50), (22, 60, 8)])
    with pytest.raises(
        AlignmentError,
        match=r"here: the dask chunks along y, z cut through .*\(32, 32, 32\).*begins at \(1, 0, 0\)(.|\n)*"
        r"da.chunk\(\{'y': 64, 'z': \(54, 36\)\}\)",
    ):
        check_blocks(scale, blocks, "here")


def test_shard_tasks_of_a_scale_without_shards():
    scale = ScaleInfo(
        key="s", size=(1, 1, 1), resolution=(1, 1, 1), chunk_sizes=((1, 1, 1),), encoding="raw"
    )
    with pytest.raises(ValueError, match="scale 's' is not sharded"):
        next(shard_tasks(scale, Blocks.from_chunks((0, 0, 0), [(1,)] * 3)))


def test_blocks_in_order():
    blocks = Blocks.from_chunks((0, 0, 0), [(1, 1), (1,), (1, 1)])
    assert list(blocks.positions()) == [(x, 0, z) for z, x in product(range(2), range(2))]
    assert blocks.bounds == Box((0, 0, 0), (2, 1, 2))
