import json
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import numpy as np
import pytest

from xprecomputed import UnsupportedEncodingError, VolumeInfo, encodings, jit
from xprecomputed.codecs import codec_for, registry, scale_members
from xprecomputed.codecs.raw import Raw

FLOATS = ("fpzip", "kempressed", "zfpc")


def volume(encoding, data_type="uint8", channels=1, **scale):
    return VolumeInfo.from_json(
        {
            "type": "image",
            "data_type": data_type,
            "num_channels": channels,
            "scales": [
                {
                    "key": "s",
                    "size": [4, 4, 4],
                    "resolution": [1, 1, 1],
                    "chunk_sizes": [[4, 4, 4]],
                    "encoding": encoding,
                    **scale,
                }
            ],
        }
    )


def codec(*args, **kwargs):
    info = volume(*args, **kwargs)
    return codec_for(info, info.scales[0])


def test_the_encodings_of_this_release():
    assert set(encodings()) >= {
        "raw", "jpeg", "png", "jxl", "compressed_segmentation", "compresso", "crackle", "fpzip",
        "kempressed", "zfpc",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (("jxl2",), "unknown encoding 'jxl2', known are compressed_segmentation, compresso"),
        (("jpeg", "uint16"), "jpeg cannot hold uint16, only uint8"),
        (("jpeg", "uint8", 2), "jpeg cannot hold 2 channels, only 1, 3"),
        (("png", "float32"), "png cannot hold float32, only uint8, uint16"),
        (("png", "uint8", 5), "png cannot hold 5 channels"),
        (("compressed_segmentation", "uint16"), "cannot hold uint16, only uint32, uint64"),
        (("compresso", "int32"), "cannot hold int32"),
        (("compresso", "uint32", 2), "compresso cannot hold 2 channels, only 1"),
        (("crackle", "int32"), "crackle cannot hold int32, only uint8"),
        (("crackle", "uint32", 2), "crackle cannot hold 2 channels, only 1"),
        (("jxl", "uint16"), "jxl cannot hold uint16, only uint8"),
        (("jxl", "uint8", 2), "jxl cannot hold 2 channels, only 1, 3, 4"),
        (("fpzip", "int64"), "fpzip cannot hold int64, only float32, float64"),
        (("kempressed", "float64"), "kempressed cannot hold float64, only float32"),
        (("zfpc", "float64"), "zfpc cannot hold float64, only float32"),
        (
            ("compressed_segmentation", "uint32"),
            r"block_size is missing; .*\n(.*\n)*.*open_store\(url, info=info\)",
        ),
    ],
)
def test_what_an_encoding_cannot_carry_is_refused(args, match):
    with pytest.raises(UnsupportedEncodingError, match=match):
        codec(*args)


def test_parameters_come_from_the_scale():
    found = codec("compressed_segmentation", "uint64", compressed_segmentation_block_size=[4, 5, 6])
    assert found.block_size == (4, 5, 6)
    assert codec("jpeg", jpeg_quality=30).quality == 30
    assert codec("jpeg", jpeg_quality=0).quality == 0
    assert codec("jpeg").quality == 85
    assert codec("png", png_level=2).level == 2
    assert codec("png", png_level=0).level == 0
    assert codec("png", png_level=-1).level == codec("png").level == 6


@pytest.mark.parametrize("odd", [None, "90", -1, True, [3], float("nan")])
def test_odd_hints_for_writers_are_as_if_absent(odd):
    assert codec("jxl", jxl_quality=odd, jxl_effort=odd) == codec("jxl")
    assert codec("fpzip", "float32", fpzip_precision=odd) == codec("fpzip", "float32")
    assert codec("zfpc", "float32", zfpc_rate=odd, zfpc_tolerance=odd) == codec("zfpc", "float32")
    odd_dims = codec("zfpc", "float32", zfpc_correlated_dims=odd)
    assert odd_dims.correlated_dims == (True,) * 4


def test_what_loses_values_says_so():
    assert codec("jpeg").lossy
    assert codec("jxl").lossy
    assert codec("kempressed", "float32").lossy
    assert not codec("jxl", jxl_quality=100).lossy
    assert codec("jxl", jxl_quality=250).quality == 100  # as CloudVolume takes it
    assert not codec("fpzip", "float32").lossy
    assert codec("fpzip", "float32", fpzip_precision=20).lossy
    assert not codec("zfpc", "float32").lossy
    assert codec("zfpc", "float32", zfpc_tolerance=0).lossy
    for encoding, data_type in (("raw", "uint8"), ("png", "uint8"), ("crackle", "uint32")):
        assert not codec(encoding, data_type).lossy


@pytest.mark.parametrize(
    ("encoding", "options", "members"),
    [
        ("raw", {}, {}),
        ("compresso", {}, {}),
        ("jpeg", {}, {}),
        ("jpeg", {"quality": np.int64(100)}, {"jpeg_quality": 100}),
        ("png", {}, {}),
        ("png", {"level": 0}, {"png_level": 0}),
        ("jxl", {}, {}),
        (
            "jxl",
            {"quality": 100, "effort": 9, "decodingspeed": 0},
            {"jxl_quality": 100, "jxl_effort": 9, "jxl_decodingspeed": 0},
        ),
        ("crackle", {}, {}),
        ("kempressed", {}, {}),
        ("fpzip", {"precision": 16}, {"fpzip_precision": 16}),
        ("zfpc", {"rate": np.float32(8)}, {"zfpc_rate": 8.0}),
        ("zfpc", {"precision": 20}, {"zfpc_precision": 20}),
        (
            "zfpc",
            {"tolerance": 0.25, "correlated_dims": (True, True, True, False)},
            {"zfpc_tolerance": 0.25, "zfpc_correlated_dims": [True, True, True, False]},
        ),
        ("compressed_segmentation", {}, {"compressed_segmentation_block_size": [8, 8, 8]}),
        (
            "compressed_segmentation",
            {"block_size": np.array([64, 32, 32])},
            {"compressed_segmentation_block_size": [64, 32, 32]},
        ),
    ],
)
def test_options_become_members_of_the_scale_and_are_read_back(encoding, options, members):
    found = scale_members(encoding, options)
    assert json.loads(json.dumps(found)) == found == members
    data_type = "uint64" if encoding.startswith("compress") else "uint8"
    data_type = "float32" if encoding in FLOATS else data_type
    read = codec(encoding, data_type, **found)
    for name, value in options.items():
        assert np.array_equal(getattr(read, name), value)


@pytest.mark.parametrize(
    ("encoding", "options", "match"),
    [
        ("raw", {"quality": 3}, "raw has no encoding option 'quality', known: none"),
        ("jpeg", {"quailty": 3}, "jpeg has no encoding option 'quailty', known: quality"),
        ("png", {"png_level": 3}, "png has no encoding option 'png_level', known: level"),
        ("jpeg", {"quality": 101}, "jpeg: quality=101, expected an integer 0 to 100"),
        ("jpeg", {"quality": -1}, "jpeg: quality=-1, expected an integer 0 to 100"),
        ("jpeg", {"quality": 80.5}, "jpeg: quality=80.5, expected an integer"),
        ("jpeg", {"quality": True}, "jpeg: quality=True, expected an integer"),
        ("jpeg", {"quality": None}, "jpeg: quality=None, expected an integer"),
        ("png", {"level": 10}, "png: level=10, expected an integer 0 to 9"),
        ("jxl", {"quality": 101}, "jxl: quality=101, expected an integer 0 to 100"),
        ("jxl", {"effort": 0}, "jxl: effort=0, expected an integer 1 to 9"),
        ("jxl", {"decodingspeed": 5}, "jxl: decodingspeed=5, expected an integer 0 to 4"),
        ("fpzip", {"precision": 65}, "fpzip: precision=65, expected an integer 0 to 64"),
        ("kempressed", {"precision": 1}, "kempressed has no encoding option 'precision'"),
        ("zfpc", {"rate": 0}, "zfpc: rate=0, expected a number 1 to 64"),
        ("zfpc", {"rate": "8"}, "zfpc: rate='8', expected a number"),
        ("zfpc", {"tolerance": float("nan")}, "zfpc: tolerance=nan, expected a number 0 to"),
        ("zfpc", {"tolerance": True}, "zfpc: tolerance=True, expected a number"),
        ("zfpc", {"precision": 2.5}, "zfpc: precision=2.5, expected an integer 1 to 64"),
        ("zfpc", {"rate": 8, "tolerance": 1}, "rate and tolerance are given, expected at most one"),
        ("zfpc", {"correlated_dims": [1, 1, 1, 1]}, "expected four booleans for x, y, z, channel"),
        ("zfpc", {"correlated_dims": [True] * 3}, "expected four booleans for x, y, z, channel"),
        ("zfpc", {"correlated_dims": 3}, "expected four booleans for x, y, z, channel"),
        ("zfpc", {"correlated_dims": [False] * 4}, "all false, at least one must be true"),
        ("png", {"level": -1}, "png: level=-1, expected an integer 0 to 9"),
        (
            "compressed_segmentation",
            {"block_size": (8, 8)},
            r"block_size=\(8, 8\), expected three integers x, y, z",
        ),
        ("compressed_segmentation", {"block_size": 8}, "block_size=8, expected three integers"),
        ("compressed_segmentation", {"block_size": (8, 0, 8)}, "block_size=0, expected an integer"),
        ("compressed_segmentation", {"block_size": (8, 8.0, 8)}, "block_size=8.0, expected an int"),
        (
            "compressed_segmentation",
            {"block_size": (64, 32, 33)},
            "has 67584 voxels, expected at most 65536",
        ),
    ],
)
def test_options_that_an_encoding_does_not_have_are_refused(encoding, options, match):
    with pytest.raises(ValueError, match=match):
        scale_members(encoding, options)


def test_options_of_an_unknown_encoding():
    with pytest.raises(UnsupportedEncodingError, match="^unknown encoding 'jxl2', known are comp"):
        scale_members("jxl2", {})


@pytest.mark.parametrize("encoding", ["raw", "jpeg", "png", "compressed_segmentation", "compresso"])
def test_parameters_name_members_of_a_scale(encoding):
    scale = volume("raw").scales[0]
    for name, member in registry._codec_class(encoding).parameters.items():
        assert getattr(scale, member) is None
        assert name in registry._codec_class(encoding).__dataclass_fields__


@dataclass(frozen=True)
class Inverted(Raw):
    """A third party's encoding."""

    name: ClassVar[str] = "inverted"

    parameters: ClassVar[dict[str, str]] = {"tint": "inverted_tint"}

    def decode(self, data, chunk):
        return ~super().decode(data, chunk)


@pytest.fixture
def third_party(monkeypatch):
    def install(value):
        point = EntryPoint("inverted", value, registry.GROUP)
        monkeypatch.setattr(registry, "entry_points", lambda group: [point])
        registry._places.cache_clear()
        registry._codec_class.cache_clear()

    yield install
    monkeypatch.undo()
    registry._places.cache_clear()
    registry._codec_class.cache_clear()


def test_third_parties_plug_in_by_entry_point(third_party, monkeypatch):
    third_party("tests.codecs.test_registry:Inverted")
    assert "inverted" in encodings()
    from xprecomputed.codecs import ChunkSpec

    decoded = codec("inverted").decode(b"\xff\0", ChunkSpec((1, 1, 1, 2), np.dtype("u1")))
    assert decoded.tolist() == [[[[0, 255]]]]
    assert scale_members("inverted", {"tint": "sepia"}) == {"inverted_tint": "sepia"}


def test_an_entry_point_that_is_no_codec_is_named(third_party):
    third_party("tests.codecs.test_registry:volume")
    with pytest.raises(TypeError, match="entry point xprecomputed.codecs:inverted is .* expected"):
        codec("inverted")


def test_kernels_compile_where_nothing_can_be_cached(monkeypatch):
    numba = pytest.importorskip("numba")
    compile_kernel = numba.njit

    def njit(*args, **options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return compile_kernel(*args, **options)

    monkeypatch.setattr(numba, "njit", njit)
    assert jit._compile.__wrapped__(lambda x: x + 1)(2) == 3


def test_kernels_are_absent_where_numba_is(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert jit._compile.__wrapped__(lambda x: x) is None
