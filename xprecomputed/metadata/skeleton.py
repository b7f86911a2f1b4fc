"""The ``info`` of a skeleton directory (format reference 6)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xprecomputed.errors import InvalidInfoError
from xprecomputed.metadata._checks import Checker, integer_in, one_of, shown, string
from xprecomputed.metadata.sharding import ShardingSpec
from xprecomputed.metadata.spatial_index import SpatialIndexInfo
from xprecomputed.metadata.transform import IDENTITY, Transform

__all__ = ["SkeletonInfo", "VertexAttribute"]

TYPE = "neuroglancer_skeletons"
DATA_TYPES = ("float32", "int8", "uint8", "int16", "uint16", "int32", "uint32")


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexAttribute:
    """What is known of every vertex, beside where it lies.

    Parameters
    ----------
    id : str
        Such as ``"radius"``.
    data_type : str
        float32, or an integer of 8, 16 or 32 bits; Neuroglancer draws float32 only.
    num_components : int
    """

    id: str
    data_type: str = "float32"
    num_components: int = 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type, little-endian as stored."""
        return np.dtype(self.data_type).newbyteorder("<")

    @classmethod
    def read(cls, data: object, at: str, problems: list[str]) -> VertexAttribute | None:
        """Parse `data`, adding what is wrong to `problems` under the place `at`."""
        check = Checker(data, at, problems)
        before = len(problems)
        members: dict[str, Any] = {
            "id": check.get("id", _name, "a non-empty string", required=True),
            "data_type": check.get(
                "data_type", one_of(DATA_TYPES), f"one of {', '.join(DATA_TYPES)}", required=True
            ),
            "num_components": check.get(
                "num_components", integer_in(1, 1 << 16), "an integer >= 1", required=True
            ),
        }
        return cls(**members) if len(problems) == before else None

    def to_json(self) -> dict[str, Any]:
        """The object to write."""
        return {
            "id": self.id,
            "data_type": self.data_type,
            "num_components": self.num_components,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SkeletonInfo:
    """The ``info`` of a skeleton directory.

    Parameters
    ----------
    transform : Transform
        Stored model to nm.
    vertex_attributes : tuple of VertexAttribute
        In the order of the bytes.
    sharding : ShardingSpec or None
    spatial_index : SpatialIndexInfo or None
    mip : int or None
        Of the segmentation that was skeletonised, as Igneous notes it.
    segment_properties : str or None
        Relative directory.
    extra : dict
        Members that are unknown here, kept and written back.

    Examples
    --------
    >>> SkeletonInfo.from_json({"@type": "neuroglancer_skeletons"}).vertex_attributes
    ()
    """

    transform: Transform = IDENTITY
    vertex_attributes: tuple[VertexAttribute, ...] = ()
    sharding: ShardingSpec | None = None
    spatial_index: SpatialIndexInfo | None = None
    mip: int | None = None
    segment_properties: str | None = None
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def from_json(cls, data: object, where: str = "info") -> SkeletonInfo:
        """Parse a decoded ``info`` document; `where` names it in errors.

        Raises
        ------
        InvalidInfoError
            With every problem and its place.
        """
        problems: list[str] = []
        check = Checker(data, "", problems)
        members = _read(check)
        for name, kind in (("sharding", ShardingSpec), ("spatial_index", SpatialIndexInfo)):
            if members[name] is not None:
                members[name] = kind.read(members[name], name, problems)
        attributes = [
            VertexAttribute.read(each, f"vertex_attributes[{index}]", problems)
            for index, each in enumerate(members["vertex_attributes"] or [])
        ]
        members["vertex_attributes"] = tuple(each for each in attributes if each is not None)
        ids = [each.id for each in members["vertex_attributes"]]
        if len(ids) > len(set(ids)):
            check.problem("vertex_attributes", f"an id more than once in {shown(ids)}")
        if problems:
            raise InvalidInfoError(f"{where} is not a usable skeleton description:", problems)
        return cls(**members, extra=check.rest())

    def to_json(self) -> dict[str, Any]:
        """The document to write; shares nothing mutable with this value."""
        document: dict[str, Any] = {
            "@type": TYPE,
            "transform": self.transform.to_json(),
            "vertex_attributes": [each.to_json() for each in self.vertex_attributes],
        }
        for name in ("sharding", "spatial_index"):
            if getattr(self, name) is not None:
                document[name] = getattr(self, name).to_json()
        for name in ("mip", "segment_properties"):
            if getattr(self, name) is not None:
                document[name] = getattr(self, name)
        return document | copy.deepcopy(self.extra)


def _read(check: Checker) -> dict[str, Any]:
    if "scales" in check.data:
        check.problem(None, "this is a volume: xp.open_store(url).skeleton")
    check.get("@type", one_of([TYPE]), f'"{TYPE}"', required=True)
    return {
        "transform": check.get("transform", Transform.read, "12 numbers, invertible", IDENTITY),
        "vertex_attributes": check.get("vertex_attributes", _list, "a list"),
        "sharding": check.get("sharding", lambda value: value, "an object"),
        "spatial_index": check.get("spatial_index", lambda value: value, "an object"),
        "mip": check.get("mip", integer_in(0, 64), "an integer >= 0"),
        "segment_properties": check.get("segment_properties", string, "a string"),
    }


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _name(value: Any) -> str:
    if not string(value):
        raise ValueError
    return string(value)
