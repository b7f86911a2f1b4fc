"""Folders of values by id, ways to look into them, and what the peers make of them."""

import json
import struct
import uuid
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from xprecomputed import ShardingSpec
from xprecomputed.errors import CorruptDataError
from xprecomputed.keyed import KeyedValues, Value
from xprecomputed.storage import locate_url

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    tensorstore = pytest.importorskip("tensorstore")
    cv_sharding = pytest.importorskip("cloudvolume.datasource.precomputed.sharding")

HASHES = ["identity", "murmurhash3_x86_128"]


def spec(hash="murmurhash3_x86_128", minishard=2, shard=2, packed="gzip", data="gzip", preshift=0):  # noqa: A002
    return ShardingSpec(
        preshift_bits=preshift,
        hash=hash,
        minishard_bits=minishard,
        shard_bits=shard,
        minishard_index_encoding=packed,
        data_encoding=data,
    )


SPECS = [
    spec(),
    spec("identity", 1, 3, "raw", "raw", preshift=2),
    spec("identity", 0, 0, "gzip", "raw"),
    spec(minishard=3, shard=0, packed="raw"),
]


def u64(*values):
    return np.array(values, "<u8").tobytes()


def ids_of(*ids):
    return np.array(ids, np.uint64)


def folder_of(kind, tmp_path):
    return f"memory://keyed/{uuid.uuid4()}" if kind == "memory" else str(tmp_path / "folder")


def values_at(url, sharding=None, suffix="", **members):
    return KeyedValues(locate_url(url), sharding, suffix, **members)


def read_all(values, ids=None):
    """What is stored of ids (or of all) by id, without those that are not there."""
    ids = values.ids() if ids is None else np.array(ids, np.uint64)
    got = {}
    values.read(ids, lambda at, data: got.__setitem__(int(ids[at]), data))
    assert len(got) == len(ids)
    return {key: bytes(data) for key, data in got.items() if data is not None}


def some(rng, count, seed=b""):
    """Ids of all sizes, and values some of which are empty."""
    ids = rng.integers(0, 2**64, count, np.uint64, endpoint=False) >> rng.integers(
        0, 60, count, np.uint64
    )
    return {int(key): Value(seed + rng.bytes(int(rng.integers(0, 300)))) for key in ids}


def data_of(values):
    return {key: bytes(value.data) for key, value in values.items()}


# ---- values with something before them: a count, and so many bytes


def count_before(data):
    """For `KeyedValues.bytes_before`: values made by `with_before`."""
    if len(data) != 8:
        raise CorruptDataError(f"{len(data)} bytes, expected 8")
    return struct.unpack("<q", data)[0]


def with_before(before):
    return Value(struct.pack("<q", len(before)), before)


# ---- the peers


def ts_store(url, sharding):
    """TensorStore's key-value store of the same shards."""
    base = f"file://{Path(url)}/"
    members = sharding.to_json()
    context = {"cache_pool": {"total_bytes_limit": 0}}
    return tensorstore.KvStore.open(
        {"driver": "neuroglancer_uint64_sharded", "metadata": members, "base": base},
        context=tensorstore.Context(context),
    ).result()


def ts_key(key):
    return key.to_bytes(8, "big")


def cv_reader(url, sharding):
    """CloudVolume's reader of the same shards."""
    from cloudvolume.cacheservice import CacheService
    from cloudvolume.cloudvolume import SharedConfiguration
    from cloudvolume.paths import strict_extract

    config = SharedConfiguration(
        cdn_cache=False, compress=None, compress_level=None, green=False, mip=0, parallel=1,
        progress=False, secrets=None, spatial_index_db=None, cache_locking=False, codec_threads=1,
    )  # fmt: skip
    path = f"file://{Path(url)}"
    cache = CacheService(cloudpath=strict_extract(path), enabled=False, config=config)
    cache.meta = SimpleNamespace(cloudpath=path)
    return cv_sharding.ShardReader(path, cache, cv_spec(sharding))


def cv_spec(sharding):
    return cv_sharding.ShardingSpecification.from_dict(json.loads(json.dumps(sharding.to_json())))
