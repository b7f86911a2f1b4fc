"""One URL and everything that hangs on it."""

from xprecomputed.store.changes import write_info
from xprecomputed.store.opening import MAX_REDIRECTS, PrecomputedStore, open_store, reopen
from xprecomputed.store.segments import create_mesh, create_skeleton, open_mesh, open_skeleton

__all__ = [
    "MAX_REDIRECTS",
    "PrecomputedStore",
    "create_mesh",
    "create_skeleton",
    "open_mesh",
    "open_skeleton",
    "open_store",
    "reopen",
    "write_info",
]
