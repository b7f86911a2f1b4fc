"""Reading compressed_segmentation in bounds-checked loops (format reference 3.6).

Plain Python that numba compiles; nothing here trusts an offset.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# indexes that are known not to be negative: numba leaves out the wrap-around
from numpy import uint64 as unsigned

# what the functions return beside 0
BAD_WIDTH = 1
VALUES_OUTSIDE = 2
TABLE_OUTSIDE = 3
INDEX_OUTSIDE = 4


def decode_channel(
    words: Any, limit: int, size: Any, block: Any, start: Any, out: Any, wide: bool
) -> tuple[int, int]:
    """Decode the box of one channel that begins at `start` into `out` (z, y, x).

    Parameters
    ----------
    words : uint32 array
        From the channel's start to the end of the stream; block headers are inside (checked).
    limit : int
        ``len(words)``.
    size, block, start : int64 arrays of three
        Chunk extent, block extent and first voxel wanted, x, y, z.
    out : uint32 or uint64 array, axes (z, y, x), any strides
    wide : bool
        Tables of two words an entry.

    Returns
    -------
    tuple of int
        0 or one of the codes above, and the number of the block.
    """
    bx, by, bz = block[0], block[1], block[2]
    nx = (size[0] + bx - 1) // bx
    ny = (size[1] + by - 1) // by
    x0, y0, z0 = start[0], start[1], start[2]
    x1, y1, z1 = x0 + out.shape[2], y0 + out.shape[1], z0 + out.shape[0]
    per_entry = 2 if wide else 1
    for gz in range(z0 // bz, (z1 + bz - 1) // bz):
        for gy in range(y0 // by, (y1 + by - 1) // by):
            for gx in range(x0 // bx, (x1 + bx - 1) // bx):
                number = gx + nx * (gy + ny * gz)
                header = words[2 * number]
                table = int(header & 0xFFFFFF)
                bits = int(header >> 24)
                values = int(words[2 * number + 1])
                entries = (limit - table) // per_entry
                if entries < 1:
                    return TABLE_OUTSIDE, number
                xa, xb = max(x0, gx * bx), min(x1, (gx + 1) * bx)
                ya, yb = max(y0, gy * by), min(y1, (gy + 1) * by)
                za, zb = max(z0, gz * bz), min(z1, (gz + 1) * bz)
                if bits == 0:
                    label = words[table] | (words[table + 1] << 32) if wide else words[table]
                    for z in range(za - z0, zb - z0):
                        for y in range(ya - y0, yb - y0):
                            for x in range(xa - x0, xb - x0):
                                out[unsigned(z), unsigned(y), unsigned(x)] = label
                    continue
                if bits not in (1, 2, 4, 8, 16, 32):
                    return BAD_WIDTH, number
                if values + (bits * bx * by * bz + 31) // 32 > limit:
                    return VALUES_OUTSIDE, number
                mask = (1 << bits) - 1
                trusted = entries > mask
                for z in range(za, zb):
                    for y in range(ya, yb):
                        at = bits * (xa - gx * bx + bx * (y - gy * by + by * (z - gz * bz)))
                        for x in range(xa - x0, xb - x0):
                            word = int(words[unsigned(values + (at >> 5))])
                            index = (word >> (at & 31)) & mask
                            at += bits
                            if not trusted and index >= entries:
                                return INDEX_OUTSIDE, number
                            entry = table + per_entry * index
                            label = int(words[unsigned(entry)])
                            if wide:
                                label |= int(words[unsigned(entry + 1)]) << 32
                            out[unsigned(z - z0), unsigned(y - y0), unsigned(x)] = label
    return 0, 0


def decode_points(
    words: Any, limit: int, size: Any, block: Any, points: Any, out: Any, wide: bool
) -> tuple[int, int]:
    """Decode single voxels of one channel.

    Parameters
    ----------
    words, limit, size, block, wide
        As `decode_channel` has them.
    points : int64 array, shape (3, n)
        z, y and x of each voxel in the chunk.
    out : uint32 or uint64 array, shape (n,)

    Returns
    -------
    tuple of int
        As `decode_channel`.
    """
    bx, by, bz = block[0], block[1], block[2]
    nx = (size[0] + bx - 1) // bx
    ny = (size[1] + by - 1) // by
    per_entry = 2 if wide else 1
    for i in range(points.shape[1]):
        z, y, x = points[0, i], points[1, i], points[2, i]
        number = x // bx + nx * (y // by + ny * (z // bz))
        header = words[2 * number]
        table = int(header & 0xFFFFFF)
        bits = int(header >> 24)
        values = int(words[2 * number + 1])
        entries = (limit - table) // per_entry
        if entries < 1:
            return TABLE_OUTSIDE, number
        index = 0
        if bits:
            if bits not in (1, 2, 4, 8, 16, 32):
                return BAD_WIDTH, number
            if values + (bits * bx * by * bz + 31) // 32 > limit:
                return VALUES_OUTSIDE, number
            at = bits * (x % bx + bx * (y % by + by * (z % bz)))
            index = (int(words[values + (at >> 5)]) >> (at & 31)) & ((1 << bits) - 1)
            if index >= entries:
                return INDEX_OUTSIDE, number
        entry = table + per_entry * index
        label = int(words[entry])
        if wide:
            label |= int(words[entry + 1]) << 32
        out[i] = label
    return 0, 0


def count_channel(
    words: Any, limit: int, size: Any, block: Any, start: Any, stop: Any, wide: bool
) -> tuple[int, int, Any, Any]:
    """Count the labels of the box of one channel from `start` to `stop` without decoding it.

    Parameters
    ----------
    words, limit, size, block, start, wide
        As `decode_channel` has them.
    stop : int64 array of three
        Behind the last voxel wanted, x, y, z.

    Returns
    -------
    tuple of (int, int, uint64 array, int64 array)
        As `decode_channel`, then labels, in any order and repeated, and their voxels.
    """

    def label_at(words: Any, entry: int, wide: bool) -> Any:
        label = int(words[unsigned(entry)])
        if wide:
            label |= int(words[unsigned(entry + 1)]) << 32
        return unsigned(label)

    def grown(array: Any, used: int, least: int) -> Any:
        if least <= len(array):
            return array
        longer = np.empty(2 * least, array.dtype)
        longer[:used] = array[:used]
        return longer

    def add(labels: Any, counts: Any, used: int, label: Any, voxels: int) -> int:
        # neighbouring blocks are often of one label
        if used and labels[used - 1] == label:
            counts[used - 1] += voxels
            return used
        labels[used] = label
        counts[used] = voxels
        return used + 1

    bx, by, bz = block[0], block[1], block[2]
    nx = (size[0] + bx - 1) // bx
    ny = (size[1] + by - 1) // by
    x0, y0, z0 = start[0], start[1], start[2]
    x1, y1, z1 = stop[0], stop[1], stop[2]
    per_entry = 2 if wide else 1
    labels, counts, used = np.empty(64, np.uint64), np.empty(64, np.int64), 0
    # where the label of an index is counted, if the index's mark is the block's
    slots, marks = np.empty(1 << 16, np.int64), np.zeros(1 << 16, np.int64)
    for gz in range(z0 // bz, (z1 + bz - 1) // bz):
        for gy in range(y0 // by, (y1 + by - 1) // by):
            for gx in range(x0 // bx, (x1 + bx - 1) // bx):
                number = gx + nx * (gy + ny * gz)
                header = words[2 * number]
                table = int(header & 0xFFFFFF)
                bits = int(header >> 24)
                values = int(words[2 * number + 1])
                entries = (limit - table) // per_entry
                if entries < 1:
                    return TABLE_OUTSIDE, number, labels, counts
                xa, xb = max(x0, gx * bx), min(x1, (gx + 1) * bx)
                ya, yb = max(y0, gy * by), min(y1, (gy + 1) * by)
                za, zb = max(z0, gz * bz), min(z1, (gz + 1) * bz)
                voxels = (xb - xa) * (yb - ya) * (zb - za)
                labels = grown(labels, used, used + voxels)
                counts = grown(counts, used, used + voxels)
                if bits == 0:
                    used = add(labels, counts, used, label_at(words, table, wide), voxels)
                    continue
                if bits not in (1, 2, 4, 8, 16, 32):
                    return BAD_WIDTH, number, labels, counts
                if values + (bits * bx * by * bz + 31) // 32 > limit:
                    return VALUES_OUTSIDE, number, labels, counts
                mask = (1 << bits) - 1
                slot, last = 0, -1
                for z in range(za, zb):
                    for y in range(ya, yb):
                        at = bits * (xa - gx * bx + bx * (y - gy * by + by * (z - gz * bz)))
                        for _ in range(xb - xa):
                            word = int(words[unsigned(values + (at >> 5))])
                            index = (word >> (at & 31)) & mask
                            at += bits
                            if index != last:
                                if index >= entries:
                                    return INDEX_OUTSIDE, number, labels, counts
                                last = index
                                if bits < 32 and marks[index] == number + 1:
                                    slot = slots[index]
                                else:
                                    slot = used
                                    used += 1
                                    labels[slot] = label_at(words, table + per_entry * index, wide)
                                    counts[slot] = 0
                                    if bits < 32:
                                        slots[index], marks[index] = slot, number + 1
                            counts[unsigned(slot)] += 1
    return 0, 0, labels[:used], counts[:used]
