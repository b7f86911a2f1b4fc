"""Two who write one mesh at once, where nothing but conditions of puts keeps them apart."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.mesh.shapes import sphere
from xprecomputed.mesh import create_meshes, open_meshes
from xprecomputed.storage import locate_url

ONE, OTHER = sphere(6), sphere(9)


@pytest.mark.parametrize("kind", ["s3 signed", "gcs signed", "azure signed"])
@pytest.mark.parametrize("form", ["multires", "legacy"])
def test_the_mesh_is_that_of_one_of_them(place_of, kind, form):
    place = place_of(kind)
    folder = locate_url(place.url, place.options)
    create_meshes(folder, format=form)
    meshes = open_meshes(folder)
    for _ in range(5):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda given: meshes.put({7: given}), (ONE, OTHER)))
        assert len(meshes.get(7).faces) in (len(ONE[1]), len(OTHER[1]))
    assert meshes.delete([7, 8]) == 1
    assert meshes.exists(7) is False
