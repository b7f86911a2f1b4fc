"""``fpzip`` and ``kempressed``: floating-point streams (format reference 3.8).

The package checks nothing: a truncated or damaged stream gives other values or crashes the
process, and so does encoding a chunk that grows by it. It runs in a helper process, after the
header was checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from xprecomputed.codecs import _isolated
from xprecomputed.codecs._fpzip_header import HEADER_BYTES, read_header
from xprecomputed.codecs.base import Array, Bytes, ChunkSpec, Codec, hint, integer_option
from xprecomputed.errors import CorruptDataError, UnsupportedEncodingError

if TYPE_CHECKING:
    from xprecomputed.metadata import ScaleInfo

__all__ = ["Fpzip", "Kempressed"]

INSTALL = "    pip install fpzip"
FULL_PRECISION = {"float32": 32, "float64": 64}


@dataclass(frozen=True)
class Fpzip(Codec):
    """float32 and float64 images of any number of channels.

    The stream has no checksum: damage that the decoder survives gives other values.

    Parameters
    ----------
    precision : int
        Bits of each value that are kept, 2 to 32 for float32 and an even number of 16 to 64
        for float64; 0, all of them, is lossless.
    """

    name: ClassVar[str] = "fpzip"
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")
    parameters: ClassVar[Mapping[str, str]] = {"precision": "fpzip_precision"}
    precision: int = 0

    @classmethod
    def from_scale(cls, scale: ScaleInfo) -> Fpzip:  # noqa: D102 - inherited
        return cls(int(hint(scale, "fpzip_precision", 0, 64) or 0))

    @classmethod
    def check_option(cls, name: str, value: Any) -> int:  # noqa: D102
        return integer_option(cls.name, name, value, 0, 64)

    @property
    def lossy(self) -> bool:  # noqa: D102
        return self.precision not in (0, 64)  # 32 is all of a float32, and half of a float64

    def max_encoded_bytes(self, chunk: ChunkSpec) -> int:  # noqa: D102
        return _max_bytes(chunk)

    def is_impossible(self, data: Bytes, chunk: ChunkSpec) -> bool:  # noqa: D102
        return bytes(data[:2]) != b"fp"

    def decode(self, data: Bytes, chunk: ChunkSpec) -> Array:  # noqa: D102
        _check(data, chunk, chunk.shape[::-1])
        return _isolated.decode("fpzip", data, chunk, INSTALL)

    def encode(self, array: Array) -> bytes:  # noqa: D102
        name = array.dtype.name
        if self.precision > FULL_PRECISION[name] or self.precision % 2 > (name == "float32"):
            raise UnsupportedEncodingError(
                f"fpzip: {name} with a precision of {self.precision}; "
                "it is 0 or 2 to 32 for float32, 0 or an even number of 16 to 64 for float64"
            )
        return _encode(np.asarray(array, array.dtype.newbyteorder("<")), self.precision)


@dataclass(frozen=True)
class Kempressed(Codec):
    """float32 images, stored as fpzip of two more than their values: slightly lossy.

    The addition costs about 1e-7 of rounding, more for values far from zero; float64 would
    not survive in CloudVolume either.
    """

    name: ClassVar[str] = "kempressed"
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)

    @property
    def lossy(self) -> bool:  # noqa: D102 - inherited
        return True

    def max_encoded_bytes(self, chunk: ChunkSpec) -> int:  # noqa: D102
        return _max_bytes(chunk)

    def is_impossible(self, data: Bytes, chunk: ChunkSpec) -> bool:  # noqa: D102
        return bytes(data[:2]) != b"fp"

    def decode(self, data: Bytes, chunk: ChunkSpec) -> Array:  # noqa: D102
        channels, z, y, x = chunk.shape
        _check(data, chunk, (x, y, channels, z))
        stored = ChunkSpec((z, channels, y, x), chunk.dtype)
        decoded = np.swapaxes(_isolated.decode("fpzip", data, stored, INSTALL), 0, 1)
        with np.errstate(all="ignore"):  # damage may be any number
            return decoded - OFFSET

    def encode(self, array: Array) -> bytes:  # noqa: D102
        with np.errstate(all="ignore"):
            return _encode(np.swapaxes(array.astype("<f4", copy=False), 0, 1) + OFFSET, 0)


OFFSET = np.float32(2)


def _max_bytes(chunk: ChunkSpec) -> int:
    # the range coder expands noise by some percent
    return 2 * chunk.nbytes + 1024


def _check(data: Bytes, chunk: ChunkSpec, shape: tuple[int, ...]) -> None:
    header = read_header(data)
    if header.shape != shape or header.itemsize != chunk.dtype.itemsize:
        raise CorruptDataError(
            f"fpzip stream of float{8 * header.itemsize} in the shape {header.shape}, "
            f"expected {chunk.dtype.name} in {shape}"
        )
    if len(data) <= HEADER_BYTES - 4 or header.precision > 8 * header.itemsize:
        raise CorruptDataError(f"fpzip stream with a precision of {header.precision} bits")


def _encode(array: Array, precision: int) -> bytes:
    """An array whose last axis is the fastest of the stream."""
    plain = np.ascontiguousarray(array)
    options = {"dtype": plain.dtype.str, "shape": plain.shape[::-1], "precision": precision}
    # of noise it makes more bytes than there were, and its package overruns its own memory
    return _isolated.encode(
        "fpzip",
        plain,
        options,
        2 * plain.nbytes + 1024,
        INSTALL,
        about=", whose values may be noise",
        cure='; use encoding="raw" or "zfpc"',
    )
