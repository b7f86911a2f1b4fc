"""A local folder that behaves as if it was far away."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from xprecomputed.storage import Blob, Location, Storage, locate_url


def far(folder, **kwargs):
    """The place of a local folder, in a `FarStorage`."""
    place = locate_url(str(folder))
    return Location(FarStorage(place.storage, **kwargs), place.key)


@dataclass(frozen=True)
class FarStorage(Storage):
    """Passes everything on to a local storage; the versions are those of the files.

    ``has_versions`` False: as of a server that tells none. ``meanwhile`` is called with the key
    after a request is answered, before the answer is given.
    """

    inner: Storage
    name: str = "bucket"
    has_versions: bool = True
    meanwhile: Callable[[str], Any] = field(default=str, compare=False)

    @property
    def url(self):
        return f"far://{self.name}/"

    @property
    def is_local(self):
        return False

    def identity(self, key):
        return self.url + key

    def fingerprint(self, key):
        return None

    def get(self, key, max_bytes=None):
        return self._seen(key, self.inner.get(key, max_bytes))

    def get_range(self, key, start, stop):
        return self._seen(key, self.inner.get_range(key, start, stop))

    def _seen(self, key, blob):
        self.meanwhile(key)
        if isinstance(blob, Blob) and not self.has_versions:
            return replace(blob, version=None)
        return blob

    def size(self, key):
        return self.inner.size(key)

    def list_dir(self, key):
        return self.inner.list_dir(key)

    def put(self, key, data, **kwargs):
        self.inner.put(key, data, **kwargs)

    def put_parts(self, key, parts, **kwargs):
        self.inner.put_parts(key, parts, **kwargs)

    def delete(self, key):
        return self.inner.delete(key)

    def delete_tree(self, key):
        self.inner.delete_tree(key)

    @property
    def has_locks(self):
        return True

    def exclusive(self, key):
        return self.inner.exclusive(key)
