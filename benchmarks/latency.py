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
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.serving import serving

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
    with serving(volume(), arguments.latency_ms / 1000) as server:
        port = server.port
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
