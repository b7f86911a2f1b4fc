"""Several processes: a cluster, a killed worker, two writers at once."""

import multiprocessing
import os
import signal
import time
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

from tests.images import labels, noise
from tests.jobs.arrays import files, label, opened
from xprecomputed import (
    ShardingSpec,
    copy,
    create_info,
    downsample,
    open_store,
    set_options,
    to_precomputed,
    write_info,
)

SPEC = ShardingSpec(
    preshift_bits=2, hash="identity", minishard_bits=1, shard_bits=9, data_encoding="gzip"
)


@pytest.fixture(scope="module")
def client():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("sharding", [None, SPEC])
@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_the_same_calls_on_a_cluster(client, tmp_path, sharding, budget, capsys):
    seg = label(labels((40, 50, 60)), offset=(3, 5, 7))
    here = to_precomputed(
        seg,
        str(tmp_path / "here"),
        chunk_size=(16, 16, 16),
        sharding=sharding,
        downsample=2,
        provenance=False,
    )
    with set_options(write_budget_bytes=budget):
        work = to_precomputed(
            seg.chunk(x=16, y=16, z=16),
            str(tmp_path / "there"),
            chunk_size=(16, 16, 16),
            sharding=sharding,
            downsample=2,
            compute=False,
            provenance=False,
        )
        assert work.compute() == client.compute(work).result()
        assert files(tmp_path / "there") == files(tmp_path / "here")
        copied = copy(here, str(tmp_path / "copy"), provenance=False, progress=True)
    assert files(tmp_path / "copy") == files(tmp_path / "here")
    downsample(copied, 1, provenance=False)
    counted = copied.unique()
    assert int(counted.sum()) == seg.size
    assert "Completed" in capsys.readouterr().out


def test_a_killed_worker_loses_nothing(client, tmp_path):
    data = noise((64, 64, 64), "u8")
    url = str(tmp_path / "layer")

    def slow(block):
        time.sleep(0.02)
        return block

    da = label(data).chunk(x=16, y=16, z=16)
    da = da.copy(data=da.data.map_blocks(slow, dtype="u8", meta=np.empty((0, 0, 0), "u8")))
    with set_options(write_budget_bytes=0):  # pieces wait beside the shards
        work = to_precomputed(
            da, url, chunk_size=(16, 16, 16), sharding=SPEC, encoding="raw", compute=False
        )
    future = client.compute(work)
    folder = tmp_path / "layer" / "8_8_40"
    until = time.monotonic() + 60
    while not list(folder.glob("*.shard")) and time.monotonic() < until:
        time.sleep(0.01)
    assert not future.done()
    pids = client.run(os.getpid)
    os.kill(next(iter(pids.values())), signal.SIGKILL)
    assert future.result(timeout=120) == 64
    np.testing.assert_array_equal(opened(url).values, data)
    assert sorted(path.suffix for path in folder.iterdir()) == [".shard"] * 8


def _write_part(url, first, stop, sharded):
    part = label(np.full((24, 24, stop - first), 1 + first, "u8"), (8, 8, 8), (first, 0, 0))
    for _ in range(3):
        to_precomputed(part, url, region="auto", safe_chunks=False, provenance=False)


@pytest.mark.parametrize("sharding", [None, SPEC])
def test_two_writers_on_neighbouring_regions(tmp_path, sharding):
    """Their border cuts through chunks and shards: each keeps what the other has written."""
    url = str(tmp_path / "layer")
    info = create_info(
        size=(36, 24, 24),
        resolution=(8, 8, 8),
        data_type="uint64",
        chunk_size=(8, 8, 8),
        sharding=sharding,
    )
    write_info(url, info)
    starts = [0, 9, 18, 27, 36]
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write_part, args=(url, a, b, sharding)) for a, b in pairwise(starts)
    ]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    assert [each.exitcode for each in writers] == [0] * 4
    found = opened(url).values
    for a, b in pairwise(starts):
        assert (found[:, :, a:b] == 1 + a).all()
    left = [p.name for p in (tmp_path / "layer" / "8_8_8").iterdir() if p.name.startswith(".")]
    assert left == []


def test_a_cropped_copy_on_a_cluster(client, tmp_path):
    seg = label(labels((20, 30, 40)))
    store = to_precomputed(seg, str(tmp_path / "a"), chunk_size=(8, 8, 8))
    part = copy(store, str(tmp_path / "b"), bbox=((64, 64, 320), (250, 200, 800)), sharding="auto")
    xr.testing.assert_equal(
        opened(part.url), seg.sel(x=slice(64, 250), y=slice(64, 200), z=slice(320, 800))
    )
    assert open_store(part.url).has_data().values.all()
