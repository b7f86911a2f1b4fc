"""``compressed_segmentation`` (format reference 3.6).

With numba a bounds-checked kernel writes straight into the destination, without the GIL;
without it the package ``compressed-segmentation`` decodes what a NumPy check has found to
stay inside the buffer (the package itself checks nothing and crashes on bad offsets).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from xprecomputed.codecs import _cseg_kernel as kernel
from xprecomputed.codecs._optional import optional
from xprecomputed.codecs.base import Array, Bytes, ChunkSpec, Codec, Region
from xprecomputed.errors import CorruptDataError, UnsupportedEncodingError
from xprecomputed.grid import Triple
from xprecomputed.jit import compiled

if TYPE_CHECKING:
    from xprecomputed.metadata import ScaleInfo

__all__ = ["CompressedSegmentation"]

WIDTHS = (0, 1, 2, 4, 8, 16, 32)
MAX_BLOCK_VOXELS = 65536  # beyond it the encoders of several peers do not end

MESSAGES = {
    kernel.BAD_WIDTH: f"a bit width that is none of {WIDTHS}",
    kernel.VALUES_OUTSIDE: "values that reach beyond the end of the stream",
    kernel.TABLE_OUTSIDE: "a lookup table beyond the end of the stream",
    kernel.INDEX_OUTSIDE: "an index beyond its lookup table",
}


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

    def encode(self, array: Array) -> bytes:  # noqa: D102
        if math.prod(self.block_size) > MAX_BLOCK_VOXELS:
            raise UnsupportedEncodingError(
                f"compressed_segmentation: blocks of {self.block_size} have more than "
                f"{MAX_BLOCK_VOXELS} voxels, which no reader can be trusted with"
            )
        package = optional("compressed_segmentation", "encoding compressed_segmentation")
        streams = []
        for channel in array:
            volume = np.asfortranarray(channel.T)
            # the stream of one channel begins with the word 1: its own channel table
            streams.append(package.compress(volume, block_size=self.block_size, order="F")[4:])
        starts = np.cumsum([len(streams), *(len(each) // 4 for each in streams[:-1])])
        return b"".join([starts.astype("<u4").tobytes(), *streams])

    def _blocks(self, chunk: ChunkSpec) -> Triple:
        z, y, x = chunk.shape[1:]
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
            np.array(chunk.shape[:0:-1], np.int64),
            np.array(self.block_size, np.int64),
            np.array([each.start for each in region[:0:-1]], np.int64),
            out,
            chunk.dtype.itemsize == 8,
        )
        if code:
            self._refuse(code, block, channel)

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
