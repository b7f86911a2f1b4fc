"""Reading and writing files in machine code, for Linux; imported at first use, needs numba.

Nothing here says why something failed: who calls does it again in the ordinary way.
"""

from __future__ import annotations

import errno
import os
from typing import Any

import numpy as np
from numba import carray as _carray  # type: ignore[attr-defined]
from numba import types
from numba.extending import intrinsic

__all__ = ["copy_boxes", "copy_points", "replace_file"]

_int, _long, _pointer = types.int32, types.int64, types.voidptr
_open: Any = types.ExternalFunction("open", _int(_pointer, _int, _int))
_lseek: Any = types.ExternalFunction("lseek", _long(_int, _long, _int))
_pread: Any = types.ExternalFunction("pread", _long(_int, _pointer, _long, _long))
_close: Any = types.ExternalFunction("close", _int(_int))
_memcpy: Any = types.ExternalFunction("memcpy", _pointer(_pointer, _pointer, _long))

_write: Any = types.ExternalFunction("write", _long(_int, _pointer, _long))
_rename: Any = types.ExternalFunction("rename", _int(_pointer, _pointer))
_unlink: Any = types.ExternalFunction("unlink", _int(_pointer))
_to_int: Any = types.CPointer
_where_errno: Any = types.ExternalFunction("__errno_location", _to_int(_int)())

_strlen: Any = types.ExternalFunction("strlen", _long(_pointer))

# a named pipe in place of a chunk must not block
FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
TO_END = os.SEEK_END
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
ABSENT, ABSENT_FOLDER = errno.ENOENT, errno.ENOTDIR
#: To ask the system for a few bytes takes as long as to copy so many.
ASKING_BYTES = 4096


def _as_pointer(_: Any, address: Any) -> Any:
    """An address as C takes it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return _pointer(address), generate


_at: Any = intrinsic(_as_pointer)


def copy_boxes(
    paths: Any,
    boxes: Any,
    out: int,
    nbytes: int,
    strides: Any,
    buffer: Any,
    got: Any,
) -> bool:
    """Copy a box of bytes out of each file.

    Parameters
    ----------
    paths : uint8 array
        As many as there are boxes, each with a 0 behind it.
    boxes : int64 array, (files, 10)
        Bytes of the file; first byte of the box in it; bytes from one channel, plane and row of
        the file to the next; channels, planes and rows of the box and bytes of each row; first
        byte of the box in the result.
    out, nbytes : int
        Address and length of the result.
    strides : int64 array of three
        Bytes from one channel, plane and row of the result to the next.
    buffer : uint8 array
    got : int64 array
        Becomes the number of bytes that were read from each file, if it has the expected length.

    Returns
    -------
    bool
        False: a box leaves its file, the result, or a row of it the buffer; so it was not read.
    """
    path, room = np.int64(paths.ctypes.data), np.int64(buffer.ctypes.data)
    for i in range(len(boxes)):
        size, begin, goal = boxes[i, 0], boxes[i, 1], boxes[i, 9]
        per_channel, per_plane, per_row = boxes[i, 2], boxes[i, 3], boxes[i, 4]
        channels, planes, rows, row = boxes[i, 5], boxes[i, 6], boxes[i, 7], boxes[i, 8]
        slab = (rows - 1) * per_row + row
        end = begin + (channels - 1) * per_channel + (planes - 1) * per_plane + slab
        last = (channels - 1) * strides[0] + (planes - 1) * strides[1] + (rows - 1) * strides[2]
        if begin < 0 or end > size or goal < 0 or goal + last + row > nbytes:
            return False
        if slab > len(buffer):
            return False
        handle = _open(_at(path), FLAGS, 0)
        path += _strlen(_at(path)) + 1
        if handle < 0:
            continue
        at_once = 1 + (len(buffer) - slab) // per_plane
        good = _lseek(handle, 0, TO_END) == size
        count_read = 0
        for c in range(channels):
            for z in range(0, planes, at_once):
                count = min(at_once, planes - z) if good else 0
                source = begin + c * per_channel + z * per_plane
                target = out + goal + c * strides[0] + z * strides[1]
                wanted = (count - 1) * per_plane + slab
                is_dense = count * rows * ASKING_BYTES >= wanted
                count_read += wanted if is_dense else count * rows * row
                if is_dense and good:
                    good = _pread(handle, _at(room), wanted, source) == wanted
                    source = room
                for p in range(count):
                    for y in range(rows if good else 0):
                        here = source + p * per_plane + y * per_row
                        there = _at(target + p * strides[1] + y * strides[2])
                        if is_dense:
                            _memcpy(there, _at(here), row)
                        else:
                            good = good and _pread(handle, there, row, here) == row
        _close(handle)
        if good:
            got[i] = count_read
    return True


def copy_points(
    paths: Any,
    files: Any,
    sources: Any,
    targets: Any,
    out: int,
    nbytes: int,
    item: int,
    buffer: Any,
    got: Any,
) -> bool:
    """Copy single items out of files.

    Parameters
    ----------
    paths, out, nbytes, got
        As `copy_boxes` has them.
    files : int64 array, (files, 3)
        Bytes of the file; the first of its items in `sources`, and behind its last.
    sources, targets : int64 array
        First byte of each item in its file, and in the result.
    item : int
        Bytes of an item.
    buffer : uint8 array
        Files that are longer are asked for each item.

    Returns
    -------
    bool
        False: an item leaves its file or the result; so it was not read.
    """
    path, room = np.int64(paths.ctypes.data), np.int64(buffer.ctypes.data)
    for i in range(len(files)):
        size, first, last = files[i, 0], files[i, 1], files[i, 2]
        for k in range(first, last):
            if sources[k] < 0 or sources[k] + item > size:
                return False
            if targets[k] < 0 or targets[k] + item > nbytes:
                return False
        handle = _open(_at(path), FLAGS, 0)
        path += _strlen(_at(path)) + 1
        if handle < 0:
            continue
        good = _lseek(handle, 0, TO_END) == size
        is_dense = (last - first) * ASKING_BYTES >= size and size <= len(buffer)
        count_read = size if is_dense else (last - first) * item
        if is_dense and good:
            good = _pread(handle, _at(room), size, 0) == size
        for k in range(first, last if good else first):
            there = _at(out + targets[k])
            if is_dense:
                _memcpy(there, _at(room + sources[k]), item)
            else:
                good = good and _pread(handle, there, item, sources[k]) == item
        _close(handle)
        if good:
            got[i] = count_read
    return True


def replace_file(paths: Any, data: int, nbytes: int) -> int:
    """Write a file under a name of its own, rename it, and remove others.

    Parameters
    ----------
    paths : uint8 array
        Of its own, the one in the end, and the others, each with a 0 behind it.
    data, nbytes : int
        Address and length of what is written.

    Returns
    -------
    int
        How many of the others there were; -1 if something failed, and the file is perhaps not
        there.
    """
    own = np.int64(paths.ctypes.data)
    end = own + len(paths)
    path = own + _strlen(_at(own)) + 1
    handle = _open(_at(own), NEW, 0o666)
    if handle < 0:
        return -1
    written = 0
    while written < nbytes:
        more = _write(handle, _at(data + written), nbytes - written)
        if more <= 0:
            break
        written += more
    # network disks may say only at the end that they are full
    if _close(handle) != 0 or written != nbytes or _rename(_at(own), _at(path)) != 0:
        _unlink(_at(own))
        return -1
    removed = 0
    other = path + _strlen(_at(path)) + 1
    while other < end:
        if _unlink(_at(other)) == 0:
            removed += 1
        elif _carray(_where_errno(), 1)[0] not in (ABSENT, ABSENT_FOLDER):
            return -1
        other += _strlen(_at(other)) + 1
    return removed
