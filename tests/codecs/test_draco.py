"""Draco streams: DracoPy made them, and the header is read by hand."""

import sys

import DracoPy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.memory import peak_bytes
from tests.mesh.shapes import sphere, triangles
from xprecomputed import CorruptDataError, MissingDependencyError
from xprecomputed.codecs import draco
from xprecomputed.codecs._draco_header import read_header, working_bytes
from xprecomputed.codecs._draco_layout import index_bytes

#: A square of two triangles in edgebreaker's standard form, as DracoPy 1.7 and 2.2 write it.
SQUARE = bytes.fromhex(
    "445241434f 0202 01 01 0000 00 04 02 00 02 00 00011fff011101ff000001000603000001000101000507"
    "0120030120030020846486a8750900000000ffff0000"
)


def ball(rings=10):
    vertices, faces = sphere(rings, 500, (500, 500, 500))
    return np.rint(vertices).astype(np.uint32), faces.astype(np.uint32)


def test_bytes_of_either_version():
    positions, faces = draco.decode(SQUARE)
    assert sorted(positions.tolist()) == [[0, 0, 0], [0, 65535, 1], [3, 4, 5], [65535, 0, 0]]
    assert faces.shape == (2, 3)
    assert (positions.dtype, faces.dtype) == (np.uint32, np.uint32)
    assert (read_header(SQUARE).faces, draco.vertex_count(SQUARE)) == (2, 4)


@pytest.mark.parametrize("level", [0, 1, 5, 7, 10])
def test_integers_are_lossless(level):
    points, faces = ball()
    data = draco.encode(points, faces, compression_level=level)
    found = draco.decode(data)
    assert triangles(*found, 1) == triangles(points, faces, 1)
    assert draco.vertex_count(data) == len(found[0]) == len(points)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 7]))
def test_any_triangles_are_lossless(seed, level):
    """Many share edges and corners as no surface does."""
    rng = np.random.default_rng(seed)
    points = np.unique(rng.integers(0, 2**16, (rng.integers(4, 40), 3)), axis=0)
    faces = rng.integers(0, len(points), (rng.integers(1, 60), 3))
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    if not len(faces):
        return
    data = draco.encode(points, faces, compression_level=level)
    found = draco.decode(data)
    assert triangles(*found, 1) == triangles(points, faces, 1)
    assert read_header(data).faces == len(faces)


@pytest.mark.parametrize(
    "options",
    [
        {"preserve_order": True},
        {"create_metadata": True},
        {"colors": np.zeros((182, 3), np.uint8)},
        {"create_metadata": True, "preserve_order": True},
    ],
)
def test_other_forms_are_decoded(options):
    points, faces = ball()
    data = bytes(DracoPy.encode(points, faces, **options))
    found = draco.decode(data)
    assert triangles(*found, 1) == triangles(points, faces, 1)
    assert read_header(data).faces == len(faces)


def test_floats_are_dequantised():
    points, faces = ball()
    data = bytes(DracoPy.encode(points.astype("f4") * 1.7 - 3, faces, quantization_bits=20))
    positions, _ = draco.decode(data)
    assert positions.dtype == np.float32
    np.testing.assert_array_equal(positions, DracoPy.decode(data).points)


def test_a_memoryview_is_fine():
    assert draco.decode(memoryview(SQUARE))[1].shape == (2, 3)


def changed(at, *values):
    data = bytearray(SQUARE)
    data[at : at + len(values)] = bytes(values)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a Draco stream: 0 bytes"),
        (b"DRACO\2\2", "not a Draco stream: 7 bytes that begin 44 52 41 43 4f"),
        (b"D" * 50, "not a Draco stream"),
        (changed(6, 1), r"of version \(2, 1\), known is \(2, 2\)"),
        (changed(7, 0), "of geometry 0 and method 1, expected a mesh"),
        (changed(8, 2), "of geometry 1 and method 2"),
        (changed(11, 3), "edgebreaker form 3"),
        (SQUARE[:14], "Draco stream of 14 bytes, which ends too early"),
        (changed(12, *[255] * 6), "a count of more than 32 bits"),
        (changed(12, 255, 255, 255, 255, 31), "a count of more than 32 bits"),
        (changed(13, 3), "of 3 faces in 2 symbols"),
        (changed(15, 3), "of 2 faces in 3 symbols"),
        (changed(16, 3), "3 of them splits"),
        (changed(12, 7), "claims 2 faces and 7 vertices; at most 682 faces and 6"),
        (SQUARE[:40], "Draco stream of 40 bytes: "),
        (changed(SQUARE.index(b"\0\6\3\0"), 1), r"with positions of shape \(\)"),
    ],
)
def test_damaged_streams(data, message):
    with pytest.raises(CorruptDataError, match=message):
        draco.decode(data)


def varint(number):
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


@pytest.mark.parametrize(("form", "most"), [(0, 11), (1, 1024), (2, 1024)])
def test_claims_are_bounded_by_the_length(form, most):
    """A few bytes must not make the library reserve gigabytes."""

    def claim(faces):
        head = SQUARE[:11] + bytes([form]) + varint(4) + varint(faces) + b"\0" + varint(faces)
        return head + bytes(5000 - len(head))

    assert read_header(claim(most * 5000)).faces == most * 5000
    with pytest.raises(CorruptDataError, match=f"at most {most * 5000} faces"):
        draco.decode(claim(most * 5000 + 1))


def test_claims_of_sequential_streams():
    head = b"DRACO\2\2\1\0\0\0"
    plain = head + varint(1000) + varint(300) + b"\1"
    with pytest.raises(CorruptDataError, match="too short for its 1000 faces"):
        read_header(plain + bytes(5999))
    assert read_header(plain + bytes(6000)).points == 300
    coded = head + varint(2**32 - 1) + varint(3) + b"\0"
    with pytest.raises(CorruptDataError, match="claims 4294967295 faces"):
        read_header(coded + bytes(1000))


def test_vertices_without_a_face():
    points, _ = ball()
    data = draco.encode(points, [[0, 1, 2]], compression_level=0)
    assert len(draco.decode(data)[0]) == draco.vertex_count(data) == len(points)
    many = b"DRACO\2\2\1\0\0\0" + varint(1) + varint(1024 * 500 + 1) + b"\0"
    with pytest.raises(CorruptDataError, match="and 512000 vertices can be valid"):
        read_header(many + bytes(500 - len(many)))


def sequential(points, components, attributes=1, values=b""):
    """A face, and so many points whose attributes are floats."""
    head = b"DRACO\2\2\1\0\0\0" + varint(1) + varint(points) + b"\1"
    width = index_bytes(points)
    head += bytes(3 * (width or 1)) + b"\1" + varint(attributes)
    for number in range(attributes):
        head += bytes([4 if number else 0, 9, components, 0]) + varint(number)
    return head + bytes(attributes) + values


def test_points_are_counted_with_all_that_they_claim():
    assert working_bytes(sequential(300, 3)) == 128 + 300 * (3 * 12 + 4)
    assert working_bytes(sequential(300, 255, 7)) == 128 + 300 * 7 * (255 * 12 + 4)
    rest = bytes(5000)
    assert working_bytes(sequential(100_000, 2, values=rest)) == 128 + 100_000 * 28  # varints
    assert working_bytes(sequential(5_000_000, 1, values=rest)) == 128 + 5_000_000 * 16
    assert working_bytes(SQUARE) == 2 * 128 + 4 * 40
    before = SQUARE.index(bytes.fromhex("01ff0000010006"))
    seams = SQUARE[:14] + b"\1" + SQUARE[15:before] + bytes.fromhex("ff0111") + SQUARE[before:]
    assert working_bytes(seams) == 2 * 128 + 6 * 40  # each corner may be a point
    endless = sequential(100_000, 2)[:17] + b"\xff" * 5000
    for data in (sequential(300, 3)[:-1], endless, SQUARE[:28]):
        with pytest.raises(CorruptDataError, match="which ends too early"):
            working_bytes(data)


@pytest.mark.parametrize("level", range(0, 11, 2))
@pytest.mark.parametrize("shape", ["ball", "soup", "holes"])
@pytest.mark.parametrize(
    ("options", "each"),
    [
        ({}, 40),
        ({"preserve_order": True}, 40),
        ({"create_metadata": True}, 40),
        ({"colors": 3}, 40 + 3 * 9 + 4),
    ],
)
def test_attributes_are_found_behind_any_connectivity(shape, level, options, each, rng):
    points, faces = ball(30)
    if shape == "soup":
        faces = rng.permuted(faces, axis=0)
        faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    if shape == "holes":
        faces = faces[rng.random(len(faces)) < 0.7]
    if "colors" in options:
        options = {"colors": rng.integers(0, 255, (len(points), 3)).astype(np.uint8)}
    data = bytes(DracoPy.encode(points, faces, compression_level=level, **options))
    claimed, header = working_bytes(data), read_header(data)
    if claimed is None:  # symbols by their lengths, of few: seen of soups alone
        assert shape == "soup"
        assert draco.decode(data)[1].shape == faces.shape
        return
    count, rest = divmod(claimed - 128 * header.faces, each)
    assert rest == 0
    assert count >= len(DracoPy.decode(data).points)


def test_symbols_by_their_lengths_are_decoded_elsewhere(monkeypatch):
    points, faces = ball()
    data = draco.encode(points, faces)
    right = draco.decode(data)
    monkeypatch.setattr(draco, "working_bytes", lambda data: None)
    monkeypatch.setattr(DracoPy, "decode", None)
    for found, expected in zip(draco.decode(data), right, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
    assert found.flags.writeable


def test_forms_that_cannot_be_stepped_over():
    known = SQUARE.index(bytes.fromhex("00011fff"))
    assert working_bytes(SQUARE[:11] + b"\1" + SQUARE[12:]) is None  # predictive
    tagged = SQUARE[:11] + b"\2" + SQUARE[12:known] + bytes.fromhex("00 ff0111 02 00")
    assert working_bytes(tagged + bytes(20)) is None
    coded = b"DRACO\2\2\1\0\0\0" + varint(1) + varint(3) + b"\0"
    assert working_bytes(coded + b"\0" + bytes(50)) is None
    frequencies = varint(70) + bytes([63 << 2 | 3, 1, 5, 2, 5, 5, 3, 3, 3, 0])
    raw = b"\1\3" + frequencies + varint(2) + b"xx"
    claim = b"\1\1\0\6\3\0\0\1"
    assert working_bytes(coded + raw + claim) == 128 + 3 * 40


@pytest.mark.parametrize("components", [3, 255])
def test_a_few_bytes_take_no_gigabytes(components):
    """Below the bound they are decoded here; above it elsewhere, as little as that may take."""
    warm_up = "from xprecomputed.codecs import draco; import sys, DracoPy; data = b''"
    code = """
data = sys.stdin.buffer.read()
try:
    draco.decode(data)
except ValueError as error:
    assert "not draco encoded" in str(error) or "bad_alloc" in str(error), error
else:
    raise AssertionError
"""
    each = components * 12 + 4
    for points in (draco.HERE_BYTES // each - 9, draco.HERE_BYTES // each + 9, 5_000_000):
        data = sequential(points, components, values=bytes(8000))
        assert read_header(data).points == points
        assert peak_bytes(warm_up, code, stdin=data) < draco.HERE_BYTES


def test_a_large_mesh_is_decoded_elsewhere(monkeypatch):
    points = np.arange(1 << 20, dtype=np.float32).reshape(-1, 1) + np.zeros(3, np.float32)
    data = sequential(1 << 20, 3, values=points.tobytes())
    monkeypatch.setattr(draco, "HERE_BYTES", 1 << 20)
    positions, faces = draco.decode(data)
    np.testing.assert_array_equal(positions, points)
    assert (positions.dtype, faces.tolist()) == (np.float32, [[0, 0, 0]])


def test_metadata_cannot_be_endless():
    def metadata(*entries):
        return SQUARE[:9] + b"\0\x80" + b"".join(entries) + SQUARE[11:]

    one = varint(1) + b"\1a" + b"\1b"  # one entry: name and value
    assert read_header(metadata(b"\0", one, b"\0")).faces == 2
    assert read_header(metadata(b"\1\7", one, b"\1", one, b"\0", one, b"\0")).faces == 2
    with pytest.raises(CorruptDataError, match="more than 1000 entries of metadata"):
        read_header(metadata(b"\0", varint(0), varint(5000)))
    with pytest.raises(CorruptDataError, match="more than 1000 entries|ends too early"):
        read_header(metadata(b"\0", varint(2**31), bytes(5000)))


def test_a_face_without_its_vertex(monkeypatch):
    mesh = DracoPy.decode(SQUARE)

    class Broken:
        points, faces = mesh.points[:3], mesh.faces

    monkeypatch.setattr(DracoPy, "decode", lambda data: Broken)
    with pytest.raises(CorruptDataError, match="a face of vertex 3, there are 3"):
        draco.decode(SQUARE)
    Broken.faces = mesh.faces[:1]
    with pytest.raises(CorruptDataError, match="of 1 faces, its header told 2"):
        draco.decode(SQUARE)
    Broken.points = mesh.points[:, :2]
    with pytest.raises(CorruptDataError, match=r"positions of shape \(4, 2\)"):
        draco.decode(SQUARE)


@pytest.mark.parametrize(
    ("points", "faces", "message"),
    [
        ([[0, 0, 0]], np.zeros((0, 3), int), "a mesh without faces has no form in Draco"),
        ([[0, 0, 0.5]] * 3, [[0, 1, 2]], "positions of shape .* float64"),
        ([[0, 0]] * 3, [[0, 1, 2]], r"positions of shape \(3, 2\)"),
        ([[0, 0, -1]] * 3, [[0, 1, 2]], "positions from -1 to 0"),
        ([[0, 0, 2**24]] * 3, [[0, 1, 2]], "positions from 0 to 16777216"),
        ([[0, 0, 0]] * 3, [[0, 1, 3]], "a face names vertex 3 of 3"),
        ([[0, 0, 0]] * 3, [[0, 1, -1]], "faces from -1 to 1"),
        ([[0, 0, 0]] * 3, [[0, 0, 0]], "DracoPy cannot encode 3 vertices and 1 faces"),
    ],
)
def test_what_cannot_be_encoded(points, faces, message):
    with pytest.raises(ValueError, match=message):
        draco.encode(points, faces)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "xprecomputed\[mesh\]"'):
        draco.decode(SQUARE)
