"""What goes to obstore and comes from it, in the words of `Storage`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

from xprecomputed.codecs import Bytes
from xprecomputed.errors import CorruptDataError
from xprecomputed.storage.base import Unchanged

__all__ = ["Counted", "body", "can_be_condition", "compression", "headers", "mode", "version"]

#: What servers say that means nothing.
NO_COMPRESSION = frozenset({"", "identity", "aws-chunked", "utf-8"})
SAME_COMPRESSION = {"x-gzip": "gzip"}


class Counted:
    """Parts on their way, their bytes, and what went wrong while they were made."""

    def __init__(self, parts: Iterable[Bytes]) -> None:
        self._parts = iter(parts)
        self.nbytes = 0
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            part = bytes(next(self._parts))
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise
        self.nbytes += len(part)
        return part


def body(result: Any) -> bytes:
    """All bytes of an answer, as many as it announced."""
    first, last = result.range
    data: bytes = result.bytes().to_bytes()
    if len(data) != last - first:
        raise EOFError(f"{len(data)} of {last - first} bytes came")
    return data


def compression(attributes: Mapping[str, str], address: str) -> str | None:
    """What ``Content-Encoding`` says."""
    if "Content-Encoding" not in attributes:
        return None
    declared = str(attributes["Content-Encoding"]).lower()
    named = [each.strip() for each in declared.split(",")]
    kept = [SAME_COMPRESSION.get(each, each) for each in named if each not in NO_COMPRESSION]
    if len(kept) > 1:
        raise CorruptDataError(f"{address}: compressed twice, Content-Encoding is {declared!r}")
    return kept[0] if kept else None


def headers(encoding: str | None, cache_control: str | None) -> dict[str, str]:
    """The attributes of an object that is put."""
    told = {"Content-Encoding": encoding, "Cache-Control": cache_control}
    return {name: value for name, value in told.items() if value is not None}


def version(meta: Mapping[str, Any]) -> Hashable:
    """What tells two objects of one name apart, as far as the server does; else None."""
    tag, generation = meta.get("e_tag"), meta.get("version")
    if tag or generation:
        return tag, generation
    changed = meta["last_modified"]
    return ("changed", changed.timestamp(), meta["size"]) if changed.timestamp() else None


def can_be_condition(version: Hashable) -> bool:
    """Whether a version is one that a put can be made to depend on: an ETag or a generation."""
    return isinstance(version, tuple) and len(version) == 2


def mode(only_if: Unchanged | None) -> Any:
    """The condition of a put."""
    if only_if is None:
        return "overwrite"
    if only_if.version is None:
        return "create"
    names: Any = zip(("e_tag", "version"), only_if.version, strict=True)  # type: ignore[call-overload]
    return {name: value for name, value in names if value is not None}
