"""Running a decoder that can crash in a helper process: its death is an error here.

The helper is a plain subprocess, which works inside the daemonic workers of multiprocessing
and distributed too. One runs per simultaneous call, and idle ones are used again.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

from xprecomputed.codecs._optional import optional
from xprecomputed.errors import CorruptDataError, MissingDependencyError

__all__ = ["decode"]

SECONDS = 120.0  # a chunk takes well under a second; beyond this the stream has hung the decoder
LENGTH = struct.Struct("<Q")

_idle: list[subprocess.Popen[bytes]] = []
_lock = threading.Lock()


def decode(package: str, purpose: str, install: str, data: bytes, nbytes: int) -> bytes:
    """Decode `data` with the ``decompress`` of `package`, to exactly `nbytes` F-ordered bytes.

    Raises
    ------
    CorruptDataError
        The decoder failed, crashed, hung or gave another amount.
    MissingDependencyError
        `package` is absent; the message holds `install`.
    """
    try:
        optional(package, purpose)
    except MissingDependencyError as error:
        raise MissingDependencyError(f"{purpose}: no decoder is installed.\n{install}") from error
    helper = _take()
    timer = threading.Timer(SECONDS, helper.kill)
    timer.start()
    try:
        ok, answer = _ask(helper, package, data, nbytes)
    except (OSError, EOFError):
        code = _end(helper)
        raise CorruptDataError(
            f"{package} stream that crashed or hung its decoder (exit {code} of a helper process)"
        ) from None
    except BaseException:
        _end(helper)
        raise
    finally:
        timer.cancel()
    _give_back(helper)
    if not ok:
        raise CorruptDataError(f"{package} stream: {answer.decode(errors='replace')}")
    if len(answer) != nbytes:
        raise CorruptDataError(f"{package} stream of {len(answer)} bytes, expected {nbytes}")
    return answer


def _ask(
    helper: subprocess.Popen[bytes], package: str, data: bytes, nbytes: int
) -> tuple[bool, bytes]:
    if helper.stdin is None or helper.stdout is None:  # pragma: no cover - opened as pipes
        raise EOFError
    name = package.encode()
    head = LENGTH.pack(len(name)) + name + LENGTH.pack(nbytes) + LENGTH.pack(len(data))
    helper.stdin.write(head + data)
    helper.stdin.flush()
    status = helper.stdout.read(1)
    length = helper.stdout.read(LENGTH.size)
    if len(length) < LENGTH.size:
        raise EOFError
    answer = helper.stdout.read(LENGTH.unpack(length)[0])
    if len(answer) < LENGTH.unpack(length)[0]:
        raise EOFError
    return status == b"\0", answer


def _take() -> subprocess.Popen[bytes]:
    with _lock:
        while _idle:
            helper = _idle.pop()
            if helper.poll() is None:
                return helper
    worker = Path(__file__).with_name("_worker.py")
    # -P: the worker's own folder must not shadow modules of the same names
    return subprocess.Popen(
        [sys.executable, "-P", str(worker)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _give_back(helper: subprocess.Popen[bytes]) -> None:
    with _lock:
        _idle.append(helper)


def _close_pipes(helper: subprocess.Popen[bytes]) -> None:
    for pipe in (helper.stdin, helper.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what is left in it cannot be flushed
                pipe.close()


def _end(helper: subprocess.Popen[bytes]) -> int:
    helper.kill()
    _close_pipes(helper)
    return helper.wait()


@atexit.register
def _close_all() -> None:
    with _lock:
        while _idle:
            _end(_idle.pop())


def _forget_after_fork() -> None:
    # the child must not talk over its parent's pipes
    global _idle, _lock
    _lock = threading.Lock()
    for helper in _idle:
        _close_pipes(helper)
        helper.returncode = 0  # somebody else's process: nothing to wait for
    _idle = []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
