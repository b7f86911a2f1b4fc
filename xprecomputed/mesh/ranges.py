"""Fetching the fragments of multi-resolution meshes, out of shards or objects of their own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Bytes, decompress, draco
from xprecomputed.errors import ConflictError, CorruptDataError, PrecomputedError
from xprecomputed.keyed import KeyedValues
from xprecomputed.mesh import multires
from xprecomputed.mesh.manifest import Manifest
from xprecomputed.mesh.mesh import Mesh
from xprecomputed.mesh.multires import LodPlan
from xprecomputed.mesh.wanted import Raw, Wanted, assemble, is_inside
from xprecomputed.mesh.watched import WatchedManifest
from xprecomputed.metadata import MeshInfo
from xprecomputed.options import get_options
from xprecomputed.parallel import decode_slot, run_bounded
from xprecomputed.shard_format import locate
from xprecomputed.storage import uncached, workers_for
from xprecomputed.storage.shards import ATTEMPTS, Fetch, Placed, coalesce

__all__ = ["read_multires"]

MAX_FRAGMENT_BYTES = 1 << 30

#: A fragment that has not come yet.
_NOTHING: Raw = (np.empty((0, 3)), np.empty((0, 3), np.uint32))
#: Gets the position of an id, the number of a fragment in its plan, and the bytes.
Take = Callable[[int, int, Bytes], None]


class _Stored(NamedTuple):
    """One mesh that is there."""

    manifest: Manifest
    #: the shard, or the position of the id where it has an object of its own
    source: int
    #: where in that file its fragments begin
    begin: int


def read_multires(
    values: KeyedValues, info: MeshInfo, ids: NDArray[np.uint64], wanted: Wanted
) -> list[Mesh | None]:
    """The mesh of each id, None where there is none.

    Raises
    ------
    LodNotFoundError
        A mesh lacks the lod.
    ConflictError
        Shards or meshes were replaced again and again.
    CorruptDataError, AccessDeniedError, StorageError
    """
    anew: frozenset[int] = frozenset()
    may_be_old = uncached(values.directory).storage is not values.directory.storage
    for _ in range(ATTEMPTS - 1):
        try:
            return _Batch(values, info, ids, anew).read(wanted)
        except ConflictError:  # indexes and fragments of two versions: begin with the indexes
            pass
        except CorruptDataError:
            if not may_be_old:
                raise
            may_be_old = False  # what a cache held of it is forgotten by now
        if values.sharding is not None:
            anew = frozenset(locate(values.sharding, ids).shards.tolist())
    return _Batch(values, info, ids, anew).read(wanted)


@dataclass(slots=True, eq=False)
class _Batch:
    """One attempt at many meshes.

    Parameters
    ----------
    values : KeyedValues
    info : MeshInfo
    ids : ndarray of uint64, shape (N,)
    anew : set of int
        Shards whose indexes are read, whatever is remembered.
    """

    values: KeyedValues
    info: MeshInfo
    ids: NDArray[np.uint64]
    anew: frozenset[int]
    stored: dict[int, _Stored] = field(default_factory=dict)
    #: of shards, or of the objects of fragments
    versions: dict[int, Hashable] = field(default_factory=dict)
    watched: dict[int, WatchedManifest] = field(default_factory=dict)

    def read(self, wanted: Wanted) -> list[Mesh | None]:
        if self.values.sharding is None:
            self._read_manifests()
        else:
            self._find_in_shards()
        if wanted.max_vertices is None:
            plans = {position: self._plan(position, wanted) for position in self.stored}
            fragments = {position: [_NOTHING] * len(plan.cells) for position, plan in plans.items()}

            def decode(position: int, number: int, data: Bytes) -> None:
                fragments[position][number] = self._decoded(position, plans[position], number, data)

            self._fetch(plans, decode)
        else:
            plans, fragments = self._within(wanted.max_vertices, wanted)
        self._check_manifests()
        meshes: list[Mesh | None] = [None] * len(self.ids)

        def assemble(position: int) -> None:
            found = fragments.pop(position)
            meshes[position] = self._assembled(position, plans[position], found, wanted)

        threads = get_options().decode_threads
        run_bounded(plans, assemble, workers=max(1, min(threads, len(plans))))
        return meshes

    def _read_manifests(self) -> None:
        def fetch(position: int) -> None:
            place = self.values.place(int(self.ids[position]))
            found = WatchedManifest.read(place, self.values.max_value_bytes)
            if found is not None:
                self.stored[position] = _Stored(self._parse(position, found.data), position, 0)
                self.watched[position] = found

        workers = min(workers_for(self.values.directory), len(self.ids))
        run_bounded(range(len(self.ids)), fetch, workers=workers)

    def _check_manifests(self) -> None:
        """Begin again where fragments may be of another mesh than their manifest."""
        if self.values.sharding is not None:
            return  # one version for both

        def check(position: int) -> None:
            if not self.watched[position].is_still_there(self.versions[position]):
                raise self._replaced(position)

        workers = max(1, min(workers_for(self.values.directory), len(self.versions)))
        run_bounded(self.versions, check, workers=workers)

    def _find_in_shards(self) -> None:
        spec, sharded = self.values.sharding, self.values.sharded()
        found = sharded.find(self.ids, self.anew)
        self.versions = found.versions
        longest = int((found.stops - found.starts).max())
        if longest > self.values.max_value_bytes:
            raise self._corrupt(
                int((found.stops - found.starts).argmax()),
                f"a mesh manifest of {longest} bytes, at most {self.values.max_value_bytes} are "
                "read",
            )

        def take(position: int, data: Bytes) -> None:
            if spec is not None and spec.data_encoding == "gzip":
                try:
                    data = decompress(data, "gzip", self.values.max_value_bytes)
                except CorruptDataError as error:
                    raise self._corrupt(position, error) from None
            manifest = self._parse(position, data)
            begin = int(found.starts[position]) - manifest.data_bytes
            if spec is not None and begin < spec.shard_index_bytes:
                raise self._corrupt(
                    position,
                    f"its manifest lies at byte {found.starts[position]} and lists fragments of "
                    f"{manifest.data_bytes} bytes, which would begin before the end of the shard "
                    "index",
                )
            self.stored[position] = _Stored(manifest, int(found.shards[position]), begin)

        sharded.all_stored(found, take)

    def _parse(self, position: int, data: Bytes) -> Manifest:
        try:
            return Manifest.parse(data)
        except CorruptDataError as error:
            raise self._corrupt(position, error) from None

    def _plan(self, position: int, wanted: Wanted) -> LodPlan:
        manifest, where = self.stored[position].manifest, self._where(position)
        if wanted.max_error_nm is None:
            lod = multires.choose_lod(manifest, wanted.lod, where)
        else:
            lod = multires.coarsest_within(manifest, self.info, wanted.max_error_nm, where)
        return multires.plan_lod(manifest, self.info, lod, wanted.box)

    def _within(
        self, max_vertices: int, wanted: Wanted
    ) -> tuple[dict[int, LodPlan], dict[int, list[Raw]]]:
        """The finest lods that have at most so many vertices; nothing more is decoded."""
        stored = {position: each.manifest.stored_lods for position, each in self.stored.items()}
        chosen: dict[int, LodPlan] = {}
        kept: dict[int, list[Bytes]] = {}
        left = set(self.stored)
        for step in range(1, 1 + max([1, *map(len, stored.values())])):
            plans = {}
            for position in left:
                manifest = self.stored[position].manifest
                # the coarsest is there, or it is an error
                if step == 1 or step <= len(stored[position]):
                    lod = multires.choose_lod(manifest, -step, self._where(position))
                    plans[position] = multires.plan_lod(manifest, self.info, lod, wanted.box)
            read = self._raw(plans)
            for position, plan in plans.items():
                fits = self._count(position, plan, read[position]) <= max_vertices
                if fits or step == 1:
                    chosen[position], kept[position] = plan, read[position]
                if not fits:
                    left.discard(position)
            left &= set(plans)
        fragments = {position: [_NOTHING] * len(plan.cells) for position, plan in chosen.items()}

        def decode(task: tuple[int, int]) -> None:
            position, number = task
            data = kept[position][number]
            fragments[position][number] = self._decoded(position, chosen[position], number, data)

        tasks = [(position, number) for position in chosen for number in range(len(kept[position]))]
        threads = get_options().decode_threads
        run_bounded(tasks, decode, workers=max(1, min(threads, len(tasks))))
        return chosen, fragments

    def _raw(self, plans: dict[int, LodPlan]) -> dict[int, list[Bytes]]:
        raw: dict[int, list[Bytes]] = {
            position: [b""] * len(plan.cells) for position, plan in plans.items()
        }

        def take(position: int, number: int, data: Bytes) -> None:
            raw[position][number] = bytes(data)

        self._fetch(plans, take)
        return raw

    def _count(self, position: int, plan: LodPlan, fragments: list[Bytes]) -> int:
        try:
            return sum(map(draco.vertex_count, fragments))
        except CorruptDataError as error:
            raise self._corrupt(position, f"lod {plan.lod}: {error}") from None

    def _decoded(self, position: int, plan: LodPlan, number: int, data: Bytes) -> Raw:
        try:
            with decode_slot():
                return draco.decode(data)
        except CorruptDataError as error:
            about = f"lod {plan.lod}, cell {plan.cells[number].tolist()}: {error}"
            raise self._corrupt(position, about) from None

    def _assembled(
        self, position: int, plan: LodPlan, fragments: list[Raw], wanted: Wanted
    ) -> Mesh:
        """The mesh of those fragments that touch the box."""
        manifest, lod = self.stored[position].manifest, plan.lod
        try:
            parts = multires.placed(fragments, plan.cells, manifest, self.info, lod)
        except CorruptDataError as error:
            raise self._corrupt(position, f"lod {lod}: {error}") from None
        kept = [part for part in parts if is_inside(part[0], wanted.box)]
        resolution = multires.resolution_nm(manifest, self.info, lod)
        return assemble(kept, int(self.ids[position]), lod, resolution)

    def _fetch(self, plans: dict[int, LodPlan], take: Take) -> None:
        """Hand all fragments of some plans to `take`, from several threads, in any order."""
        names: list[tuple[int, int]] = []
        ranges: dict[int, list[Placed]] = {}
        for position, plan in plans.items():
            _, source, begin = self.stored[position]
            here = ranges.setdefault(source, [])
            longest = int((plan.stops - plan.starts).max(initial=0))
            if longest > MAX_FRAGMENT_BYTES:
                raise self._corrupt(
                    position,
                    f"a fragment of {longest} bytes, at most {MAX_FRAGMENT_BYTES} are read",
                )
            for number, (start, stop) in enumerate(
                zip(plan.starts.tolist(), plan.stops.tolist(), strict=True)
            ):
                here.append(Placed(len(names), begin + start, begin + stop))
                names.append((position, number))
        threads = get_options().decode_threads

        def fetch(one: Fetch) -> None:
            view = memoryview(self._bytes(one))
            run_bounded(
                one.values,
                lambda each: take(
                    *names[each.position], view[each.start - one.start : each.stop - one.start]
                ),
                workers=min(threads, len(one.values)),
            )

        run_bounded(
            self._fetches(ranges),
            fetch,
            workers=workers_for(self.values.directory),
            cost=lambda one: one.stop - one.start,
        )

    def _fetches(self, ranges: dict[int, list[Placed]]) -> Iterator[Fetch]:
        versions = self.versions if self.values.sharding is not None else dict.fromkeys(ranges)
        return coalesce(ranges, versions)

    def _bytes(self, one: Fetch) -> Bytes:
        if self.values.sharding is not None:
            return self.values.sharded().part(one.shard, one.start, one.stop, one.version)
        place = self.values.directory.child(str(self.ids[one.shard]))
        blob = place.storage.get_range(place.key, one.start, one.stop)
        if blob is None:
            raise self._corrupt(
                one.shard,
                f"it lists fragments in {place.url}, but there is no such object; the mesh is "
                "not whole",
            )
        if self.versions.setdefault(one.shard, blob.version) != blob.version:
            raise self._replaced(one.shard)
        if len(blob.data) != one.stop - one.start:
            raise self._corrupt(
                one.shard,
                f"it lists fragments up to byte {one.stop} of {place.url}, which ends at byte "
                f"{one.start + len(blob.data)}",
            )
        return blob.data

    def _where(self, position: int) -> str:
        return self.values.place_of(int(self.ids[position]))

    def _corrupt(self, position: int, about: object) -> PrecomputedError:
        """An error of one mesh, of which caches are to keep nothing."""
        self._forget(position)
        watched = self.watched.get(position)
        if watched is not None and not watched.is_still_there():
            return self._replaced(position)
        return CorruptDataError(f"{self._where(position)}: {about}")

    def _replaced(self, position: int) -> ConflictError:
        self._forget(position)
        return ConflictError(
            f"{self._where(position)}: the mesh was replaced while it was read, {ATTEMPTS} times; "
            "read again. Or several servers behind this address give the same object ETags of "
            "their own: read from one of them"
        )

    def _forget(self, position: int) -> None:
        key = int(self.ids[position])
        if self.values.sharding is not None:
            self.values.sharded().forget(key)
        else:
            for place in (self.values.place(key), self.values.directory.child(str(key))):
                place.storage.forget(place.key)
