"""What the attributes of a Draco stream take when they are decoded (pure).

The connectivity that lies before them is stepped over, without decoding it. Facts: Draco's
bitstream specification 2.2, sections on the connectivity, on symbols and on attributes.
"""

from __future__ import annotations

from xprecomputed.codecs._draco_reader import Reader

__all__ = [
    "PREDICTIVE",
    "STANDARD",
    "VALENCE",
    "index_bytes",
    "point_bytes",
    "skip_indices",
    "skip_topology",
]

STANDARD, PREDICTIVE, VALENCE = 0, 1, 2  # how edgebreaker's symbols are stored
CONTEXTS = 6  # valences of corners, 2 to 7
RAW = 1  # symbols of which each has a frequency, not each length
#: Bytes of the types of data, by number.
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 8, 8: 8, 9: 4, 10: 8, 11: 1}
#: The integers that values are made of, and what predicts them.
WORKING_BYTES = 8
#: Which value a point has.
MAP_BYTES = 4


def skip_topology(reader: Reader, traversal: int, seams: int) -> bool:
    """Step over edgebreaker's connectivity; False: what follows cannot be found.

    Raises
    ------
    CorruptDataError
    """
    splits = reader.varint()
    for _ in range(2 * splits):
        reader.varint()
    reader.skip((splits + 7) // 8)
    if traversal == STANDARD:
        reader.skip(reader.varint())
    elif traversal != VALENCE:
        return False
    for _ in range(1 + seams):  # where components start, then the seams of each attribute
        reader.skip(1)
        reader.skip(reader.varint())
    if traversal == STANDARD:
        return True
    return all(_skip_symbols(reader) for _ in range(CONTEXTS) if reader.varint())


def index_bytes(points: int) -> int | None:
    """Bytes of an index that is not entropy coded; None: a varint."""
    if 1 << 16 <= points < 1 << 21:
        return None
    return 1 if points < 1 << 8 else 2 if points < 1 << 16 else 4


def skip_indices(reader: Reader, faces: int, points: int, *, is_plain: bool) -> bool:
    """Step over the indices of a sequential stream; False: what follows cannot be found.

    Raises
    ------
    CorruptDataError
    """
    if not is_plain:
        return _skip_symbols(reader)
    width = index_bytes(points)
    if width is None:
        reader.skip_varints(3 * faces)
    else:
        reader.skip(3 * faces * width)
    return True


def _skip_symbols(reader: Reader) -> bool:
    if reader.byte() != RAW:
        return False  # the length of the others is known when they are decoded
    reader.skip(1)
    left = reader.varint()
    while left > 0:  # how often each symbol is
        entry = reader.byte()
        if entry & 3 == 3:
            left -= 1 + (entry >> 2)
        else:
            reader.skip(entry & 3)
            left -= 1
    reader.skip(reader.varint())
    return True


def point_bytes(reader: Reader, *, is_edgebreaker: bool) -> int:
    """The bytes that all attributes of a point take at most while they are decoded.

    Raises
    ------
    CorruptDataError
    """
    decoders = reader.byte()
    reader.skip(3 * decoders if is_edgebreaker else 0)  # of what it is, and in what order
    total = 0
    for _ in range(decoders):
        count = reader.varint()
        reader.ensure(6 * count)
        for _ in range(count):
            reader.skip(1)
            width = WIDTHS.get(reader.byte(), max(WIDTHS.values()))
            total += reader.byte() * (width + WORKING_BYTES) + MAP_BYTES
            reader.skip(1)
            reader.varint()
        reader.skip(count)
    return total
