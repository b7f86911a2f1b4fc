"""Meshes that others replace while they are read, or since a cache has seen them."""

import gzip
import json

import numpy as np
import pytest

from tests.mesh.handmade import (
    EXAMPLE,
    fragment,
    info,
    mesh,
    shard,
    sharding,
    write,
    write_legacy,
)  # fmt: skip
from tests.storage.far import far
from xprecomputed import ConflictError, CorruptDataError, InvalidURLError, set_options, trace
from xprecomputed.mesh import open_meshes, ranges
from xprecomputed.storage import FsspecStorage, LocalStorage, cached, index_cache, locate_url

LOW = [[0, 0, 0], [65535, 0, 0], [0, 65535, 0]]
LODS = [{(0, 0, 0): LOW, (1, 0, 0): LOW}, {(0, 0, 0): LOW}]


def opened(path):
    return open_meshes(locate_url(str(path)))


# ---- what is replaced meanwhile


def replacing(monkeypatch, path, changes):
    """Before each of the first reads of fragments, replace a file by the next of `changes`."""
    real, left = ranges._Batch._fetch, list(changes)

    def fetch(self, plans, take):
        if left:
            path.with_name("new").write_bytes(left.pop(0))
            path.with_name("new").rename(path)
        return real(self, plans, take)

    monkeypatch.setattr(ranges._Batch, "_fetch", fetch)
    return left


def moved(by):
    """A shard with mesh 7, and others before it so that it lies elsewhere."""
    lods = [{(0, 0, by): LOW}]
    return shard(dict.fromkeys(range(by), mesh(lods)) | {7: mesh(lods)})


def test_a_shard_that_is_replaced_is_read_again(tmp_path, monkeypatch):
    path = write(tmp_path, {}, info(sharding())) / "0.shard"
    path.write_bytes(moved(0))
    left = replacing(monkeypatch, path, [moved(1), moved(3)])
    found = opened(tmp_path).get(7)
    assert not left
    assert found.vertices[0].tolist() == [0, 0, 10 + 3 * 64]


def test_a_remembered_index_of_a_shard_that_was_replaced(tmp_path, monkeypatch):
    """Where asking for the version costs a request, as in clouds."""
    monkeypatch.setattr(LocalStorage, "fingerprint", lambda self, key: None)
    path = write(tmp_path, {}, info(sharding())) / "0.shard"
    path.write_bytes(moved(1))
    meshes = opened(tmp_path)
    assert meshes.get(7).vertices[0, 2] == 10 + 64
    (tmp_path / "new").write_bytes(moved(2))
    (tmp_path / "new").rename(path)
    assert meshes.get(7).vertices[0, 2] == 10 + 2 * 64


def test_a_shard_that_is_replaced_again_and_again(tmp_path, monkeypatch):
    path = write(tmp_path, {}, info(sharding())) / "0.shard"
    path.write_bytes(moved(0))
    replacing(monkeypatch, path, [moved(1 + n % 3) for n in range(50)])
    with pytest.raises(ConflictError, match="the shard was replaced or removed"):
        opened(tmp_path).get(7)


def test_a_mesh_that_is_replaced_between_two_ranges(tmp_path, monkeypatch):
    write(tmp_path, {7: mesh(LODS)}, info())
    real, count = LocalStorage.get_range, []

    def get_range(self, key, start, stop):
        count.append(key)
        if len(count) == 2:  # of the two ranges of the first attempt
            (tmp_path / "new").write_bytes((tmp_path / "7").read_bytes())
            (tmp_path / "new").rename(tmp_path / "7")
        return real(self, key, start, stop)

    monkeypatch.setattr(LocalStorage, "get_range", get_range)
    with set_options(coalesce_max_bytes=1, threads=1):
        assert len(opened(tmp_path).get(7).vertices) == 6
    assert len(count) == 4

    def ever_new(self, key, start, stop):
        (tmp_path / "new").write_bytes((tmp_path / "7").read_bytes())
        (tmp_path / "new").rename(tmp_path / "7")
        return real(self, key, start, stop)

    monkeypatch.setattr(LocalStorage, "get_range", ever_new)
    with (
        set_options(coalesce_max_bytes=1, threads=1),
        pytest.raises(ConflictError, match="the mesh was replaced while it was read, 5 times"),
    ):
        opened(tmp_path).get(7)


def swap(path, *meshes):
    """As writers replace mesh 7: its manifest goes, fragments and manifest come; None: it goes."""
    left = list(meshes)

    def meanwhile(key):
        if key.endswith("7.index") and left:
            new = left.pop(0)
            (path / "7.index").unlink()
            (path / "7").unlink(missing_ok=True)
            if new is not None:
                write(path, {7: new}, info())

    return meanwhile


HIGH = [LOW[0], LOW[2], LOW[1]]
OLD, NEW = mesh([{(0, 0, 0): LOW}, {(0, 0, 0): LOW}]), mesh([{(0, 0, 1): HIGH}, {(0, 0, 1): HIGH}])
LONGER = mesh([{(0, 0, 2): [*HIGH, [5, 5, 5]], (0, 0, 3): None}, {(0, 0, 0): LOW}])


def bottom(found):
    """Of which mesh it is: the lowest vertex in voxels above the grid's origin."""
    return round(float(found.vertices[:, 2].min() - 10) / 64, 3)


@pytest.mark.parametrize("has_versions", [True, False])
def test_an_old_manifest_makes_no_mesh_of_new_fragments(tmp_path, has_versions):
    assert len(OLD[1]) == len(NEW[1])
    write(tmp_path, {7: OLD}, info())
    place = far(tmp_path, has_versions=has_versions, meanwhile=swap(tmp_path, NEW))
    assert bottom(open_meshes(place).get(7)) == 1
    place = far(tmp_path, has_versions=has_versions, meanwhile=swap(tmp_path, OLD, NEW, OLD, None))
    assert open_meshes(place).get([7], max_vertices=5, missing="skip") == {}


def test_an_old_manifest_of_a_local_folder(tmp_path, monkeypatch):
    write(tmp_path, {7: OLD}, info())
    real, meanwhile = LocalStorage.get, swap(tmp_path, NEW)

    def get(self, key, max_bytes=None):
        found = real(self, key, max_bytes)
        meanwhile(key)
        return found

    monkeypatch.setattr(LocalStorage, "get", get)
    assert bottom(opened(tmp_path).get(7)) == 1


def test_an_old_manifest_in_memory(monkeypatch):
    place = locate_url("memory://tests/old-manifest")
    for name, data in {"7.index": OLD[0], "7": OLD[1]}.items():
        place.storage.put(place.child(name).key, data)
    place.storage.put(place.child("info").key, json.dumps(info()).encode())
    real, left = FsspecStorage.get_range, [NEW]

    def get_range(self, key, start, stop):
        if left:
            value, fragments = left.pop()
            self.put(place.child("7").key, fragments)
            self.put(place.child("7.index").key, value)
        return real(self, key, start, stop)

    monkeypatch.setattr(FsspecStorage, "get_range", get_range)
    assert bottom(open_meshes(place).get(7)) == 1


@pytest.mark.parametrize("options", [{}, {"lod": 1}, {"max_vertices": 100}])
@pytest.mark.parametrize("has_versions", [True, False])
def test_what_an_old_manifest_makes_of_other_fragments_is_no_error(tmp_path, has_versions, options):
    """Fragments that are missing, that end too early, or begin in the middle of a stream."""
    for before, after in ((OLD, LONGER), (LONGER, OLD)):
        write(tmp_path, {7: before}, info())
        place = far(tmp_path, has_versions=has_versions, meanwhile=swap(tmp_path, after))
        right = opened(write(tmp_path / "right", {7: after}, info())).get(7, **options)
        found = open_meshes(place).get(7, **options)
        np.testing.assert_array_equal(found.vertices, right.vertices)
    place = far(tmp_path, has_versions=has_versions, meanwhile=swap(tmp_path, None))
    assert open_meshes(place).get([7], missing="skip", **options) == {}


def test_a_mesh_that_is_replaced_again_and_again(tmp_path):
    write(tmp_path, {7: OLD}, info())
    place = far(tmp_path, meanwhile=swap(tmp_path, *[NEW, OLD] * 50))
    with pytest.raises(
        ConflictError, match=r"7\.index: the mesh was replaced while it was read, 5 times"
    ):
        open_meshes(place).get(7)


def test_the_manifest_is_asked_for_again_once(tmp_path):
    index_cache.clear()
    meshes = open_meshes(far(write(tmp_path, {7: OLD, 8: NEW}, info())))
    with trace() as t:
        meshes.get([7, 8])
    assert t.requests == 2 * 3
    with trace() as t:  # the same versions of both
        meshes.get([7, 8])
    assert t.requests == 2 * 2
    untold = open_meshes(far(tmp_path, has_versions=False))
    with trace() as t:
        untold.get([7, 8])
        untold.get([7, 8])
    assert t.requests == 2 * 2 * 3


def test_a_manifest_that_is_broken_meanwhile(tmp_path):
    write(tmp_path, {7: OLD}, info())
    states = ["whole"]

    def meanwhile(key):
        if key.endswith("/7") and states == ["whole"]:
            (tmp_path / "7.index").unlink()
            (tmp_path / "7.index.gz").write_bytes(gzip.compress(OLD[0])[:-1])
            states.append("broken")
        elif key.endswith("/7.index") and states[-1] == "broken":
            (tmp_path / "7.index.gz").unlink()
            write(tmp_path, {7: NEW}, info())
            states.append("mended")

    assert bottom(open_meshes(far(tmp_path, meanwhile=meanwhile)).get(7)) == 1
    assert states == ["whole", "broken", "mended"]


# ---- behind a cache


@pytest.mark.parametrize("new", [NEW, LONGER, None])
@pytest.mark.parametrize("old", [OLD, LONGER])
def test_a_cached_mesh_that_was_replaced(tmp_path, old, new):
    folder = write(tmp_path / "mesh", {7: old}, info())
    meshes = open_meshes(cached(far(folder), tmp_path / "cache"))
    meshes.get(7)
    swap(folder, new)("7.index")
    if new is None:
        assert meshes.get([7], lod=1, missing="skip") == {}
        return
    for lod in (1, 0):
        np.testing.assert_array_equal(
            meshes.get(7, lod=lod).vertices, opened(folder).get(7, lod=lod).vertices
        )


def test_cached_meshes_take_no_requests(tmp_path):
    folder = write(tmp_path / "mesh", {7: OLD}, info())
    meshes = open_meshes(cached(far(folder), tmp_path / "cache"))
    first = meshes.get(7)
    with trace() as t:
        np.testing.assert_array_equal(meshes.get(7).vertices, first.vertices)
    assert (t.requests, t.hits) == (0, 2)


@pytest.mark.parametrize(
    ("data_encoding", "value", "fragments", "message"),
    [
        ("raw", EXAMPLE, bytes(369), "would begin before"),
        ("raw", EXAMPLE[:-1], bytes(370), "mesh manifest of 115 bytes"),
        ("raw", EXAMPLE + bytes(500), bytes(370), "a mesh manifest of 616 bytes"),
        ("gzip", None, bytes(370), "gzip data that does not decompress"),
    ],
)
def test_a_cache_keeps_nothing_that_is_corrupt(
    tmp_path, monkeypatch, data_encoding, value, fragments, message
):
    monkeypatch.setattr("xprecomputed.mesh.reading.MAX_MANIFEST_BYTES", 300)
    folder = write(tmp_path / "mesh", {}, info(sharding(0, data_encoding)))
    broken = shard({7: (EXAMPLE if value is None else value, fragments)})
    (folder / "0.shard").write_bytes(broken)
    meshes = open_meshes(cached(far(folder), tmp_path / "cache"))
    with pytest.raises(CorruptDataError, match=message):
        meshes.get(7)
    (folder / "new").write_bytes(shard({7: OLD}, data_encoding))
    (folder / "new").rename(folder / "0.shard")
    assert bottom(meshes.get(7)) == 0


def test_a_cache_keeps_no_fragments_that_are_corrupt(tmp_path):
    folder = write(tmp_path / "mesh", {7: (OLD[0], b"x" * len(OLD[1]))}, info())
    meshes = open_meshes(cached(far(folder), tmp_path / "cache"))
    with trace() as t, pytest.raises(CorruptDataError, match="not a Draco stream"):
        meshes.get(7)
    assert t.requests == 2 * 3  # once more without the cache, and each time asked whether it is new
    (folder / "7").write_bytes(OLD[1])
    assert bottom(meshes.get(7)) == 0


# ---- legacy meshes that are replaced


def swap_legacy(path, *meshes):
    """As writers replace mesh 7: fragment, manifest, and then what nothing names goes."""
    left = list(meshes)

    def meanwhile(key):
        if key.endswith("7:0") and left:
            new = left.pop(0)
            (path / "7:0").unlink()
            for each in path.glob("7:0:*"):
                each.unlink()
            if new is not None:
                write_legacy(path, {7: new})

    return meanwhile


PARTS = [{f"7:0:{n}": fragment(np.add(LOW, n))} for n in range(1, 4)]


def test_a_legacy_mesh_that_is_replaced_is_read_again(tmp_path):
    write_legacy(tmp_path, {7: PARTS[0]})
    place = far(tmp_path, meanwhile=swap_legacy(tmp_path, PARTS[1], PARTS[2]))
    assert open_meshes(place).get(7).vertices[0].tolist() == [3, 3, 3]


def test_a_legacy_mesh_that_is_removed_is_missing(tmp_path):
    write_legacy(tmp_path, {7: PARTS[0]})
    place = far(tmp_path, meanwhile=swap_legacy(tmp_path, None))
    assert open_meshes(place).get([7], missing="skip") == {}


def test_a_legacy_mesh_that_is_replaced_again_and_again(tmp_path):
    write_legacy(tmp_path, {7: PARTS[0]})
    place = far(tmp_path, meanwhile=swap_legacy(tmp_path, *PARTS[1:], *PARTS * 10))
    with pytest.raises(
        ConflictError, match="7:0: the mesh was replaced while it was read, 5 times"
    ):
        open_meshes(place).get(7)


def test_a_legacy_fragment_that_is_missing(tmp_path):
    write_legacy(tmp_path, {7: PARTS[0]})
    (tmp_path / "7:0:1").unlink()
    for place in (far(tmp_path), cached(far(tmp_path), tmp_path / "cache")):
        with pytest.raises(CorruptDataError, match="7:0:1: there is no such fragment, but .*/7:0"):
            open_meshes(place).get(7)


def test_a_cached_manifest_of_a_legacy_mesh_that_was_replaced(tmp_path):
    folder = write_legacy(tmp_path / "mesh", {7: PARTS[0]})
    place = cached(far(folder), tmp_path / "cache")
    place.storage.get(place.child("7:0").key)
    swap_legacy(folder, PARTS[1])("7:0")
    assert open_meshes(place).get(7).vertices[0].tolist() == [2, 2, 2]


@pytest.mark.parametrize("key", ["x/8:0:1%00", "x/%2e%2e"])
def test_names_that_no_server_can_be_asked_for(key):
    storage = locate_url("http://127.0.0.1:9/x").storage
    for ask in (storage.get, storage.size, lambda key: storage.get_range(key, 0, 1)):
        with pytest.raises(InvalidURLError, match="no name that an object can have"):
            ask(key)
