"""What is kept of a volume: listed, weighed, dropped by box; reads stay right."""

import importlib

import numpy as np
import pytest

from tests.images import labels
from tests.storage.far import far
from xprecomputed import (
    AccessDeniedError,
    Box,
    OutOfBoundsError,
    ScaleNotFoundError,
    ShardingSpec,
    create_mesh,
    open_store,
    set_options,
    trace,
)
from xprecomputed.storage import Blob, cached, index_cache
from xprecomputed.storage.caching.disk import DiskCache
from xprecomputed.storage.caching.memory import memory_cache
from xprecomputed.store import PrecomputedStore
from xprecomputed.store.caching import StoreCache
from xprecomputed.testing import write_volume

SPEC = ShardingSpec(preshift_bits=1, hash="identity", minishard_bits=1, shard_bits=9)
HASHED = ShardingSpec(
    preshift_bits=0,
    hash="murmurhash3_x86_128",
    minishard_bits=1,
    shard_bits=3,
    minishard_index_encoding="gzip",
    data_encoding="gzip",
)
OFFSET = (3, -5, 7)
DATA = labels((21, 30, 35), "u8")
TRIANGLE = ([[0, 0, 0], [900, 0, 0], [0, 900, 0]], [[0, 1, 2]])
MIPS = [DATA, np.ascontiguousarray(DATA[::2, ::2, ::2])]


@pytest.fixture(autouse=True)
def empty_memory(monkeypatch):
    module = importlib.import_module("xprecomputed.storage.caching.cached")
    monkeypatch.setattr(module, "_directories", set())
    memory_cache.clear()
    yield
    memory_cache.clear()


@pytest.fixture(params=[None, SPEC, HASHED], ids=["chunks", "shards", "hashed"])
def folder(request, tmp_path):
    return write_volume(
        str(tmp_path / "data"),
        MIPS,
        voxel_offset=OFFSET,
        chunk_size=(8, 8, 8),
        sharding=request.param,
        factor=(2, 2, 2),
    )


@pytest.fixture(params=["disk", "memory", "both"])
def store(request, folder, tmp_path):
    """The volume far away, behind caches."""
    kept = None if request.param == "memory" else str(tmp_path / "kept")
    with set_options(memory_cache_bytes=0 if request.param == "disk" else 10_000_000):
        yield PrecomputedStore(far(folder), open_store(folder).info, kept)


def cache_of(store):
    return StoreCache(cached(store.location, store.cache_dir), store.info)


def read(store, box=None, mip=0):
    """The requests of a read, which is right."""
    bounds = store.mips[mip].bounds
    start, stop = box or (bounds.start, bounds.stop)
    index_cache.clear()
    with trace() as t:
        found = store.read((start, stop), mip)
    x, y, z = (slice(a - o, b - o) for a, b, o in zip(start, stop, bounds.start, strict=True))
    np.testing.assert_array_equal(found[0], MIPS[mip][z, y, x])
    return t.requests


def test_the_second_read_costs_no_request(store):
    assert read(store) > 0
    assert read(store) == 0
    with set_options(memory_cache_bytes=0):
        assert (read(store) == 0) == (store.cache_dir is not None)


def test_a_part_of_what_was_read_costs_no_request_from_disk(store):
    if store.cache_dir is None:  # memory knows whole objects and the same ranges only
        return
    read(store)
    for start in [(3, -5, 7), (11, 3, 15), (20, 10, 20)]:
        assert read(store, (start, tuple(each + 8 for each in start))) == 0


def test_what_is_kept_is_listed_and_weighed(store, tmp_path):
    cache = cache_of(store)
    assert (cache.list(), cache.nbytes) == ([], 0)
    read(store)
    read(store, mip=1)
    if store.cache_dir is None:
        assert cache.list() == []
        return
    names = {each.address.rpartition("/")[2] for each in cache.list(0)}
    directory = tmp_path / "data" / store.mips[0].key
    assert names == {each.name for each in directory.iterdir()}
    assert len(cache.list()) == len(cache.list(0)) + len(cache.list(1)) > len(names)
    # of another volume
    DiskCache(store.cache_dir, 10**9).put("far://bucket/other", None, None, Blob(b"x"))
    assert cache.nbytes == sum(each.nbytes for each in cache.list()) > 0
    assert DiskCache(store.cache_dir, 1).nbytes > cache.nbytes


def test_everything_is_dropped(store):
    first = read(store), read(store, mip=1)
    cache = cache_of(store)
    objects = cache.flush()
    assert 0 < objects <= sum(first)
    assert (cache.list(), memory_cache.nbytes, index_cache.nbytes) == ([], 0, 0)
    assert (read(store), read(store, mip=1)) == first


def test_one_scale_is_dropped(store):
    first = read(store), read(store, mip=1)
    assert cache_of(store).flush(mip=1) > 0
    assert (read(store), read(store, mip=1)) == (0, first[1])
    assert cache_of(store).flush(store.mips[0].key) > 0
    assert (read(store), read(store, mip=1)) == (first[0], 0)


@pytest.mark.parametrize("box", [
    ((3, -5, 7), (11, 3, 15)),
    ((10, 2, 14), (12, 4, 16)),
    ((37, 24, 27), (38, 25, 28)),
    ((3, -5, 7), (38, 25, 8)),
], ids=["one chunk", "eight chunks", "the last voxel", "a plane"])  # fmt: skip
def test_what_touches_a_box_is_dropped(store, box):
    read(store)
    read(store, mip=1)
    before = {each.address for each in cache_of(store).list(0)}
    touched = touched_by(store, box)
    assert cache_of(store).flush(0, box) == len(touched)
    if store.cache_dir is not None:
        after = {each.address for each in cache_of(store).list(0)}
        assert {each.rpartition("/")[2] for each in before - after} == touched
    requests = read(store)
    assert requests > 0
    if store.info.scales[0].sharding is None:
        assert requests == len(touched)
    assert read(store, mip=1) == 0


def touched_by(store, box):
    """The names of the objects that hold voxels of a box, found chunk by chunk."""
    scale = store.mips[0]
    names = set()
    for cell in scale.grid.cells(scale.bounds):
        chunk = scale.grid.chunk_box(cell)
        if all(a < d and c < b for a, b, c, d in zip(*chunk_and(box, chunk), strict=True)):
            if scale.sharding is None:
                names.add(scale.grid.name(cell))
            else:
                reader = store.reader(0)
                place = reader.sharded_values().place_of(int(reader.keys([cell])[0]))
                names.add(place.partition(",")[0].rpartition("/")[2])
    return names


def chunk_and(box, chunk):
    return chunk.start, chunk.stop, *box


def test_only_what_is_kept_counts(store):
    read(store, ((3, -5, 7), (11, 3, 15)))
    cache = cache_of(store)
    bounds = store.mips[0].bounds
    assert cache.flush(0, Box(bounds.start, bounds.stop)) == 1
    assert cache.flush(0, Box(bounds.start, bounds.stop)) == 0
    assert cache.flush() == 0


def test_what_others_changed_is_read_after_a_flush(store, folder):
    read(store)
    bounds = store.mips[0].bounds
    write_volume(
        folder,
        [np.ascontiguousarray(DATA[::-1])],
        voxel_offset=OFFSET,
        chunk_size=(8, 8, 8),
        sharding=store.mips[0].sharding,
    )
    assert read(store) == 0  # as it was
    cache_of(store).flush(0, bounds)
    np.testing.assert_array_equal(store.read(bounds)[0], DATA[::-1])


def test_meshes_and_skeletons_are_kept_listed_and_dropped_too(folder, tmp_path):
    create_mesh(open_store(folder), format="legacy").put({7: TRIANGLE})
    kept = PrecomputedStore(far(folder), open_store(folder).info, str(tmp_path / "kept"))
    kept.mesh.get(7)
    assert len(kept.cache.list()) == 2  # a manifest and a fragment
    assert kept.cache.list(mip=0) == []
    assert kept.cache.nbytes > 0
    with trace() as t:
        kept.mesh.get(7)
    assert t.hits == 2
    assert kept.cache.flush(mip=0) == 0
    assert kept.cache.flush() == 2
    assert kept.cache.list() == []
    with trace() as t:
        kept.mesh.get(7)
    assert t.hits == 0


def test_without_a_cache_there_is_nothing(folder):
    for store in (open_store(folder), PrecomputedStore(far(folder), open_store(folder).info)):
        store.read(((3, -5, 7), (11, 3, 15)))
        cache = cache_of(store)
        assert (cache.list(), cache.nbytes, cache.flush(), cache.flush(0)) == ([], 0, 0, 0)


def test_foreign_files_among_the_chunks_are_left(tmp_path):
    folder = write_volume(str(tmp_path / "data"), [DATA], chunk_size=(8, 8, 8))
    store = PrecomputedStore(far(folder), open_store(folder).info, str(tmp_path / "kept"))
    read_of(store, "notes.txt")
    assert cache_of(store).flush(0, store.mips[0].bounds) == 0
    assert cache_of(store).flush(0) == 1


def read_of(store, name):
    place = store.reader().directory.child(name)
    place.storage.inner.put(place.key, b"x")
    place.storage.get(place.key)


def test_a_box_is_checked_as_by_the_other_methods(store):
    cache = cache_of(store)
    with pytest.raises(OutOfBoundsError, match=r"flush\(mip, box\): a box needs the mip"):
        cache.flush(box=((3, -5, 7), (4, -4, 8)))
    for box in [((0, 0, 0), (8, 8, 8)), ((3, -5, 7), (3, -5, 7)), ((3, -5, 7), (39, 0, 8))]:
        with pytest.raises(OutOfBoundsError, match="is empty or not inside x.3, 38"):
            cache.flush(0, box)
    with pytest.raises(OutOfBoundsError, match="expected .*whole absolute voxels"):
        cache.flush(0, (1, 2, 3))
    with pytest.raises(ScaleNotFoundError, match="5"):
        cache.flush(5)
    with pytest.raises(ScaleNotFoundError, match="5"):
        cache.list(5)


def test_a_cache_that_cannot_be_read_says_so(folder, tmp_path, monkeypatch):
    store = PrecomputedStore(far(folder), open_store(folder).info, str(tmp_path / "kept"))
    read(store)

    def fail(path):
        raise PermissionError(13, "denied")

    monkeypatch.setattr("os.scandir", fail)
    for ask in (cache_of(store).list, cache_of(store).flush, lambda: cache_of(store).nbytes):
        with pytest.raises(AccessDeniedError, match="kept.*denied"):
            ask()
