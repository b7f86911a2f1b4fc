"""Process-wide settings, changed with :class:`set_options`."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from types import TracebackType

__all__ = ["Options", "get_options", "set_options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The settings in force; a frozen value, replaced as a whole.

    Attributes
    ----------
    threads : int or None
        Chunks decoded at the same time. None: the processors this process may use.
    requests_in_flight : int
        Requests under way at the same time on a remote store.
    read_budget_bytes : int
        Memory of one read beyond its result: stored bytes and decoded temporaries of the
        chunks under way. A single chunk larger than this is still read, alone.
    write_budget_bytes : int
        Encoded chunks of a shard that wait in memory for the others; beyond it they wait in
        objects beside the shards.
    index_cache_bytes : int
        Shard and minishard indexes kept in this process.
    coalesce_gap_bytes : int
        Two ranges of one shard closer than this are fetched by one request.
    coalesce_max_bytes : int
        A coalesced request is not extended beyond this size.
    """

    threads: int | None = None
    requests_in_flight: int = 64
    read_budget_bytes: int = 64 << 20  # 64 MiB
    write_budget_bytes: int = 256 << 20  # 256 MiB
    index_cache_bytes: int = 64 << 20  # 64 MiB
    coalesce_gap_bytes: int = 64 << 10  # 64 KiB
    coalesce_max_bytes: int = 4 << 20  # 4 MiB

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            none_is_fine = ("index_cache_bytes", "coalesce_gap_bytes", "write_budget_bytes")
            least = 0 if field.name in none_is_fine else 1
            if field.name == "threads" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(
                    f"set_options({field.name}={value!r}): expected an integer >= {least}"
                )

    @property
    def decode_threads(self) -> int:
        """Chunks decoded at the same time, always a number."""
        if self.threads is not None:
            return self.threads
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1


_current = Options()


def get_options() -> Options:
    """Return the settings in force.

    Examples
    --------
    >>> get_options().coalesce_gap_bytes
    65536
    """
    return _current


class set_options:  # noqa: N801 - named as xarray's and dask's
    """Change settings for a ``with`` block, or for good when called alone.

    Parameters
    ----------
    **changes
        Any field of :class:`Options`.

    Raises
    ------
    ValueError
        Unknown name or unusable value; nothing is changed then.

    Examples
    --------
    >>> with set_options(threads=1):
    ...     get_options().decode_threads
    1
    """

    def __init__(self, **changes: int | None) -> None:
        global _current
        known = [field.name for field in fields(Options)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise ValueError(f"set_options: unknown {unknown}, known are {known}")
        self._before = _current
        _current = replace(_current, **changes)  # type: ignore[arg-type]

    def __enter__(self) -> set_options:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        global _current
        _current = self._before
