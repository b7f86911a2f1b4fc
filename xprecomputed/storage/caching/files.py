"""One entry of the disk cache: the name of its file, and the file.

A file begins with a head that says what it holds and sums it up, so that one that is torn,
damaged or of another object is no entry.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any
from urllib.parse import quote, unquote

from isal import isal_zlib

from xprecomputed.codecs import Bytes
from xprecomputed.storage._files import MOST_AT_ONCE
from xprecomputed.storage.base import Blob

__all__ = [
    "CacheEntry",
    "CacheFile",
    "address_of",
    "containers",
    "head_of",
    "paths_of",
    "range_of",
    "read_file",
]

#: What is added to the names of objects, which hold no such sign themselves.
WHOLE, RANGES = "@whole", "@ranges"
#: Ranges lie in a folder for each so many bytes of the object, which keeps folders small.
SPAN = 4 << 20
#: A range is looked for inside of another one, or of a whole object, up to this size.
MOST_CUT = 2 * SPAN
#: Ranges in one folder that are looked at.
MOST_LISTED = 4096
#: Longer names are cut, and told apart by a digest.
LONGEST = 100
DIGEST = 32
#: Names that Windows does not allow, with any suffix.
RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))]
)

MAGIC = b"xpcache1"
#: Magic, crc32 of all that follows, bytes of the text and of the data; then these two.
START = struct.Struct("<8sI")
LENGTHS = struct.Struct("<IQ")
FIXED = START.size + LENGTHS.size


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """Something that the disk cache holds.

    Parameters
    ----------
    address : str
        Of the object.
    start, stop : int or None
        The range of it; None: the whole object.
    nbytes : int
        Of the file in the cache.
    used : float
        When it was stored or last used, in seconds since 1970, as a minute or so tells.
    """

    address: str
    start: int | None
    stop: int | None
    nbytes: int
    used: float


@dataclass(frozen=True, slots=True)
class CacheFile:
    """The contents of a file of the cache."""

    address: str
    start: int | None
    stop: int | None
    blob: Blob


def paths_of(address: str) -> tuple[str, str, str]:
    """Where an object and what lies below it are kept, relative to the root of the cache.

    Returns
    -------
    str, str, str
        The folder of what lies below the address, the file of the whole object, and the folder
        of its ranges.

    Examples
    --------
    >>> paths_of("gs://bucket/8_8_40/0-64_0-64_0-64")[1].replace(os.sep, "/")
    'gs/bucket/8_8_40/0-64_0-64_0-64@whole'
    """
    scheme, mark, rest = address.partition("://")
    names = [scheme, *rest.split("/")] if mark else ["", *address.split("/")]
    below = os.path.join(*(_safe(name) for name in names))
    return below, below + WHOLE, below + RANGES


def range_of(ranges: str, start: int, stop: int) -> str:
    """The path of a range; see `paths_of`."""
    return os.path.join(ranges, str(start // SPAN * SPAN), f"{start}-{stop}")


def _safe(name: str) -> str:
    """A file name for any text: plain on every disk, and undone by `unquote`."""
    safe = quote(name, safe="=+,", errors="surrogatepass").replace("~", "%7E") or "%"
    if safe[0] == "." or safe.partition(".")[0].lower() in RESERVED:
        safe = f"%{ord(safe[0]):02X}{safe[1:]}"
    if safe[-1] == ".":
        safe = f"{safe[:-1]}%2E"
    if len(safe) > LONGEST:
        digest = sha256(name.encode(errors="surrogatepass")).hexdigest()[:DIGEST]
        safe = f"{safe[: LONGEST - DIGEST]}~{digest}"
    return safe


def address_of(path: str) -> tuple[str, int | None, int | None] | None:
    """The entry that a relative path names; None if the path is too short to tell, or none.

    Examples
    --------
    >>> address_of(range_of(paths_of("s3://a/0.shard")[2], 5_000_000, 5_000_100))
    ('s3://a/0.shard', 5000000, 5000100)
    """
    start: int | None = None
    stop: int | None = None
    if path.endswith(WHOLE):
        path = path.removesuffix(WHOLE)
    else:
        folder, name = os.path.split(path)
        limits = _limits(name)
        path = os.path.dirname(folder)
        if limits is None or not path.endswith(RANGES):
            return None
        start, stop = limits
        path = path.removesuffix(RANGES)
    if "~" in path:
        return None
    names = [unquote("" if each == "%" else each, errors="surrogatepass") for each in _cut(path)]
    scheme, rest = names[0], "/".join(names[1:])
    return f"{scheme}://{rest}" if scheme else rest, start, stop


def _cut(path: str) -> list[str]:
    return path.replace(os.sep, "/").split("/")


def _limits(name: str) -> tuple[int, int] | None:
    start, _, stop = name.partition("-")
    return (int(start), int(stop)) if start.isdecimal() and stop.isdecimal() else None


def containers(ranges: str, start: int, stop: int) -> Iterator[str]:
    """Paths of the kept ranges that hold this one, the smallest first; `ranges` is a folder.

    Only those that begin less than `SPAN` before, or a little more: no large folder is listed.

    Raises
    ------
    OSError
    """
    found: list[tuple[int, str]] = []
    for first in {start // SPAN * SPAN, max(0, start // SPAN - 1) * SPAN}:
        folder = os.path.join(ranges, str(first))
        try:
            names = os.scandir(folder)
        except FileNotFoundError:
            continue
        with names:
            for each in islice(names, MOST_LISTED):
                limits = _limits(each.name)
                if limits is not None and limits[0] <= start and stop <= limits[1]:
                    found.append((limits[1] - limits[0], os.path.join(folder, each.name)))
    return (path for _, path in sorted(found))


def head_of(address: str, start: int | None, stop: int | None, blob: Blob) -> bytes | None:
    """What stands before the data in the file; None if the version cannot be written down."""
    try:
        version = json.dumps(blob.version)
    except (TypeError, ValueError):
        return None
    if _frozen(json.loads(version)) != blob.version:
        return None
    document = [address, start, stop, blob.encoding, blob.version]
    text = json.dumps(document).encode()
    lengths = LENGTHS.pack(len(text), len(blob.data))
    return START.pack(MAGIC, _sum(lengths, text, blob.data)) + lengths + text


def _sum(*parts: Bytes) -> int:
    total = 0
    for part in parts:
        total = isal_zlib.crc32(part, total)
    return total


def _frozen(value: Any) -> Hashable:
    """A value out of JSON with its lists as tuples."""
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


def read_file(handle: int, max_bytes: int | None = None, *, data: bool = True) -> CacheFile | None:
    """The contents of an open file; None if it is not as it was written, or has more bytes.

    Parameters
    ----------
    handle : int
        Open at its beginning.
    max_bytes : int, optional
        More data are not read.
    data : bool
        False: the data are neither read nor checked.

    Raises
    ------
    OSError
    """
    fixed = os.read(handle, FIXED)
    if len(fixed) != FIXED:
        return None
    magic, expected = START.unpack_from(fixed)
    lengths = fixed[START.size :]
    nbytes_text, nbytes = LENGTHS.unpack(lengths)
    if magic != MAGIC or FIXED + nbytes_text + nbytes != os.fstat(handle).st_size:
        return None
    if max_bytes is not None and nbytes > max_bytes:
        return None
    text = _read(handle, nbytes_text)
    contents = _read(handle, nbytes) if data else b""
    if data and _sum(lengths, text, contents) != expected:
        return None
    try:
        address, start, stop, encoding, version = json.loads(text)
    except (ValueError, TypeError):  # of a head that was not checked
        return None
    return CacheFile(address, start, stop, Blob(contents, encoding, _frozen(version)))


def _read(handle: int, nbytes: int) -> bytes:
    parts = []
    while nbytes:
        part = os.read(handle, min(nbytes, MOST_AT_ONCE))
        if not part:
            break
        parts.append(part)
        nbytes -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
