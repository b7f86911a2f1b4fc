"""What an array says about itself, and every way in which it may not say enough."""

import numpy as np
import pytest
import xarray as xr

from xprecomputed import CoordinateError, DataTypeError, LayoutError
from xprecomputed.jobs.describe import describe


def labelled(offset=(3, 5, 7), resolution=(8, 8, 40), size=(4, 3, 2), units="nm", scale=1.0, **kw):
    """An array whose coordinates are centres of voxels."""
    coords = {
        axis: (axis, (np.arange(n) + o + 0.5) * r * scale, {"units": units} if units else {})
        for axis, n, o, r in zip("xyz", size, offset, resolution, strict=True)
    }
    shape = size[::-1]
    data = np.arange(np.prod(shape)).reshape(shape).astype(kw.get("dtype", "u1"))
    return xr.DataArray(data, coords, ("z", "y", "x"))


@pytest.mark.parametrize(
    ("units", "scale"),
    [
        ("nm", 1),
        ("nanometer", 1),
        ("um", 1e-3),
        ("µm", 1e-3),
        ("micrometer", 1e-3),
        ("mm", 1e-6),
        ("m", 1e-9),
    ],
)
def test_units_are_converted(units, scale):
    found = describe(labelled(units=units, scale=scale))
    assert found.resolution == (8, 8, 40)
    assert [type(each) for each in found.resolution] == [int, int, int]
    assert found.voxel_offset == (3, 5, 7)


def test_fractional_and_negative():
    found = describe(labelled((-100_000, 5, 0), (4.3, 0.5, 1 / 3), (40, 3, 2)))
    assert found.resolution == (4.3, 0.5, pytest.approx(1 / 3))
    assert found.voxel_offset == (-100_000, 5, 0)


def test_dims_in_any_order_and_a_dataset():
    da = labelled().expand_dims(channel=2, axis=3).transpose("x", "channel", "z", "y")
    found = describe(xr.Dataset({"em": da, "table": ("row", [1, 2])}))
    assert found.array.dims == ("channel", "z", "y", "x")
    assert (found.num_channels, found.size) == (2, (4, 3, 2))


def test_a_slice_keeps_its_place():
    found = describe(labelled().isel(z=1), resolution=(8, 8, 40))
    assert (found.size, found.voxel_offset) == ((4, 3, 1), (3, 5, 8))


def test_without_coordinates():
    da = labelled().drop_vars(["x", "y", "z"])
    found = describe(da, resolution=(8, 8, 40))
    assert (found.voxel_offset, found.resolution) == ((0, 0, 0), (8, 8, 40))
    assert describe(da, (8, 8, 40), (1, -2, 3)).voxel_offset == (1, -2, 3)
    assert describe(da, needs_place=False).box is None
    with pytest.raises(
        CoordinateError,
        match=r"x, y, z are absent.*\n    to_precomputed\(…, resolution=\(8, 8, 40\), voxel_offset=\(0, 0, 0\)\)",
    ):
        describe(da)


def test_positions_without_units():
    axes = {"x": np.arange(4) + 10, "y": np.arange(3), "z": np.arange(2)}
    da = xr.DataArray(np.zeros((2, 3, 4)), axes, ("z", "y", "x")).astype("f4")
    with pytest.raises(
        CoordinateError,
        match=r"without units(.|\n)*voxel_offset=\(10, 0, 0\)(.|\n)*\"units\"\] = \"nm\"",
    ):
        describe(da)
    with pytest.raises(CoordinateError, match="without units"):
        describe(da, resolution=(8, 8, 40))
    assert describe(da, (8, 8, 40), (10, 0, 0)).voxel_offset == (10, 0, 0)


def test_unknown_units():
    with pytest.raises(CoordinateError, match="coordinate x has the units 'px', expected one of"):
        describe(labelled(units="px"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda da: da.isel(x=slice(None, None, -1)),
            r"coordinate x does not ascend:\n    da = da.sortby",
        ),
        (lambda da: da.isel(x=[0, 1, 3]), "coordinate x is not regular"),
        (
            lambda da: da.isel(x=[0]),
            "coordinate x has one label, which does not tell the resolution",
        ),
        (lambda da: da.assign_coords(x=da.x + 4), "labels? .* voxel|snap"),
        (
            lambda da: da.assign_coords(x=("x", [4, np.nan, 20, 28], {"units": "nm"})),
            "NaN or infinity",
        ),
    ],
)
def test_labels_off_the_grid(change, message):
    with pytest.raises(CoordinateError, match=message), xr.set_options(keep_attrs=True):
        describe(change(labelled()))


def test_arguments_that_disagree():
    with pytest.raises(
        CoordinateError, match=r"step of 8 nm, resolution= says 4 nm(.|\n)*drop_vars"
    ):
        describe(labelled(), resolution=(4, 8, 40))
    with pytest.raises(CoordinateError, match="begins at voxel 3, voxel_offset= says 0"):
        describe(labelled(), voxel_offset=(0, 5, 7))
    assert describe(labelled(), (8.0, 8, 40), (3, 5, 7)).resolution == (8, 8, 40)


@pytest.mark.parametrize("resolution", [(8, 8), (8, 8, 0), (8, 8, float("nan")), (8, "8", 8)])
def test_unusable_resolutions(resolution):
    with pytest.raises(CoordinateError, match="resolution="):
        describe(labelled(), resolution=resolution)


def test_unusable_offsets():
    with pytest.raises(CoordinateError, match="voxel_offset=.*whole numbers"):
        describe(labelled(), voxel_offset=(0.5, 0, 0))


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        ("bool", "uint8"),
        ("int64", "uint64"),
        ("uint16", "uint16"),
        ("int8", "int8"),
        ("float32", "float32"),
    ],
)
def test_data_types(dtype, stored):
    assert describe(labelled(dtype=dtype)).data_type == stored


@pytest.mark.parametrize(
    ("dtype", "cure"),
    [
        ("float64", r"da.astype\('float32'\)"),
        ("float16", r"da.astype\('float32'\)"),
        ("complex64", "no place"),
        ("<M8[ns]", "no place"),
    ],
)
def test_data_types_without_a_place(dtype, cure):
    with pytest.raises(DataTypeError, match=cure):
        describe(labelled().astype(dtype))


def test_types_of_cloudvolume_stay_where_they_come_from_there():
    da = labelled(dtype="int64")
    da.encoding["precomputed"] = {"data_type": "int64"}
    assert describe(da).data_type == "int64"


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (
            xr.DataArray(np.zeros((2, 2)), dims=("y", "x")),
            r"expected x, y, z(.|\n)*da.expand_dims\('z'\)",
        ),
        (xr.DataArray(np.zeros((1, 2, 2, 2)), dims=("t", "z", "y", "x")), r"da.isel\(t=0\)"),
        (xr.DataArray(np.zeros((0, 2, 2)), dims=("z", "y", "x")), r"no voxels: dimensions \['z'\]"),
        (xr.Dataset({"a": ("row", [1])}), r"found \[\] among \['a'\]"),
        (xr.Dataset({"a": labelled(), "b": labelled()}), r"found \['a', 'b'\].*ds\[name\]"),
    ],
)
def test_shapes_that_are_no_volume(obj, message):
    with pytest.raises(LayoutError, match=message):
        describe(obj)


def test_not_labelled_at_all():
    with pytest.raises(TypeError, match=r"ndarray: expected a DataArray(.|\n)*xr.DataArray\(array"):
        describe(np.zeros((2, 2, 2)))


def test_stale_encoding_is_not_believed():
    da = labelled()
    remembered = {
        "resolution": [8, 8, 40],
        "key": "k",
        "chunk_size": [9, 9, 9],
        "sharding": {},
        "hidden": True,
    }
    da.encoding["precomputed"] = remembered
    assert describe(da).remembered == remembered
    coarse = da.isel(x=slice(None, None, 2))
    coarse.encoding = da.encoding
    coarse = coarse.assign_coords(x=("x", (np.arange(2) + 4.5) * 16, {"units": "nm"}))
    assert describe(coarse).remembered == {"chunk_size": [9, 9, 9]}
