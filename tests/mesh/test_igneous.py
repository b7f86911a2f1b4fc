"""What Igneous makes is read as CloudVolume reads it (see fixtures/PROVENANCE.md)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.mesh.shapes import triangles
from xprecomputed.errors import LodNotFoundError
from xprecomputed.mesh import open_meshes
from xprecomputed.storage import locate_url

FIXTURES = Path(__file__).parent / "fixtures"
#: How many levels each segment has.
LODS = {
    "legacy": {7205: 1, 991: 1, 12: 1, 2**62 + 1: 1},
    "unsharded": {7205: 3, 991: 2, 12: 1, 2**62 + 1: 1},
    "sharded": {7205: 3, 991: 2, 12: 1, 2**62 + 1: 1},
    "sharded_10": {7205: 2, 991: 2, 12: 1, 2**62 + 1: 1},
}
BOUNDS = ((1600.0, -320.0, 1200.0), (2368.0, 384.0, 2480.0))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("igneous")
    with zipfile.ZipFile(FIXTURES / "igneous.zip") as archive:
        archive.extractall(folder)
    return folder


def meshes_in(made, folder):
    return open_meshes(locate_url(str(made / folder)), BOUNDS)


@pytest.mark.parametrize("folder", LODS)
def test_every_level_is_what_cloudvolume_reads(made, folder):
    meshes = meshes_in(made, folder)
    with np.load(FIXTURES / f"{folder}.npz") as expected:
        for segment, lods in LODS[folder].items():
            for lod in range(lods):
                found = meshes.get(segment, lod=lod)
                vertices = expected[f"{segment}_{lod}_vertices"]
                faces = expected[f"{segment}_{lod}_faces"]
                if folder == "legacy":  # CloudVolume takes the fragments in any order
                    ours = triangles(found.vertices, found.faces, 1e-3)
                    assert ours == triangles(vertices, faces, 1e-3)
                else:  # it adds in float32 where this is float64
                    assert_allclose(found.vertices, vertices, rtol=0, atol=2e-3)
                    assert_array_equal(found.faces, faces)
                assert (found.segment_id, found.lod) == (segment, lod)
        assert len(expected.files) == 2 * sum(LODS[folder].values())


@pytest.mark.parametrize("folder", LODS)
def test_ids_levels_and_what_is_missing(made, folder):
    meshes = meshes_in(made, folder)
    assert meshes.ids().tolist() == sorted(LODS[folder])
    assert meshes.exists([7205, 7206]) == {7205: True, 7206: False}
    with pytest.raises(LodNotFoundError, match="no lod 5"):
        meshes.get(7205, lod=5)


@pytest.mark.parametrize("folder", LODS)
def test_the_spatial_index_has_them(made, folder):
    meshes = meshes_in(made, folder)
    assert sorted(meshes.ids_in(BOUNDS).tolist()) == sorted(LODS[folder])
    corner = meshes.ids_in((BOUNDS[0], (1700, -200, 1400)))
    assert 12 in corner
    assert 2**62 + 1 not in corner


@pytest.mark.parametrize("folder", ["sharded", "sharded_10"])
def test_a_mesh_put_beside_those_of_igneous_leaves_them_as_they_are(made, tmp_path, folder):
    target = tmp_path / folder
    target.mkdir()
    for file in (made / folder).iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    meshes = open_meshes(locate_url(str(target)), BOUNDS)
    before = {segment: meshes.get(segment) for segment in LODS[folder]}
    meshes.put({5: meshes.get(12), 991: meshes.get(12)})
    assert meshes.ids().tolist() == sorted([5, *LODS[folder]])
    for segment, mesh in before.items():
        found = meshes.get(segment)
        if segment == 991:
            assert len(found.faces) == len(before[12].faces)
        else:
            assert found.equals(mesh)
    assert 5 in meshes.ids_in((BOUNDS[0], (1700, -200, 1400)))
    assert 991 not in meshes.ids_in(((2200, 200, 2000), BOUNDS[1]))
