"""Raw chunks in local files, read in batches: the voxels and the answers of the ordinary way."""

import gzip
import sys

import numpy as np
import pytest
import xarray as xr

import xprecomputed as xp
from xprecomputed.storage import FileBatches
from xprecomputed.volume import plain_files

SIZE = 3, 37, 29, 50  # channel, z, y, x: no multiple of the chunks
OFFSET = -7, 5, 100

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Python does it")


def write(voxels, folder, **options):
    xp.to_precomputed(
        xr.DataArray(voxels, dims=("channel", "z", "y", "x")),
        str(folder),
        resolution=(8, 8, 8),
        voxel_offset=OFFSET,
        chunk_size=(16, 8, 10),
        layer_type="image",
        encoding="raw",
        provenance=False,
        **options,
    )
    return voxels


def made(dtype="u2", channels=1):
    return np.random.default_rng(0).integers(0, 250, SIZE).astype(dtype)[:channels]


@pytest.fixture(params=[("u1", 1), ("u2", 3), ("f4", 1), ("u8", 2)], ids=str)
def layer(request, tmp_path):
    """Voxels (channel, z, y, x), and the folder that has them."""
    return write(made(*request.param), tmp_path), str(tmp_path)


@pytest.fixture
def files(monkeypatch):
    """Numbers of files that were asked for in batches, and of those that were read so."""
    counted = [0, 0]
    for name in ("copy_boxes", "copy_points"):
        copy = getattr(FileBatches, name)

        def copied(self, keys, *arguments, copy=copy):
            done = copy(self, keys, *arguments)
            counted[0] += len(keys)
            counted[1] += int(done.sum())
            return done

        monkeypatch.setattr(FileBatches, name, copied)
    return counted


def random_span(random, length):
    low = int(random.integers(0, length))
    return slice(low, int(random.integers(low + 1, length, endpoint=True)))


def test_boxes(files_by_kernels, files, layer):
    voxels, folder = layer
    store = xp.open_store(folder)
    np.testing.assert_array_equal(store.read(store.mips[0].bounds), voxels)
    assert files[0] == files[1] == 4 * 4 * 4
    random = np.random.default_rng(1)
    for _ in range(100):
        z, y, x = (random_span(random, n) for n in SIZE[1:])
        spans = list(zip((x, y, z), OFFSET, strict=True))
        box = tuple(s.start + o for s, o in spans), tuple(s.stop + o for s, o in spans)
        np.testing.assert_array_equal(store.read(box), voxels[:, z, y, x])
    assert files[0] == files[1]


def test_selections_of_xarray(files_by_kernels, files, layer):
    voxels, folder = layer
    array = xr.open_dataset(folder, engine="precomputed", cache=False)["image"]
    wanted = xr.DataArray(voxels, dims=("channel", "z", "y", "x"))
    random = np.random.default_rng(2)
    points = {
        axis: xr.DataArray(random.integers(0, n, 500), dims="point")
        for axis, n in zip("zyx", SIZE[1:], strict=True)
    }
    if "channel" not in array.dims:
        wanted = wanted[0]
    else:
        points["channel"] = xr.DataArray(random.integers(0, len(voxels), 500), dims="point")
    some = [
        {"x": slice(3, 30), "z": 7},
        {"y": slice(1, 29, 3)},
        {"x": [9, 2, 2, 49], "z": slice(5, 9)},
        points,
        {axis: points[axis] for axis in "zyx"},
        {axis: points[axis] for axis in "zx"},
        {axis: points[axis][:0] for axis in "zyx"},
    ]
    for selection in some:
        np.testing.assert_array_equal(array.isel(selection), wanted.isel(selection))
    assert files[0] == files[1] > 60


def test_points_of_one_of_several_channels(files_by_kernels, files, tmp_path):
    voxels = write(made(channels=3), tmp_path)
    array = xr.open_dataset(str(tmp_path), engine="precomputed", cache=False)["image"]
    x, z = (xr.DataArray([each], dims="p") for each in (44, 36))
    found = array.isel(channel=slice(1, 2), x=x, y=x * 0 + 28, z=z)
    np.testing.assert_array_equal(np.squeeze(found), voxels[1, 36, 28, 44])
    assert files == [1, 1]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("at_once", [1, 3, 64])
def test_batches_of_any_size(files_by_kernels, files, tmp_path, monkeypatch, threads, at_once):
    monkeypatch.setattr(plain_files, "BATCH_FILES", at_once)
    voxels = write(made(), tmp_path)
    store = xp.open_store(str(tmp_path))
    with xp.set_options(threads=threads), xp.trace() as traced:
        np.testing.assert_array_equal(store.read(store.mips[0].bounds), voxels)
    assert (traced.requests, traced.bytes, files) == (64, voxels.nbytes, [64, 64])


def chunks(folder):
    return sorted((folder / "8_8_8").iterdir())


def test_holes_and_damage_are_what_they_are(either_way, tmp_path):
    """Missing, compressed and corrupt files among good ones."""
    voxels = write(made(), tmp_path)
    store = xp.open_store(str(tmp_path))
    everything = store.mips[0].bounds
    hole, other, third = chunks(tmp_path)[5:8]
    content = hole.read_bytes()
    hole.unlink()
    with pytest.raises(xp.ChunkMissingError, match=f"{hole.name}: the chunk of voxels"):
        store.read(everything)
    with xp.trace() as traced:
        found = store.read(everything, fill_missing=True)
    assert traced.filled == 1
    assert (found == 0).sum() > (voxels == 0).sum()
    assert ((found == voxels) | (found == 0)).all()
    # as CloudFiles writes it, beside plain ones
    hole.with_name(hole.name + ".gz").write_bytes(gzip.compress(content))
    np.testing.assert_array_equal(store.read(everything), voxels)
    # and as uploaded without the suffix
    other.write_bytes(gzip.compress(other.read_bytes()))
    np.testing.assert_array_equal(store.read(everything), voxels)
    third.write_bytes(third.read_bytes()[:-2])
    with pytest.raises(xp.CorruptDataError, match=f"{third.name}: .* bytes for raw uint16"):
        store.read(everything)
    third.write_bytes(b"")
    with pytest.raises(xp.CorruptDataError, match=f"{third.name}: an object of zero bytes"):
        store.read(everything)


def test_a_stale_variant_is_warned_of(files_by_kernels, tmp_path):
    write(made(), tmp_path)
    for chunk in chunks(tmp_path):
        chunk.with_name(chunk.name + ".gz").write_bytes(b"old")
    with pytest.warns(xp.PrecomputedWarning, match="both plain and compressed"):
        xp.open_store(str(tmp_path)).read(((-7, 5, 100), (-6, 6, 101)))


def test_a_layer_of_compressed_files_is_tried_once(files_by_kernels, files, tmp_path):
    """Then it is read as if there were no batches."""
    voxels = write(made(), tmp_path, compression="gzip")
    store = xp.open_store(str(tmp_path))
    with xp.set_options(threads=1):
        np.testing.assert_array_equal(store.read(store.mips[0].bounds), voxels)
    assert files == [plain_files.BATCH_FILES, 0]


def test_more_files_than_a_batch_of_compressed_ones(files_by_kernels, files, tmp_path, monkeypatch):
    monkeypatch.setattr(plain_files, "BATCH_FILES", 4)
    voxels = write(made(), tmp_path, compression="gzip")
    store = xp.open_store(str(tmp_path))
    with xp.set_options(threads=1):
        np.testing.assert_array_equal(store.read(store.mips[0].bounds), voxels)
        points = xr.DataArray(np.arange(29), dims="p")
        array = xr.open_dataset(str(tmp_path), engine="precomputed", cache=False)["image"]
        np.testing.assert_array_equal(
            np.squeeze(array.isel(x=points, y=points, z=points)),
            voxels[0, np.arange(29), np.arange(29), np.arange(29)],
        )
    assert files == [8, 0]


def test_other_encodings_go_the_ordinary_way(files_by_kernels, files, tmp_path):
    voxels = made("u1")[0]
    array = xr.DataArray(voxels, dims=("z", "y", "x"))
    xp.to_precomputed(
        array, str(tmp_path), resolution=(8, 8, 8), layer_type="image", encoding="png"
    )
    store = xp.open_store(str(tmp_path))
    np.testing.assert_array_equal(store.read(store.mips[0].bounds)[0], voxels)
    assert files == [0, 0]
