"""The manifest of a multi-resolution mesh: its fragments by lod and cell (format 5.2, pure)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Bytes
from xprecomputed.errors import CorruptDataError

__all__ = ["Manifest"]

HEAD_BYTES = 28  # chunk shape, grid origin, number of lods
LOD_BYTES = 20  # scale, vertex offset, number of fragments
FRAGMENT_BYTES = 16  # position, size
#: Each halves the one before: with so many the coarsest has one cell, whatever the finest has.
MAX_LODS = 64

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """Where the fragments of one mesh lie, in space and in its data.

    The data are the Draco streams one after the other: lod 0 first, within a lod in the order
    of `positions`. Writers put these in Z-order. Nothing here depends on that, so, as in
    Neuroglancer, other orders are read as well.

    Parameters
    ----------
    chunk_shape : tuple of three float
        Size of a cell of lod 0, x, y, z, in units of the stored model; a cell of lod l is
        2**l times as large.
    grid_origin : tuple of three float
        Where cell (0, 0, 0) of every lod begins, stored model.
    lod_scales : tuple of L float
        Resolution of each lod in units of the stored model, times ``lod_scale_multiplier``;
        0: this lod is not stored.
    vertex_offsets : ndarray of float32, shape (L, 3)
        Added to the vertices of a lod, stored model.
    positions : tuple of L ndarray of uint32, shape (F, 3)
        The cells of each lod, x, y, z.
    sizes : tuple of L ndarray of uint32, shape (F,)
        Bytes of each fragment; 0: the cell is empty.

    Examples
    --------
    >>> one = Manifest((64, 64, 64), (0, 0, 10), (1.0,), np.zeros((1, 3), np.float32),
    ...                (np.array([[1, 0, 0]], np.uint32),), (np.array([99], np.uint32),))
    >>> same = Manifest.parse(one.to_bytes())
    >>> same.grid_origin, same.positions[0].tolist(), same.data_bytes
    ((0.0, 0.0, 10.0), [[1, 0, 0]], 99)
    """

    chunk_shape: Triple
    grid_origin: Triple
    lod_scales: tuple[float, ...]
    vertex_offsets: NDArray[np.float32]
    positions: tuple[NDArray[np.uint32], ...]
    sizes: tuple[NDArray[np.uint32], ...]

    @property
    def num_lods(self) -> int:
        """How many lods are counted, those that are not stored too."""
        return len(self.lod_scales)

    @property
    def stored_lods(self) -> tuple[int, ...]:
        """The lods that are stored, the finest first."""
        return tuple(lod for lod, scale in enumerate(self.lod_scales) if scale > 0)

    @property
    def data_bytes(self) -> int:
        """The bytes of all fragments."""
        return sum(int(sizes.sum(dtype=np.uint64)) for sizes in self.sizes)

    @classmethod
    def parse(cls, data: Bytes) -> Manifest:
        """Decode a manifest.

        Raises
        ------
        CorruptDataError
            Not exactly as long as its counts say, of more than 64 lods, or with numbers that place
            nothing.
        """
        counts = _counts(data)
        lods = len(counts)
        head = np.frombuffer(data, "<f4", 6)
        scales = np.frombuffer(data, "<f4", lods, HEAD_BYTES)
        offsets = np.frombuffer(data, "<f4", 3 * lods, HEAD_BYTES + 4 * lods).reshape(lods, 3)
        if not (np.isfinite(head).all() and np.isfinite(offsets).all() and (head[:3] > 0).all()):
            raise CorruptDataError(
                f"mesh manifest with the chunk shape {head[:3].tolist()} and the grid origin "
                f"{head[3:].tolist()}; expected finite numbers, shapes above 0, finite offsets"
            )
        if not (np.isfinite(scales).all() and (scales >= 0).all()):
            raise CorruptDataError(
                f"mesh manifest with the lod scales {scales.tolist()[:8]}; expected numbers >= 0"
            )
        positions, sizes = [], []
        at = HEAD_BYTES + LOD_BYTES * lods
        for count in counts:
            columns = np.frombuffer(data, "<u4", 4 * count, at).reshape(4, count)
            positions.append(columns[:3].T.astype(np.uint32, order="C"))
            sizes.append(columns[3].astype(np.uint32))
            at += FRAGMENT_BYTES * count
        hidden = [lod for lod in range(lods) if scales[lod] == 0 and counts[lod]]
        if hidden:
            raise CorruptDataError(
                f"mesh manifest with fragments of lod {hidden[0]}, whose scale of 0 says that it "
                "is not stored"
            )
        return cls(
            _triple(head[:3]),
            _triple(head[3:]),
            tuple(scales.tolist()),
            offsets.astype(np.float32),
            tuple(positions),
            tuple(sizes),
        )

    def to_bytes(self) -> bytes:
        """The manifest to store."""
        counts = [len(sizes) for sizes in self.sizes]
        parts = [
            np.array([*self.chunk_shape, *self.grid_origin], "<f4").tobytes(),
            np.array([self.num_lods], "<u4").tobytes(),
            np.array(self.lod_scales, "<f4").tobytes(),
            np.asarray(self.vertex_offsets, "<f4").tobytes(),
            np.array(counts, "<u4").tobytes(),
        ]
        for positions, sizes in zip(self.positions, self.sizes, strict=True):
            parts += [np.asarray(positions, "<u4").T.tobytes(), np.asarray(sizes, "<u4").tobytes()]
        return b"".join(parts)


def _counts(data: Bytes) -> list[int]:
    """Fragments of each lod; the length of the manifest has been checked against them."""
    if len(data) < HEAD_BYTES:
        raise CorruptDataError(
            f"mesh manifest of {len(data)} bytes, at least {HEAD_BYTES} expected"
        )
    lods = int(np.frombuffer(data, "<u4", 1, HEAD_BYTES - 4)[0])
    after = HEAD_BYTES + LOD_BYTES * lods
    if not lods or after > len(data):
        raise CorruptDataError(
            f"mesh manifest of {lods} lods in {len(data)} bytes, which have room for 1 to "
            f"{(len(data) - HEAD_BYTES) // LOD_BYTES}"
        )
    if lods > MAX_LODS:
        raise CorruptDataError(f"mesh manifest of {lods} lods, at most {MAX_LODS} are read")
    counts: list[int] = np.frombuffer(data, "<u4", lods, after - 4 * lods).tolist()
    expected = after + FRAGMENT_BYTES * sum(counts)  # of Python's integers: nothing overflows
    if len(data) != expected:
        raise CorruptDataError(
            f"mesh manifest of {len(data)} bytes, {expected} expected of {lods} lods with "
            f"{sum(counts)} fragments"
        )
    return counts


def _triple(values: NDArray[np.float32]) -> Triple:
    x, y, z = values.tolist()
    return x, y, z
