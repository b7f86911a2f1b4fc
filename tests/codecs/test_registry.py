import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import numpy as np
import pytest

from xprecomputed import UnsupportedEncodingError, VolumeInfo, encodings, jit
from xprecomputed.codecs import codec_for, registry
from xprecomputed.codecs.raw import Raw


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
    assert set(encodings()) >= {"raw", "jpeg", "png", "compressed_segmentation", "compresso"}


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


@dataclass(frozen=True)
class Inverted(Raw):
    """A third party's encoding."""

    name: ClassVar[str] = "inverted"

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
