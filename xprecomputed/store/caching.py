"""What the caches of this machine hold of one volume."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from xprecomputed.errors import InvalidURLError, OutOfBoundsError
from xprecomputed.grid import Box, Triple
from xprecomputed.metadata import ScaleInfo, VolumeInfo
from xprecomputed.shard_format import shard_name
from xprecomputed.storage import Location, index_cache
from xprecomputed.storage.caching.cached import CachedStorage, forget_everywhere
from xprecomputed.storage.caching.disk import CacheEntry
from xprecomputed.store.toolbox import as_box
from xprecomputed.volume.presence import NAME
from xprecomputed.volume.write_plan import Blocks, shard_tasks

__all__ = ["StoreCache"]

Mip = int | str | Sequence[float]


@dataclass(frozen=True, slots=True)
class StoreCache:
    """Lists, weighs and drops what is kept of a volume; the stored volume is never touched.

    Parameters
    ----------
    location : Location
        The volume as its data are read, see `xprecomputed.storage.caching.cached`; where that is
        without a cache, nothing is kept.
    info : VolumeInfo
    folders : tuple of str or None
        Of meshes and skeletons, relative to the volume.

    Examples
    --------
    >>> from xprecomputed import create_info
    >>> from xprecomputed.storage import locate_url
    >>> info = create_info(size=(64, 64, 64), resolution=(8, 8, 40), data_type="uint8")
    >>> StoreCache(locate_url("memory://doc/kept"), info).nbytes
    0
    """

    location: Location
    info: VolumeInfo
    folders: tuple[str | None, ...] = ()

    def list(self, mip: Mip | None = None) -> list[CacheEntry]:
        """What the disk cache holds of a scale, or of all and of meshes and skeletons.

        Parameters
        ----------
        mip : int, str or sequence of three numbers, optional

        Returns
        -------
        list of CacheEntry
            One for each object and each range of a shard, in any order.

        Raises
        ------
        ScaleNotFoundError
        AccessDeniedError, StorageError
            The cache cannot be read.
        """
        keys = [scale.key for scale in self._scales(mip)]
        keys += self._folders() if mip is None else ()
        return [each for key in keys for each in self._entries(key)]

    @property
    def nbytes(self) -> int:
        """Bytes in the disk cache that belong to this volume."""
        return sum(each.nbytes for each in self.list())

    def flush(self, mip: Mip | None = None, box: Box | tuple[Triple, Triple] | None = None) -> int:
        """Drop what is kept, on the disk and in the memory of this process.

        They are asked for again by the next read.

        Parameters
        ----------
        mip : int, str or sequence of three numbers, optional
            All by default, and meshes and skeletons too.
        box : Box or ((x0, y0, z0), (x1, y1, z1)), optional
            Absolute voxels of that mip; chunks that touch it, or the whole shards that they lie
            in. Everything by default.

        Returns
        -------
        int
            Objects that were kept, whole or in part.

        Raises
        ------
        OutOfBoundsError
            The box is empty or leaves the scale, or there is no mip for it.
        ScaleNotFoundError
        AccessDeniedError, StorageError
            The cache cannot be read.
        """
        if box is not None and mip is None:
            raise OutOfBoundsError("flush(mip, box): a box needs the mip whose voxels it counts")
        dropped = sum(self._flush(scale, box) for scale in self._scales(mip))
        dropped += sum(self._flush_folder(key) for key in self._folders() if mip is None)
        index_cache.clear()
        return dropped

    def _scales(self, mip: Mip | None) -> Sequence[ScaleInfo]:
        return self.info.scales if mip is None else [self.info.scales[self.info.find_mip(mip)]]

    def _folders(self) -> Iterator[str]:
        """Those that lie where something can be kept, each once."""
        for key in dict.fromkeys(self.folders):
            with suppress(InvalidURLError):
                if key is not None and self.location.child(key):
                    yield key

    def _entries(self, key: str) -> Iterator[CacheEntry]:
        place = self.location.child(key)
        storage = place.storage
        if isinstance(storage, CachedStorage) and storage.disk is not None:
            yield from storage.disk.entries(place.identity)

    def _flush(self, scale: ScaleInfo, box: Box | tuple[Triple, Triple] | None) -> int:
        place = self.location.child(scale.key)
        storage = place.storage
        inside = as_box(box, scale.bounds)
        if inside.is_empty or not scale.bounds.contains(inside):
            raise OutOfBoundsError(
                f"{place.url}: box {inside} is empty or not inside {scale.bounds} (absolute "
                "voxels of this mip)"
            )
        if not isinstance(storage, CachedStorage):
            return 0
        if box is None:
            return self._flush_folder(scale.key)
        keys = storage.cached_keys(place.key)
        names = {key.removeprefix(f"{place.key}/"): key for key in keys}
        touched = _touched(scale, names, inside)
        for name in touched:
            storage.forget(names[name])
        return len(touched)

    def _flush_folder(self, key: str) -> int:
        place = self.location.child(key)
        if not isinstance(place.storage, CachedStorage):
            return 0
        keys = place.storage.cached_keys(place.key)
        forget_everywhere(place.identity, below=True)
        return len(keys)


def _touched(scale: ScaleInfo, names: Iterable[str], box: Box) -> list[str]:
    """Those of some objects that hold voxels of a box."""
    if scale.sharding is None:
        return [name for name in names if _meets(name, box)]
    (x0, y0, z0), (x1, y1, z1) = box.start, box.stop
    tasks = shard_tasks(scale, Blocks(((x0, x1), (y0, y1), (z0, z1))))
    shards = {shard_name(scale.sharding, task.shard) for task in tasks}
    return [name for name in names if name in shards]


def _meets(chunk: str, box: Box) -> bool:
    match = NAME.fullmatch(chunk)
    if match is None:
        return False
    x0, x1, y0, y1, z0, z1 = (int(each) for each in match.groups())
    return not Box((x0, y0, z0), (x1, y1, z1)).intersection(box).is_empty
