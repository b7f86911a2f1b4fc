"""What is asked of fsspec's file systems, with errors of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from xprecomputed.errors import (
    AccessDeniedError,
    MissingDependencyError,
    PrecomputedError,
    StorageError,
)
from xprecomputed.options import get_options
from xprecomputed.storage.addresses.address import Address
from xprecomputed.storage.clients.obstore import store_arguments
from xprecomputed.storage.clients.retries import Failure
from xprecomputed.storage.credentials.access import find_access

__all__ = ["abandon", "at_most", "explained", "failure", "nbytes_of", "remove", "web_server"]


#: Names of the errors of aiohttp and fsspec that a second attempt may not meet.
PASSING = frozenset(
    {
        "ClientConnectorError",
        "ClientOSError",
        "ClientPayloadError",
        "FSTimeoutError",
        "ServerDisconnectedError",
        "ServerTimeoutError",
    }
)


def failure(error: Exception, address: str, doing: str) -> Failure:
    """What an error of fsspec, or of what is behind it, means.

    Other libraries put signed URLs and headers into their messages: only the kind is passed on.
    """
    if isinstance(error, PrecomputedError):
        return Failure(error)
    kind = type(error).__name__
    if isinstance(error, RuntimeError) and "fork" in str(error):
        return Failure(
            StorageError(
                f"{address}: cannot be {doing}: this file system of fsspec was made before this "
                "process was forked, and works in the other one only. Make one in each process, "
                "or start processes with 'spawn' or 'forkserver': "
                'multiprocessing.get_context("forkserver")'
            )
        )
    status = getattr(error, "status", None) or getattr(error, "code", None)
    said = f"{kind} {status}" if isinstance(status, int) else kind
    if isinstance(error, PermissionError) or status in (401, 403):
        denied = AccessDeniedError(f"{address}: {said}")
        denied.may_be_absent = status == 403
        return Failure(denied)
    told = isinstance(status, int) and (status in (408, 429) or status >= 500)
    broken = isinstance(error, TimeoutError | ConnectionError) or kind in PASSING
    return Failure(StorageError(f"{address}: cannot be {doing} ({said})"), passing=told or broken)


@contextmanager
def explained(address: str, doing: str) -> Iterator[None]:
    """Turn errors of fsspec and of what is behind it into ours."""
    try:
        yield
    except Exception as error:
        meant = failure(error, address, doing).error
        if meant is error:
            raise
        raise meant from None


def remove(fs: Any, path: str) -> bool:
    """Remove a file; False if there was none, where the file system says so."""
    try:
        fs.rm_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def nbytes_of(found: Mapping[str, Any], address: str) -> int:
    """The size in what a file system knows of a file."""
    if found["size"] is None:
        raise StorageError(f"{address}: the server does not tell its size")
    return int(found["size"])


def abandon(fs: Any, file: Any, path: str, *, closing_completes: bool) -> None:
    """Give up a file that is open for writing; nothing is raised."""
    with suppress(Exception):
        file.discard()
    if closing_completes:
        # so would the garbage collector, which closes
        with suppress(Exception):
            file.closed = True
    else:
        with suppress(Exception):
            file.close()
        with suppress(Exception):
            remove(fs, path)


def at_most(fs: Any, url: str, nbytes: int) -> bytes | None:
    """The beginning of a body; fsspec's own streams take a failed HEAD for a missing file."""
    from fsspec.asyn import sync

    async def get() -> bytes | None:
        session = await fs.set_session()
        async with session.get(fs.encode_url(url), **fs.kwargs) as answer:
            if answer.status == 404:
                return None
            answer.raise_for_status()
            parts, left = [], nbytes
            while left > 0 and (part := await answer.content.read(left)):
                parts.append(part)
                left -= len(part)
            return b"".join(parts)

    found: bytes | None = sync(fs.loop, get)
    return found


def web_server(address: Address, options: Mapping[str, Any], trusted: bool) -> Any:
    """The file system of a web server, with our time-outs and the credentials found here."""
    import fsspec

    try:
        import aiohttp
    except ImportError as error:
        raise MissingDependencyError(
            f"{address.url}: needs the package aiohttp ({error}).\n    pip install aiohttp"
        ) from None
    access = find_access(address, options, trusted=trusted)
    headers = store_arguments(address, access).client_options.get("default_headers", {})
    seconds = get_options().request_timeout_s
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
    # headers as a tuple would not be one of fsspec's: it tells instances apart by their text
    return fsspec.filesystem("http", client_kwargs={"headers": headers, "timeout": timeout})
