"""The part of a skeleton in a box (pure).

Not by osteoid's own `crop`, which gives one vertex the attributes of another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xprecomputed.coords import AXES, parse_bounds
from xprecomputed.skeleton.format import Skeleton

__all__ = ["cropped"]


def cropped(skeleton: Skeleton, bbox: Any) -> Skeleton:
    """Cut a skeleton to a box: vertices in it or on its faces, and the edges between those.

    Parameters
    ----------
    skeleton : osteoid.Skeleton
        In nm.
    bbox : array_like or mapping
        nm, as in `xprecomputed.coords.parse_bounds`; an axis that is left out is not cut.

    Returns
    -------
    osteoid.Skeleton
        Another one, perhaps without vertices; their order is kept.

    Raises
    ------
    OutOfBoundsError
        Not a box.

    Examples
    --------
    >>> import osteoid
    >>> path = osteoid.Skeleton([(0, 0, 0), (8, 0, 0), (16, 0, 0)], [(0, 1), (1, 2)])
    >>> part = cropped(path, {"x": (5, 20)})
    >>> part.vertices.tolist(), part.edges.tolist()
    ([[8.0, 0.0, 0.0], [16.0, 0.0, 0.0]], [[0, 1]])
    """
    inside = np.ones(len(skeleton.vertices), bool)
    for axis, (begin, end) in parse_bounds(bbox).items():
        places = skeleton.vertices[:, AXES.index(axis)].astype(np.float64)
        inside &= (begin <= places) & (places <= end)
    kept = skeleton.edges[inside[skeleton.edges].all(axis=1)]
    number = (np.cumsum(inside) - 1).astype(np.uint32)
    part = type(skeleton)(
        skeleton.vertices[inside],
        number[kept],
        segid=skeleton.id,
        space=skeleton.space,
        transform=skeleton.transform,
        extra_attributes=[dict(each) for each in skeleton.extra_attributes],
    )
    for name in {"radius", "vertex_types", *(each["id"] for each in skeleton.extra_attributes)}:
        setattr(part, name, getattr(skeleton, name)[inside])
    return part
