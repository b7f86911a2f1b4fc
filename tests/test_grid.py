import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprecomputed import Box, ChunkGrid

triples = st.tuples(*[st.integers(1, 12)] * 3)
offsets = st.tuples(*[st.integers(-20, 20)] * 3)


def test_names_are_absolute_clipped_and_may_be_negative():
    # format reference 2.2
    grid = ChunkGrid((3, 2, 1), (-1, 5, 0), (2, 2, 1))
    assert [grid.name(c) for c in [(0, 0, 0), (1, 0, 0)]] == ["-1-1_5-7_0-1", "1-2_5-7_0-1"]


@given(triples, offsets, triples)
def test_chunks_tile_the_volume_without_overlap(size, offset, chunk):
    grid = ChunkGrid(size, offset, chunk)
    count = np.zeros(size, int)
    for cell in grid.cells(grid.bounds):
        box = grid.chunk_box(cell)
        assert box.shape == grid.chunk_shape(cell)
        count[
            tuple(slice(a - o, b - o) for a, b, o in zip(box.start, box.stop, offset, strict=True))
        ] += 1
    assert (count == 1).all()
    assert grid.chunks == len(list(grid.cells(grid.bounds)))


@given(triples, offsets, triples, offsets, triples)
def test_cells_are_those_that_touch_the_box(size, offset, chunk, start, shape):
    grid = ChunkGrid(size, offset, chunk)
    box = Box.from_offset(start, shape)
    touching = {
        cell
        for cell in grid.cells(grid.bounds)
        if not grid.chunk_box(cell).intersection(box).is_empty
    }
    assert set(grid.cells(box)) == touching


def test_boxes():
    box = Box((0, 0, 0), (4, 5, 6))
    assert box.voxels == 120
    assert box.contains(Box((1, 1, 1), (4, 5, 6)))
    assert not box.contains(Box((1, 1, 1), (5, 5, 6)))
    assert box.contains(Box((9, 9, 9), (9, 9, 9)))
    assert box.intersection(Box((9, 9, 9), (10, 10, 10))).is_empty
    assert str(box) == "x[0, 4) y[0, 5) z[0, 6)"
    with pytest.raises(AttributeError):
        box.start = (1, 1, 1)
