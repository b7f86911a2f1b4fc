"""Storing meshes: what is given is checked as a whole, then encoded one by one and put.

How objects follow one another, and what two writers at once get, is told in `storing`.

The spatial index is told before all, and what it said before goes after all: what it names and is
not there is an error for who asks, and what is there unnamed would be left out without a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import draco
from xprecomputed.codecs._optional import optional
from xprecomputed.errors import AccessDeniedError, LayoutError, StorageError
from xprecomputed.keyed import as_ids
from xprecomputed.mesh.checking import check_mesh
from xprecomputed.mesh.encoding import Encoded, Levels, encode_mesh, stored_model
from xprecomputed.mesh.given import by_id, check_options
from xprecomputed.mesh.reading import keyed_values
from xprecomputed.mesh.storing import store_apart, store_legacy, store_sharded
from xprecomputed.metadata import MeshInfo

if TYPE_CHECKING:
    from xprecomputed.mesh.meshes import Meshes

__all__ = ["put_meshes"]

_MANIFEST = re.compile(r"\d+:0")


def put_meshes(
    source: Meshes,
    meshes: Any,
    *,
    num_lods: int | None = None,
    reduction: float = 0.25,
    chunk_shape: Sequence[float] | None = None,
    compression: Literal["auto", "gzip", "br", "zstd"] | None = "auto",
    cache_control: str | None = None,
) -> None:
    """Store meshes, each in the place of one that is there; others stay.

    Parameters
    ----------
    source : Meshes
    meshes : Mesh, iterable of Mesh, or mapping of int to mesh
        In nm. A Mesh has its ``segment_id``. In a mapping a mesh may be a ``trimesh.Trimesh`` or
        ``(vertices, faces)``, float (N, 3) and integers (M, 3), too, or a sequence of such: all
        levels of detail, the finest first. Where only one is given the coarser ones are made.
    num_lods : int, optional
        Levels of detail to make, 1 to 16. Otherwise by size: one for each time that a cube around
        the mesh must be halved until its cells have 16,384 triangles on average; fewer where
        triangles are too large for such cells, or coarser levels cannot be made.
    reduction : float
        Which part of its triangles each level keeps of the one before, above 0 and below 1.
    chunk_shape : three float, optional
        Cells of the finest level, x, y, z, in units of the stored model. Otherwise cubes, of
        which the coarsest level has one. Neuroglancer cannot show fragments of several million
        triangles: do not take them too large.
    compression : {"auto", None, "gzip", "br", "zstd"}
        Around the fragments of legacy meshes; "auto" is gzip where a header can tell it. Others
        are read by range and are never compressed.
    cache_control : str, optional
        Header of the objects, where the store has headers.

    Raises
    ------
    ValueError
        No id or two meshes of one; a mesh without triangles, with vertices that are not finite,
        or that has no place in the stored model; cells that would cut it to pieces without
        number; options that do not fit the format. Nothing is written then.
    TypeError
        Something that is no mesh, or an id that is no integer.
    MissingDependencyError
        DracoPy is absent, or fast-simplification where levels are to be made.
    CorruptDataError
        In a shard that is to be rewritten.
    LayoutError
        The folder has neither an info nor meshes; or it has a spatial index without any file, of
        which an address of the folder alone does not tell the bounds.
    NotFoundError
        A file of the spatial index is missing.
    InvalidInfoError, AccessDeniedError, StorageError, ConflictError

    Examples
    --------
    >>> from xprecomputed.mesh import create_meshes, open_meshes
    >>> from xprecomputed.storage import locate_url
    >>> place = locate_url("memory://doc/put_meshes")
    >>> info = create_meshes(place)
    >>> open_meshes(place).put({7: ([[0, 0, 0], [8, 0, 0], [0, 8, 0]], [[0, 1, 2]])})
    >>> open_meshes(place).get(7).bounds_nm.tolist()
    [[0.0, 0.0, 0.0], [8.0, 8.0, 0.0]]
    """
    info = source.info
    shape = check_options(
        info,
        num_lods=num_lods,
        reduction=reduction,
        chunk_shape=chunk_shape,
        compression=compression,
    )
    given = by_id(meshes)
    if not source.has_info:
        _require_meshes(source, given)
    for key, levels in given.items():
        check_mesh(key, levels, info, shape, num_lods)
    if info.is_multires:
        optional("DracoPy", draco.PURPOSE)
    encode = partial(encode_mesh, num_lods=num_lods, reduction=reduction, chunk_shape=shape)
    index: AbstractContextManager[None] = nullcontext()
    if info.spatial_index is not None:
        index = source.spatial_index.replacing({key: levels[0] for key, levels in given.items()})
    with index:
        _store(source, given, encode, compression, cache_control)


def _store(
    source: Meshes,
    given: Mapping[int, Levels],
    encode: Callable[[Levels, MeshInfo], Encoded],
    compression: str | None,
    cache_control: str | None,
) -> None:
    directory, info = source.directory, source.info
    values = keyed_values(directory, info)

    def encoded(key: int) -> Encoded:
        try:
            return encode(given[key], info)
        except ValueError as error:
            raise ValueError(f"mesh of segment {key}: {error}") from None

    def stored(key: int) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
        vertices, faces = given[key][0]
        return stored_model(vertices, info).astype(np.float32), faces.astype(np.uint32)

    if info.is_multires:
        store = store_apart if info.sharding is None else store_sharded
        store(values, given, encoded, cache_control)
        return
    if compression == "auto":
        compression = "gzip" if directory.storage.has_headers else None
    store_legacy(values, given, stored, compression, cache_control)


def _require_meshes(source: Meshes, given: Mapping[int, Levels]) -> None:
    """Refuse a folder without an info that is not one of meshes, as far as can be told."""
    directory = source.directory
    try:
        entries = directory.storage.list_dir(directory.key)
        there = any(_MANIFEST.fullmatch(entry.name) for entry in entries)
    except (AccessDeniedError, StorageError):  # it cannot be listed
        there = bool(source.values.exists(as_ids(given)[0]).any())
    if not there:
        raise LayoutError(
            f"{directory.url}: there is no info and no mesh; make the folder first, with "
            f"xp.create_mesh({directory.url!r}), or check the address"
        )
