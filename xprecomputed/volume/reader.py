"""Boxes, orthogonal selections and points of one scale, as arrays.

One read is plan, fetch, decode into the destination. What crosses threads are whole chunks;
what crosses processes is this small frozen value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xprecomputed.codecs import (
    GZIP_MAGIC,
    Array,
    Bytes,
    ChunkSpec,
    Codec,
    codec_for,
    decompress,
)
from xprecomputed.errors import (
    AccessDeniedError,
    ChunkMissingError,
    CorruptDataError,
    InvalidInfoError,
    OutOfBoundsError,
    ScaleNotFoundError,
)
from xprecomputed.grid import Box, Triple
from xprecomputed.metadata import ScaleInfo, VolumeInfo
from xprecomputed.options import get_options
from xprecomputed.parallel import WORTHWHILE_S, Slots, decode_slot, run_bounded
from xprecomputed.shard_format import MortonCode
from xprecomputed.storage import Blob, Location, ShardedValues, alone_for, workers_for
from xprecomputed.tracing import record_filled
from xprecomputed.volume.plain_files import read_plain
from xprecomputed.volume.plan import ChunkTask, Indexer, OuterPlan, PointPlan
from xprecomputed.volume.results import empty_result

__all__ = ["FillMissing", "ScaleReader", "merged_counts"]

Counts: TypeAlias = "tuple[Array, NDArray[np.int64]]"

#: Whether holes are zeros: chunks of which the store says so, and with "denied" those too for
#: which it gives a plain 403, as S3 does to those who may not list the bucket.
FillMissing: TypeAlias = bool | Literal["denied"]

_NO_SLOTS: AbstractContextManager[None] = nullcontext()

#: With so many requests in flight, one thread more or less that waits makes no difference.
MANY_IN_FLIGHT = 32

#: Decoding takes the stored bytes, maybe their decompressed form, and a decoded temporary.
COPIES = 2


@dataclass(frozen=True, slots=True)
class ScaleReader:
    """One scale, ready to be read. Frozen, picklable; holds no socket and no thread.

    Parameters
    ----------
    directory : Location
        Where the chunks or shards lie.
    scale : ScaleInfo
    dtype : numpy.dtype
        Little-endian.
    num_channels : int
    codec : Codec
    fill_missing : bool or "denied"
        Whether a chunk that is definitely not stored reads as zeros, or also one that is denied.
    instead : str
        A mip that has data, where this one is a placeholder; else empty.
    """

    directory: Location
    scale: ScaleInfo
    dtype: np.dtype[Any]
    num_channels: int
    codec: Codec
    fill_missing: FillMissing = False
    instead: str = ""

    @classmethod
    def open(
        cls, volume: Location, info: VolumeInfo, mip: int, *, fill_missing: FillMissing = False
    ) -> ScaleReader:
        """The reader of scale number `mip`; no request is made.

        Raises
        ------
        UnsupportedEncodingError, InvalidURLError, InvalidInfoError
        ValueError
            Of `fill_missing`.
        """
        if fill_missing != "denied" and not isinstance(fill_missing, bool):
            raise ValueError(f"fill_missing={fill_missing!r}: expected True, False or 'denied'")
        scale = info.scales[mip]
        reader = cls(
            directory=volume.child(scale.key),
            scale=scale,
            dtype=info.dtype,
            num_channels=info.num_channels,
            codec=codec_for(info, scale),
            fill_missing=fill_missing,
            instead=_with_data(info) if scale.is_placeholder else "",
        )
        if scale.sharding is not None:
            reader._morton()
        return reader

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(channel, z, y, x)``."""
        x, y, z = self.scale.size
        return self.num_channels, z, y, x

    def read_box(self, box: Box) -> Array:
        """The voxels of an absolute box.

        Returns
        -------
        ndarray, shape (channel, z, y, x)

        Raises
        ------
        OutOfBoundsError
            The box is not inside the scale.
        """
        plan = self._plan(box)
        out = empty_result(plan.shape, self.dtype)
        self._run(plan, _Paste(self, out))
        return out

    def _plan(self, box: Box) -> OuterPlan:
        if not self.scale.bounds.contains(box):
            raise OutOfBoundsError(
                f"{self.directory.url}: box {box} is not inside {self.scale.bounds} "
                "(absolute voxels of this mip)"
            )
        x, y, z = (
            slice(a - o, max(b, a) - o, 1)
            for a, b, o in zip(box.start, box.stop, self.scale.voxel_offset, strict=True)
        )
        return OuterPlan(self.scale.grid, slice(0, self.num_channels, 1), z, y, x)

    def read(self, channel: Indexer, z: Indexer, y: Indexer, x: Indexer) -> Array:
        """An orthogonal selection: every combination of the four indexers.

        Parameters
        ----------
        channel, z, y, x : slice or ndarray of int
            Positions from the first voxel; inside the bounds, positive steps.

        Returns
        -------
        ndarray, shape (channel, z, y, x)
        """
        plan = OuterPlan(self.scale.grid, channel, z, y, x)
        out = empty_result(plan.shape, self.dtype)
        self._run(plan, _Paste(self, out))
        return out

    def read_points(self, indexers: Sequence[Indexer], paired: Sequence[int]) -> Array:
        """Scattered voxels; every chunk is read once, whatever the order of the points.

        Parameters
        ----------
        indexers : sequence of four slices or ndarrays of int
            Channel, z, y, x: positions from the first voxel, inside the bounds.
        paired : sequence of int
            The axes (one at least) whose arrays belong together and have one length N. Each
            position of any other axis goes with every point.

        Returns
        -------
        ndarray, shape (N, and the length of each other axis in order)
        """
        plan = PointPlan(self.scale.grid, indexers, paired)
        out = empty_result(plan.shape, self.dtype)
        self._run(plan, _Paste(self, out))
        return out

    def stored_bytes(self, box: Box) -> dict[Box, bytes]:
        """The encoded bytes of the chunks that touch an absolute box, nothing decoded.

        What lies around them (gzip of a whole object, ``data_encoding`` of a shard) is undone.

        Returns
        -------
        dict of Box to bytes
            By the chunk's own box; chunks that are not stored are not in it.

        Raises
        ------
        OutOfBoundsError, CorruptDataError, AccessDeniedError, StorageError
        """
        sink = _Keep(self)
        self._run(self._plan(box), sink)
        return sink.found

    def count_labels(self, box: Box) -> tuple[Array, NDArray[np.int64]]:
        """The values in an absolute box, ascending, and how many voxels have each.

        Chunk by chunk, and without decoding where the codec can count.

        Returns
        -------
        ndarray of the layer's data type, ndarray of int64
        """
        sink = _Count(self)
        self._run(self._plan(box), sink)
        return merged_counts(sink.parts, self.dtype)

    def _run(self, plan: OuterPlan | PointPlan, sink: _Sink) -> None:
        if not len(plan):
            return
        if self.instead:
            raise ScaleNotFoundError(
                f"{self.directory.url}: this mip is a placeholder without data; {self.instead}"
            )
        if self.scale.sharding is None:
            left: list[ChunkTask] | OuterPlan | PointPlan = plan
            if self.codec.is_plain and isinstance(sink, _Paste):
                left = read_plain(
                    self.directory, self.scale.grid, self.num_channels, plan, sink.out
                )
            self._read_chunks(left, sink)
        else:
            self._read_shards(list(plan), sink)

    def _read_chunks(self, tasks: list[ChunkTask] | OuterPlan | PointPlan, sink: _Sink) -> None:
        nbytes = self.chunk_spec((0, 0, 0)).nbytes
        workers, asking = workers_for(self.directory), _NO_SLOTS
        if not self.directory.storage.is_local and (
            workers < MANY_IN_FLIGHT or nbytes / self.codec.speed_bytes_s > WORTHWHILE_S
        ):
            # whoever decodes what came lets another one ask meanwhile
            asking = Slots(workers)
            workers += get_options().decode_threads
        if not (count := len(tasks)):
            return
        run_bounded(
            tasks,
            lambda task: self._read_chunk(task, sink, asking),
            workers=min(workers, count),
            cost=lambda _: COPIES * nbytes,
            alone_s=alone_for(self.directory, nbytes / self.codec.speed_bytes_s, count),
        )

    def _read_chunk(
        self, task: ChunkTask, sink: _Sink, asking: AbstractContextManager[None]
    ) -> None:
        chunk = self.chunk_spec(task.cell)
        place = self._place(task.cell)
        if (
            sink.takes_parts
            and place.storage.is_local
            and self._read_part(place, chunk, task, sink)
        ):
            return
        limit = self.codec.max_encoded_bytes(chunk)
        # a compressed object may be a little longer than its contents
        with asking:
            blob = self._stored(place, limit + (limit >> 4) + 4096)
        if blob is None:
            sink.miss(task, place.url)
            return
        try:
            with decode_slot():
                data: Bytes = blob.data
                if blob.encoding is not None:
                    data = decompress(data, blob.encoding, limit)
                elif data[:2] == GZIP_MAGIC and self.codec.is_impossible(data, chunk):
                    data = decompress(data, "gzip", limit)
                self._take(data, chunk, task, sink)
        except CorruptDataError as error:
            place.storage.forget(place.key)  # or a cache would give it for ever
            raise CorruptDataError(f"{place.url}: {error}") from None

    def _place(self, cell: Triple) -> Location:
        # not by `child`, which looks whether a name leads elsewhere: these are numbers
        key, name = self.directory.key, self.scale.grid.name(cell)
        return Location(self.directory.storage, f"{key}/{name}" if key else name)

    def _read_part(self, place: Location, chunk: ChunkSpec, task: ChunkTask, sink: _Sink) -> bool:
        """Whether the planes that are wanted could be read alone."""
        part = self.codec.part(chunk, task.region)
        if part is None:
            return False
        start, stop, smaller, region = part
        data = place.storage.get_part(place.key, start, stop, chunk.nbytes)
        if data is None:
            return False
        with decode_slot():
            sink.take(data, smaller, replace(task, region=region))
        return True

    def _stored(self, place: Location, max_bytes: int) -> Blob | None:
        with _with_cure:
            try:
                return place.storage.get(place.key, max_bytes)
            except AccessDeniedError as error:
                if self.fill_missing == "denied" and error.may_be_absent:
                    return None
                raise

    def _read_shards(self, tasks: list[ChunkTask], sink: _Sink) -> None:
        keys = self.keys([task.cell for task in tasks])
        values = self.sharded_values()
        chunk = self.chunk_spec((0, 0, 0))

        def deliver(position: int, data: Bytes | None) -> None:
            task = tasks[position]
            if data is None:
                sink.miss(task, values.place_of(int(keys[position])))
                return
            try:
                with decode_slot():
                    self._take(data, self.chunk_spec(task.cell), task, sink)
            except CorruptDataError as error:
                values.forget(int(keys[position]))
                raise CorruptDataError(
                    f"{values.place_of(int(keys[position]))}, chunk "
                    f"{self.scale.grid.name(task.cell)}: {error}{self._hint(task.cell)}"
                ) from None

        with _with_cure:
            values.read(
                keys,
                deliver,
                max_value_bytes=self.codec.max_encoded_bytes(chunk),
                held_bytes=COPIES * chunk.nbytes,
            )

    def _take(self, data: Bytes, chunk: ChunkSpec, task: ChunkTask, sink: _Sink) -> None:
        if not len(data):
            raise CorruptDataError("an object of zero bytes")
        sink.take(data, chunk, task)

    def chunk_spec(self, cell: Triple) -> ChunkSpec:
        """Shape and type of the chunk at a grid position."""
        x, y, z = self.scale.grid.chunk_shape(cell)
        return ChunkSpec((self.num_channels, z, y, x), self.dtype)

    def _morton(self) -> MortonCode:
        try:
            return MortonCode(self.scale.grid.shape)
        except InvalidInfoError as error:
            raise InvalidInfoError(f"{self.directory.url}: {error}") from None

    def keys(self, cells: ArrayLike) -> NDArray[np.uint64]:
        """The keys of chunks at grid positions, shape (N, 3), of a sharded scale."""
        return self._morton().encode(cells)

    def sharded_values(self) -> ShardedValues:
        """The chunks of a sharded scale by key."""
        spec = self.scale.sharding
        if spec is None:  # pragma: no cover - the caller has looked
            raise ValueError("not sharded")
        entries = self.scale.grid.chunks
        if spec.hash == "identity":
            # keys of one minishard differ in the bits below it and in those above the shard
            bits = self._morton().bits
            above = max(0, bits - spec.preshift_bits - spec.minishard_bits - spec.shard_bits)
            entries = min(entries, 1 << min(bits, spec.preshift_bits + above))
        return ShardedValues(self.directory, spec, entries, self.fill_missing == "denied")

    def _hint(self, cell: Triple) -> str:
        """The likely cause at edges of sharded data (format reference 4.6)."""
        if self.scale.grid.chunk_shape(cell) == self.scale.chunk_size:
            return ""
        return (
            " (CloudVolume and Igneous store one encoded background chunk for all extents of a "
            "shard unless delete_black_uploads is set; this edge chunk may be such a one)"
        )


class _WithCure:
    """Says of a chunk that is denied how to go on if it is a hole."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if isinstance(error, AccessDeniedError) and error.may_be_absent:
            explained = AccessDeniedError(
                f"{error}. Buckets that may not be listed answer 403 for objects that do not "
                "exist: if this is a hole and holes are background, open with "
                "fill_missing='denied'"
            )
            explained.may_be_absent = True
            raise explained from None


_with_cure = _WithCure()


class _Sink(Protocol):
    """What becomes of the chunks of a read; called from several threads."""

    #: Whether it is content with the part of a chunk that is wanted.
    takes_parts: ClassVar[bool]

    def take(self, data: Bytes, chunk: ChunkSpec, task: ChunkTask) -> None: ...
    def miss(self, task: ChunkTask, address: str) -> None: ...


def _may_fill(reader: ScaleReader, task: ChunkTask, address: str) -> None:
    """The only place where a hole becomes zeros, or does not."""
    if not reader.fill_missing:
        box = reader.scale.grid.chunk_box(task.cell)
        raise ChunkMissingError(
            f"{address}: the chunk of voxels {box} is not stored. If holes are background, "
            "open with fill_missing=True"
        )
    record_filled(1)


@dataclass(frozen=True, slots=True)
class _Paste:
    """Decode into a result."""

    takes_parts: ClassVar[bool] = True
    reader: ScaleReader
    out: Array

    def take(self, data: Bytes, chunk: ChunkSpec, task: ChunkTask) -> None:
        codec = self.reader.codec
        if task.source is None:
            codec.decode_into(data, chunk, task.region, self.out[task.target])
            return
        self.out[task.target] = codec.pick(data, chunk, task.region, task.source)

    def miss(self, task: ChunkTask, address: str) -> None:
        _may_fill(self.reader, task, address)
        self.out[task.target] = 0


@dataclass(frozen=True, slots=True)
class _Keep:
    """Hand the stored bytes out."""

    takes_parts: ClassVar[bool] = False
    reader: ScaleReader
    found: dict[Box, bytes] = field(default_factory=dict)

    def take(self, data: Bytes, chunk: ChunkSpec, task: ChunkTask) -> None:
        if self.reader.codec.is_impossible(data, chunk):
            raise CorruptDataError(f"the bytes are not {self.reader.scale.encoding}")
        self.found[self.reader.scale.grid.chunk_box(task.cell)] = bytes(data)

    def miss(self, task: ChunkTask, address: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Count:
    """Count the values."""

    takes_parts: ClassVar[bool] = True
    reader: ScaleReader
    parts: list[Counts] = field(default_factory=list)

    def take(self, data: Bytes, chunk: ChunkSpec, task: ChunkTask) -> None:
        self.parts.append(self.reader.codec.unique(data, chunk, task.region))

    def miss(self, task: ChunkTask, address: str) -> None:
        _may_fill(self.reader, task, address)
        voxels = math.prod(each.stop - each.start for each in task.region)
        self.parts.append((np.zeros(1, self.reader.dtype), np.array([voxels])))


def merged_counts(parts: Sequence[Counts], dtype: np.dtype[Any]) -> Counts:
    """Values and counts of several parts as one, ascending."""
    if not parts:
        return np.zeros(0, dtype), np.zeros(0, np.int64)
    values = np.concatenate([each for each, _ in parts])
    ids, at = np.unique(values, return_inverse=True)
    counts = np.zeros(len(ids), np.int64)
    np.add.at(counts, at, np.concatenate([each for _, each in parts]))
    return ids.astype(dtype.newbyteorder("="), copy=False), counts


def _with_data(info: VolumeInfo) -> str:
    for mip, scale in enumerate(info.scales):
        if not scale.is_placeholder:
            return f"mip={mip} ({scale.resolution} nm, key {scale.key!r}) has data"
    return "no mip of this volume has data"
