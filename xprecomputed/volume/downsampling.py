"""Coarser copies of arrays: which voxels become one, and which value it gets.

Cells of the coarse grid lie on the absolute voxel grid, wherever an array begins: coarse
voxel v stands for the voxels ``[v * factor, (v + 1) * factor)``, of which an array may hold
only a part. So pieces of a volume can be downsampled one by one, as long as no cell is cut,
and mips align whatever ``voxel_offset`` is.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from xprecomputed.codecs import Array
from xprecomputed.grid import Box, Triple
from xprecomputed.jit import compiled
from xprecomputed.metadata.volume import DATA_TYPES
from xprecomputed.options import get_options
from xprecomputed.parallel import run_bounded
from xprecomputed.volume import _downsample_kernels as kernels

__all__ = [
    "METHODS",
    "auto_factor",
    "auto_factors",
    "coarse_box",
    "default_method",
    "downsample",
]

METHODS = ("mean", "mode", "stride", "min", "max")

#: Arrays above are worked on by several threads, in regions of at most a few MiB.
THREADED_BYTES = 8 << 20  # 8 MiB
REGION_BYTES = 4 << 20  # 4 MiB
#: Integers of larger cells could overflow the sums.
MAX_MEAN_VOXELS = 2**30
#: Cells above are sorted one by one: the hash table would be large, the NumPy steps many.
MAX_TABLE_VOXELS, MAX_STACK_VOXELS = 2**16, 2**10
MAX_LEVELS = 32
#: Cells, z, y, x, that have a kernel of their own.
SMALL_MODES = {(1, 2, 2): kernels.mode_of_four, (2, 2, 2): kernels.mode_of_eight}


def default_method(layer_type: str) -> str:
    """How layers of ``type`` `layer_type` are downsampled unless told otherwise.

    Examples
    --------
    >>> default_method("segmentation"), default_method("image")
    ('mode', 'mean')
    """
    return "mode" if layer_type == "segmentation" else "mean"


def coarse_box(box: Box, factor: Triple) -> Box:
    """The coarse voxels whose cells touch `box`.

    Parameters
    ----------
    box : Box
        Absolute voxels.
    factor : tuple of int
        Voxels of a cell, x, y, z, at least 1.

    Returns
    -------
    Box
        Absolute coarse voxels, from ``floor(start / factor)`` to ``ceil(stop / factor)``; empty
        along the axes along which `box` is.

    Raises
    ------
    ValueError
        `factor` is not three integers of at least 1.

    Examples
    --------
    >>> print(coarse_box(Box((0, 1, -3), (8, 8, 3)), (2, 2, 2)))
    x[0, 4) y[0, 4) z[-2, 2)
    """
    fx, fy, fz = _checked(factor)
    return Box.from_offset(
        (box.start[0] // fx, box.start[1] // fy, box.start[2] // fz),
        (
            _cells(box.start[0], box.stop[0], fx),
            _cells(box.start[1], box.stop[1], fy),
            _cells(box.start[2], box.stop[2], fz),
        ),
    )


def _cells(start: int, stop: int, factor: int) -> int:
    return -(-stop // factor) - start // factor if stop > start else 0


def _checked(factor: Triple) -> Triple:
    try:
        x, y, z = (operator.index(each) for each in factor)
    except (TypeError, ValueError):
        x = y = z = 0
    if min(x, y, z) < 1:
        raise ValueError(f"downsampling by {factor!r}: expected three integers >= 1 (x, y, z)")
    return x, y, z


def auto_factor(resolution: tuple[float, float, float], size: Triple | None = None) -> Triple:
    """The factor to the next mip that brings voxels closer to cubes.

    Halved are the axes whose resolution is finer than twice the finest one, so that thick
    sections are kept until voxels are about as wide as they are thick. Axes of one voxel
    are neither halved nor compared with.

    Parameters
    ----------
    resolution : tuple of float
        nm per voxel, x, y, z.
    size : tuple of int, optional
        Voxels, x, y, z.

    Returns
    -------
    tuple of int
        1 or 2 along x, y, z; ``(1, 1, 1)`` if nothing is left to halve.

    Examples
    --------
    >>> auto_factor((8, 8, 40)), auto_factor((32, 32, 40)), auto_factor((8, 8, 40), (1, 9, 9))
    ((2, 2, 1), (2, 2, 2), (1, 2, 1))
    """
    long = [True] * 3 if size is None else [extent > 1 for extent in size]
    finest = min((nm for nm, is_long in zip(resolution, long, strict=True) if is_long), default=0)
    x, y, z = (
        2 if is_long and nm < 2 * finest else 1
        for nm, is_long in zip(resolution, long, strict=True)
    )
    return x, y, z


def auto_factors(
    resolution: tuple[float, float, float],
    size: Triple,
    voxel_offset: Triple,
    chunk_size: Triple,
) -> list[Triple]:
    """The factors from each mip to the next, until one chunk holds a whole mip.

    Parameters
    ----------
    resolution : tuple of float
        nm per voxel of the first mip, x, y, z.
    size, voxel_offset : tuple of int
        Voxels of the first mip, x, y, z.
    chunk_size : tuple of int
        Voxels of a chunk on every mip, x, y, z.

    Returns
    -------
    list of tuple of int
        x, y, z, each relative to the mip before; at most 32.

    Examples
    --------
    >>> auto_factors((8, 8, 32), (256, 200, 64), (0, 0, 0), (64, 64, 64))
    [(2, 2, 1), (2, 2, 1)]
    """
    box = Box.from_offset(voxel_offset, size)
    factors: list[Triple] = []
    while len(factors) < MAX_LEVELS and not _is_done(box, chunk_size):
        factor = auto_factor(resolution, box.shape)
        box = coarse_box(box, factor)
        x, y, z = (nm * f for nm, f in zip(resolution, factor, strict=True))
        resolution = (x, y, z)
        factors.append(factor)
    return factors


def _is_done(box: Box, chunk_size: Triple) -> bool:
    """Whether `box` fits into a chunk, or stays as it is: [-1, 1) is [-1, 1) when halved."""
    if all(extent <= chunk for extent, chunk in zip(box.shape, chunk_size, strict=True)):
        return True
    return all(b - a <= 1 or (a, b) == (-1, 1) for a, b in zip(box.start, box.stop, strict=True))


def downsample(array: Array, factor: Triple, method: str, start: Triple) -> Array:
    """Make one voxel of each cell of `factor` voxels.

    Large arrays are worked on by ``options.decode_threads`` threads. Without numba the
    results are the same, later.

    Parameters
    ----------
    array : ndarray of one of ``metadata.volume.DATA_TYPES``, axes (channel, z, y, x)
        Any strides and byte order.
    factor : tuple of int
        Voxels of a cell, x, y, z, at least 1.
    method : str
        ``"mean"``: of integers exact, halves to even; of floats added up in float64.
        ``"mode"``: the most frequent value, of equally frequent ones the smallest; zeros of
        either sign are one value, NaNs are one that is larger than all numbers.
        ``"stride"``: the first voxel of the cell. ``"min"``, ``"max"``. A NaN makes mean, min
        and max NaN.
    start : tuple of int
        Absolute place of the first voxel of `array`, x, y, z; may be negative.

    Returns
    -------
    ndarray of ``array.dtype``, axes (channel, z, y, x), C order
        Its box is ``coarse_box`` of the box of `array`. Cells that `array` holds in part count
        the voxels that are there.

    Raises
    ------
    ValueError
        Unknown `method`; `factor` is not three integers of at least 1; `array` has other
        axes or another data type; a mean of integers over 2**30 or more voxels.

    Examples
    --------
    >>> labels = np.array([[[[7, 7, 9, 9, 9], [7, 7, 9, 8, 8]]]], np.uint64)
    >>> downsample(labels, (2, 2, 1), "mode", (0, 0, 0))
    array([[[[7, 9, 8]]]], dtype=uint64)
    >>> downsample(labels, (2, 2, 1), "mode", (1, 0, 0))
    array([[[[7, 7, 8]]]], dtype=uint64)
    """
    factor = _checked(factor)
    array = np.asarray(array)
    _require(array, method)
    dtype = array.dtype
    if not dtype.isnative:  # numba compiles for native integers
        native = array.astype(dtype.newbyteorder("="))
        return downsample(native, factor, method, start).astype(dtype)
    depth, height, width = array.shape[1:]
    box = Box.from_offset(start, (width, height, depth))
    out = np.empty((array.shape[0], *coarse_box(box, factor).shape[::-1]), dtype)
    if not out.size:
        return out
    regions = list(_regions(array, box, factor))
    _require_exact(method, dtype, regions)
    source = _frozen(array.view())

    def work(region: _Region) -> None:
        with np.errstate(invalid="ignore", over="ignore"):  # of NaN and infinity
            _work(source[region.channel], out[region.channel], region, method)

    workers = get_options().decode_threads if array.nbytes > THREADED_BYTES else 1
    run_bounded(regions, work, workers=workers)
    return out


def _require(array: Array, method: str) -> None:
    if method not in METHODS:
        raise ValueError(f"downsampling method {method!r}: expected one of {', '.join(METHODS)}")
    if array.ndim != 4:
        raise ValueError(
            f"downsampling an array of shape {array.shape}: expected the axes (channel, z, y, x)"
        )
    if array.dtype.name not in DATA_TYPES:
        raise ValueError(
            f"downsampling {array.dtype.name}: expected one of {', '.join(DATA_TYPES)}"
        )


def _require_exact(method: str, dtype: np.dtype[Any], regions: list[_Region]) -> None:
    largest = max(region.voxels for region in regions)
    if method == "mean" and dtype.kind in "iu" and largest >= MAX_MEAN_VOXELS:
        raise ValueError(
            f"the mean over {largest} integers may overflow: expected fewer than "
            f"{MAX_MEAN_VOXELS} voxels a cell; downsample in two steps"
        )


# ---- regions of equal cells


@dataclass(frozen=True, slots=True)
class _Run:
    """Equal cells along one axis: `count` of `cell` voxels, from `at` of the array to `to`."""

    at: int
    to: int
    count: int
    cell: int


def _runs(start: int, stop: int, factor: int) -> list[_Run]:
    """The clipped first cell, the whole ones, the clipped last."""
    first, after, last = start // factor, -(-start // factor), stop // factor
    if after > last:  # one cell, clipped at both ends
        return [_Run(0, 0, 1, stop - start)]
    runs = [
        _Run(0, 0, 1, after * factor - start),
        _Run(after * factor - start, after - first, last - after, factor),
        _Run(last * factor - start, last - first, 1, stop - last * factor),
    ]
    return [run for run in runs if run.count and run.cell]


def _split(runs: list[_Run], parts: int) -> list[_Run]:
    """Cut `runs` of many cells into about as many as `parts`."""
    cut = []
    for run in runs:
        step = -(-run.count // parts)
        for done in range(0, run.count, step):
            at, to = run.at + done * run.cell, run.to + done
            cut.append(_Run(at, to, min(step, run.count - done), run.cell))
    return cut


@dataclass(frozen=True, slots=True)
class _Region:
    """Equal cells of one channel: `at` voxels of the array, `to` of the result; z, y, x."""

    channel: int
    at: Triple
    to: Triple
    count: Triple
    cell: Triple

    @property
    def voxels(self) -> int:
        """Voxels of one cell."""
        return math.prod(self.cell)

    @property
    def source(self) -> tuple[slice, ...]:
        """The cells in the array."""
        rows = zip(self.at, self.count, self.cell, strict=True)
        return tuple(slice(at, at + count * cell) for at, count, cell in rows)

    @property
    def target(self) -> tuple[slice, ...]:
        """The voxels in the result."""
        return tuple(slice(to, to + count) for to, count in zip(self.to, self.count, strict=True))


def _regions(array: Array, box: Box, factor: Triple) -> Iterator[_Region]:
    x, y, z = (_runs(*each) for each in zip(box.start, box.stop, factor, strict=True))
    parts = -(-box.voxels * array.itemsize // REGION_BYTES)
    y = _split(y, -(-parts // max(run.count for run in z)))
    z = _split(z, parts)
    for channel, *axes in product(range(array.shape[0]), z, y, x):
        c, b, a = axes
        yield _Region(
            channel,
            (c.at, b.at, a.at),
            (c.to, b.to, a.to),
            (c.count, b.count, a.count),
            (c.cell, b.cell, a.cell),
        )


def _work(source: Array, out: Array, region: _Region, method: str) -> None:
    """Fill the part of `out` that is `region`; both are (z, y, x), `out` in C order."""
    box, target = source[region.source], out[region.target]
    if method == "stride" or region.voxels == 1:
        gz, gy, gx = region.cell
        target[...] = box[::gz, ::gy, ::gx]
    elif method in ("min", "max"):
        operation = np.minimum if method == "min" else np.maximum
        target[...] = kernels.folded(operation, box, region.cell, box.dtype)
    elif method == "mode" and box.dtype.kind == "f":
        target[...] = _mode_of_floats(box, region)
    else:
        if not (source.flags.c_contiguous and source.flags.aligned):
            source, region = _frozen(box.copy()), replace(region, at=(0, 0, 0))
        fill = _mode if method == "mode" else _mean
        fill(source, out, region)


def _frozen(array: Array) -> Array:
    array.flags.writeable = False  # numba would compile once more for arrays that are not
    return array


def _mode(source: Array, out: Array, region: _Region) -> None:
    small = SMALL_MODES.get(region.cell)
    kernel = compiled(small or kernels.mode_of_any)
    if region.voxels > (MAX_STACK_VOXELS if kernel is None else MAX_TABLE_VOXELS):
        out[region.target] = kernels.numpy_mode_by_cell(source[region.source], region.cell)
    elif kernel is None:
        out[region.target] = kernels.numpy_mode(source[region.source], region.cell)
    elif small:
        kernel(source, out, region.at, region.to, region.count)
    else:
        slots = 2 << (region.voxels - 1).bit_length()
        table = (np.empty(slots, source.dtype), np.zeros(slots, np.int64))
        kernel(source, out, region.at, region.to, region.count, region.cell, *table)


def _mode_of_floats(box: Array, region: _Region) -> Array:
    """By way of integers in the order of the floats, where -0.0 is 0.0 and all NaNs are one."""
    kind = box.dtype.type
    plain = np.where(np.isnan(box), kind(np.nan), box + kind(0))
    keys = np.ascontiguousarray(_reordered(plain.view(f"i{box.dtype.itemsize}")))
    found = np.empty(region.count, keys.dtype)
    _mode(_frozen(keys), found, replace(region, at=(0, 0, 0), to=(0, 0, 0)))
    return _reordered(found).view(box.dtype)


def _reordered(bits: Array) -> Array:
    """Flip all bits of negative floats but the sign: then the integers sort as the floats do."""
    reordered: Array = bits ^ (bits >> (8 * bits.itemsize - 1) & np.iinfo(bits.dtype).max)
    return reordered


def _mean(source: Array, out: Array, region: _Region) -> None:
    dtype, width = source.dtype, region.count[2] * region.cell[2]
    loop: Callable[..., Any]
    twin: Callable[..., Array]
    extra: tuple[int, ...] = ()
    largest = region.voxels << (8 * dtype.itemsize)  # sum of small integers
    if dtype.kind == "f":
        loop, twin = kernels.mean_of_floats, kernels.numpy_mean_of_floats
        sums = np.empty(width, np.float64)
    elif dtype.itemsize == 8:
        loop, twin = kernels.mean_of_long_integers, kernels.numpy_mean_of_long_integers
        extra = (-1 if dtype.kind == "i" else 0xFFFFFFFF,)
        sums = np.empty((2, width), np.int64)
        source, out = source.view(np.int64), out.view(np.int64)
    else:
        loop, twin = kernels.mean_of_integers, kernels.numpy_mean_of_integers
        sums = np.empty(width, np.int32 if largest < 2**31 else np.int64)
    kernel = compiled(loop)
    if kernel is None or (loop is kernels.mean_of_integers and largest >= 2**52):
        out[region.target] = twin(source[region.source], region.cell, *extra)
    else:
        place = (region.at, region.to, region.count, region.cell)
        kernel(source, out, *place, *extra, sums)
