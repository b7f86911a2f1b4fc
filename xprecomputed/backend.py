"""Precomputed volumes as xarray: the ``precomputed`` engine."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pandas as pd  # type: ignore[import-untyped] # annotated, but in a package of its own
import xarray as xr
from xarray.backends import BackendEntrypoint
from xarray.indexes import PandasIndex

from xprecomputed.array import LazyScale, PrecomputedArray
from xprecomputed.coords import AXES, AxisGrid, labels, parse_bounds
from xprecomputed.errors import OutOfBoundsError, PrecomputedError, ScaleNotFoundError
from xprecomputed.grid import Box, Triple
from xprecomputed.metadata import ScaleInfo, VolumeInfo
from xprecomputed.storage import is_explicit, locate_url, strip_format
from xprecomputed.storage.caching.memory import ByteBoundedCache
from xprecomputed.store import MAX_REDIRECTS, PrecomputedStore, open_store
from xprecomputed.volume import FillMissing
from xprecomputed.volume.chunking import aligned_chunks, preferred_chunks

__all__ = ["PrecomputedBackendEntrypoint"]

#: Labels of one axis cost 8 bytes a voxel, so a hostile or absurd size must not become memory.
MAX_AXIS = 2**27
MAX_GUESS_BYTES = 16 << 20

#: Axes of volumes that were opened: pandas makes a table of all labels when one is first looked up.
_indexes = ByteBoundedCache("index_cache_bytes")
#: Of a label, in an array and in pandas' table.
LABEL_BYTES = 8 + 48

Mip = int | str | Sequence[float]


class PrecomputedBackendEntrypoint(BackendEntrypoint):
    """Open Neuroglancer Precomputed volumes with ``xr.open_dataset(url, engine="precomputed")``."""

    description: ClassVar[str] = "Neuroglancer Precomputed images and segmentations"
    url: ClassVar[str] = "https://github.com/google/neuroglancer"
    supports_groups: ClassVar[bool] = True

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        mip: Mip = 0,
        name: str | None = None,
        fill_missing: FillMissing = False,
        storage_options: Mapping[str, Any] | None = None,
        group: str | None = None,
        bounds: Any = None,
        max_redirects: int = MAX_REDIRECTS,
        cache_dir: str | os.PathLike[str] | None = None,
        mesh_dir: str | None = None,
        skeleton_dir: str | None = None,
    ) -> xr.Dataset:
        """Open one mip lazily.

        Parameters
        ----------
        filename_or_obj : str, path-like, PrecomputedStore or fsspec object
            As `xprecomputed.open_store` takes it.
        drop_variables : str or iterable of str, optional
        mip : int, str or sequence of three numbers
            Index, scale key, or resolution in nm (x, y, z).
        name : str, optional
            Of the variable; by default the layer's type.
        fill_missing : bool or "denied"
            Read chunks that are definitely not stored as zeros; with "denied" also those of
            which the store gives a plain 403, as S3 does of what does not exist to those who
            may not list the bucket. Every other failure is an error all the same.
        storage_options : mapping, optional
            Credentials and the like, in the words of fsspec; see `xprecomputed.open_store`.
        group : str, optional
            ``"mip1"`` means ``mip=1``: what ``open_datatree`` calls its children.
        bounds : array_like or mapping, optional
            Crop at opening, in nm: ``((x0, y0, z0), (x1, y1, z1))`` or
            ``{"x": slice(x0, x1)}``, half-open. Keeps dask's graphs small on huge volumes.
        max_redirects : int
            How many ``redirect`` members of ``info`` are followed.
        cache_dir : str or path-like, optional
            Folder on this machine that keeps what is read from remote stores.
        mesh_dir, skeleton_dir : str, optional
            Folders, relative to the volume, instead of those that ``info`` names; of
            ``.precomputed.mesh`` and ``.precomputed.skeleton``.

        Returns
        -------
        xarray.Dataset
            One variable with the dimensions ``([channel,] z, y, x)``.
        """
        store = open_store(
            filename_or_obj,
            storage_options=storage_options,
            max_redirects=max_redirects,
            cache_dir=cache_dir,
            mesh_dir=mesh_dir,
            skeleton_dir=skeleton_dir,
        )
        index = store.info.find_mip(_mip_of_group(group, mip))
        dataset = _open_mip(store, index, name or store.info.type, fill_missing, bounds)
        return _without(dataset, drop_variables)

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        name: str | None = None,
        fill_missing: FillMissing = False,
        storage_options: Mapping[str, Any] | None = None,
        group: str | None = None,
        bounds: Any = None,
        max_redirects: int = MAX_REDIRECTS,
        cache_dir: str | os.PathLike[str] | None = None,
        mesh_dir: str | None = None,
        skeleton_dir: str | None = None,
    ) -> dict[str, xr.Dataset]:
        """All mips that have data, ``/mip0``, ``/mip1``, …; one request.

        Placeholders are left out without renumbering the others. Parameters as in
        `open_dataset`.
        """
        store = open_store(
            filename_or_obj,
            storage_options=storage_options,
            max_redirects=max_redirects,
            cache_dir=cache_dir,
            mesh_dir=mesh_dir,
            skeleton_dir=skeleton_dir,
        )
        name = name or store.info.type

        def one(mip: int) -> xr.Dataset:
            dataset = _open_mip(store, mip, name, fill_missing, bounds)
            return _without(dataset, drop_variables)

        if group is not None and group.strip("/"):
            return {"/": one(store.info.find_mip(_mip_of_group(group, 0)))}
        root = xr.Dataset(attrs=_attrs(store))
        mips = [mip for mip, scale in store.mips.items() if not scale.is_placeholder]
        return {"/": root} | {f"/mip{mip}": one(mip) for mip in mips}

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        name: str | None = None,
        fill_missing: FillMissing = False,
        storage_options: Mapping[str, Any] | None = None,
        group: str | None = None,
        bounds: Any = None,
        max_redirects: int = MAX_REDIRECTS,
        cache_dir: str | os.PathLike[str] | None = None,
        mesh_dir: str | None = None,
        skeleton_dir: str | None = None,
    ) -> xr.DataTree:
        """All mips as siblings below a root without coordinates; see `open_groups_as_dict`."""
        groups = self.open_groups_as_dict(
            filename_or_obj,
            drop_variables=drop_variables,
            name=name,
            fill_missing=fill_missing,
            storage_options=storage_options,
            group=group,
            bounds=bounds,
            max_redirects=max_redirects,
            cache_dir=cache_dir,
            mesh_dir=mesh_dir,
            skeleton_dir=skeleton_dir,
        )
        return xr.DataTree.from_dict(groups)

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether the URL says so itself, or a local folder holds a volume's ``info``."""
        if isinstance(filename_or_obj, PrecomputedStore):
            return True
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        text = os.fspath(filename_or_obj)
        if is_explicit(text):
            return True
        path = os.path.expanduser(strip_format(text).removeprefix("file://"))
        if "://" in path or "::" in path or not os.path.isdir(path):
            return False  # never the network
        try:
            location = locate_url(path)
            blob = location.storage.get(location.child("info").key, MAX_GUESS_BYTES)
            return blob is not None and bool(VolumeInfo.from_bytes(blob.data).scales)
        except PrecomputedError:
            return False


def _without(dataset: xr.Dataset, drop: str | Iterable[str] | None) -> xr.Dataset:
    names = [drop] if isinstance(drop, str) else list(drop or ())
    return dataset.drop_vars(names, errors="ignore") if names else dataset


def _mip_of_group(group: str | None, mip: Mip) -> Mip:
    if group is None:
        return mip
    found = re.fullmatch(r"/?mip(\d+)/?", group)
    if found is None:
        raise ScaleNotFoundError(f"group={group!r}: groups are called mip0, mip1, …")
    if mip not in (0, int(found[1])):
        raise ScaleNotFoundError(f"group={group!r} and mip={mip!r} disagree: give one of them")
    return int(found[1])


def _attrs(store: PrecomputedStore) -> dict[str, str]:
    attrs = {"precomputed_source": store.url, "layer_type": store.info.type}
    folders = {
        "precomputed_mesh_dir": store.mesh_dir,
        "precomputed_skeleton_dir": store.skeleton_dir,
    }
    return attrs | {name: folder for name, folder in folders.items() if folder is not None}


def _open_mip(
    store: PrecomputedStore, mip: int, name: str, fill_missing: FillMissing, bounds: Any
) -> xr.Dataset:
    scale = store.info.scales[mip]
    box = _crop(scale, bounds)
    array = PrecomputedArray(store.reader(mip, fill_missing=fill_missing))
    lazy = LazyScale(array)
    dims = ("channel", "z", "y", "x")[-array.ndim :]
    variable = xr.Variable(dims, lazy, _attrs(store), _encoding(store, scale, box))
    if box != scale.bounds:
        cut = {
            axis: slice(a - o, b - o)
            for axis, a, b, o in zip(AXES, box.start, box.stop, scale.voxel_offset, strict=True)
        }
        variable = variable.isel(cut)
    dataset = xr.Dataset({name: variable}, coords=_coordinates(scale, box))
    dataset.encoding["source"] = store.url
    return dataset


def _crop(scale: ScaleInfo, bounds: Any) -> Box:
    """The voxels whose centres lie in `bounds`; all without bounds."""
    box = scale.bounds
    if bounds is not None:
        wanted = parse_bounds(bounds)
        start, stop = list(box.start), list(box.stop)
        for axis, (begin, end) in wanted.items():
            i = AXES.index(axis)
            step = scale.resolution[i]
            grid = AxisGrid(axis, (start[i] + 0.5) * step, stop[i] - start[i], step)
            first, last = (start[i] + each for each in grid.positions(begin, end))
            start[i], stop[i] = max(start[i], first), min(stop[i], last)
        if any(a >= b for a, b in zip(start, stop, strict=True)):
            raise OutOfBoundsError(
                f"bounds {bounds!r} nm hold no voxel of scale {scale.key!r}, which covers voxels "
                f"{scale.bounds} of {scale.resolution} nm"
            )
        box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
    if max(box.shape) > MAX_AXIS:
        raise OutOfBoundsError(
            f"scale {scale.key!r} has an axis of {max(box.shape)} voxels; labels for more than "
            f"{MAX_AXIS} are not made. Open a part:\n"
            "    xr.open_dataset(url, engine='precomputed', bounds=((x0, y0, z0), (x1, y1, z1)))"
        )
    return box


def _coordinates(scale: ScaleInfo, box: Box) -> xr.Coordinates:
    """As xarray makes them of labels, but of an index that may have been there before."""
    indexes, variables = {}, {}
    for axis, offset, size, step in zip(AXES, box.start, box.shape, scale.resolution, strict=True):
        indexes[axis] = PandasIndex(_index(offset, size, step), axis)
        variables.update(indexes[axis].create_variables())
        variables[axis].attrs = {"units": "nm", "long_name": f"{axis}, voxel centres"}
    return xr.Coordinates(variables, indexes)


def _index(offset: int, size: int, step: float) -> pd.Index:
    """The labels of an axis; for as long as there is room, the same ones as the last time."""
    # not those of other threads: two that look a label up for the first time make one table
    known = threading.get_ident(), offset, size, float(step)
    index: pd.Index | None = _indexes.get(known)
    if index is None:
        values = labels(offset, size, step)
        values.flags.writeable = False
        index = pd.Index(values, copy=False)
        _indexes.put(known, index, LABEL_BYTES * size)
    return index


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_indexes._forget_all)


def _encoding(store: PrecomputedStore, scale: ScaleInfo, box: Box) -> dict[str, Any]:
    """What a faithful rewrite needs; coordinates decide where the two disagree."""
    info = store.info
    document = {name: value for name, value in scale.to_json().items() if name != "size"}
    document.pop("chunk_sizes")
    chunks: dict[str, Any] = _dask_chunks(scale, info, box)
    if info.num_channels > 1:
        chunks["channel"] = info.num_channels
    return {
        "preferred_chunks": chunks,
        "source": store.url,
        "precomputed": {
            "type": info.type,
            "data_type": info.data_type,
            "chunk_size": list(scale.chunk_size),
            **document,
            "layer": _layer_members(info),
        },
    }


def _layer_members(info: VolumeInfo) -> dict[str, Any]:
    """Members of ``info`` that a rewrite keeps and that are in no other place."""
    known = ("@type", "type", "data_type", "num_channels", "scales", "redirect")
    document = replace(info, scales=()).to_json()
    return {name: value for name, value in document.items() if name not in known}


def _dask_chunks(scale: ScaleInfo, info: VolumeInfo, box: Box) -> dict[str, Any]:
    """Whole storage chunks per task, counted from the scale's own grid."""
    voxel_bytes = info.dtype.itemsize * info.num_channels
    sizes: Triple = preferred_chunks(scale, voxel_bytes, box.shape)
    return {
        axis: chunk if first == 0 else aligned_chunks(first, size, chunk)
        for axis, chunk, first, size in zip(
            AXES,
            sizes,
            (a - o for a, o in zip(box.start, scale.voxel_offset, strict=True)),
            box.shape,
            strict=True,
        )
    }
