"""fpzip, kempressed and zfpc against their packages through CloudVolume's own calls."""

import fpzip
import numpy as np
import pytest
import zfpc
from cloudvolume import chunks

from tests.images import noise, smooth
from xprecomputed import CorruptDataError, MissingDependencyError, UnsupportedEncodingError
from xprecomputed.codecs import ChunkSpec, _isolated
from xprecomputed.codecs._fpzip_header import read_header
from xprecomputed.codecs.fpzip import Fpzip, Kempressed
from xprecomputed.codecs.zfpc import Zfpc

SHAPES = [(1, 1, 1), (1, 1, 9), (9, 1, 1), (5, 9, 17), (3, 64, 33)]


def spec(array):
    return ChunkSpec(array.shape, array.dtype)


def floats(shape, channels, dtype="<f4"):
    image = np.stack([smooth(shape, seed=c) for c in range(channels)]).astype(dtype)
    return (image + noise(image.shape, dtype) / 50).astype(dtype)


def peer(array):
    """As CloudVolume holds a chunk: x, y, z, channel in Fortran order."""
    return array.T.copy(order="F")


def assert_as_the_peer(codec, array, parameters, exact=True, atol=0.0):
    """Same bytes as CloudVolume's, same values as it decodes, whatever the strides."""
    data = codec.encode(array)
    assert type(data) is bytes
    assert data == chunks.encode(peer(array), codec.name, compression_params=parameters)
    assert not codec.is_impossible(data, spec(array))
    assert len(data) <= codec.max_encoded_bytes(spec(array))
    shape = array.shape[::-1]
    expected = chunks.decode(data, codec.name, shape=shape, dtype=array.dtype).reshape(shape).T
    decoded = codec.decode(data, spec(array))
    assert decoded.dtype == array.dtype
    np.testing.assert_array_equal(decoded, expected)
    np.testing.assert_allclose(decoded, array, rtol=0, atol=atol)
    assert (decoded == array).all() == exact
    assert codec.lossy != exact
    strided = np.repeat(array, 2, axis=3)[..., ::2]
    for other in (strided, np.asfortranarray(array), array.astype(array.dtype.newbyteorder(">"))):
        assert codec.encode(other) == data
    region = tuple(slice(n // 3, n) for n in array.shape)
    part = np.empty([each.stop - each.start for each in region], array.dtype)
    codec.decode_into(data, spec(array), region, part)
    np.testing.assert_array_equal(part, expected[region])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_fpzip_is_lossless(shape, channels, dtype):
    assert_as_the_peer(Fpzip(), floats(shape, channels, dtype), {})


@pytest.mark.parametrize(("dtype", "precision"), [("<f4", 16), ("<f4", 23), ("<f8", 32)])
def test_fpzip_with_less_precision(dtype, precision):
    array = floats((5, 9, 17), 2, dtype)
    codec = Fpzip(precision)
    assert_as_the_peer(codec, array, {"level": precision}, exact=False, atol=4)


def test_fpzip_keeps_odd_values():
    array = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40, 3e38], "<f4").reshape(1, 1, 2, 3)
    decoded = Fpzip().decode(Fpzip().encode(array), spec(array))
    assert decoded.tobytes() == array.tobytes()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_kempressed_is_nearly_lossless(shape, channels):
    array = floats(shape, channels) / np.float32(255)
    data = Kempressed().encode(array)
    if channels == 1 or min(shape[1:]) > 1:  # else its swapped array counts as C-ordered, and
        # comes back scrambled
        assert data == chunks.encode(peer(array), "kempressed")
    decoded = Kempressed().decode(data, spec(array))
    np.testing.assert_array_equal(decoded, chunks.decode(data, "kempressed").T)
    np.testing.assert_allclose(decoded, array, rtol=0, atol=3e-7)
    assert Kempressed().lossy
    assert Kempressed().encode(np.asfortranarray(array)) == data
    assert len(data) <= Kempressed().max_encoded_bytes(spec(array))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dims", [(1, 1, 1, 1), (1, 1, 1, 0), (1, 1, 0, 0), (0, 1, 0, 1)])
def test_zfpc_is_lossless(shape, channels, dims):
    dims = tuple(map(bool, dims))
    codec = Zfpc(correlated_dims=dims)
    assert_as_the_peer(codec, floats(shape, channels), {"correlated_dims": list(dims)})


@pytest.mark.parametrize(
    ("parameters", "atol"), [({"rate": 12.0}, 9), ({"precision": 14}, 9), ({"tolerance": 0.5}, 0.5)]
)
def test_zfpc_with_losses(parameters, atol):
    array = floats((5, 9, 17), 2)
    assert_as_the_peer(Zfpc(**parameters), array, parameters, exact=False, atol=atol)


def test_zfpc_of_c_ordered_arrays_and_of_three_dimensions():
    array = floats((5, 9, 17), 1)
    for other in (np.ascontiguousarray(array.T), peer(array)[..., 0]):
        data = zfpc.compress(other)
        np.testing.assert_array_equal(Zfpc().decode(data, spec(array)), array)


# ---- what cannot be written


def uniform_bits(shape, dtype):
    """Every bit is a coin: the range coder makes more of it."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(np.random.default_rng(0).bytes(count), dtype).reshape(shape)


def test_noise_that_overruns_the_memory_of_fpzip_is_refused():
    array = uniform_bits((1, 32, 32, 32), "<f4")
    with pytest.raises(UnsupportedEncodingError, match="values may be noise: .*crashed"):
        Fpzip().encode(array)
    array = np.ones((1, 2, 2, 2), "<f4")  # and the next chunk is right
    np.testing.assert_array_equal(Fpzip().decode(Fpzip().encode(array), spec(array)), array)


@pytest.mark.parametrize(("dtype", "precision"), [("<f4", 33), ("<f4", 64), ("<f8", 33)])
def test_fpzip_precisions_that_a_type_does_not_have(dtype, precision):
    with pytest.raises(UnsupportedEncodingError, match=f"with a precision of {precision}; it is"):
        Fpzip(precision).encode(np.zeros((1, 2, 2, 2), dtype))


@pytest.mark.parametrize(("dtype", "precision"), [("<f4", 1), ("<f8", 2)])
def test_fpzip_precisions_that_the_package_refuses(dtype, precision):
    with pytest.raises(UnsupportedEncodingError, match="precision not supported"):
        Fpzip(precision).encode(np.zeros((1, 2, 2, 2), dtype))


def test_fpzip_all_bits_of_a_float32_count_as_lossless_only_there():
    assert not Fpzip(0).lossy
    assert not Fpzip(64).lossy
    assert Fpzip(16).lossy


@pytest.mark.parametrize(
    ("codec", "shape", "match"),
    [
        (Zfpc(rate=3, tolerance=1), (1, 2, 2, 2), "asks for rate and tolerance; at most one"),
        (Zfpc(correlated_dims=(False,) * 4), (1, 2, 2, 2), "asks for no correlated axis"),
        (Zfpc(), (1, 1, 1, 4097), "with 4 correlated axes none may exceed 4096"),
        (Zfpc(correlated_dims=(True, True, True, False)), (1, 1, 1, 65537), "may exceed 65536"),
    ],
)
def test_what_zfpc_cannot_hold(codec, shape, match):
    with pytest.raises(UnsupportedEncodingError, match=match):
        codec.encode(np.zeros(shape, "<f4"))


def test_a_package_that_fails_at_encoding_is_no_corruption(monkeypatch):
    def run(*args, **kwargs):
        raise CorruptDataError("it failed")

    monkeypatch.setattr(_isolated, "run", run)
    with pytest.raises(UnsupportedEncodingError, match="zfpc package fails on this chunk"):
        Zfpc().encode(np.zeros((1, 2, 2, 2), "<f4"))


@pytest.mark.parametrize(
    ("codec", "dtype", "install"),
    [
        (Zfpc(), "<f4", r'pip install "xprecomputed\[zfpc\]"'),
        (Fpzip(), "<f4", "pip install fpzip"),
        (Kempressed(), "<f4", "pip install fpzip"),
    ],
)
def test_absent_packages_come_with_the_install_line(tmp_path, monkeypatch, codec, dtype, install):
    for name in ("zfpc", "fpzip"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('no such thing')")
    array = np.zeros((1, 2, 2, 2), dtype)
    data = codec.encode(array)
    _isolated._close_all()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for act in (lambda: codec.encode(array), lambda: codec.decode(data, spec(array))):
        with pytest.raises(MissingDependencyError, match=f"no such thing(.*\n)*.*{install}"):
            act()
    _isolated._close_all()


def test_fpzip_headers_of_every_extent():
    """Against the package, which codes them; extents of one and of many bytes."""
    for shape in ((1, 1, 1, 1), (300, 1, 2, 3), (1, 70_000, 1, 1), (2, 3, 1, 257)):
        for dtype, precision in (("f4", 0), ("f4", 17), ("f8", 0), ("f8", 40)):
            data = fpzip.compress(np.zeros(shape, dtype, order="F"), precision=precision, order="F")
            header = read_header(data)
            assert (header.shape, header.itemsize) == (shape, np.dtype(dtype).itemsize)
            assert header.precision == precision
