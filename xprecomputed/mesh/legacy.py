"""Single-resolution meshes: the bytes of manifests and fragments (format reference 5.1, pure)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Bytes, draco
from xprecomputed.errors import CorruptDataError, InvalidInfoError
from xprecomputed.metadata import parse_json
from xprecomputed.storage.base import without_suffix

__all__ = [
    "MAX_MANIFEST_BYTES",
    "decode_fragment",
    "encode_fragment",
    "encode_manifest",
    "fragment_box",
    "parse_manifest",
]

MAX_MANIFEST_BYTES = 1 << 25
#: A cubic metre of tissue at usual chunk sizes has no segment with so many.
MAX_FRAGMENTS = 1 << 19

_BOX = re.compile(r"\d+:\d+:(-?\d{1,18})-(-?\d{1,18})_(-?\d{1,18})-(-?\d{1,18})_"
                  r"(-?\d{1,18})-(-?\d{1,18})")  # fmt: skip
#: Other objects of a mesh directory, which no manifest may name as its own.
_TAKEN = re.compile(r"info|\d+:0|.*\.spatial")

Fragment = tuple[NDArray[np.float32], NDArray[np.uint32]]


def parse_manifest(data: Bytes, where: str) -> tuple[str, ...]:
    """The names of the fragments of one segment.

    Parameters
    ----------
    data : bytes
        JSON, ``{"fragments": ["name", ...]}``.
    where : str
        The manifest, for messages.

    Raises
    ------
    CorruptDataError
        Not such a document, too many names, two of one name, or one that leads elsewhere.

    Examples
    --------
    >>> parse_manifest(b'{"fragments": ["7:0:1"]}', "7:0")
    ('7:0:1',)
    """
    try:
        document = parse_json(bytes(data), where)
    except InvalidInfoError as error:
        raise CorruptDataError(f"mesh manifest {error}") from None
    names = document.get("fragments") if isinstance(document, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CorruptDataError(
            f'{where}: a mesh manifest is {{"fragments": ["name", ...]}}, found '
            f"{bytes(data[:60])!r}"
        )
    if len(names) > MAX_FRAGMENTS:
        raise CorruptDataError(f"{where}: {len(names)} fragments, at most {MAX_FRAGMENTS} are read")
    _check_names(names, where)
    return tuple(names)


def _check_names(names: Sequence[str], where: str) -> None:
    """Names come from whoever wrote the manifest: they may name a neighbour and nothing else."""
    known: set[str] = set()
    for name in names:
        if name in known:  # a short manifest of one large fragment would be a huge mesh
            raise CorruptDataError(f"{where}: fragment {name[:100]!r} is listed twice")
        known.add(name)
        # web servers take %2F for a slash
        if not (_is_plain(name) and _is_plain(unquote(name))):
            raise CorruptDataError(
                f"{where}: fragment {name[:100]!r}; expected the plain name of an object beside it"
            )
        if _is_taken(name) or _is_taken(unquote(name)):
            raise CorruptDataError(
                f"{where}: fragment {name[:100]!r}, which names another document"
            )


def _is_plain(name: str) -> bool:
    fits = 0 < len(name) <= 1000 and not name.startswith(".") and name.isprintable()
    return fits and not re.search(r"[/\\\x00-\x1f\x7f]", name)


def _is_taken(name: str) -> bool:
    """Whether another document may have that name, or its compressed form."""
    suffix = "."
    while suffix:
        if _TAKEN.fullmatch(name):
            return True
        name, suffix = without_suffix(name)
    return False


def encode_manifest(names: Iterable[str]) -> bytes:
    """The manifest to store.

    Raises
    ------
    ValueError
        A name that cannot be one.

    Examples
    --------
    >>> encode_manifest(["7:0:1"])
    b'{"fragments":["7:0:1"]}'
    """
    listed = list(names)
    _check_names(listed, "a manifest to write")
    return json.dumps({"fragments": listed}, separators=(",", ":")).encode()


def decode_fragment(data: Bytes) -> Fragment:
    """Vertices, float32 (N, 3), in nm unless the directory has a transform, and faces, uint32.

    Draco streams are known by their first bytes.

    Raises
    ------
    CorruptDataError
        A wrong length, a face of a vertex that is not there, or a damaged stream.
    MissingDependencyError
        It is Draco, and DracoPy is absent.

    Examples
    --------
    >>> vertices, faces = decode_fragment(encode_fragment(np.eye(3, dtype=np.float32), [[0, 1, 2]]))
    >>> vertices.shape, faces.tolist()
    ((3, 3), [[0, 1, 2]])
    """
    if bytes(data[: len(draco.MAGIC)]) == draco.MAGIC:
        positions, faces = draco.decode(data)
        return positions.astype(np.float32, copy=False), faces
    if len(data) < 4:
        raise CorruptDataError(f"mesh fragment of {len(data)} bytes, at least 4 expected")
    count = int(np.frombuffer(data, "<u4", 1)[0])
    rest = len(data) - 4 - 12 * count
    if rest < 0 or rest % 12:
        raise CorruptDataError(
            f"mesh fragment of {len(data)} bytes: after {count} vertices {rest} are left, expected "
            "12 for each face"
        )
    vertices = np.frombuffer(data, "<f4", 3 * count, 4).reshape(-1, 3)
    faces = np.frombuffer(data, "<u4", rest // 4, 4 + 12 * count).reshape(-1, 3)
    if faces.size and faces.max() >= count:
        raise CorruptDataError(f"mesh fragment with a face of vertex {faces.max()} of {count}")
    return vertices.astype(np.float32, copy=False), faces.astype(np.uint32, copy=False)


def encode_fragment(vertices: NDArray[np.float32], faces: NDArray[np.uint32]) -> bytes:
    """The fragment to store: vertices, shape (N, 3), in nm, and faces, shape (M, 3)."""
    count = np.array([len(vertices)], "<u4").tobytes()
    return count + np.asarray(vertices, "<f4").tobytes() + np.asarray(faces, "<u4").tobytes()


def fragment_box(name: str) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    """The voxels that a fragment was made of, if its name tells: begin and end, x, y, z.

    Examples
    --------
    >>> fragment_box("7205:0:-64-0_448-896_0-448")
    ((-64, 448, 0), (0, 896, 448))
    """
    found = _BOX.fullmatch(name)
    if found is None:
        return None
    x0, x1, y0, y1, z0, z1 = map(int, found.groups())
    if x1 < x0 or y1 < y0 or z1 < z0:
        return None
    return (x0, y0, z0), (x1, y1, z1)
