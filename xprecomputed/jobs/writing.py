"""``to_precomputed``: labelled arrays to layers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from xprecomputed.array import readers_of
from xprecomputed.errors import (
    AlignmentError,
    LayoutError,
    PrecomputedWarning,
    SourceError,
)
from xprecomputed.jobs.describe import describe
from xprecomputed.jobs.targets import Layout, Plan, plan_new, plan_region
from xprecomputed.metadata import VolumeInfo
from xprecomputed.storage import Location, locate_url
from xprecomputed.store import PrecomputedStore
from xprecomputed.store.changes import existing_info
from xprecomputed.store.provenance import Provenance, provenance_step
from xprecomputed.volume import ScaleWriter, check_blocks, check_compression, default_method
from xprecomputed.volume.downsampling import METHODS
from xprecomputed.volume.layout import Downsample, Sharding

if TYPE_CHECKING:
    from dask.delayed import Delayed

    from xprecomputed.jobs.graph import WriteGraph

__all__ = ["to_precomputed"]

Mode = Literal["w-", "w", "a", "r+"]
Compression = Literal["auto", "gzip", "br", "zstd"] | None


def to_precomputed(
    obj: xr.DataArray | xr.Dataset | xr.DataTree,
    url: str | os.PathLike[str],
    *,
    mode: Mode | None = None,
    region: Literal["auto"] | Mapping[str, slice | Literal["auto"]] | None = None,
    encoding: str | None = None,
    chunk_size: Sequence[int] | None = None,
    sharding: Sharding = None,
    compression: Compression = "auto",
    compression_level: int | None = None,
    encoding_options: Mapping[str, Any] | None = None,
    layer_type: Literal["image", "segmentation"] | None = None,
    resolution: Sequence[float] | None = None,
    voxel_offset: Sequence[int] | None = None,
    fill_value: float = 0,
    downsample: Downsample = 0,
    downsample_method: str | None = None,
    safe_chunks: bool = True,
    align_chunks: bool = False,
    write_empty_chunks: bool = True,
    resume: bool = False,
    provenance: Provenance = None,
    cache_control: str | None = None,
    progress: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
    compute: bool = True,
) -> PrecomputedStore | Delayed:
    """Write a labelled array as a Precomputed layer, or into one.

    Parameters
    ----------
    obj : DataArray, Dataset or DataTree
        Dimensions x, y, z and maybe channel, in any order; a Dataset with one such variable; a
        DataTree whose children are the mips. NumPy, dask, or opened lazily.
    url : str or path-like
        A path or any fsspec URL.
    mode : {"w-", "w", "a", "r+"}, optional
        "w-": refuse a layer that exists. "w": replace it, its stored chunks included; members
        of ``info`` that others wrote (mesh, skeletons, …) stay. "a": add a scale. "r+": write
        values into a scale. Default: "r+" with `region`, else "w-".
    region : "auto" or mapping, optional
        ``{"x": slice(0, 64), …}`` in positions from the scale's first voxel, as in
        ``to_zarr``; "auto": by the coordinates. Dimensions left out are meant whole.
    encoding : str, optional
        By default that of the source if it is lossless and can hold the data; else
        ``compressed_segmentation`` for labels and ``raw`` for images.
    chunk_size : sequence of three int, optional
        Voxels of a stored chunk, x, y, z; by default as in the source, or 64, 64, 64.
    sharding : None, False, "auto", ShardingSpec or mapping
        None: as in the source, else none; False: none. Coarser mips get shards of as many
        chunks. "auto": identity hash and so many bits
        that each shard is one box of at most 1 GiB of raw voxels (a power of two of chunks),
        with 512 chunks a minishard, gzip around the indexes, and around the values of raw,
        compressed_segmentation and compresso.
    compression : {"auto", "gzip", "br", "zstd"} or None
        Around whole chunk objects, never inside shards. "auto": none, since TensorStore and
        Neuroglancer cannot read compressed files from a disk.
    compression_level : int, optional
    encoding_options : mapping, optional
        ``quality`` (jpeg, 0 to 100), ``level`` (png, 0 to 9), ``block_size``
        (compressed_segmentation, x, y, z).
    layer_type : {"image", "segmentation"}, optional
        By default as in the source; else segmentation for uint32 and uint64.
    resolution : sequence of three numbers, optional
        nm per voxel, x, y, z: for coordinates without units, or none at all.
    voxel_offset : sequence of three int, optional
        Absolute voxel of the first label, x, y, z.
    fill_value : number
        Of the voxels nobody wrote, in a chunk that is written in part.
    downsample : int, "auto" or sequence of triples
        Further mips: a number; "auto": until one chunk holds all; or the factors from each to
        the next, such as ``[(2, 2, 1), (2, 2, 2)]``. A number halves the axes whose resolution
        is less than twice the finest. Cells lie on the absolute voxel grid.
    downsample_method : {"mean", "mode", "stride", "min", "max"}, optional
        By default mode for a segmentation, mean for an image.
    safe_chunks : bool
        Refuse a `region` that covers stored objects in part. False: read, merge and replace
        them, in one task an object, while other writers wait.
    align_chunks : bool
        Rechunk (lazily) a dask array whose chunks cut through stored ones.
    write_empty_chunks : bool
        False: leave out (and remove) chunks that hold only zeros. Neuroglancer and TensorStore
        read them as zeros, CloudVolume needs ``fill_missing=True``.
    resume : bool
        Go on with a write of whole scales that stopped: what is stored in the identical layout
        is left alone.
    provenance : str, mapping or False, optional
        A description, or members for the ``provenance`` file, which is appended to. False: no
        such file.
    cache_control : str, optional
        Header of the objects, where the store has headers.
    progress : bool, optional
        Show a bar. By default in terminals and notebooks.
    storage_options : mapping, optional
        For fsspec.
    compute : bool
        False: write ``info`` now and return a Delayed that writes the data, on any scheduler.

    Returns
    -------
    PrecomputedStore, or dask.delayed.Delayed
        The Delayed computes to the number of chunks that were stored.

    Raises
    ------
    LayerExistsError
        `mode` does not allow to replace what is there.
    CoordinateError
        Coordinates without units, irregular, descending, off the voxel grid, or in
        disagreement with an argument.
    DataTypeError
        A data type that the format lacks; negative int64.
    AlignmentError
        Stored objects would be written in part or by two tasks.
    LayoutError
        The array does not fit the layer that is there.
    UnsupportedEncodingError
        The encoding cannot carry the data type or the number of channels.
    SourceError
        The array is read lazily from where it would be written.
    StorageError, AccessDeniedError

    Notes
    -----
    Objects appear whole or not at all. ``info`` is written first, and what ``mode="w"``
    replaces is removed first. uint64, uint32, … keep their values; bool becomes uint8, int64
    becomes uint64 if nothing is negative.

    Examples
    --------
    >>> da = xr.DataArray(np.arange(24, dtype="u8").reshape(2, 3, 4), dims=("z", "y", "x"))
    >>> store = to_precomputed(da, "memory://doc/to_precomputed", resolution=(8, 8, 40))
    >>> store.info.type, store.info.scales[0].encoding
    ('segmentation', 'compressed_segmentation')
    >>> bool((store.read(((0, 0, 0), (4, 3, 2)))[0] == da.values).all())
    True
    """
    mode = mode or ("r+" if region is not None else "w-")
    _check_arguments(mode, region, fill_value, write_empty_chunks, downsample_method)
    if resume and mode == "r+":
        raise ValueError(
            "resume=True with region= or mode='r+': what is stored may be from before this write, "
            "which cannot be told; write all of the region again"
        )
    around = check_compression(compression, compression_level)
    layout = Layout(
        encoding=encoding,
        encoding_options=encoding_options,
        chunk_size=chunk_size,
        sharding=sharding,
        layer_type=layer_type,
        downsample=downsample,
    )
    location = locate_url(url, storage_options)
    place = (resolution, voxel_offset)
    arrays = _levels(obj, *place)
    existing = existing_info(location)
    if mode == "r+":
        if len(arrays) > 1:
            raise LayoutError("a DataTree is written as a whole: mode 'w-', 'w' or 'a'")
        scales = existing.scales if existing else ()
        kind = existing.data_type if existing else None
        level = describe(arrays[0], *place, needs_place=False, scales=scales, data_type=kind)
        plan = plan_region(
            level, layout, existing, region, safe_chunks=safe_chunks, url=location.url
        )
    else:
        levels = [describe(each, *place) for each in arrays]
        plan = plan_new(levels, layout, existing, mode=mode, resume=resume, url=location.url)
    sources = [target.described.array for target in plan.targets]
    refuse_own_source(sources, location, plan, existing)
    options = {
        "compression": around,
        "compression_level": compression_level,
        "fill_value": fill_value,
        "write_empty": write_empty_chunks,
        "skip_stored": resume and not plan.is_new,
        "cache_control": cache_control,
    }
    graph = _graph(plan, location, options, downsample_method, align_chunks, copy=not compute)
    step = provenance_step(provenance, _method(plan, mode))
    if existing is None:
        _warn_of_absent(location, plan.info)
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


def _check_arguments(
    mode: str, region: Any, fill_value: float, write_empty_chunks: bool, method: str | None
) -> None:
    if mode not in ("w-", "w", "a", "r+"):
        raise ValueError(f"mode={mode!r}: expected 'w-', 'w', 'a' or 'r+'")
    if region is not None and mode != "r+":
        raise ValueError(f"region= with mode={mode!r}: values are written with mode='r+'")
    if method is not None and method not in METHODS:
        raise ValueError(f"downsample_method={method!r}: expected one of {METHODS}")
    if fill_value != 0 and not write_empty_chunks:
        raise ValueError(
            f"write_empty_chunks=False with fill_value={fill_value}: a chunk that is not stored "
            "reads as zeros everywhere; only chunks of zeros can be left out"
        )


def _levels(
    obj: Any, resolution: Sequence[float] | None, voxel_offset: Sequence[int] | None
) -> list[xr.DataArray | xr.Dataset]:
    """The arrays of a write, finest first."""
    if not isinstance(obj, xr.DataTree):
        return [obj]
    nodes = [node for node in obj.subtree if node.data_vars]
    if not nodes:
        raise LayoutError("this DataTree has no variables; its children are the mips")
    datasets: list[xr.DataArray | xr.Dataset] = [node.to_dataset() for node in nodes]
    if len(datasets) == 1:
        return datasets
    if resolution is not None or voxel_offset is not None:
        raise LayoutError(
            "resolution= and voxel_offset= with a DataTree of several mips: each has its own, so "
            "give each coordinates with units"
        )

    def voxel_nm3(dataset: xr.DataArray | xr.Dataset) -> float:
        return float(np.prod(describe(dataset).resolution or 0))

    return sorted(datasets, key=voxel_nm3)


def refuse_own_source(
    arrays: Iterable[xr.DataArray], location: Location, plan: Plan, existing: VolumeInfo | None
) -> None:
    """A lazy array may not be read from objects that the write replaces.

    Raises
    ------
    SourceError
    """
    kept = {scale.key for scale in plan.info.scales} - {scale.key for scale in plan.scales}
    before = existing.scales if existing is not None and plan.is_new else ()
    keys = {scale.key for scale in (*before, *plan.scales)} - kept
    replaced = {location.child(key).identity for key in keys}
    for array in arrays:
        for reader in readers_of(array.variable):
            if reader.directory.identity in replaced:
                raise SourceError(
                    f"{reader.directory.url}: the array is read lazily from the very scale that "
                    "this would write. Load it first, da = da.load(), or write to another URL"
                )


def _graph(
    plan: Plan,
    location: Location,
    options: Mapping[str, Any],
    method: str | None,
    align_chunks: bool,
    *,
    copy: bool,
) -> WriteGraph:
    from xprecomputed.jobs.graph import WriteGraph, blocks_of, in_blocks, realigned

    graph = WriteGraph()
    for target in plan.targets:
        writer = ScaleWriter.open(location, plan.info, target.mip, **options)
        array = in_blocks(target.described, target.box, writer.reader, copy=copy)
        start = target.box.start
        if align_chunks:
            array = realigned(array, writer.scale, start)
        if len(array.chunks[0]) > 1:
            raise AlignmentError(
                f"{location.url}: dask chunks along channel; all channels of a voxel are stored "
                "together. Let the writer rechunk with align_chunks=True, or:\n"
                "    da = da.chunk(channel=-1)"
            )
        check_blocks(writer.scale, blocks_of(array, start), location.url)
        graph.add_array(array, writer, start)
    levels = [
        (ScaleWriter.open(location, plan.info, mip, **options), factor)
        for mip, factor in plan.pyramid
    ]
    graph.add_pyramid(array, target.box, levels, method or default_method(plan.info.type))
    return graph


def _method(plan: Plan, mode: str) -> dict[str, Any]:
    """What was done, for the provenance file."""
    first = plan.targets[0]
    method: dict[str, Any] = {
        "task": "to_precomputed",
        "mode": mode,
        "scales": [scale.key for scale in plan.scales],
        "bounds": [list(first.box.start), list(first.box.stop)],
    }
    source = first.described.array.attrs.get("precomputed_source")
    return method | ({"source": source} if isinstance(source, str) else {})


def _warn_of_absent(location: Location, info: VolumeInfo) -> None:
    """Neuroglancer refuses a whole volume whose skeletons or properties are not there."""
    for name in ("skeletons", "segment_properties"):
        folder = getattr(info, name)
        if folder is None:
            continue
        place = location.child(folder).child("info")
        if place.storage.size(place.key) is None:
            warnings.warn(
                f"{place.url} is not there, but info names {name}={folder!r} as its source did: "
                "Neuroglancer will not open the layer before you copy that folder",
                PrecomputedWarning,
                stacklevel=3,
            )
