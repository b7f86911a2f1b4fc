"""The encoder of compressed_segmentation as one loop over the blocks (format reference 3.6).

Plain Python that numba compiles. What it writes equals the public package's stream byte for
byte: headers, then of each block its values and, unless an equal one is there already, its
table, whose labels ascend. Padding of clipped blocks has the index 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# indexes that are known not to be negative: numba leaves out the wrap-around
from numpy import uint64 as unsigned

# what `encode_channel` returns in place of a length
TOO_LONG = -1


def encode_channel(channel: Any, block: Any, words: Any) -> int:
    """Encode one channel into the beginning of `words`.

    Parameters
    ----------
    channel : uint32 or uint64 array, axes (z, y, x), any strides
        No axis is empty.
    block : int64 array of three
        Block extent x, y, z; at most 65,536 voxels.
    words : uint32 array
        Its length is the longest stream that is allowed.

    Returns
    -------
    int
        How many words the stream has, or ``TOO_LONG``.
    """

    def power_of_two(least: int) -> int:
        power = 16
        while power < least:
            power *= 2
        return power

    def mixed(value: Any) -> Any:
        # an odd number near 2**64 over the golden ratio spreads neighbours over the top bits
        return unsigned(value) * unsigned(0x9E3779B97F4A7C15)

    def find(label: Any, keys: Any, marks: Any, mark: int, shift: Any) -> Any:
        # the slot of `label`, or the free one where it belongs
        slot = mixed(label) >> shift
        while marks[slot] == mark and keys[slot] != label:
            slot = (slot + unsigned(1)) & unsigned(len(keys) - 1)
        return slot

    def collect(
        voxels: Any, row: Any, indexes: Any, labels: Any,
        keys: Any, places: Any, marks: Any, mark: int, shift: Any,
    ) -> int:  # fmt: skip
        # number the block's labels in the order of their first voxels; returns how many
        last = voxels[0, 0, 0]
        index = 0
        count = 0
        sz, sy, sx = voxels.shape
        for z in range(sz):
            for y in range(sy):
                at = unsigned(row[0] * (y + row[1] * z))
                if sx == 8 and count:  # the usual block: rows of one label in one step
                    other = voxels[unsigned(z), unsigned(y), unsigned(0)] ^ last
                    for x in range(1, 8):
                        other |= voxels[unsigned(z), unsigned(y), unsigned(x)] ^ last
                    if other == 0:
                        for x in range(8):
                            indexes[at + unsigned(x)] = index
                        continue
                for x in range(sx):
                    label = voxels[unsigned(z), unsigned(y), unsigned(x)]
                    if label != last or count == 0:
                        last = label
                        slot = find(label, keys, marks, mark, shift)
                        if marks[slot] != mark:
                            marks[slot] = mark
                            keys[slot] = label
                            places[slot] = count
                            labels[count] = label
                            count += 1
                        index = places[slot]
                    indexes[at + unsigned(x)] = index
        return count

    def pack(indexes: Any, ranks: Any, bits: int, extent: Any, row: Any, packed: Any) -> None:
        # padding stays 0
        packed[:] = 0
        for z in range(extent[0]):
            for y in range(extent[1]):
                at = row[0] * (y + row[1] * z)
                bit = bits * at
                word = unsigned(0)
                for x in range(extent[2]):
                    rank = ranks[unsigned(indexes[unsigned(at + x)])]
                    word |= unsigned(rank) << unsigned(bit & 31)
                    bit += bits
                    if bit & 31 == 0:
                        packed[unsigned((bit >> 5) - 1)] |= np.uint32(word)
                        word = unsigned(0)
                if bit & 31:
                    packed[unsigned(bit >> 5)] |= np.uint32(word)

    def same(table: Any, labels: Any, per_entry: int) -> bool:
        for i in range(len(labels)):
            label = unsigned(table[per_entry * i])
            if per_entry == 2:
                label |= unsigned(table[2 * i + 1]) << unsigned(32)
            if label != unsigned(labels[i]):
                return False
        return True

    def table_slot(labels: Any, words: Any, per_entry: int, offsets: Any, sizes: Any) -> Any:
        # the slot of an equal table, or the free one where this belongs
        mix = unsigned(len(labels))
        for label in labels:
            mix = mixed(mix ^ unsigned(label))
            mix ^= mix >> unsigned(32)
        slot = mix & unsigned(len(sizes) - 1)
        while sizes[slot]:
            if sizes[slot] == len(labels) and same(words[offsets[slot] :], labels, per_entry):
                break
            slot = (slot + unsigned(1)) & unsigned(len(sizes) - 1)
        return slot

    sz, sy, sx = channel.shape
    bx, by, bz = block[0], block[1], block[2]
    nx, ny, nz = (sx + bx - 1) // bx, (sy + by - 1) // by, (sz + bz - 1) // bz
    per_entry = channel.itemsize // 4
    blocks = nx * ny * nz
    at = 2 * blocks
    if at > len(words):
        return TOO_LONG
    most = min(bx, sx) * min(by, sy) * min(bz, sz)
    # scratch: the numbering of a block's labels
    indexes = np.empty(bx * by * bz, np.uint16)
    labels = np.empty(most, channel.dtype)
    ranks = np.empty(most, np.uint16)
    keys = np.empty(power_of_two(2 * most), channel.dtype)
    places = np.empty(len(keys), np.uint16)
    marks = np.zeros(len(keys), np.int32)  # a slot is taken where its mark is the block's
    shift = unsigned(64)
    while unsigned(len(keys)) >> (unsigned(64) - shift) > 1:
        shift -= unsigned(1)
    # and the tables that were written
    offsets = np.empty(power_of_two(2 * blocks), np.int64)
    sizes = np.zeros(len(offsets), np.int32)
    row = (bx, by)
    for number in range(blocks):
        x, y, z = number % nx * bx, number // nx % ny * by, number // (nx * ny) * bz
        voxels = channel[z : z + bz, y : y + by, x : x + bx]
        mark = number + 1
        count = collect(voxels, row, indexes, labels, keys, places, marks, mark, shift)
        bits = 0
        words[2 * number + 1] = at
        table = labels[:count]
        if count > 1:
            bits = 1
            while 1 << bits < count:
                bits *= 2
            table.sort()
            for rank in range(count):
                ranks[places[find(table[rank], keys, marks, mark, shift)]] = rank
            begin = at
            at += (bits * bx * by * bz + 31) // 32
            if at > len(words):
                return TOO_LONG
            pack(indexes, ranks, bits, voxels.shape, row, words[begin:at])
        slot = table_slot(table, words, per_entry, offsets, sizes)
        if sizes[slot] == 0:
            if at + per_entry * count > len(words):
                return TOO_LONG
            offsets[slot] = at
            sizes[slot] = count
            for label in table:
                words[at] = unsigned(label) & unsigned(0xFFFFFFFF)
                if per_entry == 2:
                    words[at + 1] = unsigned(label) >> unsigned(32)
                at += per_entry
        words[2 * number] = offsets[slot] | (bits << 24)
    return int(at)
