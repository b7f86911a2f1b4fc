"""Deleting, listing and asking, for each storage."""

import os
import threading

import pytest

from xprecomputed import StorageError, trace
from xprecomputed.storage import Blob, Entry, FsspecStorage, LocalStorage
from xprecomputed.storage import local as local_module


@pytest.mark.parametrize("suffix", ["", ".gz", ".br", ".zstd", ".zst"])
def test_an_object_is_deleted_with_its_variants(place, suffix):
    place.by_hand("a" + suffix, b"")
    place.by_hand("a.zst", b"")
    place.by_hand("ab", b"a neighbour")
    with trace() as t:
        assert place.delete("a")
        assert not place.delete("a")
        assert not place.delete("no/such")
        assert not place.delete("ab/c")  # below a file
    assert place.names() == ["ab"]
    assert (t.requests, t.bytes) == (4, 0)


def test_the_variant_that_is_read_is_deleted_last(local, monkeypatch):
    gone = []
    monkeypatch.setattr(local_module, "remove", lambda path: gone.append(path))
    local.delete("a")
    assert [os.path.splitext(path)[1] for path in gone] == [".zst", ".zstd", ".br", ".gz", ""]


def test_a_folder_is_not_an_object(local):
    local.put("x/a", b"")
    with pytest.raises(StorageError, match="/x: Is a directory"):
        local.delete("x")
    assert local.size("x") is None


def test_a_tree_is_deleted(place):
    for name in ("x/a", "x/.a.tmp", "x/y/z/b.gz", "xy/c", "d"):
        place.by_hand(name, b"")
    with trace() as t:
        place.storage.delete_tree(place.key("x"))
    assert place.names() == ["d", "xy/c"]
    assert t.requests == 1
    place.storage.delete_tree(place.key("x"))
    place.storage.delete_tree(place.key("no/such"))
    assert place.listed("x") == []


@pytest.mark.parametrize("key", ["", ".", "a/", "a/..", "a/../b", "/a", "../sibling"])
def test_a_tree_is_a_plain_key(tmp_path, key):
    # the root is a folder here: if this is ever broken it must not cost a disk
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    (tmp_path / "sibling").mkdir()
    for storage in (
        LocalStorage(f"{tmp_path}/tree/"),
        FsspecStorage("memory://", "memory://", "root/"),
    ):
        with pytest.raises(
            ValueError, match="expected (the plain key of a folder|a relative path)|leads out of"
        ):
            storage.delete_tree(key)
    assert (tmp_path / "tree" / "a" / "b").is_dir()
    assert (tmp_path / "sibling").is_dir()


def test_a_tree_is_a_folder(place):
    place.by_hand("a", b"precious")
    with pytest.raises(StorageError, match="/a: not a folder, so nothing is deleted"):
        place.storage.delete_tree(place.key("a"))
    assert place.get("a") == Blob(b"precious")


def test_a_tree_is_not_left_through_links(local, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_bytes(b"precious")
    local.put("x/b", b"")
    os.symlink(tmp_path / "elsewhere", f"{local.url}/link")
    os.symlink(tmp_path / "elsewhere", f"{local.url}/x/link")
    with pytest.raises(StorageError, match="/link: a link to .*/elsewhere, through which nothing"):
        local.storage.delete_tree(local.key("link"))
    local.storage.delete_tree(local.key("x"))
    assert os.listdir(local.url) == ["link"]
    assert (tmp_path / "elsewhere" / "a").read_bytes() == b"precious"


def test_a_tree_that_two_delete(local):
    for number in range(300):
        local.put(f"x/{number % 7}/{number}", b"")
    failed = []

    def work():
        try:
            local.storage.delete_tree(local.key("x"))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failed
    assert os.listdir(local.url) == []


def test_a_listing(place):
    for name, data in [
        ("a", b"0"),
        ("a.gz", b"01"),  # stale: the plain one is read
        ("b.zstd", b"012"),
        ("b.br", b"0123"),  # read before zstd
        ("c.gz", b""),
        ("00.shard", b"01234"),
        (".a.12-34.tmp", b""),
        (".c.gz.lock", b""),
        ("sub/d", b""),
    ]:
        place.by_hand(name, data)
    assert place.listed() == [
        Entry("00.shard", 5),
        Entry("a", 1),
        Entry("b", 4, "br"),
        Entry("c", 0, "gzip"),
    ]
    assert place.listed("sub") == [Entry("d", 0)]
    assert place.listed("no/such") == place.listed("a") == []
    for name, size in [("00.shard", 5), ("a", 1), ("b", 4), ("c", 0)]:
        assert place.size(name) == size
    for name in ("d", "sub", "no/x", "a/x"):
        assert place.size(name) is None
    with trace() as t:
        place.size("a")
        place.listed()
    assert (t.requests, t.bytes) == (2, 0)


def test_links_in_a_listing(local, tmp_path):
    (tmp_path / "annexed").write_bytes(b"0123")
    local.put("b", b"")
    os.symlink(tmp_path / "annexed", f"{local.url}/a.gz")
    assert local.listed() == [Entry("a", 4, "gzip"), Entry("b", 0)]
    (tmp_path / "annexed").unlink()
    for ask in (local.listed, lambda: local.size("a")):
        with pytest.raises(StorageError, match=r"/a.gz: a link to .*/annexed, which is not there"):
            ask()


def test_what_is_removed_while_it_is_listed(local):
    local.put("a", b"")
    local.put("b", b"")
    listing = local.storage.list_dir(local.key("."))
    first = next(listing)
    local.delete("a" if first.name == "b" else "b")
    assert list(listing) == []
