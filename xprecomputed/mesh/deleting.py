"""Removing meshes with all that belongs to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xprecomputed.mesh.reading import keyed_values, manifest_names
from xprecomputed.metadata import MeshInfo
from xprecomputed.parallel import run_bounded
from xprecomputed.storage import Location, workers_for

__all__ = ["delete_meshes"]


def delete_meshes(directory: Location, info: MeshInfo, ids: NDArray[np.uint64]) -> int:
    """Remove meshes; how many there were.

    Raises
    ------
    CorruptDataError
        The manifest of a legacy mesh, which says what belongs to it.
    AccessDeniedError, StorageError
    """
    values = keyed_values(directory, info)
    parts: list[str] = []
    if not info.is_multires:
        parts = [name for names in manifest_names(values, ids) for name in names or ()]
    elif info.sharding is None:
        parts = list(map(str, ids.tolist()))
    gone = values.delete(ids.tolist())  # first: without a manifest there is no mesh

    def remove(name: str) -> None:
        place = directory.child(name)
        place.storage.delete(place.key)

    workers = max(1, min(workers_for(directory), len(parts)))
    run_bounded(parts, remove, workers=workers)
    return len(gone)
