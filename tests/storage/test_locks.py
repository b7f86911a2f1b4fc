"""One writer at a time: threads, processes, those that are killed and those that fork."""

import os
import threading
import time

import pytest

from tests.storage.places import Place, child, failing
from xprecomputed import AccessDeniedError, StorageError
from xprecomputed.storage import FsspecStorage, _locks
from xprecomputed.storage import local as local_module

COUNT = """
import sys
from xprecomputed.storage import locate_url
place = locate_url(sys.argv[1]).child("x/count")
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    with place.storage.exclusive(place.key):
        blob = place.storage.get(place.key)
        place.storage.put(place.key, str(int(blob.data) + 1 if blob else 1).encode())
"""


@pytest.fixture(autouse=True)
def no_lock_is_left():
    yield
    for _ in range(1000):  # threads that have waited may be about to leave
        if not _locks._open_handles:
            return
        time.sleep(0.01)
    raise AssertionError(f"handles {_locks._open_handles} are open")


def start(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_processes_lose_no_increment(local):
    processes = [child(COUNT, local.url, "100") for _ in range(3)]
    for each in processes:
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        start(each)
    for each in processes:
        with each:
            pass
        assert each.returncode == 0
    assert local.get("x/count").data == b"300"
    assert local.names() == ["x/count"]  # and no lock file


def test_threads_lose_no_increment(place):
    failed = []

    def work():
        try:
            for _ in range(200):
                with place.storage.exclusive(place.key("x/count")):
                    blob = place.get("x/count")
                    place.put("x/count", str(int(blob.data) + 1 if blob else 1).encode())
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failed
    assert place.get("x/count").data == b"800"
    assert place.names() == ["x/count"]
    assert place.storage.has_locks


def waits(place, name):
    """Whether another thread would have to wait for a lock."""
    entered = threading.Event()

    def enter():
        with place.storage.exclusive(place.key(name)):
            entered.set()

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    return not entered.wait(0.3)


def test_others_wait_for_the_same_key_only(place):
    with place.storage.exclusive(place.key("a")):
        place.put("a", b"")  # which asks for no lock
        assert not waits(place, "b")
        assert waits(place, "a")


def test_an_error_in_the_block_lets_go(place):
    with pytest.raises(OSError, match="of the caller"), place.storage.exclusive(place.key("a")):
        raise OSError("of the caller")
    assert place.names() == []
    assert not waits(place, "a")


def test_the_lock_file_is_hidden_and_one(local):
    with local.storage.exclusive(local.key("x/a")):
        assert local.names() == ["x/.a.lock"]
        assert local.listed("x") == []


HOLD = """
import sys
from xprecomputed.storage import locate_url
place = locate_url(sys.argv[1]).child("a")
with place.storage.exclusive(place.key):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_killed_holder_blocks_nobody(local):
    with child(HOLD, local.url) as process:
        assert process.stdout.readline() == "held\n"
        assert waits(local, "a")
        process.kill()
    assert not waits(local, "a")
    with local.storage.exclusive(local.key("a")):
        assert local.names() == [".a.lock"]
    assert local.names() == []


FORKING = """
import os, sys, warnings
from xprecomputed.storage import locate_url
warnings.simplefilter("ignore")  # that forking with threads (of BLAS) may go wrong
place = locate_url(sys.argv[1]).child("a")
with place.storage.exclusive(place.key):
    child = os.fork()
    if child:
        print(child, flush=True)
        sys.stdin.readline()
# the child has left the block, and lives on
if not child:
    os.close(1)
    sys.stdin.readline()
"""


def test_a_forked_child_neither_holds_nor_lets_go(local):
    """Its copy of the handle must not keep the lock of a parent that dies."""
    with child(FORKING, local.url) as process:
        forked = int(process.stdout.readline())
        assert waits(local, "a")
        assert local.names() == [".a.lock"]
        process.kill()
        process.wait()
        os.kill(forked, 0)  # is alive
        assert not waits(local, "a")


def test_a_copy_of_the_handle_keeps_nobody_waiting(local):
    """As a child has between its fork and its exec."""
    entered = threading.Event()

    def wait():
        with local.storage.exclusive(local.key("a")):
            entered.set()

    waiter = threading.Thread(target=wait, daemon=True)
    with local.storage.exclusive(local.key("a")):
        copy = os.dup(*_locks._open_handles)
        waiter.start()
        assert not entered.wait(0.3)
    assert entered.wait(10)
    os.close(copy)


FORKED_THREAD = """
import os, threading, warnings
from xprecomputed.storage import locate_url
warnings.simplefilter("ignore")  # that forking with threads may go wrong
place = locate_url("memory://v/a")
held, leave = threading.Event(), threading.Event()
def hold():
    with place.storage.exclusive(place.key):
        held.set()
        leave.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if not child:
    with place.storage.exclusive(place.key):
        os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
leave.set()
thread.join()
"""


def test_locks_in_memory_are_forgotten_after_a_fork():
    with child(FORKED_THREAD) as process:
        assert process.stdout.read() == "7\n"


def test_a_lock_in_memory_is_one_however_it_is_spelled():
    with Place("memory://").storage.exclusive("spelled/a"):
        assert waits(Place("memory://spelled"), "a")
        assert waits(Place("memory:///spelled"), "a")


def test_locks_in_memory_are_dropped_with_their_last_holder():
    place = Place("memory://dropped")
    with place.storage.exclusive(place.key("a")):
        assert "dropped/a" in _locks._memory_locks
    assert "dropped/a" not in _locks._memory_locks


def test_a_lock_that_lost_its_file_leaves_that_of_another(local):
    """Who deletes the folder breaks the lock; it must not break the next one too."""
    first = local.storage.exclusive(local.key("a"))
    first.__enter__()
    local.storage.delete_tree(local.location.key)
    with local.storage.exclusive(local.key("a")):
        first.__exit__(None, None, None)
        assert local.names() == [".a.lock"]
        assert waits(local, "a")
    assert not waits(local, "a")


def test_a_waiter_takes_no_file_that_was_removed(local, monkeypatch):
    """Between its opening and its locking the holder goes, and a third one comes."""
    real, third = _locks.fcntl.flock, []

    def flock(handle, how):
        if not third and how == _locks.fcntl.LOCK_EX:
            third.append(local.storage.exclusive(local.key("a")))
            os.unlink(f"{local.url}/.a.lock")
            third[0].__enter__()
            threading.Timer(0.2, third[0].__exit__, (None, None, None)).start()
        real(handle, how)

    monkeypatch.setattr(_locks.fcntl, "flock", flock)
    with local.storage.exclusive(local.key("a")):
        assert local.names() == [".a.lock"]
        assert waits(local, "a")


def test_a_lock_that_fails(local, monkeypatch):
    def refuse(handle, how):
        raise OSError(37, "No locks available")

    failing(monkeypatch, "open", PermissionError(13, "Permission denied"))
    with (
        pytest.raises(AccessDeniedError, match=r"/v/.a.lock: Permission denied"),
        local.storage.exclusive(local.key("a")),
    ):
        pass
    handles = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
    with monkeypatch.context() as patched:
        patched.setattr(_locks.fcntl, "flock", refuse)
        with (
            pytest.raises(StorageError, match=r"/v/.a.lock: No locks available"),
            local.storage.exclusive(local.key("a")),
        ):
            pass
    if handles:
        assert len(os.listdir("/proc/self/fd")) == len(handles)
    assert not _locks._open_handles


def test_where_writers_cannot_be_kept_apart(local, monkeypatch):
    match = "a: a part of an object can only be replaced where writers can be kept apart: local"
    for storage in (
        FsspecStorage("gs://b/", "gs://b/", "b/"),
        FsspecStorage("simplecache::memory://", "simplecache::memory://", "/"),
    ):
        assert not storage.has_locks
        with pytest.raises(StorageError, match=match):
            storage.exclusive("a")
    monkeypatch.setattr(local_module, "HAS_FILE_LOCKS", False)  # Windows
    assert not local.storage.has_locks
    with pytest.raises(StorageError, match=match):
        local.storage.exclusive(local.key("a"))
