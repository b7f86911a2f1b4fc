"""Parts of jpeg chunks against libjpeg's decoding of the whole (simplejpeg, imagecodecs)."""

import struct
import threading

import imagecodecs
import numba
import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.images import noise, smooth
from xprecomputed import CorruptDataError
from xprecomputed.codecs import ChunkSpec, _images, _jpeg_crop
from xprecomputed.codecs import _jpeg_kernel as kernel
from xprecomputed.codecs._jpeg_header import read_header
from xprecomputed.codecs.image import Jpeg
from xprecomputed.jit import compiled

SPACE = {1: "GRAY", 3: "RGB"}


def grainy(shape, grain=40):
    rng = np.random.default_rng(7)
    return np.clip(smooth(shape) + rng.normal(0, grain, shape), 0, 255).astype("u1")


def as_image(array):
    channels, z, y, x = array.shape
    return np.ascontiguousarray(np.moveaxis(array, 0, -1)).reshape(z * y, x, channels)


def encoded(array, quality=85, subsampling="444"):
    channels = array.shape[0]
    subsampling = "Gray" if channels == 1 else subsampling
    return simplejpeg.encode_jpeg(as_image(array), quality, SPACE[channels], subsampling)


def spec(array):
    return ChunkSpec(array.shape, array.dtype)


def by_libjpeg(data, chunk, strict=True):
    """Every voxel; without `strict` also of damaged data, as libjpeg goes on after a fault."""
    channels, z, y, x = chunk.shape
    pixels = np.zeros((z * y, x, channels), "u1")
    try:
        simplejpeg.decode_jpeg(data, SPACE[channels], strict=strict, buffer=pixels)
    except ValueError:
        if strict:
            raise
    return np.moveaxis(pixels.reshape(z, y, x, channels), -1, 0)


def box(z, y, x, channel=slice(0, 1)):
    return channel, slice(*z), slice(*y), slice(*x)


def extent(region):
    return [each.stop - each.start for each in region]


@pytest.fixture
def loaded(monkeypatch):
    """The kernels are used from the first part on."""
    monkeypatch.setattr(_jpeg_crop, "BEFORE", -1)


@pytest.fixture
def eager(loaded, monkeypatch):
    """Every part is cut out, however small the chunk and large the part."""
    monkeypatch.setattr(_jpeg_crop, "LEAST_VOXELS", 0)
    monkeypatch.setattr(_jpeg_crop, "WORTHWHILE", float("inf"))


def voxels(cropped):
    pixels = simplejpeg.decode_jpeg(cropped.data, SPACE[cropped.shape[2]], strict=True)
    assert pixels.shape == cropped.shape
    return cropped.voxels(pixels)


# ---- the right voxels


@st.composite
def parts(draw):
    shape = (draw(st.sampled_from([1, 3])), *(draw(st.integers(1, 20)) for _ in "zyx"))
    region = []
    for length in shape:
        start = draw(st.integers(0, length - 1))
        region.append(slice(start, draw(st.integers(start + 1, length))))
    return shape, tuple(region)


@pytest.mark.parametrize("rough", [True, False])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=parts(), quality=st.integers(5, 100), seed=st.integers(0, 9))
def test_a_part_has_the_voxels_of_the_whole(rough, part, quality, seed, eager):
    shape, region = part
    array = noise(shape, "u1", seed) if rough else smooth(shape, seed)
    data = encoded(array, quality)
    cropped = _jpeg_crop.crop(data, spec(array), region)
    assert cropped is not None
    np.testing.assert_array_equal(voxels(cropped), by_libjpeg(data, spec(array))[region])


def with_own_tables(array):
    """A JPEG with codes for the symbols that it has, and no others."""
    pixels = as_image(array)
    pixels = pixels[..., 0] if array.shape[0] == 1 else pixels
    return imagecodecs.jpeg8_encode(pixels, 90, subsampling="444", optimize=True)


@pytest.mark.parametrize("channels", [1, 3])
def test_tables_of_their_own(channels, eager):
    array = grainy((channels, 6, 24, 40))
    data = with_own_tables(array)
    assert read_header(data).tables != read_header(encoded(array)).tables
    region = box((2, 3), (9, 20), (17, 40), slice(0, channels))
    cropped = _jpeg_crop.crop(data, spec(array), region)
    np.testing.assert_array_equal(voxels(cropped), by_libjpeg(data, spec(array))[region])


def test_no_code_for_the_first_mean(eager):
    array = np.repeat(128 + np.arange(64, dtype="u1"), 8 * 8).reshape(1, 64, 8, 8)
    data, region = with_own_tables(array), box((60, 64), (0, 8), (0, 8))
    assert _jpeg_crop.crop(data, spec(array), region) is None
    np.testing.assert_array_equal(
        Jpeg().decode_region(data, spec(array), region), by_libjpeg(data, spec(array))[region]
    )


def test_means_beyond_16_bits_are_left_to_libjpeg(eager):
    array = grainy((1, 40, 8, 8))
    data = encoded(array)
    # 2047 more, and the end of the block, in the usual codes
    bits = "1" * 8 + "0" + "1" * 11 + "1010"
    coded = int(bits * 40, 2).to_bytes(40 * 3, "big").replace(b"\xff", b"\xff\0")
    data = data[: read_header(data).scan_at] + coded + data[-2:]
    for planes, fits in [(1, True), (16, True), (17, False), (40, False)]:
        region = box((0, planes), (0, 8), (0, 8))
        assert (_jpeg_crop.crop(data, spec(array), region) is not None) == fits
        np.testing.assert_array_equal(
            Jpeg().decode_region(data, spec(array), region),
            by_libjpeg(data, spec(array))[region],
        )


def test_only_what_is_wanted_is_decoded(loaded, monkeypatch):
    array = grainy((1, 16, 64, 64))
    data, decoded = encoded(array), []
    expected = by_libjpeg(data, spec(array))
    real = simplejpeg.decode_jpeg

    def spy(stream, *arguments, **options):
        decoded.append((simplejpeg.decode_jpeg_header(stream)[:2], len(stream)))
        return real(stream, *arguments, **options)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", spy)
    for region, size in [
        (box((5, 6), (0, 64), (0, 64)), (64, 64)),
        (box((0, 16), (30, 34), (15, 17)), (16 * 16, 16)),
        (box((15, 16), (63, 64), (63, 64)), (8, 8)),
        (box((0, 15), (0, 64), (0, 64)), (16 * 64, 64)),  # as good as all
    ]:
        found = Jpeg().decode_region(data, spec(array), region)
        np.testing.assert_array_equal(found, expected[region])
        assert decoded.pop()[0] == size
        assert not decoded
    Jpeg().decode_region(data, spec(array), box((5, 6), (0, 64), (0, 64)))
    assert decoded.pop()[1] < len(data) / 10
    small = grainy((1, 4, 16, 16))
    Jpeg().decode_region(encoded(small), spec(small), box((0, 1), (0, 8), (0, 8)))
    assert decoded.pop()[0] == (64, 16)  # sooner done than begun


@pytest.mark.parametrize("kind", [bytes, memoryview, lambda data: memoryview(bytearray(data))])
def test_buffers_of_every_kind_and_kernels_compiled_once(kind, eager):
    array = grainy((1, 6, 24, 40))
    data, region = encoded(array), box((2, 3), (9, 20), (17, 40))
    cropped = _jpeg_crop.crop(kind(data), spec(array), region)
    np.testing.assert_array_equal(voxels(cropped), by_libjpeg(data, spec(array))[region])
    for each in (kernel.join_bytes, kernel.join_symbols, kernel.keep_blocks):
        assert len(compiled(each).nopython_signatures) == 1


# ---- what is not cut


def test_kernels_are_loaded_when_there_were_many_parts(monkeypatch):
    array = grainy((1, 8, 64, 64))
    data, region = encoded(array), box((2, 3), (3, 9), (5, 24))
    monkeypatch.setattr(_jpeg_crop, "BEFORE", 2 * 8 * 64 * 64)
    monkeypatch.setattr(_jpeg_crop, "_voxels", 0)
    found = [_jpeg_crop.crop(data, spec(array), region) is not None for _ in range(5)]
    assert found == [False, False, False, True, True]


def segment(kind, body):
    return b"\xff" + bytes([kind]) + struct.pack(">H", 2 + len(body)) + body


def changed(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def unusual():
    array = grainy((1, 4, 16, 24))
    data, colour = encoded(array), grainy((3, 4, 16, 24))
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    yield "subsampled", colour, encoded(colour, subsampling="420")
    yield "restarts", array, data[:scan] + segment(0xDD, b"\0\0") + data[scan:]
    other = encoded(array.reshape(1, 4, 24, 16))
    yield "other rows", array, other
    yield "bytes behind the end", array, data + b"\0"
    yield "fill bytes", array, data[:frame] + b"\xff" + data[frame:]
    yield "a frame of another kind", array, changed(data, frame + 1, b"\xc2")
    yield "12 bits", array, changed(data, frame + 4, b"\x0c")
    yield "two frames", array, data[:frame] + data[frame : frame + 13] + data[frame:]
    yield "a part of the numbers", array, changed(data, scan + 8, b"\x05")
    yield "a component that is not there", array, changed(data, scan + 5, b"\x02")
    yield "a table that is not there", array, changed(data, scan + 6, b"\x03")
    yield "no height", array, changed(data, frame + 5, b"\0\0")
    yield "a segment without length", array, changed(data, frame + 2, b"\0\0")
    yield "an endless segment", array, changed(data, 4, b"\xff\xff")
    yield "components of another number", colour, data
    codes = data.index(b"\xff\xc4")
    yield "too many codes", array, changed(data, codes + 5, b"\x03")
    yield "more symbols than there are", array, changed(data, codes + 20, b"\xff")
    yield "nothing", array, b""


@pytest.mark.parametrize("case", list(unusual()), ids=lambda case: case[0])
def test_the_unusual_is_left_to_libjpeg(case, eager):
    _, array, data = case
    region = box((1, 2), (0, 16), (0, 24), slice(0, array.shape[0]))
    assert _jpeg_crop.crop(data, spec(array), region) is None
    whole, part = (
        outcome(Jpeg().decode, data, array),
        outcome(lambda *given: Jpeg().decode_region(*given, region), data, array),
    )
    if isinstance(whole, str):
        assert part == whole
    else:
        np.testing.assert_array_equal(part, whole[region])


def outcome(decode, data, array):
    """An array, or what the error says."""
    try:
        return decode(data, spec(array))
    except CorruptDataError as error:
        return str(error)


@pytest.mark.parametrize("subsampling", ["420", "422", "440", "411"])
def test_the_subsampled_is_never_walked(subsampling):
    colour = grainy((3, 4, 16, 32))
    assert read_header(encoded(colour, subsampling=subsampling)) is None
    assert read_header(encoded(colour)) is not None


def malformed():
    data = encoded(grainy((1, 4, 16, 24)))
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    body, rest = data[frame + 4 : frame + 13], data[frame + 13 :]
    yield "another beginning", b"\0\0" + data[2:]
    yield "no segment", changed(data, frame, b"\xfe")
    yield "a short frame", data[:frame] + segment(0xC0, body[:3]) + rest
    yield "a long frame", data[:frame] + segment(0xC0, body + b"\0") + rest
    yield "a frame that ends early", data[:frame] + segment(0xC0, body[:-1]) + rest
    yield "a short scan", data[:scan] + segment(0xDA, b"\1\1\0\x3f\0") + b"\0" * 99
    yield "nothing after a scan", changed(data, scan + 2, b"\0\x0c")[: scan + 10]
    yield "nothing after a frame", data[: frame + 13]


@pytest.mark.parametrize("case", list(malformed()), ids=lambda case: case[0])
def test_malformed_headers_are_left_to_libjpeg(case):
    assert read_header(case[1]) is None


def test_remarks_are_no_hindrance(eager):
    array = grainy((1, 4, 16, 24))
    data = encoded(array)
    data = data[:2] + segment(0xE1, b"\xff\xda Exif") + segment(0xFE, b"remark") + data[2:]
    cropped = _jpeg_crop.crop(data, spec(array), box((1, 2), (0, 16), (0, 24)))
    np.testing.assert_array_equal(voxels(cropped), by_libjpeg(data, spec(array))[:, 1:2])


def test_without_numba_the_whole_is_decoded(without_numba, eager):
    array = grainy((1, 4, 16, 24))
    data, region = encoded(array), box((1, 2), (3, 9), (5, 24))
    assert _jpeg_crop.crop(data, spec(array), region) is None
    np.testing.assert_array_equal(
        Jpeg().decode_region(data, spec(array), region), by_libjpeg(data, spec(array))[region]
    )


# ---- damage


def damaged(data, seed, count):
    """The same bytes with a few others, with some that are missing, and with some that are new."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        at = int(rng.integers(2, len(data)))
        new = bytes(rng.integers(0, 256, rng.integers(1, 4), dtype="u1"))
        yield changed(data, at, new)[: len(data)]
        yield data[:at] + new + data[at:]
        yield data[:at] + data[at + len(new) :]
        yield data[:at] + data[-2:]
        yield changed(data, at, bytes([data[min(at, len(data) - 1)] ^ 1 << rng.integers(8)]))


@pytest.mark.parametrize("channels", [1, 3])
def test_damage_is_an_error_or_what_libjpeg_makes_of_it(channels, eager):
    array = grainy((channels, 4, 16, 24))
    chunk, data = spec(array), encoded(array)
    regions = [
        box((0, 1), (0, 16), (0, 24), slice(0, channels)),
        box((1, 3), (4, 12), (9, 15), slice(0, channels)),
        box((3, 4), (0, 16), (0, 24), slice(0, channels)),
    ]
    outcomes = set()
    for bad in damaged(data, 3, 400):
        for region in regions:
            try:
                found = Jpeg().decode_region(bad, chunk, region)
            except CorruptDataError:
                outcomes.add("error")
                continue
            outcomes.add("voxels")
            expected = by_libjpeg(bad, chunk, strict=False)[region]
            np.testing.assert_array_equal(found, expected)
    assert outcomes == {"error", "voxels"}


def test_damage_before_what_is_wanted_and_a_missing_end_are_errors(eager):
    array = grainy((1, 8, 16, 24))
    chunk, data = spec(array), encoded(array)
    scan = read_header(data).scan_at
    last = box((7, 8), (0, 16), (0, 24))
    first = box((0, 1), (0, 16), (0, 24))
    marker = changed(data, scan + 20, b"\xff\xd9")
    for region in (first, last):
        with pytest.raises(CorruptDataError, match="JPEG that does not decode"):
            Jpeg().decode_region(marker, chunk, region)
        for length in range(scan, len(data)):
            with pytest.raises(CorruptDataError, match="JPEG that does not decode"):
                Jpeg().decode_region(data[:length], chunk, region)
    for missing in range(2, 9):  # within the last block
        with pytest.raises(CorruptDataError, match="JPEG that does not decode"):
            Jpeg().decode_region(data[: -2 - missing] + data[-2:], chunk, last)
    with pytest.raises(CorruptDataError, match="JPEG that does not decode: .* extraneous"):
        Jpeg().decode_region(data[:-2] + bytes(9) + data[-2:], chunk, last)


def test_what_is_no_code_of_a_mean_is_an_error(eager):
    array = grainy((1, 40, 8, 8))
    data = encoded(array)
    # in the usual codes nothing for a mean, but a number of 9 bits; then blocks without change
    bits = "1111111110000010" + "100000000" + "1010" + 39 * ("00" + "1010")
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    data = data[: read_header(data).scan_at] + coded + data[-2:]
    with pytest.raises(CorruptDataError, match="JPEG that does not decode"):
        Jpeg().decode_region(data, spec(array), box((5, 6), (0, 8), (0, 8)))


def test_symbols_of_progressive_images_are_left_to_libjpeg(eager):
    array = grainy((1, 40, 8, 8))
    data = encoded(array)
    # the shortest code is that of two zeros and nothing after them, where libjpeg ends a block
    data = changed(data, data.index(bytes([1, 2, 3, 0, 4, 17])), b"\x20")
    data = data[: read_header(data).scan_at] + bytes(40 // 2) + data[-2:]
    region = box((0, 1), (0, 8), (0, 8))
    assert _jpeg_crop.crop(data, spec(array), region) is None
    np.testing.assert_array_equal(
        Jpeg().decode_region(data, spec(array), region), by_libjpeg(data, spec(array))[region]
    )


@pytest.fixture(scope="module")
def watched():
    """The kernels, with every index checked."""
    names = (kernel.join_bytes, kernel.join_symbols, kernel.keep_blocks)
    return {each: numba.njit(boundscheck=True)(each) for each in names}


def test_no_damage_leads_out_of_an_array(watched, eager, monkeypatch):
    monkeypatch.setattr(_jpeg_crop, "compiled", watched.get)
    array = grainy((1, 4, 16, 24), 90)
    data = encoded(array, 98)
    scan = read_header(data).scan_at
    rng = np.random.default_rng(5)
    cut = 0
    for bad in damaged(data, 4, 300):
        cut += _jpeg_crop.crop(bad, spec(array), box((1, 4), (0, 9), (3, 9))) is not None
    for length in range(200):  # of noise, which ends at every bit of a word
        bad = data[:scan] + rng.bytes(length).replace(b"\xff", b"") + data[-2:]
        for x in (1, 24):
            cut += _jpeg_crop.crop(bad, spec(array), box((0, 1), (0, 9), (0, x))) is not None
    assert cut > 100


# ---- memory


def test_a_whole_chunk_is_decoded_straight_into_its_destination(monkeypatch):
    array = grainy((1, 4, 16, 24))
    data, out = encoded(array), np.zeros((1, 4, 16, 24), "u1")
    buffers = []
    real = simplejpeg.decode_jpeg

    def spy(*arguments, buffer, **options):
        buffers.append(buffer)
        return real(*arguments, buffer=buffer, **options)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", spy)
    Jpeg().decode_into(data, spec(array), spec(array).whole, out)
    assert np.shares_memory(buffers[0], out)
    np.testing.assert_array_equal(out, by_libjpeg(data, spec(array)))


def test_a_whole_chunk_is_decoded_into_gaps():
    array = grainy((1, 4, 16, 24))
    data, backing = encoded(array), np.zeros((1, 8, 20, 30), "u1")
    out = backing[:, ::2, 2:18, 3:27]
    Jpeg().decode_into(data, spec(array), spec(array).whole, out)
    np.testing.assert_array_equal(out, by_libjpeg(data, spec(array)))


@pytest.mark.parametrize("channels", [1, 3])
def test_results_are_nobody_elses(channels):
    array = grainy((channels, 16, 64, 64))
    data, region = encoded(array), box((5, 6), (0, 64), (0, 64), slice(0, channels))
    found = [
        Jpeg().decode(data, spec(array)),
        Jpeg().decode_region(data, spec(array), spec(array).whole),
        Jpeg().decode_region(data, spec(array), region),
    ]
    whole = by_libjpeg(data, spec(array))
    expected = [whole, whole, whole[region]]
    memory = _images.scratch(_images.MAX_SCRATCH)
    memory[:] = 99
    for one, copy in zip(found, expected, strict=True):
        assert not np.shares_memory(one, memory)
        np.testing.assert_array_equal(one, copy)


def test_strided_and_contiguous_chunks_are_encoded_the_same():
    for channels in (1, 3):
        array = grainy((channels, 6, 16, 24))
        padded = np.zeros((channels, 12, 20, 30), "u1")
        view = padded[:, ::2, 2:18, 3:27]
        view[...] = array
        assert Jpeg().encode(view) == Jpeg().encode(array) == encoded(array)


def test_scratch_is_one_for_each_thread_and_bounded():
    mine = _images.scratch(1000)
    other = []
    thread = threading.Thread(target=lambda: other.append(_images.scratch(1000)))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, other[0])
    assert np.shares_memory(mine, _images.scratch(10))
    large = _images.scratch(_images.MAX_SCRATCH + 1)
    assert not np.shares_memory(large, _images.scratch(_images.MAX_SCRATCH + 1))
