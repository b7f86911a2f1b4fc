"""Running a library that can crash in a helper process: its death is an error here.

The helper is a plain subprocess, which works inside the daemonic workers of multiprocessing
and distributed too. One runs per simultaneous call, so calls run side by side although the
libraries hold the GIL; idle ones are used again.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from xprecomputed.codecs import _worker
from xprecomputed.codecs.base import Array, Bytes, ChunkSpec
from xprecomputed.errors import (
    CorruptDataError,
    MissingDependencyError,
    StorageError,
    UnsupportedEncodingError,
)

__all__ = ["decode", "encode", "run"]

#: A call may take so long, and a second more for each megabyte: the slowest library needs a
#: tenth of that. Beyond it the stream has hung its decoder.
SECONDS = 30.0
BYTES_PER_SECOND = 1e6

#: How a process ends that hostile bytes have got the better of. Other ends (SIGKILL when memory
#: is short, SIGTERM) say nothing about the bytes.
CRASHES = tuple(
    -getattr(signal, name)
    for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE")
    if hasattr(signal, name)
)
WINDOWS_CRASH = 0xC0000000  # the exit codes of its exceptions begin there

_Helper = subprocess.Popen[bytes]
_idle: list[_Helper] = []
_all: set[_Helper] = set()
_lock = threading.Lock()


class _Ended(Exception):  # noqa: N818 - not an error that leaves this module
    """The helper went away before it had answered."""


def run(
    job: str, data: Bytes, options: Mapping[str, Any], nbytes: int, most: int, install: str
) -> Array:
    """Do one of ``_worker.JOBS`` in a helper process.

    Parameters
    ----------
    job : str
        Such as ``"decode fpzip"``.
    data : bytes
    options : dict
        Of the job, ready for JSON.
    nbytes : int
        Bytes of the decoded chunk; the memory and the time that are granted grow with them.
    most : int
        The longest answer that is taken.
    install : str
        What to paste where the package is absent.

    Returns
    -------
    ndarray of uint8, shape (length,)
        The answer; nobody else refers to it.

    Raises
    ------
    CorruptDataError
        The library failed, crashed or hung, or its answer is too long.
    MissingDependencyError
        The package is absent.
    StorageError
        Helper processes cannot run here.
    """
    seconds = SECONDS + nbytes / BYTES_PER_SECOND
    request = _request(job, options, nbytes, len(data))
    for _ in range(2):  # once more where somebody else has ended the helper
        helper = _take()
        with _watched(helper, seconds) as hung:
            try:
                status, answer = _ask(helper, request, data, most)
            except _Ended:
                code = _end(helper, patience=1)
            except BaseException:
                _end(helper)
                raise
            else:
                _give_back(helper)
                if status != _worker.DIED:
                    return _checked(job, status, answer, install)
                code = int(answer.tobytes())
        if hung.is_set():
            raise CorruptDataError(f"{job}: the stream kept the decoder busy for {seconds:.0f} s")
        if code in CRASHES or code >= WINDOWS_CRASH:
            raise CorruptDataError(f"{job}: the stream crashed the decoder (exit code {code})")
    raise StorageError(f"{job}: the helper process ended twice (exit code {code})")


def decode(encoding: str, data: Bytes, chunk: ChunkSpec, install: str) -> Array:
    """Decode a chunk in a helper process.

    Parameters
    ----------
    encoding : str
        There is a job ``decode <encoding>``, which answers in the order x, y, z, channel.
    install : str
        What to paste where the package is absent.

    Returns
    -------
    ndarray of ``chunk.dtype``, shape ``chunk.shape``, axes (channel, z, y, x)
        Writable.

    Raises
    ------
    CorruptDataError
        As `run` does, and where the answer has another length.
    MissingDependencyError, StorageError
        As `run` does.
    """
    flat = run(f"decode {encoding}", data, {}, chunk.nbytes, chunk.nbytes, install)
    if flat.nbytes != chunk.nbytes:
        raise CorruptDataError(
            f"{encoding} stream of {flat.nbytes} decoded bytes, expected {chunk.nbytes}"
        )
    return flat.view(chunk.dtype).reshape(chunk.shape)


def encode(
    encoding: str,
    plain: Array,
    options: Mapping[str, Any],
    most: int,
    install: str,
    about: str = "",
    cure: str = "",
) -> bytes:
    """Encode a chunk in a helper process.

    Parameters
    ----------
    encoding : str
        There is a job ``encode <encoding>``.
    plain : ndarray
        Contiguous.
    options, most, install
        As `run` takes them.
    about, cure : str
        What the message says of the chunk, and at its end, where the package fails.

    Raises
    ------
    UnsupportedEncodingError
        The package failed, crashed or hung.
    MissingDependencyError, StorageError
        As `run` does.
    """
    data = plain.data.cast("B")
    try:
        encoded = run(f"encode {encoding}", data, options, plain.nbytes, most, install)
    except CorruptDataError as error:
        raise UnsupportedEncodingError(
            f"the {encoding} package fails on this chunk{about}: {error}{cure}"
        ) from None
    return encoded.tobytes()


def _request(job: str, options: Mapping[str, Any], nbytes: int, length: int) -> bytes:
    name, arguments = job.encode(), json.dumps(options).encode()
    head = _worker.REQUEST.pack(len(name), len(arguments), nbytes, length)
    return head + name + arguments


def _checked(job: str, status: int, answer: Array, install: str) -> Array:
    if status == _worker.DONE:
        return answer
    message = answer.tobytes().decode(errors="replace")
    if status == _worker.ABSENT:
        package = _worker.JOBS[job][0]
        raise MissingDependencyError(
            f"{job}: the package {package!r} cannot be imported ({message}).\n{install}"
        )
    raise CorruptDataError(f"{job}: {message}")


@contextlib.contextmanager
def _watched(helper: _Helper, seconds: float) -> Any:
    """End `helper` after `seconds`; the event says whether that was necessary."""
    hung = threading.Event()

    def end() -> None:
        hung.set()
        _kill(helper)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield hung
    finally:
        timer.cancel()


def _ask(helper: _Helper, request: bytes, data: Bytes, most: int) -> tuple[int, Array]:
    if helper.stdin is None or helper.stdout is None:  # pragma: no cover - opened as pipes
        raise _Ended
    for block in (request, data):
        _write(helper.stdin, memoryview(block))
    head = _read(helper.stdout, _worker.ANSWER.size).tobytes()
    status, length = _worker.ANSWER.unpack(head)
    if length > (most if status == _worker.DONE else 1 << 16):
        raise CorruptDataError(
            f"the answer to a request has {length} bytes, at most {most} are taken"
        )
    return status, _read(helper.stdout, length)


def _write(pipe: IO[bytes], left: memoryview) -> None:
    try:
        while left:
            left = left[pipe.write(left) :]
    except OSError:
        raise _Ended from None


def _read(pipe: Any, count: int) -> Array:
    answer = np.empty(count, np.uint8)
    left = answer.data
    while left:
        received = pipe.readinto(left)
        if not received:
            raise _Ended
        left = left[received:]
    return answer


def _take() -> _Helper:
    with _lock:
        while _idle:
            helper = _idle.pop()
            if helper.poll() is None:
                return helper
            _end(helper)
    if not sys.executable:  # an embedded interpreter
        raise StorageError("sys.executable is empty: no helper process can be started")
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        # -P: the worker's own folder must not shadow modules of the same names
        helper = subprocess.Popen(
            [sys.executable, "-P", str(Path(_worker.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a group of its own, ended as one
            bufsize=0,  # nothing that a forked child could flush
            env=os.environ | single,  # it needs no pools of threads
        )
    except OSError as error:
        raise StorageError(f"{sys.executable}: no helper process can be started: {error}") from None
    with _lock:
        _all.add(helper)
    _widen(helper)
    return helper


def _widen(helper: _Helper) -> None:
    """Pipes of a megabyte: a chunk goes through with fewer changes of process."""
    if sys.platform != "linux":
        return
    import fcntl

    for pipe in (helper.stdin, helper.stdout):
        with contextlib.suppress(OSError):  # a user may have so many wide pipes, and no more
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)  # type: ignore[arg-type]


def _give_back(helper: _Helper) -> None:
    with _lock:
        if len(_idle) < (os.cpu_count() or 1):
            _idle.append(helper)
            return
    _end(helper)


def _close_pipes(helper: _Helper) -> None:
    for pipe in (helper.stdin, helper.stdout):
        if pipe is not None:
            pipe.close()


def _kill(helper: _Helper) -> None:
    """End the helper and the child that does its work."""
    if hasattr(os, "killpg") and helper.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(helper.pid, signal.SIGKILL)
    helper.kill()


def _end(helper: _Helper, patience: float = 0) -> int:
    """End a helper that may be dying by itself; its exit code."""
    try:
        code = helper.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        _kill(helper)
        code = helper.wait()
    _all.discard(helper)
    _close_pipes(helper)
    return code


@atexit.register
def _close_all() -> None:
    with _lock:
        idle = list(_idle)
        _idle.clear()
    for helper in idle:
        _end(helper)


def _forget_after_fork() -> None:
    # the child must not talk over its parent's pipes, nor keep them open
    global _idle, _all, _lock
    _lock = threading.Lock()
    helpers, _idle, _all = _all, [], set()
    for helper in helpers:
        _close_pipes(helper)
        helper.returncode = 0  # somebody else's process: nothing to wait for


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
