"""What a store tells and changes beside voxels; ``info`` without data."""

import json
import os

import numpy as np
import pytest
import xarray as xr

from tests.images import labels
from tests.jobs.arrays import label, opened
from xprecomputed import (
    AlignmentError,
    Box,
    ChunkMissingError,
    InvalidInfoError,
    InvalidURLError,
    LayerExistsError,
    LayoutError,
    OutOfBoundsError,
    ScaleNotFoundError,
    ShardingSpec,
    UnsupportedEncodingError,
    create_info,
    open_store,
    to_precomputed,
    trace,
    write_info,
)

SPEC = ShardingSpec(preshift_bits=1, hash="identity", minishard_bits=1, shard_bits=1)
HASHED = ShardingSpec(preshift_bits=0, hash="murmurhash3_x86_128", minishard_bits=1, shard_bits=2)
OFFSET = (3, -5, 7)
DATA = labels((21, 30, 35), "u8")


@pytest.fixture(params=[None, SPEC, HASHED, "auto"], ids=["chunks", "shards", "hashed", "auto"])
def store(request, tmp_path):
    da = label(DATA, offset=OFFSET)
    return to_precomputed(da, str(tmp_path / "layer"), chunk_size=(8, 8, 8), sharding=request.param)


# ---- which chunks there are


def test_every_chunk_is_there_and_then_not(store):
    found = store.has_data(0)
    assert (found.dims, found.shape, found.dtype) == (("z", "y", "x"), (3, 4, 5), bool)
    assert found.values.all()
    assert store.delete(0, ((11, -5, 7), (19, 3, 15))) == 1
    found = store.has_data()
    assert not found.values[0, 0, 1]
    assert found.values.sum() == 59
    assert found.x_voxel.values.tolist() == [3, 11, 19, 27, 35]
    # centres in nm; the last chunk is clipped to 3 voxels
    assert found.x.values.tolist() == [7 * 8, 15 * 8, 23 * 8, 31 * 8, 36.5 * 8]
    assert found.x.attrs["units"] == "nm"
    assert not bool(found.sel(x=15 * 8, y=-8, z=11 * 40))


@pytest.mark.parametrize(("box", "shape"), [
    (((11, -5, 7), (19, 3, 15)), (1, 1, 1)),
    (((12, 2, 14), (20, 4, 16)), (2, 2, 2)),
    (Box((37, 24, 27), (38, 25, 28)), (1, 1, 1)),
])  # fmt: skip
def test_the_chunks_that_touch_a_box(store, box, shape):
    store.delete(0, ((11, -5, 7), (19, 3, 15)))
    found = store.exists(0, box)
    assert found.shape == shape
    xr.testing.assert_equal(found, store.has_data().sel(x=found.x, y=found.y, z=found.z))


def test_no_chunk_is_read_for_it(tmp_path):
    da = label(labels((24, 40, 40)))
    for sharding, most in ((None, 1), (SPEC, 8)):
        store = to_precomputed(
            da, str(tmp_path / "a"), mode="w", chunk_size=(4, 4, 4), sharding=sharding
        )
        with trace() as seen:
            assert store.has_data().values.sum() == 600
        assert seen.requests <= most


def test_names_that_are_no_chunks_of_the_grid_do_not_count(tmp_path):
    store = to_precomputed(label(labels((24, 40, 40))), str(tmp_path / "a"), chunk_size=(4, 4, 4))
    folder = tmp_path / "a" / "8_8_40"
    store.delete(0, ((0, 0, 0), (8, 4, 4)))
    for name in ("0-5_0-4_0-4", "1-4_0-4_0-4", "400-404_0-4_0-4", "README", "0-4_0-4_0-4.tmp"):
        (folder / name).write_bytes(b"x")
    (folder / "4-8_0-4_0-4.gz").write_bytes(b"x")
    found = store.has_data().values
    assert not found[0, 0, 0]
    assert found[0, 0, 1]
    assert found.sum() == 599


def test_boxes_outside(store):
    for call in (lambda box: store.exists(0, box), lambda box: store.delete(0, box), store.unique):
        with pytest.raises(
            OutOfBoundsError, match=r"box x\[0, 8\).* is empty or not inside x\[3, 38\)"
        ):
            call(((0, 0, 7), (8, 8, 8)))
        with pytest.raises(OutOfBoundsError, match="is empty"):
            call(((3, 0, 7), (3, 8, 8)))
    with pytest.raises(ScaleNotFoundError):
        store.has_data(3)


# ---- deleting


def test_deleting_leaves_everything_else(store):
    before = store.read(store.info.scales[0].bounds)
    box = Box((11, 3, 7), (38, 19, 15))
    assert store.delete(0, box) == 4 * 2 * 1
    assert store.delete(0, box) == 0
    after = open_store(store.url).reader(fill_missing=True).read_box(store.info.scales[0].bounds)
    before[:, :8, 8:24, 8:] = 0
    np.testing.assert_array_equal(after, before)
    with pytest.raises(ChunkMissingError):
        store.read(box)
    rest = store.info.scales[0].bounds
    assert store.delete(0, rest) == 60 - 8
    assert os.listdir(os.path.join(store.url.removeprefix("file://"), "8_8_40")) == []


def test_deleting_a_part_of_a_chunk(store):
    with pytest.raises(
        AlignmentError,
        match=r"in part; the nearest that does not is \(\(3, -5, 7\), \(19, 3, 15\)\)",
    ):
        store.delete(0, ((4, -5, 7), (12, 3, 15)))
    assert store.has_data().values.all()


# ---- labels


@pytest.mark.parametrize(
    "box", [None, ((3, -5, 7), (38, 25, 28)), ((4, 0, 8), (20, 9, 11)), ((4, 0, 8), (5, 1, 9))]
)
def test_unique_counts_what_is_there(store, box):
    found = store.unique(box)
    (x0, y0, z0), (x1, y1, z1) = box or ((3, -5, 7), (38, 25, 28))
    part = DATA[z0 - 7 : z1 - 7, y0 + 5 : y1 + 5, x0 - 3 : x1 - 3]
    ids, counts = np.unique(part, return_counts=True)
    assert found.label.dtype == "u8"
    np.testing.assert_array_equal(found.label, ids)
    np.testing.assert_array_equal(found, counts)
    xr.testing.assert_equal(found.drop_attrs(), opened(store.url).isel(
        x=slice(x0 - 3, x1 - 3), y=slice(y0 + 5, y1 + 5), z=slice(z0 - 7, z1 - 7)
    ).precomputed.unique().drop_attrs())  # fmt: skip


def test_unique_does_not_fill_by_itself(store):
    store.delete(0, ((3, -5, 7), (11, 3, 15)))
    with pytest.raises(ChunkMissingError, match="fill_missing=True"):
        store.unique()
    filled = store.unique(fill_missing=True)
    assert int(filled.sum()) == DATA.size
    assert int(filled.sel(label=0)) >= 512


def test_unique_of_the_real_volume(real_volume):
    found = open_store(real_volume).unique(mip=1)
    ids, counts = np.unique(opened(real_volume, 1).values, return_counts=True)
    np.testing.assert_array_equal(found.label, ids)
    np.testing.assert_array_equal(found, counts)


# ---- stored bytes


def test_stored_bytes_decode_to_the_voxels(store):
    box = ((11, -5, 7), (20, 3, 15))
    found = store.stored_bytes(0, box)
    assert set(found) == {Box((11, -5, 7), (19, 3, 15)), Box((19, -5, 7), (27, 3, 15))}
    reader = store.reader()
    cells = {
        reader.scale.grid.chunk_box(c): c for c in reader.scale.grid.cells(reader.scale.bounds)
    }
    for chunk, data in found.items():
        decoded = reader.codec.decode(data, reader.chunk_spec(cells[chunk]))
        np.testing.assert_array_equal(decoded, store.read(chunk))
    assert len(store.stored_bytes()) == 60
    with pytest.raises(OutOfBoundsError, match="is not inside"):
        store.stored_bytes(0, ((0, 0, 0), (1, 1, 1)))


# ---- info without data


def test_create_info_makes_what_is_asked():
    info = create_info(
        size=np.array([1000, 900, 80]),
        resolution=(4.3, 4.3, 45),
        data_type="uint8",
        num_channels=3,
        voxel_offset=(-3, 5, 7),
        chunk_size=(128, 128, 16),
        encoding="jpeg",
        encoding_options={"quality": 70},
        sharding="auto",
        downsample=[(2, 2, 1), (2, 2, 2)],
        skeletons="skel",
    )
    assert [scale.key for scale in info.scales] == ["4.3_4.3_45", "8.6_8.6_45", "17.2_17.2_90"]
    assert [scale.size for scale in info.scales] == [
        (1000, 900, 80),
        (501, 451, 80),
        (251, 226, 41),
    ]
    assert [scale.voxel_offset for scale in info.scales] == [(-3, 5, 7), (-2, 2, 7), (-1, 1, 3)]
    assert (info.type, info.num_channels, info.skeletons) == ("image", 3, "skel")
    first = info.scales[0]
    assert (first.jpeg_quality, first.sharding.data_encoding) == (70, "raw")
    bits = first.sharding
    assert bits.preshift_bits + bits.minishard_bits + bits.shard_bits == 3 + 3 + 3


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"size": (0, 1, 1)}, InvalidInfoError, "scale.size"),
        ({"resolution": (8, -8, 8)}, InvalidInfoError, "scale.resolution"),
        ({"data_type": "int128"}, InvalidInfoError, "data_type"),
        ({"encoding": "jpeg", "data_type": "uint64"}, UnsupportedEncodingError, "jpeg cannot hold"),
        ({"encoding": "nope"}, UnsupportedEncodingError, "unknown encoding"),
        ({"sharding": "all"}, LayoutError, "sharding='all'"),
        ({"sharding": {"hash": "md5"}}, InvalidInfoError, "sharding is not usable"),
    ],
)
def test_create_info_refuses(changes, error, message):
    with pytest.raises(error, match=message):
        create_info(**{"size": (9, 9, 9), "resolution": (8, 8, 8), "data_type": "uint8"} | changes)


def test_write_info(tmp_path):
    info = create_info(size=(9, 9, 9), resolution=(8, 8, 8), data_type="uint8")
    store = write_info(tmp_path / "a", info)
    assert open_store(tmp_path / "a").info == info == store.info
    with pytest.raises(LayerExistsError, match="there is a layer; replace it with mode='w'"):
        write_info(tmp_path / "a", info)
    (tmp_path / "a" / "keep").write_text("me")
    write_info(tmp_path / "a", info.to_json() | {"type": "segmentation"}, mode="w")
    assert open_store(tmp_path / "a").info.type == "segmentation"
    assert (tmp_path / "a" / "keep").exists()
    with pytest.raises(ValueError, match="mode='a': expected 'w-' or 'w'"):
        write_info(tmp_path / "a", info, mode="a")
    bad = info.to_json()
    bad["scales"][0]["encoding"] = "nope"
    with pytest.raises(UnsupportedEncodingError, match="unknown encoding 'nope'"):
        write_info(tmp_path / "b", bad)
    assert not (tmp_path / "b").exists()


def test_adding_and_dropping_scales(store, tmp_path):
    path = tmp_path / "layer" / "info"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"app": 1}))
    more = store.add_scale().add_scale((2, 2, 2), chunk_sizes=[[4, 4, 4]], sharding="auto")
    assert [scale.key for scale in more.info.scales] == ["8_8_40", "16_16_40", "32_32_80"]
    assert more.info.scales[2].chunk_size == (4, 4, 4)
    assert more.info.extra == {"app": 1}
    assert open_store(store.url).info == more.info
    with pytest.raises(LayerExistsError, match="is there already"):
        store.add_scale()
    with pytest.raises(LayoutError, match="expected factors such as"):
        store.add_scale((1, 1, 1))
    fewer = more.drop_scale("16_16_40").drop_scale((32, 32, 80))
    assert [scale.key for scale in fewer.info.scales] == ["8_8_40"]
    with pytest.raises(LayoutError, match="'8_8_40' is the only scale"):
        fewer.drop_scale(0)
    both = fewer.add_scale()
    both.drop_scale(0, delete=True)
    assert not (tmp_path / "layer" / "8_8_40").exists()
    with pytest.raises(ScaleNotFoundError):
        both.drop_scale(7)


def test_dropping_a_scale_of_somebody_else_deletes_nothing(tmp_path):
    other = to_precomputed(label(DATA), str(tmp_path / "other"))
    document = other.info.to_json()
    scale = dict(document["scales"][0], key="../other/8_8_40", resolution=[1, 1, 1])
    store = write_info(tmp_path / "mine", document | {"scales": [*document["scales"], scale]})
    with pytest.raises(InvalidURLError, match="does not lie inside"):
        store.drop_scale(1, delete=True)
    assert open_store(store.url).info == store.info
    assert other.has_data().values.all()
