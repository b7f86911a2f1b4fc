"""What stands before the coded pixels of a plain JPEG (ITU-T T.81, annex B)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from xprecomputed.codecs.base import Bytes

__all__ = ["END_OF_IMAGE", "Header", "HuffmanTable", "read_header"]

END_OF_IMAGE = b"\xff\xd9"
START_OF_IMAGE = b"\xff\xd8"
BASELINE, EXTENDED = 0xC0, 0xC1  # with Huffman codes, the pixels in order
HUFFMAN_TABLES = 0xC4
START_OF_SCAN = 0xDA
#: quantization tables, application segments, comments
PASSED = frozenset([0xDB, *range(0xE0, 0xF0), 0xFE])
SEGMENT = struct.Struct(">BBH")
FRAME = struct.Struct(">BHHB")
NOT_SUBSAMPLED = 0x11
#: all numbers of a block at once
ALL_AT_ONCE = bytes([0, 63, 0])

#: 16 bytes that count the codes of each length, then the symbols
HuffmanTable = bytes


@dataclass(frozen=True, slots=True)
class Header:
    """Of a JPEG whose blocks lie in one scan, one after another.

    Parameters
    ----------
    width, height : int
        In pixels.
    size_at : int
        Where height and width are stored, as two big-endian uint16.
    scan_at : int
        Where the coded pixels begin.
    tables : tuple of two bytes for each component
        The Huffman codes of its means, and of its other numbers.
    """

    width: int
    height: int
    size_at: int
    scan_at: int
    tables: tuple[tuple[HuffmanTable, HuffmanTable], ...]


def read_header(data: Bytes) -> Header | None:
    """The header, or None of a JPEG that is in any way unusual, or none at all.

    Usual is: 8 bits, one or three components that are not subsampled, no restart intervals, one
    scan, Huffman codes.
    """
    frame: tuple[int, bytes] | None = None
    tables: dict[int, HuffmanTable] = {}
    if bytes(data[:2]) != START_OF_IMAGE:
        return None
    at = 2
    while at + SEGMENT.size <= len(data):
        mark, kind, length = SEGMENT.unpack_from(data, at)
        body, end = at + SEGMENT.size, at + 2 + length
        if mark != 0xFF or end > len(data):
            return None
        if kind == HUFFMAN_TABLES:
            if not _read_tables(bytes(data[body:end]), tables):
                return None
        elif kind in (BASELINE, EXTENDED) and frame is None:
            frame = body + 1, bytes(data[body:end])
        elif kind == START_OF_SCAN and frame is not None:
            return _header(*frame, bytes(data[body:end]), end, tables)
        elif kind not in PASSED:
            return None
        at = end
    return None


def _read_tables(body: bytes, tables: dict[int, HuffmanTable]) -> bool:
    """Add what is defined in a segment; False of a malformed one."""
    while body:
        symbols = sum(body[1:17])
        if len(body) < 17 + symbols or symbols > 256:
            return False
        tables[body[0]] = body[1 : 17 + symbols]
        body = body[17 + symbols :]
    return True


def _header(
    size_at: int, frame: bytes, scan: bytes, scan_at: int, tables: dict[int, HuffmanTable]
) -> Header | None:
    if len(frame) < FRAME.size:
        return None
    depth, height, width, count = FRAME.unpack_from(frame)
    components = frame[FRAME.size :]
    if depth != 8 or count not in (1, 3):
        return None
    if len(components) != 3 * count or set(components[1::3]) != {NOT_SUBSAMPLED}:
        return None
    if len(scan) != 4 + 2 * count or scan[0] != count or scan[-3:] != ALL_AT_ONCE:
        return None
    if scan[1:-3:2] != components[::3]:
        return None
    used = []
    for selected in scan[2:-3:2]:
        means, others = tables.get(selected >> 4), tables.get(0x10 | selected & 15)
        if means is None or others is None:
            return None
        used.append((means, others))
    return Header(width, height, size_at, scan_at, tuple(used))
