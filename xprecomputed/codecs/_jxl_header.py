"""What the first bytes of a JPEG XL image tell, read before libjxl sees them (pure).

Fact: ISO/IEC 18181-1, SizeHeader and the beginning of ImageMetadata; 18181-2, boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

from xprecomputed.codecs.base import Bytes
from xprecomputed.errors import CorruptDataError

__all__ = ["CODESTREAM", "CONTAINER", "JxlHeader", "read_header"]

CODESTREAM = b"\xff\x0a"
CONTAINER = bytes.fromhex("0000000c 4a584c20 0d0a870a")
HEADER_BYTES = 64  # more than all the fields that are read here can take

#: selector -> (what is added, bits that follow)
SIZE = ((1, 9), (1, 13), (1, 18), (1, 30))
INTEGER_DEPTH = ((8, 0), (10, 0), (12, 0), (1, 6))
FLOAT_DEPTH = ((32, 0), (16, 0), (24, 0), (1, 6))
EXTRA_CHANNELS = ((0, 0), (1, 0), (2, 4), (1, 12))
RATIOS = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


@dataclass(frozen=True, slots=True)
class JxlHeader:
    """An image as it is shown.

    Parameters
    ----------
    width, height : int
        Pixels, after the orientation was applied.
    depth : int
        Bits of a sample.
    is_float : bool
        Whether samples are floating-point numbers.
    extra_channels : int
        Beyond gray or RGB; alpha is one.
    is_still : bool
        Neither an animation nor with a preview.
    """

    width: int
    height: int
    depth: int = 8
    is_float: bool = False
    extra_channels: int = 0
    is_still: bool = True


class _Bits:
    """Bits, least significant first; never beyond the end."""

    def __init__(self, data: bytes) -> None:
        self.value = int.from_bytes(data, "little")
        self.left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self.left:
            raise CorruptDataError("JPEG XL header that is truncated")
        taken = self.value & ((1 << count) - 1)
        self.value >>= count
        self.left -= count
        return taken

    def choose(self, choices: tuple[tuple[int, int], ...]) -> int:
        base, bits = choices[self.take(2)]
        return base + self.take(bits)


def read_header(data: Bytes) -> JxlHeader:
    """Read a bare codestream or one in a container.

    Raises
    ------
    CorruptDataError
        Neither, or too short to tell.

    Examples
    --------
    >>> read_header(bytes.fromhex("ff0a f80f 7e80 a0"))
    JxlHeader(width=64, height=512, depth=8, is_float=False, extra_channels=0, is_still=True)
    """
    stream = bytes(data[:HEADER_BYTES])
    if stream.startswith(CONTAINER):
        stream = _unbox(data)
    if not stream.startswith(CODESTREAM):
        raise CorruptDataError(f"not a JPEG XL image: begins {bytes(data[:12]).hex(' ')}")
    bits = _Bits(stream[len(CODESTREAM) :])
    width, height = _read_size(bits)
    if bits.take(1):  # everything as usual
        return JxlHeader(width, height)
    orientation = 0
    if bits.take(1):
        orientation = bits.take(3)
        if bits.take(1):
            _read_size(bits)  # how large it wants to be shown
        if bits.take(1) or bits.take(1):
            return JxlHeader(width, height, is_still=False)
    if orientation > 3:  # turned by a quarter
        width, height = height, width
    is_float = bool(bits.take(1))
    depth = bits.choose(FLOAT_DEPTH if is_float else INTEGER_DEPTH)
    if is_float:
        bits.take(4)
    bits.take(1)
    return JxlHeader(width, height, depth, is_float, bits.choose(EXTRA_CHANNELS))


def _read_size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)

    def side() -> int:
        return 8 * (bits.take(5) + 1) if small else bits.choose(SIZE)

    height = side()
    ratio = bits.take(3)
    if not ratio:
        return side(), height
    numerator, denominator = RATIOS[ratio]
    return height * numerator // denominator, height


def _unbox(data: Bytes) -> bytes:
    """The beginning of the codestream in a container, whose parts may be in several boxes."""
    stream, at = b"", 0
    while at + 8 <= len(data) and len(stream) < HEADER_BYTES:
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8]), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:  # until the end
            size = len(data) - at
        if size < head or at + size > len(data):
            raise CorruptDataError(
                f"JPEG XL box of {size} bytes at {at}, of which {len(data) - at} are there"
            )
        if kind in (b"jxlc", b"jxlp"):
            first = at + head + (4 if kind == b"jxlp" else 0)  # a part has a number
            stream += bytes(data[first : min(at + size, first + HEADER_BYTES)])
        at += size
    return stream
