"""Levels of detail: fewer triangles of the same shape, every time the same."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.mesh.shapes import area, bumpy, is_watertight, sphere, volume
from xprecomputed import MissingDependencyError
from xprecomputed.mesh import lods
from xprecomputed.mesh.lods import make_lods, resolution, simplify


def test_each_level_has_a_quarter_of_the_triangles_and_the_same_shape():
    vertices, faces = bumpy(60)
    levels = make_lods(vertices, faces, 3)
    counts = [len(each) for _, each in levels]
    assert counts[0] == len(faces)
    assert counts[1] == pytest.approx(len(faces) / 4, rel=0.01)
    assert counts[2] == pytest.approx(len(faces) / 16, rel=0.01)
    for points, corners in levels:
        assert is_watertight(corners)
        assert volume(points, corners) == pytest.approx(volume(vertices, faces), rel=0.01)
        assert area(points, corners) == pytest.approx(area(vertices, faces), rel=0.01)


def test_reduction_is_the_part_that_is_kept():
    vertices, faces = bumpy(40)
    (_, _), (_, coarser) = make_lods(vertices, faces, 2, reduction=0.5)
    assert len(coarser) == pytest.approx(len(faces) / 2, rel=0.01)


def test_the_same_every_time_and_from_every_thread():
    vertices, faces = bumpy(40)
    other = sphere(30, radius=10.0)
    first = make_lods(vertices, faces, 3)
    found = []

    def work(number):
        if number % 2:
            make_lods(*other, 3)
        found.append(make_lods(vertices, faces, 3))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for levels in found:
        for mine, yours in zip(first, levels, strict=True):
            assert_array_equal(mine[0], yours[0])
            assert_array_equal(mine[1], yours[1])


def test_one_at_a_time_as_the_package_has_variables_of_the_process(monkeypatch):
    inside, most = [], []

    class Slow:
        @staticmethod
        def simplify(points, corners, **options):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()
            return points, corners[: len(corners) // 2]

    monkeypatch.setattr(lods, "optional", lambda *_: Slow)
    body = bumpy(20)
    threads = [threading.Thread(target=simplify, args=(*body, 300)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert most == [1, 1, 1, 1]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_neither_the_unit_nor_the_distance_from_the_origin_matters(scale):
    vertices, faces = bumpy(40)
    plain = simplify(vertices, faces, 1000)[1]
    moved = simplify(vertices * scale + 1e7 * scale, faces, 1000)
    assert len(moved[1]) == pytest.approx(len(plain), rel=0.02)
    assert volume(moved[0] - 1e7 * scale, moved[1]) == pytest.approx(
        volume(vertices, faces) * scale**3, rel=0.01
    )


def test_tiny_meshes_are_left_alone():
    vertices, faces = sphere(8)
    assert len(faces) < lods.LEAST_TRIANGLES
    (_, fine), (_, coarse) = make_lods(vertices, faces, 2)
    assert_array_equal(fine, coarse)
    assert len(fine) == len(faces)


def test_borders_stay_as_they_are():
    side = np.arange(41)
    x, y = np.meshgrid(side, side, indexing="ij")
    vertices = np.stack([x, y, np.sin(x / 5) * np.cos(y / 7) * 3], -1).reshape(-1, 3) * 8.0
    at = (41 * side[:-1, None] + side[:-1]).ravel()
    faces = np.concatenate(
        [np.stack([at, at + 41, at + 42], -1), np.stack([at, at + 42, at + 1], -1)]
    )
    points, corners = simplify(vertices, faces, len(faces) // 4)
    assert len(corners) < len(faces) // 2

    def border(places, triangles):
        edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        once, count = np.unique(edges, axis=0, return_counts=True)
        return {tuple(np.round(place, 6)) for place in places[once[count == 1]].reshape(-1, 3)}

    assert border(points, corners) == border(vertices, faces)


def test_seams_of_fragments_are_no_borders():
    vertices, faces = bumpy(40)
    apart = vertices[faces].reshape(-1, 3)  # every triangle for itself
    welded = make_lods(apart, np.arange(len(apart)).reshape(-1, 3), 2)
    assert len(welded[0][0]) == len(vertices)
    assert is_watertight(welded[1][1])


def test_what_cannot_be_made_coarser_stays(monkeypatch):
    vertices, faces = bumpy(40)

    class Empty:
        @staticmethod
        def simplify(points, corners, **options):
            return points[:0], corners[:0]

    monkeypatch.setattr(lods, "optional", lambda *_: Empty)
    points, corners = simplify(vertices, faces, 1000)
    assert len(corners) == len(faces)
    assert points is vertices


def test_levels_end_where_they_are_not_coarser_if_asked_to(monkeypatch):
    vertices, faces = bumpy(40)
    monkeypatch.setattr(lods, "simplify", lambda points, corners, _: (points, corners[:-9]))
    assert len(make_lods(vertices, faces, 4)) == 4
    assert len(make_lods(vertices, faces, 4, only_coarser=True)) == 1
    assert len(make_lods(vertices, faces[:250], 4, only_coarser=True)) == 4


def test_the_package_is_named_where_it_lacks(monkeypatch):
    from xprecomputed.codecs import _optional

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(_optional.importlib, "import_module", absent)
    vertices, faces = bumpy(20)
    with pytest.raises(MissingDependencyError, match=r"coarser levels of detail.*\n.*\[mesh\]"):
        make_lods(vertices, faces, 2)
    assert len(make_lods(vertices, faces, 1)) == 1


def test_resolution_is_the_side_of_a_square():
    side = np.arange(11) * 16.0
    x, y = np.meshgrid(side, side, indexing="ij")
    vertices = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)
    at = (11 * np.arange(10)[:, None] + np.arange(10)).ravel()
    faces = np.concatenate(
        [np.stack([at, at + 11, at + 12], -1), np.stack([at, at + 12, at + 1], -1)]
    )
    assert resolution(vertices, faces) == pytest.approx(16)
    assert resolution(vertices, faces[:0]) == 0
