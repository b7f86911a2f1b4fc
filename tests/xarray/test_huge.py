"""A petavoxel volume of which a few chunks are stored. Times are in the notes, not here."""

import json

import numpy as np
import pytest
import xarray as xr

from tests.memory import peak_bytes
from xprecomputed import OutOfBoundsError, trace

SIZE = [250_000, 250_000, 25_000]


@pytest.fixture(scope="module")
def huge(tmp_path_factory):
    path = tmp_path_factory.mktemp("huge")
    scale = {
        "key": "8_8_40", "size": SIZE, "resolution": [8, 8, 40],
        "chunk_sizes": [[64, 64, 64]], "encoding": "raw",
    }  # fmt: skip
    document = {"type": "image", "data_type": "uint8", "num_channels": 1, "scales": [scale]}
    (path / "info").write_text(json.dumps(document))
    (path / "8_8_40").mkdir()
    chunk = path / "8_8_40" / "100032-100096_100032-100096_10048-10112"
    chunk.write_bytes(bytes([7]) * 64**3)
    return str(path)


OPEN = """
import dask.array, xarray as xr
ds = xr.open_dataset(sys.argv[1], engine="precomputed", fill_missing=True)
crop = dict(x=slice(100000, 100512), y=slice(100000, 100512), z=slice(10000, 10512))
"""
HOW = {
    "lazy": "result = ds.image.isel(crop).load()",
    "dask": "result = ds.image.precomputed.chunk().isel(crop).compute(scheduler='synchronous')",
}


@pytest.mark.parametrize(("how", "most"), [("lazy", 40 << 20), ("dask", 512 << 20)])
def test_a_crop_needs_little_memory_beyond_its_result(huge, how, most):
    grown = peak_bytes(OPEN, f"{HOW[how]}; assert int(result.sum()) == 7 * 64**3", huge)
    assert 100 << 20 < grown < 512**3 + most  # the result is 128 MiB


def test_opening_reads_the_info_only(huge):
    with trace() as t:
        da = xr.open_dataset(huge, engine="precomputed", chunks={})["image"]
    assert t.requests == 1
    assert da.data.npartitions <= 1_000_000


def test_bounds_make_small_graphs_of_ordinary_chunks(huge):
    bounds = np.array([[800_000, 800_000, 400_000], [804_096, 804_096, 420_480]])
    da = xr.open_dataset(huge, engine="precomputed", fill_missing=True, chunks={}, bounds=bounds)[
        "image"
    ]
    assert da.shape == (512, 512, 512)
    assert da.data.npartitions < 30
    # task borders lie on storage chunks: no chunk is read twice
    with trace() as t:
        assert int(da.sum()) == 7 * 64**3
    assert t.requests == t.filled + 1 == 9 * 9 * 9


def test_an_axis_too_long_for_labels_is_opened_in_parts(huge, tmp_path):
    document = json.loads(open_info(huge))
    document["scales"][0]["size"][0] = 2**40
    (tmp_path / "info").write_text(json.dumps(document))
    with pytest.raises(
        OutOfBoundsError, match=r"axis of 1099511627776 voxels(.*\n)*.*bounds=\(\(x0"
    ):
        xr.open_dataset(str(tmp_path), engine="precomputed")
    part = xr.open_dataset(str(tmp_path), engine="precomputed", bounds={"x": (8e12, 8e12 + 80)})
    assert part.sizes["x"] == 10
    assert part.x[0] == 8e12 + 4


def open_info(path):
    with open(f"{path}/info") as file:
        return file.read()
