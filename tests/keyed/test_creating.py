"""New folders of meshes and skeletons: what they may replace, and what never."""

import json

import numpy as np
import pytest

import xprecomputed as xp
from tests.images import noise
from xprecomputed.testing import write_volume

TRIANGLE = ([[0, 0, 0], [900, 0, 0], [0, 900, 0]], [[0, 1, 2]])
SHARDING = xp.ShardingSpec(preshift_bits=0, hash="identity", minishard_bits=0, shard_bits=0)
MAKERS = [xp.create_mesh, xp.create_skeleton]


@pytest.mark.parametrize("create", MAKERS)
@pytest.mark.parametrize(
    "info", [None, b"null", b"[]", b'{"@type": "neuroglancer_annotations_v1"}']
)
def test_replacing_removes_nothing_of_anybody_else(tmp_path, create, info):
    (tmp_path / "thesis.doc").write_bytes(b"years of work")
    (tmp_path / "7").write_bytes(b"x")
    if info is not None:
        (tmp_path / "info").write_bytes(info)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(xp.LayerExistsError, match="mode='w' replaces folders of"):
        create(str(tmp_path), mode="w")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("create", MAKERS)
@pytest.mark.parametrize("sharding", [None, SHARDING])
def test_replacing_does_not_empty_a_scale(tmp_path, create, sharding):
    array = noise((8, 9, 10), "u1")
    url = write_volume(str(tmp_path), [array], sharding=sharding)
    store = xp.open_store(url)
    with pytest.raises(xp.LayoutError, match="the volume has scale"):
        create(store, store.info.scales[0].key, mode="w")
    with pytest.raises(xp.LayerExistsError, match="there is no info, but '"):
        create(f"{url}/{store.info.scales[0].key}", mode="w")
    np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], array)


@pytest.mark.parametrize("create", MAKERS)
def test_replacing_removes_what_lies_in_a_folder_of_its_kind(tmp_path, create):
    create(str(tmp_path), spatial_index={"resolution": (1, 1, 1), "chunk_size": (9, 9, 9)})
    for name in ("7", "7:0", "00.shard", "0-9_0-9_0-9.spatial"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "7").write_bytes(b"x")
    with pytest.raises(xp.LayerExistsError, match="there are objects, such as"):
        create(str(tmp_path))
    create(str(tmp_path), mode="w")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["info", "other"]
    assert (tmp_path / "other" / "7").exists()
    assert "spatial_index" not in json.loads((tmp_path / "info").read_text())


@pytest.mark.parametrize("create", MAKERS)
def test_arguments_are_checked_before_anything_is_removed(tmp_path, create):
    create(str(tmp_path))
    (tmp_path / "7").write_bytes(b"x")
    with pytest.raises(ValueError, match="mode='a': expected 'w-' or 'w'"):
        create(str(tmp_path), mode="a")
    with pytest.raises(ValueError, match="info: not JSON: "):
        create(str(tmp_path), mode="w", extra={"x": float("nan")})
    with pytest.raises(ValueError, match="sharding='auto' needs num_labels"):
        create(str(tmp_path), mode="w", sharding="auto")
    with pytest.raises(ValueError, match="num_labels=2.5: expected an integer >= 1"):
        create(str(tmp_path), mode="w", sharding="auto", num_labels=2.5)
    with pytest.raises(xp.InvalidInfoError, match="mip: expected an integer"):
        create(str(tmp_path), mode="w", mip="two")
    assert (tmp_path / "7").exists()


@pytest.mark.parametrize("create", MAKERS)
def test_numbers_of_numpy_are_numbers(tmp_path, create):
    made = create(
        str(tmp_path),
        spatial_index={"resolution": np.array([16, 16, 40]), "chunk_size": np.full(3, 1000.5)},
        mip=np.int64(2),
        transform=np.eye(4)[:3],
        sharding="auto" if create is xp.create_skeleton else None,
        num_labels=np.uint32(1000),
    )
    assert made.info.spatial_index.chunk_size == (1000.5,) * 3
    assert made.info.mip == 2
    assert made.info.transform.is_identity
