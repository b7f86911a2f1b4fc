"""A web server of objects in memory, in a process of its own, that answers late and counts.

It is S3 enough for reading: the first folder is the bucket.
"""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import re
import select
import selectors
import socket
import time
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

COUNT = "/-/count"
NO_SUCH_KEY = b"<Error><Code>NoSuchKey</Code></Error>"
RANGE = re.compile(rb"\r\nrange: *bytes=(\d+)-(\d+)", re.IGNORECASE)
END = b"\r\n\r\n"
#: An answer of this many bytes leaves in one call.
SENT_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Address:
    """Where the server listens."""

    port: int

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def count(self) -> int:
        """How many requests were answered since this was asked the last time."""
        with urllib.request.urlopen(self.url + COUNT) as answer:
            return int(answer.read())


class _Exact(selectors.EpollSelector):
    """Wakes up in time: epoll alone counts in milliseconds, and rounds them up."""

    woke_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait by another call, and look here at what has come."""
        if timeout is not None and timeout > 0:
            select.select((self,), (), (), timeout)
            timeout = 0
        found = super().select(timeout)
        self.woke_s = time.monotonic()  # the clock of the loop
        return found


class _Object:
    """What is answered, made before anybody asks."""

    def __init__(self, data: bytes) -> None:
        # CloudVolume checks that what it got from S3 has this hash
        self.tag = b'ETag: "%b"\r\n' % hashlib.md5(data).hexdigest().encode()
        self.answer = _answer(b"200 OK", data, self.tag)
        self.data = memoryview(self.answer)[len(self.answer) - len(data) :]

    def part(self, start: int, stop: int) -> bytes:
        """The answer to a request for a range."""
        data = self.data[start:stop]
        told = b"Content-Range: bytes %d-%d/%d\r\n" % (start, start + len(data) - 1, len(self.data))
        return _answer(b"206 Partial Content", data, self.tag + told)


class _Late:
    """What is written after the latency: the same for all, so first come, first served.

    The clock of a request runs while others that came with it are read: what the server needs for
    them is not added.
    """

    def __init__(self, latency_s: float, clock: _Exact) -> None:
        self._latency_s, self._clock = latency_s, clock
        self._due: deque[tuple[float, Any, bytes]] = deque()
        self._loop = asyncio.get_running_loop()

    def write(self, transport: Any, reply: bytes) -> None:
        """Write, but later."""
        if not self._latency_s:
            transport.write(reply)
            return
        when = self._clock.woke_s + self._latency_s
        if not self._due:
            self._loop.call_at(when, self._write_first)
        self._due.append((when, transport, reply))

    def _write_first(self) -> None:
        # one, and then a look at what has come meanwhile, whose clock would begin later else
        if self._due[0][0] <= self._loop.time():
            _, transport, reply = self._due.popleft()
            transport.write(reply)
        if self._due:
            self._loop.call_at(self._due[0][0], self._write_first)


class _Answering(asyncio.Protocol):
    """One connection to the server; requests come one after another."""

    counted = 0

    def __init__(self, objects: Mapping[bytes, _Object], late: _Late) -> None:
        self._objects, self._late, self._held = objects, late, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers are written to."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each whole request after the latency."""
        *heads, self._held = (self._held + data).split(END)
        for head in heads:
            self._late.write(self._transport, self._reply(head))

    def _reply(self, head: bytes) -> bytes:
        method, path, _ = head.split(b" ", 2)
        if path == COUNT.encode():
            said = b"%d" % _Answering.counted
            _Answering.counted = 0
            return _answer(b"200 OK", said)
        _Answering.counted += 1
        found = self._objects.get(path) or self._objects.get(path.partition(b"?")[0])
        if found is None:  # without what clients of S3 add, too
            reply = _answer(b"404 Not Found", NO_SUCH_KEY)
        elif asked := RANGE.search(head):
            reply = found.part(int(asked[1]), int(asked[2]) + 1)
        else:
            reply = found.answer
        return reply[: reply.index(END) + len(END)] if method == b"HEAD" else reply


def _answer(status: bytes, data: bytes | memoryview, more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/octet-stream\r\n" % status
    head += b"Accept-Ranges: bytes\r\n%bContent-Length: %d" % (more, len(data))
    return b"".join((head, END, data))


def _serve(pipe: Connection, latency_s: float) -> None:
    """Be the server, for ever."""
    clock = _Exact()
    objects = {path.encode(): _Object(data) for path, data in pipe.recv().items()}

    async def run() -> None:
        late = _Late(latency_s, clock)
        listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        # whoever is accepted has it from here
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_AT_ONCE)
        server = await asyncio.get_running_loop().create_server(
            lambda: _Answering(objects, late), sock=listening
        )
        pipe.send(listening.getsockname()[1])
        await server.serve_forever()

    asyncio.SelectorEventLoop(clock).run_until_complete(run())


@contextmanager
def serving(objects: Mapping[str, bytes], latency_s: float = 0) -> Iterator[Address]:
    """Serve objects by path; each answer comes `latency_s` after its request."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, latency_s), daemon=True)
    process.start()
    try:
        here.send(dict(objects))
        yield Address(here.recv())
    finally:
        process.kill()
        process.join()


def folder(path: Path) -> dict[str, bytes]:
    """All files below a folder, as `serving` takes them."""
    return {
        f"/{file.relative_to(path).as_posix()}": file.read_bytes()
        for file in path.rglob("*")
        if file.is_file()
    }
