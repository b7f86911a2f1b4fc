"""Values by id, put, found, listed, read and deleted, in shards and as objects of their own."""

import gzip
import multiprocessing
import pickle
import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.keyed.places import (
    SPECS,
    count_before,
    data_of,
    folder_of,
    ids_of,
    read_all,
    some,
    spec,
    values_at,
    with_before,
)
from tests.storage.far import far
from xprecomputed import (
    CorruptDataError,
    InvalidInfoError,
    NotFoundError,
    StorageError,
    set_options,
    trace,
)
from xprecomputed.keyed import KeyedValues, Value, read_info, read_object
from xprecomputed.storage import locate_url, repacking
from xprecomputed.storage.base import Storage

FORMS = [None, *SPECS]


@pytest.fixture(params=["memory", "disk"])
def url(request, tmp_path):
    return folder_of(request.param, tmp_path)


@pytest.mark.parametrize("sharding", FORMS)
def test_a_life(url, rng, sharding):
    values = pickle.loads(pickle.dumps(values_at(url, sharding, ":0")))
    assert values.ids().tolist() == []
    assert values.delete([3]).tolist() == []
    first, second = some(rng, 200, b"a"), some(rng, 200, b"b")
    second |= {key: Value(b"again") for key in list(first)[:50]}
    values.put(first)
    values.put(second)
    expected = data_of(first | second)
    assert values.ids().tolist() == sorted(expected)
    assert values.ids().dtype == np.uint64
    assert read_all(values) == expected
    asked = [*expected, *range(100, 200)]
    assert values.exists(np.array(asked, np.uint64)).tolist() == [key in expected for key in asked]
    gone = list(expected)[::3]
    assert values.delete([*gone, 2**64 - 1]).tolist() == sorted(gone)
    for key in gone:
        del expected[key]
    assert read_all(values) == expected
    assert values.delete(expected).tolist() == sorted(expected)
    assert values.ids().tolist() == []
    assert not list(values.directory.storage.list_dir(values.directory.key))


@pytest.mark.parametrize("sharding", SPECS)
def test_the_bytes_do_not_depend_on_the_way(tmp_path, rng, sharding):
    new = some(rng, 300)
    once = values_at(str(tmp_path / "once"), sharding)
    once.put(new)
    ids = rng.permutation(np.array(list(new), np.uint64)).tolist()
    parts = values_at(str(tmp_path / "parts"), sharding)
    parts.put({1: Value(b"goes away"), ids[0]: Value(b"is replaced")} | {5: Value(b"")})
    for begin in range(0, len(ids), 70):
        parts.put({key: new[key] for key in ids[begin : begin + 70]})
    parts.delete({1, 5} - set(new))
    files = {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "once").iterdir()}
    assert len(files) > 1 or sharding.shard_bits == 0


@pytest.mark.parametrize("sharding", [spec(), spec("identity", 1, 1, "raw", "raw")])
@pytest.mark.parametrize("place", ["near", "far"])
def test_what_lies_before_values_stays_there(tmp_path, rng, sharding, place):
    there = locate_url(str(tmp_path)) if place == "near" else far(tmp_path)
    monkeyed = KeyedValues(there, sharding, bytes_before=count_before)
    if place == "far":
        monkeyed = replace(monkeyed, directory=Conditional.around(tmp_path))
    before = {int(key): rng.bytes(int(rng.integers(0, 2000))) for key in rng.integers(0, 999, 80)}
    monkeyed.put({key: with_before(data) for key, data in before.items()})
    more = {key: rng.bytes(50) for key in [*list(before)[:10], 2000, 2001, 2002]}
    monkeyed.put({key: with_before(data) for key, data in more.items()})
    monkeyed.delete(list(before)[20:40])
    before |= more
    for key in list(before)[20:40]:
        del before[key]
    keys = np.array(sorted(before), np.uint64)
    found = monkeyed.sharded().find(keys)
    for at, key in enumerate(keys.tolist()):
        start = int(found.starts[at])
        path = tmp_path / monkeyed.sharded().place(int(found.shards[at])).key.rpartition("/")[2]
        assert path.read_bytes()[start - len(before[key]) : start] == before[key]
    assert read_all(monkeyed) == {key: with_before(data).data for key, data in before.items()}


class Conditional:
    """A remote place whose writes go to a disk, where others wait."""

    @staticmethod
    def around(folder):
        place = far(folder)
        storage = place.storage

        class Writable(type(storage)):
            def put_parts(self, key, parts, **kwargs):
                return self.inner.put_parts(key, parts)

            def put(self, key, data, **kwargs):
                return self.inner.put(key, data)

            def delete(self, key):
                return self.inner.delete(key)

            def update(self, key, work, *, anyway=False):
                return self.inner.update(key, work)

        return replace(place, storage=Writable(storage.inner))


def test_values_before_values_need_a_shard(url):
    values = values_at(url)
    with pytest.raises(ValueError, match="/7: bytes before a value need a shard"):
        values.put({7: Value(b"data", b"before")})


@pytest.mark.parametrize("place", ["near", "far"])
def test_kept_values_are_copied_with_few_requests(tmp_path, rng, place):
    sharding = spec(minishard=3, shard=0)
    values = values_at(str(tmp_path), sharding)
    values.put({key: Value(rng.bytes(100)) for key in range(5000)})
    before = read_all(values)
    if place == "far":
        values = replace(values, directory=Conditional.around(tmp_path))
    with trace() as traced:
        values.put({77: Value(b"new")})
    # the shard index, 8 indexes of 21 KB each with the values between, all values, the write
    assert traced.requests <= 14
    assert read_all(values) == before | {77: b"new"}


def test_kept_values_in_any_order_are_read_one_by_one(tmp_path, rng):
    """Reading ahead is for files in order: elsewhere it would read everything again and again."""
    sharding = spec("identity", 0, 0, "raw", "raw")
    values = values_at(str(tmp_path), sharding)
    values.put({key: Value(rng.bytes(1000)) for key in range(300)})
    stored = values.sharded()
    keys, found = repacking_contents(stored)
    end = int(found.stops.max())
    read = repacking._ReadAhead(stored, 0, found.versions[0], end)
    with trace() as traced:
        for at in range(len(keys) - 1, -1, -1):
            assert len(read(int(found.starts[at]), int(found.stops[at]))) == 1000
    assert traced.bytes < 310_000
    with trace() as traced:
        for at in range(len(keys)):
            assert len(read(int(found.starts[at]), int(found.stops[at]))) == 1000
    assert traced.requests <= 3
    assert traced.bytes < 310_000


def repacking_contents(stored):
    from xprecomputed.storage import contents

    return contents(stored, 0)


def test_thousands_of_ids_are_grouped(tmp_path, rng):
    sharding = spec(minishard=2, shard=2)
    values = values_at(str(tmp_path), sharding)
    values.put({key: Value(rng.bytes(40)) for key in range(4000)})
    ids = rng.permutation(8000).astype(np.uint64)
    with trace() as traced:
        assert values.exists(ids).sum() == 4000
    assert traced.requests == 4 + 4  # shard indexes, and their indexes of minishards
    with trace() as traced:
        assert len(values.ids()) == 4000
    # a listing; shard indexes, and their indexes of minishards
    assert traced.requests == 1 + 4 + 4
    with trace() as traced:
        read_all(values, ids)
    # the indexes are remembered; one range of values a shard
    assert traced.requests <= 4 + 4 * 2


def test_objects_are_asked_for_once_each(tmp_path):
    values = values_at(str(tmp_path))
    values.put({key: Value(b"x") for key in range(50)})
    with trace() as traced:
        assert values.exists(np.arange(100, dtype=np.uint64)).sum() == 50
    assert traced.requests == 100
    with trace() as traced:
        assert len(values.ids()) == 50
    assert traced.requests == 1


def test_names_that_are_no_ids_are_left_out(tmp_path):
    for name in ("info", "7", "8.gz", "007", "-1", "1.frags", "9:0", "7:0", "0-9_0-9_0-9.spatial",
                 "7:0:0-1_0-1_0-1", str(2**64), "\u0667", "9:0:0", ":0", "1:01"):  # fmt: skip
        (tmp_path / name).write_bytes(gzip.compress(b"x"))
    assert values_at(str(tmp_path)).ids().tolist() == [7, 8]
    assert values_at(str(tmp_path), suffix=":0").ids().tolist() == [7, 9]


def test_objects_may_be_compressed(tmp_path):
    values = values_at(str(tmp_path))
    values.put({7: Value(b"x" * 999)}, compression="gzip")
    assert [path.name for path in tmp_path.iterdir()] == ["7.gz"]
    assert read_all(values) == {7: b"x" * 999}
    values.put({7: Value(b"y" * 999)}, compression="auto")  # on disks none
    assert [path.name for path in tmp_path.iterdir()] == ["7"]
    with pytest.raises(ValueError, match="compression='br': expected None, 'gzip' or 'auto'"):
        values.put({}, compression="br")


def test_ids_are_checked_before_anything_is_written(url):
    values = values_at(url)
    with pytest.raises(ValueError, match="segment id -1"):
        values.put({1: Value(b""), -1: Value(b"")})
    assert not len(values.ids())


@pytest.mark.parametrize("sharding", [None, spec()])
def test_values_may_be_made_on_demand(url, sharding):
    made = []

    class Lazy(dict):
        def __getitem__(self, key):
            made.append(key)
            return Value(b"%d" % key)

    values = values_at(url, sharding)
    values.put(Lazy.fromkeys(range(30)))
    assert sorted(made) == list(range(30))
    assert read_all(values) == {key: b"%d" % key for key in range(30)}


# ---- together with others


def test_threads_that_write_the_same_shards_lose_nothing(url):
    values = values_at(url, spec(minishard=1, shard=1))
    parts = [{key * 8 + n: Value(b"%d" % n) for key in range(10)} for n in range(8)]
    threads = [threading.Thread(target=values.put, args=(part,)) for part in parts]
    values.put({1000: Value(b"goes")})
    threads.append(threading.Thread(target=values.delete, args=([1000],)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_all(values) == {key: b"%d" % (key % 8) for key in range(80)}


def _put_some(values, n):
    values.put({key * 2 + n: Value(b"%d" % n) for key in range(20)})


def test_processes_that_write_the_same_shards_lose_nothing(tmp_path):
    values = values_at(str(tmp_path / "folder"), spec(minishard=1, shard=1))
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_put_some, args=(values, n)) for n in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert read_all(values) == {key: b"%d" % (key % 2) for key in range(40)}


def test_shards_that_have_none_of_the_ids_are_left_alone(tmp_path):
    values = values_at(str(tmp_path / "folder"), spec(minishard=0, shard=2))
    values.put({key: Value(b"x") for key in range(3)})
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "folder").iterdir()}
    assert not len(values.delete(range(100, 200)))
    assert {
        path.name: path.stat().st_mtime_ns for path in (tmp_path / "folder").iterdir()
    } == before
    assert not values_at(str(tmp_path / "nowhere"), spec()).delete([1]).size
    assert not (tmp_path / "nowhere").exists()


def test_a_failing_write_leaves_the_shard(tmp_path, monkeypatch):
    values = values_at(str(tmp_path), spec(minishard=0, shard=0))
    values.put({1: Value(b"old")})
    monkeypatch.setattr(repacking._ReadAhead, "__call__", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        values.put({2: Value(b"new")})
    assert read_all(values) == {1: b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["0.shard"]


def test_a_shard_that_is_replaced_while_its_keys_are_read(tmp_path):
    values = values_at(str(tmp_path), spec(minishard=1, shard=0))
    values.put({key: Value(b"x") for key in range(10)})
    left = [3]

    def meanwhile(key):
        if left[0]:
            left[0] -= 1
            values.put({100 + left[0]: Value(b"y")})

    other = replace(values, directory=far(tmp_path, meanwhile=meanwhile))
    assert len(other.ids()) == 13
    left[0] = 1000
    with pytest.raises(StorageError, match=r"0.shard: the shard was replaced .*5 times"):
        other.ids()


# ---- stores that cannot be listed


class Unlisted(Storage):
    """Only what is in a dict, and no listing."""

    url = "unlisted://"
    is_local = False

    def __init__(self, inner):
        self.inner = inner

    def get(self, key, max_bytes=None):
        return self.inner.get(key, max_bytes)

    def get_range(self, key, start, stop):
        return self.inner.get_range(key, start, stop)


def unlisted(values):
    place = values.directory
    return replace(values, directory=replace(place, storage=Unlisted(place.storage)))


def test_few_shards_are_asked_for_where_nothing_is_listed(tmp_path):
    values = values_at(str(tmp_path), spec(minishard=0, shard=4))
    values.put({key: Value(b"x") for key in range(5)})
    assert unlisted(values).ids().tolist() == list(range(5))
    many = replace(values, sharding=spec(shard=13))
    match = r"cannot be listed. Without a listing shards .* up to 4096 .* are 2\*\*13: name the ids"
    with pytest.raises(StorageError, match=match):
        unlisted(many).ids()
    with pytest.raises(StorageError, match=r"cannot be listed. Which ids are stored .*exists\(ids"):
        unlisted(replace(values, sharding=None)).ids()


# ---- order, places, whole objects


def test_ids_are_ordered_by_where_they_lie(rng):
    values = values_at("memory://keyed/order", spec(minishard=2, shard=2))
    ids = rng.integers(0, 2**63, 500, np.uint64)
    ordered = values.order(ids)
    assert sorted(ordered.tolist()) == sorted(ids.tolist())
    where = [values.place_of(int(key)).partition(", key")[0] for key in ordered]
    changes = sum(a != b for a, b in pairwise(where))
    assert changes == len(set(where)) - 1
    assert replace(values, sharding=None).order(ids).tolist() == sorted(ids.tolist())


def test_places():
    values = values_at("memory://keyed/places", None, ".index")
    assert values.place_of(7) == "memory://keyed/places/7.index"
    with pytest.raises(ValueError, match="memory://keyed/places: not sharded"):
        values.sharded()


def test_whole_objects(tmp_path):
    place = locate_url(str(tmp_path))
    assert read_object(place.child("a"), 10) is None
    (tmp_path / "a").write_bytes(b'{"a": 1}')
    (tmp_path / "b.gz").write_bytes(gzip.compress(b'{"a": 1}'))
    (tmp_path / "c").write_bytes(gzip.compress(b'{"a": 1}'))  # a header was lost
    for name in "abc":
        assert read_object(place.child(name), 8) == b'{"a": 1}'
    with pytest.raises(CorruptDataError, match="b: gzip data that holds more than the 7 bytes"):
        read_object(place.child("b"), 7)
    (tmp_path / "f").write_bytes(b"\x1f\x8b\x08\0 a count of vertices, not gzip")
    assert read_object(place.child("f"), 100)[4:] == b" a count of vertices, not gzip"
    (tmp_path / "d").write_bytes(b"x" * 6000)
    with pytest.raises(CorruptDataError, match=r"d: 6000 bytes, at most \d+ can be valid"):
        read_object(place.child("d"), 100)


def test_an_info_is_there_or_not_or_no_json(tmp_path):
    place = locate_url(str(tmp_path))
    assert read_info(place, lambda document, where: (document, where)) is None
    (tmp_path / "info").write_bytes(b"null")  # which is not nothing
    found = read_info(place, lambda document, where: (document, where))
    assert found == (None, f"file://{tmp_path}/info")
    (tmp_path / "info").write_bytes(gzip.compress(b"[1]"))
    assert read_info(place, lambda document, where: document) == [1]
    (tmp_path / "info").write_bytes(b"{")
    with pytest.raises(InvalidInfoError, match="info: not JSON"):
        read_info(place, lambda document, where: document)


def test_memory_stays_bounded(tmp_path, rng):
    """A shard is rewritten without being whole in memory."""
    import tracemalloc

    sharding = spec(minishard=2, shard=0, data="raw")
    values = values_at(str(tmp_path), sharding)
    values.put({key: Value(rng.bytes(1 << 20)) for key in range(64)})
    tracemalloc.start()
    with set_options(read_budget_bytes=8 << 20):
        values.put({7: Value(b"x")})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 << 20
    assert len(read_all(values, [7, 8])[8]) == 1 << 20


def test_not_found_is_no_error_of_listing(tmp_path):
    assert values_at(str(tmp_path / "nothing"), spec()).ids().tolist() == []
    assert values_at(str(tmp_path / "nothing")).exists(ids_of(1)).tolist() == [False]
    assert issubclass(NotFoundError, FileNotFoundError)


def test_whether_something_exists_is_asked_of_the_store(tmp_path):
    sharding = spec(minishard=1, shard=0)
    values_at(str(tmp_path), sharding).put({7: Value(b"seven"), 8: Value(b"eight")})
    values = KeyedValues(far(str(tmp_path)), sharding)
    assert values.exists(np.array([7, 9], np.uint64)).tolist() == [True, False]
    (tmp_path / "0.shard").unlink()  # by somebody else
    assert values.exists(np.array([7, 9], np.uint64)).tolist() == [False, False]
