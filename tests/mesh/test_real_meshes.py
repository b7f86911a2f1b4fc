"""The real meshes beside some checkouts, as CloudVolume reads them."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.mesh.shapes import triangles
from xprecomputed import trace
from xprecomputed.mesh import open_meshes
from xprecomputed.storage import locate_url

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    cloudvolume = pytest.importorskip("cloudvolume")


@pytest.fixture
def meshes(real_volume):
    return open_meshes(locate_url(f"{real_volume}/mesh_mip_2_err_40"))


@pytest.fixture
def peer(real_volume):
    # the meshes belong to a mip that the volume no longer has, and CloudVolume asks for it
    info = json.loads(Path(real_volume, "info").read_text())
    info["scales"].append(info["scales"][-1])
    path = f"file://{real_volume}"
    return cloudvolume.CloudVolume(path, info=info, progress=False, parallel=1).mesh


def test_all_of_them(meshes, peer):
    ids = meshes.ids().tolist()
    assert len(ids) == 12
    found = meshes.get(ids)
    expected = peer.get(ids, remove_duplicate_vertices=False, fuse=False)
    for key in ids:
        # CloudVolume puts fragments in an order of its own
        assert sorted(map(tuple, found[key].vertices.tolist())) == sorted(
            map(tuple, expected[key].vertices.tolist())
        )
        mine = triangles(found[key].vertices, found[key].faces, 1e-3)
        assert mine == triangles(expected[key].vertices, expected[key].faces, 1e-3)
        assert found[key].segment_id == key


def test_welded(meshes, peer):
    ids = meshes.ids().tolist()
    found = meshes.get(ids, weld=True)
    for key in ids:
        # of several at once CloudVolume removes none
        expected = peer.get(key, remove_duplicate_vertices=True, fuse=True)
        order = np.lexsort(found[key].vertices.T[::-1])
        np.testing.assert_array_equal(found[key].vertices[order], expected.vertices)
        mine = triangles(found[key].vertices, found[key].faces, 1e-3)
        assert mine == triangles(expected.vertices, expected.faces, 1e-3)


def test_fused(meshes, peer):
    ids = meshes.ids().tolist()
    found = meshes.get(ids, fuse=True)
    expected = peer.get(ids, remove_duplicate_vertices=False, fuse=True)
    mine = triangles(found.vertices, found.faces, 1e-3)
    assert mine == triangles(expected.vertices, expected.faces, 1e-3)


def test_a_box_fetches_and_gives_the_fragments_in_it(meshes):
    whole = meshes.get(meshes.ids())
    box = ((0, 0, 0), (8192, 8192, 17800))  # two chunks along z, of 17,920 nm
    with trace() as t:
        part = meshes.get(meshes.ids(), bbox=box)
    assert not [name for name in t.objects if "_448-512" in name]
    for key, mesh in whole.items():
        lower = mesh.vertices[mesh.vertices[:, 2] < 17700]
        inside = {tuple(point) for point in part[key].vertices.tolist()}
        assert inside >= {tuple(point) for point in lower.tolist()}


def test_the_spatial_index_knows_where_they_are(meshes):
    boxes = meshes.spatial_index.boxes()
    for key, mesh in meshes.get(meshes.ids()).items():
        low, high = boxes[key]
        assert (mesh.bounds_nm[0] >= low - 1).all()
        assert (mesh.bounds_nm[1] <= high + 1).all()
        assert key in meshes.ids_in(mesh.bounds_nm)
