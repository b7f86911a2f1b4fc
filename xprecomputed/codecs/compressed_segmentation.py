"""``compressed_segmentation`` (format reference 3.6).

With numba, kernels decode straight into the destination with every offset checked, count
labels without decoding them, and encode arrays of any strides, all without the GIL. Without
it the package ``compressed-segmentation`` encodes, and decodes what a NumPy check has found
to stay inside the buffer (the package itself checks nothing and crashes on bad offsets).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from xprecomputed.codecs import _cseg_encode_kernel as encode_kernel
from xprecomputed.codecs import _cseg_kernel as kernel
from xprecomputed.codecs._optional import optional
from xprecomputed.codecs.base import Array, Bytes, ChunkSpec, Codec, Region, integer_option
from xprecomputed.errors import CorruptDataError, UnsupportedEncodingError
from xprecomputed.grid import Triple
from xprecomputed.jit import compiled

if TYPE_CHECKING:
    from xprecomputed.metadata import ScaleInfo

__all__ = ["CompressedSegmentation"]

WIDTHS = (0, 1, 2, 4, 8, 16, 32)
MAX_BLOCK_VOXELS = 65536  # beyond it the encoders of several peers do not end
MAX_WORDS = 1 << 24  # of a channel: offsets of tables, and of values for some readers, have 24 bits

MESSAGES = {
    kernel.BAD_WIDTH: f"a bit width that is none of {WIDTHS}",
    kernel.VALUES_OUTSIDE: "values that reach beyond the end of the stream",
    kernel.TABLE_OUTSIDE: "a lookup table beyond the end of the stream",
    kernel.INDEX_OUTSIDE: "an index beyond its lookup table",
}

#: To decode a voxel alone takes as long as so many of a region.
VOXELS_PER_POINT = 8


@dataclass(frozen=True)
class CompressedSegmentation(Codec):
    """Lossless uint32 and uint64 labels, any number of channels.

    Parameters
    ----------
    block_size : tuple of int
        Voxels of a block, x, y, z.
    """

    name: ClassVar[str] = "compressed_segmentation"
    dtypes: ClassVar[tuple[str, ...]] = ("uint32", "uint64")
    speed_bytes_s: ClassVar[float] = 2e9
    parameters: ClassVar[Mapping[str, str]] = {"block_size": "compressed_segmentation_block_size"}
    block_size: Triple = (8, 8, 8)

    @classmethod
    def from_scale(cls, scale: ScaleInfo) -> CompressedSegmentation:  # noqa: D102 - inherited
        block = scale.compressed_segmentation_block_size
        if block is None:
            raise UnsupportedEncodingError(
                f"scale {scale.key!r}: compressed_segmentation_block_size is missing; if it is "
                "8, 8, 8 as CloudVolume assumes, open the volume with the corrected info:\n"
                "    info = json.load(open('.../info'))\n"
                "    info['scales'][0]['compressed_segmentation_block_size'] = [8, 8, 8]\n"
                "    xprecomputed.open_store(url, info=info)"
            )
        return cls(block)

    @classmethod
    def scale_members(cls, options: Mapping[str, Any]) -> dict[str, Any]:  # noqa: D102
        return super().scale_members({"block_size": (8, 8, 8), **options})

    @classmethod
    def check_option(cls, name: str, value: Any) -> list[int]:  # noqa: D102
        sides = list(value) if isinstance(value, list | tuple | np.ndarray) else []
        if len(sides) != 3:
            raise ValueError(f"{cls.name}: {name}={value!r}, expected three integers x, y, z")
        block = [integer_option(cls.name, name, each, 1, MAX_BLOCK_VOXELS) for each in sides]
        if math.prod(block) > MAX_BLOCK_VOXELS:
            raise ValueError(
                f"{cls.name}: {name}={value!r} has {math.prod(block)} voxels, "
                f"expected at most {MAX_BLOCK_VOXELS}"
            )
        return block

    def max_encoded_bytes(self, chunk: ChunkSpec) -> int:  # noqa: D102
        blocks, voxels = math.prod(self._blocks(chunk)), math.prod(self.block_size)
        per_entry = chunk.dtype.itemsize // 4
        return 4 * chunk.shape[0] * (1 + blocks * (2 + voxels + voxels * per_entry))

    def is_impossible(self, data: Bytes, chunk: ChunkSpec) -> bool:  # noqa: D102
        channels = chunk.shape[0]
        return len(data) < 4 or int.from_bytes(data[:4], "little") != channels

    def decode(self, data: Bytes, chunk: ChunkSpec) -> Array:  # noqa: D102
        out = np.empty(chunk.shape, chunk.dtype)
        self.decode_into(data, chunk, chunk.whole, out)
        return out

    def decode_into(self, data: Bytes, chunk: ChunkSpec, region: Region, out: Array) -> None:  # noqa: D102
        words, offsets = self._channels(data, chunk)
        decode = compiled(kernel.decode_channel)
        if decode is None:
            out[...] = self._decode_with_package(data, words, offsets, chunk)[region]
            return
        for position, channel in enumerate(range(chunk.shape[0])[region[0]]):
            self._decode_channel(
                decode, words[offsets[channel] :], chunk, region, out[position], channel
            )

    def pick(  # noqa: D102
        self, data: Bytes, chunk: ChunkSpec, region: Region, index: tuple[Any, ...]
    ) -> Array:
        decode = compiled(kernel.decode_points)
        if any(isinstance(each, slice) for each in index):
            return super().pick(data, chunk, region, index)
        shape = np.broadcast_shapes(*(each.shape for each in index))
        voxels = math.prod(each.stop - each.start for each in region)
        is_sparse = math.prod(shape) * VOXELS_PER_POINT < voxels
        if decode is None or not is_sparse or region[0].stop - region[0].start != 1:
            return super().pick(data, chunk, region, index)
        words, offsets = self._channels(data, chunk)
        channel = region[0].start
        points = np.empty((3, *shape), np.int64)
        for row, where, span in zip(points, index[1:], region[1:], strict=True):
            np.add(where, span.start, out=row)
        out = np.empty(math.prod(shape), chunk.dtype)
        size, block, _ = self._triples(chunk, region)
        words = words[offsets[channel] :]
        code, number = decode(
            words, len(words), size, block, points.reshape(3, -1), out, chunk.dtype.itemsize == 8
        )
        if code:
            self._refuse(code, number, channel)
        return out.reshape(shape)

    def encode(self, array: Array) -> bytes:  # noqa: D102
        if math.prod(self.block_size) > MAX_BLOCK_VOXELS:
            raise UnsupportedEncodingError(
                f"compressed_segmentation: blocks of {self.block_size} have more than "
                f"{MAX_BLOCK_VOXELS} voxels, which no reader can be trusted with"
            )
        encode = compiled(encode_kernel.encode_channel)
        streams = []
        for channel in array.astype(array.dtype.newbyteorder("="), copy=False):
            stream = (
                self._encode_with_package(channel)
                if encode is None
                else self._encode_channel(encode, channel)
            )
            if stream is None or len(stream) > 4 * MAX_WORDS:
                z, y, x = channel.shape
                raise UnsupportedEncodingError(
                    f"compressed_segmentation: a channel of {x} x {y} x {z} voxels takes more than "
                    f"{MAX_WORDS} words, beyond offsets of 24 bits: use smaller chunks"
                )
            streams.append(stream)
        starts = np.cumsum([len(streams), *(len(each) // 4 for each in streams[:-1])])
        return b"".join([starts.astype("<u4").tobytes(), *streams])

    def unique(  # noqa: D102
        self, data: Bytes, chunk: ChunkSpec, region: Region
    ) -> tuple[Array, Array]:
        count = compiled(kernel.count_channel)
        if count is None or any(each.start >= each.stop for each in region):
            return super().unique(data, chunk, region)
        words, offsets = self._channels(data, chunk)
        found = []
        for channel in range(chunk.shape[0])[region[0]]:
            code, block, labels, counts = count(
                words[offsets[channel] :],
                len(words) - offsets[channel],
                *self._triples(chunk, region),
                np.array([each.stop for each in region[:0:-1]], np.int64),
                chunk.dtype.itemsize == 8,
            )
            if code:
                self._refuse(code, block, channel)
            found.append((labels, counts))
        labels, counts = (np.concatenate(each) for each in zip(*found, strict=True))
        order = np.argsort(labels, kind="stable")
        labels = labels[order]
        first = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
        return labels[first].astype(chunk.dtype), np.add.reduceat(counts[order], first)

    def _encode_channel(self, encode: Callable[..., int], channel: Array) -> Bytes | None:
        """The words of one channel; None if they are too many."""
        channel.flags.writeable = False  # of this view; one kernel is compiled for both kinds
        words = np.empty(min(self._max_words(channel), MAX_WORDS), np.uint32)
        length = encode(channel, np.array(self.block_size, np.int64), words)
        if length == encode_kernel.TOO_LONG:
            return None
        return words[:length].astype("<u4", copy=False).data.cast("B")

    def _encode_with_package(self, channel: Array) -> bytes | None:
        package = optional("compressed_segmentation", "encoding compressed_segmentation")
        volume = np.require(channel.T, requirements=["F", "W"])  # it refuses read-only arrays
        try:
            # the stream of one channel begins with the word 1: its own channel table
            stream: bytes = package.compress(volume, block_size=self.block_size, order="F")[4:]
        except OverflowError:
            return None
        return stream

    def _max_words(self, channel: Array) -> int:
        """No stream of `channel` is longer: every voxel has a table entry of its own."""
        blocks = math.prod(self._grid(channel.shape))
        values = -(-math.prod(self.block_size) // 2)  # indexes have 16 bits at most
        return blocks * (2 + values) + int(channel.size) * (channel.itemsize // 4)

    def _blocks(self, chunk: ChunkSpec) -> Triple:
        return self._grid(chunk.shape[1:])

    def _grid(self, shape: tuple[int, ...]) -> Triple:
        """Blocks along x, y, z of a channel whose `shape` is (z, y, x)."""
        z, y, x = shape
        bx, by, bz = self.block_size
        return -(-x // bx), -(-y // by), -(-z // bz)

    def _channels(self, data: Bytes, chunk: ChunkSpec) -> tuple[Array, list[int]]:
        """The stream as words, and where each channel begins; its headers are inside."""
        channels = chunk.shape[0]
        if len(data) % 4 or len(data) < 4 * channels:
            raise CorruptDataError(
                f"{len(data)} bytes: a compressed_segmentation stream has a multiple of 4, "
                f"at least {4 * channels}"
            )
        words = np.frombuffer(data, "<u4")
        headers = 2 * math.prod(self._blocks(chunk))
        offsets = [int(each) for each in words[:channels]]
        if offsets[0] != channels:
            raise CorruptDataError(
                f"the first word of a compressed_segmentation stream is {offsets[0]}, "
                f"expected {channels} (num_channels)"
            )
        for channel, offset in enumerate(offsets):
            if offset < channels or offset + headers > len(words):
                raise CorruptDataError(
                    f"channel {channel} begins at word {offset}: its {headers} header words do "
                    f"not fit into a stream of {len(words)} words"
                )
        return words, offsets

    def _decode_channel(
        self,
        decode: Callable[..., tuple[int, int]],
        words: Array,
        chunk: ChunkSpec,
        region: Region,
        out: Array,
        channel: int,
    ) -> None:
        code, block = decode(
            words,
            len(words),
            *self._triples(chunk, region),
            out,
            chunk.dtype.itemsize == 8,
        )
        if code:
            self._refuse(code, block, channel)

    def _triples(self, chunk: ChunkSpec, region: Region) -> tuple[Array, Array, Array]:
        """Chunk extent, block extent and first voxel, x, y, z, as the kernels take them."""
        starts = [each.start for each in region[:0:-1]]
        size, block, start = np.array([chunk.shape[:0:-1], self.block_size, starts], np.int64)
        return size, block, start

    def _refuse(self, code: int, block: int, channel: int) -> None:
        raise CorruptDataError(
            f"compressed_segmentation block {block} of channel {channel} has {MESSAGES[code]}"
        )

    def _decode_with_package(
        self, data: Bytes, words: Array, offsets: list[int], chunk: ChunkSpec
    ) -> Array:
        package = optional("compressed_segmentation", "compressed_segmentation chunks")
        for channel, offset in enumerate(offsets):
            self._check_channel(words[offset:], chunk, channel)
        volume = package.decompress(
            bytes(data),
            (*chunk.shape[:0:-1], chunk.shape[0]),
            chunk.dtype,
            block_size=self.block_size,
            order="F",
        )
        decoded: Array = volume.reshape((*chunk.shape[:0:-1], chunk.shape[0]), order="F").T
        return decoded

    def _check_channel(self, words: Array, chunk: ChunkSpec, channel: int) -> None:
        """Refuse what would make the package read outside `words` or give wrong labels."""
        nx, ny, nz = self._blocks(chunk)
        headers = words[: 2 * nx * ny * nz].reshape(-1, 2).astype(np.int64)
        tables, bits, values = headers[:, 0] & 0xFFFFFF, headers[:, 0] >> 24, headers[:, 1]
        needed = -(-bits * math.prod(self.block_size) // 32)
        entries = (len(words) - tables) // (chunk.dtype.itemsize // 4)
        for code, wrong in (
            (kernel.BAD_WIDTH, ~np.isin(bits, WIDTHS)),
            (kernel.VALUES_OUTSIDE, (bits > 0) & (values + needed > len(words))),
            (kernel.TABLE_OUTSIDE, entries < 1),
        ):
            if wrong.any():
                self._refuse(code, int(wrong.argmax()), channel)
        if (bits == 32).any():
            raise UnsupportedEncodingError(
                "compressed_segmentation with 32-bit indexes: the package decodes them wrongly, "
                'install numba:\n    pip install "xprecomputed[fast]"'
            )
        for block in np.flatnonzero(entries < 1 << bits):
            self._check_indexes(words, chunk, int(block), (nx, ny), channel)

    def _check_indexes(
        self, words: Array, chunk: ChunkSpec, block: int, grid: tuple[int, int], channel: int
    ) -> None:
        """The slow look at one block whose table could end beyond the stream."""
        bits, table = int(words[2 * block] >> 24), int(words[2 * block] & 0xFFFFFF)
        at = int(words[2 * block + 1])
        bx, by, bz = self.block_size
        packed = words[at : at + -(-bits * bx * by * bz // 32)]
        steps = np.arange(0, 32, bits, dtype=np.uint32)
        indexes = (packed[:, None] >> steps) & np.uint32((1 << bits) - 1)
        indexes = indexes.reshape(-1)[: bx * by * bz].reshape(bz, by, bx)
        cell = (block % grid[0], block // grid[0] % grid[1], block // grid[0] // grid[1])
        x, y, z = (
            min(b, s - g * b)
            for b, s, g in zip(self.block_size, chunk.shape[:0:-1], cell, strict=True)
        )
        # positions beyond the chunk are padding and may hold anything
        if int(indexes[:z, :y, :x].max()) >= (len(words) - table) // (chunk.dtype.itemsize // 4):
            self._refuse(kernel.INDEX_OUTSIDE, block, channel)
