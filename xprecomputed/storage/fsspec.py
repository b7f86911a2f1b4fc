"""Everything that fsspec speaks, chains included, behind the storage interface."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any

from xprecomputed.codecs import SUFFIXES, Bytes
from xprecomputed.errors import (
    CorruptDataError,
    InvalidURLError,
    MissingDependencyError,
    StorageError,
    UnsupportedEncodingError,
)
from xprecomputed.storage._locks import memory_lock
from xprecomputed.storage._remote import (
    abandon,
    at_most,
    explained,
    failure,
    nbytes_of,
    remove,
    web_server,
)
from xprecomputed.storage.addresses.address import Address
from xprecomputed.storage.addresses.hosts import is_this_machine
from xprecomputed.storage.base import (
    LAST_READ_FIRST,
    VARIANTS,
    Blob,
    Entry,
    Storage,
    Unchanged,
    check_folder_key,
    suffix_of,
    without_suffix,
)
from xprecomputed.storage.caching.cached import forgetting
from xprecomputed.storage.clients.retries import persistently
from xprecomputed.tracing import record_request

__all__ = ["FsspecStorage", "fsspec_location", "opened_location"]

#: Stores whose objects carry their compression in a header, never in the name.
WITH_HEADERS = frozenset({"http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
#: Stores whose first path component is a bucket, which no key may leave.
WITH_BUCKETS = WITH_HEADERS - {"http", "https"}
#: Links of a chain that go on giving what was there before a write.
CACHES = frozenset({"simplecache", "filecache", "blockcache", "cached"})


#: Options of fsspec that change who asks and how, and never what is there.
WHO_ASKS = frozenset(
    ["anon", "key", "secret", "token", "username", "password", "requester_pays", "project"]
)


@dataclass(frozen=True, slots=True)
class FsspecStorage(Storage):
    """A file system of fsspec from `root` on.

    A write to a bucket or to memory is whole or does not happen. Others (``ftp``, ``smb``, …)
    are as good as the file system: what fails half-way can leave a part.

    Parameters
    ----------
    shown : str
        The URL without credentials and query.
    opened : str
        The URL that fsspec is given.
    root : str
        The file system's own path of the bucket or tree, ending in a slash.
    options : dict
        Passed by the user; travels in pickles, shows nowhere else. ``fs`` is a file system that
        the user has made.
    query : str
        Of web addresses, repeated with every request. May be a secret.
    web : Address or None
        A web server, whose credentials are found in each process.
    trusted : bool
        As in `find_access`, for `web`.
    """

    shown: str
    opened: str = field(repr=False)
    root: str = field(repr=False)
    options: dict[str, Any] = field(default_factory=dict, repr=False, hash=False)
    query: str = field(default="", repr=False)
    web: Address | None = None
    trusted: bool = True

    @property
    def url(self) -> str:  # noqa: D102 - inherited
        return self.shown

    @property
    def is_local(self) -> bool:  # noqa: D102
        return self._protocol == "memory"

    @property
    def is_private(self) -> bool:  # noqa: D102
        last = self.opened.rpartition("::")[2]
        return last.partition("://")[0] in ("", "file", "local", "memory") or is_this_machine(last)

    def for_strangers(self, url: str) -> dict[str, Any]:  # noqa: D102
        del url
        return {"anon": True} if self.options.get("anon") is True else {}

    @property
    def has_plain_address(self) -> bool:  # noqa: D102
        # without links of a chain, names before an @ and whatever follows a ?
        plain = self.opened.startswith(self.shown) and not self.query
        plain = plain and "::" not in self.opened and "?" not in self.opened
        return plain and self.options.keys() <= WHO_ASKS

    @property
    def _protocol(self) -> str:
        return self.opened.partition("://")[0].rpartition("::")[2]

    @property
    def _fs(self) -> Any:
        if "fs" in self.options:
            return self.options["fs"]
        if self.web is not None:
            return web_server(self.web, self.options, self.trusted)
        # fsspec keeps one instance per options in this process, so this is a look-up
        return _url_to_fs(self.opened, self.options, self.shown)[0]

    def get(self, key: str, max_bytes: int | None = None) -> Blob | None:  # noqa: D102
        variants: list[tuple[str, str | None]] = [("", None)]
        if self._protocol not in WITH_HEADERS:
            variants += SUFFIXES.items()
        for suffix, encoding in variants:
            data = self._ask(key + suffix, None, None, max_bytes)
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

    def get_range(self, key: str, start: int, stop: int) -> Blob | None:  # noqa: D102
        version = self.fingerprint(key)
        data = self._ask(key, start, stop)
        record_request(self.shown + key, len(data or b""))
        if data is not None and len(data) > stop - start:
            raise StorageError(
                f"{self.shown}{key}: asked for bytes {start} to {stop}, the server sent "
                f"{len(data)} bytes: it ignores Range, so shards cannot be read from it"
            )
        if data is None:
            return None
        if self.fingerprint(key) != version:
            version = object()  # replaced meanwhile: equal to no other
        return Blob(data, version=version)

    def fingerprint(self, key: str) -> Hashable:  # noqa: D102
        if self._protocol != "memory":
            return None
        try:
            found = self._fs.info(self.root + key)
        except FileNotFoundError:
            return None
        return found["size"], found["created"]

    def size(self, key: str) -> int | None:  # noqa: D102
        address = self.shown + key
        record_request(address, 0)
        for suffix in self._variants:
            with explained(address, "asked for its size"):
                found = self._info(self.root + key + suffix)
            if found is not None:
                return nbytes_of(found, address)
        return None

    def list_dir(self, key: str) -> Iterator[Entry]:  # noqa: D102
        address = self.shown + key
        if self._is_web:
            raise StorageError(f"{address}: {self._protocol} has no listings")
        record_request(address, 0)
        folder = (self.root + key).rstrip("/")
        fs = self._fs
        with explained(address, "listed"):
            fs.invalidate_cache(folder)  # others write too
            try:
                listed = fs.ls(folder, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return
        entries: dict[str, tuple[int, Entry]] = {}
        for each in listed:
            parent, _, stored = each["name"].rpartition("/")
            if each["type"] != "file" or parent.strip("/") != folder.strip("/"):
                continue
            name, suffix = (stored, "") if self._has_headers else without_suffix(stored)
            if name and not name.startswith("."):
                entry = Entry(name, nbytes_of(each, f"{address}/{name}"), VARIANTS[suffix])
                read_as = list(VARIANTS).index(suffix)
                if name not in entries or read_as < entries[name][0]:
                    entries[name] = read_as, entry
        yield from (entry for _, entry in entries.values())

    def put(  # noqa: D102
        self,
        key: str,
        data: Bytes,
        *,
        encoding: str | None = None,
        cache_control: str | None = None,
        only_if: Unchanged | None = None,
    ) -> None:
        del only_if  # memory has locks, others no conditions
        address = self.shown + key
        suffix = suffix_of(encoding, address)
        fs = self._to_write(address)
        self._refuse_headers(address, encoding, cache_control)
        path = self.root + key
        with forgetting(self, key), explained(address, "written"):
            self._make_folder(fs, path)
            fs.pipe_file(path + suffix, bytes(data))
        self._remove_others(fs, key, suffix)
        record_request(address, memoryview(data).nbytes)

    def put_parts(  # noqa: D102
        self,
        key: str,
        parts: Iterable[Bytes],
        *,
        cache_control: str | None = None,
        only_if: Unchanged | None = None,
    ) -> None:
        del only_if
        address = self.shown + key
        fs = self._to_write(address)
        self._refuse_headers(address, None, cache_control)
        if self._in_memory:
            return self.put(key, b"".join(parts))  # where it would be seen half-written
        with forgetting(self, key):
            nbytes = self._write_parts(fs, key, parts)
        self._remove_others(fs, key, "")
        record_request(address, nbytes)
        return None

    def _write_parts(self, fs: Any, key: str, parts: Iterable[Bytes]) -> int:
        address, path = self.shown + key, self.root + key
        nbytes = 0
        with explained(address, "written"):
            self._make_folder(fs, path)
            file = fs.open(path, "wb")
        try:
            for part in parts:
                with explained(address, "written"):
                    file.write(part)
                nbytes += memoryview(part).nbytes
            with explained(address, "written"):
                file.close()
        except BaseException:
            abandon(fs, file, path, closing_completes=self._has_headers)
            raise
        return nbytes

    def delete(self, key: str) -> bool:  # noqa: D102
        address = self.shown + key
        fs = self._to_write(address)
        with forgetting(self, key), explained(address, "deleted"):
            removed = [
                self._info(self.root + key + suffix) is not None
                and remove(fs, self.root + key + suffix)
                for suffix in reversed(self._variants)
            ]
        record_request(address, 0)
        return any(removed)

    def delete_tree(self, key: str) -> None:  # noqa: D102
        check_folder_key(key)
        address, path = self.shown + key, self.root + key
        fs = self._to_write(address)
        with (
            forgetting(self, key, below=True),
            explained(address, "deleted"),
            suppress(FileNotFoundError),
        ):
            if fs.isfile(path):
                raise StorageError(f"{address}: not a folder, so nothing is deleted")
            fs.invalidate_cache(path)  # others write too
            if self._in_memory:  # whose rm() walks through all names for each one
                for each in fs.find(path):
                    remove(fs, each)
            fs.rm(path, recursive=True)
        record_request(address, 0)

    @property
    def has_locks(self) -> bool:  # noqa: D102
        return self._in_memory

    def exclusive(self, key: str) -> AbstractContextManager[None]:  # noqa: D102
        if not self.has_locks:
            return Storage.exclusive(self, key)
        return memory_lock((self.root + key).lstrip("/"))  # which is one object

    @property
    def _in_memory(self) -> bool:
        """Without anything in between, where `is_local` allows a chain."""
        return self.opened.startswith("memory://")

    @property
    def _is_web(self) -> bool:
        return self._protocol in ("http", "https")

    @property
    def _has_headers(self) -> bool:
        return self._protocol in WITH_HEADERS

    @property
    def _variants(self) -> tuple[str, ...]:
        return ("",) if self._has_headers else tuple(VARIANTS)

    def _to_write(self, address: str) -> Any:
        """The file system, if it may be written."""
        links = {link.partition("://")[0] for link in self.opened.split("::")}
        if self._is_web:
            raise StorageError(f"{address}: {self._protocol} is read-only")
        if links & CACHES:
            raise StorageError(
                f"{address}: cannot be written through {sorted(links & CACHES)[0]}, which would go "
                "on giving what was there before; write without it"
            )
        return self._fs

    def _refuse_headers(self, address: str, encoding: str | None, control: str | None) -> None:
        if self._has_headers and (encoding is not None or control is not None):
            header = "Cache-Control" if encoding is None else "Content-Encoding"
            cure = "cache_control=None" if encoding is None else "compression=None"
            raise UnsupportedEncodingError(
                f"{address}: fsspec cannot set the header {header} on {self._protocol}; use {cure}"
            )

    def _make_folder(self, fs: Any, path: str) -> None:
        folder = path.rpartition("/")[0]
        if folder and not self._in_memory and not self._has_headers:
            with suppress(NotImplementedError):
                fs.makedirs(folder, exist_ok=True)

    def _info(self, path: str) -> dict[str, Any] | None:
        """What the file system knows of a file, None where there is none."""
        fs = self._fs
        try:
            if self._in_memory:  # whose info() walks through all names
                return dict(fs.ls(path)[0]) if fs.isfile(path) else None
            fs.invalidate_cache(path)  # others write too
            found = fs.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return dict(found) if found["type"] == "file" else None

    def _remove_others(self, fs: Any, key: str, suffix: str) -> None:
        if self._has_headers:
            return
        address, path = self.shown + key, self.root + key
        with explained(address, "rid of its other variants"):
            removed = [remove(fs, path + other) for other in LAST_READ_FIRST if other != suffix]
            gone = any(removed) and self._info(path + suffix) is None
        if gone:
            raise StorageError(
                f"{address}: another writer has removed it meanwhile, or stored it with another "
                "compression; write it again"
            )

    def _ask(
        self, key: str, start: int | None, stop: int | None, max_bytes: int | None = None
    ) -> bytes | None:
        address = f"{self.shown}{key}"
        query = f"?{self.query}" if self.query else ""

        def ask() -> bytes | None:
            path = self.root + key + query
            try:
                if self._is_web and max_bytes is not None:  # it may say no length, nor end
                    return at_most(self._fs, path, max_bytes + 1)
                return bytes(self._fs.cat_file(path, start=start, end=stop))
            except (FileNotFoundError, NotADirectoryError):
                return None

        if self.is_local:
            with explained(address, "read"):
                return ask()
        return persistently(ask, lambda error: failure(error, address, "read"))


def _url_to_fs(url: str, options: Mapping[str, Any], shown: str) -> tuple[Any, str]:
    import fsspec.core
    from fsspec.registry import known_implementations

    try:
        fs, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        place = known_implementations.get(shown.partition("://")[0].rpartition("::")[2], {})
        package = str(place.get("class", "fsspec")).partition(".")[0]
        cure = "" if package == "fsspec" else f"\n    pip install {package}"
        raise MissingDependencyError(f"{shown}: {error}{cure}") from None
    except ValueError as error:
        raise InvalidURLError(f"{shown}: {error}") from None
    return fs, path


def _without_secrets(url: str) -> str:
    return "::".join(_link_without_secrets(link) for link in url.split("::"))


def _link_without_secrets(url: str) -> str:
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
    protocol = url.partition("://")[0].rpartition("::")[2]
    query = ""
    if protocol in ("http", "https"):
        url, _, query = url.partition("?")
    _, path = _url_to_fs(url, options, shown)
    path = str(path).rstrip("/")
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
        inner = shown.partition("::")[2]
        raise InvalidURLError(
            f"{shown}: cannot be split into a root and {_without_secrets(str(path))!r}, which "
            "is not at its end; give the file system itself:\n"
            f"    fs = fsspec.filesystem({protocol_of(url)!r}, fo={inner!r})\n"
            f'    open_dataset({_without_secrets(str(path))!r}, storage_options={{"fs": fs}}, …)'
        )
    base = shown[: len(shown) - len(key)].removesuffix("/") + "/"
    return FsspecStorage(base, url, root, dict(options), query), key


def protocol_of(url: str) -> str:
    """The first protocol of a chain.

    Examples
    --------
    >>> protocol_of("zip://a::gs://bucket/b.zip")
    'zip'
    """
    return url.partition("::")[0].partition("://")[0]


def opened_location(fs: Any, path: str) -> tuple[FsspecStorage, str]:
    """Storage and key of a path in a file system of fsspec that somebody has made.

    Raises
    ------
    InvalidURLError
        It is not one of fsspec's.
    """
    if not hasattr(fs, "unstrip_protocol") or not hasattr(fs, "cat_file"):
        raise InvalidURLError(
            f"fs={type(fs).__name__}: expected a file system of fsspec, such as "
            'fsspec.filesystem("s3", anon=True)'
        )
    plain = str(fs._strip_protocol(path)).rstrip("/")
    url = str(fs.unstrip_protocol(plain)).replace("memory:///", "memory://", 1)  # as it is typed
    shown = _without_secrets(url)
    place = plain.partition("://")[2].partition("/")[2] if "://" in plain else plain
    bucketed = url.partition("://")[0] in WITH_BUCKETS
    key = (place.partition("/")[2] if bucketed else place).strip("/")
    root, base = plain[: len(plain) - len(key)], shown[: len(shown) - len(key)]
    return FsspecStorage(base if base.endswith("/") else f"{base}/", url, root, {"fs": fs}), key
