"""Memory for results: new each time, and given out by the system page by page, at first touch.

2 MiB in pages of 4 KiB take 1 ms, which is longer than to decode a chunk; one large page 0.2 ms.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["empty_result"]

#: A large page of Linux on usual machines.
PAGE_BYTES = 2 << 20
#: NumPy asks for large pages in arrays from this size on, wherever they begin.
ASKED_FROM_BYTES = 4 << 20
#: Beyond it the small pages at both ends do not count.
MOST_BYTES = 64 << 20


def empty_result(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """`numpy.empty`, at the beginning of a large page where that makes a difference.

    What is reserved around the result is never touched: it takes addresses, and memory only to
    the end of the last page.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype

    Returns
    -------
    ndarray
        C-contiguous, contents undefined.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    unused = -nbytes % PAGE_BYTES
    if not 4 * unused <= nbytes <= MOST_BYTES or not nbytes or sys.platform != "linux":
        return np.empty(shape, dtype)
    room = np.empty(max(nbytes + PAGE_BYTES, ASKED_FROM_BYTES), np.uint8)
    begin = -room.ctypes.data % PAGE_BYTES
    return room[begin : begin + nbytes].view(dtype).reshape(shape)
