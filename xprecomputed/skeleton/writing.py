"""A new folder of skeletons, and skeletons to put into one as people give them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from xprecomputed.keyed import as_ids
from xprecomputed.keyed.creating import Mode, Sharding, make_folder, sharding_json, transform_json
from xprecomputed.metadata import SkeletonInfo, SpatialIndexInfo, Transform, VertexAttribute
from xprecomputed.metadata.skeleton import TYPE
from xprecomputed.skeleton.files import read_swc
from xprecomputed.skeleton.format import Skeleton
from xprecomputed.storage import Location

__all__ = ["Given", "by_id", "create_skeletons"]

Attribute: TypeAlias = str | VertexAttribute | Mapping[str, Any]
#: What `Skeletons.put` takes.
Given: TypeAlias = "Skeleton | Iterable[Skeleton] | Mapping[int, Skeleton | str | Path]"


def create_skeletons(
    directory: Location,
    *,
    vertex_attributes: str | Sequence[Attribute] = ("radius",),
    transform: Transform | Any | None = None,
    sharding: Sharding = None,
    num_labels: int | None = None,
    spatial_index: SpatialIndexInfo | Mapping[str, Any] | None = None,
    mip: int | None = None,
    segment_properties: str | None = None,
    mode: Mode = "w-",
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
    attributes = [vertex_attributes] if isinstance(vertex_attributes, str) else vertex_attributes
    members = {
        "@type": TYPE,
        "transform": transform_json(transform),
        "vertex_attributes": [
            VertexAttribute(id=each) if isinstance(each, str) else each for each in attributes
        ],
        "sharding": sharding_json(sharding, num_labels, "gzip"),
        "spatial_index": spatial_index,
        "mip": mip,
        "segment_properties": segment_properties,
        **(extra or {}),
    }
    return make_folder(directory, members, SkeletonInfo.from_json, mode, (TYPE,))


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
    if isinstance(skeletons, str | os.PathLike):
        raise TypeError(f"{skeletons}: whose skeleton? put({{segment_id: {str(skeletons)!r}}})")
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
