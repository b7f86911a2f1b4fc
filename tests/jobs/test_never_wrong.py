"""Ways in which a write could go wrong without an error; each was possible once."""

import os
import threading
import time
from pathlib import Path

import dask
import dask.array as dask_array
import numpy as np
import pytest
import xarray as xr

from tests.images import noise
from tests.jobs.arrays import files, label, opened
from xprecomputed import (
    AlignmentError,
    CoordinateError,
    DataTypeError,
    InfoMissingError,
    LayerExistsError,
    LayoutError,
    OutOfBoundsError,
    PrecomputedWarning,
    ScaleNotFoundError,
    ShardingSpec,
    SourceError,
    StorageError,
    UnsupportedEncodingError,
    copy,
    create_info,
    downsample,
    open_store,
    set_options,
    to_precomputed,
    write_info,
)

SPEC = ShardingSpec(preshift_bits=3, hash="identity", minishard_bits=0, shard_bits=3)
SIZE = (16, 16, 16)


def constant(value, offset=(0, 0, 0), size=(8, 8, 8), dtype="u1"):
    return label(np.full(size[::-1], value, dtype), offset=offset)


@pytest.fixture
def url(tmp_path):
    return str(tmp_path / "layer")


@pytest.fixture
def layer(url):
    return to_precomputed(constant(5, size=SIZE), url, chunk_size=(4, 4, 4)).url.removeprefix(
        "file://"
    )


# ---- scales


def two_scales(tmp_path, keys=("b", "a")):
    """A layer whose first scale is the coarser one."""
    info = create_info(size=SIZE, resolution=(16, 16, 16), data_type="uint8", chunk_size=(8, 8, 8))
    document = info.to_json()
    scale = document["scales"][0]
    document["scales"] = [
        scale | {"key": keys[0]},
        scale | {"key": keys[1], "resolution": [8, 8, 8]},
    ]
    store = write_info(tmp_path / "unsorted", document)
    for value, step in ((16, (16,) * 3), (8, (8,) * 3)):
        da = label(np.full(SIZE, value, "u1"), step)
        to_precomputed(da, store.url, region="auto")
    return open_store(store.url)


@pytest.mark.parametrize("encoding", [None, "png"])
def test_scales_that_are_not_sorted_keep_their_voxels(tmp_path, encoding):
    source = two_scales(tmp_path)
    found = copy(source, tmp_path / "copy", encoding=encoding)
    for key, value in (("a", 8), ("b", 16)):
        assert (found.read(((0, 0, 0), (1, 1, 1)), key) == value).all()
    more = downsample(source.url, [(2, 2, 1)], mip=1)
    assert (more.read(((0, 0, 0), (1, 1, 1)), "16_16_8") == 8).all()


def test_a_key_that_leaves_the_layer_is_not_taken_over(tmp_path):
    document = create_info(size=SIZE, resolution=(8, 8, 8), data_type="uint8").to_json()
    document["scales"][0]["key"] = "../shared"
    source = write_info(tmp_path / "a", document)
    to_precomputed(label(np.full(SIZE, 7, "u1"), (8, 8, 8)), source.url, region="auto")
    before = files(tmp_path)
    out = opened(source.url).load()
    out.values[:] = 9
    assert to_precomputed(out, tmp_path / "b").info.scales[0].key == "8_8_8"
    assert copy(source, tmp_path / "c").info.scales[0].key == "8_8_8"
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before


def test_dropping_a_scale_keeps_those_inside_of_its_folder(tmp_path):
    store = two_scales(tmp_path, ("a", "a/b"))
    with pytest.raises(LayoutError, match="the scale 'a/b' lies in this folder too"):
        store.drop_scale("a", delete=True)
    assert open_store(store.url).has_data("a/b").values.all()
    with pytest.raises(LayerExistsError, match="is there already"):
        store.add_scale((2, 2, 2), key="./a/")


def test_scales_of_several_chunk_sizes(tmp_path):
    document = create_info(size=SIZE, resolution=(8, 8, 40), data_type="uint8").to_json()
    document["scales"][0]["chunk_sizes"] = [[4, 4, 4], [8, 8, 1]]
    store = write_info(tmp_path / "a", document)
    with pytest.raises(LayoutError, match="in chunks of 2 sizes, each a complete copy"):
        to_precomputed(constant(1, size=SIZE), store.url, region="auto")
    with pytest.raises(LayoutError, match="in chunks of 2 sizes"):
        store.delete(0, ((0, 0, 0), SIZE))
    assert store.add_scale((2, 2, 2)).info.scales[1].chunk_sizes == ((4, 4, 4),)


# ---- what was there before


@pytest.mark.parametrize("resume", [False, True])
def test_objects_without_an_info_are_not_taken_for_data(layer, resume):
    os.remove(f"{layer}/info")
    with pytest.raises(LayerExistsError, match=r"8_8_40: there are objects, though no info names"):
        to_precomputed(constant(9, size=SIZE), layer, chunk_size=(4, 4, 4), resume=resume)
    to_precomputed(constant(9, size=(12, 16, 16)), layer, chunk_size=(8, 8, 8), mode="w")
    assert set(np.unique(opened(layer))) == {9}
    assert len(os.listdir(f"{layer}/8_8_40")) == 2 * 2 * 2


@pytest.mark.parametrize("compute", [False, True])
def test_a_scale_that_was_dropped_does_not_come_back_as_a_mip(layer, compute):
    downsample(layer, 1)
    open_store(layer).drop_scale(1)
    to_precomputed(constant(9, size=SIZE), layer, region="auto")
    with pytest.raises(LayerExistsError, match="16_16_40: there are objects"):
        downsample(layer, 1, mip=0, resume=True, compute=compute)
    assert len(open_store(layer).mips) == 1


def test_resuming_needs_whole_scales(layer):
    with pytest.raises(ValueError, match="resume=True with region= or mode='r\\+'"):
        to_precomputed(constant(2), layer, region="auto", resume=True)


def test_what_others_put_into_info_stays_when_a_layer_is_replaced(layer):
    store = open_store(layer)
    write_info(layer, store.info.to_json() | {"mesh": "mesh", "app": 1}, mode="w")
    found = to_precomputed(constant(1), layer, mode="w").info
    assert (found.mesh, found.extra) == ("mesh", {"app": 1})


# ---- the source by another name


def ways_to_the_same_place(tmp_path, layer):
    os.symlink(tmp_path, tmp_path / "link")
    linked = str(tmp_path / "link" / "layer")
    yield linked, {}, layer
    yield linked, {"chunks": {}}, layer
    yield layer, {"chunks": {}}, linked
    yield f"simplecache::file://{layer}", {"chunks": {}}, layer
    yield layer, {"chunks": {}, "inline_array": True}, layer


def test_a_source_by_another_name_is_not_destroyed(tmp_path, layer):
    before = files(tmp_path / "layer")
    for source, options, target in ways_to_the_same_place(tmp_path, layer):
        lazy = opened(source, **options)
        lazy = lazy if not options else (lazy + 1)
        with pytest.raises(SourceError, match=r"read lazily from the very scale"):
            to_precomputed(lazy, target, mode="w")
    with pytest.raises(SourceError, match="source and destination are the same place"):
        copy(tmp_path / "link" / "layer", layer, mode="w")
    assert files(tmp_path / "layer") == before


def test_memory_by_another_name():
    to_precomputed(constant(1), "memory://never-wrong/a")
    with pytest.raises(SourceError, match="read lazily"):
        to_precomputed(
            opened("memory:///never-wrong/a/", chunks={}), "memory://never-wrong/a", mode="w"
        )


def test_memory_is_not_shared_between_processes():
    work = to_precomputed(constant(1), "memory://never-wrong/b", compute=False)
    with (
        dask.config.set(scheduler="processes"),
        pytest.raises(
            StorageError, match="memory is not shared between processes; write to a disk"
        ),
    ):
        work.compute()
    assert work.compute(scheduler="threads") == 1


# ---- where the voxels go


def test_one_axis_that_tells_is_enough_to_contradict(layer):
    part = constant(2, offset=(8, 8, 8)).drop_vars(["y", "z"])
    place = {axis: slice(0, 8) for axis in "xyz"}
    with pytest.raises(CoordinateError, match="coordinate x begins at voxel 8, region= at 0"):
        to_precomputed(part, layer, region=place)
    whole = constant(2, offset=(8, 0, 0), size=SIZE).drop_vars(["y", "z"])
    with pytest.raises(LayoutError, match=r"the array covers x\[8, 24\)"):
        to_precomputed(whole, layer, mode="r+")
    other = label(np.ones(SIZE, "u1"), (100, 8, 40)).drop_vars(["y", "z"])
    with pytest.raises(ScaleNotFoundError, match="there is no mip of the resolution"):
        to_precomputed(other, layer, mode="r+")
    to_precomputed(part, layer, region={axis: slice(8, 16) for axis in "xyz"})
    assert (open_store(layer).read(((8, 8, 8), (16, 16, 16))) == 2).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda block: block.astype("f8") * 300,
            DataTypeError,
            "values of float64 do not fit into uint8",
        ),
        (
            lambda block: block.astype("u8") + 300,
            DataTypeError,
            "values of uint64 do not fit into uint8",
        ),
        (lambda block: block[:-1], LayoutError, r"a block of shape \(1, 7, 8, 8\) for the voxels"),
        (lambda block: np.pad(block, 1), LayoutError, r"a block of shape \(1, 10, 10, 10\)"),
    ],
)
@pytest.mark.parametrize("sharding", [None, SPEC])
def test_dask_arrays_that_do_not_hold_what_they_say(url, make, error, message, sharding):
    data = dask_array.ones(SIZE, dtype="u1", chunks=8)
    lies = data.map_blocks(make, dtype="u1", meta=np.empty((0, 0, 0), "u1"))
    da = label(np.ones(SIZE, "u1")).copy(data=lies)
    with pytest.raises(error, match=message):
        to_precomputed(da, url, chunk_size=(4, 4, 4), sharding=sharding)


@pytest.mark.parametrize(
    "box", [((0.9, 0.9, 0.9), (4.9, 4.9, 4.9)), 5, "x", ((0, 0), (1, 1)), ((0, 0, 0),)]
)
def test_boxes_that_are_none(layer, box):
    for call in (open_store(layer).delete, open_store(layer).exists):
        with pytest.raises(OutOfBoundsError, match=r"expected \(\(x0, y0, z0\), \(x1, y1, z1\)\)"):
            call(0, box)
    with pytest.raises(OutOfBoundsError, match="a box has to be named"):
        open_store(layer).delete(0, None)
    assert open_store(layer).has_data().values.all()


def test_filling_a_pyramid_heeds_what_it_is_told(layer):
    downsample(layer, [(2, 2, 2), (2, 2, 1)])
    for factors, message in (
        ([(4, 4, 4)], r"scale '16_16_80' is \(2, 2, 2\) times as coarse .* not \(4, 4, 4\)"),
        (3, "there are 2 scales coarser than '8_8_40', not 3"),
        ((2, 2, 2), "expected factors such as"),
    ):
        with pytest.raises(LayoutError, match=message):
            downsample(layer, factors, mode="r+")
    with pytest.raises(LayoutError, match="sharding= with mode='r\\+'"):
        downsample(layer, mode="r+", sharding="auto")


def test_placeholders_have_no_data_to_downsample(layer):
    open_store(layer).add_scale((2, 2, 2), key="placeholder")
    assert downsample(layer, [(4, 4, 4)]).info.scales[2].key == "32_32_160"
    document = create_info(size=SIZE, resolution=(8, 8, 8), data_type="uint8").to_json()
    document["scales"][0]["key"] = "placeholder"
    write_info(layer, document, mode="w")
    with pytest.raises(LayoutError, match="no mip has data"):
        downsample(layer)


def test_holes_that_a_box_cuts_stay_holes(layer, tmp_path):
    open_store(layer).delete(0, ((4, 0, 0), (8, 4, 4)))
    step = np.array([8, 8, 40])
    found = copy(layer, tmp_path / "copy", bbox=((0, 0, 0), step * 6))
    assert (~found.has_data().values).sum() == 1


def test_lossy_chunks_cut_by_a_box_are_named_or_refused(tmp_path):
    image = label(noise(SIZE, "u1"))
    source = to_precomputed(image, tmp_path / "a", encoding="jpeg", chunk_size=(8, 8, 8))
    step = np.array([8, 8, 40])
    with pytest.raises(LayoutError, match="or cut by this box, jpeg would be decoded"):
        copy(source, tmp_path / "b", bbox=((0, 0, 0), step * 12))
    with pytest.raises(LayoutError, match="or cut by this box, jpeg would be decoded"):
        copy(source, tmp_path / "b", bbox=(step * 4, step * 16))
    copy(source, tmp_path / "b", bbox=((0, 0, 0), step * 8))
    copy(source, tmp_path / "c", bbox=((0, 0, 0), step * 12), encoding="jpeg")


# ---- refused before anything is touched


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (constant(1), {"provenance": 5}, ValueError, "provenance=5: expected a description"),
        (constant(1), {"provenance": {"sources": 5}}, ValueError, "sources=5: expected a list"),
        (constant(1), {"provenance": {"x": object()}}, ValueError, "not JSON"),
        (constant(-1, dtype="i8"), {}, DataTypeError, r"negative values \(the least is -1\)"),
        (constant(1, size=(4, 300, 300)), {"encoding": "jpeg", "chunk_size": (4, 300, 300)}, UnsupportedEncodingError, "no side may exceed"),
        (constant(1), {"fill_value": 300}, DataTypeError, "fill_value=300 does not fit uint8"),
        (constant(1), {"fill_value": float("nan")}, DataTypeError, "fill_value=nan does not fit uint8"),
        (constant(1), {"fill_value": "a"}, DataTypeError, "fill_value='a' does not fit"),
        (constant(1), {"chunk_size": ()}, ValueError, "chunk_sizes"),
        (constant(1), {"downsample": (2, 2, 1)}, LayoutError, "expected factors such as"),
        (constant(1), {"downsample": 1.5}, LayoutError, "expected factors such as"),
        (constant(1), {"downsample": [(2.5, 2, 2)]}, LayoutError, "expected factors such as"),
        (constant(1), {"resolution": 8}, CoordinateError, "resolution=8: expected three numbers"),
        (constant(1), {"voxel_offset": (10**30, 0, 0)}, CoordinateError, "voxel_offset="),
    ],
)  # fmt: skip
def test_the_old_layer_is_untouched(tmp_path, layer, data, options, error, message):
    before = files(tmp_path / "layer")
    with pytest.raises(error, match=message):
        to_precomputed(data, layer, mode="w", **options)
    assert files(tmp_path / "layer") == before


def test_a_warning_that_is_an_error_comes_first(tmp_path, layer):
    store = open_store(layer)
    write_info(layer, store.info.to_json() | {"skeletons": "skel"}, mode="w")
    with pytest.raises(PrecomputedWarning):
        to_precomputed(opened(layer).load(), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "region", [5, slice(0, 8), (0, 8), ["x"], {"x": slice(0, 8), 5: 1}, {"channel": 3}]
)
def test_regions_that_are_none(layer, region):
    with pytest.raises(LayoutError, match="region="):
        to_precomputed(constant(1), layer, region=region)


def test_words_for_wrong_labels(layer):
    da = constant(1)
    names = da.assign_coords(x=("x", list("abcdefgh"), {"units": "nm"}))
    with pytest.raises(CoordinateError, match="coordinate x holds <U1, expected numbers"):
        to_precomputed(names, layer, mode="w")
    with pytest.raises(CoordinateError, match="without units"):
        to_precomputed(da.assign_coords(x=list("abcdefgh")), layer, mode="w")
    with pytest.raises(CoordinateError, match=r"the units \"\['nm'\]\""):
        to_precomputed(da.assign_coords(x=("x", da.x.values, {"units": ["nm"]})), layer, mode="w")
    da.encoding["precomputed"] = "x"
    da.attrs["precomputed_source"] = np.array([1, 2])
    da.attrs["layer_type"] = np.array([1, 2])
    to_precomputed(da, layer, mode="w")


def test_layers_of_cloudvolume_take_their_own_types(tmp_path):
    for dtype in ("int64", "float64"):
        info = create_info(size=(8, 8, 8), resolution=(8, 8, 40), data_type=dtype)
        store = write_info(tmp_path / dtype, info)
        to_precomputed(constant(-3, dtype=dtype), store.url, region="auto")
        assert (opened(store.url) == -3).all()


def test_a_dataset_with_a_section(tmp_path):
    ds = constant(3).to_dataset(name="em").isel(z=2)
    store = to_precomputed(ds, tmp_path / "a", resolution=(8, 8, 40))
    assert store.info.scales[0].voxel_offset == (0, 0, 2)


def test_a_signpost_without_a_volume(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "info").write_text('{"redirect": "gs://elsewhere/layer"}')
    with pytest.raises(LayoutError, match="redirects to gs://elsewhere/layer; write there"):
        to_precomputed(constant(1), tmp_path / "a", mode="w")
    with pytest.raises(InfoMissingError):
        to_precomputed(constant(1), tmp_path / "b", region="auto")


def test_trees_and_arguments_that_mean_one_array(tmp_path):
    tree = xr.DataTree.from_dict(
        {
            "/a": constant(1).to_dataset(name="s"),
            "/b": label(np.ones((4, 4, 4), "u1"), (16, 16, 80)).to_dataset(name="s"),
        }
    )
    with pytest.raises(LayoutError, match="with a DataTree of several mips: each has its own"):
        to_precomputed(tree, tmp_path / "a", resolution=(8, 8, 40))


def test_mips_that_are_none(layer, tmp_path):
    with pytest.raises(LayoutError, match=r"mips=\[\]: nothing to copy"):
        copy(layer, tmp_path / "a", mips=[])
    assert len(copy(layer, tmp_path / "a", mips=np.int64(0)).mips) == 1


def test_layer_types(tmp_path):
    with pytest.raises(LayoutError, match="layer_type='labels': expected"):
        create_info(size=SIZE, resolution=(8, 8, 8), data_type="uint8", layer_type="labels")
    with pytest.raises(ValueError, match="resolution"):
        create_info(size=SIZE, resolution=8, data_type="uint8")


# ---- after a failure


@pytest.mark.parametrize("sharding", [None, SPEC])
def test_no_task_of_a_failed_write_runs_on(url, sharding):
    begun = threading.Event()

    def block(values, block_id=None):
        if block_id == (0, 0, 0):
            begun.wait(10)
            raise RuntimeError("on purpose")
        begun.set()
        time.sleep(0.2)
        return values

    data = dask_array.ones(SIZE, dtype="u1", chunks=4).map_blocks(
        block, dtype="u1", meta=np.empty((0, 0, 0), "u1")
    )
    da = label(np.ones(SIZE, "u1")).copy(data=data)
    with (
        set_options(write_budget_bytes=0),
        dask.config.set(scheduler="threads", num_workers=4),
        pytest.raises(RuntimeError, match="on purpose"),
    ):
        to_precomputed(da, url, chunk_size=(4, 4, 4), sharding=sharding, encoding="raw")
    left = files(Path(url))
    time.sleep(0.6)
    assert files(Path(url)) == left
    assert not list(Path(url).rglob(".*"))


@pytest.mark.parametrize("sharding", [None, SPEC])
def test_a_failed_write_returns_when_its_last_object_is_there(url, sharding, monkeypatch):
    begun = threading.Event()
    info = create_info(
        size=SIZE, resolution=(8, 8, 40), data_type="uint8", chunk_size=(4, 4, 4), sharding=sharding
    )
    storage = type(write_info(url, info).location.storage)
    put = storage.put

    def slow(self, key, *args, **options):
        begun.set()
        time.sleep(0.15)
        return put(self, key, *args, **options)

    def block(values, block_id=None):
        if block_id == (0, 0, 0):
            begun.wait(10)
            raise RuntimeError("on purpose")
        return values

    data = dask_array.ones(SIZE, dtype="u1", chunks=8)
    data = data.map_blocks(block, dtype="u1", meta=np.empty((0, 0, 0), "u1"))
    da = label(np.ones(SIZE, "u1")).copy(data=data)
    monkeypatch.setattr(storage, "put", slow)
    with (
        set_options(write_budget_bytes=0),
        dask.config.set(scheduler="threads", num_workers=4),
        pytest.raises(RuntimeError, match="on purpose"),
    ):
        to_precomputed(da, url, region="auto", provenance=False)
    left = files(Path(url))
    time.sleep(0.6)
    assert files(Path(url)) == left


def test_alignment_is_still_an_error_of_ours(layer):
    with pytest.raises(AlignmentError):
        to_precomputed(constant(1, offset=(1, 0, 0)), layer, region="auto")
