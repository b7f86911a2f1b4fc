"""Process-wide settings, changed with :class:`set_options`."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from types import TracebackType

__all__ = ["Options", "as_cache_dir", "get_options", "set_options"]

NONE_IS_FINE = ("threads", "cache_dir")
ZERO_IS_FINE = (
    "index_cache_bytes",
    "memory_cache_bytes",
    "coalesce_gap_bytes",
    "write_budget_bytes",
    "max_retries",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The settings in force; a frozen value, replaced as a whole.

    Attributes
    ----------
    threads : int or None
        Chunks decoded at the same time. None: the processors this process may use.
    requests_in_flight : int
        Requests under way at the same time on a remote store.
    max_retries : int
        How often a request is repeated after a time-out, 429, 5xx or a broken connection.
    request_timeout_s : int or float
        Seconds without a byte after which a request has failed.
    read_budget_bytes : int
        Memory of one read beyond its result: stored bytes and decoded temporaries of the
        chunks under way. A single chunk larger than this is still read, alone.
    write_budget_bytes : int
        Encoded chunks of a shard that wait in memory for the others; beyond it they wait in
        objects beside the shards.
    index_cache_bytes : int
        Shard and minishard indexes kept in this process; and as much again of the labels of axes,
        with pandas' tables of them.
    memory_cache_bytes : int
        Stored bytes of remote chunks and shards kept in this process; 0, the default, keeps
        none. For volumes that are opened afterwards.
    cache_dir : str or None
        A local folder that keeps what is read of remote chunks and shards, also for other
        processes and later ones; ``~`` is the home folder. None, the default, keeps nothing.
        For volumes that are opened afterwards.
    cache_bytes : int
        Most bytes of the files below `cache_dir`; least recently used go first.
    coalesce_gap_bytes : int
        Two ranges of one shard closer than this are fetched by one request.
    coalesce_max_bytes : int
        A coalesced request is not extended beyond this size.
    """

    threads: int | None = None
    requests_in_flight: int = 64
    max_retries: int = 8
    request_timeout_s: float = 60
    read_budget_bytes: int = 64 << 20  # 64 MiB
    write_budget_bytes: int = 256 << 20  # 256 MiB
    index_cache_bytes: int = 64 << 20  # 64 MiB
    memory_cache_bytes: int = 0
    cache_dir: str | None = None
    cache_bytes: int = 8 << 30  # 8 GiB
    coalesce_gap_bytes: int = 64 << 10  # 64 KiB
    coalesce_max_bytes: int = 4 << 20  # 4 MiB

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name in NONE_IS_FINE:
                continue
            if field.name == "cache_dir":
                object.__setattr__(self, "cache_dir", as_cache_dir(value))
                continue
            if field.name == "request_timeout_s":
                if (
                    isinstance(value, bool)
                    or not isinstance(value, int | float)
                    or not 0 < value < 1e6
                ):
                    raise ValueError(
                        f"set_options(request_timeout_s={value!r}): expected seconds above 0"
                    )
                continue
            least = 0 if field.name in ZERO_IS_FINE else 1
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


def as_cache_dir(path: object) -> str:
    """The absolute path of a folder that a cache is to lie in; ``~`` is the home folder.

    Raises
    ------
    ValueError
        It is no path of this machine.

    Examples
    --------
    >>> as_cache_dir("/scratch/../tmp")
    '/tmp'
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "://" in text or "\0" in text:
        raise ValueError(f"cache_dir={path!r}: expected the path of a local folder")
    return os.path.abspath(os.path.expanduser(text))


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

    def __init__(self, **changes: float | str | os.PathLike[str] | None) -> None:
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
