"""Meshes that several write at once, or that somebody stops writing half-way."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from tests.mesh.shapes import matched, sphere
from xprecomputed.errors import ConflictError, LayoutError, StorageError
from xprecomputed.mesh import create_meshes, open_meshes
from xprecomputed.storage import Storage, Unchanged, locate_url

ONE = sphere(6)
OTHER = sphere(9, radius=500, centre=(3000, 0, 0))
KINDS = {"legacy": {"format": "legacy"}, "unsharded": {"format": "multires"}}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def folder(tmp_path):
    return locate_url(str(tmp_path / "mesh"))


def made(folder, kind):
    create_meshes(folder, **KINDS[kind])
    return open_meshes(folder)


def names(folder):
    return sorted(entry.name for entry in folder.storage.list_dir(folder.key))


def is_one(mesh, given):
    vertices, faces = (np.asarray(each) for each in given)
    if len(mesh.faces) != len(faces):
        return False
    found = mesh.vertices[mesh.faces].astype(float)
    return np.abs(matched(vertices[faces], found) - vertices[faces]).max() < 0.1


def at_once(*tasks):
    failed = []

    def run(task):
        try:
            task()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failed


def test_of_two_writers_at_once_one_wins_whole(folder, kind, monkeypatch):
    meshes = made(folder, kind)
    plain = type(folder.storage).put
    met = threading.Barrier(2)

    def slow(self, key, data, **options):
        plain(self, key, data, **options)
        if key.endswith("/7") or "/7:0:" in key:
            try:
                met.wait(0.2)  # until the other has put fragments, too, if nothing keeps it
            except threading.BrokenBarrierError:
                met.reset()

    monkeypatch.setattr(type(folder.storage), "put", slow)
    for _ in range(3):
        at_once(lambda: meshes.put({7: ONE}), lambda: meshes.put({7: OTHER}))
        found = meshes.get(7)
        assert is_one(found, ONE) or is_one(found, OTHER)
        # nothing of the one that lost is left
        assert len(names(folder)) == 3


def test_putting_and_deleting_at_once_leaves_a_mesh_or_none(folder, kind):
    meshes = made(folder, kind)
    for _ in range(10):
        at_once(lambda: meshes.put({7: ONE}), lambda: meshes.delete(7))
        found = meshes.get(7, missing="skip")
        assert found is None or is_one(found, ONE)


class Cloud:
    """`Storage.update` as clouds have it: by versions, which a conditional put heeds."""

    def __init__(self, monkeypatch, storage):
        self.versions, self.count, self.between = {}, 0, lambda _: None
        put, delete = type(storage).put, type(storage).delete

        def update(_, key, work, *, anyway=False):
            for _ in range(3):
                try:
                    return work(Unchanged(self.versions.get(key)))
                except ConflictError:
                    continue
            raise ConflictError("again and again")

        def conditional(this, key, data, *, only_if=None, **options):
            self.between(key)
            if only_if is not None and only_if.version != self.versions.get(key):
                raise ConflictError("somebody was faster")
            self.count += 1
            self.versions[key] = self.count
            put(this, key, data, **options)

        def forgetting(this, key):
            self.versions.pop(key, None)
            return delete(this, key)

        monkeypatch.setattr(type(storage), "update", update)
        monkeypatch.setattr(type(storage), "put", conditional)
        monkeypatch.setattr(type(storage), "delete", forgetting)


def test_in_clouds_who_is_slower_begins_again(folder, kind, monkeypatch):
    meshes = made(folder, kind)
    meshes.put({7: sphere(4)})
    cloud = Cloud(monkeypatch, folder.storage)
    manifest = meshes.values.place(7).key
    seen = []

    def somebody(key):
        if key == manifest and not seen:  # our fragments are there, our manifest is not
            seen.append(key)
            meshes.put({7: OTHER})

    cloud.between = somebody
    meshes.put({7: ONE})
    assert seen
    assert is_one(meshes.get(7), ONE)
    assert len(names(folder)) == 3  # also what the other has put was known, and is gone


def test_in_clouds_who_gives_up_leaves_no_mixture(folder, monkeypatch):
    meshes = made(folder, "unsharded")
    cloud = Cloud(monkeypatch, folder.storage)
    inside = []

    def somebody(key):
        if key.endswith("7.index") and not inside:
            inside.append(key)
            meshes.put({7: OTHER})
            inside.clear()

    cloud.between = somebody
    with pytest.raises(ConflictError, match="again and again"):
        meshes.put({7: ONE})
    assert meshes.exists(7) is False


def test_what_is_interrupted_is_the_old_mesh_or_none(folder, kind, monkeypatch):
    meshes = made(folder, kind)
    meshes.put({7: ONE})
    plain = {name: getattr(type(folder.storage), name) for name in ("put", "delete")}
    for steps in range(4):
        left = [steps]

        def limited(name, self, *given, left=left, **options):
            if not left[0]:
                raise StorageError("the line is cut")
            left[0] -= 1
            return plain[name](self, *given, **options)

        with monkeypatch.context() as patch:
            for name in plain:
                patch.setattr(
                    type(folder.storage),
                    name,
                    lambda self, *given, name=name, limited=limited, **options: limited(
                        name, self, *given, **options
                    ),
                )
            if steps < 3:
                with pytest.raises(StorageError, match="cut"):
                    meshes.put({7: OTHER})
            else:
                meshes.put({7: OTHER})
        found = meshes.get(7, missing="skip")
        if kind == "legacy":
            assert is_one(found, ONE if steps < 2 else OTHER)
        elif steps == 3:
            assert is_one(found, OTHER)
        else:
            assert (found is None) if steps else is_one(found, ONE)


def test_a_fragment_of_two_meshes_is_not_overwritten(folder):
    meshes = made(folder, "legacy")
    meshes.put({7: ONE})
    old = json.loads(folder.storage.get(folder.child("7:0").key).data)["fragments"]
    data = folder.storage.get(folder.child(old[0]).key).data
    folder.storage.put(folder.child("shared").key, data)
    both = json.dumps({"fragments": ["shared"]}).encode()
    for key in (7, 8):
        folder.storage.put(folder.child(f"{key}:0").key, both)
    meshes.put({7: OTHER})
    assert is_one(meshes.get(8), ONE)
    assert is_one(meshes.get(7), OTHER)
    assert meshes.delete(7) == 1
    assert is_one(meshes.get(8), ONE)


def test_no_name_of_a_fragment_comes_again(folder):
    # or a writer who is late would remove what another has just written again
    meshes = made(folder, "legacy")
    seen = set()
    for _ in range(5):
        meshes.put({7: ONE})
        (fragment,) = set(names(folder)) - {"info", "7:0"}
        assert fragment not in seen
        seen.add(fragment)
    assert is_one(meshes.get(7), ONE)


def test_a_folder_without_info_and_meshes_is_refused(folder, monkeypatch):
    meshes = open_meshes(folder)
    with pytest.raises(LayoutError, match=r"no info and no mesh; .*xp\.create_mesh\('.*mesh'\)"):
        meshes.put({7: ONE})
    assert names(folder) == []

    def unlisted(*_):
        raise StorageError("no listing")

    monkeypatch.setattr(type(folder.storage), "list_dir", unlisted)
    with pytest.raises(LayoutError, match="no info and no mesh"):
        meshes.put({7: ONE})


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_folder_without_info_that_has_meshes_is_written(folder, monkeypatch, is_listed):
    made(folder, "legacy").put({7: ONE})
    folder.storage.delete(folder.child("info").key)
    if not is_listed:
        monkeypatch.setattr(type(folder.storage), "list_dir", Storage.list_dir)
    open_meshes(folder).put({7: OTHER})
    assert is_one(open_meshes(folder).get(7), OTHER)
