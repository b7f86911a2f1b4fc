"""What would make reading and writing slow, counted instead of timed.

Seconds are for `benchmarks`. Here: Python's calls for each chunk, bytes that are allocated, and the
processor time beside a loop of the bare codec, by a margin that noise cannot reach.
"""

import gzip
import os
import time
import tracemalloc

import numpy as np
import pytest
import xarray as xr

import xprecomputed as xp
from tests.calls import calls_of
from xprecomputed.volume import ScaleWriter

SIDE, CHUNK = 256, 32
EVERYTHING = (0, 0, 0), (SIDE,) * 3
CHUNKS = (SIDE // CHUNK) ** 3
MIB = 1 << 20


@pytest.fixture(scope="module")
def voxels():
    return np.random.default_rng(0).integers(0, 256, (SIDE,) * 3).astype("u1")


@pytest.fixture(scope="module")
def layers(voxels, tmp_path_factory):
    """One layer of each kind, by name."""
    folder = tmp_path_factory.mktemp("layers")
    kinds = {
        "raw": {},
        "gzip": {"compression": "gzip"},
        "sharded": {"sharding": "auto"},
        "jpeg": {"encoding": "jpeg"},
    }
    for name, options in kinds.items():
        write(voxels, folder / name, **options)
    return folder


def write(voxels, url, **options):
    xp.to_precomputed(
        xr.DataArray(voxels, dims=("z", "y", "x")),
        str(url),
        resolution=(8, 8, 8),
        chunk_size=(CHUNK,) * 3,
        provenance=False,
        **{"encoding": "raw", "layer_type": "image", **options},
    )


@pytest.mark.parametrize(("kind", "most"), [("raw", 115), ("gzip", 135), ("sharded", 100)])
def test_a_chunk_costs_few_calls_of_python(files_by_python, layers, kind, most):
    """They hold the GIL, so with small chunks they decide how many cores are used."""
    store = xp.open_store(str(layers / kind))
    with xp.set_options(threads=1):
        store.read(EVERYTHING)  # imports, caches
        assert calls_of(lambda: store.read(EVERYTHING)) < most * CHUNKS


def test_a_chunk_of_a_batch_costs_fewer(files_by_kernels, layers):
    store = xp.open_store(str(layers / "raw"))
    with xp.set_options(threads=1):
        store.read(EVERYTHING)
        assert calls_of(lambda: store.read(EVERYTHING)) < 45 * CHUNKS, (
            calls_of(lambda: store.read(EVERYTHING)) / CHUNKS
        )


def calls_of_writing(voxels, folder):
    """For each chunk."""
    write(voxels, folder)
    store = xp.open_store(str(folder))
    writer = ScaleWriter.open(store.location, store.info, 0)
    with xp.set_options(threads=1):
        return calls_of(lambda: writer.write_box(voxels[None], writer.scale.bounds)) / CHUNKS


def test_writing_a_chunk_costs_few_calls_of_python(files_by_python, voxels, tmp_path):
    assert calls_of_writing(voxels, tmp_path) < 160


def test_writing_a_chunk_by_a_kernel_costs_fewer(files_by_kernels, voxels, tmp_path):
    assert calls_of_writing(voxels, tmp_path) < 130


def peak_of(work):
    """The most bytes that were allocated at once while `work` ran."""
    tracemalloc.start()
    try:
        result = work()
        del result
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["raw", "gzip", "sharded", "jpeg"])
def test_a_read_holds_the_result_and_little_more(layers, kind, voxels):
    store = xp.open_store(str(layers / kind))
    store.read(((0, 0, 0), (CHUNK,) * 3))  # imports
    assert peak_of(lambda: store.read(EVERYTHING)) < voxels.nbytes + 24 * MIB


def test_an_array_in_memory_is_not_copied_to_be_written(voxels, tmp_path):
    write(voxels[:CHUNK, :CHUNK, :CHUNK], tmp_path / "small")  # imports
    assert peak_of(lambda: write(voxels, tmp_path / "layer")) < voxels.nbytes / 2


def test_what_is_written_later_is_what_was_there_at_the_call(voxels, tmp_path):
    mine = voxels[:64, :64, :64].copy()
    array = xr.DataArray(mine, dims=("z", "y", "x"))
    later = xp.to_precomputed(array, str(tmp_path), resolution=(8, 8, 8), compute=False)
    mine[:] = 0
    later.compute()
    assert (
        xp.open_store(str(tmp_path)).read(((0, 0, 0), (64,) * 3))[0] == voxels[:64, :64, :64]
    ).all()


def bare_read(folder, decode):
    """The voxels of a layer, without any of this package."""
    out = np.empty((SIDE,) * 3, "u1")
    for name in os.listdir(folder):
        x, y, z = (slice(*map(int, each.split("-"))) for each in name.split(".")[0].split("_"))
        with open(f"{folder}/{name}", "rb", buffering=0) as file:
            out[z, y, x] = np.frombuffer(decode(file.read()), "u1").reshape((CHUNK,) * 3)
    return out


def cpu_s(work, times=7):
    """Processor time of the quickest of several runs."""
    spent = []
    for _ in range(times):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent)


@pytest.mark.parametrize(
    ("kind", "decode", "most"), [("raw", bytes, 4), ("gzip", gzip.decompress, 2.5)]
)
def test_a_read_costs_little_more_than_a_loop_over_the_bare_codec(
    layers, voxels, kind, decode, most
):
    """Chunks of 32 KiB, so that what is not the codec shows; usually 1.6 and 0.6 times as much."""
    store = xp.open_store(str(layers / kind))
    folder = layers / kind / "8_8_8"
    with xp.set_options(threads=1):
        np.testing.assert_array_equal(store.read(EVERYTHING)[0], bare_read(folder, decode))
        ratio = cpu_s(lambda: store.read(EVERYTHING)) / cpu_s(lambda: bare_read(folder, decode))
    assert ratio < most


def test_a_slice_of_a_raw_file_reads_its_planes_only(layers, voxels):
    """The planes of a chunk lie one after another; elsewhere whole chunks are decoded."""
    store = xp.open_store(str(layers / "raw"))
    with xp.trace() as traced:
        part = store.read(((0, 3, 40), (SIDE, 7, 42)))
    np.testing.assert_array_equal(part[0], voxels[40:42, 3:7])
    assert (traced.requests, traced.bytes) == (SIDE // CHUNK, 2 * CHUNK * CHUNK * SIDE // CHUNK)


def test_a_raw_file_of_another_length_is_corrupt_also_where_a_part_of_it_is_read(tmp_path):
    write(np.ones((CHUNK, CHUNK, 2 * CHUNK), "u1"), tmp_path)
    short = tmp_path / "8_8_8" / f"0-{CHUNK}_0-{CHUNK}_0-{CHUNK}"
    short.write_bytes(short.read_bytes()[:-1])
    long = tmp_path / "8_8_8" / f"{CHUNK}-{2 * CHUNK}_0-{CHUNK}_0-{CHUNK}"
    long.write_bytes(long.read_bytes() + b"\0")
    store = xp.open_store(str(tmp_path))
    for at in (0, CHUNK):
        with pytest.raises(xp.CorruptDataError, match="bytes"):
            store.read(((at, 0, 0), (at + 1, 1, 1)))


def test_a_part_of_a_compressed_or_absent_raw_file(tmp_path, voxels):
    small = voxels[:CHUNK, :CHUNK, : 2 * CHUNK]
    write(small, tmp_path, compression="gzip")
    store = xp.open_store(str(tmp_path))
    np.testing.assert_array_equal(store.read(((5, 6, 7), (60, 20, 9)))[0], small[7:9, 6:20, 5:60])
    (tmp_path / "8_8_8" / f"0-{CHUNK}_0-{CHUNK}_0-{CHUNK}.gz").unlink()
    with pytest.raises(xp.ChunkMissingError, match="is not stored"):
        store.read(((5, 6, 7), (60, 20, 9)))


def test_parts_of_several_channels_and_wide_voxels(tmp_path):
    values = np.random.default_rng(1).integers(0, 9, (2, 20, 10, 30)).astype("f4")
    for name, array in {"two": values, "one": values[:1]}.items():
        xp.to_precomputed(
            xr.DataArray(array, dims=("channel", "z", "y", "x")),
            str(tmp_path / name),
            resolution=(8, 8, 8),
            encoding="raw",
            chunk_size=(16, 16, 16),
        )
        found = xp.open_store(str(tmp_path / name)).read(((3, 2, 5), (28, 9, 19)))
        np.testing.assert_array_equal(found, array[:, 5:19, 2:9, 3:28])
