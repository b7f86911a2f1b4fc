"""From what people type or paste to a place in a storage."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from xprecomputed.errors import InvalidURLError
from xprecomputed.storage.base import Location
from xprecomputed.storage.fsspec import fsspec_location
from xprecomputed.storage.local import local_location

__all__ = ["is_explicit", "locate_url", "strip_format"]

PREFIX = "precomputed://"
SUFFIX = "|neuroglancer-precomputed:"
#: Formats that share the URL syntax and are something else.
OTHER_FORMATS = ("graphene", "zarr", "zarr2", "zarr3", "n5", "boss", "brainmaps")


def is_explicit(url: str) -> bool:
    """Whether the URL itself says that it is Precomputed."""
    return url.startswith(PREFIX) or url.rstrip("/").endswith(SUFFIX)


def strip_format(url: str | os.PathLike[str]) -> str:
    """The bare address: without ``precomputed://``, the pipeline suffix, ``/`` and ``/info``.

    Examples
    --------
    >>> strip_format("precomputed://gs://bucket/layer/")
    'gs://bucket/layer'
    >>> strip_format("gs://bucket/layer/|neuroglancer-precomputed:")
    'gs://bucket/layer'
    """
    text = os.fspath(url).strip().removeprefix(PREFIX)
    bare = text.rstrip("/").removesuffix(SUFFIX).rstrip("/").removesuffix("/info").rstrip("/")
    if bare.endswith(":") and text.startswith(bare + "//"):
        return bare + "//"  # of a protocol, which is no local folder
    return bare or text[:1]  # the root itself


def locate_url(
    url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
) -> Location:
    """The place that a URL or path names.

    Parameters
    ----------
    url : str or path-like
        Any form of the design: a plain path, ``file://``, ``memory://``, any fsspec protocol
        or chain, with or without ``precomputed://`` or ``|neuroglancer-precomputed:``.
    storage_options : mapping, optional
        For fsspec; a local path takes none.

    Raises
    ------
    InvalidURLError, MissingDependencyError
    """
    text = strip_format(url)
    if not text or "\0" in text:
        raise InvalidURLError(f"{text!r}: expected a path or a URL")
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme in OTHER_FORMATS:
        raise InvalidURLError(
            f"{text}: this is a {scheme} source; engine='precomputed' reads Neuroglancer "
            "Precomputed volumes only"
        )
    if scheme in ("", "file", "local") and "::" not in text:
        path = text.partition("://")[2] if scheme else text
        if storage_options:
            raise InvalidURLError(
                f"{text}: storage_options {sorted(storage_options)} mean nothing for local files"
            )
        return Location(*local_location(path))
    return Location(*fsspec_location(text, storage_options or {}))
