"""Ways in which a place far away could deceive; each was possible once."""

import importlib
import json
import pickle
import time
import zipfile

import fsspec
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize

import xprecomputed as xp
from tests.remote.serving import Reply
from tests.remote.web import WebServer
from xprecomputed import AccessDeniedError, InvalidURLError, StorageError, set_options
from xprecomputed.storage import Blob, cached, index_cache, locate_url, objects
from xprecomputed.storage.clients import process
from xprecomputed.storage.credentials.access import find_access, find_address
from xprecomputed.testing import write_volume

SHARDING = {
    "@type": "neuroglancer_uint64_sharded_v1", "hash": "identity", "preshift_bits": 0,
    "minishard_bits": 0, "shard_bits": 0, "minishard_index_encoding": "raw",
    "data_encoding": "raw",
}  # fmt: skip
ARRAY = np.arange(8 * 8 * 16, dtype="u1").reshape(8, 8, 16)


@pytest.fixture(autouse=True)
def fresh_clients(monkeypatch):
    monkeypatch.setattr(process, "_process", process._Process())
    monkeypatch.setattr(objects, "_anonymous", set())
    monkeypatch.setattr(objects, "_welcome", set())
    monkeypatch.setattr(objects, "_conditions", {})
    with set_options(request_timeout_s=3, max_retries=1):
        yield


@pytest.fixture
def web(tmp_path):
    with WebServer(tmp_path) as server:
        yield server


@pytest.fixture
def place(s3, bucket):
    s3.make_bucket(bucket, public=True)
    return locate_url(f"s3+{s3.url}/{bucket}/v")


def write(folder, array=ARRAY, **options):
    write_volume(str(folder), [array], chunk_size=(8, 8, 8), **options)


# ---- zeros


@pytest.mark.parametrize("sharding", [None, SHARDING])
def test_a_refused_method_is_no_hole(tmp_path, web, sharding):
    write(tmp_path / "v", sharding=sharding)
    store = xp.open_store(f"{web.url}/v")
    with web.guarded(lambda request: Reply.error(405, "MethodNotAllowed")):
        with pytest.raises(StorageError, match="HTTP 405"):
            store.read(store.mips[0].bounds, fill_missing=True)
        with pytest.raises(StorageError, match="HTTP 405"):
            store.exists()


def test_a_server_that_refuses_head_has_its_chunks(tmp_path, web):
    write(tmp_path / "v")
    store = xp.open_store(f"{web.url}/v")
    refuse = lambda request: Reply.error(405) if request.method == "HEAD" else None  # noqa: E731
    with web.guarded(refuse):
        assert store.exists().values.all()


def test_a_hole_among_what_refused_keys_may_not_see(s3, place, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "unknown")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    refuse = lambda request: (  # noqa: E731
        Reply.error(403, "InvalidAccessKeyId") if "Authorization" in request.headers else None
    )
    with s3.guarded(refuse):
        assert place.storage.get(place.child("nothing").key) is None


def test_stored_bytes_where_holes_are_denied(tmp_path, web):
    write(tmp_path / "v")
    (tmp_path / "v" / "8_8_40" / "0-8_0-8_0-8").unlink()
    web.missing = 403
    store = xp.open_store(f"{web.url}/v")
    with pytest.raises(AccessDeniedError, match="open with fill_missing='denied'"):
        store.stored_bytes()
    assert len(store.stored_bytes(fill_missing="denied")) == 1


def test_a_bucket_that_is_not_there_has_no_holes(s3):
    location = locate_url(f"s3+{s3.url}/never-made/v")
    with pytest.raises(StorageError, match="there is no such bucket"):
        location.storage.size("v/0-8_0-8_0-8")


# ---- values of somebody else


def test_an_index_of_no_known_version_is_not_remembered(tmp_path, web):
    write(tmp_path / "a", sharding=SHARDING, encoding="png")
    other = np.where(ARRAY > 99, ARRAY, 0).astype("u1")
    write(tmp_path / "b", other, sharding=SHARDING, encoding="png")
    web.etag = False

    def without_times(request):
        reply = web.answer(request)
        reply.headers = {k: v for k, v in reply.headers.items() if k != "Last-Modified"}
        return reply

    with web.guarded(without_times):
        store = xp.open_store(f"{web.url}/a")
        box = store.mips[0].bounds
        np.testing.assert_array_equal(store.read(box)[0], ARRAY)
        shard = next((tmp_path / "b").rglob("*.shard"))
        next((tmp_path / "a").rglob("*.shard")).write_bytes(shard.read_bytes())
        np.testing.assert_array_equal(store.read(box)[0], other)


def test_places_that_only_a_query_tells_apart_have_tokens_of_their_own(tmp_path, web):
    write(tmp_path / "v")
    one, two = (xp.open_store(f"{web.url}/v?v={number}") for number in (1, 2))
    assert tokenize(one) != tokenize(two)
    names = [each.open_dataset(chunks={})["image"].data.name for each in (one, two)]
    assert names[0] != names[1]
    assert tokenize(one) == tokenize(pickle.loads(pickle.dumps(one)))
    assert "v=1" not in repr(one.__dask_tokenize__())
    # and accessors find the one that was opened
    assert one.open_dataset()["image"].precomputed.store.location.storage.address.query == "v=2"


def test_the_server_of_the_environment_is_a_part_of_the_address(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://one.example.org")
    assert locate_url("s3://bucket/v").url == "s3+https://one.example.org/bucket/v"
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "me")
    assert locate_url("az://box/v").url == "abfss://box@me.dfs.core.windows.net/v"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:4443")
    assert locate_url("gs://bucket/v").url == "gs+http://127.0.0.1:4443/bucket/v"


def test_a_cache_that_is_met_after_a_write(place, tmp_path):
    """It was filled by an earlier process, with what this one has replaced."""
    key = place.child("8_8_8/0").key
    place.storage.put(key, b"old")
    before = cached(place, tmp_path)
    assert before.storage.get(key) == Blob(b"old")
    module = importlib.import_module("xprecomputed.storage.caching.cached")
    module._directories.clear()
    place.storage.put(key, b"new")
    assert cached(place, tmp_path).storage.get(key) == Blob(b"new")


def test_a_write_through_another_name_of_the_server(s3, bucket, place, tmp_path):
    key = place.child("0").key
    place.storage.put(key, b"old")
    named = cached(locate_url(f"{s3.url}/{bucket}/v"), tmp_path)
    assert named.storage.get(named.child("0").key) == Blob(b"old")
    place.storage.put(key, b"new")
    assert named.storage.get(named.child("0").key) == Blob(b"new")


# ---- writers that are not kept apart


@pytest.mark.parametrize("deaf_to", ["If-Match", "If-None-Match"])
def test_a_server_that_does_not_heed_conditions(s3, place, deaf_to):
    def forget(request):
        del request.headers[deaf_to]

    with s3.guarded(forget):
        with pytest.raises(StorageError, match="does not heed the conditions of puts"):
            place.storage.update(place.child("a").key, lambda only_if: None)
        assert (
            place.storage.update(place.child("a").key, lambda only_if: only_if, anyway=True) is None
        )
    # what was tried leaves nothing behind
    assert not [name for name in s3.names(place.storage.address.bucket) if "probe" in name]


def test_a_server_that_refuses_the_right_condition(s3, place):
    refuse = lambda request: Reply.error(412) if "If-Match" in request.headers else None  # noqa: E731
    with s3.guarded(refuse), pytest.raises(StorageError, match="does not heed"):
        place.storage.update(place.child("a").key, lambda only_if: None)


def test_two_who_make_the_same_layer(s3, place):
    """That the stored info equals one's own does not make it one's own."""
    info = xp.create_info(size=(8, 8, 8), resolution=(8, 8, 8), data_type="uint8")
    seen = []

    def busy_once(request):
        if request.method == "PUT" and request.path.endswith("/info") and not seen:
            seen.append(request)
            s3.put(place.storage.address.bucket, "v/info", request.body)  # somebody else's
            return Reply.error(503, "SlowDown")
        return None

    with s3.guarded(busy_once), pytest.raises(xp.LayerExistsError):
        xp.write_info(place.url, info)


def test_a_tree_of_which_somebody_else_deletes_a_part(gcs, bucket):
    gcs.make_bucket(bucket, public=True)
    location = locate_url(f"gs+{gcs.url}/{bucket}/v")
    for number in range(40):
        location.storage.put(f"v/x/{number:02}", b"1")

    def be_faster(request):
        if request.method == "DELETE" and request.path.endswith(("03", "17")):
            gcs.delete(bucket, "v/x/03")
            gcs.delete(bucket, "v/x/17")

    with gcs.guarded(be_faster):
        location.storage.delete_tree("v/x")
    assert gcs.names(bucket) == []


# ---- strangers


def test_no_token_of_googles_goes_to_others(no_credentials):
    folder = no_credentials / ".cloudvolume" / "secrets"
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "google-secret.json"
    secret.write_text(json.dumps({
        "type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c",
    }))  # fmt: skip
    try:
        ours = find_access(find_address("gs://bucket/v", {}), {})
        assert "google-secret" in ours.source
        for foreign in ("gs+https://evil.example.org/bucket/v", "gs+http://127.0.0.1:1/b/v"):
            assert find_access(find_address(foreign, {}), {}).source == "anonymous"
    finally:
        secret.unlink()


def test_keys_of_the_environment_are_not_shown_to_servers_of_strangers(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    address = find_address("s3+https://evil.example.org/bucket/v", {})
    assert find_access(address, {}, trusted=False).source == "anonymous"
    assert find_access(address, {}).source == "environment"
    for amazon in ("s3://bucket/v", "s3+https://s3.eu-west-1.amazonaws.com/bucket/v"):
        assert find_access(find_address(amazon, {}), {}, trusted=False).source == "environment"


def test_where_a_stranger_led_stays_strange(tmp_path, monkeypatch):
    from xprecomputed.store import opening, reopen

    documents = {
        "https://one.example.org/v": {"redirect": "https://two.example.org/v"},
        "https://two.example.org/v": write_volume("memory://strange/v", [ARRAY])
        and json.loads(fsspec.filesystem("memory").cat_file("/strange/v/info")),
    }
    monkeypatch.setattr(opening, "read_info", lambda location: documents[location.url])
    store = xp.open_store("https://one.example.org/v")
    assert not store.location.storage.trusted
    assert not reopen(store.url).location.storage.trusted
    assert not store.open_dataset()["image"].precomputed.store.location.storage.trusted
    # nobody stays nobody
    store = xp.open_store("https://one.example.org/v", storage_options={"anon": True})
    assert store.location.storage.options == {"anon": True}


def test_a_query_goes_with_a_redirect_on_the_same_server(tmp_path, web):
    write(tmp_path / "v")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "info").write_text(json.dumps({"redirect": f"{web.url}/v"}))

    def refuse(request):
        return None if request.query.get("token") == "hunter2" else Reply.error(403)

    with web.guarded(refuse):
        store = xp.open_store(f"{web.url}/here?token=hunter2")
        np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], ARRAY)
        da = xr.open_dataset(f"{web.url}/v?token=hunter2", engine="precomputed")["image"]
        assert da.precomputed.store.info == store.info


def test_found_logins_are_in_no_pickle(web, no_credentials):
    folder = no_credentials / ".cloudvolume" / "secrets"
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "http-secret.json"
    secret.write_text(json.dumps({"token": "hunter2"}))
    try:
        location = locate_url(f"{web.url}/v", {"block_size": 1024})
        assert b"hunter2" not in pickle.dumps(location)
        with (
            pytest.raises(AccessDeniedError),
            web.guarded(
                lambda request: (
                    Reply.error(403)
                    if request.headers.get("Authorization") == "Bearer hunter2"
                    else None
                )
            ),
        ):
            location.storage.get("v/info")
    finally:
        secret.unlink()


# ---- time, and bytes without end


def test_an_answer_without_a_length_has_its_time(tmp_path, web):
    (tmp_path / "a").write_bytes(bytes(100))
    web.chunked = True
    location = locate_url(web.url)
    assert location.storage.get("a") == Blob(bytes(100))

    def stall(request):
        time.sleep(3)

    with (
        set_options(request_timeout_s=0.3, max_retries=0),
        web.guarded(stall),
        pytest.raises(StorageError, match="Timeout|no answer in time"),
    ):
        location.storage.get("a")


# ---- chains


def test_a_chain_whose_path_is_not_at_its_end(tmp_path):
    write(tmp_path / "v")
    with zipfile.ZipFile(tmp_path / "v.zip", "w") as file:
        for each in (tmp_path / "v").rglob("*"):
            file.write(each, each.relative_to(tmp_path))
    with pytest.raises(InvalidURLError, match=r"fsspec.filesystem\('zip', fo='"):
        xp.open_store(f"zip://v::{tmp_path}/v.zip")
    fs = fsspec.filesystem("zip", fo=str(tmp_path / "v.zip"))
    store = xp.open_store("v", storage_options={"fs": fs})
    np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], ARRAY)


def test_logins_inside_of_chains_show_nowhere():
    location = locate_url("simplecache::https://me:hunter2@127.0.0.1:1/v")
    assert "hunter2" not in location.url + repr(location)


# ---- arguments


def test_what_is_open_already_takes_no_options(tmp_path):
    write(tmp_path / "v")
    store = xp.open_store(tmp_path / "v")
    for options in ({"storage_options": {"anon": True}}, {"info": store.info}):
        with pytest.raises(ValueError, match="it is open already; give storage_options and info"):
            xp.open_store(store, **options)
    with pytest.raises(ValueError, match="max_redirects=-1: expected an integer >= 0"):
        xp.open_store(tmp_path / "v", max_redirects=-1)
    index_cache.clear()
