"""Draco meshes: triangles with positions that are integers, or dequantised floats."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xprecomputed.codecs import _isolated
from xprecomputed.codecs._draco_header import MAGIC, read_header, working_bytes
from xprecomputed.codecs._optional import INSTALL, optional
from xprecomputed.codecs._worker import TOLD
from xprecomputed.codecs.base import Bytes
from xprecomputed.errors import CorruptDataError

__all__ = ["MAGIC", "decode", "encode", "vertex_count"]

PURPOSE = "meshes in Draco"
#: Of numbers to encode: DracoPy fails on 2**29 and does not return on 2**30.
LIMIT = 1 << 24
#: What a stream may claim while it is decoded here, which a mesh of a million faces does not
#: reach. One that claims more is decoded by a helper process, whose memory is limited.
HERE_BYTES = 1 << 28
#: What a helper is granted for a mesh, and in addition for each byte of the stream: of real
#: meshes a face takes a byte or two. It may use many times as much.
GRANTED_BYTES = 1 << 26
GRANTED_PER_BYTE = 64


def decode(data: Bytes) -> tuple[NDArray[Any], NDArray[np.uint32]]:
    """Decode one stream.

    Parameters
    ----------
    data : bytes
        Of edgebreaker or sequential connectivity; other attributes than positions are ignored.
        One that claims more than `HERE_BYTES` is decoded in a helper process.

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
    StorageError
        A helper process is needed, and cannot run here.

    Examples
    --------
    >>> stream = encode([[0, 0, 7], [9, 0, 7], [0, 9, 7]], [[0, 1, 2]])
    >>> positions, faces = decode(stream)
    >>> positions[faces].tolist()
    [[[0, 0, 7], [9, 0, 7], [0, 9, 7]]]
    """
    header = read_header(data)
    claimed = working_bytes(data)
    if claimed is None or claimed > HERE_BYTES:
        return _checked(*_decoded_elsewhere(data), header.faces)
    package = optional("DracoPy", PURPOSE)
    try:
        mesh = package.decode(bytes(data))
        positions, faces = np.asarray(mesh.points), np.asarray(mesh.faces)
    except Exception as error:  # the package throws of several kinds
        raise CorruptDataError(f"Draco stream of {len(data)} bytes: {error}") from None
    return _checked(positions, faces, header.faces)


def _decoded_elsewhere(data: Bytes) -> tuple[NDArray[Any], NDArray[Any]]:
    most = GRANTED_BYTES + GRANTED_PER_BYTE * len(data)
    install = f"    pip install {INSTALL['DracoPy']}"
    answer = _isolated.run("decode draco", data, {}, most, most, install)
    (dtype, shape), (face_dtype, face_shape) = json.loads(answer[:TOLD].tobytes())
    positions: NDArray[Any] = np.ndarray(shape, dtype, answer.data, TOLD)
    faces: NDArray[Any] = np.ndarray(face_shape, face_dtype, answer.data, TOLD + positions.nbytes)
    return positions, faces


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
