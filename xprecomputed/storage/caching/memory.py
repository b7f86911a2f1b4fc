"""Byte-bounded memories of this process: least recently used goes first."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from xprecomputed.options import get_options

__all__ = ["ByteBoundedCache", "index_cache", "memory_cache"]

#: Bookkeeping of one entry, so that many tiny ones are not free.
ENTRY_BYTES = 512


class ByteBoundedCache:
    """Keys to values, at most as many bytes of them as an option says.

    Parameters
    ----------
    option : str
        The member of `Options` that bounds it; 0 keeps nothing.
    """

    def __init__(self, option: str) -> None:
        self._option = option
        self._forget_all()

    def _forget_all(self) -> None:
        self._entries: OrderedDict[Hashable, tuple[Any, int, Hashable]] = OrderedDict()
        self._groups: dict[Hashable, set[Hashable]] = {}
        self._lock = threading.Lock()
        self.nbytes = 0

    @property
    def max_bytes(self) -> int:
        """The bound in force."""
        most: int = getattr(get_options(), self._option)
        return most

    def get(self, key: Hashable) -> Any:
        """The value, or None."""
        most = self.max_bytes
        with self._lock:
            if self.nbytes > most:  # the option was lowered
                self._shrink(most)
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: Hashable, value: Any, nbytes: int, group: Hashable = None) -> None:
        """Remember `value`, forgetting the oldest ones; too large a value is not kept.

        Parameters
        ----------
        key : hashable
        value : object
        nbytes : int
            Its memory.
        group : hashable, optional
            What `forget` is told to drop it with others.
        """
        most = self.max_bytes
        nbytes += ENTRY_BYTES
        with self._lock:
            self._drop(key)
            if nbytes > most:
                return
            self._shrink(most - nbytes)
            self._entries[key] = value, nbytes, group
            self.nbytes += nbytes
            if group is not None:
                self._groups.setdefault(group, set()).add(key)

    def forget(self, group: Hashable) -> None:
        """Drop all entries of a group."""
        with self._lock:
            for key in tuple(self._groups.get(group, ())):
                self._drop(key)

    def groups(self) -> list[Hashable]:
        """The groups that have entries."""
        with self._lock:
            return list(self._groups)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._groups.clear()
            self.nbytes = 0

    def _shrink(self, most: int) -> None:
        while self.nbytes > most:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Hashable) -> None:
        _, nbytes, group = self._entries.pop(key, (None, 0, None))
        self.nbytes -= nbytes
        if group is not None:
            members = self._groups[group]
            members.discard(key)
            if not members:
                del self._groups[group]


#: Shard and minishard indexes.
index_cache = ByteBoundedCache("index_cache_bytes")
#: Stored bytes of remote objects and ranges, grouped by the address of the object.
memory_cache = ByteBoundedCache("memory_cache_bytes")

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=index_cache._forget_all)
    os.register_at_fork(after_in_child=memory_cache._forget_all)
