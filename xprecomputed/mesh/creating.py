"""Making a folder of meshes: its ``info``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from numpy.typing import ArrayLike

from xprecomputed.keyed.creating import Mode, Sharding, make_folder, sharding_json, transform_json
from xprecomputed.metadata import LEGACY, MULTIRES, MeshInfo, SpatialIndexInfo, Transform
from xprecomputed.storage import Location

__all__ = ["create_meshes"]

FORMATS = {MULTIRES: MULTIRES, LEGACY: LEGACY, "multires": MULTIRES, "legacy": LEGACY}

Format = Literal["multires", "legacy", "neuroglancer_multilod_draco", "neuroglancer_legacy_mesh"]


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
    mode: Mode = "w-",
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
    if format not in FORMATS:
        raise ValueError(f"format={format!r}: expected one of {list(FORMATS)}")
    kind = FORMATS[format]
    members = {
        "@type": kind,
        "vertex_quantization_bits": vertex_quantization_bits if kind == MULTIRES else None,
        "lod_scale_multiplier": lod_scale_multiplier if kind == MULTIRES else None,
        "transform": transform_json(transform),
        "sharding": sharding_json(sharding, num_labels, "raw"),
        "spatial_index": spatial_index,
        "mip": mip,
        "chunk_size": chunk_size,
        "segment_properties": segment_properties,
        **(extra or {}),
    }
    return make_folder(directory, members, MeshInfo.from_json, mode, (LEGACY, MULTIRES))
