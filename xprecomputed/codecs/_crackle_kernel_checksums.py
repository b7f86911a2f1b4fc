"""CRC32C of the labels and of the numbered slices of crackle streams, as loops.

Plain Python that numba compiles. The checksum of a slice is one of four bytes for each voxel,
which are never laid out: a checksum is linear, so each run of equal numbers adds what follows
from the change at its beginning and from how many voxels are left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# indexes that are known not to be negative: numba leaves out the wrap-around
from numpy import uint64 as unsigned


def crc32c(data: Any, tables: Any) -> Any:
    """The CRC32C of a uint8 array, eight bytes a step.

    Parameters
    ----------
    data : uint8 array
    tables : uint32 array, shape (8, 256)
        What a byte does to a checksum after none to seven more.
    """
    state = np.uint32(0xFFFFFFFF)
    at = 0
    while at + 8 <= len(data):
        word = unsigned(state)
        state = np.uint32(0)
        for i in range(8):
            byte = data[unsigned(at + i)] ^ ((word >> unsigned(8 * i)) & unsigned(255))
            state ^= tables[7 - i, unsigned(byte)]
        at += 8
    while at < len(data):
        state = np.uint32(
            (state >> np.uint32(8)) ^ tables[0, unsigned((state ^ data[at]) & unsigned(255))]
        )
        at += 1
    return np.int64(state ^ np.uint32(0xFFFFFFFF))


def row_sums(tables: Any, sums: Any) -> Any:
    """Fill `sums` for `slice_checksums`; returns the checksum of as many zeros less one.

    Parameters
    ----------
    tables : uint32 array, shape (8, 256)
    sums : uint32 array, shape (voxels + 1,)
        Becomes the checksums, begun with 0, of none, one, two, … words whose top bit alone is set.
    """

    def step(state: Any, tables: Any) -> Any:
        # four bytes of zeros
        return (
            tables[3, state & unsigned(255)]
            ^ tables[2, (state >> unsigned(8)) & unsigned(255)]
            ^ tables[1, (state >> unsigned(16)) & unsigned(255)]
            ^ tables[0, state >> unsigned(24)]
        )

    zeros = unsigned(0xFFFFFFFF)
    state = unsigned(0)
    sums[0] = 0
    for i in range(1, len(sums)):
        state = unsigned(step(state ^ unsigned(0x80000000), tables))
        sums[i] = state
        zeros = unsigned(step(zeros, tables))
    return np.int64(zeros ^ unsigned(0xFFFFFFFF))


def slice_checksums(
    ends: Any, numbers: Any, firsts: Any, sx: int, sums: Any, zeros: int, checksums: Any
) -> None:
    """The CRC32C of each slice, four bytes for the number of each voxel.

    Parameters
    ----------
    ends, numbers, firsts
        As `join_runs` returns them.
    sx : int
        Voxels of a row.
    sums, zeros
        Of `row_sums` for the voxels of a slice.
    checksums : uint32 array
        Set here.
    """
    sets = np.empty(128, np.uint32)  # by four bits of a change, and where in a word they are
    bits = np.empty(32, np.uint32)
    for z in range(len(checksums)):
        sets[:] = 0
        last = unsigned(0)
        begin, left = np.int64(0), np.int64(len(sums) - 1)
        for run in range(firsts[z], firsts[z + 1]):
            number = unsigned(numbers[unsigned(run)])
            change = number ^ last
            last = number
            rest = sums[unsigned(left)]
            place = unsigned(0)
            while change:
                sets[place + (change & unsigned(15))] ^= rest
                change >>= unsigned(4)
                place += unsigned(16)
            end = np.int64(ends[unsigned(run)])
            left -= end - begin
            begin = np.int64(0) if end == sx else end
        bits[:] = 0
        for i in range(128):
            for bit in range(4):
                if (i >> bit) & 1:
                    bits[4 * (i >> 4) + bit] ^= sets[i]
        state = unsigned(zeros)
        shifted = unsigned(0)
        for bit in range(32):  # the first is followed by all others
            shifted = (shifted >> unsigned(1)) ^ (unsigned(0x82F63B78) * (shifted & unsigned(1)))
            shifted ^= unsigned(bits[bit])
        checksums[z] = state ^ shifted
