"""One URL and everything that hangs on it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from xprecomputed.codecs import Array, decompress
from xprecomputed.errors import (
    InfoMissingError,
    InvalidInfoError,
    InvalidURLError,
    OutOfBoundsError,
)
from xprecomputed.grid import Box, Triple
from xprecomputed.metadata import ScaleInfo, VolumeInfo, parse_json
from xprecomputed.options import as_cache_dir
from xprecomputed.storage import Location, Storage, cached, is_remote, locate_url
from xprecomputed.store.caching import StoreCache
from xprecomputed.store.provenance import read_provenance
from xprecomputed.store.toolbox import as_box, count_labels, coverage, delete_chunks
from xprecomputed.volume import FillMissing, ScaleReader, ScaleWriter
from xprecomputed.volume.layout import Sharding

if TYPE_CHECKING:
    import xarray as xr

    from xprecomputed.mesh import Meshes
    from xprecomputed.skeleton import Skeletons

__all__ = ["MAX_REDIRECTS", "PrecomputedStore", "open_store", "read_info", "reopen"]

Mip = int | str | Sequence[float]
AnyBox = Box | tuple[Triple, Triple]

MAX_REDIRECTS = 10
MAX_INFO_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class PrecomputedStore:
    """A volume: an address and its ``info``. Frozen, cheap, picklable; holds no connection.

    Made by :func:`open_store`.
    """

    location: Location
    info: VolumeInfo
    cache_dir: str | None = None
    mesh_dir: str | None = None
    skeleton_dir: str | None = None

    @property
    def url(self) -> str:
        """The address, without credentials, after redirects."""
        return self.location.url

    @property
    def mips(self) -> dict[int, ScaleInfo]:
        """The scales by mip, finest first; placeholders count."""
        return dict(enumerate(self.info.scales))

    @property
    def provenance(self) -> dict[str, Any]:
        """The ``provenance`` file, who made the layer and how; empty where there is none.

        Raises
        ------
        InvalidInfoError
            It is not a JSON object.
        """
        return read_provenance(self.location)

    @property
    def cache(self) -> StoreCache:
        """What the disk cache holds of this volume: ``list``, ``nbytes`` and ``flush``."""
        folders = (self.mesh_dir or self.info.mesh, self.skeleton_dir or self.info.skeletons)
        return StoreCache(cached(self.location, self.cache_dir), self.info, folders)

    @property
    def mesh(self) -> Meshes:
        """The meshes of the segments; one request, for the ``info`` of their folder.

        Raises
        ------
        InfoMissingError
            The volume names no folder of meshes.
        InvalidInfoError, InvalidURLError, AccessDeniedError, StorageError
        """
        from xprecomputed.store.segments import mesh_of

        return mesh_of(self)

    @property
    def skeleton(self) -> Skeletons:
        """The skeletons of the segments; one request, for the ``info`` of their folder.

        Raises
        ------
        InfoMissingError
            The volume names no folder of skeletons.
        InvalidInfoError, InvalidURLError, AccessDeniedError, StorageError
        """
        from xprecomputed.store.segments import skeleton_of

        return skeleton_of(self)

    def reader(self, mip: Mip = 0, *, fill_missing: FillMissing = False) -> ScaleReader:
        """The reader of one scale, named by index, resolution in nm (x, y, z) or key.

        Raises
        ------
        ScaleNotFoundError, UnsupportedEncodingError
        """
        return ScaleReader.open(
            cached(self.location, self.cache_dir),
            self.info,
            self.info.find_mip(mip),
            fill_missing=fill_missing,
        )

    def _direct_reader(self, mip: Mip) -> ScaleReader:
        """One that asks the store itself, whatever caches hold."""
        return ScaleReader.open(self.location, self.info, self.info.find_mip(mip))

    def read(
        self,
        box: AnyBox,
        mip: Mip = 0,
        *,
        fill_missing: FillMissing = False,
    ) -> Array:
        """Voxels of a box as a NumPy array.

        Parameters
        ----------
        box : Box or ((x0, y0, z0), (x1, y1, z1))
            Half-open, absolute voxels of that mip.
        mip : int, str or sequence of three numbers
        fill_missing : bool or "denied"
            Read chunks that are definitely not stored as zeros.

        Returns
        -------
        ndarray, shape (channel, z, y, x)

        Raises
        ------
        OutOfBoundsError, ChunkMissingError, CorruptDataError, AccessDeniedError, StorageError
        """
        reader = self.reader(mip, fill_missing=fill_missing)
        return reader.read_box(as_box(box, reader.scale.bounds))

    def stored_bytes(
        self, mip: Mip = 0, box: AnyBox | None = None, *, fill_missing: FillMissing = False
    ) -> dict[Box, bytes]:
        """The encoded bytes of chunks, as the codec made them; nothing is decoded.

        What lies around them (gzip of a whole object, ``data_encoding`` of a shard) is undone.

        Parameters
        ----------
        mip : int, str or sequence of three numbers
        box : Box or ((x0, y0, z0), (x1, y1, z1)), optional
            Chunks that touch it, in absolute voxels of that mip; all by default.
        fill_missing : bool or "denied"
            With "denied" a plain 403 of a chunk means that it is not stored.

        Returns
        -------
        dict of Box to bytes
            By the chunk's own, clipped box. Chunks that are not stored are not in it.

        Raises
        ------
        OutOfBoundsError, CorruptDataError, AccessDeniedError, StorageError
        """
        reader = self.reader(mip, fill_missing=fill_missing)
        return reader.stored_bytes(as_box(box, reader.scale.bounds))

    def exists(self, mip: Mip = 0, box: AnyBox | None = None) -> xr.DataArray:
        """Whether each chunk that touches a box is stored; no chunk is read.

        Parameters
        ----------
        mip : int, str or sequence of three numbers
        box : Box or ((x0, y0, z0), (x1, y1, z1)), optional
            Absolute voxels of that mip; the whole mip by default.

        Returns
        -------
        DataArray of bool, dims (z, y, x), one element a chunk
            Labelled by chunk centres in nm; ``x_voxel``, ``y_voxel``, ``z_voxel`` are the first
            absolute voxels.

        Raises
        ------
        OutOfBoundsError, CorruptDataError, AccessDeniedError, StorageError

        Examples
        --------
        >>> from xprecomputed import create_info, write_info
        >>> info = create_info(size=(100, 100, 100), resolution=(8, 8, 40), data_type="uint8")
        >>> write_info("memory://doc/exists", info).exists().values.any()
        np.False_
        """
        reader = self._direct_reader(mip)
        return coverage(reader, as_box(box, reader.scale.bounds))

    def has_data(self, mip: Mip = 0) -> xr.DataArray:
        """`exists` for the whole chunk grid of a mip."""
        return self.exists(mip)

    def delete(self, mip: Mip, box: AnyBox) -> int:
        """Delete the chunks of a box; of a shard that holds others, the rest is kept.

        Parameters
        ----------
        mip : int, str or sequence of three numbers
        box : Box or ((x0, y0, z0), (x1, y1, z1))
            Absolute voxels of that mip, along chunk edges.

        Returns
        -------
        int
            Chunks that were there.

        Raises
        ------
        AlignmentError
            With the nearest box that is aligned.
        OutOfBoundsError, AccessDeniedError, StorageError
        """
        if box is None:
            raise OutOfBoundsError("delete(mip, box): a box has to be named, also for everything")
        writer = ScaleWriter(reader=self._direct_reader(mip))
        return delete_chunks(writer, as_box(box, writer.scale.bounds))

    def unique(
        self, box: AnyBox | None = None, mip: Mip = 0, *, fill_missing: FillMissing = False
    ) -> xr.DataArray:
        """The labels in a box and how many voxels have each, through dask.

        Block by block on the scheduler in force; a block of compressed_segmentation is counted
        without being decoded.

        Parameters
        ----------
        box : Box or ((x0, y0, z0), (x1, y1, z1)), optional
            Absolute voxels of that mip; the whole mip by default.
        mip : int, str or sequence of three numbers
        fill_missing : bool or "denied"
            Count chunks that are definitely not stored as zeros.

        Returns
        -------
        DataArray of int64, dim ``label``
            Voxels of each label; the coordinate has the labels, ascending, in the layer's type.

        Raises
        ------
        OutOfBoundsError, ChunkMissingError, CorruptDataError, AccessDeniedError, StorageError
        """
        import xarray

        reader = self.reader(mip, fill_missing=fill_missing)
        ids, counts = count_labels(reader, as_box(box, reader.scale.bounds))
        return xarray.DataArray(counts, {"label": ids}, ("label",), name="voxels")

    def add_scale(
        self,
        factor: Sequence[int] | None = None,
        *,
        sharding: Sharding = None,
        **members: Any,
    ) -> PrecomputedStore:
        """Add a scale without data to ``info``.

        Parameters
        ----------
        factor : sequence of three int, optional
            Coarser than the last scale, x, y, z; by default as ``downsample=1`` chooses.
        sharding : None, "auto", ShardingSpec or mapping
        **members
            Members of the new scale, such as ``chunk_sizes`` or ``key``, instead of those that
            follow from the last scale.

        Returns
        -------
        PrecomputedStore
            With the new ``info``; this one keeps the old.

        Raises
        ------
        LayerExistsError, InvalidInfoError, LayoutError
        """
        from xprecomputed.store.changes import add_scale

        return add_scale(self, factor, sharding, members)

    def drop_scale(self, mip: Mip, *, delete: bool = False) -> PrecomputedStore:
        """Take a scale out of ``info``.

        Parameters
        ----------
        mip : int, str or sequence of three numbers
        delete : bool
            Delete its objects as well.

        Returns
        -------
        PrecomputedStore
            With the new ``info``; this one keeps the old.

        Raises
        ------
        LayoutError
            It is the only one.
        """
        from xprecomputed.store.changes import drop_scale

        return drop_scale(self, self.info.find_mip(mip), delete)

    def open_dataset(self, **options: Any) -> xr.Dataset:
        """``xr.open_dataset(self, engine="precomputed", **options)``."""
        import xarray

        return xarray.open_dataset(self, engine="precomputed", **options)  # type: ignore[arg-type]

    def open_datatree(self, **options: Any) -> xr.DataTree:
        """``xr.open_datatree(self, engine="precomputed", **options)``."""
        import xarray

        return xarray.open_datatree(self, engine="precomputed", **options)  # type: ignore[arg-type]

    def __dask_tokenize__(self) -> tuple[str, str, str]:
        text = json.dumps(self.info.to_json(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return "PrecomputedStore", self.location.token, digest


#: What URLs became in this process, and the ``info`` that was given, for accessors that only
#: know the URL.
_opened: dict[str, tuple[PrecomputedStore, VolumeInfo | None]] = {}


def open_store(
    url: str | os.PathLike[str] | PrecomputedStore,
    *,
    info: Mapping[str, Any] | VolumeInfo | None = None,
    storage_options: Mapping[str, Any] | None = None,
    max_redirects: int = MAX_REDIRECTS,
    cache_dir: str | os.PathLike[str] | None = None,
    mesh_dir: str | None = None,
    skeleton_dir: str | None = None,
) -> PrecomputedStore:
    """Open a volume; one request, for its ``info``.

    Parameters
    ----------
    url : str, path-like, PrecomputedStore or fsspec object
        A path, ``gs:// s3:// az:// http(s):// file:// memory://``, ``s3+https://host/bucket/``
        of an S3 look-alike, or any fsspec URL or chain, with or without ``precomputed://`` in
        front or ``|neuroglancer-precomputed:`` behind. What has ``fs`` and ``path`` or ``root``
        (fsspec's mappings and open files, UPath) is asked through its own file system.
    info : mapping or VolumeInfo, optional
        Used instead of the stored one, which is not read then.
    storage_options : mapping, optional
        In the words of s3fs, gcsfs, adlfs and fsspec's http: ``anon key secret token profile
        endpoint_url region requester_pays project account_name headers`` …, or ``fs``, a file
        system of fsspec. Travels in pickles to workers; kept out of reprs, attrs and dask
        tokens. Without credentials here, those of the secrets folders of CloudVolume are taken,
        then what the cloud's own tools use, then none.
    max_redirects : int
        How many ``redirect`` members in a row are followed.
    cache_dir : str or path-like, optional
        Folder on this machine that keeps what is read of remote chunks and shards, instead of
        the option of that name. What it holds is believed: after others have changed the
        volume, call ``store.cache.flush()``.
    mesh_dir, skeleton_dir : str, optional
        Folders of meshes and skeletons, relative to the volume, instead of those that ``info``
        names as ``mesh`` and ``skeletons``.

    Raises
    ------
    InfoMissingError
        There is no ``info``.
    InvalidInfoError
        It cannot be used; all problems are listed.
    InvalidURLError, AccessDeniedError, StorageError, CorruptDataError

    Examples
    --------
    >>> from xprecomputed.testing import write_volume
    >>> import numpy as np
    >>> url = write_volume("memory://doc/store", [np.arange(24, dtype="u1").reshape(2, 3, 4)])
    >>> store = open_store(url)
    >>> store.read(((0, 0, 0), (4, 1, 1))).tolist()
    [[[[0, 1, 2, 3]]]]
    """
    if isinstance(max_redirects, bool) or not isinstance(max_redirects, int) or max_redirects < 0:
        raise ValueError(f"max_redirects={max_redirects!r}: expected an integer >= 0")
    folder = None if cache_dir is None else as_cache_dir(cache_dir)
    named: dict[str, Any] = {
        "cache_dir": folder,
        "mesh_dir": _folder_name("mesh_dir", mesh_dir),
        "skeleton_dir": _folder_name("skeleton_dir", skeleton_dir),
    }
    told = {name: value for name, value in named.items() if value is not None}
    if isinstance(url, PrecomputedStore):
        if storage_options is not None or info is not None:
            raise ValueError(
                f"{url.url}: it is open already; give storage_options and info to its URL"
            )
        return replace(url, **told)
    location = locate_url(url, storage_options)
    given = None
    if info is None:
        store = replace(_follow(location, max_redirects), **told)
    else:
        given = info if isinstance(info, VolumeInfo) else VolumeInfo.from_json(info, "info=")
        store = replace(PrecomputedStore(location, given), **told)
    is_new = store.url not in _opened or store.location != locate_url(store.url)
    if is_new or given or folder is not None:
        _opened[store.url] = replace(store, mesh_dir=None, skeleton_dir=None), given
    return store


def _folder_name(what: str, name: object) -> str | None:
    """A folder relative to the volume, as users name it."""
    if name is None:
        return None
    if not isinstance(name, str) or not name or "://" in name:
        raise InvalidURLError(
            f"{what}={name!r}: expected a path relative to the volume, such as 'mesh'; a folder "
            f"elsewhere opens with xprecomputed.open_{what.removesuffix('_dir')}(url)"
        )
    return name


def reopen(
    source: str, *, mesh_dir: str | None = None, skeleton_dir: str | None = None
) -> PrecomputedStore:
    """Open a URL as it was opened before in this process: by whom, and where that led."""
    if source not in _opened:
        return open_store(source, mesh_dir=mesh_dir, skeleton_dir=skeleton_dir)
    before, given = _opened[source]
    info = _follow(before.location, 0).info if given is None else given
    return replace(before, info=info, mesh_dir=mesh_dir, skeleton_dir=skeleton_dir)


def _follow(location: Location, max_redirects: int) -> PrecomputedStore:
    seen = [location.url]
    home = location.storage
    while True:
        document = read_info(location)
        if document is None:
            raise InfoMissingError(
                f"{location.child('info').url}: there is no such object, so {location.url} is not "
                f"a Precomputed volume{_parent_hint(location)}"
            )
        target = document.get("redirect") if isinstance(document, dict) else None
        if not target:
            where = location.child("info").url
            return PrecomputedStore(location, VolumeInfo.from_json(document, where))
        following = _redirected(location, target, home)
        if following.url == location.url:  # says that it is the place
            return PrecomputedStore(location, VolumeInfo.from_json(document, location.url))
        if following.url in seen or len(seen) > max_redirects:
            hops = " -> ".join([*seen, following.url])
            raise InvalidInfoError(
                f"redirects that do not end (max_redirects={max_redirects}): {hops}"
            )
        seen.append(following.url)
        location = following


def _redirected(location: Location, target: object, home: Storage) -> Location:
    where = location.child("info").url
    if not isinstance(target, str) or not ("://" in target or os.path.isabs(target)):
        raise InvalidInfoError(
            f"{where}: redirect is {target!r}, expected a URL or an absolute path"
        )
    if not location.storage.is_private and not is_remote(target):
        raise InvalidInfoError(
            f"{where}: a remote volume may not redirect to {target}, which is neither a cloud nor "
            "a public web server; open that yourself if it is what you want"
        )
    following = locate_url(target, home.for_strangers(target), trusted=False)
    if following.storage.url != home.url:
        return following
    # what opens one bucket or host is shown to no other, however many hops away
    return Location(home, following.key)


def read_info(location: Location) -> Any:
    """The decoded document at a place, or None where there is none."""
    place = location.child("info")
    blob = location.storage.get(place.key, MAX_INFO_BYTES)
    if blob is None:
        return None
    data = blob.data
    if blob.encoding is not None:
        data = bytes(decompress(data, blob.encoding, MAX_INFO_BYTES))
    return parse_json(data, place.url)


def _parent_hint(location: Location) -> str:
    """Whether somebody opened the folder of a scale; asked only where that is free."""
    if not location.storage.is_local or "/" not in location.key:
        return ""
    parent = location.child("..")
    if location.storage.fingerprint(parent.child("info").key) is None:
        return ""
    return f"; {parent.url} has an info: is that the volume, and this one of its scales?"
