"""Removing meshes with all that belongs to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xprecomputed.mesh.reading import keyed_values, manifest_names
from xprecomputed.mesh.storing import own_fragments, remove_objects
from xprecomputed.metadata import MeshInfo
from xprecomputed.parallel import run_bounded
from xprecomputed.storage import Location, Unchanged, workers_for

__all__ = ["delete_meshes"]


def delete_meshes(directory: Location, info: MeshInfo, ids: NDArray[np.uint64]) -> int:
    """Remove meshes; how many there were.

    Of the fragments of a legacy mesh those go that are called after it, ``<id>:...``: others may
    be of other meshes, too. Where writers can be kept apart (`Storage.exclusive`), each mesh is
    removed before or after whatever is put in its place.

    Raises
    ------
    CorruptDataError
        The manifest of a legacy mesh, which says what belongs to it.
    AccessDeniedError, StorageError
    """
    values = keyed_values(directory, info)
    if info.is_multires and info.sharding is not None:
        return len(values.delete(ids.tolist()))
    numbers: list[int] = ids.tolist()
    if info.is_multires:
        parts = {key: [str(key)] for key in numbers}
    else:
        listed = zip(numbers, manifest_names(values, ids), strict=True)
        parts = {key: own_fragments(key, names or ()) for key, names in listed}
    gone: list[int] = []

    def delete(key: int) -> None:
        place = values.place(key)

        def work(_: Unchanged | None) -> bool:
            there = place.storage.delete(place.key)  # first: without a manifest there is no mesh
            remove_objects(directory, parts[key])
            return there

        if place.storage.update(place.key, work, anyway=True):
            gone.append(key)

    run_bounded(numbers, delete, workers=max(1, min(workers_for(directory), len(numbers))))
    return len(gone)
