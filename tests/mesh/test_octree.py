"""Cutting triangles along planes: nothing is lost, doubled, turned or left across."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from tests.mesh.shapes import TETRAHEDRON, area, bumpy, is_watertight, normals, sphere, volume
from xprecomputed.mesh.octree import cut, sort_into_cells, weld, zorder

NOWHERE = np.zeros(0)

numbers = st.integers(-60, 60)
points = st.lists(st.tuples(numbers, numbers, numbers), min_size=4, max_size=4, unique=True)
plane_lists = st.lists(numbers, max_size=20, unique=True).map(lambda each: np.array(sorted(each)))


def crossing(vertices, faces, planes):
    """How many triangles reach over a plane."""
    count = 0
    for axis, across in enumerate(planes):
        corners = vertices[faces][:, :, axis]
        for plane in across:
            count += int(((corners.min(axis=1) < plane) & (corners.max(axis=1) > plane)).sum())
    return count


@given(points, st.tuples(plane_lists, plane_lists, plane_lists), st.floats(0.1, 1e6))
def test_a_cut_keeps_area_volume_and_watertightness(corners, planes, scale):
    vertices = np.array(corners, np.float64) * scale
    planes = tuple(each.astype(np.float64) * scale for each in planes)
    after, faces = cut(vertices, TETRAHEDRON, planes)
    assert crossing(after, faces, planes) == 0
    assert is_watertight(faces)
    size = np.abs(vertices).max()
    assert area(after, faces) == pytest.approx(area(vertices, TETRAHEDRON), abs=1e-9 * size**2)
    assert volume(after, faces) == pytest.approx(volume(vertices, TETRAHEDRON), abs=1e-9 * size**3)


@given(points, st.tuples(plane_lists, plane_lists, plane_lists))
def test_a_cut_of_integers_stays_on_the_lattice(corners, planes):
    vertices = np.array(corners, np.int64)
    planes = tuple(each.astype(np.int64) for each in planes)
    after, faces = cut(vertices, TETRAHEDRON, planes)
    assert after.dtype == np.int64
    assert crossing(after, faces, planes) == 0
    assert not len(faces) or is_watertight(faces)
    assert (faces[:, 0] != faces[:, 1]).all()
    assert (faces[:, 1] != faces[:, 2]).all()


def test_a_cut_turns_no_triangle():
    vertices, faces = sphere(16, radius=1000)
    planes = tuple(np.arange(-1000.0, 1000, 37) for _ in range(3))
    after, parts = cut(vertices, faces, planes)
    outward = (normals(after, parts) * after[parts].mean(axis=1)).sum(axis=1)
    sizes = np.linalg.norm(normals(after, parts), axis=1)
    assert (outward[sizes > 1e-6] > 0).all()
    assert volume(after, parts) == pytest.approx(volume(vertices, faces), rel=1e-12)
    assert area(after, parts) == pytest.approx(area(vertices, faces), rel=1e-12)


def test_both_sides_of_a_cut_share_its_vertices_to_the_last_bit():
    # an edge between a triangle that crosses many planes and one that crosses few
    vertices = np.array([[0.1, 0, 0], [9.7, 0.3, 0.9], [100.3, 50, 7], [5.0, -1.7, 3.3]])
    faces = np.array([[0, 1, 2], [1, 0, 3]])
    planes = (np.arange(1.0, 101), NOWHERE, NOWHERE)
    after, parts = cut(vertices, faces, planes)
    edges = [
        edge for part in parts.tolist() for edge in zip(part, part[1:] + part[:1], strict=True)
    ]
    outline = set(edges) - {(b, a) for a, b in edges}
    # along the common edge everything is met from both sides: it is not in the outline
    direction = vertices[1] - vertices[0]
    for a, b in outline:
        off = [np.linalg.norm(np.cross(after[end] - vertices[0], direction)) for end in (a, b)]
        assert max(off) > 1e-9


def test_rounding_leads_no_vertex_over_a_plane_that_was_cut_before():
    low, high = -0.46, 0.21
    assert low + (high - low) > high
    vertices = np.array([[low, -1000, 0], [high, 0.1, 0], [low, -1000, 5]])
    # so near to the upper end that the way to it is 1 when rounded
    planes = (np.array([high]), np.array([np.nextafter(0.1, 0)]), NOWHERE)
    after, faces = cut(vertices, np.array([[0, 1, 2]]), planes)
    assert crossing(after, faces, planes) == 0
    assert after[:, 0].max() == high


def test_new_vertices_of_integers_are_rounded():
    vertices = np.array([[0, 0, 0], [3, 2, 5], [0, 0, 9]])
    after, _ = cut(vertices, np.array([[0, 1, 2]]), (np.array([1, 2]), NOWHERE, NOWHERE))
    assert [1, 1, 2] in after.tolist()  # of 2/3 and 5/3
    assert [2, 1, 3] in after.tolist()  # of 4/3 and 10/3


def test_a_triangle_that_only_touches_planes_is_not_cut():
    vertices = np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0]])
    planes = (np.array([0.0, 4]), np.array([0.0, 4]), np.array([0.0]))
    after, faces = cut(vertices, np.array([[0, 1, 2]]), planes)
    assert len(faces) == 1
    assert len(after) == 3


def test_a_cut_through_a_vertex_gives_two_triangles():
    vertices = np.array([[2.0, 0, 0], [0, 4, 0], [4, 4, 0]])
    after, faces = cut(vertices, np.array([[0, 1, 2]]), (np.array([2.0]), NOWHERE, NOWHERE))
    assert len(faces) == 2
    assert [2.0, 4.0, 0.0] in after.tolist()


def test_the_triangles_are_no_more_than_there_must_be():
    vertices = np.array([[0.0, 0, 0], [1024, 0, 0], [0, 1024, 1]])
    planes = (np.arange(1.0, 1024), NOWHERE, NOWHERE)
    after, faces = cut(vertices, np.array([[0, 1, 2]]), planes)
    assert len(faces) == 2 * 1024 - 1
    assert len(after) == 3 + 2 * 1023


def test_planes_that_nothing_crosses_cost_nothing():
    vertices, faces = sphere(8, radius=10)
    planes = tuple(np.arange(1000.0, 200_000) for _ in range(3))
    after, parts = cut(vertices, faces, planes)
    assert len(parts) == len(faces)
    assert len(after) == len(vertices)


def test_nothing_to_cut_is_fine():
    after, faces = cut(np.zeros((0, 3)), np.zeros((0, 3), int), (np.arange(3.0),) * 3)
    assert after.shape == (0, 3)
    assert faces.shape == (0, 3)


def test_weld_joins_equal_vertices_and_drops_what_collapses():
    vertices = np.array([[1, 1, 1], [0, 0, 0], [1, 1, 1], [5, 0, 0], [-0.0, 0, 0], [9, 9, 9]])
    faces = np.array([[0, 1, 3], [2, 3, 4], [0, 2, 3]])
    after, kept = weld(vertices, faces)
    assert_array_equal(after, [[0, 0, 0], [1, 1, 1], [5, 0, 0]])
    assert_array_equal(after[kept], vertices[faces[:2]])


def by_the_book(a, b):
    """The order of the format's description: the axis with the most significant difference."""

    def less_significant(x, y):
        return x < y and x < (x ^ y)

    axis = 2
    for other in (1, 0):
        if less_significant(a[axis] ^ b[axis], a[other] ^ b[other]):
            axis = other
    return a[axis] - b[axis]


@given(st.lists(st.tuples(*[st.integers(0, 2**21 - 1)] * 3), min_size=1, max_size=30, unique=True))
def test_zorder_is_that_of_the_most_significant_difference(cells):
    codes = zorder(np.array(cells))
    ours = [cells[each] for each in np.argsort(codes)]
    assert ours == sorted(cells, key=functools.cmp_to_key(by_the_book))


@given(st.integers(90, 900), st.integers(0, 2**32 - 1))
def test_every_triangle_lies_in_its_cell_and_in_one(edge, seed):
    random = np.random.default_rng(seed)
    vertices = random.integers(0, 2000, (12, 3))
    faces = random.permutation(36).reshape(12, 3) % 12
    planes = tuple(np.arange(edge, 2000, edge) for _ in range(3))
    vertices, faces = cut(vertices, faces, planes)
    cells = sort_into_cells(vertices, faces, edge)
    for position, members in zip(cells.positions, cells.faces, strict=True):
        corners = vertices[members]
        assert (corners >= position * edge).all()
        assert (corners <= (position + 1) * edge).all()
    together = np.concatenate(cells.faces) if cells.faces else np.zeros((0, 3), int)
    assert sorted(together.tolist()) == sorted(faces.tolist())
    assert (np.diff(zorder(cells.positions).astype(np.int64)) > 0).all()


def test_a_triangle_in_the_last_plane_is_in_the_last_cell():
    vertices = np.array([[8, 0, 0], [8, 4, 0], [8, 0, 4], [0, 0, 0]])
    cells = sort_into_cells(vertices, np.array([[0, 1, 2]]), 4)
    assert_array_equal(cells.positions, [[1, 0, 0]])
    cells = sort_into_cells(
        np.array([[4, 0, 0], [4, 4, 0], [4, 0, 4], [8, 0, 0]]), np.array([[0, 1, 2], [0, 1, 3]]), 4
    )
    assert_array_equal(cells.positions, [[1, 0, 0]])


def test_no_triangles_are_in_no_cell():
    cells = sort_into_cells(np.zeros((0, 3), np.int64), np.zeros((0, 3), np.int64), 4)
    assert len(cells.positions) == 0
    assert cells.faces == ()


def test_a_closed_body_stays_closed_over_many_cells():
    vertices, faces = bumpy(60)
    lattice = np.rint((vertices - vertices.min(axis=0)) * 4).astype(np.int64)
    lattice, faces = weld(lattice, faces)
    before = volume(lattice, faces)
    planes = tuple(np.arange(1023, lattice.max() + 1, 1023) for _ in range(3))
    after, parts = cut(lattice, faces, planes)
    assert is_watertight(faces)
    assert is_watertight(parts)
    assert crossing(after, parts, planes) == 0
    assert volume(after, parts) == pytest.approx(before, rel=1e-5)
