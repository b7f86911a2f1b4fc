"""Which segments are in a box: as CloudVolume says, and of what Igneous writes."""

import gzip
import json
import pickle
import threading
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.keyed.places import folder_of
from xprecomputed import CorruptDataError, InvalidInfoError, NotFoundError, OutOfBoundsError, trace
from xprecomputed.errors import LayoutError, StorageError
from xprecomputed.keyed import SpatialIndex, cell_files, shapes
from xprecomputed.keyed.cells import CellGrid, cell_box
from xprecomputed.metadata import SpatialIndexInfo
from xprecomputed.storage import Storage, locate_url

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    cloudvolume = pytest.importorskip("cloudvolume")

IGNEOUS = Path(__file__).parent / "fixtures" / "igneous.zip"
INFO = SpatialIndexInfo(resolution=(4, 4, 40), chunk_size=(100, 200, 300))
BOUNDS = ((-50, 0, 40), (250, 300, 640))
EVERYWHERE = ((-1e9,) * 3, (1e9,) * 3)


@pytest.fixture(scope="session")
def igneous(tmp_path_factory):
    folder = tmp_path_factory.mktemp("igneous")
    with zipfile.ZipFile(IGNEOUS) as archive:
        archive.extractall(folder)
    return folder


def index_at(place, bounds=BOUNDS, info=INFO):
    place = locate_url(str(place)) if isinstance(place, str | Path) else place
    return SpatialIndex(place, info, bounds)


def opened(folder, kind, bounds=None):
    document = json.loads((Path(folder) / kind / "info").read_text())["spatial_index"]
    info = SpatialIndexInfo(
        resolution=tuple(document["resolution"]), chunk_size=tuple(document["chunk_size"])
    )
    return index_at(Path(folder) / kind, bounds, info)


def peer_index(folder, kind):
    """CloudVolume's index of the same files."""
    volume = cloudvolume.CloudVolume(f"file://{folder}", progress=False)
    return volume.mesh.spatial_index if kind == "mesh" else volume.skeleton.spatial_index


def boxes_to_ask(rng, index, bounds, count):
    """Boxes that begin and end between whole nm, to which CloudVolume cuts them.

    Of one that touches all cells CloudVolume looks at no box: it gives all ids.
    """
    grid = CellGrid.of(index.info, bounds)
    while count:
        corners = np.sort(rng.uniform(*bounds, (2, 3)), axis=0).round() + 0.5
        corners[1] += 1
        if len(list(grid.cells(corners))) < np.prod(grid.shape):
            yield tuple(corners[0].tolist()), tuple(corners[1].tolist())
            count -= 1


IGNEOUS_BOUNDS = ((-255.0, 85.0, 200.0), (561.0, 765.0, 2760.0))


@pytest.mark.parametrize("kind", ["mesh", "skeletons"])
@pytest.mark.parametrize("bounds", [IGNEOUS_BOUNDS, None])
def test_what_igneous_writes_is_found_as_cloudvolume_finds_it(igneous, rng, kind, bounds):
    index, peer = opened(igneous, kind, bounds), peer_index(igneous, kind)
    everything = sorted(int(key) for key in peer.query(peer.physical_bounds))
    assert index.ids_in(EVERYWHERE).tolist() == everything
    assert len(everything) > 20
    different = 0
    for low, high in boxes_to_ask(rng, index, IGNEOUS_BOUNDS, 40):
        theirs = {int(key) for key in peer.query(cloudvolume.Bbox(low, high, dtype=float))}
        ours = set(index.ids_in((low, high)).tolist())
        assert theirs <= ours
        # what we add lies within the nm by which stored boxes are too small
        grown = cloudvolume.Bbox(np.array(low) - 1.5, np.array(high) + 1.5, dtype=int)
        assert ours <= {int(key) for key in peer.query(grown)}
        different += ours != theirs
    assert different < 10
    for key, box in list(index.boxes().items())[:10]:
        expected = peer.get_bbox(key)
        assert box.tolist() == [list(expected.minpt), list(expected.maxpt)]


def test_the_real_meshes(real_volume, rng, tmp_path):
    index = opened(real_volume, "mesh_mip_2_err_40", ((0, 0, 0), (8192, 8192, 20480)))
    # the volume's meshes belong to a mip that it no longer has, which CloudVolume asks for
    (tmp_path / "mesh_mip_2_err_40").symlink_to(Path(real_volume) / "mesh_mip_2_err_40")
    info = json.loads((Path(real_volume) / "info").read_text())
    info["scales"].insert(1, info["scales"][0] | {"key": "none"})
    (tmp_path / "info").write_text(json.dumps(info))
    peer = peer_index(tmp_path, "mesh")
    assert index.ids_in(EVERYWHERE).tolist() == sorted(
        int(key) for key in peer.query(peer.physical_bounds)
    )
    for low, high in boxes_to_ask(rng, index, index.bounds_nm, 10):
        theirs = {int(key) for key in peer.query(cloudvolume.Bbox(low, high, dtype=float))}
        ours = set(index.ids_in((low, high)).tolist())
        grown = cloudvolume.Bbox(np.array(low) - 1.5, np.array(high) + 1.5, dtype=int)
        assert theirs <= ours <= {int(key) for key in peer.query(grown)}
        assert set(replace(index, bounds_nm=None).ids_in((low, high)).tolist()) == ours


def test_cloudvolume_finds_what_we_write(igneous, tmp_path, rng):
    folder = tmp_path / "volume"
    (folder / "mesh").mkdir(parents=True)
    for name in ("info", "mesh/info"):
        (folder / name).write_bytes((igneous / name).read_bytes())
    index = opened(folder, "mesh", IGNEOUS_BOUNDS)
    points = {
        int(key): rng.uniform(*IGNEOUS_BOUNDS, (1, 3)) + rng.uniform(0, 300, (20, 3))
        for key in rng.integers(1, 2**63, 30)
    }
    index.update(points)
    peer = peer_index(folder, "mesh")
    assert {int(key) for key in peer.query(peer.physical_bounds)} == set(points)
    for low, high in boxes_to_ask(rng, index, IGNEOUS_BOUNDS, 20):
        ours = set(index.ids_in((low, high)).tolist())
        assert {int(key) for key in peer.query(cloudvolume.Bbox(low, high, dtype=float))} <= ours
        inside = {
            key
            for key, where in points.items()
            if ((where > low) & (where < np.minimum(high, IGNEOUS_BOUNDS[1]))).all(axis=1).any()
        }
        assert inside <= ours
    key = next(iter(points))
    box = peer.get_bbox(key)
    assert list(box.minpt) == np.floor(points[key].min(axis=0)).tolist()
    assert list(box.maxpt) == np.ceil(points[key].max(axis=0)).tolist()
    assert {path.name.removesuffix(".gz") for path in (igneous / "mesh").iterdir()} == {
        path.name for path in (folder / "mesh").iterdir()
    }


# ---- boxes


def stored(tmp_path, **files):
    """Files of the index: by the number of the cell, what each holds."""
    grid = CellGrid.of(INFO, BOUNDS)
    for at, cell in enumerate(grid.cells(np.array(EVERYWHERE))):
        content = files.get(f"_{at}", {})
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (tmp_path / grid.name(cell)).write_bytes(data)
    return index_at(tmp_path)


def test_boxes_are_cut_to_whole_nm_and_nothing_is_lost_for_it(tmp_path):
    # its last vertex is at 9.9, 19.9, 49.9; the first of another at -20.9, which is cut to -20
    index = stored(tmp_path, _0={"7": [0, 0, 40, 9, 19, 49], "8": [-20, 0, 40, 9, 19, 49]})
    assert index.ids_in({"x": (9.5, 20)}).tolist() == [7, 8]
    assert index.ids_in({"x": (-30, -20.5)}).tolist() == [8]
    assert index.ids_in({"x": (10.5, 20)}).tolist() == []
    assert index.ids_in({"x": (9.5, 9.5), "y": (3, 3), "z": (49.5, 49.5)}).tolist() == [7, 8]
    assert index.boxes({"x": (-30, -20.5)})[8].tolist() == [[-20, 0, 40], [9, 19, 49]]


def test_boxes_are_joined_over_files(tmp_path):
    index = stored(
        tmp_path,
        _0={"7": [0, 0, 40, 50, 19, 49]},
        _4={"7": [50, 1, 30, 60, 9, 99], "9": [51, 1, 41, 60.5, 9, 99]},
        _8={str(2**64 - 1): [160, 1, 41, 170, 9, 99]},
    )
    boxes = index.boxes()
    assert list(boxes) == [7, 9, 2**64 - 1]
    assert boxes[7].tolist() == [[0, 0, 30], [60, 19, 99]]
    assert boxes[7].dtype == np.float64
    table = index.to_dataframe()
    assert table.columns.tolist() == ["segment_id", "x0", "y0", "z0", "x1", "y1", "z1"]
    assert table.dtypes.astype(str).tolist() == ["uint64"] + ["float64"] * 6
    assert table.to_numpy(object).tolist()[1] == [9, 51, 1, 41, 60.5, 9, 99]
    assert len(index.to_dataframe({"x": slice(150, 200)})) == 1
    assert index.to_dataframe({"x": slice(240, 250)}).columns.tolist() == table.columns.tolist()


def test_only_the_cells_that_a_box_touches_are_read(tmp_path):
    index = stored(tmp_path)
    for box, requests in [
        ({"x": (-50, 49.9), "y": (0, 199), "z": (40, 339)}, 1),
        ({"x": (-50, 50), "y": (0, 199), "z": (40, 339)}, 2),  # where a vertex at 50 is
        ({"x": (50, 50), "y": (0, 0), "z": (639, 639)}, 1),
        ({"x": (250, 999)}, 4),  # in the outermost is what lies outside
        ({"x": (-999, -51)}, 4),
        ({}, 3 * 2 * 2),
    ]:
        with trace() as traced:
            index.ids_in(box)
        assert traced.requests == requests, box
        with trace() as traced:
            replace(index, bounds_nm=None).ids_in(box)
        assert traced.requests == 1 + requests, box


def test_a_missing_file_is_not_an_empty_one(tmp_path):
    index = stored(tmp_path, _1={"7": [0, 0, 340, 9, 19, 349]})
    (tmp_path / "-50-50_0-200_40-340.spatial").unlink()
    with pytest.raises(NotFoundError, match=r"/-50-50_0-200_40-340.spatial: the spatial index has"):
        index.ids_in({"x": (0, 1)})
    assert index.ids_in({"x": (0, 1)}, missing="skip").tolist() == [7]
    assert replace(index, bounds_nm=None).ids_in({"x": (0, 1)}).tolist() == [7]
    assert index.ids_in({"z": (340, 350)}).tolist() == [7]
    with pytest.raises(ValueError, match="missing='ignore'"):
        index.ids_in({}, missing="ignore")


def test_boxes_that_are_none(tmp_path):
    with pytest.raises(OutOfBoundsError, match="bounds 'x'"):
        index_at(tmp_path).ids_in("x")


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        (b"{", InvalidInfoError, "not JSON"),
        (b"[" * 99999, InvalidInfoError, "nested too deeply"),
        (b"[]", CorruptDataError, "expected an object of ids and boxes"),
        (b'{"07": [0,0,0,1,1,1]}', CorruptDataError, "label '07', expected a decimal number"),
        (b'{"-7": [0,0,0,1,1,1]}', CorruptDataError, "label '-7', expected a decimal number"),
        (b'{"18446744073709551616": [0,0,0,1,1,1]}', CorruptDataError, r"0 to 2\*\*64 - 1"),
        (b'{"7": [0,0,0,1,1]}', CorruptDataError, "label 7: expected .x0, y0, z0, x1, y1, z1."),
        (b'{"7": "aaaaaa"}', CorruptDataError, "label 7: expected .*found aaaaaa"),
        (b'{"7": [0,0,0,1,1,true]}', CorruptDataError, "label 7: expected"),
        (b'{"7": [0,0,0,1,1,"1"]}', CorruptDataError, "label 7: expected"),
        (b'{"7": [0,0,0,1,1,null]}', CorruptDataError, "label 7: expected"),
        (b'{"6": [0,0,0,1,1,1], "7": [0,0,0,1,1,1e999]}', CorruptDataError, "label 7: the box"),
        (b'{"7": [0,0,0,1,1,-1]}', CorruptDataError, "label 7: .*or ends before it begins"),
        (b'{"7": [0,0,0,1,1,NaN]}', InvalidInfoError, "NaN is not JSON"),
        (b'{"7": [0,0,0,1,1,%s]}' % (b"9" * 400), CorruptDataError, "label 7: .*no float has"),
        (b'{"7": [0,0,0,1,1,%s]}' % (b"9" * 9999), InvalidInfoError, "not JSON"),
    ],
)  # fmt: skip
def test_files_are_checked(tmp_path, data, error, match):
    index = stored(tmp_path, _3=data)
    with pytest.raises(error, match=rf"/-50-50_200-300_340-640.spatial: .*{match}"):
        index.ids_in({})


def test_a_file_that_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(cell_files, "MAX_FILE_BYTES", 1000)
    index = stored(tmp_path)
    name = next(tmp_path.iterdir())
    name.rename(f"{name}.gz")
    Path(f"{name}.gz").write_bytes(gzip.compress(b"{}" + b" " * 1000))
    with pytest.raises(
        CorruptDataError, match=r"\.spatial: gzip data that holds more than the 1000"
    ):
        index.ids_in({})


# ---- names


@pytest.mark.parametrize(
    ("resolution", "chunk", "bounds", "cell", "name"),
    [
        ((4, 4, 40), (100, 100, 100), ((0, 0, 0), (150, 100, 100)), (1, 0, 0),
         "100-150_0-100_0-100.spatial"),
        ((4.0, 4, 40), (100, 100, 100), ((0, 0, 0), (150, 100, 100)), (1, 0, 0),
         "100.0-150.0_0.0-100.0_0.0-100.0.spatial"),
        ((4.15, 4, 40), (415, 400, 400), ((-830, -400, 0), (0, 400, 39)), (1, 1, 0),
         "-415.00-0.00_0.00-400.00_0.00-39.00.spatial"),
        ((0.1, 0.1, 0.1), (0.7, 0.7, 0.7), ((0, 0, 0), (7, 7, 7)), (8, 2, 9),
         "5.6-6.3_1.4-2.1_6.3-7.0.spatial"),
        ((4, 4, 40), (100, 100, 100), ((-250, 0, 0), (0, 1, 1)), (0, 0, 0),
         "-250--150_0-1_0-1.spatial"),
    ],
)  # fmt: skip
def test_names(resolution, chunk, bounds, cell, name):
    grid = CellGrid.of(SpatialIndexInfo(resolution=resolution, chunk_size=chunk), bounds)
    assert grid.name(cell) == name
    low = np.array(bounds[0]) + np.array(cell) * chunk
    expected = [low, np.minimum(low + chunk, bounds[1])]
    np.testing.assert_allclose(cell_box(name), expected, atol=1e-9)


def test_rounding_makes_no_cell():
    info = SpatialIndexInfo(resolution=(0.1, 4, 40), chunk_size=(0.3, 400, 400))
    assert CellGrid.of(info, ((0, 0, 0), (0.3 * 3, 400, 400.0000001))).shape == (3, 1, 1)


@pytest.mark.parametrize(
    "name",
    ["0-1_0-1_0-1.spatial.x", "0-1_0-1.spatial", "0-1_0-1_1-0.spatial", "0-1_0-1_0-x.spatial",
     "1e3-2_0-1_0-1.spatial", "0-1_0-1_0-1_0-1.spatial", "nan-1_0-1_0-1.spatial"],
)  # fmt: skip
def test_what_is_no_name(tmp_path, name):
    assert cell_box(name) is None
    (tmp_path / name).write_text("{}")
    if name.endswith(".spatial"):
        with pytest.raises(CorruptDataError, match=rf"{name}: not the name of a file of a spatial"):
            index_at(tmp_path, None).ids_in({})


def test_absurd_numbers_of_cells(tmp_path):
    info = SpatialIndexInfo(resolution=(1, 1, 1), chunk_size=(1e-9, 1, 1))
    with pytest.raises(InvalidInfoError, match=r"chunk_size .*: .* cells between"):
        index_at(tmp_path, ((0, 0, 0), (9e9, 9, 9)), info).ids_in({})
    many = index_at(tmp_path, ((0, 0, 0), (1e6, 1e6, 1e6)), replace(info, chunk_size=(1, 1, 1)))
    with pytest.raises(OutOfBoundsError, match=r"touches 10{18} cells .*; ask for a smaller one"):
        many.ids_in({})
    for change in (many.create, lambda: many.update({7: [[1, 1, 1]]})):
        with pytest.raises(InvalidInfoError, match=r"makes 10{18} cells, and as many files"):
            change()
    assert many.ids_in({"x": (3, 4), "y": (3, 4), "z": (3, 4)}, missing="skip").tolist() == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("info", "high", "match"),
    [
        ({"chunk_size": (5e-324, 1, 1)}, 9e3, r"chunk_size .*: \[inf, .* cells between"),
        ({"chunk_size": (10**400, 1, 1)}, 9, "chunk_size .*: a number that no float has"),
        ({}, 10**400, "bounds of the volume: a number that no float has"),
        ({}, 4096e300, "cells between"),
        ({}, np.inf, "cells between"),
        ({}, 0, "no cells between .*; expected bounds with an extent"),
        ({"chunk_size": (1e30,) * 3}, 1e30, "the name of a file would be '0-10{3}"),
        ({"chunk_size": (0.3, 1, 1)}, 9, "the name of a file would be '0-0_0-1_0-1.spatial'"),
        ({"chunk_size": (0.6, 1, 1)}, 1.8, "the name of a file would be '0-1_0-1_0-1.spatial'"),
        ({"resolution": (1, 1e-05, 1)}, 9, r"resolution \[1, 1e-05, 1\]: 1e-05 has no decimals"),
    ],
)  # fmt: skip
def test_hostile_numbers(tmp_path, info, high, match):
    info = SpatialIndexInfo(**{"resolution": (1, 1, 1), "chunk_size": (1, 1, 1)} | info)
    index = index_at(tmp_path, ((0, 0, 0), (high, 9, 9)), info)
    for call in (lambda: index.ids_in({}), index.create, lambda: index.update({7: [[1, 1, 1]]})):
        with pytest.raises(InvalidInfoError, match=match):
            call()


@pytest.mark.parametrize("size", [1e10, 1e20, 1e308])
def test_a_cell_may_be_larger_than_the_volume_by_any_factor(tmp_path, size):
    info = SpatialIndexInfo(resolution=(4, 4, 40), chunk_size=(size,) * 3)
    index = index_at(tmp_path, ((0, 0, 0), (4096, 4096, 4096)), info)
    index.update({7: [[5, 5, 5]]})
    assert [path.name for path in tmp_path.iterdir()] == ["0-4096_0-4096_0-4096.spatial"]
    assert index.ids_in({"x": (0, 9)}).tolist() == [7]


class Unlisted(Storage):
    url = "unlisted://"
    is_local = False

    def get(self, key, max_bytes=None):
        return None

    def get_range(self, key, start, stop):
        return None


def test_without_bounds_the_files_are_listed(tmp_path):
    place = replace(locate_url(str(tmp_path)), storage=Unlisted())
    with pytest.raises(
        StorageError, match="cannot be listed. The files .* open it through the vol"
    ):
        index_at(place, None).ids_in({})


# ---- changes


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_updates(tmp_path, kind):
    index = pickle.loads(pickle.dumps(index_at(folder_of(kind, tmp_path))))
    index.update({7: [[-50, 0, 40], [49, 0, 40], [50.5, 199, 340]], 8: [[60, 1, 41]]})
    assert len(index._files.listed()) == 12
    assert index.ids_in({"x": (-50, 20)}).tolist() == [7]
    assert index.ids_in({"x": (50, 60)}).tolist() == [7, 8]
    assert index.boxes()[7].tolist() == [[-50, 0, 40], [51, 199, 340]]
    assert index._files.read("-50-50_0-200_40-340.spatial").corners.tolist() == [
        [[-50, 0, 40], [49, 0, 40]]
    ]
    index.update({7: [[249, 299, 639]], 9: [[1e6, -1e6, 50]]})  # which lies outside
    assert index.ids_in({"x": (-50, 150)}).tolist() == [8]
    assert index.ids_in({"x": (200, 250), "y": (290, 300)}).tolist() == [7]
    assert index._files.read("150-250_0-200_40-340.spatial").ids.tolist() == [9]
    assert index.boxes()[9].tolist() == [[1e6, -1e6, 50]] * 2
    index.update({7: np.zeros((0, 3)), 8: []})
    assert index.ids_in({"x": (-50, 250)}).tolist() == []
    assert list(index.boxes()) == [9]
    index.remove(9)
    assert index.boxes() == {}
    blob = index.directory.storage.get(index.directory.child("-50-50_0-200_40-340.spatial").key)
    assert (blob.data, blob.encoding) == (b"{}", None)


def test_only_touched_files_are_written(tmp_path):
    index = index_at(tmp_path)
    index.update({7: [[0, 0, 50]], 8: [[100, 0, 50]]})
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    index.update({7: [[0, 299, 50]]})
    changed = {p.name for p in tmp_path.iterdir() if p.stat().st_ino != before[p.name]}
    assert changed == {"-50-50_0-200_40-340.spatial", "-50-50_200-300_40-340.spatial"}
    assert json.loads((tmp_path / "50-150_0-200_40-340.spatial").read_text()) == {
        "8": [100, 0, 50, 100, 0, 50]
    }


def test_what_others_say_of_others_stays(tmp_path):
    index = index_at(tmp_path)
    index.create()
    threads = [
        threading.Thread(target=index.update, args=({key: [[0, 0, 50]]},)) for key in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert index.ids_in({}).tolist() == list(range(16))


def test_a_file_that_others_lack_is_not_begun(tmp_path):
    index = index_at(tmp_path)
    index.update({7: [[0, 0, 50]]})
    (tmp_path / "150-250_0-200_40-340.spatial").unlink()
    with pytest.raises(NotFoundError, match=r"/150-250_0-200_40-340.spatial: .* create\(\) of the"):
        index.update({7: [[200, 0, 50]]})
    assert index.ids_in({"x": (-50, 50)}).tolist() == [7]
    index.create()
    index.update({7: [[200, 0, 50]]})
    assert index.ids_in({}).tolist() == [7]


def test_without_bounds_the_grid_is_that_of_the_files(tmp_path):
    index = index_at(tmp_path, None)
    with pytest.raises(LayoutError, match="cells of a new spatial index follow from the bounds"):
        index.update({7: [[0, 0, 50]]})
    index_at(tmp_path).create()
    index.update({7: [[0, 0, 50], [240, 0, 50]]})
    assert index_at(tmp_path).ids_in({"x": (200, 240)}).tolist() == [7]
    assert len(index._files.listed()) == 12
    (tmp_path / "0-100_0-100_0-100.spatial").write_text("{}")
    with pytest.raises(CorruptDataError, match="are not the cells of one grid"):
        index.update({7: [[0, 0, 50]]})


def test_points_are_checked_before_anything_is_written(tmp_path):
    index = index_at(tmp_path)
    for points in ([[1, 2]], [1, 2, 3], [[1, 2, np.nan]], ((0, 0, 0), (1, 1, 1))):
        with pytest.raises(ValueError, match=r"points of segment 8: shape .*, expected \(N, 3\)"):
            index.update({7: [[0, 0, 50]], 8: points})
    for joins in ([0, 1], [[0, 1, 1, 0]], [[0, 2]], [[-1, 0]], [[0, 1.0]], [[False, True]]):
        with pytest.raises(ValueError, match=r"joins of segment 8: shape .*, expected \(M, 2\) or"):
            index.update({7: [[0, 0, 50]], 8: ([[0, 0, 50], [9, 9, 50]], joins)})
    with pytest.raises(ValueError, match="segment id -1"):
        index.remove([-1])
    assert not list(tmp_path.iterdir())


# ---- what lies between vertices, or outside


CUBE = SpatialIndexInfo(resolution=(4, 4, 4), chunk_size=(1024, 1024, 1024))
AROUND = ((0, 0, 0), (4096, 4096, 4096))


@pytest.mark.parametrize("bounds", [AROUND, None])
def test_a_triangle_is_found_in_its_middle(tmp_path, bounds):
    points = [[10, 10, 10], [4010, 10, 10], [10, 4010, 10]]
    index_at(tmp_path, AROUND, CUBE).update({7: (points, [[0, 1, 2]]), 8: points})
    index = index_at(tmp_path, bounds, CUBE)
    assert index.ids_in({"x": (1300, 1400), "y": (1300, 1400), "z": (0, 20)}).tolist() == [7]
    assert index.ids_in({"x": (3500, 4000), "y": (3500, 4000)}).tolist() == []
    assert index.ids_in({"z": (1100, 4000)}).tolist() == []
    assert index.boxes()[7].tolist() == [[10, 10, 10], [4010, 4010, 10]]


@pytest.mark.parametrize("width", [2, 3])
def test_every_point_of_an_edge_or_triangle_is_found(rng, width):
    """Against points sampled on it, beyond the volume too."""
    grid = CellGrid((-100, 0, 3), (901, 800, 777), (100, 250, 64), 0)
    for size in (30, 300, 3000):
        corners = rng.uniform(-300, 1000) + rng.uniform(0, size, (20, width, 3))
        joins = np.arange(20 * width).reshape(20, width)
        shape = shapes.Shape(corners.reshape(-1, 3), joins)
        boxes = shapes.boxes_in_cells(shape, grid)
        weights = rng.dirichlet(np.ones(width), (20, 500))
        inside = (weights @ corners).reshape(-1, 3)
        for point, cell in zip(inside, grid.cells_of(inside).tolist(), strict=True):
            low, high = boxes[tuple(cell)]
            assert (low - 1e-6 <= point).all()
            assert (point <= high + 1e-6).all()
        for cell, box in boxes.items():  # and what is said lies in the cell
            begin, end = grid.reach(np.array([cell]))[0]
            assert (np.ceil(box[0]) >= np.floor(begin)).all()
            assert (np.floor(box[1]) <= np.ceil(end)).all()


def test_edges_within_cells_add_nothing_and_long_ones_only_their_way(monkeypatch):
    grid = CellGrid((0,) * 3, (1e5,) * 3, (100,) * 3, 0)
    monkeypatch.setattr(shapes, "MOST_PARTS", 2048)
    points = np.repeat(np.arange(3000.0)[:, None] % 90, 3, axis=1)
    inside = shapes.Shape(points, np.stack([np.arange(2999), np.arange(1, 3000)], axis=1))
    assert list(shapes.boxes_in_cells(inside, grid)) == [(0, 0, 0)]
    long = shapes.Shape(np.array([[0.0] * 3, [99999.0] * 3]), np.array([[0, 1]]))
    assert 1000 <= len(shapes.boxes_in_cells(long, grid)) <= 8 * 1024  # of 10**9 in its box


def test_edges_through_very_many_cells_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "MOST_PARTS", 100)
    index = index_at(tmp_path, AROUND, replace(CUBE, chunk_size=(64, 64, 64)))
    with pytest.raises(LayoutError, match="segment 7: edges or faces that reach over more than 10"):
        index.update({7: ([[0, 0, 0], [4000, 10, 10], [10, 4000, 4000]], [[0, 1, 2]])})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bounds", [AROUND, None])
def test_what_lies_on_the_upper_face_or_outside_is_found(tmp_path, bounds):
    index_at(tmp_path, AROUND, CUBE).create()
    index = index_at(tmp_path, bounds, CUBE)
    index.update({7: [[4096, 5, 5]], 8: [[9000, 5, 5]], 9: [[-500, 5, 5]], 10: [[1024, 5, 5]]})
    assert index.ids_in({"x": (4096, 4200)}).tolist() == [7]
    assert index.ids_in({"x": (8000, 9500)}).tolist() == [8]
    assert index.ids_in({"x": (-1000, -400)}).tolist() == [9]
    assert index.ids_in({"x": (0, 1024)}).tolist() == [10]
    assert index.ids_in({"x": (-1e308, 1e308)}).tolist() == [7, 8, 9, 10]


# ---- interruptions and others


def test_between_index_and_values_both_are_said(tmp_path):
    index = index_at(tmp_path)
    index.update({7: [[0, 0, 50]], 8: [[0, 0, 50]]})
    with pytest.raises(KeyError, match="broken off"), index.replacing({7: [[240, 0, 50]]}):
        raise KeyError("broken off")
    assert index.ids_in({"x": (-50, 20)}).tolist() == [7, 8]
    assert index.ids_in({"x": (220, 250)}).tolist() == [7]
    with index.replacing({7: [[49, 0, 50]]}):
        assert index.boxes({"x": (0, 49)})[7].tolist() == [[0, 0, 50], [49, 0, 50]]
    assert index.boxes()[7].tolist() == [[49, 0, 50]] * 2
    assert index.ids_in({"x": (-50, 20)}).tolist() == [8]
    assert index.ids_in({"x": (220, 250)}).tolist() == []


def test_what_others_said_of_a_segment_meanwhile_is_not_trimmed(tmp_path):
    index = index_at(tmp_path)
    index.update({7: [[0, 0, 50]]})
    with index.replacing({7: [[240, 0, 50]]}):
        index.update({7: [[-20, 0, 50]]})
    assert index.ids_in({"x": (-30, -10)}).tolist() == [7]
    with index.replacing({7: [[10, 0, 50]]}):
        index.update({7: [[20, 0, 50]]})
    assert index.boxes()[7].tolist() == [[10, 0, 50], [20, 0, 50]]


def test_nothing_to_change_asks_for_nothing(tmp_path):
    index = index_at(tmp_path)
    index.create()
    with trace() as traced:
        index.update({})
        index.remove([])
    assert traced.requests == 0


def test_what_is_new_is_written_once(tmp_path):
    index = index_at(tmp_path)
    index.create()
    with index.replacing({7: [[0, 0, 50]]}):
        before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    assert before == {path.name: path.stat().st_ino for path in tmp_path.iterdir()}


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_several_first_writers_lose_nothing(tmp_path, kind):
    index, failed = index_at(folder_of(kind, tmp_path)), []
    start = threading.Barrier(8)

    def put(key):
        start.wait()
        try:
            index.update({key: [[0, 0, 50], [240, 290, 600]]})
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=put, args=(key,)) for key in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert index.ids_in({"x": (-50, 20)}).tolist() == list(range(8))
    assert len(index._files.listed()) == 12


def test_an_index_in_the_making_is_completed_but_no_lost_file_is_made(tmp_path, monkeypatch):
    index, last = index_at(tmp_path), "150-250_200-300_340-640.spatial"
    made = []

    def broken(files, name):
        made.append(name)
        if len(made) == 8:
            raise StorageError("broken off")
        make(files, name)

    make = cell_files.CellFiles.make
    with monkeypatch.context() as patch:
        patch.setattr(cell_files.CellFiles, "make", broken)
        with pytest.raises(StorageError, match="broken off"):
            index.update({7: [[0, 0, 50]]})
    assert last not in made
    index.update({7: [[0, 0, 50], [240, 290, 600]]})
    assert len(index._files.listed()) == 12
    (tmp_path / last).unlink()
    with pytest.raises(NotFoundError, match=f"/{last}: the spatial index has no file of this cell"):
        index.update({8: [[0, 0, 50]]})
    assert index.ids_in({"x": (0, 50)}, missing="skip").tolist() == [7]
    index.create()
    index.update({8: [[0, 0, 50]]})
    assert index.ids_in({}).tolist() == [7, 8]


def test_the_last_file_is_made_when_all_others_are_there(tmp_path, monkeypatch):
    index, made, make = index_at(tmp_path), [], cell_files.CellFiles.make
    others = threading.Semaphore(0)

    def slow(files, name):
        if name == "-50-50_0-200_40-340.spatial":  # the first waits for all that do not wait for it
            for _ in range(10):
                others.acquire(timeout=5)
        make(files, name)
        made.append(name)
        others.release()

    monkeypatch.setattr(cell_files.CellFiles, "make", slow)
    index.create()
    assert made[-1] == "150-250_200-300_340-640.spatial"
    assert len(made) == 12


def test_create_replaces_nothing_that_others_made_meanwhile(tmp_path, monkeypatch):
    index = index_at(tmp_path)
    index.update({7: [[0, 0, 50], [240, 290, 600]]})
    monkeypatch.setattr(cell_files.CellFiles, "listed", lambda _: {})
    index.create()
    assert index.ids_in({"x": (0, 20)}).tolist() == [7]
    assert index.ids_in({"x": (220, 250)}).tolist() == [7]


def test_without_bounds_no_file_is_begun_that_others_lack(tmp_path):
    index_at(tmp_path).update({7: [[200, 0, 50]]})
    (tmp_path / "150-250_0-200_40-340.spatial").unlink()
    index = index_at(tmp_path, None)
    with pytest.raises(NotFoundError, match=r"/150-250_0-200_40-340.spatial: .* create\(\) of the"):
        index.update({8: [[200, 0, 50]]})
    index.update({8: [[0, 0, 50]]})
    with pytest.raises(NotFoundError, match=r"150-250_0-200_40-340"):
        index_at(tmp_path).ids_in({"x": (200, 210)})


def test_tokens_say_which_index_it_is(tmp_path):
    from dask.base import tokenize

    index = index_at(tmp_path)
    assert tokenize(index) == tokenize(pickle.loads(pickle.dumps(index)))
    assert tokenize(index) != tokenize(replace(index, bounds_nm=None))
    assert tokenize(index) != tokenize(index_at(tmp_path / "other"))
