"""Packing values into the bytes of one shard (format reference 4.3, 4.8).

The order is that of minishards and keys, so the bytes depend on the values alone, not on the
order in which they came. Indexes lie where TensorStore puts them or where CloudVolume does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Bytes, compress
from xprecomputed.errors import LayoutError
from xprecomputed.metadata import ShardingSpec
from xprecomputed.shard_format.layout import locate, shard_name

__all__ = ["ShardLayout", "encode_shards", "pack_value"]

#: The index of a shard is made in memory: 256 MiB.
MOST_MINISHARD_BITS = 24


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """Where everything goes in one shard file, known from keys and sizes alone.

    Parameters
    ----------
    index : bytes
        The shard index, with which the file begins.
    minishards : tuple of (ndarray of int, bytes)
        In the order of the file: the positions of values in the arrays that the layout was made
        from, and the index that follows them; of each minishard, or with the indexes at the end.
    """

    index: bytes
    minishards: tuple[tuple[NDArray[np.int64], bytes], ...]

    @classmethod
    def plan(
        cls,
        keys: NDArray[np.uint64],
        sizes: NDArray[np.int64],
        spec: ShardingSpec,
        before: NDArray[np.int64] | None = None,
        *,
        indexes_last: bool = False,
    ) -> ShardLayout:
        """Lay out the values of one shard.

        Parameters
        ----------
        keys : ndarray of uint64, shape (N,)
            All of one shard, each once.
        sizes : ndarray of int, shape (N,)
            Bytes of each value as stored, after ``data_encoding``.
        spec : ShardingSpec
        before : ndarray of int, shape (N,), optional
            Bytes immediately before each value that have no entry: gaps, for the indexes.
        indexes_last : bool
            All indexes at the end of the file, as CloudVolume has them, which one request reads;
            otherwise each after the values of its minishard, as TensorStore has them.

        Raises
        ------
        LayoutError
            The index of the shard would not fit into memory.

        Examples
        --------
        >>> spec = ShardingSpec(preshift_bits=0, hash="identity", minishard_bits=1, shard_bits=0)
        >>> layout = ShardLayout.plan(np.array([3, 2], "u8"), np.array([5, 7]), spec)
        >>> [positions.tolist() for positions, index in layout.minishards]
        [[1], [0]]
        """
        if spec.minishard_bits > MOST_MINISHARD_BITS:
            raise LayoutError(
                f"minishard_bits={spec.minishard_bits}: every shard would begin with an index of "
                f"{spec.shard_index_bytes >> 20} MiB; up to {MOST_MINISHARD_BITS} are written"
            )
        gaps = np.zeros(len(keys), np.int64) if before is None else before
        order = np.lexsort((keys, locate(spec, keys).minishards))
        numbers = locate(spec, keys[order]).minishards
        index = np.zeros((1 << spec.minishard_bits, 2), "<u8")
        minishards: list[tuple[NDArray[np.int64], bytes]] = []
        ends: list[tuple[int, bytes]] = []
        at = 0  # counted from the end of the shard index, as both indexes count
        for positions in np.split(order, np.flatnonzero(np.diff(numbers)) + 1):
            if not len(positions):
                continue
            columns = np.zeros((3, len(positions)), "<u8")
            columns[0] = np.diff(keys[positions], prepend=np.uint64(0))
            columns[1] = gaps[positions]
            columns[1, 0] += np.uint64(at)
            columns[2] = sizes[positions]
            at += int(sizes[positions].sum() + gaps[positions].sum())
            packed = _packed(columns.tobytes(), spec.minishard_index_encoding)
            number = int(locate(spec, keys[positions[:1]]).minishards[0])
            if indexes_last:
                minishards.append((positions, b""))
                ends.append((number, packed))
                continue
            index[number] = at, at + len(packed)
            at += len(packed)
            minishards.append((positions, packed))
        for number, packed in ends:
            index[number] = at, at + len(packed)
            at += len(packed)
            minishards.append((order[:0], packed))
        return cls(index.tobytes(), tuple(minishards))

    def parts(self, value: Callable[[int], Bytes]) -> Iterator[Bytes]:
        """The file piece by piece; `value` gives what is stored at a position, gap included."""
        yield self.index
        for positions, packed in self.minishards:
            for position in positions.tolist():
                yield value(position)
            yield packed


def pack_value(data: Bytes, spec: ShardingSpec) -> bytes:
    """A value as it is stored, after ``data_encoding``."""
    return _packed(data, spec.data_encoding)


def encode_shards(values: Mapping[int, bytes], spec: ShardingSpec) -> dict[str, bytes]:
    """Pack `values` into shard files, in memory.

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
    shards = locate(spec, keys).shards
    files = {}
    for shard in np.unique(shards):
        members = keys[shards == shard]
        stored = [pack_value(values[key], spec) for key in members.tolist()]
        layout = ShardLayout.plan(members, np.array([len(each) for each in stored]), spec)
        files[shard_name(spec, int(shard))] = b"".join(layout.parts(stored.__getitem__))
    return files


def _packed(data: Bytes, encoding: str) -> bytes:
    return bytes(data) if encoding == "raw" else compress(data, encoding)
