"""Compiling kernels with numba where it is installed: lazily, cached, without the GIL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

__all__ = ["compiled"]

_lock = threading.Lock()


def compiled(kernel: Callable[..., Any]) -> Callable[..., Any] | None:
    """`kernel` as machine code, or None where numba is absent."""
    with _lock:
        return _compile(kernel)


@lru_cache(maxsize=64)
def _compile(kernel: Callable[..., Any]) -> Callable[..., Any] | None:
    try:
        import numba
    except ImportError:
        return None
    try:
        return numba.njit(nogil=True, cache=True)(kernel)
    except RuntimeError:  # no folder that can be written holds the cache
        return numba.njit(nogil=True)(kernel)
