"""One URL and everything that hangs on it."""

from xprecomputed.store.changes import write_info
from xprecomputed.store.opening import MAX_REDIRECTS, PrecomputedStore, open_store, reopen

__all__ = ["MAX_REDIRECTS", "PrecomputedStore", "open_store", "reopen", "write_info"]
