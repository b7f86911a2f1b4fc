"""The forms in which addresses are typed and pasted, down to the bare address."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from xprecomputed.errors import InvalidURLError

__all__ = ["OTHER_FORMATS", "is_explicit", "is_web", "split_web", "strip_format", "without_secrets"]

PREFIX = "precomputed://"
PIPE = "neuroglancer-precomputed"
#: Formats that share the URL syntax and are something else.
OTHER_FORMATS = (
    *("graphene", "zarr", "zarr2", "zarr3", "n5", "boss", "brainmaps", "auto", "deepzoom", "dvid"),
    *("nggraph", "nifti", "obj", "render", "vtk", "csv", "json", "neuroglancer-annotations"),
)
#: Stages of a pipeline that look into a file, which nothing here can.
ADAPTERS = ("gzip", "zip", "ocdbt", "icechunk", "byte-range", "bz2", "xz", "zstd", "tar")

_STAGE = re.compile(rf"\|(?:([A-Za-z][\w+.-]*):([^|]*)|({PIPE})/*)$", re.IGNORECASE)
_WEB = re.compile(r"(?:middleauth\+)?https?://", re.IGNORECASE)
_INFO = re.compile(r"(?:(?<=[^:/])|^)/+info$")
#: A state after ``#!``: JSON, or the address of some.
_STATE = re.compile(
    r"#!\s*(\{|%7b|[a-z][a-z0-9+.-]*(?:%2b[a-z0-9]+)*(?::|%3a)(?:/|%2f){2})", re.IGNORECASE
)
#: Tokens of Neuroglancer's JSON for URLs: ' for ", and _ for a comma.
_URL_SAFE = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|_", re.DOTALL)
_SHOWN_LAYERS = 30


def is_explicit(url: str) -> bool:
    """Whether the URL itself says that it is Precomputed.

    Examples
    --------
    >>> is_explicit("gs://bucket/layer/|neuroglancer-precomputed:#type=mesh")
    True
    """
    text = url.strip()
    return text.lower().startswith(PREFIX) or [name for name, _ in _stages(text)[1]][-1:] == [PIPE]


def strip_format(url: str | os.PathLike[str]) -> str:
    """The bare address: without ``precomputed://``, the pipeline suffix, ``/`` and ``/info``.

    A query stays. In a pipeline names are percent-encoded, which is undone here but for
    ``http``, where `parse_address` does it.

    Raises
    ------
    InvalidURLError
        It is another format, goes through an adapter such as ``|zip:``, or is a link to
        Neuroglancer.

    Examples
    --------
    >>> strip_format("precomputed://gs://bucket/layer/")
    'gs://bucket/layer'
    >>> strip_format("gs://bucket/my%20layer/|neuroglancer-precomputed:")
    'gs://bucket/my layer'
    >>> strip_format("https://host/layer/info?key=1")
    'https://host/layer?key=1'
    """
    text = os.fspath(url).strip()
    _refuse_links(text)
    text, stages = _stages(text)
    if stages:
        _check_stages(text, stages)
    if text.lower().startswith(PREFIX):
        text = text[len(PREFIX) :]
    if is_web(text):
        text, query = split_web(text)
    else:
        query = ""
        if "://" in text:
            text = re.sub(r"#type=[\w-]*/*$", "", text)
            text = unquote(text) if stages else text
    bare = _INFO.sub("", text.rstrip("/")).rstrip("/")
    if bare.endswith(":") and text.startswith(bare + "//"):
        bare += "//"  # of a protocol, which is no local folder
    return (bare or text[:1]) + ("?" + query if query else "")  # text[:1]: the root itself


def is_web(text: str) -> bool:
    """Whether an address has a query and percent-encoded names."""
    return _WEB.match(text) is not None


def split_web(text: str) -> tuple[str, str]:
    """An address of the web without query and fragment, and the query.

    Raises
    ------
    InvalidURLError
        There is a fragment, which no server ever sees.
    """
    text, _, fragment = text.partition("#")
    path, _, query = text.partition("?")
    if fragment and not re.fullmatch(r"type=[\w-]*/*", fragment):
        shown = without_secrets(path)
        raise InvalidURLError(
            f"{shown}: what follows '#' is never sent to a server; if it belongs to the name, "
            f"write %23:\n    {shown}%23…"
        )
    return path, query


def without_secrets(url: str) -> str:
    """A URL as it may be shown: no user, no password, no query, no fragment.

    Examples
    --------
    >>> without_secrets("precomputed://https://me:pw@host/layer?token=1")
    'precomputed://https://host/layer'
    """
    bare = re.sub(r"[?#].*", "", url, flags=re.DOTALL)
    return re.sub(r"(https?://)[^/]*@", r"\1", bare, flags=re.IGNORECASE)


def _stages(text: str) -> tuple[str, list[tuple[str, str]]]:
    """The text before a pipeline, and the stages: their names and what follows each."""
    text = re.sub(rf"%7c(?={PIPE}(?:$|:|%3a))", "|", text, flags=re.IGNORECASE)
    known = (PIPE, *OTHER_FORMATS, *ADAPTERS)
    stages: list[tuple[str, str]] = []
    while found := _STAGE.search(text):
        name = (found[1] or found[3]).lower()
        if name not in known and "://" not in text:
            break  # a local name may have a bar
        stages.insert(0, (name, found[2] or ""))
        text = text[: found.start()]
    return text, stages


def _check_stages(text: str, stages: list[tuple[str, str]]) -> None:
    shown = without_secrets(text)
    name, rest = stages[-1]
    if name in OTHER_FORMATS:
        raise InvalidURLError(
            f"{shown}: this is a {name} source; engine='precomputed' reads Neuroglancer "
            "Precomputed volumes only"
        )
    for adapter, _ in stages if name != PIPE else stages[:-1]:
        raise InvalidURLError(
            f"{shown}: the adapter |{adapter}: is not supported; unpack the source, or open it "
            "through fsspec where it has a protocol for that (zip://…::…)"
        )
    inner = re.sub(r"[?#].*", "", rest, flags=re.DOTALL).strip("/ ")
    if inner:
        raise InvalidURLError(
            f"{shown}: |{PIPE}: takes no path; write\n    {shown.rstrip('/')}/{inner}/|{PIPE}:"
        )


def _refuse_links(text: str) -> None:
    """Explain that a link to Neuroglancer is no volume, and name the volumes in it."""
    found = _STATE.search(text)
    if found is None:
        return
    state = text[found.start(1) :]
    if found[1] not in "{%7b%7B":
        raise InvalidURLError(
            "this is a link to Neuroglancer, whose state is kept at "
            f"{without_secrets(unquote(state))}: open it, and paste the source of a layer"
        )
    layers = list(_layers(_parsed(unquote(state))))
    lines = [f'\n    "{source}"  # {name}' for name, source in layers[:_SHOWN_LAYERS]]
    more = len(layers) - len(lines)
    raise InvalidURLError(
        "this is a link to Neuroglancer, not to a volume; "
        + (f"its layers come from{''.join(lines)}" if lines else "no source was found in it")
        + (f"\n    … and {more} more" if more else "")
    )


def _parsed(text: str) -> Any:
    """The JSON of a state, also as Neuroglancer writes it into URLs."""
    for reading in (text, _URL_SAFE.sub(_plain_token, text)):
        with suppress(ValueError, RecursionError):
            return json.loads(reading)
    return None


def _plain_token(found: re.Match[str]) -> str:
    token = found[0]
    if token == "_":
        return ","
    if token.startswith('"'):
        return token
    swapped = {"\\'": "'", '"': '\\"'}
    inner = re.sub(r"\\.|\"", lambda each: swapped.get(each[0], each[0]), token[1:-1], flags=re.S)
    return f'"{inner}"'


def _layers(state: Any) -> Iterator[tuple[str, str]]:
    """Names and sources, without what may be secret in these."""
    layers = state.get("layers") if isinstance(state, dict) else None
    if isinstance(layers, dict):  # an old form
        layers = [
            {"name": name, **(each if isinstance(each, dict) else {"source": each})}
            for name, each in layers.items()
        ]
    for layer in layers if isinstance(layers, list) else ():
        if not isinstance(layer, dict):
            continue
        name = " ".join(str(layer.get("name", "unnamed")).split())[:80]
        sources = layer.get("source")
        for each in sources if isinstance(sources, list) else [sources]:
            source = each.get("url") if isinstance(each, dict) else each
            if isinstance(source, str) and "://" in source:
                line = " ".join(source.split())
                bare, bar, suffix = line.partition("|")
                yield name, without_secrets(bare) + bar + re.sub(r"[?#].*", "", suffix)
