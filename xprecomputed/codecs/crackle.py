"""``crackle``: label volumes of CloudVolume (format reference 3.8).

With numba bounds-checked kernels encode it and decode "flat" labels, which is what CloudVolume
writes, without the GIL. The package holds it and can crash, on hostile streams or odd chunks:
what is left to it runs in a helper process, a stream after its header, all lengths and the
checksums of header and index were checked here. A stream of version 1 has a checksum of
everything; of version 0 none.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, permutations
from typing import Any, ClassVar

import numpy as np

from xprecomputed.codecs import _crackle_kernel as kernel
from xprecomputed.codecs import _crackle_kernel_checksums as checksums
from xprecomputed.codecs import _crackle_kernel_encode as encoding
from xprecomputed.codecs import _isolated
from xprecomputed.codecs.base import Array, Bytes, ChunkSpec, Codec, Region, paste, require_length
from xprecomputed.errors import CorruptDataError, MissingDependencyError
from xprecomputed.jit import compiled

__all__ = ["Crackle"]

INSTALL = (
    '    pip install "xprecomputed[fast]"   (codes crackle itself, and faster; not rare layouts)\n'
    '    pip install "xprecomputed[crackle]"'
)
MAGIC = b"crkl"
HEADERS = (struct.Struct("<4sBHIIIBI"), struct.Struct("<4sBHIIIBQB"))  # by version
FORTRAN = 1 << 7  # the first axis of the array is the fastest
ONE_GRID = 31  # slices are not divided: the side of a part, as a power of two
MAX_VOXELS = 1 << 31  # of the kernels, which count runs and components in 31 bits
KEPT_SUMS = 1 << 16  # voxels of a slice whose table is kept

MESSAGES = {
    kernel.INDEX_LENGTH: "has a slice whose list of chains contradicts its length",
    kernel.CODES_EXHAUSTED: "has a slice that ends within a chain",
    kernel.CODES_LEFT: "has a slice that does not end with its last chain",
    kernel.OUTSIDE: "draws outside the slice",
    kernel.TOO_MANY_BRANCHES: "has more branches than corners",
}


@dataclass(frozen=True)
class _Stream:
    """Where things are in a stream, after every length was checked."""

    data: Bytes
    version: int
    bits: int
    label_bytes: slice
    model_bytes: slice
    begins: Array  # of the codes of each slice, and the end of the last
    flat: bool  # the labels as the kernels can read them

    @property
    def stored(self) -> int:
        """Bytes of a label."""
        return 1 << (self.bits >> 2 & 3)

    @property
    def order(self) -> int:
        """Of the Markov model."""
        return self.bits >> 9 & 15

    def checksum(self, place: int) -> int:
        """Of the labels (0) or of slice ``place - 1``."""
        at = int(self.begins[-1]) + 4 * place
        return int.from_bytes(self.data[at : at + 4], "little")


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
        stream = _parse(data, chunk)
        if not _has_kernels(stream, chunk):
            return _isolated.decode("crackle", data, chunk, INSTALL)
        out = np.empty(chunk.shape, chunk.dtype)
        _decode_with_kernels(stream, chunk, 0, out[0])
        return out

    def decode_into(self, data: Bytes, chunk: ChunkSpec, region: Region, out: Array) -> None:  # noqa: D102
        stream = _parse(data, chunk)
        _, z, y, x = region
        if not _has_kernels(stream, chunk):
            paste(_isolated.decode("crackle", data, chunk, INSTALL)[region], out)
        elif (y, x) == chunk.whole[2:]:
            _decode_with_kernels(stream, chunk, z.start, out[0])
        else:  # whole slices, of those that are asked for
            slices = np.empty((z.stop - z.start, *chunk.shape[2:]), chunk.dtype)
            _decode_with_kernels(stream, chunk, z.start, slices)
            paste(slices[None, :, y, x], out)

    def encode(self, array: Array) -> bytes:  # noqa: D102
        if array[0].size < MAX_VOXELS and compiled(encoding.walk_slices) is not None:
            return _encode_with_kernels(array[0])
        plain = np.ascontiguousarray(array[0], array.dtype.newbyteorder("<"))
        options = {"dtype": plain.dtype.str, "shape": plain.shape[::-1]}
        most = self.max_encoded_bytes(ChunkSpec(array.shape, plain.dtype))
        return _isolated.encode("crackle", plain, options, most, INSTALL)


def _parse(data: Bytes, chunk: ChunkSpec) -> _Stream:
    require_length(data, HEADERS[1].size, "a crackle stream")  # the package wants so many
    version = data[4]
    if bytes(data[:4]) != MAGIC or version >= len(HEADERS):
        raise CorruptDataError(f"not a crackle stream: begins {bytes(data[:5]).hex(' ')}")
    _, _, bits, *size, grid, label_bytes = HEADERS[version].unpack_from(data)[:8]
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
    flat = bits >> 5 & 3 == 0 and 1 << grid >= max(size[:2])
    return _places(data, version, size[2], bits, label_bytes, flat)


def _places(
    data: Bytes, version: int, slices: int, bits: int, label_bytes: int, flat: bool
) -> _Stream:
    order = bits >> 9 & 15
    model = -(-(4**order) * 5 // 8) if order else 0
    head = HEADERS[version].size
    index = 4 * slices + (4 if version else 0)
    ends = 4 * slices + 4 if version else 0
    require_length(data, head + index, "the index of a crackle stream")
    lengths = np.frombuffer(data, "<u4", slices, head)
    if version and _crc32c(data[head : head + 4 * slices]) != int.from_bytes(
        data[head + 4 * slices : head + index], "little"
    ):
        raise CorruptDataError("crackle index whose checksum is wrong")
    total = head + index + label_bytes + model + int(lengths.sum(dtype=np.uint64)) + ends
    if total != len(data):
        raise CorruptDataError(
            f"crackle stream of {len(data)} bytes whose header and index ask for {total}"
        )
    labels = head + index, head + index + label_bytes
    codes = _offsets(lengths, labels[1] + model)
    return _Stream(
        data, version, bits, slice(*labels), slice(labels[1], int(codes[0])), codes, flat
    )


def _offsets(lengths: Array, first: int = 0) -> Array:
    """Where things of these lengths begin, one after the other, and the end of the last."""
    offsets = np.full(len(lengths) + 1, first, np.int64)
    offsets[1:] += np.cumsum(lengths, dtype=np.int64)
    return offsets


def _has_kernels(stream: _Stream, chunk: ChunkSpec) -> bool:
    return stream.flat and chunk.voxels < MAX_VOXELS and compiled(kernel.draw_slices) is not None


def _decode_with_kernels(stream: _Stream, chunk: ChunkSpec, first: int, out: Array) -> None:
    """Decode the slices from `first` on that `out` has room for (axes z, y, x)."""
    chosen = slice(first, first + len(out))
    values, firsts = _values(stream, chunk)
    ends, numbers, runs, counts = _runs(stream, chunk, chosen)
    if (counts != np.diff(firsts)[chosen]).any():
        raise CorruptDataError("crackle stream: its labels and its slices contradict each other")
    if stream.version:
        found = _slice_checksums(ends, numbers, runs, out.shape)
        for z, checksum in enumerate(found.tolist(), first):
            if checksum != stream.checksum(1 + z):
                raise CorruptDataError(f"crackle stream: the checksum of slice {z} is wrong")
    _call(kernel.paint, ends, numbers, firsts[chosen], values, out)


def _values(stream: _Stream, chunk: ChunkSpec) -> tuple[Array, Array]:
    """The value of each component, slice after slice, and where those of each slice begin."""
    labels = stream.data[stream.label_bytes]
    if stream.version and _crc32c(labels) != stream.checksum(0):
        raise CorruptDataError("crackle stream: the checksum of the labels is wrong")
    slices = chunk.shape[1]
    count = int.from_bytes(labels[:8], "little")
    width, key = _width(chunk.shape[2] * chunk.shape[3]), _width(count)
    fixed = 8 + count * stream.stored + slices * width
    if fixed > len(labels) or (len(labels) - fixed) % key:
        raise CorruptDataError(
            f"crackle stream whose {count} labels need {fixed} bytes and a multiple of {key}, "
            f"of {len(labels)}"
        )
    at = fixed - slices * width
    firsts = _offsets(np.frombuffer(labels, f"<u{width}", slices, at))
    keys = np.frombuffer(labels, f"<u{key}", -1, fixed)
    if firsts[-1] != len(keys) or (keys >= count).any():
        raise CorruptDataError(
            "crackle stream: the numbers of labels and of components contradict each other"
        )
    return np.frombuffer(labels, f"<u{stream.stored}", count, 8).astype(chunk.dtype)[keys], firsts


def _runs(stream: _Stream, chunk: ChunkSpec, chosen: slice) -> Any:
    data = np.frombuffer(stream.data, np.uint8)
    data.flags.writeable = False  # one type of it, so that numba compiles once
    _, _, sy, sx = chunk.shape
    begins = stream.begins[chosen.start : chosen.stop + 1]
    planes = np.zeros((len(begins) - 1, 2, sy + 1, sx // 64 + 1), np.uint64)
    # a branch and its end are four codes of a bit or more; each corner has two cracks of its own
    branches = min(2 * int(np.diff(begins).max()), 2 * (sx + 1) * (sy + 1))
    corners = np.empty((branches, 2), np.int64)
    size = np.array([sx, sy], np.int64)
    code = _call(
        kernel.draw_slices, data, begins, _model(stream), stream.order, size, planes, corners
    )
    if code:
        raise CorruptDataError(f"crackle stream that {MESSAGES[code]}")
    permissible = stream.bits >> 4 & 1  # the codes then say where no crack is
    return _call(kernel.join_runs, planes, np.uint64(permissible * (2**64 - 1)), size)


def _model(stream: _Stream) -> Array:
    """Of each history the four differences in the order of their codes, two bits each."""
    packed = np.frombuffer(stream.data[stream.model_bytes], np.uint8)
    if not stream.order:
        return np.empty(0, np.uint8)
    bits = np.unpackbits(packed, bitorder="little")[: 5 * 4**stream.order].reshape(-1, 5)
    rows = np.packbits(bits, axis=1, bitorder="little")[:, 0]
    if (rows >= len(ORDERS)).any():
        raise CorruptDataError("crackle stream with a row of its model that is none of the 24")
    return ORDERS[rows]


def _encode_with_kernels(array: Array) -> bytes:
    """The stream that the package writes, of an array with the axes z, y, x."""
    labels = array.astype(array.dtype.newbyteorder("="), copy=False).view()
    labels.flags.writeable = False  # as for data
    sz, sy, sx = labels.shape
    size = np.array([sx, sy], np.int64)
    planes = np.zeros((sz, 2, sy + 1, sx // 64 + 1), np.uint64)
    permissible = _call(encoding.mark_cracks, labels, planes) < labels.size // 2
    ends, numbers, runs, counts = _call(kernel.join_runs, planes, np.uint64(0), size)
    values = np.empty(int(counts.sum()), labels.dtype)
    _call(encoding.first_labels, labels, ends, numbers, _offsets(counts), values)
    found, keys = np.unique(values, return_inverse=True)
    stored, key = _width(int(found[-1])), _width(len(found))
    sections = (
        len(found).to_bytes(8, "little"),
        found.astype(f"<u{stored}").tobytes(),
        counts.astype(f"<u{_width(sx * sy)}").tobytes(),
        keys.astype(f"<u{key}").tobytes(),
    )
    label_bytes = b"".join(sections)
    if permissible:  # what is drawn is then where no crack is
        planes ^= _inside(planes.shape, size)
    lengths, codes = _codes(planes, size)
    bits = labels.dtype.itemsize.bit_length() - 1 | (stored.bit_length() - 1) << 2
    bits |= permissible << 4 | FORTRAN
    head = HEADERS[1].pack(MAGIC, 1, bits, sx, sy, sz, ONE_GRID, len(label_bytes), 0)
    index = lengths.astype("<u4").tobytes()
    ends_of_slices = _slice_checksums(ends, numbers, runs, labels.shape)
    parts = (
        head[:28], bytes([_crc8(head[5:28])]), index, _crc32c(index).to_bytes(4, "little"),
        label_bytes, codes, _crc32c(label_bytes).to_bytes(4, "little"), ends_of_slices.tobytes(),
    )  # fmt: skip
    return b"".join(parts)


def _inside(shape: tuple[int, ...], size: Array) -> Array:
    """The bits of planes that lie between two voxels."""
    inside = np.zeros(shape[1:], np.uint64)
    sx, sy = size.tolist()
    row = np.frombuffer(((1 << sx) - 1).to_bytes(8 * shape[3], "little"), "<u8")
    inside[0, :sy] = row & ~np.uint64(np.arange(shape[3]) == 0)
    inside[1, 1:sy] = row
    return inside


def _codes(planes: Array, size: Array) -> tuple[Array, bytes]:
    """The bytes of each slice, and those of all."""
    codes, corners, begins = _call(encoding.walk_slices, planes, size)
    lengths = np.empty(len(planes), np.uint32)
    out = np.empty(10 * len(planes) + 13 * len(corners) + len(codes) // 4, np.uint8)
    order = np.argsort(corners, kind="stable")
    written = _call(encoding.pack_slices, codes, corners, begins, order, size, lengths, out)
    return lengths, out[:written].tobytes()


def _slice_checksums(ends: Array, numbers: Array, runs: Array, shape: tuple[int, ...]) -> Array:
    found = np.empty(len(runs) - 1, "<u4")
    sums, zeros = _sums(shape[-2] * shape[-1])
    _call(checksums.slice_checksums, ends, numbers, runs, shape[-1], sums, zeros, found)
    return found


def _call(function: Any, *arguments: Any) -> Any:
    machine_code = compiled(function)
    if machine_code is None:  # pragma: no cover - the caller has asked before
        raise MissingDependencyError("numba went away")
    return machine_code(*arguments)


def _width(most: int) -> int:
    return next(width for width in (1, 2, 4, 8) if most < 1 << 8 * width)


def _sums(voxels: int) -> tuple[Array, int]:
    """What `slice_checksums` takes for slices of so many voxels."""
    return _kept_sums(voxels) if voxels <= KEPT_SUMS else _kept_sums.__wrapped__(voxels)


@lru_cache(maxsize=4)
def _kept_sums(voxels: int) -> tuple[Array, int]:
    sums = np.empty(voxels + 1, np.uint32)
    zeros = _call(checksums.row_sums, CRC32C, sums)
    return sums, zeros


def _table(polynomial: int) -> tuple[int, ...]:
    """What a byte does to a checksum whose bits are reflected."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (polynomial if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


def _tables(polynomial: int) -> Array:
    """The same of 32 bits, and after one to seven bytes of zeros more."""
    tables = np.empty((8, 256), np.uint32)
    tables[0] = _table(polynomial)
    for before, after in pairwise(tables):
        after[:] = before >> 8 ^ tables[0][before & 255]
    return tables


CRC8 = _table(0xE7)
CRC32C = _tables(0x82F63B78)
ORDERS = np.array([a | b << 2 | c << 4 | d << 6 for a, b, c, d in permutations(range(4))], np.uint8)


def _crc8(data: bytes) -> int:
    crc = 0xFF
    for byte in data:
        crc = CRC8[crc ^ byte]
    return crc


def _crc32c(data: Bytes) -> int:
    machine_code = compiled(checksums.crc32c)
    if machine_code is not None:
        array = np.frombuffer(data, np.uint8)
        array.flags.writeable = False
        return int(machine_code(array, CRC32C))
    crc = 0xFFFFFFFF
    table = CRC32C[0].tolist()
    for byte in data:
        crc = crc >> 8 ^ table[crc & 0xFF ^ byte]
    return crc ^ 0xFFFFFFFF
