"""A scale as an xarray backend array: lazy without dask, basic, outer and vectorized indexing.

The only module that touches ``xarray.core.indexing``. Indexers are told apart by their type:
xarray's own adapter hands outer and vectorized keys over as the same bare tuple, and a lazy
transpose arrives as a vectorized key that is orthogonal in truth.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from xprecomputed.codecs import Array
from xprecomputed.errors import OutOfBoundsError
from xprecomputed.volume import Indexer, ScaleReader

__all__ = ["PrecomputedArray"]

AXES = ("channel", "z", "y", "x")


class PrecomputedArray(BackendArray):
    """One scale with the axes ``([channel,] z, y, x)``; picklable, thread-safe.

    Parameters
    ----------
    reader : ScaleReader
    """

    __slots__ = ("dtype", "reader", "shape")

    def __init__(self, reader: ScaleReader) -> None:
        self.reader = reader
        self.shape = reader.shape if reader.num_channels > 1 else reader.shape[1:]
        # native order: what NumPy users expect to see, and the same bytes on usual machines
        self.dtype = reader.dtype.newbyteorder("=")

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        if isinstance(key, indexing.VectorizedIndexer):
            return self._vectorized(key.tuple)
        return self._outer(key.tuple)

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        """The same on another thread, so that an event loop goes on meanwhile."""
        return await asyncio.to_thread(self.__getitem__, key)

    def __dask_tokenize__(self) -> tuple[str, str, str, str]:
        reader = self.reader
        what = (reader.scale.to_json(), str(reader.dtype), reader.num_channels, reader.fill_missing)
        digest = hashlib.sha256(repr(what).encode()).hexdigest()
        return "PrecomputedArray", reader.directory.url, str(reader.codec), digest

    def __repr__(self) -> str:
        return f"<PrecomputedArray {self.shape} {self.dtype} at {self.reader.directory.url}>"

    def _outer(self, key: tuple[Any, ...]) -> Array:
        """Ints, slices and one-dimensional arrays, each for its own axis."""
        axes = AXES[-self.ndim :]
        positive: list[Indexer] = []
        back: list[Any] = []
        for axis, indexer, size in zip(axes, key, self.shape, strict=True):
            wanted, backwards = _normalised(indexer, size, axis)
            positive.append(wanted)
            if isinstance(indexer, int | np.integer):
                back.append(0)
            else:
                back.append(slice(None, None, -1) if backwards else slice(None))
        result: Array = self._read(positive)[tuple(back)]
        return result

    def _read(self, indexers: list[Indexer]) -> Array:
        result = self.reader.read(*self._with_channel(indexers))
        return result if self.ndim == 4 else result[0]

    def _vectorized(self, key: tuple[Any, ...]) -> Array:
        """Arrays that belong together, broadcast; sliced axes come last in the result."""
        axes = AXES[-self.ndim :]
        sliced = [i for i, each in enumerate(key) if isinstance(each, slice)]
        paired = [i for i in range(self.ndim) if i not in sliced]
        wanted: list[Indexer] = []
        flip: list[Any] = [...]
        for axis, indexer, size in zip(axes, key, self.shape, strict=True):
            one, backwards = _normalised(indexer, size, axis)
            wanted.append(one)
            if isinstance(indexer, slice):
                flip.append(slice(None, None, -1) if backwards else slice(None))
        shape = np.broadcast_shapes(*(key[i].shape for i in paired))
        lines = _lines([np.broadcast_to(np.asarray(wanted[i]), shape) for i in paired])
        if lines is None:
            for i in paired:
                wanted[i] = np.broadcast_to(np.asarray(wanted[i]), shape).reshape(-1)
            result = self._read_points(wanted)
        else:
            # each array has a dimension of its own: a box, read as one and then transposed
            for i, (_, positions) in zip(paired, lines, strict=True):
                wanted[i] = positions
            order = sorted(paired, key=lambda i: lines[paired.index(i)][0])
            result = self._read(wanted).transpose(order + sliced)
        sizes = result.shape[result.ndim - len(sliced) :]
        flipped: Array = result.reshape(shape + sizes)[tuple(flip)]
        return flipped

    def _read_points(self, indexers: list[Indexer]) -> Array:
        result = self.reader.read_points(*self._with_channel(indexers))
        return result if self.ndim == 4 else result[:, 0]

    def _with_channel(self, indexers: list[Indexer]) -> list[Indexer]:
        """Four indexers, whether or not this array shows its channel."""
        return [slice(0, 1, 1)] * (4 - self.ndim) + indexers


def _lines(arrays: list[NDArray[np.int64]]) -> list[tuple[int, NDArray[np.int64]]] | None:
    """For arrays that each vary along one dimension of their own: that and the positions.

    -1 stands for the dimension of a constant. None if they are scattered points in truth, or
    if a dimension repeats them all.
    """
    found = []
    free = {axis for axis, size in enumerate(arrays[0].shape) if size != 1}
    for array in arrays:
        varying = [axis for axis in range(array.ndim) if _varies(array, axis)]
        if len(varying) > 1 or (varying and varying[0] not in free):
            return None
        free -= set(varying)
        line = tuple(slice(None) if axis in varying else 0 for axis in range(array.ndim))
        found.append((varying[0] if varying else -1, np.atleast_1d(array[line])))
    return None if free else found


def _varies(array: NDArray[np.int64], axis: int) -> bool:
    if array.shape[axis] == 1 or (array.strides[axis] == 0 and array.shape[axis]):
        return False
    first = array[(slice(None),) * axis + (slice(0, 1),)]
    return not array.size or bool((array != first).any())


def _normalised(indexer: Any, size: int, axis: str) -> tuple[Indexer, bool]:
    """An indexer within ``[0, size)`` with a positive step, and whether it was backwards."""
    if isinstance(indexer, slice):
        run = range(size)[indexer]
        if run.step < 0:
            run = run[::-1]
            return slice(run.start, max(run.stop, run.start), run.step), True
        return slice(run.start, max(run.stop, run.start), run.step), False
    positions: NDArray[np.int64] = np.asarray(indexer, np.int64)
    if positions.size and not (-size <= positions.min() and positions.max() < size):
        raise OutOfBoundsError(
            f"index {positions.min()} to {positions.max()} for {axis} of size {size}"
        )
    positions = np.where(positions < 0, positions + size, positions)
    if positions.ndim == 0:
        return slice(int(positions), int(positions) + 1, 1), False
    return positions, False
