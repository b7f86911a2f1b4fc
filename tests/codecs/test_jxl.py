"""jxl against libjxl through CloudVolume's own calls, and headers made by hand."""

import sys

import imagecodecs
import numpy as np
import pytest
from cloudvolume import chunks

from tests.images import noise, smooth
from xprecomputed import CorruptDataError, UnsupportedEncodingError
from xprecomputed.codecs import ChunkSpec
from xprecomputed.codecs._jxl_header import CONTAINER, JxlHeader, read_header
from xprecomputed.codecs.jxl import Jxl

U1 = np.dtype("u1")
SPEC = ChunkSpec((1, 8, 16, 24), U1)
IMAGE = smooth((1, 8, 16, 24))


def spec(array):
    return ChunkSpec(array.shape, array.dtype)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (9, 1, 1), (5, 9, 17), (8, 16, 64)])
@pytest.mark.parametrize(
    "options",
    [{}, {"quality": 100}, {"quality": 30, "effort": 3, "decodingspeed": 2}, {"quality": 0}],
)
def test_bytes_and_values_are_those_of_cloudvolume(shape, options):
    array = smooth((1, *shape))
    codec = Jxl(**options)
    data = codec.encode(array)
    parameters = {"level": options.get("quality"), "jxl_effort": options.get("effort"),
                  "jxl_decodingspeed": options.get("decodingspeed")}  # fmt: skip
    peer = array.T.copy(order="F")
    assert data == chunks.encode(peer, "jxl", compression_params=parameters)
    assert codec.encode(np.asfortranarray(array)) == data
    decoded = codec.decode(data, spec(array))
    expected = chunks.decode(data, "jxl", shape=peer.shape, dtype=U1).T
    np.testing.assert_array_equal(decoded, expected)
    assert not codec.is_impossible(data, spec(array))
    assert len(data) <= codec.max_encoded_bytes(spec(array))
    assert codec.lossy == (codec.quality < 100)
    if not codec.lossy:
        np.testing.assert_array_equal(decoded, array)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("container", [False, True])
def test_channels_are_components_and_come_back(channels, container):
    array = noise((channels, 3, 5, 7), "u1")
    pixels = np.ascontiguousarray(np.moveaxis(array, 0, -1)).reshape(15, 7, channels)
    data = imagecodecs.jpegxl_encode(
        pixels if channels > 1 else pixels[..., 0], lossless=True, usecontainer=container
    )
    assert data.startswith(CONTAINER) == container
    np.testing.assert_array_equal(Jxl().decode(data, spec(array)), array)
    np.testing.assert_array_equal(
        Jxl(quality=100).decode(Jxl(quality=100).encode(array), spec(array)), array
    )


def test_any_width_and_height_of_the_right_number_of_pixels():
    data = imagecodecs.jpegxl_encode(IMAGE.reshape(8, 16 * 24), lossless=True)
    np.testing.assert_array_equal(Jxl().decode(data, SPEC), IMAGE)


def test_too_large_images_are_refused_before_they_fail():
    with pytest.raises(UnsupportedEncodingError, match="no side may exceed 262144"):
        Jxl().encode(np.zeros((1, 1, 1, (1 << 18) + 1), "u1"))


def bits(*fields):
    """Pairs of a value and how many bits it has, the first in the lowest bits."""
    text = "".join(format(value, f"0{count}b")[::-1] for value, count in fields)
    text += "0" * (-len(text) % 8 + 64)
    return b"\xff\x0a" + bytes(int(text[i : i + 8][::-1], 2) for i in range(0, len(text), 8))


SMALL = (1, 1), (1, 5), (0, 3), (2, 5)  # 24 x 16
METADATA = (0, 1), (0, 1)  # not as usual, no extra fields


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([*SMALL, (1, 1)], JxlHeader(24, 16)),
        ([(1, 1), (3, 5), (7, 3), (1, 1)], JxlHeader(64, 32)),
        ([(1, 1), (3, 5), (5, 3), (1, 1)], JxlHeader(56, 32)),  # 16:9, rounded down
        ([(0, 1), (0, 2), (99, 9), (0, 3), (1, 2), (4999, 13), (1, 1)], JxlHeader(5000, 100)),
        ([(0, 1), (2, 2), (99999, 18), (1, 3), (1, 1)], JxlHeader(100000, 100000)),
        ([(0, 1), (3, 2), (2**30 - 1, 30), (2, 3), (1, 1)], JxlHeader(2**30 * 12 // 10, 2**30)),
        ([*SMALL, *METADATA, (0, 1), (0, 2), (1, 1), (0, 2)], JxlHeader(24, 16)),
        ([*SMALL, *METADATA, (0, 1), (2, 2), (1, 1), (1, 2)], JxlHeader(24, 16, 12, False, 1)),
        ([*SMALL, *METADATA, (0, 1), (3, 2), (15, 6), (1, 1), (2, 2), (5, 4)],
         JxlHeader(24, 16, 16, False, 7)),
        ([*SMALL, *METADATA, (1, 1), (0, 2), (7, 4), (1, 1), (3, 2), (4000, 12)],
         JxlHeader(24, 16, 32, True, 4001)),
        ([*SMALL, (0, 1), (1, 1), (4, 3), (0, 3), (0, 1), (0, 2), (1, 1), (0, 2)],
         JxlHeader(16, 24)),
        ([*SMALL, (0, 1), (1, 1), (0, 3), (1, 1), *SMALL, (0, 2), (0, 1), (0, 2), (1, 1), (0, 2)],
         JxlHeader(24, 16)),
        ([*SMALL, (0, 1), (1, 1), (0, 3), (0, 1), (1, 1)], JxlHeader(24, 16, is_still=False)),
        ([*SMALL, (0, 1), (1, 1), (0, 3), (0, 1), (0, 1), (1, 1)],
         JxlHeader(24, 16, is_still=False)),
    ],
)  # fmt: skip
def test_headers_made_by_hand(fields, expected):
    assert read_header(bits(*fields)) == expected


def box(kind, body, size=None):
    return (len(body) + 8 if size is None else size).to_bytes(4, "big") + kind + body


def test_the_codestream_is_found_in_any_container():
    stream = Jxl(quality=100).encode(IMAGE)
    parts = box(b"jxlp", bytes(4) + stream[:1]) + box(b"jxlp", b"\x80\0\0\1" + stream[1:])
    last = box(b"jxlc", stream, size=0)
    wide = (1).to_bytes(4, "big") + b"jxlc" + (len(stream) + 16).to_bytes(8, "big") + stream
    for boxes in (parts, last, wide):
        data = CONTAINER + box(b"ftyp", b"jxl \0\0\0\0jxl ") + boxes
        np.testing.assert_array_equal(Jxl().decode(data, SPEC), IMAGE)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "not a JPEG XL image: begins $"),
        (b"\x89PNG", "not a JPEG XL image: begins 89 50"),
        (b"\xff\x0a\xf8", "JPEG XL header that is truncated"),
        (CONTAINER, "not a JPEG XL image: begins 00 00 00 0c"),
        (CONTAINER + box(b"jxlc", b"", 3), "JPEG XL box of 3 bytes at 12"),
        (CONTAINER + box(b"jxlc", b"", 99), "box of 99 bytes at 12, of which 8 are there"),
        (bits(*SMALL, (1, 1)), "JPEG XL of 24 x 16 = 384 pixels, expected 3072"),
        (bits((0, 1), (3, 2), (2**30 - 1, 30), (1, 3), (1, 1)), "pixels, expected 3072"),
    ],
)
def test_what_is_no_image_of_the_chunk_is_refused(data, match):
    with pytest.raises(CorruptDataError, match=match):
        Jxl().decode(data, SPEC)


SIZE = (1, 1), (15, 5), (0, 3), (2, 5)  # 24 x 128


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (bits(*SIZE, *METADATA, (0, 1), (2, 2)), "JPEG XL of 12-bit integer samples, expected 8"),
        (bits(*SIZE, *METADATA, (1, 1), (0, 2)), "JPEG XL of 32-bit floating-point samples"),
        (bits(*SIZE, *METADATA, (0, 1), (0, 2), (0, 1), (3, 2), (4095, 12)),
         r"JPEG XL with 4096 extra channel\(s\), expected 0"),
        (bits(*SIZE, (0, 1), (1, 1), (0, 3), (0, 1), (1, 1)), "with a preview or an animation"),
        (imagecodecs.jpegxl_encode(np.zeros((2, 128, 24), "u1"), photometric="GRAY"),
         "preview or an animation|JPEG XL that does not decode"),
        (imagecodecs.jpegxl_encode(np.zeros((128, 24, 3), "u1")), "JPEG XL that does not decode"),
        (imagecodecs.jpegxl_encode(np.zeros((128, 24), "u2")), "of 16-bit integer samples"),
    ],
)  # fmt: skip
def test_other_kinds_of_image_are_refused(data, match):
    with pytest.raises(CorruptDataError, match=match):
        Jxl().decode(data, SPEC)
    with pytest.raises(CorruptDataError, match=r"expected 1|does not decode|expected 8"):
        Jxl().decode(Jxl().encode(smooth((1, 32, 24, 4))), ChunkSpec((4, 8, 16, 24), U1))


def test_truncated_images_are_refused_at_every_length():
    for quality in (60, 100):
        data = Jxl(quality).encode(IMAGE)
        for length in range(len(data)):
            with pytest.raises(CorruptDataError, match="JPEG XL"):
                Jxl().decode(data[:length], SPEC)


def test_damaged_images_cost_no_reference():
    damaged = bytearray(Jxl().encode(IMAGE))
    damaged[40:] = bytes(len(damaged) - 40)
    before = sys.getrefcount(None)
    for _ in range(500):
        with pytest.raises(CorruptDataError, match="JPEG XL that does not decode"):
            Jxl().decode(bytes(damaged), SPEC)
    assert sys.getrefcount(None) > before - 100
