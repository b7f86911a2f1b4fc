"""URL to objects, behind one small interface; many values out of shards."""

from xprecomputed.storage.addresses.address import is_explicit, strip_format
from xprecomputed.storage.base import Blob, Entry, Location, Storage, Unchanged, resolve
from xprecomputed.storage.batches import FileBatches
from xprecomputed.storage.caching.cached import cached, forget_everywhere, uncached
from xprecomputed.storage.caching.memory import index_cache
from xprecomputed.storage.fsspec import FsspecStorage
from xprecomputed.storage.inventory import contents, shards_in
from xprecomputed.storage.local import LocalStorage
from xprecomputed.storage.objects import ObjectStorage
from xprecomputed.storage.repacking import (
    Read,
    Waiting,
    from_copy,
    kept_values,
    lay_out,
    write_shard,
)
from xprecomputed.storage.shards import Deliver, Found, ShardedValues, alone_for, workers_for
from xprecomputed.storage.url import is_remote, locate_url

__all__ = [
    "Blob",
    "Deliver",
    "Entry",
    "FileBatches",
    "Found",
    "FsspecStorage",
    "LocalStorage",
    "Location",
    "ObjectStorage",
    "Read",
    "ShardedValues",
    "Storage",
    "Unchanged",
    "Waiting",
    "alone_for",
    "cached",
    "contents",
    "forget_everywhere",
    "from_copy",
    "index_cache",
    "is_explicit",
    "is_remote",
    "kept_values",
    "lay_out",
    "locate_url",
    "resolve",
    "shards_in",
    "strip_format",
    "uncached",
    "workers_for",
    "write_shard",
]
