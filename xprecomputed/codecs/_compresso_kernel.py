"""The decoder of compresso streams as bounds-checked loops (format reference 3.7).

Plain Python that numba compiles. The public package checks nothing: hostile streams crash
the process or give garbage.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# indexes that are known not to be negative: numba leaves out the wrap-around
from numpy import uint64 as unsigned

# what the functions return beside 0
TOO_FEW_WINDOWS = -1
TOO_MANY_WINDOWS = -2
WINDOW_OUTSIDE = -3
WRONG_COMPONENTS = -4
LOCATIONS_EXHAUSTED = -5
NEIGHBOUR_OUTSIDE = -6
NEIGHBOUR_UNKNOWN = -7
LOCATIONS_LEFT = -8


def unpack_windows(runs: Any, values: Any, steps: Any, boundary: Any) -> int:
    """Set `boundary` (uint8, axes z, y, x) from the run-length coded `runs`.

    Returns 0 or a code. `runs` and `values` are uint64 arrays, `steps` the window's
    extent in x, y, z.
    """
    sz, sy, sx = boundary.shape
    nx = (sx + steps[0] - 1) // steps[0]
    ny = (sy + steps[1] - 1) // steps[1]
    nz = (sz + steps[2] - 1) // steps[2]
    total = nx * ny * nz
    window = np.int64(0)
    for at in range(len(runs)):
        word = runs[at]
        count = np.int64(1)
        index = np.int64(word >> np.uint64(1))  # fits: the top bit is gone
        if word & np.uint64(1):
            count = index
            index = np.int64(0)
            # compared this way round so that a huge count cannot overflow
            if count > total - window:
                return TOO_MANY_WINDOWS
        elif window >= total:
            return TOO_MANY_WINDOWS
        if index >= len(values):
            return WINDOW_OUTSIDE
        value = values[index]
        if value == 0:  # boundary begins as zeros
            window += count
            continue
        for _ in range(count):
            x0 = (window % nx) * steps[0]
            y0 = (window // nx % ny) * steps[1]
            z0 = (window // (nx * ny)) * steps[2]
            bit = 0
            for dz in range(steps[2]):
                for dy in range(steps[1]):
                    for dx in range(steps[0]):
                        x, y, z = x0 + dx, y0 + dy, z0 + dz
                        if x < sx and y < sy and z < sz:
                            boundary[z, y, x] = (value >> np.uint64(bit)) & np.uint64(1)
                        bit += 1
            window += 1
    return 0 if window == total else TOO_FEW_WINDOWS


def number_components(boundary: Any, six: bool, labels: Any) -> Any:
    """Give each voxel between boundaries a provisional label, -1 on boundaries.

    `labels` is int32 scratch of the chunk's extent (z, y, x); `six` joins slices too.
    Returns the parent of each label: itself, or a smaller label of the same component.
    """

    def join(parents: Any, a: int, b: int) -> int:
        # the root that was met first stays
        while parents[a] != a:
            parents[a] = parents[parents[a]]
            a = parents[a]
        while parents[b] != b:
            parents[b] = parents[parents[b]]
            b = parents[b]
        parents[max(a, b)] = min(a, b)
        return min(a, b)

    def touch(parents: Any, label: int, others: Any, begin: int, end: int) -> int:
        seen = -1
        for i in range(begin, end):
            other = others[unsigned(i)]
            if other != seen:
                seen = other
                if other >= 0:
                    label = other if label < 0 else join(parents, label, other)
        return label

    sz, sy, sx = boundary.shape
    parents = np.empty(1024, np.int32)
    nothing = np.full(sx, -1, np.int32)
    count = 0
    for z in range(sz):
        for y in range(sy):
            edge, row = boundary[z, y], labels[z, y]
            above = labels[z, y - 1] if y > 0 else nothing
            below = labels[z - 1, y] if six and z > 0 else nothing
            row[:] = -1
            begin = 0
            while begin < sx:
                if edge[unsigned(begin)]:
                    begin += 1
                    continue
                end = begin + 1
                while end < sx and edge[unsigned(end)] == 0:
                    end += 1
                # the run [begin, end) takes the labels that it touches, as one
                label = touch(parents, -1, above, begin, end)
                if six and z > 0:
                    label = touch(parents, label, below, begin, end)
                if label < 0:
                    if count == len(parents):
                        grown = np.empty(2 * count, np.int32)
                        grown[:count] = parents
                        parents = grown
                    parents[count] = count
                    label = count
                    count += 1
                row[begin:end] = label
                begin = end
    return parents[:count]


def fill_components(parents: Any, ids: Any, labels: Any, out: Any) -> int:
    """Give every component, in the order of its first voxel, the next of `ids`.

    Returns 0 or a code.
    """
    # a parent is always smaller than its children, so it has its number before them
    numbers = np.empty(len(parents), np.int64)
    values = np.empty(len(parents), out.dtype)
    components = 0
    for label in range(len(parents)):
        if parents[label] == label:
            if components == len(ids):
                return WRONG_COMPONENTS
            numbers[label] = components
            components += 1
        else:
            numbers[label] = numbers[parents[label]]
        values[label] = ids[numbers[label]]
    if components != len(ids):
        return WRONG_COMPONENTS
    sz, sy, sx = labels.shape
    for z in range(sz):
        for y in range(sy):
            row, labelled = labels[z, y], out[z, y]
            for i in range(sx):
                x = unsigned(i)
                if row[x] >= 0:
                    labelled[x] = values[unsigned(row[x])]
    return 0


def fill_boundaries(boundary: Any, locations: Any, six: bool, out: Any) -> int:
    """Give each boundary voxel its label; `boundary` becomes 2 where that is done.

    Returns 0 or a code.
    """
    sz, sy, sx = boundary.shape
    at = 0
    for z in range(sz):
        for y in range(sy):
            for x in range(sx):
                if not boundary[z, y, x]:
                    continue
                # 1 marks a boundary voxel without a label yet, 2 one that has it
                if x > 0 and boundary[z, y, x - 1] == 0:
                    out[z, y, x] = out[z, y, x - 1]
                elif y > 0 and boundary[z, y - 1, x] == 0:
                    out[z, y, x] = out[z, y - 1, x]
                elif six and z > 0 and boundary[z - 1, y, x] == 0:
                    out[z, y, x] = out[z - 1, y, x]
                else:
                    if at >= len(locations):
                        return LOCATIONS_EXHAUSTED
                    code = locations[at]
                    at += 1
                    if code == 6:
                        if at >= len(locations):
                            return LOCATIONS_EXHAUSTED
                        out[z, y, x] = locations[at]
                        at += 1
                    elif code > 6:
                        out[z, y, x] = code - 7
                    else:
                        nx, ny, nz = x, y, z
                        if code == 0:
                            nx -= 1
                        elif code == 1:
                            nx += 1
                        elif code == 2:
                            ny -= 1
                        elif code == 3:
                            ny += 1
                        elif code == 4:
                            nz -= 1
                        else:
                            nz += 1
                        if nx < 0 or ny < 0 or nz < 0 or nx >= sx or ny >= sy or nz >= sz:
                            return NEIGHBOUR_OUTSIDE
                        if boundary[nz, ny, nx] == 1:
                            return NEIGHBOUR_UNKNOWN
                        out[z, y, x] = out[nz, ny, nx]
                boundary[z, y, x] = 2
    return 0 if at == len(locations) else LOCATIONS_LEFT
