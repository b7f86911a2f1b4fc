"""The coded blocks of a baseline JPEG, picked out without being decoded (ITU-T T.81, annex F).

Plain Python that numba compiles. An image is a row of blocks of 8 x 8 pixels; each is coded as
the difference of its mean from that of the block before, and symbols for the other 63 numbers.
To find where a block ends only the lengths of its symbols are looked up, several at a time.

An entry of a table is ``length + 32 * step``: bits of the symbols and what follows them, and by
how many of the 63 numbers they go on; ``END`` more where the block ends with them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# indexes that are known not to be negative: numba leaves out the wrap-around
from numpy import uint64 as unsigned

__all__ = ["BAD", "END", "JOINED_BITS", "join_bytes", "join_symbols", "keep_blocks"]

END = 128
BAD = 500  # the step of what is no symbol
JOINED_BITS = 14  # 32 KiB of joined symbols: what a core has at hand
SYMBOL_BITS = 16
MAX_SIZE = 11  # bits of a difference of means


def join_bytes(coded: Any, marks: Any, out: Any) -> Any:
    """Copy `coded` without the zeros that are stuffed behind each byte 255.

    `marks` are where those bytes are, ascending. Returns how many bytes `out` now has, or -1 where
    another byte follows: a marker.
    """
    start = 0
    end = 0
    for mark in marks:
        if mark + 1 >= coded.size or coded[mark + 1] != 0:
            return -1
        length = mark + 1 - start
        out[end : end + length] = coded[start : mark + 1]
        start = mark + 2
        end += length
    length = coded.size - start
    out[end : end + length] = coded[start:]
    return end + length


def join_symbols(single: Any, joined: Any) -> None:
    """Fill `joined`, by ``JOINED_BITS`` bits, with as many symbols of `single` as these have."""
    for index in range(joined.size):
        bits = index << (SYMBOL_BITS - JOINED_BITS)
        found = np.int64(single[bits])
        if found & 31 > JOINED_BITS:
            found = np.int64(BAD * 32)
        while found >> 5 < 64:
            further = np.int64(single[(bits << (found & 31)) & 0xFFFF])
            length = (found & 31) + (further & 31)
            step = (found >> 5) + ((further >> 5) & (END - 1))
            if further >> 5 >= BAD or length > JOINED_BITS or step >= 64:
                break
            found += further
        joined[index] = found


def keep_blocks(
    words: Any,
    bits: int,
    rows: Any,
    columns: Any,
    joined: Any,
    single: Any,
    means: Any,
    codes: Any,
    out: Any,
) -> tuple[int, int]:
    """Copy the blocks of some rows and columns, as a stream of their own.

    Parameters
    ----------
    words : ndarray of uint64
        The coded blocks, most significant bit first, and three words more of anything.
    bits : int
        That `words` has.
    rows : ndarray of bool
        Which rows of blocks are kept; what comes after them is not looked at.
    columns : tuple of three int
        The first that is kept, the one after the last, and all.
    joined, single : ndarray of uint16, (component, 2**JOINED_BITS) and (component, 65536)
    means : ndarray of uint16, (component, 65536)
        ``length + 32 * size`` of the symbol of a difference of means, 0 for none.
    codes : ndarray of int64, (component, 12, 2)
        Code and length of the symbol for a size; the length is 0 where it has none.
    out : ndarray of uint64
        Filled as `words` is. It has as many, and two more for each row: no bit is copied twice,
        and each row has at most one new mean for each component, of 27 bits.

    Returns
    -------
    bits : tuple of two int
        That `out` has, a multiple of 8, and that were read. -1: something is not as it should be.
    """

    def window(words: Any, at: Any) -> Any:
        word, shift = unsigned(at >> 6), unsigned(at & 63)
        rest = (words[word + unsigned(1)] >> unsigned(1)) >> (unsigned(63) - shift)
        return (words[word] << shift) | rest

    # The processor waits for one entry before it can look for the next. Four fit into a window.
    def skip(words: Any, bits: int, at: Any, joined: Any, single: Any) -> Any:
        k = np.int64(1)
        while at <= bits:
            ahead = window(words, at)
            used = np.int64(0)
            for _ in range(4):
                entry = np.int64(joined[ahead >> unsigned(64 - JOINED_BITS)])
                after = k + (entry >> 5)
                if after >= 64:
                    if after == 64 or END <= after < END + 64:
                        return at + used + (entry & 31)
                    if used > 33:  # a symbol has up to 31 bits
                        break
                    entry = np.int64(single[ahead >> unsigned(64 - SYMBOL_BITS)])
                    after = k + (entry >> 5)
                    used += entry & 31
                    if after == 64 or END <= after < END + 64:
                        return at + used
                    if after >= 64:
                        return -1
                    k = after
                    break
                k = after
                ahead <<= unsigned(entry & 31)
                used += entry & 31
            at += used
        return -1

    def put(out: Any, end: Any, value: Any, count: Any) -> Any:
        word, room = unsigned(end >> 6), 64 - (end & 63)
        if room == 64:
            out[word] = value << unsigned(64 - count)
        elif count <= room:
            out[word] |= value << unsigned(room - count)
        else:
            out[word] |= value >> unsigned(count - room)
            out[word + unsigned(1)] = value << unsigned(64 - (count - room))
        return end + count

    def copy(words: Any, start: Any, stop: Any, out: Any, end: Any) -> Any:
        while start < stop:
            count = min(32, stop - start)
            end = put(out, end, window(words, start) >> unsigned(64 - count), count)
            start += count
        return end

    def put_change(change: Any, codes: Any, out: Any, end: Any) -> Any:
        size = 0
        while abs(change) >> size:
            size += 1
        if size > MAX_SIZE or codes[size, 1] == 0:
            return -1
        end = put(out, end, unsigned(codes[size, 0]), codes[size, 1])
        if size:
            negative = (1 << size) - 1 if change < 0 else 0
            end = put(out, end, unsigned(change + negative), size)
        return end

    first, last, width = columns
    mean = np.zeros(joined.shape[0], np.int64)
    told = np.zeros(joined.shape[0], np.int64)  # the mean that a reader of `out` knows
    at: Any = 0
    end: Any = 0
    pending: Any = -1  # from where blocks are to be copied
    for row in range(rows.size):
        for column in range(width):
            kept = rows[row] and first <= column and column < last
            if pending >= 0 and not kept:
                end = copy(words, pending, at, out, end)
                pending = -1
                told[:] = mean
            begins = kept and pending < 0
            for c in range(mean.size):
                ahead = window(words, at)
                entry = np.int64(means[c, ahead >> unsigned(64 - SYMBOL_BITS)])
                length, size = entry & 31, entry >> 5
                if size:
                    value = np.int64((ahead << unsigned(length)) >> unsigned(64 - size))
                    mean[c] += value if value >> (size - 1) else value + 1 - (1 << size)
                body = at + length + size
                at = skip(words, bits, body, joined[c], single[c])
                if entry == 0 or at < 0 or at > bits or abs(mean[c]) > 32767:
                    return -1, body
                if begins:
                    end = put_change(mean[c] - told[c], codes[c], out, end)
                    if end < 0:
                        return -1, at
                    end = copy(words, body, at, out, end)
            if begins:
                pending = at
    if pending >= 0:
        end = copy(words, pending, at, out, end)
    padding = -end & 7
    if padding:
        end = put(out, end, unsigned((1 << padding) - 1), padding)
    return end, at
