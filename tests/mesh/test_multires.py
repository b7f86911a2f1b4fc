"""Which fragments a request needs, and what their numbers mean in nm."""

import DracoPy
import numpy as np
import pytest

from tests.mesh.handmade import EXAMPLE, TRIANGLE, info, manifest, stream
from xprecomputed import CorruptDataError
from xprecomputed.codecs import draco
from xprecomputed.errors import LodNotFoundError
from xprecomputed.mesh import Manifest, multires
from xprecomputed.mesh.wanted import is_inside, touches
from xprecomputed.metadata import MeshInfo

PLAIN = MeshInfo.from_json(info())
#: 90 degrees about z, twice as large, and moved.
TURNED = MeshInfo.from_json(info(transform=[0, -2, 0, 100, 2, 0, 0, 0, 0, 0, 2, -50]))
VOXELS = MeshInfo.from_json(info(transform=[16, 0, 0, 0, 0, 16, 0, 0, 0, 0, 40, 0]))


def decode_fragment(data, where, about, lod, cell):
    return multires.placed([draco.decode(data)], cell[None], where, about, lod)[0]


def decode(points, cell=(1, 0, 0), lod=0, about=PLAIN, **options):
    data = stream(np.asarray(points), **options)
    where = Manifest.parse(options.pop("data", EXAMPLE))
    return decode_fragment(data, where, about, lod, np.array(cell, np.uint32))


def test_the_vectors_of_the_format():
    full = 65535
    vertices, faces = decode(np.array([[full] * 3, [0, 0, 0], [full, 0, 0]], np.uint32))
    assert vertices.tolist() == [[128, 64, 74], [64, 0, 10], [128, 0, 10]]
    assert faces.tolist() == TRIANGLE.tolist()
    middle = np.array([[32768, 0, 0], [0, 0, 0], [0, full, 0]], np.uint32)
    vertices, _ = decode(middle, (0, 0, 0), lod=1)
    assert vertices[0, 0] == np.float32(64.000977)
    assert vertices[2].tolist() == [0, 128, 10]
    assert (vertices.dtype, faces.dtype) == (np.float32, np.uint32)


def test_ten_bits():
    about = MeshInfo.from_json(info(bits=10))
    points = np.array([[1023, 0, 0], [0, 1023, 0], [0, 0, 1023]], np.uint32)
    assert decode(points, (0, 0, 0), about=about)[0].tolist() == [
        [64, 0, 10], [0, 64, 10], [0, 0, 74],
    ]  # fmt: skip
    with pytest.raises(CorruptDataError, match="positions from 0 to 1024, expected 0 to 1023"):
        decode(points + np.uint32([[1, 0, 0]] * 3), about=about)


def test_transforms_and_offsets():
    where = Manifest.parse(manifest([([(1, 0, 0)], [9])], offsets=[[0.5, 0, -1]]))
    data = stream(np.array([[0, 0, 0], [65535, 0, 0], [0, 65535, 0]], np.uint32))
    vertices, _ = decode_fragment(data, where, TURNED, 0, np.array([1, 0, 0], np.uint32))
    assert vertices.tolist() == [[100, 129, -32], [100, 257, -32], [-28, 129, -32]]


def test_seams_are_bitwise_equal():
    rng = np.random.default_rng(3)
    where = Manifest.parse(
        manifest([([(0, 0, 0)], [9])], chunk=(33.3, 7.1, 11.9), origin=(5.1, -3.3, 9.7))
    )
    plane = rng.integers(0, 65536, (300, 3)).astype(np.uint32)
    faces = np.arange(300, dtype=np.uint32).reshape(-1, 3)
    sides = []
    for x, cell in ((65535, (4, 2, 9)), (0, (5, 2, 9))):
        plane[:, 0] = x
        data = stream(plane, faces)
        sides.append(decode_fragment(data, where, VOXELS, 0, np.array(cell, np.uint32))[0])
    np.testing.assert_array_equal(*sides)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, np.int16, np.int32])
def test_integers_of_any_width(dtype):
    data = bytearray(stream(np.array([[1, 2, 3], [100, 0, 0], [0, 100, 7]], np.uint32)))
    at = data.index(bytes([0, 6, 3, 0])) + 1  # an attribute of positions: type, components
    data[at] = {"int8": 1, "uint8": 2, "int16": 3, "uint16": 4, "int32": 5}[np.dtype(dtype).name]
    vertices, _ = decode_fragment(
        bytes(data), Manifest.parse(EXAMPLE), PLAIN, 0, np.zeros(3, np.uint32)
    )
    expected = np.array([[1, 2, 3], [100, 0, 0], [0, 100, 7]]) / 65535 * 64 + [0, 0, 10]
    np.testing.assert_array_equal(vertices, expected.astype(np.float32))


def test_quantised_floats_are_taken_as_cloudvolume_does():
    points = np.array([[0, 0, 0], [65535, 0, 0], [0, 65535, 100]], np.float32)
    data = stream(
        points, quantization_bits=16, quantization_range=65535, quantization_origin=[0] * 3
    )
    stored = DracoPy.decode(data).points
    vertices, _ = decode_fragment(data, Manifest.parse(EXAMPLE), PLAIN, 0, np.zeros(3, np.uint32))
    np.testing.assert_allclose(vertices, stored / 65535 * 64 + [0, 0, 10], rtol=1e-6)


def test_negative_positions_are_outside():
    with pytest.raises(CorruptDataError, match="positions from -1"):
        decode(np.array([[-1, 0, 0], [5, 0, 0], [0, 5, 0]], np.int32))


def test_vertices_that_no_float_holds():
    where = Manifest.parse(manifest([([(2**32 - 1,) * 3], [9])], chunk=(3e38,) * 3))
    data = stream(np.array([[1, 0, 0], [5, 0, 0], [0, 5, 0]], np.uint32))
    with pytest.raises(CorruptDataError, match="has vertices that float32 cannot hold"):
        decode_fragment(data, where, PLAIN, 0, np.array([2**32 - 1] * 3, np.uint32))


def test_plans_skip_empty_cells_and_count_bytes_over_lods():
    where = Manifest.parse(
        manifest([([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [10, 0, 20]), ([(0, 0, 0)], [5])])
    )
    plan = multires.plan_lod(where, PLAIN, 0, None)
    assert plan.cells.tolist() == [[0, 0, 0], [0, 1, 0]]
    assert (plan.starts.tolist(), plan.stops.tolist()) == ([0, 10], [10, 30])
    plan = multires.plan_lod(where, PLAIN, 1, None)
    assert (plan.starts.tolist(), plan.stops.tolist()) == ([30], [35])


def test_plans_beyond_32_bits():
    where = Manifest.parse(manifest([([(0, 0, 0)] * 4, [2**32 - 1] * 4)]))
    assert multires.plan_lod(where, PLAIN, 0, None).stops[-1] == 4 * (2**32 - 1)


@pytest.mark.parametrize(
    ("about", "box", "cells"),
    [
        (PLAIN, ((0, 0, 10), (63, 63, 70)), [[0, 0, 0]]),
        (PLAIN, ((64, 0, 10), (64, 63, 70)), [[0, 0, 0], [1, 0, 0]]),
        (PLAIN, ((66, -5, 10), (500, 0, 10)), [[1, 0, 0]]),
        (PLAIN, ((0, 0, 75), (63, 63, 80)), []),
        (VOXELS, ((0, 0, 400), (1000, 1000, 400)), [[0, 0, 0]]),
        (VOXELS, ((1030, 0, 400), (1040, 1, 400)), [[1, 0, 0]]),
        (TURNED, ((-27, 0, -30), (99, 127, 90)), [[0, 0, 0]]),
        (TURNED, ((-27, 129, -30), (99, 250, 90)), [[1, 0, 0]]),
    ],
)
def test_plans_of_boxes(about, box, cells):
    plan = multires.plan_lod(Manifest.parse(EXAMPLE), about, 0, np.array(box, float))
    assert plan.cells.tolist() == cells


@pytest.mark.parametrize("far", [90, 90000])
def test_no_vertex_is_outside_of_the_box_of_its_cell(far):
    rng = np.random.default_rng(8)
    corners = np.array([[x, y, z] for x in (0, 65535) for y in (0, 65535) for z in (0, 65535)])
    faces = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 0]])
    data = stream(corners.astype(np.uint32), faces)
    for _ in range(30):
        numbers = [*rng.uniform(-3, 3, 12)]
        about = MeshInfo.from_json(info(transform=numbers))
        where = Manifest.parse(
            manifest([([(7, 0, far)], [9])], chunk=rng.uniform(0.1, 50, 3), origin=rng.normal(0, 1e3, 3))
        )  # fmt: skip
        vertices, _ = decode_fragment(data, where, about, 0, where.positions[0][0])
        (box,) = multires.cell_boxes(where, about, 0)
        assert (vertices >= box[0]).all()
        assert (vertices <= box[1]).all()
        size = np.ptp(box, axis=0)
        assert (
            far > 90 or (np.ptp(vertices, axis=0) >= size * 0.99).all()
        )  # and the box is no larger


@pytest.mark.parametrize(("lod", "chosen"), [(1, 1), (3, 3), (-1, 3), (-2, 1)])
def test_lods(lod, chosen):
    where = Manifest.parse(manifest([([], [])] * 4, scales=[0, 2, 0, 8]))
    assert multires.choose_lod(where, lod, "x/7") == chosen


@pytest.mark.parametrize("lod", [0, 2, 4, -3])
def test_lods_that_are_not_there(lod):
    where = Manifest.parse(manifest([([], [])] * 4, scales=[0, 2, 0, 8]))
    with pytest.raises(LodNotFoundError, match=rf"x/7: no lod {lod}; this mesh has \[1, 3\]"):
        multires.choose_lod(where, lod, "x/7")


def test_a_mesh_without_any_lod():
    where = Manifest.parse(manifest([([], [])], scales=[0]))
    with pytest.raises(LodNotFoundError, match=r"this mesh has \[\]"):
        multires.coarsest_within(where, PLAIN, 5, "x/7")


@pytest.mark.parametrize(("error", "chosen"), [(1e9, 2), (320, 2), (319, 1), (80, 0), (1, 0)])
def test_the_coarsest_within_an_error(error, chosen):
    about = MeshInfo.from_json(
        info(transform=VOXELS.transform.to_json()) | {"lod_scale_multiplier": 2}
    )
    where = Manifest.parse(manifest([([], [])] * 3))
    # 1, 2, 4 voxels of the worst axis, 40 nm, twice
    assert [multires.resolution_nm(where, about, lod) for lod in range(3)] == [80, 160, 320]
    assert multires.coarsest_within(where, about, error, "x/7") == chosen


def test_bytes_before_a_manifest():
    assert multires.bytes_before(EXAMPLE) == 370


def test_touching_is_enough():
    box = np.array([[0, 0, 0], [5, 5, 5]], float)
    corner = np.array([[5, 5, 5], [9, 9, 9]])
    assert touches(corner, box)
    assert touches(-corner[::-1] + 5, box)
    assert not touches(corner + np.array([0.1, 0, 0]), box)
    assert is_inside(np.array([[5, 0, 0], [9, 9, 9]], np.float32), box)
    assert not is_inside(np.zeros((0, 3), np.float32), box)


@pytest.mark.parametrize("at_once", [1, 4, 1 << 18])
def test_many_fragments_are_put_into_place_as_each_alone(monkeypatch, rng, at_once):
    monkeypatch.setattr(multires, "VERTICES_AT_ONCE", at_once)
    where = Manifest.parse(EXAMPLE)
    cells = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 6, 7]], np.uint32)
    faces = np.array([[0, 1, 2]], np.uint32)
    fragments = [(rng.integers(0, 65536, (n, 3), np.uint32), faces) for n in (3, 9, 4, 5)]
    together = multires.placed(fragments, cells, where, TURNED, 1)
    for part, one, cell in zip(together, fragments, cells, strict=True):
        alone = multires.placed([one], cell[None], where, TURNED, 1)[0]
        np.testing.assert_array_equal(part[0], alone[0])
        assert part[1] is faces
    fragments[2][0][1, 1] = 65536
    with pytest.raises(CorruptDataError, match=r"the fragment of cell \[0, 1, 0\] has positions"):
        multires.placed(fragments, cells, where, TURNED, 1)
