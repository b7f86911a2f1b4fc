"""How many shards and minishards a number of segments is given (pure)."""

from __future__ import annotations

from typing import Literal

from xprecomputed.metadata import ShardingSpec
from xprecomputed.shard_format.layout import ENTRY_BYTES

__all__ = ["sharding_for_ids"]

#: What a reader fetches before it knows where a value is: a shard index of 8 KiB, and the index
#: of one of its 512 minishards, of 32 KiB.
MOST_MINISHARD_BITS = 9
MINISHARD_INDEX_BYTES = 1 << 15


def sharding_for_ids(
    num_labels: int, data_encoding: Literal["raw", "gzip"] = "raw"
) -> ShardingSpec:
    """Sharding for values by segment id, of the sizes that CloudVolume and Igneous choose.

    Parameters
    ----------
    num_labels : int
        How many segments there will be. More or fewer are stored as well, with larger or smaller
        indexes.
    data_encoding : {"raw", "gzip"}
        Of each value: gzip for skeletons, raw for meshes, which are compressed already.

    Returns
    -------
    ShardingSpec
        Ids are hashed, so that any of them spread evenly.

    Raises
    ------
    ValueError
        A negative number.

    Examples
    --------
    >>> for count in (1_000, 100_000, 100_000_000):
    ...     spec = sharding_for_ids(count)
    ...     print(spec.shard_bits, spec.minishard_bits)
    0 0
    0 7
    8 9
    """
    if num_labels < 0:
        raise ValueError(f"num_labels={num_labels}: expected at least 0")
    minishards = -(-num_labels * ENTRY_BYTES // MINISHARD_INDEX_BYTES)
    bits = max(minishards - 1, 0).bit_length()
    minishard_bits = min(bits, MOST_MINISHARD_BITS)
    shard_bits = bits - minishard_bits
    room = MINISHARD_INDEX_BYTES << (shard_bits + MOST_MINISHARD_BITS)
    if shard_bits and 100 * num_labels * ENTRY_BYTES <= 55 * room:
        shard_bits -= 1  # rather indexes a tenth too large than twice the shards
    return ShardingSpec(
        preshift_bits=0,
        hash="murmurhash3_x86_128",
        minishard_bits=minishard_bits,
        shard_bits=shard_bits,
        minishard_index_encoding="gzip",
        data_encoding=data_encoding,
    )
