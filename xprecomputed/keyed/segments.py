"""What the meshes and the skeletons of one folder have in common."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from xprecomputed.errors import NotFoundError
from xprecomputed.keyed.ids import as_ids
from xprecomputed.keyed.later import get_bag, in_thread
from xprecomputed.keyed.spatial_index import SpatialIndex
from xprecomputed.keyed.values import KeyedValues, read_object
from xprecomputed.metadata import SpatialIndexInfo, parse_json
from xprecomputed.storage import Location, forget_everywhere, index_cache, uncached

__all__ = ["MAX_INFO_BYTES", "Bounds", "Info", "Segments", "read_info"]

#: A longer ``info`` cannot be one.
MAX_INFO_BYTES = 1 << 24

#: Two corners in nm, x, y, z.
Bounds = tuple[tuple[float, float, float], tuple[float, float, float]]


class Info(Protocol):
    """What both kinds of ``info`` have."""

    @property
    def spatial_index(self) -> SpatialIndexInfo | None:
        """Of the folder."""

    def to_json(self) -> dict[str, Any]:
        """The document."""


InfoT = TypeVar("InfoT", bound=Info)
T = TypeVar("T")


def read_info(directory: Location, parse: Callable[[Any, str], T]) -> T | None:
    """The ``info`` of a folder, None where there is none; one request.

    Raises
    ------
    InvalidInfoError, AccessDeniedError, StorageError, CorruptDataError
    """
    place = directory.child("info")
    data = read_object(place, MAX_INFO_BYTES)
    return None if data is None else parse(parse_json(data, place.url), place.url)


@dataclass(frozen=True, slots=True, repr=False)
class Segments(ABC, Generic[InfoT]):
    """Things by segment id. Frozen, cheap, picklable.

    Parameters
    ----------
    directory : Location
    info : MeshInfo or SkeletonInfo
    has_info : bool
        Whether `info` was read; otherwise it is what is taken for granted without.
    bounds_nm : two corners in nm, optional
        Of the volume, which say what files a spatial index has.
    """

    directory: Location
    info: InfoT
    has_info: bool = True
    bounds_nm: Bounds | None = None

    #: What one of them is called.
    kind: ClassVar[str]

    @property
    def url(self) -> str:
        """The address of the folder, without credentials."""
        return self.directory.url

    @property
    @abstractmethod
    def values(self) -> KeyedValues:
        """What is stored by id."""

    @abstractmethod
    def get(self, ids: Any) -> Any:
        """Read one or several."""

    async def get_async(self, ids: Any, **options: Any) -> Any:
        """`get` beside other tasks of an event loop; given up where it is cancelled."""
        return await in_thread(self.get, ids, **options)

    def get_bag(self, ids: Any, npartitions: int | None = None, **options: Any) -> Any:
        """What `get` gives, read when dask computes it.

        Parameters
        ----------
        ids : iterable of int
        npartitions : int, optional
            Otherwise about 100 ids a partition.
        **options
            Of `get`, but for ``fuse``.

        Returns
        -------
        dask.bag.Bag
            Ordered so that those of a partition lie together; each knows its id.

        Raises
        ------
        TypeError, ValueError
            What `ids` has is no segment id, or an option is none of `get`.
        """
        if options.get("fuse"):
            raise ValueError("fuse=True: the items of a bag are of one segment each")
        self.get([], **options)  # says now what it would say on a worker
        read = _Read(self, tuple(sorted(options.items())))
        return get_bag(read, as_ids(ids)[0], self.values.order, npartitions)

    def exists(self, ids: Any) -> Any:
        """Whether they are stored; none is read.

        Parameters
        ----------
        ids : int or iterable of int

        Returns
        -------
        bool, or dict of int to bool

        Raises
        ------
        TypeError, ValueError, CorruptDataError, AccessDeniedError, StorageError
        """
        numbers, single = as_ids(ids)
        there = self.values.exists(numbers)
        if single:
            return bool(there[0])
        return dict(zip(numbers.tolist(), there.tolist(), strict=True))

    def ids(self) -> NDArray[np.uint64]:
        """All ids, ascending: a listing, and of shards all their indexes.

        Returns
        -------
        ndarray of uint64, shape (N,)

        Raises
        ------
        CorruptDataError, AccessDeniedError, StorageError
        """
        return self.values.ids()

    def ids_in(self, bbox: Any) -> NDArray[np.uint64]:
        """Ids that the spatial index has in a box.

        Parameters
        ----------
        bbox : array_like or mapping
            nm: ``((x0, y0, z0), (x1, y1, z1))``, or axes to slices or pairs.

        Returns
        -------
        ndarray of uint64, shape (N,)
            Ascending. The index knows boxes of parts: a segment may pass by.

        Raises
        ------
        NotFoundError
            There is no spatial index, or a file of it is missing.
        CorruptDataError, OutOfBoundsError, AccessDeniedError, StorageError
        """
        return self.spatial_index.ids_in(bbox)

    @property
    def spatial_index(self) -> SpatialIndex:
        """Where in the volume which segments are.

        Raises
        ------
        NotFoundError
            `info` names none.
        """
        if self.info.spatial_index is None:
            raise NotFoundError(
                f"{self.directory.child('info').url}: it names no spatial index, which is made "
                f"when the folder is: create_{self.kind}(..., spatial_index={{'resolution': ..., "
                "'chunk_size': ...}), nm"
            )
        # its files change with every segment that comes and goes
        return SpatialIndex(uncached(self.directory), self.info.spatial_index, self.bounds_nm)

    def flush_cache(self) -> None:
        """Drop what this machine and this process keep of the folder: others have changed it."""
        forget_everywhere(self.directory.identity, below=True)
        index_cache.clear()

    def __dask_tokenize__(self) -> tuple[str, str, str]:
        text = json.dumps([self.info.to_json(), self.has_info], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return type(self).__name__, self.directory.token, digest


@dataclass(frozen=True, slots=True)
class _Read:
    """What a partition of a bag does."""

    source: Segments[Any]
    options: tuple[tuple[str, Any], ...]

    def __call__(self, ids: Iterable[int]) -> list[Any]:
        found: Mapping[int, Any] = self.source.get(list(ids), **dict(self.options))
        return list(found.values())

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        from dask.base import normalize_token  # it is dask that asks

        return (*self.source.__dask_tokenize__(), normalize_token(self.options))
