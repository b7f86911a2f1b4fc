"""The meshes and skeletons of a volume, or of a folder alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

from xprecomputed.errors import (
    InfoMissingError,
    InvalidURLError,
    LayerExistsError,
    LayoutError,
)
from xprecomputed.mesh import Meshes, create_meshes, open_meshes
from xprecomputed.metadata import SpatialIndexInfo, VolumeInfo
from xprecomputed.skeleton import Skeletons, create_skeletons, open_skeletons
from xprecomputed.storage import Location, cached, locate_url, resolve
from xprecomputed.store.changes import edited, existing_info, is_inside
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
        There is one already, or ``info`` names another one, and ``mode`` is not "w".
    LayoutError
        Something else lies there.
    InvalidURLError
        The folder does not lie below the volume.
    InvalidInfoError, AccessDeniedError, StorageError

    Examples
    --------
    >>> import xprecomputed as xp
    >>> info = xp.create_info(size=(64, 64, 64), resolution=(8, 8, 40), data_type="uint64")
    >>> mesh = xp.create_mesh(xp.write_info("memory://doc/create_mesh", info), format="multires")
    >>> xp.open_store("memory://doc/create_mesh").mesh.info == mesh.info
    True
    """
    made = _Folder("mesh", mesh_dir, create_meshes, open_meshes)
    return made.created(url, storage_options, options)


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
        There is one already, or ``info`` names another one, and ``mode`` is not "w".
    LayoutError
        Something else lies there.
    InvalidURLError
        The folder does not lie below the volume.
    InvalidInfoError, AccessDeniedError, StorageError
    """
    made = _Folder("skeletons", skeleton_dir, create_skeletons, open_skeletons)
    return made.created(url, storage_options, options)


@dataclass(frozen=True, slots=True)
class _Folder(Generic[T]):
    """A folder that is to be made.

    Parameters
    ----------
    member : {"mesh", "skeletons"}
        Of ``info``, that names it.
    name : str
    create, opened : callable
        Of its room.
    """

    member: Literal["mesh", "skeletons"]
    name: str
    create: Callable[..., Any]
    opened: Callable[[Location], T]

    def created(
        self, url: Layer, storage_options: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> T:
        if not isinstance(url, PrecomputedStore):
            place = locate_url(url, storage_options)
            self.create(place, **options)
            return self.opened(place)
        if storage_options is not None:
            raise ValueError(f"{url.url}: it is open already; give storage_options to its URL")
        if not isinstance(self.name, str) or "://" in self.name or not is_inside(self.name):
            raise InvalidURLError(
                f"{self.name!r}: expected a folder below {url.url}, such as {self.member!r}"
            )
        replaces = options.get("mode") == "w"
        self.named(existing_info(url.location) or url.info, replaces)
        place = url.location.child(self.name)
        self.create(place, **options)
        made = _placed(edited(url, lambda info: self.named(info, replaces)), self.opened(place))
        if made.info.spatial_index is not None:
            made.spatial_index.create()  # a cell without a file is one that got lost
        return made

    def named(self, info: VolumeInfo, replaces: bool) -> VolumeInfo:
        """`info` with the folder named in it."""
        here, before = resolve("", self.name), getattr(info, self.member)
        folders = {scale.key: f"scale {scale.key!r}" for scale in info.scales}
        for other in ("mesh", "skeletons", "segment_properties"):
            if other != self.member and getattr(info, other) is not None:
                folders[getattr(info, other)] = f"its {other}"
        for folder, what in folders.items():
            if is_inside(folder) and resolve("", folder) == here:
                raise LayoutError(f"{self.name!r}: the volume has {what} there; choose another")
        if (
            before is not None
            and not replaces
            and not (is_inside(before) and resolve("", before) == here)
        ):
            raise LayerExistsError(
                f"info names {before!r} as its {self.member}; mode='w' names {self.name!r} instead "
                f"and leaves {before!r} where it is"
            )
        named: dict[str, Any] = {self.member: self.name}
        return replace(info, **named)


def _folder(store: PrecomputedStore, folder: str | None, what: str) -> Location:
    if folder is None:
        member = "skeletons" if what == "skeleton" else what
        raise InfoMissingError(
            f"{store.location.child('info').url}: it names no {member!r}. Where the folder is "
            f"known, name it; otherwise make one:\n"
            f"    xp.open_store(url, {what}_dir='{member}').{what}\n"
            f"    xp.create_{what}(store)\n"
            "Where that was done since, open the store again"
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
