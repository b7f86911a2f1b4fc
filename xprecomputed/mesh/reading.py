"""Fetching the meshes of many segments at once.

One wave brings all manifests, the next the fragments: of legacy meshes each is an object, of
others ranges, joined where they lie close together. What was fetched is decoded at once, on as
many threads as there are cores.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Bytes
from xprecomputed.errors import ConflictError, CorruptDataError, LodNotFoundError, PrecomputedError
from xprecomputed.keyed import KeyedValues, read_object
from xprecomputed.mesh import legacy
from xprecomputed.mesh.mesh import Mesh
from xprecomputed.mesh.multires import bytes_before
from xprecomputed.mesh.ranges import read_multires
from xprecomputed.mesh.wanted import Nm, Part, Wanted, assemble, is_inside, touches
from xprecomputed.metadata import MeshInfo
from xprecomputed.parallel import decode_slot, run_bounded
from xprecomputed.storage import Location, workers_for
from xprecomputed.storage.shards import ATTEMPTS

__all__ = ["keyed_values", "manifest_names", "read_meshes"]

MAX_MANIFEST_BYTES = 1 << 28
MAX_FRAGMENT_BYTES = 1 << 30
#: What a fragment of its own object takes, as long as nobody knows.
USUAL_FRAGMENT_BYTES = 1 << 20


def keyed_values(directory: Location, info: MeshInfo) -> KeyedValues:
    """What a mesh directory stores by id: the manifests."""
    if not info.is_multires:
        return KeyedValues(directory, None, ":0", legacy.MAX_MANIFEST_BYTES)
    suffix = "" if info.sharding is not None else ".index"
    return KeyedValues(directory, info.sharding, suffix, MAX_MANIFEST_BYTES, bytes_before)


def read_meshes(
    directory: Location, info: MeshInfo, ids: NDArray[np.uint64], wanted: Wanted
) -> list[Mesh | None]:
    """The mesh of each id, None where there is none.

    Raises
    ------
    LodNotFoundError
        A mesh lacks the lod.
    CorruptDataError
        A manifest or a fragment is, or a fragment is missing.
    ConflictError
        Shards or meshes were replaced again and again.
    AccessDeniedError, StorageError
    """
    values = keyed_values(directory, info)
    if not len(ids):
        return []
    if info.is_multires:
        return read_multires(values, info, ids, wanted)
    return _read_legacy(values, info, ids, wanted)


def manifest_names(values: KeyedValues, ids: NDArray[np.uint64]) -> list[tuple[str, ...] | None]:
    """The names of the fragments of legacy meshes, None where there is no manifest.

    Raises
    ------
    CorruptDataError, AccessDeniedError, StorageError
    """
    names: list[tuple[str, ...] | None] = [None] * len(ids)

    def parse(position: int, data: Bytes | None) -> None:
        if data is not None:
            where = values.place_of(int(ids[position]))
            names[position] = legacy.parse_manifest(data, where)

    values.read(ids, parse)
    return names


def _read_legacy(
    values: KeyedValues, info: MeshInfo, ids: NDArray[np.uint64], wanted: Wanted
) -> list[Mesh | None]:
    if wanted.lod not in (0, -1):
        raise LodNotFoundError(
            f"{values.directory.url}: no lod {wanted.lod}; meshes of {info.type} have [0]"
        )
    for _ in range(ATTEMPTS - 1):
        try:
            return _read_named(values, info, ids, wanted)
        except ConflictError:
            pass
    return _read_named(values, info, ids, wanted)


def _read_named(
    values: KeyedValues, info: MeshInfo, ids: NDArray[np.uint64], wanted: Wanted
) -> list[Mesh | None]:
    """Legacy meshes, by the names in their manifests; one attempt."""
    manifests = manifest_names(values, ids)
    parts: list[list[Part | None]] = [[None] * len(names or ()) for names in manifests]
    tasks = [
        (position, number, name)
        for position, names in enumerate(manifests)
        for number, name in enumerate(names or ())
        if _may_touch(name, info, wanted.box)
    ]

    def fetch(task: tuple[int, int, str]) -> None:
        position, number, name = task
        place = values.directory.child(name)
        part = _read_fragment(place, info)
        if part is None:
            error = _missing_fragment(values, int(ids[position]), manifests[position], place)
            raise error
        if is_inside(part[0], wanted.box):
            parts[position][number] = part

    run_bounded(
        tasks,
        fetch,
        workers=max(1, min(workers_for(values.directory), len(tasks))),
        cost=lambda _: USUAL_FRAGMENT_BYTES,
    )
    return [
        None if names is None else assemble(found, int(ids[position]))
        for position, (names, found) in enumerate(zip(manifests, parts, strict=True))
    ]


def _missing_fragment(
    values: KeyedValues, key: int, names: tuple[str, ...] | None, fragment: Location
) -> PrecomputedError:
    """What it means that a fragment is missing: who replaces a mesh removes its old ones."""
    manifest = values.place(key)
    manifest.storage.forget(manifest.key)
    if manifest_names(values, np.array([key], np.uint64)) != [names]:
        return ConflictError(
            f"{manifest.url}: the mesh was replaced while it was read, {ATTEMPTS} times; read again"
        )
    return CorruptDataError(
        f"{fragment.url}: there is no such fragment, but {manifest.url} names it; the mesh is not "
        "whole"
    )


def _may_touch(name: str, info: MeshInfo, box: Nm | None) -> bool:
    """Whether a legacy fragment of this name may have something in a box."""
    voxels = legacy.fragment_box(name)
    if (
        box is None
        or voxels is None
        or info.spatial_index is None
        or not info.transform.is_identity
    ):
        return True
    around = np.array(voxels, float) + np.array([[-1], [1]])  # surfaces reach into the next voxel
    return bool(touches(around * np.array(info.spatial_index.resolution, float), box))


def _read_fragment(place: Location, info: MeshInfo) -> Part | None:
    data = read_object(place, MAX_FRAGMENT_BYTES)
    if data is None:
        return None
    try:
        with decode_slot():
            vertices, faces = legacy.decode_fragment(data)
            return info.transform.apply(vertices), faces
    except CorruptDataError as error:
        place.storage.forget(place.key)  # or a cache would give it for ever
        raise CorruptDataError(f"{place.url}: {error}") from None
