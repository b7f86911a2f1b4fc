import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xprecomputed import ChunkGrid
from xprecomputed.metadata import ScaleInfo, ShardingSpec
from xprecomputed.volume import OuterPlan, PointPlan
from xprecomputed.volume.chunking import MAX_DASK_CHUNKS, aligned_chunks, preferred_chunks


def indexer(size):
    """A slice with a positive step, or any positions with repeats."""
    slices = st.tuples(st.integers(0, size), st.integers(0, size), st.integers(1, size + 1)).map(
        lambda t: slice(min(t[:2]), max(t[:2]), t[2])
    )
    arrays = st.lists(st.integers(0, size - 1), max_size=2 * size).map(
        lambda v: np.array(v, np.int64)
    )
    return slices | arrays


def execute(plan, grid, volume, dtype=int):
    """What a reader does, with chunks cut out of `volume` (c, z, y, x); counts the chunks."""
    out = np.full(plan.shape, -1, dtype)
    cells = []
    for task in plan:
        cells.append(task.cell)
        start = [g * c for g, c in zip(task.cell, grid.chunk_size, strict=True)]
        shape = grid.chunk_shape(task.cell)
        x, y, z = (slice(a, a + n) for a, n in zip(start, shape, strict=True))
        chunk = volume[:, z, y, x]
        for part, extent in zip(task.region, chunk.shape, strict=True):
            assert 0 <= part.start < part.stop <= extent
        region = chunk[task.region]
        out[task.target] = region if task.source is None else region[task.source]
    assert len(cells) == len(plan)
    return out, cells


SIZES = st.tuples(*[st.integers(1, 9)] * 3)


@given(SIZES, SIZES, st.integers(1, 3), st.data())
def test_outer_plans_cover_the_selection_and_touch_each_chunk_once(size, chunk, channels, data):
    grid = ChunkGrid(size, (7, -3, 100), chunk)
    shape = (channels, *size[::-1])
    volume = np.arange(np.prod(shape)).reshape(shape)
    wanted = [data.draw(indexer(n)) for n in shape]
    out, cells = execute(OuterPlan(grid, *wanted), grid, volume)
    expected = volume
    for axis, one in enumerate(wanted):
        expected = expected[(slice(None),) * axis + (one,)]
    np.testing.assert_array_equal(out, expected)
    assert len(cells) == len(set(cells))


@given(SIZES, SIZES, st.integers(1, 3), st.integers(0, 30), st.data())
def test_point_plans_read_each_chunk_once(size, chunk, channels, count, data):
    grid = ChunkGrid(size, (0, 0, 0), chunk)
    shape = (channels, *size[::-1])
    volume = np.arange(np.prod(shape)).reshape(shape)
    outer = data.draw(st.sets(st.integers(0, 3), max_size=3))
    wanted = [
        data.draw(indexer(n)) if axis in outer else
        np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=count, max_size=count)), np.int64)
        for axis, n in enumerate(shape)
    ]  # fmt: skip
    plan = PointPlan(grid, wanted, [axis for axis in range(4) if axis not in outer])
    out, cells = execute(plan, grid, volume)
    positions = [
        np.arange(n)[one] if isinstance(one, slice) else one
        for n, one in zip(shape, wanted, strict=True)
    ]
    order = sorted(outer)
    index = []
    for axis, one in enumerate(positions):
        full = [1] * (1 + len(order))
        full[order.index(axis) + 1 if axis in outer else 0] = len(one)
        index.append(one.reshape(full))
    np.testing.assert_array_equal(out, volume[tuple(index)])
    assert len(cells) == len(set(cells))


def test_arrays_that_are_runs_are_decoded_straight_into_the_result():
    grid = ChunkGrid((100, 100, 100), (0, 0, 0), (64, 64, 64))
    run, one = np.arange(10, 90), slice(0, 1, 1)
    assert all(task.source is None for task in OuterPlan(grid, one, run, run, one))
    assert all(task.source is not None for task in OuterPlan(grid, one, run[::2], run, one))


def scale(size, chunk=(64, 64, 64), sharding=None):
    return ScaleInfo(
        key="s",
        size=size,
        resolution=(8, 8, 8),
        chunk_sizes=(chunk,),
        encoding="raw",
        sharding=sharding,
    )


def spec(preshift, minishard, shard):
    return ShardingSpec(
        preshift_bits=preshift, hash="identity", minishard_bits=minishard, shard_bits=shard
    )


def test_preferred_chunks_are_64_mib_multiples_of_the_storage_chunk():
    assert preferred_chunks(scale((10_000,) * 3), 1) == (512, 512, 256)
    assert preferred_chunks(scale((10_000,) * 3), 8) == (256, 256, 128)
    assert preferred_chunks(scale((10_000, 10_000, 30), (512, 512, 1)), 1) == (2048, 1024, 32)
    assert preferred_chunks(scale((100, 100, 100)), 1) == (128, 128, 128)
    assert preferred_chunks(scale((10_000,) * 3, (1024, 1024, 1024)), 8) == (1024, 1024, 1024)


def test_preferred_chunks_stay_inside_a_shard():
    assert preferred_chunks(scale((10_000,) * 3, sharding=spec(3, 2, 20)), 1) == (256, 256, 128)
    assert preferred_chunks(scale((10_000,) * 3, sharding=spec(9, 6, 9)), 8) == (256, 256, 128)


def test_huge_volumes_have_few_dask_chunks_whatever_their_bytes():
    size = (250_000, 250_000, 25_000)
    chunk = preferred_chunks(scale(size), 8)
    assert np.prod([-(-s // c) for s, c in zip(size, chunk, strict=True)]) <= MAX_DASK_CHUNKS
    assert all(c % 64 == 0 for c in chunk)


@given(st.integers(0, 50), st.integers(1, 200), st.integers(1, 40))
def test_aligned_chunks_end_on_the_grid(first, size, chunk):
    sizes = aligned_chunks(first, size, chunk)
    assert sum(sizes) == size
    assert min(sizes) > 0
    ends = first + np.cumsum(sizes)[:-1]
    assert (ends % chunk == 0).all()
