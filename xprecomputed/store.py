"""One URL and everything that hangs on it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xprecomputed.codecs import Array, decompress
from xprecomputed.errors import InfoMissingError, InvalidInfoError
from xprecomputed.grid import Box, Triple
from xprecomputed.metadata import ScaleInfo, VolumeInfo, parse_json
from xprecomputed.storage import Location, locate_url
from xprecomputed.volume import ScaleReader

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["PrecomputedStore", "open_store", "reopen"]

MAX_REDIRECTS = 10
MAX_INFO_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class PrecomputedStore:
    """A volume: an address and its ``info``. Frozen, cheap, picklable; holds no connection.

    Made by :func:`open_store`.
    """

    location: Location
    info: VolumeInfo

    @property
    def url(self) -> str:
        """The address, without credentials, after redirects."""
        return self.location.url

    @property
    def mips(self) -> dict[int, ScaleInfo]:
        """The scales by mip, finest first; placeholders count."""
        return dict(enumerate(self.info.scales))

    def reader(
        self, mip: int | str | Sequence[float] = 0, *, fill_missing: bool = False
    ) -> ScaleReader:
        """The reader of one scale, named by index, resolution in nm (x, y, z) or key.

        Raises
        ------
        ScaleNotFoundError, UnsupportedEncodingError
        """
        return ScaleReader.open(
            self.location, self.info, self.info.find_mip(mip), fill_missing=fill_missing
        )

    def read(
        self,
        box: Box | tuple[Triple, Triple],
        mip: int | str | Sequence[float] = 0,
        *,
        fill_missing: bool = False,
    ) -> Array:
        """Voxels of a box as a NumPy array.

        Parameters
        ----------
        box : Box or ((x0, y0, z0), (x1, y1, z1))
            Half-open, absolute voxels of that mip.
        mip : int, str or sequence of three numbers
        fill_missing : bool
            Read chunks that are definitely not stored as zeros.

        Returns
        -------
        ndarray, shape (channel, z, y, x)

        Raises
        ------
        OutOfBoundsError, ChunkMissingError, CorruptDataError, AccessDeniedError, StorageError
        """
        if not isinstance(box, Box):
            (x0, y0, z0), (x1, y1, z1) = box
            box = Box((int(x0), int(y0), int(z0)), (int(x1), int(y1), int(z1)))
        return self.reader(mip, fill_missing=fill_missing).read_box(box)

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
        return "PrecomputedStore", self.url, hashlib.sha256(text.encode()).hexdigest()


#: What a URL was opened with in this process, for accessors that only know the URL.
_opened: dict[str, tuple[Mapping[str, Any] | None, VolumeInfo | None]] = {}


def open_store(
    url: str | os.PathLike[str] | PrecomputedStore,
    *,
    info: Mapping[str, Any] | VolumeInfo | None = None,
    storage_options: Mapping[str, Any] | None = None,
    max_redirects: int = MAX_REDIRECTS,
) -> PrecomputedStore:
    """Open a volume; one request, for its ``info``.

    Parameters
    ----------
    url : str, path-like or PrecomputedStore
        A path, ``file://``, ``memory://`` or any fsspec URL or chain, with or without
        ``precomputed://`` in front or ``|neuroglancer-precomputed:`` behind.
    info : mapping or VolumeInfo, optional
        Used instead of the stored one, which is not read then.
    storage_options : mapping, optional
        For fsspec. Kept out of reprs, attrs and dask tokens.
    max_redirects : int
        How many ``redirect`` members in a row are followed.

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
    if isinstance(url, PrecomputedStore):
        return url
    location = locate_url(url, storage_options)
    given = None
    if info is None:
        store = _follow(location, storage_options, max_redirects)
    else:
        given = info if isinstance(info, VolumeInfo) else VolumeInfo.from_json(info, "info=")
        store = PrecomputedStore(location, given)
    # a redirect to another bucket or host was followed without the options
    kept = storage_options if store.location.storage.url == location.storage.url else None
    if kept or given:
        _opened[store.url] = kept, given
    return store


def reopen(source: str) -> PrecomputedStore:
    """Open a URL as it was opened before in this process."""
    options, info = _opened.get(source, (None, None))
    return open_store(source, storage_options=options, info=info)


def _follow(
    location: Location, storage_options: Mapping[str, Any] | None, max_redirects: int
) -> PrecomputedStore:
    seen = [location.url]
    home = location.storage.url
    while True:
        document = _read_info(location)
        target = document.get("redirect") if isinstance(document, dict) else None
        if not target:
            where = location.child("info").url
            return PrecomputedStore(location, VolumeInfo.from_json(document, where))
        following = _redirected(location, target, home, storage_options)
        if following.url == location.url:  # says that it is the place
            return PrecomputedStore(location, VolumeInfo.from_json(document, location.url))
        if following.url in seen or len(seen) > max_redirects:
            hops = " -> ".join([*seen, following.url])
            raise InvalidInfoError(
                f"redirects that do not end (max_redirects={max_redirects}): {hops}"
            )
        seen.append(following.url)
        location = following


def _redirected(
    location: Location,
    target: object,
    home: str = "",
    storage_options: Mapping[str, Any] | None = None,
) -> Location:
    where = location.child("info").url
    if not isinstance(target, str) or not ("://" in target or os.path.isabs(target)):
        raise InvalidInfoError(
            f"{where}: redirect is {target!r}, expected a URL or an absolute path"
        )
    # what opens one bucket or host (`home`) is not shown to another, however many hops away
    same = target.removeprefix("precomputed://").startswith(home)
    following = locate_url(target, storage_options if same else None)
    local = location.storage.url.startswith(("file://", "memory://"))
    if not local and following.storage.url.startswith(("file://", "memory://")):
        raise InvalidInfoError(f"{where}: a remote volume may not redirect to {following.url}")
    return following


def _read_info(location: Location) -> Any:
    place = location.child("info")
    blob = location.storage.get(place.key, MAX_INFO_BYTES)
    if blob is None:
        raise InfoMissingError(
            f"{place.url}: there is no such object, so {location.url} is not a Precomputed volume"
            + _parent_hint(location)
        )
    data = blob.data
    if blob.encoding is not None:
        data = decompress(data, blob.encoding, MAX_INFO_BYTES)
    return parse_json(data, place.url)


def _parent_hint(location: Location) -> str:
    """Whether somebody opened the folder of a scale; asked only where that is free."""
    if not location.storage.is_local or "/" not in location.key:
        return ""
    parent = location.child("..")
    if location.storage.fingerprint(parent.child("info").key) is None:
        return ""
    return f"; {parent.url} has an info: is that the volume, and this one of its scales?"
