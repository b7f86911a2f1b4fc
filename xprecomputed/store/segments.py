"""The meshes and skeletons of a volume, or of a folder alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from xprecomputed.errors import InfoMissingError
from xprecomputed.mesh import Meshes, create_meshes, open_meshes
from xprecomputed.metadata import SpatialIndexInfo, VolumeInfo
from xprecomputed.skeleton import Skeletons, create_skeletons, open_skeletons
from xprecomputed.storage import Location, cached, locate_url
from xprecomputed.store.changes import edited
from xprecomputed.store.opening import PrecomputedStore

__all__ = [
    "create_mesh",
    "create_skeleton",
    "mesh_of",
    "open_mesh",
    "open_skeleton",
    "skeleton_of",
]

T = TypeVar("T", Meshes, Skeletons)
Bounds = tuple[tuple[float, float, float], tuple[float, float, float]]
Layer = str | os.PathLike[str] | PrecomputedStore


def open_mesh(
    url: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, Any] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Meshes:
    """Open a folder of meshes without its volume; one request, for its ``info``.

    Parameters
    ----------
    url : str or path-like
        Of the folder that holds the manifests or shards, in any form of `open_store`. Without an
        ``info`` it is one of legacy meshes.
    storage_options : mapping, optional
        As in `open_store`.
    cache_dir : str or path-like, optional
        As in `open_store`.

    Returns
    -------
    Meshes

    Raises
    ------
    InvalidInfoError, InvalidURLError, AccessDeniedError, StorageError, CorruptDataError

    Examples
    --------
    >>> import xprecomputed as xp
    >>> xp.create_mesh("memory://doc/open_mesh", format="legacy").put(
    ...     {7: ([[0, 0, 0], [9, 0, 0], [0, 9, 0]], [[0, 1, 2]])})
    >>> xp.open_mesh("memory://doc/open_mesh").get(7).faces
    array([[0, 1, 2]], dtype=uint32)
    """
    return _cached(open_meshes(locate_url(url, storage_options)), cache_dir)


def open_skeleton(
    url: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, Any] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Skeletons:
    """Open a folder of skeletons without its volume; one request, for its ``info``.

    Parameters
    ----------
    url : str or path-like
        Of the folder that holds the skeletons or shards, in any form of `open_store`.
    storage_options : mapping, optional
        As in `open_store`.
    cache_dir : str or path-like, optional
        As in `open_store`.

    Returns
    -------
    Skeletons

    Raises
    ------
    InvalidInfoError, InvalidURLError, AccessDeniedError, StorageError, CorruptDataError

    Examples
    --------
    >>> import osteoid
    >>> import xprecomputed as xp
    >>> path = osteoid.Skeleton([(0, 0, 0), (3, 4, 0)], [(0, 1)], radii=[1, 2], segid=7)
    >>> xp.create_skeleton("memory://doc/open_skeleton").put(path)
    >>> float(xp.open_skeleton("memory://doc/open_skeleton").get(7).cable_length())
    5.0
    """
    return _cached(open_skeletons(locate_url(url, storage_options)), cache_dir)


def mesh_of(store: PrecomputedStore) -> Meshes:
    """See `PrecomputedStore.mesh`."""
    folder = store.mesh_dir or store.info.mesh
    return _placed(store, open_meshes(_folder(store, folder, "mesh")))


def skeleton_of(store: PrecomputedStore) -> Skeletons:
    """See `PrecomputedStore.skeleton`."""
    folder = store.skeleton_dir or store.info.skeletons
    return _placed(store, open_skeletons(_folder(store, folder, "skeleton")))


def create_mesh(
    url: Layer,
    mesh_dir: str = "mesh",
    *,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Meshes:
    """Make a folder of meshes, without any yet.

    Parameters
    ----------
    url : str, path-like or PrecomputedStore
        Of the folder itself; or the volume whose ``info`` shall name it.
    mesh_dir : str
        Name of the folder below the volume; not used with a URL.
    storage_options : mapping, optional
        As in `open_store`.
    **options
        Of `xprecomputed.mesh.create_meshes`: ``format``, ``sharding``, ``num_labels``,
        ``transform``, ``spatial_index``, ``mode`` and others.

    Returns
    -------
    Meshes
        Ready for `put`.

    Raises
    ------
    LayerExistsError
        There is one already, and ``mode`` is not "w".
    InvalidInfoError, AccessDeniedError, StorageError

    Examples
    --------
    >>> import xprecomputed as xp
    >>> info = xp.create_info(size=(64, 64, 64), resolution=(8, 8, 40), data_type="uint64")
    >>> mesh = xp.create_mesh(xp.write_info("memory://doc/create_mesh", info), format="multires")
    >>> xp.open_store("memory://doc/create_mesh").mesh.info == mesh.info
    True
    """

    def named(info: VolumeInfo) -> VolumeInfo:
        return replace(info, mesh=mesh_dir)

    return _created(url, mesh_dir, storage_options, options, create_meshes, open_meshes, named)


def create_skeleton(
    url: Layer,
    skeleton_dir: str = "skeletons",
    *,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Skeletons:
    """Make a folder of skeletons, without any yet.

    Parameters
    ----------
    url : str, path-like or PrecomputedStore
        Of the folder itself; or the volume whose ``info`` shall name it.
    skeleton_dir : str
        Name of the folder below the volume; not used with a URL.
    storage_options : mapping, optional
        As in `open_store`.
    **options
        Of `xprecomputed.skeleton.create_skeletons`: ``vertex_attributes``, ``sharding``,
        ``num_labels``, ``transform``, ``spatial_index``, ``mode`` and others.

    Returns
    -------
    Skeletons
        Ready for `put`.

    Raises
    ------
    LayerExistsError
        There is one already, and ``mode`` is not "w".
    InvalidInfoError, AccessDeniedError, StorageError
    """

    def named(info: VolumeInfo) -> VolumeInfo:
        return replace(info, skeletons=skeleton_dir)

    return _created(
        url, skeleton_dir, storage_options, options, create_skeletons, open_skeletons, named
    )


def _created(
    url: Layer,
    folder: str,
    storage_options: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    create: Callable[..., Any],
    open_folder: Callable[[Location], T],
    named: Callable[[VolumeInfo], VolumeInfo],
) -> T:
    if not isinstance(url, PrecomputedStore):
        place = locate_url(url, storage_options)
        create(place, **options)
        return open_folder(place)
    if storage_options is not None:
        raise ValueError(f"{url.url}: it is open already; give storage_options to its URL")
    place = url.location.child(folder)
    create(place, **options)
    made = _placed(edited(url, named), open_folder(place))
    if made.info.spatial_index is not None:
        made.spatial_index.create()  # a cell without a file is one that got lost
    return made


def _folder(store: PrecomputedStore, folder: str | None, what: str) -> Location:
    if folder is None:
        member = "skeletons" if what == "skeleton" else what
        raise InfoMissingError(
            f"{store.location.child('info').url}: it names no {member!r}. Where the folder is "
            f"known, name it; otherwise make one:\n"
            f"    xp.open_store(url, {what}_dir='{member}').{what}\n"
            f"    xp.create_{what}(store)"
        )
    return store.location.child(folder)


def _placed(store: PrecomputedStore, source: T) -> T:
    """With the bounds of the volume, which say what files a spatial index has."""
    source = _cached(source, store.cache_dir)
    index = source.info.spatial_index
    return source if index is None else replace(source, bounds_nm=_bounds_nm(store.info, index))


def _cached(source: T, cache_dir: str | os.PathLike[str] | None) -> T:
    """With what lies in the folder kept, but not its ``info``, which may change."""
    return replace(source, directory=cached(source.directory, cache_dir))


def _bounds_nm(info: VolumeInfo, index: SpatialIndexInfo) -> Bounds:
    """Of the scale that the index was made from."""
    same = [scale for scale in info.scales if scale.resolution == index.resolution]
    scale = (same or info.scales)[0]

    def in_nm(voxels: tuple[int, int, int]) -> tuple[float, float, float]:
        x, y, z = (a * r for a, r in zip(voxels, scale.resolution, strict=True))
        return x, y, z

    return in_nm(scale.bounds.start), in_nm(scale.bounds.stop)
