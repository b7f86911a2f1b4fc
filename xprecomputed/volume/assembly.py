"""One shard out of the pieces that blocks gave, streamed (format reference 4.8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import IO

import numpy as np
from numpy.typing import NDArray

from xprecomputed.errors import StorageError
from xprecomputed.shard_format import ShardLayout, pack_value, shard_keys, shard_name
from xprecomputed.storage import (
    Location,
    Read,
    Unchanged,
    Waiting,
    from_copy,
    kept_values,
    lay_out,
    write_shard,
)
from xprecomputed.volume.writer import Piece, ScaleWriter

__all__ = ["assemble_shard", "rewrite_shard"]


def assemble_shard(writer: ScaleWriter, shard: int, pieces: Sequence[Piece], *, whole: bool) -> int:
    """Write one shard; the number of chunks in it.

    Doing it again, also after the pieces are gone, leaves the same object.

    Parameters
    ----------
    writer : ScaleWriter
    shard : int
    pieces : sequence of Piece
        All that belong to it.
    whole : bool
        Whether they are everything; otherwise what is stored and not replaced is kept, and
        other writers that do the same wait.

    Raises
    ------
    StorageError, AccessDeniedError, CorruptDataError
        The shard is there as a whole, old or new.
    """
    writer.require_home()
    place = writer.directory.child(shard_name(writer.sharding, shard))

    def assemble(only_if: Unchanged | None) -> int:
        with ExitStack() as files:
            values = [each for piece in pieces for each in _of_piece(piece, files)]
            if not whole:
                values += _pasted(writer, pieces)
                replaced = [each.key for each in values]
                replaced += [key for piece in pieces for key in _left_out(writer, piece)]
                values += _kept(writer, shard, replaced, files)
            lost = [each.place for each in pieces if each.place and not _is_there(each.place)]
            _put(writer, place, values, lost, only_if)
        return len(values)

    count = assemble(None) if whole else place.storage.update(place.key, assemble)
    for piece in pieces:
        if piece.place is not None:
            piece.place.storage.delete(piece.place.key)
    return count


def rewrite_shard(writer: ScaleWriter, shard: int, without: Sequence[int]) -> int:
    """Take chunks out of a shard; the number of chunks that are left."""
    place = writer.directory.child(shard_name(writer.sharding, shard))

    def take_out(only_if: Unchanged | None) -> int:
        with ExitStack() as files:
            values = _kept(writer, shard, without, files)
            _put(writer, place, values, [], only_if)
        return len(values)

    return place.storage.update(place.key, take_out)


def _put(
    writer: ScaleWriter,
    place: Location,
    values: Sequence[Waiting],
    lost: Sequence[Location],
    only_if: Unchanged | None,
) -> None:
    layout = lay_out(values, writer.sharding)
    if lost:
        sizes = np.array([each.stop - each.start for each in values], np.int64)
        if not _is_written(place, layout, sizes):
            raise StorageError(f"{lost[0].url}: a piece of {place.url} is gone; write again")
        return
    write_shard(place, layout, values, only_if, writer.cache_control)


def _is_there(place: Location) -> bool:
    return place.storage.size(place.key) is not None


def _is_written(place: Location, layout: ShardLayout, sizes: NDArray[np.int64]) -> bool:
    """Whether this very shard is stored: a task that is repeated finds its pieces gone."""
    at = 0
    for positions, index in [(np.zeros(0, np.int64), layout.index), *layout.minishards]:
        at += int(sizes[positions].sum())
        stored = place.storage.get_range(place.key, at, at + len(index))
        if stored is None or stored.data != index:
            return False
        at += len(index)
    return place.storage.size(place.key) == at


def _of_piece(piece: Piece, files: ExitStack) -> Iterator[Waiting]:
    read = _reader(piece, files)
    stops = np.cumsum(piece.sizes)
    for key, start, stop in zip(
        piece.keys.tolist(), (stops - piece.sizes).tolist(), stops.tolist(), strict=True
    ):
        yield Waiting(key, start, stop, read)


def _reader(piece: Piece, files: ExitStack) -> Read:
    """How ranges of a piece are read; nothing is, until the first is asked for."""
    if piece.data is not None:
        view = memoryview(piece.data)
        return lambda start, stop: view[start:stop]
    place = piece.place
    if place is None:  # pragma: no cover - a piece has one of the two
        raise ValueError("a piece without data")
    if place.storage.is_local:
        return lambda start, stop: _exactly(place, start, stop)

    def fill(file: IO[bytes]) -> None:
        step = 64 << 20
        for at in range(0, int(piece.sizes.sum()), step):
            file.write(_exactly(place, at, min(at + step, int(piece.sizes.sum()))))

    return from_copy(files, fill)


def _exactly(place: Location, start: int, stop: int) -> bytes:
    blob = place.storage.get_range(place.key, start, stop)
    if blob is None or len(blob.data) != stop - start:
        raise StorageError(f"{place.url}: bytes {start} to {stop} are gone; write again")
    return blob.data


def _pasted(writer: ScaleWriter, pieces: Sequence[Piece]) -> list[Waiting]:
    """Chunks that were written in part, merged with what is stored."""
    values = []
    for piece in pieces:
        for partial in piece.partials:
            data = writer.encode(writer.pasted(partial.cell, partial.box, partial.values))
            if data is not None:
                key = int(writer.reader.keys([partial.cell])[0])
                stored = pack_value(data, writer.sharding)
                values.append(Waiting(key, 0, len(stored), _constant(stored)))
    return values


def _left_out(writer: ScaleWriter, piece: Piece) -> list[int]:
    """Keys that the piece replaces, whether or not by something that is stored."""
    cells = [each.cell for each in piece.partials]
    pasted = writer.reader.keys(cells).tolist() if cells else []
    return [*piece.empty.tolist(), *pasted]


def _constant(data: bytes) -> Read:
    return lambda start, stop: data[start:stop]


def _kept(
    writer: ScaleWriter, shard: int, replaced: Sequence[int], files: ExitStack
) -> list[Waiting]:
    """What the shard holds beside the keys that are replaced."""
    keys = shard_keys(writer.sharding, writer.scale.grid.shape, shard)
    keys = keys[~np.isin(keys, np.array(replaced, np.uint64))]
    stored = writer.reader.sharded_values()
    # what is remembered may be older, and would be so again after each conflict
    found = stored.find(keys, anew=frozenset([shard]))
    return kept_values(stored, keys, found, files)
