"""Bytes of one skeleton; the oracles are bytes made by hand and osteoid."""

import copy
import pickle
import subprocess
import sys
import warnings

import numpy as np
import osteoid
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.skeleton.paths import RADIUS, STRETCHED, TURNED, TYPES, assert_same, info_of, random_tree
from xprecomputed import errors
from xprecomputed.metadata import Transform, VertexAttribute
from xprecomputed.skeleton import decode, encode
from xprecomputed.skeleton import format as formats
from xprecomputed.skeleton.format import ASSUMED, shape_nm

#: 2 vertices, 1 edge, radius 1, 2, vertex_types 0, 1: the format's own example
HAND = bytes.fromhex(
    "0200000001000000" + "00" * 12 + "0000803f0000004000004040" + "0000000001000000"
    "0000803f00000040" + "0001"
)


def test_the_example_by_hand():
    found = decode(HAND, ASSUMED, 7)
    assert found.id == 7
    assert found.space == "physical"
    assert found.vertices.tolist() == [[0, 0, 0], [1, 2, 3]]
    assert found.edges.tolist() == [[0, 1]]
    assert found.radius.tolist() == [1, 2]
    assert found.vertex_types.tolist() == [0, 1]
    assert [each.dtype.name for each in (found.vertices, found.edges, found.radius)] == [
        "float32",
        "uint32",
        "float32",
    ]
    assert found.vertex_types.dtype == np.uint8
    assert encode(found, ASSUMED) == HAND
    assert found.to_precomputed() == HAND


def test_as_osteoid_reads_it(rng):
    data = random_tree(rng).to_precomputed()
    assert_same(decode(data, ASSUMED), osteoid.Skeleton.from_precomputed(data))


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_arrays_are_their_own_and_writable(offset):
    around = bytearray(offset) + HAND
    found = decode(memoryview(around)[offset:], ASSUMED)
    for array in (found.vertices, found.edges, found.radius, found.vertex_types):
        assert array.flags.writeable
        assert array.flags.aligned
        assert not np.shares_memory(array, np.frombuffer(around, np.uint8))
    around[offset:] = bytes(len(HAND))
    assert found.vertices[1].tolist() == [1, 2, 3]


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize(
    "data_type", ["float32", "int8", "uint8", "int16", "uint16", "int32", "uint32"]
)
def test_every_data_type(rng, data_type, components):
    info = info_of(
        VertexAttribute(id="first", data_type="int8"),
        VertexAttribute(id="it", data_type=data_type, num_components=components),
        RADIUS,
    )
    dtype = np.dtype(data_type)
    extremes = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    values = np.resize(np.array([extremes.min, extremes.max, 1], dtype), (20, components))
    values = values[:, 0] if components == 1 else values
    tree = random_tree(rng, it=values, first=np.arange(20, dtype=np.int8))
    data = encode(tree, info)
    assert len(data) == 8 + 20 * 12 + 19 * 8 + 20 * (1 + components * dtype.itemsize + 4)
    at = 8 + 20 * 12 + 19 * 8 + 20  # by hand
    stored = np.frombuffer(data, dtype.newbyteorder("<"), 20 * components, at)
    np.testing.assert_array_equal(stored, values.ravel())
    found = decode(data, info)
    assert found.it.dtype == dtype
    assert_same(found, tree, ("it", "first", "radius"))
    assert found.to_precomputed() == data


def test_without_info_attributes_may_lack():
    bare = HAND[:-10]
    found = decode(bare, ASSUMED, is_assumed=True)
    assert found.extra_attributes == []
    assert found.radius.tolist() == [-1, -1]
    assert decode(HAND, ASSUMED, is_assumed=True).radius.tolist() == [1, 2]
    with pytest.raises(errors.CorruptDataError, match="40 bytes, expected 50"):
        decode(bare, ASSUMED)
    with pytest.raises(errors.CorruptDataError, match="48 bytes, expected 50"):
        decode(HAND[:-2], ASSUMED, is_assumed=True)


def test_empty():
    found = decode(bytes(8), ASSUMED, 3)
    assert found.empty()
    assert found.edges.shape == (0, 2)
    assert encode(found, ASSUMED) == bytes(8)
    assert encode(osteoid.Skeleton(), ASSUMED) == bytes(8)
    assert encode(osteoid.Skeleton([], []), info_of(VertexAttribute(id="more"))) == bytes(8)


def test_a_vertex_alone():
    one = osteoid.Skeleton([(1, 2, 3)], [], radii=[4])
    found = decode(encode(one, info_of(RADIUS)), info_of(RADIUS))
    assert found.vertices.tolist() == [[1, 2, 3]]
    assert found.edges.shape == (0, 2)


# ---- units


def test_transform_and_lengths():
    area = VertexAttribute(id="cross_sectional_area")
    depth = VertexAttribute(id="depth")
    info = info_of(RADIUS, area, depth, transform=TURNED)
    data = HAND[:-2] + np.array([10, -1, 5, 6], "<f4").tobytes()
    found = decode(data, info)
    assert found.vertices.tolist() == [[100, -50, 8], [96, -48, 14]]
    np.testing.assert_array_equal(found.transform, TURNED.matrix)
    assert found.radius.tolist() == [2, 4]
    assert found.cross_sectional_area.tolist() == [40, -1]  # -1 is "unknown" in every unit
    assert found.depth.tolist() == [5, 6]
    assert encode(found, info) == data
    points, edges = shape_nm(data, info)
    np.testing.assert_array_equal(points, found.vertices)
    np.testing.assert_array_equal(edges, found.edges)


def test_lengths_that_no_number_scales():
    info = info_of(RADIUS, transform=STRETCHED)
    found = decode(HAND[:-2], info)
    assert found.vertices.tolist() == [[1600, -320, 1200], [1616, -288, 1320]]
    assert found.radius.tolist() == [1, 2]
    assert encode(found, info) == HAND[:-2]
    whole = info_of(VertexAttribute(id="radius", data_type="uint16"), transform=TURNED)
    assert decode(HAND[:40] + bytes([3, 0, 4, 0]), whole).radius.tolist() == [3, 4]


@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_read_is_written_as_it_was(seed):
    rng = np.random.default_rng(seed)
    tree = random_tree(rng)
    for transform in (TURNED, STRETCHED, Transform()):
        info = info_of(RADIUS, transform=transform)
        data = encode(tree, info)
        found = decode(data, info)
        assert_same(found, tree, rtol=1e-5, atol=1e-3)
        assert_same(decode(encode(found, info), info), found, rtol=1e-5, atol=1e-3)


def test_voxel_space(rng):
    info = info_of(RADIUS, transform=STRETCHED)
    tree = random_tree(rng)
    inside = osteoid.Skeleton(
        tree.vertices, tree.edges, tree.radius, transform=STRETCHED.matrix, space="voxel"
    )
    data = encode(inside, info)
    assert_same(decode(data, info_of(RADIUS)), tree)  # the bytes are what was given
    other = osteoid.Skeleton(
        tree.vertices, tree.edges, tree.radius, transform=TURNED.matrix, space="voxel"
    )
    expected = TURNED.apply(tree.vertices)
    np.testing.assert_allclose(decode(encode(other, info), info).vertices, expected, rtol=1e-4)
    np.testing.assert_allclose(
        decode(encode(other, info_of(RADIUS)), info_of(RADIUS)).vertices, expected, rtol=1e-6
    )


def test_the_space_that_osteoid_forgets(rng):
    info = info_of(RADIUS, transform=TURNED)
    read = decode(encode(random_tree(rng), info), info)
    coarser = read.downsample(2)  # in nm, though it says "voxel" and has no transform
    with pytest.raises(errors.LayoutError, match="skeleton.space = 'physical'"):
        encode(coarser, info)
    coarser.space = "physical"
    np.testing.assert_allclose(
        decode(encode(coarser, info), info).vertices, coarser.vertices, rtol=1e-5, atol=1e-3
    )
    assert encode(coarser.clone(), info_of(RADIUS))  # the identity: it makes no difference
    coarser.space = "world"
    with pytest.raises(errors.LayoutError, match="space 'world', expected 'physical'"):
        encode(coarser, info)


def test_its_methods_work(rng):
    info = info_of(RADIUS, VertexAttribute(id="more", num_components=2), transform=TURNED)
    tree = random_tree(rng, 30, more=np.zeros((30, 2), np.float32))
    found = decode(encode(tree, info), info, 7)
    assert found.clone() == found
    assert found.physical_space().vertices is not None
    np.testing.assert_allclose(found.cable_length(), tree.cable_length(), rtol=1e-5)
    assert found.voxel_space().space == "voxel"
    assert found.downsample(2).more.shape[1] == 2
    assert len(found.merge(found).vertices) == 30
    assert 0 < len(found.crop(osteoid.Bbox((0, 0, 0), (950, 950, 950))).vertices) < 30
    assert len(found.components()) == 1
    assert "1 0" in found.to_swc()
    assert "more" in repr(found)
    assert pickle.loads(pickle.dumps(found)) == found


def test_an_attribute_may_be_called_anything(rng):
    names = ["paths", "vertices", "id", "__class__", "__deepcopy__", "_x", "radii", "attribute_id"]
    info = info_of(RADIUS, *(VertexAttribute(id=name) for name in names))
    count = len(names)
    values = np.arange(2 * count, dtype="<f4")
    data = HAND[:-2] + values.tobytes()
    found = decode(data, info)
    assert type(found) is osteoid.Skeleton
    assert found.vertices.shape == (2, 3)
    assert found.id is None
    assert found.radius.tolist() == [1, 2]
    assert found.attribute_paths.tolist() == [0, 1]
    assert found.attribute_attribute_id.tolist() == [4, 5]
    assert found.attribute_id.tolist() == [2 * count - 2, 2 * count - 1]
    assert found.clone() == found
    assert copy.deepcopy(found) == found  # which asks the object for __deepcopy__
    assert encode(found, info) == data
    assert found.to_precomputed() == data


# ---- what is not a skeleton


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "skeleton of 0 bytes, expected 8 at least"),
        (HAND[:7], "skeleton of 7 bytes, expected 8 at least"),
        (HAND[:-1], "49 bytes, expected 50 for 2 vertices, 1 edges .*radius .1 x float32., vertex"),
        (HAND + b"\0", "51 bytes, expected 50"),
        (b"\xff" * 8 + HAND[8:], "50 bytes, expected 107374182383"),
        (HAND[:36] + b"\2\0\0\0" + HAND[40:], "an edge to vertex 2, though there are 2"),
        (bytes(4) + b"\1\0\0\0" + bytes(8), "an edge to vertex 0, though there are 0"),
    ],
)
def test_malformed(data, message):
    with pytest.raises(errors.CorruptDataError, match=message):
        decode(data, ASSUMED)


def test_counts_are_multiplied_without_overflow():
    """In 32 bits this one has the right length: 2**32 / 4 vertices of 16 bytes."""
    info = info_of(RADIUS)
    with pytest.raises(errors.CorruptDataError, match="8 bytes, expected 17179869192 .*radius"):
        decode(np.array([2**30, 0], "<u4").tobytes(), info)
    huge = info_of(VertexAttribute(id="a", num_components=1 << 16))
    with pytest.raises(errors.CorruptDataError, match="8 bytes, expected 1125"):
        decode(np.array([2**32 - 1, 0], "<u4").tobytes(), huge)


@pytest.mark.parametrize("scale", [1e100, 1e300])
def test_transforms_to_infinity_are_no_warning(scale):
    far = Transform((scale, 0, 0, 0, 0, scale, 0, 0, 0, 0, scale, 0))
    found = decode(HAND[:-2], info_of(RADIUS, transform=far))
    assert np.isinf(found.vertices[1]).all()
    assert np.isinf(found.radius).all() == (scale == 1e100)


def skeleton(**members):
    one = osteoid.Skeleton([(0, 0, 0), (1, 2, 3)], [(0, 1)], radii=[1, 2], space="physical")
    for name, value in members.items():
        setattr(one, name, value)
    return one


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"vertices": np.zeros((2, 2))}, r"7: vertices of shape \(2, 2\) and type float64"),
        ({"vertices": np.zeros((2, 3), complex)}, "vertices of .* type complex128, expected num"),
        ({"edges": np.array([[0.0, 1.0]])}, "edges of .* type float64, expected whole numbers"),
        ({"edges": np.array([[0, 2]])}, "edges name vertices 0 to 2, though there are 2"),
        ({"edges": np.array([[-1, 1]])}, "edges name vertices -1 to 1, though there are 2"),
        ({"radius": np.zeros(3)}, r"attribute 'radius' has shape \(3,\), expected \(2, 1\)"),
        ({"radius": np.zeros((2, 2))}, r"attribute 'radius' has shape \(2, 2\)"),
        ({"radius": None}, "no vertex attribute 'radius', which info names; give it"),
        ({"vertex_types": np.ones(2, np.uint8)}, r"attributes \['vertex_types'\] are not among"),
    ],
)
def test_what_has_no_place(members, message):
    with pytest.raises(errors.LayoutError, match=message):
        encode(skeleton(**members), info_of(RADIUS), "segment 7")


@pytest.mark.parametrize("vertex", [np.nan, np.inf, 1e39])
def test_vertices_that_are_nowhere(vertex):
    one = skeleton(vertices=np.array([[0, 0, 0], [1, vertex, 3]]))
    with pytest.raises(errors.DataTypeError, match=r"7: vertex 1 at \[1.0, .*: expected finite"):
        encode(one, info_of(RADIUS), "segment 7")


@pytest.mark.parametrize(
    ("data_type", "values"),
    [
        ("uint8", [0, 256]),
        ("uint8", [-1, 0]),
        ("int8", [0.5, 1]),
        ("int32", [np.nan, 1]),
        ("uint32", np.array([0, 2**63], np.uint64)),
        ("float32", np.array([0, 2**24 + 1])),
        ("float32", [0, 1e39]),
        ("float32", ["a", "b"]),
    ],
)
def test_values_that_do_not_fit(data_type, values):
    info = info_of(VertexAttribute(id="it", data_type=data_type))
    with pytest.raises(errors.DataTypeError, match=f"'it' has values of .* that {data_type}"):
        encode(skeleton(it=np.array(values), extra_attributes=[]), info)


@pytest.mark.parametrize(
    ("data_type", "values"),
    [
        ("uint8", np.array([[0], [255]], np.int64)),
        ("uint8", [True, False]),
        ("int16", [-32768.0, 32767.0]),
        ("float32", np.array([-(2**24), 2**24])),
        ("float32", [np.nan, np.inf]),
        ("float32", np.array([0.1, 1e-300])),  # rounded, as vertices are
    ],
)
def test_values_that_fit(data_type, values):
    info = info_of(VertexAttribute(id="it", data_type=data_type))
    data = encode(skeleton(it=np.array(values), extra_attributes=[]), info)
    expected = np.array(values).ravel().astype(data_type)
    np.testing.assert_array_equal(decode(data, info).it, expected)


def test_what_says_nothing_may_be_left_out():
    """osteoid gives every skeleton types and radii."""
    one = osteoid.Skeleton([(0, 0, 0), (1, 2, 3)], [(0, 1)])
    assert len(encode(one, info_of())) == 40
    one.add_vertex_attribute("depth", np.zeros(2, np.float32))
    with pytest.raises(errors.LayoutError, match=r"\['depth'\] .*among.*extra_attributes='drop'"):
        encode(one, info_of())
    assert len(encode(one, info_of(), extra_attributes="drop")) == 40
    with pytest.raises(ValueError, match="extra_attributes='keep': expected one of"):
        encode(one, info_of(), extra_attributes="keep")
    one.extra_attributes = [{"id": "never set"}]
    assert len(encode(one, info_of())) == 40


def test_no_skeleton():
    with pytest.raises(TypeError, match="7: str, expected an osteoid.Skeleton"):
        encode("path", ASSUMED, "segment 7")


def test_too_long_to_be_read(monkeypatch):
    monkeypatch.setattr(formats, "MAX_BYTES", 47)
    with pytest.raises(errors.LayoutError, match="48 bytes, at most 47 are read"):
        encode(skeleton(), info_of(RADIUS))


def test_the_peer_reads_every_attribute(rng):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cloudvolume = pytest.importorskip("cloudvolume")
    info = info_of(RADIUS, TYPES, VertexAttribute(id="flow", data_type="int16", num_components=3))
    tree = random_tree(
        rng,
        vertex_types=rng.integers(0, 5, 20).astype(np.uint8),
        flow=rng.integers(-(2**15), 2**15, (20, 3)).astype(np.int16),
    )
    found = cloudvolume.Skeleton.from_precomputed(
        encode(tree, info), vertex_attributes=info.to_json()["vertex_attributes"]
    )
    assert_same(found, tree, ("radius", "vertex_types", "flow"))


def test_osteoid_is_imported_at_first_use(monkeypatch):
    code = "import sys, xprecomputed.skeleton; sys.exit('osteoid' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0
    monkeypatch.setitem(sys.modules, "osteoid", None)
    with pytest.raises(errors.MissingDependencyError, match="skeletons: .*\n.*precomputed.skelet"):
        decode(HAND, ASSUMED)
