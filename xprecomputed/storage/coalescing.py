"""Ranges of shard files that lie close together, joined into one request (pure)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from xprecomputed.options import get_options

__all__ = ["Fetch", "Placed", "coalesce"]


class Placed(NamedTuple):
    """A file range, and the number by which who asked knows it."""

    position: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """One request for what lies close together in one shard."""

    shard: int
    start: int
    stop: int
    values: list[Placed]
    version: Hashable


def coalesce(
    values: dict[int, list[Placed]], versions: dict[int, Hashable], most: int | None = None
) -> Iterator[Fetch]:
    """Join what lies close together in a shard into one request, of at most so many values."""
    options = get_options()
    for shard, members in values.items():
        members.sort(key=lambda value: value.start)
        joined: list[Placed] = []
        stop = 0
        for value in members:
            near = value.start - stop <= options.coalesce_gap_bytes
            small = joined and value.stop - joined[0].start <= options.coalesce_max_bytes
            if joined and not (near and small and len(joined) != most):
                yield Fetch(shard, joined[0].start, stop, joined, versions[shard])
                joined = []
            stop = max(stop, value.stop) if joined else value.stop
            joined.append(value)
        if joined:
            yield Fetch(shard, joined[0].start, stop, joined, versions[shard])
