"""What `ObjectStorage` makes of the answers of servers, one by one."""

import multiprocessing
import os
import pickle
import threading

import numpy as np
import pytest

import xprecomputed as xp
from tests.calls import calls_of
from tests.remote.serving import Reply
from tests.remote.web import WebServer
from xprecomputed import (
    AccessDeniedError,
    ConflictError,
    CorruptDataError,
    StorageError,
    set_options,
    trace,
)
from xprecomputed.storage import (
    Blob,
    Entry,
    ObjectStorage,
    Unchanged,
    locate_url,
    objects,
)
from xprecomputed.storage.clients import process as _clients
from xprecomputed.testing import write_volume

SIGNED = {"key": "fake-key", "secret": "fake-secret"}
#: Of Python or C, for an object that is got whole: 36 as this is written.
MOST_CALLS = 40


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    from xprecomputed.storage.clients import retries as _retries

    monkeypatch.setattr(_retries, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(_retries, "LONGEST_PAUSE_S", 0.002)
    with set_options(request_timeout_s=5, max_retries=3):
        yield


@pytest.fixture
def place(s3, bucket):
    s3.make_bucket(bucket, public=True)
    return locate_url(f"s3+{s3.url}/{bucket}/v")


def get(place, name, **options):
    return place.storage.get(place.child(name).key, **options)


def get_range(place, name, start, stop):
    return place.storage.get_range(place.child(name).key, start, stop)


def put(place, name, data, **options):
    place.storage.put(place.child(name).key, data, **options)


# ---- answers


@pytest.mark.parametrize(
    ("status", "code", "error", "match", "requests"),
    [
        (500, "InternalError", StorageError, "v/a: HTTP 500 InternalError", 4),
        (503, "SlowDown", StorageError, "v/a: HTTP 503 SlowDown", 4),
        (429, "TooMany", StorageError, "v/a: HTTP 429 TooMany", 4),
        (408, "RequestTimeout", StorageError, "v/a: HTTP 408 RequestTimeout", 4),
        (400, "ExpiredToken", StorageError, "v/a: HTTP 400 ExpiredToken", 1),
        (404, "NoSuchBucket", StorageError, r"v/a: there is no such bucket \(HTTP 404", 1),
        (403, "AccessDenied", AccessDeniedError, "v/a: HTTP 403 AccessDenied, asked with", 1),
        (403, "InvalidAccessKeyId", AccessDeniedError, "HTTP 403 InvalidAccessKeyId", 1),
        (401, "Unauthorized", AccessDeniedError, "HTTP 401 Unauthorized", 1),
        (409, "Conflict", ConflictError, "somebody else has changed it meanwhile", 1),
        (301, "PermanentRedirect", StorageError, r'another region.*"region": "..."', 1),
    ],
)
def test_each_status(s3, place, status, code, error, match, requests):
    with (
        s3.guarded(lambda request: Reply.error(status, code)),
        s3.watching() as seen,
        trace() as t,
        pytest.raises(error, match=match),
    ):
        get(place, "a")
    assert len(seen) == requests
    assert t.retries == requests - 1


def test_a_plain_403_alone_may_be_a_hole(s3, place):
    for status, code, may_be in [
        (403, "AccessDenied", True), (403, "SignatureDoesNotMatch", False), (401, "No", False),
    ]:  # fmt: skip
        with (
            s3.guarded(lambda request: Reply.error(status, code)),  # noqa: B023
            pytest.raises(AccessDeniedError) as caught,
        ):
            get(place, "a")
        assert caught.value.may_be_absent is may_be
        assert pickle.loads(pickle.dumps(caught.value)).may_be_absent is may_be


@pytest.mark.parametrize("body", ["Signature=hunter2", "<Code>hunter2 hunter2</Code>"])
def test_what_a_server_says_is_not_repeated(s3, place, body):
    reply = Reply(500, f"<Error>{body}</Error>".encode())
    with s3.guarded(lambda request: reply), pytest.raises(StorageError) as caught:
        get(place, "a")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_missing_is_none_and_one_request(s3, place):
    with s3.watching() as seen:
        assert get(place, "a") is None
        assert get_range(place, "a", 0, 5) is None
    assert [each.method for each in seen] == ["GET", "GET"]
    assert place.storage.size(place.child("a").key) is None
    assert not place.storage.delete(place.child("a").key)


def test_a_short_body_is_asked_for_again_and_never_believed(s3, place):
    put(place, "a", bytes(1000))
    from tests.remote.faults import FaultPlan

    with s3.faulty(FaultPlan(1, ["truncate"], times=1)), trace() as t:
        assert get(place, "a") == Blob(bytes(1000))
    assert t.retries == 1
    with (
        s3.faulty(FaultPlan(1, ["truncate"])),
        pytest.raises(StorageError, match="v/a: the connection broke"),
    ):
        get(place, "a")


def test_a_stall_ends(s3, place):
    put(place, "a", b"1")
    from tests.remote.faults import FaultPlan

    with (
        set_options(request_timeout_s=0.3, max_retries=1),
        s3.faulty(FaultPlan(1, ["stall"], stall_s=20)) as plan,
        pytest.raises(StorageError, match="v/a: no answer in time"),
    ):
        get(place, "a")
    assert plan.counts["stall"] == 2


def test_mistakes_of_ours_are_no_answers(place, monkeypatch):
    monkeypatch.setattr(objects.exchange, "version", lambda meta: 1 / 0)
    put(place, "a", b"1")
    with pytest.raises(ZeroDivisionError):
        get(place, "a")


# ---- ranges and what lies around an object


def test_ranges(place):
    put(place, "a", b"0123456789")
    assert get_range(place, "a", 2, 5) == Blob(b"234")
    assert get_range(place, "a", 8, 2**40) == Blob(b"89")
    whole = get(place, "a")
    for start, stop in [(10, 12), (2**40, 2**41), (3, 3)]:
        empty = get_range(place, "a", start, stop)
        assert empty == Blob(b"")
        assert empty.version == whole.version
    put(place, "a", b"9876543210")
    assert get_range(place, "a", 2, 5).version != whole.version


def test_too_large_an_object_is_not_read(place):
    put(place, "a", bytes(100))
    assert get(place, "a", max_bytes=100) == Blob(bytes(100))
    with pytest.raises(CorruptDataError, match="v/a: 100 bytes, at most 99 can be valid"):
        get(place, "a", max_bytes=99)


def test_compression_is_told_by_the_header(s3, bucket, place):
    import gzip

    packed = gzip.compress(b"voxels")
    put(place, "a", packed, encoding="gzip", cache_control="max-age=60")
    data, headers = s3.get(bucket, "v/a")
    assert (data, headers["content-encoding"]) == (
        packed,
        "gzip",
    )
    assert headers["cache-control"] == "max-age=60"
    assert get(place, "a") == Blob(packed, "gzip")
    with pytest.raises(CorruptDataError, match="whole object is compressed with gzip, so its"):
        get_range(place, "a", 0, 3)
    s3.put(bucket, "v/a", b"voxels", encoding="gzip")  # a proxy has undone it
    assert get(place, "a") == Blob(b"voxels")
    for header, meant in [("aws-chunked", None), ("x-gzip,aws-chunked", "gzip"), ("BR", "br")]:
        s3.put(bucket, "v/a", packed, encoding=header)
        assert get(place, "a") == Blob(packed, meant)
    s3.put(bucket, "v/a", packed, encoding="gzip, gzip")
    with pytest.raises(CorruptDataError, match="compressed twice, Content-Encoding is 'gzip, gzip"):
        get(place, "a")
    with pytest.raises(xp.UnsupportedEncodingError, match="compression 'lzma'"):
        put(place, "a", b"1", encoding="lzma")


def test_servers_that_ignore_range(s3, place):
    put(place, "a", bytes(100))
    with (
        s3.guarded(
            lambda request: Reply(
                200, bytes(100), {"ETag": '"1"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
            )
        ),
        pytest.raises(
            StorageError, match="v/a: the server ignores Range, so shards cannot be read"
        ),
    ):
        get_range(place, "a", 0, 10)


def test_a_range_other_than_asked_for(s3, place):
    put(place, "a", bytes(100))
    reply = Reply(
        206,
        bytes(10),
        {
            "Content-Range": "bytes 5-14/100",
            "ETag": '"1"',
            "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT",
        },
    )
    with s3.guarded(lambda request: reply), pytest.raises(StorageError, match="v/a: "):
        get_range(place, "a", 0, 10)


# ---- listings, deletes


def test_listing_and_deleting(place):
    for name in ("x/a", "x/bb", "x/.hidden", "x/y/c", "xx/d"):
        put(place, name, b"1" * len(name))
    storage = place.storage
    folder = place.child("x").key
    assert sorted(storage.list_dir(folder), key=lambda each: each.name) == [
        Entry("a", 3), Entry("bb", 4),
    ]  # fmt: skip
    assert list(storage.list_dir(place.child("nothing").key)) == []
    assert storage.size(place.child("x/bb").key) == 4
    with pytest.raises(StorageError, match="v/x/a: not a folder, so nothing is deleted"):
        storage.delete_tree(place.child("x/a").key)
    storage.delete_tree(folder)
    storage.delete_tree(folder)
    assert list(storage.list_dir(place.child("x/y").key)) == []
    assert get(place, "xx/d") == Blob(b"1111")
    assert storage.delete(place.child("xx/d").key)
    assert get(place, "xx/d") is None


# ---- writing


def test_an_object_in_parts(s3, bucket, place, monkeypatch):
    monkeypatch.setattr(objects, "PART_BYTES", 5 << 20)
    parts = [bytes([i]) * (1 << 20) for i in range(12)]
    key = place.child("big").key
    with trace() as t:
        place.storage.put_parts(key, iter(parts), cache_control="no-cache")
    assert (t.requests, t.bytes) == (2, 12 << 20)  # one to look what was there
    data, headers = s3.get(bucket, key)
    assert data == b"".join(parts)
    assert headers["cache-control"] == "no-cache"
    with s3.watching() as seen:
        place.storage.put_parts(place.child("small").key, iter([b"1", memoryview(b"2")]))
    assert [each.method for each in seen] == ["PUT"]
    assert get(place, "small") == Blob(b"12")


def test_parts_that_cannot_be_made_leave_the_object_as_it_was(s3, bucket, place, monkeypatch):
    monkeypatch.setattr(objects, "PART_BYTES", 5 << 20)
    key = place.child("big").key
    put(place, "big", b"before")

    def parts(error):
        for _ in range(7):
            yield bytes(1 << 20)
        raise error

    for error in (KeyError("mine"), CorruptDataError("ours")):
        with pytest.raises(type(error)) as caught:
            place.storage.put_parts(key, parts(error))
        assert caught.value is error
        assert s3.get(bucket, key)[0] == b"before"


def test_a_part_that_cannot_be_sent(s3, place, monkeypatch):
    monkeypatch.setattr(objects, "PART_BYTES", 5 << 20)

    def refuse(request):
        return Reply.error(403, "AccessDenied") if "partNumber" in request.target else None

    with s3.guarded(refuse), pytest.raises(AccessDeniedError, match="v/big: HTTP 403"):
        place.storage.put_parts(place.child("big").key, (bytes(1 << 20) for _ in range(7)))
    assert get(place, "big") is None


def test_conditions(place):
    put(place, "a", b"1", only_if=Unchanged(None))
    with pytest.raises(ConflictError, match="v/a: somebody else has changed it meanwhile"):
        put(place, "a", b"2", only_if=Unchanged(None))
    version = get(place, "a").version
    put(place, "a", b"3", only_if=Unchanged(version))
    with pytest.raises(ConflictError, match="v/a: somebody else"):
        place.storage.put_parts(place.child("a").key, [b"4"], only_if=Unchanged(version))
    assert get(place, "a") == Blob(b"3")


def test_updates_lose_nothing(place):
    """Each of many writers adds one, at the same time."""
    storage, key = place.storage, place.child("count").key

    def add(only_if):
        found = storage.get(key)
        count = 0 if found is None else int(found.data)
        storage.put(key, str(count + 1).encode(), only_if=only_if)

    threads = [
        threading.Thread(target=lambda: [storage.update(key, add) for _ in range(3)])
        for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert storage.get(key) == Blob(b"12")


def test_an_update_that_never_wins(place, monkeypatch):
    monkeypatch.setattr(objects, "ATTEMPTS", 2)
    attempts = []

    def lose(only_if):
        attempts.append(only_if)
        raise ConflictError("lost")

    with pytest.raises(ConflictError, match="v/a: others were faster 2 times; write again"):
        place.storage.update(place.child("a").key, lose)
    assert attempts == [Unchanged(None)] * 2


@pytest.mark.parametrize("changed", ["Thu, 01 Jan 1970", "Wed, 21 Oct 2015"])
def test_without_etags_nobody_can_be_kept_apart(s3, place, changed):
    head = Reply(200, b"", {"Last-Modified": f"{changed} 00:00:00 GMT"}, length=3)
    with (
        s3.guarded(lambda request: head if request.method == "HEAD" else None),
        pytest.raises(StorageError, match="v/a: this server does not heed the conditions of puts"),
    ):
        place.storage.update(place.child("a").key, lambda only_if: None)


# ---- credentials


def test_keys_that_lie_around_do_not_make_public_data_private(s3, place, monkeypatch):
    put(place, "a", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "unknown")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")

    monkeypatch.setattr(_clients, "_process", _clients._Process())

    def refuse_strangers(request):
        signed = "Authorization" in request.headers
        return Reply.error(403, "InvalidAccessKeyId") if signed else None

    with s3.guarded(refuse_strangers), s3.watching() as seen:
        assert get(place, "a") == Blob(b"1")
        assert get(place, "b") is None
    assert len(seen) == 3  # the signed one once
    monkeypatch.setattr(objects, "_anonymous", set())
    with (
        s3.guarded(lambda request: Reply.error(403, "AccessDenied")),
        pytest.raises(AccessDeniedError, match="asked with credentials of: ") as caught,
    ):
        get(place, "a")
    assert "hunter2" not in str(caught.value)
    # what was passed is what is meant
    given = ObjectStorage(place.storage.address, SIGNED)
    with s3.guarded(refuse_strangers), pytest.raises(AccessDeniedError, match="storage_options"):
        given.get(place.child("a").key)


def test_what_is_pickled_and_shown(place):
    given = ObjectStorage(place.storage.address, {"key": "k", "secret": "hunter2"})
    assert "hunter2" not in repr(given)
    assert pickle.loads(pickle.dumps(given)) == given
    assert hash(given) == hash(pickle.loads(pickle.dumps(given)))
    assert "hunter2" not in repr(_clients._process.clients)


def test_clients_are_told_apart_by_what_they_ask_with():
    address = objects.Address("s3", "b", "", "http://127.0.0.1:9", "s3+http", "aws")

    def client(options):
        return _clients.client_for(address, options, trusted=True)

    anon = client({"anon": True})
    assert client({"anon": True}) is anon
    assert client({**SIGNED}) is client({**SIGNED}) is not anon
    assert client({**SIGNED, "secret": "another"}) is not client(SIGNED)
    nested = {"anon": True, "client_kwargs": {"region_name": "eu-west-1"}}
    before = client(nested)
    assert client({**nested}) is before
    nested["client_kwargs"]["region_name"] = "eu-west-2"
    assert client(nested) is not before  # also when it changes inside of the same mapping
    with set_options(request_timeout_s=7):
        assert client({"anon": True}) is not anon


def test_an_object_costs_few_calls_of_python(place, monkeypatch):
    """They hold the GIL, for which all others wait that have an answer."""
    monkeypatch.setattr(objects, "_anonymous", set())
    put(place, "a", b"1")
    storage, key = place.storage, place.child("a").key
    storage.get(key)  # imports, clients
    count = calls_of(lambda: [storage.get(key) for _ in range(10)])
    assert count < 10 * MOST_CALLS


# ---- the web


def test_one_bucket_has_one_identity():
    """Or a write through one address would destroy what is being read through the other."""
    same = [
        ["gs://bucket/a/b", "https://storage.googleapis.com/bucket/a/b/",
         "https://bucket.storage.googleapis.com/a/b"],
        ["s3://bucket/a/b", "https://bucket.s3.amazonaws.com/a/b",
         "https://bucket.s3.us-west-2.amazonaws.com/a/b", "https://s3.amazonaws.com/bucket/a/b",
         "s3+https://s3.eu-west-1.amazonaws.com/bucket/a/b"],
        ["https://example.org/a/b", "s3+https://example.org/a/b", "s3://https://example.org/a/b"],
        ["az+https://host/me/box/a", "https://host/me/box/a"],
    ]  # fmt: skip
    found = [{locate_url(url).identity for url in urls} for urls in same]
    assert [len(each) for each in found] == [1] * 4
    assert len(set.union(*found)) == 4


def test_answers_without_a_length(tmp_path):
    """Through fsspec, with the same query and the same login."""
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a b").write_bytes(b"0123456789")

    def refuse_strangers(request):
        known = request.query.get("token"), request.headers.get("Authorization")
        return None if known == ("hunter2", "Bearer secret") else Reply.error(403, "Who")

    with WebServer(tmp_path) as server, server.guarded(refuse_strangers):
        server.chunked = True
        location = locate_url(f"{server.url}/v?token=hunter2", {"token": "secret"})
        assert get(location, "a b") == Blob(b"0123456789")
        assert get(location, "nothing") is None
        with pytest.raises(CorruptDataError, match="v/a b: 10 bytes, at most 9 can be valid"):
            get(location, "a b", max_bytes=9)


def test_the_web_is_read_only(tmp_path):
    with WebServer(tmp_path) as server:
        location = locate_url(f"{server.url}/v")
        for write in (
            lambda: put(location, "a", b"1"),
            lambda: location.storage.put_parts("a", [b"1"]),
            lambda: location.storage.delete("a"),
            lambda: location.storage.delete_tree("a"),
            lambda: location.storage.update("a", lambda only_if: None),
        ):
            with pytest.raises(StorageError, match="the web is read-only"):
                write()
        with pytest.raises(StorageError, match="v: the web is read-only and has no listings"):
            list(location.storage.list_dir("v"))


# ---- shards of two versions


SHARDING = {
    "@type": "neuroglancer_uint64_sharded_v1", "hash": "identity", "preshift_bits": 0,
    "minishard_bits": 1, "shard_bits": 0, "minishard_index_encoding": "raw",
    "data_encoding": "raw",
}  # fmt: skip


def test_a_shard_that_others_replace_between_two_reads(s3, bucket, tmp_path):
    """The remembered index belongs to the old file; the bytes would be of the new one."""
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 255, (16, 32, 32), np.uint8), None]
    arrays[1] = np.where(arrays[0] > 100, arrays[0], 0).astype("u1")
    s3.make_bucket(bucket, public=True)
    for number, array in enumerate(arrays):
        path = tmp_path / str(number)
        write_volume(str(path), [array], chunk_size=(16, 16, 16), sharding=SHARDING, encoding="png")
        for file in path.rglob("*"):
            if file.is_file() and (number == 0 or file.suffix == ".shard"):
                name = f"v/{file.relative_to(path)}"
                s3.put(bucket, name if number == 0 else "other", file.read_bytes())
    store = xp.open_store(f"s3+{s3.url}/{bucket}/v")
    box = store.info.scales[0].bounds
    np.testing.assert_array_equal(store.read(box)[0], arrays[0])
    shard = next(each for each in s3.names(bucket, "v/") if each.endswith(".shard"))
    s3.put(bucket, shard, s3.get(bucket, "other")[0])
    np.testing.assert_array_equal(store.read(box)[0], arrays[1])


# ---- forks


def _child(place, connection):
    try:
        connection.send(get(place, "a"))
    except BaseException as error:
        connection.send(error)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_at_once(place):
    put(place, "a", b"1")
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_child, args=(place, theirs))
    process.start()
    assert mine.poll(20)
    answer = mine.recv()
    process.join(20)
    assert isinstance(answer, StorageError)
    assert "forkserver" in str(answer)
    assert "would hang" in str(answer)
    assert get(place, "a") == Blob(b"1")
    assert process.exitcode == 0
