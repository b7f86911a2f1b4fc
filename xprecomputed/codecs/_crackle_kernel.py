"""The decoder of crackle streams as bounds-checked loops (format reference 3.8).

Plain Python that numba compiles. Slices are drawn as bits, one plane for the cracks to the left
of the voxels and one for those above them, and become runs: voxels side by side in a row that
no crack parts. Everything after the drawing goes run by run and not voxel by voxel, the
checksums too (`_crackle_kernel_checksums`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

# indexes that are known not to be negative: numba leaves out the wrap-around
from numpy import uint64 as unsigned

# what `draw_slices` returns beside 0
INDEX_LENGTH = -1
CODES_EXHAUSTED = -2
CODES_LEFT = -3
OUTSIDE = -4
TOO_MANY_BRANCHES = -5

DE_BRUIJN = 0x03F79D71B4CB0A89  # every six bits of it in a row are another number


def draw_slices(
    data: Any, begins: Any, model: Any, order: int, size: Any, planes: Any, stack: Any
) -> int:
    """Draw the cracks of slices.

    Parameters
    ----------
    data : uint8 array
        The stream.
    begins : int64 array, shape (slices + 1,)
        Where in `data` the codes of each slice begin, and the end of the last.
    model : uint8 array, shape (4**order,)
        Of each history the differences that may follow, the likeliest in the lowest two bits.
    order : int
        How many differences a history has; 0 where the codes are plain.
    size : int64 array of two
        Voxels in x, y.
    planes : uint64 array of zeros, shape (slices, 2, y + 1, x // 64 + 1)
        Bit x of a row is the crack to the left of voxel x, or above it.
    stack : int64 array, shape (n, 2)
        Scratch for the corners where branches begin.

    Returns
    -------
    int
        0 or a code.
    """

    def number(data: Any, at: int, width: int) -> Any:
        value = np.int64(0)
        for i in range(width):
            value |= np.int64(data[unsigned(at + i)]) << (8 * i)
        return value

    def draw_chain(
        data: Any, state: Any, end: int, model: Any, order: int,
        x: Any, y: Any, size: Any, plane: Any, stack: Any,
    ) -> int:  # fmt: skip
        # from the corner (x, y) until the last branch has ended; codes end at the bit `end`
        bit, move, row = state[0], state[1], state[2]
        sx, sy = size[0], size[1]
        newest = 2 * (order - 1)
        pending = np.int64(-1)  # drawn when the next code shows that it is no half of a pair
        depth = 0
        while True:
            if row < 0:  # two bits: the difference to the last code, or the first of a model
                if bit + 2 > end:
                    return CODES_EXHAUSTED
                move = (move + (np.int64(data[unsigned(bit >> 3)]) >> (bit & 7))) & 3
                bit += 2
                if order:
                    row = move << newest
            else:
                if bit >= end:
                    return CODES_EXHAUSTED
                codes = np.int64(data[unsigned(bit >> 3)])
                if bit + 8 < end:
                    codes |= np.int64(data[unsigned((bit >> 3) + 1)]) << 8
                codes >>= bit & 7
                rank = 0 if not codes & 1 else 1 if not codes & 2 else 2 if not codes & 4 else 3
                bit += min(rank + 1, 3)  # beyond the end, it will be found out
                difference = (np.int64(model[unsigned(row)]) >> (2 * rank)) & 3
                row = (row >> 2) | (difference << newest)
                move = (move + difference) & 3
            if move ^ pending == 2:  # there and back: a pair that draws nothing
                pending = np.int64(-1)
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
            if pending >= 0:  # 0 up, 1 right, 2 down, 3 left
                sideways = pending & 1
                next_x = x + sideways * (2 - pending)
                next_y = y + (1 - sideways) * (pending - 1)
                if next_x < 0 or next_x > sx or next_y < 0 or next_y > sy:
                    return OUTSIDE
                at = unsigned(min(x, next_x))
                bits = plane[unsigned(sideways), unsigned(min(y, next_y))]
                bits[at >> unsigned(6)] |= unsigned(1) << (at & unsigned(63))
                x, y = next_x, next_y
            pending = move
        state[0], state[1], state[2] = bit, move, row
        return 0

    def draw_slice(
        data: Any, begin: int, end: int, model: Any, order: int, size: Any, plane: Any, stack: Any
    ) -> int:
        x_width = 1 if size[0] < 255 else 2 if size[0] < 65535 else 4
        y_width = 1 if size[1] < 255 else 2 if size[1] < 65535 else 4
        at = begin + 4
        if at > end:
            return INDEX_LENGTH
        last = at + number(data, begin, 4)
        if last < at + y_width or last > end:
            return INDEX_LENGTH
        state = np.array([8 * last, 0, -1])  # the next bit, the last code, the history
        rows = number(data, at, y_width)
        at += y_width
        y = np.int64(0)
        for _ in range(rows):
            if at + y_width + x_width > last:
                return INDEX_LENGTH
            y += number(data, at, y_width)
            chains = number(data, at + y_width, x_width)
            at += y_width + x_width
            if at + chains * x_width > last:
                return INDEX_LENGTH
            x = np.int64(0)
            for _ in range(chains):
                x += number(data, at, x_width)
                at += x_width
                if x > size[0] or y > size[1]:
                    return OUTSIDE
                code = draw_chain(data, state, 8 * end, model, order, x, y, size, plane, stack)
                if code:
                    return code
        if at != last:
            return INDEX_LENGTH
        return 0 if (state[0] + 7) // 8 == end else CODES_LEFT

    for z in range(len(begins) - 1):
        code = draw_slice(data, begins[z], begins[z + 1], model, order, size, planes[z], stack)
        if code:
            return code
    return 0


def join_runs(planes: Any, flip: Any, size: Any) -> Any:
    """Number the components of each slice, in the order of their first voxels.

    Parameters
    ----------
    planes : uint64 array, shape (slices, 2, y + 1, x // 64 + 1)
        As `draw_slices` leaves them.
    flip : uint64
        All bits where the planes have 1 for what is no crack, else 0.
    size : int64 array of two
        Voxels in x, y.

    Returns
    -------
    ends, numbers : int32 arrays, shape (runs,)
        Where in its row each run ends, and the number of its component.
    firsts : int64 array, shape (slices + 1,)
        The first run of each slice.
    counts : int64 array, shape (slices,)
        Components of each slice.
    """

    def join_row(
        planes: Any, z: Any, y: Any, sx: Any, flip: Any, table: Any,
        run: Any, above: Any, ends: Any, parents: Any,
    ) -> Any:  # fmt: skip
        # `run` and `above` are the first runs of this row and of the one above it
        zero, one = unsigned(0), unsigned(1)
        mine = run  # the root of this run
        for w in range(planes.shape[3]):
            word = unsigned(w)
            left, crack = planes[z, zero, y, word] ^ flip, ~zero
            upper = zero
            if y > zero:
                upper, crack = planes[z, zero, y - one, word] ^ flip, planes[z, one, y, word] ^ flip
            begin = unsigned(64) * word
            # where a run begins, here or above, or the crack between them has ended
            todo = left | upper | (~crack & ((crack << one) | one))
            if begin + unsigned(64) > sx:
                todo &= (one << (sx - begin)) - one
            if word == zero:  # which begin both runs, and are no cracks between voxels
                left, upper, todo = left & ~one, upper & ~one, todo | one
            while todo:  # no branches in here: none could be foreseen
                bit = todo & (~todo + one)
                x = unsigned(table[(bit * unsigned(DE_BRUIJN)) >> unsigned(58)])
                todo ^= bit
                ends[run] = begin + x  # and again at its true end
                run += (left >> x) & one
                mine = run if left & bit else mine
                above += (upper >> x) & one
                theirs = unsigned(parents[above])
                while parents[theirs] != theirs:
                    theirs = unsigned(parents[theirs])
                theirs = mine if crack & bit else theirs
                parents[max(mine, theirs)] = min(mine, theirs)
                mine = min(mine, theirs)
        ends[run] = sx
        return run + one

    table = np.empty(64, np.uint8)  # which bit is the only one
    for i in range(64):
        table[(unsigned(DE_BRUIJN) << unsigned(i)) >> unsigned(58)] = i
    slices, sx, sy = len(planes), size[0], size[1]
    ends, parents = np.empty(4096 + sx, np.int32), np.arange(4096 + sx).astype(np.int32)
    firsts, counts = np.zeros(slices + 1, np.int64), np.zeros(slices, np.int64)
    run = unsigned(0)
    for z in range(slices):
        above = unsigned(0)
        for y in range(sy):
            if np.int64(run) + sx > len(ends):
                more = np.arange(len(ends), 2 * len(ends)).astype(np.int32)
                ends, parents = np.concatenate((ends, more)), np.concatenate((parents, more))
            begin = run
            run = join_row(
                planes, unsigned(z), unsigned(y), unsigned(sx), flip, table,
                run, above, ends, parents,
            )  # fmt: skip
            above = begin
        firsts[z + 1] = run
        for i in range(firsts[z], firsts[z + 1]):  # a parent is smaller: it has its number before
            parent = parents[i]
            if parent == i:
                parents[i] = counts[z]
                counts[z] += 1
            else:
                parents[i] = parents[parent]
    return ends[: firsts[slices]], parents[: firsts[slices]], firsts, counts


def paint(ends: Any, numbers: Any, firsts: Any, values: Any, out: Any) -> None:
    """Give every voxel of `out` (axes z, y, x) the value of its component.

    Parameters
    ----------
    ends, numbers
        As `join_runs` returns them.
    firsts : int64 array
        Where in `values` those of each slice begin.
    values : array of the dtype of `out`
    """
    sz, sy, sx = out.shape
    run = unsigned(0)
    for z in range(sz):
        for y in range(sy):
            row = out[z, y]
            begin = np.int64(0)
            while begin < sx:
                end = np.int64(ends[run])
                value = values[unsigned(firsts[z] + numbers[run])]
                for x in range(begin, end):
                    row[unsigned(x)] = value
                begin = end
                run += unsigned(1)
