"""crackle against its package through CloudVolume's own calls, with the kernels and without."""

import struct

import crackle
import google_crc32c
import numpy as np
import pytest
from crackle import operations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.codecs.test_floats import SHAPES, assert_as_the_peer, peer, spec
from tests.images import labels, noise
from xprecomputed import (
    CorruptDataError,
    MissingDependencyError,
    UnsupportedEncodingError,
    open_store,
)
from xprecomputed.codecs import _crackle_kernel as kernel
from xprecomputed.codecs import _crackle_kernel_checksums as checksums
from xprecomputed.codecs import _crackle_kernel_encode as encoding
from xprecomputed.codecs import _isolated
from xprecomputed.codecs import crackle as module
from xprecomputed.codecs.crackle import Crackle
from xprecomputed.jit import compiled

either_path_for_all = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
DTYPES = ("u1", "<u2", "<u4", "<u8")


def crackled(array=None, **options):
    if array is None:
        array = labels((1, 5, 30, 40), "<u4", cell=7)
    return array, crackle.compress(peer(array)[..., 0], **options)


def assert_decodes(data, array):
    """The whole, and a part of it into a destination with odd strides."""
    whole = Crackle().decode(data, spec(array))
    assert whole.dtype == array.dtype
    np.testing.assert_array_equal(whole, array)
    regions = [tuple(slice(n // 3, n) for n in array.shape)]
    regions.append(
        (regions[0][0], regions[0][1], slice(0, array.shape[2]), slice(0, array.shape[3]))
    )
    for region in regions:
        expected = array[region]
        backing = np.zeros([2 * n for n in expected.shape], array.dtype)
        out = backing[tuple(slice(n // 2, n // 2 + n) for n in expected.shape)]
        Crackle().decode_into(data, spec(array), region, out)
        np.testing.assert_array_equal(out, expected)
        out[...] = 0
        assert not backing.any(), "wrote outside of its destination"


@pytest.fixture
def no_helper(monkeypatch):
    """Nothing may be left to the package."""

    def run(job, *args):
        raise AssertionError(f"{job} went to the helper process")

    monkeypatch.setattr(_isolated, "run", run)


# ---- what it writes and reads


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [labels, noise])
def test_the_bytes_of_the_package(either_path, shape, dtype, make):
    assert_as_the_peer(Crackle(), make((1, *shape), dtype), {})


def test_one_label(either_path):
    assert_as_the_peer(Crackle(), np.full((1, 4, 5, 6), 7, "<u8"), {})
    assert_as_the_peer(Crackle(), np.zeros((1, 4, 5, 6), "<u2"), {})


# the width of what lies in a stream changes at 254, 65,534, and at 256 and 65,536 components
@pytest.mark.parametrize(
    "shape",
    [(1, 1, n) for n in (62, 63, 64, 65, 127, 128, 253, 254, 255, 256, 65533, 65534, 65535, 65536)]
    + [(1, n, 2) for n in (253, 254, 255, 65533, 65534, 65535)]
    + [(2, 16, 16), (2, 15, 17), (1, 256, 256), (1, 255, 257), (3, 300, 300)],
)
@pytest.mark.parametrize("make", [labels, noise])
def test_extents_where_something_changes(no_helper, shape, make):
    array = make((1, *shape), "<u4")
    _, data = crackled(array)
    assert Crackle().encode(array) == data
    assert_decodes(data, array)


@pytest.mark.parametrize("count", [1, 2, 254, 255, 256, 257, 65535, 65536, 65537])
def test_numbers_of_labels_where_keys_widen(no_helper, rng, count):
    array = rng.permutation(np.resize(np.arange(count, dtype="<u8") * 3, 70_000))
    array = array.reshape(1, 7, 100, 100)
    _, data = crackled(array)
    assert Crackle().encode(array) == data
    assert_decodes(data, array)


@st.composite
def volumes(draw):
    """Few labels to many, in blocks, alone, or in stripes, which are worst for a walk."""
    shape = tuple(draw(st.integers(1, n)) for n in (4, 20, 80))
    dtype = draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    cells = [-(-n // draw(st.integers(1, 9))) for n in shape]
    coarse = rng.integers(0, draw(st.sampled_from([2, 3, 300])), cells)
    index = [np.arange(n) * c // n for n, c in zip(shape, cells, strict=True)]
    array = coarse[np.ix_(*index)].astype(np.uint64) * draw(st.sampled_from([1, 255, 2**40 + 1]))
    return array.astype(dtype)[None]


@given(volumes())
def test_volumes_as_the_package_has_them(array):
    _, data = crackled(array)
    assert Crackle().encode(array) == data
    assert_decodes(data, array)


@given(volumes(), st.integers(1, 9))
def test_markov_models(array, order):
    _, data = crackled(array, markov_model_order=order)
    assert_decodes(data, array)
    np.testing.assert_array_equal(crackle.decompress(data).T, array[0])


@pytest.mark.parametrize("order", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("array", [labels((1, 5, 30, 40), "<u4"), noise((1, 5, 30, 40), "u1") % 3])
def test_markov_models_need_no_helper(no_helper, order, array):
    _, data = crackled(array, markov_model_order=order)
    assert crackle.header(data).markov_model_order == order
    assert_decodes(data, array)
    assert_decodes(old(data), array)


@pytest.mark.parametrize("options", [{"allow_pins": 1}, {"allow_pins": 2}])
def test_pins_go_to_the_package(options):
    array, data = crackled(labels((1, 5, 30, 40), "<u4", cell=7, count=3), **options)
    assert crackle.header(data).label_format == crackle.headers.LabelFormat.PINS_VARIABLE_WIDTH
    assert_decodes(data, array)


def test_slices_in_parts_go_to_the_package(monkeypatch):
    array, data = crackled()
    data = patched(old(data), 19, b"\3")  # parts of 8 x 8 voxels
    monkeypatch.setattr(_isolated, "decode", lambda *args: "the package")
    assert Crackle().decode(data, spec(array)) == "the package"


def test_chunks_of_too_many_voxels_go_to_the_package(monkeypatch):
    array, data = crackled()
    monkeypatch.setattr(module, "MAX_VOXELS", array.size)
    for name in ("decode", "encode"):
        monkeypatch.setattr(_isolated, name, lambda *args: "the package")
    assert Crackle().decode(data, spec(array)) == "the package"
    assert Crackle().encode(array) == "the package"


def test_a_c_ordered_array(either_path):
    array = labels((1, 5, 30, 40), "<u4", cell=7)
    data = crackle.compress(np.ascontiguousarray(peer(array)[..., 0]))
    assert not crackle.header(data).fortran_order
    assert_decodes(data, array)


def test_streams_that_were_edited(no_helper):
    """Labels that are not sorted or occur twice, neighbours of one label, slices put together."""
    array, data = crackled()
    ids = np.unique(array)
    renamed = operations.remap(data, {int(old): int(n // 2) for n, old in enumerate(ids[::-1])})
    expected = (len(ids) - 1 - np.searchsorted(ids, array)) // 2
    assert_decodes(renamed, expected.astype(array.dtype))
    assert_decodes(crackle.codec.condense_unique(renamed), expected.astype(array.dtype))
    assert_decodes(crackle.codec.reencode(data, 4), array)
    twice = np.concatenate([array, array], axis=1)
    assert_decodes(operations.zstack([data, data]), twice)


def patched(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def old(data):
    """The same stream in version 0: narrower lengths and no checksums."""
    slices = struct.unpack_from("<I", data, 15)[0]
    head = data[:4] + b"\0" + data[5:20] + data[20:24]
    return head + data[29 : 29 + 4 * slices] + data[33 + 4 * slices : -4 * slices - 4]


def test_the_old_version(either_path):
    array, data = crackled()
    assert len(old(data)) == len(data) - 5 - 4 - 4 * 5 - 4
    assert_decodes(old(data), array)
    with pytest.raises(CorruptDataError, match="whose header and index ask for"):
        Crackle().decode(old(data)[:-1], spec(array))


def test_buffers_of_every_kind_and_kernels_compiled_once(no_helper):
    array, data = crackled()
    for other in (data, memoryview(data), memoryview(bytearray(b"x" + data))[1:]):
        assert_decodes(other, array)
    for function in (kernel.draw_slices, checksums.crc32c):
        assert len(compiled(function).nopython_signatures) == 1
    array.flags.writeable = True
    assert Crackle().encode(array) == data
    before = len(compiled(encoding.mark_cracks).nopython_signatures)
    array.flags.writeable = False
    assert Crackle().encode(array) == data
    assert len(compiled(encoding.mark_cracks).nopython_signatures) == before


def test_slices_whose_table_is_not_kept(no_helper, monkeypatch):
    array, data = crackled()
    module._kept_sums.cache_clear()
    Crackle().decode(data, spec(array))
    assert module._kept_sums.cache_info().currsize == 1
    module._kept_sums.cache_clear()
    monkeypatch.setattr(module, "KEPT_SUMS", 30 * 40 - 1)
    assert_decodes(data, array)
    assert module._kept_sums.cache_info().currsize == 0


def test_slices_that_are_not_asked_for_are_not_decoded(no_helper):
    array, data = crackled()
    begin = 33 + 4 * 5 + crackle.header(data).num_label_bytes + 4
    damaged = patched(data, begin, b"\xff\xff\xff")
    part = np.empty((1, 4, 30, 40), "<u4")
    region = (slice(0, 1), slice(1, 5), slice(0, 30), slice(0, 40))
    Crackle().decode_into(damaged, spec(array), region, part)
    np.testing.assert_array_equal(part, array[:, 1:])
    with pytest.raises(CorruptDataError):
        Crackle().decode(damaged, spec(array))


@given(st.binary(max_size=100))
def test_checksums(data):
    expected = int.from_bytes(google_crc32c.Checksum(data).digest(), "big")
    assert module._crc32c(data) == expected


def test_checksums_without_numba(without_numba):
    assert module._crc32c(b"123456789") == 0xE3069283  # the check value of its catalogues


def test_the_real_volume(real_volume, no_helper):
    store = open_store(real_volume)
    bounds = store.info.scales[0].bounds
    whole = np.asarray(store.read(bounds))[:1]
    array = np.ascontiguousarray(whole[:, -32:, :128, -200:])
    _, data = crackled(array)
    assert Crackle().encode(array) == data
    assert_decodes(data, array)


# ---- without packages


def test_a_package_that_fails_at_encoding_is_no_corruption(monkeypatch, without_numba):
    def run(*args, **kwargs):
        raise CorruptDataError("it failed")

    monkeypatch.setattr(_isolated, "run", run)
    with pytest.raises(UnsupportedEncodingError, match="crackle package fails on this chunk"):
        Crackle().encode(np.zeros((1, 2, 2, 2), "<u4"))


def test_the_absent_package_comes_with_the_install_lines(tmp_path, monkeypatch, without_numba):
    (tmp_path / "crackle.py").write_text("raise ImportError('no such thing')")
    array, data = crackled()
    _isolated._close_all()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for act in (lambda: Crackle().encode(array), lambda: Crackle().decode(data, spec(array))):
        for extra in ("fast", "crackle"):
            with pytest.raises(
                MissingDependencyError, match=rf"no such thing(.*\n)*.*xprecomputed\[{extra}\]"
            ):
                act()
    _isolated._close_all()
