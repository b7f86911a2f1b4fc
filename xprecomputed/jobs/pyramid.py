"""``downsample``: further mips for a layer that has data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xprecomputed.errors import LayoutError
from xprecomputed.grid import Triple
from xprecomputed.jobs.describe import describe
from xprecomputed.jobs.targets import check_same_scale
from xprecomputed.metadata import VolumeInfo
from xprecomputed.store import PrecomputedStore, open_store
from xprecomputed.store.changes import inserted
from xprecomputed.store.provenance import Provenance, provenance_step
from xprecomputed.volume import FillMissing, ScaleWriter, check_compression, default_method
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
    fill_missing: FillMissing = False,
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
        (made with ``create_info(downsample=…)``, or to be brought up to date, without `resume`).
    method : {"mean", "mode", "stride", "min", "max"}, optional
        By default mode for a segmentation, mean for an image.
    sharding : None, False, "auto", ShardingSpec or mapping
        Of the new scales. None: shards of as many chunks as those of the mip that they are
        made from, if it has shards.
    fill_missing : bool or "denied"
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
    base = _first_mip(store, mode) if mip is None else store.info.find_mip(mip)
    if mode == "a":
        info, pyramid = _added(store, base, 1 if factors is None else factors, sharding, resume)
    else:
        if sharding is not None:
            raise LayoutError("sharding= with mode='r+': the scales are there, with theirs")
        info, pyramid = store.info, _declared(store.info, base, factors, store.url)
    options = {
        "compression": check_compression(compression, compression_level),
        "compression_level": compression_level,
        "write_empty": write_empty_chunks,
        "cache_control": cache_control,
    }
    dataset = store.open_dataset(mip=base, fill_missing=fill_missing)
    scale = store.info.scales[base]
    graph = WriteGraph()
    before = {each.key for each in store.info.scales}
    levels = []
    for i, factor in pyramid:
        skips = resume and info.scales[i].key in before
        writer = ScaleWriter.open(store.location, info, i, skip_stored=skips, **options)
        levels.append((writer, factor))
    array = in_blocks(describe(dataset), scale.bounds, store.reader(base))
    graph.add_pyramid(array, scale.bounds, levels, method or default_method(info.type))
    keys = [info.scales[i].key for i, _ in pyramid]
    done = {"task": "downsample", "from": scale.key, "scales": keys}
    step = provenance_step(provenance, done)
    return graph.carry_out(
        store.location,
        info,
        step,
        existing=store.info,
        is_new=info is not store.info,
        compute=compute,
        progress=progress,
    )


def _first_mip(store: PrecomputedStore, mode: str) -> int:
    """The coarsest mip that has data, or the finest."""
    there = [mip for mip, scale in store.mips.items() if not scale.is_placeholder]
    if not there:
        raise LayoutError(f"{store.url}: no mip has data")
    return there[-1] if mode == "a" else there[0]


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
    wanted_factors: list[Triple] | None = None
    last = len(info.scales)
    if isinstance(factors, int | np.integer):
        last = base + 1 + int(factors)
    elif factors is not None and not isinstance(factors, str):
        wanted_factors = downsample_factors(factors, scale)
        last = base + 1 + len(wanted_factors)
    if last > len(info.scales):
        raise LayoutError(
            f"{url}: there are {len(info.scales) - base - 1} scales coarser than {scale.key!r}, "
            f"not {last - base - 1}; mode='a' adds some"
        )
    pyramid: list[tuple[int, Triple]] = []
    for mip in range(base + 1, last):
        coarse = info.scales[mip]
        x, y, z = (round(b / a) for a, b in zip(scale.resolution, coarse.resolution, strict=True))
        wanted = coarser_scale(scale, (x, y, z)) if min(x, y, z) >= 1 else scale
        if (wanted.size, wanted.voxel_offset) != (coarse.size, coarse.voxel_offset):
            raise LayoutError(
                f"{url}: scale {coarse.key!r} ({coarse.bounds}) is not scale {scale.key!r} "
                f"downsampled by {(x, y, z)}, which is {wanted.bounds}"
            )
        pyramid.append((mip, (x, y, z)))
        if wanted_factors is not None and wanted_factors[len(pyramid) - 1] != (x, y, z):
            raise LayoutError(
                f"{url}: scale {coarse.key!r} is {(x, y, z)} times as coarse as the one before, "
                f"not {wanted_factors[len(pyramid) - 1]}"
            )
        scale = coarse
    if not pyramid:
        raise LayoutError(f"{url}: there is no coarser scale than {scale.key!r} to fill")
    return pyramid
