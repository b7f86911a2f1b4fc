"""One file of a spatial index: ids and the boxes of what they have in a cell (pure)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xprecomputed.errors import CorruptDataError
from xprecomputed.keyed.ids import parse_id
from xprecomputed.metadata import parse_json

__all__ = ["Boxes"]


@dataclass(frozen=True, slots=True)
class Boxes:
    """Ids and their boxes.

    Parameters
    ----------
    ids : ndarray of uint64, shape (N,)
    corners : ndarray of float64, shape (N, 2, 3)
        Lower and upper corner in nm, x, y, z.
    """

    ids: NDArray[np.uint64]
    corners: NDArray[np.float64]

    @classmethod
    def parse(cls, data: bytes, where: str) -> Boxes:
        """Decode a file.

        Raises
        ------
        InvalidInfoError
            Not JSON.
        CorruptDataError
            Not ids with six numbers each, or a box whose end lies before its begin.

        Examples
        --------
        >>> Boxes.parse(b'{"7": [0, 1, 2, 3, 4, 5]}', "0-9_0-9_0-9.spatial").corners.tolist()
        [[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]
        """
        document = parse_json(data, where)
        if not isinstance(document, dict):
            raise CorruptDataError(f"{where}: expected an object of ids and boxes")
        corners = np.empty((len(document), 6))
        ids = np.empty(len(document), np.uint64)
        for at, (label, box) in enumerate(document.items()):
            number = parse_id(label)
            if number is None:
                raise CorruptDataError(
                    f"{where}: label {label[:80]!r}, expected a decimal number 0 to 2**64 - 1"
                )
            if not _is_box(box):
                raise CorruptDataError(
                    f"{where}: label {label}: expected [x0, y0, z0, x1, y1, z1], numbers in nm, "
                    f"found {str(box)[:80]}"
                )
            try:
                ids[at], corners[at] = number, box
            except OverflowError:
                raise CorruptDataError(
                    f"{where}: label {label}: a number that no float has"
                ) from None
        _check(ids, corners, where)
        return cls(ids, corners.reshape(-1, 2, 3))

    def to_bytes(self) -> bytes:
        """The file; whole nm without a point, which other readers ask for."""
        document = {}
        order = np.argsort(self.ids)
        rows = self.corners[order].reshape(-1, 6).tolist()
        for label, row in zip(self.ids[order].tolist(), rows, strict=True):
            document[str(label)] = [int(each) if each.is_integer() else each for each in row]
        return json.dumps(document, separators=(",", ":")).encode()

    def some(self, which: NDArray[np.bool_]) -> Boxes:
        """Those for which `which` holds."""
        return Boxes(self.ids[which], self.corners[which])

    def touching(self, box: NDArray[np.float64]) -> Boxes:
        """Those that touch a box, shape (2, 3).

        Stored boxes are cut to whole nm, so they may be 1 nm too small at each side.
        """
        begins, ends = self.corners[:, 0] - 1, self.corners[:, 1] + 1
        return self.some(((begins < box[1]) & (ends > box[0])).all(axis=1))

    def of_ids(self, ids: NDArray[Any]) -> Boxes:
        """Those of some ids."""
        return self.some(np.isin(self.ids, ids))

    def without(self, ids: NDArray[Any]) -> Boxes:
        """Those of all other ids."""
        return self.some(~np.isin(self.ids, ids))

    def is_same(self, other: Boxes) -> bool:
        """Whether the same is said in the same order."""
        return np.array_equal(self.ids, other.ids) and np.array_equal(self.corners, other.corners)

    @classmethod
    def joined(cls, many: list[Boxes]) -> Boxes:
        """The boxes around all that an id has, ids ascending."""
        ids = np.concatenate([np.zeros(0, np.uint64), *(each.ids for each in many)])
        corners = np.concatenate([np.zeros((0, 2, 3)), *(each.corners for each in many)])
        if not len(ids):
            return cls(ids, corners)
        order = np.argsort(ids, kind="stable")
        ids, first = np.unique(ids[order], return_index=True)
        low = np.minimum.reduceat(corners[order, 0], first)
        high = np.maximum.reduceat(corners[order, 1], first)
        return cls(ids, np.stack([low, high], axis=1))

    @classmethod
    def of(cls, boxes: Mapping[int, NDArray[np.float64]]) -> Boxes:
        """Out of a box of shape (2, 3) for each id."""
        ids = np.array(list(boxes), np.uint64)
        corners = np.array(list(boxes.values()), float).reshape(-1, 2, 3)
        return cls(ids, corners)


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 6 and all(type(each) in _NUMBERS for each in box)


_NUMBERS = (int, float)


def _check(ids: NDArray[np.uint64], corners: NDArray[np.float64], where: str) -> None:
    bad = ~np.isfinite(corners).all(axis=1) | (corners[:, :3] > corners[:, 3:]).any(axis=1)
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise CorruptDataError(
            f"{where}: label {int(ids[at])}: the box {corners[at].tolist()} is not finite, or ends "
            "before it begins"
        )
