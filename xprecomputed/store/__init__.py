"""One URL and everything that hangs on it."""

from xprecomputed.store.changes import write_info
from xprecomputed.store.opening import PrecomputedStore, open_store, reopen

__all__ = ["PrecomputedStore", "open_store", "reopen", "write_info"]
