import threading
import time

import pytest

from xprecomputed import set_options
from xprecomputed.parallel import run_bounded


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_is_done_once(workers):
    done = []
    run_bounded(range(100), done.append, workers=workers)
    assert sorted(done) == list(range(100))


def test_the_first_error_ends_the_run_and_is_raised_here():
    started = []

    def work(task):
        started.append(task)
        if task == 3:
            raise KeyError("three")

    with pytest.raises(KeyError, match="three"):
        run_bounded(range(1000), work, workers=2)
    assert len(started) < 1000


def test_bytes_in_use_stay_within_the_budget():
    in_use, most, lock = 0, 0, threading.Lock()

    def work(cost):
        nonlocal in_use, most
        with lock:
            in_use += cost
            most = max(most, in_use)
        time.sleep(0.001)
        with lock:
            in_use -= cost

    with set_options(read_budget_bytes=100):
        run_bounded([40] * 50, work, workers=8, cost=lambda task: task)
    assert 40 < most <= 100


def test_a_task_larger_than_the_budget_runs_alone():
    running, most, lock = 0, 0, threading.Lock()

    def work(cost):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001)
        with lock:
            running -= 1

    with set_options(read_budget_bytes=10):
        run_bounded([1000] * 10, work, workers=4, cost=lambda task: task)
    assert most == 1


def test_runs_may_be_nested_beyond_the_size_of_the_pool():
    done = []

    def outer(task):
        run_bounded(range(5), lambda inner: done.append((task, inner)), workers=2)

    run_bounded(range(20), outer, workers=2)
    assert len(done) == len(set(done)) == 100


def test_an_error_in_the_tasks_themselves_is_raised():
    def tasks():
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        run_bounded(tasks(), lambda task: None, workers=2)
