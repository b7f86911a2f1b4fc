"""Counting labels gives what decoding and counting gives, errors included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.images import labels, noise, smooth
from xprecomputed import CorruptDataError
from xprecomputed.codecs import ChunkSpec, Codec
from xprecomputed.codecs.compressed_segmentation import CompressedSegmentation
from xprecomputed.codecs.compresso import Compresso
from xprecomputed.codecs.image import Jpeg
from xprecomputed.codecs.png import Png
from xprecomputed.codecs.raw import Raw

EIGHT = CompressedSegmentation((8, 8, 8))


def spec(array):
    return ChunkSpec(array.shape, array.dtype)


def check(codec, data, array, region):
    ids, counts = codec.unique(data, spec(array), region)
    expected = np.unique(array[region], return_counts=True)
    np.testing.assert_array_equal(ids, expected[0])
    np.testing.assert_array_equal(counts, expected[1])
    assert ids.dtype == array.dtype
    assert counts.dtype == np.int64


@st.composite
def regions(draw, shape):
    bounds = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    return tuple(slice(*each) for each in bounds)


@pytest.mark.parametrize("codec", [Raw(), Png(), Jpeg(), Compresso()])
def test_every_codec_counts(codec):
    array = smooth((1, 6, 7, 8)) if codec.name == "jpeg" else noise((1, 6, 7, 8), "u1")
    data = codec.encode(array)
    array = codec.decode(data, spec(array))
    check(codec, data, array, spec(array).whole)
    check(codec, data, array, (slice(0, 1), slice(1, 5), slice(2, 7), slice(3, 4)))


@given(
    st.data(),
    st.tuples(st.integers(1, 3), *[st.integers(1, 20)] * 3),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.sampled_from(["<u4", "<u8"]),
    st.integers(1, 300),
    st.integers(1, 6),
)
def test_cseg_counts_any_box(data, shape, block, dtype, count, cell):
    array = np.stack([labels(shape[1:], dtype, c, cell, count) for c in range(shape[0])])
    codec = CompressedSegmentation(block)
    check(codec, codec.encode(array), array, data.draw(regions(shape)))


@pytest.mark.parametrize("dtype", ["<u4", "<u8"])
@pytest.mark.parametrize("block", [(8, 8, 8), (64, 32, 32), (3, 5, 7)])
def test_cseg_counts_noise_uniform_and_clipped_blocks(either_path, dtype, block):
    codec = CompressedSegmentation(block)
    # 16-bit indexes and the top bit of ids; few ids; one id
    for array in (
        noise((1, 33, 34, 65), dtype),
        labels((1, 33, 34, 65), dtype),
        np.full((2, 9, 17, 8), 7, dtype),
    ):
        data = codec.encode(array)
        check(codec, data, array, spec(array).whole)
        part = (slice(0, 1), slice(5, 9), slice(1, 16), slice(7, 8))
        check(codec, data, array, part)


def test_cseg_counts_a_table_that_repeats_a_label():
    # a table of 4 entries {9, 5, 9, 5}: legal, nobody's encoder writes it
    words = np.array([1, 2 << 24 | 3, 2, 0b11100100, 9, 5, 9, 5], "<u4").tobytes()
    chunk = ChunkSpec((1, 1, 1, 4), np.dtype("<u4"))
    ids, counts = CompressedSegmentation((4, 1, 1)).unique(words, chunk, chunk.whole)
    assert (ids.tolist(), counts.tolist()) == ([5, 9], [2, 2])


def test_cseg_counts_32_bit_indexes():
    words = np.array([1, 32 << 24 | 5, 2, 1, 0, 1, 80, 90], "<u4").tobytes()
    chunk = ChunkSpec((1, 1, 1, 3), np.dtype("<u4"))
    codec = CompressedSegmentation((3, 1, 1))
    ids, counts = codec.unique(words, chunk, chunk.whole)
    assert (ids.tolist(), counts.tolist()) == ([80, 90], [1, 2])
    with pytest.raises(CorruptDataError, match="an index beyond its lookup table"):
        codec.unique(words[:-4], chunk, chunk.whole)
    # an index far beyond 16 bits
    table = np.arange(3_000_001, dtype="<u4")
    words = np.array([1, 32 << 24 | 5, 2, 3_000_000, 0, 3_000_000], "<u4").tobytes()
    ids, counts = codec.unique(words + table.tobytes(), chunk, chunk.whole)
    assert (ids.tolist(), counts.tolist()) == ([0, 3_000_000], [1, 2])


def test_cseg_counts_without_decoding(monkeypatch):
    array = labels((1, 20, 20, 20), "<u8")
    data = EIGHT.encode(array)

    def refuse(*args):
        raise AssertionError("decoded")

    monkeypatch.setattr(CompressedSegmentation, "decode_into", refuse)
    check(EIGHT, data, array, spec(array).whole)


ARRAY = np.stack([labels((9, 10, 12), "<u8", seed, cell=3) for seed in range(2)])
DATA = EIGHT.encode(ARRAY)


def outcome(unique, data, region):
    try:
        ids, counts = unique(data, spec(ARRAY), region)
    except CorruptDataError as error:
        return str(error)
    return ids.tolist(), counts.tolist()


@given(
    st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, 40).map(lambda n: 4 * n if n > 20 else 0),
    regions(ARRAY.shape),
)
def test_mutated_streams_end_as_decoding_them_ends(changes, cut, region):
    data = bytearray(DATA)
    for place, value in changes:
        data[place] = value
    data = bytes(data[: len(data) - cut])

    def by_decoding(*args):
        return Codec.unique(EIGHT, *args)

    assert outcome(EIGHT.unique, data, region) == outcome(by_decoding, data, region)


def test_every_header_byte_mutated(rng):
    whole = spec(ARRAY).whole

    def by_decoding(*args):
        return Codec.unique(EIGHT, *args)

    ends = set()
    for place in range(140):
        for value in (0, 1, 3, 16, 32, 255, int(rng.integers(256))):
            data = bytearray(DATA)
            data[place] = value
            end = outcome(EIGHT.unique, bytes(data), whole)
            assert end == outcome(by_decoding, bytes(data), whole), (place, value)
            ends.add(end.rpartition(" has ")[2] if isinstance(end, str) else "labels")
    assert len(ends) >= 5  # labels, and the errors of headers, tables, values and indexes
