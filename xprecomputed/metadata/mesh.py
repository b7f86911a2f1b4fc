"""The ``info`` of a mesh directory (format reference 5.1, 5.2)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Literal

from xprecomputed.errors import InvalidInfoError
from xprecomputed.metadata._checks import (
    Checker,
    integer,
    integer_in,
    one_of,
    positive_number,
    string,
    triple_of,
)
from xprecomputed.metadata.sharding import ShardingSpec
from xprecomputed.metadata.spatial_index import SpatialIndexInfo
from xprecomputed.metadata.transform import IDENTITY, Transform

__all__ = ["LEGACY", "MULTIRES", "MeshInfo"]

LEGACY = "neuroglancer_legacy_mesh"
MULTIRES = "neuroglancer_multilod_draco"
#: What Neuroglancer takes.
QUANTIZATION_BITS = (10, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshInfo:
    """The ``info`` of a mesh directory.

    Parameters
    ----------
    type : {"neuroglancer_legacy_mesh", "neuroglancer_multilod_draco"}
        The first is what a directory without an ``info`` holds.
    transform : Transform
        Stored model to nm; Neuroglancer ignores that of legacy meshes, CloudVolume applies it.
    vertex_quantization_bits : {10, 16}, or None for legacy meshes
    lod_scale_multiplier : float
        Of the ``lod_scales`` in manifests.
    sharding : ShardingSpec or None
        Never of legacy meshes.
    spatial_index : SpatialIndexInfo or None
    mip : int or None
        Of the segmentation that was meshed, as Igneous notes it.
    chunk_size : tuple of int or None
        Voxels of that mip, x, y, z, that one legacy fragment was made from.
    segment_properties : str or None
        Relative directory.
    extra : dict
        Members that are unknown here, kept and written back.

    Examples
    --------
    >>> MeshInfo.from_json({"@type": "neuroglancer_legacy_mesh", "mip": 2}).mip
    2
    """

    type: str = LEGACY
    transform: Transform = IDENTITY
    vertex_quantization_bits: int | None = None
    lod_scale_multiplier: float = 1
    sharding: ShardingSpec | None = None
    spatial_index: SpatialIndexInfo | None = None
    mip: int | None = None
    chunk_size: tuple[int, int, int] | None = None
    segment_properties: str | None = None
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def is_multires(self) -> bool:
        """Whether meshes have levels of detail."""
        return self.type == MULTIRES

    @classmethod
    def from_json(cls, data: object, where: str = "info") -> MeshInfo:
        """Parse a decoded ``info`` document; `where` names it in errors.

        Raises
        ------
        InvalidInfoError
            With every problem and its place.
        """
        problems: list[str] = []
        check = Checker(data, "", problems)
        members = _read(check)
        before = len(problems)
        for name, kind in (("sharding", ShardingSpec), ("spatial_index", SpatialIndexInfo)):
            if members[name] is not None:
                members[name] = kind.read(members[name], name, problems)
        if len(problems) == before:
            _check_kind(check, members)
        if problems:
            raise InvalidInfoError(f"{where} is not a usable mesh description:", problems)
        return cls(**members, extra=check.rest())

    def to_json(self) -> dict[str, Any]:
        """The document to write; shares nothing mutable with this value."""
        document: dict[str, Any] = {"@type": self.type}
        if self.is_multires:
            document["vertex_quantization_bits"] = self.vertex_quantization_bits
            document["lod_scale_multiplier"] = self.lod_scale_multiplier
        if self.is_multires or not self.transform.is_identity:
            document["transform"] = self.transform.to_json()
        for name in ("sharding", "spatial_index"):
            if getattr(self, name) is not None:
                document[name] = getattr(self, name).to_json()
        for name in ("mip", "segment_properties"):
            if getattr(self, name) is not None:
                document[name] = getattr(self, name)
        if self.chunk_size is not None:
            document["chunk_size"] = list(self.chunk_size)
        return document | copy.deepcopy(self.extra)


def _read(check: Checker) -> dict[str, Any]:
    kinds = (LEGACY, MULTIRES)
    if "scales" in check.data:
        check.problem(None, "this is a volume: xp.open_store(url).mesh")
    members: dict[str, Any] = {
        "type": check.get("@type", one_of(kinds), f"one of {kinds}", required=True),
        # neuroglancer_multilod_draco requires it, and NG and CV read it without
        "transform": check.get("transform", Transform.read, "12 numbers, invertible", IDENTITY),
        "vertex_quantization_bits": check.get(
            "vertex_quantization_bits", _quantization_bits, "10 or 16"
        ),
        "lod_scale_multiplier": check.get(
            "lod_scale_multiplier", positive_number, "a finite number > 0"
        ),
        "sharding": check.get("sharding", lambda value: value, "an object"),
        "spatial_index": check.get("spatial_index", lambda value: value, "an object"),
        "mip": check.get("mip", integer_in(0, 64), "an integer >= 0"),
        # hints of Igneous: odd values in it do not make meshes unreadable
        "chunk_size": check.get("chunk_size", triple_of(integer_in(1)), "three integers >= 1"),
        "segment_properties": check.get("segment_properties", string, "a string"),
    }
    return members


def _quantization_bits(value: Any) -> Literal[10, 16]:
    bits = integer(value)
    if bits not in QUANTIZATION_BITS:
        raise ValueError
    return bits  # type: ignore[return-value]


def _check_kind(check: Checker, members: dict[str, Any]) -> None:
    """What one kind requires and the other cannot have."""
    if members["type"] == MULTIRES:
        for name in ("vertex_quantization_bits", "lod_scale_multiplier"):
            if members[name] is None and name not in check.data:
                check.problem(name, f"missing, required of {MULTIRES}")
    elif members["type"] == LEGACY and members["sharding"] is not None:
        check.problem("sharding", f"{LEGACY} has no sharded form")
    if members["lod_scale_multiplier"] is None:
        members["lod_scale_multiplier"] = 1
