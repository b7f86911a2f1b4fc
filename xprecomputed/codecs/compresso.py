"""``compresso`` (format reference 3.7).

With numba bounds-checked kernels decode it, without the GIL. The public package checks
nothing (truncated streams become garbage, hostile ones crash the process), so without numba
it runs in a helper process, where a crash is an error and not the end.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xprecomputed.codecs import _compresso_kernel as kernel
from xprecomputed.codecs import _isolated
from xprecomputed.codecs._optional import optional
from xprecomputed.codecs.base import Array, Bytes, ChunkSpec, Codec, Region, require_length
from xprecomputed.errors import CorruptDataError, MissingDependencyError, UnsupportedEncodingError
from xprecomputed.jit import compiled

__all__ = ["Compresso"]

MAGIC = b"cpso"
MAX_SIDE = 65535  # the header keeps each extent in 16 bits
HEADER = struct.Struct("<4sBBHHHBBBQIQB")

INSTALL = (
    '    pip install "xprecomputed[fast]"   (decodes compresso itself, and faster)\n'
    '    pip install "xprecomputed[compresso]"'
)

MESSAGES = {
    kernel.TOO_FEW_WINDOWS: "ends before all windows are known",
    kernel.TOO_MANY_WINDOWS: "describes more windows than the chunk has",
    kernel.WINDOW_OUTSIDE: "refers to a window value that it does not list",
    kernel.WRONG_COMPONENTS: "lists another number of ids than it has components",
    kernel.LOCATIONS_EXHAUSTED: "has too few boundary locations",
    kernel.LOCATIONS_LEFT: "has more boundary locations than boundaries",
    kernel.NEIGHBOUR_OUTSIDE: "copies a label from outside the chunk",
    kernel.NEIGHBOUR_UNKNOWN: "copies a label that is not known yet",
}


@dataclass(frozen=True)
class _Parts:
    """The arrays of a stream, as views, after every length was checked."""

    steps: tuple[int, int, int]
    six: bool
    ids: Array
    values: Array
    locations: Array
    runs: Array


@dataclass(frozen=True)
class Compresso(Codec):
    """Lossless unsigned labels, one channel."""

    name: ClassVar[str] = "compresso"
    dtypes: ClassVar[tuple[str, ...]] = ("uint8", "uint16", "uint32", "uint64")
    channels: ClassVar[tuple[int, ...]] = (1,)

    def max_encoded_bytes(self, chunk: ChunkSpec) -> int:  # noqa: D102 - inherited
        # one id, two locations and three windows for every voxel at the worst, and the z index
        return 64 + chunk.voxels * (3 * chunk.dtype.itemsize + 24) + 16 * chunk.shape[1]

    def is_impossible(self, data: Bytes, chunk: ChunkSpec) -> bool:  # noqa: D102
        return bytes(data[:4]) != MAGIC

    def decode(self, data: Bytes, chunk: ChunkSpec) -> Array:  # noqa: D102
        out = np.empty(chunk.shape, chunk.dtype)
        self._decode_whole(data, chunk, out[0])
        return out

    def decode_into(self, data: Bytes, chunk: ChunkSpec, region: Region, out: Array) -> None:  # noqa: D102
        if region == chunk.whole:
            self._decode_whole(data, chunk, out[0])
        else:
            out[...] = self.decode(data, chunk)[region]

    def encode(self, array: Array) -> bytes:  # noqa: D102
        _, z, y, x = array.shape
        if max(x, y, z) > MAX_SIDE:  # the package would write the remainder of 65536
            raise UnsupportedEncodingError(
                f"compresso: a chunk of {x} x {y} x {z} voxels; no side may exceed {MAX_SIDE}: "
                "use smaller chunks"
            )
        package = optional("compresso", "encoding compresso")
        # it refuses read-only arrays and the other byte order
        volume = np.require(array[0].T, array.dtype.newbyteorder("="), ["F", "W"])
        data: bytes = package.compress(volume)
        return data

    def _decode_whole(self, data: Bytes, chunk: ChunkSpec, out: Array) -> None:
        parts = _split(data, chunk)
        if compiled(kernel.unpack_windows) is None:
            out[...] = _decode_isolated(data, chunk)
        else:
            _decode_with_kernels(parts, out)


def _decode_with_kernels(parts: _Parts, out: Array) -> None:
    boundary = np.zeros(out.shape, np.uint8)
    labels = np.empty(out.shape, np.int32)
    windows = parts.runs.astype(np.uint64), parts.values.astype(np.uint64)
    _run(kernel.unpack_windows, *windows, np.array(parts.steps, np.int64), boundary)
    parents = _call(kernel.number_components, boundary, parts.six, labels)
    _run(kernel.fill_components, parents, parts.ids, labels, out)
    _run(kernel.fill_boundaries, boundary, parts.locations, parts.six, out)


def _call(function: Any, *arguments: Any) -> Any:
    machine_code = compiled(function)
    if machine_code is None:  # pragma: no cover - the caller has asked before
        raise MissingDependencyError("numba went away")
    return machine_code(*arguments)


def _run(function: Any, *arguments: Any) -> None:
    code = _call(function, *arguments)
    if code:
        raise CorruptDataError(f"compresso stream that {MESSAGES[code]}")


def _decode_isolated(data: Bytes, chunk: ChunkSpec) -> Array:
    whole = _isolated.decode("compresso", data, chunk, INSTALL)
    return whole.reshape(chunk.shape[1:])


def _width(bits: int) -> int:
    return next(width for width in (1, 2, 4, 8) if bits <= 8 * width)


def _split(data: Bytes, chunk: ChunkSpec) -> _Parts:
    require_length(data, HEADER.size, "a compresso header")
    magic, version, width, *rest = HEADER.unpack_from(data)
    size, steps, (ids, values, locations, connectivity) = (
        tuple(rest[:3]), tuple(rest[3:6]), rest[6:],
    )  # fmt: skip
    if magic != MAGIC or version not in (0, 1):
        raise CorruptDataError(f"not a compresso stream: begins {bytes(data[:5]).hex(' ')}")
    if size != chunk.shape[:0:-1] or width != chunk.dtype.itemsize:
        raise CorruptDataError(
            f"compresso stream of {size} voxels (x, y, z) with {width}-byte labels, "
            f"expected {chunk.shape[:0:-1]} with {chunk.dtype.itemsize}"
        )
    if connectivity not in (4, 6) or 0 in steps or np.prod(steps) > 64:
        raise CorruptDataError(
            f"compresso stream with connectivity {connectivity} and windows of {steps}"
        )
    window = _width(int(np.prod(steps)))
    z_index = 2 * size[2] * _width(int(2 * size[0] * size[1]).bit_length()) if version else 0
    fixed = HEADER.size + (ids + locations) * width + values * window + z_index
    if fixed > len(data) or (len(data) - fixed) % window:
        raise CorruptDataError(
            f"compresso stream of {len(data)} bytes whose header asks for {fixed} "
            f"and a multiple of {window}"
        )
    at = HEADER.size
    arrays = []
    for count, itemsize in (
        (ids, width),
        (values, window),
        (locations, width),
        ((len(data) - fixed) // window, window),
    ):
        arrays.append(np.frombuffer(data, f"<u{itemsize}", count, at))
        at += count * itemsize
    return _Parts(steps, connectivity == 6, *arrays)
