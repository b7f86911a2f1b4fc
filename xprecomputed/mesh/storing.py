"""Meshes into their objects, each in the place of one that is there.

What a reader finds first, the manifest, comes last, so a mesh appears whole or not at all.

In shards, both are in one object, which is replaced as a whole: old or new, whoever else writes.

Apart, fragments have one name, whatever mesh they are of. So the old manifest goes before, and the
new one comes after: for a moment, or after an interruption, there is no such mesh, and never an
old manifest with new fragments. Of several who write one mesh at once the last one wins. On disks
each waits for the other. In clouds a manifest is only put where there is none, as its writer has
left it; who finds another takes that away, which has fragments of two meshes, and begins again.
Until then such a mixture may be read, and it stays if one of them is interrupted in between, or
somebody deletes the mesh. Where neither can be done (see `Storage.update`), nothing keeps two
writers of one mesh apart.

A legacy mesh is written as a single fragment with a name that no other ever has, nor had: it
overwrites no fragment of another mesh, and the mesh is the old one until the manifest is replaced.
Then the old fragments are removed that are called after the segment, and no others, which may be of
several segments. Since no name comes again, a writer who is late removes nothing that is in use.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import compress
from xprecomputed.errors import ConflictError, CorruptDataError
from xprecomputed.keyed import KeyedValues, Value, read_object
from xprecomputed.mesh.encoding import Encoded
from xprecomputed.mesh.legacy import encode_fragment, encode_manifest, parse_manifest
from xprecomputed.parallel import decode_slot, run_bounded
from xprecomputed.storage import Location, Unchanged, workers_for

__all__ = ["own_fragments", "remove_objects", "store_apart", "store_legacy", "store_sharded"]

#: A mesh by segment id, made when it is asked for.
Encode: TypeAlias = Callable[[int], Encoded]
#: Vertices in the stored model, float32 (N, 3), and faces, uint32 (M, 3), by segment id.
Stored: TypeAlias = Callable[[int], tuple[NDArray[np.float32], NDArray[np.uint32]]]


def store_sharded(
    values: KeyedValues, ids: Iterable[int], encode: Encode, cache_control: str | None
) -> None:
    """Store meshes in shards, manifests behind their fragments."""

    def make(key: int) -> Value:
        with decode_slot():
            encoded = encode(key)
        return Value(encoded.manifest.to_bytes(), before=encoded.fragments)

    values.put(_OnDemand(tuple(ids), make), cache_control=cache_control)


@dataclass(frozen=True, slots=True)
class _OnDemand(Mapping[int, Value]):
    """Values that are made when they are asked for, which is once."""

    ids: tuple[int, ...]
    make: Callable[[int], Value]

    def __getitem__(self, key: int) -> Value:
        return self.make(key)

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


def store_apart(
    values: KeyedValues, ids: Iterable[int], encode: Encode, cache_control: str | None
) -> None:
    """Store multi-resolution meshes in two objects each."""

    def store(key: int) -> None:
        with decode_slot():
            encoded = encode(key)
        data, manifest = encoded.fragments, encoded.manifest.to_bytes()
        at, fragments = values.place(key), values.directory.child(str(key))

        def work(only_if: Unchanged | None) -> None:
            at.storage.delete(at.key)
            fragments.storage.put(fragments.key, data, cache_control=cache_control)
            if only_if is not None:
                only_if = Unchanged(None)  # that there was is gone
            try:
                at.storage.put(at.key, manifest, cache_control=cache_control, only_if=only_if)
            except ConflictError:
                at.storage.delete(at.key)  # somebody's manifest, with our fragments
                raise

        at.storage.update(at.key, work, anyway=True)

    _each(values.directory, tuple(ids), store)


def store_legacy(
    values: KeyedValues,
    ids: Iterable[int],
    stored: Stored,
    compression: str | None,
    cache_control: str | None,
) -> None:
    """Store legacy meshes, a fragment and a manifest each."""

    def store(key: int) -> None:
        with decode_slot():
            data = encode_fragment(*stored(key))
            name = f"{key}:0:{secrets.token_hex(8)}"
            if compression is not None:
                data = compress(data, compression)
        at, fragment = values.place(key), values.directory.child(name)

        def work(only_if: Unchanged | None) -> None:
            before = _listed(values, key)
            fragment.storage.put(
                fragment.key, data, encoding=compression, cache_control=cache_control
            )
            manifest = encode_manifest([name])
            at.storage.put(at.key, manifest, cache_control=cache_control, only_if=only_if)
            left = [each for each in own_fragments(key, before) if each != name]
            remove_objects(values.directory, left)

        at.storage.update(at.key, work, anyway=True)

    _each(values.directory, tuple(ids), store)


def _listed(values: KeyedValues, key: int) -> tuple[str, ...]:
    """The fragments of a mesh that is there; a broken manifest is replaced like any other."""
    place = values.place(key)
    try:
        data = read_object(place, values.max_value_bytes)
        return () if data is None else parse_manifest(data, place.url)
    except CorruptDataError:
        return ()


def own_fragments(key: int, names: Iterable[str]) -> list[str]:
    """Those that are called after their segment: nobody else names them, as far as names tell."""
    return [name for name in names if name.startswith(f"{key}:")]


def remove_objects(directory: Location, names: Sequence[str]) -> None:
    """Remove objects of a folder; those that are not there are fine."""

    def remove(name: str) -> None:
        place = directory.child(name)
        place.storage.delete(place.key)

    run_bounded(names, remove, workers=max(1, min(workers_for(directory), len(names))))


def _each(directory: Location, ids: Sequence[int], store: Callable[[int], None]) -> None:
    run_bounded(ids, store, workers=max(1, min(workers_for(directory), len(ids))))
