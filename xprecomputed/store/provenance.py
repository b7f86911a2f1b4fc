"""The ``provenance`` file beside ``info``: who made a layer from what, and how.

A JSON object as CloudVolume reads and writes it: description, owners, processing, sources.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from xprecomputed._version import __version__
from xprecomputed.errors import InvalidInfoError, PrecomputedWarning
from xprecomputed.metadata import parse_json
from xprecomputed.storage import Location, Unchanged

__all__ = ["Provenance", "append_provenance", "provenance_step", "read_provenance"]

Provenance = str | Mapping[str, Any] | Literal[False] | None

MAX_BYTES = 16 << 20
LISTS = ("owners", "processing", "sources")


def provenance_step(given: Provenance, method: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a call adds to the file, checked before anything else is done.

    Parameters
    ----------
    given : str, mapping, None or False
        A description; or members of the file: ``description``, and ``sources`` and ``owners``
        to add, any other member to add to the step. False: leave the file alone.
    method : mapping
        What was done, for the new member of ``processing``.

    Returns
    -------
    dict or None
        For `append_provenance`.

    Raises
    ------
    ValueError
        Neither of those, or no JSON.
    """
    if given is False:
        return None
    members: Any = {"description": given} if isinstance(given, str) else given
    if members is not None and not isinstance(members, Mapping):
        raise ValueError(f"provenance={given!r}: expected a description, a mapping or False")
    members = dict(members or {})
    step: dict[str, Any] = {}
    for name in ("sources", "owners"):
        added = members.pop(name, [])
        step[name] = [added] if isinstance(added, str) else added
        if not isinstance(step[name], list | tuple):
            raise ValueError(f"provenance: {name}={added!r}: expected a list of strings")
    step["description"] = members.pop("description", "")
    step["processing"] = {
        "method": {**method, "software": f"xprecomputed {__version__}"},
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **members,
    }
    try:
        json.dumps(step)
    except (TypeError, ValueError) as error:
        raise ValueError(f"provenance={given!r}: not JSON: {error}") from None
    return step


def append_provenance(
    location: Location, step: Mapping[str, Any] | None, *, cache_control: str | None = None
) -> None:
    """Add a step to the file of a layer, or make it; what others wrote stays.

    Also what they write meanwhile, where the storage can keep writers apart.
    """
    if step is None:
        return
    place = location.child("provenance")

    def append(only_if: Unchanged | None) -> bool:
        document = _read(location)
        if document is None:
            return False
        for name in ("sources", "owners"):
            document[name] += [each for each in step[name] if each not in document[name]]
        document["description"] = step["description"] or document["description"]
        document["processing"].append(step["processing"])
        data = json.dumps(document, indent=2).encode()
        place.storage.put(place.key, data, cache_control=cache_control, only_if=only_if)
        return True

    if not place.storage.update(place.key, append, anyway=True):
        warnings.warn(
            f"{place.url}: not a provenance file as CloudVolume writes it; it is left as it is",
            PrecomputedWarning,
            stacklevel=4,
        )


def read_provenance(location: Location) -> dict[str, Any]:
    """The file of the layer at `location`, empty where there is none.

    Raises
    ------
    InvalidInfoError
        It is not JSON.
    """
    place = location.child("provenance")
    blob = place.storage.get(place.key, MAX_BYTES)
    document = {} if blob is None else parse_json(blob.data, place.url)
    if not isinstance(document, dict):
        raise InvalidInfoError(f"{place.url}: expected an object, found {type(document).__name__}")
    return document


def _read(location: Location) -> dict[str, Any] | None:
    """The document with its four members; None where it is not ours to change."""
    empty: dict[str, Any] = {"description": "", "owners": [], "processing": [], "sources": []}
    try:
        document = read_provenance(location)
    except InvalidInfoError:
        document = {"owners": None}
    if any(not isinstance(document.get(name, []), list) for name in LISTS):
        return None
    return empty | document
