"""Malformed chunks: rows 14 to 35 and 43 of section 10 of the format reference, as one table.

Each case is tried bare and inside gzip, br and zstd, through the public codec. What no reader
can tell apart from a valid chunk is listed in `UNDETECTABLE`, with the reason.
"""

import struct
import zlib

import brotli
import numpy as np
import pytest

from tests.fuzz.samples import ENCODINGS, SHAPE, sample, samples
from tests.memory import peak_bytes
from xprecomputed import CorruptDataError, StorageError
from xprecomputed.codecs import ChunkSpec, compress, decompress
from xprecomputed.codecs.compressed_segmentation import CompressedSegmentation
from xprecomputed.codecs.png import Png

COMPRESSIONS = ("gzip", "br", "zstd")
UNDETECTABLE = {
    (16, "compressed_segmentation"): "no extents are stored; a voxel looks up some block's label",
    (30, "compressed_segmentation"): "neither block size nor data type is stored",
    (34, "fpzip"): "no length and no checksum: an error or other values, never a crash",
}


def first(encoding):
    return samples(encoding)[0]


def patched(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def other_extent(encoding):
    """The same kind of chunk, one slice thicker."""
    one = first(encoding)
    array = np.concatenate([one.decoded, one.decoded[:, -1:]], axis=1)
    return bytes(one.codec.encode(array))


def png(width, height, depth, colour):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"".join((
        b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), chunk(b"PLTE", bytes(12)),
        chunk(b"IDAT", zlib.compress(bytes(9 * height * (width + 1)))), chunk(b"IEND", b""),
    ))  # fmt: skip


Z, Y, X = SHAPE
RAW, JPEG, PNG, JXL, CSEG, COMPRESSO, CRACKLE, FPZIP, KEMPRESSED, ZFPC = map(first, ENCODINGS)
PNG16 = sample(Png(), np.zeros((1, *SHAPE), "<u2"))
MASK = (1 << 24) - 1


def cseg_words(*changes):
    """The chunk with 32-bit words changed: pairs of a position and a function of the old one."""
    words = np.frombuffer(CSEG.data, "<u4").copy()
    for at, change in changes:
        words[at] = change(int(words[at]))
    return words.tobytes()


def cases():
    """Row, sample that the chunk should be, bytes, what the error says."""
    empty = {"raw": "0 bytes for raw", "jpeg": "not a JPEG", "jxl": "not a JPEG XL",
             "compressed_segmentation": "0 bytes: a compressed_segmentation"}  # fmt: skip
    extent = {"raw": "bytes for raw", "jpeg": "pixels, expected", "png": "pixels, expected",
              "jxl": "pixels, expected", "compresso": "compresso stream of .* voxels",
              "crackle": "crackle stream of .* voxels", "fpzip": "in the shape .* expected",
              "kempressed": "in the shape .* expected", "zfpc": "in the shape .* expected"}  # fmt: skip
    for name in ENCODINGS:
        one = first(name)
        yield 15, one, b"", empty.get(name, "0 bytes are too few")
        if name in extent:
            yield 16, one, other_extent(name), extent[name]
            yield 35, one, other_extent(name), extent[name]
        # as row 17, and as row 43 where "raw" is declared
        unsigned = "not a|bytes for raw|too few|multiple of 4|first word|fpzip header"
        for row in (17, 43):
            yield row, one, compress(one.data, "gzip"), unsigned
    yield 14, RAW, RAW.data[:-1], f"{len(RAW.data) - 1} bytes for raw .* expected {len(RAW.data)}"
    yield 14, RAW, RAW.data + b"\0", f"{len(RAW.data) + 1} bytes for raw"
    for one, more in ((JPEG, "JPEG"), (PNG, "PNG"), (JXL, "JPEG XL")):
        wrong = one.codec.encode(one.decoded[..., :-1])
        yield 20, one, wrong, f"{more} of {X - 1} x {Y * Z} = {(X - 1) * Y * Z} pixels"
        for length in np.linspace(1, len(one.data) - 1, 40).astype(int).tolist():
            yield 25, one, one.data[:length], more
    for one in (JPEG, PNG, JXL):
        colour = np.concatenate([one.decoded] * 3)
        match = r"3 component\(s\), expected 1|does not decode"
        yield 21, one, one.codec.encode(colour), match
    yield 20, PNG, patched(PNG.data, 16, b"\x7f\xff\xff\xff" * 2), "pixels, expected"
    yield 22, PNG, PNG16.data, "bit depth 16, expected 8"
    yield 23, PNG16, PNG.data, "bit depth 8, expected 16"
    yield 24, PNG, png(X, Y * Z, 8, 3), r"None component\(s\), expected 1"
    for depth in (1, 2, 4):
        yield 24, PNG, png(X, Y * Z, depth, 0), f"bit depth {depth}, expected 8"
    yield from segmentation_cases()
    yield from label_cases()
    yield from float_cases()


def segmentation_cases():
    for cut in (1, 2, 3):
        yield 26, CSEG, CSEG.data[:-cut], "multiple of 4"
    for words in range(1, len(CSEG.data) // 4, 7):
        yield 27, CSEG, CSEG.data[: 4 * words], "stream|compressed_segmentation"
    yield 27, CSEG, cseg_words((1, lambda old: old | MASK)), "outside|beyond|does not fit|ends"
    yield 27, CSEG, cseg_words((2, lambda old: 2**32 - 1)), "outside|beyond|does not fit|ends"
    for bits in (3, 5, 7, 33, 64, 255):
        yield (
            28,
            CSEG,
            cseg_words((1, lambda old, b=bits: old & MASK | b << 24)),
            "bit width that is none of",
        )
    for offset in (0, 2, 2**31, 2**32 - 1):
        yield 29, CSEG, cseg_words((0, lambda old, o=offset: o)), "first word"


def label_cases():
    for at, new in ((6, b"\0\0"), (8, b"\xff\xff"), (5, b"\2"), (5, b"\10")):
        yield 31, COMPRESSO, patched(COMPRESSO.data, at, new), "compresso stream of .* voxels"
    for at, size in ((15, 8), (23, 4), (27, 8)):
        yield 32, COMPRESSO, patched(COMPRESSO.data, at, b"\xff" * size), "header asks for"
    for length in range(len(COMPRESSO.data)):
        yield 33, COMPRESSO, COMPRESSO.data[:length], "compresso"
    old = b"crkl\0" + CRACKLE.data[5:]  # no checksum guards its header
    for at, new in ((7, b"\0\0\0\0"), (15, b"\xff\xff\xff\xff"), (5, b"\x83")):
        yield 31, CRACKLE, patched(old, at, new), "crackle stream of .* voxels"
        yield 31, CRACKLE, patched(CRACKLE.data, at, new), "crackle stream of .* voxels"
    yield 31, CRACKLE, patched(CRACKLE.data, 6, b"\1"), "signed labels"
    yield 31, CRACKLE, patched(CRACKLE.data, 28, b"\0"), "crackle header whose checksum"
    yield 31, CRACKLE, patched(CRACKLE.data, 30, b"\x77"), "crackle index whose checksum"
    yield 32, CRACKLE, patched(old, 20, b"\xff\xff\xff\xff"), "header and index ask for"
    for length in range(len(CRACKLE.data)):
        yield 33, CRACKLE, CRACKLE.data[:length], "crackle"
    yield 33, CRACKLE, CRACKLE.data + b"\0", "header and index ask for"
    labels_at = 29 + 4 * Z + 4
    yield 33, CRACKLE, patched(CRACKLE.data, labels_at + 9, b"\x55"), "checksum of the labels"
    for slice_ in range(Z):
        wrong = CRACKLE.data[-4 * (Z - slice_)] ^ 1
        data = patched(CRACKLE.data, len(CRACKLE.data) - 4 * (Z - slice_), bytes([wrong]))
        yield 33, CRACKLE, data, f"the checksum of slice {slice_} is wrong"


def float_cases():
    for one in (FPZIP, KEMPRESSED):
        for length in range(28):
            yield 34, one, one.data[:length], "too few for an fpzip header"
        wrong = CODED[one.codec.name]
        for match, data in wrong.items():
            yield 35, one, data, match
    for length in range(0, len(ZFPC.data), 97):
        yield 35, ZFPC, ZFPC.data[:length], "zfpc"
    for at, new, match in (
        (4, b"\1", "not a zfpc stream"),
        (5, b"\x2c", "no float32, or a mode"),
        (5, b"\x3b", "no float32, or a mode"),
        (6, b"\xff\xff\xff\xff", "in the shape"),
        (18, b"\0\0\0\0", "parts|part at"),
        (22, b"\0", "no float32, or a mode"),
        (22, b"\x0e", "index ends|index leaves|part at|too few"),
        (23, b"\xff" * 8, "index leaves"),
        (23, b"\x20" + bytes(7), "index ends|index leaves"),
        (31, b"\xff" * 8, "index leaves"),
        (31, bytes(8), "index ends"),
        (39, b"zfq", "part at 39 begins"),
        (44, b"\xff", "part at 39 begins"),
    ):
        yield 35, ZFPC, patched(ZFPC.data, at, new), match


CODED = {
    "fpzip": {
        "float64 in the shape": samples("fpzip")[4].data,
        "not an fpzip stream|no code": b"fpx" + FPZIP.data[3:],
        "fpzip stream of version|no code": patched(FPZIP.data, 4, b"\x88"),
    },
    "kempressed": {"in the shape": FPZIP.codec.encode(KEMPRESSED.decoded[:, :-1])},
}
TABLE = list(cases())
NAMES = [f"{row}-{one.codec.name}-{number}" for number, (row, one, *_) in enumerate(TABLE)]


@pytest.mark.parametrize(("row", "one", "data", "match"), TABLE, ids=NAMES)
def test_malformed_chunks_are_refused(row, one, data, match):
    with pytest.raises(CorruptDataError, match=match):
        one.codec.decode(data, one.chunk)
    out = np.empty(one.chunk.shape, one.chunk.dtype)
    with pytest.raises(CorruptDataError, match=match):
        one.codec.decode_into(data, one.chunk, one.chunk.whole, out)
    for compression in COMPRESSIONS:
        plain = decompress(compress(data, compression), compression, 1 << 20)
        with pytest.raises(CorruptDataError, match=match):
            one.codec.decode(plain, one.chunk)


def test_the_table_has_every_row():
    rows = {row for row, *_ in TABLE} | {row for row, _ in UNDETECTABLE} | {18, 19}
    assert rows >= {*range(14, 36), 43}
    for row in (15, 17, 43):
        assert {one.codec.name for each, one, *_ in TABLE if each == row} == set(ENCODINGS)
    for row in (16, 35):
        found = {one.codec.name for each, one, *_ in TABLE if each == row}
        assert found == set(ENCODINGS) - {"compressed_segmentation"}


# ---- the layers around a chunk


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_row_18_truncated_compression(encoding, compression):
    one = first(encoding)
    packed = compress(one.data, compression)
    limit = one.codec.max_encoded_bytes(one.chunk)
    assert decompress(packed, compression, limit) == one.data
    for length in np.linspace(0, len(packed) - 1, 25).astype(int).tolist():
        with pytest.raises(CorruptDataError, match=f"truncated {compression}|zero bytes"):
            decompress(packed[:length], compression, limit)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_row_19_what_is_longer_than_any_chunk_is_refused(encoding, compression):
    one = first(encoding)
    limit = one.codec.max_encoded_bytes(one.chunk)
    bomb = compress(one.data + bytes(limit), compression)
    with pytest.raises(CorruptDataError, match=f"holds more than the {limit} bytes"):
        decompress(bomb, compression, limit)


def test_row_19_a_brotli_bomb_costs_its_window_and_no_more():
    """brotli honours its limit up to a block; the window here is the largest, of 16 MiB."""
    bomb = brotli.compress(bytes(256 << 20), quality=1, lgwin=24)
    before = "from xprecomputed.codecs import decompress, compress\n"
    before += "decompress(compress(b'x', 'br'), 'br', 1)\nbomb = sys.stdin.buffer.read()"
    code = f"""
try:
    decompress(bomb, "br", {64**3})
except ValueError as error:
    assert "more than the {64**3} bytes" in str(error), error
else:
    raise AssertionError
"""
    assert peak_bytes(before, code, stdin=bomb) < 48 << 20


@pytest.mark.parametrize("declared", COMPRESSIONS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_row_43_wrong_declarations(encoding, declared):
    one = first(encoding)
    for data in (
        one.data,
        *(compress(one.data, each) for each in COMPRESSIONS if each != declared),
    ):
        with pytest.raises(CorruptDataError, match=f"{declared} data"):
            decompress(data, declared, one.codec.max_encoded_bytes(one.chunk))


# ---- what cannot be told


def test_row_16_and_30_of_compressed_segmentation_end_within_the_process():
    one = first("compressed_segmentation")
    thick = one.codec.encode(np.concatenate([one.decoded] * 4, axis=1))
    other = CompressedSegmentation((4, 4, 4)).encode(one.decoded)
    wide = CompressedSegmentation((8, 8, 8)).encode(one.decoded.astype("<u8"))
    for data in (thick, other, wide):
        try:
            decoded = one.codec.decode(data, one.chunk)
        except CorruptDataError:
            continue
        assert decoded.shape == one.chunk.shape


@pytest.mark.parametrize("one", [FPZIP, KEMPRESSED], ids=["fpzip", "kempressed"])
def test_row_34_truncated_floats_end_in_the_helper(one):
    for length in np.linspace(28, len(one.data) - 1, 12).astype(int).tolist():
        try:
            decoded = one.codec.decode(one.data[:length], one.chunk)
        except StorageError as error:
            raise AssertionError("the helper went away for another reason") from error
        except CorruptDataError as error:
            assert "decode fpzip: " in str(error)  # noqa: PT017 - one of two outcomes
        else:
            assert decoded.shape == one.chunk.shape
    np.testing.assert_array_equal(one.codec.decode(one.data, one.chunk), one.decoded)


def test_undetectable_rows_say_why():
    assert all(reason for reason in UNDETECTABLE.values())
    assert isinstance(RAW.chunk, ChunkSpec)
