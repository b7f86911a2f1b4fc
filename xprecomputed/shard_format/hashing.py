"""The two hashes of the sharded format, over arrays of keys (format reference 4.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["hash_keys", "murmurhash3_x86_128"]

Keys = NDArray[np.uint64]
Words = NDArray[np.uint32]


def _rotate(word: Words, bits: int) -> Words:
    return (word << np.uint32(bits)) | (word >> np.uint32(32 - bits))


def _finish(h: Words) -> Words:
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def murmurhash3_x86_128(keys: Keys) -> Keys:
    """The low 64 bits of MurmurHash3_x86_128 (seed 0) of each key's 8 little-endian bytes.

    Parameters
    ----------
    keys : ndarray of uint64

    Returns
    -------
    ndarray of uint64, same shape

    Examples
    --------
    >>> hex(int(murmurhash3_x86_128(np.array([42], np.uint64))[0]))
    '0xc20b94f95119f47a'
    """
    keys = np.atleast_1d(np.asarray(keys, np.uint64))
    low = (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    high = (keys >> np.uint64(32)).astype(np.uint32)
    # arithmetic modulo 2^32 is what arrays of uint32 do
    h2 = _rotate(high * np.uint32(0xAB0E9789), 16) * np.uint32(0x38B34AE5)
    h1 = _rotate(low * np.uint32(0x239B961B), 15) * np.uint32(0xAB0E9789)
    eight = np.uint32(8)
    h1, h2 = h1 ^ eight, h2 ^ eight
    h3 = h4 = np.full_like(h1, 8)
    h1 = h1 + h2 + h3 + h4
    h2, h3, h4 = h2 + h1, h3 + h1, h4 + h1
    h1, h2, h3, h4 = _finish(h1), _finish(h2), _finish(h3), _finish(h4)
    h1 = h1 + h2 + h3 + h4
    h2 = h2 + h1
    return h1.astype(np.uint64) | (h2.astype(np.uint64) << np.uint64(32))


def hash_keys(keys: Keys, name: str) -> Keys:
    """The named hash (``identity`` or ``murmurhash3_x86_128``) of shifted keys."""
    return keys if name == "identity" else murmurhash3_x86_128(keys)
