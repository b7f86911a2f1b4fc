"""Making a folder of meshes: its ``info``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from xprecomputed.errors import LayerExistsError
from xprecomputed.keyed import read_json
from xprecomputed.metadata import LEGACY, MULTIRES, MeshInfo, ShardingSpec, SpatialIndexInfo
from xprecomputed.metadata.transform import Transform
from xprecomputed.parallel import run_bounded
from xprecomputed.shard_format import sharding_for_ids
from xprecomputed.storage import Location, Unchanged, index_cache, workers_for

__all__ = ["create_meshes"]

FORMATS = {MULTIRES: MULTIRES, LEGACY: LEGACY, "multires": MULTIRES, "legacy": LEGACY}
MAX_INFO_BYTES = 1 << 24
#: What lies in folders of meshes, ours and those of others.
_KNOWN = re.compile(r"info|provenance|\d+|\d+:.*|\d+\.index|.+\.(shard|spatial|frags|labels)")

Format = Literal["multires", "legacy", "neuroglancer_multilod_draco", "neuroglancer_legacy_mesh"]
Sharding = Literal["auto"] | ShardingSpec | Mapping[str, Any] | None


def create_meshes(
    directory: Location,
    *,
    format: Format = "multires",  # noqa: A002 - as the format itself is called
    sharding: Sharding = None,
    num_labels: int | None = None,
    vertex_quantization_bits: Literal[10, 16] = 16,
    transform: Transform | ArrayLike | None = None,
    lod_scale_multiplier: float = 1,
    spatial_index: SpatialIndexInfo | Mapping[str, Any] | None = None,
    mip: int | None = None,
    chunk_size: Sequence[int] | None = None,
    segment_properties: str | None = None,
    mode: Literal["w-", "w"] = "w-",
    extra: Mapping[str, Any] | None = None,
) -> MeshInfo:
    """Write the ``info`` of a folder of meshes.

    Parameters
    ----------
    directory : Location
    format : {"multires", "legacy"}
        Also by their names in the format, ``"neuroglancer_multilod_draco"`` and
        ``"neuroglancer_legacy_mesh"``.
    sharding : None, "auto", ShardingSpec or mapping
        None: objects of their own for each mesh. "auto": shards of the sizes that CloudVolume
        and Igneous choose for `num_labels` meshes. Legacy meshes have none.
    num_labels : int, optional
        About how many meshes there will be, for "auto".
    vertex_quantization_bits : {16, 10}
        Of multi-resolution meshes: a vertex is moved by up to half of a cell of its level
        divided by 65,535 or 1,023 (see `xprecomputed.mesh.encoding.encode_mesh`).
    transform : Transform, array_like of shape (3, 4) or 12 numbers, optional
        Stored model to nm; otherwise the identity: what is stored is nm.
    lod_scale_multiplier : float
        Of multi-resolution meshes; above 1 viewers take coarser levels. What is written divides
        by it, so that both together are nm.
    spatial_index : SpatialIndexInfo or mapping, optional
        ``{"resolution": (x, y, z), "chunk_size": (x, y, z)}``, both in nm: `put` notes where
        meshes are.
    mip : int, optional
        Of the segmentation that was meshed; a note.
    chunk_size : three int, optional
        Voxels of that mip that one meshing task took, x, y, z; a note.
    segment_properties : str, optional
        Relative folder.
    mode : {"w-", "w"}
        "w-" makes a new folder; "w" removes the meshes that are there, and all other objects of
        such a folder, not those of folders in it.
    extra : mapping, optional
        Further members of the document.

    Returns
    -------
    MeshInfo

    Raises
    ------
    LayerExistsError
        There are objects, and `mode` is "w-"; or they are those of something else than meshes.
    InvalidInfoError
        With everything that is wrong with the arguments.
    ValueError
        An unknown `format` or `mode`, or "auto" without `num_labels`.
    AccessDeniedError, StorageError

    Examples
    --------
    >>> from xprecomputed.storage import locate_url
    >>> place = locate_url("memory://doc/create_meshes")
    >>> voxels = (16, 0, 0, 0, 0, 16, 0, 0, 0, 0, 40, 0)
    >>> info = create_meshes(place, sharding="auto", num_labels=1_000_000, transform=voxels)
    >>> info.sharding.shard_bits, info.transform.apply([[1, 1, 1]])
    (1, array([[16., 16., 40.]], dtype=float32))
    """
    if mode not in ("w-", "w"):
        raise ValueError(f"mode={mode!r}: expected 'w-' or 'w'")
    if format not in FORMATS:
        raise ValueError(f"format={format!r}: expected one of {list(FORMATS)}")
    place = directory.child("info")
    kind = FORMATS[format]
    document = {
        "@type": kind,
        "vertex_quantization_bits": vertex_quantization_bits if kind == MULTIRES else None,
        "lod_scale_multiplier": lod_scale_multiplier if kind == MULTIRES else None,
        "transform": _twelve(transform),
        "sharding": _sharding(sharding, num_labels),
        "spatial_index": _plain(spatial_index),
        "mip": mip,
        "chunk_size": None if chunk_size is None else list(chunk_size),
        "segment_properties": segment_properties,
        **(extra or {}),
    }
    given = {name: value for name, value in document.items() if value is not None}
    info = MeshInfo.from_json(given, place.url)

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


def _sharding(sharding: Sharding, num_labels: int | None) -> Any:
    if sharding != "auto":
        return _plain(sharding)
    if num_labels is None:
        raise ValueError("sharding='auto' needs num_labels, about how many meshes there will be")
    return sharding_for_ids(num_labels).to_json()


def _plain(value: Any) -> Any:
    """The JSON of a value of ours, or of whoever gave JSON."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if not isinstance(value, Mapping):
        return value
    return {name: list(each) if isinstance(each, tuple) else each for name, each in value.items()}


def _require_empty(directory: Location) -> None:
    entry = next(iter(directory.storage.list_dir(directory.key)), None)
    if entry is not None:
        raise LayerExistsError(
            f"{directory.url}: there are objects, such as {entry.name!r}; choose another folder, "
            "or replace a folder of meshes with mode='w'"
        )


def _clear(directory: Location) -> None:
    """Remove what lies in a folder of meshes, but for ``info``, which is replaced after it."""
    document = read_json(directory.child("info"), MAX_INFO_BYTES)
    names = [entry.name for entry in directory.storage.list_dir(directory.key)]
    if document is not None:
        kind = document.get("@type") if isinstance(document, dict) else None
        if kind not in (LEGACY, MULTIRES):
            raise LayerExistsError(
                f"{directory.url}: its info says {kind!r}, which is none of meshes, so nothing is "
                "removed; choose another folder, or delete this one yourself"
            )
    else:  # the oldest folders of meshes have none
        strange = [name for name in names if not _KNOWN.fullmatch(name)]
        if strange:
            raise LayerExistsError(
                f"{directory.url}: there is no info, and {strange[0]!r} belongs to no mesh, so "
                "nothing is removed; choose another folder, or delete this one yourself"
            )

    def remove(name: str) -> None:
        place = directory.child(name)
        place.storage.delete(place.key)

    run_bounded([name for name in names if name != "info"], remove, workers=workers_for(directory))
    index_cache.clear()  # not every store can tell that an object was replaced
