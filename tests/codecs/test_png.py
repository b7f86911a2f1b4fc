"""png against libpng (imagecodecs), in both directions, and files made by hand.

Where the kernels are, libpng is asked for nothing of a plain PNG: `alone` makes sure of it.
"""

import struct
import tracemalloc
import zlib
from itertools import pairwise

import imagecodecs
import numpy as np
import pytest
from cloudvolume import chunks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.images import labels, noise, smooth
from xprecomputed import CorruptDataError, jit
from xprecomputed.codecs import ChunkSpec, png
from xprecomputed.codecs.png import Png

TYPES = [(dtype, channels) for dtype in ("u1", "<u2") for channels in (1, 2, 3, 4)]
COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}
either_path_for_all = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def alone(monkeypatch):
    """Nothing is left to libpng."""

    def refuse(*arguments):
        raise AssertionError("libpng was asked")

    monkeypatch.setattr(png, "_pixels_of_libpng", refuse)


def spec(array):
    return ChunkSpec(array.shape, array.dtype)


def as_image(array, width=None):
    """A chunk as libpng's image; rows of `width` pixels."""
    pixels = np.moveaxis(array, 0, -1)
    image = np.ascontiguousarray(pixels.reshape(-1, width or array.shape[-1], array.shape[0]))
    return image[..., 0] if array.shape[0] == 1 else image


def of_libpng(image, level=6):
    return bytes(imagecodecs.png_encode(image, level, out=2 * image.nbytes + 9999))


def piece(kind, body, checksum=None):
    checksum = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def pieces(data):
    """(kind, body) of the chunks of a PNG."""
    at = 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def rows_of(data):
    """The rows of a PNG, each behind its filter, as one string."""
    return zlib.decompress(b"".join(body for kind, body in pieces(data) if kind == b"IDAT"))


def header(width, height, itemsize, channels, filters=0, interlaced=0):
    fields = width, height, 8 * itemsize, COLOUR[channels], 0, filters, interlaced
    return b"\x89PNG\r\n\x1a\n" + piece(b"IHDR", struct.pack(">IIBBBBB", *fields))


def hand_made(rows, width, height, itemsize, channels, before=b"", after=b"", cuts=()):
    """A PNG of filtered `rows`; its stream is cut into IDATs at `cuts`."""
    stream = zlib.compress(bytes(rows))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return b"".join((
        header(width, height, itemsize, channels), before,
        *(piece(b"IDAT", stream[a:b]) for a, b in pairwise(edges)),
        after, piece(b"IEND", b""),
    ))  # fmt: skip


def filtered(image, kinds):
    """The rows of big-endian `image` (height, width, bytes of a pixel), as the specification says."""
    height, width, step = image.shape
    rows = bytearray()
    flat = np.zeros((height + 1, (width + 1) * step), int)
    flat[1:, step:] = image.reshape(height, -1)
    for r, kind in enumerate(kinds, 1):
        rows.append(kind)
        for i in range(step, flat.shape[1]):
            a, b, c = int(flat[r, i - step]), int(flat[r - 1, i]), int(flat[r - 1, i - step])
            paeth = min(
                (a, b, c), key=lambda near, p=a + b - c: abs(p - near)
            )  # the first of several
            rows.append((int(flat[r, i]) - (0, a, b, (a + b) // 2, paeth)[kind]) % 256)
    return bytes(rows)


# ---- decoding


@pytest.mark.parametrize(("dtype", "channels"), TYPES)
def test_each_filter_after_each_other(either_path, dtype, channels):
    """All pairs of filters, with few values (Paeth's predictions tie) and with many."""
    # every filter follows every filter, and is the first and the last of a run of pairs
    kinds = [k for a in range(5) for b in range(5) for k in (a, b)] + [4, 3, 4, 3, 3, 0]
    for most in (3, 256):
        rng = np.random.default_rng(most)
        top = most if dtype == "u1" else most * most - 1
        array = rng.integers(0, top, (channels, len(kinds), 1, 11)).astype(dtype)
        image = np.moveaxis(array, 0, -1).astype(np.dtype(dtype).newbyteorder(">"))
        raw = np.ascontiguousarray(image).view("u1").reshape(len(kinds), 11, -1)
        data = hand_made(filtered(raw, kinds), 11, len(kinds), array.itemsize, channels)
        np.testing.assert_array_equal(imagecodecs.png_decode(data), as_image(array))
        np.testing.assert_array_equal(Png().decode(data, spec(array)), array)


@either_path_for_all
@given(
    st.sampled_from(TYPES),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.booleans(),
    st.integers(0, 2**32),
    st.lists(st.integers(0, 400), max_size=5),
    st.lists(st.sampled_from(sorted(png.REMARKS)), max_size=2),
)
def test_any_rows_are_what_libpng_makes_of_them(
    either_path, kind, shape, turned, seed, cuts, names
):
    """Any bytes behind any filters are an image; in any number of IDATs, some of them empty."""
    dtype, channels = kind
    z, y, x = shape
    width, height = (x * y, z) if turned else (x, y * z)
    rng = np.random.default_rng(seed)
    step = channels * np.dtype(dtype).itemsize
    rows = rng.integers(0, 256, (height, 1 + width * step), "u1")
    rows[:, 0] = rng.integers(0, 5, height)
    remarks = b"".join(piece(name, b"Title\0of no use") for name in names)
    data = hand_made(rows, width, height, step // channels, channels, remarks, remarks, cuts)
    chunk = ChunkSpec((channels, *shape), np.dtype(dtype))
    expected = imagecodecs.png_decode(data).reshape(*shape, channels)
    decoded = Png().decode(data + b"what follows the end", chunk)
    assert decoded.dtype == chunk.dtype
    np.testing.assert_array_equal(decoded, np.moveaxis(expected, -1, 0))
    np.testing.assert_array_equal(Png().decode(memoryview(data), chunk), decoded)


@pytest.mark.parametrize(("dtype", "channels"), TYPES)
@pytest.mark.parametrize("source", ["libpng", "ours", "many IDATs"])
def test_plain_ones_are_decoded_without_libpng(alone, dtype, channels, source):
    array = noise((channels, 4, 8, 16), dtype)
    data = Png().encode(array) if source == "ours" else of_libpng(as_image(array))
    if source == "many IDATs":
        after = piece(b"tIME", bytes(7))
        sizes = array.itemsize, channels
        data = hand_made(rows_of(data), 16, 32, *sizes, after, after, range(0, 500, 7))
    np.testing.assert_array_equal(Png().decode(data, spec(array)), array)


@pytest.mark.parametrize(("dtype", "channels"), TYPES)
@pytest.mark.parametrize("width", [6, 30, 5, 120, 1])
def test_any_part_goes_to_where_it_belongs(either_path, dtype, channels, width):
    """`width` pixels a row: those of x, of x and y, or across them."""
    array = noise((channels, 4, 5, 6), dtype)
    data = of_libpng(as_image(array, width))
    whole = spec(array).whole
    for region in (whole, (whole[0], slice(1, 3), slice(0, 5), slice(2, 6))):
        extent = [each.stop - each.start for each in region]
        for spacing in (1, 2):
            backing = np.zeros([2 * n for n in extent], dtype)
            view = backing[tuple(slice(n // 2, n // 2 + n) for n in extent)]
            out = view[..., ::-spacing] if spacing == 1 else backing[:, ::2, ::2, ::2][: extent[0]]
            Png().decode_into(data, spec(array), region, out)
            np.testing.assert_array_equal(out, array[region])
            out[...] = 0
            assert not backing.any(), "wrote outside of its destination"


@pytest.mark.parametrize("dtype", ["u1", "<u2"])
def test_a_chunk_costs_one_array_beside_the_destination(alone, dtype):
    array = noise((1, 32, 64, 128), dtype)
    data = Png().encode(array)
    out = np.zeros((1, 64, 128, 128), dtype)[:, 10:42, 20:84]
    Png().decode_into(data, spec(array), spec(array).whole, out)
    np.testing.assert_array_equal(out, array)
    tracemalloc.start()
    try:
        Png().decode_into(data, spec(array), spec(array).whole, out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.1 * array.nbytes


# ---- what only libpng knows, and damage


def interlaced(image):
    """The seven passes of an interlaced PNG of 8-bit gray `image`."""
    height, width = image.shape
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2),
              (0, 2, 1, 2), (1, 2, 0, 1)]  # fmt: skip
    parts = (image[y::dy, x::dx] for y, dy, x, dx in passes)
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    fields = piece(b"IDAT", zlib.compress(rows)), piece(b"IEND", b"")
    return b"".join((header(width, height, 1, 1, interlaced=1), *fields))


IMAGE = noise((1, 3, 4, 8), "u1")
ROWS = rows_of(of_libpng(as_image(IMAGE)))
STREAM = zlib.compress(ROWS)


@pytest.mark.parametrize("width", [8, 1])
def test_interlaced_ones_are_left_to_libpng(either_path, width):
    """Those of one column have as many bytes as if they were not."""
    array = np.ascontiguousarray(IMAGE[..., :width])
    data = interlaced(as_image(array))
    np.testing.assert_array_equal(Png().decode(data, spec(array)), array)


def test_a_palette_beside_colours_and_unknown_remarks_change_nothing(either_path):
    array = noise((3, 3, 4, 8), "u1")
    rows = rows_of(of_libpng(as_image(array)))
    for extra in (piece(b"PLTE", bytes(12)), piece(b"prVt", b"?"), piece(b"bKGD", bytes(6))):
        data = hand_made(rows, 8, 12, 1, 3, extra)
        np.testing.assert_array_equal(Png().decode(data, spec(array)), array)


@pytest.mark.parametrize(
    "data",
    [
        hand_made(ROWS, 8, 12, 1, 1, before=piece(b"tRNS", b"\0\1")),
        hand_made(ROWS, 8, 12, 1, 1, before=piece(b"PRVt", b"?")),
        hand_made(ROWS, 8, 12, 1, 1, before=header(8, 12, 1, 1)[8:]),
        hand_made(ROWS, 8, 12, 1, 1, before=piece(b"IEND", b"")),
        hand_made(ROWS[:-1], 8, 12, 1, 1),
        hand_made(b"\5" + ROWS[1:], 8, 12, 1, 1),
        hand_made(ROWS[:-9] + b"\xff" + ROWS[-8:], 8, 12, 1, 1),
        header(8, 12, 1, 1) + piece(b"IDAT", STREAM, 1) + piece(b"IEND", b""),
        header(8, 12, 1, 1) + piece(b"IDAT", STREAM[:50]) + piece(b"IEND", b""),
        header(8, 12, 1, 1) + piece(b"IDAT", b"") + piece(b"IEND", b""),
        header(8, 12, 1, 1) + piece(b"IDAT", STREAM)[:50] + piece(b"IEND", b""),
        header(8, 12, 1, 1) + piece(b"tEXt", bytes(30)) + piece(b"IEND", b""),
        header(8, 12, 1, 1) + piece(b"IDAT", STREAM)[:80],
        hand_made(ROWS, 8, 12, 1, 1)[:-4] + b"\0\0\0\0",
        # filters that PNG does not have, and rows that are interrupted
        header(8, 12, 1, 1, filters=64) + piece(b"IDAT", STREAM) + piece(b"IEND", b""),
        header(8, 12, 1, 1) + piece(b"IDAT", STREAM[:40]) + piece(b"tEXt", b"a\0b")
        + piece(b"IDAT", STREAM[40:]) + piece(b"IEND", b""),
    ],
)  # fmt: skip
def test_damage_is_an_error(either_path, data):
    with pytest.raises(CorruptDataError, match="PNG that does not decode: "):
        Png().decode(data, spec(IMAGE))


def test_damage_keeps_no_memory(either_path):
    """imagecodecs 2026.3 keeps a reference to its ``out`` for each damaged image."""
    array = np.zeros((1, 16, 64, 64), "u1")
    data = hand_made(bytes(1024 * 65 - 1), 64, 1024, 1, 1)
    tracemalloc.start()
    try:
        for _ in range(20):
            with pytest.raises(CorruptDataError, match="PNG that does not decode"):
                Png().decode(data, spec(array))
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < array.nbytes


def outcome(data):
    try:
        return Png().decode(data, spec(IMAGE)).tobytes()
    except CorruptDataError as error:
        return str(error)


@pytest.mark.parametrize("repaired", [False, True])
def test_every_damage_means_what_it_means_to_libpng(monkeypatch, repaired):
    """Each byte changed, each length cut; and the stream changed under checksums that fit."""
    text = piece(b"tEXt", b"Title\0none")
    good = hand_made(ROWS, 8, 12, 1, 1, text, text, cuts=[40])
    if repaired:
        streams = (STREAM[:i] + bytes([STREAM[i] ^ bit]) + STREAM[i + 1 :]
                   for i in range(len(STREAM)) for bit in (1, 8, 128))  # fmt: skip
        start, end = header(8, 12, 1, 1), piece(b"IEND", b"")
        damaged = [start + piece(b"IDAT", stream) + end for stream in streams]
        # more than the image needs, before and after the sum
        damaged += [hand_made(ROWS + ROWS, 8, 12, 1, 1), start + piece(b"IDAT", STREAM * 2) + end]
    else:
        changed = (good[:i] + bytes([good[i] ^ 8]) + good[i + 1 :] for i in range(len(good)))
        damaged = [*changed, *(good[:i] for i in range(len(good)))]
    found = [outcome(data) for data in damaged]
    monkeypatch.setattr(jit, "_compile", lambda kernel: None)
    for data, ours in zip(damaged, found, strict=True):
        assert ours == outcome(data)
        assert not isinstance(ours, bytes) or ours == IMAGE.tobytes()


# ---- encoding

PICTURES = {
    "noise": lambda dtype, channels: noise((channels, 8, 32, 64), dtype),
    "smooth": lambda dtype, channels: np.stack(
        [
            smooth((8, 32, 64), c).astype(dtype) * (1 if dtype == "u1" else 200)
            for c in range(channels)
        ]
    ),
    "grainy": lambda dtype, channels: (
        PICTURES["smooth"](dtype, channels) + noise((channels, 8, 32, 64), dtype) % 12
    ),
    "labels": lambda dtype, channels: labels((channels, 8, 32, 64), dtype),
    "small labels": lambda dtype, channels: labels((channels, 8, 32, 64), dtype, cell=2, count=9),
}


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("level", range(10))
def test_rows_are_libpngs_and_files_are_not_longer(picture, level):
    ours, theirs = [], []
    for dtype, channels in TYPES:
        array = PICTURES[picture](dtype, channels)
        image = as_image(array)
        data, expected = Png(level).encode(array), of_libpng(image, level)
        np.testing.assert_array_equal(imagecodecs.png_decode(data), image)
        assert rows_of(data) == rows_of(expected)
        assert data == Png(level).encode(array)
        ours.append(len(data))
        theirs.append(len(expected))
    # made pictures of a few kilobytes vary more than real ones
    assert sum(ours) < 1.02 * sum(theirs)
    assert max(np.divide(ours, theirs)) < (1.1 if "labels" in picture else 1.02)


@either_path_for_all
@given(
    st.sampled_from(TYPES),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.integers(0, 9),
    st.sampled_from([2, 5, 256, 65536]),
    st.integers(0, 2**32),
)
def test_libpng_reads_everything(either_path, kind, shape, level, values, seed):
    dtype, channels = kind
    rng = np.random.default_rng(seed)
    array = rng.integers(0, min(values, np.iinfo(dtype).max + 1), (channels, *shape)).astype(dtype)
    data = Png(level).encode(array)
    np.testing.assert_array_equal(
        np.squeeze(imagecodecs.png_decode(data)), np.squeeze(as_image(array))
    )
    np.testing.assert_array_equal(Png().decode(data, spec(array)), array)
    assert len(data) <= Png().max_encoded_bytes(spec(array))


def test_cloudvolume_reads_it(either_path):
    array = noise((1, 8, 16, 24), "u1")
    found = chunks.decode(Png().encode(array), "png", shape=array.shape[::-1], dtype="uint8")
    np.testing.assert_array_equal(found.T, array)


def test_chunks_of_a_file(monkeypatch):
    array = noise((1, 8, 16, 24), "u1")
    assert [kind for kind, _ in pieces(Png().encode(array))] == [b"IHDR", b"IDAT", b"IEND"]
    monkeypatch.setattr(png, "MAX_IDAT", 1000)
    data = Png().encode(array)
    sizes = [len(body) for kind, body in pieces(data) if kind == b"IDAT"]
    assert len(sizes) > 3
    assert set(sizes[:-1]) == {1000}
    np.testing.assert_array_equal(imagecodecs.png_decode(data), as_image(array))
    np.testing.assert_array_equal(Png().decode(data, spec(array)), array)


def test_without_libdeflate_libpng_does_everything(monkeypatch):
    class Absent:
        available = False

    array = noise((3, 4, 8, 16), "<u2")
    monkeypatch.setattr(imagecodecs, "DEFLATE", Absent)
    monkeypatch.setattr(imagecodecs, "deflate_encode", None)
    monkeypatch.setattr(imagecodecs, "deflate_decode", None)
    data = Png().encode(array)
    assert data == of_libpng(as_image(array))
    np.testing.assert_array_equal(Png().decode(data, spec(array)), array)
