"""What is known of every vertex: under which name, in which unit, and whether it fits (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xprecomputed.errors import DataTypeError, LayoutError
from xprecomputed.metadata import SkeletonInfo, Transform, VertexAttribute

__all__ = ["column", "factor", "left_as_stored", "member_names", "rescaled"]

#: Attributes that are lengths in units of the stored model, and to which power.
LENGTHS = {"radius": 1, "cross_sectional_area": 2}
#: All integers up to here have a float32 of their own.
EXACT = 2**24


def member_names(attributes: Sequence[VertexAttribute], taken: Iterable[str]) -> dict[str, str]:
    """Under which name an object has each attribute.

    An attribute may be called anything, ``paths`` or ``__class__`` too, and must not replace a
    method: such a one gets ``attribute_`` before its name.

    Parameters
    ----------
    attributes : sequence of VertexAttribute
    taken : iterable of str
        What the object has already.

    Returns
    -------
    dict of str to str
        From the attribute's id.

    Examples
    --------
    >>> attributes = VertexAttribute(id="radius"), VertexAttribute(id="paths")
    >>> member_names(attributes, ["paths", "radius"])
    {'radius': 'radius', 'paths': 'attribute_paths'}
    """
    reserved = set(taken) - {"radius", "vertex_types"}
    ids = {each.id for each in attributes}
    names = {}
    for each in attributes:
        name = each.id
        while name in reserved or name.startswith("_") or (name != each.id and name in ids):
            name = f"attribute_{name}"
        names[each.id] = name
    return names


@lru_cache(maxsize=256)
def factor(attribute: VertexAttribute, transform: Transform) -> float | None:
    """By what a stored value is multiplied to be nm (or nm²).

    None for a length that no single number scales, because the transform stretches the axes
    differently or because the attribute is not float32; 1 for what is no length.

    Examples
    --------
    >>> doubled = Transform((2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0))
    >>> factor(VertexAttribute(id="cross_sectional_area"), doubled)
    4.0
    """
    power = LENGTHS.get(attribute.id, 0)
    with np.errstate(over="ignore", invalid="ignore"):  # an absurd transform
        scale = transform.scale
    if not power or scale == 1:
        return 1.0
    if scale is None or attribute.data_type != "float32":
        return None
    return scale**power


def left_as_stored(info: SkeletonInfo) -> str | None:
    """A warning about the attributes whose `factor` is not known, or None."""
    names = [each.id for each in info.vertex_attributes if factor(each, info.transform) is None]
    if not names:
        return None
    return (
        f"{', '.join(names)}: not in nm but in units of the stored model, since the transform "
        f"{info.transform.to_json()} does not scale all lengths alike or the values are integers"
    )


def rescaled(values: NDArray[Any], by: float | None) -> NDArray[Any]:
    """`values` times `by`; what is not positive says "unknown" and stays."""
    if by is None or by == 1:
        return values
    with np.errstate(over="ignore", invalid="ignore"):  # a NaN may be of the kind that signals
        return np.where(values > 0, values * values.dtype.type(by), values)


def column(values: Any, attribute: VertexAttribute, count: int, where: str) -> NDArray[Any]:
    """The values of an attribute as they are stored.

    Parameters
    ----------
    values : array_like, shape (N,) or (N, components)
    attribute : VertexAttribute
    count : int
        N, the number of vertices.
    where : str
        For messages.

    Returns
    -------
    ndarray, shape (N, components)
        Of the attribute's data type. Floats are rounded to float32.

    Raises
    ------
    LayoutError
        Another shape.
    DataTypeError
        Values that the data type does not have.
    """
    array = np.asarray(values)
    expected = (count, attribute.num_components)
    if array.shape not in (expected, expected[:1] if expected[1] == 1 else expected):
        raise LayoutError(
            f"{where}: vertex attribute {attribute.id!r} has shape {array.shape}, expected "
            f"{expected} as info says and {count} vertices need"
        )
    if not _fits(array, attribute.dtype):
        raise DataTypeError(
            f"{where}: vertex attribute {attribute.id!r} has values of {array.dtype} that "
            f"{attribute.data_type}, which info names, cannot hold; convert them, or create the "
            "folder with another data_type"
        )
    with np.errstate(under="ignore", invalid="ignore"):
        return array.reshape(expected).astype(attribute.dtype)


def _fits(array: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    if array.dtype.kind not in "biuf":
        return False
    if not array.size:
        return True
    if dtype.kind == "f":
        if array.dtype.kind == "f":
            with np.errstate(over="ignore", invalid="ignore"):
                return bool((np.isfinite(array.astype(dtype)) | ~np.isfinite(array)).all())
        least, most = -EXACT, EXACT
    else:
        if array.dtype.kind == "f" and not (np.isfinite(array) & (array % 1 == 0)).all():
            return False
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    return least <= int(array.min()) and int(array.max()) <= most
