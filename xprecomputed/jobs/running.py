"""Which tasks of which write run in this process, so that a write can be given up."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from xprecomputed.errors import StorageError
from xprecomputed.parallel import Undertaking

__all__ = ["Running", "running"]


class Running:
    """The tasks of each write that run in this process.

    dask's threads go on after the first error; a later write must not meet their objects.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: in a forked child none of them runs."""
        self.counts: Counter[str] = Counter()
        self.undertakings: dict[str, Undertaking] = {}
        self.stopped: set[str] = set()
        self.changed = threading.Condition()

    @contextmanager
    def task(self, write: str) -> Iterator[None]:
        """While one task of `write` runs; none begins after `stop`."""
        with self.changed:
            if write in self.stopped:
                raise StorageError("this write was given up after another error")
            self.counts[write] += 1
            undertaking = self.undertakings.setdefault(write, Undertaking())
        try:
            with undertaking.joined():
                yield
        finally:
            with self.changed:
                self.counts[write] -= 1
                if not self.counts[write]:
                    del self.counts[write], self.undertakings[write]
                self.changed.notify_all()

    def stop(self, write: str) -> None:
        """Let no further task of `write` begin, and wait for those that run, which is not long."""
        with self.changed:
            self.stopped.add(write)
            if write in self.undertakings:
                self.undertakings[write].give_up()
            self.changed.wait_for(lambda: write not in self.counts)


#: Those of this process.
running = Running()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=running.forget)
