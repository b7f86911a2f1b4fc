"""What is written: readable by the peers, the same bytes every time, refused where it cannot be."""

import warnings

import compressed_segmentation
import compresso
import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.images import labels, noise, smooth
from xprecomputed import UnsupportedEncodingError, open_store
from xprecomputed.codecs import ChunkSpec
from xprecomputed.codecs import compressed_segmentation as module
from xprecomputed.codecs._cseg_encode_kernel import encode_channel
from xprecomputed.codecs.compressed_segmentation import CompressedSegmentation
from xprecomputed.codecs.compresso import Compresso
from xprecomputed.codecs.image import Jpeg
from xprecomputed.codecs.png import Png
from xprecomputed.codecs.raw import Raw
from xprecomputed.jit import compiled
from xprecomputed.testing import write_volume

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    cloudvolume_chunks = pytest.importorskip("cloudvolume.chunks")
    tensorstore = pytest.importorskip("tensorstore")

LABELS = ["<u4", "<u8"]
BLOCKS = [(8, 8, 8), (4, 2, 1), (16, 16, 2), (3, 5, 7), (1, 1, 1), (64, 32, 32)]


def spec(array):
    return ChunkSpec(array.shape, array.dtype)


def package(array, block):
    """The public package's stream of one channel (z, y, x)."""
    return compressed_segmentation.compress(np.asfortranarray(array.T), block_size=block, order="F")


def laid_out(array):
    """The same voxels with every kind of strides and byte order."""
    spaced = np.zeros([2 * n for n in array.shape], array.dtype)
    spaced[tuple(slice(None, None, 2) for _ in array.shape)] = array
    readonly = array.copy()
    readonly.flags.writeable = False
    return {
        "C": array,
        "F": np.asfortranarray(array),
        "transposed": np.ascontiguousarray(array.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
        "spaced": spaced[tuple(slice(None, None, 2) for _ in array.shape)],
        "reversed": np.ascontiguousarray(array[:, ::-1, :, ::-1])[:, ::-1, :, ::-1],
        "readonly": readonly,
        "native": array.astype(array.dtype.newbyteorder("=")),
        "big-endian": array.astype(array.dtype.newbyteorder(">")),
    }


CASES = [
    *[(Raw(), dtype, c) for dtype in ("u1", "<u2", "<u4", "<u8", "<f4") for c in (1, 3)],
    *[(Jpeg(), "u1", c) for c in (1, 3)],
    *[(Png(), dtype, c) for dtype in ("u1", "<u2") for c in (1, 2, 3, 4)],
    *[(CompressedSegmentation((8, 8, 8)), dtype, c) for dtype in LABELS for c in (1, 3)],
    *[(Compresso(), dtype, 1) for dtype in ("u1", "<u2", "<u4", "<u8")],
]
SHAPES = [(1, 1, 1), (1, 1, 9), (9, 1, 1), (5, 9, 17)]


@pytest.mark.parametrize(("codec", "dtype", "channels"), CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_any_strides_and_byte_order_give_the_same_bytes(either_path, codec, dtype, channels, shape):
    lossy = isinstance(codec, Jpeg)
    make = smooth if lossy else labels if codec.name.startswith("compress") else noise
    array = np.stack(
        [make(shape, seed=c) if lossy else make(shape, dtype, c) for c in range(channels)]
    )
    data = codec.encode(array)
    assert isinstance(data, bytes | memoryview)
    assert len(data) <= codec.max_encoded_bytes(spec(array))
    for kind, other in laid_out(array).items():
        np.testing.assert_array_equal(other, array)
        assert codec.encode(other) == data, kind
    decoded = codec.decode(data, spec(array))
    np.testing.assert_allclose(decoded.astype(float), array, atol=40 if lossy else 0)
    if not lossy:
        np.testing.assert_array_equal(decoded, array)


# ---- what the peers make of it


def ts_read(path):
    store = tensorstore.open(
        {
            "driver": "neuroglancer_precomputed",
            "kvstore": {"driver": "file", "path": str(path)},
        },
        open=True,
        read=True,
    ).result()
    return store.read().result().T  # channel, z, y, x


@pytest.mark.parametrize(
    ("encoding", "dtype", "channels"),
    [
        *[("raw", dtype, 2) for dtype in ("uint8", "int16", "uint32", "uint64", "float32")],
        *[("png", dtype, c) for dtype in ("uint8", "uint16") for c in (1, 2, 3, 4)],
        *[("compressed_segmentation", dtype, c) for dtype in ("uint32", "uint64") for c in (1, 2)],
    ],
)
def test_tensorstore_reads_it(either_path, tmp_path, encoding, dtype, channels):
    make = labels if encoding.startswith("compressed") else noise
    array = np.stack([make((21, 18, 35), dtype, seed=c) for c in range(channels)])
    path = write_volume(str(tmp_path), [array], chunk_size=(16, 16, 16), encoding=encoding)
    np.testing.assert_array_equal(ts_read(path), array)


@pytest.mark.parametrize("channels", [1, 3])
def test_tensorstore_sees_the_same_jpeg(tmp_path, channels):
    array = np.stack([smooth((16, 16, 32), c) for c in range(channels)])
    path = write_volume(str(tmp_path), [array], chunk_size=(16, 16, 16), encoding="jpeg")
    ours = open_store(path).read(((0, 0, 0), (32, 16, 16)))
    # libjpegs may round differently
    assert np.abs(ts_read(path).astype(int) - ours).max() <= 2


@pytest.mark.parametrize("dtype", LABELS)
@pytest.mark.parametrize("block", BLOCKS)
def test_cloudvolume_reads_compressed_segmentation(either_path, dtype, block):
    array = labels((1, 13, 9, 18), dtype, cell=2)
    data = CompressedSegmentation(block).encode(array)
    found = cloudvolume_chunks.decode(
        data, "compressed_segmentation", shape=(18, 9, 13, 1), dtype=dtype, block_size=block
    )
    np.testing.assert_array_equal(found.T, array)


@given(
    st.tuples(*[st.integers(1, 24)] * 3),
    st.sampled_from(["u1", "<u2", "<u4", "<u8"]),
    st.sampled_from([1, 2, 5]),
    st.integers(1, 250),
)
def test_cloudvolume_and_the_package_read_compresso(shape, dtype, cell, count):
    array = labels((1, *shape), dtype, cell=cell, count=count)
    data = Compresso().encode(array)
    np.testing.assert_array_equal(compresso.decompress(data).T, array[0])
    found = cloudvolume_chunks.decode(data, "compresso", shape=(*shape[::-1], 1), dtype=dtype)
    np.testing.assert_array_equal(found.T, array)


def test_compresso_too_long_for_its_header_is_refused():
    longest = np.zeros((1, 1, 1, 65535), "u1")
    assert Compresso().decode(Compresso().encode(longest), spec(longest)).shape == longest.shape
    for shape in ((1, 1, 1, 65536), (1, 1, 65536, 1), (1, 65536, 1, 1)):
        with pytest.raises(
            UnsupportedEncodingError, match="no side may exceed 65535: use smaller chunks"
        ):
            Compresso().encode(np.zeros(shape, "u1"))


# ---- parameters


def test_jpeg_quality_is_used():
    array = smooth((1, 16, 32, 32))
    errors, sizes = [], []
    for quality in (0, 40, 100):
        data = Jpeg(quality).encode(array)
        sizes.append(len(data))
        errors.append(np.abs(Jpeg().decode(data, spec(array)).astype(int) - array).max())
    assert sizes == sorted(set(sizes))
    assert errors == sorted(errors, reverse=True)


def test_png_level_is_used():
    array = smooth((1, 16, 32, 32))
    pixels = array.reshape(16 * 32, 32)
    sizes = {level: len(Png(level).encode(array)) for level in range(10)}
    assert sizes[0] > pixels.nbytes > sizes[1] > sizes[9]
    for level in range(10):
        found = imagecodecs.png_decode(Png(level).encode(array))
        np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("dtype", ["u1", "<u2"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("level", [0, 6, 9])
def test_png_of_narrow_noise(dtype, channels, level):
    """imagecodecs 2026.3 reserves too few bytes for it."""
    for height in (1, 103, 504, 2136, 40_000):
        array = noise((channels, 1, height, 1), dtype, seed=height)
        np.testing.assert_array_equal(Png().decode(Png(level).encode(array), spec(array)), array)


@pytest.mark.parametrize("shape", [(1, 1001, 1000, 1), (1, 1, 1, 1_000_001)])
def test_png_too_long_for_its_library_is_refused(shape):
    array = np.zeros(shape, "u1")
    with pytest.raises(
        UnsupportedEncodingError, match="png: .* no side may exceed 1000000: use smaller chunks"
    ):
        Png().encode(array)


# ---- the kernel of compressed_segmentation


def test_cseg_example_of_the_format_reference(either_path):
    array = np.array([[[[3, 3, 3, 8], [3, 3, 8, 8]]]], "<u4")
    expected = np.array([1, 4, 4, 0x01000006, 5, 3, 0b1110, 3, 8], "<u4").tobytes()
    assert CompressedSegmentation((2, 2, 1)).encode(array) == expected


@pytest.mark.parametrize("block", [(2, 1, 1), (8, 1, 1)])
def test_cseg_tables_ascend_are_shared_and_padding_is_zero(either_path, block):
    # three blocks; the first and the last have the table {1, 2**40}, the last is clipped
    width = block[0]
    row = np.full(2 * width + 2, 5, "<u8")
    row[:width] = [2**40, *[1] * (width - 1)]
    row[-2:] = [2**40, 1]
    words = np.frombuffer(CompressedSegmentation(block).encode(row.reshape(1, 1, 1, -1)), "<u4")
    assert words.tolist() == [
        1,  # where channel 0 begins; its own words follow
        7 | 1 << 24, 6,
        11, 11,
        7 | 1 << 24, 13,
        0b01, 1, 0, 0, 256,  # values, then the table from word 7 on
        5, 0,  # the table of the uniform block, from word 11 on
        0b01,  # values of the last block
    ]  # fmt: skip


@given(
    st.tuples(*[st.integers(1, 20)] * 3),
    st.sampled_from(BLOCKS),
    st.sampled_from(LABELS),
    st.integers(1, 400),
    st.integers(1, 4),
)
def test_cseg_equals_the_package(shape, block, dtype, count, cell):
    array = labels((1, *shape), dtype, cell=cell, count=count)
    assert CompressedSegmentation(block).encode(array) == package(array[0], block)


@pytest.mark.parametrize("dtype", LABELS)
@pytest.mark.parametrize("distinct", [1, 2, 3, 4, 5, 16, 17, 256, 257, 65536])
def test_cseg_takes_the_narrowest_indexes(either_path, rng, dtype, distinct):
    block = (64, 32, 32)
    ids = np.arange(distinct, dtype=dtype) * np.dtype(dtype).type(65537)
    array = rng.permutation(np.resize(ids, 65536)).reshape(1, 32, 32, 64)
    data = CompressedSegmentation(block).encode(array)
    bits = next(bits for bits in (0, 1, 2, 4, 8, 16) if distinct <= 1 << bits)
    assert data[7] == bits
    assert len(data) == 12 + bits * 8192 + distinct * array.itemsize
    np.testing.assert_array_equal(CompressedSegmentation(block).decode(data, spec(array)), array)
    assert data == package(array[0], block)


def test_cseg_tables_that_begin_alike_are_told_apart(rng):
    codec = CompressedSegmentation((2, 1, 1))
    for low, high in np.sort(rng.integers(0, 2**63, (300, 2)), axis=1).astype("<u8"):
        for row in ([low, high, low, low], [low, low, low, high]):
            array = np.array(row, "<u8").reshape(1, 1, 1, 4)
            assert codec.encode(array) == package(array[0], (2, 1, 1))


@pytest.mark.parametrize("dtype", LABELS)
def test_cseg_channels_are_packed_in_order(either_path, dtype):
    array = np.stack([labels((9, 10, 11), dtype, seed=c) for c in range(3)])
    streams = [package(channel, (8, 8, 8))[4:] for channel in array]
    starts = np.cumsum([3, *(len(each) // 4 for each in streams[:-1])]).astype("<u4")
    data = CompressedSegmentation((8, 8, 8)).encode(array)
    assert data == b"".join([starts.tobytes(), *streams])


def test_cseg_copies_no_array_and_holds_no_lock(monkeypatch):
    whole = labels((1, 20, 20, 20), "<u8")
    seen = []

    def spy(kernel):
        machine_code = compiled(kernel)

        def call(channel, *rest):
            seen.append(channel)
            return machine_code(channel, *rest)

        return call

    monkeypatch.setattr(module, "compiled", spy)
    part = whole[:, 3:19:2, ::-1, 4:]
    assert CompressedSegmentation().encode(part) == package(part[0], (8, 8, 8))
    assert np.shares_memory(seen[0], whole)
    assert not seen[0].flags.writeable  # or every layout is compiled twice
    assert compiled(encode_channel).targetoptions["nogil"]
    assert whole.flags.writeable


@pytest.mark.parametrize(
    ("block", "shape"), [((8, 8, 8), (190, 190, 190)), ((1, 1, 1), (1, 2**12, 2**11))]
)
def test_cseg_beyond_24_bit_offsets_is_refused(either_path, block, shape):
    with pytest.raises(
        UnsupportedEncodingError, match=r"channel of .* 24 bits: use smaller chunks"
    ):
        CompressedSegmentation(block).encode(noise((1, *shape), "<u8"))


@pytest.mark.parametrize("excess", [0, 1])
def test_cseg_of_exactly_as_many_words_as_allowed(either_path, monkeypatch, excess):
    array = labels((1, 9, 10, 11), "<u8")
    expected = package(array[0], (8, 8, 8))
    monkeypatch.setattr(module, "MAX_WORDS", len(expected) // 4 - 1 - excess)
    codec = CompressedSegmentation((8, 8, 8))
    if excess:
        with pytest.raises(UnsupportedEncodingError, match="use smaller chunks"):
            codec.encode(array)
    else:
        assert codec.encode(array) == expected


def test_cseg_never_writes_beyond_its_words():
    encode = compiled(encode_channel)
    array = labels((9, 10, 11), "<u8", cell=2)
    needed = len(package(array, (8, 8, 8))) // 4 - 1
    for length in range(needed):
        backing = np.full(needed + 300, 0xABABABAB, np.uint32)
        assert encode(array, np.array((8, 8, 8)), backing[:length]) == -1
        assert (backing[length:] == 0xABABABAB).all()


def test_cseg_real_segmentation(real_volume):
    store = open_store(real_volume)
    array = store.read(((0, 0, 0), (200, 200, 200)))
    for dtype in LABELS:
        typed = array.astype(dtype)
        for z, y, x in np.ndindex(4, 4, 4):
            chunk = typed[:, 64 * z : 64 * z + 64, 64 * y : 64 * y + 64, 64 * x : 64 * x + 64]
            data = CompressedSegmentation().encode(chunk)
            assert data == package(chunk[0], (8, 8, 8))
