"""Local files, read by the batch and written, by calls that need no GIL.

Python spends as long on a small file as it takes to read it, and only one thread can. So where
numba is installed, and there are enough files to be worth loading it, they are opened, read,
copied from and written in machine code. It says only whether that worked: what is missing, of
another length or not a file is for the ordinary way, which knows what to say.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Bytes
from xprecomputed.jit import compiled
from xprecomputed.storage._files import temporary

__all__ = ["FileBatches", "Kernels", "kernels_for", "replace_file"]

#: To load the kernels takes 0.4 s: it is done for more files than this at once, and once there
#: were more than that.
AT_ONCE, BEFORE = 2048, 100
#: Read of a file at once: what the processor's cache holds.
BUFFER_BYTES = 1 << 16
#: A thread keeps so much room.
KEPT_BYTES = 1 << 20
_count = 0
_here = threading.local()


class Kernels(NamedTuple):
    """Those of `_batch_kernel`, compiled."""

    copy_boxes: Callable[..., Any]
    copy_points: Callable[..., Any]
    replace_file: Callable[..., Any]


def kernels_for(files: int) -> Kernels | None:
    """The kernels, where they can be had, and so many files more are worth it to load them."""
    global _count
    before, _count = _count, _count + files
    return _kernels() if before > BEFORE or files > AT_ONCE else None


@cache
def _kernels() -> Kernels | None:
    if sys.platform != "linux" or sys.maxsize < 1 << 32:
        return None  # file offsets are 64 bits there, and nowhere else was it tried
    try:
        from xprecomputed.storage import _batch_kernel as kernels
    except ImportError:
        return None
    boxes, points = compiled(kernels.copy_boxes), compiled(kernels.copy_points)
    replace = compiled(kernels.replace_file)
    return Kernels(boxes, points, replace) if boxes and points and replace else None


def replace_file(path: str, others: Iterable[str], data: Bytes) -> int:
    """Write a local file, whole or not at all, and remove others, without the GIL.

    Parameters
    ----------
    path : str
        In a folder that exists.
    others : iterable of str
    data : bytes or memoryview

    Returns
    -------
    int
        How many of the others there were; -1: something went wrong, or it cannot be done so.
    """
    kernels = kernels_for(1)
    if kernels is None or "\0" in path or not len(data):
        return -1
    content = np.frombuffer(data, np.uint8)
    try:
        paths = _as_c([temporary(path), path, *others])
    except UnicodeEncodeError:
        return -1
    removed: int = kernels.replace_file(paths, content.ctypes.data, content.nbytes)
    return removed


@dataclass(frozen=True, slots=True)
class FileBatches:
    """Files of a local folder.

    Parameters
    ----------
    folder : str
        With a slash at the end; no NUL is in it, nor in keys.
    kernels : Kernels
    noticed : callable
        Told of each file that was read: its path, and how many bytes of it.
    """

    folder: str
    kernels: Kernels
    noticed: Callable[[str, int], None]

    def copy_boxes(
        self, keys: Sequence[str], boxes: NDArray[np.int64], out: NDArray[Any]
    ) -> NDArray[np.bool_]:
        """Copy a box out of each file into the result.

        Parameters
        ----------
        keys : sequence of str
        boxes : ndarray, shape (files, 10)
            Bytes that the file must have; first byte of the box in it; bytes from one channel,
            plane and row of the file to the next; channels, planes and rows of the box and bytes
            of each row; first byte of the box in the result.
        out : ndarray, axes (channel, z, y, x), C order

        Returns
        -------
        ndarray of bool
            Which files were read. Where False, the place in the result holds nothing of use.
        """
        rows = (boxes[:, 7] - 1) * boxes[:, 4] + boxes[:, 8]
        got = np.full(len(keys), -1, np.int64)
        is_inside = self.kernels.copy_boxes(
            _as_c([self.folder + key for key in keys]),
            boxes,
            out.ctypes.data,
            out.nbytes,
            np.array(out.strides[:3]),
            _buffer(max(int(rows.max()), BUFFER_BYTES)),
            got,
        )
        return self._read(keys, got, is_inside)

    def copy_points(
        self,
        keys: Sequence[str],
        files: NDArray[np.int64],
        sources: NDArray[np.int64],
        targets: NDArray[np.int64],
        out: NDArray[Any],
    ) -> NDArray[np.bool_]:
        """Copy single items out of each file into the result.

        Parameters
        ----------
        keys : sequence of str
        files : ndarray, shape (files, 3)
            Bytes that the file must have; its first item in `sources`, and behind its last.
        sources, targets : ndarray
            First byte of each item in its file, and in the result.
        out : ndarray, C order

        Returns
        -------
        ndarray of bool
            As `copy_boxes` does.
        """
        got = np.full(len(keys), -1, np.int64)
        is_inside = self.kernels.copy_points(
            _as_c([self.folder + key for key in keys]),
            files,
            sources,
            targets,
            out.ctypes.data,
            out.nbytes,
            out.itemsize,
            _buffer(min(int(files[:, 0].max()), KEPT_BYTES)),
            got,
        )
        return self._read(keys, got, is_inside)

    def _read(
        self, keys: Sequence[str], got: NDArray[np.int64], is_inside: bool
    ) -> NDArray[np.bool_]:
        """Which files were read; they are made known."""
        if not is_inside:
            raise ValueError(f"{self.folder}: a copy would leave its file or its result")
        for key, nbytes in zip(keys, got.tolist(), strict=True):
            if nbytes >= 0:
                self.noticed(self.folder + key, nbytes)
        return got >= 0


def _as_c(paths: Iterable[str]) -> NDArray[np.uint8]:
    """Paths as C has them: with a 0 behind each."""
    return np.frombuffer(os.fsencode("\0".join([*paths, ""])), np.uint8)


def _buffer(nbytes: int) -> NDArray[np.uint8]:
    """Room of this thread: to get new room takes as long as to read into it."""
    if nbytes > KEPT_BYTES:
        return np.empty(nbytes, np.uint8)
    if not hasattr(_here, "room"):
        _here.room = np.empty(KEPT_BYTES, np.uint8)
    room: NDArray[np.uint8] = _here.room
    return room[:nbytes]
