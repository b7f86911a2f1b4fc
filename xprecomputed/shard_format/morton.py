"""The compressed Morton code: grid position to uint64 key (format reference 4.5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xprecomputed.errors import InvalidInfoError

__all__ = ["MortonCode"]

#: Fewer cells are encoded by Python: NumPy takes longer to begin, once for each bit.
FEW_CELLS = 16


class MortonCode:
    """Keys of the cells of one grid.

    Parameters
    ----------
    grid_shape : sequence of int
        Cells along each axis, x first.

    Raises
    ------
    InvalidInfoError
        The code would need more than 64 bits.

    Examples
    --------
    >>> int(MortonCode((5, 3, 9)).encode([[4, 2, 8]])[0])
    336
    """

    def __init__(self, grid_shape: Sequence[int]) -> None:
        # an axis of n cells has as many bits as n - 1
        counts = [(int(n) - 1).bit_length() for n in grid_shape]
        self.axes = len(counts)
        self.bits = sum(counts)
        if self.bits > 64:
            raise InvalidInfoError(
                f"a grid of {tuple(grid_shape)} chunks needs a Morton code of {self.bits} bits; "
                "at most 64 can be sharded"
            )
        #: for each output bit: (axis, bit of that axis' position)
        self.order = [
            (axis, bit)
            for bit in range(max(counts, default=0))
            for axis, count in enumerate(counts)
            if bit < count
        ]

    def encode(self, cells: object) -> NDArray[np.uint64]:
        """Keys of `cells`, shape (N, axes), positions inside the grid."""
        positions = np.asarray(cells, np.uint64)
        if len(positions) <= FEW_CELLS:
            return np.array([self._key(cell) for cell in positions.tolist()], np.uint64)
        keys = np.zeros(len(positions), np.uint64)
        one = np.uint64(1)
        for output, (axis, bit) in enumerate(self.order):
            keys |= ((positions[:, axis] >> np.uint64(bit)) & one) << np.uint64(output)
        return keys

    def _key(self, cell: Sequence[int]) -> int:
        key = 0
        for output, (axis, bit) in enumerate(self.order):
            key |= (cell[axis] >> bit & 1) << output
        return key

    def decode(self, keys: object) -> NDArray[np.int64]:
        """Cells of `keys`, shape (N, axes); the inverse of `encode`.

        Examples
        --------
        >>> MortonCode((5, 3, 9)).decode([336]).tolist()
        [[4, 2, 8]]
        """
        codes = np.asarray(keys, np.uint64)
        cells = np.zeros((len(codes), self.axes), np.int64)
        one = np.uint64(1)
        for output, (axis, bit) in enumerate(self.order):
            cells[:, axis] |= ((codes >> np.uint64(output)) & one).astype(np.int64) << bit
        return cells
