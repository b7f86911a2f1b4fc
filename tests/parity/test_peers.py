"""What CloudVolume and TensorStore write is read equal to what they read.

They are the oracles: the arrays compared are their own decodes, not ours.
"""

import itertools
import warnings

import numpy as np
import pytest
import xarray as xr

from tests.images import labels, noise, smooth
from xprecomputed import open_store

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    cloudvolume = pytest.importorskip("cloudvolume")
    tensorstore = pytest.importorskip("tensorstore")

SIZE = (45, 38, 33)  # x, y, z
OFFSET = (-7, 100, 3)
RESOLUTION = (4, 4.5, 40)
LOSSLESS = {
    "raw": ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "float32"],
    "png": ["uint8"],
    "compressed_segmentation": ["uint32", "uint64"],
    "compresso": ["uint8", "uint16", "uint32", "uint64"],
}


def content(encoding, dtype, channels=1):
    """An array with the axes (channel, z, y, x) that suits the encoding."""
    shape = (channels, *SIZE[::-1])
    if encoding == "jpeg":
        return np.stack([smooth(shape[1:], c) for c in range(channels)])
    if encoding.startswith("compress"):
        return labels(shape, dtype)
    return noise(shape, dtype)


def ours(path, mip=0):
    """All voxels of the volume at `path`, (channel, z, y, x), through xarray and without."""
    store = open_store(path)
    scale = store.mips[mip]
    direct = store.read(scale.bounds, mip)
    lazy = xr.open_dataset(path, engine="precomputed", mip=mip)
    np.testing.assert_array_equal(
        np.atleast_3d(direct.squeeze()), np.atleast_3d(next(iter(lazy.values())).values.squeeze())
    )
    box = ((scale.bounds.start[0] + 5, *scale.bounds.start[1:]), scale.bounds.stop)
    np.testing.assert_array_equal(store.read(box, mip), direct[..., 5:])
    return direct


# ---- CloudVolume


def cv_write(
    path, array, encoding, compress=None, sharding=None, chunk=(16, 16, 16), offset=OFFSET
):
    info = cloudvolume.CloudVolume.create_new_info(
        num_channels=array.shape[0],
        layer_type="image"
        if array.dtype.kind == "f" or encoding in ("jpeg", "png")
        else "segmentation",
        data_type=array.dtype.name,
        encoding=encoding,
        resolution=RESOLUTION,
        voxel_offset=offset,
        volume_size=array.shape[:0:-1],
        chunk_size=chunk,
    )
    if sharding:
        info["scales"][0]["sharding"] = sharding
    volume = cloudvolume.CloudVolume(f"file://{path}", info=info, compress=compress, progress=False)
    volume.commit_info()
    volume[:, :, :] = np.asfortranarray(array.T)
    return volume


def cv_read(volume):
    return np.asarray(volume[:, :, :]).T


@pytest.mark.parametrize(("encoding", "dtype"), [(e, d) for e, ds in LOSSLESS.items() for d in ds])
@pytest.mark.parametrize("offset", [(0, 0, 0), OFFSET])
def test_cloudvolume_with_its_defaults(tmp_path, encoding, dtype, offset):
    array = content(encoding, dtype)
    volume = cv_write(tmp_path, array, encoding, offset=offset)
    if encoding in ("raw", "compressed_segmentation", "compresso"):
        assert all(path.suffix == ".gz" for path in (tmp_path / volume.key).iterdir())
    found = ours(tmp_path)
    np.testing.assert_array_equal(found, cv_read(volume))
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("compress", [False, "gzip", "br", "zstd"])
@pytest.mark.parametrize("encoding", ["raw", "compressed_segmentation", "compresso"])
def test_cloudvolume_compressions(tmp_path, encoding, compress):
    array = content(encoding, "uint64")
    volume = cv_write(tmp_path, array, encoding, compress=compress)
    np.testing.assert_array_equal(ours(tmp_path), cv_read(volume))


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_cloudvolume_channels(tmp_path, channels, dtype):
    array = content("raw", dtype, channels)
    volume = cv_write(tmp_path, array, "raw")
    np.testing.assert_array_equal(ours(tmp_path), cv_read(volume))


def test_cloudvolume_jpeg(tmp_path):
    volume = cv_write(tmp_path, content("jpeg", "uint8"), "jpeg")
    np.testing.assert_array_equal(ours(tmp_path), cv_read(volume))


@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_cloudvolume_types_beyond_the_specification(tmp_path, dtype):
    array = noise((1, *SIZE[::-1]), dtype)
    volume = cv_write(tmp_path, array, "raw")
    np.testing.assert_array_equal(ours(tmp_path), cv_read(volume))


def sharding(preshift, minishard, shard, hashed="identity", index="gzip", data="gzip"):
    return {
        "@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": preshift, "hash": hashed,
        "minishard_bits": minishard, "shard_bits": shard,
        "minishard_index_encoding": index, "data_encoding": data,
    }  # fmt: skip


@pytest.mark.parametrize("encoding", ["raw", "compressed_segmentation", "png"])
@pytest.mark.parametrize("bits", [(2, 2, 0), (3, 3, 0), (9, 0, 0)])
def test_cloudvolume_sharded(tmp_path, encoding, bits):
    array = content(encoding, LOSSLESS[encoding][0])[:, :16, :32, :32]
    if bits[0] + bits[1] < 6:  # the grid of 2 x 2 x 1 has two bits, all in one shard
        bits = (1, 1, 0)
    volume = cv_write(tmp_path, array, encoding, sharding=sharding(*bits), chunk=(16, 16, 16))
    np.testing.assert_array_equal(ours(tmp_path), cv_read(volume))


def test_cloudvolume_several_shards(tmp_path):
    array = content("raw", "uint8")
    info = cloudvolume.CloudVolume.create_new_info(
        1, "image", "uint8", "raw", RESOLUTION, OFFSET, SIZE, chunk_size=(8, 8, 8)
    )
    info["scales"][0]["sharding"] = sharding(2, 2, 6)
    volume = cloudvolume.CloudVolume(f"file://{tmp_path}", info=info, progress=False)
    volume.commit_info()
    step = [int(each) for each in volume.image.shard_shape(0)]
    fortran = np.asfortranarray(array.T)
    for corner in itertools.product(*(range(0, n, s) for n, s in zip(SIZE, step, strict=True))):
        local = tuple(slice(a, min(a + s, n)) for a, s, n in zip(corner, step, SIZE, strict=True))
        absolute = tuple(slice(p.start + o, p.stop + o) for p, o in zip(local, OFFSET, strict=True))
        volume[absolute] = fortran[local]
    assert len(list((tmp_path / volume.key).iterdir())) > 4
    np.testing.assert_array_equal(ours(tmp_path), cv_read(volume))


# ---- TensorStore


def ts_write(path, array, encoding, spec=None, chunk=(16, 16, 16), shard=None, dimensions=None):
    metadata = {"type": "image", "data_type": array.dtype.name, "num_channels": array.shape[0]}
    scale = {
        "size": SIZE, "voxel_offset": OFFSET, "resolution": RESOLUTION,
        "chunk_size": chunk, "encoding": encoding,
    }  # fmt: skip
    if encoding == "compressed_segmentation":
        scale["compressed_segmentation_block_size"] = (8, 4, 2)
    if spec:
        scale["sharding"] = spec
    store = tensorstore.open(
        {
            "driver": "neuroglancer_precomputed",
            "kvstore": {"driver": "file", "path": f"{path}/"},
            "multiscale_metadata": metadata,
            "scale_metadata": scale,
        },
        create=True,
    ).result()
    store.write(array.T).result()
    return store


def ts_read(store):
    return store.read().result().T


@pytest.mark.parametrize(
    ("encoding", "dtype", "channels"),
    [
        *[("raw", dtype, channels) for dtype in LOSSLESS["raw"] for channels in (1, 3)],
        *[("png", dtype, channels) for dtype in ("uint8", "uint16") for channels in (1, 2, 3, 4)],
        *[("jpeg", "uint8", channels) for channels in (1, 3)],
        *[("compressed_segmentation", d, channels) for d in ("uint32", "uint64") for channels in (1, 2)],
    ],
)  # fmt: skip
@pytest.mark.parametrize("spec", [None, (2, 2, 3)], ids=["unsharded", "sharded"])
def test_tensorstore(tmp_path, encoding, dtype, channels, spec):
    array = content(encoding, dtype, channels)
    store = ts_write(tmp_path, array, encoding, spec and sharding(*spec))
    found = ours(tmp_path)
    expected = ts_read(store)
    np.testing.assert_array_equal(found, expected)
    if encoding != "jpeg":
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("hashed", ["identity", "murmurhash3_x86_128"])
@pytest.mark.parametrize(
    "bits", [(0, 0, 0), (0, 3, 3), (9, 0, 0), (1, 0, 1), (4, 6, 12), (0, 0, 2), (63, 1, 0)]
)
@pytest.mark.parametrize("encodings", [("raw", "raw"), ("gzip", "gzip"), ("raw", "gzip")])
def test_tensorstore_sharding(tmp_path, hashed, bits, encodings):
    """Bits enough, to spare and too few; one shard and many."""
    array = content("raw", "uint16")
    store = ts_write(tmp_path, array, "raw", sharding(*bits, hashed, *encodings))
    np.testing.assert_array_equal(ours(tmp_path), ts_read(store))
    np.testing.assert_array_equal(ours(tmp_path), array)


@pytest.mark.parametrize("chunk", [(64, 64, 64), (45, 38, 33), (1, 38, 5), (7, 11, 13)])
def test_tensorstore_chunks_of_any_size(tmp_path, chunk):
    array = content("raw", "uint8")
    store = ts_write(tmp_path, array, "raw", chunk=chunk)
    np.testing.assert_array_equal(ours(tmp_path), ts_read(store))


@pytest.mark.parametrize("spec", [None, (1, 1, 9)], ids=["unsharded", "sharded"])
def test_tensorstore_leaves_zeros_out(tmp_path, spec):
    array = content("raw", "uint8")
    array[:, :16, :16] = 0
    store = ts_write(tmp_path, array, "raw", spec and sharding(*spec))
    with pytest.raises(FileNotFoundError, match="is not stored"):
        ours(tmp_path)
    found = open_store(tmp_path).read(open_store(tmp_path).mips[0].bounds, fill_missing=True)
    np.testing.assert_array_equal(found, ts_read(store))


def test_tensorstore_mips_with_keys_that_climb(tmp_path):
    array = content("raw", "uint8")
    store = ts_write(tmp_path, array, "raw")
    assert store.spec().to_json()["scale_metadata"]["key"] == "4_4.5_40"
    np.testing.assert_array_equal(ours(tmp_path), array)


def test_tensorstore_reads_cloudvolume_defaults_as_zeros_and_we_do_not(tmp_path):
    array = content("raw", "uint8")
    cv_write(tmp_path, array, "raw")
    blind = tensorstore.open(
        {
            "driver": "neuroglancer_precomputed",
            "kvstore": {"driver": "file", "path": f"{tmp_path}/"},
        }
    ).result()
    assert not blind.read().result().any()
    np.testing.assert_array_equal(ours(tmp_path), array)
