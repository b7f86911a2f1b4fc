"""Where a uint64 key lies, and what the two indexes of a shard say (format reference 4.2, 4.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xprecomputed.errors import CorruptDataError
from xprecomputed.metadata import ShardingSpec
from xprecomputed.shard_format.hashing import hash_keys

__all__ = ["MinishardIndex", "Places", "locate", "minishard_range", "shard_name"]

LIMIT = 2**63
ENTRY_BYTES = 24
_ENTRY = struct.Struct("<2Q")


@dataclass(frozen=True, slots=True)
class Places:
    """The shard and minishard of each key; arrays of uint64, one element a key."""

    shards: NDArray[np.uint64]
    minishards: NDArray[np.uint64]


def _shift_right(values: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    """A shift that gives zero for 64 bits, where the machine's gives anything."""
    return values >> np.uint64(bits) if bits < 64 else np.zeros_like(values)


def locate(spec: ShardingSpec, keys: NDArray[np.uint64]) -> Places:
    """Find the shard and the minishard of each key.

    Examples
    --------
    >>> spec = ShardingSpec(preshift_bits=0, hash="murmurhash3_x86_128",
    ...                     minishard_bits=4, shard_bits=4)
    >>> places = locate(spec, np.array([0, 1, 42], np.uint64))
    >>> places.shards.tolist(), places.minishards.tolist()
    ([4, 9, 7], [1, 10, 10])
    """
    hashed = hash_keys(_shift_right(np.asarray(keys, np.uint64), spec.preshift_bits), spec.hash)
    minishards = hashed & np.uint64((1 << spec.minishard_bits) - 1)
    shards = _shift_right(hashed, spec.minishard_bits) & np.uint64((1 << spec.shard_bits) - 1)
    return Places(shards, minishards)


def shard_name(spec: ShardingSpec, shard: int) -> str:
    """File name of a shard.

    Examples
    --------
    >>> spec = ShardingSpec(preshift_bits=0, hash="identity", minishard_bits=0, shard_bits=9)
    >>> shard_name(spec, 26)
    '01a.shard'
    """
    return f"{shard:0{max(1, -(-spec.shard_bits // 4))}x}.shard"


def minishard_range(spec: ShardingSpec, entry: bytes | memoryview) -> tuple[int, int] | None:
    """File range of a minishard's index out of its 16 bytes in the shard index.

    Returns None for an empty minishard.

    Raises
    ------
    CorruptDataError
        The range is reversed or absurd.
    """
    start, stop = _ENTRY.unpack(entry)
    if start > stop or stop >= LIMIT:
        raise CorruptDataError(f"minishard index at [{start}, {stop}): not a range")
    if start == stop:
        return None
    return start + spec.shard_index_bytes, stop + spec.shard_index_bytes


@dataclass(frozen=True, slots=True)
class MinishardIndex:
    """Keys of one minishard in ascending order, with the file range of each value.

    All three are arrays of one length: `keys` of uint64, `starts` and `stops` of int64.
    """

    keys: NDArray[np.uint64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.keys.nbytes + self.starts.nbytes + self.stops.nbytes

    @classmethod
    def parse(cls, data: bytes | memoryview, spec: ShardingSpec) -> MinishardIndex:
        """Decode the bytes of a minishard index (after its own decompression).

        Raises
        ------
        CorruptDataError
            A wrong length, a value outside of what a file can have, or a key that is there
            twice.
        """
        if len(data) % ENTRY_BYTES:
            raise CorruptDataError(
                f"minishard index of {len(data)} bytes, expected a multiple of {ENTRY_BYTES}"
            )
        columns = np.frombuffer(data, "<u8").reshape(3, -1)
        keys = np.cumsum(columns[0], dtype=np.uint64)
        sizes = columns[2]
        # each offset counts from the end of the value before it, all modulo 2^64
        stops = np.cumsum(columns[1] + sizes, dtype=np.uint64) + np.uint64(spec.shard_index_bytes)
        starts = stops - sizes
        if (stops >= LIMIT).any() or (starts > stops).any() or (sizes >= LIMIT).any():
            raise CorruptDataError("minishard index with a value beyond any file")
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        if (keys[1:] == keys[:-1]).any():
            twice = int(keys[1:][keys[1:] == keys[:-1]][0])
            raise CorruptDataError(f"minishard index with key {twice} more than once")
        return cls(keys, starts[order].astype(np.int64), stops[order].astype(np.int64))

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Position of each key, or -1."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int64)
        at = np.searchsorted(self.keys, keys)
        at = np.minimum(at, len(self.keys) - 1)
        return np.where(self.keys[at] == keys, at, -1)
