"""Segmentations with other ids: exact over the whole of uint64, block by block.

Arrays in memory are computed at once, dask arrays stay lazy, and lazily opened ones become
dask arrays along their storage chunks. No id ever passes through a float or a narrower integer.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NoReturn

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, DTypeLike, NDArray

from xprecomputed.errors import PrecomputedError
from xprecomputed.jobs import _label_kernels as kernels
from xprecomputed.jobs._encoding import for_dtype
from xprecomputed.jobs._exact import (
    DType,
    IdMapping,
    check_range,
    holding,
    integer,
    integers,
    limits,
    native,
    pairs,
    smallest,
    within,
)

__all__ = ["mask", "remap", "renumber", "unique_labels"]

Array = NDArray[Any]
Missing = Literal["raise", "keep"] | int

#: Ids that an error names.
NAMED = 5
MERGED_AT_ONCE = 16


def mask(labels: xr.DataArray, ids: ArrayLike | Iterable[int], *, other: int = 0) -> xr.DataArray:
    """Keep some labels; all other voxels become `other`.

    Parameters
    ----------
    labels : DataArray of integers or bool, any dimensions
    ids : int, sequence, set, array, Index, Series or DataArray of integers
        The labels that are kept. Ids that the dtype of `labels` cannot hold are simply absent.
    other : int
        Label of all other voxels, background included.

    Returns
    -------
    DataArray
        Dtype, dimensions, coordinates, attributes, name and encoding of `labels`; lazy unless
        `labels` are in memory.

    Raises
    ------
    ValueError
        `labels` or `ids` are no integers, or `other` does not fit the dtype.

    Examples
    --------
    >>> labels = xr.DataArray(np.array([0, 7, 7, 720575940623044103], "u8"), dims="x")
    >>> mask(labels, [720575940623044103, 5]).values
    array([                 0,                  0,                  0,
           720575940623044103], dtype=uint64)
    """
    source = _label_dtype(labels)
    kept = integers(ids, "ids")
    if kept.dtype == bool and source.kind != "b":
        raise ValueError(
            "ids: expected labels, found an array of bool; where it is a mask of voxels:\n"
            "    labels.where(mask, 0)"
        )
    fill = integer(other, "other")
    check_range(fill, fill, source, "other")
    return _relabelled(
        _in_memory_or_dask(labels), _table(kept, kept, source, source, fill, background=False)
    )


def remap(
    labels: xr.DataArray,
    mapping: IdMapping,
    *,
    missing: Missing = "raise",
    dtype: DTypeLike | None = None,
) -> xr.DataArray:
    """Replace each label by the one that a mapping names.

    Label 0, the background, stays 0 unless the mapping has it.

    Parameters
    ----------
    labels : DataArray of integers or bool, any dimensions
    mapping : mapping, Series (index: old ids), or tuple of two arrays (old ids, new ids)
        Of integers, in any order. Old ids that the dtype of `labels` cannot hold are unused.
    missing : {"raise", "keep"} or int
        What becomes of labels that the mapping lacks: an error, themselves, or this number.
    dtype : dtype, optional
        Of the result, an integer dtype or bool. By default that of `labels` if all new ids
        fit, else the smallest that holds the range of old dtype and new ids, unsigned if none
        is negative.

    Returns
    -------
    DataArray
        Dimensions, coordinates, attributes, name and encoding of `labels` (what the encoding
        says of another dtype is dropped); lazy unless `labels` are in memory.

    Raises
    ------
    ValueError
        Something is no integer, a new id does not fit the dtype, or old ids repeat with
        different new ones. Also, for lazy `labels` when they are computed: a label is missing
        and ``missing="raise"``, or it is kept and does not fit the dtype.

    Examples
    --------
    >>> labels = xr.DataArray(np.array([0, 7, 7, 9], "u4"), dims="x")
    >>> remap(labels, {7: 720575940623044103}, missing="keep").values
    array([                 0, 720575940623044103, 720575940623044103,
                            9], dtype=uint64)
    """
    source = _label_dtype(labels)
    old, new = pairs(mapping)
    if isinstance(missing, str):
        if missing not in ("raise", "keep"):
            raise ValueError(f"missing={missing!r}: expected 'raise', 'keep' or a number")
    else:
        missing = integer(missing, "missing")
    used = [0, *([missing] if isinstance(missing, int) else [])]
    if new.size:
        used += [int(new.min()), int(new.max())]
    low, high = min(used), max(used)
    result = holding(low, high, source) if dtype is None else native(dtype, "dtype")
    check_range(low, high, result, "new id")
    return _relabelled(_in_memory_or_dask(labels), _table(old, new, source, result, missing))


def renumber(labels: xr.DataArray, *, start: int = 1) -> tuple[xr.DataArray, xr.DataArray]:
    """Number the labels through: `start`, ``start + 1``, … in ascending order of the old ids.

    Lazy labels are read once, now, for their ids; the result is lazy and reads them again.

    Parameters
    ----------
    labels : DataArray of integers or bool, any dimensions
        Label 0, the background, stays 0.
    start : int
        The first new id, at least 1.

    Returns
    -------
    renumbered : DataArray
        As of `remap`, of the smallest unsigned dtype that holds the new ids.
    original : DataArray, dimension ``label``
        The old id, in the dtype of `labels`, of each new one, which is the coordinate
        ``label``; without background.

    Raises
    ------
    ValueError
        `labels` are no integers, or `start` is less than 1 or too large for uint64.

    Examples
    --------
    >>> labels = xr.DataArray(np.array([0, 900, 900, 720575940623044103], "u8"), dims="x")
    >>> renumbered, original = renumber(labels)
    >>> renumbered.values
    array([0, 1, 1, 2], dtype=uint8)
    >>> original.sel(label=2).item()
    720575940623044103
    >>> remap(renumbered, original.to_series()).equals(labels)
    True
    """
    source = _label_dtype(labels)
    start = integer(start, "start")
    if start < 1:
        raise ValueError(f"start={start}: expected at least 1, since 0 is the background")
    labels = _in_memory_or_dask(labels)
    old, _ = _tally(labels, source)
    old = old[old != 0]
    result = smallest(0, start + len(old) - 1 if len(old) else 0, "the new ids")
    new = np.arange(len(old), dtype=np.uint64) + np.uint64(start)
    new = new.astype(result)
    renumbered = _relabelled(labels, _table(old, new, source, result, "raise"))
    return renumbered, xr.DataArray(old, {"label": new}, ("label",), name="original")


def unique_labels(labels: xr.DataArray) -> xr.DataArray:
    """Count the voxels of each label, background included.

    Lazy labels are read once, now, chunk by chunk.

    Parameters
    ----------
    labels : DataArray of integers or bool, any dimensions

    Returns
    -------
    DataArray of int64, dimension ``label``
        Voxels of each label; the coordinate ``label`` has the ids in ascending order, in the
        dtype of `labels`.

    Raises
    ------
    ValueError
        `labels` are no integers.

    Examples
    --------
    >>> labels = xr.DataArray(np.array([0, 7, 7, 2**64 - 1], "u8"), dims="x")
    >>> counts = unique_labels(labels)
    >>> counts.values, counts.sel(label=2**64 - 1).item()
    (array([1, 2, 1]), 1)
    """
    source = _label_dtype(labels)
    ids, counts = _tally(_in_memory_or_dask(labels), source)
    return xr.DataArray(counts, {"label": ids}, ("label",), name="count")


# ---- labels and tables


def _label_dtype(labels: xr.DataArray) -> DType:
    if labels.dtype.kind == "f":
        raise ValueError(
            f"labels are {labels.dtype}: floats have lost ids above 2**53, and "
            ".astype('uint64') does not bring them back; open the segmentation again and "
            "leave out what made floats of it (give .where and .reindex 0 as fill)"
        )
    return native(labels.dtype, "labels")


def _in_memory_or_dask(labels: xr.DataArray) -> xr.DataArray:
    """`labels`; as a dask array along its storage chunks if it was opened lazily."""
    if labels.chunks is not None or labels.variable._in_memory:
        return labels
    if "precomputed_source" in labels.attrs:
        # of another resolution, or a copy elsewhere: other chunks are slower, not wrong
        with suppress(PrecomputedError):
            chunked: xr.DataArray = labels.precomputed.chunk()
            return chunked
    return labels.chunk("auto")


@dataclass(frozen=True, eq=False)
class _Table:
    """What becomes of each label; one object for all blocks.

    Parameters
    ----------
    old : ndarray
        Ascending, in the dtype of the labels; what is repeated agrees.
    new : ndarray
        As long as `old`, in the dtype of the result.
    missing : {"raise", "keep"} or int
    """

    old: Array
    new: Array
    missing: Missing


def _table(
    old: Array,
    new: Array,
    source: DType,
    result: DType,
    missing: Missing,
    *,
    background: bool = True,
) -> _Table:
    """A table of integers of any kind; the new ones fit `result`.

    With `background`, 0 becomes 0 unless `old` has it.
    """
    inside = within(old, source)
    old, new = old[inside].astype(source), new[inside].astype(result)
    if background and not (old == 0).any():
        old, new = np.append(old, source.type(0)), np.append(new, result.type(0))
    order = np.argsort(old, kind="stable")
    old, new = old[order], new[order]
    differing = np.flatnonzero((old[1:] == old[:-1]) & (new[1:] != new[:-1]))
    if differing.size:
        at = int(differing[0])
        raise ValueError(
            f"mapping: old id {int(old[at])} becomes both {int(new[at])} and {int(new[at + 1])}"
        )
    return _Table(old, new, missing)


# ---- blocks


def _relabelled(labels: xr.DataArray, table: _Table) -> xr.DataArray:
    dtype = table.new.dtype
    if labels.chunks is None:
        data: Any = _relabelled_block(labels.values, table)
    else:
        from dask.delayed import delayed

        data = labels.data.map_blocks(
            _relabelled_block,
            # a key of its own: the tasks name it, and each worker gets it once
            delayed(table, pure=True, traverse=False),
            dtype=dtype,
            meta=np.empty((0,) * labels.ndim, dtype),
        )
    result = labels.copy(deep=False, data=data)
    if dtype != table.old.dtype:
        result.encoding = for_dtype(labels.encoding, dtype)
    return result


def _relabelled_block(block: Array, table: _Table) -> Array:
    flat, order = _flat(block, table.old.dtype)
    low, high, fill = 1, 0, 0  # keeps nothing
    if isinstance(table.missing, int):
        fill = table.missing
    elif table.missing == "keep":
        ends = [limits(each.dtype) for each in (table.old, table.new)]
        low, high = max(low for low, _ in ends), min(high for _, high in ends)
    out, filled = kernels.relabel(flat, table.old, table.new, low, high, fill)
    if filled and not isinstance(table.missing, int):
        ids, _ = kernels.tally(flat)
        ids = ids[~np.isin(ids, table.old) & ~((low <= ids) & (ids <= high))]
        _refuse(ids, table)
    return out.reshape(block.shape, order=order)


def _refuse(ids: Array, table: _Table) -> NoReturn:
    some = ", ".join(str(each) for each in ids[:NAMED].tolist())
    named = f"{some}, … ({len(ids)} of one block)" if len(ids) > NAMED else some
    if table.missing == "keep":
        raise ValueError(
            f"labels that the mapping lacks do not fit {table.new.dtype}: {named}; "
            "give a wider dtype="
        )
    raise ValueError(
        f"labels that the mapping lacks: {named}; add them, or give missing='keep', or a "
        "number that they become, such as missing=0"
    )


def _tally(labels: xr.DataArray, dtype: DType) -> kernels.Tally:
    if labels.chunks is None:
        return kernels.tally(_flat(labels.values, dtype)[0])
    import dask.array

    reduction: Any = dask.array.reduction  # has no annotations
    reduced = reduction(
        labels.data,
        chunk=partial(_tally_block, dtype=dtype),
        combine=_merged,
        aggregate=_merged,
        keepdims=True,
        split_every=MERGED_AT_ONCE,
        dtype=object,
        meta=np.empty((0,) * labels.ndim, object),
    )
    tally: kernels.Tally = reduced.compute().item()
    return tally


def _tally_block(block: Array, *, dtype: DType, **_: Any) -> Array:
    """The tally of a block as the only element of an array of as many axes."""
    return _boxed(kernels.tally(_flat(block, dtype)[0]), block.ndim)


def _merged(tallies: Array, **_: Any) -> Array:
    ids, counts = zip(*tallies.ravel().tolist(), strict=True)
    return _boxed(kernels.merge(np.concatenate(ids), np.concatenate(counts)), tallies.ndim)


def _boxed(tally: kernels.Tally, ndim: int) -> Array:
    box = np.empty((1,) * ndim, object)
    box[(0,) * ndim] = tally
    return box


def _flat(block: Array, dtype: DType) -> tuple[Array, Literal["C", "F"]]:
    """The values in memory's order, without a copy if they are contiguous, and that order."""
    order: Literal["C", "F"] = "F" if block.flags.fnc else "C"
    return block.astype(dtype, casting="equiv", copy=False).ravel(order), order
