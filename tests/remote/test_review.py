"""What a review found that others, or the time, could do to reads and writes of clouds."""

import multiprocessing
import os
import signal
import threading

import dask
import numpy as np
import pytest

from tests.images import noise
from tests.jobs.arrays import label
from tests.remote.samples import sharding
from tests.remote.serving import Reply
from xprecomputed import (
    AccessDeniedError,
    ChunkMissingError,
    PrecomputedWarning,
    StorageError,
    open_store,
    set_options,
    to_precomputed,
)
from xprecomputed.jobs import graph
from xprecomputed.store.provenance import append_provenance, provenance_step

CHUNK = (16, 16, 16)
SHAPE = (32, 32, 64)
#: All chunks in one file.
ONE = sharding(0, 1, 0, "raw")
NOISE = noise(SHAPE, "u1")
FIRST = ((0, 0, 0), (1, 1, 1))
#: A voxel of the samples.
INSIDE = ((9, 116, 19), (10, 117, 20))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    from xprecomputed.storage.clients import retries

    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(retries, "LONGEST_PAUSE_S", 0.002)
    with set_options(request_timeout_s=20):
        yield


@pytest.fixture
def place(place_of):
    return place_of("s3 anonymous")


def write(place, array, **options):
    options = {"encoding": "raw", "compression": None, "chunk_size": CHUNK} | options
    return to_precomputed(label(array, (4, 4, 40)), place.url, **options)


def change(place, array, offset=(0, 0, 0)):
    """A part of the layer, x, y, z."""
    da = label(array, (4, 4, 40), offset)
    to_precomputed(da, place.url, region="auto", safe_chunks=False, provenance=False)


def is_shard(request):
    return request.path.endswith(".shard")


# ---- what is remembered


def test_a_shard_that_others_replaced_can_be_changed(place, place_of):
    """Its index was remembered, and is that of another file."""
    write(place, NOISE, sharding=ONE)
    store = place.open()
    store.read(store.mips[0].bounds)  # remembers
    name = next(each for each in place.names() if each.endswith(".shard"))
    others = noise(SHAPE, "u1", 7)
    others[:16, :16, :16] = 0
    elsewhere = f"memory://review/{place.bucket}"
    layer = to_precomputed(
        label(others, (4, 4, 40)),
        elsewhere,
        encoding="raw",
        chunk_size=CHUNK,
        sharding=ONE,
        write_empty_chunks=False,
    ).location
    store.read(store.mips[0].bounds)  # writing has made it forget
    place.put(name, layer.storage.get(layer.child(name).key).data)
    change(place, np.full((16, 16, 16), 9, "u1"), (16, 0, 0))
    others[:16, :16, 16:32] = 9
    np.testing.assert_array_equal(store.read(store.mips[0].bounds, fill_missing=True)[0], others)


def test_what_others_deleted_from_a_shard_does_not_exist(place):
    write(place, NOISE, sharding=ONE)
    name = next(each for each in place.names() if each.endswith(".shard"))
    place.open().delete(0, ((16, 0, 0), (32, 16, 16)))
    others = place.get(name)[0]
    write(place, NOISE, sharding=ONE, mode="w")
    ours, store = place.get(name)[0], place.open()

    def others_delete():
        place.put(name, ours)
        store.read(store.mips[0].bounds)  # remembers
        place.put(name, others)

    others_delete()
    assert store.exists(box=((0, 0, 0), (48, 16, 16))).values.ravel().tolist() == [1, 0, 1]
    others_delete()
    assert store.delete(0, ((0, 0, 0), (32, 16, 16))) == 1
    assert store.exists().values.sum() == 14


@pytest.mark.parametrize("spec", [None, ONE], ids=["unsharded", "sharded"])
def test_what_other_processes_wrote_for_us_is_seen(place, tmp_path, spec):
    """dask's workers know nothing of the caches here."""
    write(place, np.full(SHAPE, 1, "u1"), sharding=spec)
    da = label(np.full(SHAPE, 2, "u1"), (4, 4, 40)).chunk(x=32, y=32, z=32)
    with set_options(memory_cache_bytes=1 << 20):
        for folder in (None, tmp_path / "cache"):
            assert open_store(place.url, cache_dir=folder).read(FIRST).item() == 1
        with dask.config.set(scheduler="processes", num_workers=1):
            to_precomputed(da, place.url, region="auto", provenance=False)
        with place.server.watching() as seen:
            assert open_store(place.url, cache_dir=tmp_path / "cache").read(FIRST).item() == 2
        assert place.open().read(FIRST).item() == 2
    assert sum(is_shard(each) for each in seen) in (0, 3)  # two indexes and the value


def test_a_write_that_fails_elsewhere_is_forgotten_too(place, tmp_path, monkeypatch):
    store = open_store(write(place, np.full(SHAPE, 1, "u1")).url, cache_dir=tmp_path / "cache")
    assert store.read(FIRST).item() == 1

    def run_elsewhere(work, progress):
        other = np.full(SHAPE, 2, "u1")[:16, :16, :16].tobytes()
        place.put("4_4_40/0-16_0-16_0-16", other)
        raise RuntimeError("a worker died")

    monkeypatch.setattr(graph, "run", run_elsewhere)
    with pytest.raises(RuntimeError, match="a worker died"):
        change(place, np.full(SHAPE, 2, "u1"))
    assert store.read(FIRST).item() == 2


# ---- what is kept of a shard


def test_what_is_kept_of_a_shard_is_read_with_one_request(place):
    write(place, NOISE, sharding=ONE)
    with place.server.watching() as seen:
        change(place, np.full((16, 16, 16), 9, "u1"), (16, 16, 16))
    gets = [each.range for each in seen if is_shard(each) and each.method == "GET"]
    assert len(gets) == 3  # its index, those of both minishards, and fifteen chunks
    store = place.open()
    wanted = NOISE.copy()
    wanted[16:, 16:, 16:32] = 9
    np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], wanted)


def test_more_than_one_request_brings_is_read_at_once(place):
    """In pieces that fit into memory, several at a time, in any order."""
    write(place, NOISE, sharding=ONE)
    came, another_came = [], threading.Event()

    def wait_for_another(request):
        first, _, last = request.range.removeprefix("bytes=").partition("-")
        if is_shard(request) and request.method == "GET" and int(last) - int(first) >= 4095:
            came.append(int(last) - int(first) + 1)
            if len(came) > 1:
                another_came.set()
            assert another_came.wait(15)

    with set_options(coalesce_max_bytes=2 * 4096), place.server.guarded(wait_for_another):
        change(place, np.full((16, 16, 16), 9, "u1"), (16, 16, 16))
    assert sum(came) == 15 * 4096
    assert max(came) == 2 * 4096
    store = place.open()
    wanted = NOISE.copy()
    wanted[16:, 16:, 16:32] = 9
    np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], wanted)


def test_a_shard_that_changes_while_it_is_kept_is_begun_again(place):
    write(place, NOISE, sharding=ONE)
    name = next(each for each in place.names() if each.endswith(".shard"))
    other = noise(SHAPE, "u1", 7)
    before = place.get(name)[0]
    write(place, other, sharding=ONE, mode="w")
    after = place.get(name)[0]
    place.put(name, before)
    replaced = []

    def replace(request):
        long = is_shard(request) and request.method == "GET" and request.range
        first, _, last = request.range.removeprefix("bytes=").partition("-")
        if long and int(last) - int(first) > 4096 and not replaced:
            replaced.append(1)
            place.put(name, after)

    with place.server.guarded(replace):
        change(place, np.full((16, 16, 16), 9, "u1"))
    assert replaced
    store = place.open()
    other[:16, :16, :16] = 9
    np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], other)


# ---- giving up


def test_an_interrupt_ends_all_retries(place):
    write(place, noise((64, 64, 64), "u1"))
    store = place.open()
    came = []

    def fail(request):
        came.append(request.path)
        if len(came) == 20:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return Reply.error(503, "SlowDown")

    with set_options(max_retries=200, requests_in_flight=8), place.server.guarded(fail):
        with pytest.raises(KeyboardInterrupt):
            store.read(store.mips[0].bounds)
        returned = len(came)
    assert returned < 200  # each of 64 chunks would be asked for 201 times
    assert len(came) == returned


def test_the_first_error_ends_all_retries(place):
    write(place, noise((64, 64, 64), "u1"))
    store = place.open()
    place.delete("4_4_40/16-32_0-16_0-16")
    came = []

    def fail(request):
        came.append(request.path)
        if request.path.endswith("/16-32_0-16_0-16"):
            while len(came) < 20:  # the others are at it
                threading.Event().wait(0.001)
            return None
        return Reply.error(503, "SlowDown")

    with (
        set_options(max_retries=200, requests_in_flight=8),
        place.server.guarded(fail),
        pytest.raises(ChunkMissingError, match="16-32_0-16_0-16"),
    ):
        store.read(store.mips[0].bounds)
    assert len(came) < 200


def test_the_first_error_ends_the_retries_of_a_write(place):
    """Of other blocks as well, which dask's threads go on with."""
    write(place, np.zeros((16, 16, 64), "u1"))
    came = []

    def fail(request):
        if request.method != "PUT":
            return None
        came.append(request.path)
        if request.path.endswith("/0-16_0-16_0-16"):
            while len(came) < 20:
                threading.Event().wait(0.001)
            return Reply.error(400, "BadRequest")
        return Reply.error(503, "SlowDown")

    da = label(np.ones((16, 16, 64), "u1"), (4, 4, 40)).chunk(x=16)
    with (
        set_options(max_retries=500),
        dask.config.set(scheduler="threads", num_workers=4),
        place.server.guarded(fail),
        pytest.raises(StorageError, match="0-16_0-16_0-16"),
    ):
        to_precomputed(da, place.url, region="auto", provenance=False)
    returned = len(came)
    assert returned < 200
    threading.Event().wait(0.05)
    assert len(came) == returned


# ---- the end of a write


def denies_listings(request):
    listing = request.method == "GET" and request.path.count("/") < 3
    return Reply.error(403, "AccessDenied") if listing else None


def test_whoever_may_not_list_writes_shards(place):
    write(place, np.zeros(SHAPE, "u1"), sharding=ONE)
    with place.server.guarded(denies_listings), place.server.watching() as seen:
        change(place, NOISE)
    assert not [each for each in seen if ".parts-" in each.target]
    store = place.open()
    np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], NOISE)


def test_pieces_that_may_be_left_are_told_of(place):
    """The data are complete, so that is no error."""
    write(place, np.zeros(SHAPE, "u1"), sharding=ONE)
    with (
        set_options(write_budget_bytes=0),
        place.server.guarded(denies_listings),
        pytest.warns(PrecomputedWarning, match=r"pieces of shards may be left.*\.parts-.*403"),
    ):
        change(place, NOISE)
    store = place.open()
    np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], NOISE)


def test_cleaning_up_does_not_hide_what_went_wrong(place):
    write(place, np.zeros(SHAPE, "u1"), sharding=ONE)

    def fail(request):
        if request.method == "PUT" and is_shard(request):
            return Reply.error(400, "BadRequest")
        return denies_listings(request)

    with (
        set_options(write_budget_bytes=0),
        place.server.guarded(fail),
        pytest.raises(StorageError, match=r"\.shard: HTTP 400") as raised,
    ):
        change(place, NOISE)
    assert "pieces of shards may be left" in raised.value.__notes__[0]
    assert [each for each in place.names() if ".parts-" in each]  # as it says


@pytest.mark.parametrize("kind", ["s3 signed", "gcs signed", "azure signed"])
def test_steps_of_several_writers_are_all_kept(place_of, kind):
    place = place_of(kind)
    options = {"storage_options": place.options}
    store = write(place, NOISE[:16, :16, :16], provenance="first", **options)
    raced = []

    def race(request):
        if request.method == "PUT" and request.path.endswith("/provenance") and not raced:
            raced.append(1)
            append_provenance(store.location, provenance_step(None, {"task": "theirs"}))

    with place.server.guarded(race):
        append_provenance(store.location, provenance_step(None, {"task": "ours"}))
    steps = [each["method"]["task"] for each in place.open().provenance["processing"]]
    assert sorted(steps[1:]) == ["ours", "theirs"]


@pytest.mark.parametrize("kind", ["s3 signed", "gcs signed", "azure signed"])
def test_info_and_provenance_are_cached_as_chunks_are(place_of, kind):
    place = place_of(kind)
    options = {"storage_options": place.options}
    write(place, NOISE[:16, :16, :16], cache_control="no-store", **options)
    assert {place.get(name)[1].get("cache-control") for name in place.names()} == {"no-store"}
    assert {"info", "provenance"} < set(place.names())


# ---- what is there


@pytest.mark.parametrize("kind", ["s3 anonymous", "gcs signed"])
@pytest.mark.parametrize("spec", [None, sharding(0, 0, 4, "raw")], ids=["unsharded", "sharded"])
def test_a_denied_hole_neither_exists_nor_not(place_of, kind, spec):
    place = place_of(kind)
    array = NOISE.copy()
    array[:16, :16, :16] = 0
    options = {"storage_options": place.options, "write_empty_chunks": False}
    store = write(place, array, sharding=spec, **options)
    assert store.exists(box=((0, 0, 0), (32, 16, 16))).values.ravel().tolist() == [False, True]
    place.server.hides_missing = True
    try:
        assert store.exists(box=((16, 0, 0), (64, 16, 16))).values.all()
        with pytest.raises(AccessDeniedError, match=r"403.*cannot be told.*may list") as raised:
            store.exists()
    finally:
        place.server.hides_missing = False
    assert raised.value.may_be_absent
    assert "fill_missing" not in str(raised.value)


def test_a_refusal_is_not_said_to_be_a_hole(place):
    store = write(place, NOISE)
    with (
        place.server.guarded(lambda _: Reply.error(401, "InvalidToken")),
        pytest.raises(AccessDeniedError) as raised,
    ):
        store.exists()
    assert "cannot be told" not in str(raised.value)


def test_the_web_is_asked_chunk_by_chunk(place_of, tmp_path):
    place = place_of("web raw")
    to_precomputed(
        label(np.ones((8, 16, 132), "u1"), (4, 4, 40)),
        tmp_path / "layer",
        chunk_size=(4, 4, 4),
        encoding="raw",
    )
    place.upload(tmp_path / "layer")
    store = place.open()
    with pytest.raises(StorageError, match=r"no listings.*one by one.*256.*exists\(mip, box="):
        store.has_data()
    assert store.exists(0, ((0, 0, 0), (64, 16, 8))).values.all()


# ---- processes


def _read_in_child(store, answer):
    try:
        answer.send(store.read(INSIDE).item())
    except Exception as error:
        answer.send(f"{type(error).__name__}: {error}")
    os._exit(0)


def test_a_file_system_that_was_forked_says_so(place_of, samples):
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    place = place_of("web raw")
    place.upload(samples("raw").folder)
    store = open_store(place.url, storage_options={"fs": fsspec.filesystem("http")})
    store.read(INSIDE)
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_read_in_child, args=(store, there))
    child.start()
    assert here.poll(30)
    said = here.recv()
    child.join()
    assert said.startswith("StorageError")
    for cure in ("made before this process was forked", "spawn", "forkserver"):
        assert cure in said
