"""The cache on disk alone: what it gives is what was put, or nothing; its bound; its failures."""

import errno
import os
import pickle
import re
import stat
import threading
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.places import child, failing
from xprecomputed import AccessDeniedError, PrecomputedWarning
from xprecomputed.storage import Blob, _locks
from xprecomputed.storage.caching import disk as disk_cache
from xprecomputed.storage.caching import files as cache_files
from xprecomputed.storage.caching import ledger as ledgers
from xprecomputed.storage.caching.disk import OWN, CacheEntry, DiskCache
from xprecomputed.storage.caching.files import address_of, paths_of, range_of

CHUNK = "gs://bucket/layer/8_8_40/0-64_0-64_0-64"
SHARD = "gs://bucket/layer/8_8_40/00.shard"
LONG_AGO = 1_000_000_000


@pytest.fixture
def cache(tmp_path):
    return DiskCache(str(tmp_path / "kept"), 10_000_000)


def put(cache, address, data, start=None, stop=None, **kwargs):
    cache.put(address, start, stop, Blob(data, **kwargs))


def files(cache):
    """All files, also hidden ones, by path; without the empty one for the lock."""
    return {
        path.relative_to(cache.root).as_posix(): path
        for path in sorted(Path(cache.root).rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def folders(cache):
    return [name for name in sorted(os.listdir(cache.root)) if not name.startswith(".")]


def only_file(cache):
    (path,) = (path for name, path in files(cache).items() if not name.startswith("."))
    return path


def held(cache):
    """Bytes of all files, the ledger's excepted."""
    return sum(path.stat().st_size for name, path in files(cache).items() if name != ".ledger")


def noted(cache):
    return ledgers.TOTAL.unpack_from(files(cache)[".ledger"].read_bytes())[1]


def age(path, seconds=1000):
    os.utime(path, (time.time() - seconds,) * 2)


# ---- what is put is there


@pytest.mark.parametrize("version", [None, '"etag"', 5, (12, 34, 5.5), ("a", (None, "b"))])
@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_what_is_put_is_there(cache, version, encoding):
    put(cache, CHUNK, b"chunk", encoding=encoding, version=version)
    put(cache, SHARD, b"values", 100, 106, version=version)
    for kept in (cache, pickle.loads(pickle.dumps(cache)), DiskCache(cache.directory, 1)):
        found = kept.get(CHUNK)
        assert (found, found.version) == (Blob(b"chunk", encoding), version)
        found = kept.get(SHARD, 100, 106)
        assert (found, found.version) == (Blob(b"values"), version)
    assert cache.get(SHARD) is None
    assert cache.get(CHUNK, 0, 6) is None
    assert cache.get(CHUNK + "0") is None


def test_what_is_put_again_replaces(cache):
    put(cache, CHUNK, b"long before")
    put(cache, CHUNK, b"new")
    assert cache.get(CHUNK).data == b"new"
    assert cache.nbytes == noted(cache) == held(cache)


@pytest.mark.parametrize("data", [b"", memoryview(b"0123")[1:], bytes(3_000_000)])
def test_any_bytes_are_kept(cache, data):
    put(cache, CHUNK, data)
    assert cache.get(CHUNK).data == bytes(data)


@pytest.mark.parametrize("version", [object(), b"etag", float("nan"), [1]])
def test_a_version_that_would_come_back_as_another_is_not_kept(cache, version):
    put(cache, CHUNK, b"chunk", version=version)
    assert cache.get(CHUNK) is None
    assert not os.path.exists(cache.root)


def test_one_that_is_larger_than_asked_for_is_not_read(cache):
    put(cache, CHUNK, b"0123456789")
    assert cache.get(CHUNK, max_bytes=10).data == b"0123456789"
    assert cache.get(CHUNK, max_bytes=9) is None


# ---- ranges in ranges


def test_a_range_is_cut_out_of_a_kept_one(cache):
    data = bytes(range(200))
    put(cache, SHARD, data, 1000, 1200, version="v")
    for start, stop in [(1000, 1001), (1050, 1100), (1199, 1200), (1000, 1200)]:
        found = cache.get(SHARD, start, stop)
        assert (found.data, found.version) == (data[start - 1000 : stop - 1000], "v")
    for start, stop in [(999, 1001), (1199, 1201), (0, 5000), (1200, 1201)]:
        assert cache.get(SHARD, start, stop) is None
    assert cache.get(CHUNK, 1050, 1100) is None


def test_a_range_is_cut_out_of_a_kept_object_if_it_is_not_compressed(cache):
    put(cache, SHARD, b"0123456789", version="v")
    assert cache.get(SHARD, 2, 5).data == b"234"
    assert cache.get(SHARD, 8, 12) is None
    put(cache, CHUNK, b"0123456789", encoding="gzip")
    assert cache.get(CHUNK, 2, 5) is None


def test_a_damaged_range_does_not_hide_another_one(cache):
    put(cache, SHARD, bytes(100), 0, 100)
    only_file(cache).write_bytes(b"damaged")
    put(cache, SHARD, bytes(300), 0, 300)
    assert cache.get(SHARD, 5, 10).data == bytes(5)
    assert cache.get(SHARD, 0, 100).data == bytes(100)


def test_only_folders_of_near_ranges_are_listed(cache, monkeypatch):
    span = cache_files.SPAN
    monkeypatch.setattr(cache_files, "MOST_LISTED", 20)
    for first in range(0, 100 * span, span):
        put(cache, SHARD, b"0123456789", first + span - 5, first + span + 5, version=first)
    listed, real = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or real(path))
    for first in range(0, 99 * span, span):
        listed.clear()
        found = cache.get(SHARD, first + span - 1, first + span + 1)
        assert (found.data, found.version) == (b"45", first)
        found = cache.get(SHARD, first + span, first + span + 5)  # begins in the folder before
        assert found.data == b"56789"
        assert len(listed) <= 4


def test_a_huge_one_is_not_read_for_a_part(cache, monkeypatch):
    monkeypatch.setattr(disk_cache, "MOST_CUT", 100)
    put(cache, SHARD, bytes(101), 0, 101)
    put(cache, CHUNK, bytes(101))
    assert cache.get(SHARD, 0, 101) is not None
    assert cache.get(SHARD, 5, 10) is None
    assert cache.get(CHUNK, 5, 10) is None


# ---- never wrong


def test_no_change_of_a_file_is_ever_data(cache):
    put(cache, SHARD, b"values", 100, 106, version="v")
    path = only_file(cache)
    good = path.read_bytes()
    for at in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[at] ^= 1 << bit
            path.write_bytes(bad)
            assert cache.get(SHARD, 100, 106) is None, (at, bit)
            assert cache.get(SHARD, 101, 105) is None, (at, bit)
    for bad in [*(good[:at] for at in range(len(good))), good + b"\0", b"", bytes(1000)]:
        path.write_bytes(bad)
        assert cache.get(SHARD, 100, 106) is None
    path.write_bytes(good)
    assert cache.get(SHARD, 100, 106).data == b"values"


def test_a_file_of_another_object_or_range_is_none(cache):
    put(cache, CHUNK, b"chunk")
    path = only_file(cache)
    put(cache, CHUNK.upper(), b"CHUNK")
    # as a disk does that does not tell upper from lower case
    os.replace(path, Path(cache.root, paths_of(CHUNK.upper())[1]))
    assert cache.get(CHUNK.upper()) is None
    put(cache, SHARD, b"values", 100, 106)
    ranges = os.path.join(cache.root, paths_of(SHARD)[2])
    os.rename(range_of(ranges, 100, 106), range_of(ranges, 101, 107))
    assert cache.get(SHARD, 101, 107) is None
    assert cache.get(SHARD, 102, 104).data == b"lu"  # as the file itself says
    os.rename(ranges, os.path.join(cache.root, paths_of(SHARD + "2")[2]))
    assert cache.get(SHARD + "2", 102, 104) is None


def test_a_damaged_file_is_replaced(cache):
    put(cache, CHUNK, b"chunk")
    only_file(cache).write_bytes(b"damaged")
    put(cache, CHUNK, b"chunk")
    assert cache.get(CHUNK).data == b"chunk"


# ---- names


def test_the_folder_mirrors_the_addresses(cache):
    put(cache, CHUNK, b"chunk")
    put(cache, SHARD, b"values", 5_000_000, 5_000_006)
    put(cache, "https://host:8080/a b/ü", b"web")
    assert set(files(cache)) == {
        ".ledger",
        "gs/bucket/layer/8_8_40/0-64_0-64_0-64@whole",
        "gs/bucket/layer/8_8_40/00.shard@ranges/4194304/5000000-5000006",
        "https/host%3A8080/a%20b/%C3%BC@whole",
    }
    assert os.listdir(cache.directory) == [OWN]
    assert paths_of("s3://b/a~b")[0].replace(os.sep, "/") == "s3/b/a%7Eb"


@pytest.mark.parametrize("name", [
    "..", ".", "", "...", ".hidden", "a.", "con", "CON.txt", "lpt1", "a\\b", "C:", "a@whole",
    "a~b", "~", "%", "%2E", "a\0b", "a\nb", "*?|<>\"", "é" * 50, "x" * 5000, "\ud800", "@ranges",
])  # fmt: skip
def test_names_are_safe_and_told_apart(cache, name):
    others = ["a", "b", "%%", "x" * 5001, "é" * 51, "2E"]
    assert_plain(paths_of(f"s3://bucket/{name}"))
    for each in (name, *others):
        put(cache, f"s3://bucket/{each}/key", each.encode(errors="surrogatepass"))
        put(cache, f"s3://bucket/{each}", b"itself" + each.encode(errors="surrogatepass"))
    for each in (name, *others):
        data = each.encode(errors="surrogatepass")
        assert cache.get(f"s3://bucket/{each}/key").data == data
        assert cache.get(f"s3://bucket/{each}").data == b"itself" + data
    listed = {each.address for each in cache.entries()}
    assert {f"s3://bucket/{name}/key", f"s3://bucket/{name}"} <= listed
    assert len(listed) == 14
    for path in files(cache):
        assert path == ".ledger" or path.startswith("s3/bucket/")


def assert_plain(paths):
    for path in paths:
        assert not os.path.isabs(path)
        for part in path.split(os.sep):
            assert part
            assert not part.startswith(".")
            assert not part.endswith((".", " "))
            assert part.isascii()
            assert part.isprintable()
            assert len(part) <= 120
            assert re.split(r"[.@]", part)[0].lower() not in cache_files.RESERVED


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_address_leaves_the_folder_or_meets_another(one, other):
    paths = paths_of(one)
    assert_plain(paths)
    if one != other and "://" in one and "://" in other:
        assert not set(paths) & set(paths_of(other))
    named = address_of(paths[1])
    assert named is None or named == (one, None, None) or "://" not in one


def test_a_credential_has_no_place_in_an_address():
    from xprecomputed.storage import locate_url

    place = locate_url("http://me:password@host/layer?token=secret").child("1_1_1/a")
    assert paths_of(place.identity)[0].replace(os.sep, "/") == "http/host/layer/1_1_1/a"


def test_nobody_else_may_look_inside(tmp_path):
    cache = DiskCache(str(tmp_path / "new" / "kept"), 10_000)
    put(cache, CHUNK, b"chunk")
    assert stat.S_IMODE(os.stat(cache.directory).st_mode) == 0o700
    (tmp_path / "shared").mkdir(mode=0o755)
    cache = DiskCache(str(tmp_path / "shared"), 10_000)
    put(cache, CHUNK, b"chunk")
    assert stat.S_IMODE(os.stat(cache.root).st_mode) == 0o700


# ---- the bound


def test_the_bound_is_never_exceeded(cache, rng):
    cache = DiskCache(cache.directory, 50_000)
    for i in range(300):
        size = int(rng.integers(0, 30_000 if i % 10 == 0 else 5_000))
        address = f"s3://bucket/{rng.integers(60)}"
        put(cache, address, bytes(size), *((0, size) if i % 3 else (None, None)))
        assert held(cache) == cache.nbytes == noted(cache) <= 50_000
    assert cache.nbytes > 10_000


def test_what_is_larger_than_the_bound_is_not_kept_and_costs_no_other(cache):
    cache = DiskCache(cache.directory, 1000)
    put(cache, CHUNK, bytes(100))
    put(cache, SHARD, bytes(1000))
    assert (cache.get(SHARD), cache.get(CHUNK)) == (None, Blob(bytes(100)))
    put(cache, SHARD, bytes(800))
    assert (cache.get(SHARD), cache.get(CHUNK)) == (Blob(bytes(800)), None)


def test_a_lowered_bound_holds_after_the_next_write(cache):
    for i in range(100):
        put(cache, f"s3://bucket/{i}", bytes(1000))
    put(DiskCache(cache.directory, 20_000), CHUNK, bytes(1000))
    assert held(cache) <= 20_000
    assert cache.get(CHUNK) is not None


def test_the_least_recently_used_goes_first(cache):
    for i in range(10):
        put(cache, f"s3://bucket/{i}", bytes(1000))
    for i in range(10):
        age(files(cache)[f"s3/bucket/{i}@whole"], 10_000 - i)
    assert cache.get("s3://bucket/0") is not None  # marks it
    cache = DiskCache(cache.directory, cache.nbytes)
    put(cache, CHUNK, bytes(1000))
    kept = [i for i in range(10) if cache.get(f"s3://bucket/{i}") is not None]
    assert kept == [0, 3, 4, 5, 6, 7, 8, 9]  # down to 90 %


def test_a_hit_is_marked_at_most_once_a_minute(cache):
    put(cache, CHUNK, b"chunk")
    path = only_file(cache)
    age(path, 30)
    before = path.stat().st_mtime_ns
    assert cache.get(CHUNK) is not None
    assert path.stat().st_mtime_ns == before
    age(path, 61)
    assert cache.get(CHUNK) is not None
    assert time.time() - path.stat().st_mtime < 20


def test_files_are_seldom_counted(cache, monkeypatch):
    counted, real = [], DiskCache._count
    monkeypatch.setattr(
        DiskCache, "_count", lambda self, alone: counted.append(1) or real(self, alone=alone)
    )
    cache = DiskCache(cache.directory, 100 * 1100)
    for i in range(1000):
        put(cache, f"s3://bucket/{i}", bytes(1000))
    assert len(counted) <= 1 + 1000 / 9
    assert cache.nbytes > 80 * 1100


def test_empty_folders_go_with_their_files(cache):
    cache = DiskCache(cache.directory, 3000)
    put(cache, "s3://a/b/c/d", bytes(1000))
    put(cache, "s3://a/shard", bytes(1000), 0, 1000)
    age(files(cache)["s3/a/b/c/d@whole"])
    age(files(cache)["s3/a/shard@ranges/0/0-1000"])
    put(cache, CHUNK, bytes(2000))
    assert folders(cache) == ["gs"]


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_bytes(bytes(5000))
    cache = DiskCache(str(tmp_path), 2000)
    for i in range(10):
        put(cache, f"s3://bucket/{i}", bytes(500))
    assert cache.nbytes <= 2000
    cache.clear()
    assert folders(cache) == []
    assert (tmp_path / "thesis.txt").stat().st_size == 5000


# ---- the ledger


@pytest.mark.parametrize("content", [None, b"", b"junk", bytes(20), bytes(100)])
def test_a_ledger_that_cannot_be_read_is_made_anew(cache, content):
    for i in range(10):
        put(cache, f"s3://bucket/{i}", bytes(1000))
    ledger = files(cache)[".ledger"]
    if content is None:
        ledger.unlink()
    else:
        ledger.write_bytes(content)
    bound = cache.nbytes + 100
    put(DiskCache(cache.directory, bound), CHUNK, bytes(1000))
    assert held(cache) == noted(cache) <= bound


@pytest.mark.parametrize("at", range(20))
def test_a_damaged_ledger_is_not_believed(cache, at):
    put(cache, CHUNK, bytes(1000))
    ledger = files(cache)[".ledger"]
    bad = bytearray(ledger.read_bytes())
    bad[at] ^= 64
    ledger.write_bytes(bad)
    put(cache, SHARD, bytes(1000))
    assert noted(cache) == held(cache)


def test_a_ledger_that_is_removed_during_a_write_is_made_anew(cache, monkeypatch):
    real = os.replace

    def replace(source, target):
        os.unlink(os.path.join(cache.root, ".ledger"))
        put_by_another = ledgers._sealed(ledgers.TOTAL.pack(ledgers.TOTAL_MAGIC, 0))
        Path(cache.root, ".ledger").write_bytes(put_by_another)
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        put(cache, CHUNK, bytes(1000))
    put(cache, SHARD, bytes(1000))
    assert noted(cache) == held(cache) > 2000


@pytest.mark.parametrize("at", ["before", "after"])
def test_the_ledger_never_says_less_than_there_is(cache, monkeypatch, at):
    """As if the process was killed around the renaming."""
    put(cache, CHUNK, bytes(1000))

    class KilledError(BaseException):
        pass

    real = os.replace

    def replace(source, target):
        if at == "after":
            real(source, target)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        # nothing is tidied up by one who is killed
        patch.setattr(os, "unlink", lambda path: None)
        patch.setattr(ledgers.Ledger, "note", once_more_than_never(ledgers.Ledger.note))
        with pytest.raises(KilledError):
            put(cache, SHARD, bytes(1000))
    assert noted(cache) >= held(cache) > 2000


def once_more_than_never(real):
    calls = []

    def note(self, total):
        calls.append(1)
        if len(calls) == 1:
            real(self, total)

    return note


def test_what_a_killed_process_left_is_removed_when_files_are_counted(cache):
    put(cache, CHUNK, bytes(1000))
    left = only_file(cache).parent / ".x@whole.123-abc.tmp"
    left.write_bytes(bytes(5000))
    files(cache)[".ledger"].unlink()
    put(cache, SHARD, bytes(1000))
    assert not left.exists()
    assert noted(cache) == held(cache)


# ---- forgetting and listing


def test_an_object_is_forgotten_with_all_its_ranges(cache):
    put(cache, SHARD, b"whole")
    put(cache, SHARD, b"values", 0, 6)
    put(cache, SHARD, b"values", 9_000_000, 9_000_006)
    put(cache, SHARD + "2", b"other", 0, 5)
    put(cache, CHUNK, b"chunk")
    cache.forget(SHARD)
    assert {each.address for each in cache.entries()} == {SHARD + "2", CHUNK}
    assert noted(cache) == held(cache) == cache.nbytes
    cache.forget(SHARD + "2")
    cache.forget(CHUNK)
    assert folders(cache) == []


def test_forgetting_what_is_not_there_makes_nothing(cache):
    cache.forget(CHUNK)
    cache.clear()
    cache.clear("gs://bucket")
    assert (list(cache.entries()), cache.nbytes, cache.get(CHUNK)) == ([], 0, None)
    assert not os.path.exists(cache.directory)


def test_a_prefix_is_a_folder_or_an_object(cache):
    addresses = ["s3://b/a", "s3://b/a/1", "s3://b/a/2/3", "s3://b/a-b", "s3://b/ab/1", "s3://c/a"]
    for each in addresses:
        put(cache, each, b"x")
        put(cache, each, b"x", 5, 6)
    assert sorted({each.address for each in cache.entries("s3://b/a")}) == addresses[:3]
    assert len(list(cache.entries("s3://b/a"))) == 6
    cache.clear("s3://b/a")
    assert sorted({each.address for each in cache.entries()}) == addresses[3:]
    assert noted(cache) == held(cache)
    assert len(list(cache.entries("s3://b/"))) == 4
    cache.clear("s3://b/")
    assert {each.address for each in cache.entries()} == {"s3://c/a"}
    cache.clear()
    assert (list(cache.entries()), noted(cache)) == ([], 0)


def test_entries_say_what_they_are(cache):
    put(cache, CHUNK, b"chunk")
    put(cache, SHARD, b"values", 100, 106)
    put(cache, "s3://bucket/" + "x" * 5000, b"long", 3, 7)
    for path in files(cache).values():
        os.utime(path, (LONG_AGO, LONG_AGO))
    found = sorted(cache.entries(), key=lambda each: each.address)
    sizes = {path.stat().st_size for name, path in files(cache).items() if name != ".ledger"}
    assert {each.nbytes for each in found} == sizes
    assert found == [
        CacheEntry(CHUNK, None, None, found[0].nbytes, LONG_AGO),
        CacheEntry(SHARD, 100, 106, found[1].nbytes, LONG_AGO),
        CacheEntry("s3://bucket/" + "x" * 5000, 3, 7, found[2].nbytes, LONG_AGO),
    ]


def test_files_that_are_none_of_ours_are_not_listed(cache):
    put(cache, CHUNK, b"chunk")
    Path(cache.root, "gs", "README").write_text("?")
    Path(cache.root, "gs", "a~b@whole").write_text("?")
    assert [each.address for each in cache.entries()] == [CHUNK]


# ---- what fails


def one_warning(cache, work):
    """Run `work` three times; the message of the one warning."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        results = [work() for _ in range(3)]
    assert results[0] == results[1] == results[2]
    (warning,) = seen
    assert warning.category is PrecomputedWarning
    assert cache.directory in str(warning.message)
    return str(warning.message)


@pytest.mark.parametrize("call", ["write", "replace", "open", "mkdir"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_what_cannot_be_kept_is_not_there(cache, monkeypatch, call, code):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    def work():
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            put(cache, CHUNK, b"chunk")
        return cache.get(CHUNK)

    assert os.strerror(code) in one_warning(cache, work)
    put(cache, CHUNK, b"chunk")
    assert cache.get(CHUNK).data == b"chunk"
    assert [name for name in files(cache) if name.endswith((".tmp", ".lock"))] == []
    assert noted(cache) == held(cache)


def test_a_disk_that_fills_up_costs_nothing_that_is_kept(cache, monkeypatch):
    put(cache, SHARD, b"values", 0, 6)
    # the write of the ledger and the head work, that of the data does not
    failing(monkeypatch, "write", OSError(errno.ENOSPC, "full"), after=2)
    with pytest.warns(PrecomputedWarning, match="full"):
        put(cache, CHUNK, b"chunk")
    assert cache.get(SHARD, 0, 6).data == b"values"
    assert noted(cache) == held(cache)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_what_cannot_be_read_is_not_there(cache, monkeypatch, code):
    put(cache, CHUNK, b"chunk")

    def work():
        failing(monkeypatch, "open", OSError(code, os.strerror(code)))
        return cache.get(CHUNK)

    assert os.strerror(code) in one_warning(cache, work)
    assert cache.get(CHUNK).data == b"chunk"


def test_a_cache_that_can_only_be_read_is_read(cache, monkeypatch):
    put(cache, CHUNK, b"chunk")
    age(only_file(cache))
    failing(monkeypatch, "utime", OSError(errno.EROFS, "read-only"))
    assert cache.get(CHUNK).data == b"chunk"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may everything")
def test_a_folder_that_can_only_be_read_is_read(cache):
    put(cache, CHUNK, b"chunk")
    os.chmod(cache.root, 0o500)
    try:
        one_warning(cache, lambda: put(cache, SHARD, b"values"))
        assert cache.get(CHUNK).data == b"chunk"
    finally:
        os.chmod(cache.root, 0o700)


def test_a_file_in_place_of_the_folder_is_a_failure(tmp_path):
    (tmp_path / "file").write_text("?")
    cache = DiskCache(str(tmp_path / "file"), 10_000)

    def work():
        put(cache, CHUNK, b"chunk")
        return cache.get(CHUNK)

    one_warning(cache, work)


def test_a_listing_that_fails_is_an_error(cache, monkeypatch):
    put(cache, CHUNK, b"chunk")
    failing(monkeypatch, "scandir", PermissionError(errno.EACCES, "denied"))
    with pytest.raises(AccessDeniedError, match=f"{OWN}: denied"):
        list(cache.entries())
    failing(monkeypatch, "scandir", PermissionError(errno.EACCES, "denied"))
    with pytest.raises(AccessDeniedError, match=f"{OWN}: denied"):
        cache.nbytes


@pytest.mark.parametrize("how", ["forget", "clear"])
def test_where_nothing_can_be_forgotten_nothing_is_read(cache, monkeypatch, how):
    put(cache, CHUNK, b"stale")
    name = "unlink" if how == "forget" else "rmdir"
    with monkeypatch.context() as patch:
        real = getattr(os, name)

        def fail(path, **kwargs):
            if "lock" in os.fspath(path):
                return real(path, **kwargs)
            raise OSError(errno.EROFS, "read-only")

        patch.setattr(os, name, fail)
        with pytest.warns(PrecomputedWarning, match="nothing is read from it.*read-only"):
            cache.forget(CHUNK) if how == "forget" else cache.clear("gs://bucket")
    put(cache, CHUNK, b"new")
    assert cache.get(CHUNK) is None


@pytest.mark.skipif(not ledgers.HAS_FILE_LOCKS, reason="no locks here")
@pytest.mark.parametrize("code", sorted(ledgers.NO_LOCKS))
def test_a_disk_without_locks_will_do(cache, monkeypatch, code):
    def flock(handle, how):
        if how == _locks.fcntl.LOCK_EX:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(_locks.fcntl, "flock", flock)
    works_without_locks(DiskCache(cache.directory, 2000))


def test_a_system_without_locks_will_do(cache, monkeypatch):
    monkeypatch.setattr(ledgers, "HAS_FILE_LOCKS", False)
    works_without_locks(DiskCache(cache.directory, 2000))


def works_without_locks(cache):
    put(cache, CHUNK, b"chunk")
    for each, seconds in (("young", 60), ("old", 7200)):
        left = Path(cache.root, "gs", f".{each}.tmp")
        left.write_bytes(b"of somebody")
        age(left, seconds)
    for i in range(10):
        put(cache, f"s3://bucket/{i}", bytes(500))
    # that of a live process, maybe, is left alone
    assert [name for name in files(cache) if name.endswith(".tmp")] == ["gs/.young.tmp"]
    assert cache.nbytes == noted(cache) <= 2000
    assert cache.get("s3://bucket/9").data == bytes(500)


@pytest.mark.skipif(not ledgers.HAS_FILE_LOCKS, reason="no locks here")
def test_a_lock_that_fails_otherwise_is_a_failure(cache, monkeypatch):
    def work():
        failing(monkeypatch, "open", OSError(errno.EMFILE, "too many files"), after=0)
        put(cache, CHUNK, b"chunk")

    one_warning(cache, work)


# ---- many at once


@pytest.mark.parametrize("has_locks", [ledgers.HAS_FILE_LOCKS, False])
def test_threads_keep_the_bound_and_get_what_was_put(cache, monkeypatch, has_locks):
    monkeypatch.setattr(ledgers, "HAS_FILE_LOCKS", has_locks)
    cache = DiskCache(cache.directory, 40_000)
    failed = []

    def work(seed):
        try:
            for i in range(150):
                number = (i * 7 + seed) % 40
                found = cache.get(f"s3://bucket/{number}")
                assert found is None or found.data == bytes([number]) * 2000
                put(cache, f"s3://bucket/{number}", bytes([number]) * 2000)
                if i % 20 == 0:
                    cache.forget(f"s3://bucket/{number}")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=[seed]) for seed in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failed
    assert held(cache) == noted(cache) <= 40_000


HAMMER = """
import hashlib, os, random, sys, warnings
from xprecomputed.storage.base import Blob
from xprecomputed.storage.caching.disk import DiskCache
warnings.simplefilter("error")
folder, bound, seed, rounds = sys.argv[1], *map(int, sys.argv[2:])
cache, random = DiskCache(folder, bound), random.Random(seed)
def made(number):
    return hashlib.shake_128(str(number).encode()).digest(1000 + 37 * number)
print("ready", flush=True)
sys.stdin.readline()
hits = 0
for i in range(rounds):
    number = random.randrange(200)
    data = made(number)
    address = f"s3://bucket/{number}"
    whole = number % 2
    found = cache.get(address) if whole else cache.get(address, 10, 10 + len(data))
    if found is not None:
        hits += 1
        assert found.data == data and found.version == str(number)
    elif whole:
        cache.put(address, None, None, Blob(data, version=str(number)))
    else:
        cache.put(address, 10, 10 + len(data), Blob(data, version=str(number)))
    if i % 50 == 0:
        cache.forget(f"s3://bucket/{random.randrange(200)}")
    if seed == 0 and i % 100 == 0:
        try:
            os.unlink(os.path.join(cache.root, ".ledger"))
        except FileNotFoundError:
            pass
print(hits, flush=True)
"""


@pytest.mark.skipif(not ledgers.HAS_FILE_LOCKS, reason="no locks here")
@pytest.mark.parametrize("remover", [0, 1], ids=["the ledger goes", "the ledger stays"])
def test_processes_keep_the_bound_also_when_one_is_killed(tmp_path, remover):
    bound = 150_000
    cache = DiskCache(str(tmp_path), bound)
    processes = [
        child(HAMMER, str(tmp_path), str(bound), str(seed + remover), "200") for seed in range(4)
    ]
    victim = child(HAMMER, str(tmp_path), str(bound), "10", "1000000")
    for each in [*processes, victim]:
        assert each.stdout.readline() == "ready\n"
    for each in [*processes, victim]:
        each.stdin.write("\n")
        each.stdin.flush()
    time.sleep(0.4)
    victim.kill()
    victim.communicate()
    hits = [int(each.communicate()[0]) for each in processes]
    assert [each.returncode for each in processes] == [0] * 4
    assert min(hits) > 10
    # at rest, unfinished files of the killed included; then they go, too
    assert held(cache) <= bound
    assert cache.nbytes > bound // 2
    put(DiskCache(str(tmp_path), cache.nbytes), CHUNK, bytes(5000))
    assert [name for name in files(cache) if name.endswith(".tmp")] == []
    assert held(cache) == noted(cache) <= bound
    assert {os.path.basename(name) for name in files(cache) if "/" not in name} == {".ledger"}
