"""``crackle``: label volumes of CloudVolume (format reference 3.8).

The package holds the GIL and can crash on hostile streams: it runs in a helper process, after
the header, all lengths and the checksums of header and index were checked here. A stream of
version 1 has a checksum of everything; of version 0 none.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xprecomputed.codecs import _isolated
from xprecomputed.codecs.base import Array, Bytes, ChunkSpec, Codec, require_length
from xprecomputed.errors import CorruptDataError

__all__ = ["Crackle"]

INSTALL = '    pip install "xprecomputed[crackle]"'
MAGIC = b"crkl"
HEADERS = (struct.Struct("<4sBHIIIBI"), struct.Struct("<4sBHIIIBQB"))  # by version


@dataclass(frozen=True)
class Crackle(Codec):
    """Lossless unsigned labels, one channel."""

    name: ClassVar[str] = "crackle"
    dtypes: ClassVar[tuple[str, ...]] = ("uint8", "uint16", "uint32", "uint64")
    channels: ClassVar[tuple[int, ...]] = (1,)

    def max_encoded_bytes(self, chunk: ChunkSpec) -> int:  # noqa: D102 - inherited
        # at the worst a label, its component and the cracks around it for every voxel
        return (1 << 20) + chunk.voxels * (chunk.dtype.itemsize + 24) + 64 * chunk.shape[1]

    def is_impossible(self, data: Bytes, chunk: ChunkSpec) -> bool:  # noqa: D102
        return bytes(data[:4]) != MAGIC

    def decode(self, data: Bytes, chunk: ChunkSpec) -> Array:  # noqa: D102
        _check(data, chunk)
        return _isolated.decode("crackle", data, chunk, INSTALL)

    def encode(self, array: Array) -> bytes:  # noqa: D102
        plain = np.ascontiguousarray(array[0], array.dtype.newbyteorder("<"))
        options = {"dtype": plain.dtype.str, "shape": plain.shape[::-1]}
        most = self.max_encoded_bytes(ChunkSpec(array.shape, plain.dtype))
        return _isolated.encode("crackle", plain, options, most, INSTALL)


def _check(data: Bytes, chunk: ChunkSpec) -> None:
    require_length(data, HEADERS[1].size, "a crackle stream")  # the package wants so many
    version = data[4]
    if bytes(data[:4]) != MAGIC or version >= len(HEADERS):
        raise CorruptDataError(f"not a crackle stream: begins {bytes(data[:5]).hex(' ')}")
    _, _, bits, *size, _, label_bytes = HEADERS[version].unpack_from(data)[:8]
    width, stored = 1 << (bits & 3), 1 << (bits >> 2 & 3)
    if tuple(size) != chunk.shape[:0:-1] or width != chunk.dtype.itemsize:
        raise CorruptDataError(
            f"crackle stream of {tuple(size)} voxels (x, y, z) with {width}-byte labels, "
            f"expected {chunk.shape[:0:-1]} with {chunk.dtype.itemsize}"
        )
    if bits >> 8 & 1 or stored > width or (bits >> 5 & 3) > 2:
        raise CorruptDataError(
            f"crackle stream with the flags {bits:#06x}: signed labels, or a layout unknown here"
        )
    if version and _crc8(bytes(data[5:28])) != data[28]:
        raise CorruptDataError("crackle header whose checksum is wrong")
    _check_lengths(data, version, size[2], bits, label_bytes)


def _check_lengths(data: Bytes, version: int, slices: int, bits: int, label_bytes: int) -> None:
    order = bits >> 9 & 15
    model = -(-(4**order) * 5 // 8) if order else 0
    head = HEADERS[version].size
    index = 4 * slices + (4 if version else 0)
    checksums = 4 * slices + 4 if version else 0
    require_length(data, head + index, "the index of a crackle stream")
    lengths = np.frombuffer(data, "<u4", slices, head)
    if version and _crc32c(bytes(data[head : head + 4 * slices])) != int.from_bytes(
        data[head + 4 * slices : head + index], "little"
    ):
        raise CorruptDataError("crackle index whose checksum is wrong")
    total = head + index + label_bytes + model + int(lengths.sum(dtype=np.uint64)) + checksums
    if total != len(data):
        raise CorruptDataError(
            f"crackle stream of {len(data)} bytes whose header and index ask for {total}"
        )


def _table(polynomial: int) -> tuple[int, ...]:
    """What a byte does to a checksum whose bits are reflected."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (polynomial if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


CRC8 = _table(0xE7)
CRC32C = _table(0x82F63B78)


def _crc8(data: bytes) -> int:
    crc = 0xFF
    for byte in data:
        crc = CRC8[crc ^ byte]
    return crc


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC32C[crc & 0xFF ^ byte]
    return crc ^ 0xFFFFFFFF
