"""Ids as they were given, exactly: no float and no wrap-around on the way."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd  # type: ignore[import-untyped] # annotated, but in a package of its own
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = [
    "DType",
    "IdMapping",
    "check_range",
    "holding",
    "integer",
    "integers",
    "limits",
    "native",
    "pairs",
    "smallest",
    "within",
]

Array = NDArray[Any]
DType = np.dtype[Any]

#: Old ids to new ones; a Series has the old ones as its index.
IdMapping: TypeAlias = Mapping[int, int] | pd.Series | tuple[ArrayLike, ArrayLike]

DTYPES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8")


def native(dtype: DTypeLike, what: str) -> DType:
    """An integer dtype or bool, in this machine's byte order."""
    found = np.dtype(dtype)
    if found.kind not in "iub":
        raise ValueError(f"{what}: expected an integer dtype or bool, found {found}")
    return found.newbyteorder("=")


def integer(value: Any, what: str) -> int:
    """`value` as Python's own int, if it is one."""
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{what}: expected a whole number, found {value!r}") from None


def integers(values: Any, what: str) -> Array:
    """`values` in one dimension, of an integer dtype, bool, or object (Python's own int)."""
    if not hasattr(values, "dtype"):
        # never np.asarray(values): it makes floats of a list that holds -1 and 2**63
        items = list(values) if isinstance(values, Iterable) else [values]
        values = np.array(items, dtype=object)
    array: Array = np.asarray(values).ravel()
    if array.dtype.kind == "O":
        return np.array([integer(each, what) for each in array], dtype=object)
    if array.size and array.dtype.kind not in "iub":  # NumPy's empty list is of floats
        raise ValueError(
            f"{what}: expected whole numbers, found {array.dtype}, in which ids may be lost; "
            "read them as uint64 (a table's column with gaps: dtype='UInt64', then .dropna())"
        )
    return array


def pairs(mapping: IdMapping) -> tuple[Array, Array]:
    """Old and new ids of a mapping, a Series or a tuple; as many of both."""
    if isinstance(mapping, pd.Series):
        old, new = mapping.index, mapping
    elif isinstance(mapping, Mapping):
        old, new = list(mapping), list(mapping.values())
    elif isinstance(mapping, tuple) and len(mapping) == 2:
        old, new = mapping
    else:
        raise ValueError(
            "mapping: expected a mapping, a Series, or a tuple (old ids, new ids), "
            f"found {type(mapping).__name__}"
        )
    old, new = integers(old, "old ids"), integers(new, "new ids")
    if len(old) != len(new):
        raise ValueError(f"mapping: {len(old)} old ids and {len(new)} new ids")
    return old, new


def limits(dtype: DType) -> tuple[int, int]:
    """The least and the greatest number of a dtype."""
    if dtype.kind == "b":
        return 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def within(values: Array, dtype: DType) -> NDArray[np.bool_]:
    """Which of `values` (as `integers` gives them) a dtype can hold."""
    if values.dtype == bool:  # which NumPy would compare as int64
        return np.ones(values.shape, bool)
    least, most = limits(dtype)
    # exact: NumPy compares with Python's ints as they are
    return ((values >= least) & (values <= most)).astype(bool)


def check_range(low: int, high: int, dtype: DType, what: str) -> None:
    """Refuse `low` or `high` if it does not fit."""
    least, most = limits(dtype)
    for value in (low, high):
        if not least <= value <= most:
            raise ValueError(f"{what} {value} does not fit {dtype} ({least} to {most})")


def holding(low: int, high: int, source: DType) -> DType:
    """`source` if it holds both numbers, else the smallest dtype that holds it and them."""
    least, most = limits(source)
    if least <= low and high <= most:
        return source
    return smallest(min(low, least), max(high, most), f"{source} and the new ids")


def smallest(low: int, high: int, what: str) -> DType:
    """The smallest dtype for numbers from `low` to `high`, unsigned if none is negative."""
    for each in map(np.dtype, DTYPES):
        least, most = limits(each)
        if least <= low and high <= most:
            return each
    raise ValueError(f"no integer dtype holds {what}: {low} to {high}")
