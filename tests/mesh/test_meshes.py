"""The public class over folders that were packed by hand."""

import asyncio
import gzip
import json
import pickle

import numpy as np
import pytest
from dask.base import tokenize

from tests.mesh.handmade import fragment, info, mesh, sharding, write, write_legacy
from xprecomputed import CorruptDataError, InvalidInfoError, NotFoundError, OutOfBoundsError, trace
from xprecomputed.errors import LodNotFoundError, SegmentMissingError
from xprecomputed.mesh import Mesh, Meshes, open_meshes
from xprecomputed.mesh.writing import put_meshes
from xprecomputed.metadata import MeshInfo
from xprecomputed.storage import locate_url

FULL = 65535
LOW = [[0, 0, 0], [FULL, 0, 0], [0, FULL, 0]]
SLOPE = [[0, 0, 0], [FULL, 0, FULL], [0, FULL, FULL]]
FOUR = [*LOW, [FULL, FULL, FULL]]
#: Two lods: three cells, one of them empty, and the one above them.
LODS = [{(0, 0, 0): LOW, (1, 0, 0): None, (0, 1, 0): SLOPE}, {(0, 0, 0): LOW}]
#: Voxels of 16 x 16 x 40 nm.
NM = [16, 0, 0, 0, 0, 16, 0, 0, 0, 0, 40, 0]
FORMS = {
    "unsharded": None,
    "sharded": sharding(1),
    "gzipped manifests": sharding(1, "gzip"),
}


def opened(path):
    return open_meshes(locate_url(str(path)))


@pytest.fixture(params=FORMS)
def three(request, tmp_path):
    """Meshes 7, 8 and 2**63 + 1, each 1000 nm further along x."""
    meshes = {
        key: mesh(LODS, origin=(62.5 * number, 0, 10))
        for number, key in enumerate((7, 8, 2**63 + 1))
    }
    return opened(write(tmp_path / "mesh", meshes, info(FORMS[request.param], NM)))


@pytest.fixture
def legacy(tmp_path):
    """Meshes 7 (two fragments, at 0 and at 800 nm), 8 (one) and 9 (none)."""
    low, high = np.array([[0, 0, 0], [8, 0, 0], [0, 8, 0]]), [[800, 0, 0]] * 3
    fragments = {
        7: {"7:0:0-50_0-50_0-50": fragment(low), "7:0:50-100_0-50_0-50": fragment(low + high)},
        8: {"8:0:50-100_0-50_0-50": fragment(low + high)},
        9: {},
    }
    index = {"resolution": [16, 16, 40], "chunk_size": [800, 800, 2000]}
    return write_legacy(tmp_path / "mesh", fragments, {"spatial_index": index})


# ---- multi-resolution


def test_vertices_in_nm_whatever_the_form(three):
    found = three.get(8)
    assert found.vertices.tolist() == [
        [1000, 0, 400], [2024, 0, 400], [1000, 1024, 400],
        [1000, 1024, 400], [2024, 1024, 2960], [1000, 2048, 2960],
    ]  # fmt: skip
    assert found.faces.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (found.segment_id, found.lod, found.resolution_nm) == (8, 0, 40)
    coarse = three.get(8, lod=1)
    assert coarse.vertices.tolist() == [[1000, 0, 400], [3048, 0, 400], [1000, 2048, 400]]
    assert (coarse.lod, coarse.resolution_nm) == (1, 80)
    assert three.get(8, lod=-1).equals(coarse)
    assert three.get(8, lod=-2).equals(found)


def test_one_several_and_fused(three):
    several = three.get([2**63 + 1, 7])
    assert list(several) == [2**63 + 1, 7]
    assert several[7].equals(three.get(7))
    fused = three.get(np.array([2**63 + 1, 7], np.uint64), fuse=True)
    assert fused.equals(Mesh.fuse(several.values()))
    assert fused.segment_id is None
    assert three.get([]) == {}
    assert three.get([7])[7].equals(three.get(7))
    assert three.get(7, fuse=True).equals(three.get(7))


def test_missing_ones(three):
    with pytest.raises(SegmentMissingError, match="there is no mesh of 2 segments: 5, 6") as caught:
        three.get([5, 7, 6])
    assert caught.value.segment_ids == (5, 6)
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, FileNotFoundError)
    with pytest.raises(SegmentMissingError, match="mesh of segment 5; missing='skip'"):
        three.get(5)
    assert list(three.get([5, 7, 6], missing="skip")) == [7]
    assert three.get(5, missing="skip") is None
    assert three.get([5], missing="skip", fuse=True).equals(Mesh.empty())
    with pytest.raises(ValueError, match="missing='fill'"):
        three.get(7, missing="fill")


def test_a_lod_that_is_not_there(three):
    with pytest.raises(LodNotFoundError, match=r"no lod 2; this mesh has \[0, 1\]"):
        three.get([7, 8], lod=2)


def test_lods_by_vertices(three):
    assert three.get(7, max_vertices=6).lod == 0
    assert three.get(7, max_vertices=5).lod == 1
    assert three.get(7, max_vertices=0).lod == 1  # all have more: the coarsest
    assert three.get(7, max_vertices=6).equals(three.get(7))
    assert three.get(7, max_vertices=3, bbox=((0, 0, 0), (2000, 500, 9999))).lod == 0
    found = three.get([8, 7], max_vertices=5, weld=True)
    assert {key: each.lod for key, each in found.items()} == {8: 1, 7: 1}


def test_lods_by_error(three):
    assert [three.get(7, max_error_nm=nm).lod for nm in (39, 40, 79.9, 80, 1e9)] == [0, 0, 0, 1, 1]


def test_seams_are_welded(three):
    assert len(three.get(7, weld=True).vertices) == 5
    assert len(three.get(7, weld=False).vertices) == 6
    assert len(three.get(7, weld=30).vertices) == 5
    fused = three.get([7, 8], fuse=True, weld=True)
    assert len(fused.vertices) == 10  # of each alone


def test_boxes(three):
    whole = three.get(7)
    part = three.get(7, bbox={"y": (1100, 1200)})
    assert part.vertices.tolist() == whole.vertices[3:].tolist()
    nothing = three.get(7, bbox=((1e6, 0, 0), (2e6, 1, 1)))
    assert nothing.equals(Mesh.empty(7))
    assert nothing.resolution_nm == 40
    # the cell reaches there, its triangle does not
    assert len(three.get(7, bbox={"z": (2000, 2100)}).vertices) == 3
    assert three.get(7, bbox={"z": (500, 600), "y": (0, 500)}).equals(Mesh.empty(7))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lod": 0.5}, TypeError, "lod=0.5"),
        ({"lod": True}, TypeError, "lod=True"),
        ({"lod": 1, "max_vertices": 9}, ValueError, "give one of them"),
        ({"max_error_nm": 1, "max_vertices": 9}, ValueError, "give one of them"),
        ({"max_vertices": -1}, ValueError, "max_vertices=-1"),
        ({"max_vertices": 1.5}, ValueError, r"max_vertices=1\.5"),
        ({"max_error_nm": -1}, ValueError, "max_error_nm=-1"),
        ({"max_error_nm": float("nan")}, ValueError, "max_error_nm=nan"),
        ({"max_error_nm": "a"}, ValueError, "max_error_nm='a'"),
        ({"weld": -1}, ValueError, "weld=-1"),
        ({"weld": "yes"}, ValueError, "weld='yes'"),
        ({"bbox": (1, 2)}, OutOfBoundsError, "bounds"),
    ],
)
def test_options_that_make_no_sense(three, options, error, message):
    with trace() as t, pytest.raises(error, match=message):
        three.get(7, **options)
    assert not t.requests


def test_ids_exist(three):
    assert three.ids().tolist() == [7, 8, 2**63 + 1]
    assert three.ids().dtype == np.uint64
    assert three.exists(7) is True
    assert three.exists([7, 5]) == {7: True, 5: False}


def test_delete(three, tmp_path):
    with trace() as t:
        assert three.delete([7, 5]) == 1
    assert t.requests
    assert three.ids().tolist() == [8, 2**63 + 1]
    assert three.get(8).vertices[0].tolist() == [1000, 0, 400]
    assert three.get(2**63 + 1).vertices[0].tolist() == [2000, 0, 400]
    with pytest.raises(SegmentMissingError):
        three.get(7)
    assert not (tmp_path / "mesh" / "7").exists()
    assert three.delete(8) == 1
    assert three.delete([]) == 0


# ---- legacy


def test_legacy_meshes(legacy):
    meshes = opened(legacy)
    found = meshes.get(7)
    assert found.vertices.tolist()[:4] == [[0, 0, 0], [8, 0, 0], [0, 8, 0], [800, 0, 0]]
    assert found.faces.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (found.lod, found.resolution_nm, found.segment_id) == (0, None, 7)
    assert meshes.get(9).equals(Mesh.empty(9))
    assert list(meshes.get([9, 7, 8])) == [9, 7, 8]
    assert meshes.get(7, lod=-1).equals(found)
    assert meshes.get(7, max_vertices=1).equals(found)
    assert meshes.get(7, max_error_nm=1).equals(found)
    assert meshes.ids().tolist() == [7, 8, 9]
    assert meshes.exists([7, 5]) == {7: True, 5: False}
    with pytest.raises(LodNotFoundError, match=r"no lod 1; meshes of .* have \[0\]"):
        meshes.get(7, lod=1)
    with pytest.raises(SegmentMissingError, match="mesh/5:0: there is no mesh of segment 5"):
        meshes.get([5, 7])


def test_a_transform_is_applied_as_cloudvolume_does(legacy):
    document = json.loads((legacy / "info").read_text()) | {"transform": NM}
    (legacy / "info").write_text(json.dumps(document))
    assert opened(legacy).get(8).vertices[1].tolist() == [808 * 16, 0, 0]
    # names tell voxels, but a transform may move what they hold anywhere
    assert len(opened(legacy).get(8, bbox={"x": (12900, 13000)}).vertices) == 3


def test_without_info(legacy):
    (legacy / "info").unlink()
    meshes = opened(legacy)
    assert not meshes.has_info
    assert repr(meshes) == f"<Meshes of file://{legacy}: legacy (without an info)>"
    assert len(meshes.get(7).vertices) == 6


def test_compressed_objects(legacy):
    first, second = sorted(legacy.glob("7:0:*"))
    (legacy / f"{first.name}.gz").write_bytes(gzip.compress(first.read_bytes()))
    first.unlink()
    second.write_bytes(gzip.compress(second.read_bytes()))  # and nothing tells of it
    manifest = legacy / "7:0"
    (legacy / "7:0.gz").write_bytes(gzip.compress(manifest.read_bytes()))
    manifest.unlink()
    assert len(opened(legacy).get(7).vertices) == 6


@pytest.mark.parametrize("count", [35615, 559903])
def test_counts_that_look_like_gzip(tmp_path, count):
    data = fragment(np.zeros((count, 3)))
    assert data[:2] == b"\x1f\x8b"
    write_legacy(tmp_path, {7: {"7:0:1": data}})
    assert len(opened(tmp_path).get(7).vertices) == count


def test_fragments_outside_of_a_box_are_not_fetched(legacy):
    meshes = opened(legacy)
    box = ((0, 0, 0), (700, 800, 2000))
    with trace() as t:
        found = meshes.get([7, 8, 9], bbox=box)
    assert {key: len(each.vertices) for key, each in found.items()} == {7: 3, 8: 0, 9: 0}
    assert sorted(name.rpartition("/")[2] for name in t.objects) == [
        "7:0", "7:0:0-50_0-50_0-50", "8:0", "9:0",
    ]  # fmt: skip
    # the voxel at the border belongs to both
    with trace() as t:
        assert len(meshes.get(7, bbox=((0, 0, 0), (790, 800, 2000))).vertices) == 3
    assert t.requests == 3


def test_without_a_resolution_all_fragments_are_fetched(legacy):
    (legacy / "info").write_text('{"@type": "neuroglancer_legacy_mesh"}')
    with trace() as t:
        assert len(opened(legacy).get(7, bbox={"x": (0, 700)}).vertices) == 3
    assert t.requests == 4


def test_a_fragment_that_is_missing(legacy):
    (legacy / "7:0:50-100_0-50_0-50").unlink()
    with pytest.raises(
        CorruptDataError, match="7:0:50-100.*no such fragment, but .*mesh/7:0 names"
    ):
        opened(legacy).get([7, 8], missing="skip")


def test_delete_of_legacy_meshes(legacy, monkeypatch):
    meshes = opened(legacy)
    assert meshes.delete([7, 5, 9]) == 2
    assert sorted(p.name for p in legacy.iterdir()) == ["8:0", "8:0:50-100_0-50_0-50", "info"]


def test_an_interrupted_delete_leaves_no_half_of_a_mesh(legacy, monkeypatch):
    from xprecomputed.storage import LocalStorage

    deleted = []
    real = LocalStorage.delete

    def delete(self, key):
        deleted.append(key.rpartition("/")[2])
        if len(deleted) == 2:
            raise OSError("pulled the plug")
        return real(self, key)

    monkeypatch.setattr(LocalStorage, "delete", delete)
    with pytest.raises(OSError, match="pulled the plug"):
        opened(legacy).delete(7)
    assert deleted[0] == "7:0"
    assert opened(legacy).get(7, missing="skip") is None


def test_fragments_of_others_are_not_deleted(legacy):
    (legacy / "7:0").write_text('{"fragments": ["8:0:50-100_0-50_0-50", "7:0:0-50_0-50_0-50"]}')
    assert opened(legacy).delete(7) == 1
    left = sorted(p.name for p in legacy.iterdir())
    assert left == ["7:0:50-100_0-50_0-50", "8:0", "8:0:50-100_0-50_0-50", "9:0", "info"]
    assert len(opened(legacy).get(8).vertices) == 3


def test_a_folder_without_info_says_so(legacy):
    (legacy / "info").unlink()
    with pytest.raises(SegmentMissingError, match=r"5:0 \(the folder has no info, .*segment 5"):
        opened(legacy).get(5)


def test_what_a_hostile_manifest_names_is_not_deleted(legacy):
    (legacy / "7:0").write_text('{"fragments": ["8:0:50-100_0-50_0-50", "info"]}')
    with pytest.raises(CorruptDataError, match="names another document"):
        opened(legacy).delete(7)
    assert (legacy / "info").exists()


# ---- spatial index, files, other ways


def test_the_spatial_index(legacy):
    boxes = {"7": [0, 0, 0, 808, 8, 0], "8": [800, 0, 0, 808, 8, 0]}
    (legacy / "0-1600_0-800_0-2000.spatial").write_text(json.dumps(boxes))
    meshes = opened(legacy)
    assert meshes.ids_in({"x": (0, 700)}).tolist() == [7]
    found = meshes.get_by_bbox(((799, 0, 0), (900, 9, 9)))
    assert {key: len(each.vertices) for key, each in found.items()} == {7: 6, 8: 3}
    box = ((799, 0, 0), (900, 9, 9))
    assert len(meshes.get_by_bbox(box, crop=True)[7].vertices) == 3
    assert len(meshes.get_by_bbox(box, fuse=True).vertices) == 9
    assert meshes.spatial_index.boxes()[8].tolist() == [[800, 0, 0], [808, 8, 0]]
    meshes.delete(8)
    assert meshes.ids_in(box).tolist() == [7]


def test_no_spatial_index(three):
    with pytest.raises(NotFoundError, match="names no spatial index, which is made"):
        three.ids_in(((0, 0, 0), (1, 1, 1)))


def test_async(three):
    async def main():
        one, two = await asyncio.gather(
            three.get_async([7, 8], lod=1), three.get_async(7, bbox={"y": (1100, 1200)})
        )
        return one, two

    one, two = asyncio.run(main())
    assert one[8].equals(three.get(8, lod=1))
    assert len(two.vertices) == 3


def test_bags(three):
    with trace() as t:
        bag = three.get_bag([8, 7, 2**63 + 1], npartitions=2, lod=1)
    assert not t.requests
    assert bag.npartitions == 2
    found = {each.segment_id: each for each in bag.compute(scheduler="threads")}
    assert set(found) == {7, 8, 2**63 + 1}
    assert found[8].equals(three.get(8, lod=1))
    assert bag.name == three.get_bag([8, 7, 2**63 + 1], npartitions=2, lod=1).name
    assert bag.name != three.get_bag([8, 7, 2**63 + 1], npartitions=2, lod=0).name
    with pytest.raises(ValueError, match="the items of a bag are of one segment each"):
        three.get_bag([7], fuse=True)
    with pytest.raises(ValueError, match="missing='x'"):
        three.get_bag([7], missing="x")
    with pytest.raises(TypeError, match="lods"):
        three.get_bag([7], lods=1)


def test_it_is_a_small_value(three):
    again = pickle.loads(pickle.dumps(three))
    assert again == three
    assert len(pickle.dumps(three)) < 4000
    assert again.get(7).equals(three.get(7))
    assert tokenize(again) == tokenize(three)
    other = Meshes(three.directory, MeshInfo())
    assert tokenize(other) != tokenize(three)
    with trace() as t:
        repr(three), tokenize(three)
    assert not t.requests


def test_reprs(three):
    kind = "multi-resolution, " + ("un" if three.info.sharding is None else "") + "sharded"
    assert repr(three) == f"<Meshes of {three.url}: {kind}>"
    assert str(three.url).endswith("/mesh")


@pytest.mark.parametrize("file_format", ["ply", "obj", "stl", "glb"])
def test_save_into_a_folder(three, tmp_path, file_format):
    trimesh = pytest.importorskip("trimesh")
    three.save([7, 8], tmp_path / "a" / "b", file_format, lod=1)
    path = tmp_path / "a" / "b" / f"8.{file_format}"
    found = trimesh.load(path, force="mesh", process=False)
    np.testing.assert_allclose(found.triangles.reshape(3, 3), three.get(8, lod=1).vertices)
    assert sorted(p.name for p in path.parent.iterdir()) == [f"7.{file_format}", path.name]


def test_save_into_a_file(three, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    three.save([7, 8], tmp_path / "all.ply", fuse=True)
    assert len(trimesh.load(tmp_path / "all.ply", process=False).faces) == 4
    three.save(8, tmp_path / "8.obj")
    assert len(trimesh.load(tmp_path / "8.obj", process=False, force="mesh").faces) == 2
    three.save([8], tmp_path / "8.precomputed", lod=1)
    expected = fragment(three.get(8, lod=1).vertices)
    assert (tmp_path / "8.precomputed").read_bytes() == expected
    three.save([7, 8], tmp_path / "raw", "precomputed", lod=1)
    assert (tmp_path / "raw" / "8.precomputed").read_bytes() == expected
    (tmp_path / "x.off").mkdir()
    three.save([8], tmp_path / "x.off", "precomputed", lod=1)
    assert (tmp_path / "x.off" / "8.precomputed").read_bytes() == expected
    three.save(5, tmp_path / "5.ply", missing="skip")
    assert not (tmp_path / "5.ply").exists()


def test_saves_that_make_no_sense(three, tmp_path):
    with trace() as t:
        with pytest.raises(ValueError, match="file_format='vtk'"):
            three.save(7, tmp_path, "vtk")
        with pytest.raises(ValueError, match="2 meshes for one file"):
            three.save([7, 8], tmp_path / "a.ply")
        with pytest.raises(ValueError, match="fuse=True makes one mesh"):
            three.save([7, 8], tmp_path, fuse=True)
        with pytest.raises(ValueError, match=r"x\.off: expected a folder, or a file that ends"):
            three.save(7, tmp_path / "x.off")
    assert not t.requests


def test_put_is_handed_on(three, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "xprecomputed.mesh.writing.put_meshes", lambda *given, **options: calls.append((given, options))
    )  # fmt: skip
    assert callable(put_meshes)
    three.put({7: 1}, a=2)
    assert calls == [((three, {7: 1}), {"a": 2})]


def test_infos_that_are_none(tmp_path):
    (tmp_path / "info").write_text('{"@type": "neuroglancer_skeletons"}')
    with pytest.raises(InvalidInfoError, match="not a usable mesh description"):
        opened(tmp_path)
