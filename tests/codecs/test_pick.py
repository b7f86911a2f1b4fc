"""Single voxels are those that decoding gives, errors included."""

import compressed_segmentation
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.images import labels, noise, smooth
from xprecomputed import CorruptDataError
from xprecomputed.codecs import ChunkSpec
from xprecomputed.codecs.compressed_segmentation import CompressedSegmentation
from xprecomputed.codecs.compresso import Compresso
from xprecomputed.codecs.image import Jpeg
from xprecomputed.codecs.png import Png
from xprecomputed.codecs.raw import Raw


def spec(array):
    return ChunkSpec(array.shape, array.dtype)


def whole(shape, count, seed=0):
    """An index of `count` voxels of all."""
    random = np.random.default_rng(seed)
    return tuple(random.integers(0, n, count) for n in shape)


@pytest.mark.parametrize(
    "codec", [Raw(), Png(), Jpeg(), Compresso(), CompressedSegmentation((8, 8, 8))]
)
def test_every_codec_picks(either_path, codec):
    dtype = "<u4" if codec.name == "compressed_segmentation" else "u1"
    array = smooth((1, 6, 7, 8)) if codec.name == "jpeg" else noise((1, 6, 7, 8), dtype)
    data = codec.encode(array)
    array = codec.decode(data, spec(array))
    region = slice(0, 1), slice(1, 5), slice(2, 7), slice(3, 8)
    index = whole((1, 4, 5, 5), 3)
    found = codec.pick(data, spec(array), region, index)
    np.testing.assert_array_equal(found, array[region][index])
    strided = slice(0, 1), slice(0, 4, 2), slice(1, 5), slice(0, 5, 3)
    found = codec.pick(data, spec(array), region, strided)
    np.testing.assert_array_equal(found, array[region][strided])


@given(
    st.tuples(st.integers(1, 2), *[st.integers(1, 40)] * 3),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.sampled_from(["<u4", "<u8"]),
    st.sampled_from([1, 2, 5, 300, 1 << 40]),
    st.integers(1, 30),
)
def test_voxels_of_compressed_segmentation(shape, block, dtype, count, points):
    make = noise if count > 300 else lambda *rest: labels(*rest, 0, 2, count)
    array = np.stack([make(shape[1:], dtype) for _ in range(shape[0])])
    codec, region = CompressedSegmentation(block), spec(array).whole
    data = codec.encode(array)
    if shape[0] == 1:  # of several channels the package may crash
        data = compressed_segmentation.compress(
            np.asfortranarray(array.T), block_size=block, order="F"
        )
    region = (slice(shape[0] - 1, shape[0]), *(slice(n // 3, n) for n in shape[1:]))
    index = whole([each.stop - each.start for each in region], points)
    found = codec.pick(data, spec(array), region, index)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array[region][index])


def test_points_go_with_planes():
    """Indexes that NumPy broadcasts."""
    array = labels((1, 20, 30, 40), "<u8")
    codec = CompressedSegmentation((8, 8, 8))
    index = (
        np.zeros((1, 1), np.int64),
        np.array([[3], [19], [0]]),
        np.array([[3, 7]]),
        np.array([[39], [1], [2]]),
    )
    found = codec.pick(codec.encode(array), spec(array), spec(array).whole, index)
    np.testing.assert_array_equal(found, array[index])


@pytest.mark.parametrize("dtype", ["<u4", "<u8"])
def test_no_bytes_lead_out_of_the_stream(dtype):
    """Whatever a word is, it is an error or what decoding says."""
    array = labels((1, 16, 16, 16), dtype)
    codec, random = CompressedSegmentation((8, 8, 8)), np.random.default_rng(0)
    good = np.frombuffer(codec.encode(array), "<u4")
    index = whole(array.shape, 60)
    refused = 0
    for _ in range(400):
        words = good.copy()
        at = random.integers(0, 17)
        words[at] = random.choice([0, 2**32 - 1, len(good), len(good) - 1, random.integers(2**32)])
        words[at] ^= np.uint32(random.choice([0, 1 << 24, 2 << 24, 16 << 24]))
        data = words[: len(good) - random.integers(0, 3)].tobytes()
        try:
            wanted = codec.decode(data, spec(array))[index]
        except CorruptDataError:
            wanted = None
        try:
            found = codec.pick(data, spec(array), spec(array).whole, index)
        except CorruptDataError:
            found = None
            refused += 1
        if wanted is not None:
            np.testing.assert_array_equal(found, wanted)
    assert refused > 100


def test_what_is_wrong_with_a_block_is_said():
    array = np.full((1, 8, 8, 8), 7, "<u4")
    index = whole(array.shape, 1)
    for header, said in (
        (3 << 24 | 2, "3|width|bits"),
        (0 << 24 | 99, "table"),
        (8 << 24 | 2, "beyond|outside|stream"),
    ):
        words = np.array([1, header, 2, 7], "<u4").tobytes()
        with pytest.raises(CorruptDataError, match=said):
            CompressedSegmentation((8, 8, 8)).pick(words, spec(array), spec(array).whole, index)


def test_an_index_beyond_the_table_is_refused_where_it_is_wanted():
    chunk = ChunkSpec((1, 1, 1, 40), np.dtype("<u4"))
    codec = CompressedSegmentation((40, 1, 1))
    words = np.array([1, 2 << 24 | 5, 2, 0b11100100, 0, 0, 9, 5], "<u4").tobytes()
    first = tuple(np.array([n]) for n in (0, 0, 0, 1))
    assert codec.pick(words, chunk, chunk.whole, first).tolist() == [5]
    with pytest.raises(CorruptDataError, match="index"):
        codec.pick(words, chunk, chunk.whole, (*first[:3], np.array([3])))
