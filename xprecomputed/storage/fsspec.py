"""Everything that fsspec speaks, chains included, behind the storage interface."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xprecomputed.codecs import SUFFIXES
from xprecomputed.errors import (
    AccessDeniedError,
    CorruptDataError,
    InvalidURLError,
    MissingDependencyError,
    StorageError,
)
from xprecomputed.storage.base import Blob, Storage
from xprecomputed.tracing import record_request

__all__ = ["FsspecStorage", "fsspec_location"]

#: Stores whose objects carry their compression in a header, never in the name.
WITH_HEADERS = frozenset({"http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
#: Stores whose first path component is a bucket, which no key may leave.
WITH_BUCKETS = WITH_HEADERS - {"http", "https"}


@dataclass(frozen=True, slots=True)
class FsspecStorage(Storage):
    """A file system of fsspec from `root` on.

    Parameters
    ----------
    shown : str
        The URL without credentials and query.
    opened : str
        The URL that fsspec is given.
    root : str
        The file system's own path of the bucket or tree, ending in a slash.
    options : dict
        Passed by the user; travels in pickles, shows nowhere else.
    """

    shown: str
    opened: str = field(repr=False)
    root: str
    options: dict[str, Any] = field(default_factory=dict, repr=False, hash=False)

    @property
    def url(self) -> str:  # noqa: D102 - inherited
        return self.shown

    @property
    def is_local(self) -> bool:  # noqa: D102
        return self._protocol == "memory"

    @property
    def _protocol(self) -> str:
        return self.opened.partition("://")[0].rpartition("::")[2]

    @property
    def _fs(self) -> Any:
        # fsspec keeps one instance per options in this process, so this is a look-up
        return _url_to_fs(self.opened, self.options, self.shown)[0]

    def get(self, key: str, max_bytes: int | None = None) -> Blob | None:  # noqa: D102
        variants: list[tuple[str, str | None]] = [("", None)]
        if self._protocol not in WITH_HEADERS:
            variants += SUFFIXES.items()
        for suffix, encoding in variants:
            data = self._ask(key + suffix, None, None)
            if data is None:
                continue
            record_request(self.shown + key, len(data))
            if max_bytes is not None and len(data) > max_bytes:
                raise CorruptDataError(
                    f"{self.shown}{key}: {len(data)} bytes, at most {max_bytes} can be valid"
                )
            return Blob(data, encoding)
        record_request(self.shown + key, 0)
        return None

    def get_range(self, key: str, start: int, stop: int) -> bytes | None:  # noqa: D102
        data = self._ask(key, start, stop)
        record_request(self.shown + key, len(data or b""))
        if data is not None and len(data) > stop - start:
            raise StorageError(
                f"{self.shown}{key}: asked for bytes {start} to {stop}, the server sent "
                f"{len(data)} bytes: it ignores Range, so shards cannot be read from it"
            )
        return data

    def fingerprint(self, key: str) -> Hashable:  # noqa: D102
        if self._protocol != "memory":
            return None
        try:
            found = self._fs.info(self.root + key)
        except FileNotFoundError:
            return None
        return found["size"], found["created"]

    def _ask(self, key: str, start: int | None, stop: int | None) -> bytes | None:
        address = f"{self.shown}{key}"
        try:
            data = self._fs.cat_file(self.root + key, start=start, end=stop)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise AccessDeniedError(f"{address}: {type(error).__name__}") from None
        except Exception as error:
            # other libraries put signed URLs and headers into their messages: only the kind
            raise StorageError(f"{address}: {type(error).__name__}") from None
        return bytes(data)


def _url_to_fs(url: str, options: Mapping[str, Any], shown: str) -> tuple[Any, str]:
    import fsspec.core
    from fsspec.registry import known_implementations

    try:
        fs, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        place = known_implementations.get(shown.partition("://")[0], {})
        package = str(place.get("class", "fsspec")).partition(".")[0]
        cure = "" if package == "fsspec" else f"\n    pip install {package}"
        raise MissingDependencyError(f"{shown}: {error}{cure}") from None
    except ValueError as error:
        raise InvalidURLError(f"{shown}: {error}") from None
    return fs, path


def _without_secrets(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    host, slash, path = rest.partition("/")
    return scheme + mark + host.rpartition("@")[2] + slash + path.partition("?")[0]


def fsspec_location(url: str, options: Mapping[str, Any]) -> tuple[FsspecStorage, str]:
    """Storage and key of a URL that fsspec can open.

    Raises
    ------
    InvalidURLError
        Unknown protocol.
    MissingDependencyError
        The protocol's package is not installed.
    """
    shown = _without_secrets(url)
    _, path = _url_to_fs(url, options, shown)
    path = str(path).rstrip("/")
    protocol = url.partition("://")[0].rpartition("::")[2]
    if "://" in path:  # http keeps the whole URL as its path
        scheme, _, rest = path.partition("://")
        host, _, key = rest.partition("/")
        root = f"{scheme}://{host}/"
    elif protocol in WITH_BUCKETS:
        bucket, _, key = path.partition("/")
        root = f"{bucket}/"
    else:
        root = "/" if path.startswith("/") else ""
        key = path.lstrip("/")
    if not shown.endswith(key):
        raise InvalidURLError(f"{shown}: the address cannot be split into a root and {key!r}")
    base = shown[: len(shown) - len(key)].removesuffix("/") + "/"
    return FsspecStorage(base, url, root, dict(options)), key
