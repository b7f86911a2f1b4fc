"""The bytes of multi-resolution manifests."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mesh.handmade import EXAMPLE, manifest
from xprecomputed import CorruptDataError
from xprecomputed.mesh import Manifest


def test_the_example_of_the_format():
    found = Manifest.parse(EXAMPLE)
    assert found.chunk_shape == (64, 64, 64)
    assert found.grid_origin == (0, 0, 10)
    assert found.lod_scales == (1, 2)
    assert found.vertex_offsets.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert [cells.tolist() for cells in found.positions] == [[[0, 0, 0], [1, 0, 0]], [[0, 0, 0]]]
    assert [sizes.tolist() for sizes in found.sizes] == [[100, 120], [150]]
    assert (found.num_lods, found.stored_lods, found.data_bytes) == (2, (0, 1), 370)
    assert found.to_bytes() == EXAMPLE
    assert Manifest.parse(memoryview(EXAMPLE)).to_bytes() == EXAMPLE


def test_lods_that_are_not_stored():
    data = manifest([([], []), ([(0, 0, 0)], [9])], scales=[0, 2])
    assert Manifest.parse(data).stored_lods == (1,)


def test_as_many_lods_as_any_mesh_has():
    assert Manifest.parse(manifest([([], [])] * 64, scales=[1.0] * 64)).num_lods == 64


def test_any_order_of_cells_is_read():  # as Neuroglancer does: only its octree needs the order
    cells = [(1, 0, 0), (0, 0, 0), (0, 0, 2**32 - 1)]
    found = Manifest.parse(manifest([(cells, [1, 2, 3])]))
    assert found.positions[0].tolist() == [list(cell) for cell in cells]


def test_sums_of_sizes_are_exact():
    found = Manifest.parse(manifest([([(0, 0, 0)] * 3, [2**32 - 1] * 3)]))
    assert found.data_bytes == 3 * (2**32 - 1)


def replaced(data, at, code, *values):
    changed = bytearray(data)
    struct.pack_into(f"<{code}", changed, at, *values)
    return bytes(changed)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "mesh manifest of 0 bytes, at least 28"),
        (EXAMPLE[:27], "mesh manifest of 27 bytes"),
        (EXAMPLE[:-1], "mesh manifest of 115 bytes, 116 expected of 2 lods with 3 fragments"),
        (EXAMPLE + b"\0", "mesh manifest of 117 bytes, 116 expected"),
        (replaced(EXAMPLE, 24, "I", 0), "of 0 lods in 116 bytes, which have room for 1 to 4"),
        (replaced(EXAMPLE, 24, "I", 5), "of 5 lods in 116 bytes"),
        (replaced(EXAMPLE, 24, "I", 2**32 - 1), "of 4294967295 lods"),
        (manifest([([], [])] * 65, scales=[1.0] * 65), "of 65 lods, at most 64 are read"),
        # 2**28 fragments are 2**32 bytes: nothing more in 32 bits
        (replaced(EXAMPLE, 60, "2I", 2 + 2**28, 1), "116 bytes, 4294967412 expected"),
        (replaced(EXAMPLE, 60, "2I", 2**32 - 1, 2**32 - 1), "with 8589934590 fragments"),
        (replaced(EXAMPLE, 0, "f", 0), "chunk shape"),
        (replaced(EXAMPLE, 4, "f", -64), "shapes above 0"),
        (replaced(EXAMPLE, 8, "f", np.nan), "expected finite numbers"),
        (replaced(EXAMPLE, 12, "f", np.inf), "grid origin"),
        (replaced(EXAMPLE, 40, "f", np.nan), "finite offsets"),
        (replaced(EXAMPLE, 28, "f", -1), r"lod scales \[-1.0, 2.0\]"),
        (replaced(EXAMPLE, 32, "f", np.inf), "lod scales"),
        (replaced(EXAMPLE, 28, "f", 0), "fragments of lod 0, whose scale of 0"),
    ],
)
def test_damaged_manifests(data, message):
    with pytest.raises(CorruptDataError, match=message):
        Manifest.parse(data)


@given(data=st.data())
def test_what_is_written_is_read(data):
    counts = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    number = st.integers(0, 2**32 - 1)
    lods = [
        (
            [tuple(data.draw(number) for _ in range(3)) for _ in range(count)],
            [data.draw(number) for _ in range(count)],
        )
        for count in counts
    ]
    by_hand = manifest(lods, offsets=np.arange(3.0 * len(lods)).reshape(-1, 3))
    found = Manifest.parse(by_hand)
    assert found.to_bytes() == by_hand
    assert found.data_bytes == sum(sum(sizes) for _, sizes in lods)
