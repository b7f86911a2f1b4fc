"""What we write is read voxel for voxel by CloudVolume and TensorStore."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from tests.images import labels, noise, smooth
from tests.jobs.arrays import label, opened
from xprecomputed import ShardingSpec, copy, open_store, to_precomputed

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    cloudvolume = pytest.importorskip("cloudvolume")
    tensorstore = pytest.importorskip("tensorstore")

EIGHT = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "float32"]
#: encoding, data types, channels, and who reads it (format reference 11.1)
READERS = [
    ("raw", EIGHT, (1, 2, 3), "both"),
    ("raw", ["int64", "float64"], (1, 2), "cloudvolume"),
    ("png", ["uint8"], (1,), "both"),
    ("png", ["uint8", "uint16"], (1, 2, 3, 4), "tensorstore"),
    ("jpeg", ["uint8"], (1,), "both"),
    ("jpeg", ["uint8"], (3,), "tensorstore"),
    ("compressed_segmentation", ["uint32", "uint64"], (1, 2), "both"),
    ("compresso", ["uint8", "uint16", "uint32", "uint64"], (1,), "cloudvolume"),
]
CASES = [(e, d, c, r) for e, dtypes, channels, r in READERS for d in dtypes for c in channels]


def cv_read(path, mip=0):
    volume = cloudvolume.CloudVolume(f"file://{path}", mip=mip, progress=False)
    return np.asarray(volume[:, :, :]).T


def ts_read(path, mip=0):
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{path}/"},
        "scale_index": mip,
    }
    return tensorstore.open(spec, read=True).result().read().result().T


def content(encoding, dtype, shape):
    if encoding == "jpeg":
        return np.stack([smooth(shape[1:], c) for c in range(shape[0])])
    if encoding.startswith("compress"):
        return labels(shape, dtype, cell=3)
    return noise(shape, dtype)


shardings = st.one_of(
    st.none(),
    st.just("auto"),
    st.builds(
        ShardingSpec,
        preshift_bits=st.integers(0, 3),
        hash=st.sampled_from(["identity", "identity", "murmurhash3_x86_128"]),
        minishard_bits=st.integers(0, 3),
        shard_bits=st.integers(0, 4),
        minishard_index_encoding=st.sampled_from(["raw", "gzip"]),
        data_encoding=st.sampled_from(["raw", "gzip"]),
    ),
)
extent = st.integers(1, 21)
chunk = st.integers(1, 12)


@given(
    st.sampled_from(CASES),
    st.tuples(extent, extent, extent),
    st.tuples(*[st.integers(-40, 40)] * 3),
    st.tuples(chunk, chunk, chunk),
    shardings,
    st.booleans(),
)
def test_both_peers_read_what_we_write(
    tmp_path_factory, case, size, offset, chunk_size, sharding, in_blocks
):
    encoding, dtype, channels, readers = case
    path = tmp_path_factory.mktemp("written") / "layer"
    data = content(encoding, dtype, (channels, *size[::-1]))
    da = label(data if channels > 1 else data[0], (4, 4.5, 40), offset)
    da.encoding["precomputed"] = {"data_type": dtype}  # int64 and float64 are CloudVolume's
    if in_blocks:
        da = da.chunk({axis: 2 * c for axis, c in zip("xyz", chunk_size, strict=True)})
    store = to_precomputed(
        da,
        path,
        encoding=encoding,
        chunk_size=chunk_size,
        sharding=sharding,
        resolution=(4, 4.5, 40),
        provenance=False,
    )
    check_rules(path, store.info.scales[0])
    ours = store.read(store.info.scales[0].bounds)
    if encoding == "jpeg":
        assert abs(ours.astype(int) - data).max() < 60
    else:
        np.testing.assert_array_equal(ours, data)
    if readers in ("both", "tensorstore"):
        np.testing.assert_array_equal(ts_read(path), ours)
    # CloudVolume takes the channels of a single voxel for an axis in space
    if readers in ("both", "cloudvolume") and (channels == 1 or math.prod(size) > 1):
        np.testing.assert_array_equal(cv_read(path), ours)


def check_rules(path, scale):
    """Rules 4, 5, 10 and 11 of the format reference's section 11.3."""
    folder = path / scale.key
    names = {each.name for each in folder.iterdir()}
    if scale.sharding is None:
        assert names == {scale.grid.name(cell) for cell in scale.grid.cells(scale.bounds)}
    else:
        spec = scale.sharding
        digits = math.ceil(spec.shard_bits / 4) or 1
        assert all(
            name.endswith(".shard")
            and len(name) == digits + 6
            and int(name[:-6], 16) < 2**spec.shard_bits
            for name in names
        )


@given(
    st.tuples(extent, extent, extent),
    st.tuples(*[st.integers(-9, 9)] * 3),
    shardings,
    st.lists(
        st.tuples(*[st.integers(1, 3)] * 3).filter(lambda f: max(f) > 1), min_size=1, max_size=2
    ),
    st.sampled_from(["mode", "mean", "min", "max"]),
)
def test_pyramids_equal_those_of_tensorstore(
    tmp_path_factory, size, offset, sharding, factors, method
):
    path = tmp_path_factory.mktemp("written") / "layer"
    da = label(noise(size[::-1], "u1") // 64, (8, 8, 40), offset)
    to_precomputed(
        da,
        path,
        resolution=(8, 8, 40),
        chunk_size=(4, 4, 4),
        sharding=sharding,
        downsample=factors,
        downsample_method=method,
    )
    for mip, factor in enumerate(factors, 1):
        base = tensorstore.open(
            {
                "driver": "neuroglancer_precomputed",
                "kvstore": {"driver": "file", "path": f"{path}/"},
                "scale_index": mip - 1,
            },
            read=True,
        ).result()
        wanted = tensorstore.downsample(base, [*factor, 1], method).read().result().T
        np.testing.assert_array_equal(ts_read(path, mip), wanted)
        np.testing.assert_array_equal(opened(path, mip).values, wanted[0])


@pytest.mark.parametrize("bits", [(3, 3, 6), (1, 1, 1), (0, 0, 0), (9, 0, 4), (0, 2, 0)])
def test_shards_with_bits_to_spare_and_too_few_are_found_by_both(tmp_path, bits):
    preshift, minishard, shard = bits
    spec = ShardingSpec(
        preshift_bits=preshift, hash="identity", minishard_bits=minishard, shard_bits=shard
    )
    data = labels((30, 40, 50), "u8")
    da = label(data, offset=(5, -3, 2)).chunk(x=16, y=16, z=16)
    path = tmp_path / "layer"
    to_precomputed(da, path, chunk_size=(8, 8, 8), sharding=spec, downsample=1)
    for mip in (0, 1):
        ours = opened(path, mip).values
        np.testing.assert_array_equal(cv_read(path, mip)[0], ours)
        np.testing.assert_array_equal(ts_read(path, mip)[0], ours)
    np.testing.assert_array_equal(cv_read(path)[0], data)


def test_tensorstore_takes_our_shards_for_its_own(tmp_path):
    """It writes into a layer of ours, region by region, and we read the whole."""
    data = labels((16, 32, 32), "u8")
    path = tmp_path / "layer"
    to_precomputed(label(data), path, chunk_size=(8, 8, 8), sharding="auto")
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{path}/"},
    }
    theirs = tensorstore.open(spec, open=True).result()
    theirs[:8, :8, :8, :].write(7).result()
    data[:8, :8, :8] = 7
    np.testing.assert_array_equal(opened(path).values, data)
    to_precomputed(label(data + 1), path, mode="r+")
    np.testing.assert_array_equal(ts_read(path)[0], data + 1)


def test_shards_equal_those_of_tensorstore_byte_for_byte(tmp_path):
    data = noise((16, 32, 32), "u8")
    path, theirs = tmp_path / "ours", tmp_path / "theirs"
    spec = ShardingSpec(preshift_bits=1, hash="identity", minishard_bits=2, shard_bits=3)
    store = to_precomputed(
        label(data), path, chunk_size=(8, 8, 8), sharding=spec, encoding="raw", provenance=False
    )
    theirs.mkdir()
    (theirs / "info").write_bytes((path / "info").read_bytes())
    written = tensorstore.open(
        {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": f"{theirs}/"}},
        open=True,
    ).result()
    written.write(data.T[..., None]).result()
    folder = store.info.scales[0].key
    ours = {p.name: p.read_bytes() for p in (path / folder).iterdir()}
    assert ours == {p.name: p.read_bytes() for p in (theirs / folder).iterdir()}


def test_cloudvolume_reads_compressed_layers_of_ours(tmp_path):
    data = labels((20, 20, 20), "u8")
    for compression in ("gzip", "br", "zstd"):
        path = tmp_path / compression
        to_precomputed(label(data), path, compression=compression, chunk_size=(8, 8, 8))
        np.testing.assert_array_equal(cv_read(path)[0], data)


@pytest.mark.parametrize("encoding", ["raw", "compressed_segmentation", "compresso"])
@pytest.mark.parametrize("sharding", [None, "auto"])
@pytest.mark.parametrize("how", ["lazy", "dask", "delayed with a pyramid"])
def test_the_real_volume_through_every_lossless_encoding(
    real_volume, tmp_path, encoding, sharding, how
):
    """open -> write -> open is the identity for every field of info and every voxel."""
    first = copy(
        real_volume,
        tmp_path / "first",
        encoding=encoding,
        sharding=sharding,
        chunk_size=(64, 64, 32),
        bbox=((0, 0, 0), (16 * 300, 16 * 280, 40 * 140)),
    )
    again = tmp_path / "again"
    tree = xr.open_datatree(first.url, engine="precomputed", chunks=None if how == "lazy" else {})
    if how == "delayed with a pyramid":
        work = to_precomputed(tree, again, downsample=[(2, 2, 1)], compute=False)
        work.compute()
    else:
        to_precomputed(tree, again)
    info = open_store(again).info
    assert replace(info, scales=info.scales[:2]) == open_store(first.url).info
    for mip in (0, 1):
        scale = first.info.scales[mip]
        wanted = open_store(real_volume).read(scale.bounds, mip)
        np.testing.assert_array_equal(open_store(again).read(scale.bounds, mip), wanted)
        np.testing.assert_array_equal(cv_read_real(again, mip), wanted)
        if encoding != "compresso":
            np.testing.assert_array_equal(ts_read(again, mip), wanted)


def cv_read_real(path, mip):
    """CloudVolume looks for the mesh folder that info names, so it is shown an info without."""
    info = open_store(path).info.to_json()
    info.pop("mesh", None)
    volume = cloudvolume.CloudVolume(f"file://{path}", info=info, mip=mip, progress=False)
    return np.asarray(volume[:, :, :]).T
