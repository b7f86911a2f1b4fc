"""From a volume to its meshes and skeletons: stores, accessors, and folders alone."""

import pickle
import subprocess
import sys

import numpy as np
import osteoid
import pytest
import xarray as xr

import xprecomputed as xp
from tests.images import labels
from xprecomputed.store import opening
from xprecomputed.testing import write_volume

TRIANGLE = ([[0, 0, 0], [900, 0, 0], [0, 900, 0]], [[0, 1, 2]])
INDEX = {"resolution": (16, 16, 40), "chunk_size": (1024, 1024, 640)}


def bone(number):
    return osteoid.Skeleton([(0, 0, 0), (30, 40, 0)], [(0, 1)], radii=[1, 2], segid=number)


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path):
    place = str(tmp_path / "v") if request.param == "file" else f"memory://segments/{tmp_path.name}"
    array = labels((20, 90, 100), "u8", cell=10)
    mips = [array, array[:, ::2, ::2]]
    return write_volume(place, mips, resolution=(16, 16, 40), voxel_offset=(10, 20, -30))


@pytest.fixture
def filled(url):
    xp.create_mesh(xp.open_store(url)).put({7: TRIANGLE})
    xp.create_skeleton(xp.open_store(url)).put(bone(7))
    return url


def test_info_leads_to_both(filled):
    store = xp.open_store(filled)
    assert (store.info.mesh, store.info.skeletons) == ("mesh", "skeletons")
    assert store.mesh.get(7).segment_id == 7
    assert store.skeleton.get(7).cable_length() == 50
    assert store.mesh.url == f"{store.url}/mesh"
    assert pickle.loads(pickle.dumps(store.mesh)).get(7).equals(store.mesh.get(7))


def test_accessors_lead_to_both(filled):
    ds = xr.open_dataset(filled, engine="precomputed")
    tree = xr.open_datatree(filled, engine="precomputed")
    for each in (ds, ds["segmentation"].isel(z=3) > 0, tree, tree["mip1"], tree["mip1"].ds):
        assert each.precomputed.mesh.exists([7, 8]) == {7: True, 8: False}
        assert each.precomputed.skeleton.ids().tolist() == [7]
    with xp.trace() as t:
        mesh = ds.precomputed.mesh
    assert t.requests == 2  # the info of the volume and of the folder
    with xp.trace() as t:
        mesh.get(7)
    assert t.requests == 2  # manifest and fragments


def test_a_volume_that_names_none_says_how_to_name_one(url):
    with pytest.raises(xp.InfoMissingError, match=r"names no 'mesh'.*\n.*mesh_dir='mesh'"):
        xp.open_store(url).mesh
    with pytest.raises(xp.InfoMissingError, match=r"names no 'skeletons'.*\n.*skeleton_dir='skel"):
        xr.open_dataset(url, engine="precomputed").precomputed.skeleton


def test_folders_are_named_instead_of_those_of_info(filled):
    store = xp.open_store(filled)
    xp.create_mesh(f"{filled}/finer/mesh", format="legacy").put({8: TRIANGLE})
    xp.create_skeleton(f"{filled}/finer/bones").put(bone(8))
    folders = {"mesh_dir": "finer/mesh", "skeleton_dir": "finer/bones"}
    for other in (xp.open_store(filled, **folders), xp.open_store(store, **folders)):
        assert other.mesh.ids().tolist() == other.skeleton.ids().tolist() == [8]
        assert pickle.loads(pickle.dumps(other)).mesh.ids().tolist() == [8]
    assert store.mesh.ids().tolist() == [7]
    ds = xr.open_dataset(filled, engine="precomputed", **folders)
    assert ds.precomputed.mesh.ids().tolist() == [8]
    tree = xr.open_datatree(filled, engine="precomputed", **folders)
    assert tree.precomputed.skeleton.ids().tolist() == [8]


def test_folders_travel_with_the_array_and_not_with_the_url(filled):
    for number, folder in ((8, "a"), (9, "b")):
        xp.create_skeleton(f"{filled}/{folder}").put(bone(number))
    a = xr.open_dataset(filled, engine="precomputed", skeleton_dir="a")
    b = xr.open_dataset(filled, engine="precomputed", skeleton_dir="b")
    plain = xr.open_dataset(filled, engine="precomputed")
    expected = ((a, 8), (b, 9), (plain, 7))
    for ds, number in expected:
        assert ds.precomputed.skeleton.ids().tolist() == [number]
        array = (ds["segmentation"].isel(x=slice(1, None, 2)) * 2).rename("other")
        assert array.precomputed.skeleton.ids().tolist() == [number]
    code = (
        "import xprecomputed, pickle, sys; "
        "print(pickle.load(sys.stdin.buffer).precomputed.skeleton.url)"
    )
    array = xr.DataArray([1], dims="x", attrs=a["segmentation"].attrs)
    if filled.startswith("/"):
        found = subprocess.run(
            [sys.executable, "-c", code],
            input=pickle.dumps(array),
            capture_output=True,
            check=True,
        )
        assert found.stdout.decode().strip().endswith("/a")
    both = xr.Dataset({"a": a["segmentation"], "b": b["segmentation"]})
    with pytest.raises(xp.SourceError, match="with different folders"):
        both.precomputed.store


def test_an_info_that_was_given_is_remembered(filled):
    info = xp.open_store(filled).info.to_json() | {"extra": 1}
    given = xp.open_store(filled, info=info)
    assert xp.open_store(given, mesh_dir="elsewhere").mesh_dir == "elsewhere"
    assert opening.reopen(given.url).info.extra == {"extra": 1}
    assert opening.reopen(given.url).mesh_dir is None


@pytest.mark.parametrize("folder", ["", 5, "http://x/y", "memory://q"])
def test_folders_are_named_relative_to_the_volume(filled, folder):
    with pytest.raises(xp.InvalidURLError, match="expected a path relative to the volume"):
        xp.open_store(filled, mesh_dir=folder)
    with pytest.raises(xp.InvalidURLError, match="expected a folder below"):
        xp.create_skeleton(xp.open_store(filled), folder)


@pytest.mark.parametrize("folder", ["..", ".", "a/../..", "/a"])
def test_folders_are_made_below_the_volume(filled, folder):
    with pytest.raises(xp.InvalidURLError, match="expected a folder below"):
        xp.create_mesh(xp.open_store(filled), folder, mode="w")


def test_folders_are_made_where_nothing_else_is(filled):
    store = xp.open_store(filled)
    with pytest.raises(xp.LayoutError, match="the volume has scale '16_16_40' there"):
        xp.create_mesh(store, "16_16_40", mode="w")
    with pytest.raises(xp.LayoutError, match="the volume has its skeletons there"):
        xp.create_mesh(store, "./skeletons/", mode="w")
    with pytest.raises(xp.LayerExistsError, match="info names 'mesh' as its mesh; mode='w'"):
        xp.create_mesh(store, "finer")
    assert xp.create_mesh(store, "finer", mode="w").ids().tolist() == []
    assert xp.open_store(filled).info.mesh == "finer"
    assert xp.open_mesh(f"{filled}/mesh").exists(7)


@pytest.mark.parametrize("folder", ["/etc", "a\\b", "../" * 40 + "etc"])
def test_folders_do_not_leave_the_store(filled, folder):
    with pytest.raises(xp.InvalidURLError, match="key"):
        xp.open_store(filled, mesh_dir=folder).mesh


def test_making_a_folder_keeps_what_info_says_otherwise(url):
    before = xp.open_store(url).info
    made = xp.create_mesh(xp.open_store(url), "meshes/fine", format="legacy")
    after = xp.open_store(url).info
    assert after.mesh == "meshes/fine"
    assert after.scales == before.scales
    assert made == xp.open_store(url).mesh
    with pytest.raises(xp.LayerExistsError, match="meshes/fine"):
        xp.create_mesh(xp.open_store(url), "meshes/fine")
    with pytest.raises(ValueError, match="give storage_options to its URL"):
        xp.create_skeleton(xp.open_store(url), storage_options={})


def test_a_folder_alone(filled):
    assert xp.open_mesh(f"{filled}/mesh").get(7).segment_id == 7
    assert xp.open_skeleton(f"precomputed://{filled}/skeletons/").exists(7)
    with pytest.raises(xp.InvalidInfoError, match=r"this is a volume: xp.open_store\(url\).mesh"):
        xp.open_mesh(filled)
    with pytest.raises(xp.InvalidInfoError, match="@type: expected"):
        xp.open_skeleton(f"{filled}/mesh")


def test_the_index_of_a_new_folder_is_empty_and_then_it_is_not(url):
    store = xp.open_store(url)
    mesh = xp.create_mesh(store, spatial_index=INDEX)
    skeleton = xp.create_skeleton(store, spatial_index=INDEX)
    box = ((0, 0, -2000), (500, 900, 400))
    assert mesh.ids_in(box).tolist() == []
    assert skeleton.get_by_bbox(box) == {}
    # the volume begins at voxel 10, 20, -30
    mesh.put({7: TRIANGLE})
    skeleton.put(bone(7))
    for again in (mesh, xp.open_store(url).mesh, xp.open_mesh(mesh.url)):
        assert list(again.get_by_bbox(box)) == [7]
        assert again.ids_in(((5000, 5000, 0), (6000, 6000, 100))).tolist() == []
    assert xp.open_store(url).skeleton.ids_in(box).tolist() == [7]
    assert xp.open_store(url).mesh.bounds_nm == ((160, 320, -1200), (1760, 1760, -400))


def test_the_index_has_the_bounds_of_the_mip_that_was_meshed(url):
    index = {"resolution": (32, 32, 40), "chunk_size": (1024, 1024, 640)}
    xp.create_mesh(xp.open_store(url), spatial_index=index)
    scale = xp.open_store(url).mips[1]
    low = [a * r for a, r in zip(scale.bounds.start, scale.resolution, strict=True)]
    high = [a * r for a, r in zip(scale.bounds.stop, scale.resolution, strict=True)]
    np.testing.assert_array_equal(xp.open_store(url).mesh.bounds_nm, [low, high])


def test_editing_the_info_keeps_what_a_store_was_opened_with(filled, tmp_path):
    store = xp.open_store(filled, cache_dir=tmp_path / "cache", mesh_dir="mesh")
    added = store.add_scale((2, 2, 1))
    assert (added.cache_dir, added.mesh_dir) == (str(tmp_path / "cache"), "mesh")
    assert added.info.mesh == "mesh"
