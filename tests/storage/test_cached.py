"""A storage behind the caches: fewer requests, never other answers."""

import importlib
import inspect
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.storage.far import FarStorage, far
from tests.storage.places import child
from xprecomputed import (
    AccessDeniedError,
    CorruptDataError,
    PrecomputedWarning,
    StorageError,
    set_options,
    trace,
)
from xprecomputed.storage import Blob, FsspecStorage, Location, Storage, locate_url
from xprecomputed.storage.caching.cached import CachedStorage, cached, forget_everywhere
from xprecomputed.storage.caching.disk import DiskCache
from xprecomputed.storage.caching.memory import memory_cache

# the package has a function of that name
cached_module = importlib.import_module("xprecomputed.storage.caching.cached")

VALUES = bytes(range(100))


@pytest.fixture(autouse=True)
def empty_memory(monkeypatch):
    memory_cache.clear()
    monkeypatch.setattr(cached_module, "_directories", set())
    yield
    memory_cache.clear()
    assert not cached_module._flights


@pytest.fixture
def data(tmp_path):
    """A far folder with a chunk and a shard."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "chunk").write_bytes(b"chunk")
    (folder / "shard").write_bytes(VALUES)
    return folder


@pytest.fixture(params=["disk", "memory", "both"])
def where(request, tmp_path):
    """Which caches are on; a function that puts a place behind them."""
    memory = 0 if request.param == "disk" else 1_000_000
    kept = None if request.param == "memory" else str(tmp_path / "kept")
    with set_options(memory_cache_bytes=memory):
        yield lambda place: cached(place, kept)


def asked(work):
    """The requests and hits of some work, and its result."""
    with trace() as t:
        result = work()
    return (t.requests, t.hits), result


# ---- what is asked once


def test_the_second_answer_costs_no_request(where, data):
    place = where(far(data))
    chunk, shard = place.child("chunk"), place.child("shard")
    for requests in ((1, 0), (0, 1), (0, 1)):
        assert asked(lambda: chunk.storage.get(chunk.key)) == (requests, Blob(b"chunk"))
    for requests in ((1, 0), (0, 1)):
        seen, blob = asked(lambda: shard.storage.get_range(shard.key, 10, 20))
        assert (seen, blob.data) == (requests, VALUES[10:20])
        assert blob.version == shard.storage.inner.inner.fingerprint(shard.key) is not None
    seen, blob = asked(lambda: shard.storage.get_range(shard.key, 10, 21))
    assert (seen, blob.data) == ((1, 0), VALUES[10:21])


def test_hits_are_counted(where, data):
    place = where(far(data)).child("chunk")
    with trace() as t:
        place.storage.get(place.key)
        assert "cache" not in str(t)
        place.storage.get(place.key)
    assert str(t) == "1 requests, 5 bytes, 0 retries, 0 filled chunks, 1 from a cache"


def test_compression_stays_declared(where, data):
    (data / "packed.gz").write_bytes(b"gzipped")
    place = where(far(data)).child("packed")
    for _ in range(2):
        assert place.storage.get(place.key) == Blob(b"gzipped", "gzip")


def test_others_find_what_is_on_disk(data, tmp_path):
    place = cached(far(data), tmp_path / "kept").child("chunk")
    place.storage.get(place.key)
    again = pickle.loads(pickle.dumps(cached(far(data), str(tmp_path / "kept"))))
    assert len(pickle.dumps(again)) < 1000
    assert asked(lambda: again.storage.get(place.key)) == ((0, 1), Blob(b"chunk"))


def test_a_folder_that_came_in_a_pickle_counts_from_the_first_read_on(data, tmp_path):
    place = cached(far(data), tmp_path / "kept").child("chunk")
    cached_module._directories.clear()  # as in another process
    assert place.storage.get(place.key) == Blob(b"chunk")
    far(data).storage.put(place.key, b"new")
    forget_everywhere(place.identity)
    assert place.storage.get(place.key) == Blob(b"new")


def test_a_hit_is_not_written_again(data, tmp_path, monkeypatch):
    place = cached(far(data), tmp_path / "kept").child("chunk")
    place.storage.get(place.key)
    monkeypatch.setattr(DiskCache, "put", None)
    assert asked(lambda: place.storage.get(place.key)) == ((0, 1), Blob(b"chunk"))


def test_another_process_finds_what_is_on_disk(data, tmp_path):
    script = """
import pickle, sys
from xprecomputed import trace
place = pickle.loads(bytes.fromhex(sys.argv[1]))
with trace() as t:
    print(place.storage.get(place.key).data.decode(), t.requests, t.hits)
"""
    place = cached(far(data), tmp_path / "kept").child("chunk")
    place.storage.get(place.key)
    packed = pickle.dumps(place).hex()
    process = child(script, packed)
    assert process.communicate()[0].split() == ["chunk", "0", "1"]


def test_a_range_within_a_kept_one_costs_no_request(data, tmp_path):
    place = cached(far(data), tmp_path / "kept").child("shard")
    place.storage.get_range(place.key, 10, 90)
    for start, stop in [(20, 30), (10, 11), (89, 90)]:
        seen, blob = asked(lambda a=start, b=stop: place.storage.get_range(place.key, a, b))
        assert (seen, blob.data) == ((0, 1), VALUES[start:stop])
        assert blob.version == place.storage.inner.inner.fingerprint(place.key)


def test_what_memory_holds_is_bounded(data):
    with set_options(memory_cache_bytes=2000):
        place = cached(far(data))
        for i in range(50):
            (data / f"{i}").write_bytes(bytes(500))
            place.storage.get(place.child(f"{i}").key)
            assert memory_cache.nbytes <= 2000
        assert asked(lambda: place.storage.get(place.child("49").key))[0] == (0, 1)
        assert asked(lambda: place.storage.get(place.child("0").key))[0] == (1, 0)


def test_what_the_disk_holds_is_bounded(data, tmp_path):
    with set_options(cache_dir=tmp_path / "kept", cache_bytes=3000):
        place = cached(far(data))
        for i in range(20):
            (data / f"{i}").write_bytes(bytes(500))
            place.storage.get(place.child(f"{i}").key)
            assert place.storage.disk.nbytes <= 3000
    assert place.storage.disk == DiskCache(str(tmp_path / "kept"), 3000)


# ---- what is not remembered


def test_what_is_missing_is_asked_for_again(where, data):
    place = where(far(data))
    for _ in range(2):
        assert asked(lambda: place.storage.get(place.child("no").key)) == ((1, 0), None)
        assert asked(lambda: place.storage.get_range(place.child("no").key, 0, 5)) == ((1, 0), None)
    (data / "no").write_bytes(b"now")
    assert place.storage.get(place.child("no").key) == Blob(b"now")


def test_errors_are_not_remembered(where, data):
    def fail(key):
        raise AccessDeniedError("denied")

    with pytest.raises(AccessDeniedError, match="denied"):
        where(far(data, meanwhile=fail)).storage.get(far(data).child("chunk").key)
    place = where(far(data)).child("chunk")
    assert asked(lambda: place.storage.get(place.key)) == ((1, 0), Blob(b"chunk"))


def test_without_versions_only_whole_objects_are_kept(where, data):
    place = where(far(data, has_versions=False))
    shard, chunk = place.child("shard").key, place.child("chunk").key
    for requests in ((1, 0), (1, 0)):
        assert asked(lambda: place.storage.get_range(shard, 10, 20))[0] == requests
    for requests in ((1, 0), (0, 1)):
        assert asked(lambda: place.storage.get(chunk))[0] == requests


def test_a_short_answer_is_not_kept(where, data):
    place = where(far(data)).child("shard")
    for _ in range(2):
        seen, blob = asked(lambda: place.storage.get_range(place.key, 90, 120))
        assert (seen, blob.data) == ((1, 0), VALUES[90:])
    (data / "shard").write_bytes(VALUES * 2)
    assert len(place.storage.get_range(place.key, 90, 120).data) == 30


def test_a_larger_object_than_asked_for_is_refused_by_the_store(where, data):
    place = where(far(data)).child("chunk")
    place.storage.get(place.key)
    assert place.storage.get(place.key, 5) == Blob(b"chunk")
    with trace() as t, pytest.raises(CorruptDataError, match="5 bytes, at most 4 can be valid"):
        place.storage.get(place.key, 4)
    assert t.hits == 0
    (data / "chunk").write_bytes(b"new")
    assert place.storage.get(place.key, 4) == Blob(b"new")


# ---- writes


CHANGES = {
    "put": lambda place: place.storage.put(place.key, b"new"),
    "put_parts": lambda place: place.storage.put_parts(place.key, [b"n", b"ew"]),
    "delete and put": lambda place: (
        place.storage.delete(place.key),
        place.storage.inner.put(place.key, b"new"),
    ),
    "update": lambda place: place.storage.update(
        place.key, lambda only_if: place.storage.inner.put(place.key, b"new", only_if=only_if)
    ),
    "forget": lambda place: (
        place.storage.inner.put(place.key, b"new"),
        place.storage.forget(place.key),
    ),
    "delete_tree": lambda place: (
        place.storage.delete_tree(place.child("..").key),
        place.storage.inner.put(place.key, b"new"),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_stale_is_read_after_a_write(where, data, change):
    place = where(far(data)).child("chunk")
    place.storage.get(place.key)
    place.storage.get_range(place.key, 0, 3)
    CHANGES[change](place)
    assert place.storage.get(place.key) == Blob(b"new")
    assert place.storage.get_range(place.key, 0, 3) == Blob(b"new")


def test_a_write_through_any_storage_is_heard_by_all_caches(data, tmp_path):
    folders = [str(tmp_path / name) for name in "abc"]
    with set_options(memory_cache_bytes=10_000):
        places = [cached(far(data), folder).child("chunk") for folder in folders]
        for each in places:
            each.storage.get(each.key)
            memory_cache.clear()
        assert places[0].storage.get(places[0].key) == Blob(b"chunk")
        far(data).storage.put(places[0].key, b"new")
        forget_everywhere(far(data).storage.identity(places[0].key))
        for each in places:
            assert each.storage.get(each.key) == Blob(b"new")


def test_the_folder_of_the_options_counts_though_nothing_was_read_here(data, tmp_path):
    kept = str(tmp_path / "kept")
    place = far(data).child("chunk")
    DiskCache(kept, 10_000).put(place.identity, None, None, Blob(b"of another process"))
    with set_options(cache_dir=kept):
        forget_everywhere(place.identity)
    assert DiskCache(kept, 10_000).get(place.identity) is None


def test_a_folder_counts_from_opening_on(data, tmp_path):
    kept = str(tmp_path / "kept")
    place = cached(far(data), kept).child("chunk")
    DiskCache(kept, 10_000).put(place.identity, None, None, Blob(b"of another process"))
    forget_everywhere(place.identity)
    assert DiskCache(kept, 10_000).get(place.identity) is None


def test_what_lies_beside_is_kept(where, data):
    (data / "chunk2").write_bytes(b"beside")
    place = where(far(data))
    key, beside = place.child("chunk").key, place.child("chunk2").key
    for each in (key, beside):
        place.storage.get(each)
    for below in (False, True):
        forget_everywhere(place.storage.identity(key), below=below)
        assert asked(lambda: place.storage.get(beside)) == ((0, 1), Blob(b"beside"))


def test_what_fails_to_be_written_may_be_written(where, data):
    place = where(far(data)).child("chunk")
    place.storage.get(place.key)

    def parts():
        (data / "chunk").write_bytes(b"new")  # as far as one knows
        yield b""
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        place.storage.put_parts(place.key, parts())
    assert place.storage.get(place.key) == Blob(b"new")


def test_an_update_reads_what_is_there(where, data):
    place = where(far(data)).child("chunk")
    place.storage.get(place.key)
    (data / "chunk").write_bytes(b"by another process")
    seen = place.storage.update(place.key, lambda only_if: place.storage.get(place.key))
    assert seen == Blob(b"by another process")


@pytest.mark.parametrize("from_disk", [False, True])
def test_an_answer_from_before_a_write_is_not_kept(where, data, from_disk, monkeypatch):
    """The write happens between the answer and its being put away."""
    changes, kept, real_put = [], [], DiskCache.put
    monkeypatch.setattr(
        DiskCache, "put", lambda self, *args: kept.append(args[-1]) or real_put(self, *args)
    )

    def meanwhile(key):
        if not changes:
            changes.append(1)
            far(data).storage.put(key, b"new")
            forget_everywhere(far(data).storage.identity(key))

    place = where(far(data, meanwhile=meanwhile)).child("chunk")
    if from_disk:
        if place.storage.disk is None:
            return
        place.storage.disk.put(place.identity, None, None, Blob(b"chunk"))
        real = DiskCache.get
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                DiskCache,
                "get",
                lambda self, address, *a, **k: (real(self, address, *a, **k), meanwhile(place.key))[
                    0
                ],
            )
            assert place.storage.get(place.key) == Blob(b"chunk")
    else:
        assert place.storage.get(place.key) == Blob(b"chunk")
        assert not kept  # not even for a moment
    assert place.storage.get(place.key) == Blob(b"new")


def test_a_write_while_an_answer_is_put_away(data, tmp_path, monkeypatch):
    place = cached(far(data), tmp_path / "kept").child("chunk")
    real = DiskCache.put

    def put(self, *args):
        far(data).storage.put(place.key, b"new")
        forget_everywhere(place.identity)
        real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(DiskCache, "put", put)
        assert place.storage.get(place.key) == Blob(b"chunk")
    assert place.storage.get(place.key) == Blob(b"new")


# ---- many at once


class Gate:
    """Holds requests until it is opened."""

    def __init__(self):
        self.open = threading.Event()
        self.arrived = threading.Semaphore(0)
        self.error = None

    def __call__(self, key):
        self.arrived.release()
        assert self.open.wait(30)
        if self.error is not None:
            error, self.error = self.error, None
            raise error


def start_together(place, gate, count, stop=3):
    pool = ThreadPoolExecutor(count)
    first = pool.submit(place.storage.get_range, place.key, 0, stop)
    assert gate.arrived.acquire(timeout=30)
    others = [pool.submit(place.storage.get_range, place.key, 0, stop) for _ in range(count - 1)]
    pool.shutdown(wait=False)
    return first, others


def test_many_who_want_the_same_cost_one_request(where, data):
    gate = Gate()
    place = where(far(data, meanwhile=gate)).child("chunk")
    with trace() as t:
        first, others = start_together(place, gate, 8)
        assert not gate.arrived.acquire(timeout=0.2)  # nobody else asks
        gate.open.set()
        assert {each.result(30).data for each in [first, *others]} == {b"chu"}
    assert (t.requests, t.hits) == (1, 7)


def test_another_range_does_not_wait(where, data):
    gate = Gate()
    place = where(far(data, meanwhile=gate)).child("chunk")
    first, _ = start_together(place, gate, 1)
    second, _ = start_together(place, gate, 1, stop=4)
    gate.open.set()
    assert (first.result(30).data, second.result(30).data) == (b"chu", b"chun")


def test_the_error_of_one_is_not_that_of_others(where, data):
    gate = Gate()
    place = where(far(data, meanwhile=gate)).child("chunk")
    first, others = start_together(place, gate, 4)
    assert not gate.arrived.acquire(timeout=0.2)
    gate.error = StorageError("broken")
    gate.open.set()
    with pytest.raises(StorageError, match="broken"):
        first.result(30)
    assert {each.result(30).data for each in others} == {b"chu"}


def test_who_comes_after_a_write_does_not_wait_for_an_answer_from_before(where, data):
    gate = Gate()
    place = where(far(data, meanwhile=gate)).child("chunk")
    first, _ = start_together(place, gate, 1)
    far(data).storage.put(place.key, b"new")
    forget_everywhere(place.identity)
    after, _ = start_together(place, gate, 1)
    gate.open.set()
    assert (first.result(30).data, after.result(30).data) == (b"chu", b"new")
    assert place.storage.get_range(place.key, 0, 3).data == b"new"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_threads_of_its_parent(data, tmp_path):
    gate = Gate()
    place = cached(far(data, meanwhile=gate), tmp_path / "kept").child("chunk")
    first, _ = start_together(place, gate, 1)
    process = os.fork()
    if not process:
        gate.open.set()
        threading.Timer(20, os._exit, [1]).start()
        os._exit(0 if place.storage.get_range(place.key, 0, 3).data == b"chu" else 2)
    _, status = os.waitpid(process, 0)
    gate.open.set()
    assert first.result(30).data == b"chu"
    assert os.waitstatus_to_exitcode(status) == 0


# ---- the rest of the interface


def test_nothing_of_the_interface_is_left_to_the_defaults():
    """What a storage can do, it can do behind a cache."""
    members = {name for name in vars(Storage) if not name.startswith("_")}
    assert members - set(vars(CachedStorage)) == set()
    for name in members:
        if inspect.isfunction(vars(Storage)[name]):
            ours = inspect.signature(vars(CachedStorage)[name])
            assert (
                ours.parameters.keys() == inspect.signature(vars(Storage)[name]).parameters.keys()
            )


def test_everything_else_is_what_the_store_says(data, tmp_path):
    place = cached(far(data), tmp_path / "kept")
    storage, inner = place.storage, far(data).storage
    key = place.child("chunk").key
    assert storage.inner == inner
    assert (storage.url, place.identity) == ("far://bucket/", f"far://bucket/{place.key}")
    assert (storage.is_local, storage.has_headers) == (False, False)
    assert storage.has_locks
    assert (storage.size(key), storage.fingerprint(key)) == (5, None)
    assert sorted(each.name for each in storage.list_dir(place.key)) == ["chunk", "shard"]
    with storage.exclusive(key):
        pass
    storage.put(key, b"packed", encoding="gzip", cache_control="no-cache")
    assert storage.get(key) == Blob(b"packed", "gzip")
    assert storage.delete(key)
    assert not storage.delete(key)
    with pytest.raises(StorageError, match="far://bucket/x: this storage is read-only"):
        CachedStorage(ReadOnly(inner.inner), None, 1).put("x", b"")


class ReadOnly(FarStorage):
    put = Storage.put


def test_keys_of_which_something_is_kept(where, data):
    place = where(far(data))
    (data / "a").mkdir()
    (data / "a" / "b").write_bytes(b"b")
    for name in ("chunk", "a/b"):
        place.storage.get(place.child(name).key)
    place.storage.get_range(place.child("shard").key, 0, 5)
    expected = {place.child(name).key for name in ("chunk", "shard", "a/b")}
    assert place.storage.cached_keys(place.key) == expected
    assert place.storage.cached_keys(place.child("a").key) == {place.child("a/b").key}
    assert place.storage.cached_keys("") == expected
    assert place.storage.cached_keys(place.child("chun").key) == set()


# ---- when a place is cached


def test_only_where_it_is_asked_for(data, tmp_path):
    place = far(data)
    assert cached(place) is place
    with set_options(cache_dir=tmp_path / "a", cache_bytes=5000):
        found = cached(place)
        assert found == Location(CachedStorage(place.storage, str(tmp_path / "a"), 5000), place.key)
        assert cached(found) is found
        found = cached(place, tmp_path / "b")
        assert found.storage.cache_dir == str(tmp_path / "b")
    with set_options(memory_cache_bytes=1):
        assert cached(place).storage.cache_dir is None
        assert cached(place).storage.disk is None
    with pytest.raises(ValueError, match="cache_dir='s3://bucket': expected the path of a local"):
        cached(place, "s3://bucket")


@pytest.mark.parametrize("url", ["memory://a/b", "/tmp/a"])
def test_what_is_near_is_not_cached(url, tmp_path):
    place = locate_url(url)
    assert cached(place, tmp_path) is place


def test_a_folder_is_absolute_for_all_processes(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cached(far(data), "kept").storage.cache_dir == str(tmp_path / "kept")


@pytest.mark.parametrize(("url", "options"), [
    ("s3://bucket/layer", {}),
    ("s3://bucket/layer", {"endpoint_url": "http://localhost:9000"}),
    ("s3://bucket/layer", {"key": "k", "secret": "s"}),
    ("https://me:password@host/layer", {}),
])  # fmt: skip
def test_places_on_the_net_are_cached_apart(url, options, tmp_path):
    place = locate_url(url, options)
    found = cached(place, tmp_path)
    assert found.storage.inner is place.storage
    assert "password" not in found.identity
    if "endpoint_url" in options:
        assert found.identity != locate_url(url).identity


@pytest.mark.parametrize(("url", "options"), [
    ("https://host/layer?token=a", {}),
    ("far://you@host/layer", {}),
    ("far://host/layer", {"region": "b"}),
    ("simplecache::far://host/layer", {}),
    ("far://host/layer?branch=b", {}),
])  # fmt: skip
def test_what_an_address_does_not_tell_apart_is_not_cached(url, options, tmp_path):
    if url.startswith("https"):
        place = locate_url(url, options)
    else:
        shown = url.replace("you@", "").partition("?")[0].removesuffix("layer")
        place = Location(FsspecStorage(shown, url, "", options), "layer")
    with pytest.warns(PrecomputedWarning, match="layer: not cached, because it may be told"):
        assert cached(place, tmp_path) is place


def test_who_asks_fsspec_makes_no_other_place(tmp_path):
    storage = FsspecStorage("far://host/", "far://host/layer", "", {"username": "me"})
    assert cached(Location(storage, "layer"), tmp_path).storage.inner is storage
