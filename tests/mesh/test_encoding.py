"""What is encoded keeps the rules of the format, and is the mesh that was given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mesh.checker import check, check_fragment
from tests.mesh.shapes import area, bumpy, is_watertight, matched, nearest, sphere, volume
from xprecomputed.mesh import encoding
from xprecomputed.mesh.encoding import count_lods, encode_mesh
from xprecomputed.mesh.octree import spread, weld
from xprecomputed.metadata import MULTIRES, MeshInfo, Transform

VOXELS = Transform((16, 0, 0, 0, 0, 16, 0, 0, 0, 0, 40, 0))
#: turned about z, mirrored, stretched and moved
TURNED = Transform((0, -2, 0, 100, 3, 0, 0, -7000, 0, 0, -5, 12.5))
HALF = np.array([[0, 0, 0], [8, 0, 0], [0, 8, 0]], np.float32), np.array([[0, 1, 2]])


def about(bits=16, transform=VOXELS, multiplier=1.0):
    return MeshInfo(
        type=MULTIRES,
        vertex_quantization_bits=bits,
        transform=transform,
        lod_scale_multiplier=multiplier,
    )


def decoded(levels, info, **options):
    """Encode, check every rule, and give the triangles of each lod in nm, (M, 3, 3)."""
    encoded = encode_mesh(levels, info, **options)
    bits = info.vertex_quantization_bits
    checked = check(encoded.manifest.to_bytes(), encoded.fragments, bits)
    matrix = info.transform.matrix
    found = []
    for lod in range(len(checked.scales)):
        stored, _ = checked.stored(lod, bits)
        found.append(stored @ matrix[:, :3].T + matrix[:, 3])
    return checked, found


def joined(corners, step=1e-6):
    """Vertices and faces of triangles, welded by rounding to steps much finer than quantisation."""
    lattice = np.rint(corners.reshape(-1, 3) / step)
    points, faces = weld(lattice, np.arange(3 * len(corners)).reshape(-1, 3))
    return points * step, faces


@pytest.mark.parametrize("bits", [10, 16])
@pytest.mark.parametrize("transform", [Transform(), VOXELS, TURNED])
def test_every_level_keeps_the_rules_and_the_shape(bits, transform):
    vertices, faces = bumpy(40)
    checked, found = decoded([(vertices, faces)], about(bits, transform), num_lods=3)
    size = np.ptp(vertices, axis=0).max()
    assert [len(cells) for cells in checked.cells][-1] == 1
    for corners in found:
        points, welded = joined(corners)
        assert is_watertight(welded)
        # half a step, and half a step more where something was cut
        assert volume(points, welded) == pytest.approx(volume(vertices, faces), rel=0.02)
        assert area(points, welded) == pytest.approx(area(vertices, faces), rel=0.03)
        assert np.abs(points.min(axis=0) - vertices.min(axis=0)).max() < 0.02 * size
        assert np.abs(points.max(axis=0) - vertices.max(axis=0)).max() < 0.02 * size


@pytest.mark.parametrize("bits", [10, 16])
@pytest.mark.parametrize("transform", [Transform(), VOXELS, TURNED])
def test_a_single_fragment_is_the_mesh_triangle_for_triangle(bits, transform):
    vertices, faces = bumpy(30)
    _, (corners,) = decoded([(vertices, faces)], about(bits, transform), num_lods=1)
    step = np.ptp(vertices, axis=0).max() / (2**bits - 1)
    given_corners = vertices[faces]
    assert np.abs(matched(given_corners, corners) - given_corners).max() <= 0.501 * step


def test_cut_vertices_lie_on_the_surface_and_those_given_are_all_there():
    vertices, faces = bumpy(30)
    checked, found = decoded([(vertices, faces)], about(transform=Transform()), num_lods=3)
    step = checked.chunk_shape.max() / 65535
    points = np.unique(np.round(found[0].reshape(-1, 3) / step), axis=0) * step
    distance = np.linalg.norm(points[nearest(vertices, points)] - vertices, axis=1)
    assert distance.max() <= 2 * step
    assert area(*joined(found[0])) == pytest.approx(area(vertices, faces), rel=1e-4)
    assert volume(*joined(found[0])) == pytest.approx(volume(vertices, faces), rel=1e-5)


def test_neighbouring_fragments_meet_in_identical_coordinates():
    vertices, faces = sphere(24)
    checked, _ = decoded([(vertices, faces)], about(transform=Transform()), num_lods=3)
    for lod in range(3):
        lattice = []
        for cell, fragment in zip(checked.cells[lod], checked.fragments[lod], strict=True):
            points, corners = fragment
            lattice.append((points + 65535 * np.array(cell))[corners])
        _, welded = weld(*flat(np.concatenate(lattice)))
        assert is_watertight(welded)


def flat(corners):
    return corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([10, 16]),
    st.integers(1, 4),
    st.sampled_from([Transform(), VOXELS, TURNED]),
)
def test_any_triangles_keep_the_rules(seed, bits, num_lods, transform):
    random = np.random.default_rng(seed)
    scale = random.choice([1e-3, 1, 1e3])
    levels = []
    for _ in range(num_lods):
        count = int(random.integers(3, 12))
        vertices = random.integers(-9, 9, (count, 3)) * scale
        levels.append((vertices, random.integers(0, count, (20, 3))))
    vertices, faces = levels[0]
    vertices[:3], faces[0] = np.eye(3) * 5 * scale, [0, 1, 2]
    encoded = encode_mesh(levels, about(bits, transform), num_lods=num_lods)
    check(encoded.manifest.to_bytes(), encoded.fragments, bits)


def test_a_level_without_triangles_lists_the_parents_of_the_one_before():
    fine = sphere(12)
    away = np.array([[-1000.0, -1000, -1000], [-990, -1000, -1000], [-1000, -990, -1000]])
    levels = [fine, (away, np.array([[0, 1, 2]])), fine]
    encoded = encode_mesh(levels, about(transform=Transform()), chunk_shape=(250, 250, 250))
    checked = check(encoded.manifest.to_bytes(), encoded.fragments, 16)
    empty = [
        cell for cell, one in zip(checked.cells[1], checked.fragments[1], strict=True) if not one
    ]
    assert len(empty) > 20
    assert sum(int(size) == 0 for size in encoded.manifest.sizes[1]) == len(empty)


def test_the_same_bytes_whatever_the_order_of_vertices():
    vertices, faces = bumpy(30)
    turned = np.random.default_rng(1).permutation(len(vertices))
    place = np.argsort(turned)
    first = encode_mesh([(vertices, faces)], about(), num_lods=1)
    second = encode_mesh([(vertices[turned], place[faces])], about(), num_lods=1)
    assert first.manifest.to_bytes() == second.manifest.to_bytes()
    assert first.fragments == second.fragments
    again = encode_mesh([(vertices, faces)], about(), num_lods=3)
    assert again.fragments == encode_mesh([(vertices, faces)], about(), num_lods=3).fragments


def test_the_number_of_levels_follows_from_the_triangles(monkeypatch):
    vertices, faces = bumpy(40)
    assert count_lods(vertices, faces) == 1
    monkeypatch.setattr(encoding, "USUAL_TRIANGLES", 1000)
    lods = count_lods(vertices, faces)
    assert lods == 3
    checked, _ = decoded([(vertices, faces)], about())
    assert len(checked.scales) == lods
    counts = [[len(one[1]) for one in level if one] for level in checked.fragments]
    assert np.mean(counts[0]) < 1200
    assert len(checked.cells[-1]) == 1


def test_many_triangles_in_one_place_have_no_end_of_levels(monkeypatch):
    monkeypatch.setattr(encoding, "USUAL_TRIANGLES", 10)
    vertices = np.concatenate([HALF[0], HALF[0] + [[1e9, 0, 0]]]).astype(np.float64)
    faces = np.concatenate([np.tile([[0, 1, 2]], (100, 1)), [[3, 4, 5]]])
    assert count_lods(vertices, faces) == encoding.MOST_LODS
    assert count_lods(vertices * 0, faces) == encoding.MOST_LODS


@pytest.mark.parametrize("tip", [(3e6, 0, 0), (3e6, 3e6, 0)])
def test_a_large_triangle_among_small_ones_is_not_cut_without_end(monkeypatch, tip):
    """A ball and a triangle 3,000 radii long: cells for the ball would cut that to pieces."""
    monkeypatch.setattr(encoding, "USUAL_TRIANGLES", 200)
    ball, faces = sphere(24, radius=1000)
    vertices = np.concatenate([ball, [[0, 0, 0], tip, [0, 3e6, 0]]])
    triangles = np.concatenate([faces, len(ball) + np.array([[0, 1, 2]])])
    lods = count_lods(vertices, triangles)
    assert 1 < lods < 8  # the ball alone would have cells of a tenth of its radius
    checked, _ = decoded([(vertices, triangles)], about(transform=Transform()))
    assert sum(map(len, checked.cells)) < 2 * len(triangles)
    assert sum(len(each[1]) for each in checked.fragments[0]) < 2 * len(triangles)


def test_what_cannot_be_made_coarser_has_no_further_levels(monkeypatch):
    monkeypatch.setattr(encoding, "USUAL_TRIANGLES", 200)
    monkeypatch.setattr(encoding, "USUAL_PIECES", 9)
    vertices, faces = bumpy(30)
    apart = vertices[faces]
    apart += 1e-3 * (apart - apart.mean(axis=1, keepdims=True))  # all borders, which are kept
    loose = apart.reshape(-1, 3), np.arange(faces.size).reshape(-1, 3)
    cells = 2 ** (count_lods(*loose) - 1)
    assert cells > 2
    checked, _ = decoded([loose], about(transform=Transform()))
    assert len(checked.scales) == 1
    assert np.array(checked.cells[0]).max() == cells - 1
    checked, _ = decoded([loose], about(transform=Transform()), num_lods=2)
    assert len(checked.scales) == 2


@pytest.mark.parametrize(
    "options", [{"num_lods": 10}, {"chunk_shape": (8 / 2e4,) * 3}, {"chunk_shape": (0.02,) * 3}]
)
def test_cells_that_cut_to_pieces_without_number_are_refused(monkeypatch, options):
    monkeypatch.setattr(encoding, "cut", lambda *_: 1 / 0)
    with pytest.raises(ValueError, match="cut 1 triangles to pieces in about .*, at most 65540"):
        encode_mesh([HALF], about(transform=Transform()), **options)


@pytest.mark.parametrize("surface", [HALF, sphere(8, radius=3.0)])
@pytest.mark.parametrize("shape", [(0.2, 0.2, 0.2), (0.5, 0.1, 2)])
def test_cutting_adds_up_to_four_triangles_for_each_further_cell(surface, shape):
    vertices, faces = surface
    info = about(transform=Transform())
    checked, _ = decoded([surface], info, chunk_shape=shape, num_lods=1)
    added = sum(len(one[1]) for one in checked.fragments[0]) - len(faces)
    cells = sum(spread(vertices / checked.chunk_shape, faces))
    assert cells < added < 4 * cells


@pytest.mark.parametrize("multiplier", [1e50, 1e-50])
def test_scales_that_float32_does_not_hold_are_refused(multiplier):
    with pytest.raises(ValueError, match="lod_scales of .*, which float32 does not hold"):
        encode_mesh([HALF], about(multiplier=multiplier))


def test_a_chunk_shape_decides_the_cells_and_the_number_of_levels():
    vertices, faces = sphere(24, radius=1000)
    checked, _ = decoded([(vertices, faces)], about(transform=VOXELS), chunk_shape=(32, 32, 12.5))
    assert checked.chunk_shape.tolist() == [32, 32, 12.5]
    assert len(checked.scales) == 1 + 2  # 2000 nm are 3.9 cells of 512 nm, 4 of 500
    assert len(checked.cells[0]) > 8
    few, _ = decoded([(vertices, faces)], about(), chunk_shape=(32, 32, 12.5), num_lods=1)
    assert len(few.scales) == 1


def test_cells_are_cubes_in_nm():
    vertices, faces = bumpy(20)
    checked, _ = decoded([(vertices, faces)], about(transform=VOXELS), num_lods=2)
    x, y, z = checked.chunk_shape
    assert x == y
    assert x * 16 == pytest.approx(z * 40, rel=1e-6)
    assert x * 16 * 2 == pytest.approx(np.ptp(vertices, axis=0).max(), rel=0.01)


def test_scales_are_the_resolution_in_nm():
    vertices, faces = bumpy(60)
    for transform, multiplier in ((Transform(), 1), (VOXELS, 4)):
        info = about(transform=transform, multiplier=multiplier)
        checked, _ = decoded([(vertices, faces)], info, num_lods=3)
        nm = np.array(checked.scales) * multiplier * (40 if transform is VOXELS else 1)
        side = np.sqrt(2 * area(vertices, faces) / len(faces))
        assert nm[0] == pytest.approx(side, rel=1e-3)
        assert nm[1:] == pytest.approx([2 * side, 4 * side], rel=0.05)


def test_scales_are_never_finer_than_a_step_nor_than_the_level_before():
    fine, coarse = sphere(40, radius=1e6), sphere(60, radius=1e6)
    checked, _ = decoded([fine, coarse], about(10))
    assert checked.scales[0] <= checked.scales[1]
    flat = np.array([[0.0, 0, 0], [1e6, 0, 0], [2e6, 0, 0], [3e6, 0, 0]]), np.array([[0, 1, 2]])
    checked, _ = decoded([flat], about(10, Transform()))
    assert checked.scales[0] == pytest.approx(2e6 / 1023)


def test_degenerate_triangles_are_left_out_and_slivers_kept():
    vertices = np.array([[0.0, 0, 0], [100, 0, 0], [0, 100, 0], [50, 0, 0], [0.0001, 0, 0]])
    faces = np.array([[0, 1, 2], [0, 0, 1], [0, 3, 1], [0, 4, 2]])
    _, (corners,) = decoded([(vertices, faces)], about(transform=Transform()))
    assert len(corners) == 2  # the whole one and the flat one; two corners of the last are one


def test_flat_and_tiny_meshes_are_fine():
    for vertices in (
        [[5.0, 5, 5], [5, 6, 5], [5, 5, 6]],
        [[1e6, 1e6, 1e6], [1e6 + 0.25, 1e6, 1e6], [1e6, 1e6 + 0.25, 1e6]],
        [[0.0, 0, 0], [1e-30, 0, 0], [0, 1e-30, 0]],
        [[0.0, 0, 0], [1e-45, 0, 0], [0, 1e-45, 0]],  # the least that float32 has
    ):
        points = np.array(vertices)
        info = about(transform=Transform())
        _, (corners,) = decoded([(points, np.array([[0, 1, 2]]))], info)
        assert corners.shape == (1, 3, 3)
        checked, _ = decoded([(points, np.array([[0, 1, 2]]))], info, num_lods=3)
        assert (checked.chunk_shape > 0).all()


def test_what_nobody_names_does_not_count():
    vertices, faces = sphere(12)
    far = np.concatenate([vertices, [[1e30, 1e30, 1e30]]])
    first = encode_mesh([(vertices, faces)], about())
    assert encode_mesh([(far, faces)], about()).fragments == first.fragments


def test_what_cannot_be_encoded_is_refused():
    flat = HALF[0], np.array([[0, 0, 1]])
    with pytest.raises(ValueError, match="not one triangle with three corners"):
        encode_mesh([flat], about())
    with pytest.raises(ValueError, match="cells along an axis of a mesh from .*at most 65536"):
        encode_mesh([sphere(12)], about(transform=Transform()), chunk_shape=(0.01, 1, 1))
    with pytest.raises(ValueError, match="nothing is left of the mesh where a step is"):
        encode_mesh([HALF], about(10), chunk_shape=(1e9, 1e9, 1e9))
    large = np.array([[0, 0, 0], [3.3e38, 0, 0], [0, 1, 0]]), HALF[1]
    with pytest.raises(ValueError, match="which has float32: check its vertices"):
        encode_mesh([large], about(transform=Transform((1e-3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0))))


def test_the_rules_are_checked_indeed():
    """The checker of these tests sees what it should."""
    vertices, faces = sphere(24)
    encoded = encode_mesh([(vertices, faces)], about(transform=Transform()), num_lods=2)
    manifest = encoded.manifest.to_bytes()
    with pytest.raises(AssertionError):
        check(manifest, encoded.fragments + b"x", 16)
    with pytest.raises(AssertionError):
        check(manifest, encoded.fragments, 10)
    whole = encode_mesh([(vertices, faces)], about(transform=Transform()), num_lods=1)
    with pytest.raises(AssertionError):
        check_fragment(whole.fragments, 1, 16)
