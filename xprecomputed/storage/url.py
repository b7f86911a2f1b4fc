"""From what people type or paste to a place in a storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from xprecomputed.errors import InvalidURLError
from xprecomputed.storage.addresses.address import Address, strip_format
from xprecomputed.storage.addresses.hosts import is_inside
from xprecomputed.storage.addresses.pasted import OTHER_FORMATS, without_secrets
from xprecomputed.storage.base import Location
from xprecomputed.storage.credentials.access import find_address, needs_fsspec
from xprecomputed.storage.fsspec import FsspecStorage, fsspec_location, opened_location
from xprecomputed.storage.local import local_location
from xprecomputed.storage.objects import object_location

__all__ = ["is_remote", "locate_url"]


def is_remote(url: str) -> bool:
    """Whether an address is one of a cloud or of the web, which others reach too.

    Examples
    --------
    >>> is_remote("precomputed://gs://bucket/layer"), is_remote("https://example.org/v")
    (True, True)
    >>> is_remote("file:///etc"), is_remote("zip://a::gs://bucket/b"), is_remote("http://[::1]/")
    (False, False, False)
    """
    address = find_address(strip_format(url), {})
    return address is not None and not is_inside(address.endpoint_url or "")


def locate_url(
    url: Any, storage_options: Mapping[str, Any] | None = None, *, trusted: bool = True
) -> Location:
    """The place that a URL or path names; no request is made.

    Parameters
    ----------
    url : str, path-like or fsspec object
        Any form of `xprecomputed.open_store`.
    storage_options : mapping, optional
        A local path takes none.
    trusted : bool
        Whether the user named it, and not a stranger's ``info``: then it is not shown the
        credentials that are kept for all web servers alike.

    Raises
    ------
    InvalidURLError, MissingDependencyError
    """
    options = dict(storage_options or {})
    if hasattr(url, "fs") and (hasattr(url, "path") or hasattr(url, "root")):
        options["fs"] = url.fs
        url = url.path if hasattr(url, "path") else url.root
    text = strip_format(url)
    if not text or "\0" in text:
        raise InvalidURLError(f"{text!r}: expected a path or a URL")
    if "fs" in options:
        if len(options) > 1:
            others = sorted(set(options) - {"fs"})
            raise InvalidURLError(f"{text}: storage_options {others} beside fs= mean nothing")
        return Location(*opened_location(options["fs"], text))
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme in OTHER_FORMATS:
        raise InvalidURLError(
            f"{without_secrets(text)}: this is a {scheme} source; engine='precomputed' reads "
            "Neuroglancer Precomputed volumes only"
        )
    if scheme in ("", "file", "local") and "::" not in text:
        path = text.partition("://")[2] if scheme else text
        if options:
            raise InvalidURLError(
                f"{text}: storage_options {sorted(options)} mean nothing for local files"
            )
        return Location(*local_location(path))
    address = find_address(text, options)
    if address is None:
        return Location(*fsspec_location(text, options))
    if needs_fsspec(address, options):
        return Location(*_through_fsspec(address, options, trusted=trusted))
    return Location(*object_location(address, options, trusted=trusted))


def _through_fsspec(
    address: Address, options: Mapping[str, Any], *, trusted: bool
) -> tuple[FsspecStorage, str]:
    """The same place for fsspec, whose URLs do not name servers."""
    if address.provider == "http":
        web, key = object_location(address, options, trusted=trusted)
        return web.through_fsspec(), key
    asked = dict(options)
    if (region := asked.pop("region", None)) is not None:
        asked["client_kwargs"] = {"region_name": region, **asked.get("client_kwargs", {})}
    if address.endpoint_url is not None and address.provider != "az":
        asked["endpoint_url"] = address.endpoint_url
    storage, key = fsspec_location(f"{address.provider}://{address.bucket}/{address.key}", asked)
    return replace(storage, shown=address.url), key
