"""Each encoding against the public packages and bytes made by hand."""

import struct
import sys
import zlib

import compressed_segmentation
import compresso
import imagecodecs
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from tests.images import labels, noise, smooth
from xprecomputed import CorruptDataError, UnsupportedEncodingError
from xprecomputed.codecs import ChunkSpec
from xprecomputed.codecs.compressed_segmentation import CompressedSegmentation
from xprecomputed.codecs.compresso import Compresso
from xprecomputed.codecs.image import Jpeg
from xprecomputed.codecs.png import Png
from xprecomputed.codecs.raw import Raw


def spec(array):
    return ChunkSpec(array.shape, array.dtype)


def part(codec, data, array):
    """Decode an odd box in the middle, into a destination with odd strides."""
    c, z, y, x = array.shape
    region = (slice(0, c), slice(z // 3, z), slice(y // 2, y - y // 4), slice(x // 3, x))
    extent = [each.stop - each.start for each in region]
    backing = np.zeros([2 * n for n in extent], array.dtype)
    out = backing[tuple(slice(n // 2, n // 2 + n) for n in extent)]
    codec.decode_into(data, spec(array), region, out)
    before = out.copy()
    out[...] = 0
    assert not backing.any(), "wrote outside of its destination"
    return before, array[region]


def assert_decodes(codec, data, array):
    decoded = codec.decode(data, spec(array))
    assert decoded.dtype == array.dtype
    np.testing.assert_array_equal(decoded, array)
    np.testing.assert_array_equal(*part(codec, data, array))
    assert len(data) <= codec.max_encoded_bytes(spec(array))
    assert not codec.is_impossible(data, spec(array))


# ---- raw


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_raw_is_the_voxels_x_fastest_channel_slowest(dtype, channels):
    array = noise((channels, 3, 4, 5), dtype)
    fortran = np.asfortranarray(array.T).tobytes("F")
    assert_decodes(Raw(), fortran, array)
    assert Raw().encode(array) == fortran


def test_raw_example_of_the_format_reference():
    data = bytes.fromhex("00000100 0a000b00 64006500 6e006f00")
    decoded = Raw().decode(data, ChunkSpec((2, 1, 2, 2), np.dtype("<u2")))
    assert decoded.tolist() == [[[[0, 1], [10, 11]]], [[[100, 101], [110, 111]]]]


def test_raw_decodes_without_a_copy():
    data = bytes(range(24))
    assert np.shares_memory(
        Raw().decode(data, ChunkSpec((1, 2, 3, 4), np.dtype("u1"))), np.frombuffer(data, "u1")
    )


@pytest.mark.parametrize("length", [0, 23, 25])
def test_raw_of_another_length_is_refused_with_both(length):
    with pytest.raises(CorruptDataError, match=rf"{length} bytes for raw uint8 .* expected 24"):
        Raw().decode(bytes(length), ChunkSpec((1, 2, 3, 4), np.dtype("u1")))


# ---- jpeg


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", ["sx, sy*sz", "sx*sy, sz"])
def test_jpeg_equals_the_library(channels, side):
    array = np.stack([smooth((8, 16, 24), c) for c in range(channels)])
    height, width = (8 * 16, 24) if side == "sx, sy*sz" else (8, 16 * 24)
    pixels = np.ascontiguousarray(np.moveaxis(array, 0, -1)).reshape(height, width, channels)
    space = "GRAY" if channels == 1 else "RGB"
    data = simplejpeg.encode_jpeg(pixels, 90, space, "444" if channels == 3 else "Gray")
    expected = np.moveaxis(simplejpeg.decode_jpeg(data, space).reshape(8, 16, 24, channels), -1, 0)
    np.testing.assert_array_equal(Jpeg().decode(data, spec(array)), expected)
    assert np.abs(expected.astype(int) - array).max() < 25


def test_jpeg_round_trip_is_close():
    array = smooth((1, 8, 16, 24))
    decoded = Jpeg(quality=95).decode(Jpeg(quality=95).encode(array), spec(array))
    assert np.abs(decoded.astype(int) - array).max() < 10


def jpeg(array):
    return Jpeg().encode(array)


def test_jpeg_that_is_not_what_the_chunk_should_be():
    gray, colour = smooth((1, 8, 16, 24)), smooth((3, 8, 16, 24))
    with pytest.raises(CorruptDataError, match="JPEG of 24 x 128 = 3072 pixels, expected 1536"):
        Jpeg().decode(jpeg(gray), ChunkSpec((1, 4, 16, 24), np.dtype("u1")))
    with pytest.raises(CorruptDataError, match=r"JPEG with 3 component\(s\), expected 1"):
        Jpeg().decode(jpeg(colour), spec(gray))
    with pytest.raises(CorruptDataError, match=r"JPEG with 1 component\(s\), expected 3"):
        Jpeg().decode(jpeg(gray), spec(colour))
    with pytest.raises(CorruptDataError, match="not a JPEG: begins 89 50"):
        Jpeg().decode(b"\x89PNG1234", spec(gray))
    for length in (2, 100, len(jpeg(gray)) // 2, len(jpeg(gray)) - 3):
        with pytest.raises(CorruptDataError, match="JPEG that does not decode"):
            Jpeg().decode(jpeg(gray)[:length], spec(gray))


def test_jpeg_too_tall_for_the_library_is_refused_before_it_fails():
    with pytest.raises(UnsupportedEncodingError, match="no side may exceed 65500"):
        Jpeg().encode(np.zeros((1, 256, 256, 2), "u1"))


# ---- png


@pytest.mark.parametrize("dtype", ["u1", "<u2"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png(dtype, channels):
    array = noise((channels, 3, 5, 7), dtype)
    pixels = np.ascontiguousarray(np.moveaxis(array, 0, -1)).reshape(15, 7, channels)
    data = imagecodecs.png_encode(pixels if channels > 1 else pixels[..., 0])
    assert_decodes(Png(), data, array)
    assert_decodes(Png(), Png().encode(array), array)


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def hand_made_png(width, height, depth, colour, rows, extra=b""):
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        + extra
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


def test_png_made_by_hand():
    data = hand_made_png(4, 2, 16, 0, b"\0" + bytes(range(8)) + b"\0" + bytes(range(8, 16)))
    decoded = Png().decode(data, ChunkSpec((1, 1, 2, 4), np.dtype("<u2")))
    assert decoded.tolist() == [
        [[[0x0001, 0x0203, 0x0405, 0x0607], [0x0809, 0x0A0B, 0x0C0D, 0x0E0F]]]
    ]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (hand_made_png(4, 3, 8, 0, b"\0\1\2\3\4" * 3), "PNG of 4 x 3 = 12 pixels, expected 8"),
        (hand_made_png(2**31 - 1, 2**31 - 1, 8, 0, b"\0" * 9), "pixels, expected 8"),
        (hand_made_png(4, 2, 16, 0, bytes(18)), "PNG of bit depth 16, expected 8"),
        (hand_made_png(4, 2, 4, 0, bytes(18)), "PNG of bit depth 4, expected 8"),
        (hand_made_png(4, 2, 8, 2, bytes(26)), r"PNG with 3 component\(s\), expected 1"),
        (
            hand_made_png(4, 2, 8, 3, bytes(10), png_chunk(b"PLTE", bytes(12))),
            r"PNG with None component\(s\), expected 1",
        ),
        (
            hand_made_png(4, 2, 8, 0, b"\0\1\2\3\4" * 2, png_chunk(b"tRNS", b"\0\1")),
            "PNG that does not decode",
        ),
        (hand_made_png(4, 2, 8, 0, b"\0\1\2\3\4" * 2)[:-30], "PNG that does not decode|too few"),
        (hand_made_png(4, 2, 8, 0, b"\0\1\2\3\4"), "PNG that does not decode"),
        (b"\x89PNG\r\n\x1a\n", "8 bytes are too few for a PNG"),
        (bytes(80), "not a PNG: begins 00 00"),
        (b"\x89PNG\r\n\x1a\n" + png_chunk(b"tEXt", bytes(60)), "first chunk is not IHDR"),
    ],
)
def test_png_that_is_not_what_the_chunk_should_be(data, match):
    with pytest.raises(CorruptDataError, match=match):
        Png().decode(data, ChunkSpec((1, 1, 2, 4), np.dtype("u1")))


def test_damaged_pngs_cost_no_reference():
    """imagecodecs 2026.3 without ``out=`` loses one to None each time, until Python aborts."""
    damaged = bytearray(hand_made_png(4, 2, 8, 0, b"\0\1\2\3\4" * 2))
    damaged[45] ^= 4
    before = sys.getrefcount(None)
    for _ in range(500):
        with pytest.raises(CorruptDataError, match="PNG that does not decode"):
            Png().decode(bytes(damaged), ChunkSpec((1, 1, 2, 4), np.dtype("u1")))
    assert sys.getrefcount(None) > before - 100


def test_8_bit_png_in_a_16_bit_volume_is_refused():
    with pytest.raises(CorruptDataError, match="PNG of bit depth 8, expected 16"):
        Png().decode(
            hand_made_png(4, 2, 8, 0, b"\0\1\2\3\4" * 2), ChunkSpec((1, 1, 2, 4), np.dtype("<u2"))
        )


# ---- compressed_segmentation

EXAMPLE = np.array(
    [1, 4, 4, 0x01000006, 5, 3, 0b1110, 3, 8], "<u4"
).tobytes()  # format reference 3.6
EXAMPLE_SPEC = ChunkSpec((1, 1, 2, 4), np.dtype("<u4"))
EXAMPLE_CODEC = CompressedSegmentation((2, 2, 1))


def test_cseg_example_of_the_format_reference(either_path):
    decoded = EXAMPLE_CODEC.decode(EXAMPLE, EXAMPLE_SPEC)
    assert decoded.tolist() == [[[[3, 3, 3, 8], [3, 3, 8, 8]]]]


@pytest.mark.parametrize("dtype", ["<u4", "<u8"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 9, 10), (16, 8, 24), (33, 17, 5)])
@pytest.mark.parametrize("block", [(8, 8, 8), (4, 2, 1), (16, 16, 2), (3, 5, 7)])
def test_cseg_equals_the_package(either_path, dtype, shape, block):
    array = labels((1, *shape), dtype)
    data = compressed_segmentation.compress(
        np.asfortranarray(array[0].T), block_size=block, order="F"
    )
    codec = CompressedSegmentation(block)
    assert_decodes(codec, data, array)
    assert codec.encode(array) == data


@pytest.mark.parametrize("dtype", ["<u4", "<u8"])
def test_cseg_with_noise_needs_the_wide_indexes(either_path, dtype):
    array = noise((1, 16, 16, 32), dtype)  # 16-bit indexes, the top bit of ids in use
    codec = CompressedSegmentation((16, 16, 16))
    assert_decodes(codec, codec.encode(array), array)


@pytest.mark.parametrize("dtype", ["<u4", "<u8"])
def test_cseg_with_several_channels(either_path, dtype):
    array = labels((3, 9, 10, 11), dtype)
    codec = CompressedSegmentation((8, 8, 8))
    assert_decodes(codec, codec.encode(array), array)


@given(
    st.tuples(*[st.integers(1, 20)] * 3),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.sampled_from(["<u4", "<u8"]),
    st.integers(1, 200),
)
def test_cseg_any_shape_and_block(shape, block, dtype, count):
    array = labels((1, *shape), dtype, cell=2, count=count)
    codec = CompressedSegmentation(block)
    assert_decodes(codec, codec.encode(array), array)


def words(*values):
    return np.array(values, "<u4").tobytes()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "0 bytes: a compressed_segmentation stream"),
        (EXAMPLE[:-1], "35 bytes: a compressed_segmentation stream has a multiple of 4"),
        (
            words(2) + EXAMPLE[4:],
            r"first word of a compressed_segmentation stream is 2, expected 1",
        ),
        (EXAMPLE[:12], "channel 0 begins at word 1: its 4 header words do not fit"),
        (words(1, 4 | 3 << 24, 4) + EXAMPLE[12:], "block 0 of channel 0 has a bit width"),
        (words(1, 4, 4, 0x01000006, 900) + EXAMPLE[20:], "block 1 of channel 0 has values that"),
        (words(1, 4, 4, 0x01000006, 2**32 - 1) + EXAMPLE[20:], "has values that reach beyond"),
        (words(1, 8, 4) + EXAMPLE[12:], "block 0 of channel 0 has a lookup table beyond"),
        (words(1, 0xFFFFFF, 4) + EXAMPLE[12:], "block 0 of channel 0 has a lookup table beyond"),
        (EXAMPLE[:-4], "block 1 of channel 0 has an index beyond its lookup table"),
    ],
)
def test_cseg_offsets_outside_are_refused(either_path, data, match):
    with pytest.raises(CorruptDataError, match=match):
        EXAMPLE_CODEC.decode(data, EXAMPLE_SPEC)
    with pytest.raises(CorruptDataError, match=match):
        EXAMPLE_CODEC.unique(data, EXAMPLE_SPEC, EXAMPLE_SPEC.whole)


def test_cseg_channel_offsets_outside_are_refused(either_path):
    array = labels((2, 4, 4, 4), "<u4")
    codec = CompressedSegmentation((4, 4, 4))
    data = bytearray(codec.encode(array))
    for offset in (0, 1, 2**31, len(data) // 4):
        data[4:8] = struct.pack("<I", offset)
        with pytest.raises(CorruptDataError, match=rf"channel 1 begins at word {offset}: its"):
            codec.decode(bytes(data), spec(array))
        with pytest.raises(CorruptDataError, match=rf"channel 1 begins at word {offset}: its"):
            codec.unique(bytes(data), spec(array), spec(array).whole)


def test_cseg_unused_padding_may_hold_anything(either_path):
    # one voxel in a block of eight; seven padding positions with an index beyond the table
    data = words(1, 0x01000003, 2, 0b11111110, 42)
    codec = CompressedSegmentation((2, 2, 2))
    assert codec.decode(data, ChunkSpec((1, 1, 1, 1), np.dtype("<u4"))).tolist() == [[[[42]]]]


def test_cseg_32_bit_indexes():
    data = words(1, (32 << 24) | 4, 2, 1, 0, 70, 80)
    data = words(1, (32 << 24) | 4, 2, 1, 0, 80)
    # channel starts at word 1: header 2 words, values at +2, table at +4
    codec, chunk = CompressedSegmentation((2, 1, 1)), ChunkSpec((1, 1, 1, 2), np.dtype("<u4"))
    with pytest.raises(CorruptDataError, match="an index beyond its lookup table"):
        codec.decode(data, chunk)
    assert codec.decode(data + words(90), chunk).tolist() == [[[[90, 80]]]]


def test_cseg_32_bit_indexes_need_numba(without_numba):
    data = words(1, (32 << 24) | 4, 2, 1, 0, 80, 90)
    with pytest.raises(UnsupportedEncodingError, match=r'pip install "xprecomputed\[fast\]"'):
        CompressedSegmentation((2, 1, 1)).decode(data, ChunkSpec((1, 1, 1, 2), np.dtype("<u4")))


def test_cseg_blocks_that_no_reader_can_be_trusted_with():
    with pytest.raises(UnsupportedEncodingError, match="more than 65536 voxels"):
        CompressedSegmentation((64, 64, 64)).encode(labels((1, 4, 4, 4), "<u4"))


# ---- compresso


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<u4", "<u8"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 9, 17), (12, 40, 33)])
@pytest.mark.parametrize("steps", [(4, 4, 1), (8, 8, 1)])
@pytest.mark.parametrize("connectivity", [4, 6])
def test_compresso_equals_the_package(either_path, dtype, shape, steps, connectivity):
    array = labels((1, *shape), dtype, cell=5)
    data = compresso.compress(
        np.asfortranarray(array[0].T),
        steps=steps,
        connectivity=connectivity,
        random_access_z_index=connectivity == 4,
    )
    assert_decodes(Compresso(), data, array)


@given(
    st.tuples(*[st.integers(1, 24)] * 3),
    st.sampled_from(["u1", "<u2", "<u4", "<u8"]),
    st.sampled_from([1, 2, 3, 7]),
    st.integers(1, 250),
    st.sampled_from([4, 6]),
)
def test_compresso_any_shape(shape, dtype, cell, count, connectivity):
    array = labels((1, *shape), dtype, cell=cell, count=count)
    data = compresso.compress(
        np.asfortranarray(array[0].T),
        connectivity=connectivity,
        random_access_z_index=connectivity == 4,
    )
    assert_decodes(Compresso(), data, array)


COMPRESSO = labels((1, 5, 9, 17), "<u4", cell=3)
COMPRESSO_DATA = compresso.compress(np.asfortranarray(COMPRESSO[0].T))


def patched(offset, fmt, value):
    data = bytearray(COMPRESSO_DATA)
    struct.pack_into(fmt, data, offset, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"cpso", "4 bytes are too few for a compresso header"),
        (b"cpsX" + COMPRESSO_DATA[4:], "not a compresso stream: begins 63 70 73 58"),
        (patched(4, "<B", 9), "not a compresso stream"),
        (patched(5, "<B", 8), "with 8-byte labels, expected .* with 4"),
        (patched(6, "<H", 18), r"compresso stream of \(18, 9, 5\) voxels .* expected \(17, 9, 5\)"),
        (patched(12, "<B", 0), r"windows of \(0, 4, 1\)"),
        (patched(12, "<B", 255), r"windows of \(255, 4, 1\)"),
        (patched(35, "<B", 5), "connectivity 5"),
        (patched(15, "<Q", 2**62), "whose header asks for"),
        (patched(23, "<I", 2**32 - 1), "whose header asks for"),
        (patched(27, "<Q", 2**63), "whose header asks for"),
        (COMPRESSO_DATA[:60], "whose header asks for"),
    ],
)
def test_compresso_headers_are_claims(either_path, data, match):
    with pytest.raises(CorruptDataError, match=match):
        Compresso().decode(data, spec(COMPRESSO))


def test_compresso_truncation_is_found_wherever_it_is():
    for cut in range(1, len(COMPRESSO_DATA)):
        with pytest.raises(CorruptDataError):
            Compresso().decode(COMPRESSO_DATA[:-cut], spec(COMPRESSO))


def stream(ids=(5,), values=(0,), locations=(), runs=(3,), size=(4, 4, 1), version=0):
    """A compresso stream by hand: u4 labels, 4x4x1 windows (2 bytes each)."""
    header = struct.pack(
        "<4sBBHHHBBBQIQB", b"cpso", version, 4, *size, 4, 4, 1,
        len(ids), len(values), len(locations), 4,
    )  # fmt: skip
    arrays = [(ids, "<u4"), (values, "<u2"), (locations, "<u4"), (runs, "<u2")]
    return header + b"".join(np.array(v, t).tobytes() for v, t in arrays)


SMALL = ChunkSpec((1, 1, 4, 4), np.dtype("<u4"))


def test_compresso_by_hand():
    # one run of one empty window: a single component with id 5
    assert (Compresso().decode(stream(), SMALL) == 5).all()
    # a window with the corner voxel as boundary, whose label is given as 9 (9 + 7)
    cornered = stream(values=(0, 1), locations=(16,), runs=(2,))
    assert Compresso().decode(cornered, SMALL)[0, 0, 0].tolist() == [9, 5, 5, 5]
    # the same with code 6 and the label behind it, and copied from +x (1) or +y (3)
    plain = stream(values=(0, 1), locations=(6, 3), runs=(2,))
    assert Compresso().decode(plain, SMALL)[0, 0, 0].tolist() == [3, 5, 5, 5]
    copied = stream(values=(0, 1), locations=(1,), runs=(2,))
    assert (Compresso().decode(copied, SMALL) == 5).all()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (stream(runs=()), "ends before all windows are known"),
        (stream(runs=(3, 3)), "describes more windows than the chunk has"),
        (stream(runs=(3, 0)), "describes more windows than the chunk has"),
        (stream(runs=(0xFFFF,)), "describes more windows than the chunk has"),
        (stream(runs=(4,)), "refers to a window value that it does not list"),
        (stream(values=(), runs=(3,)), "refers to a window value that it does not list"),
        (stream(ids=()), "another number of ids than it has components"),
        (stream(ids=(5, 6)), "another number of ids than it has components"),
        (stream(values=(0, 1), runs=(2,)), "has too few boundary locations"),
        (stream(values=(0, 1), locations=(6,), runs=(2,)), "has too few boundary locations"),
        (stream(values=(0, 1), locations=(7, 7), runs=(2,)), "more boundary locations than"),
        (stream(values=(0, 1), locations=(0,), runs=(2,)), "copies a label from outside"),
        (stream(values=(0, 1), locations=(5,), runs=(2,)), "copies a label from outside"),
        (stream(values=(0, 3), locations=(1,), runs=(2,)), "copies a label that is not known yet"),
    ],
)
def test_compresso_bodies_are_claims(data, match):
    with pytest.raises(CorruptDataError, match=match):
        Compresso().decode(data, SMALL)
