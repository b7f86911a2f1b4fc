"""The helper process: a decoder's death is an error and not the end."""

import multiprocessing
import os
import sys
import threading

import compresso
import numpy as np
import pytest

from tests.images import labels
from xprecomputed import CorruptDataError, MissingDependencyError
from xprecomputed.codecs import ChunkSpec, _isolated
from xprecomputed.codecs.compresso import Compresso

ARRAY = labels((1, 5, 9, 17), "<u4", cell=3)
DATA = compresso.compress(np.asfortranarray(ARRAY[0].T))
SPEC = ChunkSpec(ARRAY.shape, ARRAY.dtype)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A decoder whose ``decompress`` does what the test says."""

    def write(body):
        name = f"decoder_{abs(hash(body))}"
        (tmp_path / f"{name}.py").write_text(f"import os\ndef decompress(data):\n    {body}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        _isolated._close_all()
        return name

    yield write
    _isolated._close_all()


def decode(name, data=b"data", nbytes=4):
    return _isolated.decode(name, "tests", "    pip install it", data, nbytes)


def test_a_crash_is_an_error_and_the_next_call_works(package):
    name = package("os.abort()")
    with pytest.raises(CorruptDataError, match="crashed or hung its decoder"):
        decode(name)
    assert (_isolated.decode("compresso", "", "", DATA, ARRAY.nbytes)) == ARRAY.tobytes()


def test_a_hang_is_ended(package, monkeypatch):
    monkeypatch.setattr(_isolated, "SECONDS", 0.5)
    with pytest.raises(CorruptDataError, match="crashed or hung"):
        decode(package("import time; time.sleep(60)"))


def test_an_exception_is_told(package):
    with pytest.raises(CorruptDataError, match="stream: ValueError: no"):
        decode(package("raise ValueError('no')"))


def test_memory_is_limited(package):
    with pytest.raises(CorruptDataError, match="MemoryError"):
        decode(package("return bytearray(1 << 36)"))


def test_another_length_is_refused(package):
    name = package("import numpy; return numpy.zeros(3, 'u1')")
    with pytest.raises(CorruptDataError, match="stream of 3 bytes, expected 4"):
        decode(name)


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
    assert len(_isolated._idle) == before <= 4


def test_without_numba_and_package_both_cures_are_named(without_numba, monkeypatch):
    monkeypatch.setitem(sys.modules, "compresso", None)
    with pytest.raises(
        MissingDependencyError, match=r'"xprecomputed\[fast\]"(.*\n)*.*"xprecomputed\[compresso\]"'
    ):
        Compresso().decode(DATA, SPEC)


def decode_in_child(queue):
    queue.put(_isolated.decode("compresso", "", "", DATA, ARRAY.nbytes) == ARRAY.tobytes())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_it_works_in_daemonic_processes(method):
    _isolated.decode("compresso", "", "", DATA, ARRAY.nbytes)  # the parent has a helper already
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=decode_in_child, args=(queue,), daemon=True)
    process.start()
    assert queue.get(timeout=60)
    process.join(timeout=60)
    assert process.exitcode == 0
    # and the parent's helper is still its own
    assert _isolated.decode("compresso", "", "", DATA, ARRAY.nbytes) == ARRAY.tobytes()


def test_nothing_is_left_behind():
    _isolated.decode("compresso", "", "", DATA, ARRAY.nbytes)
    pids = [helper.pid for helper in _isolated._idle]
    _isolated._close_all()
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
