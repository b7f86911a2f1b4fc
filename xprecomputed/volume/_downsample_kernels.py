"""Downsampling boxes of equal cells: loops that numba compiles, then their twins with NumPy.

The loops read cells of ``array`` (z, y, x; C order) from the voxel `at` on and write one voxel
for each into ``out`` (z, y, x; C order) from the voxel `to` on. `count` is the number of cells,
`cell` their extent in voxels; every triple is z, y, x. The caller cuts clipped cells off
(`downsampling._regions`), so nothing is clipped here, and no index can be outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import numpy as np

# indexes that are known not to be negative: numba leaves out the wrap-around
from numpy import uint64 as unsigned

from xprecomputed.codecs import Array
from xprecomputed.grid import Triple


def mode_of_four(array: Any, out: Any, at: Triple, to: Triple, count: Triple) -> None:
    """Mode of cells of 1, 2, 2 integers; of equally frequent ones the smallest.

    Sorting in registers has no branches, so LLVM makes vectors of it, and random labels take
    no longer than one large segment. In a sorted cell, equal neighbours are a run.
    """
    for i in range(count[0]):
        z, to_z = unsigned(at[0] + i), unsigned(to[0] + i)
        for j in range(count[1]):
            y, y1 = unsigned(at[1] + 2 * j), unsigned(at[1] + 2 * j + 1)
            to_y = unsigned(to[1] + j)
            for k in range(count[2]):
                x, x1 = unsigned(at[2] + 2 * k), unsigned(at[2] + 2 * k + 1)
                a, b = array[z, y, x], array[z, y, x1]
                c, d = array[z, y1, x], array[z, y1, x1]
                a, b, c, d = min(a, b), max(a, b), min(c, d), max(c, d)
                a, c, b, d = min(a, c), max(a, c), min(b, d), max(b, d)
                b, c = min(b, c), max(b, c)
                # the last that holds decides
                found = a
                found = c if c == d else found
                found = b if b == c else found
                found = a if a == b else found
                out[to_z, to_y, unsigned(to[2] + k)] = found


def mode_of_eight(array: Any, out: Any, at: Triple, to: Triple, count: Triple) -> None:
    """Mode of cells of 2, 2, 2 integers, as `mode_of_four`."""
    for i in range(count[0]):
        z, z1 = unsigned(at[0] + 2 * i), unsigned(at[0] + 2 * i + 1)
        to_z = unsigned(to[0] + i)
        for j in range(count[1]):
            y, y1 = unsigned(at[1] + 2 * j), unsigned(at[1] + 2 * j + 1)
            to_y = unsigned(to[1] + j)
            for k in range(count[2]):
                x, x1 = unsigned(at[2] + 2 * k), unsigned(at[2] + 2 * k + 1)
                a, b = array[z, y, x], array[z, y, x1]
                c, d = array[z, y1, x], array[z, y1, x1]
                e, f = array[z1, y, x], array[z1, y, x1]
                g, h = array[z1, y1, x], array[z1, y1, x1]
                # 19 comparisons, the fewest that sort eight
                a, c, b, d = min(a, c), max(a, c), min(b, d), max(b, d)
                e, g, f, h = min(e, g), max(e, g), min(f, h), max(f, h)
                a, e, b, f = min(a, e), max(a, e), min(b, f), max(b, f)
                c, g, d, h = min(c, g), max(c, g), min(d, h), max(d, h)
                a, b, c, d = min(a, b), max(a, b), min(c, d), max(c, d)
                e, f, g, h = min(e, f), max(e, f), min(g, h), max(g, h)
                c, e, d, f = min(c, e), max(c, e), min(d, f), max(d, f)
                b, e, d, g = min(b, e), max(b, e), min(d, g), max(d, g)
                b, c, d, e = min(b, c), max(b, c), min(d, e), max(d, e)
                f, g = min(f, g), max(f, g)
                # the last that holds decides: longer runs after shorter, smaller after larger
                found = a
                found = g if g == h else found
                found = f if f == g else found
                found = e if e == f else found
                found = d if d == e else found
                found = c if c == d else found
                found = b if b == c else found
                found = a if a == b else found
                found = f if f == h else found
                found = e if e == g else found
                found = d if d == f else found
                found = c if c == e else found
                found = b if b == d else found
                found = a if a == c else found
                # a run of five or more holds one of four, and leaves no room for another
                found = e if e == h else found
                found = d if (a == d) | (b == e) | (c == f) | (d == g) else found
                out[to_z, to_y, unsigned(to[2] + k)] = found


def mode_of_any(
    array: Any, out: Any, at: Triple, to: Triple, count: Triple, cell: Triple, keys: Any, tags: Any
) -> None:
    """Mode of cells of any extent; of equally frequent integers the smallest.

    Parameters
    ----------
    keys : array of ``array.dtype``
        A hash table: a power of two of slots, at least two for each voxel of a cell and at
        most 2**24.
    tags : int64 array of zeros, as many
        A slot belongs to the cell under way if its tag is above `base`, by the number of
        voxels counted; so the table need not be cleared between cells.
    """
    mask = unsigned(len(keys) - 1)
    base = 0
    for i in range(count[0]):
        for j in range(count[1]):
            for k in range(count[2]):
                z0, y0, x0 = at[0] + i * cell[0], at[1] + j * cell[1], at[2] + k * cell[2]
                last = array[unsigned(z0), unsigned(y0), unsigned(x0)]
                slot = unsigned(last) * unsigned(0x9E3779B97F4A7C15) >> unsigned(40) & mask
                keys[slot] = last
                found, run, most = last, 0, 0
                for z in range(z0, z0 + cell[0]):
                    for y in range(y0, y0 + cell[1]):
                        for x in range(x0, x0 + cell[2]):
                            value = array[unsigned(z), unsigned(y), unsigned(x)]
                            if value != last:  # neighbours mostly are the same
                                tags[slot] = base + run
                                last = value
                                slot = unsigned(value) * unsigned(0x9E3779B97F4A7C15)
                                slot = slot >> unsigned(40) & mask
                                while tags[slot] > base and keys[slot] != value:
                                    slot = (slot + unsigned(1)) & mask
                                keys[slot] = value
                                run = max(tags[slot] - base, 0)
                            run += 1
                            if run > most or (run == most and value < found):
                                most, found = run, value
                out[unsigned(to[0] + i), unsigned(to[1] + j), unsigned(to[2] + k)] = found
                base += cell[0] * cell[1] * cell[2]


def mean_of_integers(
    array: Any, out: Any, at: Triple, to: Triple, count: Triple, cell: Triple, sums: Any
) -> None:
    """Mean, half to even, of integers of at most 32 bits.

    Parameters
    ----------
    sums : int32 or int64 array of ``count[2] * cell[2]``
        Scratch; wide enough for the sum of a cell, which is below 2**52: so a quotient in
        float64 is a half only where it should be. Rows are added up first, then their
        neighbours, since that makes vectors.
    """
    gz, gy, gx = cell
    n = gz * gy * gx
    shift = 0
    while (1 << shift) < n:
        shift += 1
    for i in range(count[0]):
        for j in range(count[1]):
            to_z, to_y = unsigned(to[0] + i), unsigned(to[1] + j)
            sums[:] = 0
            for row in range(gz * gy):
                z, y = unsigned(at[0] + i * gz + row // gy), unsigned(at[1] + j * gy + row % gy)
                for x in range(count[2] * gx):
                    sums[unsigned(x)] += array[z, y, unsigned(at[2] + x)]
            if gx == 2 and n == 1 << shift:  # nearly always
                for x in range(count[2]):
                    total = sums[unsigned(2 * x)] + sums[unsigned(2 * x + 1)]
                    # half of n, less one unless the quotient is odd, carries as it should
                    total += (n >> 1) - 1 + ((total >> shift) & 1)
                    out[to_z, to_y, unsigned(to[2] + x)] = total >> shift
            else:
                for x in range(count[2]):
                    total = 0
                    for k in range(gx):
                        total += sums[unsigned(x * gx + k)]
                    sums[unsigned(x)] = total
                for x in range(count[2]):
                    out[to_z, to_y, unsigned(to[2] + x)] = round(sums[unsigned(x)] / n)


def mean_of_long_integers(
    array: Any, out: Any, at: Triple, to: Triple, count: Triple, cell: Triple, high: int, sums: Any
) -> None:
    """Mean, half to even, of 64-bit integers, as exact as with 128 bits.

    Halves of 32 bits are added up apart: fewer than 2**30 of them stay below 2**62.

    Parameters
    ----------
    array, out : int64 arrays, axes (z, y, x)
        Of unsigned integers, their bits.
    high : int
        The mask of the upper half: -1 for signed integers, else ``2**32 - 1``.
    sums : int64 array of 2, ``count[2] * cell[2]``
        Scratch.
    """
    gz, gy, gx = cell
    n = gz * gy * gx
    for i in range(count[0]):
        for j in range(count[1]):
            to_z, to_y = unsigned(to[0] + i), unsigned(to[1] + j)
            sums[:] = 0
            for row in range(gz * gy):
                z, y = unsigned(at[0] + i * gz + row // gy), unsigned(at[1] + j * gy + row % gy)
                for x in range(count[2] * gx):
                    value = array[z, y, unsigned(at[2] + x)]
                    sums[0, unsigned(x)] += (value >> 32) & high
                    sums[1, unsigned(x)] += value & 0xFFFFFFFF
            for x in range(count[2]):
                upper, lower = 0, 0
                for k in range(gx):
                    upper += sums[0, unsigned(x * gx + k)]
                    lower += sums[1, unsigned(x * gx + k)]
                quotient = upper // n
                lower += (upper - quotient * n) << 32
                mean = lower // n
                twice = 2 * (lower - mean * n)
                if twice > n or (twice == n and mean & 1):
                    mean += 1
                out[to_z, to_y, unsigned(to[2] + x)] = (quotient << 32) + mean


def mean_of_floats(
    array: Any, out: Any, at: Triple, to: Triple, count: Triple, cell: Triple, sums: Any
) -> None:
    """Mean of floats; the order of the additions is that of the NumPy path.

    Parameters
    ----------
    sums : float64 array of ``count[2] * cell[2]``
        Scratch.
    """
    gz, gy, gx = cell
    n = float(gz * gy * gx)
    for i in range(count[0]):
        for j in range(count[1]):
            to_z, to_y = unsigned(to[0] + i), unsigned(to[1] + j)
            sums[:] = 0.0
            for row in range(gz * gy):
                z, y = unsigned(at[0] + i * gz + row // gy), unsigned(at[1] + j * gy + row % gy)
                for x in range(count[2] * gx):
                    sums[unsigned(x)] += array[z, y, unsigned(at[2] + x)]
            for x in range(count[2]):
                total = 0.0
                for k in range(gx):
                    total += sums[unsigned(x * gx + k)]
                out[to_z, to_y, unsigned(to[2] + x)] = total / n


# ---- without numba: boxes of whole cells, axes (z, y, x), any strides


def folded(
    operation: Callable[..., Any], box: Array, cell: Triple, dtype: np.dtype[Any] | type
) -> Array:
    """The voxels of each cell joined by `operation`: rows first, then neighbours in a row."""
    gz, gy, gx = cell
    rows = box[::gz, ::gy].astype(dtype)
    for z, y in product(range(gz), range(gy)):
        if z or y:
            operation(rows, box[z::gz, y::gy], out=rows)
    joined = rows[:, :, ::gx].copy()
    for x in range(1, gx):
        operation(joined, rows[:, :, x::gx], out=joined)
    return joined


def numpy_mode(box: Array, cell: Triple) -> Array:
    """Mode of small cells: the voxels of all cells are sorted at once."""
    gz, gy, gx = cell
    voxels = np.stack(
        [box[z::gz, y::gy, x::gx] for z, y, x in product(range(gz), range(gy), range(gx))]
    )
    voxels.sort(axis=0)
    found: Array = voxels[0].copy()
    run = np.ones(found.shape, np.int64)
    most = run.copy()
    for before, value in pairwise(voxels):
        run = np.where(value == before, run + 1, 1)
        np.copyto(found, value, where=run > most)
        np.maximum(run, most, out=most)
    return found


def numpy_mode_by_cell(box: Array, cell: Triple) -> Array:
    """Mode of large cells, one by one."""
    gz, gy, gx = cell
    found = np.empty([n // g for n, g in zip(box.shape, cell, strict=True)], box.dtype)
    for z, y, x in np.ndindex(found.shape):
        voxels = box[z * gz : (z + 1) * gz, y * gy : (y + 1) * gy, x * gx : (x + 1) * gx]
        values, counts = np.unique(voxels, return_counts=True)
        found[z, y, x] = values[counts.argmax()]
    return found


def numpy_mean_of_integers(box: Array, cell: Triple) -> Array:
    """As `mean_of_integers`."""
    return _divided(folded(np.add, box, cell, np.int64), math.prod(cell))


def numpy_mean_of_long_integers(box: Array, cell: Triple, high: int) -> Array:
    """As `mean_of_long_integers`."""
    n = math.prod(cell)
    upper = folded(np.add, (box >> 32) & high, cell, np.int64)
    lower = folded(np.add, box & 0xFFFFFFFF, cell, np.int64)
    quotient, rest = np.divmod(upper, n)
    mean: Array = (quotient << 32) + _divided((rest << 32) + lower, n)
    return mean


def _divided(sums: Array, n: int) -> Array:
    """``sums / n``, halves to even."""
    quotient, rest = np.divmod(sums, n)
    mean: Array = quotient + ((2 * rest > n) | ((2 * rest == n) & (quotient & 1 == 1)))
    return mean


def numpy_mean_of_floats(box: Array, cell: Triple) -> Array:
    """As `mean_of_floats`."""
    # the loop begins with 0.0, so its sum of -0.0 is 0.0
    mean: Array = (folded(np.add, box, cell, np.float64) + 0.0) / math.prod(cell)
    return mean
