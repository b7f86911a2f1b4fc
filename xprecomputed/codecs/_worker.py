"""The helper process of ``_isolated``: reads streams on stdin, answers on stdout, may die."""

from __future__ import annotations

import importlib
import struct
import sys

LENGTH = struct.Struct("<Q")
MARGIN = 1 << 30  # for the interpreter, NumPy and the decoder's own scratch


def read_block() -> bytes:
    """One length-prefixed block."""
    (length,) = LENGTH.unpack(sys.stdin.buffer.read(LENGTH.size))
    return sys.stdin.buffer.read(length)


def limit_memory(nbytes: int) -> None:
    """No header may make this process eat the machine."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    most = MARGIN + 16 * nbytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def main() -> None:
    """Serve until stdin ends."""
    output = sys.stdout.buffer
    while True:
        try:
            package = read_block().decode()
        except struct.error:
            return
        (nbytes,) = LENGTH.unpack(sys.stdin.buffer.read(LENGTH.size))
        data = read_block()
        try:
            decoder = importlib.import_module(package)
            limit_memory(nbytes)
            answer, status = decoder.decompress(data).tobytes(order="F"), b"\0"
        except Exception as error:
            answer, status = f"{type(error).__name__}: {error}".encode(), b"\1"
        output.write(status + LENGTH.pack(len(answer)) + answer)
        output.flush()


if __name__ == "__main__":
    main()
