"""Bytes of legacy manifests and fragments."""

import struct

import DracoPy
import numpy as np
import pytest

from tests.mesh.handmade import FRAGMENT, TRIANGLE, fragment, stream
from xprecomputed import CorruptDataError
from xprecomputed.mesh import legacy


def test_the_example_of_the_format():
    vertices, faces = legacy.decode_fragment(FRAGMENT)
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert faces.tolist() == [[0, 1, 2]]
    assert (vertices.dtype, faces.dtype) == (np.float32, np.uint32)
    assert legacy.encode_fragment(vertices, faces) == FRAGMENT


def test_empty_fragments():
    vertices, faces = legacy.decode_fragment(bytes(4))
    assert vertices.shape == faces.shape == (0, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "mesh fragment of 0 bytes"),
        (FRAGMENT[:3], "mesh fragment of 3 bytes"),
        (FRAGMENT[:-1], "after 3 vertices 11 are left"),
        (FRAGMENT + b"\0", "after 3 vertices 13 are left"),
        (FRAGMENT[:30], "after 3 vertices -10 are left"),
        (struct.pack("<I", 2**32 - 1) + bytes(24), "after 4294967295 vertices"),
        (FRAGMENT[:-4] + struct.pack("<I", 3), "a face of vertex 3 of 3"),
        (b"DRACO" + bytes(50), "Draco stream of version"),
    ],
)
def test_damaged_fragments(data, message):
    with pytest.raises(CorruptDataError, match=message):
        legacy.decode_fragment(data)


def test_draco_fragments_hold_floats():
    points = np.array([[0.25, -7, 1e5], [8000.5, 0, 0], [0, 9000, 0]], np.float32)
    vertices, faces = legacy.decode_fragment(stream(points, quantization_bits=20))
    assert vertices.dtype == np.float32
    np.testing.assert_allclose(vertices, points, atol=1e5 / 2**20)
    assert faces.tolist() == TRIANGLE.tolist()
    mesh = DracoPy.decode(stream(points))  # as the peers decode it
    np.testing.assert_array_equal(legacy.decode_fragment(stream(points))[0], mesh.points)


def test_manifests():
    assert legacy.parse_manifest(b'\xef\xbb\xbf{"fragments": ["a b:0:1"], "x": 1}', "7:0") == (
        "a b:0:1",
    )
    assert legacy.parse_manifest(legacy.encode_manifest([]), "7:0") == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "mesh manifest http://x/7:0: not JSON"),
        (b"\x1f\x8bxx", "the bytes are gzip"),
        (b"[]", "http://x/7:0: a mesh manifest is"),
        (b'{"fragments": {}}', "a mesh manifest is"),
        (b'{"fragments": ["a", 1]}', "a mesh manifest is"),
        (b'{"parts": ["a"]}', "a mesh manifest is"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_damaged_manifests(data, message):
    with pytest.raises(CorruptDataError, match=message):
        legacy.parse_manifest(data, "http://x/7:0")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../7", "a/b", "/etc/passwd", "a\\b", "C:\\x", "a\0b", "a\nb", ".lock", "a" * 1001,
     "%2e%2e", "8:0:1%00", "sub%2Fx", "a%5Cb", "%2Elock"],
)  # fmt: skip
def test_names_that_lead_elsewhere(name):
    import json

    data = json.dumps({"fragments": ["7:0:1", name]}).encode()
    with pytest.raises(CorruptDataError, match="7:0: fragment .* expected the plain name"):
        legacy.parse_manifest(data, "7:0")
    with pytest.raises(CorruptDataError, match="expected the plain name"):
        legacy.encode_manifest([name])


@pytest.mark.parametrize(
    "name",
    ["info", "8:0", "0-1_0-1_0-1.spatial", "info.gz", "8:0.gz", "8:0.br", "8:0.zst", "8:0.zstd",
     "a.spatial.gz", "info.gz.br", "%69nfo", "8%3A0", "info%2Egz"],
)  # fmt: skip
def test_names_of_other_documents(name):
    with pytest.raises(CorruptDataError, match="which names another document"):
        legacy.parse_manifest(f'{{"fragments": ["{name}"]}}'.encode(), "7:0")


@pytest.mark.parametrize("name", ["100%", "a%20b", "7:0:1.gz", "7:0:0-1_0-1_0-1.br", "%zz"])
def test_names_of_fragments(name):
    assert legacy.parse_manifest(f'{{"fragments": ["{name}"]}}'.encode(), "7:0") == (name,)


def test_names_that_are_listed_twice():
    with pytest.raises(CorruptDataError, match="7:0: fragment '7:0:1' is listed twice"):
        legacy.parse_manifest(b'{"fragments": ["7:0:1", "7:0:2", "7:0:1"]}', "7:0")
    with pytest.raises(ValueError, match="fragment 'a' is listed twice"):
        legacy.encode_manifest(["a", "a"])


def test_too_many_names(monkeypatch):
    monkeypatch.setattr(legacy, "MAX_FRAGMENTS", 2)
    with pytest.raises(CorruptDataError, match="3 fragments, at most 2"):
        legacy.parse_manifest(b'{"fragments": ["a", "b", "c"]}', "7:0")


@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("7:0:0-256_0-256_448-512", ((0, 0, 448), (256, 256, 512))),
        ("7:0:-64--32_-1-0_0-448", ((-64, -1, 0), (-32, 0, 448))),
        ("7:0:1", None),
        ("7:0:5-1_0-1_0-1", None),
        ("7:0:0-1_0-1_0-1_0-1", None),
        ("7:0:0-1_0-1_0-" + "9" * 30, None),
        ("anything", None),
    ],
)
def test_boxes_in_names(name, box):
    assert legacy.fragment_box(name) == box


def test_fragments_of_hand_and_of_ours_agree():
    points = np.arange(12, dtype=np.float32).reshape(4, 3)
    faces = np.array([[3, 2, 1], [0, 1, 2]], np.uint32)
    assert legacy.encode_fragment(points, faces) == fragment(points, faces)
