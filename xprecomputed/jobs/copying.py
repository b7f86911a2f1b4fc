"""``copy``: layers to other places and other layouts; stored bytes travel where they can."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xprecomputed.codecs import Bytes
from xprecomputed.errors import LayoutError, SourceError
from xprecomputed.grid import Box, Triple
from xprecomputed.jobs.describe import describe
from xprecomputed.jobs.targets import Layout, plan_new
from xprecomputed.jobs.writing import refuse_own_source
from xprecomputed.metadata import ScaleInfo
from xprecomputed.parallel import run_bounded
from xprecomputed.shard_format import pack_value
from xprecomputed.storage import locate_url, workers_for
from xprecomputed.store import PrecomputedStore, open_store
from xprecomputed.store.changes import existing_info
from xprecomputed.store.provenance import Provenance, provenance_step
from xprecomputed.store.toolbox import tiles
from xprecomputed.volume import (
    FillMissing,
    Piece,
    ScaleReader,
    ScaleWriter,
    check_compression,
)
from xprecomputed.volume.layout import Sharding

if TYPE_CHECKING:
    from dask.delayed import Delayed

__all__ = ["copy"]


def copy(
    src: str | os.PathLike[str] | PrecomputedStore,
    dst: str | os.PathLike[str],
    *,
    mips: int | Sequence[int] | None = None,
    bbox: Any = None,
    mode: Literal["w-", "w", "a"] = "w-",
    encoding: str | None = None,
    encoding_options: Mapping[str, Any] | None = None,
    chunk_size: Sequence[int] | None = None,
    sharding: Sharding = None,
    compression: Literal["auto", "gzip", "br", "zstd"] | None = "auto",
    compression_level: int | None = None,
    fill_missing: FillMissing = False,
    write_empty_chunks: bool = True,
    resume: bool = False,
    provenance: Provenance = None,
    cache_control: str | None = None,
    progress: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
    compute: bool = True,
) -> PrecomputedStore | Delayed:
    """Copy a volume, or a part of it, maybe into another layout.

    Where encoding, chunks and data type stay as they are, the stored bytes travel as they are,
    between chunks and shards too; nothing is decoded, and a chunk that is not stored is not
    stored in the copy. Otherwise the voxels go through the writer.

    Parameters
    ----------
    src : str, path-like or PrecomputedStore
        A store that was opened with options of its own keeps them.
    dst : str or path-like
    mips : int or sequence of int, optional
        All that have data by default.
    bbox : array_like or mapping, optional
        What to copy, in nm: ``((x0, y0, z0), (x1, y1, z1))`` or ``{"x": slice(x0, x1)}``.
    mode : {"w-", "w", "a"}
        As in `to_precomputed`.
    encoding, encoding_options, chunk_size
        As in `to_precomputed`; by default as in the source.
    compression, compression_level
        As in `to_precomputed`: what lay around the chunk objects of the source is undone.
    sharding : None, False, "auto", ShardingSpec or mapping
        None: as in the source. False: chunks of their own.
    fill_missing : bool or "denied"
        Read chunks that are definitely not stored as zeros, where voxels go through the writer.
    write_empty_chunks : bool
        False: leave out chunks of zeros, where voxels go through the writer.
    resume, provenance, cache_control, progress, compute
        As in `to_precomputed`.
    storage_options : mapping, optional
        For both ends; a `PrecomputedStore` as `src` has its own.

    Returns
    -------
    PrecomputedStore, or dask.delayed.Delayed

    Raises
    ------
    LayerExistsError, LayoutError, UnsupportedEncodingError, SourceError
    ChunkMissingError, CorruptDataError, StorageError, AccessDeniedError

    Notes
    -----
    Meshes, skeletons and properties are folders of their own, named in ``info``: copy them
    beside it.

    Examples
    --------
    >>> from xprecomputed.testing import write_volume
    >>> import numpy as np
    >>> url = write_volume("memory://doc/copy-from", [np.ones((9, 9, 9), "u1")])
    >>> copy(url, "memory://doc/copy-to", sharding="auto").read(((0, 0, 0), (1, 1, 2))).tolist()
    [[[[1]], [[1]]]]
    """
    from xprecomputed.jobs.graph import WriteGraph, in_blocks

    if mode not in ("w-", "w", "a"):
        raise ValueError(f"mode={mode!r}: expected 'w-', 'w' or 'a'")
    store = open_store(src, storage_options=storage_options)
    location = locate_url(dst, storage_options)
    existing = existing_info(location)
    if location.identity == store.location.identity and existing is not None:
        raise SourceError(f"{store.url}: source and destination are the same place")
    wanted = _mips(store, mips)
    levels = [
        describe(store.open_dataset(mip=mip, bounds=bbox, fill_missing=fill_missing))
        for mip in wanted
    ]
    layout = Layout(
        encoding=encoding,
        encoding_options=encoding_options,
        chunk_size=chunk_size,
        sharding=sharding,
        keep_lossy=True,
    )
    plan = plan_new(levels, layout, existing, mode=mode, resume=resume, url=location.url)
    refuse_own_source([level.array for level in levels], location, plan, existing)
    graph = WriteGraph()
    for target, mip in zip(plan.targets, wanted, strict=True):
        writer = ScaleWriter.open(
            location,
            plan.info,
            target.mip,
            compression=check_compression(compression, compression_level),
            compression_level=compression_level,
            write_empty=write_empty_chunks,
            skip_stored=resume and not plan.is_new,
            cache_control=cache_control,
        )
        reader = store.reader(mip, fill_missing=fill_missing)
        lossy = writer.codec.lossy and encoding is None
        if _travels(reader, writer) and not (lossy and _cuts_chunks(reader, writer)):
            graph.add_blocks(_Travel(reader), writer, tiles(writer.reader, target.box))
            continue
        if lossy:
            raise LayoutError(
                f"{store.url}: with these chunks, or cut by this box, "
                f"{writer.scale.encoding} would be decoded and encoded again, which loses "
                f"something; name it, encoding={writer.scale.encoding!r}, or a lossless one"
            )
        array = in_blocks(target.described, target.box, writer.reader)
        graph.add_array(array, writer, target.box.start)
    method = {"task": "copy", "source": store.url, "scales": [each.key for each in plan.scales]}
    step = provenance_step(provenance, method)
    return graph.carry_out(
        location,
        plan.info,
        step,
        existing=existing,
        is_new=plan.is_new,
        replace=mode == "w",
        compute=compute,
        progress=progress,
    )


def _mips(store: PrecomputedStore, mips: int | Sequence[int] | None) -> list[int]:
    if mips is None:
        return [mip for mip, scale in store.mips.items() if not scale.is_placeholder]
    listed = [mips] if isinstance(mips, int | np.integer) else list(mips)
    if not listed:
        raise LayoutError("mips=[]: nothing to copy")
    return sorted({store.info.find_mip(mip) for mip in listed})


def _travels(reader: ScaleReader, writer: ScaleWriter) -> bool:
    """Whether chunks of both scales are the same boxes in the same encoding."""
    before, after = reader.scale, writer.scale
    return (
        before.encoding == after.encoding
        and _same_stream(before, after)
        and reader.dtype == writer.reader.dtype
        and reader.num_channels == writer.reader.num_channels
        and before.chunk_size == after.chunk_size
        and all(
            (a - b) % chunk == 0
            for a, b, chunk in zip(
                after.voxel_offset, before.voxel_offset, before.chunk_size, strict=True
            )
        )
    )


def _cuts_chunks(reader: ScaleReader, writer: ScaleWriter) -> bool:
    """Whether the end of the copy goes through chunks of the source."""
    scale = reader.scale
    return any(
        end != whole and (end - first) % chunk
        for end, whole, first, chunk in zip(
            writer.scale.bounds.stop,
            scale.bounds.stop,
            scale.voxel_offset,
            scale.chunk_size,
            strict=True,
        )
    )


def _same_stream(before: ScaleInfo, after: ScaleInfo) -> bool:
    """Whether what the ``info`` says about the encoding is the same (hints to writers are too)."""
    structure = ("key", "size", "voxel_offset", "resolution", "chunk_sizes", "sharding", "hidden")
    one, other = (
        {name: value for name, value in each.to_json().items() if name not in structure}
        for each in (before, after)
    )
    return one == other


@dataclass(frozen=True, slots=True)
class _Travel:
    """The task of one block: chunks out of one scale into another."""

    reader: ScaleReader

    def __call__(
        self, writer: ScaleWriter, box: Box, staging: str = "", inline_bytes: int = 0
    ) -> int | dict[int, Piece]:
        if writer.scale.sharding is not None:
            encoded: dict[Triple, bytes | None] = {
                cell: data if data is None else pack_value(data, writer.sharding)
                for cell, data in self._chunks(writer, box)
            }
            return writer.pieces(encoded, [], staging, inline_bytes)
        stored = []

        def put(chunk: tuple[Triple, Bytes | None]) -> None:
            if writer.put_encoded(*chunk):
                stored.append(chunk[0])

        run_bounded(self._chunks(writer, box), put, workers=workers_for(writer.directory))
        return len(stored)

    def _chunks(self, writer: ScaleWriter, box: Box) -> Iterator[tuple[Triple, Bytes | None]]:
        stored = self.reader.stored_bytes(box)
        grid, before = writer.scale.grid, self.reader.scale.grid
        for cell in grid.cells(box):
            chunk = grid.chunk_box(cell)
            old = next(iter(before.cells(chunk)))
            if before.chunk_box(old) == chunk:
                yield cell, stored.get(chunk)
            elif before.chunk_box(old) not in stored:  # a hole stays one
                yield cell, None
            else:  # cut smaller by the edge of `bbox`
                yield cell, writer.encode(self.reader.read_box(chunk))
