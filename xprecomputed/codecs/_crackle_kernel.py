"""The decoder of crackle streams as bounds-checked loops (format reference 3.8).

Plain Python that numba compiles. A slice is drawn as bits, one plane for the cracks to the left
of the voxels and one for those above them, and becomes runs: voxels side by side in a row that
no crack parts. Everything after the drawing goes run by run and not voxel by voxel, the checksum
too (`_crackle_kernel_checksums`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

# indexes that are known not to be negative: numba leaves out the wrap-around
from numpy import uint64 as unsigned

# what the functions return beside 0
INDEX_LENGTH = -1
CODES_EXHAUSTED = -2
CODES_LEFT = -3
OUTSIDE = -4
TOO_MANY_BRANCHES = -5
WRONG_COMPONENTS = -6
WRONG_CHECKSUM = -7

LEFT, ABOVE = 0, 1  # the planes
BIT, MOVE, ROW = range(3)  # what is kept from chain to chain: place, last code, row of the model


def draw_slice(
    data: Any, begin: int, end: int, model: Any, order: int, size: Any, planes: Any, stack: Any
) -> int:
    """Draw the cracks of the slice whose codes are ``data[begin:end]``.

    Parameters
    ----------
    data : uint8 array
        The stream.
    begin, end : int
        Within `data`.
    model : uint8 array
        For each of ``4**order`` histories the differences, the likeliest in the lowest two bits.
    order : int
        Of the Markov model, or 0.
    size : int64 array of two
        Voxels in x, y.
    planes : uint64 array, shape (2, y + 1, x // 64 + 1)
        Set here; bit x of a row is the crack at voxel x.
    stack : int64 array, shape (n, 2)
        Scratch for the places of branches; honest streams need two for each corner.

    Returns
    -------
    int
        0 or a code.
    """

    def number(data: Any, at: int, width: int) -> int:
        value = np.int64(0)
        for i in range(width):
            value |= np.int64(data[unsigned(at + i)]) << (8 * i)
        return value

    def width_of(most: int) -> int:
        return 1 if most < 1 << 8 else 2 if most < 1 << 16 else 4

    def draw_chain(
        data: Any, end: int, model: Any, order: int, x: int, y: int,
        size: Any, planes: Any, stack: Any, state: Any,
    ) -> int:  # fmt: skip
        # the chain that begins at the corner (x, y), until its last branch has ended
        bit, move, row = state[BIT], state[MOVE], state[ROW]
        sx, sy = size[0], size[1]
        newest = 2 * (order - 1)
        depth = 0
        pending = np.int64(-1)  # drawn when the next code shows that it is no half of a pair
        while True:
            if bit + 2 > end + (order > 0 and row >= 0):
                return CODES_EXHAUSTED
            codes = np.int64(data[unsigned(bit >> 3)])
            if order == 0:
                move = (move + (codes >> (bit & 7))) & 3
                bit += 2
            elif row < 0:  # the first of a slice is stored as it is
                move = (codes >> (bit & 7)) & 3
                bit += 2
                row = move << newest
            else:
                if (bit & 7) > 5 and bit + 3 <= end:
                    codes |= np.int64(data[unsigned((bit >> 3) + 1)]) << 8
                codes >>= bit & 7
                rank = 0 if not codes & 1 else 1 if not codes & 2 else 2 if not codes & 4 else 3
                bit += min(rank + 1, 3)
                if bit > end:
                    return CODES_EXHAUSTED
                difference = np.int64(model[unsigned(row)] >> (2 * rank)) & 3
                move = (move + difference) & 3
                row = (row >> 2) | (difference << newest)
            if move ^ pending == 2:  # back and forth: a pair that says something else
                pending = -1
                if move == 0 or move == 3:
                    if depth == 0:
                        break
                    depth -= 1
                    x, y = stack[unsigned(depth), 0], stack[unsigned(depth), 1]
                else:
                    if depth == len(stack):
                        return TOO_MANY_BRANCHES
                    stack[unsigned(depth), 0], stack[unsigned(depth), 1] = x, y
                    depth += 1
                continue
            if pending >= 0:
                sideways = pending & 1
                next_x = x + sideways * (2 - pending)
                next_y = y + (1 - sideways) * (pending - 1)
                if next_x < 0 or next_x > sx or next_y < 0 or next_y > sy:
                    return OUTSIDE
                at = unsigned(min(x, next_x))
                planes[unsigned(sideways), unsigned(min(y, next_y)), at >> unsigned(6)] |= (
                    unsigned(1) << (at & unsigned(63))
                )
                x, y = next_x, next_y
            pending = move
        state[BIT], state[MOVE], state[ROW] = bit, move, row
        return 0

    sx, sy = size[0], size[1]
    x_width, y_width = width_of(sx + 1), width_of(sy + 1)
    planes[:] = 0
    if end - begin < 4 + y_width:
        return INDEX_LENGTH
    at, last = begin + 4, begin + 4 + number(data, begin, 4)
    if last > end:
        return INDEX_LENGTH
    state = np.zeros(3, np.int64)
    state[BIT], state[ROW] = 8 * last, -1
    rows = number(data, at, y_width)
    at += y_width
    y = np.int64(0)
    for _ in range(rows):
        if at + y_width + x_width > last:
            return INDEX_LENGTH
        y += number(data, at, y_width)
        chains = number(data, at + y_width, x_width)
        at += y_width + x_width
        x = np.int64(0)
        if at + chains * x_width > last:
            return INDEX_LENGTH
        for _ in range(chains):
            x += number(data, at, x_width)
            at += x_width
            if x > sx or y > sy:
                return OUTSIDE
            code = draw_chain(data, 8 * end, model, order, x, y, size, planes, stack, state)
            if code:
                return code
    if at != last:
        return INDEX_LENGTH
    return 0 if (state[BIT] + 7) // 8 == end else CODES_LEFT
