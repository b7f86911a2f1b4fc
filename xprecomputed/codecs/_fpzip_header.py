"""What an fpzip stream says about itself, read before the library sees it (pure).

The header has no bytes of its own: its fields are the first symbols of the range coder, each
bit as probable as its opposite.
"""

from __future__ import annotations

from dataclasses import dataclass

from xprecomputed.codecs.base import Bytes
from xprecomputed.errors import CorruptDataError

__all__ = ["HEADER_BYTES", "FpzipHeader", "read_header"]

HEADER_BYTES = 28  # with the four bytes that the coder reads ahead
SIGNATURE = b"fpz\0"
VERSION = (0x0110, 1)  # of the format, of the layout of floats
WORD = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class FpzipHeader:
    """The array of an fpzip stream.

    Parameters
    ----------
    itemsize : int
        4 for float32, 8 for float64.
    precision : int
        Bits of each value that were kept; 0 for all.
    shape : tuple of four int
        First axis fastest.
    """

    itemsize: int
    precision: int
    shape: tuple[int, int, int, int]


class _RangeDecoder:
    """The part of fpzip's range decoder that uniform symbols need."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.low, self.range, self.code = 0, WORD, 0
        for _ in range(4):
            self._shift()
        self.low, self.range = 0, WORD

    def take(self, bits: int) -> int:
        """A number of `bits` bits; its low 16 come first."""
        value = shift = 0
        while bits > 16:
            value |= self._symbol(16) << shift
            shift, bits = shift + 16, bits - 16
        return value | self._symbol(bits) << shift

    def _symbol(self, bits: int) -> int:
        self.range >>= bits
        if not self.range:
            raise CorruptDataError("fpzip header that is no code of the range coder")
        symbol = ((self.code - self.low) & WORD) // self.range
        if symbol >> bits:
            raise CorruptDataError("fpzip header that is no code of the range coder")
        self.low = (self.low + self.range * symbol) & WORD
        while (self.low ^ (self.low + self.range)) & WORD < 1 << 24:  # the top byte is settled
            self._shift()
        if self.range < 1 << 16:  # a carry could still travel: give up a part of the range
            self._shift()
            self._shift()
            self.range = -self.low & WORD
        return symbol

    def _shift(self) -> None:
        byte = self.data[self.at] if self.at < len(self.data) else 0
        self.at += 1
        self.code = (self.code << 8 | byte) & WORD
        self.low = self.low << 8 & WORD
        self.range = self.range << 8 & WORD


def read_header(data: Bytes) -> FpzipHeader:
    """Decode the header.

    Raises
    ------
    CorruptDataError
        Not fpzip, or of a version that is not known.

    Examples
    --------
    >>> read_header(bytes.fromhex(
    ...     "66707929 870ef0ff 0004fb00 0005fa00 0006f900 0001fe00 00000000"))
    FpzipHeader(itemsize=4, precision=0, shape=(5, 6, 7, 2))
    """
    if len(data) < HEADER_BYTES:
        raise CorruptDataError(
            f"{len(data)} bytes are too few for an fpzip header (at least {HEADER_BYTES})"
        )
    coder = _RangeDecoder(bytes(data[: 2 * HEADER_BYTES]))
    signature = bytes(coder.take(8) for _ in SIGNATURE)
    if signature != SIGNATURE:
        raise CorruptDataError(f"not an fpzip stream: begins {bytes(data[:4]).hex(' ')}")
    version = coder.take(16), coder.take(8)
    if version != VERSION:
        raise CorruptDataError(f"fpzip stream of version {version}, known is {VERSION}")
    itemsize = 8 if coder.take(1) else 4
    precision = coder.take(7)
    x, y, z, channels = (coder.take(32) for _ in range(4))
    return FpzipHeader(itemsize, precision, (x, y, z, channels))
