"""Looking labels up in a table and counting them, run by run.

Neighbouring voxels nearly always have the same label, so only the first of a run is searched.
All arrays have one dimension and an integer dtype or bool; the NumPy paths go by pieces, which
bounds what they take beside the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import uint64 as unsigned  # indexes: numba leaves out the wrap-around
from numpy.typing import NDArray

from xprecomputed.jit import compiled

__all__ = ["merge", "relabel", "tally"]

Array = NDArray[Any]
#: Ids in ascending order, and how many voxels have each (int64).
Tally = tuple[Array, NDArray[np.int64]]

PIECE = 1 << 20


def relabel(
    labels: Array, old: Array, new: Array, low: Any, high: Any, fill: Any
) -> tuple[Array, int]:
    """Replace each label by the entry of a table.

    Parameters
    ----------
    labels, old : arrays of one dtype
        `old` ascends; of equal entries the first counts.
    new : array, as long as `old`
        Its dtype is the result's.
    low, high : numbers of the dtype of `labels`
        Labels from `low` to `high` that are not in the table are kept; the result's dtype
        holds them.
    fill : number of the dtype of `new`
        What all others become.

    Returns
    -------
    ndarray
        As long as `labels`.
    int
        0 if nothing was filled.
    """
    out = np.empty(len(labels), new.dtype)
    # scalars of these types, or numba would compare int64 with uint64 as floats
    bounds = (labels.dtype.type(low), labels.dtype.type(high), new.dtype.type(fill))
    fast = compiled(_relabel)
    if fast is not None:
        return out, int(fast(labels, old, new, *bounds, out))
    filled = 0
    for at in range(0, len(labels), PIECE):
        piece = slice(at, at + PIECE)
        filled += _relabel_with_numpy(labels[piece], old, new, *bounds, out[piece])
    return out, filled


def _relabel(labels: Any, old: Any, new: Any, low: Any, high: Any, fill: Any, out: Any) -> int:
    """Write the new labels to `out`; the number of runs that were filled."""
    filled = 0
    at, size, entries = 0, len(labels), len(old)
    while at < size:
        label = labels[unsigned(at)]
        first, last = 0, entries
        while first < last:
            middle = (first + last) >> 1
            if old[unsigned(middle)] < label:
                first = middle + 1
            else:
                last = middle
        # through `out`: a variable for a label and for an entry would have the type of neither
        if first < entries and old[unsigned(first)] == label:
            out[unsigned(at)] = new[unsigned(first)]
        elif low <= label and label <= high:
            out[unsigned(at)] = label
        else:
            out[unsigned(at)] = fill
            filled += 1
        value = out[unsigned(at)]
        at += 1
        while at < size and labels[unsigned(at)] == label:
            out[unsigned(at)] = value
            at += 1
    return filled


def _relabel_with_numpy(
    labels: Array, old: Array, new: Array, low: Any, high: Any, fill: Any, out: Array
) -> int:
    """As `_relabel`."""
    label, length = _runs(labels)
    found = np.zeros(len(label), bool)
    value = np.full(len(label), fill)
    if len(old):
        at = np.searchsorted(old, label)
        at[at == len(old)] = 0
        found = old[at] == label
        value[found] = new[at[found]]
    kept = ~found & (low <= label) & (label <= high)
    value[kept] = label[kept]
    out[:] = np.repeat(value, length)
    return int(np.count_nonzero(~(found | kept)))


def tally(labels: Array) -> Tally:
    """Count the voxels of each label."""
    pieces = [merge(*_runs(labels[at : at + PIECE])) for at in range(0, len(labels), PIECE)]
    if not pieces:
        return labels, np.zeros(0, np.int64)
    return merge(*(np.concatenate(each) for each in zip(*pieces, strict=True)))


def merge(ids: Array, counts: NDArray[np.int64]) -> Tally:
    """Add the counts of equal ids, which are in any order."""
    order = np.argsort(ids, kind="stable")
    ids, counts = ids[order], counts[order]
    firsts = _firsts(ids)
    return ids[firsts], np.add.reduceat(counts, firsts)


def _runs(labels: Array) -> Tally:
    """The label of each run of equal ones, and its length."""
    firsts = _firsts(labels)
    return labels[firsts], np.diff(firsts, append=len(labels))


def _firsts(labels: Array) -> NDArray[np.int64]:
    """Where a label differs from the one before it."""
    changes = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    return np.concatenate([np.zeros(min(len(labels), 1), np.int64), changes])
