"""The engine, as an xarray user meets it."""

import asyncio
import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import dask.array
import distributed
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import xarray.testing.strategies as xrst
from dask.base import tokenize
from hypothesis import given
from hypothesis import strategies as st
from xarray.core.indexing import VectorizedIndexer
from xarray.indexes import PandasIndex

from tests.images import labels, noise
from tests.memory import peak_bytes
from xprecomputed import (
    InfoMissingError,
    InvalidInfoError,
    OutOfBoundsError,
    ScaleNotFoundError,
    open_store,
    set_options,
    trace,
)
from xprecomputed.array import PrecomputedArray, _normalised
from xprecomputed.backend import PrecomputedBackendEntrypoint
from xprecomputed.storage import url as url_module
from xprecomputed.testing import write_volume
from xprecomputed.volume import ScaleReader

IMAGE = noise((33, 50, 47), "u1")
COLOURS = noise((3, 9, 20, 21), "u2")
OPTIONS = {"chunk_size": (16, 16, 16), "voxel_offset": (101, -7, 3), "resolution": (4, 4, 40)}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("image"))
    return write_volume(path, [IMAGE, IMAGE[:, ::2, ::2], IMAGE[:, ::4, ::4]], **OPTIONS)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("colours"))
    return write_volume(path, [COLOURS], chunk_size=(8, 8, 8))


def hole(image, folder):
    """The same volume with one chunk gone."""
    shutil.copytree(image, folder, dirs_exist_ok=True)
    os.remove(folder / "4_4_40" / "101-117_-7-9_3-19")
    return str(folder)


def open_image(url, **options):
    return xr.open_dataset(url, engine="precomputed", **options)["image"]


# ---- the data model


def test_dimensions_coordinates_and_attributes(image):
    da = open_image(image)
    assert da.dims == ("z", "y", "x")
    assert (da.dtype, da.shape) == ("u1", IMAGE.shape)
    for axis, offset, size, step in zip("xyz", (101, -7, 3), (47, 50, 33), (4, 4, 40), strict=True):
        assert da[axis].dtype == "f8"
        assert da[axis].attrs["units"] == "nm"
        np.testing.assert_array_equal(da[axis], (offset + np.arange(size) + 0.5) * step)
    assert da.attrs == {"precomputed_source": f"file://{image}", "layer_type": "image"}
    assert da.encoding["source"] == f"file://{image}"
    assert da.encoding["preferred_chunks"] == {"x": 64, "y": 64, "z": 64}
    remembered = da.encoding["precomputed"]
    assert remembered["chunk_size"] == [16, 16, 16]
    assert remembered["resolution"] == [4, 4, 40]
    assert remembered["voxel_offset"] == [101, -7, 3]
    assert (remembered["encoding"], remembered["key"]) == ("raw", "4_4_40")
    assert "_FillValue" not in da.attrs | da.encoding


def shares_labels(one, other):
    return np.shares_memory(one.values, other.values)


def test_labels_that_were_made_before_are_used_again(image):
    """pandas makes a table of them at the first `sel`, which takes longer than to open."""
    first, second = open_image(image).indexes, open_image(image).indexes
    assert [shares_labels(first[axis], second[axis]) for axis in "xyz"] == [True] * 3
    assert first["x"]._engine is second["x"]._engine
    coarser = open_image(image, mip=1).indexes
    assert not shares_labels(first["x"], coarser["x"])
    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(lambda: open_image(image).indexes).result()
    assert not shares_labels(first["x"], elsewhere["x"])  # no two threads fill one table
    with set_options(index_cache_bytes=0):
        assert not shares_labels(open_image(image).indexes["x"], open_image(image).indexes["x"])


def test_volumes_of_the_same_labels_do_not_know_of_one_another(tmp_path):
    url = write_volume(str(tmp_path), [noise((8, 8, 8), "u1")], chunk_size=(8, 8, 8))
    one, other = (xr.open_dataset(url, engine="precomputed") for _ in range(2))
    for name, change in {"resolution": (2, 2, 2), "voxel_offset": (1, 1, 1)}.items():
        place, array = str(tmp_path / name), noise((8, 8, 8), "u1")
        url = write_volume(place, [array], chunk_size=(8, 8, 8), **{name: change})
        assert xr.open_dataset(url, engine="precomputed").x[0] != one.x[0]
    assert [one.indexes[axis].name for axis in "xyz"] == list("xyz")  # of one size, all the same
    one = one.rename(x="u").assign_attrs(changed=True)
    one.u.attrs["units"] = "px"
    assert (other.indexes["x"].name, other.x.attrs["units"]) == ("x", "nm")
    with pytest.raises(ValueError, match="read-only"):
        other.x.values[0] = 7
    with pytest.raises(ValueError, match="read-only"):
        other.indexes["x"].values[0] = 7


def test_coordinates_are_ordinary_ones(image):
    """Of float64, with the index that xarray would make of the same labels."""
    ours = open_image(image)
    plain = xr.DataArray(IMAGE, dims=("z", "y", "x"), coords={a: ours[a].values for a in "xyz"})
    for axis in "xyz":
        assert type(ours.xindexes[axis]) is PandasIndex
        assert type(ours.indexes[axis]) is pd.Index
        assert ours.xindexes[axis].equals(plain.xindexes[axis])
        assert (ours[axis].dtype, ours[axis].variable.dims) == (np.dtype("f8"), (axis,))
    both = pickle.loads(pickle.dumps(ours)), ours
    for each in both:
        for of in (
            lambda a: a.sel(x=410.1, y=0.0, method="nearest"),
            lambda a: a.sel(x=slice(410, 430), z=slice(200, 400)),
            lambda a: xr.concat([a.isel(x=slice(3)), a.isel(x=slice(3, 9))], "x"),
            lambda a: xr.align(a, a.isel(y=slice(2, 5)), join="inner")[0],
            lambda a: a.reindex(x=[a.x.values[1], -1.0], fill_value=9),
            lambda a: a + a.isel(x=slice(5), z=slice(3)),
            lambda a: a.sortby("x", ascending=False).isel(x=0),
        ):
            xr.testing.assert_identical(of(each).drop_attrs(), of(plain).rename(each.name))


def test_channels_come_first(colours):
    da = open_image(colours)
    assert da.dims == ("channel", "z", "y", "x")
    np.testing.assert_array_equal(da, COLOURS)
    assert da.encoding["preferred_chunks"]["channel"] == 3


def test_opening_and_a_repr_read_no_chunk(image):
    with trace() as t:
        da = open_image(image)
        repr(da), da._repr_html_(), repr(da.variable._data)
        da.isel(x=3).sel(z=slice(0, 300)).transpose("y", "z")
    assert t.requests == 1


def test_each_mip_has_its_own_coordinates(image):
    da = open_image(image, mip=1)
    np.testing.assert_array_equal(da, IMAGE[:, ::2, ::2])
    assert da.x[0] == (50 + 0.5) * 8
    assert da.y[0] == (-4 + 0.5) * 8


@pytest.mark.parametrize("mip", [1, -2, (8, 8, 40), [8.0, 8, 40], "8_8_40", np.int64(1)])
def test_mips_by_index_resolution_and_key(image, mip):
    assert open_image(image, mip=mip).sizes["x"] == 24


def test_groups_are_mips(image):
    assert open_image(image, group="mip1").identical(open_image(image, mip=1))
    assert open_image(image, group="/mip1", mip=1).sizes["x"] == 24
    with pytest.raises(ScaleNotFoundError, match="groups are called mip0, mip1"):
        open_image(image, group="s1")
    with pytest.raises(ScaleNotFoundError, match="group='mip1' and mip=2 disagree"):
        open_image(image, group="mip1", mip=2)


def test_an_unknown_mip_lists_what_there_is(image):
    with pytest.raises(
        ScaleNotFoundError, match=r"no mip 7; there is\n  mip 0: resolution \(4, 4, 40\)"
    ):
        open_image(image, mip=7)


def test_names(image):
    assert list(xr.open_dataset(image, engine="precomputed", name="em").data_vars) == ["em"]
    assert not xr.open_dataset(image, engine="precomputed", drop_variables="image").data_vars
    assert "x" not in xr.open_dataset(image, engine="precomputed", drop_variables=["x"]).coords


def test_a_store_opens_as_its_url_does(image):
    store = open_store(image)
    xr.testing.assert_identical(
        store.open_dataset(mip=1), xr.open_dataset(image, engine="precomputed", mip=1)
    )
    assert list(store.open_datatree().children) == ["mip0", "mip1", "mip2"]


def test_an_info_that_is_given_is_not_read(image, tmp_path):
    document = json.loads(Path(image, "info").read_text())
    (tmp_path / "info").write_text("nonsense")
    document["scales"] = document["scales"][1:]
    with trace() as t:
        store = open_store(image, info=document)
        assert store.open_dataset().sizes["x"] == 24
    assert t.requests == 0


def test_wrong_places(tmp_path):
    with pytest.raises(InfoMissingError, match=f"{tmp_path}/info: there is no such object"):
        xr.open_dataset(str(tmp_path), engine="precomputed")
    (tmp_path / "info").write_text("{}")
    with pytest.raises(InvalidInfoError, match=f"{tmp_path}/info is not a usable volume"):
        xr.open_dataset(str(tmp_path), engine="precomputed")


def test_unknown_options_are_refused(image):
    with pytest.raises(TypeError, match="unexpected keyword argument 'scale'"):
        xr.open_dataset(image, engine="precomputed", scale=1)


def test_guessing(image, tmp_path, monkeypatch):
    def refuse(*args):
        raise AssertionError("a file system was made, which may ask the network")

    monkeypatch.setattr(url_module, "fsspec_location", refuse)
    guess = PrecomputedBackendEntrypoint().guess_can_open
    assert guess(image)
    assert guess(f"file://{image}")
    assert guess("precomputed://gs://nowhere/at/all")
    assert guess("gs://nowhere/|neuroglancer-precomputed:")
    assert guess(open_store(image))
    (tmp_path / "info").write_text('{"@type": "neuroglancer_skeletons"}')
    for other in (
        str(tmp_path),
        str(tmp_path / "absent"),
        f"{image}/info2",
        "gs://b/p",
        "simplecache::gs://b/p",
        5,
        "zarr://x",
    ):
        assert not guess(other)
    xr.testing.assert_identical(
        xr.open_dataset(image), xr.open_dataset(image, engine="precomputed")
    )


def test_merging_an_image_and_its_segmentation_keeps_both_sources(image, tmp_path):
    seg = write_volume(
        str(tmp_path), [labels(IMAGE.shape)], encoding="compressed_segmentation", **OPTIONS
    )
    merged = xr.merge(
        [xr.open_dataset(u, engine="precomputed") for u in (image, seg)],
        compat="no_conflicts",
        join="exact",
    )
    assert merged.segmentation.dtype == "u8"
    assert merged.image.attrs["precomputed_source"] == f"file://{image}"
    assert merged.segmentation.attrs["precomputed_source"] == f"file://{seg}"
    assert (merged.segmentation + 1).isel(x=slice(3)).attrs["precomputed_source"] == f"file://{seg}"


def test_other_formats_do_not_stumble_over_the_encoding(image, tmp_path):
    ds = xr.open_dataset(image, engine="precomputed").load()
    with dask.config.set(scheduler="synchronous"):
        ds.to_zarr(tmp_path / "z", zarr_format=2)
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "z", chunks=None).image, IMAGE)


# ---- indexing


def plain(da):
    """The same DataArray in memory."""
    return da.copy(data=IMAGE if da.ndim == 3 else COLOURS)


SIZES = {"z": 33, "y": 50, "x": 47}
COLOUR_SIZES = {"channel": 3, "z": 9, "y": 20, "x": 21}


@given(xrst.basic_indexers(sizes=SIZES))
def test_basic_indexers(image, indexers):
    xr.testing.assert_identical(
        open_image(image).isel(indexers).load(), plain(open_image(image)).isel(indexers)
    )


@given(xrst.outer_array_indexers(sizes=SIZES))
def test_outer_indexers(image, indexers):
    xr.testing.assert_identical(
        open_image(image).isel(indexers).load(), plain(open_image(image)).isel(indexers)
    )


@given(xrst.vectorized_indexers(sizes=SIZES))
def test_vectorized_indexers(image, indexers):
    xr.testing.assert_identical(
        open_image(image).isel(indexers).load(), plain(open_image(image)).isel(indexers)
    )


@given(
    xrst.vectorized_indexers(sizes=COLOUR_SIZES)
    | xrst.outer_array_indexers(sizes=COLOUR_SIZES)
    | xrst.basic_indexers(sizes=COLOUR_SIZES)
)
def test_indexers_with_channels(colours, indexers):
    da = open_image(colours)
    xr.testing.assert_identical(da.isel(indexers).load(), plain(da).isel(indexers))


@given(
    xrst.basic_indexers(sizes=SIZES),
    st.permutations(["x", "y", "z"]),
    xrst.outer_array_indexers(sizes=SIZES),
)
def test_lazy_chains_of_indexing_and_transposing(image, first, order, second):
    def chain(da):
        da = da.isel(first)
        da = da.transpose(*[dim for dim in order if dim in da.dims])
        positions = {k: np.arange(SIZES[k])[v] for k, v in second.items() if k in da.dims}
        return da.isel({k: v[v < da.sizes[k]] for k, v in positions.items()})

    xr.testing.assert_identical(chain(open_image(image)).load(), chain(plain(open_image(image))))


def test_twenty_scattered_points_read_at_most_twenty_chunks(image):
    rng = np.random.default_rng(3)
    points = {dim: xr.DataArray(rng.integers(0, n, 20), dims="p") for dim, n in SIZES.items()}
    with trace() as t:
        found = open_image(image).isel(points).load()
    np.testing.assert_array_equal(found, IMAGE[points["z"], points["y"], points["x"]])
    assert t.requests <= 21
    labelled = open_image(image)
    by_label = {dim: labelled[dim].isel({dim: points[dim]}) for dim in SIZES}
    with trace() as t:
        np.testing.assert_array_equal(labelled.sel(by_label), found)
    assert t.requests <= 20


def test_points_with_a_whole_axis(image):
    p = xr.DataArray([1, 40, 1], dims="p")
    found = open_image(image).isel(x=p, y=p, z=slice(None, None, -2))
    np.testing.assert_array_equal(found, IMAGE[::-2][:, p, p].transpose(0, 1))


def test_an_axis_that_goes_with_all_points_is_not_a_million_points(image, monkeypatch):
    seen = []
    read_points = ScaleReader.read_points

    def spy(self, indexers, paired):
        seen.append(([len(np.atleast_1d(np.arange(99)[each])) for each in indexers], list(paired)))
        return read_points(self, indexers, paired)

    monkeypatch.setattr(ScaleReader, "read_points", spy)
    p = xr.DataArray([1, 40, 1], dims="p")
    found = open_image(image).isel(x=p, y=p, z=slice(2, 30)).load()
    np.testing.assert_array_equal(found, IMAGE[2:30, [1, 40, 1], [1, 40, 1]])
    assert seen == [([1, 28, 3, 3], [2, 3])]


@pytest.mark.parametrize(
    "key",
    [
        (slice(None, None, -3), np.array([[1, 2]]), np.array([[3], [-4]])),
        (np.array([4, 4]), slice(5, 9), slice(40, 4, -7)),
        (np.array([1, 2]), slice(5, 9), np.array([8, 8])),
        (np.array([3]), np.array([4]), slice(0, 0)),
    ],
)
def test_vectorized_keys_with_slices(image, key):
    """xarray turns slices into arrays first; the contract of backends allows them."""
    array = PrecomputedArray(open_store(image).reader())
    arrays = np.broadcast_arrays(*(k for k in key if not isinstance(k, slice)))
    index, rest = iter(arrays), iter(range(arrays[0].ndim, 9))
    slices = sum(isinstance(k, slice) for k in key)
    full = []
    for size, k in zip(IMAGE.shape, key, strict=True):
        if isinstance(k, slice):
            place = [1] * (arrays[0].ndim + slices)
            place[next(rest)] = -1
            full.append(np.arange(size)[k].reshape(place))
        else:
            full.append(next(index).reshape(arrays[0].shape + (1,) * slices))
    np.testing.assert_array_equal(array[VectorizedIndexer(key)], IMAGE[tuple(full)])


def test_a_lazy_transpose_reads_boxes_not_points(image, monkeypatch):
    def refuse(self, *args):
        raise AssertionError("read as points")

    monkeypatch.setattr(ScaleReader, "read_points", refuse)
    da = open_image(image)
    with trace() as t:
        np.testing.assert_array_equal(da.transpose("x", "y", "z"), IMAGE.transpose(2, 1, 0))
    assert t.requests == 3 * 4 * 3
    with trace() as t:
        part = da.isel(x=slice(0, 20), z=slice(0, 5)).transpose("x", "z", "y").isel(y=slice(4, 10))
        np.testing.assert_array_equal(part, IMAGE[:5, 4:10, :20].transpose(2, 0, 1))
    assert t.requests == 2


def test_a_vectorized_key_that_is_orthogonal_in_truth_is_a_box(image, monkeypatch):
    monkeypatch.setattr(ScaleReader, "read_points", None)
    key = (
        np.arange(30, 3, -2).reshape(1, -1, 1),
        np.array([3, 40]).reshape(1, 1, -1),
        np.full((1, 1, 1), -1),
    )
    array = PrecomputedArray(open_store(image).reader())
    np.testing.assert_array_equal(array[VectorizedIndexer(key)], IMAGE[key])
    repeated = tuple(np.broadcast_to(each, (5, 14, 2)) for each in key)
    np.testing.assert_array_equal(array[VectorizedIndexer(repeated)], IMAGE[repeated])


def test_a_lazy_transpose_needs_no_memory_beyond_its_result(tmp_path):
    array = np.zeros((128, 1024, 1024), "u1")
    write_volume(str(tmp_path), [array], chunk_size=(256, 256, 32), compression="gzip")
    warm_up = """
import xarray as xr
da = xr.open_dataset(sys.argv[1], engine="precomputed")["image"]
da.isel(x=slice(9), y=slice(9), z=slice(9)).transpose("x", "y", "z").load()
"""
    code = "result = da.transpose('x', 'y', 'z').isel(y=slice(1, None)).load()"
    grown = peak_bytes(warm_up, code, tmp_path)
    assert 120 << 20 < grown < array.nbytes + (80 << 20)


def test_outer_indexing_reads_only_the_chunks_it_touches(image):
    with trace() as t:
        found = open_image(image).isel(x=[0, 46, 3], y=[49], z=slice(None, None, 32)).values
    np.testing.assert_array_equal(found, IMAGE[::32, 49:50][:, :, [0, 46, 3]])
    assert t.requests == 1 + 2 * 1 * 2


@pytest.mark.parametrize(
    "key",
    [
        {"x": 47},
        {"x": -48},
        {"x": [0, 47]},
        {"x": xr.DataArray([50], dims="p"), "y": xr.DataArray([0], dims="p")},
    ],
)
def test_positions_outside_are_index_errors(image, key):
    with pytest.raises(IndexError):
        open_image(image).isel(key).load()


def test_the_array_itself_names_the_axis():
    with pytest.raises(OutOfBoundsError, match="index 0 to 9 for x of size 5"):
        _normalised(np.array([0, 9]), 5, "x")


# ---- dask, threads, processes


def test_chunks_follow_the_preferred_ones(tmp_path):
    url = write_volume(str(tmp_path), [np.zeros((64, 256, 256), "u1")], chunk_size=(32, 32, 32))
    da = open_image(url, chunks={})
    assert da.chunks == ((64,), (256,), (256,))
    assert open_image(url, chunks="auto").chunks == ((64,), (256,), (256,))


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_dask_reads_the_same(image, scheduler):
    da = open_image(image).chunk({"x": 16, "y": 32, "z": 16})
    assert isinstance(da.data, dask.array.Array)
    with dask.config.set(scheduler=scheduler):
        np.testing.assert_array_equal(da, IMAGE)
        assert da.isel(x=slice(3, 9)).sum() == IMAGE[:, :, 3:9].sum()


def test_a_crop_under_dask_reads_only_its_chunks(image):
    da = open_image(image, chunks={})
    with trace() as t:
        da.isel(x=slice(0, 16), y=slice(0, 16), z=slice(0, 16)).compute()
    assert t.requests == 1


def test_processes(image):
    da = open_image(image).chunk({"x": 32, "y": 32, "z": 32})
    with dask.config.set({"multiprocessing.context": "spawn"}):
        np.testing.assert_array_equal(da.compute(scheduler="processes", num_workers=2), IMAGE)


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_distributed(image, tmp_path):
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
        ) as cluster,
        distributed.Client(cluster),
    ):
        da = open_image(image).chunk({"x": 32, "y": 32, "z": 32})
        np.testing.assert_array_equal(da, IMAGE)
        with pytest.raises(FileNotFoundError, match="is not stored"):
            open_image(hole(image, tmp_path)).chunk(x=16).compute()


def test_tokens_are_deterministic_and_tell_options_apart(image):
    one = open_image(image, chunks={})
    assert one.data.name == open_image(image, chunks={}).data.name
    assert open_image(image).chunk(x=16).data.name == open_image(image).chunk(x=16).data.name
    options = ({}, {"mip": 1}, {"fill_missing": True})
    assert len({open_image(image, **each).chunk(x=16).data.name for each in options}) == 3
    assert tokenize(open_store(image)) == tokenize(open_store(image))
    code = (
        "import sys, xarray as xr\n"
        "print(xr.open_dataset(sys.argv[1], engine='precomputed').image.chunk(x=16).data.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, image], capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == open_image(image).chunk(x=16).data.name


def test_lazy_arrays_pickle_small(image):
    data = pickle.dumps(open_image(image).variable)
    assert len(data) < 6000
    np.testing.assert_array_equal(pickle.loads(data), IMAGE)
    assert len(pickle.dumps(open_store(image))) < 3000


def test_load_async(image):
    async def load():
        one, two = (xr.open_dataset(image, engine="precomputed", mip=mip) for mip in (0, 1))
        await asyncio.gather(one.load_async(), two.load_async())
        points = (
            await open_image(image)
            .isel(x=xr.DataArray([1, 2], dims="p"), y=xr.DataArray([3, 4], dims="p"))
            .load_async()
        )
        return one, two, points

    one, two, points = asyncio.run(load())
    np.testing.assert_array_equal(one.image, IMAGE)
    np.testing.assert_array_equal(two.image, IMAGE[:, ::2, ::2])
    np.testing.assert_array_equal(points, IMAGE[:, [3, 4], [1, 2]])


# ---- holes


def test_missing_chunks(image, tmp_path):
    url = hole(image, tmp_path)
    with pytest.raises(FileNotFoundError, match="is not stored"):
        open_image(url).load()
    with trace() as t:
        found = open_image(url, fill_missing=True).load()
    assert t.filled == 1
    assert not found[:16, :16, :16].any()
    assert found.dtype == "u1"


# ---- trees


def test_a_tree_of_mips(image):
    with trace() as t:
        tree = xr.open_datatree(image, engine="precomputed")
    assert t.requests == 1
    assert list(tree.children) == ["mip0", "mip1", "mip2"]
    assert not tree.coords
    xr.testing.assert_identical(
        tree["mip1"].to_dataset(), xr.open_dataset(image, engine="precomputed", mip=1)
    )
    assert tree.attrs["precomputed_source"] == f"file://{image}"
    groups = xr.open_groups(image, engine="precomputed")
    assert list(groups) == ["/", "/mip0", "/mip1", "/mip2"]
    np.testing.assert_array_equal(
        xr.open_datatree(image, engine="precomputed", chunks={})["mip2/image"], IMAGE[:, ::4, ::4]
    )


def test_one_group_of_a_tree(image):
    tree = xr.open_datatree(image, engine="precomputed", group="mip1")
    np.testing.assert_array_equal(tree["image"], IMAGE[:, ::2, ::2])


def test_placeholders_are_left_out_without_renumbering(tmp_path):
    write_volume(str(tmp_path), [IMAGE, IMAGE[:, ::2, ::2]], **OPTIONS)
    document = json.loads((tmp_path / "info").read_text())
    document["scales"][0]["key"] = "placeholder"
    document["scales"][1]["hidden"] = True
    (tmp_path / "info").write_text(json.dumps(document))
    assert list(xr.open_datatree(str(tmp_path), engine="precomputed").children) == ["mip1"]
    with pytest.raises(ScaleNotFoundError, match="mip=1 .* has data"):
        open_image(str(tmp_path)).load()


# ---- cropping at open, and huge volumes


def test_bounds_crop_at_opening(image):
    bounds = ((101 * 4 + 40, -8, 160), (101 * 4 + 120, 100, 400))
    da = open_image(image, bounds=bounds)
    np.testing.assert_array_equal(da, IMAGE[1:7, 5:32, 10:30])
    whole = open_image(image)
    xr.testing.assert_identical(
        da.load(), whole.sel(x=slice(444, 524), y=slice(-8, 100), z=slice(160, 400)).load()
    )
    assert open_image(image, bounds={"x": slice(444, 524)}).shape == (33, 50, 20)
    # dask chunks end on storage chunks all the same
    small = open_image(image, bounds=bounds, chunks={})
    np.testing.assert_array_equal(small, da)
    tree = xr.open_datatree(image, engine="precomputed", bounds=bounds)
    assert tree["mip1"].sizes["x"] == 10


@pytest.mark.parametrize(
    ("bounds", "match"),
    [
        (((0, 0, 0), (1, 1, 1)), "hold no voxel of scale '4_4_40', which covers voxels"),
        (((0, 0), (1, 1)), r"shape \(2, 2\); expected \(\(x0, y0, z0\), \(x1, y1, z1\)\)"),
        ({"t": (0, 1)}, r"unknown axes \['t'\]"),
        ({"x": (5, 1)}, "an end before its begin"),
        ({"x": (0, float("nan"))}, "not finite"),
        (7, "expected"),
    ],
)
def test_bounds_that_are_none(image, bounds, match):
    with pytest.raises(OutOfBoundsError, match=match):
        open_image(image, bounds=bounds)
