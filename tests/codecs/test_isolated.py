"""The helper process: a decoder's death is an error and not the end."""

import multiprocessing
import os
import signal
import sys
import threading
import time

import compresso
import fpzip
import numpy as np
import pytest

from tests.images import labels, noise
from xprecomputed import CorruptDataError, MissingDependencyError, StorageError
from xprecomputed.codecs import ChunkSpec, _isolated, _worker
from xprecomputed.codecs.compresso import INSTALL, Compresso
from xprecomputed.codecs.fpzip import Fpzip

ARRAY = labels((1, 5, 9, 17), "<u4", cell=3)
DATA = compresso.compress(np.asfortranarray(ARRAY[0].T))
SPEC = ChunkSpec(ARRAY.shape, ARRAY.dtype)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``compresso`` of the helpers whose ``decompress`` does what the test says."""
    _isolated._close_all()

    def write(body):
        (tmp_path / "compresso.py").write_text(f"import os\ndef decompress(data):\n    {body}\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    yield write
    _isolated._close_all()


def run(nbytes=4, most=4):
    return _isolated.run("decode compresso", b"data", {}, nbytes, most, "    pip install it")


def real():
    return np.array_equal(_isolated.decode("compresso", DATA, SPEC, INSTALL), ARRAY)


def test_a_crash_is_an_error_and_the_next_call_works(package, monkeypatch):
    package("os.abort()")
    with pytest.raises(CorruptDataError, match=r"stream crashed the decoder \(exit code -6\)"):
        run()
    assert len(_isolated._idle) == 1  # the helper is there still, with another child
    with pytest.raises(CorruptDataError, match="crashed"):
        run()
    monkeypatch.delenv("PYTHONPATH")
    _isolated._close_all()
    assert real()


def test_a_crash_after_the_answer_hurts_nobody(package):
    package("""
    import numpy, threading
    threading.Timer(0.3, os.abort).start()
    return numpy.zeros(4, "u1")""")
    for _ in range(3):
        assert run().tolist() == [0, 0, 0, 0]
        time.sleep(0.6)
    assert len(_isolated._all) == 1


def test_a_hang_is_ended(package, monkeypatch):
    monkeypatch.setattr(_isolated, "SECONDS", 0.3)
    package("import time; time.sleep(60)")
    with pytest.raises(CorruptDataError, match="kept the decoder busy for 1 s"):
        run(nbytes=300_000)
    assert not _isolated._all


def test_an_exception_is_told(package):
    package("raise ValueError('no')")
    with pytest.raises(CorruptDataError, match="decode compresso: ValueError: no"):
        run()


def test_memory_is_limited(package):
    package("return bytearray(1 << 32)")
    with pytest.raises(CorruptDataError, match="MemoryError"):
        run()


def test_another_length_is_refused(package):
    package("import numpy; return numpy.zeros(3, 'u1')")
    with pytest.raises(CorruptDataError, match="stream of 3 decoded bytes, expected 4"):
        _isolated.decode("compresso", b"", ChunkSpec((1, 1, 1, 1), np.dtype("u4")), "")
    with pytest.raises(CorruptDataError, match="has 3 bytes, at most 2 are taken"):
        run(most=2)


def test_a_helper_that_somebody_ends_is_no_corruption(package, tmp_path):
    once = tmp_path / "once"
    package(f"""
    import numpy
    if not os.path.exists({str(once)!r}):
        open({str(once)!r}, "w").close()
        os.kill(os.getpid(), 9)
    return numpy.zeros(4, "u1")""")
    assert run().tolist() == [0, 0, 0, 0]
    package("os.kill(os.getpid(), 9)")
    _isolated._close_all()
    with pytest.raises(StorageError, match=r"helper process ended twice \(exit code -9\)"):
        run()


def test_without_an_interpreter_there_is_no_helper(package, monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(StorageError, match="sys.executable is empty"):
        run()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(StorageError, match="/nowhere/python: no helper process can be started"):
        run()


def test_only_the_jobs_of_the_table_run(monkeypatch):
    monkeypatch.setitem(_worker.JOBS, "decode os", ("os", None))  # of this process only
    with pytest.raises(StorageError, match="ended twice"):
        _isolated.run("decode os", b"", {}, 4, 4, "")


def test_helpers_are_used_again_and_by_many_threads(without_numba):
    _isolated._close_all()
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(Compresso().decode(DATA, SPEC)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all((each == ARRAY).all() for each in results)
    before = len(_isolated._idle)
    Compresso().decode(DATA, SPEC)
    assert len(_isolated._idle) == before <= (os.cpu_count() or 1)
    assert set(_isolated._idle) == _isolated._all


def test_threads_decode_at_the_same_time():
    """The libraries hold the GIL, so more than one helper must be busy at once."""
    _isolated._close_all()
    array = noise((1, 64, 64, 64), "<f4")
    data, spec = Fpzip().encode(array), ChunkSpec(array.shape, array.dtype)
    together = threading.Barrier(2)

    def work():
        together.wait()
        for _ in range(5):
            np.testing.assert_array_equal(Fpzip().decode(data, spec), array)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(_isolated._idle) == 2


def test_large_chunks_pass_through_the_pipes():
    array = noise((3, 64, 96, 64), "<f8")
    data = Fpzip().encode(array)
    assert data == fpzip.compress(array.T.copy(order="F"), order="F")
    decoded = Fpzip().decode(memoryview(data), ChunkSpec(array.shape, array.dtype))
    np.testing.assert_array_equal(decoded, array)
    assert decoded.flags.writeable


def test_the_cures_are_named_where_the_package_is_missing(package, without_numba, tmp_path):
    package("pass")
    (tmp_path / "compresso.py").write_text("raise ImportError('not here')")
    with pytest.raises(
        MissingDependencyError,
        match=r'not here(.*\n)*.*"xprecomputed\[fast\]"(.*\n)*.*"xprecomputed\[compresso\]"',
    ):
        Compresso().decode(DATA, SPEC)


def decode_in_child(queue):
    queue.put(real())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_it_works_in_daemonic_processes(method):
    assert real()  # the parent has a helper already
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=decode_in_child, args=(queue,), daemon=True)
    process.start()
    assert queue.get(timeout=60)
    process.join(timeout=60)
    assert process.exitcode == 0
    assert real()  # and the parent's helper is still its own


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_keeps_no_pipe_of_its_parent():
    assert real()
    helper = _isolated._idle[-1]
    pid = os.fork()
    if not pid:  # the child lives while the parent's helper is to end
        time.sleep(30)
        os._exit(0)
    try:
        _isolated._idle.remove(helper)
        helper.stdin.close()
        assert helper.wait(timeout=10) == 0
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        _isolated._end(helper)


def test_interrupts_are_for_the_process_that_asks():
    assert real()
    helper = _isolated._idle[-1]
    helper.send_signal(signal.SIGINT)
    assert real()
    assert helper.poll() is None


def test_nothing_is_left_behind():
    assert real()
    pids = [helper.pid for helper in _isolated._idle]
    _isolated._close_all()
    assert pids
    assert not _isolated._all
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_an_encoder_that_has_overrun_its_memory_ends_the_helper(monkeypatch):
    """fpzip reserves 28 numbers more than there are; heaps often survive a little beyond."""

    class Package:
        def compress(self, array, order, precision):
            return bytes(length)

    def abort():
        raise ChildProcessError("aborted")

    monkeypatch.setattr(os, "abort", abort)
    options = {"dtype": "<f4", "shape": [3, 1, 1, 1], "precision": 0}
    length = 12 + 4 * 28
    assert len(_worker._encode_fpzip(Package(), bytearray(12), options)) == length
    length += 1
    with pytest.raises(ChildProcessError, match="aborted"):
        _worker._encode_fpzip(Package(), bytearray(12), options)
