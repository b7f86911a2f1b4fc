"""What a Draco stream says about itself, read before the library sees it (pure).

Facts: Draco's bitstream specification 2.2, sections on the header, metadata and the two forms
of connectivity.
"""

from __future__ import annotations

from dataclasses import dataclass

from xprecomputed.codecs.base import Bytes
from xprecomputed.errors import CorruptDataError

__all__ = ["MAGIC", "DracoHeader", "read_header"]

MAGIC = b"DRACO"
HEADER_BYTES = 11
VERSION = (2, 2)
MESH = 1
SEQUENTIAL, EDGEBREAKER = 0, 1
STANDARD, PREDICTIVE, VALENCE = 0, 1, 2  # how edgebreaker's symbols are stored
HAS_METADATA = 0x8000
#: Entries of metadata and their nesting; writers make a handful.
MAX_METADATA = 1000

#: Faces that a byte can hold at most. Edgebreaker's standard symbols take a bit each at least,
#: and up to four faces share three of them.
FACES_PER_BYTE = 11
#: Of entropy coded ones: a flat, regular grid, the best case, was seen to reach 630.
CODED_FACES_PER_BYTE = 1024


@dataclass(frozen=True, slots=True)
class DracoHeader:
    """How much a Draco mesh claims to hold.

    Parameters
    ----------
    faces : int
    points : int
        The vertices. Edgebreaker's streams tell those of the connectivity; where attributes
        have seams, the decoded mesh has more.
    """

    faces: int
    points: int


class _Reader:
    """Bytes and varints of a stream, as far as it goes."""

    def __init__(self, data: Bytes, at: int) -> None:
        self.data, self.at = data, at

    def skip(self, count: int) -> None:
        if count > len(self.data) - self.at:
            raise CorruptDataError(f"Draco stream of {len(self.data)} bytes, which ends too early")
        self.at += count

    def byte(self) -> int:
        self.skip(1)
        return self.data[self.at - 1]

    def varint(self) -> int:
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


def read_header(data: Bytes) -> DracoHeader:
    """The counts of a mesh, which its length has been checked against.

    Raises
    ------
    CorruptDataError
        Not a Draco mesh of a known form, or one of counts that so many bytes cannot hold.

    Examples
    --------
    >>> read_header(bytes.fromhex("445241434f 0202 01 00 0000 01 03 01") + bytes(39))
    DracoHeader(faces=1, points=3)
    """
    if bytes(data[:5]) != MAGIC or len(data) < HEADER_BYTES:
        raise CorruptDataError(
            f"not a Draco stream: {len(data)} bytes that begin {bytes(data[:5]).hex(' ')}"
        )
    version = data[5], data[6]
    if version != VERSION:
        raise CorruptDataError(f"Draco stream of version {version}, known is {VERSION}")
    kind, method = data[7], data[8]
    if kind != MESH or method not in (SEQUENTIAL, EDGEBREAKER):
        raise CorruptDataError(
            f"Draco stream of geometry {kind} and method {method}, expected a mesh ({MESH}) in "
            f"method {SEQUENTIAL} or {EDGEBREAKER}"
        )
    reader = _Reader(data, HEADER_BYTES)
    if int.from_bytes(data[9:11], "little") & HAS_METADATA:
        _skip_metadata(reader)
    header, factor = _sequential(reader) if method == SEQUENTIAL else _edgebreaker(reader)
    most = factor * len(data)
    # a sequential stream may have vertices without a face
    points = most if method == SEQUENTIAL else 3 * header.faces
    if header.faces > most or header.points > points:
        raise CorruptDataError(
            f"Draco stream of {len(data)} bytes that claims {header.faces} faces and "
            f"{header.points} vertices; at most {most} faces and {points} vertices can be valid"
        )
    return header


def _sequential(reader: _Reader) -> tuple[DracoHeader, int]:
    faces, points = reader.varint(), reader.varint()
    is_plain = reader.byte() == 1
    if is_plain:  # of bytes, shorts, varints of 21 bits, or words
        width = 1 if points < 1 << 8 else 2 if points < 1 << 16 else 3 if points < 1 << 21 else 4
        least = 3 * faces * (1 if width == 3 else width)
        if least > len(reader.data) - reader.at:
            raise CorruptDataError(
                f"Draco stream of {len(reader.data)} bytes, too short for its {faces} faces"
            )
    return DracoHeader(faces, points), CODED_FACES_PER_BYTE


def _edgebreaker(reader: _Reader) -> tuple[DracoHeader, int]:
    traversal = reader.byte()
    if traversal not in (STANDARD, PREDICTIVE, VALENCE):
        raise CorruptDataError(f"Draco stream of edgebreaker form {traversal}, known are 0 to 2")
    points, faces = reader.varint(), reader.varint()
    reader.skip(1)  # number of attribute data
    symbols, splits = reader.varint(), reader.varint()
    if symbols > faces or splits > symbols or faces > symbols + symbols // 3:
        raise CorruptDataError(
            f"Draco stream of {faces} faces in {symbols} symbols, {splits} of them splits"
        )
    return DracoHeader(faces, points), (
        FACES_PER_BYTE if traversal == STANDARD else CODED_FACES_PER_BYTE
    )


def _skip_metadata(reader: _Reader) -> None:
    """Names and values of attributes, then of the whole; each may have some below it."""
    left = MAX_METADATA
    for _ in range(reader.varint()):
        reader.varint()  # which attribute
        left = _skip_entries(reader, left)
    _skip_entries(reader, left)


def _skip_entries(reader: _Reader, left: int) -> int:
    """One element with all below it, without recursion; how many more are taken."""
    pending = 1
    while pending:
        pending -= 1
        entries = reader.varint()
        for _ in range(min(entries, left + 1)):
            reader.skip(reader.byte())  # name
            reader.skip(reader.varint())  # value
        below = reader.varint()
        left -= entries + below + 1
        if left < 0:
            raise CorruptDataError(
                f"Draco stream with more than {MAX_METADATA} entries of metadata"
            )
        pending += below
    return left
