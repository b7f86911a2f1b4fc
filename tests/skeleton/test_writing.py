"""New folders of skeletons, and what may be put into them."""

import json
from dataclasses import replace

import numpy as np
import osteoid
import pytest

from tests.skeleton.paths import RADIUS, TURNED, TYPES, random_tree
from xprecomputed import errors
from xprecomputed.metadata import SpatialIndexInfo, VertexAttribute
from xprecomputed.shard_format.sizes import sharding_for_ids
from xprecomputed.skeleton import create_skeletons, open_skeletons
from xprecomputed.skeleton.writing import by_id
from xprecomputed.storage import locate_url


@pytest.fixture
def place(tmp_path):
    return locate_url(str(tmp_path / "layer/skeletons"))


def stored(place):
    return json.loads(place.storage.get(place.child("info").key).data)


def test_info_by_hand(place, tmp_path):
    info = create_skeletons(place)
    assert json.loads((tmp_path / "layer/skeletons/info").read_bytes()) == {
        "@type": "neuroglancer_skeletons",
        "transform": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
        "vertex_attributes": [{"id": "radius", "data_type": "float32", "num_components": 1}],
    }
    opened = open_skeletons(place)
    assert opened.info == info
    assert opened.has_info


def test_everything_at_once(place):
    info = create_skeletons(
        place,
        vertex_attributes=["radius", TYPES, {"id": "a", "data_type": "int8", "num_components": 3}],
        transform=TURNED.matrix,
        sharding="auto",
        num_labels=10**5,
        spatial_index={"resolution": [8, 8, 40], "chunk_size": [4096, 4096, 40960]},
        mip=2,
        segment_properties="../properties",
        extra={"made_by": "a test"},
    )
    three = VertexAttribute(id="a", data_type="int8", num_components=3)
    assert info.vertex_attributes == (RADIUS, TYPES, three)
    assert info.transform == TURNED
    assert info.sharding == sharding_for_ids(10**5, "gzip")
    assert info.spatial_index == SpatialIndexInfo(
        resolution=(8, 8, 40), chunk_size=(4096, 4096, 40960)
    )
    assert (info.mip, info.segment_properties, info.extra) == (
        2,
        "../properties",
        {"made_by": "a test"},
    )
    assert open_skeletons(place).info == info
    again = create_skeletons(
        place,
        vertex_attributes=info.vertex_attributes,
        transform=info.transform,
        sharding=info.sharding,
        spatial_index=info.spatial_index,
        mode="w",
    )
    assert again == replace(info, mip=None, segment_properties=None, extra={})
    document = info.to_json()
    third = create_skeletons(
        place,
        transform=document["transform"],
        sharding=document["sharding"],
        vertex_attributes=(),
        mode="w",
    )
    assert third.vertex_attributes == ()
    assert stored(place)["vertex_attributes"] == []
    assert third.sharding == info.sharding


def test_nothing_is_written_over(place):
    create_skeletons(place)
    with pytest.raises(
        errors.LayerExistsError, match="there are objects, such as 'info'.*mode='w'"
    ):
        create_skeletons(place)
    place.storage.delete(place.child("info").key)
    create_skeletons(place)
    place.storage.delete(place.child("info").key)
    place.storage.put(place.child("7").key, bytes(8))
    with pytest.raises(errors.LayerExistsError, match="such as '7'"):
        create_skeletons(place)


@pytest.mark.parametrize("url", ["file", "memory"])
def test_making_room(url, tmp_path, rng):
    place = locate_url(str(tmp_path) if url == "file" else f"memory://{tmp_path.name}/making_room")
    create_skeletons(place, sharding="auto", num_labels=10)
    skeletons = open_skeletons(place)
    skeletons.put({n: random_tree(rng) for n in range(5)})
    assert skeletons.ids().tolist() == [0, 1, 2, 3, 4]
    below = place.child("other/volume")
    below.storage.put(below.key, b"kept")
    create_skeletons(place, mode="w")
    assert [each.name for each in place.storage.list_dir(place.key)] == ["info"]
    assert below.storage.get(below.key).data == b"kept"
    assert open_skeletons(place).ids().tolist() == []
    create_skeletons(place, sharding="auto", num_labels=10, mode="w")
    assert skeletons.exists(3) is False  # no index of the old shard is remembered


def test_info_is_replaced_after_what_it_describes(place, rng, monkeypatch):
    create_skeletons(place)
    open_skeletons(place).put({7: random_tree(rng)})
    with monkeypatch.context() as patch:
        patch.setattr(type(place.storage), "put", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            create_skeletons(place, mode="w")
    assert [each.name for each in place.storage.list_dir(place.key)] == ["info"]


@pytest.mark.parametrize(
    "document", [{"@type": "neuroglancer_legacy_mesh"}, {"type": "image"}, [1, 2]]
)
def test_what_is_something_else_stays(place, document):
    place.storage.put(place.child("info").key, json.dumps(document).encode())
    place.storage.put(place.child("7:0").key, b"a mesh")
    with pytest.raises(
        errors.LayerExistsError, match="there is an info of type .*; mode='w' replaces"
    ):
        create_skeletons(place, mode="w")
    assert place.storage.get(place.child("7:0").key).data == b"a mesh"


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"mode": "a"}, ValueError, "mode='a': expected 'w-' or 'w'"),
        ({"sharding": "auto"}, ValueError, "sharding='auto' needs num_labels"),
        ({"sharding": "some"}, errors.InvalidInfoError, "sharding: expected an object"),
        ({"sharding": {"hash": "md5"}}, errors.InvalidInfoError, "sharding.hash"),
        ({"transform": [1, 2]}, errors.InvalidInfoError, "transform: expected 12 numbers"),
        ({"transform": np.zeros((3, 4))}, errors.InvalidInfoError, "transform: expected 12 num"),
        ({"vertex_attributes": [7]}, errors.InvalidInfoError, r"vertex_attributes\[0\]"),
        ({"vertex_attributes": ["a", "a"]}, errors.InvalidInfoError, "an id more than once"),
        ({"spatial_index": {"resolution": [1, 1, 1]}}, errors.InvalidInfoError, "chunk_size"),
        ({"mip": -1}, errors.InvalidInfoError, "mip: expected an integer"),
    ],
)
def test_arguments_that_are_none(place, options, kind, message):
    with pytest.raises(kind, match=message):
        create_skeletons(place, **options)
    assert list(place.storage.list_dir(place.key)) == []


def test_by_id(tmp_path, rng):
    tree, other = random_tree(rng, segment_id=3), random_tree(rng, segment_id=2**64 - 1)
    (tmp_path / "a.swc").write_text("1 0 8 8 8 2 -1\n")
    assert by_id(tree) == {3: tree}
    assert by_id(iter([tree, other])) == {3: tree, 2**64 - 1: other}
    found = by_id({np.uint64(9): tree, 5: tmp_path / "a.swc", 6: str(tmp_path / "a.swc")})
    assert list(found) == [9, 5, 6]
    assert found[9] is tree
    assert (found[5].id, found[6].id) == (5, 6)
    assert found[5].vertices.tolist() == found[6].vertices.tolist() == [[8, 8, 8]]
    assert by_id([]) == {}


@pytest.mark.parametrize(
    ("skeletons", "kind", "message"),
    [
        ([osteoid.Skeleton()], ValueError, "a skeleton without an id; give a mapping"),
        (osteoid.Skeleton(), ValueError, "a skeleton without an id; give a mapping"),
        ({-1: osteoid.Skeleton()}, ValueError, "segment id -1"),
        ({1.0: osteoid.Skeleton()}, TypeError, "segment id 1.0"),
        ([osteoid.Skeleton(segid=7)] * 2, ValueError, "segment 7: two skeletons"),
        ({np.uint64(7): osteoid.Skeleton(), "7": 1}, TypeError, "segment id '7'"),
        ({(7, 8): osteoid.Skeleton()}, TypeError, r"segment id \(7, 8\)"),
    ],
)
def test_ids_that_are_none(skeletons, kind, message):
    with pytest.raises(kind, match=message):
        by_id(skeletons)


def test_one_attribute_is_one_name(place):
    info = create_skeletons(place, vertex_attributes="radius")
    assert [each.id for each in info.vertex_attributes] == ["radius"]
