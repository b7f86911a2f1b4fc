"""What a Draco stream says about itself, read before the library sees it (pure).

Facts: Draco's bitstream specification 2.2, sections on the header, metadata and the two forms
of connectivity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from xprecomputed.codecs._draco_layout import (
    PREDICTIVE,
    STANDARD,
    VALENCE,
    index_bytes,
    point_bytes,
    skip_indices,
    skip_topology,
)
from xprecomputed.codecs._draco_reader import Reader
from xprecomputed.codecs.base import Bytes
from xprecomputed.errors import CorruptDataError

__all__ = ["MAGIC", "DracoHeader", "read_header", "working_bytes"]

MAGIC = b"DRACO"
HEADER_BYTES = 11
VERSION = (2, 2)
MESH = 1
SEQUENTIAL, EDGEBREAKER = 0, 1
HAS_METADATA = 0x8000
#: Entries of metadata and their nesting; writers make a handful.
MAX_METADATA = 1000

#: Faces that a byte can hold at most. Edgebreaker's standard symbols take a bit each at least,
#: and up to four faces share three of them.
FACES_PER_BYTE = 11
#: Of entropy coded ones: a flat, regular grid, the best case, was seen to reach 630.
CODED_FACES_PER_BYTE = 1024
#: What the connectivity of a face takes while it is decoded, and the faces that are handed out.
FACE_BYTES = 128


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
    return _open(data).header


def working_bytes(data: Bytes) -> int | None:
    """How much memory a stream claims while it is decoded; None: only decoding it would tell.

    Raises
    ------
    CorruptDataError
        As `read_header` does, or attributes that end too early.

    Examples
    --------
    >>> one = "445241434f 0202 01 00 0000 01 03 01 000102"  # a face of three points
    >>> working_bytes(bytes.fromhex(one + "01 01 00 09 03 00 00 00") + bytes(36))  # of 3 floats
    248
    """
    opened = _open(data)
    header, reader = opened.header, opened.reader
    if opened.traversal is None:
        is_known = skip_indices(reader, header.faces, header.points, is_plain=opened.is_plain)
    else:
        is_known = skip_topology(reader, opened.traversal, opened.seams)
    if not is_known:
        return None
    each = point_bytes(reader, is_edgebreaker=opened.traversal is not None)
    return FACE_BYTES * header.faces + opened.most_points * each


class _Opened(NamedTuple):
    """A stream whose reader is where the connectivity begins."""

    header: DracoHeader
    reader: Reader
    #: faces that a byte holds at most
    factor: int
    #: with those that seams make
    most_points: int
    #: of edgebreaker; None: sequential
    traversal: int | None = None
    #: attributes that have seams
    seams: int = 0
    #: of sequential indices: not entropy coded
    is_plain: bool = False


def _open(data: Bytes) -> _Opened:
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
    reader = Reader(data, HEADER_BYTES)
    if int.from_bytes(data[9:11], "little") & HAS_METADATA:
        _skip_metadata(reader)
    opened = _sequential(reader) if method == SEQUENTIAL else _edgebreaker(reader)
    header, most = opened.header, opened.factor * len(data)
    # a sequential stream may have vertices without a face
    points = most if method == SEQUENTIAL else 3 * header.faces
    if header.faces > most or header.points > points:
        raise CorruptDataError(
            f"Draco stream of {len(data)} bytes that claims {header.faces} faces and "
            f"{header.points} vertices; at most {most} faces and {points} vertices can be valid"
        )
    return opened


def _sequential(reader: Reader) -> _Opened:
    faces, points = reader.varint(), reader.varint()
    is_plain = reader.byte() == 1
    if is_plain:
        least = 3 * faces * (index_bytes(points) or 1)
        if least > len(reader.data) - reader.at:
            raise CorruptDataError(
                f"Draco stream of {len(reader.data)} bytes, too short for its {faces} faces"
            )
    header = DracoHeader(faces, points)
    return _Opened(header, reader, CODED_FACES_PER_BYTE, points, is_plain=is_plain)


def _edgebreaker(reader: Reader) -> _Opened:
    traversal = reader.byte()
    if traversal not in (STANDARD, PREDICTIVE, VALENCE):
        raise CorruptDataError(f"Draco stream of edgebreaker form {traversal}, known are 0 to 2")
    points, faces = reader.varint(), reader.varint()
    seams = reader.byte()
    symbols, splits = reader.varint(), reader.varint()
    if symbols > faces or splits > symbols or faces > symbols + symbols // 3:
        raise CorruptDataError(
            f"Draco stream of {faces} faces in {symbols} symbols, {splits} of them splits"
        )
    factor = FACES_PER_BYTE if traversal == STANDARD else CODED_FACES_PER_BYTE
    most_points = 3 * faces if seams else points + splits
    return _Opened(DracoHeader(faces, points), reader, factor, most_points, traversal, seams)


def _skip_metadata(reader: Reader) -> None:
    """Names and values of attributes, then of the whole; each may have some below it."""
    left = MAX_METADATA
    for _ in range(reader.varint()):
        reader.varint()  # which attribute
        left = _skip_entries(reader, left)
    _skip_entries(reader, left)


def _skip_entries(reader: Reader, left: int) -> int:
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
