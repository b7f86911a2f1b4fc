"""The engine on a store where a request takes time: many in flight, bounded in bytes."""

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.images import labels, noise
from xprecomputed import PrecomputedStore, open_store, set_options
from xprecomputed.codecs.compressed_segmentation import CompressedSegmentation
from xprecomputed.storage import Location, Storage, locate_url
from xprecomputed.testing import write_volume


@dataclass(frozen=True)
class Slow(Storage):
    """Another storage behind some latency, which notes what is under way at once."""

    behind: Storage
    seen: list = field(default_factory=list, compare=False)
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False)
    under_way: list = field(default_factory=list, compare=False)

    url = "slow://"
    is_local = False

    def _wait(self):
        with self.lock:
            self.under_way.append(1)
            self.seen.append(len(self.under_way))
        time.sleep(0.01)
        with self.lock:
            self.under_way.pop()

    def get(self, key, max_bytes=None):
        self._wait()
        return self.behind.get(key, max_bytes)

    def get_range(self, key, start, stop):
        self._wait()
        return self.behind.get_range(key, start, stop)


def slow(url):
    location = locate_url(url)
    storage = Slow(location.storage)
    return PrecomputedStore(Location(storage, location.key), open_store(url).info), storage


ARRAY = noise((64, 128, 128), "u1")
SHARDING = {
    "@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": 0, "hash": "murmurhash3_x86_128",
    "minishard_bits": 2, "shard_bits": 5, "minishard_index_encoding": "gzip", "data_encoding": "gzip",
}  # fmt: skip


@pytest.mark.parametrize("sharding", [None, SHARDING])
def test_many_requests_are_in_flight(tmp_path, sharding):
    write_volume(str(tmp_path), [ARRAY], chunk_size=(16, 16, 16), sharding=sharding)
    store, storage = slow(tmp_path)
    with set_options(requests_in_flight=16):
        np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], ARRAY)
    assert 8 < max(storage.seen) <= 16


@pytest.mark.parametrize("sharding", [None, SHARDING])
def test_the_budget_bounds_what_is_in_flight(tmp_path, sharding):
    write_volume(str(tmp_path), [ARRAY], chunk_size=(16, 16, 16), sharding=sharding)
    store, storage = slow(tmp_path)
    # a chunk of 4 KiB is reckoned with twice that: stored or decompressed, and decoded
    with set_options(requests_in_flight=64, read_budget_bytes=100 << 10):
        store.read(store.mips[0].bounds)  # shard indexes do not count, and are known from now on
        storage.seen.clear()
        np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], ARRAY)
    assert 1 < max(storage.seen) <= 12


def test_no_more_decoders_than_threads(tmp_path, monkeypatch):
    array = labels((32, 64, 64), "u4")
    write_volume(
        str(tmp_path), [array], chunk_size=(16, 16, 16), encoding="compressed_segmentation"
    )
    store, storage = slow(tmp_path)
    decoding, most, lock = [], [], threading.Lock()
    decode_into = CompressedSegmentation.decode_into

    def slow_decode(self, *args):
        with lock:
            decoding.append(1)
            most.append(len(decoding))
        time.sleep(0.002)
        decode_into(self, *args)
        with lock:
            decoding.pop()

    monkeypatch.setattr(CompressedSegmentation, "decode_into", slow_decode)
    with set_options(requests_in_flight=16, threads=2):
        np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], array)
    assert max(most) == 2
    assert max(storage.seen) > 4
