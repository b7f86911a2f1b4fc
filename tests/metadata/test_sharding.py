import pytest

from xprecomputed import InvalidInfoError, ShardingSpec

DOCUMENT = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 9,
    "hash": "murmurhash3_x86_128",
    "minishard_bits": 6,
    "shard_bits": 15,
    "minishard_index_encoding": "gzip",
    "data_encoding": "gzip",
}


def test_round_trip():
    spec = ShardingSpec.from_json(DOCUMENT)
    assert spec.to_json() == DOCUMENT
    assert spec.shard_index_bytes == 1024


def test_encodings_default_to_raw_and_are_written():
    short = {k: v for k, v in DOCUMENT.items() if not k.endswith("_encoding")}
    assert ShardingSpec.from_json(short).to_json() == {
        **DOCUMENT,
        "minishard_index_encoding": "raw",
        "data_encoding": "raw",
    }


def test_problems_are_listed():
    with pytest.raises(InvalidInfoError, match="sharding is not usable") as caught:
        ShardingSpec.from_json({"@type": "neuroglancer_uint64_sharded_v1", "hash": 3})
    assert len(caught.value.problems) == 4


def test_values_made_in_code_are_checked_too():
    with pytest.raises(InvalidInfoError, match=r"sharding: minishard_bits \+ shard_bits is 70"):
        ShardingSpec(preshift_bits=0, hash="identity", minishard_bits=10, shard_bits=60)
    with pytest.raises(InvalidInfoError, match=r"ShardingSpec is not usable.*\n.*preshift_bits"):
        ShardingSpec(preshift_bits=65, hash="identity", minishard_bits=1, shard_bits=6)
