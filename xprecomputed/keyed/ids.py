"""Segment ids as people give them, and what becomes of those that are missing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from xprecomputed.errors import SegmentMissingError

__all__ = ["Missing", "as_ids", "check_missing", "parse_id", "raise_missing"]

#: What a call does about segments that are not there: an error, or leave them out.
Missing = Literal["raise", "skip"]

MAX_ID = 2**64 - 1
SHOWN = 10
ID = re.compile(r"0|[1-9][0-9]{0,19}")


def as_ids(ids: Any) -> tuple[NDArray[np.uint64], bool]:
    """Ids as an array, and whether it was one id.

    Parameters
    ----------
    ids : int or iterable of int
        Also an array (of xarray, pandas, NumPy) of any integer type.

    Returns
    -------
    ndarray of uint64, shape (N,)
        In the order given, each once.
    bool
        Whether `ids` was a single one and no collection.

    Raises
    ------
    TypeError
        Something else than integers; floats above all, which cannot hold every id.
    ValueError
        An integer below 0 or above 2**64 - 1.

    Examples
    --------
    >>> as_ids([7, 2**63, 7])
    (array([                  7, 9223372036854775808], dtype=uint64), False)
    >>> as_ids(np.uint64(7))
    (array([7], dtype=uint64), True)
    """
    if isinstance(ids, bytes | bytearray | np.ma.MaskedArray):
        raise TypeError(f"segment ids of type {type(ids).__name__}: expected integers")
    single = np.ndim(ids) == 0 and not isinstance(ids, Iterable)
    if not single and hasattr(ids, "dtype") and np.ndim(ids) == 0:  # an array of no dimension
        single, ids = True, np.asarray(ids)[()]
    numbers = [ids] if single else np.asarray(ids).ravel() if hasattr(ids, "dtype") else ids
    found: dict[int, None] = {}
    for each in numbers:
        if isinstance(each, bool | np.bool_) or not isinstance(each, int | np.integer):
            raise TypeError(
                f"segment id {each!r} of type {type(each).__name__}: expected an integer; a float "
                "cannot hold every uint64, so ids that were floats once may be others"
            )
        if not 0 <= int(each) <= MAX_ID:
            raise ValueError(f"segment id {each}: expected 0 to 2**64 - 1")
        found[int(each)] = None
    return np.array(list(found), np.uint64), single


def check_missing(missing: str) -> None:
    """Refuse what is no `Missing`."""
    if missing not in get_args(Missing):
        raise ValueError(f"missing={missing!r}: expected one of {get_args(Missing)}")


def raise_missing(what: str, place: str, ids: Iterable[int]) -> None:
    """Raise, if there are any.

    Parameters
    ----------
    what : str
        ``"mesh"`` or ``"skeleton"``.
    place : str
        Where the first was looked for.
    ids : iterable of int
        All that are not stored.

    Raises
    ------
    SegmentMissingError
    """
    lost = tuple(ids)
    if not lost:
        return
    which = f"segment {lost[0]}"
    if len(lost) > 1:
        more = ", …" if len(lost) > SHOWN else ""
        which = f"{len(lost)} segments: {', '.join(map(str, lost[:SHOWN]))}{more}"
    raise SegmentMissingError(
        f"{place}: there is no {what} of {which}; missing='skip' leaves out what is not there", lost
    )


def parse_id(text: str) -> int | None:
    """The id that a name or a label spells, as everybody prints them; None where it is none.

    Examples
    --------
    >>> parse_id("18446744073709551615"), parse_id("07"), parse_id("-7"), parse_id("٧")
    (18446744073709551615, None, None, None)
    """
    if ID.fullmatch(text) is None or int(text) > MAX_ID:
        return None
    return int(text)
