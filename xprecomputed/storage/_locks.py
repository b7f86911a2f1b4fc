"""One holder at a time, among threads and processes.

A local lock is the kernel's, on a file beside the object: a process that dies lets go of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakValueDictionary

from xprecomputed.storage._files import create, explained

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["HAS_FILE_LOCKS", "file_lock", "memory_lock"]

HAS_FILE_LOCKS = fcntl is not None

#: Handles of the lock files that this process has open.
_open_handles: set[int] = set()


@contextmanager
def file_lock(path: str) -> Iterator[None]:
    """Hold the lock of the file `path`; others wait. One thread cannot take it twice.

    The lock file ``.NAME.lock`` exists while somebody holds it or waits; that of a process
    that died stays until the next holder removes it.

    Raises
    ------
    AccessDeniedError, StorageError
        The lock file cannot be made.
    """
    folder, name = os.path.split(path)
    lock = os.path.join(folder, f".{name}.lock")
    with explained(lock):
        handle = _acquire(lock)
    owner = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == owner:  # a child forked in the block holds nothing
            # removed before it is let go: who has waited sees that, and makes a new one
            with suppress(OSError):
                if _lies_at(handle, lock):
                    os.unlink(lock)
            _close(handle)


def _acquire(lock: str) -> int:
    while True:
        handle = create(lock, os.O_RDWR)
        _open_handles.add(handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _lies_at(handle, lock):
                return handle
        except BaseException:
            _close(handle)
            raise
        _close(handle)  # the holder before has removed the file


def _lies_at(handle: int, lock: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(lock))
    except FileNotFoundError:
        return False


def _close(handle: int) -> None:
    _open_handles.discard(handle)
    # by closing alone it stays locked while a child of a fork or exec has the handle
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)


_memory_locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
_guard = threading.Lock()


@contextmanager
def memory_lock(name: str) -> Iterator[None]:
    """Hold the lock `name` of this process; other threads wait."""
    with _guard:
        lock = _memory_locks.get(name)
        if lock is None:
            lock = _memory_locks[name] = threading.Lock()
    with lock:
        yield


def _forget_after_fork() -> None:
    # the child holds no lock: its copies of the handles would keep those of a parent that dies
    global _memory_locks, _guard
    for handle in _open_handles:
        with suppress(OSError):
            os.close(handle)
    _open_handles.clear()
    _memory_locks, _guard = WeakValueDictionary(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
