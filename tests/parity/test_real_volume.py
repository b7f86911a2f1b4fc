"""The real segmentation, voxel for voxel as CloudVolume reads it."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xprecomputed import open_store, trace

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    cloudvolume = pytest.importorskip("cloudvolume")


@pytest.fixture
def peer(real_volume):
    # the volume's meshes belong to a mip that it no longer has, which CloudVolume asks for
    info = json.loads(Path(real_volume, "info").read_text())
    del info["mesh"]

    def read(mip):
        volume = cloudvolume.CloudVolume(
            f"file://{real_volume}", mip=mip, info=info, progress=False
        )
        return np.asarray(volume[:, :, :])[..., 0].T

    return read


@pytest.mark.parametrize("mip", [0, 1])
def test_every_voxel(real_volume, peer, mip):
    with trace() as t:
        found = xr.open_dataset(real_volume, engine="precomputed", mip=mip)["segmentation"].values
    np.testing.assert_array_equal(found, peer(mip))
    assert t.requests == 1 + open_store(real_volume).mips[mip].grid.chunks


def test_without_numba(real_volume, peer, without_numba):
    da = xr.open_dataset(real_volume, engine="precomputed", mip=1)["segmentation"]
    np.testing.assert_array_equal(da, peer(1))


def test_under_dask(real_volume, peer):
    da = xr.open_dataset(real_volume, engine="precomputed", mip=1, chunks={})["segmentation"]
    assert da.data.npartitions > 1
    np.testing.assert_array_equal(da, peer(1))


def test_points_and_crops(real_volume, peer, rng):
    da = xr.open_dataset(real_volume, engine="precomputed")["segmentation"]
    expected = peer(0)
    points = rng.uniform(0, [8192, 8192, 20480], (200, 3))
    v = da.precomputed.to_voxels(points)
    np.testing.assert_array_equal(
        da.precomputed.sample(points), expected[v[:, 2], v[:, 1], v[:, 0]]
    )
    cut = da.precomputed.crop(((1000, 2000, 3000), (3000, 4000, 9000)))
    a, b = np.ceil(np.array([[1000, 2000, 3000], [3000, 4000, 9000]]) / [16, 16, 40] - 0.5).astype(
        int
    )
    np.testing.assert_array_equal(cut, expected[a[2] : b[2], a[1] : b[1], a[0] : b[0]])
