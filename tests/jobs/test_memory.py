"""What a write takes at its peak."""

import numpy as np
import pytest

from tests.memory import peak_bytes
from xprecomputed import open_store

WARM_UP = """
import sys
import dask
import dask.array as da
import numpy as np
import xarray as xr
import xprecomputed as xp

dask.config.set(num_workers=2)

def block_of_noise(block_id=None):
    return np.random.default_rng(block_id).integers(0, 255, (128, 128, 128), dtype="u1")

def write(size, url, **options):
    chunks = tuple((128,) * (n // 128) for n in size)
    data = da.map_blocks(block_of_noise, chunks=chunks, dtype="u1", meta=np.empty((0, 0, 0), "u1"))
    noise = xr.DataArray(data, dims=("z", "y", "x"))
    xp.to_precomputed(noise, url, resolution=(8, 8, 8), encoding="raw", **options)

write((128, 128, 128), sys.argv[1] + "/warm", sharding="auto", downsample=2)
write((128, 128, 128), sys.argv[1] + "/warm2")
"""

ONE_SHARD = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 9,
    "hash": "identity",
    "minishard_bits": 3,
    "shard_bits": 0,
    "minishard_index_encoding": "gzip",
    "data_encoding": "raw",
}


@pytest.mark.parametrize(
    "options",
    ["", f"sharding={ONE_SHARD}", f"sharding={ONE_SHARD}, downsample=3"],
    ids=["chunks", "one shard", "pyramid"],
)
def test_a_write_takes_blocks_and_the_budget_not_the_array(tmp_path, options):
    # 512 MiB of noise in blocks of 2 MiB, written from memory of a small part of that
    code = f"""
with xp.set_options(write_budget_bytes=16 << 20):
    write((512, 1024, 1024), sys.argv[1] + "/layer", {options})
"""
    peak = peak_bytes(WARM_UP, code, tmp_path)
    assert peak < 96 << 20
    store = open_store(tmp_path / "layer")
    found = store.read(((128, 256, 384), (256, 384, 512)))
    wanted = np.random.default_rng((3, 2, 1)).integers(0, 255, (128,) * 3, dtype="u1")
    np.testing.assert_array_equal(found[0], wanted)
