"""A byte-bounded memory of this process: least recently used goes first."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from xprecomputed.options import get_options

__all__ = ["index_cache"]

#: Bookkeeping of one entry, so that many tiny ones are not free.
ENTRY_BYTES = 512


class ByteBoundedCache:
    """Keys to values, at most ``options.index_cache_bytes`` of them."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.nbytes = 0

    def get(self, key: Hashable) -> Any:
        """The value, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: Hashable, value: Any, nbytes: int) -> None:
        """Remember `value`, forgetting the oldest ones; too large a value is not kept."""
        most = get_options().index_cache_bytes
        nbytes += ENTRY_BYTES
        if nbytes > most:
            return
        with self._lock:
            _, before = self._entries.pop(key, (None, 0))
            self._entries[key] = (value, nbytes)
            self.nbytes += nbytes - before
            while self.nbytes > most:
                _, (_, gone) = self._entries.popitem(last=False)
                self.nbytes -= gone

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self.nbytes = 0


#: Shard and minishard indexes.
index_cache = ByteBoundedCache()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=index_cache._forget)
