"""What a review found at the end of a write, where it needs no server."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.jobs.arrays import label, opened
from xprecomputed import (
    PrecomputedWarning,
    ShardingSpec,
    StorageError,
    open_store,
    set_options,
    to_precomputed,
)
from xprecomputed.jobs.running import Running
from xprecomputed.parallel import is_given_up, pause
from xprecomputed.storage import FsspecStorage, LocalStorage
from xprecomputed.store.provenance import append_provenance, provenance_step

SPEC = ShardingSpec(preshift_bits=3, hash="identity", minishard_bits=0, shard_bits=3)
SIZE = (16, 16, 16)


def write(url, budget, value=1):
    da = label(np.full(SIZE, value, "u1")).chunk(x=8, y=8, z=8)
    with set_options(write_budget_bytes=budget):
        to_precomputed(da, url, chunk_size=(4, 4, 4), sharding=SPEC, encoding="raw", mode="w")


@pytest.fixture
def cleaned(monkeypatch):
    """Folders that were to be deleted because pieces waited there; none is."""
    folders = []

    def refuse(self, key):
        if ".parts-" not in key:
            return whole(self, key)
        folders.append(key)
        raise StorageError(f"{key}: refused")

    whole = FsspecStorage.delete_tree
    monkeypatch.setattr(FsspecStorage, "delete_tree", refuse)
    return folders


def test_nothing_is_looked_for_where_no_piece_waited(cleaned):
    write("memory://review/inline", 1 << 30)
    assert not cleaned


def test_a_complete_write_whose_folder_cannot_be_cleaned_is_complete(cleaned):
    with pytest.warns(PrecomputedWarning, match=r"may be left, delete them: .*\.parts-.*refused"):
        write("memory://review/staged", 0, value=7)
    assert len(cleaned) == 1
    assert (opened("memory://review/staged").values == 7).all()


def test_the_first_error_is_the_one_that_is_raised(cleaned, monkeypatch):
    def fail(self, key, parts, **_):
        raise StorageError("no room")

    monkeypatch.setattr(FsspecStorage, "put_parts", fail)
    with pytest.raises(StorageError, match="no room") as raised:
        write("memory://review/failed", 0)
    assert cleaned
    assert "delete them: memory://review/failed" in raised.value.__notes__[0]


def test_a_folder_that_is_cleaned_is_not_spoken_of(tmp_path, monkeypatch):
    def fail(self, key, parts, **_):
        raise StorageError("no room")

    monkeypatch.setattr(LocalStorage, "put_parts", fail)
    with pytest.raises(StorageError, match="no room") as raised:
        write(tmp_path / "layer", 0)
    assert not hasattr(raised.value, "__notes__")
    assert not list(tmp_path.rglob(".parts-*"))


def test_tasks_of_a_write_that_is_stopped_do_not_pause():
    running, begun, went_on = Running(), threading.Semaphore(0), []

    def task():
        with running.task("ours"):
            begun.release()
            went_on.append(pause(60))

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(task) for _ in range(2)]
        for _ in waiting:
            begun.acquire()
        with running.task("another"):
            running.stop("ours")
            assert not is_given_up()
    assert went_on == [False, False]
    assert not running.counts
    assert not running.undertakings
    with pytest.raises(StorageError, match="given up after another error"), running.task("ours"):
        pass


def test_steps_that_are_appended_at_once_are_all_kept(tmp_path):
    store = to_precomputed(label(np.ones(SIZE, "u1")), tmp_path / "layer")

    def append(i):
        append_provenance(store.location, provenance_step(None, {"task": f"number {i}"}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(append, range(24)))
    steps = open_store(store.url).provenance["processing"]
    assert {each["method"]["task"] for each in steps[1:]} == {f"number {i}" for i in range(24)}
