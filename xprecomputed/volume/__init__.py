"""Boxes, selections and points to arrays."""

from xprecomputed.volume.plan import ChunkTask, Indexer, OuterPlan, PointPlan
from xprecomputed.volume.reader import ScaleReader

__all__ = ["ChunkTask", "Indexer", "OuterPlan", "PointPlan", "ScaleReader"]
