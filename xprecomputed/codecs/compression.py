"""Compression around whole objects and around the values of shards.

Every decompression is bounded by what the metadata allows, so that a small hostile object
cannot fill the memory (format reference 2.5, rows 18 and 19 of section 10).
"""

from __future__ import annotations

import struct
import sys
from typing import Any, Protocol

import numpy as np
from isal import isal_zlib

from xprecomputed.codecs._optional import optional
from xprecomputed.codecs.base import Bytes, integer_option
from xprecomputed.errors import CorruptDataError

__all__ = ["GZIP_MAGIC", "SUFFIXES", "compress", "decompress"]

GZIP_MAGIC = b"\x1f\x8b"
GZIP_LEAST_BYTES = 20  # header, an empty block and the trailer
DEFLATE_RATIO = 1032  # a match of 258 bytes takes two bits at least

#: Suffixes that CloudFiles (and people) add to names on a local disk, in order of precedence.
SUFFIXES = {".gz": "gzip", ".br": "br", ".zstd": "zstd", ".zst": "zstd"}


def decompress(data: Bytes, encoding: str, limit: int) -> Bytes:
    """Undo a whole-object compression.

    Parameters
    ----------
    data : bytes
    encoding : {"gzip", "br", "zstd"}
        As HTTP's ``Content-Encoding`` names them.
    limit : int
        The most bytes that can be valid.

    Raises
    ------
    CorruptDataError
        Truncated, damaged, followed by garbage, or longer than `limit`.
    """
    if not len(data):
        raise CorruptDataError(f"{encoding} data of zero bytes")
    try:
        plain = _DECOMPRESSORS[encoding](data, limit)
    except KeyError:
        raise CorruptDataError(
            f"unknown compression {encoding!r}, known are {sorted(_DECOMPRESSORS)}"
        ) from None
    if len(plain) > limit:
        raise CorruptDataError(f"{encoding} data that holds more than the {limit} bytes expected")
    return plain


class _Stream(Protocol):
    """What zlib-like decompressor objects share."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: Any, max_length: int, /) -> bytes: ...


def _members(data: Bytes, limit: int, name: str, errors: Any, start: Any) -> bytes:
    """All members of a gzip or zstd stream, one byte past `limit` at most."""
    parts: list[bytes] = []
    left = limit + 1
    while len(data) and left:
        stream: _Stream = start()
        try:
            part = stream.decompress(data, left)
        except errors as error:
            raise CorruptDataError(f"{name} data that does not decompress: {error}") from None
        parts.append(part)
        left -= len(part)
        if not stream.eof and left:
            raise CorruptDataError(f"truncated {name} data ({len(data)} bytes stored)")
        data = stream.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _gunzip(data: Bytes, limit: int) -> Bytes:
    plain = _gunzip_at_once(data, limit)
    if plain is not None:
        return plain
    return _members(data, limit, "gzip", isal_zlib.error, lambda: isal_zlib.decompressobj(wbits=31))


def _gunzip_at_once(data: Bytes, limit: int) -> memoryview | None:
    """A single member into memory of its size, by libdeflate: twice as fast as a stream or more.

    None for whatever is not that or does not fit: the stream finds out what it is.
    """
    if len(data) < GZIP_LEAST_BYTES:
        return None
    data = bytes(data)
    trailer = data[-8:]
    checksum, size = struct.unpack("<II", trailer)
    # never allocate by what a trailer claims: only what so many bytes can hold
    if not 0 < size <= min(limit, DEFLATE_RATIO * len(data)):
        return None
    plain = np.empty(size, np.uint8)
    try:
        found = optional("imagecodecs", "gzip").gzip_decode(data, out=plain)
    except Exception:  # imagecodecs' own error classes differ between versions
        return None
    # libdeflate looks at the first member only. If that was not all, another trailer ends it, or
    # the same one, whose members together fit into the limit or repeat all that there can be
    if len(found) != size or isal_zlib.crc32(plain) != checksum:
        return None
    if size < limit and data.find(trailer) < len(data) - len(trailer):
        return None
    return plain.data


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd
    return optional("backports.zstd", "zstd-compressed objects")


def _unzstd(data: Bytes, limit: int) -> bytes:
    zstd = _zstd()
    return _members(data, limit, "zstd", zstd.ZstdError, zstd.ZstdDecompressor)


def _unbrotli(data: Bytes, limit: int) -> bytes:
    brotli = optional("brotli", "brotli-compressed objects")
    stream = brotli.Decompressor()
    try:
        # honoured up to brotli's own block size
        plain: bytes = stream.process(bytes(data), output_buffer_limit=limit + 1)
    except brotli.error as error:
        raise CorruptDataError(f"br data that does not decompress: {error}") from None
    if len(plain) <= limit and not stream.is_finished():
        raise CorruptDataError(f"truncated br data ({len(data)} bytes stored)")
    return plain


def _gzip(data: Bytes, level: int) -> bytes:
    """By libdeflate, at twice the speed of zlib and seldom longer; its header has no time."""
    return bytes(optional("imagecodecs", "gzip").gzip_encode(data, level))


_DECOMPRESSORS = {"gzip": _gunzip, "br": _unbrotli, "zstd": _unzstd}

#: least and most level of each, and the one that is taken without a word
_LEVELS = {"gzip": (0, 9, 6), "br": (0, 11, 5), "zstd": (1, 22, 3)}


def compress(data: Bytes, encoding: str, level: int | None = None) -> bytes:
    """Compress a whole object; the same bytes every time.

    Parameters
    ----------
    data : bytes
    encoding : {"gzip", "br", "zstd"}
    level : int, optional
        gzip 0 to 9, otherwise 6; br 0 to 11, otherwise 5; zstd 1 to 22, otherwise 3.

    Raises
    ------
    ValueError
        Unknown encoding, or a level that it does not have.

    Examples
    --------
    >>> packed = compress(bytes(1000), "gzip", 9)
    >>> len(packed) < 50, decompress(packed, "gzip", 1000) == bytes(1000)
    (True, True)
    """
    if encoding not in _LEVELS:
        raise ValueError(f"compression {encoding!r}: expected one of {sorted(_LEVELS)}")
    least, most, usual = _LEVELS[encoding]
    level = usual if level is None else integer_option(encoding, "level", level, least, most)
    if encoding == "gzip":
        return _gzip(data, level)
    if encoding == "br":
        brotli = optional("brotli", "brotli-compressed objects")
        return bytes(brotli.compress(bytes(data), quality=level))
    return bytes(_zstd().compress(bytes(data), level))
