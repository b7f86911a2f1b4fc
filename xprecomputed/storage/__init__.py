"""URL to objects, behind one small interface; many values out of shards."""

from xprecomputed.storage.base import Blob, Entry, Location, Storage, Unchanged, resolve
from xprecomputed.storage.cache import index_cache
from xprecomputed.storage.fsspec import FsspecStorage
from xprecomputed.storage.local import LocalStorage
from xprecomputed.storage.shards import Deliver, ShardedValues, workers_for
from xprecomputed.storage.url import is_explicit, locate_url, strip_format

__all__ = [
    "Blob",
    "Deliver",
    "Entry",
    "FsspecStorage",
    "LocalStorage",
    "Location",
    "ShardedValues",
    "Storage",
    "Unchanged",
    "index_cache",
    "is_explicit",
    "locate_url",
    "resolve",
    "strip_format",
    "workers_for",
]
