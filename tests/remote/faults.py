"""What goes wrong in a fake server: a seeded plan, the same in every run.

Whether a request fails depends on what it asks and on how often that was asked before, and not on
the order in which threads arrive.
"""

import hashlib
import threading
from collections import Counter

#: What a fault does.
#:
#: 503, 429   an answer of that status, nothing else is done
#: reset      the connection breaks before anything is done
#: lost       all is done, and the connection breaks in place of the answer
#: truncate   the right Content-Length, half of the bytes, end of the connection
#: stall      no answer for `stall_s` seconds, then the end of the connection
#: hang       headers and half of the body, then as in `stall`
KINDS = ("503", "429", "reset", "lost", "truncate", "stall", "hang")


class FaultPlan:
    """Which requests go wrong, and how.

    Parameters
    ----------
    p : float
        The share of requests that fail.
    kinds : sequence of str
        Equally likely.
    methods : sequence of str, optional
        Only these; all by default.
    only : callable, optional
        Takes path and query of a request and says whether it may fail.
    times : int, optional
        How often the same request fails at most; without end by default.
    stall_s, latency_s : float
        Seconds; the latter goes before every answer and holds nobody else up.
    """

    def __init__(
        self, p=0.0, kinds=KINDS, *, seed=0, methods=None, only=None, times=None,
        stall_s=20.0, latency_s=0.0,
    ):  # fmt: skip
        unknown = set(kinds) - set(KINDS)
        assert not unknown, f"unknown faults {unknown}"
        self.p, self.kinds, self.seed = p, tuple(kinds), seed
        self.methods, self.only, self.times = methods, only, times
        self.stall_s, self.latency_s = stall_s, latency_s
        self.counts = Counter()
        self.outlasted = 0  # stalls that a client waited for to the end
        self._asked, self._failed = Counter(), Counter()
        self._lock = threading.Lock()

    def draw(self, method, path, query="", byte_range=""):
        """The fault for one more such request, or None."""
        if self.methods is not None and method not in self.methods:
            return None
        if self.only is not None and not self.only(path, query):
            return None
        asked = f"{method} {path}?{query} {byte_range}"
        with self._lock:
            attempt = self._asked[asked]
            self._asked[asked] += 1
            kind = self._kind(f"{self.seed} {attempt} {asked}")
            if kind is None or (self.times is not None and self._failed[asked] >= self.times):
                return None
            self._failed[asked] += 1
            self.counts[kind] += 1
        return kind

    def _kind(self, text):
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        share = int.from_bytes(digest[:8], "big") / 2**64
        if share >= self.p:
            return None
        return self.kinds[int.from_bytes(digest[8:], "big") % len(self.kinds)]
