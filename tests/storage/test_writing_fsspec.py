"""What only stores behind fsspec do: headers, uploads in parts, errors of other libraries."""

import gc
import zipfile
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem
from fsspec.implementations.zip import ZipFileSystem
from fsspec.spec import AbstractBufferedFile

from xprecomputed import AccessDeniedError, StorageError, UnsupportedEncodingError, trace
from xprecomputed.storage import Blob, Entry, FsspecStorage, locate_url
from xprecomputed.storage import fsspec as module


class Upload(AbstractBufferedFile):
    """As S3's: seen from the last part on, which closing sends."""

    def _initiate_upload(self):
        self.parts = []

    def _upload_chunk(self, final=False):
        self.parts.append(self.buffer.getvalue())
        if final:
            self.fs.pipe_file(self.path, b"".join(self.parts))
        return True

    def discard(self):
        self.fs.discarded.append(self.path)


class Bucket(MemoryFileSystem):
    """A store with buckets, without folders, slow to notice what others write."""

    protocol = "bucket"
    cachable = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.store, self.pseudo_dirs, self.listed, self.discarded = {}, [""], {}, []

    def makedirs(self, path, exist_ok=False):
        raise AssertionError("a bucket has no folders")

    def _open(self, path, mode="rb", **kwargs):
        return Upload(self, path, mode, block_size=10)

    def pipe_file(self, path, value, **kwargs):
        super()._open(path, "wb", data=value)

    def rm_file(self, path):  # says nothing where nothing is
        self.store.pop(self._strip_protocol(path), None)

    def ls(self, path, detail=True, **kwargs):
        if path not in self.listed:
            self.listed[path] = super().ls(path, detail=True)
        return self.listed[path]

    def info(self, path, **kwargs):
        for each in self.listed.get(path.rpartition("/")[0], ()):
            if each["name"].strip("/") == path:
                return each
        return super().info(path)

    def rm(self, path, recursive=False, maxdepth=None):
        for each in self.ls(path):
            self.rm_file(each["name"])

    def invalidate_cache(self, path=None):
        for each in (path, path.rpartition("/")[0]):
            self.listed.pop(each, None)


@pytest.fixture
def bucket(monkeypatch):
    fs = Bucket()
    monkeypatch.setattr(module, "_url_to_fs", lambda *args: (fs, ""))
    return FsspecStorage("gs://b/", "gs://b/v", "b/"), fs


def test_a_bucket(bucket):
    storage, fs = bucket
    fs.store["/b/v/a.gz"] = fs.store["/b/v/neighbour"] = object()
    with trace() as t:
        storage.put("v/a", b"0123")
        storage.put_parts("v/p", [b"0123456789ab", b"", memoryview(b"cd")])
    assert sorted(fs.store) == ["/b/v/a", "/b/v/a.gz", "/b/v/neighbour", "/b/v/p"]
    assert storage.get("v/a") == Blob(b"0123")
    assert storage.get("v/p") == Blob(b"0123456789abcd")
    assert (t.requests, t.bytes) == (2, 18)
    assert t.objects == {"gs://b/v/a": 1, "gs://b/v/p": 1}
    assert storage.delete("v/a")
    assert not storage.delete("v/a")
    assert sorted(fs.store) == ["/b/v/a.gz", "/b/v/neighbour", "/b/v/p"]


def test_what_others_write_to_a_bucket_is_noticed(bucket):
    storage, fs = bucket

    def another_writes(name, data):
        fs.store["/b/v/" + name] = MemoryFile(data=data)

    another_writes("a", b"0123")
    assert list(storage.list_dir("v")) == [Entry("a", 4)]
    another_writes("a", b"012345")
    assert storage.size("v/a") == 6
    assert list(storage.list_dir("v")) == [Entry("a", 6)]
    another_writes("b", b"")
    storage.delete_tree("v")
    assert not fs.store


def test_a_listing_of_a_bucket(bucket):
    storage, _ = bucket
    storage.put("v/a", b"0123")
    storage.put("v/a.gz", b"")  # a name as any other
    storage.put("v/x/b", b"")
    found = [Entry("a", 4), Entry("a.gz", 0)]
    assert sorted(storage.list_dir("v"), key=lambda entry: entry.name) == found
    storage.delete("v/a.gz")
    storage.put("v/a", b"012345")
    assert list(storage.list_dir("v")) == [Entry("a", 6)]
    assert storage.size("v/a") == 6
    storage.delete_tree("v/x")
    assert list(storage.list_dir("v/x")) == []
    with pytest.raises(StorageError, match="gs://b/v/a: not a folder, so nothing is deleted"):
        storage.delete_tree("v/a")


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"encoding": "gzip"}, "set the header Content-Encoding on gs; use compression=None"),
        ({"cache_control": "no-cache"}, "set the header Cache-Control on gs; use cache_control"),
    ],
)
def test_headers_cannot_be_set(bucket, kwargs, match):
    storage, fs = bucket
    with pytest.raises(UnsupportedEncodingError, match=f"gs://b/v/a: fsspec cannot {match}"):
        storage.put("v/a", b"", **kwargs)
    assert not fs.store


@pytest.mark.parametrize("sent", [5, 25])
def test_an_upload_that_is_given_up_is_never_completed(bucket, sent):
    storage, fs = bucket
    storage.put("v/a", b"old")

    def parts():
        yield bytes(sent)
        raise KeyError("of the caller")

    with pytest.raises(KeyError, match="of the caller"):
        storage.put_parts("v/a", parts())
    gc.collect()  # which closes files
    assert fs.discarded == ["/b/v/a"]
    assert storage.get("v/a") == Blob(b"old")


def test_an_upload_that_fails(bucket, monkeypatch):
    storage, _ = bucket
    storage.put("v/a", b"old")

    def refuse(self, final=False):
        raise TimeoutError("https://host?sig=hunter2")

    monkeypatch.setattr(Upload, "_upload_chunk", refuse)
    for parts in ([bytes(5)], [bytes(25)]):
        with pytest.raises(StorageError, match=r"gs://b/v/a: cannot be written \(TimeoutError\)"):
            storage.put_parts("v/a", parts)
        gc.collect()
    assert storage.get("v/a") == Blob(b"old")


# ---- other file systems: folders and suffixes


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """Local files through fsspec, which is as any store with folders."""
    fs = LocalFileSystem()
    monkeypatch.setattr(module, "_url_to_fs", lambda *args: (fs, ""))
    return FsspecStorage("smb://host/", "smb://host/", f"{tmp_path}/"), tmp_path


def test_a_store_with_folders(disk):
    storage, root = disk
    storage.put("v/a", b"packed", encoding="br", cache_control="no-cache")
    assert [path.name for path in (root / "v").iterdir()] == ["a.br"]
    storage.put_parts("v/a", [b"01", b"23"])
    assert [path.name for path in (root / "v").iterdir()] == ["a"]
    assert list(storage.list_dir("v")) == [Entry("a", 4)]
    assert (storage.size("v/a"), storage.size("v"), storage.size("v/a/b")) == (4, None, None)
    assert storage.delete("v/a")
    assert not storage.delete("v/a")
    storage.put_parts("v/x/y", [b""])
    storage.delete_tree("v")
    storage.delete_tree("v")
    assert list(root.iterdir()) == []
    assert list(storage.list_dir("v")) == []


class LateUpload(Upload):
    """Seen from its closing on, in a store with folders."""

    def _upload_chunk(self, final=False):
        if final:
            Path(self.path).write_bytes(self.buffer.getvalue())


@pytest.mark.parametrize("late", [False, True])
def test_a_store_with_folders_keeps_no_part(disk, monkeypatch, late):
    storage, root = disk
    storage.put("v/b", b"")
    if late:
        monkeypatch.setattr(
            LocalFileSystem, "_open", lambda fs, path, mode, **_: LateUpload(fs, path, mode)
        )

    def parts():
        yield b"0123"
        raise KeyError("of the caller")

    with pytest.raises(KeyError, match="of the caller"):
        storage.put_parts("v/a", parts())
    gc.collect()  # which closes files
    assert [path.name for path in (root / "v").iterdir()] == ["b"]


def test_a_store_that_makes_no_folders(disk, monkeypatch):
    storage, root = disk
    (root / "v").mkdir()

    def refuse(self, path, exist_ok=False):
        raise NotImplementedError

    monkeypatch.setattr(LocalFileSystem, "makedirs", refuse)
    storage.put("v/a", b"0123")
    assert (root / "v" / "a").read_bytes() == b"0123"


# ---- refusals and failures


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("http://host/", "http://host/a: http is read-only"),
        ("https://host/", "https://host/a: https is read-only"),
        ("simplecache::https://host/", "/a: https is read-only"),
        ("simplecache::memory://", "memory://a: cannot be written through simplecache, which"),
        ("blockcache::gs://b/", "gs://b/a: cannot be written through blockcache, which would go"),
    ],
)
def test_what_is_read_only(url, match):
    storage = FsspecStorage(url, url, "")
    for write in (
        lambda: storage.put("a", b"", encoding="gzip"),
        lambda: storage.put_parts("a", []),
        lambda: storage.delete("a"),
        lambda: storage.delete_tree("a"),
    ):
        with pytest.raises(StorageError, match=match):
            write()


def test_the_web_has_no_listings():
    with pytest.raises(StorageError, match="https://host/a: https has no listings"):
        list(FsspecStorage("https://host/", "https://host/", "").list_dir("a"))


def test_an_archive_that_was_opened_for_reading(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("v/a", b"0123")
    fs = ZipFileSystem(str(tmp_path / "z.zip"))
    monkeypatch.setattr(module, "_url_to_fs", lambda *args: (fs, ""))
    storage = FsspecStorage("zip://", "zip://", "")
    assert list(storage.list_dir("v")) == [Entry("a", 4)]
    for write in (
        lambda: storage.put("v/a", b""),
        lambda: storage.put_parts("v/a", []),
        lambda: storage.delete("v/a"),
        lambda: storage.delete_tree("v"),
    ):
        with pytest.raises(StorageError, match=r"zip://v(/a)?: cannot be (written|deleted) \("):
            write()
    assert storage.get("v/a") == Blob(b"0123")
    fs.close()


CALLS = {
    "pipe_file": lambda storage: storage.put("a", b"new"),
    "open": lambda storage: storage.put_parts("a", [b"new"]),
    "rm_file": lambda storage: storage.delete("a"),
    "find": lambda storage: storage.delete_tree("folder"),
    "isfile": lambda storage: storage.size("a"),
    "ls": lambda storage: list(storage.list_dir("folder")),
}


@pytest.mark.parametrize(
    ("error", "expected", "match"),
    [
        (PermissionError("403 for https://host?sig=hunter2"), AccessDeniedError, "PermissionError"),
        (NotImplementedError("hunter2"), StorageError, r"cannot be .* \(NotImplementedError\)"),
        (ValueError("hunter2"), StorageError, r"cannot be .* \(ValueError\)"),
        (TimeoutError("hunter2"), StorageError, r"cannot be .* \(TimeoutError\)"),
    ],
)
@pytest.mark.parametrize("call", CALLS)
def test_errors_of_fsspec(monkeypatch, call, error, expected, match):
    storage = locate_url("memory://v").storage
    storage.put("a", b"old")
    if call == "open":  # memory takes no parts
        storage = FsspecStorage("smb://", "smb://", "/")
        monkeypatch.setattr(module, "_url_to_fs", lambda *args: (MemoryFileSystem(), ""))

    def refuse(self, *args, **kwargs):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, call, refuse)
        with pytest.raises(expected, match=f"^[a-z]+://(a|folder): {match}") as caught:
            CALLS[call](storage)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert storage.get("a") == Blob(b"old")


def test_a_variant_that_cannot_be_removed(monkeypatch):
    storage = locate_url("memory://v").storage

    def refuse(self, path):
        raise TimeoutError

    monkeypatch.setattr(MemoryFileSystem, "rm_file", refuse)
    with pytest.raises(StorageError, match=r"a: cannot be rid of its other variants \(TimeoutErr"):
        storage.put("a", b"new")
    assert storage.get("a") == Blob(b"new")


def test_a_size_that_is_not_told(bucket, monkeypatch):
    storage, _ = bucket
    monkeypatch.setattr(Bucket, "info", lambda self, path: {"type": "file", "size": None})
    with pytest.raises(StorageError, match="gs://b/v/a: the server does not tell its size"):
        storage.size("v/a")
