"""Volumes in the encodings of CloudVolume: what either writes, both read alike."""

import json

import numpy as np
import pytest
from cloudvolume import CloudVolume

from tests.images import labels, noise, smooth
from xprecomputed import open_store
from xprecomputed.testing import write_volume

SHAPE = (21, 18, 35)  # z, y, x: chunks of 16 are clipped on every side
FLOATS = (smooth(SHAPE) / np.float32(255) + noise(SHAPE, "f4") / 100).astype("f4")
CASES = [
    ("jxl", smooth(SHAPE), {}),
    ("jxl", smooth(SHAPE), {"jxl_quality": 100, "jxl_effort": 2, "jxl_decodingspeed": 1}),
    *[("crackle", labels(SHAPE, dtype), {}) for dtype in ("u1", "u2", "u4", "u8")],
    ("fpzip", FLOATS, {}),
    ("fpzip", FLOATS.astype("f8"), {}),
    ("fpzip", FLOATS, {"fpzip_precision": 18}),
    ("kempressed", FLOATS, {}),
    ("zfpc", FLOATS, {}),
    ("zfpc", FLOATS, {"zfpc_rate": 10, "zfpc_correlated_dims": [True, True, False, False]}),
    ("zfpc", FLOATS, {"zfpc_tolerance": 0.01}),
    ("zfpc", FLOATS, {"zfpc_precision": 15}),
]
SHARDING = {
    "@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": 1, "hash": "identity",
    "minishard_bits": 1, "shard_bits": 1, "minishard_index_encoding": "gzip", "data_encoding": "gzip",
}  # fmt: skip
EVERY = pytest.mark.parametrize(("encoding", "array", "members"), CASES)


def ours(path):
    store = open_store(str(path))
    return np.asarray(store.read(store.info.scales[0].bounds))


def theirs(path):
    volume = CloudVolume(f"file://{path}", progress=False, cache=False, parallel=1)
    return np.asarray(volume[:, :, :]).T


@EVERY
@pytest.mark.parametrize("sharding", [None, SHARDING])
def test_cloudvolume_reads_what_we_write(tmp_path, encoding, array, members, sharding):
    write_volume(
        str(tmp_path), [array], chunk_size=(16, 16, 16), encoding=encoding, sharding=sharding
    )
    read = ours(tmp_path)
    np.testing.assert_array_equal(theirs(tmp_path), read)
    if encoding not in ("jxl", "kempressed"):
        np.testing.assert_array_equal(read[0], array)


@EVERY
def test_we_read_what_cloudvolume_writes(tmp_path, encoding, array, members):
    info = CloudVolume.create_new_info(
        num_channels=1, layer_type="image", data_type=array.dtype.name, encoding=encoding,
        resolution=(8, 8, 40), voxel_offset=(3, -2, 7), chunk_size=(16, 16, 16),
        volume_size=SHAPE[::-1],
    )  # fmt: skip
    info["scales"][0] |= members
    volume = CloudVolume(f"file://{tmp_path}", info=info, progress=False, cache=False, parallel=1)
    volume.commit_info()
    volume[:, :, :] = array.T.copy(order="F")[..., None]
    assert json.loads((tmp_path / "info").read_text())["scales"][0]["encoding"] == encoding
    read = ours(tmp_path)
    np.testing.assert_array_equal(read, theirs(tmp_path))
    lossy = encoding in ("jxl", "kempressed") or members
    np.testing.assert_allclose(
        read[0], array, rtol=0, atol=(30 if encoding == "jxl" else 0.1) if lossy else 0
    )
