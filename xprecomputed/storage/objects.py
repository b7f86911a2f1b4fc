"""S3, Google Cloud Storage, Azure and the web, through obstore.

Its calls release the GIL, so threads are enough to have many requests under way. Stores are
made in each process when the first request needs them: what is pickled are the address and
what the user passed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any, TypeVar
from uuid import uuid4

from xprecomputed.codecs import GZIP_MAGIC, Bytes
from xprecomputed.errors import (
    AccessDeniedError,
    ConflictError,
    CorruptDataError,
    NotFoundError,
    PrecomputedError,
    StorageError,
)
from xprecomputed.options import get_options
from xprecomputed.parallel import pause
from xprecomputed.storage.addresses.address import Address, strip_format
from xprecomputed.storage.addresses.hosts import is_this_machine
from xprecomputed.storage.base import (
    Blob,
    Entry,
    Storage,
    Unchanged,
    check_folder_key,
    suffix_of,
)
from xprecomputed.storage.caching.cached import forgetting
from xprecomputed.storage.clients import exchange
from xprecomputed.storage.clients.answers import LENGTH_UNKNOWN, RANGE_BEYOND, explain, status_of
from xprecomputed.storage.clients.process import Client, client_for
from xprecomputed.storage.clients.retries import persistently
from xprecomputed.storage.fsspec import FsspecStorage
from xprecomputed.tracing import record_request

__all__ = ["ObjectStorage"]

T = TypeVar("T")

#: An object up to this size is sent in one request, a larger one in parts of this size.
PART_BYTES = 32 << 20
#: A body up to this size is sent within the time in which an answer has to begin.
SOON_SENT_BYTES = 4 << 20
#: Attempts to change an object that others change too.
ATTEMPTS = 20
#: Addresses on the web of what is in a bucket too.
SAME_PLACES = (
    (re.compile(r"^https?://storage\.googleapis\.com/"), "gs://"),
    (re.compile(r"^https?://([^/]+)\.storage\.googleapis\.com/"), r"gs://\1/"),
    (re.compile(r"^https?://([^/]+)\.s3[.-][a-z0-9.-]*amazonaws\.com/"), r"s3://\1/"),
    (re.compile(r"^https?://s3[.-][a-z0-9.-]*amazonaws\.com/"), "s3://"),
)


@dataclass(frozen=True, slots=True)
class ObjectStorage(Storage):
    """A bucket, a container or a web server (which is read-only).

    Parameters
    ----------
    address : Address
        Of the root: without a key.
    options : dict
        Passed by the user; travels in pickles, shows nowhere else.
    trusted : bool
        Whether the user named this server, as in `find_access`.
    """

    address: Address
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    trusted: bool = True

    @property
    def url(self) -> str:  # noqa: D102 - inherited
        return self.address.url

    @property
    def is_local(self) -> bool:  # noqa: D102
        return False

    def identity(self, key: str) -> str:
        """One address for the same bucket, however and through whom it was named."""
        at = self.address
        bucket = f"{at.bucket}/" if at.bucket else ""
        address = f"{at.endpoint_url or f'{at.provider}:/'}/{bucket}{key}".strip("/")
        for pattern, meant in SAME_PLACES:
            address = pattern.sub(meant, address)
        return address

    @property
    def is_private(self) -> bool:  # noqa: D102
        return is_this_machine(self.address.endpoint_url or "")

    @property
    def has_plain_address(self) -> bool:  # noqa: D102
        return not self.address.query

    @property
    def has_headers(self) -> bool:  # noqa: D102
        return True

    def for_strangers(self, url: str) -> dict[str, Any]:
        """To ask as nobody; and the server, where a bucket alone is named as the user named it."""
        nobody = self.options.get("anon") is True or self.options.get("token") == "anon"
        found: dict[str, Any] = {"anon": True} if nobody else {}
        if strip_format(url).startswith(f"{self.address.provider}://"):
            server = self.options.get("endpoint_url")
            return found if server is None else {**found, "endpoint_url": server}
        return found

    def _is_conditional(self, key: str) -> bool:
        """Whether the server heeds conditions of puts; it is tried once, beside the object."""
        if self not in _conditions:
            _conditions[self] = self._heeds_conditions(f"{key.rpartition('/')[0]}/.probe-{uuid4()}")
        return _conditions[self]

    def _heeds_conditions(self, key: str) -> bool:
        """Whether conditional puts are refused when they should be, and else not."""

        def refused(only_if: Unchanged) -> bool:
            try:
                self.put(key, b"", only_if=only_if)
            except ConflictError:
                return True
            return False

        key = key.lstrip("/")
        try:
            if refused(Unchanged(None)) or not refused(Unchanged(None)):
                return False
            found = self._head(key)
            before = None if found is None else exchange.version(found)
            if not exchange.can_be_condition(before) or refused(Unchanged(before)):
                return False
            self.put(key, b"another")
            return refused(Unchanged(before))
        finally:
            with suppress(PrecomputedError):
                self.delete(key)

    def get(self, key: str, max_bytes: int | None = None) -> Blob | None:  # noqa: D102
        address = self.url + key

        def ask(store: Any) -> Blob | None:
            import obstore

            result = obstore.get(store, self._name(key))
            meta = result.meta
            nbytes = meta["size"]
            if max_bytes is not None and nbytes > max_bytes:
                raise CorruptDataError(
                    f"{address}: {nbytes} bytes, at most {max_bytes} can be valid"
                )
            encoding = exchange.compression(result.attributes, address)
            data = exchange.body(result)
            if encoding == "gzip" and data[:2] != GZIP_MAGIC:
                encoding = None  # a proxy has undone it and left the header
            return Blob(data, encoding, exchange.version(meta))

        blob = self._read(key, ask, lambda other: other.get(key, max_bytes))
        record_request(address, 0 if blob is None else len(blob.data))
        return blob

    def get_range(self, key: str, start: int, stop: int) -> Blob | None:  # noqa: D102
        address = self.url + key

        def ask(store: Any) -> Blob | None:
            import obstore

            if start >= stop:
                return Blob(b"", version=exchange.version(obstore.head(store, self._name(key))))
            try:
                result = obstore.get(store, self._name(key), options={"range": (start, stop)})
            except Exception as error:
                if RANGE_BEYOND not in str(error):
                    raise
                return Blob(b"", version=exchange.version(obstore.head(store, self._name(key))))
            encoding = exchange.compression(result.attributes, address)
            if encoding is not None:
                raise CorruptDataError(
                    f"{address}: the whole object is compressed with {encoding}, so its ranges "
                    "cannot be read; store it without Content-Encoding"
                )
            first, last = result.range
            data = exchange.body(result)
            if first != start or len(data) > stop - start:
                raise StorageError(
                    f"{address}: asked for bytes {start} to {stop}, the server sent {first} to "
                    f"{last}"
                )
            return Blob(data, version=exchange.version(result.meta))

        blob = self._read(key, ask, lambda other: other.get_range(key, start, stop))
        record_request(address, 0 if blob is None else len(blob.data))
        return blob

    def size(self, key: str) -> int | None:  # noqa: D102
        import obstore

        record_request(self.url + key, 0)
        name = self._name(key)

        def ask(store: Any) -> int:
            try:
                return int(obstore.head(store, name)["size"])
            except Exception as error:
                if not self._is_web or status_of(error) not in ("405", "501"):
                    raise
                # a server that answers to GET only
                return int(obstore.get(store, name).meta["size"])

        found = self._read(key, ask, lambda other: other.size(key))
        if found is None and self not in _welcome:
            # to HEAD a server cannot say that it is the bucket that is not there
            return None if self.get_range(key, 0, 1) is None else self.size(key)
        return found

    def list_dir(self, key: str) -> Iterator[Entry]:  # noqa: D102
        import obstore

        address = self.url + key
        if self._is_web:
            raise StorageError(f"{address}: the web is read-only and has no listings")
        prefix = self._name(key) + "/" if key else None
        listed = self._read(key, lambda store: obstore.list_with_delimiter(store, prefix))
        record_request(address, 0)
        for each in listed["objects"] if listed is not None else ():
            name = each["path"].rpartition("/")[2]
            if name and not name.startswith("."):
                yield Entry(name, each["size"])

    def put(  # noqa: D102
        self,
        key: str,
        data: Bytes,
        *,
        encoding: str | None = None,
        cache_control: str | None = None,
        only_if: Unchanged | None = None,
    ) -> None:
        import obstore

        address = self._to_write(key)
        suffix_of(encoding, address)  # refuses what no reader knows
        sent = bytes(data)
        lost = []

        def put(store: Any) -> None:
            try:
                obstore.put(
                    store,
                    self._name(key),
                    sent,
                    attributes=exchange.headers(encoding, cache_control),
                    mode=exchange.mode(only_if),
                    use_multipart=False,
                )
            except Exception as error:
                lost.append(status_of(error) is None)
                raise

        try:
            self._write(key, put, nbytes=len(sent))
        except ConflictError:
            # the somebody else may be an attempt before, whose answer was lost
            if not any(lost) or self.get(key) != Blob(sent, encoding):
                raise
        record_request(address, len(sent))

    def put_parts(  # noqa: D102
        self,
        key: str,
        parts: Iterable[Bytes],
        *,
        cache_control: str | None = None,
        only_if: Unchanged | None = None,
    ) -> None:
        self._to_write(key)
        remaining = iter(parts)
        first: list[bytes] = []
        nbytes = 0
        for part in remaining:
            first.append(bytes(part))
            nbytes += len(first[-1])
            if nbytes >= PART_BYTES and only_if is None:
                break
        else:
            self.put(key, b"".join(first), cache_control=cache_control, only_if=only_if)
            return
        sent = exchange.Counted(chain(first, remaining))
        del first
        with forgetting(self, key):
            self._send_parts(key, sent, exchange.headers(None, cache_control))
        record_request(self.url + key, sent.nbytes)

    def _send_parts(self, key: str, parts: exchange.Counted, attributes: dict[str, str]) -> None:
        """Send an object in parts, each of them repeated by obstore where it fails."""
        import obstore

        address = self.url + key
        before = self._head(key)
        client = self._client(retries=get_options().max_retries, for_writing=True)
        try:
            obstore.put(
                client.store,
                self._name(key),
                parts,
                attributes=attributes,
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=2,
            )
        except Exception as error:
            if parts.error is not None:  # of who makes the parts: as it was
                raise parts.error from None
            ended = isinstance(error, FileNotFoundError) or "NoSuchUpload" in str(error)
            if ended:  # perhaps by the first attempt to do so
                after = self._head(key)
                changed = (
                    before is None
                    or after is None
                    or exchange.version(after) != exchange.version(before)
                )
                if after is not None and changed and after["size"] == parts.nbytes:
                    return
                raise StorageError(
                    f"{address}: its upload in parts was lost; write again"
                ) from None
            raise explain(error, address, client.access.source).error from None

    def delete(self, key: str) -> bool:  # noqa: D102
        import obstore

        address = self._to_write(key)
        if self._head(key) is None:
            return False
        with suppress(NotFoundError):  # somebody else did it
            self._write(key, lambda store: obstore.delete(store, self._name(key)))
        record_request(address, 0)
        return True

    def delete_tree(self, key: str) -> None:  # noqa: D102
        import obstore

        check_folder_key(key)
        address = self._to_write(key)
        if self._head(key) is not None:
            raise StorageError(f"{address}: not a folder, so nothing is deleted")

        def delete(store: Any) -> None:
            for batch in obstore.list(store, self._name(key) + "/"):
                paths = [each["path"] for each in batch]
                try:
                    obstore.delete(store, paths)
                except FileNotFoundError:  # one is gone already, which ended the others' way too
                    for path in paths:
                        with suppress(FileNotFoundError):
                            obstore.delete(store, path)

        with forgetting(self, key, below=True):
            self._write(key, delete)
        record_request(address, 0)

    def update(self, key: str, work: Callable[[Unchanged | None], T], *, anyway: bool = False) -> T:
        """Write only if the object is still the one that was read; else do it all again."""
        address = self._to_write(key)
        if not self._is_conditional(key):
            if anyway:
                return work(None)
            raise StorageError(
                f"{address}: this server does not heed the conditions of puts (If-Match), so "
                "writers cannot be kept apart: write whole objects instead of parts"
            )
        for attempt in range(ATTEMPTS):
            found = self._head(key)
            version = None if found is None else exchange.version(found)
            try:
                return work(Unchanged(version))
            except ConflictError:
                if not pause(random.uniform(0.5, 1) * 0.04 * attempt):
                    raise
        raise ConflictError(f"{address}: others were faster {ATTEMPTS} times; write again")

    # ---- requests

    def _head(self, key: str) -> Mapping[str, Any] | None:
        import obstore

        record_request(self.url + key, 0)
        return self._read(key, lambda store: obstore.head(store, self._name(key)))

    def _read(
        self,
        key: str,
        ask: Callable[[Any], T],
        otherwise: Callable[[FsspecStorage], T | None] = lambda _: None,
    ) -> T | None:
        """Ask; None where there is no such object.

        Parameters
        ----------
        key : str
        ask : callable
            Of a store of obstore.
        otherwise : callable
            The same of fsspec, for web servers that do not say how long an answer is.
        """
        client = self._client(anonymous=bool(_anonymous) and self in _anonymous)
        try:
            found = self._ask(key, client, ask)
        except NotFoundError:
            return None
        except _LengthUnknownError:
            return otherwise(self.through_fsspec())
        except AccessDeniedError:
            # keys that lie around on a machine must not make public data private
            if client.access.given or client.access.words.get("anon") or self in _welcome:
                raise
            found = self._ask_anonymously(key, ask)
            if found is _DENIED:
                raise
            return found
        _welcome.add(self)
        return found

    def _ask_anonymously(self, key: str, ask: Callable[[Any], T]) -> Any:
        try:
            found = self._ask(key, self._client(anonymous=True), ask)
        except NotFoundError:
            found = None
        except AccessDeniedError:
            return _DENIED
        _anonymous.add(self)
        return found

    def _write(self, key: str, ask: Callable[[Any], T], nbytes: int = 0) -> T:
        with forgetting(self, key):
            return self._ask(key, self._client(for_writing=nbytes > SOON_SENT_BYTES), ask)

    def _ask(self, key: str, client: Client, ask: Callable[[Any], T]) -> T:
        def explained(error: Exception) -> Any:
            if self._is_web and LENGTH_UNKNOWN in str(error):
                raise _LengthUnknownError from None
            return explain(error, self.url + key, client.access.source)

        return persistently(partial(ask, client.store), explained)

    def _client(
        self, *, anonymous: bool = False, retries: int = 0, for_writing: bool = False
    ) -> Client:
        return client_for(
            self.address,
            self.options,
            trusted=self.trusted,
            anonymous=anonymous,
            retries=retries,
            for_writing=for_writing,
        )

    def through_fsspec(self) -> FsspecStorage:
        """The same web server with the same credentials."""
        address, root = self.address, f"{self.address.endpoint_url}/"
        return FsspecStorage(
            self.url, root, root, dict(self.options), address.query, address, self.trusted
        )

    def _to_write(self, key: str) -> str:
        if self._is_web:
            raise StorageError(f"{self.url}{key}: the web is read-only")
        return self.url + key

    def _name(self, key: str) -> str:
        return self.address.object_name(key)

    @property
    def _is_web(self) -> bool:
        return self.address.provider == "http"


_DENIED = object()


class _LengthUnknownError(Exception):
    """The server sends an answer without saying how long it is."""


#: Those that answered whom the machine's credentials name, and those that answer anybody only.
_welcome: set[ObjectStorage] = set()
_anonymous: set[ObjectStorage] = set()
#: Whether a server heeds conditions.
_conditions: dict[ObjectStorage, bool] = {}


def object_location(
    address: Address, options: Mapping[str, Any], *, trusted: bool
) -> tuple[ObjectStorage, str]:
    """Storage and key of an address."""
    return ObjectStorage(replace(address, key=""), dict(options), trusted), address.key
