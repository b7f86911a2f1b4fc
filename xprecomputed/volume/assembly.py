"""One shard out of the pieces that blocks gave, streamed (format reference 4.8)."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Bytes
from xprecomputed.errors import StorageError
from xprecomputed.shard_format import ShardLayout, pack_value, shard_keys, shard_name
from xprecomputed.storage import Location, Unchanged, index_cache
from xprecomputed.volume.writer import Piece, ScaleWriter

__all__ = ["assemble_shard", "rewrite_shard"]

Read: TypeAlias = Callable[[int, int], Bytes]


@dataclass(frozen=True, slots=True)
class _Value:
    """A value of the shard as stored, wherever it waits."""

    key: int
    start: int
    stop: int
    read: Read


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
    values: Sequence[_Value],
    lost: Sequence[Location],
    only_if: Unchanged | None,
) -> None:
    if not values and only_if is None:
        place.storage.delete(place.key)
        index_cache.clear()
        return
    keys = np.array([each.key for each in values], np.uint64)
    sizes = np.array([each.stop - each.start for each in values], np.int64)
    layout = ShardLayout.plan(keys, sizes, writer.sharding)
    if lost:
        if not _is_written(place, layout, sizes):
            raise StorageError(f"{lost[0].url}: a piece of {place.url} is gone; write again")
        return

    def read(position: int) -> Bytes:
        value = values[position]
        return value.read(value.start, value.stop)

    place.storage.put_parts(
        place.key, layout.parts(read), cache_control=writer.cache_control, only_if=only_if
    )
    index_cache.clear()  # not every store can tell that an object was replaced


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


def _of_piece(piece: Piece, files: ExitStack) -> Iterator[_Value]:
    read = _reader(piece, files)
    stops = np.cumsum(piece.sizes)
    for key, start, stop in zip(
        piece.keys.tolist(), (stops - piece.sizes).tolist(), stops.tolist(), strict=True
    ):
        yield _Value(key, start, stop, read)


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

    return _from_copy(files, fill)


def _from_copy(files: ExitStack, fill: Callable[[IO[bytes]], None]) -> Read:
    """How ranges of a local copy are read, which `fill` makes when the first is asked for.

    A request for each value would be slow, and all of them in memory too much.
    """
    copies: list[IO[bytes]] = []

    def read(start: int, stop: int) -> bytes:
        if not copies:
            file = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            fill(file)
            copies.append(file)
        copies[0].seek(start)
        return copies[0].read(stop - start)

    return read


def _exactly(place: Location, start: int, stop: int) -> bytes:
    blob = place.storage.get_range(place.key, start, stop)
    if blob is None or len(blob.data) != stop - start:
        raise StorageError(f"{place.url}: bytes {start} to {stop} are gone; write again")
    return blob.data


def _pasted(writer: ScaleWriter, pieces: Sequence[Piece]) -> list[_Value]:
    """Chunks that were written in part, merged with what is stored."""
    values = []
    for piece in pieces:
        for partial in piece.partials:
            data = writer.encode(writer.pasted(partial.cell, partial.box, partial.values))
            if data is not None:
                key = int(writer.reader.keys([partial.cell])[0])
                stored = pack_value(data, writer.sharding)
                values.append(_Value(key, 0, len(stored), _constant(stored)))
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
) -> list[_Value]:
    """What the shard holds beside the keys that are replaced."""
    keys = shard_keys(writer.sharding, writer.scale.grid.shape, shard)
    keys = keys[~np.isin(keys, np.array(replaced, np.uint64))]
    stored = writer.reader.sharded_values()
    # what is remembered may be older, and would be so again after each conflict
    found = stored.find(keys, anew=frozenset([shard]))
    kept = np.flatnonzero(found.starts >= 0)
    if writer.directory.storage.is_local:

        def read_at(position: int) -> Read:
            return lambda start, stop: stored.stored(found, position)

        return [
            _Value(int(keys[i]), int(found.starts[i]), int(found.stops[i]), read_at(i))
            for i in kept.tolist()
        ]
    # in the copy they lie one after the other
    stops = np.zeros(len(keys), np.int64)
    stops[kept] = np.cumsum((found.stops - found.starts)[kept])
    starts = stops - (found.stops - found.starts)
    lock = threading.Lock()

    def fill(file: IO[bytes]) -> None:
        def put(position: int, data: Bytes) -> None:
            with lock:
                file.seek(int(starts[position]))
                file.write(data)

        stored.all_stored(found, put)

    read = _from_copy(files, fill)
    return [_Value(int(keys[i]), int(starts[i]), int(stops[i]), read) for i in kept.tolist()]
