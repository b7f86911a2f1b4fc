"""A new folder of skeletons, and skeletons to put into one as people give them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from xprecomputed.errors import LayerExistsError
from xprecomputed.keyed import as_ids, read_json
from xprecomputed.metadata import (
    ShardingSpec,
    SkeletonInfo,
    SpatialIndexInfo,
    Transform,
    VertexAttribute,
)
from xprecomputed.parallel import run_bounded
from xprecomputed.shard_format.sizes import sharding_for_ids
from xprecomputed.skeleton.files import read_swc
from xprecomputed.skeleton.format import Skeleton
from xprecomputed.storage import Location, Unchanged, index_cache, workers_for

__all__ = ["MAX_INFO_BYTES", "Given", "by_id", "create_skeletons"]

#: A longer ``info`` cannot be one.
MAX_INFO_BYTES = 1 << 24

Attribute: TypeAlias = str | VertexAttribute | Mapping[str, Any]
Sharding: TypeAlias = Literal["auto"] | ShardingSpec | Mapping[str, Any] | None
#: What `Skeletons.put` takes.
Given: TypeAlias = "Skeleton | Iterable[Skeleton] | Mapping[int, Skeleton | str | Path]"


def create_skeletons(
    directory: Location,
    *,
    vertex_attributes: Sequence[Attribute] = ("radius",),
    transform: Transform | Any | None = None,
    sharding: Sharding = None,
    num_labels: int | None = None,
    spatial_index: SpatialIndexInfo | Mapping[str, Any] | None = None,
    mip: int | None = None,
    segment_properties: str | None = None,
    mode: Literal["w-", "w"] = "w-",
    extra: Mapping[str, Any] | None = None,
) -> SkeletonInfo:
    """Write the ``info`` of a folder of skeletons, without any yet.

    Parameters
    ----------
    directory : Location
        The folder itself.
    vertex_attributes : sequence of str, VertexAttribute or mapping
        In the order of the bytes. A name alone is one float32 a vertex: Neuroglancer draws no
        other type, and refuses the layer if there is one.
    transform : Transform or array_like of 12 numbers, optional
        Stored model to nm, three rows of four; otherwise the stored model is in nm. It should
        scale all lengths alike, or radii are not in nm.
    sharding : None, "auto", ShardingSpec or mapping
        None: an object a skeleton. "auto": shards for `num_labels` skeletons, gzipped.
    num_labels : int, optional
        About how many there will be, for "auto".
    spatial_index : SpatialIndexInfo or mapping, optional
        ``{"resolution": nm per voxel, "chunk_size": nm per file}``, x, y, z: what `put` writes
        then is found by box.
    mip : int, optional
        Of the segmentation, for whoever reads it.
    segment_properties : str, optional
        Relative folder.
    mode : {"w-", "w"}
        "w-" takes a folder without objects only. "w" removes the objects that lie in it before,
        if it is one of skeletons; folders in it stay.
    extra : mapping, optional
        Further members of ``info``.

    Returns
    -------
    SkeletonInfo

    Raises
    ------
    LayerExistsError
        There are objects, and `mode` is "w-"; or those of something else than skeletons.
    InvalidInfoError
        With every problem of the arguments.
    AccessDeniedError, StorageError

    Examples
    --------
    >>> from xprecomputed.storage import locate_url
    >>> info = create_skeletons(locate_url("memory://doc/create_skeletons"),
    ...                         sharding="auto", num_labels=100_000)
    >>> info.sharding.shard_bits, info.sharding.minishard_bits
    (0, 7)
    """
    if mode not in ("w-", "w"):
        raise ValueError(f"mode={mode!r}: expected 'w-' or 'w'")
    place = directory.child("info")
    document = {
        "@type": "neuroglancer_skeletons",
        "transform": _twelve(transform),
        "vertex_attributes": [_attribute(each) for each in vertex_attributes],
        "sharding": _sharding(sharding, num_labels),
        "spatial_index": _plain(spatial_index),
        "mip": mip,
        "segment_properties": segment_properties,
        **(extra or {}),
    }
    given = {name: value for name, value in document.items() if value is not None}
    info = SkeletonInfo.from_json(given, place.url)

    def write(only_if: Unchanged | None) -> None:
        if mode == "w":
            _clear(directory)
        else:
            _require_empty(directory)
        data = json.dumps(info.to_json()).encode()
        place.storage.put(place.key, data, only_if=only_if)

    place.storage.update(place.key, write, anyway=True)
    return info


def _twelve(transform: Any) -> Any:
    if transform is None or isinstance(transform, Transform):
        return None if transform is None else transform.to_json()
    return np.ravel(transform).tolist()


def _attribute(each: Any) -> Any:
    if isinstance(each, str):
        each = VertexAttribute(id=each)
    return _plain(each)


def _sharding(sharding: Sharding, num_labels: int | None) -> Any:
    if sharding != "auto":
        return _plain(sharding)
    if num_labels is None:
        raise ValueError("sharding='auto' needs num_labels, about how many skeletons there will be")
    return sharding_for_ids(num_labels, data_encoding="gzip").to_json()


def _plain(value: Any) -> Any:
    """The JSON of a value of ours, or of whoever gave JSON."""
    if hasattr(value, "to_json"):
        return value.to_json()
    return dict(value) if isinstance(value, Mapping) else value


def _require_empty(directory: Location) -> None:
    entry = next(iter(directory.storage.list_dir(directory.key)), None)
    if entry is not None:
        raise LayerExistsError(
            f"{directory.url}: there are objects, such as {entry.name!r}; choose another folder, "
            "or replace a folder of skeletons with mode='w'"
        )


def _clear(directory: Location) -> None:
    """Remove what lies in a folder of skeletons; ``info`` is replaced after it."""
    document = read_json(directory.child("info"), MAX_INFO_BYTES)
    kind = document.get("@type") if isinstance(document, dict) else None
    if document is not None and kind != "neuroglancer_skeletons":
        raise LayerExistsError(
            f"{directory.url}: its info says {kind!r} and not 'neuroglancer_skeletons', so nothing "
            "is removed; choose another folder, or delete this one yourself"
        )
    names = [entry.name for entry in directory.storage.list_dir(directory.key)]

    def remove(name: str) -> None:
        place = directory.child(name)
        place.storage.delete(place.key)

    run_bounded(
        [name for name in names if name != "info"],
        remove,
        workers=workers_for(directory),
        cost=lambda _: 0,
    )
    index_cache.clear()


def by_id(skeletons: Given) -> dict[int, Skeleton]:
    """Skeletons by segment id.

    Parameters
    ----------
    skeletons : osteoid.Skeleton, iterable of those, or mapping
        Whose keys win over the ids of its values, which may be paths of SWC files.

    Raises
    ------
    ValueError
        No id, one that is no uint64, or two skeletons of one segment.
    TypeError
    """
    if isinstance(skeletons, Mapping):
        pairs = [(key, value) for key, value in skeletons.items()]
    else:
        several = [skeletons] if hasattr(skeletons, "vertices") else skeletons
        pairs = [(getattr(each, "id", None), each) for each in several]
    found: dict[int, Skeleton] = {}
    for key, value in pairs:
        if key is None:
            raise ValueError(
                "a skeleton without an id; give a mapping of ids to skeletons, or set skeleton.id"
            )
        (number,) = as_ids([key])[0].tolist()
        if number in found:
            raise ValueError(f"segment {number}: two skeletons, expected one")
        is_path = isinstance(value, str | os.PathLike)
        found[number] = read_swc(value, number) if is_path else value
    return found
