"""The mesh value: checks, fusing, welding, files."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mesh.shapes import is_watertight, sphere, triangles
from xprecomputed import MissingDependencyError
from xprecomputed.mesh import Mesh
from xprecomputed.mesh import mesh as module
from xprecomputed.mesh.welding import same_vertices

TRIANGLE = [[0, 0, 0], [8, 0, 0], [0, 8, 0]]


def soup(rings=8):
    """A ball whose triangles share no vertex."""
    vertices, faces = sphere(rings)
    return Mesh(vertices[faces].reshape(-1, 3), np.arange(faces.size).reshape(-1, 3), 7)


def test_arrays_are_converted_but_not_copied():
    vertices, faces = np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.uint32)
    mesh = Mesh(vertices, faces)
    assert mesh.vertices is vertices
    assert mesh.faces is faces
    other = Mesh(TRIANGLE, np.array([[0, 1, 2]], np.int8))
    assert other.vertices.dtype == np.float32
    assert other.faces.dtype == np.uint32
    assert other.nbytes == 36 + 12


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        ([[0, 0]], [[0, 0, 0]], r"vertices of shape \(1, 2\)"),
        ([0, 0, 0], [], r"vertices of shape \(3,\)"),
        (["abc"], [], "vertices of <U3"),
        (TRIANGLE, [[0, 1]], r"faces of shape \(1, 2\)"),
        (TRIANGLE, [[0.0, 1, 2]], "faces of float64"),
        (TRIANGLE, [[0, 1, 3]], "names vertex 3 of 3"),
        (TRIANGLE, [[0, 1, -1]], "names vertex -1 of 3"),
        ([], [[0, 0, 0]], "names vertex 0 of 0"),
    ],
)
def test_what_is_no_mesh_is_refused(vertices, faces, message):
    with pytest.raises(ValueError, match=message):
        Mesh(vertices, faces)


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (7.9, TypeError, "segment id 7.9 of type float"),
        ("12", TypeError, "segment id '12' of type str"),
        (True, TypeError, "segment id True of type bool"),
        (-1, ValueError, "segment id -1: expected 0 to"),
        (2**64, ValueError, "segment id 18446744073709551616: expected 0 to"),
    ],
)
def test_segment_ids_are_neither_rounded_nor_converted(number, error, message):
    with pytest.raises(error, match=message):
        Mesh(TRIANGLE, [[0, 1, 2]], number)


def test_segment_ids_are_plain_integers():
    mesh = Mesh(TRIANGLE, [[0, 1, 2]], np.uint64(2**64 - 1))
    assert type(mesh.segment_id) is int
    assert mesh.segment_id == 2**64 - 1


def test_an_empty_one():
    mesh = Mesh.empty(7, 1, 40.0)
    assert (len(mesh.vertices), len(mesh.faces), mesh.segment_id, mesh.lod) == (0, 0, 7, 1)
    assert np.isnan(mesh.bounds_nm).all()
    assert mesh.bounds_nm.shape == (2, 3)
    assert mesh.weld() is mesh
    assert Mesh([], []).equals(Mesh.empty())
    assert Mesh.fuse([]).equals(Mesh.empty())


def test_fusing_keeps_what_all_share():
    one = Mesh(TRIANGLE, [[0, 1, 2]], 7, 1, 8.0)
    other = Mesh([[1, 1, 1]], [], 7, 2, 16.0)
    fused = Mesh.fuse([other, one])
    assert fused.faces.tolist() == [[1, 2, 3]]
    assert (fused.segment_id, fused.lod, fused.resolution_nm) == (7, 2, 16.0)
    assert Mesh.fuse([one]) is one
    assert Mesh.fuse([one, Mesh(TRIANGLE, [[0, 1, 2]], 8)]).segment_id is None
    assert Mesh.fuse([one, Mesh(TRIANGLE, [[0, 1, 2]], 8)]).resolution_nm is None
    assert one.faces.tolist() == [[0, 1, 2]]


def test_more_vertices_than_faces_can_name():
    with pytest.raises(ValueError, match="a mesh of 4294967297 vertices"):
        module.check_count((1 << 32) + 1)


def test_value_semantics():
    mesh = Mesh(TRIANGLE, [[0, 1, 2]], 2**63, 1)
    assert repr(mesh) == "<Mesh of segment 9223372036854775808, lod 1: 3 vertices, 1 faces>"
    assert pickle.loads(pickle.dumps(mesh)).equals(mesh)
    assert copy.deepcopy(mesh).equals(mesh)
    assert not mesh.equals(Mesh(TRIANGLE, [[0, 1, 2]], 2**63, 0))
    assert not mesh.equals(Mesh(TRIANGLE, [[0, 2, 1]], 2**63, 1))
    assert not mesh.equals(Mesh(np.ones((3, 3)), [[0, 1, 2]], 2**63, 1))
    assert not mesh.equals(3)
    with pytest.raises(AttributeError):
        mesh.lod = 3


def test_weld_closes_a_ball_and_keeps_its_triangles():
    mesh = soup()
    assert not is_watertight(mesh.faces)
    welded = mesh.weld()
    assert is_watertight(welded.faces)
    assert len(welded.vertices) == len(sphere(8)[0])
    assert len(np.unique(welded.vertices, axis=0)) == len(welded.vertices)
    same = triangles(mesh.vertices, mesh.faces, 1e-3)
    assert triangles(welded.vertices, welded.faces, 1e-3) == same
    assert (welded.segment_id, welded.lod) == (7, 0)
    assert welded.weld() is welded


def test_weld_keeps_the_first_and_takes_minus_zero_for_zero():
    mesh = Mesh(
        [[5, 5, 5], [0, 0, 0], [9, 9, 9], [-0.0, 0, -0.0], [5, 5, 5], [1, 2, 3]],
        [[0, 1, 2], [4, 3, 2], [1, 3, 2]],
    )
    welded = mesh.weld()
    assert welded.vertices.tolist() == [[5, 5, 5], [0, 0, 0], [9, 9, 9], [1, 2, 3]]
    assert welded.faces.tolist() == [[0, 1, 2], [0, 1, 2]]  # the third had lost a corner


def test_weld_drops_faces_that_were_degenerate_before():
    mesh = Mesh(TRIANGLE, [[0, 1, 2], [0, 0, 1]])
    assert mesh.weld().faces.tolist() == [[0, 1, 2]]


def test_a_tolerance_joins_what_is_near_and_nothing_else():
    mesh = Mesh(
        [[0, 0, 0], [0.9, 0, 0], [1.7, 0, 0], [10, 0, 0], [10, 1.1, 0], [-0.9, 0.3, 0.2]],
        [[0, 3, 4], [1, 3, 4], [5, 4, 3], [0, 2, 3]],
    )
    welded = mesh.weld(1.0)
    assert welded.vertices.tolist() == mesh.vertices[[0, 3, 4]].tolist()
    assert welded.faces.tolist() == [[0, 1, 2], [0, 1, 2], [0, 2, 1]]
    assert len(mesh.weld(0.5).vertices) == 6


@given(seed=st.integers(0, 2**32 - 1), tolerance=st.floats(0.05, 3))
def test_a_tolerance_joins_exactly_the_connected(seed, tolerance):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-10, 10, (40, 3)).astype(np.float32)
    points[20:30] = points[:10] + rng.normal(0, tolerance / 2, (10, 3))
    far = np.linalg.norm(points[:, None].astype(float) - points.astype(float), axis=-1)
    joined = far <= tolerance
    while not ((after := joined.astype(int) @ joined > 0) == joined).all():
        joined = after
    kept, place = same_vertices(points, tolerance)
    assert (kept[place] == joined.argmax(axis=1)).all()


@pytest.mark.parametrize("tolerance", [-1, np.nan, np.inf])
def test_a_tolerance_is_a_length(tolerance):
    with pytest.raises(ValueError, match="tolerance_nm=.*expected a finite number"):
        soup().weld(tolerance)


def test_a_tolerance_out_of_proportion_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="too small for vertices"):
        soup().weld(1e-9)
    monkeypatch.setattr("xprecomputed.mesh.welding.MAX_PAIRS", 1000)
    with pytest.raises(ValueError, match="expected a tolerance well below the length of edges"):
        soup().weld(5000)


def test_vertices_that_are_not_finite_stay_alone():
    mesh = Mesh([[np.nan, 0, 0], [np.inf, 0, 0], [0, 0, 0], [0, 0, 0.1], [1, 1, 1]], [[0, 2, 4]])
    assert len(mesh.weld(0.5).vertices) == 4
    only = Mesh([[np.nan, 0, 0]] * 2, [])
    assert len(only.weld(0.5).vertices) == 1  # the same bits


trimesh = pytest.importorskip("trimesh")


def test_through_trimesh_and_back():
    mesh = Mesh(*sphere(6), 7)
    there = mesh.to_trimesh()
    np.testing.assert_array_equal(there.vertices, mesh.vertices)
    np.testing.assert_array_equal(there.faces, mesh.faces)
    assert Mesh.from_trimesh(there, 7).equals(mesh)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb", ".stl", ".PLY"])
def test_files_are_read_back_by_trimesh(tmp_path, suffix):
    mesh = Mesh(*sphere(6, radius=30000.5, centre=(1e5, 2e5, 3e5)), 7)
    path = tmp_path / f"7{suffix}"
    mesh.save(path)
    found = trimesh.load(path, file_type=suffix[1:].lower(), force="mesh", process=False)
    step = 0.01 if suffix == ".obj" else 1e-3
    found_triangles = np.sort(np.asarray(found.triangles).reshape(-1, 9), axis=0)
    expected = np.sort(mesh.vertices[mesh.faces].reshape(-1, 9).astype(float), axis=0)
    np.testing.assert_allclose(found_triangles, expected, atol=step)


def test_other_files_are_refused(tmp_path):
    mesh = Mesh(*sphere(4))
    with pytest.raises(ValueError, match=r"a\.vtk: expected a name that ends with one of"):
        mesh.save(tmp_path / "a.vtk")
    with pytest.raises(ValueError, match="has nothing to write"):
        Mesh.empty(7).save(tmp_path / "a.ply")


def test_a_view_is_a_scene(monkeypatch):
    mesh = Mesh(*sphere(4))
    scene = mesh.view()
    assert isinstance(scene, trimesh.Scene)
    assert len(scene.geometry) == 1
    monkeypatch.setattr("trimesh.viewer.in_notebook", lambda: True)
    monkeypatch.setattr(trimesh.Scene, "show", lambda self, viewer: f"HTML for a {viewer}")
    assert mesh.view() == "HTML for a notebook"


def test_without_trimesh(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "trimesh", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "xprecomputed\[mesh\]"'):
        Mesh(*sphere(4)).to_trimesh()
