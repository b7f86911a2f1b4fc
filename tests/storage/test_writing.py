"""Whole or not at all, for each storage; what is read back was written by hand where it can be."""

import os
import subprocess
import sys
import threading
import warnings
from itertools import permutations

import numpy as np
import pytest

from tests.storage.places import child, failing, module_of
from xprecomputed import (
    AccessDeniedError,
    PrecomputedWarning,
    StorageError,
    UnsupportedEncodingError,
    trace,
)
from xprecomputed.storage import Blob, Entry, Location, Storage
from xprecomputed.storage import _files as files

SUFFIXES = {None: "", "gzip": ".gz", "br": ".br", "zstd": ".zstd"}


# ---- what is put is there


@pytest.mark.parametrize(
    "data",
    [
        b"0123",
        b"",
        memoryview(b"0123")[1:],
        memoryview(np.arange(24, dtype="<u4").reshape(2, 3, 4)),
        memoryview(np.zeros((0, 3), "<u4")),
    ],
    ids=["bytes", "empty", "view", "3-d", "3-d and empty"],
)
def test_what_is_put_is_there(place, data):
    place.by_hand("x/y/a", b"what was there before, which is longer")
    with trace() as t:
        place.put("x/y/a", data)
        place.put("x/b", data)
        place.put_parts("c", iter([data, data]))
    assert place.get("x/y/a") == place.get("x/b") == Blob(bytes(data))
    assert place.get("c") == Blob(bytes(data) * 2)
    assert place.names() == ["c", "x/b", "x/y/a"]
    assert (t.requests, t.bytes) == (3, 4 * memoryview(data).nbytes)


def test_an_object_of_no_parts_is_empty(place):
    place.put_parts("a", [])
    assert place.get("a") == Blob(b"")


@pytest.mark.parametrize("encoding", SUFFIXES)
def test_one_variant_is_left(place, encoding):
    for suffix in ("", ".gz", ".br", ".zstd", ".zst"):
        place.by_hand("a" + suffix, b"old")
    place.by_hand("b.gz", b"a neighbour")
    with trace() as t:
        place.put("a", b"new", encoding=encoding, cache_control="no-cache")
    assert place.names() == ["a" + SUFFIXES[encoding], "b.gz"]
    assert place.get("a") == Blob(b"new", encoding)
    assert (t.requests, t.bytes) == (1, 3)


def test_one_variant_is_left_by_parts(place):
    place.by_hand("a.gz", b"old")
    place.put_parts("a", [b"n", b"ew"])
    assert place.names() == ["a"]


def test_an_unknown_compression(place):
    with pytest.raises(UnsupportedEncodingError, match=r"/a: compression 'xz', expected None or"):
        place.put("a", b"", encoding="xz")


@pytest.mark.parametrize(("before", "after"), list(permutations(SUFFIXES, 2)))
def test_an_interrupted_removal_leaves_the_old_or_the_new(place, monkeypatch, before, after):
    """Wherever it stops, the data is what a reader saw before or will see, never an older one."""
    module = module_of(place)
    real = module.remove
    older = [".zst", ".zstd", ".br", ".gz", ""]
    older = older[: older.index(SUFFIXES[before])]
    for steps in range(5):
        left = iter(range(steps))

        def remove(*args, left=left):
            if next(left, None) is None:
                raise StorageError("interrupted")
            return real(*args)

        for suffix in older:
            place.by_hand("a" + suffix, b"older")
        place.by_hand("a" + SUFFIXES[before], b"old")
        with monkeypatch.context() as patched, warnings.catch_warnings():
            warnings.simplefilter("ignore", PrecomputedWarning)
            patched.setattr(module, "remove", remove)
            if steps < 4:
                with pytest.raises(StorageError, match="interrupted"):
                    place.put("a", b"new", encoding=after)
            else:
                place.put("a", b"new", encoding=after)
            assert place.get("a") in (Blob(b"old", before), Blob(b"new", after))
        place.delete("a")
        assert place.names() == []


def test_two_compressions_at_once_leave_no_silent_hole(place, monkeypatch):
    """Each writer removes the other's variant: the one that finds its own gone says so."""
    module = module_of(place)
    real = module.remove
    place.by_hand("a", b"old")

    def remove(*args):
        monkeypatch.setattr(module, "remove", real)
        place.put("a", b"plain")
        return real(*args) or True

    monkeypatch.setattr(module, "remove", remove)
    with pytest.raises(StorageError, match="another writer has removed it meanwhile, or stored it"):
        place.put("a", b"packed", encoding="gzip")


def test_a_reader_finds_what_is_given_another_suffix_meanwhile(local, monkeypatch):
    local.by_hand("a.gz", b"old")
    real = os.open

    def opened(path, *args):
        try:
            return real(path, *args)
        except FileNotFoundError:
            if path.endswith("/a"):
                monkeypatch.setattr(os, "open", real)
                local.put("a", b"new")
            raise

    monkeypatch.setattr(os, "open", opened)
    assert local.get("a") == Blob(b"new")


def test_a_size_that_is_asked_meanwhile(local, monkeypatch):
    local.by_hand("a.gz", b"old")
    real = os.stat

    def stat(path, *args, **kwargs):
        try:
            return real(path, *args, **kwargs)
        except FileNotFoundError:
            if path.endswith("/a"):
                monkeypatch.setattr(os, "stat", real)
                local.put("a", b"newer")
            raise

    monkeypatch.setattr(os, "stat", stat)
    assert local.size("a") == 5


# ---- whole or not at all


@pytest.mark.parametrize("call", ["open", "write", "close", "replace"])
@pytest.mark.parametrize("how", ["put", "put_parts"])
def test_a_write_that_fails_changes_nothing(local, monkeypatch, call, how):
    local.put("a", b"old")
    monkeypatch.setattr(files, "MOST_AT_ONCE", 4)
    failing(monkeypatch, call, OSError(28, "No space left on device"), after=call == "write")
    with pytest.raises(StorageError, match="/v/a: No space left on device$"):
        getattr(local, how)("a", b"0123456789" if how == "put" else [b"0123", b"4567"])
    assert local.names() == ["a"]
    assert local.get("a") == Blob(b"old")


@pytest.mark.parametrize("error", [ValueError("x"), OSError(5, "x"), KeyboardInterrupt()])
def test_what_the_parts_raise_passes_through(place, error):
    place.put("a", b"old")

    def parts():
        yield b"new"
        raise error

    with pytest.raises(type(error)) as caught:
        place.put_parts("a", parts())
    assert caught.value is error
    assert place.names() == ["a"]
    assert place.get("a") == Blob(b"old")


def test_writes_beyond_what_one_system_call_takes(local, monkeypatch):
    real = os.write
    monkeypatch.setattr(files, "MOST_AT_ONCE", 7)
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:5]))
    array = np.arange(80, dtype="<u4").reshape(40, 2)
    for data in (bytes(range(100)), memoryview(array)):
        local.put("a", data)
        assert local.get("a") == Blob(bytes(data))


FULL = """
import sys
from xprecomputed import StorageError
from xprecomputed.storage import locate_url
place = locate_url(sys.argv[1])
key = place.child("a").key
place.storage.put(key, b"old")
for write in (
    lambda: place.storage.put(key, bytes(1 << 20)),
    lambda: place.storage.put_parts(key, (bytes(1 << 15) for _ in range(32))),
):
    try:
        write()
    except StorageError as error:
        print(error)
import os
print(os.listdir(sys.argv[1]), place.storage.get(key).data)
"""


def test_a_full_disk(tmp_path):
    mount = 'mount -t tmpfs -o size=256k none "$0"'
    private = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        subprocess.run([*private, mount, tmp_path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    run = [*private, f'{mount} && exec "$@"', tmp_path, sys.executable, "-c", FULL, tmp_path]
    done = subprocess.run(run, check=True, capture_output=True, text=True)
    message = f"{tmp_path}/a: No space left on device\n"
    assert done.stdout == f"{message * 2}['a'] b'old'\n"


LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, 1 << 18))
"""


def test_a_limit_of_the_file_size(tmp_path):
    with child(LIMITED + FULL, str(tmp_path)) as process:
        out = process.stdout.read()
    assert out == f"{tmp_path}/a: File too large\n" * 2 + "['a'] b'old'\n"


KILLED = """
import sys, time
from xprecomputed.storage import locate_url
place = locate_url(sys.argv[1]).child("a")
def parts():
    yield bytes(100_000)
    print("half", flush=True)
    time.sleep(600)
place.storage.put_parts(place.key, parts())
"""


def test_a_process_killed_in_the_middle(local):
    local.put("a", b"old")
    with child(KILLED, local.url) as process:
        assert process.stdout.readline() == "half\n"
        process.kill()
    hidden, name = local.names()
    assert hidden.startswith(f".a.{process.pid}-")
    assert hidden.endswith(".tmp")
    assert name == "a"
    assert local.get("a") == Blob(b"old")
    assert local.listed() == [Entry("a", 3)]
    local.put("a", b"new")
    assert local.get("a") == Blob(b"new")


MANY = """
import sys
from xprecomputed.storage import locate_url
place = locate_url(sys.argv[1]).child("x/y/a")
for _ in range(40):
    place.storage.put(place.key, bytes([int(sys.argv[2])]) * 300_000)
"""


def check_while(place, alive):
    seen = set()
    while alive():
        blob = place.get("x/y/a")
        if blob is not None:
            assert len(blob.data) == 300_000
            assert len(set(blob.data)) == 1
            seen.add(blob.data[0])
    return seen


def test_processes_that_put_the_same_object(local):
    processes = [child(MANY, local.url, str(number)) for number in range(2)]
    seen = check_while(local, lambda: any(each.poll() is None for each in processes))
    for each in processes:
        each.communicate()
        assert each.returncode == 0
    assert seen <= {0, 1}
    assert local.names() == ["x/y/a"]


def test_threads_that_put_the_same_object(place):
    failed = []

    def work(number):
        try:
            for _ in range(50):
                place.put("x/y/a", bytes([number]) * 300_000)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    seen = check_while(place, lambda: any(each.is_alive() for each in threads))
    for each in threads:
        each.join()
    assert not failed
    assert seen <= {0, 1, 2, 3}
    assert place.names() == ["x/y/a"]


def test_a_folder_that_another_makes_meanwhile(local, monkeypatch):
    real = os.open

    def opened(path, *args):
        monkeypatch.setattr(os, "open", real)
        os.makedirs(f"{local.url}/x")
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "open", opened)
    local.put("x/a", b"new")
    assert local.get("x/a") == Blob(b"new")


# ---- files as others make them


def test_a_new_file_has_the_rights_of_any_other(local):
    before = os.umask(0o027)
    try:
        local.put("x/a", b"")
        local.put("x/b", b"")  # in a folder that is there
    finally:
        os.umask(before)
    for name in ("a", "b"):
        assert os.stat(f"{local.url}/x/{name}").st_mode & 0o777 == 0o640
    assert os.stat(f"{local.url}/x").st_mode & 0o777 == 0o750


def test_a_link_is_replaced_and_not_what_it_points_to(local, tmp_path):
    (tmp_path / "annexed").write_bytes(b"precious")
    local.put("b", b"")
    for name in ("a", "a.gz"):
        os.symlink(tmp_path / "annexed", f"{local.url}/{name}")
    local.put("a", b"new")
    assert local.names() == ["a", "b"]
    assert not os.path.islink(f"{local.url}/a")
    assert (tmp_path / "annexed").read_bytes() == b"precious"


def test_names_that_cannot_be_written(local):
    local.put("folder/file", b"")
    for name, match in [
        ("folder", "/v/folder: Is a directory"),
        ("folder/file/below", "/folder/file/below: Not a directory"),
        ("a" * 300, "a: File name too long"),
        ("a\0b", "embedded null"),
    ]:
        for put in (local.storage.put, local.storage.put_parts):
            with pytest.raises(StorageError, match=match):
                put(f"{local.location.key}/{name}", b"")
    assert local.names() == ["folder/file"]


@pytest.mark.parametrize(
    ("call", "does"),
    [
        ("open", lambda place: place.put("a", b"")),
        ("replace", lambda place: place.put("a", b"")),
        ("open", lambda place: place.put_parts("a", [b""])),
        ("unlink", lambda place: place.delete("a")),
        ("stat", lambda place: place.size("a")),
        ("scandir", lambda place: place.listed()),
        ("rmdir", lambda place: place.storage.delete_tree(place.key("b"))),
    ],
)
def test_denied_and_failed(local, monkeypatch, call, does):
    local.by_hand("a", b"old")
    os.makedirs(f"{local.url}/b")
    with monkeypatch.context() as patched:
        failing(patched, call, PermissionError(13, "Permission denied"))
        with pytest.raises(AccessDeniedError, match=r"/v(/a|/b|/a\.zst)?: Permission denied"):
            does(local)
        failing(patched, call, OSError(30, "Read-only file system"))
        with pytest.raises(StorageError, match=r"/v(/a|/b|/a\.zst)?: Read-only file system"):
            does(local)
    assert local.get("a") == Blob(b"old")
    assert local.names() == ["a"]


# ---- a storage that only reads


class OnlyReads(Storage):
    url = "mine://"
    is_local = False

    def get(self, key, max_bytes=None):
        return Blob(b"0123") if key == "a" else None

    def get_range(self, key, start, stop):
        return b""


def test_a_storage_that_only_reads():
    place = Location(OnlyReads(), "a")
    for write in (
        lambda storage: storage.put("a", b""),
        lambda storage: storage.put_parts("a", []),
        lambda storage: storage.delete("a"),
        lambda storage: storage.delete_tree("a"),
    ):
        with pytest.raises(StorageError, match="mine://a: this storage is read-only"):
            write(place.storage)
    with pytest.raises(StorageError, match="mine://a: this storage cannot be listed"):
        place.storage.list_dir("a")
    with pytest.raises(StorageError, match="mine://a: a part of an object can only be replaced"):
        place.storage.exclusive("a")
    assert not place.storage.has_locks
    assert (place.storage.size("a"), place.storage.size("b")) == (4, None)
