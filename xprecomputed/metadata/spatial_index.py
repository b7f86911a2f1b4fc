"""The ``spatial_index`` member of mesh and skeleton directories (format reference 5.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xprecomputed.metadata._checks import Checker, positive_number, triple_of

__all__ = ["SpatialIndexInfo"]

Lengths = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpatialIndexInfo:
    """How the boxes of segments are spread over ``.spatial`` files, an extension of Igneous.

    Parameters
    ----------
    resolution : tuple of three numbers
        nm per voxel of the segmentation that was meshed or skeletonised, x, y, z.
    chunk_size : tuple of three numbers
        nm that one file covers, x, y, z.
    extra : dict
        Members that are unknown here, kept and written back.
    """

    resolution: Lengths
    chunk_size: Lengths
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def read(cls, data: object, at: str, problems: list[str]) -> SpatialIndexInfo | None:
        """Parse `data`, adding what is wrong to `problems` under the place `at`."""
        check = Checker(data, at, problems)
        lengths = triple_of(positive_number)
        expected = "three finite numbers > 0"
        resolution = check.get("resolution", lengths, expected, required=True)
        chunk_size = check.get("chunk_size", lengths, expected, required=True)
        if resolution is None or chunk_size is None:
            return None
        return cls(resolution=resolution, chunk_size=chunk_size, extra=check.rest())

    def to_json(self) -> dict[str, Any]:
        """The object to write."""
        return {
            "resolution": list(self.resolution),
            "chunk_size": list(self.chunk_size),
            **self.extra,
        }
