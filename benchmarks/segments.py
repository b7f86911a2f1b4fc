"""1,000 meshes and 1,000 skeletons out of shards: from a disk, and from a server that is late.

Multi-resolution Draco meshes with two levels of detail, skeletons with a radius, gzip, 8 shards.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.rows import OURS, Contender, Operation, Place, Row, Target
from benchmarks.shapes import SEGMENTS, segment_ids

LATENCY_S = 0.02
PLURAL = {"mesh": "meshes", "skeleton": "skeletons"}


def _url(place: Place) -> str:
    if place.port:
        return f"http://127.0.0.1:{place.port}/bucket/layer"
    return f"file://{place.data / SEGMENTS}/bucket/layer"


def ours(kind: str) -> Contender:
    """Open, and `get` them all."""

    def prepare(place: Place) -> Operation:
        import xprecomputed as xp

        url, ids = _url(place), segment_ids()
        return lambda: getattr(xp.open_store(url), kind).get(ids)

    return prepare


def cloudvolume_meshes(place: Place) -> Operation:
    """Open, and `get` them all."""
    url, ids = _url(place), segment_ids()
    return lambda: peers.cloudvolume(url).mesh.get(ids, lod=0)


def cloudvolume_skeletons(place: Place) -> Operation:
    """Open, and `get` them all."""
    url, ids = _url(place), segment_ids()
    return lambda: {each.id: each for each in peers.cloudvolume(url).skeleton.get(ids)}


def _shapes(joins: str) -> Callable[[Any, Place], dict[str, float]]:
    def summary(found: Mapping[int, Any], _: Place) -> dict[str, float]:
        crc32, vertices, furthest = 0, 0, 0.0
        for segment in sorted(segment_ids()):
            each = found[segment]
            crc32 = zlib.crc32(np.ascontiguousarray(getattr(each, joins), np.uint32), crc32)
            vertices += len(each.vertices)
            furthest += float(np.abs(each.vertices.astype(np.float64)).sum())
        return {"crc32": float(crc32), "vertices": vertices, "coordinates": furthest}

    return summary


def _row(kind: str, theirs: Contender, joins: str, latency_s: float | None) -> Row:
    return Row(
        name=f"1000 {PLURAL[kind]}{f', {latency_s * 1e3:.0f} ms' if latency_s else ''}",
        group="segments",
        contenders={OURS: ours(kind), "CloudVolume": theirs},
        targets=(Target("best peer", 1.3),),
        summary=_shapes(joins),
        tolerance=1e-6,  # coordinates are float32, from integers in another order of steps
        latency_s=latency_s,
        layer=SEGMENTS,
        repeats=2,
    )


ROWS = [
    _row(*each, latency_s)
    for latency_s in (None, LATENCY_S)
    for each in (
        ("mesh", cloudvolume_meshes, "faces"),
        ("skeleton", cloudvolume_skeletons, "edges"),
    )
]
