"""``png``: a chunk as one lossless image (format reference 3.2 and 3.4).

With numba, the filters of the rows are undone and chosen by kernels beside libdeflate. What is
not a plain image without a fault is left to libpng, which knows all that a PNG may be, and
what is wrong with it; without numba, libpng does everything.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from isal import isal_zlib

from xprecomputed.codecs import _png_kernel as kernel
from xprecomputed.codecs._images import check_image, max_image_bytes, to_image, to_planes
from xprecomputed.codecs._optional import optional
from xprecomputed.codecs.base import (
    Array,
    Bytes,
    ChunkSpec,
    Codec,
    Region,
    integer_option,
    paste,
    require_length,
)
from xprecomputed.errors import CorruptDataError
from xprecomputed.jit import compiled

if TYPE_CHECKING:
    from xprecomputed.metadata import ScaleInfo

__all__ = ["Png"]

MAX_SIDE = 1_000_000  # of libpng, unless the caller raises it
MAX_IDAT = 1 << 30  # a chunk of a PNG has less than 2 GiB

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"IEND\xae\x42\x60\x82"
COMPONENTS = {0: 1, 4: 2, 2: 3, 6: 4}  # by colour type; 3 is a palette
CHUNK = struct.Struct(">I4s")
CHECKSUM = struct.Struct(">I")

#: chunks that say nothing about the values of pixels
REMARKS = frozenset(
    [b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"eXIf"]
)

#: libdeflate's level for each of ours: the fastest that is seldom longer than zlib's. There is
#: none for 8 and 9: what libdeflate has beyond its 9 takes several times as long as zlib.
LEVELS = (0, 2, 5, 5, 8, 8, 8, 9)


@dataclass(frozen=True)
class Png(Codec):
    """Lossless uint8 and uint16 images of 1 to 4 channels.

    Parameters
    ----------
    level : int
        Of the compression of what is written, 0 to 9.
    """

    name: ClassVar[str] = "png"
    dtypes: ClassVar[tuple[str, ...]] = ("uint8", "uint16")
    channels: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)
    parameters: ClassVar[Mapping[str, str]] = {"level": "png_level"}
    level: int = 6

    @classmethod
    def from_scale(cls, scale: ScaleInfo) -> Png:  # noqa: D102 - inherited
        # -1 is zlib's word for its default
        return cls() if scale.png_level in (None, -1) else cls(scale.png_level)

    @classmethod
    def check_option(cls, name: str, value: Any) -> int:  # noqa: D102
        return integer_option(cls.name, name, value, 0, 9)

    def max_encoded_bytes(self, chunk: ChunkSpec) -> int:  # noqa: D102
        return max_image_bytes(chunk)

    def is_impossible(self, data: Bytes, chunk: ChunkSpec) -> bool:  # noqa: D102
        return bytes(data[:8]) != SIGNATURE

    def decode(self, data: Bytes, chunk: ChunkSpec) -> Array:  # noqa: D102
        return self._planes(data, chunk).astype(chunk.dtype, copy=False)

    def decode_into(self, data: Bytes, chunk: ChunkSpec, region: Region, out: Array) -> None:  # noqa: D102
        paste(self._planes(data, chunk)[region], out)

    def encode(self, array: Array) -> bytes:  # noqa: D102
        pixels = to_image(array, self.name, MAX_SIDE)
        imagecodecs = optional("imagecodecs", "png chunks")
        apply = _compiled(kernel.apply_filters) if self.level < len(LEVELS) else None
        if apply is not None:
            rows = _filtered(pixels, apply)
            return _file(pixels, imagecodecs.deflate_encode(rows, LEVELS[self.level]))
        # a row begins with a byte of its own, which imagecodecs 2026.3 forgets: without `out`
        # it fails for narrow images of noise
        filtered = pixels.nbytes + len(pixels)
        encoded = imagecodecs.png_encode(
            pixels[..., 0] if pixels.shape[2] == 1 else pixels,
            self.level,
            out=filtered + filtered // 64 + 1024,
        )
        return bytes(encoded)

    def _planes(self, data: Bytes, chunk: ChunkSpec) -> Array:
        """The voxels (channel, z, y, x) in either byte order; a view where rows allow it."""
        width, height = self._check_header(data, chunk)
        pixels = _pixels(data, chunk, width, height)
        if pixels is None:
            pixels = _pixels_of_libpng(data, chunk, width, height)
        return to_planes(pixels, chunk)

    def _check_header(self, data: Bytes, chunk: ChunkSpec) -> tuple[int, int]:
        """Width and height, after everything that the header tells was checked."""
        require_length(data, 57, "a PNG")
        if self.is_impossible(data, chunk):
            raise CorruptDataError(f"not a PNG: begins {bytes(data[:8]).hex(' ')}")
        length, kind, width, height, depth, colour = struct.unpack(">I4sIIBB", data[8:26])
        if kind != b"IHDR" or length != 13:
            raise CorruptDataError("PNG whose first chunk is not IHDR")
        check_image("PNG", chunk, width, height, COMPONENTS.get(colour))
        if depth != 8 * chunk.dtype.itemsize:
            raise CorruptDataError(
                f"PNG of bit depth {depth}, expected {8 * chunk.dtype.itemsize} "
                f"({chunk.dtype.name} volume)"
            )
        return width, height


def _compiled(function: Any) -> Callable[..., Any] | None:
    """`function` as machine code, or None where numba or libdeflate is absent."""
    imagecodecs = optional("imagecodecs", "png chunks")
    return compiled(function) if imagecodecs.DEFLATE.available else None


def _pixels_of_libpng(data: Bytes, chunk: ChunkSpec, width: int, height: int) -> Array:
    imagecodecs = optional("imagecodecs", "png chunks")
    data = bytes(data)
    if END not in data:  # libpng does not ask for it once it has all pixels
        raise CorruptDataError("PNG that does not decode: it is truncated")
    shape = (height, width) if chunk.shape[0] == 1 else (height, width, chunk.shape[0])
    pixels = np.empty(shape, chunk.dtype.newbyteorder("="))
    try:
        # without `out`, imagecodecs 2026.3 gives back a reference too many for each damaged
        # image: after some ten thousand Python itself aborts
        imagecodecs.png_decode(data, out=pixels)
    except Exception as error:  # imagecodecs' own error classes differ between versions;
        # a tRNS chunk, which adds alpha and so changes the shape, ends here as well
        pixels.resize(0, refcheck=False)  # libpng's way out leaves a reference behind
        raise CorruptDataError(f"PNG that does not decode: {error}") from None
    return pixels


def _pixels(data: Bytes, chunk: ChunkSpec, width: int, height: int) -> Array | None:
    """Rows of pixels, big-endian, with gaps; or None where libpng has to have a look."""
    undo = _compiled(kernel.undo_filters)
    stream = None if undo is None else _stream(data)
    if undo is None or stream is None:
        return None
    imagecodecs = optional("imagecodecs", "png chunks")
    step = chunk.shape[0] * chunk.dtype.itemsize
    rows = np.empty((1 + height, 1 + width * step), np.uint8)
    rows[0] = 0
    flat = rows[1:].reshape(-1)
    try:
        # refuses what is longer than `out`, and checks the sum
        found = imagecodecs.deflate_decode(stream, out=flat)
    except Exception:  # imagecodecs' own error classes differ between versions
        return None
    if len(found) != len(flat) or undo(rows, step):
        return None
    pixels: Array = rows[1:, 1:].view(chunk.dtype.newbyteorder(">"))
    return pixels


def _stream(data: Bytes) -> Bytes | None:
    """The compressed rows of a plain PNG whose chunks are whole; None of any other."""
    view = memoryview(data)
    if bytes(view[26:29]) != b"\0\0\0":  # compression, filters, interlacing
        return None
    parts: list[memoryview] = []
    complete = False  # what follows the rows?
    at = len(SIGNATURE)
    while at + 12 <= len(view):
        length, kind = CHUNK.unpack_from(view, at)
        end = at + 8 + length
        if end + 4 > len(view):
            return None
        if isal_zlib.crc32(view[at + 4 : end]) != CHECKSUM.unpack_from(view, end)[0]:
            return None
        if kind == b"IDAT" and not complete:
            parts.append(view[at + 8 : end])
        elif kind == b"IEND":
            return parts[0] if len(parts) == 1 else b"".join(parts)
        elif at > len(SIGNATURE):  # IHDR is the first and only the first
            if kind not in REMARKS:
                return None
            complete = bool(parts)
        at = end + 4
    return None


def _filtered(pixels: Array, apply: Callable[..., Any]) -> Array:
    """The bytes of an image, each row behind the filter that was chosen for it."""
    height, width, channels = pixels.shape
    bordered = np.zeros((1 + height, 1 + width, channels), pixels.dtype.newbyteorder(">"))
    bordered[1:, 1:] = pixels
    step = channels * pixels.itemsize
    rows = np.empty((height, 1 + width * step), np.uint8)
    apply(bordered.reshape(1 + height, -1).view(np.uint8), step, rows)
    return rows.reshape(-1)


def _file(pixels: Array, stream: bytes) -> bytes:
    """A PNG of `pixels` whose compressed rows are `stream`."""
    height, width, channels = pixels.shape
    colour = {count: colour for colour, count in COMPONENTS.items()}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, colour, 0, 0, 0)
    parts: list[Bytes] = [SIGNATURE, *_chunk(b"IHDR", header)]
    for at in range(0, len(stream), MAX_IDAT):
        parts += _chunk(b"IDAT", stream[at : at + MAX_IDAT])
    return b"".join([*parts, *_chunk(b"IEND", b"")])


def _chunk(kind: bytes, body: Bytes) -> tuple[Bytes, Bytes, Bytes]:
    checksum = isal_zlib.crc32(body, isal_zlib.crc32(kind))
    return CHUNK.pack(len(body), kind), body, CHECKSUM.pack(checksum)
