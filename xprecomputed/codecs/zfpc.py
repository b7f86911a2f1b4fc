"""``zfpc``: a container of zfp streams (format reference 3.9).

zfp trusts its streams and reads beyond their ends: the package runs in a helper process, after
the container and the header of each stream were checked here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from xprecomputed.codecs import _isolated
from xprecomputed.codecs.base import (
    Array,
    Bytes,
    ChunkSpec,
    Codec,
    hint,
    integer_option,
    number_option,
    require_length,
)
from xprecomputed.errors import CorruptDataError, UnsupportedEncodingError

if TYPE_CHECKING:
    from xprecomputed.metadata import ScaleInfo

__all__ = ["Zfpc"]

INSTALL = '    pip install "xprecomputed[zfpc]"'
HEADER = struct.Struct("<4sBB4IBQ")  # the container's, with the offset of the first stream
MAGIC, FLOAT32, MODES = b"zfpc", 3, (2, 3, 4, 5)
STREAM_MAGIC = b"zfp\x05"
STREAM_HEADER = 12  # bytes that every stream has at least
SIDE_BITS = (48, 24, 16, 12)  # of an extent, by the dimensions of a stream
RANGES = {"rate": (1, 64), "precision": (1, 64), "tolerance": (0, 3e38)}
Four = tuple[bool, bool, bool, bool]


@dataclass(frozen=True)
class Zfpc(Codec):
    """float32 images of any number of channels; lossless without parameters.

    Streams have no checksum: damage that the decoder survives gives other values.

    Parameters
    ----------
    rate : float, optional
        Bits for each value.
    precision : int, optional
        Bits of the coefficients that are kept, 1 to 64.
    tolerance : float, optional
        Absolute error that is allowed. At most one of the three is given.
    correlated_dims : tuple of four bool
        Along which of x, y, z, channel neighbours resemble each other; along the others each
        plane becomes a stream of its own.
    """

    name: ClassVar[str] = "zfpc"
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    parameters: ClassVar[Mapping[str, str]] = {
        name: f"zfpc_{name}" for name in (*RANGES, "correlated_dims")
    }
    rate: float | None = None
    precision: int | None = None
    tolerance: float | None = None
    correlated_dims: Four = (True, True, True, True)

    @classmethod
    def from_scale(cls, scale: ScaleInfo) -> Zfpc:  # noqa: D102 - inherited
        found: dict[str, Any] = {
            name: hint(scale, f"zfpc_{name}", *span) for name, span in RANGES.items()
        }
        dims = scale.extra.get("zfpc_correlated_dims")
        if isinstance(dims, list) and len(dims) == 4:
            found["correlated_dims"] = tuple(bool(each) for each in dims)
        return cls(**found)

    @classmethod
    def scale_members(cls, options: Mapping[str, Any]) -> dict[str, Any]:  # noqa: D102
        members = super().scale_members(options)
        given = [name for name in RANGES if name in options]
        if len(given) > 1:
            raise ValueError(f"zfpc: {' and '.join(given)} are given, expected at most one")
        return members

    @classmethod
    def check_option(cls, name: str, value: Any) -> Any:  # noqa: D102
        if name == "precision":
            return integer_option(cls.name, name, value, 1, 64)
        if name in RANGES:
            return number_option(cls.name, name, value, *RANGES[name])
        dims = list(value) if isinstance(value, tuple | list | np.ndarray) else []
        if len(dims) != 4 or not all(isinstance(each, bool | np.bool_) for each in dims):
            raise ValueError(
                f"zfpc: correlated_dims={value!r}, expected four booleans for x, y, z, channel"
            )
        if not any(dims):
            raise ValueError("zfpc: correlated_dims are all false, at least one must be true")
        return [bool(each) for each in dims]

    @property
    def lossy(self) -> bool:  # noqa: D102
        return bool(self._parameters())

    def max_encoded_bytes(self, chunk: ChunkSpec) -> int:  # noqa: D102
        # extents are filled up to multiples of four, and each stream has a header
        filled = math.prod(-(-n // 4) * 4 for n in chunk.shape)
        return 9 * filled + 40 * math.prod(chunk.shape) + 1024

    def is_impossible(self, data: Bytes, chunk: ChunkSpec) -> bool:  # noqa: D102
        return bytes(data[:4]) != MAGIC

    def decode(self, data: Bytes, chunk: ChunkSpec) -> Array:  # noqa: D102
        _check(data, chunk)
        return _isolated.decode("zfpc", data, chunk, INSTALL)

    def encode(self, array: Array) -> bytes:  # noqa: D102
        parameters = self._parameters()
        if len(parameters) > 1 or not any(self.correlated_dims):
            raise UnsupportedEncodingError(
                f"zfpc: the scale asks for {' and '.join(parameters) or 'no correlated axis'}; "
                "at most one of rate, precision, tolerance, and an axis that is correlated"
            )
        plain = np.ascontiguousarray(array, "<f4")
        shape = plain.shape[::-1]
        sides = [n for n, correlated in zip(shape, self.correlated_dims, strict=True) if correlated]
        if max(sides) > 1 << SIDE_BITS[len(sides) - 1]:
            raise UnsupportedEncodingError(
                f"zfpc: a chunk of {shape} (x, y, z, channel); with {len(sides)} correlated axes "
                f"none may exceed {1 << SIDE_BITS[len(sides) - 1]}: use smaller chunks"
            )
        parameters["correlated_dims"] = list(self.correlated_dims)
        options = {"dtype": "<f4", "shape": shape, "parameters": parameters}
        most = self.max_encoded_bytes(ChunkSpec(array.shape, plain.dtype))
        return _isolated.encode("zfpc", plain, options, most, INSTALL)

    def _parameters(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in RANGES}
        return {name: value for name, value in given.items() if value is not None}


def _check(data: Bytes, chunk: ChunkSpec) -> None:
    require_length(data, HEADER.size, "a zfpc header")
    magic, version, flags, *rest = HEADER.unpack_from(data)
    shape, correlated, first = tuple(rest[:4]), rest[4], rest[5]
    if magic != MAGIC or version != 0:
        raise CorruptDataError(f"not a zfpc stream: begins {bytes(data[:5]).hex(' ')}")
    if tuple(n or 1 for n in shape) != chunk.shape[::-1] or 0 in shape[:3]:
        raise CorruptDataError(
            f"zfpc stream in the shape {shape} (x, y, z, channel), expected {chunk.shape[::-1]}"
        )
    if flags & 7 != FLOAT32 or flags >> 3 & 7 not in MODES or correlated not in range(1, 16):
        raise CorruptDataError(
            f"zfpc stream with the flags {flags:#04x} and the correlated axes {correlated:#04x}: "
            "no float32, or a mode unknown here"
        )
    present = [(n, bool(correlated >> axis & 1)) for axis, n in enumerate(shape) if n]
    planes = [n for n, together in present if together]
    streams = int(np.prod([n for n, together in present if not together], dtype=np.int64))
    _check_streams(data, first, streams, planes[::-1])


def _check_streams(data: Bytes, first: int, streams: int, sides: list[int]) -> None:
    """Every length within the data, every stream a float32 array of `sides`."""
    require_length(data, HEADER.size + 8 * streams, f"a zfpc index of {streams} stream(s)")
    lengths = np.frombuffer(data, "<u8", streams, HEADER.size)
    if not HEADER.size + 8 * streams <= first <= len(data) or lengths.max() > len(data):
        raise CorruptDataError(f"zfpc stream of {len(data)} bytes whose index leaves it")
    ends = first + np.cumsum(lengths.astype(np.int64))
    if ends[-1] != len(data) or lengths.min() < STREAM_HEADER:
        raise CorruptDataError(
            f"zfpc stream of {len(data)} bytes whose index ends at {int(ends[-1])}"
        )
    bits = SIDE_BITS[len(sides) - 1] if sides else 0
    packed = sum((n - 1) << bits * axis for axis, n in enumerate(sides))
    head = STREAM_MAGIC + (packed << 4 | (len(sides) - 1) << 2 | FLOAT32 - 1).to_bytes(8, "little")
    for at in (ends - lengths.astype(np.int64)).tolist():
        found = bytes(data[at : at + 10])  # the highest four of 52 bits belong to what follows
        if found != head[:10] or data[at + 10] & 15 != head[10] & 15:
            raise CorruptDataError(
                f"zfpc stream whose part at {at} begins {found.hex(' ')}, expected {head.hex(' ')}"
            )
