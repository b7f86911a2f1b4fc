"""Servers and uploads as they occur in the wild: right, or an error that says what is wrong."""

import gzip
import time

import numpy as np
import pytest

from tests.images import labels, noise
from tests.jobs.arrays import label
from tests.remote.faults import FaultPlan
from tests.remote.places import cv_write, ts_write
from tests.remote.samples import CHUNK, OFFSET, SHAPE, sharding
from tests.remote.serving import Reply, with_range
from tests.remote.web import WebServer
from xprecomputed import (
    AccessDeniedError,
    CorruptDataError,
    PrecomputedError,
    StorageError,
    open_store,
    set_options,
    to_precomputed,
)
from xprecomputed.storage import index_cache

CLOUDS = ["s3 signed", "gcs signed", "azure signed"]
EVERYWHERE = [*CLOUDS, "gcs anonymous", "web raw"]


def read(place, **options):
    store = place.open()
    return store.read(store.mips[0].bounds, **options)


# ---- uploads


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_a_compressed_info(place_of, samples, kind):
    sample, place = samples("cseg"), place_of(kind)
    place.upload(sample.folder)
    info = (sample.folder / "info").read_bytes()
    place.delete("info")
    place.put("info", gzip.compress(info), "gzip")
    np.testing.assert_array_equal(read(place), sample.array)


@pytest.mark.parametrize("compress", ["br", "zstd"])
@pytest.mark.parametrize("kind", ["s3 signed", "gcs signed"])
def test_other_compressions(place_of, tmp_path, kind, compress):
    place, array = place_of(kind), labels((1, *SHAPE))
    cv_write(f"file://{tmp_path}/v", array, "raw", offset=OFFSET, chunk=CHUNK, compress=compress)
    place.upload(tmp_path / "v")
    names = [name for name in place.names() if "/" in name]
    assert {place.get(name)[1]["content-encoding"] for name in names} == {compress}
    np.testing.assert_array_equal(read(place), array)


@pytest.mark.parametrize(
    "declared", ["aws-chunked", "gzip,aws-chunked", "identity", "GZIP", "x-gzip"]
)
def test_odd_declarations(place_of, samples, declared):
    sample, place = samples("raw"), place_of("gcs signed")
    place.upload(sample.folder)
    for name in place.names():
        data, headers = place.get(name)
        if "gzip" not in declared.lower() and headers.get("content-encoding"):
            data = gzip.decompress(data)
        if "/" in name:
            place.put(name, data, declared)
    np.testing.assert_array_equal(read(place), sample.array)


@pytest.mark.parametrize("kind", CLOUDS)
def test_compressed_shards_are_an_error(place_of, samples, kind):
    """An uploader compressed everything: ranges of it mean nothing."""
    place = place_of(kind)
    place.upload(samples("sharded raw").folder)
    for name in place.names():
        if name.endswith(".shard"):
            place.put(name, gzip.compress(place.get(name)[0]), "gzip")
    for fill in (False, True, "denied"):
        with pytest.raises(PrecomputedError, match="compressed"):
            read(place, fill_missing=fill)


@pytest.mark.parametrize("path", ["a b/lä yer", "a+b/c&d=e", "v%20x/100%", "x#y/[z]~'()"])
@pytest.mark.parametrize("kind", CLOUDS)
def test_odd_names(place_of, kind, path):
    place, array = place_of(kind), labels((16, 24, 24))
    place.url = place.url.replace(place.path, path)
    place.path = path
    write = {"storage_options": place.options, "chunk_size": CHUNK, "provenance": False}
    to_precomputed(label(array), place.url, downsample=1, **write)
    assert len(place.names()) == 1 + 4 + 1
    np.testing.assert_array_equal(read(place)[0], array)
    to_precomputed(label(array + 1), place.url, mode="w", **write)
    assert len(place.names()) == 1 + 4
    np.testing.assert_array_equal(read(place)[0], array + 1)


def test_odd_names_on_the_web(place_of, samples):
    sample, place = samples("cseg"), place_of("web raw")
    place.path = "a b/lä yer+1/100%"
    place.upload(sample.folder)
    root = place.url.partition("/some")[0]
    for spelled in ("a%20b/l%C3%A4%20yer+1/100%25", "a b/lä yer+1/100%"):
        store = open_store(f"{root}/{spelled}")
        np.testing.assert_array_equal(store.read(store.mips[0].bounds), sample.array)


@pytest.mark.parametrize("kind", CLOUDS)
def test_lists_of_many_pages(place_of, samples, kind):
    place, sample = place_of(kind), samples("cseg")
    place.upload(sample.folder)
    place.delete("4_4_40/9-25_116-132_19-35")
    place.server.page_size = 4
    try:
        found = place.open().has_data()
        assert int(found.sum()) == 26
        to_precomputed(
            label(sample.array[0, :16, :16, :16], (8, 8, 40)), place.url, mode="w",
            storage_options=place.options, chunk_size=CHUNK, provenance=False,
        )  # fmt: skip
    finally:
        place.server.page_size = 1000
    assert place.names() == ["8_8_40/0-16_0-16_0-16", "info"]


# ---- what changes meanwhile


@pytest.mark.parametrize("etag", [True, False])
@pytest.mark.parametrize("kind", EVERYWHERE)
def test_a_shard_that_is_replaced_after_its_index_was_read(place_of, tmp_path, kind, etag):
    """The new values, or an error; never a mixture and never what was there."""
    place = place_of(kind)
    if not etag:
        if place.web is None:
            pytest.skip("clouds have ETags")
        place.web.etag = False
    arrays = [labels((1, 32, 32, 32), seed=1), noise((1, 32, 32, 32), "u8", 2)]
    for number, array in enumerate(arrays):
        ts_write(
            {"driver": "file", "path": f"{tmp_path}/{number}/"}, array, "raw",
            offset=(0, 0, 0), chunk=CHUNK, sharding=sharding(0, 1, 0),
        )  # fmt: skip
    place.upload(tmp_path / "0")
    store = place.open()
    bounds = store.mips[0].bounds
    np.testing.assert_array_equal(store.read(bounds), arrays[0])
    place.upload(tmp_path / "1")
    try:
        found = store.read(bounds)
    except PrecomputedError:
        assert not etag
        index_cache.clear()
        found = store.read(bounds)
    np.testing.assert_array_equal(found, arrays[1])


# ---- answers that lie


def of_chunks(reply):
    """A guard that answers for chunks and shards only, where `reply` makes an answer."""
    return lambda request: None if request.path.endswith("info") else reply(request)


def lying(place, samples, name, reply):
    place.upload(samples(name).folder)
    place.web.guard = of_chunks(reply)


@pytest.mark.parametrize("fill", [False, True, "denied"])
@pytest.mark.parametrize("name", ["raw", "cseg", "jpeg", "sharded raw"])
def test_a_page_in_place_of_a_hole(place_of, samples, name, fill):
    """Servers of single pages answer everything with 200 and their start page."""
    place = place_of("web raw")
    lying(place, samples, name, lambda _: Reply(200, b"<html>Welcome</html>"))
    with pytest.raises((CorruptDataError, StorageError)):
        read(place, fill_missing=fill)


@pytest.mark.parametrize("fill", [False, True, "denied"])
@pytest.mark.parametrize(
    "lie",
    ["416 always", "another start", "too short", "too long", "empty", "206 without range", "204"],
)
def test_ranges_that_lie(place_of, samples, lie, fill):
    sample, place = samples("sharded raw"), place_of("web raw")

    def reply(request):
        path = place.web.root / request.path.lstrip("/")
        whole = Reply(200, path.read_bytes(), {"ETag": '"1"'})
        if request.method == "HEAD":
            return whole
        part = with_range(request, whole)
        shifted = dict(part.headers)
        if lie == "416 always":
            return Reply(416, b"", {"Content-Range": f"bytes */{len(whole.body)}"})
        if lie == "another start":
            span = f"bytes 1-{len(part.body)}/{len(whole.body)}"
            return Reply(
                206, whole.body[1 : 1 + len(part.body)], {**shifted, "Content-Range": span}
            )
        if lie == "too short":
            return Reply(206, part.body[:-3], shifted)
        if lie == "too long":
            return Reply(206, part.body + b"123", shifted)
        if lie == "empty":
            return Reply(206, b"", shifted)
        if lie == "206 without range":
            return Reply(206, part.body[3:], {"ETag": '"1"'})
        return Reply(204)

    lying(place, samples, "sharded raw", reply)
    assert not place.web.errors
    with set_options(max_retries=1):
        try:
            found = read(place, fill_missing=fill)
        except (StorageError, CorruptDataError):
            return
    np.testing.assert_array_equal(found, sample.array)


@pytest.mark.parametrize("fill", [False, True, "denied"])
@pytest.mark.parametrize("lie", ["too short", "empty", "204", "206"])
def test_objects_that_lie(place_of, samples, lie, fill):
    place = place_of("web raw")

    def reply(request):
        path = place.web.root / request.path.lstrip("/")
        data = path.with_name(path.name + ".gz").read_bytes()
        header = {"Content-Encoding": "gzip"}
        if lie == "too short":
            return Reply(200, data[:-9], header)
        if lie == "206":
            return Reply(206, data[:50], {**header, "Content-Range": f"bytes 0-49/{len(data)}"})
        return Reply(200, b"", header) if lie == "empty" else Reply(204)

    lying(place, samples, "raw", reply)
    with set_options(max_retries=1), pytest.raises((StorageError, CorruptDataError)):
        read(place, fill_missing=fill)


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "ExpiredToken"), (403, "SignatureDoesNotMatch"), (401, "AccessDenied")],
)
@pytest.mark.parametrize("name", ["raw", "sharded raw"])
def test_credentials_that_expire_make_no_holes(place_of, samples, name, status, code):
    place = place_of("s3 signed")
    place.upload(samples(name).folder)
    store = place.open()
    with place.server.guarded(lambda _: Reply.error(status, code)):
        for fill in (False, True, "denied"):
            with pytest.raises(AccessDeniedError):
                store.read(store.mips[0].bounds, fill_missing=fill)


def test_a_bucket_that_goes_away_makes_no_holes(place_of, samples):
    for kind in CLOUDS:
        place = place_of(kind)
        place.upload(samples("raw").folder)
        store = place.open()
        code = "ContainerNotFound" if kind.startswith("azure") else "NoSuchBucket"
        with (
            place.server.guarded(lambda _, code=code: Reply.error(404, code)),
            pytest.raises(StorageError, match="no such bucket"),
        ):
            store.read(store.mips[0].bounds, fill_missing=True)


# ---- answers of unknown length, and faults in them


def test_chunked_answers_that_break(place_of, samples):
    sample, place = samples("cseg"), place_of("web raw")
    place.upload(sample.folder)
    place.web.chunked = True
    plan = FaultPlan(0.2, ["503", "reset", "truncate"], seed=1)
    wrong = 0
    with place.web.faulty(plan):
        for _ in range(5):
            try:
                found = read(place)
            except PrecomputedError:
                wrong += 1
            else:
                np.testing.assert_array_equal(found, sample.array)
    assert sum(plan.counts.values()) > 10
    assert wrong == 0


# ---- other servers


def test_a_redirect_to_another_server_takes_no_credentials_along(place_of, samples, tmp_path):
    place = place_of("web raw")
    place.upload(samples("cseg").folder)
    with WebServer(place.server) as other:
        place.web.guard = lambda request: Reply(302, b"", {"Location": other.url + request.path})
        headers = {"Authorization": "Bearer t0psecret"}
        store = open_store(place.url, storage_options={"headers": headers})
        found = store.read(store.mips[0].bounds)
        np.testing.assert_array_equal(found, samples("cseg").array)
        assert "t0psecret" in str(place.web.log[-1].headers)
        assert not [each for each in other.log if "t0psecret" in str(each.headers)]


def test_nobody_there():
    begun = time.monotonic()
    with set_options(max_retries=2), pytest.raises(StorageError, match="no connection"):
        open_store("http://127.0.0.1:9/layer")
    with set_options(max_retries=2), pytest.raises(StorageError, match="no connection"):
        open_store("s3+http://127.0.0.1:9/bucket/layer", storage_options={"anon": True})
    assert time.monotonic() - begun < 10
