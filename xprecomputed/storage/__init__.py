"""URL to objects, behind one small interface; many values out of shards."""

from xprecomputed.storage.addresses.address import is_explicit, strip_format
from xprecomputed.storage.base import Blob, Entry, Location, Storage, Unchanged, resolve
from xprecomputed.storage.caching.cached import cached
from xprecomputed.storage.caching.memory import index_cache
from xprecomputed.storage.fsspec import FsspecStorage
from xprecomputed.storage.local import LocalStorage
from xprecomputed.storage.objects import ObjectStorage
from xprecomputed.storage.shards import Deliver, ShardedValues, workers_for
from xprecomputed.storage.url import is_remote, locate_url

__all__ = [
    "Blob",
    "Deliver",
    "Entry",
    "FsspecStorage",
    "LocalStorage",
    "Location",
    "ObjectStorage",
    "ShardedValues",
    "Storage",
    "Unchanged",
    "cached",
    "index_cache",
    "is_explicit",
    "is_remote",
    "locate_url",
    "resolve",
    "strip_format",
    "workers_for",
]
