"""The helper process of ``_isolated``: requests on stdin, answers on stdout; it may die.

It imports nothing of xprecomputed, so that it starts in a tenth of a second. What it runs is
one of `JOBS`: a request names a row of that table and nothing else. Where there is fork, a child
does the work; its parent has NumPy ready, tells of its death and puts another in its place, which
takes milliseconds.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any

REQUEST = struct.Struct("<IIQQ")  # bytes of the job's name, of its options, nbytes, of the data
ANSWER = struct.Struct("<BQ")  # status, bytes that follow
DONE, FAILED, ABSENT, DIED = range(4)
READING, WORKING, WRITING, IDLE = range(4)  # what a child is at; idle only after an answer
TOLD = 256  # what is told of arrays before their bytes; numbers behind it are aligned
MARGIN = 512 << 20  # beyond what the process has after its imports


def _fortran(array: Any) -> memoryview:
    """The bytes of an array, first axis fastest; no copy of a Fortran-ordered one."""
    import numpy as np

    return np.ascontiguousarray(array.T).data.cast("B")


def _array(data: bytearray, options: dict[str, Any]) -> Any:
    import numpy as np

    flat: Any = np.frombuffer(data, options["dtype"])
    return flat.reshape(options["shape"], order="F")


def _decode_compresso(package: Any, data: bytearray, options: dict[str, Any]) -> memoryview:
    return _fortran(package.decompress(bytes(data)))


def _decode_crackle(package: Any, data: bytearray, options: dict[str, Any]) -> memoryview:
    stream = bytes(data)
    head = package.header(stream)
    stored = package.codec.labels_crc(stream)  # None in the version that has none
    if stored is not None and stored != package.lib.crc32c(_crackle_labels(package, stream)):
        raise ValueError("the checksum of the labels is wrong")
    flat = head.label_format == 0 and head.num_grids() == head.sz
    if stored is None or not flat:
        return _fortran(package.decompress(stream, parallel=1))
    return _fortran(_decode_checked_crackle(package, stream, head))


def _crackle_labels(package: Any, stream: bytes) -> bytes:
    return bytes(package.codec.raw_labels(stream))


def _decode_checked_crackle(package: Any, stream: bytes, head: Any) -> Any:
    """Decode the numbers of the components instead of their labels: the checksum of each slice
    is one of those, and the package (0.54) does not look at it. Of a damaged slice it may hand
    out what its memory held before, so nothing but the checksum can be believed.
    """
    import numpy as np

    parts = package.codec.decode_flat_labels(head, stream)
    components, labels = parts["cc_map"], parts["unique"]
    firsts = np.concatenate([[0], np.cumsum(parts["components_per_grid"], dtype=np.int64)])
    if firsts[-1] != len(components) or (components >= len(labels)).any():
        raise ValueError("the numbers of labels and of components contradict each other")
    numbers = package.decompress(_numbered_crackle(package, stream, head, parts), parallel=1)
    checksums = package.codec.crack_crcs(stream)
    for z, checksum in enumerate(checksums):
        slice_ = np.asfortranarray(numbers[:, :, z]) - np.uint32(firsts[z])
        if package.lib.crc32c(slice_.tobytes(order="F")) != checksum:
            raise ValueError(f"the checksum of slice {z} is wrong")
    # a slice whose checksum is right has no number beyond its own
    return labels[components][np.asfortranarray(numbers)]


def _numbered_crackle(package: Any, stream: bytes, head: Any, parts: Any) -> bytes:
    """The same stream with every component's number for its label."""
    import copy

    import numpy as np

    count = len(parts["cc_map"])
    numbers = np.arange(count, dtype=np.uint32)
    labels = count.to_bytes(8, "little") + numbers.tobytes()
    labels += parts["components_per_grid"].tobytes()
    labels += numbers.astype(package.lib.compute_dtype(count)).tobytes()
    numbered = copy.copy(head)
    numbered.data_width = numbered.stored_data_width = 4
    numbered.num_label_bytes = len(labels)
    index = head.header_bytes, head.header_bytes + head.grid_index_bytes
    rest = stream[index[1] + head.num_label_bytes : -4 * head.sz - 4]
    checksum = package.lib.crc32c(labels).to_bytes(4, "little")
    head_and_index = numbered.tobytes() + stream[slice(*index)]
    return bytes(head_and_index + labels + rest + checksum + stream[-4 * head.sz :])


def _encode_crackle(package: Any, data: bytearray, options: dict[str, Any]) -> bytes:
    return bytes(package.compress(_array(data, options), parallel=1))


def _decode_fpzip(package: Any, data: bytearray, options: dict[str, Any]) -> memoryview:
    return _fortran(package.decompress(bytes(data), order="F"))


def _encode_fpzip(package: Any, data: bytearray, options: dict[str, Any]) -> bytes:
    array = _array(data, options)
    encoded = bytes(package.compress(array, order="F", precision=options["precision"]))
    if len(encoded) > array.nbytes + 28 * array.itemsize:
        os.abort()  # all that the package reserves: it has overwritten what lies behind
    return encoded


def _decode_zfpc(package: Any, data: bytearray, options: dict[str, Any]) -> memoryview:
    return _fortran(package.decompress(bytes(data)))


def _encode_zfpc(package: Any, data: bytearray, options: dict[str, Any]) -> bytes:
    return bytes(package.compress(_array(data, options), **options["parameters"]))


def _decode_draco(package: Any, data: bytearray, options: dict[str, Any]) -> bytes:
    """Types and shapes in `TOLD` bytes of JSON, then the positions and the faces."""
    import numpy as np

    mesh = package.decode(bytes(data))
    arrays = [np.ascontiguousarray(each) for each in (mesh.points, mesh.faces)]
    told = json.dumps([[each.dtype.str, each.shape] for each in arrays]).encode()
    return b"".join([told.ljust(TOLD), *(each.tobytes() for each in arrays)])


#: name -> the package that it needs, and what is done with it
JOBS: dict[str, tuple[str, Callable[[Any, bytearray, dict[str, Any]], bytes | memoryview]]] = {
    "decode draco": ("DracoPy", _decode_draco),
    "decode compresso": ("compresso", _decode_compresso),
    "decode crackle": ("crackle", _decode_crackle),
    "encode crackle": ("crackle", _encode_crackle),
    "decode fpzip": ("fpzip", _decode_fpzip),
    "encode fpzip": ("fpzip", _encode_fpzip),
    "decode zfpc": ("zfpc", _decode_zfpc),
    "encode zfpc": ("zfpc", _encode_zfpc),
}


def _limit_memory(nbytes: int) -> None:
    """No header may make this process eat the machine."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:  # not on Linux
        used = 1 << 30
    most = used + MARGIN + 16 * nbytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _read(count: int) -> bytearray:
    data = bytearray(count)
    pipe: Any = sys.stdin.buffer
    if pipe.readinto(data) != count:
        raise EOFError
    return data


def _serve(state: Any) -> tuple[int, bytes | memoryview]:
    """Read one request and do it."""
    head = _read(REQUEST.size)
    state[0] = READING
    name, options, nbytes, length = REQUEST.unpack(head)
    package, job = JOBS[_read(name).decode()]
    arguments = json.loads(_read(options))
    data = _read(length)
    state[0] = WORKING
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        return ABSENT, str(error).encode()
    try:
        _limit_memory(nbytes)
        return DONE, job(module, data, arguments)
    except Exception as error:
        return FAILED, f"{type(error).__name__}: {error}"[:2000].encode()


def _answer(status: int, answer: bytes | memoryview) -> None:
    output = sys.stdout.buffer
    output.write(ANSWER.pack(status, len(answer)))
    output.write(answer)
    output.flush()


def _serve_all(state: Any) -> None:
    while True:
        try:
            status, answer = _serve(state)
        except EOFError:
            return
        state[0] = WRITING
        _answer(status, answer)
        state[0] = IDLE
        del answer  # which can be what a damaged heap does not survive: nobody waits any more


def main() -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    if not hasattr(os, "fork"):
        _serve_all([IDLE])
        return
    import numpy  # noqa: F401 - every child has it then

    state = mmap.mmap(-1, 1)  # shared with the children
    while True:
        state[0] = READING
        child = os.fork()
        if not child:
            try:
                _serve_all(state)
                os._exit(0)
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0 or state[0] in (READING, WRITING):  # half of something is in the pipes
            sys.exit(code != 0)
        if state[0] == WORKING:
            _answer(DIED, str(code).encode())


if __name__ == "__main__":
    main()
