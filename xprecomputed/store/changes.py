"""Changing what a layer says about itself: its ``info``, with or without its objects."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

from xprecomputed.codecs import codec_for
from xprecomputed.errors import InvalidURLError, LayerExistsError, LayoutError, StorageError
from xprecomputed.metadata import ScaleInfo, VolumeInfo
from xprecomputed.storage import Location, Unchanged, index_cache, locate_url, resolve
from xprecomputed.store.opening import PrecomputedStore, read_info
from xprecomputed.volume.layout import (
    Sharding,
    coarser_scale,
    downsample_factors,
    find_sharding,
    make_scale,
)

__all__ = [
    "add_scale",
    "begin_layer",
    "commit_info",
    "drop_scale",
    "edited",
    "existing_info",
    "inserted",
    "remove_scales",
    "update_info",
    "write_info",
]

T = TypeVar("T")


def existing_info(location: Location) -> VolumeInfo | None:
    """The layer that is there, or None.

    Raises
    ------
    LayoutError
        It is only a signpost to another one.
    InvalidInfoError, AccessDeniedError, StorageError
    """
    document = read_info(location)
    if document is None:
        return None
    target = document.get("redirect") if isinstance(document, dict) else None
    if target:
        raise LayoutError(f"{location.url}: its info redirects to {target}; write there")
    return VolumeInfo.from_json(document, location.child("info").url)


def commit_info(
    location: Location,
    info: VolumeInfo,
    only_if: Unchanged | None,
    *,
    cache_control: str | None = None,
) -> None:
    """Write ``info``: plain JSON, uncompressed, whole or not at all."""
    place = location.child("info")
    data = json.dumps(info.to_json()).encode()
    place.storage.put(place.key, data, cache_control=cache_control, only_if=only_if)


def update_info(location: Location, work: Callable[[Unchanged | None], T]) -> T:
    """Change ``info``, as if nobody else did meanwhile where the storage can tell."""
    place = location.child("info")
    return place.storage.update(place.key, work, anyway=True)


def inserted(info: VolumeInfo, scales: Iterable[ScaleInfo]) -> VolumeInfo:
    """`info` with further scales, finest first.

    Raises
    ------
    LayerExistsError
        A scale of that key or resolution is there.
    """
    merged = list(info.scales)
    for scale in scales:
        for mip, old in enumerate(merged):
            same_folder = _folder(old) == _folder(scale)
            if same_folder or old.resolution == scale.resolution:
                raise LayerExistsError(
                    f"mip {mip} (key {old.key!r}, {old.resolution} nm) is there already; write "
                    "values into it with region='auto', or choose another resolution"
                )
        finer = [math.prod(old.resolution) <= math.prod(scale.resolution) for old in merged]
        merged.insert(finer.index(False) if False in finer else len(merged), scale)
    return replace(info, scales=tuple(merged))


def _folder(scale: ScaleInfo) -> str:
    """The key without detours: ``a``, ``a/`` and ``./a`` are one folder."""
    return "/".join(part for part in scale.key.split("/") if part not in ("", "."))


def remove_scales(location: Location, scales: Collection[ScaleInfo]) -> None:
    """Delete all objects of scales; ``info`` stays as it is.

    Raises
    ------
    InvalidURLError
        A scale lies outside of the layer's own folder: that is somebody else's.
    """
    for place in _own_folders(location, scales):
        place.storage.delete_tree(place.key)
    index_cache.clear()


def _own_folders(location: Location, scales: Collection[ScaleInfo]) -> list[Location]:
    """Folders that may be deleted with the layer."""
    places = [location.child(scale.key) for scale in scales]
    for scale, place in zip(scales, places, strict=True):
        if not is_inside(scale.key):
            raise InvalidURLError(
                f"{place.url}: this scale does not lie inside of {location.url}, so its objects "
                "are not deleted; delete them yourself"
            )
    return places


def is_inside(key: str) -> bool:
    """Whether the folder of a scale lies below that of its layer.

    Examples
    --------
    >>> is_inside("8_8_40"), is_inside("../other/8_8_40"), is_inside(".")
    (True, False, False)
    """
    try:
        return bool(resolve("", key))
    except InvalidURLError:
        return False


def begin_layer(
    location: Location,
    info: VolumeInfo,
    existing: VolumeInfo | None,
    *,
    replace: bool,
    cache_control: str | None = None,
) -> None:
    """Write ``info`` and, where a layer is replaced, make room before.

    Data that go before their description are a hole at worst, never wrong.

    Parameters
    ----------
    location : Location
    info : VolumeInfo
    existing : VolumeInfo or None
        What `info` was planned upon.
    replace : bool
        Whether the scales of `existing` are deleted, and whatever lies where those of `info`
        will be.
    cache_control : str, optional
        Header of ``info``, as in `Storage.put`.

    Raises
    ------
    LayerExistsError
        There are objects already where a new scale will be, though no ``info`` names them.
    StorageError
        Somebody else has changed ``info`` since.
    """

    def begin(only_if: Unchanged | None) -> None:
        if existing_info(location) != existing:
            raise StorageError(f"{location.url}: info was changed by somebody else; write again")
        before = existing.scales if existing is not None else ()
        if replace:
            remove_scales(location, {scale.key: scale for scale in before + info.scales}.values())
        else:
            known = {scale.key for scale in before}
            _require_empty(location, [each for each in info.scales if each.key not in known])
        commit_info(location, info, only_if, cache_control=cache_control)

    update_info(location, begin)


def _require_empty(location: Location, scales: Iterable[ScaleInfo]) -> None:
    for scale in scales:
        place = location.child(scale.key)
        if next(iter(place.storage.list_dir(place.key)), None) is not None:
            raise LayerExistsError(
                f"{place.url}: there are objects, though no info names this scale; what they are "
                "is unknown, and they would pass for data of this write. Put their info back, or "
                "delete the folder, or replace everything with mode='w'"
            )


def write_info(
    url: str | os.PathLike[str],
    info: VolumeInfo | Mapping[str, Any],
    *,
    mode: Literal["w-", "w"] = "w-",
    storage_options: Mapping[str, Any] | None = None,
) -> PrecomputedStore:
    """Write the ``info`` of a layer, without data.

    Parameters
    ----------
    url : str or path-like
    info : VolumeInfo or mapping
        Such as `create_info` makes.
    mode : {"w-", "w"}
        "w" replaces the document that is there; no other object is touched.
    storage_options : mapping, optional
        For fsspec.

    Returns
    -------
    PrecomputedStore

    Raises
    ------
    LayerExistsError
        There is one, and `mode` is "w-".
    InvalidInfoError, UnsupportedEncodingError

    Examples
    --------
    >>> from xprecomputed import create_info
    >>> info = create_info(size=(10, 10, 10), resolution=(8, 8, 40), data_type="uint8")
    >>> store = write_info("memory://doc/write_info", info)
    >>> store.info == info
    True
    """
    if mode not in ("w-", "w"):
        raise ValueError(f"mode={mode!r}: expected 'w-' or 'w'")
    location = locate_url(url, storage_options)
    given = info if isinstance(info, VolumeInfo) else VolumeInfo.from_json(info, "info")
    for scale in given.scales:
        codec_for(given, scale)

    def write(only_if: Unchanged | None) -> None:
        if mode == "w-" and read_info(location) is not None:
            raise LayerExistsError(f"{location.url}: there is a layer; replace it with mode='w'")
        commit_info(location, given, only_if)

    update_info(location, write)
    return PrecomputedStore(location, given)


def add_scale(
    store: PrecomputedStore,
    factor: Sequence[int] | None,
    sharding: Sharding,
    members: Mapping[str, Any],
) -> PrecomputedStore:
    """See `PrecomputedStore.add_scale`."""
    last = store.info.scales[-1]
    if factor is None:
        chosen = downsample_factors(1, last)[0]
    else:
        chosen = downsample_factors([factor], last)[0]
    scale = make_scale(coarser_scale(last, chosen).to_json() | dict(members))
    scale = replace(scale, sharding=find_sharding(sharding, scale, store.info))
    codec_for(store.info, scale)
    return edited(store, lambda info: inserted(info, [scale]))


def drop_scale(store: PrecomputedStore, mip: int, delete: bool) -> PrecomputedStore:
    """See `PrecomputedStore.drop_scale`."""
    gone = store.info.scales[mip]

    def without(info: VolumeInfo) -> VolumeInfo:
        left = tuple(scale for scale in info.scales if scale.key != gone.key)
        if not left:
            raise LayoutError(
                f"{store.url}: {gone.key!r} is the only scale, and a layer has one at least; "
                "delete the folder to be rid of the layer"
            )
        return replace(info, scales=left)

    if delete:
        (folder,) = _own_folders(store.location, [gone])
        for scale in store.info.scales:
            other = store.location.child(scale.key)
            if scale.key != gone.key and f"{other.key}/".startswith(f"{folder.key}/"):
                raise LayoutError(
                    f"{folder.url}: the scale {scale.key!r} lies in this folder too, so it is not "
                    "deleted; drop that scale first"
                )
    # named no more before its objects go: a reader finds all or nothing
    changed = edited(store, without)
    if delete:
        remove_scales(store.location, [gone])
    return changed


def edited(store: PrecomputedStore, change: Callable[[VolumeInfo], VolumeInfo]) -> PrecomputedStore:
    """The layer with its ``info`` changed; what others wrote into it meanwhile stays."""

    def edit(only_if: Unchanged | None) -> VolumeInfo:
        info = change(existing_info(store.location) or store.info)
        commit_info(store.location, info, only_if)
        return info

    return replace(store, info=update_info(store.location, edit))
