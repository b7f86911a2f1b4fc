"""Storing meshes: what is given is checked before, replaced as a whole, and told to the index."""

from __future__ import annotations

import gzip
import json
import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.mesh.checker import check
from tests.mesh.shapes import area, bumpy, matched, sphere, volume
from xprecomputed import trace
from xprecomputed.errors import (
    InvalidInfoError,
    LayerExistsError,
    MissingDependencyError,
    StorageError,
)
from xprecomputed.mesh import Mesh, create_meshes, encoding, open_meshes, writing
from xprecomputed.metadata import ShardingSpec, SpatialIndexInfo, Transform
from xprecomputed.storage import Storage, index_cache, locate_url

BALL = sphere(12)
OTHER = sphere(10, radius=500, centre=(3000, 0, 0))
TRIANGLE = [[0, 0, 0], [8, 0, 0], [0, 8, 0]], [[0, 1, 2]]
SQUARE = [[0, 0, 0], [8, 0, 0], [8, 8, 0], [0, 8, 0]], [[0, 1, 2], [0, 2, 3], [0, 1, 3], [1, 2, 3]]
KINDS = {
    "legacy": {"format": "legacy"},
    "unsharded": {"format": "multires"},
    "sharded": {"sharding": "auto", "num_labels": 5000},
    "gzipped": {
        "sharding": ShardingSpec(
            preshift_bits=0,
            hash="identity",
            minishard_bits=1,
            shard_bits=1,
            minishard_index_encoding="raw",
            data_encoding="gzip",
        )
    },
}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def folder(tmp_path):
    return locate_url(str(tmp_path / "mesh"))


def made(folder, kind="unsharded", **options):
    create_meshes(folder, **KINDS[kind], **options)
    return open_meshes(folder)


def names(folder):
    return sorted(entry.name for entry in folder.storage.list_dir(folder.key))


def fragment_of(folder, key):
    """The only fragment of a legacy mesh."""
    (name,) = json.loads(folder.storage.get(folder.child(f"{key}:0").key).data)["fragments"]
    return name


def same(mesh, given, step=0.1):
    vertices, faces = (np.asarray(each) for each in given)
    found = mesh.vertices[mesh.faces].astype(float)
    return np.abs(matched(vertices[faces], found) - vertices[faces]).max() <= step


def refuse_writes(monkeypatch, folder):
    """Let every attempt to store or delete fail the test."""

    def never(*_, **__):
        raise AssertionError("something was written")

    for method in ("put", "put_parts", "delete"):
        monkeypatch.setattr(type(folder.storage), method, never)


# ---- what is stored


def test_what_is_put_is_read(folder, kind):
    meshes = made(folder, kind)
    meshes.put({7: BALL, 2**64 - 1: OTHER})
    assert meshes.ids().tolist() == [7, 2**64 - 1]
    found = meshes.get([7, 2**64 - 1])
    assert same(found[7], BALL)
    assert same(found[2**64 - 1], OTHER)


def test_every_form_of_a_mesh_is_taken(folder):
    trimesh = pytest.importorskip("trimesh")
    meshes = made(folder)
    ball = Mesh(*BALL)
    meshes.put(
        {
            1: ball,
            2: trimesh.Trimesh(*BALL, process=False),
            3: BALL,
            4: [list(map(list, BALL[0])), BALL[1].tolist()],
            5: [ball, OTHER],
            6: (Mesh(*BALL), Mesh(*OTHER)),
            7: [TRIANGLE, TRIANGLE],
            8: [TRIANGLE],
            9: [SQUARE, SQUARE],  # as many vertices as faces: it could be one array
            10: SQUARE,
        }
    )
    for number in (1, 2, 3, 4, 5, 6):
        assert same(meshes.get(number), BALL)
    for number in (5, 6):
        assert same(meshes.get(number, lod=1), OTHER)
    coarser = meshes.get(7, lod=1)  # cut into eighths
    assert area(coarser.vertices, coarser.faces) == pytest.approx(32, rel=1e-3)
    assert same(meshes.get(8), TRIANGLE)
    assert same(meshes.get(10), SQUARE)
    twice = meshes.get(9)
    assert area(twice.vertices, twice.faces) == pytest.approx(4 * 32, rel=1e-3)


def test_meshes_know_whose_they_are(folder):
    meshes = made(folder)
    meshes.put(Mesh(*BALL, segment_id=7))
    meshes.put(Mesh(*each, segment_id=number) for number, each in ((8, BALL), (9, OTHER)))
    assert meshes.ids().tolist() == [7, 8, 9]
    assert same(meshes.get(9), OTHER)


def test_levels_are_made(folder, kind):
    if kind == "legacy":
        pytest.skip("one level")
    meshes = made(folder, kind)
    body = bumpy(40)
    meshes.put({7: body}, num_lods=3, reduction=0.5)
    counts = [len(meshes.get(7, lod=lod, weld=True).vertices) for lod in range(3)]
    assert counts[1] < 0.8 * counts[0]
    assert counts[2] < 0.8 * counts[1]
    for lod in range(3):
        mesh = meshes.get(7, lod=lod, weld=True)
        assert volume(mesh.vertices, mesh.faces) == pytest.approx(volume(*body), rel=0.01)
    sides = [meshes.get(7, lod=lod).resolution_nm for lod in range(3)]
    assert sides == sorted(sides)
    assert meshes.get(7, max_error_nm=sides[1] * 1.001).lod == 1


def test_the_transform_is_undone(folder, kind):
    turned = Transform((0, -2, 0, 100, 3, 0, 0, -7000, 0, 0, -5, 12.5))
    meshes = made(folder, kind, transform=turned)
    meshes.put({7: BALL})
    assert same(meshes.get(7), BALL)


def test_ten_bits(folder):
    meshes = made(folder, vertex_quantization_bits=10)
    meshes.put({7: BALL})
    assert same(meshes.get(7), BALL, step=2000 / 1023 / 2 * 1.01)
    assert not same(meshes.get(7), BALL, step=0.1)


def test_unsharded_objects_keep_the_rules(folder, tmp_path):
    meshes = made(folder)
    meshes.put({7: bumpy(30)}, num_lods=3, chunk_shape=(2000, 2000, 2000))
    assert names(folder) == ["7", "7.index", "info"]
    manifest = (tmp_path / "mesh" / "7.index").read_bytes()
    checked = check(manifest, (tmp_path / "mesh" / "7").read_bytes(), 16)
    assert checked.chunk_shape.tolist() == [2000] * 3
    assert len(checked.scales) == 3


def test_fragments_lie_before_their_manifest_in_a_shard(tmp_path):
    folder = locate_url(str(tmp_path / "mesh"))
    spec = {
        "@type": "neuroglancer_uint64_sharded_v1",
        "preshift_bits": 0,
        "hash": "identity",
        "minishard_bits": 0,
        "shard_bits": 0,
        "minishard_index_encoding": "raw",
        "data_encoding": "raw",
    }
    create_meshes(folder, sharding=spec)
    open_meshes(folder).put({3: BALL, 4: OTHER}, num_lods=2)
    data = (tmp_path / "mesh" / "0.shard").read_bytes()
    start, stop = np.frombuffer(data, "<u8", 2)
    keys, offsets, sizes = np.frombuffer(data[16 + start : 16 + stop], "<u8").reshape(3, 2)
    assert np.cumsum(keys).tolist() == [3, 4]
    at = 16
    for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True):
        manifest = data[at + offset : at + offset + size]
        check(manifest, data[at : at + offset], 16)  # the whole gap is fragments
        at += offset + size


def test_a_legacy_mesh_is_one_fragment_called_after_its_segment(folder, tmp_path):
    made(folder, "legacy").put({7: TRIANGLE})
    ((fragment,),) = json.loads((tmp_path / "mesh" / "7:0").read_bytes()).values()
    assert re.fullmatch(r"7:0:[0-9a-f]{16}", fragment)
    assert names(folder) == ["7:0", fragment, "info"]
    expected = np.array([3], "<u4").tobytes()
    expected += np.array(TRIANGLE[0], "<f4").tobytes() + np.array(TRIANGLE[1], "<u4").tobytes()
    assert (tmp_path / "mesh" / fragment).read_bytes() == expected


def test_fragments_are_compressed_where_asked(folder, tmp_path):
    meshes = made(folder, "legacy")
    meshes.put({7: TRIANGLE}, compression="gzip")
    (stored,) = (tmp_path / "mesh").glob("7:0:*.gz")
    assert gzip.decompress(stored.read_bytes())[:4] == b"\3\0\0\0"
    assert same(meshes.get(7), TRIANGLE)
    meshes.put({7: TRIANGLE})
    assert not stored.exists()
    assert same(meshes.get(7), TRIANGLE)


def test_gzip_is_told_by_a_header_where_there_are_headers(monkeypatch):
    folder = locate_url("memory://headers/mesh")
    meshes = made(folder, "legacy")
    declared = {}
    put = type(folder.storage).put

    def noted(self, key, data, **options):
        declared[key.rpartition("/")[2]] = options.get("encoding")
        put(self, key, data, **options)

    monkeypatch.setattr(type(folder.storage), "put", noted)
    monkeypatch.setattr(type(folder.storage), "has_headers", property(lambda _: True))
    meshes.put({7: TRIANGLE})
    assert declared.pop("7:0") is None
    assert list(declared.values()) == ["gzip"]


# ---- replacing


def test_a_mesh_is_replaced_and_others_stay(folder, kind):
    meshes = made(folder, kind)
    meshes.put({7: BALL, 8: BALL})
    meshes.put({7: OTHER})
    assert same(meshes.get(7), OTHER)
    assert same(meshes.get(8), BALL)
    assert meshes.ids().tolist() == [7, 8]


def test_an_old_manifest_never_has_new_fragments(folder, monkeypatch):
    meshes = made(folder)
    meshes.put({7: BALL})
    put = type(folder.storage).put

    def breaks(self, key, data, **options):
        put(self, key, data, **options)
        if key.endswith("/7"):
            raise StorageError("the line is cut")

    monkeypatch.setattr(type(folder.storage), "put", breaks)
    with pytest.raises(StorageError, match="cut"):
        meshes.put({7: OTHER})
    assert meshes.exists(7) is False
    monkeypatch.undo()
    meshes.put({7: OTHER})
    assert same(meshes.get(7), OTHER)


def test_fragments_come_before_what_names_them(folder, kind, monkeypatch):
    meshes = made(folder, kind)
    order = []
    for method in ("put", "put_parts", "delete"):
        plain = getattr(type(folder.storage), method)

        def noted(self, key, *rest, plain=plain, method=method, **options):
            name = key.rpartition("/")[2]
            order.append((method, "fragment" if name.startswith("7:0:") else name))
            return plain(self, key, *rest, **options)

        monkeypatch.setattr(type(folder.storage), method, noted)
    meshes.put({7: BALL})
    expected = {
        "legacy": [("put", "fragment"), ("put", "7:0")],
        "unsharded": [("delete", "7.index"), ("put", "7"), ("put", "7.index")],
    }
    if kind in expected:
        assert order == expected[kind]
    else:
        assert [method for method, _ in order] == ["put_parts"]


def test_fragments_that_nobody_names_any_more_go(folder):
    meshes = made(folder, "legacy")

    def store(name, data):
        folder.storage.put(folder.child(name).key, data)

    meshes.put({8: BALL})
    neighbour = fragment_of(folder, 8)
    ball = folder.storage.get(folder.child(neighbour).key).data
    for name in ("7:0:0-64_0-64_0-64", "7:0:64-128_0-64_0-64", "shared"):
        store(name, ball)
    fragments = ["7:0:0-64_0-64_0-64", "7:0:64-128_0-64_0-64", "shared", neighbour]
    store("7:0", json.dumps({"fragments": fragments}).encode())
    meshes.put({7: OTHER})
    own = fragment_of(folder, 7)
    assert names(folder) == ["7:0", own, "8:0", neighbour, "info", "shared"]
    assert same(meshes.get(7), OTHER)
    assert same(meshes.get(8), BALL)


def test_a_broken_manifest_is_replaced(folder):
    meshes = made(folder, "legacy")
    folder.storage.put(folder.child("7:0").key, b"{nonsense")
    meshes.put({7: BALL})
    assert same(meshes.get(7), BALL)


def test_the_header_for_caches_goes_with_every_object(folder, monkeypatch):
    meshes = made(folder)
    seen = []
    put = type(folder.storage).put
    monkeypatch.setattr(
        type(folder.storage),
        "put",
        lambda self, key, data, **options: (
            seen.append(options.get("cache_control")) or put(self, key, data, **options)
        ),
    )
    meshes.put({7: BALL}, cache_control="no-cache")
    assert seen == ["no-cache", "no-cache"]


# ---- the spatial index


def test_the_index_is_told(folder, kind):
    index = {"resolution": (16, 16, 40), "chunk_size": (2048, 2048, 2048)}
    create_meshes(folder, **KINDS[kind], spatial_index=index)
    bounds = ((-2048.0, -2048.0, -2048.0), (6144.0, 2048.0, 2048.0))
    meshes = open_meshes(folder, bounds)
    meshes.put({7: BALL, 8: OTHER})
    assert meshes.ids_in(bounds).tolist() == [7, 8]
    assert meshes.ids_in({"x": (2400, 3000)}).tolist() == [8]
    meshes.put({7: OTHER})
    assert meshes.ids_in({"x": (2400, 3000)}).tolist() == [7, 8]
    assert meshes.ids_in({"x": (-2000, 0)}).tolist() == []


def test_the_index_comes_first(folder, monkeypatch):
    """What it names and is not there is an error; what it does not name is never found."""
    create_meshes(folder, spatial_index={"resolution": (1, 1, 1), "chunk_size": (9999,) * 3})
    meshes = open_meshes(folder, ((-2000.0,) * 3, (4000.0,) * 3))
    monkeypatch.setattr(encoding.draco, "encode", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        meshes.put({7: BALL})
    assert meshes.ids_in(((-2000,) * 3, (4000,) * 3)).tolist() == [7]
    assert meshes.exists(7) is False


def test_old_and_new_are_told_until_all_is_written(folder, kind, monkeypatch):
    index = {"resolution": (16, 16, 40), "chunk_size": (2048, 2048, 2048)}
    create_meshes(folder, **KINDS[kind], spatial_index=index)
    meshes = open_meshes(folder, ((-2048.0, -2048.0, -2048.0), (6144.0, 2048.0, 2048.0)))
    meshes.put({7: BALL})
    old, new = {"x": (-2000, 0)}, {"x": (2600, 3400)}
    put = writing._store

    def watched(*args, **kwargs):
        put(*args, **kwargs)
        assert meshes.ids_in(old).tolist() == meshes.ids_in(new).tolist() == [7]

    def fail(*args, **kwargs):
        raise StorageError("broken off")

    with monkeypatch.context() as patch:
        patch.setattr(writing, "_store", fail)
        with pytest.raises(StorageError, match="broken off"):
            meshes.put({7: OTHER})
    assert meshes.ids_in(old).tolist() == [7]
    assert meshes.exists(7)
    monkeypatch.setattr(writing, "_store", watched)
    meshes.put({7: OTHER})
    assert meshes.ids_in(old).tolist() == []
    assert meshes.ids_in(new).tolist() == [7]


def test_a_face_is_found_in_its_middle(folder, kind):
    index = {"resolution": (16, 16, 40), "chunk_size": (1024, 1024, 1024)}
    create_meshes(folder, **KINDS[kind], spatial_index=index)
    meshes = open_meshes(folder, ((0.0, 0.0, 0.0), (4096.0, 4096.0, 4096.0)))
    meshes.put({7: ([[10, 10, 10], [4010, 10, 10], [10, 4010, 10]], [[0, 1, 2]])})
    assert meshes.ids_in({"x": (1300, 1400), "y": (1300, 1400)}).tolist() == [7]
    assert meshes.ids_in({"x": (3500, 4000), "y": (3500, 4000)}).tolist() == []


def test_nothing_given_is_nothing_read(folder, kind):
    index = {"resolution": (16, 16, 40), "chunk_size": (1024, 1024, 1024)}
    create_meshes(folder, **KINDS[kind], spatial_index=index)
    meshes = open_meshes(folder, ((0.0, 0.0, 0.0), (4096.0, 4096.0, 4096.0)))
    meshes.spatial_index.create()
    with trace() as traced:
        meshes.put({})
        assert meshes.delete([]) == 0
    assert traced.requests == 0


# ---- what is refused, before anything is written


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({7: BALL, 8: (BALL[0][:0], BALL[1][:0])}, ValueError, "segment 8: 0 triangles, none with"),
        ({7: (BALL[0], [[0, 0, 1]])}, ValueError, "segment 7: 1 triangles, none with three corner"),
        ({7: BALL, 8: ([[0, 0, np.nan]] * 3, [[0, 1, 2]])}, ValueError, "8: vertices that are not"),
        ({7: BALL, 8: (BALL[0], BALL[1] + 10**6)}, ValueError, "segment 8: a face names vertex"),
        ({7: BALL, 8: "ball.ply"}, TypeError, "segment 8: str, expected a Mesh, a trimesh"),
        ({7: BALL, 8: []}, TypeError, "segment 8: list, expected a Mesh"),
        ({7: BALL, 8: [BALL] * 17}, ValueError, "segment 8: 17 levels, at most 16 are written"),
        ({7: BALL, -1: BALL}, ValueError, "segment id -1: expected 0 to"),
        ({7: BALL, 7.5: BALL}, TypeError, "segment id 7.5 of type float"),
        ({7: BALL, 8: [[[0, 0, 0]] * 3] * 3}, TypeError, "segment 8: list of 3, expected a Mesh"),
        ({7: BALL, 8: [BALL, "ball.ply"]}, TypeError, "segment 8: str, expected a Mesh"),
        ([Mesh(*BALL, 7), Mesh(*OTHER, 7)], ValueError, "segment 7: two meshes, expected one"),
        ([Mesh(*BALL, 7), Mesh(*OTHER)], ValueError, "whose mesh is it"),
        (Mesh(*BALL), ValueError, "whose mesh is it"),
        (7, TypeError, "meshes of type int: expected a Mesh"),
        ({7: ([[0, 0, 0], [1e38, 0, 0], [0, 1, 0]], [[0, 1, 2]])}, ValueError, "which has float32"),
    ],
)
def test_what_is_no_mesh_is_refused_before_anything_is_written(
    folder, monkeypatch, given, error, message
):
    meshes = made(folder, transform=(1e-2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0))
    refuse_writes(monkeypatch, folder)
    with pytest.raises(error, match=message):
        meshes.put(given)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("unsharded", {"num_lods": 0}, "num_lods=0: expected an integer from 1 to 16"),
        ("unsharded", {"num_lods": True}, "num_lods=True: expected an integer"),
        ("unsharded", {"num_lods": 17}, "num_lods=17: expected an integer"),
        ("unsharded", {"reduction": 1}, "reduction=1: expected a number above 0 and below 1"),
        ("unsharded", {"reduction": "a"}, "reduction='a': expected a number"),
        ("unsharded", {"chunk_shape": (1, 2)}, r"chunk_shape=\(1, 2\): expected three finite"),
        ("unsharded", {"chunk_shape": (1, 2, 0)}, "expected three finite numbers above 0"),
        ("unsharded", {"chunk_shape": (0.001, 9, 9)}, "segment 7: chunk_shape=.*at most 65536"),
        ("unsharded", {"compression": "gzip"}, "compression='gzip': multi-resolution meshes are"),
        ("unsharded", {"reduction": None}, "reduction=None: expected a number above 0"),
        ("unsharded", {"reduction": np.ones(2)}, r"reduction=array.*: expected a number above 0"),
        ("unsharded", {"num_lods": np.ones(2)}, r"num_lods=array.*: expected an integer"),
        ("unsharded", {"compression": np.ones(2)}, r"compression=array.*: expected one of"),
        ("unsharded", {"chunk_shape": np.ones((2, 3))}, "(?s)chunk_shape=array.*: expected"),
        ("legacy", {"reduction": np.ones(2)}, "reduction=array.*: legacy meshes have one level"),
        ("legacy", {"num_lods": np.ones(2)}, "num_lods=array.*: legacy meshes have one level"),
        ("legacy", {"chunk_shape": np.ones(3)}, "chunk_shape=array.*: legacy meshes have one"),
        ("legacy", {"compression": "lzma"}, "compression='lzma': expected one of"),
        ("legacy", {"num_lods": 2}, "num_lods=2: legacy meshes have one level"),
        ("legacy", {"reduction": 0.5}, "reduction=0.5: legacy meshes have one level"),
        ("legacy", {"chunk_shape": (1, 1, 1)}, "chunk_shape=.*: legacy meshes have one level"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder, monkeypatch, kind, options, message):
    meshes = made(folder, kind)
    refuse_writes(monkeypatch, folder)
    with pytest.raises(ValueError, match=message):
        meshes.put({7: BALL}, **options)


def test_levels_that_are_given_are_not_made(folder, monkeypatch):
    meshes = made(folder)
    refuse_writes(monkeypatch, folder)
    with pytest.raises(ValueError, match="segment 7: 2 levels were given, and num_lods makes"):
        meshes.put({7: [BALL, OTHER]}, num_lods=2)


def test_legacy_meshes_have_one_level(folder, monkeypatch):
    meshes = made(folder, "legacy")
    refuse_writes(monkeypatch, folder)
    with pytest.raises(ValueError, match="segment 7: 2 levels were given, and legacy meshes"):
        meshes.put({7: [BALL, OTHER]})


@pytest.mark.parametrize("package", ["DracoPy", "fast_simplification"])
def test_packages_that_lack_are_told_before_anything_is_written(folder, monkeypatch, package):
    from xprecomputed.codecs import _optional

    found = _optional.importlib.import_module

    def absent(name):
        if name == package:
            raise ImportError(name)
        return found(name)

    index = {"resolution": (1, 1, 1), "chunk_size": (9999,) * 3}
    create_meshes(folder, spatial_index=index)
    meshes = open_meshes(folder, ((-2000.0,) * 3, (4000.0,) * 3))
    monkeypatch.setattr(_optional.importlib, "import_module", absent)
    refuse_writes(monkeypatch, folder)
    with pytest.raises(MissingDependencyError, match=r"\[mesh\]"):
        meshes.put({7: BALL}, num_lods=2)


# ---- creating


def test_the_info_of_each_kind(folder, tmp_path):
    index = SpatialIndexInfo(resolution=(16, 16, 40), chunk_size=(1, 2, 3))
    info = create_meshes(
        folder,
        sharding="auto",
        num_labels=10**6,
        transform=[[16, 0, 0, 0], [0, 16, 0, 0], [0, 0, 40, 0]],
        vertex_quantization_bits=10,
        lod_scale_multiplier=2,
        spatial_index=index,
        mip=2,
        chunk_size=(448, 448, 448),
        segment_properties="../properties",
        extra={"note": "ours"},
    )
    assert json.loads((tmp_path / "mesh" / "info").read_bytes()) == {
        "@type": "neuroglancer_multilod_draco",
        "vertex_quantization_bits": 10,
        "lod_scale_multiplier": 2,
        "transform": [16, 0, 0, 0, 0, 16, 0, 0, 0, 0, 40, 0],
        "sharding": {
            "@type": "neuroglancer_uint64_sharded_v1",
            "preshift_bits": 0,
            "hash": "murmurhash3_x86_128",
            "minishard_bits": 9,
            "shard_bits": 1,
            "minishard_index_encoding": "gzip",
            "data_encoding": "raw",
        },
        "spatial_index": {"resolution": [16, 16, 40], "chunk_size": [1, 2, 3]},
        "mip": 2,
        "chunk_size": [448, 448, 448],
        "segment_properties": "../properties",
        "note": "ours",
    }
    assert open_meshes(folder).info == info
    legacy = create_meshes(folder, format="neuroglancer_legacy_mesh", mode="w")
    assert legacy.to_json() == {"@type": "neuroglancer_legacy_mesh"}


def test_a_folder_that_holds_something_is_not_taken(folder):
    meshes = made(folder)
    meshes.put({7: BALL})
    with pytest.raises(LayerExistsError, match="there are objects, such as"):
        create_meshes(folder)
    assert same(meshes.get(7), BALL)
    folder.storage.delete(folder.child("info").key)
    with pytest.raises(LayerExistsError, match="or replace what is there with mode='w'"):
        create_meshes(folder)


def test_a_folder_is_replaced_with_all_that_is_in_it(folder, kind, tmp_path):
    meshes = made(folder, kind)
    meshes.put({7: BALL, 8: OTHER})
    (tmp_path / "mesh" / "properties").mkdir()
    (tmp_path / "mesh" / "properties" / "info").write_text("{}")
    index_cache.put("of a shard that was there", b"index", 5)
    create_meshes(folder, mode="w")
    assert index_cache.get("of a shard that was there") is None
    assert names(folder) == ["info"]
    assert (tmp_path / "mesh" / "properties" / "info").exists()
    assert open_meshes(folder).ids().tolist() == []


def test_data_go_before_the_info_that_describes_them(folder, monkeypatch):
    meshes = made(folder)
    meshes.put({7: BALL})
    order = []
    for method in ("put", "delete"):
        plain = getattr(Storage, method) if method not in vars(type(folder.storage)) else None
        plain = plain or getattr(type(folder.storage), method)

        def noted(self, key, *rest, plain=plain, method=method, **options):
            order.append((method, key.rpartition("/")[2]))
            return plain(self, key, *rest, **options)

        monkeypatch.setattr(type(folder.storage), method, noted)
    create_meshes(folder, mode="w", format="legacy")
    assert order[-1] == ("put", "info")
    assert sorted(order[:-1]) == [("delete", "7"), ("delete", "7.index")]


def test_a_folder_without_info_is_not_replaced(folder):
    meshes = made(folder, "legacy")
    meshes.put({7: BALL})
    folder.storage.delete(folder.child("info").key)
    with pytest.raises(LayerExistsError, match="there is no info, but '7:0"):
        create_meshes(folder, mode="w")
    assert same(meshes.get(7), BALL)


def test_a_volume_is_not_replaced_by_meshes(folder):
    folder.storage.put(folder.child("info").key, b'{"type": "segmentation", "scales": []}')
    folder.storage.put(folder.child("7").key, b"something")
    with pytest.raises(LayerExistsError, match="there is an info of type None; mode='w' replaces"):
        create_meshes(folder, mode="w")
    assert names(folder) == ["7", "info"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mode": "a"}, ValueError, "mode='a': expected 'w-' or 'w'"),
        ({"format": "ply"}, ValueError, "format='ply': expected one of"),
        ({"sharding": "auto"}, ValueError, "sharding='auto' needs num_labels"),
        ({"vertex_quantization_bits": 12}, InvalidInfoError, "10 or 16"),
        ({"lod_scale_multiplier": 0}, InvalidInfoError, "lod_scale_multiplier: expected"),
        ({"transform": np.zeros((3, 4))}, InvalidInfoError, "transform: expected 12 numbers"),
        ({"spatial_index": {"resolution": (1, 1, 1)}}, InvalidInfoError, "chunk_size: missing"),
        ({"sharding": {"hash": "md5"}}, InvalidInfoError, "sharding.hash: expected one of"),
        (
            {"format": "legacy", "sharding": "auto", "num_labels": 9},
            InvalidInfoError,
            "has no sharded form",
        ),
    ],
)
def test_arguments_of_a_new_folder_are_checked_first(folder, options, error, message):
    with pytest.raises(error, match=message):
        create_meshes(folder, **options)
    assert names(folder) == []


def test_arrays_are_not_changed(folder):
    meshes = made(folder)
    vertices, faces = sphere(12)
    before = vertices.copy(), faces.copy()
    meshes.put({7: (vertices, faces)}, num_lods=2)
    assert_array_equal(vertices, before[0])
    assert_array_equal(faces, before[1])


def test_real_meshes_keep_the_rules(real_volume, folder):
    source = open_meshes(locate_url(f"{real_volume}/mesh_mip_2_err_40"))
    ids = source.ids()[:4].tolist()
    meshes = made(folder, transform=(16, 0, 0, 0, 0, 16, 0, 0, 0, 0, 40, 0))
    real = source.get(ids, weld=True)
    meshes.put(real, num_lods=4)
    for number, mesh in real.items():
        manifest = folder.storage.get(folder.child(f"{number}.index").key).data
        checked = check(manifest, folder.storage.get(folder.child(f"{number}").key).data, 16)
        assert len(checked.cells[-1]) == 1
        found = meshes.get(number, weld=True)
        assert area(found.vertices, found.faces) == pytest.approx(
            area(mesh.vertices, mesh.faces), rel=1e-3
        )
        assert np.abs(found.bounds_nm - mesh.bounds_nm).max() < 1
        counts = [len(meshes.get(number, lod=lod).faces) for lod in range(4)]
        assert counts[3] < counts[2] < counts[1] < counts[0]
