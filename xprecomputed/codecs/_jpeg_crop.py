"""A JPEG of a part of a chunk, from the JPEG of the whole and without decoding that.

To decode a chunk of electron micrographs takes three times as long as to see where its blocks
end, so of a small part only its blocks are decoded. What is unusual, or not as it should be, is
left to those who decode the whole.
"""

from __future__ import annotations

import itertools
import struct
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from xprecomputed.codecs import _jpeg_kernel as kernel
from xprecomputed.codecs._images import scratch
from xprecomputed.codecs._jpeg_header import END_OF_IMAGE, Header, HuffmanTable, read_header
from xprecomputed.codecs.base import Array, Bytes, ChunkSpec, Region
from xprecomputed.jit import compiled

__all__ = ["Cropped", "crop"]

SIDE = 8  # of a block, in pixels
MARK = 0xFF
#: smaller chunks are decoded in less time than it takes to begin here
LEAST_VOXELS = 1 << 15
#: of the time for decoding a chunk, what it takes to copy its bytes, and to walk over its blocks
PREPARING, WALKING = 0.1, 0.4
WORTHWHILE = 0.9
#: To load the kernels takes half a second, as decoding some 2**27 voxels does. They are loaded once
#: there were parts of chunks of more voxels than this.
BEFORE = 1 << 26
_voxels = 0
SIZE = struct.Struct(">HH")


class Cropped(NamedTuple):
    """A JPEG that has all voxels of a region, and little else.

    Parameters
    ----------
    data : bytes
        The JPEG.
    shape : tuple of three int
        Its height, width and channels.
    blocks : Blocks
        Which of the whole image it has.
    region : tuple of four slices
        What was asked for.
    """

    data: bytes
    shape: tuple[int, int, int]
    blocks: Blocks
    region: Region

    def voxels(self, pixels: Array) -> Array:
        """Those of the region, (channel, z, y, x), in the decoded `pixels`; a view."""
        blocks, (channels, z, y, x) = self.blocks, self.region
        planes = z.stop - z.start
        pixels = pixels[blocks.above : blocks.above + planes * blocks.pitch]
        found = pixels.reshape(planes, blocks.pitch, *pixels.shape[1:]).transpose(3, 0, 1, 2)
        top, left = y.start - blocks.y, x.start - SIDE * blocks.first
        rows, columns = y.stop - y.start, x.stop - x.start
        return found[channels, :, top : top + rows, left : left + columns]


class Blocks(NamedTuple):
    """Which blocks of an image are needed.

    Parameters
    ----------
    rows : ndarray of bool
        Of blocks, up to the last that is needed.
    first, last : int
        Column of the first block, and the one after the last.
    above : int
        Rows of pixels in the first blocks that are of an earlier plane.
    pitch : int
        Rows of pixels from one plane to the next.
    y : int
        Of the first row of each plane that is there.
    """

    rows: Array
    first: int
    last: int
    above: int
    pitch: int
    y: int


class _Tables(NamedTuple):
    """What `keep_blocks` looks up, for each component."""

    joined: Array
    single: Array
    means: Array
    codes: Array


def crop(data: Bytes, chunk: ChunkSpec, region: Region) -> Cropped | None:
    """The blocks of `data` that have voxels of `region`, or None where the whole is needed.

    Of blocks that `region` does not need only those before the last that it needs are checked.
    """
    channels, z, y, x = chunk.shape
    if chunk.voxels < LEAST_VOXELS or bytes(data[-2:]) != END_OF_IMAGE:
        return None
    blocks = _needed(chunk, region)
    if blocks is None or _is_too_early(chunk):
        return None
    header = read_header(data)
    if header is None or (header.width, header.height) != (x, y * z):
        return None
    if len(header.tables) != channels:
        return None
    coded = _coded(data, header, blocks)
    if coded is None:
        return None
    height = SIDE * int(np.count_nonzero(blocks.rows))
    width = SIDE * (blocks.last - blocks.first)
    start = bytearray(data[: header.scan_at])
    SIZE.pack_into(start, header.size_at, height, width)
    found = b"".join((start, coded, END_OF_IMAGE))
    return Cropped(found, (height, width, channels), blocks, region)


def _is_too_early(chunk: ChunkSpec) -> bool:
    """Whether the kernels are not worth loading yet, of which this is one chunk more."""
    global _voxels
    before, _voxels = _voxels, _voxels + chunk.voxels  # it need not be exact
    return before <= BEFORE


def _needed(chunk: ChunkSpec, region: Region) -> Blocks | None:
    """The blocks of a part, or None where it is as fast to decode them all."""
    _, _, y, x = chunk.shape
    _, planes, rows, columns = region
    if y % SIDE:  # blocks are of two planes
        top = planes.start * y // SIDE
        flags = np.zeros(-(-planes.stop * y // SIDE), np.bool_)
        flags[top:] = True
        above, pitch, first_y = planes.start * y - SIDE * top, y, 0
    else:
        top, bottom = rows.start // SIDE, -(-rows.stop // SIDE)
        each = np.zeros((planes.stop, y // SIDE), np.bool_)
        each[planes.start :, top:bottom] = True
        flags = each.reshape(-1)[: (planes.stop - 1) * (y // SIDE) + bottom]
        above, pitch, first_y = 0, SIDE * (bottom - top), SIDE * top
    first, last = columns.start // SIDE, -(-columns.stop // SIDE)
    total = chunk.voxels / SIDE**2
    kept = np.count_nonzero(flags) * (last - first) / total
    walked = len(flags) * -(-x // SIDE) / total
    if kept + WALKING * walked + PREPARING > WORTHWHILE:
        return None
    return Blocks(flags, first, last, above, pitch, first_y)


def _coded(data: Bytes, header: Header, blocks: Blocks) -> bytes | None:
    """The coded pixels of `blocks`; None without numba, or of what is not as it should be."""
    fill, join = compiled(kernel.join_symbols), compiled(kernel.join_bytes)
    keep = compiled(kernel.keep_blocks)
    if fill is None or join is None or keep is None:
        return None
    tables = _tables(header.tables, fill)
    coded = np.frombuffer(data, np.uint8)[header.scan_at : -len(END_OF_IMAGE)]
    coded.flags.writeable = False  # of this view; one kernel is compiled for both kinds
    words, out, flags = _memory(coded.size, len(blocks.rows))
    marks = np.flatnonzero(np.equal(coded, MARK, out=flags))
    length = join(coded, marks, words.view(np.uint8))
    if length < 0:
        return None
    columns = blocks.first, blocks.last, -(-header.width // SIDE)
    kept, read = keep(_swapped(words), 8 * length, blocks.rows, columns, *tables, out)
    complete = SIDE * len(blocks.rows) >= header.height
    if kept < 0 or (complete and 8 * length - read >= 8):
        return None
    found = _swapped(out[: kept // 64 + 1]).tobytes()[: kept // 8]
    return found.replace(b"\xff", b"\xff\0")


def _memory(coded: int, rows: int) -> tuple[Array, Array, Array]:
    """For so many coded bytes: words, as many and some for each row, a flag for each byte."""
    first = coded // 8 + 4
    both = 2 * first + 2 * rows
    memory = scratch(8 * both + coded)
    words = memory[: 8 * both].view(np.uint64)
    return words[:first], words[first:], memory[8 * both :].view(np.bool_)


def _swapped(words: Array) -> Array:
    """Big-endian words as native ones, and back, in place."""
    return words.byteswap(inplace=True) if sys.byteorder == "little" else words


@lru_cache(maxsize=8)  # mostly a volume has the same everywhere; 300 KB for each component
def _tables(
    used: tuple[tuple[HuffmanTable, HuffmanTable], ...], fill: Callable[..., Any]
) -> _Tables:
    """What `keep_blocks` looks up; `fill` is `join_symbols`.

    Codes that are more than there can be are left to libjpeg, which is given the same ones.
    """
    shape = len(used), 1 << kernel.SYMBOL_BITS
    tables = _Tables(
        np.empty((len(used), 1 << kernel.JOINED_BITS), np.uint16),
        np.full(shape, kernel.BAD << 5, np.uint16),
        np.zeros(shape, np.uint16),
        np.zeros((len(used), kernel.MAX_SIZE + 1, 2), np.int64),
    )
    for c, (of_means, of_others) in enumerate(used):
        for table, entry, into in (
            (of_means, _mean_entry, tables.means[c]),
            (of_others, _entry, tables.single[c]),
        ):
            for symbol, code, length in _codes(table):
                span = 1 << (kernel.SYMBOL_BITS - length)
                into[code * span : (code + 1) * span] = entry(symbol, length)
        for symbol, code, length in _codes(of_means):
            if symbol <= kernel.MAX_SIZE:
                tables.codes[c, symbol] = code, length
        fill(tables.single[c], tables.joined[c])
    return tables


def _codes(table: HuffmanTable) -> Iterator[tuple[int, int, int]]:
    """Symbols, their codes, and the lengths of these in bits."""
    code = 0
    symbols = iter(table[16:])
    for length, count in enumerate(table[:16], 1):
        for symbol in itertools.islice(symbols, count):
            yield symbol, code, length
            code += 1
        code <<= 1


def _mean_entry(size: int, length: int) -> int:
    return size << 5 | length if size <= kernel.MAX_SIZE else 0


def _entry(symbol: int, length: int) -> int:
    """Of a symbol that is a number of zeros and the bits of the number after them."""
    zeros, size = symbol >> 4, symbol & 15
    if symbol == 0:
        return kernel.END << 5 | length
    if size == 0 and zeros < 15:  # of progressive images
        return kernel.BAD << 5
    return (zeros + 1) << 5 | (length + size)
