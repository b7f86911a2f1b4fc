"""The encoder of crackle streams as loops (format reference 3.8).

Plain Python that numba compiles. What it writes equals the public package's stream byte for
byte: a walk along the cracks prefers right, left, down, up in this order, remembers the corners
where it had a choice, and comes back to the latest of them at each dead end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# indexes that are known not to be negative: numba leaves out the wrap-around
from numpy import uint64 as unsigned

from xprecomputed.codecs._crackle_kernel import DE_BRUIJN

#: What a walk consists of beside the moves (0 up, 1 right, 2 down, 3 left): it will come back
#: here, it comes back, and what was taken out again
BRANCH, BACK, NOTHING = 4, 5, 6


def mark_cracks(labels: Any, planes: Any) -> Any:
    """Set the cracks between different labels.

    Parameters
    ----------
    labels : array, axes (z, y, x), any strides
    planes : uint64 array of zeros, shape (z, 2, y + 1, x // 64 + 1)
        As `draw_slices` leaves them.

    Returns
    -------
    int
        How many voxels have the label of the one before, rows and slices laid end to end.
    """
    sz, sy, sx = labels.shape
    words = (sx + 63) // 64
    rows = np.zeros((2, 64 * words + 1), labels.dtype)  # voxel x at x + 1
    pairs = np.int64(0)
    for r in range(sz * sy):
        z, y = r // sy, r % sy
        row, before = rows[r & 1], rows[1 - (r & 1)]
        for x in range(sx):
            row[unsigned(x + 1)] = labels[unsigned(z), unsigned(y), unsigned(x)]
        row[0] = row[1]  # no crack at the border
        pairs += sx - 1 + (r > 0 and row[1] == before[sx])
        for w in range(words):
            left, upper = unsigned(0), unsigned(0)
            for i in range(64):
                at = unsigned(64 * w + i)
                label = row[at + unsigned(1)]
                left |= unsigned(label != row[at]) << unsigned(i)
                upper |= unsigned(label != before[at + unsigned(1)]) << unsigned(i)
            if 64 * w + 64 > sx:
                inside = (unsigned(1) << unsigned(sx & 63)) - unsigned(1)
                left, upper = left & inside, upper & inside
            planes[z, 0, y, w] = left
            if y > 0:
                planes[z, 1, y, w] = upper
            while left:
                left &= left - unsigned(1)
                pairs -= 1
    return pairs


def first_labels(labels: Any, ends: Any, numbers: Any, begins: Any, values: Any) -> None:
    """Set the label of each component.

    Parameters
    ----------
    labels : array, axes (z, y, x), any strides
    ends, numbers
        As `join_runs` returns them.
    begins : int64 array
        Where in `values` those of each slice begin.
    values : array of the dtype of `labels`
        Set here.
    """
    sz, sy, sx = labels.shape
    run = unsigned(0)
    for z in range(sz):
        at = begins[z]  # of the next component that is new
        for y in range(sy):
            begin = np.int64(0)
            while begin < sx:
                if begins[z] + numbers[run] == at:
                    values[unsigned(at)] = labels[z, y, begin]
                    at += 1
                begin = np.int64(ends[run])
                run += unsigned(1)


def walk_slices(planes: Any, size: Any) -> Any:
    """Walk along all cracks; each connected set of them becomes a chain.

    Parameters
    ----------
    planes : uint64 array, shape (slices, 2, y + 1, x // 64 + 1)
        What is to be drawn, as `draw_slices` leaves it; nothing at the borders.
    size : int64 array of two
        Voxels in x, y.

    Returns
    -------
    codes : uint8 array
        0 to 3, not yet as differences.
    corners : int64 array
        Where each chain begins: ``(z * (size[1] + 1) + y) * (size[0] + 1) + x``.
    begins : int64 array
        Where in `codes` each chain begins, and the end of the last.
    """

    def link_corners(planes: Any, z: Any, wide: Any, table: Any, links: Any) -> int:
        # bits 0 to 3 of a corner: a crack leads right, left, down, up; returns how many there are
        cracks = 0
        for plane in range(2):
            ahead, behind, step = unsigned(4), unsigned(8), wide
            if plane == 1:
                ahead, behind, step = unsigned(1), unsigned(2), unsigned(1)
            for y in range(planes.shape[2]):
                for w in range(planes.shape[3]):
                    word = planes[z, unsigned(plane), unsigned(y), unsigned(w)]
                    while word:
                        bit = word & (~word + unsigned(1))
                        word ^= bit
                        x = unsigned(table[(bit * unsigned(DE_BRUIJN)) >> unsigned(58)])
                        at = unsigned(y) * wide + unsigned(64 * w) + x
                        links[at] |= ahead
                        links[at + step] |= behind
                        cracks += 1
        return cracks

    def next_corner(links: Any, eights: Any, at: Any) -> Any:
        # the first one from `at` on where a crack is left, or the end
        eight = at >> unsigned(3)
        while eight < len(eights) and eights[eight] == unsigned(0):
            eight += unsigned(1)
        at = eight << unsigned(3)
        while at < len(links) and links[at] == 0:
            at += unsigned(1)
        return at

    def walk(links: Any, at: Any, ways: Any, stack: Any, steps: Any) -> Any:
        # all moves from the corner `at` into `steps`; returns their number
        count, depth = unsigned(0), unsigned(0)
        while True:
            there = unsigned(links[at])
            if there == unsigned(0):
                steps[count] = BACK
                count += unsigned(1)
                if depth == unsigned(0):
                    return count
                depth -= unsigned(1)
                at = unsigned(stack[depth])
                continue
            # no branches from here on: none could be foreseen
            others = there & (there - unsigned(1))
            choice = unsigned(others != unsigned(0))
            steps[count] = BRANCH
            stack[depth] = at
            count += choice
            depth += choice
            links[at] = others
            steps[count] = ways[there, unsigned(1)]
            at += unsigned(ways[there, unsigned(0)])
            links[at] &= unsigned(ways[there, unsigned(2)])
            count += unsigned(1)

    def straighten(steps: Any, at: Any, wide: Any) -> Any:
        # a first branch without others in it is walked from its end; returns the corner there
        if steps[0] != BRANCH:
            return at
        end = 1
        while steps[end] < BRANCH:
            end += 1
        if steps[end] == BRANCH:
            return at
        steps[0] = steps[end] = NOTHING
        for i in range(1, end):
            move = steps[i]
            if move == 1:
                at += unsigned(1)
            elif move == 3:
                at -= unsigned(1)
            elif move == 2:
                at += wide
            else:
                at -= wide
        for i in range(1, end // 2 + 1):
            first, last = steps[i], steps[end - i]
            steps[i], steps[end - i] = last ^ 2, first ^ 2
        return at

    def prune(steps: Any, count: Any, stack: Any) -> None:
        # nobody need come back to a corner where nothing is left
        depth, moves, current = 0, 0, -1
        for i in range(count):
            step = steps[unsigned(i)]
            if step == BRANCH:
                stack[unsigned(depth)] = i
                depth += 1
            elif step == BACK:
                if current >= 0 and moves == 0:
                    steps[unsigned(current)] = steps[unsigned(i)] = NOTHING
                moves, current = 0, -1
                if depth:
                    depth -= 1
                    current = stack[unsigned(depth)]
            else:
                moves += 1

    def code_walk(steps: Any, count: Any, codes: Any, at: Any) -> Any:
        # two opposite moves stand for what is no move; which, so that the last cannot be meant
        last = np.int64(-1)
        for i in range(count):
            step = np.int64(steps[unsigned(i)])
            if step == NOTHING:
                continue
            if step >= BRANCH:
                first, second = (0, 2) if step == BRANCH else (2, 0)
                if last == second or last < 0:
                    first, second = (3, 1) if step == BRANCH else (1, 3)
                codes[at] = first
                at += unsigned(1)
                step = np.int64(second)
            codes[at] = last = step
            at += unsigned(1)
        return at

    slices, sx, sy = len(planes), size[0], size[1]
    wide = unsigned(sx + 1)
    table = np.empty(64, np.uint8)  # which bit is the only one
    for i in range(64):
        table[(unsigned(DE_BRUIJN) << unsigned(i)) >> unsigned(58)] = i
    # for each set of cracks at a corner: the step, the move, and what it leaves of the next
    ways = np.zeros((16, 3), np.int64)
    for there in range(15, 0, -1):
        if there & 1:
            ways[there, 0], ways[there, 1], ways[there, 2] = 1, 1, 13
        elif there & 2:
            ways[there, 0], ways[there, 1], ways[there, 2] = -1, 3, 14
        elif there & 4:
            ways[there, 0], ways[there, 1], ways[there, 2] = sx + 1, 2, 7
        else:
            ways[there, 0], ways[there, 1], ways[there, 2] = -sx - 1, 0, 11
    eights = np.zeros((sx + 1) * (sy + 1) // 8 + 1, np.uint64)
    links = eights.view(np.uint8)
    corners, begins = np.empty(1024, np.int64), np.empty(1024, np.int64)
    codes, steps, stack = np.empty(65536, np.uint8), np.empty(0, np.uint8), np.empty(0, np.int64)
    at, chains = unsigned(0), 0
    for z in range(slices):
        cracks = link_corners(planes, unsigned(z), wide, table, links)
        if 4 * cracks > len(steps):  # each crack may have a branch, its end, and a chain's end
            steps, stack = np.empty(4 * cracks, np.uint8), np.empty(cracks + 1, np.int64)
        if np.int64(at) + 7 * cracks > len(codes):
            more = np.empty(len(codes) + 7 * cracks, np.uint8)
            codes = np.concatenate((codes, more))
        corner = next_corner(links, eights, unsigned(0))
        while corner < len(links):
            if chains + 1 == len(corners):
                corners = np.concatenate((corners, np.empty(chains + 1, np.int64)))
                begins = np.concatenate((begins, np.empty(chains + 1, np.int64)))
            count = walk(links, corner, ways, stack, steps)
            start = straighten(steps, corner, wide)
            prune(steps, count, stack)
            corners[chains] = z * (sx + 1) * (sy + 1) + np.int64(start)
            begins[chains] = at
            at = code_walk(steps, count, codes, at)
            chains += 1
            corner = next_corner(links, eights, corner)
    begins[chains] = at
    return codes[: np.int64(at)], corners[:chains], begins[: chains + 1]


def pack_slices(
    codes: Any, corners: Any, begins: Any, order: Any, size: Any, lengths: Any, out: Any
) -> int:
    """Lay the chains of slices out as they are stored.

    Parameters
    ----------
    codes, corners, begins
        As `walk_slices` returns them.
    order : int64 array
        Sorts `corners`.
    size : int64 array of two
        Voxels in x, y.
    lengths : uint32 array
        Becomes the bytes of each slice.
    out : uint8 array
        Long enough: 9 bytes a slice, 13 a chain, and the codes' own, four to a byte.

    Returns
    -------
    int
        Bytes that were written.
    """

    def put(out: Any, at: int, value: int, width: int) -> int:
        for i in range(width):
            out[at + i] = (value >> (8 * i)) & 255
        return at + width

    def write_index(
        out: Any, at: int, corners: Any, order: Any, begin: int, end: int, wide: int, high: int
    ) -> int:
        # the rows where chains begin, and the places in each, as differences
        x_width = 1 if wide < 1 << 8 else 2 if wide < 1 << 16 else 4
        y_width = 1 if high < 1 << 8 else 2 if high < 1 << 16 else 4
        first, at = at, at + 4 + y_width
        rows, last_y = 0, 0
        while begin < end:
            row = corners[order[begin]] // wide
            count = 1
            while begin + count < end and corners[order[begin + count]] // wide == row:
                count += 1
            at = put(out, put(out, at, row % high - last_y, y_width), count, x_width)
            last_x = 0
            for i in range(begin, begin + count):
                x = corners[order[i]] % wide
                at = put(out, at, x - last_x, x_width)
                last_x = x
            rows, last_y, begin = rows + 1, row % high, begin + count
        put(out, put(out, first, at - first - 4, 4), rows, y_width)
        return at

    wide, high = size[0] + 1, size[1] + 1
    at, begin = 0, 0
    for z in range(len(lengths)):
        start, end = at, begin
        while end < len(order) and corners[order[end]] < (z + 1) * wide * high:
            end += 1
        at = write_index(out, at, corners, order, begin, end, wide, high)
        last = bits = np.int64(0)
        filled = 0
        for chain in order[begin:end]:
            for i in range(begins[chain], begins[chain + 1]):
                code = np.int64(codes[unsigned(i)])
                bits |= ((code - last) & 3) << filled
                last = code
                filled += 2
                if filled == 8:
                    out[unsigned(at)] = bits
                    at, bits, filled = at + 1, np.int64(0), 0
        if filled:
            out[at] = bits
            at += 1
        lengths[z] = at - start
        begin = end
    return at
