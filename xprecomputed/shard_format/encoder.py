"""Packing values into the bytes of one shard (format reference 4.3, 4.8)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from xprecomputed.codecs import compress
from xprecomputed.metadata import ShardingSpec
from xprecomputed.shard_format.layout import locate, shard_name

__all__ = ["encode_shards"]


def encode_shards(values: Mapping[int, bytes], spec: ShardingSpec) -> dict[str, bytes]:
    """Pack `values` into shard files; the same bytes whatever the order of the mapping.

    Parameters
    ----------
    values : mapping of int to bytes
        By uint64 key.
    spec : ShardingSpec

    Returns
    -------
    dict of str to bytes
        File name to contents, without shards that hold nothing.

    Examples
    --------
    >>> spec = ShardingSpec(preshift_bits=0, hash="identity", minishard_bits=0, shard_bits=0)
    >>> {name: len(data) for name, data in encode_shards({7: b"abc"}, spec).items()}
    {'0.shard': 43}
    """
    keys = np.array(sorted(values), np.uint64)
    places = locate(spec, keys)
    shards: dict[int, dict[int, list[int]]] = {}
    for key, shard, minishard in zip(
        keys.tolist(), places.shards.tolist(), places.minishards.tolist(), strict=True
    ):
        shards.setdefault(shard, {}).setdefault(minishard, []).append(key)
    return {
        shard_name(spec, shard): _encode_shard(members, values, spec)
        for shard, members in sorted(shards.items())
    }


def _encode_shard(
    minishards: Mapping[int, list[int]], values: Mapping[int, bytes], spec: ShardingSpec
) -> bytes:
    index = np.zeros((1 << spec.minishard_bits, 2), "<u8")
    parts: list[bytes] = []
    at = 0  # counted from the end of the shard index, as both indexes count
    for minishard, keys in sorted(minishards.items()):
        stored = [_packed(values[key], spec.data_encoding) for key in keys]
        sizes = [len(each) for each in stored]
        columns = np.zeros((3, len(keys)), "<u8")
        columns[0] = np.diff(np.array(keys, np.uint64), prepend=np.uint64(0))
        columns[1, 0] = at
        columns[2] = sizes
        parts += stored
        at += sum(sizes)
        parts.append(_packed(columns.tobytes(), spec.minishard_index_encoding))
        index[minishard] = at, at + len(parts[-1])
        at += len(parts[-1])
    return b"".join([index.tobytes(), *parts])


def _packed(data: bytes, encoding: str) -> bytes:
    return data if encoding == "raw" else compress(data, encoding)
