"""All rows of the table, in its order."""

from __future__ import annotations

from benchmarks import reads, writes
from benchmarks.rows import Row

ROWS: dict[str, Row] = {each.name: each for module in (reads, writes) for each in module.ROWS}
