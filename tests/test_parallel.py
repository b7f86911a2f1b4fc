import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from xprecomputed import StorageError, set_options
from xprecomputed.parallel import Undertaking, is_given_up, pause, run_bounded
from xprecomputed.storage.clients.retries import Failure, persistently

LONG_S = 60.0


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


# ---- giving up


def both_at_once(work, workers=2):
    """Two tasks, one in each thread; `work` gets whether it is the caller's."""
    together = threading.Barrier(workers)

    def task(_):
        together.wait(30)
        work(threading.current_thread() is threading.main_thread())

    run_bounded(range(workers), task, workers=workers)


def test_whoever_pauses_is_woken():
    undertaking, begun = Undertaking(), threading.Event()

    def work():
        with undertaking.joined():
            begun.set()
            pause(LONG_S)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    begun.wait(30)
    time.sleep(0.05)  # it sleeps
    undertaking.give_up()
    thread.join(LONG_S / 2)
    assert not thread.is_alive()


def test_an_error_ends_the_pauses_of_others():
    went_on = []

    def work(is_caller):
        if is_caller:
            raise KeyError("first")
        went_on.append(pause(LONG_S))

    with pytest.raises(KeyError, match="first"):
        both_at_once(work)
    assert went_on == [False]


def test_an_error_ends_the_pauses_of_runs_inside():
    went_on, waiting = [], threading.Barrier(3)

    def inner(_):
        waiting.wait(30)
        went_on.append(pause(LONG_S))

    def work(is_caller):
        if is_caller:
            waiting.wait(30)
            raise KeyError("first")
        run_bounded(range(2), inner, workers=2)

    with pytest.raises(KeyError, match="first"):
        both_at_once(work)
    assert went_on == [False, False]


def test_an_interrupt_ends_the_pauses_of_others():
    """Also one that comes when the caller only waits for them."""
    went_on, came_back = [], threading.Event()

    def work(is_caller):
        if is_caller:
            came_back.set()
            return
        came_back.wait(30)
        time.sleep(0.05)  # it looks for more to do, and waits
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        went_on.append(pause(LONG_S))

    with pytest.raises(KeyboardInterrupt):
        both_at_once(work)
    assert went_on == [False]


def test_whoever_works_alone_is_not_given_up():
    with pytest.raises(KeyError):
        run_bounded([1], {}.__getitem__, workers=1)
    assert not is_given_up()
    assert pause(0)


def fails(asked):
    asked.append(1)
    raise OSError("for ever")


@pytest.mark.parametrize(("given_up", "requests"), [(False, 4), (True, 1)])
def test_nothing_is_asked_again_for_what_is_given_up(monkeypatch, given_up, requests):
    monkeypatch.setattr("xprecomputed.storage.clients.retries.FIRST_PAUSE_S", 0.001)
    asked, undertaking = [], Undertaking()

    def explain(error):
        return Failure(StorageError(str(error)), passing=True)

    with set_options(max_retries=3), undertaking.joined():
        if given_up:
            undertaking.give_up()
        with pytest.raises(StorageError, match="for ever"):
            persistently(lambda: fails(asked), explain)
    assert len(asked) == requests


EXIT = """
import sys, threading
from xprecomputed.parallel import pause, run_bounded
begun = threading.Semaphore(0)
def work(task):
    print("begun", flush=True)
    begun.release()
    pause(600)
threading.Thread(
    target=run_bounded, args=(range(1000), work), kwargs={"workers": 4}, daemon=True
).start()
for _ in range(4):
    begun.acquire()
"""


def test_the_end_of_the_interpreter_ends_pauses_and_begins_nothing():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(EXIT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.count("begun") == 4


def test_others_are_woken_only_for_what_takes_longer():
    """Waking a thread takes as long as a chunk or two of a local file."""
    names = set()

    def work(task):
        names.add(threading.current_thread().name)
        time.sleep(0.01)

    run_bounded(range(3), work, workers=2, alone_s=10)
    assert names == {threading.current_thread().name}
    run_bounded(range(8), work, workers=2, alone_s=0.015)
    assert len(names) == 2


def test_errors_after_the_others_were_woken_end_the_run():
    def work(task):
        time.sleep(0.002)
        if task == 5:
            raise ValueError("five")

    with pytest.raises(ValueError, match="five"):
        run_bounded(range(100), work, workers=2, alone_s=0.001)


def test_runs_side_by_side_share_the_threads():
    """Under dask's threads each would call for as many again."""
    met, busy, most = threading.Barrier(2), set(), 0

    def work(task):
        nonlocal most
        if task == 0:
            met.wait(30)  # both runs have begun before either looks for others
        busy.add(threading.get_ident())
        most = max(most, len(busy))
        time.sleep(0.002)
        busy.discard(threading.get_ident())

    def caller():
        run_bounded(range(100), work, workers=2, alone_s=0.001)

    callers = [threading.Thread(target=caller) for _ in range(2)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert most == 2


def test_a_run_inside_of_another_gets_the_threads_that_are_free():
    names = set()

    def inner(task):
        names.add(threading.get_ident())
        time.sleep(0.005)

    def outer(task):
        run_bounded(range(6), inner, workers=2, alone_s=0.001)

    run_bounded([0], outer, workers=2, alone_s=0.001)
    assert len(names) == 2
