"""A fifth of all requests goes wrong: what is read and written is right, or there is an error."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from tests.images import labels, noise
from tests.jobs.arrays import label
from tests.remote.faults import KINDS, FaultPlan
from tests.remote.samples import CHUNK, OFFSET
from tests.remote.serving import Reply
from xprecomputed import (
    PrecomputedError,
    ShardingSpec,
    StorageError,
    create_info,
    open_store,
    set_options,
    to_precomputed,
    trace,
    write_info,
)
from xprecomputed.storage import index_cache, objects

#: Stalls of 20 s are met after this many; long enough for a busy machine.
TIMEOUT_S = 1.0
STALLS = ("stall", "hang")
QUICK = [each for each in KINDS if each not in STALLS]
#: A chunk of the samples.
HOLE = ((9, 116, 19), (25, 132, 35))


@pytest.fixture
def impatient():
    with set_options(request_timeout_s=TIMEOUT_S, requests_in_flight=16, max_retries=8):
        yield


def server_of(place):
    return place.web or place.server


def asked(seen):
    """How often each object, or range of one, was asked for."""
    return Counter((each.method, each.target, each.range) for each in seen)


@pytest.mark.parametrize(
    ("kind", "sample"),
    [
        ("s3 anonymous", "sharded raw"),
        ("s3 signed", "cseg"),
        ("gcs anonymous", "sharded raw"),
        ("gcs signed", "cseg"),
        ("azure signed", "sharded raw"),
        ("web raw", "cseg"),
    ],
)
def test_reads_ride_out_all_kinds_at_once(place_of, samples, impatient, kind, sample):
    sample, place = samples(sample), place_of(kind)
    place.upload(sample.folder)
    server = server_of(place)
    store = place.open()
    with server.watching() as quiet:
        store.read(store.mips[0].bounds)
    faulty = FaultPlan(0.2, seed=sum(kind.encode()))
    with server.faulty(faulty) as plan, server.watching() as seen, trace() as traced:
        index_cache.clear()
        found = store.read(store.mips[0].bounds)
    np.testing.assert_array_equal(found, sample.array)
    assert sum(plan.counts.values()) > 2
    assert set(asked(seen)) <= set(asked(quiet))
    assert len(seen) == traced.requests + traced.retries
    # a busy machine may take longer for an answer than is waited for: then it is asked again
    assert traced.requests == len(asked(quiet))
    assert 0 <= traced.retries - sum(plan.counts.values()) <= len(quiet)


@pytest.mark.parametrize("kind", QUICK)
def test_each_kind_alone(place_of, samples, impatient, kind):
    place, sample = place_of("gcs signed"), samples("cseg")
    place.upload(sample.folder)
    plan = FaultPlan(0.2, [kind], seed=4)
    with set_options(request_timeout_s=30), place.server.faulty(plan), trace() as traced:
        store = place.open()
        np.testing.assert_array_equal(store.read(store.mips[0].bounds), sample.array)
    assert traced.retries == plan.counts[kind] > 0


def test_stalls(place_of, samples, impatient):
    """Before an answer and in its middle; none is waited for."""
    place, sample = place_of("web raw"), samples("raw")
    place.upload(sample.folder)
    store = place.open()
    with place.web.faulty(FaultPlan(0.2, STALLS, seed=1, stall_s=20)) as plan, trace() as traced:
        np.testing.assert_array_equal(store.read(store.mips[0].bounds), sample.array)
    assert 0 <= traced.retries - sum(plan.counts.values()) <= traced.requests
    assert set(plan.counts) == set(STALLS)
    assert plan.outlasted == 0


@pytest.mark.parametrize("kind", ["503", "429", "reset", "truncate", "stall"])
def test_what_fails_for_ever_is_an_error_after_as_many_requests_as_promised(
    place_of, samples, kind
):
    place, sample = place_of("web raw"), samples("raw")
    place.upload(sample.folder)
    store = place.open()
    plan = FaultPlan(1.0, [kind], only=lambda path, _: path.endswith("9-25_116-132_19-35"))
    with set_options(max_retries=2, request_timeout_s=0.3), place.web.faulty(plan):
        with pytest.raises(StorageError, match="9-25_116-132_19-35") as error:
            store.read(HOLE)
        with pytest.raises(StorageError):
            store.read(HOLE, fill_missing="denied")  # a failure is no hole
    assert plan.counts[kind] == 6
    assert type(error.value) is StorageError or isinstance(error.value, PrecomputedError)


@pytest.mark.parametrize("status", [400, 403, 404, 410, 451])
def test_other_answers_are_not_asked_for_again(place_of, samples, status):
    place = place_of("web raw")
    place.upload(samples("raw").folder)
    store = place.open()
    with (
        place.web.guarded(lambda _: Reply.error(status)),
        place.web.watching() as seen,
        pytest.raises(PrecomputedError),
    ):
        store.read(HOLE)
    assert len(seen) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_these_are(place_of, samples, status):
    sample, place = samples("raw"), place_of("web raw")
    place.upload(sample.folder)
    store, failures = place.open(), [1, 1]
    place.web.guard = lambda _: Reply.error(status) if failures and failures.pop() else None
    found = store.read(HOLE)
    np.testing.assert_array_equal(found, sample.array[:, 16:32, 16:32, 16:32])


# ---- writing


@pytest.mark.parametrize("kind", ["s3 signed", "gcs signed", "azure signed"])
def test_stalled_writes(place_of, kind):
    """A write may take ten times as long as an answer to a question."""
    place, array = place_of(kind), labels((16, 16, 64))
    plan = FaultPlan(1.0, ["stall"], methods=["PUT"], times=1, stall_s=20)
    with set_options(request_timeout_s=0.2), place.server.faulty(plan):
        write = {"storage_options": place.options, "chunk_size": CHUNK}
        to_precomputed(label(array, (4, 4, 40)), place.url, **write)
    assert plan.counts["stall"] >= 4 + 2  # chunks, info and provenance, each once
    assert plan.outlasted == 0
    with set_options(request_timeout_s=60):
        store = place.open()
        np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], array)


#: Eight shards of four chunks.
SPEC = ShardingSpec(preshift_bits=2, hash="identity", minishard_bits=0, shard_bits=3)


@pytest.mark.parametrize("sharding", [None, SPEC], ids=["unsharded", "sharded"])
@pytest.mark.parametrize("kind", ["s3 signed", "gcs signed", "azure signed"])
def test_what_is_written_is_right(place_of, impatient, kind, sharding):
    """Also where the answer to a write is lost, so that nobody knows of it."""
    place, array = place_of(kind), labels((33, 38, 45))
    plan = FaultPlan(0.2, QUICK, seed=len(kind))
    with place.server.faulty(plan), place.server.watching() as seen:
        to_precomputed(
            label(array, (4, 4, 40), OFFSET).chunk(x=32, y=32, z=32),
            place.url,
            chunk_size=CHUNK,
            sharding=sharding,
            downsample=1,
            storage_options=place.options,
        )
    assert sum(plan.counts.values()) > 2
    assert max(asked(seen).values()) <= 9 * 2  # a mip is read after it was written
    store = place.open()
    np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], array)
    assert store.has_data().values.all()
    assert not [name for name in place.names() if "/." in name]


@pytest.mark.parametrize("kind", ["s3 signed", "gcs signed", "azure signed"])
def test_shards_in_parts(place_of, impatient, monkeypatch, kind):
    """A shard that is sent in several requests, some of which fail."""
    monkeypatch.setattr(objects, "PART_BYTES", 5 << 20)  # the least that S3 takes
    place, array = place_of(kind), noise((128, 256, 400), "u1")
    plan = FaultPlan(0.2, ["503", "reset", "truncate"], seed=3, methods=["PUT", "POST"])
    with place.server.faulty(plan), place.server.watching() as seen:
        to_precomputed(
            label(array, (4, 4, 40)),
            place.url,
            encoding="raw",
            chunk_size=(64, 64, 64),
            sharding="auto",
            storage_options=place.options,
            provenance=False,
        )
    assert (
        len([each for each in seen if "part" in each.target.lower() or "block" in each.target]) > 2
    )
    shards = [name for name in place.names() if name.endswith(".shard")]
    assert len(shards) == 1
    assert place.get(shards[0])[1].get("content-encoding") in (None, "")
    store = place.open()
    np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], array)


@pytest.mark.parametrize("kind", ["s3 signed", "gcs signed", "azure signed"])
def test_a_lost_answer_to_the_end_of_an_upload(place_of, impatient, monkeypatch, kind):
    """It is asked for again, and the server knows of no such upload any more: it is done."""
    monkeypatch.setattr(objects, "PART_BYTES", 5 << 20)
    place, array = place_of(kind), noise((128, 256, 200), "u1")
    lost = FaultPlan(
        1.0, ["lost"], times=1, methods=["PUT", "POST"],
        only=lambda _, query: query in ("uploadId", "comp=blocklist"),
    )  # fmt: skip
    with place.server.faulty(lost):
        to_precomputed(
            label(array, (4, 4, 40)), place.url, encoding="raw", chunk_size=(64, 64, 64),
            sharding="auto", storage_options=place.options,
        )  # fmt: skip
    assert lost.counts == {"lost": 1}
    store = place.open()
    np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], array)


def test_an_upload_that_fails_leaves_what_was_there(place_of, monkeypatch):
    monkeypatch.setattr(objects, "PART_BYTES", 1 << 20)
    place = place_of("gcs signed")
    first, second = (label(noise((64, 64, 1024), "u1", seed), (4, 4, 40)) for seed in (1, 2))
    write = {"encoding": "raw", "sharding": "auto", "storage_options": place.options}
    to_precomputed(first, place.url, **write)
    failing = FaultPlan(
        1.0, ["503"], only=lambda path, _: path.endswith(".shard"), methods=["PUT", "POST"]
    )
    with place.server.faulty(failing), set_options(max_retries=1), pytest.raises(StorageError):
        to_precomputed(second, place.url, mode="r+", storage_options=place.options)
    store = place.open()
    np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], first)


@pytest.mark.parametrize(
    ("kind", "sharding"),
    [("s3 signed", None), ("gcs signed", "auto"), ("azure signed", None), ("azure signed", "auto")],
)
def test_writers_that_share_objects(place_of, impatient, kind, sharding):
    """Borders cut through chunks; requests fail; nobody's voxels are lost."""
    place = place_of(kind)
    info = create_info(
        size=(36, 24, 24), resolution=(8, 8, 8), data_type="uint64", chunk_size=(8, 8, 8),
        sharding=sharding,
    )  # fmt: skip
    write_info(place.url, info, storage_options=place.options)
    starts = [0, 9, 18, 27, 36]

    def write(span):
        start, stop = span
        part = label(np.full((24, 24, stop - start), 1 + start, "u8"), (8, 8, 8), (start, 0, 0))
        to_precomputed(
            part, place.url, region="auto", safe_chunks=False, provenance=False,
            storage_options=place.options, progress=False,
        )  # fmt: skip

    spans = list(pairwise(starts))
    with place.server.faulty(FaultPlan(0.1, QUICK, seed=2)), ThreadPoolExecutor(4) as pool:
        list(pool.map(write, spans))
    store = place.open()
    found = store.read(store.mips[0].bounds)[0]
    for start, stop in spans:
        assert (found[:, :, start:stop] == 1 + start).all()


@pytest.mark.parametrize("name", ["info", "provenance"])
def test_a_lost_answer_to_a_condition(place_of, impatient, name):
    """The write is repeated, and refused because it was done: by ourselves, and it is right."""
    place, array = place_of("gcs signed"), noise((33, 38, 45), "u1")
    ours = FaultPlan(1.0, ["lost"], methods=["PUT"], only=lambda p, _: p.endswith(name), times=1)
    with place.server.faulty(ours):
        to_precomputed(label(array, (4, 4, 40)), place.url, storage_options=place.options)
    assert ours.counts == {"lost": 1}
    store = place.open()
    np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], array)
    assert len(store.provenance["processing"]) == 1


def test_replacing_a_volume(place_of, impatient):
    place, array = place_of("gcs signed"), noise((33, 38, 45), "u1")
    write = {"chunk_size": CHUNK, "storage_options": place.options}
    with place.server.faulty(FaultPlan(0.2, QUICK, seed=5)) as plan:
        to_precomputed(label(array, (4, 4, 40)), place.url, **write)
        to_precomputed(label(array[:16, :16, :16], (8, 8, 40)), place.url, mode="w", **write)
    assert plan.counts
    assert [name for name in place.names() if "/" in name] == ["8_8_40/0-16_0-16_0-16"]
    store = open_store(place.url, storage_options=place.options)
    np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], array[:16, :16, :16])
