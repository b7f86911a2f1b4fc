"""What a chunk encoding is: stored bytes to voxels and back (pure).

Arrays here have the axes ``(channel, z, y, x)`` in C order. Those are exactly the stored
bytes of a raw chunk (Fortran order of x, y, z, channel; format reference 2.2), so decoding
need not move a byte.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from xprecomputed.errors import CorruptDataError

if TYPE_CHECKING:
    from typing import Self

    from xprecomputed.metadata import ScaleInfo

__all__ = ["Array", "Bytes", "ChunkSpec", "Codec", "Region"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Bytes: TypeAlias = bytes | memoryview
Region: TypeAlias = tuple[slice, slice, slice, slice]


@dataclass(frozen=True, slots=True)
class ChunkSpec:
    """What the metadata says about one chunk.

    Parameters
    ----------
    shape : tuple of four int
        ``(channel, z, y, x)``, clipped to the volume.
    dtype : numpy.dtype
        Little-endian.
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded chunk."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def voxels(self) -> int:
        """Voxels of one channel."""
        return math.prod(self.shape[1:])

    @property
    def whole(self) -> Region:
        """The region that is the whole chunk."""
        c, z, y, x = self.shape
        return slice(0, c), slice(0, z), slice(0, y), slice(0, x)


@dataclass(frozen=True)
class Codec(ABC):
    """One chunk encoding with the parameters of one scale; a frozen value.

    Subclass it, decorate it with ``@dataclass(frozen=True)``, and announce it in the entry
    point group ``xprecomputed.codecs`` under the name that ``info`` uses.
    """

    name: ClassVar[str]
    #: names of the NumPy types that the encoding can carry
    dtypes: ClassVar[tuple[str, ...]]
    #: numbers of channels that it can carry; None for any
    channels: ClassVar[tuple[int, ...] | None] = None
    #: about as many bytes a second and thread are decoded: whether to wake another thread
    speed_bytes_s: ClassVar[float] = 2e8
    #: whether the stored bytes are the voxels of the chunk in their order, and nothing else
    is_plain: ClassVar[bool] = False
    #: options of the encoding, as users name them -> the members of a scale that keep them
    parameters: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def from_scale(cls, scale: ScaleInfo) -> Self:
        """The codec with the parameters of `scale`.

        Raises
        ------
        UnsupportedEncodingError
            A parameter that decoding needs is missing or unusable.
        """
        del scale
        return cls()

    @classmethod
    def scale_members(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The members that a scale written with `options` has; `from_scale` reads them.

        Parameters
        ----------
        options : dict
            Names of `parameters` and their values.

        Returns
        -------
        dict
            Ready for JSON. Override it to add what a scale cannot be without.

        Raises
        ------
        ValueError
            An option that the encoding does not have, or a value out of its range.
        """
        for name in options:
            if name not in cls.parameters:
                known = ", ".join(cls.parameters) or "none"
                raise ValueError(f"{cls.name} has no encoding option {name!r}, known: {known}")
        return {
            member: cls.check_option(name, options[name])
            for name, member in cls.parameters.items()
            if name in options
        }

    @classmethod
    def check_option(cls, name: str, value: Any) -> Any:
        """The value of one of `parameters` as the scale keeps it, ready for JSON.

        Raises
        ------
        ValueError
            The value is out of range.
        """
        del name
        return value

    @property
    def lossy(self) -> bool:
        """Whether `encode`, with these parameters, changes values."""
        return False

    @abstractmethod
    def max_encoded_bytes(self, chunk: ChunkSpec) -> int:
        """No valid encoding of `chunk` is longer: the bound of every decompression."""

    @abstractmethod
    def is_impossible(self, data: Bytes, chunk: ChunkSpec) -> bool:
        """Whether `data` certainly is not this encoding (cheap, looks at the beginning)."""

    @abstractmethod
    def decode(self, data: Bytes, chunk: ChunkSpec) -> Array:
        """Decode the whole chunk.

        Returns
        -------
        ndarray of ``chunk.dtype``, shape ``chunk.shape``, axes (channel, z, y, x)
            Possibly a read-only view of `data`.

        Raises
        ------
        CorruptDataError
            The bytes are not a valid encoding of `chunk`.
        """

    def decode_into(self, data: Bytes, chunk: ChunkSpec, region: Region, out: Array) -> None:
        """Decode the part `region` of the chunk into `out`, which has exactly its extent."""
        paste(self.decode(data, chunk)[region], out)

    def decode_region(self, data: Bytes, chunk: ChunkSpec, region: Region) -> Array:
        """The part `region` of the chunk; possibly a read-only view of `data`."""
        part = np.empty([each.stop - each.start for each in region], chunk.dtype)
        self.decode_into(data, chunk, region, part)
        return part

    def pick(self, data: Bytes, chunk: ChunkSpec, region: Region, index: tuple[Any, ...]) -> Array:
        """Some voxels of the part `region` of the chunk.

        Parameters
        ----------
        data, chunk, region
            As `decode_into` has them.
        index : tuple of four slices or four ndarrays of int
            Which ones, counted from the begin of `region`: a NumPy index.
        """
        picked: Array = self.decode_region(data, chunk, region)[index]
        return picked

    def part(self, chunk: ChunkSpec, region: Region) -> tuple[int, int, ChunkSpec, Region] | None:
        """Where in the stored bytes of `chunk` the part `region` lies, if they can be cut.

        Returns
        -------
        tuple or None
            First byte, the one after the last, the smaller chunk that these are, and `region` in
            it. None: the whole is needed, or as good as.
        """
        del chunk, region
        return None

    def unique(self, data: Bytes, chunk: ChunkSpec, region: Region) -> tuple[Array, Array]:
        """The labels in the part `region` of a chunk, and how many voxels each has.

        Returns
        -------
        ids : ndarray of ``chunk.dtype``
            Ascending.
        counts : ndarray of int64
            All channels of `region` together; every one at least 1.

        Raises
        ------
        CorruptDataError
            As `decode_into` does.

        Examples
        --------
        >>> from xprecomputed.codecs.raw import Raw
        >>> chunk = ChunkSpec((1, 1, 2, 3), np.dtype("u1"))
        >>> ids, counts = Raw().unique(bytes([7, 7, 5, 7, 5, 9]), chunk, chunk.whole)
        >>> ids.tolist(), counts.tolist()
        ([5, 7, 9], [2, 3, 1])
        """
        part = self.decode_region(data, chunk, region)
        ids, counts = np.unique(part, return_counts=True)
        return ids, counts.astype(np.int64, copy=False)

    @abstractmethod
    def encode(self, array: Array) -> Bytes:
        """Encode one chunk.

        Parameters
        ----------
        array : ndarray, axes (channel, z, y, x)
            Any strides and byte order; no axis is empty.

        Returns
        -------
        bytes or memoryview of bytes
            The same ones for the same voxels; possibly a view of `array`.

        Raises
        ------
        UnsupportedEncodingError
            The encoding cannot hold a chunk of this shape or content.
        """


def paste(part: Array, out: Array) -> None:
    """``out[...] = part``, for arrays of four axes, one shape and one data type.

    NumPy spends more time on going from row to row of a chunk than on copying. Where it is told
    that a row is one item, it takes half as long.

    Examples
    --------
    >>> out = np.zeros((1, 2, 2, 4), "u2")
    >>> paste(np.ones((1, 2, 2, 2), "u2"), out[..., 1:3])
    >>> out[0, 0].tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0]]
    """
    if (
        part.dtype == out.dtype
        and part.shape == out.shape
        and part.strides[-1] == out.strides[-1] == out.itemsize
        and out.size
    ):
        row = np.dtype((np.void, out.shape[-1] * out.itemsize))
        part, out = part.view(row), out.view(row)
    out[...] = part


def contiguous(array: Array, dtype: np.dtype[Any]) -> Array:
    """The same voxels of four axes as one block of memory in C order; `array` if it is that."""
    if array.flags.c_contiguous or array.dtype != dtype:
        return np.ascontiguousarray(array, dtype)
    out = np.empty(array.shape, dtype)
    paste(array, out)
    return out


def integer_option(encoding: str, name: str, value: object, least: int, most: int) -> int:
    """An encoding option that is an integer in a range, or a ValueError with the range."""
    if (
        not isinstance(value, int | np.integer)
        or isinstance(value, bool)
        or not least <= value <= most
    ):
        raise ValueError(f"{encoding}: {name}={value!r}, expected an integer {least} to {most}")
    return int(value)


def number_option(encoding: str, name: str, value: object, least: float, most: float) -> float:
    """An encoding option that is a number in a range, or a ValueError with the range."""
    if (
        not isinstance(value, int | float | np.integer | np.floating)
        or isinstance(value, bool)
        or not least <= value <= most
    ):
        raise ValueError(f"{encoding}: {name}={value!r}, expected a number {least} to {most}")
    return float(value)


def hint(scale: ScaleInfo, member: str, least: float, most: float) -> float | None:
    """A member of `scale` that only writers need, brought into its range.

    What is no number, or below the range, is as if it were absent: readers do not care.
    """
    value = scale.extra.get(member)
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= least:
        return None
    return min(value, most)


def require_length(data: Bytes, least: int, what: str) -> None:
    """Refuse data shorter than a header."""
    if len(data) < least:
        raise CorruptDataError(f"{len(data)} bytes are too few for {what} (at least {least})")
