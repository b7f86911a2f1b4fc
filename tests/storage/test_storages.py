"""The four answers, for each storage."""

import gzip
import os
import pickle

import fsspec
import pytest

from xprecomputed import (
    AccessDeniedError,
    CorruptDataError,
    PrecomputedWarning,
    StorageError,
    trace,
)
from xprecomputed.storage import Blob, locate_url
from xprecomputed.storage import local as local_module


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    """An empty folder and a way to put objects there that does not use the storage."""
    if request.param == "local":
        url = str(tmp_path / "folder")
        os.mkdir(url)
    else:
        url = f"memory://{request.node.name}"

    def put(name, data):
        with fsspec.open(f"{url}/{name}", "wb") as file:
            file.write(data)

    return locate_url(url), put


def get(location, name, **kwargs):
    return location.storage.get(location.child(name).key, **kwargs)


def get_range(location, name, start, stop):
    found = location.storage.get_range(location.child(name).key, start, stop)
    return None if found is None else found.data


def test_a_stored_object(place):
    location, put = place
    put("a", b"0123456789")
    put("empty", b"")
    assert get(location, "a") == Blob(b"0123456789")
    assert get(location, "empty") == Blob(b"")
    assert get_range(location, "a", 2, 5) == b"234"
    assert get_range(location, "a", 0, 10) == b"0123456789"


def test_missing_is_none(place):
    location, put = place
    put("a", b"x")
    assert get(location, "b") is None
    assert get(location, "no/such/folder") is None
    assert get_range(location, "b", 0, 5) is None
    assert get(location, "a/b") is None  # below a file


def test_ranges_beyond_the_end_are_short_and_allocate_nothing(place):
    location, put = place
    put("a", b"0123")
    assert get_range(location, "a", 2, 2**60) == b"23"
    assert get_range(location, "a", 2**50, 2**60) == b""


@pytest.mark.parametrize(
    ("suffix", "encoding"), [(".gz", "gzip"), (".br", "br"), (".zstd", "zstd"), (".zst", "zstd")]
)
def test_suffixes_declare_the_compression(place, suffix, encoding):
    location, put = place
    put("a" + suffix, b"packed")
    with trace() as t:
        assert get(location, "a") == Blob(b"packed", encoding)
    assert (t.requests, t.bytes) == (1, 6)


def test_objects_larger_than_what_can_be_valid_are_refused(place):
    location, put = place
    put("a", bytes(101))
    assert get(location, "a", max_bytes=101) == Blob(bytes(101))
    with pytest.raises(CorruptDataError, match=r"/a: 101 bytes, at most 100 can be valid"):
        get(location, "a", max_bytes=100)


def test_requests_and_bytes_are_counted(place):
    location, put = place
    put("a", bytes(50))
    with trace() as t:
        get(location, "a")
        get_range(location, "a", 10, 20)
        get(location, "absent")
    assert (t.requests, t.bytes) == (3, 60)


def test_fingerprints_change_with_the_object(place):
    location, put = place
    key = location.child("a").key
    assert location.storage.fingerprint(key) is None
    put("a", b"1")
    first = location.storage.fingerprint(key)
    assert location.storage.get_range(key, 0, 1).version == first
    put("a", b"22")
    assert first != location.storage.fingerprint(key)
    assert first is not None


def test_storages_pickle(place):
    location, put = place
    put("a", b"1")
    copy = pickle.loads(pickle.dumps(location))
    assert copy == location
    assert get(copy, "a") == Blob(b"1")
    assert len(pickle.dumps(location)) < 1000


# ---- local files only


def test_plain_and_compressed_side_by_side_is_told(tmp_path):
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"old"))
    with pytest.warns(
        PrecomputedWarning, match=r"both plain and compressed \(a and a.gz among them\)"
    ):
        assert get(locate_url(tmp_path), "a") == Blob(b"new")


def fail_with(monkeypatch, error):
    def refuse(path, flags):
        raise error

    monkeypatch.setattr(local_module.os, "open", refuse)


def test_denied_is_not_missing(tmp_path, monkeypatch):
    fail_with(monkeypatch, PermissionError(13, "Permission denied"))
    with pytest.raises(AccessDeniedError, match="/a: Permission denied"):
        get(locate_url(tmp_path), "a")
    with pytest.raises(AccessDeniedError, match="/a: Permission denied"):
        get_range(locate_url(tmp_path), "a", 0, 1)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_denied_by_the_system(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "a").chmod(0)
    with pytest.raises(AccessDeniedError, match="/a: Permission denied"):
        get(locate_url(tmp_path), "a")


def test_failed_is_not_missing(tmp_path, monkeypatch):
    with pytest.raises(StorageError, match="File name too long"):
        get(locate_url(tmp_path), "a" * 300)
    fail_with(monkeypatch, OSError(5, "Input/output error"))
    with pytest.raises(StorageError, match="/a: .*Input/output error"):
        get(locate_url(tmp_path), "a")


def test_a_read_that_fails_half_way(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x")

    def refuse(handle, count):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(local_module.os, "read", refuse)
    with pytest.raises(StorageError, match="/a: .*Input/output error"):
        get(locate_url(tmp_path), "a")


def test_what_is_not_a_file_neither_blocks_nor_is_missing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(StorageError, match=f"/{name}: not a regular file"):
            get(locate_url(tmp_path), name)


def test_a_dangling_link_to_a_compressed_file_is_not_a_hole(tmp_path):
    (tmp_path / "a.gz").symlink_to(tmp_path / "annexed")
    with pytest.raises(StorageError, match=r"/a.gz: a link to .*/annexed, which is not there"):
        get(locate_url(tmp_path), "a")


def test_a_dangling_link_is_not_a_hole(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "annexed")
    for read in (
        lambda: get(locate_url(tmp_path), "a"),
        lambda: get_range(locate_url(tmp_path), "a", 0, 1),
    ):
        with pytest.raises(StorageError, match=r"/a: a link to .*/annexed, which is not there"):
            read()


def test_ranges_of_a_file_that_is_compressed_as_a_whole(tmp_path):
    (tmp_path / "0.shard.gz").write_bytes(gzip.compress(b"x"))
    with pytest.raises(
        CorruptDataError,
        match=r"0.shard.gz: the whole file is compressed with gzip.*decompress it to 0.shard",
    ):
        get_range(locate_url(tmp_path), "0.shard", 0, 1)


def test_files_beyond_what_one_system_call_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(local_module, "MOST_AT_ONCE", 7)
    (tmp_path / "a").write_bytes(bytes(range(100)))
    assert get(locate_url(tmp_path), "a").data == bytes(range(100))
    assert get_range(locate_url(tmp_path), "a", 3, 90) == bytes(range(3, 90))


# ---- fsspec only


class Failing:
    def __init__(self, error):
        self.error = error

    def info(self, path):
        raise FileNotFoundError(path)

    def cat_file(self, path, start=None, end=None):
        if isinstance(self.error, Exception):
            raise self.error
        return self.error


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        (
            PermissionError("403 for https://host?sig=hunter2"),
            AccessDeniedError,
            "memory://v/a: PermissionError",
        ),
        (
            TimeoutError("https://host?sig=hunter2"),
            StorageError,
            r"memory://v/a: cannot be read \(TimeoutError\)",
        ),
        (
            RuntimeError("token hunter2"),
            StorageError,
            r"memory://v/a: cannot be read \(RuntimeError\)",
        ),
        (
            bytes(100),
            StorageError,
            r"asked for bytes 0 to 4, the server sent 100 bytes: it ignores Range",
        ),
    ],
)
def test_answers_of_fsspec(monkeypatch, answer, error, match):
    from xprecomputed.storage import fsspec as module

    location = locate_url("memory://v")
    monkeypatch.setattr(module, "_url_to_fs", lambda *args: (Failing(answer), ""))
    with pytest.raises(error, match=match) as caught:
        get_range(location, "a", 0, 4)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
