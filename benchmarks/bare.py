"""The limit: bare codecs and one copy on all cores, without format, checks or xarray."""

from __future__ import annotations

import json
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.layers import ENCODINGS

__all__ = ["chunk_files", "decoder", "encoder", "on_all_cores", "shard_values"]

T = TypeVar("T")
Part = tuple[slice, slice, slice]


def on_all_cores(work: Callable[[T], None], tasks: Iterable[T]) -> None:
    """Call ``work(task)`` for all tasks on as many threads as there are cores."""
    remaining, lock = iter(list(tasks)), threading.Lock()

    def drain(_: int) -> None:
        while True:
            with lock:
                task = next(remaining, None)
            if task is None:
                return
            work(task)

    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(drain, range(cores)))


def decoder(name: str) -> Callable[[bytes, tuple[int, ...], Any], Any]:
    """Bytes, shape (z, y, x) and data type to voxels, by the public package."""
    encoding, _, compression, sharded = ENCODINGS[name]
    inner = _DECODERS[encoding]()
    if compression is None and not sharded:
        return inner
    from isal import igzip

    return lambda data, shape, dtype: inner(igzip.decompress(data), shape, dtype)


def _raw() -> Any:
    return lambda data, shape, dtype: np.frombuffer(data, dtype).reshape(shape)


def _jpeg() -> Any:
    import simplejpeg

    return lambda data, shape, dtype: simplejpeg.decode_jpeg(data, "GRAY").reshape(shape)


def _png() -> Any:
    import imagecodecs

    return lambda data, shape, dtype: imagecodecs.png_decode(data).reshape(shape)


def _cseg() -> Any:
    import compressed_segmentation as package

    return lambda data, shape, dtype: (
        package.decompress(data, (*shape[::-1], 1), dtype, block_size=(8, 8, 8), order="F")
        .reshape(shape[::-1], order="F")
        .T
    )


def _crackle() -> Any:
    import crackle

    return lambda data, shape, dtype: crackle.decompress(data).reshape(shape[::-1], order="F").T


def _compresso() -> Any:
    import compresso

    return lambda data, shape, dtype: compresso.decompress(data).reshape(shape[::-1], order="F").T


_DECODERS: dict[str, Callable[[], Any]] = {
    "raw": _raw,
    "jpeg": _jpeg,
    "png": _png,
    "compressed_segmentation": _cseg,
    "crackle": _crackle,
    "compresso": _compresso,
}


def encoder(name: str) -> Callable[[Any], bytes]:
    """One chunk, (z, y, x), to bytes, by the public package."""
    encoding, _, compression, sharded = ENCODINGS[name]
    inner = _ENCODERS[encoding]()
    if compression is None and not sharded:
        return inner

    def compressed(voxels: Any) -> bytes:
        stream = zlib.compressobj(6, zlib.DEFLATED, 31)
        return stream.compress(inner(voxels)) + stream.flush()

    return compressed


def _encode_jpeg() -> Any:
    import simplejpeg

    return lambda voxels: simplejpeg.encode_jpeg(
        np.ascontiguousarray(voxels).reshape(-1, voxels.shape[2], 1), 85, "GRAY", "Gray"
    )


def _encode_png() -> Any:
    import imagecodecs

    return lambda voxels: imagecodecs.png_encode(
        np.ascontiguousarray(voxels).reshape(-1, voxels.shape[2]), 6
    )


def _encode_cseg() -> Any:
    import compressed_segmentation as package

    return lambda voxels: package.compress(
        np.asfortranarray(voxels.T)[..., None], block_size=(8, 8, 8), order="F"
    )


def _encode_crackle() -> Any:
    import crackle

    return lambda voxels: crackle.compress(np.asfortranarray(voxels.T))


def _encode_compresso() -> Any:
    import compresso

    return lambda voxels: compresso.compress(np.asfortranarray(voxels.T))


_ENCODERS: dict[str, Callable[[], Any]] = {
    "raw": lambda: lambda voxels: voxels.tobytes(),
    "jpeg": _encode_jpeg,
    "png": _encode_png,
    "compressed_segmentation": _encode_cseg,
    "crackle": _encode_crackle,
    "compresso": _encode_compresso,
}


def chunk_files(folder: Path, side: int, chunk_size: tuple[int, int, int]) -> list[Any]:
    """Path and (z, y, x) slices of each chunk of a scale that is not sharded."""
    found = []
    for file in folder.iterdir():
        spans = file.name.removesuffix(".gz").split("_")
        x, y, z = (slice(*map(int, each.split("-"))) for each in spans)
        found.append((file, (z, y, x)))
    assert len(found) == np.prod([-(-side // each) for each in chunk_size])
    return sorted(found)


def shard_values(folder: Path, side: int, chunk_size: tuple[int, int, int]) -> Iterator[Any]:
    """Path, first byte, length and (z, y, x) slices of each chunk of a sharded scale.

    For cubes of chunks whose number along a side is a power of two.
    """
    info = json.loads((folder.parent / "info").read_text())
    minishards = 1 << info["scales"][0]["sharding"]["minishard_bits"]
    bits = (side // chunk_size[0]).bit_length() - 1
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        head = 16 * minishards
        for start, stop in struct.iter_unpack("<QQ", data[:head]):
            if start == stop:
                continue
            index = np.frombuffer(zlib.decompress(data[head + start : head + stop], 31), "<u8")
            keys, gaps, sizes = index.reshape(3, -1)
            keys = np.cumsum(keys)
            at = head
            for key, gap, size in zip(keys.tolist(), gaps.tolist(), sizes.tolist(), strict=True):
                at += gap
                cell = [
                    sum((key >> (3 * bit + axis) & 1) << bit for bit in range(bits))
                    for axis in range(3)
                ]
                x, y, z = (slice(i * n, i * n + n) for i, n in zip(cell, chunk_size, strict=True))
                yield file, at, size, (z, y, x)
                at += size
