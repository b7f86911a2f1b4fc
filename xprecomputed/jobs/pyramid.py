"""``downsample``: further mips for a layer that has data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from xprecomputed.errors import LayoutError
from xprecomputed.grid import Triple
from xprecomputed.jobs.describe import describe
from xprecomputed.jobs.progress import run
from xprecomputed.jobs.targets import check_same_scale
from xprecomputed.metadata import VolumeInfo
from xprecomputed.store import PrecomputedStore, open_store
from xprecomputed.store.changes import begin_layer, inserted
from xprecomputed.store.provenance import Provenance, append_provenance
from xprecomputed.volume import ScaleWriter, check_compression, default_method
from xprecomputed.volume.downsampling import METHODS
from xprecomputed.volume.layout import (
    Downsample,
    Sharding,
    coarser_scale,
    coarser_sharding,
    downsample_factors,
)

if TYPE_CHECKING:
    from dask.delayed import Delayed

__all__ = ["downsample"]


def downsample(
    url: str | os.PathLike[str] | PrecomputedStore,
    factors: Downsample | None = None,
    *,
    mip: int | None = None,
    mode: Literal["a", "r+"] = "a",
    method: str | None = None,
    sharding: Sharding = None,
    fill_missing: bool = False,
    compression: Literal["auto", "gzip", "br", "zstd"] | None = "auto",
    compression_level: int | None = None,
    write_empty_chunks: bool = True,
    resume: bool = False,
    provenance: Provenance = None,
    cache_control: str | None = None,
    progress: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
    compute: bool = True,
) -> PrecomputedStore | Delayed:
    """Add coarser mips to a layer that exists.

    Parameters
    ----------
    url : str, path-like or PrecomputedStore
    factors : int, "auto" or sequence of triples, optional
        As `downsample` in `to_precomputed`; one mip by default.
    mip : int, optional
        The mip to begin with; by default the coarsest, or with "r+" the finest.
    mode : {"a", "r+"}
        "a": add scales to ``info``. "r+": fill the coarser scales that ``info`` has already
        (made with ``create_info(downsample=…)``, or to be brought up to date).
    method : {"mean", "mode", "stride", "min", "max"}, optional
        By default mode for a segmentation, mean for an image.
    sharding : None, False, "auto", ShardingSpec or mapping
        Of the new scales. None: shards of as many chunks as those of the mip that they are
        made from, if it has shards.
    fill_missing : bool
        Read chunks that are definitely not stored as zeros.
    resume : bool
        Go on with a call that stopped; needs `mip`.
    compression, compression_level, write_empty_chunks, provenance, cache_control
        As in `to_precomputed`.
    progress, storage_options, compute
        As in `to_precomputed`.

    Returns
    -------
    PrecomputedStore, or dask.delayed.Delayed

    Raises
    ------
    LayerExistsError
        A scale of that resolution is there; ``mode="r+"`` fills it.
    LayoutError
        The scales that are there are not a pyramid.
    ChunkMissingError, CorruptDataError, StorageError, AccessDeniedError

    Examples
    --------
    >>> from xprecomputed.testing import write_volume
    >>> import numpy as np
    >>> url = write_volume("memory://doc/downsample", [np.ones((4, 4, 4), "u1")])
    >>> downsample(url, 2).info.scales[2].key
    '32_32_40'
    """
    from xprecomputed.jobs.graph import WriteGraph, in_blocks

    if mode not in ("a", "r+"):
        raise ValueError(f"mode={mode!r}: expected 'a' or 'r+'")
    if method is not None and method not in METHODS:
        raise ValueError(f"method={method!r}: expected one of {METHODS}")
    if resume and mip is None:
        raise ValueError(
            "resume=True without mip=: the coarsest mip is another one now; name the mip that the "
            "first call began with: mip=0"
        )
    store = open_store(url, storage_options=storage_options)
    base = store.info.find_mip((-1 if mode == "a" else 0) if mip is None else mip)
    if mode == "a":
        info, pyramid = _added(store, base, 1 if factors is None else factors, sharding, resume)
    else:
        info, pyramid = store.info, _declared(store.info, base, factors, store.url)
    options = {
        "compression": check_compression(compression, compression_level),
        "compression_level": compression_level,
        "write_empty": write_empty_chunks,
        "skip_stored": resume,
        "cache_control": cache_control,
    }
    dataset = store.open_dataset(mip=base, fill_missing=fill_missing)
    scale = info.scales[base]
    graph = WriteGraph()
    levels = [(ScaleWriter.open(store.location, info, i, **options), f) for i, f in pyramid]
    array = in_blocks(describe(dataset), scale.bounds, store.reader(base))
    graph.add_pyramid(array, scale.bounds, levels, method or default_method(info.type))
    if info is not store.info:
        begin_layer(store.location, info, store.info, replace=False)
    keys = [info.scales[i].key for i, _ in pyramid]
    append_provenance(
        store.location, provenance, {"task": "downsample", "from": scale.key, "scales": keys}
    )
    work = graph.delayed()
    if not compute:
        return work
    graph.compute(lambda: run(work, progress))
    return PrecomputedStore(store.location, info)


def _added(
    store: PrecomputedStore, base: int, factors: Downsample, sharding: Sharding, resume: bool
) -> tuple[VolumeInfo, list[tuple[int, Triple]]]:
    """``info`` with further scales; on resuming, those that are there must be the same."""
    info, scale = store.info, store.info.scales[base]
    chosen = downsample_factors(factors, scale)
    keys = []
    for factor in chosen:
        coarse = coarser_scale(scale, factor)
        coarse = replace(coarse, sharding=coarser_sharding(sharding, scale, coarse, info))
        there = [each for each in info.scales if each.key == coarse.key]
        if resume and there:
            check_same_scale(coarse, there[0], store.url)
        else:
            info = inserted(info, [coarse])
        keys.append(coarse.key)
        scale = coarse
    return info, [(info.find_mip(key), factor) for key, factor in zip(keys, chosen, strict=True)]


def _declared(
    info: VolumeInfo, base: int, factors: Downsample | None, url: str
) -> list[tuple[int, Triple]]:
    """The coarser scales that are there, each with its factor from the one before."""
    scale = info.scales[base]
    most = len(info.scales)
    if factors is not None and not isinstance(factors, str):
        count = factors if isinstance(factors, int) else len(factors)
        most = base + 1 + count
    pyramid: list[tuple[int, Triple]] = []
    for mip in range(base + 1, min(most, len(info.scales))):
        coarse = info.scales[mip]
        x, y, z = (round(b / a) for a, b in zip(scale.resolution, coarse.resolution, strict=True))
        wanted = coarser_scale(scale, (x, y, z)) if min(x, y, z) >= 1 else scale
        if (wanted.size, wanted.voxel_offset) != (coarse.size, coarse.voxel_offset):
            raise LayoutError(
                f"{url}: scale {coarse.key!r} ({coarse.bounds}) is not scale {scale.key!r} "
                f"downsampled by {(x, y, z)}, which is {wanted.bounds}"
            )
        pyramid.append((mip, (x, y, z)))
        scale = coarse
    if not pyramid:
        raise LayoutError(f"{url}: there is no coarser scale than {scale.key!r} to fill")
    return pyramid
