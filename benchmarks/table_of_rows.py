"""All rows of the table, in its order."""

from __future__ import annotations

from benchmarks import (
    cluster,
    cutouts,
    opening,
    pyramid,
    reads,
    remote,
    segments,
    writes,
)
from benchmarks.rows import Row

MODULES = (reads, writes, cutouts, pyramid, segments, cluster, remote, opening)
ROWS: dict[str, Row] = {each.name: each for module in MODULES for each in module.ROWS}
