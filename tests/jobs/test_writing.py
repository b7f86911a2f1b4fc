"""Modes, regions, alignment, what survives, what is refused."""

import json
import os
from pathlib import Path

import dask
import dask.array as dask_array
import numpy as np
import pytest
import xarray as xr

from tests.images import labels
from tests.jobs.arrays import files, label, opened
from xprecomputed import (
    AlignmentError,
    CoordinateError,
    DataTypeError,
    InfoMissingError,
    InvalidInfoError,
    InvalidURLError,
    LayerExistsError,
    LayoutError,
    OutOfBoundsError,
    PrecomputedWarning,
    ScaleNotFoundError,
    ShardingSpec,
    SourceError,
    StorageError,
    UnsupportedEncodingError,
    create_info,
    open_store,
    set_options,
    to_precomputed,
    trace,
    write_info,
)
from xprecomputed.testing import write_volume

OFFSET = (3, -5, 7)
SPEC = ShardingSpec(preshift_bits=1, hash="identity", minishard_bits=1, shard_bits=8)


@pytest.fixture
def seg(rng):
    return label(
        labels((40, 50, 60)) + rng.integers(0, 2, (40, 50, 60)).astype("u8"), offset=OFFSET
    )


@pytest.fixture
def url(tmp_path):
    return str(tmp_path / "layer")


# ---- the whole of a layer


def test_write_and_open(seg, url):
    store = to_precomputed(seg, url)
    found = opened(url)
    xr.testing.assert_equal(found, seg)
    assert found.dtype == "u8"
    assert store.info == open_store(url).info
    scale = store.info.scales[0]
    assert (scale.key, scale.voxel_offset, scale.resolution) == ("8_8_40", OFFSET, (8, 8, 40))
    assert (scale.encoding, scale.chunk_size) == ("compressed_segmentation", (64, 64, 64))


def test_info_is_what_all_peers_load(seg, url):
    to_precomputed(seg, url)
    document = json.loads(Path(url, "info").read_bytes())
    assert document["@type"] == "neuroglancer_multiscale_volume"
    assert document["scales"][0]["resolution"] == [8, 8, 40]
    assert "null" not in json.dumps(document)
    assert sorted(os.listdir(url)) == ["8_8_40", "info", "provenance"]
    assert all("." not in name for name in os.listdir(f"{url}/8_8_40"))


@pytest.mark.parametrize(
    "how", ["numpy", "dask", "lazy", "dask opened", "transposed", "not computed"]
)
@pytest.mark.parametrize("sharding", [None, SPEC])
def test_sources(seg, url, tmp_path, how, sharding):
    first = write_volume(
        str(tmp_path / "first"), [seg.values], voxel_offset=OFFSET, chunk_size=(16, 16, 16)
    )
    da = {
        "numpy": lambda: seg,
        "dask": lambda: seg.chunk(x=32, y=16, z=48),
        "lazy": lambda: opened(first),
        "dask opened": lambda: opened(first, chunks={}),
        "transposed": lambda: opened(first).transpose("x", "y", "z"),
        "not computed": lambda: seg.chunk(x=16, y=16, z=16),
    }[how]()
    work = to_precomputed(
        da, url, chunk_size=(16, 16, 16), sharding=sharding, compute=how != "not computed"
    )
    if how == "not computed":
        assert sorted(os.listdir(url)) == ["info", "provenance"]
        with pytest.raises(FileNotFoundError):
            opened(url).load()
        assert work.compute() == 4 * 4 * 3
    xr.testing.assert_equal(opened(url), seg)


def test_a_lazy_source_is_not_loaded_whole(url, tmp_path):
    first = write_volume(
        str(tmp_path / "first"), [np.ones((64, 64, 64), "u1")], chunk_size=(16, 16, 16)
    )
    da = opened(first)
    to_precomputed(da, url)
    assert not da.variable._in_memory


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_any_scheduler(seg, url, scheduler):
    work = to_precomputed(
        seg.chunk(x=32), url, chunk_size=(32, 32, 32), downsample=1, compute=False
    )
    with dask.config.set(scheduler=scheduler):
        work.compute()
    xr.testing.assert_equal(opened(url), seg)


def test_channels(rng, url):
    image = label(rng.integers(0, 255, (3, 5, 6, 7)).astype("u1"))
    store = to_precomputed(image.transpose("x", "channel", "z", "y"), url)
    assert (store.info.num_channels, store.info.type) == (3, "image")
    np.testing.assert_array_equal(opened(url).values, image.values)


def test_datasets_and_trees(seg, tmp_path):
    coarse = label(seg.values[:, ::2, ::2], (16, 16, 40), (1, -3, 7))
    tree = xr.DataTree.from_dict(
        {"/b": coarse.to_dataset(name="s"), "/a": seg.to_dataset(name="s")}
    )
    store = to_precomputed(tree, str(tmp_path / "tree"))
    assert [scale.key for scale in store.info.scales] == ["8_8_40", "16_16_40"]
    xr.testing.assert_equal(opened(store.url, 1), coarse)
    again = xr.open_datatree(store.url, engine="precomputed")
    to_precomputed(again, str(tmp_path / "again"), downsample=1)
    assert len(open_store(str(tmp_path / "again")).mips) == 3
    to_precomputed(again["mip1"].to_dataset(), str(tmp_path / "one"))
    xr.testing.assert_equal(opened(str(tmp_path / "one")), coarse)


def test_trees_that_are_no_pyramid(seg, url):
    with pytest.raises(LayoutError, match="no variables"):
        to_precomputed(xr.DataTree(), url)
    tree = xr.DataTree.from_dict(
        {
            "/a": seg.to_dataset(name="s"),
            "/b": label(np.ones((2, 2, 2), "u1"), (16, 16, 40)).to_dataset(name="s"),
        }
    )
    with pytest.raises(LayoutError, match="mips of uint64 x 1 and of uint8 x 1"):
        to_precomputed(tree, url)
    with pytest.raises(LayoutError, match="a DataTree is written as a whole"):
        to_precomputed(tree, url, mode="r+")
    assert not os.path.exists(url)


@pytest.mark.parametrize(
    ("dtype", "stored"), [("bool", "u1"), ("i8", "u8"), ("i4", "i4"), ("f4", "f4"), (">u2", "u2")]
)
def test_data_types(url, dtype, stored):
    da = label((np.arange(24) % 2).reshape(2, 3, 4).astype(dtype))
    to_precomputed(da, url)
    assert opened(url).dtype == stored
    np.testing.assert_array_equal(opened(url).values, da.values)


def test_negative_ids_never_wrap(url):
    da = label(np.full((2, 3, 4), -1, "i8"))
    with pytest.raises(DataTypeError, match=r"int64 with negative values \(the least is -1\)"):
        to_precomputed(da, url)
    with pytest.raises(FileNotFoundError):
        opened(url).load()


@pytest.mark.parametrize(
    ("encoding", "dtype", "channels", "options"),
    [
        ("raw", "f4", 2, None),
        ("png", "u1", 3, {"level": 1}),
        ("png", "u2", 1, None),
        ("compressed_segmentation", "u4", 2, {"block_size": (4, 8, 2)}),
        ("compresso", "u2", 1, None),
    ],
)
@pytest.mark.parametrize("compression", ["auto", "gzip", "br", "zstd"])
def test_encodings(rng, url, encoding, dtype, channels, options, compression):
    data = rng.integers(0, 7, (channels, 9, 10, 11)).astype(dtype)
    da = label(data if channels > 1 else data[0])
    store = to_precomputed(
        da,
        url,
        encoding=encoding,
        encoding_options=options,
        compression=compression,
        chunk_size=(8, 8, 8),
    )
    np.testing.assert_array_equal(opened(url).values, da.values)
    suffix = {"auto": "", "gzip": ".gz", "br": ".br", "zstd": ".zstd"}[compression]
    assert os.path.exists(f"{url}/8_8_40/0-8_0-8_0-8{suffix}")
    document = store.info.scales[0].to_json()
    if options:
        member = {"level": "png_level", "block_size": "compressed_segmentation_block_size"}
        for name, value in options.items():
            assert document[member[name]] == (list(value) if isinstance(value, tuple) else value)


def test_jpeg_is_close_and_its_quality_counts(url, rng):
    smooth = label(
        np.add.outer(np.arange(16), np.add.outer(np.arange(32), np.arange(32))).astype("u1")
    )
    sizes = {}
    for quality in (30, 95):
        to_precomputed(
            smooth, url, encoding="jpeg", encoding_options={"quality": quality}, mode="w"
        )
        assert abs(opened(url).values.astype(int) - smooth.values).max() < 20
        sizes[quality] = sum(map(len, files(Path(url, "8_8_40")).values()))
    assert sizes[30] < sizes[95]


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (np.ones((2, 2, 2), "f4"), {"encoding": "jpeg"}, UnsupportedEncodingError, "jpeg cannot hold float32"),
        (np.ones((2, 2, 2, 2), "u1"), {"encoding": "compresso"}, UnsupportedEncodingError, "compresso cannot hold 2 channels"),
        (np.ones((2, 2, 2), "u1"), {"encoding": "jpg"}, UnsupportedEncodingError, "unknown encoding 'jpg'"),
        (np.ones((2, 2, 2), "u1"), {"encoding": "png", "encoding_options": {"quality": 3}}, ValueError, "quality"),
        (np.ones((2, 2, 2), "u1"), {"sharding": "yes"}, LayoutError, "sharding='yes': expected None"),
        (np.ones((2, 2, 2), "u1"), {"chunk_size": (0, 1, 1)}, ValueError, "chunk_sizes"),
        (np.ones((2, 2, 2), "u1"), {"mode": "x"}, ValueError, "mode='x': expected"),
        (np.ones((2, 2, 2), "u1"), {"mode": "w", "region": "auto"}, ValueError, "region= with mode='w'"),
        (np.ones((2, 2, 2), "u1"), {"resume": True, "region": "auto"}, ValueError, "resume=True with region="),
        (np.ones((2, 2, 2), "u1"), {"downsample_method": "median"}, ValueError, "downsample_method='median'"),
        (np.ones((2, 2, 2), "u1"), {"downsample": "all"}, LayoutError, "downsample='all'"),
        (np.ones((2, 2, 2), "u1"), {"downsample": -1}, LayoutError, "downsample=-1"),
        (np.ones((2, 2, 2), "u1"), {"downsample": [(1, 1, 1)]}, LayoutError, "expected factors such as"),
        (np.ones((2, 2, 2), "u1"), {"downsample": 9}, LayoutError, "after 2 mips a single voxel is left|mips a single"),
        (np.ones((2, 2, 2), "u1"), {"layer_type": "labels"}, LayoutError, "layer_type='labels'"),
        (np.ones((2, 2, 2), "u1"), {"write_empty_chunks": False, "fill_value": 1}, ValueError, "reads as zeros everywhere"),
        (np.ones((2, 2, 2), "u1"), {"compression": "xz"}, ValueError, "compression.*xz"),
    ],
)  # fmt: skip
def test_refused_before_anything_is_written(url, data, options, error, message):
    with pytest.raises(error, match=message):
        to_precomputed(label(data), url, **options)
    assert not os.path.exists(url)


# ---- modes


def test_an_existing_layer_is_refused(seg, url):
    to_precomputed(seg, url)
    with pytest.raises(
        LayerExistsError, match=r"there is a layer \(segmentation, 1 scales\)(.|\n)*mode='w'"
    ):
        to_precomputed(seg, url)


def test_w_replaces_stale_objects_too(seg, url, tmp_path):
    to_precomputed(seg, url, downsample=2, chunk_size=(16, 16, 16))
    (tmp_path / "layer" / "mesh").mkdir()
    (tmp_path / "layer" / "mesh" / "info").write_text("{}")
    small = seg.isel(x=slice(0, 16), y=slice(0, 16), z=slice(0, 16))
    to_precomputed(small, url, mode="w", chunk_size=(16, 16, 16))
    assert sorted(os.listdir(url)) == ["8_8_40", "info", "mesh", "provenance"]
    assert len(os.listdir(f"{url}/8_8_40")) == 1
    xr.testing.assert_equal(opened(url), small)


def test_w_never_deletes_outside_of_its_folder(seg, tmp_path):
    write_volume(str(tmp_path / "other"), [np.ones((4, 4, 4), "u1")])
    info = open_store(str(tmp_path / "other")).info.to_json()
    info["scales"][0]["key"] = "../other/8_8_40"
    write_info(str(tmp_path / "layer"), info)
    before = files(tmp_path)
    with pytest.raises(InvalidURLError, match="does not lie inside of .*layer"):
        to_precomputed(seg, str(tmp_path / "layer"), mode="w")
    assert files(tmp_path) == before


def test_a_adds_a_scale_in_its_place(seg, url):
    to_precomputed(label(seg.values[:, ::4, ::4], (32, 32, 40)), url)
    store = to_precomputed(seg, url, mode="a")
    to_precomputed(label(seg.values[:, ::2, ::2], (16, 16, 40)), url, mode="a")
    assert [s.key for s in open_store(url).info.scales] == ["8_8_40", "16_16_40", "32_32_40"]
    assert store.info.find_mip("8_8_40") == 0
    xr.testing.assert_equal(opened(url, 0), seg)
    np.testing.assert_array_equal(opened(url, 2).values, seg.values[:, ::4, ::4])
    with pytest.raises(LayerExistsError, match="mip 0 .*is there already"):
        to_precomputed(seg, url, mode="a")
    with pytest.raises(
        LayoutError, match=r"data_type of the layer is 'uint64', of the array 'uint8'(.|\n)*astype"
    ):
        to_precomputed(label(np.ones((2, 2, 2), "u1"), (64, 64, 40)), url, mode="a")


def test_fields_of_others_survive(seg, url, tmp_path):
    to_precomputed(seg, url, chunk_size=(16, 16, 16))
    path = tmp_path / "layer" / "info"
    document = json.loads(path.read_text())
    document |= {"mesh": "mesh", "skeletons": "skel", "app": {"x": [1]}}
    document["scales"][0]["rois"] = [[0, 0, 0, 1, 1, 1]]
    path.write_text(json.dumps(document))
    to_precomputed(seg, url, region="auto")
    to_precomputed(label(seg.values[:, ::2, ::2], (16, 16, 40)), url, mode="a")
    found = json.loads(path.read_text())
    assert {name: found[name] for name in ("mesh", "skeletons", "app")} == {
        name: document[name] for name in ("mesh", "skeletons", "app")
    }
    assert found["scales"][0] == document["scales"][0]
    with pytest.warns(
        PrecomputedWarning, match=r"skel/info is not there, but info names skeletons='skel'"
    ):
        to_precomputed(opened(url), str(tmp_path / "other"))
    other = json.loads((tmp_path / "other" / "info").read_text())
    assert other["app"] == {"x": [1]}
    assert other["scales"][0] == document["scales"][0]


def test_a_layer_that_redirects_is_not_written(seg, url, tmp_path):
    info = create_info(size=(1, 1, 1), resolution=(1, 1, 1), data_type="uint8").to_json()
    write_info(url, info | {"redirect": str(tmp_path / "elsewhere")})
    with pytest.raises(LayoutError, match="redirects to .*elsewhere; write there"):
        to_precomputed(seg, url, mode="w")


def test_provenance_is_appended_to(seg, url, tmp_path):
    path = tmp_path / "layer" / "provenance"
    to_precomputed(seg, url, provenance="made for a test", chunk_size=(16, 16, 16))
    to_precomputed(seg, url, region="auto", provenance={"sources": "gs://raw", "by": "me@lab.org"})
    document = json.loads(path.read_text())
    assert document["description"] == "made for a test"
    assert document["sources"] == ["gs://raw"]
    assert [step["method"]["mode"] for step in document["processing"]] == ["w-", "r+"]
    assert document["processing"][1]["by"] == "me@lab.org"
    assert open_store(url).provenance == document
    path.write_text("// not JSON")
    with pytest.raises(InvalidInfoError, match="layer/provenance: not JSON"):
        open_store(url).provenance
    with pytest.warns(PrecomputedWarning, match="it is left as it is"):
        to_precomputed(seg, url, region="auto")
    assert path.read_text() == "// not JSON"
    to_precomputed(seg, url, region="auto", provenance=False)
    path.write_text("[]")
    with pytest.raises(InvalidInfoError, match="expected an object, found list"):
        open_store(url).provenance
    path.unlink()
    assert open_store(url).provenance == {}


# ---- regions


@pytest.mark.parametrize("sharding", [None, SPEC])
def test_regions_by_position_and_by_coordinates(seg, url, sharding):
    info = create_info(
        size=(60, 50, 40),
        resolution=(8, 8, 40),
        data_type="uint64",
        voxel_offset=OFFSET,
        chunk_size=(8, 8, 8),
        sharding=sharding,
    )
    write_info(url, info)
    # a shard holds 2 x 2 x 1 chunks
    to_precomputed(seg.isel(x=slice(0, 32)), url, region={"x": slice(0, 32)})
    to_precomputed(seg.isel(x=slice(32, None)), url, region="auto")
    xr.testing.assert_equal(opened(url), seg)
    bare = (seg + 1).drop_vars(["x", "y", "z"]).isel(y=slice(16, 32)).astype("u8")
    to_precomputed(bare, url, region={"y": slice(16, 32)})
    assert opened(url).isel(y=16).equals((seg + 1).isel(y=16))
    assert opened(url).isel(y=slice(0, 16)).equals(seg.isel(y=slice(0, 16)))


@pytest.mark.parametrize(
    ("part", "region", "error", "message"),
    [
        ({"x": slice(0, 16)}, None, LayoutError, r"the array covers x\[3, 19\).*region='auto'"),
        ({"x": slice(0, 16)}, "all", LayoutError, "region='all': expected 'auto'"),
        ({"x": slice(0, 16)}, {"x": slice(16, 32)}, CoordinateError, r"coordinate x begins at voxel 3, region= at 19(.|\n)*drop_vars"),
        ({"x": slice(0, 16)}, {"x": slice(0, 17)}, LayoutError, r"has \(17, 50, 40\) voxels"),
        ({"x": slice(0, 16)}, {"x": slice(0, 99)}, OutOfBoundsError, "leaves scale '8_8_40', which has 60 voxels"),
        ({"x": slice(0, 16)}, {"x": slice(0, 32, 2)}, LayoutError, r"expected slice\(start, stop\)"),
        ({"x": slice(0, 16)}, {"x": 3}, LayoutError, r"expected slice\(start, stop\)"),
        ({"x": slice(0, 16)}, {"t": slice(0, 1)}, LayoutError, "expected slices along x, y, z"),
        ({"x": slice(3, 16)}, "auto", AlignmentError, r"region=\{'x': slice\(0, 16, None\), 'y': slice\(0, 50, None\)(.|\n)*safe_chunks=False"),
    ],
)  # fmt: skip
def test_regions_that_are_refused(seg, url, part, region, error, message):
    to_precomputed(seg, url, chunk_size=(16, 16, 16))
    before = files(Path(url))
    with pytest.raises(error, match=message):
        to_precomputed(seg.isel(part), url, mode="r+", region=region)
    assert files(Path(url)) == before


def test_values_must_fit_the_scale(seg, url):
    with pytest.raises(InfoMissingError, match=r"xp.write_info\('.*layer', xp.create_info"):
        to_precomputed(seg, url, region="auto")
    to_precomputed(seg, url, chunk_size=(16, 16, 16))
    part = seg.isel(x=slice(0, 16))
    for options, message in [
        (
            {"encoding": "raw"},
            "encoding of scale '8_8_40' is compressed_segmentation, this write asks for raw",
        ),
        ({"chunk_size": (8, 8, 8)}, r"chunk_sizes of scale .* is \[\[16, 16, 16\]\]"),
        ({"sharding": SPEC}, "sharding of scale"),
        ({"layer_type": "image"}, "type of the layer is 'segmentation', of the array 'image'"),
        ({"downsample": 1}, r"xp.downsample\("),
    ]:
        with pytest.raises(LayoutError, match=message):
            to_precomputed(part, url, region="auto", **options)
    with pytest.raises(
        LayoutError, match="data_type of the layer is 'uint64', of the array 'uint32'"
    ):
        to_precomputed(part.astype("u4"), url, region="auto")
    with pytest.raises(ScaleNotFoundError, match=r"layer: there is no mip"):
        to_precomputed(label(part.values, (4, 4, 40)), url, region="auto")


def test_without_coordinates_the_scale_must_be_known(seg, url):
    to_precomputed(seg, url, downsample=1)
    bare = seg.drop_vars(["x", "y", "z"])
    with pytest.raises(
        CoordinateError,
        match=r"several scales; say it: resolution=…, one of\n  mip 0: resolution \(8, 8, 40\)",
    ):
        to_precomputed(bare, url, mode="r+")
    to_precomputed(bare, url, mode="r+", resolution=(8, 8, 40))
    counted = seg.assign_coords(x=range(60), y=range(50), z=range(40))
    with pytest.raises(CoordinateError, match="region='auto' needs coordinates with units"):
        to_precomputed(counted, url, region="auto", resolution=(8, 8, 40))


@pytest.mark.parametrize("sharding", [None, SPEC, "auto"])
@pytest.mark.parametrize("encoding", ["compressed_segmentation", "raw"])
def test_partial_objects_are_merged_on_request(seg, url, sharding, encoding, rng):
    to_precomputed(seg, url, chunk_size=(16, 16, 16), sharding=sharding, encoding=encoding)
    wanted = seg.values.copy()
    for _ in range(6):
        start = rng.integers(0, (30, 40, 50))
        stop = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, seg.shape, strict=True)]
        z, y, x = (slice(int(a), b) for a, b in zip(start, stop, strict=True))
        wanted[z, y, x] += 1
        part = seg.copy(data=wanted).isel(z=z, y=y, x=x)
        to_precomputed(part, url, region="auto", safe_chunks=False)
        np.testing.assert_array_equal(opened(url).values, wanted)


def test_a_partial_write_of_what_is_not_stored(url):
    info = create_info(
        size=(8, 8, 8), resolution=(8, 8, 8), data_type="uint8", chunk_size=(8, 8, 8)
    )
    write_info(url, info)
    part = label(np.full((2, 3, 4), 9, "u1"), (8, 8, 8), (1, 1, 1))
    to_precomputed(part, url, region="auto", safe_chunks=False, fill_value=5)
    wanted = np.full((8, 8, 8), 5)
    wanted[1:3, 1:4, 1:5] = 9
    np.testing.assert_array_equal(opened(url).values, wanted)


def test_dask_chunks_that_cut_stored_ones(seg, url):
    da = seg.chunk(x=20, y=50, z=16)
    with pytest.raises(
        AlignmentError,
        match=r"along x cut through(.|\n)*align_chunks=True(.|\n)*da.chunk\(\{'x': 16\}\)",
    ):
        to_precomputed(da, url, chunk_size=(16, 16, 16))
    to_precomputed(da.chunk({"x": 16}), url, chunk_size=(16, 16, 16))
    xr.testing.assert_equal(opened(url), seg)
    to_precomputed(da, url, chunk_size=(16, 16, 16), align_chunks=True, mode="w")
    xr.testing.assert_equal(opened(url), seg)
    # the hint is right for a region too, where blocks begin inside of the grid
    part = seg.isel(x=slice(16, 60)).chunk(x=24)
    with pytest.raises(AlignmentError, match=r"da.chunk\(\{'x': (\d+|\(.*\))\}\)") as caught:
        to_precomputed(part, url, region="auto")
    hint = str(caught.value).rpartition("da.chunk(")[2].removesuffix(")")
    to_precomputed(part.chunk(eval(hint)), url, region="auto")


def test_dask_chunks_along_channel(rng, url):
    da = label(rng.integers(0, 255, (2, 5, 6, 7)).astype("u1")).chunk(channel=1)
    with pytest.raises(AlignmentError, match=r"da.chunk\(channel=-1\)"):
        to_precomputed(da, url)
    to_precomputed(da, url, align_chunks=True)
    np.testing.assert_array_equal(opened(url).values, da.values)


def test_unknown_chunk_sizes(url):
    data = dask_array.ones((4, 4, 4), "u1", chunks=2)
    data = data[dask_array.from_array(np.array([True, False, True, True]), chunks=2)]
    da = xr.DataArray(data, dims=("z", "y", "x"))
    with pytest.raises((LayoutError, ValueError)):
        to_precomputed(da, url, resolution=(1, 1, 1))


# ---- empty chunks, resuming


@pytest.mark.parametrize("sharding", [None, SPEC])
def test_empty_chunks_are_left_out_and_removed(url, sharding):
    data = np.zeros((8, 8, 16), "u8")
    data[:, :, :4] = 3
    da = label(data)
    to_precomputed(da, url, chunk_size=(4, 4, 4), sharding=sharding, write_empty_chunks=False)
    stored = open_store(url).has_data(0).values
    assert stored[:, :, 0].all()
    assert not stored[:, :, 1:].any()
    np.testing.assert_array_equal(opened(url, fill_missing=True).values, data)
    to_precomputed(da * 0, url, mode="r+", write_empty_chunks=False)
    assert not open_store(url).has_data(0).values.any()
    assert os.listdir(f"{url}/8_8_40") == []
    to_precomputed(da * 0, url, mode="r+")
    assert open_store(url).has_data(0).values.all()


@pytest.mark.parametrize("sharding", [None, SPEC])
def test_resume_does_what_is_left(seg, tmp_path, sharding):
    url, done = str(tmp_path / "layer"), []

    def seen(block):
        done.append(block.shape)
        return block

    def lazy():
        da = seg.chunk(x=16, y=16, z=16)
        return da.copy(data=da.data.map_blocks(seen, dtype="u8", meta=np.empty((0, 0, 0), "u8")))

    options = {"chunk_size": (16, 16, 16), "sharding": sharding, "downsample": 1}
    to_precomputed(lazy(), url, **options)
    complete = files(tmp_path / "layer")
    assert len(done) == 48
    done.clear()
    to_precomputed(lazy(), url, resume=True, **options)
    assert done == []
    removed = sorted((tmp_path / "layer" / "8_8_40").iterdir())[3]
    os.remove(removed)
    to_precomputed(lazy(), url, resume=True, **options)
    assert 1 <= len(done) <= 4
    after = files(tmp_path / "layer")
    assert {k: v for k, v in after.items() if k != "provenance"} == {
        k: v for k, v in complete.items() if k != "provenance"
    }


def test_resuming_puts_only_the_chunks_that_lack(seg, url):
    options = {"chunk_size": (16, 16, 16), "provenance": False}
    to_precomputed(seg, url, **options)
    for name in sorted(os.listdir(f"{url}/8_8_40"))[:2]:
        os.remove(f"{url}/8_8_40/{name}")
    with trace() as seen:  # one block: its other chunks are not encoded again
        to_precomputed(seg, url, resume=True, **options)
    written = [name for name in seen.objects if "8_8_40/" in name]
    assert sum(os.path.getsize(name) for name in written) > seen.bytes
    assert seen.bytes < 4 * 2 * 16**3 * 8
    xr.testing.assert_equal(opened(url), seg)


def test_resume_needs_the_identical_layout(seg, url):
    to_precomputed(seg, url, resume=True)  # from the beginning
    with pytest.raises(
        LayoutError,
        match=r"chunk_sizes of scale '8_8_40' is \[\[64, 64, 64\]\], this write asks for \[\[32",
    ):
        to_precomputed(seg, url, resume=True, chunk_size=(32, 32, 32))
    with pytest.raises(LayoutError, match="resume=True, but there is no scale '16_16_40'"):
        to_precomputed(seg, url, resume=True, downsample=1)
    with pytest.raises(LayoutError, match="size of scale"):
        to_precomputed(seg.isel(x=slice(0, 9)), url, resume=True)


# ---- the source of a lazy input


@pytest.mark.parametrize("chunks", [None, {}])
def test_a_write_onto_its_own_source(seg, url, chunks):
    to_precomputed(seg, url, chunk_size=(16, 16, 16))
    lazy = opened(url, chunks=chunks)
    before = files(Path(url))
    for options in (
        {"mode": "w"},
        {"region": "auto"},
        {"mode": "r+"},
        {"resume": True, "chunk_size": (16, 16, 16)},
    ):
        with pytest.raises(SourceError, match=r"read lazily from the very scale(.|\n)*da.load\(\)"):
            to_precomputed(lazy, url, **options)
        if chunks is not None:
            with pytest.raises(SourceError, match="read lazily"):
                to_precomputed((lazy + 1).drop_attrs(deep=False), url, **options)
    assert files(Path(url)) == before
    # what is in memory, or goes to another scale, is fine
    to_precomputed(lazy.load(), url, region="auto")
    again = opened(url, chunks=chunks)
    coarse = again.isel(x=slice(None, None, 2), y=slice(None, None, 2)).assign_coords(
        {
            a: (a, (np.arange(n) + o + 0.5) * 16, {"units": "nm"})
            for a, n, o in (("x", 30, 1), ("y", 25, -3))
        }
    )
    to_precomputed(coarse, url, mode="a", align_chunks=True)
    np.testing.assert_array_equal(opened(url, 1).values, seg.values[:, ::2, ::2])


# ---- failures


def test_a_failing_task_leaves_no_pieces(seg, url):
    def fail(block, block_id=None):
        if block_id == (0, 0, 2):
            raise RuntimeError("on purpose")
        return block

    da = seg.chunk(x=16, y=16, z=16)
    da = da.copy(data=da.data.map_blocks(fail, dtype="u8", meta=np.empty((0, 0, 0), "u8")))
    with set_options(write_budget_bytes=0), pytest.raises(RuntimeError, match="on purpose"):
        to_precomputed(da, url, chunk_size=(16, 16, 16), sharding=SPEC)
    assert not [name for name in os.listdir(url) if name.startswith(".")]
    assert all(name.endswith(".shard") for name in os.listdir(f"{url}/8_8_40"))


def test_somebody_else_was_faster(seg, url, monkeypatch):
    from xprecomputed.jobs import writing

    def race(*args, **kwargs):
        write_volume(url, [np.ones((2, 2, 2), "u1")])

    monkeypatch.setattr(writing, "existing_info", race)
    with pytest.raises(StorageError, match="info was changed by somebody else"):
        to_precomputed(seg.isel(x=slice(0, 9)), url)


def test_requests_are_those_of_the_objects(seg, url):
    with trace() as seen:
        to_precomputed(seg, url, chunk_size=(32, 32, 32), provenance=False)
    # info: is there one, twice (planned, and under the lock), a look into the folder, the put
    assert seen.requests == 2 * 2 * 2 + 4


def test_progress_is_shown_on_request(seg, url, capsys):
    to_precomputed(seg, url, progress=True)
    assert "100% Completed" in capsys.readouterr().err
    to_precomputed(seg, url, mode="w")
    assert "Completed" not in capsys.readouterr().err
