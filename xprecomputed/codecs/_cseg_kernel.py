"""The decoder of compressed_segmentation as one bounds-checked loop (format reference 3.6).

Plain Python that numba compiles; nothing here allocates or trusts an offset.
"""

from __future__ import annotations

from typing import Any

# indexes that are known not to be negative: numba leaves out the wrap-around
from numpy import uint64 as unsigned

# what `decode_channel` returns beside 0
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
