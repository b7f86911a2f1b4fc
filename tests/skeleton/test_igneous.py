"""What Igneous and kimimaro write; the oracle is what CloudVolume reads from it (fixtures/)."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

import xprecomputed as xp
from tests.skeleton.paths import assert_same
from xprecomputed.skeleton import open_skeletons
from xprecomputed.storage import locate_url

FIXTURES = Path(__file__).parent / "fixtures"
IDS = [7205, 991, 12, 2**62 + 1]
#: where the cells of the index meet
MIDDLE = (2112, 128, 1840)
BOUNDS = ((1600, -320, 1200), (2624, 576, 2480))


class Oracle:
    def __init__(self, arrays, number):
        self.__dict__ = {
            name.partition("_")[2]: array
            for name, array in arrays.items()
            if name.startswith(f"{number}_")
        }


@pytest.fixture(params=["unsharded", "sharded"])
def kind(request):
    return request.param


@pytest.fixture
def oracle(kind):
    with np.load(FIXTURES / f"{kind}.npz") as arrays:
        return dict(arrays)


@pytest.fixture(params=[BOUNDS, None], ids=["bounds", "no bounds"])
def skeletons(kind, tmp_path, request):
    with zipfile.ZipFile(FIXTURES / "igneous.zip") as archive:
        archive.extractall(tmp_path)
    return open_skeletons(locate_url(str(tmp_path / kind)), request.param)


def test_every_skeleton(skeletons, oracle, kind):
    attributes = [each.id for each in skeletons.info.vertex_attributes]
    assert attributes == ["radius", *(["cross_sectional_area"] if kind == "sharded" else [])]
    assert skeletons.ids().tolist() == sorted(IDS)
    for number, found in skeletons.get(IDS).items():
        assert_same(found, Oracle(oracle, number), attributes)
        assert found.radius.min() > 0


def test_the_index(skeletons, oracle):
    compared = 0
    for number, box in enumerate(oracle["boxes"]):
        expected, found = oracle[f"inside_{number}"], skeletons.ids_in(box)
        if number and (box[0] < MIDDLE).all() and (box[1] > MIDDLE).all():
            # of a box that touches all files CloudVolume takes all that is in them
            assert expected.tolist() == sorted(IDS)
            assert np.isin(found, expected).all()
            continue
        assert found.tolist() == expected.tolist()
        compared += len(found) > 0
    assert compared > 5


def test_by_box(skeletons, oracle):
    box = (oracle["12_vertices"].min(axis=0), oracle["12_vertices"].max(axis=0))
    whole = skeletons.get_by_bbox(box)
    cut = skeletons.get_by_bbox(box, crop=True)
    assert 12 in whole
    assert_same(cut[12], Oracle(oracle, 12))
    for each in cut.values():
        assert (each.vertices >= box[0]).all()
        assert (each.vertices <= box[1]).all()


def test_requests(skeletons, kind):
    with xp.trace() as t:
        skeletons.get(IDS)
    assert t.requests == (len(IDS) if kind == "unsharded" else 2 * 3)


def test_put_beside(skeletons, oracle):
    one = skeletons.get(991)
    one.vertices += np.float32(8)
    skeletons.put({991: one})
    assert_same(skeletons.get(7205), Oracle(oracle, 7205))
    corner = one.vertices.max(axis=0)
    assert 991 in skeletons.ids_in((corner - 1, corner))
    skeletons.delete(991)
    assert skeletons.ids_in(oracle["boxes"][0]).tolist() == sorted({*IDS} - {991})
    assert skeletons.ids().tolist() == sorted({*IDS} - {991})
