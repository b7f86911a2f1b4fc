"""Objects of a fake store: bytes, headers and a generation, swapped as a whole."""

import base64
import hashlib
import threading
from dataclasses import dataclass, field
from email.utils import formatdate

import google_crc32c


@dataclass(frozen=True)
class Stored:
    data: bytes
    headers: dict  # what was declared: Content-Encoding and the like, in title case
    generation: int
    modified: str = field(default_factory=lambda: formatdate(usegmt=True))

    @property
    def md5(self):
        return base64.b64encode(hashlib.md5(self.data).digest()).decode()

    @property
    def crc32c(self):
        return base64.b64encode(google_crc32c.value(self.data).to_bytes(4, "big")).decode()

    @property
    def etag(self):
        return f'"{self.generation:x}-{hashlib.md5(self.data).hexdigest()}"'


class PreconditionError(Exception):
    """The object is not what the writer expected."""


class Objects:
    """All objects of a server, by bucket and key."""

    def __init__(self):
        self.buckets = {}
        self._lock = threading.Lock()
        self._generation = 1_700_000_000_000_000

    def make(self, bucket):
        self.buckets.setdefault(bucket, {})

    def get(self, bucket, key):
        return self.buckets[bucket].get(key)

    def put(self, bucket, key, data, headers, expect=lambda found: True):
        """Store, if `expect` holds for what is there; PreconditionError if not."""
        with self._lock:
            self._check(bucket, key, expect)
            self._generation += 1
            stored = Stored(bytes(data), dict(headers), self._generation)
            self.buckets[bucket][key] = stored
        return stored

    def delete(self, bucket, key, expect=lambda found: True):
        with self._lock:
            self._check(bucket, key, expect)
            return self.buckets[bucket].pop(key, None)

    def _check(self, bucket, key, expect):
        if not expect(self.buckets[bucket].get(key)):
            raise PreconditionError(key)

    def names(self, bucket, prefix=""):
        return sorted(key for key in list(self.buckets[bucket]) if key.startswith(prefix))

    def page(self, bucket, prefix="", delimiter="", after="", limit=1000):
        """Keys, folders and the token of the next page, or an empty one."""
        keys, folders = [], []
        for name in self.names(bucket, prefix):
            rest = name[len(prefix) :]
            folder = delimiter and delimiter in rest
            entry = prefix + rest.split(delimiter)[0] + delimiter if folder else name
            if entry <= after or (folders and folders[-1] == entry):
                continue
            if len(keys) + len(folders) == limit:
                return keys, folders, max(keys[-1:] + folders[-1:])
            (folders if folder else keys).append(entry)
        return keys, folders, ""


class ByHand:
    """Looking at the objects of a fake, and changing them, without asking it."""

    def put(self, bucket, key, data, encoding=None, **headers):
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if encoding is not None:
            given["Content-Encoding"] = encoding
        self.objects.put(bucket, key, data, given)

    def get(self, bucket, key):
        """The stored bytes and headers, names of headers in lower case; None if missing."""
        found = self.objects.get(bucket, key)
        return found and (found.data, {k.lower(): v for k, v in found.headers.items()})

    def names(self, bucket, prefix=""):
        return self.objects.names(bucket, prefix)

    def delete(self, bucket, key):
        self.objects.delete(bucket, key)
