"""Arrays to stored objects: chunks one by one, shards out of pieces.

A write of shards has two steps, so that neither they nor the array need fit into memory:
`ScaleWriter.encode_box` turns a block of the array into pieces, one for each shard that it
touches; `assembly.assemble_shard` joins the pieces of a shard and streams the file. Pieces
that are large wait in objects beside the shards.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Array, Bytes, Codec, compress
from xprecomputed.errors import ChunkMissingError, DataTypeError, LayoutError, StorageError
from xprecomputed.grid import Box, Triple
from xprecomputed.metadata import ScaleInfo, ShardingSpec, VolumeInfo
from xprecomputed.parallel import decode_slot, run_bounded
from xprecomputed.shard_format import locate, pack_value
from xprecomputed.storage import Location, Unchanged, alone_for, workers_for
from xprecomputed.volume.reader import ScaleReader

__all__ = [
    "STAGING",
    "Partial",
    "Piece",
    "ScaleWriter",
    "as_stored",
    "check_compression",
    "require_fit",
]

#: How the folder beside the shards begins where pieces of them wait; no chunk is called so.
STAGING = ".parts-"


@dataclass(frozen=True, slots=True)
class Partial:
    """A part of a chunk that is pasted into what is stored, when its shard is assembled."""

    cell: Triple
    box: Box
    values: Array


@dataclass(frozen=True, slots=True)
class Piece:
    """What one block gives to one shard.

    Parameters
    ----------
    keys : ndarray of uint64
        Of the chunks in `data`, ascending.
    sizes : ndarray of int64
        Bytes of each, as stored.
    data : bytes or None
        The values, one after the other; None: they are in the object `place`.
    place : Location or None
    empty : ndarray of uint64
        Keys of chunks that are not to be stored.
    partials : tuple of Partial
    """

    keys: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    data: bytes | None
    place: Location | None
    empty: NDArray[np.uint64]
    partials: tuple[Partial, ...] = ()

    def __sizeof__(self) -> int:  # what a scheduler weighs
        held = sum(each.values.nbytes for each in self.partials)
        return 500 + len(self.data or b"") + held + 2 * self.keys.nbytes


#: Encodings whose chunks gzip makes smaller.
COMPRESSIBLE = frozenset({"raw", "compressed_segmentation", "compresso", "crackle"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleWriter:
    """One scale, ready to be written. Frozen, picklable; holds no socket and no thread.

    Parameters
    ----------
    reader : ScaleReader
        Of the same scale: for what a partial write keeps.
    compression : {"gzip", "br", "zstd"} or None
        Around whole chunk objects; never around shards.
    compression_level : int or None
    fill_value : int or float
        Of the voxels that nobody wrote, in a chunk that is written in part.
    write_empty : bool
        Whether chunks that hold only `fill_value` are stored.
    skip_stored : bool
        Leave chunks and shards alone that are there.
    cache_control : str or None
        Header of the objects, where the store has headers.
    home : int or None
        The only process that can write, where the storage is its memory.
    """

    reader: ScaleReader
    compression: str | None = None
    compression_level: int | None = None
    fill_value: float = 0
    write_empty: bool = True
    skip_stored: bool = False
    cache_control: str | None = None
    home: int | None = None

    @classmethod
    def open(cls, volume: Location, info: VolumeInfo, mip: int, **options: Any) -> ScaleWriter:
        """The writer of scale number `mip`; no request is made.

        The compression "auto" is gzip where a header can tell it and the encoding leaves
        something to compress, as CloudVolume does it; on disks none, since only CloudVolume
        knows the suffixes.

        Raises
        ------
        DataTypeError
            ``fill_value`` does not fit the data type.
        """
        fill = options.get("fill_value", 0)
        try:
            fits = bool(np.array(fill, info.dtype) == fill) or fill != fill
        except (TypeError, ValueError, OverflowError):
            fits = False
        if not fits or (fill != fill and info.dtype.kind != "f"):
            raise DataTypeError(f"fill_value={fill!r} does not fit {info.data_type}")
        if options.get("compression") == "auto":
            worthwhile = info.scales[mip].encoding in COMPRESSIBLE
            options["compression"] = "gzip" if worthwhile and volume.storage.has_headers else None
        home = os.getpid() if volume.storage.url.startswith("memory:") else None
        return cls(reader=ScaleReader.open(volume, info, mip), home=home, **options)

    @property
    def scale(self) -> ScaleInfo:
        """What is written."""
        return self.reader.scale

    @property
    def directory(self) -> Location:
        """Where the chunks or shards lie."""
        return self.reader.directory

    @property
    def codec(self) -> Codec:
        """The encoding of the chunks."""
        return self.reader.codec

    @property
    def sharding(self) -> ShardingSpec:
        """How the scale is sharded; only asked of one that is."""
        spec = self.scale.sharding
        if spec is None:
            raise ValueError(f"scale {self.scale.key!r} is not sharded")
        return spec

    def write_box(self, array: Array, box: Box) -> int:
        """Write the chunks of an absolute box; the number of objects that were put.

        Parameters
        ----------
        array : ndarray, shape (channel, z, y, x)
            The voxels of `box`.
        box : Box
            A chunk that it covers in part keeps its other voxels; nobody else may write that
            chunk meanwhile but through this method.

        Raises
        ------
        StorageError, AccessDeniedError
            Nothing is half written: a chunk is there as a whole, old or new.
        """
        array = self._checked(array, box)
        written = []

        def write(cell: Triple) -> None:
            if self._write_chunk(cell, array, box):
                written.append(cell)

        self._over(self.scale.grid.cells(box), write)
        return len(written)

    def _checked(self, array: Array, box: Box) -> Array:
        """The voxels of `box` in the layer's type."""
        wanted = (self.reader.num_channels, *box.shape[::-1])
        if array.shape != wanted:
            raise LayoutError(
                f"{self.directory.url}: a block of shape {array.shape} for the voxels {box}, "
                f"expected {wanted} (channel, z, y, x); does the dask array hold what it says?"
            )
        self.require_home()
        return as_stored(array, self.reader.dtype, self.directory.url)

    def require_home(self) -> None:
        """Refuse to write into the memory of another process: nobody would ever see it.

        Raises
        ------
        StorageError
        """
        if self.home is not None and os.getpid() != self.home:
            raise StorageError(
                f"{self.directory.url}: memory is not shared between processes; write to a disk, "
                "or with the scheduler 'threads'"
            )

    def _over(self, cells: Iterable[Triple], work: Callable[[Triple], None]) -> None:
        spec = self.reader.chunk_spec((0, 0, 0))
        run_bounded(
            cells,
            work,
            workers=workers_for(self.directory),
            cost=lambda _: 2 * spec.nbytes,
            alone_s=alone_for(self.directory, spec.nbytes / self.codec.speed_bytes_s, 2),
        )

    def _write_chunk(self, cell: Triple, array: Array, box: Box) -> bool:
        whole = self.scale.grid.chunk_box(cell)
        part = whole.intersection(box)
        if part != whole:
            place = self._chunk_place(cell)
            values = _cut(array, box, part)
            return place.storage.update(
                place.key,
                lambda only_if: self._put_chunk(cell, self.pasted(cell, part, values), only_if),
            )
        if self.skip_stored and self._is_stored(cell):
            return False
        return self._put_chunk(cell, _cut(array, box, whole))

    def _put_chunk(self, cell: Triple, values: Array, only_if: Unchanged | None = None) -> bool:
        data = self.encode(values)
        if data is None and only_if is not None:  # there is no conditional delete
            data = self.codec.encode(values)
        return self.put_encoded(cell, data, only_if)

    def encode(self, values: Array) -> Bytes | None:
        """The bytes of one chunk, or None where it is not to be stored."""
        with decode_slot():
            return None if self._is_left_out(values) else self.codec.encode(values)

    def put_encoded(
        self, cell: Triple, data: Bytes | None, only_if: Unchanged | None = None
    ) -> bool:
        """Store the encoded bytes of a chunk; None removes it."""
        self.require_home()
        place = self._chunk_place(cell)
        if data is None:
            place.storage.delete(place.key)
            return False
        if self.compression is not None:
            with decode_slot():
                data = compress(data, self.compression, self.compression_level)
        place.storage.put(
            place.key,
            data,
            encoding=self.compression,
            cache_control=self.cache_control,
            only_if=only_if,
        )
        return True

    def _is_stored(self, cell: Triple) -> bool:
        place = self._chunk_place(cell)
        return place.storage.size(place.key) is not None

    def _chunk_place(self, cell: Triple) -> Location:
        return self.directory.child(self.scale.grid.name(cell))

    def pasted(self, cell: Triple, part: Box, values: Array) -> Array:
        """The stored chunk with `values` in it."""
        whole = self.scale.grid.chunk_box(cell)
        try:
            merged = self.reader.read_box(whole)
        except ChunkMissingError:
            shape = (self.reader.num_channels, *whole.shape[::-1])
            merged = np.full(shape, self.fill_value, self.reader.dtype)
        _cut(merged, whole, part)[...] = values
        return merged

    def _is_left_out(self, values: Array) -> bool:
        if self.write_empty:
            return False
        return not values.any() if self.fill_value == 0 else bool((values == self.fill_value).all())

    def encode_box(
        self, array: Array, box: Box, staging: str, inline_bytes: int
    ) -> dict[int, Piece]:
        """Encode the chunks of an absolute box for the shards that they belong to.

        Parameters
        ----------
        array, box
            As in `write_box`.
        staging : str
            ``write/block``, both unique: where large pieces wait.
        inline_bytes : int
            A piece up to this size is returned in memory.

        Returns
        -------
        dict of int to Piece
            By shard.
        """
        array = self._checked(array, box)
        encoded: dict[Triple, bytes | None] = {}
        partials: list[Partial] = []

        def encode(cell: Triple) -> None:
            whole = self.scale.grid.chunk_box(cell)
            part = whole.intersection(box)
            values = _cut(array, box, part)
            if part != whole:
                partials.append(Partial(cell, part, values.copy()))
                return
            data = self.encode(values)
            with decode_slot():
                encoded[cell] = None if data is None else pack_value(data, self.sharding)

        self._over(self.scale.grid.cells(box), encode)
        return self.pieces(encoded, partials, staging, inline_bytes)

    def pieces(
        self,
        encoded: dict[Triple, bytes | None],
        partials: Sequence[Partial],
        staging: str,
        inline_bytes: int,
    ) -> dict[int, Piece]:
        """Sort encoded chunks (as stored in a shard) by shard; see `encode_box`."""
        cells = [*encoded, *(each.cell for each in partials)]
        if not cells:
            return {}
        keys = self.reader.keys(cells)
        shards = locate(self.sharding, keys).shards.tolist()
        members: dict[int, list[int]] = {}
        for i in np.argsort(keys).tolist():
            members.setdefault(shards[i], []).append(i)
        values = list(encoded.values())
        return {
            shard: self._piece(
                shard,
                [(int(keys[i]), values[i]) for i in each if i < len(values)],
                tuple(partials[i - len(values)] for i in each if i >= len(values)),
                staging,
                inline_bytes,
            )
            for shard, each in members.items()
        }

    def _piece(
        self,
        shard: int,
        members: list[tuple[int, bytes | None]],
        partials: tuple[Partial, ...],
        staging: str,
        inline_bytes: int,
    ) -> Piece:
        stored = [(key, value) for key, value in members if value is not None]
        sizes = np.array([len(value) for _, value in stored], np.int64)
        data: bytes | None = b"".join([value for _, value in stored])
        place = None
        if data is not None and len(data) > inline_bytes:
            place = self.directory.child(f"{STAGING}{staging}-{shard:x}")
            place.storage.put(place.key, data)
            data = None
        return Piece(
            np.array([key for key, _ in stored], np.uint64),
            sizes,
            data,
            place,
            np.array([key for key, value in members if value is None], np.uint64),
            partials,
        )


def check_compression(compression: str | None, level: int | None) -> str | None:
    """The argument `compression`, if it can be used; "auto" is for `ScaleWriter.open`.

    Raises
    ------
    ValueError
        Unknown, or a level that it does not have.
    MissingDependencyError
    """
    if compression not in (None, "auto"):
        compress(b"", compression, level)
    elif level is not None:
        raise ValueError(f"compression_level={level} without a compression")
    return compression


def as_stored(array: Array, dtype: np.dtype[Any], url: str) -> Array:
    """The same values in the type of a layer; wrapping is never an option.

    Raises
    ------
    DataTypeError
        Negative values for an unsigned type, or any type that does not fit.
    """
    require_fit(array, dtype, url)
    return array if array.dtype == dtype else array.astype(dtype)


def require_fit(array: Array, dtype: np.dtype[Any], url: str) -> None:
    """Refuse values that have no place in the type of a layer."""
    if (array.dtype.kind, dtype.kind) == ("i", "u") and dtype.itemsize >= array.dtype.itemsize:
        if array.size and array.min() < 0:
            raise DataTypeError(
                f"{url}: {array.dtype.name} with negative values (the least is {array.min()}) "
                f"cannot become {dtype.name}; make them positive first"
            )
    elif not np.can_cast(array.dtype, dtype, "safe"):
        raise DataTypeError(
            f"{url}: values of {array.dtype.name} do not fit into {dtype.name} (a dask array may "
            "hold other values than it says; see its meta)"
        )


def _cut(array: Array, box: Box, part: Box) -> Array:
    """The voxels of `part` out of those of `box`; a view."""
    (xa, ya, za), (xb, yb, zb), (x, y, z) = part.start, part.stop, box.start
    return array[:, za - z : zb - z, ya - y : yb - y, xa - x : xb - x]
