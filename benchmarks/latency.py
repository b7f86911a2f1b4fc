"""512 objects of 64 KiB behind 20 ms of latency: this package, TensorStore and the ideal.

Run it as ``python benchmarks/latency.py``; it needs tensorstore and nothing else, no network and
about ten seconds.

A server in a process of its own answers each request 20 ms after it came, without making
others wait. It speaks plain HTTP/1.1 and holds one volume of 512 raw chunks in memory. Each
reader reads the whole volume into an array, with the same number of requests in flight; the best
of three runs counts, all in the same minute on the same server. ``ideal`` is what the latency
alone costs: ``ceil(512 / in_flight)`` times 20 ms. ``plain`` is a client that only throws the bytes
away, so what the server itself can do; where it is far from the ideal, the server is the limit
(``--latency-ms 0`` shows that limit).

Options: ``--in-flight 16 64``, ``--latency-ms 20``, ``--runs 3``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

CHUNK = (32, 32, 64)  # x, y, z: 64 KiB of uint8
CHUNKS = (8, 8, 8)
SIZE = tuple(c * n for c, n in zip(CHUNK, CHUNKS, strict=True))
COUNT = math.prod(CHUNKS)


def names() -> list[str]:
    """The paths of all chunks."""
    found = []
    for cell in np.ndindex(CHUNKS):
        spans = [(i * c, (i + 1) * c) for i, c in zip(cell, CHUNK, strict=True)]
        found.append("/v/8_8_8/" + "_".join(f"{start}-{stop}" for start, stop in spans))
    return found


def volume() -> dict[str, bytes]:
    """All objects of the volume, by path."""
    scale = {
        "key": "8_8_8", "size": SIZE, "voxel_offset": [0, 0, 0], "resolution": [8, 8, 8],
        "chunk_sizes": [CHUNK], "encoding": "raw",
    }  # fmt: skip
    info = {
        "@type": "neuroglancer_multiscale_volume", "type": "image", "data_type": "uint8",
        "num_channels": 1, "scales": [scale],
    }  # fmt: skip
    objects = {"/v/info": json.dumps(info).encode()}
    random = np.random.default_rng(0)
    return objects | {path: random.bytes(math.prod(CHUNK)) for path in names()}


class Answering(asyncio.Protocol):
    """One connection to the server; requests come one after another."""

    def __init__(self, replies: dict[bytes, bytes], latency_s: float) -> None:
        self._replies, self._latency_s, self._held = replies, latency_s, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers are written to."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Answer each whole request after the latency."""
        self._held += data
        while b"\r\n\r\n" in self._held:
            head, _, self._held = self._held.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            reply = self._replies.get(path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            if self._latency_s:
                asyncio.get_running_loop().call_later(self._latency_s, self._transport.write, reply)
            else:
                self._transport.write(reply)


def serve(pipe: Connection, latency_s: float) -> None:
    """Be the server, for ever."""
    replies = {
        path.encode(): b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
        b'ETag: "1"\r\nContent-Length: %d\r\n\r\n%b' % (len(data), data)
        for path, data in volume().items()
    }

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Answering(replies, latency_s), "127.0.0.1", 0, backlog=512
        )
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def server(latency_s: float) -> Iterator[int]:
    """Port of a server in another process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, latency_s), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()


def plain(port: int, in_flight: int) -> None:
    """Ask for all chunks and look at nothing but the number of bytes."""
    paths = names()

    async def one(mine: list[str]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        for path in mine:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(math.prod(CHUNK))
        writer.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(one(paths[first::in_flight]) for first in range(in_flight)))

    asyncio.run(all_of_them())


def ours(port: int, in_flight: int) -> Any:
    """Read the volume with this package."""
    import xprecomputed as xp

    with xp.set_options(requests_in_flight=in_flight):
        store = xp.open_store(f"http://127.0.0.1:{port}/v")
        return store.read(store.mips[0].bounds)[0]


def theirs(port: int, in_flight: int) -> Any:
    """Read the volume with TensorStore."""
    import tensorstore

    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "http", "base_url": f"http://127.0.0.1:{port}", "path": "/v/"},
        "context": {"http_request_concurrency": {"limit": in_flight}},
    }
    return tensorstore.open(spec, read=True).result().read().result()[..., 0].T


def best(
    read: Callable[[int, int], Any], port: int, in_flight: int, runs: int
) -> tuple[float, float]:
    """Wall-clock and processor seconds of this process, of the fastest run."""
    read(port, in_flight)  # imports, connections, first compilations
    times = []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), _processor_s()
        read(port, in_flight)
        times.append((time.perf_counter() - wall, _processor_s() - cpu))
    return min(times)


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--in-flight", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{COUNT} objects of 64 KiB, {arguments.latency_ms:g} ms, best of {arguments.runs}")
    print(f"{'in flight':>9}  {'reader':<13}{'ms':>7}{'of ideal':>10}{'CPU ms':>8}")
    with server(arguments.latency_ms / 1000) as port:
        assert np.array_equal(ours(port, 16), theirs(port, 16))
        for in_flight in arguments.in_flight:
            ideal = math.ceil(COUNT / in_flight) * arguments.latency_ms
            print(f"{in_flight:>9}  {'ideal':<13}{ideal:>7.0f}{1:>10.2f}")
            for name, read in (("plain", plain), ("xprecomputed", ours), ("tensorstore", theirs)):
                wall, cpu = best(read, port, in_flight, arguments.runs)
                ratio = wall * 1000 / ideal if ideal else math.nan
                print(f"{'':>9}  {name:<13}{wall * 1000:>7.0f}{ratio:>10.2f}{cpu * 1000:>8.0f}")


if __name__ == "__main__":
    main()
