"""Bytes of one skeleton <-> osteoid's `Skeleton` (format reference 6; pure)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from xprecomputed.codecs import Bytes
from xprecomputed.codecs._optional import optional
from xprecomputed.errors import CorruptDataError, DataTypeError, LayoutError
from xprecomputed.metadata import SkeletonInfo, Transform, VertexAttribute
from xprecomputed.skeleton.attributes import column, factor, member_names, rescaled

__all__ = ["ASSUMED", "MAX_BYTES", "ExtraAttributes", "Skeleton", "decode", "encode", "shape_nm"]

#: `osteoid.Skeleton`, a package that is imported at first use.
Skeleton: TypeAlias = Any
#: What becomes of attributes that info does not name.
ExtraAttributes = Literal["raise", "drop"]

#: What CloudVolume takes for granted where there is no ``info``.
ASSUMED = SkeletonInfo(
    vertex_attributes=(
        VertexAttribute(id="radius"),
        VertexAttribute(id="vertex_types", data_type="uint8"),
    )
)
#: A longer skeleton is neither read nor written: fifty million vertices.
MAX_BYTES = 1 << 30

HEADER_BYTES = 8
#: What osteoid gives to skeletons for which nobody said anything.
NOTHING_SAID = {"radius": -1, "vertex_types": 0}
IDENTITY = np.eye(3, 4, dtype=np.float32)


def osteoid_skeleton() -> Any:
    """The class `osteoid.Skeleton`.

    Raises
    ------
    MissingDependencyError
    """
    return optional("osteoid", "skeletons").Skeleton


@lru_cache(maxsize=64)  # of thousands of small skeletons this would be most of the time
def _names(attributes: tuple[VertexAttribute, ...]) -> dict[str, str]:
    return member_names(attributes, dir(osteoid_skeleton()()))


def decode(
    data: Bytes, info: SkeletonInfo, segment_id: int | None = None, *, is_assumed: bool = False
) -> Skeleton:
    """Parse one skeleton.

    Parameters
    ----------
    data : bytes
        Of the whole skeleton, not compressed.
    info : SkeletonInfo
        Says which attributes follow the edges, and where the stored model lies in nm.
    segment_id : int, optional
    is_assumed : bool
        Whether `info` is a guess (`ASSUMED`): then a skeleton may lack all attributes.

    Returns
    -------
    osteoid.Skeleton
        ``vertices`` (N, 3) float32 nm, x, y, z; ``edges`` (M, 2) uint32; every attribute of
        `info` as a member of shape (N,), or (N, components); ``space`` "physical" and the
        ``transform`` of `info`. ``radius`` is in nm and ``cross_sectional_area`` in nm² (other
        readers leave them in units of the stored model), where the transform scales all
        lengths alike. All arrays are writable and belong to the skeleton alone.

    Raises
    ------
    CorruptDataError
        Another length than `info` and the counts imply, or an edge to a vertex beyond the last.
    MissingDependencyError

    Examples
    --------
    >>> skeleton = decode(
    ...     np.array([2, 1], "<u4").tobytes() + np.array([0, 0, 0, 1, 2, 3], "<f4").tobytes()
    ...     + np.array([0, 1], "<u4").tobytes(), SkeletonInfo(), 7)
    >>> skeleton.id, skeleton.vertices.tolist(), skeleton.edges.tolist()
    (7, [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]], [[0, 1]])
    """
    vertices, edges = _counts(data)
    attributes = info.vertex_attributes
    if is_assumed and len(data) == _size(vertices, edges, ()):
        attributes = ()
    _check_size(data, vertices, edges, attributes)
    kind = osteoid_skeleton()
    # taken out of the bytes of perhaps a thousand neighbours, which must not stay in memory
    points = np.require(
        _to_nm(_points(data, vertices), info.transform), np.float32, ["C", "W", "O"]
    )
    at = HEADER_BYTES + 12 * vertices
    ends = np.frombuffer(data, "<u4", 2 * edges, at).reshape(edges, 2).astype(np.uint32)
    if edges and int(ends.max()) >= vertices:
        raise CorruptDataError(f"an edge to vertex {ends.max()}, though there are {vertices}")
    skeleton = kind(points, ends, segid=segment_id, space="physical")
    with np.errstate(over="ignore"):
        skeleton.transform = info.transform.matrix
    names = _names(info.vertex_attributes)
    skeleton.extra_attributes = [each.to_json() | {"id": names[each.id]} for each in attributes]
    at += 8 * edges
    for each in attributes:
        count = vertices * each.num_components
        stored = np.frombuffer(data, each.dtype, count, at).astype(each.data_type)
        values = rescaled(stored, factor(each, info.transform))
        shape = (vertices,) if each.num_components == 1 else (vertices, each.num_components)
        setattr(skeleton, names[each.id], values.reshape(shape))
        at += stored.nbytes
    return skeleton


def _counts(data: Bytes) -> tuple[int, int]:
    if len(data) < HEADER_BYTES:
        raise CorruptDataError(
            f"a skeleton of {len(data)} bytes, expected {HEADER_BYTES} at least for its counts"
        )
    vertices, edges = np.frombuffer(data, "<u4", 2).tolist()
    return vertices, edges


def _size(vertices: int, edges: int, attributes: tuple[VertexAttribute, ...]) -> int:
    a_vertex = sum(each.num_components * each.dtype.itemsize for each in attributes)
    return HEADER_BYTES + 12 * vertices + 8 * edges + vertices * a_vertex


def _check_size(
    data: Bytes, vertices: int, edges: int, attributes: tuple[VertexAttribute, ...]
) -> None:
    expected = _size(vertices, edges, attributes)
    if len(data) == expected:
        return
    following = ", ".join(f"{e.id} ({e.num_components} x {e.data_type})" for e in attributes)
    raise CorruptDataError(
        f"a skeleton of {len(data)} bytes, expected {expected} for {vertices} vertices, {edges} "
        f"edges and the attributes that info names: {following or 'none'}"
    )


def _points(data: Bytes, vertices: int) -> NDArray[np.float32]:
    return np.frombuffer(data, "<f4", 3 * vertices, HEADER_BYTES).reshape(vertices, 3)


def _to_nm(points: NDArray[Any], transform: Transform) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):  # what is infinite stays so
        return transform.apply(points)


def shape_nm(data: Bytes, info: SkeletonInfo) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Where an encoded skeleton lies: vertices in nm, shape (N, 3), and edges, shape (M, 2)."""
    vertices, edges = _counts(data)
    ends = np.frombuffer(data, "<u4", 2 * edges, HEADER_BYTES + 12 * vertices)
    return _to_nm(_points(data, vertices), info.transform), ends.reshape(edges, 2)


def encode(
    skeleton: Skeleton,
    info: SkeletonInfo,
    where: str = "skeleton",
    *,
    extra_attributes: ExtraAttributes = "raise",
) -> bytes:
    """The bytes of one skeleton.

    Radii are in nm, in every space, as osteoid leaves them. Vertices in space "physical" are in
    nm too, and go through the inverse of the transform of `info`. Those in space "voxel" go
    through the skeleton's own transform before; where that is the one of `info`, they are
    stored as they are.

    Parameters
    ----------
    skeleton : osteoid.Skeleton
    info : SkeletonInfo
    where : str
        For messages.
    extra_attributes : {"raise", "drop"}
        What to do about attributes that `info` does not name and that say something.

    Returns
    -------
    bytes
        A skeleton without vertices is eight zeros: there, and empty.

    Raises
    ------
    TypeError
        No skeleton.
    LayoutError
        A wrong shape, an attribute too few or too many, an edge to no vertex, a space that does
        not say where the vertices are (many methods of osteoid forget the space).
    DataTypeError
        Values that are not finite or have no place in the data type that `info` names.

    Examples
    --------
    >>> import osteoid
    >>> path = osteoid.Skeleton([(0, 0, 0), (1, 2, 3)], [(0, 1)], radii=[1, 2])
    >>> len(encode(path, SkeletonInfo(vertex_attributes=(VertexAttribute(id="radius"),))))
    48
    """
    if extra_attributes not in get_args(ExtraAttributes):
        raise ValueError(
            f"extra_attributes={extra_attributes!r}: expected one of {get_args(ExtraAttributes)}"
        )
    if not (hasattr(skeleton, "vertices") and hasattr(skeleton, "edges")):
        raise TypeError(f"{where}: {type(skeleton).__name__}, expected an osteoid.Skeleton")
    points = _rows(skeleton.vertices, 3, "vertices", "fiu", where)
    ends = _rows(skeleton.edges, 2, "edges", "iu", where)
    count = len(points)
    if len(ends) and not 0 <= int(ends.min()) <= int(ends.max()) < count:
        raise LayoutError(
            f"{where}: edges name vertices {ends.min()} to {ends.max()}, though there are {count}"
        )
    names = _names(info.vertex_attributes)
    if extra_attributes == "raise":
        _refuse_others(skeleton, set(names.values()), where)
    stored = _to_stored(skeleton, points, info.transform, where)
    parts = [np.array([count, len(ends)], "<u4"), stored, ends.astype("<u4")]
    for each in info.vertex_attributes:
        values = getattr(skeleton, names[each.id], None if count else [])
        if values is None:
            raise LayoutError(
                f"{where}: no vertex attribute {each.id!r}, which info names; give it:\n"
                f"    skeleton.{names[each.id]} = values  # {count} rows"
            )
        values = column(values, each, count, where) if count else np.zeros(0, each.dtype)
        by = factor(each, info.transform)
        parts.append(rescaled(values, 1 / by if by else None))
    data = b"".join(part.tobytes() for part in parts)
    if len(data) > MAX_BYTES:
        raise LayoutError(f"{where}: {len(data)} bytes, at most {MAX_BYTES} are read; cut it")
    return data


def _rows(values: Any, width: int, what: str, kinds: str, where: str) -> NDArray[Any]:
    array = np.asarray(values)
    if not array.size:  # of any shape and type: so is what osteoid makes of empty lists
        return np.zeros((0, width), np.uint32 if what == "edges" else np.float32)
    if array.ndim != 2 or array.shape[1] != width or array.dtype.kind not in kinds:
        expected = "numbers" if "f" in kinds else "whole numbers"
        raise LayoutError(
            f"{where}: {what} of shape {array.shape} and type {array.dtype}, expected {expected} "
            f"of shape (N, {width})"
        )
    return array


def _refuse_others(skeleton: Skeleton, names: set[str], where: str) -> None:
    declared = [each["id"] for each in getattr(skeleton, "extra_attributes", None) or []]
    others = [name for name in declared if name not in names and _says_something(skeleton, name)]
    if others:
        raise LayoutError(
            f"{where}: vertex attributes {others} are not among those that info names, "
            f"{sorted(names)}. Leave them out with extra_attributes='drop', or name them when the "
            "folder is created (vertex_attributes=...)"
        )


def _says_something(skeleton: Skeleton, name: str) -> bool:
    values = getattr(skeleton, name, None)
    if values is None:
        return False
    return name not in NOTHING_SAID or bool((np.asarray(values) != NOTHING_SAID[name]).any())


def _to_stored(
    skeleton: Skeleton, points: NDArray[Any], transform: Transform, where: str
) -> NDArray[np.float32]:
    """Vertices of the stored model."""
    space = getattr(skeleton, "space", "physical")
    if space not in ("physical", "voxel"):
        raise LayoutError(f"{where}: space {space!r}, expected 'physical' (nm) or 'voxel'")
    own = np.asarray(getattr(skeleton, "transform", IDENTITY), np.float32).reshape(3, 4)
    with np.errstate(over="ignore", invalid="ignore"):
        if space == "voxel" and (own == transform.matrix.astype(np.float32)).all():
            stored = points.astype(np.float32)
        elif space == "voxel" and (own == IDENTITY).all():
            raise LayoutError(
                f"{where}: in space 'voxel' and without a transform, so it is unknown whether the "
                f"vertices are nm, and info has the transform {transform.to_json()}. Say which:\n"
                "    skeleton.space = 'physical'  # in nm\n"
                "    skeleton.transform = skeletons.info.transform.matrix  # of the stored model"
            )
        else:
            if space == "voxel":
                points = Transform(tuple(own.ravel().tolist())).apply(points)
            stored = transform.inverse().apply(points)
    if not np.isfinite(stored).all():
        at = int(np.flatnonzero(~np.isfinite(stored).all(axis=1))[0])
        raise DataTypeError(
            f"{where}: vertex {at} at {points[at].tolist()}: expected finite numbers of float32"
        )
    return stored.astype("<f4", copy=False)
