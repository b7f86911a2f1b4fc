"""Skeletons in a bucket: what a header tells, and requests."""

import json
import pickle

import pytest

import xprecomputed as xp
from tests.skeleton.paths import assert_same, random_tree
from xprecomputed import errors
from xprecomputed.skeleton import create_skeletons, open_skeletons
from xprecomputed.storage import cached, index_cache, locate_url

s3 = pytest.importorskip("tests.remote.s3")
IDS = [7, 2**63, 12345]
INDEX = {"resolution": (8, 8, 8), "chunk_size": (512, 512, 512)}
BOUNDS = ((0, 0, 0), (1024, 1024, 1024))


@pytest.fixture(scope="module")
def server():
    with s3.S3Server() as server:
        yield server


@pytest.fixture
def bucket(server):
    return server.make_bucket()


@pytest.fixture
def place(server, bucket):
    return locate_url(f"s3+{server.url}/{bucket}/v/skeletons", {"anon": True})


@pytest.fixture
def trees(rng):
    return {number: random_tree(rng, 30, number) for number in IDS}


def test_objects_of_their_own(server, bucket, place, trees):
    create_skeletons(place, spatial_index=INDEX)
    skeletons = open_skeletons(place, BOUNDS)
    skeletons.put(trees, cache_control="max-age=60")
    answer = server.client.get_object(Bucket=bucket, Key="v/skeletons/7")
    assert answer["ContentEncoding"] == "gzip"
    assert answer["CacheControl"] == "max-age=60"
    info = server.client.get_object(Bucket=bucket, Key="v/skeletons/info")
    assert "ContentEncoding" not in info
    assert json.loads(info["Body"].read())["spatial_index"]["chunk_size"] == [512, 512, 512]
    for number, found in pickle.loads(pickle.dumps(skeletons)).get(IDS).items():
        assert_same(found, trees[number])
    assert skeletons.ids().tolist() == sorted(IDS)
    assert skeletons.ids_in(BOUNDS).tolist() == sorted(IDS)
    assert skeletons.delete([7, 8]) == 1
    assert skeletons.exists([7, 12345]) == {7: False, 12345: True}
    assert skeletons.ids_in(BOUNDS).tolist() == sorted(IDS[1:])


def test_shards(server, bucket, place, trees):
    create_skeletons(place, sharding="auto", num_labels=1000)
    with pytest.raises(errors.LayerExistsError):
        create_skeletons(place)
    skeletons = open_skeletons(place)
    skeletons.put(trees)
    assert "ContentEncoding" not in server.client.get_object(
        Bucket=bucket, Key="v/skeletons/0.shard"
    )
    index_cache.clear()
    with xp.trace() as t:
        found = skeletons.get(IDS)
    assert t.requests == 3
    for number, each in found.items():
        assert_same(each, trees[number])
    create_skeletons(place, mode="w")
    assert open_skeletons(place).ids().tolist() == []
    assert skeletons.exists(7) is False  # no index of the old shard is remembered


@pytest.mark.parametrize("sharding", [{}, {"sharding": "auto", "num_labels": 1000}])
def test_what_is_corrupt_is_kept_by_no_cache(server, bucket, place, trees, tmp_path, sharding):
    name = "0.shard" if sharding else "7"
    stored = {}
    for folder, attributes in (("good", ["radius"]), ("bad", [])):
        create_skeletons(place.child(folder), vertex_attributes=attributes, **sharding)
        skeletons = open_skeletons(place.child(folder))
        skeletons.put(trees, extra_attributes="drop", compression=None)
        stored[folder] = server.client.get_object(
            Bucket=bucket, Key=f"v/skeletons/{folder}/{name}"
        )["Body"].read()

    def replace_behind_the_cache(data):
        server.client.put_object(Bucket=bucket, Key=f"v/skeletons/good/{name}", Body=data)

    replace_behind_the_cache(stored["bad"])
    skeletons = open_skeletons(cached(place.child("good"), str(tmp_path)))
    with pytest.raises(errors.CorruptDataError, match="skeleton of segment 7: a skeleton of"):
        skeletons.get(7)
    replace_behind_the_cache(stored["good"])
    assert_same(skeletons.get(7), trees[7])
    with xp.trace() as t:
        skeletons.get(7)
    assert (t.requests, t.hits > 0) == (0, True)
