"""The fake servers are what clients that others wrote take them for."""

import gzip
import json
import os
import threading
import time
import urllib.error
import urllib.request
import warnings
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import pytest

from tests.remote import serving, web
from tests.remote.faults import KINDS, FaultPlan
from tests.remote.web import WebServer, has_nginx, nginx

obstore = pytest.importorskip("obstore")
stores = pytest.importorskip("obstore.store")
tensorstore = pytest.importorskip("tensorstore")

DENIED = (obstore.exceptions.PermissionDeniedError, obstore.exceptions.UnauthenticatedError)
HTTP = {"allow_http": True}
ONCE = {"max_retries": 0}
PLAIN = b"0123456789" * 20
PACKED = gzip.compress(PLAIN)


def s3_store(s3, bucket, **arguments):
    arguments = arguments or {"skip_signature": True}
    return stores.S3Store(
        bucket, endpoint=s3.url, region=s3.region, client_options=HTTP, **arguments
    )


def gcs_store(gcs, bucket, **arguments):
    key = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    arguments = arguments or {"service_account_key": json.dumps(key)}
    options = {**HTTP, "default_headers": {"Accept-Encoding": "gzip"}}
    return stores.GCSStore(bucket, base_url=gcs.url, client_options=options, **arguments)


def azure_store(azure, bucket, **arguments):
    arguments = arguments or {"skip_signature": True}
    return stores.AzureStore(
        bucket, account_name=azure.account, endpoint=azure.url, client_options=HTTP, **arguments
    )


# ---- the three clouds


@pytest.fixture(params=["s3", "gcs", "azure"])
def cloud(request, bucket):
    """A server, a bucket that anyone may use, and obstore's client of it."""
    server = request.getfixturevalue(request.param)
    server.make_bucket(bucket)
    make = {"s3": s3_store, "gcs": gcs_store, "azure": azure_store}[request.param]
    return server, bucket, make(server, bucket)


def test_objects_ranges_and_headers(cloud):
    server, bucket, store = cloud
    attributes = {"Content-Encoding": "gzip", "Cache-Control": "no-cache"}
    obstore.put(store, "a/x y", PACKED, attributes=attributes)
    data, headers = server.get(bucket, "a/x y")
    assert (data, headers["content-encoding"], headers["cache-control"]) == (
        PACKED,
        "gzip",
        "no-cache",
    )
    found = obstore.get(store, "a/x y")
    assert {**found.attributes, **attributes} == found.attributes
    assert bytes(found.bytes()) == PACKED
    obstore.put(store, "b", PLAIN)
    assert bytes(obstore.get_range(store, "b", start=2, end=5)) == b"234"
    assert bytes(obstore.get_range(store, "b", start=195, end=205)) == b"56789"
    with pytest.raises(obstore.exceptions.GenericError, match="416"):
        obstore.get_range(store, "b", start=200, end=205)
    with pytest.raises(FileNotFoundError):
        obstore.get(store, "c")
    assert server.get(bucket, "c") is None
    assert server.names(bucket) == ["a/x y", "b"]


def test_lists_pages_and_deletes(cloud):
    server, bucket, store = cloud
    server.page_size = 2
    for number in range(5):
        server.put(bucket, f"l/{number}/x", b"1")
    server.put(bucket, "m", b"1")
    assert obstore.list_with_delimiter(store, "l")["common_prefixes"] == [
        f"l/{i}" for i in range(5)
    ]
    assert len([each for page in obstore.list(store) for each in page]) == 6
    obstore.delete(store, "l/0/x")
    obstore.delete(store, ["l/1/x", "l/2/x"])
    assert server.names(bucket) == ["l/3/x", "l/4/x", "m"]
    server.page_size = 1000


def test_conditions_and_parts(cloud):
    server, bucket, store = cloud
    first = obstore.put(store, "a", b"1", mode="create")
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(store, "a", b"2", mode="create")
    version = {name: value for name, value in first.items() if value is not None}
    obstore.put(store, "a", b"2", mode=version)
    with pytest.raises(obstore.exceptions.PreconditionError):
        obstore.put(store, "a", b"3", mode=version)
    assert server.get(bucket, "a")[0] == b"2"
    encoding = {"Content-Encoding": "gzip"}
    big = os.urandom(11 << 20)
    obstore.put(store, "b", big, use_multipart=True, chunk_size=5 << 20, attributes=encoding)
    data, headers = server.get(bucket, "b")
    assert data == big
    assert headers["content-encoding"] == "gzip"


def test_who_may(s3, gcs, azure, bucket):
    key = json.dumps(gcs.service_account())
    signed = [
        (s3, s3_store, {"access_key_id": s3.key, "secret_access_key": s3.secret}),
        (gcs, gcs_store, {"service_account_key": key}),
        (gcs, gcs_store, {"bearer_token": gcs.issue_token()}),
        (azure, azure_store, {"account_key": azure.key}),
    ]
    for server, make, credentials in signed:
        server.make_bucket(bucket, public=False)
        obstore.put(make(server, bucket, **credentials), "a", b"1")
        with pytest.raises(DENIED):
            obstore.get(make(server, bucket, skip_signature=True), "a")
    with pytest.raises(DENIED):
        obstore.get(gcs_store(gcs, bucket, bearer_token="ya29.wrong"), "a")


def test_missing_keys_may_be_denied(cloud):
    server, _, store = cloud
    server.hides_missing = True
    try:
        with pytest.raises(DENIED):
            obstore.get(store, "a")
    finally:
        server.hides_missing = False


def test_guards(s3, bucket):
    s3.make_bucket(bucket)
    s3.put(bucket, "a", b"1")
    pays = serving.denying(unless=serving.with_header("x-amz-request-payer", "requester"))
    signed = {"access_key_id": s3.key, "secret_access_key": s3.secret}
    with s3.guarded(pays):
        with pytest.raises(DENIED):
            obstore.get(s3_store(s3, bucket, **signed), "a")
        store = s3_store(s3, bucket, request_payer=True, **signed)
        assert bytes(obstore.get(store, "a").bytes()) == b"1"
        assert s3.get(bucket, "a")[0] == b"1"  # by hand
    with s3.guarded(serving.denying(unless=serving.is_signed)), pytest.raises(DENIED):
        obstore.get(s3_store(s3, bucket), "a")


# ---- the clients of each cloud


def kvstore(**spec):
    return tensorstore.KvStore.open(spec).result()


def test_s3_with_tensorstore_and_s3fs(s3, bucket):
    s3fs = pytest.importorskip("s3fs")
    s3.make_bucket(bucket)
    kv = kvstore(
        driver="s3", bucket=bucket, endpoint=s3.url, aws_region=s3.region,
        aws_credentials={"type": "anonymous"},
    )  # fmt: skip
    kv.write("d/a", b"1").result()
    s3.put(bucket, "d/b", PACKED, "gzip")
    assert kv.read("d/b").result().value == PLAIN  # curl undoes it
    assert sorted(kv.list().result()) == [b"d/a", b"d/b"]
    fs = s3fs.S3FileSystem(endpoint_url=s3.url, anon=True, skip_instance_cache=True)
    assert fs.ls(f"{bucket}/d") == [f"{bucket}/d/a", f"{bucket}/d/b"]
    assert fs.cat_file(f"{bucket}/d/b") == PACKED


def test_gcs_with_tensorstore(gcs, bucket):
    gcs.make_bucket(bucket, public=False)
    kv = kvstore(driver="gcs", bucket=bucket)
    kv.write("d/a", b"1").result()
    kv.write("e", b"2").result()
    gcs.put(bucket, "d/b", PACKED, "gzip")
    assert kv.read("d/b").result().value == PLAIN
    assert kv.read("d/c").result().state == "missing"
    gcs.page_size = 2
    assert sorted(kv.list().result()) == [b"d/a", b"d/b", b"e"]
    gcs.page_size = 1000
    kv.delete_range(tensorstore.KvStore.KeyRange("d/", "d0")).result()
    assert gcs.names(bucket) == ["e"]


def test_gcs_with_gcsfs(gcs, bucket):
    gcsfs = pytest.importorskip("gcsfs")
    gcs.make_bucket(bucket, public=False)
    fs = gcsfs.GCSFileSystem(
        endpoint_url=gcs.url, token=gcs.service_account(), project="fake", skip_instance_cache=True
    )
    odd = b"\x00\r\n--12\n" * 3
    fs.pipe_file(f"{bucket}/a", odd)
    metadata = {"content_encoding": "gzip"}
    fs.pipe_file(f"{bucket}/b", PACKED, fixed_key_metadata=metadata)
    with fs.open(f"{bucket}/c/d", "wb") as file:
        file.write(PLAIN)
    assert gcs.get(bucket, "a")[0] == odd
    assert gcs.get(bucket, "b")[1]["content-encoding"] == "gzip"
    assert fs.cat_file(f"{bucket}/b") == PLAIN
    assert fs.cat_file(f"{bucket}/a", 2, 5) == odd[2:5]
    assert fs.ls(bucket) == [f"{bucket}/a", f"{bucket}/b", f"{bucket}/c"]
    assert fs.find(bucket) == [f"{bucket}/a", f"{bucket}/b", f"{bucket}/c/d"]


def test_gcs_with_the_libraries_of_google_and_cloud_files(gcs, bucket, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storage = pytest.importorskip("google.cloud.storage")
        cloudfiles = pytest.importorskip("cloudfiles")
        from google.auth.credentials import AnonymousCredentials

        gcs.make_bucket(bucket)
        client = storage.Client(
            "fake", AnonymousCredentials(), client_options={"api_endpoint": gcs.url}
        )
        blob = client.bucket(bucket).blob("a")
        blob.content_encoding, blob.cache_control = "gzip", "no-cache"
        blob.upload_from_string(PACKED)
        assert gcs.get(bucket, "a")[0] == PACKED
        assert blob.download_as_bytes() == PLAIN
        assert blob.download_as_bytes(raw_download=True) == PACKED
        with pytest.raises(Exception, match="412"):
            blob.upload_from_string(b"1", if_generation_match=0)
        assert [each.name for each in client.list_blobs(bucket)] == ["a"]
        client.close()
        files = cloudfiles.CloudFiles(f"gs://{bucket}/d")
        files.put("b", PLAIN, compress="gzip", cache_control="no-cache")
        assert gcs.get(bucket, "d/b")[1]["content-encoding"] == "gzip"
        assert files.get("b") == PLAIN
        assert files.get("c") is None
        assert list(files.list()) == ["b"]


def test_gcs_decompresses_for_those_who_do_not_ask_for_gzip(gcs, bucket):
    gcs.make_bucket(bucket)
    gcs.put(bucket, "a", PACKED, "gzip")
    for accept, data in (("gzip", PACKED), ("identity", PLAIN)):
        request = urllib.request.Request(
            f"{gcs.url}/{bucket}/a", headers={"Accept-Encoding": accept}
        )
        request.add_header("Range", "bytes=0-9")
        with urllib.request.urlopen(request) as reply:
            # what is decompressed comes whole, and without its length
            assert reply.read() == (data[:10] if accept == "gzip" else data)
            assert ("Content-Length" in reply.headers) == (accept == "gzip")


# ---- the web


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "plain").write_bytes(PLAIN)
    (root / "packed.gz").write_bytes(PACKED)
    return root


def fetch(url, **headers):
    """Status, body and headers."""
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.read(), reply.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def test_web_habits(folder):
    with WebServer(folder) as server:
        status, body, headers = fetch(f"{server.url}/plain", Range="bytes=3-5")
        assert (status, body, headers["Content-Range"]) == (206, b"345", "bytes 3-5/200")
        assert fetch(f"{server.url}/plain", Range="bytes=200-")[0] == 416
        for twins, wanted, declared in [
            ("raw", PACKED, "gzip"), ("undone", PLAIN, "gzip"), ("silent", PACKED, None), ("plain", PLAIN, None)
        ]:  # fmt: skip
            server.twins = twins
            status, body, headers = fetch(f"{server.url}/packed")
            assert (status, body, headers["Content-Encoding"]) == (200, wanted, declared)
        server.twins, server.missing = "none", 403
        assert fetch(f"{server.url}/packed")[0] == 403
        server.ranges = "ignored"
        assert fetch(f"{server.url}/plain", Range="bytes=3-5")[:2] == (200, PLAIN)
        server.ranges = "denied"
        assert fetch(f"{server.url}/plain", Range="bytes=3-5")[0] == 416
        server.redirects, server.etag, server.chunked = 2, False, True
        status, body, headers = fetch(f"{server.url}/plain")
        assert (status, body) == (200, PLAIN)
        assert headers["ETag"] is headers["Content-Length"] is None
        assert fetch(f"{server.url}/../../etc/passwd")[0] == 403
        with server.guarded(serving.denying(401, unless=serving.with_query("token", "t"))):
            assert fetch(f"{server.url}/plain")[0] == 401
        server.redirects = 0
        with server.guarded(serving.denying(401, unless=serving.bearer("t"))):
            assert fetch(f"{server.url}/plain", Authorization="Bearer t")[0] == 200


def test_web_with_obstore_and_tensorstore(folder):
    with WebServer(folder) as server:
        store = stores.HTTPStore(server.url, client_options=HTTP)
        found = obstore.get(store, "packed")
        assert found.attributes["Content-Encoding"] == "gzip"
        assert bytes(found.bytes()) == PACKED
        assert found.meta["e_tag"]
        assert bytes(obstore.get_range(store, "plain", start=1, end=3)) == b"12"
        kv = kvstore(driver="http", base_url=f"{server.url}/")
        assert kv.read("packed").result().value == PLAIN
        with server.watching() as seen:
            assert kv.read("plain").result().value == PLAIN
        assert [(each.method, each.path) for each in seen] == [("GET", "/plain")]


@pytest.mark.skipif(not has_nginx(), reason="nginx is not installed")
def test_nginx_habits(folder, tmp_path):
    assert set(web.HABITS) == {"twins", "no ranges", "403 for missing", "compresses"}
    with nginx(folder, tmp_path / "1", "twins", "403 for missing") as url:
        status, body, headers = fetch(f"{url}/packed")
        assert (status, body, headers["Content-Encoding"]) == (200, PACKED, "gzip")
        assert fetch(f"{url}/plain", Range="bytes=3-5")[:2] == (206, b"345")
        assert fetch(f"{url}/nothing")[0] == 403
    with nginx(folder, tmp_path / "2", "no ranges", "compresses") as url:
        assert fetch(f"{url}/plain", Range="bytes=3-5")[:2] == (200, PLAIN)
        status, body, _ = fetch(f"{url}/plain", **{"Accept-Encoding": "gzip"})
        assert gzip.decompress(body) == PLAIN
        assert fetch(f"{url}/nothing")[0] == 404


# ---- faults


def test_each_fault_is_what_it_says(folder):
    expected = {"503": urllib.error.HTTPError, "429": urllib.error.HTTPError}
    for kind in KINDS:
        with WebServer(folder) as server:
            with server.faulty(FaultPlan(1.0, [kind], stall_s=30)) as plan:
                begun = time.monotonic()
                with (
                    pytest.raises((OSError, HTTPException)) as raised,
                    urllib.request.urlopen(f"{server.url}/plain", timeout=0.3) as reply,
                ):
                    reply.read()
                assert isinstance(raised.value, expected.get(kind, Exception)), kind
                assert plan.counts == {kind: 1}
                if kind in ("stall", "hang"):
                    assert isinstance(raised.value, TimeoutError)
                    assert time.monotonic() - begun < 5
                if kind == "truncate":
                    assert type(raised.value).__name__ == "IncompleteRead"
                if hasattr(raised.value, "close"):
                    raised.value.close()
            assert fetch(f"{server.url}/plain")[1] == PLAIN
            assert len(server.log) == 2


def test_a_lost_answer_is_of_something_done(gcs, bucket):
    gcs.make_bucket(bucket)
    store = gcs_store(gcs, bucket)
    with gcs.faulty(FaultPlan(1.0, ["lost"], methods=["PUT"], times=1)) as plan:
        obstore.put(store, "a", b"1")
    assert plan.counts == {"lost": 1}
    assert [each.generation for each in gcs.objects.buckets[bucket].values()]
    assert gcs.get(bucket, "a")[0] == b"1"


def test_a_plan_is_the_same_in_any_order():
    paths = [f"/{number}" for number in range(2000)]
    one, two = FaultPlan(0.2, seed=1), FaultPlan(0.2, seed=1)
    first = {path: [one.draw("GET", path) for _ in range(3)] for path in paths}
    second = {path: [two.draw("GET", path) for _ in range(3)] for path in reversed(paths)}
    assert first == second
    assert 0.17 < sum(one.counts.values()) / 6000 < 0.23
    assert set(one.counts) == set(KINDS)
    other = FaultPlan(0.2, seed=2)
    assert [other.draw("GET", path) for path in paths] != [drawn[0] for drawn in first.values()]
    limited = FaultPlan(1.0, methods=["PUT"], only=lambda path, _: path == "/a", times=2)
    assert [limited.draw(*each) for each in (("GET", "/a"), ("PUT", "/b"))] == [None, None]
    assert [limited.draw("PUT", "/a") is None for _ in range(3)] == [False, False, True]


def test_retries_of_obstore_ride_out_faults(cloud):
    server, bucket, store = cloud
    names = [f"k/{number}" for number in range(10)]
    for name in names:
        server.put(bucket, name, name.encode())
    with server.faulty(FaultPlan(0.3, ["503"], seed=3)) as plan, server.watching() as seen:
        found = [bytes(obstore.get(store, name).bytes()).decode() for name in names]
    assert found == names
    assert len(seen) == 10 + sum(plan.counts.values())


def test_latency_holds_nobody_else_up(folder):
    with WebServer(folder) as server, server.faulty(FaultPlan(latency_s=0.2)):
        store = stores.HTTPStore(server.url, client_options=HTTP)
        together = threading.Barrier(16)

        def read(_):
            together.wait()
            return bytes(obstore.get(store, "plain").bytes())

        begun = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(read, range(16))) == {PLAIN}
        assert 0.2 < time.monotonic() - begun < 1.6  # 3.2 s, were they to queue


def test_one_plan_at_a_time(folder):
    with (
        WebServer(folder) as server,
        server.faulty(FaultPlan()),
        pytest.raises(AssertionError, match="fault plan already"),
        server.faulty(FaultPlan()),
    ):
        pass
