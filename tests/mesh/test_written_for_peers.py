"""CloudVolume reads what is written: triangle for triangle, every level, every kind."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from tests.mesh.shapes import area, bumpy, matched, sphere, volume
from xprecomputed.mesh import create_meshes, open_meshes
from xprecomputed.storage import locate_url

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    cloudvolume = pytest.importorskip("cloudvolume")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

KINDS = {
    "legacy": {"format": "legacy"},
    "legacy gzip": {"format": "legacy"},
    "unsharded": {},
    "unsharded 10": {"vertex_quantization_bits": 10},
    "sharded": {"sharding": "auto", "num_labels": 5000},
    "sharded 10": {"sharding": "auto", "num_labels": 10, "vertex_quantization_bits": 10},
}
VOXELS = (16, 0, 0, 0, 0, 16, 0, 0, 0, 0, 40, 0)
MOVED = (16, 0, 0, -320, 0, 16, 0, 5000, 0, 0, 40, 12.5)
BODIES = {7: bumpy(24), 12: sphere(10, 300.0, (9000, 100, 5)), 2**64 - 2: bumpy(16, 900.0)}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def folder(tmp_path):
    info = cloudvolume.CloudVolume.create_new_info(
        num_channels=1,
        layer_type="segmentation",
        data_type="uint64",
        encoding="raw",
        resolution=(16, 16, 40),
        voxel_offset=(0, 0, 0),
        volume_size=(64, 64, 64),
        chunk_size=(64, 64, 64),
        mesh="mesh",
    )
    (tmp_path / "info").write_text(json.dumps(info))
    return locate_url(str(tmp_path / "mesh"))


def put(folder, kind, transform, **options):
    if kind == "legacy gzip":
        options["compression"] = "gzip"
    if kind.startswith("legacy"):
        options.pop("num_lods", None)
    create_meshes(folder, **KINDS[kind], transform=transform)
    meshes = open_meshes(folder)
    meshes.put(BODIES, **options)
    return meshes


def peer(folder, kind, number, lod=0):
    path = folder.url.removesuffix("/mesh")
    found = cloudvolume.CloudVolume(path, progress=False, use_https=False).mesh
    if kind.startswith("legacy"):
        return found.get(number, remove_duplicate_vertices=False)
    return found.get(number, lod=lod)[number]


@pytest.mark.parametrize("transform", [None, VOXELS, MOVED])
def test_a_mesh_of_one_fragment_triangle_for_triangle(folder, kind, transform):
    put(folder, kind, transform, num_lods=1)
    bits = 10 if kind.endswith("10") else 16
    for number, (vertices, faces) in BODIES.items():
        found = peer(folder, kind, number)
        step = np.ptp(vertices, axis=0).max() / (2**bits - 1)
        if kind.startswith("legacy"):
            step = 0.01
        corners = np.asarray(found.vertices, float)[found.faces]
        wanted = vertices[faces]
        assert np.abs(matched(wanted, corners) - wanted).max() <= step / 2 + 0.005
        assert area(found.vertices, found.faces) == pytest.approx(area(vertices, faces), rel=0.01)


@pytest.mark.parametrize("transform", [None, MOVED])
def test_every_level_is_read_as_here(folder, kind, transform):
    if kind.startswith("legacy"):
        pytest.skip("one level")
    meshes = put(folder, kind, transform, num_lods=3)
    for number, (vertices, faces) in BODIES.items():
        for lod in range(3):
            theirs, ours = peer(folder, kind, number, lod), meshes.get(number, lod=lod)
            assert np.array_equal(theirs.faces, ours.faces)
            assert np.abs(theirs.vertices - ours.vertices).max() <= 0.005
            assert volume(theirs.vertices, theirs.faces) == pytest.approx(
                volume(vertices, faces), rel=0.03
            )
            low, high = theirs.vertices.min(axis=0), theirs.vertices.max(axis=0)
            allowed = 0.03 * np.ptp(vertices, axis=0).max()
            assert np.abs(low - vertices.min(axis=0)).max() < allowed
            assert np.abs(high - vertices.max(axis=0)).max() < allowed


def test_ids_that_are_there(folder, kind):
    put(folder, kind, None)
    path = folder.url.removesuffix("/mesh")
    mesh = cloudvolume.CloudVolume(path, progress=False, use_https=False).mesh
    if kind.startswith("legacy"):
        assert {key: bool(value) for key, value in mesh.exists([7, 8]).items()} == {
            "7": True,
            "8": False,
        }
    else:
        assert mesh.get_manifest(7).segment_id == 7
