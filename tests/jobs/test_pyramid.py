"""Mips written in the same call and added later, against a slow reference."""

import numpy as np
import pytest
import xarray as xr

from tests.images import labels, noise
from tests.jobs.arrays import label, opened
from xprecomputed import (
    LayerExistsError,
    LayoutError,
    ShardingSpec,
    create_info,
    downsample,
    open_store,
    to_precomputed,
    write_info,
)

SPEC = ShardingSpec(preshift_bits=1, hash="identity", minishard_bits=1, shard_bits=4)


def reference(data, offset, factor, method):
    """One mip, cell by cell, on the absolute grid; axes (z, y, x), triples x, y, z."""
    offset, factor = offset[::-1], factor[::-1]
    low = [o // f for o, f in zip(offset, factor, strict=True)]
    high = [-(-(o + n) // f) for o, n, f in zip(offset, data.shape, factor, strict=True)]
    out = np.empty([b - a for a, b in zip(low, high, strict=True)], data.dtype)
    for index in np.ndindex(out.shape):
        cell = data[
            tuple(
                slice(max((i + a) * f - o, 0), (i + a + 1) * f - o)
                for i, a, f, o in zip(index, low, factor, offset, strict=True)
            )
        ].reshape(-1)
        if method == "mode":
            values, counts = np.unique(cell, return_counts=True)
            out[index] = values[counts.argmax()]
        elif method == "mean":
            whole, rest = divmod(sum(int(v) for v in cell), len(cell))
            up = 2 * rest > len(cell) or (2 * rest == len(cell) and whole % 2)
            out[index] = whole + bool(up)
        else:
            out[index] = {"min": cell.min(), "max": cell.max(), "stride": cell[0]}[method]
    return out, low[::-1]


@pytest.mark.parametrize("method", ["mode", "mean", "min", "max", "stride"])
@pytest.mark.parametrize("offset", [(0, 0, 0), (3, -5, 7)])
@pytest.mark.parametrize("how", ["numpy", "small blocks", "lazy", "odd blocks"])
@pytest.mark.parametrize("sharding", [None, SPEC, "auto"])
def test_a_pyramid_equals_the_reference(tmp_path, method, offset, how, sharding):
    data = labels((21, 30, 35), "u8") if method == "mode" else noise((21, 30, 35), "u1")
    da = label(data, offset=offset)
    if how == "small blocks":
        da = da.chunk(x=8, y=8, z=8)
    elif how == "odd blocks":
        da = da.chunk(x=24, y=8, z=16)
    elif how == "lazy":
        to_precomputed(da, str(tmp_path / "first"))
        da = opened(str(tmp_path / "first"))
    factors = [(2, 2, 1), (2, 3, 2)]
    url = str(tmp_path / "layer")
    work = to_precomputed(
        da,
        url,
        downsample=factors,
        downsample_method=method,
        chunk_size=(8, 8, 8),
        sharding=sharding,
        compute=False,
    )
    work.compute()
    info = open_store(url).info
    assert [scale.resolution for scale in info.scales] == [(8, 8, 40), (16, 16, 40), (32, 48, 80)]
    assert all((scale.sharding is None) == (sharding is None) for scale in info.scales)
    wanted = data
    np.testing.assert_array_equal(opened(url).values, data)
    for mip, factor in enumerate(factors, 1):
        wanted, offset = reference(wanted, offset, factor, method)
        np.testing.assert_array_equal(opened(url, mip).values, wanted)
        assert list(info.scales[mip].voxel_offset) == list(offset)


def test_defaults_follow_the_type_and_the_resolution(tmp_path):
    image = label(noise((20, 40, 40), "u1"), (8, 8, 20))
    store = to_precomputed(image, str(tmp_path / "image"), downsample=3)
    assert [scale.key for scale in store.info.scales] == [
        "8_8_20",
        "16_16_20",
        "32_32_40",
        "64_64_80",
    ]
    np.testing.assert_array_equal(
        opened(store.url, 1).values, reference(image.values, (0, 0, 0), (2, 2, 1), "mean")[0]
    )
    seg = label(labels((20, 40, 40)))
    store = to_precomputed(seg, str(tmp_path / "seg"), downsample=1)
    np.testing.assert_array_equal(
        opened(store.url, 1).values, reference(seg.values, (0, 0, 0), (2, 2, 1), "mode")[0]
    )


def test_auto_ends_in_one_chunk(tmp_path):
    store = to_precomputed(
        label(labels((20, 100, 70))),
        str(tmp_path / "a"),
        downsample="auto",
        chunk_size=(16, 16, 16),
    )
    last = store.info.scales[-1]
    assert last.grid.chunks == 1
    assert store.info.scales[-2].grid.chunks > 1


def test_channels_are_downsampled_alone(tmp_path):
    image = noise((3, 6, 7, 8), "u2")
    url = str(tmp_path / "rgb")
    to_precomputed(label(image), url, downsample=1)
    for channel in range(3):
        wanted = reference(image[channel], (0, 0, 0), (2, 2, 1), "mean")[0]
        np.testing.assert_array_equal(opened(url, 1).values[channel], wanted)


def test_levels_are_made_from_bool_and_int64_too(tmp_path):
    mask = np.random.default_rng(0).integers(0, 2, (6, 7, 8)).astype(bool)
    url = str(tmp_path / "mask")
    to_precomputed(label(mask), url, downsample=1, layer_type="segmentation")
    wanted = reference(mask.astype("u1"), (0, 0, 0), (2, 2, 1), "mode")[0]
    np.testing.assert_array_equal(opened(url, 1).values, wanted)
    to_precomputed(label(mask.astype("i8")), url, downsample=1, mode="w")
    assert opened(url, 1).dtype == "u8"


# ---- further mips of a layer that exists


@pytest.mark.parametrize("sharding", [None, SPEC])
def test_adding_mips_equals_writing_them_at_once(tmp_path, sharding):
    seg = label(labels((21, 30, 35)), offset=(3, 5, 7))
    options = {"chunk_size": (8, 8, 8), "sharding": sharding}
    once = to_precomputed(seg, str(tmp_path / "once"), downsample=3, **options)
    steps = to_precomputed(seg, str(tmp_path / "steps"), **options)
    downsample(steps.url)
    store = downsample(str(tmp_path / "steps"), 2)
    assert store.info == once.info
    for mip in range(4):
        xr.testing.assert_equal(opened(store.url, mip), opened(once.url, mip))
    with pytest.raises(LayerExistsError, match="mip 1 .*is there already"):
        downsample(store.url, 1, mip=0)


def test_filling_what_info_declares(tmp_path):
    seg = label(labels((21, 30, 35)), offset=(3, 5, 7))
    info = create_info(
        size=(35, 30, 21),
        voxel_offset=(3, 5, 7),
        resolution=(8, 8, 40),
        data_type="uint64",
        chunk_size=(8, 8, 8),
        downsample=2,
    )
    url = write_info(str(tmp_path / "a"), info).url
    to_precomputed(seg, url, region="auto")
    downsample(url, mode="r+")
    once = to_precomputed(seg, str(tmp_path / "once"), downsample=2, chunk_size=(8, 8, 8))
    assert open_store(url).info == info == once.info
    for mip in range(3):
        xr.testing.assert_equal(opened(url, mip), opened(once.url, mip))
    # brought up to date after a change of some voxels
    to_precomputed((seg + 1).isel(x=slice(0, 8)), url, region="auto")
    downsample(url, 1, mode="r+")
    changed = reference(opened(url).values, (3, 5, 7), (2, 2, 1), "mode")[0]
    np.testing.assert_array_equal(opened(url, 1).values, changed)


def test_scales_that_are_no_pyramid(tmp_path):
    first = to_precomputed(label(labels((20, 30, 40))), str(tmp_path / "a"), chunk_size=(8, 8, 8))
    with pytest.raises(LayoutError, match="there is no coarser scale than '8_8_40' to fill"):
        downsample(first.url, mode="r+")
    first.add_scale((2, 2, 1), size=[19, 15, 20])
    with pytest.raises(LayoutError, match=r"is not scale '8_8_40' downsampled by \(2, 2, 1\)"):
        downsample(first.url, mode="r+")


@pytest.mark.parametrize(("option", "value"), [("mode", "w"), ("method", "median")])
def test_unknown_words(tmp_path, option, value):
    with pytest.raises(ValueError, match=f"{option}='{value}': expected"):
        downsample(str(tmp_path), **{option: value})


def test_resuming_adds_or_goes_on(tmp_path):
    url = to_precomputed(label(labels((20, 30, 40))), str(tmp_path / "a"), chunk_size=(8, 8, 8)).url
    with pytest.raises(ValueError, match="resume=True without mip=(.|\n)*mip=0"):
        downsample(url, 2, resume=True)
    downsample(url, 2, resume=True, mip=0)
    before = [opened(url, mip).values for mip in range(3)]
    removed = sorted((tmp_path / "a" / "16_16_40").iterdir())[2]
    removed.unlink()
    kept = {path: path.stat().st_ino for path in (tmp_path / "a").glob("*_*_*/*")}
    downsample(url, 2, resume=True, mip=0)
    assert removed.exists()
    assert {path: path.stat().st_ino for path in kept} == kept
    with pytest.raises(LayoutError, match="sharding of scale '16_16_40'"):
        downsample(url, 2, resume=True, mip=0, sharding="auto")
    for mip in range(3):
        np.testing.assert_array_equal(opened(url, mip).values, before[mip])


def test_the_real_volume(real_volume, tmp_path):
    da = opened(real_volume)
    url = str(tmp_path / "real")
    to_precomputed(
        da,
        url,
        downsample=[(2, 2, 1)] * 2,
        encoding="compressed_segmentation",
        chunk_size=(64, 64, 64),
    )
    wanted = da.values
    for mip in (1, 2):
        cells = np.stack([wanted[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])
        counts = sum((cells == each).astype("u1") for each in cells)
        wanted = np.where(counts == counts.max(axis=0), cells, np.iinfo("u4").max).min(axis=0)
        np.testing.assert_array_equal(opened(url, mip).values, wanted)
