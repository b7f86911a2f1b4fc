"""512 objects of 64 KiB behind 20 ms of latency, over HTTP and S3.

With 16 requests in flight, and with as many as each has by default. The limit is what latency
alone costs. ``server`` is a client that throws the bytes away: what the server itself can do.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

import xprecomputed as xp
from benchmarks import peers
from benchmarks.rows import LIMIT, OURS, Contender, Operation, Place, Row, Target, checksum
from benchmarks.serving import END
from benchmarks.shapes import CHUNK_SIZE, CHUNKS, REMOTE

LATENCY_S = 0.02
COUNT, NBYTES = math.prod(CHUNKS), math.prod(CHUNKS) * math.prod(CHUNK_SIZE)


def _base(place: Place) -> str:
    return f"http://127.0.0.1:{place.port}"


def ours(protocol: str, in_flight: int | None) -> Contender:
    """A store, read whole."""

    def prepare(place: Place) -> Operation:
        if in_flight:
            xp.set_options(requests_in_flight=in_flight)
        url = f"{_base(place)}/bucket/layer"
        store = (
            xp.open_store(f"s3+{url}", storage_options={"anon": True})
            if protocol == "S3"
            else xp.open_store(url)
        )
        return lambda: store.read(store.mips[0].bounds)

    return prepare


def tensorstore(protocol: str, in_flight: int | None) -> Contender:
    """A store, read whole."""

    def prepare(place: Place) -> Operation:
        kvstore: dict[str, Any] = (
            {
                "driver": "s3",
                "endpoint": _base(place),
                "bucket": "bucket",
                "path": "layer/",
                "aws_region": "us-east-1",
                "aws_credentials": {"type": "anonymous"},
            }
            if protocol == "S3"
            else {"driver": "http", "base_url": _base(place), "path": "/bucket/layer/"}
        )
        name = f"{protocol.lower()}_request_concurrency"
        context = {name: {"limit": in_flight}} if in_flight else {}
        store = peers.tensorstore(kvstore, context=context)
        return lambda: store.read(order="F").result().T

    return prepare


def cloudvolume(protocol: str, in_flight: int | None) -> Contender:
    """A volume, read whole."""

    def prepare(place: Place) -> Operation:
        from cloudfiles import paths
        from cloudvolume.datasource.precomputed.image import rx

        if in_flight:
            rx.DEFAULT_THREADS = in_flight  # there is no other way to tell it
        url = f"{_base(place)}/bucket/layer"
        if protocol == "S3":
            keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
            os.environ.update(dict.fromkeys(keys, "nobody"))
            paths.add_alias("here", f"s3://{_base(place)}/")
            url = "here://bucket/layer"
        volume = peers.cloudvolume(url)
        return lambda: np.asarray(volume[:, :, :]).T

    return prepare


class _Asking(asyncio.Protocol):
    """One connection, on which one object is asked for after another."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it for all times."""
        self._transport: Any = transport

    def ask(self, paths: Iterator[str]) -> asyncio.Future[None]:
        """Begin; done when nothing is left to ask for."""
        self._paths, self._missing = paths, 0
        self._done = asyncio.get_running_loop().create_future()
        self._ask_next()
        return self._done

    def _ask_next(self) -> None:
        path = next(self._paths, None)
        if path is None:
            self._done.set_result(None)
        else:
            self._transport.write(f"GET /{path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Count; the head of an answer comes in one piece."""
        if not self._missing:
            self._missing = data.index(END) + len(END) + math.prod(CHUNK_SIZE)
        self._missing -= len(data)
        if not self._missing:
            self._ask_next()

    def connection_lost(self, exc: Exception | None) -> None:
        """Before the end it is an error."""
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("closed by the server"))


def server(in_flight: int) -> Contender:
    """Ask for all chunks and look at nothing but the number of bytes."""

    def prepare(place: Place) -> Operation:
        folder = place.data / REMOTE
        paths = [
            file.relative_to(folder).as_posix() for file in folder.glob("bucket/layer/8_8_8/*")
        ]
        loop = asyncio.new_event_loop()
        opened = [
            loop.run_until_complete(loop.create_connection(_Asking, "127.0.0.1", place.port))[1]
            for _ in range(in_flight)
        ]

        async def all_of_them() -> None:
            left = iter(paths)
            await asyncio.gather(*(each.ask(left) for each in opened))

        return lambda: loop.run_until_complete(all_of_them())

    return prepare


def _voxels(result: Any, _: Place) -> dict[str, float]:
    return {} if result is None else checksum(result)


def _row(protocol: str, in_flight: int | None) -> Row:
    mine = in_flight or xp.get_options().requests_in_flight
    return Row(
        name=f"512 objects over {protocol}, {in_flight or 'default'} in flight",
        group="remote",
        contenders={
            OURS: ours(protocol, in_flight),
            "CloudVolume": cloudvolume(protocol, in_flight),
            "TensorStore": tensorstore(protocol, in_flight),
            "server": server(mine),
        },
        targets=(Target("TensorStore", 1.0), Target(LIMIT, 0.9)),
        nbytes=lambda _: NBYTES,
        summary=_voxels,
        latency_s=LATENCY_S,
        layer=REMOTE,
        ideal_s=math.ceil(COUNT / mine) * LATENCY_S,
    )


ROWS = [_row(protocol, in_flight) for protocol in ("HTTP", "S3") for in_flight in (16, None)]
