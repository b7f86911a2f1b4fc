"""Reads that are done on dask and beside an event loop."""

import asyncio
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest

from tests.keyed.places import spec, values_at
from xprecomputed.errors import StorageError
from xprecomputed.keyed import KeyedValues, Value
from xprecomputed.keyed.later import get_bag, in_thread
from xprecomputed.parallel import run_bounded
from xprecomputed.storage import Storage


@dataclass(frozen=True)
class Source:
    """What a reader of meshes is for this: frozen, picklable, with a token."""

    values: KeyedValues

    def lengths(self, ids, extra=0):
        got = {}
        self.values.read(ids, lambda at, data: got.__setitem__(int(ids[at]), len(data) + extra))
        return [(key, got[key]) for key in ids.tolist()]

    def __dask_tokenize__(self):
        return type(self).__name__, self.values.directory.token


@pytest.fixture
def source(tmp_path):
    values = values_at(str(tmp_path), spec(minishard=1, shard=2))
    values.put({key: Value(bytes(key)) for key in range(250)})
    return Source(values)


IDS = np.arange(249, -1, -1, dtype=np.uint64)


def bag_of(source, ids=IDS, **kwargs):
    return get_bag(source.lengths, ids, source.values.order, **kwargs)


@pytest.mark.parametrize("scheduler", ["threads", "sync", "processes"])
def test_every_scheduler_gives_the_same(source, scheduler):
    bag = bag_of(source)
    assert bag.npartitions == 3
    found = bag.compute(scheduler=scheduler)
    assert [key for key, _ in found] == source.values.order(IDS).tolist()
    assert dict(found) == {key: key for key in range(250)}


@pytest.mark.parametrize("processes", [False, True])
def test_on_a_cluster(source, processes):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=processes, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        bag = get_bag(partial(source.lengths, extra=1), IDS, source.values.order, 7)
        assert dict(bag.compute()) == {key: key + 1 for key in range(250)}


def test_a_partition_shares_shards(source):
    bag = bag_of(source, npartitions=8)
    places = [
        {source.values.place_of(key).partition(", key")[0] for key, _ in part}
        for part in bag.to_delayed()
        for part in [part.compute()]
    ]
    assert sum(len(each) for each in places) <= 8 + 7  # of 8 minishards, cut at 7 places


def test_names_are_the_same_for_the_same(source):
    name = bag_of(source).name
    assert bag_of(source).name == name
    assert bag_of(source, IDS[1:]).name != name
    assert bag_of(source, npartitions=2).name != name
    assert get_bag(partial(source.lengths, extra=1), IDS, source.values.order).name != name
    other = replace(source.values, directory=source.values.directory.child("elsewhere"))
    assert bag_of(Source(other)).name != name


def test_partitions(source):
    assert bag_of(source, IDS[:0]).compute() == []
    assert bag_of(source, IDS[:3], npartitions=10).npartitions == 3
    for count in (0, True, 1.5):
        with pytest.raises(ValueError, match=f"npartitions={count}: expected an integer >= 1"):
            bag_of(source, npartitions=count)


# ---- beside an event loop


def test_reads_beside_a_loop(source):
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        found = await asyncio.gather(
            in_thread(source.lengths, IDS[:10], extra=1), in_thread(slow, 0.05)
        )
        ticking.cancel()
        return found, ticks

    def slow(seconds):
        time.sleep(seconds)
        return threading.current_thread() is threading.main_thread()

    (lengths, in_main), ticks = asyncio.run(main())
    assert dict(lengths) == {key: key + 1 for key in range(240, 250)}
    assert not in_main
    assert ticks > 5


def test_errors_come_through():
    def fail():
        raise StorageError("told")

    with pytest.raises(StorageError, match="told"):
        asyncio.run(in_thread(fail))


@dataclass(frozen=True)
class Slow(Storage):
    """Answers each request after some time; counts them."""

    asked: list = field(default_factory=list, compare=False)
    begun: threading.Event = field(default_factory=threading.Event, compare=False)
    go_on: threading.Event = field(default_factory=threading.Event, compare=False)

    url = "slow://"
    is_local = True  # as many threads as cores

    def get(self, key, max_bytes=None):
        self.asked.append(key)
        self.begun.set()
        self.go_on.wait(10)
        return

    def get_range(self, key, start, stop):
        return None


def test_what_is_cancelled_makes_no_further_request(tmp_path):
    storage = Slow()
    values = values_at(str(tmp_path))
    values = replace(values, directory=replace(values.directory, storage=storage))
    ended = threading.Event()

    def read():
        try:
            values.read(np.arange(1000, dtype=np.uint64), lambda at, data: None)
        finally:
            ended.set()

    async def main():
        task = asyncio.create_task(in_thread(read))
        await asyncio.to_thread(storage.begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        storage.go_on.set()

    asyncio.run(main())
    assert ended.wait(10)
    assert len(storage.asked) < 40  # one for each thread, of a thousand


def test_a_given_up_run_says_so():
    from xprecomputed.parallel import Undertaking

    undertaking = Undertaking()
    done = []

    def work(task):
        done.append(task)
        undertaking.give_up()

    with (
        undertaking.joined(),
        pytest.raises(StorageError, match="given up, because nobody waits for it any more"),
    ):
        run_bounded(range(5), work, workers=1)
    assert done == [0]
    run_bounded(range(5), done.append, workers=1)  # of others
    assert len(done) == 6
