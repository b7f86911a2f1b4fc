"""Copies: stored bytes travel, or the voxels do; nothing else changes."""

import json

import numpy as np
import pytest
import xarray as xr

from tests.images import labels, noise
from tests.jobs.arrays import files, label, opened
from xprecomputed import (
    CorruptDataError,
    LayerExistsError,
    LayoutError,
    ShardingSpec,
    SourceError,
    copy,
    open_store,
    to_precomputed,
)
from xprecomputed.codecs import raw as raw_module
from xprecomputed.testing import write_volume

SPEC = ShardingSpec(
    preshift_bits=1, hash="identity", minishard_bits=1, shard_bits=2, data_encoding="gzip"
)


@pytest.fixture
def source(tmp_path):
    seg = label(labels((21, 30, 35)), offset=(3, 5, 7))
    return to_precomputed(seg, str(tmp_path / "src"), chunk_size=(8, 8, 8), downsample=1)


@pytest.fixture
def no_codec(monkeypatch):
    """Decoding or encoding of raw chunks fails the test."""

    def fail(*args):
        raise AssertionError("a chunk was decoded or encoded")

    monkeypatch.setattr(raw_module.Raw, "decode", fail)
    monkeypatch.setattr(raw_module.Raw, "encode", fail)


@pytest.mark.parametrize("there", [None, SPEC, "auto"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_stored_bytes_travel_between_layouts(tmp_path, no_codec, there, compression, monkeypatch):
    data = [noise((21, 30, 35), "u2"), noise((21, 15, 18), "u2")]
    monkeypatch.undo()
    src = write_volume(
        str(tmp_path / "src"),
        data,
        voxel_offset=(6, 10, 7),
        chunk_size=(8, 8, 8),
        compression=compression,
    )
    before = files(tmp_path / "src")
    with monkeypatch.context() as patch:
        patch.setattr(raw_module.Raw, "encode", None)
        patch.setattr(raw_module.Raw, "decode", None)
        copy(src, str(tmp_path / "there"), sharding=there)
        copy(str(tmp_path / "there"), str(tmp_path / "back"), sharding=False)
    for mip in (0, 1):
        np.testing.assert_array_equal(opened(str(tmp_path / "there"), mip).values, data[mip])
    after = files(tmp_path / "back")
    if compression is None:
        chunks = {name for name in before if name != "info"}
        assert {name: after[name] for name in chunks} == {name: before[name] for name in chunks}
        assert set(after) - chunks == {"info", "provenance"}
    assert open_store(str(tmp_path / "back")).info == open_store(src).info


def test_the_whole_layer_with_all_fields(source, tmp_path):
    path = tmp_path / "src" / "info"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mesh": "mesh", "app": [1]}))
    store = copy(str(tmp_path / "src"), str(tmp_path / "dst"))
    assert store.info == open_store(str(tmp_path / "src")).info
    for mip in (0, 1):
        xr.testing.assert_identical(
            opened(store.url, mip).drop_attrs(), opened(source.url, mip).drop_attrs()
        )


@pytest.mark.parametrize("sharding", [None, "auto"])
@pytest.mark.parametrize("low", [(11, 13, 15), (12, 13, 15)])
def test_a_box_of_it(source, tmp_path, low, sharding):
    # begins on a chunk edge of the source, or not; ends anywhere
    low, high = np.array(low), np.array([30, 31, 27])
    step = np.array([8, 8, 40])
    store = copy(
        source, str(tmp_path / "dst"), mips=0, bbox=(low * step, high * step), sharding=sharding
    )
    assert len(store.mips) == 1
    assert store.info.scales[0].voxel_offset == tuple(low)
    found = opened(store.url)
    np.testing.assert_array_equal(
        found.values, source.read((tuple(low.tolist()), tuple(high.tolist())))[0]
    )


def test_transcoding(source, tmp_path):
    store = copy(
        source, str(tmp_path / "dst"), encoding="compresso", chunk_size=(16, 16, 8), sharding=SPEC
    )
    assert {scale.encoding for scale in store.info.scales} == {"compresso"}
    for mip in (0, 1):
        np.testing.assert_array_equal(opened(store.url, mip).values, opened(source.url, mip).values)


def test_lossy_chunks_travel_but_are_not_made_again(tmp_path):
    image = noise((16, 16, 16), "u1")
    src = to_precomputed(label(image), str(tmp_path / "src"), encoding="jpeg", chunk_size=(8, 8, 8))
    dst = copy(src, str(tmp_path / "dst"))
    np.testing.assert_array_equal(opened(dst.url).values, opened(src.url).values)
    with pytest.raises(
        LayoutError, match=r"jpeg would be decoded and encoded again.*encoding='jpeg'"
    ):
        copy(src, str(tmp_path / "other"), chunk_size=(16, 16, 16))
    assert not (tmp_path / "other").exists()
    copy(src, str(tmp_path / "other"), chunk_size=(16, 16, 16), encoding="jpeg")


def test_holes_stay_holes(source, tmp_path):
    source.delete(0, ((3, 5, 7), (11, 13, 15)))
    store = copy(source, str(tmp_path / "dst"), sharding="auto")
    missing = ~store.has_data(0).values
    assert missing.sum() == 1
    assert missing[0, 0, 0]
    with pytest.raises(FileNotFoundError, match="fill_missing=True"):
        copy(source, str(tmp_path / "other"), encoding="raw")
    filled = copy(source, str(tmp_path / "other"), encoding="raw", fill_missing=True, mode="w")
    assert not filled.read(((3, 5, 7), (11, 13, 15))).any()


def test_bytes_that_cannot_be_the_encoding_do_not_travel(tmp_path):
    src = write_volume(str(tmp_path / "src"), [noise((8, 8, 8), "u1")], chunk_size=(8, 8, 8))
    (tmp_path / "src" / "8_8_40" / "0-8_0-8_0-8").write_bytes(b"short")
    with pytest.raises(CorruptDataError, match="0-8_0-8_0-8: the bytes are not raw"):
        copy(src, str(tmp_path / "dst"))


def test_what_is_refused(source, tmp_path):
    with pytest.raises(SourceError, match="source and destination are the same place"):
        copy(source, source.url, mode="w")
    with pytest.raises(ValueError, match="mode='r\\+': expected"):
        copy(source, str(tmp_path / "dst"), mode="r+")
    copy(source, str(tmp_path / "dst"))
    with pytest.raises(LayerExistsError, match="there is a layer"):
        copy(source, str(tmp_path / "dst"))


def test_resuming_and_adding_mips(source, tmp_path):
    dst = copy(source, str(tmp_path / "dst"), mips=1)
    copy(source, dst.url, mips=[0], mode="a")
    assert open_store(dst.url).info == source.info
    removed = sorted((tmp_path / "dst" / "8_8_40").iterdir())[5]
    removed.unlink()
    copy(source, dst.url, resume=True)
    assert removed.exists()
    assert copy(source, str(tmp_path / "later"), compute=False).compute() == (5 * 4 * 3 + 3 * 2 * 3)


def test_the_real_volume(real_volume, tmp_path):
    store = copy(real_volume, str(tmp_path / "dst"), sharding="auto")
    back = copy(store, str(tmp_path / "back"), sharding=False)
    assert back.info == open_store(real_volume).info
    for mip in (0, 1):
        assert back.stored_bytes(mip) == open_store(real_volume).stored_bytes(mip)
