"""Skeletons by id: many at once, later, elsewhere, into files."""

import asyncio
import pickle
import threading

import numpy as np
import osteoid
import pytest
from dask.base import tokenize

import xprecomputed as xp
from tests.skeleton.paths import RADIUS, STRETCHED, assert_same, random_tree, segments
from tests.storage.far import far
from xprecomputed import errors
from xprecomputed.keyed import KeyedValues
from xprecomputed.shard_format import locate
from xprecomputed.skeleton import (
    Skeletons,
    create_skeletons,
    open_skeletons,
    read_swc,
)
from xprecomputed.storage import cached, index_cache, locate_url

BOUNDS = ((0, 0, 0), (1024, 1024, 1024))
INDEX = {"resolution": (8, 8, 8), "chunk_size": (512, 512, 512)}
SHARDED = {"sharding": "auto", "num_labels": 10**6}
IDS = [7, 2**64 - 1, 0, 12345, 8]


@pytest.fixture(params=["unsharded", "sharded"])
def sharding(request):
    return SHARDED if request.param == "sharded" else {}


@pytest.fixture
def trees(rng):
    return {number: random_tree(rng, 15, number) for number in IDS}


def made(place, bounds=BOUNDS, **options):
    create_skeletons(place, **options)
    return open_skeletons(place, bounds)


@pytest.fixture
def skeletons(tmp_path, sharding):
    return made(locate_url(str(tmp_path / "s")), **sharding)


def test_one_and_several(skeletons, trees):
    skeletons.put(trees)
    one = skeletons.get(7)
    assert one.id == 7
    assert_same(one, trees[7])
    assert_same(skeletons.get(np.uint64(2**64 - 1)), trees[2**64 - 1])
    found = skeletons.get(np.array([8, 0, 8, 7], np.uint64))
    assert list(found) == [8, 0, 7]
    for number, each in found.items():
        assert type(number) is int
        assert each.id == number
        assert_same(each, trees[number])
    assert list(skeletons.get([7])) == [7]
    assert skeletons.get([]) == {}


def test_missing(skeletons, trees):
    skeletons.put(trees)
    with pytest.raises(
        errors.SegmentMissingError, match="no skeleton of segment 9; missing='skip'"
    ):
        skeletons.get(9)
    with pytest.raises(KeyError, match="no skeleton of 2 segments: 9, 10"):
        skeletons.get([7, 9, 10])
    assert skeletons.get(9, missing="skip") is None
    assert list(skeletons.get([9, 7, 10], missing="skip")) == [7]
    for call in (skeletons.get, skeletons.get_bag):
        with pytest.raises(ValueError, match="missing='zero'"):
            call([7], missing="zero")


def test_what_there_is(skeletons, trees):
    assert skeletons.ids().tolist() == []
    skeletons.put(trees)
    assert skeletons.ids().tolist() == sorted(IDS)
    assert skeletons.ids().dtype == np.uint64
    assert skeletons.exists(7) is True
    assert skeletons.exists(9) is False
    assert skeletons.exists([9, 7]) == {9: False, 7: True}
    assert skeletons.delete([7, 9, 0]) == 2
    assert skeletons.delete(8) == 1
    assert skeletons.ids().tolist() == [12345, 2**64 - 1]


def test_put_replaces_and_leaves_the_others(skeletons, trees, rng):
    skeletons.put(trees)
    other = random_tree(rng, 33, 7)
    skeletons.put([other])
    found = skeletons.get(IDS)
    assert_same(found.pop(7), other)
    for number, each in found.items():
        assert_same(each, trees[number])


def test_nothing_is_put_before_all_is_checked(skeletons, trees):
    trees[8].vertices[3] = np.nan
    with pytest.raises(
        errors.DataTypeError, match=f"{skeletons.url}, skeleton of segment 8: vertex 3"
    ):
        skeletons.put(trees)
    assert skeletons.ids().tolist() == []


def test_extra_attributes(skeletons, rng):
    tree = random_tree(rng, segment_id=7, vertex_types=np.ones(20, np.uint8))
    with pytest.raises(errors.LayoutError, match="segment 7: vertex attributes .'vertex_types'."):
        skeletons.put(tree)
    skeletons.put(tree, extra_attributes="drop")
    assert_same(skeletons.get(7), tree)
    assert not skeletons.get(7).vertex_types.any()


def test_an_swc_file_goes_in(skeletons, tmp_path):
    path = tmp_path / "a.swc"
    path.write_text("1 0 8 8 8 2 -1\n2 0 9 8 8 3 1\n")
    skeletons.put({9: path})
    assert skeletons.get(9).radius.tolist() == [2, 3]
    assert skeletons.get(9).edges.tolist() == [[1, 0]]


def test_empty_is_not_missing(skeletons):
    skeletons.put(osteoid.Skeleton(segid=4))
    assert skeletons.exists(4)
    assert skeletons.get(4).empty()


def test_without_info(tmp_path, trees):
    place = locate_url(str(tmp_path))
    skeletons = open_skeletons(place)
    assert not skeletons.has_info
    assert "without an info" in repr(skeletons)
    trees[7].vertex_types[3] = 1
    skeletons.put(trees)
    assert skeletons.get(7).vertex_types[3] == 1
    (tmp_path / "8").write_bytes((tmp_path / "8").read_bytes()[: -15 * 5])
    assert skeletons.get(8).radius.tolist() == [-1] * 15
    assert_same(skeletons.get(8), trees[8], ())
    create_skeletons(locate_url(str(tmp_path / "with")))
    named = open_skeletons(locate_url(str(tmp_path / "with")))
    (tmp_path / "with/8").write_bytes((tmp_path / "8").read_bytes())
    with pytest.raises(errors.CorruptDataError, match="radius"):
        named.get(8)


def test_of_something_else(tmp_path):
    (tmp_path / "info").write_text('{"@type": "neuroglancer_legacy_mesh"}')
    with pytest.raises(errors.InvalidInfoError, match="info is not a usable skeleton description"):
        open_skeletons(locate_url(str(tmp_path)))


# ---- requests


def test_a_thousand_out_of_shards_take_a_handful_of_requests(tmp_path, rng):
    place = locate_url(f"memory://{tmp_path.name}/thousand")
    skeletons = made(place, sharding="auto", num_labels=10**4)  # one shard of 8 minishards
    ids = np.unique(rng.integers(0, 2**63, 1000, np.int64)).astype(np.uint64)
    skeletons.put({int(number): random_tree(rng, 15) for number in ids})
    index_cache.clear()
    with xp.trace() as t:
        found = skeletons.get(ids)
    assert len(found) == len(ids)
    assert t.requests <= 1 + 8 + 1, str(t)
    with xp.trace() as t:
        assert skeletons.get(int(ids[5])).id == ids[5]
    assert t.requests == 1
    with xp.trace() as t:
        assert all(skeletons.exists(ids).values())
    assert t.requests == 0


def test_unsharded_one_request_each(tmp_path, trees):
    skeletons = made(locate_url(str(tmp_path)))
    skeletons.put(trees)
    with xp.trace() as t:
        skeletons.get(IDS)
        skeletons.exists(9)
    assert t.objects == {str(tmp_path / str(number)): 1 for number in [*IDS, 9]}
    with xp.trace() as t:
        repr(skeletons), pickle.dumps(skeletons), tokenize(skeletons), skeletons.url
    assert t.requests == 0


def test_whether_objects_are_compressed(tmp_path, trees):
    skeletons = made(locate_url(str(tmp_path)))
    skeletons.put(trees)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["info", *map(str, IDS)])
    skeletons.put(trees[7], compression="gzip")
    assert (tmp_path / "7.gz").exists()
    assert not (tmp_path / "7").exists()
    assert_same(skeletons.get(7), trees[7])
    skeletons.put(trees[7], compression=None)
    assert not (tmp_path / "7.gz").exists()
    with pytest.raises(ValueError, match="compression='br'"):
        skeletons.put(trees[7], compression="br")


# ---- later, elsewhere


def test_async(skeletons, trees):
    skeletons.put(trees)

    async def read():
        one, several = await asyncio.gather(
            skeletons.get_async(7), skeletons.get_async([8, 9], missing="skip")
        )
        with pytest.raises(errors.SegmentMissingError):
            await skeletons.get_async([9])
        return one, several

    one, several = asyncio.run(read())
    assert_same(one, trees[7])
    assert list(several) == [8]


def test_bag(skeletons, trees):
    skeletons.put(trees)
    with xp.trace() as t:
        bag = skeletons.get_bag(IDS, npartitions=2)
    assert t.requests == 0
    assert bag.npartitions == 2
    found = bag.compute(scheduler="threads")
    if skeletons.info.sharding is not None:  # what lies together is read together
        places = locate(skeletons.info.sharding, np.array([each.id for each in found], np.uint64))
        assert (np.diff(places.shards.astype(int)) >= 0).all()
        assert len(np.unique(places.shards)) == 2
    assert sorted(each.id for each in found) == sorted(IDS)
    for each in found:
        assert_same(each, trees[each.id])
    lengths = bag.map(lambda each: float(each.cable_length())).compute(scheduler="synchronous")
    assert len(lengths) == len(IDS)
    assert skeletons.get_bag([9, 7], missing="skip").map(lambda s: s.id).compute(
        scheduler="synchronous"
    ) == [7]
    names = {skeletons.get_bag(IDS, 2).name, bag.name}
    assert len(names) == 1
    assert skeletons.get_bag(IDS, 2, missing="skip").name not in names
    other = Skeletons(skeletons.directory.child("other"), skeletons.info)
    assert other.get_bag(IDS, 2).name not in names


def test_bag_in_other_processes(tmp_path, trees):
    skeletons = made(locate_url(str(tmp_path)), **SHARDED)
    skeletons.put(trees)
    found = skeletons.get_bag(IDS, 2).compute(scheduler="processes", num_workers=2)
    assert sorted(each.id for each in found) == sorted(IDS)


def test_pickles_small(skeletons, trees):
    skeletons.put(trees)
    data = pickle.dumps(skeletons)
    assert len(data) < 2000
    again = pickle.loads(data)
    assert again == skeletons
    assert_same(again.get(7), trees[7])
    assert tokenize(again) == tokenize(skeletons)
    changed = Skeletons(skeletons.directory, skeletons.info, has_info=False)
    assert tokenize(changed) != tokenize(skeletons)
    assert hash(again) == hash(skeletons)


def test_repr(tmp_path):
    place = locate_url(str(tmp_path))
    skeletons = made(place, vertex_attributes=["radius", "flow"], **SHARDED)
    assert repr(skeletons) == f"<Skeletons of {place.url}: sharded, radius, flow>"
    unsharded = made(place, vertex_attributes=[], mode="w")
    assert repr(unsharded) == f"<Skeletons of {place.url}: unsharded>"


def test_several_threads_put_into_one_shard(tmp_path, rng):
    skeletons = made(locate_url(str(tmp_path)), sharding="auto", num_labels=100)
    trees = {number: random_tree(rng, 15, number) for number in range(24)}
    threads = [
        threading.Thread(target=skeletons.put, args=([trees[n] for n in range(first, 24, 4)],))
        for first in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, each in skeletons.get(range(24)).items():
        assert_same(each, trees[number])


# ---- the spatial index


def boxed(number, corner):
    points = np.add(corner, [(0, 0, 0), (10, 20, 30), (40, 0, 0)]).astype(np.float32)
    return osteoid.Skeleton(
        points, [(0, 1), (1, 2)], radii=[1, 2, 3], segid=number, space="physical"
    )


def test_spatial_index(tmp_path, sharding):
    skeletons = made(locate_url(str(tmp_path)), spatial_index=INDEX, **sharding)
    skeletons.put([boxed(7, (100, 100, 100)), boxed(8, (500, 100, 100)), boxed(9, (900, 900, 900))])
    assert skeletons.ids_in(((0, 0, 0), (200, 200, 200))).tolist() == [7]
    assert skeletons.ids_in({"x": slice(505, 600)}).tolist() == [8]
    assert skeletons.ids().tolist() == [7, 8, 9]  # no file of the index is taken for one
    found = skeletons.get_by_bbox(((0, 0, 0), (505, 200, 200)))
    assert list(found) == [7, 8]
    assert len(found[8].vertices) == 3
    cut = skeletons.get_by_bbox(((105, 0, 0), (505, 200, 200)), crop=True)
    assert cut[7].vertices.tolist() == [[110, 120, 130], [140, 100, 100]]
    assert cut[7].edges.tolist() == [[0, 1]]
    assert cut[7].radius.tolist() == [2, 3]
    assert cut[8].vertices.tolist() == [[500, 100, 100]]
    between = ((111, 101, 100), (139, 119, 200))  # its box is there, none of its vertices
    assert list(skeletons.get_by_bbox(between)) == [7]
    assert list(skeletons.get_by_bbox(between, crop=True)) == []
    skeletons.put(boxed(7, (900, 100, 100)))
    assert skeletons.ids_in(((0, 0, 0), (200, 200, 200))).tolist() == []
    assert skeletons.ids_in(((890, 0, 0), (1000, 200, 200))).tolist() == [7]
    skeletons.delete(7)
    assert skeletons.ids_in(((0, 0, 0), (1024, 1024, 1024))).tolist() == [8, 9]
    skeletons.put(osteoid.Skeleton(segid=9))
    assert skeletons.ids_in(((0, 0, 0), (1024, 1024, 1024))).tolist() == [8]
    assert skeletons.spatial_index.boxes()[8].tolist() == [[500, 100, 100], [540, 120, 130]]


def test_spatial_index_is_in_nm(tmp_path):
    skeletons = made(locate_url(str(tmp_path)), spatial_index=INDEX, transform=STRETCHED, mip=0)
    with pytest.warns(errors.PrecomputedWarning, match="radius"):
        skeletons.put(boxed(7, (100, 100, 100)))
    assert skeletons.ids_in(((120, 101, 101), (121, 119, 129))).tolist() == [7]


def test_a_hole_is_found_and_never_the_other_way(tmp_path, monkeypatch):
    """What ends between the two writes leaves an index that names too much."""
    skeletons = made(locate_url(str(tmp_path)), spatial_index=INDEX)

    def fail(*args, **kwargs):
        raise errors.StorageError("broken off")

    everywhere = ((0, 0, 0), (1024, 1024, 1024))
    with monkeypatch.context() as patch:
        patch.setattr(KeyedValues, "put", fail)
        with pytest.raises(errors.StorageError, match="broken off"):
            skeletons.put(boxed(7, (100, 100, 100)))
    with pytest.raises(errors.SegmentMissingError, match="segment 7"):
        skeletons.get_by_bbox(everywhere)
    assert skeletons.get_by_bbox(everywhere, missing="skip") == {}
    skeletons.put(boxed(7, (100, 100, 100)))
    with monkeypatch.context() as patch:
        patch.setattr(type(skeletons.spatial_index), "remove", fail)
        with pytest.raises(errors.StorageError, match="broken off"):
            skeletons.delete(7)
    with pytest.raises(errors.SegmentMissingError, match="segment 7"):
        skeletons.get_by_bbox(everywhere)


def test_what_a_failed_replacement_leaves_is_found(tmp_path, sharding, monkeypatch):
    skeletons = made(locate_url(str(tmp_path)), spatial_index=INDEX, **sharding)
    skeletons.put([boxed(7, (100, 100, 100)), boxed(8, (100, 100, 100))])
    old, new = ((90, 90, 90), (150, 150, 150)), ((890, 90, 90), (950, 150, 150))
    put = KeyedValues.put

    def watched(*args, **kwargs):
        assert skeletons.ids_in(old).tolist() == [7, 8]  # as a reader sees it
        assert skeletons.ids_in(new).tolist() == [7]
        put(*args, **kwargs)
        assert skeletons.ids_in(new).tolist() == [7]

    def fail(*args, **kwargs):
        raise errors.StorageError("broken off")

    with monkeypatch.context() as patch:
        patch.setattr(KeyedValues, "put", fail)
        with pytest.raises(errors.StorageError, match="broken off"):
            skeletons.put(boxed(7, (900, 100, 100)))
    assert list(skeletons.get_by_bbox(old)) == [7, 8]
    monkeypatch.setattr(KeyedValues, "put", watched)
    skeletons.put(boxed(7, (900, 100, 100)))
    assert skeletons.ids_in(old).tolist() == [8]
    assert skeletons.ids_in(new).tolist() == [7]


def test_an_edge_is_found_between_its_ends(tmp_path):
    skeletons = made(locate_url(str(tmp_path)), spatial_index=INDEX, transform=STRETCHED)
    path = osteoid.Skeleton([(10, 10, 10), (1000, 1000, 10)], [(0, 1)], segid=7, space="physical")
    path.radius = np.ones(2, np.float32)
    with pytest.warns(errors.PrecomputedWarning, match="radius"):
        skeletons.put(path)
    assert skeletons.ids_in(((500, 500, 0), (530, 530, 20))).tolist() == [7]
    assert skeletons.ids_in(((500, 500, 100), (530, 530, 200))).tolist() == []


def test_nothing_given_is_nothing_read(tmp_path, sharding):
    skeletons = made(locate_url(str(tmp_path)), spatial_index=INDEX, **sharding)
    skeletons.spatial_index.create()
    with xp.trace() as traced:
        skeletons.put({})
        assert skeletons.delete([]) == 0
    assert traced.requests == 0
    # but what an interruption left in the index alone goes
    skeletons.spatial_index.update({9: [[1, 1, 1]]})
    assert skeletons.delete([9]) == 0
    assert skeletons.ids_in({}).tolist() == []


def test_where_an_index_would_be_incomplete_nothing_is_put(tmp_path):
    skeletons = made(locate_url(str(tmp_path)), bounds=None, spatial_index=INDEX)
    with pytest.raises(errors.LayoutError, match="open it through the volume"):
        skeletons.put(boxed(7, (100, 100, 100)))
    assert skeletons.exists(7) is False


def test_no_spatial_index(skeletons):
    for call in (
        lambda: skeletons.spatial_index,
        lambda: skeletons.ids_in(BOUNDS),
        lambda: skeletons.get_by_bbox(BOUNDS),
    ):
        with pytest.raises(errors.NotFoundError, match="info: it names no spatial index"):
            call()


# ---- what is wrong


def test_corrupt(tmp_path, sharding, trees):
    skeletons = made(locate_url(str(tmp_path)), **sharding)
    skeletons.put(trees)
    other = made(locate_url(str(tmp_path / "other")), vertex_attributes=[], **sharding)
    other.put(trees[7], extra_attributes="drop")
    (name,) = (each.name for each in (tmp_path / "other").iterdir() if each.name != "info")
    (tmp_path / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(errors.CorruptDataError, match=f"{name}.*, skeleton of segment 7: a skel"):
        skeletons.get(7)


def test_warned_once_a_call(tmp_path, trees):
    skeletons = made(locate_url(str(tmp_path)), transform=STRETCHED)
    message = "radius: not in nm but in units of the stored model"
    with pytest.warns(errors.PrecomputedWarning, match=message) as caught:
        skeletons.put(trees)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with pytest.warns(errors.PrecomputedWarning, match=message) as caught:
        found = skeletons.get(IDS)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    np.testing.assert_allclose(found[7].vertices, trees[7].vertices, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found[7].radius, trees[7].radius)
    bare = made(locate_url(str(tmp_path / "bare")), transform=STRETCHED, vertex_attributes=[])
    bare.put(osteoid.Skeleton([(1, 2, 3)], segid=7, space="physical"))
    assert bare.get(7).radius.tolist() == [-1]


def test_radius_in_info_of_the_class():
    skeletons = made(locate_url("memory://skeletons/radius"), mode="w")
    assert skeletons.info.vertex_attributes == (RADIUS,)


# ---- files


def test_save(skeletons, trees, tmp_path):
    skeletons.put(trees)
    folder = tmp_path / "a" / "b"
    skeletons.save([7, 8], folder)
    assert sorted(each.name for each in folder.iterdir()) == ["7.swc", "8.swc"]
    assert segments(read_swc(folder / "8.swc")) == segments(trees[8])
    skeletons.save(7, tmp_path / "one.SWC")
    assert len(read_swc(tmp_path / "one.SWC").vertices) == 15
    skeletons.save([9, 0], folder, missing="skip")
    assert sorted(each.name for each in folder.iterdir()) == ["0.swc", "7.swc", "8.swc"]
    skeletons.save(IDS, tmp_path / "c", file_format="precomputed")
    names = sorted(int(each.name) for each in (tmp_path / "c").iterdir())
    assert names == sorted(IDS)
    again = osteoid.Skeleton.from_precomputed(
        (tmp_path / "c/7").read_bytes(), 7, [RADIUS.to_json()]
    )
    assert_same(again, trees[7])


def test_save_what_does_not_go(skeletons, trees, tmp_path):
    trees[7].edges = np.concatenate([trees[7].edges, [(0, 14), (13, 14)]]).astype(np.uint32)
    skeletons.put(trees)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match="one file, .* 2 skeletons as 'swc' need"):
        skeletons.save([7, 8], tmp_path / "a.swc")
    with pytest.raises(ValueError, match="one file, .* as 'precomputed' need"):
        skeletons.save(7, tmp_path / "a.swc", file_format="precomputed")
    with pytest.raises(ValueError, match="file_format='obj': expected one of"):
        skeletons.save(7, tmp_path, file_format="obj")
    with pytest.raises(errors.SegmentMissingError, match="segment 9"):
        skeletons.save([8, 9], tmp_path / "d")
    with pytest.raises(errors.LayoutError, match="segment 7: a cycle"):
        skeletons.save([8, 7], tmp_path / "d")
    assert sorted(tmp_path.iterdir()) == before


def test_a_path_alone_is_nobodys(skeletons):
    with pytest.raises(TypeError, match=r"a.swc: whose skeleton\? put\(\{segment_id: 'a.swc'\}\)"):
        skeletons.put("a.swc")


def test_what_is_kept_of_a_folder_is_dropped(tmp_path, trees):
    url = str(tmp_path / "s")
    create_skeletons(locate_url(url))
    open_skeletons(locate_url(url)).put(trees)
    kept = open_skeletons(cached(far(url), tmp_path / "kept"))
    assert kept.get(7).id == 7
    (tmp_path / "s" / "7").unlink()  # by somebody else
    assert kept.get(7).id == 7
    kept.flush_cache()
    with pytest.raises(errors.SegmentMissingError, match="there is no skeleton of segment 7"):
        kept.get(7)
