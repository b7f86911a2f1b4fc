"""What cannot be stored is refused, with its segment, before anything is written."""

from __future__ import annotations

import numpy as np
import pytest

from tests.mesh.shapes import sphere
from xprecomputed.mesh import create_meshes, open_meshes, writing
from xprecomputed.storage import locate_url

BALL = sphere(6)
TRIANGLE = [[0, 0, 0], [8, 0, 0], [0, 8, 0]], [[0, 1, 2]]


@pytest.fixture
def folder(tmp_path):
    return locate_url(str(tmp_path / "mesh"))


def refused(folder, meshes, message, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "_store", lambda *_: 1 / 0)
        with pytest.raises(ValueError, match=message):
            open_meshes(folder).put(meshes, **options)
    assert [entry.name for entry in folder.storage.list_dir(folder.key)] == ["info"]


def test_legacy_vertices_that_float32_would_move(folder):
    """At 1e9 float32 has steps of 64."""
    create_meshes(folder, format="legacy", transform=(1, 0, 0, 1e9, 0, 1, 0, 0, 0, 0, 1, 0))
    message = "segment 8: vertices would move by up to .* nm, since .* without so large a transl"
    refused(folder, {8: BALL, 9: BALL}, message)


@pytest.mark.parametrize("far", [0, 1e5, 1e7])
@pytest.mark.parametrize("move", [0, 1e4])
def test_legacy_vertices_as_fine_as_they_were(folder, far, move):
    transform = (16, 0, 0, move, 0, 16, 0, -move, 0, 0, 40, 0)
    create_meshes(folder, format="legacy", transform=transform)
    vertices = (BALL[0] + far).astype(np.float32)
    open_meshes(folder).put({7: (vertices, BALL[1])})
    found = open_meshes(folder).get(7).vertices
    assert np.abs(found - vertices).max() <= max(0.1, 4 * float(np.spacing(np.float32(far))))


def test_legacy_vertices_out_of_range(folder):
    create_meshes(folder, format="legacy", transform=(1e-9, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0))
    refused(folder, {7: ([[0, 0, 0], [3e35, 0, 0], [0, 8, 0]], [[0, 1, 2]])}, "7: .*has float32")


def test_meshes_that_collapse(folder):
    create_meshes(folder)
    refused(folder, {6: BALL, 7: TRIANGLE}, "7: nothing is left", chunk_shape=(1e7,) * 3)


@pytest.mark.parametrize("options", [{"num_lods": 11}, {"chunk_shape": (8 / 20000,) * 3}])
def test_meshes_that_would_be_cut_to_pieces(folder, options):
    create_meshes(folder)
    refused(folder, {7: TRIANGLE}, "segment 7: .*cut 1 triangles to pieces in about", **options)


def test_scales_that_cannot_be_read(folder):
    create_meshes(folder, lod_scale_multiplier=1e50)
    refused(folder, {7: TRIANGLE}, "segment 7: lod_scales of .*lod_scale_multiplier .*1e\\+50")


def test_what_only_encoding_finds_names_its_segment_too(folder, monkeypatch):
    create_meshes(folder)

    def fails(*_, **__):
        raise ValueError("unforeseen")

    monkeypatch.setattr(writing, "encode_mesh", fails)
    with pytest.raises(ValueError, match="mesh of segment 7: unforeseen"):
        open_meshes(folder).put({7: TRIANGLE})
