"""A scale as an xarray backend array: lazy without dask, basic, outer and vectorized indexing.

The only module that touches ``xarray.core.indexing``. Indexers are told apart by their type,
since xarray's own adapter hands outer and vectorized keys over as the same bare tuple; and a
vectorized key may be orthogonal in truth, wholly or in some axes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from xprecomputed.codecs import Array
from xprecomputed.errors import OutOfBoundsError
from xprecomputed.volume import Indexer, ScaleReader

__all__ = ["LazyScale", "PrecomputedArray", "readers_of"]

AXES = ("channel", "z", "y", "x")
T = TypeVar("T")


class LazyScale(indexing.LazilyIndexedArray):
    """A lazily indexed scale that stays one when it is transposed.

    xarray's own class turns a transpose into vectorized indexing, whose keys take 8 bytes an
    axis for every voxel as soon as the result is indexed again.
    """

    __slots__ = ()

    def transpose(self, order: Sequence[int]) -> LazyScale:
        """Reorder the dimensions, without reading."""
        key = self.key.tuple
        dropped = [i for i, each in enumerate(key) if isinstance(each, int | np.integer)]
        kept = [i for i in range(len(key)) if i not in dropped]
        axes = [kept[i] for i in order] + dropped
        turned = self.array.turned(axes)
        return type(self)(turned, type(self.key)(tuple(key[i] for i in axes)))


class PrecomputedArray(BackendArray):
    """One scale with the axes ``([channel,] z, y, x)``; picklable, thread-safe.

    Parameters
    ----------
    reader : ScaleReader
    axes : sequence of int, optional
        The order in which those axes are shown.
    """

    __slots__ = ("axes", "dtype", "reader", "shape")

    def __init__(self, reader: ScaleReader, axes: Sequence[int] | None = None) -> None:
        self.reader = reader
        stored = reader.shape if reader.num_channels > 1 else reader.shape[1:]
        self.axes = tuple(range(len(stored)) if axes is None else axes)
        self.shape = tuple(stored[axis] for axis in self.axes)
        # native order: what NumPy users expect to see, and the same bytes on usual machines
        self.dtype = reader.dtype.newbyteorder("=")

    def turned(self, axes: Sequence[int]) -> PrecomputedArray:
        """The same scale with its present axes in another order."""
        return PrecomputedArray(self.reader, [self.axes[axis] for axis in axes])

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
        return "PrecomputedArray", reader.directory.token, f"{reader.codec}{self.axes}", digest

    def __repr__(self) -> str:
        return f"<PrecomputedArray {self.shape} {self.dtype} at {self.reader.directory.url}>"

    def _outer(self, key: tuple[Any, ...]) -> Array:
        """Ints, slices and one-dimensional arrays, each for its own axis."""
        positive: list[Indexer] = []
        back: list[Any] = []
        first = len(AXES) - len(self.shape)
        for axis, indexer, size in zip(self.axes, key, self.shape, strict=True):
            wanted, backwards = _normalised(indexer, size, AXES[first + axis])
            positive.append(wanted)
            if isinstance(indexer, int | np.integer):
                back.append(0)
            else:
                back.append(slice(None, None, -1) if backwards else slice(None))
        result = self._read(self._stored_order(positive)).transpose(self.axes)
        shown: Array = result[tuple(back)]
        return shown

    @property
    def _names(self) -> list[str]:
        return [AXES[-self.ndim :][axis] for axis in self.axes]

    def _stored_order(self, members: Sequence[T]) -> list[T]:
        """One member for each shown axis, in the order of the stored ones."""
        return [members[self.axes.index(axis)] for axis in range(len(members))]

    def _read(self, indexers: list[Indexer]) -> Array:
        result = self.reader.read(*self._with_channel(indexers))
        return result if len(indexers) == 4 else result[0]

    def _with_channel(self, indexers: list[Indexer]) -> list[Indexer]:
        """Four indexers, whether or not this array shows its channel."""
        return [slice(0, 1, 1)] * (4 - len(indexers)) + indexers

    def _vectorized(self, key: tuple[Any, ...]) -> Array:
        """Arrays that belong together, broadcast; sliced axes come last in the result."""
        arrays = self._stored_order(self._broadcast(key))
        shape = arrays[0].shape
        if 0 in shape:
            return np.empty(shape, self.dtype)
        own = _own_dimensions(arrays)
        # what has a dimension to itself is an axis of a box; only the rest are points
        paired = [i for i in range(self.ndim) if i not in own]
        owned = [dim for dim in own.values() if dim is not None]
        rest = [dim for dim in range(len(shape)) if dim not in owned]
        indexers: list[Indexer] = []
        for i, array in enumerate(arrays):
            kept = rest if i in paired else [own[i]]
            line = tuple(slice(None) if dim in kept else 0 for dim in range(len(shape)))
            indexers.append(np.atleast_1d(array[line]).reshape(-1))
        if paired:
            hidden = 4 - self.ndim
            result = self.reader.read_points(
                self._with_channel(indexers), [hidden + i for i in paired]
            )
            lead = [shape[dim] for dim in rest]
        else:
            result = self._read(indexers)
            lead = [1] * len(rest)
        result = result.reshape(lead + [shape[dim] for dim in owned])
        result = result.transpose(np.argsort(rest + owned))
        return result if result.shape == shape else np.broadcast_to(result, shape).copy()

    def _broadcast(self, key: tuple[Any, ...]) -> list[NDArray[np.int64]]:
        """One array of positions for each axis, all of the result's shape."""
        slices = [i for i, each in enumerate(key) if isinstance(each, slice)]
        arrays = []
        for i, (axis, indexer, size) in enumerate(zip(self._names, key, self.shape, strict=True)):
            if i in slices:
                new = [1] * len(slices)
                new[slices.index(i)] = -1
                arrays.append(np.arange(size)[indexer].reshape(new))
            else:
                positions = _inside(np.asarray(indexer, np.int64), size, axis)
                arrays.append(positions.reshape(positions.shape + (1,) * len(slices)))
        return list(np.broadcast_arrays(*arrays))


def readers_of(variable: xr.Variable) -> list[ScaleReader]:
    """The scales that a variable would be read from, if it were computed now."""
    data = variable._data
    graph = getattr(data, "__dask_graph__", lambda: None)()
    if graph is None:
        return _unwrapped(data)
    found: list[ScaleReader] = []
    for layer in getattr(graph, "layers", {"": graph}).values():
        if hasattr(layer, "indices"):  # a Blockwise layer would write all its tasks out
            values = [literal for literal, index in layer.indices if index is None]
        else:
            # dask keeps what it was made from under keys of their own, the only plain names
            values = [value for key, value in layer.items() if isinstance(key, str)]
        for value in values:
            found += _unwrapped(getattr(value, "value", value))
    return found


def _unwrapped(data: Any) -> list[ScaleReader]:
    while data is not None and not isinstance(data, PrecomputedArray):
        data = getattr(data, "array", None)
    return [] if data is None else [data.reader]


def _own_dimensions(arrays: list[NDArray[np.int64]]) -> dict[int, int | None]:
    """Which arrays vary along at most one dimension, one that no other varies along.

    Returns that dimension by the number of the array; None for a constant.
    """
    varying = [_varying(each) for each in arrays]
    own: dict[int, int | None] = {}
    for i, dims in enumerate(varying):
        others = set().union(*varying[:i], *varying[i + 1 :])
        if len(dims) <= 1 and not dims & others:
            own[i] = next(iter(dims), None)
    return own


def _varying(array: NDArray[np.int64]) -> set[int]:
    """The dimensions along which `array` is not constant."""
    # a broadcast dimension has no stride: without it, what is compared stays small
    small = array[tuple(slice(None) if stride else slice(0, 1) for stride in array.strides)]
    return {
        dim
        for dim, size in enumerate(small.shape)
        if size > 1 and (small != small.take([0], axis=dim)).any()
    }


def _normalised(indexer: Any, size: int, axis: str) -> tuple[Indexer, bool]:
    """An indexer within ``[0, size)`` with a positive step, and whether it was backwards."""
    if isinstance(indexer, slice):
        start, stop, step = indexer.indices(size)
        if step < 0:
            run = range(start, stop, step)[::-1]
            return slice(run.start, max(run.stop, run.start), run.step), True
        return slice(start, max(stop, start), step), False
    positions = _inside(np.asarray(indexer, np.int64), size, axis)
    if positions.ndim == 0:
        return slice(int(positions), int(positions) + 1, 1), False
    return positions, False


def _inside(positions: NDArray[np.int64], size: int, axis: str) -> NDArray[np.int64]:
    """Positions counted from the first voxel; negative ones count from the end."""
    if positions.size and not (-size <= positions.min() and positions.max() < size):
        raise OutOfBoundsError(
            f"index {positions.min()} to {positions.max()} for {axis} of size {size}"
        )
    return np.where(positions < 0, positions + size, positions)
