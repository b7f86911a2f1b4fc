"""Bytes and numbers of Draco streams, none beyond their end (pure).

Facts: Draco's bitstream specification 2.2.
"""

from __future__ import annotations

import numpy as np

from xprecomputed.codecs.base import Bytes
from xprecomputed.errors import CorruptDataError

__all__ = ["Reader"]


class Reader:
    """Bytes and varints of a stream, as far as it goes."""

    def __init__(self, data: Bytes, at: int) -> None:
        self.data, self.at = data, at

    def ensure(self, count: int) -> None:
        """So many bytes must follow."""
        if count > len(self.data) - self.at:
            raise CorruptDataError(f"Draco stream of {len(self.data)} bytes, which ends too early")

    def skip(self, count: int) -> None:
        """Go on by so many bytes."""
        self.ensure(count)
        self.at += count

    def byte(self) -> int:
        """The next byte."""
        self.skip(1)
        return self.data[self.at - 1]

    def varint(self) -> int:
        """The next number of at most 32 bits."""
        value = 0
        for shift in range(0, 35, 7):  # 32 bits
            if self.at >= len(self.data):
                self.skip(1)
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80 and not value >> 32:
                return value
        raise CorruptDataError("Draco stream with a count of more than 32 bits")

    def skip_varints(self, count: int) -> None:
        """Go on by so many numbers, which may be millions."""
        self.ensure(count)
        last = np.flatnonzero(np.frombuffer(self.data, np.uint8, offset=self.at) < 0x80)
        if count:
            self.skip(int(last[count - 1]) + 1 if count <= len(last) else len(self.data))
