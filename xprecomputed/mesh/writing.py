"""Storing meshes: what is given is checked as a whole, then encoded one by one and put.

What a reader finds first, the manifest, comes last, so a mesh appears whole or not at all. Where
one is replaced whose manifest and fragments are objects of their own, the old manifest goes
first: for a moment, or after an interruption, there is no such mesh, and never one of old
fragments in new places. Shards are replaced as a whole. A legacy mesh is written as a single
fragment, so that of its old manifest nothing new can be made a wrong mesh.

The spatial index is told before all: what it names and is not there yet is an error for who asks,
and what is there unnamed would be left out without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import compress, draco
from xprecomputed.codecs._optional import optional
from xprecomputed.errors import CorruptDataError
from xprecomputed.keyed import KeyedValues, Value, as_ids
from xprecomputed.mesh.encoding import Levels, check_mesh, encode_mesh, stored_model
from xprecomputed.mesh.given import by_id, check_options
from xprecomputed.mesh.legacy import encode_fragment, encode_manifest, parse_manifest
from xprecomputed.mesh.reading import keyed_values
from xprecomputed.parallel import decode_slot, run_bounded
from xprecomputed.storage import Location, workers_for

if TYPE_CHECKING:
    from xprecomputed.mesh.meshes import Meshes

__all__ = ["put_meshes"]

Make: TypeAlias = Callable[[int], Value]


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
        the mesh must be halved until its cells have 16,384 triangles on average.
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
        or that has no place in the stored model; options that do not fit the format.
    TypeError
        Something that is no mesh, or an id that is no integer.
    MissingDependencyError
        DracoPy is absent, or fast-simplification where levels are to be made.
    CorruptDataError
        In a shard that is to be rewritten.
    AccessDeniedError, StorageError, ConflictError

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
    for key, levels in given.items():
        check_mesh(key, levels, info, shape, num_lods)
    values = keyed_values(source.directory, info)
    if info.is_multires:
        optional("DracoPy", draco.PURPOSE)
        encode = partial(encode_mesh, num_lods=num_lods, reduction=reduction, chunk_shape=shape)
    if info.spatial_index is not None:
        source.spatial_index.update({key: levels[0][0] for key, levels in given.items()})
    if not info.is_multires:
        _put_legacy(source, values, given, compression, cache_control)
        return

    def make(key: int) -> Value:
        with decode_slot():
            encoded = encode(given[key], info)
        manifest = encoded.manifest.to_bytes()
        if info.sharding is not None:
            return Value(manifest, before=encoded.fragments)
        old, place = values.place(key), source.directory.child(str(key))
        old.storage.delete(old.key)
        place.storage.put(place.key, encoded.fragments, cache_control=cache_control)
        return Value(manifest)

    values.put(_OnDemand(given, make), cache_control=cache_control)


@dataclass(frozen=True, slots=True)
class _OnDemand(Mapping[int, Value]):
    """Values that are made when they are asked for, which is once."""

    given: Mapping[int, Levels]
    make: Make

    def __getitem__(self, key: int) -> Value:
        return self.make(key)

    def __iter__(self) -> Iterator[int]:
        return iter(self.given)

    def __len__(self) -> int:
        return len(self.given)


def _put_legacy(
    source: Meshes,
    values: KeyedValues,
    given: Mapping[int, Levels],
    compression: str | None,
    cache_control: str | None,
) -> None:
    directory, info = source.directory, source.info
    if compression == "auto":
        compression = "gzip" if directory.storage.has_headers else None
    before = _named(values, as_ids(given)[0])

    def make(key: int) -> Value:
        name, (vertices, faces) = f"{key}:0:1", given[key][0]
        with decode_slot():
            stored = stored_model(vertices, info).astype(np.float32)
            data = encode_fragment(stored, faces.astype(np.uint32))
            if compression is not None:
                data = compress(data, compression)
        place = directory.child(name)
        place.storage.put(place.key, data, encoding=compression, cache_control=cache_control)
        return Value(encode_manifest([name]))

    values.put(_OnDemand(given, make), cache_control=cache_control)
    # nobody else names them, as far as a name can tell
    left = [
        directory.child(name)
        for key, names in before.items()
        for name in names
        if name.startswith(f"{key}:") and name != f"{key}:0:1"
    ]
    _remove(directory, left)


def _remove(directory: Location, places: Sequence[Location]) -> None:
    def remove(place: Location) -> None:
        place.storage.delete(place.key)

    run_bounded(places, remove, workers=max(1, min(workers_for(directory), len(places))))


def _named(values: KeyedValues, ids: NDArray[np.uint64]) -> dict[int, tuple[str, ...]]:
    """The fragments of the meshes that are there; a broken manifest is replaced like any other."""
    names: dict[int, tuple[str, ...]] = {}

    def note(position: int, data: Any) -> None:
        if data is not None:
            key = int(ids[position])
            try:
                names[key] = parse_manifest(data, values.place_of(key))
            except CorruptDataError:
                names[key] = ()

    values.read(ids, note)
    return names
