"""``.precomputed``: positions, boxes, points and chunks, from the coordinates."""

import itertools

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from tests.images import labels, noise
from xprecomputed import (
    CoordinateError,
    OutOfBoundsError,
    SourceError,
    open_store,
    trace,
)
from xprecomputed.coords import to_nm, to_voxels
from xprecomputed.testing import write_volume

SEGMENTS = labels((33, 50, 47), "u8")
OPTIONS = {"chunk_size": (16, 16, 16), "voxel_offset": (101, -7, 3), "resolution": (4, 4.5, 40)}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("segments"))
    mips = [SEGMENTS, SEGMENTS[:, ::2, ::2], SEGMENTS[:, ::4, ::4]]
    return write_volume(path, mips, encoding="compressed_segmentation", **OPTIONS)


@pytest.fixture
def da(url):
    return xr.open_dataset(url, engine="precomputed")["segmentation"]


# ---- where an array is


def test_derived_from_the_coordinates(da):
    assert da.precomputed.mip == 0
    assert da.precomputed.resolution == (4, 4.5, 40)
    assert da.precomputed.voxel_offset == (101, -7, 3)
    np.testing.assert_array_equal(da.precomputed.bounds_nm, [[404, -31.5, 120], [592, 193.5, 1440]])
    assert da.precomputed.info == open_store(da.attrs["precomputed_source"]).info


def test_they_follow_indexing_and_ignore_stale_attributes(da):
    part = (da.isel(x=slice(10, 20), y=slice(3, 4)) + 0).transpose("x", "z", "y")
    assert part.precomputed.voxel_offset == (111, -4, 3)
    assert part.precomputed.resolution == (4, 4.5, 40)
    strided = da.isel(x=slice(None, None, 2))
    assert strided.precomputed.resolution == (8, 4.5, 40)
    assert strided.precomputed.mip is None
    coarse = da.isel(x=slice(1, None), y=slice(1, None)).coarsen(x=2, y=2, boundary="trim").max()
    assert coarse.precomputed.resolution == (8, 9, 40)
    assert coarse.precomputed.mip == 1
    assert coarse.precomputed.voxel_offset == (51, -3, 3)


def test_an_axis_of_one_voxel_takes_the_resolution_that_fits(da):
    thin = da.isel(z=slice(4, 5))
    assert thin.precomputed.resolution == (4, 4.5, 40)
    forgotten = thin.copy()
    forgotten.encoding = {}
    assert forgotten.precomputed.voxel_offset == (101, -7, 7)
    # a remembered resolution that the label contradicts is not believed
    stale = thin.copy()
    stale.encoding["precomputed"] = {"resolution": [4, 4.5, 30]}
    assert stale.precomputed.resolution == (4, 4.5, 40)
    lonely = xr.DataArray(np.zeros((1, 3)), {"z": [20.0], "x": [2.0, 6.0, 10.0]}, ("z", "x"))
    with pytest.raises(SourceError, match="expected one source"):
        lonely.precomputed.resolution
    point = da.isel(x=slice(1), y=slice(1), z=slice(1))
    point.encoding = {}
    with pytest.raises(CoordinateError, match="coordinate x has one label, which does not tell"):
        point.precomputed.resolution


def test_missing_axes(da):
    plane = da.isel(z=0)
    assert plane.precomputed.resolution == (4, 4.5)
    assert plane.precomputed.mip == 0
    with pytest.raises(CoordinateError, match="expected three numbers, x, y, z"):
        plane.precomputed.to_voxels([[0, 0, 0]])
    with pytest.raises(CoordinateError, match="none of x, y, z"):
        xr.DataArray(np.zeros(3), dims="t").precomputed.resolution


@pytest.mark.parametrize(
    ("x", "match"),
    [
        ([3.0, 2.0, 1.0], r"coordinate x does not ascend:\n    da = da.sortby\('x'\)"),
        ([1.0, 2.0, 4.0], "coordinate x is not regular"),
        ([], "coordinate x is empty"),
        ([0.0, 1.0, 2.0], r"0.5 voxels of 1.0 nm from the origin(.*\n)*.*snap\(tolerance=0.5\)"),
    ],
)
def test_coordinates_that_are_no_voxel_grid(x, match):
    array = xr.DataArray(np.zeros(len(x)), {"x": x}, ("x",))
    with pytest.raises(CoordinateError, match=match):
        array.precomputed.voxel_offset


def test_dimensions_without_coordinates():
    with pytest.raises(
        CoordinateError, match=r"dimensions \['x'\] have no coordinates.*\n.*assign_coords"
    ):
        xr.DataArray(np.zeros(3), dims="x").precomputed.resolution


def test_a_source_is_needed_for_what_only_the_layer_knows(da):
    with pytest.raises(SourceError, match=r"found \[\].*\n.*attrs\['precomputed_source'\] = url"):
        da.drop_attrs().precomputed.info


def test_options_are_remembered_in_this_process(url, tmp_path):
    document = open_store(url).info.to_json()
    document["my_note"] = 1
    da = open_store(url, info=document).open_dataset()["segmentation"]
    assert da.precomputed.info.extra == {"my_note": 1}
    open_store(url)


def test_a_dataset_with_two_sources_asks_for_one(da, tmp_path):
    other = write_volume(str(tmp_path), [noise((33, 50, 47), "u1")], **OPTIONS)
    both = xr.merge(
        [da.to_dataset(), xr.open_dataset(other, engine="precomputed")],
        compat="no_conflicts",
        join="exact",
    )
    with pytest.raises(SourceError, match="select a variable"):
        both.precomputed.info
    assert both.precomputed.resolution == (4, 4.5, 40)
    assert both.image.precomputed.info.type == "image"
    cut = both.precomputed.crop(center=(450, 0, 500), size=(40, 45, 400))
    assert dict(cut.sizes) == {"z": 10, "y": 10, "x": 10}


# ---- nm and voxels


def test_conversions(da):
    assert da.precomputed.to_voxels([404, -31.5, 120]).tolist() == [101, -7, 3]
    assert da.precomputed.to_voxels([[407.999, -27.001, 159.9]]).tolist() == [[101, -7, 3]]
    assert da.precomputed.to_nm([101, -7, 3]).tolist() == [406, -29.25, 140]
    assert da.precomputed.to_voxels([404, 0, 0], resolution=(8, 8, 40)).tolist() == [50, 0, 0]
    assert da.precomputed.to_nm([50, 0, 0], resolution=(8, 8, 40)).tolist() == [404, 4, 20]


@given(
    st.lists(st.tuples(*[st.integers(-(10**6), 10**6)] * 3), min_size=1, max_size=5),
    st.tuples(*[st.sampled_from([1, 4, 4.3, 8, 45, 0.7])] * 3),
)
def test_conversions_are_inverse(voxels, resolution):
    np.testing.assert_array_equal(to_voxels(to_nm(voxels, resolution), resolution), voxels)


@pytest.mark.parametrize(
    ("points", "match"),
    [
        ([1, 2], r"shape \(2,\), expected \(..., 3\)"),
        (5, r"shape \(\), expected"),
        ([np.nan, 1, 2], "NaN"),
    ],
)
def test_points_that_are_none(da, points, match):
    with pytest.raises(CoordinateError, match=match):
        da.precomputed.to_voxels(points)


def test_voxel_positions_are_whole(da):
    with pytest.raises(CoordinateError, match="voxel positions are whole numbers"):
        da.precomputed.to_nm([1.5, 2, 3])
    assert da.precomputed.to_nm([1.0, 2.0, 3.0]).shape == (3,)


# ---- crop


def test_crop_is_half_open_in_nm(da):
    cut = da.precomputed.crop(((424, -22.5, 200), (464, 22.5, 600)))
    np.testing.assert_array_equal(cut, SEGMENTS[2:12, 2:12, 5:15])
    assert cut.precomputed.voxel_offset == (106, -5, 5)
    one = da.precomputed.crop({"x": (424, 444)})
    two = da.precomputed.crop({"x": slice(444, 464)})
    xr.testing.assert_identical(
        xr.concat([one, two], "x", combine_attrs="override").load(),
        da.precomputed.crop({"x": (424, 464)}).load(),
    )


def test_crop_is_lazy(da):
    with trace() as t:
        cut = da.precomputed.crop(center=(450, 0, 500), size=(40, 45, 400))
    assert t.requests == 0
    assert not cut.variable._in_memory


@given(st.lists(st.integers(0, 47 * 4 * 10), min_size=2, max_size=8))
def test_neighbouring_boxes_share_no_voxel_and_lose_none(cuts):
    x = (np.arange(101, 148) + 0.5) * 4
    da = xr.DataArray(np.arange(47), {"x": x}, ("x",))
    edges = sorted(404 + c / 10 for c in cuts)
    parts = [da.precomputed.crop({"x": pair}) for pair in itertools.pairwise(edges)]
    together = da.precomputed.crop({"x": (edges[0], edges[-1])})
    np.testing.assert_array_equal(np.concatenate(parts), together)


def test_crop_in_voxels(da):
    box = ((106, -5, 5), (116, 5, 15))
    expected = SEGMENTS[2:12, 2:12, 5:15]
    np.testing.assert_array_equal(da.precomputed.crop(box, unit="voxel"), expected)
    # in voxels of another resolution
    cut = da.precomputed.crop(((53, -3, 5), (58, 2, 15)), unit="voxel", resolution=(8, 9, 40))
    np.testing.assert_array_equal(cut, SEGMENTS[2:12, 1:11, 5:15])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_centre_and_size_give_that_many_voxels(da, size):
    cut = da.precomputed.crop(center=(120, 10, 15), size=(size, size, size), unit="voxel")
    assert cut.shape == (size, size, size)
    assert 0 <= 120 - cut.precomputed.voxel_offset[0] - (size - 1) / 2 <= 0.5


def test_crop_of_a_plane(da):
    plane = da.isel(z=0)
    assert plane.precomputed.crop(((424, -22.5, 120), (464, 22.5, 160))).shape == (10, 10)
    with pytest.raises(OutOfBoundsError, match=r"z is 140.0 nm here, not in \[160.0, 200.0\)"):
        plane.precomputed.crop(((424, -22.5, 160), (464, 22.5, 200)))


OUTSIDE = ((396, -45, 80), (424, -22.5, 200))


def test_outside_raise(da):
    with pytest.raises(
        OutOfBoundsError, match=r"x: \[396.0, 424.0\) nm leaves the array, which covers \[404"
    ):
        da.precomputed.crop(OUTSIDE)


def test_outside_clip(da):
    np.testing.assert_array_equal(
        da.precomputed.crop(OUTSIDE, outside="clip"), SEGMENTS[:2, :2, :5]
    )
    assert da.precomputed.crop({"x": (0, 8)}, outside="clip").sizes["x"] == 0
    assert da.precomputed.crop({"x": (4000, 4008)}, outside="clip").sizes["x"] == 0


@pytest.mark.parametrize("chunked", [False, True])
def test_outside_pad_keeps_ids(da, chunked):
    da = da.chunk(x=10) if chunked else da
    cut = da.precomputed.crop(OUTSIDE, outside="pad")
    assert cut.dtype == "u8"
    expected = np.zeros((3, 5, 7), "u8")
    expected[1:, 3:, 2:] = SEGMENTS[:2, :2, :5]
    assert isinstance(cut.data, dask.array.Array) == chunked
    np.testing.assert_array_equal(cut, expected)
    assert cut.precomputed.voxel_offset == (99, -10, 2)
    assert cut.attrs == da.attrs
    assert cut.x.attrs["units"] == "nm"


def test_outside_pad_of_labels_off_the_grid(da):
    odd = da.isel(x=slice(None, None, 2))
    padded = odd.precomputed.crop({"x": (390, 410)}, outside="pad")
    np.testing.assert_array_equal(padded.x, [390, 398, 406])
    assert padded.x[-1] == odd.x[0]


def test_outside_pad_far_away(da):
    for x0, offset in ((0, 0), (4000, 1000)):
        cut = da.precomputed.crop({"x": (x0, x0 + 40)}, outside="pad")
        assert cut.sizes["x"] == 10
        assert not cut.any()
        assert cut.precomputed.voxel_offset[0] == offset


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, ValueError, "either bounds, or center and size"),
        (
            {"bounds": ((0,) * 3, (1,) * 3), "center": (0,) * 3, "size": (1,) * 3},
            ValueError,
            "either",
        ),
        ({"center": (0, 0, 0)}, ValueError, "either bounds, or center and size"),
        ({"center": (0, 0), "size": (1, 1)}, ValueError, "three numbers each"),
        ({"bounds": ((0,) * 3, (1,) * 3), "unit": "um"}, ValueError, "unit='um': expected"),
        (
            {"bounds": ((0,) * 3, (1,) * 3), "outside": "fill"},
            ValueError,
            "outside='fill': expected",
        ),
    ],
)
def test_crop_arguments(da, options, error, match):
    with pytest.raises(error, match=match):
        da.precomputed.crop(**options)


# ---- sample


def test_sample(da):
    points = np.array([[404, -31.5, 120], [591.9, 193.4, 1439], [450, 0, 500], [404, -31.5, 120]])
    with trace() as t:
        found = da.precomputed.sample(points).load()
    assert t.requests <= 3
    v = da.precomputed.to_voxels(points) - [101, -7, 3]
    np.testing.assert_array_equal(found, SEGMENTS[v[:, 2], v[:, 1], v[:, 0]])
    assert found.dims == ("point",)
    assert found.dtype == "u8"
    np.testing.assert_array_equal(found.x, da.x[v[:, 0]])


def test_sample_forms(da):
    one = da.precomputed.sample((450, 0, 500))
    assert one.ndim == 0
    frame = pd.DataFrame({"z": [500], "id": [9], "x": [450], "y": [0]})
    assert da.precomputed.sample(frame).item() == one.item()
    assert da.chunk(x=10).precomputed.sample([[450, 0, 500]]).values == one.item()
    assert da.load().precomputed.sample([[450, 0, 500]]).item() == one.item()


def test_sample_outside(da):
    points = [[450, 0, 500], [0, 0, 0], [np.nan, 0, 500]]
    with pytest.raises(
        OutOfBoundsError, match=r"2 of 3 points are outside, first \[0.0, 0.0, 0.0\]"
    ):
        da.precomputed.sample(points)
    with trace() as t:
        found = da.precomputed.sample(points, outside="fill", fill_value=7)
        found.load()
    assert t.requests == 1
    np.testing.assert_array_equal(found.x, [450, 2, np.nan])
    assert found.dtype == "u8"
    assert found.values.tolist()[1:] == [7, 7]
    assert found[0] == da.precomputed.sample(points[0])
    with trace() as t:
        assert da.precomputed.sample([0, 0, 0], outside="fill", fill_value=9).item() == 9
    assert t.requests == 0


@pytest.mark.parametrize(
    ("points", "options", "error", "match"),
    [
        ([[1, 2]], {}, CoordinateError, r"points of shape \(1, 2\), expected \(N, 3\)"),
        ([[1, 2, 3]], {"outside": "pad"}, ValueError, "outside='pad': expected 'raise' or 'fill'"),
    ],
)
def test_sample_arguments(da, points, options, error, match):
    with pytest.raises(error, match=match):
        da.precomputed.sample(points, **options)
    with pytest.raises(CoordinateError, match=r"sample needs x, y and z, found \('x', 'y'\)"):
        da.isel(z=0).precomputed.sample(points)


def test_sample_with_channels(tmp_path):
    array = noise((3, 9, 10, 11), "u1")
    url = write_volume(str(tmp_path), [array], resolution=(1, 1, 1))
    found = xr.open_dataset(url, engine="precomputed")["image"].precomputed.sample(
        [[1.5, 2.5, 3.5], [0, 0, 0]]
    )
    assert found.dims == ("channel", "point")
    np.testing.assert_array_equal(found, array[:, [3, 0], [2, 0], [1, 0]])


# ---- chunk


def test_chunk_follows_the_storage_after_a_crop(da):
    cut = da.precomputed.crop(((424, -22.5, 200), (584, 157.5, 1400)))
    chunked = cut.precomputed.chunk(nbytes=16**3 * 8)
    assert chunked.chunksizes["x"] == (11, 16, 13)
    with trace() as t:
        found = chunked.compute()
    assert t.requests == 3 * 3 * 2  # each storage chunk once
    np.testing.assert_array_equal(found, cut)
    assert da.precomputed.chunk("64MiB").data.npartitions == 1
    assert da.isel(z=0).precomputed.chunk().chunks == ((50,), (47,))


def test_chunk_needs_a_mip(da):
    with pytest.raises(CoordinateError, match=r"resolution \(8.0, 4.5, 40\) nm is none of file://"):
        da.isel(x=slice(None, None, 2)).precomputed.chunk()


def test_chunk_with_channels(tmp_path):
    url = write_volume(str(tmp_path), [noise((3, 9, 10, 11), "u1")])
    chunked = xr.open_dataset(url, engine="precomputed")["image"].precomputed.chunk()
    assert chunked.chunks == ((3,), (9,), (10,), (11,))


# ---- snap


def test_snap_makes_coarsened_labels_those_of_the_mip(url):
    da = xr.open_dataset(url, engine="precomputed")["segmentation"]
    even = da.isel(x=slice(1, None), y=slice(1, None))
    wobbly = even.coarsen(x=2, y=2, boundary="trim").max()
    wobbly = wobbly.assign_coords(x=wobbly.x * (1 + 1e-13), y=wobbly.y + 1e-9)
    snapped = wobbly.precomputed.snap()
    mip1 = xr.open_dataset(url, engine="precomputed", mip=1)["segmentation"]
    assert not np.isin(wobbly.x, mip1.x).all()
    assert np.isin(snapped.x, mip1.x).all()
    assert np.isin(snapped.y, mip1.y).all()
    assert snapped.x.attrs["units"] == "nm"


def test_snap_of_odd_offsets_needs_leave(da):
    odd = da.coarsen(x=2, y=2, boundary="trim").max()
    with pytest.raises(CoordinateError, match=r"snap\(tolerance=0.5\)"):
        odd.precomputed.voxel_offset
    with pytest.raises(CoordinateError, match=r"0.5 voxels from the grid, tolerance is 0.01"):
        odd.precomputed.snap()
    # half a voxel goes down, as a mip's offset does
    assert odd.precomputed.snap(tolerance=0.5).precomputed.voxel_offset == (50, -4, 3)


def test_snap_without_a_source():
    array = xr.DataArray(np.zeros(3), {"x": [4.0, 12.0, 20.000001]}, ("x",))
    np.testing.assert_allclose(array.precomputed.snap().x, [4, 12, 20], atol=1e-5)


# ---- trees


def test_trees(url):
    tree = xr.open_datatree(url, engine="precomputed")
    assert tree.precomputed.info.type == "segmentation"
    assert tree["mip1"].precomputed.mip == 1
    assert tree["mip1"].precomputed.resolution == (8, 9, 40)
    assert tree["mip1"].precomputed.voxel_offset == (50, -4, 3)
    assert tree["mip1"].precomputed.bounds_nm.shape == (2, 3)
    assert tree["mip1"].precomputed.info == tree.precomputed.info
    cut = tree.precomputed.crop(((424, -18, 200), (464, 18, 600)))
    assert [cut[f"mip{m}"].sizes["x"] for m in range(3)] == [10, 5, 3]
    assert tree.precomputed.chunk()["mip2/segmentation"].chunks
    assert tree.precomputed.snap()["mip2"].precomputed.mip == 2
    assert tree["mip0"].precomputed.to_voxels([404, 0, 0]).tolist() == [101, 0, 0]
    assert tree["mip0"].precomputed.to_nm([101, 0, 0]).tolist() == [406, 2.25, 20]
    assert tree.precomputed.to_voxels([404, 0, 0], (8, 8, 40)).tolist() == [50, 0, 0]
    assert tree.precomputed.to_nm([50, 0, 0], (8, 8, 40)).tolist() == [404, 4, 20]
    with pytest.raises(SourceError, match=r"choose one of \['mip0', 'mip1', 'mip2'\]"):
        tree.precomputed.resolution
