"""Reading members of a JSON object while collecting every problem with its place."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from xprecomputed.errors import InvalidInfoError

T = TypeVar("T")

MAX_SHOWN = 80
# A voxel count beyond this cannot be addressed by the int64 arithmetic of any peer.
MAX_INT = 2**62


def shown(value: object) -> str:
    """`value` as short JSON-like text for a message."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def parse_json(data: bytes, where: str) -> Any:
    """Decode strict JSON (a UTF-8 byte order mark is forgiven), naming file and position."""
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidInfoError(f"{where}: not usable JSON: nested too deeply") from None
    except ValueError as error:
        hint = " (the bytes are gzip)" if data[:2] == b"\x1f\x8b" else ""
        raise InvalidInfoError(f"{where}: not JSON: {error}{hint}") from None


class Checker:
    """One JSON object under inspection: `get` each member once, then `rest` is unknown."""

    def __init__(self, data: object, at: str, problems: list[str]) -> None:
        self.at = at
        self.problems = problems
        self.data: Mapping[str, Any] = data if isinstance(data, dict) else {}
        self.seen: set[str] = set()
        self.usable = isinstance(data, dict)
        if not self.usable:
            self.problem(None, f"expected an object, found {shown(data)}")

    def problem(self, name: str | None, text: str) -> None:
        """Note that member `name` is wrong."""
        place = self.at if name is None else f"{self.at}.{name}" if self.at else name
        self.problems.append(f"{place or 'document'}: {text}")

    def get(
        self,
        name: str,
        read: Callable[[Any], T],
        expected: str,
        default: T | None = None,
        *,
        required: bool = False,
        null: bool = True,
    ) -> T | None:
        """Member `name` through `read`, which raises ValueError or TypeError on a bad value."""
        self.seen.add(name)
        if name not in self.data or (null and self.data[name] is None and not required):
            if required and self.usable:
                self.problem(name, f"missing, expected {expected}")
            return default
        try:
            return read(self.data[name])
        except (ValueError, TypeError, OverflowError):
            self.problem(name, f"expected {expected}, found {shown(self.data[name])}")
            return default

    def rest(self) -> dict[str, Any]:
        """Members that nobody asked for: kept and written back."""
        return {name: value for name, value in self.data.items() if name not in self.seen}


def integer(value: Any, least: int = -MAX_INT, most: int = MAX_INT) -> int:
    """An integer; ``64.0`` and ``"64"`` are taken too, as at least two peers do."""
    if isinstance(value, bool) or value is None:
        raise TypeError
    if isinstance(value, str):
        if len(value) > 20:
            raise ValueError
        value = int(value)
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError
        value = int(value)
    if not isinstance(value, int):
        raise TypeError
    if not least <= value <= most:
        raise ValueError
    return value


def integer_in(least: int, most: int = MAX_INT) -> Callable[[Any], int]:
    """A reader of integers within limits."""
    return lambda value: integer(value, least, most)


def triple_of(read: Callable[[Any], T]) -> Callable[[Any], tuple[T, T, T]]:
    """A reader of arrays of exactly three."""

    def read_triple(value: Any) -> tuple[T, T, T]:
        if not isinstance(value, list | tuple) or len(value) != 3:
            raise TypeError
        x, y, z = (read(each) for each in value)
        return x, y, z

    return read_triple


def number(value: Any) -> int | float:
    """A finite number with its spelling kept (``8`` stays an integer)."""
    if isinstance(value, str):
        value = float(value)
        value = int(value) if value.is_integer() else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    if not math.isfinite(value):
        raise ValueError
    return value


def positive_number(value: Any) -> int | float:
    """A `number` above zero."""
    checked = number(value)
    if checked <= 0:
        raise ValueError
    return checked


def string(value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise TypeError
    return value


def word(value: Any) -> str:
    """A non-empty name, lower-cased as Neuroglancer compares it."""
    text = string(value).lower()
    if not text.replace("_", "").isalnum():
        raise ValueError
    return text


def one_of(names: Iterable[str]) -> Callable[[Any], str]:
    """A reader of enumerations, in any case."""
    allowed = frozenset(names)

    def read(value: Any) -> str:
        text = string(value).lower()
        if text not in allowed:
            raise ValueError
        return text

    return read


def boolean(value: Any) -> bool:
    """A boolean; Neuroglancer takes the strings "true" and "false" as well."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}[value] if value in ("true", "false") else _bad()


def _bad() -> bool:
    raise ValueError
