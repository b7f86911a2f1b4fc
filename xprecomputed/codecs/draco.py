"""Draco meshes: triangles with positions that are integers, or dequantised floats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xprecomputed.codecs._draco_header import MAGIC, read_header
from xprecomputed.codecs._optional import optional
from xprecomputed.codecs.base import Bytes
from xprecomputed.errors import CorruptDataError

__all__ = ["MAGIC", "decode", "encode", "vertex_count"]

PURPOSE = "meshes in Draco"
#: Of numbers to encode: DracoPy fails on 2**29 and does not return on 2**30.
LIMIT = 1 << 24


def decode(data: Bytes) -> tuple[NDArray[Any], NDArray[np.uint32]]:
    """Decode one stream.

    Parameters
    ----------
    data : bytes
        Of edgebreaker or sequential connectivity; other attributes than positions are ignored.

    Returns
    -------
    positions : ndarray of an unsigned integer type or float32, shape (N, 3)
        As stored; quantised floats are dequantised, signed integers are in float32.
    faces : ndarray of uint32, shape (M, 3)
        Positions in `positions`.

    Raises
    ------
    CorruptDataError
        Not a mesh in Draco, or a damaged one.
    MissingDependencyError
        DracoPy is absent.

    Examples
    --------
    >>> stream = encode([[0, 0, 7], [9, 0, 7], [0, 9, 7]], [[0, 1, 2]])
    >>> positions, faces = decode(stream)
    >>> positions[faces].tolist()
    [[[0, 0, 7], [9, 0, 7], [0, 9, 7]]]
    """
    header = read_header(data)
    package = optional("DracoPy", PURPOSE)
    try:
        mesh = package.decode(bytes(data))
        positions, faces = np.asarray(mesh.points), np.asarray(mesh.faces)
    except Exception as error:  # the package throws of several kinds
        raise CorruptDataError(f"Draco stream of {len(data)} bytes: {error}") from None
    return _checked(positions, faces, header.faces)


def _checked(
    positions: NDArray[Any], faces: NDArray[Any], count: int
) -> tuple[NDArray[Any], NDArray[np.uint32]]:
    if positions.ndim != 2 or positions.shape[1] != 3 or positions.dtype.kind not in "uif":
        raise CorruptDataError(
            f"Draco stream with positions of shape {positions.shape} and type {positions.dtype}, "
            "expected (N, 3) of numbers"
        )
    if faces.shape != (count, 3):
        raise CorruptDataError(f"Draco stream of {len(faces)} faces, its header told {count}")
    if faces.size and faces.max() >= len(positions):
        raise CorruptDataError(
            f"Draco stream with a face of vertex {faces.max()}, there are {len(positions)}"
        )
    return positions, faces.astype(np.uint32, copy=False)


def vertex_count(data: Bytes) -> int:
    """How many vertices a stream has, without decoding it.

    Raises
    ------
    CorruptDataError
        Not a mesh in Draco.
    """
    return read_header(data).points


def encode(positions: ArrayLike, faces: ArrayLike, *, compression_level: int = 7) -> bytes:
    """Encode a mesh, losslessly; the order of vertices and faces may change.

    Parameters
    ----------
    positions : array_like of integers, shape (N, 3)
        0 to 2**24 - 1.
    faces : array_like of integers, shape (M, 3)
        At least one that has three different corners; vertices without a face may be left out.
    compression_level : int
        0 (fast) to 10 (small).

    Raises
    ------
    ValueError
        No triangle, or numbers that do not fit.
    MissingDependencyError
        DracoPy is absent.
    """
    points, corners = _integers(positions, "positions"), _integers(faces, "faces")
    if not len(corners):
        raise ValueError("a mesh without faces has no form in Draco; store an empty fragment")
    if corners.max() >= len(points):
        raise ValueError(f"a face names vertex {corners.max()} of {len(points)}")
    package = optional("DracoPy", PURPOSE)
    try:
        encoded = package.encode(points, corners, compression_level=compression_level)
    except Exception as error:
        raise ValueError(
            f"DracoPy cannot encode {len(points)} vertices and {len(corners)} faces: {error}; "
            "all of them may be degenerate"
        ) from error
    return bytes(encoded)


def _integers(values: ArrayLike, what: str) -> NDArray[np.uint32]:
    array = np.asarray(values)
    if array.ndim != 2 or array.shape[1] != 3 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(
            f"{what} of shape {array.shape} and type {array.dtype}, expected (N, 3) of integers"
        )
    if array.size and (array.min() < 0 or array.max() >= LIMIT):
        raise ValueError(f"{what} from {array.min()} to {array.max()}, expected 0 to 2**24 - 1")
    return np.ascontiguousarray(array, np.uint32)
