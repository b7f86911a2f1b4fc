"""``raw``: the voxels themselves (format reference 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xprecomputed.codecs.base import Array, Bytes, ChunkSpec, Codec, Region, contiguous
from xprecomputed.errors import CorruptDataError
from xprecomputed.metadata import DATA_TYPES

__all__ = ["Raw"]


@dataclass(frozen=True)
class Raw(Codec):
    """Exactly ``voxels * channels * itemsize`` little-endian bytes, x fastest."""

    name: ClassVar[str] = "raw"
    dtypes: ClassVar[tuple[str, ...]] = DATA_TYPES
    speed_bytes_s: ClassVar[float] = 4e9
    is_plain: ClassVar[bool] = True

    def max_encoded_bytes(self, chunk: ChunkSpec) -> int:  # noqa: D102 - inherited
        return chunk.nbytes

    def is_impossible(self, data: Bytes, chunk: ChunkSpec) -> bool:  # noqa: D102
        return len(data) != chunk.nbytes

    def decode(self, data: Bytes, chunk: ChunkSpec) -> Array:  # noqa: D102
        if len(data) != chunk.nbytes:
            c, z, y, x = chunk.shape
            raise CorruptDataError(
                f"{len(data)} bytes for raw {chunk.dtype.name} of {x} x {y} x {z} voxels, "
                f"{c} channel(s), expected {chunk.nbytes}"
            )
        return np.frombuffer(data, chunk.dtype).reshape(chunk.shape)

    def decode_region(self, data: Bytes, chunk: ChunkSpec, region: Region) -> Array:  # noqa: D102
        return self.decode(data, chunk)[region]

    def part(  # noqa: D102
        self, chunk: ChunkSpec, region: Region
    ) -> tuple[int, int, ChunkSpec, Region] | None:
        channels, depth, y, x = chunk.shape
        z = region[1]
        if channels > 1 or z.stop - z.start == depth:
            return None
        plane = y * x * chunk.dtype.itemsize
        smaller = ChunkSpec((1, z.stop - z.start, y, x), chunk.dtype)
        inside = (region[0], slice(0, z.stop - z.start), *region[2:])
        return z.start * plane, z.stop * plane, smaller, inside

    def encode(self, array: Array) -> memoryview:  # noqa: D102
        # not made bytes: that would be another copy
        little = contiguous(array, array.dtype.newbyteorder("<"))
        return little.reshape(-1).view(np.uint8).data
