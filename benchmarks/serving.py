"""A web server of objects in memory, in a process of its own, that answers late and counts.

It is S3 enough for reading: the first folder is the bucket.
"""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import re
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

COUNT = "/-/count"
NO_SUCH_KEY = b"<Error><Code>NoSuchKey</Code></Error>"
RANGE = re.compile(rb"\r\nrange: *bytes=(\d+)-(\d+)", re.IGNORECASE)
#: Bytes, and the hash of them.
Object: TypeAlias = tuple[bytes, bytes]


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


class _Answering(asyncio.Protocol):
    """One connection to the server; requests come one after another."""

    counted = 0

    def __init__(self, objects: Mapping[bytes, Object], latency_s: float) -> None:
        self._objects, self._latency_s, self._held = objects, latency_s, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers are written to."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Answer each whole request after the latency."""
        self._held += data
        while b"\r\n\r\n" in self._held:
            head, _, self._held = self._held.partition(b"\r\n\r\n")
            reply = self._reply(head)
            if self._latency_s:
                asyncio.get_running_loop().call_later(self._latency_s, self._transport.write, reply)
            else:
                self._transport.write(reply)

    def _reply(self, head: bytes) -> bytes:
        method, path, _ = head.split(b" ", 2)
        if path == COUNT.encode():
            said = b"%d" % _Answering.counted
            _Answering.counted = 0
            return _answer(b"200 OK", said)
        _Answering.counted += 1
        found = self._objects.get(path.partition(b"?")[0])  # clients of S3 add what they do
        if found is None:
            return _answer(b"404 Not Found", NO_SUCH_KEY, with_body=method != b"HEAD")
        data, tag = found
        status, span = b"200 OK", b'ETag: "%b"\r\n' % tag
        if asked := RANGE.search(head):
            start, stop = int(asked[1]), min(int(asked[2]) + 1, len(data))
            status = b"206 Partial Content"
            span += b"Content-Range: bytes %d-%d/%d\r\n" % (start, stop - 1, len(data))
            data = data[start:stop]
        return _answer(status, data, span, with_body=method != b"HEAD")


def _answer(status: bytes, data: bytes, more: bytes = b"", *, with_body: bool = True) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/octet-stream\r\n" % status
    head += b"Accept-Ranges: bytes\r\n%bContent-Length: %d\r\n\r\n" % (more, len(data))
    return head + data if with_body else head


def _serve(pipe: Connection, latency_s: float) -> None:
    """Be the server, for ever."""
    # CloudVolume checks that what it got from S3 has this hash
    objects = {
        path.encode(): (data, hashlib.md5(data).hexdigest().encode())
        for path, data in pipe.recv().items()
    }

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: _Answering(objects, latency_s), "127.0.0.1", 0, backlog=512
        )
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


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
