"""Manifests that must still be there when all that they list was read."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from xprecomputed.errors import CorruptDataError
from xprecomputed.keyed import read_blob
from xprecomputed.storage import Location, index_cache, uncached

__all__ = ["WatchedManifest"]

#: What it takes to remember that two versions belong together.
PAIR_BYTES = 512


@dataclass(frozen=True, slots=True, eq=False)
class WatchedManifest:
    """A manifest that is an object of its own, as are the fragments that it lists.

    Who replaces a mesh removes the manifest, writes the fragments and writes a manifest. So what
    was read of fragments is of this manifest if it is still there, the same, afterwards.

    Parameters
    ----------
    place : Location
    max_bytes : int
        As `read_blob` takes them.
    data : bytes
        Without the compression around it.
    version : hashable or None
        That of the `Blob`.
    fingerprint : hashable or None
        From before it was read; None where asking for it costs a request.
    """

    place: Location
    max_bytes: int
    data: bytes
    version: Hashable
    fingerprint: Hashable

    @classmethod
    def read(cls, place: Location, max_bytes: int) -> WatchedManifest | None:
        """Read a manifest, None where there is none.

        Raises
        ------
        CorruptDataError, AccessDeniedError, StorageError
        """
        fingerprint = place.storage.fingerprint(place.key)
        blob = read_blob(place, max_bytes)
        if blob is None:
            return None
        return cls(place, max_bytes, blob.data, blob.version, fingerprint)

    def is_still_there(self, fragments: Hashable = None) -> bool:
        """Whether it was not replaced since; a request at most, past all caches.

        Parameters
        ----------
        fragments : hashable or None
            Version of the object of the fragments that were read. What was found to belong
            together is not asked for again.

        Raises
        ------
        AccessDeniedError, StorageError
        """
        place = uncached(self.place)
        if self.fingerprint is not None:
            return place.storage.fingerprint(place.key) == self.fingerprint
        pair = None
        if self.version is not None and fragments is not None:
            pair = "manifest and fragments", place, self.version, fragments
            if index_cache.get(pair):
                return True
        try:  # small, and there are servers that answer to nothing but GET
            now = read_blob(place, self.max_bytes)
        except CorruptDataError:
            return False
        # one with the same bytes is as good: it says the same of whatever fragments there are
        is_same = now is not None and now.data == self.data
        if is_same and pair is not None:
            index_cache.put(pair, True, PAIR_BYTES)
        return is_same
